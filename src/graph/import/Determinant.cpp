// Det: Gaussian elimination with partial pivoting, one column a step of a scan over all matrices of the batch.
#include "graph/import/OperatorContext.h"

namespace quadrille::graph::importer {

static void det(OperatorContext &c) {
  TensorRef x = c.operand(0);
  c.requireFloat(x);
  if (x.rank() < 2 || x.dim(-1) != x.dim(-2))
    refuse("an operand of shape " + shapeText(x.shape()) + " holds no square matrices");
  int64_t n = x.dim(-1);
  Shape shape(x.shape().begin(), x.shape().end() - 2);
  int64_t batch = product(shape);
  ElementType wide = Emitter::accumulatorOf(x.type());
  if (n == 0 || batch == 0)
    return c.result(c.fill(x.type(), shape, 1));
  TensorRef matrices = c.reshape(c.convert(x, wide), {batch, n, n});
  std::vector<int64_t> steps(static_cast<size_t>(n));
  for (size_t i = 0; i < steps.size(); ++i)
    steps[i] = static_cast<int64_t>(i);
  Emitter::ScanAxes axes;
  axes.input = {0};
  axes.inputReversed = {false};
  // States: the matrices, and the product of the pivots so far, negated for each exchange of rows.
  std::vector<TensorRef> results =
      c.scan({matrices, c.fill(wide, {batch}, 1)}, {c.integers(steps)}, {}, n, axes, [&](llvm::ArrayRef<TensorRef> in) {
        TensorRef a = in[0], determinant = in[1], step = in[2];
        std::vector<Loop> loops = {{batch, false}, {n, false}, {n, false}};
        auto pick = [&](llvm::StringRef name, TensorRef which, AccessMap whichMap, unsigned over) {
          // The row (over = 1) or column (over = 2) of each matrix whose number `which` gives: [batch, n].
          Nest nest;
          nest.operation = name.str();
          nest.loops = loops;
          nest.loops[over].reduction = true;
          nest.reads = {{a, identityAccess(3)}, {which, whichMap}};
          nest.write = {at(0), at(3 - over)};
          nest.combiner = Combiner::Sum;
          return c.nest(
              nest, [&](llvm::ArrayRef<Lane> v) { return select(loopIndex(c, over) == v[1], v[0], v[0].constant(0)); });
        };
        TensorRef column = pick("det.column", step, {}, 2);
        TensorRef size = c.map("det.candidates", {column, step}, [&](llvm::ArrayRef<Lane> v) {
          return select(loopIndex(c, 1) < v[1], v[0].constant(-1), absolute(v[0]));
        });
        TensorRef pivotRow = c.reshape(c.argReduce(size, 1, true, false), {batch});
        TensorRef upper = pick("det.pivot_row", pivotRow, {at(0)}, 1), lower = pick("det.row", step, {}, 1);
        Nest pivotNest; // element `step` of the pivot's row
        pivotNest.operation = "det.pivot";
        pivotNest.loops = {{batch, false}, {n, true}};
        pivotNest.reads = {{upper, identityAccess(2)}, {step, {}}};
        pivotNest.write = {at(0)};
        pivotNest.combiner = Combiner::Sum;
        TensorRef pivot = c.nest(
            pivotNest, [&](llvm::ArrayRef<Lane> v) { return select(loopIndex(c, 1) == v[1], v[0], v[0].constant(0)); });
        // Row `step` becomes the pivot's, the pivot's row becomes the old row `step`; below, the column is cleared.
        Nest eliminate;
        eliminate.operation = "det.eliminate";
        eliminate.loops = loops;
        eliminate.reads = {{a, identityAccess(3)},
                           {upper, {at(0), at(2)}},
                           {lower, {at(0), at(2)}},
                           {column, {at(0), at(1)}},
                           {pivot, {at(0)}},
                           {pivotRow, {at(0)}},
                           {step, {}}};
        // What stands in column `step` of the row that took the pivot's place.
        Nest headNest = pivotNest;
        headNest.operation = "det.head";
        headNest.reads[0] = {lower, identityAccess(2)};
        TensorRef head = c.nest(
            headNest, [&](llvm::ArrayRef<Lane> v) { return select(loopIndex(c, 1) == v[1], v[0], v[0].constant(0)); });
        eliminate.reads.push_back({head, {at(0)}});
        eliminate.write = identityAccess(3);
        TensorRef reduced = c.nest(eliminate, [&](llvm::ArrayRef<Lane> v) {
          Lane row = loopIndex(c, 1), exchanged = row == v[5];
          Lane factor = select(v[4] == 0.0, v[4].constant(0), select(exchanged, v[7], v[3]) / v[4]);
          Lane cleared = select(exchanged, v[2], v[0]) - factor * v[1];
          return select(row < v[6], v[0], select(row == v[6], v[1], cleared));
        });
        TensorRef product = c.map("det.multiply", {determinant, pivot, pivotRow, step},
                                  [](llvm::ArrayRef<Lane> v) { return v[0] * select(v[2] == v[3], v[1], -v[1]); });
        return std::vector<TensorRef>{reduced, product};
      });
  c.result(c.reshape(c.convert(results[1], x.type()), shape));
}

void addDeterminant(OperatorTable &table) {
  table.add("Det", det);
}

} // namespace quadrille::graph::importer
