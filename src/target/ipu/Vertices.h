// What vertices do: which bytes of their tile they read and write, and the values they make of them.
#pragma once

#include "target/ipu/Code.h"

#include "numerics/BlockEvaluator.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <memory>
#include <optional>

namespace quadrille::ipu {

// An alignment: to the widest load of the machine.
constexpr int64_t ofLoads = 0;

// Runs of `bytes` bytes that begin at `address` + sum of index * stride over the loops, innermost last.
struct Access {
  bool writes = false;
  int64_t address = 0, bytes = 0;
  int64_t alignment = 1;                 // of the address and strides, since codelets load and store whole words there
  std::vector<int64_t> extents, strides; // bytes

  // From the first byte to behind the last one.
  int64_t first() const;
  int64_t end() const;
  void forEachRun(llvm::function_ref<void(int64_t address)> run) const;
};

// Whether two accesses have a byte in common.
bool meet(const Access &a, const Access &b);

// The values of a parameter of the vertex.
llvm::ArrayRef<int64_t> valuesOf(const Vertex &vertex, llvm::StringRef parameter);
int64_t valueOf(const Vertex &vertex, llvm::StringRef parameter);
ElementType typeOf(const Vertex &vertex, llvm::StringRef parameter);
// Of a MultiUpdate: how rows are combined with updates; nothing where they are replaced.
std::optional<Combine> updateOf(const Vertex &vertex);

// Empty when the parameters of the vertex are there, in range and agree with each other, else what is wrong: "extents:
// 0 is not in 1..2147483648".
std::string parameterProblem(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions);

// What follows may be asked of vertices without a parameterProblem.
std::vector<Access> accessesOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions);

// Of a reduction: whether it adds parts that lie one after the other, each in the order of the results.
bool sumsArray(const Vertex &vertex);

// Empty where a vertex that can have wide loads may have them, else why not: what it reads so must lie within the
// interleaved memory and be aligned to such a load.
std::string wideLoadsProblem(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions,
                             const Architecture &machine);

// What a vertex computes: multiply-accumulates of the matrix unit, and arithmetic operations, of which each of those is
// two. Elements that only fill up blocks count.
struct VertexWork {
  double products = 0, operations = 0;
};
VertexWork workOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions);

// A vertex made ready to be executed on many tiles.
class VertexFunction {
public:
  virtual ~VertexFunction() = default;
  // On the memory of one tile; all accesses must lie within it. May be called from several threads.
  virtual void execute(std::byte *memory) const = 0;

  static std::unique_ptr<VertexFunction> make(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions);
};

} // namespace quadrille::ipu
