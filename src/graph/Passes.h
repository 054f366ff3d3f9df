// Passes over the MLIR form of a model, and the pipeline that brings an imported module into the form that kernels are
// extracted from.
#pragma once

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <memory>

namespace mlir {
class DialectRegistry;
class ModuleOp;
class Pass;
} // namespace mlir

namespace quadrille::graph {

// The dialects of an imported module.
void registerDialects(mlir::DialectRegistry &registry);

// Registers our passes by name, for quadrille-opt.
void registerPasses();

// Prints the kernels of every function on standard output.
std::unique_ptr<mlir::Pass> createPrintKernelsPass();

// Canonicalises, removes common subexpressions and dead code, verifying after every pass. Writes the IR before the
// first and after every pass to `dumpDirectory`/NN-PASS.mlir if that is not empty (weights elided). Internal errors
// carry what MLIR says; user errors when a dump cannot be written.
llvm::Error runPipeline(mlir::ModuleOp module, llvm::StringRef dumpDirectory = "");

} // namespace quadrille::graph
