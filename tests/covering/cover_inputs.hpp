// SPDX-License-Identifier: Apache-2.0
// cover_inputs.hpp: the cases that tests/reference/description_model.py writes beside a description.
#pragma once
#include <string>
#include <vector>

#include "quant/float_stack.hpp"

namespace heed::test {

struct CoverCase {
  quant::FloatSequence input, source;
  std::size_t rows = 0, columns = 0;  // of `expected`
  std::vector<float> expected;        // [rows, columns], of an implementation that is not ours
};

// Empty, or what is wrong with the file.
std::string read_cover_cases(std::vector<CoverCase>& cases, const std::string& path);

// The largest difference, as a share of the largest expected magnitude.
double largest_difference(const CoverCase& expected, Span<const float> outputs);
// The cosine of two vectors; 0 where a number is a NaN or only one of them is zero, 1 where both are.
double cosine_of(const float* a, const float* b, std::size_t n);
// The cosine of each row of `outputs` with the expected one; 0 for all where the shapes differ or a number is a NaN.
std::vector<double> cosines(const CoverCase& expected, Span<const float> outputs);

// How many rows of `outputs` are largest where the expected ones are. Precondition: the same shape.
std::size_t same_largest(const CoverCase& expected, Span<const float> outputs);

}  // namespace heed::test
