// SPDX-License-Identifier: Apache-2.0
// products.hpp: int8 matrix products over the packed layout (16 rows x 4 columns), and the lookup of a row.
#pragma once
#include <type_traits>

#include "platform/simd/dot.hpp"

namespace heed::simd {

// A tile is `U` units, each of kLanes rows, times `T` vectors. A panel of 16 rows has kParts units.
template <class Arch, class Dot>
struct Products : Lanes<Arch> {
  using typename Lanes<Arch>::W;
  using typename Lanes<Arch>::F;
  using typename Lanes<Arch>::I;
  using S32 = typename W::S32;
  static constexpr std::uint32_t kLanes = W::kLanes;
  static constexpr std::uint32_t kParts = 16 / kLanes;
  // Panels that are multiplied by all tokens before the next ones, so that their weights stay in a cache; with many tokens
  // those of the largest tile where the next ones are prefetched.
  static constexpr std::uint32_t kRowBlockPanels = 12;
  static constexpr std::uint32_t kTilePanels = (Dot::units(Dot::kMaxTokens) + kParts - 1) / kParts;
  // One token reads weights as fast as they come. From DRAM they come faster in several streams, from a cache in one, and
  // the weights of a model with short rows are few.
  static constexpr std::uint32_t kShortRow = 512;
  // From this many tokens on, and up to this many columns, a policy with an order of its own has a panel in that order.
  static constexpr std::uint32_t kArrangeTokens = 8, kArrangeColumns = 2048;

  // Bytes from the first unit of a tile to unit u. A tile begins at a multiple of U, or of kParts if that is less.
  HEED_INLINE static std::size_t unit_offset(std::uint32_t u, std::size_t panel_bytes) {
    return u / kParts * panel_bytes + u % kParts * kLanes * 4;
  }

  enum class Part { whole, last };

  // While a large tile multiplies, the weights of the next one come closer: one cache line per eight columns. Where all
  // tokens that share a tile are done before it is there, the rest comes when it is needed.
  static constexpr std::uint32_t kLine = 64;
  template <std::uint32_t T, Source kSource>
  static constexpr bool kPrefetches = T >= 4 && kSource == Source::weights && Dot::kPrefetches;

  // body(integral constant) for 0 .. kPieces - 1, because lanes of an instruction are constants.
  template <std::uint32_t kPieces, std::uint32_t kFirst = 0, class Body>
  HEED_INLINE static void for_pieces(Body body) {
    body(std::integral_constant<std::uint32_t, kFirst>{});
    if constexpr (kFirst + 1 < kPieces) for_pieces<kPieces, kFirst + 1>(body);
  }

  // sums[u][t] = columns of U units times T vectors; the activations of vector t add up to what starts[] says.
  template <std::uint32_t U, std::uint32_t T, Source kSource>
  HEED_INLINE static void dots(S32 (&sums)[U][T], const std::int8_t* w, std::size_t panel_bytes, const std::int8_t* x,
                               std::size_t x_stride, std::uint32_t columns, const std::int32_t* starts,
                               std::size_t start_stride, const std::int8_t* ahead = nullptr) {
    using D = typename Dot::template Tile<T>;
    constexpr std::uint32_t kAccs = T / D::kTokens, kPieces = D::kColumns / D::kPieceColumns;
    static_assert(kAccs * D::kTokens == T);
    // Small tiles add to two sets of accumulators in turn, to hide the latency.
    constexpr std::uint32_t kSets = D::kColumns == 4 && U * T <= 2 ? 2 : 1;
    typename D::Acc acc[kSets][U][kAccs];
    typename D::Acc correction[U];
#pragma GCC unroll 8
    for (std::uint32_t u = 0; u < U; ++u) {
      correction[u] = D::start(0);
#pragma GCC unroll 8
      for (std::uint32_t t = 0; t < kAccs; ++t) {
        acc[0][u][t] = D::start(D::kNeedsSums ? starts[t * start_stride] : 0);
        acc[kSets - 1][u][t] = kSets == 1 ? acc[0][u][t] : D::start(0);
      }
    }
    // g++ 12 keeps the accumulators in memory if this fills an array instead.
    const auto load = [&](std::uint32_t u, std::size_t c, bool half) HEED_LAMBDA {
      const std::int8_t* at = w + unit_offset(u, panel_bytes) + c * 16;
      if constexpr (D::kUnits == 1) return D::template load<kSource>(at, half);
    };
    const auto step = [&](std::size_t c, std::uint32_t set, Part part) HEED_LAMBDA {
      if constexpr (kPieces == 1) {
        typename D::Operand operands[U];
#pragma GCC unroll 8
        for (std::uint32_t u = 0; u < U; ++u) {
          operands[u] = load(u, c, false);
          if constexpr (D::kCorrects) D::correct(correction[u], operands[u]);
        }
#pragma GCC unroll 8
        for (std::uint32_t t = 0; t < kAccs; ++t) {
          const typename D::Activation a = D::activation(x + t * D::kTokens * x_stride + c, x_stride);
#pragma GCC unroll 8
          for (std::uint32_t u = 0; u < U; ++u) D::multiply(acc[set][u][t], operands[u], a);
        }
      } else {
        typename D::Activation a[kAccs];
#pragma GCC unroll 8
        for (std::uint32_t t = 0; t < kAccs; ++t) a[t] = D::activation(x + t * D::kTokens * x_stride + c, x_stride);
        for_pieces<kPieces>([&](auto piece) HEED_LAMBDA {
          constexpr std::uint32_t kPiece = decltype(piece)::value;
          const std::size_t column = c + kPiece * D::kPieceColumns;
          if (part == Part::last && column >= columns) return;
          // Keys have their columns in fours.
          const bool half = kSource == Source::keys && D::kPieceColumns == 8 && part == Part::last && column + 8 > columns;
          typename D::Operand operands[U];
          if constexpr (D::kUnits == 1) {
#pragma GCC unroll 8
            for (std::uint32_t u = 0; u < U; ++u) operands[u] = load(u, column, half);
          } else {
            static_assert(U == D::kUnits && U == kParts);
            D::template load_panel<kSource>(operands, w, half);
          }
#pragma GCC unroll 8
          for (std::uint32_t t = 0; t < kAccs; ++t)
#pragma GCC unroll 8
            for (std::uint32_t u = 0; u < U; ++u) D::template multiply<kPiece>(acc[set][u][t], operands[u], a[t]);
        });
      }
    };
    constexpr std::uint32_t kStep = D::kColumns == 4 ? 8 : D::kColumns;
    std::size_t c = 0;
    for (; c + kStep <= columns; c += kStep) {
      if constexpr (kPrefetches<T, kSource>) __builtin_prefetch(ahead + c * (kLine / kStep));
      step(c, 0, Part::whole);
      if constexpr (D::kColumns == 4) step(c + 4, kSets - 1, Part::whole);
    }
    if (kSource == Source::keys || kStep > 8)
      if (c < columns) step(c, 0, Part::last);
#pragma GCC unroll 8
    for (std::uint32_t u = 0; u < U; ++u)
#pragma GCC unroll 8
      for (std::uint32_t t = 0; t < T; ++t) {
        I sum = D::result(acc[0][u][t / D::kTokens], t % D::kTokens);
        if constexpr (kSets == 2) sum = sum + I(D::result(acc[1][u][t], 0));
        if constexpr (D::kCorrects) sum = sum - I(D::result(correction[u], 0));
        sums[u][t] = sum;
      }
  }

  // What a call of matmul_f32_s8r_s8c multiplies. `arranged`, if not null, is the panel that `unit` lies in, in the order
  // of Dot::arrange.
  struct Product {
    float* dst;
    const Activations& lhs;
    const Tensor& rhs;
    const MatmulRange& range;
    std::uint32_t columns;
    std::size_t panel_bytes;
    const std::int8_t* arranged;

    HEED_INLINE const std::int8_t* activations(std::uint32_t token) const {
      return lhs.values + std::size_t{token} * lhs.value_stride;
    }
    template <Source kSource>
    HEED_INLINE const std::int8_t* weights(std::uint32_t unit) const {
      if (kSource == Source::arranged) return arranged;
      return rhs.weights + unit / kParts * panel_bytes + unit % kParts * kLanes * 4;
    }
    // The share of the next tile's weights that the tokens at `token` bring.
    template <std::uint32_t U, std::uint32_t T>
    HEED_INLINE const std::int8_t* ahead(std::uint32_t token, std::uint32_t unit) const {
      constexpr std::uint32_t kBlock = kTilePanels, kTiles = kBlock * kParts / U;
      const std::uint32_t panel = unit / kParts, block = panel - (panel - range.row_begin / 16) % kBlock;
      const std::uint32_t tile = token / T * kTiles + (unit - block * kParts) / U;
      const std::uint32_t share = tile < 2 * kBlock ? tile : 0;  // a share is 8 of the 16 bytes that a column has in a panel
      return rhs.weights + std::size_t{block + kBlock} * panel_bytes + std::size_t{share} * columns * 8;
    }
  };

  // The outputs of a tile from sum(u, t), its sums as floats.
  template <std::uint32_t U, std::uint32_t T, class Sum>
  HEED_INLINE static void finish(const Product& p, std::uint32_t token, std::uint32_t unit, Sum sum) {
    const std::uint32_t row = unit * kLanes, stride = p.range.dst_stride;
    const float* bias = p.rhs.bias ? p.rhs.bias + row : nullptr;
    const bool accumulate = p.range.accumulate;
    float* out = p.dst + std::size_t{token} * stride + row;
    F scales[U];
    float lhs_scales[T];
#pragma GCC unroll 8
    for (std::uint32_t u = 0; u < U; ++u) scales[u] = F::load_unaligned(p.rhs.scales + row + u * kLanes);
#pragma GCC unroll 8
    for (std::uint32_t t = 0; t < T; ++t) lhs_scales[t] = p.lhs.scales[token + t];
#pragma GCC unroll 8
    for (std::uint32_t t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (std::uint32_t u = 0; u < U; ++u) {
        F y = sum(u, t) * (scales[u] * F(lhs_scales[t]));
        if (bias) y = y + F::load_unaligned(bias + u * kLanes);
        float* at = out + std::size_t{t} * stride + u * kLanes;
        if (accumulate) y = F::load_unaligned(at) + y;
        y.store_unaligned(at);
      }
  }

  template <std::uint32_t U, std::uint32_t T, Source kSource>
  static void tile(const Product& p, std::uint32_t token, std::uint32_t unit) {
    S32 sums[U][T];
    dots<U, T, kSource>(sums, p.template weights<kSource>(unit), p.panel_bytes, p.activations(token),
                        p.lhs.value_stride, p.columns, p.lhs.sums + token, 1, p.template ahead<U, T>(token, unit));
    finish<U, T>(p, token, unit,
                 [&](std::uint32_t u, std::uint32_t t) HEED_LAMBDA { return F(W::to_float(sums[u][t])); });
  }

  // The sums of a group, times multiplier and power of two, added to `totals` by add(u, t, product).
  template <std::uint32_t U, std::uint32_t T, Source kSource, class Add>
  HEED_INLINE static void group(const Product& p, std::uint32_t token, std::uint32_t unit, std::uint32_t g,
                                const std::int8_t* ahead, Add add) {
    const Activations& lhs = p.lhs;
    const Tensor& rhs = p.rhs;
    const std::uint32_t first = g * rhs.group;
    const std::uint32_t width = first + rhs.group <= p.columns ? rhs.group : p.columns - first;
    S32 sums[U][T];
    dots<U, T, kSource>(sums, p.template weights<kSource>(unit) + std::size_t{first} * 16, p.panel_bytes,
                        p.activations(token) + first, lhs.value_stride, width,
                        lhs.sums + std::size_t{token} * lhs.groups + g, lhs.groups, ahead + std::size_t{first} * 8);
    I factors[U];
#pragma GCC unroll 8
    for (std::uint32_t u = 0; u < U; ++u) {
      const std::uint32_t panel = (unit + u) / kParts;
      factors[u] = W::widen_u8(rhs.multipliers + (std::size_t{panel} * lhs.groups + g) * 16 + (unit + u) % kParts * kLanes);
    }
#pragma GCC unroll 8
    for (std::uint32_t t = 0; t < T; ++t) {
      const int exponent = lhs.exponents[std::size_t{token + t} * lhs.groups + g];
#pragma GCC unroll 8
      for (std::uint32_t u = 0; u < U; ++u)
        add(u, t, I(W::multiply32(sums[u][t], W::shift_left(factors[u], exponent))));
    }
  }

  // Totals stay in registers between groups.
  template <std::uint32_t U, std::uint32_t T, Source kSource>
  static void grouped_tile_in_registers(const Product& p, std::uint32_t token, std::uint32_t unit) {
    const std::int8_t* ahead = p.template ahead<U, T>(token, unit);
    S32 totals[U][T];
#pragma GCC unroll 8
    for (std::uint32_t u = 0; u < U; ++u)
#pragma GCC unroll 8
      for (std::uint32_t t = 0; t < T; ++t) totals[u][t] = I(0);
    for (std::uint32_t g = 0; g < p.lhs.groups; ++g)
      group<U, T, kSource>(p, token, unit, g, ahead, [&](std::uint32_t u, std::uint32_t t, I product) HEED_LAMBDA {
        totals[u][t] = I(totals[u][t]) + product;
      });
    finish<U, T>(p, token, unit,
                 [&](std::uint32_t u, std::uint32_t t) HEED_LAMBDA { return F(W::to_float(totals[u][t])); });
  }

  // Totals stay in memory between groups: registers belong to the accumulators.
  template <std::uint32_t U, std::uint32_t T, Source kSource>
  static void grouped_tile(const Product& p, std::uint32_t token, std::uint32_t unit) {
    const Tensor& rhs = p.rhs;
    const bool wide = rhs.cols > kGroupedColsInS32;
    constexpr std::uint32_t kTokens = T < Dot::kGroupedTokens ? T : Dot::kGroupedTokens;
    if constexpr (kTokens != 0)
      if (!wide) {
        for (std::uint32_t t = 0; t < T; t += kTokens) grouped_tile_in_registers<U, kTokens, kSource>(p, token + t, unit);
        return;
      }
    const std::int8_t* ahead = p.template ahead<U, T>(token, unit);
    alignas(64) std::int32_t totals[U][T][kLanes];
    std::int64_t wide_totals[U][T][kLanes];
    std::memset(totals, 0, sizeof totals);
    if (wide) std::memset(wide_totals, 0, sizeof wide_totals);
    for (std::uint32_t g = 0; g < p.lhs.groups; ++g) {
      group<U, T, kSource>(p, token, unit, g, ahead, [&](std::uint32_t u, std::uint32_t t, I product) HEED_LAMBDA {
        W::store(totals[u][t], I(W::load(totals[u][t])) + product);
      });
      if (wide && (g + 1) * rhs.group % kGroupedColsInS32 == 0) {
        for (std::uint32_t n = 0; n < U * T * kLanes; ++n) (&wide_totals[0][0][0])[n] += (&totals[0][0][0])[n];
        std::memset(totals, 0, sizeof totals);
      }
    }
    finish<U, T>(p, token, unit, [&](std::uint32_t u, std::uint32_t t) HEED_LAMBDA {
      if (!wide) return F(W::to_float(W::load(totals[u][t])));
      float converted[kLanes];
      for (std::uint32_t r = 0; r < kLanes; ++r)
        converted[r] = static_cast<float>(wide_totals[u][t][r] + totals[u][t][r]);
      return F::load_unaligned(converted);
    });
  }

  // T tokens times the units [unit, end), in tiles of U units and then of less.
  template <std::uint32_t T, std::uint32_t U, Source kSource>
  static void rows(const Product& p, std::uint32_t token, std::uint32_t unit, std::uint32_t end) {
    for (; unit + U <= end; unit += U) {
      if (p.lhs.groups)
        grouped_tile<U, T, kSource>(p, token, unit);
      else
        tile<U, T, kSource>(p, token, unit);
    }
    if constexpr (U > kParts)
      if (unit < end) rows<T, (U + 1) / 2, kSource>(p, token, unit, end);
  }

  // The tokens from `token` on, in tiles of T and then of less.
  template <std::uint32_t T, Source kSource>
  HEED_INLINE static void tokens(const Product& p, std::uint32_t token, std::uint32_t unit, std::uint32_t end) {
    constexpr Source kTileSource = Dot::template Tile<T>::kArranges ? kSource : Source::weights;
    if constexpr (T == 1 && Dot::units_of_short_rows() != Dot::units(1))
      if (p.columns <= kShortRow) {
        if (token < p.range.n) rows<1, Dot::units_of_short_rows(), kTileSource>(p, token, unit, end);
        return;
      }
    for (; token + T <= p.range.n; token += T) rows<T, Dot::units(T), kTileSource>(p, token, unit, end);
    if constexpr (T > 1)
      if (token < p.range.n) tokens<T / 2, kSource>(p, token, unit, end);
  }

  static void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
    const std::uint32_t columns = padded_cols(Layout::packed, rhs.cols), last = (range.row_end + 15) / 16;
    Product p = {dst, lhs, rhs, range, columns, std::size_t{columns} * 16, nullptr};
    std::uint32_t panel = range.row_begin / 16;
    if constexpr (Dot::template Tile<Dot::kMaxTokens>::kArranges)
      if (range.n >= kArrangeTokens && columns <= kArrangeColumns) {
        alignas(64) std::int8_t arranged[16 * kArrangeColumns];
        p.arranged = arranged;
        for (; panel < last; ++panel) {
          const std::int8_t* weights = rhs.weights + panel * p.panel_bytes;
          for (std::uint32_t c = 0; c < columns; c += 8) Dot::arrange(arranged + 16 * c, weights + 16 * c);
          tokens<Dot::kMaxTokens, Source::arranged>(p, 0, panel * kParts, (panel + 1) * kParts);
        }
        return;
      }
    const std::uint32_t block =
        range.n == 1 ? last : Dot::kPrefetches && range.n >= Dot::kMaxTokens ? kTilePanels : kRowBlockPanels;
    for (; panel < last; panel += block) {
      const std::uint32_t end = panel + block < last ? panel + block : last;
      tokens<Dot::kMaxTokens, Source::weights>(p, 0, panel * kParts, end * kParts);
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
        const F y = F(W::to_float(W::multiply32(W::widen_s8(q), multiplier))) * scale;
        Lanes<Arch>::store(dst + c, y, n);
      }
    }
  }
};

}  // namespace heed::simd
