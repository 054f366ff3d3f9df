// The payload of a null program, verified, and its building.
#pragma once

#include "program/Program.h"
#include "target/null/Program_generated.h"

#include "llvm/Support/Error.h"

namespace quadrille::null_machine {

// Borrowed from the program. A user error when the program is another target's or its payload is not a valid
// FlatBuffer; whether its contents make sense is for the checker.
llvm::Expected<const schema::Program *> payloadOf(const program::Program &program);

void setPayload(program::Program &program, const schema::ProgramT &contents);

} // namespace quadrille::null_machine
