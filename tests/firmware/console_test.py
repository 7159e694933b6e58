#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Talks to the console firmware through its emulated serial port: good prompts, and everything that is none.

    console_test.py --console ELF --story ELF --board BOARD [--prompt TEXT]...

Each line that cannot be used must give exactly one refusal and the next prompt; each good one the digest that the story
firmware gives for the same prompt, seed and number of tokens.
"""
import argparse
import os
import re
import selectors
import subprocess
import sys
import time

SEMIHOSTING = ["-semihosting-config", "enable=on,target=native,chardev=semi"]


class Console:
    def __init__(self, board, elf):
        self.process = subprocess.Popen(
            ["qemu-system-arm", "-M", board, "-display", "none", "-monitor", "none", "-chardev", "null,id=semi", *SEMIHOSTING,
             "-serial", "stdio", "-kernel", elf], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def read_prompt(self, seconds=60):
        """Everything up to the next "> " at the beginning of a line."""
        text, end = b"", time.monotonic() + seconds
        while not (text == b"> " or text.endswith(b"\n> ")):
            if not self.selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError(f"no prompt after {seconds} s: {text[-200:]!r}")
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                raise EOFError(f"the emulator ended: {text[-200:]!r}")
            text += piece
        return text[:-2]

    def say(self, line):
        for at in range(0, len(line), 512):
            self.process.stdin.write(line[at:at + 512])
        return self.read_prompt()

    def close(self):
        self.process.kill()
        self.process.wait()


def story_digest(board, elf, prompt, seed, tokens):
    text = subprocess.run(["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", "-serial", "none", "-chardev",
                           "stdio,id=semi", *SEMIHOSTING, "-kernel", elf, "-append", f"-n {tokens} -t 80 -s {seed} -p {prompt}"],
                          stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout.replace(b"\0", b"")
    return re.search(rb"^digest ([0-9a-f]{8})$", text, re.M).group(1).decode()


# Lines that are none, and what the refusal says. Ends of lines of all three kinds.
BROKEN = [
    (b"a" * 201 + b"\r\n", b"longer than 200 bytes"),
    (b"an " * 20000 + b"\n", b"longer than 200 bytes"),
    (b"a\x01n\r", b"control character"),
    (b"\x00\n", b"control character"),
    (b"\x1b[A\n", b"control character"),
    (b"an \xff\n", b"not UTF-8"),
    (b"\xc3\n", b"not UTF-8"),              # cut
    (b"\xc0\x80\n", b"not UTF-8"),          # a longer form of NUL
    (b"\xed\xa0\x80\n", b"not UTF-8"),      # a surrogate
    (b"\xf4\x90\x80\x80\n", b"not UTF-8"),  # above 10FFFF
    (b"\xf5\x80\x80\x80\n", b"not UTF-8"),
    (b"\x80\n", b"not UTF-8"),
    (bytes(range(128, 256)) + b"\n", b"not UTF-8"),
    (b"\x7f" * 300 + b"\xff" * 300 + b"\n", b"longer than 200 bytes"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--console", required=True)
    parser.add_argument("--story", required=True)
    parser.add_argument("--board", required=True)
    parser.add_argument("--prompt", action="append", default=[])
    args = parser.parse_args()
    failed, told = 0, 0
    console = Console(args.board, args.console)

    def check(holds, what):
        nonlocal failed
        if not holds:
            failed += 1
            print("FAILED: " + what)

    def tell(prompt, typed=None):
        nonlocal told
        text = console.say(typed or prompt.encode() + b"\r\n")
        told += 1
        found = re.search(rb"\r\n\[seed (\d+), (\d+) tokens, digest ([0-9a-f]{8}), \d+ thousand ticks\]\r\n$", text)
        check(found is not None and b"refused" not in text, f"{prompt!r}: {text!r}")
        if not found:
            return
        seed, tokens, digest = int(found.group(1)), int(found.group(2)), found.group(3).decode()
        check(text.startswith(prompt.encode()), f"{prompt!r} is not repeated: {text[:80]!r}")
        check(seed == told, f"seed {seed} of story {told}")
        expected = story_digest(args.board, args.story, prompt, seed, tokens)
        check(digest == expected, f"{prompt!r}: digest {digest}, the story firmware gives {expected}")

    try:
        greeting = console.read_prompt()
        check(greeting.startswith(b"heed on cortex-m"), f"greeting {greeting!r}")
        tell(args.prompt[0])
        for line, why in BROKEN:
            text = console.say(line)
            check(text.count(b"refused: ") == 1 and why in text and text.endswith(b"\r\n") and text.count(b"\n") == 1,
                  f"{line[:20]!r} ({len(line)} bytes) gives {text!r}")
        for prompt in args.prompt[1:]:
            tell(prompt)
        # Typed with a mistake that is taken back, a character of two bytes at that.
        first = args.prompt[0]
        tell(first, b"\xc3\xa9\x08" + first.encode() + b"zz\x7f\x08" + b"\r")
        check(b"refused" not in console.say(b"\n" + first.encode() + b"\n"), "LF behind CR counts as a line")
        check(console.process.poll() is None, "the firmware ended")
    except (TimeoutError, EOFError) as error:
        check(False, str(error))
    finally:
        console.close()
    print(f"console: {told} stories, {len(BROKEN)} broken lines, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
