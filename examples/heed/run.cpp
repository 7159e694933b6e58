// SPDX-License-Identifier: Apache-2.0
// run.cpp: `heed run`, a text and how it goes on.
#include <cstdio>
#include <limits>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "runtime/digest.hpp"
#include "runtime/sampler.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model, prompt;
  std::uint32_t n_tokens = 256;
  SamplerConfig sampler;
  SessionOptions session;
  bool json = false;
};

// What a run leaves behind.
struct Result {
  std::string text;
  std::vector<Token> prompt, tokens;
  Digest digest;
  double prefill_s = 0.0, decode_s = 0.0;
  std::uint32_t steps = 0;
  bool context_full = false;

  double prefill_rate() const { return prefill_s > 0.0 ? static_cast<double>(prompt.size()) / prefill_s : 0.0; }
  double decode_rate() const { return decode_s > 0.0 ? steps / decode_s : 0.0; }
};

// Collects the text, and shows it as it comes.
class Text {
 public:
  Text(const Tokenizer& tokenizer, std::string& text, bool show)
      : tokenizer_(tokenizer), text_(text), show_(show), buffer_(StreamDecoder::out_bytes(tokenizer)) {}

  void push(Token token) {
    std::uint32_t n = 0;
    require(decoder_.push(n, tokenizer_, token, buffer_), "text");
    put(buffer_.data(), n);
  }
  void finish() {
    char rest[3];
    put(rest, decoder_.flush(rest));
  }

 private:
  void put(const char* bytes, std::uint32_t n) {
    text_.append(bytes, n);
    if (!show_ || n == 0) return;
    std::fwrite(bytes, 1, n, stdout);
    std::fflush(stdout);
  }

  const Tokenizer& tokenizer_;
  std::string& text_;
  bool show_;
  std::vector<char> buffer_;
  StreamDecoder decoder_;
};

void generate(Result& result, HostSession& host, const Tokenizer& tokenizer, const Options& options) {
  const std::uint32_t vocab_size = host.session.model().config().vocab_size;
  std::vector<std::uint32_t> scratch(vocab_size);
  Sampler sampler;
  require(create(sampler, options.sampler, vocab_size, host.kernels,
                 {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * sizeof(std::uint32_t)}),
          "sampling options");

  Text text(tokenizer, result.text, !options.json);
  Progress progress("run", options.json ? options.n_tokens : 0);
  result.tokens.reserve(options.n_tokens);
  for (const Token t : result.prompt)
    if (t != tokenizer.bos()) text.push(t);

  Span<const float> logits;
  auto start = std::chrono::steady_clock::now();
  require(host.session.prefill(logits, result.prompt), options.model);
  result.prefill_s = seconds_since(start);
  while (result.tokens.size() < options.n_tokens) {
    start = std::chrono::steady_clock::now();
    Token token = kNoToken;
    require(sampler.pick(token, logits), options.model);
    result.decode_s += seconds_since(start);
    result.digest.add(host.kernels, token, logits);
    result.tokens.push_back(token);
    if (token == tokenizer.eos() || token == tokenizer.bos()) break;  // the text is complete
    text.push(token);
    progress.show(result.tokens.size());
    if (result.tokens.size() == options.n_tokens) break;
    result.context_full = host.session.position() == host.session.max_seq();
    if (result.context_full) break;
    start = std::chrono::steady_clock::now();
    require(host.session.step(logits, token), options.model);
    result.decode_s += seconds_since(start);
    ++result.steps;
  }
  text.finish();
}

void run(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  const Tokenizer tokenizer = tokenizer_of(loaded);
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  Result result;
  result.prompt = encode(tokenizer, {options.prompt.data(), options.prompt.size()}, "prompt");
  if (result.prompt.empty())
    refuse(options.model, "this vocabulary has no beginning-of-text token; give a prompt with -p");
  if (result.prompt.size() > host->session.max_seq())
    refuse(options.model, "the prompt has " + std::to_string(result.prompt.size()) + " tokens, the context " +
                              std::to_string(host->session.max_seq()));
  generate(result, *host, tokenizer, options);
  if (result.digest.saw_nan()) refuse(options.model, "a logit is not a number");

  if (options.json) {
    Json json;
    json["text"] = result.text;
    json["prompt_tokens"] = result.prompt;
    json["tokens"] = result.tokens;
    json["digest"] = hex8(result.digest.value());
    json["context_full"] = result.context_full;
    json["prefill_tokens_per_s"] = number_or_null(result.prefill_rate());
    json["decode_tokens_per_s"] = number_or_null(result.decode_rate());
    json["isa"] = host->kernels.traits.name;
    json["threads"] = host->pool.threads();
    json["arena_bytes"] = host->plan.arena_bytes;
    json["image_bytes"] = loaded.model.image().size();
    print_json(json);
    return;
  }
  std::puts("");
  std::fflush(stdout);
  if (result.context_full) std::fputs("heed: note: the context is full\n", stderr);
  std::fprintf(stderr, "%s: %zu + %zu tokens, prefill %s tokens/s, decode %s tokens/s, %s, %s, arena %s bytes\n",
               ("digest " + hex8(result.digest.value())).c_str(), result.prompt.size(), result.tokens.size(),
               engineering(result.prefill_rate()).c_str(), engineering(result.decode_rate()).c_str(),
               host->kernels.traits.name, counted(host->pool.threads(), "thread").c_str(),
               grouped(host->plan.arena_bytes).c_str());
}

}  // namespace

void add_run(CLI::App& app) {
  auto* command = app.add_subcommand("run", "Continue a text");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) with a tokenizer")->required();
  command->add_option("-p,--prompt", options->prompt, "The text to continue (default: begin one)")->type_name("TEXT");
  command->add_option("-n,--tokens", options->n_tokens, "Tokens to generate at most")
      ->type_name("N")
      ->capture_default_str()
      ->check(whole_number(1, 1u << 30));
  command->add_option("--temp", options->sampler.temperature, "Temperature; 0 takes the likeliest token")
      ->type_name("T")
      ->capture_default_str()
      ->check(number(0, 100));
  command->add_option("--top-k", options->sampler.top_k, "Sample from the K likeliest; 0 = all")
      ->type_name("K")
      ->capture_default_str()
      ->check(whole_number(0, std::numeric_limits<std::uint32_t>::max()));
  command->add_option("--top-p", options->sampler.top_p, "Sample from the likeliest that together reach P; 1 = all")
      ->type_name("P")
      ->capture_default_str()
      ->check(number(0, 1));
  command->add_option("--seed", options->sampler.seed, "The same seed gives the same text on every CPU")
      ->type_name("S")
      ->capture_default_str()
      ->check(whole_number());
  add_threads_option(*command, "-t,--threads", options->session.threads);
  add_isa_option(*command, options->session.isa);
  command->add_option("--chunk", options->session.chunk, "Tokens of a prompt taken together; never changes the result")
      ->type_name("N")
      ->check(whole_number(1, 4096u));
  command->add_option("--context", options->session.context, "Positions to keep (default: the model's)")
      ->type_name("N")
      ->check(whole_number(1, 1u << 20));
  command->add_flag("--json", options->json, "Print text, tokens, digest and speed as JSON");
  command->footer("Example:\n  heed run stories.heed -p \"Once upon a time\" -n 200 --temp 0.8 --seed 7");
  command->callback([options] { run(*options); });
}

}  // namespace heed::tool
