#include "target/tsp/Chain.h"

#include "numerics/Convert.h"
#include "target/tsp/VectorUnit.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

namespace quadrille::tsp {

namespace {

std::optional<AluType> aluType(ElementType type) {
  switch (type) {
  case ElementType::i8:
    return AluType::I8;
  case ElementType::u8:
    return AluType::U8;
  case ElementType::i16:
    return AluType::I16;
  case ElementType::u16:
    return AluType::U16;
  case ElementType::i32:
    return AluType::I32;
  case ElementType::u32:
    return AluType::U32;
  case ElementType::f16:
    return AluType::F16;
  case ElementType::f32:
    return AluType::F32;
  case ElementType::boolean:
    return AluType::Bool;
  default:
    return std::nullopt;
  }
}

// Unsigned integers of the same width, for operations on bits.
ElementType bitsOf(ElementType type) {
  switch (byteWidth(type)) {
  case 1:
    return ElementType::u8;
  case 2:
    return ElementType::u16;
  default:
    return ElementType::u32;
  }
}

uint64_t streamsOf(Source first, int64_t count) {
  constexpr unsigned ofDirection = 32;
  return ((uint64_t(1) << count) - 1) << (first.index + (first.kind == Source::East ? 0 : ofDirection));
}

// Values while the chain is being made: inputs, or results of instructions.
struct Node {
  bool isInput = false;
  ElementType type = ElementType::f32;
  std::optional<unsigned> read;
  uint64_t constant = 0;
  Instruction instruction;
  std::vector<unsigned> operands; // nodes
  int64_t cycle = 0;              // of dispatch; of an input, of those that take it
};

class Builder {
public:
  Builder(const BlockExpression &expression, const Architecture &machine) : expression(expression), machine(machine) {}

  // The instructions of the expression, not yet timed; false with `reason`.
  bool lower() {
    std::vector<unsigned> uses(expression.instructions.size());
    for (const BlockInstruction &instruction : expression.instructions)
      for (unsigned i = 0; i < quadrille::operandCount(instruction.opcode); ++i)
        ++uses[instruction.operands[i]];
    for (Register result : expression.results)
      ++uses[result];
    for (auto [index, instruction] : llvm::enumerate(expression.instructions)) {
      if (!aluType(instruction.type)) {
        // Something that only a conversion makes: said there.
        reason = "the vector unit has no type " + nameOf(instruction.type).str();
        return false;
      }
      auto value = lower(instruction, index, uses);
      if (!value)
        return false;
      values.push_back(*value);
    }
    for (Register result : expression.results) {
      unsigned node = values[result];
      // What only comes and goes is passed on by a unit.
      results.push_back(nodes[node].isInput || llvm::is_contained(results, node) ? copy(node) : node);
    }
    return true;
  }

  // Dispatch times: as late operands come, with copies where one would be early. False with `reason`.
  bool time() {
    for (bool again = true; again;) {
      again = false;
      for (unsigned n = 0; n < nodes.size() && !again; ++n) {
        if (nodes[n].isInput)
          continue;
        int64_t cycle = 0;
        for (unsigned operand : nodes[n].operands)
          if (!nodes[operand].isInput)
            cycle = std::max(cycle, readyFor(operand));
        nodes[n].cycle = cycle;
      }
      std::map<unsigned, int64_t> taken; // of inputs: when they are taken first
      for (const Node &node : nodes)
        for (unsigned operand : node.operands)
          if (nodes[operand].isInput) {
            auto [position, fresh] = taken.emplace(operand, node.cycle);
            position->second = std::min(position->second, node.cycle);
          }
      for (unsigned n = 0; n < nodes.size() && !again; ++n)
        for (unsigned &operand : nodes[n].operands) {
          int64_t there = nodes[operand].isInput ? taken[operand] : readyFor(operand);
          if (there == nodes[n].cycle)
            continue;
          // One copy more, shared by all that need the value so late.
          if (nodes[n].cycle - there < machine.vectorOperation) {
            reason = "its operands cannot be brought together: functions of different latency";
            return false;
          }
          if (nodes.size() > mostNodes) {
            reason = "it needs more arithmetic units than there are";
            return false;
          }
          operand = copyOf(operand);
          sortNodes();
          again = true;
          break;
        }
      for (auto [operand, cycle] : taken)
        nodes[operand].cycle = cycle;
    }
    return true;
  }

  std::optional<Chain> route(llvm::ArrayRef<Direction> directions, Direction constants, Direction outputs,
                             unsigned first, llvm::ArrayRef<Chain::Input> given, const ChainLimits &others) {
    for (const Node &node : nodes)
      operations += !node.isInput;
    if (operations > static_cast<size_t>(machine.alus)) {
      reason = "it needs more arithmetic units than there are";
      return std::nullopt;
    }
    sources.resize(nodes.size());
    alus.resize(nodes.size());
    this->directions = directions;
    this->constants = constants;
    this->outputs = outputs;
    this->first = first;
    this->given = given;
    this->others = &others;
    targets.resize(nodes.size());
    tries = 0;
    if (!assign(0)) {
      reason = "no arithmetic units reach each other and the streams that it needs";
      return std::nullopt;
    }
    for (unsigned n = 0; n < nodes.size(); ++n)
      if (!nodes[n].isInput) {
        reason = vectorProblem(complete(n), alus[n], machine);
        if (!reason.empty())
          return std::nullopt;
      }
    Chain chain;
    for (unsigned n = 0; n < nodes.size(); ++n) {
      const Node &node = nodes[n];
      if (node.isInput) {
        if (llvm::any_of(nodes, [&](const Node &user) { return llvm::is_contained(user.operands, n); }))
          chain.inputs.push_back({node.type, node.read, node.constant, sources[n], node.cycle});
        continue;
      }
      chain.operations.push_back({complete(n), alus[n], node.cycle});
    }
    for (unsigned result : results) {
      unsigned operation = 0;
      for (unsigned n = 0; n < result; ++n)
        operation += !nodes[n].isInput;
      chain.outputs.push_back({operation, nodes[result].type, targets[result]});
    }
    return chain;
  }

  std::string reason;

private:
  static constexpr size_t mostNodes = 64;
  static constexpr size_t mostTries = 10000;

  // When an instruction that works on the node's result must be dispatched.
  int64_t readyFor(unsigned node) const {
    return nodes[node].cycle +
           (isTranscendental(nodes[node].instruction.op()) ? machine.vectorTranscendental : machine.vectorOperation);
  }

  unsigned add(Node node) {
    nodes.push_back(std::move(node));
    return static_cast<unsigned>(nodes.size() - 1);
  }
  unsigned constant(ElementType type, double value) { return constantBits(type, bitsFromDouble(type, value)); }
  unsigned constantBits(ElementType type, uint64_t bits) {
    for (unsigned n = 0; n < nodes.size(); ++n)
      if (nodes[n].isInput && !nodes[n].read && nodes[n].type == type && nodes[n].constant == bits)
        return n;
    Node node;
    node.isInput = true;
    node.type = type;
    node.constant = bits;
    return add(node);
  }
  // `type`: of the operands.
  unsigned emit(Opcode opcode, ElementType type, std::vector<unsigned> operands, ElementType result,
                bool wrap = false) {
    Node node;
    node.type = result;
    node.instruction.opcode = static_cast<uint8_t>(opcode);
    node.instruction.small[0] = static_cast<uint8_t>(*aluType(type));
    if (opcode == Opcode::Convert)
      setValue(node.instruction, Member::Byte1, static_cast<int64_t>(*aluType(result)));
    setValue(node.instruction, Member::Byte2, wrap);
    node.operands = std::move(operands);
    return add(node);
  }
  unsigned emit(Opcode opcode, ElementType type, std::vector<unsigned> operands) {
    return emit(opcode, type, std::move(operands), type);
  }
  unsigned copy(unsigned node) { return emit(Opcode::Copy, nodes[node].type, {node}); }
  unsigned copyOf(unsigned node) {
    for (unsigned n = 0; n < nodes.size(); ++n)
      if (nodes[n].instruction.op() == Opcode::Copy && nodes[n].operands == std::vector<unsigned>{node} &&
          !llvm::is_contained(results, n))
        return n;
    return copy(node);
  }
  // Operands before those that use them.
  void sortNodes() {
    std::vector<unsigned> order, place(nodes.size());
    std::vector<bool> done(nodes.size());
    auto visit = [&](auto &self, unsigned n) -> void {
      if (done[n])
        return;
      done[n] = true;
      for (unsigned operand : nodes[n].operands)
        self(self, operand);
      place[n] = static_cast<unsigned>(order.size());
      order.push_back(n);
    };
    for (unsigned n = 0; n < nodes.size(); ++n)
      visit(visit, n);
    std::vector<Node> sorted;
    for (unsigned n : order) {
      sorted.push_back(nodes[n]);
      for (unsigned &operand : sorted.back().operands)
        operand = place[operand];
    }
    nodes = std::move(sorted);
    for (unsigned &result : results)
      result = place[result];
  }

  // 1 / |x| squared root twice: within 2.5 units in the last place, and right for zeros and infinities.
  unsigned reciprocal(ElementType type, unsigned x) {
    unsigned root = emit(Opcode::ReciprocalSquareRoot, type, {emit(Opcode::Absolute, type, {x})});
    unsigned magnitude = emit(Opcode::Multiply, type, {root, root});
    ElementType bits = bitsOf(type);
    unsigned sign = emit(Opcode::And, bits, {x, constantBits(bits, uint64_t(1) << (bitWidth(type) - 1))});
    return emit(Opcode::Or, bits, {magnitude, sign}, type);
  }

  std::optional<unsigned> fail(const BlockInstruction &instruction, const char *why) {
    reason = "'" + nameOf(instruction.opcode).str() + "' of " + nameOf(instruction.type).str() + " " + why;
    return std::nullopt;
  }

  std::optional<unsigned> lower(const BlockInstruction &instruction, size_t index, llvm::ArrayRef<unsigned> uses) {
    ElementType type = instruction.type;
    auto operand = [&](unsigned i) { return values[instruction.operands[i]]; };
    auto operandType = [&](unsigned i) { return expression.instructions[instruction.operands[i]].type; };
    bool floats = isFloat(type);
    auto unary = [&](Opcode opcode) { return emit(opcode, type, {operand(0)}); };
    auto binary = [&](Opcode opcode) { return emit(opcode, type, {operand(0), operand(1)}); };
    auto arithmetic = [&](Opcode opcode) {
      return emit(opcode, type, {operand(0), operand(1)}, type, /*wrap=*/!floats);
    };
    auto compare = [&](Opcode opcode) {
      return emit(opcode, operandType(0), {operand(0), operand(1)}, ElementType::boolean);
    };
    switch (instruction.opcode) {
    case BlockOpcode::Input: {
      for (unsigned n = 0; n < nodes.size(); ++n) // a vector comes once, however often the expression names it
        if (nodes[n].isInput && nodes[n].read == static_cast<unsigned>(instruction.immediate))
          return n;
      Node node;
      node.isInput = true;
      node.type = type;
      node.read = static_cast<unsigned>(instruction.immediate);
      return add(node);
    }
    case BlockOpcode::Constant:
      return constantBits(type, instruction.immediate);
    case BlockOpcode::Add:
      return arithmetic(Opcode::Add);
    case BlockOpcode::Subtract:
      return arithmetic(Opcode::Subtract);
    case BlockOpcode::Multiply:
      return arithmetic(Opcode::Multiply);
    case BlockOpcode::MultiplyAdd:
      return emit(Opcode::Add, type,
                  {emit(Opcode::Multiply, type, {operand(0), operand(1)}, type, !floats), operand(2)}, type, !floats);
    case BlockOpcode::Divide:
      if (!floats)
        return fail(instruction, "is no instruction of the vector unit");
      return emit(Opcode::Multiply, type, {operand(0), reciprocal(type, operand(1))});
    case BlockOpcode::Reciprocal:
      return reciprocal(type, operand(0));
    case BlockOpcode::SquareRoot: { // the reciprocal root of the reciprocal, which is the reciprocal root squared
      unsigned root = emit(Opcode::ReciprocalSquareRoot, type, {operand(0)});
      return emit(Opcode::ReciprocalSquareRoot, type, {emit(Opcode::Multiply, type, {root, root})});
    }
    case BlockOpcode::ReciprocalSquareRoot:
      return unary(Opcode::ReciprocalSquareRoot);
    case BlockOpcode::Minimum:
      return binary(Opcode::Minimum);
    case BlockOpcode::Maximum: {
      // The larger of a value and zero has an instruction that needs no zero.
      for (unsigned i : {0u, 1u}) {
        const Node &zero = nodes[operand(i)];
        if (zero.isInput && !zero.read && zero.constant == 0 && (floats || kindOf(type) == ElementKind::Signed))
          return emit(Opcode::Relu, type, {operand(1 - i)});
      }
      return binary(Opcode::Maximum);
    }
    case BlockOpcode::Negate:
      return floats ? unary(Opcode::Negate) : emit(Opcode::Subtract, type, {constant(type, 0), operand(0)}, type, true);
    case BlockOpcode::Absolute:
      if (floats)
        return unary(Opcode::Absolute);
      return emit(Opcode::Maximum, type,
                  {operand(0), emit(Opcode::Subtract, type, {constant(type, 0), operand(0)}, type, true)});
    case BlockOpcode::Exp:
      return unary(Opcode::Exp);
    case BlockOpcode::Tanh:
      return unary(Opcode::Tanh);
    case BlockOpcode::And:
      return binary(Opcode::And);
    case BlockOpcode::Or:
      return binary(Opcode::Or);
    case BlockOpcode::Xor:
      return binary(Opcode::Xor);
    case BlockOpcode::Not:
      return unary(Opcode::Not);
    case BlockOpcode::ShiftLeft:
      return binary(Opcode::ShiftLeft);
    case BlockOpcode::ShiftRight:
      return binary(Opcode::ShiftRight);
    case BlockOpcode::Equal:
      return compare(Opcode::Equal);
    case BlockOpcode::NotEqual:
      return compare(Opcode::NotEqual);
    case BlockOpcode::Less:
      return compare(Opcode::Less);
    case BlockOpcode::LessEqual:
      return compare(Opcode::LessEqual);
    case BlockOpcode::IsNan:
      return emit(Opcode::NotEqual, operandType(0), {operand(0), operand(0)}, ElementType::boolean);
    case BlockOpcode::Select: {
      auto isZero = [&](unsigned node) {
        return nodes[node].isInput && !nodes[node].read && nodes[node].constant == 0;
      };
      if (isZero(operand(2)))
        return emit(Opcode::Mask, type, {operand(1), operand(0)});
      if (isZero(operand(1)))
        return emit(Opcode::MaskBar, type, {operand(2), operand(0)});
      unsigned yes = emit(Opcode::Mask, type, {operand(1), operand(0)});
      unsigned no = emit(Opcode::MaskBar, type, {operand(2), operand(0)});
      ElementType bits = type == ElementType::boolean ? type : bitsOf(type);
      return emit(Opcode::Or, bits, {yes, no}, type);
    }
    case BlockOpcode::RoundEven: {
      // Only on the way to an integer, which the conversion rounds itself.
      auto user = llvm::find_if(expression.instructions, [&](const BlockInstruction &other) {
        return (other.opcode == BlockOpcode::Convert || other.opcode == BlockOpcode::ConvertSaturating) &&
               other.operands[0] == index && isInteger(other.type);
      });
      if (uses[index] != 1 || user == expression.instructions.end())
        return fail(instruction, "is no instruction of the vector unit");
      rounded.push_back(index);
      return operand(0);
    }
    case BlockOpcode::Convert:
    case BlockOpcode::ConvertSaturating: {
      ElementType from = operandType(0);
      if (isFloat(from) && isInteger(type) && !llvm::is_contained(rounded, instruction.operands[0]))
        return fail(instruction, "truncates, which is no instruction of the vector unit");
      bool wrap = instruction.opcode == BlockOpcode::Convert && isInteger(from) && isInteger(type);
      return emit(Opcode::Convert, from, {operand(0)}, type, wrap);
    }
    case BlockOpcode::Bitcast: {
      unsigned node = copy(operand(0));
      nodes[node].type = type;
      nodes[node].instruction.small[0] = static_cast<uint8_t>(*aluType(bitsOf(type)));
      return node;
    }
    default:
      return fail(instruction, "is no instruction of the vector unit");
    }
  }

  Instruction complete(unsigned n) const {
    Instruction instruction = nodes[n].instruction;
    auto sourceOf = [&](unsigned operand) {
      return nodes[operand].isInput ? sources[operand] : Source{Source::Alu, static_cast<uint8_t>(alus[operand])};
    };
    instruction.small[1] = sourceOf(nodes[n].operands[0]).byte();
    if (nodes[n].operands.size() > 1)
      setValue(instruction, Member::Byte0, sourceOf(nodes[n].operands[1]).byte());
    instruction.small[2] = llvm::is_contained(results, n) ? targets[n].byte() : noSource;
    return instruction;
  }

  // Chooses units and streams for nodes n and on; backtracks.
  bool assign(unsigned n) {
    if (++tries > mostTries)
      return false;
    if (n == nodes.size())
      return true;
    const Node &node = nodes[n];
    auto streamOf = [&](Direction direction, int64_t index) {
      return Source{direction == Direction::East ? Source::East : Source::West, static_cast<uint8_t>(index)};
    };
    int64_t groups = machine.streams / machine.group;
    auto width = static_cast<int64_t>(byteWidth(node.type));
    // What is narrow shares groups only with other chains.
    int64_t places = others->streams == 0 ? 1 : machine.group / width;
    uint64_t used = others->streams;
    for (unsigned other = 0; other < n; ++other) {
      auto bytes = static_cast<int64_t>(byteWidth(nodes[other].type));
      if (nodes[other].isInput)
        used |= streamsOf(sources[other], bytes);
      else if (llvm::is_contained(results, other))
        used |= streamsOf(targets[other], bytes);
    }
    if (node.isInput) {
      Direction direction = node.read ? directions[*node.read] : constants;
      const Chain::Input own{node.type, node.read, node.constant};
      for (const Chain::Input &input : given) {
        if (input.isSame(own)) {
          sources[n] = input.stream;
          return assign(n + 1);
        }
        used |= streamsOf(input.stream, static_cast<int64_t>(byteWidth(input.type)));
      }
      for (int64_t place = 0; place < places; ++place)
        for (int64_t i = 0; i < groups; ++i) {
          Source source = streamOf(direction, (i + first) % groups * machine.group + place * width);
          if ((used & streamsOf(source, width)) != 0)
            continue;
          sources[n] = source;
          if (assign(n + 1))
            return true;
        }
      return false;
    }
    bool gives = llvm::is_contained(results, n);
    for (int64_t i = 0; i < machine.alus; ++i) {
      auto alu = static_cast<unsigned>((i + first * machine.aluColumns) % machine.alus);
      bool busy = llvm::is_contained(others->alus, alu);
      for (unsigned other = 0; other < n; ++other)
        busy |= !nodes[other].isInput && alus[other] == alu;
      if (busy)
        continue;
      alus[n] = alu;
      for (int64_t choice = 0; choice < (gives ? groups * places : 1); ++choice) {
        if (gives) {
          targets[n] = streamOf(outputs, choice % groups * machine.group + choice / groups * width);
          if ((used & streamsOf(targets[n], width)) != 0)
            continue;
        }
        if (isReachable(complete(n), alu, machine) && assign(n + 1))
          return true;
        if (tries > mostTries)
          return false;
      }
    }
    return false;
  }

  const BlockExpression &expression;
  const Architecture &machine;
  std::vector<Node> nodes;
  std::vector<unsigned> values;  // by register: its node
  std::vector<unsigned> results; // nodes
  std::vector<size_t> rounded;   // registers of RoundEven that a conversion does
  size_t operations = 0, tries = 0;
  std::vector<Source> sources, targets; // by node
  std::vector<unsigned> alus;           // by node
  llvm::ArrayRef<Direction> directions;
  Direction constants = Direction::East, outputs = Direction::East;
  unsigned first = 0;
  llvm::ArrayRef<Chain::Input> given;
  const ChainLimits *others = nullptr;
};

} // namespace

void ChainLimits::add(Source first, int64_t count) {
  streams |= streamsOf(first, count);
}

void ChainLimits::add(const ChainLimits &others) {
  llvm::append_range(alus, others.alus);
  streams |= others.streams;
}

ChainLimits Chain::taken() const {
  ChainLimits limits;
  for (const Operation &operation : operations)
    limits.alus.push_back(operation.alu);
  for (const Input &input : inputs)
    limits.add(input.stream, static_cast<int64_t>(byteWidth(input.type)));
  for (const Output &output : outputs)
    limits.add(output.stream, static_cast<int64_t>(byteWidth(output.type)));
  return limits;
}

bool hasType(ElementType type) {
  return aluType(type).has_value();
}

std::optional<Chain> makeChain(const BlockExpression &expression, llvm::ArrayRef<Direction> inputs, Direction constants,
                               Direction outputs, unsigned first, const Architecture &machine, std::string &reason,
                               llvm::ArrayRef<Chain::Input> given, const ChainLimits &taken) {
  Builder builder(expression, machine);
  std::optional<Chain> chain;
  if (builder.lower() && builder.time())
    chain = builder.route(inputs, constants, outputs, first, given, taken);
  reason = builder.reason;
  return chain;
}

} // namespace quadrille::tsp
