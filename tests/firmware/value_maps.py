#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which form of value maps takes fewer instructions, and whether the converter would choose it.

Builds tests/firmware/value_maps.cpp for Cortex-M4 and M0, counts an attention layer in both forms over whole sequences of some
shapes under QEMU, and holds the counts against value_map_cost(), which the firmware prints beside each.

--write          writes the table of DESIGN.md
--check          fails where the choice is wrong in more than a tenth of a core's shapes, or costs more than 5 % of the layer
--core CORE      that one alone; with --build FOLDER, which has the firmware, nothing is built
"""
import argparse
import os
import subprocess
import sys
import tempfile

from measure import BOARDS, ROOT, build_plugin, emulate, write_between

CORES = ("cortex-m4", "cortex-m0")
MOST_WRONG, MOST_LOST = 0.1, 0.05
SHOWN = [(64, 2, head_dim, positions) for head_dim in (32, 40, 48, 64) for positions in (8, 32, 128)]
BEGIN, END = "<!-- value map table begins -->", "<!-- value map table ends -->"


class Shape:
    """Both forms of one layer: instructions per position, and the converter's costs."""

    def __init__(self):
        self.instructions, self.cost = {}, {}

    def best(self):
        return min(self.instructions, key=self.instructions.get)

    def chosen(self):
        return "undivided" if self.cost["undivided"] < self.cost["factors"] else "factors"

    def lost(self):
        return self.instructions[self.chosen()] / self.instructions[self.best()] - 1


def count(core, elf, folder):
    """{(d_model, n_heads, head_dim, positions): Shape}"""
    counts = os.path.join(folder, core + ".txt")
    names = emulate(BOARDS[core], elf, build_plugin(folder), counts, "").splitlines()
    with open(counts, encoding="utf-8") as f:
        regions = [int(line.split()[2]) for line in f if line.startswith("region ")]
    if not names or len(names) != len(regions):
        sys.exit(f"value_maps.py: {core}: {len(names)} names for {len(regions)} regions")
    shapes = {}
    for name, n in zip(names, regions):
        form, *numbers = name.split()
        *key, cost = map(int, numbers)
        shape = shapes.setdefault(tuple(key), Shape())
        shape.instructions[form], shape.cost[form] = n / key[3], cost
    return shapes


def build(core):
    folder = os.path.join(ROOT, "build", core)
    subprocess.run(["cmake", "--preset", core], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "value_maps"], check=True, stdout=subprocess.DEVNULL)
    return folder


def verdict(core, shapes):
    wrong = [s for s in shapes.values() if s.lost() > 0]
    lost = max(s.lost() for s in shapes.values())
    print(f"{core}: the converter takes the form with fewer instructions for {len(shapes) - len(wrong)} of {len(shapes)} shapes; "
          f"where not, the layer takes up to {100 * lost:.1f} % more")
    return len(wrong) <= MOST_WRONG * len(shapes) and lost <= MOST_LOST


def table(found):
    lines = ["| head_dim, positions | " + " | ".join(f"{core}, factors | undivided" for core in found) + " | chosen |",
             "|---" * (2 + 2 * len(found)) + "|"]
    for key in SHOWN:
        shapes = [shapes[key] for shapes in found.values()]
        cells = [f"{shape.instructions[form] / 1000:.1f}" for shape in shapes for form in ("factors", "undivided")]
        lines.append(f"| {key[2]}, {key[3]} | " + " | ".join(cells) + f" | {shapes[0].chosen()} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--core", action="append", choices=CORES)
    parser.add_argument("--build")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for core in args.core or CORES:
            elf = os.path.join(args.build or build(core), "bin", "value_maps")
            found[core] = count(core, elf, folder)
    good = [verdict(core, shapes) for core, shapes in found.items()]
    print(table(found))
    if args.write:
        write_between(os.path.join(ROOT, "DESIGN.md"), BEGIN, END, table(found))
    if args.check and not all(good):
        sys.exit("value_maps.py: the converter's costs do not tell the cheaper form")


if __name__ == "__main__":
    main()
