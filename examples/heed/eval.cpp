// SPDX-License-Identifier: Apache-2.0
// eval.cpp: `heed eval`, how well a model predicts a text, and how far it is from its float source.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "examples/heed/commands.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/interrupt.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "quant/convert.hpp"
#include "quant/float_reference.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model, text, reference;
  std::size_t chunk_bytes = 900, max_chunks = 0;
  quant::ReadOptions read;
  SessionOptions session;
  bool json = false;
};

// Sums over predicted tokens; every table gives the same bits, and the loss is computed from them in one order.
struct Sums {
  std::uint64_t chunks = 0, cut_chunks = 0, tokens = 0, bytes = 0, agreements = 0;
  double nats = 0.0, reference_nats = 0.0, kl = 0.0;

  double per_token(double sum) const { return tokens ? sum / static_cast<double>(tokens) : 0.0; }
  double bits_per_byte() const { return bytes ? nats / (std::log(2.0) * static_cast<double>(bytes)) : 0.0; }
};

std::size_t argmax(const std::vector<double>& p) {
  return static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
}

// The float model that the image came from, stepping beside it.
class Reference {
 public:
  Reference(const std::string& path, const Model& model, const quant::ReadOptions& options) {
    if (const quant::Error e = quant::read_model(source_, path, options)) refuse("", e.sentence());
    const StackConfig &a = source_.config.main(), &b = model.config().main();
    if (a.vocab_size != b.vocab_size || a.d_model != b.d_model || a.n_layers != b.n_layers || a.n_heads != b.n_heads)
      refuse(path, "not the source of this image: " + std::to_string(a.n_layers) + " layers of " +
                       std::to_string(a.d_model) + " and a vocabulary of " + std::to_string(a.vocab_size) +
                       ", the image has " + std::to_string(b.n_layers) + " of " + std::to_string(b.d_model) + " and " +
                       std::to_string(b.vocab_size));
    const std::vector<std::uint32_t>& phases = source_.rotary_phases[source_.config.n_stacks - 1];
    if (b.position == Position::rotary &&
        (phases.size() != b.rotary_dims / 2 || !std::equal(phases.begin(), phases.end(), model.rotary_phases())))
      refuse(path, "not the source of this image as it is: its rotation has another theta; --rope-theta names it");
    forward_.emplace(source_, b.max_seq);
  }

  void restart() { forward_->restart(); }

  // After `token`, the int8 model gave `logits`, and the text goes on with `next`.
  void compare(Sums& sums, Span<const float> logits, Token token, Token next) {
    const Span<const float> exact = forward_->step(static_cast<std::uint32_t>(token));
    quant::softmax(p_, log_p_, exact);
    quant::softmax(q_, log_q_, logits);
    double kl = 0.0;
    for (std::size_t i = 0; i < p_.size(); ++i) kl += p_[i] * (log_p_[i] - log_q_[i]);
    sums.kl += kl;
    sums.reference_nats -= log_p_[static_cast<std::size_t>(next)];
    sums.agreements += argmax(log_p_) == argmax(log_q_);
  }

 private:
  quant::FloatModel source_;
  std::optional<quant::FloatReference> forward_;
  std::vector<double> p_, log_p_, q_, log_q_;
};

// One chunk on its own: every token after the first is predicted from those before it.
void evaluate(Sums& sums, Session& session, Reference* reference, Span<const Token> tokens, const std::string& path) {
  struct Context {
    Sums& sums;
    Reference* reference;
    Span<const Token> tokens;
  } context{sums, reference, tokens};
  if (reference) reference->restart();
  require(session.rewind(0), path);
  const LogitsSink sink{[](void* user, std::uint32_t position, Span<const float> logits) {
                          auto& c = *static_cast<Context*>(user);
                          const Token next = c.tokens[position + 1];
                          c.sums.nats -= quant::log_probability(logits, static_cast<std::uint32_t>(next));
                          if (c.reference) c.reference->compare(c.sums, logits, c.tokens[position], next);
                        },
                        &context};
  require(session.evaluate(tokens.subspan(0, tokens.size() - 1), sink), path);
  sums.tokens += tokens.size() - 1;
}

std::uint64_t decoded_bytes(const Tokenizer& tokenizer, Span<const Token> tokens) {
  std::uint64_t n = 0;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
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
  const double loss = sums.per_token(sums.nats);
  if (options.json) {
    const auto if_any = [&](double x) { return sums.tokens ? Json(x) : Json(nullptr); };
    Json json;
    json["nats_per_token"] = if_any(loss);
    json["perplexity"] = if_any(std::exp(loss));
    json["bits_per_byte"] = if_any(sums.bits_per_byte());
    json["tokens"] = sums.tokens;
    json["chunks"] = sums.chunks;
    json["cut_chunks"] = sums.cut_chunks;
    json["bytes"] = sums.bytes;
    if (!options.reference.empty()) {
      json["reference_nats_per_token"] = if_any(sums.per_token(sums.reference_nats));
      json["kl"] = if_any(sums.per_token(sums.kl));
      json["top1_agreement"] = if_any(sums.per_token(static_cast<double>(sums.agreements)));
    }
    json["interrupted"] = interrupted;
    json["isa"] = host.kernels.traits.name;
    json["threads"] = host.pool.threads();
    json["arena_bytes"] = host.plan.arena_bytes;
    json["image_bytes"] = loaded.model.image().size();
    print_json(json);
    return;
  }
  if (sums.tokens == 0) return;
  std::printf("loss            %.6f nats per token\n", loss);
  std::printf("perplexity      %.4f\n", std::exp(loss));
  std::printf("bits per byte   %.4f\n", sums.bits_per_byte());
  if (!options.reference.empty()) {
    std::printf("float loss      %.6f nats per token\n", sums.per_token(sums.reference_nats));
    std::printf("KL to float     %.6f nats per token\n", sums.per_token(sums.kl));
    std::printf("top-1 agreement %.2f %%\n", 100.0 * sums.per_token(static_cast<double>(sums.agreements)));
  }
  std::printf("over            %s, %s, %s\n", counted(sums.tokens, "token").c_str(), counted(sums.bytes, "byte").c_str(),
              counted(sums.chunks, "chunk").c_str());
}

void eval(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  const Tokenizer tokenizer = tokenizer_of(loaded);
  MappedFile file;
  map_text(file, options.text);
  const Span<const char> text{reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  std::optional<Reference> reference;
  if (!options.reference.empty()) reference.emplace(options.reference, loaded.model, options.read);

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
    std::vector<Token> tokens = encode(tokenizer, chunk, options.text, first);
    // The last token is only predicted, so it needs no position.
    const std::size_t room = std::size_t{host->session.max_seq()} + 1;
    const bool cut = tokens.size() > room;
    if (cut) tokens.resize(room);
    if (tokens.size() < 2) continue;  // nothing to predict
    evaluate(sums, host->session, reference ? &*reference : nullptr, tokens, options.model);
    ++sums.chunks;
    sums.cut_chunks += cut;
    sums.bytes += cut ? decoded_bytes(tokenizer, tokens) : chunk.size();
    progress->show(i + 1);
  }
  progress.reset();  // its line is for others now
  if (sums.tokens == 0 && !interrupted) refuse(options.text, "nothing to predict in it");
  note_encoding(text.subspan(0, whole_characters(text, n_chunks * options.chunk_bytes)), options.text);
  if (sums.cut_chunks)
    std::fprintf(stderr,
                 "heed: note: %s of %s chunks do not fit the context of %u and count up to its end; "
                 "smaller --chunk-bytes keep them whole\n",
                 grouped(sums.cut_chunks).c_str(), grouped(sums.chunks).c_str(), host->session.max_seq());
  print(sums, options, *host, loaded, interrupted);
  if (!interrupted) return;
  std::fprintf(stderr, "heed: note: interrupted after %s\n", counted(sums.chunks, "chunk").c_str());
  throw Interrupted{interrupt.signal()};
}

}  // namespace

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Measure how well a model predicts a text");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) with a tokenizer")->required();
  command->add_option("FILE", options->text, "A text; each chunk of it is predicted on its own")->required();
  command
      ->add_option("--chunk-bytes", options->chunk_bytes,
                   "Bytes per chunk, at most 1 MiB")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(1, 1u << 20));
  command->add_option("--max-chunks", options->max_chunks, "Chunks to take (default: all)")
      ->type_name("N")
      ->transform(whole_number());
  CLI::Option* const reference =
      command->add_option("--reference", options->reference,
                   "The float source: adds its loss, the KL divergence from it "
                   "and how often both put the same token first")
      ->type_name("SOURCE");
  add_rope_theta_option(*command, options->read.rope_theta)->needs(reference);
  add_isa_option(*command, options->session.isa);
  add_threads_option(*command, "-t,--threads", options->session.threads);
  command->add_flag("--json", options->json, "Print the numbers as JSON");
  command->footer("Example:\n  heed eval stories.heed tinystories.txt --max-chunks 60 --reference stories260K.bin");
  command->callback([options] { eval(*options); });
}

}  // namespace heed::tool
