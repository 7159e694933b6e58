#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# same_answer.sh: two firmwares print the same digest, greedy and sampled, with a prompt and without.
#   same_answer.sh ELF ELF EMULATOR...
set -u
first=$1
second=$2
shift 2

# digest_of ELF WORDS EMULATOR...: the digest line, or why there is none.
digest_of() {
  elf=$1
  words=$2
  shift 2
  "$@" "$elf" -append "$words" < /dev/null | tr -d '\000' | sed -n -e '/^digest /p' -e '/refused/p'
}

failed=0
for words in "-n 40" "-n 45 -t 40 -s 19 -p abba nab an ban ab" "-n 60 -t 80 -s 7" "-n 100 -t 90 -s 11 -p an ban"; do
  a=$(digest_of "$first" "$words" "$@")
  b=$(digest_of "$second" "$words" "$@")
  echo "$words: $a"
  case "$a" in "digest "????????) ;; *) failed=1 ;; esac
  if [ "$a" != "$b" ]; then
    echo "FAILED: $first: $a; $second: $b"
    failed=1
  fi
done
exit $failed
