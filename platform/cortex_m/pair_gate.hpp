// SPDX-License-Identifier: Apache-2.0
// pair_gate.hpp: the gate on cores with the DSP extension (SPEC.md 2.5), from floats to prepared activations in two
// passes behind the two that look for maxima.
#pragma once
#include "platform/cortex_m/pair_rows.hpp"

namespace heed::pair {

// What the loop below reads, in this order.
struct GateJob {
  std::uint32_t left, right;  // |gate| to Q12 by a shift to the left and one to the right
  const std::uint16_t* factor;
  std::int32_t half;          // 2^14
  std::int32_t ones;          // 0x00010001
  std::int32_t max;           // the largest |h| so far
};

// h = gate * F(gate) * up over the floats of the gate.
__attribute__((noinline)) inline void gate_products(GateJob& job, float* gate, const float* up, std::uint32_t n,
                                             float gate_step, float up_step) {
  register GateJob* r0 __asm__("r0") = &job;
  register float* r1 __asm__("r1") = gate;
  register const float* r2 __asm__("r2") = up;
  register const float* r3 __asm__("r3") = gate + n;
  register float s2 __asm__("s2") = gate_step;
  register float s3 __asm__("s3") = up_step;
  __asm__ volatile(
      "vmov s4, r0\n\t"
      "ldmia r0, {r4, r5, r6, r7, r8, r9}\n\t"
      "1:\n\t"
      "vldr s0, [r1]\n\t"
      "vldmia r2!, {s1}\n\t"
      "vadd.f32 s0, s0, s2\n\t"
      "vadd.f32 s1, s1, s3\n\t"
      "vmov r10, r11, s0, s1\n\t"
      "sbfx r10, r10, #0, #17\n\t"
      "sbfx r11, r11, #0, #17\n\t"
      "ssat r10, #16, r10\n\t"
      "ssat r11, #16, r11\n\t"
      "pkhbt r11, r10, r11, lsl #16\n\t"
      "qsub16 r11, r11, r8\n\t"  // -32768 becomes -32767
      "qadd16 r11, r11, r8\n\t"
      "sxth r10, r11\n\t"
      "eor r12, r10, r10, asr #31\n\t"
      "sub r12, r12, r10, asr #31\n\t"
      "lsl r12, r12, r4\n\t"
      "lsr r12, r12, r5\n\t"
      "usat r12, #16, r12\n\t"
      "lsr lr, r12, #8\n\t"
      "ldr lr, [r6, lr, lsl #1]\n\t"  // F at both ends of the interval
      "uxtb r12, r12\n\t"
      "rsb r12, r12, r12, lsl #16\n\t"
      "add r12, r12, #256\n\t"        // and what they weigh: (256 - r, r)
      "smuad r12, r12, lr\n\t"
      "add r12, r12, #128\n\t"
      "asr r12, r12, #8\n\t"
      "eor r12, r12, r10, lsr #17\n\t"  // F(-a) = 32767 - F(a)
      "mla r12, r12, r10, r7\n\t"
      "asr r12, r12, #15\n\t"
      "smulbt r12, r12, r11\n\t"
      "str r12, [r1], #4\n\t"
      "eor r10, r12, r12, asr #31\n\t"
      "sub r10, r10, r12, asr #31\n\t"
      "cmp r10, r9\n\t"
      "it gt\n\t"
      "movgt r9, r10\n\t"
      "cmp r1, r3\n\t"
      "bne 1b\n\t"
      "vmov r0, s4\n\t"
      "str r9, [r0, #20]"
      : "+r"(r0), "+r"(r1), "+r"(r2)
      : "r"(r3), "t"(s2), "t"(s3)
      : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "s0", "s1", "s4", "cc", "memory");
}

// Products as int8: (h << left) >> right is s16. n is a multiple of four.
__attribute__((noinline)) inline void write_products(const PreparedRow& row, const float* products, std::uint32_t n, int left, int right, std::int32_t reciprocal) {
  const float* const end = products + n;
  std::uint32_t* to = row.words;
  __asm__ volatile(
      "1:\n\t"
      "ldmia %[h]!, {r4-r7}\n\t"
      "lsl r4, r4, %[left]\n\tlsl r5, r5, %[left]\n\tlsl r6, r6, %[left]\n\tlsl r7, r7, %[left]\n\t"
      "asr r4, r4, %[right]\n\tasr r5, r5, %[right]\n\tasr r6, r6, %[right]\n\tasr r7, r7, %[right]\n\t"
      "smmulr r4, r4, %[r]\n\tsmmulr r5, r5, %[r]\n\tsmmulr r6, r6, %[r]\n\tsmmulr r7, r7, %[r]\n\t"
      HEED_PREPARE HEED_STORE_PREPARED
      "cmp %[h], %[end]\n\t"
      "bne 1b"
      : [h] "+&r"(products), [to] "+&r"(to)
      : [speed] "i"(kBuiltFeatures.speed ? 1 : 0), [end] "r"(end), [step] "r"(row.word_step),
        [left] "r"(left), [right] "r"(right), [r] "r"(reciprocal)
      : "r4", "r5", "r6", "r7", "cc", "memory");
}

// What `gate` holds comes from a product and so in fours.
inline void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                         const std::uint16_t* factor) {
  const std::uint32_t n = dst.cols;
  if (!kBuiltFeatures.ungated && !up) __builtin_unreachable();
  Vector g(gate, n), u(up, n);
  bool some = g.measure();
  if (up)
    some &= u.measure();
  else
    u.exponent = 15, u.step = kRoundToInt;
  // One of the shifts is 0; 32 and more leave nothing, and a gate that is not 0 fills 16 bits.
  const int shift = g.exponent - 3;
  GateJob job{shift > 0 ? static_cast<std::uint32_t>(shift > 16 ? 16 : shift) : 0,
              shift < 0 ? static_cast<std::uint32_t>(-shift) : 0, factor, 1 << 14, 0x00010001, 0};
  if (up && !g.special && !u.special) {
    gate_products(job, gate, up, n, g.step, u.step);
  } else {
    for (std::uint32_t i = 0; i < n; ++i) {
      const float b = up ? u.at(i) : 1.0f;
      gate[i] = g.at(i);
      gate_products(job, gate + i, &b, 1, g.step, u.step);
    }
  }
  std::int32_t max = job.max;
  if (!some || max == 0) return store_zero(dst, index);
  const int left = __builtin_clz(static_cast<std::uint32_t>(max)) - 17;
  const int right = left < 0 ? -left : 0, more = left < 0 ? 0 : left;
  max = (max << more) >> right;
  if (kBuiltFeatures.groups && dst.groups) {
    for (std::uint32_t i = 0; i < n; ++i)
      gate[i] = static_cast<float>(static_cast<std::int32_t>(bits_of(gate[i]) << more) >> right);
    g.special = false, g.max = max, g.step = kRoundToInt;
    g.quantize(dst, index, dst.groups);
  } else {
    for (std::uint32_t i = n; i % 4; ++i) gate[i] = 0.0f;
    const PreparedRow row = prepared_row(dst, index);
    write_products(row, gate, round_up(n, 4), more, right, reciprocal_127(max) << 10);
    clear_from(row, n, n);
  }
  store_scale(dst, index, max, g.exponent + u.exponent - 15 - left, 1.0f);
}

}  // namespace heed::pair
