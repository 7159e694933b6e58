#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_fused.sh: compiles every source of runtime/ and every kernel table without -ffp-contract, for processors that can
# fuse a product with a sum, and finds no fused instruction in what comes out. No instruction is allowed. A function of
# nobody's, a * b + c, must show one each time, or the compiler would not have fused anything.
#   check_fused.sh BUILD_FOLDER [TARGET...]     targets: x86 x86_clang aarch64 aarch64_clang m4 m55; all that are installed
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
build=$1
shift
rm -rf "$build"
mkdir -p "$build"
fused='[[:space:]](vfn?m(add|sub)[0-9a-z]*|fn?m(add|sub)|fml[as]|vfn?m[as]s?(\.f[0-9]+)?)[[:space:]]'
failed=0
fail() { echo "FAILED: $1" >&2; failed=$((failed + 1)); }
echo 'float nobodys(float a, float b, float c) { return a * b + c; }' > "$build/nobodys.cpp"

# One assembly file per source and level; of the large tables where the optimiser is off, and at its most, which fuses all
# that the levels between do.
# assembly TARGET COMPILER TABLES: each line of TABLES is a table's file and what its head asks for.
assembly() {
  mkdir -p "$build/$1"
  {
    for level in -O0 -O1 -O2 -O3; do
      for file in "$source"/runtime/*.cpp "$build/nobodys.cpp"; do
        echo "$2 -std=c++17 -I$source $level -S $file -o $build/$1/$(basename "$file" .cpp)$level.s"
      done
      case $level in -O1|-O2) continue ;; esac
      echo "$3" | while read -r file flags; do
        case "$level $file" in "-O0 cortex_m/"*) level=-Os ;; esac  # their assembly needs an optimiser's registers
        echo "$2 -std=c++17 -I$source $flags $level -S $source/platform/$file -o $build/$1/$(basename "$file" .cpp)$level.s"
      done
    done
  } | xargs -P 2 -I '{}' sh -c '{}' > "$build/$1.txt" 2>&1 || { tail -20 "$build/$1.txt"; fail "$1 does not compile"; return 0; }
  for level in -O2 -O3; do
    grep -Eq "$fused" "$build/$1/nobodys$level.s" || fail "$1: this compiler fuses nothing at $level, so nothing is proved"
  done
  rm "$build/$1"/nobodys-O*.s
  grep -EHn "$fused" "$build/$1"/*.s > "$build/$1.found" || true
  [ ! -s "$build/$1.found" ] || { head -20 "$build/$1.found" >&2; fail "$1: $(wc -l < "$build/$1.found") fused instructions"; }
  echo "$1: $(cat "$build/$1"/*.s | wc -l) lines of assembly in $(find "$build/$1" -name '*.s' | wc -l) files, $(wc -l < "$build/$1.found") fused"
}

# The same where the linker optimises a whole program, whose own code fuses what it likes.
# whole_program TARGET COMPILER OBJDUMP TABLE FLAGS
whole_program() {
  mkdir -p "$build/$1_lto"
  cat > "$build/program.cpp" <<'END'
#include "platform/select.hpp"
#include "runtime/runtime.hpp"
alignas(64) extern std::byte arena[];
alignas(64) extern const std::uint8_t image[];
[[gnu::noinline, gnu::used]] float nobodys(float a, float b, float c) { return a * b + c; }
int main() {
  static heed::Model model;
  static heed::Plan plan;
  static heed::Session session;
  static heed::Sampler sampler;
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Span<const float> logits;
  heed::Token token = 1;
  if (open(model, {image, 4096}, kernels) != heed::Status::ok || make_plan(plan, model.config(), kernels.traits) != heed::Status::ok ||
      create(session, model, plan, kernels, {arena, 65536}) != heed::Status::ok ||
      create(sampler, {0.5f, 5, 0.9f, 1}, 12, kernels, {arena, 4096}) != heed::Status::ok)
    return 1;
  for (int i = 0; i < 9; ++i)
    if (session.step(logits, token) != heed::Status::ok || sampler.pick(token, logits) != heed::Status::ok) return 1;
  return static_cast<int>(nobodys(logits[0], logits[1], logits[2]));
}
END
  for file in "$source"/runtime/*.cpp "$source/platform/select.cpp" "$source/platform/$4" "$build/program.cpp"; do
    echo "$2 -std=c++17 -I$source -O2 -flto -fno-exceptions -fno-rtti $5 -c $file -o $build/$1_lto/$(basename "$file" .cpp).o"
  done | xargs -P 2 -I '{}' sh -c '{}' > "$build/$1_lto.txt" 2>&1 || { tail -20 "$build/$1_lto.txt"; fail "$1 does not compile"; return 0; }
  # shellcheck disable=SC2086
  $2 -O2 -flto $5 -nostdlib -static -Wl,-e,main -Wl,--unresolved-symbols=ignore-all "$build/$1_lto"/*.o -o "$build/$1.elf" \
    >> "$build/$1_lto.txt" 2>&1 || { tail -20 "$build/$1_lto.txt"; fail "$1 does not link"; return 0; }
  $3 -d --no-show-raw-insn "$build/$1.elf" | awk -v fused="$fused" '/^[0-9a-f]+ </ { at = $2 } $0 ~ fused { print at, $0 }' > "$build/$1.found"
  grep -q nobodys "$build/$1.found" || fail "$1: a whole program of this compiler fuses nothing, so nothing is proved"
  if grep -v nobodys "$build/$1.found" >&2; then fail "$1: a whole program has fused instructions"; fi
  echo "$1, a whole program: fused outside of the program's own code: $(grep -vc nobodys "$build/$1.found" || true)"
}

x86_tables="portable/kernels.cpp
x86/kernels_avx2.cpp -mavx2
x86/kernels_avx512vnni.cpp -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mavx512vnni"
arm_tables="portable/kernels.cpp
arm/kernels_neon.cpp
arm/kernels_i8mm.cpp -march=armv8.2-a+dotprod+i8mm"
m4="-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard -mthumb -fomit-frame-pointer"
m55="-mcpu=cortex-m55 -mfloat-abi=hard -mthumb -fomit-frame-pointer"

# target COMPILER...: runs one target where its compiler is.
target() {
  command -v "$2" > /dev/null || { echo "skipped: $1, no $2"; return 0; }
  case "$1" in
    x86) assembly x86 "g++ -mfma" "$x86_tables" ;;
    x86_clang) assembly x86_clang "clang++ -mfma" "$x86_tables" ;;
    aarch64) assembly aarch64 aarch64-linux-gnu-g++ "$arm_tables"
      whole_program aarch64 aarch64-linux-gnu-g++ aarch64-linux-gnu-objdump portable/kernels.cpp \
        "-DHEED_SINGLE_TABLE=kernels_portable -DHEED_TABLE_PORTABLE=1 -DHEED_SINGLE_LAYOUT=row" ;;
    aarch64_clang) assembly aarch64_clang "clang++ --target=aarch64-linux-gnu -idirafter /usr/include" "$arm_tables" ;;
    m4) assembly m4 "arm-none-eabi-g++ $m4" "cortex_m/m4/kernels_m4.cpp"
      whole_program m4 arm-none-eabi-g++ arm-none-eabi-objdump cortex_m/m4/kernels_m4.cpp "$m4" ;;
    m55) assembly m55 "arm-none-eabi-g++ $m55" "cortex_m/m55/kernels_m55.cpp"
      whole_program m55 arm-none-eabi-g++ arm-none-eabi-objdump cortex_m/m55/kernels_m55.cpp "$m55" ;;
    *) echo "check_fused.sh: no target $1" >&2; exit 2 ;;
  esac
}
for name in ${*:-x86 x86_clang aarch64 aarch64_clang m4 m55}; do
  case "$name" in
    x86) compiler=g++ ;;
    *_clang) compiler=clang++ ;;
    aarch64) compiler=aarch64-linux-gnu-g++ ;;
    *) compiler=arm-none-eabi-g++ ;;
  esac
  target "$name" $compiler
done
[ $failed = 0 ]
