// An elementwise kernel over the result of a convolution, applied to every piece of it while the piece is in the cache.
#pragma once

#include "graph/KernelGraph.h"
#include "numerics/BlockEvaluator.h"
#include "target/host/Plan.h"

#include "llvm/ADT/SmallVector.h"

#include <optional>

namespace quadrille::host {

// The first read of an elementwise f32 kernel that is one element of `result` for each of its own elements, if its
// other reads are each of: a value of the same shape, something that depends on image and channel alone, a scalar.
// `result` is [image, channel, place...].
std::optional<unsigned> epilogueRead(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                                     graph::ValueId result);

class Epilogue {
public:
  // The kernel must have an epilogueRead of `result`.
  static llvm::Expected<Epilogue> compile(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                                          graph::ValueId result, llvm::ArrayRef<Layout> layouts);

  // Points [first, last) of an image, with the channels of a point together: `elements` are those of `result` and
  // become the kernel's. `reads` are the values of the kernel's reads other than `result`, in order.
  void apply(int64_t image, int64_t first, int64_t last, float *elements,
             llvm::ArrayRef<const std::byte *> reads) const;

private:
  enum class Kind : uint8_t { Result, Alike, AlikePlain, Channels, Scalar };
  struct Source {
    Kind kind = Kind::Result;
    int64_t base = 0, imageStride = 0, channelStride = 0; // elements; Channels and Scalar
  };
  explicit Epilogue(BlockEvaluator evaluator) : evaluator(std::move(evaluator)) {}

  BlockEvaluator evaluator;
  llvm::SmallVector<Source, 4> sources; // one for each read
  int64_t channels = 1, points = 1;     // of an image
};

} // namespace quadrille::host
