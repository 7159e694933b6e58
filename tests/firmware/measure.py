#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the story firmware for each core, runs it under QEMU and writes what it costs.

For each core: flash without the model, RAM, stack peak and the most that the compiler's report allows (stack.py), the
digest of 200 greedy tokens, and instructions per token,
counted by the plugin in tests/icount: the difference of runs of 101 and 1 tokens, divided by 100. All from one ELF a core.
From a second one (task_stack.cpp): what a call of prefill and of step takes of a task's stack when the objects are static,
painted, and at most.
Writes tests/firmware/sizes.csv and the table between the marks in tests/MEASURED.md; with --check it writes nothing and fails
when flash or stack has grown by more than 2 % over sizes.csv, when the M4 firmware exceeds its limit, or when digests differ.
"""
import argparse
import csv
import json
import os
import re
import subprocess
import sys

import stack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BOARDS = {"cortex-m0": "mps2-an385", "cortex-m3": "mps2-an385", "cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500",
          "cortex-m33": "mps2-an505", "cortex-m55": "mps3-an547"}
LAYOUTS = {"cortex-m0": "row", "cortex-m3": "row", "cortex-m55": "block64"}  # the others: pair
TABLES = {"cortex-m0": "cortex-m0", "cortex-m3": "cortex-m3", "cortex-m55": "cortex-m55"}  # the others: cortex-m4
FLASH_LIMIT = {"cortex-m4": 20 * 1024 + 256}
COLUMNS = ["model", "core", "text", "data", "bss", "stack", "stack_bound", "stack_prefill", "stack_step",
           "stack_task_bound", "arena", "instructions_per_token", "digest"]
BEGIN, END = "<!-- firmware table begins -->", "<!-- firmware table ends -->"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sections(elf):
    sizes = {}
    for line in output("arm-none-eabi-size", "-A", elf).splitlines():
        words = line.split()
        if len(words) == 3 and words[1].isdigit():
            sizes[words[0]] = int(words[1])
    return sizes


def flash_bytes(elf):
    size = sections(elf)
    return size[".text"] + size.get(".ARM.exidx", 0) + size.get(".data", 0)


def build_plugin(folder):
    """The counting plugin; its path."""
    os.makedirs(folder, exist_ok=True)
    plugin = os.path.join(folder, "libicount.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, os.path.join(ROOT, "tests/icount/icount_plugin.c")],
                   check=True)
    return plugin


def emulate(board, elf, plugin, counts, words):
    """What a firmware prints; the plugin writes `counts`."""
    command = ["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", "-serial", "none", "-chardev", "stdio,id=semi",
               "-semihosting-config", "enable=on,target=native,chardev=semi", "-plugin", f"{plugin},out={counts}", "-kernel", elf]
    return output(*command, *(["-append", words] if words else []))


def write_between(path, begin, end, lines):
    """Replaces what stands between two marks of a document."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if begin in text:
        text = text[:text.index(begin) + len(begin)] + "\n" + lines + "\n" + text[text.index(end):]
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def run(board, elf, tokens, plugin, folder):
    counts = os.path.join(folder, "counts.txt")
    text = emulate(board, elf, plugin, counts, f"-n {tokens}")
    with open(counts, encoding="utf-8") as f:
        total = int(re.search(r"^total (\d+)", f.read(), re.M).group(1))
    return text, total


def measure(core, board, heed, source, name, plugin, build):
    folder = os.path.join(build, core)
    os.makedirs(folder, exist_ok=True)
    image = os.path.join(folder, f"{name.replace(' ', '_')}.heed")
    output(heed, "quantize", source, "--layout", LAYOUTS.get(core, "pair"), "-o", image)
    # The arena has exactly the bytes that the plan, made on this machine for that core, says.
    arena = json.loads(output(heed, "plan", image, "--target", TABLES.get(core, "cortex-m4"), "--json"))["arena_bytes"]
    configure = ["cmake", "-S", ROOT, "--preset", core, "-B", folder, "-DHEED_TESTS=ON",
                 "-DHEED_FEATURES=kLlamaFeatures", f"-DHEED_FIRMWARE_MODEL={image}",
                 f"-DHEED_ARENA_BYTES={arena}"]
    # The report changes no instruction. A folder that was configured without it is configured anew.
    cache = os.path.join(folder, "CMakeCache.txt")
    if os.path.exists(cache):
        with open(cache, encoding="utf-8") as f:
            if "-fcallgraph-info=su" not in f.read():
                os.remove(cache)
    subprocess.run(configure, check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
                   env={**os.environ, "CXXFLAGS": "-fcallgraph-info=su"})
    subprocess.run(["cmake", "--build", folder, "--target", "story", "task_stack"], check=True, stdout=subprocess.DEVNULL)
    elf = os.path.join(folder, "bin", "story")
    size = sections(elf)
    text, _ = run(board, elf, 200, plugin, folder)
    first, one = run(board, elf, 1, plugin, folder)
    _, many = run(board, elf, 101, plugin, folder)
    del first
    task_elf = os.path.join(folder, "bin", "task_stack")
    task = emulate(board, task_elf, plugin, os.path.join(folder, "counts.txt"), "")
    task_number = lambda key: int(re.search(rf"^{key} stack bytes (\d+)$", task, re.M).group(1))
    number = lambda key: int(re.search(rf"^{key} (\d+)$", text, re.M).group(1))
    return {"model": name, "core": core,
            "text": size[".text"] + size.get(".ARM.exidx", 0),
            "data": size.get(".data", 0),
            "bss": size.get(".bss", 0),
            "stack": number("stack peak bytes"), "stack_bound": stack.bound(elf, folder)[0],
            "stack_prefill": task_number("prefill"), "stack_step": task_number("step"),
            "stack_task_bound": stack.bound(task_elf, folder, "task_prefill")[0], "arena": number("arena bytes"),
            "instructions_per_token": (many - one) // 100,
            "digest": re.search(r"^digest ([0-9a-f]{8})$", text, re.M).group(1)}


def table(rows):
    lines = ["| model | core | flash without the model | data | bss beside the arena | arena | stack of it all, painted | at most | of `prefill` alone | of `step` alone | of either, at most | instructions per token | digest |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r['model']} | {r['core']} | {int(r['text']) + int(r['data']):,} | {int(r['data']):,} | {int(r['bss']):,} "
                     f"| {int(r['arena']):,} | {int(r['stack']):,} | {int(r['stack_bound']):,} "
                     f"| {int(r['stack_prefill']):,} | {int(r['stack_step']):,} | {int(r['stack_task_bound']):,} | {int(r['instructions_per_token']):,} | {r['digest']} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--source", required=True, action="append", metavar="NAME=FILE",
                        help="a model: a llama2.c checkpoint or an image; may be repeated")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "firmware"))
    parser.add_argument("--core", action="append", choices=list(BOARDS), help="only this core; nothing is written then")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    plugin = build_plugin(args.build)
    rows = [measure(core, board, args.heed, path, name, plugin, args.build)
            for name, path in (source.split("=", 1) for source in args.source)
            for core, board in BOARDS.items() if not args.core or core in args.core]
    print(table(rows))
    for name, path in (source.split("=", 1) for source in args.source):
        output(args.heed, "quantize", path, "-o", os.path.join(args.build, f"{name.replace(' ', '_')}.heed"))
    errors = []
    for r in rows:
        limit = FLASH_LIMIT.get(r["core"])
        if limit and r["text"] + r["data"] > limit:
            errors.append(f"{r['core']}: {r['text'] + r['data']} bytes of flash, the limit is {limit}")
        if r["stack"] > r["stack_bound"]:
            errors.append(f"{r['model']} on {r['core']}: a stack of {r['stack']} bytes, stack.py allows {r['stack_bound']}")
        if max(r["stack_prefill"], r["stack_step"]) > r["stack_task_bound"]:
            errors.append(f"{r['model']} on {r['core']}: prefill and step take {r['stack_prefill']} and {r['stack_step']} bytes of "
                          f"stack, stack.py allows {r['stack_task_bound']}")
        host = json.loads(output(args.heed, "run", os.path.join(args.build, f"{r['model'].replace(' ', '_')}.heed"), "-p",
                                 "", "-n", "200", "--json"))["digest"]
        if r["digest"] != host:
            errors.append(f"{r['model']} on {r['core']}: digest {r['digest']}, this machine has {host}")
    path = os.path.join(ROOT, "tests", "firmware", "sizes.csv")
    if args.check:
        with open(path, newline="", encoding="utf-8") as f:
            known = {(r["model"], r["core"]): r for r in csv.DictReader(f)}
        for r in rows:
            old = known.get((r["model"], r["core"]))
            for key in ("text", "data", "bss", "stack", "stack_bound", "stack_prefill", "stack_step", "stack_task_bound", "arena", "instructions_per_token"):
                if old and r[key] > 1.02 * int(old[key]):
                    errors.append(f"{r['model']} on {r['core']}: {key} grew from {old[key]} to {r[key]}; run this script without --check")
    elif not errors and not args.core:
        with open(path, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_between(os.path.join(ROOT, "tests", "MEASURED.md"), BEGIN, END, table(rows))
    for e in errors:
        print("measure.py: " + e, file=sys.stderr)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
