// Runs passes over modules in MLIR's textual form; for tests and for looking at what the compiler does.
#include "graph/Passes.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  quadrille::graph::registerDialects(registry);
  quadrille::graph::registerPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Quadrille graph optimizer\n", registry));
}
