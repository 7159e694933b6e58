// SPDX-License-Identifier: Apache-2.0
// Talks to a debugger or emulator through Arm semihosting: text out, host files, the command line and the exit status.
#pragma once

#include <cstddef>
#include <cstdint>

namespace heed::semihosting {

enum class Operation : std::uint32_t {
  open = 0x01,
  close = 0x02,
  write_text = 0x04,
  write = 0x05,
  read = 0x06,
  seek = 0x0A,
  length = 0x0C,
  command_line = 0x15,
  exit_extended = 0x20,
};

enum class FileMode : std::uint32_t { read = 1, write = 5, append = 9 };  // all binary

// One request to the host. Without a debugger or emulator attached the breakpoint faults.
inline std::int32_t call(Operation operation, const void* arguments) {
  register std::uint32_t r0 __asm__("r0") = static_cast<std::uint32_t>(operation);
  register const void* r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory", "cc");
  return static_cast<std::int32_t>(r0);
}

// Ends the emulator; its own exit status becomes `status` (0..255).
[[noreturn]] inline void exit(int status) {
  constexpr std::uint32_t kApplicationExit = 0x20026;
  const std::uint32_t block[2] = {kApplicationExit, static_cast<std::uint32_t>(status)};
  for (;;) call(Operation::exit_extended, block);
}

// Writes a zero-terminated string to the host's console.
inline void put_text(const char* text) { call(Operation::write_text, text); }

// Opens a host file; a relative `path` is relative to the directory the emulator was started in. Returns a handle, or -1.
inline int open(const char* path, FileMode mode) {
  std::size_t length = 0;
  while (path[length] != '\0') ++length;
  const std::uint32_t block[3] = {reinterpret_cast<std::uintptr_t>(path), static_cast<std::uint32_t>(mode),
                                  static_cast<std::uint32_t>(length)};
  return call(Operation::open, block);
}

inline bool close(int handle) {
  const std::uint32_t block[1] = {static_cast<std::uint32_t>(handle)};
  return call(Operation::close, block) == 0;
}

// Returns the number of bytes read into `data`; less than `bytes` at the end of the file or after an error.
inline std::size_t read(void* data, int handle, std::size_t bytes) {
  const std::uint32_t block[3] = {static_cast<std::uint32_t>(handle), reinterpret_cast<std::uintptr_t>(data),
                                  static_cast<std::uint32_t>(bytes)};
  const auto missing = static_cast<std::uint32_t>(call(Operation::read, block));
  return missing <= bytes ? bytes - missing : 0;
}

// Returns the number of bytes written.
inline std::size_t write(int handle, const void* data, std::size_t bytes) {
  const std::uint32_t block[3] = {static_cast<std::uint32_t>(handle), reinterpret_cast<std::uintptr_t>(data),
                                  static_cast<std::uint32_t>(bytes)};
  const auto missing = static_cast<std::uint32_t>(call(Operation::write, block));
  return missing <= bytes ? bytes - missing : 0;
}

// Moves to an absolute position of an open file.
inline bool seek(int handle, std::uint32_t position) {
  const std::uint32_t block[2] = {static_cast<std::uint32_t>(handle), position};
  return call(Operation::seek, block) == 0;
}

// Returns the file's length in bytes, or -1.
inline std::int32_t length(int handle) {
  const std::uint32_t block[1] = {static_cast<std::uint32_t>(handle)};
  return call(Operation::length, block);
}

// Splits the command line into words at spaces, inside `buffer`; there is no quoting. Under QEMU word 0 is the kernel's
// file name and the rest is the text of -append. Returns the number of words (at most `max_words`), 0 if the line does
// not fit into `bytes`. The words live as long as `buffer`.
inline int command_line(char** words, int max_words, char* buffer, std::size_t bytes) {
  std::uint32_t block[2] = {reinterpret_cast<std::uintptr_t>(buffer), static_cast<std::uint32_t>(bytes)};
  if (call(Operation::command_line, block) != 0) return 0;
  int count = 0;
  for (char* at = buffer; *at != '\0' && count < max_words;) {
    if (*at == ' ') {
      *at++ = '\0';
      continue;
    }
    words[count++] = at;
    while (*at != '\0' && *at != ' ') ++at;
  }
  if (count > 0) {  // the last word accepted may still be followed by more of the line
    char* end = words[count - 1];
    while (*end != '\0' && *end != ' ') ++end;
    *end = '\0';
  }
  return count;
}

inline void put_decimal(std::uint32_t value) {
  char text[11];
  char* at = text + 10;
  *at = '\0';
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  put_text(at);
}

// By 16-bit limbs, because one 64-bit division would link 700 bytes of library.
inline void put_decimal64(std::uint64_t value) {
  char text[21];
  char* at = text + 20;
  *at = '\0';
  do {
    std::uint64_t quotient = 0;
    std::uint32_t remainder = 0;
    for (int shift = 48; shift >= 0; shift -= 16) {
      const std::uint32_t part = remainder << 16 | static_cast<std::uint32_t>(value >> shift & 0xFFFF);
      quotient = quotient << 16 | part / 10;
      remainder = part % 10;
    }
    *--at = static_cast<char>('0' + remainder);
    value = quotient;
  } while (value != 0);
  put_text(at);
}

// Eight hexadecimal digits, without a prefix.
inline void put_hex(std::uint32_t value) {
  char text[9];
  for (int i = 0; i < 8; ++i) text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
  text[8] = '\0';
  put_text(text);
}

}  // namespace heed::semihosting
