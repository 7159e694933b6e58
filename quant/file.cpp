// SPDX-License-Identifier: Apache-2.0
// file.cpp: mapping files and replacing them.
#include "quant/file.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#if __has_include(<sys/mman.h>)
#define HEED_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace heed::quant {

SourceFile::~SourceFile() {
#ifdef HEED_HAS_MMAP
  if (mapped_) ::munmap(const_cast<std::uint8_t*>(data_), size_);
#endif
}

void SourceFile::swap(SourceFile& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  owned_.swap(other.owned_);
}

Error SourceFile::open(const std::string& path) {
  if (path.empty()) return Error("an empty path cannot be read");
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  if (code || !std::filesystem::exists(status)) return Error(path + ": no such file");
  if (!std::filesystem::is_regular_file(status)) return Error(path + ": not a regular file");
  const std::uintmax_t size = std::filesystem::file_size(path, code);
  if (code) return Error(path + ": its size cannot be read");
  if (size == 0) return Error(path + ": the file is empty");
  if (size > PTRDIFF_MAX) return Error(path + ": too large for this machine");
  SourceFile fresh;
  fresh.size_ = static_cast<std::size_t>(size);
#ifdef HEED_HAS_MMAP
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return Error(path + ": " + std::strerror(errno));
  void* memory = ::mmap(nullptr, fresh.size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  ::close(descriptor);
  if (memory != MAP_FAILED) {
    fresh.data_ = static_cast<const std::uint8_t*>(memory);
    fresh.mapped_ = true;
    swap(fresh);
    return {};
  }
#endif
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) return Error(path + ": " + std::strerror(errno));
  fresh.owned_.resize(fresh.size_);
  const std::size_t got = std::fread(fresh.owned_.data(), 1, fresh.size_, file);
  std::fclose(file);
  if (got != fresh.size_) return Error(path + ": cannot be read to its end");
  fresh.data_ = fresh.owned_.data();
  swap(fresh);
  return {};
}

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
  const bool is_link = fs::is_symlink(fs::symlink_status(path, code));
  exists = fs::exists(status);
  target = path;
  if (!exists) {
    // To make what the link names would be a surprise, to put a file in its place another.
    if (is_link) return cannot_write(path, "it is a symbolic link to nothing");
    return status.type() == fs::file_type::none ? cannot_write(path, "it cannot be looked at") : Error();
  }
  // Renaming would put a file where somebody keeps a pipe or a device.
  if (!fs::is_regular_file(status)) return cannot_write(path, "it is not a regular file");
  if (is_link) target = fs::canonical(path, code).string();
  if (is_link && code) return cannot_write(path, code.message());
#ifdef HEED_HAS_MMAP
  // Renaming asks the folder only.
  if (::access(target.c_str(), W_OK) != 0) return cannot_write(path, std::strerror(errno));
#endif
  return {};
}

// A new file beside `target`, under a name that nobody has, with the permissions that `target` has or would get. Null
// with errno set if there can be none.
std::FILE* create_beside(std::string& part, const std::string& target, bool exists) {
#ifdef HEED_HAS_MMAP
  struct stat old {};
  if (exists && ::stat(target.c_str(), &old) != 0) return nullptr;
  part = target + ".XXXXXX";
  const int descriptor = ::mkstemp(part.data());
  if (descriptor < 0) return nullptr;
  mode_t mode = old.st_mode & 0777;
  if (!exists) {
    const mode_t mask = ::umask(0);  // which cannot be read otherwise
    ::umask(mask);
    mode = 0666 & ~mask;
  }
  std::FILE* file = ::fchmod(descriptor, mode) == 0 ? ::fdopen(descriptor, "wb") : nullptr;
  if (file) return file;
  const int why = errno;
  ::close(descriptor);
  ::unlink(part.c_str());
  errno = why;
  return nullptr;
#else
  (void)exists;
  part = target + ".part";
  return std::fopen(part.c_str(), "wbx");
#endif
}

}  // namespace

Error check_writable(const std::string& path) {
  std::string target;
  bool exists = false;
  return find_target(target, exists, path);
}

Error write_file(const std::string& path, Span<const std::uint8_t> bytes) {
  std::string target, part;
  bool exists = false;
  if (Error error = find_target(target, exists, path)) return error;
  std::FILE* file = create_beside(part, target, exists);
  if (!file) return cannot_write(path, std::strerror(errno));
  bool good = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  good = std::fflush(file) == 0 && good;
#ifdef HEED_HAS_MMAP
  good = ::fsync(::fileno(file)) == 0 && good;
#endif
  good = std::fclose(file) == 0 && good;
  std::error_code code;
  if (good) std::filesystem::rename(part, target, code);
  if (good && !code) return {};
  const std::string why = good ? code.message() : "the disk may be full";
  std::filesystem::remove(part, code);
  return cannot_write(path, why);
}

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }
std::string file_stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

}  // namespace heed::quant
