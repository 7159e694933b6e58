// SPDX-License-Identifier: Apache-2.0
// quantize_layer.cpp: `heed quantize-layer`, from the weights of a network of one's own to a header in C++ or C.
#include <cstdio>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/targets.hpp"
#include "quant/file.hpp"
#include "quant/layer_header.hpp"
#include "quant/source.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string source, output, layout, target, name, licence, group = "row";
  double rope_theta = 0.0;
  std::uint32_t rotary_dims = 0;
  bool c = false, json = false;
};

Layout choose_layout(const Options& options) {
  if (const KernelTraits* target = traits::find(options.target.c_str())) return target->preferred;
  for (int i = 0; i < kLayoutCount; ++i)
    if (options.layout == quant::name_of(static_cast<Layout>(i))) return static_cast<Layout>(i);
  return quant::LayerHeaderOptions{}.layout;
}

std::string choose_name(const Options& options) {
  const std::string name = options.name.empty() ? quant::identifier_of(quant::file_stem(options.output)) : options.name;
  if (!quant::is_identifier(name)) refuse("", "\"" + name + "\" cannot name a namespace, or begin names in C; --name says another");
  if (options.c && (name.compare(0, 5, "heed_") == 0 || name.compare(0, 4, "HEED") == 0))
    refuse("", "\"" + name + "\" begins names of heed.h; --name says another");
  return name;
}

Json to_json(const quant::LayerReport& report, const Options& options, const quant::LayerHeaderOptions& layer) {
  Json json;
  json["output"] = options.output;
  json["language"] = options.c ? "c" : "c++";
  json[options.c ? "prefix" : "namespace"] = options.c ? layer.name + "_" : layer.name;
  json["layout"] = quant::name_of(layer.layout);
  json["group"] = options.group;
  json["bytes"] = report.bytes;
  json["matrices"] = Json::array();
  for (const quant::LayerMatrixReport& m : report.matrices)
    json["matrices"].push_back({{"tensor", m.tensor},
                                {"name", m.identifier},
                                {"rows", m.rows},
                                {"cols", m.cols},
                                {"bias", m.bias},
                                {"bytes", m.bytes},
                                {"error", m.error}});
  json["vectors"] = Json::array();
  for (const quant::LayerVectorReport& v : report.vectors)
    json["vectors"].push_back({{"tensor", v.tensor}, {"name", v.identifier}, {"size", v.n}});
  json["rotary_phases"] = layer.rotary_dims / 2;
  return json;
}

void print(const quant::LayerReport& report, const Options& options, const quant::LayerHeaderOptions& layer) {
  if (options.json) return print_json(to_json(report, options, layer));
  std::printf("%s -> %s: %s %s, layout %s, %s bytes of constants\n", one_line(options.source).c_str(),
              one_line(options.output).c_str(), options.c ? "names" : "namespace", (layer.name + (options.c ? "_..." : "")).c_str(), quant::name_of(layer.layout),
              grouped(report.bytes).c_str());
  for (const quant::LayerMatrixReport& m : report.matrices) {
    const std::string shape = "[" + std::to_string(m.rows) + ", " + std::to_string(m.cols) + "]";
    std::printf("  %-24s %-12s %s error %.3f %%\n", m.identifier.c_str(), shape.c_str(), m.bias ? "bias" : "    ",
                100.0 * m.error);
  }
  for (const quant::LayerVectorReport& v : report.vectors) std::printf("  %-24s [%u] floats\n", v.identifier.c_str(), v.n);
  if (layer.rotary_dims) std::printf("  %-24s [%u] phases\n", "rotary_phases", layer.rotary_dims / 2);
}

void quantize_layer(const Options& options) {
  quant::LayerHeaderOptions layer;
  layer.language = options.c ? quant::HeaderLanguage::c : quant::HeaderLanguage::cpp;
  layer.layout = choose_layout(options);
  layer.group = options.group == "row" ? 0u : static_cast<std::uint32_t>(std::stoul(options.group));
  layer.name = choose_name(options);
  layer.source = quant::file_name(options.source);
  layer.licence = options.licence;
  layer.rope_theta = options.rope_theta;
  layer.rotary_dims = options.rotary_dims;
  if ((options.rope_theta != 0.0) != (options.rotary_dims != 0) || options.rotary_dims % 2 != 0)
    refuse("", "rotary phases take --rope-theta and an even --rotary-dims together");
  if (const quant::Error error = quant::check_writable(options.output)) refuse("", error.sentence());
  if (quant::is_same_file(options.output, options.source))
    refuse(options.output, "cannot be written: it is " + options.source + ", which is read");

  quant::SourceFile file;
  if (const quant::Error error = file.open(options.source)) refuse("", error.sentence());
  quant::SafeTensors tensors;
  if (const quant::Error error = tensors.open(file.bytes())) refuse(options.source, error.sentence());
  std::string text;
  quant::LayerReport report;
  if (const quant::Error error = quant::make_layer_header(text, report, tensors, layer))
    refuse(options.source, error.sentence());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  if (const quant::Error error = quant::write_file(options.output, {bytes, text.size()})) refuse("", error.sentence());
  print(report, options, layer);
}

}  // namespace

void add_quantize_layer(CLI::App& app) {
  auto* command = app.add_subcommand("quantize-layer", "Convert the weights of layers to a header in C++ or C");
  auto options = std::make_shared<Options>();
  std::vector<std::string> layouts;
  for (int i = 0; i < kLayoutCount; ++i) layouts.push_back(quant::name_of(static_cast<Layout>(i)));
  command
      ->add_option("WEIGHTS", options->source,
                   "A safetensors file in F32, F16 or BF16: a matrix becomes a heed::Tensor, with X.bias beside X.weight as its bias; other "
                   "vectors become floats")
      ->required();
  command->add_option("-o,--output", options->output, "The header to write")->type_name("LAYER.h")->required();
  auto* layout = command->add_option("--layout", options->layout, "Order of the weights (default: packed)")
                     ->check(CLI::IsMember(layouts));
  command->add_option("--target", options->target, "The CPU to lay the weights out for")
      ->check(CLI::IsMember(target_names()))
      ->excludes(layout);
  command->add_flag("--c", options->c, "Write C99 for runtime/heed.h: heed_tensor in the place of heed::Tensor");
  command->add_option("--name", options->name, "Namespace of the constants, in C in front of their names (default: LAYER)")->type_name("NAME");
  command->add_option("--group", options->group, "Columns of a row that share a multiplier beside the row's scale, which costs a byte each and lessens the error; "
                   "row: none. Layers are then configured with the same group")
      ->capture_default_str()
      ->check(CLI::IsMember({"row", "32", "64", "128", "256"}));
  add_rope_theta_option(*command, options->rope_theta)
      ->description("Adds the phases of rotary positions with this theta; takes --rotary-dims as well");
  command->add_option("--rotary-dims", options->rotary_dims, "Dimensions of a head that turn, even")
      ->type_name("N")
      ->transform(whole_number(2, kMaxHeadDim));
  command->add_option("--licence,--license", options->licence, "SPDX expression for the first line")->type_name("TEXT");
  command->add_flag("--json", options->json, "Print sizes and errors as JSON");
  command->footer(
      "Example:\n  heed quantize-layer spotter.safetensors -o spotter.h --target cortex-m4\n"
      "  heed quantize-layer spotter.safetensors -o spotter.h --c --group 32\n"
      "  heed quantize-layer attention.safetensors -o attention.h --rope-theta 10000 --rotary-dims 32");
  command->callback([options] { quantize_layer(*options); });
}

}  // namespace heed::tool
