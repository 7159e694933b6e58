#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes modules of PyTorch as what heed reads: weights.safetensors, and model.json, the description (SPEC.md, part 7).

    export_torch.py MODULE.pt OUT [--max-seq N] [--causal] [--pooling first|mean|last] [--unit-length] [--embedding-scale X]
    heed quantize OUT/weights.safetensors --description OUT/model.json -o MODEL.heed

MODULE.pt is what torch.save wrote of one of

  nn.TransformerEncoder       vectors of d_model numbers in, vectors out; --causal for one that is called with a causal mask
  {"encoder": nn.TransformerEncoder, PART: MODULE, ...}
                              the same between other parts, each of which may be absent:
      "embedding": nn.Embedding                       tokens come in
      "projection": nn.Linear                         vectors of another width come in
      "positions": nn.Embedding, its weight, or "sinusoidal"   is added; a row for each position
      "dense": nn.Linear, or nn.Sequential of one, an activation and perhaps an nn.LayerNorm    behind pooling
      "head": nn.Linear                               logits come out: one row for each position (tagging), or with --pooling
                                                      one for all (a classifier); without a head, vectors come out (embeddings)
                              with --causal, an embedding and a head that is a decoder, which generates
  {"transformer": nn.Transformer, "source_embedding": nn.Embedding, "target_embedding": nn.Embedding, "unembedding": nn.Linear}
                              tokens in, logits out; embeddings are multiplied by sqrt(d_model) and sinusoids are added, as in
                              "Attention Is All You Need" and in PyTorch's tutorials
  a decoder as nanoGPT has it    transformer.wte, .wpe, .h (ln_1, attn.c_attn, attn.c_proj, ln_2, mlp.c_fc, mlp.gelu,
                              mlp.c_proj), .ln_f and lm_head
  nn.MultiheadAttention       weights.safetensors alone, for `heed quantize-layer`: the public attention layer

Load only files that you trust: torch.load runs what is in them. It finds a class of your own only where Python can import it; the
functions below take modules in memory and return (description, tensors), which can be changed before `save` writes them:
description["tokenizer"] = "bytes", description["classes"] = ["no", "yes"] and the like. They are also where to begin with a
model that has other parts. Needs PyTorch 1.13 or later; biases may be absent (bias=False). Dropout does nothing when a model
runs, and batch_first says how arguments lie, not weights: neither has a counterpart.

PyTorch's linear layers keep [out, in], which is heed's order. nn.MultiheadAttention keeps the query, key and value matrices
above each other; heed calls them w_query, w_key and w_value_down, and the output matrix w_value_up.
"""
import argparse
import json
import math
import os
import pickle
import struct

import torch
from torch import nn


def export_encoder(module, max_seq, causal=False, embedding=None, embedding_scale=1.0, projection=None, positions=None,
                   pooling="every", dense=None, head=None, unit_length=False):
    """An nn.TransformerEncoder and the parts around it: (the description, {name: tensor}).

    Embeddings are multiplied by embedding_scale before positions are added; vectors are divided by their length with unit_length.
    """
    if embedding is not None and projection is not None:
        raise ValueError("an embedding and a projection: a stack reads tokens or vectors")
    if embedding is None and embedding_scale != 1.0:
        raise ValueError("an embedding_scale without an embedding")
    stack = Stack(0)
    if embedding is not None:
        stack.embedding(embedding, embedding_scale)
    elif projection is not None:
        expect("projection", projection, nn.Linear)
        stack.fields.update(input="projected", d_input=projection.in_features)
        stack.linear("input_projection", "input", projection.weight, projection.bias)
    else:
        stack.fields["input"] = "vectors"
    stack.positions(positions)
    stack.layers(module)
    generates = causal and embedding is not None and head is not None and dense is None and pooling == "every"
    stack.fields.update(use="generate" if generates else "encode", mask="causal" if causal else "two_way", max_seq=max_seq)
    if pooling != "every":
        stack.fields["pooling"] = pooling
    if unit_length:
        stack.fields["unit_length"] = True
    stack.behind_pooling(dense)
    stack.output(head, embedding)
    return description_of(stack)


def export_transformer(module, source_embedding, target_embedding, unembedding, max_seq):
    """The same of an nn.Transformer between embeddings and an output layer, all of d_model's width."""
    expect("the transformer", module, nn.Transformer)
    first, second = Stack(0), Stack(1)
    for stack, half, embedding in (first, module.encoder, source_embedding), (second, module.decoder, target_embedding):
        stack.embedding(embedding, math.sqrt(module.d_model))
        stack.positions("sinusoidal")
        stack.layers(half)
        stack.fields["max_seq"] = max_seq
    first.fields.update(use="encode", mask="two_way", output="vectors")
    second.fields.update(use="generate", mask="causal", cross_attention=True)
    second.output(unembedding, target_embedding)
    return description_of(first, second)


def export_gpt(module, max_seq=None):
    """The same of a decoder as nanoGPT has it; without max_seq, as many positions as it has embeddings of."""
    stack, parts = Stack(0), module.transformer
    for name in "wte", "wpe", "h", "ln_f":
        if not hasattr(parts, name):
            raise ValueError(f"transformer has no {name}, as nanoGPT's has")
    stack.embedding(parts.wte)
    stack.positions(parts.wpe)
    if max_seq and max_seq > parts.wpe.num_embeddings:
        raise ValueError(f"{max_seq} positions, of which wpe has {parts.wpe.num_embeddings}")
    for number, block in enumerate(parts.h):
        at = f"layers.{number}."
        if not isinstance(block.attn.c_attn, nn.Linear):
            raise ValueError(f"attn.c_attn is a {type(block.attn.c_attn).__name__}, not an nn.Linear; heed reads folders of GPT-2 itself")
        stack.agree(d_ff=block.mlp.c_fc.out_features, n_heads=block.attn.n_head, norm_placement="before",
                    activation=activation(block.mlp.gelu))
        stack.norm(at + "attention_gain", at + "attention_norm_bias", block.ln_1)
        stack.heads(at, "", block.attn.c_attn.weight.chunk(3), block.attn.c_attn.bias, block.attn.c_proj)
        stack.norm(at + "ffn_gain", at + "ffn_norm_bias", block.ln_2)
        stack.linear(at + "w_up", "ffn_in", block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        stack.linear(at + "w_down", "down", block.mlp.c_proj.weight, block.mlp.c_proj.bias)
    stack.norm("final_gain", "final_norm_bias", parts.ln_f)
    stack.fields.update(use="generate", mask="causal", d_model=parts.wte.embedding_dim, n_layers=len(parts.h), final_norm=True,
                        max_seq=max_seq or parts.wpe.num_embeddings)
    stack.output(module.lm_head, parts.wte)
    return description_of(stack)


def export_attention(module):
    """The tensors of an nn.MultiheadAttention alone, as the public attention layer has them.

    Where keys and values are made from inputs of different widths (kdim, vdim), the layer's source vectors are both side by
    side, first the keys' input, and each matrix has zeros where it does not look.
    """
    stack = Stack(None)
    stack.attention("", "", module)
    tensors = stack.tensors
    if module.kdim != module.embed_dim or module.vdim != module.embed_dim:
        key, value = tensors["w_key"], tensors["w_value_down"]
        tensors["w_key"] = torch.cat([key, key.new_zeros(len(key), module.vdim)], 1)
        tensors["w_value_down"] = torch.cat([value.new_zeros(len(value), module.kdim), value], 1)
    return tensors


def save(folder, tensors, description=None):
    """Writes weights.safetensors and, if there is one, model.json."""
    os.makedirs(folder, exist_ok=True)
    if description:
        with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
            json.dump(description, file, indent=1)
            file.write("\n")
    # safetensors: the length of a JSON header, the header, the numbers.
    header, parts, at = {}, [], 0
    for name, tensor in tensors.items():
        parts.append(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "weights.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def expect(name, module, *kinds):
    if not isinstance(module, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{name} is a {type(module).__name__} where a {wanted} is expected")


# -- One stack: its parts, one method each ----------------------------------------------------------------------------

class Stack:
    """Collects the tensors of one stack, and what its description (SPEC.md 7.2) says."""

    def __init__(self, index):
        self.prefix = "" if index is None else f"stacks.{index}."
        self.tensors, self.fields = {}, {}
        self.biases, self.missing = [], {}  # kinds that there are; by kind, names and lengths of those that a module has not

    def embedding(self, module, scale=1.0):
        expect("the embedding", module, nn.Embedding)
        if module.max_norm is not None:
            raise ValueError("heed has no counterpart of an nn.Embedding's max_norm")
        self.tensors[self.prefix + "token_embedding"] = module.weight
        self.fields.update(input="tokens", vocab_size=module.num_embeddings, embedding_scale=scale)

    def positions(self, table):
        if table is None:
            return
        if isinstance(table, str) and table != "sinusoidal":
            raise ValueError(f'positions are "{table}"; by name there are "sinusoidal" ones')
        if isinstance(table, str):
            self.fields.update(position_table=table, sinusoids={"order": "interleaved", "first_position": 0, "last_exponent": "half"})
            return
        weight = table.weight if isinstance(table, nn.Embedding) else table
        expect("positions", weight, torch.Tensor, nn.Embedding)
        if weight.dim() < 2:
            raise ValueError(f"positions have the shape {list(weight.shape)}; a row for each is expected")
        self.tensors[self.prefix + "position_embedding"] = weight.reshape(-1, weight.shape[-1])
        self.fields["position_table"] = "learned"

    def layers(self, module):
        """Those of an nn.TransformerEncoder or nn.TransformerDecoder, and its last norm."""
        expect("the encoder or decoder", module, nn.TransformerEncoder, nn.TransformerDecoder)
        for number, layer in enumerate(module.layers):
            at = f"layers.{number}."
            expect(f"layer {number}", layer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
            placement = "before" if layer.norm_first else "after"
            gain, bias = ("_gain", "_norm_bias") if layer.norm_first else ("_after_gain", "_after_bias")
            self.agree(d_model=layer.self_attn.embed_dim, d_ff=layer.linear1.out_features, n_heads=layer.self_attn.num_heads,
                       norm_placement=placement, activation=activation(layer.activation))
            self.attention(at, "", layer.self_attn)
            self.norm(at + "attention" + gain, at + "attention" + bias, layer.norm1)
            last_norm = layer.norm2
            if hasattr(layer, "multihead_attn"):  # a decoder's, to the encoder's output
                self.agree(n_heads=layer.multihead_attn.num_heads)
                self.attention(at + "cross.", "cross_", layer.multihead_attn)
                self.norm(at + "cross.attention" + gain, at + "cross.attention" + bias, layer.norm2)
                last_norm = layer.norm3
            self.linear(at + "w_up", "ffn_in", layer.linear1.weight, layer.linear1.bias)
            self.linear(at + "w_down", "down", layer.linear2.weight, layer.linear2.bias)
            self.norm(at + "ffn" + gain, at + "ffn" + bias, last_norm)
        if module.norm is not None:
            self.norm("final_gain", "final_norm_bias", module.norm)
        self.fields.update(n_layers=len(module.layers), final_norm=module.norm is not None)

    def attention(self, at, kind, module):
        if module.bias_k is not None or module.add_zero_attn:
            raise ValueError("heed has no counterpart of add_bias_kv and add_zero_attn")
        matrices = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
        if module.in_proj_weight is not None:
            matrices = module.in_proj_weight.chunk(3)
        self.heads(at, kind, matrices, module.in_proj_bias, module.out_proj)

    def heads(self, at, kind, matrices, biases, output):
        """Query, key and value matrices, their biases one behind the other, and the nn.Linear behind the heads."""
        vectors = [None] * 3 if biases is None else biases.chunk(3)
        for name, weight, bias in zip(("query", "key", "value_down"), matrices, vectors):
            self.linear(f"{at}w_{name}", kind + name, weight, bias)
        self.linear(at + "w_value_up", kind + "value_up", output.weight, output.bias)

    def behind_pooling(self, module):
        if module is None:
            return
        parts = [part for part in (module if isinstance(module, nn.Sequential) else [module])
                 if not isinstance(part, (nn.Dropout, nn.Identity))]
        if not parts:
            raise ValueError("dense is empty")
        expect("the first part of dense", parts[0], nn.Linear)
        self.fields.update(dense=True, d_dense=parts[0].out_features)
        self.linear("dense", "dense", parts[0].weight, parts[0].bias)
        rest = parts[1:]
        if rest and not isinstance(rest[0], nn.LayerNorm):
            self.fields["dense_activation"] = activation(rest.pop(0))
        if rest:
            self.norm("dense_gain", "dense_norm_bias", rest.pop(0))
            self.fields["dense_norm"] = True
        if rest:
            raise ValueError(f"behind pooling, heed has no counterpart of a further {type(rest[0]).__name__}")

    def output(self, head, embedding):
        if head is None:
            self.fields["output"] = "vectors"
            return
        expect("head", head, nn.Linear)
        self.fields.update(output="logits", n_outputs=head.out_features)
        if embedding is not None and head.weight is embedding.weight:
            self.fields["tied_unembedding"] = True
            self.bias("unembedding", "unembedding.bias", head.bias, head.out_features)
        else:
            self.linear("unembedding", "unembedding", head.weight, head.bias)

    def norm(self, gain, bias, module):
        if not (isinstance(module, nn.LayerNorm) or type(module).__name__ == "LayerNorm"):  # nanoGPT has one of its own
            raise ValueError(f"a {type(module).__name__} where an nn.LayerNorm is expected")
        if module.weight is None:
            raise ValueError("an nn.LayerNorm without gains (elementwise_affine=False); heed's norms have them")
        self.agree(norm="layer", norm_epsilon=getattr(module, "eps", 1e-5))
        self.tensors[self.prefix + gain] = module.weight
        self.bias("norm", bias, module.bias, len(module.weight))

    def linear(self, name, kind, weight, bias):
        self.tensors[self.prefix + name] = weight
        self.bias(kind, name + ".bias", bias, len(weight))

    def bias(self, kind, name, bias, length):
        if bias is None:
            self.missing.setdefault(kind, []).append((name, length))
            return
        self.tensors[self.prefix + name] = bias
        if kind not in self.biases:
            self.biases.append(kind)

    def agree(self, **fields):
        """Fields on which all modules of a stack must agree."""
        for name, value in fields.items():
            if self.fields.setdefault(name, value) != value:
                raise ValueError(f"two modules differ in {name}, {self.fields[name]} and {value}; a stack of heed has one")

    def description(self):
        for kind in self.biases:  # all of a kind have a bias or none has
            for name, length in self.missing.pop(kind, []):
                self.tensors[self.prefix + name] = torch.zeros(length)
        return dict(self.fields, biases=self.biases)


def description_of(*stacks):
    descriptions = [stack.description() for stack in stacks]
    return {"heed": 2, "stacks": descriptions}, {name: tensor for stack in stacks for name, tensor in stack.tensors.items()}


def activation(function):
    """heed's name of a function, or of a module that has no weights."""
    functions = {nn.functional.relu: "relu", nn.functional.gelu: "gelu_erf", nn.functional.silu: "silu", torch.tanh: "tanh"}
    modules = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Tanh: "tanh"}
    if isinstance(function, nn.GELU):
        return "gelu_tanh" if function.approximate == "tanh" else "gelu_erf"
    name = modules.get(type(function)) or (functions.get(function) if not isinstance(function, nn.Module) else None)
    if name is None:
        raise ValueError(f"no name for the activation {function}")
    return name


DEFAULT_MAX_SEQ = 512


def check_options(kind, options, *known):
    for name in options:
        if name not in known:
            raise ValueError(f"--{name.replace('_', '-')} has no meaning for {kind}")


def check_parts(kind, parts, needed, more=()):
    for name in parts:
        if name not in (*needed, *more):
            raise ValueError(f'no part beside {kind} is called "{name}"; there are {", ".join((*needed, *more))}')
    for name in needed:
        if name not in parts:
            raise ValueError(f'beside {kind} stands no "{name}"')


def export(module, options):
    """(description, tensors) of what a file holds; the description is None for a layer alone.

    The options are those of the command line that were given; one that has no meaning for the module is refused.
    """
    if isinstance(module, nn.MultiheadAttention):
        check_options("an nn.MultiheadAttention", options)
        return None, export_attention(module)
    if isinstance(module, nn.TransformerEncoder):
        module = {"encoder": module}
    if isinstance(module, dict) and "encoder" in module:
        parts = {name: part for name, part in module.items() if name != "encoder"}
        check_parts("the encoder", parts, (), ("embedding", "projection", "positions", "dense", "head"))
        return export_encoder(module["encoder"], **{"max_seq": DEFAULT_MAX_SEQ, **options}, **parts)
    if isinstance(module, dict) and "transformer" in module:
        parts = {name: part for name, part in module.items() if name != "transformer"}
        check_options("an nn.Transformer", options, "max_seq")
        check_parts("the transformer", parts, ("source_embedding", "target_embedding", "unembedding"))
        return export_transformer(module["transformer"], **{"max_seq": DEFAULT_MAX_SEQ, **options}, **parts)
    if hasattr(module, "transformer") and hasattr(module, "lm_head"):
        check_options("a decoder as nanoGPT has it", options, "max_seq")
        return export_gpt(module, **options)
    raise ValueError(f"it holds a {type(module).__name__}, which is none of the modules that --help lists")


def load(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(error) from error
    except (AttributeError, ImportError) as error:
        raise ValueError(f"{error}; a class of your own must be where Python can import it") from error


def main(arguments=None):
    # An option that is not given is absent, so that one without a meaning can be refused.
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     argument_default=argparse.SUPPRESS)
    parser.add_argument("module", help="what torch.save wrote")
    parser.add_argument("out", help="folder for weights.safetensors and model.json")
    parser.add_argument("--max-seq", type=int, help=f"the longest sequence (default {DEFAULT_MAX_SEQ}; of nanoGPT, all that it has)")
    parser.add_argument("--causal", action="store_true", help="the encoder is called with a causal mask")
    parser.add_argument("--pooling", choices=("every", "first", "mean", "last"), help="which positions come out (default every)")
    parser.add_argument("--unit-length", action="store_true", help="vectors are divided by their length")
    parser.add_argument("--embedding-scale", type=float, help="token embeddings are multiplied by it (default 1)")
    options = vars(parser.parse_args(arguments))
    path, out = options.pop("module"), options.pop("out")
    try:
        description, tensors = export(load(path), options)
    except ValueError as error:
        parser.error(f"{path}: {error}")
    save(out, tensors, description)


if __name__ == "__main__":
    main()
