// What an operator function gets: one node with its attributes, operands and results, and the Emitter's operations.
#pragma once

#include "graph/import/Emitter.h"

#include "llvm/ADT/StringRef.h"

#include <functional>
#include <optional>
#include <set>

namespace onnx {
class AttributeProto;
class NodeProto;
} // namespace onnx

namespace quadrille::graph {
class ModelFile;
} // namespace quadrille::graph

namespace quadrille::graph::importer {

// The values of the attributes of a local function's call, for the function's own nodes that refer to them.
using AttributeFrame = std::map<std::string, const onnx::AttributeProto *>;

class OperatorContext : public Emitter {
public:
  OperatorContext(State &state, const ModelFile &file, const onnx::NodeProto &node, const AttributeFrame &frame,
                  int64_t opset, std::vector<TensorRef> operands, int64_t batch)
      : Emitter(state), file(file), node(node), frame(frame), opset(opset), batch(batch), operands(std::move(operands)),
        results(resultCount()) {}

  // Attributes. A type other than the asked one is refused. Whatever the operator has not asked for when it returns is
  // refused as unknown; `ignoreAttribute` is for attributes without influence on the result.
  bool has(llvm::StringRef name);
  int64_t integer(llvm::StringRef name, std::optional<int64_t> otherwise = std::nullopt); // no default: required
  double real(llvm::StringRef name, std::optional<double> otherwise = std::nullopt);
  bool flag(llvm::StringRef name, bool otherwise = false) { return integer(name, otherwise) != 0; }
  std::string text(llvm::StringRef name, std::optional<std::string> otherwise = std::nullopt);
  std::vector<int64_t> integerList(llvm::StringRef name, std::vector<int64_t> otherwise = {});
  std::vector<double> realList(llvm::StringRef name, std::vector<double> otherwise = {});
  std::vector<std::string> textList(llvm::StringRef name);
  TensorRef tensorAttribute(llvm::StringRef name);
  std::optional<ElementType> elementType(llvm::StringRef name); // a TensorProto.DataType code; 0 or none: nullopt
  const onnx::AttributeProto *graphAttribute(llvm::StringRef name);
  // Imports an attribute's graph at this place for these operands and returns its results.
  std::function<std::vector<TensorRef>(const onnx::AttributeProto &graph, llvm::ArrayRef<TensorRef>)> importGraph;
  void ignoreAttribute(llvm::StringRef name) { asked.insert(name.str()); }
  void refuseUnknownAttributes();

  // Operands.
  unsigned operandCount() const { return static_cast<unsigned>(operands.size()); }
  TensorRef operand(unsigned index);                                        // refuses an absent one
  TensorRef optional(unsigned index) const;                                 // null when absent
  std::vector<TensorRef> allOperands();                                     // refuses none and absent ones
  Tensor known(unsigned index, llvm::StringRef what);                       // refuses what depends on input values
  std::vector<int64_t> knownIntegers(unsigned index, llvm::StringRef what); // any rank, flattened
  int64_t knownInteger(unsigned index, llvm::StringRef what);               // one element
  // The list from an attribute in old operator sets, from an operand in newer ones; nullopt when neither is there.
  std::optional<std::vector<int64_t>> integersFrom(llvm::StringRef attribute, unsigned operand);
  // Refuses element types that the operator is not defined for.
  void requireFloat(TensorRef tensor);
  void requireSameType(llvm::ArrayRef<TensorRef> tensors);

  // Results.
  unsigned resultCount() const;
  bool wants(unsigned index) const; // the node names this output
  void result(unsigned index, TensorRef tensor);
  void result(TensorRef tensor) { result(0, tensor); }

  const std::string &name() const;      // of the node
  const std::string &operation() const; // its operator

  const ModelFile &file;
  const onnx::NodeProto &node;
  const AttributeFrame &frame;
  const int64_t opset;
  const int64_t batch; // --batch; 0 when not given
  std::vector<TensorRef> operands;
  std::vector<TensorRef> results;

private:
  const onnx::AttributeProto *find(llvm::StringRef name, int type);
  std::set<std::string> asked;
};

using OperatorFunction = void (*)(OperatorContext &);

// The operators by name; those of other domains with their domain ("com.microsoft::FusedConv").
class OperatorTable {
public:
  static const OperatorTable &get();
  OperatorFunction find(llvm::StringRef qualifiedName) const;
  void add(llvm::StringRef qualifiedName, OperatorFunction function) { functions[qualifiedName.str()] = function; }
  std::vector<std::string> names() const;

private:
  std::map<std::string, OperatorFunction> functions;
};

// Operators that make a sequence of tensors, and those that take one; the importer resolves them (Sequences.cpp).
inline constexpr llvm::StringLiteral sequenceMakers[] = {"SequenceConstruct", "SequenceEmpty", "SplitToSequence"};
inline constexpr llvm::StringLiteral sequenceUsers[] = {"ConcatFromSequence", "SequenceAt", "SequenceErase",
                                                        "SequenceInsert", "SequenceLength"};

// Why no machine's program can express an operator: what it works on is no tensor of numbers, or its result's shape
// depends on values. Empty for operators that can be, or merely are not, imported.
llvm::StringRef whyInexpressible(llvm::StringRef qualifiedName);

// One for each file of operators.
void addElementwise(OperatorTable &table);
void addLogical(OperatorTable &table);
void addActivations(OperatorTable &table);
void addReductions(OperatorTable &table);
void addResampling(OperatorTable &table);
void addLosses(OperatorTable &table);
void addMatrixProducts(OperatorTable &table);
void addAttention(OperatorTable &table);
void addLinearAttention(OperatorTable &table);
void addConvolutions(OperatorTable &table);
void addPooling(OperatorTable &table);
void addNormalizations(OperatorTable &table);
void addMovement(OperatorTable &table);
void addIndexing(OperatorTable &table);
void addGenerators(OperatorTable &table);
void addQuantization(OperatorTable &table);
void addRecurrent(OperatorTable &table);
void addSignal(OperatorTable &table);
void addSampling(OperatorTable &table);
void addTraining(OperatorTable &table);
void addRandom(OperatorTable &table);
void addSelection(OperatorTable &table);
void addTextStatistics(OperatorTable &table);
void addDeterminant(OperatorTable &table);

} // namespace quadrille::graph::importer
