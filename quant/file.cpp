// SPDX-License-Identifier: Apache-2.0
// file.cpp: mapping files and replacing them.
#include "quant/file.hpp"

#include <cerrno>
#include <cstdio>
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

Error write_file(const std::string& path, Span<const std::uint8_t> bytes) {
  const std::string part = path + ".part";
  std::FILE* file = std::fopen(part.c_str(), "wb");
  if (!file) return Error(path + ": cannot be written: " + std::strerror(errno));
  bool good = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  good = std::fflush(file) == 0 && good;
#ifdef HEED_HAS_MMAP
  good = ::fsync(::fileno(file)) == 0 && good;
#endif
  good = std::fclose(file) == 0 && good;
  std::error_code code;
  if (good) std::filesystem::rename(part, path, code);
  if (good && !code) return {};
  const std::string why = good ? code.message() : "the disk may be full";
  std::filesystem::remove(part, code);
  return Error(path + ": cannot be written: " + why);
}

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }
std::string file_stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

}  // namespace heed::quant
