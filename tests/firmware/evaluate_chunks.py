#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the evaluate firmware on chunks of a text under QEMU and compares its loss with `heed eval` on this machine.

The loss is computed here, by numpy, from the logits that the board wrote; it must agree with the host's to the last
digit that `heed eval` prints for it, and the logits bit for bit with a digest when one is given.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np


def board_nats(emulator, firmware, text, folder):
    """Sum of nats and number of predicted tokens of one chunk, from the board's logits."""
    with open(os.path.join(folder, "chunk.txt"), "wb") as f:
        f.write(text)
    subprocess.run(emulator + [os.path.abspath(firmware), "-append", "chunk.txt logits.bin"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL, timeout=280)
    raw = np.fromfile(os.path.join(folder, "logits.bin"), dtype=np.uint8)
    n = int(raw[:4].view(np.int32)[0])
    tokens = raw[4:4 + 4 * n].view(np.int32)
    logits = raw[4 + 4 * n:].view(np.float32).reshape(n, -1).astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    log_z = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return float((log_z[:-1] - logits[np.arange(n - 1), tokens[1:]]).sum()), n - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heed", required=True, help="the host's heed command line")
    parser.add_argument("--model", required=True, help="an image that the host's kernels eat, of the firmware's model")
    parser.add_argument("--firmware", required=True, help="the evaluate firmware")
    parser.add_argument("--text", help="default: text/tinystories.txt of the test data, HEED_TEST_DATA")
    parser.add_argument("--chunk-bytes", type=int, default=900)
    parser.add_argument("--chunks", type=int, default=2)
    parser.add_argument("emulator", nargs=argparse.REMAINDER, help="-- and the emulator's words, up to -kernel")
    args = parser.parse_args()
    if not args.text:
        args.text = os.path.join(os.environ["HEED_TEST_DATA"], "text", "tinystories.txt")
    emulator = [word for word in args.emulator if word != "--"]
    with open(args.text, "rb") as f:
        data = f.read(args.chunk_bytes * args.chunks)
    nats, tokens = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.chunks):
            a, b = board_nats(emulator, args.firmware, data[i * args.chunk_bytes:(i + 1) * args.chunk_bytes], folder)
            nats, tokens = nats + a, tokens + b
    host = json.loads(subprocess.run(
        [args.heed, "eval", args.model, args.text, "--chunk-bytes", str(args.chunk_bytes), "--max-chunks",
         str(args.chunks), "--json"], check=True, capture_output=True, text=True).stdout)
    board = nats / tokens
    print(f"board {board:.6f} host {host['nats_per_token']:.6f} nats per token over {tokens} tokens")
    if f"{board:.6f}" != f"{host['nats_per_token']:.6f}":
        sys.exit("the board's loss differs from the host's")


if __name__ == "__main__":
    main()
