// SPDX-License-Identifier: Apache-2.0
// cover_changes.cpp: changes are kept by place until both sides have run.
#include "tests/covering/cover_changes.hpp"

#include <algorithm>

#include "tests/covering/cover_inputs.hpp"

namespace heed::test {
namespace {

enum : std::uint32_t { kAttention, kCrossAttention, kFeedForward };

}  // namespace

void ChangeCosines::watch(quant::FloatReference& reference) {
  reference.watchers.stage = [this](quant::Stage stage, const quant::Place& at, std::uint32_t, Span<const float> x) {
    std::uint32_t sublayer = kAttention;
    switch (stage) {
      case quant::Stage::attention_change: break;
      case quant::Stage::cross_attention_change: sublayer = kCrossAttention; break;
      case quant::Stage::ffn_change: sublayer = kFeedForward; break;
      default: return;
    }
    exact_[{case_, at.stack, at.layer, sublayer, at.position}].assign(x.begin(), x.end());
  };
}

void ChangeCosines::watch(spec::Model& oracle) {
  for (std::uint32_t stack = 0; stack < oracle.stacks().size(); ++stack) {
    oracle.stacks()[stack].see_changes = [this, stack](int of, std::int64_t layer, const std::vector<spec::Floats>& changes) {
      const std::uint32_t sublayer = of == spec::kSelf ? kAttention : of == spec::kCross ? kCrossAttention : kFeedForward;
      for (std::uint32_t i = 0; i < changes.size(); ++i)
        rounded_[{case_, stack, static_cast<std::uint32_t>(layer), sublayer, i}] = changes[i];
    };
  }
}

std::vector<double> ChangeCosines::sorted() const {
  std::vector<double> cosines;
  if (exact_.size() != rounded_.size()) return {};
  for (const auto& [place, x] : exact_) {
    const auto found = rounded_.find(place);
    if (found == rounded_.end() || found->second.size() != x.size()) return {};
    cosines.push_back(cosine_of(x.data(), found->second.data(), x.size()));
  }
  std::sort(cosines.begin(), cosines.end());
  return cosines;
}

}  // namespace heed::test
