// SPDX-License-Identifier: Apache-2.0
// calibration_inputs.cpp: numbers in F32, tokens among them as whole numbers.
#include "quant/calibration_inputs.hpp"

#include "quant/readers/safetensors.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

Error refuse_inputs(const std::string& path, const std::string& why) { return Error(path + ": inputs " + why); }

}  // namespace

Error read_inputs(std::vector<FloatSequence>& sequences, const StackConfig& c, const std::string& path) {
  SourceFile file;
  if (Error error = file.open(path)) return error;
  SafeTensors tensors;
  if (Error error = tensors.open(file.bytes())) return error.about(path);
  const SafeTensor* t = tensors.find("inputs");
  if (!t) return Error(path + ": tensor inputs is missing");
  std::vector<float> x;
  if (Error error = read_floats(x, *t)) return error.about(path);
  const bool tokens = c.input == Input::tokens;
  const std::uint64_t width = tokens ? 1 : c.input_width();
  std::vector<std::uint64_t> shape = t->shape;
  if (tokens) shape.push_back(1);
  if (shape.size() == 2) shape.insert(shape.begin(), 1);
  if (shape.size() != 3 || shape[2] != width || x.empty())
    return refuse_inputs(path, "has the shape " + shape_text(t->shape) + ", not " +
                                   (tokens ? "[sequences, tokens]" : "[sequences, positions, " + std::to_string(width) + "]"));
  const std::size_t n = static_cast<std::size_t>(shape[1] * width);
  for (std::size_t at = 0; at < x.size(); at += n) {
    FloatSequence s;
    for (std::size_t i = at; i < at + n; ++i) {
      if (!(x[i] >= -kLargest && x[i] <= kLargest)) return refuse_inputs(path, "has a number that is not finite or above 2^40");
      if (!tokens) s.vectors.push_back(x[i]);
      if (!tokens) continue;
      const bool is_token = x[i] >= 0.0f && x[i] < static_cast<float>(c.vocab_size) &&
                            static_cast<float>(static_cast<std::uint32_t>(x[i])) == x[i];
      if (!is_token) return refuse_inputs(path, "has a number that is no token");
      s.tokens.push_back(static_cast<std::uint32_t>(x[i]));
    }
    const std::uint32_t positions = positions_of(c, s);
    if (positions == 0 || positions > c.max_seq)
      return refuse_inputs(path, "has sequences of more than max_seq " + std::to_string(c.max_seq) + " positions");
    sequences.push_back(std::move(s));
  }
  return {};
}

}  // namespace heed::quant
