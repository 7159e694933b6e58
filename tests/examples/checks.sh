# SPDX-License-Identifier: Apache-2.0
# checks.sh: what the tests of the command line share; sourced by them with their own arguments, [--data] SOURCE_DIR
# HEED... Leaves the words of HEED... as the arguments, and the test in a folder of its own.
#   data          1 with --data
#   source_dir    this tree
#   limit         a command in front of each HEED, such as timeout 60; the test sets it
set -u
data=0
[ "$1" = --data ] && { data=1; shift; }
source_dir=$(cd "$1" && pwd)
shift
case "$1" in
  */*)
    program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
    shift
    set -- "$program" "$@"
    ;;
esac
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1
limit=""
failures=0
checks=0

fail() {
  failures=$((failures + 1))
  echo "FAILED: $1"
  sed 's/^/  | /' out err
}

# expect STATUS WHAT ARGUMENTS...: runs heed, keeps its output in `out` and `err`.
expect() {
  expected=$1
  what=$2
  shift 2
  checks=$((checks + 1))
  # shellcheck disable=SC2086
  $limit $heed "$@" > out 2> err < /dev/null
  status=$?
  [ $status = "$expected" ] || fail "$what: exit status $status instead of $expected"
}
