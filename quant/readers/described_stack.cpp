// SPDX-License-Identifier: Apache-2.0
// described_stack.cpp: field by field, in the order of SPEC.md 7.2.
#include "quant/readers/described_stack.hpp"

#include <algorithm>
#include <vector>

#include "quant/readers/fields.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

// Of tables that the converter makes out of a few numbers.
constexpr std::uint64_t kMaxTableFloats = 1u << 26, kMaxDistanceBiases = 1u << 24;
constexpr std::uint32_t kMaxVocabulary = 1u << 20, kMaxPositions = 1u << 20, kMaxWidth = 65536;
constexpr double kSmallestNumber = 0x1p-40, kLargestNumber = 0x1p40;

Rope read_rope(const Json& json, const std::string& path, Error& error) {
  Rope rope;
  Fields in(json, path, error);
  rope.theta = in.number_or("theta", rope.theta, 1.0 + 0x1p-20, 1e12);
  if (const Json* scaling = in.object("scaling")) {
    Fields s(*scaling, path + "scaling.", error);
    if (!s.has("type")) s.refuse("type", "is missing");
    rope.scaling = s.choice_or<RopeScaling>("type", RopeScaling::none, {{"linear", RopeScaling::linear},
                                                                       {"ntk", RopeScaling::ntk},
                                                                       {"yarn", RopeScaling::yarn},
                                                                       {"llama3", RopeScaling::llama3}});
    if (!s.has("factor")) s.refuse("factor", "is missing");
    rope.factor = s.number_or("factor", 1.0, 1.0, 1e6);
    const bool yarn = rope.scaling == RopeScaling::yarn, llama3 = rope.scaling == RopeScaling::llama3;
    if (yarn || llama3) rope.original_max_seq = s.size("original_max_seq", 1, 1u << 24);
    if (yarn) {
      rope.beta_fast = s.number_or("beta_fast", rope.beta_fast, 1e-3, 1e6);
      rope.beta_slow = s.number_or("beta_slow", rope.beta_slow, 1e-3, 1e6);
      if (rope.beta_slow > rope.beta_fast) s.refuse("beta_slow", "is above beta_fast");
      rope.attention_factor = s.number_or("attention_factor", 0.0, 1e-3, 1e3);
    }
    if (llama3) {
      rope.low_freq_factor = s.number_or("low_freq_factor", rope.low_freq_factor, 1e-3, 1e6);
      rope.high_freq_factor = s.number_or("high_freq_factor", rope.high_freq_factor, 1e-3, 1e6);
      if (rope.low_freq_factor >= rope.high_freq_factor) s.refuse("low_freq_factor", "is not below high_freq_factor");
    }
    s.finish();
  }
  in.finish();
  return rope;
}

class StackReader {
 public:
  StackReader(const Json& json, std::uint32_t stack, std::uint32_t n_stacks, std::uint32_t d_source, Error& error)
      : path_("stacks[" + std::to_string(stack) + "]."), error_(error), in_(json, path_, error),
        is_source_(stack + 1 < n_stacks), is_second_(stack > 0), d_source_(d_source) {}

  void read(StackConfig& config, StackExtras& extras) {
    c_ = StackConfig{};
    c_.rotary_pairing = RotaryPairing::adjacent;
    read_shape();
    read_input();
    read_blocks();
    read_cross_attention();
    read_positions();
    read_window();
    read_output();
    read_biases();
    in_.finish();
    config = c_;
    extras = x_;
  }

 private:
  bool is_tokens() const { return c_.input == Input::tokens; }
  // Who leaves out `use` may not know what that means.
  std::string generating() { return std::string("a stack that generates") + (in_.has("use") ? "" : " (as one without use does)"); }
  bool has_matrix_input() const { return c_.input == Input::projected || c_.input == Input::convolved; }

  void read_shape() {
    c_.use = in_.choice_or<Use>("use", is_source_ ? Use::encode : Use::generate,
                                {{"generate", Use::generate}, {"encode", Use::encode}});
    if (is_source_ && c_.use != Use::encode) in_.refuse("use", "is not encode, as it is for the first of two stacks");
    c_.d_model = in_.size("d_model", 1, kMaxWidth);
    c_.d_ff = in_.size("d_ff", 1, kMaxCols);
    c_.n_layers = in_.size("n_layers", 1, 4096);
    c_.n_heads = in_.size("n_heads", 1, 1024);
    c_.n_kv_heads = in_.size_or("n_kv_heads", c_.n_heads, 1, 1024);
    c_.max_seq = in_.size("max_seq", 1, kMaxPositions);
    if (!in_.has("head_dim") && c_.d_model % c_.n_heads != 0)
      in_.refuse("n_heads", "does not divide d_model, so head_dim is needed");
    c_.head_dim = in_.size_or("head_dim", c_.d_model / c_.n_heads, 1, kMaxHeadDim);
    if (c_.head_dim < 1 || c_.head_dim > kMaxHeadDim)
      in_.refuse("n_heads", "makes heads of " + std::to_string(c_.head_dim) + ", not of 1 to " + std::to_string(kMaxHeadDim));
    if (c_.n_heads % c_.n_kv_heads != 0) in_.refuse("n_kv_heads", "does not divide n_heads");
    if (c_.d_query() > kMaxCols) in_.refuse("n_heads", "makes queries of more than " + std::to_string(kMaxCols));
    c_.value_map = in_.choice_or<ValueMap>(
        "value_map", ValueMap::factors, {{"factors", ValueMap::factors}, {"undivided", ValueMap::undivided}});
    if (c_.value_map == ValueMap::undivided && (c_.d_model > kMaxHeadDim || c_.d_heads() > kMaxCols))
      in_.refuse("value_map", "needs a d_model of at most " + std::to_string(kMaxHeadDim) +
                                  " and n_heads * d_model of at most " + std::to_string(kMaxCols));
  }

  void read_input() {
    c_.input = in_.choice_or<Input>("input", Input::tokens, {{"tokens", Input::tokens},
                                                            {"vectors", Input::vectors},
                                                            {"projected", Input::projected},
                                                            {"convolved", Input::convolved}});
    const bool convolved = c_.input == Input::convolved;
    in_.only_if(is_tokens(), "vocab_size", "stands beside an input that is not tokens");
    in_.only_if(is_tokens(), "embedding_scale", "stands beside an input that is not tokens");
    in_.only_if(is_tokens(), "n_token_types", "stands beside an input that is not tokens");
    if (is_tokens()) c_.vocab_size = in_.size("vocab_size", 1, kMaxVocabulary);
    c_.embedding_scale = static_cast<float>(in_.number_or("embedding_scale", 1.0, kSmallestNumber, kLargestNumber));
    c_.n_token_types = in_.size_or("n_token_types", 0, 0, 65536);
    in_.only_if(!is_tokens(), "d_input", "stands beside tokens");
    if (has_matrix_input()) {
      c_.d_input = in_.size("d_input", 1, kMaxWidth);
    } else if (in_.has("d_input") && in_.size("d_input", 1, kMaxWidth) != c_.d_model) {
      in_.refuse("d_input", "is not d_model, as it is for vectors that come as they are");
    }
    in_.only_if(convolved, "second_convolution", "needs the input convolved");
    in_.only_if(convolved, "strides", "needs the input convolved");
    c_.second_convolution = in_.flag_or("second_convolution", false);
    if (convolved) {
      const std::size_t convolutions = c_.second_convolution ? 2 : 1;
      std::vector<std::uint32_t> strides = in_.sizes("strides", 2, 1, 2);
      if (in_.has("strides") && strides.size() != convolutions)
        in_.refuse("strides", "does not have one number for each convolution");
      strides.resize(2, 1);
      for (std::size_t i = 0; i < convolutions; ++i) c_.strides[i] = static_cast<std::uint8_t>(strides[i]);
      if (3 * c_.d_input > kMaxCols)
        in_.refuse("d_input", "is above " + std::to_string(kMaxCols / 3) + ", the most of a convolution");
      if (c_.second_convolution && 3 * c_.d_model > kMaxCols)
        in_.refuse("d_model", "is above " + std::to_string(kMaxCols / 3) + ", the most of a convolution");
    }
    c_.n_class_vectors = in_.size_or("n_class_vectors", 0, 0, 65536);
    if (c_.n_class_vectors >= c_.max_seq) in_.refuse("n_class_vectors", "leaves no position of max_seq");
    c_.input_norm = in_.flag_or("input_norm", false);
    const bool generate = c_.use == Use::generate;
    if (generate && !is_tokens()) in_.refuse("input", "is not tokens, which " + generating() + " reads");
    if (generate && c_.n_class_vectors) in_.refuse("n_class_vectors", "stands in " + generating());
  }

  Activation activation(const char* name, Activation fallback) {
    return in_.choice_or<Activation>(name, fallback, {{"relu", Activation::relu},
                                                      {"gelu_tanh", Activation::gelu_tanh},
                                                      {"gelu_erf", Activation::gelu_erf},
                                                      {"gelu_quick", Activation::gelu_quick},
                                                      {"silu", Activation::silu},
                                                      {"tanh", Activation::tanh},
                                                      {"none", Activation::none}});
  }

  void read_blocks() {
    c_.mask = in_.choice_or<Mask>("mask", c_.use == Use::generate ? Mask::causal : Mask::two_way,
                                  {{"causal", Mask::causal}, {"two_way", Mask::two_way}});
    if (c_.use == Use::generate && c_.mask != Mask::causal)
      in_.refuse("mask", "is not causal, as it is in " + generating());
    c_.norm = in_.choice_or<Norm>("norm", Norm::rms, {{"rms", Norm::rms}, {"layer", Norm::layer}});
    c_.norm_epsilon = static_cast<float>(in_.number_or("norm_epsilon", 1e-5, kSmallestNumber, kLargestNumber));
    x_.gain_plus_one = in_.flag_or("gain_plus_one", false);
    c_.norm_placement = in_.choice_or<NormPlacement>("norm_placement", NormPlacement::before,
                                                     {{"before", NormPlacement::before},
                                                      {"after", NormPlacement::after},
                                                      {"both", NormPlacement::both}});
    c_.sublayers = in_.choice_or<Sublayers>("sublayers", Sublayers::in_turn,
                                            {{"in_turn", Sublayers::in_turn},
                                             {"side_by_side", Sublayers::side_by_side},
                                             {"side_by_side_two_norms", Sublayers::side_by_side_two_norms}});
    if (c_.sublayers != Sublayers::in_turn && c_.norm_placement == NormPlacement::after)
      in_.refuse("sublayers", "needs norms before the sublayers");
    c_.final_norm = in_.flag_or("final_norm", true);
    c_.query_key_norm = in_.choice_or<HeadNorm>(
        "query_key_norm", HeadNorm::none, {{"none", HeadNorm::none}, {"rms", HeadNorm::rms}, {"layer", HeadNorm::layer}});
    const double usual = 1.0f / square_root(static_cast<float>(c_.head_dim));
    c_.attention_scale =
        static_cast<float>(in_.number_or("attention_scale", usual, kSmallestNumber, kLargestNumber));
    c_.gated = in_.flag_or("gated", false);
    if (!in_.has("activation")) in_.refuse("activation", "is missing");
    c_.activation = activation("activation", Activation::silu);
    if (c_.activation == Activation::tanh || c_.activation == Activation::none)
      in_.refuse("activation", "stands behind dense only");
  }

  void read_cross_attention() {
    c_.cross_attention = in_.flag_or("cross_attention", is_second_);
    if (c_.cross_attention && !is_second_) in_.refuse("cross_attention", "stands in the first stack, which has no source");
    if (!c_.cross_attention && is_second_) in_.refuse("cross_attention", "leaves the first stack without a reader");
    in_.only_if(is_second_, "cross_scale", "stands in a stack without cross-attention");
    if (!is_second_) return;
    if (c_.sublayers != Sublayers::in_turn) in_.refuse("sublayers", "leaves no place for cross-attention");
    c_.d_source = d_source_;
    c_.cross_scale = static_cast<float>(in_.number_or("cross_scale", c_.attention_scale, kSmallestNumber, kLargestNumber));
  }

  void read_positions() {
    c_.position = in_.choice_or<Position>("position", Position::none, {{"none", Position::none},
                                                                      {"rotary", Position::rotary},
                                                                      {"alibi", Position::alibi},
                                                                      {"relative", Position::relative}});
    const bool rotary = c_.position == Position::rotary;
    for (const char* name : {"rotary_pairing", "rotary_dims", "rope", "local_rope"})
      in_.only_if(rotary, name, "needs the position rotary");
    c_.rotary_pairing = in_.choice_or<RotaryPairing>(
        "rotary_pairing", RotaryPairing::adjacent, {{"adjacent", RotaryPairing::adjacent}, {"halves", RotaryPairing::halves}});
    if (rotary) read_rotary();
    in_.only_if(c_.position == Position::alibi, "alibi", "needs the position alibi");
    in_.only_if(c_.position == Position::relative, "relative", "needs the position relative");
    if (c_.position == Position::alibi) read_alibi();
    if (c_.position == Position::relative) read_relative();
    read_position_table();
  }

  void read_rotary() {
    c_.rotary_dims = in_.size_or("rotary_dims", c_.head_dim, 2, kMaxHeadDim);
    const char* about = in_.has("rotary_dims") ? "rotary_dims" : "head_dim";
    if (c_.rotary_dims % 2 != 0) in_.refuse(about, "is odd, and dimensions rotate in pairs");
    if (c_.rotary_dims > c_.head_dim) in_.refuse("rotary_dims", "is above head_dim");
    const auto usable = [&](const Rope& rope, const char* name) {
      if (rope.scaling == RopeScaling::ntk && c_.rotary_dims <= 2)
        in_.refuse(name, "has the scaling ntk, which needs more than one pair");
    };
    if (const Json* rope = in_.object("rope")) x_.rope = read_rope(*rope, path_ + "rope.", error_);
    usable(x_.rope, "rope");
    if (const Json* rope = in_.object("local_rope")) {
      x_.local_rope = read_rope(*rope, path_ + "local_rope.", error_);
      c_.local_rotary = 1;
      usable(x_.local_rope, "local_rope");
    }
  }

  void read_alibi() {
    x_.slopes = alibi_slopes(c_.n_heads);
    const Json* alibi = in_.object("alibi");
    if (!alibi) return;
    Fields a(*alibi, path_ + "alibi.", error_);
    if (a.has("slopes")) {
      const Json& slopes = a.value("slopes");
      x_.slopes.clear();
      if (slopes.is_array() && slopes.size() == c_.n_heads)
        for (const Json& slope : slopes)
          if (slope.is_number() && slope.get<double>() >= 0.0 && slope.get<double>() <= 256.0)
            x_.slopes.push_back(slope.get<float>());
      if (x_.slopes.size() != c_.n_heads) a.refuse("slopes", "is not a list of n_heads numbers from 0 to 256");
    }
    a.finish();
  }

  void read_relative() {
    const Json* relative = in_.object("relative");
    if (!relative) {
      if (!in_.has("relative")) in_.refuse("relative", "is missing");
      return;
    }
    Fields r(*relative, path_ + "relative.", error_);
    const bool two_way = c_.mask == Mask::two_way;
    if (r.has("distances")) {
      r.only_if(false, "buckets", "stands beside distances");
      r.only_if(false, "max_distance", "stands beside distances");
      c_.n_distances = r.size("distances", 1, kMaxPositions);
      if (two_way && c_.n_distances % 2 == 0) r.refuse("distances", "is even, and both sides of 0 need as many");
    } else {
      x_.buckets = r.size("buckets", two_way ? 4 : 2, 4096);
      x_.max_distance = r.size("max_distance", 2, 65536);
      if (two_way && x_.buckets % 2 != 0) r.refuse("buckets", "is odd, and both sides of 0 need as many");
      if (x_.max_distance <= (two_way ? x_.buckets / 4 : x_.buckets / 2))
        r.refuse("max_distance", "is not above the distances that have buckets of their own");
      if (!error_) c_.n_distances = relative_distances(x_.buckets, x_.max_distance, two_way, c_.max_seq);
    }
    if (std::uint64_t{c_.n_distances} * c_.n_heads > kMaxDistanceBiases)
      r.refuse(x_.buckets ? "max_distance" : "distances", "makes more than 2^24 biases");
    r.finish();
  }

  void read_position_table() {
    if (in_.has("position_table")) {
      const Json& table = in_.value("position_table");
      x_.sinusoidal = table == "sinusoidal";
      c_.position_table = x_.sinusoidal || table == "learned";
      if (!c_.position_table && table != false) in_.refuse("position_table", "is none of false, learned, sinusoidal");
    }
    in_.only_if(c_.position_table && !x_.sinusoidal, "position_offset", "needs the position_table learned");
    x_.position_offset = in_.size_or("position_offset", 0, 0, kMaxPositions);
    in_.only_if(x_.sinusoidal, "sinusoids", "needs the position_table sinusoidal");
    if (!x_.sinusoidal) return;
    if (c_.d_model % 2 != 0) in_.refuse("d_model", "is odd, and sinusoids are pairs");
    if (std::uint64_t{c_.max_seq} * c_.d_model > kMaxTableFloats)
      in_.refuse("max_seq", "makes more than 2^26 numbers of sinusoids");
    const Json* sinusoids = in_.object("sinusoids");
    if (!sinusoids) return;
    Fields s(*sinusoids, path_ + "sinusoids.", error_);
    x_.sinusoids.order = s.choice_or<SinusoidOrder>(
        "order", SinusoidOrder::interleaved,
        {{"interleaved", SinusoidOrder::interleaved}, {"sines_first", SinusoidOrder::sines_first}});
    x_.sinusoids.first_position = s.size_or("first_position", 0, 0, kMaxPositions);
    x_.sinusoids.theta = s.number_or("theta", x_.sinusoids.theta, 1.0 + 0x1p-20, 1e12);
    x_.sinusoids.half_minus_one =
        s.choice_or<bool>("last_exponent", false, {{"half", false}, {"half_minus_one", true}});
    if (x_.sinusoids.half_minus_one && c_.d_model == 2) s.refuse("last_exponent", "needs a d_model above 2");
    s.finish();
  }

  void read_window() {
    c_.window = in_.size_or("window", 0, 0, kMaxPositions);
    c_.global_every = in_.size_or("global_every", 0, 0, 4096);
    c_.global_first = in_.size_or("global_first", 0, 0, 4095);
    if (c_.global_every == 1) in_.refuse("global_every", "lets every layer see all keys; leave out the window");
    if (c_.global_every && !c_.window) in_.refuse("global_every", "needs a window");
    if (c_.global_first && c_.global_first >= c_.global_every) in_.refuse("global_first", "is not below global_every");
    if (c_.local_rotary && !c_.window) in_.refuse("local_rope", "needs a window");
  }

  void read_output() {
    c_.pooling = in_.choice_or<Pooling>("pooling", Pooling::every, {{"every", Pooling::every},
                                                                   {"first", Pooling::first},
                                                                   {"mean", Pooling::mean},
                                                                   {"last", Pooling::last}});
    c_.dense = in_.flag_or("dense", false);
    for (const char* name : {"d_dense", "dense_activation", "dense_norm"}) in_.only_if(c_.dense, name, "needs dense");
    if (c_.dense) c_.d_dense = in_.size_or("d_dense", c_.d_model, 1, kMaxWidth);
    c_.dense_activation = activation("dense_activation", Activation::none);
    c_.dense_norm = in_.flag_or("dense_norm", false);
    c_.output = in_.choice_or<Output>("output", is_source_ ? Output::vectors : Output::logits,
                                      {{"logits", Output::logits}, {"vectors", Output::vectors}});
    const bool logits = c_.output == Output::logits, generate = c_.use == Use::generate;
    in_.only_if(logits, "n_outputs", "stands beside an output of vectors");
    if (logits)
      c_.n_outputs = is_tokens() ? in_.size_or("n_outputs", c_.vocab_size, 1, kMaxVocabulary)
                                 : in_.size("n_outputs", 1, kMaxVocabulary);
    c_.tied_unembedding = in_.flag_or("tied_unembedding", false);
    c_.unit_length = in_.flag_or("unit_length", false);
    c_.n_output_heads = static_cast<std::uint8_t>(in_.size_or("n_output_heads", 1, 1, 7));

    if (is_source_ && (logits || c_.unit_length))
      in_.refuse(logits ? "output" : "unit_length", "is not what the second stack reads: vectors as they are");
    if (is_source_ && (c_.dense || c_.pooling != Pooling::every))
      in_.refuse(c_.dense ? "dense" : "pooling", "stands in the first of two stacks");
    if (generate && !logits) in_.refuse("output", "is not logits, which " + generating() + " gives");
    if (generate && c_.pooling != Pooling::every) in_.refuse("pooling", "stands in " + generating());
    if (generate && c_.n_outputs != c_.vocab_size) in_.refuse("n_outputs", "is not vocab_size, as it is in " + generating());
    if (c_.tied_unembedding && (!is_tokens() || !logits || c_.n_outputs != c_.vocab_size || c_.n_output_heads != 1 ||
                                c_.d_output() != c_.d_model))
      in_.refuse("tied_unembedding",
                 "needs tokens, as many outputs, logits from one head, and d_dense, if there is one, to be d_model");
    if (c_.unit_length && logits) in_.refuse("unit_length", "needs an output of vectors");
    if (c_.n_output_heads > 1 && (c_.pooling != Pooling::first || !logits || c_.dense ||
                                  c_.n_output_heads > c_.n_class_vectors + 1))
      in_.refuse("n_output_heads", "needs logits, the pooling first, no dense, and as many class vectors less one");
  }

  void read_biases() {
    struct Bias {
      const char* name;
      std::uint32_t bit;
      bool allowed;
      const char* why;
    };
    const bool undivided = c_.value_map == ValueMap::undivided, cross = c_.cross_attention != 0;
    const char* no_cross = "needs cross-attention";
    const bool norm = c_.norm == Norm::layer || c_.query_key_norm == HeadNorm::layer;
    const Bias kBiases[] = {
        {"query", kBiasQuery, true, ""},
        {"key", kBiasKey, true, ""},
        {"value_down", kBiasValueDown, true, ""},
        {"value_up", kBiasValueUp, !undivided, "needs the value_map factors"},
        {"ffn_in", kBiasFfnIn, true, ""},
        {"down", kBiasDown, true, ""},
        {"unembedding", kBiasUnembedding, c_.output == Output::logits, "needs logits"},
        {"norm", kBiasNorm, norm, "needs layer norm"},
        {"cross_query", kBiasCrossQuery, cross, no_cross},
        {"cross_key", kBiasCrossKey, cross, no_cross},
        {"cross_value_down", kBiasCrossValueDown, cross, no_cross},
        {"cross_value_up", kBiasCrossValueUp, cross && !undivided, "needs cross-attention and the value_map factors"},
        {"input", kBiasInput, has_matrix_input(), "needs the input projected or convolved"},
        {"dense", kBiasDense, c_.dense != 0, "needs dense"}};
    for (const std::string& name : in_.texts("biases", 64)) {
      const auto found = std::find_if(std::begin(kBiases), std::end(kBiases), [&](const Bias& b) { return name == b.name; });
      if (found == std::end(kBiases))
        in_.refuse("biases", "names " + printable(name) + ", which has none");
      else if (!found->allowed)
        in_.refuse("biases", "names " + name + ", which " + found->why);
      else
        c_.biases |= found->bit;
    }
  }

  const std::string path_;
  Error& error_;
  Fields in_;
  const bool is_source_, is_second_;
  const std::uint32_t d_source_;
  StackConfig c_;
  StackExtras x_;
};

}  // namespace

void read_stack(StackConfig& config, StackExtras& extras, const Json& json, std::uint32_t stack, std::uint32_t n_stacks,
                std::uint32_t d_source, Error& error) {
  StackReader(json, stack, n_stacks, d_source, error).read(config, extras);
}

}  // namespace heed::quant
