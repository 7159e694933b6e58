// SPDX-License-Identifier: Apache-2.0
// map_file.cpp: mmap behind MappedFile.
#include "platform/linux/map_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
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

const char* MappedFile::open(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::strerror(errno);
  struct stat info;
  const char* error = nullptr;
  if (fstat(fd, &info) != 0) {
    error = std::strerror(errno);
  } else if (!S_ISREG(info.st_mode)) {
    error = "not a regular file";
  } else if (info.st_size == 0) {
    error = "the file is empty";
  } else {
    void* p = mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      error = std::strerror(errno);
    } else {
      if (data_) munmap(const_cast<std::uint8_t*>(data_), size_);
      // A model is verified, so every byte is read: larger pages, where the file system has them, are fewer faults.
      madvise(p, static_cast<std::size_t>(info.st_size), MADV_HUGEPAGE);
      data_ = static_cast<const std::uint8_t*>(p);
      size_ = static_cast<std::size_t>(info.st_size);
    }
  }
  ::close(fd);
  return error;
}

}  // namespace heed
