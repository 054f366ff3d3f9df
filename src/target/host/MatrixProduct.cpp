#include "target/host/Operation.h"
namespace quadrille::host {
OperationPointer compileMatrixProduct(const graph::KernelGraph &, const graph::Kernel &) {
  return nullptr;
}
OperationPointer compileConvolution(const graph::KernelGraph &, const graph::Kernel &) {
  return nullptr;
}
} // namespace quadrille::host
