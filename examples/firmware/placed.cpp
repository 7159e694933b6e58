// SPDX-License-Identifier: Apache-2.0
// placed.cpp: firmware that keeps each region of a session in the memory that suits it: on the M55 board the code in
// ITCM, the weights in DDR, the KV cache in SRAM, scratch and logits in DTCM. toolchains/boards/sections.ld has a section
// and an assertion for each. Proves on the way that a region needs its planned bytes, and uses no other.
#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace io = heed::semihosting;

// The bytes of the model; model.cpp puts them where HEED_MODEL_SECTION says.
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

// A product writes the bytes that `heed plan MODEL --target CPU` prints.
#ifndef HEED_KV_CACHE_BYTES
#define HEED_KV_CACHE_BYTES (256 * 1024)
#endif
#ifndef HEED_SCRATCH_BYTES
#define HEED_SCRATCH_BYTES (16 * 1024)
#endif
#ifndef HEED_LOGITS_BYTES
#define HEED_LOGITS_BYTES (4 * 1024)
#endif
#ifndef HEED_KV_CACHE_SECTION
#define HEED_KV_CACHE_SECTION ".heed_kv_cache"
#endif
#ifndef HEED_SCRATCH_SECTION
#define HEED_SCRATCH_SECTION ".heed_scratch"
#endif
#ifndef HEED_LOGITS_SECTION
#define HEED_LOGITS_SECTION ".heed_logits"
#endif
alignas(64) __attribute__((section(HEED_KV_CACHE_SECTION))) std::byte g_kv_cache[HEED_KV_CACHE_BYTES];
alignas(64) __attribute__((section(HEED_SCRATCH_SECTION))) std::byte g_scratch[HEED_SCRATCH_BYTES];
alignas(64) __attribute__((section(HEED_LOGITS_SECTION))) std::byte g_logits[HEED_LOGITS_BYTES];
const heed::Span<std::byte> kMemories[heed::kRegionCount] = {g_kv_cache, g_scratch, g_logits};
const char* const kNames[heed::kRegionCount] = {"kv_cache ", "scratch ", "logits "};
constexpr std::byte kUnused{0xA5};

void require(bool holds, const char* what) {
  if (holds) return;
  io::put_text("refused: ");
  io::put_text(what);
  io::put_text("\n");
  io::exit(1);
}

bool is_ok(heed::Status status) { return status == heed::Status::ok; }

void put_place(const char* name, const void* address, std::uint64_t bytes) {
  io::put_text(name);
  io::put_decimal(static_cast<std::uint32_t>(bytes));
  io::put_text(" bytes at 0x");
  io::put_hex(reinterpret_cast<std::uintptr_t>(address));
  io::put_text("\n");
}

}  // namespace

int main() {
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  heed::Tokenizer tokenizer;
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  require(is_ok(heed::open(model, {heed_model_image, image_bytes}, kernels)), "open");
  require(is_ok(heed::make_plan(plan, model.config(), kernels.traits)), "plan");

  // Exactly the planned bytes of each memory; what lies behind them must stay as it is.
  for (const heed::Span<std::byte> memory : kMemories)
    for (std::byte& b : memory) b = kUnused;
  heed::Span<std::byte> blocks[heed::kRegionCount];
  for (int i = 0; i < heed::kRegionCount; ++i) {
    const auto bytes = static_cast<std::size_t>(plan.region(static_cast<heed::Region>(i)).bytes);
    require(bytes <= kMemories[i].size(), kNames[i]);
    blocks[i] = {kMemories[i].data(), bytes};
  }
  const auto created = [&] { return heed::create(session, model, plan, kernels, {blocks[0], blocks[1], blocks[2]}); };
  for (heed::Span<std::byte>& block : blocks) {  // one byte less is refused, and so is another alignment
    const heed::Span<std::byte> whole = block;
    block = whole.subspan(0, whole.size() - 1);
    require(created() == heed::Status::arena_too_small, "a byte less");
    block = {whole.data() + 1, whole.size()};
    require(created() == heed::Status::misaligned, "alignment");
    block = whole;
  }
  require(is_ok(created()), "create");

  heed::Token token = 1;
  const bool has_text = is_ok(heed::open(tokenizer, model.tokenizer(), model.config().main().vocab_size));
  if (has_text && tokenizer.bos() != heed::kNoToken) token = tokenizer.bos();
  heed::Span<const float> logits;
  heed::Digest digest;
  std::uint32_t generated = 0;
  bool goes_on = true;
  while (session.position() < 200 && session.position() < session.max_seq()) {
    require(is_ok(session.step(logits, token)), "step");
    token = static_cast<heed::Token>(kernels.argmax(logits.data(), model.config().main().vocab_size));
    if (!goes_on) continue;  // the text is complete; the memories are tried on
    digest.add(kernels, token, logits);
    ++generated;
    goes_on = !(has_text && tokenizer.ends_text(token));
  }
  for (int i = 0; i < heed::kRegionCount; ++i) {
    put_place(kNames[i], blocks[i].data(), blocks[i].size());
    for (std::size_t at = blocks[i].size(); at < kMemories[i].size(); ++at)
      require(kMemories[i][at] == kUnused, "a byte behind a region was written");
  }
  put_place("weights ", heed_model_image, image_bytes);
  put_place("code ", reinterpret_cast<const void*>(&require), 0);
  io::put_text("tokens ");
  io::put_decimal(generated);
  io::put_text("\ndigest ");
  io::put_hex(digest.value());
  io::put_text("\n");
  return digest.saw_nan() ? 1 : 0;
}
