// SPDX-License-Identifier: Apache-2.0
// scores.cpp: losses from logits, in double.
#include "examples/heed/scores.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "examples/heed/refusal.hpp"

namespace heed::tool {
namespace {

std::size_t argmax(const std::vector<double>& p) {
  return static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
}

// In what a stack differs from the image's that was made of it, by the names of SPEC.md 1.3; empty where in nothing
// that scoring relies on.
std::string difference(const StackConfig& source, const StackConfig& image) {
  struct Field {
    const char* name;
    std::uint32_t source, image;
  };
  const Field fields[] = {{"use", static_cast<std::uint32_t>(source.use), static_cast<std::uint32_t>(image.use)},
                          {"input", static_cast<std::uint32_t>(source.input), static_cast<std::uint32_t>(image.input)},
                          {"vocab_size", source.vocab_size, image.vocab_size},
                          {"n_outputs", source.n_outputs, image.n_outputs},
                          {"d_model", source.d_model, image.d_model},
                          {"d_input", source.d_input, image.d_input},
                          {"d_ff", source.d_ff, image.d_ff},
                          {"n_layers", source.n_layers, image.n_layers},
                          {"n_heads", source.n_heads, image.n_heads},
                          {"n_kv_heads", source.n_kv_heads, image.n_kv_heads},
                          {"head_dim", source.head_dim, image.head_dim}};
  for (const Field& f : fields)
    if (f.source != f.image)
      return std::string(f.name) + " is " + std::to_string(f.source) + ", the image's " + std::to_string(f.image);
  if (source.max_seq < image.max_seq)  // the image may keep fewer positions, never more
    return "max_seq is " + std::to_string(source.max_seq) + ", the image's " + std::to_string(image.max_seq);
  return {};
}

}  // namespace

void put_scores(Json& json, const Scores& scores) {
  const double loss = scores.per_token(scores.nats);
  json["nats_per_token"] = scores.if_any(loss);
  json["perplexity"] = scores.if_any(std::exp(loss));
}

void put_reference_scores(Json& json, const Scores& scores) {
  json["reference_nats_per_token"] = scores.if_any(scores.per_token(scores.reference_nats));
  json["kl"] = scores.if_any(scores.per_token(scores.kl));
  json["top1_agreement"] = scores.if_any(scores.per_token(static_cast<double>(scores.agreements)));
}

void print_scores(const Scores& scores) {
  const double loss = scores.per_token(scores.nats);
  std::printf("loss            %.6f nats per token\n", loss);
  std::printf("perplexity      %.4f\n", std::exp(loss));
}

void print_reference_scores(const Scores& scores) {
  std::printf("float loss      %.6f nats per token\n", scores.per_token(scores.reference_nats));
  std::printf("KL to float     %.6f nats per token\n", scores.per_token(scores.kl));
  std::printf("top-1 agreement %.2f %%\n", 100.0 * scores.per_token(static_cast<double>(scores.agreements)));
}

Reference::Reference(const std::string& path, const Model& model, const quant::ReadOptions& options) {
  if (const quant::Error e = quant::read_model(source_, path, options)) refuse("", e.sentence());
  const ModelConfig &of_source = source_.config, &of_image = model.config();
  if (of_source.n_stacks != of_image.n_stacks)
    refuse(path, "not the checkpoint of this image: it has " + counted(of_source.n_stacks, "stack") + ", the image " +
                     std::to_string(of_image.n_stacks));
  for (std::uint32_t i = 0; i < of_image.n_stacks; ++i) {
    const StackConfig &a = of_source.stacks[i], &b = of_image.stacks[i];
    const std::string differs = difference(a, b),
                      of = of_image.n_stacks == 2 ? "stacks[" + std::to_string(i) + "]." : "";
    if (!differs.empty()) refuse(path, "not the checkpoint of this image: " + of + differs);
    const std::vector<std::uint32_t>& phases = source_.rotary_phases[i];
    if (b.position == Position::rotary &&
        (phases.size() != b.rotary_dims / 2 ||
         !std::equal(phases.begin(), phases.end(), model.phases(Role::rotary_phases, i))))
      refuse(path, "not the checkpoint of this image as it is: its rotation has another theta; --rope-theta names it");
  }
  forward_.emplace(source_, of_image.main().max_seq);
}

void Reference::set_source(const std::vector<Token>& tokens) {
  quant::FloatSequence sequence;
  sequence.tokens.assign(tokens.begin(), tokens.end());
  if (!forward_->set_source(sequence)) refuse("", "the float model cannot read a source that the image reads");
}

void Reference::compare(Scores& scores, Span<const float> exact, Span<const float> logits, Token next) {
  quant::softmax(p_, log_p_, exact);
  quant::softmax(q_, log_q_, logits);
  double kl = 0.0;
  for (std::size_t i = 0; i < p_.size(); ++i) kl += p_[i] * (log_p_[i] - log_q_[i]);
  scores.kl += kl;
  scores.reference_nats -= log_p_[static_cast<std::size_t>(next)];
  scores.agreements += argmax(log_p_) == argmax(log_q_);
}

void score(Scores& scores, Session& session, Reference* reference, Span<const Token> tokens, Token ending,
           std::size_t unscored, const std::string& path) {
  struct Context {
    Scores& scores;
    const Kernels& kernels;
    Reference* reference;
    Span<const Token> tokens;
    Token ending;
    std::size_t unscored;
  } context{scores, *session.kernels(), reference, tokens, ending, unscored};
  if (reference) reference->restart();
  require(session.rewind(0), path);
  const RowSink sink{[](void* user, std::uint32_t position, Span<const float> logits) {
                       auto& c = *static_cast<Context*>(user);
                       c.scores.digest.add_row(c.kernels, position, logits);
                       const std::size_t behind = std::size_t{position} + 1;
                       const Token next = behind < c.tokens.size() ? c.tokens[behind] : c.ending;
                       Span<const float> exact;
                       if (c.reference) exact = c.reference->step(c.tokens[position]);
                       if (behind < c.unscored) return;
                       ++c.scores.tokens;
                       c.scores.nats -= quant::log_probability(logits, static_cast<std::uint32_t>(next));
                       if (c.reference) c.reference->compare(c.scores, exact, logits, next);
                     },
                     &context};
  require(session.evaluate(tokens.subspan(0, tokens.size() - (ending == kNoToken)), sink), path);
  if (scores.digest.saw_nan()) refuse(path, "a logit is not a number");
}

}  // namespace heed::tool
