#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The sampler of SPEC.md written the slow and obvious way: sorted lists and unbounded integers; prints the golden header.

    sampler_reference.py > tests/reference/sampler_golden.hpp

Floats are binary32 by rounding each binary64 result once more, which for + - * / gives the same as one rounding.
"""
import struct
import zlib

M64 = 2**64 - 1


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def exp_f32(x):
    x = min(max(x, -87.0), 88.0)
    t = f32(f32(x * f32(1.44269504)) + 12582912.0)
    n = f32(t - 12582912.0)
    r = f32(x - f32(n * 0.693359375))
    r = f32(r - f32(n * f32(-2.12194440e-4)))
    q = f32(0.008312501013278961)
    for c in (0.041890330612659454, 0.16667115688323975, 0.499992311000824):
        q = f32(f32(q * r) + f32(c))
    q = f32(q * f32(r * r))
    q = f32(f32(q + r) + 1.0)
    return struct.unpack("<f", struct.pack("<I", (bits(q) + (bits(t) << 23)) & 0xFFFFFFFF))[0]


def weight(logit, top, inverse):
    x = f32(f32(logit - top) * inverse)
    return bits(f32(f32(exp_f32(x) * 4194304.0) + 8388608.0)) & 0x7FFFFF


class SplitMix64:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & M64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
        return z ^ (z >> 31)


def penalise(logit, penalty):
    x = f32(logit / penalty if logit > 0 else logit * penalty)
    return x if abs(x) >= 2.0**-40 else 0.0


def pick(logits, temperature, top_k, top_p, random, penalty=1.0, seen=(), min_p=0.0):
    if penalty != 1.0:
        logits = [penalise(l, f32(penalty)) if i in seen else l for i, l in enumerate(logits)]
    top = max(logits)
    if temperature == 0.0:
        return logits.index(top)
    w = [weight(l, top, f32(1.0 / f32(temperature))) for l in logits]
    order = sorted(range(len(w)), key=lambda i: (-w[i], i))
    if top_k:
        order = order[:top_k]
    if 0.0 < top_p < 1.0:
        fraction = max(1, int(f32(top_p) * 2**24))
        total, s, n = sum(w[i] for i in order), 0, 0
        while s * 2**24 < fraction * total:
            s += w[order[n]]
            n += 1
        order = order[:n]
    # As likely as `min_p` of the likeliest, in 2^-24.
    order = [i for i in order if w[i] * 2**24 >= int(f32(min_p) * 2**24) * 2**22]
    order.sort()
    threshold = (random.next() >> 40) * sum(w[i] for i in order) >> 24
    for i in order:
        threshold -= w[i]
        if threshold < 0:
            return i


# vocabulary, temperature, top_k, top_p, seed, logits in steps of 1/4 (many ties), picks
CASES = [
    (512, 1.0, 0, 1.0, 0, False, 200), (512, 0.8, 0, 1.0, 1, False, 200), (512, 0.8, 40, 1.0, 1, False, 200),
    (512, 0.8, 0, 0.9, 1, False, 200), (512, 0.8, 40, 0.9, 1, False, 200), (512, 2.0, 0, 0.9, 7, True, 200),
    (512, 2.0, 13, 1.0, 7, True, 200), (512, 2.0, 29, 0.55, 7, True, 200), (512, 100.0, 0, 0.999, 2**64 - 1, True, 200),
    (512, 100.0, 0, 1.0, 2**64 - 1, False, 200), (512, 0.05, 0, 0.3, 12345678901234567, False, 200),
    (512, 1.0, 1, 1.0, 3, True, 50), (512, 1.0, 0, 1e-9, 3, True, 50), (512, 0.0, 0, 1.0, 3, True, 50),
    (1, 1.0, 0, 0.5, 0, False, 3), (2, 1.5, 5, 0.5, 0, False, 100), (65, 1.0, 64, 0.99999994, 9, False, 200),
    (4099, 3.0, 1000, 0.97, 11, False, 20), (4099, 3.0, 0, 0.5, 11, True, 20), (50257, 1.2, 0, 0.95, 42, True, 4),
]
# The same, then penalty, tokens that it is for, min_p, and tokens of a prompt: 3, 10, 17, ... modulo the vocabulary.
MORE_CASES = [
    (512, 1.0, 0, 1.0, 5, False, 200, 1.1, 64, 0.0, 0), (512, 0.8, 40, 0.9, 1, False, 200, 1.3, 64, 0.0, 80),
    (512, 0.0, 0, 1.0, 0, True, 200, 1.5, 7, 0.0, 3), (512, 0.0, 0, 1.0, 0, False, 200, 1.0009765625, 1, 0.0, 1),
    (512, 2.0, 0, 1.0, 8, True, 200, 0.75, 300, 0.0, 5), (16, 1.0, 0, 1.0, 2, True, 200, 100.0, 5, 0.0, 40),
    (16, 1.0, 0, 1.0, 2, False, 200, 0.01, 16, 0.0, 2), (1, 1.0, 0, 1.0, 2, False, 5, 3.0, 2, 0.0, 1),
    (512, 1.0, 0, 1.0, 5, False, 200, 1.0, 64, 0.05, 0), (512, 3.0, 0, 1.0, 5, True, 200, 1.0, 64, 0.33333334, 0),
    (512, 3.0, 40, 0.9, 5, False, 200, 1.0, 64, 0.5, 0), (512, 3.0, 0, 0.2, 5, True, 200, 1.0, 64, 1.0, 0),
    (512, 9.0, 0, 1.0, 5, False, 200, 1.0, 64, 5.9604645e-08, 0), (512, 50.0, 100, 1.0, 5, True, 200, 1.0, 64, 0.9, 0),
    (4099, 1.5, 0, 0.95, 9, False, 40, 1.2, 64, 0.1, 100), (50257, 0.9, 1000, 0.99, 42, True, 4, 1.1, 64, 0.02, 200),
]


def main():
    print("// SPDX-License-Identifier: Apache-2.0")
    print("// sampler_golden.hpp: written by sampler_reference.py; crc: CRC-32 (zlib's) of all picks as int32.")
    print("#pragma once\n#include <cstdint>\n")
    print("struct GoldenPicks {\n  std::uint32_t vocab_size;\n  float temperature;\n  std::uint32_t top_k;\n  float top_p;\n"
          "  std::uint64_t seed;\n  bool coarse;\n  std::uint32_t picks;\n  std::uint32_t crc;\n"
          "  std::int32_t first[4];\n  float repeat_penalty = 1.0f;\n  std::uint32_t repeat_last = 64;\n  float min_p = 0.0f;\n"
          "  std::uint32_t prompt = 0;\n};\n")
    print("inline constexpr GoldenPicks kGoldenPicks[] = {")
    for case in CASES + MORE_CASES:
        vocab, temperature, top_k, top_p, seed, coarse, picks = case[:7]
        penalty, last, min_p, prompt = case[7:] or (1.0, 64, 0.0, 0)
        x, random, tokens, history = 2463534242, SplitMix64(seed), [], [(7 * i + 3) % vocab for i in range(prompt)]
        for _ in range(picks):
            logits = []
            for _ in range(vocab):
                x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
                logits.append((x >> 26) / 4.0 - 8.0 if coarse else (x >> 16) / 4096.0 - 8.0)
            history = history[-last:]
            tokens.append(pick(logits, temperature, top_k, top_p, random, penalty, history, min_p))
            history.append(tokens[-1])
        crc = zlib.crc32(struct.pack("<%di" % picks, *tokens))
        print("    {%d, %rf, %d, %rf, %dull, %s, %d, 0x%08X, {%s}%s}," % (
            vocab, temperature, top_k, top_p, seed, str(coarse).lower(), picks, crc,
            ", ".join(map(str, (tokens + [-1] * 4)[:4])), ", %rf, %d, %rf, %d" % case[7:] if case[7:] else ""))
    print("};\n\n// exp_f32 of these, as bits.\nstruct GoldenExp {\n  float x;\n  std::uint32_t bits;\n};")
    print("inline constexpr GoldenExp kGoldenExp[] = {")
    for x in (0.0, -0.25, -0.34375, -0.5, -1.0, -2.71875, -10.0, -16.5, -40.0, -87.0, -1000.0, 1.0, 88.0):
        print("    {%rf, 0x%08X}," % (x, bits(exp_f32(x))))
    print("};\n\n// The first numbers of SplitMix64 from seed 0, as published test vectors have them.")
    random = SplitMix64(0)
    print("inline constexpr std::uint64_t kSplitMix64[3] = {%s};" % ", ".join("0x%016Xull" % random.next() for _ in range(3)))


if __name__ == "__main__":
    main()
