// SPDX-License-Identifier: Apache-2.0
// scores.hpp: scores of one query against a key block, and their softmax, for Helium. Keys lie in column blocks of
// 64, the slots of a block behind each other.
#pragma once
#include <arm_mve.h>

#include <cstddef>

#include "platform/cortex_m/m55/sums.hpp"
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
  const std::int8_t* exponents;   //  8
  std::int32_t* scores;           // 12
  const std::int8_t* x;           // 16 the query
  std::uint32_t quads;            // 20 of keys
  std::uint32_t last;             // 24 visible keys of the last quad
  std::int32_t exponent;          // 28 of the block
  std::uint32_t stride;           // 32 bytes from query to query
};

// Queries that meet a block side by side, and what turns their scores into weights: portable::ScoreScale in the form of the
// loops below, which know these offsets.
struct FourQueries {
  std::int32_t max[4];             //   0
  std::int32_t left[4];            //  16 minus ScoreScale::shift, plus 16
  std::int32_t start[4];           //  32 ScoreScale::start - 1024
  std::int32_t mantissa[4];        //  48
  std::uint32_t visible[4];        //  64
  std::int32_t value_exponent[4];  //  80 of the block
  float keep[4];                   //  96 what becomes of the numerators so far,
  float add[4];                    // 112 and of the new ones
  std::int32_t key_exponent[4];    // 128 of the block
  std::uint32_t denominators[4];   // 144
  std::int32_t references[4];      // 160
  struct Keys {
    std::int32_t scores[kBlockKeys];
    std::int8_t folded[2 * kBlockKeys];  // high bytes of the weights with the values' exponents, low ones kBlockKeys behind
  } keys[4];
};
constexpr std::uint32_t kKeysWords = sizeof(FourQueries::Keys) / 4;
static_assert(sizeof(FourQueries::Keys) == 384 && offsetof(FourQueries, keys) == 176, "the loops know");

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
      "ldrd r10, r12, [r7, #24]\n\t"
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
      "vldrb.s32 q5, [r5], #4\n\t"
      "vmov q6[2], q6[0], r0, r4\n\t"
      "vldrb.u32 q4, [r1], #4\n\t"
      "vsub.i32 q5, q5, r12\n\t"
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

// The same of two queries of 8, 16 or 32 dimensions, `query` and the one behind it. kSame: they see the same keys; else the
// second sees one more.
template <int kSteps, bool kSame>
__attribute__((noinline)) void score_pairs(const ScoreJob& job, std::int32_t* query, const std::int8_t* x,
                                           std::int32_t* scores) {
  register const ScoreJob* r7 __asm__("r7") = &job;
  register std::int32_t* r6 __asm__("r6") = query;
  register const std::int8_t* r2 __asm__("r2") = x;
  register std::int32_t* r4 __asm__("r4") = scores;
  // One key of both queries, and how far it is from its last sixteen bytes to the next key.
#define HEED_KEY(next, a, b)                                                                            \
  ".if %c[steps] == 2\n\t"                                                                              \
  "vldrb.u8 q4, [r3], #16\n\tvldrb.u8 q5, [r3], #" next "\n\t"                                        \
  ".else\n\tvldrb.u8 q4, [r3], #" next "\n\t.endif\n\t"                                              \
  "vmladav.s8 " a ", q0, q4\n\t"                                                                       \
  "vmladav.s8 " b ", q2, q4\n\t"                                                                       \
  ".if %c[steps] == 2\n\tvmladava.s8 " a ", q1, q5\n\tvmladava.s8 " b ", q3, q5\n\t.endif\n\t"
#define HEED_FORWARD "(16 * %c[steps] + 16)"
#define HEED_BACK "(16 - 32 * %c[steps])"
  __asm__ volatile(
      "ldr r8, [r7, #32]\n\t"
      "ldr r5, [r7, #8]\n\t"
      "ldrd r3, r1, [r7]\n\t"
      "add r8, r2\n\t"
      "vldrb.u8 q0, [r2]\n\t"
      "vldrb.u8 q2, [r8]\n\t"
      ".if %c[steps] == 2\n\t"
      "vldrb.u8 q1, [r2, #16]\n\t"
      "vldrb.u8 q3, [r8, #16]\n\t"
      ".endif\n\t"
      ".if %c[steps] == 0\n\t"  // each in the lower and in the upper half
      "mov r0, #0xFF00\n\t"
      "vmsr p0, r0\n\t"
      "vpstt\n\t"
      "vldrbt.u8 q1, [r2, #-8]\n\t"
      "vldrbt.u8 q3, [r8, #-8]\n\t"
      ".endif\n\t"
      "ldr r0, [r6, #64]\n\t"
      "mov r7, r4\n\t"
      "ldr r12, [r6, #128]\n\t"
      ".if %c[same]\n\t"
      "subs r0, #1\n\t"
      "lsr lr, r0, #2\n\t"
      "and r0, #3\n\t"  // one less than the keys of the last quad
      "add lr, #1\n\t"
      ".else\n\t"
      "lsr lr, r0, #2\n\t"
      "and r0, #3\n\t"  // the first query's keys in the last quad
      "add lr, #1\n\t"
      "ldr r10, [r6, #132]\n\t"
      "sub r10, r12\n\t"
      ".endif\n\t"
      "push {r0, r6}\n\t"
      "mov r9, #0x80000000\n\t"
      "mov r11, r9\n\t"
      "vdup.32 q6, r9\n\t"
      "vdup.32 q7, r9\n\t"
      "dls lr, lr\n\t"
      "1:\n\t"
      "vmaxv.s32 r9, q6\n\t"
      ".if %c[steps] == 0\n\t"
      "vldrb.u8 q4, [r3], #16\n\t"
      "vldrb.u8 q5, [r3], #16\n\t"
      "vmladav.s8 r0, q0, q4\n\t"
      "vmladav.s8 r4, q0, q5\n\t"
      "vmladav.s8 r2, q1, q4\n\t"
      "vmladav.s8 r6, q1, q5\n\t"
      "vmaxv.s32 r11, q7\n\t"
      "vmov q6[2], q6[0], r0, r4\n\t"
      "vmladav.s8 r8, q2, q4\n\t"
      "vmladav.s8 r0, q2, q5\n\t"
      "vmov q6[3], q6[1], r2, r6\n\t"
      "vmladav.s8 r4, q3, q4\n\t"
      "vmladav.s8 r6, q3, q5\n\t"
      "vmov q7[2], q7[0], r8, r0\n\t"
      "vldrb.s32 q5, [r5], #4\n\t"
      "vmov q7[3], q7[1], r4, r6\n\t"
      ".else\n\t"
      HEED_KEY(HEED_FORWARD, "r0", "r4") HEED_KEY(HEED_BACK, "r2", "r6")
      "vmaxv.s32 r11, q7\n\t"
      "vmov q6[2], q6[0], r0, r2\n\t"
      "vmov q7[2], q7[0], r4, r6\n\t"
      HEED_KEY(HEED_FORWARD, "r0", "r4") HEED_KEY("16", "r2", "r6")
      "vldrb.s32 q5, [r5], #4\n\t"
      "vmov q6[3], q6[1], r0, r2\n\t"
      "vmov q7[3], q7[1], r4, r6\n\t"
      ".endif\n\t"
      "vldrb.u32 q4, [r1], #4\n\t"
      "vsub.i32 q5, q5, r12\n\t"
      "vmul.i32 q6, q6, q4\n\t"
      "vmul.i32 q7, q7, q4\n\t"
      "vshl.s32 q6, q6, q5\n\t"
      ".if %c[same] == 0\n\tvsub.i32 q5, q5, r10\n\t.endif\n\t"
      "vstrw.32 q6, [r7], #16\n\t"
      "vshl.s32 q7, q7, q5\n\t"
      "vstrw.32 q7, [r7, #384 - 16]\n\t"
      "le lr, 1b\n\t"
      "pop {r0, r6}\n\t"
      ".if %c[same]\n\t"
      "adds r0, #1\n\t"
      "vctp.32 r0\n\t"
      "vpstt\n\t"
      "vmaxvt.s32 r9, q6\n\t"
      "vmaxvt.s32 r11, q7\n\t"
      ".else\n\t"
      "adds r1, r0, #1\n\t"
      "vctp.32 r0\n\t"
      "vpst\n\t"
      "vmaxvt.s32 r9, q6\n\t"
      "vctp.32 r1\n\t"
      "vpst\n\t"
      "vmaxvt.s32 r11, q7\n\t"
      ".endif\n\t"
      "strd r9, r11, [r6]"
      : "+r"(r7), "+r"(r6), "+r"(r2), "+r"(r4)
      : [steps] "i"(kSteps), [same] "i"(kSame ? 1 : 0)
      : "r0", "r1", "r3", "r5", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",
        "memory");
#undef HEED_BACK
#undef HEED_FORWARD
#undef HEED_KEY
}

// Brings the dot products in job.scores to the block's exponent; returns the largest. Rows of all other widths.
__attribute__((noinline)) inline std::int32_t scale_scores(const ScoreJob& job) {
  std::int32_t* scores = job.scores;
  const std::int8_t* exponents = job.exponents;
  const std::uint8_t* mantissas = job.mantissas;
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
      : [n] "r"(4 * job.quads - 4 + job.last), [exponent] "r"(job.exponent)
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

using ScorePairs = void (*)(const ScoreJob&, std::int32_t*, const std::int8_t*, std::int32_t*);

// Null for other heads.
template <bool kSame>
inline ScorePairs score_pairs_of(std::uint32_t head_dim) {
  const std::uint32_t columns = round_up(head_dim, 4);
  return columns == 8    ? score_pairs<0, kSame>
         : columns == 16 ? score_pairs<1, kSame>
         : columns == 32 ? score_pairs<2, kSame>
                         : nullptr;
}

// Weights of the visible keys of n queries relative to the block (SPEC.md 2.8), zeros behind them up to a multiple of
// sixteen, and the sums of the unfolded weights. Sixteen keys at a time, the even ones apart from the odd ones.
__attribute__((noinline)) inline void weigh_keys(FourQueries& queries, std::uint32_t n, const std::int8_t* value_exponents) {
  register FourQueries* query __asm__("r12") = &queries;
  register std::int32_t* end __asm__("r11") = queries.max + n;
  register const std::int8_t* exponents __asm__("r7") = value_exponents;
  register const std::uint16_t* exp2 __asm__("r9") = kExp2.values;
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
      "add r10, r12, #176\n\t"
      "0:\n\t"  // a query
      "ldr r4, [r12]\n\t"
      "ldr r6, [r12, #48]\n\t"
      "ldr lr, [r12, #64]\n\t"
      "vdup.32 q6, r4\n\t"
      "ldr r4, [r12, #16]\n\t"
      "vdup.16 q7, r6\n\t"
      "ldr r6, [r12, #32]\n\t"
      "mov r1, r10\n\t"
      "ldr r8, [r12, #80]\n\t"
      "mov r5, r7\n\t"
      "add r3, r10, #256\n\t"
      "movs r0, #0\n\t"
      "ands r2, lr, #15\n\t"
      "lsr lr, lr, #4\n\t"
      "add r10, r10, #384\n\t"
      "wls lr, lr, 2f\n\t"
      "1:\n\t" HEED_SIXTEEN_KEYS("", "", "")
      "le lr, 1b\n\t"
      "2:\n\t"
      "beq.w 3f\n\t"  // the rest: even keys, odd keys
      HEED_SIXTEEN_KEYS("add r1, r2, #1\n\tlsr r1, r1, #1\n\tvctp.16 r1\n\tvpst\n\t",
                        "lsr r2, r2, #1\n\tvctp.16 r2\n\tvpst\n\t", "t")
      "3:\n\t"
      "str r0, [r12, #144]\n\t"
      "add r12, #4\n\t"
      "cmp r12, r11\n\t"
      "bne.w 0b"
      : "+r"(query)
      : "r"(end), "r"(exponents), "r"(exp2)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r10", "lr", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",
        "memory");
#undef HEED_SIXTEEN_KEYS
#undef HEED_DISTANCES
}

}  // namespace heed::helium
