// SPDX-License-Identifier: Apache-2.0
// pairs.hpp: matrix products of two tokens at once for Helium.
#pragma once
#include "platform/cortex_m/m55/sums.hpp"

namespace heed::helium {

// Two tokens at once: eight sums in the eight even registers, so that each load of weights is used twice; then four floats
// of either.
struct PairJob {
  const std::int8_t* last_w;     //  0 the last, possibly narrow column block; both pointers to weights stand at 120
  const std::int8_t* w;          //  4 column block 0
  const std::int8_t* last_x[2];  //  8 of both tokens
  const std::int8_t* x[2];       // 16
  const std::int8_t* end;        // 24 of the whole blocks of the first token
  std::uint32_t step;            // 28 bytes from column block to column block
  float* dst[2];                 // 32
  const float* scales;           // 40
  const float* dst_end;          // 44 of the first token
  const void* entry;             // 48 where the whole blocks begin: none, or their number modulo four
  std::uint32_t factors[2];      // 52 bits of the scales of x
};

// kAdd: added to what is there.
template <int kSteps, bool kAdd>
__attribute__((noinline)) void multiply_pairs(PairJob& job) {
  register PairJob* r7 __asm__("r7") = &job;
#define HEED_ROW(base, a, b, k, row, bytes, acc)                            \
  "vldrb.u8 q2, [" base ", #" #row " * " bytes " + " #k " * 16 - 120]\n\t"       \
  "vmladav" acc ".s8 " a ", q0, q2\n\tvmladav" acc ".s8 " b ", q1, q2\n\t"
#define HEED_STEP(base, k, bytes, acc)                                          \
  "vldrb.u8 q0, [r3], #16\n\tvldrb.u8 q1, [r5], #16\n\t"                   \
  HEED_ROW(base, "r0", "r8", k, 0, bytes, acc) HEED_ROW(base, "r2", "r10", k, 1, bytes, acc) \
  HEED_ROW(base, "r4", "r12", k, 2, bytes, acc) HEED_ROW(base, "r6", "lr", k, 3, bytes, acc)
#define HEED_BLOCK                                                          \
  HEED_STEP("r9", 0, "64", "a") HEED_STEP("r9", 1, "64", "a") HEED_STEP("r9", 2, "64", "a") HEED_STEP("r9", 3, "64", "a") \
  "add.w r9, r9, r11\n\t"
  __asm__ volatile(
      "ldrd r0, r2, [r7, #52]\n\t"
      "ldr r3, [r7, #16]\n\t"
      "ldr r9, [r7, #24]\n\t"
      "vdup.32 q4, r0\n\t"
      "vdup.32 q5, r2\n\t"
      "subs r9, r3\n\t"
      "adr.w r1, 3f\n\t"
      "beq 4f\n\t"
      "adr.w r1, 2f\n\t"
      "ands r9, #192\n\t"
      "beq 4f\n\t"
      "adr.w r1, 5f\n\t"
      "cmp r9, #128\n\t"
      "bhi 4f\n\t"
      "adr.w r1, 6f\n\t"
      "beq 4f\n\t"
      "adr.w r1, 7f\n\t"
      "4:\n\t"
      "orr r1, #1\n\t"
      "str r1, [r7, #48]\n\t"
      "1:\n\t"  // four rows
      "ldrd r1, r9, [r7]\n\t"
      "ldrd r3, r5, [r7, #8]\n\t"
      HEED_STEP("r1", 0, "(%c[steps] * 16)", "")
      ".if %c[steps] > 1\n\t" HEED_STEP("r1", 1, "(%c[steps] * 16)", "a") ".endif\n\t"
      ".if %c[steps] > 2\n\t" HEED_STEP("r1", 2, "(%c[steps] * 16)", "a") ".endif\n\t"
      ".if %c[steps] > 3\n\t" HEED_STEP("r1", 3, "(%c[steps] * 16)", "a") ".endif\n\t"
      "add r3, r1, %c[steps] * 64\n\t"
      "add r5, r9, #256\n\t"
      "strd r3, r5, [r7]\n\t"
      "ldrd r3, r5, [r7, #16]\n\t"
      "ldrd r1, r11, [r7, #24]\n\t"
      "ldr pc, [r7, #48]\n\t"
      ".balign 4\n\t"
      "2:\n\t" HEED_BLOCK
      "5:\n\t" HEED_BLOCK
      "6:\n\t" HEED_BLOCK
      "7:\n\t" HEED_BLOCK
      "cmp.w r3, r1\n\t"
      "bne.w 2b\n\t"
      "3:\n\t"
      "vmov q0[2], q0[0], r0, r4\n\t"
      "vmov q1[2], q1[0], r8, r12\n\t"
      "ldrd r5, r9, [r7, #40]\n\t"
      "vmov q0[3], q0[1], r2, r6\n\t"
      "vmov q1[3], q1[1], r10, lr\n\t"
      "vldrw.u32 q2, [r5], #16\n\t"
      "vcvt.f32.s32 q0, q0\n\t"
      "vmul.f32 q3, q2, q4\n\t"
      "vcvt.f32.s32 q1, q1\n\t"
      "vmul.f32 q2, q2, q5\n\t"
      "ldrd r1, r3, [r7, #32]\n\t"
      "vmul.f32 q0, q0, q3\n\t"
      ".if %c[add]\n\tvldrw.u32 q3, [r1]\n\t.endif\n\t"
      "vmul.f32 q1, q1, q2\n\t"
      ".if %c[add]\n\tvldrw.u32 q2, [r3]\n\tvadd.f32 q0, q3, q0\n\tvadd.f32 q1, q2, q1\n\t.endif\n\t"
      "vstrw.32 q0, [r1], #16\n\t"
      "vstrw.32 q1, [r3], #16\n\t"
      "str r5, [r7, #40]\n\t"
      "strd r1, r3, [r7, #32]\n\t"
      "cmp r1, r9\n\t"
      "bne.w 1b"
      : "+r"(r7)
      : [steps] "i"(kSteps), [add] "i"(kAdd ? 1 : 0)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "q0", "q1", "q2", "q3", "q4",
        "q5", "cc", "memory");
#undef HEED_BLOCK
#undef HEED_STEP
#undef HEED_ROW
}

// 4 * quads rows for two tokens from token t on; no bias.
inline void multiply_two(float* dst, std::uint32_t dst_stride, const Activations& lhs, std::uint32_t t, const Tensor& rhs,
                         std::uint32_t row, std::uint32_t columns, std::uint32_t quads, bool accumulate) {
  const std::size_t padded = padded_rows(Layout::block64, rhs.rows);
  const std::uint32_t last = (columns - 1) & ~63u, width = columns - last;
  const std::int8_t* const x = lhs.values + std::size_t{t} * lhs.value_stride;
  PairJob job{rhs.weights + last * padded + row * width + 120,
              rhs.weights + std::size_t{row} * 64 + 120,
              {x + last, x + last + lhs.value_stride},
              {x, x + lhs.value_stride},
              x + last,
              static_cast<std::uint32_t>(64 * padded),
              {dst, dst + dst_stride},
              rhs.scales + row,
              dst + 4 * quads,
              nullptr,
              {bits_of(lhs.scales[t]), bits_of(lhs.scales[t + 1])}};
  static constexpr void (*kMultiply[2][4])(PairJob&) = {
      {multiply_pairs<1, false>, multiply_pairs<2, false>, multiply_pairs<3, false>, multiply_pairs<4, false>},
      {multiply_pairs<1, true>, multiply_pairs<2, true>, multiply_pairs<3, true>, multiply_pairs<4, true>}};
  kMultiply[accumulate][width / 16 - 1](job);
}

// dst = (or +=) src + bias of 4 * quads rows.
inline void add_bias(float* dst, const float* src, const float* bias, std::uint32_t quads, bool accumulate) {
  for (; quads; --quads, dst += 4, src += 4, bias += 4) {
    const float32x4_t y = vaddq_f32(vld1q_f32(src), vld1q_f32(bias));
    vst1q_f32(dst, accumulate ? vaddq_f32(vld1q_f32(dst), y) : y);
  }
}

}  // namespace heed::helium
