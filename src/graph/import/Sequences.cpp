// Sequences exist only at import: which tensors each holds is known, and the operators on them disappear.
#include "graph/import/ModelImporter.h"

namespace quadrille::graph {

bool Importer::addSequence(const onnx::NodeProto &node, Scope &scope) {
  std::string operation = qualifiedOperator(node);
  const std::vector<TensorRef> *sequence = nullptr;
  std::vector<TensorRef> operands;
  for (const std::string &name : node.input()) {
    const TensorRef *tensor = name.empty() ? nullptr : scope.find(name);
    if (!name.empty() && !tensor) {
      sequence = scope.findSequence(name);
      if (!sequence)
        return false; // not defined
    } else if (tensor && !*tensor) {
      return false; // of a node that was refused
    }
    operands.push_back(tensor ? *tensor : TensorRef());
  }
  if (!sequence && !llvm::is_contained(importer::sequenceMakers, operation))
    return false;
  state.location = qd::nodeLocation(&storage.context, nameOf(node, scope), operation);
  if (sequence && !llvm::is_contained(importer::sequenceUsers, operation)) {
    unsupported.push_back({nameOf(node, scope), operation, "sequences are had only at import"});
    refuseNode(node, scope);
    return true;
  }
  OperatorContext context(state, file, node, scope.frame, opsetOf(node, scope), std::move(operands), options.batch);
  try {
    applySequence(context, operation, sequence, node, scope);
    context.refuseUnknownAttributes();
  } catch (const Refusal &refusal) {
    unsupported.push_back(
        {nameOf(node, scope), operation, refusal.message + (refusal.remedy.empty() ? "" : "; " + refusal.remedy)});
    refuseNode(node, scope);
  }
  return true;
}

void Importer::applySequence(OperatorContext &c, llvm::StringRef operation, const std::vector<TensorRef> *sequence,
                             const onnx::NodeProto &node, Scope &scope) {
  // A position counts from the end where negative; one past the end only where an element is inserted.
  auto position = [&](unsigned operand, size_t limit) {
    int64_t index = c.knownInteger(operand, "position");
    index += index < 0 ? static_cast<int64_t>(sequence->size()) : 0;
    if (index < 0 || index >= static_cast<int64_t>(limit))
      importer::refuse("position " + llvm::Twine(index) + " in a sequence of " + llvm::Twine(sequence->size()));
    return static_cast<std::ptrdiff_t>(index);
  };
  std::vector<TensorRef> result;
  if (operation == "SequenceAt") {
    scope.values[node.output(0)] = (*sequence)[position(1, sequence->size())];
    return;
  }
  if (operation == "SequenceLength") {
    scope.values[node.output(0)] =
        c.constant(Tensor::of<int64_t>(ElementType::i64, {}, {static_cast<int64_t>(sequence->size())}));
    return;
  }
  if (operation == "ConcatFromSequence") {
    bool isNew = c.flag("new_axis");
    if (sequence->empty())
      importer::refuse("the sequence is empty");
    int64_t rank = sequence->front().rank() + isNew, axis = importer::normalAxis(c.integer("axis"), rank);
    for (TensorRef part : *sequence) {
      Shape shape = part.shape();
      if (isNew && part.rank() + 1 == rank)
        shape.insert(shape.begin() + axis, 1);
      result.push_back(isNew ? c.reshape(part, shape) : part);
    }
    scope.values[node.output(0)] = c.concat(result, axis);
    return;
  }
  if (operation == "SequenceConstruct") {
    result = c.allOperands();
  } else if (operation == "SequenceEmpty") {
    c.ignoreAttribute("dtype");
  } else if (operation == "SequenceInsert") {
    result = *sequence;
    std::ptrdiff_t at = c.optional(2) ? position(2, sequence->size() + 1) : static_cast<std::ptrdiff_t>(result.size());
    result.insert(result.begin() + at, c.operand(1));
  } else if (operation == "SequenceErase") {
    if (sequence->empty())
      importer::refuse("the sequence is empty");
    result = *sequence;
    result.erase(result.begin() +
                 (c.optional(1) ? position(1, sequence->size()) : static_cast<std::ptrdiff_t>(sequence->size()) - 1));
  } else { // SplitToSequence
    TensorRef x = c.operand(0), split = c.optional(1);
    int64_t axis = importer::normalAxis(c.integer("axis", 0), x.rank()), extent = x.dim(axis);
    bool keeps = c.flag("keepdims", true) || split;
    std::vector<int64_t> lengths;
    if (split && split.rank() == 1) {
      lengths = c.knownIntegers(1, "split");
    } else {
      int64_t each = split ? c.knownInteger(1, "split") : 1;
      if (each < 1)
        importer::refuse("parts of " + llvm::Twine(each) + " elements");
      for (int64_t left = extent; left > 0; left -= each)
        lengths.push_back(std::min(each, left));
    }
    std::vector<int64_t> starts(x.rank(), 0);
    for (int64_t length : lengths) {
      if (length < 0 || length > extent - starts[axis])
        importer::refuse("split " + importer::shapeText(lengths) + " of " + llvm::Twine(extent) + " elements");
      Shape shape = x.shape();
      shape[axis] = length;
      TensorRef part = c.slice(x, starts, shape);
      starts[axis] += length;
      if (!keeps) {
        shape.erase(shape.begin() + axis);
        part = c.reshape(part, shape);
      }
      result.push_back(part);
    }
    if (starts[axis] != extent)
      importer::refuse("split " + importer::shapeText(lengths) + " of " + llvm::Twine(extent) + " elements");
  }
  scope.sequences[node.output(0)] = std::move(result);
}

} // namespace quadrille::graph
