// SPDX-License-Identifier: Apache-2.0
// image_rules_test.cpp: every rule of SPEC.md, part 5, broken alone, checksums recomputed, is refused with its status.
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "quant/feature_names.hpp"
#include "quant/image_writer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "runtime/numerics.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

namespace {

using namespace heed;

// An image that can be taken apart: pointers into its bytes, no checks.
struct Edited {
  quant::ImageBytes bytes;

  ImageHeader& header() { return *reinterpret_cast<ImageHeader*>(bytes.data()); }
  SectionEntry& entry_of(std::uint32_t index) {
    return reinterpret_cast<SectionEntry*>(bytes.data() + sizeof(ImageHeader))[index];
  }
  SectionEntry& section(SectionKind kind) {
    std::uint32_t i = 0;
    while (entry_of(i).kind != static_cast<std::uint32_t>(kind)) ++i;
    return entry_of(i);
  }
  std::uint8_t* at(SectionKind kind) { return bytes.data() + section(kind).offset; }
  StackConfig& config() { return *reinterpret_cast<StackConfig*>(at(SectionKind::stacks)); }  // of the first stack
  TensorEntry& tensor_entry(Role role) {
    auto* entry = reinterpret_cast<TensorEntry*>(at(SectionKind::directory));
    while (entry->role != role) ++entry;
    return *entry;
  }
  std::uint8_t* tensor(Role role) { return at(SectionKind::tensors) + std::size_t{tensor_entry(role).offset64} * 64; }
  float* scales(Role role) {
    const TensorEntry& e = tensor_entry(role);
    return reinterpret_cast<float*>(tensor(role) + tensor_bytes(e.layout, e.rows, e.cols, e.group, false).scales);
  }
  // Of a matrix that has one.
  float* bias(Role role) {
    const TensorEntry& e = tensor_entry(role);
    return reinterpret_cast<float*>(tensor(role) + tensor_bytes(e.layout, e.rows, e.cols, e.group, true).bias);
  }
  std::uint8_t* multipliers(Role role) {
    const TensorEntry& e = tensor_entry(role);
    return tensor(role) + tensor_bytes(e.layout, e.rows, e.cols, e.group, true).multipliers;
  }
};

// Untied, separate gains and norm biases behind the first norm, biases on every matrix, groups of 32 at one site, key
// offsets: something for every rule.
StackConfig config_with_everything() {
  StackConfig c = test::llama_config(40, 36, 2, 4, 2, 10, 21, 64);
  c.tied_unembedding = 0;
  c.flags = kKeyOffset | kAttentionGainFolded;
  c.groups[static_cast<int>(Site::ffn_in)] = 32;
  c.norm = Norm::layer;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasUnembedding | kBiasNorm;
  return c;
}

Edited whole(Layout layout = Layout::row) {
  static quant::ImageBytes images[kLayoutCount];
  quant::ImageBytes& image = images[static_cast<int>(layout)];
  if (image.empty()) {
    static const std::uint8_t tokenizer[5] = {1, 2, 3, 4, 5};  // `open` does not look into it
    image = test::random_image(config_with_everything(), layout, 7, tokenizer);
  }
  return {image};
}

enum class Sign { no, yes };

template <class Edit>
Status opened(Edit edit, Sign sign = Sign::yes, Layout layout = Layout::row) {
  Edited image = whole(layout);
  edit(image);
  if (sign == Sign::yes) quant::refresh_checksums({image.bytes.data(), image.bytes.size()}, kernels_portable);
  Model model;
  return open(model, {image.bytes.data(), image.bytes.size()}, kernels_portable);
}

template <class Edit>
Status verified(Edit edit, Sign sign = Sign::yes, Layout layout = Layout::row) {
  Edited image = whole(layout);
  edit(image);
  if (sign == Sign::yes) quant::refresh_checksums({image.bytes.data(), image.bytes.size()}, kernels_portable);
  Model model;
  REQUIRE(open(model, {image.bytes.data(), image.bytes.size()}, kernels_portable) == Status::ok);
  return verify(model, kernels_portable);
}

// The same of an image of two stacks, or of any other.
template <class Edit>
Status opened_of(const ModelConfig& config, Edit edit) {
  Edited image{test::random_image(config, Layout::row, 7)};
  edit(image);
  quant::refresh_checksums({image.bytes.data(), image.bytes.size()}, kernels_portable);
  Model model;
  return open(model, {image.bytes.data(), image.bytes.size()}, kernels_portable);
}
template <class Edit>
Status opened_two(Edit edit) {
  return opened_of(test::two_stacks_config(), edit);
}

template <class Edit>
Status configured(Edit edit) {
  return opened([&](Edited& image) { edit(image.config()); });
}

// Sections of one's own choice, laid out and signed by the rules.
using SectionBytes = std::pair<std::uint32_t, std::vector<std::uint8_t>>;
Status rebuilt(const std::vector<SectionBytes>& parts) {
  Edited image;
  std::size_t end = sizeof(ImageHeader) + parts.size() * sizeof(SectionEntry);
  std::vector<SectionEntry> table;
  for (const SectionBytes& part : parts) {
    SectionEntry s{};
    s.kind = part.first;
    s.offset = (end + 63) / 64 * 64;
    s.bytes = part.second.size();
    table.push_back(s);
    end = static_cast<std::size_t>(s.offset) + part.second.size();
  }
  image.bytes.assign(end, 0);
  image.header() = whole().header();
  image.header().n_sections = static_cast<std::uint32_t>(parts.size());
  image.header().total_bytes = end;
  for (std::uint32_t i = 0; i < parts.size(); ++i) {
    image.entry_of(i) = table[i];
    if (!parts[i].second.empty())
      std::memcpy(image.bytes.data() + table[i].offset, parts[i].second.data(), parts[i].second.size());
  }
  quant::refresh_checksums({image.bytes.data(), image.bytes.size()}, kernels_portable);
  Model model;
  return open(model, {image.bytes.data(), image.bytes.size()}, kernels_portable);
}

std::vector<SectionBytes> whole_parts() {
  Edited image = whole();
  std::vector<SectionBytes> parts;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const SectionEntry& s = image.entry_of(i);
    const std::uint8_t* data = image.bytes.data() + s.offset;
    parts.emplace_back(s.kind, std::vector<std::uint8_t>(data, data + s.bytes));
  }
  return parts;
}

constexpr float kBelow = 9.0949463e-13f;  // just below 2^-40
constexpr float kAbove = 1.0995117e12f;   // just above 2^40

}  // namespace

TEST_CASE("the image that the rules are broken in is accepted in every layout") {
  for (const Layout layout : {Layout::row, Layout::packed, Layout::pair, Layout::block64}) {
    CHECK(opened([](Edited&) {}, Sign::yes, layout) == Status::ok);
    CHECK(opened([](Edited&) {}, Sign::no, layout) == Status::ok);
    CHECK(verified([](Edited&) {}, Sign::yes, layout) == Status::ok);
  }
}

TEST_CASE("H1: address and smallest size") {
  const Edited image = whole();
  Model model;
  CHECK(open(model, {}, kernels_portable) == Status::bad_argument);
  CHECK(open(model, {image.bytes.data(), 63}, kernels_portable) == Status::truncated);
  quant::ImageBytes moved(image.bytes.size() + 64);
  for (const std::size_t by : {1u, 4u, 32u, 63u}) {
    std::memcpy(moved.data() + by, image.bytes.data(), image.bytes.size());
    CHECK(open(model, {moved.data() + by, image.bytes.size()}, kernels_portable) == Status::misaligned);
  }
}

TEST_CASE("H2: magic") {
  for (int i = 0; i < 8; ++i)
    CHECK(opened([i](Edited& image) { image.header().magic[i] ^= 1; }) == Status::not_an_image);
}

TEST_CASE("H3: version") {
  CHECK(opened([](Edited& image) { image.header().version = 0; }) == Status::version_unsupported);
  CHECK(opened([](Edited& image) { image.header().version = 1; }) == Status::version_unsupported);
}

TEST_CASE("H4: total_bytes and n_sections") {
  CHECK(opened([](Edited& image) { image.header().total_bytes += 1; }) == Status::truncated);
  CHECK(opened([](Edited& image) { image.header().total_bytes = ~std::uint64_t{0}; }) == Status::truncated);
  CHECK(opened([](Edited& image) { image.header().total_bytes = 64 + 5 * 32 - 1; }) == Status::truncated);
  CHECK(opened([](Edited& image) { image.header().n_sections = 2; }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.header().n_sections = 33; }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.header().n_sections = 0x08000001u; }, Sign::no) == Status::bad_section);
}

TEST_CASE("H4: an image cut at any byte is refused, one with bytes behind it is not") {
  Edited image = whole();
  Model model;
  for (std::size_t n = 0; n < image.bytes.size(); ++n)
    REQUIRE(open(model, {image.bytes.data(), n}, kernels_portable) == Status::truncated);
  image.bytes.resize(image.bytes.size() + 5, 0xAA);
  CHECK(open(model, {image.bytes.data(), image.bytes.size()}, kernels_portable) == Status::ok);
  CHECK(verify(model, kernels_portable) == Status::ok);
}

TEST_CASE("H5: header_crc covers header and section table") {
  CHECK(opened([](Edited& image) { image.header().header_crc ^= 1; }, Sign::no) == Status::not_an_image);
  CHECK(opened([](Edited& image) { image.header().reserved[0] = 1; }, Sign::no) == Status::not_an_image);
  CHECK(opened([](Edited& image) { image.entry_of(0).crc ^= 1; }, Sign::no) == Status::not_an_image);
  CHECK(opened([](Edited& image) { image.entry_of(4).reserved ^= 1; }, Sign::no) == Status::not_an_image);
}

TEST_CASE("H6: reserved fields of the header") {
  for (int i = 0; i < 9; ++i)
    CHECK(opened([i](Edited& image) { image.header().reserved[i] = 1; }) == Status::bad_section);
}

TEST_CASE("S1: kinds are known and ascending") {
  CHECK(opened([](Edited& image) { image.entry_of(0).kind = 0; }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.entry_of(4).kind = 9; }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.entry_of(1).kind = 1; }) == Status::bad_section);
  CHECK(opened([](Edited& image) { std::swap(image.entry_of(2).kind, image.entry_of(3).kind); }) ==
        Status::bad_section);
  std::vector<SectionBytes> parts = whole_parts();
  CHECK(rebuilt(parts) == Status::ok);
  for (const std::uint32_t unknown : {9u, 10u, 0x7FFFFFFFu}) {
    parts.emplace_back(unknown, std::vector<std::uint8_t>(64));
    CHECK(rebuilt(parts) == Status::bad_section);
    parts.pop_back();
  }
  // The others that are known, and then some that a reader may skip.
  for (const std::uint32_t kind : {6u, 7u, 8u, 0x80000000u, 0x80000001u, 0xFFFFFFFFu}) {
    parts.emplace_back(kind, std::vector<std::uint8_t>(5));
    CHECK(rebuilt(parts) == Status::ok);
  }
  std::swap(parts[8], parts[9]);
  CHECK(rebuilt(parts) == Status::bad_section);
}

TEST_CASE("S2: reserved fields of the section table") {
  for (std::uint32_t i = 0; i < 5; ++i)
    CHECK(opened([i](Edited& image) { image.entry_of(i).reserved = std::uint64_t{1} << 40; }) == Status::bad_section);
}

TEST_CASE("S3: sections stand behind each other with zeros between") {
  for (std::uint32_t i = 0; i < 5; ++i) {
    CHECK(opened([i](Edited& image) { image.entry_of(i).offset += 64; }) == Status::bad_section);
    CHECK(opened([i](Edited& image) { image.entry_of(i).offset -= 64; }) == Status::bad_section);
    CHECK(opened([i](Edited& image) { image.entry_of(i).offset += 1; }) == Status::bad_section);
    CHECK(opened([i](Edited& image) { image.entry_of(i).offset |= std::uint64_t{1} << 63; }) == Status::bad_section);
  }
  CHECK(opened([](Edited& image) {
          const SectionEntry& s = image.section(SectionKind::tokenizer);
          image.bytes[static_cast<std::size_t>(s.offset + s.bytes)] = 1;
        }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.bytes[image.entry_of(0).offset - 1] = 1; }) == Status::bad_section);
}

TEST_CASE("S4: sections are not empty and end where the image does") {
  for (std::uint32_t i = 0; i < 5; ++i) {
    CHECK(opened([i](Edited& image) { image.entry_of(i).bytes = 0; }) == Status::bad_section);
    CHECK(opened([i](Edited& image) { image.entry_of(i).bytes = ~std::uint64_t{0}; }) == Status::bad_section);
    CHECK(opened([i](Edited& image) { image.entry_of(i).bytes = image.bytes.size(); }) == Status::bad_section);
  }
  for (const std::size_t empty : {2u, 3u}) {
    std::vector<SectionBytes> parts = whole_parts();
    parts[empty].second.clear();
    CHECK(rebuilt(parts) == Status::bad_section);
  }
  // An end that wraps around to before its beginning.
  CHECK(opened([](Edited& image) {
          image.entry_of(3).bytes = ~std::uint64_t{0} - 63;
          image.entry_of(4).offset = image.entry_of(3).offset - 64;
          image.entry_of(4).bytes = image.bytes.size() - image.entry_of(4).offset;
        }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.entry_of(4).bytes += 1; }) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.entry_of(4).bytes -= 1; }) == Status::bad_section);
}

TEST_CASE("S5: configuration, directory and tensors are present") {
  for (const std::size_t missing : {0u, 1u, 4u}) {
    std::vector<SectionBytes> parts = whole_parts();
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(missing));
    CHECK(rebuilt(parts) == Status::bad_section);
  }
  // The other two may be missing.
  std::vector<SectionBytes> parts = whole_parts();
  parts.erase(parts.begin() + 2, parts.begin() + 4);
  CHECK(rebuilt(parts) == Status::ok);
  std::vector<SectionBytes> longer = whole_parts();
  longer[0].second.resize(3 * sizeof(StackConfig));
  CHECK(rebuilt(longer) == Status::bad_section);
  CHECK(opened([](Edited& image) { image.entry_of(0).bytes = 255; }) == Status::bad_section);
  // 257 to 320 bytes keep the directory where it is.
  CHECK(opened([](Edited& image) { image.entry_of(0).bytes = 320; }) == Status::bad_section);
}

TEST_CASE("S6: each section's CRC, found by verify") {
  for (const SectionKind kind : {SectionKind::tokenizer, SectionKind::metadata, SectionKind::tensors})
    CHECK(verified([kind](Edited& image) { image.at(kind)[3] ^= 2; }, Sign::no) == Status::bad_checksum);
  CHECK(verified([](Edited& image) { image.config().max_seq -= 1; }, Sign::no) == Status::bad_checksum);
  // A weight that is legal on its own.
  CHECK(verified([](Edited& image) { image.tensor(Role::w_query)[0] = 5 + (image.tensor(Role::w_query)[0] == 5); },
                 Sign::no) == Status::bad_checksum);
}

TEST_CASE("C1 to C20 are asked of every stack; tests/runtime/config_test.cpp breaks each") {
  CHECK(configured([](StackConfig& c) { c.d_model = 0; }) == Status::bad_config);
  CHECK(configured([](StackConfig& c) { c.n_sinks = 1; }) == Status::feature_not_built);
  CHECK(configured([](StackConfig& c) { c.norm_epsilon = kSmallest, c.attention_scale = kLargest; }) == Status::ok);
  for (const std::size_t stack : {0u, 1u})
    CHECK(opened_two([=](Edited& image) { (&image.config())[stack].d_ff = 0; }) == Status::bad_config);
  CHECK(opened_two([](Edited& image) { (&image.config())[1].d_source += 1; }) == Status::bad_config);
}

TEST_CASE("C20: what this version does not carry is said in words") {
  StackConfig c = config_with_everything();
  c.n_sinks = 4;
  CHECK(quant::not_built(needs_of(c)) == "the model needs sinks, which this version does not carry");
  // The line that is offered keeps what the build has.
  const Needs gelu{kNoFeatures + Feature::gelu};
  const auto line = [&](const Features& built) {
    const std::string sentence = quant::not_built(gelu, built), begin = "the model needs gelu, which this build leaves out (-DHEED_FEATURES=";
    CHECK(sentence.compare(0, begin.size(), begin) == 0);
    return sentence.substr(std::min(begin.size(), sentence.size()));
  };
  CHECK(line(kLlamaFeatures + Feature::threads) == "kLlamaFeatures+Feature::gelu+Feature::threads)");
  CHECK(line(kDecoderFeatures) == "kDecoderFeatures+Feature::gelu)");
  CHECK(line(kAllFeatures - Feature::gelu - Feature::dense) == "kAllFeatures-Feature::dense)");
  // A contradiction that only a build with all features can tell from a need.
  CHECK(quant::not_built({}) == "the model's description contradicts itself in a part that this build leaves out");
}

TEST_CASE("D1: the directory has an entry for each tensor") {
  CHECK(configured([](StackConfig& c) { c.n_layers = 1; }) == Status::bad_tensor);
  CHECK(configured([](StackConfig& c) { c.n_layers = 4096; }) == Status::bad_tensor);
  CHECK(configured([](StackConfig& c) { c.tied_unembedding = 1; }) ==
        Status::bad_tensor);
  // Each bias makes its matrices longer, and those of the norms are tensors.
  for (int bit = 0; bit < 8; ++bit)
    CHECK(configured([bit](StackConfig& c) { c.biases ^= 1u << bit; }) == Status::bad_tensor);
  for (const int by : {32, 1, -1, -32}) {
    std::vector<SectionBytes> parts = whole_parts();
    parts[1].second.resize(parts[1].second.size() + static_cast<std::size_t>(by));
    CHECK(rebuilt(parts) == Status::bad_tensor);
  }
  CHECK(configured([](StackConfig& c) { c.flags &= ~kKeyOffset; }) == Status::bad_tensor);
}

TEST_CASE("D2: role, type, layer and stack") {
  const auto refused = [](auto edit) {
    return opened([&](Edited& image) { edit(image.tensor_entry(Role::w_key)); }) == Status::bad_tensor;
  };
  CHECK(refused([](TensorEntry& e) { e.role = Role::w_value_down; }));
  CHECK(refused([](TensorEntry& e) { e.role = static_cast<Role>(120); }));
  CHECK(refused([](TensorEntry& e) { e.type = ElementType::f32; }));
  CHECK(refused([](TensorEntry& e) { e.type = static_cast<ElementType>(9); }));
  CHECK(refused([](TensorEntry& e) { e.layer = 1; }));
  CHECK(refused([](TensorEntry& e) { e.stack = 1; }));
  const auto four_bits = [](Edited& image) { image.tensor_entry(Role::w_key).type = ElementType::s4; };
  CHECK(opened(four_bits) == Status::feature_not_built);
  Edited image = whole();
  four_bits(image);
  quant::refresh_checksums({image.bytes.data(), image.bytes.size()}, kernels_portable);
  Model model;
  CHECK(open(model, {image.bytes.data(), image.bytes.size()}, kernels_portable) == Status::feature_not_built);
  CHECK(quant::not_built(needs_of(model)) == "the model needs weights of four bits, which this version does not carry");
  CHECK(opened([](Edited& image) { image.tensor_entry(Role::ffn_gain).type = ElementType::s4; }) == Status::bad_tensor);
  CHECK(opened_two([](Edited& image) { image.tensor_entry(Role::w_key).stack = 1; }) == Status::bad_tensor);
  CHECK(opened_two([](Edited& image) { image.tensor_entry(Role::cross_w_key).stack = 0; }) == Status::bad_tensor);
  CHECK(opened_two([](Edited& image) { image.tensor_entry(Role::cross_w_key).role = Role::w_key; }) == Status::bad_tensor);
  CHECK(opened([](Edited& image) {
          std::swap(image.tensor_entry(Role::w_key), image.tensor_entry(Role::w_value_down));
        }) == Status::bad_tensor);
}

TEST_CASE("D3: rows, cols and group") {
  for (const Role role : {Role::token_embedding, Role::rotary_phases, Role::ffn_gain, Role::key_offset, Role::w_gate}) {
    const auto refused = [role](auto edit) {
      return opened([&](Edited& image) { edit(image.tensor_entry(role)); }) == Status::bad_tensor;
    };
    CHECK(refused([](TensorEntry& e) { e.rows += 1; }));
    CHECK(refused([](TensorEntry& e) { e.cols += 1; }));
    CHECK(refused([](TensorEntry& e) { e.cols = 0xFFFFFFFFu; }));
    CHECK(refused([](TensorEntry& e) { e.group = 64; }));
  }
}

TEST_CASE("D4: layouts") {
  const auto layout = [](Role role, int code) {
    return opened([=](Edited& image) { image.tensor_entry(role).layout = static_cast<Layout>(code); });
  };
  CHECK(layout(Role::token_embedding, 4) == Status::bad_tensor);
  CHECK(layout(Role::token_embedding, 255) == Status::bad_tensor);
  CHECK(layout(Role::w_down, 2) == Status::bad_tensor);
  const auto all_matrices = [](std::uint8_t code) {
    return opened(
        [code](Edited& image) {
          auto* entry = reinterpret_cast<TensorEntry*>(image.at(SectionKind::directory));
          for (std::size_t i = 0; i < image.section(SectionKind::directory).bytes / sizeof(TensorEntry); ++i)
            if (entry[i].type == ElementType::s8) entry[i].layout = static_cast<Layout>(code);
        },
        Sign::yes, Layout::pair);
  };
  CHECK(all_matrices(2) == Status::ok);
  CHECK(all_matrices(4) == Status::bad_tensor);
  CHECK(all_matrices(255) == Status::bad_tensor);
  CHECK(layout(Role::rotary_phases, 1) == Status::bad_tensor);
  CHECK(layout(Role::ffn_gain, 3) == Status::bad_tensor);
  CHECK(layout(Role::key_offset, 1) == Status::bad_tensor);
}

TEST_CASE("D5: reserved fields of an entry") {
  for (int i = 0; i < 2; ++i)
    CHECK(opened([i](Edited& image) { image.tensor_entry(Role::w_up).reserved[i] = 1; }) == Status::bad_tensor);
}

TEST_CASE("D6: tensors stand behind each other to the end of their section") {
  CHECK(opened([](Edited& image) { image.tensor_entry(Role::token_embedding).offset64 = 1; }) == Status::bad_tensor);
  CHECK(opened([](Edited& image) { image.tensor_entry(Role::w_up).offset64 += 1; }) == Status::bad_tensor);
  CHECK(opened([](Edited& image) { image.tensor_entry(Role::unembedding).offset64 = 0xFFFFFFFFu; }) ==
        Status::bad_tensor);
  CHECK(opened([](Edited& image) { image.tensor_entry(Role::w_up).bytes64 += 1; }) == Status::bad_tensor);
  CHECK(opened([](Edited& image) { image.tensor_entry(Role::ffn_gain).bytes64 -= 1; }) == Status::bad_tensor);
  const auto resize = [](int by) {
    return opened([by](Edited& image) {
      image.bytes.resize(image.bytes.size() + static_cast<std::size_t>(by));
      image.section(SectionKind::tensors).bytes += static_cast<std::uint64_t>(by);
      image.header().total_bytes += static_cast<std::uint64_t>(by);
    });
  };
  CHECK(resize(64) == Status::bad_tensor);
  CHECK(resize(1) == Status::bad_tensor);
  CHECK(resize(-1) == Status::bad_tensor);
  CHECK(resize(-64) == Status::bad_tensor);
}

TEST_CASE("D7: tensors that a reader may skip stand behind all others and within the section") {
  // Two of them, 128 and 64 bytes long.
  const auto with_optional = [](auto edit) {
    std::vector<SectionBytes> parts = whole_parts();
    std::vector<std::uint8_t>&directory = parts[1].second, &tensors = parts[4].second;
    TensorEntry extra[2] = {};
    extra[0].role = static_cast<Role>(0x80);
    extra[0].type = static_cast<ElementType>(77);  // nobody looks at what is not understood
    extra[0].offset64 = static_cast<std::uint32_t>(tensors.size() / 64);
    extra[0].bytes64 = 2;
    extra[1].role = static_cast<Role>(0xFF);
    extra[1].offset64 = extra[0].offset64 + 2;
    extra[1].bytes64 = 1;
    edit(extra);
    tensors.resize(tensors.size() + 192, 0x80);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(extra);
    directory.insert(directory.end(), bytes, bytes + sizeof extra);
    return rebuilt(parts);
  };
  CHECK(with_optional([](TensorEntry*) {}) == Status::ok);
  CHECK(with_optional([](TensorEntry* e) { e[0].role = static_cast<Role>(0x7F); }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[1].role = Role::w_query; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[0].offset64 += 1; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[1].offset64 -= 1; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[0].bytes64 = 1; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[1].bytes64 = 2; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[1].bytes64 = 0; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[1].bytes64 = 0xFFFFFFFFu; }) == Status::bad_tensor);
  CHECK(with_optional([](TensorEntry* e) { e[0].bytes64 = e[1].bytes64 = 0x80000000u, e[1].offset64 = 0; }) == Status::bad_tensor);
}

TEST_CASE("1.4: gaps inside the tensor section are not looked at, but its CRC-32C covers them") {
  // Behind the weights of a matrix, behind its last part, and behind a vector.
  Edited image = whole();
  const TensorEntry& gate = image.tensor_entry(Role::w_gate);
  const TensorBytes at = tensor_bytes(Layout::row, gate.rows, gate.cols, gate.group, true);
  const std::size_t rows = padded_rows(Layout::row, gate.rows), weights = rows * padded_cols(Layout::row, gate.cols);
  const std::size_t parts = at.multipliers + rows * group_count(gate.cols, gate.group);
  const struct { Role role; std::size_t begin, end; } gaps[] = {
      {Role::w_gate, weights, at.scales}, {Role::w_gate, parts, at.total}, {Role::ffn_gain, 4 * 40, 192}};
  std::uint32_t bytes = 0;
  for (const auto& gap : gaps)
    for (std::size_t i = gap.begin; i < gap.end; ++i, ++bytes) {
      const auto fill = [&](Edited& e) { e.tensor(gap.role)[i] = 0xFF; };
      REQUIRE(opened(fill) == Status::ok);
      REQUIRE(verified(fill) == Status::ok);
      REQUIRE(verified(fill, Sign::no) == Status::bad_checksum);
    }
  CHECK(bytes == 32 + 24 + 32);
}

TEST_CASE("V1: gains, and biases of norms") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const Role role : {Role::ffn_gain, Role::final_gain, Role::ffn_norm_bias, Role::final_norm_bias}) {
    const auto gain = [role](float x) {
      return opened([=](Edited& image) { reinterpret_cast<float*>(image.tensor(role))[39] = x; });
    };
    for (const float x : {kBelow, -kBelow, 1e-45f, kAbove, -kAbove, nan, infinity, -infinity})
      CHECK(gain(x) == Status::bad_value);
    for (const float x : {0.0f, -0.0f, kSmallest, -kSmallest, kLargest, -kLargest}) CHECK(gain(x) == Status::ok);
  }
}

TEST_CASE("V2: scales") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const Role role : {Role::token_embedding, Role::w_gate, Role::w_down, Role::unembedding}) {
    // 21 rows are padded to 24, and padded rows count.
    for (const std::uint32_t row : {0u, role == Role::unembedding ? 23u : 20u}) {
      const auto scale = [=](float x) { return opened([=](Edited& image) { image.scales(role)[row] = x; }); };
      for (const float x : {0.0f, -1.0f, kBelow, kAbove, nan, infinity}) CHECK(scale(x) == Status::bad_value);
      for (const float x : {kSmallest, kLargest}) CHECK(scale(x) == Status::ok);
    }
  }
}

TEST_CASE("V2: biases") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const Role role : {Role::w_query, Role::w_key, Role::w_value_down, Role::w_value_up, Role::w_gate, Role::w_up,
                          Role::w_down, Role::unembedding}) {
    for (const std::uint32_t row : {0u, role == Role::unembedding ? 23u : 19u}) {  // 23 is padding
      const auto bias = [=](float x) { return opened([=](Edited& image) { image.bias(role)[row] = x; }); };
      for (const float x : {kBelow, -kBelow, 1e-45f, kAbove, -kAbove, nan, infinity, -infinity})
        CHECK(bias(x) == Status::bad_value);
      for (const float x : {0.0f, -0.0f, kSmallest, -kSmallest, kLargest, -kLargest}) CHECK(bias(x) == Status::ok);
    }
  }
}

TEST_CASE("V3: group multipliers") {
  for (const Layout layout : {Layout::row, Layout::packed}) {
    const auto multiplier = [layout](std::size_t i, std::uint8_t x) {
      return opened([=](Edited& image) { image.multipliers(Role::w_gate)[i] = x; }, Sign::yes, layout);
    };
    // 36 rows of two groups; packed rows are padded to 48.
    for (const std::size_t i : {std::size_t{0}, std::size_t{71}, layout == Layout::packed ? std::size_t{95} : 1}) {
      CHECK(multiplier(i, 0) == Status::bad_value);
      CHECK(multiplier(i, 16) == Status::bad_value);
      CHECK(multiplier(i, 255) == Status::bad_value);
      CHECK(multiplier(i, 15) == Status::ok);
    }
  }
}

TEST_CASE("V4: key offsets") {
  const auto exponent = [](int e) {
    return opened([e](Edited& image) { image.tensor(Role::key_offset)[2 * 20 + 1] = static_cast<std::uint8_t>(e); });
  };
  CHECK(exponent(-40) == Status::bad_value);
  CHECK(exponent(42) == Status::bad_value);
  CHECK(exponent(-39) == Status::ok);
  CHECK(exponent(41) == Status::ok);
  const auto value = [](std::int16_t v) {
    return opened([v](Edited& image) { reinterpret_cast<std::int16_t*>(image.tensor(Role::key_offset))[19] = v; });
  };
  CHECK(value(-32768) == Status::bad_value);
  CHECK(value(-32767) == Status::ok);
}

TEST_CASE("V5: weights, found by verify") {
  for (const Layout layout : {Layout::row, Layout::packed, Layout::block64}) {
    const auto weight = [layout](Role role, std::uint8_t w) {
      return verified([=](Edited& image) { image.tensor(role)[17] = w; }, Sign::yes, layout);
    };
    for (const Role role : {Role::token_embedding, Role::w_gate, Role::unembedding}) {
      CHECK(weight(role, 0x80) == Status::bad_value);
      CHECK(weight(role, 0x81) == Status::ok);
    }
  }
  const auto pair = [](std::uint8_t even, std::uint8_t odd) {
    return verified(
        [=](Edited& image) {
          image.tensor(Role::w_up)[16] = even;
          image.tensor(Role::w_up)[17] = odd;
        },
        Sign::yes, Layout::pair);
  };
  CHECK(pair(0x80, 0x00) == Status::bad_value);
  CHECK(pair(0x01, 0x80) == Status::bad_value);  // an odd weight of -128
  CHECK(pair(0x00, 0x80) == Status::bad_value);
  CHECK(pair(0xFF, 0x7F) == Status::bad_value);  // an odd weight of 128
  CHECK(pair(0xFF, 0x80) == Status::ok);         // -127, and -1 borrows
  CHECK(pair(0x7F, 0x7F) == Status::ok);
}

TEST_CASE("V6: biases of scores; rotary phases may be anything") {
  StackConfig alibi = config_with_everything();
  alibi.position = Position::alibi;
  alibi.rotary_dims = 0;
  const auto slope = [&](std::int32_t x) {
    return opened_of(alibi, [=](Edited& image) { reinterpret_cast<std::int32_t*>(image.tensor(Role::score_bias))[3] = x; });
  };
  CHECK(slope(-1) == Status::bad_value);
  CHECK(slope(std::numeric_limits<std::int32_t>::min()) == Status::bad_value);
  CHECK(slope(0) == Status::ok);
  CHECK(slope(std::numeric_limits<std::int32_t>::max()) == Status::ok);
  StackConfig relative = alibi;
  relative.position = Position::relative;
  relative.n_distances = 7;
  const auto bias = [&](std::int32_t x) {
    return opened_of(relative,
                     [=](Edited& image) { reinterpret_cast<std::int32_t*>(image.tensor(Role::score_bias))[4 * 7 - 1] = x; });
  };
  for (const std::int32_t sign : {1, -1}) {
    CHECK(bias(sign * kMaxScoreBias) == Status::ok);
    CHECK(bias(sign * (kMaxScoreBias + 1)) == Status::bad_value);
  }
  CHECK(bias(std::numeric_limits<std::int32_t>::min()) == Status::bad_value);
  // One bias per head is none of ALiBi's slopes.
  relative.n_distances = 1;
  CHECK(opened_of(relative, [](Edited& image) { reinterpret_cast<std::int32_t*>(image.tensor(Role::score_bias))[3] = -1; }) ==
        Status::ok);
  for (const std::uint32_t phase : {0u, 0xFFFFFFFFu})
    CHECK(opened([=](Edited& image) { reinterpret_cast<std::uint32_t*>(image.tensor(Role::rotary_phases))[0] = phase; }) ==
          Status::ok);
}
