// Where the elements of variables lie in the memories of tiles.
#pragma once

#include "target/ipu/Code.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::ipu {

// `count` elements, `tileStride` bytes apart on the tile and `hostStride` elements apart in the row-major array.
// `index` is the first one's in the array; negative: there are none in the array, the tile has padding there.
struct ElementRun {
  uint32_t tile = 0;
  int64_t address = 0, tileStride = 0;
  int64_t index = 0, hostStride = 0, count = 0;
};

// Empty when the part can hold elements of a variable of that shape, else what is wrong with its numbers.
std::string partProblem(const Part &part, llvm::ArrayRef<int64_t> shape);

// All runs of the part, padding among them. The part must have no problem.
void forEachRun(const Part &part, llvm::ArrayRef<int64_t> shape, llvm::function_ref<void(const ElementRun &)> run);

// Bytes from the part's address to behind its last element.
int64_t spanOf(const Part &part, ElementType type);

// Whether tiles hold the bits of floats of the type `given` in integers of the type `held`.
bool isBits(ElementType held, ElementType given);

} // namespace quadrille::ipu
