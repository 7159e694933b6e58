// SPDX-License-Identifier: Apache-2.0
// safetensors.cpp: the header's promises against the file's size.
#include "quant/readers/safetensors.hpp"

#include <algorithm>
#include <cstring>

#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 16u << 20;
constexpr std::size_t kMaxDims = 8;

// 0 for a type that the format does not know.
std::uint64_t bytes_of_type(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype == "F8_E4M3" || dtype == "F8_E5M2") return 1;
  return 0;
}

// Sizes are far below 2^53, and the data begins behind the header.
Error read_entry(SafeTensor& t, const Json& entry, Span<const std::uint8_t> data) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    return Error("it has not exactly dtype, shape and data_offsets");
  const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  if (!dtype.is_string() || bytes_of_type(dtype.get<std::string>()) == 0)
    return Error("its dtype " + printable(dtype.dump()) + " is unknown");
  t.dtype = dtype.get<std::string>();
  if (!shape.is_array() || shape.size() > kMaxDims) return Error("its shape is not a list of at most 8 sizes");
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    return Error("its data_offsets are not two sizes");
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data.size()) return Error("its data_offsets leave the file");
  t.elements = 1;
  for (const Json& size : shape) {
    if (!size.is_number_unsigned()) return Error("its shape is not a list of sizes");
    t.shape.push_back(size.get<std::uint64_t>());
    // More elements than the file has bytes: zero-sized dimensions must not hide an overflow.
    if (t.shape.back() > data.size() || (t.shape.back() && t.elements > data.size() / t.shape.back()))
      return Error("its shape has more elements than the file has bytes");
    t.elements *= t.shape.back();
  }
  if (t.elements * bytes_of_type(t.dtype) != end - begin) return Error("its shape and its data_offsets differ in size");
  t.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  return {};
}

}  // namespace

Error SafeTensors::open(Span<const std::uint8_t> file) {
  tensors_.clear();
  by_name_.clear();
  return add(file);
}

Error SafeTensors::add(Span<const std::uint8_t> file) {
  const auto begin = static_cast<std::ptrdiff_t>(tensors_.size());
  std::uint64_t header_bytes = 0;
  if (file.size() < 8) return Error("too short for a safetensors file");
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | file[static_cast<std::size_t>(i)];
  if (header_bytes > file.size() - 8) return Error("its header is longer than the file");
  if (header_bytes > kMaxHeaderBytes) return Error("its header is longer than 16 MiB");
  const auto split = static_cast<std::size_t>(8 + header_bytes);
  const auto header = file.subspan(8, split - 8), data = file.subspan(split, file.size() - split);
  if (header.empty() || header[0] != '{') return Error("not a safetensors file: its header is no JSON object");
  Json json;
  if (Error error = parse_json(json, header, 3)) return error;
  for (auto item = json.begin(); item != json.end(); ++item) {
    if (item.key() == "__metadata__") continue;
    SafeTensor t;
    t.name = item.key();
    if (Error error = read_entry(t, item.value(), data)) return error.about("tensor " + printable(t.name));
    tensors_.push_back(std::move(t));
  }
  std::stable_sort(tensors_.begin() + begin, tensors_.end(), [](const SafeTensor& a, const SafeTensor& b) {
    return a.bytes.data() != b.bytes.data() ? a.bytes.data() < b.bytes.data() : a.bytes.size() < b.bytes.size();
  });
  const std::uint8_t* at = data.data();
  for (std::size_t i = static_cast<std::size_t>(begin); i < tensors_.size(); ++i) {
    const SafeTensor& t = tensors_[i];
    if (t.bytes.data() != at) return Error("tensor " + printable(t.name) + " does not begin where the one before ends");
    at += t.bytes.size();
    if (!by_name_.emplace(t.name, i).second) return Error("tensor " + printable(t.name) + " is in two files");
  }
  return at == data.data() + data.size() ? Error() : Error("there are bytes behind the last tensor");
}

const SafeTensor* SafeTensors::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

namespace {

Error type_of(StoredType& type, const SafeTensor& t) {
  for (const StoredType known : {StoredType::f32, StoredType::f16, StoredType::bf16}) {
    if (t.dtype != format_of(known).name) continue;
    type = known;
    return {};
  }
  return Error("tensor " + printable(t.name) + " is " + t.dtype + "; F32, F16 and BF16 are read, save it in one of them");
}

}  // namespace

Error open_stored(StoredTensor& stored, const SafeTensor& t) {
  StoredType type{};
  if (Error error = type_of(type, t)) return error;
  const std::uint64_t rows = t.shape.size() < 2 ? 1 : t.shape[0];
  return StoredTensor::open(stored, type, t.bytes, rows, rows ? t.elements / rows : 0).about("tensor " + printable(t.name));
}

Error read_floats(std::vector<float>& x, const SafeTensor& t) {
  x.clear();
  StoredType type{};
  if (Error error = type_of(type, t)) return error;
  if (t.elements == 0) return {};
  StoredTensor stored;
  if (Error error = open_stored(stored, t)) return error;
  x = stored.read();
  return {};
}

}  // namespace heed::quant
