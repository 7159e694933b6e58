# SPDX-License-Identifier: Apache-2.0
"""heed_program.py: `heed` run as people run it, and checks that are counted; for the tests beside it."""
import json
import subprocess
import sys

failures = checks = 0


def check(holds, what):
    global failures, checks
    checks += 1
    if not holds:
        failures += 1
        print("FAILED: " + what, flush=True)


def same(what, a, b):
    check(a == b, f"{what}: {a!r} and {b!r}")


def attempt(test, *given):
    """A test of which one part fails to run at all is one failure, and the next test follows."""
    try:
        test(*given)
    except (KeyError, ValueError, OSError, IndexError, subprocess.TimeoutExpired) as error:
        check(False, f"{test.__name__}: {error!r}")


def finish():
    print(f"{checks} checks, {failures} failed")
    sys.exit(1 if failures else 0)


class Heed:
    """The program, behind its emulator if it needs one."""

    def __init__(self, program):
        self.program = program

    def __call__(self, *arguments, stdin=b"", status=0, **more):
        """Runs `heed`; its standard input is these bytes, or what subprocess knows."""
        how = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        done = subprocess.run([*self.program, *map(str, arguments)], capture_output=True, timeout=300, **how, **more)
        if done.returncode != status:
            check(False, f"heed {arguments}: status {done.returncode} instead of {status}: {done.stderr!r}")
        return done

    def json(self, *arguments, **more):
        return json.loads(self(*arguments, "--json", **more).stdout)

    def refuses(self, why, *arguments, **more):
        """Status 1, one line that says why, and no output."""
        done = self(*arguments, status=1, **more)
        check(done.stderr.startswith(b"heed: ") and done.stderr.count(b"\n") == 1 and not done.stdout and why in done.stderr.decode(),
              f"heed {arguments}: not one line with {why!r}: {done.stderr[:1000]!r} {done.stdout[:80]!r}")
