// Operators whose result has as many elements as a condition holds for. A program's shapes are fixed when it is
// compiled, so they are computed at import: exporters write them in shape arithmetic, where everything is known.
#include "graph/import/OperatorContext.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace quadrille::graph::importer {

// The elements of an operand that decides the result's shape.
static Tensor deciding(OperatorContext &c, unsigned index, llvm::StringRef result) {
  TensorRef tensor = c.operand(index);
  if (!tensor.known())
    refuseUnsupported("the shape of " + result + " depends on the values of operand " + llvm::Twine(index) +
                      ", which are not known before the program runs");
  if (tensor.elements() > int64_t(1) << 26)
    refuseUnsupported("operand " + llvm::Twine(index) + " of " + llvm::Twine(tensor.elements()) + " elements");
  return tensor.constant();
}

static std::vector<bool> truthOf(const Tensor &tensor) {
  std::vector<double> numbers = valuesOf<double>(tensor);
  std::vector<bool> truth;
  for (double number : numbers)
    truth.push_back(number != 0); // NaN is not zero
  return truth;
}

// [rank, count]: the indices of the elements that are not zero, in row-major order.
static void nonZero(OperatorContext &c) {
  Tensor x = deciding(c, 0, "the result");
  int64_t rank = static_cast<int64_t>(x.shape().size());
  std::vector<bool> truth = truthOf(x);
  int64_t count = std::count(truth.begin(), truth.end(), true);
  std::vector<int64_t> indices(static_cast<size_t>(product({rank, count})));
  int64_t next = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    if (!truth[i])
      continue;
    int64_t rest = static_cast<int64_t>(i);
    for (int64_t d = rank; d-- > 0; rest /= x.shape()[d])
      indices[static_cast<size_t>(d * count + next)] = rest % x.shape()[d];
    ++next;
  }
  c.result(c.constant(Tensor::of<int64_t>(ElementType::i64, {rank, count}, indices)));
}

// The slices along the axis (or the elements of the flattened operand) for which the condition holds.
static void compress(OperatorContext &c) {
  TensorRef x = c.operand(0);
  Tensor condition = deciding(c, 1, "the result");
  int64_t axis = 0;
  if (c.has("axis"))
    axis = normalAxis(c.integer("axis"), x.rank());
  else
    x = c.reshape(x, {x.elements()});
  if (condition.shape().size() != 1 || x.rank() == 0 || condition.shape()[0] > x.dim(axis))
    refuse("a condition of shape " + shapeText(condition.shape()) + " for " +
           llvm::Twine(x.rank() == 0 ? 1 : x.dim(axis)) + " slices");
  std::vector<bool> truth = truthOf(condition);
  std::vector<int64_t> indices;
  for (size_t i = 0; i < truth.size(); ++i)
    if (truth[i])
      indices.push_back(static_cast<int64_t>(i));
  if (!indices.empty())
    return c.result(c.gather(x, c.integers(indices), axis));
  Shape shape = x.shape();
  shape[axis] = 0;
  c.result(c.fill(x.type(), shape, 0));
}

// Slices of [before, extent, after] along the middle, compared by their elements in order.
static void unique(OperatorContext &c) {
  bool sorted = c.flag("sorted", true), flat = !c.has("axis");
  Tensor x = deciding(c, 0, "the results");
  if (flat)
    x = x.reshaped({x.elements()});
  int64_t axis = flat ? 0 : normalAxis(c.integer("axis"), static_cast<int64_t>(x.shape().size()));
  int64_t extent = x.shape()[axis], before = product(llvm::ArrayRef(x.shape()).take_front(axis)),
          after = product(llvm::ArrayRef(x.shape()).drop_front(axis + 1));
  bool real = isFloat(x.type());
  std::vector<double> numbers;
  std::vector<int64_t> integers;
  if (real)
    numbers = valuesOf<double>(x);
  else
    integers = valuesOf<int64_t>(x);
  auto at = [&](int64_t slice, int64_t i) {
    return static_cast<size_t>((i / after * extent + slice) * after + i % after);
  };
  bool isUnsigned = kindOf(x.type()) == ElementKind::Unsigned;
  auto compare = [&](int64_t a, int64_t b) { // -1, 0 or 1
    for (int64_t i = 0; i < before * after; ++i) {
      size_t left = at(a, i), right = at(b, i);
      bool less = false, greater = false;
      if (real) { // NaNs come last, each different from all others
        double u = numbers[left], v = numbers[right];
        if (std::isnan(u) || std::isnan(v)) {
          less = !std::isnan(u) || (std::isnan(v) && a < b);
          greater = !less && a != b;
        } else {
          less = u < v;
          greater = v < u;
        }
      } else if (isUnsigned) {
        less = static_cast<uint64_t>(integers[left]) < static_cast<uint64_t>(integers[right]);
        greater = integers[left] != integers[right] && !less;
      } else {
        less = integers[left] < integers[right];
        greater = integers[left] > integers[right];
      }
      if (less || greater)
        return less ? -1 : 1;
    }
    return 0;
  };
  std::vector<int64_t> order(static_cast<size_t>(extent));
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](int64_t a, int64_t b) {
    int sign = compare(a, b);
    return sign < 0 || (sign == 0 && a < b);
  });
  std::vector<std::vector<int64_t>> groups; // slices that are equal, ascending
  for (int64_t slice : order)
    if (groups.empty() || compare(groups.back().front(), slice) != 0)
      groups.push_back({slice});
    else
      groups.back().push_back(slice);
  if (!sorted)
    llvm::sort(groups, [](const auto &a, const auto &b) { return a.front() < b.front(); });
  std::vector<int64_t> first, inverse(static_cast<size_t>(extent)), counts;
  for (size_t group = 0; group < groups.size(); ++group) {
    first.push_back(groups[group].front());
    counts.push_back(static_cast<int64_t>(groups[group].size()));
    for (int64_t slice : groups[group])
      inverse[static_cast<size_t>(slice)] = static_cast<int64_t>(group);
  }
  size_t width = byteWidth(x.type()) * static_cast<size_t>(after);
  Shape shape = x.shape();
  shape[axis] = static_cast<int64_t>(groups.size());
  Tensor y = Tensor::uninitialized(x.type(), shape);
  std::byte *to = y.mutableBytes();
  for (int64_t outer = 0; outer < before; ++outer)
    for (int64_t slice : first) {
      if (width != 0)
        std::memcpy(to, x.bytes().data() + static_cast<size_t>(outer * extent + slice) * width, width);
      to += width;
    }
  c.result(0, c.constant(y));
  c.result(1, c.integers(first));
  c.result(2, c.integers(inverse));
  c.result(3, c.integers(counts));
}

namespace {
struct Box {
  double low[2], high[2];
  double area() const { return (high[0] - low[0]) * (high[1] - low[1]); }
};
} // namespace

static Box boxOf(const double *corner, bool centered) {
  Box box;
  for (int d = 0; d < 2; ++d) {
    box.low[d] = centered ? corner[d] - corner[2 + d] / 2 : std::min(corner[d], corner[2 + d]);
    box.high[d] = centered ? corner[d] + corner[2 + d] / 2 : std::max(corner[d], corner[2 + d]);
  }
  return box;
}

// Area in both over area in either.
static double overlap(const Box &a, const Box &b) {
  double both = 1;
  for (int d = 0; d < 2; ++d)
    both *= std::max(0.0, std::min(a.high[d], b.high[d]) - std::max(a.low[d], b.low[d]));
  double either = a.area() + b.area() - both;
  return both > 0 && a.area() > 0 && b.area() > 0 && either > 0 ? both / either : 0;
}

// Boxes by falling score, without those that overlap a better one of their class too much: rows [batch, class, box].
static void nonMaxSuppression(OperatorContext &c) {
  bool centered = c.flag("center_point_box");
  Tensor boxTensor = deciding(c, 0, "the result"), scoreTensor = deciding(c, 1, "the result");
  const Shape &shape = boxTensor.shape(), &scoreShape = scoreTensor.shape();
  if (shape.size() != 3 || shape[2] != 4 || scoreShape.size() != 3 || scoreShape[0] != shape[0] ||
      scoreShape[2] != shape[1])
    refuse("boxes of shape " + shapeText(shape) + " with scores of shape " + shapeText(scoreShape));
  auto number = [&](unsigned index, double otherwise) {
    return c.optional(index) ? valuesOf<double>(deciding(c, index, "the result")).at(0) : otherwise;
  };
  for (unsigned index = 2; index < 5; ++index)
    if (c.optional(index) && c.optional(index).elements() != 1)
      refuse("operand " + llvm::Twine(index) + " is no scalar");
  double most = number(2, 0), overlapLimit = number(3, 0), scoreLimit = number(4, -HUGE_VAL);
  std::vector<double> corners = valuesOf<double>(boxTensor), scores = valuesOf<double>(scoreTensor);
  for (double &score : scores) // NaN is no better than anything
    if (std::isnan(score))
      score = -HUGE_VAL;
  std::vector<int64_t> selected;
  for (int64_t batch = 0; batch < shape[0]; ++batch)
    for (int64_t category = 0; category < scoreShape[1]; ++category) {
      const double *score = scores.data() + (batch * scoreShape[1] + category) * shape[1];
      std::vector<int64_t> candidates;
      for (int64_t box = 0; box < shape[1]; ++box)
        if (score[box] > scoreLimit || !c.optional(4))
          candidates.push_back(box);
      llvm::sort(candidates,
                 [&](int64_t a, int64_t b) { return score[a] > score[b] || (score[a] == score[b] && a < b); });
      std::vector<Box> kept;
      for (int64_t candidate : candidates) {
        if (static_cast<double>(kept.size()) >= most)
          break;
        Box box = boxOf(corners.data() + (batch * shape[1] + candidate) * 4, centered);
        if (llvm::any_of(kept, [&](const Box &better) { return overlap(box, better) > overlapLimit; }))
          continue;
        kept.push_back(box);
        selected.insert(selected.end(), {batch, category, candidate});
      }
    }
  Shape result = {static_cast<int64_t>(selected.size() / 3), 3};
  c.result(c.constant(Tensor::of<int64_t>(ElementType::i64, result, selected)));
}

void addSelection(OperatorTable &table) {
  table.add("NonZero", nonZero);
  table.add("Compress", compress);
  table.add("Unique", unique);
  table.add("NonMaxSuppression", nonMaxSuppression);
}

} // namespace quadrille::graph::importer
