// SPDX-License-Identifier: Apache-2.0
// bench.cpp: `heed bench`, how fast a model runs here, and how far that is from what the machine could do.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "examples/heed/commands.hpp"
#include "examples/heed/counts.hpp"
#include "examples/heed/host_session.hpp"
#include "examples/heed/limits.hpp"
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
  std::vector<std::uint32_t> prefill;  // empty = 128 and 512, as far as the context goes
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

class Bench {
 public:
  Bench(HostSession& host, const LoadedModel& loaded)
      : host_(host),
        path_(loaded.path),
        config_(loaded.model.config().main()),
        counts_(count(config_)),
        step_bytes_(step_weight_bytes(config_, loaded.model.layout())) {
    const TensorSlot last =
        tensor_slot(config_, config_.tied_unembedding ? Role::token_embedding : Role::unembedding, 0);
    unembedding_bytes_ = slot_bytes(last, loaded.model.layout());
    // Any tokens do; these are the same in every run.
    std::uint32_t state = 1;
    for (std::uint32_t i = 0; i < host.session.max_seq(); ++i) {
      state = state * 1664525u + 1013904223u;
      tokens_.push_back(static_cast<Token>((state >> 8) % config_.vocab_size));
    }
  }

  Measurement prefill(std::uint32_t n) {
    Measurement m = measure("prefill", n, [&] {
      Span<const float> logits;
      require(host_.session.prefill(logits, {tokens_.data(), n}), path_);
    });
    const double unembedding = double(config_.vocab_size) * config_.d_model;
    m.macs = n * (double(counts_.linear_macs) - unembedding) + unembedding + attention_macs(n);
    const std::uint32_t chunks = (n + host_.plan.chunk - 1) / host_.plan.chunk;
    m.bytes = chunks * double(step_bytes_ - unembedding_bytes_) + double(unembedding_bytes_);
    return m;
  }

  Measurement decode(std::uint32_t n) {
    Measurement m = measure("decode", n, [&] {
      Span<const float> logits;
      for (std::uint32_t i = 0; i < n; ++i) require(host_.session.step(logits, tokens_[i]), path_);
    });
    m.macs = n * double(counts_.linear_macs) + attention_macs(n);
    const double key_and_value = config_.n_kv_heads * (2.0 * config_.head_dim + 5.0);
    m.bytes = n * double(step_bytes_) + double(visible_pairs(n)) * config_.n_layers * key_and_value;
    return m;
  }

 private:
  double attention_macs(std::uint32_t n) const {
    return double(counts_.attention_macs_per_key) * double(visible_pairs(n));
  }

  // The median of several runs from position 0, after one that warms up.
  template <class Run>
  Measurement measure(const char* phase, std::uint32_t n, Run run) {
    Progress progress(std::string(phase) + " " + std::to_string(n), kFewest);
    std::vector<double> seconds;
    double total = 0.0;
    for (std::size_t i = 0; i <= kMost; ++i) {
      if (i == 1) reset_kernel_times();
      require(host_.session.rewind(0), path_);
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
  StackConfig config_;
  Counts counts_;
  std::uint64_t step_bytes_ = 0, unembedding_bytes_ = 0;
  std::vector<Token> tokens_;
};

std::vector<std::uint32_t> prefill_sizes(const Options& options, std::uint32_t max_seq) {
  if (!options.prefill.empty()) return options.prefill;
  std::vector<std::uint32_t> sizes{std::min(128u, max_seq)};
  if (max_seq > 128) sizes.push_back(std::min(512u, max_seq));
  return sizes;
}

void print_as_json(const std::vector<Measurement>& rows, const Limits& limits, const HostSession& host,
                   const LoadedModel& loaded) {
  Json json;
  // The longest prompt's, and decode's.
  double prefill = 0.0, decode = 0.0;
  std::uint32_t longest = 0;
  for (const Measurement& m : rows) {
    const bool is_prefill = m.phase[0] == 'p';
    if (!is_prefill) decode = m.tokens_per_s();
    if (is_prefill && m.n >= longest) {
      longest = m.n;
      prefill = m.tokens_per_s();
    }
  }
  json["prefill_tokens_per_s"] = number_or_null(prefill);
  json["decode_tokens_per_s"] = number_or_null(decode);
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
    for (const KernelTime& k : m.profile) json["rows"].back()["seconds_by_kernel"][k.name] = k.seconds / double(m.repetitions);
  }
  json["limits"] = {{"int8_macs_per_s", number_or_null(limits.macs_per_s)},
                    {"read_bytes_per_s", number_or_null(limits.bytes_per_s)}};
  const StackConfig& c = loaded.model.config().main();
  json["parameters"] = quant::parameter_count(c);
  json["macs_per_token"] = count(c).linear_macs;
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
  const std::uint32_t max_seq = host->session.max_seq();
  const std::vector<std::uint32_t> sizes = prefill_sizes(options, max_seq);
  for (const std::uint32_t n : sizes)
    if (n > max_seq)
      refuse(options.model,
             "the context has " + std::to_string(max_seq) + " positions, -p asks for " + std::to_string(n));
  const std::uint32_t decode = std::min(options.decode, max_seq);
  if (decode < options.decode)
    std::fprintf(stderr, "heed: note: the context has %u positions, so decode is measured over them\n", max_seq);

  Limits limits;
  const Parallel parallel = host->pool.parallel();
  limits.macs_per_s = int8_peak(parallel, host->kernels.traits.name);
  limits.bytes_per_s = read_bandwidth(parallel, step_weight_bytes(loaded.model.config().main(), loaded.model.layout()),
                                      host->kernels.traits.name);
  Bench bench(*host, loaded);
  std::vector<Measurement> rows;
  for (const std::uint32_t n : sizes) rows.push_back(bench.prefill(n));
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
  command->add_option("-p,--prefill", options->prefill, "Prompt lengths (default: 128,512)")
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
  command->footer("Example:\n  heed bench stories.heed -t 2 -p 128,512 -n 128");
  command->callback([options] { bench(*options); });
}

}  // namespace heed::tool
