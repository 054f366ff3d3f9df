// What the compiler needs from an architecture. One implementation in each directory below, registered by name in
// target/Registry.cpp; no target knows another.
//
//   KernelGraph --plan--> Plan --emit--> Program --check--> Verdict
//                                           |--estimate--> Timeline          (no tensor contents)
//                                           `--simulate--> outputs, Timeline (the same cycles)
#pragma once

#include "graph/KernelGraph.h"
#include "graph/Model.h"
#include "machine/Machine.h"
#include "numerics/Tensor.h"
#include "program/Program.h"
#include "timeline/Timeline.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::target {

// Yes, or no with the reason; asked for each kernel, not for each operator name.
struct Support {
  bool supported = true;
  std::string reason;
  static Support yes() { return {}; }
  static Support no(std::string reason) { return {false, std::move(reason)}; }
};

// Where a model is cut into stages, the next one always on the next chip (target/Stages.h).
struct StageCuts {
  std::vector<std::string> begins;    // nodes with which the second and further stages begin; empty: the target chooses
  std::vector<graph::FileNode> order; // all nodes of the model (graph::nodesInOrder)
  int64_t stages() const { return static_cast<int64_t>(begins.size()) + 1; }
};

struct CompileOptions {
  std::string precision; // "" = the machine's default; else "f32", "f16", "bf16", "cb16", "i8"
  int64_t chips = 0;     // of a replica; 0 = as many as the plan needs
  int64_t replicas = 1;  // programs that run side by side, each on chips of its own
  StageCuts cuts;
};

// Where and when: splits, layouts, fusion, memory, chips. Decisions only; each target derives its own.
class Plan {
public:
  virtual ~Plan() = default;
};

// One finding of the legality check: what, and where in the program ("queue MEM west 12, instruction 7, cycle 40").
struct Finding {
  std::string where, message;
};
struct Verdict {
  std::vector<Finding> findings;
  bool legal() const { return findings.empty(); }
};

using NamedTensors = std::map<std::string, Tensor>;

struct RunOptions {
  std::string entryPoint = "inference";
  // Called now and then with the share done in [0, 1]; returns false to stop (the run fails as interrupted).
  std::function<bool(double)> progress;
};

struct RunResult {
  NamedTensors outputs;
  timeline::Timeline timeline;
};

// What a target knows of a mutation beforehand; docs/mutation.md says how it is used.
enum class MutationEffect : uint8_t {
  Unknown,
  MustMatter, // the field is executed and decides the result: equal outputs would be a defect of the simulator
  Benign,     // proven to change nothing in the outputs; `reason` is the proof in a few words
};

// One field of the program that `mutate` may change.
struct Mutation {
  std::string description; // "queue MEM west 12, instruction 3: stream 4 -> 5"
  program::Program program;
  MutationEffect effect = MutationEffect::Unknown;
  std::string reason; // "no instruction reads this slot"; required for Benign
};

// The mutations of one program, made ready to be asked for many.
class Mutations {
public:
  virtual ~Mutations() = default;
  // Mutation number `seed`, as Target::mutate but for a proof of its effect.
  virtual llvm::Expected<Mutation> make(uint64_t seed) = 0;
  // Settles `effect` and `reason` of a mutation that has been made.
  virtual void prove(Mutation &mutation) = 0;
};

// A program made ready to be executed many times.
class Executable {
public:
  virtual ~Executable() = default;
  // As Target::simulate; one run at a time.
  virtual llvm::Expected<RunResult> run(const NamedTensors &inputs, const RunOptions &options) = 0;
};

class Target {
public:
  virtual ~Target() = default;
  virtual llvm::StringRef name() const = 0;

  virtual Support supports(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                           const machine::Machine &machine) const = 0;

  // Mismatch errors when the model does not fit or a kernel is not supported: kernel, node, memory, bytes asked and
  // available, what would help.
  virtual llvm::Expected<std::unique_ptr<Plan>> plan(const graph::KernelGraph &graph, const machine::Machine &machine,
                                                     const CompileOptions &options) const = 0;
  virtual llvm::Expected<program::Program> emit(const graph::KernelGraph &graph, const Plan &plan,
                                                const machine::Machine &machine) const = 0;

  // Independent of plan and emit; trusts nothing in the program, reads no tensor contents.
  virtual llvm::Expected<Verdict> check(const program::Program &program) const = 0;
  virtual llvm::Expected<timeline::Timeline> estimate(const program::Program &program,
                                                      llvm::StringRef entryPoint = "inference") const = 0;
  virtual llvm::Expected<RunResult> simulate(const program::Program &program, const NamedTensors &inputs,
                                             const RunOptions &options) const = 0;

  // What `simulate` does before every run, done once: `program` must outlive the result. By default nothing is, and a
  // run is a simulation; a target whose preparation takes longer than a run does better.
  virtual llvm::Expected<std::unique_ptr<Executable>> prepare(const program::Program &program) const;

  // The program as text, and back: assemble(disassemble(p)) equals p. `fileName` is for messages, which name the line.
  virtual llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) const = 0;
  virtual llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) const = 0;

  // The mutation number `seed` of the program: one field of one instruction changed, deterministically.
  virtual llvm::Expected<Mutation> mutate(const program::Program &program, uint64_t seed) const = 0;
  // What `mutate` does for every mutation, done once, and proofs only where they are asked for: `program` must outlive
  // the result. By default nothing is.
  virtual llvm::Expected<std::unique_ptr<Mutations>> mutations(const program::Program &program) const;
};

// Registered targets; null when there is none of that name. A machine's architecture is its target's name.
const Target *find(llvm::StringRef name);
std::vector<const Target *> all();

} // namespace quadrille::target
