#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# encode_count_test.sh: encoding takes near-linear time: a text 32 times as long takes at most half as many instructions
# per byte more. (Its tree has five levels instead of three.)
#
#   encode_count_test.sh PROGRAM QEMU [QEMU OPTION...]
#
# PROGRAM is encode_count.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC_FOR_BUILD:-cc} -O2 -shared -fPIC -o "$work/icount.so" "$here/icount_plugin.c"
"$@" -plugin "$work/icount.so,out=$work/counts" "$program" >"$work/bytes"
grep '^region' "$work/counts" | paste -d ' ' "$work/bytes" - | awk '
  { each[NR] = $4 / $1; printf "%d bytes: %.1f instructions per byte\n", $1, each[NR] }
  END { exit NR != 2 || each[2] > 1.5 * each[1] }'
