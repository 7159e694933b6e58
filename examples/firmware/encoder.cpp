// SPDX-License-Identifier: Apache-2.0
// encoder.cpp: firmware that says what a sequence of feature vectors is: an encoder in flash, everything else in one block of
// .bss, no heap.
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
#ifndef HEED_ENCODER_VECTORS
#define HEED_ENCODER_VECTORS 40
#endif
#ifndef HEED_ENCODER_WIDTH
#define HEED_ENCODER_WIDTH 128
#endif
constexpr std::uint32_t kVectors = HEED_ENCODER_VECTORS, kMaxWidth = HEED_ENCODER_WIDTH;

alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[HEED_ARENA_BYTES];
float g_vectors[kVectors * kMaxWidth];

void require(heed::Status status, const char* what) {
  if (status == heed::Status::ok) return;
  io::put_text(what);
  io::put_text(" refused, status ");
  io::put_decimal(static_cast<std::uint32_t>(status));
  io::put_text("\n");
  io::exit(1);
}

// A sensor has others.
void read_sensor(float* out, std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<std::int32_t>(i * 37 % 101) - 50) / 32.0f;
}

void put_name(heed::Span<const char> name) {
  for (const char c : name) {
    const char text[2] = {c, '\0'};  // semihosting wants a terminating zero
    io::put_text(text);
  }
}

}  // namespace

int main() {
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  require(heed::open(model, {heed_model_image, static_cast<std::size_t>(heed_model_image_end - heed_model_image)}, kernels),
          "open");
  const heed::StackConfig& stack = model.config().main();
  const std::uint32_t width = stack.input_width();
  const bool pooled = stack.pooling != heed::Pooling::every;
  if (stack.input == heed::Input::tokens || width > kMaxWidth || !pooled) require(heed::Status::bad_config, "model");
  require(heed::make_plan(plan, model.config(), kernels.traits), "plan");
  require(heed::create(session, model, plan, kernels, g_arena), "create");

  heed::Sequence input;
  input.vectors = {g_vectors, kVectors * width};
  read_sensor(g_vectors, kVectors * width);
  heed::Span<const float> output;  // a number for each class, valid until the next call
  require(session.encode(output, input), "encode");
  heed::Digest digest;
  digest.add(kernels, 0, output);

  std::uint32_t best = 0;
  for (std::uint32_t i = 1; i < output.size(); ++i)
    if (output[i] > output[best]) best = i;
  io::put_text("kernels ");
  io::put_text(kernels.traits.name);
  io::put_text("\nclass ");
  put_name(model.class_name(best));
  io::put_text(" ");
  io::put_decimal(best);
  io::put_text("\ndigest ");
  io::put_hex(digest.value());
  io::put_text("\narena bytes ");
  io::put_decimal(static_cast<std::uint32_t>(plan.arena_bytes));
  io::put_text("\n");
  return digest.saw_nan() ? 1 : 0;
}
