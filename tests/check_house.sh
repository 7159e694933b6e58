#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_house.sh: the rules of the house that no compiler checks. Breaking one fails; long files are warnings, and so is
# what clang-format would lay out differently, unless --strict.
set -eu
cd "$(dirname "$0")/.."
strict=0
[ "${1:-}" != --strict ] || strict=1
failed=0
warnings=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  failed=$((failed + 1))
  echo "FAILED: $1" >&2
  [ ! -s "${2:-/dev/null}" ] || sed 's/^/  /' "$2" >&2
}
# require_none WHAT FILE: FILE must be empty.
require_none() { [ ! -s "$2" ] || fail "$1" "$2"; }

folders="runtime platform quant tests toolchains examples"
find $folders -type f \( -name '*.cpp' -o -name '*.hpp' -o -name '*.c' -o -name '*.h' \) | sort > "$work/code"
find $folders CMakeLists.txt .ci -type f \( -name '*.cpp' -o -name '*.hpp' -o -name '*.c' -o -name '*.h' -o -name '*.py' \
  -o -name '*.sh' -o -name '*.cmake' -o -name '*.ld' -o -name '*.S' -o -name CMakeLists.txt -o -name run \) | sort > "$work/sources"

# Code without comments and strings, for the rules about words; `file:line:code`.
code_of() {
  for file in "$@"; do
    sed -e 's/\\"//g' -e 's/"[^"]*"/""/g' -e 's,//.*,,' -e 's,/\*[^*]*\*/,,g' "$file" | grep -n . | sed "s,^,$file:," || true
  done
}
in_folders() { grep -E "^($1)/" "$work/code" || true; }

# -- Includes: no circle, and arrows only one way -------------------------------------------------------------------
xargs grep -Ho '^#include "[^"]*"' < "$work/code" | sed -E 's/^([^:]*):#include "([^"]*)"/\1 \2/' > "$work/includes"
if ! tsort "$work/includes" > /dev/null 2> "$work/circle"; then fail "files that include each other in a circle" "$work/circle"; fi
awk '{ split($1, a, "/"); split($2, b, "/"); from = a[1]; to = b[1] }
  from == "runtime" && to != "runtime" && $0 != "runtime/tensor.hpp platform/target.hpp" { print }
  from == "platform" && to != "platform" && to != "runtime" { print }
  from == "quant" && to != "quant" && to != "runtime" && to != "platform" { print }
  from != "tests" && to == "tests" { print }
  from != "tests" && from != "examples" && to == "examples" { print }' "$work/includes" > "$work/bad"
require_none "includes against the arrow examples -> quant -> runtime -> kernel interface <- platform" "$work/bad"
# platform/target.hpp is macros about the compiler and includes nothing.
# What platform/ may know of runtime/: the kernel interface. The test programs of tests/ link whatever they like.
awk '$1 ~ /^platform\// && $2 ~ /^runtime\// &&
  $2 !~ /^runtime\/(kernels|tensor|numerics|one_rounding|bits|span|parallel|status)\.hpp$/ { print }' "$work/includes" > "$work/bad"
require_none "platform/ includes more of runtime/ than the kernel interface" "$work/bad"

# Without our CMake the first include is what keeps products from being fused with sums.
{ ls runtime/*.cpp; find platform -name 'kernels*.cpp' | sort; } | while read -r file; do
  grep -m 1 '^#include' "$file" | grep -q '"runtime/one_rounding.hpp"' || echo "$file"
done > "$work/bad"
require_none "runtime/one_rounding.hpp is not the first include of" "$work/bad"

# -- Words that runtime/ and platform/ do not use; platform/linux has an operating system ---------------------------
code_of $(in_folders 'runtime|platform' | grep -v '^platform/linux/') > "$work/core"
banned() { grep -E "$2" "$work/core" > "$work/bad" || true; require_none "$1" "$work/bad"; }
banned "double in runtime/ or platform/" '\b(long +)?double\b'
banned "the heap in runtime/ or platform/" '\b(malloc|calloc|realloc|free|alloca|aligned_alloc|posix_memalign)\(|\bnew\b|\bdelete\b[^;]*[a-zA-Z]|make_unique|make_shared|unique_ptr|shared_ptr'
banned "std containers or streams in runtime/ or platform/" 'std::(vector|string|map|set|unordered_|deque|list|function|optional|variant|any|ostream|cout|cerr|array)\b'
banned "libm in runtime/ or platform/" '#include <(cmath|math\.h)>|\bstd::(sqrt|exp|exp2|log|log2|pow|sin|cos|tanh|fabs|abs|floor|ceil|round|lround|nearbyint|rint|fma|ldexp|frexp|fmax|fmin|max|min)f?\(|\b(sqrt|exp|exp2|log|log2|pow|sin|cos|tanh|fabs|floor|ceil|round|nearbyint|rint|fma|ldexp|frexp|fmax|fmin)f\(|__builtin_(exp|log|pow|sin|cos|fma|round|rint)f?\('
banned "exceptions or RTTI in runtime/ or platform/" '\b(throw|try|catch|dynamic_cast|typeid)\b'
banned "stdio or exit in runtime/ or platform/" '#include <(cstdio|stdio\.h|iostream|cassert|assert\.h)>|\b(printf|abort|assert)\('
grep -v '^platform/' "$work/core" | grep -E '#include <(immintrin|xmmintrin|arm_neon|arm_acle|arm_mve|sys/|unistd|pthread)|#include <xsimd|__asm__|__(AVX|SSE|ARM_NEON)' > "$work/bad" || true
require_none "an instruction set or an operating system in runtime/" "$work/bad"

# -- Of xsimd only what rounds once and alike everywhere ------------------------------------------------------------
grep -oE '^[^:]*:[0-9]+:|xsimd::[a-zA-Z_0-9]+' "$work/core" | awk '/:$/ { at = $0; next } { print at, $0 }' |
  grep -vE 'xsimd::(batch|batch_bool|select|load_aligned|load_unaligned|load|store_aligned|store_unaligned|store|bitwise_cast|bitwise_and|bitwise_or|bitwise_xor|bitwise_andnot|avx2|avx512f|avx512bw|avx512cd|avx512dq|sse2|neon|neon64|kernel|has_simd_register)$' > "$work/bad" || true
require_none "calls of xsimd outside of load, store, arithmetic, comparison, select and bits" "$work/bad"

# -- Every source says its licence in the first lines ---------------------------------------------------------------
while read -r file; do
  head -n 3 "$file" | grep -q 'SPDX-License-Identifier: ' || echo "$file"
done < "$work/sources" > "$work/bad"
require_none "no SPDX line" "$work/bad"

# -- Warnings -------------------------------------------------------------------------------------------------------
while read -r file; do
  cap=400
  case "$file" in tests/*) cap=800 ;; esac
  lines=$(wc -l < "$file")
  if [ "$lines" -gt "$cap" ] && ! head -n 2 "$file" | grep -q 'written by `heed quantize-layer`'; then
    echo "warning: $file has $lines lines, more than $cap"
    warnings=$((warnings + 1))
  fi
done < "$work/code"
if command -v clang-format > /dev/null; then
  while read -r file; do
    clang-format "$file" | cmp -s - "$file" || echo "$file"
  done < "$work/code" > "$work/unformatted"
  count=$(wc -l < "$work/unformatted")
  if [ "$count" -gt 0 ] && [ $strict = 1 ]; then
    fail "clang-format lays these out differently" "$work/unformatted"
  elif [ "$count" -gt 0 ]; then
    echo "warning: clang-format would lay out $count files differently:" $(head -n 8 "$work/unformatted") "..."
    warnings=$((warnings + 1))
  fi
else
  echo "skipped: no clang-format"
fi

echo "house: $failed rules broken, $warnings warnings"
[ $failed = 0 ]
