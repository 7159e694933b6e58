#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shown_code.sh: the code that a document shows is the code that a test runs.
#   shown_code.sh DOCUMENT CODE    the document's only ```cpp block, and what stands between the rulers of the code
set -eu
shown=$(sed -n '/^```cpp$/,/^```$/p' "$1" | sed '1d;$d')
tested=$(sed -n '/^\/\/ ---- shown$/,/^\/\/ ---- end of what is shown$/p' "$2" | sed '1d;$d')
[ -n "$tested" ] || { echo "FAILED: $2 marks nothing as shown" >&2; exit 1; }
[ "$shown" = "$tested" ] || { echo "FAILED: $1 shows other code than $2 has" >&2; exit 1; }
