#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Flash of firmware without its model, per core and per feature, at -Os: text, read-only data and initial values, start-up
and fault report included. Writes tests/firmware/flash.csv and the table between the marks in DESIGN.md; with --check it
writes nothing and fails when a number has grown by more than 2 % over flash.csv, or an M4 limit is exceeded; then a row per
feature is built for M4 alone, unless --core says otherwise.

  decoder          examples/firmware/decoder.cpp, kDecoderFeatures: tokens in, tokens out
  story            examples/firmware/story.cpp, kLlamaFeatures: with tokenizer and sampler
  + FEATURE        the story with one feature of runtime/features.hpp more
  GPT-2 family     the story with kGpt2Features
  everything       the story with all of them
"""
import argparse
import csv
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from measure import BOARDS, ROOT, flash_bytes, write_between

CSV = os.path.join(ROOT, "tests", "firmware", "flash.csv")
BEGIN, END = "<!-- flash table begins -->", "<!-- flash table ends -->"
LIMITS = {("cortex-m4", "decoder"): 14 * 1024, ("cortex-m4", "story"): 20 * 1024 + 256, ("cortex-m4", "everything"): 43 * 1024}


def features():
    """The members of Features, and for each whether kLlamaFeatures has it."""
    with open(os.path.join(ROOT, "runtime", "features.hpp"), encoding="utf-8") as f:
        text = f.read()
    names = re.findall(r"^  bool (\w+) = true;", text, re.M)
    llama = re.findall(r"Feature::(\w+)", re.search(r"kLlamaFeatures = kNoFeatures([^;]*);", text).group(1))
    return names, [name in llama for name in names]


def builds():
    """(what, program, features)"""
    names, llama = features()
    yield "decoder", "decoder", "kDecoderFeatures"
    yield "story", "story", "kLlamaFeatures"
    for i, name in enumerate(names):
        if not llama[i]:
            yield f"+ {name}", "story", f"kLlamaFeatures+Feature::{name}"
    yield "GPT-2 family", "story", "kGpt2Features"
    yield "everything", "story", "kAllFeatures"


def flash(core, what, program, built, folder):
    run = lambda *command: subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    run("cmake", "-S", ROOT, "--preset", core, "-B", folder, "-DHEED_TESTS=OFF", f"-DHEED_FEATURES={built}")
    run("cmake", "--build", folder, "--target", program)
    return flash_bytes(os.path.join(folder, "bin", program))


def table(rows, cores):
    whats = list(dict.fromkeys(what for _, what in rows))
    lines = ["| bytes at -Os | " + " | ".join(cores) + " |", "|---" * (1 + len(cores)) + "|"]
    for what in whats:
        cells = [f"{rows[core, what] - rows[core, 'story']:+,}" if what.startswith("+") else f"{rows[core, what]:,}"
                 for core in cores]
        lines.append(f"| {what.replace('+ ', '+ `') + '`' if what.startswith('+') else what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--core", action="append", choices=list(BOARDS), help="only this core; nothing is written then")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "flash"))
    args = parser.parse_args()
    cores = args.core or list(BOARDS)

    def of_core(core):
        found = {}
        for what, program, built in builds():
            if args.check and not args.core and core != "cortex-m4" and what.startswith("+"):
                continue
            found[core, what] = flash(core, what, program, built, os.path.join(args.build, core))
            print(f"{core:11} {what:20} {found[core, what]:6,}", flush=True)
        return found

    rows = {}
    with ThreadPoolExecutor(2) as pool:  # most of a link is one thread's
        for found in pool.map(of_core, cores):
            rows.update(found)
    errors = [f"{core}: {what} takes {rows[core, what]} bytes, the limit is {limit}"
              for (core, what), limit in LIMITS.items() if rows.get((core, what), 0) > limit]
    if args.check:
        with open(CSV, newline="", encoding="utf-8") as f:
            known = {(r["core"], r["what"]): int(r["flash"]) for r in csv.DictReader(f)}
        errors += [f"{core}: {what} grew from {known[core, what]} to {n} bytes; run this script without --check"
                   for (core, what), n in rows.items() if (core, what) in known and n > 1.02 * known[core, what]]
        errors += [f"{core}: {what} is not in flash.csv" for core, what in rows if (core, what) not in known]
    elif not args.core:
        with open(CSV, "w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(["core", "what", "flash"])
            writer.writerows([core, what, n] for (core, what), n in rows.items())
        write_between(os.path.join(ROOT, "DESIGN.md"), BEGIN, END, table(rows, cores))
    for e in errors:
        print("flash.py: " + e, file=sys.stderr)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
