#include "base/Error.h"
#include "base/Json.h"
#include "driver/Compilation.h"
#include "driver/Execution.h"
#include "driver/Inputs.h"
#include "driver/Measure.h"
#include "driver/Outputs.h"
#include "driver/Reference.h"
#include "report/Format.h"
#include "target/Compare.h"
#include "timeline/Write.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

namespace quadrille::driver {

llvm::Error runCommand(const RunArguments &arguments) {
  std::vector<std::string> read = arguments.inputs.files;
  llvm::append_range(read, arguments.expected);
  read.push_back(arguments.model.path);
  if (llvm::Error error = requireSeparateFiles(read, {{"--output", arguments.output}, {"--trace", arguments.trace}},
                                               /*printsReport=*/true))
    return error;
  if (arguments.tolerance && !(*arguments.tolerance >= 0 && std::isfinite(*arguments.tolerance)))
    return userError("--tolerance must be a finite number that is not negative");
  if (arguments.tolerance && !arguments.check && arguments.expected.empty())
    return userError("--tolerance has nothing to compare", {}, "add --check or --expected FILE");
  auto given = readNamedTensors(arguments.inputs.files, "--input");
  if (!given)
    return given.takeError();
  auto expected = readNamedTensors(arguments.expected, "--expected");
  if (!expected)
    return expected.takeError();
  if (!arguments.expected.empty() && expected->empty())
    return userError("--expected: the file holds no array to compare with", {arguments.expected.front(), ""});
  auto compilation = compileOrOpen(arguments.model, *given);
  if (!compilation)
    return compilation.takeError();
  auto execution = Execution::of(*compilation, arguments.entry);
  if (!execution)
    return inFile(execution.takeError(), arguments.model.path);
  auto inputs =
      bindInputs(inputPorts(compilation->program, execution->entryPoint()), std::move(*given), arguments.inputs.random);
  if (!inputs)
    return inFile(inputs.takeError(), arguments.model.path);
  llvm::Expected<target::RunResult> result = execution->run(*inputs);
  for (int64_t i = 1; i < arguments.repeat && result; ++i)
    result = execution->run(*inputs);
  if (!result)
    return inFile(result.takeError(), arguments.model.path);
  const timeline::Timeline &timeline = result->timeline;

  if (!arguments.output.empty())
    if (llvm::Error error = writeTensorFile(arguments.output, result->outputs))
      return error;
  if (!arguments.trace.empty())
    if (llvm::Error error = timeline::writePerfettoFile(timeline, arguments.trace))
      return error;

  const std::string precision = compilation->program.precision;
  std::optional<Agreement> agreement;
  if (arguments.check && expected->empty()) {
    if (llvm::Error error = loadReferenceGraph(*compilation))
      return inFile(std::move(error), arguments.model.path);
    auto reference = evaluateReference(*compilation->graph, *inputs, compilation->target->name() == "host");
    if (!reference)
      return inFile(reference.takeError(), arguments.model.path);
    *expected = std::move(*reference);
  }
  if (!expected->empty()) {
    auto compared = compareOutputs(result->outputs, *expected);
    if (!compared)
      return inFile(compared.takeError(), arguments.model.path);
    agreement = *compared;
  }
  double tolerance = arguments.tolerance.value_or(defaultTolerance(precision));
  // A given tolerance also covers integers.
  bool agrees = !agreement || agreement->within(tolerance, arguments.tolerance.has_value());

  const program::Program &program = compilation->program;
  if (arguments.json) {
    llvm::json::OStream json(llvm::outs(), 2);
    json.object([&] {
      json.attribute("model", arguments.model.path);
      json.attribute("machine", compilation->machine.name());
      json.attribute("chips", program.chips);
      json.attribute("replicas", program.replicas);
      json.attribute("precision", precision);
      json.attribute("batch", program.batch);
      bool clocked = timeline.clockHertz > 0;
      writeInteger(json, "cycles", clocked ? std::optional(timeline.cycles.value) : std::nullopt);
      writeInteger(json, "interval_cycles",
                   timeline.figures.interval ? std::optional(timeline.figures.interval->value) : std::nullopt);
      writeNumber(json, "device_s", clocked ? std::optional(timeline.deviceSeconds()) : std::nullopt);
      json.attribute("host_s", timeline.hostSeconds);
      writeNumber(json, "relative_l2", agreement ? std::optional(agreement->relativeL2) : std::nullopt);
      writeNumber(json, "max_abs", agreement ? std::optional(agreement->maxAbs) : std::nullopt);
      json.attributeObject("wall_s", [&] {
        json.attribute("compile", compilation->compileSeconds);
        json.attribute("estimate", execution->estimateSeconds());
        json.attribute("simulate", execution->medianRunSeconds());
      });
      json.attribute("peak_rss_bytes", peakResidentBytes());
    });
    llvm::outs() << '\n';
  } else {
    llvm::raw_ostream &os = llvm::outs();
    os << arguments.model.path << " on " << compilation->machine.name() << ", " << precision << ", batch "
       << program.batch;
    if (program.replicas > 1)
      os << ", " << reports::chipsText(program.chips, program.replicas);
    os << '\n';
    if (timeline.clockHertz > 0)
      os << "  device     " << timeline.cycles.value << " cycles, "
         << llvm::format("%.3f us at %.0f MHz\n", timeline.deviceSeconds() * 1e6, timeline.clockHertz / 1e6);
    else
      os << "  device     no clock: measured on this computer\n";
    if (std::string steady = reports::steadyState(timeline); !steady.empty())
      os << "  steady     " << steady << '\n';
    if (timeline.hostSeconds > 0)
      os << "  host       " << llvm::format("%.3f ms\n", timeline.hostSeconds * 1e3);
    for (const auto &[name, tensor] : result->outputs)
      os << "  output     " << name << ' ' << describe(tensor.type(), tensor.shape()) << '\n';
    if (agreement)
      os << "  " << (arguments.expected.empty() ? "reference " : "expected  ") << (agrees ? " agrees" : " DISAGREES")
         << llvm::format(": relative L2 %.3g, max abs %.3g", agreement->relativeL2, agreement->maxAbs)
         << (result->outputs.size() > 1 ? " (worst: " + agreement->worst + ")" : std::string()) << '\n';
    os << "  wall       "
       << llvm::format("compile %.3f s, estimate %.3f s, simulate %.3f s", compilation->compileSeconds,
                       execution->estimateSeconds(), execution->medianRunSeconds())
       << llvm::format("; peak memory %.0f MiB\n", double(peakResidentBytes()) / (1 << 20));
  }
  if (!agrees)
    return mismatchError("output '" + agreement->worst + "' differs from the " +
                             (arguments.expected.empty() ? "reference" : "expected values") + ": relative L2 " +
                             target::significant(agreement->relativeL2, 3) + ", tolerance " +
                             target::significant(tolerance, 3),
                         {arguments.model.path, ""});
  return llvm::Error::success();
}

} // namespace quadrille::driver
