// SPDX-License-Identifier: Apache-2.0
// huggingface_test.cpp: safetensors and GPT-2 folders: the model that was written, or a refusal that names what is
// wrong.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "quant/convert.hpp"
#include "quant/readers/safetensors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/random.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

namespace {

std::string with_length(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> (8 * i) & 255);
  return file + header + data;
}

Error parse(SafeTensors& tensors, const std::string& file) {
  static std::vector<std::uint8_t> bytes;  // of exactly its size, for the address sanitizer
  bytes.assign(file.begin(), file.end());
  bytes.shrink_to_fit();
  return tensors.open({bytes.data(), bytes.size()});
}

std::string refusal(const std::string& header, std::size_t data_bytes) {
  SafeTensors tensors;
  return parse(tensors, with_length(header, std::string(data_bytes, '\0'))).sentence();
}

bool says(const std::string& sentence, const std::string& part) {
  INFO(sentence);
  CHECK(sentence.find('\n') == std::string::npos);
  return sentence.find(part) != std::string::npos;
}

// A GPT-2 of two layers as a folder that tests may spoil.
struct Folder {
  struct Entry {
    std::vector<std::uint64_t> shape;
    std::vector<float> x;
    std::string dtype = "F32";
  };
  std::map<std::string, std::string> config = {{"architectures", "[\"GPT2LMHeadModel\"]"},
                                               {"activation_function", "\"gelu_new\""},
                                               {"n_embd", "12"},
                                               {"n_head", "3"},
                                               {"n_layer", "2"},
                                               {"n_positions", "9"},
                                               {"vocab_size", "7"},
                                               {"layer_norm_epsilon", "1e-05"}};
  std::map<std::string, Entry> tensors;
  std::string path = (std::filesystem::temp_directory_path() / ("heed_gpt2_" + std::to_string(::getpid()))).string();

  Folder() {
    add("wte.weight", {7, 12});
    add("wpe.weight", {9, 12});
    for (const std::string h : {"h.0.", "h.1."}) {
      for (const std::string norm : {"ln_1", "ln_2"}) add(h + norm + ".weight", {12}), add(h + norm + ".bias", {12});
      add(h + "attn.c_attn.weight", {12, 36}), add(h + "attn.c_attn.bias", {36});
      add(h + "attn.c_proj.weight", {12, 12}), add(h + "attn.c_proj.bias", {12});
      add(h + "mlp.c_fc.weight", {12, 48}), add(h + "mlp.c_fc.bias", {48});
      add(h + "mlp.c_proj.weight", {48, 12}), add(h + "mlp.c_proj.bias", {12});
      add(h + "attn.bias", {1, 1, 9, 9});  // the mask, ignored
    }
    add("ln_f.weight", {12}), add("ln_f.bias", {12});
  }
  ~Folder() { std::filesystem::remove_all(path); }

  void add(const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t n = 1;
    for (const std::uint64_t size : shape) n *= static_cast<std::size_t>(size);
    Entry e{std::move(shape), {}};
    test::Random random(name.size() * 31 + n);
    for (std::size_t i = 0; i < n; ++i) e.x.push_back(0.5f * random.normal());
    tensors[name] = e;
  }
  void write() const {
    std::filesystem::create_directories(path);
    std::ofstream json(path + "/config.json");
    json << "{";
    for (const auto& [name, value] : config)
      json << (name == config.begin()->first ? "" : ",") << '"' << name << "\":" << value;
    json << "}";
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", data;
    for (const auto& [name, e] : tensors) {
      const std::size_t begin = data.size();
      data.append(reinterpret_cast<const char*>(e.x.data()), 4 * e.x.size());
      header += ",\"" + name + "\":{\"dtype\":\"" + e.dtype + "\",\"shape\":" + shape_text(e.shape) +
                ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
    }
    std::ofstream(path + "/model.safetensors", std::ios::binary) << with_length(header + "}", data);
  }
  std::string refused() const {
    write();
    FloatModel model;
    return read_model(model, path).sentence();
  }
};

template <class Edit>
std::string refused(Edit edit) {
  Folder folder;
  edit(folder);
  return folder.refused();
}

}  // namespace

TEST_CASE("safetensors: what is written is what is read") {
  SafeTensors tensors;
  const std::string header =
      R"({"b":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},)"
      R"("__metadata__":{"x":"y"},"empty":{"dtype":"F32","shape":[0,5],"data_offsets":[10,10]}}   )";
  const float numbers[2] = {1.5f, -2.0f};
  std::string data("\x01\x02", 2);
  data.append(reinterpret_cast<const char*>(numbers), 8);
  REQUIRE_FALSE(parse(tensors, with_length(header, data)));
  REQUIRE(tensors.tensors().size() == 3);
  CHECK(tensors.tensors()[0].name == "a");
  REQUIRE(tensors.find("b"));
  CHECK(tensors.find("b")->shape == std::vector<std::uint64_t>{2, 1});
  std::vector<float> x;
  REQUIRE_FALSE(read_floats(x, *tensors.find("b")));  // at an odd address
  CHECK(x == std::vector<float>{1.5f, -2.0f});
  REQUIRE_FALSE(read_floats(x, *tensors.find("empty")));
  CHECK(x.empty());
  CHECK(says(read_floats(x, *tensors.find("a")).sentence(), "tensor a is I8; F32, F16 and BF16 are read"));
  CHECK(tensors.find("c") == nullptr);
}

TEST_CASE("safetensors: hostile files are refused with one sentence") {
  const auto one = [](const std::string& entry, std::size_t bytes = 8) {
    return refusal("{\"t\":" + entry + "}", bytes);
  };
  CHECK(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})").empty());
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,9]})"), "leave the file"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "leave the file"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]})"), "leave the file"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[-1,8]})"), "not two sizes"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), "not two sizes"));
  CHECK(says(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "differ in size"));
  CHECK(says(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"), "more elements"));
  CHECK(says(one(R"({"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,8]})"), "more elements"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "list of sizes"));
  CHECK(says(one(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})"), "at most 8"));
  CHECK(says(one(R"({"dtype":"Q4","shape":[2],"data_offsets":[0,8]})"), "dtype \"Q4\" is unknown"));
  CHECK(says(one(R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})"), "dtype 7 is unknown"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2]})"), "exactly dtype, shape and data_offsets"));
  CHECK(says(one("[]"), "exactly dtype"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 9), "behind the last tensor"));
  CHECK(says(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "does not begin where"));
  CHECK(says(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                     R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                     8),
             "does not begin where"));
  CHECK(says(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                     R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                     8),
             "a name twice: a"));
  CHECK(says(one(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "a name twice: dtype"));
  CHECK(says(one(R"({"dtype":"I8","shape":[2],"data_offsets":[0,8],"shape":[8]})"), "a name twice: shape"));
  CHECK(says(refusal(R"({"__metadata__":{"x":"y","x":"z"}})", 0), "a name twice: x"));
  CHECK(says(refusal("{\"t\\n\\u0007\":3}", 0), "tensor t??"));
  CHECK(says(refusal("[]", 0), "no JSON object"));
  CHECK(says(refusal("", 0), "no JSON object"));
  CHECK(says(refusal("{\"a\":", 0), "cannot be parsed"));
  CHECK(says(refusal("{\"\xFF\":1}", 0), "cannot be parsed"));
  CHECK(says(refusal("{\"a\":" + std::string(100000, '['), 0), "deep"));
  CHECK(says(refusal("{\"a\":1e999}", 0), "cannot be parsed"));
  CHECK(says(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,)" + std::string(1000, '9') + "]}"), ""));
  std::string many = "{\"a\":[0";
  for (std::size_t i = 0; i < 1u << 20; ++i) many += ",0";
  CHECK(says(refusal(many + "]}", 0), "more than 1048576 values"));
  SafeTensors tensors;
  CHECK(says(parse(tensors, "1234567").sentence(), "too short"));
  CHECK(says(parse(tensors, std::string(8, '\xFF') + "{}").sentence(), "longer than the file"));
  CHECK(parse(tensors, with_length("{}", "")).sentence().empty());
}

// A parser that looks at all members for each one does not come to an end here.
TEST_CASE("safetensors: a hundred thousand tensors are read") {
  std::string header;
  for (int i = 0; i < 100000; ++i)
    header += (i ? ",\"" : "{\"") + std::to_string(i) + R"(":{"dtype":"I8","shape":[1],"data_offsets":[)" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  SafeTensors tensors;
  const Error error = parse(tensors, with_length(header + "}", std::string(100000, '\0')));
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  CHECK(tensors.tensors().size() == 100000);
  CHECK(tensors.find("99999") == &tensors.tensors()[99999]);
}

TEST_CASE("a GPT-2 folder gives the model that was written, matrices turned and c_attn cut in three") {
  for (const bool prefixed : {false, true}) {
    Folder folder;
    if (prefixed) {
      std::map<std::string, Folder::Entry> renamed;
      for (const auto& [name, e] : folder.tensors) renamed["transformer." + name] = e;
      folder.tensors = renamed;
    }
    folder.write();
    FloatModel model;
    const Error error = read_model(model, folder.path);
    INFO(error.sentence());
    REQUIRE_FALSE(error);
    const StackConfig& c = model.config.main();
    CHECK((c.norm == Norm::layer && c.position_table && c.activation == Activation::gelu_tanh));
    CHECK((c.d_ff == 48 && c.head_dim == 4 && c.max_seq == 9 && c.tied_unembedding == 1 && c.gated == 0));
    CHECK(model.bos == kNoSourceToken);  // 50256 is not among 7 tokens
    CHECK(parameter_count(c) ==
          7 * 12 + 9 * 12 + 2 * (4 * 12 + 12 * 36 + 36 + 12 * 12 + 12 + 2 * 12 * 48 + 48 + 12) + 24);
    const std::string prefix = prefixed ? "transformer." : "";
    const auto& attn = folder.tensors[prefix + "h.1.attn.c_attn.weight"].x;
    const auto& bias = folder.tensors[prefix + "h.1.attn.c_attn.bias"].x;
    const auto& down = folder.tensors[prefix + "h.0.mlp.c_proj.weight"].x;
    const std::vector<float> query = model.read(Role::w_query, 1), key = model.read(Role::w_key, 1),
                             value = model.read(Role::w_value_down, 1), w_down = model.read(Role::w_down, 0);
    for (std::size_t r = 0; r < 12; ++r) {
      for (std::size_t k = 0; k < 12; ++k) {
        CHECK(query[r * 12 + k] == attn[k * 36 + r]);
        CHECK(key[r * 12 + k] == attn[k * 36 + 12 + r]);
        CHECK(value[r * 12 + k] == attn[k * 36 + 24 + r]);
      }
      for (std::size_t k = 0; k < 48; ++k) CHECK(w_down[r * 48 + k] == down[k * 12 + r]);
      CHECK(model.bias(Role::w_key, 1)[r] == bias[12 + r]);
      CHECK(model.floats(Role::final_norm_bias, 0)[r] == folder.tensors[prefix + "ln_f.bias"].x[r]);
    }
  }
}

TEST_CASE("a GPT-2 folder becomes an image, also with a shorter context and in another layout") {
  Folder folder;
  folder.write();
  ConvertOptions options;
  options.context = 6;
  options.layout = Layout::row;
  ImageBytes image, again;
  ConvertReport report;
  const Error error = convert(image, report, folder.path, "", options, kernels_portable);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  CHECK(report.format == "Hugging Face GPT2LMHeadModel");
  CHECK(report.source_bytes == std::filesystem::file_size(folder.path + "/model.safetensors"));
  CHECK(report.config.main().max_seq == 6);
  CHECK(metadata_value(
            [&] {
              Model model;
              REQUIRE(open(model, {image.data(), image.size()}, kernels_portable) == Status::ok);
              return model.metadata();
            }(),
            "bos")
            .empty());
  // From the image: fewer positions still, and another order of the weights.
  const std::string path = folder.path + "/m.heed";
  REQUIRE_FALSE(write_file(path, {image.data(), image.size()}));
  options.context = 4;
  options.layout = Layout::packed;
  REQUIRE_FALSE(convert(again, report, path, "", options, kernels_portable));
  Model a, b;
  REQUIRE(open(a, {image.data(), image.size()}, kernels_portable) == Status::ok);
  REQUIRE(open(b, {again.data(), again.size()}, kernels_portable) == Status::ok);
  const QuantizedMatrix six = unpack(a.tensor(Role::position_embedding, 0)),
                        four = unpack(b.tensor(Role::position_embedding, 0));
  CHECK(four.rows == 4);
  CHECK(std::memcmp(six.weights.data(), four.weights.data(), 4 * 12) == 0);
  CHECK(unpack(a.tensor(Role::w_up, 1)).bias == unpack(b.tensor(Role::w_up, 1)).bias);
}

TEST_CASE("a GPT-2 folder: what heed cannot run is refused with the field and its value") {
  const auto config = [](const std::string& name, const std::string& value) {
    return refused([&](Folder& f) { f.config[name] = value; });
  };
  CHECK(refused([](Folder&) {}).empty());
  for (const std::string good : {"gelu", "relu", "silu", "gelu_pytorch_tanh"})
    CHECK(config("activation_function", '"' + good + '"').empty());
  CHECK(config("bos_token_id", "3").empty());
  CHECK(config("n_inner", "null").empty());
  CHECK(says(config("activation_function", "\"mish\""), "activation_function \"mish\" is not supported"));
  CHECK(says(config("architectures", "[\"T5Model\"]"), "architectures [\"T5Model\"] is not supported"));
  CHECK(says(config("architectures", "[]"), "architectures"));
  CHECK(says(config("n_head", "5"), "n_head 5 does not divide the width 12"));
  CHECK(says(config("n_head", "0"), "n_head 0 is not a whole number from 1 to 1024"));
  CHECK(says(config("n_embd", "-12"), "n_embd -12 is not a whole number"));
  CHECK(says(config("n_embd", "12.0"), "n_embd 12.0"));
  CHECK(says(config("n_layer", "\"2\""), "n_layer \"2\""));
  CHECK(says(config("n_layer", "3"), "tensor h.2.ln_1.weight is missing"));
  CHECK(says(config("n_layer", "1"), "tensor h.1.attn.bias is not part of a GPT-2"));
  CHECK(says(config("n_inner", "47"), "tensor h.0.mlp.c_fc.weight has the shape [12, 48], not [12, 47]"));
  CHECK(says(config("vocab_size", "8"), "wte.weight has the shape [7, 12], not [8, 12]"));
  CHECK(says(config("layer_norm_epsilon", "0"), "layer_norm_epsilon 0"));
  CHECK(says(config("layer_norm_epsilon", "1e300"), "layer_norm_epsilon"));
  CHECK(says(config("tie_word_embeddings", "false"), "tensor lm_head.weight is missing"));
  CHECK(says(config("tie_word_embeddings", "1"), "neither true nor false"));
  CHECK(says(config("scale_attn_by_inverse_layer_idx", "true"), "scale_attn_by_inverse_layer_idx true"));
  CHECK(says(config("add_cross_attention", "true"), "add_cross_attention true"));
  CHECK(says(config("quantization_config", "{}"), "quantization_config"));
  CHECK(says(config("bos_token_id", "7"), "bos_token_id 7"));
  CHECK(says(refused([](Folder& f) { f.config.erase("n_embd"); }), "n_embd is missing"));
  CHECK(says(refused([](Folder& f) { f.tensors["wte.weight"].dtype = "I32"; }), "wte.weight is I32; F32, F16 and BF16 are read"));
  CHECK(
      says(refused([](Folder& f) { f.tensors["wte.weight"].x[5] = NAN; }), "token_embedding: number 5 is not finite"));
  CHECK(says(refused([](Folder& f) { f.tensors["h.1.mlp.c_fc.bias"].x[2] = INFINITY; }),
             "the bias of w_up of layer 1: number 2 is not finite"));
  CHECK(says(refused([](Folder& f) { f.add("h.0.crossattention.c_attn.weight", {2}); }), "is not part of a GPT-2"));
  FloatModel model;
  CHECK(says(read_model(model, "/").sentence(), "without config.json"));
  Folder folder;
  folder.write();
  std::filesystem::rename(folder.path + "/model.safetensors", folder.path + "/pytorch_model.bin");
  CHECK(says(read_model(model, folder.path).sentence(), "programs"));
  std::filesystem::rename(folder.path + "/pytorch_model.bin", folder.path + "/model.safetensors.index.json");
  CHECK(says(read_model(model, folder.path).sentence(), "index.json: "));
}

// ---- Whole folders ----------------------------------------------------------------------------------------------------

namespace {

namespace fs = std::filesystem;

// A copy of a golden folder, to be spoilt.
struct Copy {
  fs::path path = fs::temp_directory_path() / ("heed_folder_" + std::to_string(::getpid()));
  explicit Copy(const std::string& family) {
    fs::remove_all(path);
    fs::copy(HEED_SOURCE_DIR "/tests/golden/families/" + family, path, fs::copy_options::recursive);
  }
  ~Copy() { fs::remove_all(path); }
  std::string text(const std::string& name) const {
    std::ifstream file(path / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name, std::ios::binary) << text; }
  void replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string all = text(name);
    const std::size_t at = all.find(from);
    REQUIRE(at != std::string::npos);
    write(name, all.replace(at, from.size(), to));
  }
  std::string refused() const {
    FloatModel model;
    return read_model(model, path.string()).sentence();
  }
};

std::string refused_copy(const std::string& family, const std::string& file, const std::string& from, const std::string& to) {
  const Copy copy(family);
  copy.replace(file, from, to);
  return copy.refused();
}

}  // namespace

TEST_CASE("models in several files: what the index promises is there, or named") {
  const Copy copy("llama3");
  CHECK(copy.refused().empty());
  const std::string index = "model.safetensors.index.json", whole = copy.text(index), second = "model-00002-of-";
  const std::size_t at = whole.find(second);
  REQUIRE(at != std::string::npos);
  const std::string shard = whole.substr(at, whole.find('"', at) - at);
  fs::rename(copy.path / shard, copy.path / "aside");
  CHECK(says(copy.refused(), shard + ", one of its files, is missing"));
  fs::copy(copy.path / ("model-00001" + shard.substr(11)), copy.path / shard);
  CHECK(says(copy.refused(), "is in two files"));
  fs::remove(copy.path / shard);
  fs::rename(copy.path / "aside", copy.path / shard);
  copy.replace(index, "\"weight_map\": {", "\"weight_map\": {\"more\": \"" + shard + "\", ");
  CHECK(says(copy.refused(), "tensor more is missing"));
  copy.write(index, whole);
  copy.replace(index, shard, "../" + shard);
  CHECK(says(copy.refused(), "is no file beside it"));
  copy.write(index, "{\"weight_map\": {}}");
  CHECK(says(copy.refused(), "its weight_map is empty"));
  copy.write(index, "{}");
  CHECK(says(copy.refused(), "it has no weight_map"));
}

TEST_CASE("folders of families: what is not understood is refused with the field and its value") {
  const auto config = [](const std::string& family, const std::string& from, const std::string& to) {
    return refused_copy(family, "config.json", from, to);
  };
  CHECK(says(config("llama2", "\"hidden_size\"", "\"new_trick\": 3, \"hidden_size\""),
             "config.json: new_trick is not a field of this family that is known"));
  CHECK(says(config("llama3", "\"rope_type\": \"llama3\"", "\"rope_type\": \"longrope\""),
             "rope_parameters.rope_type \"longrope\" is not supported"));
  CHECK(says(config("llama3", "\"low_freq_factor\"", "\"short_factor\": [1], \"low_freq_factor\""),
             "rope_parameters.short_factor is not supported"));
  CHECK(says(config("mistral", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
             "num_key_value_heads 3 does not divide"));
  CHECK(says(config("gemma3", "\"final_logit_softcapping\": null", "\"final_logit_softcapping\": 30.0"),
             "final_logit_softcapping 30.0 is not supported"));
  CHECK(says(config("gemma3", "\"full_attention\"\n", "\"chunked_attention\"\n"),
             "layers of a kind that is not supported: chunked_attention"));
  CHECK(says(config("gemma3", "Gemma3ForCausalLM", "Gemma2ForCausalLM"), "soft caps"));
  CHECK(says(config("opt", "\"word_embed_proj_dim\": 32", "\"word_embed_proj_dim\": 16"), "word_embed_proj_dim 16"));
  CHECK(says(config("bloom", "\"apply_residual_connection_post_layernorm\": false",
                    "\"apply_residual_connection_post_layernorm\": true"),
             "apply_residual_connection_post_layernorm true is not supported"));
  CHECK(says(config("phi", "\"qk_layernorm\": false", "\"qk_layernorm\": true"), "qk_layernorm true is not supported"));
  CHECK(says(config("bert_class", "\"neither\"", "\"two\\nlines\""), "id2label"));
  CHECK(says(config("t5", "\"feed_forward_proj\": \"relu\"", "\"feed_forward_proj\": \"maxout\""), "feed_forward_proj \"maxout\""));
  CHECK(says(config("whisper", "\"d_model\": 32", "\"d_model\": 36"), "tensor model.encoder.conv1.weight has the shape [32, 12, 3]"));
  CHECK(says(config("vit", "\"patch_size\"", "\"quantization_config\": {\"quant_method\": \"gptq\"}, \"patch_size\""),
             "quant_method \"gptq\": quantised models are not read"));
  CHECK(says(refused_copy("sentence", "1_Pooling/config.json", "\"pooling_mode_max_tokens\": false", "\"pooling_mode_max_tokens\": true"),
             "one kind of pooling is supported"));
  CHECK(says(refused_copy("sentence", "modules.json", "models.Normalize", "models.Dense"), "type \"sentence_transformers.models.Dense\""));
  CHECK(says(refused_copy("qwen2", "generation_config.json", "\"eos_token_id\": 1", "\"eos_token_id\": [1, 64]"),
             "generation_config.json: eos_token_id"));
  for (const char* name : {"pytorch_model.bin", "model.pt", "adapter_model.safetensors", "tf_model.h5"}) {
    const Copy copy("qwen2");
    fs::rename(copy.path / "model.safetensors", copy.path / name);
    CHECK(says(copy.refused(), std::string(name) + ": "));
  }
}

TEST_CASE("folders of families: what a text begins and ends with, and names of classes") {
  FloatModel model;
  {
    const Copy copy("llama2");
    copy.replace("generation_config.json", "\"eos_token_id\": 1", "\"eos_token_id\": [1, 7]");
    REQUIRE_FALSE(read_model(model, copy.path.string()));
  }
  CHECK(model.bos == 2);
  CHECK(model.generation.endings == std::vector<std::uint32_t>{1, 7});
  FloatModel whisper, mood, sentence;
  REQUIRE_FALSE(read_model(whisper, HEED_SOURCE_DIR "/tests/golden/families/whisper"));
  CHECK(whisper.generation.first == std::vector<std::uint32_t>{2});
  CHECK(whisper.generation.suppressed == std::vector<std::uint32_t>{5, 9});
  REQUIRE_FALSE(read_model(mood, HEED_SOURCE_DIR "/tests/golden/families/bert_class"));
  CHECK(mood.classes == std::vector<std::string>{"sad", "neither", "glad"});
  REQUIRE_FALSE(read_model(sentence, HEED_SOURCE_DIR "/tests/golden/families/sentence"));
  CHECK(sentence.config.main().max_seq == 28);
  CHECK(sentence.config.main().pooling == Pooling::mean);
}
