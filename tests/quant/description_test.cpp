// SPDX-License-Identifier: Apache-2.0
// description_test.cpp: what a description says is what is computed, and what it may not say is refused in one sentence.
#include "quant/readers/description.hpp"

#include <cmath>
#include <limits>

#include "quant/float_reference.hpp"
#include "quant/value_map.hpp"
#include "tests/quant/described.hpp"
#include "tests/support/catch.hpp"

using namespace heed;
using namespace heed::quant;
using heed::test::Described;
using heed::test::described_model;
using heed::test::described_models;

namespace {

// Infinite where the shapes differ.
double difference(Span<const float> x, const std::vector<float>& expected) {
  if (x.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double worst = 0.0, largest = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double off = std::fabs(double{x[i]} - expected[i]);
    worst = off <= worst ? worst : off;
    largest = std::fmax(largest, std::fabs(double{expected[i]}));
  }
  return worst / largest;
}

FloatModel read(const Described& described) {
  FloatModel model;
  const Error error = described.read(model);
  INFO(described.name() << ": " << error.sentence());
  REQUIRE_FALSE(error);
  return model;
}

std::string refusal(const Described& described) {
  FloatModel model;
  return described.read(model).sentence();
}

// The sentence with a field of a stack changed; null takes it away.
std::string refusal(const std::string& name, std::size_t stack, const char* field, const test::Json& value) {
  Described d = described_model(name);
  d.description["stacks"][stack][field] = value;
  return refusal(d);
}

bool says(const std::string& sentence, const std::string& part) {
  INFO(sentence);
  CHECK(sentence.find('\n') == std::string::npos);
  CHECK(sentence.size() < 240);
  return sentence.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("float outputs are those of an implementation that is not ours") {
  const std::vector<Described> all = described_models();
  REQUIRE(all.size() == 18);
  for (const Described& d : all) {
    const FloatModel model = read(d);
    FloatReference reference(model, model.config.main().max_seq);
    for (std::size_t i = 0; i < d.cases.size(); ++i) {
      INFO(d.name() << ", case " << i);
      if (reference.source_stack()) REQUIRE(reference.set_source(d.cases[i].source));
      CHECK(difference(reference.encode(d.cases[i].input), d.cases[i].expected) < 1e-5);
    }
  }
}

TEST_CASE("stepping gives the bits of the whole sequence") {
  for (const Described& d : described_models()) {
    const FloatModel model = read(d);
    if (model.config.main().use != Use::generate) continue;
    INFO(d.name());
    FloatReference whole(model, 16), stepping(model, 16);
    const test::DescribedCase& c = d.cases[0];
    if (whole.source_stack()) REQUIRE((whole.set_source(c.source) && stepping.set_source(c.source)));
    const Span<const float> all = whole.encode(c.input);
    const std::size_t width = whole.width();
    REQUIRE(all.size() == c.input.tokens.size() * width);
    for (std::size_t i = 0; i < c.input.tokens.size(); ++i) {
      const Span<const float> one = stepping.step(c.input.tokens[i]);
      REQUIRE(one.size() == width);
      CHECK(std::memcmp(one.data(), all.data() + i * width, width * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a sequence that a stack cannot read gives nothing") {
  const FloatModel bert = read(described_model("bert")), whisper = read(described_model("whisper"));
  FloatReference encoder(bert, 16);
  const auto tokens = [](std::vector<std::uint32_t> t, std::vector<std::uint8_t> types = {}) {
    return FloatSequence{std::move(t), std::move(types), {}};
  };
  CHECK_FALSE(encoder.encode(tokens({1, 8}, {0, 1})).empty());
  CHECK(encoder.encode(tokens({})).empty());
  CHECK(encoder.encode(tokens({1, 9})).empty());
  CHECK(encoder.encode(tokens({1, 8}, {0, 2})).empty());
  CHECK(encoder.encode(tokens({1, 8}, {0})).empty());
  CHECK(encoder.encode(tokens(std::vector<std::uint32_t>(17, 1))).empty());
  CHECK(encoder.encode({{}, {}, {1.0f}}).empty());
  FloatReference translator(whisper, 16);
  CHECK(translator.step(1).empty());  // no source yet
  CHECK_FALSE(translator.set_source({{}, {}, std::vector<float>(7)}));
  CHECK_FALSE(translator.set_source(tokens({1})));
  CHECK(translator.set_source({{}, {}, std::vector<float>(5 * 31)}));  // 16 positions of stride 2
  CHECK(translator.source_stack()->positions() == 16);
  CHECK_FALSE(translator.step(1).empty());
  CHECK_FALSE(translator.set_source({{}, {}, std::vector<float>(5 * 33)}));
}

TEST_CASE("undivided value maps are the same function") {
  for (const Described& d : described_models()) {
    FloatModel model = read(d);
    bool changed = false;
    for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack) {
      if (!why_not_undivided(model.config.stacks[stack]).empty()) continue;
      make_undivided(model, stack);
      changed = true;
      CHECK(why_not_undivided(model.config.stacks[stack]) == "they are");
    }
    const Error error = check(model);
    INFO(d.name() << " " << error.sentence());
    REQUIRE_FALSE(error);
    if (!changed) continue;
    FloatReference reference(model, 16);
    for (const test::DescribedCase& c : d.cases) {
      if (reference.source_stack()) REQUIRE(reference.set_source(c.source));
      CHECK(difference(reference.encode(c.input), c.expected) < 1e-5);
    }
  }
}

TEST_CASE("the cheaper value map is the one with fewer instructions, in multiply-adds") {
  StackConfig c;
  c.d_model = 64;
  c.n_heads = c.n_kv_heads = 2;
  c.n_layers = 2;
  c.max_seq = 9;  // 5 keys on average
  c.head_dim = 64;
  ValueMapCost cost = value_map_cost(c, 0);
  CHECK(cost.keys_seen == 5);
  CHECK(cost.factors == 2 * 64 * 64 + 5 * 2 * 64 + 2 * 64 * 64 + 600);
  CHECK(cost.undivided == 2 * 64 * 64 + 5 * 2 * 64 + 16 * 2 * 64);
  c.head_dim = 32;  // the products cost the same, the undivided values weigh twice as much
  cost = value_map_cost(c, 0);
  CHECK(cost.factors == 2 * (2 * 32 * 64) + 5 * 2 * 32 + 600);
  CHECK(cost.undivided > cost.factors);
  c.window = 3;
  c.global_every = 2;  // layer 0 sees 5, layer 1 sees 3
  CHECK(value_map_cost(c, 0).keys_seen == 4);
  c.n_kv_heads = 1;
  CHECK(says(why_not_undivided(c), "query heads share values"));
  c.n_kv_heads = 2;
  c.d_model = 512;
  CHECK(says(why_not_undivided(c), "d_model is above 256"));
  c.d_model = 64;
  c.window = 0;
  c.cross_attention = 1;
  c.d_source = 18;
  const ValueMapCost with_source = value_map_cost(c, 12);  // 12 positions of the source for 9 of the stack
  CHECK(with_source.factors - value_map_cost(c, 0).factors == 12 * 2 * 18 / 9 * 32 + 12 * 2 * 32);
}

TEST_CASE("each field of a stack has its range and its place") {
  struct Wrong {
    const char *model, *field;
    test::Json value;
    const char* sentence;
    std::size_t stack = 0;
  };
  const test::Json none = nullptr;
  const Wrong kWrong[] = {
      {"decoder", "d_model", 0, "stacks[0].d_model 0 is not a whole number from 1 to 65536"},
      {"decoder", "d_model", none, "stacks[0].d_model is missing"},
      {"decoder", "d_model", -12, "stacks[0].d_model -12 is not a whole"},
      {"decoder", "d_model", 12.5, "stacks[0].d_model 12.5 is not a whole"},
      {"decoder", "d_modle", 12, "stacks[0].d_modle is no name of a description"},
      {"decoder", "d_ff", 131073, "stacks[0].d_ff 131073 is not a whole number from 1 to 131072"},
      {"decoder", "n_layers", 4097, "stacks[0].n_layers 4097 is not"},
      {"decoder", "n_heads", 1025, "stacks[0].n_heads 1025 is not"},
      {"decoder_learned", "n_heads", 5, "stacks[0].n_heads 5 does not divide d_model"},
      {"decoder", "n_kv_heads", 3, "stacks[0].n_kv_heads 3 does not divide n_heads"},
      {"decoder", "head_dim", 257, "stacks[0].head_dim 257 is not a whole number from 1 to 256"},
      {"decoder", "max_seq", 1048577, "stacks[0].max_seq 1048577 is not"},
      {"decoder", "vocab_size", none, "stacks[0].vocab_size is missing"},
      {"decoder", "use", "write", "stacks[0].use \"write\" is none of generate, encode"},
      {"decoder", "use", 0, "stacks[0].use 0 is none of"},
      {"decoder", "mask", "two_way", "stacks[0].mask \"two_way\" is not causal"},
      {"decoder", "norm", "batch", "stacks[0].norm \"batch\" is none of rms, layer"},
      {"decoder", "norm_epsilon", 0, "stacks[0].norm_epsilon 0 is not a number from"},
      {"decoder", "norm_placement", "behind", "is none of before, after, both"},
      {"decoder_side_by_side", "norm_placement", "after", "stacks[0].sublayers \"side_by_side\" needs norms before"},
      {"original", "sublayers", "side_by_side", "stacks[1].sublayers \"side_by_side\" needs norms before", 1},
      {"whisper", "sublayers", "side_by_side", "stacks[1].sublayers \"side_by_side\" leaves no place", 1},
      {"decoder", "final_norm", 1, "stacks[0].final_norm 1 is neither true nor false"},
      {"decoder", "query_key_norm", true, "stacks[0].query_key_norm true is none of none, rms, layer"},
      {"decoder", "attention_scale", "usual", "stacks[0].attention_scale \"usual\" is not a number"},
      {"decoder", "cross_scale", 1, "stacks[0].cross_scale 1 stands in a stack without cross-attention"},
      {"decoder", "cross_attention", true, "stacks[0].cross_attention true stands in the first stack"},
      {"whisper", "cross_attention", false, "stacks[1].cross_attention false leaves the first stack without", 1},
      {"whisper", "use", "generate", "stacks[0].use \"generate\" is not encode"},
      {"whisper", "pooling", "mean", "stacks[0].pooling \"mean\" stands in the first of two stacks"},
      {"whisper", "dense", true, "stacks[0].dense true stands in the first of two stacks"},
      {"whisper", "unit_length", true, "stacks[0].unit_length true is not what the second stack reads"},
      {"whisper", "strides", {1, 3}, "stacks[0].strides [1,3] is not a list of at most 2 whole numbers from 1 to 2"},
      {"whisper", "strides", {1}, "stacks[0].strides [1] does not have one number for each convolution"},
      {"decoder", "strides", {1}, "stacks[0].strides [1] needs the input convolved"},
      {"decoder", "second_convolution", true, "stacks[0].second_convolution true needs the input convolved"},
      {"decoder", "d_input", 12, "stacks[0].d_input 12 stands beside tokens"},
      {"last", "d_input", 13, "stacks[0].d_input 13 is not d_model"},
      {"two_heads", "d_input", none, "stacks[0].d_input is missing"},
      {"two_heads", "vocab_size", 4, "stacks[0].vocab_size 4 stands beside an input that is not tokens"},
      {"two_heads", "n_class_vectors", 16, "stacks[0].n_class_vectors 16 leaves no position"},
      {"two_heads", "n_class_vectors", 0, "stacks[0].n_output_heads 2 needs"},
      {"two_heads", "n_output_heads", 8, "stacks[0].n_output_heads 8 is not a whole number from 1 to 7"},
      {"two_heads", "pooling", "last", "stacks[0].n_output_heads 2 needs"},
      {"two_heads", "n_outputs", none, "stacks[0].n_outputs is missing"},
      {"decoder", "n_class_vectors", 1, "stacks[0].n_class_vectors 1 stands in a stack that generates (as one without use does)"},
      {"decoder", "input", "vectors", "stacks[0].vocab_size 9 stands beside"},
      {"decoder", "n_outputs", 8, "stacks[0].n_outputs 8 is not vocab_size"},
      {"decoder", "output", "vectors", "stacks[0].output \"vectors\" is not logits"},
      {"two_heads", "use", none, "stacks[0].input \"projected\" is not tokens, which a stack that generates (as one without use does) reads"},
      {"decoder", "pooling", "last", "stacks[0].pooling \"last\" stands in a stack that generates"},
      {"embedding", "n_outputs", 3, "stacks[0].n_outputs 3 stands beside an output of vectors"},
      {"embedding", "tied_unembedding", true, "stacks[0].tied_unembedding true needs"},
      {"bert", "tied_unembedding", true, "stacks[0].tied_unembedding true needs"},
      {"bert", "unit_length", true, "stacks[0].unit_length true needs an output of vectors"},
      {"tagger", "d_dense", 3, "stacks[0].d_dense 3 needs dense"},
      {"tagger", "dense_activation", "tanh", "stacks[0].dense_activation \"tanh\" needs dense"},
      {"decoder", "activation", none, "stacks[0].activation is missing"},
      {"decoder", "activation", "tanh", "stacks[0].activation \"tanh\" stands behind dense only"},
      {"decoder", "value_map", "whole", "is none of factors, undivided"},
      {"last", "biases", {"value_up"}, "stacks[0].biases [\"value_up\"] names value_up, which needs the value_map factors"},
      {"decoder", "biases", {"norm"}, "names norm, which needs layer norm"},
      {"decoder", "biases", {"cross_key"}, "names cross_key, which needs cross-attention"},
      {"decoder", "biases", {"values"}, "names values, which has none"},
      {"decoder", "biases", "all", "stacks[0].biases \"all\" is not a list of at most 64 texts"},
      {"decoder", "rotary_dims", 3, "stacks[0].rotary_dims 3 is odd"},
      {"decoder", "rotary_dims", 6, "stacks[0].rotary_dims 6 is above head_dim"},
      {"decoder_learned", "rotary_dims", 4, "stacks[0].rotary_dims 4 needs the position rotary"},
      {"decoder_learned", "rope", {{"theta", 9}}, "needs the position rotary"},
      {"decoder", "rope", {{"theta", 1}}, "stacks[0].rope.theta 1 is not a number from"},
      {"decoder", "rope", {{"base", 10}}, "stacks[0].rope.base is no name"},
      {"decoder", "rope", {{"scaling", {{"type", "ntk"}}}}, "stacks[0].rope.scaling.factor is missing"},
      {"decoder", "rope", {{"scaling", {{"type", "log"}, {"factor", 2}}}}, "stacks[0].rope.scaling.type \"log\" is none of"},
      {"decoder", "rope", {{"scaling", {{"type", "yarn"}, {"factor", 2}}}}, "scaling.original_max_seq is missing"},
      {"decoder", "rope", {{"scaling", {{"type", "linear"}, {"factor", 0.5}}}}, "scaling.factor 0.5 is not a number from 1 to"},
      {"decoder", "rope", {{"scaling", {{"type", "linear"}, {"factor", 2}, {"beta_fast", 1}}}}, "scaling.beta_fast is no name"},
      {"decoder", "local_rope", {{"theta", 9}}, "stacks[0].local_rope {\"theta\":9} needs a window"},
      {"decoder", "alibi", {{"slopes", {1}}}, "stacks[0].alibi {\"slopes\":[1]} needs the position alibi"},
      {"decoder_two_norms", "alibi", {{"slopes", {1}}}, "stacks[0].alibi.slopes [1] is not a list of n_heads numbers"},
      {"decoder_two_norms", "alibi", {{"slopes", {1, -1}}}, "stacks[0].alibi.slopes [1,-1] is not"},
      {"decoder_relative", "relative", none, "stacks[0].relative is missing"},
      {"decoder_relative", "relative", {{"buckets", 6}}, "stacks[0].relative.max_distance is missing"},
      {"decoder_relative", "relative", {{"buckets", 6}, {"max_distance", 3}}, "relative.max_distance 3 is not above"},
      {"decoder_relative", "relative", {{"buckets", 6}, {"distances", 3}}, "relative.buckets 6 stands beside distances"},
      {"tagger", "relative", {{"distances", 4}}, "stacks[0].relative.distances 4 is even"},
      {"tagger", "relative", {{"buckets", 7}, {"max_distance", 9}}, "stacks[0].relative.buckets 7 is odd"},
      {"decoder", "window", 1048577, "stacks[0].window 1048577 is not"},
      {"decoder", "global_every", 2, "stacks[0].global_every 2 needs a window"},
      {"decoder_windows", "global_every", 1, "stacks[0].global_every 1 lets every layer"},
      {"decoder_windows", "global_first", 2, "stacks[0].global_first 2 is not below global_every"},
      {"decoder", "position_table", "fixed", "stacks[0].position_table \"fixed\" is none of"},
      {"decoder", "position_offset", 2, "stacks[0].position_offset 2 needs the position_table learned"},
      {"decoder", "sinusoids", {{"theta", 9}}, "needs the position_table sinusoidal"},
      {"two_heads", "sinusoids", {{"order", "mixed"}}, "stacks[0].sinusoids.order \"mixed\" is none of"},
      {"two_heads", "max_seq", 1048576, ""},  // 12 * 2^20 numbers of sinusoids: allowed
  };
  for (const Wrong& w : kWrong) {
    INFO(w.model << "." << w.field << " = " << w.value.dump());
    const std::string sentence = refusal(w.model, w.stack, w.field, w.value);
    if (*w.sentence)
      CHECK(says(sentence, w.sentence));
    else
      CHECK(sentence.empty());
  }
  Described wide = described_model("two_heads");
  wide.description["stacks"][0]["max_seq"] = 1048576;
  wide.description["stacks"][0]["d_model"] = 66;
  CHECK(says(refusal(wide), "stacks[0].max_seq 1048576 makes more than 2^26 numbers of sinusoids"));
}

TEST_CASE("the model around the stacks") {
  const auto with = [](const char* field, const test::Json& value, const char* model = "decoder") {
    Described d = described_model(model);
    d.description[field] = value;
    return refusal(d);
  };
  CHECK(says(with("heed", 1), "the description: heed 1 is not a whole number from 2 to 2"));
  CHECK(says(with("heed", nullptr), "the description: heed is missing"));
  CHECK(says(with("stacks", test::Json::array()), "stacks [] is not a list of one or two objects"));
  CHECK(says(with("stacks", nullptr), "stacks is missing"));
  CHECK(says(with("author", "me"), "author is no name of a description"));
  CHECK(says(with("name", "two\nlines"), "name \"two\\nlines\" is not one line of text"));
  CHECK(says(with("classes", {"a", "b"}), "classes [\"a\",\"b\"] is not a list of 9 names of one line each, as n_outputs says"));
  CHECK(with("classes", {"a", "b", "c"}, "bert").empty());
  CHECK(says(with("source_tokenizer", "bytes"), "source_tokenizer \"bytes\" stands beside a source that reads no tokens"));
  CHECK(says(with("tokenizer", "bytes", "last"), "tokenizer \"bytes\" stands beside stacks that read no tokens"));
  CHECK(says(with("generation", {{"first", {9}}}), "generation.first [9] is not a list of at most 16 whole numbers from 0 to 8"));
  CHECK(says(with("generation", {{"last", {8}}}), "generation.last is no name"));
  CHECK(says(with("generation", test::Json::object(), "bert"), "stands beside a stack that does not generate"));
  CHECK(says(with("tensors", {{"stacks.0.w_query", "q"}}), "tensors: stacks.0.w_query is no tensor of the description"));
  CHECK(says(with("tensors", {{"stacks.0.token_embedding", 1}}), "tensors: stacks.0.token_embedding has no name"));
  CHECK(says(with("tensors", {{"stacks.0.token_embedding", "wte"}}), "tensor wte is missing (stacks.0.token_embedding)"));

  FloatModel model;
  Described d = described_model("decoder");
  d.description["generation"] = {{"first", {3, 4}}, {"suppressed", {0}}, {"endings", {7, 8}}};
  REQUIRE_FALSE(d.read(model));
  CHECK(model.bos == 3);
  CHECK(model.eos == 7);
  CHECK(model.generation.suppressed == std::vector<std::uint32_t>{0});
}

TEST_CASE("tensors have the names and shapes of the description, and the file holds no others") {
  Described d = described_model("decoder_learned");
  d.tensors["stacks.0.final_gain"] = {13};
  CHECK(says(refusal(d), "tensor stacks.0.final_gain has the shape [13], not [12]"));
  d = described_model("decoder_learned");
  d.tensors["stacks.0.position_embedding"] = {17, 12};
  CHECK(says(refusal(d), "has the shape [17, 12], not at least 18 rows of 12"));
  d = described_model("decoder_learned");
  d.tensors.erase("stacks.0.layers.1.w_key.bias");
  CHECK(says(refusal(d), "tensor stacks.0.layers.1.w_key.bias is missing"));
  d = described_model("decoder_learned");
  d.tensors["stacks.0.layers.2.w_key"] = {12, 12};
  CHECK(says(refusal(d), "tensor stacks.0.layers.2.w_key is not part of what the description says"));
  d = described_model("whisper");
  d.tensors["stacks.0.convolution_1"] = {12, 3, 5};
  CHECK(says(refusal(d), "has the shape [12, 3, 5], not [12, 5, 3] or [12, 15]"));
  // One tensor under two names: layers that share their weights.
  d = described_model("decoder");
  d.tensors.erase("stacks.0.layers.1.w_up");
  d.description["tensors"] = {{"stacks.0.layers.1.w_up", "stacks.0.layers.0.w_up"}};
  CHECK(refusal(d).empty());
}

TEST_CASE("files that are no description") {
  FloatModel model;
  const auto refused = [&](const std::string& json) {
    return read_description(model, Described::span(json), Described::span("")).sentence();
  };
  CHECK(says(refused(""), "the description: its JSON cannot be parsed"));
  CHECK(says(refused("[]"), "is not an object"));
  CHECK(says(refused("{\"heed\":2,\"heed\":2}"), "has a name twice"));
  CHECK(says(refused("{\"heed\":[[[[[[[[[2]]]]]]]]]}"), "nests more than 8 deep"));
  CHECK(says(refused(std::string((1u << 20) + 1, ' ')), "longer than 1 MiB"));
}
