// The generic execution of a structured kernel. The parallel loops are ordered by the stride of the first write and
// collapsed where every operand allows it; blocks of consecutive points go through the body together.
//
//   map          block over the parallel loops                        -> write
//   column form  block over the parallel loops, all reduction points  -> elementwise into a block of accumulators
//   row form     one parallel point, blocks over the reduction loops  -> folded into one accumulator
//
// Floats of a sum or product accumulate in f64 (f32 and f64) or f32 (narrower ones) and are rounded once at the end: a
// reference should not add its own error. Work is cut by the kernel alone, so results do not depend on threads.
#include "base/Error.h"
#include "base/Parallel.h"
#include "graph/CombineOf.h"
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "numerics/Strided.h"
#include "target/host/Layouts.h"
#include "target/host/Operation.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace quadrille::host {

using namespace graph;

namespace {

constexpr int64_t blockLength = 512;
constexpr unsigned maxLoops = 64; // more would be a malformed kernel

// One dimension of a padded read: its index is offset + sum of coefficient * loop.
struct PaddedDimension {
  int64_t extent = 0, stride = 0, offset = 0;
  llvm::SmallVector<int64_t, 8> coefficients; // one for each ordered loop
};

// A read or an `initial` read over the ordered loops.
struct Access {
  ElementType type = ElementType::f32;
  int64_t base = 0;                      // elements
  llvm::SmallVector<int64_t, 8> strides; // elements for each ordered loop
  std::vector<PaddedDimension> padded;   // empty: every index lies inside
  uint64_t paddingBits = 0;
};

struct OrderedLoop {
  int64_t extent = 0;
  llvm::SmallVector<std::pair<unsigned, int64_t>, 2> originals; // (loop, divisor): index = (i / divisor) % its extent
};

struct WriteForm {
  ElementType type = ElementType::f32; // of the value
  ElementType bodyType = ElementType::f32;
  ElementType accumulator = ElementType::f32;
  Combiner combiner = Combiner::None;
  int64_t base = 0;
  llvm::SmallVector<int64_t, 8> strides;
  std::optional<uint64_t> initialBits; // in `accumulator`
  std::optional<unsigned> initial;     // index into accesses
};

ElementType accumulatorOf(ElementType type, Combiner combiner) {
  if (!isFloat(type) || (combiner != Combiner::Sum && combiner != Combiner::Product))
    return type;
  return bitWidth(type) >= 32 ? ElementType::f64 : ElementType::f32;
}

// The body with every loop_index replaced by a further i64 read, so that loops can be reordered and collapsed.
BlockExpression withoutLoopIndices(const BlockExpression &body, std::vector<unsigned> &loops) {
  BlockExpression result = body;
  for (BlockInstruction &instruction : result.instructions) {
    if (instruction.opcode != BlockOpcode::LoopIndex)
      continue;
    unsigned loop = static_cast<unsigned>(instruction.immediate);
    auto found = llvm::find(loops, loop);
    if (found == loops.end()) {
      loops.push_back(loop);
      result.inputs.push_back(ElementType::i64);
      found = std::prev(loops.end());
    }
    instruction.opcode = BlockOpcode::Input;
    instruction.immediate = body.inputs.size() + static_cast<size_t>(found - loops.begin());
  }
  return result;
}

// A float contraction outside the fast paths: exact products, summed in f64.
BlockExpression exactProduct(const Contraction &contraction, const BlockExpression &body) {
  BlockExpression result;
  result.inputs = body.inputs;
  auto operand = [&](unsigned read) {
    Register input = result.append(BlockOpcode::Input, body.inputs[read], {}, read);
    return body.inputs[read] == ElementType::f64 ? input
                                                 : result.append(BlockOpcode::Convert, ElementType::f64, {input});
  };
  Register lhs = operand(contraction.lhs), rhs = operand(contraction.rhs);
  result.results = {result.append(BlockOpcode::Multiply, ElementType::f64, {lhs, rhs})};
  return result;
}

// A position in a nest of loops that moves by runs along the innermost loop.
struct Odometer {
  llvm::ArrayRef<OrderedLoop> loops;
  llvm::SmallVector<int64_t, 8> index;

  Odometer(llvm::ArrayRef<OrderedLoop> loops, int64_t point) : loops(loops), index(loops.size()) {
    for (size_t l = loops.size(); l-- > 0;) {
      int64_t extent = std::max<int64_t>(loops[l].extent, 1);
      index[l] = point % extent;
      point /= extent;
    }
  }
  void advance(int64_t count) { // count does not pass the end of the innermost loop
    if (loops.empty())
      return;
    size_t l = loops.size() - 1;
    index[l] += count;
    while (index[l] == loops[l].extent && l > 0) {
      index[l] = 0;
      ++index[--l];
    }
  }
  int64_t innermostLeft() const { return loops.empty() ? 1 : loops.back().extent - index.back(); }
};

class StructuredOperation final : public RangedOperation {
public:
  llvm::Error prepare(const KernelGraph &graph, const Kernel &kernel, llvm::ArrayRef<Layout> layouts);
  llvm::Error run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) override;
  void runRange(int64_t begin, int64_t end, llvm::ArrayRef<const std::byte *> reads,
                llvm::ArrayRef<std::byte *> writes) const override {
    if (rowForm && reductionPoints > 0)
      runRows(begin, end, reads, writes);
    else
      runColumns(begin, end, reads, writes);
  }

private:
  struct Worker;
  void collapse(size_t first, size_t &count);
  void runColumns(int64_t begin, int64_t end, llvm::ArrayRef<const std::byte *> reads,
                  llvm::ArrayRef<std::byte *> writes) const;
  void runRows(int64_t begin, int64_t end, llvm::ArrayRef<const std::byte *> reads,
               llvm::ArrayRef<std::byte *> writes) const;
  void runSplitRow(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) const;
  void foldRow(Worker &worker, llvm::ArrayRef<int64_t> outer, int64_t begin, int64_t end,
               llvm::ArrayRef<const std::byte *> reads, std::byte *accumulators) const;
  void startAccumulators(const Odometer &at, int64_t count, llvm::ArrayRef<const std::byte *> reads,
                         llvm::ArrayRef<std::byte *> accumulators, std::byte *temporary) const;

  llvm::ArrayRef<OrderedLoop> parallelLoops() const { return llvm::ArrayRef(loops).take_front(parallel); }
  llvm::ArrayRef<OrderedLoop> reductionLoops() const { return llvm::ArrayRef(loops).drop_front(parallel); }

  std::vector<int64_t> extents;   // of the kernel's loops
  std::vector<OrderedLoop> loops; // parallel ones, then reductions
  size_t parallel = 0;
  std::vector<Access> accesses; // the kernel's reads, then the initial reads
  size_t readCount = 0;
  std::vector<unsigned> indexLoops; // loops whose index the body reads
  std::vector<WriteForm> forms;
  std::optional<BlockEvaluator> evaluator;
  int64_t parallelPoints = 1, reductionPoints = 1;
  bool reduces = false, rowForm = false, identity = false;

  void gather(const Access &access, const std::byte *data, llvm::ArrayRef<int64_t> outer, const Odometer &at,
              size_t firstLoop, int64_t count, std::byte *destination) const;
  BlockEvaluator::Operand operand(const Access &access, const std::byte *data, llvm::ArrayRef<int64_t> outer,
                                  const Odometer &at, size_t firstLoop, int64_t count, std::byte *buffer) const;
  void evaluateBlock(Worker &worker, llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<int64_t> outer,
                     const Odometer &at, size_t firstLoop, int64_t count,
                     llvm::ArrayRef<BlockEvaluator::Output> outputs) const;
};

// One block of up to 8-byte elements; not initialised, as every element is written before it is read.
class BlockBuffer {
public:
  std::byte *bytes() { return reinterpret_cast<std::byte *>(words.get()); }

private:
  std::unique_ptr<uint64_t[]> words = std::make_unique_for_overwrite<uint64_t[]>(blockLength);
};

// One thread's buffers.
struct StructuredOperation::Worker {
  explicit Worker(const StructuredOperation &operation)
      : scratch(*operation.evaluator), operands(operation.readCount + operation.indexLoops.size()),
        results(operation.forms.size()), accumulators(operation.forms.size()) {}
  BlockEvaluator::Scratch scratch;
  std::vector<BlockBuffer> operands, results, accumulators;
  BlockBuffer temporary;
};

} // namespace

llvm::Error StructuredOperation::prepare(const KernelGraph &graph, const Kernel &kernel,
                                         llvm::ArrayRef<Layout> layouts) {
  auto stridesOfValue = [&](ValueId value) {
    return stridesOf(graph.values[value], layouts.empty() ? Layout::Plain : layouts[value]);
  };
  if (kernel.loops.size() > maxLoops)
    return userError("kernel '" + kernel.operation + "' has " + llvm::Twine(kernel.loops.size()) + " loops");
  for (const Loop &loop : kernel.loops)
    extents.push_back(loop.extent);
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  bool floats = isFloat(graph.values[kernel.writes[0].value].type);
  BlockExpression body =
      withoutLoopIndices(contraction && floats ? exactProduct(*contraction, kernel.body) : kernel.body, indexLoops);
  identity = body.isIdentity();

  // Order: parallel loops by falling stride of the first write, so that it is written front to back.
  const Write &first = kernel.writes[0];
  Shape firstStrides = stridesOfValue(first.value);
  llvm::SmallVector<unsigned> order;
  for (bool reduction : {false, true}) {
    size_t begin = order.size();
    for (auto [l, loop] : llvm::enumerate(kernel.loops))
      if (loop.reduction == reduction && loop.extent != 1)
        order.push_back(static_cast<unsigned>(l));
    if (!reduction) {
      llvm::stable_sort(llvm::make_range(order.begin() + begin, order.end()), [&](unsigned a, unsigned b) {
        return strideAlong(first.map, firstStrides, a) > strideAlong(first.map, firstStrides, b);
      });
      parallel = order.size();
    } else {
      const Read *widest = nullptr; // the read that varies along the most reduction loops decides
      for (const Read &read : kernel.reads)
        if (!widest || graph.values[read.value].data.valid() < graph.values[widest->value].data.valid())
          widest = &read;
      if (widest) {
        Shape strides = stridesOfValue(widest->value);
        llvm::stable_sort(llvm::make_range(order.begin() + begin, order.end()), [&](unsigned a, unsigned b) {
          return std::abs(strideAlong(widest->map, strides, a)) > std::abs(strideAlong(widest->map, strides, b));
        });
      }
    }
  }
  for (unsigned l : order)
    loops.push_back({kernel.loops[l].extent, {{l, 1}}});

  auto addAccess = [&](const Read &read) {
    const Value &value = graph.values[read.value];
    Shape strides = stridesOfValue(read.value);
    Access access;
    access.type = value.type;
    access.base = baseOf(read.map, strides);
    for (unsigned l : order)
      access.strides.push_back(strideAlong(read.map, strides, l));
    if (read.padding) {
      access.paddingBits = read.padding->bits;
      for (auto [d, dimension] : llvm::enumerate(read.map)) {
        IndexRange range = indexRange(dimension, kernel.loops);
        if (range.first >= 0 && range.last < value.shape[d])
          continue;
        PaddedDimension padded{value.shape[d], strides[d], dimension.offset, {}};
        for (unsigned l : order)
          padded.coefficients.push_back(coefficientOf(dimension, l));
        access.padded.push_back(std::move(padded));
      }
    }
    accesses.push_back(std::move(access));
  };
  for (const Read &read : kernel.reads)
    addAccess(read);
  readCount = accesses.size();
  reduces = llvm::any_of(kernel.writes, [](const Write &write) { return write.combiner != Combiner::None; });
  for (auto [w, write] : llvm::enumerate(kernel.writes)) {
    WriteForm form;
    form.type = graph.values[write.value].type;
    form.bodyType = body.instructions[body.results[w]].type;
    form.combiner = write.combiner;
    form.accumulator = accumulatorOf(form.type, write.combiner);
    Shape strides = stridesOfValue(write.value);
    form.base = baseOf(write.map, strides);
    for (unsigned l : order)
      form.strides.push_back(strideAlong(write.map, strides, l));
    if (write.initial) {
      form.initial = static_cast<unsigned>(accesses.size());
      addAccess(*write.initial);
    } else if (reduces) {
      if (write.initialScalar) {
        uint64_t bits = 0;
        convert(write.initialScalar->type, &write.initialScalar->bits, form.accumulator, &bits, 1);
        form.initialBits = bits;
      } else {
        form.initialBits = neutralBits(combineOf(write.combiner), form.accumulator);
      }
    }
    forms.push_back(std::move(form));
  }

  size_t reductions = loops.size() - parallel;
  collapse(0, parallel);
  collapse(parallel, reductions);
  for (const OrderedLoop &loop : parallelLoops())
    parallelPoints *= loop.extent;
  for (const OrderedLoop &loop : reductionLoops())
    reductionPoints *= loop.extent;

  // Rows when the parallel points are few or lie far apart while the reduction runs along memory.
  if (reduces && reductionPoints > 1 && parallel < loops.size()) {
    auto farApart = [&](size_t loop) {
      return llvm::any_of(llvm::ArrayRef(accesses).take_front(readCount),
                          [&](const Access &access) { return std::abs(access.strides[loop]) > 4; });
    };
    bool columnsFit = parallel > 0 && loops[parallel - 1].extent >= 8 && !farApart(parallel - 1);
    rowForm = !columnsFit && (parallelPoints < 64 || !farApart(loops.size() - 1));
    if (parallelPoints < 8 && reductionPoints > 4096)
      rowForm = true;
  }

  llvm::Expected<BlockEvaluator> compiled = BlockEvaluator::compile(body);
  if (!compiled)
    return compiled.takeError();
  evaluator = std::move(*compiled);
  return llvm::Error::success();
}

// Joins neighbouring loops of [first, first + count) where every access steps through both as through one.
void StructuredOperation::collapse(size_t first, size_t &count) {
  auto joins = [&](size_t outer) {
    int64_t extent = loops[outer + 1].extent;
    auto through = [&](llvm::ArrayRef<int64_t> strides) { return strides[outer] == strides[outer + 1] * extent; };
    for (const Access &access : accesses) {
      if (!through(access.strides))
        return false;
      for (const PaddedDimension &dimension : access.padded)
        if (dimension.coefficients[outer] != 0 || dimension.coefficients[outer + 1] != 0)
          return false;
    }
    return llvm::all_of(forms, [&](const WriteForm &form) { return through(form.strides); });
  };
  for (size_t l = first; l + 1 < first + count;) {
    if (!joins(l)) {
      ++l;
      continue;
    }
    int64_t inner = loops[l + 1].extent;
    OrderedLoop joined{loops[l].extent * inner, {}};
    for (auto [original, divisor] : loops[l].originals)
      joined.originals.push_back({original, divisor * inner});
    joined.originals.append(loops[l + 1].originals.begin(), loops[l + 1].originals.end());
    loops[l] = joined;
    loops.erase(loops.begin() + l + 1);
    for (Access &access : accesses) {
      access.strides.erase(access.strides.begin() + l);
      for (PaddedDimension &dimension : access.padded)
        dimension.coefficients.erase(dimension.coefficients.begin() + l);
    }
    for (WriteForm &form : forms)
      form.strides.erase(form.strides.begin() + l);
    --count;
  }
}

// Dense elements of `count` points from `at` on, which walks the loops from firstLoop on; the other loops stand at
// `outer` (parallel loops before firstLoop, or reduction loops after those of `at`).
void StructuredOperation::gather(const Access &access, const std::byte *data, llvm::ArrayRef<int64_t> outer,
                                 const Odometer &start, size_t firstLoop, int64_t count, std::byte *destination) const {
  size_t width = byteWidth(access.type);
  size_t outerLoop = firstLoop == 0 ? start.loops.size() : 0; // where the loops of `outer` begin
  Odometer at = start;
  int64_t outerOffset = access.base;
  for (auto [l, index] : llvm::enumerate(outer))
    outerOffset += index * access.strides[outerLoop + l];
  bool any = !at.loops.empty();
  size_t innermost = any ? firstLoop + at.loops.size() - 1 : 0;
  int64_t step = any ? access.strides[innermost] : 0;
  while (count > 0) {
    int64_t run = std::min(count, at.innermostLeft());
    int64_t offset = outerOffset;
    for (auto [l, index] : llvm::enumerate(at.index))
      offset += index * access.strides[firstLoop + l];
    // The part [low, high) of the run whose indices lie inside.
    int64_t low = 0, high = run;
    for (const PaddedDimension &dimension : access.padded) {
      int64_t index = dimension.offset;
      for (auto [l, i] : llvm::enumerate(outer))
        index += i * dimension.coefficients[outerLoop + l];
      for (auto [l, i] : llvm::enumerate(at.index))
        index += i * dimension.coefficients[firstLoop + l];
      int64_t c = any ? dimension.coefficients[innermost] : 0;
      if (c == 0) {
        if (index < 0 || index >= dimension.extent)
          high = 0;
      } else if (c > 0) { // 0 <= index + c * i < extent
        low = std::max(low, index >= 0 ? 0 : (-index + c - 1) / c);
        high = std::min(high, index >= dimension.extent ? 0 : (dimension.extent - index + c - 1) / c);
      } else {
        low = std::max(low, index < dimension.extent ? 0 : (index - dimension.extent) / -c + 1);
        high = std::min(high, index < 0 ? 0 : index / -c + 1);
      }
    }
    low = std::min(low, run);
    high = std::max(low, high);
    if (low > 0)
      fillElements(destination, access.paddingBits, width, low);
    if (high > low) {
      const std::byte *from = data + (offset + low * step) * static_cast<int64_t>(width);
      std::byte *to = destination + static_cast<size_t>(low) * width;
      if (step == 0) {
        uint64_t bits = 0;
        std::memcpy(&bits, from, width);
        fillElements(to, bits, width, high - low);
      } else {
        gatherStrided(to, from, step, width, high - low);
      }
    }
    if (run > high)
      fillElements(destination + static_cast<size_t>(high) * width, access.paddingBits, width, run - high);
    destination += static_cast<size_t>(run) * width;
    count -= run;
    if (count > 0)
      at.advance(run);
  }
}

// The elements where they lie if they form one run, else gathered into `buffer`.
BlockEvaluator::Operand StructuredOperation::operand(const Access &access, const std::byte *data,
                                                     llvm::ArrayRef<int64_t> outer, const Odometer &at,
                                                     size_t firstLoop, int64_t count, std::byte *buffer) const {
  bool oneRun = count <= at.innermostLeft();
  bool constant = llvm::all_of(llvm::ArrayRef(access.strides).slice(firstLoop, at.loops.size()),
                               [](int64_t stride) { return stride == 0; });
  if (access.padded.empty() && (oneRun || constant)) {
    size_t outerLoop = firstLoop == 0 ? at.loops.size() : 0;
    int64_t offset = access.base;
    for (auto [l, index] : llvm::enumerate(outer))
      offset += index * access.strides[outerLoop + l];
    for (auto [l, index] : llvm::enumerate(at.index))
      offset += index * access.strides[firstLoop + l];
    int64_t stride = at.loops.empty() ? 0 : access.strides[firstLoop + at.loops.size() - 1];
    return {data + offset * static_cast<int64_t>(byteWidth(access.type)), stride};
  }
  gather(access, data, outer, at, firstLoop, count, buffer);
  return {buffer, 1};
}

void StructuredOperation::evaluateBlock(Worker &worker, llvm::ArrayRef<const std::byte *> reads,
                                        llvm::ArrayRef<int64_t> outer, const Odometer &at, size_t firstLoop,
                                        int64_t count, llvm::ArrayRef<BlockEvaluator::Output> outputs) const {
  llvm::SmallVector<BlockEvaluator::Operand, 8> operands;
  for (size_t r = 0; r < readCount; ++r)
    operands.push_back(operand(accesses[r], reads[r], outer, at, firstLoop, count, worker.operands[r].bytes()));
  for (auto [i, original] : llvm::enumerate(indexLoops)) {
    auto *indices = reinterpret_cast<int64_t *>(worker.operands[readCount + i].bytes());
    operands.push_back({indices, 1});
    std::fill_n(indices, count, 0); // loops of extent 1
    size_t outerLoop = firstLoop == 0 ? at.loops.size() : 0;
    for (size_t l = 0; l < loops.size(); ++l)
      for (auto [loop, divisor] : loops[l].originals) {
        if (loop != original)
          continue;
        if (l >= outerLoop && l < outerLoop + outer.size()) {
          std::fill_n(indices, count, (outer[l - outerLoop] / divisor) % extents[loop]);
          continue;
        }
        Odometer position = at;
        for (int64_t done = 0; done < count;) {
          int64_t run = std::min(count - done, position.innermostLeft());
          bool innermost = l == firstLoop + at.loops.size() - 1;
          for (int64_t j = 0; j < run; ++j)
            indices[done + j] = ((position.index[l - firstLoop] + (innermost ? j : 0)) / divisor) % extents[loop];
          done += run;
          if (done < count)
            position.advance(run);
        }
      }
  }
  evaluator->evaluate(operands, outputs, count, {}, worker.scratch);
}

void StructuredOperation::startAccumulators(const Odometer &at, int64_t count, llvm::ArrayRef<const std::byte *> reads,
                                            llvm::ArrayRef<std::byte *> accumulators, std::byte *temporary) const {
  llvm::SmallVector<int64_t, 8> noReduction(loops.size() - parallel, 0);
  for (auto [w, form] : llvm::enumerate(forms)) {
    if (!form.initial) {
      fillElements(accumulators[w], form.initialBits.value_or(0), byteWidth(form.accumulator), count);
      continue;
    }
    const Access &access = accesses[*form.initial];
    bool same = access.type == form.accumulator;
    gather(access, reads[*form.initial], noReduction, at, 0, count, same ? accumulators[w] : temporary);
    if (!same)
      convert(access.type, temporary, form.accumulator, accumulators[w], static_cast<size_t>(count));
  }
}

// Maps and the column form, for the parallel points [begin, end).
void StructuredOperation::runColumns(int64_t begin, int64_t end, llvm::ArrayRef<const std::byte *> reads,
                                     llvm::ArrayRef<std::byte *> writes) const {
  Worker worker(*this);
  llvm::SmallVector<std::byte *, 4> accumulators;
  for (BlockBuffer &buffer : worker.accumulators)
    accumulators.push_back(buffer.bytes());
  bool longRows = parallel > 0 && loops[parallel - 1].extent >= 64;
  Odometer at(parallelLoops(), begin);
  for (int64_t point = begin; point < end;) {
    int64_t count = std::min(end - point, blockLength);
    if (longRows)
      count = std::min(count, at.innermostLeft());

    // Where each write takes the block's elements: in place when they are one run.
    llvm::SmallVector<BlockEvaluator::Output, 4> places;
    bool oneRun = count <= at.innermostLeft();
    auto offsetOf = [&](const WriteForm &form, const Odometer &position) {
      int64_t offset = form.base;
      for (auto [l, index] : llvm::enumerate(position.index))
        offset += index * form.strides[l];
      return offset;
    };
    auto store = [&](size_t w, const std::byte *from) {
      const WriteForm &form = forms[w];
      size_t width = byteWidth(form.type);
      Odometer position = at;
      for (int64_t done = 0; done < count;) {
        int64_t run = std::min(count - done, position.innermostLeft());
        int64_t stride = parallel == 0 ? 1 : form.strides[parallel - 1];
        scatterStrided(writes[w] + offsetOf(form, position) * static_cast<int64_t>(width), stride,
                       from + static_cast<size_t>(done) * width, width, run);
        done += run;
        if (done < count)
          position.advance(run);
      }
    };

    if (!reduces) {
      llvm::SmallVector<bool, 4> direct;
      for (auto [w, form] : llvm::enumerate(forms)) {
        bool inPlace = form.type == form.bodyType && oneRun;
        direct.push_back(inPlace);
        if (inPlace)
          places.push_back({writes[w] + offsetOf(form, at) * static_cast<int64_t>(byteWidth(form.type)),
                            parallel == 0 ? 1 : form.strides[parallel - 1]});
        else
          places.push_back({worker.results[w].bytes(), 1});
      }
      if (identity && direct[0] && places[0].stride == 1 && forms.size() == 1)
        gather(accesses[0], reads[0], {}, at, 0, count, static_cast<std::byte *>(places[0].data));
      else
        evaluateBlock(worker, reads, {}, at, 0, count, places);
      for (size_t w = 0; w < forms.size(); ++w)
        if (!direct[w])
          store(w, worker.results[w].bytes());
    } else {
      startAccumulators(at, count, reads, accumulators, worker.temporary.bytes());
      for (BlockBuffer &buffer : worker.results)
        places.push_back({buffer.bytes(), 1});
      Odometer reduction(reductionLoops(), 0);
      for (int64_t r = 0; r < reductionPoints; ++r) {
        evaluateBlock(worker, reads, reduction.index, at, 0, count, places);
        for (auto [w, form] : llvm::enumerate(forms)) {
          const void *result = places[w].data;
          if (form.bodyType != form.accumulator) {
            convert(form.bodyType, result, form.accumulator, worker.temporary.bytes(), static_cast<size_t>(count));
            result = worker.temporary.bytes();
          }
          if (form.combiner == Combiner::None)
            std::memcpy(accumulators[w], result, static_cast<size_t>(count) * byteWidth(form.accumulator));
          else
            combineElementwise(combineOf(form.combiner), form.accumulator, accumulators[w], result, count);
        }
        if (r + 1 < reductionPoints)
          reduction.advance(1);
      }
      for (auto [w, form] : llvm::enumerate(forms)) {
        const std::byte *result = accumulators[w];
        if (form.accumulator != form.type) {
          convert(form.accumulator, result, form.type, worker.temporary.bytes(), static_cast<size_t>(count));
          result = worker.temporary.bytes();
        }
        store(w, result);
      }
    }
    point += count;
    if (point < end) {
      for (int64_t left = count; left > 0;) {
        int64_t run = std::min(left, at.innermostLeft());
        at.advance(run);
        left -= run;
      }
    }
  }
}

// Folds the reduction points [begin, end) of one parallel point into `accumulators` (8 bytes for each write).
void StructuredOperation::foldRow(Worker &worker, llvm::ArrayRef<int64_t> outer, int64_t begin, int64_t end,
                                  llvm::ArrayRef<const std::byte *> reads, std::byte *accumulators) const {
  llvm::SmallVector<BlockEvaluator::Output, 4> places;
  for (BlockBuffer &buffer : worker.results)
    places.push_back({buffer.bytes(), 1});
  bool longRows = loops.back().extent >= 64;
  Odometer at(reductionLoops(), begin);
  for (int64_t point = begin; point < end;) {
    int64_t count = std::min(end - point, blockLength);
    if (longRows)
      count = std::min(count, at.innermostLeft());
    // What is only folded is folded from where it lies.
    BlockEvaluator::Operand own = {places[0].data, 1};
    if (identity)
      own = operand(accesses[0], reads[0], outer, at, parallel, count, worker.operands[0].bytes());
    bool isAligned = reinterpret_cast<uintptr_t>(own.data) % byteWidth(forms[0].bodyType) == 0; // weights may not be
    if (!identity || own.stride != 1 || !isAligned) {
      evaluateBlock(worker, reads, outer, at, parallel, count, places);
      own = {places[0].data, 1};
    }
    for (auto [w, form] : llvm::enumerate(forms)) {
      const void *result = identity ? own.data : places[w].data;
      if (form.bodyType != form.accumulator) {
        convert(form.bodyType, result, form.accumulator, worker.temporary.bytes(), static_cast<size_t>(count));
        result = worker.temporary.bytes();
      }
      combineInto(combineOf(form.combiner), form.accumulator, accumulators + 8 * w, result, 1, count);
    }
    point += count;
    if (point < end)
      for (int64_t left = count; left > 0;) {
        int64_t run = std::min(left, at.innermostLeft());
        at.advance(run);
        left -= run;
      }
  }
}

void StructuredOperation::runRows(int64_t begin, int64_t end, llvm::ArrayRef<const std::byte *> reads,
                                  llvm::ArrayRef<std::byte *> writes) const {
  Worker worker(*this);
  llvm::SmallVector<uint64_t, 4> accumulators(forms.size());
  llvm::SmallVector<std::byte *, 4> places;
  for (uint64_t &accumulator : accumulators)
    places.push_back(reinterpret_cast<std::byte *>(&accumulator));
  Odometer at(parallelLoops(), begin);
  for (int64_t point = begin; point < end; ++point) {
    startAccumulators(at, 1, reads, places, worker.temporary.bytes());
    foldRow(worker, at.index, 0, reductionPoints, reads, reinterpret_cast<std::byte *>(accumulators.data()));
    for (auto [w, form] : llvm::enumerate(forms)) {
      int64_t offset = form.base;
      for (auto [l, index] : llvm::enumerate(at.index))
        offset += index * form.strides[l];
      convert(form.accumulator, &accumulators[w], form.type,
              writes[w] + offset * static_cast<int64_t>(byteWidth(form.type)), 1);
    }
    if (point + 1 < end)
      at.advance(1);
  }
}

// Few parallel points with long reductions: each reduction is cut into fixed parts, which are combined in order.
void StructuredOperation::runSplitRow(llvm::ArrayRef<const std::byte *> reads,
                                      llvm::ArrayRef<std::byte *> writes) const {
  constexpr int64_t partLength = 1 << 15;
  int64_t parts = (reductionPoints + partLength - 1) / partLength;
  std::vector<uint64_t> partial(static_cast<size_t>(parallelPoints * parts) * forms.size());
  parallelFor(parallelPoints * parts, 1, [&](int64_t begin, int64_t end) {
    Worker worker(*this);
    for (int64_t i = begin; i < end; ++i) {
      Odometer at(parallelLoops(), i / parts);
      uint64_t *accumulators = &partial[static_cast<size_t>(i) * forms.size()];
      for (auto [w, form] : llvm::enumerate(forms))
        accumulators[w] = neutralBits(combineOf(form.combiner), form.accumulator);
      int64_t from = (i % parts) * partLength;
      foldRow(worker, at.index, from, std::min(from + partLength, reductionPoints), reads,
              reinterpret_cast<std::byte *>(accumulators));
    }
  });
  llvm::SmallVector<uint64_t, 4> accumulators(forms.size());
  llvm::SmallVector<std::byte *, 4> places;
  for (uint64_t &accumulator : accumulators)
    places.push_back(reinterpret_cast<std::byte *>(&accumulator));
  uint64_t temporary = 0;
  for (int64_t point = 0; point < parallelPoints; ++point) {
    Odometer at(parallelLoops(), point);
    startAccumulators(at, 1, reads, places, reinterpret_cast<std::byte *>(&temporary));
    for (auto [w, form] : llvm::enumerate(forms)) {
      for (int64_t part = 0; part < parts; ++part)
        combineInto(combineOf(form.combiner), form.accumulator, &accumulators[w],
                    &partial[static_cast<size_t>(point * parts + part) * forms.size() + w], 1, 1);
      int64_t offset = form.base;
      for (auto [l, index] : llvm::enumerate(at.index))
        offset += index * form.strides[l];
      convert(form.accumulator, &accumulators[w], form.type,
              writes[w] + offset * static_cast<int64_t>(byteWidth(form.type)), 1);
    }
  }
}

llvm::Error StructuredOperation::run(llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
  if (parallelPoints == 0)
    return llvm::Error::success();
  if (rowForm && reductionPoints > 0) {
    if (parallelPoints < 8 && reductionPoints >= (1 << 16)) {
      runSplitRow(reads, writes);
      return llvm::Error::success();
    }
    int64_t grain = std::max<int64_t>(1, 16384 / reductionPoints);
    parallelFor(parallelPoints, grain, [&](int64_t begin, int64_t end) { runRows(begin, end, reads, writes); });
    return llvm::Error::success();
  }
  // About 32 Ki element operations for each range, whole blocks.
  int64_t blocks = std::max<int64_t>(1, 32768 / (blockLength * std::max<int64_t>(1, reductionPoints)));
  int64_t grain = blocks * blockLength;
  if (reductionPoints > 64 && parallelPoints < 4 * blockLength)
    grain = 64;
  parallelFor(parallelPoints, grain, [&](int64_t begin, int64_t end) { runColumns(begin, end, reads, writes); });
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<RangedOperation>> compileStructured(const KernelGraph &graph, const Kernel &kernel,
                                                                   llvm::ArrayRef<Layout> layouts) {
  auto operation = std::make_unique<StructuredOperation>();
  if (llvm::Error error = operation->prepare(graph, kernel, layouts))
    return std::move(error);
  return std::unique_ptr<RangedOperation>(std::move(operation));
}

} // namespace quadrille::host
