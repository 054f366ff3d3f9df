// The memory slices of all chips: words, and the instructions of Memory.def.
#pragma once

#include "target/tsp/Channels.h"
#include "target/tsp/Layout.h"

namespace quadrille::tsp {

// Words in use over time: each from when it is written (or the start) to its last reading.
class Occupancy;

class Memory {
public:
  Memory(const Context &context, int64_t chips, Occupancy &occupancy);

  // The bytes of a word before the program starts (to be filled; null without values), and after it has ended (null
  // without values). `place` says whether the word was free, `holds` whether it was ever written.
  bool place(int64_t chip, const WordAddress &word, std::byte *&bytes);
  bool holds(int64_t chip, const WordAddress &word, const std::byte *&bytes);

  void add(std::shared_ptr<Work> work);
  // Executes what can be executed; whether that was anything.
  llvm::Expected<bool> step();
  // Makes all writes visible; call after the last instruction.
  void settle();

private:
  struct Bank {
    std::vector<bool> valid; // by address; empty until the bank is first used
    std::unique_ptr<std::byte[]> bytes;
  };
  // A write that a later reading may still not see.
  struct PendingWrite {
    int64_t visible;
    uint8_t bank;
    int64_t address;
    std::vector<std::byte> bytes;
    std::vector<int64_t> superlanes; // of a scatter: the word's number for each superlane, else empty
  };
  struct Access {
    Progression cycles;
    uint8_t bank;
    bool reads;
    Burst by;
  };
  struct Slice {
    std::vector<Bank> banks;
    std::deque<PendingWrite> writes; // ascending in `visible`
    std::vector<Access> accesses;    // that a later instruction can still meet
    WorkList work;
    bool listed = false;
  };

  Slice &sliceOf(int64_t chip, SliceName name) {
    return slices[(chip * context.machine.hemispheres + name.hemisphere) * context.machine.slices + name.slice];
  }
  Bank &bankOf(Slice &slice, uint8_t bank);
  std::byte *wordOf(Bank &bank, int64_t address) { return bank.bytes.get() + address * context.machine.vectorBytes(); }
  llvm::Error access(Slice &slice, const Work &work, int64_t count, int64_t delay, bool reads);
  void apply(Slice &slice, int64_t cycle);
  void apply(Slice &slice, const PendingWrite &write);

  int64_t addressable(const Work &work) const;
  llvm::Expected<bool> step(Slice &slice);
  // Of `count` issues, whose operands are there; the number that was executed.
  llvm::Expected<int64_t> read(Slice &slice, Work &work, int64_t count);
  llvm::Expected<int64_t> write(Slice &slice, Work &work, int64_t count, Vectors data);
  llvm::Expected<int64_t> gather(Slice &slice, Work &work, int64_t count, Vectors map);
  llvm::Expected<int64_t> scatter(Slice &slice, Work &work, int64_t count, Vectors map, Vectors data);
  llvm::Error requireRegion(Slice &slice, const Work &work);
  llvm::Expected<std::vector<int64_t>> numbers(const Work &work, int64_t k, const std::byte *map) const;

  const Context &context;
  Occupancy &occupancy;
  std::vector<Slice> slices;
  std::vector<Slice *> active; // with work
};

} // namespace quadrille::tsp
