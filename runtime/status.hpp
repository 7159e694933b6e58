// SPDX-License-Identifier: Apache-2.0
// status.hpp: every way in which a call of the runtime can be refused.
#pragma once
#include <cstdint>

namespace heed {

// What a call that does not return `ok` has left behind is said at its declaration; a session is unchanged.
enum class [[nodiscard]] Status : std::uint8_t {
  ok = 0,
  bad_argument,        // a null pointer, an empty span, or a number outside its documented range
  misaligned,          // image or arena not aligned to what the declaration asks for
  truncated,           // the image ends before its header says so
  not_an_image,        // wrong magic, or a header that fails its own checksum
  version_unsupported, // a newer image format than this library reads
  bad_section,         // a section is missing, repeated, out of bounds or overlaps another
  bad_config,          // the configuration contradicts itself or exceeds a limit of SPEC.md
  bad_tensor,          // a tensor entry does not match the configuration or lies out of bounds
  bad_value,           // a scale, gain, bias, multiplier or exponent out of range; a weight of -128
  bad_checksum,        // a section's bytes do not match its CRC-32C (found by `verify` only)
  bad_tokenizer,       // tokenizer tables that contradict themselves
  feature_not_built,   // the model needs a feature that this build does not carry
  layout_unsupported,  // this kernel table cannot eat the weight layout of the image
  context_too_long,    // limits ask for more positions than the model has
  arena_too_small,     // the arena has fewer bytes than the plan says
  rounding_mode,       // floating point does not round each operation to nearest even
  context_full,        // no position left; the session is unchanged
  bad_token,           // a token id outside the vocabulary; the session is unchanged
  no_room,             // the caller's output span is too small
  text_not_expressible // the vocabulary has no token for a part of the text
};

// A short, stable English phrase; never null.
constexpr const char* to_string(Status status) {
  switch (status) {
    case Status::ok: return "ok";
    case Status::bad_argument: return "bad argument";
    case Status::misaligned: return "misaligned memory";
    case Status::truncated: return "truncated image";
    case Status::not_an_image: return "not a heed image";
    case Status::version_unsupported: return "image version not supported";
    case Status::bad_section: return "bad section";
    case Status::bad_config: return "bad configuration";
    case Status::bad_tensor: return "bad tensor";
    case Status::bad_value: return "value out of range";
    case Status::bad_checksum: return "checksum mismatch";
    case Status::bad_tokenizer: return "bad tokenizer tables";
    case Status::feature_not_built: return "feature not built";
    case Status::layout_unsupported: return "weight layout not supported by this kernel table";
    case Status::context_too_long: return "context longer than the model's";
    case Status::arena_too_small: return "arena too small";
    case Status::rounding_mode: return "unexpected floating-point mode";
    case Status::context_full: return "context full";
    case Status::bad_token: return "token outside the vocabulary";
    case Status::no_room: return "output too small";
    case Status::text_not_expressible: return "text cannot be expressed in this vocabulary";
  }
  return "unknown status";
}

}  // namespace heed
