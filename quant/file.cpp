// SPDX-License-Identifier: Apache-2.0
// file.cpp: files as bytes.
#include "quant/file.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace heed::quant {

#ifdef HEED_HAS_MMAP

Error SourceFile::open(const std::string& path) {
  if (path.empty()) return Error("an empty path cannot be read");
  const char* error = mapped_.open(path.c_str());
  return error ? Error(path + ": " + error) : Error();
}

#else

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
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) return Error(path + ": " + std::strerror(errno));
  owned_.resize(static_cast<std::size_t>(size));
  const std::size_t got = std::fread(owned_.data(), 1, owned_.size(), file);
  std::fclose(file);
  return got == owned_.size() ? Error() : Error(path + ": cannot be read to its end");
}

#endif

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code code;
  return std::filesystem::equivalent(a, b, code) && !code;
}

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }
std::string file_stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

}  // namespace heed::quant
