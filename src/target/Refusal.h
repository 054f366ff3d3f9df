// Why a model cannot be had on a machine: mismatch errors (exit code 1) that say which of two things it is, so that
// machines can be put side by side.
#pragma once

#include "base/Error.h"

#include "llvm/ADT/Twine.h"

namespace quadrille::target {

enum class RefusalKind : uint8_t {
  Unsupported, // the machine, or our compiler for it, has not what a kernel or an option asks for
  DoesNotFit,  // there is not room for it
};

class Refusal : public llvm::ErrorInfo<Refusal, Failure> {
public:
  static char ID;
  Refusal(RefusalKind kind, std::string message, Where where, std::string remedy)
      : ErrorInfo(Fault::Mismatch, std::move(message), std::move(where), std::move(remedy)), kind(kind) {}

  RefusalKind kind;
};

llvm::Error unsupportedError(const llvm::Twine &message, Where where = {}, const llvm::Twine &remedy = "");
// The message says which memory, what is asked and what there is.
llvm::Error doesNotFitError(const llvm::Twine &message, Where where = {}, const llvm::Twine &remedy = "");
// Whether an error, which stays what it is, says that there is no room. Other errors that follow such a one, which was
// dealt with, do not.
bool saysNoRoom(llvm::Error &error);

} // namespace quadrille::target
