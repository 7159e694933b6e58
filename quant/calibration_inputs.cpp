// SPDX-License-Identifier: Apache-2.0
// calibration_inputs.cpp: numbers in F32, tokens among them as whole numbers.
#include "quant/calibration_inputs.hpp"

#include <algorithm>

#include "quant/probes.hpp"
#include "quant/readers/safetensors.hpp"
#include "runtime/numerics.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

Error refuse_inputs(const std::string& path, const std::string& why) { return Error(path + ": inputs " + why); }

// A piece of about `bytes` bytes that ends with a line, or where no line ends with a character.
std::size_t end_of_piece(Span<const char> text, std::size_t begin, std::size_t bytes) {
  if (text.size() - begin <= bytes) return text.size();
  std::size_t end = begin + bytes;
  while (end > begin + bytes / 2 && text[end - 1] != '\n') --end;
  if (text[end - 1] == '\n') return end;
  end = begin + bytes;
  while (end > begin + 1 && (text[end] & 0xC0) == 0x80) --end;
  return end;
}

Error encode(std::vector<std::uint32_t>& tokens, const Tokenizer& tokenizer, Span<const char> text, std::size_t at) {
  std::vector<Token> found(Tokenizer::max_tokens(text.size()));
  std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(text.size()) / sizeof(std::uint32_t) + 1);
  std::uint32_t n = 0;
  const Status status = tokenizer.encode(n, text, {false, false}, found,
                                         {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
  if (status == Status::text_not_expressible)
    return Error("the vocabulary has no token for byte " + std::to_string(at + n));
  if (status != Status::ok) return Error(to_string(status));
  tokens.insert(tokens.end(), found.begin(), found.begin() + n);
  return {};
}

}  // namespace

bool are_inputs(Span<const std::uint8_t> bytes) { return bytes.size() > 8 && bytes[8] == '{' && bytes[7] == 0; }

Error read_texts(std::vector<FloatSequence>& sequences, const FloatModel& model, Span<const std::uint8_t> section,
                 const std::string& path) {
  const StackConfig& c = model.config.source();
  SourceFile file;
  if (Error error = file.open(path)) return error;
  if (c.input != Input::tokens) return Error(path + ": a text, but the model reads vectors; a safetensors file has those");
  Tokenizer tokenizer;
  if (section.empty()) return Error(path + ": a text, but the model has no tokenizer to read it with");
  if (open(tokenizer, section, c.vocab_size) != Status::ok) return Error(path + ": the tokenizer cannot be used");
  const Span<const char> text{reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  const bool generates = c.use == Use::generate;
  const std::uint32_t room = std::min(c.max_seq - std::min(c.n_class_vectors, c.max_seq - 1), kLongestProbe);
  std::vector<std::uint32_t> begin;
  if (generates) begin = model.generation.first;
  if (generates && begin.empty() && model.bos < c.vocab_size) begin = {model.bos};
  const std::size_t bytes = std::size_t{4} * room, stride = std::max(bytes, text.size() / kMostTexts);
  for (std::size_t at = 0; at < text.size() && sequences.size() < kMostTexts;) {
    std::size_t end = end_of_piece(text, at, bytes);
    if (!generates) end = static_cast<std::size_t>(std::find(text.begin() + at, text.end(), '\n') - text.begin());
    FloatSequence s;
    s.tokens = begin;
    if (Error error = encode(s.tokens, tokenizer, text.subspan(at, end - at), at)) return error.about(path);
    if (s.tokens.size() > room) s.tokens.resize(room);
    if (s.tokens.size() > begin.size()) sequences.push_back(std::move(s));
    // Of a long text as many pieces as wanted, all over it.
    at = !generates ? end + 1 : stride == bytes ? end : end_of_piece(text, at, stride);
  }
  if (sequences.empty()) return Error(path + ": no text in it");
  return {};
}

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
