// SPDX-License-Identifier: Apache-2.0
// convert.cpp: picks the reader, runs the quantiser, signs the image, and checks it as any user of it will.
#include "quant/convert.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "quant/calibration_inputs.hpp"
#include "quant/image_metadata.hpp"
#include "quant/image_v1.hpp"
#include "quant/readers/characters.hpp"
#include "quant/readers/description.hpp"
#include "quant/readers/gguf_models.hpp"
#include "quant/readers/huggingface.hpp"
#include "quant/readers/llama2c.hpp"
#include "quant/recognise.hpp"
#include "quant/tokenizers.hpp"
#include "quant/readers/tokenizer_folder.hpp"
#include "quant/value_map.hpp"

namespace heed::quant {
namespace {

constexpr char kReadable[] =
    "llama2.c checkpoints of versions 0 and 1, GGUF files, Hugging Face folders, safetensors with a description";

Error open_verified(Model& model, Span<const std::uint8_t> image, const Kernels& kernels) {
  Status status = open(model, image, kernels);
  if (status == Status::ok) status = verify(model, kernels);
  return status == Status::ok ? Error() : Error(to_string(status));
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

// What a text begins with, of so many tokens, and the context that keeps it.
Error check_first(std::size_t n, const StackConfig& main) {
  if (n <= main.max_seq) return {};
  return Error("a text begins with " + std::to_string(n) + " tokens (generation.first), and the context has " +
               std::to_string(main.max_seq));
}

// Refuses lists that leave nothing to write. All their tokens are ones of the vocabulary.
Error check_generation(const Generation& generation, const StackConfig& main) {
  if (Error error = check_first(generation.first.size(), main)) return error;
  std::vector<bool> suppressed(main.vocab_size);
  for (const std::uint32_t token : generation.suppressed) suppressed[token] = true;
  if (generation.suppressed.empty() || std::find(suppressed.begin(), suppressed.end(), false) != suppressed.end()) return {};
  return Error("generation.suppressed has every token, which leaves none to write");
}

// Section 8 of an image (SPEC.md 1.7); empty where BOS and EOS say it all.
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

// A shorter context needs fewer position embeddings.
QuantizedMatrix first_rows(QuantizedMatrix m, std::uint32_t rows) {
  m.rows = rows;
  m.weights.resize(std::size_t{rows} * m.cols);
  m.scales.resize(rows);
  m.multipliers.resize(std::size_t{rows} * group_count(m.cols, m.group));
  if (!m.bias.empty()) m.bias.resize(rows);
  return m;
}

// The bytes of a tensor of an image in another layout.
std::vector<std::uint8_t> relaid(const Model& model, const TensorEntry& e, Layout layout) {
  std::vector<std::uint8_t> bytes(std::size_t{e.bytes64} * 64);
  if (e.type == ElementType::s8)
    pack(bytes.data(), first_rows(unpack(model.tensor(e.role, e.layer, e.stack)), e.rows), layout);
  else
    std::memcpy(bytes.data(), model.floats(e.role, e.layer, e.stack), bytes.size());
  return bytes;
}

Error write_relaid(const WriteAt& write, std::uint64_t& image_bytes, const Model& model, const ModelConfig& config,
                   Layout layout, const Kernels& kernels) {
  std::vector<OptionalSection> sections;
  for (const SectionKind kind : {SectionKind::tokenizer, SectionKind::metadata, SectionKind::source_tokenizer,
                                 SectionKind::classes, SectionKind::generation})
    sections.push_back({kind, model.section(kind)});
  const TensorDirectory directory(config, layout);
  ImageStream image(write, directory, sections, kernels);
  image_bytes = image.bytes();
  for (const TensorEntry& e : directory.entries())
    if (Error error = image.append(relaid(model, e, layout))) return error;
  return image.finish(sections);
}

// Writes to memory what `make` writes, and checks it as any user of it will.
Error make_in_memory(ImageBytes& image, const Kernels& kernels, const std::function<Error(const WriteAt&)>& make) {
  image.clear();
  const WriteAt write = [&](std::uint64_t offset, Span<const std::uint8_t> bytes) {
    const auto at = static_cast<std::size_t>(offset);
    if (image.size() < at + bytes.size()) image.resize(at + bytes.size());
    std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(at));
    return Error();
  };
  if (Error error = make(write)) return error;
  Model check;
  return open_verified(check, {image.data(), image.size()}, kernels).about("the written image is refused");
}

Error convert_image(const WriteAt& write, ConvertReport& report, const SourceFile& file, const ConvertOptions& options,
                    const Kernels& kernels) {
  if (options.quantize.group || !options.quantize.key_offset || !options.quantize.measure || !options.name.empty() || !options.licence.empty() ||
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
  const auto generation = model.section(SectionKind::generation);
  std::uint32_t n_first = 0;  // the section's first number
  if (generation.size() >= sizeof n_first) std::memcpy(&n_first, generation.data(), sizeof n_first);
  if (Error error = check_first(n_first, config.main())) return error;
  report.format = "heed";
  report.parameters = parameter_count(config);
  report.config = config;
  report.metadata = parse_metadata(model.metadata());
  report.layout = options.layout.value_or(model.layout());
  return write_relaid(write, report.image_bytes, model, config, report.layout, kernels);
}

}  // namespace

Error relayout(ImageBytes& image, const Model& model, Layout layout, const Kernels& kernels) {
  return make_in_memory(image, kernels, [&](const WriteAt& write) {
    std::uint64_t bytes = 0;
    return write_relaid(write, bytes, model, model.config(), layout, kernels);
  });
}

namespace {

bool is_folder(const std::string& path) {
  std::error_code code;
  return std::filesystem::is_directory(path, code);
}

}  // namespace

namespace {

// Of what the command line says and what a description says.
std::string chosen(const std::string& given, const std::string& described) {
  return given == "none" ? "" : given.empty() ? described : given;
}

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
  Span<const std::uint8_t> tensors;
  if (Error error = model.open(tensors, path)) return error;
  if (Error error = read_description(model, json.bytes(), tensors, description, path)) return error;
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
    Span<const std::uint8_t> bytes;
    if (Error error = model.open(bytes, path)) return error;
    if (is_image(bytes))
      return Error(path + ": a heed image has no floats; give the model it was made from");
    if (Error error = misplaced(bytes, Wanted::model)) return error.about(path);
    if (is_gguf(bytes)) {
      if (Error error = read_gguf(model, path, options)) return error;
    } else {
      if (!is_llama2c(bytes)) return Error(path + ": not a model that heed can read (" + kReadable + ")");
      if (Error error = read_llama2c(model, options)) return error.about(path);
    }
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
  if (!is_folder(source)) {
    for (const std::string& part : other_parts(source))
      if (Error error = refuse(part)) return error;
    return holds_image(source) && options.context == 0 && options.source_context == 0 ? Error() : refuse(source);
  }
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

Error read_calibration(std::vector<FloatSequence>& sequences, const FloatModel& model, const Tokenizers& tokenizers,
                       const std::string& path) {
  SourceFile file;
  if (Error error = file.open(path)) return error;
  if (are_inputs(file.bytes())) return read_inputs(sequences, model.config.source(), path);
  if (Error error = misplaced(file.bytes(), Wanted::text)) return error.about(path);
  const bool own = model.config.n_stacks == 2 && !tokenizers.source.empty();
  return read_texts(sequences, model, own ? tokenizers.source : tokenizers.main, path);
}

// The model as it is quantised: read, its value maps chosen, its context cut; and its tokenizers.
Error prepare(FloatModel& model, Tokenizers& tokenizers, ConvertReport& report, const std::string& source,
              const std::string& tokenizer, const ConvertOptions& options, ModelConfig& limited) {
  model.parallel = options.parallel;
  if (Error error = read_model(model, source, options.read)) return error;
  report.source_bytes = model.file_bytes();
  report.parameters = parameter_count(model.config);
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack)
    if (Error error = choose_value_map(model, stack, options.value_map, report.value_maps)) return error.about(source);
  if (Error error = build_tokenizers(tokenizers, model, tokenizer.empty() ? model.tokenizer : tokenizer,
                                     options.source_tokenizer.empty() ? model.source_tokenizer
                                                                      : options.source_tokenizer))
    return error;
  limited = model.config;
  if (Error error = set_contexts(limited, options)) return error.about(source);
  if (Error error = check_generation(model.generation, limited.main())) return error.about(source);
  // Elsewhere calibration may use more positions than the image will have.
  for (std::uint32_t stack = 0; stack < limited.n_stacks; ++stack)
    if (limited.stacks[stack].position_table) model.config.stacks[stack].max_seq = limited.stacks[stack].max_seq;
  return {};
}

Error convert_floats(const WriteAt& write, ConvertReport& report, const std::string& source, const std::string& tokenizer,
                     const ConvertOptions& options, const Kernels& kernels) {
  FloatModel model;
  Tokenizers tokenizers;
  ModelConfig limited;
  if (Error error = prepare(model, tokenizers, report, source, tokenizer, options, limited)) return error;
  QuantizeOptions quantize = options.quantize;
  if (!options.calibration.empty())
    if (Error error = read_calibration(quantize.inputs, model, tokenizers, options.calibration)) return error;
  QuantizePlan plan;
  const double planning = planning_share(model, quantize);
  const ShowProgress whole = quantize.progress;
  quantize.progress = part_of_progress(whole, 0.0, planning);
  if (Error error = plan_quantization(plan, report.quantize, model, quantize, kernels)) return error.about(source);
  for (std::uint32_t stack = 0; stack < limited.n_stacks; ++stack)
    plan.config.stacks[stack].max_seq = limited.stacks[stack].max_seq;
  report.format = model.format;
  report.config = plan.config;
  report.requantised = true;
  report.rope_theta = model.rope_theta;
  report.metadata =
      describe_model(model, report.quantize, plan.config, {source, options.name, options.licence}, kernels);
  std::string metadata = metadata_text(report.metadata);
  const std::string classes = lines(model.classes);
  const std::vector<std::uint8_t> generation = generation_section(model.generation);
  const auto sections = [&]() -> std::vector<OptionalSection> {
    const auto bytes = [](const auto& x) {
      return Span<const std::uint8_t>{reinterpret_cast<const std::uint8_t*>(x.data()), x.size()};
    };
    return {{SectionKind::tokenizer, bytes(tokenizers.main)},
            {SectionKind::metadata, bytes(metadata)},
            {SectionKind::source_tokenizer, bytes(tokenizers.source)},
            {SectionKind::classes, bytes(classes)},
            {SectionKind::generation, bytes(generation)}};
  };
  const TensorDirectory directory(plan.config, report.layout);
  ImageStream image(write, directory, sections(), kernels);
  report.image_bytes = image.bytes();
  const Append append = [&](Span<const std::uint8_t> bytes) { return image.append(bytes); };
  if (Error error = quantize_tensors(append, report.quantize.tensors, report.quantize.matrix_error, model, plan,
                                     report.layout, part_of_progress(whole, planning, 1.0)))
    return error.about(source);
  set_weight_error(report.metadata, report.quantize.matrix_error);
  metadata = metadata_text(report.metadata);
  return image.finish(sections());
}

Error convert_to(const WriteAt& write, ConvertReport& report, const std::string& source, const std::string& tokenizer,
                 const ConvertOptions& options, const Kernels& kernels) {
  report = ConvertReport{};
  report.layout = options.layout.value_or(Layout::packed);
  SourceFile file;
  if (!is_folder(source))
    if (Error error = file.open(source)) return error;
  if (!is_image(file.bytes())) return convert_floats(write, report, source, tokenizer, options, kernels);
  report.source_bytes = file.bytes().size();
  if (!tokenizer.empty() || !options.source_tokenizer.empty())
    return Error(source + ": an image keeps its tokenizer; convert the float model again");
  return convert_image(write, report, file, options, kernels).about(source);
}

}  // namespace

Error convert(ImageBytes& image, ConvertReport& report, const std::string& source, const std::string& tokenizer,
              const ConvertOptions& options, const Kernels& kernels) {
  return make_in_memory(image, kernels, [&](const WriteAt& write) {
    return convert_to(write, report, source, tokenizer, options, kernels);
  });
}

Error convert_file(const std::string& output, ConvertReport& report, const std::string& source,
                   const std::string& tokenizer, const ConvertOptions& options, const Kernels& kernels) {
  OutputFile file;
  bool is_open = false;
  Error write_error;
  // The file is made when there is something to write, which may be an hour after the beginning.
  const WriteAt write = [&](std::uint64_t offset, Span<const std::uint8_t> bytes) {
    if (!is_open) write_error = file.open(output);
    if (!write_error) write_error = file.write(offset, bytes);
    is_open = true;
    return write_error;
  };
  const Error error = convert_to(write, report, source, tokenizer, options, kernels);
  if (write_error) return write_error;
  if (error) return error;
  SourceFile written;
  if (Error unread = file.read_back(written)) return unread;
  Model check;
  if (Error refused = open_verified(check, written.bytes(), kernels)) return refused.about("the written image is refused");
  return file.finish();
}

}  // namespace heed::quant
