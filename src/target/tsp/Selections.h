// Tiles that pick lanes: each column is zero but for one row at most, which is one. Products with them only move
// elements. What can be told is told from the program: rows that are weights whose data can be read.
#pragma once

#include "target/tsp/Layout.h"

namespace quadrille::tsp {

// A byte plane of a tile.
enum class Selection : uint8_t {
  None,    // anything else
  Zero,    // zeros
  One,     // each column has at most one byte 1: picks lanes of integers
  HighOne, // the same with the high byte of 1 in f16
};

// Whether products with this tile, or with these byte planes of an f16 tile, only move elements.
bool picksLanes(Selection tile);
bool picksLanes(Selection low, Selection high);

// The words that hold nothing but zeros and one marker, 1 or the high byte of 1 in f16, when the program starts.
class SelectionRows {
public:
  // Looks at weights only as far as it shows that they hold anything else.
  SelectionRows(const program::Program &program, llvm::ArrayRef<Layout> layouts, const Architecture &machine);

  bool empty() const { return markers.empty(); }
  // 0: the word is none of them.
  using Number = uint32_t;
  Number find(int64_t chip, const WordAddress &word) const;
  void forget(int64_t chip, const WordAddress &word);
  // Of rows that are the words of these numbers.
  Selection of(llvm::ArrayRef<Number> rows) const;

private:
  size_t bankOf(int64_t chip, const WordAddress &word) const {
    return ((chip * machine.hemispheres + word.slice.hemisphere) * machine.slices + word.slice.slice) * machine.banks +
           word.bank;
  }

  const Architecture &machine;
  size_t wordsOfRow;                      // of 64 lanes
  std::vector<std::vector<Number>> banks; // by address; empty where there are none
  std::vector<std::byte> markers;         // by number - 1; zero of a row of zeros
  std::vector<uint64_t> ones;             // the lanes that hold the marker, row after row
};

} // namespace quadrille::tsp
