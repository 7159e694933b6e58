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

# 1.3: choices, each with its number of values, then counts with their ranges, then floats.
CHOICES = dict(use=2, input=4, mask=2, cross_attention=2, norm=2, norm_placement=3, sublayers=3, input_norm=2,
               final_norm=2, position_table=2, position=4, rotary_pairing=2, query_key_norm=3, value_map=2, gated=2,
               activation=5, pooling=4, dense=2, dense_activation=7, dense_norm=2, output=2, tied_unembedding=2,
               unit_length=2, second_convolution=2, stride_1=3, stride_2=3, n_output_heads=8)
COUNTS = dict(d_model=(1, 65536), d_ff=(1, 131072), n_layers=(1, 4096), n_heads=(1, 1024), n_kv_heads=(1, 1024),
              head_dim=(1, 256), vocab_size=(0, 1 << 20), n_outputs=(0, 1 << 20), max_seq=(1, 1 << 20),
              window=(0, 1 << 20), global_every=(0, 4096), global_first=(0, 4096), n_sinks=(0, 1 << 20),
              rotary_dims=(0, 256), local_rotary=(0, 1), n_distances=(0, 1 << 20), d_input=(0, 65536),
              d_source=(0, 65536), n_token_types=(0, 65536), n_class_vectors=(0, 65536), d_dense=(0, 65536))
FLOATS = ("norm_epsilon", "attention_scale", "cross_scale", "embedding_scale")
STACK_FORMAT = "<27B5x23I4f11H2x92x"
STACK_FIELDS = [*CHOICES, "biases", "flags", *COUNTS, *FLOATS]
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
        self.reserved = data[27:32] + data[162:256]
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
        for name, values in CHOICES.items():
            check(getattr(self, name) < values, f"C1: {name} = {getattr(self, name)}")
        check(self.n_output_heads >= 1, "C1: n_output_heads")
        for name, (low, high) in COUNTS.items():
            check(low <= getattr(self, name) <= high, f"C2: {name} = {getattr(self, name)}")
        check(not any(self.reserved), "C3: reserved fields")
        check(all(g in (0, 32, 64, 128, 256) for g in self.groups), "C4: groups")
        tokens, logits, causal = self.input == TOKENS, self.output == LOGITS, self.mask == 0
        convolved, rotary = self.input == CONVOLVED, self.position == ROTARY
        check(self.n_heads % self.n_kv_heads == 0, "C5: n_kv_heads does not divide n_heads")
        check(self.n_heads * self.head_dim <= 131072, "C5: n_heads * head_dim")
        if self.value_map:
            check(self.d_model <= 256 and self.n_heads * self.d_model <= 131072, "C6: undivided value maps")
        check((self.vocab_size > 0) == tokens, "C7: vocab_size")
        check((self.n_outputs > 0) == logits, "C7: n_outputs")
        if self.use == GENERATE:
            check(tokens and logits and causal and self.pooling == 0 and self.n_class_vectors == 0
                  and self.n_outputs == self.vocab_size, "C8: generate")
        if self.tied_unembedding:
            check(tokens and logits and self.n_outputs == self.vocab_size and self.n_output_heads == 1
                  and self.d_output == self.d_model, "C9: tied_unembedding")
        check((self.d_input > 0) == (self.input in (PROJECTED, CONVOLVED)), "C10: d_input")
        check((self.stride_1 > 0) == convolved and (self.stride_2 > 0) == (self.second_convolution > 0)
              and (convolved or not self.second_convolution), "C10: convolutions")
        check(not convolved or 3 * self.d_input <= 131072, "C10: 3 * d_input")
        check(not self.second_convolution or 3 * self.d_model <= 131072, "C10: 3 * d_model")
        check(self.n_class_vectors < self.max_seq, "C11: n_class_vectors")
        check(tokens or (self.n_token_types == 0 and self.embedding_scale == 1), "C11: token types and embedding scale")
        check((self.d_dense > 0) == (self.dense > 0), "C12: d_dense")
        check(self.dense or (self.dense_activation == NONE and not self.dense_norm), "C12: dense")
        check(not (self.unit_length and logits), "C13: unit_length")
        if self.n_output_heads > 1:
            check(self.pooling == FIRST and logits and not self.dense and self.n_output_heads <= self.n_class_vectors + 1,
                  "C13: n_output_heads")
        if rotary:
            check(self.rotary_dims % 2 == 0 and 2 <= self.rotary_dims <= self.head_dim, "C14: rotary_dims")
        else:
            check(self.rotary_dims == 0 and self.rotary_pairing == 0, "C14: rotary fields without rotary positions")
        check((self.n_distances > 0) == (self.position == RELATIVE), "C14: n_distances")
        check(causal or self.n_distances == 0 or self.n_distances % 2 == 1, "C14: n_distances is even")
        if self.global_every:
            check(self.global_every >= 2 and self.window and self.global_first < self.global_every, "C15: global_every")
        else:
            check(self.global_first == 0, "C15: global_first")
        check(not self.local_rotary or (self.window and rotary), "C15: local_rotary")
        check(not self.sublayers or (self.norm_placement != AFTER and not self.cross_attention), "C16: sublayers")
        check((self.d_source > 0) == (self.cross_attention > 0), "C16: d_source")
        self.validate_parts()
        for name in FLOATS:
            if name != "cross_scale" or self.cross_attention:
                check(2.0 ** -40 <= getattr(self, name) <= 2.0 ** 40, f"C18: {name}")
        check(self.cross_attention or self.data[132:136] == bytes(4), "C18: cross_scale")
        check(self.n_sinks == 0, "C20: sinks")

    def validate_parts(self):
        """C17: flags, biases and groups are of what the stack has."""
        before, cross, divided = self.norm_placement != AFTER, self.cross_attention, not self.value_map
        logits, from_input = self.output == LOGITS, self.input in (PROJECTED, CONVOLVED)
        flags = {ATTENTION_FOLDED: before, FFN_FOLDED: before and self.sublayers != SIDE_BY_SIDE, FINAL_FOLDED: self.final_norm,
                 CROSS_FOLDED: cross and before, KEY_OFFSET_FLAG: True,
                 CROSS_KEY_OFFSET_FLAG: cross}
        biases = {QUERY_BIAS: True, KEY_BIAS: True, VALUE_DOWN_BIAS: True, VALUE_UP_BIAS: divided, FFN_BIAS: True,
                  DOWN_BIAS: True, UNEMBEDDING_BIAS: logits, NORM_BIAS: self.norm == 1 or self.query_key_norm == 2,
                  CROSS_QUERY_BIAS: cross, CROSS_KEY_BIAS: cross, CROSS_VALUE_DOWN_BIAS: cross,
                  CROSS_VALUE_UP_BIAS: cross and divided, INPUT_BIAS: from_input, DENSE_BIAS: self.dense}
        sites = (True, divided, True, True, logits, cross, cross and divided, cross, from_input,
                 self.second_convolution, self.dense)
        check(not self.flags & ~sum(bit for bit, there in flags.items() if there), "C17: flags")
        check(not self.biases & ~sum(bit for bit, there in biases.items() if there), "C17: biases")
        check(all(there or not group for there, group in zip(sites, self.groups)), "C17: groups")
        check(self.sublayers != SIDE_BY_SIDE or self.groups[FFN_INPUT] == self.groups[ATTENTION_INPUT],
              "C17: groups of one vector")


def check_stacks(stacks):
    """C19."""
    main = stacks[-1]
    if len(stacks) == 1:
        check(not main.cross_attention, "C19: cross-attention of the only stack")
        return
    source = stacks[0]
    check(source.use == ENCODE and source.output != LOGITS and source.pooling == 0 and not source.dense
          and not source.unit_length and not source.cross_attention, "C19: the first of two stacks")
    check(main.cross_attention and main.d_source == source.d_model, "C19: the second of two stacks")


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
        check_stacks(self.stacks)
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
