#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the accuracy numbers of README.md from `heed eval` on stories260K; with --check it fails when they differ."""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MARKED = re.compile(r"(<!-- loss -->).*?(<!-- /loss -->)", re.S)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--data", default=os.environ.get("HEED_TEST_DATA"), help="the folder of test data")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not args.data:
        print("skipped: readme_numbers needs HEED_TEST_DATA")
        sys.exit(77)
    source = os.path.join(args.data, "stories260K", "stories260K.bin")
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "model.heed")
        subprocess.run([args.heed, "quantize", source, "-o", image], check=True, capture_output=True)
        found = json.loads(subprocess.run(
            [args.heed, "eval", image, os.path.join(args.data, "text", "tinystories.txt"), "--chunk-bytes", "900",
             "--max-chunks", "60", "--reference", source, "--json"], check=True, capture_output=True, text=True).stdout)
    loss, kl, top1 = found["nats_per_token"], found["kl"], found["top1_agreement"]
    if loss > 1.6269 or kl > 0.0042 or top1 < 0.965:
        sys.exit(f"the accuracy gate is missed: loss {loss:.6f}, KL {kl:.6f}, top-1 {top1:.4f}")
    text = (f"{loss - found['reference_nats_per_token']:.4f} nats per token (loss {loss:.6f}), KL {kl:.4f} nats and "
            f"{100 * (1 - top1):.1f} % of the first choices")
    path = os.path.join(ROOT, "README.md")
    with open(path, encoding="utf-8") as f:
        readme = f.read()
    wanted = MARKED.sub(lambda m: m.group(1) + text + m.group(2), readme)
    print(text)
    if args.check:
        if wanted != readme:
            sys.exit("README.md has other numbers: run tests/reference/readme_numbers.py")
    else:
        with open(path, "w", encoding="utf-8") as f:
            f.write(wanted)


if __name__ == "__main__":
    main()
