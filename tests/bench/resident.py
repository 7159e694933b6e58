#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program and says how much memory it had resident at most, and what that was.

    resident.py [--json] PROGRAM ARGUMENT...

The peak is VmHWM. The parts are the program's file, other mapped files (the image), the stack, and what has no file: the
heap, static data and the arena. Linux only: the program is stopped at its system calls, and the parts are those of the
stop with the most memory, which is before an image is unmapped.
"""
import ctypes
import json
import os
import re
import signal
import sys
import time

TRACEME, SYSCALL, SETOPTIONS = 0, 24, 0x4200
SYSGOOD, TRACEEXIT, EVENT_EXIT = 1, 0x40, 6
LIBC = ctypes.CDLL(None, use_errno=True)


def trace(request, pid, data=0):
    return LIBC.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(0), ctypes.c_void_p(data))


def parts_of(pid, program):
    """Resident KiB by kind."""
    parts = {"program": 0, "files": 0, "stack": 0, "no file": 0}
    kind = None
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            mapping = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+) *(.*)", line)
            if mapping:
                inode, path = mapping.groups()
                kind = "stack" if path == "[stack]" else "no file" if inode == "0" else \
                    "program" if os.path.realpath(path) == os.path.realpath(program) else "files"
            elif line.startswith("Rss:"):
                parts[kind] += int(line.split()[1])
    return parts


def resident(command, environment=None):
    """Peak and parts in KiB, and the exit status."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        trace(TRACEME, 0)
        os.execvpe(command[0], command, environment or os.environ)
    os.waitpid(pid, 0)
    trace(SETOPTIONS, pid, SYSGOOD | TRACEEXIT)
    trace(SYSCALL, pid)
    peak, most, parts = 0, 0, {}
    while True:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return peak, parts, status
        deliver = os.WSTOPSIG(status)
        if status >> 8 == signal.SIGTRAP | EVENT_EXIT << 8:
            with open(f"/proc/{pid}/status") as file:
                peak = int(re.search(r"VmHWM:\s*(\d+)", file.read()).group(1))
            deliver = 0
        elif deliver == signal.SIGTRAP | 0x80:
            with open(f"/proc/{pid}/statm") as file:
                now = int(file.read().split()[1])
            if now > most:
                most, parts = now, parts_of(pid, command[0])
            deliver = 0
        trace(SYSCALL, pid, deliver)


def seconds_of(command, environment=None):
    """From just before the process starts until it has ended."""
    with open(os.devnull, "r+") as null:
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), stream) for stream in (0, 1, 2)]
        start = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environment or os.environ, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        return time.perf_counter() - start, status


def main():
    as_json = sys.argv[1:2] == ["--json"]
    command = sys.argv[2 if as_json else 1:]
    if not command:
        sys.exit(__doc__)
    peak, parts, status = resident(command)
    if as_json:
        print(json.dumps({"peak_kib": peak, "parts_kib": parts}))
    else:
        print(f"peak     {peak:8,} KiB")
        for part, kib in parts.items():
            print(f"{part:8} {kib:8,} KiB")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
