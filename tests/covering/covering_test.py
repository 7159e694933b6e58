#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every model of the covering through heed: floats within 1e-4 of numpy's, int8 at cosine 0.999 or better at every position.

    covering_test.py COVER_RUN OUT [--first-draws] [--tables NAME...] [--only NAME...]

Runs COVER_RUN on the models that tests/reference/covering.py has written to OUT, with the groups that covering.json asks for. What
heed's outputs lack to a cosine of 1 in the mean over positions is held against what plain roundings to int8 in numpy lack, which
compute all between the products in float64: in the geometric mean of the models heed must not lack more, and in none more than
MOST_OF_ROUNDED times as much. The cosines of what each sublayer adds to the residual stream are reported. With --first-draws the
models are those that covering.py draws first, however sensitive, and 0.999 is no limit. With --tables, the digests of each of these
kernel tables, in chunks of 1, 7 and 64, must be those of the best one. Prints what was found, the models with the smallest cosines
first; exits with 1 where a limit does not hold.

    covering_test.py COVER_RUN OUT --cases FILE [--layout N] [--boards] [--only NAME...]

writes FILE instead, the models with their cases and digests (cover_digests.cpp, cover_board.cpp); of --boards those for boards.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys

MOST_FLOAT_DIFFERENCE, LEAST_COSINE = 1e-4, 0.999
MOST_OF_ROUNDED = 2.0
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


def check_floats(found):
    difference = max(entry["float_difference"] for entry in found.values())
    print(f"floats: largest difference {difference:.1e} of the largest output")
    return difference <= MOST_FLOAT_DIFFERENCE


def check_cosines(found, limited):
    worst = sorted(found.values(), key=lambda entry: entry["cosine_smallest"])
    below = [entry for entry in worst if entry["cosine_smallest"] < LEAST_COSINE]
    print(f"int8: {len(below)} models below cosine {LEAST_COSINE} at some position; smallest {worst[0]['cosine_smallest']:.5f}, smallest "
          f"median {min(entry['cosine_median'] for entry in worst):.5f}")
    for entry in worst[:5]:
        print(f"  {entry['model']}: smallest cosine {entry['cosine_smallest']:.6f}, median {entry['cosine_median']:.6f}")
    print(f"changes of sublayers: smallest cosine {min(e['change_cosine_smallest'] for e in worst):.5f}, median of the models' "
          f"medians {statistics.median(e['change_cosine_median'] for e in worst):.5f}, smallest median "
          f"{min(e['change_cosine_median'] for e in worst):.5f}")
    return not below or not limited


def check_rounded(found, models):
    of_rounded = {m["name"]: (1.0 - found[m["name"]]["cosine_mean"]) / (1.0 - m["rounded_mean"]) for m in models}
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in of_rounded.values()))
    worst = max(of_rounded, key=of_rounded.get)
    print(f"heed lacks {mean:.2f} times what plain roundings lack to a cosine of 1, at most {of_rounded[worst]:.2f} times ({worst})")
    return mean <= 1.0 and of_rounded[worst] <= MOST_OF_ROUNDED


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cover_run")
    parser.add_argument("out")
    parser.add_argument("--first-draws", action="store_true")
    parser.add_argument("--tables", nargs="*", default=[])
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--cases", metavar="FILE")
    parser.add_argument("--layout", help="of the images in FILE, as SPEC.md part 4 counts them; default: that of the best table here")
    parser.add_argument("--boards", action="store_true", help="write the models for boards alone")
    args = parser.parse_args()
    with open(os.path.join(args.out, "covering.json"), encoding="utf-8") as file:
        index = json.load(file)
    models = [m for m in index["models"] if not args.only or m["name"] in args.only]
    if args.cases:
        models = [m for m in models if m["board"] or not args.boards]
        open(args.cases, "wb").close()  # cover_run writes behind what is there
        found = run(args.cover_run, args.out, models, "--int8", "--cases", args.cases, *(["--layout", args.layout] if args.layout else []))
        print(f"{len(found)} models, {os.path.getsize(args.cases):,} bytes")
        sys.exit(0 if len(found) == len(models) > 0 else 1)
    if index["first_draws"] != args.first_draws:
        sys.exit(f"{args.out} has {'the first draws' if index['first_draws'] else 'models that were judged'}")
    found = run(args.cover_run, args.out, models, "--changes")
    print(f"{len(found)} of {len(models)} models ran")
    if not models or len(found) != len(models):
        sys.exit(1)
    good = [check_floats(found), check_cosines(found, not args.first_draws), check_rounded(found, models)]
    for table in args.tables:
        for chunk in CHUNKS:
            other = run(args.cover_run, args.out, models, "--int8", "--kernels", table, "--chunk", str(chunk))
            differing = [name for name in found if other[name]["digest"] != found[name]["digest"]]
            print(f"{table}, chunks of {chunk}: {len(differing)} of {len(found)} digests differ {differing[:10]}")
            good.append(not differing)
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
