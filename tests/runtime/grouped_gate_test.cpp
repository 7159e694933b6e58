// SPDX-License-Identifier: Apache-2.0
// grouped_gate_test.cpp: a small image whose activations leave -32768 in a group, on every table and every layout.
#include "tests/reference/spec_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

using namespace heed;
using namespace heed::test;

namespace {

// Gate and up come from their biases alone. In row 3 they are 30000 and -17896 as s16: with ReLU the product is
// -29999 * 17896, the largest of all, which 14 places leave as M = 32767 and s = -32768 (SPEC.md 2.5).
quant::ImageBytes lopsided_image(Layout layout) {
  StackConfig c = llama_config(16, 40, 1, 2, 1, 8, 11, 20);
  c.activation = Activation::relu;
  c.biases = kBiasFfnIn;
  c.flags = kAttentionGainFolded | kFfnGainFolded | kFinalGainFolded;
  c.groups[static_cast<int>(Site::down_in)] = 32;
  Random random(9);
  quant::TensorSection tensors(c, layout);
  for (const TensorEntry& e : tensors.directory()) {
    const TensorSlot slot = tensor_slot(c, e.role, e.layer);
    if (slot.type == ElementType::u32) {
      tensors.put_phases({683565276u, 68356527u, 6835652u, 683565u});
      continue;
    }
    const bool gate = e.role == Role::w_gate, up = e.role == Role::w_up;
    quant::QuantizedMatrix m;
    m.rows = slot.rows;
    m.cols = slot.cols;
    m.group = slot.group;
    for (std::uint32_t i = 0; i < slot.rows * slot.cols; ++i)
      m.weights.push_back(static_cast<std::int8_t>(gate || up ? 0 : random.between(-127, 127)));
    m.scales.assign(slot.rows, 0.001953125f);
    m.multipliers.assign(std::size_t{slot.rows} * group_count(slot.cols, slot.group), 7);
    if (slot.bias) m.bias.assign(slot.rows, 0.01f);
    if (gate) m.bias[3] = 30000.0f / 32768.0f;
    if (up) m.bias[3] = -17896.0f / 32768.0f;
    tensors.put(e.role, e.layer, m);
  }
  quant::ImageBytes image;
  quant::write_image(image, c, tensors, {}, {}, *find_kernels("portable"));
  return image;
}

}  // namespace

TEST_CASE("a group's largest magnitude is that of -32768") {
  for (int layout = 0; layout < kLayoutCount; ++layout) {
    const quant::ImageBytes image = lopsided_image(static_cast<Layout>(layout));
    const std::vector<Token> tokens = {3, 7, 1};
    spec::Model oracle(image.data(), image.size());
    std::uint32_t wanted = 0;
    for (const Token token : tokens) {
      const spec::Floats logits = oracle.step(token);
      wanted = spec::crc32c(wanted, logits.data(), logits.size() * 4);
    }
    CHECK(wanted == 0x3F848A7Fu);
    for (const Kernels* k : runnable_kernels()) {
      if (!(k->traits.layouts >> layout & 1)) continue;
      Running r(*k, bytes(image));
      std::uint32_t crc = 0;
      for (const Token token : tokens) {
        Span<const float> logits;
        REQUIRE(r.session.step(logits, token) == Status::ok);
        crc = k->crc32c(crc, logits.data(), logits.size() * 4);
      }
      INFO(k->traits.name << ", layout " << layout);
      CHECK(crc == wanted);
    }
  }
}
