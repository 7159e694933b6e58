#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small models of each architecture that heed reads from GGUF, and what their original implementation computes with them.

    pip install gguf==0.19.0 transformers==5.24.0 torch==2.15.0
    gguf_models.py [NAME...]           compares tests/golden/gguf with what the packages make here
    gguf_models.py --write [NAME...]   writes tests/golden/gguf again

The models are those of `transformers`, in double, with weights drawn here (matrices rounded to half floats, as the file has
them). The file has the keys and the names of the `gguf` package, and its matrices in the order in which llama.cpp's
converter writes them: queries and keys of Llama reordered so that neighbours rotate together, the three parts of a
fused projection behind each other, GPT-2's turned, 1 added to Gemma's gains.
"""
import json
import os
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers as tf

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "gguf")
VOCABULARY, POSITIONS = 40, 24
LIMIT = 1e-5  # of the largest output, between versions of the packages

SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
         "attn_implementation": "eager"}
GROUPED = dict(SIZES, num_key_value_heads=2)


def sizes(w, c, kv=None, head_dim=None, rms=True):
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    if kv:
        w.add_head_count_kv(kv)
    if head_dim:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if rms:
        w.add_layer_norm_rms_eps(c.rms_norm_eps)


def theta(c, layer_type=None):
    parameters = c.rope_parameters[layer_type] if layer_type else c.rope_parameters
    return parameters["rope_theta"]


# ---- One class for each architecture: its model, its keys, and tensors whose order differs ------------------------------

class Architecture:
    drop = ()  # names of tensors that the file has not

    def tensor(self, name, x):
        """The same as the converter writes it, under a name that the package knows."""
        return name, x

    def run(self, model, tokens):
        return model(input_ids=tokens[None]).logits[0]


class Llama(Architecture):
    name = "llama"

    def __init__(self, kind="LlamaForCausalLM", config="LlamaConfig", **options):
        self.kind, self.config, self.options = kind, config, options

    def build(self):
        return getattr(tf, self.kind)(getattr(tf, self.config)(**dict(GROUPED, **self.options)))

    def keys(self, w, c):
        sizes(w, c, c.num_key_value_heads)
        w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
        w.add_rope_freq_base(theta(c))
        if getattr(c, "sliding_window", None):
            w.add_sliding_window(c.sliding_window)
        rope = c.rope_parameters
        if rope["rope_type"] == "linear":
            w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            w.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "yarn":
            w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            w.add_rope_scaling_factor(rope["factor"])
            w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if rope["rope_type"] == "llama3":
            w.add_tensor("rope_freqs.weight", self.llama3_factors(c, rope))

    @staticmethod
    def llama3_factors(c, rope):
        dims, factors = c.hidden_size // c.num_attention_heads, []
        length, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
        for i in range(0, dims, 2):
            wavelength = 2 * np.pi * rope["rope_theta"] ** (i / dims)
            if wavelength < length / high:
                factors.append(1.0)
            elif wavelength > length / low:
                factors.append(rope["factor"])
            else:
                kept = (length / wavelength - low) / (high - low)
                factors.append(1 / ((1 - kept) / rope["factor"] + kept))
        return np.array(factors, np.float32)

    def tensor(self, name, x):
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in name:
                x = x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
        return name, x


class Qwen(Architecture):
    def __init__(self, name, kind, config, **options):
        self.name, self.kind, self.config, self.options = name, kind, config, options

    def build(self):
        return getattr(tf, self.kind)(getattr(tf, self.config)(**dict(GROUPED, **self.options)))

    def keys(self, w, c):
        sizes(w, c, c.num_key_value_heads, getattr(c, "head_dim", None))
        w.add_rope_freq_base(theta(c))


class Gemma(Qwen):
    def tensor(self, name, x):
        return name, x + 1 if name.endswith("norm.weight") else x


class Gemma3(Gemma):
    def keys(self, w, c):
        sizes(w, c, c.num_key_value_heads, c.head_dim)
        w.add_rope_freq_base(theta(c, "full_attention"))
        w.add_sliding_window(c.sliding_window)
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(c.rope_parameters["full_attention"]["factor"])


class Phi2(Architecture):
    name = "phi2"

    def build(self):
        return tf.PhiForCausalLM(tf.PhiConfig(**SIZES, partial_rotary_factor=0.5, hidden_act="gelu_new"))

    def keys(self, w, c):
        sizes(w, c, c.num_attention_heads, rms=False)
        w.add_layer_norm_eps(c.layer_norm_eps)
        w.add_rope_dimension_count(2)
        w.add_rope_freq_base(theta(c))


class Phi3(Architecture):
    name = "phi3"

    def build(self):
        return tf.Phi3ForCausalLM(tf.Phi3Config(**dict(GROUPED, sliding_window=9)))

    def keys(self, w, c):
        sizes(w, c, c.num_key_value_heads)
        w.add_rope_dimension_count(4)
        w.add_rope_freq_base(theta(c))
        w.add_sliding_window(c.sliding_window)


class Gpt2(Architecture):
    name = "gpt2"

    def build(self):
        return tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=64,
                                                n_inner=24, attn_implementation="eager"))

    def keys(self, w, c):
        w.add_context_length(c.n_positions)
        w.add_embedding_length(c.n_embd)
        w.add_block_count(c.n_layer)
        w.add_feed_forward_length(c.n_inner)
        w.add_head_count(c.n_head)
        w.add_layer_norm_eps(c.layer_norm_epsilon)

    def tensor(self, name, x):
        return name, x.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else x


def unfused(x, heads):
    """[heads, 3, head_dim, ...] to three parts behind each other."""
    parts = x.reshape(heads, 3, x.shape[0] // heads // 3, *x.shape[1:])
    return np.concatenate([parts[:, i].reshape(-1, *x.shape[1:]) for i in range(3)])


class GptNeox(Architecture):
    name = "gptneox"

    def __init__(self, parallel):
        self.parallel = parallel

    def build(self):
        return tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**SIZES, rotary_pct=0.5, use_parallel_residual=self.parallel))

    def keys(self, w, c):
        sizes(w, c, rms=False)
        w.add_rope_dimension_count(2)
        w.add_parallel_residual(self.parallel)
        w.add_layer_norm_eps(c.layer_norm_eps)

    def tensor(self, name, x):
        return name, unfused(x, 4) if "query_key_value" in name else x


class Bloom(Architecture):
    name = "bloom"

    def build(self):
        return tf.BloomForCausalLM(tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=4,
                                                  attn_implementation="eager"))

    def keys(self, w, c):
        w.add_context_length(64)
        w.add_embedding_length(c.hidden_size)
        w.add_feed_forward_length(4 * c.hidden_size)
        w.add_block_count(c.n_layer)
        w.add_head_count(c.n_head)
        w.add_head_count_kv(c.n_head)
        w.add_layer_norm_eps(c.layer_norm_epsilon)

    def tensor(self, name, x):
        return name.removeprefix("transformer."), unfused(x, 4) if "query_key_value" in name else x


class Bert(Architecture):
    name = "bert"
    drop = ("pooler.dense.weight", "pooler.dense.bias")

    def __init__(self, pooling):
        self.pooling = pooling

    def build(self):
        options = {k: v for k, v in SIZES.items() if k not in ("bos_token_id", "eos_token_id")}
        if self.pooling == gguf.PoolingType.RANK:
            self.drop = ()
            return tf.BertForSequenceClassification(tf.BertConfig(**options, num_labels=3))
        return tf.BertModel(tf.BertConfig(**options))

    def keys(self, w, c):
        sizes(w, c, rms=False)
        w.add_layer_norm_eps(c.layer_norm_eps)
        w.add_causal_attention(False)
        w.add_pooling_type(self.pooling)
        if self.pooling == gguf.PoolingType.RANK:
            w.add_classifier_output_labels(["bad", "so so", "good"])

    def tensor(self, name, x):
        module, _, part = name.removeprefix("bert.").rpartition(".")
        module = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}.get(module, module)
        return module + "." + part, x

    def run(self, model, tokens):
        out = model(input_ids=tokens[None])
        if self.pooling == gguf.PoolingType.RANK:
            return out.logits
        x = out.last_hidden_state[0]
        return {gguf.PoolingType.MEAN: x.mean(0, keepdim=True), gguf.PoolingType.CLS: x[:1]}.get(self.pooling, x)


class T5(Architecture):
    name = "t5"
    drop = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")

    def __init__(self, gated):
        self.gated = gated

    def config(self):
        return tf.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=4,
                           relative_attention_num_buckets=8, relative_attention_max_distance=128,
                           feed_forward_proj="gated-gelu" if self.gated else "relu", tie_word_embeddings=not self.gated,
                           decoder_start_token_id=0)

    def build(self):
        model = tf.T5ForConditionalGeneration(self.config())
        if self.gated:  # version 1.1 and FLAN: an unembedding of its own, which files of weights bring
            model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        return model

    def keys(self, w, c):
        w.add_context_length(64)
        w.add_embedding_length(c.d_model)
        w.add_feed_forward_length(c.d_ff)
        w.add_block_count(c.num_layers)
        w.add_decoder_block_count(c.num_decoder_layers)
        w.add_head_count(c.num_heads)
        w.add_key_length(c.d_kv)
        w.add_value_length(c.d_kv)
        w.add_layer_norm_eps(c.layer_norm_epsilon)
        w.add_layer_norm_rms_eps(c.layer_norm_epsilon)
        w.add_relative_attn_buckets_count(c.relative_attention_num_buckets)
        w.add_decoder_start_token_id(c.decoder_start_token_id)

    def source(self):
        return torch.arange(3, 3 + POSITIONS) % VOCABULARY

    def run(self, model, tokens):
        return model(input_ids=self.source()[None], decoder_input_ids=tokens[None]).logits[0]


class T5Encoder(T5):
    name = "t5encoder"
    drop = ("encoder.embed_tokens.weight",)

    def build(self):
        return tf.T5EncoderModel(self.config())

    def source(self):
        return None

    def run(self, model, tokens):
        return model(input_ids=tokens[None]).last_hidden_state[0]


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
MODELS = {
    "llama": Llama(tie_word_embeddings=False),
    "llama3": Llama(tie_word_embeddings=True, attention_bias=True, rope_parameters=LLAMA3),
    "llama_linear": Llama(tie_word_embeddings=True,
                          rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}),
    "llama_yarn": Llama(tie_word_embeddings=True,
                        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                                         "original_max_position_embeddings": 16}),
    "mistral": Llama("MistralForCausalLM", "MistralConfig", sliding_window=7),
    "qwen2": Qwen("qwen2", "Qwen2ForCausalLM", "Qwen2Config", tie_word_embeddings=True),
    "qwen3": Qwen("qwen3", "Qwen3ForCausalLM", "Qwen3Config", head_dim=6),
    "gemma": Gemma("gemma", "GemmaForCausalLM", "GemmaConfig", head_dim=6),
    "gemma3": Gemma3("gemma3", "Gemma3ForCausalLM", "Gemma3TextConfig", head_dim=4, intermediate_size=12, num_hidden_layers=7,
                     sliding_window=6, query_pre_attn_scalar=4,
                     rope_parameters={"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                                      "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
    "phi2": Phi2(),
    "phi3": Phi3(),
    "gpt2": Gpt2(),
    "gptneox": GptNeox(True),
    "gptneox_in_turn": GptNeox(False),
    "bloom": Bloom(),
    "bert": Bert(gguf.PoolingType.NONE),
    "bert_mean": Bert(gguf.PoolingType.MEAN),
    "bert_rank": Bert(gguf.PoolingType.RANK),
    "t5": T5(False),
    "flan_t5": T5(True),
    "t5encoder": T5Encoder(True),
}


def draw(model, seed):
    """Matrices of about sqrt(columns) in each row, gains near 1 (Gemma's near 0), biases that show."""
    generator = torch.Generator().manual_seed(seed)
    gemma = "Gemma" in type(model).__name__
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn(p.shape, generator=generator)
            if p.dim() == 1:
                x = 0.2 * x + (1.0 if name.endswith("weight") and not gemma else 0.0)
            else:
                columns = p.shape[0] if type(model).__name__ == "GPT2LMHeadModel" and "c_" in name else p.shape[1]
                x = (1.5 * x / columns ** 0.5).half().float()
            p.copy_(x)
    return model.double().eval()


def write_gguf(path, a, model):
    w = gguf.GGUFWriter(path, a.name)
    a.keys(w, model.config)
    layers = getattr(model.config, "num_hidden_layers", None) or model.config.num_layers
    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == a.name), layers)
    for name, x in model.state_dict().items():
        if name in a.drop:
            continue
        if name == "lm_head.weight" and model.get_output_embeddings().weight is model.get_input_embeddings().weight:
            continue
        name, x = a.tensor(name, x.numpy())
        gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert gguf_name, name
        w.add_tensor(gguf_name, np.ascontiguousarray(x, np.float32 if x.ndim == 1 else np.float16))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make(name, folder):
    a = MODELS[name]
    model = draw(a.build(), 1 + list(MODELS).index(name))
    write_gguf(os.path.join(folder, name + ".gguf"), a, model)
    tokens = torch.tensor([1] + [(7 * i * i + 3 * i) % VOCABULARY for i in range(1, POSITIONS)])
    with torch.no_grad():
        expected = a.run(model, tokens).numpy()
    case = {"input": {"tokens": tokens.tolist()}}
    source = getattr(a, "source", lambda: None)()
    if source is not None:
        case["source"] = {"tokens": source.tolist()}
    if a.name == "bert":
        case["input"]["token_types"] = [0] * POSITIONS
    case["expected"] = {"file": name + ".expected.0.f32", "rows": expected.shape[0], "columns": expected.shape[1]}
    expected.astype("<f4").tofile(os.path.join(folder, name + ".expected.0.f32"))
    with open(os.path.join(folder, name + ".inputs.json"), "w") as f:
        f.write(json.dumps({"cases": [case]}) + "\n")


def main():
    wanted = [x for x in sys.argv[1:] if x != "--write"] or list(MODELS)
    if "--write" in sys.argv:
        os.makedirs(GOLDEN, exist_ok=True)
        for name in wanted:
            make(name, GOLDEN)
        return 0
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            make(name, folder)
            here, golden = (np.fromfile(os.path.join(f, name + ".expected.0.f32"), "<f4") for f in (folder, GOLDEN))
            file, of_golden = (open(os.path.join(f, name + ".gguf"), "rb").read() for f in (folder, GOLDEN))
            same_file = file == of_golden
            difference = np.abs(here - golden).max() / np.abs(golden).max()
            print(f"{name}: {'the same file' if same_file else 'ANOTHER FILE'}, outputs differ by {difference:.1e}")
            bad += not same_file or not difference <= LIMIT
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
