#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions and memory of a token on Cortex-M4 through a window of 64 and over all keys, along a text of 2,000 tokens.

    window.py --write    builds the firmware and writes the table of tests/MEASURED.md
    window.py --check    fails unless a step through the window takes the same at each position, and the same memory as in a
                         shorter text, more of both without a window, and none is 2 % above the table. --elf: firmware that is
                         built

Random weights in the shape of stories260K (five layers, 64 and 172 wide, 8 heads of 8 on 4); window_counts.cpp under QEMU,
its steps counted by the plugin of tests/icount. Positions lie 64 apart or a multiple of it, because a block of keys that is being
filled costs what it holds. Needs numpy.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

from measure import BOARDS, LAYOUTS, ROOT, build_plugin, emulate, output, write_between

sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
import safetensors_file

CORE = "cortex-m4"
WINDOW, LENGTH = 64, 2000
POSITIONS = (8, 72, 200, 520, 1032, 1928)
STEADY = POSITIONS[1:]  # the window is full
NOISE = 0.005  # what a step's numbers may move its count by, of the least
BEGIN, END = "<!-- window table begins -->", "<!-- window table ends -->"


def write_image(path, heed, folder, window, length):
    """A random decoder with this window, 0 = none; the weights are the same for all."""
    d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim, vocab_size = 64, 172, 5, 8, 4, 8, 512
    stack = {"vocab_size": vocab_size, "d_model": d_model, "d_ff": d_ff, "n_layers": n_layers, "n_heads": n_heads,
             "n_kv_heads": n_kv_heads, "max_seq": length, "window": window, "position": "rotary", "gated": True,
             "activation": "silu", "tied_unembedding": True}
    random = np.random.default_rng(64)
    matrix = lambda rows, columns: random.normal(0.0, columns ** -0.5, (rows, columns))
    tensors = {"stacks.0.token_embedding": random.normal(0.0, 1.0, (vocab_size, d_model)), "stacks.0.final_gain": np.ones(d_model)}
    for layer in range(n_layers):
        of_layer = {"attention_gain": np.ones(d_model), "w_query": 2 * matrix(n_heads * head_dim, d_model),
                    "w_key": 2 * matrix(n_kv_heads * head_dim, d_model), "w_value_down": matrix(n_kv_heads * head_dim, d_model),
                    "w_value_up": matrix(d_model, n_heads * head_dim), "ffn_gain": np.ones(d_model),
                    "w_gate": matrix(d_ff, d_model), "w_up": matrix(d_ff, d_model), "w_down": matrix(d_model, d_ff)}
        tensors.update({f"stacks.0.layers.{layer}.{name}": array for name, array in of_layer.items()})
    description, weights = os.path.join(folder, "model.json"), os.path.join(folder, "weights.safetensors")
    with open(description, "w", encoding="utf-8") as file:
        json.dump({"heed": 2, "name": "window", "stacks": [stack]}, file)
    safetensors_file.write(weights, tensors)
    output(heed, "quantize", weights, "--description", description, "--group", "row", "--value-map", "factors", "--layout",
           LAYOUTS.get(CORE, "pair"), "-o", path)


def measure(elf, plugin, heed, folder, window, length, positions):
    """{cache, arena: bytes; position: instructions}"""
    image, counts = os.path.join(folder, "window.heed"), os.path.join(folder, "counts.txt")
    write_image(image, heed, folder, window, length)
    words = [image, *map(str, positions), str(length - 1)]
    text = emulate(BOARDS[CORE], elf, plugin, counts, " ".join(words))
    with open(counts, encoding="utf-8") as file:
        found = [int(line.split()[2]) for line in file if line.startswith("region ")]
    if len(found) != len(words) - 1:
        sys.exit(f"window.py: {len(found)} regions for {len(words) - 1} positions")
    number = lambda key: int(re.search(rf"^{key} bytes (\d+)$", text, re.M).group(1))
    return {"cache": number("cache"), "arena": number("arena"), **dict(zip(positions, found))}


def table(windowed, whole):
    rows = [("instructions of the step at position " + f"{p:,}", windowed[p], whole[p]) for p in POSITIONS]
    rows += [(f"bytes of keys and values for {LENGTH:,} positions", windowed["cache"], whole["cache"]),
             ("bytes of the arena", windowed["arena"], whole["arena"])]
    return "\n".join([f"| Cortex-M4, steps | window of {WINDOW} | all keys |", "|---|---|---|"] +
                     [f"| {words} | {a:,} | {b:,} |" for words, a, b in rows])


def numbers_of(text):
    return [int(n.replace(",", "")) for n in re.findall(r"(?<=\| )[\d,]+(?= \|)", text)]


def written_table():
    with open(os.path.join(ROOT, "tests", "MEASURED.md"), encoding="utf-8") as file:
        text = file.read()
    return text[text.index(BEGIN):text.index(END)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--elf", help="window_counts, as the preset builds it")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "window"))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not args.elf:
        subprocess.run(["cmake", "-S", ROOT, "--preset", CORE, "-B", args.build], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", args.build, "--target", "window_counts"], check=True, stdout=subprocess.DEVNULL)
        args.elf = os.path.join(args.build, "bin", "window_counts")
    with tempfile.TemporaryDirectory() as folder:
        plugin = build_plugin(folder)
        run = lambda window, length, positions: measure(args.elf, plugin, args.heed, folder, window, length, positions)
        windowed, whole = run(WINDOW, LENGTH, POSITIONS), run(0, LENGTH, POSITIONS)
        shorter = run(WINDOW, LENGTH // 4, ())
    print(table(windowed, whole))
    steady = [windowed[p] for p in STEADY]
    errors = []
    if max(steady) > (1 + NOISE) * min(steady):
        errors.append(f"steps through the window take {min(steady):,} to {max(steady):,} instructions")
    if windowed["arena"] != shorter["arena"]:
        errors.append(f"the arena for {LENGTH} positions has {windowed['arena']:,} bytes, for {LENGTH // 4} {shorter['arena']:,}")
    if not all(a < b for a, b in zip([whole[p] for p in STEADY], [whole[p] for p in STEADY[1:]])) or whole["cache"] < 8 * windowed["cache"]:
        errors.append("without a window it takes no more")
    if args.check:
        now, then = numbers_of(table(windowed, whole)), numbers_of(written_table())
        if len(now) != len(then) or any(a > 1.02 * b for a, b in zip(now, then)):
            errors.append("tests/MEASURED.md says something else; run this script with --write")
    if args.write and not errors:
        write_between(os.path.join(ROOT, "tests", "MEASURED.md"), BEGIN, END, table(windowed, whole))
    for e in errors:
        print("window.py: " + e, file=sys.stderr)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
