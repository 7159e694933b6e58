# SPDX-License-Identifier: Apache-2.0
"""Reads and checks a heed image: parts 1, 4 and 5 of SPEC.md, written from its text alone, in Python and numpy.

Errors name the rule of part 5. All rules but those of the tokenizer section (part 3) are checked, in one go.

Used by spec_reference.py (the numerics) and make_random_image.py (the generator uses crc32c and the tables here).
"""
import struct

import numpy as np

MAGIC = bytes.fromhex("686565640D0A1A0A")
STACKS, DIRECTORY, TOKENIZER, METADATA, TENSORS, SOURCE_TOKENIZER, CLASSES, GENERATION = range(1, 9)
OPTIONAL = 1 << 31  # a kind of section that a reader may skip
ROW, PACKED, PAIR, BLOCK64 = 0, 1, 2, 3
S8, F32, U32, S16, S4, S32 = range(6)

# 1.3: choices, each with its number of values, then bits and counts with their ranges, then floats.
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
STACK_FORMAT = "<27B5xII21I4f11HH92x"
STACK_FIELDS = (*CHOICES, "biases", "flags", *COUNTS, *FLOATS)
STACK_BYTES = 256
N_SITES = 11
(ATTENTION_INPUT, VALUE_UP_INPUT, FFN_INPUT, DOWN_INPUT, UNEMBEDDING_INPUT, CROSS_INPUT, CROSS_VALUE_UP_INPUT,
 SOURCE_INPUT, INPUT_INPUT, CONVOLUTION_INPUT, DENSE_INPUT) = range(N_SITES)

GENERATE, ENCODE = 0, 1
TOKENS, VECTORS, PROJECTED, CONVOLVED = range(4)
BEFORE, AFTER, BOTH = range(3)
NO_POSITION, ROTARY, ALIBI, RELATIVE = range(4)
LOGITS = 0

(QUERY_BIAS, KEY_BIAS, VALUE_DOWN_BIAS, VALUE_UP_BIAS, FFN_BIAS, DOWN_BIAS, UNEMBEDDING_BIAS, NORM_BIAS, CROSS_QUERY_BIAS,
 CROSS_KEY_BIAS, CROSS_VALUE_DOWN_BIAS, CROSS_VALUE_UP_BIAS, INPUT_BIAS, DENSE_BIAS) = (1 << n for n in range(14))
ATTENTION_FOLDED, FFN_FOLDED, FINAL_FOLDED, CROSS_FOLDED, KEY_OFFSET, CROSS_KEY_OFFSET = (1 << n for n in range(6))

# 1.4: a tensor's role is 32 times its part plus an index.
ROLES = {}
for part, names in enumerate((
        "token_embedding position_embedding token_type_embedding class_vectors input_projection convolution_1 "
        "convolution_2 input_gain input_norm_bias rotary_phases local_rotary_phases score_bias",
        "attention_gain attention_norm_bias w_query w_key w_value_down w_value_up key_offset query_gain "
        "query_norm_bias key_gain key_norm_bias attention_after_gain attention_after_bias - - - ffn_gain "
        "ffn_norm_bias w_gate w_up w_down ffn_after_gain ffn_after_bias",
        "cross_gain cross_norm_bias cross_w_query cross_w_key cross_w_value_down cross_w_value_up cross_key_offset "
        "cross_query_gain cross_query_norm_bias cross_key_gain cross_key_norm_bias cross_after_gain cross_after_bias",
        "final_gain final_norm_bias dense dense_gain dense_norm_bias unembedding")):
    ROLES.update({name: 32 * part + n for n, name in enumerate(names.split()) if name != "-"})
ROLE_NAMES = {role: name for name, role in ROLES.items()}

# Part 4: rows padded to, columns padded to, row block of the multipliers.
PADDING = {ROW: (4, 4, 4), PACKED: (16, 8, 16), PAIR: (4, 8, 4), BLOCK64: (4, 16, 4)}

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


# 1.3: the description of a stack.

class Stack:
    def __init__(self, data):
        self.data = data
        values = struct.unpack(STACK_FORMAT, data)
        for name, value in zip(STACK_FIELDS, values):
            setattr(self, name, value)
        n = len(STACK_FIELDS)
        self.groups = values[n:n + N_SITES]
        self.reserved = data[27:32] + data[162:256]
        self.value_dim = self.d_model if self.value_map else self.head_dim
        self.d_output = self.d_dense if self.dense else self.d_model
        self.validate()

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
        check(self.dense or (self.dense_activation == 6 and not self.dense_norm), "C12: dense")
        check(not (self.unit_length and logits), "C13: unit_length")
        if self.n_output_heads > 1:
            check(self.pooling == 1 and logits and not self.dense and self.n_output_heads <= self.n_class_vectors + 1,
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
        flags = {ATTENTION_FOLDED: before, FFN_FOLDED: before and self.sublayers != 1, FINAL_FOLDED: self.final_norm,
                 CROSS_FOLDED: cross and before, KEY_OFFSET: True, CROSS_KEY_OFFSET: cross}
        biases = {QUERY_BIAS: True, KEY_BIAS: True, VALUE_DOWN_BIAS: True, VALUE_UP_BIAS: divided, FFN_BIAS: True,
                  DOWN_BIAS: True, UNEMBEDDING_BIAS: logits, NORM_BIAS: self.norm == 1 or self.query_key_norm == 2,
                  CROSS_QUERY_BIAS: cross, CROSS_KEY_BIAS: cross, CROSS_VALUE_DOWN_BIAS: cross,
                  CROSS_VALUE_UP_BIAS: cross and divided, INPUT_BIAS: from_input, DENSE_BIAS: self.dense}
        sites = (True, divided, True, True, logits, cross, cross and divided, cross, from_input,
                 self.second_convolution, self.dense)
        check(not self.flags & ~sum(bit for bit, there in flags.items() if there), "C17: flags")
        check(not self.biases & ~sum(bit for bit, there in biases.items() if there), "C17: biases")
        check(all(there or not group for there, group in zip(sites, self.groups)), "C17: groups")


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


def tensor_list(c):
    """1.4: (role, layer, type, rows, cols, columns per group, has a bias) of every tensor of a stack, in order."""
    tensors = []

    def add(name, layer, kind, rows, cols, site=None, bias=0):
        group = 0 if site is None else c.groups[site]
        tensors.append((ROLES[name], layer, kind, rows, cols, group, c.biases & bias != 0))

    def add_norm(there, gain, bias, layer=0, n=c.d_model, biased=c.norm == 1):
        if there:
            add(gain, layer, F32, 1, n)
            if biased and c.biases & NORM_BIAS:
                add(bias, layer, F32, 1, n)

    d = c.d_model
    if c.input == TOKENS:
        tied = (UNEMBEDDING_INPUT, UNEMBEDDING_BIAS) if c.tied_unembedding else (None, 0)
        add("token_embedding", 0, S8, c.vocab_size, d, *tied)  # looking up is no site: groups only where it unembeds too
    for name, rows in (("position_embedding", c.position_table and c.max_seq), ("token_type_embedding", c.n_token_types),
                       ("class_vectors", c.n_class_vectors)):
        if rows:
            add(name, 0, S8, rows, d)
    if c.input == PROJECTED:
        add("input_projection", 0, S8, d, c.d_input, INPUT_INPUT, INPUT_BIAS)
    if c.input == CONVOLVED:
        add("convolution_1", 0, S8, d, 3 * c.d_input, INPUT_INPUT, INPUT_BIAS)
    if c.second_convolution:
        add("convolution_2", 0, S8, d, 3 * d, CONVOLUTION_INPUT, INPUT_BIAS)
    add_norm(c.input_norm, "input_gain", "input_norm_bias")
    for name, there in (("rotary_phases", c.position == ROTARY), ("local_rotary_phases", c.local_rotary)):
        if there:
            add(name, 0, U32, 1, c.rotary_dims // 2)
    if c.position in (ALIBI, RELATIVE):
        add("score_bias", 0, S32, c.n_heads, 1 if c.position == ALIBI else c.n_distances)

    def add_attention(n, cross):
        prefix, shift = ("cross_", 8) if cross else ("", 0)
        long_prefix = "cross_" if cross else "attention_"
        read_in, source_in, up_in = ((CROSS_INPUT, SOURCE_INPUT, CROSS_VALUE_UP_INPUT) if cross
                                     else (ATTENTION_INPUT, ATTENTION_INPUT, VALUE_UP_INPUT))
        d_source = c.d_source if cross else d
        folded = c.flags & (CROSS_FOLDED if cross else ATTENTION_FOLDED)
        add_norm(c.norm_placement != AFTER and not folded, long_prefix + "gain", long_prefix + "norm_bias", n)
        add(prefix + "w_query", n, S8, c.n_heads * c.head_dim, d, read_in, QUERY_BIAS << shift)
        add(prefix + "w_key", n, S8, c.n_kv_heads * c.head_dim, d_source, source_in, KEY_BIAS << shift)
        add(prefix + "w_value_down", n, S8, c.n_kv_heads * c.value_dim, d_source, source_in, VALUE_DOWN_BIAS << shift)
        if not c.value_map:
            add(prefix + "w_value_up", n, S8, d, c.n_heads * c.head_dim, up_in, VALUE_UP_BIAS << shift)
        if c.flags & (CROSS_KEY_OFFSET if cross else KEY_OFFSET):
            add(prefix + "key_offset", n, S16, c.n_kv_heads, c.head_dim)
        for head in ("query", "key"):
            add_norm(c.query_key_norm, f"{prefix}{head}_gain", f"{prefix}{head}_norm_bias", n, c.head_dim,
                     c.query_key_norm == 2)
        add_norm(c.norm_placement != BEFORE, long_prefix + "after_gain", long_prefix + "after_bias", n)

    for n in range(c.n_layers):
        add_attention(n, False)
        add_norm(c.norm_placement != AFTER and c.sublayers != 1 and not c.flags & FFN_FOLDED, "ffn_gain",
                 "ffn_norm_bias", n)
        if c.gated:
            add("w_gate", n, S8, c.d_ff, d, FFN_INPUT, FFN_BIAS)
        add("w_up", n, S8, c.d_ff, d, FFN_INPUT, FFN_BIAS)
        add("w_down", n, S8, d, c.d_ff, DOWN_INPUT, DOWN_BIAS)
        add_norm(c.norm_placement != BEFORE, "ffn_after_gain", "ffn_after_bias", n)
        if c.cross_attention:
            add_attention(n, True)
    add_norm(c.final_norm and not c.flags & FINAL_FOLDED, "final_gain", "final_norm_bias")
    if c.dense:
        add("dense", 0, S8, c.d_dense, d, DENSE_INPUT, DENSE_BIAS)
        add_norm(c.dense_norm, "dense_gain", "dense_norm_bias", 0, c.d_dense)
    if c.output == LOGITS and not c.tied_unembedding:
        add("unembedding", 0, S8, c.n_output_heads * c.n_outputs, c.d_output, UNEMBEDDING_INPUT, UNEMBEDDING_BIAS)
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
        check(tensor.min() >= 0 if cols == 1 else np.abs(tensor).max() <= 2 ** 23, "V6: a bias of scores")
    else:
        tensor = np.frombuffer(reader.take(4 * cols), "<u4")
    reader.align()
    return tensor


class Image:
    """stacks, layout, metadata, sections, and tensors: {(stack, role, layer): Matrix, array, or (offsets, exponents)}."""

    def __init__(self, data):
        self.read_sections(data)
        for kind in (STACKS, DIRECTORY, TENSORS):
            check(kind in self.sections, f"S5: section {kind} is missing")
        records = self.sections[STACKS]
        check(len(records) in (STACK_BYTES, 2 * STACK_BYTES), "S5: stacks not of 256 bytes each, or more than two")
        self.stacks = [Stack(records[at:at + STACK_BYTES]) for at in range(0, len(records), STACK_BYTES)]
        check_stacks(self.stacks)
        self.config = self.stacks[-1]
        self.metadata = self.sections.get(METADATA, b"").decode("utf-8", "replace")
        self.read_tensors(self.sections[DIRECTORY], self.sections[TENSORS])

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
            check(last < kind and (kind <= GENERATION or kind >= OPTIONAL), f"S1: section {kind}")
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
        check(len(directory) % 32 == 0 and len(directory) >= 32 * len(expected), "D1: size of the directory")
        self.layout = next(directory[32 * n + 2] for n, tensor in enumerate(expected) if tensor[3] == S8)
        check(self.layout in PADDING, "D4: layout")
        self.tensors, reader = {}, Reader(section)
        for n, (stack, role, layer, kind, rows, cols, group, has_bias) in enumerate(expected):
            layout, at = self.layout if kind == S8 else 0, reader.at
            found = directory[32 * n:32 * n + 32]
            if kind == S8:
                check(found[1] != S4, "D2: four-bit weights are not carried")
            tensor = read_tensor(reader, kind, rows, cols, group, has_bias, layout)
            entry = struct.pack("<4BHHIIII8x", role, kind, layout, stack, layer, group, rows, cols, at // 64,
                                (reader.at - at) // 64)
            check(found == entry, f"D2 to D6: entry {n}, {ROLE_NAMES[role]} of layer {layer}")
            self.tensors[stack, role, layer] = tensor
        for at in range(32 * len(expected), len(directory), 32):
            role, offset64, bytes64 = directory[at], *struct.unpack_from("<II", directory, at + 16)
            check(role >= 128 and offset64 == reader.at // 64, f"D7: entry {at // 32}")
            reader.take(64 * bytes64)
        check(reader.at == len(section), "D6: bytes behind the last tensor")

    def tensor(self, name, layer=0, stack=0):
        return self.tensors.get((stack, ROLES[name], layer))
