#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every model of the covering through heed: floats within 1e-4 of numpy's, int8 at cosine 0.999 or better at every position.

    covering_test.py COVER_RUN OUT [--only NAME...]

Runs COVER_RUN on the models that tests/reference/covering.py has written to OUT, with the groups that covering.json asks for. Prints
what was found, the models with the smallest cosines first; exits with 1 where a limit does not hold.

    covering_test.py COVER_RUN OUT --cases FILE [--layout N] [--boards]

writes FILE instead, the models with their cases and digests (cover_digests.cpp, cover_board.cpp); of --boards those for boards.
"""
import argparse
import json
import os
import subprocess
import sys

MOST_FLOAT_DIFFERENCE, LEAST_COSINE = 1e-4, 0.999


def run(program, folder, models, *options):
    """What cover_run says of each model, by name."""
    found = {}
    for group in sorted({m["group"] for m in models}, key=str):
        paths = [os.path.join(folder, m["name"]) for m in models if m["group"] == group]
        columns = "0" if group == "row" else str(group)
        done = subprocess.run([program, "--group", columns, *options, *paths], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"cover_run failed with {done.returncode} for groups of {group}")
        found.update({entry["model"]: entry for entry in map(json.loads, done.stdout.splitlines())})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cover_run")
    parser.add_argument("out")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--cases", metavar="FILE")
    parser.add_argument("--layout", help="of the images in FILE, as SPEC.md part 4 counts them; default: that of the best table here")
    parser.add_argument("--boards", action="store_true", help="write the models for boards alone")
    args = parser.parse_args()
    with open(os.path.join(args.out, "covering.json"), encoding="utf-8") as file:
        models = [m for m in json.load(file)["models"] if not args.only or m["name"] in args.only]
    if args.cases:
        models = [m for m in models if m["board"] or not args.boards]
        open(args.cases, "wb").close()  # cover_run writes behind what is there
        found = run(args.cover_run, args.out, models, "--int8", "--cases", args.cases, *(["--layout", args.layout] if args.layout else []))
        print(f"{len(found)} models, {os.path.getsize(args.cases):,} bytes")
        sys.exit(0 if len(found) == len(models) > 0 else 1)
    found = run(args.cover_run, args.out, models)
    good = len(found) == len(models) > 0
    worst = sorted(found.values(), key=lambda entry: entry["cosine_smallest"])
    float_difference = max(entry["float_difference"] for entry in worst)
    below = [entry for entry in worst if entry["cosine_smallest"] < LEAST_COSINE]
    print(f"{len(found)} of {len(models)} models; largest float difference {float_difference:.1e}; {len(below)} below cosine "
          f"{LEAST_COSINE} at some position; smallest {worst[0]['cosine_smallest']:.5f}, smallest median "
          f"{min(entry['cosine_median'] for entry in worst):.5f}")
    for entry in worst[:10]:
        print(f"  {entry['model']}: smallest cosine {entry['cosine_smallest']:.6f}, median {entry['cosine_median']:.6f}")
    good = good and float_difference <= MOST_FLOAT_DIFFERENCE and not below
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
