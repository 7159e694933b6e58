# SPDX-License-Identifier: Apache-2.0
"""programs.py: how each program that is compared is started, and what it says of its speed."""
import json
import os
import re
import subprocess
from statistics import median

from resident import resident, seconds_of

PHASES = ("decode 128", "prefill 128", "prefill 512")
TIMEOUT_S = 300


class Failed(Exception):
    pass


def output_of(command, environment=None):
    """Standard output and standard error."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S,
                              env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        raise Failed("too slow") from None
    if done.returncode:
        raise Failed("aborts" if done.returncode < 0 else "fails")
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


class Program:
    """Tokens per second by phase, and the command that makes one token, with its environment."""
    settings = ((),)

    def __init__(self, path):
        self.path = os.path.abspath(path)

    def rate(self, model, threads, phase, setting):
        raise NotImplementedError

    def first_token_command(self, model):
        raise NotImplementedError

    def first_token(self, model):
        """Seconds, KiB at most, KiB by kind."""
        command, environment = self.first_token_command(model)
        environment = {**os.environ, **environment}
        seconds, status = seconds_of(command, environment)
        peak, parts, status_again = resident(command, environment)
        if status or status_again:
            raise Failed("fails")
        return seconds, peak, parts


class Heed(Program):
    def __init__(self, path, group, isa=None):
        super().__init__(path)
        self.group = group
        self.isa = ["--isa", isa] if isa else []

    def image(self, model):
        return f"{model.stem}-{self.group}.heed"

    def prepare(self, model):
        output_of([self.path, "quantize", model.checkpoint, "--tokenizer", model.tokenizer, "--group", self.group,
                   "-o", self.image(model)])

    def bench(self, model, threads):
        """Tokens per second and share of the limit by phase; all phases are one process."""
        out, _ = output_of([self.path, "bench", self.image(model), "-t", str(threads), "-p", "128,512", "-n", "128", "--json",
                            *self.isa])
        rates, shares = {}, {}
        result = json.loads(out)
        for row in result["rows"]:
            phase = f"{row['phase']} {row['tokens']}"
            rates[phase] = row["tokens_per_s"]
            shares[phase] = row["share_of_read_bandwidth" if row["phase"] == "decode" else "share_of_int8_peak"]
        return rates, shares, result["limits"]

    def first_token_command(self, model):
        return [self.path, "run", self.image(model), "-p", "", "-n", "1", "-t", "1"], {}

    def sizes(self, model):
        out, _ = output_of([self.path, "run", self.image(model), "-p", "", "-n", "1", "--json"])
        result = json.loads(out)
        return result["image_bytes"], result["arena_bytes"]

    def loss(self, model, text):
        out, _ = output_of([self.path, "eval", self.image(model), text, "--chunk-bytes", "900", "--max-chunks", "60",
                            "--reference", model.checkpoint, "--json"])
        return json.loads(out)


class LlamaBench(Program):
    """llama-bench of llama.cpp; of ik_llama.cpp with its own options."""

    def __init__(self, path, settings, no_warmup):
        super().__init__(path)
        self.settings = settings
        self.no_warmup = no_warmup

    def command(self, model, threads, prompt, decode, repetitions, setting):
        return [self.path, "-m", model.gguf, "-t", str(threads), "-p", str(prompt), "-n", str(decode), "-r", str(repetitions),
                "-o", "json", *setting]

    def rate(self, model, threads, phase, setting):
        kind, n = phase.split()
        prompt, decode = (0, n) if kind == "decode" else (n, 0)
        out, _ = output_of(self.command(model, threads, prompt, decode, model.repetitions, setting))
        rows = json.loads(out[out.index("["):])
        return median(rows[0]["samples_ts"])

    def first_token_command(self, model):
        return self.command(model, 1, 0, 1, 1, self.no_warmup), {}


def llama_cpp(path):
    return LlamaBench(path, (("-fa", "0"), ("-fa", "1")), ("--no-warmup",))


def ik_llama_cpp(path):
    return LlamaBench(path, tuple(("-fa", fa, "-rtr", rtr) for fa in "01" for rtr in "01"), ("-w", "0"))


class Llama2c(Program):
    """runq of llama2.c, or run, which is float. They have no prefill."""

    def __init__(self, path, float_weights=False):
        super().__init__(path)
        self.float_weights = float_weights

    def command(self, model, tokens):
        return [self.path, model.checkpoint if self.float_weights else model.q8, "-z", model.tokenizer, "-t", "0", "-n",
                str(tokens)]

    def rate(self, model, threads, phase, setting):
        if phase != "decode 128":
            raise Failed("none")
        # It leaves the first token out of its clock, whose unit is a millisecond.
        out, err = output_of(self.command(model, 129), {"OMP_NUM_THREADS": str(threads)})
        said = re.search(r"achieved tok/s: ([0-9.]+)", err + out)
        if not said:
            raise Failed("fails")
        return float(said.group(1))

    def first_token_command(self, model):
        return self.command(model, 1), {"OMP_NUM_THREADS": "1"}
