// SPDX-License-Identifier: Apache-2.0
// bench.cpp: `heed bench`, how fast a model runs here, and how far that is from what the machine could do.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/counts.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/limits.hpp"
#include "examples/heed/model_kind.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/profile.hpp"
#include "examples/heed/progress.hpp"
#include "examples/heed/refusal.hpp"
#include "quant/source.hpp"

namespace heed::tool {
namespace {

constexpr double kLongEnough_s = 1.0;  // of measured time per row
constexpr std::size_t kFewest = 5, kMost = 1000;

struct Options {
  std::string model;
  std::vector<std::uint32_t> prefill, source;  // empty = 128 and 512, as far as the context goes
  std::uint32_t decode = 128;
  SessionOptions session;
  bool json = false;
};

struct Limits {
  double bytes_per_s = 0.0, macs_per_s = 0.0;  // 0 = not known
};

// One measured row. Work is counted from the configuration, time is the median.
struct Measurement {
  const char* phase;
  std::uint32_t n = 0;
  std::size_t repetitions = 0;
  double seconds = 0.0, macs = 0.0, bytes = 0.0;
  std::vector<KernelTime> profile;  // of all repetitions, if asked for
  double profiled_s = 0.0;

  double tokens_per_s() const { return n / seconds; }
  double macs_per_s() const { return macs / seconds; }
  double bytes_per_s() const { return bytes / seconds; }
};

double share(double rate, double limit) { return limit > 0.0 ? rate / limit : 0.0; }

// Any inputs do; these are the same in every run.
class Inputs {
 public:
  // Of `positions` of a stack, class vectors included.
  Inputs(const StackConfig& c, std::uint32_t positions) {
    std::uint32_t n = positions - std::min(positions, c.n_class_vectors);
    if (c.input == Input::convolved)
      for (int i = c.second_convolution; i >= 0; --i) n = (n - 1) * c.strides[i] + 1;
    std::uint32_t state = 1;
    const auto next = [&] { return (state = state * 1664525u + 1013904223u) >> 8; };
    if (c.input == Input::tokens) {
      for (std::uint32_t i = 0; i < n; ++i) tokens_.push_back(static_cast<Token>(next() % c.vocab_size));
    } else {
      vectors_.resize(std::size_t{n} * c.input_width());
      for (float& x : vectors_) x = static_cast<float>(next()) * 0x1p-23f - 1.0f;
    }
  }
  Span<const Token> tokens() const { return tokens_; }
  Sequence sequence() const { return {tokens_, {}, vectors_}; }

 private:
  std::vector<Token> tokens_;
  std::vector<float> vectors_;
};

class Bench {
 public:
  Bench(HostSession& host, const LoadedModel& loaded)
      : host_(host), path_(loaded.path), model_(loaded.model.config()), layout_(loaded.model.layout()) {}

  Measurement prefill(std::uint32_t n) {
    const Inputs inputs(model_.main(), n);
    Measurement m = measure("prefill", n, [&] {
      Span<const float> logits;
      require(host_.session.prefill(logits, inputs.tokens()), path_);
    });
    const Counts counts = count(model_.main());
    const double cross = double(counts.cross_macs_per_key) * source_positions_;
    m.macs = n * (double(counts.linear_macs - counts.output_macs) + cross) + double(counts.output_macs) +
             double(attention_macs(model_.main(), counts, n));
    m.bytes = weight_bytes(model_.main(), host_.plan.chunk, n);
    return m;
  }

  Measurement decode(std::uint32_t n) {
    const Inputs inputs(model_.main(), n);
    Measurement m = measure("decode", n, [&] {
      Span<const float> logits;
      for (const Token token : inputs.tokens()) require(host_.session.step(logits, token), path_);
    });
    const StackConfig& c = model_.main();
    const Counts counts = count(c);
    m.macs = n * (double(counts.linear_macs) + double(counts.cross_macs_per_key) * source_positions_) +
             double(attention_macs(c, counts, n));
    const double key_and_value = c.n_kv_heads * (double(c.head_dim) + c.value_dim() + 5.0);
    double keys = 0.0;
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
      keys += double(visible_pairs(n, c.mask, c.sees_all(layer) ? 0 : c.window)) +
              (c.cross_attention ? double(n) * source_positions_ : 0.0);
    m.bytes = n * double(step_weight_bytes(c, layout_)) + keys * key_and_value;
    return m;
  }

  // A whole sequence of a stack that encodes.
  Measurement encode(std::uint32_t n) {
    const Inputs inputs(model_.main(), n);
    const RowSink nowhere{[](void*, std::uint32_t, Span<const float>) {}, nullptr};
    Measurement m = measure("encode", n, [&] { require(host_.session.encode(inputs.sequence(), nowhere), path_); });
    m.macs = encoder_macs(model_.main(), n) + double(count(model_.main()).cross_macs_per_key) * n * source_positions_;
    m.bytes = weight_bytes(model_.main(), host_.plan.chunk, n);
    return m;
  }

  // The source of two stacks, its keys and values in the second one included; what runs afterwards reads it.
  Measurement source(std::uint32_t n) {
    const Inputs inputs(model_.source(), n);
    Measurement m = measure("source", n, [&] { require(host_.session.set_source(inputs.sequence()), path_); });
    source_positions_ = n;
    m.macs = encoder_macs(model_.source(), n) + double(count(model_.main()).source_macs) * n;
    m.bytes = weight_bytes(model_.source(), host_.plan.source.chunk, n);
    return m;
  }

 private:
  static double encoder_macs(const StackConfig& c, std::uint32_t n) {
    const Counts counts = count(c);
    return double(n) * double(counts.linear_macs) + double(counts.pooled_macs) + double(attention_macs(c, counts, n));
  }
  // Weights that a sequence reads: each once per chunk, the unembedding once.
  double weight_bytes(const StackConfig& c, std::uint32_t chunk, std::uint32_t n) const {
    const double last = double(unembedding_bytes(c, layout_));
    return ((n + chunk - 1) / chunk) * (double(step_weight_bytes(c, layout_)) - last) + last;
  }

  // The median of several runs from position 0, after one that warms up.
  template <class Run>
  Measurement measure(const char* phase, std::uint32_t n, Run run) {
    Progress progress(std::string(phase) + " " + std::to_string(n), kFewest);
    std::vector<double> seconds;
    double total = 0.0;
    for (std::size_t i = 0; i <= kMost; ++i) {
      if (i == 1) reset_kernel_times();
      if (model_.main().use == Use::generate) require(host_.session.rewind(0), path_);
      const auto start = std::chrono::steady_clock::now();
      run();
      progress.show(i);
      if (i == 0) continue;
      seconds.push_back(seconds_since(start));
      total += seconds.back();
      if (seconds.size() >= kFewest && total >= kLongEnough_s) break;
    }
    std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
    Measurement m;
    m.phase = phase;
    m.n = n;
    m.repetitions = seconds.size();
    m.seconds = seconds[seconds.size() / 2];
    m.profile = kernel_times();
    m.profiled_s = total;
    return m;
  }

  HostSession& host_;
  std::string path_;
  ModelConfig model_;
  Layout layout_;
  std::uint32_t source_positions_ = 0;
};

// Lengths from an option, or 128 and 512 as far as the context goes.
std::vector<std::uint32_t> sizes_of(const std::vector<std::uint32_t>& given, std::uint32_t max_seq) {
  if (!given.empty()) return given;
  std::vector<std::uint32_t> sizes{std::min(128u, max_seq)};
  if (max_seq > 128) sizes.push_back(std::min(512u, max_seq));
  return sizes;
}

void print_as_json(const std::vector<Measurement>& rows, const Limits& limits, const HostSession& host,
                   const LoadedModel& loaded) {
  Json json;
  // The longest of each phase.
  std::vector<const Measurement*> longest;
  for (const Measurement& m : rows) {
    const auto same = std::find_if(longest.begin(), longest.end(),
                                   [&](const Measurement* l) { return std::strcmp(l->phase, m.phase) == 0; });
    if (same == longest.end())
      longest.push_back(&m);
    else if (m.n >= (*same)->n)
      *same = &m;
  }
  const bool decoder = kind_of(loaded.model.config()) == ModelKind::decoder;
  for (const char* phase : {"source", "encode", "prefill", "decode"}) {
    const auto found = std::find_if(longest.begin(), longest.end(),
                                    [&](const Measurement* l) { return std::strcmp(l->phase, phase) == 0; });
    const bool is_token = phase[0] == 'p' || phase[0] == 'd';
    if (found != longest.end() || (decoder && is_token))
      json[std::string(phase) + (is_token ? "_tokens_per_s" : "_positions_per_s")] =
          number_or_null(found == longest.end() ? 0.0 : (*found)->tokens_per_s());
  }
  for (const Measurement& m : rows) {
    const double of_peak = share(m.macs_per_s(), limits.macs_per_s);
    const double of_bandwidth = share(m.bytes_per_s(), limits.bytes_per_s);
    json["rows"].push_back({{"phase", m.phase},
                            {"tokens", m.n},
                            {"repetitions", m.repetitions},
                            {"tokens_per_s", m.tokens_per_s()},
                            {"macs_per_s", m.macs_per_s()},
                            {"bytes_per_s", m.bytes_per_s()},
                            {"share_of_int8_peak", number_or_null(of_peak)},
                            {"share_of_read_bandwidth", number_or_null(of_bandwidth)}});
    for (const KernelTime& k : m.profile)
      json["rows"].back()["seconds_by_kernel"][k.name] = k.seconds / double(m.repetitions);
  }
  json["limits"] = {{"int8_macs_per_s", number_or_null(limits.macs_per_s)},
                    {"read_bytes_per_s", number_or_null(limits.bytes_per_s)}};
  json["parameters"] = quant::parameter_count(loaded.model.config());
  json[decoder ? "macs_per_token" : "macs_per_position"] = count(loaded.model.config().main()).linear_macs;
  json["isa"] = host.kernels.traits.name;
  json["threads"] = host.pool.threads();
  json["layout"] = quant::name_of(loaded.model.layout());
  json["arena_bytes"] = host.plan.arena_bytes;
  json["image_bytes"] = loaded.model.image().size();
  print_json(json);
}

std::string percent(double share) {
  if (share <= 0.0) return "-";
  char s[16];
  std::snprintf(s, sizeof s, "%.1f %%", 100.0 * share);
  return s;
}

void print_profile(const Measurement& m) {
  if (m.profile.empty()) return;
  std::printf("%s %u by kernel:", m.phase, m.n);
  double rest = m.profiled_s;
  for (const KernelTime& k : m.profile) {
    rest -= k.seconds;
    std::printf("  %s %s", k.name.c_str(), percent(share(k.seconds, m.profiled_s)).c_str());
  }
  std::printf("  other %s\n", percent(share(rest, m.profiled_s)).c_str());
}

void print_as_text(const std::vector<Measurement>& rows, const Limits& limits, const HostSession& host,
                   const LoadedModel& loaded) {
  std::printf("%s on %s, %s\n", loaded.path.c_str(), host.kernels.traits.name,
              counted(host.pool.threads(), "thread").c_str());
  std::puts("                 tokens/s    multiply-adds/s  of peak      bytes/s  of bandwidth");
  for (const Measurement& m : rows)
    std::printf("%-8s %5u %11s %18s %8s %12s %13s\n", m.phase, m.n, engineering(m.tokens_per_s()).c_str(),
                engineering(m.macs_per_s()).c_str(), percent(share(m.macs_per_s(), limits.macs_per_s)).c_str(),
                engineering(m.bytes_per_s()).c_str(), percent(share(m.bytes_per_s(), limits.bytes_per_s)).c_str());
  for (const Measurement& m : rows) print_profile(m);
  const auto known = [](double x) { return x > 0.0 ? engineering(x) : std::string("unknown"); };
  std::printf("limits here: %s int8 multiply-adds/s in registers, %s bytes/s from a buffer of the weights' size\n",
              known(limits.macs_per_s).c_str(), known(limits.bytes_per_s).c_str());
}

void bench(const Options& options) {
  LoadedModel loaded;
  load(loaded, options.model);
  if (options.session.profile && options.session.threads > 1) refuse("", "--profile is for one thread");
  const auto host = std::make_unique<HostSession>(loaded, options.session);
  const ModelConfig& config = loaded.model.config();
  const bool encodes = config.main().use == Use::encode, two = config.n_stacks == 2;
  const std::uint32_t max_seq = host->session.max_seq(), source_max_seq = two ? host->plan.source.max_seq : 0;
  const auto check = [&](const std::vector<std::uint32_t>& sizes, const StackConfig& c, std::uint32_t most, const char* option) {
    for (const std::uint32_t n : sizes) {
      if (n > most)
        refuse(options.model,
               "the context has " + std::to_string(most) + " positions, " + option + " asks for " + std::to_string(n));
      if (n <= c.n_class_vectors)
        refuse(options.model, std::to_string(c.n_class_vectors) + " positions are class vectors, " + option + " asks for " +
                                  std::to_string(n) + " in all");
    }
    return sizes;
  };
  if (!two && !options.source.empty())
    refuse(options.model, "the model has one stack and no source, --source is for two");
  const std::vector<std::uint32_t> sizes = check(sizes_of(options.prefill, max_seq), config.main(), max_seq, "-p");
  std::vector<std::uint32_t> sources;
  if (two) sources = check(sizes_of(options.source, source_max_seq), config.source(), source_max_seq, "--source");
  const std::uint32_t decode = encodes ? 0 : std::min(options.decode, max_seq);
  if (!encodes && decode < options.decode)
    std::fprintf(stderr, "heed: note: the context has %u positions, so decode is measured over them\n", max_seq);

  note_slower(*host);
  Limits limits;
  const Parallel parallel = host->pool.parallel();
  limits.macs_per_s = int8_peak(parallel, host->kernels.traits.name);
  limits.bytes_per_s =
      read_bandwidth(parallel, step_weight_bytes(config.main(), loaded.model.layout()), host->kernels.traits.name);
  Bench bench(*host, loaded);
  std::vector<Measurement> rows;
  for (const std::uint32_t n : sources) rows.push_back(bench.source(n));
  for (const std::uint32_t n : sizes) rows.push_back(encodes ? bench.encode(n) : bench.prefill(n));
  if (decode) rows.push_back(bench.decode(decode));
  if (options.json)
    print_as_json(rows, limits, *host, loaded);
  else
    print_as_text(rows, limits, *host, loaded);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "Measure speed against the limits of this machine");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->model, "An image (.heed)")->required();
  add_threads_option(*command, "-t,--threads", options->session.threads);
  command
      ->add_option("-p,--prefill", options->prefill,
                   "Lengths of prompts, or of sequences that an encoder takes (default: 128,512)")
      ->type_name("N,N")
      ->delimiter(',')
      ->transform(whole_number(1, 1u << 20));
  command
      ->add_option("--source", options->source,
                   "Lengths of the source of two stacks; the last one stays (default: 128,512)")
      ->type_name("N,N")
      ->delimiter(',')
      ->transform(whole_number(1, 1u << 20));
  command->add_option("-n,--decode", options->decode, "Tokens to step through; 0 = none")
      ->type_name("N")
      ->capture_default_str()
      ->transform(whole_number(0, 1u << 30));
  command->add_option("--chunk", options->session.chunk, "Tokens of a prompt taken together")
      ->type_name("N")
      ->transform(whole_number(1, 4096u));
  add_isa_option(*command, options->session.isa);
  command->add_flag("--profile", options->session.profile, "Print the share of each kernel too; one thread");
  command->add_flag("--json", options->json, "Print the numbers as JSON");
  command->footer(
      "Example:\n  heed bench stories.heed -t 2 -p 128,512 -n 128\n  heed bench latin.heed --source 16,64 -p 16 -n 48");
  command->callback([options] { bench(*options); });
}

}  // namespace heed::tool
