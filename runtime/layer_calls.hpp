// SPDX-License-Identifier: Apache-2.0
// layer_calls.hpp: what layers that stand alone do with the memory and the rows of their caller; internal to runtime/.
#pragma once
#include <cstring>

#include "runtime/attention.hpp"
#include "runtime/numerics.hpp"

namespace heed {

// What every layer asks of the block of memory that it is given.
template <class Memory>
Status check_arena(const Memory& plan, const Memory& expected, Span<std::byte> arena) {
  if (plan.arena_bytes != expected.arena_bytes || !arena.data()) return Status::bad_argument;
  if (!is_aligned(arena.data(), expected.arena_align)) return Status::misaligned;
  if (arena.size() < expected.arena_bytes) return Status::arena_too_small;
  return float_mode_is_default() && products_are_rounded() ? Status::ok : Status::rounding_mode;
}

// Of rows of floats that are read or written in place.
inline Status check_rows(const void* rows, std::size_t size, std::uint32_t width) {
  if (width == 0 || size % width != 0 || (size != 0 && !rows)) return Status::bad_argument;
  return is_aligned(rows, 4) ? Status::ok : Status::misaligned;
}

inline Status check_call(Span<const float> out, std::uint32_t d_out, Span<const float> in, std::uint32_t d_in) {
  if (const Status s = check_rows(in.data(), in.size(), d_in); s != Status::ok) return s;
  if (const Status s = check_rows(out.data(), out.size(), d_out); s != Status::ok) return s;
  if (in.size() / d_in != out.size() / d_out) return Status::bad_argument;
  return float_mode_is_default() ? Status::ok : Status::rounding_mode;
}

template <class T>
T* at(std::byte* arena, const Slice& slice) {
  return reinterpret_cast<T*>(arena + static_cast<std::size_t>(slice.offset));
}

// Rows of a caller, quantised.
inline Activations quantize_rows(void* memory, const Kernels& k, const Parallel& parallel, const float* rows,
                                 std::uint32_t d, std::uint32_t group, std::uint32_t n) {
  const Activations a = make_activations(memory, k.traits, d, group, n);
  for_each_range(parallel, n, std::uint64_t{n} * d * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
    for (; t < end; ++t) k.quantize_s8r_f32(a, t, rows + std::size_t{t} * d);
  });
  return a;
}

// f(first, n) for chunks of `total` rows.
template <class F>
void for_each_chunk(std::size_t total, std::uint32_t chunk, F f) {
  for (std::size_t done = 0; done < total;) {
    const auto n = static_cast<std::uint32_t>(total - done < chunk ? total - done : chunk);
    f(done, n);
    done += n;
  }
}

// Products come in padded rows, the caller's are not.
inline void copy_rows(float* dst, const float* src, std::uint32_t stride, std::uint32_t d, std::uint32_t n) {
  for (std::uint32_t t = 0; t < n; ++t)
    std::memcpy(dst + std::size_t{t} * d, src + std::size_t{t} * stride, d * sizeof(float));
}

}  // namespace heed
