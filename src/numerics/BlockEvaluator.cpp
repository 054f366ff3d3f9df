#include "numerics/BlockEvaluator.h"

#include "numerics/BlockKernels.h"
#include "numerics/Convert.h"
#include "numerics/NarrowFloat.h"
#include "numerics/Strided.h"

#include "base/Error.h"

#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <cstring>

namespace quadrille {

namespace {

// The type in which a register is held: narrow floats as f32, sub-byte integers in a byte.
ElementType hostType(ElementType type) {
  switch (type) {
  case ElementType::i4:
  case ElementType::i2:
    return ElementType::i8;
  case ElementType::u4:
  case ElementType::u2:
    return ElementType::u8;
  default:
    return isNarrowFloat(type) ? ElementType::f32 : type;
  }
}

// What brings the result of a host-type kernel back to the register's type.
enum class Finish : uint8_t { Nothing, RoundFloat, WrapInteger };

Finish finishOf(BlockOpcode opcode, ElementType type) {
  if (isInteger(type) && bitWidth(type) < 8) {
    switch (opcode) {
    case BlockOpcode::Minimum:
    case BlockOpcode::Maximum:
    case BlockOpcode::MinimumNumber:
    case BlockOpcode::MaximumNumber:
    case BlockOpcode::Select:
      return Finish::Nothing;
    default:
      return Finish::WrapInteger;
    }
  }
  if (!isNarrowFloat(type))
    return Finish::Nothing;
  // These give values of the type already, unless it has no -0.
  bool hasNegativeZero = type != ElementType::f8e4m3fnuz && type != ElementType::f8e5m2fnuz;
  switch (opcode) {
  case BlockOpcode::Minimum:
  case BlockOpcode::Maximum:
  case BlockOpcode::MinimumNumber:
  case BlockOpcode::MaximumNumber:
  case BlockOpcode::Select:
  case BlockOpcode::Absolute:
    return Finish::Nothing;
  case BlockOpcode::Negate:
  case BlockOpcode::Sign:
  case BlockOpcode::CopySign:
  case BlockOpcode::Floor:
  case BlockOpcode::Ceil:
  case BlockOpcode::RoundEven:
  case BlockOpcode::Truncate:
    return hasNegativeZero ? Finish::Nothing : Finish::RoundFloat;
  default:
    return Finish::RoundFloat;
  }
}

bool isLeaf(BlockOpcode opcode) {
  return operandCount(opcode) == 0;
}
bool isConversion(BlockOpcode opcode) {
  return opcode == BlockOpcode::Convert || opcode == BlockOpcode::ConvertSaturating || opcode == BlockOpcode::Bitcast;
}

constexpr size_t maxBlockLength = 512;
constexpr size_t registerBudgetBytes = 24 * 1024; // of 32 KiB or more of L1
constexpr size_t maxElementBytes = 8;
// One value repeated over a granule.
constexpr size_t uniformBytes = kernelGranule * maxElementBytes;

bool isAligned(const void *pointer, size_t width) {
  return reinterpret_cast<uintptr_t>(pointer) % width == 0;
}

} // namespace

struct BlockEvaluator::Plan {
  struct Step {
    BlockKernel kernel = nullptr; // null for leaves and conversions
    Finish finish = Finish::Nothing;
    uint32_t slotOffset = 0;   // of the register's block in the scratch memory
    int16_t directResult = -1; // the result that this register may be written into without a copy
  };

  BlockExpression expression;
  std::vector<Step> steps;
  size_t blockLength = maxBlockLength;
  size_t slotBytes = 0;

  void skipDoubleRounding();
  void assignSlots();
  void findDirectResults();
};

struct BlockEvaluator::Scratch::State {
  struct Freed {
    void operator()(std::byte *p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Freed> memory;
  std::byte *slots, *uniforms, *packed, *wide;
  std::vector<BlockSource> registers; // where each register's block lies now
  std::vector<uint8_t> uniform;       // one value for the whole call
};

// What is only returned is rounded when it is stored.
void BlockEvaluator::Plan::skipDoubleRounding() {
  std::vector<bool> used(steps.size(), false);
  for (const BlockInstruction &instruction : expression.instructions)
    for (unsigned j = 0; j < operandCount(instruction.opcode); ++j)
      used[instruction.operands[j]] = true;
  for (size_t i = 0; i < steps.size(); ++i)
    if (!used[i] && steps[i].finish == Finish::RoundFloat)
      steps[i].finish = Finish::Nothing;
}

void BlockEvaluator::Plan::assignSlots() {
  const auto &instructions = expression.instructions;
  size_t n = instructions.size();
  std::vector<size_t> lastUse(n, 0);
  for (size_t i = 0; i < n; ++i) {
    lastUse[i] = i;
    for (unsigned j = 0; j < operandCount(instructions[i].opcode); ++j)
      lastUse[instructions[i].operands[j]] = i;
  }
  for (Register result : expression.results)
    lastUse[result] = n;

  // Slots of one width form a pool; a register takes a free one, or that of an operand which dies here (kernels read an
  // element before they write it; conversions may work in pieces and get a fresh one).
  struct Pool {
    std::vector<uint32_t> free;
    uint32_t made = 0;
  };
  std::array<Pool, maxElementBytes + 1> pools;
  std::vector<uint32_t> slot(n);
  std::vector<llvm::SmallVector<uint32_t, 3>> dying(n + 1);
  for (size_t d = 0; d < n; ++d)
    dying[lastUse[d]].push_back(static_cast<uint32_t>(d));
  for (size_t i = 0; i < n; ++i) {
    auto freeDying = [&](bool self) {
      for (uint32_t d : dying[i])
        if ((d == i) == self)
          pools[byteWidth(hostType(instructions[d].type))].free.push_back(slot[d]);
    };
    bool reuseOperands = !isConversion(instructions[i].opcode);
    if (reuseOperands)
      freeDying(false);
    Pool &pool = pools[byteWidth(hostType(instructions[i].type))];
    if (pool.free.empty()) {
      slot[i] = pool.made++;
    } else {
      slot[i] = pool.free.back();
      pool.free.pop_back();
    }
    if (!reuseOperands)
      freeDying(false);
    freeDying(true);
  }

  size_t bytesPerElement = 0;
  for (size_t width = 1; width <= maxElementBytes; ++width)
    bytesPerElement += pools[width].made * width;
  while (blockLength > kernelGranule && bytesPerElement * blockLength > registerBudgetBytes)
    blockLength /= 2;
  std::array<size_t, maxElementBytes + 1> base{};
  for (size_t width = 1; width <= maxElementBytes; ++width) {
    base[width] = slotBytes;
    slotBytes += pools[width].made * width * blockLength;
  }
  for (size_t i = 0; i < n; ++i) {
    size_t width = byteWidth(hostType(instructions[i].type));
    steps[i].slotOffset = static_cast<uint32_t>(base[width] + slot[i] * width * blockLength);
  }
}

// A register can live in the output array itself if no read is needed after it is written: the output may be one of the
// inputs (in place), whose block it overwrites.
void BlockEvaluator::Plan::findDirectResults() {
  const auto &instructions = expression.instructions;
  size_t lastReadUse = 0;
  for (size_t i = 0; i < instructions.size(); ++i)
    for (unsigned j = 0; j < operandCount(instructions[i].opcode); ++j)
      if (instructions[instructions[i].operands[j]].opcode == BlockOpcode::Input)
        lastReadUse = i;
  for (Register result : expression.results)
    if (instructions[result].opcode == BlockOpcode::Input)
      return; // copied out at the end of the block
  for (size_t i = 0; i < expression.results.size(); ++i) {
    Register result = expression.results[i];
    const BlockInstruction &instruction = instructions[result];
    if (result >= lastReadUse && !isLeaf(instruction.opcode) && !isConversion(instruction.opcode) &&
        hostType(instruction.type) == instruction.type && steps[result].directResult < 0)
      steps[result].directResult = static_cast<int16_t>(i);
  }
}

llvm::Expected<BlockEvaluator> BlockEvaluator::compile(const BlockExpression &expression) {
  if (std::string fault = expression.verify(); !fault.empty())
    return internalError("block expression is not well-formed: " + fault);
  auto plan = std::make_shared<Plan>();
  plan->expression = expression;
  plan->steps.resize(expression.instructions.size());
  for (size_t i = 0; i < expression.instructions.size(); ++i) {
    const BlockInstruction &instruction = expression.instructions[i];
    Plan::Step &step = plan->steps[i];
    if (isLeaf(instruction.opcode) || isConversion(instruction.opcode))
      continue;
    // Comparisons and select give another type than they work on.
    bool isTest = instruction.type == ElementType::boolean && instruction.opcode != BlockOpcode::Select;
    ElementType works = hostType(isTest ? expression.instructions[instruction.operands[0]].type : instruction.type);
    step.kernel = elementaryKernel(instruction.opcode, works);
    if (step.kernel == nullptr)
      step.kernel = arithmeticKernel(instruction.opcode, works);
    if (step.kernel == nullptr)
      return internalError("no kernel for " + nameOf(instruction.opcode) + " on " + nameOf(works));
    step.finish = finishOf(instruction.opcode, instruction.type);
  }
  plan->skipDoubleRounding();
  plan->assignSlots();
  plan->findDirectResults();
  return BlockEvaluator(std::move(plan));
}

const BlockExpression &BlockEvaluator::expression() const {
  return plan->expression;
}

BlockEvaluator::Scratch::~Scratch() = default;
BlockEvaluator::Scratch::Scratch(Scratch &&) noexcept = default;
BlockEvaluator::Scratch &BlockEvaluator::Scratch::operator=(Scratch &&) noexcept = default;

namespace {

// Repeats the element at `source` (of the register's storage type) in the host type.
void fillUniform(ElementType type, const void *source, std::byte *destination) {
  ElementType host = hostType(type);
  uint64_t value = 0;
  if (host == type || byteWidth(host) == byteWidth(type))
    std::memcpy(&value, source, byteWidth(type));
  else
    convert(type, source, host, &value, 1);
  fillElements(destination, value, byteWidth(host), static_cast<int64_t>(kernelGranule));
}

} // namespace

BlockEvaluator::Scratch::Scratch(const BlockEvaluator &evaluator) : state(std::make_unique<State>()) {
  const Plan &plan = *evaluator.plan;
  size_t n = plan.steps.size();
  size_t uniforms = n * uniformBytes, temporary = plan.blockLength * maxElementBytes;
  size_t total = std::max<size_t>(64, plan.slotBytes + uniforms + 2 * temporary);
  state->memory.reset(static_cast<std::byte *>(::operator new(total, std::align_val_t{64})));
  // Kernels compute whole granules: what lies past the last element must be defined, whatever it is.
  std::memset(state->memory.get(), 0, total);
  state->slots = state->memory.get();
  state->uniforms = state->slots + plan.slotBytes;
  state->packed = state->uniforms + uniforms;
  state->wide = state->packed + temporary;
  state->registers.resize(n);
  state->uniform.resize(n);
  for (size_t i = 0; i < n; ++i)
    if (const BlockInstruction &instruction = plan.expression.instructions[i];
        instruction.opcode == BlockOpcode::Constant)
      fillUniform(instruction.type, &instruction.immediate, state->uniforms + i * uniformBytes);
}

namespace {

struct Conversion {
  BlockOpcode opcode;
  ElementType from, to;
  std::byte *packed, *wide; // temporaries of a block
};

// Registers in host types on both sides.
void runConversion(const Conversion &conversion, void *destination, const void *source, size_t count) {
  auto [opcode, from, to, packed, wide] = conversion;
  ElementType hostFrom = hostType(from), hostTo = hostType(to);
  // Storage form of the result, then its host form.
  bool staged = hostTo != to && isFloat(to);
  void *stored = staged ? packed : destination;
  if (opcode == BlockOpcode::Bitcast) {
    const void *bits = source;
    if (hostFrom != from && isFloat(from)) {
      convert(hostFrom, source, from, wide, count);
      bits = wide;
    }
    if (isInteger(from) && isInteger(to))
      convert(from, bits, to, stored, count); // equal widths: extends anew
    else
      std::memcpy(stored, bits, count * byteWidth(to));
  } else {
    bool saturate = opcode == BlockOpcode::ConvertSaturating;
    if (staged && hostFrom == ElementType::f32 && !saturate) {
      std::memcpy(destination, source, count * sizeof(float));
      roundF32To(to, static_cast<float *>(destination), count);
      return;
    }
    // A narrow float's register is an f32 array; integers are stored as they are held.
    convert(isFloat(from) ? hostFrom : from, source, to, stored, count, saturate);
  }
  if (staged)
    widenToF32(to, packed, static_cast<float *>(destination), count);
}

void finishRegister(Finish finish, ElementType type, void *data, size_t count) {
  switch (finish) {
  case Finish::Nothing:
    return;
  case Finish::RoundFloat:
    return roundF32To(type, static_cast<float *>(data), count);
  case Finish::WrapInteger: {
    unsigned up = 8 - bitWidth(type);
    if (kindOf(type) == ElementKind::Signed) {
      auto *values = static_cast<int8_t *>(data);
      for (size_t i = 0; i < count; ++i)
        values[i] = static_cast<int8_t>(static_cast<int8_t>(static_cast<unsigned>(values[i]) << up) >> up);
    } else {
      auto *values = static_cast<uint8_t *>(data);
      for (size_t i = 0; i < count; ++i)
        values[i] &= static_cast<uint8_t>(0xff >> up);
    }
  }
  }
}

} // namespace

void BlockEvaluator::evaluate(llvm::ArrayRef<Operand> inputs, llvm::ArrayRef<Output> outputs, int64_t count,
                              llvm::ArrayRef<LoopIndex> indices, Scratch &scratch) const {
  const auto &instructions = plan->expression.instructions;
  assert(inputs.size() == plan->expression.inputs.size() && outputs.size() == plan->expression.results.size());
  Scratch::State &state = *scratch.state;
  assert(state.registers.size() == instructions.size() && "the scratch belongs to another evaluator");
  if (count <= 0)
    return;
  BlockSource *registers = state.registers.data();
  const size_t blockLength = plan->blockLength;

  auto runStep = [&](size_t i, void *destination, size_t n) {
    const BlockInstruction &instruction = instructions[i];
    const Plan::Step &step = plan->steps[i];
    if (isConversion(instruction.opcode)) {
      Register source = instruction.operands[0];
      runConversion({instruction.opcode, instructions[source].type, instruction.type, state.packed, state.wide},
                    destination, registers[source].data, n);
      return;
    }
    BlockSource sources[3];
    for (unsigned j = 0; j < operandCount(instruction.opcode); ++j)
      sources[j] = registers[instruction.operands[j]];
    step.kernel(destination, sources, n);
    finishRegister(step.finish, instruction.type, destination, n);
  };

  // What is the same for every element of this call is computed once.
  for (size_t i = 0; i < instructions.size(); ++i) {
    const BlockInstruction &instruction = instructions[i];
    std::byte *buffer = state.uniforms + i * uniformBytes;
    bool uniform = true;
    switch (instruction.opcode) {
    case BlockOpcode::Constant:
      break;
    case BlockOpcode::Input:
      uniform = inputs[instruction.immediate].stride == 0 || count == 1;
      if (uniform)
        fillUniform(instruction.type, inputs[instruction.immediate].data, buffer);
      break;
    case BlockOpcode::LoopIndex: {
      assert(instruction.immediate < indices.size());
      const LoopIndex &index = indices[instruction.immediate];
      uniform = index.step == 0 || count == 1;
      if (uniform)
        fillUniform(ElementType::i64, &index.start, buffer);
      break;
    }
    default:
      for (unsigned j = 0; j < operandCount(instruction.opcode); ++j)
        uniform &= state.uniform[instruction.operands[j]] != 0;
      if (uniform)
        runStep(i, buffer, kernelGranule);
    }
    state.uniform[i] = uniform;
    if (uniform)
      registers[i] = {buffer, 0};
  }

  for (int64_t begin = 0; begin < count; begin += static_cast<int64_t>(blockLength)) {
    auto n = static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(blockLength), count - begin));
    // Kernels touch whole granules: only a block of whole granules may lie in the caller's memory.
    bool wholeGranules = n % kernelGranule == 0;

    for (size_t i = 0; i < instructions.size(); ++i) {
      if (state.uniform[i])
        continue;
      const BlockInstruction &instruction = instructions[i];
      std::byte *slot = state.slots + plan->steps[i].slotOffset;
      registers[i] = {slot, ~size_t(0)};
      if (instruction.opcode == BlockOpcode::Input) {
        const Operand &input = inputs[instruction.immediate];
        ElementType type = instruction.type;
        size_t width = byteWidth(type);
        auto *source = static_cast<const std::byte *>(input.data) + begin * input.stride * static_cast<int64_t>(width);
        bool widen = isNarrowFloat(type);
        if (input.stride == 1 && !widen && wholeGranules && isAligned(source, width)) {
          registers[i].data = source;
        } else if (input.stride == 1 && widen) {
          widenToF32(type, source, reinterpret_cast<float *>(slot), n);
        } else {
          gatherStrided(widen ? state.packed : slot, source, input.stride, width, static_cast<int64_t>(n));
          if (widen)
            widenToF32(type, state.packed, reinterpret_cast<float *>(slot), n);
        }
        continue;
      }
      if (instruction.opcode == BlockOpcode::LoopIndex) {
        const LoopIndex &index = indices[instruction.immediate];
        auto *values = reinterpret_cast<int64_t *>(slot);
        for (size_t j = 0; j < n; ++j)
          values[j] = index.start + (begin + static_cast<int64_t>(j)) * index.step;
        continue;
      }
      void *destination = slot;
      if (int result = plan->steps[i].directResult; result >= 0 && wholeGranules && outputs[result].stride == 1) {
        size_t width = byteWidth(instruction.type);
        std::byte *target = static_cast<std::byte *>(outputs[result].data) + begin * static_cast<int64_t>(width);
        if (isAligned(target, width)) {
          destination = target;
          registers[i].data = target;
        }
      }
      runStep(i, destination, n);
    }

    for (size_t r = 0; r < outputs.size(); ++r) {
      Register result = plan->expression.results[r];
      ElementType type = instructions[result].type;
      size_t width = byteWidth(type);
      const Output &output = outputs[r];
      auto *target = static_cast<std::byte *>(output.data) + begin * output.stride * static_cast<int64_t>(width);
      const void *source = registers[result].data;
      if (source == target)
        continue;
      if (output.stride == 0) {
        if (!state.uniform[result])
          source = static_cast<const std::byte *>(source) + (n - 1) * byteWidth(hostType(type));
        convert(isNarrowFloat(type) ? ElementType::f32 : type, source, type, target, 1);
        continue;
      }
      const void *stored = source;
      if (state.uniform[result]) { // spread one value over the block
        uint64_t bits = 0;
        convert(isNarrowFloat(type) ? ElementType::f32 : type, source, type, &bits, 1);
        fillElements(state.packed, bits, width, static_cast<int64_t>(n));
        stored = state.packed;
      } else if (isNarrowFloat(type)) {
        bool dense = output.stride == 1 && isAligned(target, width);
        stored = dense ? target : state.packed;
        narrowFromF32(type, static_cast<const float *>(source), const_cast<void *>(stored), n);
      }
      if (stored == target)
        continue;
      scatterStrided(target, output.stride, static_cast<const std::byte *>(stored), width, static_cast<int64_t>(n));
    }
  }
}

} // namespace quadrille
