#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# two_commands.sh: examples/quickstart.sh and tests/run.sh in one fresh copy of the tree, each before and behind the other,
# and behind settings that would leave tests out. Of the tests three stand for all.   two_commands.sh FOLDER
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
rm -rf "$1"
mkdir -p "$1/heed"
clone=$(cd "$1/heed" && pwd)
(cd "$source" && tar cf - --exclude='./build*' --exclude=./.git .) | tar xf - -C "$clone"
cd "$clone"
unset HEED_REQUIRE_DATA
log=../log.txt

fail() { echo "two_commands.sh: $1" >&2; tail -40 $log >&2; exit 1; }
quickstart() {
  sh examples/quickstart.sh --no-install > $log 2>&1 || fail "quickstart.sh $1"
  grep -q "^digest " $log || fail "quickstart.sh $1: no story"
}
tests() {
  sh tests/run.sh --no-install --only host --tests '^(plan_test|thread_pool_test|default_model_test)$' > $log 2>&1 || fail "run.sh $1"
  grep -qx "3 passed, 0 failed, 0 skipped" $log || fail "run.sh $1: other tests than the three"
}

quickstart "in a fresh clone"
tests "behind quickstart.sh"
quickstart "behind run.sh"
tests "behind both"
cmake --preset host -DHEED_TESTS=OFF -DHEED_TOOLS=OFF -DHEED_EXAMPLES=OFF > $log 2>&1 || fail "settings of another's"
tests "behind settings that leave everything out"

# Where nothing is tested nothing passes, and the reason stands in front of the rest.
if sh tests/run.sh --no-install --only host --tests '^no such test$' > $log 2>&1; then fail "run.sh passed without a test"; fi
grep -v '^==' $log | head -n 1 | grep -q "^run.sh: stopped: no test of preset host matches" || fail "run.sh does not say that nothing was tested"
mkdir ../nothing
printf '#!/bin/sh\necho "No tests were found!!!"\n' > ../nothing/ctest
printf '#!/bin/sh\n' > ../nothing/cmake
chmod +x ../nothing/ctest ../nothing/cmake
if PATH="$(cd ../nothing && pwd):$PATH" sh tests/run.sh --no-install --only host > $log 2>&1; then fail "run.sh passed without a test"; fi
grep -v '^==' $log | head -n 1 | grep -q "^run.sh: stopped: preset host executed no test" || fail "run.sh does not say why it stopped"
echo "two_commands.sh: both orders passed"
