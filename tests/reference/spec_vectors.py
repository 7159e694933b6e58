#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the test vectors of SPEC.md's parts 2 and 3 and the answers of part 6, between their markers.

With --check it changes nothing and fails when SPEC.md shows other vectors, or other statuses than runtime/status.hpp.

What is right comes from spec_reference.py and spec_text.py,
which were written from the text alone. A wrong reading is one of
the two with one line changed; where inputs are random, they are the first that tell all wrong readings from the right
one. tests/runtime/spec_vectors_test.cpp reads the vectors out of SPEC.md and holds the runtime against them.
"""
import argparse
import os
import re
import sys

import vectors_generation
import vectors_numerics

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECTIONS = {**vectors_numerics.SECTIONS, **vectors_generation.SECTIONS}


def with_vectors(spec, only=None):
    for number, make in SECTIONS.items():
        if only and number != only:
            continue
        marker = f"<!-- vectors {number} -->\n"
        begin = spec.index(marker) + len(marker)
        end = spec.find(f"<!-- end of vectors {number} -->", begin)
        behind = spec[end:] if end >= 0 else f"<!-- end of vectors {number} -->\n" + spec[begin:]
        spec = spec[:begin] + "```\n" + "\n\n".join(make()) + "\n```\n" + behind
    return spec


def statuses():
    """(number, name, words) of runtime/status.hpp."""
    with open(os.path.join(ROOT, "runtime", "status.hpp"), encoding="utf-8") as file:
        source = file.read()
    body = source[source.index("enum class"):source.index("};")]
    names = re.findall(r"^  (\w+)(?: = 0)?,?(?: *//.*)?$", body, re.MULTILINE)
    words = dict(re.findall(r'case Status::(\w+): return "([^"]*)"', source))
    return [(str(number), name, words[name]) for number, name in enumerate(names)]


def check_statuses(spec):
    part = spec[spec.index("**Statuses.**"):spec.index("# Part 6")]
    shown = re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]*) \|", part, re.MULTILINE)
    if shown != statuses():
        wrong = [f"SPEC.md has {a}, status.hpp {b}" for a, b in zip(shown, statuses()) if a != b]
        sys.exit("SPEC.md, part 5, shows other statuses than runtime/status.hpp: " + "; ".join(wrong or ["how many"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", metavar="SECTION")
    options = parser.parse_args()
    path = os.path.join(ROOT, "SPEC.md")
    with open(path, encoding="utf-8") as file:
        spec = file.read()
    wanted = with_vectors(spec, options.only)
    check_statuses(spec)
    if options.check:
        if wanted != spec:
            for number, (a, b) in enumerate(zip(spec.splitlines(), wanted.splitlines())):
                if a != b:
                    sys.exit(f"SPEC.md:{number + 1}: the vectors are others: run tests/reference/spec_vectors.py\n"
                             f"  {a}\n  {b}")
            sys.exit("SPEC.md has other vectors: run tests/reference/spec_vectors.py")
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(wanted)


if __name__ == "__main__":
    main()
