// SPDX-License-Identifier: Apache-2.0
// huggingface.cpp: the family that the configuration names, and what all families have in common.
#include "quant/readers/huggingface.hpp"

#include <algorithm>

#include "quant/readers/model_folder.hpp"
#include "quant/readers/special_tokens.hpp"
#include "quant/readers/tokenizer_folder.hpp"

namespace heed::quant {
namespace {

constexpr std::size_t kMaxConfigBytes = 4u << 20;  // a vision model names a thousand classes twice

struct KnownFamily {
  const char* architecture;
  const char* name;  // with its article
  void (*read)(Family& family);
};
constexpr KnownFamily kFamilies[] = {
    {"GPT2LMHeadModel", "a GPT-2", read_gpt2},
    {"LlamaForCausalLM", "a Llama", read_llama},
    {"MistralForCausalLM", "a Mistral", read_llama},
    {"Qwen2ForCausalLM", "a Qwen 2", read_llama},
    {"Qwen3ForCausalLM", "a Qwen 3", read_llama},
    {"Gemma3ForCausalLM", "a Gemma 3", read_gemma3},
    {"Phi3ForCausalLM", "a Phi-3", read_phi3},
    {"PhiForCausalLM", "a Phi", read_phi},
    {"GPTNeoXForCausalLM", "a GPT-NeoX", read_gpt_neox},
    {"OPTForCausalLM", "an OPT", read_opt},
    {"BloomForCausalLM", "a BLOOM", read_bloom},
    {"BertModel", "a BERT", read_bert},
    {"BertForMaskedLM", "a BERT", read_bert},
    {"BertForSequenceClassification", "a BERT", read_bert},
    {"BertForTokenClassification", "a BERT", read_bert},
    {"RobertaModel", "a RoBERTa", read_bert},
    {"RobertaForMaskedLM", "a RoBERTa", read_bert},
    {"RobertaForSequenceClassification", "a RoBERTa", read_bert},
    {"RobertaForTokenClassification", "a RoBERTa", read_bert},
    {"XLMRobertaModel", "an XLM-RoBERTa", read_bert},
    {"XLMRobertaForMaskedLM", "an XLM-RoBERTa", read_bert},
    {"XLMRobertaForSequenceClassification", "an XLM-RoBERTa", read_bert},
    {"XLMRobertaForTokenClassification", "an XLM-RoBERTa", read_bert},
    {"DistilBertModel", "a DistilBERT", read_distilbert},
    {"DistilBertForMaskedLM", "a DistilBERT", read_distilbert},
    {"DistilBertForSequenceClassification", "a DistilBERT", read_distilbert},
    {"DistilBertForTokenClassification", "a DistilBERT", read_distilbert},
    {"T5ForConditionalGeneration", "a T5", read_t5},
    {"BartForConditionalGeneration", "a BART", read_bart},
    {"MarianMTModel", "a Marian", read_bart},
    {"WhisperForConditionalGeneration", "a Whisper", read_whisper},
    {"ViTModel", "a ViT", read_vit},
    {"ViTForImageClassification", "a ViT", read_vit},
    {"DeiTModel", "a DeiT", read_vit},
    {"DeiTForImageClassification", "a DeiT", read_vit},
    {"DeiTForImageClassificationWithTeacher", "a DeiT", read_vit}};

// Families that look like others and are none that heed can run.
struct Refused {
  const char *architecture, *why;
};
constexpr Refused kRefused[] = {
    {"Gemma2ForCausalLM", "its soft caps of scores and logits (attn_logit_softcapping) are not"},
    {"Gemma3ForConditionalGeneration", "it reads images; its text alone, Gemma3ForCausalLM, is"}};

std::string all_families() {
  std::string all;
  for (const KnownFamily& f : kFamilies) all += (all.empty() ? "" : ", ") + std::string(f.architecture);
  return all;
}

Error find_family(const KnownFamily*& found, const Json& config) {
  if (!config.contains("architectures") || !config["architectures"].is_array() || config["architectures"].size() != 1 ||
      !config["architectures"][0].is_string())
    return Error("config.json: architectures is not a list of one name");
  const auto architecture = config["architectures"][0].get<std::string>();
  if (config.contains("quantization_config")) {
    const Json& q = config["quantization_config"];
    const bool named = q.is_object() && q.contains("quant_method") && q["quant_method"].is_string();
    return Error("config.json: quantization_config" +
                 (named ? ".quant_method \"" + printable(q["quant_method"].get<std::string>()) + "\"" : std::string()) +
                 ": quantised models are not read; give the float model that it was made from");
  }
  const std::string is_not = "config.json: architectures [\"" + printable(architecture) + "\"] is not supported: ";
  for (const Refused& refused : kRefused)
    if (architecture == refused.architecture) return Error(is_not + refused.why);
  for (const KnownFamily& family : kFamilies)
    if (architecture == family.architecture) found = &family;
  return found ? Error() : Error(is_not + "these are: " + all_families());
}

struct FolderParts {
  Json config, generation = Json::object();
  SentenceModules sentence;
  SafeTensors tensors;
};

Error read_parts(FloatModel& model, const FolderParts& parts, const KnownFamily& family) {
  const auto architecture = parts.config["architectures"][0].get<std::string>();
  model.format = "Hugging Face " + architecture;
  model.bos = model.eos = kNoSourceToken;
  model.config = ModelConfig{};
  Error error;
  FamilyConfig config(parts.config, "config.json: ", error);
  TensorTaker tensors(model, parts.tensors, error);
  Family f{model, architecture, config, tensors, parts.sentence, error};
  family.read(f);
  tensors.finish(family.name);
  if (error) return error;
  if (Error wrong = read_special_tokens(model, parts.generation, parts.config)) return wrong;
  return check(model);
}

}  // namespace

Error read_huggingface(FloatModel& model, Span<const std::uint8_t> config_json, Span<const std::uint8_t> safetensors) {
  FolderParts parts;
  if (Error error = parse_json(parts.config, config_json, 32)) return error.about("config.json");
  const KnownFamily* family = nullptr;
  if (Error error = find_family(family, parts.config)) return error;
  if (Error error = parts.tensors.open(safetensors)) return error.about("model.safetensors");
  return read_parts(model, parts, *family);
}

Error read_huggingface(FloatModel& model, const std::string& folder) {
  if (!is_file(folder + "/config.json")) return Error(folder + ": a folder without config.json is no Hugging Face model");
  FolderParts parts;
  if (Error error = read_json_file(parts.config, folder + "/config.json", kMaxConfigBytes)) return error;
  const KnownFamily* family = nullptr;
  if (Error error = find_family(family, parts.config)) return error.about(folder);
  if (Error error = open_tensors(parts.tensors, model, folder)) return error;
  if (Error error = read_sentence_modules(parts.sentence, folder)) return error;
  const std::string generation = folder + "/generation_config.json";
  if (is_file(generation))
    if (Error error = read_json_file(parts.generation, generation, kMaxConfigBytes)) return error;
  if (has_tokenizer(folder)) model.tokenizer = folder;
  return read_parts(model, parts, *family).about(folder);
}

}  // namespace heed::quant
