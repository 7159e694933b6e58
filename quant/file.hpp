// SPDX-License-Identifier: Apache-2.0
// file.hpp: whole files as bytes on the host: mapped to read, replaced at once to write.
#pragma once
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "runtime/span.hpp"

#if __has_include(<sys/mman.h>)
#define HEED_HAS_MMAP 1
#include "platform/linux/map_file.hpp"
#endif

namespace heed::quant {

// Allocates at the alignment that an image needs.
template <class T>
struct ImageAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlign{64};
  ImageAllocator() = default;
  template <class U>
  ImageAllocator(const ImageAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlign)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, kAlign); }
  template <class U>
  bool operator==(const ImageAllocator<U>&) const { return true; }
  template <class U>
  bool operator!=(const ImageAllocator<U>&) const { return false; }
};

// Bytes of an image in memory of its own, 64-byte aligned.
using ImageBytes = std::vector<std::uint8_t, ImageAllocator<std::uint8_t>>;

// A file's bytes, read-only, 64-byte aligned; mapped where the host can, read otherwise. Movable, not copyable.
class SourceFile {
 public:
  // Fails when the file cannot be opened, is not a regular file, or is empty. Never waits for a pipe or a device.
  Error open(const std::string& path);
#ifdef HEED_HAS_MMAP
  // Valid as long as this object, also after it has been moved.
  Span<const std::uint8_t> bytes() const { return mapped_.bytes(); }

 private:
  MappedFile mapped_;
#else
  Span<const std::uint8_t> bytes() const { return {owned_.data(), owned_.size()}; }

 private:
  ImageBytes owned_;
#endif
};

// Refuses, with the sentence of write_file, what write_file would refuse before its first byte: for what takes long to
// compute.
Error check_writable(const std::string& path);

// A file that is written piece by piece, and stands in its place only when it is whole.
// Replaces a regular file, or the one that a symbolic link leads to, or makes a new one; its permissions are kept. The
// bytes go to a temporary file beside it, which is renamed, so that a failure leaves what was there and nothing else.
// Refuses what is not a regular file, may not be written, or is a link to nothing. A signal that would end the program
// waits until the temporary file is gone; a program that ignores SIGXFSZ gets a sentence in its place.
// Signals are held back in the calling thread, from `open` to the end: a program's other threads must hold them back
// themselves. The file mode mask is read by setting it.
class OutputFile {
 public:
  OutputFile();
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // At most once.
  Error open(const std::string& path);
  // At any place, which may lie behind the end so far. After an error nothing but the destructor makes sense.
  Error write(std::uint64_t offset, Span<const std::uint8_t> bytes);
  // What has been written so far, to be read again.
  Error read_back(SourceFile& file) const;
  // To the disk and into its place.
  Error finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same at once.
Error write_file(const std::string& path, Span<const std::uint8_t> bytes);

// Whether both paths lead to one file, links of either kind included.
bool is_same_file(const std::string& a, const std::string& b);

// The last component of a path, and the same without its extension.
std::string file_name(const std::string& path);
std::string file_stem(const std::string& path);

}  // namespace heed::quant
