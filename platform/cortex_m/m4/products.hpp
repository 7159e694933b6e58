// SPDX-License-Identifier: Apache-2.0
// products.hpp: products of four rows of Layout::pair at a time, and what becomes of each four: elements of a
// matrix product, sums of groups, or scores of keys.
//
// A pair of weights is stored as the int16 H = 256 w1 + w0 (Layout::pair) and four activations are prepared as
// X1 = (x1, x3) and X' = (256 x0 - x1, 256 x2 - x3), so that SMLAD(H, X1) + SMLAD(SXTB16(H), X') is 256 times the dot
// product: weight words are multiplied as they lie in flash, with one extraction per four weights. int32 holds 256
// times the sum of 512 columns.
#pragma once
#include "platform/cortex_m/m4/job.hpp"
#include "platform/cortex_m/m4/tile.hpp"

namespace heed::pair {

// Eight columns of four rows of Layout::pair.
#define HEED_PAIR_BLOCK                                                                             \
  "ldmia.w r12!, {r4-r7}\n\t"                                                                      \
  "ldmia.w lr!, {r0-r3}\n\t"                                                                       \
  "smlad r8, r0, r4, r8\n\tsmlad r9, r1, r4, r9\n\tsmlad r10, r2, r4, r10\n\tsmlad r11, r3, r4, r11\n\t" \
  "sxtb16 r0, r0\n\tsxtb16 r1, r1\n\tsxtb16 r2, r2\n\tsxtb16 r3, r3\n\t"                            \
  "smlad r8, r0, r5, r8\n\tsmlad r9, r1, r5, r9\n\tsmlad r10, r2, r5, r10\n\tsmlad r11, r3, r5, r11\n\t" \
  "ldmia.w lr!, {r0-r3}\n\t"                                                                       \
  "smlad r8, r0, r6, r8\n\tsmlad r9, r1, r6, r9\n\tsmlad r10, r2, r6, r10\n\tsmlad r11, r3, r6, r11\n\t" \
  "sxtb16 r0, r0\n\tsxtb16 r1, r1\n\tsxtb16 r2, r2\n\tsxtb16 r3, r3\n\t"                            \
  "smlad r8, r0, r7, r8\n\tsmlad r9, r1, r7, r9\n\tsmlad r10, r2, r7, r10\n\tsmlad r11, r3, r7, r11\n\t"
// Groups of 64 end with the last of eight blocks.
inline constexpr std::uint32_t kPairBlockBytes = 108,
                               kPairBlocks = !kBuiltFeatures.speed ? 2 : kBuiltFeatures.unrolled ? 8 : 4;

// Whether the blocks hold most segments whole. Then these have no loop; else the end of a segment lives in s14.
inline constexpr bool kWholeSegments = kPairBlocks == 8;
#define HEED_NEXT_END ".if !%c[whole]\n\tldr r6, [r7, #36]\n\tadd r6, r12\n\tvmov s14, r6\n\t.endif\n\t"

// All quads of a job. In the inner loop every register is taken, so the anchor lives in s15, and a jump into the unrolled
// blocks takes care of the rest.
__attribute__((noinline)) inline void run_pairs(PairJob& job, bool segments) {
  register void* r6 __asm__("r6") = &job.scales;
  register void* r7 __asm__("r7") = segments ? static_cast<void*>(job.segments.totals) : r6;
  __asm__ volatile(
      "vmov s15, r7\n\t"
      "vldr s13, [r6, #48]\n\t"
      "ldr lr, [r6, #44]\n\t"
      "adr.w r1, 12f\n\t"
      "ldrd r0, r2, [r7, #24]\n\t"
      "cmp r2, #1\n\t"
      "it eq\n\tadreq.w r1, 7f\n\t"
      ".if %c[groups]\n\t"
      "cmp r2, #2\n\t"
      "it eq\n\tadreq.w r1, 5f\n\t"
      ".endif\n\t"
      "it hi\n\tadrhi.w r1, 14f\n\t"
      "adds r1, #1\n\t"
      "str r1, [r7, #28]\n\t"
      ".if %c[whole]\n\t"
      "cbz r0, 15f\n\t"
      "adr.w r1, 11f\n\t"
      "adds r1, #1\n\t"
      "15:\n\t"
      "str r1, [r7, #24]\n\t"
      ".else\n\t"
      "vldr s14, [r7, #32]\n\t"
      ".endif\n\t"
      "adr.w r1, 3f\n\t"
      "adds r1, #1\n\t"
      "ldr r0, [r6, #-4]\n\t"
      "add r0, r1\n\t"
      "str r0, [r6, #-4]\n\t"
      "cmp r6, r7\n\t"
      "beq 19f\n\t"
      "ldrd r0, r2, [r6, #60]\n\t"
      "add r0, r1\n\t"
      "add r2, r1\n\t"
      "strd r0, r2, [r6, #60]\n\t"
      "str r0, [r7, #-4]\n\t"
      ".if %c[groups]\n\t"
      "ldr r0, [r7, #44]\n\t"
      "adr.w r1, 17f\n\t"
      "cmp r0, #0\n\t"
      "it ne\n\tadrne.w r1, 18f\n\t"
      "adds r1, #1\n\t"
      "str r1, [r7, #44]\n\t"
      ".endif\n\t"
      "mov r7, r6\n\t"
      "19:\n\t"
      "1:\n\t"  // a quad of rows
      "ldmdb r7, {r8-r12, pc}\n\t"
      ".balign 4\n\t"
      "3:\n\t"
      ".rept %c[blocks]\n\t" HEED_PAIR_BLOCK ".endr\n\t"
      ".if %c[whole]\n\t"
      "vmov r7, s15\n\t"
      "ldr pc, [r7, #24]\n\t"
      ".balign 4\n\t"
      "11:\n\t"  // does the segment go on?
      "ldrd r0, r1, [r7, #32]\n\t"
      "cmp r12, r0\n\t"
      "bne 3b\n\t"
      "add r0, r1\n\t"
      "str r0, [r7, #32]\n\t"
      ".else\n\t"
      "vmov r7, s14\n\t"
      "cmp r12, r7\n\t"
      "bne 3b\n\t"
      "vmov r7, s15\n\t"
      ".endif\n\t"
      "ldr pc, [r7, #28]\n\t"
      ".balign 4\n\t"
      "12:\n\t"  // whole rows
      "vmov s0, s1, r8, r9\n\t"
      "vmov s2, s3, r10, r11\n\t"
      "4:\n\t"  // y = float(sum) * (row scale * x scale)
      "ldmia r7, {r0-r4}\n\t"
      "vldmia r0!, {s4-s7}\n\t"
      "vcvt.f32.s32 s0, s0\n\tvcvt.f32.s32 s1, s1\n\tvcvt.f32.s32 s2, s2\n\tvcvt.f32.s32 s3, s3\n\t"
      "vmul.f32 s4, s4, s13\n\tvmul.f32 s5, s5, s13\n\tvmul.f32 s6, s6, s13\n\tvmul.f32 s7, s7, s13\n\t"
      "vmul.f32 s0, s0, s4\n\tvmul.f32 s1, s1, s5\n\tvmul.f32 s2, s2, s6\n\tvmul.f32 s3, s3, s7\n\t"
      "cbz r4, 9f\n\t"
      ".if %c[biases]\n\t"
      "cbz r3, 8f\n\t"
      "vldmia r3!, {s4-s7}\n\t"
      "str r3, [r7, #12]\n\t"
      "vadd.f32 s0, s0, s4\n\tvadd.f32 s1, s1, s5\n\tvadd.f32 s2, s2, s6\n\tvadd.f32 s3, s3, s7\n\t"
      "8:\n\t"
      "ldr r4, [r7, #40]\n\t"
      "cbz r4, 9f\n\t"
      ".endif\n\t"
      "vldmia r1, {s4-s7}\n\t"
      "vadd.f32 s0, s4, s0\n\tvadd.f32 s1, s5, s1\n\tvadd.f32 s2, s6, s2\n\tvadd.f32 s3, s7, s3\n\t"
      "9:\n\t"
      "vstmia r1!, {s0-s3}\n\t"
      "strd r0, r1, [r7]\n\t"
      "cmp r1, r2\n\t"
      "bne 1b\n\t"
      "b 6f\n\t"
      ".balign 4\n\t"
      // Scores: u = (sum / 256 * mantissa) >> (block's exponent - exponent). A mantissa of 128 to 255 in the upper half
      // of a halfword is negative by 2^16, which adding the sum makes good.
      "7:\n\t"
      "ldmia r7, {r0-r5}\n\t"
      "ldr r12, [r0]\n\t"
      "ldr r7, [r0, r3]\n\t"
      "adds r0, #4\n\t"
      "usub8 r7, r4, r7\n\t"
      "and r3, r12, #0xFF00FF00\n\t"
      "lsl r12, r12, #8\n\t"
      "and r12, r12, #0xFF00FF00\n\t"
      "smlawb r8, r8, r12, r8\n\t"
      "smlawb r9, r9, r3, r9\n\t"
      "smlawt r10, r10, r12, r10\n\t"
      "smlawt r11, r11, r3, r11\n\t"
      "asr r8, r8, r7\n\tlsrs r7, r7, #8\n\t"
      "asr r9, r9, r7\n\tlsrs r7, r7, #8\n\t"
      "asr r10, r10, r7\n\tlsrs r7, r7, #8\n\t"
      "asr r11, r11, r7\n\t"
      "vmov r7, s15\n\t"
      "ldrd r3, r4, [r7, #52]\n\t"
      "ldr r12, [r0, r3]\n\t"
      "usub8 r12, r4, r12\n\t"  // see weigh_keys
      "stmia r1!, {r8-r12}\n\t"
      "cmp r1, r2\n\t"
      "beq 6f\n\t"  // some of the last four may not be visible
      "cmp r8, r5\n\tit gt\n\tmovgt r5, r8\n\t"
      "cmp r9, r5\n\tit gt\n\tmovgt r5, r9\n\t"
      "cmp r10, r5\n\tit gt\n\tmovgt r5, r10\n\t"
      "cmp r11, r5\n\tit gt\n\tmovgt r5, r11\n\t"
      "strd r0, r1, [r7]\n\t"
      "str r5, [r7, #20]\n\t"
      "b 1b\n\t"
      ".if %c[groups]\n\t"
      ".balign 4\n\t"
      "5:\n\t"  // the end of a group: totals += multiplier * 2^exponent * sum; SMLAW takes 2^16 off both
      "str r12, [r7, #-8]\n\t" HEED_NEXT_END
      "ldmia r7, {r0-r5}\n\t"
      "ldr r12, [r4], #4\n\t"
      "ldrb r6, [r5], #1\n\t"
      "lsl r12, r12, r6\n\t"
      "and r6, r12, #0xFF00FF00\n\t"
      "lsl r12, r12, #8\n\t"
      "and r12, r12, #0xFF00FF00\n\t"
      "smlawb r0, r8, r12, r0\n\t"
      "smlawb r1, r9, r6, r1\n\t"
      "smlawt r2, r10, r12, r2\n\t"
      "smlawt r3, r11, r6, r3\n\t"
      ".endif\n\t"
      "13:\n\t"
      "stmia r7, {r0-r5}\n\t"
      "ldr r6, [r7, #40]\n\t"
      "cmp r5, r6\n\t"
      "bhs 16f\n\t"
      "ldmdb r7, {r8-r12, pc}\n\t"
      "16:\n\t"
      "sub r6, r7, #%c[between]\n\t"
      ".if %c[groups]\n\t"
      "ldr pc, [r7, #44]\n\t"
      ".balign 4\n\t"
      ".endif\n\t"
      "17:\n\t"
      "bhi 10f\n\t"
      "ldrd r0, r1, [r6, #64]\n\t"  // the last segment
      "str r0, [r7, #-4]\n\t"
      ".if %c[whole]\n\tstr r1, [r7, #32]\n\t.else\n\tvmov s14, r1\n\t.endif\n\t"
      "ldmdb r7, {r8-r12, pc}\n\t"
      ".balign 4\n\t"
      "14:\n\t"  // the end of a chunk
      "str r12, [r7, #-8]\n\t" HEED_NEXT_END
      "ldmia r7, {r0-r5}\n\t"
      "add r0, r0, r8, asr #8\n\tadd r1, r1, r9, asr #8\n\tadd r2, r2, r10, asr #8\n\tadd r3, r3, r11, asr #8\n\t"
      "adds r5, #1\n\t"
      "b 13b\n\t"
      "10:\n\t"  // the end of a row of several segments
      "ldr r0, [r6, #60]\n\t"
      "str r0, [r7, #-4]\n\t"
      "ldr r0, [r6, #72]\n\t"
      ".if %c[whole]\n\tstr r0, [r7, #32]\n\t.else\n\tvmov s14, r0\n\t.endif\n\t"
      ".balign 4\n\t"
      "18:\n\t"  // the same where segments are whole and have no loop
      "vldmia r7, {s0-s3}\n\t"
      "ldr r5, [r6, #76]\n\t"
      "sub r0, r6, #32\n\t"
      "ldmia r0, {r0-r3}\n\t"
      "stmia r7, {r0-r5}\n\t"
      "mov r7, r6\n\t"
      "b 4b\n\t"
      "6:\n\t"
      : "+r"(r6), "+r"(r7)
      : [groups] "i"(kBuiltFeatures.groups ? 1 : 0), [biases] "i"(kBuiltFeatures.biases ? 1 : 0),
        [blocks] "i"(kPairBlocks), [whole] "i"(kWholeSegments ? 1 : 0),
        [between] "i"(offsetof(PairJob, segments.totals) - offsetof(PairJob, scales))
      : "r0", "r1", "r2", "r3", "r4", "r5", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4", "s5",
        "s6", "s7", "s13", "s14", "s15", "cc", "memory");
}
#undef HEED_NEXT_END
#undef HEED_PAIR_BLOCK

inline void clear(std::int32_t (&zeros)[6]) { zeros[0] = zeros[1] = zeros[2] = zeros[3] = zeros[4] = zeros[5] = 0; }

// Where x, which covers `columns`, enters the unrolled blocks.
constexpr std::uint32_t entry_of(std::uint32_t columns) {
  return (0u - columns / 8) % kPairBlocks * kPairBlockBytes;
}

// What run_pairs needs beside the rest of a job when a row has groups or chunks of `columns`, the last one from `last` on.
inline void prepare_segments(PairJob& job, std::uint32_t columns, std::uint32_t last, const std::uint8_t* multipliers,
                             const std::uint8_t* exponents, bool grouped) {
  PairJob::Segments& s = job.segments;
  job.segment_entry = entry_of(columns);
  if (last) job.entry = job.segment_entry;
  s.segment = 2 * columns;
  job.first_end = s.segment_end = last ? job.x + s.segment : job.end;
  s.zeros[0] = s.zeros[1] = s.zeros[2] = s.zeros[3] = 0;
  s.totals[0] = s.totals[1] = s.totals[2] = s.totals[3] = 0;
  s.multipliers = multipliers;
  s.exponents = job.all_exponents = exponents;
  s.behind = columns > 8 * kPairBlocks;
  s.whole = kWholeSegments && grouped && !s.behind && job.last_entry == job.segment_entry;
  s.last_exponent = exponents + last / columns + s.whole;
  s.kind = grouped ? PairJob::grouped : PairJob::chunked;
}

// dst = lhs * rhs^T where the sums fit 32 bits.
__attribute__((noinline)) inline void multiply(float* dst, const Activations& lhs, const Tensor& rhs,
                                               const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(Layout::pair, rhs.cols);
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  const std::uint32_t segment = groups ? rhs.group : kSegment;
  const std::uint32_t last = (cols - 1) / segment * segment, together = count_together(lhs);
  const float* const bias = kBuiltFeatures.biases ? rhs.bias : nullptr;
  const bool segments = groups || last;
  PairJob job;
  job.accumulate = range.accumulate;
  job.more = bias || range.accumulate;
  clear(job.zeros);
  for (std::uint32_t t = 0, vectors; t < range.n; t += vectors) {
    vectors = t < together ? kTogether : 1;
    job.x = lhs.values + std::size_t{t} * lhs.value_stride;
    job.end = job.segment_end = job.x + 2 * cols * vectors;
    job.scales = rhs.scales + range.row_begin;
    job.bias = reinterpret_cast<std::uintptr_t>(bias ? bias + range.row_begin : nullptr);
    float* const out = dst + std::size_t{t} * range.dst_stride;
    job.dst = out + range.row_begin;
    job.dst_end = out + range.row_end;
    job.weights = rhs.weights + std::size_t{range.row_begin} * cols;
    if (range.row_begin == range.row_end) continue;
    if (vectors != 1) {
      prepare_tiles(job, cols, range.dst_stride, lhs.scales + t);
      run_tiles(job);
      continue;
    }
    job.segment = 0;
    job.behind = cols > 8 * kPairBlocks;
    job.kind = PairJob::rows;
    job.x_scales[0] = lhs.scales[t];
    job.last_entry = job.entry = entry_of(cols - last);
    if (segments)
      prepare_segments(job, segment, last, rhs.multipliers + std::size_t{range.row_begin} * groups,
                       lhs.exponents + std::size_t{t} * lhs.groups, groups != 0);
    else
      job.x_scales[0] *= 1.0f / 256.0f;
    run_pairs(job, segments);
  }
}

}  // namespace heed::pair
