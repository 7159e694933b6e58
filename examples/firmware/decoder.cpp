// SPDX-License-Identifier: Apache-2.0
// decoder.cpp: the smallest firmware: tokens in, the likeliest tokens out. No tokenizer and no sampler, which a device that
// knows its commands by number does not need; and without a tokenizer no token ends a text: `heed run --ignore-eos` gives
// this digest.
#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace io = heed::semihosting;

// The bytes of the model; model.cpp puts them into flash.
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

#ifndef HEED_ARENA_BYTES
#define HEED_ARENA_BYTES (256 * 1024)
#endif
constexpr std::uint32_t kTokens = 200;
constexpr heed::Token kFirst = 1;  // BOS of the Llama family

alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[HEED_ARENA_BYTES];

void require(heed::Status status) {
  if (status == heed::Status::ok) return;
  io::put_text("refused, status ");
  io::put_decimal(static_cast<std::uint32_t>(status));
  io::put_text("\n");
  io::exit(1);
}

}  // namespace

int main() {
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  require(heed::open(model, {heed_model_image, static_cast<std::size_t>(heed_model_image_end - heed_model_image)}, kernels));
  heed::Limits limits;
#ifdef HEED_MAX_SEQ
  limits.max_seq = model.config().main().max_seq < HEED_MAX_SEQ ? model.config().main().max_seq : HEED_MAX_SEQ;
#endif
  require(heed::make_plan(plan, model.config(), kernels.traits, limits));
  require(heed::create(session, model, plan, kernels, g_arena));
  heed::Digest digest;
  heed::Token token = kFirst;
  for (std::uint32_t i = 0; i < kTokens && session.position() < session.max_seq(); ++i) {
    heed::Span<const float> logits;
    require(session.step(logits, token));
    token = static_cast<heed::Token>(kernels.argmax(logits.data(), model.config().main().vocab_size));
    digest.add(kernels, token, logits);
    io::put_decimal(static_cast<std::uint32_t>(token));
    io::put_text(" ");
  }
  io::put_text("\ndigest ");
  io::put_hex(digest.value());
  io::put_text("\n");
  return digest.saw_nan() ? 1 : 0;
}
