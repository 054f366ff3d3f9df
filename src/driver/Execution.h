// One entry point of a program: its estimate, and executions that must take as many cycles.
#pragma once

#include "driver/Compilation.h"
#include "driver/TensorFile.h"

#include <memory>

namespace quadrille::driver {

class Execution {
public:
  // The entry point that `name` means (driver/Inputs.h). User error: there is none.
  static llvm::Expected<Execution> of(const Compilation &compilation, llvm::StringRef name);

  const std::string &entryPoint() const { return entry; }
  // From the program alone. Computed once.
  llvm::Expected<const timeline::Timeline *> estimate();
  // A machine without a clock is measured, not computed: its estimate has no time.
  bool measured() const { return estimated && estimated->clockHertz == 0; }

  // With a progress line. Preparation is part of the first run, as in a simulation that is run once. Internal error:
  // the estimate has other cycles.
  llvm::Expected<target::RunResult> run(const NamedTensors &inputs);

  double estimateSeconds() const { return secondsOfEstimate; }
  // Of the runs, on this computer's clock; at least one has been made.
  double medianRunSeconds() const;

private:
  Execution(const Compilation &compilation, std::string entry) : compilation(&compilation), entry(std::move(entry)) {}

  const Compilation *compilation;
  std::string entry;
  std::optional<timeline::Timeline> estimated;
  double secondsOfEstimate = 0;
  std::unique_ptr<target::Executable> executable;
  std::vector<double> secondsOfRuns;
};

} // namespace quadrille::driver
