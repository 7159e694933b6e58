# SPDX-License-Identifier: Apache-2.0
"""The modules of PyTorch that torch_models.py draws, and how each of them is exported and run.

Of each kind: `name`, `seeds`, `variants` of the same weights, the `options` of export_torch.py's command line; and

    build(variant)      the module, with weights of any kind
    inputs(generator)   {name: tensor}
    export(module)      (description, tensors), by examples/models/export_torch.py
    run(module, ...)    the outputs [n, width] in float64, of PyTorch
    case(...)           the inputs as description_model.py has them
"""
import math
import os
import sys

import torch
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "models"))
import export_torch  # noqa: E402

POSITIONS = 66  # more than a block of keys


class Encoder:
    name, seeds, options = "encoder", (1, 2, 3), ["--max-seq", str(POSITIONS)]
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


class Transformer:
    name, seeds, options = "transformer", (1, 2, 3), ["--max-seq", str(POSITIONS + 3)]
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


class Attention:
    name, seeds, options = "attention", (1, 2, 3), []
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


def causal_mask(n):
    return nn.Transformer.generate_square_subsequent_mask(n).double()


class Parts:
    """An nn.TransformerEncoder between other parts, norms before, the batch first."""
    seeds, variants = (1,), ("before",)
    vocab_size, d_model = 21, 16
    arguments = {}  # of export_encoder

    def encoder(self, **more):
        layer = nn.TransformerEncoderLayer(self.d_model, 2, 24, activation="gelu", norm_first=True, batch_first=True, **more)
        return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(self.d_model), enable_nested_tensor=False)

    def inputs(self, generator):
        return {"tokens": torch.randint(0, self.vocab_size, (POSITIONS,), generator=generator)}

    def export(self, module):
        parts = {name: part for name, part in module.items() if name != "encoder"}
        return export_torch.export_encoder(module["encoder"], POSITIONS, **parts, **self.arguments)

    def embedded(self, module, tokens):
        return module["embedding"](tokens) + module["positions"].weight[:len(tokens)]

    def encoded(self, module, x, mask=None):
        return module["encoder"](x.unsqueeze(0), mask=mask).squeeze(0)

    def case(self, tokens):
        return {"input": {"tokens": tokens.tolist()}}


class Classifier(Parts):
    """Tokens in, one of five classes out."""
    name, arguments = "classifier", {"pooling": "mean"}
    options = ["--max-seq", str(POSITIONS), "--pooling", "mean"]

    def build(self, variant):
        dense = nn.Sequential(nn.Linear(self.d_model, 12), nn.Tanh(), nn.Dropout(), nn.LayerNorm(12))
        return nn.ModuleDict({"embedding": nn.Embedding(self.vocab_size, self.d_model), "positions": nn.Embedding(POSITIONS, self.d_model),
                              "encoder": self.encoder(), "dense": dense, "head": nn.Linear(12, 5)})

    def run(self, module, tokens):
        x = self.encoded(module, self.embedded(module, tokens))
        return module["head"](module["dense"](x.mean(0, keepdim=True)))


class Tagger(Parts):
    """Vectors in, one of four tags for each."""
    name, options = "tagger", ["--max-seq", str(POSITIONS)]

    def build(self, variant):
        return nn.ModuleDict({"projection": nn.Linear(7, self.d_model), "positions": nn.Embedding(POSITIONS, self.d_model),
                              "encoder": self.encoder(), "head": nn.Linear(self.d_model, 4, bias=False)})

    def inputs(self, generator):
        return {"vectors": torch.randn(POSITIONS, 7, generator=generator)}

    def run(self, module, vectors):
        return module["head"](self.encoded(module, module["projection"](vectors.double()) + module["positions"].weight))

    def case(self, vectors):
        return {"input": {"vectors": vectors.numpy()}}


class Embedder(Parts):
    """Tokens in, one vector of length 1 out, of the first position."""
    name, arguments = "embedder", {"pooling": "first", "unit_length": True}
    options = ["--max-seq", str(POSITIONS), "--pooling", "first", "--unit-length"]

    def build(self, variant):
        return nn.ModuleDict({"embedding": nn.Embedding(self.vocab_size, self.d_model), "positions": nn.Embedding(POSITIONS, self.d_model),
                              "encoder": self.encoder(), "dense": nn.Linear(self.d_model, 10)})

    def run(self, module, tokens):
        x = self.encoded(module, self.embedded(module, tokens))
        return nn.functional.normalize(module["dense"](x[:1]), dim=-1)


class Decoder(Parts):
    """A decoder made of nn.TransformerEncoder and a causal mask, whose head has the embedding's weights."""
    name, arguments = "decoder", {"causal": True}
    options = ["--max-seq", str(POSITIONS), "--causal"]

    def build(self, variant):
        parts = {"embedding": nn.Embedding(self.vocab_size, self.d_model), "positions": nn.Embedding(POSITIONS, self.d_model),
                 "encoder": self.encoder(), "head": nn.Linear(self.d_model, self.vocab_size)}
        parts["head"].weight = parts["embedding"].weight
        return nn.ModuleDict(parts)

    def run(self, module, tokens):
        return module["head"](self.encoded(module, self.embedded(module, tokens), causal_mask(len(tokens))))


class Unbiased(Parts):
    """Without a bias in any layer, which PyTorch 2.1 and later have."""
    name, options = "unbiased", ["--max-seq", str(POSITIONS), "--causal"]
    arguments = {"causal": True}

    def build(self, variant):
        return nn.ModuleDict({"embedding": nn.Embedding(self.vocab_size, self.d_model), "positions": nn.Embedding(POSITIONS, self.d_model),
                              "encoder": self.encoder(bias=False), "head": nn.Linear(self.d_model, self.vocab_size, bias=False)})

    run = Decoder.run


# -- A decoder with the names that nanoGPT has ------------------------------------------------------------------------

class LayerNorm(nn.Module):
    def __init__(self, width, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias)


class GptBlock(nn.Module):
    def __init__(self, width, heads, bias):
        super().__init__()
        self.ln_1, self.ln_2 = LayerNorm(width, bias), LayerNorm(width, bias)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.c_attn, self.attn.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.attn.n_head = heads
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)
        self.mlp.gelu = nn.GELU()

    def forward(self, x):  # [n, width]
        query, key, value = (h.unflatten(-1, (self.attn.n_head, -1)).transpose(0, 1) for h in self.attn.c_attn(self.ln_1(x)).chunk(3, -1))
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]) + causal_mask(len(x))
        x = x + self.attn.c_proj((scores.softmax(-1) @ value).transpose(0, 1).flatten(1))
        return x + self.mlp.c_proj(self.mlp.gelu(self.mlp.c_fc(self.ln_2(x))))


class Gpt(nn.Module):
    def __init__(self, vocab_size, width, heads, layers, bias):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.wte, self.transformer.wpe = nn.Embedding(vocab_size, width), nn.Embedding(POSITIONS, width)
        self.transformer.h = nn.ModuleList([GptBlock(width, heads, bias) for _ in range(layers)])
        self.transformer.ln_f = LayerNorm(width, bias)
        self.lm_head = nn.Linear(width, vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, tokens):
        x = self.transformer.wte(tokens) + self.transformer.wpe.weight[:len(tokens)]
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))


class NanoGpt:
    seeds, variants, options = (2,), ("before",), []

    def __init__(self, bias):
        self.name, self.bias = "gpt" if bias else "gpt_unbiased", bias

    def build(self, variant):
        return Gpt(Parts.vocab_size, Parts.d_model, 4, 2, self.bias)

    inputs, case = Parts.inputs, Parts.case
    vocab_size = Parts.vocab_size

    def export(self, module):
        return export_torch.export_gpt(module)

    def run(self, module, tokens):
        return module(tokens)


KINDS = (Encoder(), Transformer(), Attention(), Classifier(), Tagger(), Embedder(), Decoder(), NanoGpt(True), NanoGpt(False))
