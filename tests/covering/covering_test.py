#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every model of the covering through heed: floats within 1e-4 of numpy's, int8 at cosine 0.999 or better at every position.

    covering_test.py COVER_RUN OUT [--tables NAME...] [--only NAME...]

Writes the models with tests/reference/covering.py to OUT unless they are there, and runs COVER_RUN on them with the groups that
covering.json asks for. With --tables, the digests of each of these kernel tables, in chunks of 1, 7 and 64, must be those of the best
one. Prints what was found, the models with the smallest cosines first; exits with 1 where a limit does not hold.
"""
import argparse
import json
import os
import subprocess
import sys

MOST_FLOAT_DIFFERENCE, LEAST_COSINE = 1e-4, 0.999
CHUNKS = (1, 7, 64)


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
    parser.add_argument("--tables", nargs="*", default=[])
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    index = os.path.join(args.out, "covering.json")
    if not os.path.exists(index):
        covering = os.path.join(os.path.dirname(__file__), "..", "reference", "covering.py")
        os.makedirs(args.out, exist_ok=True)
        subprocess.run([sys.executable, covering, args.out], check=True)
    with open(index, encoding="utf-8") as file:
        models = [m for m in json.load(file)["models"] if not args.only or m["name"] in args.only]
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
    for table in args.tables:
        for chunk in CHUNKS:
            other = run(args.cover_run, args.out, models, "--kernels", table, "--chunk", str(chunk))
            differing = [name for name in found if other[name]["digest"] != found[name]["digest"]]
            print(f"{table}, chunks of {chunk}: {len(differing)} of {len(found)} digests differ {differing[:10]}")
            good = good and not differing
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
