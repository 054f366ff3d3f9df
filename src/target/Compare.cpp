#include "target/Compare.h"

#include "base/Parallel.h"
#include "numerics/Convert.h"

#include <array>
#include <cassert>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

namespace quadrille::target {

namespace {

constexpr int64_t blockElements = 4096;

struct Partial {
  double squaredError = 0, squaredReference = 0, maxAbs = 0;
  int64_t worst = -1, mismatches = 0;
};

// Scaling keeps the squares of very large and very small f64 in range.
Partial compareBlock(const Tensor &actual, const Tensor &reference, int64_t begin, int64_t end, double scale) {
  size_t width = byteWidth(actual.type()), count = static_cast<size_t>(end - begin);
  const std::byte *a = actual.bytes().data() + begin * width, *b = reference.bytes().data() + begin * width;
  std::array<double, blockElements> x, y;
  convert(actual.type(), a, ElementType::f64, x.data(), count);
  convert(reference.type(), b, ElementType::f64, y.data(), count);
  Partial partial;
  for (size_t i = 0; i < count; ++i) {
    double error;
    if (std::isfinite(x[i]) && std::isfinite(y[i])) {
      error = std::abs(x[i] - y[i]);
      // 64-bit integers that differ only below f64's precision.
      if (error == 0 && width == 8 && !isFloat(actual.type()) && std::memcmp(a + i * width, b + i * width, width) != 0)
        error = 1;
      partial.squaredError += (error * scale) * (error * scale);
      partial.squaredReference += (y[i] * scale) * (y[i] * scale);
    } else if ((std::isnan(x[i]) && std::isnan(y[i])) || x[i] == y[i]) {
      continue;
    } else {
      ++partial.mismatches;
      error = std::numeric_limits<double>::infinity();
    }
    if (error > partial.maxAbs) {
      partial.maxAbs = error;
      partial.worst = begin + static_cast<int64_t>(i);
    }
  }
  return partial;
}

double pairwiseSum(const Partial *partials, size_t count, double Partial::*field) {
  if (count <= 8) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
      sum += partials[i].*field;
    return sum;
  }
  return pairwiseSum(partials, count / 2, field) + pairwiseSum(partials + count / 2, count - count / 2, field);
}

} // namespace

Comparison compare(const Tensor &actual, const Tensor &reference) {
  assert(actual.type() == reference.type() && actual.shape() == reference.shape());
  int64_t count = actual.elements();
  std::vector<Partial> partials(static_cast<size_t>((count + blockElements - 1) / blockElements));
  // Only f64 can hold values whose squares overflow.
  for (double scale : {1.0, 0x1p-540}) {
    parallelFor(count, blockElements, [&](int64_t begin, int64_t end) {
      partials[begin / blockElements] = compareBlock(actual, reference, begin, end, scale);
    });
    Comparison result;
    for (const Partial &partial : partials) {
      result.nonFiniteMismatches += partial.mismatches;
      if (partial.maxAbs > result.maxAbs) {
        result.maxAbs = partial.maxAbs;
        result.worstElement = partial.worst;
      }
    }
    double squaredError = pairwiseSum(partials.data(), partials.size(), &Partial::squaredError);
    double squaredReference = pairwiseSum(partials.data(), partials.size(), &Partial::squaredReference);
    if (result.nonFiniteMismatches) {
      result.relativeL2 = std::numeric_limits<double>::infinity();
      return result;
    }
    if (scale == 1 && (std::isinf(squaredError) || std::isinf(squaredReference)))
      continue;
    result.relativeL2 =
        squaredReference > 0 ? std::sqrt(squaredError) / std::sqrt(squaredReference) : std::sqrt(squaredError) / scale;
    return result;
  }
  // Not reached: with the second scale no sum of squares overflows.
  return {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity(), 0, -1};
}

std::string significant(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

bool bitwiseEqual(const Tensor &a, const Tensor &b) {
  return a.type() == b.type() && a.shape() == b.shape() &&
         (a.byteSize() == 0 || std::memcmp(a.bytes().data(), b.bytes().data(), a.byteSize()) == 0);
}

} // namespace quadrille::target
