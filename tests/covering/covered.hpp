// SPDX-License-Identifier: Apache-2.0
// covered.hpp: the models of the covering for programs that do not quantise, boards' among them: the records of a file of cases,
// which `cover_run --cases` writes, and every call of a session on one of them. No heap.
#pragma once
#include "runtime/digest.hpp"
#include "runtime/runtime.hpp"

namespace heed::test {

// Begins a record. Behind it stand the image and then each case: the source, of two stacks, and the input, each as the numbers
// of its tokens, of its token types and of its floats (u32), the tokens, the types, padded to a whole word, and the floats.
struct CoverHeader {
  std::uint32_t magic;
  std::uint32_t record_bytes;  // with this header, a multiple of 64
  std::uint32_t image_bytes;   // a multiple of 64
  std::uint32_t n_cases;
  std::uint32_t digest;        // of the outputs of all cases (SPEC.md 3.4), as this machine's best table has them
  char name[44];
};
static_assert(sizeof(CoverHeader) == 64, "the image behind it is aligned");
inline constexpr std::uint32_t kCoverMagic = 0x72766f63u;
// No sequence has more rows.
inline constexpr std::uint32_t kCoverRows = 256;
// A record of a model for boards, and its arena there.
inline constexpr std::uint32_t kCoverBoardRecordBytes = 512 * 1024, kCoverBoardArenaBytes = 512 * 1024;

// Reads the sequences of a record in place.
class CoverSequences {
 public:
  explicit CoverSequences(const std::uint8_t* at) : at_(at) {}
  Sequence next() {
    const std::uint32_t tokens = word(), types = word(), floats = word();
    Sequence s;
    s.tokens = {reinterpret_cast<const Token*>(take(4 * tokens)), tokens};
    s.token_types = {take((types + 3) / 4 * 4), types};
    s.vectors = {reinterpret_cast<const float*>(take(4 * floats)), floats};
    return s;
  }

 private:
  const std::uint8_t* take(std::uint32_t bytes) {
    const std::uint8_t* taken = at_;
    at_ += bytes;
    return taken;
  }
  std::uint32_t word() { return *reinterpret_cast<const std::uint32_t*>(take(4)); }

  const std::uint8_t* at_;
};

// A record in memory that is aligned to 64 bytes and outlives the session. What fails is said in a few words, null otherwise.
class CoveredModel {
 public:
  CoveredModel(const std::uint8_t* record, const Kernels& kernels) : record_(record), kernels_(kernels) {}
  CoveredModel(const CoveredModel&) = delete;
  const CoverHeader& header() const { return *reinterpret_cast<const CoverHeader*>(record_); }
  const Plan& plan() const { return plan_; }

  const char* open(const Limits& limits) {
    if (header().magic != kCoverMagic) return "no record";
    if (heed::open(model_, {record_ + sizeof(CoverHeader), header().image_bytes}, kernels_) != Status::ok) return "open";
    return make_plan(plan_, model_.config(), kernels_.traits, limits) == Status::ok ? nullptr : "make_plan";
  }

  // `arena` has exactly the planned bytes.
  const char* create(Span<std::byte> arena) {
    if (arena.size() != plan_.arena_bytes) return "the arena's size";
    if (heed::create(session_, model_, plan_, kernels_, arena.subspan(0, arena.size() - 1)) != Status::arena_too_small)
      return "an arena of one byte less";
    return heed::create(session_, model_, plan_, kernels_, arena) == Status::ok ? nullptr : "create";
  }

  // The same in a block for each region, of what plan.region says.
  const char* create(const SessionMemory& memory) {
    const Span<std::byte> blocks[] = {memory.kv_cache, memory.scratch, memory.logits};
    for (int r = 0; r < kRegionCount; ++r) {
      const Region region = static_cast<Region>(r);
      const Span<std::byte> block = blocks[r];
      if (block.size() != plan_.region(region).bytes) return "a region's size";
      if (check_region(plan_, region, block.subspan(0, block.size() - 1)) != Status::arena_too_small)
        return "a region of one byte less";
    }
    return heed::create(session_, model_, plan_, kernels_, memory) == Status::ok ? nullptr : "create in regions";
  }

  // Between `create` and `run`.
  Session& session() { return session_; }

  // All cases, by each call that gives outputs: they must agree in every bit.
  const char* run(std::uint32_t& digest) {
    CoverSequences sequences(record_ + sizeof(CoverHeader) + header().image_bytes);
    digest_ = {};
    for (std::uint32_t i = 0; i < header().n_cases; ++i) {
      if (model_.config().n_stacks == 2 && session_.set_source(sequences.next()) != Status::ok) return "set_source";
      const Sequence input = sequences.next();
      n_rows_ = 0;
      const char* wrong = model_.config().main().use == Use::encode ? encode(input) : generate(input.tokens);
      if (wrong) return wrong;
    }
    digest = digest_.value();
    return digest_.saw_nan() ? "a NaN" : nullptr;
  }

 private:
  std::uint32_t crc(Span<const float> row) const { return kernels_.crc32c(0, row.data(), row.size() * sizeof(float)); }
  RowSink sink() {
    return {[](void* self, std::uint32_t position, Span<const float> row) {
              static_cast<CoveredModel*>(self)->add(position, row);
            },
            this};
  }
  void add(std::uint32_t position, Span<const float> row) {
    digest_.add_row(kernels_, position, row);
    if (n_rows_ < kCoverRows) crcs_[n_rows_] = crc(row);
    ++n_rows_;
  }

  const char* encode(const Sequence& input) {
    if (session_.encode(input, sink()) != Status::ok || n_rows_ == 0 || n_rows_ > kCoverRows) return "encode";
    if (model_.config().main().pooling == Pooling::every) return nullptr;
    Span<const float> row;
    if (session_.encode(row, input) != Status::ok) return "encode of one row";
    return crc(row) == crcs_[0] ? nullptr : "encode of one row differs";
  }

  const char* generate(Span<const Token> tokens) {
    if (session_.rewind(0) != Status::ok) return "rewind";
    if (session_.evaluate(tokens, sink()) != Status::ok || n_rows_ != tokens.size() || n_rows_ > kCoverRows)
      return "evaluate";
    Span<const float> logits;
    if (session_.rewind(0) != Status::ok) return "rewind behind evaluate";
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (session_.step(logits, tokens[i]) != Status::ok) return "step";
      if (crc(logits) != crcs_[i]) return "step differs from evaluate";
    }
    if (session_.rewind(0) != Status::ok) return "rewind behind step";
    for (std::size_t done = 0, piece = 1; done < tokens.size(); ++piece) {  // pieces of 1, 2, 3, 4, ...
      const std::size_t n = piece < tokens.size() - done ? piece : tokens.size() - done;
      if (session_.prefill(logits, tokens.subspan(done, n)) != Status::ok) return "prefill";
      done += n;
      if (crc(logits) != crcs_[done - 1]) return "prefill differs from evaluate";
    }
    return nullptr;
  }

  const std::uint8_t* record_;
  const Kernels& kernels_;
  Model model_;
  Plan plan_;
  Session session_;
  Digest digest_;
  std::uint32_t crcs_[kCoverRows], n_rows_ = 0;  // of the present case
};

}  // namespace heed::test
