// SPDX-License-Identifier: Apache-2.0
// require.hpp: what the small examples do with a Status: go on, or say why not and stop.
#pragma once
#include <cstdio>
#include <cstdlib>

#include "runtime/status.hpp"

inline void require(heed::Status status) {
  if (status == heed::Status::ok) return;
  std::fprintf(stderr, "heed: %s\n", heed::to_string(status));
  std::exit(1);
}
