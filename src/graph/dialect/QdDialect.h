// The dialect `qd`; QdOps.td says what each operation means.
#pragma once

#include "graph/KernelGraph.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "llvm/ADT/StringMap.h"

#include <memory>
#include <optional>

namespace quadrille::qd {

// Names of the discardable attributes.
inline constexpr llvm::StringLiteral numericAttributeName = "qd.numeric";
inline constexpr llvm::StringLiteral operationAttributeName = "qd.operation";
inline constexpr llvm::StringLiteral nameAttributeName = "qd.name";

// Element types of a model and their MLIR types. cb16 has none: it is an arithmetic (`#qd.numeric`), not a type of a
// model.
std::optional<ElementType> elementTypeOf(mlir::Type type);
mlir::Type mlirTypeOf(mlir::MLIRContext *context, ElementType type);

// The location of what an ONNX node becomes: NameLoc(name, NameLoc(operation)).
mlir::Location nodeLocation(mlir::MLIRContext *context, llvm::StringRef name, llvm::StringRef operation);

// The ONNX nodes that a location names, in order of first occurrence.
llvm::SmallVector<graph::Node> nodesOf(mlir::Location location);

} // namespace quadrille::qd

#include "graph/dialect/QdDialect.h.inc"
#include "graph/dialect/QdEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "graph/dialect/QdAttributes.h.inc"
#define GET_OP_CLASSES
#include "graph/dialect/QdOps.h.inc"
