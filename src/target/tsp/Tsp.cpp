// The target "tsp": its parts behind the interface of target/Target.h.
#include "target/Target.h"

#include "base/Error.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "target/Emit.h"
#include "target/Refusal.h"
#include "target/tsp/Assembly.h"
#include "target/tsp/Check.h"
#include "target/tsp/Compiler.h"
#include "target/tsp/Mutate.h"
#include "target/tsp/Simulate.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

namespace quadrille::target {

namespace {

// The graph as the machine is to execute it.
class TspPlan final : public Plan {
public:
  explicit TspPlan(tsp::MachineGraph graph) : graph(std::move(graph)) {}
  tsp::MachineGraph graph;
  int64_t chips = 0; // 0: the fewest on which it fits
  GivenStages stages;
};

std::string listOf(llvm::ArrayRef<int64_t> numbers) {
  std::string list;
  for (int64_t number : numbers)
    list += (list.empty() ? "" : ", ") + std::to_string(number);
  return list;
}

class Tsp final : public Target {
public:
  llvm::StringRef name() const override { return "tsp"; }

  Support supports(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                   const machine::Machine &description) const override {
    auto machine = tsp::Architecture::from(description);
    if (!machine)
      return Support::no(report(machine.takeError()).message);
    if (kernel.region && kernel.operation != "scan")
      return Support::yes(); // a composite, whose body is asked about
    auto lowered = tsp::machineGraph(graph::alone(graph, kernel), *machine);
    if (!lowered)
      return Support::no(report(lowered.takeError()).message);
    for (const graph::Kernel &part : lowered->graph.kernels)
      if (std::string reason = tsp::whyNot(lowered->graph, part, *machine); !reason.empty())
        return Support::no(reason);
    return Support::yes();
  }

  llvm::Expected<std::unique_ptr<Plan>> plan(const graph::KernelGraph &graph, const machine::Machine &machine,
                                             const CompileOptions &options) const override {
    auto architecture = tsp::Architecture::from(machine);
    if (!architecture)
      return architecture.takeError();
    bool given = !options.cuts.begins.empty(); // the stages, and with them the chips
    int64_t wanted = options.chips;
    if (given) {
      auto count = chipsForStages(options.cuts.stages(), architecture->chipCounts, machine.name());
      if (!count)
        return count.takeError();
      wanted = *count;
    }
    if (wanted > 0 && !llvm::is_contained(architecture->chipCounts, wanted))
      return unsupportedError("a program for " + machine.name() + " cannot have " + llvm::Twine(wanted) + " chips", {},
                              "--chips may be " + listOf(architecture->chipCounts));
    if (!options.precision.empty() && options.precision != "f16")
      return unsupportedError("the compiler has the precision f16 alone", {}, "leave out --precision");
    // Each kernel takes an instruction at least.
    int64_t chips = wanted > 0 ? wanted : architecture->chipCounts.back();
    double most = static_cast<double>(chips * (architecture->textBytes() / architecture->instructionBytes));
    if (graph::unrolledKernels(graph) > most)
      return doesNotFitError(
          "its loops have more iterations than there is room for instructions", {},
          "there are no branches, so every iteration has instructions of its own; a shorter sequence "
          "needs fewer");
    auto made = tsp::machineGraph(graph, *architecture);
    if (!made)
      return made.takeError();
    auto plan = std::make_unique<TspPlan>(std::move(*made));
    plan->chips = wanted;
    const graph::KernelGraph &planned = plan->graph.graph;
    for (const graph::Kernel &kernel : planned.kernels) {
      std::string reason = tsp::whyNot(planned, kernel, *architecture);
      if (reason.empty())
        continue;
      std::string node = kernel.nodes.empty() ? "" : planned.nodes[kernel.nodes.front()].name;
      return unsupportedError("kernel '" + kernel.operation + "' is not supported: " + reason, {"", node});
    }
    if (given) {
      auto bounds = arrangeStages(plan->graph.graph, options.cuts);
      if (!bounds)
        return bounds.takeError();
      plan->stages = {std::move(*bounds), options.cuts};
    }
    return plan;
  }

  llvm::Expected<program::Program> emit(const graph::KernelGraph &graph, const Plan &plan,
                                        const machine::Machine &description) const override {
    const auto &tspPlan = static_cast<const TspPlan &>(plan);
    const tsp::MachineGraph &planned = tspPlan.graph;
    auto machine = tsp::Architecture::from(description);
    if (!machine)
      return machine.takeError();
    program::Program program = beginProgram(name(), graph, description);
    program.nodes.clear();
    for (const graph::Node &node : planned.graph.nodes)
      program.nodes.push_back({node.name, node.operation});
    return tsp::compileGraph(planned, *machine, std::move(program), tspPlan.chips, tspPlan.stages);
  }

  llvm::Expected<Verdict> check(const program::Program &program) const override {
    auto loaded = tsp::Loaded::from(program);
    if (!loaded)
      return loaded.takeError();
    return tsp::check(program, loaded->code, loaded->machine);
  }

  llvm::Expected<timeline::Timeline> estimate(const program::Program &program,
                                              llvm::StringRef entryPoint) const override {
    RunOptions options;
    options.entryPoint = entryPoint.str();
    auto result = tsp::execute(program, nullptr, options);
    if (!result)
      return result.takeError();
    return std::move(result->timeline);
  }

  llvm::Expected<RunResult> simulate(const program::Program &program, const NamedTensors &inputs,
                                     const RunOptions &options) const override {
    return tsp::execute(program, &inputs, options);
  }

  llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) const override {
    return tsp::disassemble(program, os);
  }

  llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) const override {
    return tsp::assemble(text, fileName);
  }

  llvm::Expected<Mutation> mutate(const program::Program &program, uint64_t seed) const override {
    auto all = mutations(program);
    if (!all)
      return all.takeError();
    auto mutation = (*all)->make(seed);
    if (mutation)
      (*all)->prove(*mutation);
    return mutation;
  }

  llvm::Expected<std::unique_ptr<Mutations>> mutations(const program::Program &program) const override {
    return tsp::mutations(program);
  }
};

} // namespace

const Target &tspTarget() {
  static const Tsp target;
  return target;
}

} // namespace quadrille::target
