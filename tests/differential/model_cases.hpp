// SPDX-License-Identifier: Apache-2.0
// model_cases.hpp: a random model, random inputs for it, and the oracle's answer.
#pragma once
#include "runtime/session.hpp"
#include "tests/differential/case.hpp"
#include "tests/differential/random_models.hpp"

namespace heed::differential {

// Inputs taken from a position on: to generate that is where the text stands or an earlier one, to encode it is 0.
struct Stretch {
  std::uint32_t position;
  Inputs inputs;
  int source;  // which of the sources is read before, position 0 again; -1 = none
};

struct ModelCase : Case {
  // Small models cost a board less; all: every layout takes its turn.
  explicit ModelCase(std::uint64_t seed, bool small, bool all, Layout layout);

  ModelConfig config;
  Layout layout;
  quant::ImageBytes image;
  std::vector<Inputs> sources;
  std::vector<Stretch> stretches;
  std::uint32_t max_seq, source_seq;

  Limits limits(std::uint32_t chunk) const;
  std::uint64_t arena_bytes() const;  // on whatever board needs most
  bool takes(const Kernels& kernels) const override;
  // The CRC-32C of the logits behind each token, or of each row that encode gives.
  Words run(const Kernels& kernels, Random& how) const override;
  Words oracle() const override;
};

}  // namespace heed::differential
