// SPDX-License-Identifier: Apache-2.0
// pair_job.hpp: what a loop over rows of Layout::pair is told.
#pragma once
#include "platform/cortex_m/pair_prepared.hpp"

namespace heed::pair {

// What the loops over rows read, much of it by one LDM on either side of `totals`: run_pairs four rows of one vector,
// run_tiles two rows of three.
struct PairJob {
  const void* scales;              // -28 four of the next rows; or the keys' mantissas
  void* dst;                       // -24
  const void* dst_end;             // -20
  std::uintptr_t bias;             // -16 of the next rows, or null; or from the mantissas to the keys' exponents
  std::uint32_t more;              // -12 a bias or accumulation; or the block's exponent, four times
  union {
    std::uint32_t first_entry;     //  -8 where the first segment enters the loop, in bytes
    std::int32_t step;             //     of tiles: from the end of two rows' weights to the next ones', and then
  };
  union {
    std::int32_t max;              //  -4 of the scores
    std::int32_t next_step;        //     to the ones behind these
  };
  std::int32_t totals[4];          //   0 of the segments so far; else 0
  const std::int8_t* x;            //  16
  const std::uint8_t* multipliers; //  20 four of the next group; of tiles null
  const std::uint8_t* exponents;   //  24 of the next group; of tiles null
  std::uint32_t segment;           //  28 bytes of x in a group; of tiles the bytes of first_entry, replaced by its address
  union {
    const std::int8_t* last;       //  32 begin of the last segment
    std::uint32_t dst_stride;      //     of tiles, in bytes
  };
  const std::int8_t* end;          //  36
  std::uint32_t last_entry;        //  40
  const std::uint8_t* all_exponents; // 44
  const std::int8_t* weights;      //  48
  const std::int8_t* first_end;    //  52 end of the first segment
  float x_scale;                   //  56
  // What happens to the sums of a segment; replaced by its address. Chunks are long rows without groups.
  enum Kind : std::uint32_t { rows, scores, grouped, chunked };
  std::uint32_t kind;              //  60
  std::uint32_t accumulate;        //  64
  float x_scales[kTogether];       //  68 of tiles
};

}  // namespace heed::pair
