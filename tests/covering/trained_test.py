#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The trained models of the test data through their descriptions: heed's floats and int8 against the logits of a forward pass in numpy.

    trained_test.py COVER_RUN OUT

transliteration   64 words as a greedy run reads them, the logits at each of their positions
kwt1              96 clips, whose logits come with the data

The float reference must be within 1e-4 of the largest logit, and largest where it is in every row; int8's median cosine must be
0.999. The smallest is stated, and no less than what was measured, cut off behind the fourth digit.
"""
import json
import os
import subprocess
import sys

MOST_FLOAT_DIFFERENCE, LEAST_MEDIAN = 1e-4, 0.999
# Script of tests/reference, least cosine, most rows in which int8's largest is another.
MODELS = {"transliteration": ("transliteration.py", 0.9999, 1), "kwt1": ("kwt1.py", 0.9976, 0)}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, out = sys.argv[1:]
    data = os.environ.get("HEED_TEST_DATA", "")
    if not all(os.path.isdir(os.path.join(data, name)) for name in MODELS):
        print("skipped: kwt1 or transliteration needs HEED_TEST_DATA")
        sys.exit(1 if os.environ.get("HEED_REQUIRE_DATA") == "1" else 0)
    good = True
    for name, (script, least, most_other) in MODELS.items():
        folder = os.path.join(out, name)
        reference = os.path.join(os.path.dirname(__file__), "..", "reference", script)
        subprocess.run([sys.executable, reference, os.path.join(data, name), folder], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(subprocess.run([program, folder], check=True, stdout=subprocess.PIPE, text=True).stdout)
        rows, other = found["rows"], found["rows"] - found["same_largest"]
        print(f"{name}: {rows} rows; floats within {found['float_difference']:.1e}, largest the same in {found['float_same_largest']}; int8: "
              f"median cosine {found['cosine_median']:.6f}, smallest {found['cosine_smallest']:.6f}, another largest in {other}")
        good = good and found["float_difference"] <= MOST_FLOAT_DIFFERENCE and found["float_same_largest"] == rows > 0
        good = good and found["cosine_median"] >= LEAST_MEDIAN and found["cosine_smallest"] >= least and other <= most_other
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
