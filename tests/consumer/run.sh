#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh: uses heed as a consumer would, in each of the three ways and with -Ofast, and compares the digests.
#   run.sh HEED BUILD_FOLDER     HEED is the command line, which makes the image
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
heed=$1
build=$2
rm -rf "$build"
mkdir -p "$build"
image=$build/tiny.heed
"$heed" quantize "$source/tests/golden/tiny.heed" --layout packed -o "$image" >/dev/null
cmake -S "$source" -B "$build/heed" -G Ninja -DCMAKE_BUILD_TYPE=Release -DHEED_TESTS=OFF -DHEED_TOOLS=OFF \
  -DHEED_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX="$build/prefix" >/dev/null
cmake --build "$build/heed" --target install >/dev/null
first=""
for use in package subdirectory fetch fast; do
  flags="-O2"
  how=$use
  [ $use != fast ] || { flags="-Ofast"; how=subdirectory; }
  cmake -S "$here" -B "$build/$use" -G Ninja -DCMAKE_BUILD_TYPE=Release -DHEED_USE=$how -DHEED_SOURCE="$source" \
    -DCMAKE_PREFIX_PATH="$build/prefix" -DCMAKE_CXX_FLAGS_RELEASE="$flags" >/dev/null 2>&1
  cmake --build "$build/$use" --target consumer >"$build/$use.txt" 2>&1 || { cat "$build/$use.txt"; exit 1; }
  digest=$("$build/$use/consumer" "$image")
  echo "$use: $digest"
  [ -n "$first" ] || first=$digest
  [ "$digest" = "$first" ] || { echo "run.sh: the answer depends on how heed is used" >&2; exit 1; }
done
