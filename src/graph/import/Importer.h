// An ONNX model as a function over static tensors.
#pragma once

#include "graph/Model.h"
#include "graph/onnx/ModelFile.h"

#include <memory>

namespace mlir {
class MLIRContext;
class ModuleOp;
namespace func {
class FuncOp;
} // namespace func
} // namespace mlir

namespace quadrille::graph {

// A module with one function "main": arguments are the model's inputs that are neither weights nor bound, results its
// outputs in order, all with their ONNX names as `qd.name`.
class ImportedModel {
public:
  ImportedModel();
  ImportedModel(ImportedModel &&) noexcept;
  ImportedModel &operator=(ImportedModel &&) noexcept;
  ~ImportedModel();

  mlir::func::FuncOp function() const;
  mlir::ModuleOp module() const;
  std::string print() const; // the module as text, with locations

  struct Storage;
  std::unique_ptr<Storage> storage;
};

// Errors as loadModel's.
llvm::Expected<ImportedModel> importModel(const ModelFile &file, const ImportOptions &options);

// Nodes whose operator the importer does not have, subgraphs and local functions included.
std::vector<UnsupportedNode> unknownOperators(const ModelFile &file);

// All nodes in the order of the file (graph::nodesInOrder of Model.h).
std::vector<FileNode> nodesInOrder(const ModelFile &file);

// Why no machine's program can express an operator ("NonZero", "ai.onnx.ml::Scaler"); empty for all others.
std::string whyInexpressible(llvm::StringRef qualifiedOperator);

// The operators that the importer has.
std::vector<std::string> importableOperators();

} // namespace quadrille::graph
