// SPDX-License-Identifier: Apache-2.0
// run.cpp: `heed run`, a text and how it goes on.
#include <cstdio>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/generate.hpp"
#include "examples/heed/model_kind.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/prompt.hpp"
#include "examples/heed/refusal.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model;
  PromptOptions prompt;
  GenerateOptions generate;
  SessionOptions session;
  bool json = false;
};

void run(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  require_kind(loaded, ModelKind::decoder);
  const Tokenizer tokenizer = tokenizer_of(loaded);
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  const std::string text = read_prompt(options.prompt);
  const Interrupt interrupt;
  Generator generate(*host, loaded, tokenizer, options.generate, interrupt, !options.json);
  const Span<const Token> first = generate.generation().first();
  const std::size_t unseen = first.size();
  std::vector<Token> prompt(first.begin(), first.end());
  for (const Token token : encode(tokenizer, {text.data(), text.size()}, "prompt", 0, {false, false}))
    prompt.push_back(token);
  if (prompt.empty())
    refuse(options.model, "this vocabulary has no beginning-of-text token; give a prompt with -p or -f");
  if (prompt.size() > host->session.max_seq())
    refuse(options.model, "the prompt has " + std::to_string(prompt.size()) + " tokens, the context " +
                              std::to_string(host->session.max_seq()));
  const Generated result = generate(prompt, unseen);
  const GenerateTotals& totals = generate.totals();

  if (options.json) {
    Json json;
    json["text"] = result.text;
    json["prompt_tokens"] = prompt;
    json["tokens"] = result.tokens;
    json["digest"] = hex8(totals.digest.value());
    json["end"] = name_of(result.end);
    json["context_full"] = result.end == End::context_full;
    json["interrupted"] = result.end == End::interrupted;
    json["seed"] = options.generate.sampler.seed;
    json["prefill_tokens_per_s"] = number_or_null(totals.prefill_rate());
    json["decode_tokens_per_s"] = number_or_null(totals.decode_rate());
    put_session(json, *host, loaded);
    print_json(json);
  } else {
    std::puts("");
    std::fflush(stdout);
    if (result.end == End::context_full) std::fputs("heed: note: the context is full\n", stderr);
    if (result.end == End::interrupted) std::fputs("heed: note: interrupted\n", stderr);
    std::fprintf(stderr, "digest %s: %zu + %zu tokens, prefill %s tokens/s, decode %s tokens/s, %s\n",
                 hex8(totals.digest.value()).c_str(), prompt.size(), result.tokens.size(),
                 engineering(totals.prefill_rate()).c_str(), engineering(totals.decode_rate()).c_str(),
                 describe_session(*host).c_str());
  }
  if (result.end == End::interrupted) throw Interrupted{interrupt.signal()};
}

}  // namespace

void add_run(CLI::App& app) {
  auto* command = app.add_subcommand("run", "Continue a text");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) of a decoder, with a tokenizer")->required();
  add_prompt_options(*command, options->prompt, "The text to continue", "a text is begun");
  add_generate_options(*command, options->generate);
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
      "  heed run stories.heed -f prompt.txt --temp 0.8 --min-p 0.05 --repeat-penalty 1.1 --seed random --stop \"The "
      "end\"\n"
      "Ctrl-C ends the text and prints what there is (status 130); a second one ends the program.");
  command->callback([options] {
    settle_seed(options->generate);
    run(*options);
  });
}

}  // namespace heed::tool
