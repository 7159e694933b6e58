// SPDX-License-Identifier: Apache-2.0
// layer_header.hpp: the weights of a network that somebody builds from runtime/layers.hpp and runtime/attention.hpp, from
// a safetensors file to one header: int8 matrices as constants in one CPU's layout, vectors as floats. In C++17 a matrix is a
// heed::Tensor, in C99 a heed_tensor of runtime/heed.h.
//
// A program that quantises at run time takes three calls: quantize_matrix (quant/quantize.hpp) for the int8 numbers,
// `pack` and `view` (quant/pack.hpp) for their bytes and their Tensor.
#pragma once
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "quant/readers/safetensors.hpp"
#include "runtime/tensor.hpp"

namespace heed::quant {

enum class HeaderLanguage : std::uint8_t { cpp, c };

struct LayerHeaderOptions {
  HeaderLanguage language = HeaderLanguage::cpp;
  Layout layout = Layout::packed;
  std::uint32_t group = 0;         // columns per group of every matrix: 0 (one scale per row), 32, 64, 128 or 256
  std::string name;                // of the namespace, in C in front of every name, where it begins with neither heed_ nor
                                   // HEED; see is_identifier
  std::string source;              // what the first comment says the weights are from
  std::string licence;             // SPDX expression for the first line; empty = no such line
  double rope_theta = 0.0;         // with rotary_dims: adds the phases of rotary positions
  std::uint32_t rotary_dims = 0;   // even; 0 = no phases
};

struct LayerMatrixReport {
  std::string tensor, identifier;  // in the file, and in the header
  std::uint32_t rows = 0, cols = 0;
  bool bias = false;
  std::uint64_t bytes = 0;         // of weights, scales, bias and multipliers
  double error = 0.0;              // rms of (int8 - float) / rms of float
};
struct LayerVectorReport {
  std::string tensor, identifier;
  std::uint32_t n = 0;
};
struct LayerReport {
  std::vector<LayerMatrixReport> matrices;  // in the order of the file
  std::vector<LayerVectorReport> vectors;
  std::uint64_t bytes = 0;                  // of all constants: what they take of a board's flash
};

// Weights of a header are for small networks: above this an image or a file is the better place.
inline constexpr std::uint64_t kMaxLayerWeights = 16u << 20;

// Whether `name` can name a namespace, and begin the names of a header in C: letters, digits and single underscores, a letter first, no word of C++.
bool is_identifier(const std::string& name);
// `name` with an underscore for all that is no letter or digit, so "" for none of them; not always an identifier.
std::string identifier_of(const std::string& name);

// Every matrix [rows, cols] becomes a Tensor, or in C a heed_tensor. Its bias is the vector [rows] whose name is the matrix's with ".bias" or
// "_bias" behind it, or in the place of ".weight" or "_weight"; other vectors become arrays of floats. A name in the header
// is identifier_of the tensor's, without ".weight" or "_weight" of a matrix; in C behind the options' name and an underscore.
// Refuses other shapes and types, numbers that are not finite or that no image could hold, names that are none, are of
// <stdint.h> or are shared by two tensors, and more than kMaxLayerWeights weights. The same file and options give the same text.
Error make_layer_header(std::string& text, LayerReport& report, const SafeTensors& tensors,
                        const LayerHeaderOptions& options);

}  // namespace heed::quant
