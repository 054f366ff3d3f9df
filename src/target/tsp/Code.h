// The payload of a program as plain data: decoded from its FlatBuffer, and encoded canonically (equal code, equal
// bytes).
#pragma once

#include "target/tsp/Instructions.h"

#include "program/Program.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <compare>
#include <cstddef>
#include <string>
#include <vector>

namespace quadrille::tsp {

// "MEM west 12", "MXM east 0.2" (plane 0, port 2); the port of a memory slice is printed when it is not 0.
std::string print(const QueueName &name);
// Empty when the machine has that queue, else what is wrong.
std::string queueProblem(const QueueName &name, const Architecture &machine);

struct Origin {
  uint32_t first = 0, count = 0, node = 0;
  bool operator==(const Origin &) const = default;
};

struct Queue {
  QueueName name;
  std::vector<Instruction> instructions;
  std::vector<Origin> origins;
  bool operator==(const Queue &) const = default;
};

struct ChipCode {
  std::vector<Queue> queues;
  bool operator==(const ChipCode &) const = default;
};

struct EntryCode {
  std::vector<ChipCode> chips;
  bool operator==(const EntryCode &) const = default;
};

// The queues of all chips of an entry point, chip after chip: what an Issue counts in.
class Queues {
public:
  explicit Queues(const EntryCode &entry) {
    for (const ChipCode &chip : entry.chips) {
      for (const Queue &queue : chip.queues)
        list.push_back({&queue, chips});
      ++chips;
    }
  }
  size_t size() const { return list.size(); }
  const Queue &operator[](size_t index) const { return *list[index].queue; }
  int64_t chipOf(size_t index) const { return list[index].chip; }
  int64_t chipCount() const { return chips; }

private:
  struct Item {
    const Queue *queue;
    int64_t chip;
  };
  std::vector<Item> list;
  int64_t chips = 0;
};

struct SliceName {
  uint8_t hemisphere = 0;
  uint16_t slice = 0;
  auto operator<=>(const SliceName &) const = default;
};

enum class AxisTarget : uint8_t { Lane, Slice, Address };

constexpr size_t mostDimensions = 255; // of a variable, so that Axis::dimension can name them and the bytes

struct Axis {
  uint8_t dimension = 0; // the variable's rank: the bytes of an element
  AxisTarget target = AxisTarget::Lane;
  uint32_t extent = 1, step = 1;
  bool operator==(const Axis &) const = default;
};

// Indices [begin, begin + extent) of a dimension.
struct DimensionRange {
  uint8_t dimension = 0;
  uint32_t begin = 0, extent = 1;
  bool operator==(const DimensionRange &) const = default;
};

struct Layout {
  uint32_t variable = 0;
  uint16_t chip = 0;
  uint8_t bank = 0;
  uint32_t address = 0;
  std::vector<SliceName> slices;
  std::vector<Axis> axes;
  std::vector<DimensionRange> ranges; // of dimensions that lie here in part; of the others all indices
  bool operator==(const Layout &) const = default;
};

struct Code {
  std::vector<EntryCode> entries;
  std::vector<Layout> layouts;
  bool operator==(const Code &) const = default;

  // Verifies the buffer, nothing about legality. User errors.
  static llvm::Expected<Code> decode(llvm::ArrayRef<std::byte> payload);
  std::vector<std::byte> encode() const;
};

// A program of this target, decoded, with its machine.
struct Loaded {
  Code code;
  Architecture machine;
  static llvm::Expected<Loaded> from(const program::Program &program);
};

} // namespace quadrille::tsp
