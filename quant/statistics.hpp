// SPDX-License-Identifier: Apache-2.0
// statistics.hpp: what each number of some vectors is like, layer by layer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/span.hpp"

namespace heed::quant {

struct Channel {
  double sum = 0.0, square = 0.0, lowest = 0.0, highest = 0.0;

  double largest() const { return highest > -lowest ? highest : -lowest; }
  void scale(double factor) {  // above 0
    sum *= factor;
    square *= factor * factor;
    lowest *= factor;
    highest *= factor;
  }
};

// Of vectors that come once for each position in each layer. A bound of a channel includes 0 only if a vector has it.
class ChannelStatistics {
 public:
  void see(std::uint32_t layer, Span<const float> x) {
    if (x.size() != width_) width_ = x.size();
    if (layers_.size() <= layer) layers_.resize(std::size_t{layer} + 1);
    Layer& l = layers_[layer];
    if (l.n == 0) {
      l.channels.resize(width_);
      for (std::size_t i = 0; i < width_; ++i) l.channels[i].lowest = l.channels[i].highest = double{x[i]};
    }
    ++l.n;
    for (std::size_t i = 0; i < width_; ++i) {
      Channel& c = l.channels[i];
      const double v = x[i];
      c.sum += v;
      c.square += v * v;
      c.lowest = v < c.lowest ? v : c.lowest;
      c.highest = v > c.highest ? v : c.highest;
    }
  }

  // False where no vector of the layer came.
  bool has(std::uint32_t layer) const { return layer < layers_.size() && layers_[layer].n != 0; }
  double mean(std::uint32_t layer, std::size_t i) const {
    const Layer& l = layers_[layer];
    return l.channels[i].sum / static_cast<double>(l.n);
  }
  double mean_square(std::uint32_t layer, std::size_t i) const {
    const Layer& l = layers_[layer];
    return l.channels[i].square / static_cast<double>(l.n);
  }
  // Never below 0, whatever rounds.
  double variance(std::uint32_t layer, std::size_t i) const {
    const double m = mean(layer, i), v = mean_square(layer, i) - m * m;
    return v > 0.0 ? v : 0.0;
  }
  double largest(std::uint32_t layer, std::size_t i) const { return layers_[layer].channels[i].largest(); }

  // As if every vector had come times the factors, which are above 0, or less the terms.
  void scale(std::uint32_t layer, const std::vector<double>& factors) {
    for (std::size_t i = 0; i < width_; ++i) layers_[layer].channels[i].scale(factors[i]);
  }
  void subtract(std::uint32_t layer, const std::vector<double>& terms) {
    Layer& l = layers_[layer];
    for (std::size_t i = 0; i < width_; ++i) {
      Channel& c = l.channels[i];
      const double n = static_cast<double>(l.n), t = terms[i];
      c.square += t * (n * t - 2.0 * c.sum);
      c.sum -= n * t;
      c.lowest -= t;
      c.highest -= t;
    }
  }

 private:
  struct Layer {
    std::uint64_t n = 0;
    std::vector<Channel> channels;
  };
  std::size_t width_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace heed::quant
