// SPDX-License-Identifier: Apache-2.0
// tokenizer_folder.cpp: see the header.
#include "quant/readers/tokenizer_folder.hpp"

#include <filesystem>

#include "quant/file.hpp"
#include "quant/readers/gguf_tokenizer.hpp"
#include "quant/readers/llama2c_tokenizer.hpp"
#include "quant/readers/sentencepiece.hpp"
#include "quant/readers/tokenizer_json.hpp"
#include "quant/readers/vocabulary_files.hpp"
#include "quant/recognise.hpp"

namespace heed::quant {
namespace {

using Path = std::filesystem::path;

// Of a folder the first that is there counts.
constexpr const char* kVocabularies[] = {"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt",
                                         "vocab.json"};
constexpr const char* kBeside[] = {"merges.txt", "tokenizer_config.json", "special_tokens_map.json",
                                   "chat_template.jinja"};

constexpr std::size_t kMaxTemplateBytes = 1u << 20;

bool is_there(const Path& path) {
  std::error_code code;
  return std::filesystem::exists(path, code);
}

bool is_folder(const Path& path) {
  std::error_code code;
  return std::filesystem::is_directory(path, code);
}

// Where one of the files of a vocabulary in two lies, the other one.
Path beside(const Path& path, const char* name) { return path.parent_path() / name; }

Error read_json_beside(TokenizerConfig& config, const Path& path, const char* name,
                       Error (*read)(TokenizerConfig&, Span<const std::uint8_t>)) {
  const std::string other = beside(path, name).string();
  if (!is_there(other)) return {};
  SourceFile file;
  if (Error error = file.open(other)) return error;
  return read(config, file.bytes()).about(other);
}

Error read_config(TokenizerConfig& config, const Path& path) {
  if (Error error = read_json_beside(config, path, "tokenizer_config.json", read_tokenizer_config)) return error;
  if (Error error = read_json_beside(config, path, "special_tokens_map.json", read_special_tokens_map)) return error;
  const std::string chat = beside(path, "chat_template.jinja").string();
  SourceFile file;
  if (!is_there(chat)) return {};
  if (Error error = file.open(chat)) return error;
  if (file.bytes().size() > kMaxTemplateBytes) return Error(chat + ": it is longer than 1 MiB");
  config.chat_template.assign(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  return {};
}

Error read_gguf(Vocabulary& vocabulary, TokenizerConfig& config, Span<const std::uint8_t> bytes,
                std::uint32_t vocab_size) {
  GgufMetadata metadata;
  if (Error error = metadata.open(bytes)) return error;
  return read_gguf_tokenizer(vocabulary, config, metadata, vocab_size);
}

// vocab.json and merges.txt, of which `path` is one.
Error read_two_files(Vocabulary& vocabulary, const TokenizerConfig& config, const Path& path,
                     std::uint32_t vocab_size) {
  const std::string vocab = beside(path, "vocab.json").string(), merges = beside(path, "merges.txt").string();
  SourceFile of_vocab, of_merges;
  if (Error error = of_vocab.open(vocab)) return error;
  if (Error error = of_merges.open(merges)) return error;
  return read_vocab_json(vocabulary, of_vocab.bytes(), of_merges.bytes(), config, vocab_size).about(vocab);
}

Error read_file(Vocabulary& vocabulary, TokenizerConfig& config, const Path& path, std::uint32_t vocab_size) {
  const std::string name = path.filename().string();
  if (name == "vocab.json" || name == "merges.txt") {
    if (Error error = read_config(config, path)) return error;
    return read_two_files(vocabulary, config, path, vocab_size);
  }
  SourceFile file;
  if (Error error = file.open(path.string())) return error;
  const VocabularyFile kind = name == "vocab.txt" ? VocabularyFile::word_list : vocabulary_file(file.bytes());
  Error error;
  if (name != "vocab.txt") error = misplaced(file.bytes(), Wanted::vocabulary);
  if (!error && kind != VocabularyFile::gguf && kind != VocabularyFile::unknown)
    if ((error = read_config(config, path))) return error;
  if (error) return error.about(path.string());
  switch (kind) {
    case VocabularyFile::gguf: error = read_gguf(vocabulary, config, file.bytes(), vocab_size); break;
    case VocabularyFile::tokenizer_json:
      error = read_tokenizer_json(vocabulary, file.bytes(), config, vocab_size);
      break;
    case VocabularyFile::sentencepiece: error = read_sentencepiece(vocabulary, file.bytes(), config, vocab_size); break;
    case VocabularyFile::word_list: error = read_vocab_txt(vocabulary, file.bytes(), config, vocab_size); break;
    case VocabularyFile::unknown:
      if (const std::string refused = read_llama2c_tokenizer(vocabulary, file.bytes(), vocab_size); !refused.empty())
        error = Error(refused);
  }
  return error.about(path.string());
}

}  // namespace

Error read_tokenizer(Vocabulary& vocabulary, TokenizerConfig& config, const std::string& path,
                     std::uint32_t vocab_size) {
  config = {};
  if (!is_folder(path)) return read_file(vocabulary, config, path, vocab_size);
  for (const char* name : kVocabularies)
    if (is_there(Path(path) / name)) return read_file(vocabulary, config, Path(path) / name, vocab_size);
  return Error(path + ": this folder has no tokenizer.json, tokenizer.model, vocab.txt, or vocab.json with merges.txt");
}

std::vector<std::string> tokenizer_files(const std::string& path) {
  std::vector<std::string> files{path};
  const Path folder = is_folder(path) ? Path(path) : Path(path).parent_path();
  for (const char* name : kVocabularies) files.push_back((folder / name).string());
  for (const char* name : kBeside) files.push_back((folder / name).string());
  return files;
}

bool has_tokenizer(const std::string& path) {
  if (is_folder(path)) {
    for (const char* name : kVocabularies)
      if (is_there(Path(path) / name)) return true;
    return false;
  }
  SourceFile file;
  GgufMetadata metadata;
  return !file.open(path) && vocabulary_file(file.bytes()) == VocabularyFile::gguf && !metadata.open(file.bytes()) &&
         metadata.find("tokenizer.ggml.tokens");
}

}  // namespace heed::quant
