# SPDX-License-Identifier: Apache-2.0
"""described_models.py: the models of tests/quant/described.json as files and images, and files of vectors; for the tests beside it.

Their outputs are those that numpy gave; token i of their vocabularies is letter i.
"""
import json
import math
import os
import struct
import zlib

LETTERS = "abcdefghijkl"


def weights(name, count):
    """As make_described.py has them."""
    state, numbers = zlib.crc32(name.encode()), []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2 ** 32
        u = (state >> 8) / 2 ** 24 - 0.5
        numbers.append(1.0 + u if name.endswith("_gain") else 2.0 * u)
    return numbers


class Models:
    def __init__(self, heed, source_dir, folder):
        self.heed, self.folder = heed, folder
        with open(os.path.join(source_dir, "tests", "quant", "described.json"), encoding="utf-8") as file:
            self.given = {m["description"]["name"]: m for m in json.load(file)["models"]}

    def cases(self, name):
        return self.given[name]["cases"]

    def tensors(self, name):
        return self.given[name]["tensors"]

    def source(self, name, **more):
        """The files of the float model; tokens are letters."""
        model = self.given[name]
        description = dict(model["description"], **more)
        stacks = description["stacks"] or model["description"]["stacks"]
        if stacks[-1].get("input", "tokens") == "tokens":
            description.setdefault("tokenizer", "chars:" + LETTERS[:stacks[-1]["vocab_size"]])
        if len(stacks) == 2 and stacks[0].get("input", "tokens") == "tokens":
            description.setdefault("source_tokenizer", "chars:" + LETTERS[:stacks[0]["vocab_size"]])
        header, data = {}, b""
        for tensor, shape in model["tensors"].items():
            part = struct.pack(f"<{math.prod(shape)}f", *weights(tensor, math.prod(shape)))
            header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
            data += part
        text = json.dumps(header).encode()
        at = os.path.join(self.folder, name)
        with open(at + ".safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + data)
        with open(at + ".json", "w", encoding="utf-8") as file:
            json.dump(description, file)
        return at + ".safetensors", at + ".json"

    def image(self, name, **more):
        tensors, description = self.source(name, **more)
        image = os.path.join(self.folder, name + ".heed")
        self.heed("quantize", tensors, "--description", description, "-o", image, "--value-map", "factors"
                  if "undivided" not in json.dumps(self.given[name]["description"]) else "auto")
        return image


def text_of(tokens):
    return "".join(LETTERS[t] for t in tokens)


def write(folder, name, data):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def floats(numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def npy(shape, numbers, form="f", version=1, fortran=False, type_=None):
    header = f"{{'descr': '{type_ or '<f' + str(struct.calcsize(form))}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + struct.pack(f"<{len(numbers)}{form}", *numbers)


def crc32c(data, crc=0):
    """Of an image's sections, and of digests; `crc` is that of what stands before."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
