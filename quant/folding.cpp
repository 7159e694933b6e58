// SPDX-License-Identifier: Apache-2.0
// folding.cpp: which norms, and into what.
#include "quant/folding.hpp"

namespace heed::quant {

std::uint32_t matrix_bias(Site site) {
  switch (site) {
    case Site::attention_in: return kBiasQuery | kBiasKey | kBiasValueDown;
    case Site::ffn_in: return kBiasFfnIn;
    case Site::unembed_in: return kBiasUnembedding;
    case Site::cross_in: return kBiasCrossQuery;
    case Site::dense_in: return kBiasDense;
    default: return 0;
  }
}
std::uint32_t folded_flag(Role gain) {
  switch (gain) {
    case Role::attention_gain: return kAttentionGainFolded;
    case Role::cross_gain: return kCrossGainFolded;
    case Role::ffn_gain: return kFfnGainFolded;
    default: return kFinalGainFolded;
  }
}
// The matrix of a tied unembedding also gives the embeddings, which have no norm before them.
bool is_foldable(const StackConfig& c, Site site) {
  return norm_before(c, site).present && !(site == Site::unembed_in && c.tied_unembedding);
}

NormBefore norm_weights(const FloatModel& model, std::uint32_t stack, Site site, std::uint32_t layer) {
  const NormRoles norm = norm_before(model.config.stacks[stack], site);
  if (!norm.present) return {};
  if (!is_per_layer(site)) layer = 0;
  return {model.floats(norm.gain, layer, stack), model.floats(norm.bias, layer, stack)};
}

NormBefore folded_into(const FloatModel& model, const StackConfig& c, Role role, std::uint32_t layer,
                       std::uint32_t stack) {
  for (int i = 0; i < kSiteCount; ++i) {
    const auto site = static_cast<Site>(i);
    const NormRoles norm = norm_before(c, site);
    if (!norm.present || !(c.flags & folded_flag(norm.gain))) continue;
    for (const Role reader : matrices_of(c, site))
      if (reader == role) return norm_weights(model, stack, site, layer);
  }
  return {};
}

double shift_of(const float* row, const float* norm_bias, std::uint32_t cols) {
  double shift = 0.0;
  for (std::uint32_t k = 0; k < cols; ++k) shift += double{row[k]} * norm_bias[k];
  return shift;
}

}  // namespace heed::quant
