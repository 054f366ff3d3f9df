// An ONNX file: mapped, parsed without its weights' bytes, checked, and read weight by weight.
//
// Weights stay where they are. Before parsing, a scan of the wire format replaces every TensorProto.raw_data (and
// packed float_data, double_data, whose bytes are the same) by a reference into the file. Therefore:
//   - never read raw_data, float_data, ... of a TensorProto in model(): ask weight(), which takes any TensorProto
//     of this model: an initializer, an attribute's tensor, one within a subgraph or a local function, or a copy;
//   - files of any size work as long as what is not tensor data stays under 2 GiB.
//
// What an open ModelFile promises (everything else is refused with the file, the node and what to do):
//   - the IR version and the default domain's version are ones we know;
//   - every node has an operator and a name. A nameless node gets "OpType_index", its position among all nodes:
//     the main graph's in order, a node before the nodes of its subgraphs, then the local functions'. Such names are
//     unique; names that the file gives are left alone, even two equal ones;
//   - every attribute has a name, unique in its node, and a type that matches its value;
//   - in every graph and function each value is defined once and before its use; subgraphs see the values defined
//     so far in the graphs around them and may redefine a name of those for themselves;
//   - outputs are defined; initializers have names and are dense;
//   - local functions are unique, do not call themselves in any circle, and do not expand beyond
//     `maximumExpandedNodes`.
#pragma once

#include "graph/Model.h"
#include "numerics/Tensor.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace onnx {
class AttributeProto;
class FunctionProto;
class ModelProto;
class NodeProto;
class TensorProto;
} // namespace onnx

namespace quadrille::graph {

// What we read. IR version 3 (2017) brought operator set versions; 13 and opset 27 are ONNX 1.22's.
constexpr int64_t minimumIrVersion = 3, maximumIrVersion = 13;
constexpr int64_t minimumOpset = 1, maximumOpset = 27;
constexpr int64_t maximumRank = 64;
constexpr int64_t maximumExpandedNodes = 1'000'000; // nodes of a model with its local functions inlined

// A tensor of a model file.
struct WeightData {
  std::string name;
  ElementType type = ElementType::f32;
  Shape shape;
  // The elements, little-endian and row-major: borrowed from the mapped file where the file holds them that way, else
  // converted (typed fields other than float_data and double_data, sub-byte types, bools that are neither 0 nor 1).
  // Keeps the mapping alive on its own. Invalid when the data is absent.
  Tensor data;
  std::optional<FileSpan> origin; // where `data` was borrowed from; absent data: the file that should hold it, size 0
  std::string absence;            // why there is no data, empty otherwise

  bool absent() const { return !data.valid(); }
};

class TensorReader;

class ModelFile {
public:
  static llvm::Expected<std::unique_ptr<const ModelFile>> open(llvm::StringRef path);

  // A model in memory, which `owner` keeps alive; `path` names it in messages and its folder holds external data.
  static llvm::Expected<std::unique_ptr<const ModelFile>> read(llvm::ArrayRef<std::byte> bytes,
                                                               std::shared_ptr<const void> owner, llvm::StringRef path);
  ~ModelFile();

  llvm::StringRef path() const { return filePath; }
  const onnx::ModelProto &model() const { return *proto; }

  // Version of an operator set domain ("" and "ai.onnx" are the same), for the main graph or within a local function,
  // which may import others. 0 when the domain is not imported.
  int64_t opset(llvm::StringRef domain = "") const;
  int64_t opset(const onnx::FunctionProto &function, llvm::StringRef domain = "") const;

  // Elements of a tensor. May be called from several threads. Errors: unsupported element type, a size that does not
  // match the shape, external data outside the model's folder. Data that merely is not there is no error.
  llvm::Expected<WeightData> weight(const onnx::TensorProto &tensor) const;

  // The local function that a node calls, by domain, operator and overload; null when it calls none.
  const onnx::FunctionProto *function(const onnx::NodeProto &node) const;
  // The values that a function's attributes have where the call gives none (FunctionProto.attribute_proto).
  const std::vector<onnx::AttributeProto> &defaultAttributes(const onnx::FunctionProto &function) const;

private:
  ModelFile();
  struct Functions;
  std::string filePath;
  std::unique_ptr<onnx::ModelProto> proto;
  std::unique_ptr<TensorReader> reader;
  std::unique_ptr<Functions> functions;
};

// A file that holds one TensorProto, as ONNX's test data does (input_0.pb). Files with a sequence or an optional are
// refused.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};
llvm::Expected<NamedTensor> readTensorFile(llvm::StringRef path);
// Of bytes in memory, which `owner` keeps alive; `path` names them in messages.
llvm::Expected<NamedTensor> readTensor(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner,
                                       llvm::StringRef path);

// Static facts; `unsupported` is left empty. Counts: operators with every call of a local function replaced by the
// function's nodes; parameters of initializers, subgraphs' included.
llvm::Expected<ModelSummary> summarize(const ModelFile &file);

// "" for both spellings of the default operator set domain, else the domain.
llvm::StringRef canonicalDomain(llvm::StringRef domain);

} // namespace quadrille::graph
