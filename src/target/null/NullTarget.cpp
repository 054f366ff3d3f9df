// The null machine as a target. In a directory with real work each member function below has a file of its own:
// Plan.cpp, Emit.cpp, Check.cpp, Simulate.cpp (estimate and simulate over the same walk of the program), Mutate.cpp.
#include "base/Error.h"
#include "target/Emit.h"
#include "target/Refusal.h"
#include "target/Target.h"
#include "target/null/Assembly.h"
#include "target/null/Payload.h"

#include "llvm/ADT/Twine.h"

#include <cmath>

namespace quadrille::null_machine {

namespace {

// Nothing to decide: no memory to place data in, no resources to schedule.
class NullPlan : public target::Plan {};

class NullTarget : public target::Target {
public:
  llvm::StringRef name() const override { return "null"; }

  target::Support supports(const graph::KernelGraph &, const graph::Kernel &, const machine::Machine &) const override {
    return target::Support::yes();
  }

  llvm::Expected<std::unique_ptr<target::Plan>> plan(const graph::KernelGraph &, const machine::Machine &,
                                                     const target::CompileOptions &options) const override {
    if (!options.precision.empty() || options.chips > 1 || options.replicas > 1 || !options.cuts.begins.empty())
      return target::unsupportedError("the null machine has no arithmetic and one chip", {},
                                      "leave out --precision, --chips, --replicas and --stages-at");
    return std::make_unique<NullPlan>();
  }

  llvm::Expected<program::Program> emit(const graph::KernelGraph &graph, const target::Plan &,
                                        const machine::Machine &machine) const override {
    program::Program program = target::beginProgram(name(), graph, machine);
    program.precision = "none";
    schema::ProgramT contents;
    for (const graph::Kernel &kernel : graph.kernels) {
      auto record = std::make_unique<schema::KernelT>();
      record->name = (llvm::Twine(contents.kernels.size()) + " " + kernel.operation).str();
      record->kind = graph::nameOf(kernel.kind).str();
      record->nodes = kernel.nodes;
      record->flops = kernel.flops;
      record->bytes = kernel.bytes;
      contents.kernels.push_back(std::move(record));
    }
    for (const graph::Value &value : graph.values)
      if (value.role == graph::ValueRole::Constant && value.origin)
        program.variables.push_back(target::weightOf(value));
    setPayload(program, contents);
    return program;
  }

  llvm::Expected<target::Verdict> check(const program::Program &program) const override {
    auto payload = payloadOf(program);
    if (!payload)
      return payload.takeError();
    target::Verdict verdict;
    if (program.replicas != 1)
      verdict.findings.push_back({"program", "replicas on a machine of one chip"});
    uint32_t number = 0;
    for (const schema::Kernel *kernel : *(*payload)->kernels()) {
      std::string where = "kernel " + std::to_string(number++);
      if (!(kernel->flops() >= 0 && std::isfinite(kernel->flops())) ||
          !(kernel->bytes() >= 0 && std::isfinite(kernel->bytes())))
        verdict.findings.push_back({where, "work that is negative or not a number"});
      for (uint32_t node : *kernel->nodes())
        if (node >= program.nodes.size())
          verdict.findings.push_back({where, "node " + std::to_string(node) + " does not exist"});
    }
    return verdict;
  }

  // Takes no time: the timeline has the kernels and no spans.
  llvm::Expected<timeline::Timeline> estimate(const program::Program &program, llvm::StringRef) const override {
    auto payload = payloadOf(program);
    if (!payload)
      return payload.takeError();
    timeline::Timeline timeline;
    timeline.machine = name().str();
    timeline.model = program.model ? program.model->path : "";
    for (const schema::Kernel *kernel : *(*payload)->kernels()) {
      timeline::KernelRecord record;
      record.name = kernel->name()->str();
      record.kind = kernel->kind()->str();
      for (uint32_t node : *kernel->nodes())
        if (node < program.nodes.size())
          record.nodes.push_back(program.nodes[node].name);
      record.flops = kernel->flops();
      record.bytes = kernel->bytes();
      timeline.kernels.push_back(std::move(record));
    }
    return timeline;
  }

  llvm::Expected<target::RunResult> simulate(const program::Program &, const target::NamedTensors &,
                                             const target::RunOptions &) const override {
    return mismatchError("the null machine executes nothing", {}, "compile for another machine to get outputs");
  }

  llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) const override {
    return null_machine::disassemble(program, os);
  }
  llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) const override {
    return null_machine::assemble(text, fileName);
  }

  // Field `seed` of the program, counted kernel by kernel (flops, bytes, then each node) and round again, each round
  // with another change.
  llvm::Expected<target::Mutation> mutate(const program::Program &program, uint64_t seed) const override {
    auto payload = payloadOf(program);
    if (!payload)
      return payload.takeError();
    std::unique_ptr<schema::ProgramT> contents((*payload)->UnPack());
    uint64_t fields = 0;
    for (const auto &kernel : contents->kernels)
      fields += 2 + kernel->nodes.size();
    if (fields == 0)
      return userError("the program has no kernels to change");
    uint64_t field = seed % fields, round = seed / fields;
    target::Mutation mutation;
    for (size_t i = 0; i < contents->kernels.size(); ++i) {
      schema::KernelT &kernel = *contents->kernels[i];
      uint64_t here = 2 + kernel.nodes.size();
      if (field >= here) {
        field -= here;
        continue;
      }
      mutation.description = "kernel " + std::to_string(i) + ": ";
      if (field < 2) {
        double &work = field == 0 ? kernel.flops : kernel.bytes;
        work = round % 2 == 0 ? -1 - work : 2 * work + 1;
        mutation.description += field == 0 ? "flops" : "bytes";
        mutation.effect = target::MutationEffect::Benign;
        mutation.reason = "counts of work only reach reports";
      } else {
        uint32_t &node = kernel.nodes[field - 2];
        node += static_cast<uint32_t>(1 + round % (program.nodes.size() + 1));
        mutation.description += "node -> " + std::to_string(node);
        mutation.effect = target::MutationEffect::Benign;
        mutation.reason = "nodes only name the work in reports";
      }
      break;
    }
    mutation.program = program;
    setPayload(mutation.program, *contents);
    return mutation;
  }
};

} // namespace

} // namespace quadrille::null_machine

namespace quadrille::target {

const Target &nullTarget() {
  static const null_machine::NullTarget target;
  return target;
}

} // namespace quadrille::target
