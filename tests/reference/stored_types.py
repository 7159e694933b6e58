#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Blocks of each stored type and what the `gguf` package decodes them to; prints the golden header.

    pip install gguf==0.17.1
    stored_types.py > tests/reference/stored_types_golden.hpp

All integers of a block are random. Its scales are random in the first two blocks and extreme in the others: the largest
half floats of both signs, the least and the largest subnormal, both zeros. Half floats go through all that are numbers.
"""
import random

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

# Where the half floats of a block stand.
SCALES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
}
EXTREMES = [0x7BFF, 0xFBFF, 0x0001, 0x83FF, 0x0000, 0x8000]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def floats_of(name, data):
    kind = getattr(GGMLQuantizationType, name)
    floats = quants.dequantize(np.frombuffer(data, np.uint8).reshape(1, -1), kind)
    return np.ascontiguousarray(floats, "<f4").tobytes()


def blocks_of(name, generator):
    size = GGML_QUANT_SIZES[getattr(GGMLQuantizationType, name)][1]
    for i in range(2 + len(EXTREMES)):
        block = bytearray(generator.randbytes(size))
        for n, at in enumerate(SCALES[name]):
            scale = generator.randrange(0x0400, 0x7000) if i < 2 else EXTREMES[(i - 2 + n) % len(EXTREMES)]
            block[at:at + 2] = scale.to_bytes(2, "little")
        yield bytes(block)


def main():
    generator = random.Random(1)
    halves = np.array([h for h in range(65536) if np.isfinite(np.uint16(h).view(np.float16))], np.uint16)
    print("// SPDX-License-Identifier: Apache-2.0")
    print("// stored_types_golden.hpp: written by stored_types.py: blocks, and CRC-32C of the floats that gguf decodes them to.")
    print("#pragma once\n#include <cstdint>\n")
    print("struct GoldenBlock {\n  const char *type, *hex;\n  std::uint32_t crc;\n};\n")
    print("// All half floats from 0 to 65535 that are finite.")
    print(f"inline constexpr std::uint32_t kGoldenHalves = 0x{crc32c(floats_of('F16', halves.tobytes())):08X};\n")
    print("inline constexpr GoldenBlock kGoldenBlocks[] = {")
    for name in SCALES:
        for block in blocks_of(name, generator):
            print(f'    {{"{name}",')
            text = block.hex()
            lines = [text[i:i + 112] for i in range(0, len(text), 112)]
            print("\n".join(f'     "{line}"' for line in lines) + f", 0x{crc32c(floats_of(name, block)):08X}}},")
    print("};")


if __name__ == "__main__":
    main()
