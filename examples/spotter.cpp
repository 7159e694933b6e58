// SPDX-License-Identifier: Apache-2.0
// spotter.cpp: a network of one's own from heed's parts: which digit is spoken? Two blocks of attention that looks both ways
// and a gated feed-forward layer, over frames of 24 bands of sound; examples/models/README.md says where its weights come from.
#include <cstdio>

#include "examples/models/spotter_weights.h"
#include "examples/require.hpp"
#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "runtime/layers.hpp"

namespace {

constexpr std::uint32_t kBands = 24, kModel = 32, kFf = 64, kHeads = 2, kHeadDim = 16, kLayers = 2, kFrames = 128, kDigits = 10;
constexpr float kFeatureUnit = 1.0f / 32.0f, kEpsilon = 1e-5f;

constexpr std::uint32_t kChunk = 8;  // frames that go through a layer together

// None of these layers keeps anything between two calls, attention neither, since it hears a whole clip in each: so all of
// them work in the same memory.
alignas(64) std::byte arena[20 * 1024];

class Spotter {
 public:
  explicit Spotter(const heed::Kernels& kernels) : kernels_(kernels) {
    heed::AttentionConfig attention;
    attention.d_model = kModel;
    attention.n_heads = attention.n_kv_heads = kHeads;
    attention.head_dim = attention.rotary_dims = kHeadDim;
    attention.max_seq = kFrames;
    attention.mask = heed::Mask::two_way;
    heed::AttentionMemory attention_memory;
    require(heed::make_attention_plan(attention_memory, attention, kernels.traits, kChunk));
    const heed::FeedForwardConfig feed_forward{kModel, kFf};
    heed::FeedForwardMemory feed_forward_memory;
    require(heed::make_feed_forward_plan(feed_forward_memory, feed_forward, kernels.traits, kChunk));

    using namespace spotter_weights;
    heed::AttentionWeights attends[kLayers];
    attends[0].w_query = layer0_query;
    attends[0].w_key = layer0_key;
    attends[0].w_value_down = layer0_value_down;
    attends[0].w_value_up = layer0_value_up;
    attends[1].w_query = layer1_query;
    attends[1].w_key = layer1_key;
    attends[1].w_value_down = layer1_value_down;
    attends[1].w_value_up = layer1_value_up;
    const heed::FeedForwardWeights feeds[kLayers] = {{layer0_gate, layer0_up, layer0_down},
                                                     {layer1_gate, layer1_up, layer1_down}};
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      attends[layer].rotary_phases = rotary_phases;
      require(heed::create(attention_[layer], attention, attends[layer], attention_memory, kernels, arena));
      require(heed::create(feed_forward_[layer], feed_forward, feeds[layer], feed_forward_memory, kernels, arena));
    }
    create(input_, {kBands, kModel}, input);
    create(output_, {kModel, kDigits}, output);
    std::printf("%s kernels; a layer takes at most %u bytes of memory\n", kernels.traits.name,
                static_cast<unsigned>(attention_memory.arena_bytes));
  }

  // Which digit the frames [n, kBands], n at most kFrames, sound like.
  std::uint32_t hear(const std::int8_t* frames, std::uint32_t n) {
    using namespace spotter_weights;
    static float features[kFrames * kBands], x[kFrames * kModel], h[kFrames * kModel];
    const heed::Span<float> rows{x, n * kModel}, normed{h, n * kModel};
    for (std::uint32_t i = 0; i < n * kBands; ++i) features[i] = static_cast<float>(frames[i]) * kFeatureUnit;
    require(input_.forward(rows, {features, n * kBands}));
    const float* const gains[kLayers][2] = {{layer0_attention_gain, layer0_ffn_gain},
                                            {layer1_attention_gain, layer1_ffn_gain}};
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      norm(normed, rows, gains[layer][0]);                 // x += attention(norm(x))
      require(attention_[layer].forward(normed, normed));
      require(heed::add(rows, normed));
      norm(normed, rows, gains[layer][1]);                 // x += feed_forward(norm(x))
      require(feed_forward_[layer].forward(normed, normed));
      require(heed::add(rows, normed));
    }
    norm(normed, rows, final_gain);
    float pooled[kModel], logits[kDigits];
    require(heed::mean(pooled, normed));
    require(output_.forward(logits, pooled));
    return kernels_.argmax(logits, kDigits);
  }

 private:
  void create(heed::Linear& linear, const heed::LinearConfig& config, const heed::Tensor& weights) {
    heed::LinearMemory memory;
    require(heed::make_linear_plan(memory, config, kernels_.traits, kChunk));
    require(heed::create(linear, config, weights, memory, kernels_, arena));
  }
  void norm(heed::Span<float> out, heed::Span<const float> in, const float* gain) {
    require(heed::norm(out, in, kModel, {gain, nullptr, kEpsilon, false}, kernels_));
  }

  const heed::Kernels& kernels_;
  heed::Linear input_, output_;
  heed::Attention attention_[kLayers];
  heed::FeedForward feed_forward_[kLayers];
};

}  // namespace

int main(int argc, char** argv) {
  heed::MappedFile file;
  if (const char* error = argc == 2 ? file.open(argv[1]) : "usage: spotter CLIPS.bin") {
    std::fprintf(stderr, "spotter: %s\n", error);
    return 2;
  }
  static Spotter spotter(heed::best_kernels());
  // Each clip: which digit it is, how many frames it has, the frames.
  const heed::Span<const std::uint8_t> clips = file.bytes();
  std::uint32_t right = 0, total = 0;
  for (std::size_t at = 0; at + 2 <= clips.size(); ++total) {
    const std::uint32_t digit = clips[at], n = clips[at + 1];
    if (n == 0 || n > kFrames || n * kBands > clips.size() - at - 2) {
      std::fprintf(stderr, "spotter: %s ends inside a clip, or is no file of clips\n", argv[1]);
      return 1;
    }
    const std::uint32_t heard = spotter.hear(reinterpret_cast<const std::int8_t*>(clips.data() + at + 2), n);
    std::printf("%u%s", heard, heard == digit ? " " : "! ");
    right += heard == digit;
    at += 2 + n * kBands;
  }
  std::printf("\n%u of %u digits heard rightly\n", right, total);
  return 0;
}
