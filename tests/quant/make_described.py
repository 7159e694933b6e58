#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes described.json: small models of a description (SPEC.md, part 7) and their outputs by tests/reference/description_model.py.

    make_described.py > described.json

Between them the models have every value of every field. Weights follow from the tensors' names by weight(), so that the file
holds names and shapes alone; tests/quant/description_test.cpp makes the same.
"""
import json
import os
import sys
import zlib

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "reference"))
import description_model  # noqa: E402


def weights(name, shape):
    """float32 [shape], of a generator that begins with the CRC-32 of the name; gains lie around 1."""
    state, numbers = zlib.crc32(name.encode()), []
    for _ in range(int(np.prod(shape))):
        state = (state * 1664525 + 1013904223) % 2 ** 32
        numbers.append((state >> 8) / 2 ** 24 - 0.5)
    x = np.array(numbers).reshape(shape)
    if name.endswith("_gain"):
        return (1.0 + x).astype(np.float32)
    return (x * 2.0).astype(np.float32)


def shapes(s, at, d_source):
    """Names and shapes of SPEC.md 7.3."""
    d, heads = s["d_model"], s["n_heads"]
    kv, dim = s.get("n_kv_heads", heads), s.get("head_dim", d // heads)
    biases, placement = s.get("biases", []), s.get("norm_placement", "before")
    tensors = {}

    def matrix(name, rows, cols, bias):
        tensors[at + name] = [rows, cols]
        if bias in biases:
            tensors[at + name + ".bias"] = [rows]

    def norm(gain, bias, n, kind=None):
        tensors[at + gain] = [n]
        if (kind or s.get("norm", "rms")) == "layer" and "norm" in biases:
            tensors[at + bias] = [n]

    def attention(part, prefix, width):
        if placement != "after":
            norm(part + "attention_gain", part + "attention_norm_bias", d)
        matrix(part + "w_query", heads * dim, d, prefix + "query")
        matrix(part + "w_key", kv * dim, width, prefix + "key")
        undivided = s.get("value_map") == "undivided"
        matrix(part + "w_value_down", kv * (d if undivided else dim), width, prefix + "value_down")
        if not undivided:
            matrix(part + "w_value_up", d, heads * dim, prefix + "value_up")
        kind = s.get("query_key_norm", "none")
        if kind != "none":
            norm(part + "query_gain", part + "query_norm_bias", dim, kind)
            norm(part + "key_gain", part + "key_norm_bias", dim, kind)
        if placement != "before":
            norm(part + "attention_after_gain", part + "attention_after_bias", d)

    kind = s.get("input", "tokens")
    if kind == "tokens":
        tensors[at + "token_embedding"] = [s["vocab_size"], d]
    elif kind == "projected":
        matrix("input_projection", d, s["d_input"], "input")
    elif kind == "convolved":
        matrix("convolution_1", d, s["d_input"], "input")
        tensors[at + "convolution_1"] = [d, s["d_input"], 3]
        if s.get("second_convolution"):
            matrix("convolution_2", d, 3 * d, "input")
    if s.get("position_table") == "learned":
        tensors[at + "position_embedding"] = [s["max_seq"] + s.get("position_offset", 0), d]
    if s.get("n_token_types"):
        tensors[at + "token_type_embedding"] = [s["n_token_types"], d]
    if s.get("n_class_vectors"):
        tensors[at + "class_vectors"] = [s["n_class_vectors"], d]
    if s.get("input_norm"):
        norm("input_gain", "input_norm_bias", d)
    if "buckets" in s.get("relative", {}):
        tensors[at + "relative_attention_bias"] = [s["relative"]["buckets"], heads]
    elif "relative" in s:
        tensors[at + "score_bias"] = [heads, s["relative"]["distances"]]
    for layer in range(s["n_layers"]):
        part = f"layers.{layer}."
        attention(part, "", d)
        if d_source:
            attention(part + "cross.", "cross_", d_source)
        if placement != "after" and s.get("sublayers") != "side_by_side":
            norm(part + "ffn_gain", part + "ffn_norm_bias", d)
        if s.get("gated"):
            matrix(part + "w_gate", s["d_ff"], d, "ffn_in")
        matrix(part + "w_up", s["d_ff"], d, "ffn_in")
        matrix(part + "w_down", d, s["d_ff"], "down")
        if placement != "before":
            norm(part + "ffn_after_gain", part + "ffn_after_bias", d)
    if s.get("final_norm", True):
        norm("final_gain", "final_norm_bias", d)
    width = s.get("d_dense", d) if s.get("dense") else d
    if s.get("dense"):
        matrix("dense", width, d, "dense")
        if s.get("dense_norm"):
            norm("dense_gain", "dense_norm_bias", width)
    if s.get("output", "vectors" if d_source is None else "logits") == "logits":
        outputs = s.get("n_outputs", s.get("vocab_size"))
        if not s.get("tied_unembedding"):
            matrix("unembedding", s.get("n_output_heads", 1) * outputs, width, "unembedding")
        elif "unembedding" in biases:
            tensors[at + "unembedding.bias"] = [outputs]
    return tensors


def stack(**fields):
    return {"d_model": 12, "d_ff": 20, "n_layers": 2, "n_heads": 2, "max_seq": 16, "activation": "relu", **fields}


ALL = ["query", "key", "value_down", "value_up", "ffn_in", "down", "norm"]
MODELS = {
    "decoder": [stack(vocab_size=9, position="rotary", gated=True, activation="silu", n_heads=4, n_kv_heads=2, head_dim=4)],
    "decoder_learned": [stack(vocab_size=9, position_table="learned", position_offset=2, norm="layer", activation="gelu_tanh",
                              biases=ALL + ["unembedding"], tied_unembedding=True, embedding_scale=3.5)],
    "decoder_windows": [stack(vocab_size=9, position="rotary", rotary_pairing="halves", rotary_dims=4, n_layers=4, window=3,
                              global_every=2, global_first=1, rope={"theta": 50, "scaling": {"type": "linear", "factor": 2}},
                              local_rope={"theta": 20}, norm_placement="both", gain_plus_one=True, query_key_norm="rms",
                              gated=True, activation="gelu_erf", final_norm=False, attention_scale=0.3, norm_epsilon=1e-3)],
    "decoder_side_by_side": [stack(vocab_size=9, position="alibi", n_heads=3, sublayers="side_by_side", norm="layer",
                                   biases=["query", "norm"], activation="gelu_quick")],
    "decoder_two_norms": [stack(vocab_size=9, position="alibi", alibi={"slopes": [0.5, 0.125]}, norm="layer",
                                sublayers="side_by_side_two_norms", query_key_norm="layer", biases=["norm", "key"])],
    "decoder_relative": [stack(vocab_size=9, position="relative", relative={"buckets": 6, "max_distance": 9})],
    "decoder_yarn": [stack(vocab_size=9, position="rotary", rotary_dims=4, head_dim=6, rope={"theta": 100, "scaling": {
        "type": "yarn", "factor": 4, "original_max_seq": 40, "beta_fast": 4, "beta_slow": 0.5}}, biases=["query"])],
    "decoder_ntk": [stack(vocab_size=9, position="rotary", rope={"theta": 30, "scaling": {"type": "ntk", "factor": 3}})],
    "decoder_llama3": [stack(vocab_size=9, position="rotary", head_dim=8, rope={"theta": 300, "scaling": {
        "type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_seq": 60}})],
    "bert": [stack(use="encode", vocab_size=9, n_token_types=2, position_table="learned", input_norm=True, norm="layer",
                   norm_placement="after", final_norm=False, biases=ALL + ["dense", "unembedding"], activation="gelu_erf",
                   pooling="first", dense=True, d_dense=10, dense_activation="tanh", n_outputs=3)],
    "masked_word": [stack(use="encode", vocab_size=9, n_token_types=2, n_class_vectors=1, norm="layer", dense=True, dense_activation="gelu_erf", dense_norm=True,
                          tied_unembedding=True, biases=["norm", "unembedding"])],
    "embedding": [stack(use="encode", vocab_size=9, pooling="mean", output="vectors", unit_length=True, window=2)],
    "two_heads": [stack(use="encode", input="projected", d_input=5, n_class_vectors=2, n_outputs=4, n_output_heads=2,
                        pooling="first", biases=["input"], position_table="sinusoidal", norm="layer")],
    "last": [stack(use="encode", input="vectors", mask="causal", pooling="last", n_outputs=4, value_map="undivided",
                   biases=["value_down"], position="relative", relative={"distances": 3})],
    "tagger": [stack(use="encode", vocab_size=9, n_outputs=5, position="relative", relative={"buckets": 8, "max_distance": 6})],
    "whisper": [stack(use="encode", input="convolved", d_input=5, second_convolution=True, strides=[1, 2], biases=["input", "norm"],
                      norm="layer", activation="gelu_erf", position_table="sinusoidal",
                      sinusoids={"order": "sines_first", "last_exponent": "half_minus_one"}),
                stack(d_model=8, vocab_size=9, n_heads=4, n_kv_heads=2, norm="layer", position_table="learned",
                      tied_unembedding=True, biases=["query", "cross_query", "cross_value_up", "cross_value_down"])],
    "original": [stack(vocab_size=7, norm="layer", norm_placement="after", final_norm=False, embedding_scale=2.0,
                       position_table="sinusoidal", sinusoids={"first_position": 1, "theta": 100}, biases=ALL),
                 stack(vocab_size=9, norm="layer", norm_placement="after", final_norm=False, query_key_norm="rms",
                       position_table="sinusoidal", cross_scale=0.7, biases=ALL + ["cross_key", "cross_query"])],
    "drawing": [stack(vocab_size=7, position="rotary"),
                stack(use="encode", input="projected", d_input=3, output="vectors", value_map="undivided", norm_placement="both",
                      biases=["cross_value_down"])],
}


def model_of(name, stacks):
    description = {"heed": 2, "name": name, "stacks": stacks}
    names = {}
    for i, s in enumerate(stacks):
        source = stacks[0]["d_model"] if i else (None if len(stacks) == 2 else 0)
        names.update(shapes(s, f"stacks.{i}.", source))
    model = description_model.Model(description, {n: weights(n, shape) for n, shape in names.items()})
    random = np.random.default_rng(zlib.crc32(name.encode()))

    def sequence(s, length):
        if s.get("input", "tokens") == "tokens":
            drawn = {"tokens": random.integers(0, s["vocab_size"], length).tolist()}
            if "n_token_types" in s:
                drawn["token_types"] = random.integers(0, 2, length).tolist()
            return drawn
        width = s["d_model"] if s["input"] == "vectors" else s["d_input"]
        return {"vectors": np.round(random.normal(size=(length, width)), 3).astype(np.float32)}

    cases = []
    for length in (10, 3):
        case = {"input": sequence(stacks[-1], length)}
        if len(stacks) == 2:
            case["source"] = sequence(stacks[0], length + 3)
        expected = model.outputs(case["input"], case.get("source"))
        for name_of in ("input", "source"):
            if "vectors" in case.get(name_of, {}):
                case[name_of]["vectors"] = [float(f"{x:.3f}") for x in case[name_of]["vectors"].ravel()]
        case["expected"] = [[float(f"{x:.7g}") for x in row] for row in expected]
        cases.append(case)
    assert not model.unused(), (name, model.unused())
    return {"description": description, "tensors": names, "cases": cases}


def main():
    models = [model_of(name, stacks) for name, stacks in MODELS.items()]
    print('{"models": [\n' + ",\n".join(json.dumps(m) for m in models) + "\n]}")


if __name__ == "__main__":
    main()
