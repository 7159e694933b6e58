#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many instructions each core of an emulated mps2-an521 does inside parallel_for; the larger share bounds the speed.

    share.py --elf ELF      an ELF of two_cores.cpp built with HEED_COUNT; fails when a core has less than a third
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

TOKENS = 40  # of each of the two runs in two_cores.cpp, behind a prompt
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elf", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plugin, counts = os.path.join(folder, "libicount.so"), os.path.join(folder, "counts.txt")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, os.path.join(ROOT, "tests/icount/icount_plugin.c")],
                       check=True)
        text = subprocess.run(["qemu-system-arm", "-M", "mps2-an521", "-nographic", "-monitor", "none", "-serial", "none",
                               "-chardev", "stdio,id=s", "-semihosting-config", "enable=on,target=native,chardev=s", "-plugin",
                               f"{plugin},out={counts}", "-kernel", args.elf], check=True, capture_output=True,
                              text=True).stdout
        with open(counts, encoding="utf-8") as f:
            regions = re.findall(r"^region \d+ (\d+)( vcpu (\d+))?$", f.read(), re.M)
    alone = sum(int(count) for count, _, _ in regions[:TOKENS + 1])
    share = [0, 0]
    for count, _, vcpu in regions[TOKENS + 1:]:
        share[int(vcpu or 0)] += int(count)
    total = sum(share)
    serial = alone - total  # and a little less, because a part has a beginning and an end of its own
    print(text.replace("\0", "").strip())
    print(f"a prompt and {TOKENS} steps: {alone:,} instructions on one core; of two, {len(regions) - TOKENS - 1} parts with {share[0]:,} on core 0 "
          f"and {share[1]:,} on core 1, so at most {alone / (serial + max(share)):.2f} times as fast")
    sys.exit(0 if min(share) * 3 > total else 1)


if __name__ == "__main__":
    main()
