# SPDX-License-Identifier: Apache-2.0
"""Random sizes, weights and inputs for a row of covering.py."""
import math

import numpy as np

UNIFORM = math.sqrt(3.0)  # of a standard deviation of 1; matrices are drawn as torch.nn.Linear draws them


class Builder:
    """Random sizes, weights and inputs for a row."""

    def __init__(self, row, seed, number, draw):
        self.row, self.random = row, np.random.default_rng([seed, number, draw])
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
        even = 2 if rotary and get("rotary_part") == "all" else 1
        if get("head_dims") == "d_model":
            fitting = [d for d in range(24, 65, 2) if d % n_heads == 0 and (d // n_heads) % even == 0
                       and d // n_heads >= 6]
            s["d_model"] = self.pick(*fitting)
            head_dim = s["d_model"] // n_heads
        else:
            s["d_model"] = int(self.random.integers(12, 33)) * 2
            head_dim = self.pick(*[d for d in range(6, 25, even) if d * n_heads != s["d_model"]])
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
            if get("rotary_part") == "some":
                s["rotary_dims"] = self.pick(*range(4, head_dim, 2))
            s["rope"] = self.rope(get("rope_scaling"), self.pick(1000.0, 10000.0))
            if get("local_rope"):
                s["local_rope"] = self.rope(self.pick("none", "linear", "yarn"), 500.0)
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
        for name in ("value_map", "norm", "norm_placement", "sublayers", "final_norm", "gated", "activation"):
            s[name] = get(name)
        s["query_key_norm"] = get("query_key_norm").split("_")[0]
        if get("gain_plus_one"):
            s["gain_plus_one"] = True
        if self.random.integers(2):
            s["norm_epsilon"] = 1e-6
        names = ["input", "query", "key", "value_down", "value_up", "ffn_in", "down", "norm"]
        s["biases"] = [n for n in names if get(n + "_bias") is True]
        if get("query_key_norm") == "layer_with_bias" and "norm" not in s["biases"]:
            s["biases"].append("norm")
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
            s["n_output_heads"] = get("class_vectors") + 1
        s["biases"] += ["unembedding"] if get("unembedding_bias") else []
        return s

    def rope(self, scaling, theta):
        rope = {"theta": theta}
        if scaling == "yarn":
            rope["scaling"] = {"type": "yarn", "factor": self.pick(2.0, 4.0), "original_max_seq": 32}
            if self.random.integers(2):
                rope["scaling"]["attention_factor"] = 1.05
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
