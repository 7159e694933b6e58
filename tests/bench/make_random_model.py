#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes one Llama model of any shape in the formats that heed and the programs it is compared with read.

    make_random_model.py --shape 110M OUT/110M             random weights, equal for equal seeds
    make_random_model.py --d-model 96 --d-ff 200 --layers 2 --heads 6 --kv-heads 2 --vocab 500 OUT/small
    make_random_model.py --from stories260K.bin --tokenizer tok512.bin OUT/260K

OUT/110M.bin is a llama2.c float checkpoint (version 0), which `heed quantize` reads, OUT/110M-tokenizer.bin its tokenizer;
OUT/110M-q8.bin the same weights as llama2.c's int8 checkpoint (version 2), OUT/110M.gguf as GGUF with Q8_0 matrices. A
matrix whose rows do not divide into blocks of 32 stays float in GGUF, as GGUF has no other 8-bit type for it.
"""
import argparse
import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
from make_random_image import Random  # noqa: E402

# d_model, d_ff, layers, heads, KV heads, vocabulary
SHAPES = {"15M": (288, 768, 6, 6, 6, 32000), "110M": (768, 2048, 12, 12, 12, 32000), "135M": (576, 1536, 30, 9, 3, 49152)}
CONTEXT = 1024
ROOT_OF_3 = np.float32(1.7320508)
BLOCK = 32
CONTROL, BYTE, NORMAL, UNKNOWN = 3, 6, 1, 2


class Model:
    """Sizes, and tensors by their llama2.c names, each [layers, rows, cols], [layers, cols] or [rows, cols]."""

    def __init__(self, sizes, context):
        self.d, self.ff, self.layers, self.heads, self.kv_heads, self.vocab = sizes
        self.context = context
        self.head_dim = self.d // self.heads
        self.kv = self.head_dim * self.kv_heads

    def shapes(self):
        n, d, ff, kv = self.layers, self.d, self.ff, self.kv
        return {"embedding": (self.vocab, d), "attention_gain": (n, d), "wq": (n, d, d), "wk": (n, kv, d), "wv": (n, kv, d),
                "wo": (n, d, d), "ffn_gain": (n, d), "w1": (n, ff, d), "w2": (n, d, ff), "w3": (n, ff, d), "final_gain": (d,)}

    def header(self, sign=1):
        return struct.pack("<7i", self.d, self.ff, self.layers, self.heads, self.kv_heads, sign * self.vocab, self.context)

    def checkpoint(self):
        yield self.header()
        for name in self.shapes():
            yield self.tensors[name].astype("<f4").tobytes()
        angles = np.outer(np.arange(self.context), 10000.0 ** (-np.arange(0, self.head_dim, 2) / self.head_dim))
        yield np.cos(angles).astype("<f4").tobytes()
        yield np.sin(angles).astype("<f4").tobytes()


def random_model(sizes, context, seed):
    model = Model(sizes, context)
    random = Random(seed)
    model.tensors = {}
    for name, shape in model.shapes().items():
        if name.endswith("gain"):
            model.tensors[name] = np.ones(shape, np.float32)
            continue
        # Uniform, variance 1 / cols, so that activations keep their size.
        words = random.words(int(np.prod(shape)))
        unit = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0 ** -23) - np.float32(1)
        model.tensors[name] = (unit * (ROOT_OF_3 / np.sqrt(np.float32(shape[-1])))).reshape(shape)
    return model


def read_checkpoint(path):
    with open(path, "rb") as file:
        d, ff, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", file.read(28))
        if vocab < 0:
            sys.exit(f"{path}: an unembedding of its own is not carried here")
        model = Model((d, ff, layers, heads, kv_heads, vocab), context)
        model.tensors = {name: np.fromfile(file, "<f4", int(np.prod(shape))).reshape(shape)
                         for name, shape in model.shapes().items()}
    return model


# ---- Tokenizer --------------------------------------------------------------------------------------------------------

def made_up_pieces(vocab):
    """Three control tokens, the bytes, then made-up words of one letter, of two, of three, of four."""
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % i for i in range(256)] + [bytes([c]) for c in range(32, 127)]
    letters = b"etaoinshrdlcumwfgypbvkjxqz"
    words = [b""]
    while len(pieces) < vocab:
        words = [w + bytes([c]) for w in words for c in letters][:vocab]
        pieces += [b" " + w for w in words] + (words if len(words[0]) > 1 else [])
    return [(piece, -float(max(0, i - 258))) for i, piece in enumerate(pieces[:vocab])]


def read_tokenizer(path, vocab):
    with open(path, "rb") as file:
        file.read(4)
        pieces = []
        for _ in range(vocab):
            score, n = struct.unpack("<fi", file.read(8))
            pieces.append((file.read(n), score))
    return pieces


def tokenizer_file(pieces):
    return struct.pack("<i", max(len(p) for p, _ in pieces)) + b"".join(struct.pack("<fi", s, len(p)) + p for p, s in pieces)


# ---- llama2.c, int8 ---------------------------------------------------------------------------------------------------

def quantize(w, group):
    """[n, group] int8 and one scale each."""
    w = w.reshape(-1, group)
    scale = np.abs(w).max(axis=1) / np.float32(127)
    inverse = np.where(scale > 0, np.float32(1) / np.where(scale > 0, scale, 1), 0).astype(np.float32)
    return np.rint(w * inverse[:, None]).astype(np.int8), scale.astype(np.float32)


def int8_checkpoint(model):
    # One size for the file, and runq drops what is left over of a row.
    group = next(g for g in (64, 32, 16, 8, 4, 2, 1) if model.d % g == 0 and model.ff % g == 0)
    head = struct.pack("<Ii", 0x616B3432, 2) + model.header() + struct.pack("<Bi", 1, group)
    yield head + bytes(256 - len(head))
    for name in ("attention_gain", "ffn_gain", "final_gain"):
        yield model.tensors[name].astype("<f4").tobytes()
    for name in ("embedding", "wq", "wk", "wv", "wo", "w1", "w2", "w3"):
        tensor = model.tensors[name]
        for layer in tensor if tensor.ndim == 3 else [tensor]:
            q, scale = quantize(layer, group)
            yield q.tobytes() + scale.tobytes()


# ---- GGUF -------------------------------------------------------------------------------------------------------------

U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
GGUF_NAMES = {"attention_gain": "attn_norm", "wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output",
              "ffn_gain": "ffn_norm", "w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}


def gguf_string(s):
    return struct.pack("<Q", len(s)) + s


def gguf_pairs(model, pieces):
    def kind(i, piece):
        return UNKNOWN if i == 0 else CONTROL if i < 3 else BYTE if i < 259 and piece.startswith(b"<0x") else NORMAL

    def shown(i, piece):
        return (b"<unk>", b"<s>", b"</s>")[i] if i < 3 else piece.replace(b" ", "\u2581".encode())

    def array(element, format_, values):
        return struct.pack("<IQ", element, len(values)) + (np.array(values, format_).tobytes() if format_ else
                                                           b"".join(gguf_string(v) for v in values))
    u32 = {"llama.context_length": model.context, "llama.embedding_length": model.d, "llama.feed_forward_length": model.ff,
           "llama.attention.head_count": model.heads, "llama.attention.head_count_kv": model.kv_heads,
           "llama.block_count": model.layers, "llama.rope.dimension_count": model.head_dim, "llama.vocab_size": model.vocab,
           "general.quantization_version": 2, "general.file_type": 7, "tokenizer.ggml.unknown_token_id": 0,
           "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    pairs = [("general.architecture", STRING, gguf_string(b"llama")), ("general.name", STRING, gguf_string(b"bench"))]
    pairs += [(key, U32, struct.pack("<I", value)) for key, value in u32.items()]
    pairs += [("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
              ("tokenizer.ggml.model", STRING, gguf_string(b"llama")),
              ("tokenizer.ggml.tokens", ARRAY, array(STRING, None, [shown(i, p) for i, (p, _) in enumerate(pieces)])),
              ("tokenizer.ggml.scores", ARRAY, array(F32, "<f4", [s for _, s in pieces])),
              ("tokenizer.ggml.token_type", ARRAY, array(I32, "<i4", [kind(i, p) for i, (p, _) in enumerate(pieces)]))]
    return pairs


def gguf_tensor(w):
    """Type and bytes: Q8_0 where it can be."""
    if w.ndim == 1 or w.shape[-1] % BLOCK:
        return 0, w.astype("<f4").tobytes()
    q, scale = quantize(w, BLOCK)
    blocks = np.empty(len(q), [("scale", "<f2"), ("values", "i1", BLOCK)])
    blocks["scale"], blocks["values"] = scale, q
    return 8, blocks.tobytes()


def gguf(model, pieces):
    tensors = [("token_embd", model.tensors["embedding"]), ("output_norm", model.tensors["final_gain"])]
    tensors += [(f"blk.{i}.{name}", model.tensors[key][i]) for i in range(model.layers) for key, name in GGUF_NAMES.items()]
    pairs = gguf_pairs(model, pieces)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(gguf_string(key.encode()) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    body, at = [], 0
    for name, w in tensors:
        kind, data = gguf_tensor(w)
        head += gguf_string(name.encode() + b".weight") + struct.pack("<I", w.ndim)
        head += struct.pack(f"<{w.ndim}Q", *reversed(w.shape)) + struct.pack("<IQ", kind, at)
        data += bytes(-len(data) % BLOCK)
        body.append(data)
        at += len(data)
    yield head + bytes(-len(head) % BLOCK)
    yield from body


def write(path, parts):
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)


ENDINGS = (".bin", "-tokenizer.bin", "-q8.bin", ".gguf")


def write_all(model, pieces, stem):
    for end, parts in zip(ENDINGS, (model.checkpoint(), [tokenizer_file(pieces)], int8_checkpoint(model), gguf(model, pieces))):
        write(stem + end, parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="path of the files, without their endings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", choices=SHAPES)
    for size in ("d-model", "d-ff", "layers", "heads", "kv-heads", "vocab"):
        parser.add_argument("--" + size, type=int)
    parser.add_argument("--context", type=int, default=CONTEXT)
    parser.add_argument("--from", dest="source", metavar="CHECKPOINT", help="a llama2.c float checkpoint instead of random weights")
    parser.add_argument("--tokenizer", help="its tokenizer")
    options = parser.parse_args()
    inputs = [path for path in (options.source, options.tokenizer) if path]
    for end in ENDINGS:
        if os.path.exists(options.out + end) and any(os.path.samefile(options.out + end, path) for path in inputs):
            parser.error(f"{options.out + end} is read, so it is not written")
    if options.source:
        model = read_checkpoint(options.source)
        pieces = read_tokenizer(options.tokenizer, model.vocab) if options.tokenizer else made_up_pieces(model.vocab)
    else:
        sizes = SHAPES[options.shape] if options.shape else (options.d_model, options.d_ff, options.layers, options.heads,
                                                             options.kv_heads, options.vocab)
        if None in sizes:
            parser.error("--shape, or every size")
        model = random_model(sizes, options.context, options.seed)
        pieces = made_up_pieces(model.vocab)
    write_all(model, pieces, options.out)


if __name__ == "__main__":
    main()
