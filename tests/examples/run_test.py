#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `heed run` does with its options, its standard input and signals.

    run_test.py SOURCE_DIR HEED...              HEED: the program, behind its emulator if it needs one
    run_test.py --quick SOURCE_DIR HEED...      for an emulator or a sanitizer: no signals, no large model, no limit on memory

Signals are sent when the program is known to be where they matter: it has installed its handler (Linux says so), and it
waits for a reader of its output, or has work for far longer than a signal takes.
"""
import array
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from heed_program import Heed, attempt, check, finish, same


# -- what ends a text -----------------------------------------------------------------------------------------------
def test_end(heed, tiny, limit):
    # The firmware's digests of the same image, prompt and seed: tests/CMakeLists.txt.
    early = heed.json("run", tiny, "-p", "", "-n", 60, "--temp", 0.9, "--seed", 1, "--isa", "portable")
    same("a text that ends early", (early["digest"], len(early["tokens"]), early["end"]), ("ce2289e4", 8, "end_of_text"))
    same("its last token is EOS", early["tokens"][-1], 2)
    greedy = heed.json("run", tiny, "-p", "", "-n", 60, "--isa", "portable")
    same("BOS ends a text", (greedy["tokens"], greedy["text"], greedy["digest"]), ([1], "", "d06299c0"))
    long = heed.json("run", tiny, "-p", "abba nab an ban ab", "-n", 45, "--temp", 0.4, "--seed", 19, "--isa", "portable")
    same("a text that does not end", (long["digest"], len(long["tokens"]), long["end"]), ("a214a564", 45, "tokens"))
    on = heed.json("run", tiny, "-p", "", "-n", 60, "--temp", 0.9, "--seed", 1, "--ignore-eos", "--isa", "portable")
    same("--ignore-eos goes on: the digest before texts ended", (on["digest"], len(on["tokens"]), on["end"]),
         ("6a178660", 60, "tokens"))
    same("the same up to there", on["tokens"][:8], early["tokens"])
    check("<" not in on["text"] and "\n" not in on["text"], f"the names of BOS and EOS are printed: {on['text']!r}")
    check(on["text"].startswith(early["text"]) and len(on["text"]) > len(early["text"]), "the text goes on")
    filled = heed.json("run", tiny, "-p", "", "-n", 200, "--ignore-eos", "--isa", "portable")
    same("to the end of the context", (filled["digest"], len(filled["tokens"]), filled["end"], filled["context_full"]),
         ("33950cf0", 128, "context_full", True))
    same("-n reserves no more than the context holds",
         heed.json("run", tiny, "-n", 1 << 30, "--ignore-eos", **limit)["digest"], filled["digest"])


def one_gigabyte():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


# -- stop texts -----------------------------------------------------------------------------------------------------
def test_stop(heed, tiny):
    way = [tiny, "-p", "a", "-n", 100, "--temp", 0.9, "--seed", 5, "--ignore-eos", "--isa", "portable"]
    whole = heed.json("run", *way)
    prompt, text = "a", whole["text"][1:]
    check(len(text) > 60, f"a long text: {text!r}")
    drawn = random.Random(1)
    stops = [text[0], text[-1], text, "zzz", text[-2:] + "z", *(text[i:i + drawn.randint(1, 9)] for i in range(0, 60, 4))]
    for stop in stops:
        for given in ([stop], ["zzzz", stop], [stop, text[7:9]]):
            options = [x for s in given for x in ("--stop", s)]
            answer = heed.json("run", *way, *options)
            # The one that is complete first ends the text.
            end = min(((text.find(s) + len(s), text.find(s)) for s in given if s in text), default=None)
            if end:
                shown = text[:min(text.find(s) for s in given if s in text[:end[0]] or text.find(s) == end[1])]
                same(f"--stop {given}", (answer["text"], answer["end"]), (prompt + shown, "stop_text"))
            else:
                same(f"--stop {given}", (answer["text"], answer["end"]), (prompt + text, "tokens"))
            same("a beginning of the tokens", answer["tokens"], whole["tokens"][:len(answer["tokens"])])
            shown = heed("run", *way, *options).stdout
            same(f"as shown, --stop {given}", shown.decode(), answer["text"] + "\n")
    same("not looked for in the prompt", heed.json("run", tiny, "-p", "ban", "-n", 1, "--stop", "ban")["text"][:3], "ban")
    heed("run", tiny, "--stop", "", status=2)


# -- sampling -------------------------------------------------------------------------------------------------------
def test_sampling(heed, tiny):
    way = [tiny, "-n", 100, "--temp", 1, "--ignore-eos", "--isa", "portable"]
    same("a seed of 0 is the default", heed.json("run", *way)["seed"], 0)
    seeds = set()
    for _ in range(3):
        done = heed("run", *way, "--seed", "random", "--json")
        answer = json.loads(done.stdout)
        seeds.add(answer["seed"])
        check(f"--seed {answer['seed']}\n".encode() in done.stderr, f"the seed is printed: {done.stderr!r}")
        same("the seed gives the text again", heed.json("run", *way, "--seed", answer["seed"])["digest"], answer["digest"])
    check(len(seeds) == 3 and max(seeds) < 2 ** 53, f"random seeds {seeds}")
    base = heed.json("run", *way)
    same("a penalty of 1 and a min-p of 0 are off",
         heed.json("run", *way, "--repeat-penalty", 1, "--min-p", 0, "--repeat-last", 3)["digest"], base["digest"])
    for option in (["--min-p", 0.3], ["--repeat-penalty", 1.5], ["--repeat-penalty", 1.5, "--repeat-last", 2]):
        answer = heed.json("run", *way, *option)
        check(answer["tokens"] != base["tokens"], f"{option} changes nothing")
        same(f"{option} is the same again", heed.json("run", *way, *option)["digest"], answer["digest"])
    # The likeliest alone, and a penalty that never lets a token come twice while others are left.
    greedy = heed.json("run", tiny, "-n", 100, "--ignore-eos", "--isa", "portable")
    same("min-p of 1 is the likeliest", heed.json("run", *way, "--min-p", 1)["tokens"], greedy["tokens"])
    other = heed.json("run", tiny, "-n", 100, "--ignore-eos", "--isa", "portable", "--repeat-penalty", 100, "--repeat-last", 1)
    check(all(a != b for a, b in zip([1] + other["tokens"], other["tokens"])), f"a token comes twice: {other['tokens']}")
    check(any(a == b for a, b in zip(greedy["tokens"], greedy["tokens"][1:])), "without a penalty none comes twice")
    # Logits enter the digest before the penalty, so the first token's digest changes by its id alone.
    same("the penalised logits are not in the digest", heed.json("run", tiny, "-n", 1, "--repeat-penalty", 1.0001)["digest"],
         heed.json("run", tiny, "-n", 1)["digest"])
    for option, wrong in (("--min-p", "1.1"), ("--min-p", "-0.1"), ("--min-p", "nan"), ("--repeat-penalty", "0"),
                          ("--repeat-penalty", "101"), ("--repeat-penalty", "inf"), ("--repeat-last", "0"),
                          ("--repeat-last", "-1"), ("--seed", "randon")):
        check(option.encode() in heed("run", tiny, option, wrong, status=2).stderr, f"{option} {wrong} is not named")


# -- decimal numbers only -------------------------------------------------------------------------------------------
def test_numbers(heed, tiny, folder):
    for wrong in ("0x10", "+5", " 5", "5 ", "5.0", "1e1", "", "٣", "5_0", "5'0"):
        for command in (["run", tiny, "-n"], ["run", tiny, "--seed"], ["run", tiny, "--top-k"], ["run", tiny, "--context"],
                        ["bench", tiny, "-n"], ["bench", tiny, "-p"], ["plan", tiny, "--context"],
                        ["eval", tiny, "text.txt", "--chunk-bytes"], ["quantize", tiny, "-o", folder + "/x", "--context"]):
            heed(*command, wrong, status=2)
    for wrong in ("0x1p-1", "+0.5", " 0.5", "0.5 ", "inf", "nan", "", ".", "1e", "0,5", "-0", "1_0", "0.5f"):
        for option in ("--temp", "--top-p", "--min-p", "--repeat-penalty"):
            heed("run", tiny, option, wrong, status=2)
    same("010 is ten", len(heed.json("run", tiny, "-n", "010", "--ignore-eos")["tokens"]), 10)
    way = [tiny, "-n", 50, "--temp", 1]
    same("a seed of 010 is ten", heed.json("run", *way, "--seed", "010")["digest"], heed.json("run", *way, "--seed", 10)["digest"])
    rows = heed("bench", tiny, "-p", "008,016", "-n", "0", "--isa", "portable").stdout
    same("and so in a list", re.findall(rb"^prefill +(\d+) ", rows, re.M), [b"8", b"16"])
    for temp in ("1", "1.", "1.0", "01", "10e-1", "0.1E+1"):
        same(f"--temp {temp}", heed.json("run", *way[:3], "--temp", temp, "--seed", 10)["digest"], heed.json("run", *way, "--seed", 10)["digest"])
    for command in ([], ["run"], ["eval"], ["run", tiny]):
        error = heed(*command, "--frob", status=2).stderr
        check(b"--frob" in error and b"required" not in error, f"heed {command} --frob: {error!r}")


# -- prompts --------------------------------------------------------------------------------------------------------
def test_prompts(heed, tiny, folder):
    def prompt_of(*options, **more):
        return heed.json("run", tiny, "-n", 1, *options, **more)["prompt_tokens"]

    def file(data):
        path = os.path.join(folder, "prompt")
        with open(path, "wb") as f:
            f.write(data)
        return path

    banana = prompt_of("-p", "banana")
    check(len(banana) > 3, f"banana: {banana}")
    same("-p -", prompt_of("-p", "-", stdin=b"banana"), banana)
    same("-f -", prompt_of("-f", "-", stdin=b"banana"), banana)
    same("standard input", prompt_of(stdin=b"banana\n"), banana)
    same("-f FILE", prompt_of("-f", file(b"banana\n")), banana)
    same("CR LF", prompt_of("-f", file(b"banana\r\n")), banana)
    with open(file(b"banana\n"), "rb") as f:
        same("a file as standard input", prompt_of(stdin=f), banana)
    same("-p wins over standard input", prompt_of("-p", "banana", stdin=b"ban"), banana)
    for empty in (b"", b"\n"):
        same("nothing on standard input begins a text", prompt_of(stdin=empty), prompt_of("-p", ""))
    same("/dev/null", prompt_of(stdin=subprocess.DEVNULL), prompt_of("-p", ""))
    same("no standard input at all", prompt_of(stdin=None, preexec_fn=lambda: os.close(0)), prompt_of("-p", ""))
    heed("run", tiny, "-p", "a", "-f", file(b"a"), status=2)
    # One end of line is left out, no more, and nothing else: what remains is refused by this vocabulary.
    for data, at in ((b"banana\n\n", 6), (b"ban\0ana", 3), (b"banana\r", 6)):
        error = heed("run", tiny, "-f", file(data), status=1).stderr
        check(f"at byte {at}\n".encode() in error, f"{data!r}: {error!r}")
    # A text "-" is one that a file holds.
    check(b"no token for '-'" in heed("run", tiny, "-f", file(b"-"), status=1).stderr, "a file with a -")
    for wrong, why in ((os.path.join(folder, "nothing"), b"No such file"), (folder, b"directory"), ("", b"empty path")):
        check(why in heed("run", tiny, "-f", wrong, status=1).stderr, f"-f {wrong!r}")
    for much in (["-f", file(b"a" * ((1 << 20) + 1))], ["-f", "/dev/zero"]):
        check(b"at most 1,048,576 bytes" in heed("run", tiny, *much, status=1).stderr, f"{much}")
    with open("/dev/zero", "rb") as zero:
        check(b"at most 1,048,576 bytes" in heed("run", tiny, status=1, stdin=zero).stderr, "endless standard input")
    fifo = os.path.join(folder, "fifo")
    os.mkfifo(fifo)
    writer = subprocess.Popen(["sh", "-c", f"printf ban > '{fifo}'; :"])
    same("a FIFO", prompt_of("-f", fifo), prompt_of("-p", "ban"))
    writer.wait()
    # Open, and nobody ever writes: not waited for, and said so.
    reader, writer = os.pipe()
    done = heed("run", tiny, "-n", 1, "--json", stdin=reader)
    same("a silent pipe", json.loads(done.stdout)["prompt_tokens"], prompt_of("-p", ""))
    check(b"standard input is open and silent" in done.stderr, f"a silent pipe: {done.stderr!r}")
    os.close(reader)
    os.close(writer)


# -- signals --------------------------------------------------------------------------------------------------------
def catches(pid, number):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def start(heed, *arguments, **more):
    """A process that has its handler in place, or that ended before."""
    process = subprocess.Popen([*heed.program, *map(str, arguments)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                               preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGTERM)],
                               **more)
    while process.poll() is None and not catches(process.pid, signal.SIGINT):
        time.sleep(0.001)
    return process


def test_signals(heed, tiny, large, folder):
    way = ["run", tiny, "-p", "a", "-n", 100, "--temp", 0.9, "--seed", 5, "--ignore-eos", "--isa", "portable"]
    whole = heed(*way).stdout
    for number in (signal.SIGINT, signal.SIGTERM):
        # A pipe of one packet: every write waits until the one before has been read.
        reader, writer = os.pipe2(os.O_DIRECT)
        import fcntl
        fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
        process = start(heed, *way, stdout=writer)
        os.close(writer)
        shown = os.read(reader, 4096)
        for _ in range(9):
            shown += os.read(reader, 4096)
        process.send_signal(number)
        while piece := os.read(reader, 4096):
            shown += piece
        os.close(reader)
        error = process.stderr.read()
        same(f"status after {number.name}", process.wait(), 128 + number)
        check(shown.endswith(b"\n") and whole.startswith(shown[:-1]) and 10 < len(shown) < len(whole),
              f"{number.name}: not a beginning that ends with its line: {shown!r}")
        check(b"digest " in error and b"tokens/s" in error and b"interrupted" in error, f"{number.name}: {error!r}")

    text = os.path.join(folder, "long.txt")
    with open(text, "w") as f:
        f.write("abcd " * 2000000)
    for command, extra in ((["run", large, "-p", "abc", "-n", 1 << 20, "--ignore-eos", "--temp", 1, "-t", 1], []),
                           (["run", large, "-f", long_prompt(folder), "-n", 9, "-t", 1], []),
                           (["eval", large, text, "-t", 1], [])):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = start(heed, *command, "--json", *extra, stdout=subprocess.PIPE)
            process.send_signal(number)
            out, error = process.communicate(timeout=120)
            same(f"status of {command[0]} --json after {number.name}", process.returncode, 128 + number)
            try:
                answer = json.loads(out)
                same("interrupted", answer["interrupted"], True)
                if command[0] == "run":
                    check(len(answer["digest"]) == 8 and answer["end"] == "interrupted", f"{answer}")
                else:
                    check((answer["nats_per_token"] is None) == (answer["tokens"] == 0), f"{answer}")
            except (ValueError, KeyError) as what:
                check(False, f"{command[0]} --json after {number.name}: {what}: {out[-200:]!r} {error!r}")
        # A second one ends it at once, wherever it is.
        process = start(heed, *command, stdout=subprocess.DEVNULL)
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        while process.poll() is None and catches(process.pid, signal.SIGINT):
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        check(process.wait() in (-signal.SIGINT, 130), f"a second SIGINT: {process.returncode}")
        process.stderr.close()
    # Ignored stays ignored, as nohup and shells want it.
    done = subprocess.run([*heed.program, *map(str, way)], stdin=subprocess.DEVNULL, capture_output=True,
                          preexec_fn=lambda: (signal.signal(signal.SIGINT, signal.SIG_IGN), os.kill(os.getpid(), signal.SIGINT)))
    same("ignored", (done.returncode, done.stdout), (0, whole))


def long_prompt(folder):
    path = os.path.join(folder, "prompt.txt")
    with open(path, "w") as f:
        f.write("abcdefg " * 7500)
    return path


# -- threads --------------------------------------------------------------------------------------------------------
def test_threads(heed, large):
    cpus = sorted(os.sched_getaffinity(0))
    way = [large, "-p", "a", "-n", 1]
    check(1 <= heed.json("run", *way)["threads"] <= len(cpus), "threads beyond the affinity mask")
    for cpu in cpus[:2]:
        same(f"threads on CPU {cpu} alone", heed.json("run", *way, preexec_fn=lambda: os.sched_setaffinity(0, [cpu]))["threads"], 1)
    same("-t", heed.json("run", *way, "-t", 3, preexec_fn=lambda: os.sched_setaffinity(0, cpus[:1]))["threads"], 3)


def make_large(heed, folder):
    """A model that is worth threads, and whose context takes minutes: llama2.c version 1, a token per byte."""
    d, ff, layers, heads, vocab, context = 512, 1536, 2, 8, 256, 1 << 16
    words = array.array("f", (random.Random(1).uniform(-0.1, 0.1) for _ in range(4099)))
    floats = layers * (2 * d + 4 * d * d + 3 * d * ff) + d + vocab * d
    path = os.path.join(folder, "large")
    with open(path + ".bin", "wb") as f:
        f.write(struct.pack("<Ii7iB", 0x616B3432, 1, d, ff, layers, heads, heads, vocab, context, 1).ljust(256, b"\0"))
        for at in range(0, floats, len(words)):
            f.write(words[:floats - at].tobytes())
    heed("quantize", path + ".bin", "-o", path + ".heed", "--tokenizer", "bytes", "--group", "row")
    return path + ".heed"


def main():
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    source_dir, *program = [a for a in arguments if a != "--quick"]
    heed, folder = Heed(program), tempfile.mkdtemp()
    try:
        tiny = os.path.join(source_dir, "tests", "golden", "tiny.heed")
        tests = [(test_end, tiny, {} if quick else {"preexec_fn": one_gigabyte}), (test_stop, tiny), (test_sampling, tiny), (test_numbers, tiny, folder),
                 (test_prompts, tiny, folder)]
        if not quick:
            large = make_large(heed, folder)
            tests += [(test_threads, large), (test_signals, tiny, large, folder)]
        for test, *given in tests:
            attempt(test, heed, *given)
    finally:
        shutil.rmtree(folder)
    finish()


if __name__ == "__main__":
    main()
