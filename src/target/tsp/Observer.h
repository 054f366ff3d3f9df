// Who is told of work as it is executed. Issues are told in the order of their queue, and each after those that drive
// its operands; nothing else is said of the order.
#pragma once

#include "target/tsp/Channels.h"

namespace quadrille::tsp {

class Observer {
public:
  virtual ~Observer() = default;
  // Issues [from, from + count) of the burst, of any unit but ABC and ACC. `operands` are parallel to the reads of its
  // effects; each is one burst for all these issues.
  virtual void executed(const Work &work, int64_t from, int64_t count, llvm::ArrayRef<Channels::Found> operands) = 0;
  // ABC: that many products each, with the tile of an IW; f16: and the one in the odd plane, else null.
  virtual void multiplied(const Work &work, int64_t from, int64_t count, double products,
                          llvm::ArrayRef<Channels::Found> operands, const Issue &tile, const Issue *oddTile) = 0;
  // ACC, of products of that ABC.
  virtual void accumulated(const Work &work, int64_t from, int64_t count, const Burst &products) = 0;
};

} // namespace quadrille::tsp
