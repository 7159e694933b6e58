#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh: uses heed as a consumer would, from C++ and from C, by find_package, add_subdirectory, FetchContent and pkg-config,
# and with -Ofast; compares the digests. Then every combination of the options that leave out parts of a build.
#   run.sh HEED PYTHON BUILD_FOLDER     HEED is the command line, which makes the images
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$3
rm -rf "$build"
mkdir -p "$build"
. "$here/images.sh"
consumer_images "$1" "$2" "$build/images"

fail() { echo "run.sh: $1" >&2; exit 1; }
first=""
# same NAME CONSUMER CONSUMER_C
same() {
  # shellcheck disable=SC2086
  digests=$("$2" $images) || fail "$1: $digests"
  echo "$1: $digests"
  [ -n "$first" ] || first=$digests
  [ "$digests" = "$first" ] || fail "the answer depends on how heed is used"
  case "$("$3")" in "1 "?*) ;; *) fail "$1: the program in C says $("$3")" ;; esac
}

cmake -S "$source" -B "$build/heed" -G Ninja -DCMAKE_BUILD_TYPE=Release -DHEED_TESTS=OFF -DHEED_TOOLS=OFF \
  -DHEED_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX="$build/prefix" >/dev/null
cmake --build "$build/heed" --target install >/dev/null
mv "$build/prefix" "$build/moved"  # what is installed says nothing of where it was
for use in package subdirectory fetch fast; do
  flags="-O2"
  how=$use
  [ $use != fast ] || { flags="-Ofast"; how=subdirectory; }
  cmake -S "$here" -B "$build/$use" -G Ninja -DCMAKE_BUILD_TYPE=Release -DHEED_USE=$how -DHEED_SOURCE="$source" \
    -DCMAKE_PREFIX_PATH="$build/moved" -DCMAKE_CXX_FLAGS_RELEASE="$flags" >"$build/$use.txt" 2>&1 || { cat "$build/$use.txt"; exit 1; }
  cmake --build "$build/$use" --target consumer consumer_c >"$build/$use.txt" 2>&1 || { cat "$build/$use.txt"; exit 1; }
  same $use "$build/$use/consumer" "$build/$use/consumer_c"
done
if command -v pkg-config >/dev/null; then
  package() { env PKG_CONFIG_PATH="$(dirname "$(find "$build/moved" -name heed.pc)")" pkg-config "$@" heed; }
  mkdir "$build/pkg-config"
  # shellcheck disable=SC2046
  c++ -std=c++17 -O2 "$here/main.cpp" $(package --cflags --libs) -o "$build/pkg-config/consumer"
  # shellcheck disable=SC2046
  cc -std=c99 -Wall -Wextra -pedantic -Werror "$here/main.c" $(package --cflags --libs) -o "$build/pkg-config/consumer_c"
  same pkg-config "$build/pkg-config/consumer" "$build/pkg-config/consumer_c"
  [ "$(package --modversion)" = "$(sed -n 's/^project(heed VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")" ] || fail "heed.pc has another version"
else
  echo "skipped: no pkg-config"
fi

for tests in ON OFF; do for tools in ON OFF; do for examples in ON OFF; do
  options="-DHEED_TESTS=$tests -DHEED_TOOLS=$tools -DHEED_EXAMPLES=$examples"
  # shellcheck disable=SC2086
  cmake -S "$source" -B "$build/options" -G Ninja $options >"$build/options.txt" 2>&1 || { cat "$build/options.txt"; fail "$options does not configure"; }
done; done; done
echo "options: every combination configures"
