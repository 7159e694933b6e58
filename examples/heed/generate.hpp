// SPDX-License-Identifier: Apache-2.0
// generate.hpp: what `heed run` and `heed translate` share: the options of sampling, and the loop that picks one token
// after the other until the text ends.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "examples/heed/generated_text.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/interrupt.hpp"
#include "examples/heed/output.hpp"
#include "runtime/digest.hpp"
#include "runtime/sampler.hpp"

namespace heed::tool {

struct GenerateOptions {
  std::string seed = "0";
  std::uint32_t n_tokens = 256;
  std::vector<std::string> stops;
  SamplerConfig sampler;
  bool ignore_eos = false;
};
void add_generate_options(CLI::App& command, GenerateOptions& options);
// From the text of --seed to the number; a random one is printed as a note.
void settle_seed(GenerateOptions& options);

// Why a text ended; name_of gives the words of --json.
enum class End { tokens, end_of_text, stop_text, context_full, interrupted };
const char* name_of(End end);

// What one generated text leaves behind.
struct Generated {
  std::string text;
  std::vector<Token> tokens;
  End end = End::tokens;
};

// Sums over all texts of a command.
struct GenerateTotals {
  Digest digest;
  double prefill_s = 0.0, decode_s = 0.0;
  std::uint64_t prefilled = 0, steps = 0, generated = 0;

  double prefill_rate() const { return prefill_s > 0.0 ? static_cast<double>(prefilled) / prefill_s : 0.0; }
  double decode_rate() const { return decode_s > 0.0 ? static_cast<double>(steps) / decode_s : 0.0; }
};

// Generates texts in a session, each from a sampler of its own with the same seed.
class Generator {
 public:
  // All but `options` must outlive it. `show`: texts are printed as they come, otherwise how far one is is shown,
  // unless it is one of `many`.
  Generator(HostSession& host, const LoadedModel& loaded, const Tokenizer& tokenizer, const GenerateOptions& options,
            const Interrupt& interrupt, bool show, bool many = false);

  // The text behind `prompt`, from the session's present position on. `unseen` of the prompt's tokens begin it without
  // being part of the text, such as BOS.
  Generated operator()(Span<const Token> prompt, std::size_t unseen);
  const Generation& generation() const { return generation_; }
  const GenerateTotals& totals() const { return totals_; }

 private:
  void prefill(Span<const float>& logits, Span<const Token> prompt);

  HostSession& host_;
  const std::string& path_;
  const Tokenizer& tokenizer_;
  const Generation generation_;
  GenerateOptions options_;
  const Interrupt& interrupt_;
  bool show_, many_;
  std::vector<std::uint32_t> scratch_;
  GenerateTotals totals_;
};

// The keys of --json that describe how a command ran, and the line that says the same to people. Both say why a slower
// table runs, the first one in a note.
void put_session(Json& json, const HostSession& host, const LoadedModel& loaded);
std::string describe_session(const HostSession& host);

}  // namespace heed::tool
