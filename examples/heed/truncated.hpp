// SPDX-License-Identifier: Apache-2.0
// truncated.hpp: what a mapped file does when somebody shortens it, or its disk fails, while it is read.
#pragma once

namespace heed::tool {

// From now on such a file ends the program with one sentence that names it, and exit status 1, in place of SIGBUS.
void name_truncated_files();

}  // namespace heed::tool
