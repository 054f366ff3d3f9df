// The importer as a class: the graph, its nodes and the control flow among them. For Importer.cpp, ControlFlow.cpp and
// Sequences.cpp only.
#pragma once

#include "base/Error.h"
#include "graph/import/EmitterState.h"
#include "graph/import/Importer.h"
#include "graph/import/OperatorContext.h"
#include "graph/onnx/FunctionTable.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/StringMap.h"

namespace quadrille::graph {

using importer::AttributeFrame;
using importer::Emitter;
using importer::OperatorContext;
using importer::Refusal;
using importer::TensorData;
using importer::TensorRef;

struct ImportedModel::Storage {
  Storage() : context(mlir::MLIRContext::Threading::DISABLED) {
    context.loadDialect<mlir::arith::ArithDialect, mlir::func::FuncDialect, mlir::linalg::LinalgDialect,
                        mlir::math::MathDialect, mlir::tensor::TensorDialect, qd::QdDialect>();
  }
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::func::FuncOp function;
};

// Names of a graph, or of a local function's body. A name without a tensor depends on a node that was refused.
struct Scope {
  const Scope *parent = nullptr; // of a subgraph: the graph around it
  llvm::StringMap<TensorRef> values;
  const onnx::FunctionProto *function = nullptr;
  AttributeFrame frame;
  std::string prefix; // of the names of nodes within a call
  llvm::StringMap<std::vector<TensorRef>> sequences;

  const TensorRef *find(llvm::StringRef name) const { return findIn(&Scope::values, name); }
  const std::vector<TensorRef> *findSequence(llvm::StringRef name) const { return findIn(&Scope::sequences, name); }

private:
  template <typename T> const T *findIn(llvm::StringMap<T> Scope::*names, llvm::StringRef name) const {
    for (const Scope *scope = this; scope; scope = scope->parent)
      if (auto found = (scope->*names).find(name); found != (scope->*names).end())
        return &found->second;
    return nullptr;
  }
};

class Importer {
public:
  Importer(const ModelFile &file, const ImportOptions &options, ImportedModel::Storage &storage)
      : file(file), options(options), storage(storage), state(&storage.context) {}

  llvm::Error run();

private:
  llvm::Error addInputs(Scope &scope);
  llvm::Error addInitializers(const onnx::GraphProto &graph, Scope &scope);
  llvm::Error addNodes(const Nodes &nodes, Scope &scope);
  llvm::Error addNode(const onnx::NodeProto &node, Scope &scope);
  llvm::Error addCall(const onnx::NodeProto &node, const onnx::FunctionProto &function,
                      const std::vector<TensorRef> &operands, Scope &scope);
  // Operators that make, change or read a sequence, and whatever else has one as an operand. False: none of these.
  bool addSequence(const onnx::NodeProto &node, Scope &scope);
  void applySequence(OperatorContext &c, llvm::StringRef operation, const std::vector<TensorRef> *sequence,
                     const onnx::NodeProto &node, Scope &scope);
  llvm::Error addIf(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope);
  // Imports a graph into a scope within `scope`. The names of its outputs, which the caller looks up, may be undefined.
  llvm::Error addSubgraph(const onnx::GraphProto &graph, Scope &inner, const Scope &scope);
  // A branch of an If: as many results as the node has.
  llvm::Expected<std::vector<TensorRef>> addBranch(const onnx::NodeProto &node, const onnx::GraphProto &branch,
                                                   const Scope &scope);
  llvm::Error addSelected(const onnx::NodeProto &node, TensorRef condition, const onnx::GraphProto &yes,
                          const onnx::GraphProto &no, Scope &scope);
  llvm::Error addScan(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope);
  llvm::Error addLoop(const onnx::NodeProto &node, const std::vector<TensorRef> &operands, Scope &scope);
  struct ScannedBody;
  // As one region. False, and nothing is added, when the loop stops by a condition that is computed and the body is not
  // masked.
  llvm::Expected<bool> addScanned(const onnx::NodeProto &node, ScannedBody scanned, Scope &scope);
  // Step after step.
  llvm::Error addUnrolled(const onnx::NodeProto &node, const ScannedBody &scanned, Scope &scope);
  llvm::Error finish(const Scope &scope);
  llvm::Error reportUnsupported() const;

  // The nodes of a subgraph at the builder's position.
  llvm::Expected<std::vector<TensorRef>> addGraph(const onnx::GraphProto &graph, llvm::ArrayRef<TensorRef> operands,
                                                  const Scope &scope);
  // Runs the operator at the builder's position.
  llvm::Expected<std::vector<TensorRef>> apply(const onnx::NodeProto &node, importer::OperatorFunction function,
                                               const std::vector<TensorRef> &operands, const Scope &scope);
  // Computes the node's results from its known operands; nullopt when they are too large to be worth it.
  llvm::Expected<std::optional<std::vector<TensorRef>>> fold(const onnx::NodeProto &node,
                                                             importer::OperatorFunction function,
                                                             const std::vector<TensorRef> &operands,
                                                             const Scope &scope);

  std::string nameOf(const onnx::NodeProto &node, const Scope &scope) const { return scope.prefix + node.name(); }
  Where where(const onnx::NodeProto &node, const Scope &scope) const {
    return {file.path().str(), qualifiedOperator(node) + " \"" + nameOf(node, scope) + "\""};
  }
  llvm::Error failure(const Refusal &refusal, const onnx::NodeProto &node, const Scope &scope);
  void refuseNode(const onnx::NodeProto &node, Scope &scope) {
    for (const std::string &output : node.output())
      scope.values[output] = TensorRef();
  }
  int64_t opsetOf(const onnx::NodeProto &node, const Scope &scope) const {
    return scope.function ? file.opset(*scope.function, node.domain()) : file.opset(node.domain());
  }

  const ModelFile &file;
  const ImportOptions &options;
  ImportedModel::Storage &storage;
  Emitter::State state;
  std::vector<UnsupportedNode> unsupported;
  int64_t loopNodes = 0; // imported in bodies of loops, which are tried in several forms and step by step
};

} // namespace quadrille::graph
