// What the switch unit does to vectors (Switch.def), and the wiring of the links between chips.
#pragma once

#include "target/tsp/Instructions.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <cstddef>
#include <optional>

namespace quadrille::tsp {

// The streams that an instruction takes and gives, as runs of consecutive ones.
struct StreamRun {
  Source first;
  int64_t count = 1;
};
llvm::SmallVector<StreamRun, 3> switchInputs(const Instruction &instruction, const Architecture &machine);
std::optional<StreamRun> switchOutput(const Instruction &instruction, const Architecture &machine); // none for Send

// Equal parts of the switch unit, of which an instruction occupies one; none for Send and Receive.
enum class SwitchPart : uint8_t { Shifter, Permuter, Distributor, Transposer };
std::optional<SwitchPart> switchPart(Opcode opcode);
llvm::StringRef nameOf(SwitchPart part); // "shifter"

// Cycles from the capture to the results; 0 for Send and Receive.
int64_t switchLatency(const Instruction &instruction, const Architecture &machine);

// Empty when a queue of that hemisphere can issue the instruction: runs of streams do not leave their direction, `map`
// of Permute is aligned, the block size of Rotate exists, the link belongs to this hemisphere.
std::string switchProblem(const Instruction &instruction, unsigned hemisphere, const Architecture &machine);

// One vector: `inputs` in the order of switchInputs, stream by stream. Returns what is wrong with the values (a map
// that names a lane that does not exist or, for Permute, one twice), else empty. Not for Send and Receive.
std::string switchVector(const Instruction &instruction, llvm::ArrayRef<const std::byte *> inputs,
                         llvm::ArrayRef<std::byte *> outputs, const Architecture &machine);

// The far end of a link, as the cables of the machine go; none where nothing is plugged in. Inside a node every chip
// has a link to every other: link l of chip a goes to the l-th of the others. The links behind those are global: link j
// of them of the node's chip c is the node's port p = chips of a node * j + c, and with N other nodes goes to the
// (p mod N)-th of them, where the port with the same p / N goes to this node.
struct LinkEnd {
  int64_t chip, link;
  bool operator==(const LinkEnd &) const = default;
};
std::optional<LinkEnd> farEnd(LinkEnd end, const Architecture &machine);

} // namespace quadrille::tsp
