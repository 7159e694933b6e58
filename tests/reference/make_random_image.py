#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small random heed images exactly to SPEC.md, and the golden file of their outputs.

    make_random_image.py --seed 3 OUT.heed                 one image, no tokenizer section
    make_random_image.py --golden FILE --write             writes the golden file
    make_random_image.py --golden FILE                     makes every case again and compares

Seeds below 1000 give tame images over many shapes. Seeds from 1000 on are rough: scales, gains and constants near the
ends of their ranges, rows of zeros, very sharp attention. The last three digits say what: below 100 the Llama family
(RMS norm, rotary positions, gated SiLU, no biases), then decoders of everything that SPEC.md describes, from 200 on
stacks to encode, from 300 on two stacks. All randomness is splitmix64 in integers and all floats are exact or correctly
rounded, so a seed gives the same bytes everywhere.

Input i of a stack is the token (7 * i + 3) % vocab_size of the type i % n_token_types, or a vector with the element
((131 * i + 37 * d) % 255 - 127) / 64 at d. At position p a stack to generate gives the logits behind inputs 0 to p, one
to encode the last row of outputs for them; a source has all N_INPUTS inputs.
"""
import argparse
import struct
import sys

import numpy as np

import spec_image as si
from spec_image import (BLOCK64, DIRECTORY, F32, METADATA, PACKED, PADDING, PAIR, ROW, S8, S16, S32, STACKS, TENSORS,
                        Config, Image, crc32c, tensor_list, up)

N_INPUTS = 70
POSITIONS = (0, 1, 63, 64, 69)
SEEDS = [*range(12), *range(100, 124), *range(200, 224), *range(300, 312), *range(1000, 1008), *range(1100, 1112),
         *range(1200, 1212), *range(1300, 1306)]
LAYOUT_NAMES = {ROW: "row", PACKED: "packed", PAIR: "pair", BLOCK64: "block64"}
MASK = 2 ** 64 - 1
HEADER = f"# seed, CRC-32C of the image, CRC-32C of the outputs' bits at positions {POSITIONS}; make_random_image.py\n"


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


def random_config(random, seed, family):
    """A decoder of the Llama family, or what the families behind it make of one."""
    rough = seed >= 1000
    head_dim = random.choice(2, 3, 5, 7, 8, 9, 13, 16, 31)
    kv_heads, per_kv = random.integer(1, 3), random.choice(1, 1, 2, 3)
    rotary = 2 * random.integer(1, head_dim // 2) if random.integer(0, 1) else head_dim // 2 * 2
    d_ff = 1300 if seed == 5 else random.choice(random.integer(5, 150), random.integer(129, 400))
    values = dict.fromkeys(si.STACK_FIELDS, 0)
    values.update(norm=si.RMS, activation=si.SILU, gated=1, position=si.ROTARY, rotary_pairing=random.integer(0, 1),
                  tied_unembedding=random.integer(0, 1), flags=flag_bits(random.integer(0, 15)), final_norm=1,
                  dense_activation=si.NONE, n_output_heads=1, d_model=random.choice(random.integer(3, 70), 64, 96, 130),
                  d_ff=d_ff, n_layers=random.integer(1, 3), n_heads=kv_heads * per_kv, n_kv_heads=kv_heads,
                  head_dim=head_dim, vocab_size=random.integer(11, 80), max_seq=128, rotary_dims=rotary,
                  norm_epsilon=np.float32(1) / np.float32(100000), attention_scale=ratio_root(head_dim),
                  embedding_scale=1)
    if rough:
        values["norm_epsilon"] = random.floats(1, *random.choice((-40, -39), (-20, 0), (30, 39)))[0]
        values["attention_scale"] = random.floats(1, *random.choice((-40, -38), (4, 8), (37, 39)))[0]
    values["n_outputs"] = values["vocab_size"]
    if family > 0:
        add_features(random, seed, values)
    return values


def flag_bits(drawn):
    """Folded gains in the lower three bits, then key offsets."""
    return drawn & 7 | (si.KEY_OFFSET_FLAG if drawn & 8 else 0)


def add_features(random, seed, values):
    """What a decoder can have. The first seeds are GPT-2's own choice with each activation."""
    k, first = seed % 100, seed % 1000 < 104
    values.update(norm=random.integer(0, 3) > 0, activation=random.choice(*range(5)), gated=random.integer(0, 2) == 0,
                  position=random.choice(*range(4)), position_table=random.integer(0, 1), biases=random.integer(0, 255),
                  norm_placement=random.choice(0, 0, 1, 2), sublayers=random.choice(0, 0, 1, 2),
                  query_key_norm=random.choice(0, 0, 1, 2), window=random.choice(0, 0, 0, 1, 5, 63, 64, 65),
                  value_map=random.choice(0, 0, 0, 1), input_norm=random.choice(0, 0, 1),
                  n_token_types=random.choice(0, 0, 2), final_norm=random.choice(0, 1, 1),
                  embedding_scale=random.choice(1, 1, 8, ratio_root(3)))
    if first and k < 4:
        values.update(norm=si.LAYER, gated=0, position=si.NO_POSITION, position_table=1, biases=255, activation=k,
                      norm_placement=0, sublayers=0, query_key_norm=0, window=0, value_map=0, input_norm=0,
                      n_token_types=0, final_norm=1, embedding_scale=1)
    if values["window"] and random.integer(0, 1):
        values.update(global_every=2, global_first=random.integer(0, 1))
    add_positions(random, values)


def add_positions(random, values):
    if values["position"] != si.ROTARY:
        values.update(rotary_dims=0, rotary_pairing=0)
    values["local_rotary"] = int(values["position"] == si.ROTARY and values["window"] > 0 and random.integer(0, 1))
    values["n_distances"] = 0
    if values["position"] == si.RELATIVE:
        values["n_distances"] = 1 + random.integer(0, 1) * random.integer(1, 40) * 2


def make_encoder(random, values):
    """What a stack to encode has instead of a decoder's input and output."""
    values.update(use=si.ENCODE, mask=random.choice(0, 1, 1, 1), input=random.integer(0, 3),
                  n_class_vectors=random.choice(0, 0, 1, 2), pooling=random.integer(0, 3), output=random.integer(0, 1),
                  dense=random.integer(0, 1))
    if values["input"] != si.TOKENS:
        values.update(vocab_size=0, n_token_types=0, embedding_scale=1, tied_unembedding=0)
    if values["input"] in (si.PROJECTED, si.CONVOLVED):
        values["d_input"] = random.choice(1, 7, 16, random.integer(2, 90))
    if values["input"] == si.CONVOLVED:
        values.update(stride_1=random.integer(1, 2), second_convolution=random.integer(0, 1))
        values["stride_2"] = values["second_convolution"] * random.integer(1, 2)
    if values["dense"]:
        values.update(d_dense=random.choice(values["d_model"], random.integer(1, 80)), dense_norm=random.integer(0, 1),
                      dense_activation=random.integer(0, 6))
    values["n_outputs"] = random.integer(1, 40) if values["output"] == si.LOGITS else 0
    if values["output"] == si.VECTOR_OUTPUT:
        values.update(unit_length=random.integer(0, 1), tied_unembedding=0)
    if values["dense"] and values["d_dense"] != values["d_model"]:
        values["tied_unembedding"] = 0
    if values["tied_unembedding"]:
        values["n_outputs"] = values["vocab_size"]
    elif values["pooling"] == si.FIRST and values["output"] == si.LOGITS and not values["dense"]:
        values["n_output_heads"] = 1 + values["n_class_vectors"]
    add_positions(random, values)


def make_source(random, values):
    """What the first of two stacks gives."""
    values.update(output=si.VECTOR_OUTPUT, n_outputs=0, pooling=si.EVERY, dense=0, d_dense=0, dense_norm=0, unit_length=0,
                  dense_activation=si.NONE, n_output_heads=1, tied_unembedding=0)


def read_source(random, values, source):
    values.update(cross_attention=1, d_source=source["d_model"], cross_scale=ratio_root(random.integer(1, 40)),
                  sublayers=si.IN_TURN)


def legal(random, values):
    """The record, of what goes together."""
    v = values
    if v["value_map"] == si.UNDIVIDED and v["d_model"] > 256:
        v["value_map"] = si.FACTORS
    if v["norm_placement"] == si.AFTER:
        v["sublayers"] = si.IN_TURN
    before = v["norm_placement"] != si.AFTER
    flags = si.KEY_OFFSET_FLAG
    flags |= si.ATTENTION_FOLDED if before else 0
    flags |= si.FFN_FOLDED if before and v["sublayers"] != si.SIDE_BY_SIDE else 0
    flags |= si.FINAL_FOLDED if v["final_norm"] else 0
    biases = si.QUERY_BIAS | si.KEY_BIAS | si.VALUE_DOWN_BIAS | si.FFN_BIAS | si.DOWN_BIAS
    divided = v["value_map"] == si.FACTORS
    biases |= si.VALUE_UP_BIAS if divided else 0
    biases |= si.UNEMBEDDING_BIAS if v["output"] == si.LOGITS else 0
    biases |= si.NORM_BIAS if v["norm"] == si.LAYER or v["query_key_norm"] == 2 else 0
    sites = {si.ATTENTION_INPUT, si.FFN_INPUT, si.DOWN_INPUT}
    sites |= {si.VALUE_UP_INPUT} if divided else set()
    sites |= {si.UNEMBEDDING_INPUT} if v["output"] == si.LOGITS else set()
    if v["d_input"]:
        biases |= si.INPUT_BIAS
        sites |= {si.INPUT} | ({si.CONVOLUTION_INPUT} if v["second_convolution"] else set())
    if v["dense"]:
        biases |= si.DENSE_BIAS
        sites |= {si.DENSE_INPUT}
    if v["cross_attention"]:
        flags |= si.CROSS_KEY_OFFSET_FLAG | (si.CROSS_FOLDED if before else 0)
        biases |= si.CROSS_QUERY_BIAS | si.CROSS_KEY_BIAS | si.CROSS_VALUE_DOWN_BIAS
        biases |= si.CROSS_VALUE_UP_BIAS if divided else 0
        sites |= {si.CROSS_INPUT, si.SOURCE_INPUT} | ({si.CROSS_VALUE_UP_INPUT} if divided else set())
    v["flags"] &= flags
    v["biases"] &= biases
    groups = [random.choice(0, 32, 32, 64, 128, 256) if site < 5 or site in sites else 0 for site in range(11)]
    if v["d_ff"] == 1300:
        groups[si.DOWN_INPUT] = 128
    if v["sublayers"] == si.SIDE_BY_SIDE:
        groups[si.FFN_INPUT] = groups[si.ATTENTION_INPUT]
    groups = [group if site in sites else 0 for site, group in enumerate(groups)]
    return Config(struct.pack(si.STACK_FORMAT, *v.values(), *groups))


def random_stacks(random, seed):
    family = seed % 1000 // 100
    main = random_config(random, seed, family)
    if family == 2:
        make_encoder(random, main)
        main["biases"] |= random.integer(0, 1) * (si.INPUT_BIAS | si.DENSE_BIAS)
    if family < 3:
        return [legal(random, main)]
    source = random_config(random, seed, family)
    make_encoder(random, source)
    make_source(random, source)
    if random.integer(0, 3) == 0:
        make_encoder(random, main)
    read_source(random, main, source)
    main["biases"] |= random.integer(0, 15) << 8
    main["flags"] |= random.integer(0, 3) * si.CROSS_FOLDED
    return [legal(random, source), legal(random, main)]


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


RESIDUAL_ROLES = (si.TOKEN_EMBEDDING, si.POSITION_EMBEDDING, si.TOKEN_TYPE_EMBEDDING, si.CLASS_VECTORS, si.W_VALUE_UP,
                  si.W_DOWN, si.W_VALUE_UP + si.CROSS)
NORM_BIAS_ROLES = (si.INPUT_NORM_BIAS, si.GAIN_BIAS, si.QUERY_NORM_BIAS, si.KEY_NORM_BIAS, si.AFTER_BIAS,
                   si.GAIN_BIAS + si.CROSS, si.QUERY_NORM_BIAS + si.CROSS, si.KEY_NORM_BIAS + si.CROSS,
                   si.AFTER_BIAS + si.CROSS, si.FFN_NORM_BIAS, si.FFN_AFTER_BIAS, si.FINAL_NORM_BIAS, si.DENSE_NORM_BIAS)


def random_tensor(random, c, entry, layout, rough):
    role, _, kind, rows, cols, group, has_bias = entry
    if kind == S8:
        return random_matrix(random, rows, cols, group, has_bias, layout, rough, role in RESIDUAL_ROLES)
    if kind == S16:
        values = random.integers(rows * cols, -32767, 32767).astype("<i2").tobytes()
        low, high = (-39, 41) if rough else (-3, 2)
        return aligned(values + random.integers(rows, low, high).astype(np.int8).tobytes())
    if kind == S32 and c.position == si.ALIBI:  # slopes up to about 1
        return aligned(random.integers(rows, 0, 2 ** 31 - 1 if rough else 3 << 21).astype("<i4").tobytes())
    if kind == S32:
        most = random.choice(2 ** 23, 20000) if rough else 4000
        return aligned(random.integers(rows * cols, -most, most).astype("<i4").tobytes())
    if role in NORM_BIAS_ROLES:
        return aligned(random_biases(random, cols, rough).tobytes())
    if kind == F32:
        low, high = random.choice((-20, 20), (-40, -38), (30, 39)) if rough else (-1, 0)
        gain = random.floats(cols, low, high) * (1 - 2 * random.integers(cols, 0, 1)).astype(np.float32)
        return aligned(gain.astype("<f4").tobytes())
    shift = np.minimum(2 * np.arange(cols), 24)
    return aligned(((random.integers(cols, 2 ** 28, 2 ** 30) >> shift)).astype("<u4").tobytes())


def make_image(seed):
    random = Random(seed)
    stacks, layout = random_stacks(random, seed), seed % 4
    metadata = f"name=random image {seed}\n".encode() if random.integer(0, 1) else b""
    directory, tensors = b"", b""
    for stack, config in enumerate(stacks):
        for entry in tensor_list(config):
            role, layer, kind, rows, cols, group, _ = entry
            tensor = random_tensor(random, config, entry, layout, seed >= 1000)
            directory += struct.pack("<4BHHIIII8x", role, kind, layout if kind == S8 else 0, stack, layer, group, rows,
                                     cols, len(tensors) // 64, len(tensor) // 64)
            tensors += tensor
    records = b"".join(config.data for config in stacks)
    sections = [(STACKS, records), (DIRECTORY, directory), (METADATA, metadata), (TENSORS, tensors)]
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
    return f"{LAYOUT_NAMES[image.layout]}; " + "; ".join(
        ", ".join(f"{name} {getattr(c, name):g}" for name in si.STACK_FIELDS if getattr(c, name)) + f", groups {c.groups}"
        for c in image.stacks)


def inputs_of(c, n):
    """The first n inputs of a stack, and their types."""
    if c.input == si.TOKENS:
        return [(7 * i + 3) % c.vocab_size for i in range(n)], [i % max(1, c.n_token_types) for i in range(n)]
    d = np.arange(c.d_input or c.d_model)
    return [(((131 * i + 37 * d) % 255 - 127) / 64).astype(np.float32) for i in range(n)], None


def outputs_at(image, positions):
    from spec_reference import Model
    c, n = image.config, max(positions) + 1
    model = Model(image, n + c.n_class_vectors, N_INPUTS + image.stacks[0].n_class_vectors)
    if len(image.stacks) == 2:
        model.set_source(*inputs_of(image.stacks[0], N_INPUTS))
    if c.use == si.ENCODE:
        return [model.encode(*inputs_of(c, p + 1))[-1] for p in positions]
    rows = [model.step(token) for token in inputs_of(c, n)[0]]
    return [rows[p] for p in positions]


def golden_line(seed, verbose=True):
    data = make_image(seed)
    image = Image(data)
    if verbose:
        print(f"seed {seed}: {describe(image)}", flush=True)
    crcs = [crc32c(row.astype("<f4").tobytes()) for row in outputs_at(image, POSITIONS)]
    return f"{seed} {crc32c(data):08x} " + " ".join(f"{crc:08x}" for crc in crcs) + "\n"


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
