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
  { each[NR] = $5 / $1; printf "%s, %d bytes: %.1f instructions per byte\n", $2, $1, each[NR] }
  NR % 2 == 0 && each[NR] > 1.5 * each[NR - 1] { failed = 1 }
  END { exit failed || NR != 6 }'
