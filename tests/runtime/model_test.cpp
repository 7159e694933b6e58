// SPDX-License-Identifier: Apache-2.0
// model_test.cpp: every rule of SPEC.md, part 5, broken once. Checksums are mended after each edit, so that the rule
// itself has to notice.
#include <cstring>
#include <functional>
#include <limits>

#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using heed::quant::ImageBytes;

const Kernels& portable() { return *find_kernels("portable"); }

ImageHeader& header(ImageBytes& image) { return *reinterpret_cast<ImageHeader*>(image.data()); }
SectionEntry& section(ImageBytes& image, std::uint32_t i) {
  return reinterpret_cast<SectionEntry*>(image.data() + sizeof(ImageHeader))[i];
}
SectionEntry& section(ImageBytes& image, SectionKind kind) {
  std::uint32_t i = 0;
  while (section(image, i).kind != static_cast<std::uint32_t>(kind)) ++i;
  return section(image, i);
}
std::uint8_t* bytes_of(ImageBytes& image, SectionKind kind) { return image.data() + section(image, kind).offset; }
ModelConfig& config(ImageBytes& image) { return *reinterpret_cast<ModelConfig*>(bytes_of(image, SectionKind::config)); }
TensorEntry& entry(ImageBytes& image, Role role, std::uint32_t layer = 0) {
  auto* directory = reinterpret_cast<TensorEntry*>(bytes_of(image, SectionKind::directory));
  return directory[tensor_index(config(image), role, layer)];
}
std::uint8_t* tensor(ImageBytes& image, Role role, std::uint32_t layer = 0) {
  return bytes_of(image, SectionKind::tensors) + std::size_t{entry(image, role, layer).offset64} * 64;
}
// The parts behind a matrix's weights.
TensorBytes parts(ImageBytes& image, Role role) {
  const TensorEntry& e = entry(image, role);
  return tensor_bytes(e.layout, e.rows, e.cols, e.group, false);
}
float* scales(ImageBytes& image, Role role) { return reinterpret_cast<float*>(tensor(image, role) + parts(image, role).scales); }

Status open_status(const ImageBytes& image) {
  Model model;
  return open(model, bytes(image), portable());
}

// Groups, key offsets, an untied head and some folded gains: everything that can be wrong is there.
const ImageBytes& base_image() {
  static const ImageBytes image = random_image(edge_configs()[1].config, Layout::packed, 83);
  return image;
}

// What an image with this edit, and with mended checksums, is refused with.
Status edited(const std::function<void(ImageBytes&)>& edit, bool mend = true) {
  ImageBytes image = base_image();
  edit(image);
  if (mend) quant::refresh_checksums({image.data(), image.size()}, portable());
  return open_status(image);
}
Status with_config(const std::function<void(ModelConfig&)>& edit) {
  return edited([&](ImageBytes& image) { edit(config(image)); });
}

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
// Each outside of [2^-40, 2^40].
constexpr float kBadScales[] = {0.0f, -1.0f, 9.0e-13f, 1.2e12f, kInfinity, kNan, 1e-42f};

}  // namespace

TEST_CASE("good images open and verify, in every layout, and every table reads them alike", "[model]") {
  for (const NamedConfig& c : edge_configs()) {
    for (int layout = 0; layout < kLayoutCount; ++layout) {
      const ImageBytes image = random_image(c.config, static_cast<Layout>(layout), 85);
      for (const Kernels* k : runnable_kernels()) {
        INFO(k->traits.name << ", " << c.name << ", layout " << layout);
        Model model;
        REQUIRE(open(model, bytes(image), *k) == Status::ok);
        CHECK(verify(model, *k) == Status::ok);
        CHECK(std::memcmp(&model.config(), &c.config, sizeof(ModelConfig)) == 0);
        CHECK(static_cast<int>(model.layout()) == layout);
        CHECK(model.tokenizer().empty());
        CHECK(std::string(model.metadata().begin(), model.metadata().end()) == "name=random\n");
        CHECK(model.image().size() == image.size());
      }
    }
  }
}

TEST_CASE("bytes behind the image are not part of it", "[model]") {
  ImageBytes image = base_image();
  image.resize(image.size() + 100, 0xEE);
  Model model;
  REQUIRE(open(model, bytes(image), portable()) == Status::ok);
  CHECK(model.image().size() == base_image().size());
  CHECK(verify(model, portable()) == Status::ok);
}

TEST_CASE("memory that is no image", "[model]") {
  Model model;
  CHECK(open(model, {}, portable()) == Status::bad_argument);
  ImageBytes image(base_image().size() + 64);
  for (const std::size_t off : {1u, 4u, 32u, 63u}) {
    std::memcpy(image.data() + off, base_image().data(), base_image().size());
    CHECK(open(model, {image.data() + off, base_image().size()}, portable()) == Status::misaligned);
  }
}

TEST_CASE("the header's rules", "[model][rules]") {
  for (std::size_t i = 0; i < 8; ++i)
    CHECK(edited([=](ImageBytes& m) { m[i] ^= 1; }) == Status::not_an_image);
  for (const std::uint32_t version : {0u, 2u, 0xFFFFFFFFu})
    CHECK(edited([=](ImageBytes& m) { header(m).version = version; }) == Status::version_unsupported);
  CHECK(edited([](ImageBytes& m) { header(m).total_bytes += 1; }) == Status::truncated);
  CHECK(edited([](ImageBytes& m) { header(m).total_bytes = ~std::uint64_t{0}; }) == Status::truncated);
  CHECK(edited([](ImageBytes& m) { header(m).total_bytes = 0; }) == Status::truncated);
  CHECK(edited([](ImageBytes& m) { header(m).total_bytes -= 1; }) == Status::bad_section);
  for (const std::uint32_t n : {0u, 2u, 17u, 0xFFFFFFFFu})
    CHECK(edited([=](ImageBytes& m) { header(m).n_sections = n; }, false) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { header(m).n_sections = 3; }) == Status::bad_section);
  for (std::size_t i = 0; i < 9; ++i)
    CHECK(edited([=](ImageBytes& m) { header(m).reserved[i] = 1; }) == Status::bad_section);
  // Not mended: the checksum notices.
  CHECK(edited([](ImageBytes& m) { header(m).header_crc ^= 1; }, false) == Status::not_an_image);
  CHECK(edited([](ImageBytes& m) { header(m).reserved[3] = 1; }, false) == Status::not_an_image);
  CHECK(edited([](ImageBytes& m) { section(m, 1).crc ^= 1; }, false) == Status::not_an_image);
}

TEST_CASE("the section table's rules", "[model][rules]") {
  for (const std::uint32_t kind : {0u, 1u, 6u, 0xFFFFFFFFu})  // unknown, or repeated
    CHECK(edited([=](ImageBytes& m) { section(m, 1).kind = kind; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { std::swap(section(m, 0).kind, section(m, 1).kind); }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 0).reserved = 1; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 1).offset += 64; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 1).offset -= 64; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 1).offset += 1; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 1).bytes = 0; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 3).bytes += 1; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 3).bytes = ~std::uint64_t{0}; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 3).bytes = ~std::uint64_t{63} - section(m, 3).offset; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) { section(m, 3).bytes -= 64; }) == Status::bad_section);
  // A section that must be there is called something else: directory or tensors are missing.
  CHECK(edited([](ImageBytes& m) { section(m, SectionKind::directory).kind = 3; }) == Status::bad_section);
  CHECK(edited([](ImageBytes& m) {
          m.resize(static_cast<std::size_t>(section(m, 2).offset + section(m, 2).bytes));
          header(m).n_sections = 3;
          header(m).total_bytes = m.size();
        }) == Status::bad_section);
  // Bytes between sections are 0, although no checksum covers them.
  CHECK(edited([](ImageBytes& m) {
          m[static_cast<std::size_t>(section(m, SectionKind::tensors).offset) - 1] = 1;
        }) == Status::bad_section);
}

TEST_CASE("the configuration's rules", "[model][rules]") {
  using C = ModelConfig;
  const auto bad = [](const std::function<void(C&)>& edit) { return with_config(edit) == Status::bad_config; };
  const auto missing = [](const std::function<void(C&)>& edit) { return with_config(edit) == Status::feature_not_built; };
  // Enumerations.
  CHECK(bad([](C& c) { c.architecture = static_cast<Architecture>(3); }));
  CHECK(bad([](C& c) { c.input = static_cast<Input>(2); }));
  CHECK(bad([](C& c) { c.output = static_cast<Output>(3); }));
  CHECK(bad([](C& c) { c.norm = static_cast<Norm>(2); }));
  CHECK(bad([](C& c) { c.norm_placement = static_cast<NormPlacement>(2); }));
  CHECK(bad([](C& c) { c.activation = static_cast<Activation>(4); }));
  CHECK(bad([](C& c) { c.gated = 2; }));
  CHECK(bad([](C& c) { c.position = static_cast<Position>(6); }));
  CHECK(bad([](C& c) { c.rotary_pairing = static_cast<RotaryPairing>(2); }));
  CHECK(bad([](C& c) { c.mask = static_cast<Mask>(2); }));
  CHECK(bad([](C& c) { c.tied_unembedding = 2; }));
  CHECK(bad([](C& c) { c.flags |= 32; }));
  CHECK(bad([](C& c) { c.biases |= 64; }));
  // Reserved.
  CHECK(bad([](C& c) { c.reserved0 = 1; }));
  CHECK(bad([](C& c) { c.reserved1 = 1; }));
  for (std::size_t i = 0; i < 9; ++i) CHECK(bad([=](C& c) { c.reserved2[i] = 1; }));
  // Sizes.
  for (const std::uint32_t n : {0u, 65537u}) CHECK(bad([=](C& c) { c.d_model = n; }));
  for (const std::uint32_t n : {0u, 131073u}) CHECK(bad([=](C& c) { c.d_ff = n; }));
  for (const std::uint32_t n : {0u, 4097u}) CHECK(bad([=](C& c) { c.n_layers = n; }));
  CHECK(bad([](C& c) { c.n_encoder_layers = 4097; }));
  for (const std::uint32_t n : {0u, 1025u, 0x80000000u}) CHECK(bad([=](C& c) { c.n_heads = n; }));
  for (const std::uint32_t n : {0u, 2u, 6u}) CHECK(bad([=](C& c) { c.n_kv_heads = n; }));  // of 3 heads
  for (const std::uint32_t n : {0u, 257u}) CHECK(bad([=](C& c) { c.head_dim = n; }));
  CHECK(bad([](C& c) { c.n_heads = 1024, c.n_kv_heads = 1, c.head_dim = 256; }));
  for (const std::uint32_t n : {0u, (1u << 20) + 1}) CHECK(bad([=](C& c) { c.vocab_size = n; }));
  for (const std::uint32_t n : {0u, (1u << 20) + 1}) CHECK(bad([=](C& c) { c.max_seq = n; }));
  CHECK(bad([](C& c) { c.window = c.max_seq + 1; }));
  CHECK(bad([](C& c) { c.n_sinks = c.max_seq + 1; }));
  CHECK(bad([](C& c) { c.d_input = 1; }));
  CHECK(bad([](C& c) { c.input = Input::features, c.d_input = 0; }));
  for (const std::uint32_t n : {0u, 3u, 22u}) CHECK(bad([=](C& c) { c.rotary_dims = n; }));  // head_dim is 20
  CHECK(bad([](C& c) { c.position = Position::none; }));
  for (const float x : kBadScales) {
    CHECK(bad([=](C& c) { c.norm_epsilon = x; }));
    CHECK(bad([=](C& c) { c.attention_scale = x; }));
    CHECK(bad([=](C& c) { c.embedding_scale = x; }));
  }
  for (int i = 0; i < kSiteCount; ++i)
    for (const std::uint16_t group : {std::uint16_t{1}, std::uint16_t{48}, std::uint16_t{512}})
      CHECK(bad([=](C& c) { c.groups[i] = group; }));
  // What this version does not carry.
  CHECK(missing([](C& c) { c.architecture = Architecture::encoder; }));
  CHECK(missing([](C& c) { c.input = Input::features, c.d_input = 4; }));
  CHECK(missing([](C& c) { c.output = Output::hidden_states; }));
  CHECK(missing([](C& c) { c.norm = Norm::layer; }));
  CHECK(missing([](C& c) { c.norm_placement = NormPlacement::after; }));
  CHECK(missing([](C& c) { c.activation = Activation::relu; }));
  CHECK(missing([](C& c) { c.gated = 0; }));
  CHECK(missing([](C& c) { c.position = Position::none, c.rotary_dims = 0; }));
  CHECK(missing([](C& c) { c.mask = Mask::bidirectional; }));
  CHECK(missing([](C& c) { c.biases = kBiasDown; }));
  CHECK(missing([](C& c) { c.window = 4; }));
  CHECK(missing([](C& c) { c.n_sinks = 1; }));
  CHECK(missing([](C& c) { c.n_encoder_layers = 1; }));
  CHECK(missing([](C& c) { c.flags |= kQueryKeyNorm; }));
  CHECK(missing([](C& c) { c.embedding_scale = 2.0f; }));
  // A section of another size.
  CHECK(edited([](ImageBytes& m) { section(m, SectionKind::config).bytes -= 1; }) == Status::bad_section);
}

TEST_CASE("the directory's rules", "[model][rules]") {
  const auto bad = [](const std::function<void(ImageBytes&)>& edit) { return edited(edit) == Status::bad_tensor; };
  for (const Role role : {Role::token_embedding, Role::rotary_phases, Role::w_query, Role::key_offset, Role::ffn_gain,
                          Role::unembedding}) {
    INFO("role " << static_cast<int>(role));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).role = static_cast<Role>(14); }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).type = static_cast<ElementType>(entry(m, role).type == ElementType::s8 ? 1 : 0); }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).layout = static_cast<Layout>(4); }));
    // Mixed with another, or a layout for a vector. The first matrix decides, so its own is never the wrong one.
    if (role != Role::token_embedding) CHECK(bad([=](ImageBytes& m) { entry(m, role).layout = Layout::pair; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).reserved0 = 1; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).layer += 1; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).group ^= 32; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).rows += 1; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).cols += 1; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).offset64 += 1; }));
    CHECK(bad([=](ImageBytes& m) { entry(m, role).offset64 = 0xFFFFFFFFu; }));
    for (std::size_t i = 0; i < 3; ++i) CHECK(bad([=](ImageBytes& m) { entry(m, role).reserved[i] = 1; }));
  }
  // More or fewer tensors than the configuration has.
  CHECK(with_config([](ModelConfig& c) { c.n_layers += 1; }) == Status::bad_tensor);
  CHECK(with_config([](ModelConfig& c) { c.tied_unembedding = 1; }) == Status::bad_tensor);
  CHECK(with_config([](ModelConfig& c) { c.flags ^= kKeyOffset; }) == Status::bad_tensor);
  // Shapes that do not follow from it.
  CHECK(with_config([](ModelConfig& c) { c.d_ff += 1; }) == Status::bad_tensor);
  CHECK(with_config([](ModelConfig& c) { c.vocab_size = 1u << 20; }) == Status::bad_tensor);
  CHECK(with_config([](ModelConfig& c) { c.groups[0] = 64; }) == Status::bad_tensor);
  // The tensors end before the section does, or after it.
  CHECK(bad([](ImageBytes& m) {
    m.resize(m.size() + 64);
    section(m, SectionKind::tensors).bytes += 64;
    header(m).total_bytes += 64;
  }));
  CHECK(bad([](ImageBytes& m) {
    m.resize(m.size() - 64);
    section(m, SectionKind::tensors).bytes -= 64;
    header(m).total_bytes -= 64;
  }));
}

TEST_CASE("the values' rules", "[model][rules]") {
  const auto bad = [](const std::function<void(ImageBytes&)>& edit) { return edited(edit) == Status::bad_value; };
  const auto fine = [](const std::function<void(ImageBytes&)>& edit) { return edited(edit) == Status::ok; };
  for (const Role role : {Role::token_embedding, Role::w_value_down, Role::w_down, Role::unembedding}) {
    INFO("role " << static_cast<int>(role));
    for (const float x : kBadScales) {
      CHECK(bad([=](ImageBytes& m) { scales(m, role)[0] = x; }));
      CHECK(bad([=](ImageBytes& m) { scales(m, role)[padded_rows(Layout::packed, entry(m, role).rows) - 1] = x; }));
    }
    CHECK(fine([=](ImageBytes& m) { scales(m, role)[0] = kSmallest; }));
    CHECK(fine([=](ImageBytes& m) { scales(m, role)[0] = kLargest; }));
  }
  for (const std::uint8_t multiplier : {std::uint8_t{0}, std::uint8_t{16}, std::uint8_t{255}}) {
    CHECK(bad([=](ImageBytes& m) { tensor(m, Role::w_up)[parts(m, Role::w_up).multipliers] = multiplier; }));
    CHECK(bad([=](ImageBytes& m) {  // the last one, of a padded row
      const TensorEntry& e = entry(m, Role::w_up);
      const std::size_t n = padded_rows(e.layout, e.rows) * group_count(e.cols, e.group);
      tensor(m, Role::w_up)[parts(m, Role::w_up).multipliers + n - 1] = multiplier;
    }));
  }
  for (const float x : {9.0e-13f, -9.0e-13f, 1.2e12f, -1.2e12f, kInfinity, -kInfinity, kNan})
    CHECK(bad([=](ImageBytes& m) { reinterpret_cast<float*>(tensor(m, Role::ffn_gain))[79] = x; }));
  for (const float x : {0.0f, -1.0f, kLargest, -kSmallest})
    CHECK(fine([=](ImageBytes& m) { reinterpret_cast<float*>(tensor(m, Role::ffn_gain))[79] = x; }));
  CHECK(bad([](ImageBytes& m) { reinterpret_cast<std::int16_t*>(tensor(m, Role::key_offset))[19] = -32768; }));
  for (const int exponent : {-40, 42, 127, -128})
    CHECK(bad([=](ImageBytes& m) {
      const ModelConfig& c = config(m);
      reinterpret_cast<std::int8_t*>(tensor(m, Role::key_offset, 1))[2 * c.n_kv_heads * c.head_dim] = static_cast<std::int8_t>(exponent);
    }));
}

TEST_CASE("verify reads every byte", "[model][rules]") {
  Model model;
  ImageBytes image = base_image();
  REQUIRE(open(model, bytes(image), portable()) == Status::ok);
  // One bit of each section.
  for (std::uint32_t i = 0; i < header(image).n_sections; ++i) {
    const auto at = static_cast<std::size_t>(section(image, i).offset + section(image, i).bytes - 1);
    image[at] ^= 0x10;
    CHECK(verify(model, portable()) == Status::bad_checksum);
    image[at] ^= 0x10;
  }
  CHECK(verify(model, portable()) == Status::ok);
  // A weight of -128, or in `pair` whatever decodes to one outside of -127..127; the checksums are right.
  for (int l = 0; l < kLayoutCount; ++l) {
    const auto layout = static_cast<Layout>(l);
    const ImageBytes good = random_image(edge_configs()[1].config, layout, 87);
    for (const Role role : {Role::token_embedding, Role::w_down}) {
      for (const std::size_t pair : {std::size_t{0}, std::size_t{64}}) {
        const auto verified = [&](int even, int odd) {
          ImageBytes edited_image = good;
          std::uint8_t* w = tensor(edited_image, role) + pair;
          w[0] = static_cast<std::uint8_t>(even);
          w[1] = static_cast<std::uint8_t>(odd);
          quant::refresh_checksums({edited_image.data(), edited_image.size()}, portable());
          REQUIRE(open(model, bytes(edited_image), portable()) == Status::ok);
          return verify(model, portable());
        };
        INFO("layout " << l);
        CHECK(verified(127, 127) == Status::ok);
        CHECK(verified(-128, 0) == Status::bad_value);
        CHECK(verified(0, -128) == Status::bad_value);
        CHECK(verified(-1, 127) == (layout == Layout::pair ? Status::bad_value : Status::ok));  // 128
        CHECK(verified(-1, -128) == (layout == Layout::pair ? Status::ok : Status::bad_value));  // -127
      }
    }
  }
}

TEST_CASE("an image cut anywhere is refused", "[model][rules]") {
  // The smallest one, so that every length can be tried.
  const ImageBytes image = random_image(edge_configs()[5].config, Layout::row, 89);
  ImageBytes mended = image;
  for (std::size_t n = 0; n < image.size(); ++n) {
    // In memory of exactly that size, so that a sanitizer sees every byte too far.
    const ImageBytes cut(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(n));
    const Status status = open_status(cut);
    if (n && status != Status::truncated) FAIL_CHECK(n << " bytes: " << to_string(status));
    // The same with a header that agrees.
    if (n < sizeof(ImageHeader)) continue;
    ImageBytes agreeing = cut;
    header(agreeing).total_bytes = n;
    if (n >= sizeof(ImageHeader) + header(agreeing).n_sections * sizeof(SectionEntry))
      quant::refresh_checksums({agreeing.data(), agreeing.size()}, portable());
    if (open_status(agreeing) == Status::ok) FAIL_CHECK(n << " bytes open");
  }
}
