# SPDX-License-Identifier: Apache-2.0
"""What spec_vectors.py makes vectors of: inputs, what is right, and what wrong readings make of them."""
import sys
import types

import numpy as np

import spec_reference
from make_random_image import Random
from spec_image import crc32c
from spec_reference import F


def show(value):
    """Floats as bits, integers in decimal, text as it is; WORD*N is N times the same."""
    if isinstance(value, str):
        return value
    array = np.atleast_1d(np.asarray(value)).reshape(-1)
    words = [f"{u:08x}" for u in array.view(np.uint32)] if array.dtype == F else [str(int(i)) for i in array]
    shown, at = [], 0
    while at < len(words):
        end = at
        while end < len(words) and words[end] == words[at]:
            end += 1
        shown += words[at:end] if end - at < 4 else [f"{words[at]}*{end - at}"]
        at = end
    return " ".join(shown) if shown else "-"


def crc_of(table):
    return f"{crc32c(np.asarray(table).astype('<u2').tobytes()):08x}"


def mutant(module, old, new):
    """The module with one place of its source changed."""
    with open(module.__file__) as file:
        source = file.read()
    if source.count(old) != 1:
        sys.exit(f"spec_vectors.py: {source.count(old)} places to break: {old}")
    broken = types.ModuleType(module.__name__ + "_broken")
    exec(compile(source.replace(old, new), module.__file__, "exec"), broken.__dict__)
    return broken


class Wrong:
    """A wrong reading: what it is, and the place where the programs read otherwise."""

    def __init__(self, what, old, new, module=spec_reference):
        self.what, self.module, self.broken = what, module, mutant(module, old, new)


LINE, COLUMN = 120, 18


def lines_of(name, words, indent="  "):
    """A name and its words, in lines of at most LINE characters; the following ones begin with spaces alone."""
    lines, line = [], f"{indent}{name.rstrip('_'):<{COLUMN - len(indent)}}"
    line = line if line.endswith(" ") else line + " "
    for word in words.split(" "):
        if len(line) + len(word) > LINE:
            lines.append(line.rstrip())
            line = " " * COLUMN
        line += word + " "
    return lines + [line.rstrip()]


def vector(name, inputs, compute, wrongs=(), outputs=None):
    """The text of one vector. compute(module, **inputs) gives a dict; it is called with each wrong reading too. None
    when a wrong reading gives what is right."""
    right = {key: show(value) for key, value in compute(None, **inputs).items()}
    lines = [name]
    for key, value in inputs.items():
        lines += lines_of(key, show(value))
    for key, value in right.items():
        lines += lines_of("-> " + key, value)
    for wrong in wrongs:
        got = {key: show(value) for key, value in compute(wrong.broken, **inputs).items()}
        different = [key for key in right if got[key] != right[key]]
        if not different:
            return None
        lines += lines_of("not " + different[0], got[different[0]])
        lines[-1] += f"   # {wrong.what}" if len(lines[-1]) + len(wrong.what) + 5 <= LINE else ""
        if not lines[-1].endswith(wrong.what):
            lines.append(" " * COLUMN + f"# {wrong.what}")
    return "\n".join(lines)


def found(name, make, compute, wrongs, tries=20000):
    """The first of random inputs that tells all wrong readings from the right one."""
    for seed in range(tries):
        text = vector(name, make(Random(seed)), compute, wrongs)
        if text:
            return text
    sys.exit(f"spec_vectors.py: no input of {tries} shows every wrong reading of {name}")


def given(name, inputs, compute, *wrongs):
    text = vector(name, inputs, compute, wrongs)
    if not text:
        sys.exit(f"spec_vectors.py: {name} {inputs} shows not every wrong reading")
    return text


def floats(*values):
    return np.array(values, F)


def hexes(*words):
    return np.array([int(word, 16) for word in words], np.uint32).view(F)


def random_floats(random, n, low=-2, high=2):
    """Of any sign, between 2^low and 2^(high + 1)."""
    return (random.floats(n, low, high) * (1 - 2 * random.integers(n, 0, 1)).astype(F)).astype(F)
