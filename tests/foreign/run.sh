#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh: builds one firmware as other people's projects would, for every core, and runs it under QEMU: each build has the
# kernels that its compiler's flags ask for, and the digest that a host has.
#   run.sh BUILD_FOLDER [CASE...]     all cases, or those whose names are given
set -u
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
mkdir -p "${1:?run.sh BUILD_FOLDER [CASE...]}"
build=$(cd "$1" && pwd)
shift
only=" $* "
digest=ce2289e4  # of the golden image, as tests/CMakeLists.txt has it
passed=0
failed=0

wanted() { [ "$only" = "  " ] || case "$only" in *" $1 "*) true ;; *) false ;; esac; }
fail() {
  failed=$((failed + 1))
  echo "FAILED: $1: $2" >&2
}

# runs CASE BOARD KERNELS ELF: the firmware names these kernels and prints the digest.
runs() {
  text=$(timeout 60 qemu-system-arm -M "$2" -nographic -monitor none -serial none -chardev stdio,id=console \
    -semihosting-config enable=on,target=native,chardev=console -kernel "$4" -append "-n 60 -t 90" </dev/null | tr -d '\000')
  if ! printf '%s\n' "$text" | grep -qx "kernels $3"; then
    fail "$1" "not the kernels $3: $(printf '%s\n' "$text" | tail -n 7 | tr '\n' ' ')"
  elif ! printf '%s\n' "$text" | grep -qx "digest $digest"; then
    fail "$1" "not the digest $digest: $(printf '%s\n' "$text" | grep '^digest')"
  else
    passed=$((passed + 1))
    echo "$1: $3, digest $digest"
  fi
}

# The golden image in the layout of a table.
image_for() {
  case "$1" in
    cortex-m4) echo "$source/tests/golden/tiny_pair.heed" ;;
    cortex-m55) echo "$source/tests/golden/tiny_block64.heed" ;;
    *) echo "$source/tests/golden/tiny.heed" ;;
  esac
}

# vendor CASE CPU BOARD KERNELS [CMAKE ARGUMENT...]: a vendor's toolchain file and add_subdirectory.
vendor() {
  wanted "$1" || return 0
  name=$1 cpu=$2 board=$3 kernels=$4
  shift 4
  rm -rf "${build:?}/$name"
  # shellcheck disable=SC2086
  if cmake -S "$here" -B "$build/$name" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$here/vendor.cmake" -DFOREIGN_CPU="$cpu" \
      -DCMAKE_BUILD_TYPE=MinSizeRel -DHEED_SOURCE="$source" -DFOREIGN_BOARD="$board" \
      -DFOREIGN_MODEL="$(image_for "$kernels")" "$@" >"$build/$name.txt" 2>&1 &&
      cmake --build "$build/$name" --target firmware >>"$build/$name.txt" 2>&1; then
    runs "$name" "$board" "$kernels" "$build/$name/firmware"
  else
    fail "$name" "does not build: $(grep -m 1 -E 'rror' "$build/$name.txt")"
  fi
}

# What a build system without CMake compiles: the sources of all tables, with the flags that platform/README.md names.
sources="$source/runtime/*.cpp $source/platform/select.cpp $source/platform/portable/*.cpp $source/platform/cortex_m/*/*.cpp"
program="$source/examples/firmware/story.cpp $source/examples/firmware/model.cpp $source/platform/baremetal/startup.cpp"

# plain CASE COMPILER FLAGS BOARD KERNELS: one command line per file, two at a time.
plain() {
  wanted "$1" || return 0
  name=$1 compiler=$2 flags=$3 board=$4 kernels=$5
  rm -rf "${build:?}/$name"
  mkdir -p "$build/$name"
  # shellcheck disable=SC2086
  if ls $sources $program | xargs -P 2 -I FILE sh -c '
      "$@" -c FILE -o "$0/$(echo FILE | tr / _).o"' "$build/$name" $compiler $flags -mthumb -std=c++17 -ffp-contract=off \
      -fno-math-errno -fno-exceptions -fno-rtti -fno-threadsafe-statics -ffunction-sections -fdata-sections \
      -Wall -Wextra -Werror -I "$source" \
      "-DHEED_MODEL_PATH=\"$(image_for "$kernels")\"" -DHEED_MAX_VOCAB_SIZE=64 >"$build/$name.txt" 2>&1 &&
      arm-none-eabi-g++ ${flags%%-O*} -mthumb -nostdlib -Wl,--gc-sections -Wl,--no-warn-rwx-segments \
        -Wl,--no-enum-size-warning -Wl,-z,noexecstack -L "$source/toolchains/boards" \
        -T "$source/toolchains/boards/$board.ld" "$build/$name"/*.o \
        -Wl,--start-group -lc_nano -lgcc -Wl,--end-group -o "$build/$name/firmware" >>"$build/$name.txt" 2>&1; then
    runs "$name" "$board" "$kernels" "$build/$name/firmware"
  else
    fail "$name" "does not build: $(grep -m 1 -E 'rror' "$build/$name.txt")"
  fi
}

m4="-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard"
m33="-mcpu=cortex-m33 -mfpu=fpv5-sp-d16 -mfloat-abi=hard"
m55="-mcpu=cortex-m55 -mfloat-abi=hard"

# -- CMake, flags of a vendor ---------------------------------------------------------------------------------------
vendor m0 cortex-m0 mps2-an385 cortex-m0
vendor m3 cortex-m3 mps2-an385 cortex-m3
vendor m4 "cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard" mps2-an386 cortex-m4
vendor m4_soft_float "cortex-m4 -mfloat-abi=soft" mps2-an386 cortex-m3
vendor m23 cortex-m23 mps2-an505 cortex-m0
vendor m33 "cortex-m33 -mfpu=fpv5-sp-d16 -mfloat-abi=softfp" mps2-an505 cortex-m4
vendor m33_nodsp "cortex-m33+nodsp -mfloat-abi=soft" mps2-an521 cortex-m3
vendor m55 "cortex-m55 -mfloat-abi=hard" mps3-an547 cortex-m55
vendor portable "cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard" mps2-an386 portable-row -DHEED_PORTABLE=ON

# -- Installed for a board, and found by find_package ----------------------------------------------------------------
if wanted installed; then
  rm -rf "${build:?}/library" "${build:?}/prefix"
  if cmake -S "$source" -B "$build/library" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$here/vendor.cmake" -DCMAKE_BUILD_TYPE=MinSizeRel \
      -DFOREIGN_CPU="cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard" -DHEED_TESTS=OFF -DHEED_EXAMPLES=OFF \
      -DHEED_FEATURES=kLlamaFeatures -DCMAKE_INSTALL_PREFIX="$build/prefix" >"$build/library.txt" 2>&1 &&
      cmake --build "$build/library" --target install >>"$build/library.txt" 2>&1; then
    vendor installed "cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard" mps2-an386 cortex-m4 -DHEED_USE=package \
      -DCMAKE_PREFIX_PATH="$build/prefix"
    grep -q "HEED_FEATURES=kLlamaFeatures" "$build/prefix"/lib/cmake/heed/heedTargets.cmake ||
      fail installed "the package does not say its features"
  else
    fail installed "does not install: $(grep -m 1 -E 'rror' "$build/library.txt")"
  fi
fi

# -- Our toolchain file, a board that it does not know ---------------------------------------------------------------
if wanted own_board; then
  rm -rf "${build:?}/own_board" "${build:?}/elsewhere"
  mkdir -p "$build/elsewhere"
  cp "$source/toolchains/boards/mps2-an386.ld" "$build/elsewhere/my_board.ld"
  if cmake -S "$source" -B "$build/own_board" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$source/toolchains/arm-none-eabi.cmake" \
      -DBOARD=my_board -DHEED_CPU=cortex-m4 -DHEED_LINKER_SCRIPT="$build/elsewhere/my_board.ld" -DCMAKE_BUILD_TYPE=MinSizeRel \
      >"$build/own_board.txt" 2>&1 &&
      cmake --build "$build/own_board" --target story console cortex_kernels_test >>"$build/own_board.txt" 2>&1; then
    runs own_board mps2-an386 cortex-m4 "$build/own_board/bin/story"
  else
    fail own_board "does not build: $(grep -m 1 -E 'rror|unknown target' "$build/own_board.txt")"
  fi
fi

# -- No CMake, and options that take registers or inlining away ------------------------------------------------------
plain m4_frame_pointer arm-none-eabi-g++ "$m4 -Os -fno-omit-frame-pointer" mps2-an386 cortex-m4
plain m4_unoptimised arm-none-eabi-g++ "$m4 -O0" mps2-an386 cortex-m4
plain m3_unoptimised arm-none-eabi-g++ "-mcpu=cortex-m3 -O0" mps2-an385 cortex-m3
plain m0_frame_pointer arm-none-eabi-g++ "-mcpu=cortex-m0 -Og -fno-omit-frame-pointer" mps2-an385 cortex-m0
plain m55_unoptimised arm-none-eabi-g++ "$m55 -O0" mps3-an547 cortex-m55
plain m55_no_inlining arm-none-eabi-g++ "$m55 -O2 -fno-inline" mps3-an547 cortex-m55

# -- Clang, with the headers and libraries of arm-none-eabi-gcc -------------------------------------------------------
includes=$(arm-none-eabi-g++ $m4 -mthumb -E -x c++ -v /dev/null 2>&1 >/dev/null |
  sed -n 's,^ \(/[^ ]*/include[^ ]*\)$,\1,p' | grep -vE '/lib/gcc/[^/]+/[^/]+/include(-fixed)?$' | sed 's/^/-isystem /' | tr '\n' ' ')
clang="clang++ --target=arm-none-eabi $includes -fshort-enums"
plain clang_m0 "$clang" "-mcpu=cortex-m0 -Os" mps2-an385 portable-row
plain clang_m3 "$clang" "-mcpu=cortex-m3 -O2" mps2-an385 portable-row
plain clang_m4 "$clang" "$m4 -Os -fomit-frame-pointer" mps2-an386 cortex-m4
plain clang_m33 "$clang" "$m33 -O2 -fomit-frame-pointer" mps2-an505 cortex-m4
plain clang_m55 "$clang" "$m55 -Os -fomit-frame-pointer -fno-vectorize -fno-slp-vectorize" mps3-an547 cortex-m55

# Every function of the tables with our toolchain file: CASE and CORE.
clang_kernels() {
  wanted "$1" || return 0
  rm -rf "${build:?}/$1"
  if cmake -S "$source" --preset "$2" -B "$build/$1" -DHEED_COMPILER=clang >"$build/$1.txt" 2>&1 &&
      cmake --build "$build/$1" --target boot_test cortex_kernels_test numerics_test story_golden story_golden_ends >>"$build/$1.txt" 2>&1 &&
      (cd "$build/$1" && ctest -R '^(boot_test|cortex_kernels_test|numerics_test|story_golden)' >>"$build/$1.txt" 2>&1); then
    passed=$((passed + 1))
    echo "$1: $(sed -n 's/.*tests passed, \(.*\) out of \(.*\)/\2 tests, \1/p' "$build/$1.txt")"
  else
    fail "$1" "$(grep -m 1 -E 'rror|Failed|FAILED' "$build/$1.txt")"
  fi
}
clang_kernels clang_kernels_m4 cortex-m4
clang_kernels clang_kernels_m7 cortex-m7
clang_kernels clang_kernels_m55 cortex-m55

# What clang cannot do it says: refuses CASE WORDS FLAGS SOURCE.
refuses() {
  wanted "$1" || return 0
  # shellcheck disable=SC2086
  if $clang $3 -mthumb -std=c++17 -I "$source" -c "$source/$4" -o /dev/null >"$build/$1.txt" 2>&1; then
    fail "$1" "is compiled"
  elif grep -q -- "$2" "$build/$1.txt"; then
    passed=$((passed + 1))
    echo "$1: says $2"
  else
    fail "$1" "does not say $2"
  fi
}
refuses clang_frame_pointer "compile platform/cortex_m with -fomit-frame-pointer" "$m4 -O2" platform/cortex_m/m4/kernels_m4.cpp
refuses clang_unoptimised "clang needs -O1 or more and -fomit-frame-pointer" "$m55 -O0" platform/cortex_m/m55/kernels_m55.cpp

# -- Another instruction set: everything that a board compiles, to objects -------------------------------------------
# compiles CASE COMPILER FLAGS
compiles() {
  wanted "$1" || return 0
  mkdir -p "$build/$1"
  for file in $sources; do
    # shellcheck disable=SC2086
    if ! $2 $3 $includes -std=c++17 -ffreestanding -fno-exceptions -fno-rtti -ffp-contract=off -Wall -Wextra -Werror \
        -I "$source" -c "$file" -o "$build/$1/$(basename "$(dirname "$file")")_$(basename "$file").o" >"$build/$1.txt" 2>&1; then
      fail "$1" "$file: $(grep -m 1 rror "$build/$1.txt")"
      return 0
    fi
  done
  if nm -C "$build/$1/platform_select.cpp.o" | grep -q 'U heed::kernels_portable'; then
    passed=$((passed + 1))
    echo "$1: compiles, with the portable kernels"
  else
    fail "$1" "not the portable kernels"
  fi
}
compiles riscv "clang++ --target=riscv32-unknown-elf" "-march=rv32imc -mabi=ilp32 -Os"
if command -v riscv64-unknown-elf-g++ >/dev/null; then
  compiles riscv_gcc riscv64-unknown-elf-g++ "-march=rv32imc -mabi=ilp32 -Os"
fi

echo "foreign: $passed passed, $failed failed"
[ $failed = 0 ]
