#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Models for a pairwise covering of the description: every value of every property meets every other that it can meet.

    covering.py OUT [--only NAME...]    writes OUT/NAME/{model.json,weights.safetensors,inputs.json,*.f32}, OUT/covering.json
    covering.py OUT --first-draws       takes the first draw of each row, however sensitive it is
    covering.py OUT --keep              writes nothing where these scripts have written all of it before, in the same way
    covering.py --count                 prints the covering's length alone

A model is a row of the covering with random sizes and weights. So that an agreement means something, the weights are scaled
until the scores of each head have a standard deviation of at least 1 (over the keys that a query sees, before any bias of
the scores) and each sublayer's change has at least half the norm of the residual stream that it is added to, at nine of ten
positions. Both are measured, once more at the end, and asserted. A draw of which one of twelve plain roundings to int8 in numpy
leaves less than a cosine of LEAST_ROUNDED_COSINE at some position, which is what heed is held to, is replaced by another: of the
weights, never of the row. How many were is printed, and the values whose models took most draws; covering_test.py holds heed's
error against that of the roundings, so that an error of heed cannot pass as a model's sensitivity.

inputs.json, and the outputs that it expects, are description_model.py's. covering.json lists the models: their rows, `group`
(what --group of `heed quantize` is to be), sizes, and whether they belong to the subset for boards, which has every value
and as many pairs as it can. Needs numpy alone.
"""
import argparse
import hashlib
import json
import os
import time

import numpy as np

import description_model
import pairwise
import random_model
import safetensors_file
import weight_scale
from pairwise import Covering, Property
from random_model import Builder

SEED = 20
TRIES = 30
BOARD_MODELS = 64
BOARD_PARAMETERS = 100000
LEAST_ROUNDED_COSINE, MOST_DRAWS = 0.999, 1000
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
        p("query_key_norm", ("none", "rms", "layer", "layer_with_bias")),
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
        # Biases of norms are one choice, for the heads' as well.
        (prefix + "query_key_norm", "layer", prefix + "norm_bias", (True,)),
        (prefix + "query_key_norm", "layer_with_bias", prefix + "norm_bias", (False,)),
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
        ("output_heads", 2, "dense", (True,)),
        ("output_heads", 2, "class_vectors", (0,)),
    ]
    return Covering(properties, excluded, SEED)


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


def draw_model(row, number, least):
    """Models that are so sensitive that int8 can say nothing about them are drawn again: where roundings leave less than `least`."""
    for draw in range(MOST_DRAWS):
        builder = Builder(row, SEED, number, draw)
        model = description_model.Model(builder.description, builder.tensors)
        cases = [builder.case(builder.long, builder.source_long),
                 builder.case(int(builder.random.integers(1, 20)), int(builder.random.integers(1, 20)))]
        weight_scale.scale_weights(model, cases[0])
        model.tensors = {name: array.astype(np.float32).astype(np.float64) for name, array in model.tensors.items()}
        cosines = weight_scale.rounded_cosines(model, cases, least)
        if cosines is not None:
            return builder, model, cases, draw, cosines
    raise AssertionError(f"model {number} is too sensitive: {row}")


def make_model(row, number, folder, least):
    """Writes one model; returns what covering.json says of it."""
    builder, model, cases, draw, cosines = draw_model(row, number, least)
    if row["tensor_names"] == "other":
        names = {name: f"t{i}." + name.split(".", 2)[2].replace("w_", "matrix_") for i, name in enumerate(model.tensors)}
        model.tensors = {names[name]: array for name, array in model.tensors.items()}
        builder.description["tensors"] = names
    model.asked.clear()
    deviation, ratio = weight_scale.least_of(weight_scale.Watched(model, cases[0]).seen)
    assert deviation >= weight_scale.LEAST_DEVIATION and ratio >= weight_scale.LEAST_RATIO, (number, deviation, ratio)
    assert not model.unused(), model.unused()
    digest = write_model(folder, builder, model, cases)
    return {"name": os.path.basename(folder), "row": row, "group": row["group"], "stacks": len(builder.stacks),
            "parameters": sum(array.size for array in model.tensors.values()), "positions": builder.long, "draws": draw + 1,
            "score_deviation": round(float(deviation), 3), "change_ratio": round(float(ratio), 3),
            "rounded_cosine": round(float(cosines.min()), 8), "rounded_mean": round(float(cosines.mean()), 8),
            "outputs": digest}


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


def written_by():
    """A digest of the scripts that make the models."""
    digest = hashlib.sha256()
    for module in (None, description_model, pairwise, random_model, safetensors_file, weight_scale):
        with open(module.__file__ if module else __file__, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_written(path, first_draws):
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        return index["written_by"] == written_by() and index["first_draws"] == first_draws
    except (OSError, ValueError, KeyError):
        return False


def print_draws(models):
    """The values whose models took most draws, in the mean of at least eight."""
    draws = {}
    for m in models:
        for item in m["row"].items():
            draws.setdefault(item, []).append(m["draws"])
    means = sorted(((np.mean(n), name, value) for (name, value), n in draws.items() if len(n) >= 8 and value != "-"),
                   key=lambda entry: -entry[0])
    print(f"{np.mean([m['draws'] for m in models]):.1f} draws per model; most for "
          + ", ".join(f"{name} = {value} ({mean:.1f})" for mean, name, value in means[:5]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?")
    parser.add_argument("--count", action="store_true", help="print the covering's length and stop")
    parser.add_argument("--first-draws", action="store_true", help="take the first draw of each row, however sensitive it is")
    parser.add_argument("--only", nargs="*", help="names of models to write, as in covering.json")
    parser.add_argument("--keep", action="store_true", help="keep what these scripts have written before")
    args = parser.parse_args()
    if args.out and args.keep and is_written(os.path.join(args.out, "covering.json"), args.first_draws):
        print("the models are there")
        return
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
            models.append(make_model(row, number, os.path.join(args.out, name), -1.0 if args.first_draws else LEAST_ROUNDED_COSINE))
    if args.only:
        return
    chosen, pairs = choose_for_boards(covered, rows, [m["parameters"] for m in models])
    for number, model in enumerate(models):
        model["board"] = number in chosen
    with open(os.path.join(args.out, "covering.json"), "w", encoding="utf-8") as file:
        json.dump({"written_by": written_by(), "first_draws": args.first_draws, "models": models}, file, indent=1)
        file.write("\n")
    print_draws(models)
    print(f"{sum(m['draws'] - 1 for m in models)} of {sum(m['draws'] for m in models)} draws were too sensitive; "
          f"smallest score deviation {min(m['score_deviation'] for m in models)}, smallest change ratio "
          f"{min(m['change_ratio'] for m in models)}; {len(chosen)} models for boards have every value and {pairs} pairs "
          f"({time.monotonic() - start:.1f} s)")


if __name__ == "__main__":
    main()
