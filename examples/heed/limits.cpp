// SPDX-License-Identifier: Apache-2.0
// limits.cpp: one small loop per instruction set. The best of a few repetitions counts: other programs can only slow
// them down.
#include "examples/heed/limits.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace heed::tool {
namespace {

constexpr int kFewest = 7;
constexpr double kLongEnough_s = 0.1;
// Short repetitions, some of which nothing disturbs.
constexpr std::uint64_t kBytesPerRepetition = std::uint64_t{1} << 26;
constexpr std::uint64_t kIterations = 1u << 18;  // of the multiply loops, less than a millisecond
constexpr int kAccumulators = 8;                 // more than latency times throughput of any of the instructions

// Work per second of `task`, which every thread runs once, all together doing `work`.
template <class Task>
double best_rate(const Parallel& parallel, double work, Task task) {
  double best = 0.0, total = 0.0;
  for (int i = 0; i < kFewest || total < kLongEnough_s; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for_each_part(parallel, parallel.threads, task);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, work / seconds.count());
    total += seconds.count();
  }
  return best;
}

// ---- Reading --------------------------------------------------------------------------------------------------

// Vectors of `kWidth` bytes; a compiler makes poor code of wider ones than the CPU has.
template <int kWidth>
struct Vector {
  typedef std::uint64_t Type __attribute__((vector_size(kWidth), may_alias));
};

// Inlined into functions for different instruction sets. `bytes` % 256 == 0.
template <int kWidth>
inline __attribute__((always_inline)) std::uint64_t read_vectors(const std::uint8_t* p, std::uint64_t bytes) {
  using V = typename Vector<kWidth>::Type;
  V a{}, b{}, c{}, d{};
  for (std::uint64_t i = 0; i < bytes; i += 4 * kWidth) {
    const auto* line = reinterpret_cast<const V*>(p + i);
    a |= line[0];
    b |= line[1];
    c |= line[2];
    d |= line[3];
  }
  a |= b | c | d;
  std::uint64_t all = 0;
  for (int i = 0; i < kWidth / 8; ++i) all |= a[i];
  return all;
}

std::uint64_t read_baseline(const std::uint8_t* p, std::uint64_t bytes) { return read_vectors<16>(p, bytes); }

using Reader = std::uint64_t (*)(const std::uint8_t*, std::uint64_t);

#if defined(__x86_64__)
__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::uint8_t* p, std::uint64_t bytes) {
  return read_vectors<32>(p, bytes);
}
__attribute__((target("avx512f"))) std::uint64_t read_avx512(const std::uint8_t* p, std::uint64_t bytes) {
  return read_vectors<64>(p, bytes);
}
Reader reader_of(const char* isa) {
  if (std::strcmp(isa, "avx512vnni") == 0) return read_avx512;
  if (std::strncmp(isa, "avx", 3) == 0) return read_avx2;
  return read_baseline;
}
#else
Reader reader_of(const char*) { return read_baseline; }
#endif

// ---- Multiplying ----------------------------------------------------------------------------------------------

struct Multiplier {
  void (*run)(std::uint64_t iterations) = nullptr;
  double macs_per_iteration = 0.0;
};

#if defined(__x86_64__)

// pmaddwd, paddd on int8 that is already widened: eight multiply-adds. The empty asm keeps the products from being
// hoisted.
void multiply_sse2(std::uint64_t iterations) {
  __m128i sums[kAccumulators] = {}, u = _mm_set1_epi16(3), s = _mm_set1_epi16(-5);
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (__m128i& sum : sums) {
      __asm__("" : "+x"(u));
      sum = _mm_add_epi32(sum, _mm_madd_epi16(u, s));
    }
  for (const __m128i& sum : sums) __asm__ volatile("" : : "x"(sum));
}

// vpmaddubsw, vpmaddwd with ones, vpaddd: 32 multiply-adds.
__attribute__((target("avx2"))) void multiply_avx2(std::uint64_t iterations) {
  __m256i sums[kAccumulators] = {}, u = _mm256_set1_epi8(3), s = _mm256_set1_epi8(-5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (__m256i& sum : sums) {
      __asm__("" : "+x"(u));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), ones));
    }
  for (const __m256i& sum : sums) __asm__ volatile("" : : "x"(sum));
}

// vpdpbusd of 256 bits: 32 multiply-adds.
__attribute__((target("avx2,avxvnni"))) void multiply_avxvnni(std::uint64_t iterations) {
  __m256i sums[kAccumulators] = {};
  const __m256i u = _mm256_set1_epi8(3), s = _mm256_set1_epi8(-5);
  for (__m256i& sum : sums) __asm__("" : "+x"(sum));  // or the compiler sees that they are all the same
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (__m256i& sum : sums) sum = _mm256_dpbusd_avx_epi32(sum, u, s);
  for (const __m256i& sum : sums) __asm__ volatile("" : : "x"(sum));
}

// The same of 512 bits: 64.
__attribute__((target("avx512f,avx512vnni"))) void multiply_avx512vnni(std::uint64_t iterations) {
  __m512i sums[kAccumulators] = {};
  const __m512i u = _mm512_set1_epi8(3), s = _mm512_set1_epi8(-5);
  for (__m512i& sum : sums) __asm__("" : "+v"(sum));
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, u, s);
  for (const __m512i& sum : sums) __asm__ volatile("" : : "v"(sum));
}

Multiplier multiplier_of(const char* isa) {
  if (std::strcmp(isa, "avx512vnni") == 0) return {multiply_avx512vnni, 64.0 * kAccumulators};
  if (std::strcmp(isa, "avxvnni") == 0) return {multiply_avxvnni, 32.0 * kAccumulators};
  if (std::strcmp(isa, "avx2") == 0) return {multiply_avx2, 32.0 * kAccumulators};
  if (std::strcmp(isa, "sse2") == 0) return {multiply_sse2, 8.0 * kAccumulators};
  return {};
}

#elif defined(__ARM_NEON)

// smull, smlal2, sadalp: 16 multiply-adds. The empty asm keeps the products from being hoisted.
void multiply_neon(std::uint64_t iterations) {
  int32x4_t sums[kAccumulators] = {};
  int8x16_t a = vdupq_n_s8(3);
  const int8x16_t b = vdupq_n_s8(-5);
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (int32x4_t& sum : sums) {
      __asm__("" : "+w"(a));
      sum = vpadalq_s16(sum, vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vget_high_s8(a), vget_high_s8(b)));
    }
  for (const int32x4_t& sum : sums) __asm__ volatile("" : : "w"(sum));
}

#if defined(__aarch64__)
#if defined(__clang__)
#define HEED_TARGET(extension) __attribute__((target(extension)))
#else
#define HEED_TARGET(extension) __attribute__((target("arch=armv8.2-a+" extension)))
#endif

// Assembly, because not every compiler has these intrinsics in a file that is built for every CPU.
// sdot: 16 multiply-adds.
HEED_TARGET("dotprod") void multiply_dotprod(std::uint64_t iterations) {
  int32x4_t sums[kAccumulators] = {};
  const int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(-5);
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (int32x4_t& sum : sums) __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
  for (const int32x4_t& sum : sums) __asm__ volatile("" : : "w"(sum));
}

// smmla: 32.
HEED_TARGET("i8mm") void multiply_i8mm(std::uint64_t iterations) {
  int32x4_t sums[kAccumulators] = {};
  const int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(-5);
  for (std::uint64_t i = 0; i < iterations; ++i)
    for (int32x4_t& sum : sums) __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
  for (const int32x4_t& sum : sums) __asm__ volatile("" : : "w"(sum));
}
#endif

Multiplier multiplier_of(const char* isa) {
  if (std::strcmp(isa, "neon") == 0) return {multiply_neon, 16.0 * kAccumulators};
#if defined(__aarch64__)
  if (std::strcmp(isa, "dotprod") == 0) return {multiply_dotprod, 16.0 * kAccumulators};
  if (std::strcmp(isa, "i8mm") == 0) return {multiply_i8mm, 32.0 * kAccumulators};
#endif
  return {};
}

#else
Multiplier multiplier_of(const char*) { return {}; }
#endif

struct AlignedDelete {
  void operator()(std::uint8_t* p) const { ::operator delete (p, std::align_val_t{64}); }
};

}  // namespace

double read_bandwidth(const Parallel& parallel, std::uint64_t bytes, const char* isa) {
  const std::uint64_t part = (bytes / parallel.threads + 255) / 256 * 256;
  const std::uint64_t all = part * parallel.threads;
  const std::unique_ptr<std::uint8_t, AlignedDelete> buffer(
      static_cast<std::uint8_t*>(::operator new (static_cast<std::size_t>(all), std::align_val_t{64}, std::nothrow)));
  if (!buffer || all == 0) return 0.0;
  std::memset(buffer.get(), 1, static_cast<std::size_t>(all));
  const std::uint64_t passes = std::max<std::uint64_t>(1, kBytesPerRepetition / all);
  const Reader read = reader_of(isa);
  return best_rate(parallel, static_cast<double>(all) * static_cast<double>(passes), [&](std::uint32_t i) {
    std::uint64_t seen = 0;
    for (std::uint64_t n = 0; n < passes; ++n) {
      seen |= read(buffer.get() + part * i, part);
      __asm__ volatile("" : : "r"(seen) : "memory");
    }
  });
}

double int8_peak(const Parallel& parallel, const char* isa) {
  const Multiplier multiplier = multiplier_of(isa);
  if (!multiplier.run) return 0.0;
  const double work = multiplier.macs_per_iteration * static_cast<double>(kIterations) * parallel.threads;
  return best_rate(parallel, work, [&](std::uint32_t) { multiplier.run(kIterations); });
}

}  // namespace heed::tool
