#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`heed quantize WEIGHTS.safetensors --description MODEL.json`, with --calibration and --value-map: images, what is printed, and what
is refused without a file.

    quantize_description_test.py SOURCE_DIR HEED...   HEED: the program, behind its emulator if it needs one

The models are those of tests/quant/described.json, whose outputs numpy gave.
"""
import json
import math
import os
import re
import shutil
import struct
import sys
import tempfile

from described_models import Models, floats, weights, write
from heed_program import Heed, attempt, check, finish, same


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write_safetensors(path, tensors):
    """{name: (shape, numbers)}"""
    header, data = {}, b""
    for name, (shape, numbers) in tensors.items():
        part = floats(numbers)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    return path


class Quantize:
    """Runs `heed quantize` on a model of described.json."""

    def __init__(self, models, name, **more):
        self.models, self.heed = models, models.heed
        self.weights, self.description = models.source(name, **more)
        self.image = os.path.join(models.folder, "new.heed")

    def __call__(self, *more):
        """What is printed; the image is there."""
        if os.path.exists(self.image):
            os.remove(self.image)
        text = self.heed("quantize", self.weights, "--description", self.description, "-o", self.image, *more).stdout.decode()
        check(os.path.exists(self.image), f"{more}: no image")
        return text

    def bytes(self, *more):
        self(*more)
        return read(self.image)

    def refuses(self, why, *more):
        """No image is made, and one that was there stays as it was."""
        kept = write(self.models.folder, "kept.heed", b"as it was")
        for output in (self.image, kept):
            if output == self.image and os.path.exists(output):
                os.remove(output)
            self.heed.refuses(why, "quantize", self.weights, "--description", self.description, "-o", output, *more)
        check(not os.path.exists(self.image), f"{why}: an image was made")
        check(read(kept) == b"as it was", f"{why}: the file that was there changed")


def vectors_of(models, name):
    return models.cases(name)[0]["input"]["vectors"]


def answer_of(models, name, image):
    """What a pooled encoder says of the vectors of described.json."""
    return models.heed.json("encode", image, "--vectors", write(models.folder, "vectors.f32", floats(vectors_of(models, name))))


def check_outputs(models, name, image, what):
    """int8's logits are numpy's up to one part in twenty."""
    found, (expected,) = answer_of(models, name, image)["logits"], models.cases(name)[0]["expected"]
    error = math.dist(found, expected) / math.hypot(*expected)
    check(error < 0.05, f"{what}: error {error}")


def test_description(models):
    for name in ("bert", "decoder", "whisper", "two_heads"):
        quantize = Quantize(models, name)
        text = quantize()
        check("(description, " in text and "value maps" in text, f"{name}: {text!r}")
        inspected = models.heed.json("inspect", quantize.image)
        stacks = models.given[name]["description"]["stacks"]
        same(f"{name}: stacks", len(inspected["stacks"]), len(stacks))
        for given, found in zip(stacks, inspected["stacks"]):
            for field in ("d_model", "d_ff", "n_layers", "n_heads", "max_seq", "norm_placement", "activation", "mask", "pooling"):
                if field in given:
                    same(f"{name}: {field}", found[field], given[field])
    quantize = Quantize(models, "two_heads")
    quantize()
    check_outputs(models, "two_heads", quantize.image, "two_heads")
    first = quantize.bytes()
    check(quantize.bytes() == first, "not the same image again")
    digest = answer_of(models, "two_heads", quantize.image)["digest"]

    # Tensors under other names give the same numbers.
    given = models.tensors("two_heads")
    renamed = {name: f"t{i}" for i, name in enumerate(given)}
    other = Quantize(models, "two_heads", tensors=renamed)
    write_safetensors(other.weights, {renamed[n]: (shape, weights(n, math.prod(shape))) for n, shape in given.items()})
    other()
    same("renamed tensors", answer_of(models, "two_heads", other.image)["digest"], digest)


def test_refusals(models):
    def stack(**more):
        return [dict(models.given["two_heads"]["description"]["stacks"][0], **more)]

    for why, more in (("windows", {"stacks": stack(windows=3)}), ("n_layers", {"stacks": stack(n_layers=0)}), ("none of", {"stacks": stack(norm="batch")}),
                      ("w_query", {"stacks": stack(head_dim=5)})):
        Quantize(models, "two_heads", **more).refuses(why)
    quantize = Quantize(models, "two_heads")
    tensors = {n: (shape, weights(n, math.prod(shape))) for n, shape in models.tensors("two_heads").items()}
    write_safetensors(quantize.weights, {n: t for n, t in tensors.items() if not n.endswith("1.w_down")})
    quantize.refuses("w_down")
    write_safetensors(quantize.weights, dict(tensors, surplus=([2], [1.0, 2.0])))
    quantize.refuses("surplus")
    name = next(iter(tensors))
    shape, numbers = tensors[name]
    write_safetensors(quantize.weights, dict(tensors, **{name: (shape, [float("nan")] + numbers[1:])}))
    quantize.refuses("not finite")
    write_safetensors(quantize.weights, tensors)
    for text, why in ((b"{", "cannot be parsed"), (b'{"heed": 2, "stacks": []}', "stacks [] is not"), (b"[]", "is not an object")):
        write(models.folder, os.path.basename(quantize.description), text)
        quantize.refuses(why)
    # Each fault is reported under the name of its file.
    for fault, more in (("n_heads", {"stacks": stack(n_heads=0)}), ("stacks is missing", {"stacks": None}), ("tensors: ", {"tensors": {"stacks.0.w_nothing": "x"}})):
        quantize = Quantize(models, "two_heads", **more)
        quantize.refuses(quantize.description + ": ")
        quantize.refuses(fault)
    for fault, changed in (("missing", {n: t for n, t in tensors.items() if not n.endswith("1.w_down")}), ("has the shape", dict(tensors, **{name: ([len(numbers)], numbers)})),
                           ("not part of", dict(tensors, surplus=([1], [1.0]))), ("not finite", dict(tensors, **{name: (shape, [float("inf")] + numbers[1:])}))):
        quantize = Quantize(models, "two_heads")
        write_safetensors(quantize.weights, changed)
        quantize.refuses(quantize.weights + ": ")
        quantize.refuses(fault)
    write(models.folder, os.path.basename(quantize.weights), b"?" * 9)
    quantize.refuses(quantize.weights + ": its header is longer")
    # A source is not replaced, whichever it is.
    quantize = Quantize(models, "two_heads")
    for path in (quantize.weights, quantize.description):
        before = read(path)
        models.heed.refuses("which is read", "quantize", quantize.weights, "--description", quantize.description, "-o", path)
        check(read(path) == before, f"{path} changed")


def test_calibration(models):
    quantize = Quantize(models, "two_heads")
    width = models.given["two_heads"]["description"]["stacks"][0]["d_input"]
    inputs = os.path.join(models.folder, "inputs.safetensors")
    plain = quantize.bytes()

    def given(shape, numbers, name="inputs"):
        return write_safetensors(inputs, {name: (shape, numbers)})

    numbers = [((7 * i) % 23 - 11) / 4 + 3 * (i % width == 1) for i in range(2 * 9 * width)]
    check("for given inputs" in quantize("--calibration", given([2, 9, width], numbers)), "what was measured on is not said")
    calibrated = read(quantize.image)
    check(calibrated != plain, "other inputs, the same image")
    check_outputs(models, "two_heads", quantize.image, "calibrated")
    check("for given inputs" in quantize("--calibration", given([9, width], numbers[:9 * width])), "one sequence")
    for why, *file in (("inputs has the shape", [2, 9, width + 1], [0.5] * (18 * (width + 1))), ("inputs has the shape", [width], [0.5] * width),
                       ("not finite", [1, width], [float("inf")] * width), ("max_seq", [40, width], [0.5] * (40 * width)),
                       ("inputs is missing", [1, width], [0.5] * width, "others")):
        quantize.refuses(why, "--calibration", given(*file))
    quantize.refuses("absent.safetensors", "--calibration", os.path.join(models.folder, "absent.safetensors"))
    models.heed.refuses("which is read", "quantize", quantize.weights, "--description", quantize.description, "-o", given([1, width], [0.5] * width),
                        "--calibration", inputs)
    quantize = Quantize(models, "bert")
    plain = quantize.bytes()
    check(quantize.bytes("--calibration", given([2, 5], [0, 3, 1, 2, 3, 3, 1, 1, 2, 0])) != plain, "given tokens change nothing")
    quantize.refuses("no token", "--calibration", given([2], [0.5, 1]))


def test_value_maps(models):
    quantize = Quantize(models, "two_heads")
    forms = {}
    for form in ("factors", "undivided"):
        text = quantize("--value-map", form)
        (line,) = [l for l in text.splitlines() if l.startswith("value maps")]
        costs = re.fullmatch(form + r": costs as much as (\d+) multiply-adds a position and layer, \w+ (\d+); as asked for", line.split(None, 2)[2])
        check(costs, line)
        forms[form] = int(costs[1]), read(quantize.image)
        same(form, models.heed.json("inspect", quantize.image)["stacks"][0]["value_map"], form)
        check_outputs(models, "two_heads", quantize.image, form)
    cheaper = min(forms, key=lambda form: forms[form][0])
    same("auto is the cheaper one", quantize.bytes() == forms[cheaper][1], True)
    same("auto is the default", quantize.bytes("--value-map", "auto") == forms[cheaper][1], True)
    Quantize(models, "decoder").refuses("query heads share values", "--value-map", "undivided")
    Quantize(models, "last").refuses("factors are not made of them", "--value-map", "factors")
    # An image keeps its numbers.
    image = write(models.folder, "old.heed", forms["factors"][1])
    models.heed.refuses("", "quantize", image, "-o", os.path.join(models.folder, "other.heed"), "--value-map", "undivided")
    models.heed("quantize", quantize.weights, "--description", quantize.description, "-o", quantize.image, "--value-map", "whole", status=2)


def test_contexts(models):
    """Fewer positions of a text or of its source: from floats and from an image alike, and nothing else changes."""
    heed = models.heed

    def contexts(image):
        return [stack["max_seq"] for stack in heed.json("inspect", image)["stacks"]]

    quantize = Quantize(models, "original", generation={"first": [0], "endings": [1]})
    whole = write(models.folder, "whole.heed", quantize.bytes())
    wanted = heed.json("translate", whole, "-p", "abc", "-n", 6)["digest"]
    for options, expected in ((["--source-context", 5], [5, 16]), (["--context", 9], [16, 9]), (["--context", 9, "--source-context", 5], [5, 9])):
        quantize(*options)
        same(f"{options}", contexts(quantize.image), expected)
        heed("quantize", whole, "-o", quantize.image, *options)
        same(f"{options} of an image", contexts(quantize.image), expected)
        same(f"{options}: the same text", heed.json("translate", quantize.image, "-p", "abc", "-n", 6)["digest"], wanted)
    heed.refuses("6 positions, the context has 5", "translate", quantize.image, "-p", "abcabc")
    quantize.refuses("a source context of 17 is more than the model's 16", "--source-context", 17)
    heed.refuses("a source context of 17 is more", "quantize", whole, "-o", quantize.image + "x", "--source-context", 17)
    Quantize(models, "tagger").refuses("one stack, so no source context", "--source-context", 3)
    Quantize(models, "masked_word").refuses("a context of 1 leaves no position beside the class vectors", "--context", 1)
    check("--source-context N" in heed("quantize", "--help").stdout.decode(), "--help does not name it")


def main():
    source_dir, *program = sys.argv[1:]
    folder = tempfile.mkdtemp()
    try:
        models = Models(Heed(program), source_dir, folder)
        for test in (test_description, test_refusals, test_calibration, test_value_maps, test_contexts):
            attempt(test, models)
    finally:
        shutil.rmtree(folder)
    finish()


if __name__ == "__main__":
    main()
