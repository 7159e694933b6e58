// SPDX-License-Identifier: Apache-2.0
// spec_vectors.hpp: reads the vectors that SPEC.md shows out of it, and compares what a test computes with them.
#pragma once
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "runtime/bits.hpp"

namespace heed::test {

using Words = std::vector<std::string>;

// What a fault of the text, not of a number, ends with.
[[noreturn]] inline void broken(const std::string& what) {
  std::fprintf(stderr, "SPEC.md: %s\n", what.c_str());
  std::exit(1);
}

struct Vector {
  int line = 0;
  std::string what;
  std::map<std::string, Words> in, out, wrong;
  std::set<std::string> computed;
  std::string differs;  // the first name that came out otherwise, and how

  const Words& words(const std::string& name) const {
    const auto at = in.find(name);
    if (at == in.end()) broken("line " + std::to_string(line) + ": no " + name);
    return at->second;
  }
  std::vector<float> floats(const std::string& name) const {
    std::vector<float> x;
    for (const std::string& w : words(name))
      x.push_back(float_of(static_cast<std::uint32_t>(std::stoul(w, nullptr, 16))));
    return x;
  }
  template <class T = std::int32_t>
  std::vector<T> integers(const std::string& name) const {
    std::vector<T> x;
    for (const std::string& w : words(name)) x.push_back(static_cast<T>(std::stoll(w)));
    return x;
  }
  template <class T = std::int32_t>
  T integer(const std::string& name) const {
    const std::string& w = words(name).at(0);
    return static_cast<T>(w[0] == '-' ? static_cast<std::uint64_t>(std::stoll(w)) : std::stoull(w));
  }
  float number(const std::string& name) const { return floats(name).at(0); }
  // A quoted text, which has no two spaces behind each other.
  std::string text(const std::string& name) const {
    std::string s;
    for (const std::string& w : words(name)) s += s.empty() ? w : ' ' + w;
    return s.substr(1, s.size() - 2);
  }

  void is(const std::string& name, const Words& got) {
    computed.insert(name);
    if (out.count(name) && out[name] == got) return;
    std::string text = differs.empty() ? name + " =" : "";
    for (const std::string& w : got) text += text.empty() ? "" : ' ' + w;
    if (differs.empty()) differs = text;
  }
  template <class T>
  void are(const std::string& name, const T& values) {
    Words got;
    for (const auto v : values) got.push_back(std::to_string(v));
    is(name, got);
  }
  void is_integer(const std::string& name, std::int64_t value) { is(name, {std::to_string(value)}); }
  static std::string hex(std::uint32_t u) {
    char word[9];
    std::snprintf(word, sizeof word, "%08x", u);
    return word;
  }
  void is_hex(const std::string& name, std::uint32_t value) { is(name, {hex(value)}); }
  void is_float(const std::string& name, float x) { is_hex(name, bits_of(x)); }
  void are_floats(const std::string& name, const float* x, std::size_t n) {
    Words got;
    for (std::size_t i = 0; i < n; ++i) got.push_back(hex(bits_of(x[i])));
    is(name, got);
  }
};

// The words of a line, W*N taken apart, a comment left out.
inline Words words_of(const std::string& line) {
  Words words;
  std::size_t at = 0;
  while ((at = line.find_first_not_of(' ', at)) != std::string::npos) {
    const std::size_t end = line.find(' ', at) == std::string::npos ? line.size() : line.find(' ', at);
    std::string w = line.substr(at, end - at);
    at = end;
    if (w == "#") break;
    const std::size_t star = w.find('*');
    const bool repeated = star != std::string::npos && star + 1 < w.size() && std::isdigit(w[star + 1]) && w[0] != '"';
    const unsigned long n = repeated ? std::stoul(w.substr(star + 1)) : 1;
    if (repeated) w.resize(star);
    for (unsigned long i = 0; i < n; ++i) words.push_back(w);
  }
  return words;
}

// Every vector between the markers: paragraphs of code blocks whose first line is one word.
inline std::vector<Vector> read_vectors(const char* path) {
  std::ifstream file(path);
  std::vector<Vector> vectors;
  std::string line, section;
  Words* last = nullptr;  // where a line that goes on belongs
  bool inside = false;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.rfind("<!-- vectors ", 0) == 0) section = line;
    if (line.rfind("<!-- end of vectors ", 0) == 0) section.clear();
    if (section.empty()) continue;
    if (line.empty() || line[0] == '`' || line[0] == '<') {
      inside = false;
      continue;
    }
    if (line[0] != ' ') {
      inside = line.find(' ') == std::string::npos;
      if (!inside) continue;
      vectors.emplace_back();
      vectors.back().line = number;
      vectors.back().what = line;
      continue;
    }
    if (!inside) continue;  // a trace
    Words words = words_of(line);
    if (words.empty()) continue;  // a comment alone
    if (line.rfind("      ", 0) == 0) {
      if (last) last->insert(last->end(), words.begin(), words.end());
      continue;
    }
    const bool out = words[0] == "->", wrong = words[0] == "not";
    const std::string name = words[out || wrong];
    words.erase(words.begin(), words.begin() + 1 + (out || wrong));
    if (words == Words{"-"}) words.clear();
    auto& to = wrong ? vectors.back().wrong : out ? vectors.back().out : vectors.back().in;
    last = &(to[name] = words);
  }
  return vectors;
}

}  // namespace heed::test
