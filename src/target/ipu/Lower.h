// Models as graphs of kernels that the compiler has programs for, in types that tiles have.
#pragma once

#include "graph/Contraction.h"
#include "graph/KernelGraph.h"

#include "llvm/Support/Error.h"

namespace quadrille::ipu {

// Attribute of a contraction of integers: no sum is larger in magnitude, so that f32 holds them exactly.
constexpr const char *largestSumName = "largest_sum";

// What contractions multiply and hold their partial sums in.
struct Precision {
  ElementType operands = ElementType::f16, partials = ElementType::f32;
};

// A contraction of floats that a vertex has: the matrix unit's, or that of channels that do not mix.
bool isMatrixProduct(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// A convolution whose channels do not mix: each is convolved alone.
bool isDepthwise(const graph::Kernel &kernel, const graph::Contraction &contraction);

// The type in which a matrix product of the machine's graph multiplies.
ElementType multipliedType(const graph::Kernel &kernel, const Precision &precision);

// Loops of which the turns stand one behind the other, or the first one between kernels loop_begin ... (KernelGraph.h).
enum class Loops : uint8_t { Unrolled, Repeated };

// The graph without composites, scans and computed indices; with types that tiles have: 64-bit integers in 32 bits, and
// what contractions read in the type that they multiply. Mismatch errors name a value of a type that there is not.
llvm::Expected<graph::KernelGraph> machineGraph(const graph::KernelGraph &graph, const Precision &precision,
                                                Loops loops = Loops::Unrolled);

} // namespace quadrille::ipu
