// SPDX-License-Identifier: Apache-2.0
// stream_test.cpp: a model goes from its file to an image block by block: in little memory, the same bytes for any number of
// threads, and nothing left behind when it fails.
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>

#include "platform/linux/thread_pool.hpp"
#include "quant/convert.hpp"
#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

// Bytes that the program has from the heap, and the most that it had since somebody asked.
namespace {
std::atomic<std::int64_t> in_use{0}, most_in_use{0};

void* counted(void* p) {
  if (!p) std::abort();
  const std::int64_t now = in_use.fetch_add(static_cast<std::int64_t>(malloc_usable_size(p))) +
                           static_cast<std::int64_t>(malloc_usable_size(p));
  std::int64_t most = most_in_use.load();
  while (now > most && !most_in_use.compare_exchange_weak(most, now)) {
  }
  return p;
}
void release(void* p) {
  if (p) in_use.fetch_sub(static_cast<std::int64_t>(malloc_usable_size(p)));
  std::free(p);
}
}  // namespace

void* operator new(std::size_t n) { return counted(std::malloc(n ? n : 1)); }
void* operator new(std::size_t n, std::align_val_t align) {
  const auto a = static_cast<std::size_t>(align);
  return counted(std::aligned_alloc(a, (n + a) / a * a));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }

namespace {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "heed-stream-XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  ~Folder() {
    std::error_code code;
    std::filesystem::remove_all(path_, code);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::size_t count() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

void save(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
void save(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  save(path, std::string(bytes.begin(), bytes.end()));
}

std::vector<std::uint8_t> bytes_of(const std::string& path) {
  SourceFile file;
  REQUIRE_FALSE(file.open(path));
  return {file.bytes().begin(), file.bytes().end()};
}

constexpr std::int64_t kTableBytes = 16 << 20;  // of 16,384 tokens, 512 dimensions, two bytes

// A model in bfloat16 of which nearly all is one table. Its file is a hole, so its weights are zeros.
void write_wide_model(const Folder& folder) {
  save(folder.file("model.json"),
       R"({"heed":2,"stacks":[{"d_model":512,"d_ff":4,"n_layers":1,"n_heads":1,"head_dim":4,"max_seq":8,)"
       R"("vocab_size":16384,"tied_unembedding":true,"activation":"silu"}]})");
  std::string header = "{";
  std::int64_t end = 0;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    const std::string shape = rows ? std::to_string(rows) + "," + std::to_string(cols) : std::to_string(cols);
    const std::int64_t begin = end;
    end += 2 * std::max<std::int64_t>(rows, 1) * cols;
    header += (header.size() > 1 ? ",\"stacks.0." : "\"stacks.0.") + name + R"(":{"dtype":"BF16","shape":[)" + shape +
              "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  add("token_embedding", 16384, 512);
  for (const char* gain : {"layers.0.attention_gain", "layers.0.ffn_gain", "final_gain"}) add(gain, 0, 512);
  for (const char* name : {"w_query", "w_key", "w_value_down", "w_up"}) add(std::string("layers.0.") + name, 4, 512);
  for (const char* name : {"w_value_up", "w_down"}) add(std::string("layers.0.") + name, 512, 4);
  header += "}";
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 255);
  save(folder.file("model.safetensors"), length + header);
  std::filesystem::resize_file(folder.file("model.safetensors"), 8 + header.size() + static_cast<std::size_t>(end));
}

ConvertOptions wide_options(const Folder& folder) {
  ConvertOptions options;
  options.read.description = folder.file("model.json");
  options.quantize.measure = false;
  return options;
}

// The heap that `work` takes beyond what there was.
template <class F>
std::int64_t most_taken_by(F&& work) {
  const std::int64_t before = in_use.load();
  most_in_use.store(before);
  work();
  return most_in_use.load() - before;
}

}  // namespace

TEST_CASE("without measurements a conversion takes a few blocks of rows, however large the largest tensor is") {
  const Folder folder;
  write_wide_model(folder);
  ThreadPool pool;
  REQUIRE(pool.start(2));
  ConvertOptions options = wide_options(folder);
  options.parallel = pool.parallel();
  for (int i = 0; i < kLayoutCount; ++i) {
    options.layout = static_cast<Layout>(i);
    ConvertReport report;
    const std::int64_t taken = most_taken_by([&] {
      const Error error = convert_file(folder.file("out.heed"), report, folder.file("model.safetensors"), "", options,
                                       kernels_portable);
      INFO(error.sentence());
      REQUIRE_FALSE(error);
    });
    INFO("layout " << i << " took " << taken);
    CHECK(report.image_bytes > kTableBytes / 2);
    // block64 keeps one tensor of the image: its rows lie apart.
    CHECK(taken < (options.layout == Layout::block64 ? kTableBytes / 2 : 0) + (4 << 20));
  }
  // That the meter sees an image that stands in memory.
  ImageBytes image;
  ConvertReport report;
  CHECK(most_taken_by([&] {
          REQUIRE_FALSE(convert(image, report, folder.file("model.safetensors"), "", options, kernels_portable));
        }) > kTableBytes / 2);
  CHECK(std::vector<std::uint8_t>(image.begin(), image.end()) == bytes_of(folder.file("out.heed")));
  // Another layout of an image: no more than its largest tensor, as it is and as it becomes.
  ConvertOptions relaid;
  relaid.layout = Layout::row;
  CHECK(most_taken_by([&] {
          REQUIRE_FALSE(convert_file(folder.file("row.heed"), report, folder.file("out.heed"), "", relaid, kernels_portable));
        }) < kTableBytes + (4 << 20));
}

TEST_CASE("an image has the same bytes for any number of threads, in memory or streamed") {
  const Folder folder;
  const std::string source = folder.file("model.bin");
  StackConfig config = test::small_config(false);
  config.vocab_size = config.n_outputs = 7000;  // three blocks of rows
  save(source, test::checkpoint_bytes(golden::numbered_model(config, 5), 0));
  ThreadPool two, three;
  REQUIRE((two.start(2) && three.start(3)));
  for (int i = 0; i < 2 * kLayoutCount; ++i) {
    ConvertOptions options;
    options.layout = static_cast<Layout>(i / 2);
    options.quantize.measure = i % 2 == 0;
    options.quantize.run_whole = false;  // below, where it takes less
    if (i % 2) options.quantize.group = 32;
    std::vector<std::uint8_t> first;
    for (const Parallel& parallel : {Parallel{}, two.parallel(), three.parallel()}) {
      options.parallel = parallel;
      options.parallel.threshold = 0;
      ConvertReport report;
      REQUIRE_FALSE(convert_file(folder.file("out.heed"), report, source, "", options, kernels_portable));
      const std::vector<std::uint8_t> bytes = bytes_of(folder.file("out.heed"));
      CHECK(report.image_bytes == bytes.size());
      if (first.empty()) first = bytes;
      CHECK(bytes == first);
    }
    ImageBytes image;
    ConvertReport report;
    REQUIRE_FALSE(convert(image, report, source, "", options, kernels_portable));
    CHECK(std::vector<std::uint8_t>(image.begin(), image.end()) == first);
  }
}

TEST_CASE("running the whole model decides the same for any number of threads, and says so before the image is written") {
  const Folder folder;
  const std::string source = folder.file("model.bin");
  FloatModel model = golden::numbered_model(test::small_config(false), 5);
  for (const Role role : {Role::w_up, Role::w_down}) {  // for the passes
    std::vector<double> factors(model.config.main().d_ff, 1.0);
    factors[3] = role == Role::w_up ? 200.0 : 1.0 / 200.0;
    for (std::uint32_t layer = 0; layer < model.config.main().n_layers; ++layer)
      role == Role::w_up ? model.scale_rows(role, layer, 0, factors) : model.scale_columns(role, layer, 0, factors);
  }
  save(source, test::checkpoint_bytes(model, 0));
  ThreadPool three;
  REQUIRE(three.start(3));
  std::vector<std::uint8_t> first;
  for (const Parallel& parallel : {Parallel{}, three.parallel()}) {
    ConvertOptions options;
    options.parallel = parallel;
    options.parallel.threshold = 0;
    double last = 0.0;
    bool rises = true;
    options.quantize.progress = [&](double share) {
      rises = rises && share >= last && share <= 1.0;
      last = share;
    };
    ConvertReport report;
    REQUIRE_FALSE(convert_file(folder.file("out.heed"), report, source, "", options, kernels_portable));
    const std::vector<std::uint8_t> bytes = bytes_of(folder.file("out.heed"));
    if (first.empty()) first = bytes;
    CHECK(bytes == first);
    CHECK(rises);
    CHECK(last > 0.99);
    CHECK_FALSE(report.quantize.passes.empty());
    CHECK(report.quantize.fidelity.kl < 0.5 * report.quantize.decided_before.kl);
    bool is_said = false;
    for (const auto& [key, value] : report.metadata)
      is_said = is_said || (key == "rewritten" && value.find("scale_up") != std::string::npos);
    CHECK(is_said);
  }
}

TEST_CASE("without measurements: one scale per row or the groups asked for, gains folded, no key offsets, no errors of outputs") {
  const Folder folder;
  const std::string source = folder.file("model.bin"), output = folder.file("out.heed");
  for (const bool tied : {false, true}) {
    save(source, test::checkpoint_bytes(golden::numbered_model(test::small_config(tied), 5), 0));
    ConvertOptions options;
    options.quantize.measure = false;
    std::vector<double> shares;
    options.quantize.progress = [&](double share) { shares.push_back(share); };
    ConvertReport report;
    REQUIRE_FALSE(convert_file(output, report, source, "", options, kernels_portable));
    const StackConfig& c = report.config.main();
    CHECK((c.flags & kKeyOffset) == 0);
    CHECK((c.flags & kAttentionGainFolded) != 0);
    CHECK((c.flags & kFfnGainFolded) != 0);
    CHECK(((c.flags & kFinalGainFolded) == 0) == tied);  // whose matrix gives the embeddings as well
    CHECK(c.group(Site::down_in) == 0);
    CHECK_FALSE(report.quantize.measured);
    for (const auto& [key, value] : report.metadata) {
      CHECK(key.find("output_error") == std::string::npos);
      if (key == "key_offset") CHECK(value == "none");
      if (key == "weight_error") CHECK(value != "0.00e+00");
    }
    CHECK(std::is_sorted(shares.begin(), shares.end()));
    CHECK(shares.back() == 1.0);
    options.quantize.group = 64;
    REQUIRE_FALSE(convert_file(output, report, source, "", options, kernels_portable));
    CHECK(report.config.main().group(Site::down_in) == 64);
  }
  ConvertOptions options;
  options.quantize.measure = false;
  ConvertReport report;
  CHECK(convert_file(output, report, output, "", options, kernels_portable).sentence().find("an image keeps its groups") !=
        std::string::npos);
}

TEST_CASE("a conversion that fails leaves what was there and nothing else") {
  const Folder folder;
  const std::string source = folder.file("model.bin"), output = folder.file("out.heed");
  FloatModel model = golden::numbered_model(test::small_config(true), 5);
  model.own(Role::w_down, 1, std::vector<float>(24 * 40, 1.0e12f));
  model.own(Role::w_key, 1, std::vector<float>(24 * 12, 1.0e12f));
  model.own(Role::attention_gain, 1, std::vector<float>(24, 1.0e6f));  // together above what a scale may be
  save(source, test::checkpoint_bytes(model, 0));
  save(output, std::string("kept"));
  ConvertOptions options;
  options.quantize.measure = false;
  ConvertReport report;
  const Error error = convert_file(output, report, source, "", options, kernels_portable);
  CHECK(error.sentence() == source + ": w_key of layer 1: its numbers are too large for an image");
  CHECK(bytes_of(output) == std::vector<std::uint8_t>{'k', 'e', 'p', 't'});
  CHECK(folder.count() == 2);
  const Error nowhere = convert_file(folder.file("no/out"), report, source, "", options, kernels_portable);
  CHECK(nowhere.sentence() == folder.file("no/out") + ": cannot be written: no such folder");
}
