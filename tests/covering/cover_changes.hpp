// SPDX-License-Identifier: Apache-2.0
// cover_changes.hpp: what each sublayer adds to the residual stream, int8 against float. The int8 numbers are those of the
// oracle from SPEC.md, whose outputs must be the runtime's bits.
#pragma once
#include <array>
#include <map>

#include "quant/float_reference.hpp"
#include "tests/reference/spec_model.hpp"

namespace heed::test {

class ChangeCosines {
 public:
  // Sees what one of both computes from now on; neither may outlive this.
  void watch(quant::FloatReference& reference);
  void watch(spec::Model& oracle);
  // What comes next belongs to this case.
  void begin_case(std::uint32_t index) { case_ = index; }
  // One for each case, position and sublayer, ascending; empty unless both have seen the same ones.
  std::vector<double> sorted() const;

 private:
  using Place = std::array<std::uint32_t, 5>;  // case, stack, layer, sublayer, position
  std::map<Place, std::vector<float>> exact_, rounded_;
  std::uint32_t case_ = 0;
};

}  // namespace heed::test
