// SPDX-License-Identifier: Apache-2.0
// fidelity.hpp: how far the answers of an int8 model are from those of its float model.
#pragma once
#include "quant/image_writer.hpp"
#include "quant/probes.hpp"

namespace heed::quant {

// Means over outputs: positions, or sequences where those are pooled.
struct Fidelity {
  std::uint64_t outputs = 0, sequences = 0;  // 0: not measured
  bool is_text = false;    // the outputs predict the next token, so that there are losses
  bool are_logits = false;
  double loss = 0.0, float_loss = 0.0;  // nats per token
  double kl = 0.0, kl_error = 0.0;      // nats, from float to int8; its standard error, by sequences if there are four
  double agreement = 0.0;               // how often the largest logit is the same
  double cosine = 1.0, least_cosine = 1.0;  // between float and int8 outputs

  // What decides between two ways to quantise; 0 is best.
  double distance() const { return are_logits ? kl : 1.0 - cosine; }
};

// Runs a quantised model, in any layout that `kernels` take, on probes of its float model. Refuses what no session of this build can run.
Error measure(Fidelity& result, const ModelConfig& config, const TensorSection& tensors, const std::vector<Probe>& probes,
              const Kernels& kernels);

}  // namespace heed::quant
