# SPDX-License-Identifier: Apache-2.0
"""Trains a network of 17,000 weights that hears spoken digits, from random weights, on the Free Spoken Digit Dataset.

Every clip of a batch is heard a little differently each time: cut or stretched in time, louder bands and quieter ones, some
frames and bands missing, noise. The recordings of the official test split are looked at once, when all is done. Writes
spotter.safetensors, which heed quantize-layer turns into spotter_weights.h, and spotter_clips.bin: two test recordings
of each digit, for examples/spotter.cpp.
"""
import argparse
import csv
import os
import time

import numpy as np
import torch
from torch.nn import functional as F

import spotter_common as common
from spotter_common import BANDS, D_FF, D_MODEL, EPSILON, HEAD_DIM, HEADS, LAYERS, MAX_FRAMES, THETA, UNIT


class Spotter(torch.nn.Module):
    """spotter_common.spot, for a batch of clips of several lengths."""

    def __init__(self):
        super().__init__()
        shapes = {"input.weight": [D_MODEL, BANDS], "input.bias": [D_MODEL]}
        for layer in range(LAYERS):
            for name, shape in {"attention_gain": [D_MODEL], "query": [HEADS * HEAD_DIM, D_MODEL],
                                "key": [HEADS * HEAD_DIM, D_MODEL], "value_down": [HEADS * HEAD_DIM, D_MODEL],
                                "value_up": [D_MODEL, HEADS * HEAD_DIM], "ffn_gain": [D_MODEL], "gate": [D_FF, D_MODEL],
                                "up": [D_FF, D_MODEL], "down": [D_MODEL, D_FF]}.items():
                shapes[f"layer{layer}.{name}"] = shape
        shapes.update({"final_gain": [D_MODEL], "output.weight": [10, D_MODEL], "output.bias": [10]})
        self.w = {}
        for name, shape in shapes.items():
            x = torch.randn(shape) / shape[1] ** 0.5 if len(shape) == 2 else torch.zeros(shape) + ("gain" in name)
            self.w[name] = torch.nn.Parameter(x)
            self.register_parameter(name.replace(".", "_"), self.w[name])
        angle = torch.arange(MAX_FRAMES)[:, None] * THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        self.cos, self.sin = angle.cos(), angle.sin()

    def turn(self, x):  # [batch, heads, n, HEAD_DIM]
        cos, sin = self.cos[:x.shape[2]], self.sin[:x.shape[2]]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

    def forward(self, x, lengths, dropout):
        """x [batch, n, BANDS], of which the first lengths [batch] frames count."""
        w, n = self.w, x.shape[1]
        seen = torch.arange(n)[None] < lengths[:, None]
        drop = lambda change: F.dropout(change, dropout, self.training)
        norm = lambda x, gain: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON) * gain
        x = F.linear(x * UNIT, w["input.weight"], w["input.bias"])
        for layer in range(LAYERS):
            at = lambda name: w[f"layer{layer}.{name}"]
            h = norm(x, at("attention_gain"))
            q, k, v = (F.linear(h, at(name)).unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2)
                       for name in ("query", "key", "value_down"))
            scores = self.turn(q) @ self.turn(k).transpose(-1, -2) / HEAD_DIM ** 0.5
            pattern = scores.masked_fill(~seen[:, None, None], -1e9).softmax(-1)
            x = x + drop(F.linear((pattern @ v).transpose(1, 2).flatten(-2), at("value_up")))
            h = norm(x, at("ffn_gain"))
            x = x + drop(F.linear(F.silu(F.linear(h, at("gate"))) * F.linear(h, at("up")), at("down")))
        y = (norm(x, w["final_gain"]) * seen[..., None]).sum(1) / lengths[:, None]
        return F.linear(drop(y), w["output.weight"], w["output.bias"])


def heard_differently(x, random):
    n = len(x)
    first, last = random.integers(0, 1 + n // 8), n - random.integers(0, 1 + n // 8)
    at = np.arange(first, max(last, first + 4), random.uniform(0.8, 1.25))
    x = x[np.clip(np.rint(at), 0, n - 1).astype(int)][:MAX_FRAMES].astype(np.float32)
    x = x + random.normal(0, 4, BANDS) + random.normal(0, random.uniform(0, 8), x.shape)
    band, frame = random.integers(0, BANDS - 3), random.integers(0, max(1, len(x) - 3))
    x[:, band:band + random.integers(0, 4)] = 0
    x[frame:frame + random.integers(0, 4)] = 0
    return x


def batch_of(clips):
    lengths = torch.tensor([len(x) for x in clips])
    x = torch.zeros(len(clips), int(lengths.max()), BANDS)
    for row, clip in zip(x, clips):
        row[:len(clip)] = torch.from_numpy(np.asarray(clip, np.float32))
    return x, lengths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", help="recordings.tar.xz")
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)), help="folder (default: this one)")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    train, test = common.read_fsdd(args.recordings)
    model = Spotter()
    print(f"{len(train)} clips train, {len(test)} test; {sum(p.numel() for p in model.parameters()):,} weights")
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.02, betas=(0.9, 0.98))
    steps = args.epochs * (len(train) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, steps, pct_start=0.1)
    begin = time.time()
    with open(os.path.join(args.out, "spotter_log.csv"), "w", newline="") as log:
        writer = csv.writer(log)
        writer.writerow(["epoch", "loss", "seconds"])
        for epoch in range(args.epochs):
            order, losses = random.permutation(len(train)), []
            for i in range(0, len(train) - args.batch + 1, args.batch):
                picked = [train[j] for j in order[i:i + args.batch]]
                x, lengths = batch_of([heard_differently(x, random) for _, x in picked])
                digits = torch.tensor([digit for digit, _ in picked])
                loss = F.cross_entropy(model(x, lengths, args.dropout), digits, label_smoothing=0.05)
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
            writer.writerow([epoch + 1, f"{np.mean(losses):.4f}", f"{time.time() - begin:.0f}"])
            log.flush()
    weights = {name: x.detach().numpy() for name, x in model.w.items()}
    common.write_safetensors(os.path.join(args.out, "spotter.safetensors"), weights)
    right = sum(int(common.spot(weights, x).argmax() == digit) for digit, x in test)
    print(f"float accuracy on the test split: {right} of {len(test)}")
    shown = [[clip for clip in test if clip[0] == digit] for digit in range(10)]
    common.write_clips(os.path.join(args.out, "spotter_clips.bin"), [clips[i] for i in (0, 17) for clips in shown])


if __name__ == "__main__":
    main()
