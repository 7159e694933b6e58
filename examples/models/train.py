# SPDX-License-Identifier: Apache-2.0
"""Trains a small story model from random weights, with a teacher of the same vocabulary.

Rows of a batch come from two places: stories that the teacher wrote
(sample_teacher.py) and real text.  The target of every position is the
teacher's distribution; on real text a share of it (--hard) is the token that
really follows.  Matrices are updated with Muon (momentum, then five
Newton-Schulz steps towards the nearest orthogonal matrix), the embedding and
the final norm with Adam.  The learning rate falls linearly to zero at --steps.

The result is a llama2.c float32 model file.  Two runs with the same arguments
and one thread give the same weights.
"""
import argparse
import csv
import hashlib
import os
import time

import numpy as np
import torch

import story_common


class Data:
    """Rows of token ids: BOS, then what follows some place of the data."""

    def __init__(self, sampled, text, tokenizer):
        self.sampled = sampled
        self.starts = np.flatnonzero(sampled == story_common.BOS)
        self.starts = self.starts[self.starts < len(sampled) - 600]
        self.text = text
        self.tokenizer = tokenizer
        stories = []
        for story in text.replace(b"\n\n", b"\0").split(b"\n"):
            story = story.replace(b"\0", b"\n\n").strip()
            if len(story) > 100:
                stories.append(np.array(tokenizer.encode(story)))
        self.stories = stories

    def sampled_row(self, random, length):
        """Half of the rows start with a story, half inside one."""
        if random.rand() < 0.5:
            at = self.starts[random.randint(len(self.starts))] + 1
        else:
            at = random.randint(len(self.sampled) - length)
        return np.concatenate([[story_common.BOS], self.sampled[at:at + length - 1]])

    def real_row(self, random, length):
        """Half of the rows are whole stories, half are the text as it stands."""
        if random.rand() < 0.5:
            parts, size = [], 0
            while size < length:
                parts.append(self.stories[random.randint(len(self.stories))])
                size += len(parts[-1])
            return np.concatenate(parts)[:length]
        size = 5 * length
        while True:
            at = random.randint(len(self.text) - size)
            ids = self.tokenizer.encode(self.text[at:at + size])
            if len(ids) >= length:
                return np.array(ids[:length])

    def batch(self, seed, step, rows, real_rows, length):
        random = np.random.RandomState((seed * 1000003 + step) % (2 ** 32))
        made = [self.real_row(random, length + 1) for _ in range(real_rows)]
        made += [self.sampled_row(random, length + 1) for _ in range(rows - real_rows)]
        return torch.tensor(np.stack(made).astype(np.int64))


def orthogonal(stack):
    """Five Newton-Schulz steps on a stack of matrices that are not taller than wide."""
    x = stack / (stack.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x


class Optimizer:
    """Muon for the matrices of the layers, Adam for everything else."""

    def __init__(self, model, others, lr, adam_lr):
        c = model.config
        self.lr, self.adam_lr = lr, adam_lr
        # Matrices as views of the fused parameters, stacked by shape.
        self.matrices, self.adam, self.fused = [], [], []
        kv = c.n_kv_heads * c.head_dim
        cuts = {"wqkv": [c.d_model, kv, kv], "w13": [c.d_ff, c.d_ff]}
        for name, p in model.params():
            last = name.split(".")[-1]
            if p.dim() == 2 and name.startswith("layers"):
                self.fused.append(p)
                first = 0
                for size in cuts.get(last, [p.shape[0]]):
                    self.matrices.append((p, first, size))
                    first += size
            else:
                self.adam.append(p)
        self.adam += others
        self.momentum = [torch.zeros_like(p) for p in self.fused]
        self.m = [torch.zeros_like(p) for p in self.adam]
        self.v = [torch.zeros_like(p) for p in self.adam]
        self.groups = {}
        for p, first, size in self.matrices:
            index = [i for i, q in enumerate(self.fused) if q is p][0]
            tall = size > p.shape[1]
            shape = (p.shape[1], size) if tall else (size, p.shape[1])
            self.groups.setdefault(shape, []).append((index, first, size, tall))

    def parameters(self):
        return self.fused + self.adam

    def step(self, step, scale):
        with torch.no_grad():
            updates = []
            for p, m in zip(self.fused, self.momentum):
                m.mul_(0.95).add_(p.grad, alpha=0.05)
                updates.append(p.grad.mul(0.05).add_(m, alpha=0.95))
            for shape, members in self.groups.items():
                stack = []
                for index, first, size, tall in members:
                    u = updates[index][first:first + size]
                    stack.append(u.t() if tall else u)
                done = orthogonal(torch.stack(stack))
                for (index, first, size, tall), u in zip(members, done):
                    u = u.t() if tall else u
                    ratio = max(1.0, u.shape[0] / u.shape[1]) ** 0.5
                    self.fused[index][first:first + size].add_(u, alpha=-self.lr * scale * ratio)
            b1, b2 = 0.9, 0.98
            for p, m, v in zip(self.adam, self.m, self.v):
                m.mul_(b1).add_(p.grad, alpha=1 - b1)
                v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                denominator = (v / (1 - b2 ** (step + 1))).sqrt_().add_(1e-10)
                p.addcdiv_(m, denominator, value=-self.adam_lr * scale / (1 - b1 ** (step + 1)))
            for p in self.parameters():
                p.grad = None

    def state(self):
        return {"momentum": self.momentum, "m": self.m, "v": self.v}

    def load(self, state):
        for name in ("momentum", "m", "v"):
            for mine, theirs in zip(getattr(self, name), state[name]):
                mine.copy_(theirs)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="llama2.c float32 model file")
    parser.add_argument("--tokenizer", required=True, help="the teacher's tokenizer.bin")
    parser.add_argument("--sampled", required=True, help="file written by sample_teacher.py")
    parser.add_argument("--text", required=True, help="real text")
    parser.add_argument("--heldout-bytes", type=int, default=54000,
                        help="head of the text, only for measuring (default 54000)")
    parser.add_argument("--out", required=True, help="model file to write")
    parser.add_argument("--log", help="CSV file to append to")
    parser.add_argument("--checkpoint", help="file for the whole state, to resume from")
    parser.add_argument("--resume", action="store_true", help="continue from --checkpoint")
    parser.add_argument("--steps", type=int, required=True, help="step at which the rate is zero")
    parser.add_argument("--stop", type=int, help="stop early at this step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--d-ff", type=int, default=352)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--rows", type=int, default=8,
                        help="rows of a batch in the long phase; the short phase has more rows "
                        "and the same number of tokens (default 8)")
    parser.add_argument("--short-length", type=int, default=256)
    parser.add_argument("--long-length", type=int, default=512)
    parser.add_argument("--short-share", type=float, default=0.6,
                        help="share of the steps with short rows (default 0.6)")
    parser.add_argument("--real-share", type=float, default=0.25, help="share of rows of real text")
    parser.add_argument("--hard", type=float, default=0.4,
                        help="weight of the real next token on real text")
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate of the matrices")
    parser.add_argument("--adam-lr", type=float, default=0.004)
    parser.add_argument("--hint", type=float, default=0.0,
                        help="weight of matching the teacher's residuals, falling to zero")
    parser.add_argument("--hint-until", type=float, default=0.5,
                        help="share of the steps after which --hint is zero")
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=500)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    teacher = story_common.load_model(args.teacher)
    vocab = teacher.config.vocab_size
    tokenizer = story_common.Tokenizer(args.tokenizer, vocab)
    with open(args.text, "rb") as f:
        text = f.read()
    with open(args.sampled, "rb") as f:
        raw = f.read()
    print("text sha256 %s\nsampled sha256 %s" % (sha256(text), sha256(raw)))
    heldout, text = text[:args.heldout_bytes], text[args.heldout_bytes:]
    data = Data(np.frombuffer(raw, dtype="<u2").astype(np.int64), text, tokenizer)
    print("sampled tokens %d, real stories %d with %d tokens"
          % (len(data.sampled), len(data.stories), sum(map(len, data.stories))))

    config = story_common.Config(args.d_model, args.d_ff, args.layers, args.heads,
                                 args.kv_heads, vocab, args.context)
    generator = torch.Generator().manual_seed(args.seed)
    model = story_common.Model(config).init(generator)
    print("parameters %d" % sum(p.numel() for _, p in model.params()))
    # Projections of the student's residuals onto the teacher's, for --hint only.
    mapped = [round((i + 1) * teacher.config.n_layers / args.layers) - 1
              for i in range(args.layers)]
    projections = []
    if args.hint > 0:
        projections = [torch.randn(teacher.config.d_model, args.d_model, generator=generator)
                       * args.d_model ** -0.5 for _ in mapped]
    for _, p in model.params():
        p.requires_grad_(True)
    for p in projections:
        p.requires_grad_(True)
    optimizer = Optimizer(model, projections, args.lr, args.adam_lr)

    first = 0
    if args.resume and args.checkpoint and os.path.exists(args.checkpoint):
        saved = torch.load(args.checkpoint)
        with torch.no_grad():
            for (name, p), (_, q) in zip(model.params(), saved["params"]):
                p.copy_(q)
            for p, q in zip(projections, saved["projections"]):
                p.copy_(q)
        optimizer.load(saved["optimizer"])
        first = saved["step"]
        print("resumed at step %d" % first)

    log = None
    if args.log:
        log = open(args.log, "a", newline="")
        writer = csv.writer(log)
        if log.tell() == 0:
            writer.writerow(["step", "tokens", "seconds_of_this_run", "rate_scale", "real_nats_per_token",
                             "divergence_from_teacher", "heldout_nats_per_byte"])

    def save(step):
        part = args.out + ".part"
        story_common.save_model(model, part)
        os.replace(part, args.out)
        if args.checkpoint:
            torch.save({"step": step, "params": model.params(), "projections": projections,
                        "optimizer": optimizer.state()}, args.checkpoint + ".part")
            os.replace(args.checkpoint + ".part", args.checkpoint)

    def measure():
        nats, _, size = story_common.heldout_loss(model, tokenizer, heldout)
        return nats / size

    start = time.time()
    # A step has the same number of tokens in both phases.
    seen = first * args.rows * args.long_length
    sums = np.zeros(3)
    stop = min(args.steps, args.stop or args.steps)
    for step in range(first, stop):
        short = step < args.short_share * args.steps
        length = args.short_length if short else args.long_length
        rows = args.rows * args.long_length // length
        real_rows = int(round(rows * args.real_share))
        batch = data.batch(args.seed, step, rows, real_rows, length)
        scale = min(1.0, (step + 1) / args.warmup) * (1 - step / args.steps)
        hint = args.hint * max(0.0, 1 - step / (args.hint_until * args.steps))
        inputs, following = batch[:, :-1], batch[:, 1:]

        with torch.no_grad():
            teacher_hidden = []
            target = torch.softmax(teacher.forward(inputs, teacher_hidden), -1)
            target_entropy = -(target * torch.log(target + 1e-20)).sum()
        student_hidden = []
        logits = model.forward(inputs, student_hidden)
        with torch.no_grad():
            logp = torch.log_softmax(logits, -1)
            cross = -(target * logp).sum()
            real = -logp[:real_rows].gather(-1, following[:real_rows].unsqueeze(-1)).mean()
            count = rows * length
            hard = target[:real_rows]
            hard.mul_(1 - args.hard)
            hard.scatter_add_(-1, following[:real_rows].unsqueeze(-1),
                              torch.full((real_rows, length, 1), args.hard))
            gradient = logp.exp_().sub_(target).mul_(1.0 / count)
        if hint > 0:
            loss = 0.0
            for i, j in enumerate(mapped):
                wanted = story_common.Model.norm(teacher_hidden[j], None)
                made = torch.nn.functional.linear(student_hidden[i], projections[i])
                loss = loss + hint * (made - wanted).pow(2).mean()
            torch.autograd.backward([logits, loss], [gradient, None])
        else:
            for p in projections:
                p.grad = torch.zeros_like(p)
            logits.backward(gradient)
        optimizer.step(step, scale)

        seen += count
        sums += [float(real), float(cross - target_entropy) / count, 1]
        done = step + 1
        if done % args.log_every == 0 or done == stop:
            quality = ""
            if done % args.save_every == 0 or done == stop:
                save(done)
                quality = "%.4f" % measure()
            line = [done, seen, "%.0f" % (time.time() - start), "%.4f" % scale,
                    "%.4f" % (sums[0] / sums[2]), "%.4f" % (sums[1] / sums[2]), quality]
            sums[:] = 0
            print(*line, flush=True)
            if log:
                writer.writerow(line)
                log.flush()
    print("weights sha256 %s" % sha256(b"".join(p.detach().numpy().tobytes()
                                               for _, p in model.params())))


if __name__ == "__main__":
    main()
