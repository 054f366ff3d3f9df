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
  int64_t pieces = 1, width = 1;  // width: lanes of a piece
  bool spread = false;            // each piece has slices of its own; else they lie one behind the other
  int64_t uniformLanes = 0;       // of one column: how many lanes hold it; 0: only the first is known to
  int64_t segmentRows = 0;        // as many rows lie in the same slices, the next ones in others; 0: all of them
  unsigned hemisphere = 0;        // of its slices, if they are all in one
  std::optional<uint32_t> weight; // the variable that lies here from the start, a row behind the other
  std::vector<SliceName> slices;  // by byte; spread: piece * bytes + byte; one list behind the other for segments
  struct Start {
    uint8_t bank = 0;
    int64_t address = 0;
    auto operator<=>(const Start &) const = default;
  };
  std::vector<Start> starts;     // one for all slices, or one for each
  int64_t ready = 0;             // a read dispatched from this cycle on sees every row
  std::vector<int64_t> rowReady; // the same for each row; empty: `ready` says all that is known
  int64_t writable = 0;          // a write dispatched before it might meet a reading of what lay here before
  int64_t lastRead = 0;          // dispatch
  std::vector<std::shared_ptr<Region>> copies; // with the same contents, in other slices

  int64_t bytes() const { return static_cast<int64_t>(byteWidth(type)); }
  int64_t rowsOfSegment() const { return segmentRows ? segmentRows : rows; }
  int64_t segments() const { return (rows + rowsOfSegment() - 1) / rowsOfSegment(); }
  SliceName slice(int64_t piece, int64_t byte, int64_t row) const {
    int64_t segment = segmentRows ? row / segmentRows : 0;
    return slices[((spread ? segment * pieces + piece : segment) * bytes()) + byte];
  }
  // Of a slice, by its number, which is the piece's in spread regions of single bytes; others have one start.
  const Start &start(size_t slice) const { return starts[starts.size() == 1 ? 0 : slice]; }
  int64_t word(int64_t piece, int64_t row) const {
    return start(piece).address + (spread ? 0 : piece * rowsOfSegment()) + (segmentRows ? row % segmentRows : row);
  }
  int64_t slicesNeeded() const { return (spread ? pieces : 1) * bytes() * segments(); }
  int64_t wordsNeeded() const { return (spread ? 1 : pieces) * rowsOfSegment(); }
  bool sharesSlices(const Region &other) const;
  // How many of `count` rows from `row` on, `step` apart, lie in the same segment.
  int64_t together(int64_t row, int64_t step, int64_t count) const;
  // The earliest dispatch of the first of such reads, `interval` cycles apart.
  int64_t readableFrom(int64_t row, int64_t step, int64_t count, int64_t interval = 1) const;
  // Notes that a row can be read from a cycle on.
  void wrote(int64_t row, int64_t cycle);

  // The same, nowhere in memory and with nothing written.
  Region shape() const;
  static Region of(ElementType type, int64_t rows, int64_t columns, int64_t widest);
};
using RegionPointer = std::shared_ptr<Region>;

class Placement {
public:
  explicit Placement(const Architecture &machine)
      : machine(machine), banks(machine.hemispheres * machine.slices * machine.banks) {}

  // Memory first, time second: values lie in the first banks, weights in the last ones, of all outer slices before
  // inner ones, and what was used before is used again although it may have to be waited for.
  void beFrugal() { frugal = true; }
  // About so many words will be asked for that are there when the program starts.
  void expect(int64_t words) { expected = words; }

  // For what the slices are meant as long as they have room: values near the vector unit, weights near the matrix unit.
  enum class Pool : uint8_t { Values, Weights };

  // Finds memory in slices that `avoid` does not use, all in one hemisphere, the given one if there is one, or
  // `anywhere`; `initial`: memory that nothing else uses before, for what is there when the program starts. Null when
  // there is none. When nobody holds the region any more its memory can be written again; the placement must outlive
  // it.
  RegionPointer allocate(Region region, llvm::ArrayRef<const Region *> avoid,
                         std::optional<unsigned> hemisphere = std::nullopt, bool anywhere = false, bool initial = false,
                         Pool pool = Pool::Values);

private:
  // Words [begin, end) of a bank of a slice.
  struct Words {
    int64_t begin, end;
    int64_t writable; // if nobody needs them any more: from when on they can be written
    bool live;
  };
  using Bank = std::vector<Words>; // in order; what was never used is left out

  Bank &bankOf(SliceName slice, uint8_t bank) {
    return banks[(slice.hemisphere * machine.slices + slice.slice) * machine.banks + bank];
  }
  struct Search {
    bool again = false; // words that were used before are free when nobody needs them
    bool only = false;  // and no others are
    bool high = false;  // from the highest address down
    bool inner = false; // of the slices near the vector unit only
  };
  // The lowest address from which on `words` are free in all slices, or the highest one; nothing when there is none.
  std::optional<int64_t> addressIn(llvm::ArrayRef<SliceName> slices, uint8_t bank, int64_t words, Search search);
  // Stretches of free words, in order.
  std::vector<std::pair<int64_t, int64_t>> freeIn(SliceName slice, uint8_t bank, Search search);
  // The lowest address, or the highest one, from which on `words` are free in `count` of the slices, which become
  // these.
  std::optional<int64_t> addressInSome(std::vector<SliceName> &slices, size_t count, uint8_t bank, int64_t words,
                                       Search search);
  RegionPointer take(Region region, std::vector<SliceName> slices, std::vector<Region::Start> starts);
  // Of weights: in those of the slices that have most room, in each where that is, so that all of them fill up evenly.
  // Null when there is no room.
  RegionPointer inEach(const Region &region, llvm::ArrayRef<SliceName> slices, Search search);
  RegionPointer find(Region &region, llvm::ArrayRef<const Region *> avoid, std::optional<unsigned> hemisphere,
                     bool anywhere, Pool pool, Search search);

  const Architecture &machine;
  std::vector<Bank> banks; // by slice and bank
  int64_t fresh = 0;       // words of values that nothing had used before
  int64_t expected = 0;    // words of what will be there from the start, about
  bool frugal = false;
  int64_t turn = 0;
  uint32_t placed = 0;
};

} // namespace quadrille::tsp
