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
  Emitter::ScanAxes axes;
  axes.input = {0};
  axes.inputReversed = {false};
  // States: the matrices, and the product of the pivots so far, negated for each exchange of rows.
  std::vector<TensorRef> results =
      c.scan({matrices, c.fill(wide, {batch}, 1)}, {c.range(n)}, {}, n, axes, [&](llvm::ArrayRef<TensorRef> in) {
        TensorRef a = in[0], determinant = in[1], step = in[2];
        std::vector<Loop> loops = {{batch, false}, {n, false}, {n, false}};
        // Of the operand's dimension `over` the element whose number `which` gives, for each index of the others.
        auto pick = [&](llvm::StringRef name, TensorRef from, unsigned over, TensorRef which, AccessMap whichMap) {
          Nest nest;
          nest.operation = name.str();
          nest.loops.assign(loops.begin(), loops.begin() + from.rank());
          nest.loops[over].reduction = true;
          nest.reads = {{from, identityAccess(from.rank())}, {which, whichMap}};
          nest.write = identityAccess(from.rank());
          nest.write.erase(nest.write.begin() + over);
          nest.combiner = Combiner::Sum;
          return c.nest(
              nest, [&](llvm::ArrayRef<Lane> v) { return select(loopIndex(c, over) == v[1], v[0], v[0].constant(0)); });
        };
        TensorRef column = pick("det.column", a, 2, step, {});
        TensorRef size = c.map("det.candidates", {column, step}, [&](llvm::ArrayRef<Lane> v) {
          return select(loopIndex(c, 1) < v[1], v[0].constant(-1), absolute(v[0]));
        });
        TensorRef pivotRow = c.reshape(c.argReduce(size, 1, true, false), {batch});
        TensorRef upper = pick("det.pivot_row", a, 1, pivotRow, {at(0)}), lower = pick("det.row", a, 1, step, {});
        // What stands in column `step` of the pivot's row, and of the row that takes its place.
        TensorRef pivot = pick("det.pivot", upper, 1, step, {}), head = pick("det.head", lower, 1, step, {});
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
                           {step, {}},
                           {head, {at(0)}}};
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
