// SPDX-License-Identifier: Apache-2.0
// refusal.hpp: how a command says that it cannot take an input; main prints it in one line and exits with 1.
#pragma once
#include <string>
#include <utility>

#include "runtime/status.hpp"

namespace heed::tool {

struct Refusal {
  std::string subject;  // the file, or what else is refused; empty when the reason names it
  std::string reason;
};

[[noreturn]] inline void refuse(std::string subject, std::string reason) {
  throw Refusal{std::move(subject), std::move(reason)};
}

// A file's name may hold anything but a NUL.
inline std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return text;
}

// What a Status of the runtime means to someone at a terminal.
inline void require(Status status, const std::string& subject) {
  if (status != Status::ok) refuse(subject, to_string(status));
}

}  // namespace heed::tool
