#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# too_large.sh: each section that a board's script reserves for a region of a session refuses one byte more than its
# memory has, and a script whose assertions are never met would be found here.
#   too_large.sh COMPILER FOLDER_OF_SCRIPTS BOARD_SCRIPT
set -u
compiler=$1
scripts=$2
board=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
# check SECTION BYTES: links with BYTES, not with one more.
check() {
  section=$1
  for more in 0 1; do
    cat > "$work/region.c" << END
__attribute__((section("$section"), used, aligned(64))) static unsigned char region[$2 + $more];
void heed_reset_handler(void) { __asm__ volatile("" : : "r"(region)); }
END
    if "$compiler" -x c -mcpu=cortex-m55 -mthumb -nostdlib "-L$scripts" "-T$board" -o "$work/elf" "$work/region.c" 2> "$work/why"; then
      linked=1
    else
      linked=0
    fi
    [ $((linked + more)) = 1 ] || { echo "FAILED: $section with $2 + $more bytes: linked $linked"; cat "$work/why"; failed=1; }
    [ $more = 0 ] || grep -m 1 fit "$work/why" | sed 's,.*ld: ,,' | sed "s/^/$section + 1 byte: /"
  done
}
# On mps3-an547: SRAM of 4 MB behind a stack of 16 KB, DTCM of 512 KB, 256 MB of DDR.
check .heed_kv_cache 4194304-16384
check .heed_arena 4194304-16384
check .heed_scratch 524288
check .heed_logits 524288
check .heed_fast 524288
check .heed_bulk_arena 268435456
exit $failed
