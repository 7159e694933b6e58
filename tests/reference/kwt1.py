#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The trained keyword transformer of the test data (features to 12 words), from its npz into a description.

    kwt1.py DATA OUT            DATA is the folder `kwt1`; writes OUT/{model.json,weights.safetensors}, and the 96 clips whose
                                logits are known: inputs.json with features and logits, as description_model.read_inputs has it
    kwt1.py DATA OUT --check    also runs it in numpy and holds the stated logits within 1e-4 of the largest
"""
import json
import os
import sys

import numpy as np

import description_model
import safetensors_file

LAYERS, LEAST_ERROR = 12, 1e-4
CLASSES = ["_silence_", "_unknown_", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
MATRICES = {"q.w": "w_query", "k.w": "w_key", "v.w": "w_value_down", "o.w": "w_value_up", "o.b": "w_value_up.bias",
            "f1.w": "w_up", "f1.b": "w_up.bias", "f2.w": "w_down", "f2.b": "w_down.bias",
            "n1.g": "attention_after_gain", "n1.b": "attention_after_bias", "n2.g": "ffn_after_gain", "n2.b": "ffn_after_bias"}


def convert(given):
    tensors = {"input_projection": given["in.w"], "input_projection.bias": given["in.b"],
               "class_vectors": given["cls"][None, :], "position_embedding": given["pos"],
               "unembedding": given["head.w"], "unembedding.bias": given["head.b"]}
    for layer in range(LAYERS):
        tensors.update({f"layers.{layer}.{ours}": given[f"{layer}.{theirs}"] for theirs, ours in MATRICES.items()})
    return {"stacks.0." + name: array for name, array in tensors.items()}


def describe(given):
    positions, d_model = given["pos"].shape
    stack = {
        "use": "encode", "input": "projected", "d_input": given["in.w"].shape[1], "n_class_vectors": 1,
        "d_model": d_model, "d_ff": len(given["0.f1.w"]), "n_layers": LAYERS, "n_heads": 1, "max_seq": positions,
        "position_table": "learned", "attention_scale": float(given["score_scale"][0]), "norm": "layer",
        "norm_epsilon": float(given["eps"][0]), "norm_placement": "after", "final_norm": False, "activation": "gelu_tanh",
        "biases": ["input", "value_up", "ffn_in", "down", "norm", "unembedding"], "pooling": "first", "output": "logits",
        "n_outputs": len(CLASSES),
    }
    return {"heed": 2, "name": "Keyword Transformer KWT-1 (arXiv 2104.00769)", "licence": "Apache-2.0", "stacks": [stack],
            "classes": CLASSES}


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["--check"]):
        sys.exit(__doc__)
    data, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    given, clips = np.load(os.path.join(data, "kwt1.npz")), np.load(os.path.join(data, "clips96.npz"))
    tensors, description = convert(given), describe(given)
    safetensors_file.write(os.path.join(out, "weights.safetensors"), tensors)
    with open(os.path.join(out, "model.json"), "w", encoding="utf-8") as file:
        json.dump(description, file, indent=1)
        file.write("\n")
    cases = [{"input": {"vectors": x}, "expected": y[None, :]} for x, y in zip(clips["features"], clips["logits"])]
    description_model.write_inputs(os.path.join(out, "inputs.json"), cases)
    if not sys.argv[3:]:
        return
    model = description_model.Model(description, tensors)
    logits = np.concatenate([model.outputs(case["input"]) for case in cases])
    error = abs(logits - clips["logits"]).max() / abs(clips["logits"]).max()
    right = int((logits.argmax(axis=1) == clips["label"]).sum())
    print(f"{len(logits)} clips: logits within {error:.1e} of the largest; {right} words right")
    if error > LEAST_ERROR or model.unused():
        sys.exit(f"beyond {LEAST_ERROR}, or tensors unused: {model.unused()}")


if __name__ == "__main__":
    main()
