// SPDX-License-Identifier: Apache-2.0
// cover_inputs.cpp: inputs.json and the arrays of raw little-endian float32 beside it.
#include "tests/covering/cover_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "quant/file.hpp"
#include "quant/readers/json.hpp"

namespace heed::test {
namespace {

using quant::Json;

std::string read_array(std::vector<float>& x, const Json& entry, const std::filesystem::path& folder) {
  quant::SourceFile file;
  if (const quant::Error error = file.open((folder / entry["file"].get<std::string>()).string())) return error.sentence();
  x.resize(file.bytes().size() / sizeof(float));
  std::memcpy(x.data(), file.bytes().data(), x.size() * sizeof(float));
  const std::size_t wanted = entry["rows"].get<std::size_t>() * entry["columns"].get<std::size_t>();
  return x.size() == wanted ? "" : entry.dump() + ": the file has another size";
}

std::string read_sequence(quant::FloatSequence& s, const Json& entry, const std::filesystem::path& folder) {
  if (entry.contains("vectors")) return read_array(s.vectors, entry["vectors"], folder);
  for (const Json& token : entry["tokens"]) s.tokens.push_back(token.get<std::uint32_t>());
  if (entry.contains("token_types"))
    for (const Json& type : entry["token_types"]) s.token_types.push_back(type.get<std::uint8_t>());
  return {};
}

}  // namespace

std::string read_cover_cases(std::vector<CoverCase>& cases, const std::string& path) {
  quant::SourceFile file;
  if (const quant::Error error = file.open(path)) return error.sentence();
  Json json;
  if (const quant::Error error = quant::parse_json(json, file.bytes(), 8)) return error.sentence();
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  for (const Json& entry : json["cases"]) {
    CoverCase c;
    std::string wrong = read_sequence(c.input, entry["input"], folder);
    if (wrong.empty() && entry.contains("source")) wrong = read_sequence(c.source, entry["source"], folder);
    if (wrong.empty()) wrong = read_array(c.expected, entry["expected"], folder);
    if (!wrong.empty()) return wrong;
    c.rows = entry["expected"]["rows"].get<std::size_t>();
    c.columns = entry["expected"]["columns"].get<std::size_t>();
    cases.push_back(std::move(c));
  }
  return {};
}

double largest_difference(const CoverCase& expected, Span<const float> outputs) {
  if (outputs.size() != expected.expected.size()) return INFINITY;
  double difference = 0.0, largest = 0.0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const double off = std::fabs(double{outputs[i]} - expected.expected[i]);
    difference = off <= difference ? difference : off;  // a NaN counts
    largest = std::fmax(largest, std::fabs(double{expected.expected[i]}));
  }
  return difference / largest;
}

double cosine_of(const float* a, const float* b, std::size_t n) {
  double product = 0.0, of_a = 0.0, of_b = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    product += double{a[i]} * b[i];
    of_a += double{a[i]} * a[i];
    of_b += double{b[i]} * b[i];
  }
  const double cosine = of_a > 0.0 && of_b > 0.0 ? product / std::sqrt(of_a * of_b) : of_a == of_b ? 1.0 : 0.0;
  return cosine == cosine ? cosine : 0.0;
}

std::vector<double> cosines(const CoverCase& expected, Span<const float> outputs) {
  std::vector<double> all(expected.rows, 0.0);
  if (outputs.size() != expected.expected.size()) return all;
  for (std::size_t row = 0; row < expected.rows; ++row)
    all[row] = cosine_of(&outputs[row * expected.columns], &expected.expected[row * expected.columns], expected.columns);
  return all;
}

std::size_t same_largest(const CoverCase& expected, Span<const float> outputs) {
  std::size_t same = 0;
  for (std::size_t row = 0; row < expected.rows; ++row) {
    const float *const a = &outputs[row * expected.columns], *const b = &expected.expected[row * expected.columns];
    same += std::max_element(a, a + expected.columns) - a == std::max_element(b, b + expected.columns) - b;
  }
  return same;
}

}  // namespace heed::test
