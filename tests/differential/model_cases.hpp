// SPDX-License-Identifier: Apache-2.0
// model_cases.hpp: a random model, a random text for it, and the oracle's answer.
#pragma once
#include "quant/image_writer.hpp"
#include "runtime/session.hpp"
#include "tests/differential/case.hpp"

namespace heed::differential {

// Tokens taken from a position on, which is where the text stands or an earlier one.
struct Stretch {
  std::uint32_t position;
  std::vector<Token> tokens;
};

struct ModelCase : Case {
  // Small models cost a board less; all: every layout takes its turn.
  explicit ModelCase(std::uint64_t seed, bool small, bool all, Layout layout);

  StackConfig config;
  Layout layout;
  quant::ImageBytes image;
  std::vector<Stretch> stretches;
  std::uint32_t max_seq;

  std::uint64_t arena_bytes() const;  // on whatever board needs most
  bool takes(const Kernels& kernels) const override;
  // The CRC-32C of the logits behind each token.
  Words run(const Kernels& kernels, Random& how) const override;
  Words oracle() const override;
};

}  // namespace heed::differential
