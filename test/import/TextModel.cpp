#include "TextModel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace quadrille::graph {

llvm::Expected<KernelGraph> import(const ModelFile &file, const ImportOptions &options) {
  llvm::Expected<ImportedModel> model = importModel(file, options);
  if (!model)
    return model.takeError();
  return extractKernels(model->function());
}

} // namespace quadrille::graph
