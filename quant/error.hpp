// SPDX-License-Identifier: Apache-2.0
// error.hpp: how the host-side tools refuse: one sentence that names what is wrong.
#pragma once
#include <string>
#include <utility>

namespace heed::quant {

// Empty means success. A function that returns a non-empty one leaves its outputs unspecified.
class [[nodiscard]] Error {
 public:
  Error() = default;
  explicit Error(std::string sentence) : sentence_(std::move(sentence)) {}

  explicit operator bool() const { return !sentence_.empty(); }
  const std::string& sentence() const { return sentence_; }
  // The same with what it is about in front: "story.bin: ...".
  Error about(const std::string& subject) const {
    return sentence_.empty() ? *this : Error(subject + ": " + sentence_);
  }

 private:
  std::string sentence_;
};

}  // namespace heed::quant
