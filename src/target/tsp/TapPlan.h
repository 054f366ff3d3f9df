// A product as passes of vectors through tiles of weights, with the operands as they lie. A vector of the first operand
// holds some of its elements side by side; each tile holds the weights with which some lanes of a vector contribute to
// the columns of a vector of the result. A convolution has tiles for each of its taps; where several places of an image
// share a vector, a tile has the taps from each of them to each place of the result, and zeros between.
#pragma once

#include "graph/Contraction.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace quadrille::tsp {

// How many neighbouring indices of each dimension of a value lie side by side in the lanes of a vector, the last
// dimension innermost; the others count rows. Each divides its extent.
using Packing = std::vector<int64_t>;

// The last dimension in the lanes.
Packing plainPacking(llvm::ArrayRef<int64_t> shape);
int64_t lanesOf(const Packing &packing);

struct TapPlan {
  static constexpr int32_t padding = -1; // a row that holds nothing but padding

  // Weights of a tile: for each lane and column offset in the lists of the plan one, from element `element` on.
  struct Taps {
    int64_t lane = 0, column = 0, element = 0;
  };
  // Lanes [lane, lane + height) of the vectors of one piece of the first operand.
  struct Pass {
    int64_t piece = 0, lane = 0, height = 0;
    uint32_t taps = 0;         // in `taps`
    std::vector<int32_t> rows; // for each row of the batch's results: the first operand's, or padding
  };
  // Rows of the result that the same passes add to.
  struct Batch {
    int64_t element = 0; // of the second operand
    std::vector<int32_t> resultRows;
    std::vector<Pass> passes;
  };
  struct Offset {
    int64_t place = 0;   // a lane of the first operand or a column of the result
    int64_t element = 0; // of the second operand
  };
  std::vector<Offset> lanes, columns;
  // What joins a lane and a column by a weight of its own: channels that do not mix. Added to each pair of the lists.
  struct Channel {
    int64_t lane = 0, column = 0, element = 0;
  };
  std::vector<Channel> channels = {{}};
  std::vector<std::vector<Taps>> taps;
  std::vector<Batch> batches;
  int64_t resultColumns = 0;

  // For each of the pass's rows of weights and of `width` columns of the result from `firstColumn` on: the element of
  // the second operand, or -1 for zero.
  std::vector<int64_t> elementsOf(const Batch &batch, const Pass &pass, int64_t firstColumn, int64_t width,
                                  int64_t piecesWidth) const;
  // Whether the pass has weights for any of `width` columns from `firstColumn` on.
  bool reaches(const Pass &pass, int64_t firstColumn, int64_t width, int64_t piecesWidth) const;
  int64_t mostHeight() const; // of the tiles
  size_t tiles() const;       // for each piece of the result
  // Vectors that pass tiles, for all pieces of the result of `vectorLanes` columns.
  int64_t vectors(int64_t vectorLanes) const;
};

struct TapOptions {
  int64_t vectorLanes = 0; // of a vector: columns beyond it are further pieces
  int64_t superlane = 1;   // tiles begin at a multiple of it
  int64_t mostHeight = 0;  // of a tile
};

// Nothing, when an operand or the result does not lie so that whole vectors can be used: `lhsPacking` and
// `resultPacking` say how they lie. Dimensions of the result that only the second operand has are columns.
std::optional<TapPlan> planTaps(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                                const graph::Contraction &contraction, const Packing &lhsPacking,
                                const Packing &resultPacking, const TapOptions &options);

// The same for a first operand that was put together as a matrix: a row for each index of batches, m loops and windows'
// outputs, a column for each of k loops and windows' taps; and for a result that is such a matrix.
TapPlan planMatrixTaps(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                       const graph::Contraction &contraction, const TapOptions &options);

} // namespace quadrille::tsp
