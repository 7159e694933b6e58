// SPDX-License-Identifier: Apache-2.0
// scores.hpp: scores of keys, their maximum and their weights on ARMv6-M. No branch depends on data.
#pragma once
#include "platform/portable/exp2.hpp"

namespace heed::thumb1 {

// Four keys a round, which the first round enters in the middle: addresses begin as many keys before the first one. Shifts take
// their count modulo 256, so that exponents need no sign.
struct Softmax {
  // Brings the dot products in `scores`, kStep apart, to the block's exponent; returns the largest.
  template <int kStep = 1>
  __attribute__((noinline)) static std::int32_t scale_scores(std::int32_t* scores, const KvBlock& block,
                                                             std::uint32_t visible) {
    const std::uint32_t skipped = (0u - visible) % 4;
    register std::int32_t* s __asm__("r0") = scores - skipped * kStep;
    register const std::uint8_t* mantissas __asm__("r1") = block.key_mantissas - skipped;
    register const std::int8_t* exponents __asm__("r2") = block.key_exponents - skipped;
    register std::int32_t exponent __asm__("r3") = block.key_exponent_maxima[visible - 1];
    register std::int32_t max __asm__("r4") = -(1 << 30);  // no score is smaller
    register const std::int32_t* end __asm__("r12") = scores + visible * kStep;
    register std::uint32_t entry __asm__("r7") = skipped * 22;
#define HEED_KEY(i) \
        "ldr r5, [r0, #" i " * %c[step]]\n\t" \
        "ldrb r6, [r1, #" i "]\n\t" \
        "muls r5, r6\n\t" \
        "ldrb r6, [r2, #" i "]\n\t" \
        "subs r6, r3, r6\n\t" \
        "asrs r5, r6\n\t" \
        "subs r6, r5, r4\n\t" \
        "asrs r7, r6, #31\n\t" \
        "bics r6, r7\n\t" \
        "adds r4, r4, r6\n\t" \
        "str r5, [r0, #" i " * %c[step]]\n\t"
    __asm__ volatile(
        ".syntax unified\n\t"
        "add pc, r7\n\t"
        "nop\n\t"
        "1:\n\t" HEED_KEY("0") HEED_KEY("1") HEED_KEY("2") HEED_KEY("3")
        "adds r0, #4 * %c[step]\n\tadds r1, #4\n\tadds r2, #4\n\t"
        "cmp r0, r12\n\t"
        "bne 1b"
        : "+r"(s), "+r"(mantissas), "+r"(exponents), "+r"(max), "+r"(entry)
        : "r"(exponent), "r"(end), [step] "i"(4 * kStep)
        : "r5", "r6", "cc", "memory");
#undef HEED_KEY
    return max;
  }

  // As Armv7Softmax::weigh_keys. A distance of more than 15 bits has the weight 0, since a mantissa is at least 2^14;
  // where it is 0, all scores are equal, and a shift by 32 makes all distances 0.
  template <int kStep = 0>
  __attribute__((noinline)) static std::uint32_t weigh_keys(std::int16_t* folded, std::int32_t* scores,
                                                            std::int32_t max, const portable::ScoreScale& scale,
                                                            const std::int8_t* value_exponents,
                                                            std::int32_t value_exponent, std::uint32_t visible) {
    const std::uint32_t skipped = (0u - visible) % 4;
    register std::int16_t* f __asm__("r0") = kStep ? nullptr : folded - skipped;  // or a zero
    register std::int32_t* u __asm__("r1") = scores - skipped * (kStep ? kStep : 1);
    register const std::int8_t* x __asm__("r2") = value_exponents - skipped;
    register std::int32_t mantissa __asm__("r3") = scale.mantissa;
    register const std::uint16_t* exp2 __asm__("r4") = portable::kExp2.values;
    register std::int32_t ve __asm__("r7") = value_exponent;
    register std::int32_t top __asm__("r8") = max;
    register std::int32_t shift __asm__("r9") = scale.mantissa ? scale.shift : 32;
    register std::int32_t start __asm__("r10") = (scale.start << 15) + (1 << 14);
    register std::uint32_t sum __asm__("r12") = 0;
    register const std::int8_t* end __asm__("lr") = value_exponents + visible;
    register std::uint32_t entry __asm__("r5") = skipped * (kStep ? 46 : 48);
#define HEED_KEY(i) \
        ".if %c[step]\n\tldr r5, [r1, #" i " * %c[step]]\n\t.else\n\tldr r5, [r1, #" i " * 4]\n\t.endif\n\t" \
        "mov r6, r8\n\t" \
        "subs r5, r6, r5\n\t" \
        "mov r6, r9\n\t" \
        "lsrs r5, r6\n\t" \
        "lsrs r6, r5, #15\n\t" \
        "rsbs r6, r6, #0\n\t" \
        "sbcs r6, r6\n\t" \
        "muls r5, r3\n\t" \
        "add r5, r10\n\t" \
        "orrs r5, r6\n\t" \
        "lsls r6, r5, #7\n\t" \
        "lsrs r6, r6, #24\n\t" \
        "lsls r6, r6, #1\n\t" \
        "ldrh r6, [r4, r6]\n\t" \
        "lsrs r5, r5, #25\n\t" \
        "lsrs r6, r5\n\t" \
        ".if %c[step]\n\tadcs r6, r0\n\t.else\n\tmovs r5, #0\n\tadcs r6, r5\n\t.endif\n\t" \
        "add r12, r6\n\t" \
        "ldrb r5, [r2, #" i "]\n\t" \
        "subs r5, r7, r5\n\t" \
        "lsrs r6, r5\n\t" \
        ".if %c[step]\n\tstr r6, [r1, #" i " * %c[step]]\n\t.else\n\tstrh r6, [r0, #" i " * 2]\n\t.endif\n\t"
    __asm__ volatile(
        ".syntax unified\n\t"
        "add pc, r5\n\t"
        "nop\n\t"
        "1:\n\t" HEED_KEY("0") HEED_KEY("1") HEED_KEY("2") HEED_KEY("3")
        ".if %c[step]\n\tadds r1, #4 * %c[step]\n\t.else\n\tadds r1, #16\n\tadds r0, #8\n\t.endif\n\t"
        "adds r2, #4\n\t"
        "cmp r2, lr\n\t"
        "bne 1b"
        : "+r"(f), "+r"(u), "+r"(x), "+r"(sum), "+r"(entry)
        : "r"(mantissa), "r"(exp2), "r"(top), "r"(shift), "r"(start), "r"(ve), "r"(end), [step] "i"(4 * kStep)
        : "r6", "cc", "memory");
#undef HEED_KEY
    return sum;
  }
};

}  // namespace heed::thumb1
