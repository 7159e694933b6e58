// SPDX-License-Identifier: Apache-2.0
// kernels.cpp: the portable kernel table, plain C++: the definition of correct. On hosts always built; on a board where no
// other table serves (platform/target.hpp), and beside another one for tests that say HEED_BESIDE_PORTABLE.
#include "runtime/one_rounding.hpp"

#include "platform/target.hpp"
#if !defined(HEED_SINGLE_TABLE) || defined(HEED_TABLE_PORTABLE) || defined(HEED_BESIDE_PORTABLE)

#include "platform/portable/attend.hpp"
#include "platform/portable/exp2.hpp"
#include "platform/portable/products.hpp"
#include "platform/portable/rows.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

using portable::PlainActivations;

// The cache as rows: keys [slot, round_up(head_dim, 4)], values transposed [value_dim, capacity].
struct PortableCore {
  static void scores(std::int32_t* dst, const Activations& queries, std::uint32_t index, const KvBlock& block,
                     std::uint32_t visible) {
    const std::int8_t* q = portable::activation_row(queries, index);
    const std::uint32_t stride = round_up(block.head_dim, 4);
    for (std::uint32_t k = 0; k < visible; ++k) {
      const std::int8_t* key = block.keys + std::size_t{k} * stride;
      std::int32_t sum = 0;
      for (std::uint32_t d = 0; d < block.head_dim; ++d) sum += q[d] * key[d];
      dst[k] = sum;
    }
  }
  static void weigh(float* numerators, const std::int16_t* folded, const KvBlock& block, std::uint32_t visible,
                    float keep, float add) {
    for (std::uint32_t d = 0; d < block.value_dim; ++d) {
      const std::int8_t* v = block.values + std::size_t{d} * block.capacity;
      std::int32_t sum = 0;
      for (std::uint32_t k = 0; k < visible; ++k) sum += folded[k] * v[k];
      numerators[d] = portable::merge_numerator(numerators[d], sum, keep, add);
    }
  }
};

void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
               const KeyOffset& offset) {
  std::int8_t* row = dst.keys + std::size_t{slot} * round_up(dst.head_dim, 4);
  portable::store_key_with(dst, slot, src, rotation, offset, [=](std::uint32_t d, std::int8_t q) { row[d] = q; });
}

void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  std::int8_t* column = dst.values + slot;
  const std::uint32_t stride = dst.capacity;
  portable::store_value_with(dst, slot, src, [=](std::uint32_t d, std::int8_t q) { column[std::size_t{d} * stride] = q; });
}

void attend_block(const AttentionSums& sums, const BlockQueries& queries, const KvBlock& block,
                  std::uint16_t* weights, std::int32_t* reference) {
  portable::attend_block<PortableCore>(sums, queries, block, weights, reference, portable::kExp2.values);
}

}  // namespace

extern const Kernels kernels_portable;
const Kernels kernels_portable = {
#if defined(HEED_SINGLE_TABLE)
    traits::kPortableRow,
#else
    traits::kPortable,
#endif
    portable::crc32c,
    portable::embed_f32_s8c,
    portable::quantize_s8r_f32<PlainActivations>,
    portable::norm_s8r_f32<PlainActivations>,
    kNormsToFloats ? portable::norm_f32_f32 : nullptr,
    portable::gate_s8r_f32<PlainActivations>,
    portable::matmul_f32_s8r_s8c,
    portable::query_s8r_f32<PlainActivations>,
    store_key,
    store_value,
    attend_block,
    portable::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed

#endif
