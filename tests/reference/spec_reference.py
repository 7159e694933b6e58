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

from spec_image import (ATTENTION_INPUT, DOWN_INPUT, FFN_INPUT, ROTARY, UNEMBEDDING_INPUT, VALUE_UP_INPUT, BadImage, Image,
                        crc32c)

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


def layer_norm(x, gain, bias, epsilon, group):
    n, block = len(x), block_float(x)
    centred = block.s - (2 * int(block.s.sum()) + n) // (2 * n)
    C = int(np.abs(centred).max()) if block.M else 0
    if C == 0:
        return zero_activation(n) if bias is None else scaled(quantise(block_float(bias), group), F(1))
    c, M, L = shifted(centred, C)
    block = Block(c, block.e - L, M)
    factor = norm_factor(quantise(block), epsilon)
    if gain is None and bias is None:
        return scaled(quantise(block, group), factor)
    y = to_float(c) * (power(block.e - 15) * factor)
    if gain is not None:
        y = y * gain
    if bias is not None:
        y = y + bias
    return scaled(quantise(block_float(y), group), F(1))


# 2.5: activations.

RELU, GELU_TANH, GELU_ERF, SILU = range(4)
SHARE = {RELU: lambda a: 1,
         GELU_TANH: lambda a: (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a ** 3))) / 2,
         GELU_ERF: lambda a: (1 + math.erf(a / math.sqrt(2))) / 2,
         SILU: lambda a: 1 / (1 + math.exp(-a))}
FACTOR = {activation: np.array([round(32767 * share(j / 16)) for j in range(257)], np.int64)
          for activation, share in SHARE.items()}


def gated(gate, up, activation, group):
    """up is None without a gate; gate is then what the activation works on."""
    a, b = block_float(gate), None if up is None else block_float(up)
    if a.M == 0 or (b is not None and b.M == 0):
        return zero_activation(len(gate))
    S = FACTOR[activation]
    level = np.abs(a.s)
    level = level << min(a.e - 3, 16) if a.e >= 3 else level >> (3 - a.e)
    level = np.minimum(level, 65535)
    j, part = level >> 8, level & 255
    f = S[j] + (((S[j + 1] - S[j]) * part + 128) >> 8)
    f = np.where(a.s < 0, 32767 - f, f)
    h, e = (a.s * f + 2 ** 14) >> 15, a.e
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


# 2.8: attention.

class Cache:
    """Keys and values of one layer and one key head, one row for each position."""

    def __init__(self, positions, head_dim):
        self.key, self.value = (np.zeros((positions, head_dim), np.int64) for _ in range(2))
        self.m, self.ek, self.ev = (np.zeros(positions, np.int64) for _ in range(3))


def attend_block(query, cache, keys, attention_scale):
    """One query, one block: N, D, V, ref. keys: the slice of visible positions."""
    ek, ev = cache.ek[keys], cache.ev[keys]
    K, V = int(ek.max()), int(ev.max())
    u = ((cache.key[keys] @ query.q) * cache.m[keys]) >> np.minimum(K - ek, 31)
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
    ref = int(np.ceil(best))
    start = int(np.rint((to_float(ref) - best) * F(1024))) + 2 + 1024
    dist = np.minimum((U - u) >> shift, 32767)
    depth = ((dist * mant + 2 ** 14) >> 15) + start
    down = np.minimum(depth >> 10, 31)
    weight = (2 * T[(depth >> 2) & 255] + (1 << (down - 1))) >> down
    folded = weight >> np.minimum(V - ev, 31)
    return folded @ cache.value[keys], int(weight.sum()), V, ref


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


def attend(query, cache, length, attention_scale):
    """One query head over the positions 0 .. length - 1."""
    sums = Sums(cache.value.shape[1])
    for first in range(0, length, 64):
        sums.merge(*attend_block(query, cache, slice(first, min(first + 64, length)), attention_scale))
    return sums.output()


# 2.9: matrix products.

def product(matrix, a):
    acc = matrix.weights @ (a.q << a.p)
    y = to_float(acc) * (matrix.scale * a.scale)
    return y if matrix.bias is None else y + matrix.bias


def embedding(matrix, row):
    return to_float(matrix.weights[row]) * matrix.scale[row]


# 2.0: the decoder.

def no_trace(name, value):
    """What a Decoder tells of every step: a float array, an Activation, a Block, or numbers."""


class Decoder:
    def __init__(self, image, positions, trace=no_trace):
        c = image.config
        self.image, self.config, self.position, self.trace = image, c, 0, trace
        self.epsilon, self.attention_scale = F(c.norm_epsilon), F(c.attention_scale)
        self.phases = image.tensor("rotary_phases").astype(np.int64) if c.position == ROTARY else None
        self.unembedding = image.tensor("token_embedding" if c.tied_unembedding else "unembedding")
        self.caches = [[Cache(positions, c.head_dim) for _ in range(c.n_kv_heads)] for _ in range(c.n_layers)]

    def told(self, name, value):
        self.trace(name, value)
        return value

    def norm(self, x, gain, bias, site):
        c = self.config
        if c.norm == 0:
            activation = rms_norm(x, gain, self.epsilon, c.groups[site])
        else:
            activation = layer_norm(x, gain, bias, self.epsilon, c.groups[site])
        return self.told(f"site {site}", activation)

    def turned(self, block):
        """A head of query or key at this position."""
        if self.phases is None:
            return block
        return rotate(block, self.phases * self.position, self.config.rotary_pairing)

    def store(self, layer, head, key, value):
        """key, value: floats of one head."""
        block = block_float(key)
        was_zero = block.M == 0
        block = self.turned(block)
        offset = self.image.tensor("key_offset", layer)
        if offset:
            block = subtract_offset(block, was_zero, offset[0][head], int(offset[1][head]))
        cache, p = self.caches[layer][head], self.position
        cache.key[p], cache.m[p], cache.ek[p] = self.told("key", make_key(normalise(block)))
        cache.value[p], cache.ev[p] = self.told("value", make_value(block_float(value)))

    def attention(self, layer, y):
        c, tensor = self.config, self.image.tensor
        query, key, value = (product(tensor(role, layer), y).reshape(-1, c.head_dim) for role in
                             ("w_query", "w_key", "w_value_down"))
        for head in range(c.n_kv_heads):
            self.store(layer, head, key[head], value[head])
        outputs = []
        for head in range(c.n_heads):
            activation = self.told("query", quantise(normalise(self.turned(block_float(query[head])))))
            cache = self.caches[layer][head // (c.n_heads // c.n_kv_heads)]
            outputs.append(attend(activation, cache, self.position + 1, self.attention_scale))
        return self.told("heads", np.concatenate(outputs))

    def step(self, token):
        """The logits behind one more token."""
        c, tensor = self.config, self.image.tensor
        x = embedding(tensor("token_embedding"), token)
        if c.position_table:
            x = x + embedding(tensor("position_embedding"), self.position)
        self.trace("x", x)
        for n in range(c.n_layers):
            heads = self.attention(n, self.norm(x, tensor("attention_gain", n), tensor("attention_norm_bias", n), ATTENTION_INPUT))
            side_by_side = self.told("site 1", quantise(block_float(heads), c.groups[VALUE_UP_INPUT]))
            x = self.told("x", x + product(tensor("w_value_up", n), side_by_side))
            y = self.norm(x, tensor("ffn_gain", n), tensor("ffn_norm_bias", n), FFN_INPUT)
            gate, up = product(tensor("w_up", n), y), None
            if c.gated:
                gate, up = product(tensor("w_gate", n), y), gate
            h = self.told("site 3", gated(gate, up, c.activation, c.groups[DOWN_INPUT]))
            x = self.told("x", x + product(tensor("w_down", n), h))
        self.position += 1
        return self.told("logits", product(self.unembedding, self.norm(x, tensor("final_gain"), tensor("final_norm_bias"), UNEMBEDDING_INPUT)))


def logits_bytes(logits):
    return logits.astype("<f4").tobytes()


def logits_crcs(image, tokens):
    """CRC-32C of the logits' bits at each position."""
    decoder = Decoder(image, len(tokens))
    return [crc32c(logits_bytes(decoder.step(token))) for token in tokens]


def generate(image, prompt, count):
    """Greedy (the lowest id among equals), whatever the tokens are: they, and the digest of 3.3."""
    decoder, tokens, digest = Decoder(image, len(prompt) + count), list(prompt), 0
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
    decoder, nats = Decoder(image, len(tokens)), 0.0
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
        decoder = Decoder(image, len(tokens))
        for position, token in enumerate(tokens):
            print(position, decoder.step(token).view(np.uint32).astype(">u4").tobytes().hex(" ", 4))
    else:
        for position, crc in enumerate(logits_crcs(image, tokens)):
            print(f"{position} {crc:08x}")


if __name__ == "__main__":
    main()
