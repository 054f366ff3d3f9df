#include "target/Compare.h"
#include "base/Error.h"
#include "driver/Compilation.h"
#include "driver/Execution.h"
#include "driver/Inputs.h"
#include "driver/Reference.h"
#include "graph/KernelQueries.h"
#include "report/Comparison.h"
#include "target/Refusal.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::driver {

using reports::ComparisonStatus;
using reports::MachineComparison;

namespace {

constexpr size_t measuredRuns = 3; // of a machine whose time is measured: the first one warms caches up

// The host, then every machine that a program can be compiled for. The machines for tests, "unit-*", and the template
// for new architectures are compared when they are named.
std::vector<std::string> machinesToCompare() {
  std::vector<std::string> names = {"host"};
  for (const std::string &name : machine::machineNames()) {
    if (name == "host" || llvm::StringRef(name).starts_with("unit-"))
      continue;
    // A file that does not load is the business of `quadrille machines`.
    auto machine = machine::Machine::load(name);
    if (!machine) {
      llvm::consumeError(machine.takeError());
      continue;
    }
    if (machine->architecture() != "null" && target::find(machine->architecture()))
      names.push_back(name);
  }
  return names;
}

llvm::Expected<std::vector<machine::Machine>> loadMachines(llvm::ArrayRef<std::string> names) {
  std::vector<machine::Machine> machines;
  for (const std::string &name : names) {
    auto machine = machine::Machine::load(name);
    if (!machine)
      return machine.takeError();
    for (const machine::Machine &other : machines)
      if (other.name() == machine->name())
        return userError("--machines names '" + machine->name() + "' twice");
    machines.push_back(std::move(*machine));
  }
  return machines;
}

// The reason, without the model's path, which is the comparison's; returns the exit code.
int explain(const std::string &path, MachineComparison &result, llvm::Error error) {
  Reported reported = report(std::move(error));
  llvm::StringRef reason = reported.message;
  reason.consume_front(path + ": ");
  result.reason = reason.str();
  return reported.exitCode;
}

// Why a model has no program for a machine.
void refuse(const std::string &path, MachineComparison &result, llvm::Error error) {
  std::optional<target::RefusalKind> kind;
  error = llvm::handleErrors(std::move(error), [&](std::unique_ptr<target::Refusal> refusal) -> llvm::Error {
    kind = refusal->kind;
    return llvm::Error(std::move(refusal));
  });
  int exitCode = explain(path, result, std::move(error));
  if (exitCode == static_cast<int>(Fault::Internal))
    result.status = ComparisonStatus::Failed;
  else
    result.status =
        kind == target::RefusalKind::DoesNotFit ? ComparisonStatus::DoesNotFit : ComparisonStatus::Unsupported;
}

class Comparer {
public:
  Comparer(const CompareArguments &arguments, const target::CompileOptions &options, const ImportedModel &model,
           const NamedTensors &inputs)
      : arguments(arguments), options(options), model(model), inputs(inputs),
        productFlops(graph::contractionFlops(model.graph)) {}

  MachineComparison compare(machine::Machine machine) {
    MachineComparison result;
    result.machine = machine.name();
    result.productFlops = productFlops;
    // The host is the reference: it computes in the model's own types, on this computer.
    bool host = machine.architecture() == "host";
    auto target = targetOf(machine);
    if (!target) {
      refuse(arguments.model.path, result, target.takeError());
      return result;
    }
    auto compilation = compileFor(std::move(machine), model, host ? target::CompileOptions{} : options);
    if (!compilation) {
      refuse(arguments.model.path, result, compilation.takeError());
      return result;
    }
    const program::Program &program = compilation->program;
    result.program = {program.chips, program.batch, program.precision, program.replicas};
    auto execution = Execution::of(*compilation, "");
    if (!execution) {
      fail(result, execution.takeError());
      return result;
    }
    auto estimate = execution->estimate();
    if (!estimate) {
      fail(result, estimate.takeError());
      return result;
    }
    result.timeline = **estimate;
    if (arguments.execute) {
      execute(result, *compilation, *execution);
    } else if (execution->measured()) {
      result.status = ComparisonStatus::NotExecuted;
      result.reason = "its time is measured, not computed: --execute runs the model";
    }
    keepTotals(*result.timeline);
    return result;
  }

private:
  static void keepTotals(timeline::Timeline &timeline) {
    timeline.spans.clear();
    timeline.tracks.clear();
    timeline.kernels.clear();
    timeline.counters.clear();
    timeline.tables.clear();
  }

  void fail(MachineComparison &result, llvm::Error error) {
    explain(arguments.model.path, result, std::move(error));
    result.status = ComparisonStatus::Failed;
  }

  // What stops an execution: the user's files (weights that are not there), or a defect.
  static void stopped(MachineComparison &result, llvm::Error error) {
    Reported reported = report(std::move(error));
    result.reason = reported.message;
    result.status =
        reported.exitCode == static_cast<int>(Fault::User) ? ComparisonStatus::NotExecuted : ComparisonStatus::Failed;
  }

  void execute(MachineComparison &result, const Compilation &compilation, Execution &execution) {
    auto outputs = run(result, execution);
    if (!outputs)
      return stopped(result, outputs.takeError());
    auto reference = referenceFor(compilation.target->name() == "host");
    if (!reference)
      return stopped(result, reference.takeError());
    auto agreement = compareOutputs(*outputs, *reference);
    if (!agreement)
      return fail(result, agreement.takeError());
    result.error = {agreement->relativeL2, agreement->maxAbs};
    double tolerance = defaultTolerance(compilation.program.precision);
    if (agreement->within(tolerance))
      return;
    result.status = ComparisonStatus::Disagrees;
    result.reason = "output '" + agreement->worst + "' differs from the reference: relative L2 " +
                    target::significant(agreement->relativeL2, 3) + ", tolerance " + target::significant(tolerance, 3);
  }

  llvm::Expected<NamedTensors> run(MachineComparison &result, Execution &execution) {
    std::vector<double> seconds;
    NamedTensors outputs;
    for (size_t i = 0; i < (execution.measured() ? measuredRuns : 1); ++i) {
      auto done = execution.run(inputs);
      if (!done)
        return done.takeError();
      seconds.push_back(done->timeline.hostSeconds);
      outputs = std::move(done->outputs);
    }
    if (execution.measured()) {
      llvm::sort(seconds);
      result.timeline->hostSeconds = seconds[seconds.size() / 2];
    }
    return outputs;
  }

  // Each of the two references is evaluated once.
  llvm::Expected<NamedTensors> referenceFor(bool host) {
    std::optional<NamedTensors> &reference = references[host];
    if (!reference) {
      auto evaluated = evaluateReference(model.graph, inputs, host);
      if (!evaluated)
        return evaluated.takeError();
      reference = std::move(*evaluated);
    }
    return *reference;
  }

  const CompareArguments &arguments;
  const target::CompileOptions &options;
  const ImportedModel &model;
  const NamedTensors &inputs;
  double productFlops;
  std::optional<NamedTensors> references[2];
};

// A comparison has succeeded when it knows what each machine makes of the model, be it that it does not fit.
llvm::Error verdictOf(const reports::Comparison &comparison) {
  auto with = [&](ComparisonStatus status) {
    return llvm::find_if(comparison.machines, [&](const auto &machine) { return machine.status == status; });
  };
  if (auto failed = with(ComparisonStatus::Failed); failed != comparison.machines.end())
    return internalError("machine " + failed->machine + " failed", {comparison.model, ""});
  if (auto disagrees = with(ComparisonStatus::Disagrees); disagrees != comparison.machines.end())
    return mismatchError("machine " + disagrees->machine + ": " + disagrees->reason, {comparison.model, ""});
  if (llvm::none_of(comparison.machines, [](const auto &machine) { return machine.program.has_value(); }))
    return mismatchError("none of these machines can have the model", {comparison.model, ""});
  return llvm::Error::success();
}

} // namespace

llvm::Error compareCommand(const CompareArguments &arguments) {
  bool givesInputs = !arguments.inputs.files.empty() || arguments.inputs.random;
  if (givesInputs && !arguments.execute)
    return userError("--input and --random have nothing to execute", {}, "add --execute");
  auto machines = loadMachines(arguments.machines.empty() ? machinesToCompare() : arguments.machines);
  if (!machines)
    return machines.takeError();
  auto given = readNamedTensors(arguments.inputs.files, "--input");
  if (!given)
    return given.takeError();
  auto isProgram = isProgramFile(arguments.model.path);
  if (!isProgram)
    return isProgram.takeError();
  if (*isProgram)
    return userError("a compiled program is for one machine", {arguments.model.path, ""},
                     "give the ONNX model, or use `quadrille profile`");
  auto model = importModel(arguments.model, *given);
  if (!model)
    return model.takeError();
  auto options = compileOptions(arguments.model);
  if (!options)
    return inFile(options.takeError(), arguments.model.path);
  NamedTensors inputs;
  if (arguments.execute) {
    std::vector<Port> ports;
    for (graph::ValueId id : model->graph.inputs) {
      const graph::Value &value = model->graph.values[id];
      ports.push_back({value.name, value.type, value.shape});
    }
    auto bound = bindInputs(ports, std::move(*given), arguments.inputs.random.value_or(1));
    if (!bound)
      return inFile(bound.takeError(), arguments.model.path);
    inputs = std::move(*bound);
  }
  reports::Comparison comparison;
  comparison.model = arguments.model.path;
  Comparer comparer(arguments, *options, *model, inputs);
  for (machine::Machine &machine : *machines)
    comparison.machines.push_back(comparer.compare(std::move(machine)));
  if (arguments.json)
    reports::writeComparison(comparison, llvm::outs());
  else
    reports::printComparison(comparison, llvm::outs());
  return verdictOf(comparison);
}

} // namespace quadrille::driver
