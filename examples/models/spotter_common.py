# SPDX-License-Identifier: Apache-2.0
"""What training and evaluation of the digit spotter share: features, the network in numpy, and files."""
import io
import json
import struct
import tarfile
import wave

import numpy as np

RATE, WINDOW, HOP, BANDS = 8000, 256, 160, 24   # 20 ms a frame
MAX_FRAMES = 128
D_MODEL, HEADS, HEAD_DIM, D_FF, LAYERS, THETA, EPSILON = 32, 2, 16, 64, 2, 10000.0, 1e-5
UNIT = 1 / 32                                   # of a feature, in front of the network


def mel_filters():
    """[WINDOW / 2 + 1, BANDS]: triangles, evenly spaced in mel from 60 Hz to 4 kHz."""
    mel = np.linspace(1127 * np.log1p(60 / 700), 1127 * np.log1p(4000 / 700), BANDS + 2)
    edges = 700 * np.expm1(mel / 1127)
    f = np.arange(WINDOW // 2 + 1)[:, None] * (RATE / WINDOW)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((f - low) / (middle - low), (high - f) / (high - middle)))


FILTERS = mel_filters()


def features(samples):
    """int8 [n, BANDS]: eighths of the binary logarithm of each band's power, less its mean over the clip."""
    samples = np.concatenate([samples, np.zeros(max(0, WINDOW - len(samples)))])
    n = min(1 + (len(samples) - WINDOW) // HOP, MAX_FRAMES)
    frames = np.stack([samples[i * HOP:i * HOP + WINDOW] for i in range(n)]) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ FILTERS
    logs = 8 * np.log2(power + 1e-4)
    return np.clip(np.rint(logs - logs.mean(axis=0)), -127, 127).astype(np.int8)


def read_fsdd(path):
    """(train, test) of recordings.tar.xz: lists of (digit, features). Index 0 to 4 of each speaker and digit tests."""
    sets = {True: [], False: []}
    with tarfile.open(path) as tar:
        for member in sorted((m for m in tar.getmembers() if m.name.endswith(".wav")), key=lambda m: m.name):
            digit, _, index = member.name.split("/")[-1][:-4].split("_")
            with wave.open(io.BytesIO(tar.extractfile(member).read())) as w:
                assert (w.getframerate(), w.getsampwidth(), w.getnchannels()) == (RATE, 2, 1)
                samples = np.frombuffer(w.readframes(w.getnframes()), "<i2") / 32768
            sets[int(index) < 5].append((int(digit), features(samples)))
    return sets[False], sets[True]


def write_clips(path, clips):
    """For each clip a byte for the digit, a byte for the number of frames, then the frames, BANDS bytes each."""
    with open(path, "wb") as f:
        for digit, x in clips:
            f.write(bytes([digit, len(x)]) + x.tobytes())


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, x in tensors.items():
        x = np.ascontiguousarray(x, "<f4")
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header, data = json.loads(f.read(size)), f.read()
    return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], "<f4").reshape(t["shape"])
            for name, t in header.items()}


def rms_norm(x, gain):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) * gain


def turn(x):
    """x [n, heads, HEAD_DIM]: pairs (2i, 2i + 1) turned by position * THETA^(-2i / HEAD_DIM)."""
    angle = np.arange(len(x))[:, None] * THETA ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


def spot(w, x):
    """Logits of the ten digits, in floats; x int8 [n, BANDS]."""
    x = x * UNIT @ w["input.weight"].T + w["input.bias"]
    for layer in range(LAYERS):
        at = lambda name: w[f"layer{layer}.{name}"]
        h = rms_norm(x, at("attention_gain"))
        q, k, v = ((h @ at(name).T).reshape(-1, HEADS, HEAD_DIM) for name in ("query", "key", "value_down"))
        scores = np.einsum("qhd,khd->hqk", turn(q), turn(k)) / np.sqrt(HEAD_DIM)
        pattern = np.exp(scores - scores.max(axis=-1, keepdims=True))
        pattern /= pattern.sum(axis=-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", pattern, v).reshape(len(x), -1) @ at("value_up").T
        h = rms_norm(x, at("ffn_gain"))
        gate, up = h @ at("gate").T, h @ at("up").T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ at("down").T
    return w["output.weight"] @ rms_norm(x, w["final_gain"]).mean(axis=0) + w["output.bias"]
