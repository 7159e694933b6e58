#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a heed image bit-exactly as SPEC.md part 2 says, written from its text alone, in Python and numpy.

    spec_reference.py IMAGE --tokens 1,385,328 [--bits]    CRC-32C of the logits' bits (or the bits) at each position
    spec_reference.py IMAGE --tokens 1 --generate 20       greedy generation, then the digest of 3.3
    spec_reference.py IMAGE --loss FILE                    nats per token; FILE has a sequence of ids on each line

An independent check that the text is complete and that the C++ follows it: slow and plain on purpose. Floats are numpy
float32 (one rounding per operation), integers numpy int64 or Python's.
"""
import argparse
import math
import struct
import sys

import numpy as np

import spec_image as si
from spec_image import BadImage, Image, crc32c

np.seterr(all="ignore")
F = np.float32
INV127 = F(1) / F(127)
LOG2E = F(1.44269504)


# 2.1: floats.

def power(e):
    """2^e as a float."""
    return np.ldexp(F(1), int(e))


def to_float(i):
    """An integer, or an array of them, to float by one rounding."""
    return np.asarray(i, dtype=np.int64).astype(F)[()]


def snap(x):
    return np.where(np.abs(x) < power(-40), F(0), x)


def limit(x):
    if x < power(-50):
        return F(0)
    return power(40) if x > power(40) else x


# 2.2: block floats.

class Block:
    """s16 values s with maximum M and exponent e; a zero vector has M = 0."""

    def __init__(self, s, e, M=None):
        self.s, self.e = s, e
        self.M = int(np.abs(s).max()) if M is None else M


def block_float(x):
    x = np.where(np.isnan(x), F(0), x)
    m = np.abs(x).max()
    if m < power(-40):
        return Block(np.zeros(len(x), np.int64), 0)
    e = 41 if m > power(40) else int(np.frexp(m)[1])
    return Block(np.rint(np.clip(x * power(15 - e), F(-32767), F(32767))).astype(np.int64), e)


# 2.3: quantising activations.

class Activation:
    """q with one group exponent for each column (0 without groups) and a scale."""

    def __init__(self, q, p, scale):
        self.q, self.p, self.scale = q, p, scale


def zero_activation(n):
    return Activation(np.zeros(n, np.int64), np.zeros(n, np.int64), F(0))


def quantise(block, group=0):
    s, M = block.s, block.M
    if M == 0:
        return zero_activation(len(s))
    recip = (127 * 2 ** 22 + M // 2) // M
    scale = (to_float(M) * INV127) * power(block.e - 15)
    if group == 0:
        return Activation((s * recip + 2 ** 21) >> 22, np.zeros(len(s), np.int64), scale)
    p = np.empty(len(s), np.int64)
    for first in range(0, len(s), group):
        M_g = int(np.abs(s[first:first + group]).max())
        p[first:first + group] = next((p for p in range(3) if M_g << (3 - p) <= M), 3)
    return Activation((s * recip + (1 << (18 + p))) >> (19 + p), p, scale * F(0.125))


# 2.4: norms.

def norm_factor(a, epsilon):
    """The factor of a vector quantised without groups."""
    mean = ((a.scale * a.scale) * to_float((a.q * a.q).sum())) * (F(1) / to_float(len(a.q)))
    return F(1) / np.sqrt(mean + epsilon)


def scaled(activation, factor):
    activation.scale = limit(activation.scale * factor)
    return activation


def rms_norm(x, gain, epsilon, group):
    block = block_float(x)
    if block.M == 0:
        return zero_activation(len(x))
    factor = norm_factor(quantise(block), epsilon)
    return scaled(quantise(block if gain is None else block_float(x * gain), group), factor)


def shifted(s, M):
    """s and M brought to 15 bits, and by how many places to the left."""
    L = 15 - M.bit_length()
    return (s << L, M << L, L) if L >= 0 else (s >> -L, M >> -L, L)


def centred(x, epsilon):
    """c_i as a block float and the factor; a block of zeros where no element differs from the mean."""
    n, block = len(x), block_float(x)
    c = block.s - (2 * int(block.s.sum()) + n) // (2 * n)
    C = int(np.abs(c).max()) if block.M else 0
    if C == 0:
        return Block(np.zeros(n, np.int64), 0), F(0)
    c, M, L = shifted(c, C)
    block = Block(c, block.e - L, M)
    return block, norm_factor(quantise(block), epsilon)


def with_gain_and_bias(block, factor, gain, bias):
    y = to_float(block.s) * (power(block.e - 15) * factor)
    if gain is not None:
        y = y * gain
    if bias is not None:
        y = y + bias
    return y


def layer_norm(x, gain, bias, epsilon, group):
    block, factor = centred(x, epsilon)
    if block.M == 0:
        return zero_activation(len(x)) if bias is None else scaled(quantise(block_float(bias), group), F(1))
    if gain is None and bias is None:
        return scaled(quantise(block, group), factor)
    return scaled(quantise(block_float(with_gain_and_bias(block, factor, gain, bias)), group), F(1))


def normed(layer, x, gain, bias, epsilon):
    """Layer norm or RMS norm as floats."""
    if layer:
        block, factor = centred(x, epsilon)
        if block.M == 0:
            y = np.zeros(len(x), F) if bias is None else bias
        else:
            y = with_gain_and_bias(block, factor, gain, bias)
        return snap(y)
    block = block_float(x)
    if block.M == 0:
        return np.zeros(len(x), F)
    y = x * norm_factor(quantise(block), epsilon)
    return snap(y if gain is None else y * gain)


# 2.5: activations.

SHARE = {si.RELU: lambda a: 1,
         si.GELU_TANH: lambda a: (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a ** 3))) / 2,
         si.GELU_ERF: lambda a: (1 + math.erf(a / math.sqrt(2))) / 2,
         si.SILU: lambda a: 1 / (1 + math.exp(-a)),
         si.GELU_QUICK: lambda a: 1 / (1 + math.exp(-1.702 * a)),
         si.TANH: math.tanh}
FACTOR = {activation: np.array([round(32767 * share(j / 16)) for j in range(257)], np.int64)
          for activation, share in SHARE.items()}


def interpolated(a, activation):
    """f of |a|, a a block float."""
    S = FACTOR[activation]
    level = np.abs(a.s)
    level = level << min(a.e - 3, 16) if a.e >= 3 else level >> (3 - a.e)
    level = np.minimum(level, 65535)
    j, part = level >> 8, level & 255
    f = S[j] + (((S[j + 1] - S[j]) * part + 128) >> 8)
    return f


def times_factor(a, activation):
    f = interpolated(a, activation)
    f = np.where(a.s < 0, 32767 - f, f)
    return (a.s * f + 2 ** 14) >> 15


def activated(x, activation):
    """As floats."""
    if activation == si.NONE:
        return x
    a = block_float(x)
    if a.M == 0:
        return np.zeros(len(x), F)
    if activation == si.TANH:
        f = interpolated(a, activation)
        return to_float(np.where(a.s < 0, -f, f)) * power(-15)
    return to_float(times_factor(a, activation)) * power(a.e - 15)


def gated(gate, up, activation, group):
    """up is None without a gate; gate is then what the activation works on."""
    a, b = block_float(gate), None if up is None else block_float(up)
    if a.M == 0 or (b is not None and b.M == 0):
        return zero_activation(len(gate))
    h, e = times_factor(a, activation), a.e
    if b is not None:
        h, e = h * b.s, a.e + b.e - 15
    H = int(np.abs(h).max())
    if H == 0:
        return zero_activation(len(gate))
    s, M, L = shifted(h, H)
    return scaled(quantise(Block(s, e - L, M), group), F(1))


# 2.6: powers of two.

POWER_A = np.array([round(32640 * 2 ** (-i / 16)) for i in range(16)], np.int64)
POWER_B = np.array([round(32767 * 2 ** (-i / 256)) for i in range(16)], np.int64)
T = (POWER_A[np.arange(256) >> 4] * POWER_B[np.arange(256) & 15] + 2 ** 14) >> 15


# 2.7: rotation, queries, keys, values.

SINE = np.array([round(32767 * math.sin(math.pi / 2 * i / 128)) for i in range(129)] + [0], np.int64)  # [129]: times 0


def sine(phase):
    phase = phase % 2 ** 32
    quadrant, u = phase >> 30, phase % 2 ** 30
    u = np.where(quadrant % 2 == 1, 2 ** 30 - u, u)
    i, part = u >> 23, (u >> 11) & 4095
    v = SINE[i] + (((SINE[i + 1] - SINE[i]) * part + 2048) >> 12)
    return np.where(quadrant >= 2, -v, v)


def rotate(block, phases, pairing):
    """phases: of the position, one for each pair."""
    pairs = len(phases)
    s, c = sine(phases), sine(phases + 2 ** 30)
    i = np.arange(pairs)
    first, second = (2 * i, 2 * i + 1) if pairing == 0 else (i, i + pairs)
    x, y = block.s[first], block.s[second]
    out = (block.s + 1) >> 1
    out[first] = (x * c - y * s + 2 ** 15) >> 16
    out[second] = (x * s + y * c + 2 ** 15) >> 16
    return Block(out, block.e + 1)


def subtract_offset(block, was_zero, o, e_o):
    e = -39 if was_zero else block.e
    E = max(e, e_o) + 1
    return Block((block.s >> min(E - e, 31)) - (o >> min(E - e_o, 31)), E)


def normalise(block):
    """Left until M is in 16384..32767."""
    if block.M == 0:
        return block
    n = 15 - block.M.bit_length()
    return Block(block.s << n, block.e - n)


def make_key(block):
    """q, m, ek with key = q * m * 2^ek."""
    M = block.M
    if M == 0:
        return block.s, 128, -54
    m, ek, recip = -(-M // 127), block.e - 15, 2 ** 22
    if m > 255:
        m, ek, recip = -(-M // 254), block.e - 14, 2 ** 21
    return (block.s * (recip // m) + 2 ** 21) >> 22, m, ek


def make_value(block):
    """q, ev with value = q * 2^ev."""
    if block.M == 0:
        return block.s, -46
    shift = 8 if (block.M + 128) >> 8 <= 127 else 9
    return (block.s + 2 ** (shift - 1)) >> shift, block.e - 15 + shift


def first_and_last(position, n, causal, window):
    """The keys that a query sees: the first, and the one behind the last. window is 0 in a layer that sees all."""
    first, last = 0, position + 1 if causal else n
    if window:
        first, last = max(0, position - window + 1), min(last, position + window)
    return first, last


def alibi_bias(slope, distance):
    return -min((slope * distance + 2 ** 11) >> 12, 2 ** 23)


def relative_column(ahead, n_distances, causal):
    """ahead: position of the query less that of the key."""
    if causal:
        return min(ahead, n_distances - 1)
    half = (n_distances - 1) // 2
    return max(-half, min(ahead, half)) + half


# 2.8: attention.

class Cache:
    """Keys and values of one layer and one key head, one row for each position."""

    def __init__(self, positions, head_dim, value_dim):
        self.key, self.value = (np.zeros((positions, dim), np.int64) for dim in (head_dim, value_dim))
        self.m, self.ek, self.ev = (np.zeros(positions, np.int64) for _ in range(3))


def attend_block(query, cache, keys, attention_scale, hidden=0, bias=None):
    """One query, one block: N, D, V, ref. keys: the slice of the block's positions up to the last visible one, of which
    the first `hidden` are not seen; bias: of each key that is."""
    K, V = int(cache.ek[keys].max()), int(cache.ev[keys].max())
    seen = slice(keys.start + hidden, keys.stop)
    ek, ev = cache.ek[seen], cache.ev[seen]
    u = ((cache.key[seen] @ query.q) * cache.m[seen]) >> np.minimum(K - ek, 31)
    U = int(u.max())
    unit = (query.scale * (attention_scale * LOG2E)) * power(K)
    fine = unit * power(25)
    best, shift, mant = F(0), 0, 0
    if fine >= power(-40):
        best = np.clip(to_float(U) * unit, -power(20), power(20))
        mantissa, ef = np.frexp(fine) if np.isfinite(fine) else (F(0.5), 129)
        shift = 15 - int(ef)
        mant = (int(mantissa * power(24)) + 256) >> 9
        if mant > 32767 or shift < 0:
            mant = 32767
        shift = min(max(shift, 0), 31)
    if bias is None:
        dist = np.minimum((U - u) >> shift, 32767)
        depth = (dist * mant + 2 ** 14) >> 15
    else:
        dist = np.minimum((U - u) >> shift, 2 ** 24 - 1)
        depth = (dist >> 16) * mant * 2 + (((dist & 65535) * mant + 2 ** 14) >> 15) - bias
        least = int(depth.min())
        best = np.clip(best - to_float(least) * power(-10), -power(20), power(20))
        depth = np.minimum(depth - least, 32767)
    ref = int(np.ceil(best))
    start = int(np.rint((to_float(ref) - best) * F(1024))) + 2 + 1024
    depth = depth + start
    down = np.minimum(depth >> 10, 31)
    weight = (2 * T[(depth >> 2) & 255] + (1 << (down - 1))) >> down
    folded = weight >> np.minimum(V - ev, 31)
    return folded @ cache.value[seen], int(weight.sum()), V, ref


class Sums:
    """What a query has gathered from the blocks so far."""

    def __init__(self, head_dim):
        self.numerator, self.denominator, self.reference = np.zeros(head_dim, F), F(0), -2 ** 24

    def merge(self, N, D, V, ref):
        merged = max(self.reference, ref)
        keep = power(self.reference - merged) if self.reference - merged >= -30 else F(0)
        add = power(ref - merged) if ref - merged >= -30 else F(0)
        self.denominator = self.denominator * keep + to_float(D) * add
        self.numerator = snap(self.numerator * keep + to_float(N) * (add * power(V)))
        self.reference = merged

    def output(self):
        return self.numerator * (F(1) / self.denominator)


def attend(query, cache, first, last, attention_scale, bias_of=None):
    """One query head over the positions first .. last - 1; bias_of(position) or None."""
    sums = Sums(cache.value.shape[1])
    for block in range(first // 64 * 64, last, 64):
        seen, behind = max(block, first), min(block + 64, last)
        bias = None if bias_of is None else np.array([bias_of(j) for j in range(seen, behind)], np.int64)
        sums.merge(*attend_block(query, cache, slice(block, behind), attention_scale, seen - block, bias))
    return sums.output()


# 2.9: matrix products.

def product(matrix, a):
    acc = matrix.weights @ (a.q << a.p)
    y = to_float(acc) * (matrix.scale * a.scale)
    return y if matrix.bias is None else y + matrix.bias


def embedding(matrix, row):
    return to_float(matrix.weights[row]) * matrix.scale[row]


# 2.0: stacks.

def input_vector(x):
    x = np.where(np.isnan(x), F(0), x)
    return snap(np.clip(x, -power(40), power(40)))


def three_frames(frames, m):
    """c_{m-1}, c_m, c_{m+1} side by side, zeros where there is none."""
    absent = np.zeros(len(frames[0]), F)
    return np.concatenate([frames[c] if 0 <= c < len(frames) else absent for c in (m - 1, m, m + 1)])


def added(vectors):
    """One float addition for each +, from the first on."""
    total = vectors[0]
    for vector in vectors[1:]:
        total = total + vector
    return total


def mean_of(vectors):
    return snap(added(vectors) * (F(1) / to_float(len(vectors))))


def unit_length(y):
    a = quantise(block_float(y))
    if not a.scale:
        return np.zeros(len(y), F)
    return snap(y * (F(1) / np.sqrt((a.scale * a.scale) * to_float((a.q * a.q).sum()))))


def no_trace(name, value):
    """What a Stack tells of every step: a float array, an Activation, a Block, or numbers."""


class Stack:
    """The positions that were taken stay: to generate, they come one by one."""

    def __init__(self, image, index, positions, source_positions=0, trace=no_trace):
        c = image.stacks[index]
        self.image, self.index, self.config, self.trace = image, index, c, trace
        self.epsilon = F(c.norm_epsilon)

        def caches(n):
            return [[Cache(n, c.head_dim, c.value_dim) for _ in range(c.n_kv_heads)] for _ in range(c.n_layers)]
        self.caches = {0: caches(positions), si.CROSS: caches(source_positions)}
        self.source_length = 0

    def tensor(self, role, layer=0):
        return self.image.tensor(self.index, role, layer)

    def told(self, name, value):
        self.trace(name, value)
        return value

    # Norms, and what is quantised at a site.

    def norm(self, x, gain_role, layer, site):
        gain, bias, group = self.tensor(gain_role, layer), self.tensor(gain_role + 1, layer), self.config.groups[site]
        if self.config.norm == si.RMS:
            return self.told(f"site {site}", rms_norm(x, gain, self.epsilon, group))
        return self.told(f"site {site}", layer_norm(x, gain, bias, self.epsilon, group))

    def normed(self, x, gain_role, layer=0):
        return normed(self.config.norm == si.LAYER, x, self.tensor(gain_role, layer), self.tensor(gain_role + 1, layer),
                      self.epsilon)

    def quantised(self, x, site):
        return self.told(f"site {site}", quantise(block_float(x), self.config.groups[site]))

    # Input.

    def convolved(self, frames, role, stride, site):
        n = (len(frames) - 1) // stride + 1
        return [activated(product(self.tensor(role), self.quantised(three_frames(frames, stride * t), site)),
                          self.config.activation) for t in range(n)]

    def token_vector(self, token, kind):
        x = embedding(self.tensor(si.TOKEN_EMBEDDING), token) * F(self.config.embedding_scale)
        types = self.tensor(si.TOKEN_TYPE_EMBEDDING)
        return x if types is None else x + embedding(types, kind)

    def input(self, inputs, types, first):
        c = self.config
        if c.input == si.TOKENS:
            x = [self.token_vector(token, kind) for token, kind in zip(inputs, types or [0] * len(inputs))]
        elif c.input == si.VECTORS:
            x = [input_vector(v) for v in inputs]
        elif c.input == si.PROJECTED:
            x = [product(self.tensor(si.INPUT_PROJECTION), self.quantised(v, si.INPUT)) for v in inputs]
        else:
            x = self.convolved(inputs, si.CONVOLUTION_1, c.stride_1, si.INPUT)
            if c.second_convolution:
                x = self.convolved(x, si.CONVOLUTION_2, c.stride_2, si.CONVOLUTION_INPUT)
        x = [embedding(self.tensor(si.CLASS_VECTORS), p) for p in range(c.n_class_vectors)] + x
        if c.position_table:
            x = [v + embedding(self.tensor(si.POSITION_EMBEDDING), first + p) for p, v in enumerate(x)]
        if c.input_norm:
            x = [self.normed(v, si.INPUT_GAIN) for v in x]
        return x

    # 2.7: keys and queries.

    def head(self, x, gain_role, layer, position, cross):
        """A head of query or key as a block float, and whether it was zero."""
        c = self.config
        if c.query_key_norm:
            x = normed(c.query_key_norm == 2, x, self.tensor(gain_role, layer), self.tensor(gain_role + 1, layer),
                       self.epsilon)
        block = block_float(x)
        if cross or c.position != si.ROTARY or block.M == 0:
            return block, block.M == 0
        local = c.local_rotary and not c.sees_all(layer)
        phases = self.tensor(si.LOCAL_ROTARY_PHASES if local else si.ROTARY_PHASES).astype(np.int64)
        return rotate(block, phases * position, c.rotary_pairing), False

    def keep(self, cross, layer, position, y):
        c = self.config
        key = product(self.tensor(si.W_KEY + cross, layer), y).reshape(-1, c.head_dim)
        value = product(self.tensor(si.W_VALUE_DOWN + cross, layer), y).reshape(-1, c.value_dim)
        offset = self.tensor(si.KEY_OFFSET + cross, layer)
        for h, cache in enumerate(self.caches[cross][layer]):
            block, was_zero = self.head(key[h], si.KEY_GAIN + cross, layer, position, cross)
            if offset:
                block = subtract_offset(block, was_zero, offset[0][h], int(offset[1][h]))
            cache.key[position], cache.m[position], cache.ek[position] = self.told("key", make_key(normalise(block)))
            cache.value[position], cache.ev[position] = self.told("value", make_value(block_float(value[h])))

    def bias_of(self, head, position):
        """The bias of each key for a query head at `position`, or None."""
        c, table = self.config, self.tensor(si.SCORE_BIAS)
        if c.position == si.ALIBI:
            return lambda j: alibi_bias(int(table[head, 0]), abs(position - j))
        if c.position == si.RELATIVE:
            return lambda j: int(table[head, relative_column(position - j, c.n_distances, c.mask == si.CAUSAL)])
        return None

    def attention(self, cross, layer, position, n, y):
        """The change of attention or cross-attention; n keys are kept."""
        c = self.config
        query = product(self.tensor(si.W_QUERY + cross, layer), y).reshape(-1, c.head_dim)
        first, last = 0, n
        if not cross:
            first, last = first_and_last(position, n, c.mask == si.CAUSAL, 0 if c.sees_all(layer) else c.window)
        outputs = []
        for h in range(c.n_heads):
            block, _ = self.head(query[h], si.QUERY_GAIN + cross, layer, position, cross)
            activation = self.told("query", quantise(normalise(block)))
            cache = self.caches[cross][layer][h // (c.n_heads // c.n_kv_heads)]
            scale = F(c.cross_scale if cross else c.attention_scale)
            outputs.append(attend(activation, cache, first, last, scale, None if cross else self.bias_of(h, position)))
        if c.value_map == si.UNDIVIDED:
            return added(outputs)
        heads = self.told("heads", np.concatenate(outputs))
        site = si.CROSS_VALUE_UP_INPUT if cross else si.VALUE_UP_INPUT
        return product(self.tensor(si.W_VALUE_UP + cross, layer), self.quantised(heads, site))

    def feed_forward(self, layer, y):
        c = self.config
        gate, up = product(self.tensor(si.W_UP, layer), y), None
        if c.gated:
            gate, up = product(self.tensor(si.W_GATE, layer), y), gate
        h = self.told(f"site {si.DOWN_INPUT}", gated(gate, up, c.activation, c.groups[si.DOWN_INPUT]))
        return product(self.tensor(si.W_DOWN, layer), h)

    # Blocks.

    def read(self, x, gain_role, layer, site):
        """What a sublayer reads of x."""
        return self.quantised(x, site) if self.config.norm_placement == si.AFTER else self.norm(x, gain_role, layer, site)

    def moved(self, x, change, gain_role, layer):
        placement = self.config.norm_placement
        if placement == si.AFTER:
            return self.told("x", self.normed(x + change, gain_role, layer))
        return self.told("x", x + (self.normed(change, gain_role, layer) if placement == si.BOTH else change))

    def attended(self, cross, layer, x, first):
        """The vectors x moved by attention or cross-attention. `first` is the first one's position."""
        site = si.CROSS_INPUT if cross else si.ATTENTION_INPUT
        y = [self.read(v, si.GAIN + cross, layer, site) for v in x]
        if not cross:
            for p, v in enumerate(y):
                self.keep(0, layer, first + p, v)
        n = self.source_length if cross else first + len(x)
        return [self.moved(v, self.attention(cross, layer, first + p, n, y[p]), si.AFTER_GAIN + cross, layer)
                for p, v in enumerate(x)]

    def layer(self, layer, x, first):
        c = self.config
        before, x = x, self.attended(0, layer, x, first)
        if c.cross_attention:
            x = self.attended(si.CROSS, layer, x, first)
        gain, site = (si.GAIN, si.ATTENTION_INPUT) if c.sublayers == si.SIDE_BY_SIDE else (si.FFN_GAIN, si.FFN_INPUT)
        read = x if c.sublayers == si.IN_TURN else before
        y = [self.read(v, gain, layer, site) for v in read]
        return [self.moved(v, self.feed_forward(layer, y[p]), si.FFN_AFTER_GAIN, layer) for p, v in enumerate(x)]

    # Output.

    def row(self, x, is_mean=False):
        """Of one vector: logits, of all output heads, or a vector. A norm is still to come, or none."""
        c, gain = self.config, None if is_mean or not self.config.final_norm else si.FINAL_GAIN

        def at(site):
            return self.quantised(x, site) if gain is None else self.norm(x, gain, 0, site)

        if c.dense:
            x = activated(product(self.tensor(si.DENSE), at(si.DENSE_INPUT)), c.dense_activation)
            gain = si.DENSE_GAIN if c.dense_norm else None
        if c.output == si.LOGITS:
            matrix = self.tensor(si.TOKEN_EMBEDDING if c.tied_unembedding else si.UNEMBEDDING)
            return self.told("logits", product(matrix, at(si.UNEMBEDDING_INPUT)))
        x = x if gain is None else self.normed(x, gain)
        return unit_length(x) if c.unit_length else x

    def outputs(self, x):
        c = self.config
        if c.pooling == si.MEAN:
            return [self.row(mean_of([self.normed(v, si.FINAL_GAIN) for v in x] if c.final_norm else x), True)]
        if c.pooling == si.EVERY:
            return [self.row(v) for v in x]
        if c.n_output_heads == 1:
            return [self.row(x[0] if c.pooling == si.FIRST else x[-1])]
        k, n = c.n_output_heads, c.n_outputs
        return [added([self.row(x[h])[h * n:(h + 1) * n] for h in range(k)]) * (F(1) / to_float(k))]

    def forward(self, inputs, types=None, first=0):
        """The rows of outputs. `first`: the position of the first input, behind those that were taken before."""
        x = self.input(inputs, types, first)
        for v in x:
            self.trace("x", v)
        for layer in range(self.config.n_layers):
            x = self.layer(layer, x, first)
        return self.outputs(x)

    def read_source(self, vectors):
        for layer in range(self.config.n_layers):
            for p, s in enumerate(vectors):
                self.keep(si.CROSS, layer, p, self.quantised(s, si.SOURCE_INPUT))
        self.source_length = len(vectors)


class Model:
    """A stack, or two. `positions` and `source_positions` are how many there can be."""

    def __init__(self, image, positions, source_positions=0, trace=no_trace):
        self.image, self.position = image, 0
        self.source = Stack(image, 0, source_positions) if len(image.stacks) == 2 else None
        self.main = Stack(image, len(image.stacks) - 1, positions, source_positions, trace)

    def set_source(self, inputs, types=None):
        self.main.read_source(self.source.forward(inputs, types))
        self.position = 0

    def step(self, token):
        """The logits behind one more token."""
        self.position += 1
        return self.main.forward([token], None, self.position - 1)[0]

    def encode(self, inputs, types=None):
        return self.main.forward(inputs, types)


def logits_bytes(logits):
    return logits.astype("<f4").tobytes()


def logits_crcs(image, tokens):
    """CRC-32C of the logits' bits at each position."""
    decoder = Model(image, len(tokens))
    return [crc32c(logits_bytes(decoder.step(token))) for token in tokens]


def generate(image, prompt, count):
    """Greedy (the lowest id among equals), whatever the tokens are: they, and the digest of 3.3."""
    decoder, tokens, digest = Model(image, len(prompt) + count), list(prompt), 0
    for token in prompt[:-1]:
        decoder.step(token)
    for _ in range(count):
        logits = decoder.step(tokens[-1])
        if np.isnan(logits).any():
            raise ValueError("a NaN among the logits")
        tokens.append(int(np.argmax(logits)))
        digest = crc32c(struct.pack("<i", tokens[-1]) + logits_bytes(logits), digest)
    return tokens[len(prompt):], digest


def loss(image, tokens):
    """Sum of nats over all tokens behind the first, each given those before it; float64, no part of the spec."""
    decoder, nats = Model(image, len(tokens)), 0.0
    for token, following in zip(tokens, tokens[1:]):
        logits = decoder.step(token).astype(np.float64)
        top = logits.max()
        nats += top + math.log(np.exp(logits - top).sum()) - logits[following]
    return nats


def print_loss(image, path, chunks):
    nats, count = 0.0, 0
    with open(path) as file:
        for n, line in enumerate(file):
            if n == chunks:
                break
            tokens = [int(word) for word in line.replace(",", " ").split()]
            chunk = loss(image, tokens)
            nats, count = nats + chunk, count + len(tokens) - 1
            print(f"{n}: {len(tokens)} tokens, {chunk / (len(tokens) - 1):.6f}, so far {nats / count:.6f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--tokens", default="1", help="token ids with commas between them (default 1)")
    parser.add_argument("--bits", action="store_true", help="print the logits' bits instead of their CRC-32C")
    parser.add_argument("--generate", type=int, metavar="N", help="generate N tokens behind --tokens")
    parser.add_argument("--loss", metavar="FILE", help="nats per token of the sequences in FILE, one on each line")
    parser.add_argument("--chunks", type=int, default=-1, help="with --loss: only so many lines")
    options = parser.parse_args()
    try:
        with open(options.image, "rb") as file:
            image = Image(file.read())
    except BadImage as error:
        sys.exit(f"{options.image}: {error}")
    tokens = [int(word) for word in options.tokens.split(",")]
    if not all(0 <= token < image.config.vocab_size for token in tokens):
        sys.exit("a token id is out of range")
    if options.loss:
        print_loss(image, options.loss, options.chunks)
    elif options.generate is not None:
        generated, digest = generate(image, tokens, options.generate)
        print(",".join(map(str, generated)))
        print(f"digest {digest:08x}")
    elif options.bits:
        decoder = Model(image, len(tokens))
        for position, token in enumerate(tokens):
            print(position, decoder.step(token).view(np.uint32).astype(">u4").tobytes().hex(" ", 4))
    else:
        for position, crc in enumerate(logits_crcs(image, tokens)):
            print(f"{position} {crc:08x}")


if __name__ == "__main__":
    main()
