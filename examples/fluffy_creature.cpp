// SPDX-License-Identifier: Apache-2.0
// fluffy_creature.cpp: attention alone, on the picture that explains it: adjectives move the noun behind them.
//
// Hand-set weights. Each word's embedding says what kind of word it is and what it means. In head 0 a noun asks "are
// there adjectives in front of me?", adjectives answer, and what they mean is added to the noun. In head 1 every word
// asks for an article. The printed pattern has one row per word: how much it listens to each word up to itself.
#include <cmath>
#include <cstdio>
#include <initializer_list>

#include "examples/require.hpp"
#include "platform/select.hpp"
#include "runtime/attention.hpp"

namespace {

constexpr std::uint32_t kModel = 16, kHeads = 2, kHeadDim = 4, kWords = 8;

// Directions of the embedding space.
enum Direction { noun, adjective, article, verb, constant, fluffy, blue, creature, roams, verdant, forest, definite,
                 place };
const char* const kDirections[] = {"noun",     "adjective", "article", "verb",    "constant", "fluffy",
                                   "blue",     "creature",  "roams",   "verdant", "forest",   "definite",
                                   "place"};

struct Word {
  const char* text;
  Direction kind, meaning;
};
constexpr Word kText[kWords] = {{"a", article, constant},        {"fluffy", adjective, fluffy},
                                {"blue", adjective, blue},       {"creature", noun, creature},
                                {"roams", verb, roams},          {"the", article, definite},
                                {"verdant", adjective, verdant}, {"forest", noun, forest}};

// A matrix that we fill by hand, in the byte order that the kernel table eats.
template <std::uint32_t Rows, std::uint32_t Cols>
struct HandSet {
  alignas(64) std::int8_t weights[64 * 64] = {};
  float scales[64];
  heed::Tensor tensor;

  explicit HandSet(heed::Layout layout) {
    for (float& s : scales) s = 1.0f / 16.0f;
    tensor.weights = weights;
    tensor.scales = scales;
    tensor.rows = Rows;
    tensor.cols = Cols;
    tensor.layout = layout;
  }
  void set(std::uint32_t row, std::uint32_t col, int sixteenths) {
    heed::set_weight(weights, tensor.layout, Rows, Cols, row, col, sixteenths);
  }
};

// What attention tells us while it runs.
struct Pattern {
  float weights[kHeads][kWords][kWords] = {};
  int computed = 0;
};

void take_row(void* context, std::uint32_t, std::uint32_t head, std::uint32_t position, std::uint32_t first_key,
              heed::Span<const float> weights) {
  auto& pattern = *static_cast<Pattern*>(context);
  for (std::size_t k = 0; k < weights.size(); ++k) {
    pattern.weights[head][position][first_key + k] = weights[k];
    ++pattern.computed;
  }
}

void print_pattern(const Pattern& pattern, std::uint32_t head) {
  std::printf("%9s", "");
  for (const Word& w : kText) std::printf("%9s", w.text);
  std::printf("      sum\n");
  for (std::uint32_t q = 0; q < kWords; ++q) {
    std::printf("%9s", kText[q].text);
    float sum = 0.0f;
    for (std::uint32_t k = 0; k < kWords; ++k) {
      const float w = pattern.weights[head][q][k];
      sum += w;
      if (k > q) {
        std::printf("%9s", "");
      } else {
        std::printf("%9.3f", static_cast<double>(w));
      }
    }
    std::printf("%9.6f\n", static_cast<double>(sum));
  }
}

}  // namespace

int main() {
  const heed::Kernels& kernels = heed::best_kernels();
  const heed::Layout layout = kernels.traits.preferred;

  HandSet<kHeads * kHeadDim, kModel> w_query(layout), w_key(layout), w_value_down(layout);
  HandSet<kModel, kHeads * kHeadDim> w_value_up(layout);
  // Head 0, row 0: nouns ask, adjectives answer. Row 1: what is near counts more; for a word that asks for nothing
  // that leaves mostly itself.
  w_query.set(0, noun, 96);
  w_key.set(0, adjective, 96);
  w_query.set(1, constant, 96);
  for (const Direction kind : {adjective, article, verb}) w_query.set(1, kind, 127);
  w_key.set(1, place, 38);
  // What adjectives mean goes down into the head ...
  w_value_down.set(0, fluffy, 16);
  w_value_down.set(1, blue, 16);
  w_value_down.set(2, verdant, 16);
  // ... and up again: a noun that hears them becomes fluffy, blue, verdant.
  w_value_up.set(fluffy, 0, 32);
  w_value_up.set(blue, 1, 32);
  w_value_up.set(verdant, 2, 32);
  // Head 1: every word asks for an article, and the definite one makes it definite.
  w_query.set(kHeadDim, constant, 96);
  w_key.set(kHeadDim, article, 96);
  w_value_down.set(kHeadDim, definite, 16);
  w_value_up.set(definite, kHeadDim, 32);

  heed::AttentionConfig config;
  config.d_model = kModel;
  config.n_heads = kHeads;
  config.n_kv_heads = kHeads;
  config.head_dim = kHeadDim;
  config.max_seq = 16;
  heed::AttentionMemory memory;
  require(heed::make_attention_plan(memory, config, kernels.traits));
  alignas(64) static std::byte arena[16 * 1024];

  heed::AttentionWeights weights;
  weights.w_query = w_query.tensor;
  weights.w_key = w_key.tensor;
  weights.w_value_down = w_value_down.tensor;
  weights.w_value_up = w_value_up.tensor;
  heed::Attention attention;
  require(heed::create(attention, config, weights, memory, kernels, arena));
  Pattern pattern;
  attention.set_tap({take_row, &pattern});

  float embeddings[kWords][kModel] = {}, change[kWords][kModel];
  for (std::uint32_t i = 0; i < kWords; ++i) {
    embeddings[i][kText[i].kind] = 1.0f;
    embeddings[i][constant] = 1.0f;
    embeddings[i][kText[i].meaning] = 1.0f;
    embeddings[i][place] = static_cast<float>(i) / 8.0f;
  }
  require(attention.forward({&change[0][0], kWords * kModel}, {&embeddings[0][0], kWords * kModel}));

  std::printf("%s kernels, %u bytes of memory, %d weights computed (a full square would be %u)\n", kernels.traits.name,
              static_cast<unsigned>(memory.arena_bytes), pattern.computed, kHeads * kWords * kWords);
  std::printf("\nhead 0: nouns listen to the adjectives in front of them\n");
  print_pattern(pattern, 0);
  std::printf("\nhead 1: everyone listens for articles\n");
  print_pattern(pattern, 1);
  std::printf("\nthe change to each embedding, where it is more than a hundredth\n");
  for (std::uint32_t i = 0; i < kWords; ++i) {
    std::printf("%9s", kText[i].text);
    for (std::uint32_t d = 0; d < sizeof kDirections / sizeof kDirections[0]; ++d)
      if (std::fabs(change[i][d]) > 0.01f) std::printf("  %s %+.2f", kDirections[d], static_cast<double>(change[i][d]));
    std::printf("\n");
  }
  return 0;
}
