#include "TextModel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace quadrille::graph {

llvm::Expected<KernelGraph> import(int opset, const std::string &graph, const ImportOptions &options) {
  auto file = parse(opset, graph);
  llvm::Expected<ImportedModel> model = importModel(*file, options);
  if (!model)
    return model.takeError();
  return extractKernels(model->function());
}

} // namespace quadrille::graph
