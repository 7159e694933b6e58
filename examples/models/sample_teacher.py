# SPDX-License-Identifier: Apache-2.0
"""Samples stories from a llama2.c model, many at a time, with a key/value cache.

Every story starts at BOS.  A share of them starts with a short piece of a real
text, cut at a random byte, so that the stories also cover words that the model
alone seldom writes.  The result is one file of 16-bit token ids: every story
with its leading BOS, one after the other.
"""
import argparse
import time

import numpy as np
import torch

import story_common


class Decoder:
    """One new token per story and step."""

    def __init__(self, model, rows):
        c = model.config
        self.model = model
        self.rows = rows
        shape = (rows * c.n_kv_heads, c.context, c.head_dim)
        self.keys = [torch.zeros(shape) for _ in range(c.n_layers)]
        self.values = [torch.zeros(shape) for _ in range(c.n_layers)]
        self.length = 0

    def keep(self, alive):
        """Drops the stories that are not in alive (a bool tensor)."""
        c = self.model.config
        picked = torch.nonzero(alive.repeat_interleave(c.n_kv_heads))[:, 0]
        for cache in (self.keys, self.values):
            for i in range(c.n_layers):
                small = torch.zeros(len(picked), c.context, c.head_dim)
                small[:, :self.length] = cache[i][picked, :self.length]
                cache[i] = small
        self.rows = int(alive.sum())

    def step(self, tokens):
        m, c, b = self.model, self.model.config, self.rows
        linear = torch.nn.functional.linear
        x = torch.nn.functional.embedding(tokens, m.embedding).unsqueeze(1)
        at, end = self.length, self.length + 1
        for i, layer in enumerate(m.layers):
            qkv = linear(m.norm(x, layer.attn_norm), layer.wqkv)
            q, k, v = m.split_heads(qkv, at)
            self.keys[i][:, at] = k[:, 0]
            self.values[i][:, at] = v[:, 0]
            score = torch.bmm(q[:, :, 0], self.keys[i][:, :end].transpose(1, 2))
            p = torch.softmax(score * c.head_dim ** -0.5, -1)
            o = torch.bmm(p, self.values[i][:, :end])
            x = x + linear(o.reshape(b, 1, c.d_model), layer.wo)
            x = x + m.feed_forward(layer, x)
        self.length = end
        return linear(m.norm(x, m.final_norm), m.embedding)[:, 0]


def sample_batch(model, prefixes, temperature, generator):
    """Stories (lists of ids from BOS on), one for each prefix."""
    c = model.config
    stories = [list(p) for p in prefixes]
    owners = np.arange(len(prefixes))
    alive = torch.ones(len(prefixes), dtype=torch.bool)
    decoder = Decoder(model, len(prefixes))
    for at in range(c.context):
        logits = decoder.step(torch.tensor([stories[o][at] for o in owners]))
        noise = torch.rand(logits.shape, generator=generator).clamp_(1e-9, 1 - 1e-7)
        choice = (logits / temperature - torch.log(-torch.log(noise))).argmax(-1).tolist()
        for row, o in enumerate(owners):
            if len(stories[o]) == at + 1:
                stories[o].append(choice[row])
                if choice[row] in (story_common.BOS, story_common.EOS):
                    alive[row] = False
        if at % 16 == 15 and not bool(alive.all()):
            decoder.keep(alive)
            owners = owners[alive.numpy()]
            alive = alive[alive]
            if len(owners) == 0:
                break
    # A finished story keeps one closing BOS or EOS; what a finished row went on
    # to write before it was dropped is cut.
    for story in stories:
        for i in range(1, len(story)):
            if story[i] in (story_common.BOS, story_common.EOS):
                del story[i:]
                story.append(story_common.BOS)
                break
    return stories


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="llama2.c float32 model file")
    parser.add_argument("--tokenizer", required=True, help="llama2.c tokenizer.bin")
    parser.add_argument("--text", help="real text for the beginnings")
    parser.add_argument("--skip-bytes", type=int, default=54000,
                        help="head of the text that is never used (default 54000)")
    parser.add_argument("--prefix-share", type=float, default=0.5,
                        help="share of stories that begin with real text (default 0.5)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--tokens", type=int, required=True, help="tokens to sample, at least")
    parser.add_argument("--batch", type=int, default=512, help="stories at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="file of 16-bit token ids")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    random = np.random.RandomState(args.seed)
    model = story_common.load_model(args.model)
    tokenizer = story_common.Tokenizer(args.tokenizer, model.config.vocab_size)
    text = b""
    if args.text:
        with open(args.text, "rb") as f:
            text = f.read()[args.skip_bytes:]
    count, start = 0, time.time()
    with open(args.out, "wb") as out, torch.no_grad():
        while count < args.tokens:
            prefixes = []
            for _ in range(args.batch):
                prefix = [story_common.BOS]
                if text and random.rand() < args.prefix_share:
                    at = random.randint(len(text) - 400)
                    prefix = tokenizer.encode(text[at:at + 400])[:random.randint(4, 100)]
                prefixes.append(prefix)
            for story in sample_batch(model, prefixes, args.temperature, generator):
                np.array(story, dtype="<u2").tofile(out)
                count += len(story)
            out.flush()
            print("%d tokens, %.0f per second" % (count, count / (time.time() - start)), flush=True)


if __name__ == "__main__":
    main()
