// SPDX-License-Identifier: Apache-2.0
// scores.hpp: scores of the keys of a block on cores with the DSP extension (SPEC.md 2.8), of one query by run_pairs,
// of two that see the same keys together.
#pragma once
#include "platform/cortex_m/m4/products.hpp"

namespace heed::pair {

// Four scores lie together, then how far the values' exponents are below the block's, one byte each.
inline constexpr std::uint32_t kQuadWords = 5;
inline constexpr std::uint32_t kScoreWords = kBlockKeys / 4 * kQuadWords + 4;

constexpr std::uint32_t four_times(std::int8_t exponent) {
  return static_cast<std::uint8_t>(exponent) * 0x01010101u;
}

// The largest of `max` and the first n scores.
__attribute__((noinline)) inline std::int32_t larger(std::int32_t max, const std::int32_t* scores, std::uint32_t n) {
  for (const std::int32_t* const end = scores + n; scores != end; ++scores) max = *scores > max ? *scores : max;
  return max;
}

inline std::uintptr_t between(const void* from, const void* to) {
  return reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
}

// Scores of the visible keys, brought to the block's exponent; returns the largest.
__attribute__((noinline)) inline std::int32_t score_keys(std::int32_t* scores, const Activations& queries,
                                                         std::uint32_t index, const KvBlock& block,
                                                         std::uint32_t visible) {
  const std::uint32_t stride = round_up(block.head_dim, 4), columns = round_up(stride, 8), n = round_up(visible, 4);
  PairJob job;
  job.x = queries.values + std::size_t{index} * queries.value_stride;
  job.segment_end = job.x + 2 * columns;
  job.segment = 0;
  for (std::int32_t& zero : job.zeros) zero = 0;
  job.scales = block.key_mantissas;
  job.dst = scores;
  job.weights = block.keys;
  job.bias = between(block.key_mantissas, block.key_exponents);
  job.more = four_times(block.key_exponent_maxima[visible - 1]);
  job.of_scores.to_value_exponents = between(block.key_mantissas + 4, block.value_exponents);
  job.of_scores.value_exponent = four_times(block.value_exponent_maxima[visible - 1]);
  job.max = INT32_MIN;
  // An odd half block multiplies the zeros behind the query by what follows the keys.
  const std::uint32_t step = stride == columns ? n : 4;
  for (std::uint32_t k = step;; k += step) {
    job.kind = PairJob::scores;
    job.behind = columns > 8 * kPairBlocks;
    job.entry = entry_of(columns);
    std::int32_t* const end = scores + k / 4 * kQuadWords;
    job.dst_end = end;
    run_pairs(job, false);
    job.max = larger(job.max, end - kQuadWords, k == n ? (visible - 1) % 4 + 1 : 4);
    if (k == n) return job.max;
    job.scales = block.key_mantissas + k;
    job.dst = end;
    job.weights += 4 * stride;
  }
}

// What score_two reads. In front of it lie the prepared queries, of both in turn X1, X1, X', X', so that their end is
// its address.
struct TwoQueries {
  std::uintptr_t entry;              //  0 into the loop: by how many blocks, then where
  std::int32_t zeros[8];             //  4
  const std::int8_t* keys;           // 36
  const std::uint32_t* x;            // 40
  const std::uint8_t* key_mantissas; // 44
  std::uintptr_t to_key_exponents, to_value_exponents;  // 48, 52 from the mantissas
  std::uint32_t key_exponent, value_exponent;           // 56, 60 of the block, four times
  std::int32_t* dst;                 // 64
  const std::int32_t* dst_end;       // 68
  std::int32_t max[2];               // 72
  std::uint32_t second_exponents[2]; // 80 as key_exponent and value_exponent, of a second query that sees one key more
};

// Four columns of four keys and two queries: 25 instructions for 32 multiply-adds. Every register is taken.
#define HEED_TWO_BLOCK                                                                                      \
  "ldrd r0, r1, [r12]\n\t"                                                                                  \
  "ldrd r2, r3, [lr], #8\n\t"                                                                               \
  "smlad r4, r0, r2, r4\n\tsmlad r8, r0, r3, r8\n\tsmlad r5, r1, r2, r5\n\tsmlad r9, r1, r3, r9\n\t"        \
  "ldrd r0, r1, [r12, #8]\n\t"                                                                              \
  "smlad r6, r0, r2, r6\n\tsmlad r10, r0, r3, r10\n\tsmlad r7, r1, r2, r7\n\tsmlad r11, r1, r3, r11\n\t"    \
  "ldrd r2, r3, [lr], #8\n\t"                                                                               \
  "sxtb16 r0, r0\n\tsxtb16 r1, r1\n\t"                                                                  \
  "smlad r6, r0, r2, r6\n\tsmlad r10, r0, r3, r10\n\tsmlad r7, r1, r2, r7\n\tsmlad r11, r1, r3, r11\n\t"    \
  "ldrd r0, r1, [r12], #16\n\t"                                                                             \
  "sxtb16 r0, r0\n\tsxtb16 r1, r1\n\t"                                                                  \
  "smlad r4, r0, r2, r4\n\tsmlad r8, r0, r3, r8\n\tsmlad r5, r1, r2, r5\n\tsmlad r9, r1, r3, r9\n\t"
// As many lie behind each other.
inline constexpr std::uint32_t kTwoBlocks = kBuiltFeatures.speed && kBuiltFeatures.unrolled ? 4 : 2;
#define HEED_MAX(max, a) "cmp " a ", " max "\n\tit gt\n\tmovgt " max ", " a "\n\t"

// Scores as run_pairs makes them, of the second query kScoreWords behind the first's. The last four are not in `max`.
// The sums of queries that are apart are the same ones, brought to an exponent of each.
template <bool kApart>
__attribute__((noinline)) inline void score_two(TwoQueries& job) {
  register TwoQueries* r0 __asm__("r0") = &job;
  __asm__ volatile(
      "vmov s15, r0\n\t"
      "mov lr, r0\n\t"
      "ldr r1, [lr]\n\t"
      "adr.w r0, 2f\n\t"
      ".if %c[unrolled]\n\t"
      "movs r2, #100\n\t"  // bytes of a block
      "mla r0, r1, r2, r0\n\t"
      ".else\n\t"
      "cmp r1, #0\n\t"
      "it ne\n\tadrne.w r0, 3f\n\t"
      ".endif\n\t"
      "adds r0, #1\n\t"
      "str r0, [lr]\n\t"
      "b 1f\n\t"
      "0:\n\t"
      "ldrd r0, r1, [lr, #72]\n\t"
      HEED_MAX("r0", "r4") HEED_MAX("r0", "r5") HEED_MAX("r0", "r6") HEED_MAX("r0", "r7")
      HEED_MAX("r1", "r8") HEED_MAX("r1", "r9") HEED_MAX("r1", "r10") HEED_MAX("r1", "r11")
      "strd r0, r1, [lr, #72]\n\t"
      "1:\n\t"  // four keys
      "ldmia.w lr, {r0, r4-r12, lr}\n\t"
      "bx r0\n\t"
      ".balign 4\n\t"
      "2:\n\t" HEED_TWO_BLOCK
      ".if %c[unrolled]\n\t" HEED_TWO_BLOCK HEED_TWO_BLOCK
      ".endif\n\t"
      ".balign 4\n\t"
      "3:\n\t" HEED_TWO_BLOCK
      "vmov r0, s15\n\t"
      "cmp lr, r0\n\t"
      "bne 2b\n\t"
      "str r12, [lr, #36]\n\t"
      "ldrd r0, r1, [lr, #44]\n\t"
      "ldrd r2, r3, [lr, #52]\n\t"
      "ldr r1, [r0, r1]\n\t"
      "ldr r2, [r0, r2]\n\t"
      "ldr r12, [r0], #4\n\t"
      "str r0, [lr, #44]\n\t"
      "usub8 r3, r3, r1\n\t"
      "and r0, r12, #0xFF00FF00\n\t"
      "lsl r12, r12, #8\n\t"
      "and r12, r12, #0xFF00FF00\n\t"
      "smlawb r4, r4, r12, r4\n\tsmlawb r8, r8, r12, r8\n\t"
      "smlawb r5, r5, r0, r5\n\tsmlawb r9, r9, r0, r9\n\t"
      "smlawt r6, r6, r12, r6\n\tsmlawt r10, r10, r12, r10\n\t"
      "smlawt r7, r7, r0, r7\n\tsmlawt r11, r11, r0, r11\n\t"
      ".if %c[apart]\n\t"
      "ldr r0, [lr, #80]\n\t"
      "usub8 r0, r0, r1\n\t"
      "asr r4, r4, r3\n\tlsrs r3, r3, #8\n\tasr r8, r8, r0\n\tlsrs r0, r0, #8\n\t"
      "asr r5, r5, r3\n\tlsrs r3, r3, #8\n\tasr r9, r9, r0\n\tlsrs r0, r0, #8\n\t"
      "asr r6, r6, r3\n\tlsrs r3, r3, #8\n\tasr r10, r10, r0\n\tlsrs r0, r0, #8\n\t"
      "asr r7, r7, r3\n\tasr r11, r11, r0\n\t"
      "ldr r3, [lr, #84]\n\t"
      "usub8 r3, r3, r2\n\t"
      ".else\n\t"
      "asr r4, r4, r3\n\tasr r8, r8, r3\n\tlsrs r3, r3, #8\n\t"
      "asr r5, r5, r3\n\tasr r9, r9, r3\n\tlsrs r3, r3, #8\n\t"
      "asr r6, r6, r3\n\tasr r10, r10, r3\n\tlsrs r3, r3, #8\n\t"
      "asr r7, r7, r3\n\tasr r11, r11, r3\n\t"
      ".endif\n\t"
      "ldr r12, [lr, #60]\n\t"
      "usub8 r12, r12, r2\n\t"
      "ldrd r0, r1, [lr, #64]\n\t"
      "add r2, r0, %[second]\n\t"
      "stmia r0!, {r4-r7, r12}\n\t"
      ".if %c[apart]\n\t"
      "mov r12, r3\n\t"
      ".endif\n\t"
      "stmia r2, {r8-r11, r12}\n\t"
      "str r0, [lr, #64]\n\t"
      "cmp r0, r1\n\t"
      "bne 0b"
      : "+r"(r0)
      : [second] "i"(4 * kScoreWords), [apart] "i"(kApart ? 1 : 0), [unrolled] "i"(kTwoBlocks == 4 ? 1 : 0)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "s15", "cc", "memory");
}
#undef HEED_MAX
#undef HEED_TWO_BLOCK

// Wider heads are taken one query at a time: the prepared queries lie on the stack.
inline constexpr std::uint32_t kTwoHeadDim = 64;

// The largest of `max` and the first n of four scores, n from 0 to 4.
inline std::int32_t larger_of_four(std::int32_t max, const std::int32_t* scores, std::uint32_t n) {
#define HEED_NEXT(i)               \
  "ldr %[s], [%[at], #4 * " #i "]\n\t" \
  "cmp %[n], #" #i "\n\t"        \
  "itt gt\n\t"                   \
  "cmpgt %[s], %[max]\n\t"       \
  "movgt %[max], %[s]\n\t"
  std::int32_t s;
  __asm__(HEED_NEXT(0) HEED_NEXT(1) HEED_NEXT(2) HEED_NEXT(3)
          : [max] "+r"(max), [s] "=&r"(s)
          : [at] "r"(scores), [n] "r"(n), "m"(*reinterpret_cast<const std::int32_t(*)[4]>(scores))
          : "cc");
#undef HEED_NEXT
  return max;
}

// The scores of queries `index` and `index` + 1, of which the second sees the `visible` first keys, the first as many or
// one less; `max` becomes their largest.
__attribute__((noinline)) inline void score_two_queries(std::int32_t* scores, const Activations& queries,
                                                        std::uint32_t index, const KvBlock& block, std::uint32_t visible,
                                                        std::uint32_t first_visible, std::int32_t* max) {
  constexpr bool kUnrolled = kBuiltFeatures.speed && kBuiltFeatures.unrolled;
  struct {
    alignas(8) std::uint32_t x[kTwoHeadDim];
    TwoQueries job;
  } two;
  static_assert(sizeof two.x + sizeof two.job <= sizeof two);
  const std::uint32_t quads = (block.head_dim + 3) / 4, n = round_up(visible, 4);
  std::uint32_t* x = two.x + kTwoHeadDim - 4 * quads;
  TwoQueries& job = two.job;
  job.x = x;
  const std::uint32_t* a = single_row(queries, index).words;
  if constexpr (kUnrolled) {
    const std::uint32_t* b = a + queries.value_stride / 4;
    __asm__ volatile(
        "1:\n\t"
        "ldrd r0, r2, [%[a]], #8\n\t"
        "ldrd r1, r3, [%[b]], #8\n\t"
        "stmia %[x]!, {r0-r3}\n\t"
        "cmp %[x], %[end]\n\t"
        "bne 1b\n\t"
        "movs r0, #0\n\tmovs r1, #0\n\tmovs r2, #0\n\tmovs r3, #0\n\t"
        "add %[x], #4\n\t"
        "stmia %[x]!, {r0-r3}\n\t"
        "stmia %[x]!, {r0-r3}"
        : [a] "+r"(a), [b] "+r"(b), [x] "+r"(x)
        : [end] "r"(two.x + kTwoHeadDim)
        : "r0", "r1", "r2", "r3", "cc", "memory");
  } else {
    for (; x != two.x + kTwoHeadDim; x += 2, ++a) {
      x[0] = *a;
      x[1] = a[queries.value_stride / 4];
    }
    for (std::int32_t& zero : job.zeros) zero = 0;
  }
  job.entry = (0u - quads) % kTwoBlocks;
  job.keys = block.keys;
  job.key_mantissas = block.key_mantissas;
  job.to_key_exponents = between(block.key_mantissas, block.key_exponents);
  job.to_value_exponents = between(block.key_mantissas, block.value_exponents);
  const std::uint32_t first = kUnrolled ? first_visible : visible;
  job.key_exponent = four_times(block.key_exponent_maxima[first - 1]);
  job.value_exponent = four_times(block.value_exponent_maxima[first - 1]);
  job.dst = scores;
  std::int32_t* const last = scores + (n / 4 - 1) * kQuadWords;
  job.dst_end = last + kQuadWords;
  job.max[0] = job.max[1] = INT32_MIN;
  if constexpr (kUnrolled) {
    if (first_visible != visible) {
      job.second_exponents[0] = four_times(block.key_exponent_maxima[visible - 1]);
      job.second_exponents[1] = four_times(block.value_exponent_maxima[visible - 1]);
      score_two<true>(job);
    } else {
      score_two<false>(job);
    }
    max[0] = larger_of_four(job.max[0], last, first_visible + 4 - n);
    max[1] = larger_of_four(job.max[1], last + kScoreWords, visible + 4 - n);
    return;
  }
  score_two<false>(job);
  max[0] = larger(job.max[0], last, (visible - 1) % 4 + 1);
  max[1] = larger(job.max[1], last + kScoreWords, (visible - 1) % 4 + 1);
}

}  // namespace heed::pair
