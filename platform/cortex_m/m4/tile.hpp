// SPDX-License-Identifier: Apache-2.0
// tile.hpp: two rows of Layout::pair times three vectors at a time, without groups and of up to kSegment columns.
// Six sums, two words of weights, four of activations and two pointers are the fourteen registers; of the tiles
// that fit them this one has the fewest loads and extractions: 33 instructions for 8 columns, 48 multiply-adds.
#pragma once
#include "platform/cortex_m/m4/job.hpp"

namespace heed::pair {

// Eight columns.
#define HEED_TILE_STEP                                                                                            \
  "ldrd r0, r1, [lr], #16\n\t"                                                                                   \
  "ldmia.w r12!, {r2-r5}\n\t" HEED_TILE("r6", "r7", "r2") HEED_TILE("r8", "r9", "r3") HEED_TILE("r10", "r11", "r4") \
  "sxtb16 r0, r0\n\tsxtb16 r1, r1\n\t" HEED_TILE("r6", "r7", "r5")                                              \
  "ldmia.w r12!, {r2-r5}\n\t" HEED_TILE("r8", "r9", "r2") HEED_TILE("r10", "r11", "r3")                              \
  "ldrd r0, r1, [lr], #16\n\t" HEED_TILE("r6", "r7", "r4") HEED_TILE("r8", "r9", "r5")                             \
  "ldmia.w r12!, {r2-r5}\n\t" HEED_TILE("r10", "r11", "r2")                                                         \
  "sxtb16 r0, r0\n\tsxtb16 r1, r1\n\t" HEED_TILE("r6", "r7", "r3") HEED_TILE("r8", "r9", "r4")                    \
  HEED_TILE("r10", "r11", "r5")
#define HEED_TILE(row0, row1, x) "smlad " row0 ", r0, " x ", " row0 "\n\tsmlad " row1 ", r1, " x ", " row1 "\n\t"
inline constexpr std::uint32_t kTileSteps = 3, kTileStepBytes = 132;

// All pairs of rows of a job. Its anchor lives in s15, the end of x in s14, the vectors' scales in s11 to s13.
__attribute__((noinline)) inline void run_tiles(PairJob& job) {
  register void* r0 __asm__("r0") = &job.scales;
  __asm__ volatile(
      "vmov s15, r0\n\t"
      "adr.w r1, 3f\n\t"
      "adds r1, #1\n\t"
      "ldr r3, [r0, #-4]\n\t"
      "add r1, r3\n\t"
      "str r1, [r0, #-4]\n\t"
      "ldr lr, [r0, #44]\n\t"
      "vldr s14, [r0, #32]\n\t"
      "add r1, r0, #48\n\t"
      "vldmia r1, {s11-s13}\n\t"
      "1:\n\t"
      "ldmdb r0, {r6-r12, pc}\n\t"
      ".balign 4\n\t"
      "3:\n\t" HEED_TILE_STEP HEED_TILE_STEP HEED_TILE_STEP
      "vmov r0, s14\n\t"
      "cmp r12, r0\n\t"
      "bne 3b\n\t"
      "vmov r0, s15\n\t"
      "vmov s0, s1, r6, r7\n\t"
      "vmov s2, s3, r8, r9\n\t"
      "vmov s4, s5, r10, r11\n\t"
      "ldmia r0, {r1-r8}\n\t"
      "vldmia r1!, {s6, s7}\n\t"
      "vcvt.f32.s32 s0, s0\n\tvcvt.f32.s32 s1, s1\n\tvcvt.f32.s32 s2, s2\n\t"
      "vcvt.f32.s32 s3, s3\n\tvcvt.f32.s32 s4, s4\n\tvcvt.f32.s32 s5, s5\n\t"
      "vmul.f32 s8, s6, s11\n\tvmul.f32 s9, s7, s11\n\tvmul.f32 s0, s0, s8\n\tvmul.f32 s1, s1, s9\n\t"
      "vmul.f32 s8, s6, s12\n\tvmul.f32 s9, s7, s12\n\tvmul.f32 s2, s2, s8\n\tvmul.f32 s3, s3, s9\n\t"
      "vmul.f32 s8, s6, s13\n\tvmul.f32 s9, s7, s13\n\tvmul.f32 s4, s4, s8\n\tvmul.f32 s5, s5, s9\n\t"
      "add r12, r2, r8\n\t"
      "cbz r5, 9f\n\t"
      ".if %c[biases]\n\t"
      "cbz r4, 8f\n\t"
      "vldmia r4!, {s6, s7}\n\t"
      "str r4, [r0, #12]\n\t"
      "vadd.f32 s0, s0, s6\n\tvadd.f32 s1, s1, s7\n\tvadd.f32 s2, s2, s6\n\t"
      "vadd.f32 s3, s3, s7\n\tvadd.f32 s4, s4, s6\n\tvadd.f32 s5, s5, s7\n\t"
      "8:\n\t"
      "ldr r4, [r0, #40]\n\t"
      "cbz r4, 9f\n\t"
      ".endif\n\t"
      "add r4, r12, r8\n\t"
      "vldmia r2, {s6, s7}\n\t"
      "vadd.f32 s0, s6, s0\n\tvadd.f32 s1, s7, s1\n\t"
      "vldmia r12, {s6, s7}\n\t"
      "vadd.f32 s2, s6, s2\n\tvadd.f32 s3, s7, s3\n\t"
      "vldmia r4, {s6, s7}\n\t"
      "vadd.f32 s4, s6, s4\n\tvadd.f32 s5, s7, s5\n\t"
      "9:\n\t"
      "vstmia r2!, {s0, s1}\n\t"
      "vstmia r12, {s2, s3}\n\t"
      "add r12, r8\n\t"
      "vstmia r12, {s4, s5}\n\t"
      "add lr, r6\n\t"
      "strd r7, r6, [r0, #20]\n\t"
      "strd r1, r2, [r0]\n\t"
      "cmp r2, r3\n\t"
      "bne 1b"
      : "+r"(r0)
      : [biases] "i"(kBuiltFeatures.biases ? 1 : 0)
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4",
        "s5", "s6", "s7", "s8", "s9", "s11", "s12", "s13", "s14", "s15", "cc", "memory");
}
#undef HEED_TILE
#undef HEED_TILE_STEP

// What run_tiles needs beside the rest of a job.
inline void prepare_tiles(PairJob& job, std::uint32_t cols, std::uint32_t dst_stride, const float* x_scales) {
  job.entry = (kTileSteps - 1 - (cols / 8 - 1) % kTileSteps) * kTileStepBytes;
  // Rows 2 and 3 of a quad lie 8 bytes behind rows 0 and 1.
  job.step = 8 - static_cast<std::int32_t>(4 * cols);
  job.next_step = -8;
  job.dst_stride = 4 * dst_stride;
  for (std::uint32_t i = 0; i < kTogether; ++i) job.x_scales[i] = x_scales[i] * (1.0f / 256.0f);
}

}  // namespace heed::pair
