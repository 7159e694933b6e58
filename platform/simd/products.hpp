// SPDX-License-Identifier: Apache-2.0
// products.hpp: int8 matrix products over the packed layout (16 rows x 4 columns), and the lookup of a row.
#pragma once
#include "platform/simd/lanes.hpp"

namespace heed::simd {

// Where operands are read from.
enum class Source { weights, keys };

template <class Arch, class Dot>
struct Products : Lanes<Arch> {
  using typename Lanes<Arch>::W;
  using typename Lanes<Arch>::F;
  using typename Lanes<Arch>::I;
  using Acc = typename Dot::Acc;
  static constexpr std::uint32_t kLanes = W::kLanes;
  static constexpr std::uint32_t kParts = 16 / kLanes;  // accumulators per panel of 16 rows
  // Panels that are multiplied by all tokens before the next ones, so that their weights stay in a cache.
  static constexpr std::uint32_t kRowBlockPanels = 12;

  template <Source kSource>
  HEED_INLINE static typename Dot::Operand load(const std::int8_t* p, std::uint32_t part) {
    if constexpr (kSource == Source::keys)
      return Dot::load_keys(p, part);
    else
      return Dot::load_weights(p, part);
  }

  // acc[u][p][part][t] += columns of P panels times T vectors; U accumulators per sum hide the latency of small tiles.
  template <std::uint32_t P, std::uint32_t T, std::uint32_t U, Source kSource>
  HEED_INLINE static void multiply(Acc (&acc)[U][P][kParts][T], const std::int8_t* w, std::size_t panel_bytes,
                                   const std::int8_t* x, std::size_t x_stride, std::uint32_t columns) {
    std::uint32_t c = 0;
    for (; c + U * Dot::kColumns <= columns; c += U * Dot::kColumns) {
#pragma GCC unroll 4
      for (std::uint32_t u = 0; u < U; ++u) {
        const std::size_t at = c + u * Dot::kColumns;
        typename Dot::Operand operands[P][kParts];
#pragma GCC unroll 8
        for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
          for (std::uint32_t i = 0; i < kParts; ++i) operands[p][i] = load<kSource>(w + p * panel_bytes + at * 16, i);
#pragma GCC unroll 8
        for (std::uint32_t t = 0; t < T; ++t) {
          const typename Dot::Activation a = Dot::broadcast(x + t * x_stride + at);
#pragma GCC unroll 8
          for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
            for (std::uint32_t i = 0; i < kParts; ++i) Dot::multiply(acc[u][p][i][t], operands[p][i], a);
        }
      }
    }
    // What is left are less than U steps (weights: none, their columns come in eights), or half a step of keys.
    if constexpr (kSource == Source::keys) {
      for (; c + Dot::kColumns <= columns; c += Dot::kColumns) rest<P, T, U, false>(acc, w, panel_bytes, x, x_stride, c);
      if constexpr (Dot::kColumns == 8)
        if (c < columns) rest<P, T, U, true>(acc, w, panel_bytes, x, x_stride, c);
    }
  }

  template <std::uint32_t P, std::uint32_t T, std::uint32_t U, bool kLast>
  HEED_INLINE static void rest(Acc (&acc)[U][P][kParts][T], const std::int8_t* w, std::size_t panel_bytes,
                               const std::int8_t* x, std::size_t x_stride, std::uint32_t c) {
#pragma GCC unroll 8
    for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < kParts; ++i) {
        const std::int8_t* at = w + p * panel_bytes + std::size_t{c} * 16;
        typename Dot::Operand operand;
        if constexpr (kLast)
          operand = Dot::load_last_keys(at, i);
        else
          operand = Dot::load_keys(at, i);
#pragma GCC unroll 8
        for (std::uint32_t t = 0; t < T; ++t) Dot::multiply(acc[0][p][i][t], operand, Dot::broadcast(x + t * x_stride + c));
      }
  }

  // sums[p][part][t] = columns of P panels times T vectors whose activations add up to starts[t].
  template <std::uint32_t P, std::uint32_t T, Source kSource>
  HEED_INLINE static void dots(typename W::S32 (&sums)[P][kParts][T], const std::int8_t* w, std::size_t panel_bytes,
                               const std::int8_t* x, std::size_t x_stride, std::uint32_t columns,
                               const std::int32_t* starts, std::size_t start_stride) {
    constexpr std::uint32_t U = Dot::kColumns == 4 && P * T * kParts <= 2 ? 2 : 1;
    Acc acc[U][P][kParts][T];
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < U; ++u)
#pragma GCC unroll 8
      for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (std::uint32_t i = 0; i < kParts; ++i)
#pragma GCC unroll 8
          for (std::uint32_t t = 0; t < T; ++t)
            acc[u][p][i][t] = Dot::start(Dot::kNeedsSums && u == 0 ? starts[t * start_stride] : 0);
    multiply<P, T, U, kSource>(acc, w, panel_bytes, x, x_stride, columns);
#pragma GCC unroll 8
    for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < kParts; ++i)
#pragma GCC unroll 8
        for (std::uint32_t t = 0; t < T; ++t) {
          I sum = Dot::result(acc[0][p][i][t]);
          if constexpr (U == 2) sum = sum + I(Dot::result(acc[1][p][i][t]));
          sums[p][i][t] = sum;
        }
  }

  // One vector of outputs from their float sums.
  HEED_INLINE static void finish(float* out, F sum, const Tensor& rhs, std::uint32_t row, float lhs_scale,
                                 bool accumulate) {
    F y = sum * (F::load_unaligned(rhs.scales + row) * F(lhs_scale));
    if (rhs.bias) y = y + F::load_unaligned(rhs.bias + row);
    if (accumulate) y = F::load_unaligned(out) + y;
    y.store_unaligned(out);
  }

  template <std::uint32_t P, std::uint32_t T>
  static void tile(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs, std::uint32_t panel,
                   const MatmulRange& range) {
    const std::uint32_t columns = padded_cols(Layout::packed, rhs.cols);
    const std::size_t panel_bytes = std::size_t{columns} * 16;
    const std::int8_t* x = lhs.values + std::size_t{token} * lhs.value_stride;
    typename W::S32 sums[P][kParts][T];
    dots<P, T, Source::weights>(sums, rhs.weights + panel * panel_bytes, panel_bytes, x, lhs.value_stride, columns,
                                lhs.sums + token, 1);
#pragma GCC unroll 8
    for (std::uint32_t t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (std::uint32_t i = 0; i < kParts; ++i) {
          const std::uint32_t row = (panel + p) * 16 + i * kLanes;
          finish(dst + std::size_t{token + t} * range.dst_stride + row, W::to_float(sums[p][i][t]), rhs, row,
                 lhs.scales[token + t], range.accumulate);
        }
  }

  // Sums of groups stay in memory between groups: registers belong to the accumulators.
  template <std::uint32_t P, std::uint32_t T>
  static void grouped_tile(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                           std::uint32_t panel, const MatmulRange& range) {
    const std::uint32_t columns = padded_cols(Layout::packed, rhs.cols);
    const std::size_t panel_bytes = std::size_t{columns} * 16;
    const std::uint32_t groups = lhs.groups;
    const std::int8_t* x = lhs.values + std::size_t{token} * lhs.value_stride;
    const std::int8_t* w = rhs.weights + panel * panel_bytes;
    alignas(64) std::int32_t totals[P][T][16] = {};
    const bool wide = rhs.cols > kGroupedColsInS32;
    std::int64_t wide_totals[P][T][16];
    if (wide) std::memset(wide_totals, 0, sizeof wide_totals);
    for (std::uint32_t g = 0; g < groups; ++g) {
      const std::uint32_t first = g * rhs.group;
      const std::uint32_t width = first + rhs.group <= columns ? rhs.group : columns - first;
      typename W::S32 sums[P][kParts][T];
      dots<P, T, Source::weights>(sums, w + std::size_t{first} * 16, panel_bytes, x + first, lhs.value_stride, width,
                                  lhs.sums + std::size_t{token} * groups + g, groups);
#pragma GCC unroll 8
      for (std::uint32_t p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (std::uint32_t i = 0; i < kParts; ++i) {
          const I multipliers =
              W::widen_u8(rhs.multipliers + (std::size_t{panel + p} * groups + g) * 16 + i * kLanes);
#pragma GCC unroll 8
          for (std::uint32_t t = 0; t < T; ++t) {
            const int exponent = lhs.exponents[std::size_t{token + t} * groups + g];
            std::int32_t* total = totals[p][t] + i * kLanes;
            const I sum = I(W::load(total)) + I(sums[p][i][t]) * I(W::shift_left(multipliers, exponent));
            W::store(total, sum);
          }
        }
      if (wide && (first + rhs.group) % kGroupedColsInS32 == 0) {
        for (std::uint32_t n = 0; n < P * T * 16; ++n) {
          (&wide_totals[0][0][0])[n] += (&totals[0][0][0])[n];
          (&totals[0][0][0])[n] = 0;
        }
      }
    }
    for (std::uint32_t t = 0; t < T; ++t)
      for (std::uint32_t p = 0; p < P; ++p) {
        alignas(64) float converted[16];
        for (std::uint32_t r = 0; wide && r < 16; ++r)
          converted[r] = static_cast<float>(wide_totals[p][t][r] + totals[p][t][r]);
        for (std::uint32_t i = 0; i < kParts; ++i) {
          const std::uint32_t row = (panel + p) * 16 + i * kLanes;
          const F sum = wide ? F::load_unaligned(converted + i * kLanes)
                             : F(W::to_float(W::load(totals[p][t] + i * kLanes)));
          finish(dst + std::size_t{token + t} * range.dst_stride + row, sum, rhs, row, lhs.scales[token + t],
                 range.accumulate);
        }
      }
  }

  template <std::uint32_t P, std::uint32_t T>
  HEED_INLINE static void any_tile(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                                   std::uint32_t panel, const MatmulRange& range) {
    if (lhs.groups)
      grouped_tile<P, T>(dst, lhs, token, rhs, panel, range);
    else
      tile<P, T>(dst, lhs, token, rhs, panel, range);
  }

  // T tokens times the panels [panel, end).
  template <std::uint32_t T>
  static void rows(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs, std::uint32_t panel,
                   std::uint32_t end, const MatmulRange& range) {
    constexpr std::uint32_t P = Dot::panels(T);
    for (; panel + P <= end; panel += P) any_tile<P, T>(dst, lhs, token, rhs, panel, range);
    if constexpr (P > 2)
      for (; panel + 2 <= end; panel += 2) any_tile<2, T>(dst, lhs, token, rhs, panel, range);
    if constexpr (P > 1)
      for (; panel < end; ++panel) any_tile<1, T>(dst, lhs, token, rhs, panel, range);
  }

  // The tokens from `token` on, in tiles of T and then of less.
  template <std::uint32_t T>
  HEED_INLINE static void tokens(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                                 std::uint32_t panel, std::uint32_t end, const MatmulRange& range) {
    for (; token + T <= range.n; token += T) rows<T>(dst, lhs, token, rhs, panel, end, range);
    if constexpr (T > 1)
      if (token < range.n) tokens<T / 2>(dst, lhs, token, rhs, panel, end, range);
  }

  static void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
    const std::uint32_t last = (range.row_end + 15) / 16;
    for (std::uint32_t panel = range.row_begin / 16; panel < last; panel += kRowBlockPanels) {
      const std::uint32_t end = panel + kRowBlockPanels < last ? panel + kRowBlockPanels : last;
      tokens<Dot::kMaxTokens>(dst, lhs, 0, rhs, panel, end, range);
    }
  }

  static void embed_f32_s8c(float* dst, const Tensor& rhs, std::uint32_t row) {
    const std::size_t columns = padded_cols(Layout::packed, rhs.cols);
    const std::int8_t* w = rhs.weights + row / 16 * columns * 16 + row % 16 * 4;
    const F scale(rhs.scales[row]);
    const std::uint32_t width = rhs.group ? rhs.group : rhs.cols;
    const std::uint32_t groups = group_count(rhs.cols, rhs.group);
    for (std::uint32_t first = 0, g = 0; first < rhs.cols; first += width, ++g) {
      const std::uint32_t end = first + width < rhs.cols ? first + width : rhs.cols;
      const I multiplier(rhs.group ? rhs.multipliers[multiplier_index(Layout::packed, groups, row, g)] : 1);
      for (std::uint32_t c = first; c < end; c += kLanes) {
        alignas(64) std::int8_t q[16] = {};
        const std::uint32_t n = end - c < kLanes ? end - c : kLanes;
        for (std::uint32_t i = 0; i < n; i += 4) std::memcpy(q + i, w + std::size_t{c + i} * 16, 4);
        const F y = F(W::to_float(I(W::widen_s8(q)) * multiplier)) * scale;
        Lanes<Arch>::store(dst + c, y, n);
      }
    }
  }
};

}  // namespace heed::simd
