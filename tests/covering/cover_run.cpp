// SPDX-License-Identifier: Apache-2.0
// cover_run.cpp: models of a description through heed, floats and int8, against the outputs that were written beside them.
//
//   cover_run [options] MODEL...
//
// MODEL is a folder with model.json, weights.safetensors and inputs.json (tests/reference/covering.py), or the three paths
// with commas between them. Prints a line of JSON per model: the largest difference of the float reference, as a share of
// the largest output; of the int8 outputs the cosine with the expected ones at each position, smallest, median and mean of all
// cases, and the digest (SPEC.md 3.4); of both, in how many rows the largest output is the expected one.
//   --out OUT         writes OUT/NAME.float.N.f32 and OUT/NAME.int8.N.f32, the outputs [rows, columns] of case N as raw float32,
//                     and OUT/NAME.heed
//   --kernels NAME    the kernel table (default: the best of this machine)
//   --chunk N         positions that go through the layers together (default: the table's)
//   --group G         columns per group, 0 = one scale per row (default: measured)
//   --value-map FORM  factors or undivided (default: the cheaper one)
//   --float           no int8
//   --int8            no floats
//   --changes         also the cosines of what each sublayer adds to the residual stream, at each position; the int8 numbers are
//                     those of the oracle from SPEC.md, and fail unless its outputs have the same digest. Needs floats and int8
//   --cases FILE      puts the models, their cases and digests behind what is in FILE (cover_digests.cpp, cover_board.cpp),
//   --layout N        with images in this layout, as SPEC.md part 4 counts them (default: the table's)
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "platform/select.hpp"
#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "runtime/runtime.hpp"
#include "tests/covering/cover_changes.hpp"
#include "tests/covering/cover_inputs.hpp"
#include "tests/covering/covered.hpp"

namespace {

using namespace heed;
namespace fs = std::filesystem;

struct Options {
  std::string out;
  const Kernels* kernels = &best_kernels();
  std::uint32_t chunk = 0;
  quant::ConvertOptions convert;
  bool floats = true, int8 = true, changes = false;
  std::FILE* cases = nullptr;
  std::optional<Layout> cases_layout;
};

struct ModelPaths {
  std::string name, description, weights, inputs;
};

ModelPaths paths_of(const std::string& model) {
  const std::size_t first = model.find(','), second = model.find(',', first + 1);
  if (first == std::string::npos || second == std::string::npos)
    return {fs::path(model).filename().string(), model + "/model.json", model + "/weights.safetensors",
            model + "/inputs.json"};
  const std::string description = model.substr(0, first);
  return {fs::path(description).stem().string(), description, model.substr(first + 1, second - first - 1),
          model.substr(second + 1)};
}

bool fail(const std::string& what) {
  std::fprintf(stderr, "cover_run: %s\n", what.c_str());
  return false;
}

bool write_bytes(const std::string& path, Span<const std::uint8_t> bytes) {
  const quant::Error error = quant::write_file(path, bytes);
  return !error || fail(error.sentence());
}

bool write_floats(const Options& options, const std::string& name, std::size_t i, Span<const float> x) {
  return options.out.empty() || write_bytes(options.out + "/" + name + "." + std::to_string(i) + ".f32",
                                            {reinterpret_cast<const std::uint8_t*>(x.data()), x.size() * sizeof(float)});
}

struct FloatResult {
  double difference = 0.0;
  std::size_t same_largest = 0;
};

bool run_float(FloatResult& result, test::ChangeCosines& changes, const Options& options, const ModelPaths& paths,
               const std::vector<test::CoverCase>& cases) {
  quant::FloatModel model;
  quant::ReadOptions read;
  read.description = paths.description;
  if (const quant::Error error = quant::read_model(model, paths.weights, read)) return fail(error.sentence());
  quant::FloatReference reference(model, model.config.main().max_seq);
  if (options.changes) changes.watch(reference);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const test::CoverCase& c = cases[i];
    changes.begin_case(static_cast<std::uint32_t>(i));
    if (reference.source_stack() && !reference.set_source(c.source)) return fail(paths.name + ": the source does not fit");
    const Span<const float> outputs = reference.encode(c.input);
    if (outputs.size() != c.expected.size()) return fail(paths.name + ": outputs of another shape than expected");
    const double off = test::largest_difference(c, outputs);
    result.difference = off <= result.difference ? result.difference : off;  // a NaN counts
    result.same_largest += test::same_largest(c, outputs);
    if (!write_floats(options, paths.name + ".float", i, outputs)) return false;
  }
  return true;
}

// A sequence of the runtime, whose tokens are signed.
class RuntimeSequence {
 public:
  explicit RuntimeSequence(const quant::FloatSequence& s) : from_(s), tokens_(s.tokens.begin(), s.tokens.end()) {}
  Sequence view() const {
    return {{tokens_.data(), tokens_.size()},
            {from_.token_types.data(), from_.token_types.size()},
            {from_.vectors.data(), from_.vectors.size()}};
  }

 private:
  const quant::FloatSequence& from_;
  std::vector<Token> tokens_;
};

struct Rows {
  const Kernels* kernels;
  Digest* digest;
  std::vector<float> x;
};

void take_row(void* rows, std::uint32_t position, Span<const float> row) {
  Rows& r = *static_cast<Rows*>(rows);
  r.digest->add_row(*r.kernels, position, row);
  r.x.insert(r.x.end(), row.begin(), row.end());
}

// A record of a file of cases.
class CoverRecord {
 public:
  CoverRecord() { bytes_.resize(sizeof(test::CoverHeader)); }
  void put(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const std::uint8_t*>(data);
    bytes_.insert(bytes_.end(), from, from + bytes);
  }
  void pad(std::size_t multiple) { bytes_.resize((bytes_.size() + multiple - 1) / multiple * multiple); }
  void put(const Sequence& s) {
    for (const std::size_t n : {s.tokens.size(), s.token_types.size(), s.vectors.size()}) {
      const auto word = static_cast<std::uint32_t>(n);
      put(&word, sizeof word);
    }
    put(s.tokens.data(), 4 * s.tokens.size());
    put(s.token_types.data(), s.token_types.size());
    pad(4);
    put(s.vectors.data(), 4 * s.vectors.size());
  }
  bool write(std::FILE* file, const std::string& name, std::size_t image_bytes, std::size_t n_cases, std::uint32_t digest) {
    pad(64);
    test::CoverHeader header = {};
    header.magic = test::kCoverMagic;
    header.record_bytes = static_cast<std::uint32_t>(bytes_.size());
    header.image_bytes = static_cast<std::uint32_t>(image_bytes);
    header.n_cases = static_cast<std::uint32_t>(n_cases);
    header.digest = digest;
    name.copy(header.name, sizeof header.name - 1);
    std::memcpy(bytes_.data(), &header, sizeof header);
    return std::fwrite(bytes_.data(), 1, bytes_.size(), file) == bytes_.size() || fail("the cases cannot be written");
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

bool write_cases(const Options& options, const std::string& name, const Model& model,
                 const std::vector<test::CoverCase>& cases, std::uint32_t digest) {
  quant::ImageBytes image;
  if (const quant::Error error =
          quant::relayout(image, model, options.cases_layout.value_or(options.kernels->traits.preferred), *options.kernels))
    return fail(error.sentence());
  CoverRecord record;
  record.put(image.data(), image.size());
  record.pad(64);
  for (const test::CoverCase& c : cases) {
    if (model.config().n_stacks == 2) record.put(RuntimeSequence(c.source).view());
    record.put(RuntimeSequence(c.input).view());
  }
  return record.write(options.cases, name, (image.size() + 63) / 64 * 64, cases.size(), digest);
}

spec::Sequence spec_sequence_of(const quant::FloatSequence& s, std::uint32_t width) {
  spec::Sequence result;
  result.tokens.assign(s.tokens.begin(), s.tokens.end());
  result.types.assign(s.token_types.begin(), s.token_types.end());
  for (auto at = s.vectors.begin(); at != s.vectors.end(); at += width) result.vectors.emplace_back(at, at + width);
  return result;
}

// The digest of the oracle's outputs.
std::uint32_t run_oracle(test::ChangeCosines& changes, const quant::ImageBytes& image, const ModelConfig& config,
                         const std::vector<test::CoverCase>& cases, const Kernels& k) {
  spec::Model oracle(image.data(), image.size());
  changes.watch(oracle);
  Digest digest;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    changes.begin_case(static_cast<std::uint32_t>(i));
    if (config.n_stacks == 2) oracle.set_source(spec_sequence_of(cases[i].source, config.stacks[0].input_width()));
    std::uint32_t position = 0;
    for (const spec::Floats& row : oracle.encode(spec_sequence_of(cases[i].input, config.main().input_width())))
      digest.add_row(k, position++, {row.data(), row.size()});
  }
  return digest.value();
}

struct Int8Result {
  std::vector<double> cosines, change_cosines;  // ascending
  std::size_t same_largest = 0;
  std::uint32_t digest = 0;
};

bool run_int8(Int8Result& result, test::ChangeCosines& changes, const Options& options, const ModelPaths& paths,
              const std::vector<test::CoverCase>& cases) {
  const Kernels& k = *options.kernels;
  quant::ConvertOptions convert = options.convert;
  convert.read.description = paths.description;
  convert.layout = k.traits.preferred;
  convert.quantize.run_whole = false;  // hundreds of models, each of which is run below
  quant::ImageBytes image;
  quant::ConvertReport report;
  if (const quant::Error error = quant::convert(image, report, paths.weights, "", convert, k)) return fail(error.sentence());
  if (!options.out.empty() && !write_bytes(options.out + "/" + paths.name + ".heed", {image.data(), image.size()}))
    return false;
  const auto refused = [&](Status status) { return status != Status::ok && !fail(paths.name + ": " + to_string(status)); };
  Model model;
  Plan plan;
  Limits limits;
  limits.chunk = options.chunk;
  if (refused(open(model, {image.data(), image.size()}, k)) || refused(make_plan(plan, model.config(), k.traits, limits)))
    return false;
  quant::ImageBytes arena(static_cast<std::size_t>(plan.arena_bytes));
  Session session;
  if (refused(create(session, model, plan, k, {reinterpret_cast<std::byte*>(arena.data()), arena.size()}))) return false;
  Digest digest;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const test::CoverCase& c = cases[i];
    const RuntimeSequence input(c.input), source(c.source);
    Rows rows{&k, &digest, {}};
    const RowSink sink{take_row, &rows};
    if (model.config().n_stacks == 2 && refused(session.set_source(source.view()))) return false;
    if (model.config().n_stacks == 1 && model.config().main().use == Use::generate && refused(session.rewind(0))) return false;
    if (refused(model.config().main().use == Use::generate ? session.evaluate(input.view().tokens, sink)
                                                           : session.encode(input.view(), sink)))
      return false;
    const Span<const float> outputs(rows.x.data(), rows.x.size());
    if (outputs.size() != c.expected.size()) return fail(paths.name + ": int8 outputs of another shape than expected");
    result.same_largest += test::same_largest(c, outputs);
    for (const double cosine : test::cosines(c, outputs)) result.cosines.push_back(cosine);
    if (!write_floats(options, paths.name + ".int8", i, outputs)) return false;
  }
  std::sort(result.cosines.begin(), result.cosines.end());
  if (result.cosines.empty()) return fail(paths.name + ": no outputs");
  result.digest = digest.value();
  if (options.changes) {
    if (run_oracle(changes, image, model.config(), cases, k) != result.digest)
      return fail(paths.name + ": the oracle has other bits");
    result.change_cosines = changes.sorted();
    if (result.change_cosines.empty()) return fail(paths.name + ": oracle and reference have other sublayers");
  }
  return !options.cases || write_cases(options, paths.name, model, cases, result.digest);
}

void print_cosines(const char* of, const std::vector<double>& sorted) {
  double sum = 0.0;
  for (const double cosine : sorted) sum += cosine;
  std::printf(", \"%scosine_smallest\": %.6f, \"%scosine_median\": %.6f, \"%scosine_mean\": %.8f", of, sorted.front(), of,
              sorted[sorted.size() / 2], of, sum / static_cast<double>(sorted.size()));
}

bool run(const Options& options, const std::string& argument) {
  const ModelPaths paths = paths_of(argument);
  std::vector<test::CoverCase> cases;
  if (const std::string wrong = test::read_cover_cases(cases, paths.inputs); !wrong.empty())
    return fail(paths.inputs + ": " + wrong);
  FloatResult floats;
  test::ChangeCosines changes;
  if (options.floats && !run_float(floats, changes, options, paths, cases)) return false;
  std::size_t rows = 0;
  for (const test::CoverCase& c : cases) rows += c.rows;
  std::printf("{\"model\": \"%s\", \"rows\": %zu", paths.name.c_str(), rows);
  if (options.floats)
    std::printf(", \"float_difference\": %.3g, \"float_same_largest\": %zu", floats.difference, floats.same_largest);
  Int8Result int8;
  const bool good = !options.int8 || run_int8(int8, changes, options, paths, cases);
  if (good && options.int8) {
    print_cosines("", int8.cosines);
    if (options.changes) print_cosines("change_", int8.change_cosines);
    std::printf(", \"same_largest\": %zu, \"digest\": \"%08x\"", int8.same_largest, int8.digest);
  }
  std::printf("}\n");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::string> models;
  std::string cases;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--float" || word == "--int8") {
      (word == "--float" ? options.int8 : options.floats) = false;
      continue;
    }
    if (word == "--changes") {
      options.changes = true;
      continue;
    }
    if (word.compare(0, 2, "--") != 0) {
      models.push_back(word);
      continue;
    }
    ++i;
    if (word == "--out")
      options.out = value;
    else if (word == "--kernels")
      options.kernels = find_kernels(value);
    else if (word == "--chunk")
      options.chunk = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
    else if (word == "--cases")
      cases = value;
    else if (word == "--layout")
      options.cases_layout = static_cast<Layout>(std::strtoul(value, nullptr, 10));
    else if (word == "--group")
      options.convert.quantize.group = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
    else if (word == "--value-map")
      options.convert.value_map = std::strcmp(value, "undivided") ? quant::ValueMapChoice::factors
                                                                  : quant::ValueMapChoice::undivided;
    else
      return fail(word + " is not known") ? 0 : 2;
    if (!options.kernels) return fail(std::string("no kernels ") + value + " here") ? 0 : 2;
  }
  if (models.empty()) return fail("no model is given") ? 0 : 2;
  if (options.changes && !(options.floats && options.int8)) return fail("--changes needs floats and int8") ? 0 : 2;
  if (!cases.empty() && !(options.cases = std::fopen(cases.c_str(), "ab")))
    return fail(cases + " cannot be written") ? 0 : 2;
  bool good = true;
  for (const std::string& model : models) good = run(options, model) && good;
  if (options.cases && std::fclose(options.cases) != 0) good = fail(cases + " cannot be written");
  return good ? 0 : 1;
}
