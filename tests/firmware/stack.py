#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The deepest stack that a firmware can use, from the compiler's own report: GCC's -fcallgraph-info=su writes for each
object, and for a program that is optimised as a whole beside it, the frame of each function and whom it calls.

    stack.py --elf ELF --folder BUILD [--paths]    prints the bound in bytes, and with --paths the deepest path

A frame of unknown size (a variable-length array, alloca) or a cycle of calls is an error. What the report does not say:
- Functions of the compiler's library have no report; their frames and calls are read from their instructions. So is what
  assembly pushes.
- A call through a pointer may reach any function of the kernel table (read from the ELF), and, if it stands in platform/,
  any function of platform/ that nobody calls by name; one of those in turn only such as call nothing through a pointer.
  The constructors of start-up are none here, and hooks of the program's own (parallel_for, a tap, a sink) are not followed.
"""
import argparse
import os
import re
import subprocess
import sys

INDIRECT = "__indirect_call"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Function:
    def __init__(self):
        self.frame, self.calls, self.reported = 0, set(), False
        self.in_platform = self.platform_calls = False  # defined there; calls from there through a pointer


def read_reports(folder, program):
    """{symbol: Function}, of all objects of the program; a name that is local to several files is one, the largest."""
    functions = {}
    for path, _, names in os.walk(folder):
        for name in names:
            target = re.search(r"CMakeFiles/([^/]+)\.dir", path + "/")
            whole = name.startswith(program + ".ltrans")
            if not name.endswith(".ci") or not (whole or target and target.group(1) in ("heed", "heed_startup", program)):
                continue
            with open(os.path.join(path, name), encoding="utf-8") as f:
                text = f.read()
            symbol = lambda title: title.rsplit(":", 1)[-1].lstrip("*")
            for title, label in re.findall(r'^node: \{ title: "([^"]*)" label: "([^"]*)"', text, re.M):
                frame = re.search(r"\\n(\d+) bytes \(([^)]*)\)", label)
                if not frame:
                    continue  # declared only
                if "dynamic" in frame.group(2) and "bounded" not in frame.group(2):
                    sys.exit(f"stack.py: {symbol(title)} has a frame of unknown size")
                f = functions.setdefault(symbol(title), Function())
                f.frame = max(f.frame, int(frame.group(1)))
                f.reported = True
                f.in_platform |= "/platform/" in label
            for source, target, label in re.findall(r'^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"(?: label: "([^"]*)")?', text, re.M):
                f = functions.setdefault(symbol(source), Function())
                if symbol(target) == INDIRECT and "/platform/" in label:
                    f.platform_calls = True
                else:
                    f.calls.add(symbol(target))
    return functions


def symbols_of(elf):
    """{address: names} of functions, and {name: (address, size)} of all."""
    at, of = {}, {}
    for line in output("arm-none-eabi-nm", "-S", elf).splitlines():
        words = line.split()
        if len(words) == 4:
            of[words[3]] = (int(words[0], 16), int(words[1], 16))
        if words[-2] in "TtWw":
            at.setdefault(int(words[0], 16) & ~1, []).append(words[-1])
    return at, of


def table_functions(elf, at, of):
    """Functions that the one kernel table of this firmware points to."""
    found = set()
    for name, (address, size) in of.items():
        if not re.search(r"kernels_cortex_m\d+$", re.sub(r"E$", "", name)):
            continue
        dump = output("arm-none-eabi-objdump", "-s", f"--start-address={address:#x}", f"--stop-address={address + size:#x}", elf)
        data = b"".join(bytes.fromhex("".join(line[1:].split("  ")[0].split()[1:])) for line in dump.splitlines()
                        if re.match(r"^ [0-9a-f]+ ", line))
        for i in range(0, len(data) - 3, 4):
            found.update(at.get(int.from_bytes(data[i:i + 4], "little") & ~1, []))
    return found


def disassembly(elf):
    """{function: its lines}"""
    functions, lines = {}, []
    for line in output("arm-none-eabi-objdump", "-d", "--no-show-raw-insn", elf).splitlines():
        begin = re.match(r"^[0-9a-f]+ <([^>]+)>:$", line)
        if begin:
            lines = functions.setdefault(begin.group(1), [])
        lines.append(line)
    return functions


def from_instructions(lines, name):
    """What the instructions push and call: all that a function without a report has to say."""
    f = Function()
    for line in lines:
        push = re.search(r"\b(push|stmdb\s+sp!,|vpush)\s*\{([^}]*)\}", line)
        if push:
            registers = 0
            for part in push.group(2).split(","):
                ends = re.findall(r"\d+", part)
                registers += int(ends[1]) - int(ends[0]) + 1 if "-" in part else 1
            f.frame += registers * (8 if "vpush" in line and "d" in push.group(2) else 4)
        grown = re.search(r"\bsub(?:w|\.w)?\s+sp, (?:sp, )?#(\d+)", line) or re.search(r"\[sp, #-(\d+)\]!", line)
        if grown:
            f.frame += int(grown.group(1))
        call = re.search(r"\bblx?\s+[0-9a-f]+ <([^>+]+)>", line) or re.search(r"\bb(?:\.[nw])?\s+[0-9a-f]+ <([^>+]+)>", line)
        if call and call.group(1) != name:
            f.calls.add(call.group(1))
    return f


START = "heed_reset_handler"  # the vector table points to it, and no program calls it


def bound(elf, folder, root=START):
    """(bytes, path of (function, frame))."""
    functions = read_reports(folder, os.path.basename(elf))
    if "main" not in functions or not functions["main"].reported:
        sys.exit(f"stack.py: no report of main in {folder}: compile with -fcallgraph-info=su")
    at, of = symbols_of(elf)
    linked = {name for names in at.values() for name in names}
    table = table_functions(elf, at, of)
    if not table:
        sys.exit(f"stack.py: no kernel table in {elf}")
    called = {target for f in functions.values() for target in f.calls}
    depths, active, code = {}, [], disassembly(elf)

    by_pointer = {name for name, f in functions.items()
                  if f.in_platform and name in linked and name not in called and name not in table and name not in (root, START)}

    def targets(name, f):
        yield from f.calls - {INDIRECT}
        if INDIRECT in f.calls:
            yield from table
        if f.platform_calls and name != root:
            yield from (other for other in by_pointer if not (name in by_pointer and functions[other].platform_calls))

    def depth(name):
        if name in depths:
            return depths[name]
        if name in active:
            sys.exit("stack.py: recursion: " + " -> ".join(active[active.index(name):] + [name]))
        f = functions.get(name)
        read = from_instructions(code.get(name, []), name)
        if f is None or not f.reported:
            f = functions[name] = read
        f.frame = max(f.frame, read.frame)
        active.append(name)
        below = max((depth(t) for t in targets(name, f)), default=(0, []))
        active.pop()
        depths[name] = (f.frame + below[0], [(name, f.frame)] + below[1])
        return depths[name]

    sys.setrecursionlimit(10000)
    return depth(root)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elf", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--paths", action="store_true")
    args = parser.parse_args()
    total, path = bound(args.elf, args.folder)
    print(f"{total} bytes at most")
    for name, frame in path if args.paths else []:
        print(f"  {frame:6} {output('c++filt', name).strip()[:120]}")


if __name__ == "__main__":
    main()
