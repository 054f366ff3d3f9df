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
  // Constants that only others needed are gone.
  std::vector<bool> used(folded.instructions.size());
  for (Register result : folded.results)
    used[result] = true;
  for (size_t i = folded.instructions.size(); i-- > 0;)
    for (unsigned o = 0; used[i] && o < operandCount(folded.instructions[i].opcode); ++o)
      used[folded.instructions[i].operands[o]] = true;
  BlockExpression kept;
  kept.inputs = folded.inputs;
  std::vector<Register> moved(folded.instructions.size());
  for (auto [i, instruction] : llvm::enumerate(folded.instructions)) {
    if (!used[i])
      continue;
    llvm::SmallVector<Register, 3> operands;
    for (unsigned o = 0; o < operandCount(instruction.opcode); ++o)
      operands.push_back(moved[instruction.operands[o]]);
    moved[i] = kept.append(instruction.opcode, instruction.type, operands, instruction.immediate);
  }
  for (Register result : folded.results)
    kept.results.push_back(moved[result]);
  return kept;
}

} // namespace quadrille::tsp
