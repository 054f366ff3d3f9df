#include "target/tsp/TapPlan.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <map>
#include <numeric>

namespace quadrille::tsp {

using graph::Contraction;
using graph::DimensionAccess;
using graph::Kernel;
using graph::KernelGraph;
using graph::Read;

Packing plainPacking(llvm::ArrayRef<int64_t> shape) {
  Packing packing(shape.size(), 1);
  if (!shape.empty())
    packing.back() = shape.back();
  return packing;
}

int64_t lanesOf(const Packing &packing) {
  return std::accumulate(packing.begin(), packing.end(), int64_t(1), std::multiplies<>());
}

bool TapPlan::reaches(const Pass &pass, int64_t firstColumn, int64_t width, int64_t piecesWidth) const {
  if (channels.size() == 1)
    return true; // channels that mix have weights for all columns
  int64_t first = pass.piece * piecesWidth + pass.lane;
  for (const Taps &tap : taps[pass.taps])
    for (const Channel &channel : channels) {
      auto inside = [](int64_t place, int64_t from, int64_t count) { return place >= from && place < from + count; };
      if (llvm::any_of(
              lanes,
              [&](const Offset &lane) { return inside(tap.lane + channel.lane + lane.place, first, pass.height); }) &&
          llvm::any_of(columns, [&](const Offset &column) {
            return inside(tap.column + channel.column + column.place, firstColumn, width);
          }))
        return true;
    }
  return false;
}

int64_t TapPlan::mostHeight() const {
  int64_t most = 0;
  for (const Batch &batch : batches)
    for (const Pass &pass : batch.passes)
      most = std::max(most, pass.height);
  return most;
}

size_t TapPlan::tiles() const {
  size_t count = 0;
  for (const Batch &batch : batches)
    count += batch.passes.size();
  return count;
}

int64_t TapPlan::vectors(int64_t vectorLanes) const {
  int64_t count = 0;
  for (const Batch &batch : batches)
    for (const Pass &pass : batch.passes) {
      int64_t reached = 0;
      for (int64_t column = 0; column < resultColumns; column += vectorLanes)
        reached += reaches(pass, column, std::min(vectorLanes, resultColumns - column), vectorLanes);
      for (int32_t row : pass.rows)
        count += row >= 0 ? reached : 0;
    }
  return count;
}

std::vector<int64_t> TapPlan::elementsOf(const Batch &batch, const Pass &pass, int64_t firstColumn, int64_t width,
                                         int64_t piecesWidth) const {
  std::vector<int64_t> elements(pass.height * width, -1);
  int64_t first = pass.piece * piecesWidth + pass.lane;
  for (const Taps &tap : taps[pass.taps])
    for (const Channel &channel : channels)
      for (const Offset &lane : lanes) {
        int64_t row = tap.lane + channel.lane + lane.place - first;
        if (row < 0 || row >= pass.height)
          continue;
        for (const Offset &column : columns) {
          int64_t to = tap.column + channel.column + column.place - firstColumn;
          if (to >= 0 && to < width)
            elements[row * width + to] = batch.element + tap.element + channel.element + lane.element + column.element;
        }
      }
  return elements;
}

namespace {

// Elements between neighbours along a loop of an operand.
int64_t strideOf(const KernelGraph &graph, const Read &read, unsigned loop) {
  return graph::strideAlong(read.map, rowMajorStrides(graph.values[read.value].shape), loop);
}

// Numbers of all points of some loops, the first outermost: sums of multiples.
std::vector<int64_t> pointsOf(const Kernel &kernel, llvm::ArrayRef<unsigned> loops,
                              llvm::function_ref<int64_t(unsigned loop)> stride) {
  std::vector<int64_t> points = {0};
  for (unsigned loop : loops) {
    std::vector<int64_t> next;
    for (int64_t point : points)
      for (int64_t i = 0; i < kernel.loops[loop].extent; ++i)
        next.push_back(point + i * stride(loop));
    points = std::move(next);
  }
  return points;
}

// Cuts the used lanes of a vector into tiles.
struct Window {
  int64_t piece, lane, height;
};
std::vector<Window> windowsOf(const std::vector<bool> &used, const TapOptions &options) {
  std::vector<Window> windows;
  auto count = static_cast<int64_t>(used.size());
  for (int64_t first = 0; first < count; first += options.vectorLanes) {
    int64_t end = std::min(count, first + options.vectorLanes), lane = first;
    while (true) {
      while (lane < end && !used[lane])
        ++lane;
      if (lane == end)
        break;
      int64_t begin = first + (lane - first) / options.superlane * options.superlane;
      int64_t last = std::min(end, begin + options.mostHeight);
      lane = last;
      while (!used[last - 1])
        --last;
      windows.push_back({first / options.vectorLanes, begin - first, last - begin});
    }
  }
  return windows;
}

// A dimension of the first operand that is walked, at least in part, by rows.
struct Walked {
  int64_t rowStride = 0, rowCount = 1; // of the operand's rows
  int64_t laneStride = 0, inLanes = 1; // of its lanes
  std::optional<unsigned> output, tap; // loops
  int64_t stride = 0, dilation = 0, offset = 0;
  int64_t resultInLanes = 1, columnStride = 0; // of the result's dimension of the output loop
  int64_t resultRowStride = 0, resultRowCount = 1;
  int64_t period = 1, rowsEach = 0; // classes of the result's rows; rows of the operand from one of a class to the next
  struct Slot {
    int64_t row; // of the operand, from that of the class's base
    struct Entry {
      int64_t place, tap, lane; // digits
    };
    std::vector<Entry> entries;
  };
  std::vector<std::vector<Slot>> slots; // by class
};

int64_t floorDivide(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}

void findSlots(const Kernel &kernel, Walked &walked) {
  int64_t step = walked.resultInLanes * walked.stride; // of the operand's index, from one row of the result to the next
  bool several = walked.output && walked.resultRowCount > 1; // rows of the result
  walked.period = several && step % walked.inLanes != 0 ? walked.inLanes / std::gcd(step, walked.inLanes) : 1;
  walked.rowsEach = walked.period * step / walked.inLanes;
  int64_t taps = walked.tap ? kernel.loops[*walked.tap].extent : 1;
  // Few rows are not of all classes.
  for (int64_t each = 0; each < std::min(walked.period, walked.resultRowCount); ++each) {
    std::map<int64_t, Walked::Slot> found;
    for (int64_t place = 0; place < walked.resultInLanes; ++place)
      for (int64_t tap = 0; tap < taps; ++tap) {
        int64_t index = (each * walked.resultInLanes + place) * walked.stride + tap * walked.dilation + walked.offset;
        int64_t row = floorDivide(index, walked.inLanes);
        Walked::Slot &slot = found[row];
        slot.row = row;
        slot.entries.push_back({place, tap, index - row * walked.inLanes});
      }
    std::vector<Walked::Slot> slots;
    for (auto &[row, slot] : found)
      slots.push_back(std::move(slot));
    walked.slots.push_back(std::move(slots));
  }
}

} // namespace

std::optional<TapPlan> planTaps(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction,
                                const Packing &lhsPacking, const Packing &resultPacking, const TapOptions &options) {
  const Read &lhs = kernel.reads[contraction.lhs], &rhs = kernel.reads[contraction.rhs];
  const Shape &shape = graph.values[lhs.value].shape, &result = graph.values[kernel.writes[0].value].shape;
  auto isBatch = [&](unsigned loop) { return llvm::is_contained(contraction.batch, loop); };
  // The result's dimensions.
  std::vector<std::optional<size_t>> dimensionOf(kernel.loops.size());
  for (auto [d, access] : llvm::enumerate(kernel.writes[0].map))
    if (!access.terms.empty())
      dimensionOf[access.terms[0].first] = d;
  std::vector<int64_t> resultColumnStride(result.size()), resultRowStride(result.size());
  int64_t columns = 1, resultRows = 1;
  for (size_t d = result.size(); d-- > 0;) {
    resultColumnStride[d] = columns;
    resultRowStride[d] = resultRows;
    columns *= resultPacking[d];
    resultRows *= result[d] / resultPacking[d];
  }
  TapPlan plan;
  plan.resultColumns = columns;
  // What only the second operand has is columns, or rows of the result with weights of their own.
  constexpr int64_t mostWeights = 16; // of few columns each
  llvm::SmallVector<unsigned, 4> columnLoops, batchLoops;
  int64_t weights = 1;
  for (unsigned loop : contraction.n) {
    int64_t extent = kernel.loops[loop].extent;
    if (extent > 1 && dimensionOf[loop] && resultPacking[*dimensionOf[loop]] == 1 && weights * extent <= mostWeights) {
      batchLoops.push_back(loop);
      weights *= extent;
    } else if (extent > 1 && (!dimensionOf[loop] || resultPacking[*dimensionOf[loop]] != extent))
      return std::nullopt;
    else
      columnLoops.push_back(loop);
  }
  std::vector<int64_t> columnElements =
      pointsOf(kernel, columnLoops, [&](unsigned loop) { return strideOf(graph, rhs, loop); });
  std::vector<int64_t> columnPlaces = pointsOf(kernel, columnLoops, [&](unsigned loop) {
    return dimensionOf[loop] ? resultColumnStride[*dimensionOf[loop]] : 0;
  });
  for (auto [place, element] : llvm::zip(columnPlaces, columnElements))
    plan.columns.push_back({place, element});

  // Channels that do not mix, where both the operand's and the result's vectors hold all of them.
  std::vector<bool> apart(kernel.loops.size());
  llvm::SmallVector<unsigned, 2> apartLoops;
  for (unsigned loop : contraction.batch) {
    if (kernel.loops[loop].extent == 1 || !dimensionOf[loop] ||
        resultPacking[*dimensionOf[loop]] != result[*dimensionOf[loop]])
      continue;
    apart[loop] = true;
    for (size_t d = 0; d < shape.size(); ++d)
      if (graph::coefficientOf(lhs.map[d], loop) != 0)
        apart[loop] = apart[loop] && lhsPacking[d] == shape[d];
    if (apart[loop])
      apartLoops.push_back(loop);
  }

  // The first operand's dimensions: walked ones, and those of the k loops that lie in the lanes.
  std::vector<Walked> walked;
  std::vector<unsigned> inLanes;
  std::vector<int64_t> laneStrideOfLoop(kernel.loops.size());
  struct BatchOffset {
    unsigned loop;
    int64_t lanes, rows;
  };
  std::vector<BatchOffset> batchOffsets;
  int64_t laneStride = 1, rowStride = 1, lanesAtZero = 0;
  for (size_t d = shape.size(); d-- > 0;) {
    const DimensionAccess &access = lhs.map[d];
    int64_t ownLanes = laneStride, ownRows = rowStride;
    laneStride *= lhsPacking[d];
    rowStride *= shape[d] / lhsPacking[d];
    bool whole = lhsPacking[d] == shape[d];
    Walked dimension;
    dimension.laneStride = ownLanes;
    dimension.inLanes = lhsPacking[d];
    dimension.rowStride = ownRows;
    dimension.rowCount = shape[d] / lhsPacking[d];
    dimension.offset = access.offset;
    for (auto [loop, coefficient] : access.terms) {
      if (apart[loop]) {
        laneStrideOfLoop[loop] += coefficient * ownLanes;
      } else if (isBatch(loop)) {
        // Batches take whole rows, or whole dimensions in the lanes.
        if (whole && shape[d] > 1)
          batchOffsets.push_back({loop, coefficient * ownLanes, 0});
        else if (lhsPacking[d] == 1)
          batchOffsets.push_back({loop, 0, coefficient * ownRows});
        else
          return std::nullopt;
      } else if (kernel.loops[loop].reduction) {
        if (dimension.tap)
          return std::nullopt;
        dimension.tap = loop;
        dimension.dilation = coefficient;
      } else {
        if (dimension.output)
          return std::nullopt;
        dimension.output = loop;
        dimension.stride = coefficient;
      }
    }
    graph::IndexRange range = graph::indexRange(access, kernel.loops);
    bool inside = range.first >= 0 && range.last < shape[d];
    if (!inside && !lhs.padding)
      return std::nullopt;
    bool batched = llvm::any_of(access.terms, [&](auto term) { return isBatch(term.first); });
    if (whole && !dimension.output && inside) {
      lanesAtZero += access.offset * ownLanes;
      if (dimension.tap) {
        inLanes.insert(inLanes.begin(), *dimension.tap);
        laneStrideOfLoop[*dimension.tap] = dimension.dilation * ownLanes;
      }
      continue;
    }
    if (batched && dimension.output)
      return std::nullopt;
    if (dimension.output) {
      auto to = dimensionOf[*dimension.output];
      if (to) {
        dimension.resultInLanes = resultPacking[*to];
        dimension.columnStride = resultColumnStride[*to];
        dimension.resultRowStride = resultRowStride[*to];
        dimension.resultRowCount = result[*to] / resultPacking[*to];
      }
    }
    findSlots(kernel, dimension);
    walked.push_back(std::move(dimension));
  }
  std::reverse(walked.begin(), walked.end());
  for (unsigned loop : contraction.m)
    if (kernel.loops[loop].extent > 1 && llvm::none_of(walked, [&](const Walked &each) { return each.output == loop; }))
      return std::nullopt;
  std::vector<int64_t> laneElements =
      pointsOf(kernel, inLanes, [&](unsigned loop) { return strideOf(graph, rhs, loop); });
  std::vector<int64_t> lanePlaces = pointsOf(kernel, inLanes, [&](unsigned loop) { return laneStrideOfLoop[loop]; });
  for (auto [place, element] : llvm::zip(lanePlaces, laneElements))
    plan.lanes.push_back({place, element});
  int64_t lhsColumns = laneStride;
  plan.channels.clear();
  auto lanesOfChannel = [&](unsigned loop) { return laneStrideOfLoop[loop]; };
  auto columnsOfChannel = [&](unsigned loop) { return resultColumnStride[*dimensionOf[loop]]; };
  for (auto [lane, column, element] :
       llvm::zip(pointsOf(kernel, apartLoops, lanesOfChannel), pointsOf(kernel, apartLoops, columnsOfChannel),
                 pointsOf(kernel, apartLoops, [&](unsigned loop) { return strideOf(graph, rhs, loop); })))
    plan.channels.push_back({lane, column, element});

  // Classes of rows, and the slots of each class: of all walked dimensions together.
  auto product = [](llvm::ArrayRef<size_t> counts) {
    std::vector<std::vector<size_t>> all = {{}};
    for (size_t count : counts) {
      std::vector<std::vector<size_t>> next;
      for (const std::vector<size_t> &each : all)
        for (size_t i = 0; i < count; ++i) {
          next.push_back(each);
          next.back().push_back(i);
        }
      all = std::move(next);
    }
    return all;
  };
  std::vector<size_t> classCounts;
  for (const Walked &dimension : walked)
    classCounts.push_back(dimension.slots.size());
  std::vector<std::vector<size_t>> classes = product(classCounts);
  // Batches, one after the other.
  for (unsigned loop : contraction.batch)
    if (!apart[loop])
      batchLoops.push_back(loop);
  int64_t batches = 1;
  for (unsigned loop : batchLoops)
    batches *= kernel.loops[loop].extent;
  int64_t base = graph::baseOf(rhs.map, rowMajorStrides(graph.values[rhs.value].shape));
  for (int64_t number = 0; number < batches; ++number) {
    TapPlan::Batch batch;
    batch.element = base;
    std::vector<int64_t> point(kernel.loops.size());
    int64_t left = number, firstResult = 0;
    for (unsigned loop : llvm::reverse(batchLoops)) {
      point[loop] = left % kernel.loops[loop].extent;
      left /= kernel.loops[loop].extent;
      batch.element += point[loop] * strideOf(graph, rhs, loop);
      if (kernel.loops[loop].extent == 1)
        continue;
      if (!dimensionOf[loop] || resultPacking[*dimensionOf[loop]] != 1)
        return std::nullopt;
      firstResult += point[loop] * resultRowStride[*dimensionOf[loop]];
    }
    int64_t lanesOfBatch = lanesAtZero, rowsOfBatch = 0;
    for (const BatchOffset &offset : batchOffsets) {
      lanesOfBatch += point[offset.loop] * offset.lanes;
      rowsOfBatch += point[offset.loop] * offset.rows;
    }
    for (const std::vector<size_t> &of : classes) {
      TapPlan::Batch part = batch;
      // Its rows of the result, and for each the digits of the walked dimensions.
      std::vector<std::vector<int64_t>> digits = {{}};
      std::vector<size_t> slotCounts;
      for (auto [w, dimension] : llvm::enumerate(walked)) {
        slotCounts.push_back(dimension.slots[of[w]].size());
        std::vector<std::vector<int64_t>> next;
        for (const std::vector<int64_t> &each : digits)
          for (auto i = static_cast<int64_t>(of[w]); i < dimension.resultRowCount; i += dimension.period) {
            next.push_back(each);
            next.back().push_back(i);
          }
        digits = std::move(next);
      }
      auto rowOf = [&](const std::vector<int64_t> &each) {
        int64_t row = firstResult;
        for (auto [dimension, digit] : llvm::zip(walked, each))
          row += digit * dimension.resultRowStride;
        return row;
      };
      llvm::sort(digits, [&](const auto &a, const auto &b) { return rowOf(a) < rowOf(b); });
      for (const std::vector<int64_t> &each : digits)
        part.resultRows.push_back(static_cast<int32_t>(rowOf(each)));
      for (const std::vector<size_t> &slots : product(slotCounts)) {
        std::vector<TapPlan::Taps> taps = {{lanesOfBatch, 0, 0}};
        for (auto [w, dimension] : llvm::enumerate(walked)) {
          std::vector<TapPlan::Taps> next;
          int64_t elements = dimension.tap ? strideOf(graph, rhs, *dimension.tap) : 0;
          for (const TapPlan::Taps &tap : taps)
            for (const Walked::Slot::Entry &entry : dimension.slots[of[w]][slots[w]].entries)
              next.push_back({tap.lane + entry.lane * dimension.laneStride,
                              tap.column + entry.place * dimension.columnStride, tap.element + entry.tap * elements});
          taps = std::move(next);
        }
        std::vector<bool> used(lhsColumns);
        for (const TapPlan::Taps &tap : taps)
          for (const TapPlan::Channel &channel : plan.channels)
            for (const TapPlan::Offset &lane : plan.lanes)
              used[tap.lane + channel.lane + lane.place] = true;
        std::vector<int32_t> rows;
        for (const std::vector<int64_t> &each : digits) {
          int64_t row = rowsOfBatch;
          bool inside = true;
          for (auto [w, dimension] : llvm::enumerate(walked)) {
            int64_t at = each[w] / dimension.period * dimension.rowsEach + dimension.slots[of[w]][slots[w]].row;
            inside &= at >= 0 && at < dimension.rowCount;
            row += at * dimension.rowStride;
          }
          rows.push_back(inside ? static_cast<int32_t>(row) : TapPlan::padding);
        }
        if (llvm::all_of(rows, [](int32_t row) { return row < 0; }) && (!lhs.padding || lhs.padding->bits == 0))
          continue; // zeros add nothing
        plan.taps.push_back(std::move(taps));
        for (const Window &window : windowsOf(used, options))
          part.passes.push_back(
              {window.piece, window.lane, window.height, static_cast<uint32_t>(plan.taps.size() - 1), rows});
      }
      if (part.passes.empty())
        return std::nullopt; // nothing but padding
      plan.batches.push_back(std::move(part));
    }
  }
  return plan;
}

TapPlan planMatrixTaps(const KernelGraph &graph, const Kernel &kernel, const Contraction &contraction,
                       const TapOptions &options) {
  const Read &rhs = kernel.reads[contraction.rhs];
  llvm::SmallVector<unsigned, 4> rowLoops = contraction.m, depthLoops = contraction.k;
  for (const Contraction::Window &window : contraction.windows) {
    rowLoops.push_back(window.output);
    depthLoops.push_back(window.tap);
  }
  auto stride = [&](unsigned loop) { return strideOf(graph, rhs, loop); };
  TapPlan plan;
  for (auto [i, element] : llvm::enumerate(pointsOf(kernel, depthLoops, stride)))
    plan.lanes.push_back({static_cast<int64_t>(i), element});
  for (auto [i, element] : llvm::enumerate(pointsOf(kernel, contraction.n, stride)))
    plan.columns.push_back({static_cast<int64_t>(i), element});
  plan.resultColumns = static_cast<int64_t>(plan.columns.size());
  plan.taps = {{{}}};
  int64_t rows = 1, row = 0;
  for (unsigned loop : rowLoops)
    rows *= kernel.loops[loop].extent;
  int64_t base = graph::baseOf(rhs.map, rowMajorStrides(graph.values[rhs.value].shape));
  for (int64_t element : pointsOf(kernel, contraction.batch, stride)) {
    TapPlan::Batch batch;
    batch.element = base + element;
    for (int64_t i = 0; i < rows; ++i)
      batch.resultRows.push_back(static_cast<int32_t>(row++));
    for (const Window &window : windowsOf(std::vector<bool>(plan.lanes.size(), true), options))
      batch.passes.push_back({window.piece, window.lane, window.height, 0, batch.resultRows});
    plan.batches.push_back(std::move(batch));
  }
  return plan;
}

} // namespace quadrille::tsp
