// SPDX-License-Identifier: Apache-2.0
// attend.hpp: attention over one key block for Helium: portable::attend_block with vector loops. A weight of 15 bits
// is split into two signed bytes, 256 * high + low, so that values are multiplied sixteen at a time.
#pragma once
#include "platform/cortex_m/m55/numbers.hpp"
#include "platform/cortex_m/m55/scores.hpp"

namespace heed::helium {

// numerators = snap(numerators * keep + sum * add) for `quads` times four head dimensions, whose values come sixteen
// slots of each after the other; without kKeep there is nothing to keep yet.
struct WeighJob {
  const std::int8_t* values;  //  0
  std::uint32_t bytes;        //  4 of numerators
  std::uint32_t step;         //  8 from behind the keys of a quad of dimensions to the next one
  const std::int8_t* folded;  // 12
  const float* keep;          // 16
  const float* end;           // 20
};

// Queries behind each other, and kGroups times sixteen keys. The weights stay in Q0-Q5, but for two low halves where there are 64 keys.
template <int kGroups, bool kKeep>
__attribute__((noinline)) void weigh_quads(WeighJob& job, float* numerators) {
  register WeighJob* r7 __asm__("r7") = &job;
  register float* r9 __asm__("r9") = numerators;
#define HEED_VALUE(high, low, a, b, acc)     \
  "vldrb.u8 q7, [r3], #16\n\t"               \
  "vmladav" acc ".s8 " a ", " high ", q7\n\t" \
  "vmladav" acc ".s8 " b ", " low ", q7\n\t"
#define HEED_SIXTEEN_KEYS(high, low, acc)                                             \
  HEED_VALUE(high, low, "r0", "r2", acc) HEED_VALUE(high, low, "r4", "r6", acc)       \
  HEED_VALUE(high, low, "r8", "r10", acc) HEED_VALUE(high, low, "r12", "lr", acc)
#define HEED_QUAD \
  HEED_SIXTEEN_KEYS("q0", "q1", "") \
  ".if %c[groups] > 1\n\t" HEED_SIXTEEN_KEYS("q2", "q3", "a") ".endif\n\t" \
  ".if %c[groups] == 3\n\t" HEED_SIXTEEN_KEYS("q4", "q5", "a") ".endif\n\t" \
  ".if %c[groups] == 4\n\t" \
  "vldrb.u8 q6, [r1, #96]\n\t" HEED_SIXTEEN_KEYS("q4", "q6", "a") \
  "vldrb.u8 q6, [r1, #112]\n\t" HEED_SIXTEEN_KEYS("q5", "q6", "a") \
  ".else\n\tadd r3, r1\n\t.endif\n\t" \
  "add r0, r2, r0, lsl #8\n\t" \
  "add r8, r10, r8, lsl #8\n\t" \
  "add r4, r6, r4, lsl #8\n\t" \
  "vmov q6[2], q6[0], r0, r8\n\t" \
  "add r12, lr, r12, lsl #8\n\t" \
  ".if %c[keep]\n\tvldrw.u32 q7, [r9]\n\t.endif\n\t" \
  "vmov q6[3], q6[1], r4, r12\n\t" \
  ".if %c[keep]\n\tvmul.f32 q7, q7, r7\n\t.endif\n\t" \
  "vcvt.f32.s32 q6, q6\n\t" \
  ".if %c[keep]\n\tmov r0, #0x2B800000\n\t.endif\n\t" \
  "vmul.f32 q6, q6, r5\n\t" \
  ".if %c[keep]\n\tvadd.f32 q6, q7, q6\n\t.endif\n\t" \
  "vabs.f32 q7, q6\n\t" \
  ".if %c[keep]\n\tvpt.f32 lt, q7, r0\n\t.else\n\tvpt.f32 lt, q7, r7\n\t.endif\n\t" \
  "vmovt.i32 q6, #0\n\t" \
  "vstrw.32 q6, [r9], #16\n\t"
  __asm__ volatile(
      "push {r7}\n\t"
      "0:\n\t"  // a query
      "ldrd r1, r5, [r7, #12]\n\t"
      "ldrd r3, r11, [r7]\n\t"
      "add r0, r1, #384\n\t"
      "add r2, r5, #4\n\t"
      "strd r0, r2, [r7, #12]\n\t"
      "vldrb.u8 q0, [r1]\n\t"
      "vldrb.u8 q1, [r1, #64]\n\t"
      ".if %c[groups] > 1\n\tvldrb.u8 q2, [r1, #16]\n\tvldrb.u8 q3, [r1, #80]\n\t.endif\n\t"
      ".if %c[groups] > 2\n\tvldrb.u8 q4, [r1, #32]\n\t.endif\n\t"
      ".if %c[groups] == 3\n\tvldrb.u8 q5, [r1, #96]\n\t.endif\n\t"
      ".if %c[groups] == 4\n\tvldrb.u8 q5, [r1, #48]\n\t"
      ".else\n\tldr r1, [r7, #8]\n\t.endif\n\t"
      ".if %c[keep]\n\tldr r7, [r5]\n\t.else\n\tmov r7, #0x2B800000\n\t.endif\n\t"  // 2^-40
      "ldr r5, [r5, #16]\n\t"
      "tst r11, #16\n\t"  // of an odd number of quads the first round does the second half alone
      "add r11, r9\n\t"
      "bne.w 2f\n\t"
      "1:\n\t" HEED_QUAD
      "2:\n\t" HEED_QUAD
      "cmp r9, r11\n\t"
      "bne.w 1b\n\t"
      "ldr r7, [sp]\n\t"
      "ldrd r0, r1, [r7, #16]\n\t"
      "cmp r0, r1\n\t"
      "bne.w 0b\n\t"
      "pop {r7}"
      : "+r"(r7), "+r"(r9)
      : [groups] "i"(kGroups), [keep] "i"(kKeep ? 1 : 0)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r10", "r11", "r12", "lr", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",
        "memory");
#undef HEED_QUAD
#undef HEED_SIXTEEN_KEYS
#undef HEED_VALUE
}

// The dimensions behind the last multiple of four. What is not kept may be anything, as before a query's first block.
__attribute__((noinline)) inline void weigh_rest(float* numerators, const std::int8_t* folded, const KvBlock& block,
                                                 std::uint32_t visible, float keep, float add) {
  for (std::uint32_t d = block.value_dim & ~3u; d < block.value_dim; ++d) {
    const std::int8_t* const v = block.values + d * block.capacity;
    std::int32_t sum = 0;
    for (std::uint32_t k = 0; k < visible; ++k) sum += (folded[k] * 256 + folded[k + kBlockKeys]) * v[k];
    numerators[d] = portable::merge_numerator(bits_of(keep) == 0 ? 0.0f : numerators[d], sum, keep, add);
  }
}

// portable::score_scale of n queries. `scales` times `unit` are finite, so no score is NaN. A shift above 31 needs no limit:
// nothing is left of a distance either way.
inline void set_scales(FourQueries& four, const float* scales, std::uint32_t n, float unit) {
  __asm__ volatile(
      "vctp.32 %[n]\n\t"
      "vpst\n\t"
      "vldrwt.u32 q0, [%[scales]]\n\t"
      "vldrw.u32 q1, [%[four], #128]\n\t"  // exponents of the keys
      "vmul.f32 q0, q0, %[unit]\n\t"
      "vadd.i32 q1, q1, %[bias]\n\t"
      "vldrw.u32 q2, [%[four]]\n\t"  // largest scores
      "vshl.i32 q1, q1, #23\n\t"
      "vcvt.f32.s32 q2, q2\n\t"
      "vmul.f32 q0, q0, q1\n\t"
      "vmul.f32 q1, q0, %[y]\n\t"
      "vmul.f32 q2, q2, q0\n\t"
      "vshl.i32 q0, q1, #9\n\t"  // the mantissa: rounded, with its leading one, saturated in the lower half
      "vshr.u32 q3, q1, #23\n\t"
      "vrshr.u32 q0, q0, #18\n\t"
      "vsub.i32 q3, q3, %[left]\n\t"
      "vqadd.s16 q0, q0, %[one]\n\t"
      "vptt.s32 gt, q3, %[most]\n\t"
      "vmovt.i32 q3, #16\n\t"
      "vmvnt.i16 q0, #0x8000\n\t"
      "vptt.f32 lt, q1, %[smallest]\n\t"
      "vmovt.i32 q0, #0\n\t"
      "vmovt.i32 q2, #0\n\t"
      "vdup.32 q1, %[limit]\n\t"
      "vstrw.32 q0, [%[four], #48]\n\t"
      "vminnm.f32 q2, q2, q1\n\t"
      "vneg.f32 q1, q1\n\t"
      "vstrw.32 q3, [%[four], #16]\n\t"
      "vmaxnm.f32 q2, q2, q1\n\t"
      "vcvtp.s32.f32 q0, q2\n\t"
      "vcvt.f32.s32 q1, q0\n\t"
      "vstrw.32 q0, [%[four], #160]\n\t"
      "vsub.f32 q1, q1, q2\n\t"
      "vmul.f32 q1, q1, %[q10]\n\t"
      "vcvtn.s32.f32 q1, q1\n\t"
      "vadd.i32 q1, q1, %[half]\n\t"
      "vstrw.32 q1, [%[four], #32]"
      :
      : [four] "l"(&four), [scales] "r"(scales), [n] "r"(n), [unit] "r"(bits_of(unit)), [bias] "r"(127),
        [y] "r"(0x4C000000), [left] "r"(125), [one] "r"(1 << 14), [most] "r"(16), [smallest] "r"(bits_of(kSmallest)),
        [limit] "r"(0x49800000), [q10] "r"(0x44800000), [half] "r"(2)
      : "q0", "q1", "q2", "q3", "memory");
}

// portable::largest_seen and portable::set_distances of scores that lie behind each other.
inline std::int32_t largest_seen(const std::int32_t* scores, const portable::Sight& sight) {
  std::int32_t max = INT32_MIN;
  for (std::uint32_t k = sight.hidden; k < sight.visible; k += 4) {
    const mve_pred16_t seen = vctp32q(sight.visible - k);
    max = vmaxvq_p_s32(max, vldrwq_z_s32(scores + k, seen), seen);
  }
  return max;
}

inline std::int32_t set_distances(std::int32_t& max, std::int32_t* scores, const portable::Sight& sight,
                                  const portable::ScoreScale& scale) {
  for (std::uint32_t k = 0; k < sight.hidden; ++k) scores[k] = portable::kHiddenScore;
  const std::int32_t largest = max;
  std::int32_t best = INT32_MIN;
  // Biases lie the other way round.
  const uint32x4_t back = vreinterpretq_u32_s32(vnegq_s32(vreinterpretq_s32_u32(vidupq_n_u32(0, 1))));
  for (std::uint32_t k = sight.hidden; k < sight.visible; k += 4) {
    const mve_pred16_t seen = vctp32q(sight.visible - k);
    int32x4_t d = vshlq_r_s32(vsubq_s32(vdupq_n_s32(largest), vldrwq_z_s32(scores + k, seen)), -scale.shift);
    d = vminq_s32(d, vdupq_n_s32(0xFFFFFF));
    const int32x4_t high = vmulq_n_s32(vshrq_n_s32(d, 16), scale.mantissa);
    const int32x4_t low = vmulq_n_s32(vandq_s32(d, vdupq_n_s32(0xFFFF)), scale.mantissa);
    int32x4_t score = vnegq_s32(vaddq_s32(vaddq_s32(high, high), vrshrq_n_s32(low, 15)));
    if (kBuiltFeatures.score_bias && sight.bias)
      score = vaddq_s32(score, vldrwq_gather_shifted_offset_z_s32(sight.bias - k, back, seen));
    vstrwq_p_s32(scores + k, score, seen);
    best = vmaxvq_p_s32(best, score, seen);
  }
  max = best;
  return -best;
}

// The scales once more for queries of which some do not see all keys alike: their scores become distances.
__attribute__((noinline)) inline void set_distances(FourQueries& four, const BlockQueries& q, std::uint32_t index,
                                                    std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t at = index + i - q.first, run = at / q.per_position;
    const portable::Sight sight = portable::sight_of_differing(q, run, at - run * q.per_position, four.visible[i]);
    if (sight.is_plain()) continue;
    std::int32_t* const scores = four.keys[i].scores;
    const float factor = q.queries.scales[index + i] * q.factor * pow2(four.key_exponent[i]);
    if (sight.hidden) four.max[i] = largest_seen(scores, sight);
    const std::int32_t largest = four.max[i];
    portable::ScoreScale scale = portable::score_scale(largest, factor);
    const std::int32_t lower = set_distances(four.max[i], scores, sight, scale);
    if (kBuiltFeatures.score_bias && sight.bias) portable::move_reference(scale, largest, factor, lower);
    portable::set_distance_scale(scale);
    four.left[i] = 16 - scale.shift;
    four.start[i] = scale.start - 1024;
    four.mantissa[i] = scale.mantissa;
    four.references[i] = scale.reference;
  }
}

// Merges references and denominators of n queries; true if it is the first block of all of them.
inline bool merge_sums(FourQueries& four, std::int32_t* references, float* denominators, std::uint32_t n) {
  std::uint32_t more;
  // 2^exponent, exactly 0 below -30.
#define HEED_POW2(q)              \
  "vadd.i32 " q ", " q ", %[bias]\n\t" \
  "vpt.s32 lt, " q ", %[least]\n\t"    \
  "vmovt.i32 " q ", #0\n\t"            \
  "vshl.i32 " q ", " q ", #23\n\t"
  __asm__ volatile(
      "vctp.32 %[n]\n\t"
      "vpsttt\n\t"
      "vldrwt.u32 q0, [%[references]]\n\t"
      "vldrwt.u32 q1, [%[denominators]]\n\t"
      "vcmpt.i32 ne, q0, %[nothing]\n\t"
      "vldrw.u32 q2, [%[four], #160]\n\t"
      "vmrs %[more], p0\n\t"
      "vmax.s32 q3, q0, q2\n\t"
      "vctp.32 %[n]\n\t"
      "vpst\n\t"
      "vstrwt.32 q3, [%[references]]\n\t"
      "vsub.i32 q0, q0, q3\n\t"
      "vsub.i32 q2, q2, q3\n\t"
      HEED_POW2("q0") HEED_POW2("q2")
      "vldrw.u32 q3, [%[four], #144]\n\t"  // denominators
      "vmul.f32 q1, q1, q0\n\t"
      "vcvt.f32.u32 q3, q3\n\t"
      "vstrw.32 q0, [%[four], #96]\n\t"
      "vmul.f32 q3, q3, q2\n\t"
      "vldrw.u32 q0, [%[four], #80]\n\t"  // exponents of the values
      "vadd.f32 q1, q1, q3\n\t"
      "vadd.i32 q0, q0, %[bias]\n\t"
      "vctp.32 %[n]\n\t"
      "vpst\n\t"
      "vstrwt.32 q1, [%[denominators]]\n\t"
      "vshl.i32 q0, q0, #23\n\t"
      "vmul.f32 q2, q2, q0\n\t"
      "vstrw.32 q2, [%[four], #112]"
      : [more] "=&r"(more)
      : [four] "l"(&four), [references] "r"(references), [denominators] "r"(denominators), [n] "r"(n), [bias] "r"(127),
        [least] "r"(127 - 30), [nothing] "r"(kFreshReference)
      : "q0", "q1", "q2", "q3", "memory");
#undef HEED_POW2
  return more == 0;
}

inline ScoreJob score_job(const KvBlock& block, std::uint32_t stride) {
  ScoreJob job;
  job.keys = block.keys;
  job.mantissas = block.key_mantissas;
  job.exponents = block.key_exponents;
  job.stride = stride;
  return job;
}

// Scores of n queries from x on, which know their keys. kSame: all see the same ones.
template <bool kSame>
__attribute__((always_inline)) inline void score_queries(FourQueries& four, ScoreJob& job, ScorePairs same_pairs,
                                                         ScorePairs next_pairs, const std::int8_t* x, std::uint32_t n,
                                                         const KvBlock& block) {
  const std::uint32_t stride = job.stride;
  std::int32_t* query = four.max;
  std::int32_t* scores = four.keys[0].scores;
  if (same_pairs)
    for (; n >= 2; n -= 2, query += 2, scores += 2 * kKeysWords, x += 2 * stride)
      (kSame || query[16] == query[17] ? same_pairs : next_pairs)(job, query, x, scores);
  for (; n; --n, ++query, scores += kKeysWords, x += stride) {
    const auto keys = static_cast<std::uint32_t>(query[16]);
    job.x = x;
    job.scores = scores;
    job.exponent = query[32];
    job.quads = (keys + 3) / 4;
    job.last = keys + 4 - 4 * job.quads;
    *query = score_keys(job, block);
  }
}

// Weighs the values for n queries from `index` on, whose weights stand ready. kSame: all see `visible` keys.
template <bool kSame>
__attribute__((always_inline)) inline void weigh_values(FourQueries& four, const AttentionSums& sums, std::uint32_t index,
                                                        std::uint32_t n, const KvBlock& block, std::uint32_t visible) {
  using WeighQuads = void (*)(WeighJob&, float*);
  static constexpr WeighQuads kNext[] = {weigh_quads<1, true>, weigh_quads<2, true>, weigh_quads<3, true>,
                                         weigh_quads<4, true>};
  static constexpr WeighQuads kFirst[] = {weigh_quads<1, false>, weigh_quads<2, false>, weigh_quads<3, false>,
                                          weigh_quads<4, false>};
  const WeighQuads* const weigh = merge_sums(four, sums.references + index, sums.denominators + index, n) ? kFirst : kNext;
  float* const numerators = sums.numerators + std::size_t{index} * block.value_dim;
  // Queries whose keys end in the same sixteen.
  const auto weigh_some = [&](std::uint32_t begin, std::uint32_t end, std::uint32_t bytes, std::uint32_t visible) {
    const std::uint32_t groups = (visible - 1) / 16;
    WeighJob job;
    job.values = block.values;
    job.bytes = bytes;
    job.step = 4 * block.capacity - 64 - 64 * groups;
    job.folded = four.keys[begin].folded;
    job.keep = four.keep + begin;
    job.end = four.keep + end;
    weigh[groups](job, numerators + begin * block.value_dim);
  };
  const std::uint32_t bytes = 4 * (block.value_dim & ~3u);
  if (block.value_dim % 4 == 0 && (kSame || (four.visible[0] - 1) / 16 == (four.visible[n - 1] - 1) / 16))
    return weigh_some(0, n, 4 * block.value_dim, kSame ? visible : four.visible[0]);
  for (std::uint32_t i = 0; i < n; ++i) {
    if (bytes) weigh_some(i, i + 1, bytes, four.visible[i]);
    if (block.value_dim % 4)
      weigh_rest(numerators + i * block.value_dim, four.keys[i].folded, block, four.visible[i], four.keep[i], four.add[i]);
  }
}

// All four see `visible` keys.
inline void set_visible(FourQueries& four, const KvBlock& block, std::uint32_t visible) {
  const std::int32_t key = block.key_exponent_maxima[visible - 1], value = block.value_exponent_maxima[visible - 1];
  __asm__ volatile(
      "vdup.32 q0, %[visible]\n\t"
      "vdup.32 q1, %[key]\n\t"
      "vdup.32 q2, %[value]\n\t"
      "vstrw.32 q0, [%[four], #64]\n\t"
      "vstrw.32 q1, [%[four], #128]\n\t"
      "vstrw.32 q2, [%[four], #80]"
      :
      : [four] "l"(&four), [visible] "r"(visible), [key] "r"(key), [value] "r"(value)
      : "q0", "q1", "q2", "memory");
}

// For the tap.
__attribute__((noinline)) inline void weigh_for_tap(FourQueries& four, std::uint32_t visible, std::uint16_t* weights) {
  std::int8_t unfolded[kBlockKeys];
  for (std::int8_t& e : unfolded) e = static_cast<std::int8_t>(four.value_exponent[0]);
  weigh_keys(four, 1, unfolded);
  const std::int8_t* const folded = four.keys[0].folded;
  for (std::uint32_t k = 0; k < visible; ++k)
    weights[k] = static_cast<std::uint16_t>(folded[k] * 256 + folded[k + kBlockKeys]);
}

// Any number of queries, in runs.
__attribute__((noinline)) inline void attend_many(FourQueries& four, const AttentionSums& sums, const BlockQueries& q,
                                                  const KvBlock& block) {
  std::uint32_t visible = q.visible, left_in_run = q.per_position;
  const std::uint32_t end = q.first + q.n, stride = q.queries.value_stride;
  ScoreJob job = score_job(block, stride);
  const ScorePairs same_pairs = score_pairs_of<true>(block.head_dim), next_pairs = score_pairs_of<false>(block.head_dim);
  const std::int8_t* x = q.queries.values + std::size_t{q.first} * stride;
  const bool all_are_plain = portable::all_are_plain(q);
  for (std::uint32_t index = q.first, n; index != end; index += n, x += 4 * stride) {
    n = end - index < 4 ? end - index : 4;
    const std::int8_t *const key_exponents = block.key_exponent_maxima - 1, *const value_exponents = block.value_exponent_maxima - 1;
    if (left_in_run >= n || visible >= q.visible_limit) {
      set_visible(four, block, visible);
      left_in_run -= n;
      if (left_in_run == 0) {
        left_in_run = q.per_position;
        if (visible < q.visible_limit) ++visible;
      }
    } else if (q.per_position == 1 && visible + n <= q.visible_limit) {
      vst1q_u32(four.visible, vidupq_n_u32(visible, 1));
      vst1q_s32(four.key_exponent, vldrbq_s32(key_exponents + visible));
      vst1q_s32(four.value_exponent, vldrbq_s32(value_exponents + visible));
      visible += n;
    } else {
      for (std::uint32_t i = 0; i < n; ++i) {
        four.visible[i] = visible;
        four.key_exponent[i] = key_exponents[visible];
        four.value_exponent[i] = value_exponents[visible];
        if (--left_in_run == 0) {
          left_in_run = q.per_position;
          if (visible < q.visible_limit) ++visible;
        }
      }
    }
    score_queries<false>(four, job, same_pairs, next_pairs, x, n, block);
    set_scales(four, q.queries.scales + index, n, q.factor);
    if (!all_are_plain) set_distances(four, q, index, n);
    weigh_keys(four, n, block.value_exponents);
    weigh_values<false>(four, sums, index, n, block, 0);
  }
}

inline void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                         std::int32_t* reference) {
  FourQueries four;
  if (q.n > 4 || (q.n > q.per_position && q.visible < q.visible_limit)) return attend_many(four, sums, q, block);
  // The queries of one token.
  const std::uint32_t n = q.n, first = q.first, visible = q.visible;
  set_visible(four, block, visible);
  ScoreJob job = score_job(block, q.queries.value_stride);
  const ScorePairs pairs = score_pairs_of<true>(block.head_dim);
  const std::int8_t* const x = q.queries.values + std::size_t{first} * job.stride;
  if (pairs && n % 2 == 0) {  // without a loop
    pairs(job, four.max, x, four.keys[0].scores);
    if (n > 2) pairs(job, four.max + 2, x + 2 * job.stride, four.keys[2].scores);
  } else {
    score_queries<true>(four, job, pairs, pairs, x, n, block);
  }
  set_scales(four, q.queries.scales + first, n, q.factor);
  if (!portable::all_are_plain(q)) set_distances(four, q, first, n);
  if (kBuiltFeatures.pattern_tap && weights) {
    weigh_for_tap(four, visible, weights);
    *reference = four.references[0];
    return;  // the only query of its call
  }
  weigh_keys(four, n, block.value_exponents);
  weigh_values<true>(four, sums, first, n, block, visible);
}

inline void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t value_dim) {
  const std::uint32_t inverse = bits_of(1.0f / denominator);
  if (value_dim == 8) {
    __asm__ volatile(
        "vldrw.u32 q0, [%[src]]\n\t"
        "vldrw.u32 q1, [%[src], #16]\n\t"
        "vmul.f32 q0, q0, %[inverse]\n\t"
        "vmul.f32 q1, q1, %[inverse]\n\t"
        "vstrw.32 q0, [%[dst]]\n\t"
        "vstrw.32 q1, [%[dst], #16]"
        :
        : [dst] "r"(dst), [src] "r"(numerators), [inverse] "r"(inverse)
        : "q0", "q1", "memory");
    return;
  }
  std::uint32_t sixteens = value_dim / 16;
  __asm__ volatile(
      "wls lr, %[sixteens], 2f\n\t"
      "1:\n\t"
      "vldrw.u32 q0, [%[src]], #16\n\t"
      "vldrw.u32 q1, [%[src]], #16\n\t"
      "vmul.f32 q0, q0, %[inverse]\n\t"
      "vldrw.u32 q2, [%[src]], #16\n\t"
      "vmul.f32 q1, q1, %[inverse]\n\t"
      "vldrw.u32 q3, [%[src]], #16\n\t"
      "vmul.f32 q2, q2, %[inverse]\n\t"
      "vstrw.32 q0, [%[dst]], #16\n\t"
      "vmul.f32 q3, q3, %[inverse]\n\t"
      "vstrw.32 q1, [%[dst]], #16\n\t"
      "vstrw.32 q2, [%[dst]], #16\n\t"
      "vstrw.32 q3, [%[dst]], #16\n\t"
      "le lr, 1b\n\t"
      "2:\n\t"
      "ands %[sixteens], %[n], #15\n\t"
      "beq 4f\n\t"
      "dlstp.32 lr, %[sixteens]\n\t"
      "3:\n\t"
      "vldrw.u32 q0, [%[src]], #16\n\t"
      "vmul.f32 q0, q0, %[inverse]\n\t"
      "vstrw.32 q0, [%[dst]], #16\n\t"
      "letp lr, 3b\n\t"
      "4:"
      : [dst] "+r"(dst), [src] "+r"(numerators), [sixteens] "+r"(sixteens)
      : [inverse] "r"(inverse), [n] "r"(value_dim)
      : "lr", "cc", "q0", "q1", "q2", "q3", "memory");
}

}  // namespace heed::helium
