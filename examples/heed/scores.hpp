// SPDX-License-Identifier: Apache-2.0
// scores.hpp: how well a model predicts tokens that are known, and how far it is from the float model that it came
// from.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "examples/heed/host_session.hpp"
#include "examples/heed/output.hpp"
#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "runtime/digest.hpp"

namespace heed::tool {

// Sums over predicted tokens; every table gives the same bits, and the loss is computed from them in one order.
struct Scores {
  std::uint64_t tokens = 0, agreements = 0;
  double nats = 0.0, reference_nats = 0.0, kl = 0.0;
  Digest digest;  // of the logits at every position (SPEC.md 3.4)

  double per_token(double sum) const { return tokens ? sum / static_cast<double>(tokens) : 0.0; }
  Json if_any(double x) const { return tokens ? Json(x) : Json(nullptr); }
};
// The loss, and what the float model adds, in both forms of output.
void put_scores(Json& json, const Scores& scores);
void put_reference_scores(Json& json, const Scores& scores);
void print_scores(const Scores& scores);
void print_reference_scores(const Scores& scores);

// The float model that an image came from, stepping beside it.
class Reference {
 public:
  // Refuses a source that this image cannot come from.
  Reference(const std::string& path, const Model& model, const quant::ReadOptions& options);

  // Back to position 0; the source of two stacks stays.
  void restart() { forward_->restart(); }
  void set_source(const std::vector<Token>& tokens);
  // The logits behind `token`, valid until the next step.
  Span<const float> step(Token token) { return forward_->step(static_cast<std::uint32_t>(token)); }
  // Adds to the scores of one position, at which the float model has `exact`, the int8 model `logits`, and the text
  // `next`.
  void compare(Scores& scores, Span<const float> exact, Span<const float> logits, Token next);

 private:
  quant::FloatModel source_;
  std::optional<quant::FloatReference> forward_;
  std::vector<double> p_, log_p_, q_, log_q_;
};

// Runs a session from position 0 over `tokens` and scores what each position predicts: the next one of them, and behind
// the last one `ending`, unless that is kNoToken. Predictions of the first `unscored` tokens, at least one, do not
// count.
void score(Scores& scores, Session& session, Reference* reference, Span<const Token> tokens, Token ending,
           std::size_t unscored, const std::string& path);

}  // namespace heed::tool
