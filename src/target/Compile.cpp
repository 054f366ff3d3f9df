#include "target/Compile.h"

#include "base/Error.h"
#include "target/Replicas.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/Twine.h"

namespace quadrille::target {

static std::string listOf(llvm::ArrayRef<Finding> findings) {
  // One cause can show in every cycle of a repeated instruction.
  constexpr size_t shown = 10;
  std::string list;
  for (const Finding &finding : findings.take_front(shown))
    list += "\n  " + finding.where + ": " + finding.message;
  if (findings.size() > shown)
    list += "\n  and " + std::to_string(findings.size() - shown) + " more";
  return list;
}

llvm::Expected<program::Program> compile(const Target &target, const graph::KernelGraph &graph,
                                         const machine::Machine &machine, const CompileOptions &options) {
  auto plan = target.plan(graph, machine, options);
  if (!plan)
    return plan.takeError();
  auto program = target.emit(graph, **plan, machine);
  if (!program)
    return program.takeError();
  program->replicas = options.replicas;
  if (llvm::Error error = requireReplicas(*program, machine))
    return std::move(error);
  auto verdict = target.check(*program);
  if (!verdict)
    return verdict.takeError();
  if (!verdict->legal())
    return internalError("the compiled program is not legal:" + listOf(verdict->findings));
  return program;
}

llvm::Error requireLegal(const Target &target, const program::Program &program) {
  auto verdict = target.check(program);
  if (!verdict)
    return verdict.takeError();
  if (verdict->legal())
    return llvm::Error::success();
  return mismatchError("the program is not legal:" + listOf(verdict->findings));
}

} // namespace quadrille::target
