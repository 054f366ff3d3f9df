// Values in memory. A value is a matrix for the machine: its last dimension lies in the lanes, cut into pieces that
// fit, all others count rows, which are consecutive addresses; each byte of an element, and each piece, has a slice of
// its own.
#pragma once

#include "target/tsp/Code.h"

#include <memory>
#include <optional>

namespace quadrille::tsp {

// The matrix that a shape is for the machine.
int64_t columnsOf(llvm::ArrayRef<int64_t> shape);
int64_t rowsOf(llvm::ArrayRef<int64_t> shape);

struct Region {
  uint32_t number = 0; // of all that were placed
  ElementType type = ElementType::f32;
  int64_t rows = 1, columns = 1;
  int64_t pieces = 1, width = 1; // width: lanes of a piece
  bool spread = false;           // each piece has slices of its own; else they lie one behind the other
  bool uniform = false;          // of one column, which every lane holds
  unsigned hemisphere = 0;       // of its slices, if they are all in one
  std::vector<SliceName> slices; // by byte; spread: piece * bytes + byte
  uint8_t bank = 0;
  int64_t address = 0;
  int64_t ready = 0;    // a read dispatched from this cycle on sees every row
  int64_t writable = 0; // a write dispatched before it might meet a reading of what lay here before
  int64_t lastRead = 0; // dispatch

  int64_t bytes() const { return static_cast<int64_t>(byteWidth(type)); }
  SliceName slice(int64_t piece, int64_t byte) const { return slices[(spread ? piece * bytes() : 0) + byte]; }
  int64_t word(int64_t piece, int64_t row) const { return address + (spread ? 0 : piece * rows) + row; }
  int64_t slicesNeeded() const { return spread ? pieces * bytes() : bytes(); }
  int64_t wordsNeeded() const { return spread ? rows : pieces * rows; }
  bool sharesSlices(const Region &other) const;

  // Not yet in memory.
  static Region of(ElementType type, int64_t rows, int64_t columns, int64_t widest);
};
using RegionPointer = std::shared_ptr<Region>;

class Placement {
public:
  explicit Placement(const Architecture &machine)
      : machine(machine), next(machine.hemispheres * machine.slices * machine.banks) {}

  // Finds memory in slices that `avoid` does not use, all in one hemisphere, the given one if there is one, or
  // `anywhere`; `initial`: memory that nothing else uses before, for what is there when the program starts. Null when
  // there is none. When nobody holds the region any more its memory can be written again; the placement must outlive
  // it.
  RegionPointer allocate(Region region, llvm::ArrayRef<const Region *> avoid,
                         std::optional<unsigned> hemisphere = std::nullopt, bool anywhere = false,
                         bool initial = false);

private:
  RegionPointer share(Region region);

  const Architecture &machine;
  std::vector<Region> spare;
  std::vector<int64_t> next; // by slice and bank: first word that was never used
  int64_t turn = 0;
  uint32_t placed = 0;
};

} // namespace quadrille::tsp
