// The outputs of a program beside those of the reference, or of somebody else.
#pragma once

#include "driver/Compilation.h"
#include "driver/TensorFile.h"

namespace quadrille::driver {

// The worst agreement over all outputs.
struct Agreement {
  double relativeL2 = 0, maxAbs = 0;
  std::string worst; // output with the largest relative L2
  bool integersEqual = true;

  // Whether that is agreement: relative L2 within the tolerance, and integers equal unless `integersToo`. Not for NaN.
  bool within(double tolerance, bool integersToo = false) const {
    return relativeL2 <= tolerance && (integersEqual || integersToo);
  }
};

// Every tensor of `expected` with the output of its name; a nameless one with the only output. A user error when there
// is no such output, a mismatch error when it has another type or shape.
llvm::Expected<Agreement> compareOutputs(const NamedTensors &outputs, const NamedTensors &expected);

// What the reference makes of `inputs`. On the host machine it is the evaluation without fusion and fast paths, or it
// would check itself.
llvm::Expected<NamedTensors> evaluateReference(const graph::KernelGraph &graph, const NamedTensors &inputs,
                                               bool forHost);

} // namespace quadrille::driver
