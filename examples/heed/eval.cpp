// SPDX-License-Identifier: Apache-2.0
// eval.cpp: `heed eval`, how well a model predicts a text, and how far it is from its checkpoint.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "examples/heed/commands.hpp"
#include "examples/heed/generate.hpp"
#include "examples/heed/model_kind.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/pairs.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/scores.hpp"

namespace heed::tool {
namespace {

// A product of so many rows reads the unembedding once for all of them; more costs memory and gains little.
constexpr std::uint32_t kScoreRows = 16;

struct Options {
  std::string model, text, reference;
  std::size_t chunk_bytes = 900, max_chunks = 0;
  std::uint64_t max_pairs = 0;
  quant::ReadOptions read;
  SessionOptions session;
  bool pairs = false, json = false;
};

// Over all chunks.
struct Sums {
  Scores scores;
  std::uint64_t chunks = 0, cut_chunks = 0, bytes = 0;

  double bits_per_byte() const { return bytes ? scores.nats / (std::log(2.0) * static_cast<double>(bytes)) : 0.0; }
};

std::uint64_t decoded_bytes(const Tokenizer& tokenizer, Span<const Token> tokens, std::size_t first) {
  std::uint64_t n = 0;
  for (std::size_t i = first; i < tokens.size(); ++i) {
    Span<const char> bytes;
    require(tokenizer.decode(bytes, tokens[i - 1], tokens[i]), "text");
    n += bytes.size();
  }
  return n;
}

// The cut at or before byte `at` that leaves every character whole: a part of one may have no token.
std::size_t whole_characters(Span<const char> text, std::size_t at) {
  if (at >= text.size()) return text.size();
  std::size_t begin = at;
  while (begin > 0 && at - begin < 3 && (text[begin] & 0xC0) == 0x80) --begin;
  return (text[begin] & 0xC0) == 0x80 ? at : begin;
}

// The bytes of the UTF-8 character that `text` begins with; 0 if it begins with none (Unicode 16, table 3-7).
std::size_t character_bytes(Span<const char> text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto between = [](unsigned x, unsigned low, unsigned high) { return x >= low && x <= high; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return text.empty() ? 0 : 1;
  if (!between(lead, 0xC2, 0xF4)) return 0;
  const std::size_t n = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;   // less would be too long a form
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;  // more a surrogate, or beyond Unicode
  if (!between(byte(1), low, high)) return 0;
  for (std::size_t i = 2; i < n; ++i)
    if (!between(byte(i), 0x80, 0xBF)) return 0;
  return n;
}

// A text in another encoding still has a loss, which says little.
void note_encoding(Span<const char> text, const std::string& path) {
  std::size_t at = 0, n = 0;
  while (at < text.size() && (n = character_bytes(text.subspan(at, text.size() - at))) != 0) at += n;
  if (at == text.size()) return;
  std::fprintf(stderr,
               "heed: note: %s is not UTF-8 at byte %zu (0x%02X); a model of UTF-8 text is measured on UTF-8 only\n",
               one_line(path).c_str(), at, static_cast<unsigned>(static_cast<unsigned char>(text[at])));
}

void print(const Sums& sums, const Options& options, const HostSession& host, const LoadedModel& loaded,
           bool interrupted) {
  const Scores& scores = sums.scores;
  if (options.json) {
    Json json;
    put_scores(json, scores);
    json["bits_per_byte"] = scores.if_any(sums.bits_per_byte());
    json["tokens"] = scores.tokens;
    json["chunks"] = sums.chunks;
    json["cut_chunks"] = sums.cut_chunks;
    json["bytes"] = sums.bytes;
    if (!options.reference.empty()) put_reference_scores(json, scores);
    json["digest"] = hex8(scores.digest.value());
    json["interrupted"] = interrupted;
    put_session(json, host, loaded);
    print_json(json);
    return;
  }
  note_slower(host);
  if (scores.tokens == 0) return;
  print_scores(scores);
  std::printf("bits per byte   %.4f\n", sums.bits_per_byte());
  if (!options.reference.empty()) print_reference_scores(scores);
  std::printf("over            %s, %s, %s\n", counted(scores.tokens, "token").c_str(),
              counted(sums.bytes, "byte").c_str(), counted(sums.chunks, "chunk").c_str());
}

void eval_text(const LoadedModel& loaded, HostSession& host, Reference* reference, Span<const char> text,
               const Options& options) {
  const Tokenizer tokenizer = tokenizer_of(loaded);
  const Generation generation = generation_of(loaded, tokenizer);
  const Span<const Token> begin = generation.first();
  const std::size_t unscored = std::max<std::size_t>(begin.size(), 1);
  std::size_t n_chunks = (text.size() + options.chunk_bytes - 1) / options.chunk_bytes;
  if (options.max_chunks) n_chunks = std::min(n_chunks, options.max_chunks);
  Sums sums;
  std::optional<Progress> progress(std::in_place, "eval", n_chunks);
  const Interrupt interrupt;
  bool interrupted = false;
  for (std::size_t i = 0; i < n_chunks; ++i) {
    if (interrupt.signal()) {
      interrupted = true;
      n_chunks = i;  // what is printed is of these
      break;
    }
    const std::size_t first = whole_characters(text, i * options.chunk_bytes);
    const auto chunk = text.subspan(first, whole_characters(text, (i + 1) * options.chunk_bytes) - first);
    std::vector<Token> tokens(begin.begin(), begin.end());
    for (const Token t : encode(tokenizer, chunk, options.text, first, {false, false})) tokens.push_back(t);
    // The last token is only predicted, so it needs no position.
    const std::size_t room = std::size_t{host.session.max_seq()} + 1;
    const bool cut = tokens.size() > room;
    if (cut) tokens.resize(room);
    if (tokens.size() <= unscored) continue;  // nothing to predict
    score(sums.scores, host.session, reference, tokens, kNoToken, unscored, options.model);
    ++sums.chunks;
    sums.cut_chunks += cut;
    sums.bytes += cut ? decoded_bytes(tokenizer, tokens, unscored) : chunk.size();
    progress->show(i + 1);
  }
  progress.reset();  // its line is for others now
  if (sums.scores.tokens == 0 && !interrupted) refuse(options.text, "nothing to predict in it");
  note_encoding(text.subspan(0, whole_characters(text, n_chunks * options.chunk_bytes)), options.text);
  if (sums.cut_chunks)
    std::fprintf(stderr,
                 "heed: note: %s of %s chunks do not fit the context of %u and count up to its end; "
                 "smaller --chunk-bytes keep them whole\n",
                 grouped(sums.cut_chunks).c_str(), grouped(sums.chunks).c_str(), host.session.max_seq());
  print(sums, options, host, loaded, interrupted);
  if (!interrupted) return;
  std::fprintf(stderr, "heed: note: interrupted after %s\n", counted(sums.chunks, "chunk").c_str());
  throw Interrupted{interrupt.signal()};
}

void eval(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  const ModelKind kind = kind_of(loaded.model.config());
  if (kind == ModelKind::encoder) require_kind(loaded, ModelKind::decoder);
  if (kind == ModelKind::translator && !options.pairs)
    refuse(options.model, "the model writes a text for a source; --pairs takes a file of lines with both");
  if (kind == ModelKind::decoder && options.pairs)
    refuse(options.model, "the model reads no source; without --pairs it predicts a text");
  MappedFile file;
  map_text(file, options.text);
  const Span<const char> text{reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  std::optional<Reference> reference;
  if (!options.reference.empty()) reference.emplace(options.reference, loaded.model, options.read);
  Reference* const beside = reference ? &*reference : nullptr;
  if (options.pairs)
    eval_pairs(loaded, *host, beside, text, {options.text, options.max_pairs, options.json});
  else
    eval_text(loaded, *host, beside, text, options);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Measure how well a model predicts a text");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) with a tokenizer")->required();
  command->add_option("FILE", options->text, "A text; each chunk of it is predicted on its own")->required();
  auto* pairs = command->add_flag(
      "--pairs", options->pairs,
      "For a model of two stacks: each line of FILE is a source, a tab and a text, which is "
      "predicted behind its source, and then written by the model itself. Empty lines are passed over; pairs whose "
      "source or text the vocabularies cannot express or the contexts cannot hold are left out and counted");
  command->add_option("--max-pairs", options->max_pairs, "Pairs to take (default: all)")
      ->type_name("N")
      ->transform(whole_number(1))
      ->needs(pairs);
  command->add_option("--chunk-bytes", options->chunk_bytes, "Bytes per chunk, at most 1 MiB; pairs have no chunks")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 1u << 20))
      ->excludes(pairs);
  command->add_option("--max-chunks", options->max_chunks, "Chunks to take (default: all)")
      ->type_name("N")
      ->transform(whole_number(1))
      ->excludes(pairs);
  CLI::Option* const reference =
      command
          ->add_option("--reference", options->reference,
                       "The checkpoint that the image was made of: adds its loss, the KL divergence from it "
                       "and how often both put the same token first")
          ->type_name("CHECKPOINT");
  add_rope_theta_option(*command, options->read.rope_theta)->needs(reference);
  command
      ->add_option("--description", options->read.description,
                   "What the tensors of CHECKPOINT are, if it is a safetensors file")
      ->type_name("MODEL.json")
      ->needs(reference);
  options->session.score_rows = kScoreRows;
  command
      ->add_option("--score-rows", options->session.score_rows,
                   "Positions whose logits one product gives; never changes the result")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 4096u));
  command->add_option("--chunk", options->session.chunk, "Positions taken together; never changes the result")
      ->type_name("N")
      ->transform(whole_number(1, 4096u));
  add_isa_option(*command, options->session.isa);
  add_threads_option(*command, "-t,--threads", options->session.threads);
  command->add_flag("--json", options->json, "Print the numbers as JSON");
  command->footer(
      "Example:\n"
      "  heed eval stories.heed tinystories.txt --max-chunks 60 --reference stories260K.bin\n"
      "  heed eval latin.heed words.tsv --pairs --reference weights.safetensors --description model.json");
  command->callback([options] { eval(*options); });
}

}  // namespace heed::tool
