#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that a Cortex-M table multiplies with the instruction it was written for.

In the counts firmware (tests/firmware/counts.cpp): the functions that compute products and scores contain a loop with the
dot instruction; both regions execute such a function; and between two widths of the same product, and of the same
scores, the executed number of these instructions differs by exactly the multiply-adds between them.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# core: instruction as objdump prints it, its encoding (mask:value), multiply-adds of each, the functions with the loop
# (as mangled); and what the encoding matches beside it.
DOTS = {
    "cortex-m0": ("muls", "0xFFC0:0x4340", 1, "dot_rows", None),
    "cortex-m3": ("mla", "0xFFF000F0:0xFB000000", 1, "dot4", "0xFFF0F0F0:0xFB00F000"),  # mul is mla without an addend
    "cortex-m4": ("smlad", "0xFFF000F0:0xFB200000", 2, "run_pairs", None),
    "cortex-m55": ("vml[ad]*[av]+[.]s8", "0xFFF11FD1:0xEEF00F00", 16, "_rows", None),
}
DOTS["cortex-m7"] = DOTS["cortex-m33"] = DOTS["cortex-m4"]
REGIONS = {"product": ("matvec 64x128", "matvec 64x64"), "scores": ("scores 64x64", "scores 64x32")}


def loops_with(objdump, elf, function, instruction):
    """Names of the functions that have the instruction inside a loop."""
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", "-marmv8.1-m.main", elf], check=True, capture_output=True,
                          text=True).stdout
    found = set()
    for name, body in re.findall(r"^[0-9a-f]+ <([^>]*)>:\n((?:.+\n)*)", text, re.M):
        if function not in name:
            continue
        dots = [int(a, 16) for a in re.findall(rf"^\s*([0-9a-f]+):\s+{instruction}\b", body, re.M)]
        for at, to in re.findall(r"^\s*([0-9a-f]+):\s+(?:b[a-z.]*|le|letp)\s+(?:lr, )?([0-9a-f]+) <", body, re.M):
            if any(int(to, 16) <= a < int(at, 16) for a in dots):
                found.add(name)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", required=True, choices=sorted(DOTS))
    parser.add_argument("--elf", required=True)
    parser.add_argument("--objdump", default="arm-none-eabi-objdump")
    parser.add_argument("emulator", nargs=argparse.REMAINDER, help="-- and the emulator's words, up to -kernel")
    args = parser.parse_args()
    instruction, encoding, macs, function, beside = DOTS[args.core]
    errors = []
    found = loops_with(args.objdump, args.elf, function, instruction)
    if not found:
        errors.append(f"no loop with {instruction} in {function}")

    emulator = [word for word in args.emulator if word != "--"]
    with tempfile.TemporaryDirectory() as folder:
        plugin, counts = os.path.join(folder, "libicount.so"), os.path.join(folder, "counts.txt")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, os.path.join(ROOT, "tests/icount/icount_plugin.c")],
                       check=True)
        options = f"{plugin},out={counts},symbol={function},match={encoding}" + (f",match={beside}" if beside else "")
        kernel = emulator.index("-kernel") if "-kernel" in emulator else len(emulator)
        command = emulator[:kernel] + ["-plugin", options, "-kernel", args.elf]
        text = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=280).stdout
        names = text.decode().replace("\0", "").splitlines()
        with open(counts, encoding="utf-8") as f:
            regions = [[int(word) for word in line.split()[1:]] for line in f if line.startswith("region ")]
    by_name = {}
    for name, region in zip(names, regions):
        words = name.split()
        inside, dots = region[2], region[3] - (region[4] if beside else 0)
        by_name[" ".join(words[:2])] = (int(words[2]), inside, dots)
    for what, (wide, narrow) in REGIONS.items():
        (work, inside, dots), (less, _, fewer) = by_name[wide], by_name[narrow]
        print(f"{args.core} {what}: {dots - fewer} more {instruction} for {work - less} more multiply-adds")
        if inside == 0:
            errors.append(f"{what}: {function} is not executed")
        if (dots - fewer) * macs != work - less:
            errors.append(f"{what}: {dots} and {fewer} {instruction} for {work} and {less} multiply-adds")
    for e in errors:
        print("dot_instruction.py: " + e, file=sys.stderr)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
