// SPDX-License-Identifier: Apache-2.0
// convert.cpp: picks the reader, runs the quantiser, signs the image, and checks it as any user of it will.
#include "quant/convert.hpp"

#include <charconv>
#include <cstring>
#include <filesystem>

#include "quant/calibration_inputs.hpp"
#include "quant/image_v1.hpp"
#include "quant/readers/characters.hpp"
#include "quant/readers/description.hpp"
#include "quant/readers/huggingface.hpp"
#include "quant/readers/llama2c.hpp"
#include "quant/recognise.hpp"
#include "quant/tokenizers.hpp"
#include "quant/readers/tokenizer_folder.hpp"
#include "quant/value_map.hpp"

namespace heed::quant {
namespace {

constexpr char kReadable[] =
    "llama2.c checkpoints of versions 0 and 1, Hugging Face folders of the GPT-2 family, safetensors with a description";

Error open_verified(Model& model, Span<const std::uint8_t> image, const Kernels& kernels) {
  Status status = open(model, image, kernels);
  if (status == Status::ok) status = verify(model, kernels);
  return status == Status::ok ? Error() : Error(to_string(status));
}

std::string hex(std::uint32_t value) {
  std::string text(8, '0');
  for (int i = 0; i < 8; ++i) text[static_cast<std::size_t>(i)] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15u];
  return text;
}

// Unlike printf, the same under every locale.
std::string number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific, 2).ptr;
  return std::string(text, end);
}

std::string plain_number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed).ptr;
  return std::string(text, end);
}

// `what`: "context" or "source context", for messages.
Error set_context(StackConfig& config, std::uint32_t context, const std::string& what) {
  if (context > config.max_seq)
    return Error("a " + what + " of " + std::to_string(context) + " is more than the model's " +
                 std::to_string(config.max_seq));
  if (context && context <= config.n_class_vectors)
    return Error("a " + what + " of " + std::to_string(context) + " leaves no position beside the class vectors");
  if (context) config.max_seq = context;
  return {};
}

// Refuses more positions than the model has of either stack.
Error set_contexts(ModelConfig& config, const ConvertOptions& options) {
  if (config.n_stacks == 2) {
    if (Error error = set_context(config.stacks[0], options.source_context, "source context")) return error;
  } else if (options.source_context) {
    return Error("the model has one stack, so no source context");
  }
  return set_context(config.main(), options.context, "context");
}

// Section 8 of an image (SPEC.md 1.6); empty where BOS and EOS say it all.
std::vector<std::uint8_t> generation_section(const Generation& generation) {
  std::vector<std::uint8_t> bytes;
  if (generation.empty()) return bytes;
  const auto put = [&](std::size_t value) {
    for (int i = 0; i < 32; i += 8) bytes.push_back(static_cast<std::uint8_t>(value >> i));
  };
  const std::vector<std::uint32_t>* lists[] = {&generation.first, &generation.suppressed, &generation.endings};
  for (const auto* list : lists) put(list->size());
  for (const auto* list : lists)
    for (const std::uint32_t token : *list) put(token);
  return bytes;
}

// A line for each, its end included.
std::string lines(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += text + "\n";
  return all;
}

void describe_stack(Metadata& m, const std::string& prefix, const StackConfig& c, const SiteReport* sites,
                    const std::string& calibrated_on) {
  std::string groups;
  for (int i = 0; i < kSiteCount; ++i) {
    if (!sites[i].used) continue;
    groups += (groups.empty() ? "" : " ") + std::string(name_of(static_cast<Site>(i))) + ":" +
              (sites[i].group ? std::to_string(sites[i].group) : "row");
  }
  m.emplace_back(prefix + "quantisation", "int8 " + groups);
  std::string folded;
  if (c.flags & kAttentionGainFolded) folded += " attention_gain";
  if (c.flags & kCrossGainFolded) folded += " cross_gain";
  if (c.flags & kFfnGainFolded) folded += " ffn_gain";
  if (c.flags & kFinalGainFolded) folded += " final_gain";
  m.emplace_back(prefix + "folded", folded.empty() ? "none" : folded.substr(1));
  m.emplace_back(prefix + "key_offset", c.flags & (kKeyOffset | kCrossKeyOffset) ? "mean of " + calibrated_on : "none");
}

Metadata describe_model(const FloatModel& model, const QuantizeReport& report, const QuantizedModel& quantized,
                        const std::string& source, const ConvertOptions& options, const Kernels& kernels) {
  Metadata m;
  m.emplace_back("name", !options.name.empty() ? options.name : !model.name.empty() ? model.name : file_stem(source));
  const std::string& licence = options.licence.empty() ? model.licence : options.licence;
  if (!licence.empty()) m.emplace_back("licence", licence);
  m.emplace_back("source", model.format);
  m.emplace_back("source_file", file_name(source));
  m.emplace_back("source_crc32c", hex(kernels.crc32c(0, model.file.bytes().data(), model.file.bytes().size())));
  m.emplace_back("parameters", std::to_string(parameter_count(model.config)));
  if (model.bos != kNoSourceToken) m.emplace_back("bos", std::to_string(model.bos));
  if (model.eos != kNoSourceToken) m.emplace_back("eos", std::to_string(model.eos));
  if (model.rope_theta != kUsualTheta) m.emplace_back("rope_theta", plain_number(model.rope_theta));
  const bool two = model.config.n_stacks == 2, generates = model.config.main().use == Use::generate;
  const std::string inputs = report.calibration_given ? "given inputs" : "random inputs";
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack) {
    const bool is_main = stack + 1 == model.config.n_stacks;
    const std::uint32_t n = is_main ? report.calibration_positions : report.calibration_source_positions;
    const std::string positions = std::to_string(n) + " positions ";
    describe_stack(m, two && !is_main ? "source_" : "", quantized.config.stacks[stack], report.sites[stack],
                   !is_main            ? positions + "of " + inputs
                   : generates && !two ? positions + "that the float model wrote"
                   : generates         ? positions + "that the float model wrote to " + inputs
                                       : positions + "of " + inputs);
  }
  m.emplace_back("weight_error", number(report.matrix_error));
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack) {
    const std::string prefix = two && stack == 0 ? "source_output_error_" : "output_error_";
    for (int i = 0; i < kSiteCount; ++i)
      if (report.sites[stack][i].used)
        m.emplace_back(prefix + name_of(static_cast<Site>(i)), number(report.sites[stack][i].error));
  }
  return m;
}

Metadata parse_metadata(Span<const std::uint8_t> section) {
  Metadata m;
  std::string line;
  for (std::size_t i = 0; i <= section.size(); ++i) {
    if (i < section.size() && section[i] != '\n') {
      line += static_cast<char>(section[i]);
      continue;
    }
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos) m.emplace_back(line.substr(0, equals), line.substr(equals + 1));
    line.clear();
  }
  return m;
}

// A shorter context needs fewer position embeddings.
QuantizedMatrix first_rows(QuantizedMatrix m, std::uint32_t rows) {
  m.rows = rows;
  m.weights.resize(std::size_t{rows} * m.cols);
  m.scales.resize(rows);
  m.multipliers.resize(std::size_t{rows} * group_count(m.cols, m.group));
  if (!m.bias.empty()) m.bias.resize(rows);
  return m;
}

Error relayout_with(ImageBytes& image, const Model& model, const ModelConfig& config, Layout layout,
                    const Kernels& kernels) {
  TensorSection tensors(config, layout);
  for (const TensorEntry& e : tensors.directory()) {
    if (e.type == ElementType::s8)
      tensors.put(e.role, e.layer, first_rows(unpack(model.tensor(e.role, e.layer, e.stack)), e.rows), e.stack);
    else
      tensors.put_bytes(e.role, e.layer, model.floats(e.role, e.layer, e.stack), e.stack);
  }
  std::vector<OptionalSection> sections;
  for (const SectionKind kind : {SectionKind::tokenizer, SectionKind::metadata, SectionKind::source_tokenizer,
                                 SectionKind::classes, SectionKind::generation})
    sections.push_back({kind, model.section(kind)});
  write_image(image, config, tensors, sections, kernels);
  Model check;
  return open_verified(check, {image.data(), image.size()}, kernels).about("the written image is refused");
}

Error convert_image(ImageBytes& image, ConvertReport& report, const SourceFile& file, const ConvertOptions& options,
                    const Kernels& kernels) {
  if (options.quantize.group || !options.quantize.key_offset || !options.name.empty() || !options.licence.empty() ||
      options.read.rope_theta != 0.0 || !options.read.description.empty() || !options.calibration.empty() ||
      options.value_map != ValueMapChoice::cheaper)
    return Error(
        "an image keeps its groups, key offsets, value maps, rotation, name and licence; convert the float model again");
  ImageBytes upgraded;
  Span<const std::uint8_t> bytes = file.bytes();
  if (is_image_v1(bytes)) {
    if (Error error = upgrade_image_v1(upgraded, bytes, kernels)) return error;
    bytes = {upgraded.data(), upgraded.size()};
  }
  Model model;
  if (Error error = open_verified(model, bytes, kernels)) return error;
  ModelConfig config = model.config();
  if (Error error = set_contexts(config, options)) return error;
  report.format = "heed";
  report.parameters = parameter_count(config);
  report.config = config;
  report.metadata = parse_metadata(model.metadata());
  report.layout = options.layout.value_or(model.layout());
  return relayout_with(image, model, config, report.layout, kernels);
}

}  // namespace

Error relayout(ImageBytes& image, const Model& model, Layout layout, const Kernels& kernels) {
  return relayout_with(image, model, model.config(), layout, kernels);
}

namespace {

bool is_folder(const std::string& path) {
  std::error_code code;
  return std::filesystem::is_directory(path, code);
}

}  // namespace

namespace {

// A path in a description counts from its folder; the forms of a character vocabulary are kept.
std::string beside(const std::string& description, const std::string& tokenizer) {
  namespace fs = std::filesystem;
  constexpr char kFile[] = "chars-file:";
  const fs::path folder = fs::path(description).parent_path();
  if (tokenizer.compare(0, sizeof kFile - 1, kFile) == 0)
    return kFile + (folder / tokenizer.substr(sizeof kFile - 1)).string();
  return tokenizer.empty() || is_character_vocabulary(tokenizer) ? tokenizer : (folder / tokenizer).string();
}

Error read_described(FloatModel& model, const std::string& path, const std::string& description) {
  SourceFile json;
  if (Error error = json.open(description)) return error;
  if (Error error = model.file.open(path)) return error;
  if (Error error = read_description(model, json.bytes(), model.file.bytes(), description, path)) return error;
  model.tokenizer = beside(description, model.tokenizer);
  model.source_tokenizer = beside(description, model.source_tokenizer);
  return {};
}

}  // namespace

Error read_model(FloatModel& model, const std::string& path, const ReadOptions& options) {
  if (!options.description.empty()) {
    if (options.rope_theta != 0.0) return Error(path + ": the description says theta");
    return read_described(model, path, options.description);
  }
  if (is_folder(path)) {
    if (Error error = read_huggingface(model, path)) return error;
  } else {
    if (Error error = model.file.open(path)) return error;
    if (is_image(model.file.bytes()))
      return Error(path + ": a heed image has no floats; give the model it was made from");
    if (Error error = misplaced(model.file.bytes(), Wanted::model)) return error.about(path);
    if (!is_llama2c(model.file.bytes())) return Error(path + ": not a model that heed can read (" + kReadable + ")");
    if (Error error = read_llama2c(model, options)) return error.about(path);
  }
  if (options.rope_theta != 0.0 && model.config.main().position != Position::rotary)
    return Error(path + ": the model has no rotary positions, so no theta");
  return {};
}

Error check_output(const std::string& output, const std::string& source, const std::string& tokenizer,
                   const ConvertOptions& options) {
  namespace fs = std::filesystem;
  const auto refuse = [&](const std::string& input) {
    return is_same_file(output, input) ? Error(output + ": cannot be written: it is " + input + ", which is read")
                                       : Error();
  };
  constexpr char kFile[] = "chars-file:";
  for (const std::string& vocabulary : {tokenizer, options.source_tokenizer}) {
    const bool is_list = vocabulary.compare(0, sizeof kFile - 1, kFile) == 0;
    const std::string path = is_list ? vocabulary.substr(sizeof kFile - 1) : vocabulary;
    for (const std::string& file : is_list || path.empty() ? std::vector<std::string>{path} : tokenizer_files(path))
      if (Error error = refuse(file)) return error;
  }
  for (const std::string& read : {options.read.description, options.calibration})
    if (Error error = refuse(read)) return error;
  const auto holds_image = [](const std::string& path) {
    SourceFile file;
    return !file.open(path) && is_image(file.bytes());
  };
  if (!is_folder(source)) return holds_image(source) && options.context == 0 && options.source_context == 0 ? Error() : refuse(source);
  if (holds_image(output)) return {};
  std::error_code code;
  for (fs::directory_iterator entry(source, code), end; !code && entry != end; entry.increment(code))
    if (Error error = refuse(entry->path().string())) return error;
  return {};
}

namespace {

std::string counted(std::uint64_t n) { return "costs as much as " + std::to_string(n) + " multiply-adds a position and layer"; }

Error choose_value_map(FloatModel& model, std::uint32_t stack, ValueMapChoice choice, std::vector<std::string>& lines) {
  const StackConfig& c = model.config.stacks[stack];
  const std::string why_not = why_not_undivided(c);
  if (!why_not.empty()) {
    const bool is_undivided = c.value_map == ValueMap::undivided;
    if (choice == ValueMapChoice::undivided && !is_undivided) return Error("undivided value maps: " + why_not);
    if (choice == ValueMapChoice::factors && is_undivided) return Error("its value maps are undivided; factors are not made of them");
    lines.push_back(is_undivided ? "undivided, as they come" : "factors: " + why_not);
    return {};
  }
  const ValueMapCost cost = value_map_cost(c, model.config.source().max_seq);
  const bool undivided = choice == ValueMapChoice::cheaper ? cost.undivided < cost.factors
                                                           : choice == ValueMapChoice::undivided;
  lines.push_back(undivided ? "undivided: " + counted(cost.undivided) + ", factors " + std::to_string(cost.factors)
                            : "factors: " + counted(cost.factors) + ", undivided " + std::to_string(cost.undivided));
  if (choice != ValueMapChoice::cheaper) lines.back() += "; as asked for";
  if (undivided) make_undivided(model, stack);
  return {};
}

}  // namespace

Error convert(ImageBytes& image, ConvertReport& report, const std::string& source, const std::string& tokenizer,
              const ConvertOptions& options, const Kernels& kernels) {
  report = ConvertReport{};
  report.layout = options.layout.value_or(Layout::packed);
  SourceFile file;
  if (!is_folder(source))
    if (Error error = file.open(source)) return error;
  report.source_bytes = file.bytes().size();
  if (is_image(file.bytes())) {
    if (!tokenizer.empty() || !options.source_tokenizer.empty())
      return Error(source + ": an image keeps its tokenizer; convert the float model again");
    Error error = convert_image(image, report, file, options, kernels).about(source);
    report.image_bytes = image.size();
    return error;
  }

  FloatModel model;
  if (Error error = read_model(model, source, options.read)) return error;
  report.source_bytes = model.file.bytes().size();
  report.parameters = parameter_count(model.config);
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack)
    if (Error error = choose_value_map(model, stack, options.value_map, report.value_maps)) return error.about(source);
  Tokenizers tokenizers;
  if (Error error = build_tokenizers(tokenizers, model, tokenizer.empty() ? model.tokenizer : tokenizer,
                                     options.source_tokenizer.empty() ? model.source_tokenizer
                                                                      : options.source_tokenizer))
    return error;
  ModelConfig limited = model.config;
  if (Error error = set_contexts(limited, options)) return error.about(source);
  // Elsewhere calibration may use more positions than the image will have.
  for (std::uint32_t stack = 0; stack < limited.n_stacks; ++stack)
    if (limited.stacks[stack].position_table) model.config.stacks[stack].max_seq = limited.stacks[stack].max_seq;
  QuantizeOptions quantize = options.quantize;
  if (!options.calibration.empty())
    if (Error error = read_inputs(quantize.inputs, model.config.source(), options.calibration)) return error;
  QuantizedModel quantized;
  if (Error error = quantize_model(quantized, report.quantize, model, report.layout, quantize, kernels))
    return error.about(source);
  for (std::uint32_t stack = 0; stack < limited.n_stacks; ++stack)
    quantized.config.stacks[stack].max_seq = limited.stacks[stack].max_seq;
  report.format = model.format;
  report.config = quantized.config;
  report.requantised = true;
  report.rope_theta = model.rope_theta;
  report.metadata = describe_model(model, report.quantize, quantized, source, options, kernels);
  const std::string metadata = metadata_text(report.metadata), classes = lines(model.classes);
  const std::vector<std::uint8_t> generation = generation_section(model.generation);
  const auto bytes = [](const auto& x) {
    return Span<const std::uint8_t>{reinterpret_cast<const std::uint8_t*>(x.data()), x.size()};
  };
  write_image(image, quantized.config, *quantized.tensors,
              {{SectionKind::tokenizer, bytes(tokenizers.main)},
               {SectionKind::metadata, bytes(metadata)},
               {SectionKind::source_tokenizer, bytes(tokenizers.source)},
               {SectionKind::classes, bytes(classes)},
               {SectionKind::generation, bytes(generation)}},
              kernels);
  report.image_bytes = image.size();
  Model check;
  return open_verified(check, {image.data(), image.size()}, kernels).about("the written image is refused");
}

}  // namespace heed::quant
