#include "target/tsp/VectorUnit.h"

#include "numerics/BlockEvaluator.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <initializer_list>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace quadrille::tsp {

namespace {

constexpr ElementType elementTypes[] = {
    ElementType::i8,  ElementType::u8,  ElementType::i16, ElementType::u16,     ElementType::i32,
    ElementType::u32, ElementType::f16, ElementType::f32, ElementType::boolean,
};
constexpr int64_t typeCount = std::size(elementTypes);
constexpr int64_t booleanType = typeCount - 1;
constexpr int64_t wrapping = 1; // of the words of `overflow`

int64_t typeOf(const Instruction &instruction) {
  return valueOf(instruction, Member::Small0);
}
int64_t intoOf(const Instruction &instruction) {
  return valueOf(instruction, Member::Byte1);
}
Source targetOf(const Instruction &instruction) {
  return Source::of(static_cast<uint8_t>(valueOf(instruction, Member::Small2)));
}
int64_t bytesOf(int64_t type) {
  assert(type < typeCount);
  return static_cast<int64_t>(byteWidth(elementTypes[type]));
}

enum TypeSet : uint8_t { Floats = 1, Signed = 2, Unsigned = 4, Boolean = 8, Integers = Signed | Unsigned, Any = 15 };
constexpr TypeSet setOf(ElementType type) {
  constexpr TypeSet byKind[] = {Floats, Signed, Unsigned, Boolean};
  return byKind[static_cast<unsigned>(kindOf(type))];
}

// How the operation is put together from a BlockOpcode; those from Binary on have two operands.
enum class Shape : uint8_t { Move, Unary, SignChange, Relu, Convert, Binary, Arithmetic, Compare, Swapped, Mask };

struct Operation {
  Opcode opcode;
  Shape shape;
  int types; // a TypeSet
  BlockOpcode block;
};
constexpr Operation operations[] = {
    {Opcode::Copy, Shape::Move, Any, BlockOpcode::Input},
    {Opcode::Not, Shape::Unary, Integers | Boolean, BlockOpcode::Not},
    {Opcode::Negate, Shape::SignChange, Floats | Signed, BlockOpcode::Negate},
    {Opcode::Absolute, Shape::SignChange, Floats | Signed, BlockOpcode::Absolute},
    {Opcode::Relu, Shape::Relu, Floats | Signed, BlockOpcode::Maximum},
    {Opcode::Tanh, Shape::Unary, Floats, BlockOpcode::Tanh},
    {Opcode::Exp, Shape::Unary, Floats, BlockOpcode::Exp},
    {Opcode::ReciprocalSquareRoot, Shape::Unary, Floats, BlockOpcode::ReciprocalSquareRoot},
    {Opcode::Add, Shape::Arithmetic, Floats | Integers, BlockOpcode::Add},
    {Opcode::Subtract, Shape::Arithmetic, Floats | Integers, BlockOpcode::Subtract},
    {Opcode::Multiply, Shape::Arithmetic, Floats | Integers, BlockOpcode::Multiply},
    {Opcode::Minimum, Shape::Binary, Floats | Integers, BlockOpcode::Minimum},
    {Opcode::Maximum, Shape::Binary, Floats | Integers, BlockOpcode::Maximum},
    {Opcode::And, Shape::Binary, Integers | Boolean, BlockOpcode::And},
    {Opcode::Or, Shape::Binary, Integers | Boolean, BlockOpcode::Or},
    {Opcode::Xor, Shape::Binary, Integers | Boolean, BlockOpcode::Xor},
    {Opcode::ShiftLeft, Shape::Binary, Integers, BlockOpcode::ShiftLeft},
    {Opcode::ShiftRight, Shape::Binary, Integers, BlockOpcode::ShiftRight},
    {Opcode::Mask, Shape::Mask, Any, BlockOpcode::NotEqual},
    {Opcode::MaskBar, Shape::Mask, Any, BlockOpcode::Equal},
    {Opcode::Equal, Shape::Compare, Any, BlockOpcode::Equal},
    {Opcode::NotEqual, Shape::Compare, Any, BlockOpcode::NotEqual},
    {Opcode::Greater, Shape::Swapped, Any, BlockOpcode::Less},
    {Opcode::GreaterEqual, Shape::Swapped, Any, BlockOpcode::LessEqual},
    {Opcode::Less, Shape::Compare, Any, BlockOpcode::Less},
    {Opcode::LessEqual, Shape::Compare, Any, BlockOpcode::LessEqual},
    {Opcode::Convert, Shape::Convert, Any, BlockOpcode::Convert},
};
const Operation *find(Opcode opcode) {
  const auto *found = llvm::find_if(operations, [&](const Operation &it) { return it.opcode == opcode; });
  return found == std::end(operations) ? nullptr : found;
}
const Operation &operationOf(const Instruction &instruction) {
  const Operation *operation = find(instruction.op());
  assert(operation && "not an instruction of an arithmetic unit");
  return *operation;
}

} // namespace

bool wraps(const Instruction &instruction) {
  Shape shape = operationOf(instruction).shape;
  return (shape == Shape::Arithmetic || shape == Shape::Convert) && valueOf(instruction, Member::Byte2) == wrapping;
}

namespace {

int64_t resultType(const Instruction &instruction) {
  Shape shape = operationOf(instruction).shape;
  return shape == Shape::Convert                              ? intoOf(instruction)
         : shape == Shape::Compare || shape == Shape::Swapped ? booleanType
                                                              : typeOf(instruction);
}

// The member of the record that names operand 0 or 1 (Vector.def).
constexpr Member operandMembers[] = {Member::Small1, Member::Byte0};
constexpr llvm::StringLiteral operandNames[] = {"a", "b"};

std::string typeProblem(const Instruction &instruction) {
  const Operation &operation = operationOf(instruction);
  ElementType type = elementTypes[typeOf(instruction)];
  if (!(operation.types & setOf(type))) {
    std::string names;
    for (ElementType other : elementTypes)
      if (operation.types & setOf(other))
        names += (names.empty() ? "" : ", ") + nameOf(other).str();
    return ("'" + formOf(instruction.opcode)->mnemonic + "' has no type " + nameOf(type) + "; it has " + names).str();
  }
  if (!wraps(instruction))
    return "";
  if (!isInteger(type))
    return ("overflow=wrap has no meaning for type=" + nameOf(type)).str();
  if (ElementType into = elementTypes[resultType(instruction)]; !isInteger(into))
    return ("overflow=wrap has no meaning for into=" + nameOf(into)).str();
  return "";
}

// "a=e3"
std::string described(llvm::StringRef name, Source source) {
  return name.str() + "=" + print(source);
}

std::string alignmentProblem(llvm::StringRef name, Source source, int64_t type, int64_t bytes,
                             const Architecture &machine) {
  if (!source.isStream())
    return "";
  std::string takes =
      (": " + nameOf(elementTypes[type]) + " takes " + llvm::Twine(bytes) + (bytes == 1 ? " stream" : " streams"))
          .str();
  if (source.index % bytes != 0)
    return described(name, source) + " is not aligned" + takes;
  if (source.index + bytes > machine.streams)
    return described(name, source) + " runs past the last stream, " + std::to_string(machine.streams - 1) + takes;
  return "";
}

// The stream groups over which something can travel, by direction.
struct Paths {
  uint64_t east = 0, west = 0;
};

uint64_t bitsOf(const std::vector<bool> &groups) {
  uint64_t bits = 0;
  for (size_t group = 0; group < groups.size(); ++group)
    bits |= uint64_t(groups[group]) << group;
  return bits;
}

// "the stream groups 0, 1, 2, 3"
std::string list(uint64_t groups) {
  std::string text = "the stream groups ";
  for (; groups != 0; groups &= groups - 1)
    text += std::to_string(std::countr_zero(groups)) + ((groups & (groups - 1)) != 0 ? ", " : "");
  return text;
}

// How an operand can come to unit `alu`; with none, `problem` says why, if somebody asks.
Paths pathsOf(llvm::StringRef name, Source source, int64_t alu, const Architecture &machine, std::string *problem) {
  uint64_t reads = bitsOf(machine.inputGroups[alu / machine.aluColumns]);
  auto unreachable = [&](const std::string &why) {
    if (problem)
      *problem = described(name, source) + " does not reach unit " + std::to_string(alu) + ": " + why;
  };
  if (source.isStream()) {
    uint64_t groups = uint64_t(1) << (source.index / machine.group) & reads;
    if (groups == 0 && problem)
      unreachable("its row reads " + list(reads) + " eastward and westward");
    return source.kind == Source::East ? Paths{groups, 0} : Paths{0, groups};
  }
  int64_t from = source.index % machine.aluColumns, to = alu % machine.aluColumns;
  uint64_t drives = bitsOf(machine.outputGroups[source.index / machine.aluColumns]), shared = drives & reads;
  Paths paths{machine.eastOrder[from] < machine.eastOrder[to] ? shared : 0,
              machine.westOrder[from] < machine.westOrder[to] ? shared : 0};
  if (shared == 0 && problem)
    unreachable("unit " + std::to_string(source.index) + " drives " + list(drives) + ", this row reads " + list(reads));
  else if ((paths.east | paths.west) == 0 && problem)
    unreachable("no direction meets unit " + std::to_string(source.index) + "'s column first");
  return paths;
}

// Whether both can come without using one group in both directions.
bool compatible(Paths a, Paths b) {
  auto opposite = [](uint64_t one, uint64_t other) { return one != 0 && other != 0 && std::popcount(one | other) > 1; };
  return (a.east && b.east) || (a.west && b.west) || opposite(a.east, b.west) || opposite(a.west, b.east);
}

// Whether the unit reaches what the instruction names; `problem` says why not, if somebody asks.
bool reaches(const Instruction &instruction, int64_t alu, const Architecture &machine, std::string *problem) {
  auto no = [&](auto text) {
    if (problem)
      *problem = text();
    return false;
  };
  if (needsLargeUnit(instruction) && !llvm::is_contained(machine.largeAlus, alu))
    return no([&] {
      return ("'" + formOf(instruction.opcode)->mnemonic + "' of " + nameOf(elementTypes[typeOf(instruction)]) +
              " takes a large unit, which unit " + llvm::Twine(alu) + " is not")
          .str();
    });
  Paths paths[2];
  for (int64_t operand = 0; operand < operandCount(instruction); ++operand) {
    paths[operand] = pathsOf(operandNames[operand], operandSource(instruction, operand), alu, machine, problem);
    if ((paths[operand].east | paths[operand].west) == 0)
      return false;
  }
  if (operandCount(instruction) == 2 && !compatible(paths[0], paths[1]))
    return no([&] {
      return described("a", operandSource(instruction, 0)) + " and " + described("b", operandSource(instruction, 1)) +
             " come over the same stream group from both directions";
    });
  Source target = targetOf(instruction);
  uint64_t drives = bitsOf(machine.outputGroups[alu / machine.aluColumns]);
  if (target.isStream() && !(drives >> (target.index / machine.group) & 1))
    return no([&] {
      return described("to", target) + " is not reached from unit " + std::to_string(alu) + ": its row drives " +
             list(drives) + " eastward and westward";
    });
  return true;
}

} // namespace

int64_t operandCount(const Instruction &instruction) {
  return operationOf(instruction).shape < Shape::Binary ? 1 : 2;
}

Source operandSource(const Instruction &instruction, int64_t operand) {
  return Source::of(static_cast<uint8_t>(valueOf(instruction, operandMembers[operand])));
}

int64_t operandBytes(const Instruction &instruction, int64_t operand) {
  return operand == 1 && operationOf(instruction).shape == Shape::Mask ? 1 : bytesOf(typeOf(instruction));
}

int64_t resultBytes(const Instruction &instruction) {
  return bytesOf(resultType(instruction));
}

bool isTranscendental(Opcode opcode) {
  return opcode == Opcode::Tanh || opcode == Opcode::Exp || opcode == Opcode::ReciprocalSquareRoot;
}
bool needsLargeUnit(const Instruction &instruction) {
  int64_t type = typeOf(instruction);
  return isTranscendental(instruction.op()) ||
         (instruction.op() == Opcode::Multiply && isInteger(elementTypes[type]) && bytesOf(type) == 4);
}

std::string vectorProblem(const Instruction &instruction, int64_t alu, const Architecture &machine) {
  if (alu >= machine.alus)
    return "there is no arithmetic unit " + std::to_string(alu);
  if (!find(instruction.op()))
    return ""; // executed by the queue
  if (std::string problem = typeProblem(instruction); !problem.empty())
    return problem;
  for (int64_t operand = 0; operand < operandCount(instruction); ++operand)
    if (std::string problem = alignmentProblem(operandNames[operand], operandSource(instruction, operand),
                                               typeOf(instruction), operandBytes(instruction, operand), machine);
        !problem.empty())
      return problem;
  int64_t type = resultType(instruction);
  if (std::string problem = alignmentProblem("to", targetOf(instruction), type, bytesOf(type), machine);
      !problem.empty())
    return problem;
  std::string problem;
  if (machine.strictRouting)
    reaches(instruction, alu, machine, &problem);
  return problem;
}

bool isReachable(const Instruction &instruction, int64_t alu, const Architecture &machine) {
  return !machine.strictRouting || reaches(instruction, alu, machine, nullptr);
}

namespace {

ElementType integerOf(bool isSigned, size_t bytes) {
  constexpr ElementType types[2][4] = {{ElementType::u8, ElementType::u16, ElementType::u32, ElementType::u64},
                                       {ElementType::i8, ElementType::i16, ElementType::i32, ElementType::i64}};
  return types[isSigned][std::countr_zero(bytes)];
}

// The instruction as an expression over its operands. Truth values arrive as bytes of which any but 0 is true. What is
// only moved is an integer of its width, so that no bit of a float changes.
class ExpressionBuilder {
public:
  explicit ExpressionBuilder(const Instruction &instruction)
      : operation(operationOf(instruction)), type(elementTypes[typeOf(instruction)]),
        into(elementTypes[resultType(instruction)]), wrap(wraps(instruction)) {}

  BlockExpression build() {
    Register result = value();
    expression.results = {result};
    return std::move(expression);
  }

private:
  Register emit(BlockOpcode op, ElementType resultType, std::initializer_list<Register> operands) {
    return expression.append(op, resultType, operands);
  }
  ElementType typeAt(Register value) const { return expression.instructions[value].type; }
  Register constant(ElementType constantType, int64_t value) {
    uint64_t bits = static_cast<uint64_t>(value) & ~uint64_t(0) >> (64 - 8 * byteWidth(constantType));
    return expression.append(BlockOpcode::Constant, constantType, {}, bits);
  }
  Register isNotZero(Register value) {
    return emit(BlockOpcode::NotEqual, ElementType::boolean, {value, constant(typeAt(value), 0)});
  }
  Register read(ElementType as) {
    expression.inputs.push_back(as == ElementType::boolean ? ElementType::u8 : as);
    Register value = expression.append(BlockOpcode::Input, expression.inputs.back(), {}, expression.inputs.size() - 1);
    return as == ElementType::boolean ? isNotZero(value) : value;
  }
  ElementType moved() const { return type == ElementType::boolean ? type : integerOf(false, byteWidth(type)); }

  // The only integer whose negative does not exist is the least one; its neighbour gives what it saturates to.
  Register signChanged() {
    Register a = read(type);
    if (isInteger(type))
      a = emit(BlockOpcode::Maximum, type, {a, constant(type, 1 - (int64_t(1) << (bitWidth(type) - 1)))});
    return emit(operation.block, type, {a});
  }
  // Saturation is exact: sums, differences and products fit into twice the bits.
  Register saturated() {
    bool isSigned = kindOf(type) == ElementKind::Signed || operation.opcode == Opcode::Subtract;
    ElementType wide = integerOf(isSigned, 2 * byteWidth(type));
    Register a = emit(BlockOpcode::Convert, wide, {read(type)}), b = emit(BlockOpcode::Convert, wide, {read(type)});
    return emit(BlockOpcode::ConvertSaturating, type, {emit(operation.block, wide, {a, b})});
  }
  Register converted() {
    if (type == into)
      return read(moved());
    Register a = read(type);
    if (into == ElementType::boolean)
      return isNotZero(a);
    if (isFloat(type) && isInteger(into))
      return emit(BlockOpcode::Convert, into, {emit(BlockOpcode::RoundEven, type, {a})});
    bool saturates = isInteger(type) && isInteger(into) && !wrap;
    return emit(saturates ? BlockOpcode::ConvertSaturating : BlockOpcode::Convert, into, {a});
  }

  Register value() {
    switch (operation.shape) {
    case Shape::Move:
      return read(moved());
    case Shape::Unary:
      return emit(operation.block, type, {read(type)});
    case Shape::SignChange:
      return signChanged();
    case Shape::Relu: {
      Register a = read(type);
      return emit(operation.block, type, {a, constant(type, 0)});
    }
    case Shape::Arithmetic:
      if (isInteger(type) && !wrap)
        return saturated();
      [[fallthrough]];
    case Shape::Binary:
    case Shape::Compare:
    case Shape::Swapped: {
      Register a = read(type), b = read(type);
      if (operation.shape == Shape::Swapped)
        std::swap(a, b);
      return emit(operation.block, into, {a, b});
    }
    case Shape::Mask: {
      Register a = read(moved()), b = read(ElementType::u8);
      Register keep = emit(operation.block, ElementType::boolean, {b, constant(ElementType::u8, 0)});
      return emit(BlockOpcode::Select, moved(), {keep, a, constant(moved(), 0)});
    }
    case Shape::Convert:
      return converted();
    }
    return 0;
  }

  const Operation &operation;
  ElementType type, into;
  bool wrap;
  BlockExpression expression;
};

// Byte planes to elements and back. Shifts rather than stores of single bytes: so clang uses whole vectors.
template <typename T> void interleaveAs(const std::byte *const *planes, int64_t begin, void *elements, int64_t count) {
  auto *__restrict out = static_cast<T *>(elements);
  const uint8_t *plane[sizeof(T)];
  for (size_t byte = 0; byte < sizeof(T); ++byte)
    plane[byte] = reinterpret_cast<const uint8_t *>(planes[byte]) + begin;
#pragma clang loop vectorize_width(16) interleave_count(1)
  for (int64_t i = 0; i < count; ++i) {
    T element = 0;
    for (size_t byte = 0; byte < sizeof(T); ++byte)
      element |= static_cast<T>(T(plane[byte][i]) << 8 * byte);
    out[i] = element;
  }
}
template <typename T> void splitAs(const void *elements, std::byte *const *planes, int64_t begin, int64_t count) {
  auto *__restrict in = static_cast<const T *>(elements);
  uint8_t *plane[sizeof(T)];
  for (size_t byte = 0; byte < sizeof(T); ++byte)
    plane[byte] = reinterpret_cast<uint8_t *>(planes[byte]) + begin;
#pragma clang loop vectorize_width(16) interleave_count(1)
  for (int64_t i = 0; i < count; ++i)
    for (size_t byte = 0; byte < sizeof(T); ++byte)
      plane[byte][i] = static_cast<uint8_t>(in[i] >> 8 * byte);
}

constexpr int64_t blockElements = 2048; // with its planes it stays in the L1 and L2 caches

// What one thread works with.
struct Workspace {
  explicit Workspace(const BlockEvaluator &evaluator) : scratch(evaluator) {}
  BlockEvaluator::Scratch scratch;
  struct alignas(64) Elements {
    std::byte bytes[blockElements * 4];
  } operands[2], result;
};

// Where elements begin .. begin + count lie as typed values: the plane itself, if there is only one.
const void *gather(llvm::ArrayRef<const std::byte *> planes, int64_t begin, int64_t count, std::byte *buffer) {
  if (planes.size() == 1)
    return planes[0] + begin;
  if (planes.size() == 2)
    interleaveAs<uint16_t>(planes.data(), begin, buffer, count);
  else
    interleaveAs<uint32_t>(planes.data(), begin, buffer, count);
  return buffer;
}

} // namespace

struct AluFunction::State {
  explicit State(BlockEvaluator evaluator) : evaluator(std::move(evaluator)) {}
  BlockEvaluator evaluator;
  size_t operandPlanes[2] = {}, resultPlanes = 0;

  // Threads borrow a workspace for the time of a call, so that there are no more than threads.
  std::unique_ptr<Workspace> borrow() {
    {
      std::lock_guard lock(mutex);
      if (!idle.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(idle.back());
        idle.pop_back();
        return workspace;
      }
    }
    return std::make_unique<Workspace>(evaluator);
  }
  void giveBack(std::unique_ptr<Workspace> workspace) {
    std::lock_guard lock(mutex);
    idle.push_back(std::move(workspace));
  }

private:
  std::mutex mutex;
  std::vector<std::unique_ptr<Workspace>> idle;
};

AluFunction::AluFunction(std::unique_ptr<State> state) : state(std::move(state)) {}
AluFunction::~AluFunction() = default;

llvm::Expected<std::shared_ptr<const AluFunction>> AluFunction::of(const Instruction &instruction) {
  static std::mutex mutex;
  static std::map<std::array<int64_t, 4>, std::shared_ptr<const AluFunction>> functions;
  std::array<int64_t, 4> key = {instruction.opcode, typeOf(instruction), resultType(instruction), wraps(instruction)};
  std::lock_guard lock(mutex);
  std::shared_ptr<const AluFunction> &function = functions[key];
  if (function)
    return function;
  llvm::Expected<BlockEvaluator> evaluator = BlockEvaluator::compile(ExpressionBuilder(instruction).build());
  if (!evaluator)
    return evaluator.takeError();
  auto state = std::make_unique<State>(std::move(*evaluator));
  for (int64_t operand = 0; operand < operandCount(instruction); ++operand)
    state->operandPlanes[operand] = static_cast<size_t>(operandBytes(instruction, operand));
  state->resultPlanes = static_cast<size_t>(resultBytes(instruction));
  function.reset(new AluFunction(std::move(state)));
  return function;
}

void AluFunction::evaluate(llvm::ArrayRef<const std::byte *> a, llvm::ArrayRef<const std::byte *> b,
                           llvm::ArrayRef<std::byte *> result, int64_t count) const {
  assert(a.size() == state->operandPlanes[0] && b.size() == state->operandPlanes[1] &&
         result.size() == state->resultPlanes);
  if (count <= 0)
    return;
  if (state->evaluator.expression().isIdentity()) {
    for (size_t plane = 0; plane < a.size(); ++plane)
      std::memmove(result[plane], a[plane], static_cast<size_t>(count));
    return;
  }
  std::unique_ptr<Workspace> workspace = state->borrow();
  for (int64_t begin = 0; begin < count; begin += blockElements) {
    int64_t n = std::min(blockElements, count - begin);
    BlockEvaluator::Operand inputs[2] = {{gather(a, begin, n, workspace->operands[0].bytes), 1}, {nullptr, 1}};
    if (!b.empty())
      inputs[1].data = gather(b, begin, n, workspace->operands[1].bytes);
    void *typed = result.size() == 1 ? result[0] + begin : workspace->result.bytes;
    state->evaluator.evaluate(llvm::ArrayRef(inputs).take_front(b.empty() ? 1 : 2), {{typed, 1}}, n, {},
                              workspace->scratch);
    if (result.size() == 2)
      splitAs<uint16_t>(typed, result.data(), begin, n);
    else if (result.size() == 4)
      splitAs<uint32_t>(typed, result.data(), begin, n);
  }
  state->giveBack(std::move(workspace));
}

} // namespace quadrille::tsp
