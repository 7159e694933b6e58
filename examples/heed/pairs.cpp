// SPDX-License-Identifier: Apache-2.0
// pairs.cpp: lines of a file, each scored and written.
#include "examples/heed/pairs.hpp"

#include <algorithm>
#include <cstdio>

#include "examples/heed/generate.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"

namespace heed::tool {
namespace {

// How near written texts come to the expected ones.
struct Texts {
  std::uint64_t exact = 0, wrong_characters = 0;
  void add(const std::string& written, const std::string& expected);
};

struct PairScores {
  Scores scores;
  Texts texts, reference_texts;
  std::uint64_t pairs = 0, left_out = 0, characters = 0, same_texts = 0;

  double share(std::uint64_t n, std::uint64_t of) const {
    return of ? static_cast<double>(n) / static_cast<double>(of) : 0.0;
  }
  double character_error(const Texts& of) const { return share(of.wrong_characters, characters); }
};

// Where each character of UTF-8 begins, and the end; bytes that are none belong to the one before.
std::vector<std::string> characters_of(const std::string& text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    if (characters.empty() || (static_cast<unsigned char>(c) & 0xC0) != 0x80) characters.emplace_back();
    characters.back() += c;
  }
  return characters;
}

// Insertions, deletions and exchanges of characters from `a` to `b`.
std::uint64_t distance(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::uint64_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::uint64_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::uint64_t exchanged = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, exchanged});
    }
  }
  return row[b.size()];
}

void Texts::add(const std::string& written, const std::string& expected) {
  exact += written == expected;
  wrong_characters += distance(characters_of(written), characters_of(expected));
}

struct Pair {
  std::vector<Token> source, text;
  std::string expected;
};

class PairEvaluation {
 public:
  PairEvaluation(const LoadedModel& loaded, HostSession& host, Reference* reference, const Interrupt& interrupt)
      : loaded_(loaded),
        host_(host),
        reference_(reference),
        tokenizer_(tokenizer_of(loaded)),
        source_tokenizer_(source_tokenizer_of(loaded)),
        generate_(host, loaded, tokenizer_, all_of_the_context(), interrupt, false, true) {}

  // False, and why, where the model cannot read or write the pair.
  bool take(const std::string& line, const std::string& name, std::string& why) {
    Pair pair;
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos || line.find('\t', tab + 1) != std::string::npos)
      refuse(name, "a pair is a source, a tab and a text");
    pair.expected = line.substr(tab + 1);
    const Span<const Token> first = generate_.generation().first();
    try {
      pair.source = encode(source_tokenizer_, {line.data(), tab}, name, 0, {true, true});
      pair.text.assign(first.begin(), first.end());
      for (const Token t :
           encode(tokenizer_, {pair.expected.data(), pair.expected.size()}, name, tab + 1, {false, false}))
        pair.text.push_back(t);
    } catch (const Refusal& refusal) {
      why = refusal.reason;
      return false;
    }
    if (pair.text.size() > host_.session.max_seq() || pair.source.size() > host_.plan.source.max_seq) {
      why = "it does not fit the context";
      return false;
    }
    if (pair.source.empty()) {
      why = "its source is empty, and the vocabulary has neither BOS nor EOS to read";
      return false;
    }
    evaluate(pair, name);
    return true;
  }

  PairScores& sums() { return sums_; }

 private:
  static GenerateOptions all_of_the_context() {
    GenerateOptions options;
    options.n_tokens = 1u << 30;
    return options;
  }

  void evaluate(const Pair& pair, const std::string& name) {
    const Generation& generation = generate_.generation();
    const Span<const Token> first = generation.first();
    require(host_.session.set_source({pair.source, {}, {}}), name);
    if (reference_) reference_->set_source(pair.source);
    score(sums_.scores, host_.session, reference_, pair.text, generation.ending(), first.size(), loaded_.path);
    require(host_.session.rewind(0), loaded_.path);
    const std::string written = generate_(first, first.size()).text;
    sums_.texts.add(written, pair.expected);
    if (reference_) {
      const std::string exact = reference_text();
      sums_.reference_texts.add(exact, pair.expected);
      sums_.same_texts += written == exact;
    }
    ++sums_.pairs;
    sums_.characters += characters_of(pair.expected).size();
  }

  // What the float model writes, taking the likeliest token each time.
  std::string reference_text() {
    reference_->restart();
    const Generation& generation = generate_.generation();
    GeneratedText text(tokenizer_, {}, false);
    Sampler likeliest;
    require(create(likeliest, {}, loaded_.model.config().main().n_outputs, host_.kernels, {}), "float model");
    Span<const float> logits;
    for (const Token token : generation.first()) logits = reference_->step(token);
    for (std::size_t position = generation.first().size(); position <= host_.session.max_seq(); ++position) {
      Token token = kNoToken;
      require(likeliest.pick(token, logits, generation.suppressed()), "float model");
      if (generation.ends_text(token)) break;
      text.push(token);
      if (position < host_.session.max_seq()) logits = reference_->step(token);
    }
    text.finish();
    return text.all();
  }

  const LoadedModel& loaded_;
  HostSession& host_;
  Reference* reference_;
  Tokenizer tokenizer_, source_tokenizer_;
  Generator generate_;
  PairScores sums_;
};

void print(const PairScores& sums, bool with_reference, bool interrupted, const HostSession& host,
           const LoadedModel& loaded, bool as_json) {
  if (as_json) {
    Json json;
    put_scores(json, sums.scores);
    json["tokens"] = sums.scores.tokens;
    json["pairs"] = sums.pairs;
    json["left_out"] = sums.left_out;
    json["exact"] = sums.texts.exact;
    json["character_error"] = sums.scores.if_any(sums.character_error(sums.texts));
    if (with_reference) {
      put_reference_scores(json, sums.scores);
      json["reference_exact"] = sums.reference_texts.exact;
      json["reference_character_error"] = sums.scores.if_any(sums.character_error(sums.reference_texts));
      json["same_texts"] = sums.same_texts;
    }
    json["digest"] = hex8(sums.scores.digest.value());
    json["interrupted"] = interrupted;
    put_session(json, host, loaded);
    print_json(json);
    return;
  }
  note_slower(host);
  if (sums.pairs == 0) return;
  print_scores(sums.scores);
  const auto print_texts = [&](const char* name, const Texts& texts) {
    std::printf("%-15s %s of %s exact, %.2f %% of characters wrong\n", name, grouped(texts.exact).c_str(),
                grouped(sums.pairs).c_str(), 100.0 * sums.character_error(texts));
  };
  print_texts("texts", sums.texts);
  if (with_reference) {
    print_reference_scores(sums.scores);
    print_texts("float texts", sums.reference_texts);
    std::printf("the same text   %s of %s\n", grouped(sums.same_texts).c_str(), grouped(sums.pairs).c_str());
  }
  std::printf("over            %s of %s\n", counted(sums.scores.tokens, "token").c_str(),
              counted(sums.pairs, "pair").c_str());
}

}  // namespace

void eval_pairs(const LoadedModel& loaded, HostSession& host, Reference* reference, Span<const char> bytes,
                const PairOptions& options) {
  if (loaded.model.config().source().input != Input::tokens)
    refuse(loaded.path, "its source is vectors, and a line of a file has none");
  if (generation_of(loaded, tokenizer_of(loaded)).first().empty())
    refuse(loaded.path, "neither the image nor its vocabulary says what a text begins with");
  const std::string text(bytes.data(), bytes.size());
  std::vector<std::string> lines;
  for (std::size_t first = 0; first < text.size();) {
    const std::size_t end = std::min(text.find('\n', first), text.size());
    lines.push_back(text.substr(first, end - first));
    if (!lines.back().empty() && lines.back().back() == '\r') lines.back().pop_back();
    first = end + 1;
  }
  const Interrupt interrupt;
  PairEvaluation evaluation(loaded, host, reference, interrupt);
  PairScores& sums = evaluation.sums();
  std::optional<Progress> progress(std::in_place, "eval", lines.size());
  std::string first_left_out;
  for (std::size_t i = 0; i < lines.size() && !interrupt.signal(); ++i) {
    if (options.max_pairs && sums.pairs == options.max_pairs) break;
    if (lines[i].empty()) continue;
    std::string why;
    const std::string number = "line " + std::to_string(i + 1);
    if (!evaluation.take(lines[i], options.path + ", " + number, why)) {
      ++sums.left_out;
      if (first_left_out.empty()) first_left_out = number + ": " + why;
    }
    progress->show(i + 1);
  }
  progress.reset();
  const bool interrupted = interrupt.signal() != 0;
  if (sums.pairs == 0 && !interrupted)
    refuse(options.path,
           "no pair in it that the model reads and writes" + (sums.left_out ? "; " + first_left_out : ""));
  if (sums.left_out)
    std::fprintf(stderr, "heed: note: %s of %s left out, as %s\n", counted(sums.left_out, "pair").c_str(),
                 one_line(options.path).c_str(), one_line(first_left_out).c_str());
  print(sums, reference != nullptr, interrupted, host, loaded, options.json);
  if (!interrupted) return;
  std::fprintf(stderr, "heed: note: interrupted after %s\n", counted(sums.pairs, "pair").c_str());
  throw Interrupted{interrupt.signal()};
}

}  // namespace heed::tool
