// SPDX-License-Identifier: Apache-2.0
// fidelity.cpp: losses, divergence and agreement, what was rewritten to get there, and the errors of int8 heads.
#include "examples/heed/fidelity.hpp"

#include <cstdio>
#include <string>

namespace heed::tool {
namespace {

constexpr const char* kHeadNames[quant::kHeadsCount] = {"queries",       "keys",       "values",
                                                        "cross queries", "cross keys", "cross values"};

const char* name_of(quant::KeyOffsetChoice choice) {
  switch (choice) {
    case quant::KeyOffsetChoice::none: return "none";
    case quant::KeyOffsetChoice::first_positions: return "means of the first positions";
    case quant::KeyOffsetChoice::half_way: return "half way from the means of the first positions to those of the whole context";
    case quant::KeyOffsetChoice::whole_context: return "means of the whole context";
  }
  return "unknown";
}

Json to_json(const quant::Fidelity& f) {
  Json json{{"outputs", f.outputs}, {"sequences", f.sequences}, {"cosine", f.cosine}, {"least_cosine", f.least_cosine}};
  if (f.is_text) json.update({{"loss", f.loss}, {"float_loss", f.float_loss}});
  if (f.are_logits)
    json.update({{"kl", f.kl}, {"kl_standard_error", f.kl_error}, {"top1_agreement", f.agreement}});
  return json;
}

// The embeddings' rows: the error of their tensor, or below 0 where there are none.
double embedding_error(const quant::QuantizeReport& report, std::uint32_t stack) {
  for (const quant::TensorReport& t : report.tensors)
    if (t.role == Role::token_embedding && t.stack == stack) return t.error;
  return -1.0;
}

}  // namespace

void put_fidelity(Json& json, const quant::QuantizeReport& report, const ModelConfig& config) {
  json["passes"] = Json::array();
  for (const quant::PassReport& p : report.passes) json["passes"].push_back({{"name", p.name}, {"stack", p.stack}});
  json["key_offset"] = name_of(report.key_offset);
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack)
    for (int i = 0; i < quant::kHeadsCount; ++i)
      if (report.head_errors[stack][i] > 0.0)
        json["heads"].push_back({{"stack", stack}, {"heads", kHeadNames[i]}, {"error", report.head_errors[stack][i]}});
  if (report.decided_before.outputs) {
    json["decided_on"] = to_json(report.decided);
    json["decided_on"]["as_it_came"] = to_json(report.decided_before);
  }
  if (report.fidelity.outputs) json["fidelity"] = to_json(report.fidelity);
}

void print_fidelity(const quant::QuantizeReport& report, const ModelConfig& config) {
  std::puts("error of int8 embeddings and heads:");
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
    const char* const of = config.n_stacks == 1 ? "" : stack == 0 ? "source " : "main ";
    if (const double e = embedding_error(report, stack); e >= 0.0)
      std::printf("  %-17s %6.3f %%\n", (std::string(of) + "embeddings").c_str(), 100.0 * e);
    for (int i = 0; i < quant::kHeadsCount; ++i)
      if (report.head_errors[stack][i] > 0.0)
        std::printf("  %-17s %6.3f %%\n", (std::string(of) + kHeadNames[i]).c_str(),
                    100.0 * report.head_errors[stack][i]);
  }
  for (const quant::PassReport& p : report.passes)
    std::printf("rewritten    %s%s\n", p.does, config.n_stacks == 1 ? "" : p.stack == 0 ? ", source" : ", main");
  if (report.key_offset == quant::KeyOffsetChoice::half_way || report.key_offset == quant::KeyOffsetChoice::whole_context)
    std::printf("key offsets  %s\n", name_of(report.key_offset));
  const quant::Fidelity& m = report.fidelity;
  if (m.outputs == 0) return;
  std::printf("int8 beside float, on %s than decided, %s of %s:\n",
              !report.reported_elsewhere ? "no other input" : m.is_text ? "other texts" : "other inputs", counted(m.outputs, "output").c_str(),
              counted(m.sequences, "sequence").c_str());
  if (m.is_text) std::printf("  loss              %.6f nats per token, float %.6f\n", m.loss, m.float_loss);
  if (m.are_logits) {
    std::printf("  KL to float       %.6f nats, standard error %.6f\n", m.kl, m.kl_error);
    std::printf("  top-1 agreement   %.2f %%\n", 100.0 * m.agreement);
  }
  if (!m.is_text) std::printf("  cosine            %.6f, the worst %.6f\n", m.cosine, m.least_cosine);
}

void warn_if_far(const quant::Fidelity& m) {
  if (m.outputs == 0 || m.distance() <= quant::kFarFromFloat) return;
  if (m.are_logits)
    std::fprintf(stderr, "heed: warning: the image is far from its float model: KL %.4f nats is above %.2f\n", m.kl,
                 quant::kFarFromFloat);
  else
    std::fprintf(stderr, "heed: warning: the image is far from its float model: a cosine of %.4f is below %.2f\n",
                 m.cosine, 1.0 - quant::kFarFromFloat);
}

}  // namespace heed::tool
