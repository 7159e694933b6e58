/* SPDX-License-Identifier: Apache-2.0 */
/* semihosting.h: the console of the firmware examples in C99: Arm semihosting. A product has its own. */
#ifndef HEED_EXAMPLES_SEMIHOSTING_H
#define HEED_EXAMPLES_SEMIHOSTING_H

#include <heed/heed.h>

enum { kWriteText = 0x04, kCommandLine = 0x15, kExitExtended = 0x20 };

static inline int32_t call(uint32_t operation, const void* arguments) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void* r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory", "cc");
  return (int32_t)r0;
}

static inline void put_text(const char* text) { call(kWriteText, text); }

/* In pieces of a few bytes, because semihosting wants a terminating zero. */
static inline void put_bytes(const char* bytes, uint32_t n) {
  char text[33];
  for (uint32_t at = 0; at < n;) {
    uint32_t k = 0;
    while (k < 32 && at < n) text[k++] = bytes[at++];
    text[k] = '\0';
    put_text(text);
  }
}

static inline void put_decimal(const char* name, uint32_t value) {
  char text[12] = {0}, *at = text + 10;
  *at = '\n';
  do *--at = (char)('0' + value % 10);
  while (value /= 10);
  put_text(name);
  put_text(at);
}

static inline void put_hex(const char* name, uint32_t value) {
  char text[10] = {0};
  for (int i = 0; i < 8; ++i) text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
  text[8] = '\n';
  put_text(name);
  put_text(text);
}

static inline void require(heed_status status, const char* what) {
  if (status == HEED_OK) return;
  put_text(what);
  /* The number in heed.h; heed_status_text would cost a kilobyte of flash. */
  put_decimal(" refused, status ", (uint32_t)status);
  const uint32_t block[2] = {0x20026, 1};
  for (;;) call(kExitExtended, block);
}

#endif
