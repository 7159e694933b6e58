// SPDX-License-Identifier: Apache-2.0
// prompt.hpp: where a command's text comes from.
#pragma once
#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>

namespace heed::tool {

// The most that is read of a file or of standard input.
constexpr std::size_t kMaxPromptBytes = std::size_t{1} << 20;

struct PromptOptions {
  std::string text, file;
  bool has_text = false, has_file = false;
};

// `what` the text is, and what happens `without` one, for --help: "The text to continue", "a text is begun". `text` and
// `file`: the names of the two options.
void add_prompt_options(CLI::App& command, PromptOptions& options, const std::string& what, const std::string& without,
                        const std::string& text = "-p,--prompt", const std::string& file = "-f,--file");

// The text of -p, the file of -f, or standard input where -p or -f is "-", or where neither is given and something
// other than a terminal holds a text. One end of line at the end of what is read is left out; any other byte is kept.
std::string read_prompt(const PromptOptions& options);

}  // namespace heed::tool
