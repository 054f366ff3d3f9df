// The commands of `quadrille`, as functions over plain options; main.cpp only parses.
#pragma once

#include "llvm/Support/Error.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace quadrille::driver {

// What every command that takes a model needs.
struct ModelArguments {
  std::string path;    // ONNX file, or .qdl where a program is accepted
  std::string machine; // name or YAML path; empty: the program's own
  int64_t batch = 0;
  std::vector<std::string> shapes;   // "name=value"
  std::vector<std::string> bindings; // "input=scalar" or "input=file"
  std::string precision;
  int64_t chips = 0;                 // 0: not given
  int64_t replicas = 0;              // 0: not given, which is one
  std::vector<std::string> stagesAt; // nodes, or several with commas between them
  std::string dumpDirectory;
};

struct InputArguments {
  std::vector<std::string> files; // ".npz", ".npy", ".pb", or "name=file"
  std::optional<uint64_t> random; // seed
};

struct RunArguments {
  ModelArguments model;
  InputArguments inputs;
  std::string entry; // entry point; "": "inference", or the first
  bool check = false;
  std::vector<std::string> expected; // files with the outputs that somebody else computed
  std::optional<double> tolerance;   // relative L2; default by precision
  std::string output, trace;
  int64_t repeat = 1; // executions; the median is reported as wall_s.simulate
  bool json = false;
};
llvm::Error runCommand(const RunArguments &arguments);

struct CompileArguments {
  ModelArguments model;
  std::string output; // "": the model's name with .qdl, in the current folder; "-": standard output, without a report
  bool json = false;
};
llvm::Error compileCommand(const CompileArguments &arguments);

struct ProfileArguments {
  ModelArguments model;
  InputArguments inputs; // used on machines whose time is measured, not computed (host)
  std::string entry;     // as in RunArguments
  std::string trace, csv;
  bool json = false;
};
llvm::Error profileCommand(const ProfileArguments &arguments);

struct CompareArguments {
  ModelArguments model; // its machine is not used
  InputArguments inputs;
  std::vector<std::string> machines; // empty: the host and every machine that has a compiler, without those for tests
  bool execute = false, json = false;
};
// A mismatch error when values disagree or no machine can have the model, an internal one when a machine failed; what
// does not fit on some machine is a row of the table.
llvm::Error compareCommand(const CompareArguments &arguments);

struct InspectArguments {
  ModelArguments model;
  bool kernels = false, json = false;
};
llvm::Error inspectCommand(const InspectArguments &arguments);

struct MachinesArguments {
  std::string name;
  bool json = false;
};
llvm::Error machinesCommand(const MachinesArguments &arguments);

struct TextArguments {
  std::string input, output = "-";
};
llvm::Error assembleCommand(const TextArguments &arguments);
llvm::Error disassembleCommand(const TextArguments &arguments);

struct CheckArguments {
  std::string program;
};
llvm::Error checkCommand(const CheckArguments &arguments);

struct MutateArguments {
  std::string program;
  std::vector<std::string> inputFiles; // for the inputs that are the same in all runs
  std::string entry;                   // as in RunArguments
  uint64_t seed = 1;
  int64_t count = 100;
  bool all = false, json = false; // all: list every mutation, not only the silent ones
};
llvm::Error mutateCommand(const MutateArguments &arguments);

} // namespace quadrille::driver
