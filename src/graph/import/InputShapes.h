// Static shapes for a model's inputs.
#pragma once

#include "graph/Model.h"
#include "graph/onnx/ModelFile.h"

namespace quadrille::graph::importer {

struct InputPort {
  std::string name;
  ElementType type = ElementType::f32;
  Shape shape;
  bool batched = false; // dimension 0 took the value of --batch
};

// The inputs that are neither initialised nor bound, in order, with every symbolic dimension given its value by
// options.inputShapes, options.dimensions (by name, or "INPUT.AXIS") and options.batch. User errors: a dimension
// without a value, values that contradict each other or the model, names that the model does not have, a batch that the
// model fixes.
llvm::Expected<std::vector<InputPort>> resolveInputs(const ModelFile &file, const ImportOptions &options);

// A binding's tensor has the type and shape of the input it stands for.
llvm::Error checkBindings(const ModelFile &file, const ImportOptions &options);

} // namespace quadrille::graph::importer
