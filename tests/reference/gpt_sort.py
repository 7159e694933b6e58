#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON files of bbycroft/llm-viz's sorting model (minGPT, base64 float32) into what heed reads.

    gpt_sort.py DATA OUT    DATA/gpt-nano-sort-model.json and DATA/gpt-nano-sort-t0-partials.json to
                            OUT/model/{config.json,model.safetensors}, a Hugging Face GPT-2 folder, and
                            OUT/partials.safetensors, PyTorch's intermediates as they are

The model sorts six letters A to C, which are the tokens 0 to 2: it reads six tokens and then generates six. There is no
BOS. minGPT's Linear weights are [out, in], GPT-2's Conv1D [in, out]; the causal masks (attn.bias) are left out.
"""
import array
import base64
import json
import os
import struct
import sys

TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def decode(tensor):
    """The shape and numbers of an entry."""
    if tensor["dtype"] != "torch.float32":
        sys.exit(f"a tensor of {tensor['dtype']}")
    numbers = array.array("f", base64.b64decode(tensor["data"]))
    count = 1
    for size in tensor["shape"]:
        count *= size
    if sys.byteorder != "little" or len(numbers) != count:
        sys.exit("a tensor is not as long as its shape says")
    return tensor["shape"], numbers


def transpose(shape, numbers):
    rows, cols = shape
    return [cols, rows], array.array("f", (numbers[r * cols + c] for c in range(cols) for r in range(rows)))


def write_safetensors(path, tensors):
    """tensors: {name: (shape, numbers)}."""
    header, at = {}, 0
    for name, (shape, numbers) in tensors.items():
        size = 4 * len(numbers)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, numbers in tensors.values():
            file.write(numbers.tobytes())


def write_model(source, folder):
    config, tensors = source["config"], {}
    for name, entry in source.items():
        if name == "config" or name.endswith(".attn.bias"):
            continue
        shape, numbers = decode(entry)
        if name.endswith(TURNED):
            shape, numbers = transpose(shape, numbers)
        tensors[name] = shape, numbers
    os.makedirs(folder, exist_ok=True)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
                   "n_embd": config["n_embd"], "n_head": config["n_head"], "n_layer": config["n_layer"],
                   "n_positions": config["block_size"], "vocab_size": config["vocab_size"],
                   "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False, "bos_token_id": None,
                   "eos_token_id": None}, file, indent=2)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, out = sys.argv[1:]
    if not os.path.exists(os.path.join(data, "gpt-nano-sort-model.json")):
        print("skipped: gpt_sort needs HEED_TEST_DATA")
        return
    with open(os.path.join(data, "gpt-nano-sort-model.json")) as file:
        write_model(json.load(file), os.path.join(out, "model"))
    with open(os.path.join(data, "gpt-nano-sort-t0-partials.json")) as file:
        partials = json.load(file)
    write_safetensors(os.path.join(out, "partials.safetensors"),
                      {name: decode(entry) for name, entry in partials.items() if name != "config"})


if __name__ == "__main__":
    main()
