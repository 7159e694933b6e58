#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# digest_is.sh: a story firmware prints this digest and ends with status 0.
#   digest_is.sh DIGEST ELF WORDS EMULATOR...
set -u
digest=$1
elf=$2
words=$3
shift 3
text=$("$@" "$elf" -append "$words" < /dev/null)
status=$?
printf '%s\n' "$text" | tr -d '\000'
[ $status = 0 ] || { echo "FAILED: $elf ends with status $status" >&2; exit 1; }
printf '%s\n' "$text" | tr -d '\000' | grep -qx "digest $digest" || { echo "FAILED: the digest is not $digest" >&2; exit 1; }
