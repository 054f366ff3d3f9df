// The arithmetic of a matrix plane: one vector of activations times one tile of weights.
//
// i8 and u8, each its own on both sides: exact sums in i32, modulo 2^32. f16: the exact dot product of the tile's rows,
// rounded once to f32 (nearest even); infinities and NaN follow IEEE rules, and any NaN is 0x7fc00000.
#pragma once

#include "target/tsp/Instructions.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace quadrille::tsp {

// Weights as f16 products take them: every finite f16 value is a whole multiple of 2^-24 that fits into 41 bits.
struct F16Tile {
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> fixed; // rows x columns, in units of 2^-24; 0 for infinities and NaN
  std::vector<float> special; // rows x columns when the tile holds an infinity or NaN, else empty
};

// From byte planes of rows x columns with the given stride between rows.
F16Tile makeF16Tile(const std::byte *low, const std::byte *high, int64_t rows, int64_t columns, int64_t stride);

// `sums` receives one f32 for each column. low and high: the bytes of `tile.rows` activations.
void multiplyF16(const F16Tile &tile, const std::byte *low, const std::byte *high, uint32_t *sums);

void multiplyInteger(ProductType activationType, const std::byte *activations, ProductType weightType,
                     const std::byte *weights, int64_t rows, int64_t columns, int64_t stride, uint32_t *sums);

} // namespace quadrille::tsp
