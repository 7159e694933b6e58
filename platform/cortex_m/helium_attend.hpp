// SPDX-License-Identifier: Apache-2.0
// helium_attend.hpp: attention over one key block for Helium: portable::attend_block with vector loops. Keys lie in
// column blocks of 64, the slots of a block behind each other. A weight of 15 bits is split into two signed bytes,
// 256 * high + low, so that values are multiplied sixteen at a time.
#pragma once
#include <arm_mve.h>

#include "platform/cortex_m/helium_products.hpp"
#include "platform/portable/attend.hpp"

namespace heed::helium {

// portable::kExp2 backwards: the loop below has 1023 minus the exponent at hand.
struct Exp2Table {
  std::uint16_t values[256];
};
constexpr Exp2Table make_exp2_table() {
  Exp2Table t{};
  for (int i = 0; i < 256; ++i)
    t.values[255 - i] = static_cast<std::uint16_t>(2 * ((kExp2High[i >> 4] * kExp2Low[i & 15] + (1 << 14)) >> 15));
  return t;
}
inline constexpr Exp2Table kExp2 = make_exp2_table();

// Brings the dot products in `scores` to the block's exponent; returns the largest.
__attribute__((noinline)) inline std::int32_t scale_scores(std::int32_t* scores, const KvBlock& block,
                                                           std::uint32_t visible) {
  const std::int32_t exponent = block.key_exponent_maxima[visible - 1];
  const std::int8_t* exponents = block.key_exponents;
  const std::uint8_t* mantissas = block.key_mantissas;
  register std::int32_t max __asm__("r0") = INT32_MIN;
  __asm__ volatile(
      "vdup.32 q3, %[max]\n\t"
      "dlstp.32 lr, %[n]\n\t"
      "1:\n\t"
      "vldrw.u32 q0, [%[scores]]\n\t"
      "vldrb.u32 q1, [%[mantissas]], #4\n\t"
      "vldrb.s32 q2, [%[exponents]], #4\n\t"
      "vmul.i32 q0, q0, q1\n\t"
      "vsub.i32 q2, q2, %[exponent]\n\t"
      "vshl.s32 q0, q0, q2\n\t"
      "vmax.s32 q3, q3, q0\n\t"
      "vstrw.32 q0, [%[scores]], #16\n\t"
      "letp lr, 1b\n\t"
      "vmaxv.s32 %[max], q3"
      : [max] "+r"(max), [scores] "+r"(scores), [mantissas] "+l"(mantissas), [exponents] "+l"(exponents)
      : [exponent] "r"(exponent), [n] "r"(visible)
      : "lr", "q0", "q1", "q2", "q3", "memory");
  return max;
}

// Weights of the visible keys relative to the block (SPEC.md 2.8) with the values' exponents, their high bytes in
// `folded`, the low ones kBlockKeys behind; returns the sum of the unfolded weights.
__attribute__((noinline)) inline std::uint32_t weigh_keys(std::int8_t* folded, const std::int32_t* scores,
                                                          std::int32_t max, const portable::ScoreScale& scale,
                                                          const std::int8_t* value_exponents,
                                                          std::int32_t value_exponent, std::uint32_t visible) {
  register std::uint32_t sum __asm__("r0") = 0;
  // 1023 - start - product: its upper six bits are minus the shift, at most -32 where it saturates.
#define HEED_EIGHT_KEYS(last)                                        \
  "vld20.32 {q0, q1}, [%[u]]\n\t"                                    \
  "vld21.32 {q0, q1}, [%[u]]!\n\t"                                   \
  "vsub.i32 q0, q6, q0\n\t"                                          \
  "vsub.i32 q1, q6, q1\n\t"                                          \
  "vshl.u32 q0, %[shift]\n\t"                                        \
  "vshl.u32 q1, %[shift]\n\t"                                        \
  "vqmovnb.s32 q2, q0\n\t"                                           \
  "vqmovnt.s32 q2, q1\n\t"                                           \
  "vqrdmulh.s16 q2, q2, %[mantissa]\n\t"                             \
  "vldrb.s16 q5, [%[x]], #8\n\t"                                     \
  "vqsub.s16 q2, q7, q2\n\t"                                         \
  "vshr.s16 q3, q2, #10\n\t"                                         \
  "vshr.u16 q2, q2, #2\n\t"                                          \
  "vbic.i16 q2, #0xFF00\n\t"                                         \
  "vldrh.u16 q4, [%[exp2], q2, uxtw #1]\n\t"                         \
  "vsub.i16 q5, q5, %[ve]\n\t"                                       \
  "vrshl.u16 q4, q4, q3\n\t"                                         \
  ".if " last "\n\tvpst\n\tvaddvat.u16 %[sum], q4\n\t.else\n\tvaddva.u16 %[sum], q4\n\t.endif\n\t" \
  "vshl.u16 q4, q4, q5\n\t"                                          \
  "vrshr.u16 q5, q4, #8\n\t"                                         \
  ".if " last "\n\tvpstt\n\tvstrbt.16 q4, [%[f], #64]\n\tvstrbt.16 q5, [%[f]], #8\n\t"    \
  ".else\n\tvstrb.16 q4, [%[f], #64]\n\tvstrb.16 q5, [%[f]], #8\n\t.endif\n\t"
  __asm__ volatile(
      "vdup.32 q6, %[max]\n\t"
      "vdup.16 q7, %[start]\n\t"
      "lsr lr, %[n], #3\n\t"
      "wls lr, lr, 2f\n\t"
      "1:\n\t" HEED_EIGHT_KEYS("0")
      "le lr, 1b\n\t"
      "2:\n\t"
      "ands lr, %[n], #7\n\t"
      "beq 3f\n\t"
      "vctp.16 lr\n\t" HEED_EIGHT_KEYS("1")
      "3:"
      : [sum] "+r"(sum), [u] "+r"(scores), [f] "+l"(folded), [x] "+l"(value_exponents)
      : [max] "r"(max), [shift] "r"(-scale.shift), [mantissa] "r"(scale.mantissa), [start] "r"(1023 - scale.start),
        [exp2] "r"(kExp2.values), [ve] "r"(value_exponent), [n] "r"(visible)
      : "lr", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "memory");
#undef HEED_EIGHT_KEYS
  return sum;
}

// numerators = snap(numerators * keep + sum * add) for `quads` times four head dimensions, whose values come sixteen
// slots of each after the other. `steps` is 1..4 times sixteen keys.
struct WeighJob {
  const std::int8_t* weights;  //  0 high bytes, low bytes kBlockKeys behind
  const std::int8_t* values;   //  4
  std::uint32_t step;          //  8 bytes of values per quad
  std::uint32_t entry;         // 12 bytes of code to leave out
  float* numerators;           // 16
  float* end;                  // 20
  float keep, add;             // 24, 28
};
constexpr std::uint32_t kWeighStepBytes = 56;

__attribute__((noinline)) inline void weigh_quads(const WeighJob& job) {
  register const WeighJob* r7 __asm__("r7") = &job;
  // The values' pointer stands in the middle of 256 bytes, which the offsets of a load just reach.
#define HEED_VALUE(k, d, high, low, a)                           \
  "vldrb.u8 q2, [r3, #" #k " * 64 + " #d " * 16 - 120]\n\t"     \
  "vmladav" a ".s8 " high ", q0, q2\n\t"                         \
  "vmladav" a ".s8 " low ", q1, q2\n\t"
#define HEED_SIXTEEN_KEYS(k, a)                 \
  "vldrb.u8 q0, [r1, #" #k " * 16]\n\t"        \
  "vldrb.u8 q1, [r1, #" #k " * 16 + 64]\n\t"   \
  HEED_VALUE(k, 0, "r0", "r2", a) HEED_VALUE(k, 1, "r4", "r6", a)  \
  HEED_VALUE(k, 2, "r8", "r10", a) HEED_VALUE(k, 3, "r12", "lr", a)
  __asm__ volatile(
      "ldrd r1, r3, [r7]\n\t"
      "adds r3, #120\n\t"
      "ldrd r9, r11, [r7, #16]\n\t"
      "ldrd r0, r2, [r7, #24]\n\t"
      "vdup.32 q5, r0\n\t"
      "vdup.32 q6, r2\n\t"
      "mov r0, #0x57000000\n\t"  // 2^-40, doubled
      "vdup.32 q4, r0\n\t"
      "vmov.i32 q7, #0\n\t"
      "ldrd r5, r7, [r7, #8]\n\t"
      "1:\n\t" HEED_SIXTEEN_KEYS(0, "")
      ".balign 4\n\t"
      "add pc, r7\n\t"
      "nop\n\t" HEED_SIXTEEN_KEYS(3, "a") HEED_SIXTEEN_KEYS(2, "a") HEED_SIXTEEN_KEYS(1, "a")
      "add r0, r2, r0, lsl #8\n\t"
      "add r4, r6, r4, lsl #8\n\t"
      "add r8, r10, r8, lsl #8\n\t"
      "add r12, lr, r12, lsl #8\n\t"
      "vmov q0[2], q0[0], r0, r8\n\t"
      "vmov q0[3], q0[1], r4, r12\n\t"
      "vldrw.u32 q1, [r9]\n\t"
      "vcvt.f32.s32 q0, q0\n\t"
      "vmul.f32 q1, q1, q5\n\t"
      "vmul.f32 q0, q0, q6\n\t"
      "vadd.f32 q0, q1, q0\n\t"
      "add r3, r5\n\t"
      "vshl.i32 q1, q0, #1\n\t"
      "vcmp.u32 cs, q1, q4\n\t"
      "vpsel q0, q0, q7\n\t"
      "vstrw.32 q0, [r9], #16\n\t"
      "cmp r9, r11\n\t"
      "bne 1b"
      : "+r"(r7)
      :
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "q0", "q1", "q2", "q4",
        "q5", "q6", "q7", "memory");
#undef HEED_SIXTEEN_KEYS
#undef HEED_VALUE
}

// Where byte (slot, d) of a block's values lies: head dimensions in fours, sixteen slots of each; a rest of dimensions
// as rows.
inline std::size_t value_index(const KvBlock& block, std::uint32_t slot, std::uint32_t d) {
  const std::uint32_t quads = block.head_dim & ~3u;
  if (d >= quads) return d * block.capacity + slot;
  return (d & ~3u) * block.capacity + (slot & ~15u) * 4 + (d & 3) * 16 + slot % 16;
}

inline void weigh(float* numerators, const std::int8_t* folded, const KvBlock& block, std::uint32_t visible, float keep,
                  float add) {
  const std::uint32_t steps = (visible + 15) / 16, quads = block.head_dim & ~3u;
  if (quads)
    weigh_quads({folded, block.values, 4 * block.capacity, (4 - steps) * kWeighStepBytes, numerators,
                 numerators + quads, keep, add});
  for (std::uint32_t d = quads; d < block.head_dim; ++d) {
    const std::int8_t* const v = block.values + d * block.capacity;
    std::int32_t sum = 0;
    for (std::uint32_t k = 0; k < visible; ++k) sum += (folded[k] * 256 + folded[k + kBlockKeys]) * v[k];
    numerators[d] = portable::merge_numerator(numerators[d], sum, keep, add);
  }
}

// Dot products of one query with the keys of a block, in fours.
inline void score_keys(std::int32_t* scores, const Activations& queries, std::uint32_t index, const KvBlock& block,
                       std::uint32_t visible) {
  const std::uint32_t columns = round_up(block.head_dim, 4), last = (columns - 1) & ~63u, width = columns - last;
  const std::int8_t* const q = queries.values + std::size_t{index} * queries.value_stride;
  const std::uint32_t quads = (visible + 3) / 4;
  // Behind a row the zeros of the query meet what follows.
  const std::uint32_t padded = round_up(width, 16);
  begin_sums(scores, block.keys + std::size_t{last} * block.capacity, q + last, padded, width, quads);
  for (std::uint32_t c = 0; c < last; c += 64)
    sum_rows<4, false, false>(scores, block.keys + std::size_t{c} * block.capacity, q + c, quads, 0);
}

inline void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                         std::int32_t* reference) {
  std::int32_t scores[kBlockKeys];
  std::int8_t folded[2 * kBlockKeys];
  std::uint32_t visible = q.visible, left_in_run = q.per_position;
  for (std::uint32_t i = 0; i < q.n; ++i) {
    const std::uint32_t index = q.first + i;
    score_keys(scores, q.queries, index, block, visible);
    const std::int32_t max = scale_scores(scores, block, visible);
    const portable::ScoreScale scale = portable::score_scale(
        max, q.queries.scales[index] * q.factor * pow2(block.key_exponent_maxima[visible - 1]));
    const std::int32_t value_exponent = block.value_exponent_maxima[visible - 1];
    if (kBuiltFeatures.pattern_tap && weights) {
      std::int8_t unfolded[kBlockKeys];
      for (std::int8_t& e : unfolded) e = static_cast<std::int8_t>(value_exponent);
      weigh_keys(folded, scores, max, scale, unfolded, value_exponent, visible);
      for (std::uint32_t k = 0; k < visible; ++k)
        weights[k] = static_cast<std::uint16_t>(folded[k] * 256 + folded[k + kBlockKeys]);
      *reference = scale.reference;
    } else {
      // Zeros behind the last visible key, up to a multiple of sixteen.
      std::int8_t* const tail = folded + ((visible - 1) & ~15u);
      vst1q_s8(tail, vdupq_n_s8(0));
      vst1q_s8(tail + kBlockKeys, vdupq_n_s8(0));
      const std::uint32_t denominator =
          weigh_keys(folded, scores, max, scale, block.value_exponents, value_exponent, visible);
      std::int32_t& old_reference = sums.references[index];
      const std::int32_t merged = old_reference > scale.reference ? old_reference : scale.reference;
      const float keep = pow2_or_zero(old_reference - merged);
      const float add = pow2_or_zero(scale.reference - merged);
      old_reference = merged;
      sums.denominators[index] = sums.denominators[index] * keep + static_cast<float>(denominator) * add;
      weigh(sums.numerators + std::size_t{index} * block.head_dim, folded, block, visible, keep,
            add * pow2(value_exponent));
    }
    if (--left_in_run == 0) {
      left_in_run = q.per_position;
      if (visible < q.visible_limit) ++visible;
    }
  }
}

inline void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t head_dim) {
  const std::uint32_t inverse = bits_of(1.0f / denominator);
  __asm__ volatile(
      "dlstp.32 lr, %[n]\n\t"
      "1:\n\t"
      "vldrw.u32 q0, [%[src]], #16\n\t"
      "vmul.f32 q0, q0, %[inverse]\n\t"
      "vstrw.32 q0, [%[dst]], #16\n\t"
      "letp lr, 1b"
      : [dst] "+r"(dst), [src] "+r"(numerators)
      : [inverse] "r"(inverse), [n] "r"(head_dim)
      : "lr", "q0", "memory");
}

}  // namespace heed::helium
