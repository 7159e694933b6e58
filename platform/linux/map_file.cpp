// SPDX-License-Identifier: Apache-2.0
// map_file.cpp: mmap behind MappedFile.
#include "platform/linux/map_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace heed {

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::uint8_t*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

namespace {

const char* describe_error(int error) { return error == ENOENT ? "no such file" : std::strerror(error); }

// Null for a regular file that has bytes.
const char* refuse(const struct stat& info) {
  if (S_ISDIR(info.st_mode)) return "a folder, not a file";
  if (S_ISFIFO(info.st_mode)) return "a pipe, not a file; save what comes through it in one";
  if (S_ISSOCK(info.st_mode)) return "a socket, not a file";
  if (!S_ISREG(info.st_mode)) return "a device, not a file";
  if (info.st_size == 0) return "the file is empty";
  if (static_cast<std::uintmax_t>(info.st_size) > PTRDIFF_MAX) return "too large for this machine";
  return nullptr;
}

// MAP_FAILED with errno set where the file can be neither mapped nor read.
void* map_or_read(int fd, std::size_t size) {
  void* p = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p != MAP_FAILED || errno != ENODEV) return p;
  // Some file systems cannot map.
  p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return p;
  std::size_t done = 0;
  ssize_t n = 1;
  while (done < size && (n = ::read(fd, static_cast<char*>(p) + done, size - done)) > 0)
    done += static_cast<std::size_t>(n);
  if (done == size) return p;
  const int error = n < 0 ? errno : EIO;
  munmap(p, size);
  errno = error;
  return MAP_FAILED;
}

}  // namespace

const char* MappedFile::open(const char* path) {
  struct stat info;
  if (stat(path, &info) != 0) return describe_error(errno);
  if (const char* error = refuse(info)) return error;
  // Not waiting, and looked at again: something else may have taken the name.
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return describe_error(errno);
  const char* error = fstat(fd, &info) != 0 ? describe_error(errno) : refuse(info);
  if (!error) {
    const auto size = static_cast<std::size_t>(info.st_size);
    void* p = map_or_read(fd, size);
    if (p == MAP_FAILED) {
      error = describe_error(errno);
    } else {
      if (data_) munmap(const_cast<std::uint8_t*>(data_), size_);
      // A model is verified, so every byte is read: larger pages, where the file system has them, are fewer faults.
      madvise(p, size, MADV_HUGEPAGE);
      data_ = static_cast<const std::uint8_t*>(p);
      size_ = size;
    }
  }
  ::close(fd);
  return error;
}

}  // namespace heed
