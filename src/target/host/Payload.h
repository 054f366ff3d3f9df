// A host plan as the payload of a program, and back. A payload is an untrusted file: everything is validated.
#pragma once

#include "program/Program.h"
#include "target/host/Plan.h"
#include "target/host/Program_generated.h"

namespace quadrille::host {

// Adds the constants that kernels read to the program's weights, and sets the payload.
void setPayload(program::Program &program, const HostPlan &plan);
void setPayload(program::Program &program, const schema::ProgramT &contents);

// The verified FlatBuffer, unpacked. A user error when the program is another target's or the buffer is not valid;
// whether its contents make sense is for planOf and the checker.
llvm::Expected<std::unique_ptr<schema::ProgramT>> payloadOf(const program::Program &program);

// The plan that a program holds, without the data of its constants except for those in the payload. User errors name
// what is wrong: unknown names, ids out of range, malformed kernels.
llvm::Expected<HostPlan> planOf(const program::Program &program, const schema::ProgramT &contents);

// Gives the constants their data from the program's weights. Weights without data stay absent.
llvm::Error bindWeights(const program::Program &program, const schema::ProgramT &contents, HostPlan &plan);

} // namespace quadrille::host
