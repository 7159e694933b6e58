// SPDX-License-Identifier: Apache-2.0
// host_session.cpp: the arrow up to `create`, with the sentences for each way in which it can be refused.
#include "examples/heed/host_session.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "examples/heed/counts.hpp"
#include "examples/heed/numbers.hpp"
#include "examples/heed/output.hpp"
#include "examples/heed/profile.hpp"
#include "examples/heed/refusal.hpp"
#include "platform/linux/cpu_count.hpp"
#include "platform/tables.hpp"
#include "quant/feature_names.hpp"
#include "quant/readers/characters.hpp"
#include "quant/recognise.hpp"
#include "quant/source.hpp"

namespace heed::tool {
namespace {

bool eats(const KernelTraits& traits, Layout layout) { return (traits.layouts >> static_cast<unsigned>(layout)) & 1u; }

std::string layouts_of(const KernelTraits& traits) {
  std::string names;
  for (int i = 0; i < kLayoutCount; ++i)
    if (eats(traits, static_cast<Layout>(i)))
      names += (names.empty() ? "" : ", ") + std::string(quant::name_of(static_cast<Layout>(i)));
  return names;
}

std::string runnable_names() {
  std::string names;
  for (const Kernels* k : all_kernels())
    if (is_runnable(*k)) names += (names.empty() ? "" : ", ") + std::string(k->traits.name);
  return names;
}

const Kernels* carried(const std::string& name) {
  for (const Kernels* k : all_kernels())
    if (name == k->traits.name) return k;
  return nullptr;
}

const Kernels& named_kernels(const std::string& name) {
  const Kernels* k = carried(name);
  if (!k) refuse("--isa " + name, "not in this program; here run " + runnable_names());
  if (!is_runnable(*k)) refuse("--isa " + name, "this CPU cannot run it; here run " + runnable_names());
  return *k;
}

// Also the names that only other programs carry, so that a misspelt name is told from a missing one.
std::string check_isa_name(const std::string& name) {
  if (carried(name)) return {};
  for (const KernelTraits* t : traits::kAll)
    if (name == t->name) return {};
  return "no kernel table is called " + name + "; here run " + runnable_names();
}

// Below this many multiply-adds per token, waiting for each other costs threads more than they gain, and on a machine
// that others use too, far more.
constexpr std::uint64_t kWorthThreads = 1u << 22;

std::uint32_t default_threads(const ModelConfig& config) {
  std::uint64_t macs = 0;
  for (std::uint32_t i = 0; i < config.n_stacks; ++i) macs = std::max(macs, count(config.stacks[i]).linear_macs);
  if (macs < kWorthThreads) return 1;
  return std::min(available_cpus(), ThreadPool::kMaxThreads);
}

// What makes of an image one that a table takes.
std::string relayout_command(const LoadedModel& loaded, const std::string& target) {
  return "`heed quantize " + shell_word(one_line(loaded.path)) + " --target " + target + " -o NEW.heed`";
}

// Why a slower table than the best one runs, and what would change it; empty where the best one runs.
std::string why_slower(const LoadedModel& loaded) {
  const std::string best = best_kernels().traits.name;
  if (eats(best_kernels().traits, loaded.model.layout())) return {};
  return best + " does not take layout " + quant::name_of(loaded.model.layout()) + "; " +
         relayout_command(loaded, best) + " converts it without loss";
}

}  // namespace

void map(MappedFile& file, const std::string& path) {
  if (path.empty()) refuse("", "an empty path cannot be read");
  if (const char* error = file.open(path.c_str())) refuse(path, error);
}

void map_text(MappedFile& file, const std::string& path) {
  map(file, path);
  if (const quant::Error error = quant::misplaced(file.bytes(), quant::Wanted::text)) refuse(path, error.sentence());
}

void load(LoadedModel& loaded, const std::string& path) {
  loaded.path = path;
  std::error_code code;
  if (std::filesystem::is_directory(path, code))
    refuse(path, quant::misplaced_folder(path, quant::Wanted::image).sentence());
  map(loaded.file, path);
  if (const quant::Error error = quant::misplaced(loaded.file.bytes(), quant::Wanted::image))
    refuse(path, error.sentence());
  const Kernels& kernels = best_kernels();
  const auto start = std::chrono::steady_clock::now();
  const Status opened = open(loaded.model, loaded.file.bytes(), kernels);
  if (opened == Status::feature_not_built) refuse(path, quant::not_built(needs_of(loaded.model)));
  require(opened, path);
  loaded.open_s = seconds_since(start);
  require(verify(loaded.model, kernels), path);
  loaded.verify_s = seconds_since(start) - loaded.open_s;
}

namespace {

Tokenizer open_tokenizer(const LoadedModel& loaded, Span<const std::uint8_t> section, std::uint32_t vocab_size,
                         const char* option) {
  if (section.empty())
    refuse(loaded.path,
           "the image has no tokenizer for this text; convert its checkpoint again, with " + std::string(option));
  Tokenizer tokenizer;
  require(open(tokenizer, section, vocab_size), loaded.path);
  return tokenizer;
}

}  // namespace

Tokenizer tokenizer_of(const LoadedModel& loaded) {
  return open_tokenizer(loaded, loaded.model.tokenizer(), loaded.model.config().main().vocab_size, "--tokenizer");
}

Tokenizer source_tokenizer_of(const LoadedModel& loaded) {
  return open_tokenizer(loaded, loaded.model.source_tokenizer(), loaded.model.config().source().vocab_size,
                        "--source-tokenizer");
}

Features features_of(const Model& model) {
  return required_features(model.config()) + required_features(model.tokenizer()) + required_features(model.source_tokenizer());
}

Generation generation_of(const LoadedModel& loaded, const Tokenizer& tokenizer) {
  Generation generation;
  const std::uint32_t vocab_size = loaded.model.config().main().vocab_size;
  require(open(generation, loaded.model.generation(), vocab_size, tokenizer.bos(), tokenizer.eos()), loaded.path);
  return generation;
}

namespace {

// Whether a vocabulary puts a space in front of texts that it has no token for.
bool lacks_its_space(const Tokenizer& tokenizer) {
  constexpr char kSpace[] = {' '};
  Token tokens[Tokenizer::max_tokens(1)];
  alignas(std::uint32_t) std::byte scratch[Tokenizer::scratch_bytes(1)];
  std::uint32_t n = 0;
  return tokenizer.prefix_space() && tokenizer.encode(n, kSpace, {}, tokens, scratch) == Status::text_not_expressible;
}

// Says once, when the program ends, how much of its texts the vocabulary did not know.
struct UnknownTokens {
  std::uint64_t unknown = 0, all = 0;
  ~UnknownTokens() {
    if (unknown)
      std::fprintf(stderr, "heed: %s of %s tokens of the texts are unknown to the vocabulary\n", grouped(unknown).c_str(),
                   grouped(all).c_str());
  }
};

void count_unknown(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  if (tokenizer.unk() == kNoToken) return;
  static UnknownTokens counts;
  counts.all += tokens.size();
  counts.unknown += static_cast<std::uint64_t>(std::count(tokens.begin(), tokens.end(), tokenizer.unk()));
}

}  // namespace

std::vector<Token> encode(const Tokenizer& tokenizer, Span<const char> text, const std::string& subject,
                          std::size_t first, EncodeOptions options) {
  std::vector<Token> tokens(Tokenizer::max_tokens(text.size(), tokenizer.growth()));
  std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(text.size(), tokenizer.growth()) / sizeof(std::uint32_t) + 1);
  std::uint32_t n = 0;
  const Status status =
      tokenizer.encode(n, text, options, tokens, {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
  if (status == Status::text_not_expressible) {
    if (n == 0 && lacks_its_space(tokenizer))
      refuse(subject, "the vocabulary has no token for the space that it puts in front of every text");
    std::size_t at = n;
    const std::string character = quant::describe_character(text, at);
    refuse(subject, "the vocabulary has no token for " + character + " at byte " + std::to_string(first + at));
  }
  require(status, subject);
  tokens.resize(n);
  count_unknown(tokenizer, tokens);
  return tokens;
}

void add_isa_option(CLI::App& command, std::string& isa) {
  command.add_option("--isa", isa, "Kernel table: " + runnable_names() + " (default: the best that runs here)")
      ->type_name("NAME")
      ->check(CLI::Validator(check_isa_name, ""));
}

void add_threads_option(CLI::App& command, const std::string& names, std::uint32_t& threads) {
  command
      .add_option(
          names, threads,
          "Threads; never changes the result (default: one per CPU that this process may use, 1 for small models)")
      ->type_name("N")
      ->transform(whole_number(1, ThreadPool::kMaxThreads));
}

void add_size_options(CLI::App& command, SessionOptions& options, const std::string& kept) {
  command.add_option("--chunk", options.chunk, "Positions taken together; never changes the result")
      ->type_name("N")
      ->transform(whole_number(1, 4096u));
  command.add_option("--context", options.context, kept + " (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
  command.add_option("--source-context", options.source_context, "The same of the source (default: the model's)")
      ->type_name("N")
      ->transform(whole_number(1, 1u << 20));
}

void require_context(const std::string& subject, const ModelConfig& config, std::uint32_t context,
                     std::uint32_t source_context) {
  const auto check = [&](const StackConfig& c, std::uint32_t asked, const char* of, const char* option) {
    if (asked > c.max_seq)
      refuse(subject, "the model has a " + std::string(of) + " of " + std::to_string(c.max_seq) + " positions, " +
                          option + " asks for " + std::to_string(asked));
  };
  check(config.main(), context, "context", "--context");
  if (config.n_stacks == 1 && source_context)
    refuse(subject, "the model has one stack and no source, --source-context is for two");
  check(config.source(), source_context, "source context", "--source-context");
}

const Kernels& choose_kernels(const LoadedModel& loaded, const std::string& isa) {
  const Layout layout = loaded.model.layout();
  if (!isa.empty()) {
    const Kernels& named = named_kernels(isa);
    if (!eats(named.traits, layout))
      refuse(loaded.path, "its weights are in layout " + std::string(quant::name_of(layout)) + ", --isa " + isa +
                              " takes " + layouts_of(named.traits) + "; " + relayout_command(loaded, isa) +
                              " converts it without loss");
    return named;
  }
  const Span<const Kernels* const> all = all_kernels();
  for (std::size_t i = all.size(); i-- > 0;)
    if (is_runnable(*all[i]) && eats(all[i]->traits, layout)) return *all[i];
  refuse(loaded.path, to_string(Status::layout_unsupported));
}

void note_slower(const HostSession& host) {
  if (!host.slower.empty()) std::fprintf(stderr, "heed: note: %s\n", host.slower.c_str());
}

HostSession::HostSession(const LoadedModel& loaded, const SessionOptions& options)
    : kernels(options.profile ? timed_kernels(choose_kernels(loaded, options.isa))
                              : choose_kernels(loaded, options.isa)) {
  const ModelConfig& config = loaded.model.config();
  require_context(loaded.path, config, options.context, options.source_context);
  const Limits limits{options.context, options.chunk, options.source_context, options.score_rows};
  require(make_plan(plan, config, kernels.traits, limits), loaded.path);
  const std::size_t align = std::max<std::size_t>(plan.arena_align, 64);
  const std::size_t bytes = static_cast<std::size_t>((plan.arena_bytes + align - 1) / align * align);
  arena_.reset(static_cast<std::byte*>(std::aligned_alloc(align, bytes)));
  if (!arena_) refuse(loaded.path, "no memory for an arena of " + grouped(plan.arena_bytes) + " bytes");
  const Span<std::byte> arena{arena_.get(), static_cast<std::size_t>(plan.arena_bytes)};
  require(create(session, loaded.model, plan, kernels, arena), loaded.path);
  const std::uint32_t threads = options.profile ? 1 : options.threads ? options.threads : default_threads(config);
  if (!pool.start(threads))
    std::fprintf(stderr, "heed: note: only %u of %s could be started\n", pool.threads(),
                 counted(threads, "thread").c_str());
  session.set_parallel(pool.parallel());
  if (options.isa.empty()) slower = why_slower(loaded);
}

}  // namespace heed::tool
