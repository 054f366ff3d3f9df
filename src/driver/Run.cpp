#include "base/Error.h"
#include "base/File.h"
#include "driver/Compilation.h"
#include "driver/Inputs.h"
#include "driver/Outputs.h"
#include "driver/Progress.h"
#include "driver/Reference.h"
#include "target/Compare.h"
#include "timeline/Write.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <cmath>
#include <sys/resource.h>

namespace quadrille::driver {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

int64_t peakResidentBytes() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * int64_t(1024); // Linux counts KiB
}

void writeNumberOrNull(llvm::json::OStream &json, llvm::StringRef key, std::optional<double> value) {
  if (value)
    json.attribute(key, *value); // NaN and infinities become null in llvm::json
  else
    json.attribute(key, nullptr);
}

} // namespace

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
  auto entry = entryPointNamed(compilation->program, arguments.entry);
  if (!entry)
    return inFile(entry.takeError(), arguments.model.path);
  auto inputs = bindInputs(inputPorts(compilation->program, *entry), std::move(*given), arguments.inputs.random);
  if (!inputs)
    return inFile(inputs.takeError(), arguments.model.path);

  auto begin = Clock::now();
  auto estimate = compilation->target->estimate(compilation->program, *entry);
  if (!estimate)
    return inFile(estimate.takeError(), arguments.model.path);
  double estimateSeconds = secondsSince(begin);

  // Preparation is part of the first execution's time, as in a simulation that is run once.
  std::vector<double> simulateTimes;
  std::unique_ptr<target::Executable> executable;
  auto simulate = [&]() -> llvm::Expected<target::RunResult> {
    Progress progress("simulating " + arguments.model.path + " on " + compilation->machine.name());
    target::RunOptions options;
    options.entryPoint = *entry;
    options.progress = [&](double share) {
      progress.update(share);
      return true;
    };
    auto begin = Clock::now();
    if (!executable) {
      auto prepared = compilation->target->prepare(compilation->program);
      if (!prepared)
        return prepared.takeError();
      executable = std::move(*prepared);
    }
    auto result = executable->run(*inputs, options);
    simulateTimes.push_back(secondsSince(begin));
    return result;
  };
  llvm::Expected<target::RunResult> result = simulate();
  for (int64_t i = 1; i < arguments.repeat && result; ++i)
    result = simulate();
  if (!result)
    return inFile(result.takeError(), arguments.model.path);
  llvm::sort(simulateTimes);
  double simulateSeconds = simulateTimes[simulateTimes.size() / 2];
  const timeline::Timeline &timeline = result->timeline;
  if (timeline.clockHertz > 0 && timeline.cycles != estimate->cycles)
    return internalError("estimate says " + llvm::Twine(estimate->cycles.value) + " cycles, simulation took " +
                             llvm::Twine(timeline.cycles.value),
                         {arguments.model.path, ""});

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
      json.attribute("precision", precision);
      json.attribute("batch", program.batch);
      if (timeline.clockHertz > 0)
        json.attribute("cycles", timeline.cycles.value);
      else
        json.attribute("cycles", nullptr);
      writeNumberOrNull(json, "device_s",
                        timeline.clockHertz > 0 ? std::optional(timeline.deviceSeconds()) : std::nullopt);
      json.attribute("host_s", timeline.hostSeconds);
      writeNumberOrNull(json, "relative_l2", agreement ? std::optional(agreement->relativeL2) : std::nullopt);
      writeNumberOrNull(json, "max_abs", agreement ? std::optional(agreement->maxAbs) : std::nullopt);
      json.attributeObject("wall_s", [&] {
        json.attribute("compile", compilation->compileSeconds);
        json.attribute("estimate", estimateSeconds);
        json.attribute("simulate", simulateSeconds);
      });
      json.attribute("peak_rss_bytes", peakResidentBytes());
    });
    llvm::outs() << '\n';
  } else {
    llvm::raw_ostream &os = llvm::outs();
    os << arguments.model.path << " on " << compilation->machine.name() << ", " << precision << ", batch "
       << program.batch << '\n';
    if (timeline.clockHertz > 0)
      os << "  device     " << timeline.cycles.value << " cycles, "
         << llvm::format("%.3f us at %.0f MHz\n", timeline.deviceSeconds() * 1e6, timeline.clockHertz / 1e6);
    else
      os << "  device     no clock: measured on this computer\n";
    if (timeline.hostSeconds > 0)
      os << "  host       " << llvm::format("%.3f ms\n", timeline.hostSeconds * 1e3);
    for (const auto &[name, tensor] : result->outputs)
      os << "  output     " << name << ' ' << describe(tensor.type(), tensor.shape()) << '\n';
    if (agreement)
      os << "  " << (arguments.expected.empty() ? "reference " : "expected  ") << (agrees ? " agrees" : " DISAGREES")
         << llvm::format(": relative L2 %.3g, max abs %.3g", agreement->relativeL2, agreement->maxAbs)
         << (result->outputs.size() > 1 ? " (worst: " + agreement->worst + ")" : std::string()) << '\n';
    os << "  wall       "
       << llvm::format("compile %.3f s, estimate %.3f s, simulate %.3f s", compilation->compileSeconds, estimateSeconds,
                       simulateSeconds)
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
