#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# write_cases.sh: the images of golden/spec_cases.txt. write_cases.sh PYTHON FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2"
grep -v '^#' "$here/../golden/spec_cases.txt" | while read -r seed rest; do
  "$1" "$here/make_random_image.py" --seed "$seed" "$2/$seed.heed" >/dev/null
done
