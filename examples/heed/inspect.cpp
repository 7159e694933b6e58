// SPDX-License-Identifier: Apache-2.0
// inspect.cpp: `heed inspect`, what an image holds.
#include <cstdio>
#include <cstring>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/output.hpp"
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
  return "unknown";
}

const char* name_of(ElementType type) {
  static constexpr const char* kNames[] = {"s8", "f32", "u32", "s16", "s4", "s32"};
  return kNames[static_cast<int>(type)];  // open() has checked it
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

struct Line {
  std::string key, value;
};

// An image comes from anywhere: no control character of its metadata reaches the terminal.
std::vector<Line> metadata_of(const Model& model) {
  std::vector<Line> lines;
  std::string text(reinterpret_cast<const char*>(model.metadata().data()), model.metadata().size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    for (char& c : line)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    lines.push_back({line.substr(0, equals), line.substr(equals + 1)});
  }
  return lines;
}

Json config_json(const StackConfig& c) {
  static constexpr const char* kActivations[] = {"relu", "gelu_tanh", "gelu_erf", "silu", "gelu_quick"};
  static constexpr const char* kPositions[] = {"none", "rotary", "alibi", "relative"};
  Json groups;
  for (int i = 0; i < kSiteCount; ++i) groups[quant::name_of(static_cast<Site>(i))] = c.groups[i];
  return {{"d_model", c.d_model},
          {"d_ff", c.d_ff},
          {"n_layers", c.n_layers},
          {"n_heads", c.n_heads},
          {"n_kv_heads", c.n_kv_heads},
          {"head_dim", c.head_dim},
          {"vocab_size", c.vocab_size},
          {"max_seq", c.max_seq},
          {"norm", c.norm == Norm::layer ? "layer" : "rms"},
          {"activation", kActivations[static_cast<int>(c.activation)]},
          {"gated", c.gated != 0},
          {"biases", c.biases},
          {"position_table", c.position_table != 0},
          {"position", kPositions[static_cast<int>(c.position)]},
          {"rotary_dims", c.rotary_dims},
          {"rotary_pairing", c.rotary_pairing == RotaryPairing::halves ? "halves" : "adjacent"},
          {"norm_epsilon", c.norm_epsilon},
          {"attention_scale", c.attention_scale},
          {"tied_unembedding", c.tied_unembedding != 0},
          {"attention_gain_folded", (c.flags & kAttentionGainFolded) != 0},
          {"ffn_gain_folded", (c.flags & kFfnGainFolded) != 0},
          {"final_gain_folded", (c.flags & kFinalGainFolded) != 0},
          {"key_offset", (c.flags & kKeyOffset) != 0},
          {"groups", groups}};
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
  json["parameters"] = quant::parameter_count(model.config().main());
  json["layout"] = quant::name_of(model.layout());
  json["config"] = config_json(model.config().main());
  const Features needed = required_features(model.config());
  json["features"] = quant::names_of(needed);
  json["heed_features"] = quant::define_for(needed);
  for (const SectionEntry& s : sections_of(model))
    json["sections"].push_back({{"kind", name_of(static_cast<SectionKind>(s.kind))},
                                {"offset", s.offset},
                                {"bytes", s.bytes},
                                {"crc32c", hex8(s.crc)}});
  for_each_tensor(model, [&](const TensorEntry& e, std::uint64_t bytes) {
    json["tensors"].push_back({{"role", quant::name_of(e.role)},
                               {"layer", e.layer},
                               {"type", name_of(e.type)},
                               {"rows", e.rows},
                               {"cols", e.cols},
                               {"group", e.group},
                               {"offset", std::uint64_t{e.offset64} * 64},
                               {"bytes", bytes}});
  });
  json["metadata"] = Json::object();
  for (const Line& line : metadata_of(model)) json["metadata"][line.key] = line.value;
  json["checks"] = {{"open", "ok"}, {"open_s", loaded.open_s}, {"verify", "ok"}, {"verify_s", loaded.verify_s}};
  print_json(json);
}

void print_as_text(const LoadedModel& loaded) {
  const Model& model = loaded.model;
  const StackConfig& c = model.config().main();
  std::printf("%s: %s bytes, format version %u, %s parameters, layout %s\n", loaded.path.c_str(),
              grouped(model.image().size()).c_str(), load_at<ImageHeader>(model.image(), 0).version,
              grouped(quant::parameter_count(c)).c_str(), quant::name_of(model.layout()));
  std::puts("\nconfiguration");
  const Json config = config_json(c);
  for (const auto& item : config.items()) std::printf("  %-22s %s\n", item.key().c_str(), item.value().dump().c_str());

  const Features needed = required_features(c);
  std::puts("\nfeatures that a firmware needs for it");
  std::printf("  %s\n", is_empty(needed) ? "none" : quant::joined(quant::names_of(needed)).c_str());
  std::printf("  a firmware with them: -DHEED_FEATURES=%s\n", quant::define_for(needed).c_str());

  std::puts("\nsections           offset        bytes  crc-32c");
  for (const SectionEntry& s : sections_of(model))
    std::printf("  %-10s %12s %12s  %s\n", name_of(static_cast<SectionKind>(s.kind)), grouped(s.offset).c_str(),
                grouped(s.bytes).c_str(), hex8(s.crc).c_str());

  std::puts("\ntensors          layer type     rows x cols    group     bytes");
  for_each_tensor(model, [&](const TensorEntry& e, std::uint64_t bytes) {
    const bool global = !is_per_layer(e.role);
    std::printf("  %-15s %4s %-4s %8u x %-8u %5s %9s\n", quant::name_of(e.role),
                global ? "" : std::to_string(e.layer).c_str(), name_of(e.type), e.rows, e.cols,
                e.group ? std::to_string(e.group).c_str() : "", grouped(bytes).c_str());
  });

  std::puts("\nmetadata");
  for (const Line& line : metadata_of(model)) std::printf("  %-26s %s\n", line.key.c_str(), line.value.c_str());

  std::puts("\nchecks");
  std::printf("  open    ok  %8.3f ms  structure, scales, multipliers\n", 1e3 * loaded.open_s);
  std::printf("  verify  ok  %8.3f ms  checksums, weights\n", 1e3 * loaded.verify_s);
}

void inspect(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  if (!loaded.model.tokenizer().empty()) (void)tokenizer_of(loaded);  // refuses tables that contradict themselves
  if (options.json)
    print_as_json(loaded);
  else
    print_as_text(loaded);
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
