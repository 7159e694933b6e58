#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer sections with a rules block as SPEC.md 3.1 says, written from its text alone, in Python: no machine for words but
regular expressions, no streaming, whole texts in memory.

    spec_tokenizer.py TOKENIZER_CASES      # runs the program, which prints sections and what the runtime makes of texts
"""
import bisect
import re
import struct
import subprocess
import sys
import unicodedata

HANGUL, LEAD, VOWEL, TAIL = 0xAC00, 0x1100, 0x1161, 0x11A7
WORDS = {
    1: "'s|'t|'re|'ve|'m|'ll|'d| ?{L}+| ?{N}+| ?{o}+|{s}+(?!{S})|{s}+",
    2: "'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|{x}?{L}+|{N}{{1,3}}| ?{o}+[\r\n]*|{s}*[\r\n]+|{s}+(?!{S})|{s}+",
    3: "'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|{x}?{L}+|{N}| ?{o}+[\r\n]*|{s}*[\r\n]+|{s}+(?!{S})|{s}+",
}


def characters(data):
    """Code points, and 0x110000 + b for a byte that belongs to no character."""
    out, at = [], 0
    while at < len(data):
        for size in (1, 2, 3, 4):
            try:
                out.append(ord(data[at:at + size].decode("utf-8")))
                at += size
                break
            except (UnicodeDecodeError, TypeError):
                continue
        else:
            out.append(0x110000 + data[at])
            at += 1
    return out


def encoded(code):
    return bytes([code - 0x110000]) if code >= 0x110000 else chr(code).encode()


class NotExpressible(ValueError):
    pass


class Tokenizer:
    def __init__(self, data):
        self.kind, flags, n, m, b, self.bos, self.eos, self.first, self.c = struct.unpack_from("<5I2i2I", data)
        wide = n > 65535
        at, tables = 64, []
        wide_rank = wide or bool(flags & 4) or self.kind == 3
        for count, is_wide in ((n + 1, b > 65535), (m, wide), (m if self.kind != 4 else 0, wide_rank)):
            width = 4 if is_wide else 2
            tables.append([int.from_bytes(data[i:i + width], "little") for i in range(at, at + count * width, width)])
            at += -(-count * width // 4) * 4
        offsets, ids, ranks = tables
        self.pieces = [data[at + x:at + y] for x, y in zip(offsets, offsets[1:])]
        self.prefix = flags & 1
        at += b
        at += -at % 4
        (self.flags, self.unk, self.split, self.growth, *counts, n_added, n_more, n_ranges, n_units, value_bytes,
         n_compositions) = struct.unpack_from("<Ii11I", data, at)
        at += 64
        words = lambda count: struct.unpack_from(f"<{count}I", data, at)
        around = words(sum(counts))
        at += 4 * sum(counts)
        if self.flags & 32:
            self.around = [around[:counts[0]], around[counts[0]:counts[0] + counts[1]], around[counts[0] + counts[1]:]]
        else:
            bos, eos = [[t] if t >= 0 else [] for t in (self.bos, self.eos)]
            self.around = [bos, eos, eos]
        added = words(n_added)
        at += 4 * n_added
        text_of = lambda t: self.pieces[t][1:] if self.kind == 4 and self.pieces[t][:1] == b" " else self.pieces[t]
        self.added = [(text_of(a & 0xFFFFFF), a & 0xFFFFFF, a >> 24) for a in added]
        more = words(2 * n_more)
        at += 8 * n_more
        self.ranges = words(n_ranges)
        at += 4 * n_ranges
        self.starts = [r & 0x1FFFFF for r in self.ranges]
        self.units = words(n_units)
        at += 4 * n_units
        triples = words(3 * n_compositions)
        at += 12 * n_compositions
        self.compositions = {(a, b): c for a, b, c in zip(*[iter(triples)] * 3)}
        self.values = data[at:at + value_bytes]
        at += value_bytes
        made = [self.pieces[t] for t in ids]
        self.token = dict(zip(made, ids))
        never = 2 ** (32 if wide_rank else 16) - 1
        self.rank, self.score = {}, {}
        if self.kind == 3:
            self.score = {p: struct.unpack("<f", struct.pack("<I", r))[0] for p, r in zip(made, ranks)}
        elif self.kind == 2:
            left = data[at:at + m]
            at += m
            for i, (p, r, size) in enumerate(zip(made, ranks, left)):
                if size == 255:
                    for key, rank in zip(more[::2], more[1::2]):
                        if key & 0xFFFFFF == i:
                            self.rank[p, key >> 24] = rank
                elif r != never:
                    for s in range(1, len(p)) if size == 0 else [size]:
                        self.rank[p, s] = r
        elif self.kind == 1:
            for p, r in zip(made, ranks):
                if r != never:
                    for s in range(1, len(p)):
                        self.rank[p, s] = r
        assert at == len(data)

    # Characters.

    def properties(self, code):
        if code >= 0x110000 or not self.ranges:
            return 0, 0
        r = self.ranges[bisect.bisect_right(self.starts, code) - 1]
        return r >> 21 & 3, r >> 24

    def is_space(self, code):
        return self.properties(code)[0] == 3 if self.ranges else code in (9, 10, 11, 12, 13, 32)

    def is_word(self, code):
        if code < 128:
            return chr(code).isalnum() or code == 95
        if self.kind == 2 and self.ranges:
            return self.properties(code)[0] in (1, 2)
        return code < 0x110000

    def longest(self, data):
        """The longest key that data begins with, and its value."""
        found, node = (0, b""), 0
        if not self.units:
            return found
        value = lambda at: self.values[at + 1:at + 1 + self.values[at]]
        for i, byte in enumerate(data):
            edges = [u for u in self.units[node + 1:node + 1 + (self.units[node] >> 1 & 255)] if u >> 1 & 255 == byte]
            if not edges:
                return found
            if edges[0] & 0x200:
                return i + 1, value(edges[0] >> 10)
            node = edges[0] >> 10
            if self.units[node] >> 9:
                found = i + 1, value((self.units[node] >> 9) - 1)
        return found

    def mapped(self, code, hangul):
        if hangul and HANGUL <= code < HANGUL + 11172:
            i = code - HANGUL
            return [LEAD + i // 588, VOWEL + i // 28 % 21] + ([TAIL + i % 28] if i % 28 else [])
        own = encoded(code)
        size, value = self.longest(own)
        return characters(value) if size == len(own) else [code]

    def compose(self, a, b):
        if LEAD <= a < LEAD + 19 and VOWEL <= b < VOWEL + 21:
            return HANGUL + ((a - LEAD) * 21 + b - VOWEL) * 28
        if HANGUL <= a < HANGUL + 11172 and (a - HANGUL) % 28 == 0 and TAIL < b < TAIL + 28:
            return a + b - TAIL
        return self.compositions.get((a, b))

    def nfc(self, codes):
        codes = [d for code in codes for d in self.mapped(code, True)]
        kind = [self.properties(code)[1] for code in codes]
        begin = 0
        while begin < len(codes):
            end = begin + 1
            while end < len(codes) and kind[begin] and kind[end]:
                end += 1
            order = sorted(range(begin, end), key=lambda i: kind[i])
            codes[begin:end], kind[begin:end] = [codes[i] for i in order], [kind[i] for i in order]
            begin = end
        out, base, last = [], None, 0
        for code, k in zip(codes, kind):
            both = None
            if base is not None and (last < k or (last == 0 and base == len(out) - 1)):
                both = self.compose(out[base], code)
            if both:
                out[base] = both
                continue
            out.append(code)
            if k == 0:
                base, last = len(out) - 1, 0
            else:
                last = k
        return out

    # The kinds.

    def normalised(self, data, begins, ends):
        """Of kinds 1 and 3: a list of characters as bytes; and of each the place that it comes from."""
        collapse, out, at = self.flags & 1, [], 0
        spaces, after_space = [(b" ", 0)] if begins and self.prefix else [], bool(begins and collapse)
        while at < len(data):
            size, value = self.longest(data[at:])
            if size == 0:
                code = characters(data[at:at + 4])[0]
                size = len(encoded(code))
                value = "�".encode() if code >= 0x110000 and self.kind == 3 else encoded(code)
            for code in characters(value):
                if code == 32:
                    if not after_space:
                        spaces.append((b" ", at))
                    after_space = bool(collapse)
                    continue
                after_space = False
                if code == 0x2581 and self.flags & 2:
                    spaces.append((b" ", at))
                    continue
                if code >= 0x110000 and self.kind == 3:
                    code = 0xFFFD
                out += [(b" ", at) for _ in spaces] + [(encoded(code), at)]
                spaces = []
            last = at
            at += size
        return out if collapse and ends else out + [(b" ", last) for _ in spaces]

    def merge(self, tokens):
        while True:
            best = None
            for i, (a, b) in enumerate(zip(tokens, tokens[1:])):
                if any(t == self.unk or self.first <= t < self.first + self.c for t in (a, b)):
                    continue
                rank = self.rank.get((self.pieces[a] + self.pieces[b], len(self.pieces[a])))
                if rank is not None and (best is None or rank < best[0]):
                    best = rank, i
            if best is None:
                return tokens
            i = best[1]
            tokens[i:i + 2] = [self.token[self.pieces[tokens[i]] + self.pieces[tokens[i + 1]]]]

    def or_bytes(self, character, at):
        if all(x < self.c for x in character):
            return [self.first + x for x in character]
        if self.unk < 0:
            raise NotExpressible(at)
        return [self.unk]

    def merges(self, data, begins, ends):
        tokens = []
        for character, at in self.normalised(data, begins, ends):
            tokens += [self.token[character]] if character in self.token else self.or_bytes(character, at)
        return self.fused(self.merge(tokens))

    def fused(self, tokens):
        return [t for i, t in enumerate(tokens) if t != self.unk or i == 0 or tokens[i - 1] != t]

    def unigram(self, data, begins, ends):
        text = self.normalised(data, begins, ends)
        as_f32 = lambda x: struct.unpack("<f", struct.pack("<f", x))[0]
        unknown = as_f32(min(self.score.values(), default=0.0) - 10.0)
        best = [(0.0, None, 0)] + [None] * len(text)
        for p in range(len(text)):
            ways, known = [], False
            for q in range(p + 1, len(text) + 1):
                piece = b"".join(c for c, _ in text[p:q])
                if piece in self.score:
                    ways.append((q, self.score[piece], self.token[piece]))
                    known = known or q == p + 1
            if not known:
                ways.append((p + 1, unknown, None))
            for q, score, token in ways:
                s = best[p][0] + score
                if best[q] is None or s > best[q][0]:
                    best[q] = as_f32(s), token, p
        tokens, q = [], len(text)
        while q:
            _, token, p = best[q]
            tokens[:0] = [token] if token is not None else self.or_bytes(text[p][0], 0)
            q = p
        return self.fused(tokens)

    def words(self, text):
        if self.split == 0:
            return [text] if text else []
        classes = {"L": "", "N": "", "o": "", "s": ""}
        for c in set(text):
            classes["oLNs"[self.properties(self.code(c))[0]]] += c
        one = lambda chars: "[" + re.escape(chars) + "]" if chars else "(?!)"
        names = {k: one(v) for k, v in classes.items()}
        names["S"] = one(classes["L"] + classes["N"] + classes["o"])
        names["x"] = one((classes["s"] + classes["o"]).replace("\r", "").replace("\n", ""))
        if self.split in WORDS:
            return re.findall(WORDS[self.split].format(**names), text)
        if self.split == 4:
            out = []
            for part in re.findall("{N}|(?:(?!{N})[\\s\\S])+".format(**names), text):
                out += [part] if part in classes["N"] else re.findall(WORDS[1].format(**names), part)
            return out
        x = one("".join(c for c in classes["L"] + classes["N"] + classes["o"] if c not in "(|).,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C"))
        return re.findall(f" ?{x}+|(?:(?! ?{x})[\\s\\S])+", text)

    # Bytes that are no character's as characters that no text has.
    @staticmethod
    def letter(code):
        return chr(0xF0000 + code - 0x110000) if code >= 0x110000 else chr(code)

    @staticmethod
    def code(letter):
        return ord(letter) + 0x110000 - 0xF0000 if 0xF0000 <= ord(letter) < 0xF0100 else ord(letter)

    def byte_pairs(self, data, begins, ends):
        if begins and self.prefix and data[:1] != b" ":
            data = b" " + data
        codes = characters(data)
        if self.flags & 8:
            codes = self.nfc(codes)
        out = []
        for word in self.words("".join(map(self.letter, codes))):
            raw = b"".join(encoded(self.code(c)) for c in word)
            if self.flags & 4 and raw in self.token:
                out.append(self.token[raw])
                continue
            tokens = []
            for x in raw:
                if bytes([x]) in self.token:
                    tokens.append(self.token[bytes([x])])
                elif self.unk >= 0:
                    tokens.append(self.unk)
                else:
                    raise NotExpressible(0)
            out += self.merge(tokens)
        return self.fused(out)

    def word_pieces(self, data, begins, ends):
        words = [[]]
        for code in characters(data):
            if code >= 0x110000 or self.properties(code)[0] == 1:
                continue
            for c in self.mapped(code, self.flags & 128):
                kind = self.properties(c)[0]
                words += [[]] if kind == 3 else [[c], []] if kind == 2 else []
                if kind in (0, 1):
                    words[-1].append(c)
        out = []
        for word in filter(None, words):
            tokens, at = [], 0
            while at < len(word) and len(word) <= 100:
                for end in range(len(word), at, -1):
                    piece = (b"" if at else b" ") + b"".join(map(encoded, word[at:end]))
                    if piece in self.token:
                        tokens.append(self.token[piece])
                        at = end
                        break
                else:
                    break
            out += tokens if at == len(word) else [self.unk]
        return out

    def split_added(self, data, special):
        """(begin, end, token, bits) of the next added token."""
        for begin in range(len(data)):
            for text, token, bits in sorted(self.added, key=lambda a: -len(a[0])):
                if not data.startswith(text, begin) or (bits & 1 and not special):
                    continue
                end = begin + len(text)
                if bits & 8:
                    before, behind = characters(data[:begin])[-1:], characters(data[end:end + 4])[:1]
                    if any(map(self.is_word, before + behind)):
                        continue
                while bits & 2 and begin:
                    code = characters(data[:begin])[-1]
                    if not self.is_space(code):
                        break
                    begin -= len(encoded(code))
                while bits & 4 and end < len(data):
                    code = characters(data[end:end + 4])[0]
                    if not self.is_space(code):
                        break
                    end += len(encoded(code))
                return begin, end, token, bits
        return None

    def text(self, data, special):
        of_kind = {1: self.merges, 2: self.byte_pairs, 3: self.unigram, 4: self.word_pieces}[self.kind]
        out, begins, offset = [], True, 0
        while True:
            found = self.split_added(data, special)
            fresh = bool(found and found[3] & 1 and self.flags & 64)
            stretch = data[:found[0]] if found else data
            if stretch:
                try:
                    out += of_kind(stretch, begins, not found or fresh)
                except NotExpressible as at:
                    raise NotExpressible(at.args[0] + offset)
            if not found:
                return out
            out.append(found[2])
            data, begins, offset = data[found[1]:], fresh, offset + found[1]

    def encode(self, data, bos, eos, special):
        return (list(self.around[0]) if bos else []) + self.text(data, special) + (list(self.around[2]) if eos else [])

    def encode_pair(self, a, b):
        first = list(self.around[0]) + self.text(a, False) + list(self.around[1])
        return first + self.text(b, False) + list(self.around[2]), len(first)


def main():
    lines = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    tokenizer, failed, done, kinds = None, 0, 0, set()
    for line in lines:
        what, *words = line.split(" ")
        if what == "section":
            tokenizer = Tokenizer(bytes.fromhex(words[0]))
            kinds.add(tokenizer.kind)
            continue
        done += 1
        if what == "encode":
            data, options, wanted = bytes.fromhex(words[0]), int(words[1]), words[2:]
            try:
                ours = [str(t) for t in tokenizer.encode(data, options & 1, options & 2, options & 4)]
            except NotExpressible as at:
                ours = ["refused", str(at)]
        elif what == "pair":
            tokens, n_first = tokenizer.encode_pair(bytes.fromhex(words[0]), bytes.fromhex(words[1]))
            ours, wanted = [str(x) for x in [n_first] + tokens], words[2:]
        elif what == "nfc":  # tokens of a vocabulary of single bytes
            text, ours = bytes.fromhex(words[0]).decode(), []
            ours = [str(x) for x in unicodedata.normalize("NFC", text).encode()]
            wanted = words[1:]
        if ours != wanted:
            failed += 1
            if failed <= 5:
                print(f"FAILED: {line[:300]}\n  SPEC.md says {' '.join(ours)[:300]}")
    print(f"{done} texts, kinds {sorted(kinds)}, {failed} failed")
    return failed or not done


if __name__ == "__main__":
    sys.exit(main())
