// What matrix products and convolutions through numerics/Gemm.h share.
#pragma once

#include "graph/KernelGraph.h"
#include "numerics/Gemm.h"
#include "target/host/Operation.h"

#include <optional>

namespace quadrille::host {

enum class ProductForm { F32, F64, Narrow, Integer8, I16, I32, I64 };

// The matrix product for operands and result of these types; nullopt: numerics has none.
std::optional<ProductForm> productFormOf(ElementType lhs, ElementType rhs, ElementType result);
// The type that the product accumulates in, for a result of that type.
ElementType sumTypeOf(ProductForm form, ElementType result);

struct ProductOperand {
  ElementType type = ElementType::f32;
  const void *data = nullptr;
  int32_t zero = 0; // Integer8 only
};
// `c` is of the form's sum type.
void multiply(ProductForm form, const GemmShape &shape, const ProductOperand &a, const ProductOperand &b, void *c);

// A zero point that is one number for the whole operand.
class ScalarZeroPoint {
public:
  // False when `read` is a zero point that the form or this class does not have.
  bool assign(const graph::KernelGraph &graph, const graph::Kernel &kernel, std::optional<unsigned> read,
              int64_t constant, ProductForm form);
  int32_t value(llvm::ArrayRef<const std::byte *> reads) const;

private:
  std::optional<unsigned> read;
  ElementType type = ElementType::i8;
  int32_t constant = 0;
};

// Lays what the sum of a contraction starts from into a result of type `sumType`. Its only read is the write's
// `initial`, if there is one. Null when it cannot be compiled.
OperationPointer compileStart(const graph::KernelGraph &graph, const graph::Kernel &kernel, ElementType sumType);

// A contraction with windows as matrix products of patches of the operand: any type that numerics multiplies, and the
// forms that the fast path of convolutions lacks. Null when the kernel is none or its strides do not fit.
OperationPointer compileWindowedProduct(const graph::KernelGraph &graph, const graph::Kernel &kernel);

} // namespace quadrille::host
