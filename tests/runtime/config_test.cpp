// SPDX-License-Identifier: Apache-2.0
// config_test.cpp: rules C1 to C20 of SPEC.md, part 5, each broken alone. What is refused stands beside the nearest thing that
// is not, so that no test passes because of another rule.
#include <limits>
#include <type_traits>

#include "runtime/numerics.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"

namespace {

using namespace heed;

StackConfig decoder() {
  StackConfig c = test::llama_config(40, 36, 4, 4, 2, 10, 21, 64);
  c.tied_unembedding = 0;
  return c;
}

// From tokens to classes: the first position's vector through a dense layer.
StackConfig classifier() {
  StackConfig c = decoder();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.pooling = Pooling::first;
  c.n_outputs = 5;
  c.dense = 1;
  c.d_dense = 24;
  c.dense_activation = Activation::tanh;
  return c;
}

// From frames to vectors, the first of two stacks.
StackConfig listener() {
  StackConfig c = decoder();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.input = Input::convolved;
  c.vocab_size = c.n_outputs = 0;
  c.d_input = 8;
  c.second_convolution = 1;
  c.strides[0] = 1;
  c.strides[1] = 2;
  c.output = Output::vectors;
  return c;
}

StackConfig speaker() {
  StackConfig c = decoder();
  c.cross_attention = 1;
  c.d_source = 40;
  c.cross_scale = 0.25f;
  return c;
}

ModelConfig two() {
  ModelConfig m;
  m.n_stacks = 2;
  m.stacks[0] = listener();
  m.stacks[1] = speaker();
  return m;
}

template <class Edit>
Status stack(StackConfig c, Edit edit) {
  edit(c);
  return check_stack(c);
}
template <class Edit>
bool refused(const StackConfig& c, Edit edit) {
  return stack(c, edit) == Status::bad_config;
}
template <class Edit>
bool accepted(const StackConfig& c, Edit edit) {
  return stack(c, edit) == Status::ok;
}
template <class Edit>
Status model(ModelConfig m, Edit edit) {
  edit(m);
  return check_config(m);
}

}  // namespace

TEST_CASE("the descriptions that rules are broken in are accepted", "[config]") {
  CHECK(check_config(decoder()) == Status::ok);
  CHECK(check_config(classifier()) == Status::ok);
  CHECK(check_config(listener()) == Status::ok);
  CHECK(check_stack(speaker()) == Status::ok);
  CHECK(check_config(two()) == Status::ok);
  // In a constant expression too.
  static_assert(check_config(test::stories_config()) == Status::ok);
}

TEST_CASE("C1: each choice has one of its values", "[config]") {
  struct Choice {
    std::size_t byte;
    int values;
  };
  constexpr Choice kChoices[] = {{0, 2},  {1, 4},  {2, 2},  {3, 2},  {4, 2},  {5, 3},  {6, 3},  {7, 2},  {8, 2},
                                 {9, 2},  {10, 4}, {11, 2}, {12, 3}, {13, 2}, {14, 2}, {15, 5}, {16, 4}, {17, 2},
                                 {18, 7}, {19, 2}, {20, 2}, {21, 2}, {22, 2}, {23, 2}, {24, 3}, {25, 3}, {26, 8}};
  for (const Choice& choice : kChoices)
    for (const int value : {choice.values, 8, 9, 15, 16, 32, 128, 255})
      CHECK(refused(decoder(), [&](StackConfig& c) {
        reinterpret_cast<std::uint8_t*>(&c)[choice.byte] = static_cast<std::uint8_t>(value);
      }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_output_heads = 0; }));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.activation = Activation::gelu_quick; }));
  CHECK(accepted(classifier(), [](StackConfig& c) { c.dense_activation = Activation::none; }));
}

TEST_CASE("C2: each count lies in its range", "[config]") {
  const auto too_large = [](auto member, std::uint32_t limit) {
    return refused(decoder(), [=](StackConfig& c) { c.*member = limit + 1; }) &&
           refused(decoder(), [=](StackConfig& c) { c.*member = 0xFFFFFFFFu; });
  };
  const auto zero = [](auto member) { return refused(decoder(), [=](StackConfig& c) { c.*member = 0; }); };
  CHECK(too_large(&StackConfig::d_model, 65536));
  CHECK(too_large(&StackConfig::d_ff, 131072));
  CHECK(too_large(&StackConfig::n_layers, 4096));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_heads = c.n_kv_heads = 1025; }));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.n_heads = c.n_kv_heads = 1024; }));
  CHECK(too_large(&StackConfig::n_kv_heads, 1024));
  CHECK(too_large(&StackConfig::head_dim, 256));
  CHECK(refused(decoder(), [](StackConfig& c) { c.vocab_size = c.n_outputs = (1u << 20) + 1; }));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.vocab_size = c.n_outputs = 1u << 20; }));
  CHECK(refused(classifier(), [](StackConfig& c) { c.n_outputs = (1u << 20) + 1; }));
  CHECK(too_large(&StackConfig::max_seq, 1u << 20));
  CHECK(too_large(&StackConfig::window, 1u << 20));
  CHECK(too_large(&StackConfig::n_sinks, 1u << 20));
  for (const auto member : {&StackConfig::d_model, &StackConfig::d_ff, &StackConfig::n_layers, &StackConfig::n_heads,
                            &StackConfig::n_kv_heads, &StackConfig::head_dim, &StackConfig::max_seq})
    CHECK(zero(member));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.window = 1u << 20, c.global_every = 4096; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.window = 8, c.global_every = 4097; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.window = 8, c.local_rotary = 2; }));
  CHECK(refused(decoder(), [](StackConfig& c) {
    c.position = Position::relative, c.rotary_dims = 0, c.n_distances = (1u << 20) + 1;
  }));
  CHECK(refused(listener(), [](StackConfig& c) {
    c.input = Input::projected, c.second_convolution = c.strides[0] = c.strides[1] = 0, c.d_input = 65537;
  }));
  CHECK(refused(speaker(), [](StackConfig& c) { c.d_source = 65537; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_token_types = 65537; }));
  CHECK(refused(classifier(), [](StackConfig& c) { c.max_seq = 1u << 20, c.n_class_vectors = 65537; }));
  CHECK(refused(classifier(), [](StackConfig& c) { c.d_dense = 65537; }));
}

TEST_CASE("C3: reserved fields", "[config]") {
  for (int i = 0; i < 5; ++i) CHECK(refused(decoder(), [i](StackConfig& c) { c.reserved0[i] = 1; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.reserved1 = 1; }));
  for (int i = 0; i < 23; ++i) CHECK(refused(decoder(), [i](StackConfig& c) { c.reserved2[i] = 1u << 31; }));
}

TEST_CASE("C4: groups", "[config]") {
  for (const int site : {0, 1, 2, 3, 4}) {
    for (const std::uint16_t group : {1, 16, 33, 48, 96, 480, 512, 32768})
      CHECK(refused(decoder(), [=](StackConfig& c) { c.groups[site] = group; }));
    for (const std::uint16_t group : {32, 64, 128, 256})
      CHECK(accepted(decoder(), [=](StackConfig& c) { c.groups[site] = group; }));
  }
}

TEST_CASE("C5 and C6: heads and value maps", "[config]") {
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_kv_heads = 3; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_kv_heads = 8; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_heads = c.n_kv_heads = 1024, c.head_dim = 129, c.rotary_dims = 10; }));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.n_heads = c.n_kv_heads = 1024, c.head_dim = 128; }));
  const auto undivided = [](std::uint32_t d_model, std::uint32_t n_heads) {
    return stack(decoder(), [=](StackConfig& c) {
      c.value_map = ValueMap::undivided, c.d_model = d_model, c.n_heads = c.n_kv_heads = n_heads;
    });
  };
  CHECK(undivided(256, 512) == Status::ok);
  CHECK(undivided(257, 1) == Status::bad_config);
  CHECK(undivided(256, 513) == Status::bad_config);
}

TEST_CASE("C7: tokens have a vocabulary, logits have a number", "[config]") {
  CHECK(refused(classifier(), [](StackConfig& c) { c.vocab_size = 0; }));
  CHECK(refused(classifier(), [](StackConfig& c) { c.n_outputs = 0; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.vocab_size = 21; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.n_outputs = 21; }));
}

TEST_CASE("C8: what generates", "[config]") {
  CHECK(refused(decoder(), [](StackConfig& c) { c.mask = Mask::two_way; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.pooling = Pooling::last; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.output = Output::vectors, c.n_outputs = 0; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.input = Input::vectors, c.vocab_size = 0; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.input = Input::vectors, c.vocab_size = c.n_outputs = 0, c.output = Output::vectors; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_class_vectors = 1; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.n_outputs = 20; }));
  CHECK(accepted(classifier(), [](StackConfig& c) { c.n_class_vectors = 1; }));
}

TEST_CASE("C9: a tied unembedding", "[config]") {
  StackConfig tied = classifier();
  tied.tied_unembedding = 1;
  tied.n_outputs = tied.vocab_size;
  tied.d_dense = tied.d_model;
  CHECK(check_stack(tied) == Status::ok);
  CHECK(refused(tied, [](StackConfig& c) { c.d_dense = 24; }));
  CHECK(refused(tied, [](StackConfig& c) { c.n_outputs = 20; }));
  CHECK(refused(tied, [](StackConfig& c) {
    c.dense = 0, c.d_dense = 0, c.dense_activation = Activation::none, c.n_output_heads = 2, c.n_class_vectors = 1;
  }));
  CHECK(refused(listener(), [](StackConfig& c) { c.tied_unembedding = 1; }));
  CHECK(refused(classifier(), [](StackConfig& c) {
    c.tied_unembedding = 1, c.output = Output::vectors, c.n_outputs = 0, c.d_dense = c.d_model;
  }));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.tied_unembedding = 1, c.biases = kBiasUnembedding; }));
}

TEST_CASE("C10: feature vectors", "[config]") {
  CHECK(refused(decoder(), [](StackConfig& c) { c.d_input = 8; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.d_input = 0; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.strides[0] = 0; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.strides[1] = 0; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.second_convolution = 0; }));
  CHECK(accepted(listener(), [](StackConfig& c) { c.second_convolution = 0, c.strides[1] = 0; }));
  CHECK(accepted(listener(), [](StackConfig& c) { c.d_input = 43690; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.d_input = 43691; }));
  CHECK(accepted(listener(), [](StackConfig& c) { c.d_model = 43690; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.d_model = 43691; }));
  const auto projected = [](auto edit) {
    return stack(listener(), [&](StackConfig& c) {
      c.input = Input::projected, c.second_convolution = c.strides[0] = c.strides[1] = 0;
      edit(c);
    });
  };
  CHECK(projected([](StackConfig& c) { c.d_input = 65536; }) == Status::ok);
  CHECK(projected([](StackConfig& c) { c.d_input = 0; }) == Status::bad_config);
  CHECK(projected([](StackConfig& c) { c.strides[0] = 1; }) == Status::bad_config);
  CHECK(projected([](StackConfig& c) { c.second_convolution = 1, c.strides[1] = 1; }) == Status::bad_config);
  const auto vectors = [&](std::uint32_t d_input) {
    return projected([=](StackConfig& c) { c.input = Input::vectors, c.d_input = d_input; });
  };
  CHECK(vectors(0) == Status::ok);
  CHECK(vectors(40) == Status::bad_config);
}

TEST_CASE("C11: class vectors, token types, embedding scale", "[config]") {
  CHECK(accepted(classifier(), [](StackConfig& c) { c.n_class_vectors = 63; }));
  CHECK(refused(classifier(), [](StackConfig& c) { c.n_class_vectors = 64; }));
  CHECK(accepted(decoder(), [](StackConfig& c) { c.n_token_types = 2, c.embedding_scale = 8.0f, c.input_norm = 1; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.n_token_types = 2; }));
  CHECK(refused(listener(), [](StackConfig& c) { c.embedding_scale = 8.0f; }));
}

TEST_CASE("C12: the dense layer", "[config]") {
  CHECK(refused(classifier(), [](StackConfig& c) { c.d_dense = 0; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.d_dense = 24; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.dense_activation = Activation::tanh; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.dense_norm = 1; }));
  CHECK(accepted(classifier(), [](StackConfig& c) { c.dense_norm = 1; }));
}

TEST_CASE("C13: length and output heads", "[config]") {
  CHECK(accepted(listener(), [](StackConfig& c) { c.unit_length = 1; }));
  CHECK(refused(classifier(), [](StackConfig& c) { c.unit_length = 1; }));
  StackConfig deit = classifier();
  deit.dense = 0;
  deit.d_dense = 0;
  deit.dense_activation = Activation::none;
  deit.n_class_vectors = 2;
  deit.n_output_heads = 2;
  CHECK(check_stack(deit) == Status::ok);
  CHECK(accepted(deit, [](StackConfig& c) { c.n_output_heads = 3; }));
  CHECK(accepted(deit, [](StackConfig& c) { c.n_output_heads = 7, c.n_class_vectors = 6; }));
  CHECK(refused(deit, [](StackConfig& c) { c.n_output_heads = 4; }));
  CHECK(refused(deit, [](StackConfig& c) { c.pooling = Pooling::mean; }));
  CHECK(refused(deit, [](StackConfig& c) { c.output = Output::vectors, c.n_outputs = 0; }));
  CHECK(refused(deit, [](StackConfig& c) { c.dense = 1, c.d_dense = 24; }));
}

TEST_CASE("C14: positions", "[config]") {
  for (const std::uint32_t dims : {0u, 1u, 3u, 12u}) CHECK(refused(decoder(), [=](StackConfig& c) { c.rotary_dims = dims; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.position = Position::none; }));
  CHECK(refused(decoder(), [](StackConfig& c) {
    c.position = Position::none, c.rotary_dims = 0, c.rotary_pairing = RotaryPairing::halves;
  }));
  StackConfig relative = decoder();
  relative.position = Position::relative;
  relative.rotary_dims = 0;
  relative.n_distances = 4;
  CHECK(check_stack(relative) == Status::ok);
  CHECK(refused(relative, [](StackConfig& c) { c.n_distances = 0; }));
  CHECK(refused(relative, [](StackConfig& c) { c.position = Position::alibi; }));
  CHECK(accepted(relative, [](StackConfig& c) { c.position = Position::alibi, c.n_distances = 0; }));
  CHECK(refused(relative, [](StackConfig& c) { c.use = Use::encode, c.mask = Mask::two_way; }));
  CHECK(accepted(relative, [](StackConfig& c) { c.use = Use::encode, c.mask = Mask::two_way, c.n_distances = 5; }));
}

TEST_CASE("C15: windows", "[config]") {
  StackConfig windowed = decoder();
  windowed.window = 8;
  windowed.global_every = 3;
  windowed.global_first = 2;
  windowed.local_rotary = 1;
  CHECK(check_stack(windowed) == Status::ok);
  CHECK(refused(windowed, [](StackConfig& c) { c.global_first = 3; }));
  CHECK(accepted(windowed, [](StackConfig& c) { c.global_every = 2, c.global_first = 1; }));
  CHECK(refused(windowed, [](StackConfig& c) { c.global_every = 1, c.global_first = 0; }));
  CHECK(refused(windowed, [](StackConfig& c) { c.window = 0, c.local_rotary = 0; }));
  CHECK(refused(windowed, [](StackConfig& c) { c.global_every = 0; }));
  CHECK(refused(windowed, [](StackConfig& c) { c.window = 0, c.global_every = c.global_first = 0; }));
  CHECK(refused(windowed, [](StackConfig& c) { c.position = Position::none, c.rotary_dims = 0; }));
  CHECK(accepted(windowed, [](StackConfig& c) { c.position = Position::none, c.rotary_dims = 0, c.local_rotary = 0; }));
}

TEST_CASE("C16: sublayers and what cross-attention reads", "[config]") {
  for (const Sublayers sublayers : {Sublayers::side_by_side, Sublayers::side_by_side_two_norms}) {
    CHECK(accepted(decoder(), [=](StackConfig& c) { c.sublayers = sublayers; }));
    CHECK(accepted(decoder(), [=](StackConfig& c) { c.sublayers = sublayers, c.norm_placement = NormPlacement::both; }));
    CHECK(refused(decoder(), [=](StackConfig& c) { c.sublayers = sublayers, c.norm_placement = NormPlacement::after; }));
    CHECK(refused(speaker(), [=](StackConfig& c) { c.sublayers = sublayers; }));
  }
  CHECK(refused(speaker(), [](StackConfig& c) { c.d_source = 0; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.d_source = 40; }));
}

TEST_CASE("C17: flags are of norms and attentions that there are", "[config]") {
  const auto folds = [](const StackConfig& c, std::uint32_t flag) {
    return stack(c, [=](StackConfig& s) { s.flags |= flag; }) == Status::ok;
  };
  for (int bit = 6; bit < 32; ++bit) CHECK(!folds(speaker(), 1u << bit));
  CHECK(folds(speaker(), kKnownFlags));
  StackConfig after = speaker();
  after.norm_placement = NormPlacement::after;
  CHECK(!folds(after, kAttentionGainFolded));
  CHECK(!folds(after, kFfnGainFolded));
  CHECK(!folds(after, kCrossGainFolded));
  CHECK(folds(after, kFinalGainFolded | kKeyOffset | kCrossKeyOffset));
  CHECK(!folds(decoder(), kCrossGainFolded));
  CHECK(!folds(decoder(), kCrossKeyOffset));
  StackConfig beside = decoder();
  beside.sublayers = Sublayers::side_by_side;
  CHECK(!folds(beside, kFfnGainFolded));
  // One norm, quantised once.
  CHECK(refused(beside, [](StackConfig& c) { c.groups[static_cast<int>(Site::ffn_in)] = 32; }));
  CHECK(refused(beside, [](StackConfig& c) { c.groups[0] = 64, c.groups[static_cast<int>(Site::ffn_in)] = 32; }));
  CHECK(accepted(beside, [](StackConfig& c) { c.groups[0] = c.groups[static_cast<int>(Site::ffn_in)] = 32; }));
  beside.sublayers = Sublayers::side_by_side_two_norms;
  CHECK(folds(beside, kFfnGainFolded));
  CHECK(accepted(beside, [](StackConfig& c) { c.groups[static_cast<int>(Site::ffn_in)] = 32; }));
  StackConfig endless = decoder();
  endless.final_norm = 0;
  CHECK(!folds(endless, kFinalGainFolded));
}

TEST_CASE("C17: biases and groups are of matrices and norms that there are", "[config]") {
  const auto biased = [](const StackConfig& c, std::uint32_t bits) {
    return stack(c, [=](StackConfig& s) { s.biases = bits; }) == Status::ok;
  };
  const auto grouped = [](const StackConfig& c, Site site) {
    return stack(c, [=](StackConfig& s) { s.groups[static_cast<int>(site)] = 32; }) == Status::ok;
  };
  StackConfig everything = speaker();
  everything.norm = Norm::layer;
  everything.use = Use::encode;
  everything.input = Input::convolved;
  everything.vocab_size = 0;
  everything.d_input = 8;
  everything.second_convolution = everything.strides[0] = everything.strides[1] = 1;
  everything.dense = 1;
  everything.d_dense = 24;
  CHECK(biased(everything, kKnownBiases));
  for (int bit = 14; bit < 32; ++bit) CHECK(!biased(everything, 1u << bit));
  for (int site = 0; site < kSiteCount; ++site) CHECK(grouped(everything, static_cast<Site>(site)));

  const auto without = [&](auto edit, std::uint32_t bits, std::initializer_list<Site> sites) {
    StackConfig c = everything;
    edit(c);
    if (check_stack(c) != Status::ok || !biased(c, kKnownBiases & ~bits)) return false;
    for (std::uint32_t bit = 1; bit <= kKnownBiases; bit *= 2)
      if ((bits & bit) && biased(c, bit)) return false;
    for (const Site site : sites)
      if (grouped(c, site)) return false;
    return true;
  };
  CHECK(without([](StackConfig& c) { c.value_map = ValueMap::undivided; }, kBiasValueUp | kBiasCrossValueUp,
                {Site::value_up_in, Site::cross_value_up_in}));
  CHECK(without([](StackConfig& c) { c.output = Output::vectors, c.n_outputs = 0; }, kBiasUnembedding, {Site::unembed_in}));
  CHECK(without([](StackConfig& c) { c.norm = Norm::rms; }, kBiasNorm, {}));
  CHECK(without([](StackConfig& c) { c.norm = Norm::rms, c.query_key_norm = HeadNorm::layer; }, 0, {}));
  CHECK(without([](StackConfig& c) { c.norm = Norm::rms, c.query_key_norm = HeadNorm::rms; }, kBiasNorm, {}));
  CHECK(without([](StackConfig& c) { c.cross_attention = 0, c.d_source = 0, c.cross_scale = 0.0f; },
                kBiasCrossQuery | kBiasCrossKey | kBiasCrossValueDown | kBiasCrossValueUp,
                {Site::cross_in, Site::cross_value_up_in, Site::source_in}));
  CHECK(without([](StackConfig& c) { c.input = Input::projected, c.second_convolution = c.strides[0] = c.strides[1] = 0; }, 0,
                {Site::convolution_in}));
  CHECK(without([](StackConfig& c) { c.second_convolution = c.strides[1] = 0; }, 0, {Site::convolution_in}));
  CHECK(without([](StackConfig& c) {
    c.input = Input::vectors, c.d_input = 0, c.second_convolution = c.strides[0] = c.strides[1] = 0;
  }, kBiasInput, {Site::input_in, Site::convolution_in}));
  CHECK(without([](StackConfig& c) { c.dense = 0, c.d_dense = 0; }, kBiasDense, {Site::dense_in}));
}

TEST_CASE("C18: epsilon and scales", "[config]") {
  constexpr float kBelow = 9.0949463e-13f, kAbove = 1.0995117e12f;
  for (const float x : {0.0f, -1.0f, kBelow, kAbove, std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::infinity()})
    for (const auto member : {&StackConfig::norm_epsilon, &StackConfig::attention_scale, &StackConfig::embedding_scale,
                              &StackConfig::cross_scale})
      CHECK(refused(speaker(), [=](StackConfig& c) { c.*member = x; }));
  for (const float x : {kSmallest, kLargest})
    CHECK(accepted(speaker(), [x](StackConfig& c) {
      c.norm_epsilon = c.attention_scale = c.embedding_scale = c.cross_scale = x;
    }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.cross_scale = 1.0f; }));
  CHECK(refused(decoder(), [](StackConfig& c) { c.cross_scale = -0.0f; }));
}

TEST_CASE("C19: what two stacks are to each other", "[config]") {
  const auto broken = [](auto edit) { return model(two(), edit) == Status::bad_config; };
  CHECK(check_config(speaker()) == Status::bad_config);  // alone
  CHECK(broken([](ModelConfig& m) { m.n_stacks = 0; }));
  CHECK(broken([](ModelConfig& m) { m.n_stacks = 3; }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0] = decoder(); }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0] = classifier(); }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0].pooling = Pooling::mean; }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0].dense = 1, m.stacks[0].d_dense = 40; }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0].unit_length = 1; }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0].output = Output::logits, m.stacks[0].n_outputs = 40; }));
  CHECK(broken([](ModelConfig& m) {
    m.stacks[0].cross_attention = 1, m.stacks[0].d_source = 40, m.stacks[0].cross_scale = 0.25f;
  }));
  CHECK(broken([](ModelConfig& m) { m.stacks[1] = decoder(); }));
  CHECK(broken([](ModelConfig& m) { m.stacks[1].d_source = 41; }));
  CHECK(broken([](ModelConfig& m) { m.stacks[0].d_ff = 0; }));
  CHECK(broken([](ModelConfig& m) { m.stacks[1].d_ff = 0; }));
  CHECK(model(two(), [](ModelConfig& m) { m.stacks[0].d_model = m.stacks[1].d_source = 48; }) == Status::ok);
  // The second one may also encode, over vectors: drawing, not writing.
  CHECK(model(two(), [](ModelConfig& m) {
          StackConfig& c = m.stacks[1];
          c.use = Use::encode, c.mask = Mask::two_way, c.input = Input::vectors, c.vocab_size = c.n_outputs = 0;
          c.output = Output::vectors;
        }) == Status::ok);
}

TEST_CASE("a view is of something that stays, and of as many stacks as there can be", "[config]") {
  static_assert(!std::is_constructible_v<ConfigView, ModelConfig> && !std::is_constructible_v<ConfigView, StackConfig>);
  static_assert(std::is_constructible_v<ConfigView, const ModelConfig&>);
  const StackConfig stacks[2] = {two().stacks[0], two().stacks[1]};
  CHECK(check_config(ModelConfig(ConfigView(stacks, 2))) == Status::ok);
  for (const std::uint32_t n : {0u, 3u, 7u, 0xFFFFFFFFu}) {
    const ModelConfig m = ConfigView(stacks, n);
    CHECK(m.n_stacks == n);
    CHECK(&m.main() == m.stacks);
    CHECK(m.main().d_model == (n ? stacks[0].d_model : 0));
    CHECK(check_config(m) == Status::bad_config);
  }
  CHECK(check_config(ModelConfig(ConfigView())) == Status::bad_config);
}

TEST_CASE("C20: what no build carries", "[config]") {
  ModelConfig m = two();
  m.stacks[0].n_sinks = 1;
  CHECK(check_config(m) == Status::feature_not_built);
  CHECK(needs_of(m).sinks);
  CHECK(!needs_of(m).is_carried());
  CHECK(needs_of(two()).is_carried());
}

TEST_CASE("each feature is asked for by what needs it", "[config]") {
  const auto needs = [](const ModelConfig& m, std::initializer_list<Feature> features) {
    Features expected = kNoFeatures;
    for (const Feature f : features) expected = expected + f;
    return feature_bits(required_features(m)) == feature_bits(expected);
  };
  const auto with = [](StackConfig c, auto edit) {
    edit(c);
    return c;
  };
  CHECK(needs(decoder(), {}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.window = 8; }), {Feature::windows}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.position = Position::alibi; }), {Feature::score_bias}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.position = Position::relative; }), {Feature::score_bias}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.norm_placement = NormPlacement::after; }), {Feature::norm_after}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.norm_placement = NormPlacement::both; }), {Feature::norm_after}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.final_norm = 0; }), {Feature::norm_after}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.query_key_norm = HeadNorm::rms; }), {Feature::query_key_norm}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.query_key_norm = HeadNorm::layer; }),
              {Feature::query_key_norm, Feature::layer_norm}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.use = Use::encode; }), {Feature::encode}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.embedding_scale = 2.0f; }), {Feature::embedding_extras}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.n_token_types = 2; }), {Feature::embedding_extras}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.input_norm = 1; }), {Feature::embedding_extras}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.n_class_vectors = 1; }), {Feature::embedding_extras}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.sublayers = Sublayers::side_by_side; }), {Feature::side_by_side}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.pooling = Pooling::mean; }), {Feature::pooling}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.unit_length = 1; }), {Feature::pooling}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.value_map = ValueMap::undivided; }), {Feature::undivided_values}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.input = Input::vectors; }), {Feature::vector_input}));
  CHECK(needs(with(decoder(), [](StackConfig& c) { c.activation = Activation::gelu_quick; }), {Feature::gelu_quick}));
  CHECK(needs(classifier(), {Feature::encode, Feature::pooling, Feature::dense}));
  CHECK(needs(with(classifier(), [](StackConfig& c) { c.dense_activation = Activation::gelu_erf; }),
              {Feature::encode, Feature::pooling, Feature::dense, Feature::gelu}));
  CHECK(needs(with(classifier(), [](StackConfig& c) { c.dense_activation = Activation::relu; }),
              {Feature::encode, Feature::pooling, Feature::dense, Feature::relu}));
  CHECK(needs(two(), {Feature::encode, Feature::cross_attention, Feature::convolutions}));
}
