// SPDX-License-Identifier: Apache-2.0
// commands.hpp: the commands of `heed`. Each adds itself to the command line, in a file of its name.
#pragma once
#include <CLI/CLI.hpp>

namespace heed::tool {

void add_quantize(CLI::App& app);
void add_quantize_layer(CLI::App& app);
void add_run(CLI::App& app);
void add_encode(CLI::App& app);
void add_translate(CLI::App& app);
void add_eval(CLI::App& app);
void add_plan(CLI::App& app);
void add_inspect(CLI::App& app);
void add_bench(CLI::App& app);

}  // namespace heed::tool
