#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# default_model_test.sh: the default model tells the same stories on every kernel table that runs here.
#   default_model_test.sh IMAGE HEED...     HEED... is the command line, behind its emulator if it needs one
set -eu
image=$1
shift
greedy=e6dff0b2
sampled=eef7ac2b
tables=0
for table in portable sse2 avx2 avxvnni avx512vnni neon dotprod i8mm; do
  "$@" run "$image" -p "" -n 200 --isa $table --json >/dev/null 2>&1 || continue
  tables=$((tables + 1))
  a=$("$@" run "$image" -p "" -n 200 --isa $table --json | sed -n 's/.*"digest": "\(.*\)".*/\1/p')
  b=$("$@" run "$image" -p "" -n 200 --temp 0.8 --seed 1 --isa $table --json | sed -n 's/.*"digest": "\(.*\)".*/\1/p')
  echo "$table: greedy $a, sampled $b"
  if [ "$a" != $greedy ] || [ "$b" != $sampled ]; then
    echo "expected $greedy and $sampled" >&2
    exit 1
  fi
done
[ $tables -ge 2 ] || { echo "no vector table ran" >&2; exit 1; }
