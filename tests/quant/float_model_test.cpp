// SPDX-License-Identifier: Apache-2.0
// float_model_test.cpp: matrices that stay where they are stored, changes beside them, and products that depend on neither
// what is kept decoded nor on threads.
#include "quant/decoded_matrices.hpp"

#include <cstring>
#include <limits>

#include "platform/linux/thread_pool.hpp"
#include "quant/float_reference.hpp"
#include "quant/readers/safetensors.hpp"
#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"

using namespace heed;
using namespace heed::quant;

namespace {

std::uint32_t bits(float x) {
  std::uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}

// The model with weights of eight bits, which bfloat16 holds as they are, there.
FloatModel in_bfloat16(const FloatModel& model, std::vector<std::vector<std::uint8_t>>& memory) {
  FloatModel stored = model.borrowed();
  for_each_slot(model.config.main(), [&](const TensorSlot& slot) {
    if (slot.type != ElementType::s8) return;
    std::vector<std::uint8_t>& bytes = memory.emplace_back();
    for (const float x : model.read(slot.role, slot.layer)) {
      REQUIRE((bits(x) & 0xFFFFu) == 0);
      bytes.push_back(static_cast<std::uint8_t>(bits(x) >> 16));
      bytes.push_back(static_cast<std::uint8_t>(bits(x) >> 24));
    }
    StoredTensor t;
    REQUIRE_FALSE(StoredTensor::open(t, StoredType::bf16, bytes, slot.rows, slot.cols));
    stored.set(slot.role, slot.layer, t);
  });
  return stored;
}

std::vector<float> outputs_of(const FloatModel& model) {
  FloatReference reference(model, 8);
  std::vector<float> all;
  for (const std::uint32_t token : {1u, 7u, 3u, 28u, 9u}) {
    const Span<const float> logits = reference.step(token);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

}  // namespace

TEST_CASE("a model stored in bfloat16 gives the float results of the same numbers in float32") {
  for (const bool tied : {true, false}) {
    const FloatModel model = golden::numbered_model(test::small_config(tied), 3);
    std::vector<std::vector<std::uint8_t>> memory;
    memory.reserve(64);
    const FloatModel stored = in_bfloat16(model, memory);
    CHECK(check(stored).sentence() == "");
    CHECK(stored.floats(Role::w_query, 1) == nullptr);
    CHECK(stored.read(Role::w_query, 1) == model.read(Role::w_query, 1));
    CHECK(outputs_of(stored) == outputs_of(model));
  }
}

TEST_CASE("products are the same whatever is kept decoded, and on any number of threads") {
  StackConfig config = test::small_config(true);
  config.vocab_size = config.n_outputs = 7000;  // three blocks of rows
  const FloatModel plain = golden::numbered_model(config, 4);
  std::vector<std::vector<std::uint8_t>> memory;
  memory.reserve(64);
  FloatModel stored = in_bfloat16(plain, memory);
  stored.set_bias(Role::token_embedding, 0, std::vector<float>(7000, 0.25f));
  std::vector<float> x(3 * 24);
  test::Random random(5);
  for (float& v : x) v = random.normal();
  ThreadPool pool;
  REQUIRE(pool.start(3));
  std::vector<float> expected;
  for (const bool threads : {false, true}) {
    stored.parallel = threads ? pool.parallel() : Parallel{};
    stored.parallel.threshold = 0;
    for (const std::uint64_t budget : {kDecodedBudget, std::uint64_t{0}}) {
      DecodedMatrices matrices(stored, 0, budget);
      for (int again = 0; again < 2; ++again) {
        std::vector<float> y(3 * 7000);
        matrices.multiply(y.data(), Role::token_embedding, 0, x.data(), 3, 0, 7000);
        if (expected.empty()) expected = y;
        CHECK(y == expected);
        std::vector<float> part(3 * 100);
        matrices.multiply(part.data(), Role::token_embedding, 0, x.data(), 3, 6000, 100);
        for (std::size_t k = 0; k < 3; ++k)
          CHECK(std::memcmp(&part[k * 100], &expected[k * 7000 + 6000], 400) == 0);
      }
    }
  }
  double sum = 0.25;  // once more by hand
  const std::vector<float> w = plain.read(Role::token_embedding, 0);
  for (std::size_t k = 0; k < 24; ++k) sum += double{w[6999 * 24 + k]} * x[24 + k];
  CHECK(expected[2 * 7000 - 1] == Approx(sum).epsilon(1e-5));
}

TEST_CASE("factors go to rows and their biases, or to columns; a borrowed model leaves its origin as it is") {
  const FloatModel model = golden::numbered_model(test::small_config(true), 6);
  FloatModel changed = model.borrowed();
  changed.set_bias(Role::w_up, 1, std::vector<float>(40, 3.0f));
  std::vector<double> rows(40), columns(24), gains(24);
  for (std::size_t i = 0; i < 40; ++i) rows[i] = 1.0 + static_cast<double>(i) / 16;
  for (std::size_t i = 0; i < 24; ++i) columns[i] = 2.0 - static_cast<double>(i) / 32;
  changed.scale_rows(Role::w_up, 1, 0, rows);
  changed.scale_columns(Role::w_up, 1, 0, columns);
  changed.scale_rows(Role::ffn_gain, 1, 0, columns);
  changed.scale_rows(Role::w_gate, 7, 0, rows);  // no such layer
  const std::vector<float> from = model.read(Role::w_up, 1), to = changed.read(Role::w_up, 1);
  for (std::size_t r = 0; r < 40; ++r) {
    CHECK(changed.bias(Role::w_up, 1)[r] == static_cast<float>(3.0 * rows[r]));
    for (std::size_t c = 0; c < 24; ++c)
      CHECK(to[r * 24 + c] == static_cast<float>(double{from[r * 24 + c]} * rows[r] * columns[c]));
  }
  for (std::size_t c = 0; c < 24; ++c)
    CHECK(changed.floats(Role::ffn_gain, 1)[c] == static_cast<float>(model.floats(Role::ffn_gain, 1)[c] * columns[c]));
  CHECK(changed.read(Role::w_up, 0) == model.read(Role::w_up, 0));
  CHECK(model.bias(Role::w_up, 1).empty());
  CHECK(model.read(Role::w_up, 1) == from);
  changed.drop(Role::w_up, 0);
  CHECK(changed.tensor(Role::w_up, 0) == nullptr);
  CHECK(check(changed).sentence() == "w_up of layer 0 is missing");
  CHECK(model.tensor(Role::w_up, 0) != nullptr);
}

TEST_CASE("tensors of another shape, numbers that no model may have and biases of another size are refused") {
  FloatModel model = golden::numbered_model(test::small_config(true), 6);
  model.own(Role::w_key, 1, std::vector<float>(24 * 13, 0.5f));
  CHECK(check(model).sentence() == "w_key of layer 1 has the shape [1, 312], not [12, 24]");
  model = golden::numbered_model(test::small_config(true), 6);
  // One bad number in the third block of rows.
  StackConfig config = test::small_config(true);
  config.vocab_size = config.n_outputs = 7000;
  model = golden::numbered_model(config, 6);
  std::vector<float> table = model.read(Role::token_embedding, 0);
  for (const float bad : {1.2e12f, -1.2e12f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    table[24 * 6500 + 3] = bad;
    model.own(Role::token_embedding, 0, table);
    CHECK(check(model).sentence() == "token_embedding: number 156003 is not finite or above 2^40");
  }
  config.biases = kBiasUnembedding;
  model = golden::numbered_model(config, 6);
  model.set_bias(Role::token_embedding, 0, std::vector<float>(6999));
  CHECK(check(model).sentence() == "the bias of token_embedding has 6999 numbers");
}
