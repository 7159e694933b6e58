// SPDX-License-Identifier: Apache-2.0
// kernels_m4.cpp: the kernel table for ARMv7E-M and ARMv8-M with the DSP extension (Cortex-M4, M7, M33): two multiplies
// per instruction.
//
// A pair of weights is stored as the int16 H = 256 w1 + w0 (Layout::pair) and four activations are prepared as
// X1 = (x1, x3) and X' = (256 x0 - x1, 256 x2 - x3), so that SMLAD(H, X1) + SMLAD(SXTB16(H), X') is 256 times the dot
// product: weight words are multiplied as they lie in flash, with one extraction per four weights. int32 holds 256
// times the sum of 512 columns.
#ifndef __ARM_FEATURE_DSP
#error "kernels_m4.cpp needs a core with the DSP extension, such as -mcpu=cortex-m4"
#endif
#include <arm_acle.h>

#include "platform/cortex_m/attend.hpp"
#include "platform/cortex_m/matmul.hpp"
#include "platform/cortex_m/rows.hpp"
#include "platform/portable/products.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

using Word = std::uint32_t __attribute__((may_alias));

inline int16x2_t odd_bytes(std::uint32_t w) {
  int16x2_t r;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(w));
  return r;
}

struct Conversions : cortex_m::Armv7Loops {
  // VCVTR rounds to even, saturates, and makes NaN 0.
  static std::int32_t to_s16(float x, const BlockFloat& b) {
    std::int32_t y;
    __asm__("vcvtr.s32.f32 %0, %0" : "=t"(y) : "0"(x * b.to_s16_scale));
    y = __ssat(y, 16);
    return y < -kMaxS16 ? -kMaxS16 : y;
  }

  // n is a multiple of four.
  static void convert(std::int16_t* to, const float* src, std::uint32_t n, const BlockFloat& b) {
    const float* const end = src + n;
    const std::uint32_t ones = 0x00010001;
    __asm__ volatile(
        "1:\n\t"
        "vldmia %[src]!, {s0-s3}\n\t"
        "vmul.f32 s0, s0, %[scale]\n\tvmul.f32 s1, s1, %[scale]\n\t"
        "vmul.f32 s2, s2, %[scale]\n\tvmul.f32 s3, s3, %[scale]\n\t"
        "vcvtr.s32.f32 s0, s0\n\tvcvtr.s32.f32 s1, s1\n\tvcvtr.s32.f32 s2, s2\n\tvcvtr.s32.f32 s3, s3\n\t"
        "vmov r4, r5, s0, s1\n\t"
        "vmov r6, r7, s2, s3\n\t"
        "ssat r4, #16, r4\n\tssat r5, #16, r5\n\tssat r6, #16, r6\n\tssat r7, #16, r7\n\t"
        "pkhbt r4, r4, r5, lsl #16\n\t"
        "pkhbt r6, r6, r7, lsl #16\n\t"
        "qsub16 r4, r4, %[ones]\n\tqadd16 r4, r4, %[ones]\n\t"  // -32768 becomes -32767
        "qsub16 r6, r6, %[ones]\n\tqadd16 r6, r6, %[ones]\n\t"
        "strd r4, r6, [%[to]], #8\n\t"
        "cmp %[src], %[end]\n\t"
        "bne 1b"
        : [src] "+r"(src), [to] "+r"(to)
        : [end] "r"(end), [ones] "r"(ones), [scale] "t"(b.to_s16_scale)
        : "r4", "r5", "r6", "r7", "s0", "s1", "s2", "s3", "cc", "memory");
  }

  // Four s16 become X1 and X' of their int8 values; n is a multiple of four. Returns the sum of the squares.
  static std::int32_t finish(std::int16_t* row, std::uint32_t n, std::int32_t reciprocal) {
    std::int16_t* const end = row + n;
    std::int32_t squares = 0;
    __asm__ volatile(
        "mov r12, #0x8000\n\t"
        "1:\n\t"
        "ldrd r4, r6, [%[row]]\n\t"
        "smlawt r5, %[reciprocal], r4, r12\n\t"
        "smlawb r4, %[reciprocal], r4, r12\n\t"
        "smlawt r7, %[reciprocal], r6, r12\n\t"
        "smlawb r6, %[reciprocal], r6, r12\n\t"
        "pkhtb r4, r6, r4, asr #16\n\t"  // x0, x2
        "pkhtb r5, r7, r5, asr #16\n\t"  // x1, x3
        "smlad %[squares], r4, r4, %[squares]\n\t"
        "smlad %[squares], r5, r5, %[squares]\n\t"
        "lsls r4, r4, #8\n\t"
        "bic r4, r4, #0x00FF0000\n\t"
        "ssub16 r4, r4, r5\n\t"
        "strd r5, r4, [%[row]], #8\n\t"
        "cmp %[row], %[end]\n\t"
        "bne 1b"
        : [row] "+r"(row), [squares] "+r"(squares)
        : [end] "r"(end), [reciprocal] "r"(reciprocal)
        : "r4", "r5", "r6", "r7", "r12", "cc", "memory");
    return squares;
  }
};
using Rows = cortex_m::Rows<Conversions>;

// Eight columns of four rows of Layout::pair.
#define HEED_PAIR_BLOCK                                                                             \
  "ldmia.w lr!, {r4-r7}\n\t"                                                                        \
  "ldmia.w r12!, {r0-r3}\n\t"                                                                       \
  "smlad r8, r0, r4, r8\n\tsmlad r9, r1, r4, r9\n\tsmlad r10, r2, r4, r10\n\tsmlad r11, r3, r4, r11\n\t" \
  "sxtb16.w r0, r0\n\tsxtb16.w r1, r1\n\tsxtb16.w r2, r2\n\tsxtb16.w r3, r3\n\t"                            \
  "smlad r8, r0, r5, r8\n\tsmlad r9, r1, r5, r9\n\tsmlad r10, r2, r5, r10\n\tsmlad r11, r3, r5, r11\n\t" \
  "ldmia.w r12!, {r0-r3}\n\t"                                                                       \
  "smlad r8, r0, r6, r8\n\tsmlad r9, r1, r6, r9\n\tsmlad r10, r2, r6, r10\n\tsmlad r11, r3, r6, r11\n\t" \
  "sxtb16.w r0, r0\n\tsxtb16.w r1, r1\n\tsxtb16.w r2, r2\n\tsxtb16.w r3, r3\n\t"                            \
  "smlad r8, r0, r7, r8\n\tsmlad r9, r1, r7, r9\n\tsmlad r10, r2, r7, r10\n\tsmlad r11, r3, r7, r11\n\t"
constexpr std::uint32_t kPairBlockBytes = 108;

// What the loop over row quads below reads; offsets in bytes are spelled out there.
struct PairJob {
  std::int32_t totals[4];          //  0 of the groups so far
  const std::uint8_t* multipliers; // 16 four of the next group
  const std::uint8_t* exponents;   // 20 of the next group
  std::uint32_t segment;           // 24 bytes of x in a group
  const std::int8_t* x;            // 28
  std::uint32_t first_entry;       // 32 where the first segment enters the loop, in bytes
  const std::int8_t* first_end;    // 36 end of the first segment
  const std::int8_t* last;         // 40 begin of the last segment
  const std::int8_t* end;          // 44
  std::uint32_t last_entry;        // 48
  const std::uint8_t* all_exponents; // 52
  const float* scales;             // 56
  void* dst;                       // 60
  void* dst_end;                   // 64
  const float* bias;               // 68 or null
  const std::int8_t* weights;      // 72
  float x_scale;                   // 76
  // What happens to the sums of a segment; replaced by its address. Chunks are long rows without groups.
  enum Kind : std::uint32_t { rows, raw, grouped, chunked };
  std::uint32_t kind;              // 80
  std::uint32_t more;              // 84 a bias or accumulation
  std::uint32_t accumulate;        // 88
};

// All quads of a job. In the inner loop every register is taken, so the job's address and the end of the segment live
// in s15 and s14, and a jump into the four unrolled blocks takes care of the rest.
__attribute__((noinline)) void run_pairs(PairJob& job) {
  register PairJob* r0 __asm__("r0") = &job;
  __asm__ volatile(
      "vmov s15, r0\n\t"
      "vldr s13, [r0, #76]\n\t"
      "ldr r12, [r0, #72]\n\t"
      "ldr r2, [r0, #80]\n\t"
      "adr.w r1, 12f\n\t"
      "cmp r2, #1\n\t"
      "it eq\n\tadreq.w r1, 7f\n\t"
      "cmp r2, #2\n\t"
      "it eq\n\tadreq.w r1, 5f\n\t"
      "it hi\n\tadrhi.w r1, 14f\n\t"
      "adds r1, #1\n\t"
      "str r1, [r0, #80]\n\t"
      "1:\n\t"  // a quad of rows
      "vmov r7, s15\n\t"
      "ldr lr, [r7, #28]\n\t"
      "ldrd r0, r1, [r7, #32]\n\t"
      "vmov s14, r1\n\t"
      "2:\n\t"  // a segment: r0 is the entry
      "mov r8, #0\n\tmov r9, #0\n\tmov r10, #0\n\tmov r11, #0\n\t"
      ".balign 4\n\t"
      "add pc, r0\n\t"
      "nop\n\t"
      "3:\n\t" HEED_PAIR_BLOCK HEED_PAIR_BLOCK HEED_PAIR_BLOCK HEED_PAIR_BLOCK
      "vmov r0, s14\n\t"
      "cmp lr, r0\n\t"
      "bne 3b\n\t"
      "vmov r7, s15\n\t"
      "ldr pc, [r7, #80]\n\t"
      ".balign 4\n\t"
      "12:\n\t"  // whole rows
      "vmov s0, s1, r8, r9\n\t"
      "vmov s2, s3, r10, r11\n\t"
      "4:\n\t"  // y = float(sum) * (row scale * x scale)
      "ldrd r0, r2, [r7, #56]\n\t"
      "vldmia r0!, {s4-s7}\n\t"
      "vcvt.f32.s32 s0, s0\n\tvcvt.f32.s32 s1, s1\n\tvcvt.f32.s32 s2, s2\n\tvcvt.f32.s32 s3, s3\n\t"
      "vmul.f32 s4, s4, s13\n\tvmul.f32 s5, s5, s13\n\tvmul.f32 s6, s6, s13\n\tvmul.f32 s7, s7, s13\n\t"
      "vmul.f32 s0, s0, s4\n\tvmul.f32 s1, s1, s5\n\tvmul.f32 s2, s2, s6\n\tvmul.f32 s3, s3, s7\n\t"
      "ldrd r3, r1, [r7, #64]\n\t"  // the end of dst, bias
      "ldrd r4, r5, [r7, #84]\n\t"
      "cbz r4, 9f\n\t"
      "cbz r1, 8f\n\t"
      "vldmia r1!, {s4-s7}\n\t"
      "str r1, [r7, #68]\n\t"
      "vadd.f32 s0, s0, s4\n\tvadd.f32 s1, s1, s5\n\tvadd.f32 s2, s2, s6\n\tvadd.f32 s3, s3, s7\n\t"
      "8:\n\t"
      "cbz r5, 9f\n\t"
      "vldmia r2, {s4-s7}\n\t"
      "vadd.f32 s0, s4, s0\n\tvadd.f32 s1, s5, s1\n\tvadd.f32 s2, s6, s2\n\tvadd.f32 s3, s7, s3\n\t"
      "9:\n\t"
      "vstmia r2!, {s0-s3}\n\t"
      "strd r0, r2, [r7, #56]\n\t"
      "cmp r2, r3\n\t"
      "bne 1b\n\t"
      "b 6f\n\t"
      ".balign 4\n\t"
      "7:\n\t"  // raw sums
      "ldrd r2, r3, [r7, #60]\n\t"
      "stmia r2!, {r8-r11}\n\t"
      "str r2, [r7, #60]\n\t"
      "cmp r2, r3\n\t"
      "bne 1b\n\t"
      "b 6f\n\t"
      ".balign 4\n\t"
      "5:\n\t"  // the end of a group: totals += multiplier * 2^exponent * sum; SMLAW takes 2^16 off both
      "ldmia r7, {r0-r6}\n\t"
      "add r6, lr\n\t"
      "vmov s14, r6\n\t"
      "ldr r6, [r4], #4\n\t"
      "ldrb r7, [r5], #1\n\t"
      "lsls r6, r7\n\t"
      "and r7, r6, #0xFF00FF00\n\t"
      "lsls r6, r6, #8\n\t"
      "and r6, r6, #0xFF00FF00\n\t"
      "smlawb r0, r8, r6, r0\n\t"
      "smlawb r1, r9, r7, r1\n\t"
      "smlawt r2, r10, r6, r2\n\t"
      "smlawt r3, r11, r7, r3\n\t"
      "vmov r7, s15\n\t"
      "13:\n\t"  // the next segment begins at lr
      "stmia r7, {r0-r5}\n\t"
      "ldr r6, [r7, #40]\n\t"
      "mov r8, #0\n\tmov r9, #0\n\tmov r10, #0\n\tmov r11, #0\n\t"
      "cmp lr, r6\n\t"
      "blo 3b\n\t"
      "bhi 10f\n\t"
      "ldrd r6, r0, [r7, #44]\n\t"
      "vmov s14, r6\n\t"
      "b 2b\n\t"
      ".balign 4\n\t"
      "14:\n\t"  // the end of a chunk
      "ldmia r7, {r0-r6}\n\t"
      "add r6, lr\n\t"
      "vmov s14, r6\n\t"
      "add r0, r0, r8, asr #8\n\tadd r1, r1, r9, asr #8\n\tadd r2, r2, r10, asr #8\n\tadd r3, r3, r11, asr #8\n\t"
      "b 13b\n\t"
      "10:\n\t"  // the end of a row of several segments
      "vldmia r7, {s0-s3}\n\t"
      "movs r0, #0\n\tmovs r1, #0\n\tmovs r2, #0\n\tmovs r3, #0\n\t"
      "ldr r5, [r7, #52]\n\t"
      "stmia r7, {r0-r5}\n\t"
      "b 4b\n\t"
      "6:\n\t"
      : "+r"(r0)
      :
      : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s2", "s3", "s4",
        "s5", "s6", "s7", "s13", "s14", "s15", "cc", "memory");
}
#undef HEED_PAIR_BLOCK

// Where x, which covers `columns`, enters the four unrolled blocks.
constexpr std::uint32_t entry_of(std::uint32_t columns) {
  return (0u - columns / 8) % 4 * kPairBlockBytes;
}

// 256 times `rows` dot products with weights in Layout::pair, rows in fours.
void raw_sums(std::int32_t* sums, const std::int8_t* weights, const std::int8_t* x, std::uint32_t columns,
              std::uint32_t rows) {
  PairJob job;
  job.x = x;
  job.first_entry = entry_of(columns);
  job.first_end = x + 2 * columns;
  job.dst = sums;
  job.dst_end = sums + rows;
  job.weights = weights;
  job.kind = PairJob::raw;
  run_pairs(job);
}

struct Core : cortex_m::Armv7Softmax<8> {
  static constexpr std::uint32_t kSegment = 512, kElementBytes = 2, kKeyStep = 8;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return static_cast<float>(sum) * (row_scale * x_scale);
  }

  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::uint32_t stride = padded_cols(Layout::pair, rhs.cols);
    raw_sums(sums, rhs.weights + std::size_t{row} * stride + 4 * column, x, columns, 4);
    for (int i = 0; i < 4; ++i) sums[i] >>= 8;
  }

  // Keys are rows of Layout::pair, four slots together.
  static void scores(std::int32_t* dst, const Activations& queries, std::uint32_t index, const KvBlock& block,
                     std::uint32_t visible) {
    const std::uint32_t stride = round_up(block.head_dim, 4), columns = round_up(stride, 8);
    // An odd half block multiplies the zeros behind the query by what follows the keys.
    const std::uint32_t step = stride == columns ? round_up(visible, 4) : 4;
    for (std::uint32_t k = 0; k < visible; k += step)
      raw_sums(dst + k, block.keys + std::size_t{k} * stride, portable::activation_row(queries, index), columns, step);
  }

  static void weigh(float* numerators, const std::int16_t* folded, const KvBlock& block, std::uint32_t visible,
                    float keep, float add) {
    const std::uint32_t quads = block.head_dim & ~3u;
    const std::int16_t* const end = folded + round_up(visible, kKeyStep);
    if (quads) weigh_quads(numerators, numerators + quads, block.values, 4 * block.capacity, folded, end, keep, add);
    for (std::uint32_t d = quads; d < block.head_dim; ++d) {
      const auto* v = reinterpret_cast<const Word*>(block.values + std::size_t{d} * block.capacity);
      std::int32_t sum = 0;
      for (auto* p = reinterpret_cast<const Word*>(folded); p != reinterpret_cast<const Word*>(end); p += 2) {
        sum = __smlad(__sxtb16(static_cast<int8x4_t>(*v)), static_cast<int16x2_t>(p[0]), sum);
        sum = __smlad(odd_bytes(*v++), static_cast<int16x2_t>(p[1]), sum);
      }
      numerators[d] = portable::merge_numerator(numerators[d], sum, keep, add);
    }
  }

  // Four head dimensions at a time, whose values come four slots of each after the other, and their merge.
  static void weigh_quads(float* numerators, const float* numerators_end, const std::int8_t* values, std::uint32_t step,
                          const std::int16_t* weights, const std::int16_t* weights_end, float keep, float add) {
    register const std::int16_t* p __asm__("r0") = weights;
    register const std::int8_t* v __asm__("r1") = values;
    register float* dst __asm__("r2") = numerators;
    register const float* dst_end __asm__("r3") = numerators_end;
    register std::uint32_t v_step __asm__("r12") = step;
    register const std::int16_t* p_end __asm__("lr") = weights_end;
    register float old_factor __asm__("s8") = keep;
    register float new_factor __asm__("s9") = add;
#define HEED_VALUE(a, v)               \
  "sxtb16 r12, " v "\n\t"              \
  "smlad " a ", r12, r2, " a "\n\t"    \
  "sxtb16 " v ", " v ", ror #8\n\t"    \
  "smlad " a ", " v ", r3, " a "\n\t"
#define HEED_FOUR_KEYS             \
  "ldrd r2, r3, [r0], #8\n\t"      \
  "ldmia r1!, {r4-r7}\n\t" HEED_VALUE("r8", "r4") HEED_VALUE("r9", "r5") HEED_VALUE("r10", "r6") HEED_VALUE("r11", "r7")
// Magnitudes below 2^-40 become +0.
#define HEED_SNAP(x) "cmp r3, " x ", lsl #1\n\tit hi\n\tmovhi " x ", #0\n\t"
    __asm__ volatile(
        "vmov s10, s11, r0, r1\n\t"
        "vmov s12, s13, r2, r3\n\t"
        "vmov s14, r12\n\t"
        "1:\n\t"
        "mov r8, #0\n\tmov r9, #0\n\tmov r10, #0\n\tmov r11, #0\n\t"
        "2:\n\t" HEED_FOUR_KEYS HEED_FOUR_KEYS
        "cmp r0, lr\n\t"
        "bne 2b\n\t"
        "vmov r2, r3, s12, s13\n\t"
        "vmov s0, s1, r8, r9\n\t"
        "vmov s2, s3, r10, r11\n\t"
        "vldmia r2, {s4-s7}\n\t"
        "vcvt.f32.s32 s0, s0\n\tvcvt.f32.s32 s1, s1\n\tvcvt.f32.s32 s2, s2\n\tvcvt.f32.s32 s3, s3\n\t"
        "vmul.f32 s4, s4, s8\n\tvmul.f32 s5, s5, s8\n\tvmul.f32 s6, s6, s8\n\tvmul.f32 s7, s7, s8\n\t"
        "vmul.f32 s0, s0, s9\n\tvmul.f32 s1, s1, s9\n\tvmul.f32 s2, s2, s9\n\tvmul.f32 s3, s3, s9\n\t"
        "vadd.f32 s0, s4, s0\n\tvadd.f32 s1, s5, s1\n\tvadd.f32 s2, s6, s2\n\tvadd.f32 s3, s7, s3\n\t"
        "vmov r4, r5, s0, s1\n\t"
        "vmov r6, r7, s2, s3\n\t"
        "mov r8, r3\n\t"
        "mov r3, #0x57000000\n\t" HEED_SNAP("r4") HEED_SNAP("r5") HEED_SNAP("r6") HEED_SNAP("r7")
        "stmia r2!, {r4-r7}\n\t"
        "vmov s12, r2\n\t"
        "vmov r0, r1, s10, s11\n\t"
        "vmov r12, s14\n\t"
        "add r1, r12\n\t"
        "vmov s11, r1\n\t"
        "cmp r2, r8\n\t"
        "bne 1b"
        : "+r"(p), "+r"(v), "+r"(dst), "+r"(dst_end), "+r"(v_step)
        : "r"(p_end), "t"(old_factor), "t"(new_factor)
        : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s10",
          "s11", "s12", "s13", "s14", "cc", "memory");
#undef HEED_SNAP
#undef HEED_FOUR_KEYS
#undef HEED_VALUE
  }
};

void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(Layout::pair, rhs.cols);
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  if (kBuiltFeatures.groups && groups && cols > kGroupedColsInS32)  // sums in 64 bits
    return cortex_m::matmul<Core>(dst, lhs, rhs, range);
  const std::uint32_t segment = groups ? rhs.group : Core::kSegment;
  const std::uint32_t last = (cols - 1) / segment * segment;
  PairJob job;
  job.segment = 2 * segment;
  job.last_entry = entry_of(cols - last);
  job.first_entry = last ? 0 : job.last_entry;
  job.accumulate = range.accumulate;
  job.more = rhs.bias || range.accumulate;
  for (std::uint32_t t = 0; t < range.n; ++t) {
    for (std::int32_t& total : job.totals) total = 0;
    job.multipliers = rhs.multipliers + std::size_t{range.row_begin} * groups;
    job.exponents = job.all_exponents = lhs.exponents + std::size_t{t} * lhs.groups;
    job.x = lhs.values + std::size_t{t} * lhs.value_stride;
    job.last = job.x + 2 * last;
    job.end = job.x + 2 * cols;
    job.first_end = last ? job.x + job.segment : job.end;
    job.kind = groups ? PairJob::grouped : last ? PairJob::chunked : PairJob::rows;
    job.scales = rhs.scales + range.row_begin;
    job.bias = rhs.bias ? rhs.bias + range.row_begin : nullptr;
    job.dst = dst + std::size_t{t} * range.dst_stride + range.row_begin;
    job.dst_end = dst + std::size_t{t} * range.dst_stride + range.row_end;
    job.weights = rhs.weights + std::size_t{range.row_begin} * cols;
    job.x_scale = job.kind == PairJob::rows ? lhs.scales[t] * (1.0f / 256.0f) : lhs.scales[t];
    if (range.row_begin != range.row_end) run_pairs(job);
  }
}

void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
               const KeyOffset& offset) {
  std::int8_t* quad = dst.keys + std::size_t{slot / 4} * 4 * round_up(dst.head_dim, 4) + slot % 4 * 4;
  Rows::store_key(dst, slot, src, rotation, offset, [=](std::uint32_t d, std::int32_t q) {
    std::int8_t* at = quad + 4 * (d & ~3u) + (d & 3);
    *at = static_cast<std::int8_t>(d & 1 ? q - (at[-1] < 0) : q);  // 256 w1 + w0 borrows
  });
}

void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  // Slots 0, 2, 1, 3 in a word, so that SXTB16 takes out (0, 1) and (2, 3).
  const std::uint32_t byte = (slot & 1) << 1 | (slot >> 1 & 1), quads = dst.head_dim & ~3u;
  Rows::store_value(dst, slot, src, [=](std::uint32_t d, std::int32_t q) {
    const std::uint32_t row = d & 3, at = d < quads ? (slot & ~3u) * 4 + row * 4 : row * dst.capacity + (slot & ~3u);
    dst.values[(d & ~3u) * dst.capacity + at + byte] = static_cast<std::int8_t>(q);
  });
}

}  // namespace

extern const Kernels kernels_cortex_m4;
const Kernels kernels_cortex_m4 = {
    traits::kCortexM4,
    portable::crc32c,
    portable::embed_from<Layout::pair>,
    Rows::quantize_s8r_f32,
    Rows::norm_s8r_f32,
    Rows::gate_s8r_f32,
    matmul_f32_s8r_s8c,
    Rows::query_s8r_f32,
    store_key,
    store_value,
    cortex_m::attend_block<Core>,
    portable::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed
