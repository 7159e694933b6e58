// SPDX-License-Identifier: Apache-2.0
// special_tokens.cpp: what a text begins with, what ends it, and what is never picked: generation_config.json, and config.json
// where that says nothing.
#include "quant/readers/special_tokens.hpp"

#include <algorithm>

#include "quant/readers/fields.hpp"

namespace heed::quant {
namespace {

constexpr std::size_t kMaxListed = 65536;

class Reader {
 public:
  Reader(const Json& generation, const Json& config, std::uint32_t vocab_size, Error& error)
      : of_generation_(generation, "generation_config.json: ", error), of_config_(config, "config.json: ", error),
        vocab_size_(vocab_size) {}

  // A token, or several: the field of generation_config.json, or of config.json. False where neither has it.
  bool tokens(std::vector<std::uint32_t>& out, const char* name) {
    out.clear();
    for (Fields* in : {&of_generation_, &of_config_}) {
      if (!in->has(name)) continue;
      if (in->value(name).is_array())
        out = in->sizes(name, kMaxListed, 0, vocab_size_ - 1);
      else
        out = {in->size(name, 0, vocab_size_ - 1)};
      return true;
    }
    return false;
  }
  // The last number of pairs [position, token] for the positions from 1 on; a null token ends them.
  std::vector<std::uint32_t> forced(const char* name) {
    std::vector<std::uint32_t> found;
    Fields* in = of_generation_.has(name) ? &of_generation_ : &of_config_;
    if (!in->has(name)) return found;
    const Json& pairs = in->value(name);
    for (const Json& pair : pairs) {
      const bool is_pair = pair.is_array() && pair.size() == 2 && pair[0] == found.size() + 1;
      if (!is_pair || pair[1].is_null()) return found;
      if (!pair[1].is_number_unsigned() || pair[1].get<std::uint64_t>() >= vocab_size_) {
        in->refuse(name, "is no list of positions and tokens");
        return found;
      }
      found.push_back(pair[1].get<std::uint32_t>());
    }
    return found;
  }
  // Of bad_words_ids those that are one token; longer ones are sequences, which an image cannot suppress.
  void bad_words(std::vector<std::uint32_t>& out) {
    Fields* in = of_generation_.has("bad_words_ids") ? &of_generation_ : &of_config_;
    if (!in->has("bad_words_ids")) return;
    for (const Json& word : in->value("bad_words_ids")) {
      if (!word.is_array() || word.size() != 1 || !word[0].is_number_unsigned() ||
          word[0].get<std::uint64_t>() >= vocab_size_)
        return in->refuse("bad_words_ids", "is no list of single tokens");
      out.push_back(word[0].get<std::uint32_t>());
    }
  }

 private:
  Fields of_generation_, of_config_;
  const std::uint32_t vocab_size_;
};

void append_new(std::vector<std::uint32_t>& to, const std::vector<std::uint32_t>& more) {
  for (const std::uint32_t token : more)
    if (std::find(to.begin(), to.end(), token) == to.end()) to.push_back(token);
}

}  // namespace

Error read_special_tokens(FloatModel& model, const Json& generation, const Json& config) {
  const StackConfig& c = model.config.main();
  if (c.use != Use::generate) return {};
  Error error;
  Reader in(generation, config, c.vocab_size, error);
  std::vector<std::uint32_t> found;
  if (in.tokens(found, "bos_token_id")) model.bos = found.empty() ? kNoSourceToken : found[0];
  if (in.tokens(found, "eos_token_id")) model.eos = found.empty() ? kNoSourceToken : found[0];
  Generation& g = model.generation;
  if (found.size() > 1) g.endings = found;
  if (model.config.n_stacks == 2) {
    if (in.tokens(found, "decoder_start_token_id") && !found.empty()) model.bos = found[0];
    if (model.bos == kNoSourceToken && !error) return Error("config.json: decoder_start_token_id is missing");
    g.first = {model.bos};
    if (in.tokens(found, "forced_bos_token_id")) g.first.insert(g.first.end(), found.begin(), found.end());
    const std::vector<std::uint32_t> forced = in.forced("forced_decoder_ids");
    if (g.first.size() == 1) g.first.insert(g.first.end(), forced.begin(), forced.end());
    if (g.endings.empty() && model.eos != kNoSourceToken) g.endings = {model.eos};
  }
  if (in.tokens(found, "suppress_tokens")) append_new(g.suppressed, found);
  in.bad_words(g.suppressed);
  return error;
}

}  // namespace heed::quant
