// Where the elements of variables lie in the memory of a chip.
#pragma once

#include "target/tsp/Code.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace quadrille::tsp {

// A word of the memory: one vector.
struct WordAddress {
  SliceName slice;
  uint8_t bank = 0;
  uint32_t address = 0;
  auto operator<=>(const WordAddress &) const = default;
};
std::string print(const WordAddress &word); // "MEM west 3, bank 0, address 17"

// Empty when the layout fits variable and machine: known slices, bank, words and lanes within range, every element
// covered, no element of the layout on another's lane. Bounded work for any layout.
std::string layoutProblem(const Layout &layout, const program::Variable &variable, const Architecture &machine);

// The byte of an element that a lane of a word holds, or -1 for padding: element index * bytes per element + byte.
using LaneContents = llvm::ArrayRef<int64_t>; // one for each lane

// Calls `visit` for every word of a layout without problems, padding included, in a fixed order.
void forEachWord(const Layout &layout, const program::Variable &variable, const Architecture &machine,
                 llvm::function_ref<void(const WordAddress &word, LaneContents lanes)> visit);

} // namespace quadrille::tsp
