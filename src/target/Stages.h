// Models that the user cuts into stages: each named node begins a stage, which runs on the chip behind that of the
// stage before. What is on a chip is told by nodes of the model's file, whatever a target makes of them: a kernel is of
// the stage of the first of its nodes, leaving out those that compute from weights alone.
#pragma once

#include "target/Target.h"

#include <map>
#include <set>

namespace quadrille::target {

// The nodes that the texts of --stages-at name: each text is a node's name, or several with commas between them. User
// errors: a name that no node has (with one that differs little) or that several have, and nodes that are not in the
// order of the file.
llvm::Expected<std::vector<std::string>> stageNodes(llvm::ArrayRef<std::string> texts,
                                                    llvm::ArrayRef<graph::FileNode> order);

// Where a graph that a target has lowered is cut; empty: the target chooses.
struct GivenStages {
  std::vector<size_t> bounds; // the first kernel of each stage, and the number of all kernels
  StageCuts cuts;
};

// Puts the kernels of a graph that a target has lowered in the order of the stages. Returns the first kernel of each
// stage, and the number of all kernels. User errors name the node at which the graph cannot be cut, and those near it
// at which it can be: no kernel begins with it, nothing stands before it, or what stands before it needs what comes
// after.
llvm::Expected<std::vector<size_t>> arrangeStages(graph::KernelGraph &graph, const StageCuts &cuts);

// "stage 1 (begins with 'B')", counted from 0 as chips are.
std::string nameOfStage(const StageCuts &cuts, size_t stage);

// The fewest chips, of those that a program may have (ascending), for so many stages. An error when there are not as
// many.
llvm::Expected<int64_t> chipsForStages(int64_t stages, llvm::ArrayRef<int64_t> counts, llvm::StringRef machine);

// Of a program on several chips: adds to its timeline which nodes are on which chip, as a table and as the placement of
// each kernel. `nodes`: by chip, those behind what it executes. `kernels`: of the timeline, by node. `unit`: "chip".
void addStages(timeline::Timeline &timeline, const program::Program &program, llvm::ArrayRef<std::set<uint32_t>> nodes,
               const std::map<uint32_t, timeline::KernelId> &kernels, llvm::StringRef unit);

} // namespace quadrille::target
