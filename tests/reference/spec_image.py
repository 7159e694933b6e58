# SPDX-License-Identifier: Apache-2.0
"""Reads and checks a heed image: parts 1, 4 and 5 of SPEC.md, written from its text alone, in Python and numpy.

Errors name the rule of part 5. All rules but those of the tokenizer section (part 3) are checked, in one go.

Used by spec_reference.py (the numerics) and make_random_image.py (the generator uses crc32c and the tables here).
"""
import struct

import numpy as np

MAGIC = bytes.fromhex("686565640D0A1A0A")
STACKS, DIRECTORY, TOKENIZER, METADATA, TENSORS, SOURCE_TOKENIZER, CLASSES, GENERATION = range(1, 9)
OPTIONAL_KIND, OPTIONAL_ROLE = 1 << 31, 1 << 7
ROW, PACKED, PAIR, BLOCK64 = 0, 1, 2, 3
S8, F32, U32, S16, S4, S32 = range(6)

# 1.3: the values of the choices.
GENERATE, ENCODE = 0, 1
TOKENS, VECTORS, PROJECTED, CONVOLVED = range(4)
CAUSAL, TWO_WAY = 0, 1
RMS, LAYER = 0, 1
BEFORE, AFTER, BOTH = range(3)
IN_TURN, SIDE_BY_SIDE, SIDE_BY_SIDE_TWO_NORMS = range(3)
NO_POSITION, ROTARY, ALIBI, RELATIVE = range(4)
FACTORS, UNDIVIDED = 0, 1
RELU, GELU_TANH, GELU_ERF, SILU, GELU_QUICK, TANH, NONE = range(7)
EVERY, FIRST, MEAN, LAST = range(4)
LOGITS, VECTOR_OUTPUT = 0, 1

# Bits of biases and flags, and sites.
(QUERY_BIAS, KEY_BIAS, VALUE_DOWN_BIAS, VALUE_UP_BIAS, FFN_BIAS, DOWN_BIAS, UNEMBEDDING_BIAS, NORM_BIAS, CROSS_QUERY_BIAS,
 CROSS_KEY_BIAS, CROSS_VALUE_DOWN_BIAS, CROSS_VALUE_UP_BIAS, INPUT_BIAS, DENSE_BIAS) = (1 << n for n in range(14))
ATTENTION_FOLDED, FFN_FOLDED, FINAL_FOLDED, CROSS_FOLDED, KEY_OFFSET_FLAG, CROSS_KEY_OFFSET_FLAG = (1 << n for n in range(6))
(ATTENTION_INPUT, VALUE_UP_INPUT, FFN_INPUT, DOWN_INPUT, UNEMBEDDING_INPUT, CROSS_INPUT, CROSS_VALUE_UP_INPUT, SOURCE_INPUT,
 INPUT, CONVOLUTION_INPUT, DENSE_INPUT) = range(11)

# Part 4: rows padded to, columns padded to, row block of the multipliers.
PADDING = {ROW: (4, 4, 4), PACKED: (16, 8, 16), PAIR: (4, 8, 4), BLOCK64: (4, 16, 4)}

CHOICES = ("use input mask cross_attention norm norm_placement sublayers input_norm final_norm position_table position "
           "rotary_pairing query_key_norm value_map gated activation pooling dense dense_activation dense_norm output "
           "tied_unembedding unit_length second_convolution stride_1 stride_2 n_output_heads").split()
MASKS = ("biases", "flags")
COUNTS = ("d_model d_ff n_layers n_heads n_kv_heads head_dim vocab_size n_outputs max_seq window global_every "
          "global_first n_sinks rotary_dims local_rotary n_distances d_input d_source n_token_types n_class_vectors "
          "d_dense").split()
FLOATS = "norm_epsilon attention_scale cross_scale embedding_scale".split()
STACK_FORMAT = "<27B5x23I4f11H2x92x"
STACK_FIELDS = [*CHOICES, *MASKS, *COUNTS, *FLOATS]
STACK_BYTES = 256

# 1.4: roles. Those of cross-attention are those of self-attention + CROSS.
(TOKEN_EMBEDDING, POSITION_EMBEDDING, TOKEN_TYPE_EMBEDDING, CLASS_VECTORS, INPUT_PROJECTION, CONVOLUTION_1, CONVOLUTION_2,
 INPUT_GAIN, INPUT_NORM_BIAS, ROTARY_PHASES, LOCAL_ROTARY_PHASES, SCORE_BIAS) = range(12)
(GAIN, GAIN_BIAS, W_QUERY, W_KEY, W_VALUE_DOWN, W_VALUE_UP, KEY_OFFSET, QUERY_GAIN, QUERY_NORM_BIAS, KEY_GAIN,
 KEY_NORM_BIAS, AFTER_GAIN, AFTER_BIAS) = range(32, 45)
FFN_GAIN, FFN_NORM_BIAS, W_GATE, W_UP, W_DOWN, FFN_AFTER_GAIN, FFN_AFTER_BIAS = range(48, 55)
CROSS = 32
FINAL_GAIN, FINAL_NORM_BIAS, DENSE, DENSE_GAIN, DENSE_NORM_BIAS, UNEMBEDDING = range(96, 102)


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


# 1.3: a stack.

class Config:
    """The record of one stack; strides is (stride_1, stride_2), groups those of the sites."""

    def __init__(self, data):
        self.data = data
        values = struct.unpack(STACK_FORMAT, data)
        for name, value in zip(STACK_FIELDS, values):
            setattr(self, name, value)
        self.groups = values[len(STACK_FIELDS):]
        self.strides = self.stride_1, self.stride_2
        check(struct.pack(STACK_FORMAT, *values) == data, "C3: reserved fields")
        self.validate()

    @property
    def value_dim(self):
        return self.d_model if self.value_map == UNDIVIDED else self.head_dim

    @property
    def d_output(self):
        return self.d_dense if self.dense else self.d_model

    def sees_all(self, layer):
        """2.7: whether a layer has no window."""
        return self.window == 0 or (self.global_every > 0 and layer % self.global_every == self.global_first)

    def validate(self):
        def within(low, high, *names):
            for name in names:
                check(low <= getattr(self, name) <= high, f"C: {name} = {getattr(self, name)}")

        def same(condition, value, name):
            check(bool(condition) == bool(value), f"C: {name} = {value}")

        within(0, 1, "use", "mask", "cross_attention", "norm", "input_norm", "final_norm", "position_table",
               "rotary_pairing", "value_map", "gated", "dense", "dense_norm", "output", "tied_unembedding", "unit_length",
               "second_convolution", "local_rotary")
        within(0, 2, "norm_placement", "sublayers", "query_key_norm", "stride_1", "stride_2")
        within(0, 3, "input", "position", "pooling")
        within(0, 4, "activation")
        within(0, 6, "dense_activation")
        within(1, 7, "n_output_heads")
        within(1, 1 << 16, "d_model")
        within(1, 1 << 17, "d_ff")
        within(1, 1 << 12, "n_layers")
        within(1, 1 << 10, "n_heads", "n_kv_heads")
        within(1, 256, "head_dim")
        within(1, 1 << 20, "max_seq")
        within(0, 1 << 20, "vocab_size", "n_outputs", "window", "n_sinks", "n_distances")
        within(0, 1 << 12, "global_every", "global_first")
        within(0, 1 << 16, "d_input", "d_source", "n_token_types", "n_class_vectors", "d_dense")
        within(2.0 ** -40, 2.0 ** 40, "norm_epsilon", "attention_scale", "embedding_scale")
        within(*((2.0 ** -40, 2.0 ** 40) if self.cross_attention else (0, 0)), "cross_scale")
        check(all(g in (0, 32, 64, 128, 256) for g in self.groups), "C: groups")
        check(self.n_heads % self.n_kv_heads == 0, "C: n_kv_heads does not divide n_heads")
        check(self.n_heads * self.value_dim <= 1 << 17 and self.n_heads * self.head_dim <= 1 << 17, "C: heads side by side")
        check(self.value_dim <= 256, "C: an undivided map of more than 256")
        same(self.input == TOKENS, self.vocab_size, "vocab_size")
        same(self.output == LOGITS, self.n_outputs, "n_outputs")
        same(self.input in (PROJECTED, CONVOLVED), self.d_input, "d_input")
        same(self.cross_attention, self.d_source, "d_source")
        same(self.dense, self.d_dense, "d_dense")
        same(self.position == RELATIVE, self.n_distances, "n_distances")
        same(self.input == CONVOLVED, self.stride_1, "stride_1")
        same(self.second_convolution, self.stride_2, "stride_2")
        within(*((2, self.head_dim) if self.position == ROTARY else (0, 0)), "rotary_dims")
        check(self.rotary_dims % 2 == 0, "C: rotary_dims is odd")
        check(self.n_sinks == 0, "C19: sinks")


def site_of_matrix(c, role):
    """(group, bias bit) of a matrix; a role of cross-attention is asked for as that of self-attention + CROSS."""
    cross = CROSS <= role - 32 < 2 * CROSS
    shift, role = (8, role - CROSS) if cross else (0, role)
    site, bias = {
        W_QUERY: (CROSS_INPUT if cross else ATTENTION_INPUT, QUERY_BIAS),
        W_KEY: (SOURCE_INPUT if cross else ATTENTION_INPUT, KEY_BIAS),
        W_VALUE_DOWN: (SOURCE_INPUT if cross else ATTENTION_INPUT, VALUE_DOWN_BIAS),
        W_VALUE_UP: (CROSS_VALUE_UP_INPUT if cross else VALUE_UP_INPUT, VALUE_UP_BIAS),
        W_GATE: (FFN_INPUT, FFN_BIAS), W_UP: (FFN_INPUT, FFN_BIAS), W_DOWN: (DOWN_INPUT, DOWN_BIAS),
        INPUT_PROJECTION: (INPUT, INPUT_BIAS), CONVOLUTION_1: (INPUT, INPUT_BIAS),
        CONVOLUTION_2: (CONVOLUTION_INPUT, INPUT_BIAS), DENSE: (DENSE_INPUT, DENSE_BIAS),
        UNEMBEDDING: (UNEMBEDDING_INPUT, UNEMBEDDING_BIAS),
    }[role]
    return c.groups[site], bias << shift


def tensor_list(c):
    """1.4: (role, layer, type, rows, cols, columns per group, has a bias) of every tensor of a stack, in order."""
    queries, keys, values = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim, c.n_kv_heads * c.value_dim
    norm_bias = c.norm == LAYER and c.biases & NORM_BIAS
    tensors = []

    def add(there, role, kind, rows, cols, layer=0):
        if not there:
            return
        group, bias = (0, 0) if kind != S8 else looked_up.get(role) or site_of_matrix(c, role)
        tensors.append((role, layer, kind, rows, cols, group, c.biases & bias != 0))

    def norm(there, role, n, layer=0):
        add(there, role, F32, 1, n, layer)
        add(there and norm_bias, role + 1, F32, 1, n, layer)

    # Looking up is no site: groups and a bias only where the embedding unembeds too.
    looked_up = dict.fromkeys((POSITION_EMBEDDING, TOKEN_TYPE_EMBEDDING, CLASS_VECTORS), (0, 0))
    looked_up[TOKEN_EMBEDDING] = site_of_matrix(c, UNEMBEDDING) if c.tied_unembedding else (0, 0)
    add(c.input == TOKENS, TOKEN_EMBEDDING, S8, c.vocab_size, c.d_model)
    add(c.position_table, POSITION_EMBEDDING, S8, c.max_seq, c.d_model)
    add(c.n_token_types, TOKEN_TYPE_EMBEDDING, S8, c.n_token_types, c.d_model)
    add(c.n_class_vectors, CLASS_VECTORS, S8, c.n_class_vectors, c.d_model)
    add(c.input == PROJECTED, INPUT_PROJECTION, S8, c.d_model, c.d_input)
    add(c.input == CONVOLVED, CONVOLUTION_1, S8, c.d_model, 3 * c.d_input)
    add(c.second_convolution, CONVOLUTION_2, S8, c.d_model, 3 * c.d_model)
    norm(c.input_norm, INPUT_GAIN, c.d_model)
    add(c.position == ROTARY, ROTARY_PHASES, U32, 1, c.rotary_dims // 2)
    add(c.local_rotary, LOCAL_ROTARY_PHASES, U32, 1, c.rotary_dims // 2)
    add(c.position in (ALIBI, RELATIVE), SCORE_BIAS, S32, c.n_heads, 1 if c.position == ALIBI else c.n_distances)

    def attention(n, cross, d_source):
        folded, offset = (CROSS_FOLDED, CROSS_KEY_OFFSET_FLAG) if cross else (ATTENTION_FOLDED, KEY_OFFSET_FLAG)
        norm(c.norm_placement != AFTER and not c.flags & folded, GAIN + cross, c.d_model, n)
        add(True, W_QUERY + cross, S8, queries, c.d_model, n)
        add(True, W_KEY + cross, S8, keys, d_source, n)
        add(True, W_VALUE_DOWN + cross, S8, values, d_source, n)
        add(c.value_map == FACTORS, W_VALUE_UP + cross, S8, c.d_model, queries, n)
        add(c.flags & offset, KEY_OFFSET + cross, S16, c.n_kv_heads, c.head_dim, n)
        for gain in (QUERY_GAIN, KEY_GAIN):
            add(c.query_key_norm, gain + cross, F32, 1, c.head_dim, n)
            add(c.query_key_norm == 2 and c.biases & NORM_BIAS, gain + 1 + cross, F32, 1, c.head_dim, n)
        norm(c.norm_placement != BEFORE, AFTER_GAIN + cross, c.d_model, n)

    for n in range(c.n_layers):
        attention(n, 0, c.d_model)
        norm(c.norm_placement != AFTER and c.sublayers != SIDE_BY_SIDE and not c.flags & FFN_FOLDED, FFN_GAIN, c.d_model, n)
        add(c.gated, W_GATE, S8, c.d_ff, c.d_model, n)
        add(True, W_UP, S8, c.d_ff, c.d_model, n)
        add(True, W_DOWN, S8, c.d_model, c.d_ff, n)
        norm(c.norm_placement != BEFORE, FFN_AFTER_GAIN, c.d_model, n)
        if c.cross_attention:
            attention(n, CROSS, c.d_source)
    norm(c.final_norm and not c.flags & FINAL_FOLDED, FINAL_GAIN, c.d_model)
    add(c.dense, DENSE, S8, c.d_dense, c.d_model)
    norm(c.dense_norm, DENSE_GAIN, c.d_dense)
    add(c.output == LOGITS and not c.tied_unembedding, UNEMBEDDING, S8, c.n_output_heads * c.n_outputs, c.d_output)
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
    elif kind == S32:
        tensor = np.frombuffer(reader.take(4 * rows * cols), "<i4").reshape(rows, cols).astype(np.int64)
    else:
        tensor = np.frombuffer(reader.take(4 * cols), "<u4")
    reader.align()
    return tensor


def check_score_bias(c, tensor):
    if c.position == ALIBI:
        check((tensor >= 0).all(), "V6: a slope below 0")
    else:
        check((np.abs(tensor) <= 2 ** 23).all(), "V7: a bias of scores beyond 2^23")


class Image:
    """stacks, layout, metadata, and tensors: {(stack, role, layer): Matrix, array, or (offsets, exponents)}."""

    def __init__(self, data):
        self.read_sections(data)
        for kind in (STACKS, DIRECTORY, TENSORS):
            check(kind in self.sections, f"S5: section {kind} is missing")
        records = self.sections[STACKS]
        check(len(records) in (STACK_BYTES, 2 * STACK_BYTES), "S5: one or two stacks")
        self.stacks = [Config(records[at:at + STACK_BYTES]) for at in range(0, len(records), STACK_BYTES)]
        self.metadata = self.sections.get(METADATA, b"").decode("utf-8", "replace")
        self.read_tensors(self.sections[DIRECTORY], self.sections[TENSORS])

    @property
    def config(self):
        """Of the stack whose output is the model's."""
        return self.stacks[-1]

    def read_sections(self, data):
        """1.1 and 1.2."""
        check(len(data) >= 64, "H1: truncated")
        check(data[:8] == MAGIC, "H2: magic")
        version, n_sections, total, header_crc = struct.unpack_from("<IIQI", data, 8)
        check(version == 2, "H3: version")
        check(total <= len(data), "H4: total_bytes")
        check(3 <= n_sections <= 32, "H4: n_sections")
        end = 64 + 32 * n_sections
        check(end <= total, "H4: section table")
        check(crc32c(data[:24] + bytes(4) + data[28:end]) == header_crc, "H5: CRC")
        check(not any(data[28:64]), "H6: reserved fields")
        self.sections, last, position = {}, 0, end
        for at in range(64, end, 32):
            kind, crc, offset, size, reserved = struct.unpack_from("<IIQQQ", data, at)
            check(last < kind <= GENERATION or last < kind >= OPTIONAL_KIND, f"S1: section {kind}")
            check(reserved == 0, f"S2: section {kind}")
            check(offset == up(position, 64) and offset <= total, f"S3: section {kind}")
            check(not any(data[position:offset]), f"S3: bytes before section {kind}")
            check(1 <= size <= total - offset, f"S4: section {kind}")
            self.sections[kind] = data[offset:offset + size]
            check(crc32c(self.sections[kind]) == crc, f"S6: section {kind}")
            position, last = offset + size, kind
        check(position == total, "S4: the last section does not end at total_bytes")

    def read_tensors(self, directory, section):
        expected = [(stack, *tensor) for stack, c in enumerate(self.stacks) for tensor in tensor_list(c)]
        check(len(directory) >= 32 * len(expected) and len(directory) % 32 == 0, "D1: size of the directory")
        self.layout = next(directory[32 * n + 2] for n, tensor in enumerate(expected) if tensor[3] == S8)
        check(self.layout in PADDING, "D4: layout")
        self.tensors, reader = {}, Reader(section)
        for n, (stack, role, layer, kind, rows, cols, group, has_bias) in enumerate(expected):
            first, layout = reader.at, self.layout if kind == S8 else 0
            tensor = read_tensor(reader, kind, rows, cols, group, has_bias, layout)
            entry = struct.pack("<4BHHIIII8x", role, kind, layout, stack, layer, group, rows, cols, first // 64,
                                (reader.at - first) // 64)
            check(directory[32 * n:32 * n + 32] == entry,
                  f"D2 to D6: entry {n}, role {role} of layer {layer} of stack {stack}")
            if kind == S32:
                check_score_bias(self.stacks[stack], tensor)
            self.tensors[stack, role, layer] = tensor
        for at in range(32 * len(expected), len(directory), 32):  # what this version does not know and may skip
            role, offset64, bytes64 = directory[at], *struct.unpack_from("<II", directory, at + 16)
            check(role >= OPTIONAL_ROLE and offset64 == reader.at // 64, f"D7: entry {at // 32}")
            reader.take(64 * bytes64)
        check(reader.at == len(section), "D6: bytes behind the last tensor")

    def tensor(self, stack, role, layer=0):
        return self.tensors.get((stack, role, layer))
