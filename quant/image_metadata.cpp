// SPDX-License-Identifier: Apache-2.0
// image_metadata.cpp: lines of keys and values, written the same way under every locale.
#include "quant/image_metadata.hpp"

#include <charconv>

namespace heed::quant {
namespace {

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

}  // namespace

Metadata describe_model(const FloatModel& model, const QuantizeReport& report, const ModelConfig& config,
                        const MetadataOptions& options, const Kernels& kernels) {
  Metadata m;
  m.emplace_back("name", !options.name.empty() ? options.name : !model.name.empty() ? model.name : file_stem(options.source));
  const std::string& licence = options.licence.empty() ? model.licence : options.licence;
  if (!licence.empty()) m.emplace_back("licence", licence);
  m.emplace_back("source", model.format);
  m.emplace_back("source_file", file_name(options.source));
  std::uint32_t crc = 0;
  for (const SourceFile& file : model.files) crc = kernels.crc32c(crc, file.bytes().data(), file.bytes().size());
  m.emplace_back("source_crc32c", hex(crc));
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
    describe_stack(m, two && !is_main ? "source_" : "", config.stacks[stack], report.sites[stack],
                   !is_main            ? positions + "of " + inputs
                   : generates && !two ? positions + (report.calibration_given ? "of given texts" : "that the float model wrote")
                   : generates         ? positions + "that the float model wrote to " + inputs
                                       : positions + "of " + inputs);
  }
  std::string passes;
  for (const PassReport& p : report.passes)
    passes += (passes.empty() ? "" : " ") + std::string(two && p.stack == 0 ? "source:" : "") + p.name;
  if (!passes.empty()) m.emplace_back("rewritten", passes);
  if (report.key_offset == KeyOffsetChoice::half_way) m.emplace_back("key_offset_reach", "half way to the whole context");
  if (report.key_offset == KeyOffsetChoice::whole_context) m.emplace_back("key_offset_reach", "the whole context");
  m.emplace_back("weight_error", number(report.matrix_error));
  for (std::uint32_t stack = 0; report.measured && stack < model.config.n_stacks; ++stack) {
    const std::string prefix = two && stack == 0 ? "source_output_error_" : "output_error_";
    for (int i = 0; i < kSiteCount; ++i)
      if (report.sites[stack][i].used)
        m.emplace_back(prefix + name_of(static_cast<Site>(i)), number(report.sites[stack][i].error));
  }
  return m;
}

void set_weight_error(Metadata& metadata, double error) {
  for (auto& [key, value] : metadata)
    if (key == "weight_error") value = number(error < 1e-99 ? 0.0 : error);  // two digits of exponent
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

}  // namespace heed::quant
