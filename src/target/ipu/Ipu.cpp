// The target "ipu": its parts behind the interface of target/Target.h.
#include "target/Target.h"

#include "base/Error.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "target/Emit.h"
#include "target/Refusal.h"
#include "target/ipu/Assembly.h"
#include "target/ipu/Check.h"
#include "target/ipu/Compiler.h"
#include "target/ipu/Mutate.h"
#include "target/ipu/Simulate.h"
#include "target/ipu/Steps.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

namespace quadrille::target {

namespace {

class IpuPlan final : public Plan {
public:
  IpuPlan(std::vector<graph::KernelGraph> graphs, ipu::Precision precision, int64_t ipus)
      : graphs(std::move(graphs)), precision(precision), ipus(ipus) {}
  // As the machine may execute it, of which the fastest on the fewest IPUs is taken: with loops that are repeated, if
  // there are any, and unrolled.
  std::vector<graph::KernelGraph> graphs;
  ipu::Precision precision;
  int64_t ipus; // 0: the fewest on which it fits
  GivenStages stages;
};

// The graphs that IpuPlan has. `asGiven`: its kernels are named to cut it, which loops that are repeated are not.
llvm::Expected<std::vector<graph::KernelGraph>> graphsOf(const graph::KernelGraph &graph,
                                                         const ipu::Precision &precision, bool asGiven) {
  constexpr double mostKernels = 10000; // unrolled, for which it is tried
  std::vector<graph::KernelGraph> graphs;
  auto repeated = ipu::machineGraph(graph, precision, asGiven ? ipu::Loops::Unrolled : ipu::Loops::Repeated);
  if (!repeated)
    return repeated.takeError();
  bool loops = llvm::any_of(repeated->kernels, [](const graph::Kernel &k) { return k.operation == "loop_begin"; });
  bool repeats = ipu::canRepeat(*repeated);
  if (repeats)
    graphs.push_back(std::move(*repeated));
  if (!repeats || (loops && graph::unrolledKernels(graph) <= mostKernels)) {
    auto unrolled = ipu::machineGraph(graph, precision, ipu::Loops::Unrolled);
    if (!unrolled)
      return unrolled.takeError();
    graphs.push_back(std::move(*unrolled));
  }
  return graphs;
}

llvm::Expected<ipu::Precision> precisionOf(llvm::StringRef name) {
  if (name.empty() || name == "f16")
    return ipu::Precision{ElementType::f16, ElementType::f32};
  if (name == "f16.f16")
    return ipu::Precision{ElementType::f16, ElementType::f16};
  if (name == "f32")
    return ipu::Precision{ElementType::f32, ElementType::f32};
  return unsupportedError("the matrix units do not multiply " + name, {}, "--precision may be f16, f16.f16 or f32");
}

class Ipu final : public Target {
public:
  llvm::StringRef name() const override { return "ipu"; }

  Support supports(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                   const machine::Machine &) const override {
    if (kernel.region && kernel.operation != "scan")
      return Support::yes(); // a composite, whose body is asked about
    auto lowered = ipu::machineGraph(graph::alone(graph, kernel), ipu::Precision(), ipu::Loops::Repeated);
    if (!lowered)
      return Support::no(report(lowered.takeError()).message);
    for (const graph::Kernel &part : lowered->kernels)
      if (std::string reason = ipu::whyNot(*lowered, part); !reason.empty())
        return Support::no(reason);
    return Support::yes();
  }

  llvm::Expected<std::unique_ptr<Plan>> plan(const graph::KernelGraph &graph, const machine::Machine &machine,
                                             const CompileOptions &options) const override {
    auto architecture = ipu::Architecture::from(machine);
    if (!architecture)
      return architecture.takeError();
    bool given = !options.cuts.begins.empty(); // the stages, and with them the IPUs
    if (!given && options.chips > 0 && !llvm::is_contained(architecture->ipuCounts, options.chips))
      return unsupportedError(
          "a program for " + machine.name() + " cannot have " + llvm::Twine(options.chips) + " IPUs", {},
          "--chips may be " +
              llvm::join(llvm::map_range(architecture->ipuCounts, [](int64_t n) { return std::to_string(n); }), ", "));
    auto precision = precisionOf(options.precision);
    if (!precision)
      return precision.takeError();
    auto made = graphsOf(graph, *precision, given);
    if (!made)
      return made.takeError();
    for (const graph::KernelGraph &each : *made)
      for (const graph::Kernel &kernel : each.kernels) {
        std::string reason = ipu::whyNot(each, kernel);
        if (reason.empty())
          continue;
        std::string node = kernel.nodes.empty() ? "" : each.nodes[kernel.nodes.front()].name;
        return unsupportedError("kernel '" + kernel.operation + "' is not supported: " + reason, {"", node});
      }
    auto plan = std::make_unique<IpuPlan>(std::move(*made), *precision, options.chips);
    if (given) {
      auto ipus = chipsForStages(options.cuts.stages(), architecture->ipuCounts, machine.name());
      if (!ipus)
        return ipus.takeError();
      auto bounds = arrangeStages(plan->graphs.front(), options.cuts);
      if (!bounds)
        return bounds.takeError();
      plan->ipus = *ipus;
      plan->stages = {std::move(*bounds), options.cuts};
    }
    return plan;
  }

  llvm::Expected<program::Program> emit(const graph::KernelGraph &graph, const Plan &plan,
                                        const machine::Machine &description) const override {
    const auto &ipuPlan = static_cast<const IpuPlan &>(plan);
    auto machine = ipu::Architecture::from(description);
    if (!machine)
      return machine.takeError();
    ipu::CycleModel cycles(description);
    auto compile = [&](const graph::KernelGraph &each, int64_t ipus) {
      program::Program program = beginProgram(name(), graph, description);
      program.nodes.clear();
      for (const graph::Node &node : each.nodes)
        program.nodes.push_back({node.name, node.operation});
      if (program.precision != "none")
        program.precision = nameOf(ipuPlan.precision.operands).str();
      return ipu::compileGraph(each, *machine, cycles, ipuPlan.precision, std::move(program), ipus, ipuPlan.stages);
    };
    std::optional<program::Program> best;
    std::optional<llvm::Error> noRoom; // of the first one
    for (const graph::KernelGraph &each : ipuPlan.graphs) {
      auto made = compile(each, best ? best->chips : ipuPlan.ipus);
      if (!made) {
        llvm::Error error = made.takeError();
        if (!saysNoRoom(error))
          return noRoom ? joinErrors(std::move(error), std::move(*noRoom)) : std::move(error);
        if (noRoom)
          llvm::consumeError(std::move(error));
        else
          noRoom = std::move(error);
        continue;
      }
      if (best && made->chips >= best->chips) {
        auto known = ipu::latencyOf(*best, *machine, cycles), otherwise = ipu::latencyOf(*made, *machine, cycles);
        if (!known || !otherwise)
          return joinErrors(known.takeError(), otherwise.takeError());
        if (*known <= *otherwise)
          continue;
      }
      best = std::move(*made);
    }
    if (!best)
      return std::move(*noRoom);
    if (noRoom)
      llvm::consumeError(std::move(*noRoom));
    return std::move(*best);
  }

  llvm::Expected<Verdict> check(const program::Program &program) const override {
    auto loaded = ipu::Loaded::from(program);
    if (!loaded)
      return loaded.takeError();
    return ipu::check(program, loaded->code, loaded->machine);
  }
  llvm::Expected<timeline::Timeline> estimate(const program::Program &program,
                                              llvm::StringRef entryPoint) const override {
    RunOptions options;
    options.entryPoint = entryPoint.str();
    auto result = ipu::execute(program, nullptr, options);
    if (!result)
      return result.takeError();
    return std::move(result->timeline);
  }
  llvm::Expected<RunResult> simulate(const program::Program &program, const NamedTensors &inputs,
                                     const RunOptions &options) const override {
    return ipu::execute(program, &inputs, options);
  }
  llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) const override {
    return ipu::disassemble(program, os);
  }
  llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) const override {
    return ipu::assemble(text, fileName);
  }
  llvm::Expected<Mutation> mutate(const program::Program &program, uint64_t seed) const override {
    return ipu::mutate(program, seed);
  }
  llvm::Expected<std::unique_ptr<Mutations>> mutations(const program::Program &program) const override {
    return ipu::mutations(program);
  }
};

} // namespace

const Target &ipuTarget() {
  static const Ipu target;
  return target;
}

} // namespace quadrille::target
