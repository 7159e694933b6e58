// SPDX-License-Identifier: Apache-2.0
// model_test.cpp: good images open on every table, tensors are views of them, and an image cut anywhere is refused. The
// rules of SPEC.md, part 5, are broken one by one in tests/quant/image_rules_test.cpp.
#include <cstring>

#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using heed::quant::ImageBytes;

const Kernels& portable() { return *find_kernels("portable"); }

ImageHeader& header(ImageBytes& image) { return *reinterpret_cast<ImageHeader*>(image.data()); }

Status open_status(const ImageBytes& image) {
  Model model;
  return open(model, bytes(image), portable());
}

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
        CHECK(std::memcmp(&model.config().main(), &c.config, sizeof(StackConfig)) == 0);
        CHECK(static_cast<int>(model.layout()) == layout);
        CHECK(model.tokenizer().empty());
        CHECK(std::string(model.metadata().begin(), model.metadata().end()) == "name=random\n");
        CHECK(model.image().size() == image.size());
      }
    }
  }
}

TEST_CASE("two stacks and a classifier open in every layout, with every tensor where the writer put it", "[model]") {
  for (const ModelConfig& config : {two_stacks_config(), ModelConfig(classifier_config())}) {
    for (int layout = 0; layout < kLayoutCount; ++layout) {
      const ImageBytes image = random_image(config, static_cast<Layout>(layout), 91);
      Model model;
      REQUIRE(open(model, bytes(image), portable()) == Status::ok);
      CHECK(verify(model, portable()) == Status::ok);
      CHECK(model.config().n_stacks == config.n_stacks);
      std::uint32_t index = 0;
      for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
        CHECK(std::memcmp(&model.config().stacks[stack], &config.stacks[stack], sizeof(StackConfig)) == 0);
        for_each_slot(config.stacks[stack], [&](const TensorSlot& slot) {
          const TensorEntry& e = model.entry(index++);
          CHECK((e.role == slot.role && e.stack == stack && e.layer == slot.layer && e.rows == slot.rows));
          CHECK(model.has(slot.role, stack));
          CHECK(model.floats(slot.role, slot.layer, stack) == static_cast<const void*>(
              model.section(SectionKind::tensors).data() + std::size_t{e.offset64} * 64));
          if (slot.type == ElementType::s8) {
            const Tensor t = model.tensor(slot.role, slot.layer, stack);
            CHECK((t.rows == slot.rows && t.cols == slot.cols && t.group == slot.group && (t.bias != nullptr) == slot.bias));
          }
        });
      }
      CHECK(index == model.n_entries());
      CHECK(!model.has(Role::cross_w_query, 0));
    }
  }
}

TEST_CASE("tensors are views of what was written", "[model]") {
  for (const NamedConfig& c : edge_configs()) {
    for (int layout = 0; layout < kLayoutCount; ++layout) {
      INFO(c.name << ", layout " << layout);
      const ImageBytes image = random_image(c.config, static_cast<Layout>(layout), 87);
      const ImageBytes rows = random_image(c.config, Layout::row, 87);
      Model model, row_model;
      REQUIRE(open(model, bytes(image), portable()) == Status::ok);
      REQUIRE(open(row_model, bytes(rows), portable()) == Status::ok);
      const auto inside = [&](const void* p) {
        return static_cast<const std::uint8_t*>(p) >= image.data() &&
               static_cast<const std::uint8_t*>(p) < image.data() + image.size();
      };
      for (const Role role : {Role::token_embedding, Role::w_query, Role::w_key, Role::w_value_down, Role::w_value_up,
                              Role::w_gate, Role::w_up, Role::w_down, Role::unembedding, Role::position_embedding}) {
        if (!model.has(role)) continue;
        const std::uint32_t layer = role >= Role::w_query && role <= Role::w_down ? c.config.n_layers - 1 : 0;
        const Tensor t = model.tensor(role, layer), r = row_model.tensor(role, layer);
        CHECK(inside(t.weights));
        CHECK(reinterpret_cast<std::uintptr_t>(t.weights) % 64 == 0);
        CHECK(t.rows == r.rows);
        CHECK(t.cols == r.cols);
        CHECK(t.group == r.group);
        CHECK(std::memcmp(t.scales, r.scales, 4 * t.rows) == 0);
        std::uint32_t wrong = 0;
        const std::uint32_t groups = group_count(t.cols, t.group);
        for (std::uint32_t i = 0; i < t.rows; ++i) {
          for (std::uint32_t k = 0; k < t.cols; ++k) wrong += weight_at(t, i, k) != weight_at(r, i, k);
          for (std::uint32_t g = 0; g < groups; ++g)
            wrong += t.multipliers[multiplier_index(t.layout, groups, i, g)] !=
                     r.multipliers[multiplier_index(r.layout, groups, i, g)];
        }
        CHECK(wrong == 0);
      }
      if (model.has(Role::key_offset)) {
        for (std::uint32_t head = 0; head < c.config.n_kv_heads; ++head) {
          const KeyOffset o = model.key_offset(c.config.n_layers - 1, head);
          CHECK(inside(o.values));
          CHECK(std::memcmp(o.values, row_model.key_offset(c.config.n_layers - 1, head).values,
                            2 * c.config.head_dim) == 0);
          CHECK(o.exponent == row_model.key_offset(c.config.n_layers - 1, head).exponent);
          CHECK(o.exponent >= -3);
          CHECK(o.exponent <= 1);
        }
      }
    }
  }
}

TEST_CASE("an image cut anywhere is refused", "[model][rules]") {
  // The smallest one, so that every length can be tried.
  const ImageBytes image = random_image(edge_configs()[edge_configs().size() - 1].config, Layout::row, 89);
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
