// SPDX-License-Identifier: Apache-2.0
// arena.hpp: an arena of exactly the bytes and the alignment asked for, with guards on both sides.
#pragma once
#include <cstdint>
#include <vector>

#include "runtime/span.hpp"
#include "tests/support/random.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define HEED_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEED_TEST_ASAN 1
#endif
#endif
#ifdef HEED_TEST_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace heed::test {

enum class Fill { zeros, ones, random };

// Aligned to `align` and to nothing more, so that code cannot rely on luck. Under the address sanitizer the guards
// may not even be read.
class GuardedArena {
 public:
  GuardedArena(std::uint64_t bytes, std::uint32_t align, Fill fill = Fill::random)
      : memory_(static_cast<std::size_t>(bytes) + 2 * kGuard + 4 * std::size_t{align}),
        bytes_(static_cast<std::size_t>(bytes)) {
    for (std::size_t i = 0; i < memory_.size(); ++i) memory_[i] = guard(i);
    begin_ = kGuard;
    while (reinterpret_cast<std::uintptr_t>(memory_.data() + begin_) % (2 * align) != align) ++begin_;
    Random random(bytes + 1);
    for (std::size_t i = 0; i < bytes_; ++i) {
      const std::uint8_t b = fill == Fill::zeros  ? 0
                             : fill == Fill::ones ? 0xFF
                                                  : static_cast<std::uint8_t>(random.next() >> 56);
      memory_[begin_ + i] = std::byte{b};
    }
#ifdef HEED_TEST_ASAN
    __asan_poison_memory_region(memory_.data(), begin_);
    __asan_poison_memory_region(memory_.data() + begin_ + bytes_, memory_.size() - begin_ - bytes_);
#endif
  }
  ~GuardedArena() { allow(); }
  GuardedArena(const GuardedArena&) = delete;
  GuardedArena& operator=(const GuardedArena&) = delete;

  Span<std::byte> span() { return {memory_.data() + begin_, bytes_}; }

  // Whether nothing was written outside.
  bool intact() {
    allow();
    for (std::size_t i = 0; i < begin_; ++i)
      if (memory_[i] != guard(i)) return false;
    for (std::size_t i = begin_ + bytes_; i < memory_.size(); ++i)
      if (memory_[i] != guard(i)) return false;
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 256;
  static std::byte guard(std::size_t i) { return static_cast<std::byte>(0xA5 ^ (i * 29)); }
  void allow() {
#ifdef HEED_TEST_ASAN
    __asan_unpoison_memory_region(memory_.data(), memory_.size());
#endif
  }

  std::vector<std::byte> memory_;
  std::size_t begin_ = 0, bytes_;
};

}  // namespace heed::test
