// SPDX-License-Identifier: Apache-2.0
// write_file.cpp: replacing files, so that what stops half-way leaves what was there and nothing else.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
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

}  // namespace

struct OutputFile::State {
  std::string path, target, part;
  const SignalPause pause;
  int descriptor = -1;

  ~State() {
    if (descriptor < 0) return;
    ::close(descriptor);
    ::unlink(part.c_str());
  }
  Error failed(int why) const { return cannot_write(path, why == EINTR ? "a signal came" : std::strerror(why)); }
};

Error OutputFile::open(const std::string& path) {
  std::string target;
  bool exists = false;
  if (Error error = find_target(target, exists, path)) return error;
  state_ = std::make_unique<State>();
  state_->path = path;
  state_->target = target;
  state_->descriptor = create_part(state_->part, target, exists);
  return state_->descriptor < 0 ? state_->failed(errno) : Error();
}

Error OutputFile::write(std::uint64_t offset, Span<const std::uint8_t> bytes) {
  constexpr std::size_t kSlice = 1u << 20;
  for (std::size_t at = 0; at < bytes.size();) {
    if (state_->pause.is_over()) return state_->failed(EINTR);
    const ssize_t n = ::pwrite(state_->descriptor, bytes.data() + at, std::min(kSlice, bytes.size() - at),
                               static_cast<off_t>(offset + at));
    if (n < 0 && errno != EINTR) return state_->failed(errno);
    if (n > 0) at += static_cast<std::size_t>(n);
  }
  return {};
}

Error OutputFile::finish() {
  int why = state_->pause.is_over() ? EINTR : ::fsync(state_->descriptor) == 0 ? 0 : errno;
  if (::close(state_->descriptor) != 0 && why == 0) why = errno;
  state_->descriptor = -1;
  if (why == 0 && state_->pause.is_over()) why = EINTR;
  if (why == 0 && std::rename(state_->part.c_str(), state_->target.c_str()) != 0) why = errno;
  if (why == 0) return {};
  ::unlink(state_->part.c_str());
  return state_->failed(why);
}

#else

}  // namespace

struct OutputFile::State {
  std::string path, target, part;
  std::fstream file;

  ~State() {
    std::error_code code;
    if (!part.empty()) std::filesystem::remove(part, code);
  }
};

Error OutputFile::open(const std::string& path) {
  bool exists = false;
  state_ = std::make_unique<State>();
  state_->path = path;
  if (Error error = find_target(state_->target, exists, path)) return error;
  const std::string part = state_->target + ".part";
  std::FILE* made = std::fopen(part.c_str(), "wbx");
  if (!made) return cannot_write(path, std::strerror(errno));
  std::fclose(made);
  state_->part = part;
  state_->file.open(part, std::ios::in | std::ios::out | std::ios::binary);
  return state_->file ? Error() : cannot_write(path, "its temporary file cannot be opened");
}

Error OutputFile::write(std::uint64_t offset, Span<const std::uint8_t> bytes) {
  state_->file.seekp(static_cast<std::streamoff>(offset));
  state_->file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  state_->file.flush();
  return state_->file ? Error() : cannot_write(state_->path, "the disk may be full");
}

Error OutputFile::finish() {
  state_->file.close();
  if (!state_->file) return cannot_write(state_->path, "the disk may be full");
  std::error_code code;
  std::filesystem::rename(state_->part, state_->target, code);
  if (code) return cannot_write(state_->path, code.message());
  state_->part.clear();
  return {};
}

#endif

OutputFile::OutputFile() = default;
OutputFile::~OutputFile() = default;

Error OutputFile::read_back(SourceFile& file) const { return file.open(state_->part); }

Error check_writable(const std::string& path) {
  std::string target;
  bool exists = false;
  return find_target(target, exists, path);
}

Error write_file(const std::string& path, Span<const std::uint8_t> bytes) {
  OutputFile file;
  if (Error error = file.open(path)) return error;
  if (Error error = file.write(0, bytes)) return error;
  return file.finish();
}

}  // namespace heed::quant
