#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# grouped_test.sh: images with groups in which products of SPEC.md 2.5 leave -32768, on every table that runs here.
#   grouped_test.sh HEED...
set -u
heed=$*
data=${HEED_TEST_DATA:-}
for file in repro/grouped_minus_32768.heed stories260K/stories260K.bin; do
  [ -f "$data/$file" ] && continue
  echo "skipped: $file needs HEED_TEST_DATA"
  [ "${HEED_REQUIRE_DATA:-0}" != 1 ] || exit 1
  exit 0
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$heed quantize "$data/stories260K/stories260K.bin" --group 32 -o "$work/stories.heed" > /dev/null 2>&1 || exit 1
# An image of version 1: what it computes stays.
$heed quantize "$data/repro/grouped_minus_32768.heed" -o "$work/grouped.heed" > /dev/null 2>&1 || exit 1
tables=$($heed run --help | sed -n 's/.*Kernel table: \(.*\) (default.*/\1/p' | tr -d ,)
[ -n "$tables" ] || { echo "FAILED: no tables in the help of run"; exit 1; }
failures=0

# digest_is WANTED TABLE ARGUMENTS...
digest_is() {
  wanted=$1
  table=$2
  shift 2
  digest=$($heed run "$@" --isa "$table" --json | sed -n 's/.*"digest": "\(.*\)".*/\1/p')
  [ "$digest" = "$wanted" ] && return
  echo "FAILED: $table gives $digest, not $wanted, for run $*"
  failures=$((failures + 1))
}
for table in $tables; do
  digest_is df66647f "$table" "$work/grouped.heed" -n 1
  digest_is 37c45527 "$table" "$work/stories.heed" -p "Once upon a time" -n 200 --temp 0.8 --top-p 0.9 --top-k 40 --seed 1
done
echo "$(echo "$tables" | wc -w) tables, $failures failed"
[ $failures = 0 ]
