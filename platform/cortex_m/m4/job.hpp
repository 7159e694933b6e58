// SPDX-License-Identifier: Apache-2.0
// job.hpp: what a loop over rows of Layout::pair is told.
#pragma once
#include <cstddef>

#include "platform/cortex_m/m4/prepared.hpp"

namespace heed::pair {

// run_pairs takes four rows of one vector, run_tiles two rows of three. Each anchor is where a pointer of theirs points:
// one LDM reads what lies before it, zeros for the sums, x and where to jump; another what lies behind.
struct PairJob {
  // What happens to the sums of a segment. Chunks are long rows without groups.
  enum Kind : std::uint32_t { rows, scores, grouped, chunked };

  struct OfScores {
    std::uint32_t unused;
    std::uintptr_t to_value_exponents;  // 52 from the next mantissas
    std::uint32_t value_exponent;       // 56 the block's, four times
  };

  std::int32_t zeros[6];           // -32
  const std::int8_t* x;            //  -8
  std::uintptr_t entry;            //  -4 where x enters the unrolled blocks; first in bytes, then as an address
  // A row's anchor.
  const void* scales;              //   0 four (tiles: two) of the next rows; or the keys' mantissas
  void* dst;                       //   4
  const void* dst_end;             //   8
  std::uintptr_t bias;             //  12 of the next rows, or null; or from the mantissas to the keys' exponents
  std::uint32_t more;              //  16 a bias or accumulation; or the block's exponent, four times
  union {
    std::int32_t max;              //  20 of the scores
    std::int32_t step;             //     tiles: from the end of two rows' weights to the next ones', and then
  };
  union {
    std::uint32_t behind;          //  24 what follows the blocks: whether x may not have ended; then an address
    std::int32_t next_step;        //     tiles: to the ones behind these
  };
  union {
    std::uint32_t kind;            //  28 then an address
    std::uint32_t dst_stride;      //     tiles, in bytes
  };
  const std::int8_t* segment_end;  //  32
  std::uint32_t segment;           //  36 bytes of x in a segment; 0 if there is only one
  std::uint32_t accumulate;        //  40
  const std::int8_t* weights;      //  44
  union {
    float x_scales[3];             //  48 one, or of a tile three
    OfScores of_scores;            //  48
  };
  std::uintptr_t segment_entry;    //  60 as `entry`, of all segments but the last
  std::uintptr_t last_entry;       //  64
  const std::int8_t* end;          //  68 of x
  const std::int8_t* first_end;    //  72
  const std::uint8_t* all_exponents;  // 76
  // The same again for the segments of a row.
  struct Segments {
    std::int32_t zeros[4];
    const std::int8_t* x;
    std::uintptr_t entry;
    // Their anchor.
    std::int32_t totals[4];           //  0 of the segments so far
    const std::uint8_t* multipliers;  // 16 four of the next group
    const std::uint8_t* exponents;    // 20 of the next group; of chunks only counted
    std::uint32_t behind;             // 24
    std::uint32_t kind;               // 28
    const std::int8_t* segment_end;   // 32
    std::uint32_t segment;            // 36
    const std::uint8_t* last_exponent;  // 40 or the one behind if all segments are whole
    std::uint32_t whole;                // 44 whether they are and have no loop; then what follows the last segment
  } segments;
};
static_assert(offsetof(PairJob, scales) == 32 && offsetof(PairJob, all_exponents) == 32 + 76);

}  // namespace heed::pair
