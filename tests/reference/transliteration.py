#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The trained encoder-decoder of the test data (Arabic to Latin letters), from CTranslate2's format into a description.

    transliteration.py DATA OUT            DATA is the folder `transliteration`; writes OUT/{model.json,weights.safetensors,
                                           source.txt,target.txt}, the latter two its vocabularies, and inputs.json with
                                           the first test words, what the model writes for them, and its logits
    transliteration.py DATA OUT --check    also runs it in numpy, greedily, on the test pairs, and holds the two expectations of
                                           CTranslate2's tests and the figures that the data's README states

model.bin, version 2: u32 version; a text (u16 length with its final zero, bytes); u32 revision; u32 count; for each tensor a
text, u8 rank, u32 sizes, u8 bytes per number, u32 numbers, the numbers. Little-endian.
"""
import json
import os
import struct
import sys

import numpy as np

import description_model
import safetensors_file

CASES = 64
D_MODEL, HEADS, LAYERS, LONGEST = 32, 8, 6, 64
UNUSED = {"<blank>": "<unused>", "<s>": "<unused>", "</s>": "<unused>"}  # nothing stands around a source
SPECIAL = (UNUSED, dict(UNUSED, **{"<s>": "<bos>", "</s>": "<eos>"}))
BOS, EOS = 1, 2
EXPECTED = {"آتزمون": "atzmon", "آزا": "azza"}
STATED_EXACT, STATED_ERROR = 351, 22.59  # of 1,590; per cent of characters


def read_model(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def take(form):
        nonlocal at
        numbers = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return numbers

    def text():
        (length,) = take("H")
        return take(f"{length}s")[0][:-1].decode()

    version, name, revision, count = *take("I"), text(), *take("I"), *take("I")
    if (version, name, revision) != (2, "TransformerBase", 2):
        sys.exit(f"{path}: version {version}, {name}, revision {revision} is not what this program reads")
    tensors = {}
    for _ in range(count):
        name = text()
        (rank,) = take("B")
        shape, (size, numbers) = take(f"{rank}I"), take("BI")
        if size != 4 or rank == 0:
            sys.exit(f"{path}: {name} is not a float32 matrix or vector")
        tensors[name] = np.frombuffer(data, "<f4", numbers, at).reshape(shape)
        at += size * numbers
    if at != len(data):
        sys.exit(f"{path}: {len(data) - at} bytes are left")
    return tensors


def convert(given):
    """heed's tensors; every given one is used once."""
    left, tensors = dict(given), {}

    def put(name, source, parts=None):
        """A matrix and its bias; of several side by side in one, `parts` are their names."""
        weight, bias = left.pop(source + "/weight"), left.pop(source + "/bias")
        names = [name + part for part in parts or [""]]
        for n, w, b in zip(names, np.split(weight, len(names)), np.split(bias, len(names))):
            tensors[n], tensors[n + ".bias"] = w, b

    def norm(gain, bias, source):
        tensors[gain], tensors[bias] = left.pop(source + "/gamma"), left.pop(source + "/beta")

    for stack, side in enumerate(("encoder", "decoder")):
        at = f"stacks.{stack}."
        tensors[at + "token_embedding"] = left.pop(side + "/embeddings/weight")
        for layer in range(LAYERS):
            to, source = f"{at}layers.{layer}.", f"{side}/layer_{layer}/"
            norm(to + "attention_gain", to + "attention_norm_bias", source + "self_attention/layer_norm")
            put(to, source + "self_attention/linear_0", ("w_query", "w_key", "w_value_down"))
            put(to + "w_value_up", source + "self_attention/linear_1")
            if side == "decoder":
                norm(to + "cross.attention_gain", to + "cross.attention_norm_bias", source + "attention/layer_norm")
                put(to + "cross.w_query", source + "attention/linear_0")
                put(to + "cross.", source + "attention/linear_1", ("w_key", "w_value_down"))
                put(to + "cross.w_value_up", source + "attention/linear_2")
            norm(to + "ffn_gain", to + "ffn_norm_bias", source + "ffn/layer_norm")
            put(to + "w_up", source + "ffn/linear_0")
            put(to + "w_down", source + "ffn/linear_1")
        norm(at + "final_gain", at + "final_norm_bias", side + "/layer_norm")
    put("stacks.1.unembedding", "decoder/projection")
    if left:
        sys.exit(f"tensors that have no place: {', '.join(sorted(left))}")
    return tensors


def describe(tensors):
    attention = ["query", "key", "value_down", "value_up"]
    stacks = []
    for stack in (0, 1):
        at = f"stacks.{stack}."
        stacks.append({
            "use": "generate" if stack else "encode", "input": "tokens", "mask": "causal" if stack else "two_way",
            "vocab_size": len(tensors[at + "token_embedding"]), "embedding_scale": D_MODEL ** 0.5,
            "d_model": D_MODEL, "d_ff": len(tensors[at + "layers.0.w_up"]), "n_layers": LAYERS, "n_heads": HEADS,
            "max_seq": LONGEST, "position_table": "sinusoidal",
            "sinusoids": {"order": "sines_first", "first_position": 1, "last_exponent": "half_minus_one"},
            "norm": "layer", "norm_epsilon": 1e-5, "activation": "relu", "output": "logits" if stack else "vectors",
            "biases": attention + ["ffn_in", "down", "norm"] + (["cross_" + a for a in attention] + ["unembedding"] if stack else []),
        })
    return {"heed": 2, "name": "Arabic to Latin transliteration (OpenNMT/CTranslate2 test model)", "licence": "MIT",
            "stacks": stacks, "tokenizer": "chars-file:target.txt", "source_tokenizer": "chars-file:source.txt",
            "generation": {"first": [BOS], "endings": [EOS]}}


def read_vocabulary(path):
    with open(path, encoding="utf-8") as file:
        return file.read().split("\n")[:-1]


def write_characters(path, vocabulary, special):
    """The lines of a characters file. The last token of the embedding has no line: it is any letter that the others are
    not, which heed refuses."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(special.get(token, token) + "\n" for token in vocabulary + ["<unused>"])


def write_tokens(model, source):
    """Greedy: what follows BOS, at most LONGEST tokens, with EOS if there is one."""
    written = [BOS]
    while len(written) < LONGEST and written[-1] != EOS:
        written.append(int(model.stacks[1].outputs({"tokens": written}, source)[-1].argmax()))
    return written[1:]


def word_tokens(word, vocabulary):
    """A letter that the source does not know is the token behind all others."""
    return [vocabulary.get(letter, len(vocabulary)) for letter in word]


def transliterate(model, word, source_vocabulary, target_vocabulary):
    written = write_tokens(model, model.stacks[0].outputs({"tokens": word_tokens(word, source_vocabulary)}))
    return "".join(target_vocabulary[t] for t in written if t != EOS)


def case(model, word, vocabulary):
    """All that a greedy run reads, and the logits that it sees."""
    source = {"tokens": word_tokens(word, vocabulary)}
    outputs = model.stacks[0].outputs(source)
    target = {"tokens": ([BOS] + write_tokens(model, outputs))[:-1]}
    return {"input": target, "source": source, "expected": model.stacks[1].outputs(target, outputs)}


def read_pairs(data):
    with open(os.path.join(data, "ar2en-test.txt"), encoding="utf-8") as file:
        return [line.rstrip("\n").lower().split("\t") for line in file]


def distance(a, b):
    """Insertions, deletions and exchanges from a to b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def check(model, pairs, source, target):
    for word, expected in EXPECTED.items():
        written = transliterate(model, word, source, target)
        if written != expected:
            sys.exit(f"{word} became {written}, not {expected}")
    exact = wrong = letters = 0
    for word, expected in pairs:
        written = transliterate(model, word, source, target)
        exact += written == expected
        wrong += distance(written, expected)
        letters += len(expected)
    error = round(100.0 * wrong / letters, 2)
    print(f"{exact} of {len(pairs)} exact, {error} % of characters wrong")
    if (exact, error) != (STATED_EXACT, STATED_ERROR):
        sys.exit(f"stated are {STATED_EXACT} exact and {STATED_ERROR} %")


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["--check"]):
        sys.exit(__doc__)
    data, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    tensors = convert(read_model(os.path.join(data, "f32", "model.bin")))
    description = describe(tensors)
    safetensors_file.write(os.path.join(out, "weights.safetensors"), tensors)
    with open(os.path.join(out, "model.json"), "w", encoding="utf-8") as file:
        json.dump(description, file, indent=1, ensure_ascii=False)
        file.write("\n")
    vocabularies = [read_vocabulary(os.path.join(data, "f32", side + "_vocabulary.txt")) for side in ("source", "target")]
    for side, vocabulary, special in zip(("source", "target"), vocabularies, SPECIAL):
        write_characters(os.path.join(out, side + ".txt"), vocabulary, special)
    model, pairs = description_model.Model(description, tensors), read_pairs(data)
    letters = {letter: i for i, letter in enumerate(vocabularies[0])}
    description_model.write_inputs(os.path.join(out, "inputs.json"), [case(model, word, letters) for word, _ in pairs[:CASES]])
    if sys.argv[3:]:
        check(model, pairs, letters, vocabularies[1])


if __name__ == "__main__":
    main()
