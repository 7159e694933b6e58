// SPDX-License-Identifier: Apache-2.0
// heed_c_text.cpp: what heed.h has between tokens, logits and text, in terms of the C++ headers: sampler, tokenizer, generation,
// stream decoder, digest.
#include "runtime/one_rounding.hpp"

#include "runtime/digest.hpp"
#include "runtime/generation.hpp"
#include "runtime/heed_c.hpp"
#include "runtime/sampler.hpp"
#include "runtime/tokenizer.hpp"

namespace heed {
namespace {

// What a pick must know beside what the sampler keeps to itself.
struct SizedSampler {
  Sampler sampler;
  std::uint32_t vocab_size;
};

// A zeroed Generation would be one with BOS 0.
struct Opened {
  Generation generation;
  bool opened;
};

// A zeroed StreamDecoder would go on behind token 0.
struct BegunDecoder {
  StreamDecoder stream;
  bool begun;
};

static_assert(fits<SizedSampler, heed_sampler>() && fits<Tokenizer, heed_tokenizer>());
static_assert(fits<Opened, heed_generation>() && fits<BegunDecoder, heed_decoder>() && fits<Digest, heed_digest>());

// clang-format off
SizedSampler& of(heed_sampler* s) { return *reinterpret_cast<SizedSampler*>(s); }
Tokenizer& of(heed_tokenizer* t) { return *reinterpret_cast<Tokenizer*>(t); }
const Tokenizer& of(const heed_tokenizer* t) { return *reinterpret_cast<const Tokenizer*>(t); }
Opened& of(heed_generation* g) { return *reinterpret_cast<Opened*>(g); }
const Opened& of(const heed_generation* g) { return *reinterpret_cast<const Opened*>(g); }
BegunDecoder& of(heed_decoder* d) { return *reinterpret_cast<BegunDecoder*>(d); }
Digest& of(heed_digest* d) { return *reinterpret_cast<Digest*>(d); }
const Digest& of(const heed_digest* d) { return *reinterpret_cast<const Digest*>(d); }
bool created(const heed_generation* g) { return g && of(g).opened; }
bool created(const heed_tokenizer* t) { return t && of(t).vocab_size(); }
// clang-format on

// Tokens [n] for C, where a view of none is null.
const heed_token* tokens_for_c(Span<const Token> tokens, std::uint32_t* n) {
  if (n) *n = static_cast<std::uint32_t>(tokens.size());
  return tokens.empty() ? nullptr : tokens.data();
}

static_assert(std::is_same_v<heed_token, Token> && HEED_NO_TOKEN == kNoToken);
static_assert(HEED_DECODE_BYTES == 3 * (kMaxPieceBytes + 1));

constexpr bool same_sizes(std::size_t n) {
  return HEED_SAMPLER_SCRATCH_BYTES(n) == Sampler::scratch_bytes(n) &&
         HEED_SAMPLER_SCRATCH_BYTES(n) + HEED_SAMPLER_HISTORY_BYTES(64) == Sampler::scratch_bytes(n, 64) &&
         HEED_MAX_TOKENS(n) == Tokenizer::max_tokens(n) && HEED_MAX_TOKENS(n * 3) == Tokenizer::max_tokens(n, 3) &&
         HEED_ENCODE_SCRATCH_BYTES(n * 3) == Tokenizer::scratch_bytes(n, 3) &&
         HEED_ENCODE_SCRATCH_BYTES(n) == Tokenizer::scratch_bytes(n);
}
static_assert(same_sizes(0) && same_sizes(62) && same_sizes(63) && same_sizes(64) && same_sizes(1000));

}  // namespace
}  // namespace heed

using namespace heed;

extern "C" {

// ---- Sampler ---------------------------------------------------------------------------------------------------

heed_status heed_sampler_create(heed_sampler* sampler, const heed_sampler_config* config, std::uint32_t vocab_size,
                                const heed_kernels* kernels, void* scratch, std::size_t scratch_bytes) {
  if (!sampler) return HEED_BAD_ARGUMENT;
  if (!kernels || (!scratch && scratch_bytes)) return finish(sampler, Status::bad_argument);
  SamplerConfig asked;
  if (config) {
    if (!all_zero(config->reserved, sizeof config->reserved)) return finish(sampler, Status::bad_argument);
    asked = {config->temperature, config->top_k, config->top_p, config->seed};
    if (config->repeat_penalty != 0.0f) asked.repeat_penalty = config->repeat_penalty;
    asked.repeat_last = config->repeat_last;
    asked.min_p = config->min_p;
  }
  of(sampler).vocab_size = vocab_size;
  return finish(sampler, create(of(sampler).sampler, asked, vocab_size, of(kernels), memory(scratch, scratch_bytes)));
}

heed_status heed_sampler_pick(heed_sampler* sampler, heed_token* token, const float* logits) {
  if (!sampler || !token || !logits) return HEED_BAD_ARGUMENT;
  SizedSampler& s = of(sampler);
  return for_c(s.sampler.pick(*token, {logits, s.vocab_size}));
}

heed_status heed_sampler_pick_except(heed_sampler* sampler, heed_token* token, const float* logits,
                                     const heed_token* suppressed, std::size_t n_suppressed) {
  if (!sampler || !token || !logits || (!suppressed && n_suppressed)) return HEED_BAD_ARGUMENT;
  SizedSampler& s = of(sampler);
  return for_c(s.sampler.pick(*token, {logits, s.vocab_size}, {suppressed, n_suppressed}));
}

heed_status heed_sampler_accept(heed_sampler* sampler, const heed_token* tokens, std::size_t n_tokens) {
  if (!sampler || !of(sampler).vocab_size || (!tokens && n_tokens)) return HEED_BAD_ARGUMENT;
  return for_c(of(sampler).sampler.accept({tokens, n_tokens}));
}

// ---- Tokenizer -------------------------------------------------------------------------------------------------

heed_status heed_tokenizer_open(heed_tokenizer* tokenizer, const heed_model* model) {
  if (!tokenizer) return HEED_BAD_ARGUMENT;
  if (!created(model)) return finish(tokenizer, Status::bad_argument);
  return finish(tokenizer, open(of(tokenizer), of(model).tokenizer(), of(model).config().main().vocab_size));
}

heed_status heed_tokenizer_open_source(heed_tokenizer* tokenizer, const heed_model* model) {
  if (!tokenizer) return HEED_BAD_ARGUMENT;
  if (!created(model) || of(model).config().n_stacks != 2) return finish(tokenizer, Status::bad_argument);
  return finish(tokenizer, open(of(tokenizer), of(model).source_tokenizer(), of(model).config().source().vocab_size));
}

heed_token heed_tokenizer_bos(const heed_tokenizer* tokenizer) {
  return created(tokenizer) ? of(tokenizer).bos() : kNoToken;
}
heed_token heed_tokenizer_eos(const heed_tokenizer* tokenizer) {
  return created(tokenizer) ? of(tokenizer).eos() : kNoToken;
}
heed_token heed_tokenizer_unk(const heed_tokenizer* tokenizer) {
  return created(tokenizer) ? of(tokenizer).unk() : kNoToken;
}
std::uint32_t heed_tokenizer_growth(const heed_tokenizer* tokenizer) {
  return created(tokenizer) ? of(tokenizer).growth() : 0;
}
int heed_tokenizer_has_second_type(const heed_tokenizer* tokenizer) {
  return created(tokenizer) && of(tokenizer).has_second_type() ? 1 : 0;
}
int heed_tokenizer_ends_text(const heed_tokenizer* tokenizer, heed_token token) {
  return created(tokenizer) && of(tokenizer).ends_text(token) ? 1 : 0;
}

heed_status heed_tokenizer_encode(const heed_tokenizer* tokenizer, std::uint32_t* n_tokens, heed_token* tokens,
                                  std::size_t max_tokens, const char* text, std::size_t text_bytes, std::uint32_t flags,
                                  void* scratch, std::size_t scratch_bytes) {
  if (!created(tokenizer) || !n_tokens || (!tokens && max_tokens) || (!text && text_bytes) || !scratch ||
      (flags & ~(HEED_ADD_BOS | HEED_ADD_EOS | HEED_MATCH_SPECIAL)))
    return HEED_BAD_ARGUMENT;
  const EncodeOptions options{(flags & HEED_ADD_BOS) != 0, (flags & HEED_ADD_EOS) != 0, (flags & HEED_MATCH_SPECIAL) != 0};
  return for_c(of(tokenizer).encode(*n_tokens, {text, text_bytes}, options, {tokens, max_tokens},
                                    memory(scratch, scratch_bytes)));
}

heed_status heed_tokenizer_encode_pair(const heed_tokenizer* tokenizer, std::uint32_t* n_tokens, std::uint32_t* n_first,
                                       heed_token* tokens, std::size_t max_tokens, const char* first,
                                       std::size_t first_bytes, const char* second, std::size_t second_bytes,
                                       void* scratch, std::size_t scratch_bytes) {
  if (!created(tokenizer) || !n_tokens || !n_first || (!tokens && max_tokens) || (!first && first_bytes) ||
      (!second && second_bytes) || !scratch)
    return HEED_BAD_ARGUMENT;
  return for_c(of(tokenizer).encode_pair(*n_tokens, *n_first, {first, first_bytes}, {second, second_bytes},
                                         {tokens, max_tokens}, memory(scratch, scratch_bytes)));
}

heed_status heed_tokenizer_decode(const heed_tokenizer* tokenizer, const char** bytes, std::uint32_t* n_bytes,
                                  heed_token previous, heed_token token) {
  if (!created(tokenizer) || !bytes || !n_bytes) return HEED_BAD_ARGUMENT;
  Span<const char> piece;
  const Status status = of(tokenizer).decode(piece, previous, token);
  if (status != Status::ok) return for_c(status);
  *bytes = piece.data();
  *n_bytes = static_cast<std::uint32_t>(piece.size());
  return HEED_OK;
}

// ---- Generation ------------------------------------------------------------------------------------------------

heed_status heed_generation_open(heed_generation* generation, const heed_model* model,
                                 const heed_tokenizer* tokenizer) {
  if (!generation) return HEED_BAD_ARGUMENT;
  if (!created(model) || (tokenizer && !created(tokenizer))) return finish(generation, Status::bad_argument);
  Opened opened{{}, true};
  const Status status = open(opened.generation, of(model).generation(), of(model).config().main().vocab_size,
                             heed_tokenizer_bos(tokenizer), heed_tokenizer_eos(tokenizer));
  of(generation) = opened;
  return finish(generation, status);
}

const heed_token* heed_generation_first(const heed_generation* generation, std::uint32_t* n_tokens) {
  return tokens_for_c(created(generation) ? of(generation).generation.first() : Span<const Token>(), n_tokens);
}

const heed_token* heed_generation_suppressed(const heed_generation* generation, std::uint32_t* n_tokens) {
  return tokens_for_c(created(generation) ? of(generation).generation.suppressed() : Span<const Token>(), n_tokens);
}

int heed_generation_ends_text(const heed_generation* generation, heed_token token) {
  return created(generation) && of(generation).generation.ends_text(token) ? 1 : 0;
}

// ---- Stream decoder --------------------------------------------------------------------------------------------

void heed_decoder_begin(heed_decoder* decoder, heed_token previous) {
  if (decoder) of(decoder) = {StreamDecoder(previous), true};
}

heed_status heed_decoder_push(heed_decoder* decoder, std::uint32_t* n_bytes, char* text, std::size_t text_bytes,
                              const heed_tokenizer* tokenizer, heed_token token) {
  if (!decoder || !of(decoder).begun || !n_bytes || !text || !created(tokenizer)) return HEED_BAD_ARGUMENT;
  return for_c(of(decoder).stream.push(*n_bytes, of(tokenizer), token, {text, text_bytes}));
}

std::uint32_t heed_decoder_flush(heed_decoder* decoder, char* text) {
  if (!decoder || !text) return 0;
  char rest[3];
  const std::uint32_t n = of(decoder).stream.flush(rest);
  std::memcpy(text, rest, n);
  return n;
}

// ---- Digest ----------------------------------------------------------------------------------------------------

void heed_digest_begin(heed_digest* digest) {
  if (digest) of(digest) = Digest();
}

void heed_digest_add(heed_digest* digest, heed_token token, const float* logits, std::uint32_t vocab_size,
                     const heed_kernels* kernels) {
  if (digest && logits && kernels) of(digest).add(of(kernels), token, {logits, vocab_size});
}

std::uint32_t heed_digest_value(const heed_digest* digest) { return digest ? of(digest).value() : 0; }
int heed_digest_saw_nan(const heed_digest* digest) { return digest && of(digest).saw_nan() ? 1 : 0; }

}  // extern "C"
