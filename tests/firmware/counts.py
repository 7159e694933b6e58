#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions of each kernel and of whole tokens on the Cortex-M cores, counted under QEMU by the plugin of tests/icount.

Builds tests/firmware/counts.cpp and the story with the same library (kLlamaFeatures unless --features says otherwise) for
each core, runs both and prints a table: multiply-adds per instruction of products, instructions of a head of 64 tokens x 32,
per element of the rest, per multiply-add of whole tokens (attention's counted), the story's flash and its digest.
"""
import argparse
import os
import re
import subprocess
import sys

from measure import BOARDS, LAYOUTS, ROOT, output, sections


def emulate(board, elf, plugin, counts, words):
    command = ["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", "-serial", "none", "-chardev", "stdio,id=semi",
               "-semihosting-config", "enable=on,target=native,chardev=semi", "-plugin", f"{plugin},out={counts}", "-kernel", elf]
    return output(*command, *(["-append", words] if words else []))


def multiply_adds(position):
    """Of one token of stories260K: five layers of 64, 172 and 8 heads of 8 on 4, a vocabulary of 512."""
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 172 * 64
    return 5 * layer + 512 * 64 + 5 * 2 * 64 * (position + 1)


def count(core, heed, source, features, build, plugin):
    folder = os.path.join(build, core)
    os.makedirs(folder, exist_ok=True)
    image, packed = os.path.join(folder, "counts.heed"), os.path.join(build, "packed.heed")
    output(heed, "quantize", source, "--layout", LAYOUTS.get(core, "pair"), "-o", image)
    output(heed, "quantize", source, "-o", packed)
    digest = re.search(r'"digest": "(\w+)"', output(heed, "run", packed, "-p", "", "-n", "200", "--json")).group(1)
    subprocess.run(["cmake", "-S", ROOT, "--preset", core, "-B", folder, f"-DHEED_FEATURES={features}",
                    f"-DHEED_FIRMWARE_MODEL={image}", f"-DHEED_FIRMWARE_DIGEST={digest}"], check=True, cwd=ROOT,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "counts", "story"], check=True, stdout=subprocess.DEVNULL)
    counts = os.path.join(folder, "counts.txt")
    story = os.path.join(folder, "bin", "story")
    text = emulate(BOARDS[core], story, plugin, counts, "-n 200")
    size = sections(story)
    result = {"flash of the story": f"{size['.text'] + size.get('.ARM.exidx', 0) + size.get('.data', 0):,}",
              "digest": re.search(r"^digest (\w+)$", text, re.M).group(1)}
    if result["digest"] != digest:
        sys.exit(f"counts.py: {core}: digest {result['digest']}, this machine has {digest}")
    names = emulate(BOARDS[core], os.path.join(folder, "bin", "counts"), plugin, counts, "").splitlines()
    with open(counts, encoding="utf-8") as f:
        regions = [int(line.split()[2]) for line in f if line.startswith("region ")]
    if len(names) != len(regions):
        sys.exit(f"counts.py: {core}: {len(names)} names for {len(regions)} regions")
    for line, n in zip(names, regions):
        name, work = line.rsplit(" ", 1)
        if name.startswith("mat"):
            result[name + ", multiply-adds per instruction"] = f"{int(work) / n:.3f}"
        elif name.startswith("token "):
            position = int(work) - 1
            if position in (0, 64, 128, 256):
                result[f"token at position {position}"] = f"{n:,}"
                result[f"token at position {position}, per multiply-add"] = f"{n / multiply_adds(position):.3f}"
        elif name.startswith("head"):
            result[name + ", instructions"] = f"{n:,}"
        else:
            result[name + ", per element"] = f"{n / int(work):.2f}"
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--source", required=True, help="stories260K, as a llama2.c checkpoint or an image")
    parser.add_argument("--features", default="kLlamaFeatures", help="a constant of runtime/features.hpp")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "counts"))
    parser.add_argument("--core", action="append", choices=list(BOARDS), help="only this core; may be repeated")
    args = parser.parse_args()
    os.makedirs(args.build, exist_ok=True)
    plugin = os.path.join(args.build, "libicount.so")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", plugin, os.path.join(ROOT, "tests/icount/icount_plugin.c")],
                   check=True)
    cores = args.core or list(BOARDS)
    results = {core: count(core, args.heed, args.source, args.features, args.build, plugin) for core in cores}
    rows = list(dict.fromkeys(name for core in cores for name in results[core]))
    print("| | " + " | ".join(cores) + " |\n|" + "---|" * (len(cores) + 1))
    for name in rows:
        print(f"| {name} | " + " | ".join(results[core].get(name, "") for core in cores) + " |")


if __name__ == "__main__":
    main()
