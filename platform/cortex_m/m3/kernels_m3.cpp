// SPDX-License-Identifier: Apache-2.0
// kernels_m3.cpp: the kernel table for ARMv7-M without the DSP extension (Cortex-M3): rows of int8, one multiply and
// add at a time.
#include "runtime/one_rounding.hpp"

#include "platform/target.hpp"
#if defined(HEED_TABLE_CORTEX_M3)
#include "platform/cortex_m/registers.hpp"

#include "platform/cortex_m/attend.hpp"
#include "platform/cortex_m/m3/floats.hpp"
#include "platform/cortex_m/m3/queries.hpp"
#include "platform/cortex_m/m3/row_ends.hpp"
#include "platform/cortex_m/m3/scores.hpp"
#include "platform/cortex_m/matmul.hpp"
#include "platform/cortex_m/rows.hpp"
#include "platform/cortex_m/soft_float.hpp"
#include "platform/portable/products.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

// Prepared activations are s16, as weights of values are, so that one loop multiplies both.
constexpr std::uint32_t kElementBytes = 2;
static_assert(traits::kCortexM3.activation_element_bytes == kElementBytes, "platform/tables.hpp");

struct Conversions : cortex_m::Armv7Loops {
  // By integers: there is no FPU. The power of two leaves at least one bit behind the point; what is 2^40 or more
  // saturates, and goes through the library's floats.
  static std::int32_t to_s16(float x, const BlockFloat& b) {
    if (b.exponent > 40) return heed::to_s16(x, b.to_s16_scale);
    const std::uint32_t u = bits_of(x), mantissa = u << 8 | 0x80000000u;
    const std::int32_t shift = b.exponent + 143 - static_cast<std::int32_t>(u >> 23 & 255);
    std::uint32_t q = mantissa, behind = mantissa, t;
    __asm__(
        "rsb %[t], %[shift], #32\n\t"
        "lsr %[q], %[q], %[shift]\n\t"  // by 17 at least; from 33 on, and for a NaN, all becomes 0
        "lsl %[behind], %[behind], %[t]\n\t"
        "and %[t], %[q], #1\n\t"
        "add %[behind], %[behind], %[t]\n\t"
        "cmp %[behind], #0x80000000\n\t"
        "it hi\n\t"
        "addhi %[q], %[q], #1\n\t"
        "usat %[q], #15, %[q]"
        : [q] "+r"(q), [behind] "+r"(behind), [t] "=&r"(t)
        : [shift] "r"(shift)
        : "cc");
    const std::int32_t sign = static_cast<std::int32_t>(bits_of(x)) >> 31;
    return (static_cast<std::int32_t>(q) ^ sign) - sign;
  }

  // The same in a loop.
  __attribute__((noinline)) static void convert(std::int16_t* to, const float* src, std::uint32_t n,
                                                const BlockFloat& b) {
    if (b.exponent > 40) {
      for (std::uint32_t i = 0; i < n; ++i) to[i] = static_cast<std::int16_t>(to_s16(src[i], b));
      return;
    }
    const float* const end = src + n;
    const std::int32_t base = b.exponent + 143;
    const std::uint32_t half = 0x7FFFFFFF;
    std::uint32_t u, q, t, shift;
// An odd first one enters in the middle. t is what is lost; at a half the carry decides.
#define HEED_CONVERT \
        "ldr %[u], [%[src]], #4\n\t" \
        "ubfx %[shift], %[u], #23, #8\n\t" \
        "lsl %[q], %[u], #8\n\t" \
        "orr %[q], %[q], #0x80000000\n\t" \
        "sub %[shift], %[base], %[shift]\n\t" \
        "rsb %[t], %[shift], #32\n\t" \
        "lsl %[t], %[q], %[t]\n\t" \
        "lsr %[q], %[q], %[shift]\n\t" \
        "lsrs %[shift], %[q], #1\n\t" \
        "adcs %[t], %[t], %[half]\n\t" \
        "adc %[q], %[q], #0\n\t" \
        "usat %[q], #15, %[q]\n\t" \
        "eor %[q], %[q], %[u], asr #31\n\t" \
        "sub %[q], %[q], %[u], asr #31\n\t" \
        "strh %[q], [%[to]], #2\n\t"
    __asm__ volatile(
        "tst %[count], #1\n\t"
        "bne 2f\n\t"
        "1:\n\t" HEED_CONVERT "2:\n\t" HEED_CONVERT
        "cmp %[src], %[end]\n\t"
        "bne 1b"
        : [src] "+&r"(src), [to] "+&r"(to), [u] "=&r"(u), [q] "=&r"(q), [t] "=&r"(t), [shift] "=&r"(shift)
        : [base] "r"(base), [half] "r"(half), [end] "r"(end), [count] "r"(n)
        : "cc", "memory");
#undef HEED_CONVERT
  }

  // s16 to int8 values, in fours; returns the sum of the squares.
  static std::int32_t finish(std::int16_t* row, std::uint32_t n, std::int32_t reciprocal) {
    const std::int16_t* const end = row + n;
    std::int32_t squares = 0, q;
    const std::int32_t half = 1 << 21;
#define HEED_FINISH                                                        \
  "ldrsh %[q], [%[row]]\n\tmla %[q], %[q], %[r], %[half]\n\tasr %[q], %[q], #22\n\t" \
  "strh %[q], [%[row]], #2\n\tmla %[squares], %[q], %[q], %[squares]\n\t"
    __asm__ volatile("1:\n\t" HEED_FINISH HEED_FINISH HEED_FINISH HEED_FINISH "cmp %[row], %[end]\n\tbne 1b"
                     : [row] "+&r"(row), [squares] "+&r"(squares), [q] "=&r"(q)
                     : [r] "r"(reciprocal >> 10), [half] "r"(half), [end] "r"(end)
                     : "cc", "memory");
#undef HEED_FINISH
    return squares;
  }
};
using Rows = cortex_m::Rows<Conversions>;

// One column of four rows: w points at row 0, whose load comes last and advances.
#define HEED_COLUMN                       \
  "ldrsh %[xv], [%[x]], #2\n\t"           \
  "ldrsb %[w1], [%[w], %[s]]\n\t"         \
  "ldrsb %[w2], [%[w], %[s], lsl #1]\n\t" \
  "ldrsb %[w3], [%[w], %[s3]]\n\t"        \
  "ldrsb %[w0], [%[w]], #1\n\t"           \
  "mla %[a1], %[w1], %[xv], %[a1]\n\t"    \
  "mla %[a2], %[w2], %[xv], %[a2]\n\t"    \
  "mla %[a3], %[w3], %[xv], %[a3]\n\t"    \
  "mla %[a0], %[w0], %[xv], %[a0]\n\t"
#define HEED_FOUR_COLUMNS HEED_COLUMN HEED_COLUMN HEED_COLUMN HEED_COLUMN

// sums[i] = dot of row i, `stride` bytes apart, with x; columns is a multiple of 4. An odd four enters in the middle.
__attribute__((noinline)) void dot4(std::int32_t* sums, const std::int8_t* w, std::uint32_t stride, const void* x,
                                    std::uint32_t columns) {
  std::int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, w0, w1, w2, w3 = static_cast<std::int32_t>(columns), xv;
  const void* end = static_cast<const std::int8_t*>(x) + columns * kElementBytes;
  __asm__ volatile("lsrs %[w3], %[w3], #3\n\tbcs 2f\n\t1:\n\t" HEED_FOUR_COLUMNS "2:\n\t" HEED_FOUR_COLUMNS
                   "cmp %[x], %[end]\n\tbne 1b"
                   : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [w] "+r"(w), [x] "+r"(x),
                     [w0] "=&r"(w0), [w1] "=&r"(w1), [w2] "=&r"(w2), [w3] "+r"(w3), [xv] "=&r"(xv)
                   : [s] "r"(stride), [s3] "r"(3 * stride), [end] "r"(end)
                   : "cc", "memory");
  sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}
#undef HEED_FOUR_COLUMNS
#undef HEED_COLUMN

// The cache as rows: keys [slot, round_up(head_dim, 4)], values transposed [value_dim, capacity].
struct Core : cortex_m::Armv7Softmax<0> {
  static constexpr std::uint32_t kSegment = kMaxCols, kElementBytes = heed::kElementBytes, kKeyStep = 4;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return cortex_m::scaled_sum(sum, row_scale, x_scale);
  }
  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::uint32_t stride = padded_cols(Layout::row, rhs.cols);
    heed::dot4(sums, rhs.weights + std::size_t{row} * stride + column, stride, x, columns);
  }
  static void scores(std::int32_t* dst, const Activations& queries, std::uint32_t index, const KvBlock& block,
                     std::uint32_t visible) {
    const std::uint32_t stride = round_up(block.head_dim, 4);
    for (std::uint32_t k = 0; k < visible; k += 4)
      heed::dot4(dst + k, block.keys + std::size_t{k} * stride, stride, portable::activation_row(queries, index),
                 stride);
  }
  template <std::uint32_t kTogether, class Weight>
  static void sum_values(std::int32_t* sums, const Weight* weights, const KvBlock& block, std::uint32_t n,
                         std::uint32_t first, std::uint32_t dims) {
    const std::int8_t* const values = block.values + std::size_t{first} * block.capacity;
    if constexpr (kTogether > 1) {
      cortex_m::weigh_together<kTogether>(sums, weights, values, block.capacity, n, dims);
    } else {
      for (std::uint32_t d = 0, rows; d < dims; d += rows) {
        rows = dims - d >= 4 ? 4 : 1;  // of a rest, one row is read four times
        heed::dot4(sums + d, values + std::size_t{d} * block.capacity, rows == 4 ? block.capacity : 0, weights, n);
      }
    }
  }
  template <std::uint32_t kTogether>
  static void join(float* to, const std::int32_t* sums, std::uint32_t n, const cortex_m::Join& join,
                   std::int32_t exponent) {
    if (join.first)
      cortex_m::first_sums<kTogether>(to, sums, n, join.add + exponent);
    else
      cortex_m::more_sums<kTogether>(to, sums, n, join.keep, join.add + exponent);
  }

  static constexpr bool kTakesTwo = true;
  static constexpr std::uint32_t kPackedWords = cortex_m::kPackedWords;
  template <std::uint32_t kTogether>
  static void scores_together(std::int32_t* scores, const Activations& queries, std::uint32_t index,
                              const KvBlock& block, const std::uint32_t* visible, std::int32_t* packed) {
    const std::uint32_t columns = round_up(block.head_dim, 4), n = visible[kTogether - 1];
    const std::int16_t* const x = cortex_m::s16_row(queries, index);
    constexpr std::uint32_t kColumns = 2 * kPackedWords / kTogether;
    if (columns <= kColumns) {
      cortex_m::pack_queries<kTogether>(packed, x, queries.value_stride / 2, columns);
      return cortex_m::score_together<kTogether, false>(scores, block.keys, columns, packed, n, columns);
    }
    for (std::uint32_t i = 0; i < n * kTogether; ++i) scores[i] = 0;
    for (std::uint32_t c = 0, m; c < columns; c += m) {
      m = columns - c < kColumns ? columns - c : kColumns;
      cortex_m::pack_queries<kTogether>(packed, x + c, queries.value_stride / 2, m);
      cortex_m::score_together<kTogether, true>(scores, block.keys + c, columns, packed, n, m);
    }
  }
  template <std::uint32_t kTogether>
  static void scale_together(std::int32_t* scores, std::int32_t* maxima, const KvBlock& block,
                             const std::uint32_t* visible) {
    for (std::uint32_t i = 0; i < kTogether; i += 2) {
      const std::uint32_t n = visible[i], m = visible[i + 1];
      const std::int32_t exponent = block.key_exponent_maxima[m - 1];
      cortex_m::scale_two<kTogether>(scores + i, maxima + i, block.key_exponents, block.key_mantissas,
                                     block.key_exponent_maxima[n - 1], exponent, n);
      if (m != n) {  // the second sees one key more
        std::int32_t* const score = scores + n * kTogether + i + 1;
        const std::int32_t shift = exponent - block.key_exponents[n];
        *score = *score * block.key_mantissas[n] >> (shift > 31 ? 31 : shift);
        maxima[i + 1] = *score > maxima[i + 1] ? *score : maxima[i + 1];
      }
    }
  }
};

// Longer rows may have sums that are not exact as floats.
constexpr std::uint32_t kShortCols = 1040;

// Four rows at a time of one token.
__attribute__((optimize("O2"))) void multiply_rows(float* out, const Activations& lhs, std::uint32_t token,
                                                   const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(Layout::row, rhs.cols);
  const std::int8_t* const x = lhs.values + std::size_t{token} * lhs.value_stride;
  const std::int8_t* w = rhs.weights + std::size_t{range.row_begin} * cols;
  const cortex_m::TokenScale token_scale = cortex_m::token_scale(lhs.scales[token]);
  const bool more = rhs.bias || range.accumulate;
  const float* scale = rhs.scales + range.row_begin;
  for (const float* const end = rhs.scales + range.row_end; scale != end; w += 4 * cols) {
    std::int32_t sums[4];
    heed::dot4(sums, w, cols, x, cols);
    if (more) {
      float y[4];
      cortex_m::store_rows(y, sums, scale, token_scale);
      cortex_m::store_more(out, 1, y, rhs.bias ? rhs.bias + (scale - rhs.scales) : nullptr, 1, range.accumulate);
    } else {
      cortex_m::store_rows(out, sums, scale, token_scale);
    }
    out += 4;
    scale += 4;
  }
}

// ---- Four tokens at a time -----------------------------------------------------------------------------------------
// Two activations share a word, x = xa + (xb << 16), so that one multiply serves two tokens. Of two products
// p = 32768 + w0 x0 + w1 x1 the upper half is exactly that of the tokens b, and the sum of all p gives that of a.

inline void pack_pair(std::uint32_t& a, std::uint32_t& b) {
  const std::uint32_t even = static_cast<std::uint32_t>(static_cast<std::int16_t>(a)) + (b << 16);
  b = static_cast<std::uint32_t>(static_cast<std::int32_t>(a) >> 16) + (b & 0xFFFF0000u);
  a = even;
}
inline void unpack_pair(std::uint32_t& a, std::uint32_t& b) {
  const std::uint32_t even = a - static_cast<std::uint32_t>(static_cast<std::int16_t>(a));
  const std::uint32_t odd = b - static_cast<std::uint32_t>(static_cast<std::int16_t>(b));
  a = (a & 0xFFFFu) | b << 16;
  b = even >> 16 | (odd & 0xFFFF0000u);
}

// Four vectors in place: row r then holds the pairs (0, 1) and (2, 3) of columns r, r + 4, r + 8 and so on behind
// each other; or back.
template <bool kBack>
__attribute__((noinline, optimize("O2"))) void pack_tokens(std::int8_t* x, std::uint32_t stride) {
  using Word = std::uint32_t __attribute__((may_alias));
  auto* r0 = reinterpret_cast<Word*>(x);
  auto* r1 = r0 + stride / 4;
  auto* r2 = r1 + stride / 4;
  auto* r3 = r2 + stride / 4;
  for (const auto* const end = r1; r0 != end; r0 += 2, r1 += 2, r2 += 2, r3 += 2) {
    std::uint32_t a = r0[0], b = r1[0], c = kBack ? r0[1] : r2[0], d = kBack ? r1[1] : r3[0];
    std::uint32_t e = kBack ? r2[0] : r0[1], f = kBack ? r3[0] : r1[1], g = r2[1], h = r3[1];
    if (kBack) {
      unpack_pair(a, b), unpack_pair(e, f), unpack_pair(c, d), unpack_pair(g, h);
      r0[0] = a, r0[1] = e, r1[0] = b, r1[1] = f, r2[0] = c, r2[1] = g, r3[0] = d, r3[1] = h;
    } else {
      pack_pair(a, b), pack_pair(e, f), pack_pair(c, d), pack_pair(g, h);
      r0[0] = a, r0[1] = c, r1[0] = b, r1[1] = d, r2[0] = e, r2[1] = g, r3[0] = f, r3[1] = h;
    }
  }
}

// sums[i] = dot of one row with token i, whose packed vectors follow each other; `span` is 2 bytes times a multiple of 16
// columns. Weights behind the row meet zeros. A row begins at a multiple of four, so the last two bits of `w` count.
__attribute__((noinline)) void dot_tokens(std::int32_t* sums, const std::int8_t* w, const std::int8_t* x,
                                          std::uint32_t span) {
  std::uint32_t t0 = 0, f0 = 0, t1 = 0, f1 = 0, v;
  const std::int8_t* end = x;
#define HEED_STEP                                                                      \
  "ldmia.w %[at]!, {r0-r3}\n\t"                                                        \
  "ldrsb.w %[v], [%[w]], #4\n\tmla r0, %[v], r0, %[bias]\n\tmla r1, %[v], r1, %[bias]\n\t" \
  "ldrsb.w %[v], [%[w]], #4\n\tmla r0, %[v], r2, r0\n\tmla r1, %[v], r3, r1\n\t"          \
  "add.w %[t0], %[t0], r0\n\tadd.w %[f0], %[f0], r0, asr #16\n\t"                      \
  "add.w %[t1], %[t1], r1\n\tadd.w %[f1], %[f1], r1, asr #16\n\t"
  __asm__ volatile(
      "1:\n\t"
      "add %[end], %[end], %[span]\n\t"
      "tst %[span], #32\n\t"
      "bne 3f\n\t"
      "2:\n\t" HEED_STEP HEED_STEP
      "3:\n\t" HEED_STEP HEED_STEP
      "cmp %[at], %[end]\n\t"
      "bne 2b\n\t"
      "sub %[w], %[w], %[span], lsr #1\n\t"
      "add %[w], %[w], #1\n\t"
      "tst %[w], #3\n\t"
      "bne 1b"
      : [t0] "+&r"(t0), [f0] "+&r"(f0), [t1] "+&r"(t1), [f1] "+&r"(f1), [at] "+&r"(x), [w] "+&r"(w), [v] "=&r"(v),
        [end] "+&r"(end)
      : [bias] "r"(32768), [span] "r"(span)
      : "r0", "r1", "r2", "r3", "cc", "memory");
#undef HEED_STEP
  const std::uint32_t biases = span << 13;  // 32768 for each of the span / 4 words p
  sums[0] = static_cast<std::int32_t>(t0 - biases - (f0 << 16));
  sums[1] = static_cast<std::int32_t>(f0);
  sums[2] = static_cast<std::int32_t>(t1 - biases - (f1 << 16));
  sums[3] = static_cast<std::int32_t>(f1);
}

// Packs the activations while it runs: nobody else may read them.
__attribute__((optimize("O2"))) void multiply_tokens(float* dst, const Activations& lhs, std::uint32_t token,
                                                     const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(Layout::row, rhs.cols);
  std::int8_t* const x = lhs.values + std::size_t{token} * lhs.value_stride;
  const bool more = rhs.bias || range.accumulate;
  cortex_m::TokenScale scales[4];
  for (int i = 0; i < 4; ++i) scales[i] = cortex_m::token_scale(lhs.scales[token + i]);
  const std::uint32_t span = kElementBytes * activation_cols(rhs.cols);
  pack_tokens<false>(x, span);
  const std::int8_t* w = rhs.weights;
  for (std::uint32_t row = 0; row != range.row_end; ++row, w += cols) {
    std::int32_t sums[4];
    dot_tokens(sums, w, x, span);
    float* const out = dst + row;
    if (more) {
      float y[4];
      cortex_m::store_tokens(y, 4, sums, rhs.scales[row], scales);
      cortex_m::store_more(out, range.dst_stride, y, rhs.bias ? rhs.bias + row : nullptr, 0, range.accumulate);
    } else {
      cortex_m::store_tokens(out, 4 * range.dst_stride, sums, rhs.scales[row], scales);
    }
  }
  pack_tokens<true>(x, span);
}

void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  if (group_count(rhs.cols, rhs.group) || padded_cols(Layout::row, rhs.cols) > kShortCols ||
      cortex_m::has_zero_scale(lhs, range.n))
    return cortex_m::matmul<Core>(dst, lhs, rhs, range);
  std::uint32_t t = 0;
  if (!range.shared && range.row_begin == 0 && range.row_end == padded_rows(Layout::row, rhs.rows))
    for (; range.n - t >= 4; t += 4) multiply_tokens(dst + std::size_t{t} * range.dst_stride, lhs, t, rhs, range);
  for (; t < range.n; ++t)
    multiply_rows(dst + std::size_t{t} * range.dst_stride + range.row_begin, lhs, t, rhs, range);
}

__attribute__((optimize("O2"))) void attend_finish(float* dst, const float* numerators, float denominator,
                                                   std::uint32_t value_dim) {
  cortex_m::multiply_sums(dst, numerators, cortex_m::inverse_of(denominator), value_dim);
}

}  // namespace

extern const Kernels kernels_cortex_m3;
const Kernels kernels_cortex_m3 = {
    traits::kCortexM3,
    portable::crc32c,
    portable::embed_from<Layout::row>,
    Rows::quantize_s8r_f32,
    Rows::norm_s8r_f32,
    kNormsToFloats ? portable::norm_f32_f32 : nullptr,
    Rows::gate_s8r_f32,
    matmul_f32_s8r_s8c,
    Rows::query_s8r_f32,
    Rows::store_key_row,
    Rows::store_value_column,
    cortex_m::attend_block<Core>,
    attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed

#endif
