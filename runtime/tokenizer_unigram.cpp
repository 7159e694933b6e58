// SPDX-License-Identifier: Apache-2.0
// tokenizer_unigram.cpp: the most probable pieces of a text, by SentencePiece's rules for ties and for what has no piece.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::kNone;
using tokenizer_tables::read_u32;

// The best way to each place of the text that is not decided yet. Where no piece reaches across a place, everything before it
// is decided: its tokens go out, and the place becomes the first one.
struct Tokenizer::BestPath {
  struct Place {
    float score;              // of the best way here
    std::uint32_t token : 24;  // that ends here on it
    std::uint32_t size : 8;    // its bytes; 0 = no way leads here yet
  };
  static_assert(sizeof(Place) == 8);
  static constexpr std::size_t kPlaceBytes = sizeof(Place) + 1;

  const Tokenizer& t;
  Writer& writer;
  PieceText text;
  Place* places;         // [room + 1]
  std::uint8_t* bytes;   // [room], the text between them
  std::uint32_t room;
  std::uint32_t size = 0;   // bytes that were read
  std::uint32_t reach = 0;  // the last place with a way to it
  bool ended = false;

  bool read() {
    if (ended) return false;
    if (!text.next()) {
      ended = true;
      return false;
    }
    if (room - size < text.size) {
      failed = Status::bad_argument;
      return false;
    }
    for (std::uint32_t i = 0; i < text.size; ++i) {
      bytes[size++] = text.bytes[i];
      places[size] = {0.0f, kNone, 0};
    }
    return true;
  }
  Status failed = Status::ok;

  // SentencePiece compares the exact sum with a rounded one. a + b = sum + rest exactly (Knuth).
  void offer(std::uint32_t from, std::uint32_t length, std::uint32_t token, float score) {
    const float a = places[from].score, b = score;
    const float sum = a + b;
    const float of_b = sum - a;
    const float rest = (a - (sum - of_b)) + (b - of_b);
    Place& to = places[from + length];
    if (to.size && !(sum > to.score || (sum == to.score && rest > 0.0f))) return;
    to.score = sum;
    to.token = token & kNone;
    to.size = length & 0xFF;
    if (from + length > reach) reach = from + length;
  }

  // All pieces that begin at this place; the character there if it is none of them.
  void step(std::uint32_t from) {
    const std::uint32_t character = utf8::read(bytes + from, size - from).size;
    bool whole = false;
    PieceRange range{0, t.sorted_count_, 0};
    for (std::uint32_t length = 0;;) {
      if (from + length == size && !read()) break;
      if (!t.narrow(range, bytes[from + length])) break;
      ++length;
      const std::uint32_t token = t.token_of(range);
      if (token == kNone) continue;
      offer(from, length, token, float_score(range.low));
      whole = whole || length == character;
    }
    if (!whole) offer(from, character, kNone, t.unknown_score_);
  }
  float float_score(std::uint32_t position) const {
    return __builtin_bit_cast(float, read_u32(t.ranks_ + std::size_t{position} * 4));
  }

  // What has no piece is its bytes, or unknown.
  bool put(std::uint32_t token, std::uint32_t at, std::uint32_t count) {
    if (token != kNone) {
      writer.put(token);
      return true;
    }
    bool has_bytes = t.byte_count_ != 0;
    for (std::uint32_t i = 0; i < count; ++i) has_bytes = has_bytes && bytes[at + i] < t.byte_count_;
    if (has_bytes) {
      for (std::uint32_t i = 0; i < count; ++i) writer.put(t.first_byte_ + bytes[at + i]);
    } else if (t.unk_ != kNoToken) {
      writer.put_unknown(t.unk_);
    } else {
      return false;
    }
    return true;
  }

  // Turns the way back from `end` round and puts its tokens out.
  bool decide(std::uint32_t end) {
    std::uint32_t at = end;
    std::uint32_t size_behind = 0, token_behind = kNone;
    while (at > 0) {
      Place& place = places[at];
      const std::uint32_t count = place.size, token = place.token;
      place.size = size_behind & 0xFF;
      place.token = token_behind & kNone;
      size_behind = count;
      token_behind = token;
      at -= count;
    }
    bool expressible = true;
    while (at < end && expressible) {
      expressible = put(token_behind, at, size_behind);
      at += size_behind;
      size_behind = places[at].size;
      token_behind = places[at].token;
    }
    places[0] = {places[end].score, kNone, 0};
    for (std::uint32_t i = end; i < size; ++i) bytes[i - end] = bytes[i];
    size -= end;
    for (std::uint32_t i = 1; i <= size; ++i) places[i] = {0.0f, kNone, 0};
    reach = 0;
    return expressible;
  }

  Status run() {
    places[0] = {0.0f, kNone, 0};
    for (std::uint32_t from = 0;;) {
      if (from == size && !read()) break;
      step(from);
      if (failed != Status::ok) return failed;
      for (++from; from < reach && places[from].size == 0;) ++from;
      if (from < reach) continue;
      if (!decide(reach)) {
        return Status::text_not_expressible;
      }
      from = 0;
    }
    return failed;
  }
};

Status Tokenizer::unigram_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const {
  if (scratch.size() < sizeof(BestPath::Place)) return Status::bad_argument;
  auto* places = reinterpret_cast<BestPath::Place*>(scratch.data());
  const std::size_t room = (scratch.size() - sizeof(BestPath::Place)) / BestPath::kPlaceBytes;
  writer.failed = static_cast<std::uint32_t>(segment.offset);
  return BestPath{*this, writer, PieceText(*this, segment), places, reinterpret_cast<std::uint8_t*>(places + room + 1),
                  static_cast<std::uint32_t>(room)}
      .run();
}

}  // namespace heed
