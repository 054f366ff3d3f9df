#include "graph/Model.h"

#include "base/Error.h"
#include "base/File.h"
#include "graph/ExtractKernels.h"
#include "graph/IntegerContractions.h"
#include "graph/Passes.h"
#include "graph/RecognizeComposites.h"
#include "graph/import/Importer.h"
#include "graph/onnx/ModelFile.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/Support/raw_ostream.h"

namespace quadrille::graph {

llvm::Expected<ModelSummary> summarizeModel(llvm::StringRef path) {
  llvm::Expected<std::unique_ptr<const ModelFile>> file = ModelFile::open(path);
  if (!file)
    return file.takeError();
  llvm::Expected<ModelSummary> summary = summarize(**file);
  if (summary)
    summary->unsupported = unknownOperators(**file);
  return summary;
}

llvm::Expected<std::vector<FileNode>> nodesInOrder(llvm::StringRef path) {
  llvm::Expected<std::unique_ptr<const ModelFile>> file = ModelFile::open(path);
  if (!file)
    return file.takeError();
  return nodesInOrder(**file);
}

llvm::Expected<KernelGraph> loadModel(llvm::StringRef path, const ImportOptions &options) {
  llvm::Expected<std::unique_ptr<const ModelFile>> file = ModelFile::open(path);
  if (!file)
    return file.takeError();
  return loadModel(**file, options);
}

llvm::Expected<KernelGraph> loadModel(const ModelFile &file, const ImportOptions &options) {
  llvm::Expected<ImportedModel> model = importModel(file, options);
  if (!model)
    return model.takeError();
  if (llvm::Error error = runPipeline(model->module(), options.dumpDirectory))
    return inFile(std::move(error), file.path());
  llvm::Expected<KernelGraph> extracted = extractKernels(model->function());
  if (!extracted)
    return inFile(extracted.takeError(), file.path());
  KernelGraph graph = recognizeComposites(integerContractions(std::move(*extracted)));
  if (!options.dumpDirectory.empty())
    if (llvm::Error error =
            writeFileAtomically(options.dumpDirectory + "/kernels.txt", [&](llvm::raw_pwrite_stream &os) {
              os << graph.print();
              return llvm::Error::success();
            }))
      return std::move(error);
  return graph;
}

} // namespace quadrille::graph
