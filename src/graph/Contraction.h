// What each loop of a contraction is for, from its access maps; every target plans matrix products from this.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/SmallVector.h"

namespace quadrille::graph {

// Loops by role. `batch` loops index both operands and the result; `m` only the first operand and the result; `n` only
// the second operand and the result; `k` is reduced and indexes both. A convolution has in addition `window` pairs: a
// result loop and a reduced loop that together index one dimension of the first operand (stride * output + dilation *
// tap). Each loop of the kernel has exactly one role; those of `windows` are in none of the four lists.
struct Contraction {
  struct Window {
    unsigned output = 0;    // loop of the result dimension
    unsigned tap = 0;       // reduction loop of the filter dimension
    unsigned dimension = 0; // of the first operand
    int64_t stride = 1, dilation = 1;
    int64_t padBefore = 0, padAfter = 0; // elements of padding read before and after the operand's dimension
  };
  unsigned lhs = 0, rhs = 1; // which reads: lhs is the windowed operand of a convolution
  llvm::SmallVector<unsigned, 4> batch, m, n, k;
  llvm::SmallVector<Window, 3> windows;
  // Reads that give the zero points of lhs and rhs (scalar or one for each n), for integer contractions.
  std::optional<unsigned> lhsZeroPoint, rhsZeroPoint;
  // Zero points that are known and equal for the whole operand stand in the body instead.
  int64_t lhsZeroConstant = 0, rhsZeroConstant = 0;

  bool isConvolution() const { return !windows.empty(); }
  bool isWindowed(size_t dimension) const; // of lhs
};

// Fails (nullopt) when the kernel is no contraction or a loop has no role.
std::optional<Contraction> inferContraction(const KernelGraph &graph, const Kernel &kernel);

// Whether the indices of lhs lie inside its value in every dimension without a window, padded or not.
bool onlyWindowsLeave(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction);

bool startsFromZero(const Write &write);

// The arithmetic of a structured kernel where the model states none: values in their own types; sums and products of
// 8- and 16-bit floats accumulate in f32.
Numeric defaultNumeric(const KernelGraph &graph, const Kernel &kernel);

} // namespace quadrille::graph
