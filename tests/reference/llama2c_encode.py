#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Encodes text the way llama2.c does, written from its behaviour and independent of heed; prints the golden header.

    llama2c_encode.py DATA > tests/reference/tokenizer_golden.hpp      (DATA = the folder with stories260K/ and text/)

Quadratic on purpose: every round looks at every pair again, with plain strings and a dictionary. BOS and the names of
byte tokens ("<0xE2>") take part in merging as strings, as they do there, so equal results also show that leaving
them out (heed does) changes nothing.
"""
import struct
import sys
import zlib


def read_tokenizer(path, n):
    data = open(path, "rb").read()
    at, pieces, scores = 4, [], []
    for _ in range(n):
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append(data[at + 8 : at + 8 + length])
        scores.append(score)
        at += 8 + length
    assert at == len(data)
    return pieces, scores


def encode(pieces, scores, text, bos):
    ids = {}
    for i, piece in enumerate(pieces):
        ids.setdefault(piece, i)
    tokens = [1] if bos else []
    if text:
        tokens.append(ids[b" "])
    i = 0
    while i < len(text):
        j = i + 1
        while j < len(text) and text[j] & 0xC0 == 0x80 and j - i < 4:
            j += 1
        if text[i:j] in ids:
            tokens.append(ids[text[i:j]])
        else:
            tokens += [b + 3 for b in text[i:j]]
        i = j
    while True:
        best = None
        for i in range(len(tokens) - 1):
            merged = ids.get(pieces[tokens[i]] + pieces[tokens[i + 1]])
            if merged is not None and scores[merged] > (best[0] if best else -1e10):
                best = (scores[merged], i, merged)
        if best is None:
            return tokens
        tokens[best[1] : best[1] + 2] = [best[2]]


def crc(tokens):
    return zlib.crc32(struct.pack("<%di" % len(tokens), *tokens))


# Cut after every byte by the test: letters, accents, CJK, an emoji family, a stray continuation, a cut character.
TORN = ("Once, na\u00efve \u4f60\u597d \U0001f469\u200d\U0001f467 said \u201chi\u201d\n  twice".encode()
        + b" \x80\xbf\xbf\xbf\xbf A\x80 \xe4\xbd \xff\xfe \xf0\x9f\x98")


def main():
    data = sys.argv[1]
    pieces, scores = read_tokenizer(data + "/stories260K/tok512.bin", 512)
    text = open(data + "/text/tinystories.txt", "rb").read()
    rows, total = [], 0
    for c in range(60):
        tokens = encode(pieces, scores, text[900 * c : 900 * (c + 1)], bos=True)
        total += len(tokens) - 1
        rows.append("{%d, 0x%08X}" % (len(tokens), crc(tokens)))
    torn = []
    for n in range(len(TORN) + 1):
        tokens = encode(pieces, scores, TORN[:n], bos=True)
        torn.append("{%d, 0x%08X}" % (len(tokens), crc(tokens)))

    def table(cells):
        return "".join("    %s,\n" % ", ".join(cells[i : i + 5]) for i in range(0, len(cells), 5))

    print("// SPDX-License-Identifier: Apache-2.0")
    print("// tokenizer_golden.hpp: written by llama2c_encode.py: tokens (BOS included) and CRC-32 (zlib's) of their int32.")
    print("#pragma once\n#include <cstdint>\n")
    print("struct GoldenTokens {\n  std::uint32_t count, crc;\n};\n")
    print("// The 60 chunks of 900 bytes of tinystories.txt; tokens after BOS together: %d.\n" % total
          + "inline constexpr std::uint32_t kGoldenTotal = %d;" % total)
    print("inline constexpr GoldenTokens kGoldenChunks[60] = {\n%s};\n" % table(rows))
    print("inline constexpr unsigned char kTornText[] = {")
    for i in range(0, len(TORN), 16):
        print("    " + ", ".join("0x%02X" % b for b in TORN[i : i + 16]) + ",")
    print("};\n\n// Its first 0, 1, 2, ... bytes.")
    print("inline constexpr GoldenTokens kGoldenTorn[%d] = {\n%s};" % (len(torn), table(torn)))


if __name__ == "__main__":
    main()
