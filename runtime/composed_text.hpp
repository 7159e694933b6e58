// SPDX-License-Identifier: Apache-2.0
// composed_text.hpp: Unicode's normalisation form NFC of a text of any length, in fixed memory. Included by runtime/ only.
#pragma once
#include "runtime/text_rules.hpp"

namespace heed {

// Calls put(code) for each code point of the composed text (or utf8::kLimit + byte), while it returns true.
//
// Nothing is kept of the marks behind a base but where they begin: each combining class that occurs is one pass over them.
// There are 55 classes, so time is linear in the text.
class ComposedText {
 public:
  ComposedText(const TextRules& rules, const std::uint8_t* text, std::size_t size)
      : rules_(rules), text_(text), size_(size) {}

  template <class Put>
  bool each(const Put& put) const {
    for (std::size_t begin = 0, end; begin < size_; begin = end) {
      const utf8::Character c = utf8::read(text_ + begin, size_ - begin);
      end = begin + c.size;
      const bool changes = may_change(c.code);
      bool more = false;  // that may change what stands before it
      while (end < size_) {
        const utf8::Character next = utf8::read(text_ + end, size_ - end);
        if (!may_change(next.code)) break;
        more = true;
        end += next.size;
      }
      if (!changes && !more ? !put(c.code) : !compose(DecomposedText(rules_, text_ + begin, end - begin, true), put))
        return false;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t kNoBase = 0xFFFFFFFFu;

  bool may_change(std::uint32_t code) const {
    if (code < 0x80 || code >= utf8::kLimit) return false;
    const CharacterProperties p = rules_.properties(code);
    return p.changes || p.combining;
  }
  std::uint32_t class_of(std::uint32_t code) const { return code < utf8::kLimit ? rules_.properties(code).combining : 0; }

  // The marks from `marks` on, `count` of them, in canonical order, composed with `base` where they can be; calls put for those
  // that cannot. Returns whether there are any, or a put said no.
  template <class Put>
  bool order(std::uint32_t& base, DecomposedText marks, std::uint32_t count, const Put& put) const {
    std::uint32_t last = 0;  // class of the last mark that stayed
    for (std::uint32_t now = 0, next = 0;; now = next) {
      next = 256;
      DecomposedText text = marks;
      for (std::uint32_t i = 0; i < count; ++i) {
        std::uint32_t code = 0;
        (void)text.next(code);
        const std::uint32_t kind = class_of(code);
        if (kind > now && kind < next) next = kind;
        if (kind != now) continue;
        const std::uint32_t both = base != kNoBase && last < now ? rules_.composed(base, code) : 0;
        if (both) {
          base = both;
        } else {
          last = now;
          if (!put(code)) return true;
        }
      }
      if (next == 256) return last != 0;
    }
  }

  // A stretch whose characters may change each other. A base takes the marks behind it that it can, and then, if it took all,
  // the next base.
  template <class Put>
  bool compose(DecomposedText text, const Put& put) const {
    DecomposedText marks = text;
    std::uint32_t code = 0;
    bool more = text.next(code), goes_on = true;
    while (more) {
      std::uint32_t base = kNoBase;
      if (class_of(code) == 0) {
        base = code;
        marks = text;
        more = text.next(code);
      }
      for (;;) {
        std::uint32_t count = 0;
        for (; more && class_of(code) != 0; more = text.next(code)) ++count;
        std::uint32_t composed = base;
        const bool stay = order(composed, marks, count, [](std::uint32_t) { return true; });
        const std::uint32_t both = more && !stay && base != kNoBase ? rules_.composed(composed, code) : 0;
        if (both) {
          base = both;
          marks = text;
          more = text.next(code);
          continue;
        }
        if (base != kNoBase && !put(composed)) return false;
        order(base, marks, count, [&](std::uint32_t mark) { return goes_on = put(mark); });
        if (!goes_on) return false;
        break;
      }
    }
    return true;
  }

  const TextRules& rules_;
  const std::uint8_t* text_;
  std::size_t size_;
};

}  // namespace heed
