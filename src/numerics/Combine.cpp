#include "numerics/BlockEvaluator.h"

#include "numerics/BlockKernels.h"
#include "numerics/Convert.h"
#include "numerics/NarrowFloat.h"

#include "llvm/Support/ErrorHandling.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>

namespace quadrille {

namespace {

BlockOpcode opcodeOf(Combine combine) {
  switch (combine) {
  case Combine::Sum:
    return BlockOpcode::Add;
  case Combine::Product:
    return BlockOpcode::Multiply;
  case Combine::Minimum:
    return BlockOpcode::Minimum;
  case Combine::Maximum:
    return BlockOpcode::Maximum;
  case Combine::MinimumNumber:
    return BlockOpcode::MinimumNumber;
  case Combine::MaximumNumber:
    return BlockOpcode::MaximumNumber;
  case Combine::And:
    return BlockOpcode::And;
  case Combine::Or:
    return BlockOpcode::Or;
  case Combine::Xor:
    return BlockOpcode::Xor;
  }
  llvm_unreachable("unknown combine");
}

// The type in which the fold runs.
ElementType foldType(ElementType type) {
  if (isNarrowFloat(type))
    return ElementType::f32;
  if (isInteger(type) && bitWidth(type) < 8)
    return kindOf(type) == ElementKind::Signed ? ElementType::i8 : ElementType::u8;
  return type;
}

constexpr size_t blockLength = 512; // a multiple of foldLanes: blocks do not shift the lanes
constexpr size_t maxElementBytes = 8;

// `n` strided elements of `type`, dense and in the fold's type, in `destination`; `temporary` holds a block.
void loadBlock(ElementType type, const std::byte *source, int64_t stride, void *destination, void *temporary,
               size_t n) {
  size_t width = byteWidth(type);
  ElementType fold = foldType(type);
  bool sameBytes = fold == type || byteWidth(fold) == width;
  if (stride == 1) {
    if (sameBytes)
      std::memcpy(destination, source, n * width);
    else
      convert(type, source, fold, destination, n);
    return;
  }
  auto *dense = static_cast<std::byte *>(sameBytes ? destination : temporary);
  for (size_t i = 0; i < n; ++i)
    std::memcpy(dense + i * width, source + static_cast<int64_t>(i) * stride * static_cast<int64_t>(width), width);
  if (!sameBytes)
    convert(type, dense, fold, destination, n);
}

} // namespace

uint64_t neutralBits(Combine combine, ElementType type) {
  bool isSigned = kindOf(type) == ElementKind::Signed;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  size_t hostBits = byteWidth(type) * 8;
  uint64_t hostMask = ~uint64_t(0) >> (64 - hostBits);
  // The largest integer; its complement is the smallest one, sign-extended over the host bytes.
  uint64_t largest = ~uint64_t(0) >> (64 - bitWidth(type) + (isSigned ? 1 : 0));
  switch (combine) {
  case Combine::Sum:
  case Combine::Or:
  case Combine::Xor:
    return 0;
  case Combine::Product:
    return bitsFromDouble(type, 1);
  case Combine::And:
    return type == ElementType::boolean ? 1 : isSigned ? hostMask : largest;
  case Combine::Minimum:
    return isFloat(type) ? bitsFromDouble(type, infinity, bitWidth(type) == 8 && type != ElementType::f8e5m2) : largest;
  case Combine::Maximum:
    if (isFloat(type))
      return bitsFromDouble(type, -infinity, bitWidth(type) == 8 && type != ElementType::f8e5m2);
    return isSigned ? ~largest & hostMask : 0;
  case Combine::MinimumNumber:
  case Combine::MaximumNumber:
    if (isFloat(type))
      return bitsFromDouble(type, std::numeric_limits<double>::quiet_NaN());
    return neutralBits(combine == Combine::MinimumNumber ? Combine::Minimum : Combine::Maximum, type);
  }
  llvm_unreachable("unknown combine");
}

bool combines(Combine combine, ElementType type) {
  return foldKernel(opcodeOf(combine), foldType(type)) != nullptr;
}

void combineInto(Combine combine, ElementType type, void *accumulator, const void *data, int64_t stride,
                 int64_t count) {
  if (count <= 0)
    return;
  ElementType fold = foldType(type);
  FoldKernel kernel = foldKernel(opcodeOf(combine), fold);
  assert(kernel != nullptr && "the type has no such operation");
  size_t foldWidth = byteWidth(fold), width = byteWidth(type);
  alignas(64) std::byte lanes[foldLanes * maxElementBytes];
  alignas(64) std::byte block[blockLength * maxElementBytes];
  alignas(64) std::byte temporary[blockLength * maxElementBytes];
  auto *source = static_cast<const std::byte *>(data);
  bool inPlace = fold == type && stride == 1 && reinterpret_cast<uintptr_t>(source) % width == 0;

  size_t used = std::min<size_t>(foldLanes, static_cast<size_t>(count));
  loadBlock(type, source, stride, lanes, temporary, used);
  auto at = [&](int64_t i) { return source + i * stride * static_cast<int64_t>(width); };
  if (inPlace)
    kernel(lanes, at(static_cast<int64_t>(used)), static_cast<size_t>(count) - used);
  else
    for (auto i = static_cast<int64_t>(used); i < count; i += blockLength) {
      auto n = static_cast<size_t>(std::min<int64_t>(blockLength, count - i));
      loadBlock(type, at(i), stride, block, temporary, n);
      kernel(lanes, block, n);
    }
  for (size_t half = foldLanes / 2; half >= 1; half /= 2)
    if (used > half) {
      std::memcpy(block, lanes + half * foldWidth, half * foldWidth);
      kernel(lanes, block, used - half);
      used = half;
    }

  alignas(8) std::byte total[maxElementBytes];
  loadBlock(type, static_cast<const std::byte *>(accumulator), 1, total, temporary, 1);
  kernel(total, lanes, 1);
  convert(fold, total, type, accumulator, 1); // narrows once; sub-byte integers wrap
}

void combineElementwise(Combine combine, ElementType type, void *accumulators, const void *data, int64_t count) {
  ElementType fold = foldType(type);
  BlockKernel kernel = arithmeticKernel(opcodeOf(combine), fold);
  assert(kernel != nullptr && "the type has no such operation");
  size_t width = byteWidth(type);
  auto *out = static_cast<std::byte *>(accumulators);
  auto *in = static_cast<const std::byte *>(data);
  bool direct =
      fold == type && reinterpret_cast<uintptr_t>(out) % width == 0 && reinterpret_cast<uintptr_t>(in) % width == 0;
  int64_t done = 0;
  if (direct && count >= static_cast<int64_t>(kernelGranule)) {
    done = count - count % static_cast<int64_t>(kernelGranule);
    BlockSource sources[] = {{out, ~size_t(0)}, {in, ~size_t(0)}};
    kernel(out, sources, static_cast<size_t>(done));
  }
  alignas(64) std::byte left[blockLength * maxElementBytes], right[blockLength * maxElementBytes];
  for (; done < count; done += blockLength) {
    auto n = static_cast<size_t>(std::min<int64_t>(blockLength, count - done));
    loadBlock(type, out + static_cast<size_t>(done) * width, 1, left, nullptr, n);
    loadBlock(type, in + static_cast<size_t>(done) * width, 1, right, nullptr, n);
    BlockSource sources[] = {{left, ~size_t(0)}, {right, ~size_t(0)}};
    kernel(left, sources, n);
    convert(fold, left, type, out + static_cast<size_t>(done) * width, n);
  }
}

} // namespace quadrille
