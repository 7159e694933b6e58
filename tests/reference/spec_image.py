# SPDX-License-Identifier: Apache-2.0
"""Reads and checks a heed image: parts 1, 4 and 5 of SPEC.md, written from its text alone, in Python and numpy.

Errors name the rule of part 5. All rules but those of the tokenizer section (part 3) are checked, in one go.

Used by spec_reference.py (the numerics) and make_random_image.py (the generator uses crc32c and the tables here).
"""
import struct

import numpy as np

MAGIC = bytes.fromhex("686565640D0A1A0A")
CONFIG, DIRECTORY, TOKENIZER, METADATA, TENSORS = 1, 2, 3, 4, 5
ROW, PACKED, PAIR, BLOCK64 = 0, 1, 2, 3
S8, F32, U32, S16 = 0, 1, 2, 3
QKV_BIAS, VALUE_UP_BIAS, FFN_BIAS, DOWN_BIAS, UNEMBEDDING_BIAS, NORM_BIAS = 1, 2, 4, 8, 16, 32
ATTENTION_INPUT, VALUE_UP_INPUT, FFN_INPUT, DOWN_INPUT, UNEMBEDDING_INPUT = range(5)

# Part 4: rows padded to, columns padded to, row block of the multipliers.
PADDING = {ROW: (4, 4, 4), PACKED: (16, 8, 16), PAIR: (4, 8, 4), BLOCK64: (4, 16, 4)}

CONFIG_FORMAT = "<12BHH13I3f5HH9I"
CONFIG_FIELDS = ("architecture input output norm norm_placement activation gated position rotary_pairing mask "
                 "tied_unembedding reserved biases flags d_model d_ff n_layers n_encoder_layers n_heads n_kv_heads "
                 "head_dim vocab_size max_seq window n_sinks d_input rotary_dims norm_epsilon attention_scale "
                 "embedding_scale").split()


class BadImage(ValueError):
    """The image breaks a rule of SPEC.md, or asks for what this program does not carry."""


def check(condition, what):
    if not condition:
        raise BadImage(what)


def make_crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data, crc=0):
    """CRC-32C of data; crc is the result over what stands before it."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


# Part 4: weight layouts.

def weight_index(layout, rows, cols):
    """The byte index of every weight of a padded matrix, as an array [rows, cols]."""
    r, c = np.arange(rows)[:, None], np.arange(cols)[None, :]
    if layout == ROW:
        return r * cols + c
    if layout == PACKED:
        return ((r // 16) * (cols // 4) + c // 4) * 64 + (r % 16) * 4 + c % 4
    if layout == PAIR:
        return ((r // 4) * (cols // 4) + c // 4) * 16 + (r % 4) * 4 + c % 4
    first = c // 64 * 64
    return first * rows + r * np.minimum(64, cols - first) + c % 64


def decode_weights(data, layout, rows, cols):
    w = np.frombuffer(data, np.int8)[weight_index(layout, rows, cols)].astype(np.int64)
    if layout == PAIR:
        w[:, 1::2] += w[:, 0::2] < 0  # 256 * odd + even: give the borrow back
    return w


# 1.3: configuration.

class Config:
    def __init__(self, data):
        self.data = data
        check(len(data) == 128, "S5: configuration not of 128 bytes")
        values = struct.unpack(CONFIG_FORMAT, data)
        for name, value in zip(CONFIG_FIELDS, values):
            setattr(self, name, value)
        n = len(CONFIG_FIELDS)
        self.groups = values[n:n + 5]
        self.spare = values[n + 5:] + (self.reserved,)
        self.validate()

    def validate(self):
        def within(rule, low, high, *names):
            for name in names:
                check(low <= getattr(self, name) <= high, f"{rule}: {name} = {getattr(self, name)}")

        within("C1", 0, 1, "input", "norm", "norm_placement", "gated", "rotary_pairing", "mask", "tied_unembedding")
        within("C1", 0, 2, "architecture", "output")
        within("C1", 0, 3, "activation")
        within("C1", 0, 5, "position")
        within("C2", 0, 63, "biases")
        within("C2", 0, 31, "flags")
        check(not any(self.spare), "C3: reserved fields")
        within("C4", 1, 65536, "d_model")
        within("C4", 1, 131072, "d_ff")
        within("C4", 1, 4096, "n_layers")
        within("C4", 0, 4096, "n_encoder_layers")
        within("C5", 1, 256, "head_dim")
        within("C5", 1, 1024, "n_heads", "n_kv_heads")
        check(self.n_heads % self.n_kv_heads == 0, "C5: n_kv_heads does not divide n_heads")
        check(self.n_heads * self.head_dim <= 131072, "C5: n_heads * head_dim")
        within("C6", 1, 1 << 20, "max_seq")
        within("C6", 0, self.max_seq, "window", "n_sinks")
        within("C7", 1 if self.input == 0 else 0, 1 << 20, "vocab_size")
        within("C7", *((0, 0) if self.input == 0 else (1, 65536)), "d_input")
        within("C8", *((2, self.head_dim) if self.position == 3 else (0, 0)), "rotary_dims")
        check(self.rotary_dims % 2 == 0, "C8: rotary_dims is odd")
        within("C9", 2.0 ** -40, 2.0 ** 40, "norm_epsilon")
        within("C10", 2.0 ** -40, 2.0 ** 40, "attention_scale", "embedding_scale")
        check(all(g in (0, 32, 64, 128, 256) for g in self.groups), "C11: groups")
        check(self.norm == 1 or not self.biases & NORM_BIAS, "C2: a norm bias without layer norm")
        carried = (self.architecture == 0 and self.input == 0 and self.output == 0 and self.norm_placement == 0
                   and self.position in (0, 1, 3) and self.mask == 0 and self.flags & 16 == 0 and self.window == 0
                   and self.n_sinks == 0 and self.n_encoder_layers == 0 and self.embedding_scale == 1
                   and not (self.tied_unembedding and self.biases & UNEMBEDDING_BIAS))
        check(carried, "C12: not carried by this version")


def tensor_list(c):
    """1.4: (role, layer, type, rows, cols, columns per group, has a bias) of every tensor, in order."""
    attention, value_up, ffn, down, unembedding = c.groups
    queries, keys = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    looked_up = unembedding if c.tied_unembedding else 0  # looking up is no site: groups only where it unembeds too
    tensors = []

    def add(role, layer, kind, rows, cols, group=0, bias=0):
        tensors.append((role, layer, kind, rows, cols, group, c.biases & bias != 0))

    add(0, 0, S8, c.vocab_size, c.d_model, looked_up)
    if c.position == 3:
        add(1, 0, U32, 1, c.rotary_dims // 2)
    if c.position == 1:
        add(14, 0, S8, c.max_seq, c.d_model)
    norm_bias = c.biases & NORM_BIAS
    for n in range(c.n_layers):
        if not c.flags & 1:
            add(2, n, F32, 1, c.d_model)
        add(3, n, S8, queries, c.d_model, attention, QKV_BIAS)
        add(4, n, S8, keys, c.d_model, attention, QKV_BIAS)
        add(5, n, S8, keys, c.d_model, attention, QKV_BIAS)
        add(6, n, S8, c.d_model, queries, value_up, VALUE_UP_BIAS)
        if c.flags & 8:
            add(7, n, S16, c.n_kv_heads, c.head_dim)
        if not c.flags & 2:
            add(8, n, F32, 1, c.d_model)
        if c.gated:
            add(9, n, S8, c.d_ff, c.d_model, ffn, FFN_BIAS)
        add(10, n, S8, c.d_ff, c.d_model, ffn, FFN_BIAS)
        add(11, n, S8, c.d_model, c.d_ff, down, DOWN_BIAS)
        if norm_bias and not c.flags & 1:
            add(15, n, F32, 1, c.d_model)
        if norm_bias and not c.flags & 2:
            add(16, n, F32, 1, c.d_model)
    if not c.flags & 4:
        add(12, 0, F32, 1, c.d_model)
    if not c.tied_unembedding:
        add(13, 0, S8, c.vocab_size, c.d_model, unembedding, UNEMBEDDING_BIAS)
    if norm_bias and not c.flags & 4:
        add(17, 0, F32, 1, c.d_model)
    return tensors


# 1.4: tensors.

class Matrix:
    """weights [rows, cols] times multiplier of row and group, which makes them up to 15 * 127; f32 row scales; bias,
    or None."""

    def __init__(self, weights, scale, bias, group):
        self.weights, self.scale, self.bias, self.group = weights, scale, bias, group


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        check(self.at + n <= len(self.data), "D6: a tensor beyond the section")
        self.at += n
        return self.data[self.at - n:self.at]

    def align(self):
        self.take(up(self.at, 64) - self.at)


def check_values(rule, x):
    """Finite, and 0 or of a magnitude in [2^-40, 2^40]."""
    size = np.abs(x)
    check(((x == 0) | ((size >= 2.0 ** -40) & (size <= 2.0 ** 40))).all(), f"{rule}: a gain or bias out of range")


def read_matrix(reader, rows, cols, group, has_bias, layout):
    row_multiple, col_multiple, row_block = PADDING[layout]
    padded_rows, padded_cols = up(rows, row_multiple), up(cols, col_multiple)
    w = decode_weights(reader.take(padded_rows * padded_cols), layout, padded_rows, padded_cols)
    reader.align()
    check(np.abs(w).max() <= 127, "V5: a weight of -128")
    scale = np.frombuffer(reader.take(4 * padded_rows), "<f4")
    check(((scale >= 2.0 ** -40) & (scale <= 2.0 ** 40)).all(), "V2: a scale out of range")
    bias = None
    if has_bias:
        bias = np.frombuffer(reader.take(4 * padded_rows), "<f4")
        check_values("V2", bias)
        bias = bias[:rows]
    if group:
        n_groups = -(-cols // group)
        stored = np.frombuffer(reader.take(padded_rows * n_groups), np.uint8).reshape(-1, n_groups, row_block)
        multiplier = stored.transpose(0, 2, 1).reshape(padded_rows, n_groups).astype(np.int64)
        check(((multiplier >= 1) & (multiplier <= 15)).all(), "V3: a multiplier out of range")
        w = w * np.repeat(multiplier, group, axis=1)[:, :padded_cols]
    reader.align()
    return Matrix(w[:rows, :cols], scale[:rows], bias, group)


def read_tensor(reader, kind, rows, cols, group, has_bias, layout):
    if kind == S8:
        return read_matrix(reader, rows, cols, group, has_bias, layout)
    if kind == S16:
        offsets = np.frombuffer(reader.take(2 * rows * cols), "<i2").reshape(rows, cols).astype(np.int64)
        exponents = np.frombuffer(reader.take(rows), np.int8).astype(np.int64)
        check(offsets.min() > -32768 and exponents.min() >= -39 and exponents.max() <= 41, "V4: a key offset")
        tensor = offsets, exponents
    elif kind == F32:
        tensor = np.frombuffer(reader.take(4 * cols), "<f4")
        check_values("V1", tensor)
    else:
        tensor = np.frombuffer(reader.take(4 * cols), "<u4")
    reader.align()
    return tensor


class Image:
    """config, layout, metadata, and tensors: {(role, layer): Matrix, array, or (offsets, exponents)}."""

    def __init__(self, data):
        self.read_sections(data)
        for kind in (CONFIG, DIRECTORY, TENSORS):
            check(kind in self.sections, f"S5: section {kind} is missing")
        self.config = Config(self.sections[CONFIG])
        self.metadata = self.sections.get(METADATA, b"").decode("utf-8", "replace")
        self.read_tensors(self.sections[DIRECTORY], self.sections[TENSORS])

    def read_sections(self, data):
        """1.1 and 1.2."""
        check(len(data) >= 64, "H1: truncated")
        check(data[:8] == MAGIC, "H2: magic")
        version, n_sections, total, header_crc = struct.unpack_from("<IIQI", data, 8)
        check(version == 1, "H3: version")
        check(total <= len(data), "H4: total_bytes")
        check(3 <= n_sections <= 16, "H4: n_sections")
        end = 64 + 32 * n_sections
        check(end <= total, "H4: section table")
        check(crc32c(data[:24] + bytes(4) + data[28:end]) == header_crc, "H5: CRC")
        check(not any(data[28:64]), "H6: reserved fields")
        self.sections, last, position = {}, 0, end
        for at in range(64, end, 32):
            kind, crc, offset, size, reserved = struct.unpack_from("<IIQQQ", data, at)
            check(last < kind <= TENSORS, f"S1: section {kind}")
            check(reserved == 0, f"S2: section {kind}")
            check(offset == up(position, 64) and offset <= total, f"S3: section {kind}")
            check(not any(data[position:offset]), f"S3: bytes before section {kind}")
            check(1 <= size <= total - offset, f"S4: section {kind}")
            self.sections[kind] = data[offset:offset + size]
            check(crc32c(self.sections[kind]) == crc, f"S6: section {kind}")
            position, last = offset + size, kind
        check(position == total, "S4: the last section does not end at total_bytes")

    def read_tensors(self, directory, section):
        expected = tensor_list(self.config)
        check(len(directory) == 32 * len(expected), "D1: size of the directory")
        self.layout = directory[2]
        check(self.layout in PADDING, "D4: layout")
        self.tensors, reader = {}, Reader(section)
        for n, (role, layer, kind, rows, cols, group, has_bias) in enumerate(expected):
            layout = self.layout if kind == S8 else 0
            entry = struct.pack("<4BHHIII12x", role, kind, layout, 0, layer, group, rows, cols, reader.at // 64)
            check(directory[32 * n:32 * n + 32] == entry, f"D2 to D6: entry {n}, role {role} of layer {layer}")
            self.tensors[role, layer] = read_tensor(reader, kind, rows, cols, group, has_bias, layout)
        check(reader.at == len(section), "D6: bytes behind the last tensor")

    def tensor(self, role, layer=0):
        return self.tensors.get((role, layer))
