#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SPEC.md: the fields of a description (7.2) are those of the record in the image (1.3), but for those that the text of 7.2 excepts.

    spec_names.py    fails, and says which names differ
"""
import os
import re
import sys

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "SPEC.md")


def between(text, begin, end):
    return text.split(begin)[1].split(end)[0]


def words(text):
    return re.findall(r"`(\w+)`", text)


def main():
    with open(SPEC, encoding="utf-8") as file:
        text = file.read()
    record, described = between(text, "## 1.3 ", "## 1.4 "), between(text, "## 7.2 ", "## 7.3 ")
    fields = re.findall(r"^\| \d+ \| [a-z0-9\[\]]+ \| (\w+) \|(.*)\|$", record, re.MULTILINE)
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|([^|]*)\|", described, re.MULTILINE)
    prose = " ".join(described.split())  # wherever its lines break
    not_written = words(between(prose, "fields of 1.3 are not written", "Seven names")) + ["reserved"]
    of_tensors = words(between(prose, "Seven names are not in 1.3", "| name |"))
    of_record = {name for name, _ in fields} - (set(not_written) - set(of_tensors))
    of_description = {name for names, _ in rows for name in words(names)} - set(of_tensors)
    wrong = sorted(of_record ^ of_description)
    bits = words(next(meaning for name, meaning in fields if name == "biases"))
    named = words(next(meaning for names, meaning in rows if names == "`biases`"))
    if not of_record or not bits:
        sys.exit("SPEC.md: 1.3 and 7.2 were not found")
    if wrong:
        sys.exit(f"SPEC.md: only one of 1.3 and 7.2 has {wrong}")
    if bits != named:
        sys.exit(f"SPEC.md: biases are {bits} in 1.3 and {named} in 7.2")


if __name__ == "__main__":
    main()
