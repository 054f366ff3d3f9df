// The ONNX node tests on one machine, all in one process.
#pragma once

#include "machine/Machine.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <map>
#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::conformance {

enum class Outcome {
  Passed,
  Failed,          // wrong values, or an error that the list of known failures does not name
  Unsupported,     // cannot be had on this machine, with the reason
  Folded,          // nothing was left to execute: every value was known at import
  ExpectedFailure, // not written yet, as the list says
};

struct Result {
  Outcome outcome = Outcome::Failed;
  std::string reason; // first line of the error; empty when passed
};

// A test that does not pass, as the list in the tree names it: "NAME<TAB>unsupported|expected<TAB>REASON" a line. The
// name "*" stands for every test whose failure says REASON; a target that executes nothing yet has such a line.
struct Known {
  bool unsupported = false;
  std::string reason;
  bool used = false; // some test does not pass as this says
};
struct KnownFailures {
  std::map<std::string, Known> byName;
  std::vector<Known> byReason;
};
llvm::Expected<KnownFailures> readKnownFailures(llvm::StringRef path);

// Runs the test in `directory` (model.onnx and test_data_set_*). With `bindAll` every input is a constant, so that the
// importer computes what it can: a test of folding, and of operators whose result's shape depends on values.
Result runTest(const std::string &directory, const machine::Machine &machine, bool bindAll = false);

} // namespace quadrille::conformance
