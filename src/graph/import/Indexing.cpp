// Gathers and scatters.
#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

static TensorRef indicesOf(OperatorContext &c, unsigned operand) {
  TensorRef indices = c.operand(operand);
  if (indices.type() != ElementType::i32 && indices.type() != ElementType::i64)
    refuse("indices of type " + nameOf(indices.type()) + " instead of i32 or i64");
  return indices;
}

// One known index is a slice.
static void gather(OperatorContext &c) {
  TensorRef data = c.operand(0), indices = indicesOf(c, 1);
  int64_t axis = normalAxis(c.integer("axis", 0), data.rank()), extent = data.dim(axis);
  if (indices.known() && indices.elements() == 1) {
    int64_t index = valuesOf<int64_t>(indices.constant())[0];
    if (index < -extent || index >= extent)
      refuse("index " + llvm::Twine(index) + " lies outside the " + llvm::Twine(extent) + " elements of axis " +
             llvm::Twine(axis));
    std::vector<int64_t> starts(data.rank(), 0);
    Shape extents = data.shape(), shape = data.shape();
    starts[axis] = index < 0 ? index + extent : index;
    extents[axis] = 1;
    shape.erase(shape.begin() + axis);
    shape.insert(shape.begin() + axis, indices.shape().begin(), indices.shape().end());
    return c.result(c.reshape(c.slice(data, starts, extents), shape));
  }
  c.result(c.gather(data, indices, axis));
}

static void gatherElements(OperatorContext &c) {
  TensorRef data = c.operand(0), indices = indicesOf(c, 1);
  int64_t axis = normalAxis(c.integer("axis", 0), data.rank());
  if (indices.rank() != data.rank())
    refuse("indices of shape " + shapeText(indices.shape()) + " for data of shape " + shapeText(data.shape()));
  for (int64_t d = 0; d < data.rank(); ++d)
    if (d != axis && indices.dim(d) > data.dim(d))
      refuse("indices of shape " + shapeText(indices.shape()) + " for data of shape " + shapeText(data.shape()));
  c.result(c.gatherElements(data, indices, axis));
}

static void gatherNd(OperatorContext &c) {
  TensorRef data = c.operand(0), indices = indicesOf(c, 1);
  int64_t batch = c.integer("batch_dims", 0);
  if (indices.rank() < 1 || batch < 0 || batch >= indices.rank() || batch + indices.dim(-1) > data.rank())
    refuse("indices of shape " + shapeText(indices.shape()) + " for data of shape " + shapeText(data.shape()) +
           " with batch_dims " + llvm::Twine(batch));
  for (int64_t d = 0; d < batch; ++d)
    if (indices.dim(d) != data.dim(d))
      refuse("batch dimensions of " + shapeText(indices.shape()) + " and " + shapeText(data.shape()) + " differ");
  c.result(c.gatherNd(data, indices, batch));
}

static Combiner reductionOf(OperatorContext &c) {
  std::string reduction = c.text("reduction", "none");
  static const std::pair<const char *, Combiner> names[] = {{"none", Combiner::None},
                                                            {"add", Combiner::Sum},
                                                            {"mul", Combiner::Product},
                                                            {"min", Combiner::Minimum},
                                                            {"max", Combiner::Maximum}};
  for (auto [name, combiner] : names)
    if (reduction == name)
      return combiner;
  refuse("reduction is '" + reduction + "' instead of none, add, mul, min or max");
}

static void scatterElements(OperatorContext &c) {
  TensorRef data = c.operand(0), indices = indicesOf(c, 1), updates = c.operand(2);
  c.requireSameType({data, updates});
  int64_t axis = normalAxis(c.integer("axis", 0), data.rank());
  if (indices.shape() != updates.shape() || indices.rank() != data.rank())
    refuse("indices of shape " + shapeText(indices.shape()) + " and updates of shape " + shapeText(updates.shape()) +
           " for data of shape " + shapeText(data.shape()));
  c.result(c.scatterElements(data, indices, updates, axis, reductionOf(c)));
}

static void scatterNd(OperatorContext &c) {
  TensorRef data = c.operand(0), indices = indicesOf(c, 1), updates = c.operand(2);
  c.requireSameType({data, updates});
  Shape expected;
  if (indices.rank() >= 1 && indices.dim(-1) <= data.rank()) {
    expected.assign(indices.shape().begin(), indices.shape().end() - 1);
    expected.insert(expected.end(), data.shape().begin() + indices.dim(-1), data.shape().end());
  }
  if (indices.rank() < 1 || indices.dim(-1) > data.rank() || updates.shape() != expected)
    refuse("indices of shape " + shapeText(indices.shape()) + " and updates of shape " + shapeText(updates.shape()) +
           " for data of shape " + shapeText(data.shape()));
  c.result(c.scatterNd(data, indices, updates, reductionOf(c)));
}

// One at the index along a new axis. Indices count from the end where negative; those outside give only `off`.
static void oneHot(OperatorContext &c) {
  TensorRef indices = c.operand(0), values = c.operand(2);
  std::vector<double> depthValue = valuesOf<double>(c.known(1, "depth"));
  if (depthValue.size() != 1 || depthValue[0] < 0 || depthValue[0] > 1e12)
    refuse("depth is not one number from 0 on");
  int64_t depth = static_cast<int64_t>(depthValue[0]);
  int64_t axis = normalAxis(c.integer("axis", -1), indices.rank() + 1);
  if (values.rank() != 1 || values.dim(0) != 2)
    refuse("values of shape " + shapeText(values.shape()) + " instead of [2]");
  Nest nest;
  nest.operation = "one_hot";
  AccessMap map;
  for (int64_t d = 0, from = 0; d <= indices.rank(); ++d) {
    nest.loops.push_back({d == axis ? depth : indices.dim(from), false});
    if (d != axis) {
      map.push_back(at(static_cast<unsigned>(d)));
      ++from;
    }
  }
  nest.write = identityAccess(nest.loops.size());
  nest.reads = {{indices, map}, {values, {fixed(0)}}, {values, {fixed(1)}}};
  c.result(c.nest(nest, [&](llvm::ArrayRef<Lane> in) {
    Lane index = in[0].to(ElementType::i64);
    index = select(index < 0.0, index + static_cast<double>(depth), index);
    return select(index == loopIndex(c, static_cast<unsigned>(axis)), in[2], in[1]);
  }));
}

// Sequence i of each batch: the first `lengths` elements reversed. Elements are picked by their number within the first
// two dimensions; a length that the sequence does not have picks an element that is not there.
static void reverseSequence(OperatorContext &c) {
  TensorRef x = c.operand(0), lengths = c.operand(1);
  int64_t time = c.integer("time_axis", 0), batch = c.integer("batch_axis", 1);
  if (x.rank() < 2 || time + batch != 1 || time < 0 || time > 1)
    refuse("time_axis and batch_axis are not 0 and 1");
  if (lengths.shape() != Shape{x.dim(batch)} || !isInteger(lengths.type()))
    refuse("sequence_lens of shape " + shapeText(lengths.shape()) + " for a batch of " + llvm::Twine(x.dim(batch)));
  int64_t elements = product({x.dim(0), x.dim(1)}), steps = x.dim(time);
  Nest nest;
  nest.operation = "reverse_sequence.index";
  nest.loops = {{x.dim(0), false}, {x.dim(1), false}};
  nest.reads = {{lengths, {at(static_cast<unsigned>(batch))}}};
  nest.write = identityAccess(2);
  TensorRef indices = c.nest(nest, [&](llvm::ArrayRef<Lane> v) {
    Lane t = loopIndex(c, static_cast<unsigned>(time)), b = loopIndex(c, static_cast<unsigned>(batch));
    Lane length = v[0].to(ElementType::i64);
    Lane source = select(t < length, length - 1.0 - t, t);
    Lane flat = time == 0 ? source * static_cast<double>(x.dim(1)) + b : b * static_cast<double>(x.dim(1)) + source;
    return select((length >= 0.0) & (length <= static_cast<double>(steps)), flat, flat.constantInteger(elements));
  });
  Shape rows(x.shape().begin() + 2, x.shape().end());
  rows.insert(rows.begin(), elements);
  c.result(c.gather(c.reshape(x, rows), indices, 0));
}

void addIndexing(OperatorTable &table) {
  table.add("Gather", gather);
  table.add("GatherElements", gatherElements);
  table.add("GatherND", gatherNd);
  table.add("Scatter", scatterElements);
  table.add("ScatterElements", scatterElements);
  table.add("ScatterND", scatterNd);
  table.add("OneHot", oneHot);
  table.add("ReverseSequence", reverseSequence);
}

} // namespace quadrille::graph::importer
