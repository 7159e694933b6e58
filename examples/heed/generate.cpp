// SPDX-License-Identifier: Apache-2.0
// generate.cpp: prefill, then pick and step.
#include "examples/heed/generate.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <limits>

#include "examples/heed/numbers.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"

namespace heed::tool {
namespace {

constexpr const char* kEndNames[] = {"tokens", "end_of_text", "stop_text", "context_full", "interrupted"};

// Exact as a number of JSON, which many readers keep in 53 bits.
std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (getentropy(&seed, sizeof seed) != 0) refuse("--seed random", "the system gives no random numbers");
  return seed >> 11;
}

// "random", or a whole number.
std::string check_seed(std::string& text) {
  if (text == "random") return {};
  return whole_number()(text);
}

// The prompt in pieces, between which an interrupt is noticed. Cutting it changes no bit.
constexpr std::size_t kPrefillPiece = 512;

}  // namespace

const char* name_of(End end) { return kEndNames[static_cast<int>(end)]; }

Generator::Generator(HostSession& host, const LoadedModel& loaded, const Tokenizer& tokenizer,
                     const GenerateOptions& options, const Interrupt& interrupt, bool show, bool many)
    : host_(host),
      path_(loaded.path),
      tokenizer_(tokenizer),
      generation_(generation_of(loaded, tokenizer)),
      options_(options),
      interrupt_(interrupt),
      show_(show),
      many_(many) {
  SamplerConfig& config = options_.sampler;
  config.repeat_last = std::min(config.repeat_last, host.session.max_seq());  // no text is longer
  const std::uint32_t vocab_size = loaded.model.config().main().n_outputs;
  scratch_.resize(Sampler::scratch_bytes(vocab_size, config.repeat_penalty == 1.0f ? 0 : config.repeat_last) /
                  sizeof(std::uint32_t));
}

void Generator::prefill(Span<const float>& logits, Span<const Token> prompt) {
  const std::size_t chunk = host_.plan.chunk, piece = (kPrefillPiece + chunk - 1) / chunk * chunk;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t done = 0; done < prompt.size() && !interrupt_.signal();) {
    const std::size_t n = std::min(piece, prompt.size() - done);
    require(host_.session.prefill(logits, prompt.subspan(done, n)), path_);
    done += n;
    totals_.prefilled += n;
  }
  totals_.prefill_s += seconds_since(start);
}

Generated Generator::operator()(Span<const Token> prompt, std::size_t unseen) {
  const std::uint32_t vocab_size = host_.session.model().config().main().n_outputs, max_seq = host_.session.max_seq();
  Sampler sampler;
  require(create(sampler, options_.sampler, vocab_size, host_.kernels,
                 {reinterpret_cast<std::byte*>(scratch_.data()), scratch_.size() * sizeof(std::uint32_t)}),
          "sampling options");
  require(sampler.accept(prompt), path_);

  Generated result;
  GeneratedText text(tokenizer_, options_.stops, show_);
  Progress progress("run", show_ || many_ ? 0 : options_.n_tokens);
  result.tokens.reserve(std::min(options_.n_tokens, max_seq + 1));  // one is picked where the context ends
  const Token bos = tokenizer_.bos();
  for (std::size_t i = unseen; i < prompt.size(); ++i)
    if (prompt[i] != bos) text.push_prompt(prompt[i]);

  Span<const float> logits;
  prefill(logits, prompt);
  while (result.tokens.size() < options_.n_tokens) {
    if (interrupt_.signal()) {
      result.end = End::interrupted;
      break;
    }
    auto start = std::chrono::steady_clock::now();
    Token token = kNoToken;
    require(sampler.pick(token, logits, generation_.suppressed()), path_);
    totals_.decode_s += seconds_since(start);
    totals_.digest.add(host_.kernels, token, logits);
    result.tokens.push_back(token);
    const bool ends_text = generation_.ends_text(token);
    if (ends_text && !options_.ignore_eos) {
      result.end = End::end_of_text;
      break;
    }
    if (!ends_text && token != bos) text.push(token);  // their pieces are names, not text
    if (text.stopped()) {
      result.end = End::stop_text;
      break;
    }
    progress.show(result.tokens.size());
    if (result.tokens.size() == options_.n_tokens) break;
    if (host_.session.position() == max_seq) {
      result.end = End::context_full;
      break;
    }
    start = std::chrono::steady_clock::now();
    require(host_.session.step(logits, token), path_);
    totals_.decode_s += seconds_since(start);
    ++totals_.steps;
  }
  text.finish();
  if (text.stopped()) result.end = End::stop_text;  // what was held back may have completed it
  totals_.generated += result.tokens.size();
  if (totals_.digest.saw_nan()) refuse(path_, "a logit is not a number");
  result.text = text.all();
  return result;
}

void add_generate_options(CLI::App& command, GenerateOptions& options) {
  command.add_option("-n,--tokens", options.n_tokens, "Tokens to generate at most")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 1u << 30));
  command.add_option("--temp", options.sampler.temperature, "Temperature; 0 takes the likeliest token")
      ->type_name("T")
      ->capture_default_str()
      ->check(number(0, 100, "0 to 100"));
  command.add_option("--top-k", options.sampler.top_k, "Sample from the K likeliest; 0 = all")
      ->type_name("K")
      ->capture_default_str()
      ->transform(whole_number(0, std::numeric_limits<std::uint32_t>::max()));
  command.add_option("--top-p", options.sampler.top_p, "Sample from the likeliest that together reach P; 1 = all")
      ->type_name("P")
      ->capture_default_str()
      ->check(number(0, 1, "0 to 1"));
  command
      .add_option("--min-p", options.sampler.min_p,
                  "Of these, keep the tokens at least P times as likely as the likeliest; 0 = all")
      ->type_name("P")
      ->capture_default_str()
      ->check(number(0, 1, "0 to 1"));
  command
      .add_option(
          "--repeat-penalty", options.sampler.repeat_penalty,
          "Make what the last tokens had less likely: logits above 0 are divided by R, others multiplied; 1 = off")
      ->type_name("R")
      ->capture_default_str()
      ->check(number(0.01, 100, "0.01 to 100"));
  command
      .add_option("--repeat-last", options.sampler.repeat_last,
                  "How many tokens the penalty is for, the prompt's included")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 1u << 20));
  command
      .add_option(
          "--seed", options.seed,
          "The same seed gives the same text on every CPU; random takes one that is not known before, and prints it")
      ->type_name("S")
      ->capture_default_str()
      ->transform(CLI::Validator(check_seed, ""));
  command
      .add_option(
          "--stop", options.stops,
          "End in front of this text, which is not printed; may be given several times. Not looked for in the prompt")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->check([](const std::string& text) {
        return text.empty() ? std::string("an empty text is everywhere") : std::string();
      });
  command.add_flag("--ignore-eos", options.ignore_eos,
                   "Go on behind a token that ends a text: it is fed back, and its piece is not printed");
}

void settle_seed(GenerateOptions& options) {
  const bool random = options.seed == "random";
  options.sampler.seed = random ? random_seed() : std::strtoull(options.seed.c_str(), nullptr, 10);
  if (random) std::fprintf(stderr, "heed: note: --seed %llu\n", static_cast<unsigned long long>(options.sampler.seed));
}

void put_session(Json& json, const HostSession& host, const LoadedModel& loaded) {
  json["isa"] = host.kernels.traits.name;
  json["threads"] = host.pool.threads();
  json["arena_bytes"] = host.plan.arena_bytes;
  json["image_bytes"] = loaded.model.image().size();
  note_slower(host);
}

std::string describe_session(const HostSession& host) {
  return std::string(host.kernels.traits.name) + ", " + counted(host.pool.threads(), "thread") + ", arena " +
         grouped(host.plan.arena_bytes) + " bytes" + (host.slower.empty() ? "" : "; " + host.slower);
}

}  // namespace heed::tool
