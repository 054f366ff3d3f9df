// How the compiler lays values on tiles: a grid of boxes, one on each tile, and where the elements of a box lie in the
// memory of its tile.
#pragma once

#include "numerics/Tensor.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace quadrille::ipu {

struct Interval {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
  bool operator==(const Interval &) const = default;
  auto operator<=>(const Interval &) const = default;
};
using Box = llvm::SmallVector<Interval, 6>;
int64_t pointsOf(const Box &box);
Box meet(const Box &a, const Box &b); // may be empty in a dimension
bool isEmpty(const Box &box);
bool contains(const Box &outer, const Box &inner);

// Where the elements of a box lie, in elements from its start. The index within a dimension advances by `inner` within
// a group and by `outer` from group to group; a dimension without groups has groups of 1. Rows along the fastest
// dimension are whole words.
struct Arrangement {
  struct Dimension {
    int64_t extent = 1, group = 1, outer = 0, inner = 0;
    bool operator==(const Dimension &) const = default;
  };
  llvm::SmallVector<Dimension, 6> dimensions;
  // Places beside each element that belong to no dimension: how many with the element's own, and their distance.
  llvm::SmallVector<std::pair<int64_t, int64_t>, 2> holes;
  int64_t elements = 1;

  // Dimensions in the order `order`, from the slowest to the fastest; of `grouped`, if given, groups of `group` lie
  // within all others. `quantum`: elements of a word.
  static Arrangement make(llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<unsigned> order,
                          std::optional<unsigned> grouped, int64_t group, int64_t quantum);
  int64_t offsetOf(size_t dimension, int64_t index) const {
    const Dimension &d = dimensions[dimension];
    return index / d.group * d.outer + index % d.group * d.inner;
  }
  bool operator==(const Arrangement &) const = default;
};

// How the arrangements of boxes of one value agree: the order of the dimensions, and what is grouped.
struct Order {
  llvm::SmallVector<unsigned, 6> dimensions; // from the slowest to the fastest
  std::optional<unsigned> grouped;
  int64_t group = 1;
  bool operator==(const Order &) const = default;

  static Order rowMajor(size_t rank);
  // Multiple to which bounds of boxes are rounded in each dimension, so that transfers move whole words: the group, or
  // the elements of a word in the fastest dimension of the shape.
  llvm::SmallVector<int64_t, 6> grains(llvm::ArrayRef<int64_t> shape, int64_t quantum) const;
  Arrangement arrange(llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<int64_t> shape, int64_t quantum) const;
  // The dimension without groups that varies fastest, among those with more than one element.
  std::optional<unsigned> fastest(llvm::ArrayRef<int64_t> shape) const;
};

struct Split {
  int64_t parts = 1, block = 1, tileStride = 0;
  bool operator==(const Split &) const = default;
};

// A value on the tiles: part p of dimension d holds the elements p * block ... of it; the tile is `firstTile` + sum of
// part * tileStride.
struct Layout {
  ElementType type = ElementType::f32;
  Shape shape;
  uint32_t firstTile = 0;
  int64_t wordBytes = 1; // that transfers move at least
  llvm::SmallVector<Split, 6> splits;
  Order order;
  Arrangement arrangement; // of a whole block

  int64_t width() const { return static_cast<int64_t>(byteWidth(type)); }
  int64_t quantum() const { return wordBytes / std::min(width(), wordBytes); }
  int64_t bytes() const { return arrangement.elements * width(); }
  llvm::SmallVector<int64_t, 6> grains() const { return order.grains(shape, quantum()); }
  // Tiles beside each other along the dimensions in their order, the last one first.
  void setStrides();
  // Parts of whole grains for no more than `tiles` tiles, as many as can be of the first dimensions of the order.
  void spread(int64_t tiles);
  // Sets the arrangement from the blocks.
  void arrange();
  uint32_t lastTile() const;
  // Calls body(tile, box) for every part.
  void forEachPart(llvm::function_ref<void(uint32_t tile, const Box &box)> body) const;
  // Those that meet the box, with what is common; parts reach to whole words.
  void forEachMeeting(const Box &box,
                      llvm::function_ref<void(uint32_t tile, const Box &part, const Box &common)> body) const;
  // The box of a tile; nothing when it holds none.
  std::optional<Box> boxOf(uint32_t tile) const;
  bool operator==(const Layout &) const = default;
};

// Elements of a box in two buffers: runs of `run` elements that are contiguous in both, for every point of the loops.
struct Walk {
  struct Loop {
    int64_t extent, from, to; // strides in elements
  };
  int64_t from = 0, to = 0, run = 1; // elements
  llvm::SmallVector<Loop, 6> loops;  // from the outermost to the innermost
};
// Of the box `common`, which begins at `fromBegin` elements (by dimension) of the one buffer's box and at `toBegin` of
// the other's. Where one of the buffers has groups in a dimension, `toBegin` and `fromBegin` are whole groups there if
// the other has them too.
llvm::SmallVector<Walk, 2> walksOf(const Box &common, const Arrangement &from, const Box &fromBox,
                                   const Arrangement &to, const Box &toBox);

// Numbers of parts of `units` that give different blocks, ascending.
std::vector<int64_t> partsOf(int64_t units, int64_t most);
// Splits of loops, the last of which is contiguous, into no more than `parts` parts in all, with the cheapest block: of
// as few points as can be, and as few runs of them that are contiguous in the whole, each of which costs `run` points.
std::vector<Split> evenSplits(llvm::ArrayRef<int64_t> extents, int64_t parts, double run);

// The places of an arrangement that holds `box`, of which `inside` is a part, that are not in `inside`; nothing where
// some places belong to no element.
std::optional<llvm::SmallVector<Walk, 8>> placesAround(const Box &inside, const Arrangement &arrangement,
                                                       const Box &box);

int64_t ceilDivide(int64_t a, int64_t b);
int64_t roundUp(int64_t a, int64_t multiple);

} // namespace quadrille::ipu
