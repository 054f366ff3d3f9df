#include "target/host/Product.h"

#include "base/Parallel.h"
#include "graph/Contraction.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::host {

using namespace graph;

std::optional<ProductForm> productFormOf(ElementType lhs, ElementType rhs, ElementType result) {
  auto isByte = [](ElementType type) { return type == ElementType::i8 || type == ElementType::u8; };
  if (isFloat(lhs) && isFloat(rhs) && isFloat(result)) {
    if (lhs == ElementType::f64 && rhs == ElementType::f64)
      return ProductForm::F64;
    if (lhs == ElementType::f64 || rhs == ElementType::f64 || result == ElementType::f64)
      return std::nullopt;
    return lhs == ElementType::f32 && rhs == ElementType::f32 ? ProductForm::F32 : ProductForm::Narrow;
  }
  bool result32 = result == ElementType::i32 || result == ElementType::u32;
  if (isByte(lhs) && isByte(rhs) && result32)
    return ProductForm::Integer8;
  if (lhs == ElementType::i16 && rhs == lhs && result32)
    return ProductForm::I16;
  // Modulo 2^bits the sign of operands of the result's width does not matter.
  if ((lhs == ElementType::i32 || lhs == ElementType::u32) && rhs == lhs && result32)
    return ProductForm::I32;
  if ((lhs == ElementType::i64 || lhs == ElementType::u64) && rhs == lhs && result == lhs)
    return ProductForm::I64;
  return std::nullopt;
}

void multiply(ProductForm form, const GemmShape &shape, const ProductOperand &a, const ProductOperand &b, void *c) {
  auto as = []<typename T>(const void *data, T) { return static_cast<const T *>(data); };
  switch (form) {
  case ProductForm::F32:
    return gemmF32(shape, as(a.data, float()), as(b.data, float()), static_cast<float *>(c));
  case ProductForm::F64:
    return gemmF64(shape, as(a.data, double()), as(b.data, double()), static_cast<double *>(c));
  case ProductForm::Narrow:
    return gemmNarrow(shape, a.type, a.data, b.type, b.data, static_cast<float *>(c));
  case ProductForm::Integer8:
    return gemmInteger8(shape, a.type, a.data, a.zero, b.type, b.data, b.zero, static_cast<int32_t *>(c));
  case ProductForm::I16:
    return gemmI16(shape, as(a.data, int16_t()), as(b.data, int16_t()), static_cast<int32_t *>(c));
  case ProductForm::I32:
    return gemmI32(shape, as(a.data, int32_t()), as(b.data, int32_t()), static_cast<int32_t *>(c));
  case ProductForm::I64:
    return gemmI64(shape, as(a.data, int64_t()), as(b.data, int64_t()), static_cast<int64_t *>(c));
  }
}

bool ScalarZeroPoint::assign(const KernelGraph &graph, const Kernel &kernel, std::optional<unsigned> zeroPoint,
                             int64_t zeroConstant, ProductForm form) {
  read = zeroPoint;
  constant = static_cast<int32_t>(zeroConstant);
  if (!read)
    return zeroConstant == 0 || (form == ProductForm::Integer8 && constant == zeroConstant);
  const Value &value = graph.values[kernel.reads[*read].value];
  type = value.type;
  return form == ProductForm::Integer8 && elementCount(value.shape) == 1;
}

int32_t ScalarZeroPoint::value(llvm::ArrayRef<const std::byte *> reads) const {
  int32_t value = constant;
  if (read)
    convert(type, reads[*read], ElementType::i32, &value, 1);
  return value;
}

// An operation that lays what a contraction's sums start from into a result of type `sumType`.
static OperationPointer compileStart(const KernelGraph &graph, const Kernel &kernel, ElementType sumType) {
  const Write &write = kernel.writes[0];
  KernelGraph start;
  start.values.push_back({"result", sumType, graph.values[write.value].shape, ValueRole::Intermediate, {}, {}});
  Kernel copy;
  std::vector<unsigned> renamed(kernel.loops.size(), 0);
  for (auto [l, loop] : llvm::enumerate(kernel.loops))
    if (!loop.reduction) {
      renamed[l] = static_cast<unsigned>(copy.loops.size());
      copy.loops.push_back(loop);
    }
  auto rename = [&](AccessMap map) {
    for (DimensionAccess &access : map)
      for (auto &[loop, coefficient] : access.terms)
        loop = renamed[loop];
    return map;
  };
  Register value;
  if (write.initial) {
    start.values.push_back(graph.values[write.initial->value]);
    copy.reads.push_back({1, rename(write.initial->map), write.initial->padding});
    ElementType type = start.values[1].type;
    copy.body.inputs = {type};
    value = copy.body.append(BlockOpcode::Input, type, {}, 0);
    if (type != sumType)
      value = copy.body.append(BlockOpcode::Convert, sumType, {value});
  } else {
    uint64_t bits = 0;
    if (write.initialScalar)
      convert(write.initialScalar->type, &write.initialScalar->bits, sumType, &bits, 1);
    value = copy.body.append(BlockOpcode::Constant, sumType, {}, bits);
  }
  copy.body.results = {value};
  copy.writes.push_back({0, rename(write.map), Combiner::None, {}, {}});
  llvm::Expected<OperationPointer> compiled = compileStructured(start, copy);
  if (compiled)
    return std::move(*compiled);
  llvm::consumeError(compiled.takeError());
  return nullptr;
}

bool ProductSums::prepare(const KernelGraph &graph, const Kernel &kernel, ProductForm form, bool inParts) {
  const Value &result = graph.values[kernel.writes[0].value];
  resultType = result.type;
  sumType = form == ProductForm::F64 ? ElementType::f64 : isFloat(resultType) ? ElementType::f32 : resultType;
  elements = elementCount(result.shape);
  startRead = kernel.reads.size();
  if (startsFromZero(kernel.writes[0]) && !inParts)
    return true;
  start = compileStart(graph, kernel, sumType);
  return start != nullptr;
}

llvm::Expected<std::byte *> ProductSums::begin(llvm::ArrayRef<const std::byte *> reads, std::byte *result) {
  if (sumType != resultType) {
    if (!sums.valid())
      sums = Tensor::uninitialized(sumType, {elements});
    result = sums.mutableBytes();
  }
  if (start)
    if (llvm::Error error = start->run(reads.drop_front(std::min(startRead, reads.size())), {result}))
      return std::move(error);
  return result;
}

void ProductSums::finish(std::byte *result) const {
  if (sumType != resultType)
    convertInParallel(sumType, sums.bytes().data(), resultType, result, elements);
}

void convertInParallel(ElementType from, const std::byte *source, ElementType to, std::byte *destination,
                       int64_t count) {
  parallelFor(count, 1 << 15, [&](int64_t begin, int64_t end) {
    convert(from, source + begin * static_cast<int64_t>(byteWidth(from)), to,
            destination + begin * static_cast<int64_t>(byteWidth(to)), static_cast<size_t>(end - begin));
  });
}

} // namespace quadrille::host
