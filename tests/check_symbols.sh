#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_symbols.sh: guards the object of one kernel table, which is built with flags that other CPUs do not have.
#
#   check_symbols.sh [--nm NM] [--objdump OBJDUMP] OBJECT TAG INSTRUCTION...
#
# 1. Every weak function must carry TAG (an extended regular expression, such as 'xsimd::avx2\b') in its demangled name.
#    The linker keeps one of several weak symbols of a name; an untagged one would bring this CPU's instructions into
#    the rest of the program. What is in an anonymous namespace is local and passes; so do constants, which are data.
# 2. The disassembly of the matrix product, of the scores and of the weighted values must contain one of the
#    INSTRUCTIONs (regular expressions): no table forwards to portable code.
#
# Example: check_symbols.sh kernels_avx2.o 'DotAvx2|xsimd_kernels_avx2::' vpmaddubsw vpmaddwd
set -eu

nm=nm
objdump=objdump
while [ $# -gt 0 ]; do
  case "$1" in
    --nm) nm=$2; shift 2 ;;
    --objdump) objdump=$2; shift 2 ;;
    *) break ;;
  esac
done
if [ $# -lt 3 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
object=$1
tag=$2
shift 2
failed=0

"$nm" "$object" >/dev/null || exit 1
untagged=$("$nm" -C "$object" | grep -E '^[0-9a-fA-F]* *[Ww] ' | grep -vE "$tag" || true)
if [ -n "$untagged" ]; then
  echo "$object: weak functions without $tag in their names:" >&2
  echo "$untagged" >&2
  failed=1
fi

disassembly=$(mktemp)
trap 'rm -f "$disassembly"' EXIT
"$objdump" -dC --no-show-raw-insn "$object" >"$disassembly"
instructions=$(printf '|%s' "$@" | cut -c2-)
for function in 'Products<.*tile<' 'Attend<.*::score<' 'Attend<.*::weigh'; do
  count=$(awk -v name="$function" -v want="[[:space:]]($instructions)[[:space:]]" '
    /^[0-9a-f]+ <.*>:$/ { inside = ($0 ~ name) }
    inside && $0 ~ want { n++ }
    END { print n + 0 }' "$disassembly")
  if [ "$count" -eq 0 ]; then
    echo "$object: none of '$*' in the functions that match '$function'" >&2
    failed=1
  fi
done
[ "$failed" -eq 0 ] && echo "$object: symbols and instructions as expected"
exit "$failed"
