#include "numerics/BlockExpression.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

using namespace quadrille;
using testing::HasSubstr;

namespace {

BlockExpression relu() {
  BlockExpression e;
  e.inputs = {ElementType::f32};
  Register x = e.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  Register zero = e.append(BlockOpcode::Constant, ElementType::f32, {}, 0);
  e.results = {e.append(BlockOpcode::Maximum, ElementType::f32, {x, zero})};
  return e;
}

TEST(BlockExpression, PrintsOneLineForEachInstruction) {
  EXPECT_EQ(relu().print(), "%0:f32 = input 0\n%1:f32 = constant 0x0\n%2:f32 = maximum %0, %1\nreturn %2\n");
}

TEST(BlockExpression, CountsArithmeticOnly) {
  EXPECT_EQ(relu().operationsPerElement(), 1u);
  EXPECT_FALSE(relu().isIdentity());
  BlockExpression copy;
  copy.inputs = {ElementType::i8};
  copy.results = {copy.append(BlockOpcode::Input, ElementType::i8)};
  EXPECT_TRUE(copy.isIdentity());
  EXPECT_EQ(copy.operationsPerElement(), 0u);
}

TEST(BlockExpression, AppendsAnotherExpression) {
  BlockExpression e; // relu(a) - b
  e.inputs = {ElementType::f32, ElementType::f32};
  Register b = e.append(BlockOpcode::Input, ElementType::f32, {}, 1);
  Register a = e.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  std::vector<Register> positive = e.append(relu(), {a});
  ASSERT_EQ(positive.size(), 1u);
  e.results = {e.append(BlockOpcode::Subtract, ElementType::f32, {positive[0], b})};
  EXPECT_EQ(e.verify(), "");
  EXPECT_EQ(e.print(), "%0:f32 = input 1\n%1:f32 = input 0\n%2:f32 = constant 0x0\n%3:f32 = maximum %1, %2\n"
                       "%4:f32 = subtract %3, %0\nreturn %4\n");
}

TEST(BlockExpression, NamesRoundTrip) {
#define QUADRILLE_CHECK(text, name, operands)                                                                          \
  EXPECT_EQ(blockOpcodeNamed(text), BlockOpcode::name);                                                                \
  EXPECT_EQ(nameOf(BlockOpcode::name), text);                                                                          \
  EXPECT_EQ(operandCount(BlockOpcode::name), unsigned(operands));
  QUADRILLE_BLOCK_OPCODES(QUADRILLE_CHECK)
#undef QUADRILLE_CHECK
  EXPECT_EQ(blockOpcodeNamed("frobnicate"), std::nullopt);
}

TEST(BlockExpression, VerifyNamesTheFault) {
  EXPECT_EQ(relu().verify(), "");
  auto fault = [](auto change) {
    BlockExpression e = relu();
    change(e);
    return e.verify();
  };
  EXPECT_THAT(fault([](auto &e) { e.instructions[2].operands[1] = 2; }), HasSubstr("%2 (maximum): operand %2"));
  EXPECT_THAT(fault([](auto &e) { e.instructions[1].type = ElementType::f16; }), HasSubstr("operand 1 has type f16"));
  EXPECT_THAT(fault([](auto &e) { e.instructions[0].immediate = 1; }), HasSubstr("there is no read 1"));
  EXPECT_THAT(fault([](auto &e) { e.instructions[2].opcode = BlockOpcode::And; }), HasSubstr("not f32"));
  EXPECT_THAT(fault([](auto &e) { e.instructions[2].opcode = BlockOpcode::Less; }), HasSubstr("gives bool"));
  EXPECT_THAT(fault([](auto &e) { e.instructions[2].opcode = BlockOpcode::Select; }), HasSubstr("selects by bool"));
  EXPECT_THAT(fault([](auto &e) { e.results[0] = 3; }), HasSubstr("no register %3"));
  EXPECT_THAT(fault([](auto &e) { e.instructions[1].immediate = uint64_t(1) << 32; }), HasSubstr("beyond its type"));
}

} // namespace
