// SPDX-License-Identifier: Apache-2.0
// stream_decoder.cpp: keeps UTF-8 whole on the way out.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer.hpp"
#include "runtime/utf8.hpp"

namespace heed {
namespace {

char* put_replacement(char* out) {
  *out++ = '\xEF';
  *out++ = '\xBF';
  *out++ = '\xBD';
  return out;
}

}  // namespace

Status StreamDecoder::push(std::uint32_t& n_bytes, const Tokenizer& tokenizer, Token token, Span<char> out) {
  n_bytes = 0;
  Span<const char> bytes;
  const Status status = tokenizer.decode(bytes, previous_, token);
  if (status != Status::ok) return status;
  // What waits and each byte become at most one replacement.
  if (out.size() < 3 * (bytes.size() + 1)) return Status::no_room;
  previous_ = token;
  char* o = out.data();
  for (char c : bytes) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (held_count_ && !utf8::continues(held_, held_count_, byte)) {
      o = put_replacement(o);
      held_count_ = 0;
    }
    const std::uint32_t whole = utf8::bytes_of(held_count_ ? held_[0] : byte);
    if (whole == 0) {
      o = put_replacement(o);
    } else if (held_count_ + 1u < whole) {
      held_[held_count_++] = byte;
    } else {
      for (std::uint32_t i = 0; i < held_count_; ++i) *o++ = static_cast<char>(held_[i]);
      *o++ = c;
      held_count_ = 0;
    }
  }
  n_bytes = static_cast<std::uint32_t>(o - out.data());
  return Status::ok;
}

std::uint32_t StreamDecoder::flush(char (&out)[3]) {
  if (held_count_ == 0) return 0;
  held_count_ = 0;
  put_replacement(out);
  return 3;
}

}  // namespace heed
