# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the story model scripts: llama2.c tokenizer, llama2.c model
file, and the decoder in PyTorch.

The decoder is the Llama family as llama2.c defines it: RMS norm, rotary
positions on adjacent pairs, grouped key/value heads, gated SiLU and a tied
embedding.  Inside PyTorch two things are stored differently from the file, and
converted when a file is read or written:

* wq, wk and wv are one matrix, and so are w1 and w3 (fewer, larger products);
* the rows of each query and key head are ordered "even positions first", so
  that a rotation works on two contiguous halves.
"""
import struct

import numpy as np
import torch

BOS = 1
EOS = 2
ROPE_BASE = 10000.0
NORM_EPS = 1e-5


class Tokenizer:
    """Reader of a llama2.c tokenizer.bin, encoder and decoder.

    encode() gives the same ids as llama2.c: characters (with a fallback to
    byte tokens), then repeated merging of the neighbouring pair whose merged
    piece has the best score.
    """

    def __init__(self, path, vocab_size):
        with open(path, "rb") as f:
            data = f.read()
        pos = 4
        self.scores, self.pieces = [], []
        for _ in range(vocab_size):
            score, size = struct.unpack_from("<fi", data, pos)
            pos += 8
            self.scores.append(score)
            self.pieces.append(data[pos:pos + size])
            pos += size
        if pos != len(data):
            raise ValueError("%s does not hold %d pieces" % (path, vocab_size))
        self.ids = {}
        for i, piece in enumerate(self.pieces):
            self.ids.setdefault(piece, i)
        # A text may be encoded in parts, cut before every space, when no piece
        # has a space after its first byte.
        self.splittable = all(b" " not in p[1:] for p in self.pieces[259:])
        self.cache = {}

    def _characters(self, text):
        ids, i = [], 0
        while i < len(text):
            j = i + 1
            while j < len(text) and (text[j] & 0xC0) == 0x80 and j - i < 4:
                j += 1
            found = self.ids.get(text[i:j])
            if found is not None:
                ids.append(found)
            else:
                ids.extend(b + 3 for b in text[i:j])
            i = j
        return ids

    def _merge(self, ids):
        while True:
            best, best_at, best_id = -1e10, -1, -1
            for i in range(len(ids) - 1):
                merged = self.ids.get(self.pieces[ids[i]] + self.pieces[ids[i + 1]])
                if merged is not None and self.scores[merged] > best:
                    best, best_at, best_id = self.scores[merged], i, merged
            if best_at < 0:
                return ids
            ids[best_at:best_at + 2] = [best_id]

    def encode(self, text, bos=True):
        """Ids of the bytes in text, with the leading space of SentencePiece."""
        ids = [BOS] if bos else []
        if not text:
            return ids
        text = b" " + text
        if not self.splittable:
            return ids + self._merge(self._characters(text))
        start = 0
        while start < len(text):
            end = text.find(b" ", start + 1)
            end = len(text) if end < 0 else end
            part = text[start:end]
            known = self.cache.get(part)
            if known is None:
                known = self.cache[part] = self._merge(self._characters(part))
            ids.extend(known)
            start = end
        return ids

    def decode(self, ids):
        out, previous = [], BOS
        for i in ids:
            if i in (0, BOS, EOS):
                previous = i
                continue
            piece = self.pieces[i]
            if 3 <= i <= 258:
                piece = bytes([i - 3])
            elif previous == BOS and piece.startswith(b" "):
                piece = piece[1:]
            out.append(piece)
            previous = i
        return b"".join(out)


class Config:
    """The seven integers of a llama2.c file."""

    names = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "context")

    def __init__(self, *values):
        for name, value in zip(self.names, values):
            setattr(self, name, int(value))
        self.head_dim = self.d_model // self.n_heads

    def values(self):
        return [getattr(self, name) for name in self.names]


def halves_order(n_heads, head_dim):
    """Row order that turns adjacent rotation pairs into two halves per head."""
    order = [h * head_dim + i for h in range(n_heads)
             for i in list(range(0, head_dim, 2)) + list(range(1, head_dim, 2))]
    return np.array(order)


class RmsScale(torch.autograd.Function):
    """x divided by its root mean square along the last dimension."""

    @staticmethod
    def forward(ctx, x):
        r = torch.rsqrt((x * x).mean(-1, keepdim=True) + NORM_EPS)
        y = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, dy):
        y, r = ctx.saved_tensors
        m = (dy * y).mean(-1, keepdim=True)
        return torch.addcmul(dy, y, m, value=-1.0).mul_(r)


class Rotate(torch.autograd.Function):
    """Rotary positions on heads whose rows are in halves order."""

    @staticmethod
    def turn(x, cos, sin):
        h = x.shape[-1] // 2
        a, b = x[..., :h], x[..., h:]
        out = torch.empty_like(x)
        torch.addcmul(a * cos, b, sin, value=-1.0, out=out[..., :h])
        torch.addcmul(b * cos, a, sin, value=1.0, out=out[..., h:])
        return out

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return Rotate.turn(x, cos, sin)

    @staticmethod
    def backward(ctx, dy):
        cos, sin = ctx.saved_tensors
        return Rotate.turn(dy, cos, -sin), None, None


class Attention(torch.autograd.Function):
    """Causal attention of grouped heads, one block of query rows at a time.

    q: (batch * kv heads, group, time, head_dim), k and v without the group.
    A block of rows only meets the keys up to its own end, so almost half of
    the products of a full square are left out.
    """

    block = 128

    @staticmethod
    def forward(ctx, q, k, v):
        n, g, t, d = q.shape
        scale = d ** -0.5
        out = torch.empty_like(q)
        probs = []
        kt, vt = k.transpose(1, 2), v
        for s in range(0, t, Attention.block):
            e = min(t, s + Attention.block)
            rows = q[:, :, s:e].reshape(n, g * (e - s), d)
            mask = torch.zeros(e - s, e)
            mask[:, s:] = torch.full((e - s, e - s), -1e30).triu_(1)
            score = torch.baddbmm(mask.repeat(g, 1).unsqueeze(0).expand(n, -1, -1),
                                  rows, kt[:, :, :e], alpha=scale)
            p = torch.softmax(score, -1)
            out[:, :, s:e] = torch.bmm(p, vt[:, :e]).view(n, g, e - s, d)
            probs.append(p)
        ctx.save_for_backward(q, k, v, *probs)
        return out

    @staticmethod
    def backward(ctx, do):
        q, k, v, *probs = ctx.saved_tensors
        n, g, t, d = q.shape
        scale = d ** -0.5
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(k), torch.zeros_like(v)
        vt = v.transpose(1, 2)
        for i, s in enumerate(range(0, t, Attention.block)):
            e = min(t, s + Attention.block)
            p = probs[i]
            rows = q[:, :, s:e].reshape(n, g * (e - s), d)
            grad = do[:, :, s:e].reshape(n, g * (e - s), d)
            dv[:, :e].baddbmm_(p.transpose(1, 2), grad)
            dp = torch.bmm(grad, vt[:, :, :e])
            ds = torch._softmax_backward_data(dp, p, -1, torch.float32)
            dq[:, :, s:e] = torch.bmm(ds, k[:, :e]).mul_(scale).view(n, g, e - s, d)
            dk[:, :e].baddbmm_(ds.transpose(1, 2), rows, alpha=scale)
        return dq, dk, dv


class Layer:
    """The weights of one layer, as PyTorch tensors."""

    names = ("attn_norm", "wqkv", "wo", "ffn_norm", "w13", "w2")


class Model:
    """The decoder.  Weights are plain tensors; params() lists them by name.

    Layer norm gains may be None (all ones): the matrix behind a norm can hold
    its gain, so training leaves them out.
    """

    def __init__(self, config):
        self.config = c = config
        self.layers = [Layer() for _ in range(c.n_layers)]
        half = c.head_dim // 2
        freq = ROPE_BASE ** (-2.0 * np.arange(half) / c.head_dim)
        angle = np.outer(np.arange(c.context), freq)
        self.cos = torch.tensor(np.cos(angle), dtype=torch.float32)
        self.sin = torch.tensor(np.sin(angle), dtype=torch.float32)

    def init(self, generator):
        """Random initial weights."""
        c = self.config

        def normal(rows, columns, std):
            return torch.randn(rows, columns, generator=generator) * std

        std = c.d_model ** -0.5
        deep = (2 * c.n_layers) ** -0.5
        self.embedding = normal(c.vocab_size, c.d_model, 0.05)
        for layer in self.layers:
            layer.attn_norm = layer.ffn_norm = None
            layer.wqkv = normal(c.d_model + 2 * c.n_kv_heads * c.head_dim, c.d_model, std)
            layer.wo = normal(c.d_model, c.d_model, std * deep)
            layer.w13 = normal(2 * c.d_ff, c.d_model, std)
            layer.w2 = normal(c.d_model, c.d_ff, c.d_ff ** -0.5 * deep)
        self.final_norm = torch.ones(c.d_model)
        return self

    def params(self):
        out = [("embedding", self.embedding), ("final_norm", self.final_norm)]
        for i, layer in enumerate(self.layers):
            for name in Layer.names:
                if getattr(layer, name) is not None:
                    out.append(("layers.%d.%s" % (i, name), getattr(layer, name)))
        return out

    def set_params(self, tensors):
        for layer in self.layers:
            for name in Layer.names:
                setattr(layer, name, None)
        for name, tensor in tensors:
            parts = name.split(".")
            owner = self.layers[int(parts[1])] if len(parts) == 3 else self
            setattr(owner, parts[-1], tensor)
        return self

    @staticmethod
    def norm(x, gain):
        y = RmsScale.apply(x)
        return y if gain is None else y * gain

    def split_heads(self, qkv, first):
        """q (n, group, time, head_dim), k and v (n, time, head_dim); n = batch * kv heads.

        first is the position of the first row."""
        c = self.config
        b, t, _ = qkv.shape
        kv, hd = c.n_kv_heads, c.head_dim
        g = c.n_heads // kv
        cut = c.d_model + kv * hd
        rotated = Rotate.apply(qkv[..., :cut].reshape(b, t, c.n_heads + kv, hd),
                               self.cos[first:first + t].unsqueeze(1),
                               self.sin[first:first + t].unsqueeze(1))
        q = rotated[:, :, :c.n_heads].view(b, t, kv, g, hd).permute(0, 2, 3, 1, 4)
        k = rotated[:, :, c.n_heads:].transpose(1, 2)
        v = qkv[..., cut:].reshape(b, t, kv, hd).transpose(1, 2)
        return (q.reshape(b * kv, g, t, hd), k.reshape(b * kv, t, hd), v.reshape(b * kv, t, hd))

    def feed_forward(self, layer, x):
        up = torch.nn.functional.linear(self.norm(x, layer.ffn_norm), layer.w13)
        a, b = up.chunk(2, -1)
        return torch.nn.functional.linear(torch.nn.functional.silu(a) * b, layer.w2)

    def forward(self, tokens, hidden=None):
        """Logits (batch, time, vocab).  A list in hidden gets the residual after each layer."""
        c = self.config
        b, t = tokens.shape
        linear = torch.nn.functional.linear
        x = torch.nn.functional.embedding(tokens, self.embedding)
        for layer in self.layers:
            qkv = linear(self.norm(x, layer.attn_norm), layer.wqkv)
            o = Attention.apply(*self.split_heads(qkv, 0))
            o = o.view(b, c.n_kv_heads, -1, t, c.head_dim).permute(0, 3, 1, 2, 4)
            x = x + linear(o.reshape(b, t, c.d_model), layer.wo)
            x = x + self.feed_forward(layer, x)
            if hidden is not None:
                hidden.append(x)
        return linear(self.norm(x, self.final_norm), self.embedding)


def load_model(path):
    """Reads a llama2.c float32 model file with a tied classifier."""
    with open(path, "rb") as f:
        data = f.read()
    c = Config(*struct.unpack_from("<7i", data))
    if c.vocab_size <= 0:
        raise ValueError("only tied classifiers are supported")
    values = np.frombuffer(data, dtype="<f4", offset=28)
    at = 0

    def take(*shape):
        nonlocal at
        size = int(np.prod(shape))
        part = values[at:at + size].reshape(shape)
        at += size
        return part.copy()

    kv = c.n_kv_heads * c.head_dim
    n = c.n_layers
    embedding = take(c.vocab_size, c.d_model)
    attn_norm = take(n, c.d_model)
    wq, wk = take(n, c.d_model, c.d_model), take(n, kv, c.d_model)
    wv, wo = take(n, kv, c.d_model), take(n, c.d_model, c.d_model)
    ffn_norm = take(n, c.d_model)
    w1, w2 = take(n, c.d_ff, c.d_model), take(n, c.d_model, c.d_ff)
    w3 = take(n, c.d_ff, c.d_model)
    final_norm = take(c.d_model)
    take(2, c.context, c.head_dim // 2)
    if at != len(values):
        raise ValueError("%s has %d values left" % (path, len(values) - at))
    oq, ok = halves_order(c.n_heads, c.head_dim), halves_order(c.n_kv_heads, c.head_dim)
    model = Model(c)
    model.embedding, model.final_norm = torch.tensor(embedding), torch.tensor(final_norm)
    for i, layer in enumerate(model.layers):
        layer.attn_norm, layer.ffn_norm = torch.tensor(attn_norm[i]), torch.tensor(ffn_norm[i])
        layer.wqkv = torch.tensor(np.concatenate([wq[i][oq], wk[i][ok], wv[i]]))
        layer.wo, layer.w2 = torch.tensor(wo[i]), torch.tensor(w2[i])
        layer.w13 = torch.tensor(np.concatenate([w1[i], w3[i]]))
    return model


def save_model(model, path):
    """Writes a llama2.c float32 model file with a tied classifier."""
    c = model.config
    kv = c.n_kv_heads * c.head_dim
    bq = np.argsort(halves_order(c.n_heads, c.head_dim))
    bk = np.argsort(halves_order(c.n_kv_heads, c.head_dim))
    parts = {name: [] for name in ("an", "q", "k", "v", "o", "fn", "1", "2", "3")}
    ones = torch.ones(c.d_model)
    for layer in model.layers:
        wqkv = layer.wqkv.detach().numpy()
        w13 = layer.w13.detach().numpy()
        parts["an"].append((ones if layer.attn_norm is None else layer.attn_norm).detach().numpy())
        parts["q"].append(wqkv[:c.d_model][bq])
        parts["k"].append(wqkv[c.d_model:c.d_model + kv][bk])
        parts["v"].append(wqkv[c.d_model + kv:])
        parts["o"].append(layer.wo.detach().numpy())
        parts["fn"].append((ones if layer.ffn_norm is None else layer.ffn_norm).detach().numpy())
        parts["1"].append(w13[:c.d_ff])
        parts["2"].append(layer.w2.detach().numpy())
        parts["3"].append(w13[c.d_ff:])
    with open(path, "wb") as f:
        f.write(struct.pack("<7i", *c.values()))
        f.write(model.embedding.detach().numpy().astype("<f4").tobytes())
        for name in parts:
            f.write(np.stack(parts[name]).astype("<f4").tobytes())
        f.write(model.final_norm.detach().numpy().astype("<f4").tobytes())
        f.write(model.cos.numpy().astype("<f4").tobytes())
        f.write(model.sin.numpy().astype("<f4").tobytes())


def heldout_loss(model, tokenizer, text, chunks=60, size=900):
    """Sum of nats, tokens and bytes of the first chunks of text.

    Every chunk is encoded on its own after BOS, and every token after BOS is
    predicted."""
    nats, tokens = 0.0, 0
    with torch.no_grad():
        for i in range(chunks):
            ids = tokenizer.encode(text[i * size:(i + 1) * size])[:model.config.context]
            row = torch.tensor(ids).unsqueeze(0)
            logits = model.forward(row[:, :-1])[0]
            nats += float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))
            tokens += len(ids) - 1
    return nats, tokens, chunks * size
