// SPDX-License-Identifier: Apache-2.0
// recognise.cpp: the kinds of file that people have in their hands, by what they begin with.
#include "quant/recognise.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "quant/readers/llama2c.hpp"
#include "runtime/model.hpp"

namespace heed::quant {
namespace {

// What a rule may look at.
struct Beginning {
  std::string_view text;  // at most 4096 bytes
  Span<const std::uint8_t> all;

  bool has(std::string_view part, std::size_t at = 0) const {
    return text.size() >= at && text.substr(at, part.size()) == part;
  }
  bool contains(std::string_view part) const { return text.find(part) != std::string_view::npos; }
  unsigned byte(std::size_t i) const { return i < text.size() ? static_cast<unsigned char>(text[i]) : 256u; }
};

bool is_heed(const Beginning& b) { return is_image(b.all); }
bool is_lfs_pointer(const Beginning& b) { return b.has("version https://git-lfs.github.com/spec/"); }
bool is_gguf(const Beginning& b) { return b.has("GGUF"); }
bool is_old_ggml(const Beginning& b) { return b.has("lmgg") || b.has("fmgg") || b.has("tjgg") || b.has("algg"); }
bool is_zip(const Beginning& b) { return b.has("PK\x03\x04"); }
// A zip archive whose first file is "NAME/data.pkl", or a pickle that begins with PyTorch's magic number.
bool is_pytorch(const Beginning& b) {
  const std::size_t name = 30, size = b.byte(26) & 255u;
  if (is_zip(b)) return b.text.size() > name && b.text.substr(name, size).find("data.pkl") != std::string_view::npos;
  return b.byte(0) == 0x80 && b.has("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 2);
}
bool is_pickle(const Beginning& b) {
  return b.byte(0) == 0x80 && b.byte(1) >= 2 && b.byte(1) <= 5 &&
         std::string_view("cXKU}](\x8a\x95\x8c").find(static_cast<char>(b.byte(2))) != std::string_view::npos;
}
bool is_gzip(const Beginning& b) { return b.has("\x1f\x8b"); }
bool is_xz(const Beginning& b) { return b.has("\3757zXZ"); }
bool is_bzip2(const Beginning& b) { return b.has("BZh") && b.byte(3) >= '1' && b.byte(3) <= '9'; }
bool is_zstd(const Beginning& b) { return b.has("\x28\xb5\x2f\xfd"); }
bool is_7z(const Beginning& b) { return b.has("7z\xbc\xaf\x27\x1c"); }
bool is_tar(const Beginning& b) { return b.has("ustar", 257); }
bool is_tflite(const Beginning& b) { return b.has("TFL3", 4); }
bool is_hdf5(const Beginning& b) { return b.has("\x89HDF\r\n\x1a\n"); }
bool is_numpy(const Beginning& b) { return b.has("\x93NUMPY"); }

bool is_web_page(const Beginning& b) {
  std::string begin(b.text.substr(0, 512));
  std::transform(begin.begin(), begin.end(), begin.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  const std::size_t at = begin.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (at == std::string::npos) return false;
  return begin.compare(at, 14, "<!doctype html") == 0 || begin.compare(at, 5, "<html") == 0;
}

// A protobuf whose first field is a small version number, followed by the producer's name, the graph or the opset.
bool is_onnx(const Beginning& b) {
  return b.byte(0) == 0x08 && b.byte(1) >= 1 && b.byte(1) <= 30 &&
         (b.byte(2) == 0x12 || b.byte(2) == 0x3A || b.byte(2) == 0x42) && b.all.size() >= 8 && b.byte(3) != 0;
}
// A protobuf of pieces, each a text with its score or its type behind it.
bool is_sentencepiece(const Beginning& b) {
  return b.byte(0) == 0x0A && b.byte(2) == 0x0A && b.byte(3) < 128 && b.byte(1) > b.byte(3) &&
         (b.byte(4 + b.byte(3)) == 0x15 || b.byte(4 + b.byte(3)) == 0x18);
}

bool is_safetensors(const Beginning& b) {
  if (b.text.size() < 9 || b.text[8] != '{') return false;
  std::uint64_t header_bytes = 0;
  for (std::size_t i = 8; i-- > 0;) header_bytes = header_bytes << 8 | b.byte(i);
  return header_bytes >= 2 && header_bytes <= b.all.size() - 8;
}

bool is_json(const Beginning& b) {
  const std::size_t at = b.text.find_first_not_of(" \t\r\n");
  if (at == std::string_view::npos || b.text[at] != '{') return false;
  const std::size_t next = b.text.find_first_not_of(" \t\r\n", at + 1);
  return next != std::string_view::npos && (b.text[next] == '"' || b.text[next] == '}');
}
bool is_tokenizer_json(const Beginning& b) {
  return is_json(b) && (b.contains("\"added_tokens\"") || b.contains("\"vocab\""));
}
bool is_description(const Beginning& b) { return is_json(b) && b.contains("\"heed\"") && b.contains("\"stacks\""); }
bool is_model_config(const Beginning& b) {
  return is_json(b) && (b.contains("\"architectures\"") || b.contains("\"model_type\""));
}

bool is_checkpoint(const Beginning& b) { return is_llama2c(b.all); }
// The longest piece's length, the first score, and "<unk>" with its length.
bool is_llama2c_vocabulary(const Beginning& b) { return b.has({"\5\0\0\0<unk>", 9}, 8); }

// BERT's vocab.txt, in which one of the first lines is the unknown word.
bool is_word_list(const Beginning& b) {
  const std::size_t at = b.text.find("[UNK]");
  return at != std::string_view::npos && (at == 0 || b.text[at - 1] == '\n') &&
         (b.byte(at + 5) == '\n' || b.byte(at + 5) == '\r');
}

// Bytes that UTF-8 may have, and of the control characters those of lines.
bool is_text(const Beginning& b) {
  return std::all_of(b.text.begin(), b.text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 32 ? byte == '\t' || byte == '\n' || byte == '\r' : byte < 0xF5 && byte != 0x7F && byte != 0xC0;
  });
}

constexpr char kUnpack[] = "unpack it and give what is in it";
constexpr char kFloatModel[] =
    "heed does not read this kind; give the float model: a GGUF file, a llama2.c checkpoint or a Hugging Face folder";
constexpr char kVocabularies[] =
    "heed reads tokenizer.json, tokenizer.model, vocab.txt, vocab.json with merges.txt, GGUF, llama2.c's tokenizer.bin and "
    "lists of characters (heed quantize --help)";
constexpr char kFetch[] = "`git lfs pull` in its repository fetches the file that it stands for";
constexpr char kDownload[] = "a download probably went wrong; fetch the file itself, not the page that shows it";
constexpr char kNoCode[] =
    "heed does not read it, since it is a program; save the model as safetensors with its config.json, or with "
    "llama2.c's export.py";
constexpr char kNoVocabularyHere[] = "it holds weights; llama2.c keeps the vocabulary in tokenizer.bin";

struct Kind {
  bool (*matches)(const Beginning&);
  const char* name;
  const char* as_model;       // the way out where a model is wanted; null: it is one, and heed quantize reads it
  const char* as_vocabulary;  // the same of a vocabulary
  bool is_text = false;       // may be measured as one
  const char* as_image = nullptr;  // the way out where an image is wanted; null: as_model's
};

// The first that matches counts.
constexpr Kind kKinds[] = {
    {is_heed, "a heed image", nullptr, "give the vocabulary with the float model; an image keeps its own"},
    {is_lfs_pointer, "a Git LFS pointer", kFetch, kFetch},
    {is_gguf, "a GGUF file", nullptr, nullptr},
    {is_old_ggml, "an old llama.cpp (GGML) file", kFloatModel, kVocabularies},
    {is_pytorch, "a PyTorch file", kNoCode, kNoVocabularyHere},
    {is_zip, "a zip archive", kUnpack, kUnpack},
    {is_gzip, "a gzip archive", kUnpack, kUnpack},
    {is_xz, "an xz archive", kUnpack, kUnpack},
    {is_bzip2, "a bzip2 archive", kUnpack, kUnpack},
    {is_zstd, "a zstd archive", kUnpack, kUnpack},
    {is_7z, "a 7z archive", kUnpack, kUnpack},
    {is_tar, "a tar archive", kUnpack, kUnpack},
    {is_tflite, "a TensorFlow Lite model", kFloatModel, kNoVocabularyHere},
    {is_hdf5, "an HDF5 file (Keras)", kFloatModel, kNoVocabularyHere},
    {is_numpy, "a NumPy array", kFloatModel, kNoVocabularyHere, false,
     "as --vectors it may be read by one; `heed quantize` makes an image of a model"},
    {is_safetensors, "a safetensors file",
     "give the folder that holds it with its config.json, or say what its tensors are: --description MODEL.json (SPEC.md, "
     "part 7)",
     kNoVocabularyHere, false,
     "`heed quantize` makes an image of it, with --description MODEL.json (SPEC.md, part 7) or of the folder that holds it "
     "with its config.json"},
    {is_checkpoint, "a llama2.c checkpoint", nullptr, kNoVocabularyHere},
    {is_llama2c_vocabulary, "llama2.c's tokenizer file", "give the checkpoint, and this file as its --tokenizer",
     nullptr},
    {is_sentencepiece, "a SentencePiece vocabulary (tokenizer.model)", "it holds no weights; give the model",
     nullptr},
    {is_pickle, "a Python pickle", kNoCode, kVocabularies},
    {is_onnx, "an ONNX model", kFloatModel, kNoVocabularyHere},
    {is_web_page, "a web page (HTML)", kDownload, kDownload, true},
    {is_tokenizer_json, "a Hugging Face tokenizer (tokenizer.json)", "it holds no weights; give the model",
     nullptr, true},
    {is_model_config, "a model's config.json", "give the folder that holds it", kVocabularies, true},
    {is_description, "a description of a model",
     "give the safetensors file with its tensors, and this file as its --description", kVocabularies, true,
     "`heed quantize` makes an image of it and the safetensors file with its tensors"},
    {is_json, "a JSON file", kFloatModel, kVocabularies, true},
    {is_word_list, "BERT's list of words (vocab.txt)", "it holds no weights; give the model", nullptr, true},
    {is_text, "a text", kFloatModel, "a list of characters, one per line, is given as chars-file:PATH", true},
};

const char* describe(Wanted wanted) {
  switch (wanted) {
    case Wanted::image: return ", not an image (.heed); ";
    case Wanted::model: return ", not a model that heed reads; ";
    case Wanted::vocabulary: return ", not a vocabulary that heed reads; ";
    case Wanted::text: return ", not a text";
  }
  return "";
}

}  // namespace

bool is_image(Span<const std::uint8_t> bytes) {
  return bytes.size() >= sizeof kMagic && std::memcmp(bytes.data(), kMagic, sizeof kMagic) == 0;
}

Error misplaced(Span<const std::uint8_t> bytes, Wanted wanted) {
  const std::size_t n = std::min<std::size_t>(bytes.size(), 4096);
  const Beginning b{{reinterpret_cast<const char*>(bytes.data()), n}, bytes};
  for (const Kind& kind : kKinds) {
    if (!kind.matches(b)) continue;
    const std::string what = std::string("this is ") + kind.name + describe(wanted);
    switch (wanted) {
      case Wanted::image:
        if (kind.matches == is_heed) return {};
        return Error(what + (kind.as_image   ? kind.as_image
                             : kind.as_model ? kind.as_model
                                             : "`heed quantize` makes one of it"));
      case Wanted::model: return kind.as_model ? Error(what + kind.as_model) : Error();
      case Wanted::vocabulary: return kind.as_vocabulary ? Error(what + kind.as_vocabulary) : Error();
      case Wanted::text: return kind.is_text ? Error() : Error(what);
    }
  }
  return {};
}

VocabularyFile vocabulary_file(Span<const std::uint8_t> bytes) {
  const Beginning b{{reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 4096)}, bytes};
  if (is_gguf(b)) return VocabularyFile::gguf;
  if (is_sentencepiece(b)) return VocabularyFile::sentencepiece;
  if (is_tokenizer_json(b)) return VocabularyFile::tokenizer_json;
  return is_word_list(b) ? VocabularyFile::word_list : VocabularyFile::unknown;
}

Error misplaced_folder(const std::string& path, Wanted wanted) {
  std::error_code code;
  if (wanted == Wanted::image && std::filesystem::exists(std::filesystem::path(path) / "config.json", code))
    return Error("this is a Hugging Face folder, not an image (.heed); `heed quantize` makes one of it");
  return Error("this is a folder, not a file");
}

}  // namespace heed::quant
