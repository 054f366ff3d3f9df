// Failures that a user can meet, as llvm::Error values that carry file, node and remedy.
//
// Three kinds, named by what the command's exit code says:
//   Fault::User      exit 2   the input, an option or the environment (disk full) is at fault
//   Fault::Mismatch  exit 1   the model does not fit the machine, or values do not match the reference
//   Fault::Internal  exit 70  a defect of Quadrille
// An assert is for programmer errors only; whatever input can trigger is a Failure.
#pragma once

#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace quadrille {

enum class Fault : int { Mismatch = 1, User = 2, Internal = 70 };

// Where a failure lies, in the words of the user: a file, and a node, section or line within it. Either may be empty.
struct Where {
  std::string file;
  std::string node;
};

class Failure : public llvm::ErrorInfo<Failure> {
public:
  static char ID;

  Failure(Fault fault, std::string message, Where where, std::string remedy)
      : fault(fault), where(std::move(where)), message(std::move(message)), remedy(std::move(remedy)) {}

  // One line: "FILE: NODE: message; remedy".
  void log(llvm::raw_ostream &os) const override;
  std::error_code convertToErrorCode() const override { return llvm::inconvertibleErrorCode(); }

  Fault fault;
  Where where;
  std::string message;
  std::string remedy;
};

llvm::Error userError(const llvm::Twine &message, Where where = {}, const llvm::Twine &remedy = "");
llvm::Error mismatchError(const llvm::Twine &message, Where where = {}, const llvm::Twine &remedy = "");
llvm::Error internalError(const llvm::Twine &message, Where where = {});

// Fills in the file (or node) of a Failure that does not name one yet; used where an error passes a place that knows.
llvm::Error inFile(llvm::Error error, llvm::StringRef file);
llvm::Error atNode(llvm::Error error, llvm::StringRef node);

// The exit code of an error, which is consumed, and its message.
struct Reported {
  int exitCode = 0;
  std::string message;
};
Reported report(llvm::Error error);

} // namespace quadrille
