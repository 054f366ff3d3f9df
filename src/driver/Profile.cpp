#include "base/Error.h"
#include "driver/Compilation.h"
#include "driver/Execution.h"
#include "driver/Inputs.h"
#include "driver/Outputs.h"
#include "report/TextReport.h"
#include "timeline/Write.h"

#include "llvm/Support/raw_ostream.h"

namespace quadrille::driver {

llvm::Error profileCommand(const ProfileArguments &arguments) {
  std::vector<std::string> read = arguments.inputs.files;
  read.push_back(arguments.model.path);
  if (llvm::Error error = requireSeparateFiles(read, {{"--trace", arguments.trace}, {"--csv", arguments.csv}},
                                               /*printsReport=*/true))
    return error;
  auto given = readNamedTensors(arguments.inputs.files, "--input");
  if (!given)
    return given.takeError();
  auto compilation = compileOrOpen(arguments.model, *given);
  if (!compilation)
    return compilation.takeError();
  auto execution = Execution::of(*compilation, arguments.entry);
  if (!execution)
    return inFile(execution.takeError(), arguments.model.path);
  auto estimate = execution->estimate();
  if (!estimate)
    return inFile(estimate.takeError(), arguments.model.path);
  timeline::Timeline timeline = **estimate;
  // A machine without a device clock is measured, not computed, so it must run. Elsewhere the inputs' values change
  // nothing, but inputs that do not fit are an error everywhere.
  if (execution->measured() || !given->empty()) {
    auto inputs = bindInputs(inputPorts(compilation->program, execution->entryPoint()), std::move(*given),
                             arguments.inputs.random.value_or(1));
    if (!inputs)
      return inFile(inputs.takeError(), arguments.model.path);
    if (execution->measured()) {
      auto result = execution->run(*inputs);
      if (!result)
        return inFile(result.takeError(), arguments.model.path);
      timeline = std::move(result->timeline);
    }
  }
  timeline.model = arguments.model.path; // as the user knows it, be it a program
  if (!arguments.trace.empty())
    if (llvm::Error error = timeline::writePerfettoFile(timeline, arguments.trace))
      return error;
  if (!arguments.csv.empty())
    if (llvm::Error error = timeline::writeCsvFile(timeline, arguments.csv))
      return error;
  if (arguments.json)
    timeline::writeJson(timeline, llvm::outs());
  else
    reports::printProfile(timeline, llvm::outs());
  return llvm::Error::success();
}

} // namespace quadrille::driver
