// Where the elements of variables lie in the memory of a chip.
#pragma once

#include "target/tsp/Code.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <limits>

namespace quadrille::tsp {

// A word of the memory: one vector.
struct WordAddress {
  SliceName slice;
  uint8_t bank = 0;
  uint32_t address = 0;
  auto operator<=>(const WordAddress &) const = default;
};
std::string print(const WordAddress &word); // "MEM west 3, bank 0, address 17"

// The elements that a layout has: indices [begin[d], begin[d] + extents[d]) of each dimension.
struct ElementBox {
  Shape begin, extents;
};
// Of a layout whose ranges name dimensions of the variable.
ElementBox boxOf(const Layout &layout, const program::Variable &variable);

// Empty when the layouts that an output has, all without problems, have each of its elements once.
std::string outputProblem(llvm::ArrayRef<const Layout *> layouts, const program::Variable &variable);
// The same for an input, which may lie in several places: one copy's layouts behind the other's.
std::string inputProblem(llvm::ArrayRef<const Layout *> layouts, const program::Variable &variable);

// Empty when the layout fits variable and machine: known slices, bank, words and lanes within range, every element
// of its box covered, no element of the layout on another's lane. Bounded work for any layout.
std::string layoutProblem(const Layout &layout, const program::Variable &variable, const Architecture &machine);

// Whether the memory holds the low four bytes of elements that have eight: 64-bit integers that must fit into 32 bits.
// They are checked when loaded and extended by their sign when stored.
bool isNarrowed(const Layout &layout, const program::Variable &variable);

// What the lanes of a word hold of a variable's data (row-major, the bytes of an element in order): lane l holds byte
// base + lanes[l], or is padding where lanes[l] is `padding`. The first lane that is not padding has lanes[l] = 0.
struct WordContents {
  static constexpr int64_t padding = std::numeric_limits<int64_t>::min();
  int64_t base = 0;
  llvm::ArrayRef<int64_t> lanes;
  bool empty = true;  // all padding
  int64_t stride = 0; // not 0: the first `count` lanes have lanes[l] = l * stride, the others are padding
  int64_t count = 0;
  uint64_t hash = 0; // of `lanes`

  void load(const std::byte *data, std::byte *word) const;  // padding becomes zero
  void store(const std::byte *word, std::byte *data) const; // padding is left out
};

// Calls `visit` for every word of a layout without problems, padding included, in a fixed order.
void forEachWord(const Layout &layout, const program::Variable &variable, const Architecture &machine,
                 llvm::function_ref<void(const WordAddress &word, const WordContents &contents)> visit);

} // namespace quadrille::tsp
