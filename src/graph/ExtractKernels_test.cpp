#include "graph/ExtractKernels.h"

#include "graph/Passes.h"
#include "graph/dialect/QdDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <gtest/gtest.h>

using namespace quadrille;
using namespace quadrille::graph;

namespace {

// A module whose function returns the reshape of a weight over `bytes`.
mlir::OwningOpRef<mlir::ModuleOp> weightModule(mlir::MLIRContext &context, llvm::ArrayRef<std::byte> bytes,
                                               std::shared_ptr<const void> owner) {
  mlir::DialectRegistry registry;
  registerDialects(registry);
  context.appendDialectRegistry(registry);
  context.loadAllAvailableDialects();
  mlir::OpBuilder builder(&context);
  mlir::Location location = qd::nodeLocation(&context, "node", "Reshape");
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(location);
  auto flat = mlir::RankedTensorType::get({6}, builder.getF32Type());
  auto matrix = mlir::RankedTensorType::get({2, 3}, builder.getF32Type());
  builder.setInsertionPointToEnd(module->getBody());
  auto function = builder.create<mlir::func::FuncOp>(location, "main", builder.getFunctionType({}, {matrix}));
  builder.setInsertionPointToStart(function.addEntryBlock());
  auto *dialect = context.getLoadedDialect<qd::QdDialect>();
  mlir::Value weight = builder.create<qd::WeightOp>(
      location, flat, builder.getStringAttr("w"), dialect->borrowElements(flat, bytes, std::move(owner)),
      builder.getStringAttr("model.onnx"), builder.getI64IntegerAttr(64), builder.getI64IntegerAttr(24));
  mlir::Value reshaped = builder.create<qd::ReshapeOp>(location, matrix, weight);
  builder.create<mlir::func::ReturnOp>(location, reshaped);
  return module;
}

KernelGraph extractOnly(mlir::ModuleOp module) {
  llvm::Expected<KernelGraph> graph = extractKernels(*module.getOps<mlir::func::FuncOp>().begin());
  EXPECT_TRUE(static_cast<bool>(graph)) << llvm::toString(graph.takeError());
  return std::move(*graph);
}

TEST(ExtractKernels, BorrowsWeightsThatOutliveTheContext) {
  auto buffer = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3, 4, 5, 6});
  llvm::ArrayRef<std::byte> bytes(reinterpret_cast<const std::byte *>(buffer->data()), 24);
  const void *address = bytes.data();
  std::weak_ptr<std::vector<float>> alive = buffer;
  {
    KernelGraph graph;
    {
      mlir::MLIRContext context;
      mlir::OwningOpRef<mlir::ModuleOp> module = weightModule(context, bytes, std::move(buffer));
      graph = extractOnly(*module);
    }
    ASSERT_FALSE(alive.expired()) << "the graph keeps the bytes alive";
    ASSERT_EQ(graph.kernels.size(), 1u);
    const Value &weight = graph.values[graph.kernels[0].reads[0].value];
    EXPECT_EQ(weight.name, "w");
    EXPECT_EQ(weight.data.bytes().data(), address) << "nothing is copied";
    ASSERT_TRUE(weight.origin);
    EXPECT_EQ(weight.origin->path, "model.onnx");
    EXPECT_EQ(weight.origin->offset, 64u);
    EXPECT_EQ(graph.nodes[graph.kernels[0].nodes[0]].name, "node");
    EXPECT_EQ(graph.nodes[graph.kernels[0].nodes[0]].operation, "Reshape");
  }
  EXPECT_TRUE(alive.expired()) << "and nobody else does";
}

TEST(RunPipeline, FoldsTheReshapeOfAWeightWithoutCopyAndWritesNumberedFiles) {
  auto buffer = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3, 4, 5, 6});
  llvm::ArrayRef<std::byte> bytes(reinterpret_cast<const std::byte *>(buffer->data()), 24);
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module = weightModule(context, bytes, buffer);
  llvm::SmallString<128> directory;
  ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("quadrille-dump", directory));
  llvm::Error error = runPipeline(*module, directory);
  EXPECT_FALSE(static_cast<bool>(error)) << llvm::toString(std::move(error));
  for (llvm::StringRef name : {"00-import.mlir", "01-canonicalize.mlir", "02-cse.mlir"}) {
    llvm::SmallString<128> path(directory);
    llvm::sys::path::append(path, name);
    EXPECT_TRUE(llvm::sys::fs::exists(path)) << name.str();
  }
  EXPECT_FALSE(llvm::sys::fs::remove_directories(directory));

  KernelGraph graph = extractOnly(*module);
  EXPECT_TRUE(graph.kernels.empty());
  ASSERT_EQ(graph.outputs.size(), 1u);
  const Value &weight = graph.values[graph.outputs[0]];
  EXPECT_EQ(weight.shape, (Shape{2, 3}));
  EXPECT_EQ(weight.data.bytes().data(), bytes.data());
}

TEST(RunPipeline, RefusesADirectoryThatCannotBeMade) {
  mlir::MLIRContext context;
  static const float zeros[6] = {};
  llvm::ArrayRef<std::byte> bytes(reinterpret_cast<const std::byte *>(zeros), 24);
  mlir::OwningOpRef<mlir::ModuleOp> module = weightModule(context, bytes, std::make_shared<int>(0));
  std::string message = llvm::toString(runPipeline(*module, "/dev/null/dump"));
  EXPECT_NE(message.find("/dev/null/dump: cannot create the directory"), std::string::npos) << message;
}

} // namespace
