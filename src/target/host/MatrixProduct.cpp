// Contractions without windows through numerics/Gemm.h: one group of loops each for rows, columns and the sum, the
// rest walked outside.
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "target/host/Operation.h"
#include "target/host/Product.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

namespace quadrille::host {

using namespace graph;

namespace {

struct Strides {
  int64_t lhs = 0, rhs = 0, result = 0;
};
struct ProductLoop {
  int64_t extent = 1;
  Strides stride;
};

class MatrixProduct final : public Operation {
public:
  bool prepare(const KernelGraph &graph, const Kernel &kernel);
  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override;

private:
  ProductForm form = ProductForm::F32;
  ElementType lhsType = ElementType::f32, rhsType = ElementType::f32;
  unsigned lhs = 0, rhs = 1;
  ScalarZeroPoint lhsZero, rhsZero;
  int64_t lhsBase = 0, rhsBase = 0;
  GemmShape shape;
  bool swapped = false;                    // the transposed product, when the result runs along the rows
  llvm::SmallVector<ProductLoop, 4> outer; // walked outside
  ProductSums sums;
};

} // namespace

// The loops as few nested ones, outermost first.
static llvm::SmallVector<ProductLoop, 4> collapsed(llvm::SmallVector<ProductLoop, 4> loops) {
  llvm::erase_if(loops, [](const ProductLoop &loop) { return loop.extent == 1; });
  llvm::stable_sort(loops, [](const ProductLoop &a, const ProductLoop &b) {
    return std::make_tuple(a.stride.result, a.stride.lhs, a.stride.rhs) >
           std::make_tuple(b.stride.result, b.stride.lhs, b.stride.rhs);
  });
  for (size_t l = 0; l + 1 < loops.size();) {
    const ProductLoop &inner = loops[l + 1];
    auto joins = [&](int64_t o, int64_t i) { return o == i * inner.extent; };
    Strides o = loops[l].stride, i = inner.stride;
    if (!joins(o.lhs, i.lhs) || !joins(o.rhs, i.rhs) || !joins(o.result, i.result)) {
      ++l;
      continue;
    }
    loops[l] = {loops[l].extent * inner.extent, i};
    loops.erase(loops.begin() + l + 1);
  }
  return loops;
}

bool MatrixProduct::prepare(const KernelGraph &graph, const Kernel &kernel) {
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  if (!contraction || contraction->isConvolution())
    return false;
  lhs = contraction->lhs;
  rhs = contraction->rhs;
  const Read &left = kernel.reads[lhs], &right = kernel.reads[rhs];
  if (left.padding || right.padding)
    return false;
  lhsType = graph.values[left.value].type;
  rhsType = graph.values[right.value].type;
  const Write &write = kernel.writes[0];
  const Value &result = graph.values[write.value];
  std::optional<ProductForm> found = productFormOf(lhsType, rhsType, result.type);
  if (!found)
    return false;
  form = *found;
  if (!lhsZero.assign(graph, kernel, contraction->lhsZeroPoint, contraction->lhsZeroConstant, form) ||
      !rhsZero.assign(graph, kernel, contraction->rhsZeroPoint, contraction->rhsZeroConstant, form))
    return false;
  Shape leftStrides = rowMajorStrides(graph.values[left.value].shape),
        rightStrides = rowMajorStrides(graph.values[right.value].shape), resultStrides = rowMajorStrides(result.shape);
  lhsBase = baseOf(left.map, leftStrides);
  rhsBase = baseOf(right.map, rightStrides);

  auto loopsOf = [&](llvm::ArrayRef<unsigned> loops) {
    llvm::SmallVector<ProductLoop, 4> list;
    for (unsigned l : loops)
      list.push_back({kernel.loops[l].extent,
                      {strideAlong(left.map, leftStrides, l), strideAlong(right.map, rightStrides, l),
                       strideAlong(write.map, resultStrides, l)}});
    return collapsed(list);
  };
  auto batch = loopsOf(contraction->batch), m = loopsOf(contraction->m), n = loopsOf(contraction->n),
       k = loopsOf(contraction->k);
  auto takeInner = [&](llvm::SmallVector<ProductLoop, 4> &loops) {
    ProductLoop inner;
    if (!loops.empty())
      inner = loops.pop_back_val();
    llvm::append_range(outer, loops);
    return inner;
  };
  ProductLoop batchLoop = takeInner(batch), rows = takeInner(m), columns = takeInner(n), sum = takeInner(k);

  // The result must run along columns (or, transposed, along rows); each operand along one of its two loops.
  if (columns.extent > 1 && columns.stride.result != 1) {
    if (rows.extent > 1 && rows.stride.result != 1)
      return false;
    swapped = true;
  }
  auto operandFits = [](int64_t row, int64_t rowExtent, int64_t column, int64_t columnExtent, bool &transpose,
                        int64_t &leading) {
    // row-major: the column stride is 1
    if ((column == 1 || columnExtent == 1) && (row >= columnExtent || rowExtent == 1)) {
      transpose = false;
      leading = rowExtent == 1 ? columnExtent : row;
      return true;
    }
    if ((row == 1 || rowExtent == 1) && (column >= rowExtent || columnExtent == 1)) {
      transpose = true;
      leading = columnExtent == 1 ? rowExtent : column;
      return true;
    }
    return false;
  };
  bool lhsTransposed = false, rhsTransposed = false;
  int64_t lhsLeading = 0, rhsLeading = 0;
  if (!operandFits(rows.stride.lhs, rows.extent, sum.stride.lhs, sum.extent, lhsTransposed, lhsLeading) ||
      !operandFits(sum.stride.rhs, sum.extent, columns.stride.rhs, columns.extent, rhsTransposed, rhsLeading))
    return false;
  shape.k = sum.extent;
  shape.batch = batchLoop.extent;
  shape.batchStrideC = batchLoop.stride.result;
  if (!swapped) {
    shape.m = rows.extent;
    shape.n = columns.extent;
    shape.transposeA = lhsTransposed;
    shape.transposeB = rhsTransposed;
    shape.leadingA = lhsLeading;
    shape.leadingB = rhsLeading;
    shape.leadingC = rows.extent == 1 ? columns.extent : rows.stride.result;
    shape.batchStrideA = batchLoop.stride.lhs;
    shape.batchStrideB = batchLoop.stride.rhs;
  } else {
    shape.m = columns.extent;
    shape.n = rows.extent;
    shape.transposeA = !rhsTransposed;
    shape.transposeB = !lhsTransposed;
    shape.leadingA = rhsLeading;
    shape.leadingB = lhsLeading;
    shape.leadingC = columns.extent == 1 ? rows.extent : columns.stride.result;
    shape.batchStrideA = batchLoop.stride.rhs;
    shape.batchStrideB = batchLoop.stride.lhs;
  }
  if (shape.leadingC < shape.n)
    return false;
  if (!sums.prepare(graph, kernel, form, /*inParts=*/!k.empty())) // loops of the sum that are walked outside
    return false;
  shape.accumulate = sums.accumulate();
  return true;
}

llvm::Error MatrixProduct::run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
  llvm::Expected<std::byte *> to = sums.begin(reads, writes[0]);
  if (!to)
    return to.takeError();
  int32_t lhsZeroValue = lhsZero.value(reads), rhsZeroValue = rhsZero.value(reads);
  int64_t trips = 1;
  for (const ProductLoop &loop : outer)
    trips *= loop.extent;
  for (int64_t trip = 0; trip < trips; ++trip) {
    int64_t lhsOffset = lhsBase, rhsOffset = rhsBase, resultOffset = 0, rest = trip;
    for (const ProductLoop &loop : llvm::reverse(outer)) {
      int64_t i = rest % loop.extent;
      rest /= loop.extent;
      lhsOffset += i * loop.stride.lhs;
      rhsOffset += i * loop.stride.rhs;
      resultOffset += i * loop.stride.result;
    }
    ProductOperand a = {lhsType, reads[lhs] + lhsOffset * static_cast<int64_t>(byteWidth(lhsType)), lhsZeroValue};
    ProductOperand b = {rhsType, reads[rhs] + rhsOffset * static_cast<int64_t>(byteWidth(rhsType)), rhsZeroValue};
    if (swapped)
      std::swap(a, b);
    multiply(form, shape, a, b, *to + resultOffset * static_cast<int64_t>(byteWidth(sums.type())));
  }
  sums.finish(writes[0]);
  return llvm::Error::success();
}

OperationPointer compileMatrixProduct(const KernelGraph &graph, const Kernel &kernel) {
  auto operation = std::make_unique<MatrixProduct>();
  if (!operation->prepare(graph, kernel))
    return nullptr;
  return operation;
}

} // namespace quadrille::host
