#include "base/Error.h"
#include "driver/Compilation.h"
#include "driver/Inputs.h"
#include "driver/Outputs.h"
#include "driver/Progress.h"
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
  auto entry = entryPointNamed(compilation->program, arguments.entry);
  if (!entry)
    return inFile(entry.takeError(), arguments.model.path);
  auto timeline = compilation->target->estimate(compilation->program, *entry);
  if (!timeline)
    return inFile(timeline.takeError(), arguments.model.path);
  // A machine without a device clock is measured, not computed, so it must run. Elsewhere the inputs' values change
  // nothing, but inputs that do not fit are an error everywhere.
  bool measured = timeline->clockHertz == 0;
  if (measured || !given->empty()) {
    auto inputs =
        bindInputs(inputPorts(compilation->program, *entry), std::move(*given), arguments.inputs.random.value_or(1));
    if (!inputs)
      return inFile(inputs.takeError(), arguments.model.path);
    if (measured) {
      Progress progress("running " + arguments.model.path);
      target::RunOptions options;
      options.entryPoint = *entry;
      auto result = compilation->target->simulate(compilation->program, *inputs, options);
      if (!result)
        return inFile(result.takeError(), arguments.model.path);
      *timeline = std::move(result->timeline);
    }
  }
  if (timeline->model.empty()) // a program that was assembled by hand
    timeline->model = arguments.model.path;
  if (!arguments.trace.empty())
    if (llvm::Error error = timeline::writePerfettoFile(*timeline, arguments.trace))
      return error;
  if (!arguments.csv.empty())
    if (llvm::Error error = timeline::writeCsvFile(*timeline, arguments.csv))
      return error;
  if (arguments.json)
    timeline::writeJson(*timeline, llvm::outs());
  else
    reports::printProfile(*timeline, llvm::outs());
  return llvm::Error::success();
}

} // namespace quadrille::driver
