// Operators that move elements without computing: shapes, slices, joins, permutations.
#include "graph/import/Window.h"

#include "numerics/Convert.h"

#include <algorithm>
#include <numeric>

namespace quadrille::graph::importer {

static void identity(OperatorContext &c) {
  c.result(c.operand(0));
}

// An operand that is a tensor is one that is there. Optionals themselves are not had.
static void optionalHasElement(OperatorContext &c) {
  uint8_t there = c.optional(0) ? 1 : 0;
  c.result(c.constant(Tensor::of<uint8_t>(ElementType::boolean, {}, {there})));
}

// A shape that stands in the file and whose leading extent is neither the batch nor left open fixes the batch.
static void refuseFixedBatch(OperatorContext &c, TensorRef x, llvm::ArrayRef<int64_t> target) {
  TensorRef shape = c.optional(1);
  bool stored = !shape || shape->stored;
  if (c.batch > 1 && x->batched && stored && !target.empty() && target[0] > 0 && target[0] != c.batch)
    refuse("the model's batch is fixed here: the shape " + shapeText(target) + " begins with " +
               llvm::Twine(target[0]) + " where the batch of " + llvm::Twine(c.batch) + " should stand",
           "leave out --batch, or export the model with a dynamic batch");
}

static void reshape(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.ignoreAttribute("consumed_inputs");
  std::vector<int64_t> target = c.opset < 5 ? c.integerList("shape") : c.knownIntegers(1, "shape");
  bool allowZero = c.opset >= 14 && c.flag("allowzero");
  refuseFixedBatch(c, x, target);
  Shape shape;
  int64_t known = 1, open = -1;
  for (size_t d = 0; d < target.size(); ++d) {
    int64_t extent = target[d];
    if (extent == 0 && !allowZero) {
      if (d >= static_cast<size_t>(x.rank()))
        refuse("the shape " + shapeText(target) + " copies dimension " + llvm::Twine(d) + " of " +
               shapeText(x.shape()));
      extent = x.dim(static_cast<int64_t>(d));
    } else if (extent == -1) {
      if (open >= 0)
        refuse("the shape " + shapeText(target) + " holds -1 twice");
      open = static_cast<int64_t>(d);
      extent = 1;
    } else if (extent < 0) {
      refuse("the shape " + shapeText(target) + " holds " + llvm::Twine(extent));
    }
    shape.push_back(extent);
  }
  known = product(shape);
  if (open >= 0) {
    if (known == 0 || x.elements() % known != 0)
      refuse("the shape " + shapeText(target) + " does not divide the " + llvm::Twine(x.elements()) +
             " elements of shape " + shapeText(x.shape()));
    shape[open] = x.elements() / known;
  } else if (known != x.elements()) {
    refuse("the shape " + shapeText(target) + " has " + llvm::Twine(known) + " elements, the operand of shape " +
           shapeText(x.shape()) + " has " + llvm::Twine(x.elements()));
  }
  c.result(c.reshape(x, shape));
}

static void flatten(OperatorContext &c) {
  TensorRef x = c.operand(0);
  int64_t axis = c.integer("axis", 1);
  if (axis < 0)
    axis += x.rank();
  if (axis < 0 || axis > x.rank())
    refuse("axis does not fit the operand of rank " + llvm::Twine(x.rank()));
  c.result(c.reshape(
      x, {product(llvm::ArrayRef(x.shape()).take_front(axis)), product(llvm::ArrayRef(x.shape()).drop_front(axis))}));
}

static void squeeze(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::optional<std::vector<int64_t>> axes = c.integersFrom("axes", 1);
  Shape shape;
  if (!axes) {
    for (int64_t extent : x.shape())
      if (extent != 1)
        shape.push_back(extent);
  } else {
    std::vector<int64_t> normal = normalAxes(*axes, x.rank());
    for (int64_t axis = 0; axis < x.rank(); ++axis) {
      if (!llvm::is_contained(normal, axis))
        shape.push_back(x.dim(axis));
      else if (x.dim(axis) != 1)
        refuse("dimension " + llvm::Twine(axis) + " of " + shapeText(x.shape()) + " is not 1");
    }
  }
  c.result(c.reshape(x, shape));
}

static void unsqueeze(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::optional<std::vector<int64_t>> axes = c.integersFrom("axes", 1);
  if (!axes)
    refuse("axes are missing");
  std::vector<int64_t> normal = normalAxes(*axes, x.rank() + static_cast<int64_t>(axes->size()));
  Shape shape = x.shape();
  for (int64_t axis : normal)
    shape.insert(shape.begin() + axis, 1);
  c.result(c.reshape(x, shape));
}

static void transpose(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::vector<int64_t> reversed(x.rank());
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  std::vector<int64_t> permutation = c.integerList("perm", reversed);
  std::vector<int64_t> sorted = permutation;
  llvm::sort(sorted);
  std::reverse(reversed.begin(), reversed.end());
  if (sorted != reversed)
    refuse("perm " + shapeText(permutation) + " does not permute " + llvm::Twine(x.rank()) + " dimensions");
  c.result(c.transpose(x, permutation));
}

static void concat(OperatorContext &c) {
  std::vector<TensorRef> operands = c.allOperands();
  c.requireSameType(operands);
  int64_t axis = c.opset < 4 ? c.integer("axis", 1) : c.integer("axis");
  axis = normalAxis(axis, operands[0].rank());
  for (TensorRef operand : operands) {
    Shape a = operand.shape(), b = operands[0].shape();
    if (a.size() == b.size())
      a[axis] = b[axis];
    if (a != b)
      refuse("operands of shapes " + shapeText(operands[0].shape()) + " and " + shapeText(operand.shape()) +
             " do not join along axis " + llvm::Twine(axis));
  }
  c.result(c.concat(operands, axis));
}

static void split(OperatorContext &c) {
  TensorRef x = c.operand(0);
  int64_t axis = normalAxis(c.integer("axis", 0), x.rank());
  std::optional<std::vector<int64_t>> lengths = c.integersFrom("split", 1);
  int64_t parts = c.resultCount();
  if (c.opset >= 18 && c.has("num_outputs") && c.integer("num_outputs") != parts)
    refuse("num_outputs is " + llvm::Twine(c.integer("num_outputs")) + " for " + llvm::Twine(parts) + " outputs");
  if (!lengths) {
    int64_t each = (x.dim(axis) + parts - 1) / parts, left = x.dim(axis);
    lengths.emplace();
    for (int64_t i = 0; i < parts; ++i) {
      lengths->push_back(std::min(each, left));
      left -= lengths->back();
    }
    if (c.opset < 18 && lengths->back() != each)
      refuse(llvm::Twine(x.dim(axis)) + " elements do not split into " + llvm::Twine(parts) + " equal parts");
  }
  int64_t total = 0;
  for (int64_t length : *lengths) {
    if (length < 0 || length > x.dim(axis))
      refuse("split " + shapeText(*lengths) + " of " + llvm::Twine(x.dim(axis)) + " elements");
    total += length;
  }
  if (static_cast<int64_t>(lengths->size()) != parts || total != x.dim(axis))
    refuse("split " + shapeText(*lengths) + " of " + llvm::Twine(x.dim(axis)) + " elements into " + llvm::Twine(parts) +
           " outputs");
  std::vector<int64_t> starts(x.rank(), 0);
  for (int64_t i = 0; i < parts; ++i) {
    Shape extents = x.shape();
    extents[axis] = (*lengths)[i];
    c.result(i, c.slice(x, starts, extents));
    starts[axis] += extents[axis];
  }
}

// numpy's slicing; starts and ends beyond the tensor are clamped. Attributes until operator set 9.
static void slice(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::vector<int64_t> starts, ends, axes, steps;
  if (c.opset < 10) {
    starts = c.integerList("starts");
    ends = c.integerList("ends");
    axes = c.integerList("axes");
  } else {
    starts = c.knownIntegers(1, "starts");
    ends = c.knownIntegers(2, "ends");
    if (c.optional(3))
      axes = c.knownIntegers(3, "axes");
    if (c.optional(4))
      steps = c.knownIntegers(4, "steps");
  }
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (steps.empty())
    steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size())
    refuse("starts, ends, axes and steps have different lengths");
  std::vector<int64_t> first(x.rank(), 0), step(x.rank(), 1);
  Shape extents = x.shape();
  for (size_t i = 0; i < starts.size(); ++i) {
    int64_t axis = normalAxis(axes[i], x.rank()), extent = x.dim(axis), by = steps[i];
    if (by == 0)
      refuse("a step is 0");
    by = std::clamp<int64_t>(by, -(int64_t(1) << 40), int64_t(1) << 40);
    int64_t start = starts[i] < 0 ? starts[i] + extent : starts[i];
    int64_t end = ends[i] < 0 ? ends[i] + extent : ends[i];
    if (by > 0) {
      start = std::clamp<int64_t>(start, 0, extent);
      end = std::clamp<int64_t>(end, 0, extent);
      extents[axis] = std::max<int64_t>((end - start + by - 1) / by, 0);
    } else {
      start = std::clamp<int64_t>(start, 0, extent - 1);
      end = std::clamp<int64_t>(end, -1, extent - 1);
      extents[axis] = std::max<int64_t>((start - end - by - 1) / -by, 0);
    }
    first[axis] = start;
    step[axis] = by;
  }
  c.result(c.slice(x, first, extents, step));
}

static void expand(OperatorContext &c) {
  TensorRef x = c.operand(0);
  Shape shape = c.knownIntegers(1, "shape");
  for (int64_t extent : shape)
    if (extent < 0)
      refuse("the shape " + shapeText(shape) + " holds " + llvm::Twine(extent));
  c.result(c.broadcast(x, broadcastShapes(x.shape(), shape)));
}

// [a, b] tiled [p, q]: [1, a, 1, b] broadcast to [p, a, q, b].
static void tile(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::vector<int64_t> repeats(x.rank(), 1);
  if (c.opset < 6)
    repeats[normalAxis(c.knownInteger(2, "axis"), x.rank())] = c.knownInteger(1, "tiles");
  else
    repeats = c.knownIntegers(1, "repeats");
  if (static_cast<int64_t>(repeats.size()) != x.rank())
    refuse("repeats " + shapeText(repeats) + " for an operand of shape " + shapeText(x.shape()));
  Shape apart, repeated, joined;
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    if (repeats[axis] < 0)
      refuse("repeats " + shapeText(repeats) + " holds " + llvm::Twine(repeats[axis]));
    if (repeats[axis] != 1) {
      apart.push_back(1);
      repeated.push_back(repeats[axis]);
    }
    apart.push_back(x.dim(axis));
    repeated.push_back(x.dim(axis));
    joined.push_back(product({repeats[axis], x.dim(axis)}));
  }
  c.result(c.reshape(c.broadcast(c.reshape(x, apart), repeated), joined));
}

// Reflection and edges are slices joined to the operand, one axis after another.
static TensorRef mirrored(OperatorContext &c, TensorRef x, int64_t axis, int64_t before, int64_t after,
                          llvm::StringRef mode) {
  int64_t extent = x.dim(axis);
  if (extent == 0)
    refuse("dimension " + llvm::Twine(axis) + " is empty");
  if (before > int64_t(1) << 24 || after > int64_t(1) << 24)
    refuse("padding of " + llvm::Twine(std::max(before, after)) + " elements");
  if (mode == "reflect" && extent > 1 && before < extent && after < extent) {
    std::vector<TensorRef> parts;
    auto part = [&](int64_t start, int64_t count) {
      if (count == 0)
        return;
      std::vector<int64_t> starts(x.rank(), 0), steps(x.rank(), 1);
      Shape extents = x.shape();
      starts[axis] = start;
      extents[axis] = count;
      steps[axis] = -1;
      parts.push_back(c.slice(x, starts, extents, steps));
    };
    part(before, before);
    parts.push_back(x);
    part(extent - 2, after);
    return c.concat(parts, axis);
  }
  // Any other position: by index.
  std::vector<int64_t> indices;
  for (int64_t i = -before; i < extent + after; ++i) {
    int64_t index = std::clamp<int64_t>(i, 0, extent - 1);
    if (mode == "wrap") {
      index = ((i % extent) + extent) % extent;
    } else if (mode == "reflect") {
      int64_t period = std::max<int64_t>(2 * (extent - 1), 1);
      index = ((i % period) + period) % period;
      index = extent == 1 ? 0 : std::min(index, period - index);
    }
    indices.push_back(index);
  }
  return c.gather(x, c.integers(indices), axis);
}

static void pad(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::string mode = c.text("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap")
    refuse("mode is '" + mode + "' instead of constant, reflect, edge or wrap");
  std::vector<int64_t> pads, axes(x.rank());
  std::iota(axes.begin(), axes.end(), 0);
  Scalar value = scalarOf(x.type(), 0);
  if (c.opset < 11) {
    pads = c.opset < 2 ? c.integerList("paddings") : c.integerList("pads");
    value = scalarOf(x.type(), c.real("value", 0.0));
  } else {
    pads = c.knownIntegers(1, "pads");
    if (c.optional(2)) {
      Tensor constant = c.known(2, "constant_value");
      if (constant.elements() != 1 || constant.type() != x.type())
        refuse("constant_value is " + describe(constant.type(), constant.shape()) + " instead of one " +
               nameOf(x.type()));
      value.bits = 0;
      std::memcpy(&value.bits, constant.bytes().data(), constant.byteSize());
    }
    if (c.optional(3)) {
      axes = c.knownIntegers(3, "axes");
      for (int64_t &axis : axes)
        axis = normalAxis(axis, x.rank());
    }
  }
  if (pads.size() != 2 * axes.size())
    refuse("pads " + shapeText(pads) + " for " + llvm::Twine(axes.size()) + " axes");
  std::vector<int64_t> before(x.rank(), 0), after(x.rank(), 0), starts(x.rank(), 0);
  Shape extents = x.shape();
  bool crops = false;
  for (size_t i = 0; i < axes.size(); ++i) {
    before[axes[i]] = pads[i];
    after[axes[i]] = pads[axes.size() + i];
  }
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    if (std::abs(before[axis]) > int64_t(1) << 40 || std::abs(after[axis]) > int64_t(1) << 40)
      refuse("pads " + shapeText(pads));
    starts[axis] = std::max<int64_t>(-before[axis], 0);
    extents[axis] -= starts[axis] + std::max<int64_t>(-after[axis], 0);
    if (extents[axis] < 0)
      refuse("pads " + shapeText(pads) + " remove more than the operand of shape " + shapeText(x.shape()) + " has");
    crops |= before[axis] < 0 || after[axis] < 0;
    before[axis] = std::max<int64_t>(before[axis], 0);
    after[axis] = std::max<int64_t>(after[axis], 0);
  }
  if (crops)
    x = c.slice(x, starts, extents);
  if (mode == "constant")
    return c.result(c.pad(x, before, after, value));
  for (int64_t axis = 0; axis < x.rank(); ++axis)
    if (before[axis] || after[axis])
      x = mirrored(c, x, axis, before[axis], after[axis], mode);
  c.result(x);
}

// The same bits as elements of another type of their width. A bool is a byte, 0 or 1.
static void bitCast(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::optional<ElementType> type = c.elementType("to");
  if (!type)
    refuse("required attribute 'to' is missing");
  auto width = [](ElementType t) { return t == ElementType::boolean ? 8 : bitWidth(t); };
  if (width(x.type()) != width(*type))
    refuse("elements of " + llvm::Twine(width(x.type())) + " bits cannot be seen as " + nameOf(*type));
  bool truth = x.type() == ElementType::boolean || *type == ElementType::boolean;
  c.result(c.map("BitCast", {x}, [&](llvm::ArrayRef<Lane> v) { return truth ? v[0].to(*type) : v[0].bitcast(*type); }));
}

static void cast(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::optional<ElementType> type;
  if (c.operation() == "CastLike") {
    type = c.operand(1).type();
  } else if (c.opset < 6) { // the type was a string
    std::string name = llvm::StringRef(c.text("to")).lower();
    static const std::pair<const char *, ElementType> names[] = {
        {"float", ElementType::f32},  {"float16", ElementType::f16}, {"double", ElementType::f64},
        {"int8", ElementType::i8},    {"int16", ElementType::i16},   {"int32", ElementType::i32},
        {"int64", ElementType::i64},  {"uint8", ElementType::u8},    {"uint16", ElementType::u16},
        {"uint32", ElementType::u32}, {"uint64", ElementType::u64},  {"bool", ElementType::boolean}};
    for (auto [text, element] : names)
      if (name == text)
        type = element;
    if (!type)
      refuse("to is '" + name + "'");
  } else {
    type = c.elementType("to");
    if (!type)
      refuse("required attribute 'to' is missing");
  }
  bool saturate = c.flag("saturate", true);
  if (c.has("round_mode") && c.text("round_mode") != "up")
    refuseUnsupported("round_mode '" + c.text("round_mode") + "'");
  if (x.type() == *type)
    return c.result(x);
  // `saturate` is defined for 8-bit floats only.
  bool clamp = saturate && isFloat(*type) && bitWidth(*type) == 8;
  // Integers of less than a byte take the low bits of the truncated number.
  if (isFloat(x.type()) && isInteger(*type) && bitWidth(*type) < 8)
    return c.result(c.convert(c.convert(x, ElementType::i32), *type));
  if (!clamp)
    return c.result(c.convert(x, *type));
  c.result(c.map("Cast", {x}, [&](llvm::ArrayRef<Lane> in) { return in[0].toSaturating(*type); }));
}

static void depthToSpace(OperatorContext &c) {
  TensorRef x = c.operand(0);
  int64_t block = c.integer("blocksize");
  std::string mode = c.text("mode", "DCR");
  if (x.rank() != 4 || block < 1 || block > 4096 || x.dim(1) % (block * block) != 0 || (mode != "DCR" && mode != "CRD"))
    refuse("operand of shape " + shapeText(x.shape()) + " with blocksize " + llvm::Twine(block) + ", mode " + mode);
  int64_t n = x.dim(0), channels = x.dim(1) / (block * block), h = x.dim(2), w = x.dim(3);
  TensorRef apart = mode == "DCR" ? c.transpose(c.reshape(x, {n, block, block, channels, h, w}), {0, 3, 4, 1, 5, 2})
                                  : c.transpose(c.reshape(x, {n, channels, block, block, h, w}), {0, 1, 4, 2, 5, 3});
  c.result(c.reshape(apart, {n, channels, h * block, w * block}));
}

static void spaceToDepth(OperatorContext &c) {
  TensorRef x = c.operand(0);
  int64_t block = c.integer("blocksize");
  if (c.has("mode") && c.text("mode") != "DCR")
    refuseUnsupported("mode '" + c.text("mode") + "'");
  if (x.rank() != 4 || block < 1 || x.dim(2) % block != 0 || x.dim(3) % block != 0)
    refuse("operand of shape " + shapeText(x.shape()) + " with blocksize " + llvm::Twine(block));
  int64_t n = x.dim(0), channels = x.dim(1), h = x.dim(2) / block, w = x.dim(3) / block;
  TensorRef apart = c.transpose(c.reshape(x, {n, channels, h, block, w, block}), {0, 3, 5, 1, 2, 4});
  c.result(c.reshape(apart, {n, channels * block * block, h, w}));
}

static void centerCropPad(OperatorContext &c) {
  TensorRef x = c.operand(0);
  std::vector<int64_t> shape = c.knownIntegers(1, "shape"), axes(x.rank());
  std::iota(axes.begin(), axes.end(), 0);
  axes = c.integerList("axes", axes);
  if (axes.size() != shape.size())
    refuse("shape " + shapeText(shape) + " for " + llvm::Twine(axes.size()) + " axes");
  std::vector<int64_t> starts(x.rank(), 0), before(x.rank(), 0), after(x.rank(), 0);
  Shape extents = x.shape();
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t axis = normalAxis(axes[i], x.rank()), have = x.dim(axis), want = shape[i];
    if (want < 0)
      refuse("shape " + shapeText(shape) + " holds " + llvm::Twine(want));
    if (want <= have) {
      starts[axis] = (have - want) / 2;
      extents[axis] = want;
    } else {
      before[axis] = (want - have) / 2;
      after[axis] = want - have - before[axis];
    }
  }
  c.result(c.pad(c.slice(x, starts, extents), before, after, scalarOf(x.type(), 0)));
}

// Keeps the elements on and above (below) a diagonal, which compares two index vectors.
static void trilu(OperatorContext &c) {
  TensorRef x = c.operand(0);
  bool upper = c.flag("upper", true);
  int64_t k = c.optional(1) ? c.knownInteger(1, "k") : 0;
  if (x.rank() < 2)
    refuse("operand of shape " + shapeText(x.shape()) + " is no matrix");
  k = std::clamp<int64_t>(k, -(int64_t(1) << 40), int64_t(1) << 40);
  c.result(c.map("Trilu", {x}, [&](llvm::ArrayRef<Lane> in) {
    Lane row = loopIndex(c, static_cast<unsigned>(x.rank() - 2));
    Lane column = loopIndex(c, static_cast<unsigned>(x.rank() - 1));
    Lane diagonal = row + static_cast<double>(k);
    return select(upper ? column >= diagonal : column <= diagonal, in[0], in[0].constant(0));
  }));
}

void addMovement(OperatorTable &table) {
  table.add("Identity", identity);
  table.add("OptionalGetElement", identity);
  table.add("OptionalHasElement", optionalHasElement);
  table.add("Reshape", reshape);
  table.add("Flatten", flatten);
  table.add("Squeeze", squeeze);
  table.add("Unsqueeze", unsqueeze);
  table.add("Transpose", transpose);
  table.add("Concat", concat);
  table.add("Split", split);
  table.add("Slice", slice);
  table.add("Expand", expand);
  table.add("Tile", tile);
  table.add("Pad", pad);
  table.add("Cast", cast);
  table.add("BitCast", bitCast);
  table.add("CastLike", cast);
  table.add("DepthToSpace", depthToSpace);
  table.add("SpaceToDepth", spaceToDepth);
  table.add("CenterCropPad", centerCropPad);
  table.add("Trilu", trilu);
}

} // namespace quadrille::graph::importer
