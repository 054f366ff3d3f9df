#include "numerics/Tensor.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>
#include <new>

#include <sys/mman.h>

namespace quadrille {

int64_t elementCount(llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

Shape rowMajorStrides(llvm::ArrayRef<int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;)
    strides[d - 1] = strides[d] * shape[d];
  return strides;
}

std::string describe(ElementType type, llvm::ArrayRef<int64_t> shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << nameOf(type) << '[';
  llvm::interleave(shape, os, ",");
  os << ']';
  return text;
}

Tensor Tensor::uninitialized(ElementType type, Shape shape) {
  // Large tensors take huge pages where the system gives them: the first touch of 4 KiB pages costs as much time as an
  // elementwise kernel over them.
  constexpr size_t hugePage = size_t(1) << 21;
  Tensor tensor;
  tensor.elementType = type;
  tensor.extents = std::move(shape);
  size_t size = std::max<size_t>(tensor.byteSize(), 1);
  std::align_val_t alignment{size >= 4 * hugePage ? hugePage : 64};
  auto *bytes = static_cast<std::byte *>(::operator new(size, alignment));
  if (size >= 4 * hugePage)
    madvise(bytes, size, MADV_HUGEPAGE); // only advice
  tensor.owner = std::shared_ptr<const void>(
      bytes, [alignment](const void *p) { ::operator delete(const_cast<void *>(p), alignment); });
  tensor.storage = bytes;
  tensor.writable = true;
  return tensor;
}

Tensor Tensor::zeros(ElementType type, Shape shape) {
  Tensor tensor = uninitialized(type, std::move(shape));
  std::memset(tensor.mutableBytes(), 0, tensor.byteSize());
  return tensor;
}

Tensor Tensor::borrow(ElementType type, Shape shape, llvm::ArrayRef<std::byte> bytes,
                      std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.elementType = type;
  tensor.extents = std::move(shape);
  assert(bytes.size() == tensor.byteSize());
  tensor.owner = std::move(owner);
  tensor.storage = bytes.data();
  return tensor;
}

std::byte *Tensor::mutableBytes() {
  assert(writable && "the bytes are borrowed");
  return const_cast<std::byte *>(storage);
}

Tensor Tensor::reshaped(Shape shape) const {
  assert(elementCount(shape) == elements());
  Tensor tensor = *this;
  tensor.extents = std::move(shape);
  return tensor;
}

} // namespace quadrille
