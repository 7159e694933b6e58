#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the numbers of README.md: accuracy from `heed eval` on stories260K, the rest from what other scripts measured
(tests/firmware/*.csv, tests/MEASURED.md). With --check it fails when README.md has others."""
import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def accuracy(heed, data):
    """Of the image that the quantiser writes by default; ends the program when it misses the gate."""
    source = os.path.join(data, "stories260K", "stories260K.bin")
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "model.heed")
        subprocess.run([heed, "quantize", source, "-o", image], check=True, capture_output=True)
        found = json.loads(subprocess.run(
            [heed, "eval", image, os.path.join(data, "text", "tinystories.txt"), "--chunk-bytes", "900",
             "--max-chunks", "60", "--reference", source, "--json"], check=True, capture_output=True, text=True).stdout)
    loss, kl, top1 = found["nats_per_token"], found["kl"], found["top1_agreement"]
    if loss > 1.6269 or kl > 0.0042 or top1 < 0.965:
        sys.exit(f"the accuracy gate is missed: loss {loss:.6f}, KL {kl:.6f}, top-1 {top1:.4f}")
    return (f"loss {loss - found['reference_nats_per_token']:+.4f} nats per token (to {loss:.6f}), KL {kl:.4f} nats, "
            f"{100 * top1:.1f} % of the first choices the same")


def csv_rows(name):
    with open(os.path.join(ROOT, "tests", "firmware", name), newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def measured_cells(*begins):
    """The cells of the row of tests/MEASURED.md that begins with these."""
    with open(os.path.join(ROOT, "tests", "MEASURED.md"), encoding="utf-8") as f:
        for line in f:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if tuple(cells[:len(begins)]) == begins:
                return cells
    sys.exit(f"tests/MEASURED.md has no row {begins}")


def results(words):
    story = next(r for r in csv_rows("sizes.csv") if (r["model"], r["core"]) == ("stories260K", "cortex-m4"))
    counts = {(r["core"], r["figure"]): r for r in csv_rows("counts.csv")}
    product, head = counts["cortex-m4", "matvec 288x288"], counts["cortex-m4", "head 64x32"]
    million = lambda text: f"{float(text) / 1e6:.2f} million"
    decode, prefill = (measured_cells("110M", phase, "1")[8] for phase in ("decode 128", "prefill 512"))
    causal = lambda name: float(measured_cells(name)[2])
    attention = min(causal("llama.cpp"), causal("ik_llama.cpp")) / causal("heed, avx512vnni")
    first = lambda name: float(measured_cells("15M", name)[2])
    flash, counted, peers = "tests/firmware/measure.py", "tests/firmware/counts.py", "tests/bench/compare_peers.py"
    rows = [
        ("what int8 costs, stories260K, one scale per row", words, "heed eval --reference"),
        ("story firmware on Cortex-M4, flash without the model", f"{int(story['text']) + int(story['data']):,} bytes", flash),
        ("its stack, with the runtime's objects on it; of a task that calls `prefill` and `step` on static objects",
         f"{int(story['stack']):,}; {max(int(story['stack_prefill']), int(story['stack_step'])):,} bytes", flash),
        ("a token of stories260K on Cortex-M4, executed instructions", million(story["instructions_per_token"]), flash),
        ("product on Cortex-M4, multiply-adds per instruction (CMSIS-NN)",
         f"{float(product['heed']):.2f} ({float(product['cmsis_nn']):.2f})", counted),
        ("attention head, 64 tokens x 32, on Cortex-M4, instructions (CMSIS-NN)",
         f"{million(head['heed'])} ({million(head['cmsis_nn'])})", counted),
        ("110M on x86-64, decode and prefill of 512, against the fastest of llama.cpp, ik_llama.cpp and llama2.c",
         f"{decode} and {prefill} times", peers),
        ("attention of 512 x 512 on x86-64 against the faster of llama.cpp and ik_llama.cpp", f"{attention:.1f} times", peers),
        ("15M, start of the program to its end with one token (llama.cpp)",
         f"{first('heed'):.1f} ({first('llama.cpp'):.1f}) ms", peers),
    ]
    return "\n".join(["| what | measured | with |", "|---|---|---|"] + [f"| {a} | {b} | `{c}` |" for a, b, c in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--data", default=os.environ.get("HEED_TEST_DATA"), help="the folder of test data")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not args.data:
        print("skipped: readme_numbers needs HEED_TEST_DATA")
        sys.exit(77)
    text = results(accuracy(args.heed, args.data))
    print(text)
    path = os.path.join(ROOT, "README.md")
    with open(path, encoding="utf-8") as f:
        readme = f.read()
    wanted, marks = re.subn(r"(<!-- results begin -->\n).*?(\n<!-- results end -->)",
                            lambda m: m.group(1) + text + m.group(2), readme, flags=re.S)
    if marks != 1:
        sys.exit("README.md has no marks for the results")
    if not args.check:
        with open(path, "w", encoding="utf-8") as f:
            f.write(wanted)
    elif wanted != readme:
        sys.exit("README.md has other numbers: run tests/reference/readme_numbers.py")


if __name__ == "__main__":
    main()
