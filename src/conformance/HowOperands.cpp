#include "conformance/HowOperands.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"

namespace quadrille::conformance {

llvm::ArrayRef<unsigned> howOperands(llvm::StringRef operation) {
  static const llvm::StringMap<llvm::SmallVector<unsigned, 4>> table = {
      {"AffineGrid", {1}},      // size
      {"BlackmanWindow", {0}},  // size
      {"CenterCropPad", {1}},   // shape
      {"Col2Im", {1, 2}},       // image_shape, block_shape
      {"ConstantOfShape", {0}}, // shape
      {"CumSum", {1}},          // axis
      {"CumProd", {1}},         // axis
      {"DFT", {1, 2}},          // dft_length, axis
      {"Dropout", {1, 2}},      // ratio, training_mode
      {"Expand", {1}},          // shape
      {"HammingWindow", {0}},   // size
      {"HannWindow", {0}},      // size
      {"Loop", {0, 1}},         // trip count; whether it runs at all
      {"MaxUnpool", {2}},       // output_shape
      {"MelWeightMatrix", {0, 1, 2, 3, 4}},
      {"OneHot", {1}},      // depth
      {"Pad", {1, 2, 3}},   // pads, constant_value, axes
      {"Range", {0, 1, 2}}, // start, limit, delta
      {"ReduceL1", {1}},    // axes
      {"ReduceL2", {1}},
      {"ReduceLogSum", {1}},
      {"ReduceLogSumExp", {1}},
      {"ReduceMax", {1}},
      {"ReduceMean", {1}},
      {"ReduceMin", {1}},
      {"ReduceProd", {1}},
      {"ReduceSum", {1}},
      {"ReduceSumSquare", {1}},
      {"Reshape", {1}},         // shape
      {"Resize", {1, 2, 3}},    // roi, scales, sizes
      {"STFT", {1, 3}},         // frame_step, frame_length
      {"Slice", {1, 2, 3, 4}},  // starts, ends, axes, steps
      {"Split", {1}},           // split
      {"SplitToSequence", {1}}, // split
      {"Squeeze", {1}},         // axes
      {"Tile", {1}},            // repeats
      {"TopK", {1}},            // k
      {"Trilu", {1}},           // k
      {"Unsqueeze", {1}},       // axes
      {"Upsample", {1}},        // scales
  };
  auto it = table.find(operation);
  return it == table.end() ? llvm::ArrayRef<unsigned>() : llvm::ArrayRef<unsigned>(it->second);
}

} // namespace quadrille::conformance
