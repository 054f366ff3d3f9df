#include "numerics/BlockEvaluator.h"
#include "target/tsp/Expand.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

BlockExpression foldConstants(const BlockExpression &expression) {
  BlockExpression folded;
  folded.inputs = expression.inputs;
  std::vector<Register> renamed;
  for (BlockInstruction instruction : expression.instructions) {
    unsigned count = operandCount(instruction.opcode);
    for (unsigned i = 0; i < count; ++i)
      instruction.operands[i] = renamed[instruction.operands[i]];
    llvm::ArrayRef<Register> operands = llvm::ArrayRef(instruction.operands).take_front(count);
    bool known = count > 0 && llvm::all_of(operands, [&](Register operand) {
                   return folded.instructions[operand].opcode == BlockOpcode::Constant;
                 });
    if (known) {
      BlockExpression alone;
      std::vector<Register> constants;
      for (Register operand : operands)
        constants.push_back(alone.append(BlockOpcode::Constant, folded.instructions[operand].type, {},
                                         folded.instructions[operand].immediate));
      alone.results = {alone.append(instruction.opcode, instruction.type, constants, instruction.immediate)};
      if (auto evaluator = BlockEvaluator::compile(alone)) {
        BlockEvaluator::Scratch scratch(*evaluator);
        uint64_t bits = 0;
        evaluator->evaluate({}, {{&bits, 1}}, 1, {}, scratch);
        renamed.push_back(folded.append(BlockOpcode::Constant, instruction.type, {}, bits));
        continue;
      } else {
        llvm::consumeError(evaluator.takeError());
      }
    }
    renamed.push_back(folded.append(instruction.opcode, instruction.type, operands, instruction.immediate));
  }
  for (Register result : expression.results)
    folded.results.push_back(renamed[result]);
  return withoutUnused(folded); // without constants that only others needed
}

} // namespace quadrille::tsp
