// SPDX-License-Identifier: Apache-2.0
// stored_tensor_test.cpp: decoders against those of the gguf package, and every change of a matrix against the same done in
// memory.
#include "quant/stored_tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/kernels.hpp"
#include "tests/reference/stored_types_golden.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"

namespace heed {
extern const Kernels kernels_portable;
}
using namespace heed;
using namespace heed::quant;

namespace {

constexpr std::size_t kAnyAlignment = 3;  // bytes that tensors stand behind

StoredType type_named(const std::string& name) {
  for (int i = 0; i < kStoredTypeCount; ++i)
    if (name == format_of(static_cast<StoredType>(i)).name) return static_cast<StoredType>(i);
  FAIL("no type is called " << name);
  return StoredType::f32;
}

std::vector<std::uint8_t> bytes_of(const std::string& hex) {
  std::vector<std::uint8_t> bytes(kAnyAlignment, 0xFF);
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::uint32_t crc_of(const std::vector<float>& x) { return kernels_portable.crc32c(0, x.data(), 4 * x.size()); }

std::vector<float> decoded(StoredType type, const std::vector<std::uint8_t>& bytes) {
  const StoredFormat& format = format_of(type);
  const std::size_t n = (bytes.size() - kAnyAlignment) / format.block_bytes;
  std::vector<float> x(n * format.block_elements);
  format.decode(x.data(), bytes.data() + kAnyAlignment, n);
  return x;
}

// A matrix in memory, changed step by step: what a StoredTensor must read as.
struct Matrix {
  std::uint32_t rows, cols;
  std::vector<float> x;

  float& at(std::size_t r, std::size_t c) { return x[r * cols + c]; }
  Matrix picked(const std::vector<std::uint32_t>& order) {
    Matrix m{static_cast<std::uint32_t>(order.size()), cols, {}};
    for (const std::uint32_t r : order)
      for (std::uint32_t c = 0; c < cols; ++c) m.x.push_back(at(r, c));
    return m;
  }
  Matrix turned() {
    Matrix m{cols, rows, std::vector<float>(x.size())};
    for (std::uint32_t r = 0; r < rows; ++r)
      for (std::uint32_t c = 0; c < cols; ++c) m.at(c, r) = at(r, c);
    return m;
  }
};

struct Both {
  StoredTensor stored;
  Matrix matrix;
};

std::vector<std::uint32_t> some_order(test::Random& random, std::uint32_t n) {
  std::vector<std::uint32_t> order(1 + random.below(n));
  for (std::uint32_t& i : order) i = random.below(n);
  return order;
}

void check_same(const Both& both, std::uint32_t first, std::uint32_t n) {
  std::vector<float> x(std::size_t{n} * both.stored.cols(), -1.0f);
  both.stored.read_rows(x.data(), first, n);
  const float* wanted = both.matrix.x.data() + std::size_t{first} * both.matrix.cols;
  CHECK(std::memcmp(x.data(), wanted, 4 * x.size()) == 0);
}

// One more random change, to both.
void change(Both& both, test::Random& random) {
  Matrix& m = both.matrix;
  const std::uint32_t first = random.below(m.rows), n = 1 + random.below(m.rows - first);
  std::vector<std::uint32_t> slice(n);
  for (std::uint32_t i = 0; i < n; ++i) slice[i] = first + i;
  switch (random.below(4)) {
    case 0:
      both.stored = both.stored.transposed();
      m = m.turned();
      return;
    case 1:
      both.stored = both.stored.row_slice(first, n);
      m = m.picked(slice);
      return;
    case 2: {
      const auto order = some_order(random, m.rows);
      both.stored = both.stored.row_order(order);
      m = m.picked(order);
      return;
    }
    default: {
      const auto order = some_order(random, m.cols);
      both.stored = both.stored.column_order(order);
      m = m.turned().picked(order).turned();
    }
  }
}

}  // namespace

TEST_CASE("each decoder gives the floats that the gguf package gives, extreme scales included") {
  for (const GoldenBlock& golden : kGoldenBlocks) {
    INFO(golden.type << " " << golden.hex);
    const std::vector<float> x = decoded(type_named(golden.type), bytes_of(golden.hex));
    REQUIRE(!x.empty());
    CHECK(crc_of(x) == golden.crc);
  }
}

TEST_CASE("half floats are those of the gguf package; bfloat16 is the upper half of a float") {
  std::vector<std::uint8_t> halves(kAnyAlignment), brains(kAnyAlignment);
  for (std::uint32_t h = 0; h < 65536; ++h) {
    for (auto* bytes : {&halves, &brains}) {
      if (bytes == &halves && (h >> 10 & 31u) == 31) continue;
      bytes->push_back(static_cast<std::uint8_t>(h));
      bytes->push_back(static_cast<std::uint8_t>(h >> 8));
    }
  }
  CHECK(crc_of(decoded(StoredType::f16, halves)) == kGoldenHalves);
  const std::vector<float> x = decoded(StoredType::bf16, brains);
  for (std::uint32_t h = 0; h < 65536; ++h) {
    std::uint32_t bits;
    std::memcpy(&bits, &x[h], 4);
    REQUIRE(bits == h << 16);
  }
}

TEST_CASE("what is no number stays none, so that whoever checks the model finds it") {
  const auto first_of = [](StoredType type, const char* hex) { return decoded(type, bytes_of(hex))[0]; };
  CHECK(first_of(StoredType::f16, "007c") == std::numeric_limits<float>::infinity());
  CHECK(first_of(StoredType::f16, "00fc") == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(first_of(StoredType::f16, "01fe")));
  std::string block = "007c";  // an infinite scale
  for (int i = 0; i < 32; ++i) block += "01";
  CHECK(std::isinf(first_of(StoredType::q8_0, block.c_str())));
}

TEST_CASE("a tensor whose bytes are not its rows is refused, before anything is read") {
  StoredTensor t;
  const std::vector<std::uint8_t> bytes(2 * 110);
  const auto sentence = [&](StoredType type, std::size_t n, std::uint64_t rows, std::uint64_t cols) {
    // The address is never read: a decoder that looked would fault.
    const auto* nowhere = reinterpret_cast<const std::uint8_t*>(std::uintptr_t{64});
    return StoredTensor::open(t, type, {nowhere, n}, rows, cols).sentence();
  };
  CHECK(sentence(StoredType::q3_k, 219, 2, 256) == "it has 219 bytes, not 2 rows of 110");
  CHECK(sentence(StoredType::q3_k, 221, 2, 256) == "it has 221 bytes, not 2 rows of 110");
  CHECK(sentence(StoredType::q3_k, 220, 2, 255) == "its rows of 255 are no whole number of Q3_K blocks of 256");
  CHECK(sentence(StoredType::f32, 0, 0, 4) == "its shape 0 x 4 is not one that can be read");
  CHECK(sentence(StoredType::f32, 16, 1u << 31, std::uint64_t{1} << 33) ==
        "its shape 2147483648 x 8589934592 is not one that can be read");
  CHECK(sentence(StoredType::f32, 0, 0xFFFFFFFFu, 0xFFFFFFFFu) == "it has 0 bytes, not 4294967295 rows of 17179869180");
  CHECK(StoredTensor::open(t, StoredType::q3_k, {bytes.data(), bytes.size()}, 2, 256).sentence() == "");
  CHECK((t.rows() == 2 && t.cols() == 256 && !t.is_empty()));
}

TEST_CASE("turned, sliced and reordered, in any order and any number of times") {
  test::Random random(7);
  for (int round = 0; round < 600; ++round) {
    const auto type = static_cast<StoredType>(round % kStoredTypeCount);
    const StoredFormat& format = format_of(type);
    const std::uint32_t rows = 1 + random.below(9);
    const std::uint32_t cols = format.block_elements * (1 + random.below(format.block_elements == 1 ? 20 : 3));
    std::vector<std::uint8_t> bytes(kAnyAlignment + std::size_t{rows} * (cols / format.block_elements) * format.block_bytes);
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random.below(0x70));  // no scale is infinite
    Both both;
    const Span<const std::uint8_t> all(bytes.data() + kAnyAlignment, bytes.size() - kAnyAlignment);
    REQUIRE(StoredTensor::open(both.stored, type, all, rows, cols).sentence() == "");
    both.matrix = {rows, cols, decoded(type, bytes)};
    for (int n = 0; n < 5; ++n) {
      INFO(format.name << " round " << round << " change " << n);
      REQUIRE((both.stored.rows() == both.matrix.rows && both.stored.cols() == both.matrix.cols));
      check_same(both, 0, both.matrix.rows);
      const std::uint32_t first = random.below(both.matrix.rows);
      check_same(both, first, 1 + random.below(both.matrix.rows - first));
      change(both, random);
    }
  }
}

TEST_CASE("factors and terms are computed in double, in their order, and rounded once") {
  test::Random random(8);
  std::vector<float> x(6 * 5);
  for (float& v : x) v = random.normal();
  const auto numbers = [&](std::size_t n) {
    std::vector<double> result(n);
    for (double& v : result) v = 0.5 + random.below(1000) / 777.0;
    return result;
  };
  const std::vector<double> row_factors = numbers(6), row_terms = numbers(6), factors = numbers(5), terms = numbers(5);
  const StoredTensor plain = StoredTensor::of(x, 6, 5);
  const StoredTensor t =
      plain.times(3.0).plus(0.1).rows_times(row_factors).columns_plus(terms).columns_times(factors).rows_plus(row_terms);
  const std::vector<float> got = t.read();
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 0; c < 5; ++c)
      CHECK(got[r * 5 + c] == static_cast<float>(((x[r * 5 + c] * 3.0 + 0.1) * row_factors[r] + terms[c]) * factors[c] +
                                                 row_terms[r]));

  // They go where their rows and columns go.
  const StoredTensor picked = t.transposed().row_order({4, 1}).column_slice(2, 3).transposed();
  const std::vector<float> few = picked.read();
  for (std::size_t r = 0; r < 3; ++r)
    for (std::size_t c = 0; c < 2; ++c) CHECK(few[r * 2 + c] == got[(r + 2) * 5 + (c == 0 ? 4 : 1)]);
  const std::vector<double> twos(6, 2.0);
  CHECK(plain.rows_times(twos).rows_times(twos).read() == plain.times(4.0).read());
  // One factor behind the other is one factor.
  const std::vector<double> thirds(6, 1.0 / 3.0), threes(6, 3.0);
  CHECK(plain.rows_times(thirds).rows_times(threes).read() == x);

  // Floats that are wanted as they are need not be read.
  CHECK(plain.in_place() != nullptr);
  CHECK(plain.row_slice(2, 3).in_place() == plain.in_place() + 10);
  CHECK(plain.transposed().in_place() == nullptr);
  CHECK(plain.column_slice(0, 4).in_place() == nullptr);
  CHECK(plain.times(2.0).in_place() == nullptr);
  CHECK(plain.rows_times(twos).in_place() == nullptr);
}

TEST_CASE("floats of its own live as long as a copy does") {
  StoredTensor kept;
  {
    const StoredTensor t = StoredTensor::vector({1.0f, 2.0f, 3.0f});
    CHECK((t.rows() == 1 && t.cols() == 3));
    kept = t.column_slice(1, 2);
  }
  CHECK(kept.read() == std::vector<float>{2.0f, 3.0f});
}
