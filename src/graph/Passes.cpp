#include "graph/Passes.h"

#include "base/Error.h"
#include "base/File.h"
#include "graph/ExtractKernels.h"
#include "graph/IntegerContractions.h"
#include "graph/RecognizeComposites.h"
#include "graph/dialect/QdDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace quadrille::graph {

void registerDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, func::FuncDialect, linalg::LinalgDialect, math::MathDialect,
                  tensor::TensorDialect, qd::QdDialect>();
}

namespace {
struct PrintKernelsPass : PassWrapper<PrintKernelsPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(PrintKernelsPass)
  PrintKernelsPass() = default;
  PrintKernelsPass(const PrintKernelsPass &other) : PassWrapper(other) {}
  StringRef getArgument() const override { return "qd-print-kernels"; }
  StringRef getDescription() const override { return "print the kernels of every function"; }

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      llvm::Expected<KernelGraph> graph = extractKernels(function);
      if (!graph) {
        function.emitError(llvm::toString(graph.takeError()));
        return signalPassFailure();
      }
      KernelGraph result = integers ? integerContractions(std::move(*graph)) : std::move(*graph);
      if (recognize)
        result = recognizeComposites(std::move(result));
      if (std::string wrong = result.verify(); !wrong.empty()) {
        function.emitError("not well-formed: " + wrong);
        return signalPassFailure();
      }
      llvm::outs() << result.print();
    }
    markAllAnalysesPreserved();
  }

  Option<bool> integers{*this, "integer-contractions", llvm::cl::desc("work in integers between QDQ operators first")};
  Option<bool> recognize{*this, "recognize-composites", llvm::cl::desc("find composites among the kernels first")};
};

// Writes the module to a numbered file after every pass. Passes run on the whole module one after another, so that
// there is one writer.
class DumpInstrumentation : public PassInstrumentation {
public:
  DumpInstrumentation(std::string directory, llvm::Error &error) : directory(std::move(directory)), error(error) {}

  void runAfterPass(Pass *pass, Operation *op) override { write(pass->getArgument(), op); }

  void write(StringRef what, Operation *op) {
    if (error)
      return;
    llvm::SmallString<128> path(directory);
    std::string name;
    llvm::raw_string_ostream(name) << llvm::format("%02u-", number++) << what << ".mlir";
    llvm::sys::path::append(path, name);
    error = writeFileAtomically(path, [&](llvm::raw_pwrite_stream &os) {
      OpPrintingFlags flags;
      flags.elideLargeElementsAttrs(64).elideLargeResourceString(64).enableDebugInfo(true, /*prettyForm=*/false);
      op->print(os, flags);
      os << '\n';
      return llvm::Error::success();
    });
  }

private:
  std::string directory;
  unsigned number = 0;
  llvm::Error &error;
};
} // namespace

std::unique_ptr<Pass> createPrintKernelsPass() {
  return std::make_unique<PrintKernelsPass>();
}

void registerPasses() {
  registerCanonicalizerPass();
  registerCSEPass();
  registerPass([] { return createPrintKernelsPass(); });
}

llvm::Error runPipeline(ModuleOp module, llvm::StringRef dumpDirectory) {
  MLIRContext *context = module.getContext();
  PassManager manager(context);
  manager.enableVerifier(true);

  llvm::Error dumpError = llvm::Error::success();
  if (!dumpDirectory.empty()) {
    if (std::error_code code = llvm::sys::fs::create_directories(dumpDirectory)) {
      llvm::consumeError(std::move(dumpError));
      return userError("cannot create the directory: " + code.message(), {dumpDirectory.str(), ""});
    }
    auto dump = std::make_unique<DumpInstrumentation>(dumpDirectory.str(), dumpError);
    dump->write("import", module);
    manager.addInstrumentation(std::move(dump));
  }

  // Regions are not simplified: blocks and loops of the model are its own.
  GreedyRewriteConfig config;
  config.enableRegionSimplification = GreedySimplifyRegionLevel::Disabled;
  manager.addPass(createCanonicalizerPass(config));
  manager.addPass(createCSEPass());

  std::string diagnostics;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    llvm::raw_string_ostream(diagnostics) << (diagnostics.empty() ? "" : "\n") << diagnostic.str();
    return success();
  });
  bool failed = mlir::failed(manager.run(module));
  if (dumpError)
    return dumpError;
  if (failed)
    return internalError("the passes over the graph failed: " + diagnostics);
  return llvm::Error::success();
}

} // namespace quadrille::graph
