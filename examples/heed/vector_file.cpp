// SPDX-License-Identifier: Apache-2.0
// vector_file.cpp: the header of .npy is a Python dictionary with three keys in any order; of Python no more is read
// than that takes.
#include "examples/heed/vector_file.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "examples/heed/host_session.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/refusal.hpp"
#include "quant/readers/json.hpp"

namespace heed::tool {
namespace {

constexpr char kNumpyMagic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
constexpr std::uint64_t kLongestHeader = 65536;  // NumPy itself refuses longer ones unless it is told not to
constexpr std::size_t kMostDimensions = 3;

struct NumpyHeader {
  std::string type;
  bool fortran_order = false;
  std::vector<std::uint64_t> shape;
};

// Reads a dictionary as NumPy writes it: {'descr': '<f4', 'fortran_order': False, 'shape': (98, 40), }
class HeaderReader {
 public:
  explicit HeaderReader(Span<const char> text) : text_(text) {}

  // False where the text is another one.
  bool read(NumpyHeader& header) {
    bool seen[3] = {};
    if (!take('{')) return false;
    while (!take('}')) {
      std::string key;
      if (!quoted(key) || !take(':')) return false;
      bool* const first = key == "descr"           ? &seen[0]
                          : key == "fortran_order" ? &seen[1]
                          : key == "shape"         ? &seen[2]
                                                   : nullptr;
      if (!first || *first) return false;
      *first = true;
      const bool known = first == &seen[0]   ? quoted(header.type)
                         : first == &seen[1] ? boolean(header.fortran_order)
                                             : tuple(header.shape);
      if (!known) return false;
      if (!take(',') && !is_next('}')) return false;
    }
    skip_spaces();
    return at_ == text_.size() && seen[0] && seen[1] && seen[2];
  }

 private:
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool is_next(char c) {
    skip_spaces();
    return at_ < text_.size() && text_[at_] == c;
  }
  bool take(char c) {
    if (!is_next(c)) return false;
    ++at_;
    return true;
  }
  bool word(const char* expected) {
    const std::size_t n = std::strlen(expected);
    if (text_.size() - at_ < n || std::memcmp(text_.data() + at_, expected, n) != 0) return false;
    at_ += n;
    return true;
  }
  bool quoted(std::string& value) {
    const char quote = is_next('"') ? '"' : '\'';
    if (!take(quote)) return false;
    const std::size_t first = at_;
    while (at_ < text_.size() && text_[at_] != quote && text_[at_] != '\\') ++at_;
    value.assign(text_.data() + first, at_ - first);
    return take(quote);
  }
  bool boolean(bool& value) {
    skip_spaces();
    value = word("True");
    return value || word("False");
  }
  bool whole_number(std::uint64_t& value) {
    skip_spaces();
    const std::size_t first = at_;
    value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (value > (std::uint64_t{1} << 48)) return false;  // more than any file has
      value = value * 10 + static_cast<std::uint64_t>(text_[at_] - '0');
    }
    return at_ > first;
  }
  bool tuple(std::vector<std::uint64_t>& value) {
    if (!take('(')) return false;
    while (!take(')')) {
      std::uint64_t n = 0;
      if (value.size() == kMostDimensions || !whole_number(n)) return false;
      value.push_back(n);
      if (!take(',') && !is_next(')')) return false;
    }
    return true;
  }

  Span<const char> text_;
  std::size_t at_ = 0;
};

std::string joined(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "[" + text + "]";
}

}  // namespace

VectorFile::VectorFile(const std::string& path, std::uint32_t width) : path_(path), width_(width) {
  map(file_, path);
  const Span<const std::uint8_t> bytes = file_.bytes();
  if (bytes.size() >= sizeof kNumpyMagic && std::memcmp(bytes.data(), kNumpyMagic, sizeof kNumpyMagic) == 0) {
    read_header();
    return;
  }
  numbers_ = bytes.data();
  const std::uint64_t row_bytes = std::uint64_t{width} * 4;
  if (bytes.size() % row_bytes)
    refuse(path, grouped(bytes.size()) + " bytes are no whole number of rows of " + counted(width, "float32 number"));
  rows_ = bytes.size() / row_bytes;
}

void VectorFile::read_header() {
  const Span<const std::uint8_t> bytes = file_.bytes();
  const auto refuse_header = [&] { refuse(path_, "this .npy file has no header that NumPy writes"); };
  const std::size_t version = bytes.size() > 7 ? bytes[6] : 0, length_bytes = version == 1 ? 2 : 4;
  if (version < 1 || version > 3 || bytes[7] != 0 || bytes.size() < 8 + length_bytes) refuse_header();
  std::uint64_t length = 0;
  for (std::size_t i = length_bytes; i-- > 0;) length = length << 8 | bytes[8 + i];
  if (length > kLongestHeader || length > bytes.size() - 8 - length_bytes) refuse_header();
  const std::size_t begin = 8 + length_bytes + static_cast<std::size_t>(length);
  NumpyHeader header;
  const Span<const char> text{reinterpret_cast<const char*>(bytes.data()) + 8 + length_bytes,
                              static_cast<std::size_t>(length)};
  if (!HeaderReader(text).read(header)) refuse_header();
  if (header.type != "<f4" && header.type != "<f8")
    refuse(path_, "its numbers are of type " + quant::printable(header.type) +
                      "; little-endian float32 (<f4) or float64 (<f8) is read");
  const std::vector<std::uint64_t>& shape = header.shape;
  if (header.fortran_order && shape.size() > 1)
    refuse(path_, "its numbers are in Fortran order; numpy.ascontiguousarray puts them in C order");
  if (shape.size() < 2 || shape.back() != width_)
    refuse(path_, "its shape is " + joined(shape) + "; the model reads [rows, " + std::to_string(width_) +
                      "] or [sequences, rows, " + std::to_string(width_) + "]");
  bytes_each_ = header.type == "<f4" ? 4 : 8;
  const std::uint64_t there = (bytes.size() - begin) / (std::uint64_t{width_} * bytes_each_);
  rows_ = shape[0];
  if (shape.size() == 3) {
    rows_per_sequence_ = shape[1];
    if (shape[1] == 0 || shape[0] > there / shape[1])
      rows_ = there + 1;  // which the next line refuses
    else
      rows_ = shape[0] * shape[1];
  }
  if (rows_ > there || bytes.size() - begin != rows_ * width_ * bytes_each_)
    refuse(path_, "its shape is " + joined(shape) + ", but " + counted(bytes.size() - begin, "byte") +
                      " stand behind the header");
  numbers_ = bytes.data() + begin;
}

std::vector<float> VectorFile::read(std::uint64_t first, std::uint64_t n) const {
  std::vector<float> vectors(static_cast<std::size_t>(n * width_));
  const std::uint8_t* from = numbers_ + first * width_ * bytes_each_;
  for (std::size_t i = 0; i < vectors.size(); ++i, from += bytes_each_) {
    double wide = 0.0;
    float number = 0.0f;
    if (bytes_each_ == 8) {
      std::memcpy(&wide, from, sizeof wide);
      // A larger double has no float, and converting it no defined result.
      number = std::fabs(wide) <= double{std::numeric_limits<float>::max()} ? static_cast<float>(wide) : HUGE_VALF;
    } else {
      std::memcpy(&number, from, sizeof number);
    }
    if (!std::isfinite(number))
      refuse(path_, "number " + std::to_string(i % width_) + " of row " + std::to_string(first + i / width_) +
                        " (from 0) is no finite float32 number");
    vectors[i] = number;
  }
  return vectors;
}

}  // namespace heed::tool
