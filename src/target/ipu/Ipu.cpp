// The target "ipu": its parts behind the interface of target/Target.h.
#include "target/Target.h"

#include "base/Error.h"
#include "target/Refusal.h"
#include "target/ipu/Assembly.h"
#include "target/ipu/Check.h"
#include "target/ipu/Mutate.h"
#include "target/ipu/Simulate.h"

namespace quadrille::target {

namespace {

const char *const noCompiler = "models are not compiled for this architecture yet, programs written as text are "
                               "assembled and executed";

class Ipu final : public Target {
public:
  llvm::StringRef name() const override { return "ipu"; }

  Support supports(const graph::KernelGraph &, const graph::Kernel &, const machine::Machine &) const override {
    return Support::no(noCompiler);
  }
  llvm::Expected<std::unique_ptr<Plan>> plan(const graph::KernelGraph &, const machine::Machine &,
                                             const CompileOptions &) const override {
    return unsupportedError(noCompiler);
  }
  llvm::Expected<program::Program> emit(const graph::KernelGraph &, const Plan &,
                                        const machine::Machine &) const override {
    return unsupportedError(noCompiler);
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
};

} // namespace

const Target &ipuTarget() {
  static const Ipu target;
  return target;
}

} // namespace quadrille::target
