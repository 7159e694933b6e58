#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# dot_count_test.sh: the dot instructions that a table executes are exactly those that its multiply-adds require.
#
#   dot_count_test.sh TABLE PROGRAM QEMU [QEMU OPTION...]
#
# PROGRAM is dot_count. For each of its regions the multiply-adds of products, scores and weighted values are divided by
# what one instruction does; the counts of the icount plugin must be the same.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
table=$1
program=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC_FOR_BUILD:-cc} -O2 -shared -fPIC -o "$work/icount.so" "$here/icount_plugin.c"

# Encodings, in the plugin's form: three kinds, then what one instruction of each multiplies.
#   products and scores of one vector, the same of several, weighted values
case "$table" in
  neon)  # smull, smull2, smlal, smlal2 of int8: eight; of int16 by element: four
    one="match=0xBFE0FC00:0x0E20C000,match=0xBFE0FC00:0x0E208000"
    several=""
    values="match=0xBFC0F400:0x0F402000,match=0xBFE0FC00:0x0E608000"
    per="8 8 4" columns="2 0 2" ;;
  neon32)  # vmull.s8, vmlal.s8; vmlal.s16 by scalar or by vector
    one="match=0xFFB00F50:0xEF800C00,match=0xFFB00F50:0xEF800800"
    several=""
    values="match=0xFFB00F50:0xEF900240,match=0xFFB00F50:0xEF900800"
    per="8 8 4" columns="2 0 2" ;;
  dotprod)  # sdot by element: sixteen; sdot of vectors, once for each byte of a weight
    one="match=0xBFC0F400:0x0F80E000"
    several=""
    values="match=0xBFE0FC00:0x0E809400"
    per="16 16 8" columns="1 0 1" ;;
  i8mm)  # sdot by element for one vector; smmla: 32, or 16 with both bytes of a weight
    one="match=0xBFC0F400:0x0F80E000"
    several="match=0xFFE0FC00:0x4E80A400"
    values=""
    per="16 32 16" columns="1 1 0" ;;
  *) echo "dot_count_test.sh: unknown table '$table'" >&2; exit 2 ;;
esac
matches=$one
[ -z "$several" ] || matches="$matches,$several"
[ -z "$values" ] || matches="$matches,$values"
"$@" -seed 1 -plugin "$work/icount.so,out=$work/counts,$matches" "$program" "${table%32}" >"$work/macs"
grep '^region' "$work/counts" >"$work/regions"
paste -d ' ' "$work/macs" "$work/regions" | awk -v table="$table" -v per="$per" -v columns="$columns" '
  BEGIN { split(per, p); split(columns, c) }
  {
    # macs of products, scores, values, "region", N, instructions, counts
    macs = $1 + $2; values = $3
    one = several = weighted = 0; f = 7
    for (i = 0; i < c[1]; ++i) one += $(f++)
    for (i = 0; i < c[2]; ++i) several += $(f++)
    for (i = 0; i < c[3]; ++i) weighted += $(f++)
    want_values = values / p[3]
    single = NR % 2  # odd regions have one vector
    want_one = c[2] == 0 || single ? macs / p[1] : 0
    want_several = c[2] == 0 || single ? 0 : macs / p[2]
    if (c[3] == 0) { want_several += want_values; want_values = 0 }
    printf "%s region %d: %d instructions, %.4f per multiply-add; dot instructions %d %d %d, required %d %d %d\n",
           table, NR, $6, $6 / (macs + values), one, several, weighted, want_one, want_several, want_values
    if (one != want_one || several != want_several || weighted != want_values) failed = 1
  }
  END { exit failed || NR != 4 }'
