#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# flags.sh: heed inside somebody else's project, under flags that change what code means elsewhere: every kernel table that
# runs here gives the same digests as without them, or the compiler or the library refuses in one clear line.
#   flags.sh HEED PYTHON BUILD_FOLDER [GROUP...]     HEED is the command line, which makes the images
# A group's flags do not touch each other; the last ones are about builds without our CMake.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
heed=$1
python=$2
build=$3
shift 3
groups=" $* "
rm -rf "$build"
mkdir -p "$build"
. "$here/images.sh"
consumer_images "$heed" "$python" "$build/images"
failed=0
fail() { echo "FAILED: $1" >&2; failed=$((failed + 1)); }
wanted() { [ "$groups" = "  " ] || case "$groups" in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
expected=""

# answer NAME COMMAND: the digests, or the program's refusal.
answer() {
  # shellcheck disable=SC2086
  digests=$($2 $images) || { fail "$1: $digests"; return 0; }
  digests=${digests% [0-9] tables}  # as many as run here
  echo "$1: $digests"
  [ -n "$expected" ] || expected=$digests
  [ "$digests" = "$expected" ] || fail "$1 has another answer"
}

# in_project GROUP COMPILER FLAGS [EMULATOR OPTION]: heed by add_subdirectory, all of the project with these flags.
in_project() {
  wanted "$1" || return 0
  command -v "$2" >/dev/null || { echo "skipped: $1, no $2"; return 0; }
  log=$build/$1.txt
  if cmake -S "$here" -B "$build/$1" -G Ninja -DCMAKE_CXX_COMPILER="$2" -DHEED_USE=subdirectory -DHEED_SOURCE="$source" \
      -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="$3" ${5:-} >"$log" 2>&1 && cmake --build "$build/$1" --target consumer >"$log" 2>&1; then
    answer "$1 ($2 $3)" "${4:-} $build/$1/consumer"
  else
    grep -m 5 -E "error|Error" "$log" >&2 || true
    fail "$1 ($2 $3) does not build"
  fi
}

# table_flags FILE: what its head asks for.
table_flags() {
  case "$1" in
    *sse2*) echo "-march=x86-64 -mno-sse3" ;;
    *avx2*) echo "-mavx2" ;;
    *avxvnni*) echo "-mavx2 -mavxvnni" ;;
    *avx512vnni*) echo "-mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mavx512vnni" ;;
  esac
}

# by_hand GROUP COMPILER FLAGS: every source with these flags, a table's file also with what it needs, nothing of our CMake.
by_hand() {
  wanted "$1" || return 0
  command -v "$2" >/dev/null || { echo "skipped: $1, no $2"; return 0; }
  mkdir "$build/$1"
  for file in "$source"/runtime/*.cpp "$source"/platform/*.cpp "$source"/platform/linux/*.cpp "$source"/platform/portable/*.cpp \
      "$source"/platform/x86/*.cpp "$here/main.cpp"; do
    name=$(basename "$file" .cpp)
    echo "$2 -std=c++17 -I$source -Dxsimd=xsimd_$name $3 $(table_flags "$name") -c $file -o $build/$1/$name.o"
  done | xargs -P 2 -I '{}' sh -c '{}' >"$build/$1.txt" 2>&1 || { tail -20 "$build/$1.txt"; fail "$1 ($2 $3) does not build"; return 0; }
  "$2" -pthread "$build/$1"/*.o -o "$build/$1/consumer"
}

# refuses WHAT WORDS COMMAND...: the command fails and says so.
refuses() {
  what=$1
  words=$2
  shift 2
  if output=$("$@" 2>&1); then
    fail "$what is taken"
  else
    case "$output" in *"$words"*) echo "$what: refused" ;; *) fail "$what: $output" ;; esac
  fi
}

native=""
! grep -qw avx512vl /proc/cpuinfo || native="-mavx512f"
on_avx2=""
! grep -qw avx2 /proc/cpuinfo || on_avx2="-mavx2 -mfma"

in_project plain g++ "-O2"
in_project signs g++ "-O3 -funsigned-char -fshort-enums -funsigned-bitfields -fwrapv -fno-strict-aliasing $on_avx2"
in_project reordered g++ "-O2 -fno-signed-zeros -fno-trapping-math -fassociative-math -freciprocal-math -ffinite-math-only -march=native"
in_project traps g++ "-O0 -ftrapv -fno-inline -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS -msse4.2 -mavx -Werror -Wall -Wextra -Wconversion -Wshadow"
in_project precise g++ "-O2 -flto -frounding-math -fsignaling-nans -fsingle-precision-constant -fexcess-precision=fast -std=gnu++20 $native"
in_project clang_fast clang++ "-Ofast -funsigned-char -fshort-enums -ffp-contract=fast -march=native"
in_project clang_parts clang++ "-O1 -fassociative-math -fno-signed-zeros -freciprocal-math -fno-trapping-math -ftrapv $on_avx2"

if command -v qemu-aarch64 >/dev/null && command -v qemu-arm >/dev/null; then
  in_project aarch64 aarch64-linux-gnu-g++ "-O2 -march=armv8.2-a+fp16+sve -funsigned-char" "qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max" \
    "-DCMAKE_TOOLCHAIN_FILE=$source/toolchains/aarch64-linux-gnu.cmake"
  in_project armv7 arm-linux-gnueabihf-g++ "-O2 -mfpu=neon-fp-armv8 -marm -fsigned-char -Wno-psabi" "qemu-arm -L /usr/arm-linux-gnueabihf -cpu max" \
    "-DCMAKE_TOOLCHAIN_FILE=$source/toolchains/armv7-linux-gnueabihf.cmake"
else
  echo "skipped: groups for Arm, no emulator"
fi
by_hand bare g++ "-O2 -funsigned-char -fassociative-math -fno-signed-zeros -fno-trapping-math -freciprocal-math -march=native"
[ ! -x "$build/bare/consumer" ] || answer "bare (g++ without our CMake)" "$build/bare/consumer"
if [ -n "$on_avx2" ]; then
  # Nothing in the source holds clang back from this one.
  by_hand fused clang++ "-O1 -ffp-contract=fast -march=native"
  # shellcheck disable=SC2086
  [ ! -x "$build/fused/consumer" ] || refuses "fused products (clang++ -ffp-contract=fast without our CMake)" \
    "portable refuses: unexpected floating-point mode" "$build/fused/consumer" $images
fi

compile() { "$@" -I"$source" -fsyntax-only; }
for compiler in g++ clang++; do
  command -v $compiler >/dev/null || continue
  for flag in -ffast-math -ffinite-math-only; do
    refuses "$compiler $flag without our CMake" "heed's answer is one only without -ffast-math" \
      compile $compiler -std=c++17 $flag "$source/runtime/numerics.cpp"
  done
  for standard in c++17 c++20 c++2b; do
    echo '#include "tests/consumer/main.cpp"' | compile $compiler -x c++ -std=$standard -Werror -Wall -Wextra -Wpedantic -Wconversion \
      -Wsign-conversion -Wshadow -Wold-style-cast -Wcast-align - || fail "the headers have warnings for $compiler -std=$standard"
  done
done
refuses "-mfpmath=387" "heed needs float operations that round to float" compile g++ -std=c++17 -mfpmath=387 "$source/runtime/numerics.cpp"
[ $failed = 0 ]
