#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small random heed images exactly to SPEC.md, and the golden file of their logits.

    make_random_image.py --seed 3 OUT.heed                 one image, no tokenizer section
    make_random_image.py --golden FILE --write             writes the golden file
    make_random_image.py --golden FILE                     makes every case again and compares

Seeds below 1000 give tame images over many shapes. Seeds from 1000 on are rough: scales, gains and constants near the
ends of their ranges, rows of zeros, very sharp attention. Seeds whose last three digits are below 100 are of the Llama
family (RMS norm, rotary positions, gated SiLU, no biases); the others mix everything that SPEC.md describes. All
randomness is splitmix64 in integers and all floats are exact or correctly rounded, so a seed gives the same bytes
everywhere. Token i of a case is (7 * i + 3) % vocab_size.
"""
import argparse
import struct
import sys

import numpy as np

from spec_image import (BLOCK64, DIRECTORY, F32, METADATA, NORM_BIAS, PACKED, PADDING, PAIR, ROLES, ROTARY, ROW, S8, S16,
                        STACK_FIELDS, STACK_FORMAT, STACKS, TENSORS, UNEMBEDDING_BIAS, Image, Stack, crc32c, tensor_list,
                        up)

N_TOKENS = 70
POSITIONS = (0, 1, 63, 64, 69)
SEEDS = [*range(12), *range(100, 120), *range(1000, 1008), *range(1100, 1116)]
LAYOUT_NAMES = {ROW: "row", PACKED: "packed", PAIR: "pair", BLOCK64: "block64"}
MASK = 2 ** 64 - 1
# The order in which a model's tensors take their random numbers: before the layers, of each layer, behind them.
DRAWN = [[ROLES[name] for name in names.split()] for names in (
    "token_embedding rotary_phases position_embedding",
    "attention_gain w_query w_key w_value_down w_value_up key_offset ffn_gain w_gate w_up w_down attention_norm_bias "
    "ffn_norm_bias", "final_gain unembedding final_norm_bias")]
RESIDUAL = [ROLES[name] for name in ("token_embedding", "w_value_up", "w_down", "position_embedding")]
NORM_BIASES = [ROLES[name] for name in ("attention_norm_bias", "ffn_norm_bias", "final_norm_bias")]
HEADER = f"# seed, CRC-32C of the image, CRC-32C of the logits' bits at positions {POSITIONS}; make_random_image.py\n"


class Random:
    """splitmix64."""

    def __init__(self, seed):
        self.state = (seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) & MASK

    def words(self, n):
        with np.errstate(over="ignore"):
            steps = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            z = np.uint64(self.state) + steps
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        self.state = (self.state + n * 0x9E3779B97F4A7C15) & MASK
        return z ^ (z >> np.uint64(31))

    def integers(self, n, low, high):
        """n integers in low..high."""
        return ((self.words(n) >> np.uint64(32)) % np.uint64(high - low + 1)).astype(np.int64) + low

    def integer(self, low, high):
        return int(self.integers(1, low, high)[0])

    def choice(self, *items):
        return items[self.integer(0, len(items) - 1)]

    def floats(self, n, low, high):
        """n floats of 11 bits with exponents in low..high: at least 2^low, below 2^(high + 1)."""
        return np.ldexp((1024 + self.integers(n, 0, 1023)).astype(np.float32), self.integers(n, low, high) - 10)


def ratio_root(n):
    """1 / sqrt(n), each step correctly rounded."""
    return np.float32(1) / np.sqrt(np.float32(n))


def random_config(random, seed):
    rough = seed >= 1000
    head_dim = random.choice(2, 3, 5, 7, 8, 9, 13, 16, 31)
    kv_heads, per_kv = random.integer(1, 3), random.choice(1, 1, 2, 3)
    rotary = 2 * random.integer(1, head_dim // 2) if random.integer(0, 1) else head_dim // 2 * 2
    d_ff = 1300 if seed == 5 else random.choice(random.integer(5, 150), random.integer(129, 400))
    values = dict.fromkeys(STACK_FIELDS, 0)
    values.update(final_norm=1, activation=3, gated=1, position=ROTARY, dense_activation=6, n_output_heads=1,
                  rotary_pairing=random.integer(0, 1), tied_unembedding=random.integer(0, 1))
    flags = random.integer(0, 15)
    values.update(flags=flags & 7 | (flags & 8) << 1, d_model=random.choice(random.integer(3, 70), 64, 96, 130), d_ff=d_ff,
                  n_layers=random.integer(1, 3), n_heads=kv_heads * per_kv, n_kv_heads=kv_heads, head_dim=head_dim,
                  vocab_size=random.integer(11, 80), max_seq=128, rotary_dims=rotary,
                  norm_epsilon=np.float32(1) / np.float32(100000), attention_scale=ratio_root(head_dim),
                  embedding_scale=1)
    values["n_outputs"] = values["vocab_size"]
    if rough:
        values["norm_epsilon"] = random.floats(1, *random.choice((-40, -39), (-20, 0), (30, 39)))[0]
        values["attention_scale"] = random.floats(1, *random.choice((-40, -38), (4, 8), (37, 39)))[0]
    if seed % 1000 >= 100:
        add_features(random, seed, values)
    groups = [random.choice(0, 32, 32, 64, 128, 256) for _ in range(5)]
    if seed == 5:
        groups[3] = 128
    return Stack(struct.pack(STACK_FORMAT, *values.values(), *groups, *[0] * 7))


def add_features(random, seed, values):
    """What decoders of one stack have. The first seeds are GPT-2's own choice with each activation."""
    k = seed % 100
    values.update(norm=random.integer(0, 3) > 0, activation=k % 4, gated=random.integer(0, 2) == 0)
    position, biases = random.choice(0, 1, 1, 3), random.integer(0, 63)  # 1: a table
    if k < 4:
        values.update(norm=1, gated=0)
        position, biases = 1, 63
    biases = (7 if biases & 1 else 0) | (biases >> 1) << 3  # those of query, key and value come together
    if not values["norm"]:
        biases &= ~NORM_BIAS
    if values["tied_unembedding"]:
        biases &= ~UNEMBEDDING_BIAS
    values.update(biases=biases, position_table=position == 1)
    if position != 3:
        values.update(position=0, rotary_dims=0, rotary_pairing=0)


def encode_weights(w, layout):
    """Part 4, block by block, the other way round than spec_image.py does it."""
    rows, cols = w.shape
    if layout == PAIR:
        pairs = (256 * w[:, 1::2] + w[:, 0::2]).astype("<i2")
        w = np.ascontiguousarray(pairs).view(np.int8).reshape(rows, cols)
    if layout == ROW:
        blocks = [w]
    elif layout == BLOCK64:
        blocks = [w[:, first:first + 64] for first in range(0, cols, 64)]
    else:
        height = 16 if layout == PACKED else 4
        blocks = [w[r:r + height, c:c + 4] for r in range(0, rows, height) for c in range(0, cols, 4)]
    return b"".join(np.ascontiguousarray(block.astype(np.int8)).tobytes() for block in blocks)


def aligned(data):
    return data + bytes(up(len(data), 64) - len(data))


def random_biases(random, n, rough):
    """Some are zero. Rarely so large that nothing else matters."""
    low, high = (-4, -1)
    if rough:
        low, high = random.choice((-40, -38), (-12, -4), (-4, 1), (-4, 1), (-4, 1), (-4, 1), (-20, 20), (30, 39))
    bias = random.floats(n, low, high) * random.integers(n, -1, 1).astype(np.float32)
    return bias.astype("<f4")


def random_matrix(random, rows, cols, group, has_bias, layout, rough, residual):
    """residual: 1 for the embedding and matrices that move the residual stream, which may be zero or huge if rough."""
    row_multiple, col_multiple, row_block = PADDING[layout]
    padded_rows, padded_cols = up(rows, row_multiple), up(cols, col_multiple)
    w = np.zeros((padded_rows, padded_cols), np.int64)
    w[:rows, :cols] = random.integers(rows * cols, -127, 127).reshape(rows, cols)
    exponent = -6 - cols.bit_length() // 2 - (2 if group else 0)
    low, high = exponent - 2, exponent
    if rough:
        low, high = random.choice((low, high), (low - 10, high + 10), (-40, -34), (20, 39), (-40, 39))
        for row in random.integers(rows // 4, 0, rows - 1):
            w[row] = 0
        if residual and random.integer(0, 3) == 0:
            w[:] = 0
    scale = np.ones(padded_rows, "<f4")
    scale[:rows] = random.floats(rows, low, high)
    data = aligned(encode_weights(w, layout)) + scale.tobytes()
    if has_bias:
        bias = np.zeros(padded_rows, "<f4")
        bias[:rows] = random_biases(random, rows, rough)
        data += bias.tobytes()
    if group:
        n_groups = -(-cols // group)
        multiplier = np.ones((padded_rows, n_groups), np.int64)
        multiplier[:rows] = random.integers(rows * n_groups, 1, 15).reshape(rows, n_groups)
        blocks = multiplier.reshape(-1, row_block, n_groups).transpose(0, 2, 1)
        data += blocks.astype(np.uint8).tobytes()
    return aligned(data)


def random_tensor(random, entry, layout, rough):
    role, _, kind, rows, cols, group, has_bias = entry
    if kind == S8:
        return random_matrix(random, rows, cols, group, has_bias, layout, rough, role in RESIDUAL)
    if kind == S16:
        values = random.integers(rows * cols, -32767, 32767).astype("<i2").tobytes()
        low, high = (-39, 41) if rough else (-3, 2)
        return aligned(values + random.integers(rows, low, high).astype(np.int8).tobytes())
    if role in NORM_BIASES:
        return aligned(random_biases(random, cols, rough).tobytes())
    if kind == F32:
        low, high = random.choice((-20, 20), (-40, -38), (30, 39)) if rough else (-1, 0)
        gain = random.floats(cols, low, high) * (1 - 2 * random.integers(cols, 0, 1)).astype(np.float32)
        return aligned(gain.astype("<f4").tobytes())
    shift = np.minimum(2 * np.arange(cols), 24)
    return aligned(((random.integers(cols, 2 ** 28, 2 ** 30) >> shift)).astype("<u4").tobytes())


def make_image(seed):
    random = Random(seed)
    config, layout = random_config(random, seed), seed % 4
    metadata = f"name=random image {seed}\n".encode() if random.integer(0, 1) else b""
    entries = tensor_list(config)

    def drawn(entry):
        part = next(n for n, roles in enumerate(DRAWN) if entry[0] in roles)
        return part, entry[1], DRAWN[part].index(entry[0])

    data = {entry[:2]: random_tensor(random, entry, layout, seed >= 1000) for entry in sorted(entries, key=drawn)}
    directory, tensors = b"", b""
    for role, layer, kind, rows, cols, group, _ in entries:
        tensor = data[role, layer]
        directory += struct.pack("<4BHHIIII8x", role, kind, layout if kind == S8 else 0, 0, layer, group, rows, cols,
                                 len(tensors) // 64, len(tensor) // 64)
        tensors += tensor
    sections = [(STACKS, config.data), (DIRECTORY, directory), (METADATA, metadata), (TENSORS, tensors)]
    sections = [(kind, data) for kind, data in sections if data]
    table, body, start = b"", b"", 64 + 32 * len(sections)
    for kind, data in sections:
        body += bytes(up(start + len(body), 64) - start - len(body))
        table += struct.pack("<IIQQQ", kind, crc32c(data), start + len(body), len(data), 0)
        body += data
    head = bytes.fromhex("686565640D0A1A0A") + struct.pack("<IIQ", 2, len(sections), start + len(body))
    crc = crc32c(head + bytes(40) + table)
    return head + struct.pack("<I36x", crc) + table + body


def describe(image):
    c = image.config
    halves = "halves" if c.rotary_pairing else "adjacent"
    position = f"rotary {c.rotary_dims} {halves}" if c.position == ROTARY else "no positions"
    if c.position_table:
        position = "learned positions"
    activation = ("relu", "gelu_tanh", "gelu_erf", "silu")[c.activation] + (" gated" if c.gated else "")
    return (f"{LAYOUT_NAMES[image.layout]}, d {c.d_model}/{c.d_ff}, {c.n_layers} layers, {c.n_heads}/{c.n_kv_heads} "
            f"heads of {c.head_dim}, {'layer' if c.norm else 'rms'} norm, {activation}, {position}, "
            f"vocab {c.vocab_size}{' tied' if c.tied_unembedding else ''}, flags {c.flags}, biases {c.biases}, "
            f"groups {c.groups}")


def golden_line(seed, verbose=True):
    from spec_reference import logits_crcs
    data = make_image(seed)
    image = Image(data)
    if verbose:
        print(f"seed {seed}: {describe(image)}", flush=True)
    crcs = logits_crcs(image, [(7 * i + 3) % image.config.vocab_size for i in range(N_TOKENS)])
    return f"{seed} {crc32c(data):08x} " + " ".join(f"{crcs[p]:08x}" for p in POSITIONS) + "\n"


def golden(path, write):
    if write:
        lines = [golden_line(seed) for seed in SEEDS]
        with open(path, "w") as file:
            file.writelines([HEADER, *lines])
        return
    with open(path) as file:
        expected = [line for line in file if not line.startswith("#")]
    bad = [line for line in expected if golden_line(int(line.split()[0])) != line]
    for line in bad:
        print("differs:", line, end="")
    if bad or not expected:
        sys.exit(1)
    print(f"{len(expected)} cases agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", help="the image to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--golden", metavar="FILE", help="compare with FILE, or write it")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.golden:
        golden(options.golden, options.write)
    if options.out:
        data = make_image(options.seed)
        with open(options.out, "wb") as file:
            file.write(data)
        print(describe(Image(data)))


if __name__ == "__main__":
    main()
