#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `heed inspect` and `heed plan` say of models that are no decoders, and what `inspect` refuses.

    inspect_plan_test.py SOURCE_DIR HEED...   HEED: the program, behind its emulator if it needs one

The models are those of tests/quant/described.json.
"""
import re
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

    # Sections of other writers: an output without a name, no LF at the end; more lines than outputs.
    image = models.image("two_heads", classes=["1234567", "1", "1", "1"])  # of 14 bytes
    for section, given, shown in ((b"first\n\nthirdly", ["first", None, "thirdly", None], ["0 first", "2 thirdly"]),
                                  (b"a\nb\nc\nd\nfifth\n", list("abcd"), ["0 a", "1 b", "2 c", "3 d"])):
        other = write(models.folder, "other.heed", with_section(image, 7, lambda s, section=section: section))
        same(f"{section!r}", heed.json("inspect", other)["classes"], given)
        lines = heed("inspect", other).stdout.decode().split("\nclasses\n")[1].split("\n\n")[0].splitlines()
        same(f"{section!r} as shown", [" ".join(line.split()) for line in lines], shown)
    check("classes" not in heed.json("inspect", models.image("two_heads")), "classes of an image that names none")


# The sets of runtime/features.hpp with which such lines begin; none of these models needs half of all.
SETS = {"kNoFeatures": set(), "kLlamaFeatures": {"key_offset", "sampling", "speed"}}
SETS["kGpt2Features"] = SETS["kLlamaFeatures"] | {"biases", "ungated", "layer_norm", "learned_positions", "gelu"}


def features_of(line):
    base, *words = re.split(r"(?=[+-])", line)
    features = set(SETS[base])
    for word in words:
        check(word[1:].startswith("Feature::"), f"{line}: {word}")
        name = word[len("+Feature::"):]
        check((name in features) == (word[0] == "-"), f"{line}: {word} changes nothing")
        features = features | {name} if word[0] == "+" else features - {name}
    return features


def test_features(models):
    """The line that builds a firmware has what the model needs, and nothing beyond it but sampling and speed."""
    heed = models.heed
    for name, generates in (("decoder", True), ("decoder_relative", True), ("tagger", False), ("two_heads", False), ("drawing", False), ("original", True)):
        image = models.image(name)
        for command in ("inspect", "plan"):
            answer = heed.json(command, image)
            line = answer["heed_features"]
            same(f"{name}: {line}", features_of(line), {*answer["features"], "speed", *(["sampling"] if generates else [])})
            check(f"-DHEED_FEATURES={line}\n".encode() in heed(command, image).stdout, f"{name}: not shown: {line}")
        heed("plan", image, "--target", "cortex-m4", "--features", line)
        for feature in answer["features"]:
            heed.refuses(feature, "plan", image, "--target", "cortex-m4", "--features", f"{line}-Feature::{feature}")


def test_quantised_on(models):
    """Metadata says on how many positions of either stack key offsets were measured."""
    metadata = models.heed.json("inspect", models.image("whisper"))["metadata"]
    for key in ("key_offset", "source_key_offset"):
        check(re.fullmatch(r"mean of [1-9]\d* positions .*", metadata[key]), f"{key}: {metadata[key]!r}")


# -- plan -----------------------------------------------------------------------------------------------------------
def test_caches(models):
    """Keys and values of a text and those of its source, told apart."""
    heed = models.heed
    stacks = [dict(models.given["original"]["description"]["stacks"][0], max_seq=200), *models.given["original"]["description"]["stacks"][1:]]
    image = models.image("original", stacks=stacks)
    plan, shorter = heed.json("plan", image), heed.json("plan", image, "--source-context", 4)
    maps = {(s["stack"], s["name"]): s["bytes"] for s in plan["memory_map"] if "stack" in s}
    same("own", plan["kv_cache_bytes"], maps[1, "kv_cache"])
    same("of the source", plan["cross_cache_bytes"], maps[1, "cross_cache"])
    same("a shorter source: own", shorter["kv_cache_bytes"], plan["kv_cache_bytes"])
    check(shorter["cross_cache_bytes"] < plan["cross_cache_bytes"], "a shorter source takes as much")
    shown = heed("plan", image, "--context", 9, "--source-context", 7).stdout.decode()
    check(re.search(r"kv_cache +[\d,]+ bytes in it: keys and values of up to 9 positions\n", shown), shown)
    check(re.search(r"cross_cache +[\d,]+ bytes in it: keys and values of the source in all layers, up to 7 positions\n", shown), shown)
    shown = heed("plan", models.image("tagger")).stdout.decode()
    check("one layer at a time, up to 16 positions" in shown and "prefill" not in shown and "token" not in shown.replace("token_embedding", ""), shown)
    check("cross_cache_bytes" not in heed.json("plan", models.image("decoder")), "a source's cache of one stack")


def main():
    source_dir, *program = sys.argv[1:]
    folder = tempfile.mkdtemp()
    try:
        models = Models(Heed(program), source_dir, folder)
        for test in (test_generation, test_classes, test_features, test_quantised_on, test_caches):
            attempt(test, models)
    finally:
        shutil.rmtree(folder)
    finish()


if __name__ == "__main__":
    main()
