// A model on a machine, compiled; or a saved program, opened.
#pragma once

#include "driver/Commands.h"
#include "graph/KernelGraph.h"
#include "graph/Model.h"
#include "machine/Machine.h"
#include "program/Program.h"
#include "target/Target.h"

#include <memory>
#include <optional>

namespace quadrille::driver {

struct Compilation {
  std::optional<graph::KernelGraph> graph; // the model's normal form; loaded on demand for a saved program
  machine::Machine machine;
  const target::Target *target = nullptr;
  program::Program program;
  double compileSeconds = 0; // import, plan, emit and check; 0 for a saved program
  std::string programPath;   // of a saved program
};

// Import options from the command line; `inputShapes` from the example inputs give symbolic dimensions their values.
llvm::Expected<graph::ImportOptions> importOptions(const ModelArguments &arguments,
                                                   std::map<std::string, Shape> inputShapes = {});

// The target of a machine; an error that names the machine when no compiler for its architecture is built in.
llvm::Expected<const target::Target *> targetOf(const machine::Machine &machine);

llvm::Expected<bool> isProgramFile(llvm::StringRef path);

// Compiles a model, or opens a program (for which machine, batch, shapes, precision, chips and replicas are fixed:
// giving them is a user error); an illegal program is a mismatch error that lists the findings. The shapes of
// `examples` give a model's symbolic dimensions their values.
llvm::Expected<Compilation> compileOrOpen(const ModelArguments &arguments, const target::NamedTensors &examples = {});

// A model, not yet for any machine: what is the same for all of them.
struct ImportedModel {
  graph::KernelGraph graph;
  program::ModelReference reference; // what a program keeps of where it came from
  double importSeconds = 0;
};
llvm::Expected<ImportedModel> importModel(const ModelArguments &arguments, const target::NamedTensors &examples = {});
// What the arguments ask of a machine that is no host. User errors: nodes of --stages-at (target/Stages.h), and --chips
// that contradict them.
llvm::Expected<target::CompileOptions> compileOptions(const ModelArguments &arguments);
llvm::Expected<Compilation> compileFor(machine::Machine machine, const ImportedModel &model,
                                       const target::CompileOptions &options);

// Opens a program file; the machine comes from the program, whose legality is not checked.
llvm::Expected<Compilation> openProgram(llvm::StringRef path);

// The graph behind a compilation: its own, or the model that the saved program names, imported again with the recorded
// dimensions and bindings after its hash has been compared.
llvm::Error loadReferenceGraph(Compilation &compilation);

// What --precision takes.
llvm::ArrayRef<llvm::StringLiteral> precisions();

// The largest relative L2 error against the reference that is agreement in arithmetic of this precision.
double defaultTolerance(llvm::StringRef precision);

// A file that a model or program of the user refers to, as a program that is saved as `program` keeps it: relative to
// the program's folder if it lies in there, so that both can be moved together; absolute otherwise.
std::string referenceTo(llvm::StringRef file, llvm::StringRef program);

// What a program keeps of --bind: literals as they are, files by their reference.
std::string bindingReference(llvm::StringRef value, llvm::StringRef program);

} // namespace quadrille::driver
