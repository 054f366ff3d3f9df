// The arithmetic of a matrix plane: vectors of activations times one tile of weights.
//
// i8 and u8, each its own on both sides: exact sums in i32, modulo 2^32. f16: the exact dot product of the tile's rows,
// rounded once to f32 (nearest even); infinities and NaN follow IEEE rules, and any NaN is 0x7fc00000.
#pragma once

#include "target/tsp/Work.h"

namespace quadrille::tsp {

struct Tile {
  ProductType type = ProductType::I8;
  int64_t rows = 0;
  std::shared_ptr<std::byte[]> weights; // rows, a vector each; null without values. Type f16: one byte plane
  int64_t lane = 0;                     // of activations, that meets the first row
};

// `count` vectors, all their lanes, of i8 or u8 activations; `sums` receives `columns` sums for each.
void multiplyInteger(ProductType type, Vectors activations, int64_t count, const Tile &tile, int64_t columns,
                     int64_t vectorBytes, uint32_t *sums);

// The weights of a pair of planes as f16 numbers, rows x columns.
std::vector<uint16_t> joinTiles(const Tile &low, const Tile &high, int64_t columns, int64_t vectorBytes);
void multiplyF16(Vectors low, Vectors high, int64_t count, const std::vector<uint16_t> &weights, int64_t rows,
                 int64_t columns, uint32_t *sums);

// to += from, in i32 modulo 2^32 or in f32 with any NaN 0x7fc00000.
void addSums(uint32_t *to, const uint32_t *from, int64_t count, bool f16);

} // namespace quadrille::tsp
