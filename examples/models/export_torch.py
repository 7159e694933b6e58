#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes modules of torch.nn as what heed reads: weights.safetensors, and model.json, the description (SPEC.md, part 7).

    export_torch.py MODULE.pt OUT [--max-seq N] [--causal]
    heed quantize OUT/weights.safetensors --description OUT/model.json -o MODEL.heed

MODULE.pt is what torch.save wrote of one of

    nn.TransformerEncoder    vectors of d_model numbers in, vectors out; --causal for one that is called with a causal mask
    nn.MultiheadAttention    weights.safetensors alone, for `heed quantize-layer`: the public attention layer
    {"transformer": nn.Transformer, "source_embedding": nn.Embedding, "target_embedding": nn.Embedding,
     "unembedding": nn.Linear}    tokens in, logits out; embeddings are multiplied by sqrt(d_model) and sinusoids are added,
                             as in "Attention Is All You Need" and in PyTorch's tutorials

(load only files that you trust: torch.load runs what is in them). The functions below do the same from Python, for modules in
memory; what they return can be changed before it is saved, so they are also where to begin with a model of your own.

PyTorch's linear layers keep [out, in], which is heed's order. nn.MultiheadAttention keeps the query, key and value matrices
above each other; heed calls them w_query, w_key and w_value_down, and the output matrix w_value_up. Dropout does nothing
when a model runs, and has no counterpart.
"""
import argparse
import json
import math
import os
import struct

import torch
from torch import nn


def export_encoder(module, max_seq, causal=False):
    """The description and the tensors of an nn.TransformerEncoder: {name: tensor}."""
    tensors = {}
    stack = dict(layers(tensors, "stacks.0.", module), use="encode", input="vectors", output="vectors", max_seq=max_seq,
                 mask="causal" if causal else "two_way")
    return {"heed": 2, "stacks": [stack]}, tensors


def export_transformer(module, source_embedding, target_embedding, unembedding, max_seq):
    """The same of an nn.Transformer between embeddings and an output layer, all of d_model's width."""
    tensors, stacks = {}, []
    for i, (half, embedding) in enumerate(((module.encoder, source_embedding), (module.decoder, target_embedding))):
        at = f"stacks.{i}."
        tensors[at + "token_embedding"] = embedding.weight
        stacks.append(dict(layers(tensors, at, half), input="tokens", vocab_size=embedding.num_embeddings, max_seq=max_seq,
                           embedding_scale=math.sqrt(module.d_model), position_table="sinusoidal",
                           sinusoids={"order": "interleaved", "first_position": 0, "last_exponent": "half"}))
    stacks[0].update(use="encode", mask="two_way", output="vectors")
    stacks[1].update(use="generate", mask="causal", output="logits", cross_attention=True)
    linear(tensors, stacks[1]["biases"], "stacks.1.unembedding", "unembedding", unembedding.weight, unembedding.bias)
    return {"heed": 2, "stacks": stacks}, tensors


def export_attention(module):
    """The tensors of an nn.MultiheadAttention alone, as the public attention layer has them.

    Where keys and values are made from inputs of different widths (kdim, vdim), the layer's source vectors are both side by
    side, first the keys' input, and each matrix has zeros where it does not look.
    """
    tensors, biases = {}, []
    attention(tensors, biases, "", "", module)
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


# -- One part of a module each; they fill `tensors`, and `biases` with the names of the biases that there are -----------

def layers(tensors, at, module):
    """The layers and the last norm of an nn.TransformerEncoder or nn.TransformerDecoder; the description of their stack."""
    first, biases = module.layers[0], []
    placement = "before" if first.norm_first else "after"
    for number, layer in enumerate(module.layers):
        to = f"{at}layers.{number}."
        attention(tensors, biases, to, "", layer.self_attn)
        norm(tensors, biases, to + "attention", placement, layer.norm1)
        last_norm = layer.norm2
        if hasattr(layer, "multihead_attn"):  # a decoder's, to the encoder's output
            attention(tensors, biases, to + "cross.", "cross_", layer.multihead_attn)
            norm(tensors, biases, to + "cross.attention", placement, layer.norm2)
            last_norm = layer.norm3
        linear(tensors, biases, to + "w_up", "ffn_in", layer.linear1.weight, layer.linear1.bias)
        linear(tensors, biases, to + "w_down", "down", layer.linear2.weight, layer.linear2.bias)
        norm(tensors, biases, to + "ffn", placement, last_norm)
    if module.norm is not None:
        tensors[at + "final_gain"], tensors[at + "final_norm_bias"] = module.norm.weight, module.norm.bias
    return {
        "d_model": first.self_attn.embed_dim, "d_ff": first.linear1.out_features, "n_layers": len(module.layers),
        "n_heads": first.self_attn.num_heads, "norm": "layer", "norm_epsilon": first.norm1.eps, "norm_placement": placement,
        "final_norm": module.norm is not None, "activation": activation(first.activation), "biases": biases,
    }


def attention(tensors, biases, at, kind, module):
    if module.bias_k is not None or module.add_zero_attn:
        raise ValueError("heed has no counterpart of add_bias_kv and add_zero_attn")
    if module.in_proj_weight is not None:
        matrices = module.in_proj_weight.chunk(3)
    else:
        matrices = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    vectors = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    for name, weight, bias in zip(("query", "key", "value_down"), matrices, vectors):
        linear(tensors, biases, f"{at}w_{name}", kind + name, weight, bias)
    linear(tensors, biases, at + "w_value_up", kind + "value_up", module.out_proj.weight, module.out_proj.bias)


def norm(tensors, biases, at, placement, module):
    gain, bias = ("_gain", "_norm_bias") if placement == "before" else ("_after_gain", "_after_bias")
    tensors[at + gain], tensors[at + bias] = module.weight, module.bias
    note(biases, "norm")


def linear(tensors, biases, name, kind, weight, bias):
    tensors[name] = weight
    if bias is not None:
        tensors[name + ".bias"] = bias
        note(biases, kind)


def note(biases, kind):
    if kind not in biases:
        biases.append(kind)


def activation(function):
    if function is nn.functional.relu or isinstance(function, nn.ReLU):
        return "relu"
    if function is nn.functional.gelu:
        return "gelu_erf"
    if isinstance(function, nn.GELU):
        return "gelu_tanh" if function.approximate == "tanh" else "gelu_erf"
    raise ValueError(f"no name for the activation {function}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="what torch.save wrote")
    parser.add_argument("out", help="folder for weights.safetensors and model.json")
    parser.add_argument("--max-seq", type=int, default=512, help="the longest sequence (default 512)")
    parser.add_argument("--causal", action="store_true", help="the encoder is called with a causal mask")
    args = parser.parse_args()
    module = torch.load(args.module, map_location="cpu")
    if isinstance(module, nn.MultiheadAttention):
        save(args.out, export_attention(module))
    elif isinstance(module, nn.TransformerEncoder):
        description, tensors = export_encoder(module, args.max_seq, args.causal)
        save(args.out, tensors, description)
    elif isinstance(module, dict):
        description, tensors = export_transformer(module["transformer"], module["source_embedding"],
                                                  module["target_embedding"], module["unembedding"], args.max_seq)
        save(args.out, tensors, description)
    else:
        parser.error(f"{args.module} holds a {type(module).__name__}, which is none of the modules that --help lists")


if __name__ == "__main__":
    main()
