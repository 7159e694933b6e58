// SPDX-License-Identifier: Apache-2.0
// convert.cpp: picks the reader, runs the quantiser, signs the image, and checks it as any user of it will.
#include "quant/convert.hpp"

#include <charconv>
#include <cstring>
#include <filesystem>

#include "quant/image_v1.hpp"
#include "quant/readers/characters.hpp"
#include "quant/readers/huggingface.hpp"
#include "quant/readers/llama2c.hpp"
#include "quant/readers/llama2c_tokenizer.hpp"
#include "quant/recognise.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

constexpr char kReadable[] = "llama2.c checkpoints of versions 0 and 1, Hugging Face folders of the GPT-2 family";

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

// Refuses what the source's context cannot hold.
Error set_context(StackConfig& config, std::uint32_t context) {
  if (context > config.max_seq)
    return Error("a context of " + std::to_string(context) + " is more than the model's " +
                 std::to_string(config.max_seq));
  if (context) config.max_seq = context;
  return {};
}

Error read_vocabulary(Vocabulary& vocabulary, const std::string& tokenizer, std::uint32_t vocab_size) {
  if (is_character_vocabulary(tokenizer)) return read_characters(vocabulary, tokenizer, vocab_size);
  SourceFile file;
  if (Error error = file.open(tokenizer)) return error;
  if (Error error = misplaced(file.bytes(), Wanted::vocabulary)) return error.about(tokenizer);
  const std::string refused = read_llama2c_tokenizer(vocabulary, file.bytes(), vocab_size);
  return refused.empty() ? Error() : Error(tokenizer + ": " + refused);
}

Error build_tokenizer(std::vector<std::uint8_t>& section, FloatModel& model, const std::string& path) {
  Vocabulary vocabulary;
  if (Error error = read_vocabulary(vocabulary, path, model.config.vocab_size)) return error;
  if (const std::string refused = build_tokenizer_section(section, vocabulary); !refused.empty())
    return Error(path + ": " + refused);
  static_assert(kNoSourceToken == static_cast<std::uint32_t>(kNoToken));
  model.bos = static_cast<std::uint32_t>(vocabulary.bos);
  model.eos = static_cast<std::uint32_t>(vocabulary.eos);
  Tokenizer tokenizer;
  const Status status = open(tokenizer, {section.data(), section.size()}, model.config.vocab_size);
  return status == Status::ok ? Error() : Error(path + ": " + to_string(status));
}

Metadata describe_model(const FloatModel& model, const QuantizeReport& report, const QuantizedModel& quantized,
                        const std::string& source, const ConvertOptions& options, const Kernels& kernels) {
  Metadata m;
  m.emplace_back("name", options.name.empty() ? file_stem(source) : options.name);
  if (!options.licence.empty()) m.emplace_back("licence", options.licence);
  m.emplace_back("source", model.format);
  m.emplace_back("source_file", file_name(source));
  m.emplace_back("source_crc32c", hex(kernels.crc32c(0, model.file.bytes().data(), model.file.bytes().size())));
  m.emplace_back("parameters", std::to_string(parameter_count(model.config)));
  if (model.bos != kNoSourceToken) m.emplace_back("bos", std::to_string(model.bos));
  if (model.eos != kNoSourceToken) m.emplace_back("eos", std::to_string(model.eos));
  if (model.rope_theta != kUsualTheta) m.emplace_back("rope_theta", plain_number(model.rope_theta));
  std::string groups;
  for (int i = 0; i < kSiteCount; ++i) {
    if (matrices_of(quantized.config, static_cast<Site>(i)).empty()) continue;
    const std::uint32_t group = report.sites[i].group;
    groups += std::string(i ? " " : "") + name_of(static_cast<Site>(i)) + ":" + (group ? std::to_string(group) : "row");
  }
  m.emplace_back("quantisation", "int8 " + groups);
  std::string folded;
  const std::uint32_t flags = quantized.config.flags;
  if (flags & kAttentionGainFolded) folded += " attention_gain";
  if (flags & kFfnGainFolded) folded += " ffn_gain";
  if (flags & kFinalGainFolded) folded += " final_gain";
  m.emplace_back("folded", folded.empty() ? "none" : folded.substr(1));
  m.emplace_back("key_offset", flags & kKeyOffset ? "mean of " + std::to_string(report.calibration_tokens) +
                                                        " positions that the float model wrote"
                                                  : "none");
  m.emplace_back("weight_error", number(report.matrix_error));
  for (int i = 0; i < kSiteCount; ++i)
    if (!matrices_of(quantized.config, static_cast<Site>(i)).empty())
      m.emplace_back(std::string("output_error_") + name_of(static_cast<Site>(i)), number(report.sites[i].error));
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
      options.read.rope_theta != 0.0)
    return Error("an image keeps its groups, key offsets, rotation, name and licence; convert the float model again");
  ImageBytes upgraded;
  Span<const std::uint8_t> bytes = file.bytes();
  if (is_image_v1(bytes)) {
    if (Error error = upgrade_image_v1(upgraded, bytes, kernels)) return error;
    bytes = {upgraded.data(), upgraded.size()};
  }
  Model model;
  if (Error error = open_verified(model, bytes, kernels)) return error;
  ModelConfig config = model.config();
  if (Error error = set_context(config.main(), options.context)) return error;
  report.format = "heed";
  report.parameters = parameter_count(config.main());
  report.config = config.main();
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

Error read_model(FloatModel& model, const std::string& path, const ReadOptions& options) {
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
  if (options.rope_theta != 0.0 && model.config.position != Position::rotary)
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
  const bool is_list = tokenizer.compare(0, sizeof kFile - 1, kFile) == 0;
  if (Error error = refuse(is_list ? tokenizer.substr(sizeof kFile - 1) : tokenizer)) return error;
  const auto holds_image = [](const std::string& path) {
    SourceFile file;
    return !file.open(path) && is_image(file.bytes());
  };
  if (!is_folder(source)) return holds_image(source) && options.context == 0 ? Error() : refuse(source);
  if (holds_image(output)) return {};
  std::error_code code;
  for (fs::directory_iterator entry(source, code), end; !code && entry != end; entry.increment(code))
    if (Error error = refuse(entry->path().string())) return error;
  return {};
}

Error convert(ImageBytes& image, ConvertReport& report, const std::string& source, const std::string& tokenizer,
              const ConvertOptions& options, const Kernels& kernels) {
  report = ConvertReport{};
  report.layout = options.layout.value_or(Layout::packed);
  SourceFile file;
  if (!is_folder(source))
    if (Error error = file.open(source)) return error;
  report.source_bytes = file.bytes().size();
  if (is_image(file.bytes())) {
    if (!tokenizer.empty()) return Error(source + ": an image keeps its tokenizer; convert the float model again");
    Error error = convert_image(image, report, file, options, kernels).about(source);
    report.image_bytes = image.size();
    return error;
  }

  FloatModel model;
  if (Error error = read_model(model, source, options.read)) return error;
  report.source_bytes = model.file.bytes().size();
  std::vector<std::uint8_t> section;
  if (!tokenizer.empty())
    if (Error error = build_tokenizer(section, model, tokenizer)) return error;
  StackConfig limited = model.config;
  if (Error error = set_context(limited, options.context)) return error.about(source);
  // Elsewhere calibration may use more positions than the image will have.
  if (model.config.position_table) model.config.max_seq = limited.max_seq;
  QuantizedModel quantized;
  if (Error error = quantize_model(quantized, report.quantize, model, report.layout, options.quantize, kernels))
    return error.about(source);
  quantized.config.max_seq = limited.max_seq;
  report.format = model.format;
  report.parameters = parameter_count(model.config);
  report.config = quantized.config;
  report.requantised = true;
  report.rope_theta = model.rope_theta;
  report.metadata = describe_model(model, report.quantize, quantized, source, options, kernels);
  const std::string text = metadata_text(report.metadata);
  write_image(image, quantized.config, *quantized.tensors, {section.data(), section.size()},
              {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, kernels);
  report.image_bytes = image.size();
  Model check;
  return open_verified(check, {image.data(), image.size()}, kernels).about("the written image is refused");
}

}  // namespace heed::quant
