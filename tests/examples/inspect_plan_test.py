#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `heed inspect` and `heed plan` say of models that are no decoders, and what `inspect` refuses.

    inspect_plan_test.py SOURCE_DIR HEED...   HEED: the program, behind its emulator if it needs one

The models are those of tests/quant/described.json.
"""
import os
import shutil
import struct
import sys
import tempfile

from described_models import Models, crc32c, write
from heed_program import Heed, attempt, check, finish, same

GENERATION = {"first": [2, 0], "suppressed": [4, 6, 8], "endings": [1]}


def with_section(image, kind, change):
    """An image whose section of this kind was changed, with checksums that fit; SPEC.md 1.1 and 1.2."""
    data = bytearray(open(image, "rb").read())
    n_sections = struct.unpack_from("<I", data, 12)[0]
    for at in range(64, 64 + 32 * n_sections, 32):
        found, crc, offset, size = struct.unpack_from("<IIQQ", data, at)
        if found != kind:
            continue
        data[offset:offset + size] = change(data[offset:offset + size])
        struct.pack_into("<I", data, at + 4, crc32c(data[offset:offset + size]))
    struct.pack_into("<I", data, 24, 0)
    struct.pack_into("<I", data, 24, crc32c(data[:64 + 32 * n_sections]))
    return data


# -- inspect --------------------------------------------------------------------------------------------------------
def test_generation(models):
    heed = models.heed
    image = models.image("original", generation=GENERATION)
    same("the lists", heed.json("inspect", image)["generation"], GENERATION)
    lines = heed("inspect", image).stdout.decode().splitlines()
    at = lines.index("generation")
    same("as shown", [" ".join(line.split()) for line in lines[at + 1:at + 4]],
         ["first 2 (c) 0 (a)", "suppressed 4 (e) 6 (g) 8 (i)", "endings 1 (b)"])
    # What `translate` refuses is not passed: a token outside the vocabulary, more tokens than there are.
    for change in (lambda s: s[:12] + struct.pack("<i", 9) + s[16:], lambda s: s[:12] + struct.pack("<i", -1) + s[16:],
                   lambda s: struct.pack("<I", 3) + s[4:]):
        broken = write(models.folder, "broken.heed", with_section(image, 8, change))
        heed.refuses("section generation: bad section", "inspect", broken)
        heed.refuses("bad section", "translate", broken, "-p", "a", "--json")
    heed("inspect", write(models.folder, "whole.heed", with_section(image, 8, lambda s: s)))
    check("generation" not in heed.json("inspect", models.image("original")), "lists of an image that has none")


def test_classes(models):
    heed = models.heed
    names = ["yes", "no or so", "perhaps", "nie \u2013 niemals"]
    image = models.image("two_heads", classes=names)
    same("classes", heed.json("inspect", image)["classes"], names)
    lines = heed("inspect", image).stdout.decode().splitlines()
    at = lines.index("classes")
    same("as shown", [line.split(None, 1) for line in lines[at + 1:at + 5]], [[str(i), name] for i, name in enumerate(names)])
    bell = write(models.folder, "bell.heed", with_section(image, 7, lambda s: s.replace(b"yes", b"y\7s")))
    same("no control characters", heed.json("inspect", bell)["classes"][0], "y?s")
    check("classes" not in heed.json("inspect", models.image("two_heads")), "classes of an image that names none")


def main():
    source_dir, *program = sys.argv[1:]
    folder = tempfile.mkdtemp()
    try:
        models = Models(Heed(program), source_dir, folder)
        for test in (test_generation, test_classes):
            attempt(test, models)
    finally:
        shutil.rmtree(folder)
    finish()


if __name__ == "__main__":
    main()
