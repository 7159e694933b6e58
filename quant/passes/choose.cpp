// SPDX-License-Identifier: Apache-2.0
// choose.cpp: all passes against none, then all against all but one. What ruins a model hides what else does, so passes are
// taken away and not added.
#include "quant/passes/choose.hpp"

namespace heed::quant {

std::vector<StackPass> passes_for(const ModelConfig& config) {
  std::vector<StackPass> passes;
  for (const Pass* pass : {&kCentreStream, &kCentreValues, &kScaleValues, &kScaleUp, &kScaleKeys})
    for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack)
      if (pass->is_valid(config.stacks[stack])) passes.push_back({pass, stack});
  return passes;
}

SeenModel apply_passes(const SeenModel& original, const std::vector<StackPass>& passes) {
  SeenModel result{original.model.borrowed(), original.seen};
  for (const StackPass& p : passes) p.pass->apply(result.model, result.seen.stacks[p.stack], p.stack);
  return result;
}

std::vector<StackPass> choose_passes(const SeenModel& original, double before, const Distance& distance) {
  std::vector<StackPass> chosen = passes_for(original.model.config);
  double now = distance(apply_passes(original, chosen));
  if (!(now < kPassesMustGain * before)) return {};
  for (std::size_t i = 0; i < chosen.size();) {
    std::vector<StackPass> fewer = chosen;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    const bool costs = chosen[i].pass->costs(original.model.config.stacks[chosen[i].stack]);
    const double without = distance(apply_passes(original, fewer));
    if (without >= now * (costs ? kCostlyPassMustGain : kPassMustGain)) {
      ++i;
      continue;
    }
    chosen = std::move(fewer);
    now = without;
  }
  return chosen;
}

}  // namespace heed::quant
