// SPDX-License-Identifier: Apache-2.0
// tokenizer_json_file.hpp: what Hugging Face's tokenizer.json says, as it says it: a model's lists, and the steps in
// front of and behind it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/readers/json.hpp"

namespace heed::quant {

struct TokenizerJsonFile {
  // model.vocab: names and their ids where `vocab_has_ids`, else texts and scores in the order of their ids.
  struct Entry {
    std::string text;
    double score = 0.0;
    std::uint32_t id = 0;
  };
  std::vector<Entry> vocab;
  bool vocab_has_ids = false;

  // model.merges, the first has the highest rank.
  struct Merge {
    std::string left, right;
  };
  std::vector<Merge> merges;

  struct AddedToken {
    std::uint32_t id = 0;
    std::string text;
    bool special = false, single_word = false, lstrip = false, rstrip = false, normalized = false;
  };
  std::vector<AddedToken> added_tokens;

  Json model;  // without vocab and merges
  // Steps in their order; a Sequence's steps stand in its place, so none of these is a Sequence. Each is an object with
  // a text `type`.
  std::vector<Json> normalizers, pre_tokenizers, post_processors, decoders;
};

// Reads a file of any bytes; what it allocates is at most a small multiple of their number. Fails with one line that
// names what is wrong.
Error read_tokenizer_json_file(TokenizerJsonFile& result, Span<const std::uint8_t> file);

// A value of JSON, fit for one line of an error.
std::string shown(const Json& value);

}  // namespace heed::quant
