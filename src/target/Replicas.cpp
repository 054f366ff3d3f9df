#include "target/Replicas.h"

#include "target/Refusal.h"

#include "llvm/ADT/Twine.h"

#include <algorithm>

namespace quadrille::target {

std::string replicasProblem(const program::Program &program, int64_t chips) {
  if (program.replicas <= std::max<int64_t>(chips / program.chips, 1))
    return "";
  return std::to_string(program.replicas) + " replicas of " + std::to_string(program.chips) +
         (program.chips == 1 ? " chip" : " chips") + " on a machine of " + std::to_string(chips);
}

llvm::Error requireReplicas(const program::Program &program, const machine::Machine &machine) {
  std::string problem = replicasProblem(program, machine.chips());
  if (problem.empty())
    return llvm::Error::success();
  return doesNotFitError("it does not fit: " + llvm::Twine(problem) + ", " + machine.name(), {},
                         "--replicas may be at most " + llvm::Twine(machine.chips() / program.chips));
}

int64_t replicasOfHost(const program::Program &program, int64_t chipsOfHost) {
  int64_t most = (chipsOfHost + program.chips - 1) / program.chips;
  return std::min(program.replicas, std::max<int64_t>(most, 1));
}

} // namespace quadrille::target
