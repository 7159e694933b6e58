// SPDX-License-Identifier: Apache-2.0
// main.c: a consumer's program in C: prints the library's version and the best kernel table.
#include <heed/heed.h>
#include <stdio.h>

int main(void) {
  printf("%d %s\n", heed_version() == HEED_VERSION, heed_kernels_name(heed_best_kernels()));
  return 0;
}
