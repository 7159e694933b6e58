// SPDX-License-Identifier: Apache-2.0
// values.hpp: values weighted and merged on cores with the DSP extension (SPEC.md 2.8), of one query and of two.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::pair {

// What weights relative to a block are worth in the sums of one query.
struct Worth {
  float keep, add;  // of what was there, of what comes
};

// What the weighted values of one query or two are merged into, two dimensions of two queries at a time or four of one.
struct ValueSums {
  float* numerators[2];          // of two queries; of one, and two dimensions further on
  std::uint32_t gap, next_gap;   // bytes of values to skip behind the last key, in turn
  const std::int32_t* weights;   // four of the first query, four of the second, ...
  const std::int32_t* weights_end;
  Worth worth[2];
  const float* numerators_end;   // of the first
  std::uint32_t skipped;         // bytes of numerators: 8 with one query; for weigh_values_of_two whether they are all 0
  const std::int8_t* values;
};
// Keys that a round takes.
inline constexpr std::uint32_t kRoundKeys = kBuiltFeatures.speed ? 8 : 4;

// weigh_values of two queries has a loop of its own.
inline constexpr bool kUnrolled = kBuiltFeatures.speed && kBuiltFeatures.unrolled;

// Two dimensions of a slot are one halfword H = 256 v1 + v0 (store_value): SMLALD(H, p) gathers 256 times the sum of the odd
// one plus that of the even one in 64 bits, SMLAD(SXTB16(H), p) the even one, so that a word of four values costs one
// extraction instead of two. For 16 multiply-adds one query takes 14 instructions, two take 12.
__attribute__((noinline)) inline void weigh_values(const ValueSums& job) {
  register const ValueSums* r0 __asm__("r0") = &job;
#define HEED_ONE_QUERY                                                      \
  "ldrd r0, r1, [r12], #16\n\t"                                             \
  "ldmia.w lr!, {r2, r3, r10, r11}\n\t"                                     \
  "smlald r4, r5, r2, r0\n\tsmlald r4, r5, r3, r1\n\t"                      \
  "sxtb16 r2, r2\n\tsxtb16 r3, r3\n\t"                                      \
  "smlad r8, r2, r0, r8\n\tsmlad r8, r3, r1, r8\n\t"                        \
  "smlald r6, r7, r10, r0\n\tsmlald r6, r7, r11, r1\n\t"                    \
  "sxtb16 r10, r10\n\tsxtb16 r11, r11\n\t"                                  \
  "smlad r9, r10, r0, r9\n\tsmlad r9, r11, r1, r9\n\t"
#define HEED_TWO_QUERIES                                                    \
  "ldmia.w r12!, {r0-r3}\n\t"                                               \
  "ldrd r10, r11, [lr], #16\n\t"                                            \
  "smlald r4, r5, r10, r0\n\tsmlald r4, r5, r11, r1\n\t"                    \
  "smlald r6, r7, r10, r2\n\tsmlald r6, r7, r11, r3\n\t"                    \
  "sxtb16 r10, r10\n\tsxtb16 r11, r11\n\t"                                  \
  "smlad r8, r10, r0, r8\n\tsmlad r8, r11, r1, r8\n\t"                      \
  "smlad r9, r10, r2, r9\n\tsmlad r9, r11, r3, r9\n\t"
// The low bytes of both sums are equal, so nothing is borrowed.
#define HEED_ODD(lo, hi, even)              \
  "lsrs.w " lo ", " lo ", #8\n\t"           \
  "orr " lo ", " lo ", " hi ", lsl #24\n\t" \
  "sub " lo ", " lo ", " even ", asr #8\n\t"
// s4-s7 = what r0 and r1 point at times `keep` plus the sums in s0-s3 times `add`; VMLA rounds twice.
#define HEED_MERGE                                                                                                 \
  "vldmia r0, {s4-s5}\n\t" \
  "vldmia r1, {s6-s7}\n\t" \
  "vcvt.f32.s32 s0, s0\n\tvcvt.f32.s32 s1, s1\n\tvcvt.f32.s32 s2, s2\n\tvcvt.f32.s32 s3, s3\n\t" \
  "vmul.f32 s4, s4, s16\n\tvmul.f32 s5, s5, s16\n\tvmul.f32 s6, s6, s18\n\tvmul.f32 s7, s7, s18\n\t" \
  "vmla.f32 s4, s0, s17\n\tvmla.f32 s5, s1, s17\n\tvmla.f32 s6, s2, s19\n\tvmla.f32 s7, s3, s19\n\t"
// Magnitudes below 2^-40 become +0.
#define HEED_SNAP(x) "cmp r8, " x ", lsl #1\n\tit hi\n\tmovhi " x ", #0\n\t"
  __asm__ volatile(
      "ldr.w r12, [r0, #16]\n\t"
      "ldr.w lr, [r0, #48]\n\t"
      "vldmia r0, {s10-s21}\n\t"
      "movs r1, #0\n\t"
      "vmov s22, s23, r1, r1\n\t"
      "1:\n\t"
      "vmov r4, r5, s22, s23\n\tvmov r6, r7, s22, s23\n\tvmov r8, r9, s22, s23\n\t"
      ".if %c[two]\n\t"
      "vmov r0, s21\n\t"
      "cbz r0, 3f\n\t"
      ".endif\n\t"
      "2:\n\t" HEED_ONE_QUERY
      "vmov r0, s15\n\t"
      "cmp r12, r0\n\t"
      "bne 2b\n\t"
      ".if %c[two]\n\t"
      "b 4f\n\t"
      "3:\n\t" HEED_TWO_QUERIES HEED_TWO_QUERIES
      "vmov r0, s15\n\t"
      "cmp r12, r0\n\t"
      "bne 3b\n\t"
      "4:\n\t"
      ".endif\n\t" HEED_ODD("r4", "r5", "r8") HEED_ODD("r6", "r7", "r9")
      "vmov s0, s1, r8, r4\n\t"
      "vmov s2, s3, r9, r6\n\t"
      "vmov r0, r1, s10, s11\n\t"
      HEED_MERGE
      "vmov r4, r5, s4, s5\n\t"
      "vmov r6, r7, s6, s7\n\t"
      "mov r8, #0x57000000\n\t" HEED_SNAP("r4") HEED_SNAP("r5") HEED_SNAP("r6") HEED_SNAP("r7")
      "strd r4, r5, [r0], #8\n\t"
      "strd r6, r7, [r1], #8\n\t"
      "vmov r2, s21\n\t"
      "add r0, r2\n\t"
      "add r1, r2\n\t"
      "vmov s10, s11, r0, r1\n\t"
      "vmov r2, r3, s12, s13\n\t"
      "add lr, r2\n\t"
      "vmov s12, s13, r3, r2\n\t"
      "vmov r12, s14\n\t"
      "vmov r1, s20\n\t"
      "cmp r0, r1\n\t"
      "bne 1b"
      : "+r"(r0)
      : [two] "i"(kBuiltFeatures.speed && !kUnrolled ? 1 : 0)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5",
        "s6", "s7", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "cc",
        "memory");
#undef HEED_SNAP
#undef HEED_ONE_QUERY
}

// weigh_values of two queries for any number of four keys up to a block's, without a loop. Magnitudes below 2^-40 are lost
// by flushing denormals to zero 86 powers of two further down, where 2^-40 is the smallest normal number; every other
// value is exact there and back. Added to +0 a flushed -0 is +0. Where numerators begin, sums go there at once.
__attribute__((noinline)) inline void weigh_values_of_two(const ValueSums& job) {
  register const ValueSums* r0 __asm__("r0") = &job;
  __asm__ volatile(
      "ldr.w lr, [r0, #48]\n\t"
      "vldmia r0, {s10-s21}\n\t"
      "vmov.f32 s28, s21\n\t"
      "mov r2, #0x24800000\n\t"  // 2^-54
      "vmov s29, r2\n\t"
      "vmul.f32 s30, s19, s29\n\t"
      "vmul.f32 s29, s17, s29\n\t"
      "vmrs r4, fpscr\n\t"
      "orr r5, r4, #0x1000000\n\t"
      "vmsr fpscr, r5\n\t"
      "mov r2, #0x14800000\n\t"
      "mov r3, #0x6A800000\n\t"
      "vmov s21, s22, r2, r3\n\t"
      "vmov s23, r4\n\t"
      "vmov r2, r3, s14, s15\n\t"
      "subs r3, r3, r2\n\t"  // 16 bytes of weights, 48 of code
      "add r3, r3, r3, lsl #1\n\t"
      "adr.w r2, 3f\n\t"
      "subs r2, r2, r3\n\t"
      "adds r2, #1\n\t"
      "vmov s15, r2\n\t"
      "movs r2, #0\n\t"
      "vmov s26, s27, r2, r2\n\t"
      "1:\n\t"
      "vmov r12, r0, s14, s15\n\t"
      "vmov r4, r5, s26, s27\n\tvmov r6, r7, s26, s27\n\tvmov r8, r9, s26, s27\n\t"
      "vmov s8, s9, r4, r5\n\t"
      "vmov s24, s25, r4, r5\n\t"
      "bx r0\n\t"
      ".balign 4\n\t"
      ".rept 16\n\t" HEED_TWO_QUERIES
      ".endr\n\t"
      "3:\n\t" HEED_ODD("r4", "r5", "r8") HEED_ODD("r6", "r7", "r9")
      "vmov s0, s1, r8, r4\n\t"
      "vmov s2, s3, r9, r6\n\t"
      "vmov r2, s28\n\t"
      "cbnz r2, 4f\n\t"
      "vmov r0, r1, s10, s11\n\t"
      HEED_MERGE
      "vmla.f32 s8, s4, s21\n\tvmla.f32 s9, s5, s21\n\tvmla.f32 s24, s6, s21\n\tvmla.f32 s25, s7, s21\n\t"
      "5:\n\t"
      "vmul.f32 s8, s8, s22\n\tvmul.f32 s9, s9, s22\n\tvmul.f32 s24, s24, s22\n\tvmul.f32 s25, s25, s22\n\t"
      "vstmia r0!, {s8-s9}\n\t"
      "vstmia r1!, {s24-s25}\n\t"
      "vmov s10, s11, r0, r1\n\t"
      "vmov r2, r3, s12, s13\n\t"
      "add lr, r2\n\t"
      "vmov s12, s13, r3, r2\n\t"
      "vmov r1, s20\n\t"
      "cmp r0, r1\n\t"
      "bne.w 1b\n\t"
      "b 6f\n\t"
      "4:\n\t"  // the sum times 2^-32 and 2^-54
      "vcvt.f32.s32 s0, s0, #32\n\tvcvt.f32.s32 s1, s1, #32\n\t"
      "vcvt.f32.s32 s2, s2, #32\n\tvcvt.f32.s32 s3, s3, #32\n\t"
      "vmla.f32 s8, s0, s29\n\tvmla.f32 s9, s1, s29\n\tvmla.f32 s24, s2, s30\n\tvmla.f32 s25, s3, s30\n\t"
      "vmov r0, r1, s10, s11\n\t"
      "b 5b\n\t"
      "6:\n\t"
      "vmov r4, s23\n\t"
      "vmsr fpscr, r4"
      : "+r"(r0)
      :
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5",
        "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19", "s20", "s21", "s22",
        "s23", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "cc", "memory");
}
#undef HEED_MERGE
#undef HEED_ODD
#undef HEED_TWO_QUERIES

}  // namespace heed::pair
