// SPDX-License-Identifier: Apache-2.0
// vit.cpp: ViT and DeiT (transformers/models/vit, deit): patches of an image as vectors. What it reads are patches from left to
// right and top to bottom, each [num_channels, height, width] of pixels as the preprocessor makes them.
#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

struct Size {
  std::uint32_t height = 1, width = 1;
};

// A number, or a list of two: height and width.
Size read_size(FamilyConfig& in, const char* name) {
  Size size;
  if (in.has(name) && in.value(name).is_array()) {
    const std::vector<std::uint32_t> both = in.sizes(name, 2, 1, 65536);
    if (both.size() == 2) return {both[0], both[1]};
    in.refuse(name, "is not a height and a width");
    return size;
  }
  size.height = size.width = in.size(name, 1, 65536);
  return size;
}

void read_input(FamilyConfig& in, StackConfig& c, std::uint32_t class_vectors) {
  const Size image = read_size(in, "image_size"), patch = read_size(in, "patch_size");
  const std::uint32_t channels = in.size_or("num_channels", 3, 1, 65536);
  const std::uint64_t width = std::uint64_t{channels} * patch.height * patch.width;
  const std::uint64_t patches = std::uint64_t{image.height / patch.height} * (image.width / patch.width);
  if (width > 65536) in.refuse("patch_size", "makes vectors of more than 65536");
  if (patches == 0 || patches > 65536) in.refuse("image_size", "makes no patch, or more than 65536");
  c.input = Input::projected;
  c.d_input = static_cast<std::uint32_t>(width);
  c.n_class_vectors = class_vectors;
  c.max_seq = static_cast<std::uint32_t>(patches) + class_vectors;
  c.biases |= kBiasInput;
}

void read_config(Family& f, bool deit, bool teacher) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.norm = Norm::layer;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.tied_unembedding = 0;
  c.biases = kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  if (in.flag_or("qkv_bias", true)) c.biases |= kBiasQuery | kBiasKey | kBiasValueDown;
  SizeNames sizes = kUsualSizes;
  sizes.vocab_size = sizes.max_seq = nullptr;
  in.read_sizes(c, sizes);
  c.activation = in.activation("hidden_act", "gelu");
  in.read_epsilon(c, "layer_norm_eps", 1e-12);
  read_input(in, c, deit ? 2 : 1);
  in.ignore({"encoder_stride", "pooler_act", "pooler_output_size", "tie_word_embeddings"});
  if (f.architecture.find("ForImageClassification") == std::string::npos) {
    c.output = Output::vectors;
    return;
  }
  f.model.classes = in.read_classes();
  c.n_outputs = static_cast<std::uint32_t>(f.model.classes.size());
  c.pooling = Pooling::first;
  c.biases |= kBiasUnembedding;
  if (teacher) c.n_output_heads = 2;
}

// Two matrices of as many outputs, one behind the other, in memory: they are small.
void take_two_heads(Family& f) {
  const StackConfig& c = f.model.config.main();
  std::vector<float> weights, biases;
  for (const char* name : {"cls_classifier", "distillation_classifier"}) {
    const StoredTensor w = f.tensors.take(std::string(name) + ".weight", {c.n_outputs, c.d_model}),
                       b = f.tensors.take(std::string(name) + ".bias", {c.n_outputs});
    if (f.error) return;
    const std::vector<float> more = w.read(), more_biases = b.read();
    weights.insert(weights.end(), more.begin(), more.end());
    biases.insert(biases.end(), more_biases.begin(), more_biases.end());
  }
  f.tensors.set(Role::unembedding, 0, StoredTensor::of(std::move(weights), 2 * c.n_outputs, c.d_model));
  f.model.set_bias(Role::unembedding, 0, std::move(biases));
}

void take_input(Family& f, bool deit) {
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  const std::uint64_t d = c.d_model;
  t.flat_matrix(Role::input_projection, "embeddings.patch_embeddings.projection");
  std::vector<float> vectors = t.take("embeddings.cls_token", {1, 1, d}).read();
  if (deit && !f.error) {
    const std::vector<float> second = t.take("embeddings.distillation_token", {1, 1, d}).read();
    vectors.insert(vectors.end(), second.begin(), second.end());
  }
  if (f.error) return;
  t.set(Role::class_vectors, 0, StoredTensor::of(std::move(vectors), c.n_class_vectors, c.d_model));
  t.set(Role::position_embedding, 0, t.take("embeddings.position_embeddings", {1, c.max_seq, d}));
  t.skip("embeddings.mask_token");
}

}  // namespace

void read_vit(Family& f) {
  const bool deit = f.architecture.compare(0, 4, "DeiT") == 0, teacher = f.is("DeiTForImageClassificationWithTeacher");
  read_config(f, deit, teacher);
  if (!f.is_configured()) return;
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  t.choose_prefix({deit ? "deit." : "vit.", ""}, "embeddings.cls_token");
  take_input(f, deit);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "encoder.layer." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "layernorm_before");
    t.matrix(Role::w_query, layer, h + "attention.attention.query");
    t.matrix(Role::w_key, layer, h + "attention.attention.key");
    t.matrix(Role::w_value_down, layer, h + "attention.attention.value");
    t.matrix(Role::w_value_up, layer, h + "attention.output.dense");
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "layernorm_after");
    t.matrix(Role::w_up, layer, h + "intermediate.dense");
    t.matrix(Role::w_down, layer, h + "output.dense");
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "layernorm");
  t.skip_all("pooler.");
  if (c.output == Output::vectors) return;
  t.set_prefix("");
  if (teacher)
    take_two_heads(f);
  else
    t.matrix(Role::unembedding, 0, "classifier");
}

}  // namespace heed::quant
