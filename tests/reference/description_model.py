#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs any model of a description (SPEC.md, part 7) in numpy and float64: what heed's numbers are held against.

    description_model.py MODEL.json WEIGHTS.safetensors INPUTS.json    compares its outputs with those that INPUTS.json
                                                                       expects, and fails beyond 1e-5 of the largest

Written from the papers and from the conventions of PyTorch, not from heed's code, and for the eye, not for speed: every
sequence is computed as a whole, attention is one softmax of a matrix with minus infinity where a mask hides a key.

  Vaswani and others 2017, "Attention Is All You Need": the two stacks, cross-attention, norms behind, sinusoids
  Xiong and others 2020, "On Layer Normalization in the Transformer Architecture": norms before
  Wang and Komatsuzaki 2021, "GPT-J-6B", and Black and others 2022, "GPT-NeoX-20B": sublayers side by side
  Zhang and Sennrich 2019, "Root Mean Square Layer Normalization"; Henry and others 2020, "Query-Key Normalization"
  Shazeer 2019, "Fast Transformer Decoding": fewer key and value heads; Shazeer 2020, "GLU Variants Improve Transformer"
  Su and others 2021, "RoFormer"; Chen 2023, bloc97 2023, Peng 2023 and Llama 3.1 for its scalings: rotary
  Press and others 2021, "Train Short, Test Long": ALiBi; Raffel and others 2019 (T5): relative buckets
  Beltagy and others 2020, "Longformer": windows; Radford and others 2022, "Whisper": the convolutions
  Elhage and others 2021, "A Mathematical Framework for Transformer Circuits": the undivided value map
"""
import json
import math
import os
import sys

import numpy as np

import safetensors_file

LIMIT = 1e-5
NUMBERS = {"embedding_scale": 1.0, "n_token_types": 0, "n_class_vectors": 0, "window": 0, "global_every": 0,
           "global_first": 0, "norm_epsilon": 1e-5, "position_offset": 0, "n_output_heads": 1, "second_convolution": False,
           "input_norm": False, "gain_plus_one": False, "final_norm": True, "gated": False, "dense": False,
           "dense_norm": False, "tied_unembedding": False, "unit_length": False}
CHOICES = {"input": "tokens", "norm": "rms", "norm_placement": "before", "sublayers": "in_turn", "query_key_norm": "none",
           "value_map": "factors", "position": "none", "rotary_pairing": "adjacent", "position_table": False,
           "pooling": "every", "dense_activation": "none"}


# -- Functions of one number ------------------------------------------------------------------------------------------

def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


error_function = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu_erf": lambda x: 0.5 * x * (1.0 + error_function(x / math.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x ** 3))),
    "gelu_quick": lambda x: x * sigmoid(1.702 * x),
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
    "none": lambda x: x,
}


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# -- Positions --------------------------------------------------------------------------------------------------------

def rotary_frequencies(rope, dims):
    """Radians per position of each of the dims / 2 pairs, and the factor of cosines and sines (YaRN's)."""
    theta = float(rope.get("theta", 10000.0))
    scaling = rope.get("scaling") or {"type": "none"}
    kind, s = scaling["type"], float(scaling.get("factor", 1.0))
    if kind == "ntk":
        theta *= s ** (dims / (dims - 2))
    frequencies = [theta ** (-2 * i / dims) for i in range(dims // 2)]
    factor = 1.0
    if kind == "linear":
        frequencies = [f / s for f in frequencies]
    elif kind == "yarn":
        length = scaling["original_max_seq"]

        def pair_that_turns(times):  # which pair makes so many turns within the original length
            return dims * math.log(length / (times * 2 * math.pi)) / (2 * math.log(theta))

        low = max(math.floor(pair_that_turns(scaling.get("beta_fast", 32))), 0)
        high = min(math.ceil(pair_that_turns(scaling.get("beta_slow", 1))), dims - 1)
        high = low + 0.001 if high == low else high
        ramp = [min(max((i - low) / (high - low), 0.0), 1.0) for i in range(dims // 2)]
        frequencies = [(1 - r) * f + r * f / s for f, r in zip(frequencies, ramp)]
        factor = scaling.get("attention_factor", 0.1 * math.log(s) + 1.0)
    elif kind == "llama3":
        length, a, b = scaling["original_max_seq"], scaling["low_freq_factor"], scaling["high_freq_factor"]
        scaled = []
        for f in frequencies:
            wavelength = 2 * math.pi / f
            smooth = min(max((length / wavelength - a) / (b - a), 0.0), 1.0)
            scaled.append((1 - smooth) * f / s + smooth * f)
        frequencies = scaled
    elif kind not in ("none", "ntk"):
        raise ValueError(f"rope scaling {kind!r}")
    return np.array(frequencies), factor


def rotate(heads, rope, dims, pairing):
    """heads [n, heads, head_dim]: the first `dims` dimensions turned by the position; position 0 is the first row."""
    frequencies, factor = rotary_frequencies(rope, dims)
    angles = np.arange(len(heads))[:, None] * frequencies
    cosines, sines = factor * np.cos(angles)[:, None, :], factor * np.sin(angles)[:, None, :]
    half = dims // 2
    first, second = (slice(0, half), slice(half, dims)) if pairing == "halves" else (slice(0, dims, 2), slice(1, dims, 2))
    a, b = heads[..., first], heads[..., second]
    turned = heads.copy()
    turned[..., first] = a * cosines - b * sines
    turned[..., second] = a * sines + b * cosines
    return turned


def alibi_slopes(n_heads):
    """The geometric sequence of the paper; between powers of two every other slope of the next one is appended."""
    power = 1 << (n_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-8.0 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return np.array(slopes + between[:n_heads - power])


def relative_bucket(behind, buckets, max_distance, two_way):
    """T5's bucket of a key that lies `behind` positions before the query. Integers decide, so no logarithm rounds."""
    first = 0
    if two_way:
        buckets //= 2
        first = buckets if behind < 0 else 0
        behind = abs(behind)
    exact = buckets // 2
    if behind < exact:
        return first + behind
    # The largest k with ln(behind / exact) / ln(max_distance / exact) * (buckets - exact) >= k.
    steps, k = buckets - exact, 0
    while k + 1 < steps and behind ** steps * exact ** (k + 1) >= max_distance ** (k + 1) * exact ** steps:
        k += 1
    return first + exact + k


def sinusoid_table(sinusoids, positions, width):
    n = width // 2
    last = n - 1 if sinusoids.get("last_exponent", "half") == "half_minus_one" else n
    frequencies = float(sinusoids.get("theta", 10000.0)) ** (-np.arange(n) / last)
    angles = (sinusoids.get("first_position", 0) + np.arange(positions))[:, None] * frequencies
    table = np.empty((positions, width))
    if sinusoids.get("order", "interleaved") == "sines_first":
        table[:, :n], table[:, n:] = np.sin(angles), np.cos(angles)
    else:
        table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


# -- A stack ----------------------------------------------------------------------------------------------------------

class Stack:
    """One stack of a description. `watch(what, layer, numbers)`, if set, sees what happens inside of "attention", "cross" and
    "ffn": X_residual before a sublayer and X_change that it adds, [n, d_model]; and "scores" and "cross_scores" [n_heads, n,
    keys], scaled, before a bias of the scores, -inf where a key is hidden; and behind the last layer what the activation of
    "dense" reads."""

    def __init__(self, model, index):
        self.model, self.index = model, index
        given = {name: value for name, value in model.description["stacks"][index].items() if value is not None}
        two, last = len(model.description["stacks"]) == 2, index == len(model.description["stacks"]) - 1
        c = dict(NUMBERS, **CHOICES)
        c["use"] = "generate" if last else "encode"
        c["cross_attention"] = two and last
        c["output"] = "logits" if last else "vectors"
        c.update(given)
        c.setdefault("mask", "causal" if c["use"] == "generate" else "two_way")
        c.setdefault("n_kv_heads", c["n_heads"])
        c.setdefault("head_dim", c["d_model"] // c["n_heads"])
        c.setdefault("attention_scale", 1.0 / math.sqrt(c["head_dim"]))
        c.setdefault("cross_scale", c["attention_scale"])
        c.setdefault("d_dense", c["d_model"])
        c.setdefault("rotary_dims", c["head_dim"])
        c.setdefault("rope", {})
        c.setdefault("local_rope", c["rope"])
        if c["output"] == "logits":
            c.setdefault("n_outputs", c.get("vocab_size"))
        self.biases = set(c.get("biases", []))
        self.config = c
        self.watch = None

    def __getattr__(self, name):
        try:
            return self.__dict__["config"][name]
        except KeyError:
            raise AttributeError(name) from None

    def tensor(self, name):
        return self.model.tensor(f"stacks.{self.index}.{name}")

    def see(self, what, layer, numbers):
        if self.watch:
            self.watch(what, layer, numbers)

    # Parts of all layers.

    def matrix(self, name):
        weight = self.tensor(name)
        if weight.ndim == 3:  # of a convolution, torch's [out, in, 3]
            weight = weight.transpose(0, 2, 1).reshape(len(weight), -1)
        return weight

    def product(self, x, name, bias):
        y = x @ self.matrix(name).T
        return y + self.tensor(name + ".bias") if bias in self.biases else y

    def normed(self, x, kind, gain, bias):
        """The norm of the last axis. `gain` and `bias` are names of tensors."""
        if kind == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        y = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.norm_epsilon)
        y = y * (self.tensor(gain) + (1.0 if self.gain_plus_one else 0.0))
        return y + self.tensor(bias) if kind == "layer" and "norm" in self.biases else y

    # Input.

    def frames(self, x, name, stride):
        """A convolution over three neighbours with padding 1, as torch.nn.Conv1d; x [n, width] to [n', d_model]."""
        padded = np.pad(x, ((1, 1), (0, 0)))
        n = (len(x) - 1) // stride + 1
        seen = np.stack([padded[stride * t:stride * t + 3].reshape(-1) for t in range(n)])
        return self.product(seen, name, "input")

    def embedded(self, sequence):
        """The residual stream before the first layer, [n, d_model]."""
        if self.input == "tokens":
            x = self.tensor("token_embedding")[sequence["tokens"]] * self.embedding_scale
            if self.n_token_types:
                x = x + self.tensor("token_type_embedding")[sequence.get("token_types", [0] * len(x))]
        else:
            x = np.asarray(sequence["vectors"], np.float64)
            if self.input == "projected":
                x = self.product(x, "input_projection", "input")
            elif self.input == "convolved":
                strides = self.config.get("strides") or [1, 1]
                f = ACTIVATIONS[self.activation]
                x = f(self.frames(x, "convolution_1", strides[0]))
                if self.second_convolution:
                    x = f(self.frames(x, "convolution_2", strides[1]))
        if self.n_class_vectors:
            x = np.concatenate([self.tensor("class_vectors"), x])
        n = len(x)
        if self.position_table == "learned":
            x = x + self.tensor("position_embedding")[self.position_offset:self.position_offset + n]
        elif self.position_table == "sinusoidal":
            x = x + sinusoid_table(self.config.get("sinusoids") or {}, n, self.d_model)
        if self.input_norm:
            x = self.normed(x, self.norm, "input_gain", "input_norm_bias")
        return x

    # Attention.

    def sees_all(self, layer):
        return not self.window or (self.global_every and layer % self.global_every == self.global_first)

    def visible(self, layer, n):
        """[n, n] bools: row p is the query's position, column j the key's."""
        ahead = np.arange(n)[None, :] - np.arange(n)[:, None]
        seen = ahead <= 0 if self.mask == "causal" else np.ones((n, n), bool)
        return seen if self.sees_all(layer) else seen & (abs(ahead) < self.window)

    def score_bias(self, n):
        """[n_heads, n, n], added to the scaled scores."""
        behind = np.arange(n)[:, None] - np.arange(n)[None, :]
        if self.position == "alibi":
            slopes = np.array((self.config.get("alibi") or {}).get("slopes", alibi_slopes(self.n_heads)), np.float64)
            return -slopes[:, None, None] * abs(behind)
        two_way = self.mask == "two_way"
        if "distances" in self.relative:
            table, n_distances = self.tensor("score_bias"), self.relative["distances"]
            reach = (n_distances - 1) // 2 if two_way else n_distances - 1
            return table[:, np.clip(behind, -reach if two_way else 0, reach) + (reach if two_way else 0)]
        buckets, max_distance = self.relative["buckets"], self.relative["max_distance"]
        ahead = n - 1 if two_way else 0  # keys ahead of a causal query are hidden
        of = np.array([relative_bucket(a, buckets, max_distance, two_way) for a in range(-ahead, n)])
        return self.tensor("relative_attention_bias")[of[np.maximum(behind, -ahead) + ahead]].transpose(2, 0, 1)

    def head_normed(self, heads, prefix, which):
        if self.query_key_norm == "none":
            return heads
        return self.normed(heads, self.query_key_norm, f"{prefix}{which}_gain", f"{prefix}{which}_norm_bias")

    def attention(self, layer, x, source):
        """The change of self-attention, or with a source (its outputs) of cross-attention."""
        across = source is not None
        prefix, kind = f"layers.{layer}." + ("cross." if across else ""), "cross_" if across else ""
        read = source if across else x
        queries = self.product(x, prefix + "w_query", kind + "query").reshape(len(x), self.n_heads, self.head_dim)
        keys = self.product(read, prefix + "w_key", kind + "key").reshape(len(read), self.n_kv_heads, self.head_dim)
        values = self.product(read, prefix + "w_value_down", kind + "value_down").reshape(len(read), self.n_kv_heads, -1)
        queries, keys = self.head_normed(queries, prefix, "query"), self.head_normed(keys, prefix, "key")
        if self.position == "rotary" and not across:
            rope = self.rope if self.sees_all(layer) else self.local_rope
            queries, keys = (rotate(h, rope, self.rotary_dims, self.rotary_pairing) for h in (queries, keys))
        share = self.n_heads // self.n_kv_heads  # query heads that read one key and value head
        keys, values = np.repeat(keys, share, axis=1), np.repeat(values, share, axis=1)
        queries, keys, values = (h.transpose(1, 0, 2) for h in (queries, keys, values))  # head by head
        scores = queries @ keys.transpose(0, 2, 1) * (self.cross_scale if across else self.attention_scale)
        seen = np.ones(scores.shape[1:], bool) if across else self.visible(layer, len(x))
        self.see("cross_scores" if across else "scores", layer, np.where(seen, scores, -np.inf))
        if self.position in ("alibi", "relative") and not across:
            scores = scores + self.score_bias(len(x))
        scores = np.where(seen, scores, -np.inf)
        heads = (softmax(scores) @ values).transpose(1, 0, 2)
        if self.value_map == "undivided":
            return heads.sum(axis=1)
        return self.product(heads.reshape(len(x), -1), prefix + "w_value_up", kind + "value_up")

    def feed_forward(self, layer, x):
        prefix, f = f"layers.{layer}.", ACTIVATIONS[self.activation]
        up = self.product(x, prefix + "w_up", "ffn_in")
        inner = f(self.product(x, prefix + "w_gate", "ffn_in")) * up if self.gated else f(up)
        return self.product(inner, prefix + "w_down", "down")

    # Layers.

    def before(self, x, prefix):
        """What a sublayer reads."""
        if self.norm_placement == "after":
            return x
        return self.normed(x, self.norm, prefix + "_gain", prefix + "_norm_bias")

    def after(self, change, prefix):
        """What is added to the residual stream."""
        if self.norm_placement != "both":
            return change
        return self.normed(change, self.norm, prefix + "_after_gain", prefix + "_after_bias")

    def sublayer(self, x, f, layer, prefix, what):
        change = self.after(f(self.before(x, prefix)), prefix)
        self.see(what + "_residual", layer, x)
        self.see(what + "_change", layer, change)
        x = x + change
        if self.norm_placement == "after":
            x = self.normed(x, self.norm, prefix + "_after_gain", prefix + "_after_bias")
        return x

    def layer(self, layer, x, source):
        at = f"layers.{layer}."
        attend = lambda h: self.attention(layer, h, None)
        feed = lambda h: self.feed_forward(layer, h)
        if self.sublayers == "in_turn":
            x = self.sublayer(x, attend, layer, at + "attention", "attention")
            if self.cross_attention:
                x = self.sublayer(x, lambda h: self.attention(layer, h, source), layer, at + "cross.attention", "cross")
            return self.sublayer(x, feed, layer, at + "ffn", "ffn")
        h = self.before(x, at + "attention")
        other = h if self.sublayers == "side_by_side" else self.before(x, at + "ffn")
        changes = self.after(attend(h), at + "attention"), self.after(feed(other), at + "ffn")
        for what, change in zip(("attention", "ffn"), changes):
            self.see(what + "_residual", layer, x)
            self.see(what + "_change", layer, change)
        return x + changes[0] + changes[1]

    # Output.

    def outputs(self, sequence, source=None):
        """[n, width] with pooling `every`, else [1, width]."""
        x = self.embedded(sequence)
        for layer in range(self.n_layers):
            x = self.layer(layer, x, source)
        if self.final_norm:
            x = self.normed(x, self.norm, "final_gain", "final_norm_bias")
        x = {"every": lambda: x, "first": lambda: x[:self.n_output_heads], "last": lambda: x[-1:],
             "mean": lambda: x.mean(axis=0, keepdims=True)}[self.pooling]()
        if self.dense:
            x = self.product(x, "dense", "dense")
            self.see("dense", self.n_layers, x)
            x = ACTIVATIONS[self.dense_activation](x)
            if self.dense_norm:
                x = self.normed(x, self.norm, "dense_gain", "dense_norm_bias")
        if self.output == "vectors":
            if self.unit_length:
                length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
                x = x / np.where(length == 0.0, 1.0, length)
            return x
        logits = self.product(x, "token_embedding" if self.tied_unembedding else "unembedding", None)
        if "unembedding" in self.biases:
            logits = logits + self.tensor("unembedding.bias")
        if self.n_output_heads == 1:
            return logits
        heads = logits.reshape(self.n_output_heads, self.n_output_heads, self.n_outputs)
        return np.mean([heads[h:h + 1, h] for h in range(self.n_output_heads)], axis=0)


class Model:
    def __init__(self, description, tensors):
        """description: the parsed JSON; tensors: {name in the safetensors file: array}."""
        self.description = description
        self.tensors = {name: np.asarray(array, np.float64) for name, array in tensors.items()}
        self.asked = set()
        self.stacks = [Stack(self, i) for i in range(len(description["stacks"]))]

    def tensor(self, name):
        file_name = (self.description.get("tensors") or {}).get(name, name)
        self.asked.add(file_name)
        return self.tensors[file_name]

    def outputs(self, sequence, source=None):
        """The last stack's outputs for `sequence`; `source` is the first one's sequence where there are two. A sequence is
        {"tokens": [n]} with "token_types": [n] if it has any, or {"vectors": [n, width]}."""
        if len(self.stacks) == 2:
            source = self.stacks[0].outputs(source)
        return self.stacks[-1].outputs(sequence, source)

    def unused(self):
        """Tensors that no output so far has read."""
        return sorted(set(self.tensors) - self.asked)


def load(description_path, tensors_path):
    with open(description_path, encoding="utf-8") as file:
        return Model(json.load(file), safetensors_file.read(tensors_path))


# -- Inputs in files --------------------------------------------------------------------------------------------------
#
# {"cases": [{"input": SEQUENCE, "source": SEQUENCE, "expected": ARRAY}, ...]}, the source of models of two stacks only. A
# SEQUENCE is {"tokens": [...]}, with "token_types": [...] if it has any, or {"vectors": ARRAY}. An ARRAY is {"file", "rows",
# "columns"}, the file being raw little-endian float32 beside this one.

def write_inputs(path, cases):
    """Cases with arrays [rows, columns] in their places. `path` ends with inputs.json; what stands before that begins the names
    of the arrays' files, too."""
    folder, name_of_this = os.path.split(path)
    prefix, entries = name_of_this[:name_of_this.rindex("inputs.json")], []
    for number, case in enumerate(cases):
        def written(name, array):
            file = f"{prefix}{name}.{number}.f32"
            np.asarray(array, "<f4").tofile(os.path.join(folder, file))
            return {"file": file, "rows": array.shape[0], "columns": array.shape[1]}

        entry = {name: dict(case[name]) for name in ("input", "source") if name in case}
        for name, sequence in entry.items():
            if "vectors" in sequence:
                sequence["vectors"] = written(name, sequence["vectors"])
        entry["expected"] = written("expected", case["expected"])
        entries.append(entry)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"cases": entries}, file)
        file.write("\n")


def read_inputs(path):
    def read(entry):
        return np.fromfile(os.path.join(os.path.dirname(path), entry["file"]), "<f4").reshape(entry["rows"], entry["columns"])

    with open(path, encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    for case in cases:
        for name in ("input", "source"):
            if "vectors" in case.get(name, {}):
                case[name]["vectors"] = read(case[name]["vectors"])
        case["expected"] = read(case["expected"])
    return cases


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    model, worst = load(sys.argv[1], sys.argv[2]), 0.0
    for case in read_inputs(sys.argv[3]):
        outputs = model.outputs(case["input"], case.get("source"))
        if outputs.shape != case["expected"].shape:
            sys.exit(f"outputs are {outputs.shape}, expected are {case['expected'].shape}")
        worst = max(worst, abs(outputs - case["expected"]).max() / abs(case["expected"]).max())
    print(f"largest difference {worst:.1e} of the largest output")
    if not worst <= LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
