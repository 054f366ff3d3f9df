#include "target/ipu/Placements.h"

#include "numerics/Tensor.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

namespace quadrille::ipu {

namespace {

constexpr int64_t mostElements = int64_t(1) << 31; // of one tile, and more than any has

struct Loop {
  int64_t extent, stride, weight; // elements of the dimension by which the digit advances its index
  uint8_t dimension;
};

// The digits with their weights; the one that is nearest on the tile comes last.
std::vector<Loop> loopsOf(const Part &part) {
  std::vector<Loop> loops;
  std::vector<int64_t> weights(part.extents.size(), 1);
  for (const Digit &digit : llvm::reverse(part.digits)) {
    loops.push_back({digit.extent, digit.stride, weights[digit.dimension], digit.dimension});
    weights[digit.dimension] *= digit.extent;
  }
  llvm::stable_sort(loops, [](const Loop &a, const Loop &b) { return a.stride > b.stride; });
  return loops;
}

} // namespace

std::string partProblem(const Part &part, llvm::ArrayRef<int64_t> shape) {
  size_t rank = shape.size();
  if (part.begin.size() != rank || part.extents.size() != rank || part.shift.size() != rank)
    return "begin, extents and shift must have one number for each of the " + std::to_string(rank) + " dimensions";
  std::vector<int64_t> held(rank, 1);
  int64_t all = 1;
  for (const Digit &digit : part.digits) {
    if (digit.dimension >= rank || digit.extent == 0)
      return "a digit is of no dimension or has no extent";
    if (digit.extent > mostElements / all)
      return "its digits have too many elements for a tile";
    all *= digit.extent;
    held[digit.dimension] *= digit.extent;
  }
  int64_t tiles = tileCount(part.tiles);
  for (size_t d = 0; d < rank; ++d) {
    int64_t last = 0;
    if (part.extents[d] < 1 || part.extents[d] > held[d])
      return "dimension " + std::to_string(d) + " has digits for " + std::to_string(held[d]) + " elements, not for " +
             std::to_string(part.extents[d]);
    if (llvm::MulOverflow(part.shift[d], tiles - 1, last) || part.begin[d] < 0 || part.begin[d] > shape[d] ||
        last < -part.begin[d] || part.begin[d] + std::max<int64_t>(last, 0) > shape[d] - part.extents[d] ||
        part.begin[d] + std::min<int64_t>(last, 0) < 0)
      return "dimension " + std::to_string(d) + " leaves the variable";
  }
  return "";
}

void forEachRun(const Part &part, llvm::ArrayRef<int64_t> shape, llvm::function_ref<void(const ElementRun &)> run) {
  std::vector<Loop> loops = loopsOf(part);
  if (loops.empty())
    loops.push_back({1, 0, 1, 0});
  Loop inner = loops.back();
  loops.pop_back();
  Shape hostStrides = rowMajorStrides(shape);
  std::vector<int64_t> digits(loops.size()), within(shape.size());
  int64_t number = 0, address = 0;
  auto advance = [&] {
    for (size_t k = loops.size(); k-- > 0;) {
      const Loop &loop = loops[k];
      address += loop.stride;
      within[loop.dimension] += loop.weight;
      if (++digits[k] < loop.extent)
        return true;
      address -= loop.extent * loop.stride;
      within[loop.dimension] -= loop.extent * loop.weight;
      digits[k] = 0;
    }
    return false;
  };
  forEachTile(part.tiles, [&](uint32_t tile) {
    address = part.address;
    do {
      bool inside = true;
      int64_t index = 0, count = 0, hostStride = 0;
      for (size_t d = 0; d < shape.size(); ++d) {
        inside &= within[d] < part.extents[d];
        index += (part.begin[d] + number * part.shift[d] + within[d]) * hostStrides[d];
      }
      if (inside) {
        count = 1;
        if (!shape.empty()) {
          int64_t left = part.extents[inner.dimension] - within[inner.dimension];
          count = std::min(inner.extent, (left + inner.weight - 1) / inner.weight);
          hostStride = inner.weight * hostStrides[inner.dimension];
        }
        run({tile, address, inner.stride, index, hostStride, count});
      }
      if (count < inner.extent)
        run({tile, address + count * inner.stride, inner.stride, -1, 0, inner.extent - count});
    } while (advance());
    ++number;
  });
}

bool isBits(ElementType held, ElementType given) {
  return isFloat(given) && kindOf(held) == ElementKind::Unsigned && bitWidth(held) == bitWidth(given);
}

int64_t spanOf(const Part &part, ElementType type) {
  int64_t span = static_cast<int64_t>(byteWidth(type));
  for (const Digit &digit : part.digits)
    span += static_cast<int64_t>(digit.extent - 1) * digit.stride;
  return span;
}

} // namespace quadrille::ipu
