// SPDX-License-Identifier: Apache-2.0
// map_file.hpp: a file as read-only memory, so that an image starts without being copied.
#pragma once
#include <cstdint>

#include "runtime/span.hpp"

namespace heed {

// Owns the mapping; page-aligned, so an image in it is aligned too. Another process that shortens the file while it
// is mapped makes reads fault (SIGBUS), as with every mapped file; examples/heed/truncated.cpp shows what to do then.
class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Null on success, else what failed, as a phrase. Only regular files are opened: a pipe would be waited for, and
  // opening a device may already do something.
  const char* open(const char* path);
  Span<const std::uint8_t> bytes() const { return {data_, size_}; }

 private:
  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace heed
