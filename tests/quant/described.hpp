// SPDX-License-Identifier: Apache-2.0
// described.hpp: the models of described.json, whose weights follow from their tensors' names (make_described.py).
#pragma once
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "quant/float_stack.hpp"
#include "quant/readers/description.hpp"
#include "quant/readers/json.hpp"

namespace heed::test {

using quant::Json;

struct DescribedCase {
  quant::FloatSequence input, source;
  std::vector<float> expected;
};

// One model of the file: its description as JSON, its tensors by name and shape, its inputs and outputs.
struct Described {
  Json description;
  Json tensors;  // {name: shape}
  std::vector<DescribedCase> cases;

  std::string name() const { return description["name"].get<std::string>(); }
  // As safetensors; whatever `tensors` says by now.
  std::string weights() const;
  quant::Error read(quant::FloatModel& model) const {
    static std::deque<std::string> files;  // models point into them, and may outlive this
    files.push_back(weights());
    const std::string json = description.dump();
    return quant::read_description(model, span(json), span(files.back()));
  }
  static Span<const std::uint8_t> span(const std::string& text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
  }
};

// Around 1 for gains, around 0 for all others; the same as weights() of make_described.py.
inline std::vector<float> described_weights(const std::string& name, std::size_t n) {
  std::uint32_t state = 0xFFFFFFFFu;  // CRC-32 of the name, as zlib has it
  for (const char c : name) {
    state ^= static_cast<std::uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1u) ? 0xEDB88320u : 0u);
  }
  state = ~state;
  const bool gain = name.size() > 5 && name.compare(name.size() - 5, 5, "_gain") == 0;
  std::vector<float> x(n);
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    const double u = static_cast<double>(state >> 8) / 16777216.0 - 0.5;
    v = static_cast<float>(gain ? 1.0 + u : 2.0 * u);
  }
  return x;
}

inline std::string Described::weights() const {
  Json header;
  std::string data;
  for (auto t = tensors.begin(); t != tensors.end(); ++t) {
    std::size_t n = 1;
    for (const Json& size : t.value()) n *= size.get<std::size_t>();
    const std::vector<float> x = described_weights(t.key(), n);
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(x.data()), 4 * n);
    header[t.key()] = {{"dtype", "F32"}, {"shape", t.value()}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[static_cast<std::size_t>(i)] = static_cast<char>(text.size() >> (8 * i) & 255);
  return file + text + data;
}

inline quant::FloatSequence described_sequence(const Json& json) {
  quant::FloatSequence s;
  if (json.contains("tokens")) s.tokens = json["tokens"].get<std::vector<std::uint32_t>>();
  if (json.contains("token_types")) s.token_types = json["token_types"].get<std::vector<std::uint8_t>>();
  if (json.contains("vectors")) s.vectors = json["vectors"].get<std::vector<float>>();
  return s;
}

// HEED_SOURCE_DIR is the build's. Empty if the file cannot be read.
inline std::vector<Described> described_models() {
  std::vector<Described> models;
  quant::SourceFile file;
  Json json;
  if (file.open(HEED_SOURCE_DIR "/tests/quant/described.json") || quant::parse_json(json, file.bytes(), 16)) return models;
  for (const Json& entry : json["models"]) {
    Described d;
    d.description = entry["description"];
    d.tensors = entry["tensors"];
    for (const Json& one : entry["cases"]) {
      DescribedCase c;
      c.input = described_sequence(one["input"]);
      if (one.contains("source")) c.source = described_sequence(one["source"]);
      for (const Json& row : one["expected"])
        for (const Json& x : row) c.expected.push_back(x.get<float>());
      d.cases.push_back(std::move(c));
    }
    models.push_back(std::move(d));
  }
  return models;
}

inline Described described_model(const std::string& name) {
  for (Described& d : described_models())
    if (d.name() == name) return d;
  return {};
}

}  // namespace heed::test
