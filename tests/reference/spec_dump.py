#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes part 6 of SPEC.md, the hex dump of tests/golden/tiny.heed, with a line for each section and tensor.

With --check it changes nothing and fails when SPEC.md does not show the file as it is.
"""
import argparse
import os
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BEGIN = "<!-- dump begins -->"
END = "<!-- dump ends -->"
SECTIONS = {1: "stacks", 2: "directory", 3: "tokenizer", 4: "metadata", 5: "tensors", 6: "source tokenizer", 7: "classes",
            8: "generation"}
HEADS = ["w_query", "w_key", "w_value_down", "w_value_up", "key_offset", "query_gain", "query_norm_bias", "key_gain",
         "key_norm_bias"]
ROLES = [["token_embedding", "position_embedding", "token_type_embedding", "class_vectors", "input_projection",
          "convolution_1", "convolution_2", "input_gain", "input_norm_bias", "rotary_phases", "local_rotary_phases",
          "score_bias"],
         ["attention_gain", "attention_norm_bias", *HEADS, "attention_after_gain", "attention_after_bias", "", "", "",
          "ffn_gain", "ffn_norm_bias", "w_gate", "w_up", "w_down", "ffn_after_gain", "ffn_after_bias"],
         ["cross_gain", "cross_norm_bias", *(f"cross_{name}" for name in HEADS), "cross_after_gain", "cross_after_bias"],
         ["final_gain", "final_norm_bias", "dense", "dense_gain", "dense_norm_bias", "unembedding"]]


def headings(image):
    """Offset -> what begins there."""
    at = {0: ["header"], 64: ["section table"]}
    n = struct.unpack_from("<I", image, 12)[0]
    tensors = directory = None
    for i in range(n):
        kind, _, offset, size, _ = struct.unpack_from("<IIQQQ", image, 64 + 32 * i)
        at.setdefault(offset, []).append(f"section {kind}: {SECTIONS[kind]}, {size} bytes")
        if kind == 2:
            directory = (offset, size)
        if kind == 5:
            tensors = offset
    for i in range(directory[1] // 32):
        role, _, _, stack, layer, _, rows, cols, offset64 = struct.unpack_from("<BBBBHHIII", image, directory[0] + 32 * i)
        part, name = role >> 5, ROLES[role >> 5][role & 31]
        where = [f"stack {stack}"] if stack else []
        where += [f"layer {layer}"] if part in (1, 2) else []
        at.setdefault(tensors + 64 * offset64, []).append(" ".join([*where, f"{name} [{rows}, {cols}]"]))
    return at


def dump(image):
    lines, at, skipped = [], headings(image), False
    for offset in range(0, len(image), 16):
        for text in at.get(offset, []):
            lines.append(f"-- {text}")
        row = image[offset:offset + 16]
        if not any(row) and offset not in at and offset + 16 < len(image):
            if not skipped:
                lines.append("*")
            skipped = True
            continue
        skipped = False
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        lines.append(f"{offset:04x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}".ljust(56) + text)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    with open(os.path.join(ROOT, "tests", "golden", "tiny.heed"), "rb") as f:
        image = f.read()
    path = os.path.join(ROOT, "SPEC.md")
    with open(path, encoding="utf-8") as f:
        spec = f.read()
    begin, end = spec.index(BEGIN) + len(BEGIN), spec.index(END)
    wanted = f"\n```\n{dump(image)}\n```\n"
    if args.check:
        if spec[begin:end] != wanted:
            sys.exit("SPEC.md, part 6, is not tests/golden/tiny.heed: run tests/reference/spec_dump.py")
        return
    with open(path, "w", encoding="utf-8") as f:
        f.write(spec[:begin] + wanted + spec[end:])


if __name__ == "__main__":
    main()
