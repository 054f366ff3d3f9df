#include "target/Refusal.h"

#include "gtest/gtest.h"

namespace quadrille::target {
namespace {

// The kind of a refusal; nothing for any other error.
std::optional<RefusalKind> kindOf(llvm::Error error) {
  std::optional<RefusalKind> kind;
  llvm::handleAllErrors(
      std::move(error), [&](const Refusal &refusal) { kind = refusal.kind; }, [](const llvm::ErrorInfoBase &) {});
  return kind;
}

TEST(Refusal, KeepsItsKindWhereFileAndNodeAreAdded) {
  EXPECT_EQ(kindOf(inFile(atNode(doesNotFitError("no room"), "conv"), "m.onnx")), RefusalKind::DoesNotFit);
  EXPECT_EQ(kindOf(unsupportedError("no such type")), RefusalKind::Unsupported);
  EXPECT_EQ(kindOf(mismatchError("values differ")), std::nullopt);
}

TEST(Refusal, IsReportedAsAMismatch) {
  Reported reported = report(inFile(doesNotFitError("no room", {"", "conv"}, "take more chips"), "m.onnx"));
  EXPECT_EQ(reported.exitCode, static_cast<int>(Fault::Mismatch));
  EXPECT_EQ(reported.message, "m.onnx: conv: no room; take more chips");
}

} // namespace
} // namespace quadrille::target
