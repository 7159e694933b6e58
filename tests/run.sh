#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh: installs what is missing, builds, and passes every test that this machine can run or emulate.
#   --no-install   refuse to install packages
#   --full         add sanitizers, fuzz replays and the slow matrix (what CI runs)
#   --only PRESET  one preset only (host, host-asan, aarch64, armv7, cortex-m0, -m3, -m4, -m7, -m33, -m55)
#   --tests REGEX  only the tests whose name matches, and only the programs that they need
# HEED_TEST_DATA names the folder of test data; tests that need it are skipped without it, and fail instead with
# HEED_REQUIRE_DATA=1. What was configured in build/ before does not matter: settings return to their defaults.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
full=0
only=""
tests=""
while [ $# -gt 0 ]; do
  case "$1" in
    --no-install) export HEED_NO_INSTALL=1 ;;
    --full) full=1 ;;
    --only) only=${2:?--only needs a preset}; shift ;;
    --tests) tests=${2:?--tests needs a regular expression}; shift ;;
    -h|--help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
cd "$here"
. toolchains/packages.sh
packages="$heed_packages_build $heed_packages_test"
case "$only" in
  host) ;;
  host-asan) packages="$packages $heed_packages_full" ;;
  *) packages="$packages $heed_packages_cross" ;;
esac
[ $full = 0 ] || packages="$packages $heed_packages_full"
# shellcheck disable=SC2086
heed_install_packages $packages

boards="cortex-m0 cortex-m3 cortex-m4 cortex-m7 cortex-m33 cortex-m55"
presets="host aarch64 armv7 $boards"
[ $full = 0 ] || presets="host host-asan aarch64 armv7 $boards microbit lm3s6965evb"
[ -z "$only" ] || presets=$only
export HEED_FULL=$full

logs=build/logs
mkdir -p $logs
passed=0
failed=0
skipped=0
times=""
part_began=$(date +%s)
# part_ends NAME: how long it took since the part before ended.
part_ends() {
  now=$(date +%s)
  times="$times$(awk "BEGIN { printf \"%6.1f\", ($now - $part_began) / 60 }") $1
"
  part_began=$now
}
# stop REASON LOG: nothing behind it would mean anything. The reason comes first, then what there is to read.
stop() {
  echo "run.sh: stopped: $1" >&2
  tail -60 "$2" >&2
  exit 1
}
# programs_of PRESET: the files of its build that the tests of --tests, and those that prepare for them, are run with.
programs_of() {
  ctest --preset "$1" -N -R "$tests" | sed -n 's/^ *Test *#[0-9]*: //p' > $logs/wanted.txt
  find "build/$1" -name CTestTestfile.cmake -exec cat {} + | awk 'NR == FNR { wanted[$0]; next }
    /^add_test\(/ { name = $1; gsub(/^add_test\(|\[=*\[|\]=*\]/, "", name); if (name in wanted) print }' $logs/wanted.txt - |
    grep -oE "$here/build/$1/[A-Za-z0-9_./+-]+" | sed "s|^$here/build/$1/||" | sort -u > $logs/named.txt
  ninja -C "build/$1" -t targets all | sed -n 's/^\([^:]*\): .*/\1/p' | sort -u | comm -12 - $logs/named.txt
}

for preset in $presets; do
  # The images that programs on boards carry come from this machine's quantiser, and the covering's models from its programs.
  arguments=""
  case "$preset" in
    cortex-*|aarch64|armv7|host-asan) [ ! -x build/host/bin/heed ] || arguments="-DHEED_HOST_HEED=$here/build/host/bin/heed" ;;
  esac
  case "$preset" in
    cortex-*)
      table=$preset  # M7 and M33 use the table of M4
      case "$preset" in cortex-m7|cortex-m33) table=cortex-m4 ;; esac
      if [ -x build/host/bin/heed ]; then
        image=build/classifier-$table.heed
        digest=$(python3 tests/examples/classifier_example.py build/host/bin/heed --image "$image" --target "$table")
        arguments="$arguments -DHEED_ENCODER_MODEL=$here/$image -DHEED_ENCODER_DIGEST=$digest"
      fi
      if [ -x build/host/bin/heed ] && [ -f "${HEED_TEST_DATA:-}/stories260K/stories260K.bin" ]; then
        image=build/stories260K-$table.heed
        source=$HEED_TEST_DATA/stories260K/stories260K.bin
        build/host/bin/heed quantize "$source" --target "$table" -o "$image" >/dev/null 2>&1
        build/host/bin/heed quantize "$source" -o build/stories260K.heed >/dev/null 2>&1
        arguments="$arguments -DHEED_FIRMWARE_MODEL=$here/$image"
        arguments="$arguments -DHEED_HOST_MODEL=$here/build/stories260K.heed"
        digest=$(build/host/bin/heed run build/stories260K.heed -p "" -n 200 --json | sed -n 's/.*"digest": "\(.*\)".*/\1/p')
        arguments="$arguments -DHEED_FIRMWARE_DIGEST=$digest"
      fi ;;
  esac
  echo "== $preset: configure and build"
  # Somebody may have configured other features, another model or no tests there.
  cache=build/$preset/CMakeCache.txt
  if [ -f "$cache" ]; then
    awk '/^\/\// { words = words $0 "\n"; next } !/^HEED_/ { printf "%s%s\n", words, $0 } { words = "" }' "$cache" > "$cache.new"
    mv "$cache.new" "$cache"
  fi
  # shellcheck disable=SC2086
  cmake --preset "$preset" $arguments > $logs/$preset-configure.txt 2>&1 ||
    stop "preset $preset does not configure" $logs/$preset-configure.txt
  targets=""
  if [ -n "$tests" ]; then
    targets=$(programs_of "$preset")
    [ -s $logs/wanted.txt ] || stop "no test of preset $preset matches $tests" $logs/wanted.txt
  fi
  # shellcheck disable=SC2086
  [ -n "$tests" ] && [ -z "$targets" ] ||
    cmake --build --preset "$preset" ${targets:+--target $targets} > $logs/$preset-build.txt 2>&1 ||
    stop "preset $preset does not build" $logs/$preset-build.txt
  part_ends "$preset, build"
  echo "== $preset: test"
  status=0
  # 32-bit emulation is slow, and what the test data adds has passed on aarch64: there the default model stands for it.
  leave_out="report|full"
  [ $full = 0 ] || leave_out=report
  case "$preset" in
    armv7) leave_out="$leave_out|full|data" ;;
    cortex-m7|cortex-m33) leave_out="report|full" ;;  # the table of M4, which has passed all of it
  esac
  ctest --preset "$preset" --output-on-failure -j 2 -LE "$leave_out" ${tests:+-R "$tests"} > $logs/$preset-test.txt 2>&1 || status=$?
  grep -E "Test +#|tests passed|^The following|Failed|Skipped" $logs/$preset-test.txt || true
  total=$(sed -n 's/^.*tests passed, .* out of \([0-9]*\)$/\1/p' $logs/$preset-test.txt)
  [ "${total:-0}" -gt 0 ] || stop "preset $preset executed no test" $logs/$preset-test.txt
  [ $status = 0 ] || cat $logs/$preset-test.txt
  bad=$(sed -n 's/^.*tests passed, \([0-9]*\) tests failed out of.*$/\1/p' $logs/$preset-test.txt)
  none=$(grep -c "\*\*\*Skipped" $logs/$preset-test.txt || true)
  passed=$((passed + total - bad - none))
  failed=$((failed + bad))
  skipped=$((skipped + none))
  [ $status = 0 ] || [ "$bad" -gt 0 ] || failed=$((failed + 1))
  part_ends "$preset, test"
done
if [ $full = 1 ] && [ -z "$only$tests" ]; then
  echo "== firmware as other people's projects build it"
  if sh tests/foreign/run.sh build/foreign; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  part_ends tests/foreign/run.sh
fi
if [ $full = 1 ] && [ -z "$only$tests" ] && [ -f "${HEED_TEST_DATA:-}/stories260K/stories260K.bin" ]; then
  echo "== story firmware: flash, stack, instructions and digest"
  check() {
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    part_ends "$2"
  }
  stories260k=$HEED_TEST_DATA/stories260K/stories260K.bin
  check python3 tests/firmware/flash.py --check
  check python3 tests/firmware/counts.py --check --source "$stories260k"
  check python3 tests/firmware/measure.py --check --source "stories260K=$stories260k" --source story=examples/models/story.heed
fi
echo "minutes:"
printf '%s' "$times"
echo "$passed passed, $failed failed, $skipped skipped"
if [ "${HEED_REQUIRE_DATA:-0}" = 1 ] && [ $skipped -gt 0 ]; then
  echo "run.sh: HEED_REQUIRE_DATA=1 and $skipped tests were skipped" >&2
  exit 1
fi
[ $failed = 0 ]
