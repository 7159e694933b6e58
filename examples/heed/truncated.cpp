// SPDX-License-Identifier: Apache-2.0
// truncated.cpp: a handler of SIGBUS, which may only call what is safe in one. The system knows best which file lies at
// an address, so no list of mappings is kept.
#include "examples/heed/truncated.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace heed::tool {
namespace {

// A file, character by character, without the heap.
class Reader {
 public:
  explicit Reader(const char* path) : fd_(::open(path, O_RDONLY | O_CLOEXEC)) {}
  ~Reader() {
    if (fd_ >= 0) ::close(fd_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // -1 at the end.
  int next() {
    if (at_end_) return -1;
    if (at_ == size_) {
      size_ = fd_ < 0 ? 0 : ::read(fd_, buffer_, sizeof buffer_);
      at_ = 0;
      at_end_ = size_ <= 0;
      if (at_end_) return -1;
    }
    return static_cast<unsigned char>(buffer_[at_++]);
  }

 private:
  int fd_;
  char buffer_[512];
  ssize_t at_ = 0, size_ = 0;
  bool at_end_ = false;
};

// Reads a number in base 16 and the character behind it.
std::uintptr_t hexadecimal(Reader& in, int& behind) {
  std::uintptr_t value = 0;
  while ((behind = in.next()) >= 0) {
    const bool is_letter = behind >= 'a' && behind <= 'f';
    const int digit = behind >= '0' && behind <= '9' ? behind - '0' : is_letter ? behind - 'a' + 10 : -1;
    if (digit < 0) break;
    value = value << 4 | static_cast<std::uintptr_t>(digit);
  }
  return value;
}

// The file that is mapped at `address`, as /proc/self/maps says; false when there is none. A line of it:
// 7f0000000000-7f0000001000 r--p 00000000 fe:01 1234    /a/path
bool find_file(char* path, std::size_t room, std::uintptr_t address) {
  Reader in("/proc/self/maps");
  for (int c = 0; c >= 0;) {
    const std::uintptr_t begin = hexadecimal(in, c), end = hexadecimal(in, c);
    if (c < 0) return false;
    const bool here = address >= begin && address < end;
    while (c >= 0 && c != '\n' && c != '/') c = in.next();
    std::size_t n = 0;
    for (; c >= 0 && c != '\n'; c = in.next())
      if (here && n + 1 < room) path[n++] = static_cast<char>(c < 32 || c == 127 ? '?' : c);
    path[n] = '\0';
    if (here) return n != 0;
  }
  return false;
}

void say(const char* text) {
  for (std::size_t left = std::strlen(text); left != 0;) {
    const ssize_t n = ::write(STDERR_FILENO, text, left);
    if (n <= 0) return;
    text += n;
    left -= static_cast<std::size_t>(n);
  }
}

char file_path[4200];  // a name in /proc may be longer than one that can be opened

std::atomic_flag is_taken = ATOMIC_FLAG_INIT;

void on_bus_error(int, siginfo_t* info, void*) {
  while (is_taken.test_and_set()) ::pause();  // several threads read one file, and one of them says it for all
  if (!find_file(file_path, sizeof file_path, reinterpret_cast<std::uintptr_t>(info->si_addr))) {
    is_taken.clear();
    ::signal(SIGBUS, SIG_DFL);  // not a file's: it ends the program as ever, also when somebody sent it
    ::raise(SIGBUS);
    return;
  }
  say("heed: ");
  say(file_path);
  say(": the file was truncated, or could not be read, while it was in use\n");
  ::_exit(1);
}

}  // namespace

void name_truncated_files() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace heed::tool
