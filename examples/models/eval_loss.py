# SPDX-License-Identifier: Apache-2.0
"""Held-out loss of a llama2.c model: nats per byte on the first chunks of a text."""
import argparse

import torch

import story_common


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="llama2.c float32 model file")
    parser.add_argument("--tokenizer", required=True, help="llama2.c tokenizer.bin")
    parser.add_argument("--text", required=True, help="text file; its head is the held-out text")
    parser.add_argument("--chunks", type=int, default=60, help="number of chunks (default 60)")
    parser.add_argument("--size", type=int, default=900, help="bytes per chunk (default 900)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = story_common.load_model(args.model)
    tokenizer = story_common.Tokenizer(args.tokenizer, model.config.vocab_size)
    with open(args.text, "rb") as f:
        text = f.read(args.chunks * args.size)
    nats, tokens, size = story_common.heldout_loss(model, tokenizer, text, args.chunks, args.size)
    print("tokens %d  nats/token %.6f  bytes %d  nats/byte %.4f"
          % (tokens, nats / tokens, size, nats / size))


if __name__ == "__main__":
    main()
