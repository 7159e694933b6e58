# SPDX-License-Identifier: Apache-2.0
"""The digit spotter on the official test split: in floats, and in int8 as examples/spotter.cpp runs it.

    eval_spotter.py recordings.tar.xz build/host/bin/spotter
"""
import argparse
import os
import re
import subprocess
import tempfile

import numpy as np

import spotter_common as common


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", help="recordings.tar.xz")
    parser.add_argument("program", help="the built examples/spotter.cpp")
    args = parser.parse_args()
    _, test = common.read_fsdd(args.recordings)
    digits = np.array([digit for digit, _ in test])
    weights = common.read_safetensors(os.path.join(os.path.dirname(os.path.abspath(__file__)), "spotter.safetensors"))
    floats = np.array([common.spot(weights, x).argmax() for _, x in test])
    with tempfile.NamedTemporaryFile(suffix=".bin") as clips:
        common.write_clips(clips.name, test)
        lines = subprocess.run([args.program, clips.name], check=True, capture_output=True, text=True).stdout.splitlines()
    int8 = np.array([int(word) for word in re.findall(r"\d+", lines[1])])
    if len(int8) != len(test):
        raise SystemExit(f"{args.program} heard {len(int8)} digits in {len(test)} clips")
    print(f"float  {(floats == digits).sum()} of {len(test)} right")
    print(f"int8   {(int8 == digits).sum()} of {len(test)} right, {(int8 == floats).sum()} as in float; {lines[0]}")


if __name__ == "__main__":
    main()
