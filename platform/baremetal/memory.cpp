// SPDX-License-Identifier: Apache-2.0
// The memory functions that compilers call behind the program's back, small instead of fast: heed's hot loops do
// not use them.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* dst, const void* src, std::size_t n) {
  auto* d = static_cast<std::uint8_t*>(dst);
  const auto* s = static_cast<const std::uint8_t*>(src);
  for (; n; --n) *d++ = *s++;
  return dst;
}

void* memset(void* dst, int value, std::size_t n) {
  auto* d = static_cast<std::uint8_t*>(dst);
  for (; n; --n) *d++ = static_cast<std::uint8_t>(value);
  return dst;
}

std::size_t strlen(const char* text) {
  const char* end = text;
  while (*end) ++end;
  return static_cast<std::size_t>(end - text);
}

void* memchr(const void* bytes, int value, std::size_t n) {
  for (const auto* at = static_cast<const std::uint8_t*>(bytes); n; --n, ++at)
    if (*at == static_cast<std::uint8_t>(value)) return const_cast<std::uint8_t*>(at);
  return nullptr;
}

int memcmp(const void* a, const void* b, std::size_t n) {
  const auto* x = static_cast<const std::uint8_t*>(a);
  const auto* y = static_cast<const std::uint8_t*>(b);
  for (; n; --n, ++x, ++y)
    if (*x != *y) return *x - *y;
  return 0;
}
}
