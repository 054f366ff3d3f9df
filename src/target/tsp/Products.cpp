#include "target/tsp/Products.h"

#include "numerics/Gemm.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace quadrille::tsp {

namespace {

constexpr uint32_t canonicalNan = 0x7fc00000;

uint32_t canonical(float value) {
  return std::isnan(value) ? canonicalNan : std::bit_cast<uint32_t>(value);
}

} // namespace

void multiplyInteger(ProductType type, Vectors activations, int64_t count, const Tile &tile, int64_t columns,
                     int64_t vectorBytes, uint32_t *sums) {
  GemmShape shape;
  shape.m = count;
  shape.n = columns;
  shape.k = tile.rows;
  shape.leadingA = activations.stride;
  shape.leadingB = vectorBytes;
  auto typeOf = [](ProductType of) { return of == ProductType::I8 ? ElementType::i8 : ElementType::u8; };
  // A single vector may have any stride, which then means nothing.
  if (count == 1)
    shape.leadingA = 0;
  gemmInteger8(shape, typeOf(type), activations.first + tile.lane, 0, typeOf(tile.type), tile.weights.get(), 0,
               reinterpret_cast<int32_t *>(sums));
}

std::vector<uint16_t> joinTiles(const Tile &low, const Tile &high, int64_t columns, int64_t vectorBytes) {
  std::vector<uint16_t> joined(low.rows * columns);
  for (int64_t row = 0; row < low.rows; ++row) {
    const std::byte *lowBytes = low.weights.get() + row * vectorBytes;
    const std::byte *highBytes = high.weights.get() + row * vectorBytes;
    for (int64_t column = 0; column < columns; ++column)
      joined[row * columns + column] = static_cast<uint16_t>(static_cast<unsigned>(lowBytes[column]) |
                                                             static_cast<unsigned>(highBytes[column]) << 8);
  }
  return joined;
}

void multiplyF16(Vectors low, Vectors high, int64_t count, const std::vector<uint16_t> &weights, int64_t rows,
                 int64_t columns, uint32_t *sums) {
  std::vector<uint16_t> activations(count * rows);
  for (int64_t k = 0; k < count; ++k) {
    const std::byte *lowBytes = low.at(k), *highBytes = high.at(k);
    for (int64_t row = 0; row < rows; ++row)
      activations[k * rows + row] =
          static_cast<uint16_t>(static_cast<unsigned>(lowBytes[row]) | static_cast<unsigned>(highBytes[row]) << 8);
  }
  GemmShape shape;
  shape.m = count;
  shape.n = columns;
  shape.k = rows;
  auto *results = reinterpret_cast<float *>(sums);
  gemmOnceRounded(shape, rows, ElementType::f16, activations.data(), ElementType::f16, weights.data(), results);
  for (int64_t i = 0; i < count * columns; ++i)
    sums[i] = canonical(results[i]);
}

void addSums(uint32_t *to, const uint32_t *from, int64_t count, bool f16) {
  if (!f16) {
    for (int64_t i = 0; i < count; ++i)
      to[i] += from[i];
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    to[i] = canonical(std::bit_cast<float>(to[i]) + std::bit_cast<float>(from[i]));
}

} // namespace quadrille::tsp
