// SPDX-License-Identifier: Apache-2.0
// fuzz_gguf.cpp: any bytes as a GGUF file of one or two parts: refused with one sentence, or quantised to an image that
// opens; and in neither case more memory than a small multiple of the file. Input: u32 length of the second part, which
// stands behind the first; 0 = one part.
#include <cstdint>
#include <cstdlib>
#include <new>

#include "quant/quantize.hpp"
#include "quant/readers/gguf_models.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

namespace {

std::size_t allocated = 0;  // all bytes ever asked for

void require(bool condition) {
  if (!condition) std::abort();
}

// One line, whatever names the file has.
bool refused(const heed::quant::Error& error) {
  require(error.sentence().find('\n') == std::string::npos);
  return static_cast<bool>(error);
}

// Decoded blocks of Q2_K are twelve times as large as stored ones; a tensor's description is at least 33 bytes, and its
// entries in memory some hundred. Tables of refused names and a layer's list of tensors have their own size.
constexpr std::size_t kMostTimes = 64, kMostBeside = 512u << 10;

void read(heed::quant::FloatModel& model, heed::Span<const std::uint8_t> first, heed::Span<const std::uint8_t> second,
          bool& good) {
  using namespace heed::quant;
  GgufFile file;
  good = !refused(file.add(first)) && (second.empty() || !refused(file.add(second))) && !refused(file.finish()) &&
         !refused(read_gguf(model, file));
  for (const GgufTensor& t : file.tensors()) require(file.find(t.name) == &t);
}

}  // namespace

void* operator new(std::size_t n) {
  allocated += n;
  void* const p = std::malloc(n ? n : 1);
  if (!p) std::abort();
  return p;
}
void* operator new[](std::size_t n) { return operator new(n); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return operator new(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return operator new(n); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heed;
  using namespace heed::quant;
  if (size < 4) return 0;
  const Span<const std::uint8_t> input{data + 4, size - 4};
  std::size_t wanted = 0;
  for (int i = 3; i >= 0; --i) wanted = wanted << 8 | data[i];
  const std::size_t split = input.size() - (wanted < input.size() ? wanted : 0);
  const std::size_t before = allocated;
  bool good = false;
  FloatModel model;
  read(model, input.subspan(0, split), input.subspan(split, input.size() - split), good);
  require(allocated - before <= kMostBeside + kMostTimes * input.size());
  if (!good) return 0;
  QuantizedModel result;
  QuantizeReport report;
  QuantizeOptions options;
  options.measure = false;
  if (refused(quantize_model(result, report, model, Layout::row, options, kernels_portable))) return 0;
  ImageBytes image;
  write_image(image, result.config, *result.tensors, {}, {}, kernels_portable);
  Model opened;
  require(open(opened, {image.data(), image.size()}, kernels_portable) == Status::ok);
  require(verify(opened, kernels_portable) == Status::ok);
  return 0;
}
