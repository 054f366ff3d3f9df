#include "driver/Execution.h"

#include "base/Error.h"
#include "driver/Inputs.h"
#include "driver/Measure.h"
#include "driver/Progress.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

namespace quadrille::driver {

llvm::Expected<Execution> Execution::of(const Compilation &compilation, llvm::StringRef name) {
  auto entry = entryPointNamed(compilation.program, name);
  if (!entry)
    return entry.takeError();
  return Execution(compilation, std::move(*entry));
}

llvm::Expected<const timeline::Timeline *> Execution::estimate() {
  if (!estimated) {
    Stopwatch watch;
    auto timeline = compilation->target->estimate(compilation->program, entry);
    if (!timeline)
      return timeline.takeError();
    estimated = std::move(*timeline);
    secondsOfEstimate = watch.seconds();
  }
  return &*estimated;
}

llvm::Expected<target::RunResult> Execution::run(const NamedTensors &inputs) {
  auto expected = estimate();
  if (!expected)
    return expected.takeError();
  const program::Program &program = compilation->program;
  Progress progress("simulating " + (program.model ? program.model->path : compilation->programPath) + " on " +
                    compilation->machine.name());
  target::RunOptions options;
  options.entryPoint = entry;
  options.progress = [&](double share) {
    progress.update(share);
    return true;
  };
  Stopwatch watch;
  if (!executable) {
    auto prepared = compilation->target->prepare(compilation->program);
    if (!prepared)
      return prepared.takeError();
    executable = std::move(*prepared);
  }
  auto result = executable->run(inputs, options);
  if (!result)
    return result;
  secondsOfRuns.push_back(watch.seconds());
  if (!measured() && result->timeline.cycles != (*expected)->cycles)
    return internalError("estimate says " + llvm::Twine((*expected)->cycles.value) + " cycles, simulation took " +
                         llvm::Twine(result->timeline.cycles.value));
  return result;
}

double Execution::medianRunSeconds() const {
  std::vector<double> sorted = secondsOfRuns;
  llvm::sort(sorted);
  return sorted[sorted.size() / 2];
}

} // namespace quadrille::driver
