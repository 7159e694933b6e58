// SPDX-License-Identifier: Apache-2.0
// cover_run.cpp: models of a description through heed, floats and int8, against the outputs that were written beside them.
//
//   cover_run [options] MODEL...
//
// MODEL is a folder with model.json, weights.safetensors and inputs.json (tests/reference/covering.py), or the three paths
// with commas between them. Prints a line of JSON per model: the largest difference of the float reference, as a share of
// the largest output; of the int8 outputs the cosine with the expected ones at each position, smallest, median and mean of all cases,
// and the CRC-32C of their bits; of both, in how many rows the largest output is the expected one.
//   --out OUT         writes OUT/NAME.float.N.f32 and OUT/NAME.int8.N.f32, the outputs [rows, columns] of case N as raw float32,
//                     and OUT/NAME.heed
//   --kernels NAME    the kernel table (default: the best of this machine)
//   --chunk N         positions that go through the layers together (default: the table's)
//   --group G         columns per group, 0 = one scale per row (default: measured)
//   --value-map FORM  factors or undivided (default: the cheaper one)
//   --float           no int8
//   --changes         also the cosines of what each sublayer adds to the residual stream, at each position; the int8 numbers are those
//                     of the oracle from SPEC.md, and fail unless its outputs are the same bits
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "platform/select.hpp"
#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "runtime/runtime.hpp"
#include "tests/covering/cover_changes.hpp"
#include "tests/covering/cover_inputs.hpp"

namespace {

using namespace heed;
namespace fs = std::filesystem;

struct Options {
  std::string out;
  const Kernels* kernels = &best_kernels();
  std::uint32_t chunk = 0;
  quant::ConvertOptions convert;
  bool int8 = true, changes = false;
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

void take_row(void* rows, std::uint32_t, Span<const float> row) {
  auto& x = *static_cast<std::vector<float>*>(rows);
  x.insert(x.end(), row.begin(), row.end());
}

spec::Sequence spec_sequence_of(const quant::FloatSequence& s, std::uint32_t width) {
  spec::Sequence result;
  result.tokens.assign(s.tokens.begin(), s.tokens.end());
  result.types.assign(s.token_types.begin(), s.token_types.end());
  for (auto at = s.vectors.begin(); at != s.vectors.end(); at += width) result.vectors.emplace_back(at, at + width);
  return result;
}

std::uint32_t input_width(const StackConfig& c) { return c.input == Input::vectors ? c.d_model : c.d_input; }

// The digest of the oracle's outputs.
std::uint32_t run_oracle(test::ChangeCosines& changes, const quant::ImageBytes& image, const ModelConfig& config,
                         const std::vector<test::CoverCase>& cases, const Kernels& k) {
  spec::Model oracle(image.data(), image.size());
  changes.watch(oracle);
  std::uint32_t digest = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    changes.begin_case(static_cast<std::uint32_t>(i));
    if (config.n_stacks == 2) oracle.set_source(spec_sequence_of(cases[i].source, input_width(config.stacks[0])));
    for (const spec::Floats& row : oracle.encode(spec_sequence_of(cases[i].input, input_width(config.main()))))
      digest = k.crc32c(digest, reinterpret_cast<const std::uint8_t*>(row.data()), row.size() * sizeof(float));
  }
  return digest;
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
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const test::CoverCase& c = cases[i];
    const RuntimeSequence input(c.input), source(c.source);
    std::vector<float> rows;
    const RowSink sink{take_row, &rows};
    if (model.config().n_stacks == 2 && refused(session.set_source(source.view()))) return false;
    if (model.config().n_stacks == 1 && model.config().main().use == Use::generate && refused(session.rewind(0))) return false;
    if (refused(model.config().main().use == Use::generate ? session.evaluate(input.view().tokens, sink)
                                                           : session.encode(input.view(), sink)))
      return false;
    if (rows.size() != c.expected.size()) return fail(paths.name + ": int8 outputs of another shape than expected");
    result.same_largest += test::same_largest(c, {rows.data(), rows.size()});
    for (const double cosine : test::cosines(c, {rows.data(), rows.size()})) result.cosines.push_back(cosine);
    result.digest =
        k.crc32c(result.digest, reinterpret_cast<const std::uint8_t*>(rows.data()), rows.size() * sizeof(float));
    if (!write_floats(options, paths.name + ".int8", i, {rows.data(), rows.size()})) return false;
  }
  std::sort(result.cosines.begin(), result.cosines.end());
  if (result.cosines.empty()) return fail(paths.name + ": no outputs");
  if (!options.changes) return true;
  if (run_oracle(changes, image, model.config(), cases, k) != result.digest)
    return fail(paths.name + ": the oracle has other bits");
  result.change_cosines = changes.sorted();
  return !result.change_cosines.empty() || fail(paths.name + ": oracle and reference have other sublayers");
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
  if (!run_float(floats, changes, options, paths, cases)) return false;
  std::size_t rows = 0;
  for (const test::CoverCase& c : cases) rows += c.rows;
  std::printf("{\"model\": \"%s\", \"rows\": %zu, \"float_difference\": %.3g, \"float_same_largest\": %zu", paths.name.c_str(),
              rows, floats.difference, floats.same_largest);
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
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--float" || word == "--changes") {
      (word == "--float" ? options.int8 : options.changes) = word != "--float";
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
  bool good = true;
  for (const std::string& model : models) good = run(options, model) && good;
  return good ? 0 : 1;
}
