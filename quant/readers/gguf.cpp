// SPDX-License-Identifier: Apache-2.0
// gguf.cpp: the tensors' descriptions against the file's size.
#include "quant/readers/gguf.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

constexpr std::uint64_t kMaxNameBytes = 255;    // writers stop at 63
constexpr std::uint32_t kMaxAlignment = 65536;  // writers take 32
constexpr std::uint32_t kUsualAlignment = 32;
constexpr std::uint64_t kLeastEntryBytes = 33;  // a name of one byte, one size

struct TypeNumber {
  std::uint32_t number;
  StoredType type;
};
constexpr TypeNumber kTypes[] = {{0, StoredType::f32},     {1, StoredType::f16},   {2, StoredType::q4_0},
                                 {3, StoredType::q4_1},    {6, StoredType::q5_0},  {7, StoredType::q5_1},
                                 {8, StoredType::q8_0},    {10, StoredType::q2_k}, {11, StoredType::q3_k},
                                 {12, StoredType::q4_k},   {13, StoredType::q5_k}, {14, StoredType::q6_k},
                                 {20, StoredType::iq4_nl}, {30, StoredType::bf16}};
static_assert(std::size(kTypes) == kStoredTypeCount, "every type that can be decoded has a number");

// Types of the format that heed has no decoder for.
struct OtherType {
  std::uint32_t number;
  const char* name;
};
constexpr OtherType kOtherTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"},  {19, "IQ1_S"},    {21, "IQ3_S"}, {22, "IQ2_S"}, {23, "IQ4_XS"},  {24, "I8"},
    {25, "I16"},      {26, "I32"},      {27, "I64"},   {28, "F64"},   {29, "IQ1_M"},   {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"}, {35, "TQ2_0"}, {39, "MXFP4"}};

Error find_type(StoredType& type, std::uint32_t number) {
  for (const TypeNumber& known : kTypes) {
    if (known.number != number) continue;
    type = known.type;
    return {};
  }
  for (const OtherType& other : kOtherTypes)
    if (other.number == number)
      return Error(std::string("its type ") + other.name +
                   " is not supported (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K and IQ4_NL are)");
  return Error("its type has the unknown number " + std::to_string(number));
}

std::uint64_t little_endian(const std::uint8_t* bytes, unsigned size) {
  std::uint64_t x = 0;
  for (unsigned i = size; i-- > 0;) x = x << 8 | bytes[i];
  return x;
}

// One tensor's description; bytes_ and offset say where it lies behind the descriptions.
struct Entry {
  GgufTensor tensor;
  std::uint64_t offset = 0, size = 0;
};

class Descriptions {
 public:
  Descriptions(Span<const std::uint8_t> part, std::size_t at) : part_(part), at_(part.data() + at) {}

  Error next(Entry& e) {
    std::uint64_t name_bytes = 0, offset = 0;
    std::uint32_t n_sizes = 0, type = 0;
    if (!take(name_bytes, 8)) return cut();
    if (name_bytes == 0 || name_bytes > kMaxNameBytes)
      return Error("the name of a tensor has " + std::to_string(name_bytes) + " bytes, not 1 to 255");
    if (name_bytes > left()) return cut();
    e.tensor.name.assign(reinterpret_cast<const char*>(at_), static_cast<std::size_t>(name_bytes));
    at_ += name_bytes;
    if (!take(n_sizes, 4)) return cut();
    if (n_sizes < 1 || n_sizes > 4) return of(e, "it has " + std::to_string(n_sizes) + " sizes, not 1 to 4");
    for (std::uint32_t i = 0; i < n_sizes; ++i) {
      std::uint64_t size = 0;
      if (!take(size, 8)) return cut();
      e.tensor.shape.insert(e.tensor.shape.begin(), size);
    }
    if (!take(type, 4) || !take(offset, 8)) return cut();
    if (Error error = find_type(e.tensor.type, type)) return of(e, error.sentence());
    e.offset = offset;
    return set_size(e);
  }

  std::size_t end() const { return static_cast<std::size_t>(at_ - part_.data()); }

 private:
  static Error cut() { return Error("the file ends inside the descriptions of its tensors"); }
  static Error of(const Entry& e, const std::string& what) {
    return Error("tensor " + printable(e.tensor.name) + ": " + what);
  }

  std::uint64_t left() const { return static_cast<std::uint64_t>(part_.end() - at_); }
  template <class T>
  bool take(T& x, unsigned size) {
    if (left() < size) return false;
    x = static_cast<T>(little_endian(at_, size));
    at_ += size;
    return true;
  }

  // In bytes; no product overflows, since each is compared with what the part has before it is made.
  Error set_size(Entry& e) const {
    const StoredFormat& format = format_of(e.tensor.type);
    const std::uint64_t row = e.tensor.shape.back();
    if (row == 0 || row % format.block_elements != 0)
      return of(e, "its rows of " + std::to_string(row) + " are no whole number of " + format.name + " blocks of " +
                       std::to_string(format.block_elements));
    const std::uint64_t most = part_.size();
    std::uint64_t size = row / format.block_elements;
    if (size > most / format.block_bytes) return of(e, "it is larger than the file");
    size *= format.block_bytes;
    for (std::size_t i = 0; i + 1 < e.tensor.shape.size(); ++i) {
      const std::uint64_t n = e.tensor.shape[i];
      if (n == 0) return of(e, "one of its sizes is 0");
      if (n > most / size) return of(e, "it is larger than the file");
      size *= n;
    }
    e.size = size;
    return {};
  }

  Span<const std::uint8_t> part_;
  const std::uint8_t* at_;
};

// Each behind the one before, at the next multiple of the alignment: none overlaps another, and nothing is left over.
Error place(std::vector<Entry>& entries, Span<const std::uint8_t> part, std::uint64_t begin, std::uint64_t alignment) {
  const auto aligned = [&](std::uint64_t x) { return (x + alignment - 1) / alignment * alignment; };
  std::vector<Entry*> order;
  for (Entry& e : entries) order.push_back(&e);
  std::stable_sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) { return a->offset < b->offset; });
  const std::uint64_t data = aligned(begin);
  std::uint64_t end = 0;
  for (Entry* e : order) {
    const std::string name = "tensor " + printable(e->tensor.name);
    if (e->offset < end) return Error(name + " overlaps the one before");
    if (e->offset != aligned(end))
      return Error(name + " does not begin where the one before ends, at a multiple of " + std::to_string(alignment));
    if (data > part.size() || e->offset > part.size() - data || e->size > part.size() - data - e->offset)
      return Error("the file ends inside " + name);
    e->tensor.bytes = part.subspan(static_cast<std::size_t>(data + e->offset), static_cast<std::size_t>(e->size));
    end = e->offset + e->size;
  }
  const std::uint64_t last = order.empty() ? begin : data + end;
  return part.size() <= aligned(last) ? Error() : Error("there are bytes behind the last tensor");
}

}  // namespace

Error GgufFile::add(Span<const std::uint8_t> part) {
  GgufMetadata metadata;
  if (Error error = metadata.open(part)) return error;
  std::uint32_t number = 0;
  if (Error error = read_split(number, metadata)) return error;
  if (number != taken_)
    return Error("it is part " + std::to_string(number + 1) + " of " + std::to_string(parts_) + ", not part " +
                 std::to_string(taken_ + 1) + (taken_ == 0 ? "; give the first" : ""));
  if (taken_ == 0) metadata_ = metadata;
  ++taken_;
  return read_tensors(part, metadata);
}

// split.no and split.count of every part; of a file in one piece neither.
Error GgufFile::read_split(std::uint32_t& number, const GgufMetadata& metadata) {
  std::uint32_t parts = 1;
  if (Error error = metadata.number_or(parts, "split.count", 1)) return error;
  if (Error error = metadata.number_or(number, "split.no", 0)) return error;
  parts = std::max(parts, 1u);  // llama.cpp writes 0 where it joins parts
  if (parts > 99999 || number >= parts)
    return Error("split.no " + std::to_string(number) + " and split.count " + std::to_string(parts) +
                 " are no part of a file");
  if (taken_ != 0 && parts != parts_)
    return Error("it is a part of " + std::to_string(parts) + ", the first one of " + std::to_string(parts_));
  parts_ = parts;
  return taken_ != 0 ? Error() : metadata.number_or(all_tensors_, "split.tensors.count", 0);
}

Error GgufFile::read_tensors(Span<const std::uint8_t> part, const GgufMetadata& metadata) {
  std::uint32_t alignment = 0;
  if (Error error = metadata.number_or(alignment, "general.alignment", kUsualAlignment)) return error;
  if (alignment < 8 || alignment > kMaxAlignment || (alignment & (alignment - 1)))
    return Error("general.alignment " + std::to_string(alignment) + " is no power of two from 8 to 65536");
  if (metadata.tensor_count() > (part.size() - metadata.end()) / kLeastEntryBytes)
    return Error("the file ends inside the descriptions of its tensors");
  Descriptions descriptions(part, metadata.end());
  std::vector<Entry> entries(static_cast<std::size_t>(metadata.tensor_count()));
  for (Entry& e : entries)
    if (Error error = descriptions.next(e)) return error;
  if (Error error = place(entries, part, descriptions.end(), alignment)) return error;
  for (Entry& e : entries) {
    if (!by_name_.emplace(e.tensor.name, tensors_.size()).second)
      return Error("it has the tensor " + printable(e.tensor.name) + " twice");
    tensors_.push_back(std::move(e.tensor));
  }
  return {};
}

Error GgufFile::finish() const {
  if (taken_ != parts_)
    return Error("there are " + std::to_string(taken_) + " of " + std::to_string(parts_) + " parts");
  if (all_tensors_ != 0 && all_tensors_ != tensors_.size())
    return Error("its parts have " + std::to_string(tensors_.size()) + " tensors, not the " +
                 std::to_string(all_tensors_) + " of split.tensors.count");
  return {};
}

const GgufTensor* GgufFile::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

Error open_stored(StoredTensor& stored, const GgufTensor& t) {
  std::uint64_t rows = 1;
  for (std::size_t i = 0; i + 1 < t.shape.size(); ++i) rows *= t.shape[i];
  return StoredTensor::open(stored, t.type, t.bytes, rows, t.shape.back()).about("tensor " + printable(t.name));
}

std::vector<std::string> other_parts(const std::string& first) {
  const std::string begin = "-00001-of-", end = ".gguf";
  constexpr std::size_t kDigits = 5;
  const std::size_t tail = begin.size() + kDigits + end.size();
  if (first.size() < tail) return {};
  const std::size_t at = first.size() - tail;
  const std::string count = first.substr(at + begin.size(), kDigits);
  if (first.compare(at, begin.size(), begin) != 0 || first.compare(first.size() - end.size(), end.size(), end) != 0 ||
      count.find_first_not_of("0123456789") != std::string::npos)
    return {};
  std::vector<std::string> paths;
  const auto n = static_cast<std::uint32_t>(std::stoul(count));
  for (std::uint32_t i = 2; i <= n; ++i) {
    const std::string number = std::to_string(i);
    paths.push_back(first.substr(0, at + 1) + std::string(kDigits - number.size(), '0') + number + "-of-" + count +
                    end);
  }
  return paths;
}

bool is_gguf(Span<const std::uint8_t> bytes) { return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0; }

}  // namespace heed::quant
