// From a model file to the kernel normal form; the front door of graph/, free of MLIR.
#pragma once

#include "graph/KernelGraph.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace quadrille::graph {

// Evaluates a graph whose inputs are given; shape arithmetic is folded with it at import. The host target provides one
// (target/host/Evaluate.h); graph/ itself knows no target.
using Evaluator = std::function<llvm::Expected<std::vector<Tensor>>(const KernelGraph &, llvm::ArrayRef<Tensor>)>;

struct ImportOptions {
  Evaluator evaluate;
  std::map<std::string, int64_t> dimensions; // --shape name=value: symbolic dimensions by name
  int64_t batch = 0;                         // --batch: the first symbolic dimension of every input; 0 = not given
  std::map<std::string, Tensor> bindings;    // --bind input=value: inputs bound as constants
  std::map<std::string, Shape> inputShapes;  // shapes of example inputs, which give symbolic dimensions their values
  std::string dumpDirectory;                 // writes the IR after every pass to numbered files there when not empty
};

// One operator that the importer lacks (or lacks with these attributes), at one node.
struct UnsupportedNode {
  std::string node, operation, reason;
};

// Static facts of a model, known without importing its operators.
struct ModelSummary {
  struct Port {
    std::string name;
    ElementType type;
    std::vector<std::string> shape; // numbers, or names of symbolic dimensions ("?" when nameless)
  };
  std::string path, producer;
  int64_t irVersion = 0, opset = 0;
  std::vector<Port> inputs, outputs;
  std::map<std::string, int64_t> operators; // operator type -> count, subgraphs and local functions included
  int64_t parameters = 0;                   // elements of all weights
  uint64_t parameterBytes = 0;
  std::vector<std::string> absentWeights; // declared, but their data is missing
  std::vector<UnsupportedNode> unsupported;
};

llvm::Expected<ModelSummary> summarizeModel(llvm::StringRef path);

// A node as the model's file has it.
struct FileNode : Node {
  bool constant = false; // computes from weights alone, and so may stand anywhere before what reads it
};

// All nodes in the order of the file, named as kernels name them: behind a call those of its local function, behind a
// node those of its subgraphs.
llvm::Expected<std::vector<FileNode>> nodesInOrder(llvm::StringRef path);

// Imports, normalises and extracts. User errors name file and node: malformed file, unsupported operator (all of them,
// one a line), unresolved symbolic dimension (with the option that gives it a value), wrong shapes or types.
llvm::Expected<KernelGraph> loadModel(llvm::StringRef path, const ImportOptions &options);
// Of a file that is open (graph/onnx/ModelFile.h).
class ModelFile;
llvm::Expected<KernelGraph> loadModel(const ModelFile &file, const ImportOptions &options);

} // namespace quadrille::graph
