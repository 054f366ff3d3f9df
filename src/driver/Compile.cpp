#include "base/Error.h"
#include "base/Json.h"
#include "driver/Compilation.h"
#include "driver/Execution.h"
#include "driver/Inputs.h"
#include "driver/Measure.h"
#include "driver/Outputs.h"
#include "graph/KernelQueries.h"
#include "report/Comparison.h"
#include "report/Format.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::driver {

namespace {

// As compilers do: in the current folder, named after what it is made from.
std::string defaultOutput(llvm::StringRef model) {
  return (llvm::sys::path::stem(model) + ".qdl").str();
}

struct Summary {
  const CompileArguments &arguments;
  const Compilation &compilation;
  const Execution &execution;
  const timeline::Timeline &estimate;
  int64_t programBytes;
  std::optional<double> shareOfPeak;
};

void writeJson(const Summary &summary) {
  const program::Program &program = summary.compilation.program;
  const timeline::Figures &figures = summary.estimate.figures;
  bool clocked = summary.estimate.clockHertz > 0;
  llvm::json::OStream json(llvm::outs(), 2);
  json.object([&] {
    writeText(json, "model", summary.arguments.model.path);
    writeText(json, "machine", summary.compilation.machine.name());
    writeText(json, "program", summary.arguments.output);
    json.attribute("program_bytes", summary.programBytes);
    json.attribute("chips", program.chips);
    json.attribute("replicas", program.replicas);
    json.attribute("precision", program.precision);
    json.attribute("batch", program.batch);
    writeInteger(json, "cycles", clocked ? std::optional(summary.estimate.cycles.value) : std::nullopt);
    writeInteger(json, "interval_cycles",
                 summary.estimate.figures.interval ? std::optional(summary.estimate.figures.interval->value)
                                                   : std::nullopt);
    writeNumber(json, "device_s", clocked ? std::optional(summary.estimate.deviceSeconds()) : std::nullopt);
    writeNumber(json, "memory_bytes", figures.memoryBytes);
    writeNumber(json, "memory_peak_bytes", figures.memoryPeakBytes);
    writeInteger(json, "instructions", figures.instructions);
    writeNumber(json, "share_of_peak", summary.shareOfPeak);
    json.attributeObject("wall_s", [&] {
      json.attribute("compile", summary.compilation.compileSeconds);
      json.attribute("estimate", summary.execution.estimateSeconds());
    });
    json.attribute("peak_rss_bytes", peakResidentBytes());
  });
  llvm::outs() << '\n';
}

void print(const Summary &summary) {
  const program::Program &program = summary.compilation.program;
  const timeline::Figures &figures = summary.estimate.figures;
  llvm::raw_ostream &os = llvm::outs();
  os << summary.arguments.model.path << " for " << summary.compilation.machine.name() << ", " << program.precision
     << ", batch " << program.batch << ", " << reports::chipsText(program.chips, program.replicas) << '\n';
  os << "  program       " << summary.arguments.output << ", " << reports::scaled(double(summary.programBytes))
     << "B\n";
  if (summary.estimate.clockHertz > 0)
    os << "  device        " << summary.estimate.cycles.value << " cycles, "
       << reports::duration(summary.estimate.deviceSeconds())
       << llvm::format(" at %.0f MHz\n", summary.estimate.clockHertz / 1e6);
  else
    os << "  device        no clock: measured when it runs\n";
  if (std::string steady = reports::steadyState(summary.estimate); !steady.empty())
    os << "  steady        " << steady << '\n';
  if (figures.memoryBytes && figures.memoryPeakBytes)
    os << "  memory        "
       << llvm::format("%.2f of %.2f MiB needed at once\n", *figures.memoryPeakBytes * 0x1p-20,
                       *figures.memoryBytes * 0x1p-20);
  if (figures.instructions)
    os << "  instructions  " << *figures.instructions << '\n';
  if (summary.shareOfPeak)
    os << "  of peak       " << llvm::format("%.3g%%", 100 * *summary.shareOfPeak)
       << " of what its matrix units could multiply meanwhile\n";
  os << "  wall          "
     << llvm::format("compile %.3f s, estimate %.3f s", summary.compilation.compileSeconds,
                     summary.execution.estimateSeconds())
     << llvm::format("; peak memory %.0f MiB\n", double(peakResidentBytes()) / (1 << 20));
}

} // namespace

llvm::Error compileCommand(const CompileArguments &given) {
  CompileArguments arguments = given;
  if (arguments.output.empty())
    arguments.output = defaultOutput(arguments.model.path);
  bool toStandardOutput = arguments.output == "-" || arguments.output == "/dev/stdout";
  if (toStandardOutput && arguments.json)
    return userError("--output -: the program and --json both go to standard output", {}, "give a file");
  auto isProgram = isProgramFile(arguments.model.path);
  if (!isProgram)
    return isProgram.takeError();
  if (*isProgram)
    return userError("is a compiled program already", {arguments.model.path, ""}, "give an ONNX model");
  if (llvm::Error error = requireSeparateFiles(arguments.model.path, {{"--output", arguments.output}}, false))
    return error;
  auto compilation = compileOrOpen(arguments.model);
  if (!compilation)
    return compilation.takeError();
  program::ModelReference &model = *compilation->program.model;
  model.path = referenceTo(model.path, arguments.output);
  for (auto &[name, value] : model.bindings)
    value = bindingReference(value, arguments.output);
  if (toStandardOutput)
    return compilation->program.save(arguments.output);
  auto execution = Execution::of(*compilation, "");
  if (!execution)
    return inFile(execution.takeError(), arguments.model.path);
  auto estimate = execution->estimate();
  if (!estimate)
    return inFile(estimate.takeError(), arguments.model.path);
  if (llvm::Error error = compilation->program.save(arguments.output))
    return error;
  uint64_t bytes = 0;
  if (std::error_code error = llvm::sys::fs::file_size(arguments.output, bytes))
    return userError("cannot read its size: " + error.message(), {arguments.output, ""});
  Summary summary{arguments,
                  *compilation,
                  *execution,
                  **estimate,
                  static_cast<int64_t>(bytes),
                  reports::shareOfPeak(**estimate, graph::contractionFlops(*compilation->graph))};
  if (arguments.json)
    writeJson(summary);
  else
    print(summary);
  return llvm::Error::success();
}

} // namespace quadrille::driver
