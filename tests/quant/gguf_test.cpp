// SPDX-License-Identifier: Apache-2.0
// gguf_test.cpp: files in one piece and in parts, every refusal, every truncation; and stories260K from three files.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "quant/readers/gguf_models.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_bytes.hpp"
#include "tests/support/run.hpp"
#include "tests/support/test_data.hpp"

using namespace heed;
using namespace heed::quant;
using test::GgufBytes;

namespace {

using Bytes = std::vector<std::uint8_t>;

Span<const std::uint8_t> span(const Bytes& bytes) { return {bytes.data(), bytes.size()}; }

// Of exactly its size, for the address sanitizer.
Error add(GgufFile& file, Bytes& bytes) {
  bytes.shrink_to_fit();
  return file.add(span(bytes));
}

std::string refusal(Bytes bytes) {
  GgufFile file;
  return add(file, bytes).sentence();
}

bool says(const std::string& sentence, const std::string& part) {
  INFO(sentence);
  CHECK(sentence.find('\n') == std::string::npos);
  return sentence.find(part) != std::string::npos;
}

std::string golden(const std::string& name) { return HEED_SOURCE_DIR "/tests/golden/gguf/" + name + ".gguf"; }

Bytes file_bytes(const std::string& path) {
  SourceFile file;
  const Error error = file.open(path);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  return {file.bytes().begin(), file.bytes().end()};
}

GgufBytes two_tensors() {
  GgufBytes g;
  g.add("general.architecture", "llama")
      .tensor("a", {3, 2}, 0, std::string(24, 'a'))
      .tensor("b", {32}, 8, std::string(34, 'b'));
  return g;
}

// Replaces the one place where `old` stands.
Bytes replaced(Bytes bytes, const std::string& old, const std::string& by) {
  std::string text(bytes.begin(), bytes.end());
  const std::size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  REQUIRE(text.find(old, at + 1) == std::string::npos);
  text.replace(at, old.size(), by);
  return {text.begin(), text.end()};
}

}  // namespace

TEST_CASE("GGUF: names, shapes and types of tensors", "[gguf]") {
  for (const std::uint32_t version : {2u, 3u})
    for (const std::uint32_t alignment : {8u, 32u, 4096u}) {
      GgufBytes g;
      g.version = version;
      g.alignment = alignment;
      g.add("general.alignment", alignment)
          .tensor("a", {3, 2}, 0, std::string(24, 'a'))
          .tensor("b", {32}, 8, std::string(34, 'b'));
      Bytes bytes = g.bytes();
      GgufFile file;
      REQUIRE_FALSE(add(file, bytes));
      REQUIRE_FALSE(file.finish());
      REQUIRE(file.tensors().size() == 2);
      const GgufTensor &a = *file.find("a"), &b = *file.find("b");
      CHECK(a.shape == std::vector<std::uint64_t>{2, 3});
      CHECK(a.type == StoredType::f32);
      CHECK(a.bytes.size() == 24);
      CHECK(a.bytes[23] == 'a');
      CHECK(b.type == StoredType::q8_0);
      CHECK(b.bytes.size() == 34);
      CHECK(b.bytes[0] == 'b');
      CHECK(file.find("c") == nullptr);
      StoredTensor stored;
      REQUIRE_FALSE(open_stored(stored, a));
      CHECK(stored.rows() == 2);
      CHECK(stored.cols() == 3);
    }
}

TEST_CASE("GGUF: what is wrong with a file is said in one sentence", "[gguf]") {
  const Bytes good = two_tensors().bytes();
  REQUIRE(refusal(good).empty());
  const auto with = [](auto change) {
    GgufBytes g = two_tensors();
    change(g);
    return refusal(g.bytes());
  };
  GgufBytes big_endian = two_tensors();
  big_endian.version = 0x03000000;
  CHECK(says(refusal(big_endian.bytes()), "big-endian"));
  GgufBytes old = two_tensors();
  old.version = 1;
  CHECK(says(refusal(old.bytes()), "GGUF version 1 is not supported"));
  CHECK(says(refusal({'G', 'G', 'U', 'F'}), "the file ends inside its header"));

  // Counts that no file of this size can hold: refused before anything is allocated for them.
  for (const std::size_t field : {8u, 16u}) {
    Bytes bytes = good;
    for (std::size_t i = 0; i < 8; ++i) bytes[field + i] = 0x7F;
    CHECK(says(refusal(bytes),
               field == 8 ? "the file ends inside the descriptions of its tensors" : "keys, more than 4,096"));
  }
  CHECK(says(with([](GgufBytes& g) { g.add("general.alignment", 24u); }), "general.alignment 24 is no power of two"));
  CHECK(says(with([](GgufBytes& g) { g.add("general.alignment", 0u); }), "general.alignment 0 is no power of two"));
  CHECK(says(with([](GgufBytes& g) { g.add("general.architecture", "x"); }), "twice"));
  CHECK(says(with([](GgufBytes& g) { g.key("k", 13, ""); }), "k has the type 13"));
  CHECK(says(
      with([](GgufBytes& g) { g.key("k", GgufBytes::array, GgufBytes::raw(9u) + GgufBytes::raw(std::uint64_t{0})); }),
      "k is a list of the type 9"));
  const std::string many = GgufBytes::raw(std::uint64_t{1} << 61);
  CHECK(says(with([&](GgufBytes& g) { g.key("k", GgufBytes::array, GgufBytes::raw(12u) + many); }),
             "inside the value of k"));
  CHECK(says(with([&](GgufBytes& g) { g.key("k", GgufBytes::text, many); }), "inside the value of k"));

  // Tensors.
  const auto tensor = [&](const std::vector<std::uint64_t>& shape, std::uint32_t type) {
    return with([&](GgufBytes& g) { g.tensor("c", shape, type, std::string(64, 'c')); });
  };
  CHECK(says(tensor({16}, 31), "tensor c: its type Q4_0_4_4 is not supported"));
  CHECK(says(tensor({256}, 23), "tensor c: its type IQ4_XS is not supported"));
  CHECK(says(tensor({16}, 24), "tensor c: its type I8 is not supported"));
  CHECK(says(tensor({16}, 77), "tensor c: its type has the unknown number 77"));
  CHECK(says(tensor({}, 0), "tensor c: it has 0 sizes"));
  CHECK(says(tensor({1, 1, 1, 1, 16}, 0), "tensor c: it has 5 sizes"));
  CHECK(says(tensor({0}, 0), "tensor c: its rows of 0"));
  CHECK(says(tensor({16, 0}, 0), "tensor c: one of its sizes is 0"));
  CHECK(says(tensor({33}, 8), "tensor c: its rows of 33 are no whole number of Q8_0 blocks of 32"));
  // Products that come to 64 bytes modulo 2^64.
  const std::uint64_t half = std::uint64_t{1} << 32;
  CHECK(says(tensor({half, half + 16}, 0), "tensor c: it is larger than the file"));
  CHECK(says(tensor({16, half, half}, 0), "tensor c: it is larger than the file"));
  CHECK(says(tensor({UINT64_MAX}, 0), "tensor c: it is larger than the file"));
  CHECK(says(with([](GgufBytes& g) { g.tensor("b", {16}, 0, std::string(64, 'c')); }), "it has the tensor b twice"));
  CHECK(says(with([](GgufBytes& g) { g.tensor(std::string(256, 'n'), {16}, 0, std::string(64, 'c')); }),
             "has 256 bytes, not 1 to 255"));
  CHECK(says(with([](GgufBytes& g) { g.described("c", {8}, 0, 32); }), "overlaps the one before"));
  CHECK(says(with([](GgufBytes& g) { g.described("c", {8}, 0, 96 + 8); }),
             "tensor c does not begin where the one before ends"));
  CHECK(says(with([](GgufBytes& g) { g.described("c", {8}, 0, std::uint64_t{1} << 63); }), "tensor c does not begin"));
  CHECK(says(with([](GgufBytes& g) { g.data(std::string(32, 'x')); }), "bytes behind the last tensor"));
  CHECK(says(with([](GgufBytes& g) { g.described("line\nbreak", {99}, 0, 96); }), "line?break"));
}

TEST_CASE("GGUF: cut anywhere, a file is refused in one sentence", "[gguf]") {
  const Bytes whole = file_bytes(golden("llama_linear"));
  GgufFile all;
  REQUIRE_FALSE(all.add(span(whole)));
  std::size_t needed = 0;  // what is behind is padding
  for (const GgufTensor& t : all.tensors())
    needed = std::max(needed, static_cast<std::size_t>(t.bytes.end() - whole.data()));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    GgufFile file;
    const Error error = add(file, part);
    if (static_cast<bool>(error) != (n < needed) || error.sentence().find('\n') != std::string::npos) {
      CAPTURE(n, error.sentence());
      FAIL("a cut file");
    }
  }
}

// ---- Models -------------------------------------------------------------------------------------------------------

namespace {

std::string model_refusal(const Bytes& bytes) {
  GgufFile file;
  if (Error error = file.add(span(bytes))) return "file: " + error.sentence();
  FloatModel model;
  return read_gguf(model, file).sentence();
}

}  // namespace

TEST_CASE("GGUF: a model that heed has not is refused by key and value", "[gguf]") {
  const Bytes llama = file_bytes(golden("llama_linear"));
  REQUIRE(model_refusal(llama).empty());
  const auto architecture = [](const std::string& name) {
    GgufBytes g;
    return model_refusal(g.add("general.architecture", name).tensor("a", {8}, 0, std::string(32, 'a')).bytes());
  };
  CHECK(says(architecture("gemma2"),
             "general.architecture \"gemma2\" is not supported: its scores and logits are capped"));
  CHECK(says(architecture("nomic-bert"), "general.architecture \"nomic-bert\" is not supported: rotary"));
  CHECK(says(architecture("wubba"), "general.architecture \"wubba\" is not supported (llama, qwen2"));
  const auto with_tensor = [](GgufBytes g) {
    return model_refusal(g.tensor("a", {8}, 0, std::string(32, 'a')).bytes());
  };
  CHECK(says(model_refusal(GgufBytes().add("general.architecture", "llama").bytes()),
             "it has no tensors, so it is no model"));
  CHECK(says(with_tensor({}), "general.architecture is missing"));
  CHECK(says(with_tensor(GgufBytes().add("general.type", "adapter")), "general.type \"adapter\" is no model"));
  CHECK(says(architecture("llama"), "llama.embedding_length is missing"));

  const auto changed = [&](const std::string& old, const std::string& by) {
    return model_refusal(replaced(llama, old, by));
  };
  CHECK(says(changed("llama.rope.freq_base", "llama.rope.freq_bass"), "llama.rope.freq_bass 10000.0 is not supported"));
  CHECK(says(changed("linear", "lineal"), "llama.rope.scaling.type \"lineal\" is not supported"));
  CHECK(says(changed("blk.1.ffn_gate.weight", "blk.1.ffn_gat3.weight"), "tensor blk.1.ffn_up.weight has the shape"));
  CHECK(says(changed("blk.1.attn_k.weight", "blk.1.attn_x.weight"), "tensor blk.1.attn_k.weight is missing"));
  CHECK(says(changed("llama.block_count" + GgufBytes::raw(4u) + GgufBytes::raw(2u),
                     "llama.block_count" + GgufBytes::raw(4u) + GgufBytes::raw(1u)),
             ".weight is not part of the architecture"));
  CHECK(says(changed("llama.context_length" + GgufBytes::raw(4u) + GgufBytes::raw(64u),
                     "llama.context_length" + GgufBytes::raw(4u) + GgufBytes::raw(0u)),
             "llama.context_length 0 is not a whole number from 1 to 1048576"));
  CHECK(says(changed("llama.attention.head_count" + GgufBytes::raw(4u) + GgufBytes::raw(4u),
                     "llama.attention.head_count" + GgufBytes::raw(4u) + GgufBytes::raw(3u)),
             "llama.attention.head_count"));
  CHECK(says(changed("tokenizer.ggml.eos_token_id" + GgufBytes::raw(4u) + GgufBytes::raw(2u),
                     "tokenizer.ggml.eos_token_id" + GgufBytes::raw(4u) + GgufBytes::raw(40u)),
             "tokenizer.ggml.eos_token_id 40 is not below the vocabulary's 40"));
}

TEST_CASE("GGUF: a list says which of Gemma's layers have a window", "[gguf]") {
  const Bytes whole = file_bytes(golden("gemma3"));
  GgufFile file;
  REQUIRE_FALSE(file.add(span(whole)));
  const auto read = [&](FloatModel& model, std::uint32_t type, const std::string& value) {
    GgufBytes g;
    for (const auto& [key, v] : file.metadata().values())
      g.key(key, static_cast<std::uint32_t>(v.type), {v.bytes.begin(), v.bytes.end()});
    g.key("gemma3.attention.sliding_window_pattern", type, value);
    for (const GgufTensor& t : file.tensors())
      g.tensor(t.name, {t.shape.rbegin(), t.shape.rend()}, t.type == StoredType::f32 ? 0 : 1,
               {t.bytes.begin(), t.bytes.end()});
    const Bytes bytes = g.bytes();
    GgufFile with;
    REQUIRE_FALSE(with.add(span(bytes)));
    return read_gguf(model, with).sentence();
  };
  const auto of_list = [&](FloatModel& model, const std::string& flags) {
    const std::string head =
        GgufBytes::raw(std::uint32_t{GgufBytes::boolean}) + GgufBytes::raw(std::uint64_t{flags.size()});
    return read(model, GgufBytes::array, head + flags);
  };
  FloatModel model;
  const StackConfig& c = model.config.main();
  const auto pattern = [&] { return std::pair{c.global_every, c.global_first}; };
  CHECK(read(model, GgufBytes::u32, GgufBytes::raw(6u)).empty());
  CHECK(pattern() == std::pair{6u, 5u});
  CHECK(of_list(model, {1, 1, 1, 1, 1, 0, 1}).empty());
  CHECK(pattern() == std::pair{6u, 5u});
  CHECK(of_list(model, {1, 1, 0, 1, 1, 0, 1}).empty());
  CHECK(pattern() == std::pair{3u, 2u});
  CHECK(of_list(model, {1, 1, 1, 1, 1, 1, 1}).empty());
  CHECK(pattern() == std::pair{0u, 0u});
  for (const std::string& irregular :
       {std::string{1, 1, 0, 1, 0, 1, 1}, std::string{0, 1, 1, 0, 1, 1, 0}, std::string{1, 1, 0}})
    CHECK(says(of_list(model, irregular), "gemma3.attention.sliding_window_pattern ["));
}

TEST_CASE("GGUF: a split model is the same as the whole one", "[gguf]") {
  namespace fs = std::filesystem;
  const Bytes whole = file_bytes(golden("qwen2"));
  GgufFile file;
  REQUIRE_FALSE(file.add(span(whole)));
  const std::string folder = (fs::temp_directory_path() / ("heed_gguf_" + std::to_string(::getpid()))).string();
  fs::create_directories(folder);
  const auto number = [](const GgufFile& f, const char* key) {
    std::uint32_t x = 0;
    CHECK_FALSE(f.metadata().number_or(x, key, 0));
    return x;
  };
  const auto write = [&](std::uint32_t no, std::uint32_t count, std::uint32_t tensors) {
    GgufBytes g;
    g.add("split.no", no).add("split.count", count).add("split.tensors.count", tensors);
    if (no == 0) {
      g.add("general.architecture", "qwen2")
          .add("qwen2.attention.layer_norm_rms_epsilon", 1e-6f)
          .add("qwen2.rope.freq_base", 10000.0f);
      for (const char* key :
           {"qwen2.context_length", "qwen2.embedding_length", "qwen2.block_count", "qwen2.feed_forward_length",
            "qwen2.attention.head_count", "qwen2.attention.head_count_kv"})
        g.add(key, number(file, key));
    }
    for (std::size_t i = 0; i < file.tensors().size(); ++i) {
      const GgufTensor& t = file.tensors()[i];
      if (i % 3 != no) continue;
      g.tensor(t.name, {t.shape.rbegin(), t.shape.rend()}, t.type == StoredType::f32 ? 0 : 1,
               {t.bytes.begin(), t.bytes.end()});
    }
    char name[64];
    std::snprintf(name, sizeof name, "/m-%05u-of-%05u.gguf", no + 1, count);
    const Bytes bytes = g.bytes();
    std::ofstream(folder + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return folder + name;
  };
  const auto n_tensors = static_cast<std::uint32_t>(file.tensors().size());
  const std::string first = write(0, 3, n_tensors), second = write(1, 3, n_tensors);
  FloatModel model, expected;
  CHECK(says(read_model(model, first).sentence(), "m-00003-of-00003.gguf"));
  write(2, 3, n_tensors);
  CHECK(says(read_model(model = FloatModel(), second).sentence(), "it is part 2 of 3, not part 1; give the first"));
  const Error error = read_model(model = FloatModel(), first);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  REQUIRE_FALSE(read_model(expected, golden("qwen2")));
  CHECK(model.files.size() == 3);
  for_each_slot(expected.config.main(), [&](const TensorSlot& slot) {
    CHECK(model.read(slot.role, slot.layer) == expected.read(slot.role, slot.layer));
  });
  write(2, 3, n_tensors + 1);  // which says another number of tensors than the first
  write(0, 3, n_tensors + 1);
  CHECK(says(read_model(model = FloatModel(), first).sentence(),
             "not the " + std::to_string(n_tensors + 1) + " of split.tensors.count"));
  CHECK(says(check_output(second, first, "", {}).sentence(), "which is read"));
  fs::rename(first, folder + "/renamed.gguf");
  CHECK(says(read_model(model = FloatModel(), folder + "/renamed.gguf").sentence(), "MODEL-00001-of-00003.gguf"));
  fs::remove_all(folder);
}

// ---- stories260K ----------------------------------------------------------------------------------------------------

namespace {

ImageBytes converted(const std::string& source, const std::string& tokenizer, const Kernels& kernels) {
  ImageBytes image;
  ConvertReport report;
  ConvertOptions options;
  options.layout = kernels.traits.preferred;
  const Error error = convert(image, report, source, tokenizer, options, kernels);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  return image;
}

// Nats a token on the beginning of a text, of the float model.
double loss(const FloatModel& model, const std::vector<Token>& tokens) {
  FloatReference reference(model, static_cast<std::uint32_t>(tokens.size()));
  double sum = 0.0;
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
    sum -= log_probability(reference.step(static_cast<std::uint32_t>(tokens[i])),
                           static_cast<std::uint32_t>(tokens[i + 1]));
  return sum / static_cast<double>(tokens.size() - 1);
}

std::vector<Token> first_tokens(const Model& model, const Bytes& text, std::uint32_t n) {
  Tokenizer tokenizer;
  REQUIRE(open(tokenizer, model.tokenizer(), model.config().main().vocab_size) == Status::ok);
  const Span<const char> begin{reinterpret_cast<const char*>(text.data()), 4 * std::size_t{n}};
  std::vector<Token> tokens(Tokenizer::max_tokens(begin.size()));
  std::vector<std::byte> scratch(Tokenizer::scratch_bytes(begin.size()));
  std::uint32_t count = 0;
  REQUIRE(tokenizer.encode(count, begin, {}, tokens, scratch) == Status::ok);
  REQUIRE(count > n);
  tokens.resize(n);
  return tokens;
}

}  // namespace

TEST_CASE("stories260K: GGUF is llama2.c's file", "[gguf][data]") {
  const std::string bin = test::data_path("stories260K/stories260K.bin"),
                    f32 = test::data_path("stories260K/stories260K-f32.gguf"),
                    vocabulary = test::data_path("stories260K/tok512.bin"),
                    stories = test::data_path("text/tinystories.txt");
  if (bin.empty() || f32.empty() || vocabulary.empty() || stories.empty()) return;
  const Kernels& kernels = *test::runnable_kernels().back();
  const ImageBytes expected = converted(bin, vocabulary, kernels), image = converted(f32, f32, kernels);
  Model a, b;
  REQUIRE(open(a, test::bytes(expected), kernels) == Status::ok);
  REQUIRE(open(b, test::bytes(image), kernels) == Status::ok);
  REQUIRE(a.n_entries() == b.n_entries());
  for_each_slot(a.config().main(), [&](const TensorSlot& slot) {
    CAPTURE(name_of(slot.role), slot.layer);
    const auto n = static_cast<std::size_t>(slot_bytes(slot, a.layout()));
    CHECK(std::memcmp(a.floats(slot.role, slot.layer), b.floats(slot.role, slot.layer), n) == 0);  // of any type
  });
  // GGUF says of <unk> what llama2.c's vocabulary does not, so that the sections differ.
  const Bytes text = file_bytes(stories);
  CHECK(first_tokens(a, text, 2000) == first_tokens(b, text, 2000));
  const Token bos[] = {1};
  CHECK(test::run(kernels, test::bytes(image), {bos, 1}).digest == 0x575BF19B);
}

TEST_CASE("stories260K: Q8_0 costs next to nothing", "[gguf][data]") {
  const std::string f32 = test::data_path("stories260K/stories260K-f32.gguf"),
                    q8 = test::data_path("stories260K/stories260K-Q8_0.gguf"),
                    stories = test::data_path("text/tinystories.txt");
  if (f32.empty() || q8.empty() || stories.empty()) return;
  const Kernels& kernels = *test::runnable_kernels().back();
  const ImageBytes image = converted(q8, q8, kernels);
  Model model;
  REQUIRE(open(model, test::bytes(image), kernels) == Status::ok);
  const std::vector<Token> tokens = first_tokens(model, file_bytes(stories), 500);
  FloatModel a, b;
  REQUIRE_FALSE(read_model(a, f32));
  REQUIRE_FALSE(read_model(b, q8));
  const double of_floats = loss(a, tokens), of_blocks = loss(b, tokens);
  CAPTURE(of_floats, of_blocks);
  CHECK(of_blocks < of_floats + 0.005);
  CHECK(of_blocks > of_floats - 0.005);
}
