// SPDX-License-Identifier: Apache-2.0
// helium_scores.hpp: scores of one query against a key block, and their softmax, for Helium. Keys lie in column blocks of
// 64, the slots of a block behind each other.
#pragma once
#include <arm_mve.h>

#include "platform/cortex_m/helium_sums.hpp"
#include "platform/portable/attend.hpp"

namespace heed::helium {

// portable::kExp2 backwards, each entry four times: the loop below has minus one minus the exponent in Q10 at hand, and one
// operation that clears bits takes fewer instructions than two that pick them. Costs 1.5 KB, saves 3 % of the softmax.
struct Exp2Table {
  std::uint16_t values[1024];
};
constexpr Exp2Table make_exp2_table() {
  Exp2Table t{};
  for (int i = 0; i < 1024; ++i)
    t.values[1023 - i] = static_cast<std::uint16_t>(2 * ((kExp2High[i >> 6] * kExp2Low[(i >> 2) & 15] + (1 << 14)) >> 15));
  return t;
}
inline constexpr Exp2Table kExp2 = make_exp2_table();

// One query and the visible keys of a block.
struct ScoreJob {
  const std::int8_t* keys;        //  0
  const std::uint8_t* mantissas;  //  4
  const std::int8_t* shifts;      //  8 exponents less the block's
  std::int32_t* scores;           // 12
  const std::int8_t* x;           // 16 the query
  std::uint32_t quads;            // 20 of keys
  std::uint32_t last;             // 24 visible keys of the last quad
  std::int32_t second_max;        // 28 of score_pairs
};

// scores = dot products of rows of 16 * kSteps bytes, or of 8 bytes for kSteps = 0, brought to the block's exponent;
// returns the largest. The maximum of a quad is taken one round later, so that the last one can leave keys out.
template <int kSteps>
__attribute__((noinline)) std::int32_t score_rows(const ScoreJob& job) {
  register const ScoreJob* r7 __asm__("r7") = &job;
  register std::int32_t max __asm__("r0") = INT32_MIN;
#define HEED_ROW(a)                              \
  "vldrb.u8 q4, [r3], #16\n\t"                   \
  ".if %c[steps] > 1\n\tvldrb.u8 q5, [r3], #16\n\t.endif\n\t" \
  "vmladav.s8 " a ", q0, q4\n\t"                 \
  ".if %c[steps] > 2\n\tvldrb.u8 q4, [r3], #16\n\t.endif\n\t" \
  ".if %c[steps] > 1\n\tvmladava.s8 " a ", q1, q5\n\t.endif\n\t" \
  ".if %c[steps] > 3\n\tvldrb.u8 q5, [r3], #16\n\t.endif\n\t" \
  ".if %c[steps] > 2\n\tvmladava.s8 " a ", q2, q4\n\t.endif\n\t" \
  ".if %c[steps] > 3\n\tvmladava.s8 " a ", q3, q5\n\t.endif\n\t"
  __asm__ volatile(
      "vdup.32 q7, r0\n\t"
      "vdup.32 q6, r0\n\t"
      "ldrd r12, lr, [r7, #16]\n\t"
      ".if %c[steps] == 0\n\t"  // the query in the lower and in the upper half
      "ldrd r0, r2, [r12]\n\t"
      "vmov.i32 q1, #0\n\t"
      "vldrb.u8 q0, [r12]\n\t"
      "mov r4, #0\n\t"
      "vmov q1[2], q1[0], r4, r0\n\t"
      "vmov q1[3], q1[1], r4, r2\n\t"
      ".else\n\t"
      "vldrb.u8 q0, [r12], #16\n\t"
      ".if %c[steps] > 1\n\tvldrb.u8 q1, [r12], #16\n\t.endif\n\t"
      ".if %c[steps] > 2\n\tvldrb.u8 q2, [r12], #16\n\t.endif\n\t"
      ".if %c[steps] > 3\n\tvldrb.u8 q3, [r12], #16\n\t.endif\n\t"
      ".endif\n\t"
      "ldrd r3, r1, [r7]\n\t"
      "ldrd r5, r8, [r7, #8]\n\t"
      "ldr r10, [r7, #24]\n\t"
      "dls lr, lr\n\t"
      "1:\n\t"
      "vmax.s32 q7, q7, q6\n\t"
      ".if %c[steps] == 0\n\t"
      "vldrb.u8 q4, [r3], #16\n\t"
      "vmladav.s8 r0, q0, q4\n\t"
      "vldrb.u8 q5, [r3], #16\n\t"
      "vmladav.s8 r2, q1, q4\n\t"
      "vmladav.s8 r4, q0, q5\n\t"
      "vmladav.s8 r6, q1, q5\n\t"
      ".else\n\t" HEED_ROW("r0") HEED_ROW("r2") HEED_ROW("r4") HEED_ROW("r6") ".endif\n\t"
      "vldrb.u32 q4, [r1], #4\n\t"
      "vmov q6[2], q6[0], r0, r4\n\t"
      "vldrb.s32 q5, [r5], #4\n\t"
      "vmov q6[3], q6[1], r2, r6\n\t"
      "vmul.i32 q6, q6, q4\n\t"
      "vshl.s32 q6, q6, q5\n\t"
      "vstrw.32 q6, [r8], #16\n\t"
      "le lr, 1b\n\t"
      "mov r0, #0x80000000\n\t"
      "vctp.32 r10\n\t"
      "vpst\n\t"
      "vmaxt.s32 q7, q7, q6\n\t"
      "vmaxv.s32 r0, q7"
      : "+r"(r7), "+r"(max)
      : [steps] "i"(kSteps)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",
        "memory");
#undef HEED_ROW
  return max;
}

// The same of two queries that lie `stride` bytes apart, of 8, 16 or 32 dimensions; the second's scores stand kBlockKeys
// behind the first's.
template <int kSteps>
__attribute__((noinline)) std::int32_t score_pairs(ScoreJob& job, std::uint32_t stride) {
  register ScoreJob* r7 __asm__("r7") = &job;
  register std::uint32_t r1 __asm__("r1") = stride;
  register std::int32_t max __asm__("r0");
#define HEED_KEY(a, b)                                                                                  \
  ".if %c[steps] == 0\n\tvldrb.u8 q4, [r3], #8\n\t.else\n\tvldrb.u8 q4, [r3], #16\n\t.endif\n\t"       \
  "vmladav.s8 " a ", q0, q4\n\t"                                                                        \
  "vmladav.s8 " b ", q1, q4\n\t"                                                                        \
  ".if %c[steps] == 2\n\t"                                                                              \
  "vldrb.u8 q4, [r3], #16\n\t"                                                                          \
  "vmladava.s8 " a ", q2, q4\n\t"                                                                       \
  "vmladava.s8 " b ", q3, q4\n\t"                                                                       \
  ".endif\n\t"
  __asm__ volatile(
      "ldrd r12, lr, [r7, #16]\n\t"
      "add r1, r12\n\t"
      "vldrb.u8 q0, [r12]\n\t"
      "vldrb.u8 q1, [r1]\n\t"
      ".if %c[steps] == 2\n\t"
      "vldrb.u8 q2, [r12, #16]\n\t"
      "vldrb.u8 q3, [r1, #16]\n\t"
      ".endif\n\t"
      "ldrd r3, r1, [r7]\n\t"
      "ldrd r5, r2, [r7, #8]\n\t"
      "push {r7}\n\t"
      "mov r9, #0x80000000\n\t"
      "mov r11, r9\n\t"
      "vdup.32 q5, r9\n\t"
      "vdup.32 q6, r9\n\t"
      "add lr, r1, lr, lsl #2\n\t"  // behind the last mantissa
      "push {lr}\n\t"
      "mov r7, r2\n\t"
      "1:\n\t"
      "vmaxv.s32 r9, q5\n\t"
      HEED_KEY("r0", "r8") HEED_KEY("r2", "r10") HEED_KEY("r4", "r12") HEED_KEY("r6", "lr")
      "vmaxv.s32 r11, q6\n\t"
      "vldrb.u32 q4, [r1], #4\n\t"
      "vmov q5[2], q5[0], r0, r4\n\t"
      "vmov q5[3], q5[1], r2, r6\n\t"
      "vldrb.s32 q7, [r5], #4\n\t"
      "vmov q6[2], q6[0], r8, r12\n\t"
      "vmov q6[3], q6[1], r10, lr\n\t"
      "vmul.i32 q5, q5, q4\n\t"
      "ldr r0, [sp]\n\t"
      "vmul.i32 q6, q6, q4\n\t"
      "vshl.s32 q5, q5, q7\n\t"
      "cmp r1, r0\n\t"
      "vshl.s32 q6, q6, q7\n\t"
      "vstrw.32 q5, [r7], #16\n\t"
      "vstrw.32 q6, [r7, #240]\n\t"
      "bne 1b\n\t"
      "pop {r0, r7}\n\t"
      "ldr r0, [r7, #24]\n\t"
      "vctp.32 r0\n\t"
      "vpstt\n\t"
      "vmaxvt.s32 r9, q5\n\t"
      "vmaxvt.s32 r11, q6\n\t"
      "str r11, [r7, #28]\n\t"
      "mov r0, r9"
      : "+r"(r7), "=r"(max), "+r"(r1)
      : [steps] "i"(kSteps)
      : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6",
        "q7", "memory");
#undef HEED_KEY
  return max;
}

// Exponents less the block's, for up to kBlockKeys keys, sixteen at a time.
inline void set_shifts(std::int8_t* shifts, const std::int8_t* exponents, std::int32_t exponent, std::uint32_t visible) {
  __asm__ volatile(
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrb.u8 q0, [%[from]], #16\n\t"
      "vsub.i8 q0, q0, %[exponent]\n\t"
      "vstrb.8 q0, [%[to]], #16\n\t"
      "le lr, 1b"
      : [to] "+r"(shifts), [from] "+r"(exponents)
      : [n] "r"((visible + 15) / 16), [exponent] "r"(exponent)
      : "lr", "q0", "memory");
}

// Brings the dot products in job.scores to the block's exponent; returns the largest. Rows of all other widths.
__attribute__((noinline)) inline std::int32_t scale_scores(const ScoreJob& job) {
  std::int32_t* scores = job.scores;
  const std::int8_t* shifts = job.shifts;
  const std::uint8_t* mantissas = job.mantissas;
  register std::int32_t max __asm__("r0") = INT32_MIN;
  __asm__ volatile(
      "vdup.32 q3, %[max]\n\t"
      "dlstp.32 lr, %[n]\n\t"
      "1:\n\t"
      "vldrw.u32 q0, [%[scores]]\n\t"
      "vldrb.u32 q1, [%[mantissas]], #4\n\t"
      "vldrb.s32 q2, [%[shifts]], #4\n\t"
      "vmul.i32 q0, q0, q1\n\t"
      "vshl.s32 q0, q0, q2\n\t"
      "vmax.s32 q3, q3, q0\n\t"
      "vstrw.32 q0, [%[scores]], #16\n\t"
      "letp lr, 1b\n\t"
      "vmaxv.s32 %[max], q3"
      : [max] "+r"(max), [scores] "+r"(scores), [mantissas] "+l"(mantissas), [shifts] "+l"(shifts)
      : [n] "r"(4 * job.quads - 4 + job.last)
      : "lr", "q0", "q1", "q2", "q3", "memory");
  return max;
}

// The scores of the query at job.x; returns the largest.
__attribute__((noinline)) inline std::int32_t score_keys(const ScoreJob& job, const KvBlock& block) {
  const std::uint32_t columns = round_up(block.head_dim, 4), last = (columns - 1) & ~63u, width = columns - last;
  switch (columns) {
    case 8: return score_rows<0>(job);
    case 16: return score_rows<1>(job);
    case 32: return score_rows<2>(job);
    case 48: return score_rows<3>(job);
    case 64: return score_rows<4>(job);
    default: break;
  }
  // Behind a row the zeros of the query meet what follows.
  begin_sums(job.scores, job.keys + std::size_t{last} * block.capacity, job.x + last, round_up(width, 16), width, job.quads);
  for (std::uint32_t c = 0; c < last; c += 64)
    sum_rows<4, false, false>(job.scores, job.keys + std::size_t{c} * block.capacity, job.x + c, job.quads, 0);
  return scale_scores(job);
}

using ScorePairs = std::int32_t (*)(ScoreJob&, std::uint32_t);

// Null for other heads.
inline ScorePairs score_pairs_of(std::uint32_t head_dim) {
  const std::uint32_t columns = round_up(head_dim, 4);
  return columns == 8 ? score_pairs<0> : columns == 16 ? score_pairs<1> : columns == 32 ? score_pairs<2> : nullptr;
}

// What turns scores into weights: portable::ScoreScale in the form of the loop below.
struct WeightJob {
  const std::int32_t* scores;          //  0
  std::int8_t* folded;                 //  4 high bytes of the weights with the values' exponents, low ones kBlockKeys behind
  const std::int8_t* value_exponents;  //  8
  std::int32_t value_exponent;         // 12 of the block
  std::int32_t left;                   // 16 minus ScoreScale::shift, plus 16
  std::int32_t start;                  // 20 ScoreScale::start - 1024
  std::int32_t max;                    // 24
  std::int32_t mantissa;               // 28
  const std::uint16_t* exp2;           // 32
};

// Weights of the visible keys relative to the block (SPEC.md 2.8), zeros behind them up to a multiple of sixteen; returns
// the sum of the unfolded weights. Sixteen keys at a time, the even ones apart from the odd ones.
__attribute__((noinline)) inline std::uint32_t weigh_keys(const WeightJob& job, std::uint32_t visible) {
  register const WeightJob* r7 __asm__("r7") = &job;
  register std::uint32_t sum __asm__("r0") = 0;
  register std::uint32_t n __asm__("lr") = visible;
  // A distance, shifted so that its upper half is what 16 bits hold; the upper halves of two side by side; -1 minus the
  // exponent in Q10, whose upper six bits are minus the shift.
#define HEED_DISTANCES(even, odd)      \
  "vsub.i32 " even ", q6, " even "\n\t" \
  "vsub.i32 " odd ", q6, " odd "\n\t"   \
  "vqshl.s32 " even ", r4\n\t"          \
  "vqshl.s32 " odd ", r4\n\t"           \
  "vsri.32 " odd ", " even ", #16\n\t"  \
  "vqrdmlash.s16 " odd ", q7, r6\n\t"   \
  "vmvn " odd ", " odd "\n\t"           \
  "vshr.s16 " even ", " odd ", #10\n\t" \
  "vbic.i16 " odd ", #0xFC00\n\t"
#define HEED_SIXTEEN_KEYS(even, odd, t)                     \
  "vld40.32 {q0, q1, q2, q3}, [r1]\n\t"                     \
  "vld41.32 {q0, q1, q2, q3}, [r1]\n\t"                     \
  "vld42.32 {q0, q1, q2, q3}, [r1]\n\t"                     \
  "vld43.32 {q0, q1, q2, q3}, [r1]!\n\t"                    \
  HEED_DISTANCES("q0", "q2")                                \
  HEED_DISTANCES("q1", "q3")                                \
  even "vldrh" t ".u16 q4, [r9, q2, uxtw #1]\n\t"           \
  odd "vldrh" t ".u16 q5, [r9, q3, uxtw #1]\n\t"            \
  "vrshl.u16 q4, q4, q0\n\t"                                \
  "vldrb.u8 q0, [r5], #16\n\t"                              \
  "vrshl.u16 q5, q5, q1\n\t"                                \
  "vsub.i8 q0, q0, r8\n\t"                                  \
  "vaddva.u16 r0, q4\n\t"                                   \
  "vshr.u16 q1, q0, #8\n\t"                                 \
  "vaddva.u16 r0, q5\n\t"                                   \
  "vshl.u16 q4, q4, q0\n\t"                                 \
  "vshl.u16 q5, q5, q1\n\t"                                 \
  "vrshrnb.i16 q0, q4, #8\n\t"                              \
  "vrshrnt.i16 q0, q5, #8\n\t"                              \
  "vmovnt.i16 q4, q5\n\t"                                   \
  "vstrb.8 q4, [r3, #64]\n\t"                               \
  "vstrb.8 q0, [r3], #16\n\t"
  __asm__ volatile(
      "ldrd r1, r3, [r7]\n\t"
      "ldrd r5, r8, [r7, #8]\n\t"
      "ldrd r4, r6, [r7, #16]\n\t"
      "ldrd r9, r12, [r7, #24]\n\t"
      "vdup.32 q6, r9\n\t"
      "vdup.16 q7, r12\n\t"
      "ldr r9, [r7, #32]\n\t"
      "and r2, lr, #15\n\t"
      "lsr lr, lr, #4\n\t"
      "wls lr, lr, 2f\n\t"
      "1:\n\t" HEED_SIXTEEN_KEYS("", "", "")
      "le lr, 1b\n\t"
      "2:\n\t"
      "cmp r2, #0\n\t"
      "beq.w 3f\n\t"
      "add r12, r2, #1\n\t"  // the rest: even keys, odd keys
      "lsr r12, r12, #1\n\t"
      "lsr r2, r2, #1\n\t"
      HEED_SIXTEEN_KEYS("vctp.16 r12\n\tvpst\n\t", "vctp.16 r2\n\tvpst\n\t", "t")
      "3:"
      : "+r"(r7), [sum] "+r"(sum), "+r"(n)
      :
      : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r12", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",
        "memory");
#undef HEED_SIXTEEN_KEYS
#undef HEED_DISTANCES
  return sum;
}

}  // namespace heed::helium
