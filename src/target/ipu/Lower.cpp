#include "target/ipu/Lower.h"
#include "target/ipu/LowerConvolutions.h"

#include "graph/DropEmpty.h"
#include "graph/DropUnused.h"
#include "graph/FuseKernels.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "graph/KernelRewriter.h"
#include "graph/RetypeValues.h"
#include "graph/ShareConstants.h"
#include "graph/StructureKernels.h"
#include "graph/WidenBf16.h"
#include "numerics/Convert.h"
#include "target/Refusal.h"
#include "target/ipu/Codelets.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/STLExtras.h"

#include <map>
#include <set>

namespace quadrille::ipu {

using namespace graph;

// Attribute of a matrix product that multiplies f32 whatever the precision.
constexpr const char *multipliesF32 = "multiplies_f32";

bool isDepthwise(const Kernel &kernel, const Contraction &contraction) {
  auto isLong = [&](unsigned loop) { return kernel.loops[loop].extent > 1; };
  return contraction.isConvolution() && llvm::none_of(contraction.k, isLong) && llvm::none_of(contraction.n, isLong);
}

bool isMatrixProduct(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.kind != KernelKind::Contract)
    return false;
  auto contraction = inferContraction(graph, kernel);
  if (!contraction || contraction->lhsZeroPoint || contraction->rhsZeroPoint ||
      !onlyWindowsLeave(graph, kernel, *contraction))
    return false;
  for (unsigned read : {contraction->lhs, contraction->rhs}) {
    if (!isFloat(graph.values[kernel.reads[read].value].type))
      return false;
    // One loop for each dimension, but for windows.
    for (auto [d, access] : llvm::enumerate(kernel.reads[read].map))
      if (!(read == contraction->lhs && contraction->isWindowed(d)) &&
          (access.terms.size() > 1 || access.offset != 0 || (!access.terms.empty() && access.terms[0].second != 1)))
        return false;
  }
  if (!isFloat(graph.values[kernel.writes[0].value].type) && !kernel.attributes.contains("largest_product"))
    return false;
  return !isDepthwise(kernel, *contraction) || !contraction->batch.empty();
}

ElementType multipliedType(const Kernel &kernel, const Precision &precision) {
  if (kernel.attributes.contains("largest_product"))
    return ElementType::f16;
  return kernel.attributes.contains(multipliesF32) ? ElementType::f32 : precision.operands;
}

namespace {

// Loop indices in bodies become reads of numbers: vertices do not know where their elements lie in the whole.
void readLoopIndices(KernelGraph &graph) {
  KernelRewriter rewriter(graph);
  for (size_t k = 0; k < graph.kernels.size(); ++k) {
    auto uses = [](const BlockInstruction &each) { return each.opcode == BlockOpcode::LoopIndex; };
    if (llvm::none_of(graph.kernels[k].body.instructions, uses))
      continue;
    std::map<uint64_t, size_t> reads;
    for (size_t i = 0; i < graph.kernels[k].body.instructions.size(); ++i) {
      BlockInstruction instruction = graph.kernels[k].body.instructions[i];
      if (!uses(instruction))
        continue;
      auto loop = static_cast<unsigned>(instruction.immediate);
      auto [known, fresh] = reads.try_emplace(loop, graph.kernels[k].reads.size());
      if (fresh) {
        ValueId numbers = rewriter.numbersInRow(graph.kernels[k].loops[loop].extent, instruction.type);
        graph.kernels[k].reads.push_back({numbers, {loopIndex(loop)}, std::nullopt});
        graph.kernels[k].body.inputs.push_back(instruction.type);
      }
      BlockInstruction &to = graph.kernels[k].body.instructions[i];
      to.opcode = BlockOpcode::Input;
      to.immediate = known->second;
    }
  }
}

// Indices of picked rows that count from the end, as those from the beginning.
void wrapIndices(KernelGraph &graph) {
  std::vector<Kernel> kernels = std::move(graph.kernels);
  graph.kernels.clear();
  KernelRewriter rewriter(graph);
  for (Kernel &kernel : kernels) {
    if (isRowPick(graph, kernel)) {
      rewriter.replaced = &kernel;
      ValueId indices = kernel.reads[1].value;
      ElementType type = rewriter.typeOf(indices);
      auto rows = static_cast<double>(rewriter.shapeOf(kernel.reads[0].value)[0]);
      BodyBuilder body;
      Register index = body.input(type);
      Register fromEnd = body.add(type, index, body.constant(type, rows));
      body.body.results = {body.select(type, body.less(index, body.constant(type, 0)), fromEnd, index)};
      const Shape shape = rewriter.shapeOf(indices);
      kernel.reads[1].value =
          rewriter.map(shape, {{indices, loopIndices(0, shape.size()), std::nullopt}}, std::move(body.body));
    }
    rewriter.kernels.push_back(std::move(kernel));
  }
  graph.kernels = std::move(rewriter.kernels);
}

// Contractions of 8-bit integers as contractions of halves, which hold differences of two of them exactly; products are
// exact too, and so are sums in f32 as long as they stay below 2^24, which the planner sees to.
class IntegerProducts {
public:
  explicit IntegerProducts(KernelGraph &graph) : graph(graph), rewriter(graph) {}

  void run() {
    std::vector<Kernel> kernels = std::move(graph.kernels);
    graph.kernels.clear();
    for (Kernel &kernel : kernels) {
      rewriter.replaced = &kernel;
      rewrite(kernel);
      rewriter.kernels.push_back(std::move(kernel));
    }
    graph.kernels = std::move(rewriter.kernels);
  }

private:
  bool isByte(ElementType type) const { return isInteger(type) && bitWidth(type) == 8; }
  // The zero point of an operand, if it is known and one number.
  std::optional<int64_t> known(const Kernel &kernel, std::optional<unsigned> read, int64_t constant) const {
    if (!read)
      return constant;
    const Value &value = graph.values[kernel.reads[*read].value];
    if (value.role != ValueRole::Constant || !value.data.valid() || elementCount(value.shape) != 1)
      return std::nullopt;
    return valuesOf<int64_t>(convert(value.data, ElementType::i64))[0];
  }
  void rewrite(Kernel &kernel) {
    if (kernel.kind != KernelKind::Contract || graph.values[kernel.writes[0].value].type != ElementType::i32)
      return;
    auto contraction = inferContraction(graph, kernel);
    if (!contraction || !onlyWindowsLeave(graph, kernel, *contraction))
      return;
    const Read lhs = kernel.reads[contraction->lhs], rhs = kernel.reads[contraction->rhs];
    if (!isByte(graph.values[lhs.value].type) || !isByte(graph.values[rhs.value].type) ||
        isDepthwise(kernel, *contraction))
      return;
    auto lhsZero = known(kernel, contraction->lhsZeroPoint, contraction->lhsZeroConstant);
    if (lhs.padding && !lhsZero)
      return;
    auto left = factor(kernel, lhs, contraction->lhsZeroPoint, lhsZero);
    auto right = factor(kernel, rhs, contraction->rhsZeroPoint,
                        known(kernel, contraction->rhsZeroPoint, contraction->rhsZeroConstant));
    if (!left || !right)
      return;
    kernel.reads = {*left, *right};
    if (lhs.padding) {
      double padding = doubleFromBits(lhs.padding->type, lhs.padding->bits) - static_cast<double>(*lhsZero);
      kernel.reads[0].padding = Scalar{ElementType::f16, bitsFromDouble(ElementType::f16, padding)};
    }
    kernel.attributes["largest_factor"] = largest(lhs, lhsZero);
    kernel.attributes["largest_product"] = largest(lhs, lhsZero) * largest(rhs, std::nullopt);
    BodyBuilder body;
    Register a = body.emit(BlockOpcode::Convert, ElementType::f32, {body.input(ElementType::f16)});
    Register b = body.emit(BlockOpcode::Convert, ElementType::f32, {body.input(ElementType::f16)});
    body.body.results = {body.emit(BlockOpcode::Multiply, ElementType::f32, {a, b})};
    kernel.body = std::move(body.body);
  }
  // Of an operand less its zero point, in magnitude.
  int64_t largest(const Read &read, std::optional<int64_t> zero) const {
    bool isSigned = kindOf(graph.values[read.value].type) == ElementKind::Signed;
    return zero == 0 ? (isSigned ? 128 : 255) : 255;
  }
  // The operand less its zero point as halves, indexed as the operand was.
  std::optional<Read> factor(const Kernel &kernel, const Read &read, std::optional<unsigned> zeroRead,
                             std::optional<int64_t> zero) {
    if (zero == 0 && graph.values[read.value].role == ValueRole::Constant) {
      Value copy = graph.values[read.value]; // the same data, which is widened when it is loaded
      copy.name += ":product";
      copy.type = ElementType::f16;
      graph.values.push_back(std::move(copy));
      return Read{static_cast<ValueId>(graph.values.size() - 1), read.map, std::nullopt};
    }
    const Shape shape = rewriter.shapeOf(read.value);
    BodyBuilder body;
    std::vector<Read> reads = {{read.value, loopIndices(0, shape.size()), std::nullopt}};
    ElementType i32 = ElementType::i32;
    Register element = body.emit(BlockOpcode::Convert, i32, {body.input(rewriter.typeOf(read.value))});
    if (zero) {
      if (*zero != 0)
        element = body.emit(BlockOpcode::Subtract, i32, {element, body.constant(i32, static_cast<double>(*zero))});
    } else {
      // In terms of the operand's dimensions.
      Read zeros = kernel.reads[*zeroRead];
      for (DimensionAccess &access : zeros.map)
        for (auto &[loop, coefficient] : access.terms) {
          auto dimension = llvm::find_if(read.map, [&, loop = loop](const DimensionAccess &of) {
            return of.offset == 0 && of.terms.size() == 1 && of.terms[0] == std::pair<unsigned, int64_t>(loop, 1);
          });
          if (dimension == read.map.end())
            return std::nullopt;
          loop = static_cast<unsigned>(dimension - read.map.begin());
        }
      reads.push_back(zeros);
      Register point = body.emit(BlockOpcode::Convert, i32, {body.input(rewriter.typeOf(zeros.value))});
      element = body.emit(BlockOpcode::Subtract, i32, {element, point});
    }
    body.body.results = {body.emit(BlockOpcode::Convert, ElementType::f16, {element})};
    return Read{rewriter.map(shape, std::move(reads), std::move(body.body)), read.map, std::nullopt};
  }

  KernelGraph &graph;
  KernelRewriter rewriter;
};

// The largest sum of products of integers, in magnitude, by the weights of each result, and what it starts from;
// nothing where they are not known.
std::optional<double> largestSum(const KernelGraph &graph, const Kernel &kernel) {
  auto contraction = inferContraction(graph, kernel);
  auto factor = graph::integerAttribute(kernel, "largest_factor");
  const Write &write = kernel.writes[0];
  auto isKnown = [&](ValueId id) {
    return graph.values[id].role == ValueRole::Constant && graph.values[id].data.valid();
  };
  if (!contraction || !factor || (write.initialScalar && !startsFromZero(write)) ||
      !isKnown(kernel.reads[contraction->rhs].value) || (write.initial && !isKnown(write.initial->value)))
    return std::nullopt;
  const Read &rhs = kernel.reads[contraction->rhs];
  const Value &weights = graph.values[rhs.value];
  // Of all elements that agree in the dimensions that are not summed over.
  Shape strides(weights.shape.size());
  int64_t sums = 1;
  for (size_t d = strides.size(); d-- > 0;) {
    const DimensionAccess &access = rhs.map[d];
    if (access.terms.empty() || kernel.loops[access.terms[0].first].reduction)
      continue;
    strides[d] = sums;
    sums *= weights.shape[d];
  }
  std::vector<double> values = valuesOf<double>(weights.data), magnitudes(static_cast<size_t>(sums));
  Shape at(strides.size());
  for (double value : values) {
    int64_t sum = 0;
    for (auto [index, stride] : llvm::zip_equal(at, strides))
      sum += index * stride;
    magnitudes[static_cast<size_t>(sum)] += std::abs(value);
    for (size_t d = at.size(); d-- > 0 && ++at[d] == weights.shape[d];)
      at[d] = 0;
  }
  double start = 0;
  if (write.initial)
    for (double value : valuesOf<double>(graph.values[write.initial->value].data))
      start = std::max(start, std::abs(value));
  return start + static_cast<double>(*factor) * *llvm::max_element(magnitudes);
}

// Sums of products of integers that f32 holds exactly, whatever is multiplied, are held so.
void holdSumsInF32(KernelGraph &graph) {
  constexpr double exactInF32 = 1 << 24;
  for (Kernel &kernel : graph.kernels) {
    if (!kernel.attributes.contains("largest_product") || kernel.writes.size() != 1)
      continue;
    ValueId result = kernel.writes[0].value;
    std::optional<double> largest = largestSum(graph, kernel);
    bool reads = !llvm::is_contained(graph.outputs, result);
    for (const Kernel &reader : graph.kernels) {
      for (const Read &read : reader.reads)
        reads = reads && (read.value != result || (reader.structured() && !read.padding));
      for (const Write &write : reader.writes)
        reads = reads && !(write.initial && write.initial->value == result);
    }
    if (!largest || *largest > exactInF32 || !reads)
      continue;
    kernel.attributes[largestSumName] = static_cast<int64_t>(*largest);
    graph.values[result].type = ElementType::f32;
    if (std::optional<Read> &start = kernel.writes[0].initial) {
      Value copy = graph.values[start->value];
      copy.name += ":f32";
      copy.type = ElementType::f32;
      copy.data = convert(copy.data, ElementType::f32);
      graph.values.push_back(std::move(copy));
      start->value = static_cast<ValueId>(graph.values.size() - 1);
    }
    for (Kernel &reader : graph.kernels)
      for (auto [number, read] : llvm::enumerate(reader.reads))
        if (read.value == result)
          retypeInput(reader.body, number, ElementType::f32);
  }
}

// Adds what the sums of a matrix product start from in an elementwise kernel behind it, which what follows can join.
void separateBiases(KernelGraph &graph) {
  std::vector<Kernel> kernels = std::move(graph.kernels);
  graph.kernels.clear();
  KernelRewriter rewriter(graph);
  for (Kernel &kernel : kernels) {
    rewriter.replaced = &kernel;
    // Integers take longer to add than to start from.
    if (!isMatrixProduct(graph, kernel) || !kernel.writes[0].initial ||
        !isFloat(rewriter.typeOf(kernel.writes[0].value))) {
      rewriter.kernels.push_back(std::move(kernel));
      continue;
    }
    // The dimension of the result that each loop indexes.
    std::map<unsigned, unsigned> dimensionOf;
    for (auto [d, access] : llvm::enumerate(kernel.writes[0].map))
      if (access.offset == 0 && access.terms.size() == 1 && access.terms[0].second == 1)
        dimensionOf[access.terms[0].first] = static_cast<unsigned>(d);
    Read start = *kernel.writes[0].initial;
    bool known = true;
    for (DimensionAccess &access : start.map)
      for (auto &[loop, coefficient] : access.terms) {
        auto found = dimensionOf.find(loop);
        known &= found != dimensionOf.end();
        if (known)
          loop = found->second;
      }
    if (!known) {
      rewriter.kernels.push_back(std::move(kernel));
      continue;
    }
    ValueId result = kernel.writes[0].value;
    const Shape shape = rewriter.shapeOf(result);
    ElementType type = rewriter.typeOf(result), arithmetic = ElementType::f32;
    ValueId sum = rewriter.value(arithmetic, shape);
    graph.values[sum].name = graph.values[result].name;
    kernel.writes[0].value = sum;
    kernel.writes[0].initial.reset();
    rewriter.kernels.push_back(kernel);
    std::vector<Loop> loops;
    for (int64_t extent : shape)
      loops.push_back({extent, false});
    BodyBuilder body;
    Register summed = body.input(arithmetic), bias = body.input(rewriter.typeOf(start.value));
    auto as = [&](Register value, ElementType to) {
      return body.body.instructions[value].type == to ? value : body.emit(BlockOpcode::Convert, to, {value});
    };
    body.body.results = {as(body.add(arithmetic, summed, as(bias, arithmetic)), type)};
    Write write;
    write.value = result;
    write.map = loopIndices(0, shape.size());
    rewriter.structured(std::move(loops), {{sum, write.map, std::nullopt}, start}, {write}, std::move(body.body));
  }
  graph.kernels = std::move(rewriter.kernels);
}

// Whether a depthwise convolution reads the value, or what elementwise kernels make of it.
bool feedsDepthwise(const KernelGraph &graph, const Uses &uses, ValueId value) {
  llvm::SmallVector<ValueId, 8> open = {value};
  std::set<ValueId> seen = {value};
  while (!open.empty())
    for (size_t number : uses.readers[open.pop_back_val()]) {
      if (number == graph.kernels.size())
        continue;
      const Kernel &reader = graph.kernels[number];
      if (isElementwise(reader)) {
        if (seen.insert(reader.writes[0].value).second)
          open.push_back(reader.writes[0].value);
      } else if (isMatrixProduct(graph, reader) && isDepthwise(reader, *inferContraction(graph, reader))) {
        return true;
      }
    }
  return false;
}

// Products that multiply f32 although others multiply halves. Networks of depthwise convolutions enlarge what is
// rounded in front: a sum has as few products as the kernel has places, so that roundings do not average out.
// Depthwise convolutions: the matrix units have no part in them. Their vertex takes halves only, and three of it for
// the high and low halves of both operands take longer than products and sums in f32. The convolution in front that
// reads a picture: most of the units are idle when there are few channels.
void chooseWideProducts(KernelGraph &graph) {
  constexpr int64_t mostChannels = 4;
  Uses uses(graph);
  for (Kernel &kernel : graph.kernels) {
    auto contraction = isMatrixProduct(graph, kernel) ? inferContraction(graph, kernel) : std::nullopt;
    if (!contraction || kernel.attributes.contains("largest_product"))
      continue;
    auto isHalf = [&](unsigned read) { return graph.values[kernel.reads[read].value].type == ElementType::f16; };
    ValueId input = kernel.reads[contraction->lhs].value;
    int64_t channels = 1;
    for (unsigned loop : contraction->k)
      channels *= kernel.loops[loop].extent;
    // Halves are multiplied exactly.
    bool wide = isDepthwise(kernel, *contraction)
                    ? !isHalf(contraction->lhs) || !isHalf(contraction->rhs)
                    : contraction->isConvolution() && channels <= mostChannels &&
                          graph.values[input].role == ValueRole::Input &&
                          graph.values[input].type == ElementType::f32 &&
                          graph.values[kernel.reads[contraction->rhs].value].role == ValueRole::Constant &&
                          uses.readers[input].size() == 1 && feedsDepthwise(graph, uses, kernel.writes[0].value);
    if (wide)
      kernel.attributes[multipliesF32] = int64_t(1);
  }
}

// Gives what contractions read the type in which they multiply it; what only moves elements has them in one type.
class Narrower {
public:
  Narrower(KernelGraph &graph, const Precision &precision)
      : graph(graph), precision(precision), operands(precision.operands) {}

  void run() {
    llvm::EquivalenceClasses<ValueId> alike;
    std::set<ValueId> wanted;
    for (Kernel &kernel : graph.kernels) {
      if (!kernel.structured())
        for (const Read &read : kernel.reads)
          if (movesWith(kernel, read))
            alike.unionSets(read.value, kernel.writes[0].value);
      if (!isMatrixProduct(graph, kernel))
        continue;
      auto contraction = *inferContraction(graph, kernel);
      if (multipliedType(kernel, precision) != operands)
        continue;
      for (unsigned r : {contraction.lhs, contraction.rhs}) {
        ValueId id = kernel.reads[r].value;
        if (graph.values[id].type == operands)
          continue;
        if (graph.values[id].role != ValueRole::Constant) {
          wanted.insert(id);
          continue;
        }
        kernel.reads[r].value = narrowCopy(id);
      }
    }
    std::set<ValueId> all = wanted;
    for (ValueId id : wanted)
      if (auto member = alike.findLeader(id); member != alike.member_end())
        all.insert(member, alike.member_end());
    for (ValueId id : all)
      if (isFloat(graph.values[id].type))
        retype(id);
    for (Kernel &kernel : graph.kernels)
      for (Read &read : kernel.reads)
        if (!kernel.structured() && isFloat(graph.values[read.value].type) &&
            graph.values[read.value].role == ValueRole::Constant &&
            graph.values[kernel.writes[0].value].type != graph.values[read.value].type)
          read.value = narrowCopy(read.value);
  }

private:
  // What a kernel that only moves elements has in the type of its result; of a constant it can have a copy.
  bool movesWith(const Kernel &kernel, const Read &read) const {
    const Value &value = graph.values[read.value];
    return value.role != ValueRole::Constant && value.type == graph.values[kernel.writes[0].value].type;
  }
  ValueId narrowCopy(ValueId constant) {
    auto [known, fresh] = copies.try_emplace(constant, static_cast<ValueId>(graph.values.size()));
    if (fresh) {
      Value copy = graph.values[constant]; // the same data, which is narrowed when it is loaded
      copy.name += ":product";
      copy.type = operands;
      graph.values.push_back(std::move(copy));
    }
    return known->second;
  }
  bool multiplies(const Kernel &kernel, size_t read) const {
    if (!isMatrixProduct(graph, kernel))
      return false;
    auto contraction = *inferContraction(graph, kernel);
    return read == contraction.lhs || read == contraction.rhs;
  }
  void retype(ValueId id) {
    ElementType before = graph.values[id].type;
    if (before == operands)
      return;
    auto padding = [&](Read &read) {
      if (read.padding)
        read.padding = Scalar{operands, bitsFromDouble(operands, doubleFromBits(before, read.padding->bits))};
    };
    for (Kernel &kernel : graph.kernels) {
      for (size_t r = 0; r < kernel.reads.size(); ++r)
        if (kernel.reads[r].value == id) {
          if (kernel.structured() && !multiplies(kernel, r))
            retypeInput(kernel.body, r, operands);
          padding(kernel.reads[r]);
        }
      for (size_t w = 0; w < kernel.writes.size(); ++w) {
        if (kernel.writes[w].initial && kernel.writes[w].initial->value == id)
          padding(*kernel.writes[w].initial);
        // Sums stay as they are and are rounded when they are stored.
        if (kernel.writes[w].value == id && kernel.structured() && !hasReduction(kernel.loops))
          retypeResult(kernel.body, w, operands);
      }
    }
    graph.values[id].type = operands;
  }

  KernelGraph &graph;
  const Precision &precision;
  ElementType operands;
  std::map<ValueId, ValueId> copies; // of constants, which others may read as they are
};

// What is the same in all turns of a loop is computed before the first one.
void hoistInvariants(KernelGraph &graph) {
  for (size_t begin = 0; begin < graph.kernels.size(); ++begin) {
    if (graph.kernels[begin].operation != "loop_begin")
      continue;
    std::set<ValueId> varying;
    std::vector<Kernel> before, turn;
    size_t end = endOfLoop(graph, begin);
    for (size_t number = begin; number < end; ++number) {
      Kernel &kernel = graph.kernels[number];
      bool varies = kernel.operation == "loop_begin" ||
                    llvm::any_of(operandsOf(kernel), [&](ValueId id) { return varying.contains(id); });
      for (const Write &write : kernel.writes)
        if (varies)
          varying.insert(write.value);
      (varies ? turn : before).push_back(std::move(kernel));
    }
    auto at = std::move(before.begin(), before.end(), graph.kernels.begin() + static_cast<int64_t>(begin));
    std::move(turn.begin(), turn.end(), at);
    begin += before.size();
  }
}

BlockExpression withoutUnused(const BlockExpression &body) {
  std::vector<bool> used(body.instructions.size());
  for (Register result : body.results)
    used[result] = true;
  for (size_t number = used.size(); number-- > 0;)
    for (unsigned i = 0; used[number] && i < operandCount(body.instructions[number].opcode); ++i)
      used[body.instructions[number].operands[i]] = true;
  BlockExpression made;
  made.inputs = body.inputs;
  std::vector<Register> renamed(used.size());
  for (auto [number, each] : llvm::enumerate(body.instructions)) {
    if (!used[number])
      continue;
    llvm::SmallVector<Register, 3> operands;
    for (unsigned i = 0; i < operandCount(each.opcode); ++i)
      operands.push_back(renamed[each.operands[i]]);
    renamed[number] = made.append(each.opcode, each.type, operands, each.immediate);
  }
  for (Register result : body.results)
    made.results.push_back(renamed[result]);
  return made;
}

// Bounds are applied to what has been narrowed: rounding keeps the order, and vertices take more halves at once.
class BoundsBehindNarrowing {
public:
  explicit BoundsBehindNarrowing(const BlockExpression &body) : body(body), uses(body.instructions.size()) {
    for (const BlockInstruction &each : body.instructions)
      for (unsigned i = 0; i < operandCount(each.opcode); ++i)
        ++uses[each.operands[i]];
    for (Register result : body.results)
      ++uses[result];
    made.inputs = body.inputs;
  }

  BlockExpression run() {
    for (const BlockInstruction &each : body.instructions) {
      // Bytes have no infinity to round to.
      bool narrows = each.opcode == BlockOpcode::Convert && each.type == ElementType::f16 &&
                     body.instructions[each.operands[0]].type == ElementType::f32;
      if (narrows) {
        renamed.push_back(narrowed(each.operands[0], each.type));
        continue;
      }
      llvm::SmallVector<Register, 3> operands;
      for (unsigned i = 0; i < operandCount(each.opcode); ++i)
        operands.push_back(renamed[each.operands[i]]);
      renamed.push_back(made.append(each.opcode, each.type, operands, each.immediate));
    }
    for (Register result : body.results)
      made.results.push_back(renamed[result]);
    return withoutUnused(made);
  }

private:
  Register narrowed(Register number, ElementType type) {
    const BlockInstruction &each = body.instructions[number];
    if (each.opcode == BlockOpcode::Constant)
      return made.append(BlockOpcode::Constant, type, {},
                         bitsFromDouble(type, doubleFromBits(each.type, each.immediate)));
    bool isBound = each.opcode == BlockOpcode::Maximum || each.opcode == BlockOpcode::MaximumNumber ||
                   each.opcode == BlockOpcode::Minimum || each.opcode == BlockOpcode::MinimumNumber;
    auto isConstant = [&](Register operand) { return body.instructions[operand].opcode == BlockOpcode::Constant; };
    if (isBound && uses[number] == 1 && (isConstant(each.operands[0]) || isConstant(each.operands[1]))) {
      Register first = narrowed(each.operands[0], type), second = narrowed(each.operands[1], type);
      return made.append(each.opcode, type, {first, second});
    }
    return made.append(BlockOpcode::Convert, type, {renamed[number]});
  }

  const BlockExpression &body;
  std::vector<unsigned> uses;
  std::vector<Register> renamed;
  BlockExpression made;
};

} // namespace

llvm::Expected<KernelGraph> machineGraph(const KernelGraph &original, const Precision &precision, Loops loops) {
  KernelGraph graph = inlineComposites(original, [](const Kernel &) { return false; });
  graph = dropEmpty(loops == Loops::Repeated ? markScans(graph) : unrollScans(graph));
  graph = widenBf16(structureKernels(std::move(graph), isRowPick));
  if (std::string wrong = holdIn32Bits(graph); !wrong.empty())
    return target::unsupportedError(wrong);
  holdInBytes(graph);
  wrapIndices(graph);
  for (const Value &value : graph.values)
    if (!llvm::is_contained(tileTypes(), value.type))
      return target::unsupportedError("value '" + value.name + "': the machine has no type " + nameOf(value.type));
  readLoopIndices(graph);
  shareConstants(graph);
  IntegerProducts(graph).run();
  holdSumsInF32(graph);
  dropUnused(graph);
  absorbMoves(graph, isMatrixProduct);
  splitGroups(graph);
  separateBiases(graph);
  // Longer ones are no faster, and hold more operands at once.
  constexpr size_t longestBody = 32;
  fuseElementwise(graph, longestBody);
  multiplyPatches(graph);
  if (precision.partials == ElementType::f32)
    chooseWideProducts(graph);
  Narrower(graph, precision).run();
  for (Kernel &kernel : graph.kernels)
    if (kernel.structured() && !isMatrixProduct(graph, kernel))
      kernel.body = BoundsBehindNarrowing(kernel.body).run();
  hoistInvariants(graph);
  return graph;
}

} // namespace quadrille::ipu
