#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The most instructions per token as a formula of position: makes the table behind `heed plan`, and checks what that promises.

    timing.py --write [--core C]  counts every operation on each core in three builds, fits a line through each, and writes
                                  examples/heed/timing_table.hpp; three minutes of an idle machine
    timing.py --check [--full]    counts whole steps of three models on each core, eight positions up to 150, in three builds:
                                  all features (or --features), kLlamaFeatures and kDecoderFeatures. None may take more than
                                  `heed plan --features` promises, nor than plan promises for any build; the first is not
                                  to promise too much either (ABOVE). With two texts, which may move a count by what plan
                                  says; with --full 20 positions over the whole context, and a fourth model

Builds tests/firmware/timing.cpp for each core under build/timing unless --build names a folder that has it. Needs the host's
`heed` (--heed), QEMU, the plugin of tests/icount, and numpy for --write.
"""
import argparse
import json
import os
import random
import re
import struct
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# core: (board, where the image is loaded, name of the kernel table)
CORES = {"cortex-m0": ("mps2-an385", 0x21000000, "cortex-m0"), "cortex-m3": ("mps2-an385", 0x21000000, "cortex-m3"),
         "cortex-m4": ("mps2-an386", 0x21000000, "cortex-m4"), "cortex-m7": ("mps2-an500", 0x60000000, "cortex-m4"),
         "cortex-m33": ("mps2-an505", 0x80000000, "cortex-m4"), "cortex-m55": ("mps3-an547", 0x70000000, "cortex-m55")}
SOFT_FLOAT = ("cortex-m0", "cortex-m3")
COLUMN_BLOCK = {"cortex-m0": 4, "cortex-m3": 4, "cortex-m4": 8, "cortex-m55": 16}
# Builds whose kernels differ (examples/heed/timing.hpp), each with all other features: what is not built takes instructions
# away and adds none. (bit, program)
COUNTED = ((1, "timing"), (2, "timing_rolled"), (4, "timing_small"))
# Builds that are checked: (features, program). The first is what its folder was configured with.
CHECKED = (("kAllFeatures", "timing"), ("kLlamaFeatures", "timing_llama"), ("kDecoderFeatures", "timing_decoder"))
# How much a promise may exceed a count, of a build with all features and of one with fewer. The golden image is so small
# that what was left out between its operations is a tenth of a step.
ABOVE = {"tiny": (0.035, 0.25)}
ABOVE_ELSEWHERE = (0.045, 0.10)
RESERVE = 0.25  # percent of a step, above the worst that the random models showed
PANEL = {}  # core: rows that a product takes together, found by trying
RAGGED = 16  # keys after which the cost of a partial block repeats
TABLE = os.path.join(ROOT, "examples", "heed", "timing_table.hpp")


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"timing.py: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


# ---- The cost of an operation: a sum of coefficients times these. examples/heed/timing.cpp has the same, in order. -----

WIDTHS = [4, 8, 16, 32, 48, 64, 96, 128]  # of heads; what lies between is interpolated
VECTORS = ["embed", "quantise", "norm", "norm_gain", "layer_norm", "layer_norm_gain", "gate", "gate_alone"]
PRODUCTS = ["product", "product_added", "product_biased"]
HEADS = ["query", "key", "value", "finish", "attend"]


def features(op, args, core):
    """For an operation on heads, without the width, which is the first argument."""
    if op in VECTORS:
        n = args[0]
        return [1, n, int(n % 16 != 0), n % 16, int(n % 8 != 0), up(n, 64) // 64]
    if op in PRODUCTS:  # rows, columns
        rows, cols = up(args[0], 4), up(args[1], COLUMN_BLOCK[CORES[core][2]])
        blocks = up(cols, 64) // 64
        ragged, panels = int(cols % 64 != 0), (rows - 1) // PANEL.get(core, 1 << 20)
        one, only = int(blocks == 1) * ragged, int(blocks == 1) * (1 - ragged)  # a single block, not full and full
        return [1, rows, cols, rows * cols, blocks, rows * blocks, ragged, rows * ragged, one, rows * one, only, rows * only,
                panels, panels * blocks]
    if op == "turn":  # pairs
        return [1, args[0]]
    if op == "query":  # head_dim; the part of it that rotates
        return [1, args[1]]
    if op == "key":  # head_dim, the part of it that rotates, offset
        return [1, args[1], args[2]]
    if op in ("value", "finish"):
        return [1]
    if op == "attend":  # head_dim, queries, visible keys, 1 behind the first block
        _, n, visible, more = args
        odd = n % 2  # two queries may share the loads of a key
        return [1, n, n * visible, more, n * more, odd, odd * visible, odd * more] + [n * int(visible % RAGGED == k) for k in range(1, RAGGED)]
    if op == "rest":  # of Session::step: n_layers, n_kv_heads, n_heads, head_dim, blocks, columns to pad
        layers, kv, heads, d, blocks, pad = args
        return [1, layers, layers * kv, layers * heads, layers * heads * d, layers * kv * blocks, pad]
    raise ValueError(op)


def cost(table, core, op, args):
    """Instructions of one operation."""
    f = features(op, args, core)
    at = lambda x: sum(a * b for a, b in zip(f, x))
    if op not in HEADS:
        return at(table[op])
    d = args[0]
    i = next((i for i in range(1, len(WIDTHS) - 1) if d <= WIDTHS[i]), len(WIDTHS) - 1)
    below, above = WIDTHS[i - 1], WIDTHS[i]
    low, high = at(table[op][i - 1]), at(table[op][i])
    return low + (high - low) * (d - below) / (above - below)


def operations(c, position):
    """(operation, arguments, how many) of one step, but for `rest`."""
    d, layers, heads, kv, hd = c["d_model"], c["n_layers"], c["n_heads"], c["n_kv_heads"], c["head_dim"]
    blocks, last = position // 64 + 1, position % 64 + 1
    per = heads // kv
    rotates, offset = c["rotary_dims"] / hd, int(c["key_offset"])
    norm = lambda folded: ("layer_norm" if c["norm"] == "layer" else "norm") + ("" if folded else "_gain")

    def product(rows, cols, added, bias, times):
        biased = bias in c["biases"]
        yield PRODUCTS[2 if biased else added], (rows, cols), times
        if biased and added:
            yield "product_added", (rows, cols), times
            yield "product", (rows, cols), -times

    yield "embed", (d,), 1 + int(c["position_table"])
    if rotates:
        yield "turn", (c["rotary_dims"] // 2,), 1
    yield norm("attention" in c["gains_folded"]), (d,), layers
    yield norm("ffn" in c["gains_folded"]), (d,), layers
    yield norm("final" in c["gains_folded"]), (d,), 1
    yield from product(heads * hd, d, 0, "query", layers)
    yield from product(kv * hd, d, 0, "key", layers)
    yield from product(kv * hd, d, 0, "value_down", layers)
    yield from product(d, heads * hd, 1, "value_up", layers)
    yield from product(c["d_ff"], d, 0, "ffn_in", (1 + int(c["gated"])) * layers)
    yield from product(d, c["d_ff"], 1, "down", layers)
    yield from product(c["vocab_size"], d, 0, "unembedding", 1)
    yield "query", (hd, rotates), layers * heads
    yield "key", (hd, rotates, offset), layers * kv
    yield "value", (hd,), layers * kv
    for b in range(blocks):
        yield "attend", (hd, per, 64 if b + 1 < blocks else last, int(b > 0)), layers * kv
    yield "finish", (hd,), layers * heads
    yield "quantise", (heads * hd,), layers
    yield "gate" if c["gated"] else "gate_alone", (c["d_ff"],), layers


def rest_of(c, position):
    return (c["n_layers"], c["n_kv_heads"], c["n_heads"], c["head_dim"], position // 64 + 1,
            up(c["d_model"], 16) - c["d_model"])


# ---- Counting ---------------------------------------------------------------------------------------------------------

class Counter:
    def __init__(self, args):
        self.args = args
        self.plugin = args.plugin
        self.work = os.path.join(ROOT, "build", "timing")
        os.makedirs(self.work, exist_ok=True)
        if not self.plugin:
            self.plugin = os.path.join(self.work, "libicount.so")
            output("cc", "-O2", "-shared", "-fPIC", "-o", self.plugin, os.path.join(ROOT, "tests/icount/icount_plugin.c"))

    def firmware(self, core, programs):
        """The folder that has them."""
        folder = self.args.build
        if not folder:
            folder = os.path.join(self.work, core)
            output("cmake", "-S", ROOT, "--preset", core, "-B", folder, "-DHEED_FEATURES=kAllFeatures", "-DHEED_TESTS=ON")
            output("cmake", "--build", folder, "--target", *programs)
        return os.path.join(folder, "bin")

    def run(self, core, elf, words, image=None):
        """[(name, numbers, instructions)] of the marked regions."""
        board, bulk, _ = CORES[core]
        counts = os.path.join(self.work, f"counts-{core}.txt")
        command = ["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", "-serial", "none", "-chardev",
                   "stdio,id=s", "-semihosting-config", "enable=on,target=native,chardev=s", "-plugin",
                   f"{self.plugin},out={counts}", "-kernel", elf, "-append", words]
        if image:
            command += ["-device", f"loader,file={image},addr={bulk:#x},force-raw=on"]
        text = output(*command).replace("\0", "")
        names = [line.split() for line in text.splitlines()]
        with open(counts, encoding="utf-8") as f:
            regions = [int(n) for n in re.findall(r"^region \d+ (\d+)", f.read(), re.M)]
        assert len(names) == len(regions), (core, words, len(names), len(regions))
        return [(n[0], tuple(map(int, n[1:])), count) for n, count in zip(names, regions)]

    def image(self, source, core, name, *more):
        path = os.path.join(self.work, f"{name}-{CORES[core][2]}.heed")
        output(self.args.heed, "quantize", source, "--target", CORES[core][2], "-o", path, *more)
        return path

    def config(self, image):
        return json.loads(output(self.args.heed, "inspect", image, "--json"))["stacks"][-1]


# ---- Making the table -------------------------------------------------------------------------------------------------

# Shapes whose steps are counted to learn what the runtime itself costs between the operations:
# d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size
SHAPES = [(16, 32, 1, 2, 1, 32), (32, 64, 2, 4, 4, 64), (64, 160, 3, 8, 2, 96), (64, 128, 6, 4, 1, 64), (48, 96, 4, 3, 3, 128),
          (128, 256, 2, 4, 2, 160), (96, 192, 1, 12, 6, 64), (32, 48, 5, 2, 2, 48), (40, 80, 3, 5, 5, 48), (8, 16, 2, 1, 1, 16), (8, 12, 1, 2, 1, 12), (8, 12, 2, 2, 2, 20)]


def random_checkpoint(path, shape, seed):
    """A llama2.c checkpoint of random weights."""
    d, ff, layers, heads, kv, vocab = shape
    seq = 160
    rng = random.Random(seed)
    hd = d // heads
    gauss = lambda n, width: struct.pack(f"<{n}f", *(rng.gauss(0, width) for _ in range(n)))
    gain = lambda n: struct.pack(f"<{n}f", *(rng.uniform(0.8, 1.2) for _ in range(n)))
    with open(path, "wb") as f:
        f.write(struct.pack("<7i", d, ff, layers, heads, kv, vocab, seq))
        f.write(gauss(vocab * d, 1.0) + gain(layers * d))
        for rows in (heads * hd, kv * hd, kv * hd):
            f.write(gauss(layers * rows * d, d ** -0.5))
        f.write(gauss(layers * d * heads * hd, d ** -0.5) + gain(layers * d))
        for n in (ff * d, d * ff, ff * d):
            f.write(gauss(layers * n, d ** -0.5))
        f.write(gain(d) + bytes(4 * seq * hd))


def fit(rows, counts):
    """Coefficients with the least squares of relative errors."""
    import numpy as np
    a, y = np.array(rows, dtype=float), np.array(counts, dtype=float)
    used = np.abs(a).max(axis=0) > 0
    x = np.zeros(a.shape[1])
    weight = 1.0 / y
    x[used] = np.linalg.lstsq(a[:, used] * weight[:, None], y * weight, rcond=None)[0]
    return x, float(np.abs(a @ x / y - 1).max())


def measure(counter, core, program, elf, operations_1):
    """{operation: coefficients}, the percentage to add to them, and the spread of counts over texts."""
    samples = {}
    moved = {}
    for (name, args, count), (_, _, other) in zip(operations_1, counter.run(core, elf, "ops 2")):
        if name == "gate":
            name, args = ("gate" if args[1] else "gate_alone"), args[:1]
        elif name == "product":
            name, args = PRODUCTS[args[2]], args[:2]
        elif name.startswith("attend"):
            args, name = (args[0], args[1], args[2], int(name == "attend_more")), "attend"
        samples.setdefault(name, []).append((args, count))
        moved[name] = max(moved.get(name, 0), abs(count - other))

    def worst_product(panel):
        PANEL[core] = panel
        return fit([features("product", args, core) for args, _ in samples["product"]],
                   [count for _, count in samples["product"]])[1]

    PANEL[core] = min((1 << 20, 32, 48, 64, 96, 128, 192, 256), key=worst_product)
    table = {}
    for op in VECTORS + PRODUCTS + ["turn"] + HEADS:
        parts = [samples[op]] if op not in HEADS else [[s for s in samples[op] if s[0][0] == d] for d in WIDTHS]
        fits = [fit([features(op, args, core) for args, _ in part], [count for _, count in part]) for part in parts]
        table[op] = [x for x, _ in fits] if op in HEADS else fits[0][0]
        print(f"{core:11} {program:14} {op:16} {len(samples[op]):5} counts, worst {100 * max(worst for _, worst in fits):5.2f} %, "
              f"other numbers move a count by up to {moved[op]}")
    rows, rests, totals, others, spread = [], [], [], [], 0.0
    for i, shape in enumerate(SHAPES):
        source = os.path.join(counter.work, f"shape{i}.bin")
        if not os.path.exists(source):
            random_checkpoint(source, shape, i)
        image = counter.image(source, core, f"shape{i}", "--group", "row")
        c = counter.config(image)
        first = counter.run(core, elf, "steps 40 1 1000", image)
        for (_, (position, *_), count), (_, _, other) in zip(first, counter.run(core, elf, "steps 40 2 1000", image)):
            known = sum(times * cost(table, core, op, args) for op, args, times in operations(c, position))
            rows.append(features("rest", rest_of(c, position), core))
            rests.append(count - known)
            totals.append(count)
            others.append(other)
            spread = max(spread, abs(other / count - 1))
    import numpy as np
    a, y, w = np.array(rows, float), np.array(rests), 1 / np.array(totals, float)
    table["rest"] = np.linalg.lstsq(a * w[:, None], y * w, rcond=None)[0]
    promised = np.array(totals, float) - y + a @ table["rest"]
    below, above = (np.maximum(totals, others) / promised - 1).max(), (promised / np.minimum(totals, others) - 1).max()
    print(f"{core:11} {program:14} {'rest':16} {len(y):5} steps of {len(SHAPES)} shapes, up to {100 * below:.2f} % below a step and "
          f"{100 * above:.2f} % above; texts differ by {100 * spread:.3f} %", flush=True)
    return table, 100 * max(0, below) + RESERVE, 100 * spread


def measure_builds(counter, core):
    """[(bits of builds that have the same counts, panel, table, margin, spread)]"""
    folder = counter.firmware(core, [program for _, program in COUNTED])
    found = []
    for bit, program in COUNTED:
        elf = os.path.join(folder, program)
        counts = counter.run(core, elf, "ops 1")
        same = next((f for f in found if f["counts"] == counts), None)
        if same:
            same["bits"] |= bit
            continue
        table, margin, spread = measure(counter, core, program, elf, counts)
        found.append({"bits": bit, "counts": counts, "panel": PANEL[core], "table": table, "margin": margin, "spread": spread})
    return found


def numbers(x):
    return ", ".join(f"{n:.6g}" for n in x)


def known_tables():
    """{core: its lines} of the table as it is."""
    tables, core = {}, None
    if os.path.exists(TABLE):
        with open(TABLE, encoding="utf-8") as f:
            for line in f.read().splitlines():
                found = re.match(r'  \{"(cortex-m\d+)"', line)
                core = found.group(1) if found else None if line.startswith("};") else core
                if core:
                    tables.setdefault(core, []).append(line)
    return tables


def write(counter, cores):
    known = known_tables()
    lines = ["// SPDX-License-Identifier: Apache-2.0",
             "// timing_table.hpp: written by tests/firmware/timing.py --write from counts under QEMU; timing.cpp says what each number",
             "// multiplies. Not edited by hand.", "#pragma once", '#include "examples/heed/timing.hpp"', "", "namespace heed::tool {",
             "", "// clang-format off", f"inline constexpr double kHeadWidths[kWidths] = {{{numbers(WIDTHS)}}};",
             "inline constexpr CoreCosts kCoreCosts[] = {"]
    for core in CORES:
        if core not in cores:
            lines += known.get(core, [])
            continue
        for build in measure_builds(counter, core):
            table = build["table"]
            lines.append(f'  {{"{core}", {build["bits"]}, {build["margin"]:.3f}, {build["spread"]:.3f}, {build["panel"]},')
            lines.append("   {" + ",\n    ".join(f"{{{numbers(table[op])}}}" for op in VECTORS) + "},")
            lines.append("   {" + ",\n    ".join(f"{{{numbers(table[op])}}}" for op in PRODUCTS) + "},")
            lines += [f"   {{{numbers(table[op])}}}," for op in ["turn"]]
            for i in range(len(WIDTHS)):
                row = [x for op in HEADS for x in table[op][i]]
                lines.append(("   {{" if i == 0 else "    {") + numbers(row) + ("}}," if i + 1 == len(WIDTHS) else "},"))
            lines.append(f"   {{{numbers(table['rest'])}}}}},")
    lines += ["};", "// clang-format on", "", "}  // namespace heed::tool", ""]
    with open(TABLE, "w", encoding="utf-8") as f:
        f.write("\n".join(lines))


# ---- Checking ---------------------------------------------------------------------------------------------------------

def predicted(formula, position):
    keys = position + 1
    return (formula["constant"] + formula["per_key"] * keys + formula["per_block"] * (position // 64) +
            formula["ragged"][keys % len(formula["ragged"])])


def check(counter, cores, models, full, features):
    failed = 0
    for core in cores:
        folder = counter.firmware(core, [program for _, program in CHECKED])
        for name, source in models:
            image = counter.image(source, core, name)
            plan = lambda *more: json.loads(output(counter.args.heed, "plan", image, "--target", core, "--json", *more))
            any_build, needed = plan()["instructions"], set(plan()["features"])
            n, last = (20, 1 << 20) if full else (8, 150)
            if name == "gpt_sort":
                n = 6  # of 11 positions
            for i, (built, program) in enumerate(CHECKED):
                if i > 0 and needed - {"key_offset"}:
                    continue  # both refuse it
                built = built if i > 0 else features
                formula = plan("--features", built)["instructions"]
                elf = os.path.join(folder, program)
                counts = counter.run(core, elf, f"steps {n} 7 {last}", image)
                spread = 0.0
                if i == 0:
                    second = counter.run(core, elf, f"steps {n} 8 {last}", image)
                    spread = max(abs(a[2] / b[2] - 1) for a, b in zip(counts, second))
                    counts += second
                above = [(predicted(formula, args[0]) / count - 1, args[0], count) for _, args, count in counts]
                least, most = min(above), max(above)
                beyond = any(count > predicted(any_build, args[0]) for _, args, count in counts)
                allowed = ABOVE.get(name, ABOVE_ELSEWHERE)[0 if built == "kAllFeatures" else 1]
                bad = least[0] < 0 or most[0] > allowed or beyond or spread > 1.5 * formula["data_percent"] / 100 + 1e-5
                failed += bad
                print(f"{core:11} {name:12} {built}: {n} positions, promised {100 * least[0]:+.2f} % at {least[1]} ({least[2]:,} "
                      f"counted) to {100 * most[0]:+.2f} % at {most[1]} ({most[2]:,}){', more than for any build' if beyond else ''}"
                      f"{f', two texts differ by {100 * spread:.4f} %' if i == 0 else ''}{'  FAILED' if bad else ''}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true")
    what.add_argument("--check", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--heed", default=os.path.join(ROOT, "build", "host", "bin", "heed"))
    parser.add_argument("--build", help="a build folder that has the firmware; with --core")
    parser.add_argument("--features", default="kAllFeatures", help="HEED_FEATURES of that folder")
    parser.add_argument("--plugin", help="the built plugin")
    parser.add_argument("--core", action="append", choices=list(CORES))
    args = parser.parse_args()
    counter = Counter(args)
    cores = args.core or list(CORES)
    if args.write:
        write(counter, cores)
        return
    models = [("story", os.path.join(ROOT, "examples/models/story.heed")), ("tiny", os.path.join(ROOT, "tests/golden/tiny.heed"))]
    data = os.path.join(os.environ.get("HEED_TEST_DATA", ""), "stories260K", "stories260K.bin")
    if os.path.exists(data):
        models.append(("stories260K", data))
    else:
        print("skipped: stories260K needs HEED_TEST_DATA")
    sort = os.path.join(os.environ.get("HEED_TEST_DATA", ""), "gpt_sort")
    if args.full and os.path.isdir(sort):  # layer norm, biases, learned positions, GELU: none of it in the random models
        output(sys.executable, os.path.join(ROOT, "tests", "reference", "gpt_sort.py"), sort,
               os.path.join(counter.work, "gpt_sort"))
        models.append(("gpt_sort", os.path.join(counter.work, "gpt_sort", "model")))
    failed = check(counter, cores, models, args.full, args.features)
    print(f"timing: {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
