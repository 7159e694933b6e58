// SPDX-License-Identifier: Apache-2.0
// run.cpp: `heed run`, a text and how it goes on.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/generated_text.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/interrupt.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/prompt.hpp"
#include "examples/heed/refusal.hpp"
#include "runtime/digest.hpp"
#include "runtime/sampler.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model, seed = "0";
  PromptOptions prompt;
  std::uint32_t n_tokens = 256;
  std::vector<std::string> stops;
  SamplerConfig sampler;
  SessionOptions session;
  bool ignore_eos = false, json = false;
};

// Why a run ended; the words of --json.
enum class End { tokens, end_of_text, stop_text, context_full, interrupted };
constexpr const char* kEndNames[] = {"tokens", "end_of_text", "stop_text", "context_full", "interrupted"};

// What a run leaves behind.
struct Result {
  std::string text;
  std::vector<Token> prompt, tokens;
  Digest digest;
  double prefill_s = 0.0, decode_s = 0.0;
  std::uint32_t prefilled = 0, steps = 0;
  End end = End::tokens;

  double prefill_rate() const { return prefill_s > 0.0 ? prefilled / prefill_s : 0.0; }
  double decode_rate() const { return decode_s > 0.0 ? steps / decode_s : 0.0; }
};

// Exact as a number of JSON, which many readers keep in 53 bits.
std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (getentropy(&seed, sizeof seed) != 0) refuse("--seed random", "the system gives no random numbers");
  return seed >> 11;
}

// The prompt in pieces, between which an interrupt is noticed. Cutting it changes no bit.
constexpr std::size_t kPrefillPiece = 512;

void prefill(Result& result, Span<const float>& logits, HostSession& host, const Interrupt& interrupt,
             const std::string& model) {
  const std::size_t chunk = host.plan.chunk, piece = (kPrefillPiece + chunk - 1) / chunk * chunk;
  const auto start = std::chrono::steady_clock::now();
  while (result.prefilled < result.prompt.size() && !interrupt.signal()) {
    const std::size_t n = std::min(piece, result.prompt.size() - result.prefilled);
    require(host.session.prefill(logits, {result.prompt.data() + result.prefilled, n}), model);
    result.prefilled += static_cast<std::uint32_t>(n);
  }
  result.prefill_s = seconds_since(start);
}

void generate(Result& result, HostSession& host, const Tokenizer& tokenizer, const Options& options,
              const Interrupt& interrupt) {
  const std::uint32_t vocab_size = host.session.model().config().main().n_outputs, max_seq = host.session.max_seq();
  SamplerConfig config = options.sampler;
  config.repeat_last = std::min(config.repeat_last, max_seq);  // no text is longer
  const std::size_t scratch_bytes =
      Sampler::scratch_bytes(vocab_size, config.repeat_penalty == 1.0f ? 0 : config.repeat_last);
  std::vector<std::uint32_t> scratch(scratch_bytes / sizeof(std::uint32_t));
  Sampler sampler;
  require(create(sampler, config, vocab_size, host.kernels,
                 {reinterpret_cast<std::byte*>(scratch.data()), scratch_bytes}),
          "sampling options");
  require(sampler.accept(result.prompt), options.model);

  GeneratedText text(tokenizer, options.stops, !options.json);
  Progress progress("run", options.json ? options.n_tokens : 0);
  result.tokens.reserve(std::min(options.n_tokens, max_seq + 1));  // one is picked where the context ends
  for (const Token t : result.prompt)
    if (t != tokenizer.bos()) text.push_prompt(t);

  Span<const float> logits;
  prefill(result, logits, host, interrupt, options.model);
  while (result.tokens.size() < options.n_tokens) {
    if (interrupt.signal()) {
      result.end = End::interrupted;
      break;
    }
    auto start = std::chrono::steady_clock::now();
    Token token = kNoToken;
    require(sampler.pick(token, logits), options.model);
    result.decode_s += seconds_since(start);
    result.digest.add(host.kernels, token, logits);
    result.tokens.push_back(token);
    const bool ends_text = tokenizer.ends_text(token);
    if (ends_text && !options.ignore_eos) {
      result.end = End::end_of_text;
      break;
    }
    if (!ends_text) text.push(token);  // its piece is a name, not a text
    if (text.stopped()) {
      result.end = End::stop_text;
      break;
    }
    progress.show(result.tokens.size());
    if (result.tokens.size() == options.n_tokens) break;
    if (host.session.position() == max_seq) {
      result.end = End::context_full;
      break;
    }
    start = std::chrono::steady_clock::now();
    require(host.session.step(logits, token), options.model);
    result.decode_s += seconds_since(start);
    ++result.steps;
  }
  text.finish();
  if (text.stopped()) result.end = End::stop_text;  // what was held back may have completed it
  result.text = text.all();
}

void run(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  const Tokenizer tokenizer = tokenizer_of(loaded);
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  const std::string prompt = read_prompt(options.prompt);
  Result result;
  result.prompt = encode(tokenizer, {prompt.data(), prompt.size()}, "prompt");
  if (result.prompt.empty())
    refuse(options.model, "this vocabulary has no beginning-of-text token; give a prompt with -p or -f");
  if (result.prompt.size() > host->session.max_seq())
    refuse(options.model, "the prompt has " + std::to_string(result.prompt.size()) + " tokens, the context " +
                              std::to_string(host->session.max_seq()));
  const Interrupt interrupt;
  generate(result, *host, tokenizer, options, interrupt);
  if (result.digest.saw_nan()) refuse(options.model, "a logit is not a number");

  if (options.json) {
    Json json;
    json["text"] = result.text;
    json["prompt_tokens"] = result.prompt;
    json["tokens"] = result.tokens;
    json["digest"] = hex8(result.digest.value());
    json["end"] = kEndNames[static_cast<int>(result.end)];
    json["context_full"] = result.end == End::context_full;
    json["interrupted"] = result.end == End::interrupted;
    json["seed"] = options.sampler.seed;
    json["prefill_tokens_per_s"] = number_or_null(result.prefill_rate());
    json["decode_tokens_per_s"] = number_or_null(result.decode_rate());
    json["isa"] = host->kernels.traits.name;
    json["threads"] = host->pool.threads();
    json["arena_bytes"] = host->plan.arena_bytes;
    json["image_bytes"] = loaded.model.image().size();
    print_json(json);
  } else {
    std::puts("");
    std::fflush(stdout);
    if (result.end == End::context_full) std::fputs("heed: note: the context is full\n", stderr);
    if (result.end == End::interrupted) std::fputs("heed: note: interrupted\n", stderr);
    std::fprintf(stderr, "%s: %zu + %zu tokens, prefill %s tokens/s, decode %s tokens/s, %s, %s, arena %s bytes\n",
                 ("digest " + hex8(result.digest.value())).c_str(), result.prompt.size(), result.tokens.size(),
                 engineering(result.prefill_rate()).c_str(), engineering(result.decode_rate()).c_str(),
                 host->kernels.traits.name, counted(host->pool.threads(), "thread").c_str(),
                 grouped(host->plan.arena_bytes).c_str());
  }
  if (result.end == End::interrupted) throw Interrupted{interrupt.signal()};
}

// "random", or a whole number.
std::string check_seed(std::string& text) {
  if (text == "random") return {};
  return whole_number()(text);
}

}  // namespace

void add_run(CLI::App& app) {
  auto* command = app.add_subcommand("run", "Continue a text");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) with a tokenizer")->required();
  add_prompt_options(*command, options->prompt);
  command->add_option("-n,--tokens", options->n_tokens, "Tokens to generate at most")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 1u << 30));
  command->add_option("--temp", options->sampler.temperature, "Temperature; 0 takes the likeliest token")
      ->type_name("T")
      ->capture_default_str()
      ->check(number(0, 100, "0 to 100"));
  command->add_option("--top-k", options->sampler.top_k, "Sample from the K likeliest; 0 = all")
      ->type_name("K")
      ->capture_default_str()
      ->transform(whole_number(0, std::numeric_limits<std::uint32_t>::max()));
  command->add_option("--top-p", options->sampler.top_p, "Sample from the likeliest that together reach P; 1 = all")
      ->type_name("P")
      ->capture_default_str()
      ->check(number(0, 1, "0 to 1"));
  command
      ->add_option("--min-p", options->sampler.min_p,
                   "Of these, keep the tokens at least P times as likely as the likeliest; 0 = all")
      ->type_name("P")
      ->capture_default_str()
      ->check(number(0, 1, "0 to 1"));
  command
      ->add_option("--repeat-penalty", options->sampler.repeat_penalty,
                   "Make what the last tokens had less likely: logits above 0 are divided by R, others multiplied; 1 = off")
      ->type_name("R")
      ->capture_default_str()
      ->check(number(0.01, 100, "0.01 to 100"));
  command->add_option("--repeat-last", options->sampler.repeat_last, "How many tokens the penalty is for, the prompt's included")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 1u << 20));
  command
      ->add_option("--seed", options->seed,
                   "The same seed gives the same text on every CPU; random takes one that is not known before, and prints it")
      ->type_name("S")
      ->capture_default_str()
      ->transform(CLI::Validator(check_seed, ""));
  command
      ->add_option("--stop", options->stops,
                   "End in front of this text, which is not printed; may be given several times. Not looked for in the prompt")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->check([](const std::string& text) { return text.empty() ? std::string("an empty text is everywhere") : std::string(); });
  command->add_flag("--ignore-eos", options->ignore_eos,
                    "Go on behind a token that ends a text: it is fed back, and its piece is not printed");
  add_threads_option(*command, "-t,--threads", options->session.threads);
  add_isa_option(*command, options->session.isa);
  command->add_option("--chunk", options->session.chunk, "Tokens of a prompt taken together; never changes the result")
      ->type_name("N")
      ->transform(whole_number(1, 4096u));
  command->add_option("--context", options->session.context, "Positions to keep (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  command->add_flag("--json", options->json, "Print text, tokens, digest and speed as JSON");
  command->footer(
      "Example:\n"
      "  heed run stories.heed -p \"Once upon a time\" -n 200 --temp 0.8 --seed 7\n"
      "  heed run stories.heed -f prompt.txt --temp 0.8 --min-p 0.05 --repeat-penalty 1.1 --seed random --stop \"The end\"\n"
      "Ctrl-C ends the text and prints what there is (status 130); a second one ends the program.");
  command->callback([options] {
    options->sampler.seed = options->seed == "random" ? random_seed() : std::strtoull(options->seed.c_str(), nullptr, 10);
    if (options->seed == "random")
      std::fprintf(stderr, "heed: note: --seed %llu\n", static_cast<unsigned long long>(options->sampler.seed));
    run(*options);
  });
}

}  // namespace heed::tool
