// SPDX-License-Identifier: Apache-2.0
// hello.cpp: a model tells a story from a fixed block of memory. README.md shows the heart of it.
#include <cstdio>

#include "examples/require.hpp"
#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

alignas(64) static std::byte arena[2 * 1024 * 1024], sampler_memory[256 * 1024], encode_memory[4096];

int main(int argc, char** argv) {
  heed::MappedFile file;
  if (const char* error = argc == 2 ? file.open(argv[1]) : "usage: hello MODEL.heed") {
    std::fprintf(stderr, "hello: %s\n", error);
    return 2;
  }
  const heed::Kernels& kernels = heed::best_kernels();                   // one table, chosen once
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  heed::Tokenizer tokenizer;
  heed::Sampler sampler;
  require(heed::open(model, file.bytes(), kernels));                     // nothing is believed before it is checked
  require(heed::open(tokenizer, model.tokenizer(), model.config().main().vocab_size));
  require(heed::make_plan(plan, model.config(), kernels.traits));        // integer arithmetic, no memory touched
  const heed::Status created = heed::create(session, model, plan, kernels, arena);
  if (created == heed::Status::layout_unsupported) {                     // made for other kernels than this CPU's
    std::fprintf(stderr, "hello: laid out for another CPU; `heed quantize %s --layout packed -o packed.heed` makes one "
                 "for this\n", argv[1]);
    return 1;
  }
  require(created);                                                      // the last moment anything can be too small
  require(heed::create(sampler, {/*temperature=*/0.8f, /*top_k=*/0, /*top_p=*/0.9f, /*seed=*/1},
                       model.config().main().vocab_size, kernels, sampler_memory));

  heed::Token prompt[64];
  std::uint32_t n_prompt = 0;
  const char text[] = "Once upon a time";
  require(tokenizer.encode(n_prompt, {text, sizeof text - 1}, {}, prompt, encode_memory));
  heed::Span<const float> logits;                                        // [vocab_size], valid until the next step
  require(session.prefill(logits, {prompt, n_prompt}));
  std::fputs(text, stdout);
  heed::StreamDecoder decoder(prompt[n_prompt - 1]);
  for (int i = 0; i < 200; ++i) {
    heed::Token token = heed::kNoToken;
    require(sampler.pick(token, logits));
    if (tokenizer.ends_text(token)) break;
    char piece[1024];
    std::uint32_t n = 0;
    require(decoder.push(n, tokenizer, token, piece));
    std::fwrite(piece, 1, n, stdout);
    require(session.step(logits, token));                                // Status::context_full at the end
  }
  std::putchar('\n');
  return 0;
}
