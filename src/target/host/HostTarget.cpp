// The host as a target: plans, emits, checks and executes like any other, on the machine that runs the compiler.
#include "base/Error.h"
#include "base/Parallel.h"
#include "target/Emit.h"
#include "target/Refusal.h"
#include "target/Target.h"
#include "target/host/Assembly.h"
#include "target/host/Check.h"
#include "target/host/Executor.h"
#include "target/host/Mutate.h"
#include "target/host/Payload.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

namespace quadrille::host {

namespace {

struct Loaded {
  std::unique_ptr<schema::ProgramT> contents;
  HostPlan plan;
};

llvm::Expected<Loaded> load(const program::Program &program) {
  llvm::Expected<std::unique_ptr<schema::ProgramT>> contents = payloadOf(program);
  if (!contents)
    return contents.takeError();
  llvm::Expected<HostPlan> plan = planOf(program, **contents);
  if (!plan)
    return plan.takeError();
  return Loaded{std::move(*contents), std::move(*plan)};
}

timeline::Timeline describeKernels(const program::Program &program, const HostPlan &plan) {
  timeline::Timeline timeline;
  timeline.machine = "host";
  timeline.model = program.model ? program.model->path : "";
  for (const Step &step : plan.decisions.steps) {
    timeline::KernelRecord record;
    for (uint32_t k : step.kernels) {
      const graph::Kernel &kernel = plan.graph.kernels[k];
      record.name = record.name.empty() ? kernel.operation : record.name + " " + kernel.operation;
      record.kind = graph::nameOf(kernel.kind).str();
      record.flops += kernel.flops;
      record.bytes += kernel.bytes;
      for (uint32_t node : kernel.nodes)
        record.nodes.push_back(plan.graph.nodes[node].name);
    }
    record.placement = "host";
    timeline.kernels.push_back(std::move(record));
  }
  return timeline;
}

class HostExecutable final : public target::Executable {
public:
  HostExecutable(const program::Program &program, timeline::Timeline kernels, std::unique_ptr<Executor> executor)
      : program(program), kernels(std::move(kernels)), executor(std::move(executor)) {}

  // Spans are measured, in nanoseconds since the start of the run; `cycles` stays zero.
  llvm::Expected<target::RunResult> run(const target::NamedTensors &inputs,
                                        const target::RunOptions &options) override {
    if (options.entryPoint != "inference")
      return userError("the program has no entry point '" + options.entryPoint + "'");
    const program::EntryPoint &entry = program.entryPoints[0];
    std::vector<Tensor> given;
    for (uint32_t variable : entry.inputs) {
      auto found = inputs.find(program.variables[variable].name);
      if (found == inputs.end())
        return userError("input '" + program.variables[variable].name + "' is not given");
      given.push_back(found->second);
    }
    target::RunResult result;
    result.timeline = kernels;
    timeline::TrackId track = result.timeline.addTrack("host");
    size_t steps = result.timeline.kernels.size();
    auto observe = [&](size_t step, int64_t begin, int64_t end) {
      result.timeline.spans.push_back({track, Cycles(begin), Cycles(end), timeline::Category::Compute,
                                       static_cast<timeline::KernelId>(step), result.timeline.kernels[step].name});
      result.timeline.hostSeconds = static_cast<double>(end) * 1e-9;
      return !options.progress || options.progress(static_cast<double>(step + 1) / static_cast<double>(steps));
    };
    llvm::Expected<std::vector<Tensor>> outputs = executor->run(given, observe);
    if (!outputs)
      return outputs.takeError();
    for (auto [variable, output] : llvm::zip(entry.outputs, *outputs))
      result.outputs[program.variables[variable].name] = output;
    return result;
  }

private:
  const program::Program &program;
  timeline::Timeline kernels; // without spans
  std::unique_ptr<Executor> executor;
};

class HostTarget : public target::Target {
public:
  llvm::StringRef name() const override { return "host"; }

  target::Support supports(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                           const machine::Machine &) const override {
    if (std::string reason = refusedNumeric(graph, kernel); !reason.empty())
      return target::Support::no(reason);
    if (kernel.structured() || (kernel.region && kernel.operation != "scan"))
      return target::Support::yes();
    llvm::Expected<OperationPointer> operation = compileUnstructured(graph, kernel);
    if (operation)
      return target::Support::yes();
    // A scan whose body reads an absent weight is supported: it only cannot be executed.
    std::string reason = llvm::toString(operation.takeError());
    return kernel.operation == "scan" && llvm::StringRef(reason).contains("are missing") ? target::Support::yes()
                                                                                         : target::Support::no(reason);
  }

  llvm::Expected<std::unique_ptr<target::Plan>> plan(const graph::KernelGraph &graph, const machine::Machine &,
                                                     const target::CompileOptions &options) const override {
    if (options.chips > 1 || options.replicas > 1 || !options.cuts.begins.empty())
      return target::unsupportedError("the host is one machine", {}, "leave out --chips, --replicas and --stages-at");
    if (!options.precision.empty())
      return target::unsupportedError("the host computes in the model's own types", {}, "leave out --precision");
    if (llvm::Error error = requireNumerics(graph))
      return std::move(error);
    return std::make_unique<HostPlan>(makePlan(graph));
  }

  llvm::Expected<program::Program> emit(const graph::KernelGraph &graph, const target::Plan &plan,
                                        const machine::Machine &machine) const override {
    program::Program program = target::beginProgram(name(), graph, machine);
    // Inlining has renumbered the nodes; the kernels' indices are the plan's.
    program.nodes.clear();
    for (const graph::Node &node : static_cast<const HostPlan &>(plan).graph.nodes)
      program.nodes.push_back({node.name, node.operation});
    setPayload(program, static_cast<const HostPlan &>(plan));
    return program;
  }

  llvm::Expected<target::Verdict> check(const program::Program &program) const override {
    llvm::Expected<std::unique_ptr<schema::ProgramT>> contents = payloadOf(program);
    if (!contents)
      return contents.takeError();
    target::Verdict verdict;
    llvm::Expected<HostPlan> plan = planOf(program, **contents);
    if (!plan)
      verdict.findings.push_back({"payload", llvm::toString(plan.takeError())});
    else
      verdict.findings = findingsOf(program, *plan);
    if (program.replicas != 1)
      verdict.findings.push_back({"program", "replicas, and the host is one machine"});
    return verdict;
  }

  // The host has no device clock: kernels and their work, no spans, zero cycles. A legal program has one entry point.
  llvm::Expected<timeline::Timeline> estimate(const program::Program &program, llvm::StringRef) const override {
    llvm::Expected<Loaded> loaded = loadLegal(program);
    if (!loaded)
      return loaded.takeError();
    return describeKernels(program, loaded->plan);
  }

  // Weights are bound, rearranged where that pays, and primitives made; runs only compute.
  llvm::Expected<std::unique_ptr<target::Executable>> prepare(const program::Program &program) const override {
    llvm::Expected<Loaded> loaded = loadLegal(program);
    if (!loaded)
      return loaded.takeError();
    if (llvm::Error error = bindWeights(program, *loaded->contents, loaded->plan))
      return std::move(error);
    timeline::Timeline timeline = describeKernels(program, loaded->plan);
    llvm::Expected<std::unique_ptr<Executor>> executor = Executor::create(std::move(loaded->plan));
    if (!executor)
      return executor.takeError();
    return std::make_unique<HostExecutable>(program, std::move(timeline), std::move(*executor));
  }

  llvm::Expected<target::RunResult> simulate(const program::Program &program, const target::NamedTensors &inputs,
                                             const target::RunOptions &options) const override {
    auto executable = prepare(program);
    if (!executable)
      return executable.takeError();
    return (*executable)->run(inputs, options);
  }

  llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) const override {
    return host::disassemble(program, os);
  }
  llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) const override {
    return host::assemble(text, fileName);
  }

  llvm::Expected<target::Mutation> mutate(const program::Program &program, uint64_t seed) const override {
    llvm::Expected<std::unique_ptr<schema::ProgramT>> contents = payloadOf(program);
    if (!contents)
      return contents.takeError();
    llvm::Expected<std::string> description = mutateField(**contents, seed);
    if (!description)
      return description.takeError();
    target::Mutation mutation;
    mutation.description = *description;
    mutation.program = program;
    setPayload(mutation.program, **contents);
    return mutation;
  }

private:
  // The executor trusts its plan, so nothing illegal reaches it.
  static llvm::Expected<Loaded> loadLegal(const program::Program &program) {
    llvm::Expected<Loaded> loaded = load(program);
    if (!loaded)
      return loaded;
    std::vector<target::Finding> findings = findingsOf(program, loaded->plan);
    if (!findings.empty())
      return userError("the program is not legal: " + findings[0].where + ": " + findings[0].message);
    return loaded;
  }
};

} // namespace

} // namespace quadrille::host

namespace quadrille::target {

const Target &hostTarget() {
  static const host::HostTarget target;
  return target;
}

} // namespace quadrille::target
