// SPDX-License-Identifier: Apache-2.0
// gate.hpp: the gate on cores with the DSP extension (SPEC.md 2.5), from floats to prepared activations in two
// passes behind the two that look for maxima.
#pragma once
#include "platform/cortex_m/m4/rows.hpp"

namespace heed::pair {

// What the loop below reads, in this order.
struct GateJob {
  const std::uint16_t* factor;
  std::int32_t room;  // 2^31 - 1 less the largest |h| so far
  int power;          // of two that brings |gate| to Q12, and 16 more
};

// h = gate * F(gate) * up over the floats of the gate, two at a time. To s16 as in convert_quads. The room for more,
// min(room, 2^31 - 1 - h, 2^31 - 1 + h), takes two saturating additions and one that is not.
__attribute__((noinline)) inline void gate_products(GateJob& job, float* gate, const float* up, std::uint32_t n,
                                             float gate_step, float up_step) {
  register float* r0 __asm__("r0") = gate;
  register const float* r1 __asm__("r1") = up;
  register GateJob* r12 __asm__("r12") = &job;
  register const float* lr __asm__("lr") = gate + ((n + 1) & ~1u);  // no call: it would lose the registers above
  register float s2 __asm__("s2") = gate_step;
  register float s3 __asm__("s3") = up_step;
#define HEED_FACTOR(t)                          \
  "lsr lr, " t ", #8\n\t"                       \
  "ldr lr, [r2, lr, lsl #1]\n\t"  /* F at both ends of the interval */ \
  "uxtb " t ", " t "\n\t"                       \
  "rsb " t ", " t ", " t ", lsl #16\n\t"         \
  "add " t ", " t ", #256\n\t"    /* and what they weigh: (256 - r, r) */ \
  "smlad " t ", " t ", lr, r10\n\t"
  __asm__ volatile(
      "vmov s8, s9, lr, r12\n\t"
      "ldmia r12, {r2, r3, r5}\n\t"
      "mov r4, #-1\n\t"
      "lsl r10, r4, #16\n\t"
      "mov lr, #0x00010001\n\t"
      "vmov s6, s7, r10, lr\n\t"
      "lsls r4, r5\n\t"  // -2^power, or 0 for any other power than 0 to 31
      "subs r5, #32\n\t"
      "mvn r5, r5, asr #31\n\t"
      "uxth r5, r5\n\t"  // 65535 where all but 0 saturates, else 0
      "mov r6, #0x4000\n\t"
      "mvn r7, #0x80008000\n\t"
      "1:\n\t"
      "vldmia r0, {s0, s1}\n\t"
      "vldmia r1!, {s4, s5}\n\t"
      "vadd.f32 s0, s0, s2\n\tvadd.f32 s1, s1, s2\n\tvadd.f32 s4, s4, s3\n\tvadd.f32 s5, s5, s3\n\t"
      "vmov r8, r9, s0, s1\n\t"
      "vmov r11, r12, s4, s5\n\t"
      "vmov r10, lr, s6, s7\n\t"
      "lsl r8, r8, #15\n\tlsl r9, r9, #15\n\tlsl r11, r11, #15\n\tlsl r12, r12, #15\n\t"
      "qdadd r8, r10, r8\n\tqdadd r9, r10, r9\n\tqdadd r11, r10, r11\n\tqdadd r12, r10, r12\n\t"
      "pkhtb r8, r9, r8, asr #16\n\t"
      "pkhtb r9, r12, r11, asr #16\n\t"
      "sadd16 r8, r8, lr\n\t"
      "sadd16 r9, r9, lr\n\t"
      "ssub16 r10, r5, r8\n\t"  // from here on GE marks what is negative
      "sel r10, r8, r10\n\t"    // -|gate|
      "smlawb r11, r4, r10, r5\n\t"
      "smlawt r12, r4, r10, r5\n\t"
      "usat r11, #16, r11\n\t"
      "usat r12, #16, r12\n\t"
      "mov r10, #128\n\t" HEED_FACTOR("r11") HEED_FACTOR("r12")
      "lsls r12, r12, #8\n\t"
      "pkhtb r11, r12, r11, asr #8\n\t"
      "eor lr, r11, r7\n\t"
      "sel r11, lr, r11\n\t"    // F(-a) = 32767 - F(a)
      "smlabb r10, r8, r11, r6\n\t"
      "smlatt r12, r8, r11, r6\n\t"
      "asr r10, r10, #15\n\t"
      "asr r12, r12, #15\n\t"
      "smulbb r10, r10, r9\n\t"
      "smulbt r12, r12, r9\n\t"
      "strd r10, r12, [r0], #8\n\t"
      "qadd lr, r3, r10\n\tqdsub lr, lr, r10\n\tadd r3, lr, r10\n\t"
      "qadd lr, r3, r12\n\tqdsub lr, lr, r12\n\tadd r3, lr, r12\n\t"
      "vmov lr, s8\n\t"
      "cmp r0, lr\n\t"
      "bne 1b\n\t"
      "vmov r12, s9\n\t"
      "str r3, [r12, #4]"
      : "+r"(r0), "+r"(r1), "+r"(r12), "+r"(lr)
      : "t"(s2), "t"(s3)
      : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "s0", "s1", "s4", "s5", "s6", "s7", "s8", "s9",
        "cc", "memory");
#undef HEED_FACTOR
}

// Products as int8: h << shift has s16 in its upper half. n is a multiple of four.
__attribute__((noinline)) inline void write_products(const PreparedRow& row, const float* products, std::uint32_t n,
                                                     int shift, std::int32_t reciprocal) {
  const float* const end = products + n;
  std::uint32_t* to = row.words;
  __asm__ volatile(
      "1:\n\t"
      "ldmia %[h]!, {r4-r7}\n\t"
      "lsls r4, %[shift]\n\tlsls r5, %[shift]\n\tlsls r6, %[shift]\n\tlsls r7, %[shift]\n\t"
      "smlawt r4, %[r], r4, %[half]\n\tsmlawt r5, %[r], r5, %[half]\n\t"  // int8 in the upper halves
      "smlawt r6, %[r], r6, %[half]\n\tsmlawt r7, %[r], r7, %[half]\n\t"
      "pkhtb r4, r6, r4, asr #16\n\t"
      "pkhtb r5, r7, r5, asr #16\n\t"
      "lsls r4, r4, #8\n\t"
      "and r4, r4, #0xFF00FF00\n\t"
      "ssub16 r4, r4, r5\n\t" HEED_STORE_PREPARED
      "cmp %[h], %[end]\n\t"
      "bne 1b"
      : [h] "+&r"(products), [to] "+&r"(to)
      : [speed] "i"(kBuiltFeatures.speed ? 1 : 0), [end] "r"(end), [step] "r"(row.word_step),
        [shift] "l"(shift), [r] "r"(reciprocal), [half] "r"(1 << 15)
      : "r4", "r5", "r6", "r7", "cc", "memory");
}

// What `gate` holds comes from a product and so in fours.
inline void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                         const std::uint16_t* factor) {
  const std::uint32_t n = dst.cols;
  if (!kBuiltFeatures.ungated && !up) __builtin_unreachable();
  Vector g(gate, n), u(up, n);
  bool some = g.measure_exponent();
  if (up)
    some &= u.measure_exponent();
  else
    u.exponent = 15, u.step = kRoundToInt;
  for (std::uint32_t i = n; i % 4; ++i) gate[i] = 0.0f;
  GateJob job{factor, INT32_MAX, g.exponent + 13};
  if (up && !g.special && !u.special) {
    gate_products(job, gate, up, n, g.step, u.step);
  } else {
    for (std::uint32_t i = 0; i < n; i += 2) {
      float b[2];
      for (std::uint32_t j = 0; j < 2; ++j) {
        b[j] = up ? u.at(i + j) : 1.0f;
        gate[i + j] = g.at(i + j);
      }
      gate_products(job, gate + i, b, 2, g.step, u.step);
    }
  }
  std::int32_t max = ~job.room & INT32_MAX;
  if (!some || max == 0) return store_zero(dst, index);
  const int shift = __builtin_clz(static_cast<std::uint32_t>(max)) - 1;  // the upper half is s16 then
  max = max << shift >> 16;
  if (kBuiltFeatures.groups && dst.groups) {
    for (std::uint32_t i = 0; i < n; ++i)
      gate[i] = static_cast<float>(static_cast<std::int32_t>(bits_of(gate[i]) << shift) >> 16);
    g.special = false, g.max = max, g.step = kRoundToInt;
    g.quantize(dst, index, dst.groups);
  } else {
    const PreparedRow row = prepared_row(dst, index);
    write_products(row, gate, round_up(n, 4), shift, reciprocal_127(max) << 10);
    clear_from(row, n, n);
  }
  store_scale(dst, index, max, g.exponent + u.exponent + 1 - shift, 1.0f);
}

}  // namespace heed::pair
