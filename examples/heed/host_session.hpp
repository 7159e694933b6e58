// SPDX-License-Identifier: Apache-2.0
// host_session.hpp: from a path on the command line to a session that is ready to run: map, open, verify, choose a
// kernel table, plan, one arena, threads. The heap is used here, before the session exists, and not after.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "platform/linux/map_file.hpp"
#include "platform/linux/thread_pool.hpp"
#include "platform/select.hpp"
#include "runtime/generation.hpp"
#include "runtime/session.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::tool {

// An image that is mapped, opened and verified.
struct LoadedModel {
  std::string path;
  MappedFile file;
  Model model;
  double open_s = 0.0, verify_s = 0.0;
};

// Refuses what cannot be read, opened or verified.
void load(LoadedModel& loaded, const std::string& path);

// A file that must be readable and not empty.
void map(MappedFile& file, const std::string& path);

// The same of a text to be measured: models and archives are refused, and named for what they are.
void map_text(MappedFile& file, const std::string& path);

// Of the main stack's tokens, or of those of the first of two. Refuses an image without a tokenizer.
Tokenizer tokenizer_of(const LoadedModel& loaded);
Tokenizer source_tokenizer_of(const LoadedModel& loaded);
// What a text begins and ends with.
// What the model and its tokenizers ask of a build.
Features features_of(const Model& model);
Generation generation_of(const LoadedModel& loaded, const Tokenizer& tokenizer);
// `text` begins `first` bytes behind the beginning of `subject`, which a refusal names.
std::vector<Token> encode(const Tokenizer& tokenizer, Span<const char> text, const std::string& subject,
                          std::size_t first = 0, EncodeOptions options = {});

// What commands that run a model let the user choose; 0 and "" = the default.
struct SessionOptions {
  std::string isa;
  std::uint32_t threads = 0, context = 0, chunk = 0;
  std::uint32_t source_context = 0;  // of two stacks
  std::uint32_t score_rows = 0;      // positions unembedded together where each is scored
  bool profile = false;              // kernels with a clock, one thread
};
void add_isa_option(CLI::App& command, std::string& isa);
void add_threads_option(CLI::App& command, const std::string& names, std::uint32_t& threads);
// --chunk, --context, which says what it keeps, and --source-context.
void add_size_options(CLI::App& command, SessionOptions& options, const std::string& kept);

// Refuses to keep more positions than the model has; 0 asks for all of them.
void require_context(const std::string& subject, const ModelConfig& config, std::uint32_t context,
                     std::uint32_t source_context);

// The best table of this program that runs here and takes the layout of the model, or the named one if it does.
const Kernels& choose_kernels(const LoadedModel& loaded, const std::string& isa);

struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};

class HostSession {
 public:
  // `loaded` must outlive it.
  HostSession(const LoadedModel& loaded, const SessionOptions& options);
  HostSession(const HostSession&) = delete;
  HostSession& operator=(const HostSession&) = delete;

  Session session;
  const Kernels kernels;
  Plan plan;
  ThreadPool pool;
  std::string
      slower;  // why a slower table than the best one runs, and what would change it; empty where the best one does

 private:
  std::unique_ptr<std::byte, FreeDeleter> arena_;
};

// Says so, in commands that do not print describe_session (generate.hpp); once everything that may be refused was
// taken.
void note_slower(const HostSession& host);

}  // namespace heed::tool
