// SPDX-License-Identifier: Apache-2.0
// encode.cpp: `heed encode`, a text or vectors in, a class, an embedding or a row of numbers per position out.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>

#include "examples/heed/commands.hpp"
#include "examples/heed/generate.hpp"
#include "examples/heed/model_kind.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output_names.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/sequences.hpp"
#include "quant/file.hpp"
#include "quant/float_reference.hpp"

namespace heed::tool {
namespace {

struct Options {
  std::string model, output;
  SequenceOptions input, source;
  bool has_output = false;  // also of an empty name
  std::uint32_t top = 0;  // 0 = 5 where one class is printed alone, else 1
  SessionOptions session;
  bool json = false;
};

// What comes out: one row or one per position, of logits or of a vector's components; the words of --json.
struct OutputKind {
  bool pooled, logits;
  const char* name() const { return logits ? (pooled ? "class" : "classes") : pooled ? "embedding" : "vectors"; }
};

struct RankedClass {
  std::uint32_t output;
  double probability;
};

// The likeliest first; of equals the lower number.
std::vector<RankedClass> likeliest(Span<const float> logits, std::uint32_t n) {
  std::vector<double> p, log_p;
  quant::softmax(p, log_p, logits);
  std::vector<std::uint32_t> order(p.size());
  std::iota(order.begin(), order.end(), 0u);
  n = std::min(n, static_cast<std::uint32_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return logits[a] > logits[b] || (!(logits[a] < logits[b]) && a < b);
  });
  std::vector<RankedClass> ranked;
  for (std::uint32_t i = 0; i < n; ++i) ranked.push_back({order[i], p[order[i]]});
  return ranked;
}

// Rows as they come out of the session, into the digest, the file and one of the two forms of output.
class Rows {
 public:
  Rows(const HostSession& host, const LoadedModel& loaded, const Options& options, bool are_many)
      : kernels_(host.kernels),
        names_(loaded),
        json_output_(options.json),
        are_many_(are_many),
        keep_bytes_(!options.output.empty()) {
    const StackConfig& c = loaded.model.config().main();
    kind_ = {c.pooling != Pooling::every, c.output == Output::logits};
    n_class_vectors_ = c.n_class_vectors;
    top_ = options.top ? options.top : kind_.pooled && !are_many ? 5 : 1;
  }

  void begin(const InputSequence& sequence, const Tokenizer* tokenizer, std::uint64_t index) {
    sequence_ = &sequence;
    tokenizer_ = tokenizer;
    index_ = index;
    json_ = Json();
    if (!sequence.tokens.empty()) json_["tokens"] = sequence.tokens;
    json_["positions"] = sequence.positions;
  }

  void take(std::uint32_t position, Span<const float> row) {
    digest_.add_row(kernels_, position, row);
    ++n_rows_;
    if (keep_bytes_) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(row.data());
      bytes_.insert(bytes_.end(), bytes, bytes + row.size() * sizeof(float));
    }
    if (digest_.saw_nan()) refuse(sequence_->name, "an output is not a number");
    if (json_output_)
      put(position, row);
    else
      print(position, row);
  }

  OutputKind kind() const { return kind_; }
  const Digest& digest() const { return digest_; }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }
  std::uint64_t n_rows() const { return n_rows_; }
  // Of the last sequence.
  Json& json() { return json_; }

 private:
  // The token at a position, if there is one.
  const Token* token_at(std::uint32_t position) const {
    const std::size_t i = std::size_t{position} - n_class_vectors_;
    return position >= n_class_vectors_ && i < sequence_->tokens.size() ? &sequence_->tokens[i] : nullptr;
  }

  void put_classes(Json& into, Span<const float> logits) const {
    const std::vector<RankedClass> ranked = likeliest(logits, top_);
    const auto put_class = [&](Json& json, const RankedClass& c) {
      json["class"] = c.output;
      if (names_.known()) json["label"] = names_[c.output];
      json["probability"] = c.probability;
    };
    put_class(into, ranked[0]);
    if (ranked.size() == 1) return;
    for (const RankedClass& c : ranked) {
      Json one;
      put_class(one, c);
      into["top"].push_back(std::move(one));
    }
  }

  void put(std::uint32_t position, Span<const float> row) {
    const auto numbers = [&] { return std::vector<float>(row.begin(), row.end()); };
    if (kind_.pooled) {
      if (kind_.logits) put_classes(json_, row);
      json_[kind_.logits ? "logits" : "embedding"] = numbers();
      return;
    }
    Json one;
    one["position"] = position;
    if (const Token* token = token_at(position)) one["piece"] = piece_of(*tokenizer_, *token);
    if (kind_.logits)
      put_classes(one, row);
    else
      one["vector"] = numbers();
    json_["rows"].push_back(std::move(one));
  }

  void print(std::uint32_t position, Span<const float> row) const {
    if (!kind_.logits) {
      for (std::size_t i = 0; i < row.size(); ++i) std::printf("%s%.9g", i ? " " : "", static_cast<double>(row[i]));
      std::putchar('\n');
      return;
    }
    const std::vector<RankedClass> ranked = likeliest(row, top_);
    if (kind_.pooled && !are_many_) {
      for (const RankedClass& c : ranked) std::printf("%.4f  %s\n", c.probability, names_[c.output].c_str());
      return;
    }
    if (kind_.pooled) {
      std::printf("%llu", static_cast<unsigned long long>(index_));
    } else {
      if (are_many_ && index_ && position == 0) std::putchar('\n');  // between sequences
      const Token* token = token_at(position);
      std::printf("%u\t%s", position, token ? piece_of(*tokenizer_, *token).c_str() : "");
    }
    for (const RankedClass& c : ranked) std::printf("\t%s\t%.4f", names_[c.output].c_str(), c.probability);
    std::putchar('\n');
  }

  const Kernels& kernels_;
  OutputNames names_;
  OutputKind kind_{};
  std::uint32_t n_class_vectors_ = 0, top_ = 1;
  bool json_output_, are_many_, keep_bytes_;
  const InputSequence* sequence_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  std::uint64_t index_ = 0, n_rows_ = 0;
  Json json_;
  Digest digest_;
  std::vector<std::uint8_t> bytes_;
};

void encode_one(Rows& rows, Session& session, const InputSequence& sequence) {
  const RowSink sink{
      [](void* user, std::uint32_t position, Span<const float> row) { static_cast<Rows*>(user)->take(position, row); },
      &rows};
  require(session.encode(sequence.view(), sink), sequence.name);
}

// Of two stacks whose second one encodes: what it reads beside its own input.
void take_source(HostSession& host, const LoadedModel& loaded, const SequenceOptions& options) {
  const bool given = options.prompt.has_text || options.prompt.has_file || !options.vectors.empty();
  if (loaded.model.config().n_stacks == 1) {
    if (given) refuse(loaded.path, "the model reads no source beside its input");
    return;
  }
  if (!given) refuse(loaded.path, "the model reads a source beside its input; --source, --source-file or --source-vectors gives it");
  const InputSequence source = Sequences(loaded, 0, host.plan.source.max_seq, options)[0];
  require(host.session.set_source(source.view()), source.name);
}

void encode(const Options& options) {
  if (options.has_output)
    if (const quant::Error e = quant::check_writable(options.output)) refuse("", e.sentence());
  for (const std::string& input : {options.model, options.input.vectors, options.input.prompt.file, options.source.vectors,
                                   options.source.prompt.file})
    if (!options.output.empty() && !input.empty() && input != "-" && quant::is_same_file(options.output, input))
      refuse(options.output, "cannot be written: it is " + input + ", which is read");
  LoadedModel loaded;
  load(loaded, options.model);
  require_kind(loaded, ModelKind::encoder);
  auto host = std::make_unique<HostSession>(loaded, options.session);
  const auto reads_input = [](const PromptOptions& text) { return text.has_text ? text.text == "-" : text.file == "-"; };
  const bool no_text = !options.input.prompt.has_text && !options.input.prompt.has_file && options.input.vectors.empty();
  const ModelConfig& config = loaded.model.config();
  const bool reads_text_and_source = config.n_stacks == 2 && config.main().input == Input::tokens;
  if (reads_text_and_source && reads_input(options.source.prompt) && (no_text || reads_input(options.input.prompt)))
    refuse("", "standard input cannot be the text and its source in one");
  const Sequences sequences(loaded, config.n_stacks - 1, host->session.max_seq(), options.input);
  take_source(*host, loaded, options.source);
  Rows rows(*host, loaded, options, sequences.are_many());
  const Interrupt interrupt;
  Json all = Json::array();
  double seconds = 0.0;
  std::uint64_t positions = 0;
  bool interrupted = false;
  Progress progress("encode", options.json || !options.output.empty() ? sequences.size() : 0);
  for (std::uint64_t i = 0; i < sequences.size() && !interrupted; ++i) {
    const InputSequence sequence = sequences[i];
    rows.begin(sequence, sequences.tokenizer(), i);
    const auto start = std::chrono::steady_clock::now();
    encode_one(rows, host->session, sequence);
    seconds += seconds_since(start);
    positions += sequence.positions;
    if (sequences.are_many() && options.json) all.push_back(std::move(rows.json()));
    progress.show(i + 1);
    interrupted = interrupt.signal() != 0;
  }

  const double rate = seconds > 0.0 ? static_cast<double>(positions) / seconds : 0.0;
  Json json;
  json["output"] = rows.kind().name();
  if (sequences.are_many())
    json["sequences"] = std::move(all);
  else
    json.update(rows.json());
  json["digest"] = hex8(rows.digest().value());
  json["interrupted"] = interrupted;
  json["positions_per_s"] = number_or_null(rate);
  if (options.json) put_session(json, *host, loaded);
  const std::string description = describe_session(*host);
  host.reset();  // its threads, so that writing can hold signals back
  if (!options.output.empty())
    if (const quant::Error e = quant::write_file(options.output, rows.bytes())) refuse("", e.sentence());
  if (options.json) {
    print_json(json);
  } else {
    std::fflush(stdout);
    if (interrupted) std::fputs("heed: note: interrupted\n", stderr);
    std::fprintf(stderr, "digest %s: %s, %s, %s positions/s, %s\n", hex8(rows.digest().value()).c_str(),
                 counted(positions, "position").c_str(), counted(rows.n_rows(), "row").c_str(),
                 engineering(rate).c_str(), description.c_str());
  }
  if (interrupted) throw Interrupted{interrupt.signal()};
}

}  // namespace

void add_encode(CLI::App& app) {
  auto* command =
      app.add_subcommand("encode", "Give out a class, an embedding or hidden states of a text or of vectors");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed) of an encoder")->required();
  add_sequence_options(*command, options->input, "The text to encode");
  auto* output = command->add_option("-o,--output", options->output, "Write all rows to this file, as raw little-endian float32");
  output->type_name("FILE");
  command
      ->add_option("--top", options->top, "Classes to name, the likeliest first (default: 5 of a single one, else 1)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  auto* source = command->add_option_function<std::string>(
      "--source",
      [options](const std::string& text) {
        options->source.prompt.text = text;
        options->source.prompt.has_text = true;
      },
      "For a model of two stacks: the text that the first one reads");
  source->type_name("TEXT");
  auto* source_file = command->add_option_function<std::string>(
      "--source-file",
      [options](const std::string& path) {
        options->source.prompt.file = path;
        options->source.prompt.has_file = true;
      },
      "A file with that text");
  source_file->type_name("FILE")->excludes(source);
  options->source.is_source = true;
  command->add_option("--source-vectors", options->source.vectors, "The same of vectors")
      ->type_name("FILE")
      ->excludes(source)
      ->excludes(source_file);
  add_threads_option(*command, "-t,--threads", options->session.threads);
  add_isa_option(*command, options->session.isa);
  add_size_options(*command, options->session, "Positions to keep");
  command->add_flag("--json", options->json, "Print everything as JSON");
  command->footer(
      std::string("Example:\n"
      "  heed encode mood.heed -p \"A lovely day.\"\n"
      "  heed encode embed.heed -f sentences.txt --lines -o embeddings.f32\n"
      "  heed encode keywords.heed --vectors features.npy --rows 98 --json\n") +
      output_rule(true));
  command->callback([options, output] {
    options->has_output = output->count() != 0;
    encode(*options);
  });
}

}  // namespace heed::tool
