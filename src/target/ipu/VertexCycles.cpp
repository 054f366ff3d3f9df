#include "target/ipu/VertexCycles.h"

#include "target/ipu/KnownFunctions.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

namespace {

int64_t productOf(llvm::ArrayRef<int64_t> numbers) {
  int64_t product = 1;
  for (int64_t number : numbers)
    product *= number;
  return product;
}

// What poplibs calls an operation of a block expression, and whether it has two operands; "": it costs no loop of its
// own.
struct Operation {
  llvm::StringRef name;
  bool binary = false;
};
Operation operationOf(BlockOpcode opcode) {
  switch (opcode) {
  case BlockOpcode::Add:
    return {"add", true};
  case BlockOpcode::Subtract:
    return {"subtract", true};
  case BlockOpcode::Multiply:
  case BlockOpcode::MultiplyAdd:
    return {"multiply", true};
  case BlockOpcode::Divide:
    return {"divide", true};
  case BlockOpcode::Remainder:
  case BlockOpcode::Modulo:
    return {"remainder", true};
  case BlockOpcode::Power:
    return {"power", true};
  case BlockOpcode::Atan2:
    return {"atan2", true};
  case BlockOpcode::Maximum:
  case BlockOpcode::MaximumNumber:
    return {"maximum", true};
  case BlockOpcode::Minimum:
  case BlockOpcode::MinimumNumber:
    return {"minimum", true};
  case BlockOpcode::Equal:
  case BlockOpcode::Less:
  case BlockOpcode::LessEqual:
    return {"compare", true};
  case BlockOpcode::NotEqual:
    return {"not_equal", true};
  case BlockOpcode::Negate:
    return {"negate"};
  case BlockOpcode::Absolute:
    return {"abs"};
  case BlockOpcode::SquareRoot:
    return {"sqrt"};
  case BlockOpcode::ReciprocalSquareRoot:
    return {"rsqrt"};
  case BlockOpcode::Reciprocal:
    return {"inverse"};
  case BlockOpcode::Exp:
    return {"exp"};
  case BlockOpcode::Exp2:
    return {"exp2"};
  case BlockOpcode::Expm1:
    return {"expm1"};
  case BlockOpcode::Log:
  case BlockOpcode::Log2:
    return {"log"};
  case BlockOpcode::Log1p:
    return {"log1p"};
  case BlockOpcode::Sin:
    return {"sin"};
  case BlockOpcode::Cos:
    return {"cos"};
  case BlockOpcode::Tan:
    return {"tan"};
  case BlockOpcode::Asin:
  case BlockOpcode::Acos:
  case BlockOpcode::Atan:
    return {"asin"};
  case BlockOpcode::Tanh:
    return {"tanh"};
  case BlockOpcode::Erf:
    return {"erf"};
  case BlockOpcode::Floor:
    return {"floor"};
  case BlockOpcode::Ceil:
    return {"ceil"};
  case BlockOpcode::RoundEven:
  case BlockOpcode::Truncate:
    return {"nearby"};
  case BlockOpcode::Not:
    return {"bitwise_not"};
  default:
    return {};
  }
}

AmpTypes ampTypesOf(const Vertex &vertex) {
  if (typeOf(vertex, "type") == ElementType::f32)
    return AmpTypes::F32F32;
  return typeOf(vertex, "partials") == ElementType::f32 ? AmpTypes::F16F32 : AmpTypes::F16F16;
}

int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

} // namespace

int64_t cyclesOfMap(const BlockExpression &expression, int64_t count, bool inPlace, const CycleModel &cycles) {
  std::vector<const BlockInstruction *> operations;
  for (const BlockInstruction &each : expression.instructions)
    if (operandCount(each.opcode) > 0 && each.opcode != BlockOpcode::Bitcast)
      operations.push_back(&each);
  auto typeOfOperands = [&](const BlockInstruction &each) { return expression.instructions[each.operands[0]].type; };
  auto single = [&](const BlockInstruction &each) -> std::optional<int64_t> {
    if (each.opcode == BlockOpcode::Convert || each.opcode == BlockOpcode::ConvertSaturating)
      return cycles.cast(typeOfOperands(each), each.type, count);
    Operation operation = operationOf(each.opcode);
    if (operation.name.empty() || each.opcode == BlockOpcode::MultiplyAdd)
      return std::nullopt;
    return operation.binary ? cycles.binary(operation.name, typeOfOperands(each), count, inPlace)
                            : cycles.unary(operation.name, typeOfOperands(each), count, inPlace);
  };
  if (operations.size() == 1)
    if (auto known = single(*operations.front()))
      return *known;
  // What has no figure, as bitwise operations and selections, takes an addition's time; other types that of integers.
  auto addition = [&](ElementType type, int64_t ofWorker) {
    std::optional<int64_t> loop = cycles.binaryLoop("add", type, ofWorker);
    return loop ? *loop : *cycles.binaryLoop("add", ElementType::i32, ofWorker);
  };
  // The loops of a worker, and the cost of beginning, which an addition shows: its cycles for no elements.
  int64_t ofWorker = (count + cycles.workers() - 1) / cycles.workers(), loops = 0;
  ElementType widest = ElementType::f16;
  std::vector<KnownFunction> functions = knownFunctions(expression);
  auto functionOf = [&](const BlockInstruction *each) {
    auto at = static_cast<size_t>(each - expression.instructions.data());
    return llvm::find_if(functions, [&](const KnownFunction &function) { return function.operations[at]; });
  };
  for (const BlockInstruction *each : operations) {
    ElementType type = typeOfOperands(*each);
    if (type != ElementType::f16)
      widest = ElementType::f32;
    if (auto function = functionOf(each); function != functions.end()) {
      if (each == &expression.instructions[function->result])
        loops += function->name == KnownFunction::Name::GeluErf ? *cycles.unaryLoop("gelu_erf", type, ofWorker)
                                                                : *cycles.nonlinearityLoop("gelu", type, ofWorker);
      continue;
    }
    Operation operation = operationOf(each->opcode);
    std::optional<int64_t> loop;
    if (each->opcode == BlockOpcode::Convert || each->opcode == BlockOpcode::ConvertSaturating)
      loop = cycles.castLoop(type, each->type, ofWorker);
    else if (!operation.name.empty())
      loop = operation.binary ? cycles.binaryLoop(operation.name, type, ofWorker)
                              : cycles.unaryLoop(operation.name, type, ofWorker);
    loops += loop ? *loop : addition(type, ofWorker);
    if (each->opcode == BlockOpcode::MultiplyAdd)
      loops += addition(type, ofWorker);
  }
  if (operations.empty())
    loops = addition(widest, ofWorker);
  return *cycles.binary("add", widest, 0, inPlace) + cycles.workers() * loops;
}

int64_t cyclesOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions, const CycleModel &cycles) {
  auto number = [&](llvm::StringRef name) { return valueOf(vertex, name); };
  switch (vertex.kind()) {
  case Codelet::Map:
    return cyclesOfMap(
        expressions[static_cast<size_t>(number("expression"))], productOf(valuesOf(vertex, "extents")),
        llvm::any_of(valuesOf(vertex, "in"),
                     [&](int64_t address) { return llvm::is_contained(valuesOf(vertex, "out"), address); }),
        cycles);
  case Codelet::Reduce: {
    // The outputs are shared by the workers, each of which reduces its own.
    int64_t outputs = ceilDivide(productOf(valuesOf(vertex, "extents")), cycles.workers());
    int64_t partials = productOf(valuesOf(vertex, "reduced"));
    ElementType type = typeOf(vertex, "type"), result = typeOf(vertex, "out_type");
    llvm::ArrayRef<int64_t> strides = valuesOf(vertex, "in_strides");
    if (strides.back() != 1 && sumsArray(vertex))
      return cycles.sumOfParts(type, result, productOf(valuesOf(vertex, "extents")), partials, number("loads") != 0);
    int64_t worker = strides.back() == 1 ? cycles.reduceContiguous(type, outputs, partials)
                                         : cycles.reduceStrided(type, result, outputs, partials, 1);
    return cycles.workers() * worker;
  }
  case Codelet::Copy:
    return cycles.copy(number("bytes") * productOf(valuesOf(vertex, "extents")));
  case Codelet::Fill:
    return cycles.fill(number("bytes"), number("count"));
  case Codelet::DotProduct:
    return cycles.dotProduct(number("count"));
  case Codelet::MultiSlice: {
    int64_t count = number("count");
    return cycles.multiSliceOfBytes(number("bytes") * number("elements"), count, ceilDivide(count, cycles.workers()),
                                    false);
  }
  case Codelet::MultiUpdate: {
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    int64_t elements = number("elements"), count = number("count"), inRange = ceilDivide(count, cycles.workers());
    if (!updateOf(vertex))
      return cycles.multiSliceOfBytes(width * elements, count, inRange, true);
    // What is as wide as a half goes two at a time as halves do, all else one by one as f32, whatever the operation.
    if (width == static_cast<int64_t>(byteWidth(ElementType::f16)))
      return cycles.multiUpdateAdd(ElementType::f16, elements + elements % 2, count, inRange);
    return cycles.multiUpdateAdd(ElementType::f32, elements, count, inRange);
  }
  case Codelet::ConvPartial1x1Out:
  case Codelet::ConvPartialnx1: {
    AmpTypes types = ampTypesOf(vertex);
    Blocks blocks{number("groups"), number("in_blocks"), number("out_blocks"),
                  ceilDivide(number("out_channels"), cycles.ampUnits(types))};
    bool zero = number("zero") != 0;
    if (vertex.kind() == Codelet::ConvPartial1x1Out)
      return cycles.amp1x1(types, blocks, number("positions"), zero, number("loads") != 0);
    return cycles.ampNx1(types, blocks, number("batch"), valuesOf(vertex, "out_field"), valuesOf(vertex, "kernel"),
                         std::max<int64_t>(1, cycles.ampFilterHeight(types, number("in_channels"))), zero,
                         number("loads") != 0);
  }
  case Codelet::ConvPartialHorizontalMac: {
    AmpTypes types = ampTypesOf(vertex);
    Blocks blocks{number("groups"), number("in_blocks"), number("out_blocks"), 1};
    int64_t positions = number("positions"), outChannels = number("out_channels"), zeroing = 0;
    if (number("zero"))
      zeroing = blocks.out * cycles.zeroPartials(typeOf(vertex, "partials"), outChannels * positions, blocks.groups);
    return cycles.hmac(types, blocks, 1, positions, number("in_channels"), outChannels, 1, true) + zeroing;
  }
  case Codelet::OuterProduct:
    return cycles.outerProduct(typeOf(vertex, "type"), number("positions"), number("groups"), number("channels"));
  case Codelet::Uniform: // has no estimator
  case Codelet::Normal:
    return cycles.normal(typeOf(vertex, "type"), number("count"));
  case Codelet::MaxPool:
  case Codelet::SumPool: {
    llvm::ArrayRef<int64_t> field = valuesOf(vertex, "out_field");
    return cycles.pool(vertex.kind() == Codelet::MaxPool, typeOf(vertex, "type"), number("channels"),
                       number("batch") * productOf(field.drop_back()), field.back(),
                       productOf(valuesOf(vertex, "kernel")));
  }
  case Codelet::ConvPartial1x4SLIC: {
    llvm::ArrayRef<int64_t> field = valuesOf(vertex, "out_field");
    return cycles.slic(ampTypesOf(vertex), number("groups"), number("together"),
                       number("batch") * productOf(field.drop_back()), field.back(),
                       productOf(valuesOf(vertex, "kernel")) / number("window"), valuesOf(vertex, "stride").back());
  }
  case Codelet::ConvPartialVerticalMac: {
    Blocks blocks{number("groups"), 1, 1, 1};
    llvm::ArrayRef<int64_t> kernel = valuesOf(vertex, "kernel");
    return cycles.vmac(ampTypesOf(vertex), blocks, number("channels"),
                       number("batch") * productOf(valuesOf(vertex, "out_field")), productOf(kernel.drop_back()),
                       kernel.back());
  }
  }
  return 0;
}

} // namespace quadrille::ipu
