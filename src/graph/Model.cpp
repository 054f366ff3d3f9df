#include "graph/Model.h"

#include "base/Error.h"
#include "base/File.h"
#include "graph/ExtractKernels.h"
#include "graph/import/Importer.h"
#include "graph/onnx/ModelFile.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/Support/FileSystem.h"
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

static llvm::Error dump(const ImportOptions &options, llvm::StringRef name, llvm::StringRef text) {
  if (options.dumpDirectory.empty())
    return llvm::Error::success();
  if (std::error_code code = llvm::sys::fs::create_directories(options.dumpDirectory))
    return userError("cannot create the folder: " + code.message(), {options.dumpDirectory, ""});
  return writeFileAtomically(options.dumpDirectory + "/" + name.str(), [&](llvm::raw_pwrite_stream &os) -> llvm::Error {
    os << text << '\n';
    return llvm::Error::success();
  });
}

llvm::Expected<KernelGraph> loadModel(llvm::StringRef path, const ImportOptions &options) {
  llvm::Expected<std::unique_ptr<const ModelFile>> file = ModelFile::open(path);
  if (!file)
    return file.takeError();
  llvm::Expected<ImportedModel> model = importModel(**file, options);
  if (!model)
    return model.takeError();
  if (!options.dumpDirectory.empty())
    if (llvm::Error error = dump(options, "00-import.mlir", model->print()))
      return std::move(error);
  llvm::Expected<KernelGraph> graph = extractKernels(model->function());
  if (!graph)
    return inFile(graph.takeError(), path);
  if (!options.dumpDirectory.empty())
    if (llvm::Error error = dump(options, "01-kernels.txt", graph->print()))
      return std::move(error);
  return graph;
}

} // namespace quadrille::graph
