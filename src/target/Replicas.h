// Programs that run side by side on the chips of a machine, each with runs of its own. They do not communicate, so one
// of them stands for all in whatever looks at values and cycles; what they share is the machine's chips and its host.
#pragma once

#include "machine/Machine.h"
#include "program/Program.h"

#include "llvm/Support/Error.h"

namespace quadrille::target {

// That a machine has the chips for them: empty, or what is wrong with the program.
std::string replicasProblem(const program::Program &program, int64_t chips);

// The same as a refusal with the most that fit, for a program that is being compiled.
llvm::Error requireReplicas(const program::Program &program, const machine::Machine &machine);

// How many replicas there are on chips with one host, or one link to it, where each takes the chips behind those of the
// one before.
int64_t replicasOfHost(const program::Program &program, int64_t chipsOfHost);

} // namespace quadrille::target
