#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Changes trained models in ways that no float result shows and that ruin int8 unless the quantiser undoes them.

    outlier_transforms.py DATA HEED [--few] [--chunks N] [--truth] [--only WORD]
        DATA   the test data's folder; HEED: the program, behind its emulator if it needs one
        makes each model below, as it is and under each transform, and prints the KL divergence between image and float model on a
        text; fails where a transform makes it more than 1.2 times what it was (and above 1e-4 nats), or changes the float result by more than 1e-5
        --few   all transforms together and nothing else, which takes seconds
        --truth  instead: twenty models of the kind of stories260K, many of them ruined for int8 by no transform that could be undone; prints
                 the KL that `heed quantize` states after reading a text beside that of `heed eval` on another text of the same kind, and
                 fails where they differ by more than 20 %

Models, as descriptions (SPEC.md, part 7): stories260K; the same function as a layer-norm model with gains and biases everywhere,
its stream turned into a space without the mean; and gpt_sort, of the GPT-2 family.

Transforms, with strength k: `values`, `up` and `keys` scale dimensions of one matrix by factors between 2^-k and 2^k, and divide those
of the matrix that reads them; `values*100x3`: three of the dimensions by 100; `bias` gives each value dimension a bias of k
standard deviations, and takes away what that changes; `shift` adds k deviations to all numbers of what layer norms alone read.
"""
import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import description_model
import gpt_sort
import safetensors_file

FLOAT_LIMIT, KL_LIMIT, TRUTH_LIMIT = 1e-5, 1.2, 0.2
NOTHING = 1e-4  # nats: where a model answers with certainty, KL is chance below that
EVERY_BIAS = ["query", "key", "value_down", "value_up", "ffn_in", "down", "norm"]


class Outlier:
    """A model that transforms change in place."""

    def __init__(self, description, tensors, text, chunk_bytes, inputs=None):
        self.description, self.tensors = description, tensors
        self.text, self.chunk_bytes, self.inputs = text, chunk_bytes, inputs  # inputs: [n, tokens] to calibrate on, or None
        self.stack = description["stacks"][0]

    def copy(self):
        return Outlier(copy.deepcopy(self.description), {n: t.copy() for n, t in self.tensors.items()}, self.text,
                       self.chunk_bytes, self.inputs)

    def __getitem__(self, name):
        return self.tensors["stacks.0." + name]

    def __setitem__(self, name, tensor):
        self.tensors["stacks.0." + name] = tensor

    def has(self, name):
        return "stacks.0." + name in self.tensors

    def layers(self):
        return [f"layers.{layer}." for layer in range(self.stack["n_layers"])]

    def size(self, name):
        defaults = {"n_kv_heads": "n_heads"}
        if name == "head_dim":
            return self.stack.get(name, self.stack["d_model"] // self.stack["n_heads"])
        return self.stack.get(name, self.stack.get(defaults.get(name, name)))

    def give_biases(self, names):
        """Zeros where the model has none yet."""
        places = {"value_down": ("w_value_down",), "value_up": ("w_value_up",)}
        for name in names:
            if name not in self.stack.setdefault("biases", []):
                self.stack["biases"].append(name)
                for at in self.layers():
                    for matrix in places[name]:
                        self[at + matrix + ".bias"] = np.zeros(len(self[at + matrix]))

    def scale_rows(self, matrix, factors):
        self[matrix] = self[matrix] * factors[:, None]
        if self.has(matrix + ".bias"):
            self[matrix + ".bias"] = self[matrix + ".bias"] * factors

    def outputs(self, tokens):
        return description_model.Model(self.description, {n: t.astype("<f4") for n, t in self.tensors.items()}).outputs(
            {"tokens": tokens})

    def write(self, folder):
        safetensors_file.write(os.path.join(folder, "weights.safetensors"), self.tensors)
        with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
            json.dump(self.description, file)
        if self.inputs is None:
            return []
        calibration = os.path.join(folder, "inputs.safetensors")
        safetensors_file.write(calibration, {"inputs": self.inputs})
        return ["--calibration", calibration]


# -- Models -----------------------------------------------------------------------------------------------------------

def stories(data, max_seq=None):
    """stories260K: llama2.c's order of tensors, tied embeddings."""
    folder = os.path.join(data, "stories260K")
    with open(os.path.join(folder, "stories260K.bin"), "rb") as file:
        header = np.frombuffer(file.read(28), "<i4")
        numbers = np.frombuffer(file.read(), "<f4").astype(np.float64)
    d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size, context = (int(x) for x in header)
    kv = n_kv_heads * (d_model // n_heads)
    at, tensors = 0, {}

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return numbers[at - n:at].reshape(shape)

    tensors["token_embedding"] = take(vocab_size, d_model)
    for name, *shape in (("attention_gain", d_model), ("w_query", d_model, d_model), ("w_key", kv, d_model),
                         ("w_value_down", kv, d_model), ("w_value_up", d_model, d_model), ("ffn_gain", d_model),
                         ("w_gate", d_ff, d_model), ("w_down", d_model, d_ff), ("w_up", d_ff, d_model)):
        for layer, part in enumerate(take(n_layers, *shape)):
            tensors[f"layers.{layer}.{name}"] = part
    tensors["final_gain"] = take(d_model)
    description = {"heed": 2, "tokenizer": os.path.join(os.path.abspath(folder), "tok512.bin"), "stacks": [{
        "vocab_size": vocab_size, "d_model": d_model, "d_ff": d_ff, "n_layers": n_layers, "n_heads": n_heads,
        "n_kv_heads": n_kv_heads, "max_seq": max_seq or context, "position": "rotary", "gated": True, "activation": "silu",
        "tied_unembedding": True}]}
    return Outlier(description, {"stacks.0." + n: t for n, t in tensors.items()},
                   os.path.join(data, "text", "tinystories.txt"), 900)


def layer_norm_stories(data):
    """The same function. With Q [d, 64] of orthonormal columns that are all orthogonal to (1, ..., 1), a stream sqrt(d / 64) Q x has the
    mean 0 and the mean square of x, so its layer norm is the RMS norm of x, turned and stretched alike."""
    model, random = stories(data), np.random.default_rng(5)
    stack, narrow, wide = model.stack, model.stack["d_model"], 72
    q = np.linalg.qr(np.column_stack([np.ones(wide), random.normal(size=(wide, narrow))]))[0][:, 1:] * np.sqrt(wide / narrow)
    back = q.T * (narrow / wide)
    stack.update(d_model=wide, head_dim=narrow // stack["n_heads"], norm="layer", biases=EVERY_BIAS,
                 tied_unembedding=False)

    def read(matrices, gain, bias, trained):
        """What stands behind a norm: its trained gain goes into the matrices, which get another one, and a bias, to undo."""
        g, b = 2.0 ** random.uniform(-1, 1, wide), 0.3 * random.normal(size=wide)
        for m in matrices:
            weight = (model[m] * trained) @ back / g
            model[m], model[m + ".bias"] = weight, -weight @ b
        model[gain], model[bias] = g, b

    embedding = model["token_embedding"]
    model["unembedding"], model["token_embedding"] = embedding, embedding @ q.T
    for at in model.layers():
        read([at + m for m in ("w_query", "w_key", "w_value_down")], at + "attention_gain", at + "attention_norm_bias",
             model[at + "attention_gain"])
        read([at + m for m in ("w_gate", "w_up")], at + "ffn_gain", at + "ffn_norm_bias", model[at + "ffn_gain"])
        for m in ("w_value_up", "w_down"):
            model[at + m] = q @ model[at + m]
            model[at + m + ".bias"] = np.zeros(wide)
    read(["unembedding"], "final_gain", "final_norm_bias", model["final_gain"])
    model.stack["biases"] = EVERY_BIAS + ["unembedding"]
    return model


def sorting(data):
    """gpt_sort from the JSON of its authors; a text of problems and their solutions is made here."""
    with open(os.path.join(data, "gpt_sort", "gpt-nano-sort-model.json"), encoding="utf-8") as file:
        source = json.load(file)
    config, tensors = source["config"], {}

    def take(name):
        shape, numbers = gpt_sort.decode(source[name])
        return np.array(numbers, np.float64).reshape(shape)

    def put(names, at):
        for kind, suffix in (("weight", ""), ("bias", ".bias")):
            for name, part in zip(names, np.split(take(f"{at}.{kind}"), len(names))):
                tensors[name + suffix] = part

    def norm(gain, bias, at):
        tensors[gain], tensors[bias] = take(at + ".weight"), take(at + ".bias")

    tensors["token_embedding"], tensors["position_embedding"] = take("transformer.wte.weight"), take("transformer.wpe.weight")
    for layer in range(config["n_layer"]):
        at, h = f"layers.{layer}.", f"transformer.h.{layer}."
        norm(at + "attention_gain", at + "attention_norm_bias", h + "ln_1")
        norm(at + "ffn_gain", at + "ffn_norm_bias", h + "ln_2")
        put([at + m for m in ("w_query", "w_key", "w_value_down")], h + "attn.c_attn")
        put([at + "w_value_up"], h + "attn.c_proj")
        put([at + "w_up"], h + "mlp.c_fc")
        put([at + "w_down"], h + "mlp.c_proj")
    norm("final_gain", "final_norm_bias", "transformer.ln_f")
    tensors["unembedding"] = take("lm_head.weight")
    description = {"heed": 2, "tokenizer": "chars:ABC", "stacks": [{
        "vocab_size": config["vocab_size"], "d_model": config["n_embd"], "d_ff": 4 * config["n_embd"],
        "n_layers": config["n_layer"], "n_heads": config["n_head"], "max_seq": config["block_size"],
        "position_table": "learned", "norm": "layer", "activation": "gelu_tanh", "biases": EVERY_BIAS}]}
    random = np.random.default_rng(7)
    problems = random.integers(0, 3, (1600, 6))
    solved = np.concatenate([problems, np.sort(problems, axis=1)], axis=1)
    text = os.path.join(tempfile.gettempdir(), f"heed_sorting_{os.getpid()}.txt")
    with open(text, "w", encoding="ascii") as file:
        file.write("".join("ABC"[letter] for letter in solved[1000:].reshape(-1)))
    return Outlier(description, {"stacks.0." + n: t for n, t in tensors.items()}, text, 12, solved[:1000, :11])


# -- Transforms -------------------------------------------------------------------------------------------------------

def factors_of(n, strength, random):
    """n factors between 2^-strength and 2^strength; or `100x3`: three of them 100, the others 1."""
    if isinstance(strength, str):
        size, channels = (int(x) for x in strength.split("x"))
        factors = np.ones(n)
        factors[random.choice(n, min(channels, n), replace=False)] = size
        return factors
    return 2.0 ** random.uniform(-strength, strength, n)


def shared(model, factors):
    """Factors of KV head dimensions, for each query head that reads them."""
    kv_heads = model.size("n_kv_heads")
    return np.repeat(factors.reshape(kv_heads, -1), model.size("n_heads") // kv_heads, axis=0).reshape(-1)


def values(model, strength, random):
    for at in model.layers():
        s = factors_of(model.size("n_kv_heads") * model.size("head_dim"), strength, random)
        model.scale_rows(at + "w_value_down", s)
        model[at + "w_value_up"] = model[at + "w_value_up"] / shared(model, s)


def up(model, strength, random):
    if not model.stack.get("gated") and model.stack["activation"] != "relu":
        return
    for at in model.layers():
        s = factors_of(model.size("d_ff"), strength, random)
        model.scale_rows(at + "w_up", s)
        model[at + "w_down"] = model[at + "w_down"] / s


def keys(model, strength, random):
    rotates = model.stack.get("position") == "rotary"
    for at in model.layers():
        n = model.size("n_kv_heads") * model.size("head_dim")
        s = np.repeat(factors_of(n // 2, strength, random), 2) if rotates else factors_of(n, strength, random)
        model.scale_rows(at + "w_key", s)
        model.scale_rows(at + "w_query", shared(model, 1.0 / s))


def bias(model, strength, random):
    model.give_biases(["value_down", "value_up"])
    for at in model.layers():
        down, value_up = at + "w_value_down", at + "w_value_up"
        deviation = np.linalg.norm(model[down], axis=1)  # of a normed input
        b = strength * deviation * random.choice([-1.0, 1.0], len(deviation))
        model[down + ".bias"] = model[down + ".bias"] + b
        model[value_up + ".bias"] = model[value_up + ".bias"] - model[value_up] @ shared(model, b)


def shift(model, strength, random):
    if model.stack.get("norm") != "layer":
        return
    for name in ("token_embedding", "position_embedding"):
        if model.has(name):
            model[name] = model[name] + strength * model[name].std() * random.choice([-1.0, 1.0])
    for at in model.layers():
        for name in ("w_value_up", "w_down"):
            w = model[at + name]
            model[at + name] = w + strength * w.std() * random.normal(size=w.shape[1])
            model[at + name + ".bias"] = model[at + name + ".bias"] + strength * random.normal()


TRANSFORMS = {"values": values, "up": up, "keys": keys, "bias": bias, "shift": shift}


def cases(few):
    """Names of transforms with their strengths."""
    together = [("shift", 10), ("values", 5), ("up", 5), ("keys", 5), ("bias", 10)]
    if few:
        yield together
        return
    for k in (1, 2, 3, 4, 5, 6):
        for name in ("values", "up", "keys"):
            yield [(name, k)]
        yield [("values", k), ("up", k), ("keys", k)]
    for size in ("10", "100"):
        for channels in ("1", "3", "8"):
            for name in ("values", "up", "keys"):
                yield [(name, size + "x" + channels)]
    for k in (1, 3, 10):
        yield [("bias", k)]
        yield [("shift", k)]
    yield together
    yield [("shift", 10), ("values", "100x3"), ("up", "100x3"), ("keys", "100x3"), ("bias", 10)]


def name_of(case):
    return " ".join(f"{name}{'*' if isinstance(k, str) else ':'}{k}" for name, k in case) or "as it is"


# -- Models good and bad ----------------------------------------------------------------------------------------------

def sharpened(model, factor):
    """Scores times a factor."""
    for at in model.layers():
        model[at + "w_query"] = model[at + "w_query"] * factor


def spiked(model, matrices, factor):
    """One weight of a hundred times a factor."""
    random = np.random.default_rng(21)
    for at in model.layers():
        for name in matrices:
            w = model[at + name]
            model[at + name] = np.where(random.random(w.shape) < 0.01, factor * w, w)


def noisy(model, deviations):
    random = np.random.default_rng(22)
    for at in model.layers():
        for name in ("w_query", "w_key", "w_value_down", "w_value_up", "w_up", "w_gate", "w_down"):
            w = model[at + name]
            model[at + name] = w + deviations * w.std() * random.normal(size=w.shape)


def loud(model, factor):
    """One channel of the embeddings times a factor."""
    w = model["token_embedding"].copy()
    w[:, 7] *= factor
    model["token_embedding"] = w


def good_and_bad(data):
    """Twenty models and their names."""
    for name, make in (("stories260K", stories), ("layer norm", layer_norm_stories)):
        yield name, make(data)
        model = make(data)
        for transform, k in (("shift", 10), ("values", 5), ("up", 5), ("keys", 5), ("bias", 10)):
            TRANSFORMS[transform](model, k, np.random.default_rng(11))
        yield name + ", all transforms", model
    attention, feed = ("w_query", "w_key"), ("w_up", "w_down")
    for name, change in [(f"scores x {k}", lambda m, k=k: sharpened(m, k)) for k in (1.5, 2, 3, 4)] + \
                        [(f"spikes x {k} in {of[0]}, {of[1]}", lambda m, k=k, of=of: spiked(m, of, k))
                         for of in (attention, feed) for k in (5, 10, 20)] + \
                        [(f"noise of {k}", lambda m, k=k: noisy(m, k)) for k in (0.2, 0.5, 1.0)] + \
                        [(f"a channel x {k}", lambda m, k=k: loud(m, k)) for k in (3, 10, 30)]:
        model = stories(data)
        change(model)
        yield name, model


# -- Measuring --------------------------------------------------------------------------------------------------------

class Measurement:
    def __init__(self, heed, chunks, more):
        self.heed, self.chunks, self.more = heed, chunks, more

    def run(self, *arguments):
        done = subprocess.run([*self.heed, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(f"heed {' '.join(arguments)}: {done.stderr.decode()}")
        return json.loads(done.stdout)

    def __call__(self, model):
        """What quantize prints, and what eval does."""
        with tempfile.TemporaryDirectory() as folder:
            calibration = model.write(folder)
            weights, description, image = (os.path.join(folder, n) for n in
                                           ("weights.safetensors", "model.json", "model.heed"))
            stated = self.run("quantize", weights, "--description", description, "-o", image, "--json", *calibration,
                              *self.more)
            found = self.run("eval", image, model.text, "--chunk-bytes", str(model.chunk_bytes), "--max-chunks",
                             str(self.chunks if model.chunk_bytes > 100 else 30 * self.chunks), "--reference", weights,
                             "--description", description, "--json")
            return stated, found


def truth(options):
    """How many of the models say something else than heed eval."""
    with open(os.path.join(options.data, "text", "tinystories.txt"), "rb") as source, tempfile.TemporaryDirectory() as folder:
        pages = [source.read(4096) for _ in range(40)]  # read by turns; further on the file is harder for these models
        read, other = os.path.join(folder, "read.txt"), os.path.join(folder, "other.txt")
        for path, first in ((read, 0), (other, 1)):
            with open(path, "wb") as file:
                file.write(b"".join(pages[first::2]))
        measure, wrong = Measurement(options.heed, options.chunks, ["--calibration", read]), 0
        for name, model in good_and_bad(options.data):
            if options.only and options.only not in name:
                continue
            model.text = other
            stated, found = measure(model)
            said, error, kl = stated["fidelity"]["kl"], stated["fidelity"]["kl_standard_error"], found["kl"]
            bad = abs(said / kl - 1.0) > TRUTH_LIMIT
            wrong += bad
            print(f"{name:36} stated {said:.5f} +- {error:.5f}  eval {kl:.5f}  {said / kl:5.2f}{'  <--' if bad else ''}", flush=True)
    return f"{wrong} beyond the limits" if wrong else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("heed", nargs="+")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--with", dest="more", default="", help="more words for heed quantize")
    options = parser.parse_args()
    if not os.path.exists(os.path.join(options.data, "stories260K", "stories260K.bin")):
        print("skipped: outlier_transforms needs HEED_TEST_DATA")
        return
    if options.truth:
        sys.exit(truth(options))
    measure, wrong = Measurement(options.heed, options.chunks, options.more.split()), 0
    for title, make in (("stories260K", stories), ("layer norm", layer_norm_stories), ("gpt_sort", sorting)):
        if options.only and options.only not in title:
            continue
        plain = make(options.data)
        tokens = np.random.default_rng(3).integers(0, plain.stack["vocab_size"], min(64, plain.stack["max_seq"]))
        exact, base = plain.outputs(tokens), None
        for case in [[]] + list(cases(options.few)):
            model, random = plain.copy(), np.random.default_rng(11)
            for name, strength in case:
                TRANSFORMS[name](model, strength, random)
            if case and all(np.array_equal(t, plain.tensors.get(n)) for n, t in model.tensors.items()):
                continue  # a transform that this model does not have
            off = np.abs(model.outputs(tokens) - exact).max() / np.abs(exact).max()
            stated, found = measure(model)
            kl = found["kl"]
            base = base or kl
            bad = off > FLOAT_LIMIT or kl > max(KL_LIMIT * base, NOTHING)
            said = (stated.get("fidelity") or {}).get("kl")
            wrong += bad
            passes = " ".join(p["name"] for p in stated["passes"])
            print(f"{title:12} {name_of(case):52} float {off:.0e}  KL {kl:.5f}  {kl / base:7.2f} x"
                  f"  stated {said if said is None else round(said, 5)}  {passes}{'  <--' if bad else ''}", flush=True)
    if wrong:
        sys.exit(f"{wrong} beyond the limits")


if __name__ == "__main__":
    main()
