// SPDX-License-Identifier: Apache-2.0
// case.hpp: one random computation that every kernel table and the oracle of tests/reference can do, from a seed.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/kernels.hpp"
#include "runtime/span.hpp"
#include "tests/support/random.hpp"

namespace heed::differential {

using test::Random;

// The bits of everything that a case gives, in an order of its own. What a run did not look at is kUnseen.
using Words = std::vector<std::uint64_t>;
inline constexpr std::uint64_t kUnseen = ~std::uint64_t{0};

struct Case {
  virtual ~Case() = default;
  virtual bool takes(const Kernels&) const { return true; }
  // `how` picks what must not matter: where calls are cut, chunks, threads, ranges of rows.
  virtual Words run(const Kernels& kernels, Random& how) const = 0;
  virtual Words oracle() const = 0;
};

struct CaseKind {
  const char* name;
  std::unique_ptr<Case> (*make)(std::uint64_t seed);
  std::uint32_t share;  // of a hundred cases
};
Span<const CaseKind> case_kinds();

std::unique_ptr<Case> make_quantise(std::uint64_t seed);
std::unique_ptr<Case> make_norm(std::uint64_t seed);
std::unique_ptr<Case> make_gate(std::uint64_t seed);
std::unique_ptr<Case> make_product(std::uint64_t seed);
std::unique_ptr<Case> make_attention(std::uint64_t seed);
std::unique_ptr<Case> make_sampling(std::uint64_t seed);
std::unique_ptr<Case> make_digest(std::uint64_t seed);
std::unique_ptr<Case> make_model(std::uint64_t seed);

}  // namespace heed::differential
