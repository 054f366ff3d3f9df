#include "target/Target.h"

namespace quadrille::target {

namespace {

class SimulatedEachTime final : public Executable {
public:
  SimulatedEachTime(const Target &target, const program::Program &program) : target(target), program(program) {}
  llvm::Expected<RunResult> run(const NamedTensors &inputs, const RunOptions &options) override {
    return target.simulate(program, inputs, options);
  }

private:
  const Target &target;
  const program::Program &program;
};

class MutatedEachTime final : public Mutations {
public:
  MutatedEachTime(const Target &target, const program::Program &program) : target(target), program(program) {}
  llvm::Expected<Mutation> make(uint64_t seed) override { return target.mutate(program, seed); }
  void prove(Mutation &mutation) override {}

private:
  const Target &target;
  const program::Program &program;
};

} // namespace

llvm::Expected<std::unique_ptr<Executable>> Target::prepare(const program::Program &program) const {
  return std::make_unique<SimulatedEachTime>(*this, program);
}

llvm::Expected<std::unique_ptr<Mutations>> Target::mutations(const program::Program &program) const {
  return std::make_unique<MutatedEachTime>(*this, program);
}

} // namespace quadrille::target
