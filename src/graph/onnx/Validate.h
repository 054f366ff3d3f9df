// Names the nameless nodes of a parsed model and checks what ModelFile promises of one.
#pragma once

#include "graph/onnx/FunctionTable.h"

namespace quadrille::graph {

// IR version, operator set versions.
llvm::Error validateVersions(const onnx::ModelProto &model);

// Gives nodes without a name "OpType_index"; refuses nodes without an operator.
llvm::Error nameNodes(onnx::ModelProto &model);

// Attributes (gives untyped ones the type of their value), definitions and uses of values, outputs, initializers.
llvm::Error validateGraphs(onnx::ModelProto &model);

} // namespace quadrille::graph
