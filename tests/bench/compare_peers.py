#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Alternates heed with other programs on the same weights and prints the table of ratios.

    compare_peers.py --heed build/bench/bin/heed --llama-cpp PATH/llama-bench --ik PATH/llama-bench --runq PATH/runq \\
        --work DIR [--write tests/MEASURED.md]

Nothing is fetched or built: the paths are of programs that exist, and whichever is not given has no column. A round runs
every program once; figures are medians over the rounds, ratios are medians of the ratios within a round. A peer runs with
whichever of its settings (flash attention, repacking) was fastest in a first round of all of them, on one thread. A model's
rows are from one run; --json keeps all of it. The table says how much of the CPUs other programs took meanwhile, and ratios are in
parentheses where that left less than the row's threads need: programs whose threads wait for each other by spinning lose most.
"""
import argparse
import json
import os
import platform
import re
import resource
import sys
import time
from statistics import median

import make_random_model
from programs import PHASES, Failed, Heed, Llama2c, ik_llama_cpp, llama_cpp, output_of

SEED = 1
BEGIN, END = "<!-- peers table begins -->", "<!-- peers table ends -->"
REPETITIONS = {"260K": 20, "15M": 10}  # of llama-bench within a round; 3 for larger models
FIRST_TOKEN_RUNS = 11
ORDER = ["260K", "15M", "110M", "110M, no AVX-512", "135M"]
TOLERATED = 0.1  # share of all CPUs that a row may lack
ATTENTION = {"attend_prefill/12x64x512": "512 x 512 causal", "attend_decode/12x64x4096": "one query over 4096 keys"}


class Model:
    """The files of one model, which are made if they are not there."""

    def __init__(self, name, work, data):
        self.name = name
        self.repetitions = REPETITIONS.get(name, 3)
        self.stem = os.path.join(work, name)
        self.checkpoint, self.tokenizer = self.stem + ".bin", self.stem + "-tokenizer.bin"
        self.q8, self.gguf = self.stem + "-q8.bin", self.stem + ".gguf"
        if os.path.exists(self.gguf):
            return
        if name == "260K":
            model = make_random_model.read_checkpoint(os.path.join(data, "stories260K.bin"))
            pieces = make_random_model.read_tokenizer(os.path.join(data, "tok512.bin"), model.vocab)
        else:
            model = make_random_model.random_model(make_random_model.SHAPES[name], make_random_model.CONTEXT, SEED)
            pieces = make_random_model.made_up_pieces(model.vocab)
        make_random_model.write_all(model, pieces, self.stem)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Others:
    """The share of all CPUs that other programs take."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        with open("/proc/stat") as file:
            ticks = [int(n) for n in file.readline().split()[1:9]]
        busy = sum(ticks) - ticks[3] - ticks[4]  # idle, waiting for a disk
        own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), own

    def share(self):
        wall, busy, own = (b - a for a, b in zip(self.start, self.now()))
        return max(0.0, (busy - own) / (wall * os.cpu_count()))


# ---- Measuring --------------------------------------------------------------------------------------------------------

def attempt(measure, *arguments):
    """A rate, or the word for why there is none."""
    try:
        return measure(*arguments)
    except Failed as failed:
        return str(failed)


def best_settings(peers, model, threads):
    """By peer and phase. A phase that no setting can do has a word instead."""
    best = {}
    for name, peer in peers.items():
        for phase in PHASES:
            rates = {setting: attempt(peer.rate, model, threads, phase, setting) for setting in peer.settings}
            works = {setting: rate for setting, rate in rates.items() if not isinstance(rate, str)}
            best[name, phase] = max(works, key=works.get) if works else next(iter(rates.values()))
    return best


def measure_speed(heeds, peers, best, model, threads, rounds):
    """A row per phase: medians over the rounds, ratios to the fastest peer, heed's shares of the limit."""
    others = Others()
    rates = {(name, phase): [] for name in (*heeds, *peers) for phase in PHASES}
    shares = {(name, phase): [] for name in heeds for phase in PHASES}
    limits = []
    for _ in range(rounds):
        for name, heed in heeds.items():
            measured, share, limit = heed.bench(model, threads)
            limits.append(limit)
            for phase in PHASES:
                rates[name, phase].append(measured[phase])
                shares[name, phase].append(share[phase])
        for (name, phase), setting in best.items():
            if not isinstance(setting, str):
                rates[name, phase].append(attempt(peers[name].rate, model, threads, phase, setting))
    rows = []
    for phase in PHASES:
        cells = {}
        for name in (*heeds, *peers):
            values = [r for r in rates[name, phase] if not isinstance(r, str)]
            if name in peers and isinstance(best[name, phase], str):
                cells[name] = best[name, phase]
            else:
                cells[name] = median(values) if len(values) == rounds else "fails at times"
        numbers = {name: cells[name] for name in peers if not isinstance(cells[name], str)}
        row = {"model": model.name, "threads": threads, "phase": phase, "cells": cells, "ratios": {}, "shares": {}}
        row["samples"] = {name: rates[name, phase] for name in (*heeds, *peers)}
        row["settings"] = {name: best[name, phase] for name in peers}
        row["limits"], row["others"] = limits, others.share()
        for name in heeds:
            row["shares"][name] = median(shares[name, phase]) if None not in shares[name, phase] else None
            if numbers:
                fastest = max(numbers, key=numbers.get)
                row["ratios"][name] = median(a / b for a, b in zip(rates[name, phase], rates[fastest, phase]))
        rows.append(row)
        say(f"{model.name} {phase}, {threads} threads: " + ", ".join(
            f"{name} {value if isinstance(value, str) else round(value)}" for name, value in cells.items())
            + f"; {row['ratios']}; {row['shares']}; others {row['others']:.2f}")
    return rows


def measure_first_token(heed, peers, model):
    rows, programs = [], {"heed": heed, **peers}
    seconds = {name: [] for name in programs}
    peaks = {}
    for _ in range(FIRST_TOKEN_RUNS):
        for name, program in programs.items():
            result = attempt(program.first_token, model)
            if not isinstance(result, str):
                seconds[name].append(result[0])
                peaks[name] = max(peaks.get(name, (0, {})), (result[1], result[2]), key=lambda p: p[0])
    for name in programs:
        if len(seconds[name]) == FIRST_TOKEN_RUNS:
            row = {"model": model.name, "program": name, "seconds": median(seconds[name]), "fastest": min(seconds[name]),
                   "peak_kib": peaks[name][0], "parts_kib": peaks[name][1]}
            if name == "heed":
                row["image_bytes"], row["arena_bytes"] = heed.sizes(model)
            rows.append(row)
            say(f"{model.name}, {name}: first token after {1000 * row['seconds']:.1f} ms, {row['peak_kib'] / 1024:.1f} MiB")
    return rows


def measure_attention(benchmarks, drivers, rounds):
    """heed's from its benchmarks; a peer's driver prints a line `CASE MILLISECONDS` each. All are CPU time of one thread."""
    samples = {}
    for _ in range(rounds):
        out, _ = output_of([benchmarks, f"--benchmark_filter=/({'|'.join(ATTENTION)})$", "--benchmark_format=json",
                            "--benchmark_min_time=0.2"])
        for run in json.loads(out)["benchmarks"]:
            table, case = run["name"].split("/", 1)
            samples.setdefault((f"heed, {table}", ATTENTION[case]), []).append(run["cpu_time"] / 1e6)
        for name, path in drivers.items():
            for line in output_of([path])[0].splitlines():
                case, milliseconds = line.rsplit(None, 1)
                samples.setdefault((name, case), []).append(float(milliseconds))
    return [{"program": name, "case": case, "milliseconds": median(values)} for (name, case), values in samples.items()]


# ---- Tables -----------------------------------------------------------------------------------------------------------

def number(value):
    return value if isinstance(value, str) else f"{value:,.0f}"


def percent(value):
    return "-" if value is None else f"{100 * value:.0f} %"


def speed_table(rows, peers, cpus):
    lines = ["| model | phase | threads | heed, rows | heed, groups of 64 | " + " | ".join(peers)
             + " | rows / best peer | groups / best peer | of the limit | CPUs taken by others |",
             "|" + "---|" * (len(peers) + 9)]
    for row in rows:
        cells, ratios = row["cells"], row["ratios"]
        disturbed = row["others"] > 1 - row["threads"] / cpus + TOLERATED
        shown = "({:.2f})" if disturbed else "{:.2f}"
        lines.append("| " + " | ".join([row["model"], row["phase"], str(row["threads"]), number(cells["row"]), number(cells["64"]),
                                        *[number(cells.get(name, "-")) for name in peers],
                                        *[shown.format(ratios[g]) if g in ratios else "-" for g in ("row", "64")],
                                        f"({percent(row['shares']['row'])})" if disturbed else percent(row["shares"]["row"]),
                                        percent(row["others"])]) + " |")
    return lines


def first_token_table(rows):
    lines = ["| model | program | start to end, one token, ms | resident at most, MiB | image + arena, MiB |", "|---|---|---|---|---|"]
    for row in rows:
        own = f"{(row['image_bytes'] + row['arena_bytes']) / 2 ** 20:.1f}" if "image_bytes" in row else "-"
        lines.append(f"| {row['model']} | {row['program']} | {1000 * row['seconds']:.1f} | {row['peak_kib'] / 1024:.1f} | {own} |")
    return lines


def loss_table(losses):
    lines = ["| stories260K | loss, nats | loss of float | KL, nats | first choice agrees |", "|---|---|---|---|---|"]
    names = {"row": "one scale per row", "64": "groups of 64", "auto": "what the quantiser chooses"}
    for group, loss in losses.items():
        lines.append(f"| {names[group]} | {loss['nats_per_token']:.6f} | {loss['reference_nats_per_token']:.6f} | "
                     f"{loss['kl']:.4f} | {100 * loss['top1_agreement']:.1f} % |")
    return lines


def attention_table(rows):
    cases = list(dict.fromkeys(row["case"] for row in rows))
    lines = ["| attention alone, ms | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
    for name in dict.fromkeys(row["program"] for row in rows):
        found = {row["case"]: row["milliseconds"] for row in rows if row["program"] == name}
        lines.append(f"| {name} | " + " | ".join(f"{found[c]:.3f}" if c in found else "-" for c in cases) + " |")
    return lines


def markdown(result):
    peers = result["peers"]
    lines = [f"On {result['cpu']}, {result['rounds']} rounds; a model's rows are from one run. {result['note']} Tokens per second; "
             "in parentheses what other programs disturbed, which left a row fewer CPUs than it has threads:"]
    lines += ["", *speed_table(result["speed"], peers, result["cpus"])]
    for key, table in (("first_token", first_token_table), ("loss", loss_table), ("attention", attention_table)):
        if result.get(key):
            lines += ["", *table(result[key])]
    return "\n".join(lines)


def write_between_marks(path, text):
    with open(path) as file:
        whole = file.read()
    if BEGIN not in whole or END not in whole:
        sys.exit(f"{path}: no {BEGIN} and {END}")
    with open(path, "w") as file:
        file.write(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", whole, flags=re.S))


def cpu_name():
    with open("/proc/cpuinfo") as file:
        found = re.search(r"model name\s*: (.*)", file.read())
    return (found.group(1) if found else platform.machine()) + f", {os.cpu_count()} CPUs"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heed", required=True)
    parser.add_argument("--llama-cpp", help="llama-bench of llama.cpp")
    parser.add_argument("--ik", help="llama-bench of ik_llama.cpp")
    parser.add_argument("--runq", help="llama2.c's runq")
    parser.add_argument("--run", help="llama2.c's run: float weights, for 260K only")
    parser.add_argument("--llama-cpp-avx2", help="llama-bench of llama.cpp built without AVX-512")
    parser.add_argument("--ik-avx2", help="llama-bench of ik_llama.cpp built without AVX-512")
    parser.add_argument("--attention", help="heed's benchmarks, build/bench/bin/heed_benchmarks: attention alone")
    parser.add_argument("--attention-peer", action="append", default=[], metavar="NAME=PATH", help="a peer's driver")
    parser.add_argument("--work", required=True, help="folder for the models")
    parser.add_argument("--data", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared/data"),
                        help="folder with stories260K/ and text/")
    parser.add_argument("--models", default="260K,15M,110M,135M")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--one-thread-only", default="260K", help="models that are too small for two")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="goes into the table: versions, compilers")
    parser.add_argument("--json", help="keep everything measured")
    parser.add_argument("--from-json", action="append", default=[], help="print the table of what --json kept, and measure nothing; "
                        "of several, the later one's models and attention count")
    parser.add_argument("--write", metavar="PAGE", help="put the table between the marks of this file")
    return parser.parse_args()


def merged(paths):
    result = {}
    for path in paths:
        with open(path) as file:
            later = json.load(file)
        for key in ("speed", "first_token"):
            measured = {row["model"] for row in later[key]}
            later[key] = [row for row in result.get(key, []) if row["model"] not in measured] + later[key]
            later[key].sort(key=lambda row: ORDER.index(row["model"]))
        for key in ("loss", "attention"):
            later[key] = later.get(key) or result.get(key)
        result = later
    return result


def keep(result, options):
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


def measure(options):
    os.makedirs(options.work, exist_ok=True)
    models = [Model(name, options.work, os.path.join(options.data, "stories260K")) for name in options.models.split(",")]
    given = {"llama.cpp": (llama_cpp, options.llama_cpp), "ik_llama.cpp": (ik_llama_cpp, options.ik),
             "llama2.c": (Llama2c, options.runq)}
    peers = {name: make(path) for name, (make, path) in given.items() if path}
    heeds = {group: Heed(options.heed, group) for group in ("row", "64")}
    result = {"cpu": cpu_name(), "cpus": os.cpu_count(), "rounds": options.rounds, "note": options.note, "speed": [], "first_token": [],
              "peers": list(peers), "loss": {}}
    for model in models:
        for heed in heeds.values():
            heed.prepare(model)
        with_float = {**peers, "llama2.c": Llama2c(options.run, True)} if options.run and model.name == "260K" else peers
        best = best_settings(with_float, model, 1)
        for threads in map(int, options.threads.split(",")):
            if threads > 1 and model.name in options.one_thread_only.split(","):
                continue
            rows = measure_speed(heeds, with_float, best, model, threads, options.rounds)
            if with_float is not peers:
                rows[0]["cells"]["llama2.c"] = number(rows[0]["cells"]["llama2.c"]) + " (float)"
            result["speed"] += rows
        result["first_token"] += measure_first_token(heeds["row"], peers, model)
        keep(result, options)
        if model.name == "110M" and (options.llama_cpp_avx2 or options.ik_avx2):
            given = {"llama.cpp": (llama_cpp, options.llama_cpp_avx2), "ik_llama.cpp": (ik_llama_cpp, options.ik_avx2)}
            avx2 = {name: make(path) for name, (make, path) in given.items() if path}
            with_avx2 = {group: Heed(options.heed, group, "avx2") for group in heeds}
            rows = measure_speed(with_avx2, avx2, best_settings(avx2, model, 1), model, 1, options.rounds)
            result["speed"] += [{**row, "model": "110M, no AVX-512"} for row in rows]
            keep(result, options)
    story = next((model for model in models if model.name == "260K"), None)
    if story:
        for group in ("auto", "row", "64"):
            heed = Heed(options.heed, group)
            heed.prepare(story)
            result["loss"][group] = heed.loss(story, os.path.join(options.data, "text", "tinystories.txt"))
    if options.attention:
        drivers = dict(pair.split("=", 1) for pair in options.attention_peer)
        result["attention"] = measure_attention(options.attention, drivers, options.rounds)
    return result


def main():
    options = arguments()
    if options.from_json:
        result = merged(options.from_json)
    else:
        result = measure(options)
    keep(result, options)
    text = markdown(result)
    print(text)
    if options.write:
        write_between_marks(options.write, text)


if __name__ == "__main__":
    main()
