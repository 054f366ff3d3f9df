#include "target/ipu/Lower.h"

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

bool isRowPick(const KernelGraph &graph, const Kernel &kernel) {
  constexpr int64_t fewRows = 8; // for which comparisons are as good
  if (kernel.structured() || kernel.operation != "gather")
    return false;
  const Shape &data = graph.values[kernel.reads[0].value].shape;
  return data.size() == 2 && integerAttribute(kernel, "axis").value_or(0) == 0 && data[0] > fewRows;
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
  if (!isFloat(graph.values[kernel.writes[0].value].type))
    return false;
  auto isLong = [&](unsigned loop) { return kernel.loops[loop].extent > 1; };
  return !contraction->isConvolution() || llvm::any_of(contraction->k, isLong) || llvm::any_of(contraction->n, isLong);
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

// Gives what contractions read the type in which they multiply it; what only moves elements has them in one type.
class Narrower {
public:
  Narrower(KernelGraph &graph, ElementType operands) : graph(graph), operands(operands) {}

  void run() {
    llvm::EquivalenceClasses<ValueId> alike;
    std::set<ValueId> wanted;
    std::map<ValueId, ValueId> copies; // of constants, which others may read as they are
    for (Kernel &kernel : graph.kernels) {
      if (!kernel.structured())
        for (const Read &read : kernel.reads)
          alike.unionSets(read.value, kernel.writes[0].value);
      if (!isMatrixProduct(graph, kernel))
        continue;
      auto contraction = *inferContraction(graph, kernel);
      for (unsigned r : {contraction.lhs, contraction.rhs}) {
        ValueId id = kernel.reads[r].value;
        if (graph.values[id].type == operands)
          continue;
        if (graph.values[id].role != ValueRole::Constant) {
          wanted.insert(id);
          continue;
        }
        auto [known, fresh] = copies.try_emplace(id, static_cast<ValueId>(graph.values.size()));
        if (fresh) {
          Value copy = graph.values[id]; // the same data, which is narrowed when it is loaded
          copy.name += ":product";
          copy.type = operands;
          graph.values.push_back(std::move(copy));
        }
        kernel.reads[r].value = known->second;
      }
    }
    std::set<ValueId> all = wanted;
    for (ValueId id : wanted)
      if (auto member = alike.findLeader(id); member != alike.member_end())
        all.insert(member, alike.member_end());
    for (ValueId id : all)
      if (isFloat(graph.values[id].type))
        retype(id);
  }

private:
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
  ElementType operands;
};

} // namespace

llvm::Expected<KernelGraph> machineGraph(const KernelGraph &original, const Precision &precision) {
  KernelGraph graph = dropEmpty(unrollScans(inlineComposites(original, [](const Kernel &) { return false; })));
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
  dropUnused(graph);
  absorbMoves(graph, isMatrixProduct);
  // Longer ones are no faster, and hold more operands at once.
  constexpr size_t longestBody = 32;
  fuseElementwise(graph, longestBody);
  Narrower(graph, precision.operands).run();
  return graph;
}

} // namespace quadrille::ipu
