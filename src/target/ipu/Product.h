// A contraction as the matrix units take it, and how it is shared: what its planner and its compiler have in common.
#pragma once

#include "target/ipu/CompilerState.h"

namespace quadrille::ipu {

// A loop as it is shared: blocks in units of `unit` points.
struct Shared {
  unsigned loop;
  int64_t extent, unit = 1;
  int64_t units() const { return ceilDivide(extent, unit); }
};

// What the loops of a contraction are for, and the sizes of the matrix unit's blocks.
struct CompilerState::Product {
  const graph::Kernel *kernel;
  graph::Contraction roles;
  std::vector<Shared> groups, positions, fields, outer; // batch, m, outputs of windows, k but for the channels
  std::vector<Shared> outOuter;                         // n but for the channels
  std::optional<Shared> in, out;                        // channels
  int64_t inChannels, outChannels;                      // of a block
  std::optional<Shared> together; // of `groups` the one of channels that do not mix; a block lies beside each other
  ElementType operands, partials;
  AmpTypes types;
  int64_t mostProducts;   // that a tile may sum
  int64_t slimWindow = 0; // of the slim convolution's vertex, if that is meant
  bool nx1() const { return !fields.empty(); }
  // Places of a window that the vertex takes, of which those beyond the kernel have weights of zero.
  int64_t tapsOf(size_t window) const {
    int64_t extent = kernel->loops[roles.windows[window].tap].extent;
    return slimWindow && window + 1 == fields.size() ? roundUp(extent, slimWindow) : extent;
  }
  int64_t groupChannels() const { return together ? together->unit : 1; }
};

// How a product is shared: parts of each loop, and rounds in which a tile's channels come one after the other.
struct CompilerState::ProductPlan {
  int64_t groups = 1, positions = 1, outBlocks = 1, inBlocks = 1; // parts
  bool evenPlaces = false; // positions in blocks as small as can be, else parts of the first loops
  int64_t rounds = 1;
  bool bringsWeights = false; // though they are constant: they lie on one tile each, and come in every round
  double cycles = 0;
  int64_t bytes = 0, weightBytes = 0; // of all, and of weights that stay
  // Blocks, in units, by list of the product.
  std::vector<Split> groupSplits, positionSplits, fieldSplits, outOuterSplits;
  Split outSplit, inSplit;
};

} // namespace quadrille::ipu
