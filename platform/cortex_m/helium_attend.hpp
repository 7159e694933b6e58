// SPDX-License-Identifier: Apache-2.0
// helium_attend.hpp: attention over one key block for Helium: portable::attend_block with vector loops. A weight of 15 bits
// is split into two signed bytes, 256 * high + low, so that values are multiplied sixteen at a time.
#pragma once
#include "platform/cortex_m/helium_numbers.hpp"
#include "platform/cortex_m/helium_scores.hpp"

namespace heed::helium {

// numerators = snap(numerators * keep + sum * add) for `quads` times four head dimensions, whose values come sixteen
// slots of each after the other; without kKeep there is nothing to keep yet. kFull: 64 keys of a whole block, else 1..4
// times sixteen.
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

template <bool kFull, bool kKeep>
__attribute__((noinline)) void weigh_quads(const WeighJob& job) {
  register const WeighJob* r7 __asm__("r7") = &job;
  // The values' pointer stands in the middle of 256 bytes, which the offsets of a load just reach.
#define HEED_VALUE(at, high, low, a)       \
  "vldrb.u8 q2, " at "\n\t"                \
  "vmladav" a ".s8 " high ", q0, q2\n\t"   \
  "vmladav" a ".s8 " low ", q1, q2\n\t"
#define HEED_OFFSET(k, d) "[r3, #" #k " * 64 + " #d " * 16 - 120]"
#define HEED_WEIGHTS(k) "vldrb.u8 q0, [r1, #" #k " * 16]\n\tvldrb.u8 q1, [r1, #" #k " * 16 + 64]\n\t"
#define HEED_SIXTEEN_KEYS(k, a)                                                                       \
  HEED_WEIGHTS(k)                                                                                     \
  HEED_VALUE(HEED_OFFSET(k, 0), "r0", "r2", a) HEED_VALUE(HEED_OFFSET(k, 1), "r4", "r6", a)           \
  HEED_VALUE(HEED_OFFSET(k, 2), "r8", "r10", a) HEED_VALUE(HEED_OFFSET(k, 3), "r12", "lr", a)
#define HEED_NEXT_KEYS(k, a)                                                                          \
  HEED_WEIGHTS(k)                                                                                     \
  HEED_VALUE("[r3], #16", "r0", "r2", a) HEED_VALUE("[r3], #16", "r4", "r6", a)                       \
  HEED_VALUE("[r3], #16", "r8", "r10", a) HEED_VALUE("[r3], #16", "r12", "lr", a)
  __asm__ volatile(
      "ldrd r1, r3, [r7]\n\t"
      "ldrd r9, r11, [r7, #16]\n\t"
      "ldrd r0, r2, [r7, #24]\n\t"
      ".if %c[keep]\n\tvdup.32 q5, r0\n\t.endif\n\t"
      "vdup.32 q6, r2\n\t"
      "mov r0, #0x57000000\n\t"  // 2^-40, doubled
      "vdup.32 q4, r0\n\t"
      "vmov.i32 q7, #0\n\t"
      ".if %c[full]\n\t"
      "1:\n\t" HEED_NEXT_KEYS(0, "") HEED_NEXT_KEYS(1, "a") HEED_NEXT_KEYS(2, "a") HEED_NEXT_KEYS(3, "a")
      ".else\n\t"
      "adds r3, #120\n\t"
      "ldrd r5, r7, [r7, #8]\n\t"
      "1:\n\t" HEED_SIXTEEN_KEYS(0, "")
      ".balign 4\n\t"
      "add pc, r7\n\t"
      "nop\n\t" HEED_SIXTEEN_KEYS(3, "a") HEED_SIXTEEN_KEYS(2, "a") HEED_SIXTEEN_KEYS(1, "a")
      "add r3, r5\n\t"
      ".endif\n\t"
      "add r0, r2, r0, lsl #8\n\t"
      "add r4, r6, r4, lsl #8\n\t"
      "add r8, r10, r8, lsl #8\n\t"
      "add r12, lr, r12, lsl #8\n\t"
      "vmov q0[2], q0[0], r0, r8\n\t"
      "vmov q0[3], q0[1], r4, r12\n\t"
      ".if %c[keep]\n\tvldrw.u32 q1, [r9]\n\t.endif\n\t"
      "vcvt.f32.s32 q0, q0\n\t"
      ".if %c[keep]\n\tvmul.f32 q1, q1, q5\n\t.endif\n\t"
      "vmul.f32 q0, q0, q6\n\t"
      ".if %c[keep]\n\tvadd.f32 q0, q1, q0\n\t.endif\n\t"
      "vshl.i32 q1, q0, #1\n\t"
      "vcmp.u32 cs, q1, q4\n\t"
      "vpsel q0, q0, q7\n\t"
      "vstrw.32 q0, [r9], #16\n\t"
      "cmp r9, r11\n\t"
      "bne.w 1b"
      : "+r"(r7)
      : [full] "i"(kFull ? 1 : 0), [keep] "i"(kKeep ? 1 : 0)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "q0", "q1", "q2", "q4",
        "q5", "q6", "q7", "memory");
#undef HEED_NEXT_KEYS
#undef HEED_SIXTEEN_KEYS
#undef HEED_WEIGHTS
#undef HEED_OFFSET
#undef HEED_VALUE
}

// The dimensions behind the last multiple of four.
__attribute__((noinline)) inline void weigh_rest(float* numerators, const std::int8_t* folded, const KvBlock& block,
                                                 std::uint32_t visible, float keep, float add) {
  for (std::uint32_t d = block.head_dim & ~3u; d < block.head_dim; ++d) {
    const std::int8_t* const v = block.values + d * block.capacity;
    std::int32_t sum = 0;
    for (std::uint32_t k = 0; k < visible; ++k) sum += (folded[k] * 256 + folded[k + kBlockKeys]) * v[k];
    numerators[d] = portable::merge_numerator(numerators[d], sum, keep, add);
  }
}

inline std::int32_t ceiling(float x) {
  float result;
  __asm__("vcvtp.s32.f32 %0, %1" : "=t"(result) : "t"(x));
  return static_cast<std::int32_t>(bits_of(result));
}

inline float clamped(float x, float low, float high) {
  __asm__("vmaxnm.f32 %0, %0, %1\n\tvminnm.f32 %0, %0, %2" : "+t"(x) : "t"(low), "t"(high));
  return x;
}

// portable::score_scale; returns the reference. `factor` is finite, so no score is NaN.
inline std::int32_t set_scale(WeightJob& job, float factor) {
  const float y = factor * 33554432.0f;  // 2^25
  if (__builtin_expect(!(y >= kSmallest), 0)) {
    job.left = 16;
    job.start = 2;
    job.mantissa = 0;
    return 0;
  }
  const float score = clamped(static_cast<float>(job.max) * factor, -1048576.0f, 1048576.0f);
  const std::int32_t reference = ceiling(score);
  job.start = nearest((static_cast<float>(reference) - score) * 1024.0f) + 2;
  const std::uint32_t bits = bits_of(y);
  std::int32_t mantissa = static_cast<std::int32_t>(((bits & 0x7FFFFFu) + 0x800100u) >> 9);
  std::int32_t shift = 141 - static_cast<std::int32_t>(bits >> 23);
  __asm__(
      "cmp %[shift], #0\n\t"
      "it lt\n\t"
      "movwlt %[mantissa], #32768\n\t"
      "usat %[mantissa], #15, %[mantissa]\n\t"
      "usat %[shift], #5, %[shift]"
      : [mantissa] "+r"(mantissa), [shift] "+r"(shift)
      :
      : "cc");
  job.mantissa = mantissa;
  job.left = 16 - shift;
  return reference;
}

// What the reference of a query is before its first block (SPEC.md 2.8); its numerators and denominator are zero.
constexpr std::int32_t kNothingYet = -(1 << 24);

inline float merge_factor(std::int32_t e) {
  return float_of(e < -30 ? 0 : static_cast<std::uint32_t>(e + 127) << 23);
}

inline void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                         std::int32_t* reference) {
  alignas(8) std::int32_t scores[2 * kBlockKeys];
  alignas(8) std::int8_t folded[2 * kBlockKeys], shifts[kBlockKeys];
  ScoreJob score_job;
  score_job.keys = block.keys;
  score_job.mantissas = block.key_mantissas;
  score_job.shifts = shifts;
  score_job.scores = scores;
  const ScorePairs score_two = score_pairs_of(block.head_dim);
  WeightJob weight_job;
  weight_job.folded = folded;
  weight_job.value_exponents = block.value_exponents;
  weight_job.exp2 = kExp2.values;
  WeighJob weigh_job;
  weigh_job.weights = folded;
  weigh_job.values = block.values;
  weigh_job.step = 4 * block.capacity;
  const std::uint32_t quads = block.head_dim & ~3u;
  score_job.x = q.queries.values + std::size_t{q.first} * q.queries.value_stride;
  std::uint32_t visible = q.visible, index = q.first;
  const std::uint32_t end = q.first + q.n;
  while (index != end) {
    // A run of queries that see the same keys.
    const std::uint32_t run_end =
        end - index < q.per_position || visible >= q.visible_limit ? end : index + q.per_position;
    score_job.quads = (visible + 3) / 4;
    score_job.last = visible + 4 - 4 * score_job.quads;
    const std::int32_t key_exponent = block.key_exponent_maxima[visible - 1];
    set_shifts(shifts, block.key_exponents, key_exponent, visible);
    weight_job.value_exponent = block.value_exponent_maxima[visible - 1];
    weigh_job.entry = (3 - (visible - 1) / 16) * kWeighStepBytes;
    const bool full = visible > 48 && block.capacity == kBlockKeys;
    const auto weigh_first = full ? weigh_quads<true, false> : weigh_quads<false, false>;
    const auto weigh_next = full ? weigh_quads<true, true> : weigh_quads<false, true>;
    const float unit = q.factor, key_unit = pow2(key_exponent), value_unit = pow2(weight_job.value_exponent);
    bool scored = false;  // this query, together with the one before it
    for (; index != run_end; ++index, score_job.x += q.queries.value_stride) {
      weight_job.scores = scores;
      if (scored) {
        scored = false;
        weight_job.scores += kBlockKeys;
        weight_job.max = score_job.second_max;
      } else if (score_two && run_end - index >= 2) {
        scored = true;
        weight_job.max = score_two(score_job, q.queries.value_stride);
      } else {
        weight_job.max = score_keys(score_job, block);
      }
      const std::int32_t new_reference = set_scale(weight_job, q.queries.scales[index] * unit * key_unit);
      if (kBuiltFeatures.pattern_tap && weights) {
        std::int8_t unfolded[kBlockKeys];
        for (std::int8_t& e : unfolded) e = static_cast<std::int8_t>(weight_job.value_exponent);
        weight_job.value_exponents = unfolded;
        weigh_keys(weight_job, visible);
        for (std::uint32_t k = 0; k < visible; ++k)
          weights[k] = static_cast<std::uint16_t>(folded[k] * 256 + folded[k + kBlockKeys]);
        *reference = new_reference;
        return;  // the only query of its call
      }
      const std::uint32_t denominator = weigh_keys(weight_job, visible);
      const std::int32_t old_reference = sums.references[index];
      float keep = 0.0f, add = value_unit;
      if (old_reference == kNothingYet) {  // the first block of a query, whatever is in it
        sums.references[index] = new_reference;
        sums.denominators[index] = static_cast<float>(denominator);
      } else {
        const std::int32_t merged = old_reference > new_reference ? old_reference : new_reference;
        keep = merge_factor(old_reference - merged);
        add = merge_factor(new_reference - merged);
        sums.references[index] = merged;
        sums.denominators[index] = sums.denominators[index] * keep + static_cast<float>(denominator) * add;
        add *= value_unit;
      }
      weigh_job.numerators = sums.numerators + std::size_t{index} * block.head_dim;
      weigh_job.end = weigh_job.numerators + quads;
      weigh_job.keep = keep;
      weigh_job.add = add;
      if (quads) (old_reference == kNothingYet ? weigh_first : weigh_next)(weigh_job);
      if (quads != block.head_dim) weigh_rest(weigh_job.numerators, folded, block, visible, keep, add);
    }
    if (visible < q.visible_limit) ++visible;
  }
}

inline void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t head_dim) {
  const std::uint32_t inverse = bits_of(1.0f / denominator);
  std::uint32_t eights = head_dim / 8;
  __asm__ volatile(
      "wls lr, %[eights], 2f\n\t"
      "1:\n\t"
      "vldrw.u32 q0, [%[src]], #16\n\t"
      "vldrw.u32 q1, [%[src]], #16\n\t"
      "vmul.f32 q0, q0, %[inverse]\n\t"
      "vmul.f32 q1, q1, %[inverse]\n\t"
      "vstrw.32 q0, [%[dst]], #16\n\t"
      "vstrw.32 q1, [%[dst]], #16\n\t"
      "le lr, 1b\n\t"
      "2:\n\t"
      "ands %[eights], %[n], #7\n\t"
      "beq 4f\n\t"
      "dlstp.32 lr, %[eights]\n\t"
      "3:\n\t"
      "vldrw.u32 q0, [%[src]], #16\n\t"
      "vmul.f32 q0, q0, %[inverse]\n\t"
      "vstrw.32 q0, [%[dst]], #16\n\t"
      "letp lr, 3b\n\t"
      "4:"
      : [dst] "+r"(dst), [src] "+r"(numerators), [eights] "+r"(eights)
      : [inverse] "r"(inverse), [n] "r"(head_dim)
      : "lr", "cc", "q0", "q1", "memory");
}

}  // namespace heed::helium
