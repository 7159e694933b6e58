// SPDX-License-Identifier: Apache-2.0
// main.cpp: the command line `heed`. Exit status 0; 1 for a refused input; 2 for a wrong command
// line; 128 + the signal's number for a command that was interrupted and has printed what it had.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "examples/heed/commands.hpp"
#include "examples/heed/interrupt.hpp"
#include "examples/heed/refusal.hpp"
#include "examples/heed/truncated.hpp"

namespace {

int run(int argc, char** argv) {
  CLI::App app{"heed: int8 transformers in one fixed block of memory", "heed"};
  app.set_version_flag("--version", HEED_VERSION);
  app.require_subcommand(1);
  app.footer("heed COMMAND --help shows an example of each.");
  heed::tool::add_quantize(app);
  heed::tool::add_quantize_layer(app);
  heed::tool::add_run(app);
  heed::tool::add_encode(app);
  heed::tool::add_translate(app);
  heed::tool::add_eval(app);
  heed::tool::add_plan(app);
  heed::tool::add_inspect(app);
  heed::tool::add_bench(app);
  // CLI11 would only say that there is none.
  const auto is_meant = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_meant).empty()) {
    std::fprintf(stderr, "heed: no command is called \"%s\"; heed --help lists them\n", argv[1]);
    return 2;
  }
  // Of `--name=` CLI11 would take the next argument for the value. It takes a list from its end.
  std::vector<std::string> arguments;
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    options = options && word != "--";
    const bool is_empty = options && word.size() > 3 && word.compare(0, 2, "--") == 0 && word.find('=') == word.size() - 1;
    if (is_empty) word.pop_back();
    arguments.push_back(std::move(word));
    if (is_empty) arguments.emplace_back();
  }
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::RequiredError& error) {
    // It is named first what is there and should not be, then what is missing.
    for (const std::string& extra : app.remaining(true))
      if (extra.size() > 1 && extra[0] == '-') {
        std::fprintf(stderr, "heed: no option is called \"%s\"; --help lists them\n", extra.c_str());
        return 2;
      }
    app.exit(error);
    return 2;
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int status = 1;
  heed::tool::name_truncated_files();
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files becomes an error of the write
  try {
    status = run(argc, argv);
  } catch (const heed::tool::Refusal& refusal) {
    std::fflush(stdout);
    const std::string subject = refusal.subject.empty() ? "" : refusal.subject + ": ";
    std::fprintf(stderr, "heed: %s\n", heed::tool::one_line(subject + refusal.reason).c_str());
  } catch (const heed::tool::Interrupted& interrupted) {
    status = 128 + interrupted.signal;
  } catch (const std::bad_alloc&) {
    std::fputs("heed: out of memory\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "heed: %s\n", error.what());
  }
  if ((std::fflush(stdout) != 0 || std::ferror(stdout)) && status != 1) {
    std::fputs("heed: standard output: cannot be written\n", stderr);
    status = 1;
  }
  return status;
}
