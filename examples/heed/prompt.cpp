// SPDX-License-Identifier: Apache-2.0
// prompt.cpp: -p, -f and standard input.
#include "examples/heed/prompt.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "examples/heed/output.hpp"
#include "examples/heed/refusal.hpp"

namespace heed::tool {
namespace {

// How long a command waits for a standard input that nobody asked it to read: a program that feeds it has begun by
// then, and a pipe that somebody left open does not hang it.
constexpr int kPatience_ms = 1000;

std::string read_all(int fd, const std::string& subject) {
  std::string text;
  char piece[65536];
  for (;;) {
    const ssize_t n = ::read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) refuse(subject, std::strerror(errno));
    if (n == 0) break;
    text.append(piece, static_cast<std::size_t>(n));
    if (text.size() > kMaxPromptBytes)
      refuse(subject, "a text has at most " + grouped(kMaxPromptBytes) + " bytes, this one has more");
  }
  if (!text.empty() && text.back() == '\n') {
    text.pop_back();
    if (!text.empty() && text.back() == '\r') text.pop_back();
  }
  return text;
}

std::string read_file(const std::string& path) {
  if (path.empty()) refuse("", "an empty path cannot be read");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse(path, std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } const closer{fd};
  return read_all(fd, path);
}

std::string read_standard_input() { return read_all(STDIN_FILENO, "standard input"); }

// Nobody asked for standard input: read it only if something comes.
std::string read_what_is_there() {
  if (isatty(STDIN_FILENO) == 1 || (fcntl(STDIN_FILENO, F_GETFL) < 0 && errno == EBADF)) return {};
  pollfd input{STDIN_FILENO, POLLIN, 0};
  int ready;
  do ready = poll(&input, 1, kPatience_ms);
  while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    std::fputs("heed: note: standard input is open and silent, so there is no prompt; -p - waits for one\n", stderr);
    return {};
  }
  return ready > 0 && (input.revents & (POLLIN | POLLHUP)) ? read_standard_input() : std::string();
}

}  // namespace

void add_prompt_options(CLI::App& command, PromptOptions& options, const std::string& what, const std::string& without,
                        const std::string& text, const std::string& file) {
  auto* text_option = command
                   .add_option_function<std::string>(
                       text,
                       [&options](const std::string& value) {
                         options.text = value;
                         options.has_text = true;
                       },
                       what + ", as it is; - reads standard input")
                   ->type_name("TEXT");
  command
      .add_option_function<std::string>(
          file,
          [&options](const std::string& value) {
            options.file = value;
            options.has_file = true;
          },
          "A file with that text; - is standard input. Without -p and -f, standard input is read unless it is a "
          "terminal; if it is empty, " + without + ". One end of line at the end of a file or of standard input is not "
          "part of the text; at most 1 MiB")
      ->type_name("FILE")
      ->excludes(text_option);
}

std::string read_prompt(const PromptOptions& options) {
  if (options.has_text) return options.text == "-" ? read_standard_input() : options.text;
  if (options.has_file) return options.file == "-" ? read_standard_input() : read_file(options.file);
  return read_what_is_there();
}

}  // namespace heed::tool
