// SPDX-License-Identifier: Apache-2.0
// differential.cpp: random cases on every table that runs here, each against tests/reference's oracle and so against
// each other, bit by bit.
//   differential [--count N] [--seed S] [--kind NAME] [--table NAME]
//   differential --deviations N     breaks each rule of SPEC.md, part 2, once: N cases must tell each from portable
//   differential --write FILE --layout N [--count N]   models and their answers for a board (board_cases.cpp)
//   differential --images FOLDER    the oracle against golden/spec_cases.txt (reference/write_cases.sh writes FOLDER)
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "tests/differential/board_cases.hpp"
#include "tests/differential/model_cases.hpp"
#include "tests/reference/spec_model.hpp"

namespace heed {
#if defined(__x86_64__)
extern const Kernels kernels_avxvnni_evex;  // what a CPU without AVX-VNNI, but with AVX-512, runs of it
#endif
}  // namespace heed

namespace heed::differential {

Span<const CaseKind> case_kinds() {
  static constexpr CaseKind kinds[] = {
      {"quantise", make_quantise, 12}, {"norm", make_norm, 17},           {"gate", make_gate, 21},
      {"product", make_product, 6},    {"attention", make_attention, 12}, {"sampling", make_sampling, 8},
      {"digest", make_digest, 2},      {"model", make_model, 22},
  };
  return kinds;
}

namespace {

struct Options {
  std::uint64_t seed = 1;
  long count = 20000, deviations = 0;
  int layout = 1;
  std::string kind, table, images, write;
};

// The kind of a case, from its seed.
const CaseKind& kind_of(std::uint64_t seed, const std::string& name) {
  Random random(seed * 0x9E3779B97F4A7C15u + 5);
  std::uint32_t draw = random.below(100);
  for (const CaseKind& k : case_kinds()) {
    if (name.empty() ? draw < k.share : name == k.name) return k;
    draw -= k.share;
  }
  std::fprintf(stderr, "differential: no kind %s\n", name.c_str());
  std::exit(2);
}

std::vector<const Kernels*> tables(const std::string& only) {
  std::vector<const Kernels*> list;
  for (const Kernels* k : all_kernels())
    if (is_runnable(*k) && (only.empty() || only == k->traits.name)) list.push_back(k);
#if defined(__x86_64__)
  if (!find_kernels("avxvnni") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && (only.empty() || only == kernels_avxvnni_evex.traits.name))
    list.push_back(&kernels_avxvnni_evex);
#endif
  return list;
}

// The first place where a run differs, or its size.
std::size_t difference(const Words& got, const Words& want, long& compared) {
  if (got.size() != want.size()) return 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == kUnseen) continue;
    ++compared;
    if (got[i] != want[i]) return i;
  }
  return got.size();
}

struct Counts {
  long runs = 0, words = 0, different = 0;
};

int compare(const Options& o) {
  const std::vector<const Kernels*> list = tables(o.table);
  if (list.empty()) return std::fprintf(stderr, "differential: no such table here\n"), 2;
  std::map<std::string, std::map<std::string, Counts>> by_kind;  // kind, table
  std::map<std::string, Counts> by_table;
  long failed = 0;
  const auto start = std::chrono::steady_clock::now();
  for (long i = 0; i < o.count; ++i) {
    const std::uint64_t seed = o.seed + static_cast<std::uint64_t>(i);
    const CaseKind& kind = kind_of(seed, o.kind);
    const std::unique_ptr<Case> c = kind.make(seed);
    const Words want = c->oracle();
    for (const Kernels* k : list) {
      if (!c->takes(*k)) continue;
      Random how(seed ^ spec::crc32c(0, k->traits.name, std::strlen(k->traits.name)));
      const Words got = c->run(*k, how);
      Counts& n = by_kind[kind.name][k->traits.name];
      ++n.runs;
      const std::size_t at = difference(got, want, n.words);
      if (at == got.size() && got.size() == want.size()) continue;
      ++n.different;
      if (++failed > 10) continue;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      std::printf("DIFFERS after %.1f s: value %zu of %zu is %08" PRIx64 ", the oracle's %08" PRIx64
                  "\n  bin/differential --kind %s --seed %" PRIu64 " --count 1 --table %s\n",
                  seconds, at, want.size(), at < got.size() ? got[at] : 0, at < want.size() ? want[at] : 0, kind.name,
                  seed, k->traits.name);
      std::fflush(stdout);
    }
  }
  std::printf("cases by kind and runs by table; a run's values are all compared\n");
  long runs = 0, words = 0;
  for (const auto& kind : by_kind) {
    std::printf("  %-10s", kind.first.c_str());
    for (const auto& table : kind.second) {
      std::printf(" %s %ld (%ld values)", table.first.c_str(), table.second.runs, table.second.words);
      Counts& all = by_table[table.first];
      all.runs += table.second.runs;
      all.words += table.second.words;
      all.different += table.second.different;
    }
    std::printf("\n");
  }
  for (const auto& table : by_table) {
    std::printf("  %-12s %ld runs, %ld values compared, %ld runs differ\n", table.first.c_str(), table.second.runs,
                table.second.words, table.second.different);
    runs += table.second.runs;
    words += table.second.words;
  }
  std::printf("%ld cases, %ld runs, %ld values compared, %ld runs differ\n", o.count, runs, words, failed);
  return failed != 0 || runs == 0;
}

// Each rule broken once in the oracle, until a case tells it from portable.
int break_rules(const Options& o) {
  const Kernels& portable = *find_kernels("portable");
  struct Found {
    std::string kind;
    std::uint64_t seed = 0;
  };
  constexpr int kRules = static_cast<int>(spec::Deviation::count);
  std::vector<Found> found(kRules);
  int left = kRules - 1;
  for (long i = 0; i < o.deviations && left > 0; ++i) {
    const std::uint64_t seed = o.seed + static_cast<std::uint64_t>(i);
    const CaseKind& kind = kind_of(seed, o.kind);
    const std::unique_ptr<Case> c = kind.make(seed);
    if (!c->takes(portable)) continue;
    Random how(seed);
    const Words got = c->run(portable, how);
    for (int d = 0; d < kRules; ++d) {
      if (!found[static_cast<std::size_t>(d)].kind.empty()) continue;
      spec::broken = static_cast<spec::Deviation>(d);
      const Words want = c->oracle();
      spec::broken = spec::Deviation::none;
      long compared = 0;
      const bool differs = got.size() != want.size() || difference(got, want, compared) != got.size();
      if (!differs) continue;
      if (d == 0)
        return std::fprintf(stderr, "differential: portable differs at --kind %s --seed %" PRIu64 "\n", kind.name,
                            seed),
               1;
      found[static_cast<std::size_t>(d)] = {kind.name, seed};
      --left;
    }
  }
  for (int d = 1; d < kRules; ++d) {
    const spec::DeviationText& text = spec::text_of(static_cast<spec::Deviation>(d));
    const Found& f = found[static_cast<std::size_t>(d)];
    if (f.kind.empty())
      std::printf("NOT FOUND %-5s %s: %s\n", text.section, text.name, text.meaning);
    else
      std::printf("found     %-5s %-30s by %-9s seed %" PRIu64 "\n", text.section, text.name, f.kind.c_str(), f.seed);
  }
  std::printf("%d rules broken, %d found in up to %ld cases\n", kRules - 1, kRules - 1 - left, o.deviations);
  return left != 0;
}

// Models of one layout with the oracle's answers, as board_cases.cpp reads them: u32 words, images padded to 64 bytes.
class CaseFile {
 public:
  explicit CaseFile(const char* path) : file_(std::fopen(path, "wb")) {}
  bool is_open() const { return file_ != nullptr; }
  bool close() { return std::fclose(file_) == 0 && ok_; }
  void put(std::uint64_t word) {
    const auto w = static_cast<std::uint32_t>(word);
    put_bytes(&w, 4);
  }
  void put_bytes(const void* data, std::size_t bytes) { ok_ &= bytes == 0 || std::fwrite(data, bytes, 1, file_) == 1; }
  void put(const Inputs& inputs) {
    for (const std::uint64_t word :
         {std::uint64_t{inputs.n}, std::uint64_t{inputs.width}, std::uint64_t{inputs.types.size()}})
      put(word);
    put_bytes(inputs.tokens.data(), 4 * inputs.tokens.size());
    for (const std::uint8_t type : inputs.types) put(type);
    put_bytes(inputs.vectors.data(), 4 * inputs.vectors.size());
  }

 private:
  std::FILE* file_;
  bool ok_ = true;
};

bool fits_a_board(const Inputs& inputs) { return inputs.n <= kBoardInputs && inputs.vectors.size() <= kBoardFloats; }

// The rows that a stretch gives.
std::size_t rows_of(const StackConfig& c, const Stretch& s) {
  if (c.use == Use::generate) return s.inputs.n;
  return c.pooling == Pooling::every ? positions_of(c, s.inputs.n) : 1;
}

int write_cases(const Options& o) {
  CaseFile file(o.write.c_str());
  if (!file.is_open()) return std::fprintf(stderr, "differential: cannot write %s\n", o.write.c_str()), 2;
  long written = 0;
  for (std::uint64_t seed = o.seed; written < o.count; ++seed) {
    ModelCase c(seed, true, false, static_cast<Layout>(o.layout));
    bool fits = c.image.size() <= kBoardImageBytes && c.arena_bytes() <= kBoardArenaBytes;
    for (const Stretch& s : c.stretches) fits = fits && fits_a_board(s.inputs);
    for (const Inputs& source : c.sources) fits = fits && fits_a_board(source);
    if (!fits) continue;
    const Words crcs = c.oracle();
    c.image.resize((c.image.size() + 63) / 64 * 64);
    for (const std::uint64_t word :
         {std::uint64_t{kBoardMagic}, seed, std::uint64_t{c.image.size()}, std::uint64_t{c.max_seq},
          std::uint64_t{c.source_seq}, std::uint64_t{c.stretches.size()}})
      file.put(word);
    file.put_bytes(c.image.data(), c.image.size());
    std::size_t at = 0;
    for (const Stretch& s : c.stretches) {
      file.put(s.position);
      file.put(s.source >= 0);
      if (s.source >= 0) file.put(c.sources[static_cast<std::size_t>(s.source)]);
      file.put(s.inputs);
      const std::size_t rows = rows_of(c.config.main(), s);
      file.put(rows);
      for (std::size_t i = 0; i < rows; ++i) file.put(crcs[at++]);
    }
    ++written;
  }
  return file.close() ? 0 : 2;
}

// Inputs 0 .. n - 1 of a stack, as reference/make_random_image.py has them.
spec::Sequence numbered_inputs(const spec::Config& c, std::int64_t n) {
  spec::Sequence s;
  for (std::int64_t i = 0; i < n; ++i) {
    if (c.input == 0) {
      s.tokens.push_back(static_cast<std::int32_t>((7 * i + 3) % c.vocab_size));
      s.types.push_back(static_cast<int>(i % std::max<std::int64_t>(1, c.n_token_types)));
      continue;
    }
    std::vector<float> x;
    for (std::int64_t d = 0; d < (c.d_input ? c.d_input : c.d_model); ++d)
      x.push_back(static_cast<float>((131 * i + 37 * d) % 255 - 127) / 64.0f);
    s.vectors.push_back(x);
  }
  return s;
}

// The oracle against the Python that was written from SPEC.md alone.
int check_images(const std::string& folder) {
  constexpr std::int64_t kInputs = 70, kPositions[] = {0, 1, 63, 64, 69};
  std::FILE* file = std::fopen(HEED_SOURCE_DIR "/tests/golden/spec_cases.txt", "r");
  if (!file) return std::fprintf(stderr, "no tests/golden/spec_cases.txt\n"), 2;
  char line[256];
  int passed = 0, failed = 0;
  while (std::fgets(line, sizeof line, file)) {
    unsigned seed, image_crc, crc[5];
    if (std::sscanf(line, "%u %x %x %x %x %x %x", &seed, &image_crc, &crc[0], &crc[1], &crc[2], &crc[3], &crc[4]) != 7)
      continue;
    MappedFile image;
    const char* error = image.open((folder + "/" + std::to_string(seed) + ".heed").c_str());
    bool right = !error && spec::crc32c(0, image.bytes().data(), image.bytes().size()) == image_crc;
    if (right) {
      spec::Model model(image.bytes().data(), image.bytes().size());
      const spec::Config& c = model.config();
      if (c.cross_attention) model.set_source(numbered_inputs(model.source_config(), kInputs));
      std::int64_t position = 0;
      for (int i = 0; i < 5; ++i) {
        std::vector<float> row;
        if (c.use == 1)
          row = model.encode(numbered_inputs(c, kPositions[i] + 1)).back();
        else
          for (; position <= kPositions[i]; ++position)
            row = model.step(static_cast<std::int32_t>((7 * position + 3) % c.vocab_size));
        right &= spec::crc32c(0, row.data(), row.size() * 4) == crc[i];
      }
    }
    ++(right ? passed : failed);
    if (!right) std::printf("FAILED: seed %u%s%s\n", seed, error ? ": " : "", error ? error : "");
  }
  std::fclose(file);
  std::printf("the oracle: %d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (value.empty()) return std::fprintf(stderr, "differential: %s needs a value\n", name.c_str()), 2;
    if (name == "--count")
      o.count = std::atol(value.c_str());
    else if (name == "--seed")
      o.seed = std::strtoull(value.c_str(), nullptr, 10);
    else if (name == "--kind")
      o.kind = value;
    else if (name == "--table")
      o.table = value;
    else if (name == "--deviations")
      o.deviations = std::atol(value.c_str());
    else if (name == "--write")
      o.write = value;
    else if (name == "--layout")
      o.layout = std::atoi(value.c_str());
    else if (name == "--images")
      o.images = value;
    else
      return std::fprintf(stderr, "differential: unknown option %s\n", name.c_str()), 2;
  }
  if (!o.write.empty()) return write_cases(o);
  if (!o.images.empty()) return check_images(o.images);
  return o.deviations ? break_rules(o) : compare(o);
}

}  // namespace
}  // namespace heed::differential

int main(int argc, char** argv) { return heed::differential::main(argc, argv); }
