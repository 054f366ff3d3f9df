// Dense row-major arrays in host memory.
#pragma once

#include "numerics/ElementType.h"

#include "llvm/ADT/ArrayRef.h"

#include <cassert>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace quadrille {

using Shape = std::vector<int64_t>;

// Product of the extents; 1 for a scalar.
int64_t elementCount(llvm::ArrayRef<int64_t> shape);

// Row-major strides in elements.
Shape rowMajorStrides(llvm::ArrayRef<int64_t> shape);

// "f32[1,3,224,224]".
std::string describe(ElementType type, llvm::ArrayRef<int64_t> shape);

// A typed array whose bytes are shared: copying a Tensor copies a pointer. Bytes are little-endian, 64-byte aligned
// when allocated here, arbitrarily aligned when borrowed (weights in a mapped file).
class Tensor {
public:
  Tensor() = default;

  // Zero-filled.
  static Tensor zeros(ElementType type, Shape shape);
  // Not initialised.
  static Tensor uninitialized(ElementType type, Shape shape);
  // Over bytes that `owner` keeps alive; never written through. The size must match (asserted).
  static Tensor borrow(ElementType type, Shape shape, llvm::ArrayRef<std::byte> bytes,
                       std::shared_ptr<const void> owner);
  // A rank-0 or rank-1 tensor from C++ values of the same width.
  template <typename T> static Tensor of(ElementType type, Shape shape, llvm::ArrayRef<T> values) {
    assert(sizeof(T) == byteWidth(type) && static_cast<int64_t>(values.size()) == elementCount(shape));
    Tensor tensor = uninitialized(type, std::move(shape));
    std::copy(values.begin(), values.end(), tensor.mutableData<T>());
    return tensor;
  }

  ElementType type() const { return elementType; }
  const Shape &shape() const { return extents; }
  int64_t elements() const { return elementCount(extents); }
  size_t byteSize() const { return static_cast<size_t>(elements()) * byteWidth(elementType); }
  llvm::ArrayRef<std::byte> bytes() const { return {storage, byteSize()}; }

  template <typename T> const T *data() const {
    assert(sizeof(T) == byteWidth(elementType));
    return reinterpret_cast<const T *>(storage);
  }
  // Asserts that the bytes are owned, not borrowed. Other Tensors that share them see the change.
  template <typename T> T *mutableData() {
    assert(sizeof(T) == byteWidth(elementType));
    return reinterpret_cast<T *>(mutableBytes());
  }
  std::byte *mutableBytes();

  // The same bytes under another shape with the same number of elements (asserted).
  Tensor reshaped(Shape shape) const;
  bool valid() const { return owner != nullptr || storage != nullptr; }

private:
  ElementType elementType = ElementType::f32;
  Shape extents = {0};
  std::shared_ptr<const void> owner;
  const std::byte *storage = nullptr;
  bool writable = false;
};

} // namespace quadrille
