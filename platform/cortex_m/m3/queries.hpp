// SPDX-License-Identifier: Apache-2.0
// queries.hpp: attention of two or four queries together on ARMv7-M without the DSP extension. Two queries share a
// word, x = xa + (xb << 16), as two tokens of a product do (kernels_m3.cpp): of two products p = 32768 + k0 x0 + k1 x1
// the upper half is exactly that of query b, and the sum of all p gives that of a. What belongs to one key lies together:
// score, then weight, of each query.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::cortex_m {

// Words of packed queries; wider heads are taken in parts.
inline constexpr std::uint32_t kPackedWords = 64;

// Columns behind the heads are zeros in the queries.
template <std::uint32_t kTogether>
__attribute__((noinline, optimize("O2"))) void pack_queries(std::int32_t* to, const std::int16_t* x, std::uint32_t stride,
                                                            std::uint32_t columns) {
  for (const std::int16_t* const end = x + columns; x != end; ++x)
    for (std::uint32_t i = 0; i < kTogether; i += 2)
      *to++ = x[i * stride] + x[(i + 1) * stride] * 65536;
}

// scores[k][i] = dot of row k with query i, for n rows; of a part of rows that are `stride` apart it is added. `columns`
// is a multiple of four, and an odd four enters in the middle; bit 16 of the biases tells it.
template <std::uint32_t kTogether, bool kPart>
__attribute__((noinline)) void score_together(std::int32_t* scores, const std::int8_t* keys, std::uint32_t stride,
                                              const std::int32_t* x, std::uint32_t n, std::uint32_t columns) {
  const std::uint32_t skip = stride - columns;
  const std::int32_t *at = x, *const end = x + columns * (kTogether / 2), *const start = x;
  const std::int32_t* const last = scores + n * kTogether;
  const std::uint32_t biases = 0u - columns / 2 * 32768;  // the sums begin here
  std::uint32_t v;
  // Registers in order, because the sums are stored together.
#define HEED_TWO_COLUMNS                                                                                  \
  "ldmia.w %[at]!, {r0-r3}\n\t"                                                                           \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r0, %[v], r0, %[bias]\n\tmla r1, %[v], r1, %[bias]\n\t"                \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r0, %[v], r2, r0\n\tmla r1, %[v], r3, r1\n\t"                          \
  "add.w r4, r4, r0\n\tadd.w r5, r5, r0, asr #16\n\tadd.w r6, r6, r1\n\tadd.w r8, r8, r1, asr #16\n\t"
#define HEED_FOUR_COLUMNS                                                                                 \
  "ldmia.w %[at]!, {r0-r3}\n\t"                                                                           \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r0, %[v], r0, %[bias]\n\t"                                             \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r0, %[v], r1, r0\n\t"                                                  \
  "add.w r4, r4, r0\n\tadd.w r5, r5, r0, asr #16\n\t"                                                     \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r2, %[v], r2, %[bias]\n\t"                                             \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r2, %[v], r3, r2\n\t"                                                  \
  "add.w r4, r4, r2\n\tadd.w r5, r5, r2, asr #16\n\t"
  if constexpr (kTogether == 4) {
    __asm__ volatile(
        "1:\n\t"
        "ldr r4, %[biases]\n\t"
        "mov r6, r4\n\tmov r5, #0\n\tmov r8, #0\n\t"
        "tst r4, #0x10000\n\t"
        "bne 3f\n\t"
        "2:\n\t" HEED_TWO_COLUMNS HEED_TWO_COLUMNS "3:\n\t" HEED_TWO_COLUMNS HEED_TWO_COLUMNS
        "cmp %[at], %[end]\n\t"
        "bne 2b\n\t"
        "sub r4, r4, r5, lsl #16\n\t"
        "sub r6, r6, r8, lsl #16\n\t"
        ".if %c[part]\n\t"
        "ldmia.w %[to], {r0-r3}\n\t"
        "add r4, r4, r0\n\tadd r5, r5, r1\n\tadd r6, r6, r2\n\tadd r8, r8, r3\n\t"
        "ldr %[v], %[skip]\n\tadd %[w], %[w], %[v]\n\t"
        ".endif\n\t"
        "stmia.w %[to]!, {r4-r6, r8}\n\t"
        "ldr %[at], %[start]\n\t"
        "ldr %[v], %[last]\n\t"
        "cmp %[to], %[v]\n\t"
        "bne 1b"
        : [to] "+&r"(scores), [at] "+&r"(at), [w] "+&r"(keys), [v] "=&r"(v)
        : [bias] "r"(32768), [end] "r"(end), [start] "m"(start), [last] "m"(last), [biases] "m"(biases), [skip] "m"(skip), [part] "i"(kPart)
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "cc", "memory");
  } else {
    __asm__ volatile(
        "1:\n\t"
        "mov r4, %[biases]\n\t"
        "mov r5, #0\n\t"
        "tst r4, #0x10000\n\t"
        "bne 3f\n\t"
        "2:\n\t" HEED_FOUR_COLUMNS "3:\n\t" HEED_FOUR_COLUMNS
        "cmp %[at], %[end]\n\t"
        "bne 2b\n\t"
        "sub r4, r4, r5, lsl #16\n\t"
        ".if %c[part]\n\t"
        "ldrd r0, r1, [%[to]]\n\t"
        "add r4, r4, r0\n\tadd r5, r5, r1\n\t"
        "ldr %[v], %[skip]\n\tadd %[w], %[w], %[v]\n\t"
        ".endif\n\t"
        "strd r4, r5, [%[to]], #8\n\t"
        "ldr %[at], %[start]\n\t"
        "cmp %[to], %[last]\n\t"
        "bne 1b"
        : [to] "+&r"(scores), [at] "+&r"(at), [w] "+&r"(keys), [v] "=&r"(v)
        : [bias] "r"(32768), [end] "r"(end), [start] "m"(start), [last] "r"(last), [biases] "r"(biases), [skip] "m"(skip), [part] "i"(kPart)
        : "r0", "r1", "r2", "r3", "r4", "r5", "cc", "memory");
  }
#undef HEED_FOUR_COLUMNS
#undef HEED_TWO_COLUMNS
}

// Brings n scores of two queries to the block's exponent for each; their largest to `max`. An odd first key enters in
// the middle. Register shifts by 32 and more give the sign.
template <std::uint32_t kTogether>
__attribute__((noinline)) void scale_two(std::int32_t* scores, std::int32_t* max, const std::int8_t* exponents,
                                         const std::uint8_t* mantissas, std::int32_t exponent_a, std::int32_t exponent_b,
                                         std::uint32_t n) {
  const std::int32_t* const end = scores + n * kTogether;
  std::int32_t a, b = static_cast<std::int32_t>(n), s, t, max_a = INT32_MIN, max_b = INT32_MIN;
#define HEED_KEY                                                             \
  "ldrd %[a], %[b], [%[at]]\n\t"                                             \
  "ldrb %[t], [%[m]], #1\n\t"                                                \
  "mul %[a], %[a], %[t]\n\tmul %[b], %[b], %[t]\n\t"                         \
  "ldrsb %[t], [%[x]], #1\n\t"                                               \
  "sub %[s], %[ea], %[t]\n\tasr %[a], %[a], %[s]\n\t"                        \
  "sub %[s], %[eb], %[t]\n\tasr %[b], %[b], %[s]\n\t"                        \
  "cmp %[a], %[max_a]\n\tit gt\n\tmovgt %[max_a], %[a]\n\t"                  \
  "cmp %[b], %[max_b]\n\tit gt\n\tmovgt %[max_b], %[b]\n\t"                  \
  "strd %[a], %[b], [%[at]], %[step]\n\t"
  __asm__ volatile("lsrs %[b], %[b], #1\n\tbcs 2f\n\t1:\n\t" HEED_KEY "2:\n\t" HEED_KEY "cmp %[at], %[end]\n\tbne 1b"
                   : [at] "+&r"(scores), [m] "+&r"(mantissas), [x] "+&r"(exponents), [max_a] "+&r"(max_a),
                     [max_b] "+&r"(max_b), [a] "=&r"(a), [b] "+&r"(b), [s] "=&r"(s), [t] "=&r"(t)
                   : [ea] "r"(exponent_a), [eb] "r"(exponent_b), [end] "r"(end), [step] "i"(4 * kTogether)
                   : "cc", "memory");
#undef HEED_KEY
  max[0] = max_a;
  max[1] = max_b;
}

// sums[d][i] = weights of query i times row d of the values, n of each and a multiple of four, for `dims` rows; an odd
// four enters in the middle.
template <std::uint32_t kTogether>
__attribute__((noinline)) void weigh_together(std::int32_t* sums, const std::int32_t* weights, const std::int8_t* values,
                                              std::uint32_t capacity, std::uint32_t n, std::uint32_t dims) {
  const std::int32_t *at = weights, *const end = weights + n * kTogether, *const start = weights;
  const std::int32_t* const last = sums + dims * kTogether;
  const std::uint32_t behind = capacity - n;  // capacity is a multiple of 16
  std::int32_t v;
#define HEED_KEY_OF_FOUR            \
  "ldmia.w %[at]!, {r0-r3}\n\t"     \
  "ldrsb.w %[v], [%[w]], #1\n\t"    \
  "mla r4, %[v], r0, r4\n\tmla r5, %[v], r1, r5\n\tmla r6, %[v], r2, r6\n\tmla r8, %[v], r3, r8\n\t"
#define HEED_FOUR_KEYS HEED_KEY_OF_FOUR HEED_KEY_OF_FOUR HEED_KEY_OF_FOUR HEED_KEY_OF_FOUR
#define HEED_TWO_KEYS                                                                                \
  "ldmia.w %[at]!, {r0-r3}\n\t"                                                                      \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r4, %[v], r0, r4\n\tmla r5, %[v], r1, r5\n\t"                     \
  "ldrsb.w %[v], [%[w]], #1\n\tmla r4, %[v], r2, r4\n\tmla r5, %[v], r3, r5\n\t"
#define HEED_FOUR_KEYS_OF_TWO HEED_TWO_KEYS HEED_TWO_KEYS
  if constexpr (kTogether == 4) {
    __asm__ volatile(
        "1:\n\t"
        "mov r4, #0\n\tmov r5, #0\n\tmov r6, #0\n\tmov r8, #0\n\t"
        "tst %[behind], #4\n\t"
        "bne 3f\n\t"
        "2:\n\t" HEED_FOUR_KEYS "3:\n\t" HEED_FOUR_KEYS
        "cmp %[at], %[end]\n\t"
        "bne 2b\n\t"
        "stmia.w %[to]!, {r4-r6, r8}\n\t"
        "add %[w], %[w], %[behind]\n\t"
        "ldr %[at], %[start]\n\t"
        "ldr %[v], %[last]\n\t"
        "cmp %[to], %[v]\n\t"
        "bne 1b"
        : [to] "+&r"(sums), [at] "+&r"(at), [w] "+&r"(values), [v] "=&r"(v)
        : [end] "r"(end), [behind] "r"(behind), [start] "m"(start), [last] "m"(last)
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "cc", "memory");
  } else {
    __asm__ volatile(
        "1:\n\t"
        "mov r4, #0\n\tmov r5, #0\n\t"
        "tst %[behind], #4\n\t"
        "bne 3f\n\t"
        "2:\n\t" HEED_FOUR_KEYS_OF_TWO "3:\n\t" HEED_FOUR_KEYS_OF_TWO
        "cmp %[at], %[end]\n\t"
        "bne 2b\n\t"
        "strd r4, r5, [%[to]], #8\n\t"
        "add %[w], %[w], %[behind]\n\t"
        "ldr %[at], %[start]\n\t"
        "cmp %[to], %[last]\n\t"
        "bne 1b"
        : [to] "+&r"(sums), [at] "+&r"(at), [w] "+&r"(values), [v] "=&r"(v)
        : [end] "r"(end), [behind] "r"(behind), [start] "m"(start), [last] "r"(last)
        : "r0", "r1", "r2", "r3", "r4", "r5", "cc", "memory");
  }
#undef HEED_FOUR_KEYS_OF_TWO
#undef HEED_TWO_KEYS
#undef HEED_FOUR_KEYS
#undef HEED_KEY_OF_FOUR
}

}  // namespace heed::cortex_m
