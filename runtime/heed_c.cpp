// SPDX-License-Identifier: Apache-2.0
// heed_c.cpp: heed.h in terms of the C++ headers, up to what a session gives: views of the caller's storage, null checks, and
// nothing else. No part of the runtime refers to this file or to heed_c_text.cpp and heed_c_layers.cpp, so that programs without
// C do not carry them.
#include "runtime/one_rounding.hpp"

#include "runtime/heed_c.hpp"
#include "runtime/runtime.hpp"

namespace heed {

// platform/select.hpp, of which runtime/ includes nothing.
const Kernels& best_kernels();
#if !defined(HEED_SINGLE_TABLE)
const Kernels* find_kernels(const char* name);
#endif

namespace {

#ifdef HEED_ONE_STACK
static_assert(!kBuiltFeatures.cross_attention, "HEED_ONE_STACK needs HEED_FEATURES without Feature::cross_attention");
#endif
static_assert(fits<Model, heed_model>() && fits<Plan, heed_plan>() && fits<Session, heed_session>());

using heed::created;
using heed::of;
// clang-format off
Model& of(heed_model* m) { return *reinterpret_cast<Model*>(m); }
Plan& of(heed_plan* p) { return *reinterpret_cast<Plan*>(p); }
const Plan& of(const heed_plan* p) { return *reinterpret_cast<const Plan*>(p); }
Session& of(heed_session* s) { return *reinterpret_cast<Session*>(s); }
const Session& of(const heed_session* s) { return *reinterpret_cast<const Session*>(s); }
bool created(const heed_session* s) { return s && of(s).plan().arena_bytes; }
// clang-format on

// Of a session's stack: what C calls a sequence, or null spans where it is none.
Status sequence_of(Sequence& sequence, const StackConfig& c, const heed_sequence* in) {
  if (!in || !all_zero(in->reserved, sizeof in->reserved) || (!in->tokens && in->n_tokens) ||
      (!in->vectors && in->n_vectors) || (in->token_types && !in->n_tokens))
    return Status::bad_argument;
  const std::size_t width = c.input_width();
  if (in->n_vectors && (!width || in->n_vectors > SIZE_MAX / sizeof(float) / width)) return Status::bad_argument;
  sequence.tokens = {in->tokens, in->n_tokens};
  sequence.token_types = {in->token_types, in->token_types ? in->n_tokens : 0};
  sequence.vectors = {in->vectors, in->n_vectors * width};
  return Status::ok;
}

// Hands what a session gives to C.
struct Taker {
  heed_take_output take;
  void* context;
  RowSink sink() {
    return {[](void* user, std::uint32_t position, Span<const float> row) {
              const auto& t = *static_cast<const Taker*>(user);
              t.take(t.context, position, row.data(), static_cast<std::uint32_t>(row.size()));
            },
            this};
  }
};

const StackConfig& config_of(const heed_model* model) {
  static constexpr StackConfig kNone{};  // its sizes are 0
  return created(model) ? of(model).config().main() : kNone;
}

static_assert(HEED_OK == static_cast<int>(Status::ok) && HEED_BAD_ARGUMENT == static_cast<int>(Status::bad_argument) &&
              HEED_MISALIGNED == static_cast<int>(Status::misaligned) &&
              HEED_TRUNCATED == static_cast<int>(Status::truncated) &&
              HEED_NOT_AN_IMAGE == static_cast<int>(Status::not_an_image) &&
              HEED_VERSION_UNSUPPORTED == static_cast<int>(Status::version_unsupported) &&
              HEED_BAD_SECTION == static_cast<int>(Status::bad_section) &&
              HEED_BAD_CONFIG == static_cast<int>(Status::bad_config) &&
              HEED_BAD_TENSOR == static_cast<int>(Status::bad_tensor) &&
              HEED_BAD_VALUE == static_cast<int>(Status::bad_value) &&
              HEED_BAD_CHECKSUM == static_cast<int>(Status::bad_checksum) &&
              HEED_BAD_TOKENIZER == static_cast<int>(Status::bad_tokenizer) &&
              HEED_FEATURE_NOT_BUILT == static_cast<int>(Status::feature_not_built) &&
              HEED_LAYOUT_UNSUPPORTED == static_cast<int>(Status::layout_unsupported) &&
              HEED_CONTEXT_TOO_LONG == static_cast<int>(Status::context_too_long) &&
              HEED_ARENA_TOO_SMALL == static_cast<int>(Status::arena_too_small) &&
              HEED_ROUNDING_MODE == static_cast<int>(Status::rounding_mode) &&
              HEED_CONTEXT_FULL == static_cast<int>(Status::context_full) &&
              HEED_BAD_TOKEN == static_cast<int>(Status::bad_token) &&
              HEED_NO_ROOM == static_cast<int>(Status::no_room) &&
              HEED_TEXT_NOT_EXPRESSIBLE == static_cast<int>(Status::text_not_expressible));
static_assert(HEED_REGION_KV_CACHE == static_cast<int>(Region::kv_cache) &&
              HEED_REGION_SCRATCH == static_cast<int>(Region::scratch) &&
              HEED_REGION_LOGITS == static_cast<int>(Region::logits) && HEED_REGIONS == kRegionCount);
static_assert(sizeof(heed_status) == 4);
constexpr std::uint64_t bit(Feature f) { return feature_bits(kNoFeatures + f); }
static_assert(HEED_FEATURE_GROUPS == bit(Feature::groups) && HEED_FEATURE_BIASES == bit(Feature::biases) &&
              HEED_FEATURE_UNGATED == bit(Feature::ungated) && HEED_FEATURE_KEY_OFFSET == bit(Feature::key_offset) &&
              HEED_FEATURE_PATTERN_TAP == bit(Feature::pattern_tap) &&
              HEED_FEATURE_LAYER_NORM == bit(Feature::layer_norm) &&
              HEED_FEATURE_LEARNED_POSITIONS == bit(Feature::learned_positions) &&
              HEED_FEATURE_GELU == bit(Feature::gelu) && HEED_FEATURE_RELU == bit(Feature::relu) &&
              HEED_FEATURE_THREADS == bit(Feature::threads) && HEED_FEATURE_SAMPLING == bit(Feature::sampling) &&
              HEED_FEATURE_SPEED == bit(Feature::speed) && HEED_FEATURE_UNROLLED == bit(Feature::unrolled) &&
              HEED_FEATURE_REPEAT_PENALTY == bit(Feature::repeat_penalty) && HEED_FEATURE_MIN_P == bit(Feature::min_p) &&
              HEED_FEATURE_WINDOWS == bit(Feature::windows) && HEED_FEATURE_SCORE_BIAS == bit(Feature::score_bias) &&
              HEED_FEATURE_NORM_AFTER == bit(Feature::norm_after) &&
              HEED_FEATURE_QUERY_KEY_NORM == bit(Feature::query_key_norm) &&
              HEED_FEATURE_ENCODE == bit(Feature::encode) && HEED_FEATURE_CROSS_ATTENTION == bit(Feature::cross_attention) &&
              HEED_FEATURE_VECTOR_INPUT == bit(Feature::vector_input) &&
              HEED_FEATURE_CONVOLUTIONS == bit(Feature::convolutions) &&
              HEED_FEATURE_EMBEDDING_EXTRAS == bit(Feature::embedding_extras) &&
              HEED_FEATURE_SIDE_BY_SIDE == bit(Feature::side_by_side) && HEED_FEATURE_POOLING == bit(Feature::pooling) &&
              HEED_FEATURE_DENSE == bit(Feature::dense) &&
              HEED_FEATURE_UNDIVIDED_VALUES == bit(Feature::undivided_values) &&
              HEED_FEATURE_GELU_QUICK == bit(Feature::gelu_quick) &&
              HEED_FEATURE_BYTE_PAIRS == bit(Feature::byte_pairs) && HEED_FEATURE_UNIGRAM == bit(Feature::unigram) &&
              HEED_FEATURE_WORD_PIECES == bit(Feature::word_pieces) &&
              HEED_FEATURE_ADDED_TOKENS == bit(Feature::added_tokens));
}  // namespace
}  // namespace heed

using namespace heed;

extern "C" {

std::uint32_t heed_version() { return HEED_VERSION; }

const char* heed_status_text(int status) {
  return to_string(static_cast<Status>(status >= 0 && status < 0xFF ? status : 0xFF));
}

// ---- Kernels ---------------------------------------------------------------------------------------------------

const heed_kernels* heed_best_kernels() { return for_c(&best_kernels()); }

const heed_kernels* heed_find_kernels(const char* name) {
  if (!name) return nullptr;
#if defined(HEED_SINGLE_TABLE)
  const Kernels& only = best_kernels();
  return std::strcmp(only.traits.name, name) == 0 ? for_c(&only) : nullptr;
#else
  return for_c(find_kernels(name));
#endif
}

const char* heed_kernels_name(const heed_kernels* kernels) { return kernels ? of(kernels).traits.name : nullptr; }

// ---- Model -----------------------------------------------------------------------------------------------------

heed_status heed_model_open(heed_model* model, const void* image, std::size_t image_bytes,
                            const heed_kernels* kernels) {
  if (!model) return HEED_BAD_ARGUMENT;
  if (!image || !kernels) return finish(model, Status::bad_argument);
  return finish(model, open(of(model), {static_cast<const std::uint8_t*>(image), image_bytes}, of(kernels)));
}

std::uint64_t heed_built_features() { return feature_bits(kBuiltFeatures); }

std::uint64_t heed_needed_features(const void* image, std::size_t image_bytes, const heed_kernels* kernels) {
  if (!image || !kernels) return 0;
  Model model;
  const Status status = open(model, {static_cast<const std::uint8_t*>(image), image_bytes}, of(kernels));
  if (status != Status::ok && status != Status::feature_not_built) return 0;
  const Needs needs = needs_of(model);
  const Features features =
      needs.features + required_features(model.tokenizer()) + required_features(model.source_tokenizer());
  return feature_bits(features) | (needs.is_carried() ? 0 : HEED_FEATURE_NONE_HAS);
}

heed_status heed_model_verify(const heed_model* model, const heed_kernels* kernels) {
  if (!created(model) || !kernels) return HEED_BAD_ARGUMENT;
  return for_c(verify(of(model), of(kernels)));
}

std::uint32_t heed_model_vocab_size(const heed_model* model) { return config_of(model).vocab_size; }
std::uint32_t heed_model_max_seq(const heed_model* model) { return config_of(model).max_seq; }
std::uint32_t heed_model_d_model(const heed_model* model) { return config_of(model).d_model; }
std::uint32_t heed_model_d_ff(const heed_model* model) { return config_of(model).d_ff; }
std::uint32_t heed_model_n_layers(const heed_model* model) { return config_of(model).n_layers; }
std::uint32_t heed_model_n_heads(const heed_model* model) { return config_of(model).n_heads; }
std::uint32_t heed_model_n_kv_heads(const heed_model* model) { return config_of(model).n_kv_heads; }
std::uint32_t heed_model_head_dim(const heed_model* model) { return config_of(model).head_dim; }

std::uint32_t heed_model_n_stacks(const heed_model* model) { return created(model) ? of(model).config().n_stacks : 0; }

heed_status heed_model_stack(const heed_model* model, heed_stack* stack, std::uint32_t index) {
  if (!created(model) || !stack || index >= of(model).config().n_stacks) return HEED_BAD_ARGUMENT;
  const StackConfig& c = of(model).config().stacks[index];
  heed_stack s{};
  s.use = static_cast<std::uint32_t>(c.use);
  s.input = static_cast<std::uint32_t>(c.input);
  s.input_width = c.input_width();
  s.input_stride = 1;
  if (is_convolved(c)) s.input_stride = std::uint32_t{c.strides[0]} * (c.second_convolution ? c.strides[1] : 1);
  s.n_class_vectors = c.n_class_vectors;
  s.n_token_types = c.n_token_types;
  s.output = static_cast<std::uint32_t>(c.output);
  s.output_width = output_width(c);
  s.pooled = is_pooled(c) ? 1 : 0;
  s.sees_both_ways = sees_both_ways(c) ? 1 : 0;
  s.window = c.window;
  s.vocab_size = c.vocab_size;
  s.max_seq = c.max_seq;
  s.d_model = c.d_model;
  s.d_ff = c.d_ff;
  s.n_layers = c.n_layers;
  s.n_heads = c.n_heads;
  s.n_kv_heads = c.n_kv_heads;
  s.head_dim = c.head_dim;
  *stack = s;
  return HEED_OK;
}

const char* heed_model_class_name(const heed_model* model, std::size_t* name_bytes, std::uint32_t index) {
  const Span<const char> name = created(model) ? of(model).class_name(index) : Span<const char>();
  if (name_bytes) *name_bytes = name.size();
  return name.data();
}

std::size_t heed_model_image_bytes(const heed_model* model) { return model ? of(model).image().size() : 0; }

const char* heed_model_metadata(const heed_model* model, std::size_t* metadata_bytes) {
  const Span<const std::uint8_t> metadata = model ? of(model).metadata() : Span<const std::uint8_t>();
  if (metadata_bytes) *metadata_bytes = metadata.size();
  return reinterpret_cast<const char*>(metadata.data());
}

// ---- Plan ------------------------------------------------------------------------------------------------------

heed_status heed_plan_make(heed_plan* plan, const heed_model* model, const heed_kernels* kernels,
                           const heed_limits* limits) {
  if (!plan) return HEED_BAD_ARGUMENT;
  if (!created(model) || !kernels) return finish(plan, Status::bad_argument);
  Limits asked;
  if (limits) {
    if (!all_zero(limits->reserved, sizeof limits->reserved)) return finish(plan, Status::bad_argument);
    asked = {limits->max_seq, limits->chunk, limits->source_seq, limits->score_rows};
  }
  return finish(plan, make_plan(of(plan), of(model).config(), of(kernels).traits, asked));
}

std::uint64_t heed_plan_arena_bytes(const heed_plan* plan) { return plan ? of(plan).arena_bytes : 0; }
std::uint32_t heed_plan_arena_align(const heed_plan* plan) { return plan ? of(plan).arena_align : 0; }
std::uint32_t heed_plan_max_seq(const heed_plan* plan) { return plan ? of(plan).max_seq : 0; }
std::uint32_t heed_plan_source_seq(const heed_plan* plan) {
  return kBuiltFeatures.cross_attention && plan ? of(plan).source.max_seq : 0;
}
std::uint32_t heed_plan_chunk(const heed_plan* plan) { return plan ? of(plan).chunk : 0; }
std::uint64_t heed_plan_region_bytes(const heed_plan* plan, int region) {
  return plan && region >= 0 && region < HEED_REGIONS ? of(plan).region(static_cast<Region>(region)).bytes : 0;
}

// ---- Session ---------------------------------------------------------------------------------------------------

heed_status heed_session_create(heed_session* session, const heed_model* model, const heed_plan* plan,
                                const heed_kernels* kernels, void* arena, std::size_t arena_bytes) {
  if (!session) return HEED_BAD_ARGUMENT;
  if (!created(model) || !plan || !kernels) return finish(session, Status::bad_argument);
  return finish(session, create(of(session), of(model), of(plan), of(kernels), memory(arena, arena_bytes)));
}

heed_status heed_session_create_in(heed_session* session, const heed_model* model, const heed_plan* plan,
                                   const heed_kernels* kernels, const heed_block* blocks) {
  if (!session) return HEED_BAD_ARGUMENT;
  if (!created(model) || !plan || !kernels || !blocks) return finish(session, Status::bad_argument);
  const auto block = [&](heed_region r) { return memory(blocks[r].start, blocks[r].bytes); };
  return finish(session, create(of(session), of(model), of(plan), of(kernels),
                                SessionMemory{block(HEED_REGION_KV_CACHE), block(HEED_REGION_SCRATCH),
                                              block(HEED_REGION_LOGITS)}));
}

heed_status heed_session_prefill(heed_session* session, const float** logits, const heed_token* prompt,
                                 std::size_t n_prompt) {
  if (!created(session) || !logits || !prompt) return HEED_BAD_ARGUMENT;
  Span<const float> row;
  const Status status = of(session).prefill(row, {prompt, n_prompt});
  if (status == Status::ok) *logits = row.data();
  return for_c(status);
}

heed_status heed_session_step(heed_session* session, const float** logits, heed_token token) {
  return heed_session_prefill(session, logits, &token, 1);
}

heed_status heed_session_evaluate(heed_session* session, const heed_token* tokens, std::size_t n_tokens,
                                  heed_take_logits take, void* context) {
  if (!created(session) || !tokens || !take) return HEED_BAD_ARGUMENT;
  Taker taker{take, context};
  return for_c(of(session).evaluate({tokens, n_tokens}, taker.sink()));
}

std::uint32_t heed_session_position(const heed_session* session) { return session ? of(session).position() : 0; }
std::uint32_t heed_session_max_seq(const heed_session* session) { return session ? of(session).max_seq() : 0; }

heed_status heed_session_rewind(heed_session* session, std::uint32_t position) {
  return created(session) ? for_c(of(session).rewind(position)) : HEED_BAD_ARGUMENT;
}

heed_status heed_session_encode(heed_session* session, const float** output, const heed_sequence* input) {
  if (!created(session) || !output || !input) return HEED_BAD_ARGUMENT;
  if constexpr (kBuiltFeatures.encode) {
    Sequence sequence;
    Status status = sequence_of(sequence, of(session).model().config().main(), input);
    Span<const float> row;
    if (status == Status::ok) status = of(session).encode(row, sequence);
    if (status == Status::ok) *output = row.data();
    return for_c(status);
  } else {
    return HEED_FEATURE_NOT_BUILT;
  }
}

heed_status heed_session_encode_each(heed_session* session, const heed_sequence* input, heed_take_output take,
                                     void* context) {
  if (!created(session) || !input || !take) return HEED_BAD_ARGUMENT;
  if constexpr (kBuiltFeatures.encode) {
    Sequence sequence;
    const Status status = sequence_of(sequence, of(session).model().config().main(), input);
    Taker taker{take, context};
    return for_c(status == Status::ok ? of(session).encode(sequence, taker.sink()) : status);
  } else {
    return HEED_FEATURE_NOT_BUILT;
  }
}

heed_status heed_session_set_source(heed_session* session, const heed_sequence* source) {
  if (!created(session) || !source) return HEED_BAD_ARGUMENT;
  if constexpr (kBuiltFeatures.cross_attention) {
    Sequence sequence;
    const Status status = sequence_of(sequence, of(session).model().config().source(), source);
    return for_c(status == Status::ok ? of(session).set_source(sequence) : status);
  } else {
    return HEED_FEATURE_NOT_BUILT;
  }
}

std::uint32_t heed_session_source_positions(const heed_session* session) {
  return created(session) ? of(session).source_positions() : 0;
}

heed_status heed_session_set_parallel(heed_session* session, const heed_parallel* parallel) {
  return created(session) ? lend(of(session), parallel) : HEED_BAD_ARGUMENT;
}

}  // extern "C"
