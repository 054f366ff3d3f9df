#include "target/Text.h"

#include "base/Error.h"

#include "llvm/Support/raw_ostream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quadrille::target {
namespace {

using program::Program;
using testing::HasSubstr;

llvm::Expected<Program> parse(llvm::StringRef text) {
  CommonReader reader("null");
  if (llvm::Error error = forEachLine(text, "p.txt", [&](llvm::StringRef line) -> llvm::Error {
        auto taken = reader.take(line);
        if (!taken)
          return taken.takeError();
        return *taken ? llvm::Error::success() : userError("unknown");
      }))
    return error;
  return reader.finish();
}

std::string messageOf(llvm::StringRef text) {
  auto program = parse(text);
  return program ? "" : report(program.takeError()).message;
}

std::string print(const Program &program) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::cantFail(printCommon(program, os));
  return text;
}

std::string bytesOf(const Program &program) {
  llvm::SmallVector<char, 0> buffer;
  llvm::raw_svector_ostream os(buffer);
  llvm::cantFail(program.write(os));
  return os.str().str();
}

const char *everything = R"(# a comment
.target null
.machine-description
| name: "null"
|   indented: "x"
|
| figures: {}
.compiler "quadrille 0"
.precision "f16"
.chips 2
.replicas 3
.batch 0
.model "a \"b\"\\\n.onnx" 0x0123456789abcdef
.dimension "N" 3
.binding "sr" "16000"
.node "größe\x01" "Conv"
.input "x" f32[1,3]
.output "y" f32[]
.weight "w" f16[2]
.data 003c 00bc
.weight "long" u8[50]
.data 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f
.data 3031
.weight "empty" f32[0]
.data
.weight "absent" f32[4]
.state "s" i32[2]
.values -7 8
.entry "inference" "x" "s" -> "y" "s"
)";

TEST(Text, EverythingReadsBackToTheSameProgram) {
  auto first = parse(everything);
  ASSERT_TRUE(bool(first)) << report(first.takeError()).message;
  EXPECT_EQ(first->machine, "name: \"null\"\n  indented: \"x\"\n\nfigures: {}\n");
  EXPECT_EQ(first->model->path, "a \"b\"\\\n.onnx");
  EXPECT_EQ(first->nodes[0].name, "größe\x01");
  EXPECT_EQ(first->replicas, 3);
  // f16: 0x3c00 is 1, 0xbc00 is -1 (IEEE 754).
  EXPECT_EQ(llvm::cantFail(first->dataOf(2)).data<uint16_t>()[1], 0xbc00);
  EXPECT_EQ(llvm::cantFail(first->dataOf(6)).data<int32_t>()[0], -7);
  EXPECT_FALSE(first->hasData(5));
  EXPECT_EQ(first->entryPoints[0].inputs, (std::vector<uint32_t>{0, 6}));
  auto second = parse(print(*first));
  ASSERT_TRUE(bool(second)) << report(second.takeError()).message;
  EXPECT_EQ(bytesOf(*second), bytesOf(*first));
}

TEST(Text, ShortFormNamesTheMachineAndNeedsNoEntry) {
  auto program = parse(".target null\n.machine null\n.input \"x\" f32[2]\n.output \"x\" f32[2]\n");
  ASSERT_TRUE(bool(program)) << report(program.takeError()).message;
  EXPECT_THAT(program->machine, HasSubstr("architecture"));
  ASSERT_EQ(program->entryPoints.size(), 1u);
  EXPECT_EQ(program->entryPoints[0].outputs, (std::vector<uint32_t>{1}));
}

// Of several of a role that are called alike the first one.
TEST(Text, NamesBelongToRoles) {
  Program given;
  for (auto [name, role] : {std::pair("a", program::VariableRole::Input), std::pair("a", program::VariableRole::Weight),
                            std::pair("b", program::VariableRole::Input), std::pair("a", program::VariableRole::Input)})
    given.variables.push_back({name, ElementType::f32, {}, role, {}, {}});
  VariableNames names(given);
  EXPECT_EQ(names.find(program::VariableRole::Input, "a"), 0u);
  EXPECT_EQ(names.find(program::VariableRole::Weight, "a"), 1u);
  EXPECT_EQ(names.find(program::VariableRole::Input, "b"), 2u);
  EXPECT_EQ(names.find(program::VariableRole::Output, "a"), std::nullopt);
}

TEST(Text, ErrorsNameTheLine) {
  const std::string head = ".target null\n.machine-description\n| a\n";
  EXPECT_EQ(messageOf(".target tsp"), "p.txt: line 1: the program is for target 'tsp', not 'null'");
  EXPECT_THAT(messageOf(".chips 1"), HasSubstr("line 1: expected '.target null' before anything else"));
  EXPECT_THAT(messageOf(".target null\n"), HasSubstr("the machine is missing"));
  EXPECT_EQ(messageOf(head + ".chips x"), "p.txt: line 4: expected the number of chips (an integer), found 'x'");
  EXPECT_EQ(messageOf(head + ".chips 1 2"), "p.txt: line 4: expected the end of the line, found '2'");
  EXPECT_THAT(messageOf(head + ".node \"a"), HasSubstr("the closing double quote is missing"));
  EXPECT_THAT(messageOf(head + ".node \"\\q\" \"b\""), HasSubstr("unknown escape"));
  EXPECT_THAT(messageOf(head + ".input \"x\" f32[1,]"), HasSubstr("expected a type and a shape"));
  EXPECT_THAT(messageOf(head + ".input \"x\" f32[4611686018427387904]"), HasSubstr("too large"));
  EXPECT_THAT(messageOf(head + ".input \"x\" f32[1]\n.data 00"), HasSubstr("only weights and states have data"));
  EXPECT_THAT(messageOf(head + ".weight \"w\" u8[2]\n.data 000000"), HasSubstr("more data than the 2 bytes of u8[2]"));
  EXPECT_THAT(messageOf(head + ".weight \"w\" u8[2]\n.data 00"), HasSubstr("the data of variable 'w' is incomplete"));
  EXPECT_THAT(messageOf(head + ".weight \"w\" u8[1]\n.data 0g"), HasSubstr("pairs of hexadecimal digits"));
  EXPECT_THAT(messageOf(head + ".weight \"w\" u8[2]\n.values 1"), HasSubstr("1 values for u8[2]"));
  EXPECT_THAT(messageOf(head + ".entry \"e\" \"x\" -> "), HasSubstr("there is no input or state 'x'"));
  EXPECT_THAT(messageOf(head + ".dimension \"N\" 1"), HasSubstr(".dimension needs a .model before it"));
}

} // namespace
} // namespace quadrille::target
