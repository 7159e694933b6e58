#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The classifier that examples/models/README.md describes, made from the lines that stand there and weights that follow from the
tensors' names.

    classifier_example.py HEED COVER_RUN         the test: floats within 1e-4 of numpy's, int8 at cosine 0.999, and `heed encode`
                                                 gives the class and its name
    classifier_example.py HEED --image OUT.heed --target TARGET
                                                 writes an image for a board, and prints the digest of the vectors that
                                                 examples/firmware/encoder.cpp makes
"""
import argparse
import json
import math
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SENSOR_VECTORS = 40  # HEED_ENCODER_VECTORS


def described():
    """(the description, {name: shape}), as the document has them."""
    with open(os.path.join(ROOT, "examples", "models", "README.md"), encoding="utf-8") as file:
        section = file.read().split("<!-- classifier begins -->")[1].split("<!-- classifier ends -->")[0]
    text, listing = re.findall(r"```(?:json)?\n(.*?)```", section, re.DOTALL)
    description, shapes = json.loads(text), {}
    for line in listing.splitlines():
        names, sizes = line.split()[0].rstrip(","), re.findall(r"\[([0-9, ]+)\]", line)
        for layer in range(description["stacks"][0]["n_layers"]) if ".L." in names else [0]:
            name = names.replace("layers.L.", f"layers.{layer}.")
            for suffix, size in zip(("", ".bias"), sizes):
                shapes[name + suffix] = [int(n) for n in size.split(",")]
    return description, shapes


def weights(name, shape):
    """Floats of a generator that begins with the CRC-32 of the name: gains around 1, rows of matrices of length about 1.7."""
    state, numbers = zlib.crc32(name.encode()), []
    spread = 6.0 / math.sqrt(shape[-1]) if len(shape) == 2 else 1.0
    for _ in range(math.prod(shape)):
        state = (state * 1664525 + 1013904223) % 2 ** 32
        u = (state >> 8) / 2 ** 24 - 0.5
        numbers.append(1.0 + u if name.endswith("_gain") else spread * u)
    return numbers


def write_model(folder):
    """Writes model.json and weights.safetensors; (the description, {name: shape})."""
    description, shapes = described()
    header, data = {}, b""
    for name, shape in shapes.items():
        part = struct.pack(f"<{math.prod(shape)}f", *weights(name, shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "weights.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
        json.dump(description, file)
    return description, shapes


def quantize(heed, folder, image, *options):
    subprocess.run([heed, "quantize", "weights.safetensors", "--description", "model.json", "-o", os.path.abspath(image), *options],
                   check=True, cwd=folder, stdout=subprocess.DEVNULL)


def encode(heed, image, folder, vectors):
    """What `heed encode --json` says of one sequence of vectors [n][width]."""
    path = os.path.join(folder, "vectors.f32")
    numbers = [x for vector in vectors for x in vector]
    with open(path, "wb") as file:
        file.write(struct.pack(f"<{len(numbers)}f", *numbers))
    return json.loads(subprocess.run([heed, "encode", image, "--vectors", path, "--json"], check=True, stdout=subprocess.PIPE).stdout)


def sensor_vectors(width):
    """Those of examples/firmware/encoder.cpp."""
    numbers = [(i * 37 % 101 - 50) / 32.0 for i in range(SENSOR_VECTORS * width)]
    return [numbers[i:i + width] for i in range(0, len(numbers), width)]


def test(heed, cover_run, folder):
    sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
    import numpy as np
    import description_model

    description, shapes = write_model(folder)
    model = description_model.Model(description, {name: np.float32(weights(name, shape)).reshape(shape) for name, shape in shapes.items()})
    stack = description["stacks"][0]
    random = np.random.default_rng(1)
    sequences = [np.float32(sensor_vectors(stack["d_input"]))]
    sequences += [np.float32(random.normal(0, 1, (n, stack["d_input"]))) for n in (1, 7, stack["max_seq"])]
    cases = [{"input": {"vectors": x}, "expected": model.outputs({"vectors": x})} for x in sequences]
    assert not model.unused(), f"numpy needs no {model.unused()}"
    description_model.write_inputs(os.path.join(folder, "inputs.json"), [dict(c, input=dict(c["input"])) for c in cases])
    line = json.loads(subprocess.run([cover_run, folder], check=True, stdout=subprocess.PIPE).stdout)
    assert line["float_difference"] <= 1e-4, line
    assert line["cosine_smallest"] >= 0.999, line

    image, found = os.path.join(folder, "motion.heed"), set()
    quantize(heed, folder, image)
    for case in cases:
        answer = encode(heed, image, folder, case["input"]["vectors"].tolist())
        best = int(case["expected"][0].argmax())
        found.add(best)
        assert (answer["class"], answer["label"]) == (best, description["classes"][best]), f"{answer} instead of class {best}"
    assert len(found) > 1, "one class for all"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heed")
    parser.add_argument("cover_run", nargs="?")
    parser.add_argument("--image")
    parser.add_argument("--target")
    args = parser.parse_args()
    heed = os.path.abspath(args.heed)
    with tempfile.TemporaryDirectory() as folder:
        if not args.image:
            return test(heed, os.path.abspath(args.cover_run), folder)
        description, _ = write_model(folder)
        quantize(heed, folder, args.image, "--target", args.target)
        host_image = os.path.join(folder, "host.heed")
        quantize(heed, folder, host_image)
        print(encode(heed, host_image, folder, sensor_vectors(description["stacks"][0]["d_input"]))["digest"])


if __name__ == "__main__":
    main()
