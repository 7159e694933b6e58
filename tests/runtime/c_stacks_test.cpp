// SPDX-License-Identifier: Apache-2.0
// c_stacks_test.cpp: encoders and models of two stacks through heed.h give what they give through the C++ headers, and what
// cannot be is refused.
#include <cfenv>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "quant/file.hpp"
#include "tests/golden/stacks.hpp"
#include "tests/runtime/c_header_run.h"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/random.hpp"
#include "tests/support/run.hpp"
#include "tests/support/sections.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using heed::quant::ImageBytes;

const heed_kernels* portable() { return heed_find_kernels("portable"); }
const Kernels& portable_table() { return *find_kernels("portable"); }

ImageBytes two() { return golden::two_image(Layout::row, portable_table()); }
ImageBytes frames() { return golden::frames_image(Layout::row, portable_table()); }

// The first stack of two.heed alone: token types, a class vector, an output per position.
ImageBytes reader() {
  const ModelConfig config = golden::reading_stack();
  quant::TensorSection tensors(config, Layout::row);
  golden::fill(tensors, config, golden::StackNumbers(config, 5));
  ImageBytes image;
  quant::write_image(image, config, tensors, {}, portable_table());
  return image;
}

std::vector<float> random_frames(std::size_t n) {
  Random random(7);
  std::vector<float> frames(n * golden::frames_config().d_input);
  for (float& f : frames) f = 2.0f * random.uniform();
  return frames;
}

heed_sequence of_tokens(const std::vector<heed_token>& tokens, const std::uint8_t* types = nullptr) {
  heed_sequence s{};
  s.tokens = tokens.data();
  s.n_tokens = tokens.size();
  s.token_types = types;
  return s;
}
heed_sequence of_vectors(const std::vector<float>& vectors, std::size_t n) {
  heed_sequence s{};
  s.vectors = vectors.data();
  s.n_vectors = n;
  return s;
}

// Everything up to a session, in C.
struct CRunning {
  explicit CRunning(const ImageBytes& bytes, const heed_limits* limits = nullptr) {
    for (std::uint64_t& word : session.storage) word = 0xA5A5A5A5A5A5A5A5u;  // nothing in it may matter
    REQUIRE(heed_model_open(&model, bytes.data(), bytes.size(), portable()) == HEED_OK);
    REQUIRE(heed_plan_make(&plan, &model, portable(), limits) == HEED_OK);
    arena = std::make_unique<GuardedArena>(heed_plan_arena_bytes(&plan), heed_plan_arena_align(&plan));
    const Span<std::byte> span = arena->span();
    REQUIRE(heed_session_create(&session, &model, &plan, portable(), span.data(), span.size()) == HEED_OK);
  }
  ~CRunning() { CHECK(arena->intact()); }

  heed_model model;
  heed_plan plan;
  heed_session session;
  std::unique_ptr<GuardedArena> arena;
};

// The same in C++.
struct CppRunning {
  CppRunning(const ImageBytes& image, const Kernels& kernels) {
    REQUIRE(open(model, bytes(image), kernels) == Status::ok);
    REQUIRE(make_plan(plan, model.config(), kernels.traits) == Status::ok);
    arena = std::make_unique<GuardedArena>(plan.arena_bytes, plan.arena_align);
    REQUIRE(create(session, model, plan, kernels, arena->span()) == Status::ok);
  }
  Model model;
  Plan plan;
  Session session;
  std::unique_ptr<GuardedArena> arena;
};

// Everything that an encoder gives, as one number.
std::uint32_t digest_of(Session& session, const Sequence& input) {
  struct To {
    Digest digest;
    const Kernels& kernels;
  } to{{}, *session.kernels()};
  const RowSink sink{[](void* context, std::uint32_t position, Span<const float> row) {
                       To& t = *static_cast<To*>(context);
                       t.digest.add(t.kernels, static_cast<Token>(position), row);
                     },
                     &to};
  REQUIRE(session.encode(input, sink) == Status::ok);
  CHECK_FALSE(to.digest.saw_nan());
  return to.digest.value();
}

void ignore_output(void*, std::uint32_t, const float*, std::uint32_t) {}

}  // namespace

TEST_CASE("an encoder in C has the outputs of C++, on every table and with any chunk", "[c]") {
  const std::vector<heed_token> tokens = {1, 11, 9, 4, 3, 5, 5, 7, 10, 2};
  const std::vector<std::uint8_t> types = {0, 0, 0, 1, 1, 1, 0, 1, 0, 1};
  const std::vector<float> vectors = random_frames(31);
  for (const Kernels* k : runnable_kernels())
    for (const bool is_frames : {true, false}) {
      INFO(k->traits.name << (is_frames ? " frames" : " tokens"));
      if (!((k->traits.layouts >> static_cast<int>(Layout::row)) & 1u)) continue;
      const ImageBytes image = is_frames ? frames() : reader();
      CppRunning cpp(image, *k);
      Sequence input;
      if (is_frames)
        input.vectors = vectors;
      else
        input.tokens = tokens, input.token_types = types;
      const std::uint32_t expected = digest_of(cpp.session, input);
      const heed_sequence in_c = is_frames ? of_vectors(vectors, 31) : of_tokens(tokens, types.data());
      for (const std::uint32_t chunk : {0u, 1u, 7u}) {
        c_encoding run{};
        run.kernels = k->traits.name;
        run.chunk = chunk;
        std::vector<std::uint64_t> arena(1 << 17);
        const c_memory memory{arena.data() + (64 - reinterpret_cast<std::uintptr_t>(arena.data()) % 64) / 8, nullptr,
                              8 * (arena.size() - 8), 0};
        REQUIRE(encode_through_c(&run, image.data(), image.size(), &in_c, &memory) == HEED_OK);
        CHECK(run.digest == expected);
        CHECK(run.n_outputs == (is_frames ? 1u : tokens.size() + 1));
        CHECK(run.output_width == (is_frames ? 5u : 24u));
        if (chunk == 0) CHECK(run.arena_bytes == cpp.plan.arena_bytes);
      }
    }
}

TEST_CASE("an encoder-decoder in C writes what it writes in C++, greedily and by chance", "[c]") {
  for (const Kernels* k : runnable_kernels())
    for (const float temperature : {0.0f, 0.9f}) {
      INFO(k->traits.name << " " << temperature);
      const ImageBytes image = golden::two_image(k->traits.preferred, *k);
      CppRunning cpp(image, *k);
      Tokenizer tokenizer;
      Generation generation;
      Sampler sampler;
      alignas(8) std::byte scratch[512];
      REQUIRE(open(tokenizer, cpp.model.tokenizer(), 12) == Status::ok);
      REQUIRE(open(generation, cpp.model.generation(), 12, tokenizer.bos(), tokenizer.eos()) == Status::ok);
      REQUIRE(create(sampler, {temperature, 0, 1.0f, 5}, 12, *k, scratch) == Status::ok);
      Token tokens[32];
      std::uint32_t n = 0;
      alignas(8) std::byte encode_scratch[256];
      REQUIRE(tokenizer.encode(n, {"banana an", 9}, {true, true}, tokens, encode_scratch) == Status::ok);
      REQUIRE(cpp.session.set_source({{tokens, n}, {}, {}}) == Status::ok);
      Span<const float> logits;
      REQUIRE(cpp.session.prefill(logits, generation.first()) == Status::ok);
      StreamDecoder decoder;
      Digest digest;
      std::string text;
      std::uint32_t generated = 0;
      for (Token token; generated < 40;) {
        REQUIRE(sampler.pick(token, logits, generation.suppressed()) == Status::ok);
        digest.add(*k, token, logits);
        ++generated;
        if (generation.ends_text(token)) break;
        char piece[HEED_DECODE_BYTES];
        std::uint32_t n_bytes = 0;
        REQUIRE(decoder.push(n_bytes, tokenizer, token, piece) == Status::ok);
        text.append(piece, n_bytes);
        REQUIRE(cpp.session.step(logits, token) == Status::ok);
      }
      CHECK_FALSE(digest.saw_nan());

      c_run run{};
      run.kernels = k->traits.name;
      run.temperature = temperature;
      run.seed = 5;
      run.max_tokens = 40;
      GuardedArena arena(cpp.plan.arena_bytes, cpp.plan.arena_align);
      const c_memory memory{arena.span().data(), scratch, arena.span().size(), sizeof scratch};
      REQUIRE(translate_through_c(&run, image.data(), image.size(), "banana an", &memory) == HEED_OK);
      CHECK(arena.intact());
      CHECK(run.arena_bytes == cpp.plan.arena_bytes);
      CHECK(run.n_tokens == generated);
      CHECK(run.digest == digest.value());
      CHECK(std::string(run.text, run.text_bytes) == text);
    }
}

TEST_CASE("what a model is, in C", "[c]") {
  const ImageBytes image = two(), other = frames();
  heed_model model;
  heed_stack s;
  REQUIRE(heed_model_open(&model, image.data(), image.size(), portable()) == HEED_OK);
  CHECK(heed_model_n_stacks(&model) == 2);
  REQUIRE(heed_model_stack(&model, &s, 0) == HEED_OK);
  const StackConfig reading = golden::reading_stack(), writing = golden::writing_stack();
  CHECK(s.use == HEED_USE_ENCODE);
  CHECK(s.input == HEED_INPUT_TOKENS);
  CHECK(s.input_width == 0);
  CHECK(s.input_stride == 1);
  CHECK(s.n_class_vectors == 1);
  CHECK(s.n_token_types == 2);
  CHECK(s.output == HEED_OUTPUT_VECTORS);
  CHECK(s.output_width == reading.d_model);
  CHECK(s.pooled == 0);
  CHECK(s.sees_both_ways == 1);
  CHECK(s.window == 4);
  CHECK(s.vocab_size == 12);
  CHECK(s.max_seq == reading.max_seq);
  CHECK(s.d_model == reading.d_model);
  CHECK(s.d_ff == reading.d_ff);
  CHECK(s.n_layers == reading.n_layers);
  CHECK(s.n_heads == reading.n_heads);
  CHECK(s.n_kv_heads == reading.n_kv_heads);
  CHECK(s.head_dim == reading.head_dim);
  for (const std::uint32_t r : s.reserved) CHECK(r == 0);
  REQUIRE(heed_model_stack(&model, &s, 1) == HEED_OK);
  CHECK(s.use == HEED_USE_GENERATE);
  CHECK(s.sees_both_ways == 0);
  CHECK(s.output == HEED_OUTPUT_LOGITS);
  CHECK(s.output_width == 12);
  CHECK(heed_model_d_model(&model) == writing.d_model);
  CHECK(heed_model_max_seq(&model) == writing.max_seq);
  const heed_stack before = s;
  CHECK(heed_model_stack(&model, &s, 2) == HEED_BAD_ARGUMENT);
  CHECK(heed_model_stack(&model, nullptr, 0) == HEED_BAD_ARGUMENT);
  CHECK(std::memcmp(&before, &s, sizeof s) == 0);
  std::size_t n = 1;
  CHECK(heed_model_class_name(&model, &n, 0) == nullptr);
  CHECK(n == 0);

  REQUIRE(heed_model_open(&model, other.data(), other.size(), portable()) == HEED_OK);
  CHECK(heed_model_n_stacks(&model) == 1);
  REQUIRE(heed_model_stack(&model, &s, 0) == HEED_OK);
  CHECK(s.input == HEED_INPUT_CONVOLVED);
  CHECK(s.input_width == 7);
  CHECK(s.input_stride == 2);
  CHECK(s.pooled == 1);
  CHECK(s.output_width == 5);
  const char* const name = heed_model_class_name(&model, &n, 2);
  CHECK(std::string(name, n) == "left");
  CHECK(heed_model_class_name(&model, nullptr, 4) != nullptr);
  CHECK(heed_model_class_name(&model, &n, 5) == nullptr);
}

TEST_CASE("limits of a source and of rows in C", "[c]") {
  const ImageBytes image = two(), tiny = golden::tiny_image(Layout::row, portable_table());
  heed_limits limits{};
  limits.source_seq = 20;
  limits.score_rows = 5;
  CRunning c(image, &limits);
  CHECK(heed_plan_source_seq(&c.plan) == 20);
  Model model;
  Plan plan;
  REQUIRE(open(model, bytes(image), portable_table()) == Status::ok);
  REQUIRE(make_plan(plan, model.config(), portable_table().traits, {0, 0, 20, 5}) == Status::ok);
  CHECK(heed_plan_arena_bytes(&c.plan) == plan.arena_bytes);
  heed_plan other;
  REQUIRE(heed_plan_make(&other, &c.model, portable(), nullptr) == HEED_OK);
  CHECK(heed_plan_source_seq(&other) == golden::reading_stack().max_seq);
  CHECK(heed_plan_arena_bytes(&other) > heed_plan_arena_bytes(&c.plan));
  limits.source_seq = golden::reading_stack().max_seq + 1;
  CHECK(heed_plan_make(&other, &c.model, portable(), &limits) == HEED_CONTEXT_TOO_LONG);
  CHECK(heed_plan_source_seq(&other) == 0);
  limits = {};
  limits.score_rows = 4097;
  CHECK(heed_plan_make(&other, &c.model, portable(), &limits) == HEED_BAD_ARGUMENT);
  // A source takes what the limit says, its class vector included; what was there is kept when it does not fit.
  const std::vector<heed_token> fits(19, 4), too_long(20, 4);
  heed_sequence source = of_tokens(fits);
  REQUIRE(heed_session_set_source(&c.session, &source) == HEED_OK);
  CHECK(heed_session_source_positions(&c.session) == 20);
  source = of_tokens(too_long);
  CHECK(heed_session_set_source(&c.session, &source) == HEED_CONTEXT_FULL);
  CHECK(heed_session_source_positions(&c.session) == 20);
  // Rows of logits in one product, by two ways the same.
  const std::vector<heed_token> tokens = {1, 3, 5, 7, 9, 11, 4};
  std::vector<std::vector<std::uint32_t>> rows;
  const auto take = [](void* context, std::uint32_t position, const float* logits, std::uint32_t n) {
    auto& all = *static_cast<std::vector<std::vector<std::uint32_t>>*>(context);
    CHECK(position == all.size());
    all.push_back(bits({logits, n}));
  };
  REQUIRE(heed_session_evaluate(&c.session, tokens.data(), tokens.size(), take, &rows) == HEED_OK);
  REQUIRE(rows.size() == tokens.size());
  REQUIRE(heed_session_rewind(&c.session, 0) == HEED_OK);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const float* logits = nullptr;
    REQUIRE(heed_session_step(&c.session, &logits, tokens[i]) == HEED_OK);
    CHECK(bits({logits, 12}) == rows[i]);
  }
  heed_model plain;
  REQUIRE(heed_model_open(&plain, tiny.data(), tiny.size(), portable()) == HEED_OK);
  limits = {};
  limits.source_seq = 1;
  CHECK(heed_plan_make(&other, &plain, portable(), &limits) == HEED_BAD_ARGUMENT);
}

TEST_CASE("how a text begins and ends, in C", "[c]") {
  const ImageBytes image = two();
  const ImageBytes plain = with_sections(image, {{SectionKind::generation, {}}});
  heed_model model;
  heed_tokenizer tokenizer;
  heed_generation g;
  const auto list = [](const heed_token* tokens, std::uint32_t n) { return std::vector<heed_token>(tokens, tokens + n); };
  const auto endings = [&] {
    std::vector<heed_token> all;
    for (heed_token t = HEED_NO_TOKEN; t < 12; ++t)
      if (heed_generation_ends_text(&g, t)) all.push_back(t);
    return all;
  };
  std::uint32_t n = 0;
  REQUIRE(heed_model_open(&model, image.data(), image.size(), portable()) == HEED_OK);
  REQUIRE(heed_tokenizer_open(&tokenizer, &model) == HEED_OK);
  REQUIRE(heed_generation_open(&g, &model, &tokenizer) == HEED_OK);
  const heed_token* tokens = heed_generation_first(&g, &n);
  CHECK(list(tokens, n) == std::vector<heed_token>{1, 3});
  tokens = heed_generation_suppressed(&g, &n);
  CHECK(list(tokens, n) == std::vector<heed_token>{4});
  CHECK(endings() == std::vector<heed_token>{2, 5});

  REQUIRE(heed_model_open(&model, plain.data(), plain.size(), portable()) == HEED_OK);
  REQUIRE(heed_tokenizer_open(&tokenizer, &model) == HEED_OK);
  REQUIRE(heed_generation_open(&g, &model, &tokenizer) == HEED_OK);
  const heed_generation copy = g;
  std::memset(&g, 0, sizeof g);
  tokens = heed_generation_first(&copy, &n);
  CHECK(list(tokens, n) == std::vector<heed_token>{1});
  CHECK(heed_generation_suppressed(&copy, &n) == nullptr);
  CHECK(n == 0);
  g = copy;
  CHECK(endings() == std::vector<heed_token>{1, 2});
  REQUIRE(heed_generation_open(&g, &model, nullptr) == HEED_OK);
  CHECK(heed_generation_first(&g, &n) == nullptr);
  CHECK(n == 0);
  CHECK(endings().empty());

  const std::vector<std::uint8_t> bad = generation_section({12}, {}, {});
  const ImageBytes refused = with_sections(image, {{SectionKind::generation, {bad.data(), bad.size()}}});
  REQUIRE(heed_model_open(&model, refused.data(), refused.size(), portable()) == HEED_OK);
  CHECK(heed_generation_open(&g, &model, &tokenizer) == HEED_BAD_SECTION);
  CHECK(heed_generation_ends_text(&g, 2) == 0);  // zeroed

  // Never one of these, greedily and by chance; C++ has the rest.
  heed_sampler sampler;
  REQUIRE(heed_sampler_create(&sampler, nullptr, 4, portable(), nullptr, 0) == HEED_OK);
  const float logits[4] = {1.0f, 3.0f, 2.0f, 0.0f};
  const heed_token suppressed[3] = {1, 0, 4};
  heed_token token = -5;
  REQUIRE(heed_sampler_pick_except(&sampler, &token, logits, suppressed, 2) == HEED_OK);
  CHECK(token == 2);
  REQUIRE(heed_sampler_pick_except(&sampler, &token, logits, nullptr, 0) == HEED_OK);
  CHECK(token == 1);
  CHECK(heed_sampler_pick_except(&sampler, &token, logits, suppressed, 3) == HEED_BAD_TOKEN);
  CHECK(heed_sampler_pick_except(&sampler, &token, logits, nullptr, 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_sampler_pick_except(nullptr, &token, logits, suppressed, 2) == HEED_BAD_ARGUMENT);
  CHECK(heed_sampler_pick_except(&sampler, nullptr, logits, suppressed, 2) == HEED_BAD_ARGUMENT);
  CHECK(heed_sampler_pick_except(&sampler, &token, nullptr, suppressed, 2) == HEED_BAD_ARGUMENT);
}

TEST_CASE("a source with a vocabulary of its own, in C", "[c]") {
  // The same pieces, but the text is not encoded behind a space.
  quant::Vocabulary vocabulary = golden::tiny_vocabulary();
  vocabulary.prefix_space = false;
  std::vector<std::uint8_t> section;
  REQUIRE(quant::build_tokenizer_section(section, vocabulary).empty());
  const ImageBytes one = two();
  const ImageBytes own = with_sections(one, {{SectionKind::source_tokenizer, {section.data(), section.size()}}});
  heed_model model;
  heed_tokenizer tokenizer;
  std::uint32_t scratch[64];
  const auto encoded = [&] {
    heed_token tokens[16];
    std::uint32_t n = 0;
    REQUIRE(heed_tokenizer_encode(&tokenizer, &n, tokens, 16, "na", 2, 0, scratch, sizeof scratch) == HEED_OK);
    return std::vector<heed_token>(tokens, tokens + n);
  };
  REQUIRE(heed_model_open(&model, own.data(), own.size(), portable()) == HEED_OK);
  REQUIRE(heed_tokenizer_open_source(&tokenizer, &model) == HEED_OK);
  CHECK(encoded() == std::vector<heed_token>{9});
  REQUIRE(heed_tokenizer_open(&tokenizer, &model) == HEED_OK);
  CHECK(encoded() == std::vector<heed_token>{3, 9});
  REQUIRE(heed_model_open(&model, one.data(), one.size(), portable()) == HEED_OK);
  REQUIRE(heed_tokenizer_open_source(&tokenizer, &model) == HEED_OK);  // that of both
  CHECK(encoded() == std::vector<heed_token>{3, 9});
  const ImageBytes tiny = golden::tiny_image(Layout::row, portable_table());
  REQUIRE(heed_model_open(&model, tiny.data(), tiny.size(), portable()) == HEED_OK);
  CHECK(heed_tokenizer_open_source(&tokenizer, &model) == HEED_BAD_ARGUMENT);
  CHECK(heed_tokenizer_bos(&tokenizer) == HEED_NO_TOKEN);
  CHECK(heed_tokenizer_open_source(nullptr, &model) == HEED_BAD_ARGUMENT);
  CHECK(heed_tokenizer_open_source(&tokenizer, nullptr) == HEED_BAD_ARGUMENT);
}

TEST_CASE("what a model is not for is refused in C, and changes nothing", "[c]") {
  const std::vector<heed_token> tokens = {1, 11, 9, 4};
  const std::vector<float> vectors = random_frames(8);
  const heed_sequence text = of_tokens(tokens), frame_sequence = of_vectors(vectors, 8);
  const float* output = nullptr;
  const heed_token token = 1;
  {
    const ImageBytes image = frames();
    CRunning c(image);
    const auto encode = [&](const heed_sequence& s) { return heed_session_encode(&c.session, &output, &s); };
    REQUIRE(encode(frame_sequence) == HEED_OK);
    const std::vector<std::uint32_t> expected = bits({output, 5});
    output = nullptr;
    CHECK(encode(text) == HEED_BAD_ARGUMENT);
    CHECK(encode({}) == HEED_BAD_ARGUMENT);
    heed_sequence s = frame_sequence;
    s.tokens = tokens.data();
    s.n_tokens = 4;
    CHECK(encode(s) == HEED_BAD_ARGUMENT);
    s = frame_sequence;
    s.vectors = nullptr;
    CHECK(encode(s) == HEED_BAD_ARGUMENT);
    s = frame_sequence;
    s.n_vectors = SIZE_MAX / 4;  // times the width it would be few again
    CHECK(encode(s) == HEED_BAD_ARGUMENT);
    s = frame_sequence;
    s.reserved[1] = 1;
    CHECK(encode(s) == HEED_BAD_ARGUMENT);
    s = frame_sequence;
    s.vectors = reinterpret_cast<const float*>(reinterpret_cast<const char*>(vectors.data()) + 1);
    s.n_vectors = 7;
    CHECK(encode(s) == HEED_MISALIGNED);
    const std::vector<float> many = random_frames(142);
    CHECK(encode(of_vectors(many, 141)) == HEED_CONTEXT_FULL);  // 2 class vectors and 71 positions of 72
    REQUIRE(encode(of_vectors(many, 140)) == HEED_OK);
    CHECK(heed_session_prefill(&c.session, &output, &token, 1) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_set_source(&c.session, &frame_sequence) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_source_positions(&c.session) == 0);
    CHECK(heed_session_encode(&c.session, nullptr, &frame_sequence) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_encode(&c.session, &output, nullptr) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_encode(nullptr, &output, &frame_sequence) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_encode_each(&c.session, &frame_sequence, nullptr, nullptr) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_encode_each(&c.session, nullptr, ignore_output, nullptr) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_encode_each(nullptr, &frame_sequence, ignore_output, nullptr) == HEED_BAD_ARGUMENT);
    const int rounding = std::fegetround();
    std::fesetround(FE_DOWNWARD);
    const heed_status downward = encode(frame_sequence);
    std::fesetround(rounding);
    CHECK(downward == HEED_ROUNDING_MODE);
    REQUIRE(encode(frame_sequence) == HEED_OK);
    CHECK(bits({output, 5}) == expected);
  }
  {
    const ImageBytes image = reader();
    CRunning c(image);
    CHECK(heed_session_encode(&c.session, &output, &text) == HEED_BAD_ARGUMENT);  // one for each position
    const auto encode = [&](const heed_sequence& s) {
      return heed_session_encode_each(&c.session, &s, ignore_output, nullptr);
    };
    CHECK(encode(text) == HEED_OK);
    CHECK(encode(frame_sequence) == HEED_BAD_ARGUMENT);
    const std::vector<std::uint8_t> types = {0, 1, 2, 0};
    CHECK(encode(of_tokens(tokens, types.data())) == HEED_BAD_TOKEN);
    CHECK(encode(of_tokens({1, 12})) == HEED_BAD_TOKEN);
    CHECK(encode(of_tokens({1, -1})) == HEED_BAD_TOKEN);
    heed_sequence s{};
    s.token_types = types.data();
    CHECK(encode(s) == HEED_BAD_ARGUMENT);
    s = text;
    s.tokens = nullptr;
    CHECK(encode(s) == HEED_BAD_ARGUMENT);
  }
  {
    const ImageBytes image = two();
    CRunning c(image);
    CHECK(heed_session_step(&c.session, &output, token) == HEED_BAD_ARGUMENT);  // no source yet
    CHECK(heed_session_encode(&c.session, &output, &text) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_encode_each(&c.session, &text, ignore_output, nullptr) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_set_source(&c.session, &frame_sequence) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_set_source(&c.session, nullptr) == HEED_BAD_ARGUMENT);
    CHECK(heed_session_set_source(nullptr, &text) == HEED_BAD_ARGUMENT);
    REQUIRE(heed_session_set_source(&c.session, &text) == HEED_OK);
    CHECK(heed_session_source_positions(&c.session) == 5);
    REQUIRE(heed_session_step(&c.session, &output, token) == HEED_OK);
    CHECK(heed_session_position(&c.session) == 1);
    REQUIRE(heed_session_set_source(&c.session, &text) == HEED_OK);
    CHECK(heed_session_position(&c.session) == 0);
  }
}

TEST_CASE("null and zeroed objects refuse the calls of stacks", "[c]") {
  heed_model no_model{};
  heed_session no_session{};
  heed_generation no_generation{};
  heed_tokenizer no_tokenizer{};
  heed_stack stack;
  const std::vector<heed_token> tokens = {1};
  const heed_sequence text = of_tokens(tokens);
  const float* output = nullptr;
  std::uint32_t n = 1;
  CHECK(heed_model_n_stacks(nullptr) == 0);
  CHECK(heed_model_n_stacks(&no_model) == 0);
  CHECK(heed_model_stack(nullptr, &stack, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_model_stack(&no_model, &stack, 0) == HEED_BAD_ARGUMENT);
  std::size_t bytes_of_name = 1;
  CHECK(heed_model_class_name(nullptr, &bytes_of_name, 0) == nullptr);
  CHECK(bytes_of_name == 0);
  CHECK(heed_model_class_name(&no_model, nullptr, 0) == nullptr);
  CHECK(heed_plan_source_seq(nullptr) == 0);
  CHECK(heed_session_encode(&no_session, &output, &text) == HEED_BAD_ARGUMENT);
  CHECK(heed_session_encode_each(&no_session, &text, ignore_output, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_session_set_source(&no_session, &text) == HEED_BAD_ARGUMENT);
  CHECK(heed_session_source_positions(&no_session) == 0);
  CHECK(heed_session_source_positions(nullptr) == 0);
  CHECK(heed_tokenizer_open_source(&no_tokenizer, &no_model) == HEED_BAD_ARGUMENT);
  CHECK(heed_generation_open(nullptr, &no_model, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_generation_open(&no_generation, nullptr, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_generation_open(&no_generation, &no_model, nullptr) == HEED_BAD_ARGUMENT);
  const ImageBytes image = two();
  heed_model model;
  REQUIRE(heed_model_open(&model, image.data(), image.size(), portable()) == HEED_OK);
  CHECK(heed_generation_open(&no_generation, &model, &no_tokenizer) == HEED_BAD_ARGUMENT);
  CHECK(heed_generation_first(&no_generation, &n) == nullptr);
  CHECK(n == 0);
  n = 1;
  CHECK(heed_generation_suppressed(nullptr, &n) == nullptr);
  CHECK(n == 0);
  CHECK(heed_generation_first(nullptr, nullptr) == nullptr);
  CHECK(heed_generation_ends_text(nullptr, 1) == 0);
  CHECK(heed_generation_ends_text(&no_generation, 0) == 0);
  CHECK(heed_generation_ends_text(&no_generation, HEED_NO_TOKEN) == 0);
}
