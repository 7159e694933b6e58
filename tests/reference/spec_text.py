#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer, the sampler and generation as SPEC.md 2.10 and part 3 say, written from its text alone, in Python.

    spec_text.py IMAGE -p "some text" -n 20 --temp 0.8 --seed 1     prompt, tokens, text and digest
"""
import argparse
import struct
import sys

import numpy as np

from spec_image import GENERATION, BadImage, Image, TOKENIZER, check, crc32c
from spec_reference import F, Model, logits_bytes

NEVER = -1


# 3.1: tokenizer section.

class Tokenizer:
    def __init__(self, data, vocab_size):
        check(len(data) >= 64, "K1: size")
        kind, flags, n, m, b, self.bos, self.eos, first, c = struct.unpack_from("<5I2i2I", data)
        check(kind == 1, "K2: kind")
        check(flags < 2 and not any(data[36:64]), "K3: flags and reserved bytes")
        check(n == vocab_size and 1 <= n < 2 ** 24, "K4: vocab_size")
        check(m <= n, "K5: sorted_count")
        wide_offset, wide_id, at = b > 65535, n > 65535, 64
        tables = []
        for count, wide in ((n + 1, wide_offset), (m, wide_id), (m, wide_id)):
            width = 4 if wide else 2
            check(len(data) >= at + count * width, "K6: size")
            tables.append([int.from_bytes(data[i:i + width], "little") for i in range(at, at + count * width, width)])
            at += count * width
            check(not any(data[at:at + -at % 4]), "K9: padding")
            at += -at % 4
        check(len(data) == at + b, "K6: size")
        offsets, self.sorted, ranks = tables
        check(all(-1 <= t < n for t in (self.bos, self.eos)), "K7: bos and eos")
        check(c <= 256 and first + c <= n and (c or not first), "K8: byte tokens")
        check(not {self.bos, self.eos} & set(range(first, first + c)), "K8: bos or eos is a byte token")
        check(offsets[0] == 0 and offsets[-1] == b and all(0 <= y - x <= 255 for x, y in zip(offsets, offsets[1:])),
              "K10: offsets")
        self.prefix_space, self.first, self.bytes = flags & 1, first, c
        self.pieces = [data[at + x:at + y] for x, y in zip(offsets, offsets[1:])]
        check(all(self.pieces[first + x] == bytes([x]) for x in range(c)), "K11: pieces of byte tokens")
        check(all(t < n and t not in (self.bos, self.eos) and not first <= t < first + c for t in self.sorted),
              "K12: sorted")
        made = [self.pieces[t] for t in self.sorted]
        check(all(made) and all(x < y for x, y in zip(made, made[1:])), "K12: order of pieces")
        never = 2 ** (32 if wide_id else 16) - 1
        self.token = dict(zip(made, self.sorted))
        self.rank = {piece: NEVER if rank == never else rank for piece, rank in zip(made, ranks)}

    def is_byte(self, token):
        return self.first <= token < self.first + self.bytes

    def encode(self, text, bos=True, eos=False):
        characters = []
        for x in text:
            if characters and 0x80 <= x < 0xC0 and len(characters[-1]) < 4:
                characters[-1] += bytes([x])
            else:
                characters.append(bytes([x]))
        if self.prefix_space and text:
            characters.insert(0, b" ")
        tokens = []
        for character in characters:
            if character in self.token:
                tokens.append(self.token[character])
                continue
            if any(x >= self.bytes for x in character):
                raise ValueError("text_not_expressible")
            tokens += [self.first + x for x in character]
        while True:
            best = None
            for i in range(len(tokens) - 1):
                if self.is_byte(tokens[i]) or self.is_byte(tokens[i + 1]):
                    continue
                rank = self.rank.get(self.pieces[tokens[i]] + self.pieces[tokens[i + 1]], NEVER)
                if rank != NEVER and (best is None or rank < best[0]):
                    best = rank, i
            if best is None:
                break
            i = best[1]
            tokens[i:i + 2] = [self.token[self.pieces[tokens[i]] + self.pieces[tokens[i + 1]]]]
        return ([self.bos] if bos and self.bos >= 0 else []) + tokens + ([self.eos] if eos and self.eos >= 0 else [])

    def decode(self, tokens):
        text, previous = b"", None
        for token in tokens:
            piece = self.pieces[token]
            if self.prefix_space and previous in (None, self.bos) and piece[:1] == b" ":
                piece = piece[1:]
            text, previous = text + piece, token
        return text.decode("utf-8", "replace")


# 2.10 and 3.2: the sampler.

def bits(x):
    return int(np.asarray(x, F).view(np.uint32))


def from_bits(u):
    return np.uint32(u & 0xFFFFFFFF).view(F)


def exp_f32(x):
    x = x if x > F(-87) else F(-87)
    x = x if x < F(88) else F(88)
    t = x * F(1.44269504)
    t = t + F(12582912)
    whole = t - F(12582912)
    rest = x - whole * F(0.693359375)
    rest = rest - whole * F(-2.12194440e-4)
    y = F(0.008312501013278961)
    for constant in (0.041890330612659454, 0.16667115688323975, 0.499992311000824):
        y = y * rest + F(constant)
    z = rest * rest
    y = y * z
    y = y + rest
    y = y + F(1)
    return from_bits(bits(y) + (bits(t) << 23))


class Sampler:
    def __init__(self, temperature, top_k, top_p, seed):
        self.temperature, self.top_k, self.top_p, self.state = F(temperature), top_k, F(top_p), seed
        if not 0 <= self.temperature <= 100 or np.isnan(self.top_p):
            raise ValueError("bad_argument")
        if self.temperature < F(2.0 ** -20):
            self.temperature = F(0)

    def random(self):
        """SplitMix64."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2 ** 64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2 ** 64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2 ** 64
        return z ^ (z >> 31)

    def weights(self, logits, best):
        r = F(1) / self.temperature
        return [bits(exp_f32((logit - logits[best]) * r) * F(4194304) + F(8388608)) & 0x7FFFFF for logit in logits]

    def kept(self, w):
        """The ids that may be picked."""
        order = sorted(range(len(w)), key=lambda i: (-w[i], i))
        if self.top_k:
            order = order[:self.top_k]
        if 0 < self.top_p < 1:
            P, total = max(1, int(self.top_p * F(2 ** 24))), sum(w[i] for i in order)
            S, count = 0, 0
            while S * 2 ** 24 < P * total:
                S += w[order[count]]
                count += 1
            order = order[:count]
        return sorted(order)

    def pick(self, logits, suppressed=()):
        logits = np.array(logits, F)
        logits[list(suppressed)] = np.nan
        known = [i for i in range(len(logits)) if not np.isnan(logits[i])]
        if not known:
            raise ValueError("bad_argument")
        best = max(known, key=lambda i: (logits[i], -i))
        if self.temperature == 0:
            return best
        w = self.weights(logits, best)
        kept = self.kept(w)
        threshold = (self.random() >> 40) * sum(w[i] for i in kept) // 2 ** 24
        reached = 0
        for i in kept:
            reached += w[i]
            if reached > threshold:
                return i
        return best


# 3.3: generation.

def digest_of(token, logits, before=0):
    if np.isnan(logits).any():
        raise ValueError("a NaN among the logits")
    return crc32c(struct.pack("<i", token) + logits_bytes(logits), before)


class Rules:
    """What a text begins with, which tokens are never picked, and which end it: of the section `generation`, or None."""

    def __init__(self, section, tokenizer):
        counts = struct.unpack_from("<3I", section) if section else (0, 0, 0)
        lists, at = [], 12
        for n in counts:
            lists.append(list(struct.unpack_from(f"<{n}i", section or b"", at) if n else ()))
            at += 4 * n
        self.first, self.suppressed, self.endings = lists
        self.endings = self.endings or [token for token in (tokenizer.eos, tokenizer.bos) if token >= 0]

    def prompt(self, tokenizer, text):
        return self.first + tokenizer.encode(text, bos=not self.first)


def generate(decoder, rules, sampler, prompt, count, context, ignore_eos=False):
    """The generated tokens and their digest. decoder: of `context` positions, none of them used."""
    if not 0 < len(prompt) <= context:
        raise ValueError("the prompt has no token, or too many")
    for token in prompt:
        logits = decoder.step(token)
    tokens, digest = [], 0
    while len(tokens) < count:
        tokens.append(sampler.pick(logits, rules.suppressed))
        digest = digest_of(tokens[-1], logits, digest)
        if tokens[-1] in rules.endings and not ignore_eos:
            break
        if len(tokens) == count or decoder.position == context:
            break
        logits = decoder.step(tokens[-1])
    return tokens, digest


def printed(tokenizer, rules, prompt, tokens):
    """Without the pieces of BOS, of the first tokens in front, and of the token that ends the text."""
    if tokens and tokens[-1] in rules.endings:
        tokens = tokens[:-1]
    return tokenizer.decode([token for token in prompt[len(rules.first):] + tokens if token != tokenizer.bos])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("-p", "--prompt", default="")
    parser.add_argument("-n", "--tokens", type=int, default=256)
    parser.add_argument("--temp", type=float, default=0)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--top-p", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ignore-eos", action="store_true")
    options = parser.parse_args()
    try:
        with open(options.image, "rb") as file:
            image = Image(file.read())
        tokenizer = Tokenizer(image.sections.get(TOKENIZER, b""), image.config.vocab_size)
    except BadImage as error:
        sys.exit(f"{options.image}: {error}")
    rules = Rules(image.sections.get(GENERATION), tokenizer)
    prompt, context = rules.prompt(tokenizer, options.prompt.encode()), image.config.max_seq
    sampler = Sampler(options.temp, options.top_k, options.top_p, options.seed)
    tokens, digest = generate(Model(image, context), rules, sampler, prompt, options.tokens, context,
                              options.ignore_eos)
    print("prompt", *prompt)
    print("tokens", *tokens)
    print("text  ", printed(tokenizer, rules, prompt, tokens))
    print(f"digest {digest:08x}")


if __name__ == "__main__":
    main()
