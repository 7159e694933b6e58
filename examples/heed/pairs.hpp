// SPDX-License-Identifier: Apache-2.0
// pairs.hpp: `heed eval --pairs`, how well a model of two stacks writes texts that are known.
#pragma once
#include <string>

#include "examples/heed/scores.hpp"

namespace heed::tool {

struct PairOptions {
  std::string path;             // for messages
  std::uint64_t max_pairs = 0;  // 0 = all
  bool json = false;
};

// Scores each text behind its source, and counts how many the model writes itself, taking the likeliest token each
// time. `text`: a line for each pair, a tab between its source and its text. `reference` may be null.
void eval_pairs(const LoadedModel& loaded, HostSession& host, Reference* reference, Span<const char> text,
                const PairOptions& options);

}  // namespace heed::tool
