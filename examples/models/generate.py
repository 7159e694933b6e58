# SPDX-License-Identifier: Apache-2.0
"""Prints stories of a llama2.c model: greedy, or sampled with a temperature."""
import argparse

import torch

import sample_teacher
import story_common


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="llama2.c float32 model file")
    parser.add_argument("--tokenizer", required=True, help="llama2.c tokenizer.bin")
    parser.add_argument("--prompt", default="", help="beginning of the story")
    parser.add_argument("--steps", type=int, default=400, help="positions, at most")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--count", type=int, default=1, help="number of stories")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    model = story_common.load_model(args.model)
    tokenizer = story_common.Tokenizer(args.tokenizer, model.config.vocab_size)
    for number in range(args.count):
        ids = tokenizer.encode(args.prompt.encode())
        with torch.no_grad():
            decoder = sample_teacher.Decoder(model, 1)
            for at in range(min(args.steps, model.config.context)):
                logits = decoder.step(torch.tensor([ids[at]]))[0]
                if len(ids) > at + 1:
                    continue
                if args.temperature == 0:
                    choice = int(logits.argmax())
                else:
                    p, order = torch.softmax(logits / args.temperature, -1).sort(descending=True)
                    p[p.cumsum(-1) - p > args.top_p] = 0
                    choice = int(order[torch.multinomial(p, 1, generator=generator)])
                if choice in (story_common.BOS, story_common.EOS):
                    break
                ids.append(choice)
        if number:
            print("\n----\n")
        print(tokenizer.decode(ids).decode("utf-8", "replace"))


if __name__ == "__main__":
    main()
