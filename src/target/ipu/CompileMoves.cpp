// Kernels that only move elements and are no affine access: reshapes, concatenations, slices put into others.
#include "target/ipu/CompilerState.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cassert>

namespace quadrille::ipu {

using graph::AccessMap;
using graph::Kernel;
using graph::ValueId;

namespace {

// Extents whose products make up the extents of both shapes, and how many of them each dimension has; nothing where
// dimensions of the one straddle those of the other.
struct CommonDigits {
  Shape extents;
  std::vector<std::vector<unsigned>> from, to; // digits by dimension
};
std::optional<CommonDigits> commonDigits(llvm::ArrayRef<int64_t> from, llvm::ArrayRef<int64_t> to) {
  CommonDigits digits;
  digits.from.resize(from.size());
  digits.to.resize(to.size());
  size_t f = 0, t = 0;
  int64_t left = 1, right = 1; // of the current dimensions
  while (true) {
    while (left == 1 && f < from.size())
      left = from[f++];
    while (right == 1 && t < to.size())
      right = to[t++];
    if (left == 1 || right == 1)
      break;
    // From the slow end: the quotient is the inner part of the longer one.
    int64_t outer = std::min(left, right);
    if (std::max(left, right) % outer != 0)
      return std::nullopt;
    auto number = static_cast<unsigned>(digits.extents.size());
    digits.extents.push_back(outer);
    digits.from[f - 1].push_back(number);
    digits.to[t - 1].push_back(number);
    left /= outer;
    right /= outer;
  }
  return digits;
}

AccessMap mapOf(const std::vector<std::vector<unsigned>> &dimensions, llvm::ArrayRef<int64_t> extents) {
  AccessMap map;
  for (const std::vector<unsigned> &digits : dimensions) {
    graph::DimensionAccess access;
    int64_t weight = 1;
    for (unsigned digit : llvm::reverse(digits)) {
      access.terms.insert(access.terms.begin(), {digit, weight});
      weight *= extents[digit];
    }
    map.push_back(std::move(access));
  }
  return map;
}

} // namespace

void CompilerState::reshape(const Kernel &kernel) {
  ValueId from = kernel.reads[0].value, to = kernel.writes[0].value;
  Shape fromShape = graph.values[from].shape, toShape = graph.values[to].shape;
  if (viewAs(from, to))
    return;
  if (commonDigits(fromShape, toShape))
    return reshapeInto(from, to);
  ValueId flat = temporary(graph.values[from].type, {elementCount(fromShape)}, graph.values[from].name);
  reshapeInto(from, flat);
  reshapeInto(flat, to);
}

bool CompilerState::viewAs(ValueId from, ValueId to) {
  // Where only dimensions of extent 1 come and go, the value is the same.
  const Shape &fromShape = graph.values[from].shape, &toShape = graph.values[to].shape;
  auto longOnes = [](const Shape &shape) {
    llvm::SmallVector<unsigned, 6> dims;
    for (auto [d, extent] : llvm::enumerate(shape))
      if (extent > 1)
        dims.push_back(static_cast<unsigned>(d));
    return dims;
  };
  auto a = longOnes(fromShape), b = longOnes(toShape);
  if (a.size() != b.size() || !llvm::all_of(llvm::zip(a, b), [&](auto pair) {
        return fromShape[std::get<0>(pair)] == toShape[std::get<1>(pair)];
      }))
    return false;
  const Home home = homeOf(from);
  Layout layout = home.layout;
  layout.shape = toShape;
  layout.splits.assign(toShape.size(), Split());
  layout.arrangement.dimensions.assign(toShape.size(), Arrangement::Dimension());
  std::map<unsigned, unsigned> renamed;
  for (auto [x, y] : llvm::zip(a, b)) {
    renamed[x] = y;
    layout.splits[y] = home.layout.splits[x];
    layout.arrangement.dimensions[y] = home.layout.arrangement.dimensions[x];
  }
  layout.order.dimensions.clear();
  for (unsigned d : home.layout.order.dimensions)
    if (renamed.contains(d))
      layout.order.dimensions.push_back(renamed[d]);
  for (unsigned d = 0; d < toShape.size(); ++d)
    if (toShape[d] <= 1)
      layout.order.dimensions.insert(layout.order.dimensions.begin(), d);
  if (std::optional<unsigned> grouped = home.layout.order.grouped) {
    if (!renamed.contains(*grouped))
      return false; // a group of one element
    layout.order.grouped = renamed[*grouped];
  }
  homes[to] = Home{std::move(layout), home.buffer};
  return true;
}

void CompilerState::reshapeInto(ValueId from, ValueId to) {
  CommonDigits digits = *commonDigits(graph.values[from].shape, graph.values[to].shape);
  Task task;
  for (int64_t extent : digits.extents)
    task.loops.push_back({extent, false});
  ElementType type = graph.values[from].type;
  task.reads.push_back({from, mapOf(digits.from, digits.extents), std::nullopt});
  graph::Write write;
  write.value = to;
  write.map = mapOf(digits.to, digits.extents);
  task.writes.push_back(std::move(write));
  task.body.inputs = {type};
  task.body.results = {task.body.append(BlockOpcode::Input, type)};
  this->task(std::move(task));
}

void CompilerState::copyInto(ValueId from, ValueId to, llvm::ArrayRef<int64_t> offsets, llvm::ArrayRef<int64_t> steps,
                             VertexSet &set) {
  const Home home = *homes[to];
  const Shape &shape = graph.values[from].shape;
  if (elementCount(shape) == 0)
    return;
  // Of each tile's part of the result, what comes from here.
  std::vector<Wanted> wanted;
  std::vector<Box> parts;
  home.layout.forEachPart([&](uint32_t tile, const Box &part) {
    Box box;
    for (size_t d = 0; d < shape.size(); ++d) {
      int64_t first = ceilDivide(std::max<int64_t>(0, part[d].begin - offsets[d]), steps[d]);
      int64_t last = part[d].end - 1 - offsets[d] < 0 ? -1 : (part[d].end - 1 - offsets[d]) / steps[d];
      box.push_back({first, std::min(last + 1, shape[d])});
    }
    if (isEmpty(box))
      return;
    wanted.push_back({tile, box});
    parts.push_back(part);
  });
  if (wanted.empty())
    return;
  Operand operand = bring(from, wanted, std::nullopt, false);
  int64_t width = widthOf(to);
  const Arrangement &there = arrangements.emplace_back(home.layout.arrangement);
  for (auto [held, each, part] : llvm::zip_equal(operand, wanted, parts)) {
    // Both in coordinates of the operand: the result's part begins at its offset, and its strides are steps apart.
    Box to;
    Arrangement stepped = there;
    int64_t base = 0;
    for (size_t d = 0; d < shape.size(); ++d) {
      int64_t index = each.box[d].begin * steps[d] + offsets[d] - part[d].begin;
      Arrangement::Dimension &dimension = stepped.dimensions[d];
      if (dimension.group == 1) {
        base += index * dimension.outer;
        dimension.outer *= steps[d];
        dimension.inner *= steps[d];
        to.push_back({each.box[d].begin, each.box[d].end});
        continue;
      }
      assert(steps[d] == 1 && "results of slices have no groups");
      to.push_back({each.box[d].begin - index, each.box[d].end});
    }
    for (const Walk &walk : walksOf(each.box, *held.arrangement, held.box, stepped, to))
      set.copy(each.tile, width, held.buffer, walk.from * width, home.buffer, (base + walk.to) * width, walk);
  }
}

void CompilerState::concat(const Kernel &kernel) {
  ValueId to = kernel.writes[0].value;
  auto axis = static_cast<size_t>(*graph::integerAttribute(kernel, "axis"));
  placeLike(to, kernel.reads[0].value, axis);
  std::vector<int64_t> offsets(graph.values[to].shape.size()), steps(offsets.size(), 1);
  VertexSet set(*this);
  for (const graph::Read &read : kernel.reads) {
    copyInto(read.value, to, offsets, steps, set);
    offsets[axis] += graph.values[read.value].shape[axis];
  }
  flush();
  set.execute("concatenate");
}

void CompilerState::insertSlice(const Kernel &kernel) {
  ValueId source = kernel.reads[0].value, destination = kernel.reads[1].value, to = kernel.writes[0].value;
  auto list = [&](const char *name) { return std::get<std::vector<int64_t>>(kernel.attributes.at(name)); };
  std::vector<int64_t> offsets = list("offsets"), steps = list("strides");
  placeLike(to, destination, std::nullopt);
  size_t rank = graph.values[to].shape.size();
  VertexSet whole(*this), slice(*this);
  copyInto(destination, to, std::vector<int64_t>(rank), std::vector<int64_t>(rank, 1), whole);
  flush();
  whole.execute("copy");
  copyInto(source, to, offsets, steps, slice);
  flush();
  slice.execute("insert");
}

void CompilerState::placeLike(ValueId id, ValueId like, std::optional<size_t> joined) {
  // Evenly over the tiles, in the order of what it comes from where that has one.
  Layout layout = layoutFor(graph.values[id].type, graph.values[id].shape);
  if (const auto &home = homes[like]) {
    layout.order = home->layout.order;
    // Groups stay whole where parts begin at whole groups.
    if (joined || home->layout.order.grouped)
      layout.order.grouped.reset(), layout.order.group = 1;
  }
  layout.spread(machine.tiles);
  place(id, std::move(layout));
}

} // namespace quadrille::ipu
