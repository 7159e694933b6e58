#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions of the int8 product and per token on emulated 64-bit Arm, beside other programs' kernels.

    count_arm.py --build build/aarch64 [--peer NAME:CPU=PROGRAM ...] [--model NAME=IMAGE ...] [--runq NAME=PROGRAM,MODEL,TOKENIZER]
                 [--write tests/MEASURED.md]

--build has dot_count and step_count. A peer's program runs on one CPU of QEMU (cortex-a53, cortex-a76 or max); it
multiplies 768 x 768 by one and by 64 vectors between the marks of tests/icount/icount_mark.hpp and prints `KERNEL
MULTIPLY-ADDS` for each pair of marks, in order; of several kernels the best counts. Activations are quantised before the
marks in all of them. Instructions per token are those of 32 greedy ones after the first eight; runq's are the difference
between a run of 40 tokens and one of 8.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CPUS = {"cortex-a53": "neon", "cortex-a76": "dotprod", "max": "i8mm"}
BEGIN, END = "<!-- arm table begins -->", "<!-- arm table ends -->"
ONE, MANY = 768 * 768, 64 * 768 * 768
FEWER, MORE = 8, 40  # tokens


class Counter:
    def __init__(self, folder, sysroot):
        self.folder, self.sysroot = folder, sysroot
        self.plugin = os.path.join(folder, "icount.so")
        subprocess.run([os.environ.get("CC_FOR_BUILD", "cc"), "-O2", "-shared", "-fPIC", "-o", self.plugin,
                        os.path.join(HERE, "../icount/icount_plugin.c")], check=True)

    def run(self, cpu, command):
        """Standard output, instructions by region, all instructions."""
        counts = os.path.join(self.folder, "counts")
        out = subprocess.run(["qemu-aarch64", "-L", self.sysroot, "-cpu", cpu, "-seed", "1", "-plugin",
                              f"{self.plugin},out={counts}", *command], check=True, capture_output=True).stdout.decode()
        with open(counts) as file:
            lines = file.read()
        regions = [int(n) for n in re.findall(r"^region \d+ (\d+)", lines, re.M)]
        return out, regions, int(re.search(r"^total (\d+)", lines, re.M).group(1))

    def product(self, cpu, program, table=None):
        """Instructions per multiply-add of the best kernel, for one vector and for 64."""
        out, regions, _ = self.run(cpu, [program, *([table] if table else [])])
        best = {}
        for line, count in zip(out.splitlines(), regions):
            words = line.split()
            name, macs = ("", int(words[0])) if table else (words[0], int(words[1]))
            if macs in (ONE, MANY) and (macs not in best or count / macs < best[macs][0]):
                best[macs] = (count / macs, name)
        return [best.get(ONE), best.get(MANY)]

    def per_token(self, cpu, command):
        totals = [self.run(cpu, [*command, "-n", str(n)])[2] for n in (FEWER, MORE)]
        return (totals[1] - totals[0]) // (MORE - FEWER)


def product_table(counter, options):
    peers = {}
    for text in options.peer:
        name, cpu, program = re.fullmatch(r"([^:]+):([^=]+)=(.*)", text).groups()
        peers.setdefault(name, {})[cpu] = program
    lines = ["| instructions per multiply-add, 768 x 768 | tokens | heed | " + " | ".join(peers) + " |",
             "|---|---|---|" + "---|" * len(peers)]
    for cpu, table in CPUS.items():
        columns = [counter.product(cpu, os.path.join(options.build, "bin/dot_count"), table)]
        columns += [counter.product(cpu, programs[cpu]) if cpu in programs else [None, None] for programs in peers.values()]
        for i, tokens in enumerate((1, 64)):
            cells = [f"{column[i][0]:.4f}" + (f" ({column[i][1]})" if column[i][1] else "") if column[i] else "none"
                     for column in columns]
            lines.append(f"| {cpu} ({table}) | {tokens} | " + " | ".join(cells) + " |")
    return lines


def token_table(counter, options):
    lines = ["| instructions per token | " + " | ".join(f"{cpu} ({table})" for cpu, table in CPUS.items()) + " |",
             "|---|" + "---|" * len(CPUS)]
    for text in options.model:
        name, image = text.split("=", 1)
        program = os.path.join(options.build, "bin/step_count")
        counts = [counter.run(cpu, [program, table, image, str(MORE - FEWER)])[1][0] for cpu, table in CPUS.items()]
        cells = [f"{count // (MORE - FEWER):,}" for count in counts]
        lines.append(f"| {name}, heed | " + " | ".join(cells) + " |")
    for text in options.runq:
        name, parts = text.split("=", 1)
        *programs, model, tokenizer = parts.split(",")
        programs = programs * len(CPUS) if len(programs) == 1 else programs
        cells = [f"{counter.per_token(cpu, [program, model, '-z', tokenizer, '-t', '0']):,}" for cpu, program in zip(CPUS, programs)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--sysroot", default="/usr/aarch64-linux-gnu")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME:CPU=PROGRAM")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=IMAGE")
    parser.add_argument("--runq", action="append", default=[], metavar="NAME=PROGRAM[,PROGRAM,PROGRAM],MODEL,TOKENIZER",
                        help="llama2.c's runq, one for all CPUs or one for each")
    parser.add_argument("--write", metavar="PAGE", help="put the tables between the marks of this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counter = Counter(folder, options.sysroot)
        lines = product_table(counter, options)
        if options.model or options.runq:
            lines += ["", *token_table(counter, options)]
    text = "\n".join(lines)
    print(text)
    if options.write:
        with open(options.write) as file:
            whole = file.read()
        if BEGIN not in whole:
            sys.exit(f"{options.write}: no {BEGIN}")
        with open(options.write, "w") as file:
            file.write(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", whole, flags=re.S))


if __name__ == "__main__":
    main()
