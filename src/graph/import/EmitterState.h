// The MLIR side of Emitter; for Emitter.cpp, Lane.cpp and Importer.cpp only.
#pragma once

#include "graph/dialect/QdDialect.h"
#include "graph/import/Emitter.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/MLIRContext.h"

#include "llvm/ADT/DenseMap.h"

#include <deque>

namespace quadrille::graph::importer {

// A block that sees no values from outside: the function's, a composite's or a scan's body. Constants are materialised
// once in each.
struct IsolatedBlock {
  explicit IsolatedBlock(mlir::Block *block) : block(block) {}
  mlir::Block *block = nullptr;
  llvm::DenseMap<const TensorData *, mlir::Value> constants;
};

struct Emitter::State {
  explicit State(mlir::MLIRContext *context) : builder(context), location(mlir::UnknownLoc::get(context)) {}

  TensorRef add(TensorData data) {
    arena.push_back(std::move(data));
    return TensorRef(&arena.back());
  }
  TensorRef add(mlir::Value value);
  // A constant that the importer has computed; together they may not take too much memory.
  TensorRef computed(Tensor tensor);
  TensorData &change(TensorRef tensor) { return const_cast<TensorData &>(*tensor.get()); } // it stands in the arena
  mlir::Value valueOf(TensorRef tensor); // materialises constants in the current isolated block
  mlir::RankedTensorType typeOf(ElementType type, llvm::ArrayRef<int64_t> shape);
  mlir::Type signlessType(ElementType type);

  // The signless scalar for an element, and back.
  Lane enter(Emitter *emitter, mlir::Value element);
  mlir::Value leave(const Lane &lane);

  mlir::OpBuilder builder;
  mlir::Location location;
  std::deque<TensorData> arena;
  llvm::SmallVector<IsolatedBlock> isolated;
  int64_t computedBytes = 0; // of constants that the file does not hold
  unsigned loopDepth = 0;    // scans around the builder's position
};

} // namespace quadrille::graph::importer
