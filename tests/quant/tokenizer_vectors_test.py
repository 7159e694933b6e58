#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tokenizer_vectors_test.py: the token ids that other implementations gave for 6,702 texts, by heed, for each file that their
vocabulary is in.

    tokenizer_vectors_test.py TOKENIZE_LINES FOLDER    # FOLDER for a file that is packed; HEED_TEST_DATA has the rest

DATA/tokenizers/README.md says where the ids are from. Texts over which the originals themselves are at odds are in QUARRELS, by file
and number; they may differ, and each must, or it is no quarrel.
"""
import json
import lzma
import os
import pathlib
import struct
import subprocess
import sys

# (file, tokens of the model, folder with its ids.json.xz, whether special tokens count where a text has them, as they did there)
FILES = [
    ("bert/tokenizer.json", 30522, "bert", False),
    ("t5/spiece.model", 32128, "t5", False),
    ("t5/tokenizer.json", 32128, "t5", False),
    ("qwen3/tokenizer.json.xz", 151936, "qwen3", True),
]
QUARRELS = {}  # file: {number of the text: why}
GGUF = [("ggml-vocab-gpt-2.gguf", 50257), ("ggml-vocab-llama-spm.gguf", 32000)]


def heed_ids(program, path, vocab_size, texts, special=False):
    packed = b"".join(struct.pack("<I", len(raw)) + raw for raw in texts)
    out = subprocess.run([program, str(path), str(vocab_size)] + ["--special"] * special, input=packed, stdout=subprocess.PIPE, check=True).stdout
    at, answers = 0, []
    while at < len(out):
        n = struct.unpack_from("<I", out, at)[0]
        at += 4
        if n == 0xFFFFFFFF:
            answers.append(None)
            continue
        answers.append(list(struct.unpack_from(f"<{n}I", out, at)))
        at += 4 * n
        at += 4 + struct.unpack_from("<I", out, at)[0]
    assert len(answers) == len(texts), f"{path}: {len(answers)} answers to {len(texts)} texts"
    return answers


def read(path):
    return json.loads(lzma.decompress(path.read_bytes()))


def gguf_vectors(path):
    texts = path.with_name(path.name + ".inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = path.with_name(path.name + ".out").read_text().split("\n")
    return [text.encode() for text in texts], [[int(x) for x in line.split()] for line in lines[:len(texts)]]


def failures_of(name, ours, theirs, texts):
    quarrels, failures = QUARRELS.get(name, {}), 0
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if (a != b) != (i in quarrels):
            failures += 1
            if failures <= 5:
                print(f"FAILED: {name}: text {i} {texts[i]!r}\n  ours   {a}\n  theirs {b}")
    print(f"{name}: {len(theirs)} texts, {len(quarrels)} quarrels, {failures} failed")
    return failures


def main():
    program, work = sys.argv[1], pathlib.Path(sys.argv[2])
    data = pathlib.Path(os.environ.get("HEED_TEST_DATA", "") or "/nonexistent") / "tokenizers"
    if not (data / "lines.json.xz").exists():
        print("skipped: tokenizers/lines.json.xz needs HEED_TEST_DATA")
        return os.environ.get("HEED_REQUIRE_DATA") == "1"
    work.mkdir(parents=True, exist_ok=True)
    lines = [line.encode() for line in read(data / "lines.json.xz")]
    failed = 0
    for name, vocab_size, ids, special in FILES:
        path = data / name
        if path.suffix == ".xz":
            path = work / path.stem
            path.write_bytes(lzma.decompress((data / name).read_bytes()))
        failed += failures_of(name, heed_ids(program, path, vocab_size, lines, special), read(data / ids / "ids.json.xz"), lines)
    for name, vocab_size in GGUF:
        texts, ids = gguf_vectors(data / name)
        failed += failures_of(name, heed_ids(program, data / name, vocab_size, texts), ids, texts)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
