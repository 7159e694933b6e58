// SPDX-License-Identifier: Apache-2.0
// quantize.cpp: `heed quantize`, from the files that people have to an image.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/fidelity.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/targets.hpp"
#include "platform/linux/cpu_count.hpp"
#include "platform/linux/thread_pool.hpp"
#include "platform/select.hpp"
#include "platform/tables.hpp"
#include "quant/convert.hpp"
#include "quant/readers/tokenizer_folder.hpp"
#include "quant/recognise.hpp"

namespace heed::tool {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string source, output, description, tokenizer, source_tokenizer, calibration, group = "auto", value_map = "auto",
      layout, target, name, licence;
  std::uint32_t context = 0, source_context = 0;
  double rope_theta = 0.0, group_limit = 100.0 * quant::kRowErrorLimit;
  bool json = false, no_measure = false;
};

bool is_image(const std::string& path) {
  quant::SourceFile file;
  return !file.open(path) && quant::is_image(file.bytes());
}

// A folder or a file that has a vocabulary itself; else tokenizer.bin, or the only tok*.bin, in a source's folder, or the folder of
// a checkpoint; empty if there is none.
std::string tokenizer_beside(const std::string& source) {
  if (quant::has_tokenizer(source)) return source;
  std::error_code error;
  const fs::path folder = fs::is_directory(source, error) ? fs::path(source) : fs::path(source).parent_path();
  if (fs::is_regular_file(folder / "tokenizer.bin", error)) return (folder / "tokenizer.bin").string();
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder.empty() ? fs::path(".") : folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("tok", 0) == 0 && entry.path().extension() == ".bin" && entry.path() != fs::path(source))
      found.push_back((folder / name).string());
  }
  return found.size() == 1 ? found[0] : "";
}

std::string choose_tokenizer(const Options& options) {
  if (is_image(options.source)) return options.tokenizer == "none" ? "" : options.tokenizer;
  if (!options.tokenizer.empty()) return options.tokenizer;
  if (!options.description.empty()) return "";  // the description's own
  return tokenizer_beside(options.source);
}

void note_tokenizer(const Options& options, const std::string& chosen, bool requantised) {
  if (!options.tokenizer.empty() || !options.description.empty() || !requantised) return;
  if (chosen.empty())
    std::fputs("heed: note: no tokenizer beside the checkpoint, so the image has none; --tokenizer F adds one\n", stderr);
  else
    std::fprintf(stderr, "heed: note: tokenizer %s\n", one_line(chosen).c_str());
}

// What the command line says; empty = an image's own.
std::optional<Layout> choose_layout(const Options& options) {
  if (const KernelTraits* target = traits::find(options.target.c_str())) return target->preferred;
  for (int i = 0; i < kLayoutCount; ++i)
    if (options.layout == quant::name_of(static_cast<Layout>(i))) return static_cast<Layout>(i);
  return std::nullopt;
}

std::optional<std::uint32_t> choose_group(const std::string& group) {
  if (group == "auto") return std::nullopt;
  return group == "row" ? 0u : static_cast<std::uint32_t>(std::stoul(group));
}

quant::ValueMapChoice choose_value_map(const std::string& name) {
  return name == "factors"     ? quant::ValueMapChoice::factors
         : name == "undivided" ? quant::ValueMapChoice::undivided
                               : quant::ValueMapChoice::cheaper;
}

std::string group_name(std::uint32_t group) { return group ? std::to_string(group) : "row"; }

Json to_json(const quant::ConvertReport& report, const Options& options) {
  Json json;
  json["output"] = options.output;
  json["format"] = report.format;
  json["source_bytes"] = report.source_bytes;
  json["image_bytes"] = report.image_bytes;
  json["parameters"] = report.parameters;
  if (report.requantised && report.config.main().position == Position::rotary) json["rope_theta"] = report.rope_theta;
  json["layout"] = quant::name_of(report.layout);
  json["requantised"] = report.requantised;
  if (!report.requantised) return json;
  json["value_maps"] = report.value_maps;
  json["measured"] = report.quantize.measured;
  put_fidelity(json, report.quantize, report.config);
  json["matrix_error"] = report.quantize.matrix_error;
  for (std::uint32_t stack = 0; stack < report.config.n_stacks; ++stack) {
    for (int i = 0; i < kSiteCount; ++i) {
      const quant::SiteReport& site = report.quantize.sites[stack][i];
      if (!site.used) continue;
      Json entry = {{"stack", stack}, {"site", quant::name_of(static_cast<Site>(i))}, {"group", group_name(site.group)}};
      if (report.quantize.measured) {
        entry["output_error"] = site.error;
        entry["output_error_with_rows"] = site.row_error;
      }
      json["sites"].push_back(std::move(entry));
    }
  }
  for (const quant::TensorReport& t : report.quantize.tensors)
    json["tensors"].push_back({{"role", quant::name_of(t.role)},
                               {"stack", t.stack},
                               {"layer", t.layer},
                               {"bytes", t.bytes},
                               {"error", t.error}});
  return json;
}

void print_sites(const quant::SiteReport* sites) {
  for (int i = 0; i < kSiteCount; ++i)
    if (sites[i].used)
      std::printf("  %-17s %6.3f %%  groups: %s\n", quant::name_of(static_cast<Site>(i)), 100.0 * sites[i].error,
                  group_name(sites[i].group).c_str());
}

void print(const quant::ConvertReport& report, const Options& options) {
  if (options.json) {
    print_json(to_json(report, options));
    return;
  }
  std::printf("%s (%s, %s bytes) -> %s\n", options.source.c_str(), report.format.c_str(),
              grouped(report.source_bytes).c_str(), options.output.c_str());
  std::printf("parameters   %s\n", grouped(report.parameters).c_str());
  if (report.rope_theta != quant::kUsualTheta) std::printf("rope theta   %.9g\n", report.rope_theta);
  std::printf("image        %s bytes, layout %s\n", grouped(report.image_bytes).c_str(), quant::name_of(report.layout));
  if (!report.requantised) {
    std::puts("weights      the same numbers");
    return;
  }
  const bool two = report.config.n_stacks == 2;
  for (std::uint32_t stack = 0; stack < report.config.n_stacks; ++stack)
    std::printf("value maps   %s%s\n", !two ? "" : stack == 0 ? "source: " : "main: ", report.value_maps[stack].c_str());
  std::printf("weight error %.3f %% of their rms\n", 100.0 * report.quantize.matrix_error);
  if (!report.quantize.measured) return;
  const bool given = report.quantize.calibration_given;
  const bool wrote = report.config.main().use == Use::generate && (two || !given);
  std::printf("output error of what is multiplied, int8 on both sides, over %u positions%s%s:\n",
              report.quantize.calibration_positions, wrote ? " that the model wrote" : "",
              given ? " for given inputs" : wrote && !two ? "" : " for random inputs");
  for (std::uint32_t stack = 0; stack < report.config.n_stacks; ++stack) {
    if (two) std::puts(stack == 0 ? "source" : "main");
    print_sites(report.quantize.sites[stack]);
  }
  print_fidelity(report.quantize, report.config);
}

void quantize(const Options& options) {
  if (const quant::Error error = quant::check_writable(options.output)) refuse("", error.sentence());
  quant::ConvertOptions convert;
  convert.layout = choose_layout(options);
  convert.quantize.group = choose_group(options.group);
  convert.quantize.row_error_limit = options.group_limit / 100.0;
  convert.quantize.measure = !options.no_measure;
  convert.context = options.context;
  convert.source_context = options.source_context;
  convert.name = options.name;
  convert.licence = options.licence;
  convert.read.rope_theta = options.rope_theta;
  convert.read.description = options.description;
  if (options.source_tokenizer != "none" || !is_image(options.source)) convert.source_tokenizer = options.source_tokenizer;
  convert.calibration = options.calibration;
  convert.value_map = choose_value_map(options.value_map);
  const std::string tokenizer = choose_tokenizer(options);
  if (const quant::Error error = quant::check_output(options.output, options.source, tokenizer, convert))
    refuse("", error.sentence());
  ThreadPool pool;
  pool.start(std::min(available_cpus(), ThreadPool::kMaxThreads));
  convert.parallel = pool.parallel();
  quant::ConvertReport report;
  {
    constexpr double kSteps = 1000.0;
    Progress progress("quantize", static_cast<std::uint64_t>(kSteps));
    convert.quantize.progress = [&](double share) { progress.show(static_cast<std::uint64_t>(share * kSteps)); };
    if (const quant::Error error =
            quant::convert_file(options.output, report, options.source, tokenizer, convert, best_kernels()))
      refuse("", error.sentence());
  }
  note_tokenizer(options, tokenizer, report.requantised);
  print(report, options);
  warn_if_far(report.quantize.fidelity);
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto* command = app.add_subcommand("quantize", "Convert a model to an image");
  auto options = std::make_shared<Options>();
  const std::vector<std::string> targets = target_names();
  std::vector<std::string> layouts;
  for (int i = 0; i < kLayoutCount; ++i) layouts.push_back(quant::name_of(static_cast<Layout>(i)));
  command
      ->add_option("CHECKPOINT", options->source,
                   "A GGUF file (of a split one the first part), a llama2.c checkpoint (.bin, version 0 or 1, float32), a Hugging Face "
                   "folder (config.json and model.safetensors in F32, F16 or BF16), a safetensors file in them with --description, "
                   "or an image (.heed) for another layout")
      ->required();
  command->add_option("-o,--output", options->output, "The image to write")->type_name("MODEL.heed")->required();
  command
      ->add_option("--description", options->description,
                   "What the tensors of a safetensors file are (SPEC.md, part 7): any model of one or two stacks")
      ->type_name("MODEL.json");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "A folder or file of Hugging Face's (tokenizer.json, tokenizer.model, vocab.txt, or vocab.json with "
                   "merges.txt), a GGUF file, or llama2.c's tokenizer file; `bytes`: a token per byte; `chars:ABC`: a token per character, in "
                   "this order; `chars-file:PATH`: one character per line, \\n for a newline, or <bos>, <eos>, "
                   "<bos/eos>, <unused>; `none` for none (default: the one beside CHECKPOINT)")
      ->type_name("F");
  command
      ->add_option("--source-tokenizer", options->source_tokenizer,
                   "The same of the source of an encoder-decoder, where its tokens are others (default: the description's)")
      ->type_name("F");
  auto* calibration =
      command
      ->add_option("--calibration", options->calibration,
                   "What to measure on: a text, which a model of tokens reads, or a safetensors file with inputs of the first "
                   "stack (SPEC.md 7.5; default: texts that the model writes, random inputs). One half decides, the other is reported")
      ->type_name("F");
  command
      ->add_option("--value-map", options->value_map, "Form of the value maps; auto takes the cheaper one")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "factors", "undivided"}));
  auto* no_measure = command->add_flag(
      "--no-measure", options->no_measure,
      "Quantise without running the model: fast and in little memory, with one scale per row or --group's, every gain folded that "
      "may be, and no key offsets");
  no_measure->excludes(calibration);
  command->add_option("--group", options->group, "Columns that share a multiplier; auto measures what each site needs")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "row", "32", "64", "128", "256"}));
  command
      ->add_option("--group-limit", options->group_limit,
                   "Per cent that a site may be off with one scale per row before auto looks at groups")
      ->type_name("P")
      ->capture_default_str()
      ->check(number(0.0, 100.0, "0 to 100"));
  auto* layout =
      command->add_option("--layout", options->layout, "Order of the weights (default: an image's own, else packed)")
          ->check(CLI::IsMember(layouts));
  command->add_option("--target", options->target, "The CPU to lay the weights out for")
      ->check(CLI::IsMember(targets))
      ->excludes(layout);
  command->add_option("--context", options->context, "Positions to keep, at most the model's (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  command
      ->add_option("--source-context", options->source_context,
                   "The same of the source, which the first of two stacks reads (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  add_rope_theta_option(*command, options->rope_theta);
  command->add_option("--name", options->name, "Name in the metadata (default: CHECKPOINT's)")->type_name("TEXT");
  command->add_option("--licence,--license", options->licence, "SPDX expression for the metadata")->type_name("TEXT");
  command->add_flag("--json", options->json, "Print sizes and errors as JSON");
  command->footer(
      "Example:\n  heed quantize stories260K.bin -o stories.heed --tokenizer tok512.bin\n"
      "  heed quantize tinyllama-q8_0.gguf -o tinyllama.heed\n"
      "  heed quantize letters.bin -o letters.heed --tokenizer chars:ABC\n"
      "  heed quantize weights.safetensors --description model.json -o encoder.heed\n"
      "  heed quantize gpt2-folder -o gpt2.heed --tokenizer none\n"
      "  heed quantize stories.heed -o stories_m4.heed --target cortex-m4");
  command->callback([options] { quantize(*options); });
}

}  // namespace heed::tool
