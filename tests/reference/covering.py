#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Models for a pairwise covering of the description: every value of every property meets every other that it can meet.

    covering.py OUT [--only NAME...]    writes OUT/NAME/{model.json,weights.safetensors,inputs.json,*.f32} and OUT/covering.json
    covering.py --count                 prints the covering's length alone

A model is a row of the covering with random sizes and weights. So that an agreement means something, the weights are scaled
until the scores of each head have a standard deviation of at least 1 (over the keys that a query sees, before any bias of the
scores) and each sublayer's change has at least half the norm of the residual stream that it is added to, at nine of ten
positions. Both are measured, once more at the end, and asserted. The outputs are description_model.py's.

inputs.json is as description_model.py has it. covering.json lists the models: their rows, `group` (what --group of `heed quantize` is
to be), sizes, and whether they belong to the subset for boards, which has every value and as many pairs as it can.
"""
import argparse
import hashlib
import json
import math
import os
import time

import numpy as np

import description_model
import safetensors_file
from pairwise import ABSENT, Covering, Property

SEED = 20
TRIES = 30
BOARD_MODELS = 64
BOARD_PARAMETERS = 100000
SCORE_DEVIATION, CHANGE_RATIO = 1.1, 0.55 # what is aimed at
LEAST_DEVIATION, LEAST_RATIO = 1.0, 0.5    # what is asserted
LEAST_ROUNDED_COSINE, MOST_DRAWS = 0.9993, 20
UNIFORM = math.sqrt(3.0)  # of a standard deviation of 1; matrices are drawn as torch.nn.Linear draws them
NO_YES = (False, True)
FFN_ACTIVATIONS = ("relu", "gelu_tanh", "gelu_erf", "gelu_quick", "silu")


# -- The properties ---------------------------------------------------------------------------------------------------

def stack_properties(prefix, parent, when):
    """What both a source and a main stack have. With a parent, the source's exist in models of two stacks only."""
    def p(name, values, on=None, on_values=()):
        if on:
            return Property(prefix + name, values, prefix + on, on_values)
        return Property(prefix + name, values, parent, when)

    return [
        p("input", ("tokens", "vectors", "projected", "convolved")),
        p("token_types", NO_YES, "input", ("tokens",)),
        p("embedding_scale", ("one", "other"), "input", ("tokens",)),
        p("second_convolution", NO_YES, "input", ("convolved",)),
        p("stride_1", (1, 2), "input", ("convolved",)),
        p("stride_2", (1, 2), "second_convolution", (True,)),
        p("convolution_form", ("torch", "flat"), "input", ("convolved",)),
        p("input_bias", NO_YES, "input", ("projected", "convolved")),
        p("class_vectors", (0, 1, 2)),
        p("input_norm", NO_YES),
        p("position_table", ("none", "learned", "sinusoidal")),
        p("position_offset", (0, 2), "position_table", ("learned",)),
        p("sinusoid_order", ("sines_first", "interleaved"), "position_table", ("sinusoidal",)),
        p("sinusoid_first", (0, 1), "position_table", ("sinusoidal",)),
        p("sinusoid_last", ("half", "half_minus_one"), "position_table", ("sinusoidal",)),
        p("position", ("none", "rotary", "alibi", "relative")),
        p("rotary_pairing", ("adjacent", "halves"), "position", ("rotary",)),
        p("rotary_part", ("all", "some"), "position", ("rotary",)),
        p("rope_scaling", ("none", "linear", "ntk", "yarn", "llama3"), "position", ("rotary",)),
        p("local_rope", NO_YES, "position", ("rotary",)),
        p("slopes", ("usual", "given"), "position", ("alibi",)),
        p("relative_form", ("buckets", "distances"), "position", ("relative",)),
        p("mask", ("causal", "two_way")),
        p("window", ("none", "all_layers", "some_layers")),
        p("window_width", ("below_a_block", "above_a_block"), "window", ("all_layers", "some_layers")),
        p("heads", ("multi", "grouped", "single", "one")),
        p("head_dims", ("d_model", "other")),
        p("attention_scale", ("usual", "other")),
        p("query_key_norm", ("none", "rms", "layer")),
        p("value_map", ("factors", "undivided")),
        p("norm", ("rms", "layer")),
        p("gain_plus_one", NO_YES),
        p("norm_placement", ("before", "after", "both")),
        p("sublayers", ("in_turn", "side_by_side", "side_by_side_two_norms")),
        p("final_norm", NO_YES),
        p("gated", NO_YES),
        p("activation", FFN_ACTIVATIONS),
        p("query_bias", NO_YES), p("key_bias", NO_YES), p("value_down_bias", NO_YES),
        p("value_up_bias", NO_YES, "value_map", ("factors",)),
        p("ffn_in_bias", NO_YES), p("down_bias", NO_YES),
        p("norm_bias", NO_YES, "norm", ("layer",)),
    ]


def stack_exclusions(prefix):
    return [
        (prefix + "sublayers", "side_by_side", prefix + "norm_placement", ("after",)),
        (prefix + "sublayers", "side_by_side_two_norms", prefix + "norm_placement", ("after",)),
        (prefix + "local_rope", True, prefix + "window", ("none", "all_layers")),
    ]


def covering():
    two = ("decoder_of_two", "encoder_of_two")
    encoders = ("encoder", "encoder_of_two")
    properties = [
        Property("kind", ("decoder", "encoder") + two),
        Property("tensor_names", ("own", "other")),
        Property("group", ("row", 32, 64, 128, 256)),
        *stack_properties("", None, ()),
        *stack_properties("source.", "kind", two),
        Property("cross_scale", ("same", "other"), "kind", two),
        Property("cross_query_bias", NO_YES, "kind", two),
        Property("cross_key_bias", NO_YES, "kind", two),
        Property("cross_value_down_bias", NO_YES, "kind", two),
        Property("cross_value_up_bias", NO_YES, "kind", two),
        Property("pooling", ("every", "first", "mean", "last"), "kind", encoders),
        Property("dense", NO_YES, "kind", encoders),
        Property("dense_activation", FFN_ACTIVATIONS + ("tanh", "none"), "dense", (True,)),
        Property("dense_bias", NO_YES, "dense", (True,)),
        Property("dense_norm", NO_YES, "dense", (True,)),
        Property("output", ("logits", "vectors")),
        Property("unembedding", ("tied", "untied"), "output", ("logits",)),
        Property("unembedding_bias", NO_YES, "output", ("logits",)),
        Property("output_heads", (1, 2), "output", ("logits",)),
        Property("unit_length", NO_YES, "output", ("vectors",)),
    ]
    excluded = stack_exclusions("") + stack_exclusions("source.")
    for kind in ("decoder", "decoder_of_two"):
        excluded += [
            ("kind", kind, "input", ("vectors", "projected", "convolved")),
            ("kind", kind, "mask", ("two_way",)),
            ("kind", kind, "class_vectors", (1, 2)),
            ("kind", kind, "output", ("vectors",)),
            ("kind", kind, "output_heads", (2,)),
        ]
    for kind in two:
        excluded.append(("kind", kind, "sublayers", ("side_by_side", "side_by_side_two_norms")))
    excluded += [
        ("cross_value_up_bias", True, "value_map", ("undivided",)),
        ("unembedding", "tied", "input", ("vectors", "projected", "convolved")),
        ("output_heads", 2, "unembedding", ("tied",)),
        ("output_heads", 2, "pooling", ("every", "mean", "last")),
    ]
    return Covering(properties, excluded, SEED)


# -- From a row to a model --------------------------------------------------------------------------------------------

class Builder:
    """Random sizes, weights and inputs for a row."""

    def __init__(self, row, number, draw):
        self.row, self.random = row, np.random.default_rng([SEED, number, draw])
        self.long = 130 + int(self.random.integers(0, 8)) if number % 4 == 0 else int(self.random.integers(66, 90))
        self.source_long = int(self.random.integers(66, 90))
        self.tensors = {}
        prefixes = ["source.", ""] if row["kind"].endswith("of_two") else [""]
        self.stacks = []
        for index, prefix in enumerate(prefixes):
            self.stacks.append(self.stack(index, prefix, len(prefixes)))
        self.description = {"heed": 2, "name": f"covering {number}", "stacks": self.stacks}
        for index, prefix in enumerate(prefixes):
            self.weights(index, prefix)

    def pick(self, *choices):
        return choices[int(self.random.integers(len(choices)))]

    def stack(self, index, prefix, n_stacks):
        """The JSON of a stack; what has its default is said or left out, as it comes."""
        get = lambda name: self.row[prefix + name]
        main = prefix == ""
        encodes = not main or self.row["kind"].startswith("encoder")
        s = {"use": "encode" if encodes else "generate", "mask": get("mask"), "input": get("input")}
        # Sizes.
        n_kv_heads, share = {"multi": (self.pick(2, 3, 4), 1), "grouped": self.pick((2, 2), (2, 3), (3, 2)),
                             "single": (1, self.pick(2, 3, 4)), "one": (1, 1)}[get("heads")]
        n_heads = n_kv_heads * share
        rotary = get("position") == "rotary"
        if get("head_dims") == "d_model":
            fitting = [d for d in range(24, 65, 2) if d % n_heads == 0 and (d // n_heads) % (2 if rotary else 1) == 0
                       and d // n_heads >= 6]
            s["d_model"] = self.pick(*fitting)
            head_dim = s["d_model"] // n_heads
        else:
            s["d_model"] = int(self.random.integers(12, 33)) * 2
            head_dim = self.pick(*[d for d in range(6, 25, 2 if rotary else 1) if d * n_heads != s["d_model"]])
            s["head_dim"] = head_dim
        s["d_ff"] = int(self.random.integers(40, 120))
        s["n_layers"] = self.pick(1, 2, 3) if n_stacks == 1 else self.pick(1, 1, 2)
        s["n_heads"] = n_heads
        if n_kv_heads != n_heads:
            s["n_kv_heads"] = n_kv_heads
        # Input.
        length = self.long if main else self.source_long  # of the inputs, without class vectors
        if get("input") == "tokens":
            s["vocab_size"] = int(self.random.integers(20, 70))
            if get("embedding_scale") == "other":
                s["embedding_scale"] = round(math.sqrt(s["d_model"]) / 2, 3)
            if get("token_types"):
                s["n_token_types"] = 2
        elif get("input") != "vectors":
            s["d_input"] = int(self.random.integers(5, 40))
        if get("input") == "convolved":
            s["second_convolution"] = get("second_convolution")
            s["strides"] = [get("stride_1")] + ([get("stride_2")] if get("second_convolution") else [])
        if get("class_vectors"):
            s["n_class_vectors"] = get("class_vectors")
        s["input_norm"] = get("input_norm")
        s["max_seq"] = length + get("class_vectors") + 3
        # Positions.
        if get("position_table") != "none":
            s["position_table"] = get("position_table")
            if get("position_table") == "sinusoidal":
                s["sinusoids"] = {"order": get("sinusoid_order"), "first_position": get("sinusoid_first"),
                                  "last_exponent": get("sinusoid_last")}
            elif get("position_offset"):
                s["position_offset"] = get("position_offset")
        s["position"] = get("position")
        if rotary:
            s["rotary_pairing"] = get("rotary_pairing")
            dims = head_dim
            if get("rotary_part") == "some":
                dims = s["rotary_dims"] = self.pick(*range(4, head_dim, 2))
            s["rope"] = self.rope(get("rope_scaling"), dims == head_dim, self.pick(1000.0, 10000.0))
            if get("local_rope"):
                s["local_rope"] = {"theta": 500.0}
        elif get("position") == "alibi" and get("slopes") == "given":
            s["alibi"] = {"slopes": [round(float(x), 4) for x in self.random.uniform(0.005, 0.7, n_heads)]}
        elif get("position") == "relative":
            if get("relative_form") == "buckets":
                s["relative"] = {"buckets": self.pick(8, 16, 32), "max_distance": self.pick(40, 64, 128)}
            else:
                s["relative"] = {"distances": 2 * self.pick(7, 20, 70) + 1}
        if get("window") != "none":
            below = get("window_width") == "below_a_block"
            s["window"] = int(self.random.integers(9, 40) if below else self.random.integers(65, length))
            if get("window") == "some_layers":
                s["n_layers"] = self.pick(2, 3) if n_stacks == 1 else 2
                s["global_every"] = self.pick(*range(2, s["n_layers"] + 1))
                s["global_first"] = int(self.random.integers(s["global_every"]))
        # Layers.
        if get("attention_scale") == "other":
            s["attention_scale"] = round(1.5 / head_dim, 4)
        for name in ("query_key_norm", "value_map", "norm", "norm_placement", "sublayers", "final_norm", "gated", "activation"):
            s[name] = get(name)
        if get("gain_plus_one"):
            s["gain_plus_one"] = True
        if self.random.integers(2):
            s["norm_epsilon"] = 1e-6
        names = ["input", "query", "key", "value_down", "value_up", "ffn_in", "down", "norm"]
        s["biases"] = [n for n in names if get(n + "_bias") is True]
        if not main:
            return s
        if n_stacks == 2:
            if get("cross_scale") == "other":
                s["cross_scale"] = round(0.8 / head_dim, 4)
            names = ["cross_query", "cross_key", "cross_value_down", "cross_value_up"]
            s["biases"] += [n for n in names if self.row[n + "_bias"] is True]
        # Output.
        s["output"] = get("output")
        if encodes:
            s["pooling"] = get("pooling")
            if get("dense"):
                s["dense"] = True
                s["d_dense"] = s["d_model"] if get("unembedding") == "tied" else int(self.random.integers(32, 64))
                s["dense_activation"], s["dense_norm"] = get("dense_activation"), get("dense_norm")
                s["biases"] += ["dense"] if get("dense_bias") else []
        if get("output") == "vectors":
            s["unit_length"] = get("unit_length")
            return s
        s["tied_unembedding"] = get("unembedding") == "tied"
        if not s["tied_unembedding"] and encodes:
            s["n_outputs"] = int(self.random.integers(24, 40))
        if get("output_heads") == 2:
            s["n_output_heads"] = self.pick(2, 3)
        s["biases"] += ["unembedding"] if get("unembedding_bias") else []
        return s

    @staticmethod
    def rope(scaling, whole, theta):
        rope = {"theta": theta}
        if scaling == "yarn":
            rope["scaling"] = {"type": "yarn", "factor": 4.0, "original_max_seq": 32}
            if not whole:
                rope["scaling"]["attention_factor"] = 1.0
        elif scaling == "llama3":
            rope["scaling"] = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_seq": 64}
        elif scaling != "none":
            rope["scaling"] = {"type": scaling, "factor": 3.0}
        return rope

    # Weights.

    def weights(self, index, prefix):
        s, get, at = self.stacks[index], lambda name: self.row[prefix + name], f"stacks.{index}."
        d, biases = s["d_model"], set(s["biases"])
        n_kv_heads, head_dim = s.get("n_kv_heads", s["n_heads"]), s.get("head_dim", d // s["n_heads"])

        def put(name, array):
            self.tensors[at + name] = np.asarray(array, np.float32)

        def vectors(name, rows, width):
            put(name, self.random.uniform(-UNIFORM, UNIFORM, (rows, width)))

        def matrix(name, rows, cols, bias):
            put(name, self.random.uniform(-UNIFORM, UNIFORM, (rows, cols)) / math.sqrt(cols))
            if bias in biases:
                put(name + ".bias", self.random.normal(size=rows) * 0.3)

        def norm(gain, bias, width, kind=s["norm"]):
            put(gain, self.random.uniform(0.6, 1.4, width) - (1.0 if s.get("gain_plus_one") else 0.0))
            if kind == "layer" and "norm" in biases:
                put(bias, self.random.normal(size=width) * 0.2)

        if get("input") == "tokens":
            vectors("token_embedding", s["vocab_size"], d)
            self.tensors[at + "token_embedding"] /= np.float32(s.get("embedding_scale", 1.0))
            if "n_token_types" in s:
                vectors("token_type_embedding", s["n_token_types"], d)
        elif get("input") == "projected":
            matrix("input_projection", d, s["d_input"], "input")
        elif get("input") == "convolved":
            for number in range(1, 3 if s["second_convolution"] else 2):
                width, name = s["d_input"] if number == 1 else d, f"convolution_{number}"
                matrix(name, d, 3 * width, "input")
                self.tensors[at + name] *= np.float32(2.0)
                if get("convolution_form") == "torch":
                    put(name, self.tensors[at + name].reshape(d, 3, width).transpose(0, 2, 1))
        if "n_class_vectors" in s:
            vectors("class_vectors", s["n_class_vectors"], d)
        if s.get("position_table") == "learned":
            vectors("position_embedding", s["max_seq"] + s.get("position_offset", 0), d)
        if s["input_norm"]:
            norm("input_gain", "input_norm_bias", d)
        if s["position"] == "relative":
            if "distances" in s["relative"]:
                if s["mask"] == "causal" and self.random.integers(2):
                    s["relative"]["distances"] += 1  # an even number is allowed
                put("score_bias", self.random.normal(size=(s["n_heads"], s["relative"]["distances"])))
            else:
                put("relative_attention_bias", self.random.normal(size=(s["relative"]["buckets"], s["n_heads"])))
        for layer in range(s["n_layers"]):
            self.attention_weights(f"layers.{layer}.", "", d, s, n_kv_heads, head_dim, matrix, norm)
            if index == 1:
                source_width = self.stacks[0]["d_model"]
                self.attention_weights(f"layers.{layer}.cross.", "cross_", source_width, s, n_kv_heads, head_dim, matrix, norm)
            part = f"layers.{layer}."
            if s["norm_placement"] != "after" and s["sublayers"] != "side_by_side":
                norm(part + "ffn_gain", part + "ffn_norm_bias", d)
            if s["gated"]:
                matrix(part + "w_gate", s["d_ff"], d, "ffn_in")
            matrix(part + "w_up", s["d_ff"], d, "ffn_in")
            matrix(part + "w_down", d, s["d_ff"], "down")
            if s["norm_placement"] != "before":
                norm(part + "ffn_after_gain", part + "ffn_after_bias", d)
        if s["final_norm"]:
            norm("final_gain", "final_norm_bias", d)
        width = d
        if s.get("dense"):
            width = s["d_dense"]
            matrix("dense", width, d, "dense")
            if s["dense_norm"]:
                norm("dense_gain", "dense_norm_bias", width)
        if s.get("output") == "logits":
            rows = s.get("n_output_heads", 1) * s.get("n_outputs", s.get("vocab_size", 0))
            if not s["tied_unembedding"]:
                matrix("unembedding", rows, width, "unembedding")
            elif "unembedding" in biases:
                put("unembedding.bias", self.random.normal(size=rows) * 0.3)

    @staticmethod
    def attention_weights(part, bias, read_width, s, n_kv_heads, head_dim, matrix, norm):
        d, heads = s["d_model"], s["n_heads"] * head_dim
        if s["norm_placement"] != "after":
            norm(part + "attention_gain", part + "attention_norm_bias", d)
        matrix(part + "w_query", heads, d, bias + "query")
        matrix(part + "w_key", n_kv_heads * head_dim, read_width, bias + "key")
        undivided = s["value_map"] == "undivided"
        matrix(part + "w_value_down", n_kv_heads * (d if undivided else head_dim), read_width, bias + "value_down")
        if not undivided:
            matrix(part + "w_value_up", d, heads, bias + "value_up")
        if s["query_key_norm"] != "none":
            for which in ("query", "key"):
                norm(part + f"{which}_gain", part + f"{which}_norm_bias", head_dim, s["query_key_norm"])
        if s["norm_placement"] != "before":
            norm(part + "attention_after_gain", part + "attention_after_bias", d)

    # Inputs.

    def sequence(self, index, length):
        s = self.stacks[index]
        if s["input"] == "tokens":
            sequence = {"tokens": [int(t) for t in self.random.integers(0, s["vocab_size"], length)]}
            if "n_token_types" in s and s["use"] == "encode":
                first = int(self.random.integers(0, length + 1))
                sequence["token_types"] = [0] * first + [1] * (length - first)
            return sequence
        frames = length
        for stride in s.get("strides", [1]):
            frames = (frames - 1) * stride + 1
        width = s.get("d_input", s["d_model"])
        return {"vectors": self.random.normal(size=(frames, width)).astype(np.float32)}

    def case(self, length, source_length):
        case = {"input": self.sequence(len(self.stacks) - 1, length)}
        if len(self.stacks) == 2:
            case["source"] = self.sequence(0, source_length)
        return case


# -- Scaling the weights ----------------------------------------------------------------------------------------------

class Seen(Exception):
    """What was looked for, so that the rest need not be computed."""


def look(stack, sequence, source, what, layer):
    """What a stack shows of a layer."""
    def watch(found, at, numbers):
        if (found, at) == (what, layer):
            raise Seen(numbers)

    stack.watch = watch
    try:
        stack.outputs(sequence, source)
    except Seen as seen:
        return seen.args[0]
    finally:
        stack.watch = None
    raise AssertionError(f"layer {layer} shows no {what}")


def score_deviation(scores):
    """Of each head: over the keys that a query sees, in the mean over queries that see eight or more."""
    seen = np.isfinite(scores)
    count = seen.sum(axis=-1)
    kept = np.where(seen, scores, 0.0)
    mean = kept.sum(axis=-1) / count
    variance = (np.where(seen, scores - mean[..., None], 0.0) ** 2).sum(axis=-1) / count
    return np.sqrt([variance[h][count[h] >= 8].mean() for h in range(len(scores))])


def change_ratio(change, residual):
    """What nine of ten positions reach: the norm of the change over that of the residual stream."""
    return np.quantile(np.linalg.norm(change, axis=-1) / np.linalg.norm(residual, axis=-1), 0.1)


class Watched:
    """Residuals, changes and scores of a whole run."""

    def __init__(self, model, case):
        self.seen = [{}, {}]
        for index, stack in enumerate(model.stacks):
            stack.watch = lambda what, layer, numbers, seen=self.seen[index]: seen.update({(what, layer): numbers})
        self.outputs = model.outputs(case["input"], case.get("source"))
        for stack in model.stacks:
            stack.watch = None


def least_of(seen):
    """The smallest score deviation of a head and the smallest change ratio of a sublayer, of what was seen in the stacks."""
    deviations = [score_deviation(x).min() for stack in seen for (what, _), x in stack.items() if what.endswith("scores")]
    ratios = [change_ratio(x, stack[what.replace("change", "residual"), layer])
              for stack in seen for (what, layer), x in stack.items() if what.endswith("change")]
    return min(deviations), min(ratios, default=np.inf)


@np.vectorize
def rounded(factor):
    """To three digits, so that the weights do not depend on the last bits of a machine's sums."""
    return float(f"{factor:.3g}")


def scale_weights(model, case):
    """Layer by layer, since each one's input is the output of what stands before it."""
    source = None
    for index, stack in enumerate(model.stacks):
        last = index == len(model.stacks) - 1
        sequence = case["input" if last else "source"]
        scale_stack(stack, sequence, source)
        if not last:
            source = stack.outputs(sequence)


def scale_stack(stack, sequence, source):
    tensors, at = stack.model.tensors, f"stacks.{stack.index}."

    def multiply(name, factor):
        """A matrix and its bias by one factor, or each row by its own."""
        for full in (at + name, at + name + ".bias"):
            if full in tensors:
                tensors[full] = (tensors[full].T * factor).T

    def multiply_norm(gain, bias, factor):
        one = 1.0 if stack.gain_plus_one else 0.0
        tensors[at + gain] = (tensors[at + gain] + one) * factor - one
        if at + bias in tensors:
            tensors[at + bias] = tensors[at + bias] * factor

    def scale_scores(layer, prefix, what):
        factors = rounded(SCORE_DEVIATION / score_deviation(look(stack, sequence, source, what, layer)))
        if stack.query_key_norm == "none":
            multiply(prefix + "w_query", np.repeat(factors, stack.head_dim))
        else:  # a layer's heads share their gain
            multiply_norm(prefix + "query_gain", prefix + "query_norm_bias", factors.max())

    def scale_change(layer, prefix, what, after, matrix):
        change, residual = (look(stack, sequence, source, f"{what}_{which}", layer) for which in ("change", "residual"))
        factor = rounded(CHANGE_RATIO / change_ratio(change, residual))
        if stack.norm_placement == "both":
            multiply_norm(f"{prefix}{after}_after_gain", f"{prefix}{after}_after_bias", factor)
        else:
            multiply(prefix + matrix, factor)

    value_matrix = "w_value_down" if stack.value_map == "undivided" else "w_value_up"
    for layer in range(stack.n_layers):
        at_layer = f"layers.{layer}."
        scale_scores(layer, at_layer, "scores")
        scale_change(layer, at_layer, "attention", "attention", value_matrix)
        if stack.cross_attention:
            scale_scores(layer, at_layer + "cross.", "cross_scores")
            scale_change(layer, at_layer + "cross.", "cross", "attention", value_matrix)
        scale_change(layer, at_layer, "ffn", "ffn", "w_down")
    if stack.dense:  # so that its activation is neither a line nor saturated
        multiply("dense", rounded(1.0 / look(stack, sequence, source, "dense", stack.n_layers).std()))


# -- Sensitivity ------------------------------------------------------------------------------------------------------

def int8(x):
    """Rows rounded to 127 steps of their largest magnitude."""
    step = np.abs(x).max(axis=-1, keepdims=True) / 127.0
    step = np.where(step == 0.0, 1.0, step)
    return np.round(x / step) * step


class RoundedStack(description_model.Stack):
    """What the simplest int8 makes of a stack: matrices, what they read, and queries, keys and values are rounded."""

    def product(self, x, name, bias):
        y = int8(x) @ int8(self.tensor(name)).T
        if bias in self.biases:
            y = y + self.tensor(name + ".bias")
        if name.endswith(("w_query", "w_key", "w_value_down")):
            heads = self.n_heads if name.endswith("w_query") else self.n_kv_heads
            y = int8(y.reshape(len(y), heads, -1)).reshape(y.shape)
        return y


def rounded_cosine(model, cases):
    """The smallest cosine at a position between the outputs and those of rounded stacks."""
    coarse, least = description_model.Model(model.description, model.tensors), 1.0
    coarse.stacks = [RoundedStack(coarse, i) for i in range(len(coarse.stacks))]
    for case in cases:
        a, b = (m.outputs(case["input"], case.get("source")) for m in (model, coarse))
        least = min(least, ((a * b).sum(axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())
    return float(least)


# -- Files ------------------------------------------------------------------------------------------------------------

def write_model(folder, builder, model, cases):
    """Tensors are rounded to float32 before the outputs are computed. Returns the expected outputs' digest."""
    os.makedirs(folder, exist_ok=True)
    safetensors_file.write(os.path.join(folder, "weights.safetensors"), model.tensors)
    with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
        json.dump(builder.description, file, indent=1)
        file.write("\n")
    digest = hashlib.sha256()
    for case in cases:
        case["expected"] = model.outputs(case["input"], case.get("source")).astype("<f4")
        assert np.isfinite(case["expected"]).all()
        digest.update(case["expected"].tobytes())
    description_model.write_inputs(os.path.join(folder, "inputs.json"), cases)
    return digest.hexdigest()[:16]


def draw_model(row, number):
    """Models that are so sensitive that int8 can say nothing about them are drawn again; a bad formula is never that close."""
    for draw in range(MOST_DRAWS):
        builder = Builder(row, number, draw)
        model = description_model.Model(builder.description, builder.tensors)
        least = 3 if builder.stacks[-1].get("n_output_heads", 1) > 1 else 1
        cases = [builder.case(builder.long, builder.source_long),
                 builder.case(int(builder.random.integers(least, 20)), int(builder.random.integers(1, 20)))]
        scale_weights(model, cases[0])
        model.tensors = {name: array.astype(np.float32).astype(np.float64) for name, array in model.tensors.items()}
        cosine = rounded_cosine(model, cases)
        if cosine >= LEAST_ROUNDED_COSINE:
            return builder, model, cases, draw, cosine
    raise AssertionError(f"model {number} is too sensitive: {row}")


def make_model(row, number, folder):
    """Writes one model; returns what covering.json says of it."""
    builder, model, cases, draw, cosine = draw_model(row, number)
    if row["tensor_names"] == "other":
        names = {name: f"t{i}." + name.split(".", 2)[2].replace("w_", "matrix_") for i, name in enumerate(model.tensors)}
        model.tensors = {names[name]: array for name, array in model.tensors.items()}
        builder.description["tensors"] = names
    model.asked.clear()
    deviation, ratio = least_of(Watched(model, cases[0]).seen)
    assert deviation >= LEAST_DEVIATION and ratio >= LEAST_RATIO, (number, deviation, ratio)
    assert not model.unused(), model.unused()
    digest = write_model(folder, builder, model, cases)
    return {"name": os.path.basename(folder), "row": row, "group": row["group"], "stacks": len(builder.stacks),
            "parameters": sum(array.size for array in model.tensors.values()), "positions": builder.long, "draws": draw + 1,
            "score_deviation": round(float(deviation), 3), "change_ratio": round(float(ratio), 3),
            "rounded_cosine": round(cosine, 5), "outputs": digest}


def choose_for_boards(covered, rows, sizes):
    """Numbers of models that fit a small board, each the one with the most pairs that those before it lack."""
    missing, chosen = covered.wanted.copy(), []
    pairs = [covered.pairs_of(row) for row in rows]
    fitting = [i for i, size in enumerate(sizes) if size <= BOARD_PARAMETERS]
    values = {item for row in rows for item in row.items()}
    while len(chosen) < min(BOARD_MODELS, len(fitting)) or values - {item for i in chosen for item in rows[i].items()}:
        best = max((i for i in fitting if i not in chosen), key=lambda i: (int((pairs[i] & missing).sum()), -sizes[i]))
        missing &= ~pairs[best]
        chosen.append(best)
    return sorted(chosen), covered.n_pairs - int(missing.sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?")
    parser.add_argument("--count", action="store_true", help="print the covering's length and stop")
    parser.add_argument("--only", nargs="*", help="names of models to write, as in covering.json")
    args = parser.parse_args()
    start = time.monotonic()
    covered = covering()
    rows = covered.rows(TRIES)
    covered.check(rows)
    print(f"{len(rows)} models cover {covered.n_pairs} pairs of {len(covered.values)} values "
          f"of {len(covered.properties)} properties ({time.monotonic() - start:.1f} s)", flush=True)
    if args.count:
        return
    if not args.out:
        parser.error("OUT is missing")
    start, models = time.monotonic(), []
    for number, row in enumerate(rows):
        name = f"{number:03d}"
        if not args.only or name in args.only:
            models.append(make_model(row, number, os.path.join(args.out, name)))
    if args.only:
        return
    chosen, pairs = choose_for_boards(covered, rows, [m["parameters"] for m in models])
    for number, model in enumerate(models):
        model["board"] = number in chosen
    with open(os.path.join(args.out, "covering.json"), "w", encoding="utf-8") as file:
        json.dump({"models": models}, file, indent=1)
        file.write("\n")
    print(f"{sum(m['draws'] - 1 for m in models)} of {sum(m['draws'] for m in models)} draws were too sensitive; "
          f"smallest score deviation {min(m['score_deviation'] for m in models)}, smallest change ratio "
          f"{min(m['change_ratio'] for m in models)}; {len(chosen)} models for boards have every value and {pairs} pairs "
          f"({time.monotonic() - start:.1f} s)")


if __name__ == "__main__":
    main()
