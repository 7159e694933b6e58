#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Weights and outputs from PyTorch itself, as golden files: what heed is held against where no PyTorch is installed.

    torch_models.py           compares tests/golden/torch with what PyTorch computes here, and with description_model.py
    torch_models.py --write   writes tests/golden/torch again

Needs PyTorch 1.13 (Debian 12's python3-torch) to write, and compares with any later one. For each of three seeds:

  encoder      nn.TransformerEncoder, norms before and behind, ReLU and GELU: four descriptions of the same weights
  transformer  nn.Transformer, the original encoder-decoder with its last norms, norms before and behind
  attention    nn.MultiheadAttention whose keys and values come from inputs of different widths

and for one seed nn.TransformerEncoder between other parts (classifier, tagger, embedder, decoder), and a decoder with the names of
nanoGPT, with biases and without (gpt, gpt_unbiased). torch_kinds.py has the modules. The files that export_torch.py's command line
writes of a saved module are compared with what its functions return, and what it cannot express is refused. Where PyTorch has layers without biases (2.1 and later) they
are compared with description_model.py alone.

NAME.SEED.safetensors are the weights as examples/models/export_torch.py writes them, with the names of the first variant,
NAME.SEED.VARIANT.json a description, and NAME.SEED.VARIANT.inputs.json a case as description_model.py has it. The attention
layer has no description: its inputs are "input" (the queries' vectors) and "source" (the keys' and the values' inputs side by
side). All weights are drawn, gains and biases too, and so that scores and changes are as large as weight_scale.py asks for; a draw
of which a plain rounding to int8 leaves less than LEAST_ROUNDED_COSINE at some position is replaced, as in covering.py.
"""
import contextlib
import io
import json
import os
import sys
import tempfile

import numpy as np
import torch

import description_model
import safetensors_file
import weight_scale
from covering import LEAST_ROUNDED_COSINE, MOST_DRAWS
from torch_kinds import KINDS, Attention, Unbiased, export_torch

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "torch")
LIMIT = 1e-5  # of the largest output


def draw(module, generator):
    """Matrices as nn.Linear draws them, but of variance 1 / columns; gains around 1; biases of a third."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() > 1:
                p.uniform_(-1, 1, generator=generator).mul_((3.0 / p.shape[1]) ** 0.5)
            elif ("norm" in name or "ln_" in name or "dense.3" in name) and name.endswith("weight"):
                p.uniform_(0.6, 1.4, generator=generator)
            else:
                p.normal_(0, 0.3, generator=generator)


def factor(target, measured):
    return max(1.0, float(f"{target / measured:.3g}"))


def enlarge(tensors, at, n_heads, number, seen):
    """Multiplies the queries and what moves the residual stream, where description_model.py saw them too small. The tensors are
    those of the module, or parts of them, and so it changes."""
    def multiply(name, what):
        by = factor(weight_scale.CHANGE_RATIO, weight_scale.change_ratio(seen[what + "_change", number], seen[what + "_residual", number]))
        for tensor in (tensors[at + name], tensors.get(at + name + ".bias")):
            if tensor is not None:
                tensor.mul_(by)

    for what, scores, part in (("attention", "scores", ""), ("cross", "cross_scores", "cross.")):
        if at + part + "w_query" in tensors:
            enlarge_queries(tensors, at + part, n_heads, seen[scores, number], factor)
            multiply(part + "w_value_up", what)
    multiply("w_down", "ffn")


def enlarge_queries(tensors, at, n_heads, scores, factor):
    for tensor in (tensors[at + "w_query"], tensors.get(at + "w_query.bias")):
        if tensor is not None:
            for head, deviation in zip(tensor.view(n_heads, -1), weight_scale.score_deviation(scores)):
                head.mul_(factor(weight_scale.SCORE_DEVIATION, deviation))


def models(kind, seed):
    """[(variant, description, tensors, case)] of a kind, of the first draw that is not too sensitive."""
    for draw in range(MOST_DRAWS):
        drawn = list(drawn_models(kind, seed + 1000 * draw))
        if not any(is_too_sensitive(description, tensors, case) for _, description, tensors, case in drawn):
            return drawn
    raise AssertionError(f"{kind.name} of seed {seed} is too sensitive")


def is_too_sensitive(description, tensors, case):
    if not description:
        return False
    return weight_scale.rounded_cosines(description_model.Model(description, tensors), [case], LEAST_ROUNDED_COSINE) is None


def drawn_models(kind, seed):
    """(variant, description, tensors, case) of a kind; the variants share weights that are large enough for each of them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = kind.inputs(generator)
    modules = {variant: kind.build(variant).eval() for variant in kind.variants}
    first = modules[kind.variants[0]]
    draw(first, generator)
    for _ in range(8):
        for module in modules.values():
            module.load_state_dict(first.state_dict())
            description, tensors = kind.export(module)
            seen = reference(description, as_arrays(tensors), kind.case(**inputs))[1]
            with torch.no_grad():
                if not description:
                    enlarge_queries(tensors, "", Attention.sizes["num_heads"], seen[0]["scores", 0],
                                    lambda target, measured: max(1.0, target / measured))
                    continue
                for index, stack in enumerate(description["stacks"]):
                    for number in range(stack["n_layers"]):
                        enlarge(tensors, f"stacks.{index}.layers.{number}.", stack["n_heads"], number, seen[index])
            first.load_state_dict(module.state_dict())
    file_names = None
    for variant, module in modules.items():
        module.load_state_dict(first.state_dict())
        description, tensors = kind.export(module)
        file_names = file_names or list(tensors)
        other_names = {name: file_name for name, file_name in zip(tensors, file_names) if name != file_name}
        if other_names:
            description["tensors"] = other_names
        tensors = dict(zip(file_names, as_arrays(tensors).values()))
        with torch.no_grad():
            outputs = kind.run(module.double(), **inputs)
        yield variant, description, tensors, dict(kind.case(**inputs), expected=outputs.numpy())


def as_arrays(tensors):
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}


def reference(description, tensors, case):
    """description_model.py's outputs, and for each stack what was seen in it (weight_scale.Watched). The attention layer alone runs
    as cross-attention of a second stack."""
    if description:
        watched = weight_scale.Watched(description_model.Model(description, tensors), case)
        return watched.outputs, watched.seen
    names = ["query", "key", "value_down", "value_up"]
    stack = {"n_heads": Attention.sizes["num_heads"], "d_model": Attention.sizes["embed_dim"],
             "biases": ["cross_" + name for name in names]}
    model = description_model.Model({"stacks": [stack, stack]}, {"stacks.1.layers.0.cross." + n: t for n, t in tensors.items()})
    seen, stack = {}, model.stacks[1]
    stack.watch = lambda what, layer, numbers: seen.update({("scores", layer): numbers})
    outputs = stack.attention(0, *(np.float64(case[name]["vectors"]) for name in ("input", "source")))
    return outputs, [seen]


def error(a, b):
    return float(abs(np.float64(a) - np.float64(b)).max() / abs(np.float64(b)).max())


def check(what, found):
    if not found <= LIMIT:
        sys.exit(f"{what} differs by {found:.1e} of the largest")
    return found


def check_command(kind, module, description, tensors):
    """The command line of export_torch.py writes what its functions return."""
    with tempfile.TemporaryDirectory() as folder:
        saved = dict(module.items()) if isinstance(module, torch.nn.ModuleDict) else module
        torch.save(saved, os.path.join(folder, "module.pt"))
        export_torch.main([os.path.join(folder, "module.pt"), folder, *kind.options])
        written = safetensors_file.read(os.path.join(folder, "weights.safetensors"))
        if list(written) != list(tensors) or any((written[name] != x).any() for name, x in as_arrays(tensors).items()):
            sys.exit(f"{kind.name}: the command line writes other tensors")
        if description:
            with open(os.path.join(folder, "model.json"), encoding="utf-8") as file:
                if json.load(file) != description:
                    sys.exit(f"{kind.name}: the command line writes another description")


def refused():
    """What export_torch.py has no counterpart of: (words of the sentence that says so, what is saved, options)."""
    def encoder(**parts):
        layer = torch.nn.TransformerEncoderLayer(8, 2, 8)
        return {"encoder": torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), **parts}

    linear, embedding = torch.nn.Linear(8, 8), torch.nn.Embedding(5, 8)
    attention = torch.nn.MultiheadAttention(8, 2)
    between = {"source_embedding": embedding, "target_embedding": embedding, "unembedding": linear}
    transformer = torch.nn.Transformer(8, 2, 1, 1, 8)
    gpt = next(kind for kind in KINDS if kind.name == "gpt").build("before")
    no_gain = encoder()
    no_gain["encoder"].layers[0].norm1 = torch.nn.LayerNorm(8, elementwise_affine=False)
    return [
        ("an embedding and a projection", encoder(embedding=embedding, projection=linear), []),
        ("an embedding_scale without an embedding", encoder(), ["--embedding-scale", "2"]),
        ("--pooling has no meaning for an nn.MultiheadAttention", attention, ["--pooling", "mean"]),
        ("--causal has no meaning for an nn.MultiheadAttention", attention, ["--causal"]),
        ("--max-seq has no meaning for an nn.MultiheadAttention", attention, ["--max-seq", "512"]),
        ("--pooling has no meaning for a decoder as nanoGPT", gpt, ["--pooling", "every"]),
        ("--unit-length has no meaning for a decoder as nanoGPT", gpt, ["--unit-length"]),
        ("999 positions, of which wpe has", gpt, ["--max-seq", "999"]),
        ("--causal has no meaning for an nn.Transformer", {"transformer": transformer, **between}, ["--causal"]),
        ('beside the transformer stands no "unembedding"', {"transformer": transformer, "source_embedding": embedding, "target_embedding": embedding}, []),
        ("the transformer is a Linear", {"transformer": linear, **between}, []),
        ('no part beside the encoder is called "pooling"', encoder(pooling="mean"), []),
        ("head is a Sequential where a Linear", encoder(head=torch.nn.Sequential(linear)), []),
        ("the first part of dense is a Tanh", encoder(dense=torch.nn.Sequential(torch.nn.Tanh(), linear)), []),
        ("dense is empty", encoder(dense=torch.nn.Sequential()), []),
        ("the embedding is a Linear", encoder(embedding=linear), []),
        ("projection is a Embedding", encoder(projection=embedding), []),
        ("without gains (elementwise_affine=False)", no_gain, []),
        ('positions are "sinusoid"', encoder(positions="sinusoid"), []),
        ("positions have the shape [8]", encoder(positions=torch.zeros(8)), []),
        ("positions is a Linear", encoder(positions=linear), []),
        ("the encoder or decoder is a Linear", {"encoder": linear}, []),
        ("it holds a Linear, which is none of the modules", linear, []),
    ]


def check_refusals():
    """Each is one sentence of the command line, and nothing is written."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, "module.pt"), os.path.join(folder, "out")
        for words, saved, options in refused():
            torch.save(saved, path)
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said):
                    export_torch.main([path, out, *options])
                sys.exit(f"not refused: {words}")
            except SystemExit as error:
                if error.code != 2:
                    raise
            if f"error: {path}: " not in said.getvalue() or words not in said.getvalue() or os.path.exists(out):
                sys.exit(f"not refused with {words!r}: {said.getvalue()}")


class Measured:
    """The worst of what was compared."""
    def __init__(self):
        self.worst, self.deviation, self.ratio, self.count = 0.0, np.inf, np.inf, 0

    def reference(self, at, description, tensors, case, expected):
        outputs, seen = reference(description, tensors, case)
        self.worst = max(self.worst, check(at + ": description_model.py", error(outputs, expected)))
        deviation, ratio = weight_scale.least_of(seen)
        self.deviation, self.ratio, self.count = min(self.deviation, deviation), min(self.ratio, ratio), self.count + 1


def compare(measured, kind, seed, write):
    name = os.path.join(GOLDEN, f"{kind.name}.{seed}")
    for variant, description, tensors, case in models(kind, seed):
        at = f"{name}.{variant}"
        if write:
            safetensors_file.write(name + ".safetensors", tensors)
            description_model.write_inputs(at + ".inputs.json", [dict(case, **{k: dict(case[k]) for k in ("input", "source") if k in case})])
            if description:
                with open(at + ".json", "w", encoding="utf-8") as file:
                    json.dump(description, file)
                    file.write("\n")
        kept = safetensors_file.read(name + ".safetensors")
        (golden,) = description_model.read_inputs(at + ".inputs.json")
        if description:
            with open(at + ".json", encoding="utf-8") as file:
                description = json.load(file)
        for n, tensor in tensors.items():
            check(f"{name}.safetensors: {n}", error(kept[n], tensor))
        measured.worst = max(measured.worst, check(at + ": the golden output", error(golden["expected"], case["expected"])))
        measured.reference(at, description, kept, golden, case["expected"])


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(__doc__)
    write = sys.argv[1:] == ["--write"]
    version = tuple(int(n) for n in torch.__version__.split(".")[:2])
    if write and version != (1, 13):
        sys.exit(f"PyTorch {torch.__version__}: the golden files are 1.13's")
    os.makedirs(GOLDEN, exist_ok=True)
    measured = Measured()
    for kind in KINDS:
        for seed in kind.seeds:
            compare(measured, kind, seed, write)
    unbiased = Unbiased() if version >= (2, 1) else None
    if unbiased:
        for _, description, tensors, case in models(unbiased, 1):
            measured.reference("unbiased", description, tensors, case, case["expected"])
    for kind in (*KINDS, *([unbiased] if unbiased else [])):
        module = kind.build(kind.variants[0]).eval()
        exported = kind.export(module)
        check_command(kind, module, *exported)
    check_refusals()
    print(f"PyTorch {torch.__version__}: {measured.count} cases within {measured.worst:.1e} of the largest output; "
          f"smallest score deviation {measured.deviation:.2f}, change ratio {measured.ratio:.2f}")
    if measured.deviation < weight_scale.LEAST_DEVIATION or measured.ratio < weight_scale.LEAST_RATIO:
        sys.exit("scores or changes are too small to tell anything")


if __name__ == "__main__":
    main()
