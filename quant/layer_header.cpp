// SPDX-License-Identifier: Apache-2.0
// layer_header.cpp: which tensors belong together, what they are called, and the text of the header.
#include "quant/layer_header.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "quant/file.hpp"
#include "quant/quantize.hpp"
#include "quant/readers/json.hpp"
#include "quant/source.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

// ---- Names --------------------------------------------------------------------------------------------------------

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word_of_cpp(const std::string& name) {
  static const std::set<std::string> words = {
      "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch", "char",
      "char8_t", "char16_t", "char32_t", "class", "co_await", "co_return", "co_yield", "compl", "concept", "const",
      "const_cast", "consteval", "constexpr", "constinit", "continue", "decltype", "default", "delete", "do", "double",
      "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend", "goto", "if",
      "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or",
      "or_eq", "private", "protected", "public", "register", "reinterpret_cast", "requires", "return", "short", "signed",
      "sizeof", "static", "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw",
      "true", "try", "typedef", "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
      "wchar_t", "while", "xor", "xor_eq",
      // What the header itself says, and the namespaces of what it includes.
      "heed", "std"};
  return words.count(name) != 0;
}

bool begins(const std::string& name, const char* with) { return name.rfind(with, 0) == 0; }
bool ends(const std::string& name, const std::string& with) {
  return name.size() > with.size() && name.compare(name.size() - with.size(), with.size(), with) == 0;
}

// Types and macros of <stdint.h>, and what C99 (7.26.8) keeps for it; <stddef.h>'s types beside them. A header includes both.
bool is_name_of_stdint(const std::string& name) {
  for (const char* type : {"size_t", "ptrdiff_t", "wchar_t", "max_align_t", "sig_atomic_t", "wint_t"})
    if (name == type) return true;
  if (ends(name, "_t")) return begins(name, "int") || begins(name, "uint");
  if (!ends(name, "_MAX") && !ends(name, "_MIN") && !ends(name, "_C") && !ends(name, "_WIDTH")) return false;
  for (const char* macro : {"INT", "UINT", "PTRDIFF_", "SIZE_", "SIG_ATOMIC_", "WCHAR_", "WINT_"})
    if (begins(name, macro)) return true;
  return false;
}

// What stands in front of ".weight" or "_weight", or all of the name.
std::string stem_of(const std::string& name) {
  for (const char* ending : {".weight", "_weight"}) {
    if (ends(name, ending)) return name.substr(0, name.size() - std::strlen(ending));
  }
  return name;
}

// ---- Tensors ------------------------------------------------------------------------------------------------------

struct Part {
  const SafeTensor* tensor = nullptr;
  const SafeTensor* bias = nullptr;  // of a matrix
  std::string identifier;
};

Error about(const SafeTensor& t, const std::string& sentence) {
  return Error("tensor " + printable(t.name) + " " + sentence);
}

Error find_bias(const SafeTensor*& bias, const SafeTensors& tensors, const SafeTensor& matrix) {
  std::set<std::string> names = {matrix.name + ".bias", matrix.name + "_bias"};
  const std::string stem = stem_of(matrix.name);
  names.insert({stem + ".bias", stem + "_bias"});
  for (const std::string& name : names) {
    const SafeTensor* const found = tensors.find(name);
    if (!found || found->shape.size() != 1) continue;
    if (bias) return about(matrix, "has two biases, " + printable(bias->name) + " and " + printable(name));
    if (found->shape[0] != matrix.shape[0])
      return about(*found, "has shape " + shape_text(found->shape) + "; as the bias of " + printable(matrix.name) + " it needs [" +
                               std::to_string(matrix.shape[0]) + "]");
    bias = found;
  }
  return {};
}

// Matrices with their biases, and the vectors that are none.
Error sort_tensors(std::vector<Part>& matrices, std::vector<Part>& vectors, const SafeTensors& tensors) {
  std::map<const SafeTensor*, const SafeTensor*> owners;  // of biases
  std::uint64_t weights = 0;
  for (const SafeTensor& t : tensors.tensors()) {
    if (t.shape.empty() || t.shape.size() > 2 || t.elements == 0)
      return about(t, "has shape " + shape_text(t.shape) + "; only matrices and vectors can be parts of a layer");
    weights += t.elements;
    if (weights > kMaxLayerWeights) return Error("more than 2^24 weights, which is too many for a header");
    if (t.shape.size() == 1) continue;
    if (t.shape[0] > 1u << 20 || t.shape[1] > kMaxCols)
      return about(t, "has shape " + shape_text(t.shape) + "; a matrix has at most 1048576 rows and 131072 columns");
    Part matrix{&t, nullptr, identifier_of(stem_of(t.name))};
    if (Error error = find_bias(matrix.bias, tensors, t)) return error;
    if (matrix.bias && !owners.emplace(matrix.bias, &t).second)
      return about(*matrix.bias, "is the bias of both " + printable(owners[matrix.bias]->name) + " and " + printable(t.name));
    matrices.push_back(std::move(matrix));
  }
  for (const SafeTensor& t : tensors.tensors())
    if (t.shape.size() == 1 && !owners.count(&t)) vectors.push_back({&t, nullptr, identifier_of(t.name)});
  return matrices.empty() && vectors.empty() ? Error("it has no tensors") : Error();
}

// The names of a header and who has them. A matrix has up to five.
class Names {
 public:
  // `prefix`: of every name in C, none in C++.
  explicit Names(std::string prefix) : prefix_(std::move(prefix)) {
    taken_[prefix_ + "rotary_phases"] = "the rotary phases";
  }

  Error take(const Part& part, std::initializer_list<const char*> endings) {
    const std::string name = prefix_ + part.identifier;
    if (part.identifier.empty() || is_digit(name[0]) || is_word_of_cpp(name))
      return about(*part.tensor, "would be called \"" + name + "\", which is no name in " +
                                     (prefix_.empty() ? "C++" : "C") + "; rename it");
    for (const char* ending : endings) {
      if (is_name_of_stdint(name + ending))
        return about(*part.tensor, "would be called \"" + name + ending + "\", which is a name of <stdint.h>; rename it");
      const auto [at, is_new] = taken_.emplace(name + ending, part.tensor->name);
      if (!is_new)
        return about(*part.tensor, "and " + printable(at->second) + " would both be called " + at->first + "; rename one");
    }
    return {};
  }

 private:
  std::string prefix_;
  std::map<std::string, std::string> taken_;
};

Error read(std::vector<float>& x, const SafeTensor& t) {
  if (Error error = read_floats(x, t)) return error;
  for (const float v : x) {
    if (!std::isfinite(v)) return about(t, "has a number that is not finite");
    if (std::fabs(v) > kLargest) return about(t, "has a number beyond 2^40");
  }
  return {};
}

// ---- Text ---------------------------------------------------------------------------------------------------------

std::string number(float x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(x));
  std::string word = text;
  if (word.find_first_of(".e") == std::string::npos) word += ".0";
  return word + "f";
}
std::string number(std::int8_t x) { return std::to_string(x); }
std::string number(std::uint8_t x) { return std::to_string(x); }
std::string number(std::uint32_t x) { return std::to_string(x) + "u"; }

// `type name[n] = {...};` in lines of at most 120 characters.
template <class T>
void put_array(std::string& text, const std::string& type, const std::string& name, const T* x, std::size_t n) {
  text += type + " " + name + "[" + std::to_string(n) + "] = {";
  std::size_t column = 120;
  for (std::size_t i = 0; i < n; ++i) {
    const std::string word = number(x[i]) + (i + 1 == n ? "};" : ",");
    if (column + 1 + word.size() > 120) {
      text += "\n    " + word;
      column = 4 + word.size();
    } else {
      text += " " + word;
      column += 1 + word.size();
    }
  }
  text += "\n";
}

// A comment must not end where a file's name says so.
std::string comment_text(const std::string& name) {
  std::string text = printable(name);
  for (char& c : text)
    if (c == '\\') c = '?';
  return text;
}

std::string percent(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f %%", 100.0 * x);
  return text;
}

// How a language says it.
struct Dialect {
  std::string prefix;  // of every name
  std::string s8, f32, multipliers, u32, tensor;  // in front of a constant's name
  const char* null;
  std::string layout, begin, end;  // what stands before and behind the constants
};

Dialect cpp_dialect(const LayerHeaderOptions& options) {
  Dialect d;
  d.s8 = "alignas(64) inline constexpr std::int8_t";
  d.f32 = "inline constexpr float";
  d.multipliers = "alignas(4) inline constexpr std::uint8_t";
  d.u32 = "inline constexpr std::uint32_t";
  d.tensor = "inline constexpr heed::Tensor";
  d.null = "nullptr";
  d.layout = std::string("heed::Layout::") + name_of(options.layout);
  d.begin = "// heed's layers (runtime/layers.hpp, runtime/attention.hpp); what belongs to it lies in the constants before it.\n"
            "#pragma once\n#include <cstdint>\n\n#include \"runtime/tensor.hpp\"\n\nnamespace " + options.name + " {\n\n"
            "static_assert(heed::known_layout(" + d.layout + ") == " + d.layout + ", \"laid out for another CPU; see --target\");\n";
  d.end = "\n}  // namespace " + options.name + "\n";
  return d;
}

// C99 has no word for alignment, and no constant but a static one in a header.
Dialect c_dialect(const LayerHeaderOptions& options) {
  Dialect d;
  d.prefix = options.name + "_";
  // No tensor's name begins so: who calls this lets no name begin with HEED.
  const std::string aligned = "HEED_ALIGNED_" + options.name, guard = "HEED_LAYER_" + options.name;
  d.s8 = "static const " + aligned + "(64) int8_t";
  d.f32 = "static const float";
  d.multipliers = "static const " + aligned + "(4) uint8_t";
  d.u32 = "static const uint32_t";
  d.tensor = "static const heed_tensor";
  d.null = "NULL";
  d.layout = "HEED_LAYOUT_";
  for (const char* c = name_of(options.layout); *c; ++c) d.layout += static_cast<char>(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
  d.begin = "// heed's layers (runtime/heed.h); what belongs to it lies in the constants before it. For one source file of a\n"
            "// program: each that includes this has constants of its own.\n"
            "#ifndef " + guard + "\n#define " + guard + "\n\n#include \"runtime/heed.h\"\n\n"
            "#if defined(__GNUC__)\n#define " + aligned + "(n) __attribute__((aligned(n)))\n"
            "#else\n#define " + aligned + "(n) _Alignas(n)\n#endif\n";
  d.end = "\n#undef " + aligned + "\n#endif  // " + guard + "\n";
  return d;
}

Dialect dialect_of(const LayerHeaderOptions& options) {
  return options.language == HeaderLanguage::c ? c_dialect(options) : cpp_dialect(options);
}

Error put_matrix(std::string& text, LayerReport& report, const Part& part, const LayerHeaderOptions& options, const Dialect& d) {
  const SafeTensor& t = *part.tensor;
  const auto rows = static_cast<std::uint32_t>(t.shape[0]), cols = static_cast<std::uint32_t>(t.shape[1]);
  std::vector<float> weights;
  if (Error error = read(weights, t)) return error;
  QuantizedMatrix m = quantize_matrix(weights.data(), nullptr, rows, cols, options.group);
  if (part.bias) {
    if (Error error = read(m.bias, *part.bias)) return error;
    for (float& v : m.bias) v = snap(v);
  }
  const TensorBytes at = tensor_bytes(options.layout, rows, cols, options.group, part.bias != nullptr);
  ImageBytes packed(at.total);
  pack(packed.data(), m, options.layout);
  const Tensor view = quant::view(packed.data(), m, options.layout);
  const std::size_t padded = padded_rows(options.layout, rows), bytes = padded * padded_cols(options.layout, cols);
  const std::size_t multipliers = padded * group_count(cols, options.group);

  LayerMatrixReport r{t.name, part.identifier, rows, cols, part.bias != nullptr, 0, matrix_error(m, weights.data(), nullptr).relative()};
  r.bytes = bytes + 4 * padded * (part.bias ? 2 : 1) + multipliers;
  report.bytes += r.bytes;
  const std::string name = d.prefix + part.identifier;
  text += "\n// " + comment_text(t.name) + (part.bias ? " and " + comment_text(part.bias->name) : "") + ": [" +
          std::to_string(rows) + ", " + std::to_string(cols) + "], " + percent(r.error) + " of its rms away from the floats.\n";
  put_array(text, d.s8, name + "_weights", view.weights, bytes);
  put_array(text, d.f32, name + "_scales", view.scales, padded);
  if (part.bias) put_array(text, d.f32, name + "_bias", view.bias, padded);
  if (options.group) put_array(text, d.multipliers, name + "_multipliers", view.multipliers, multipliers);
  const bool c = options.language == HeaderLanguage::c;
  text += d.tensor + " " + name + (c ? " = {" : "{") + name + "_weights, " + name + "_scales, " +
          (part.bias ? name + "_bias" : d.null) + ", " + (options.group ? name + "_multipliers" : d.null) + ", " +
          std::to_string(rows) + ", " + std::to_string(cols) + ", " + std::to_string(options.group) + ", " + d.layout +
          (c ? ", {0, 0}" : "") + "};\n";
  report.matrices.push_back(std::move(r));
  return {};
}

Error put_vector(std::string& text, LayerReport& report, const Part& part, const Dialect& d) {
  std::vector<float> x;
  if (Error error = read(x, *part.tensor)) return error;
  for (float& v : x) v = snap(v);
  text += "\n// " + comment_text(part.tensor->name) + "\n";
  put_array(text, d.f32, d.prefix + part.identifier, x.data(), x.size());
  report.vectors.push_back({part.tensor->name, part.identifier, static_cast<std::uint32_t>(x.size())});
  report.bytes += 4 * x.size();
  return {};
}

}  // namespace

// One underscore for what is no letter or digit, none at the ends: names with two, or with one in front, are reserved.
std::string identifier_of(const std::string& name) {
  std::string word;
  for (const char c : name) {
    if (is_letter(c) || is_digit(c))
      word += c;
    else if (!word.empty() && word.back() != '_')
      word += '_';
  }
  if (!word.empty() && word.back() == '_') word.pop_back();
  return word;
}

bool is_identifier(const std::string& name) {
  return !name.empty() && is_letter(name[0]) && identifier_of(name) == name && !is_word_of_cpp(name);
}

Error make_layer_header(std::string& text, LayerReport& report, const SafeTensors& tensors,
                        const LayerHeaderOptions& options) {
  report = {};
  std::vector<Part> matrices, vectors;
  if (Error error = sort_tensors(matrices, vectors, tensors)) return error;
  const Dialect d = dialect_of(options);
  Names names(d.prefix);
  for (const Part& part : matrices)
    if (Error error = names.take(part, {"", "_weights", "_scales", "_bias", "_multipliers"})) return error;
  for (const Part& part : vectors)
    if (Error error = names.take(part, {""})) return error;

  text = options.licence.empty() ? "" : "// SPDX-License-Identifier: " + comment_text(options.licence) + "\n";
  text += "// Weights of " + comment_text(options.source) + ", written by `heed quantize-layer`. A " + std::string(options.language == HeaderLanguage::c ? "heed_tensor" : "Tensor") +
          " is a matrix [rows, cols] for\n" + d.begin;
  for (const Part& part : matrices)
    if (Error error = put_matrix(text, report, part, options, d)) return error;
  for (const Part& part : vectors)
    if (Error error = put_vector(text, report, part, d)) return error;
  if (options.rotary_dims) {
    const std::vector<std::uint32_t> phases = rotary_phases(options.rotary_dims, options.rope_theta);
    char theta[32];
    std::snprintf(theta, sizeof theta, "%.9g", options.rope_theta);
    text += std::string("\n// Turn per position of each pair of a head, 2^32 = one turn; theta ") + theta + ".\n";
    put_array(text, d.u32, d.prefix + "rotary_phases", phases.data(), phases.size());
    report.bytes += 4 * phases.size();
  }
  text += d.end;
  return {};
}

}  // namespace heed::quant
