// SPDX-License-Identifier: Apache-2.0
// inspect.cpp: `heed inspect`, what an image holds.
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "examples/heed/commands.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/output_names.hpp"
#include "examples/heed/refusal.hpp"
#include "quant/feature_names.hpp"
#include "quant/source.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model;
  bool json = false;
};

const char* name_of(SectionKind kind) {
  switch (kind) {
    case SectionKind::stacks: return "stacks";
    case SectionKind::directory: return "directory";
    case SectionKind::tokenizer: return "tokenizer";
    case SectionKind::metadata: return "metadata";
    case SectionKind::tensors: return "tensors";
    case SectionKind::source_tokenizer: return "source_tokenizer";
    case SectionKind::classes: return "classes";
    case SectionKind::generation: return "generation";
  }
  return "skipped";
}

// Entries that a reader skips have roles and types of their own.
bool is_skipped(const TensorEntry& e) { return static_cast<std::uint8_t>(e.role) >= kOptionalRoles; }

const char* type_name(const TensorEntry& e) {
  static constexpr const char* kNames[] = {"s8", "f32", "u32", "s16", "s4", "s32"};
  return is_skipped(e) ? "" : kNames[static_cast<int>(e.type)];  // open() has checked it
}

std::string role_name(const TensorEntry& e) {
  return is_skipped(e) ? "skipped, " + std::to_string(static_cast<int>(e.role)) : quant::name_of(e.role);
}

template <class T>
T load_at(Span<const std::uint8_t> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::vector<SectionEntry> sections_of(const Model& model) {
  std::vector<SectionEntry> sections(load_at<ImageHeader>(model.image(), 0).n_sections);
  for (std::size_t i = 0; i < sections.size(); ++i)
    sections[i] = load_at<SectionEntry>(model.image(), sizeof(ImageHeader) + i * sizeof(SectionEntry));
  return sections;
}

// An image comes from anywhere: no control character of its texts reaches the terminal.
std::vector<std::string> lines_of(Span<const std::uint8_t> section) {
  std::vector<std::string> lines;
  const std::string text(reinterpret_cast<const char*>(section.data()), section.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(one_line(text.substr(at, end - at)));
    at = end + 1;
  }
  return lines;
}

// SPEC.md 1.6: of each output its name, or nothing; empty where the image has no names. The same as Model::class_name of
// all, which looks for each from the beginning.
std::vector<std::string> class_names(const Model& model) {
  if (model.classes().empty()) return {};
  std::vector<std::string> names = lines_of(model.classes());
  names.resize(model.config().main().n_outputs);
  return names;
}

struct Line {
  std::string key, value;
};

std::vector<Line> metadata_of(const Model& model) {
  std::vector<Line> lines;
  for (const std::string& line : lines_of(model.metadata())) {
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos) lines.push_back({line.substr(0, equals), line.substr(equals + 1)});
  }
  return lines;
}

// The vocabulary of the main stack, if the image has one. Refuses what a command that runs the model would: tables that
// contradict themselves, and a token outside the vocabulary in the section of generation.
std::optional<Tokenizer> check_texts(const LoadedModel& loaded) {
  const Model& model = loaded.model;
  const ModelConfig& c = model.config();
  std::optional<Tokenizer> tokenizer;
  if (!model.tokenizer().empty() && (c.n_stacks == 1 || c.main().input == Input::tokens)) tokenizer = tokenizer_of(loaded);
  if (c.n_stacks == 2 && !model.source_tokenizer().empty() && c.source().input == Input::tokens)
    (void)source_tokenizer_of(loaded);
  Generation generation;
  require(open(generation, model.generation(), c.main().vocab_size), loaded.path + ", section generation");
  return tokenizer;
}

struct TokenList {
  const char* name;
  std::vector<Token> tokens;
};

// SPEC.md 1.7, as it stands in the image; nothing where there is no such section. Behind check_texts.
std::vector<TokenList> generation_lists(const Model& model) {
  const Span<const std::uint8_t> section = model.generation();
  if (section.empty()) return {};
  std::vector<TokenList> lists{{"first", {}}, {"suppressed", {}}, {"endings", {}}};
  std::size_t at = lists.size() * sizeof(std::uint32_t);
  for (std::size_t i = 0; i < lists.size(); ++i)
    for (std::uint32_t n = load_at<std::uint32_t>(section, i * sizeof n); n > 0; --n, at += sizeof(Token))
      lists[i].tokens.push_back(load_at<Token>(section, at));
  return lists;
}

using Names = std::vector<const char*>;

// Those whose bit is set, in the order of the bits.
Json names_of_bits(std::uint32_t bits, const Names& names) {
  Json list = Json::array();
  for (std::size_t i = 0; i < names.size(); ++i)
    if ((bits >> i) & 1u) list.push_back(names[i]);
  return list;
}

// SPEC.md 1.3, field by field, values as the words that a description says them in.
Json stack_json(const StackConfig& c) {
  static const Names kActivations = {"relu", "gelu_tanh", "gelu_erf", "silu", "gelu_quick", "tanh", "none"};
  static const Names kBiases = {"query", "key", "value_down", "value_up", "ffn_in", "down", "unembedding", "norm", "cross_query",
                                "cross_key", "cross_value_down", "cross_value_up", "input", "dense"};
  const auto word = [](auto value, const Names& names) { return names[static_cast<std::size_t>(value)]; };
  Json groups;
  for (int i = 0; i < kSiteCount; ++i) groups[quant::name_of(static_cast<Site>(i))] = c.groups[i];
  return {{"use", word(c.use, {"generate", "encode"})},
          {"input", word(c.input, {"tokens", "vectors", "projected", "convolved"})},
          {"mask", word(c.mask, {"causal", "two_way"})},
          {"cross_attention", c.cross_attention != 0},
          {"norm", word(c.norm, {"rms", "layer"})},
          {"norm_placement", word(c.norm_placement, {"before", "after", "both"})},
          {"sublayers", word(c.sublayers, {"in_turn", "side_by_side", "side_by_side_two_norms"})},
          {"input_norm", c.input_norm != 0},
          {"final_norm", c.final_norm != 0},
          {"position_table", c.position_table != 0},
          {"position", word(c.position, {"none", "rotary", "alibi", "relative"})},
          {"rotary_pairing", word(c.rotary_pairing, {"adjacent", "halves"})},
          {"query_key_norm", word(c.query_key_norm, {"none", "rms", "layer"})},
          {"value_map", word(c.value_map, {"factors", "undivided"})},
          {"gated", c.gated != 0},
          {"activation", word(c.activation, kActivations)},
          {"pooling", word(c.pooling, {"every", "first", "mean", "last"})},
          {"dense", c.dense != 0},
          {"dense_activation", word(c.dense_activation, kActivations)},
          {"dense_norm", c.dense_norm != 0},
          {"output", word(c.output, {"logits", "vectors"})},
          {"tied_unembedding", c.tied_unembedding != 0},
          {"unit_length", c.unit_length != 0},
          {"second_convolution", c.second_convolution != 0},
          {"strides", {c.strides[0], c.strides[1]}},
          {"n_output_heads", c.n_output_heads},
          {"biases", names_of_bits(c.biases, kBiases)},
          {"gains_folded", names_of_bits(c.flags, {"attention", "ffn", "final", "cross"})},
          {"key_offset", (c.flags & kKeyOffset) != 0},
          {"cross_key_offset", (c.flags & kCrossKeyOffset) != 0},
          {"d_model", c.d_model},
          {"d_ff", c.d_ff},
          {"n_layers", c.n_layers},
          {"n_heads", c.n_heads},
          {"n_kv_heads", c.n_kv_heads},
          {"head_dim", c.head_dim},
          {"vocab_size", c.vocab_size},
          {"n_outputs", c.n_outputs},
          {"max_seq", c.max_seq},
          {"window", c.window},
          {"global_every", c.global_every},
          {"global_first", c.global_first},
          {"rotary_dims", c.rotary_dims},
          {"local_rotary", c.local_rotary != 0},
          {"n_distances", c.n_distances},
          {"d_input", c.d_input},
          {"d_source", c.d_source},
          {"n_token_types", c.n_token_types},
          {"n_class_vectors", c.n_class_vectors},
          {"d_dense", c.d_dense},
          {"norm_epsilon", c.norm_epsilon},
          {"attention_scale", c.attention_scale},
          {"cross_scale", c.cross_scale},
          {"embedding_scale", c.embedding_scale},
          {"groups", groups}};
}

// What a stack does not have is not printed: no, none, nothing, 0, and words that say as much.
bool is_absent(const std::string& key, const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value == 0 || ((key == "n_output_heads" || key == "embedding_scale") && value == 1);
  if (value.is_array()) return value.empty() || (key == "strides" && value[0] == 0);
  return value == "none" || value == "in_turn" || (key == "pooling" && value == "every") ||
         (key == "value_map" && value == "factors");
}

void print_stack(const StackConfig& c) {
  const Json stack = stack_json(c);
  for (const auto& item : stack.items()) {
    if (item.key() == "groups" || is_absent(item.key(), item.value())) continue;
    if (item.key() == "rotary_pairing" && c.position != Position::rotary) continue;
    std::printf("  %-22s %s\n", item.key().c_str(),
                item.value().is_string() ? item.value().get<std::string>().c_str() : item.value().dump().c_str());
  }
  for (const auto& item : stack["groups"].items())
    if (item.value() != 0) std::printf("  groups at %-12s %s\n", item.key().c_str(), item.value().dump().c_str());
}

// Calls visit(entry, slot bytes) for each tensor.
template <class Visit>
void for_each_tensor(const Model& model, Visit visit) {
  for (std::uint32_t i = 0; i < model.n_entries(); ++i) {
    const TensorEntry& e = model.entry(i);
    visit(e, std::uint64_t{e.bytes64} * 64);
  }
}

void print_as_json(const LoadedModel& loaded) {
  const Model& model = loaded.model;
  Json json;
  json["image_bytes"] = model.image().size();
  json["version"] = load_at<ImageHeader>(model.image(), 0).version;
  json["header_crc32c"] = hex8(load_at<ImageHeader>(model.image(), 0).header_crc);
  json["parameters"] = quant::parameter_count(model.config());
  json["layout"] = quant::name_of(model.layout());
  for (std::uint32_t i = 0; i < model.config().n_stacks; ++i) json["stacks"].push_back(stack_json(model.config().stacks[i]));
  const Features needed = features_of(model);
  json["features"] = quant::names_of(needed);
  json["heed_features"] = quant::define_for(model.config(), needed);
  for (const SectionEntry& s : sections_of(model))
    json["sections"].push_back({{"kind", name_of(static_cast<SectionKind>(s.kind))},
                                {"offset", s.offset},
                                {"bytes", s.bytes},
                                {"crc32c", hex8(s.crc)}});
  for_each_tensor(model, [&](const TensorEntry& e, std::uint64_t bytes) {
    json["tensors"].push_back({{"role", role_name(e)},
                               {"stack", e.stack},
                               {"layer", e.layer},
                               {"type", type_name(e)},
                               {"rows", e.rows},
                               {"cols", e.cols},
                               {"group", e.group},
                               {"offset", std::uint64_t{e.offset64} * 64},
                               {"bytes", bytes}});
  });
  if (!model.classes().empty()) json["classes"] = Json::array();
  for (const std::string& name : class_names(model)) json["classes"].push_back(name.empty() ? Json(nullptr) : Json(name));
  for (const TokenList& list : generation_lists(model)) json["generation"][list.name] = list.tokens;
  json["metadata"] = Json::object();
  for (const Line& line : metadata_of(model)) json["metadata"][line.key] = line.value;
  json["checks"] = {{"open", "ok"}, {"open_s", loaded.open_s}, {"verify", "ok"}, {"verify_s", loaded.verify_s}};
  print_json(json);
}

// Class names, and tokens with their pieces.
void print_texts(const Model& model, const std::optional<Tokenizer>& tokenizer) {
  const std::vector<std::string> names = class_names(model);
  if (!names.empty()) std::puts("\nclasses");
  for (std::size_t output = 0; output < names.size(); ++output)
    if (!names[output].empty()) std::printf("  %-10zu %s\n", output, names[output].c_str());
  const std::vector<TokenList> lists = generation_lists(model);
  if (!lists.empty()) std::puts("\ngeneration");
  for (const TokenList& list : lists) {
    std::printf("  %-10s", list.name);
    for (const Token token : list.tokens) {
      std::printf(" %d", token);
      if (tokenizer) std::printf(" (%s)", piece_of(*tokenizer, token).c_str());
    }
    std::puts(list.tokens.empty() ? " none" : "");
  }
}

void print_as_text(const LoadedModel& loaded, const std::optional<Tokenizer>& tokenizer) {
  const Model& model = loaded.model;
  const ModelConfig& c = model.config();
  std::printf("%s: %s bytes, format version %u, %s parameters, layout %s\n", loaded.path.c_str(),
              grouped(model.image().size()).c_str(), load_at<ImageHeader>(model.image(), 0).version,
              grouped(quant::parameter_count(c)).c_str(), quant::name_of(model.layout()));
  for (std::uint32_t i = 0; i < c.n_stacks; ++i) {
    std::puts(c.n_stacks == 1 ? "\nstack" : i == 0 ? "\nstack 0, the source" : "\nstack 1, the main one");
    print_stack(c.stacks[i]);
  }

  const Features needed = features_of(model);
  std::puts("\nfeatures that a firmware needs for it");
  std::printf("  %s\n", is_empty(needed) ? "none" : quant::joined(quant::names_of(needed)).c_str());
  std::printf("  a firmware with them: -DHEED_FEATURES=%s\n", quant::define_for(c, needed).c_str());

  std::puts("\nsections                 offset        bytes  crc-32c");
  for (const SectionEntry& s : sections_of(model))
    std::printf("  %-16s %12s %12s  %s\n", name_of(static_cast<SectionKind>(s.kind)), grouped(s.offset).c_str(),
                grouped(s.bytes).c_str(), hex8(s.crc).c_str());

  std::printf("\ntensors%s              layer type     rows x cols     group     bytes\n", c.n_stacks == 1 ? "" : "  stack");
  for_each_tensor(model, [&](const TensorEntry& e, std::uint64_t bytes) {
    if (c.n_stacks != 1) std::printf("  %u    ", e.stack);
    std::printf("  %-22s %4s %-4s %8u x %-8u %5s %9s\n", role_name(e).c_str(),
                is_per_layer(e.role) ? std::to_string(e.layer).c_str() : "", type_name(e), e.rows, e.cols,
                e.group ? std::to_string(e.group).c_str() : "", grouped(bytes).c_str());
  });

  print_texts(model, tokenizer);

  std::puts("\nmetadata");
  for (const Line& line : metadata_of(model)) std::printf("  %-26s %s\n", line.key.c_str(), line.value.c_str());

  std::puts("\nchecks");
  std::printf("  open    ok  %8.3f ms  structure, scales, multipliers\n", 1e3 * loaded.open_s);
  std::printf("  verify  ok  %8.3f ms  checksums, weights\n", 1e3 * loaded.verify_s);
}

void inspect(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  const std::optional<Tokenizer> tokenizer = check_texts(loaded);
  if (options.json)
    print_as_json(loaded);
  else
    print_as_text(loaded, tokenizer);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command = app.add_subcommand("inspect", "Show and check what an image holds");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed)")->required();
  command->add_flag("--json", options->json, "Print everything as JSON");
  command->footer("Example:\n  heed inspect stories.heed");
  command->callback([options] { inspect(*options); });
}

}  // namespace heed::tool
