#include "target/tsp/Products.h"

#include "base/Parallel.h"

#include <bit>
#include <cmath>

namespace quadrille::tsp {

namespace {

constexpr int64_t columnGrain = 64; // columns that one host thread takes at a time

uint16_t halfBits(std::byte low, std::byte high) {
  return static_cast<uint16_t>(static_cast<unsigned>(low) | static_cast<unsigned>(high) << 8);
}
bool isSpecial(uint16_t bits) {
  return (bits & 0x7c00) == 0x7c00;
}

// A finite f16 in units of 2^-24: its subnormals are whole numbers of these.
int64_t fixedPoint(uint16_t bits) {
  int64_t exponent = bits >> 10 & 31, fraction = bits & 1023;
  int64_t magnitude = exponent == 0 ? fraction : (fraction | 1024) << (exponent - 1);
  return bits & 0x8000 ? -magnitude : magnitude;
}

float specialValue(uint16_t bits) {
  if (!isSpecial(bits))
    return std::ldexp(static_cast<float>(fixedPoint(bits)), -24);
  if (bits & 1023)
    return std::bit_cast<float>(0x7fc00000u);
  return bits & 0x8000 ? -INFINITY : INFINITY;
}

} // namespace

F16Tile makeF16Tile(const std::byte *low, const std::byte *high, int64_t rows, int64_t columns, int64_t stride) {
  F16Tile tile{rows, columns, std::vector<int64_t>(rows * columns), {}};
  bool special = false;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      uint16_t bits = halfBits(low[row * stride + column], high[row * stride + column]);
      special |= isSpecial(bits);
      tile.fixed[row * columns + column] = isSpecial(bits) ? 0 : fixedPoint(bits);
    }
  if (special) {
    tile.special.resize(rows * columns);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < columns; ++column)
        tile.special[row * columns + column] =
            specialValue(halfBits(low[row * stride + column], high[row * stride + column]));
  }
  return tile;
}

void multiplyF16(const F16Tile &tile, const std::byte *low, const std::byte *high, uint32_t *sums) {
  std::vector<int64_t> activations(tile.rows);
  bool special = !tile.special.empty();
  for (int64_t row = 0; row < tile.rows; ++row) {
    uint16_t bits = halfBits(low[row], high[row]);
    special |= isSpecial(bits);
    activations[row] = isSpecial(bits) ? 0 : fixedPoint(bits);
  }
  parallelFor(tile.columns, columnGrain, [&](int64_t begin, int64_t end) {
    // Products are multiples of 2^-48 below 2^80 of them: sums of any 2^40 products fit into 127 bits.
    std::vector<__int128> exact(end - begin);
    for (int64_t row = 0; row < tile.rows; ++row) {
      auto activation = static_cast<__int128>(activations[row]);
      const int64_t *weights = tile.fixed.data() + row * tile.columns;
      for (int64_t column = begin; column < end; ++column)
        exact[column - begin] += activation * weights[column];
    }
    for (int64_t column = begin; column < end; ++column) {
      // Conversion rounds to nearest even; scaling by 2^-48 is exact, since no non-zero sum is below 2^-48.
      float sum = std::ldexp(static_cast<float>(exact[column - begin]), -48);
      if (special) {
        // In f64 the sum of finite f16 products neither overflows nor becomes NaN, so this shows what the special
        // values alone make of it.
        double probe = 0;
        for (int64_t row = 0; row < tile.rows; ++row) {
          double weight = tile.special.empty()
                              ? std::ldexp(static_cast<double>(tile.fixed[row * tile.columns + column]), -24)
                              : tile.special[row * tile.columns + column];
          probe += weight * specialValue(halfBits(low[row], high[row]));
        }
        if (std::isnan(probe))
          sum = std::bit_cast<float>(0x7fc00000u);
        else if (std::isinf(probe))
          sum = static_cast<float>(probe);
      }
      sums[column] = std::bit_cast<uint32_t>(sum);
    }
  });
}

void multiplyInteger(ProductType activationType, const std::byte *activations, ProductType weightType,
                     const std::byte *weights, int64_t rows, int64_t columns, int64_t stride, uint32_t *sums) {
  parallelFor(columns, columnGrain, [&](int64_t begin, int64_t end) {
    std::fill(sums + begin, sums + end, 0u);
    for (int64_t row = 0; row < rows; ++row) {
      int32_t activation = activationType == ProductType::I8 ? static_cast<int8_t>(activations[row])
                                                             : static_cast<int32_t>(activations[row]);
      const std::byte *line = weights + row * stride;
      if (weightType == ProductType::I8)
        for (int64_t column = begin; column < end; ++column)
          sums[column] += static_cast<uint32_t>(activation * static_cast<int8_t>(line[column]));
      else
        for (int64_t column = begin; column < end; ++column)
          sums[column] += static_cast<uint32_t>(activation * static_cast<int32_t>(line[column]));
    }
  });
}

} // namespace quadrille::tsp
