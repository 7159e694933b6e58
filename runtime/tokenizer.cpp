// SPDX-License-Identifier: Apache-2.0
// tokenizer.cpp: checks the tokenizer section, merges neighbours, and keeps UTF-8 whole on the way out.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer.hpp"

namespace heed {
namespace {

constexpr std::uint32_t kNone = (1u << 24) - 1;  // no merge: fits the 24 bits of Slot::pair
constexpr std::uint32_t kNever = 0xFFFFFFFFu;    // the rank of a piece that no merge may make
constexpr std::uint32_t kFanOut = 16;            // children of a node of the tree over the slots
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 27;

// By bytes, so that tables need no alignment; compilers make one load of it where the core allows.
std::uint32_t read_u32(const std::uint8_t* p) {
  return p[0] | std::uint32_t{p[1]} << 8 | std::uint32_t{p[2]} << 16 | std::uint32_t{p[3]} << 24;
}

std::uint32_t read_at(const std::uint8_t* table, std::uint32_t i, bool wide) {
  if (wide) return read_u32(table + std::size_t{i} * 4);
  const std::uint8_t* p = table + std::size_t{i} * 2;
  return p[0] | std::uint32_t{p[1]} << 8;
}

constexpr std::uint64_t table_bytes(std::uint64_t entries, bool wide) {
  return wide ? entries * 4 : (entries * 2 + 3) / 4 * 4;
}

bool all_zero(const std::uint8_t* begin, const std::uint8_t* end) {
  for (; begin < end; ++begin) {
    if (*begin) return false;
  }
  return true;
}

// A token or "none" of the header.
bool token_or_none(Token t, std::uint32_t vocab_size) {
  return t == kNoToken || static_cast<std::uint32_t>(t) < vocab_size;
}

}  // namespace

Tokenizer::Piece Tokenizer::piece(std::uint32_t token) const {
  const std::uint32_t begin = read_at(offsets_, token, wide_offsets_);
  return {pieces_ + begin, read_at(offsets_, token + 1, wide_offsets_) - begin};
}

std::uint32_t Tokenizer::id_at(std::uint32_t position) const { return read_at(sorted_, position, wide_ids_); }

std::uint32_t Tokenizer::rank_at(std::uint32_t position) const {
  const std::uint32_t rank = read_at(ranks_, position, wide_ids_);
  return !wide_ids_ && rank == 0xFFFFu ? kNever : rank;
}

// Where the piece `left` followed by `right` stands in the sorted list, or kNone.
std::uint32_t Tokenizer::find(Piece left, Piece right) const {
  const std::uint32_t size = left.size + right.size;
  std::uint32_t low = 0, high = size <= max_piece_bytes_ ? sorted_count_ : 0;
  while (low < high) {
    const std::uint32_t middle = (low + high) / 2;
    const Piece p = piece(id_at(middle));
    // The first difference decides, else the length does.
    int order = p.size < size ? -1 : static_cast<int>(p.size > size);
    for (std::uint32_t i = 0; i < p.size && i < size; ++i) {
      const int difference = p.bytes[i] - (i < left.size ? left.bytes[i] : right.bytes[i - left.size]);
      if (difference) {
        order = difference;
        break;
      }
    }
    if (order == 0) return middle;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return kNone;
}

Status open(Tokenizer& tokenizer, Span<const std::uint8_t> section, std::uint32_t vocab_size) {
  const std::uint8_t* s = section.data();
  if (section.size() < kTokenizerHeaderBytes) return Status::bad_tokenizer;                                // K1
  if (read_u32(s) != static_cast<std::uint32_t>(TokenizerKind::merges)) return Status::feature_not_built;  // K2
  const std::uint32_t flags = read_u32(s + 4);
  if (flags & ~kTokenizerKnownFlags) return Status::bad_tokenizer;                 // K3
  if (!all_zero(s + 36, s + kTokenizerHeaderBytes)) return Status::bad_tokenizer;  // K3
  const std::uint32_t n = read_u32(s + 8), sorted = read_u32(s + 12), piece_bytes = read_u32(s + 16);
  if (n != vocab_size || n == 0 || n > kMaxVocabSize) return Status::bad_tokenizer;  // K4
  if (sorted > n) return Status::bad_tokenizer;                                      // K5

  Tokenizer t;
  t.vocab_size_ = n;
  t.sorted_count_ = sorted;
  t.prefix_space_ = flags & kTokenizerPrefixSpace;
  t.wide_offsets_ = piece_bytes > 0xFFFFu;
  t.wide_ids_ = n > 0xFFFFu;
  const std::uint64_t offsets_bytes = table_bytes(std::uint64_t{n} + 1, t.wide_offsets_);
  const std::uint64_t ids_bytes = table_bytes(sorted, t.wide_ids_);
  const std::uint64_t total = kTokenizerHeaderBytes + offsets_bytes + 2 * ids_bytes + piece_bytes;
  if (section.size() != total) return Status::bad_tokenizer;  // K6
  t.offsets_ = s + kTokenizerHeaderBytes;
  t.sorted_ = t.offsets_ + static_cast<std::size_t>(offsets_bytes);
  t.ranks_ = t.sorted_ + static_cast<std::size_t>(ids_bytes);
  t.pieces_ = t.ranks_ + static_cast<std::size_t>(ids_bytes);

  t.bos_ = static_cast<Token>(read_u32(s + 20));
  t.eos_ = static_cast<Token>(read_u32(s + 24));
  if (!token_or_none(t.bos_, n) || !token_or_none(t.eos_, n)) return Status::bad_tokenizer;  // K7
  t.first_byte_ = read_u32(s + 28);
  t.byte_count_ = read_u32(s + 32);
  if (t.byte_count_ > 256 || t.first_byte_ > n || t.byte_count_ > n - t.first_byte_)
    return Status::bad_tokenizer;  // K8
  if (t.byte_count_ == 0 && t.first_byte_ != 0) return Status::bad_tokenizer;  // K8
  // K8, or text could make a control token.
  if (t.is_byte(static_cast<std::uint32_t>(t.bos_)) || t.is_byte(static_cast<std::uint32_t>(t.eos_))) {
    return Status::bad_tokenizer;
  }

  // K9: what fills a table of 16-bit entries up to a whole word.
  if (!all_zero(t.offsets_ + (std::size_t{n} + 1) * (t.wide_offsets_ ? 4 : 2), t.sorted_)) return Status::bad_tokenizer;
  const std::size_t used = std::size_t{sorted} * (t.wide_ids_ ? 4 : 2);
  if (!all_zero(t.sorted_ + used, t.ranks_) || !all_zero(t.ranks_ + used, t.pieces_)) return Status::bad_tokenizer;

  std::uint32_t end = 0;
  for (std::uint32_t i = 0; i <= n; ++i) {  // K10
    const std::uint32_t next = read_at(t.offsets_, i, t.wide_offsets_);
    const std::uint32_t size = next - end;
    if (next < end || size > (i ? kMaxPieceBytes : 0)) return Status::bad_tokenizer;
    if (size > t.max_piece_bytes_) t.max_piece_bytes_ = size;
    end = next;
  }
  if (end != piece_bytes) return Status::bad_tokenizer;

  for (std::uint32_t b = 0; b < t.byte_count_; ++b) {  // K11
    const Tokenizer::Piece p = t.piece(t.first_byte_ + b);
    if (p.size != 1 || p.bytes[0] != b) return Status::bad_tokenizer;
  }

  Tokenizer::Piece before{s, 0};
  for (std::uint32_t i = 0; i < sorted; ++i) {  // K12
    const std::uint32_t id = t.id_at(i);
    if (id >= n || t.is_byte(id) || static_cast<Token>(id) == t.bos_ || static_cast<Token>(id) == t.eos_) {
      return Status::bad_tokenizer;
    }
    const Tokenizer::Piece p = t.piece(id);
    std::uint32_t same = 0;
    while (same < p.size && same < before.size && p.bytes[same] == before.bytes[same]) ++same;
    // Strictly ascending: behind the common beginning this one goes on, and the one before ended or was smaller.
    if (same == p.size || (same < before.size && p.bytes[same] < before.bytes[same])) return Status::bad_tokenizer;
    before = p;
  }
  tokenizer = t;
  return Status::ok;
}

// The text while it is being merged. A symbol is a run of slots: its first one holds the token, its first and its last
// one the run's length, so that both neighbours are found without links. A tree over the slots knows the next pair:
// node k stands over nodes 16 k + 1 to 16 k + 16, its leaves are the slots, behind the inner nodes, and an inner node
// has the slot below it whose pair comes first. A merge changes three slots and the nodes above them.
struct Tokenizer::Merger {
  struct Slot {
    std::uint32_t token;
    std::uint32_t pair : 24;  // place in the sorted list of what this symbol and the next make together, or kNone
    std::uint32_t extent : 8;
  };
  static_assert(sizeof(Slot) == 8, "scratch_bytes counts on it");
  static_assert(kMaxPieceBytes < 256, "a run has no more slots than its piece has bytes");

  const Tokenizer& tokenizer;
  Slot* slots;          // [room]
  std::uint32_t* best;  // [inner], the slot below each inner node whose pair comes first
  std::uint32_t size = 0, inner = 0;

  void append(std::uint32_t token) { slots[size++] = {token, kNone, 1}; }

  // Appends a character's token, or its bytes' tokens. False when there is none.
  bool append_character(const char* bytes, std::uint32_t count, std::uint32_t& failed) {
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

  std::uint32_t rank(std::uint32_t slot) const {
    const std::uint32_t pair = slots[slot].pair;
    return pair == kNone ? kNever : tokenizer.rank_at(pair);
  }

  void find_pair(std::uint32_t slot) {
    const std::uint32_t next = slot + slots[slot].extent;
    std::uint32_t pair = kNone;
    // A byte stands for part of a character, and its name in the vocabulary is no text.
    if (next < size && !tokenizer.is_byte(slots[slot].token) && !tokenizer.is_byte(slots[next].token)) {
      pair = tokenizer.find(tokenizer.piece(slots[slot].token), tokenizer.piece(slots[next].token));
    }
    slots[slot].pair = pair & kNone;
  }

  // Of equal ranks the first in the text, which is not the order of the nodes: the lowest level begins in mid-text.
  void choose(std::uint32_t node) {
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
  void update(std::uint32_t slot) {
    for (std::uint32_t node = inner + slot; node;) {
      node = (node - 1) / kFanOut;
      const std::uint32_t known = best[node];
      choose(node);
      if (best[node] == known && known != slot) return;
    }
  }

  // Merges until nothing more can be; the lowest rank first, of equals the first in the text.
  void merge() {
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
};

Status Tokenizer::encode(std::uint32_t& n_tokens, Span<const char> text, EncodeOptions options, Span<Token> tokens,
                         Span<std::byte> scratch) const {
  n_tokens = 0;
  if (text.size() >= kMaxTextBytes || scratch.size() < scratch_bytes(text.size())) return Status::bad_argument;
  if (reinterpret_cast<std::uintptr_t>(scratch.data()) % alignof(Merger::Slot)) return Status::misaligned;
  auto* slots = reinterpret_cast<Merger::Slot*>(scratch.data());
  Merger merger{*this, slots, reinterpret_cast<std::uint32_t*>(slots + text.size() + 1)};

  const char space = ' ';
  std::uint32_t failed;
  if (prefix_space_ && !text.empty() && !merger.append_character(&space, 1, failed))
    return Status::text_not_expressible;
  // llama2.c's notion of a character: a byte and up to three continuation bytes behind it.
  const auto text_bytes = static_cast<std::uint32_t>(text.size());
  for (std::uint32_t begin = 0, end; begin < text_bytes; begin = end) {
    end = begin + 1;
    while (end < text_bytes && end - begin < 4 && (text[end] & 0xC0) == 0x80) ++end;
    if (!merger.append_character(text.data() + begin, end - begin, failed)) {
      n_tokens = begin + failed;
      return Status::text_not_expressible;
    }
  }
  merger.merge();

  const bool bos = options.add_bos && bos_ != kNoToken, eos = options.add_eos && eos_ != kNoToken;
  n_tokens = static_cast<std::uint32_t>(bos) + static_cast<std::uint32_t>(eos);
  for (std::uint32_t i = 0; i < merger.size; i += slots[i].extent) ++n_tokens;
  if (tokens.size() < n_tokens) return Status::no_room;
  Token* out = tokens.data();
  if (bos) *out++ = bos_;
  for (std::uint32_t i = 0; i < merger.size; i += slots[i].extent) *out++ = static_cast<Token>(slots[i].token);
  if (eos) *out = eos_;
  return Status::ok;
}

Status Tokenizer::decode(Span<const char>& bytes, Token previous, Token token) const {
  if (static_cast<std::uint32_t>(token) >= vocab_size_) return Status::bad_token;
  const Piece p = piece(static_cast<std::uint32_t>(token));
  const bool first = previous == kNoToken || previous == bos_;
  const std::uint32_t skip = prefix_space_ && first && p.size && p.bytes[0] == ' ' ? 1 : 0;
  bytes = {reinterpret_cast<const char*>(p.bytes) + skip, p.size - skip};
  return Status::ok;
}

namespace {

// Bytes of the character that begins with this one; 0 if none does.
std::uint32_t character_bytes(std::uint8_t lead) {
  return lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

// Whether `byte` may follow the `count` bytes of a beginning (Unicode, table 3-7).
bool continues(const std::uint8_t* beginning, std::uint32_t count, std::uint8_t byte) {
  std::uint8_t low = 0x80, high = 0xBF;
  if (count == 1) {
    if (beginning[0] == 0xE0) low = 0xA0;   // shorter forms exist
    if (beginning[0] == 0xED) high = 0x9F;  // surrogates
    if (beginning[0] == 0xF0) low = 0x90;
    if (beginning[0] == 0xF4) high = 0x8F;  // beyond U+10FFFF
  }
  return byte >= low && byte <= high;
}

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
    if (held_count_ && !continues(held_, held_count_, byte)) {
      o = put_replacement(o);
      held_count_ = 0;
    }
    const std::uint32_t whole = character_bytes(held_count_ ? held_[0] : byte);
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
