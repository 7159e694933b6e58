// SPDX-License-Identifier: Apache-2.0
// tokenizer.cpp: checks the tokenizer section, finds pieces in it, and encodes and decodes with the tables that every kind has.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::kNever;
using tokenizer_tables::kNone;
using tokenizer_tables::read_at;
using tokenizer_tables::read_u32;
using tokenizer_tables::table_bytes;

namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 27;

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

bool is_built(TokenizerKind kind, bool has_rules) {
  switch (kind) {
    case TokenizerKind::merges: return !has_rules || kBuiltFeatures.added_tokens;
    case TokenizerKind::byte_pairs: return has_rules && kBuiltFeatures.byte_pairs;
    case TokenizerKind::unigram: return has_rules && kBuiltFeatures.unigram;
    case TokenizerKind::word_pieces: return has_rules && kBuiltFeatures.word_pieces;
  }
  return false;
}

}  // namespace

Tokenizer::Piece Tokenizer::piece(std::uint32_t token) const {
  const std::uint32_t begin = read_at(offsets_, token, wide_offsets_);
  return {pieces_ + begin, read_at(offsets_, token + 1, wide_offsets_) - begin};
}

std::uint32_t Tokenizer::id_at(std::uint32_t position) const { return read_at(sorted_, position, wide_ids_); }

std::uint32_t Tokenizer::rank_at(std::uint32_t position) const {
  const std::uint32_t rank = read_at(ranks_, position, wide_ranks_);
  return !wide_ranks_ && rank == 0xFFFFu ? kNever : rank;
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

// K1 to K9: sizes and numbers of the header. `used`: where the rules block begins, if there is one.
Status Tokenizer::check_header(Span<const std::uint8_t> section, std::uint32_t vocab_size, std::uint64_t& used) {
  const std::uint8_t* s = section.data();
  if (section.size() < kTokenizerHeaderBytes) return Status::bad_tokenizer;  // K1
  const std::uint32_t kind = read_u32(s), flags = read_u32(s + 4);
  const bool has_rules = (flags & kTokenizerHasRules) != 0;
  if (!is_built(static_cast<TokenizerKind>(kind), has_rules)) return Status::feature_not_built;  // K2
  const std::uint32_t known = kTokenizerKnownFlags |
      (kBuiltFeatures.byte_pairs && kind == static_cast<std::uint32_t>(TokenizerKind::byte_pairs) ? kTokenizerWideRanks : 0);
  if (flags & ~known) return Status::bad_tokenizer;                                // K3
  if (!all_zero(s + 36, s + kTokenizerHeaderBytes)) return Status::bad_tokenizer;                // K3
  const std::uint32_t n = read_u32(s + 8), sorted = read_u32(s + 12), piece_bytes = read_u32(s + 16);
  if (n != vocab_size || n == 0 || n > kMaxVocabSize) return Status::bad_tokenizer;  // K4
  if (sorted > n) return Status::bad_tokenizer;                                      // K5

  kind_ = static_cast<TokenizerKind>(kind);
  vocab_size_ = n;
  sorted_count_ = sorted;
  prefix_space_ = flags & kTokenizerPrefixSpace;
  wide_offsets_ = piece_bytes > 0xFFFFu;
  wide_ids_ = wide_ranks_ = n > 0xFFFFu;
  if (kBuiltRules && (kind_ == TokenizerKind::unigram || flags & kTokenizerWideRanks)) wide_ranks_ = true;
  const std::uint64_t offsets_bytes = table_bytes(std::uint64_t{n} + 1, wide_offsets_);
  const std::uint64_t ids_bytes = table_bytes(sorted, wide_ids_);
  const std::uint64_t ranks_bytes =
      kBuiltRules && kind_ == TokenizerKind::word_pieces ? 0 : table_bytes(sorted, wide_ranks_);
  used = kTokenizerHeaderBytes + offsets_bytes + ids_bytes + ranks_bytes + piece_bytes;
  if (has_rules ? section.size() < used : section.size() != used) return Status::bad_tokenizer;  // K6
  offsets_ = s + kTokenizerHeaderBytes;
  sorted_ = offsets_ + static_cast<std::size_t>(offsets_bytes);
  ranks_ = sorted_ + static_cast<std::size_t>(ids_bytes);
  pieces_ = ranks_ + static_cast<std::size_t>(ranks_bytes);

  bos_ = static_cast<Token>(read_u32(s + 20));
  eos_ = static_cast<Token>(read_u32(s + 24));
  if (!token_or_none(bos_, n) || !token_or_none(eos_, n)) return Status::bad_tokenizer;  // K7
  first_byte_ = read_u32(s + 28);
  byte_count_ = read_u32(s + 32);
  if (byte_count_ > 256 || first_byte_ > n || byte_count_ > n - first_byte_) return Status::bad_tokenizer;  // K8
  if (byte_count_ == 0 && first_byte_ != 0) return Status::bad_tokenizer;                                  // K8
  // K8, or text could make a control token.
  if (is_byte(static_cast<std::uint32_t>(bos_)) || is_byte(static_cast<std::uint32_t>(eos_)))
    return Status::bad_tokenizer;

  // K9: what fills a table of 16-bit entries up to a whole word.
  if (!all_zero(offsets_ + (std::size_t{n} + 1) * (wide_offsets_ ? 4 : 2), sorted_)) return Status::bad_tokenizer;
  if (!all_zero(sorted_ + std::size_t{sorted} * (wide_ids_ ? 4 : 2), ranks_)) return Status::bad_tokenizer;
  if (ranks_bytes && !all_zero(ranks_ + std::size_t{sorted} * (wide_ranks_ ? 4 : 2), pieces_))
    return Status::bad_tokenizer;

  std::uint32_t end = 0;
  for (std::uint32_t i = 0; i <= n; ++i) {  // K10
    const std::uint32_t next = read_at(offsets_, i, wide_offsets_);
    const std::uint32_t size = next - end;
    if (next < end || size > (i ? kMaxPieceBytes : 0)) return Status::bad_tokenizer;
    if (size > max_piece_bytes_) max_piece_bytes_ = size;
    end = next;
  }
  return end == piece_bytes ? Status::ok : Status::bad_tokenizer;  // K10
}

// K11 and K12.
bool Tokenizer::tables_are_sound() const {
  for (std::uint32_t b = 0; b < byte_count_; ++b) {  // K11
    const Piece p = piece(first_byte_ + b);
    if (p.size != 1 || p.bytes[0] != b) return false;
  }
  Piece before{pieces_, 0};
  for (std::uint32_t i = 0; i < sorted_count_; ++i) {  // K12
    const std::uint32_t id = id_at(i);
    if (id >= vocab_size_ || is_byte(id) || static_cast<Token>(id) == bos_ || static_cast<Token>(id) == eos_) return false;
    const Piece p = piece(id);
    std::uint32_t same = 0;
    while (same < p.size && same < before.size && p.bytes[same] == before.bytes[same]) ++same;
    // Strictly ascending: behind the common beginning this one goes on, and the one before ended or was smaller.
    if (same == p.size || (same < before.size && p.bytes[same] < before.bytes[same])) return false;
    before = p;
  }
  return true;
}

Status open(Tokenizer& tokenizer, Span<const std::uint8_t> section, std::uint32_t vocab_size) {
  Tokenizer t;
  std::uint64_t used;
  const Status status = t.check_header(section, vocab_size, used);
  if (status != Status::ok) return status;
  if (!t.tables_are_sound()) return Status::bad_tokenizer;
  if constexpr (kBuiltRules) {
    if (read_u32(section.data() + 4) & kTokenizerHasRules) {
      const Status rules = t.open_rules(section.data(), used, section.size());
      if (rules != Status::ok) return rules;
    }
  }
  tokenizer = t;
  return Status::ok;
}

Features required_features(Span<const std::uint8_t> section) {
  if (section.size() < kTokenizerHeaderBytes) return kNoFeatures;
  switch (static_cast<TokenizerKind>(read_u32(section.data()))) {
    case TokenizerKind::byte_pairs: return kNoFeatures + Feature::byte_pairs;
    case TokenizerKind::unigram: return kNoFeatures + Feature::unigram;
    case TokenizerKind::word_pieces: return kNoFeatures + Feature::word_pieces;
    default: break;
  }
  const bool has_rules = (read_u32(section.data() + 4) & kTokenizerHasRules) != 0;
  return has_rules ? kNoFeatures + Feature::added_tokens : kNoFeatures;
}

// Kind `merges` without a rules block.
Status Tokenizer::encode_plain(std::uint32_t& n_tokens, Span<const char> text, EncodeOptions options,
                               Span<Token> tokens, Span<std::byte> scratch) const {
  if (scratch.size() < scratch_bytes(text.size())) return Status::bad_argument;
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

Status Tokenizer::encode(std::uint32_t& n_tokens, Span<const char> text, EncodeOptions options, Span<Token> tokens,
                         Span<std::byte> scratch) const {
  n_tokens = 0;
  if (text.size() >= kMaxTextBytes) return Status::bad_argument;
  if constexpr (kBuiltRules) {
    if (has_rules_) {
      Writer writer{tokens};
      if (options.add_bos) put_around(writer, 0);
      const Status status = encode_text(writer, text, options.match_special, scratch);
      n_tokens = writer.failed;
      if (status != Status::ok) return status;
      if (options.add_eos) put_around(writer, 2);
      n_tokens = writer.n;
      return writer.n <= tokens.size() ? Status::ok : Status::no_room;
    }
  }
  return encode_plain(n_tokens, text, options, tokens, scratch);
}

Status Tokenizer::decode(Span<const char>& bytes, Token previous, Token token) const {
  if (static_cast<std::uint32_t>(token) >= vocab_size_) return Status::bad_token;
  const Piece p = piece(static_cast<std::uint32_t>(token));
  const bool first = previous == kNoToken || previous == bos_;
  const bool takes_away = prefix_space_ && !(kBuiltFeatures.byte_pairs && kind_ == TokenizerKind::byte_pairs);
  const std::uint32_t skip = takes_away && first && p.size && p.bytes[0] == ' ' ? 1 : 0;
  bytes = {reinterpret_cast<const char*>(p.bytes) + skip, p.size - skip};
  return Status::ok;
}

}  // namespace heed
