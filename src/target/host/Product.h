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

// The sums of a contraction on their way into its result: what they start from is laid down before, and where the
// result's type is narrower they are kept apart and narrowed at the end.
class ProductSums {
public:
  // With `inParts` several products are added to one sum. False when what the sums start from cannot be compiled.
  bool prepare(const graph::KernelGraph &graph, const graph::Kernel &kernel, ProductForm form, bool inParts);

  ElementType type() const { return sumType; }
  // Whether products are added to what `begin` has laid down; else they take its place.
  bool accumulate() const { return start != nullptr; }
  // Reads are the kernel's operands, `result` is its write. Gives where the sums are to be put.
  llvm::Expected<std::byte *> begin(llvm::ArrayRef<const std::byte *> reads, std::byte *result);
  void finish(std::byte *result) const;

private:
  ElementType sumType = ElementType::f32, resultType = ElementType::f32;
  int64_t elements = 0;
  OperationPointer start; // its only read is the write's `initial`, if there is one
  size_t startRead = 0;
  Tensor sums;
};

// `convert` for many elements.
void convertInParallel(ElementType from, const std::byte *source, ElementType to, std::byte *destination,
                       int64_t count);

// A contraction with windows as matrix products of patches of the operand: any type that numerics multiplies, and the
// forms that the fast path of convolutions lacks. Null when the kernel is none or its strides do not fit.
OperationPointer compileWindowedProduct(const graph::KernelGraph &graph, const graph::Kernel &kernel);

} // namespace quadrille::host
