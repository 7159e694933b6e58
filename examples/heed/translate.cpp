// SPDX-License-Identifier: Apache-2.0
// translate.cpp: `heed translate`, a source in, a text out.
#include <cstdio>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/generate.hpp"
#include "examples/heed/model_kind.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/sequences.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model, begin;
  SequenceOptions source;
  GenerateOptions generate;
  SessionOptions session;
  bool json = false;
};

// What the sources cost beside the texts.
struct SourceTotals {
  double seconds = 0.0;
  std::uint64_t positions = 0;
  double rate() const { return seconds > 0.0 ? static_cast<double>(positions) / seconds : 0.0; }
};

Json to_json(const InputSequence& source, const Generated& result) {
  Json json;
  if (!source.tokens.empty()) {
    json["source"] = source.text;
    json["source_tokens"] = source.tokens;
  } else {
    json["source_positions"] = source.positions;
  }
  json["text"] = result.text;
  json["tokens"] = result.tokens;
  json["end"] = name_of(result.end);
  return json;
}

void translate(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  require_kind(loaded, ModelKind::translator);
  const Tokenizer tokenizer = tokenizer_of(loaded);
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  const Sequences sources(loaded, 0, host->plan.source.max_seq, options.source, /*keep_empty_lines=*/true);
  const Interrupt interrupt;
  const bool show = !options.json;
  GenerateOptions texts = options.generate;
  if (sources.are_many()) texts.stops.emplace_back("\n");  // or the n-th line would not be the n-th text
  Generator generate(*host, loaded, tokenizer, texts, interrupt, show, sources.are_many());
  const Span<const Token> first = generate.generation().first();
  const std::size_t unseen = first.size();
  std::vector<Token> prompt(first.begin(), first.end());
  for (const Token token :
       encode(tokenizer, {options.begin.data(), options.begin.size()}, "--begin", 0, {false, false}))
    prompt.push_back(token);
  if (prompt.empty())
    refuse(options.model, "neither the image nor its vocabulary says what a text begins with; --begin does");
  if (prompt.size() > host->session.max_seq())
    refuse(options.begin.empty() ? "what a text begins with" : "--begin",
           "it takes " + counted(prompt.size(), "position") + ", the context has " + grouped(host->session.max_seq()));

  SourceTotals source_totals;
  Json lines = Json::array(), only;
  std::uint64_t full = 0;
  bool interrupted = false;
  Progress progress("translate", options.json && sources.are_many() ? sources.size() : 0);
  for (std::uint64_t i = 0; i < sources.size() && !interrupted; ++i) {
    const InputSequence source = sources[i];
    Generated result;
    if (source.positions) {
      const auto start = std::chrono::steady_clock::now();
      require(host->session.set_source(source.view()), source.name);
      source_totals.seconds += seconds_since(start);
      source_totals.positions += source.positions;
      result = generate(prompt, unseen);
    }
    interrupted = result.end == End::interrupted || interrupt.signal();
    full += result.end == End::context_full;
    if (show) std::puts("");
    if (options.json) only = to_json(source, result);
    if (options.json && sources.are_many()) lines.push_back(only);
    progress.show(i + 1);
  }

  const GenerateTotals& totals = generate.totals();
  if (options.json) {
    Json json;
    if (sources.are_many())
      json["lines"] = lines;
    else
      json = only;
    json["digest"] = hex8(totals.digest.value());
    json["interrupted"] = interrupted;
    json["seed"] = options.generate.sampler.seed;
    json["source_positions_per_s"] = number_or_null(source_totals.rate());
    json["decode_tokens_per_s"] = number_or_null(totals.decode_rate());
    put_session(json, *host, loaded);
    print_json(json);
  } else {
    std::fflush(stdout);
    if (full)
      std::fprintf(stderr, "heed: note: %s of %s to the end of the context\n", counted(full, "text").c_str(),
                   grouped(sources.size()).c_str());
    if (interrupted) std::fputs("heed: note: interrupted\n", stderr);
    std::fprintf(stderr, "digest %s: %s, source %s positions/s, %s, decode %s tokens/s, %s\n",
                 hex8(totals.digest.value()).c_str(), counted(source_totals.positions, "source position").c_str(),
                 engineering(source_totals.rate()).c_str(), counted(totals.generated, "token").c_str(),
                 engineering(totals.decode_rate()).c_str(), describe_session(*host).c_str());
  }
  if (interrupted) throw Interrupted{interrupt.signal()};
}

}  // namespace

void add_translate(CLI::App& app) {
  auto* command = app.add_subcommand("translate", "Write a text for a source, with a model of two stacks");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) of an encoder-decoder, with a tokenizer")->required();
  options->source.is_source = true;
  add_sequence_options(*command, options->source, "The source");
  command->add_option("--begin", options->begin, "What each text begins with")->type_name("TEXT");
  add_generate_options(*command, options->generate);
  add_threads_option(*command, "-t,--threads", options->session.threads);
  add_isa_option(*command, options->session.isa);
  add_size_options(*command, options->session, "Positions of a text to keep");
  command->add_flag("--json", options->json, "Print texts, tokens, digest and speed as JSON");
  command->footer(std::string("Example:\n"
                              "  heed translate latin.heed -p \"آتزمون\"\n"
                              "  heed translate latin.heed -f words.txt --lines > latin.txt\n"
                              "  heed translate speech.heed --source-vectors spectrum.npy -n 100 --json\n"
                              "With --lines the n-th line of the output is the text of the n-th source, and a text "
                              "ends where its line does.\n") +
                  output_rule(false));
  command->callback([options] {
    settle_seed(options->generate);
    translate(*options);
  });
}

}  // namespace heed::tool
