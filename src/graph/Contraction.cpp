#include "graph/Contraction.h"

#include "graph/KernelQueries.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {
// Bits of precision with which a type represents every integer from zero up to that many bits; 0: no integer format.
unsigned significandBits(ElementType type) {
  switch (type) {
  case ElementType::f64:
    return 53;
  case ElementType::f32:
    return 24;
  case ElementType::f16:
    return 11;
  case ElementType::bf16:
    return 8;
  case ElementType::cb16:
    return 10;
  case ElementType::f8e4m3fn:
  case ElementType::f8e4m3fnuz:
    return 4;
  case ElementType::f8e5m2:
  case ElementType::f8e5m2fnuz:
    return 3;
  default:
    return 0;
  }
}

// Every value of `from` exists in `to`, so that the conversion changes nothing but the type.
bool isWidening(ElementType from, ElementType to) {
  if (from == to)
    return true;
  if (isFloat(from))
    return isFloat(to) && bitWidth(to) > bitWidth(from);
  if (isFloat(to))
    return significandBits(to) >= bitWidth(from) - (kindOf(from) == ElementKind::Signed);
  if (!isInteger(to) || bitWidth(to) <= bitWidth(from))
    return false;
  return kindOf(to) == ElementKind::Signed || kindOf(from) != ElementKind::Signed;
}

class BodyMatcher {
public:
  BodyMatcher(const BlockExpression &body) : body(body) {}

  struct Factor {
    unsigned read = 0;
    std::optional<unsigned> zeroPoint;
    int64_t zeroConstant = 0;
  };

  // Matches widen(factor * factor).
  bool matchProduct(Register result, Factor &first, Factor &second) const {
    const BlockInstruction &product = definition(result);
    return product.opcode == BlockOpcode::Multiply && matchFactor(product.operands[0], first) &&
           matchFactor(product.operands[1], second);
  }

private:
  // The instruction that defines a register, looking through widening conversions.
  const BlockInstruction &definition(Register reg) const {
    const BlockInstruction *instruction = &body.instructions[reg];
    while (instruction->opcode == BlockOpcode::Convert &&
           isWidening(body.instructions[instruction->operands[0]].type, instruction->type))
      instruction = &body.instructions[instruction->operands[0]];
    return *instruction;
  }

  std::optional<unsigned> matchRead(Register reg) const {
    const BlockInstruction &instruction = definition(reg);
    if (instruction.opcode != BlockOpcode::Input)
      return std::nullopt;
    return static_cast<unsigned>(instruction.immediate);
  }

  // widen(read), or widen(read) - widen(zero point), or widen(read) - integer constant.
  bool matchFactor(Register reg, Factor &factor) const {
    const BlockInstruction &instruction = definition(reg);
    if (instruction.opcode != BlockOpcode::Subtract) {
      std::optional<unsigned> read = matchRead(reg);
      factor.read = read.value_or(0);
      return read.has_value();
    }
    std::optional<unsigned> read = matchRead(instruction.operands[0]);
    factor.read = read.value_or(0);
    if (const BlockInstruction &zero = definition(instruction.operands[1]);
        zero.opcode == BlockOpcode::Constant && isInteger(zero.type)) {
      convert(zero.type, &zero.immediate, ElementType::i64, &factor.zeroConstant, 1);
      return read.has_value();
    }
    factor.zeroPoint = matchRead(instruction.operands[1]);
    return read && factor.zeroPoint;
  }

  const BlockExpression &body;
};

unsigned occurrences(const AccessMap &map, unsigned loop) {
  return llvm::count_if(map, [&](const DimensionAccess &access) { return coefficientOf(access, loop) != 0; });
}
} // namespace

static std::optional<Contraction> infer(const KernelGraph &graph, const Kernel &kernel, BodyMatcher::Factor lhs,
                                        BodyMatcher::Factor rhs) {
  Contraction result;
  result.lhs = lhs.read;
  result.rhs = rhs.read;
  result.lhsZeroPoint = lhs.zeroPoint;
  result.rhsZeroPoint = rhs.zeroPoint;
  result.lhsZeroConstant = lhs.zeroConstant;
  result.rhsZeroConstant = rhs.zeroConstant;
  const Read &left = kernel.reads[lhs.read], &right = kernel.reads[rhs.read];
  const AccessMap &leftMap = left.map, &rightMap = right.map;

  // Windows: a dimension of the left operand that a result loop and a reduced loop index together, where the reduced
  // loop walks the filter and the result loop occurs nowhere else in the operands. A result loop that indexes the
  // filter as well is a group of channels (index = group * channels + channel), which is a batch loop.
  std::vector<bool> windowed(kernel.loops.size());
  const Shape &leftShape = graph.values[left.value].shape;
  for (auto [dimension, access] : llvm::enumerate(leftMap)) {
    if (access.terms.size() < 2)
      continue;
    if (access.terms.size() > 2)
      return std::nullopt;
    auto [output, stride] = access.terms[0];
    auto [tap, dilation] = access.terms[1];
    if (kernel.loops[output].reduction) {
      std::swap(output, tap);
      std::swap(stride, dilation);
    }
    if (kernel.loops[output].reduction || !kernel.loops[tap].reduction)
      return std::nullopt;
    if (occurrences(rightMap, output) != 0)
      continue;
    if (occurrences(rightMap, tap) != 1 || occurrences(leftMap, tap) != 1 || occurrences(leftMap, output) != 1)
      return std::nullopt;
    windowed[output] = windowed[tap] = true;
    IndexRange range = indexRange(access, kernel.loops);
    Contraction::Window window;
    window.output = output;
    window.tap = tap;
    window.dimension = static_cast<unsigned>(dimension);
    window.stride = stride;
    window.dilation = dilation;
    window.padBefore = std::max<int64_t>(0, -range.first);
    window.padAfter = std::max<int64_t>(0, range.last - (leftShape[dimension] - 1));
    result.windows.push_back(window);
  }
  // The filter is indexed plainly; two loops in one of its dimensions can only be a group.
  for (const DimensionAccess &access : rightMap)
    if (access.terms.size() > 2)
      return std::nullopt;

  for (unsigned loop = 0; loop < kernel.loops.size(); ++loop) {
    if (windowed[loop])
      continue;
    bool inLeft = occurrences(leftMap, loop) != 0, inRight = occurrences(rightMap, loop) != 0;
    if (kernel.loops[loop].reduction) {
      if (!inLeft || !inRight)
        return std::nullopt;
      result.k.push_back(loop);
    } else if (inLeft && inRight) {
      result.batch.push_back(loop);
    } else if (inLeft || (!inRight && kernel.loops[loop].extent == 1)) { // one of extent 1 is what it is taken for
      result.m.push_back(loop);
    } else if (inRight) {
      result.n.push_back(loop);
    } else {
      return std::nullopt;
    }
  }
  if (result.k.empty() && result.windows.empty())
    return std::nullopt;

  // Zero points stay the same along the reduction: the left one for the whole operand (or each batch), the right one
  // for each result channel.
  auto isZeroPoint = [&](std::optional<unsigned> read, llvm::ArrayRef<unsigned> allowed) {
    if (!read)
      return true;
    return llvm::all_of(kernel.reads[*read].map, [&](const DimensionAccess &access) {
      return llvm::all_of(access.terms, [&](auto term) {
        return llvm::is_contained(allowed, term.first) || llvm::is_contained(result.batch, term.first);
      });
    });
  };
  if (!isZeroPoint(result.lhsZeroPoint, result.m) || !isZeroPoint(result.rhsZeroPoint, result.n))
    return std::nullopt;
  return result;
}

std::optional<Contraction> inferContraction(const KernelGraph &graph, const Kernel &kernel) {
  if (!kernel.structured() || kernel.writes.size() != 1 || kernel.writes[0].combiner != Combiner::Sum ||
      kernel.body.results.size() != 1)
    return std::nullopt;
  BodyMatcher::Factor first, second;
  if (!BodyMatcher(kernel.body).matchProduct(kernel.body.results[0], first, second))
    return std::nullopt;
  const Read &firstRead = kernel.reads[first.read], &secondRead = kernel.reads[second.read];
  // The sum of the squares of one operand is a reduction: there is no second operand to contract with.
  if (firstRead.value == secondRead.value && firstRead.map == secondRead.map)
    return std::nullopt;
  if (first.read > second.read)
    std::swap(first, second);
  // Of a convolution the windowed operand is the left one, in whichever order the body multiplies.
  if (std::optional<Contraction> result = infer(graph, kernel, first, second))
    if (result->isConvolution())
      return result;
  std::optional<Contraction> swapped = infer(graph, kernel, second, first);
  if (swapped && swapped->isConvolution())
    return swapped;
  return infer(graph, kernel, first, second);
}

bool Contraction::isWindowed(size_t dimension) const {
  return llvm::any_of(windows, [&](const Window &window) { return window.dimension == dimension; });
}

bool onlyWindowsLeave(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction) {
  const Read &lhs = kernel.reads[contraction.lhs];
  for (auto [dimension, access] : llvm::enumerate(lhs.map)) {
    IndexRange range = indexRange(access, kernel.loops);
    bool leaves = range.first < 0 || range.last >= graph.values[lhs.value].shape[dimension];
    if (leaves && !contraction.isWindowed(dimension))
      return false;
  }
  return true;
}

bool startsFromZero(const Write &write) {
  return !write.initial && write.initialScalar &&
         doubleFromBits(write.initialScalar->type, write.initialScalar->bits) == 0;
}

Numeric defaultNumeric(const KernelGraph &graph, const Kernel &kernel) {
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  ElementType written = graph.values[kernel.writes[0].value].type;
  ElementType stored = kernel.reads.empty() ? written : graph.values[kernel.reads[0].value].type;
  Numeric numeric{stored, stored, written, Rounding::NearestEven};
  if (contraction) {
    numeric.storage = graph.values[kernel.reads[contraction->lhs].value].type;
    numeric.multiply = written;
    for (const BlockInstruction &instruction : kernel.body.instructions)
      if (instruction.opcode == BlockOpcode::Multiply)
        numeric.multiply = instruction.type;
  }
  Combiner combiner = kernel.writes[0].combiner;
  bool isNarrow = isFloat(written) && bitWidth(written) <= 16;
  if ((combiner == Combiner::Sum || combiner == Combiner::Product) && isNarrow) {
    numeric.accumulate = ElementType::f32;
    if (contraction)
      numeric.multiply = ElementType::f32; // products of 16-bit floats are exact in f32
  }
  return numeric;
}

} // namespace quadrille::graph
