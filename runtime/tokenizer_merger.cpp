// SPDX-License-Identifier: Apache-2.0
// tokenizer_merger.cpp: merges neighbours, the best rank first, in a text of any length.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::kNever;
using tokenizer_tables::kNone;

namespace {

constexpr std::uint32_t kFanOut = 16;  // children of a node of the tree over the slots
constexpr std::size_t kMostSlots = std::size_t{1} << 28;

}  // namespace

std::uint32_t Tokenizer::Merger::room(std::size_t scratch_bytes) {
  // scratch_bytes(t) is for t + 1 slots: 8 bytes each, and 4 for each inner node of up to 15 more.
  std::size_t slots = scratch_bytes / 124 * 15;
  while (Tokenizer::scratch_bytes(slots) <= scratch_bytes) ++slots;
  return static_cast<std::uint32_t>(slots < kMostSlots ? slots : kMostSlots);
}

Tokenizer::Merger Tokenizer::Merger::over(const Tokenizer& tokenizer, Span<std::byte> scratch) {
  auto* slots = reinterpret_cast<Slot*>(scratch.data());
  return {tokenizer, slots, reinterpret_cast<std::uint32_t*>(slots + room(scratch.size()))};
}

bool Tokenizer::Merger::append_character(const char* bytes, std::uint32_t count, std::uint32_t& failed) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(bytes);
  const std::uint32_t position = tokenizer.find({p, count}, {p, 0});
  if (position != kNone) {
    append(tokenizer.id_at(position));
    return true;
  }
  for (failed = 0; failed < count; ++failed) {
    if (p[failed] >= tokenizer.byte_count_) return false;
    append(tokenizer.first_byte_ + p[failed]);
  }
  return true;
}

std::uint32_t Tokenizer::Merger::rank(std::uint32_t slot) const {
  const std::uint32_t pair = slots[slot].pair;
  if (pair == kNone) return kNever;
  if (kBuiltFeatures.byte_pairs && tokenizer.n_more_)
    return tokenizer.rank_of(pair, tokenizer.piece(slots[slot].token).size);
  return tokenizer.rank_at(pair);
}

void Tokenizer::Merger::find_pair(std::uint32_t slot) {
  const std::uint32_t next = slot + slots[slot].extent;
  std::uint32_t pair = kNone;
  // A byte stands for part of a character, and its name in the vocabulary is no text.
  if (next < size && tokenizer.may_merge(slots[slot].token) && tokenizer.may_merge(slots[next].token)) {
    const Piece left = tokenizer.piece(slots[slot].token);
    pair = tokenizer.find(left, tokenizer.piece(slots[next].token));
    if (kBuiltFeatures.byte_pairs && tokenizer.left_ && pair != kNone && tokenizer.rank_of(pair, left.size) == kNever)
      pair = kNone;
  }
  slots[slot].pair = pair & kNone;
}

// Of equal ranks the first in the text, which is not the order of the nodes: the lowest level begins in mid-text.
void Tokenizer::Merger::choose(std::uint32_t node) {
  std::uint64_t first = ~std::uint64_t{0};
  std::uint32_t child = node * kFanOut;
  for (std::uint32_t i = kFanOut; i && ++child < inner + size; --i) {
    const std::uint32_t slot = child < inner ? best[child] : child - inner;
    const std::uint64_t key = std::uint64_t{rank(slot)} << 32 | slot;
    if (key < first) first = key;
  }
  best[node] = static_cast<std::uint32_t>(first);
}

// After the pair of `slot` has changed; up to the first node that had another slot and keeps it.
void Tokenizer::Merger::update(std::uint32_t slot) {
  for (std::uint32_t node = inner + slot; node;) {
    node = (node - 1) / kFanOut;
    const std::uint32_t known = best[node];
    choose(node);
    if (best[node] == known && known != slot) return;
  }
}

void Tokenizer::Merger::merge() {
  if (size < 2) return;
  inner = (size - 1 + kFanOut - 2) / (kFanOut - 1);  // each makes one node of up to 16
  for (std::uint32_t i = 0; i < size; ++i) find_pair(i);
  for (std::uint32_t node = inner; node-- > 0;) choose(node);
  for (;;) {
    const std::uint32_t left = *best;
    if (rank(left) == kNever) return;
    const std::uint32_t right = left + slots[left].extent;
    const std::uint32_t extent = slots[left].extent + slots[right].extent;
    slots[left].token = tokenizer.id_at(slots[left].pair);
    slots[right].pair = kNone;
    slots[left].extent = slots[left + extent - 1].extent = extent & 0xFFu;
    find_pair(left);
    update(right);
    update(left);
    if (left > 0) {
      const std::uint32_t before = left - slots[left - 1].extent;
      find_pair(before);
      update(before);
    }
  }
}

void Tokenizer::Merger::put(Writer& writer) const {
  for (std::uint32_t i = 0; i < size; i += slots[i].extent) {
    if (static_cast<Token>(slots[i].token) == tokenizer.unk_) {
      writer.put_unknown(tokenizer.unk_);
    } else {
      writer.put(slots[i].token);
    }
  }
}

}  // namespace heed
