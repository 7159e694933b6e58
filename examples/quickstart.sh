#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# quickstart.sh: on a fresh Debian or Ubuntu machine, installs what is missing, builds heed and tells a story.
#   --no-install   refuse to install packages
#   --model FILE   a .heed image or a llama2.c checkpoint to run instead of the default
#   --prompt TEXT  how the story begins
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
model=""
prompt="Once upon a time"
while [ $# -gt 0 ]; do
  case "$1" in
    --no-install) export HEED_NO_INSTALL=1 ;;
    --model) model=${2:?--model needs a file}; shift ;;
    --prompt) prompt=${2:?--prompt needs a text}; shift ;;
    -h|--help) sed -n '3,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
cd "$here"
. toolchains/packages.sh
# shellcheck disable=SC2086
heed_install_packages $heed_packages_build

mkdir -p build
echo "building heed (build/quickstart.txt has the details)"
# Tests need more packages; where they are configured already they stay.
tests=OFF
if grep -qs '^HEED_TESTS:BOOL=ON' build/host/CMakeCache.txt; then tests=ON; fi
{ cmake --preset host -DHEED_TESTS=$tests && cmake --build --preset host --target heed_command_line; } \
  > build/quickstart.txt 2>&1 || { tail -40 build/quickstart.txt >&2; exit 1; }

data=${HEED_TEST_DATA:-$here/../shared/data}
if [ -z "$model" ]; then
  if [ -f examples/models/story.heed ]; then
    model=examples/models/story.heed
  elif [ -f "$data/stories260K/stories260K.bin" ]; then
    model=$data/stories260K/stories260K.bin
  else
    echo "quickstart.sh: no model: give one with --model, or set HEED_TEST_DATA to the test data" >&2
    exit 1
  fi
fi
case "$model" in
  *.heed) ;;
  *)
    echo
    echo "\$ build/host/bin/heed quantize $model -o build/story.heed"
    build/host/bin/heed quantize "$model" -o build/story.heed
    model=build/story.heed ;;
esac
echo
echo "\$ build/host/bin/heed plan $model"
build/host/bin/heed plan "$model"
echo
echo "\$ build/host/bin/heed run $model -p \"$prompt\" -n 200 --temp 0.8 --top-p 0.9 --seed 1"
build/host/bin/heed run "$model" -p "$prompt" -n 200 --temp 0.8 --top-p 0.9 --seed 1
