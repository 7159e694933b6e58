// SPDX-License-Identifier: Apache-2.0
// tokenizer_file_test.cpp: small files of every kind of tokenizer give the vocabulary that they say; what heed does not
// do is refused by name. The files are the fuzzer's seeds.
#include <cstring>
#include <fstream>
#include <iterator>

#include "quant/readers/base64.hpp"
#include "quant/readers/gguf_tokenizer.hpp"
#include "quant/readers/json.hpp"
#include "quant/readers/sentencepiece.hpp"
#include "quant/readers/splitting_rules.hpp"
#include "quant/readers/tokenizer_json.hpp"
#include "quant/readers/vocabulary_files.hpp"
#include "quant/readers/vocabulary_parts.hpp"
#include "tests/support/catch.hpp"

using namespace heed;
using namespace heed::quant;

namespace {

constexpr std::uint32_t kVocabSize = 300;

// tests/fuzz/fuzz_tokenizer_file.cpp says what its input is.
struct Seed {
  std::uint8_t kind = 0;
  std::string beside, file;

  explicit Seed(const std::string& name) {
    std::ifstream stream(HEED_SOURCE_DIR "/tests/fuzz/corpus/tokenizer_file/" + name, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    REQUIRE(all.size() > 3);
    kind = static_cast<std::uint8_t>(all[0]) & 7;
    const std::size_t split =
        static_cast<unsigned char>(all[1]) + 256 * std::size_t{static_cast<unsigned char>(all[2])};
    beside = all.substr(3, split);
    file = all.substr(3 + split);
  }
};

// An exact copy on the heap, so that a sanitizer sees every read beyond it.
struct Bytes {
  std::vector<std::uint8_t> memory;
  explicit Bytes(const std::string& text) : memory(text.begin(), text.end()) { memory.shrink_to_fit(); }
  operator Span<const std::uint8_t>() const { return {memory.data(), memory.size()}; }
};

Error read(Vocabulary& vocabulary, const Seed& seed, std::uint32_t vocab_size = kVocabSize) {
  const Bytes file(seed.file), beside(seed.beside);
  TokenizerConfig config;
  if (seed.kind != 3 && !seed.beside.empty())
    if (Error error = read_tokenizer_config(config, beside)) return error;
  GgufMetadata metadata;
  switch (seed.kind) {
    case 0: return read_tokenizer_json(vocabulary, file, config, vocab_size);
    case 1: return read_sentencepiece(vocabulary, file, config, vocab_size);
    case 2: return read_vocab_txt(vocabulary, file, config, vocab_size);
    case 3: return read_vocab_json(vocabulary, file, beside, config, vocab_size);
    default: break;
  }
  if (Error error = metadata.open(file)) return error;
  return read_gguf_tokenizer(vocabulary, config, metadata, vocab_size);
}

Vocabulary vocabulary_of(const std::string& name) {
  Vocabulary vocabulary;
  const Error error = read(vocabulary, Seed(name));
  INFO(name << ": " << error.sentence());
  REQUIRE_FALSE(error);
  REQUIRE(vocabulary.pieces.size() == kVocabSize);
  return vocabulary;
}

std::string refusal(const Seed& seed, std::uint32_t vocab_size = kVocabSize) {
  Vocabulary vocabulary;
  return read(vocabulary, seed, vocab_size).sentence();
}

// The refusal of a tokenizer.json with one value changed.
std::string refusal(const std::string& name, const std::string& pointer, const Json& value) {
  Seed seed(name);
  Json json = Json::parse(seed.file);
  json[Json::json_pointer(pointer)] = value;
  seed.file = json.dump();
  return refusal(seed);
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

using Tokens = std::vector<Token>;

std::vector<std::string> texts_of(const Vocabulary& vocabulary, const Tokens& tokens) {
  std::vector<std::string> texts;
  for (const Token token : tokens) texts.push_back(vocabulary.pieces[static_cast<std::size_t>(token)].bytes);
  return texts;
}
using Texts = std::vector<std::string>;

Token find(const Vocabulary& vocabulary, const std::string& bytes) {
  for (std::size_t i = 0; i < vocabulary.pieces.size(); ++i)
    if (vocabulary.pieces[i].bytes == bytes) return static_cast<Token>(i);
  return kNoToken;
}

const VocabPiece& piece(const Vocabulary& vocabulary, const std::string& bytes) {
  const Token token = find(vocabulary, bytes);
  REQUIRE(token != kNoToken);
  return vocabulary.pieces[static_cast<std::size_t>(token)];
}

}  // namespace

TEST_CASE("tokenizer.json: byte-level BPE with each splitting rule") {
  const Vocabulary gpt2 = vocabulary_of("gpt2");
  CHECK(gpt2.kind == TokenizerKind::byte_pairs);
  CHECK(gpt2.split == SplitRule::gpt2);
  CHECK_FALSE(gpt2.whole_words);
  CHECK_FALSE(gpt2.compose);
  CHECK_FALSE(gpt2.prefix_space);
  CHECK(gpt2.has_template);
  CHECK(gpt2.text_template.before.empty());
  CHECK(gpt2.text_template.after.empty());
  CHECK(gpt2.bos == find(gpt2, "<|end|>"));
  CHECK(gpt2.eos == gpt2.bos);
  REQUIRE(gpt2.added.size() == 1);
  CHECK(gpt2.added[0].special);
  REQUIRE(gpt2.merges.size() == 4);
  CHECK(gpt2.merges[2].left == find(gpt2, " a"));
  CHECK(gpt2.merges[2].right == find(gpt2, "bc"));
  CHECK_FALSE(piece(gpt2, " abc").control);
  CHECK(find(gpt2, "\n") != kNoToken);
  CHECK(piece(gpt2, "<|end|>").control);

  const Vocabulary llama3 = vocabulary_of("llama3");
  CHECK(llama3.split == SplitRule::llama3);
  CHECK(llama3.whole_words);
  CHECK(llama3.compose);
  CHECK(texts_of(llama3, llama3.text_template.before) == Texts{"<s>"});
  CHECK(llama3.text_template.after.empty());
  CHECK(llama3.text_template.between.empty());
  CHECK(llama3.bos == find(llama3, "<s>"));
  REQUIRE(llama3.added.size() == 2);
  CHECK_FALSE(llama3.added[1].special);
  CHECK(llama3.added[1].strip_left);
  CHECK_FALSE(llama3.added[1].strip_right);

  const Vocabulary roberta = vocabulary_of("roberta");
  CHECK(texts_of(roberta, roberta.text_template.before) == Texts{"<s>"});
  CHECK(texts_of(roberta, roberta.text_template.after) == Texts{"</s>"});
  CHECK(texts_of(roberta, roberta.text_template.between) == Texts{"</s>", "</s>"});
  CHECK_FALSE(roberta.text_template.second_type);

  CHECK(vocabulary_of("smollm").split == SplitRule::gpt2_digits);
  CHECK(vocabulary_of("vocab_json").merges.size() == 4);
}

TEST_CASE("tokenizer.json: SentencePiece BPE and unigram") {
  const Vocabulary llama2 = vocabulary_of("llama2");
  CHECK(llama2.kind == TokenizerKind::merges);
  CHECK(llama2.prefix_space);
  CHECK(llama2.visible_space);
  CHECK_FALSE(llama2.collapse_spaces);
  CHECK(llama2.unk == 0);
  CHECK(llama2.bos == 1);
  CHECK(llama2.eos == 2);
  CHECK(llama2.byte_count == 0);
  CHECK(llama2.text_template.before == Tokens{1});
  CHECK(llama2.text_template.after.empty());
  // By the first of the merges that make them; pieces that none makes never merge.
  CHECK(piece(llama2, " a").score == 0.0f);
  CHECK(piece(llama2, " ab").score == -1.0f);
  CHECK(piece(llama2, "ab").score == -3.0f);
  CHECK(piece(llama2, "a").score < -1e10f);
  CHECK(llama2.fresh_text);
  CHECK_FALSE(vocabulary_of("gemma").prefix_space);
  CHECK_FALSE(vocabulary_of("gemma").fresh_text);

  const Vocabulary t5 = vocabulary_of("t5");
  CHECK(t5.kind == TokenizerKind::unigram);
  CHECK(t5.collapse_spaces);
  CHECK(t5.prefix_space);
  CHECK(t5.charsmap.size() == 9);
  CHECK(t5.unk == 2);
  CHECK(t5.eos == 1);
  CHECK(t5.text_template.after == Tokens{1});
  CHECK(piece(t5, " a").score == -2.5f);
  CHECK(vocabulary_of("unigram_strip").collapse_spaces);
}

TEST_CASE("tokenizer.json: pairs of runs stand mingled, and the runs share a rank") {
  Seed seed("llama2");
  Json json = Json::parse(seed.file);
  json["model"]["vocab"] =
      Json::parse(R"({"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "▁▁": 4, "▁▁▁": 5, "▁▁▁▁": 6, "a": 7})");
  json["model"]["merges"] = Json::parse(R"(["▁▁▁ ▁", "▁▁ ▁▁", "▁▁ ▁", "▁ ▁▁▁", "▁ ▁▁", "▁ ▁"])");
  seed.file = json.dump();
  Vocabulary vocabulary;
  const Error error = read(vocabulary, seed);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  CHECK(piece(vocabulary, "    ").score == 0.0f);
  CHECK(piece(vocabulary, "   ").score == 0.0f);
  CHECK(piece(vocabulary, "  ").score == -5.0f);
}

TEST_CASE("tokenizer.json: Whisper's texts have nothing around them") {
  Seed seed("llama3");
  std::string& file = seed.file;
  for (std::size_t at; (at = file.find("<s>")) != std::string::npos;) file.replace(at, 3, "<|startoftranscript|>");
  Vocabulary vocabulary;
  REQUIRE_FALSE(read(vocabulary, seed));
  CHECK(vocabulary.text_template.before.empty());
  CHECK(vocabulary.bos == kNoToken);
  CHECK(find(vocabulary, "<|startoftranscript|>") != kNoToken);
}

TEST_CASE("tokenizer.json and vocab.txt: WordPiece") {
  const Vocabulary bert = vocabulary_of("bert");
  CHECK(bert.kind == TokenizerKind::word_pieces);
  CHECK(bert.lower_case);
  CHECK(bert.strip_accents);
  CHECK(bert.split_cjk);
  CHECK(bert.clean_text);
  CHECK(bert.unk == 1);
  CHECK(bert.text_template.before == Tokens{2});
  CHECK(bert.text_template.between == Tokens{3});
  CHECK(bert.text_template.after == Tokens{3});
  CHECK(bert.text_template.second_type);
  CHECK(piece(bert, "b").continues);
  CHECK_FALSE(piece(bert, "a").continues);
  CHECK_FALSE(piece(bert, "a").control);
  CHECK(piece(bert, "[CLS]").control);
  CHECK(bert.added.size() == 4);

  const Vocabulary lines = vocabulary_of("vocab_txt");
  CHECK_FALSE(lines.lower_case);
  CHECK_FALSE(lines.strip_accents);
  CHECK(lines.unk == 1);
  CHECK(lines.text_template.before == bert.text_template.before);
  CHECK(lines.text_template.between == bert.text_template.between);
  CHECK(lines.text_template.second_type);
  for (std::size_t i = 0; i < 11; ++i) {
    CHECK(lines.pieces[i].bytes == bert.pieces[i].bytes);
    CHECK(lines.pieces[i].continues == bert.pieces[i].continues);
  }
}

TEST_CASE("SentencePiece models: pieces by type, normaliser, template by class") {
  const Vocabulary bpe = vocabulary_of("spm_bpe");
  CHECK(bpe.kind == TokenizerKind::merges);
  CHECK(bpe.prefix_space);
  CHECK_FALSE(bpe.collapse_spaces);
  CHECK(bpe.unk == 0);
  CHECK(bpe.bos == 1);
  CHECK(bpe.eos == 2);
  CHECK(bpe.pieces[0].bytes == " \xE2\x81\x87 ");
  CHECK(piece(bpe, " a").score == -4.0f);
  CHECK(piece(bpe, "<x>").control);
  REQUIRE(bpe.added.size() == 3);
  CHECK(bpe.added[0].special);
  CHECK_FALSE(bpe.added[2].special);  // user defined
  CHECK(bpe.text_template.before == Tokens{1});

  const Vocabulary unigram = vocabulary_of("spm_unigram");
  CHECK(unigram.kind == TokenizerKind::unigram);
  CHECK(unigram.collapse_spaces);  // what a file says nothing about
  CHECK(unigram.charsmap.size() == 9);
  CHECK(unigram.text_template.before.empty());
  CHECK(unigram.text_template.after == Tokens{2});
  CHECK(unigram.pieces[8].bytes == "<extra_id_0>");

  const Vocabulary bytes = vocabulary_of("spm_bytes");
  CHECK(bytes.first_byte == 3);
  CHECK(bytes.byte_count == 256);
  CHECK(bytes.pieces[3 + 0x41].bytes == "A");
}

TEST_CASE("GGUF: the four kinds of vocabulary are those of the files they came from") {
  const Vocabulary llama = vocabulary_of("gguf_llama"), spm = vocabulary_of("spm_bpe");
  CHECK(llama.kind == spm.kind);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(llama.pieces[i].bytes == spm.pieces[i].bytes);
    CHECK(llama.pieces[i].score == spm.pieces[i].score);
    CHECK(llama.pieces[i].control == spm.pieces[i].control);
  }
  CHECK(llama.bos == 1);
  CHECK(llama.text_template.before == Tokens{1});
  CHECK_FALSE(llama.collapse_spaces);

  const Vocabulary t5 = vocabulary_of("gguf_t5");
  CHECK(t5.kind == TokenizerKind::unigram);
  CHECK(t5.collapse_spaces);
  CHECK(t5.charsmap.size() == 9);
  CHECK(t5.text_template.after == Tokens{2});

  const Vocabulary bpe = vocabulary_of("gguf_gpt2"), gpt2 = vocabulary_of("gpt2");
  CHECK(bpe.split == SplitRule::llama3);
  CHECK(bpe.whole_words);
  CHECK(bpe.merges.size() == gpt2.merges.size());
  CHECK(bpe.bos == find(bpe, "<|end|>"));
  CHECK(bpe.text_template.before == Tokens{bpe.bos});
  for (std::size_t i = 0; i < kVocabSize; ++i) CHECK(bpe.pieces[i].bytes == gpt2.pieces[i].bytes);

  const Vocabulary bert = vocabulary_of("gguf_bert"), words = vocabulary_of("bert");
  CHECK(bert.lower_case);
  CHECK(bert.text_template.before == words.text_template.before);
  CHECK(bert.text_template.after == words.text_template.after);
  CHECK(bert.text_template.second_type);
  for (std::size_t i = 0; i < 11; ++i) {
    CHECK(bert.pieces[i].bytes == words.pieces[i].bytes);
    CHECK(bert.pieces[i].continues == words.pieces[i].continues);
  }
}

TEST_CASE("tokenizer.json: what is not supported is named with its value") {
  struct Case {
    const char *seed, *pointer, *value, *words;
  };
  for (const Case& c : {
           Case{"gpt2", "/model/type", R"("WordLevel")", R"(model.type "WordLevel" is not supported)"},
           {"gpt2", "/model/dropout", "0.1", "model.dropout 0.1 is not supported"},
           {"gpt2", "/model/end_of_word_suffix", R"("</w>")", R"(model.end_of_word_suffix "</w>" is not supported)"},
           {"gpt2", "/normalizer", R"({"type": "NFKC"})", "normalizer NFKC is not supported here"},
           {"gpt2", "/pre_tokenizer", R"({"type": "Whitespace"})", "pre_tokenizer Whitespace is not supported here"},
           {"gpt2", "/pre_tokenizer", "null", "neither normalizer nor pre_tokenizer"},
           {"gpt2", "/post_processor", R"({"type": "Odd"})", "post_processor Odd is not supported here"},
           {"gpt2", "/decoder", R"({"type": "CTC"})", "decoder CTC is not supported here"},
           {"gpt2", "/model/unk_token", R"("<none>")", R"(model.unk_token "<none>" is no token)"},
           {"gpt2", "/model/merges/0", R"("a")", R"(model.merges has the entry "a", which is not a pair)"},
           {"gpt2", "/model/merges/0", R"("e f")", R"(model.merges has "e f", whose halves or whole are no tokens)"},
           {"gpt2", "/model/vocab/a", "-1", "model.vocab has the entry a: -1"},
           {"gpt2", "/model/vocab/a", "2", "has the number of another one"},
           {"gpt2", "/model/vocab/a", "300", "is none of the model's 300"},
           {"gpt2", "/model/vocab/a", "16777214", "is none of the model's 300"},
           {"gpt2", "/added_tokens/0/content", R"("it")", "added_tokens has it as 23, model.vocab as 22"},
           {"gpt2", "/added_tokens/0/id", "0", "added_tokens: token 0 (<|end|>) has the number of another one"},
           {"llama3", "/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("\\d+")",
            R"(has the pattern "\\d+", which is none)"},
           {"llama3", "/pre_tokenizer/pretokenizers/0/behavior", R"("MergedWithNext")",
            "pre_tokenizer Split is not supported"},
           {"llama3", "/pre_tokenizer/pretokenizers/1/use_regex", "true", "pre_tokenizer Split is not supported"},
           {"llama3", "/post_processor/processors/1/single/0/SpecialToken/id", R"("<q>")", "which has no ids"},
           {"llama3", "/post_processor/processors/1/special_tokens/<s>/ids/0", "300", "whose ids do not fit"},
           {"smollm", "/pre_tokenizer/pretokenizers/0/individual_digits", "false",
            "pre_tokenizer Digits is not supported"},
           {"llama2", "/model/ignore_merges", "true", "model.ignore_merges true is not supported"},
           {"llama2", "/decoder/decoders/3/start", "2", "decoder Strip is not supported here"},
           {"llama2", "/normalizer/normalizers/0", R"({"type": "NFC"})", "normalizer NFC is not supported here"},
           {"t5", "/normalizer/precompiled_charsmap", R"("a")", "normalizer Precompiled has no precompiled_charsmap"},
           {"t5", "/pre_tokenizer/pretokenizers/1/replacement", R"("_")",
            "pre_tokenizer Metaspace is not supported here"},
           {"t5", "/model/unk_id", "99", "model.unk_id 99 is no token"},
           {"unigram_strip", "/normalizer/normalizers/1", R"({"type": "Lowercase"})",
            "normalizer has one of Strip and Replace"},
           {"bert", "/model/max_input_chars_per_word", "200", "model.max_input_chars_per_word 200 is not supported"},
           {"bert", "/model/continuing_subword_prefix", R"("@@")",
            R"(model.continuing_subword_prefix "@@" is not supported)"},
           {"bert", "/pre_tokenizer/type", R"("Whitespace")", "pre_tokenizer Whitespace is not supported here"},
           {"bert", "/normalizer", "null", "normalizer is not BertNormalizer"},
           {"bert", "/model/unk_token", "null", "model.unk_token is missing"},
       }) {
    const std::string sentence = refusal(c.seed, c.pointer, Json::parse(c.value));
    INFO(c.seed << " " << c.pointer << ": " << sentence);
    CHECK(has(sentence, c.words));
  }
  CHECK(has(refusal("llama2", "/model/merges", Json::parse(R"(["▁ a", "▁a b", "a b", "▁ ab"])")),
            "model.merges has the pairs of ab among those of another piece"));
  // A pair that is missing of those that make a piece.
  CHECK(has(refusal("llama2", "/model/merges", Json::parse(R"(["▁ a", "▁a b", "a b"])")), "has 1 of the 2 pairs"));
}

TEST_CASE("Other files: what is not supported is named with its value") {
  Seed spm("spm_bpe");
  const std::size_t model_type = spm.file.find('\x18', spm.file.find("<x>") + 10);
  for (auto [value, words] : {std::pair{'\3', "trainer_spec.model_type 3 (words or characters) is not supported"},
                              {'\0', "model_type 0 is none of 1 to 4"}}) {
    spm.file[model_type + 1] = value;
    INFO(refusal(spm));
    CHECK(has(refusal(spm), words));
  }
  spm = Seed("spm_bpe");
  spm.beside = R"({"tokenizer_class": "PegasusTokenizer"})";
  CHECK(has(refusal(spm), "tokenizer_class PegasusTokenizer may number tokens otherwise"));
  spm.beside = R"({"bos_token": "<q>"})";
  CHECK(has(refusal(spm), "bos_token <q> is no token of the vocabulary"));
  CHECK(has(refusal(Seed("spm_bpe"), 7), "it has 8 tokens and the model 7"));
  CHECK(has(refusal(Seed("gguf_llama"), 7), "it has 8 tokens and the model 7"));
  CHECK(has(refusal(Seed("vocab_txt"), 10), "it has 11 tokens and the model 10"));

  Seed gguf("gguf_gpt2");
  gguf.file.replace(gguf.file.find("llama-bpe"), 9, "llama-bpf");
  CHECK(refusal(gguf) == "tokenizer.ggml.pre llama-bpf is not supported");
  gguf = Seed("gguf_llama");
  gguf.file.replace(gguf.file.find("llama"), 5, "rwkv5");
  CHECK(refusal(gguf) == "tokenizer.ggml.model rwkv5 is not supported");
  gguf.file[4] = 1;
  CHECK(refusal(gguf) == "GGUF version 1 is not supported");

  Seed words("vocab_txt");
  words.file.replace(words.file.find("[CLS]"), 5, "[CLR]");
  CHECK(refusal(words) == "it has no token [CLS]");
  words.beside = R"({"do_lower_case": 1})";
  CHECK(refusal(words) == "do_lower_case 1 is no boolean");
  Seed merges("vocab_json");
  merges.beside += "a b c\n";
  CHECK(refusal(merges) == "line 6 of merges.txt (a b c) is not a pair");
}

TEST_CASE("Files of tokenizers cut at every byte are refused or whole, and never read beyond") {
  for (const char* name : {"gpt2", "t5", "bert", "llama2", "spm_unigram", "spm_bpe", "gguf_llama", "gguf_gpt2",
                           "gguf_bert", "vocab_txt", "vocab_json"}) {
    const Seed seed(name);
    for (std::size_t size = 0; size < seed.file.size(); ++size) {
      Seed cut = seed;
      cut.file.resize(size);
      const std::string sentence = refusal(cut);
      CHECK(sentence.find('\n') == std::string::npos);
      if (seed.kind == 0 || seed.kind == 4) {
        INFO(name << " cut to " << size);
        CHECK_FALSE(sentence.empty());
      }
    }
  }
}

TEST_CASE("JSON rows: a list longer than the values that may be kept, one at a time") {
  std::string text = R"({"model": {"vocab": {)";
  for (int i = 0; i < 1000; ++i) text += (i ? ",\"" : "\"") + std::to_string(i) + "\": [" + std::to_string(i) + ", {}]";
  text += R"(}, "kept": [1, 2]}, "vocab": {"a": 1}})";
  int rows = 0;
  const JsonRows of[] = {{"model", "vocab", [&](std::string& name, Json& value) {
                            const bool good = name == std::to_string(rows) && value[0] == rows && value[1].is_object();
                            ++rows;
                            return good ? Error() : Error("row " + name);
                          }}};
  Json json;
  const Error error = parse_json(json, Bytes(text), 5, of, 8);
  INFO(error.sentence());
  CHECK_FALSE(error);
  CHECK(rows == 1000);
  CHECK(json == Json::parse(R"({"model": {"vocab": {}, "kept": [1, 2]}, "vocab": {"a": 1}})"));
  rows = 0;
  CHECK(has(parse_json(json, Bytes(text), 5, of, 7).sentence(), "more than 7 values"));
  CHECK(has(parse_json(json, Bytes(text), 5, of).sentence(), "row 0"));  // what a row is refused for
}

TEST_CASE("Names of bytes, visible spaces, base64, spellings of splitting rules") {
  CHECK(byte_of_name("<0x0A>") == 10);
  CHECK(byte_of_name("<0xfF>") == 255);
  CHECK(byte_of_name("<0xG0>") == -1);
  CHECK(byte_of_name("<0x0A> ") == -1);
  CHECK(with_spaces("\xE2\x96\x81"
                    "a\xE2\x96\x81\xE2\x96\x81"
                    "b\xE2\x96") == " a  b\xE2\x96");
  std::vector<std::uint8_t> bytes;
  CHECK((from_base64(bytes, "AP8x") && bytes == std::vector<std::uint8_t>{0, 255, 49}));
  CHECK((from_base64(bytes, "AP8=") && bytes == std::vector<std::uint8_t>{0, 255}));
  CHECK((from_base64(bytes, "AA==") && bytes == std::vector<std::uint8_t>{0}));
  CHECK((from_base64(bytes, "") && bytes.empty()));
  for (const char* bad : {"A", "AA=A", "A===", "AP8*", "AAA=AAAA"}) CHECK_FALSE(from_base64(bytes, bad));
  SplitRule rule{};
  bool whole = false;
  CHECK((splitting_rule_of_gguf(rule, whole, "llama-bpe") && rule == SplitRule::llama3 && whole));
  CHECK((splitting_rule_of_gguf(rule, whole, "smollm") && rule == SplitRule::gpt2_digits && !whole));
  CHECK_FALSE(splitting_rule_of_gguf(rule, whole, "default"));
  CHECK_FALSE(splitting_rule_of_pattern(rule, ""));
}
