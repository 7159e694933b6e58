// SPDX-License-Identifier: Apache-2.0
// unbuilt_calls.cpp: calls that a build without their features does not compile; tests/CMakeLists.txt says with which.
#include "runtime/runtime.hpp"

void ask(heed::Session& session, heed::Attention& attention, heed::Linear& linear, heed::FeedForward& feed_forward) {
  session.set_tap({});
  attention.set_tap({});
  session.set_parallel({});
  attention.set_parallel({});
  linear.set_parallel({});
  feed_forward.set_parallel({});
}
