// SPDX-License-Identifier: Apache-2.0
// sequences.hpp: what a stack reads as a whole, from the command line: texts or feature vectors, one sequence or many.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/heed/host_session.hpp"
#include "examples/heed/prompt.hpp"
#include "examples/heed/vector_file.hpp"

namespace heed::tool {

struct SequenceOptions {
  PromptOptions prompt;
  std::string vectors;     // a file; empty = texts
  std::uint32_t rows = 0;  // of a sequence in it; 0 = all, or as the file says
  bool lines = false;      // each line of the text is a sequence
  bool is_source = false;  // of two stacks, and its options are called so
};
// -p, -f, --lines, --vectors and --rows; of a source -p or --source, -f or --source-file and --source-vectors.
void add_sequence_options(CLI::App& command, SequenceOptions& options, const std::string& what);

// For --help of the commands with these options: what is printed where a command fails.
std::string output_rule(bool writes_a_file);

// One sequence, which owns what the runtime reads.
struct InputSequence {
  std::string name;  // for refusals: "text", "source", "line 3"
  std::string text;
  std::vector<Token> tokens;
  std::vector<float> vectors;
  std::uint32_t positions = 0;  // that it takes, class vectors included; 0 = it is empty

  Sequence view() const { return {tokens, {}, vectors}; }
};

// The sequences of one stack of a model: texts from the beginning, vectors one sequence at a time. All are checked at
// once, so that no output stands in front of a refusal.
class Sequences {
 public:
  // `loaded` must outlive it; `room`: positions that the session keeps of this stack. Refuses options of the other kind
  // of input than the stack's, a text that the vocabulary cannot express, a number that is not finite, and a sequence
  // that is too long or has no position. An empty text is BOS and EOS where the vocabulary has them, unless the caller
  // has an answer of its own for empty lines: then they have no position.
  Sequences(const LoadedModel& loaded, std::uint32_t stack, std::uint32_t room, const SequenceOptions& options,
            bool keep_empty_lines = false);

  std::uint64_t size() const { return count_; }
  InputSequence operator[](std::uint64_t i) const;
  // Whether the caller asked for many, so that also one is a list.
  bool are_many() const { return are_many_; }
  // Of the tokens, if the stack reads tokens.
  const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }

 private:
  void read_texts(const SequenceOptions& options, bool keep_empty_lines);
  void add_text(std::string text, std::size_t line, bool keep_empty);
  void check(InputSequence& sequence) const;

  const LoadedModel& loaded_;
  const StackConfig& config_;
  std::uint32_t room_ = 0;
  std::optional<Tokenizer> tokenizer_;
  std::vector<InputSequence> texts_;
  std::unique_ptr<VectorFile> file_;
  std::string name_;                    // of a sequence that is the only one
  std::uint64_t count_ = 0, rows_ = 0;  // sequences; rows of each, the last one's may be fewer
  bool are_many_ = false;
};

}  // namespace heed::tool
