# SPDX-License-Identifier: Apache-2.0
"""The vectors of SPEC.md's part 3 and the answers of part 6, for spec_vectors.py."""
import os

import numpy as np

import spec_reference
import spec_text
from spec_image import GENERATION, Image, TOKENIZER
from spec_reference import F, Activation
from make_random_image import inputs_of
from vector_text import Wrong, floats, found, given, hexes, lines_of, random_floats, show

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden")

def tiny():
    with open(os.path.join(GOLDEN, "tiny.heed"), "rb") as file:
        image = Image(file.read())
    return spec_text.Tokenizer(image.sections[TOKENIZER], image.config.vocab_size)


def quoted(text):
    return '"' + text.replace("\n", "\\n") + '"'


def section_3_1():
    tokenizer = tiny()

    def of(m):
        """The tokenizer as the module m reads it."""
        if not m:
            return tokenizer
        other = m.Tokenizer.__new__(m.Tokenizer)
        other.__dict__.update(tokenizer.__dict__)
        return other

    def encode(m, text):
        return {"tokens": np.array(of(m).encode(text.strip('"').encode()), np.int64)}

    def decode(m, tokens):
        return {"text": quoted(of(m).decode([int(i) for i in tokens]))}

    def printed(m, prompt, tokens):
        rules = (m or spec_text).Rules(None, tokenizer)
        return {"text": quoted((m or spec_text).printed(of(m), rules, list(prompt), list(tokens)))}

    leftmost = Wrong("the first pair in the text", "if rank != NEVER and (best is None or rank < best[0]):",
                     "if rank != NEVER and best is None:", spec_text)
    highest = Wrong("the highest rank first", "if rank != NEVER and (best is None or rank < best[0]):",
                    "if rank != NEVER and (best is None or rank > best[0]):", spec_text)
    no_space = Wrong("no space in front", "if self.prefix_space and text:", "if False and text:", spec_text)
    empty = Wrong("a space in front of an empty text", "if self.prefix_space and text:", "if self.prefix_space:",
                  spec_text)
    keeps = Wrong("the first space printed", "if self.prefix_space and previous in (None, self.bos) and",
                  "if False and", spec_text)
    named = Wrong("the piece of BOS printed", "prompt[len(rules.first):] + tokens if token != tokenizer.bos]",
                  "prompt[len(rules.first):] + tokens]", spec_text)
    ending = Wrong("the piece of the ending token printed",
                   "        tokens = tokens[:-1]\n"
                   "    return tokenizer.decode([token for token in prompt[len(rules.first):] + tokens "
                   "if token != tokenizer.bos])",
                   "        pass\n"
                   "    return tokenizer.decode([token for token in prompt if token != tokenizer.bos] + tokens)",
                   spec_text)
    return [
        given("encode", {"text": '"banana"'}, encode, leftmost, highest, no_space),
        given("encode", {"text": '"anana"'}, encode, leftmost),
        given("encode", {"text": '"ananan ba"'}, encode, no_space),
        given("encode", {"text": '""'}, encode, empty),
        given("decode", {"tokens": np.array([1, 11, 6, 10])}, decode, keeps),
        given("decode", {"tokens": np.array([11, 3, 11])}, decode, keeps),
        given("printed", {"prompt": np.array([1, 11]), "tokens": np.array([6, 1])}, printed, named, ending),
    ]


def section_3_2():
    def random_numbers(m, seed):
        sampler = (m or spec_text).Sampler(1, 0, 1, int(seed))
        return {"outputs": " ".join(f"{sampler.random():016x}" for _ in range(3))}

    def weights(m, logits, temperature):
        m = m or spec_text
        sampler = m.Sampler(temperature[0], 0, 1, 0)
        return {"weights": sampler.weights(logits, int(np.nanargmax(logits)))}

    def pick(m, logits, temperature, top_k, top_p, seed, picks, suppressed=()):
        sampler = (m or spec_text).Sampler(temperature[0], int(top_k), top_p[0], int(seed))
        return {"tokens": np.array([sampler.pick(logits, suppressed) for _ in range(int(picks))])}

    divided = Wrong("divided by T", "bits(exp_f32((logit - logits[best]) * r)",
                    "bits(exp_f32((logit - logits[best]) / self.temperature)",
                    spec_text)
    scaled_first = Wrong("l * r - l_best * r", "bits(exp_f32((logit - logits[best]) * r)",
                         "bits(exp_f32(logit * r - logits[best] * r)",
                         spec_text)
    more = Wrong("top-p until S exceeds", "while S * 2 ** 24 < P * total:",
                 "while S * 2 ** 24 <= P * total and count < len(order):", spec_text)
    ties = Wrong("of equals the higher id kept", "key=lambda i: (-w[i], i))", "key=lambda i: (-w[i], -i))", spec_text)
    walk = Wrong("walked in the order of weights", "        return sorted(order)", "        return order", spec_text)
    reached = Wrong("the first sum that reaches the threshold", "if reached > threshold:", "if reached >= threshold:",
                    spec_text)
    of_all = Wrong("top-p of all weights", "            S, count = 0, 0\n            while S * 2 ** 24 < P * total:",
                         "            S, count, total = 0, 0, sum(w)\n"
                         "            while count < len(order) and S * 2 ** 24 < P * total:",
                         spec_text)
    infinite = Wrong("the first kept token", "        return best\n\n\n# 3.3", "        return kept[0]\n\n\n# 3.3",
                     spec_text)

    allowed = Wrong("what is suppressed picked", "        logits[list(suppressed)] = np.nan\n", "", spec_text)

    def make_weights(random):
        return {"logits": random_floats(random, 5, 0, 2), "temperature": floats(0.7)}

    def make_pick(temperature, top_k, top_p, picks=6):
        def make(random):
            return {"logits": np.round(random_floats(random, 6, -1, 0) * F(4)) / F(4),
                    "temperature": floats(temperature), "top_k": top_k,
                    "top_p": floats(top_p), "seed": random.integer(0, 99), "picks": picks}
        return make

    flat = {"temperature": floats(1), "top_k": 0, "top_p": floats(0.5), "seed": 4, "picks": 8}
    return [
        given("splitmix64", {"seed": 0}, random_numbers),
        given("splitmix64", {"seed": 2}, random_numbers),
        found("weights", make_weights, weights, [divided, scaled_first]),
        given("weights", {"logits": hexes("00000000", "c1880000", "7fc00000", "ff800000", "bf317218"),
                          "temperature": floats(1)}, weights),
        given("pick", dict({"logits": floats(1, 1, 1, 1)}, **flat), pick, more, ties),
        found("pick", make_pick(1.0, 3, 1.0), pick, [ties, walk]),
        found("pick", make_pick(0.8, 4, 0.75), pick, [of_all, walk]),
        given("pick", {"logits": floats(1, 3, 3, 2), "temperature": floats(0), "top_k": 0, "top_p": floats(1),
                       "seed": 1, "picks": 2}, pick),
        given("pick", {"logits": hexes("3f800000", "7f800000", "7fc00000", "40000000"), "temperature": floats(1),
                       "top_k": 0,
                       "top_p": floats(1), "seed": 1, "picks": 2}, pick, infinite),
        given("pick", {"logits": floats(1, 3, 3, 2), "temperature": floats(0), "top_k": 0, "top_p": floats(1),
                       "seed": 1, "picks": 2, "suppressed": np.array([1, 2])}, pick, allowed),
        given("pick", {"logits": floats(-30, 0), "temperature": floats(1), "top_k": 0, "top_p": floats(1),
                       "seed": zero_draw(), "picks": 1},
              pick, reached),
    ]


def zero_draw():
    """The seed whose first output has 24 zeros on top: the threshold is 0, and the first weight of 0 is not picked."""
    M = 2 ** 64
    z = 1  # the output; SplitMix64 backwards

    def unshift(z, n):
        x = z
        for _ in range(64 // n + 1):
            x = z ^ (x >> n)
        return x

    z = unshift(z, 31) * pow(0x94D049BB133111EB, -1, M) % M
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, M) % M
    return (unshift(z, 30) - 0x9E3779B97F4A7C15) % M


def section_3_3():
    def digest(m, tokens, logits):
        crc = 0
        for i, token in enumerate(tokens):
            row = logits[i * len(logits) // len(tokens):(i + 1) * len(logits) // len(tokens)]
            crc = (m or spec_text).digest_of(int(token), row, crc)
        return {"digest": f"{crc:08x}"}

    behind = Wrong("the id behind its logits", 'crc32c(struct.pack("<i", token) + logits_bytes(logits), before)',
                   'crc32c(logits_bytes(logits) + struct.pack("<i", token), before)', spec_text)
    return [given("digest", {"tokens": np.array([1, 0]), "logits": floats(0.5, 2, -1, 3, 1, -0.0)}, digest, behind)]


def section_3_4():
    def row_digest(m, sequences, rows):
        """`sequences`: how many rows each has."""
        width, crc, at = len(rows) // int(sum(sequences)), 0, 0
        for n in sequences:
            for position in range(int(n)):
                crc = (m or spec_text).digest_of(position, rows[at:at + width], crc)
                at += width
        return {"digest": f"{crc:08x}"}

    right = 'crc32c(struct.pack("<i", token) + logits_bytes(logits), before)'
    alone = Wrong("rows alone", right, "crc32c(logits_bytes(logits), before)", spec_text)
    behind = Wrong("the position behind its row", right, 'crc32c(logits_bytes(logits) + struct.pack("<i", token), before)',
                   spec_text)
    return [given("row_digest", {"sequences": np.array([2, 1]), "rows": floats(0.5, 2, -1, 3, 1, -0.0)}, row_digest,
                  alone, behind)]


# Part 6.

def traced(image, prompt):
    """Every step of 2.0 at the prompt's last position, and x behind the last layer at the positions before."""
    steps, lines = [], []
    decoder = spec_reference.Model(image, len(prompt), trace=lambda name, value: steps.append((name, value)))
    for position, token in enumerate(prompt):
        steps.clear()
        decoder.step(token)
        if position + 1 < len(prompt):
            lines += lines_of(f"x of {position}", show([v for name, v in steps if name == "x"][-1]))
    for name, value in steps:
        if isinstance(value, Activation):
            lines += lines_of(name, f"scale {show(F(value.scale))} q {show(value.q)}")
        elif name == "key":
            lines += lines_of(name, f"m {value[1]} ek {value[2]} q {show(value[0])}")
        elif name == "value":
            lines += lines_of(name, f"ev {value[1]} q {show(value[0])}")
        else:
            lines += lines_of(name, show(value))
    return lines


def golden(name):
    with open(os.path.join(GOLDEN, name), "rb") as file:
        return Image(file.read())


def answer(name, trace, prompt="", temperature=0.0, seed=0, count=256, source=None):
    """source: a text for the first of two stacks, whose tokens take turns in their types."""
    image = golden(name)
    tokenizer = spec_text.Tokenizer(image.sections[TOKENIZER], image.config.vocab_size)
    rules = spec_text.Rules(image.sections.get(GENERATION), tokenizer)
    ids, context = rules.prompt(tokenizer, prompt.encode()), image.config.max_seq
    read = None if source is None else tokenizer.encode(source.encode(), eos=True)

    def model(positions):
        m = spec_reference.Model(image, positions, image.stacks[0].max_seq)
        if read is not None:
            m.set_source(read, [i % image.stacks[0].n_token_types for i in range(len(read))])
        return m

    sampler = spec_text.Sampler(temperature, 0, 1, seed)
    tokens, digest = spec_text.generate(model(context), rules, sampler, ids, count, context)
    lines = ["answer"] + lines_of("image", name)
    if read is not None:
        lines += lines_of("source", quoted(source))
    lines += lines_of("text", quoted(prompt)) + lines_of("temperature", show(F(temperature)))
    lines += lines_of("seed", str(seed)) + lines_of("n", str(count))
    lines += lines_of("-> source_tokens", show(read)) if read is not None else []
    lines += lines_of("-> prompt", show(ids))
    lines += lines_of("-> tokens", show(tokens)) + lines_of("-> digest", f"{digest:08x}")
    decoder = model(len(ids))
    for token in ids:
        logits = decoder.step(token)
    lines += lines_of("-> logits", show(logits))
    return "\n".join(lines + (["", f"The steps of 2.0 at position {len(ids) - 1}, the last of the prompt:",
                               ""] + traced(image, ids)
                              if trace else []))


def section_6_tiny():
    return [answer("tiny.heed", True), answer("tiny.heed", True, "banana", 1.0, 2)]


def section_6_small():
    return [answer("small.heed", False, count=76), answer("small.heed", False, "banana", 1.0, 2, 76)]


def section_6_two():
    return [answer("two.heed", False, "", count=40, source="banana"),
            answer("two.heed", False, "ban", 1.0, 3, 40, "an ana")]


def section_6_frames():
    image, vectors = golden("frames.heed"), []
    for n in (1, 70):
        model = spec_reference.Model(image, n + image.config.n_class_vectors)
        row = model.encode(inputs_of(image.config, n)[0])[0]
        vectors.append("\n".join(["encoded"] + lines_of("image", "frames.heed") + lines_of("frames", str(n)) +
                                 lines_of("-> logits", show(row))))
    return vectors


SECTIONS = {"3.1": section_3_1, "3.2": section_3_2, "3.3": section_3_3, "3.4": section_3_4, "6 tiny": section_6_tiny,
            "6 small": section_6_small, "6 two": section_6_two, "6 frames": section_6_frames}
