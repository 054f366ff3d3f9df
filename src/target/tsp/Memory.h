// The memory slices: words, and the instructions of Memory.def.
#pragma once

#include "target/tsp/Layout.h"
#include "target/tsp/Streams.h"

#include <deque>
#include <memory>

namespace quadrille::tsp {

class Memory {
public:
  Memory(const Architecture &machine, llvm::ArrayRef<Queue> queues, bool values);

  // The bytes of a word before the program starts (to be filled; null without values), and after it has ended (null
  // without values; an error when it was never written). `place` writes the word's validity, false if it was valid.
  bool place(const WordAddress &word, std::byte *&bytes);
  bool holds(const WordAddress &word, const std::byte *&bytes);

  // Makes all writes visible; call after the last instruction.
  void settle();

  // Both return the cycle of completion.
  llvm::Expected<int64_t> read(const Issue &issue, const Instruction &instruction, Streams &streams);
  llvm::Expected<int64_t> write(const Issue &issue, const Instruction &instruction, Streams &streams);

private:
  struct Bank {
    std::vector<bool> valid; // by address; empty until the bank is first used
    std::unique_ptr<std::byte[]> bytes;
  };
  struct PendingWrite {
    int64_t visible;
    uint8_t bank;
    int64_t address;
    std::unique_ptr<std::byte[]> bytes;
  };
  struct Access {
    int64_t cycle;
    uint8_t bank;
    bool read;
    Issue by;
  };
  struct Slice {
    std::vector<Bank> banks;
    std::deque<PendingWrite> writes; // ascending in `visible`
    std::deque<Access> accesses;     // that a later instruction can still meet
  };

  Slice &sliceOf(SliceName name) { return slices[name.hemisphere * machine.slices + name.slice]; }
  Bank &bankOf(Slice &slice, uint8_t bank);
  llvm::Error access(Slice &slice, int64_t now, int64_t cycle, uint8_t bank, bool read, const Issue &by);
  void apply(Slice &slice, int64_t cycle);

  const Architecture &machine;
  llvm::ArrayRef<Queue> queues;
  bool values;
  std::vector<Slice> slices;
};

} // namespace quadrille::tsp
