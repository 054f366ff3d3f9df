// The stream registers. A vector that is put on a stream at coordinate u in cycle t passes coordinate v in cycle
// t + v - u, so `t - u` names its diagonal in space and time for all its flight: nothing is ever shifted. A later
// driver of the same diagonal, further along, replaces the vector for all who read it beyond.
#pragma once

#include "target/tsp/Hazard.h"

#include "llvm/ADT/SmallVector.h"

#include <memory>

namespace quadrille::tsp {

class Streams {
public:
  Streams(const Architecture &machine, llvm::ArrayRef<Queue> queues, bool values);

  // Puts a vector on a stream at `coordinate` in `cycle`. Returns where its bytes go (null without values).
  llvm::Expected<std::byte *> drive(Direction direction, int64_t stream, int64_t coordinate, int64_t cycle,
                                    const Issue &by);

  // The vector that passes `coordinate` in `cycle`: bytes that stay valid until the next drive (null without values).
  llvm::Expected<const std::byte *> read(Direction direction, int64_t stream, int64_t coordinate, int64_t cycle,
                                         const Issue &by) const;

private:
  struct Flight {
    int64_t diagonal, coordinate;
    Issue by;
    std::unique_ptr<std::byte[]> bytes;
  };
  using Slot = llvm::SmallVector<Flight, 1>;
  size_t slotIndex(Direction direction, int64_t stream, int64_t diagonal) const;

  const Architecture &machine;
  llvm::ArrayRef<Queue> queues;
  bool values;
  int64_t window; // diagonals kept, a power of two: more than can be in flight at once
  std::vector<Slot> ring;
  std::vector<std::unique_ptr<std::byte[]>> spare;
};

} // namespace quadrille::tsp
