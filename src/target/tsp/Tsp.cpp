// The target "tsp": its parts behind the interface of target/Target.h.
#include "target/Target.h"

#include "base/Error.h"
#include "target/tsp/Assembly.h"
#include "target/tsp/Check.h"
#include "target/tsp/Mutate.h"
#include "target/tsp/Simulate.h"

namespace quadrille::target {

namespace {

class Tsp final : public Target {
public:
  llvm::StringRef name() const override { return "tsp"; }

  Support supports(const graph::KernelGraph &, const graph::Kernel &, const machine::Machine &) const override {
    return Support::no("the TSP compiler is not part of this version; assemble a program by hand");
  }

  llvm::Expected<std::unique_ptr<Plan>> plan(const graph::KernelGraph &graph, const machine::Machine &machine,
                                             const CompileOptions &) const override {
    std::string node, what = "the model has no kernels";
    if (!graph.kernels.empty()) {
      const graph::Kernel &kernel = graph.kernels.front();
      if (!kernel.nodes.empty() && kernel.nodes.front() < graph.nodes.size())
        node = graph.nodes[kernel.nodes.front()].name;
      what = "kernel '" + kernel.operation + "' is not supported: " + supports(graph, kernel, machine).reason;
    }
    return mismatchError(what, {"", node});
  }

  llvm::Expected<program::Program> emit(const graph::KernelGraph &, const Plan &,
                                        const machine::Machine &) const override {
    return internalError("there is no plan of the tsp to emit");
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
    return tsp::mutate(program, seed);
  }
};

} // namespace

const Target &tspTarget() {
  static const Tsp target;
  return target;
}

} // namespace quadrille::target
