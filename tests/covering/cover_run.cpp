// SPDX-License-Identifier: Apache-2.0
// cover_run.cpp: a model of the covering (tests/reference/covering.py) through heed, against the outputs that were written
// beside it.
//
//   cover_run FOLDER... [--out OUT]
//
// FOLDER holds model.json, weights.safetensors and inputs.json. Prints a line of JSON per model; with --out, writes
// OUT/NAME.float.N.f32, the outputs [rows, columns] of case N as raw float32.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "tests/covering/cover_inputs.hpp"

namespace {

using namespace heed;
namespace fs = std::filesystem;

bool fail(const std::string& what) {
  std::fprintf(stderr, "cover_run: %s\n", what.c_str());
  return false;
}

bool write_floats(const std::string& path, Span<const float> x) {
  const quant::Error error =
      quant::write_file(path, {reinterpret_cast<const std::uint8_t*>(x.data()), x.size() * sizeof(float)});
  return !error || fail(error.sentence());
}

bool run(const std::string& folder, const std::string& out) {
  quant::FloatModel model;
  quant::ReadOptions options;
  options.description = folder + "/model.json";
  if (const quant::Error error = quant::read_model(model, folder + "/weights.safetensors", options))
    return fail(error.sentence());
  std::vector<test::CoverCase> cases;
  if (const std::string wrong = test::read_cover_cases(cases, folder + "/inputs.json"); !wrong.empty())
    return fail(folder + ": " + wrong);
  const std::string name = fs::path(folder).filename().string();
  quant::FloatReference reference(model, model.config.main().max_seq);
  double worst = 0.0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const test::CoverCase& c = cases[i];
    if (reference.source_stack() && !reference.set_source(c.source)) return fail(folder + ": the source does not fit");
    const Span<const float> outputs = reference.encode(c.input);
    if (outputs.size() != c.expected.size()) return fail(folder + ": the outputs of case " + std::to_string(i) + " have another shape");
    const double off = test::largest_difference(c, outputs);
    worst = off > worst ? off : worst;
    if (!out.empty() && !write_floats(out + "/" + name + ".float." + std::to_string(i) + ".f32", outputs)) return false;
  }
  std::printf("{\"model\": \"%s\", \"float_difference\": %.3g}\n", name.c_str(), worst);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::string out;
  std::vector<std::string> folders;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--out") && i + 1 < argc)
      out = argv[++i];
    else
      folders.push_back(argv[i]);
  }
  if (folders.empty()) return fail("no folder of a model is given") ? 0 : 2;
  bool good = true;
  for (const std::string& folder : folders) good = run(folder, out) && good;
  return good ? 0 : 1;
}
