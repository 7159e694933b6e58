// SPDX-License-Identifier: Apache-2.0
// write_file.cpp: replacing files, so that what stops half-way leaves what was there and nothing else.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "quant/file.hpp"

#ifdef HEED_HAS_MMAP
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace heed::quant {
namespace {

Error cannot_write(const std::string& path, const std::string& why) {
  return Error(path + ": cannot be written: " + why);
}

// The file that `path` names, links followed, and whether there is one yet.
Error find_target(std::string& target, bool& exists, const std::string& path) {
  namespace fs = std::filesystem;
  if (path.empty()) return Error("an empty path cannot be written");
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  const std::string why = code.message();
  const bool is_link = fs::is_symlink(fs::symlink_status(path, code));
  exists = fs::exists(status);
  target = path;
  if (status.type() == fs::file_type::none) return cannot_write(path, why);
  // To make what the link names would be a surprise, to put a file in its place another.
  if (!exists && is_link) return cannot_write(path, "it is a symbolic link to nothing");
  // Renaming would put a file where somebody keeps a pipe or a device.
  if (exists && !fs::is_regular_file(status)) return cannot_write(path, "it is not a regular file");
  if (is_link) target = fs::canonical(path, code).string();
  if (is_link && code) return cannot_write(path, code.message());
  if (fs::path(target).filename().empty()) return cannot_write(path, "no such folder");
  fs::path folder = fs::path(target).parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder, code)) return cannot_write(path, "no such folder");
#ifdef HEED_HAS_MMAP
  // Renaming asks the folder only.
  if (exists && ::access(target.c_str(), W_OK) != 0) return cannot_write(path, std::strerror(errno));
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return cannot_write(path, std::strerror(errno));
#endif
  return {};
}

// Beside `target`, and no longer than a name may be.
std::string part_name(const std::string& target) {
  const std::filesystem::path path(target);
  const std::string name = path.filename().string().substr(0, 200) + ".XXXXXX";
  return (path.parent_path() / name).string();
}

#ifdef HEED_HAS_MMAP

// Holds back the signals that would end the program, so that a temporary file can be removed first.
class SignalPause {
 public:
  SignalPause() {
    sigemptyset(&held_);
    for (const int signal : kEnding) {
      struct sigaction action {};
      if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) sigaddset(&held_, signal);
    }
    pthread_sigmask(SIG_BLOCK, &held_, &before_);
  }
  ~SignalPause() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalPause(const SignalPause&) = delete;
  SignalPause& operator=(const SignalPause&) = delete;

  bool is_over() const {
    sigset_t pending;
    sigpending(&pending);
    return std::any_of(std::begin(kEnding), std::end(kEnding), [&](int signal) {
      return sigismember(&held_, signal) == 1 && sigismember(&pending, signal) == 1;
    });
  }

 private:
  static constexpr int kEnding[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
  sigset_t held_, before_;
};

// A new file under a name that nobody has, with the permissions that `target` has or would get; -1 with errno set if
// there can be none.
int create_part(std::string& part, const std::string& target, bool exists) {
  struct stat old {};
  if (exists && ::stat(target.c_str(), &old) != 0) return -1;
  part = part_name(target);
  const int descriptor = ::mkstemp(part.data());
  if (descriptor < 0) return -1;
  mode_t mode = old.st_mode & 0777;
  if (!exists) {
    const mode_t mask = ::umask(0);  // which cannot be read otherwise
    ::umask(mask);
    mode = 0666 & ~mask;
  }
  if (::fchmod(descriptor, mode) == 0) return descriptor;
  const int why = errno;
  ::close(descriptor);
  ::unlink(part.c_str());
  errno = why;
  return -1;
}

// 0, or the errno of what failed; EINTR when a signal is waiting.
int write_all(int descriptor, Span<const std::uint8_t> bytes, const SignalPause& pause) {
  constexpr std::size_t kSlice = 1u << 20;
  for (std::size_t at = 0; at < bytes.size();) {
    if (pause.is_over()) return EINTR;
    const ssize_t n = ::write(descriptor, bytes.data() + at, std::min(kSlice, bytes.size() - at));
    if (n < 0 && errno != EINTR) return errno;
    if (n > 0) at += static_cast<std::size_t>(n);
  }
  if (pause.is_over()) return EINTR;
  return ::fsync(descriptor) == 0 ? 0 : errno;
}

Error write_part(const std::string& path, const std::string& target, bool exists, Span<const std::uint8_t> bytes) {
  const SignalPause pause;
  std::string part;
  const int descriptor = create_part(part, target, exists);
  if (descriptor < 0) return cannot_write(path, std::strerror(errno));
  int why = write_all(descriptor, bytes, pause);
  if (::close(descriptor) != 0 && why == 0) why = errno;
  if (why == 0 && std::rename(part.c_str(), target.c_str()) != 0) why = errno;
  if (why == 0) return {};
  ::unlink(part.c_str());
  return cannot_write(path, why == EINTR ? "a signal came" : std::strerror(why));
}

#else

Error write_part(const std::string& path, const std::string& target, bool, Span<const std::uint8_t> bytes) {
  const std::string part = target + ".part";
  std::FILE* file = std::fopen(part.c_str(), "wbx");
  if (!file) return cannot_write(path, std::strerror(errno));
  bool good = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  good = std::fclose(file) == 0 && good;
  std::error_code code;
  if (good) std::filesystem::rename(part, target, code);
  if (good && !code) return {};
  const std::string why = good ? code.message() : "the disk may be full";
  std::filesystem::remove(part, code);
  return cannot_write(path, why);
}

#endif

}  // namespace

Error check_writable(const std::string& path) {
  std::string target;
  bool exists = false;
  return find_target(target, exists, path);
}

Error write_file(const std::string& path, Span<const std::uint8_t> bytes) {
  std::string target;
  bool exists = false;
  if (Error error = find_target(target, exists, path)) return error;
  return write_part(path, target, exists, bytes);
}

}  // namespace heed::quant
