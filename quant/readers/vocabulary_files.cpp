// SPDX-License-Identifier: Apache-2.0
// vocabulary_files.cpp: both say in several files what a tokenizer.json says in one, so they become one and are read as
// it.
#include "quant/readers/vocabulary_files.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "quant/readers/tokenizer_json_steps.hpp"

namespace heed::quant {
namespace {

// Calls `take` with each line, its number and without its end, until it fails.
template <class Take>
Error each_line(Span<const std::uint8_t> file, const Take& take) {
  std::size_t number = 0;
  for (const std::uint8_t* at = file.begin(); at != file.end(); ++number) {
    const auto left = static_cast<std::size_t>(file.end() - at);
    const void* newline = std::memchr(at, '\n', left);
    std::size_t size = newline ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(newline) - at) : left;
    const std::uint8_t* next = at + size + (newline ? 1 : 0);
    if (size && at[size - 1] == '\r') --size;
    if (Error error = take(number, std::string(reinterpret_cast<const char*>(at), size))) return error;
    at = next;
  }
  return {};
}

std::string named_or(const std::string& name, const char* fallback) { return name.empty() ? fallback : name; }

void add_tokens_of(TokenizerJsonFile& file, const TokenizerConfig& config) {
  for (const auto& [id, token] : config.added_tokens)
    file.added_tokens.push_back(
        {id, token.text, token.special, token.single_word, token.lstrip, token.rstrip, token.normalized});
}

// The number of a name in the vocabulary or among the added tokens.
Error find_id(std::uint32_t& id, const TokenizerJsonFile& file, const std::string& name) {
  for (const TokenizerJsonFile::Entry& entry : file.vocab) {
    if (entry.text != name) continue;
    id = entry.id;
    return {};
  }
  for (const TokenizerJsonFile::AddedToken& token : file.added_tokens) {
    if (token.text != name) continue;
    id = token.id;
    return {};
  }
  return Error("it has no token " + printable(name));
}

// BERT's and RoBERTa's templates differ in their type; both name the tokens in front and behind.
Error add_cls_sep(TokenizerJsonFile& file, const char* type, const std::string& cls, const std::string& sep) {
  std::uint32_t cls_id = 0, sep_id = 0;
  if (Error error = find_id(cls_id, file, cls)) return error;
  if (Error error = find_id(sep_id, file, sep)) return error;
  file.post_processors.push_back(Json::object({{"type", type}, {"cls", {cls, cls_id}}, {"sep", {sep, sep_id}}}));
  return {};
}

// A token that the vocabulary has and that special tokens are to be found by.
void add_special(TokenizerJsonFile& file, const std::string& name) {
  std::uint32_t id = 0;
  const bool known = std::any_of(file.added_tokens.begin(), file.added_tokens.end(),
                                 [&](const TokenizerJsonFile::AddedToken& token) { return token.text == name; });
  if (known || name.empty() || find_id(id, file, name)) return;
  file.added_tokens.push_back({id, name, true});
}

// Classes of transformers that keep vocab.json and merges.txt.
struct Class {
  const char* name;  // without "Fast"
  bool composes;     // and has Qwen 2's splitting rule
  bool cls_sep;      // RoBERTa's template
};
constexpr Class kClasses[] = {
    {"GPT2Tokenizer", false, false},      {"CodeGenTokenizer", false, false}, {"GPTNeoXTokenizer", false, false},
    {"WhisperTokenizer", false, false},   {"RobertaTokenizer", false, true},  {"BartTokenizer", false, true},
    {"LongformerTokenizer", false, true}, {"Qwen2Tokenizer", true, false},
};

constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Error find_class(Class& result, const std::string& name) {
  result = kClasses[0];
  if (name.empty() || name.compare(0, 16, "PreTrainedTokeni") == 0) return {};
  for (const Class& known : kClasses) {
    if (name != known.name && name != std::string(known.name) + "Fast") continue;
    result = known;
    return {};
  }
  return Error("tokenizer_class " + printable(name) + " is not supported without its tokenizer.json");
}

Error read_names(TokenizerJsonFile& file, Span<const std::uint8_t> vocab) {
  Json json;
  if (Error error = parse_json(json, vocab, 2)) return error;
  file.vocab_has_ids = true;
  for (auto item = json.begin(); item != json.end(); ++item) {
    const Json& id = item.value();
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxVocabSize)
      return Error(printable(item.key()) + " has " + shown(id) + ", which is no id");
    file.vocab.push_back({item.key(), 0.0, id.get<std::uint32_t>()});
  }
  return file.vocab.empty() ? Error("it has no tokens") : Error();
}

Error read_merges(TokenizerJsonFile& file, Span<const std::uint8_t> merges) {
  return each_line(merges, [&](std::size_t number, const std::string& line) {
    if (line.empty() || (number == 0 && line.compare(0, 8, "#version") == 0)) return Error();
    const std::size_t space = line.find(' ');
    if (space == 0 || space >= line.size() - 1 || line.find(' ', space + 1) != std::string::npos)
      return Error("line " + std::to_string(number + 1) + " of merges.txt (" + printable(line) + ") is not a pair");
    file.merges.push_back({line.substr(0, space), line.substr(space + 1)});
    return Error();
  });
}

}  // namespace

Error read_vocab_txt(Vocabulary& vocabulary, Span<const std::uint8_t> bytes, const TokenizerConfig& config,
                     std::uint32_t vocab_size) {
  TokenizerJsonFile file;
  file.vocab_has_ids = true;
  if (Error error = each_line(bytes, [&](std::size_t number, const std::string& line) {
        if (number >= vocab_size) return too_many_tokens(number + 1, vocab_size);
        // A line without a name keeps a number that no text has.
        if (!line.empty()) file.vocab.push_back({line, 0.0, static_cast<std::uint32_t>(number)});
        return Error();
      }))
    return error;
  const std::string unk = named_or(config.unk, "[UNK]"), cls = named_or(config.cls, "[CLS]"),
                    sep = named_or(config.sep, "[SEP]");
  const bool lower = said_or(config.do_lower_case, true);
  file.model = Json::object({{"type", "WordPiece"}, {"unk_token", unk}});
  file.normalizers.push_back(Json::object({{"type", "BertNormalizer"},
                                           {"lowercase", lower},
                                           {"strip_accents", said_or(config.strip_accents, lower)},
                                           {"handle_chinese_chars", said_or(config.tokenize_chinese_chars, true)}}));
  file.pre_tokenizers.push_back(Json::object({{"type", "BertPreTokenizer"}}));
  add_tokens_of(file, config);
  for (const std::string& name : {unk, cls, sep, named_or(config.pad, "[PAD]"), named_or(config.mask, "[MASK]")})
    add_special(file, name);
  if (Error error = add_cls_sep(file, "BertProcessing", cls, sep)) return error;
  return read_steps(vocabulary, file, config, vocab_size);
}

Error read_vocab_json(Vocabulary& vocabulary, Span<const std::uint8_t> vocab, Span<const std::uint8_t> merges,
                      const TokenizerConfig& config, std::uint32_t vocab_size) {
  Class of_it{};
  if (Error error = find_class(of_it, config.tokenizer_class)) return error;
  TokenizerJsonFile file;
  if (Error error = read_names(file, vocab)) return error;
  if (Error error = read_merges(file, merges)) return error;
  file.model = Json::object({{"type", "BPE"}});
  if (of_it.composes) {
    file.normalizers.push_back(Json::object({{"type", "NFC"}}));
    file.pre_tokenizers.push_back(Json::object(
        {{"type", "Split"}, {"pattern", {{"Regex", kQwen2Pattern}}}, {"behavior", "Isolated"}, {"invert", false}}));
  }
  file.pre_tokenizers.push_back(Json::object({{"type", "ByteLevel"},
                                              {"add_prefix_space", said_or(config.add_prefix_space, false)},
                                              {"use_regex", !of_it.composes}}));
  add_tokens_of(file, config);
  for (const std::string* name :
       {&config.bos, &config.eos, &config.unk, &config.sep, &config.cls, &config.pad, &config.mask})
    add_special(file, *name);
  if (of_it.cls_sep)
    if (Error error = add_cls_sep(file, "RobertaProcessing", named_or(config.cls, "<s>"), named_or(config.sep, "</s>")))
      return error;
  return read_steps(vocabulary, file, config, vocab_size);
}

}  // namespace heed::quant
