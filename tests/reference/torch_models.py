#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Weights and outputs from PyTorch itself, as golden files: what heed is held against where no PyTorch is installed.

    torch_models.py           compares tests/golden/torch with what PyTorch computes here, and with description_model.py
    torch_models.py --write   writes tests/golden/torch again

Needs PyTorch 1.13 (Debian 12's python3-torch). For each of three seeds:

  encoder      nn.TransformerEncoder, norms before and behind, ReLU and GELU: four descriptions of the same weights
  transformer  nn.Transformer, the original encoder-decoder with its last norms, norms before and behind
  attention    nn.MultiheadAttention whose keys and values come from inputs of different widths

NAME.SEED.safetensors are the weights as examples/models/export_torch.py writes them, with the names of the first variant,
NAME.SEED.VARIANT.json a description, and NAME.SEED.VARIANT.inputs.json a case as description_model.py has it. The attention
layer has no description: its inputs are "input" (the queries' vectors) and "source" (the keys' and the values' inputs side by
side). All weights are drawn, gains and biases too, and so that scores and changes are as large as weight_scale.py asks for; a draw
of which a plain rounding to int8 leaves less than LEAST_ROUNDED_COSINE at some position is replaced, as in covering.py.
"""
import json
import math
import os
import sys

import numpy as np
import torch
from torch import nn

import description_model
import safetensors_file
import weight_scale
from covering import LEAST_ROUNDED_COSINE, MOST_DRAWS

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "torch")
sys.path.insert(0, os.path.join(HERE, "..", "..", "examples", "models"))
import export_torch  # noqa: E402

SEEDS = (1, 2, 3)
LIMIT = 1e-5  # of the largest output
POSITIONS = 66  # more than a block of keys


class Encoder:
    variants = ("before.relu", "before.gelu", "after.relu", "after.gelu")
    sizes = {"d_model": 16, "nhead": 4, "dim_feedforward": 26}

    def build(self, variant):
        placement, activation = variant.split(".")
        layer = nn.TransformerEncoderLayer(**self.sizes, activation=activation, norm_first=placement == "before")
        return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(self.sizes["d_model"]), enable_nested_tensor=False)

    def inputs(self, generator):
        return {"vectors": torch.randn(POSITIONS, self.sizes["d_model"], generator=generator)}

    def export(self, module):
        return export_torch.export_encoder(module, POSITIONS)

    def run(self, module, vectors):
        return module(vectors.double().unsqueeze(1)).squeeze(1)

    def case(self, vectors):
        return {"input": {"vectors": vectors.numpy()}}

    def halves(self, module):
        return [module]


class Transformer:
    variants = ("before", "after")
    sizes = {"d_model": 12, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 20}
    vocabularies = 19, 23

    def build(self, variant):
        d_model = self.sizes["d_model"]
        return nn.ModuleDict({
            "transformer": nn.Transformer(**self.sizes, norm_first=variant == "before"),
            "source_embedding": nn.Embedding(self.vocabularies[0], d_model),
            "target_embedding": nn.Embedding(self.vocabularies[1], d_model),
            "unembedding": nn.Linear(d_model, self.vocabularies[1])})

    def inputs(self, generator):
        return {"source": torch.randint(0, self.vocabularies[0], (POSITIONS,), generator=generator),
                "target": torch.randint(0, self.vocabularies[1], (POSITIONS + 3,), generator=generator)}

    def export(self, module):
        return export_torch.export_transformer(module["transformer"], module["source_embedding"], module["target_embedding"],
                                               module["unembedding"], POSITIONS + 3)

    def sinusoids(self, positions):
        """As PyTorch's tutorials have them."""
        d_model = self.sizes["d_model"]
        position = torch.arange(positions, dtype=torch.float64).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000.0) / d_model))
        table = torch.zeros(positions, d_model, dtype=torch.float64)
        table[:, 0::2], table[:, 1::2] = torch.sin(position * frequency), torch.cos(position * frequency)
        return table

    def run(self, module, source, target):
        embedded = [(module[name](tokens) * math.sqrt(self.sizes["d_model"]) + self.sinusoids(len(tokens))).unsqueeze(1)
                    for name, tokens in (("source_embedding", source), ("target_embedding", target))]
        mask = nn.Transformer.generate_square_subsequent_mask(len(target)).double()
        return module["unembedding"](module["transformer"](*embedded, tgt_mask=mask)).squeeze(1)

    def case(self, source, target):
        return {"input": {"tokens": target.tolist()}, "source": {"tokens": source.tolist()}}

    def halves(self, module):
        return [module["transformer"].encoder, module["transformer"].decoder]


class Attention:
    variants = ("cross",)
    sizes = {"embed_dim": 16, "num_heads": 2, "kdim": 12, "vdim": 20}

    def build(self, variant):
        return nn.MultiheadAttention(**self.sizes)

    def inputs(self, generator):
        return {"query": torch.randn(9, self.sizes["embed_dim"], generator=generator),
                "key": torch.randn(POSITIONS, self.sizes["kdim"], generator=generator),
                "value": torch.randn(POSITIONS, self.sizes["vdim"], generator=generator)}

    def export(self, module):
        return None, export_torch.export_attention(module)

    def run(self, module, query, key, value):
        query, key, value = (x.double().unsqueeze(1) for x in (query, key, value))
        return module(query, key, value, need_weights=False)[0].squeeze(1)

    def case(self, query, key, value):
        return {"input": {"vectors": query.numpy()}, "source": {"vectors": torch.cat([key, value], 1).numpy()}}


def draw(module, generator):
    """Matrices as nn.Linear draws them, but of variance 1 / columns; gains around 1; biases of a third."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() > 1:
                p.uniform_(-1, 1, generator=generator).mul_((3.0 / p.shape[1]) ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                p.uniform_(0.6, 1.4, generator=generator)
            else:
                p.normal_(0, 0.3, generator=generator)


def enlarge(layer, number, seen):
    """Multiplies the queries and what moves the residual stream where description_model.py saw them too small."""
    def factor(target, measured):
        return max(1.0, float(f"{target / measured:.3g}"))

    def ratio(what):
        return factor(weight_scale.CHANGE_RATIO, weight_scale.change_ratio(seen[what + "_change", number], seen[what + "_residual", number]))

    def multiply(linear, by):
        linear.weight.mul_(by)
        linear.bias.mul_(by)

    with torch.no_grad():
        for what, scores, part in (("attention", "scores", "self_attn"), ("cross", "cross_scores", "multihead_attn")):
            if hasattr(layer, part):
                enlarge_queries(getattr(layer, part), seen[scores, number], factor)
                multiply(getattr(layer, part).out_proj, ratio(what))
        multiply(layer.linear2, ratio("ffn"))


def enlarge_queries(module, scores, factor):
    weight = module.q_proj_weight if module.in_proj_weight is None else module.in_proj_weight
    for head, deviation in enumerate(weight_scale.score_deviation(scores)):
        rows = slice(head * module.head_dim, (head + 1) * module.head_dim)
        by = factor(weight_scale.SCORE_DEVIATION, deviation)
        weight[rows] *= by
        module.in_proj_bias[rows] *= by


def models(kind, seed):
    """[(variant, description, tensors, case)] of a kind, of the first draw that is not too sensitive."""
    for draw in range(MOST_DRAWS):
        drawn = list(drawn_models(kind, seed + 1000 * draw))
        if not any(is_too_sensitive(description, tensors, case) for _, description, tensors, case in drawn):
            return drawn
    raise AssertionError(f"{type(kind).__name__} of seed {seed} is too sensitive")


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
                    enlarge_queries(module, seen[0]["scores", 0], lambda target, measured: max(1.0, target / measured))
                    continue
                for half, seen_half in zip(kind.halves(module), seen):
                    for number, layer in enumerate(half.layers):
                        enlarge(layer, number, seen_half)
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


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(__doc__)
    if not torch.__version__.startswith("1.13."):
        sys.exit(f"PyTorch {torch.__version__}: the golden files are 1.13's")
    write = sys.argv[1:] == ["--write"]
    os.makedirs(GOLDEN, exist_ok=True)
    worst, deviation, ratio, count = 0.0, np.inf, np.inf, 0
    for kind in (Encoder(), Transformer(), Attention()):
        for seed in SEEDS:
            name = os.path.join(GOLDEN, f"{type(kind).__name__.lower()}.{seed}")
            for variant, description, tensors, case in models(kind, seed):
                at = f"{name}.{variant}"
                if write:
                    safetensors_file.write(name + ".safetensors", tensors)
                    description_model.write_inputs(at + ".inputs.json", [case])
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
                worst = max(worst, check(at + ": the golden output", error(golden["expected"], case["expected"])))
                outputs, seen = reference(description, kept, golden)
                worst = max(worst, check(at + ": description_model.py", error(outputs, case["expected"])))
                d, r = weight_scale.least_of(seen)
                deviation, ratio, count = min(deviation, d), min(ratio, r), count + 1
    print(f"{count} cases within {worst:.1e} of the largest output; smallest score deviation {deviation:.2f}, change ratio {ratio:.2f}")
    if deviation < weight_scale.LEAST_DEVIATION or ratio < weight_scale.LEAST_RATIO:
        sys.exit("scores or changes are too small to tell anything")


if __name__ == "__main__":
    main()
