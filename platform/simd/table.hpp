// SPDX-License-Identifier: Apache-2.0
// table.hpp: a kernel table from one Arch and one Dot.
#pragma once
#include "platform/simd/attend.hpp"
#include "platform/simd/crc.hpp"
#include "platform/simd/dot.hpp"
#include "platform/simd/heads.hpp"
#include "platform/simd/layer_norm.hpp"
#include "platform/simd/products.hpp"
#include "platform/simd/rows.hpp"
#include "platform/tables.hpp"

namespace heed::simd {

template <class Arch, class Dot>
constexpr Kernels make_kernels(const KernelTraits& traits) {
  return {
      traits,
      Crc<Arch, Dot>::crc32c,
      Products<Arch, Dot>::embed_f32_s8c,
      Rows<Arch, Dot>::quantize_s8r_f32,
      LayerNorm<Arch, Dot>::norm_s8r_f32,
      kNormsToFloats ? LayerNorm<Arch, Dot>::norm_f32_f32 : nullptr,
      Rows<Arch, Dot>::gate_s8r_f32,
      Products<Arch, Dot>::matmul_f32_s8r_s8c,
      Heads<Arch, Dot>::query_s8r_f32,
      Heads<Arch, Dot>::store_key,
      Heads<Arch, Dot>::store_value,
      Attend<Arch, Dot>::attend_block,
      Rows<Arch, Dot>::attend_finish,
      Rows<Arch, Dot>::argmax,
      Rows<Arch, Dot>::sample_weights,
  };
}

}  // namespace heed::simd
