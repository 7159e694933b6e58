#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions of each kernel and of whole tokens on the Cortex-M cores, counted under QEMU by the plugin of tests/icount.

Builds tests/firmware/counts.cpp and the story with the same library (kAllFeatures, and tokens with kLlamaFeatures as well) for
each core, runs both and prints a table: multiply-adds per instruction of products, instructions of a head of 64 tokens x 32,
per element of the rest, per multiply-add of whole tokens (attention's counted), the story's flash and its digest. What a key
block costs beside its keys is merging. Softmax per element is what a head costs beside its dimensions: the maximum, scales and
merging included.

--cmsis-nn FOLDER   a checkout of CMSIS-NN; its functions are compiled with -O3 and counted on the same shapes
--write             writes tests/firmware/counts.csv and the table of tests/MEASURED.md
--check             fails when a figure is more than 2 % worse than in counts.csv
"""
import argparse
import csv
import glob
import os
import re
import subprocess
import sys

from measure import BOARDS, LAYOUTS, ROOT, build_plugin, emulate, flash_bytes, output, write_between

CSV = os.path.join(ROOT, "tests", "firmware", "counts.csv")
BEGIN, END = "<!-- counts table begins -->", "<!-- counts table ends -->"
# Figure of the table, by its name here, and whether more is better.
FIGURES = {
    "matvec 288x288": ("one token, 288 x 288, multiply-adds per instruction", True),
    "matvec-g64 288x256": ("the same with groups of 64 (256 columns)", True),
    "matmul 64x288x288": ("64 tokens, preparing them included", True),
    "head 64x32": ("one head, 64 tokens x 32, not causal, instructions", False),
    "head-causal 64x32": ("the same, causal", False),
    "head-window32 64x32": ("causal with a window of 32 keys", False),
    "head-biased 64x32": ("not causal, with biases of scores", False),
    "softmax": ("softmax, instructions per element", False),
    "norm-to-floats 256": ("norm with gain as floats, 256 wide, instructions per element", False),
    "token 0": ("token of stories260K at position 0, instructions per multiply-add", False),
    "token 256": ("the same at position 256", False),
    "token 256 unmerged": ("of it without the merging of four more key blocks", False),
    "story token 0": ("at position 0 with the story's features alone (`kLlamaFeatures`)", False),
    "story token 256": ("the same at position 256", False),
}
CMSIS_NN_SOURCES = ["FullyConnectedFunctions/arm_fully_connected_s8.c", "FullyConnectedFunctions/arm_batch_matmul_s8.c",
                    "FullyConnectedFunctions/arm_vector_sum_s8.c", "NNSupportFunctions/arm_nn_vec_mat_mult_t_s8.c",
                    "NNSupportFunctions/arm_nn_mat_mult_nt_t_s8.c", "NNSupportFunctions/arm_nn_mat_mul_core_1x_s8.c",
                    "NNSupportFunctions/arm_nntables.c", "SoftmaxFunctions/arm_softmax_s8.c",
                    "SoftmaxFunctions/arm_nn_softmax_common_s8.c"]


def regions(board, elf, plugin, counts):
    """[(name, work, instructions)] of a firmware that prints a line for each region."""
    names = emulate(board, elf, plugin, counts, "").splitlines()
    with open(counts, encoding="utf-8") as f:
        found = [int(line.split()[2]) for line in f if line.startswith("region ")]
    if len(names) != len(found):
        sys.exit(f"counts.py: {elf}: {len(names)} names for {len(found)} regions")
    return [(*line.rsplit(" ", 1), n) for line, n in zip(names, found)]


def multiply_adds(position):
    """Of one token of stories260K: five layers of 64, 172 and 8 heads of 8 on 4, a vocabulary of 512."""
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 172 * 64
    return 5 * layer + 512 * 64 + 5 * 2 * 64 * (position + 1)


def count(core, heed, source, features, build, plugin):
    """(lines to print, {figure: value})"""
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
    lines = {"flash of the story": f"{flash_bytes(story):,}",
             "digest": re.search(r"^digest (\w+)$", text, re.M).group(1)}
    if lines["digest"] != digest:
        sys.exit(f"counts.py: {core}: digest {lines['digest']}, this machine has {digest}")
    figures, heads, tokens = {}, {}, {}
    for name, work, n in regions(BOARDS[core], os.path.join(folder, "bin", "counts"), plugin, counts):
        if name.startswith("mat"):
            figures[name] = int(work) / n
            lines[name + ", multiply-adds per instruction"] = f"{figures[name]:.3f}"
        elif name.startswith("token "):
            position = int(work) - 1
            tokens[position] = n
            if position in (0, 64, 128, 256):
                figures[f"token {position}"] = n / multiply_adds(position)
                lines[f"token at position {position}"] = f"{n:,}"
                lines[f"token at position {position}, per multiply-add"] = f"{n / multiply_adds(position):.3f}"
        elif name.startswith("head"):
            figures[name] = heads[name] = n
            lines[name + ", instructions"] = f"{n:,}"
        else:
            figures[name] = n / int(work)
            lines[name + ", per element"] = f"{figures[name]:.2f}"
    # Sixteen more keys in the same block, as from position 32 to 48, and nothing else.
    merging = tokens[256] - tokens[0] - 16 * (tokens[48] - tokens[32])
    figures["token 256 unmerged"] = (tokens[256] - merging) / multiply_adds(256)
    lines["merging of key blocks at position 256"] = f"{merging:,}"
    figures["softmax"] = (2 * heads["head 64x32"] - heads["head 64x64"]) / 64 ** 2
    lines["softmax, per element"] = f"{figures['softmax']:.2f}"
    return lines, figures


def count_cmsis_nn(core, sources, build, plugin):
    """{figure: value}; the firmware is linked by hand, with the flags of the core's preset."""
    folder = os.path.join(build, core, "cmsis_nn")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(build, core, "CMakeCache.txt"), encoding="utf-8") as f:
        flags = re.search(r"^CMAKE_C_FLAGS:\w+=(.*)$", f.read(), re.M).group(1).split()
    include = [f"-I{sources}/Include", f"-I{ROOT}"]
    for path in CMSIS_NN_SOURCES:
        subprocess.run(["arm-none-eabi-gcc", *flags, "-O3", *include, "-c", os.path.join(sources, "Source", path)], check=True,
                       cwd=folder)
    for path in ("platform/baremetal/startup.cpp", "platform/baremetal/memory.cpp", "tests/firmware/counts_cmsis_nn.cpp"):
        subprocess.run(["arm-none-eabi-g++", *flags, "-Os", "-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics",
                        "-fno-tree-loop-distribute-patterns", *include, "-c", os.path.join(ROOT, path)], check=True, cwd=folder)
    scripts = os.path.join(ROOT, "toolchains", "boards")
    elf = os.path.join(folder, "counts_cmsis_nn.elf")
    subprocess.run(["arm-none-eabi-g++", *flags, "-nostdlib", "-Wl,--gc-sections", f"-L{scripts}", f"-T{scripts}/{BOARDS[core]}.ld",
                    *sorted(glob.glob(os.path.join(folder, "*.o"))), "-o", elf, "-Wl,--start-group", "-lc_nano", "-lgcc",
                    "-Wl,--end-group"], check=True)
    figures = {"head 64x32": 0}
    for name, work, n in regions(BOARDS[core], elf, plugin, os.path.join(folder, "counts.txt")):
        if name.startswith("mat"):
            figures[name] = int(work) / n
        else:
            figures["head 64x32"] += n
            if name == "head, softmax":
                figures["softmax"] = n / int(work)
    return figures


def shown(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def table(rows):
    cores = list(dict.fromkeys(core for core, _ in rows))
    lines = ["| heed (CMSIS-NN) | " + " | ".join(cores) + " |", "|---" * (1 + len(cores)) + "|"]
    for figure, (words, _) in FIGURES.items():
        cells = []
        for core in cores:
            heed, cmsis_nn = rows.get((core, figure), (None, None))
            cells.append("" if heed is None else shown(heed) + (f" ({shown(cmsis_nn)})" if cmsis_nn else ""))
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--source", required=True, help="stories260K, as a llama2.c checkpoint or an image")
    parser.add_argument("--features", help="a constant of runtime/features.hpp, for all figures")
    parser.add_argument("--cmsis-nn", metavar="FOLDER")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "counts"))
    parser.add_argument("--core", action="append", choices=list(BOARDS), help="only this core; may be repeated")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    plugin = build_plugin(args.build)
    known = {}
    if os.path.exists(CSV):
        with open(CSV, newline="", encoding="utf-8") as f:
            known = {(r["core"], r["figure"]): (float(r["heed"]), float(r["cmsis_nn"] or 0)) for r in csv.DictReader(f)}
    cores = args.core or list(BOARDS)
    results, rows = {}, {}
    for core in cores:
        run = lambda features: count(core, args.heed, args.source, features, args.build, plugin)
        results[core], figures = run(args.features or "kAllFeatures")
        if not args.features:
            story, story_figures = run("kLlamaFeatures")
            figures.update({f"story token {p}": story_figures[f"token {p}"] for p in (0, 256)})
            results[core].update({f"{name}, kLlamaFeatures": value for name, value in story.items()
                                  if name.startswith("token") or name.startswith("flash")})
        peer = count_cmsis_nn(core, args.cmsis_nn, args.build, plugin) if args.cmsis_nn else {}
        for figure in FIGURES:
            if figure in figures:
                old = known.get((core, figure), (0, 0))[1]
                rows[core, figure] = (round(figures[figure], 4), round(peer.get(figure, 0), 4) or old)
    names = list(dict.fromkeys(name for core in cores for name in results[core]))
    print("| | " + " | ".join(cores) + " |\n|" + "---|" * (len(cores) + 1))
    for name in names:
        print(f"| {name} | " + " | ".join(results[core].get(name, "") for core in cores) + " |")
    errors = []
    if args.check:
        errors = [f"{key} is in counts.csv and was not counted" for key in known if key[0] in cores and key not in rows]
        for key, (now, _) in rows.items():
            if key not in known:
                errors.append(f"{key} is not in counts.csv")
            elif now > 1.02 * known[key][0] if not FIGURES[key[1]][1] else now < known[key][0] / 1.02:
                errors.append(f"{key}: {shown(known[key][0])} became {shown(now)}; run this script with --write")
    elif args.write and not args.core:
        with open(CSV, "w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(["core", "figure", "heed", "cmsis_nn"])
            writer.writerows([*key, f"{now:.10g}", f"{peer:.10g}" if peer else ""] for key, (now, peer) in rows.items())
        write_between(os.path.join(ROOT, "tests", "MEASURED.md"), BEGIN, END, table(rows))
    for e in errors:
        print("counts.py: " + e, file=sys.stderr)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
