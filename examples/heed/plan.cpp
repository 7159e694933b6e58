// SPDX-License-Identifier: Apache-2.0
// plan.cpp: `heed plan`, what a model costs before any memory exists: parameters, multiply-adds, flash and RAM.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/counts.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/memory_map.hpp"
#include "examples/heed/model_kind.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/presets.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/targets.hpp"
#include "examples/heed/timing.hpp"
#include "platform/tables.hpp"
#include "quant/feature_names.hpp"
#include "quant/source.hpp"
#include "runtime/sampler.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model, preset, target, features;
  std::uint32_t context = 0, source_context = 0, chunk = 0;
  bool json = false;
};

// Everything that is printed, in either form.
struct Costs {
  std::string subject;  // a path or the name of a preset
  ModelConfig config;
  std::vector<Counts> counts;  // of each stack
  const KernelTraits* traits = nullptr;
  Layout layout = Layout::row;  // that the target reads
  std::uint32_t context = 0;
  std::uint64_t parameters = 0, tensor_bytes = 0, image_bytes = 0;
  bool from_image = false;     // the image's own size, tokenizer and metadata included
  bool relayout = false;       // the image is in another layout than the target reads
  bool matrices_only = false;  // counted as parameters
  Plan plan;
  Features needed = kNoFeatures;
  bool timed = false;  // the target's operations were counted
  StepFormula step;
};

const KernelTraits& traits_of(const std::string& target) {
  const KernelTraits* found = traits::find(target.c_str());
  return found ? *found : best_kernels().traits;
}

void take_preset(Costs& costs, const std::string& name) {
  for (const Preset& p : presets())
    if (name == p.name) {
      costs.config = p.config;
      costs.matrices_only = p.matrices_only;
    }
  costs.subject = name;
  costs.layout = costs.traits->preferred;
  costs.image_bytes = bare_image_bytes(costs.config, costs.layout);
}

void take_image(Costs& costs, const std::string& path) {
  LoadedModel loaded;
  load(loaded, path);
  costs.subject = path;
  costs.config = loaded.model.config();
  costs.from_image = true;
  costs.layout = loaded.model.layout();
  costs.needed = features_of(loaded.model);
  costs.image_bytes = loaded.model.image().size();
  if ((costs.traits->layouts >> static_cast<unsigned>(costs.layout)) & 1u) return;
  costs.relayout = true;
  costs.image_bytes -= tensor_section_bytes(costs.config, costs.layout);
  costs.layout = costs.traits->preferred;
  costs.image_bytes += tensor_section_bytes(costs.config, costs.layout);
}

Costs measure(const Options& options) {
  Costs costs;
  costs.traits = &traits_of(options.target);
  options.preset.empty() ? take_image(costs, options.model) : take_preset(costs, options.preset);
  const ModelConfig& c = costs.config;
  require_context(costs.subject, c, options.context, options.source_context);
  const Limits limits{options.context, options.chunk, options.source_context, 0};
  require(make_plan(costs.plan, c, *costs.traits, limits), costs.subject);
  costs.context = costs.plan.max_seq;
  costs.tensor_bytes = tensor_section_bytes(c, costs.layout);
  costs.needed = costs.needed + required_features(c);
  Features built;
  if (!options.features.empty()) {
    (void)quant::parse_features(built, options.features);  // checked as it was read
    if (const Features missing = costs.needed - built; !is_empty(missing))
      refuse(costs.subject, "the model needs " + quant::joined(quant::names_of(missing)) + ", which --features " +
                                options.features + " leaves out; -DHEED_FEATURES=" + quant::define_for(costs.config, costs.needed) +
                                " has what it needs");
  }
  costs.timed = step_formula(costs.step, options.target, options.features.empty() ? nullptr : &built, c, costs.layout);
  for (std::uint32_t i = 0; i < c.n_stacks; ++i) {
    costs.counts.push_back(count(c.stacks[i]));
    costs.parameters += costs.counts[i].matrix_total() + (costs.matrices_only ? 0 : costs.counts[i].other_total());
  }
  return costs;
}

Json rows_of(const std::vector<ParameterRow>& rows) {
  Json array = Json::array();
  for (const ParameterRow& row : rows)
    array.push_back({{"name", row.name}, {"shape", row.shape}, {"count", row.count}, {"parameters", row.total()}});
  return array;
}

// Positions that a stack keeps.
std::uint32_t context_of(const Costs& costs, std::uint32_t stack) {
  return stack + 1 == costs.config.n_stacks ? costs.plan.max_seq : costs.plan.source.max_seq;
}

// What one stack costs. A decoder's positions are called tokens.
void put_counts(Json& json, const Costs& costs, std::uint32_t stack) {
  const StackConfig& c = costs.config.stacks[stack];
  const Counts& n = costs.counts[stack];
  const std::uint64_t context = context_of(costs, stack);
  const std::string unit = kind_of(costs.config) == ModelKind::decoder ? "token" : "position";
  json["matrices"] = rows_of(n.matrices);
  json["others"] = rows_of(n.others);
  json["matrix_parameters"] = n.matrix_total();
  json["other_parameters"] = n.other_total();
  json["parameters_per_head"] = n.per_head;
  json["macs_per_" + unit] = n.linear_macs;
  if (n.pooled_macs) json["macs_behind_pooling"] = n.pooled_macs;
  json["attention_macs_per_" + unit + "_and_key"] = n.attention_macs_per_key;
  if (n.window_macs_per_key) json["window_macs_per_" + unit + "_and_key"] = n.window_macs_per_key;
  if (c.cross_attention) {
    json["macs_per_source_position"] = n.source_macs;
    json["cross_macs_per_position_and_source_position"] = n.cross_macs_per_key;
  }
  if (c.mask == Mask::causal) {
    const std::uint64_t in_window = c.window ? std::min<std::uint64_t>(context, c.window) : 0;
    json["attention_macs_last_" + unit] = n.attention_macs_per_key * context + n.window_macs_per_key * in_window;
  }
  json["attention_macs_full_context"] = attention_macs(c, n, context);
  json["linear_macs_full_context"] = n.linear_macs * context + n.pooled_macs;
}

void print_as_json(const Costs& costs, const Options& options) {
  Json json;
  json[options.preset.empty() ? "model" : "preset"] = costs.subject;
  json["parameters"] = costs.parameters;
  if (costs.config.n_stacks == 1) {
    put_counts(json, costs, 0);
  } else {
    for (std::uint32_t i = 0; i < costs.config.n_stacks; ++i) {
      Json stack;
      stack["context"] = context_of(costs, i);
      put_counts(stack, costs, i);
      json["stacks"].push_back(std::move(stack));
    }
    json["source_context"] = costs.plan.source.max_seq;
  }
  json["target"] = costs.traits->name;
  json["layout"] = quant::name_of(costs.layout);
  json["context"] = costs.context;
  json["tensor_bytes"] = costs.tensor_bytes;
  json["kv_cache_bytes"] = costs.plan.cache.bytes;
  if (costs.config.n_stacks == 2) json["cross_cache_bytes"] = costs.plan.cross_cache.bytes;
  json["image_bytes"] = costs.image_bytes;
  json["arena_bytes"] = costs.plan.arena_bytes;
  json["arena_align"] = costs.plan.arena_align;
  json["chunk"] = costs.plan.chunk;
  if (costs.config.main().use == Use::generate)
    json["sampler_bytes"] = Sampler::scratch_bytes(costs.config.main().n_outputs);
  const MemoryMap map = memory_map(costs.plan, costs.config);
  const auto put = [&](const NamedSlice& s) {
    json["memory_map"].push_back({{"name", s.name}, {"offset", s.slice.offset}, {"bytes", s.slice.bytes}});
  };
  for (std::size_t i = 0; i < map.stacks.size(); ++i)
    for (const auto* part : {&map.stacks[i].always, &map.stacks[i].attention, &map.stacks[i].ffn})
      for (const NamedSlice& s : *part) {
        put(s);
        if (map.stacks.size() == 2) json["memory_map"].back()["stack"] = i;
      }
  put(map.logits);
  put({"slack", map.slack});
  for (const NamedSlice& s : map.regions) json["regions"].push_back({{"name", s.name}, {"bytes", s.slice.bytes}});
  json["features"] = quant::names_of(costs.needed);
  json["heed_features"] = quant::define_for(costs.config, costs.needed);
  if (costs.timed) {
    const StepFormula& step = costs.step;
    json["instructions"] = {{"core", options.target},
                            {"features", options.features.empty() ? "any" : options.features},
                            {"constant", step.constant},
                            {"per_key", step.per_key},
                            {"per_block", step.per_block},
                            {"ragged", step.ragged},
                            {"data_percent", step.data_percent},
                            {"first_token", step.at(0)},
                            {"last_token", step.at(costs.context - 1)}};
  }
  print_json(json);
}

void print_parameters(const Costs& costs, std::uint32_t stack) {
  const Counts& n = costs.counts[stack];
  std::size_t width = 18;
  for (const auto* rows : {&n.matrices, &n.others})
    for (const ParameterRow& row : *rows) width = std::max(width, row.name.size());
  const auto print_line = [&](const char* name, const std::string& each, const std::string& many, std::uint64_t all) {
    std::printf("  %-*s %15s %8s %19s\n", static_cast<int>(width), name, each.c_str(), many.c_str(),
                grouped(all).c_str());
  };
  std::printf("%-*s %15s %8s %19s\n", static_cast<int>(width) + 2, "parameters", "each", "how many", "in all");
  for (const ParameterRow& row : n.matrices)
    print_line(row.name.c_str(), row.shape, row.count ? grouped(row.count) : "tied", row.total());
  const auto others = [&] {
    for (const ParameterRow& row : n.others) print_line(row.name.c_str(), row.shape, grouped(row.count), row.total());
  };
  if (!costs.matrices_only) others();
  print_line("total", "", "", n.matrix_total() + (costs.matrices_only ? 0 : n.other_total()));
  print_line("one head", "", "", n.per_head);
  if (!costs.matrices_only) return;
  std::puts("and what the familiar count leaves out");
  others();
}

void print_macs(const Costs& costs, std::uint32_t stack) {
  const StackConfig& c = costs.config.stacks[stack];
  const Counts& n = costs.counts[stack];
  const std::uint64_t context = context_of(costs, stack);
  const bool decoder = kind_of(costs.config) == ModelKind::decoder;
  const std::string unit = decoder ? "token" : "position";
  const auto line = [](const char* name, std::uint64_t macs, const std::string& per) {
    std::printf("  %-16s %22s per %s\n", name, grouped(macs).c_str(), per.c_str());
  };
  std::puts("\nmultiply-adds");
  line("linear term", n.linear_macs, unit);
  if (n.pooled_macs) line("behind pooling", n.pooled_macs, "sequence");
  if (n.attention_macs_per_key || !c.window)
    line("n-squared term", n.attention_macs_per_key, unit + " and key that it sees");
  if (n.window_macs_per_key)
    line("windowed layers", n.window_macs_per_key,
         unit + " and key, of at most " + grouped(c.window) + (c.mask == Mask::two_way ? " on each side" : ""));
  if (c.cross_attention) {
    line("of the source", n.source_macs, "source position");
    line("to the source", n.cross_macs_per_key, "position and source position");
  }
  std::printf("  %s of n = %-6s %*s linear + %s n-squared\n", decoder ? "text" : "sequence", grouped(context).c_str(),
              decoder ? 21 : 17, grouped(n.linear_macs * context + n.pooled_macs).c_str(),
              grouped(attention_macs(c, n, context)).c_str());
}

// Keys and values by whose they are and how long they are kept; the region may hold a source's sequence as well.
void print_caches(const Costs& costs) {
  const auto line = [](const char* name, std::uint64_t bytes, const std::string& of) {
    std::printf("    %-16s%22s bytes in it: keys and values of %s\n", name, grouped(bytes).c_str(), of.c_str());
  };
  const Plan& p = costs.plan;
  const bool encodes = costs.config.main().use == Use::encode;
  line("kv_cache", p.cache.bytes,
       std::string(encodes ? "one layer at a time, up to " : "up to ") + counted(p.max_seq, "position"));
  if (costs.config.n_stacks == 2)
    line("cross_cache", p.cross_cache.bytes,
         "the source in all layers, up to " + counted(p.source.max_seq, "position"));
}

// How far back a windowed layer's keys and values reach.
void print_windows(const Costs& costs) {
  const StackConfig& c = costs.config.main();
  if (c.window == 0 || c.use != Use::generate) return;
  std::uint32_t layers = 0, layer = 0;
  for (std::uint32_t i = 0; i < c.n_layers; ++i)
    if (!c.sees_all(i)) layer = i, ++layers;
  if (layers == 0) return;
  const KvShape all = kv_shape(c, costs.plan, costs.traits->alignment, layer);
  std::printf("  %s of %s a window of %s: keys and values of %s bytes each\n", counted(layers, "layer").c_str(),
              layers == 1 ? "the model sees" : (grouped(c.n_layers) + " see").c_str(), grouped(c.window).c_str(),
              grouped(all.layer_bytes()).c_str());
}

std::string rounded(double x) { return grouped(static_cast<std::uint64_t>(x < 0 ? 0 : x + 0.5)); }

void print_instructions(const Costs& costs, const std::string& core, const std::string& features) {
  const StepFormula& step = costs.step;
  const std::uint32_t last = costs.context - 1;
  std::printf(
      "\ninstructions of a step on %s at position p, from 0: at most, in a build with %s (counted under "
      "emulation, not cycles)\n",
      core.c_str(), features.empty() ? "any features" : features.c_str());
  std::printf("  %s + %.1f (p + 1) + %s floor(p / 64)\n", rounded(step.constant).c_str(), step.per_key,
              rounded(step.per_block).c_str());
  std::printf("  and at most      %22s more where p + 1 is no multiple of %d\n",
              rounded(*std::max_element(step.ragged, step.ragged + kRagged)).c_str(), kRagged);
  std::printf("  first token      %22s\n", rounded(step.at(0)).c_str());
  std::printf("  token %-10s %22s\n", grouped(costs.context).c_str(), rounded(step.at(last)).c_str());
  if (step.data_percent > 0)
    std::printf("  what the numbers are moves a count by at most %.2f %%\n", step.data_percent);
}

void print_as_text(const Costs& costs, const Options& options) {
  std::printf("%s\n\n", costs.subject.c_str());
  const bool two = costs.config.n_stacks == 2;
  for (std::uint32_t i = 0; i < costs.config.n_stacks; ++i) {
    if (two) std::printf("%s\n\n", i == 0 ? "The stack that encodes the source" : "\nThe stack that reads it");
    print_parameters(costs, i);
    print_macs(costs, i);
  }
  if (two) std::printf("\nparameters of both      %s\n", grouped(costs.parameters).c_str());
  if (costs.timed) print_instructions(costs, options.target, options.features);
  if (!costs.timed && has_costs(options.target))
    std::printf("\nno number of instructions is promised: what needs %s was not counted\n",
                quant::joined(quant::names_of(uncounted_features(costs.config))).c_str());
  std::printf("\nmemory on %s, context %s%s\n", costs.traits->name, grouped(costs.context).c_str(),
              two ? (", of the source " + grouped(costs.plan.source.max_seq)).c_str() : "");
  std::printf("  flash: image     %22s bytes, layout %s%s\n", grouped(costs.image_bytes).c_str(),
              quant::name_of(costs.layout), costs.from_image ? "" : ", without tokenizer and metadata");
  std::printf("  RAM: arena       %22s bytes, aligned to %u, %u %s taken together\n",
              grouped(costs.plan.arena_bytes).c_str(), costs.plan.arena_align, costs.plan.chunk,
              kind_of(costs.config) == ModelKind::decoder ? "tokens" : "positions");
  const MemoryMap map = memory_map(costs.plan, costs.config);
  for (const NamedSlice& s : map.regions) {
    std::printf("    or %-13s%22s bytes of it in a memory of its own\n", s.name, grouped(s.slice.bytes).c_str());
    if (&s == &map.regions[0]) print_caches(costs);
  }
  print_windows(costs);
  if (costs.config.main().use == Use::generate)
    std::printf("  RAM: sampler     %22s bytes, with a temperature only\n",
                grouped(Sampler::scratch_bytes(costs.config.main().n_outputs)).c_str());
  if (costs.relayout)
    std::printf("  after `heed quantize %s --target %s -o NEW.heed`: the image is in another layout now\n",
                shell_word(one_line(costs.subject)).c_str(), costs.traits->name);
  std::printf("  features: needs %s; a firmware with them: -DHEED_FEATURES=%s\n",
              is_empty(costs.needed) ? "none" : quant::joined(quant::names_of(costs.needed)).c_str(),
              quant::define_for(costs.config, costs.needed).c_str());
  std::printf("\n%s", draw(map).c_str());
}

void plan(const Options& options) {
  const Costs costs = measure(options);
  if (options.json)
    print_as_json(costs, options);
  else
    print_as_text(costs, options);
}

}  // namespace

void add_plan(CLI::App& app) {
  auto* command = app.add_subcommand("plan", "Count parameters, multiply-adds, flash and RAM");
  auto options = std::make_shared<Options>();
  const std::vector<std::string> targets = target_names();
  std::vector<std::string> names;
  for (const Preset& p : presets()) names.push_back(p.name);
  auto* which = command->add_option_group("model", "One of");
  which->add_option("MODEL", options->model, "An image (.heed)");
  which->add_option("--preset", options->preset, "A well-known model")->check(CLI::IsMember(names));
  which->require_option(1);
  command->add_option("--target", options->target, "The CPU to plan for (default: this one's best table)")
      ->check(CLI::IsMember(targets));
  command->add_option("--context", options->context, "Positions to keep (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  command->add_option("--source-context", options->source_context, "The same of the source (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  command
      ->add_option("--chunk", options->chunk,
                   "Positions taken together; never changes the result (default: the target's)")
      ->type_name("N")
      ->transform(whole_number(1, 4096u));
  command
      ->add_option("--features", options->features,
                   "Bound the instructions of this build alone, as it stands behind -DHEED_FEATURES= (default: of any)")
      ->type_name("SET")
      ->check(CLI::Validator(
          [](const std::string& text) {
            Features set;
            return quant::parse_features(set, text)
                       ? std::string()
                       : "no features are called " + text + "; e.g. kLlamaFeatures+Feature::groups";
          },
          ""));
  command->add_flag("--json", options->json, "Print everything as JSON");
  command->footer(
      "Example:\n  heed plan stories.heed --target cortex-m4 --context 256 --features kLlamaFeatures\n  heed plan "
      "latin.heed --source-context 32\n  heed plan --preset gpt-3");
  command->callback([options] { plan(*options); });
}

}  // namespace heed::tool
