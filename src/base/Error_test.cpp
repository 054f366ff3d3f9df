#include "base/Error.h"

#include "gtest/gtest.h"

namespace quadrille {
namespace {

TEST(Error, SaysFileNodeMessageAndRemedyOnOneLine) {
  Reported reported = report(userError("operator Foo is not known", {"m.onnx", "node 'a'"}, "use Bar"));
  EXPECT_EQ(reported.message, "m.onnx: node 'a': operator Foo is not known; use Bar");
  EXPECT_EQ(reported.exitCode, 2);
}

TEST(Error, ExitCodesFollowTheKind) {
  EXPECT_EQ(report(mismatchError("does not fit")).exitCode, 1);
  EXPECT_EQ(report(internalError("lost a value")).exitCode, 70);
  EXPECT_EQ(report(llvm::Error::success()).exitCode, 0);
}

TEST(Error, AnErrorThatIsNotAFailureIsOurDefect) {
  EXPECT_EQ(report(llvm::createStringError("from a library")).exitCode, 70);
}

TEST(Error, ContextFillsOnlyWhatIsMissing) {
  EXPECT_EQ(report(inFile(atNode(userError("bad"), "n"), "f")).message, "f: n: bad");
  EXPECT_EQ(report(inFile(userError("bad", {"inner", ""}), "outer")).message, "inner: bad");
}

} // namespace
} // namespace quadrille
