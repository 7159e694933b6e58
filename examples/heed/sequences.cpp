// SPDX-License-Identifier: Apache-2.0
// sequences.cpp: a text's lines or a file's rows, and sentences for what does not fit the model.
#include "examples/heed/sequences.hpp"

#include <algorithm>
#include <limits>

#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/refusal.hpp"

namespace heed::tool {

namespace {

struct OptionNames {
  const char *text, *file, *vectors, *either;
};
// As they are given to CLI11, then as messages name them.
OptionNames names_of(const SequenceOptions& options) {
  if (options.is_source) return {"-p,--source", "-f,--source-file", "--source-vectors", "--source or --source-file"};
  return {"-p,--prompt", "-f,--file", "--vectors", "-p or -f"};
}

}  // namespace

std::string output_rule(bool writes_a_file) {
  return std::string(
             "All input is checked before the first output. Where a command fails later (an output that is no number, "
             "a "
             "full disk), what was printed stands and the status is 1; --json prints nothing then") +
         (writes_a_file ? ", and FILE of -o stays as it was." : ".");
}

void add_sequence_options(CLI::App& command, SequenceOptions& options, const std::string& what) {
  const OptionNames names = names_of(options);
  add_prompt_options(command, options.prompt, what,
                     "so is the text. An empty text is BOS and EOS; of a vocabulary with neither it is refused",
                     names.text, names.file);
  auto* lines =
      command.add_flag("--lines", options.lines,
                       options.is_source ? "Take each line of the source on its own; an empty line is answered by one"
                                         : "Take each line of the text on its own; an empty line is an empty text");
  auto* vectors =
      command
          .add_option(names.vectors, options.vectors,
                      "For a model that reads feature vectors: a file of rows, raw little-endian float32, or "
                      ".npy of float32 or float64, [rows, width] or [sequences, rows, width]")
          ->type_name("FILE")
          ->excludes(command.get_option("-p"))
          ->excludes(command.get_option("-f"))
          ->excludes(lines);
  command.add_option("--rows", options.rows, "Take each N rows of this file on their own")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20))
      ->needs(vectors);
}

Sequences::Sequences(const LoadedModel& loaded, std::uint32_t stack, std::uint32_t room, const SequenceOptions& options,
                     bool keep_empty_lines)
    : loaded_(loaded),
      config_(loaded.model.config().stacks[stack]),
      room_(room),
      name_(options.is_source ? "source" : "text") {
  const bool texts = options.prompt.has_text || options.prompt.has_file || options.lines;
  if (config_.input != Input::tokens) {
    const std::uint32_t width = config_.input_width();
    if (texts || options.vectors.empty())
      refuse(loaded.path, "the model reads vectors of " + counted(width, "number") + "; " + names_of(options).vectors +
                              " FILE gives them");
    file_ = std::make_unique<VectorFile>(options.vectors, width);
    if (options.rows && file_->rows_per_sequence())
      refuse(options.vectors, "it is an array of sequences already, so there is nothing for --rows to cut");
    rows_ = options.rows ? options.rows : file_->rows_per_sequence() ? file_->rows_per_sequence() : file_->rows();
    are_many_ = options.rows || file_->rows_per_sequence();
    if (file_->rows() == 0) refuse(options.vectors, "there is no row in it");
    count_ = (file_->rows() + rows_ - 1) / rows_;
    for (std::uint64_t i = 0; i < count_; ++i) (void)(*this)[i];
    return;
  }
  if (!options.vectors.empty())
    refuse(loaded.path,
           std::string("the model reads tokens, not vectors; ") + names_of(options).either + " gives it a text");
  const bool main = stack + 1 == loaded.model.config().n_stacks;
  tokenizer_ = main ? tokenizer_of(loaded) : source_tokenizer_of(loaded);
  read_texts(options, keep_empty_lines);
}

void Sequences::read_texts(const SequenceOptions& options, bool keep_empty_lines) {
  std::string text = read_prompt(options.prompt);
  are_many_ = options.lines;
  if (!options.lines) {
    add_text(std::move(text), 0, false);
  } else if (!text.empty()) {
    for (std::size_t first = 0, line = 1; first <= text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', first), text.size());
      const bool carriage_return = end > first && text[end - 1] == '\r' && end < text.size();
      add_text(text.substr(first, end - first - carriage_return), line, keep_empty_lines);
      first = end + 1;
    }
  }
  count_ = texts_.size();
}

void Sequences::add_text(std::string text, std::size_t line, bool keep_empty) {
  InputSequence sequence;
  sequence.name = line ? "line " + std::to_string(line) : name_;
  sequence.text = std::move(text);
  if (keep_empty && sequence.text.empty()) {
    texts_.push_back(std::move(sequence));
    return;
  }
  sequence.tokens = encode(*tokenizer_, {sequence.text.data(), sequence.text.size()}, sequence.name, 0, {true, true});
  if (sequence.tokens.empty()) refuse(sequence.name, "it is empty, and the vocabulary has neither BOS nor EOS to read");
  check(sequence);
  texts_.push_back(std::move(sequence));
}

void Sequences::check(InputSequence& sequence) const {
  require(check_sequence(sequence.positions, config_, sequence.view(), std::numeric_limits<std::uint32_t>::max()),
          sequence.name);
  if (sequence.positions > room_)
    refuse(sequence.name,
           "it takes " + counted(sequence.positions, "position") + ", the context has " + grouped(room_));
}

InputSequence Sequences::operator[](std::uint64_t i) const {
  if (!file_) return texts_[static_cast<std::size_t>(i)];
  InputSequence sequence;
  const std::uint64_t first = i * rows_, n = std::min(rows_, file_->rows() - first);
  sequence.name = are_many_ ? "sequence " + std::to_string(i) : name_ == "text" ? "vectors" : name_;
  // The limit first: of what is too long nothing is copied.
  const std::uint64_t most = std::uint64_t{room_} * 4;  // two convolutions with strides of 2
  if (n > most) refuse(sequence.name, grouped(n) + " rows are too many; the context has " + counted(room_, "position"));
  sequence.vectors = file_->read(first, n);
  check(sequence);
  return sequence;
}

}  // namespace heed::tool
