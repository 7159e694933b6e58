// SPDX-License-Identifier: Apache-2.0
// generated_text.hpp: tokens as text while they come: whole characters only, and nothing of a text that ends the run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/tokenizer.hpp"

namespace heed::tool {

// Gives out a text up to the first of some stop texts. What may be the beginning of one waits until it is known.
class StopFilter {
 public:
  // `stops`: none is empty.
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // What of the text can be given out after these bytes. After a stop text nothing more comes.
  std::string push(const char* bytes, std::size_t n);
  // At the end: what still waits is no stop text.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string waiting_;  // shorter than the longest stop text
  bool stopped_ = false;
};

// Collects what a run gives out, and shows it as it comes.
class GeneratedText {
 public:
  GeneratedText(const Tokenizer& tokenizer, std::vector<std::string> stops, bool show);

  // Of the prompt, in which no stop text is looked for.
  void push_prompt(Token token);
  void push(Token token);
  void finish();
  bool stopped() const { return filter_.stopped(); }
  const std::string& all() const { return text_; }

 private:
  std::uint32_t decode(Token token);
  void put(const char* bytes, std::size_t n);

  const Tokenizer& tokenizer_;
  StopFilter filter_;
  bool show_;
  std::vector<char> buffer_;
  StreamDecoder decoder_;
  std::string text_;
};

}  // namespace heed::tool
