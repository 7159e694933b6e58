// SPDX-License-Identifier: Apache-2.0
// generated_text.cpp: looking for stop texts in what comes in pieces.
#include "examples/heed/generated_text.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "examples/heed/refusal.hpp"

namespace heed::tool {

std::string StopFilter::push(const char* bytes, std::size_t n) {
  if (stopped_) return {};
  waiting_.append(bytes, n);
  std::size_t ready = waiting_.size();
  for (const std::string& stop : stops_) {
    const std::size_t at = waiting_.find(stop);
    if (at == std::string::npos) continue;
    stopped_ = true;
    ready = std::min(ready, at);
  }
  // The longest end that is the beginning of a stop text waits.
  for (const std::string& stop : stops_) {
    if (stopped_) break;
    for (std::size_t k = std::min(stop.size() - 1, waiting_.size()); k > 0; --k) {
      if (waiting_.compare(waiting_.size() - k, k, stop, 0, k) != 0) continue;
      ready = std::min(ready, waiting_.size() - k);
      break;
    }
  }
  std::string out = waiting_.substr(0, ready);
  waiting_.erase(0, ready);
  return out;
}

std::string StopFilter::finish() { return stopped_ ? std::string() : std::exchange(waiting_, {}); }

GeneratedText::GeneratedText(const Tokenizer& tokenizer, std::vector<std::string> stops, bool show)
    : tokenizer_(tokenizer), filter_(std::move(stops)), show_(show), buffer_(StreamDecoder::out_bytes(tokenizer)) {}

std::uint32_t GeneratedText::decode(Token token) {
  std::uint32_t n = 0;
  require(decoder_.push(n, tokenizer_, token, buffer_), "text");
  return n;
}

void GeneratedText::push_prompt(Token token) { put(buffer_.data(), decode(token)); }

void GeneratedText::push(Token token) {
  const std::uint32_t n = decode(token);
  const std::string out = filter_.push(buffer_.data(), n);
  put(out.data(), out.size());
}

void GeneratedText::finish() {
  char rest[3];
  const std::uint32_t n = decoder_.flush(rest);
  const std::string out = filter_.push(rest, n) + filter_.finish();
  put(out.data(), out.size());
}

void GeneratedText::put(const char* bytes, std::size_t n) {
  text_.append(bytes, n);
  if (!show_ || n == 0) return;
  std::fwrite(bytes, 1, n, stdout);
  std::fflush(stdout);
}

}  // namespace heed::tool
