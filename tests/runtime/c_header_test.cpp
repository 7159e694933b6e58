// SPDX-License-Identifier: Apache-2.0
// c_header_test.cpp: heed.h gives what the C++ headers give, and every one of its statuses can be met.
#include <cfenv>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <string>

#include "quant/file.hpp"
#include "tests/golden/tiny.hpp"
#include "tests/runtime/c_header_run.h"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using heed::quant::ImageBytes;

const heed_kernels* portable() { return heed_find_kernels("portable"); }

ImageBytes tiny(Layout layout = Layout::row) { return golden::tiny_image(layout, *find_kernels("portable")); }

std::uint8_t* section(ImageBytes& image, SectionKind kind) {
  for (std::size_t at = sizeof(ImageHeader);; at += sizeof(SectionEntry)) {
    SectionEntry entry;
    std::memcpy(&entry, image.data() + at, sizeof entry);
    if (entry.kind == static_cast<std::uint32_t>(kind)) return image.data() + entry.offset;
  }
}

// Everything up to a session, in C.
struct CRunning {
  explicit CRunning(const ImageBytes& bytes, const heed_kernels* kernels = portable()) {
    REQUIRE(heed_model_open(&model, bytes.data(), bytes.size(), kernels) == HEED_OK);
    REQUIRE(heed_plan_make(&plan, &model, kernels, nullptr) == HEED_OK);
    arena = std::make_unique<GuardedArena>(heed_plan_arena_bytes(&plan), heed_plan_arena_align(&plan));
    const Span<std::byte> span = arena->span();
    REQUIRE(heed_session_create(&session, &model, &plan, kernels, span.data(), span.size()) == HEED_OK);
  }
  ~CRunning() { CHECK(arena->intact()); }

  heed_model model;
  heed_plan plan;
  heed_session session;
  std::unique_ptr<GuardedArena> arena;
};

}  // namespace

TEST_CASE("a run in C has the digest of the same run in C++, on every table", "[c]") {
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    const ImageBytes image = tiny(k->traits.preferred);
    Model model;
    REQUIRE(open(model, bytes(image), *k) == Status::ok);
    Tokenizer tokenizer;
    REQUIRE(open(tokenizer, model.tokenizer(), model.config().main().vocab_size) == Status::ok);
    Token prompt[16];
    std::uint32_t n = 0;
    alignas(8) std::byte scratch[256];
    REQUIRE(tokenizer.encode(n, {"a banana", 8}, {}, prompt, scratch) == Status::ok);
    for (const bool warm : {false, true}) {
      RunOptions options;
      options.generate = 60;
      if (warm) options.sampler = {0.8f, 7, 0.9f, 20260101};
      const RunResult expected = run(*k, bytes(image), {prompt, n}, options);

      c_run c{};
      c.kernels = k->traits.name;
      c.max_tokens = 60;
      if (warm) {
        c.temperature = 0.8f;
        c.top_k = 7;
        c.top_p = 0.9f;
        c.seed = 20260101;
      }
      Plan plan;
      REQUIRE(make_plan(plan, model.config(), k->traits) == Status::ok);
      GuardedArena arena(plan.arena_bytes, plan.arena_align);
      const c_memory memory{arena.span().data(), scratch, arena.span().size(), sizeof scratch};
      REQUIRE(run_through_c(&c, image.data(), image.size(), &memory) == HEED_OK);
      CHECK(arena.intact());
      CHECK(c.arena_bytes == plan.arena_bytes);
      CHECK(c.n_tokens == expected.tokens.size());
      CHECK(c.digest == expected.digest);
      std::string text;
      Token previous = prompt[n - 1];
      for (const Token t : expected.tokens) {
        Span<const char> piece;
        REQUIRE(tokenizer.decode(piece, previous, t) == Status::ok);
        text.append(piece.data(), piece.size());
        previous = t;
      }
      CHECK(std::string(c.text, c.text_bytes) == text);
    }
  }
}

TEST_CASE("the committed golden image runs in C", "[c]") {
  quant::SourceFile file;
  REQUIRE_FALSE(file.open(HEED_SOURCE_DIR "/tests/golden/tiny.heed"));
  ImageBytes image(file.bytes().begin(), file.bytes().end());
  CRunning c(image);
  CHECK(heed_model_image_bytes(&c.model) == image.size());
  CHECK(heed_model_verify(&c.model, portable()) == HEED_OK);
}

TEST_CASE("getters give what the configuration says", "[c]") {
  const ImageBytes image = tiny();
  CRunning c(image);
  const StackConfig config = golden::tiny_config();
  CHECK(heed_model_vocab_size(&c.model) == config.vocab_size);
  CHECK(heed_model_max_seq(&c.model) == config.max_seq);
  CHECK(heed_model_d_model(&c.model) == config.d_model);
  CHECK(heed_model_d_ff(&c.model) == config.d_ff);
  CHECK(heed_model_n_layers(&c.model) == config.n_layers);
  CHECK(heed_model_n_heads(&c.model) == config.n_heads);
  CHECK(heed_model_n_kv_heads(&c.model) == config.n_kv_heads);
  CHECK(heed_model_head_dim(&c.model) == config.head_dim);
  std::size_t n = 0;
  const char* metadata = heed_model_metadata(&c.model, &n);
  CHECK(std::string(metadata, n).rfind("name=tiny\n", 0) == 0);
  CHECK(heed_plan_max_seq(&c.plan) == config.max_seq);
  CHECK(heed_session_max_seq(&c.session) == config.max_seq);
  const heed_limits limits{40, 3, 0, 0, {}};
  REQUIRE(heed_plan_make(&c.plan, &c.model, portable(), &limits) == HEED_OK);
  CHECK(heed_plan_max_seq(&c.plan) == 40);
  CHECK(heed_plan_chunk(&c.plan) == 3);
  heed_tokenizer tokenizer;
  REQUIRE(heed_tokenizer_open(&tokenizer, &c.model) == HEED_OK);
  CHECK(heed_tokenizer_bos(&tokenizer) == 1);
  CHECK(heed_tokenizer_eos(&tokenizer) == 2);
  for (heed_token token = 0; token < 12; ++token)
    CHECK(heed_tokenizer_ends_text(&tokenizer, token) == (token == 1 || token == 2 ? 1 : 0));
  const char* piece = nullptr;
  std::uint32_t n_bytes = 0;
  REQUIRE(heed_tokenizer_decode(&tokenizer, &piece, &n_bytes, HEED_NO_TOKEN, 11) == HEED_OK);
  CHECK(std::string(piece, n_bytes) == "ba");  // " ba" at the beginning of a text
  CHECK(std::string(heed_kernels_name(heed_best_kernels())) == best_kernels().traits.name);
  CHECK(heed_find_kernels("abacus") == nullptr);
  CHECK(heed_version() == HEED_VERSION);
  CHECK(std::string(HEED_PROJECT_VERSION) == std::to_string(HEED_VERSION_MAJOR) + "." +
                                                 std::to_string(HEED_VERSION_MINOR) + "." +
                                                 std::to_string(HEED_VERSION_PATCH));
}

TEST_CASE("evaluate and rewind are those of C++", "[c]") {
  const ImageBytes image = tiny();
  CRunning c(image);
  const heed_token tokens[5] = {1, 11, 9, 4, 3};
  std::vector<std::vector<std::uint32_t>> rows;
  const auto take = [](void* context, std::uint32_t position, const float* logits, std::uint32_t vocab_size) {
    auto& all = *static_cast<std::vector<std::vector<std::uint32_t>>*>(context);
    CHECK(position == all.size());
    all.push_back(bits({logits, vocab_size}));
  };
  REQUIRE(heed_session_evaluate(&c.session, tokens, 5, take, &rows) == HEED_OK);
  REQUIRE(rows.size() == 5);
  CHECK(heed_session_position(&c.session) == 5);
  REQUIRE(heed_session_rewind(&c.session, 2) == HEED_OK);
  for (std::uint32_t i = 2; i < 5; ++i) {
    const float* logits = nullptr;
    REQUIRE(heed_session_step(&c.session, &logits, tokens[i]) == HEED_OK);
    CHECK(bits({logits, 12}) == rows[i]);
  }
}

TEST_CASE("threads lent through C change nothing", "[c]") {
  const ImageBytes image = random_image(edge_configs()[0].config, Layout::row, 3);
  const auto digest = [&](bool threads, std::uint32_t& parts) {
    CRunning c(image);
    const heed_parallel parallel{
        [](void* context, std::uint32_t count, void (*task)(void*, std::uint32_t), void* user) {
          *static_cast<std::uint32_t*>(context) += count;
          for (std::uint32_t i = count; i-- > 0;) task(user, i);
        },
        &parts, 3, 0};
    REQUIRE(heed_session_set_parallel(&c.session, &parallel) == HEED_OK);
    if (!threads) REQUIRE(heed_session_set_parallel(&c.session, nullptr) == HEED_OK);
    const heed_token tokens[3] = {0, 1, 2};
    const float* logits = nullptr;
    REQUIRE(heed_session_prefill(&c.session, &logits, tokens, 3) == HEED_OK);
    return bits({logits, heed_model_vocab_size(&c.model)});
  };
  std::uint32_t none = 0, parts = 0;
  const auto alone = digest(false, none);
  CHECK(digest(true, parts) == alone);
  CHECK(none == 0);
  CHECK(parts > 3);
}

TEST_CASE("penalty and min-p in C are those of C++", "[c]") {
  constexpr std::uint32_t kVocabSize = 50, kLast = 6;
  alignas(4) static std::byte memory[HEED_SAMPLER_SCRATCH_BYTES(kVocabSize) + HEED_SAMPLER_HISTORY_BYTES(kLast)];
  alignas(4) static std::byte other[sizeof memory];
  heed_sampler_config in_c{};
  in_c.temperature = 0.9f;
  in_c.seed = 7;
  in_c.repeat_penalty = 1.4f;
  in_c.repeat_last = kLast;
  in_c.min_p = 0.06f;
  SamplerConfig in_cpp{0.9f, 0, 1.0f, 7, 1.4f, kLast, 0.06f};
  heed_sampler c;
  Sampler cpp;
  REQUIRE(heed_sampler_create(&c, &in_c, kVocabSize, portable(), memory, sizeof memory) == HEED_OK);
  REQUIRE(create(cpp, in_cpp, kVocabSize, *find_kernels("portable"), other) == Status::ok);
  const heed_token prompt[3] = {4, 49, 4};
  REQUIRE(heed_sampler_accept(&c, prompt, 3) == HEED_OK);
  REQUIRE(heed_sampler_accept(&c, nullptr, 0) == HEED_OK);
  REQUIRE(cpp.accept(prompt) == Status::ok);
  std::set<Token> picked;
  Random random(3);
  for (int i = 0; i < 200; ++i) {
    float logits[kVocabSize];
    for (float& logit : logits) logit = static_cast<float>(random.below(4096)) / 512.0f - 4.0f;
    Token expected = kNoToken, token = kNoToken;
    REQUIRE(cpp.pick(expected, logits) == Status::ok);
    REQUIRE(heed_sampler_pick(&c, &token, logits) == HEED_OK);
    REQUIRE(token == expected);
    picked.insert(token);
  }
  CHECK(picked.size() > 10);
  const heed_token wrong = kVocabSize;
  CHECK(heed_sampler_accept(&c, &wrong, 1) == HEED_BAD_TOKEN);
  CHECK(heed_sampler_accept(&c, nullptr, 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_sampler_accept(nullptr, prompt, 3) == HEED_BAD_ARGUMENT);
  CHECK(heed_sampler_create(&c, &in_c, kVocabSize, portable(), memory, sizeof memory - 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_sampler_accept(&c, prompt, 3) == HEED_BAD_ARGUMENT);  // zeroed
  // Zeroes are the defaults, and 1 is no penalty either.
  in_c.repeat_penalty = 1.0f;
  in_c.repeat_last = 0;
  CHECK(heed_sampler_create(&c, &in_c, kVocabSize, portable(), memory, HEED_SAMPLER_SCRATCH_BYTES(kVocabSize)) == HEED_OK);
  in_c.repeat_penalty = 2.0f;
  CHECK(heed_sampler_create(&c, &in_c, kVocabSize, portable(), memory, sizeof memory) == HEED_BAD_ARGUMENT);
  in_c.repeat_penalty = std::nanf("");
  in_c.repeat_last = kLast;
  CHECK(heed_sampler_create(&c, &in_c, kVocabSize, portable(), memory, sizeof memory) == HEED_BAD_ARGUMENT);
  CHECK(sizeof(heed_sampler_config) == 48);
}

TEST_CASE("every status can be met through C, and has a text", "[c]") {
  std::set<int> met;
  const auto meet = [&](heed_status expected, heed_status status) {
    INFO(heed_status_text(status) << " instead of " << heed_status_text(expected));
    CHECK(status == expected);
    met.insert(status);
  };
  const heed_kernels* const k = portable();
  const ImageBytes good = tiny();
  heed_model model;
  const auto open_changed = [&](auto change) {
    ImageBytes image = good;
    change(image);
    return heed_model_open(&model, image.data(), image.size(), k);
  };
  const auto header = [](ImageBytes& image) { return reinterpret_cast<ImageHeader*>(image.data()); };
  const auto config = [](ImageBytes& image) {
    return reinterpret_cast<StackConfig*>(section(image, SectionKind::stacks));
  };
  const auto directory = [](ImageBytes& image) {
    return reinterpret_cast<TensorEntry*>(section(image, SectionKind::directory));
  };

  // The image.
  meet(HEED_MISALIGNED, heed_model_open(&model, good.data() + 4, good.size() - 4, k));
  meet(HEED_TRUNCATED, heed_model_open(&model, good.data(), good.size() - 1, k));
  meet(HEED_NOT_AN_IMAGE, open_changed([&](ImageBytes& i) { header(i)->magic[0] = 'H'; }));
  meet(HEED_VERSION_UNSUPPORTED, open_changed([&](ImageBytes& i) { header(i)->version = 1; }));
  meet(HEED_BAD_SECTION, open_changed([&](ImageBytes& i) { header(i)->n_sections = 2; }));
  meet(HEED_BAD_CONFIG, open_changed([&](ImageBytes& i) { config(i)->d_model = 0; }));
  meet(HEED_FEATURE_NOT_BUILT, open_changed([&](ImageBytes& i) { config(i)->n_sinks = 1; }));
  meet(HEED_BAD_TENSOR, open_changed([&](ImageBytes& i) { directory(i)->rows += 1; }));
  meet(HEED_BAD_VALUE, open_changed([&](ImageBytes& i) {
         // The scales of the first matrix stand behind its weights.
         const TensorEntry& e = *directory(i);
         const TensorBytes at = tensor_bytes(Layout::row, e.rows, e.cols, e.group, false);
         const float scale = std::nanf("");
         std::memcpy(section(i, SectionKind::tensors) + at.scales, &scale, sizeof scale);
       }));
  heed_plan plan;
  meet(HEED_BAD_ARGUMENT, heed_plan_make(&plan, &model, k, nullptr));  // what was refused is no model
  {
    ImageBytes image = good;
    *section(image, SectionKind::metadata) ^= 1;
    meet(HEED_OK, heed_model_open(&model, image.data(), image.size(), k));
    meet(HEED_BAD_CHECKSUM, heed_model_verify(&model, k));
  }
  heed_tokenizer tokenizer;
  {
    const ImageBytes image = random_image(edge_configs()[0].config, Layout::row, 1);
    meet(HEED_OK, heed_model_open(&model, image.data(), image.size(), k));
    meet(HEED_BAD_TOKENIZER, heed_tokenizer_open(&tokenizer, &model));
    CHECK(heed_tokenizer_bos(&tokenizer) == HEED_NO_TOKEN);
  }

  // Plan and session.
  CRunning c(good);
  heed_limits limits{129, 0, 0, 0, {}};
  meet(HEED_CONTEXT_TOO_LONG, heed_plan_make(&plan, &c.model, k, &limits));
  CHECK(heed_plan_arena_bytes(&plan) == 0);
  limits = {0, 4097, 0, 0, {}};
  meet(HEED_BAD_ARGUMENT, heed_plan_make(&plan, &c.model, k, &limits));
  limits = {0, 0, 0, 0, {0, 0, 0, 1}};
  meet(HEED_BAD_ARGUMENT, heed_plan_make(&plan, &c.model, k, &limits));
  const Span<std::byte> arena = c.arena->span();
  heed_session session;
  const auto create_in = [&](std::byte* memory, std::size_t n) {
    return heed_session_create(&session, &c.model, &c.plan, k, memory, n);
  };
  meet(HEED_ARENA_TOO_SMALL, create_in(arena.data(), arena.size() - 1));
  meet(HEED_MISALIGNED, create_in(arena.data() + 1, arena.size() - 1));
  meet(HEED_BAD_ARGUMENT, create_in(nullptr, arena.size()));
  const int rounding = std::fegetround();
  std::fesetround(FE_UPWARD);
  const heed_status upward = create_in(arena.data(), arena.size());
  std::fesetround(rounding);
  meet(HEED_ROUNDING_MODE, upward);
  CHECK(heed_session_max_seq(&session) == 0);
  bool picky = false;
  for (const Kernels* each : runnable_kernels())
    for (int layout = 0; layout < kLayoutCount; ++layout) {
      if ((each->traits.layouts >> layout) & 1u) continue;
      picky = true;
      const heed_kernels* named = heed_find_kernels(each->traits.name);
      const ImageBytes image = tiny(static_cast<Layout>(layout));
      meet(HEED_OK, heed_model_open(&model, image.data(), image.size(), named));
      meet(HEED_OK, heed_plan_make(&plan, &model, named, nullptr));
      GuardedArena memory(heed_plan_arena_bytes(&plan), heed_plan_arena_align(&plan));
      meet(HEED_LAYOUT_UNSUPPORTED,
           heed_session_create(&session, &model, &plan, named, memory.span().data(), memory.span().size()));
    }
  const float* logits = nullptr;
  heed_token token = 12;
  meet(HEED_BAD_TOKEN, heed_session_step(&c.session, &logits, token));
  token = 1;
  meet(HEED_BAD_ARGUMENT, heed_session_prefill(&c.session, &logits, &token, 0));
  meet(HEED_BAD_ARGUMENT, heed_session_rewind(&c.session, 1));
  CHECK(logits == nullptr);
  for (int i = 0; i < 128; ++i) meet(HEED_OK, heed_session_step(&c.session, &logits, token));
  meet(HEED_CONTEXT_FULL, heed_session_step(&c.session, &logits, token));

  // Tokenizer, decoder, sampler.
  meet(HEED_OK, heed_tokenizer_open(&tokenizer, &c.model));
  std::uint32_t n = 0, scratch[HEED_ENCODE_SCRATCH_BYTES(8) / 4];
  heed_token tokens[HEED_MAX_TOKENS(8)];
  const auto encode = [&](const char* text, std::size_t room, std::size_t scratch_bytes = sizeof scratch) {
    return heed_tokenizer_encode(&tokenizer, &n, tokens, room, text, std::strlen(text), HEED_ADD_BOS | HEED_ADD_EOS,
                                 scratch, scratch_bytes);
  };
  meet(HEED_OK, encode("banana", 10));
  CHECK(n == 5);  // BOS, " ba", "na", "na", EOS
  meet(HEED_NO_ROOM, encode("banana", 4));
  CHECK(n == 5);
  meet(HEED_TEXT_NOT_EXPRESSIBLE, encode("bax", 10));
  CHECK(n == 2);
  meet(HEED_BAD_ARGUMENT, encode("banana", 10, 8));
  meet(HEED_BAD_ARGUMENT, heed_tokenizer_encode(&tokenizer, &n, tokens, 10, "a", 1, 8, scratch, sizeof scratch));
  CHECK(heed_tokenizer_encode(&tokenizer, &n, tokens, 10, "a", 1, HEED_MATCH_SPECIAL, scratch, sizeof scratch) == HEED_OK);
  CHECK(heed_tokenizer_unk(&tokenizer) == HEED_NO_TOKEN);
  CHECK(heed_tokenizer_growth(&tokenizer) == 1);
  CHECK(heed_tokenizer_growth(nullptr) == 0);
  CHECK(heed_tokenizer_has_second_type(&tokenizer) == 0);
  std::uint32_t n_first = 0;
  CHECK(heed_tokenizer_encode_pair(&tokenizer, &n, &n_first, tokens, 10, "a", 1, "b", 1, scratch, sizeof scratch) ==
        (kBuiltFeatures.added_tokens ? HEED_OK : HEED_FEATURE_NOT_BUILT));
  CHECK((n > n_first && n_first > 1 && tokens[0] == heed_tokenizer_bos(&tokenizer)));
  meet(HEED_BAD_ARGUMENT, heed_tokenizer_encode_pair(&tokenizer, &n, nullptr, tokens, 10, "a", 1, "b", 1, scratch, sizeof scratch));
  const char* piece = nullptr;
  meet(HEED_BAD_TOKEN, heed_tokenizer_decode(&tokenizer, &piece, &n, HEED_NO_TOKEN, -1));
  heed_decoder decoder;
  heed_decoder_begin(&decoder, HEED_NO_TOKEN);
  char text[HEED_DECODE_BYTES];
  meet(HEED_NO_ROOM, heed_decoder_push(&decoder, &n, text, 2, &tokenizer, 4));
  meet(HEED_BAD_TOKEN, heed_decoder_push(&decoder, &n, text, sizeof text, &tokenizer, 12));
  meet(HEED_OK, heed_decoder_push(&decoder, &n, text, sizeof text, &tokenizer, 4));
  CHECK(std::string(text, n) == "a");
  heed_sampler sampler;
  heed_sampler_config sampling{};
  sampling.temperature = 1.0f;
  meet(HEED_BAD_ARGUMENT, heed_sampler_create(&sampler, &sampling, 12, k, scratch, 47));
  meet(HEED_BAD_ARGUMENT, heed_sampler_pick(&sampler, &token, logits));
  sampling.reserved[1] = 1;
  meet(HEED_BAD_ARGUMENT, heed_sampler_create(&sampler, &sampling, 12, k, scratch, 48));
  meet(HEED_OK, heed_sampler_create(&sampler, nullptr, 12, k, nullptr, 0));
  std::vector<float> nans(12, std::nanf(""));
  meet(HEED_BAD_ARGUMENT, heed_sampler_pick(&sampler, &token, nans.data()));

  if (!picky) met.insert(HEED_LAYOUT_UNSUPPORTED);  // every table that runs here eats everything
  for (int status = 0; status <= HEED_TEXT_NOT_EXPRESSIBLE; ++status) {
    INFO("status " << status);
    CHECK(met.count(status) == 1);
    CHECK(std::string(text_of_number(status)) == to_string(static_cast<Status>(status)));
  }
  // A status that is added must be added to heed.h, too. What is none is promised a text, negative numbers included.
  for (const int status : {HEED_TEXT_NOT_EXPRESSIBLE + 1, 255, 256, 0x7FFFFFFF, -1, -3, -0x7FFFFFFF - 1})
    CHECK(std::string(text_of_number(status)) == "unknown status");
  CHECK(std::string(heed_status_text(-3)) == "unknown status");  // in C++ only because an int is taken
}

TEST_CASE("what an image needs and a build carries, in C", "[c]") {
  CHECK(heed_built_features() == feature_bits(kBuiltFeatures));
  const auto needed = [](auto change) {
    ImageBytes image = tiny();
    change(*reinterpret_cast<StackConfig*>(section(image, SectionKind::stacks)), image);
    return heed_needed_features(image.data(), image.size(), portable());
  };
  const std::uint32_t as_it_is = needed([](StackConfig&, ImageBytes&) {});
  Model model;
  const ImageBytes good = tiny();
  REQUIRE(open(model, bytes(good), *find_kernels("portable")) == Status::ok);
  CHECK(as_it_is == feature_bits(required_features(model.config())));
  CHECK(needed([](StackConfig& c, ImageBytes&) { c.n_sinks = 1; }) == (as_it_is | HEED_FEATURE_NONE_HAS));
  CHECK(needed([](StackConfig& c, ImageBytes&) {
          c.activation = Activation::relu;
          c.n_sinks = 1;  // or the tensors would contradict the rest
        }) == (as_it_is | HEED_FEATURE_RELU | HEED_FEATURE_NONE_HAS));
  CHECK(needed([](StackConfig&, ImageBytes& image) {
          auto* entry = reinterpret_cast<TensorEntry*>(section(image, SectionKind::directory));
          while (entry->type != ElementType::s8) ++entry;
          entry->type = ElementType::s4;
        }) == (as_it_is | HEED_FEATURE_NONE_HAS));
  CHECK(needed([](StackConfig& c, ImageBytes&) { c.d_model = 0; }) == 0);
  CHECK(needed([](StackConfig&, ImageBytes& image) { image[0] = 'x'; }) == 0);
  CHECK(heed_needed_features(nullptr, 0, portable()) == 0);
  CHECK(heed_needed_features(good.data(), good.size(), nullptr) == 0);
  CHECK(heed_needed_features(good.data() + 1, good.size() - 1, portable()) == 0);
}

TEST_CASE("a block per region gives the same logits in C", "[c]") {
  const ImageBytes image = tiny();
  const heed_kernels* const k = portable();
  CRunning whole(image);
  heed_block blocks[HEED_REGIONS];
  std::unique_ptr<GuardedArena> memory[HEED_REGIONS];
  for (int i = 0; i < HEED_REGIONS; ++i) {
    const auto bytes = region_bytes_of_number(&whole.plan, i);
    REQUIRE(bytes != 0);
    memory[i] = std::make_unique<GuardedArena>(bytes, heed_plan_arena_align(&whole.plan));
    blocks[i] = {memory[i]->span().data(), memory[i]->span().size()};
  }
  heed_session session;
  const auto create = [&] { return heed_session_create_in(&session, &whole.model, &whole.plan, k, blocks); };
  REQUIRE(create() == HEED_OK);
  for (heed_token token = 1; token < 9; ++token) {
    const float *here = nullptr, *there = nullptr;
    REQUIRE(heed_session_step(&session, &here, token) == HEED_OK);
    REQUIRE(heed_session_step(&whole.session, &there, token) == HEED_OK);
    CHECK(here == static_cast<const void*>(blocks[HEED_REGION_LOGITS].start));
    CHECK(std::memcmp(here, there, 12 * sizeof(float)) == 0);
  }
  for (int i = 0; i < HEED_REGIONS; ++i) {
    const heed_block good = blocks[i];
    blocks[i].bytes -= 1;
    CHECK(create() == HEED_ARENA_TOO_SMALL);
    blocks[i] = {static_cast<std::byte*>(good.start) + 1, good.bytes};
    CHECK(create() == HEED_MISALIGNED);
    blocks[i] = {nullptr, good.bytes};
    CHECK(create() == HEED_BAD_ARGUMENT);
    blocks[i] = {blocks[(i + 1) % HEED_REGIONS].start, good.bytes};
    CHECK(create() == HEED_BAD_ARGUMENT);
    blocks[i] = good;
  }
  CHECK(heed_session_create_in(&session, &whole.model, &whole.plan, k, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_session_create_in(nullptr, &whole.model, &whole.plan, k, blocks) == HEED_BAD_ARGUMENT);
  CHECK(heed_plan_region_bytes(nullptr, HEED_REGION_SCRATCH) == 0);
  for (const int region : {HEED_REGIONS, 255, 256, 0x7FFFFFFF, -1, -0x7FFFFFFF - 1})
    CHECK(region_bytes_of_number(&whole.plan, region) == 0);
  CHECK(heed_plan_region_bytes(&whole.plan, -1) == 0);
  for (const auto& each : memory) CHECK(each->intact());
}

TEST_CASE("null and zeroed objects refuse every call", "[c]") {
  const ImageBytes image = tiny();
  const heed_kernels* const k = portable();
  heed_model no_model{}, model;
  heed_plan no_plan{}, plan;
  heed_session no_session{}, session;
  heed_tokenizer no_tokenizer{}, tokenizer;
  heed_sampler no_sampler{};
  heed_decoder no_decoder{};
  alignas(64) static std::byte arena[65536];
  REQUIRE(heed_model_open(&model, image.data(), image.size(), k) == HEED_OK);
  REQUIRE(heed_plan_make(&plan, &model, k, nullptr) == HEED_OK);
  REQUIRE(heed_session_create(&session, &model, &plan, k, arena, sizeof arena) == HEED_OK);
  REQUIRE(heed_tokenizer_open(&tokenizer, &model) == HEED_OK);

  const float* logits = nullptr;
  const heed_token token = 1;
  heed_token picked = 0;
  std::uint32_t n = 0, scratch[64];
  char text[HEED_DECODE_BYTES];
  const char* piece = nullptr;
  const heed_parallel idle{nullptr, nullptr, 2, 0};
  const auto take = [](void*, std::uint32_t, const float*, std::uint32_t) {};
  const heed_status statuses[] = {
      heed_model_open(nullptr, image.data(), image.size(), k),
      heed_model_open(&no_model, nullptr, image.size(), k),
      heed_model_open(&no_model, image.data(), image.size(), nullptr),
      heed_model_verify(nullptr, k),
      heed_model_verify(&no_model, k),
      heed_model_verify(&model, nullptr),
      heed_plan_make(nullptr, &model, k, nullptr),
      heed_plan_make(&no_plan, &no_model, k, nullptr),
      heed_plan_make(&no_plan, nullptr, k, nullptr),
      heed_plan_make(&no_plan, &model, nullptr, nullptr),
      heed_session_create(nullptr, &model, &plan, k, arena, sizeof arena),
      heed_session_create(&no_session, &no_model, &plan, k, arena, sizeof arena),
      heed_session_create(&no_session, &model, &no_plan, k, arena, sizeof arena),
      heed_session_create(&no_session, &model, nullptr, k, arena, sizeof arena),
      heed_session_create(&no_session, &model, &plan, nullptr, arena, sizeof arena),
      heed_session_prefill(nullptr, &logits, &token, 1),
      heed_session_prefill(&no_session, &logits, &token, 1),
      heed_session_prefill(&session, nullptr, &token, 1),
      heed_session_prefill(&session, &logits, nullptr, 1),
      heed_session_step(&no_session, &logits, token),
      heed_session_evaluate(&no_session, &token, 1, take, nullptr),
      heed_session_evaluate(&session, &token, 1, nullptr, nullptr),
      heed_session_evaluate(&session, nullptr, 1, take, nullptr),
      heed_session_rewind(&no_session, 0),
      heed_session_set_parallel(&no_session, nullptr),
      heed_session_set_parallel(&session, &idle),
      heed_sampler_create(nullptr, nullptr, 12, k, nullptr, 0),
      heed_sampler_create(&no_sampler, nullptr, 12, nullptr, nullptr, 0),
      heed_sampler_create(&no_sampler, nullptr, 0, k, nullptr, 0),
      heed_sampler_create(&no_sampler, nullptr, 12, k, nullptr, 48),
      heed_sampler_pick(&no_sampler, &picked, reinterpret_cast<const float*>(arena)),
      heed_sampler_pick(nullptr, &picked, reinterpret_cast<const float*>(arena)),
      heed_tokenizer_open(nullptr, &model),
      heed_tokenizer_open(&no_tokenizer, &no_model),
      heed_tokenizer_encode(&no_tokenizer, &n, &picked, 1, "", 0, 0, scratch, sizeof scratch),
      heed_tokenizer_encode(&tokenizer, nullptr, &picked, 1, "", 0, 0, scratch, sizeof scratch),
      heed_tokenizer_encode(&tokenizer, &n, nullptr, 1, "", 0, 0, scratch, sizeof scratch),
      heed_tokenizer_encode(&tokenizer, &n, &picked, 1, nullptr, 1, 0, scratch, sizeof scratch),
      heed_tokenizer_encode(&tokenizer, &n, &picked, 1, "", 0, 0, nullptr, sizeof scratch),
      heed_tokenizer_decode(&no_tokenizer, &piece, &n, HEED_NO_TOKEN, 1),
      heed_tokenizer_decode(&tokenizer, nullptr, &n, HEED_NO_TOKEN, 1),
      heed_decoder_push(nullptr, &n, text, sizeof text, &tokenizer, 1),
      heed_decoder_push(&no_decoder, &n, text, sizeof text, &tokenizer, 1),
  };
  for (std::size_t i = 0; i < sizeof statuses / sizeof statuses[0]; ++i) {
    INFO("call " << i);
    CHECK(statuses[i] == HEED_BAD_ARGUMENT);
  }
  CHECK(heed_model_vocab_size(nullptr) == 0);
  CHECK(heed_model_vocab_size(&no_model) == 0);
  CHECK(heed_model_image_bytes(&no_model) == 0);
  std::size_t n_metadata = 1;
  CHECK(heed_model_metadata(&no_model, &n_metadata) == nullptr);
  CHECK(n_metadata == 0);
  CHECK(heed_plan_arena_bytes(&no_plan) == 0);
  CHECK(heed_plan_arena_align(nullptr) == 0);
  CHECK(heed_session_position(&no_session) == 0);
  CHECK(heed_session_max_seq(nullptr) == 0);
  CHECK(heed_tokenizer_bos(&no_tokenizer) == HEED_NO_TOKEN);
  CHECK(heed_tokenizer_eos(nullptr) == HEED_NO_TOKEN);
  CHECK(heed_decoder_flush(nullptr, text) == 0);
  CHECK(heed_kernels_name(nullptr) == nullptr);
  CHECK(heed_find_kernels(nullptr) == nullptr);
  CHECK(heed_digest_value(nullptr) == 0);
  CHECK(heed_digest_saw_nan(nullptr) == 0);
  heed_decoder_begin(nullptr, 0);
  heed_digest_begin(nullptr);
  heed_digest_add(nullptr, 0, nullptr, 0, nullptr);
}

TEST_CASE("objects have room to grow before the ABI breaks", "[c]") {
  CHECK(sizeof(Model) * 8 <= sizeof(heed_model) * 7);
  CHECK(sizeof(Plan) * 8 <= sizeof(heed_plan) * 7);
  CHECK(sizeof(Session) * 8 <= sizeof(heed_session) * 7);
  CHECK(sizeof(Sampler) * 8 <= sizeof(heed_sampler) * 7);
  CHECK(sizeof(Tokenizer) * 8 <= sizeof(heed_tokenizer) * 7);
  CHECK(sizeof(Generation) * 8 + 64 <= sizeof(heed_generation) * 7);  // and whether it was opened
  // Their sizes are the ABI.
  CHECK(sizeof(heed_model) == 768);
  CHECK(sizeof(heed_plan) == 1024);
  CHECK(sizeof(heed_session) == (sizeof(void*) == 8 ? 5056u : 3776u));
  CHECK(sizeof(heed_sampler) == 96);
  CHECK(sizeof(heed_tokenizer) == 192);
  CHECK(sizeof(heed_generation) == 64);
  CHECK(sizeof(heed_limits) == 32);
  CHECK(sizeof(heed_stack) == 128);
  CHECK(sizeof(heed_sequence) == (sizeof(void*) == 8 ? 56u : 40u));
  CHECK(sizeof(heed_decoder) == 32);
  CHECK(sizeof(heed_digest) == 16);
}
