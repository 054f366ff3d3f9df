#include "graph/StructuredOp.h"

#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "graph/dialect/QdDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

namespace quadrille::graph {

AccessMap identityMap(size_t rank) {
  AccessMap map(rank);
  for (size_t d = 0; d < rank; ++d)
    map[d].terms = {{static_cast<unsigned>(d), 1}};
  return map;
}

// A linear access from an affine expression over the loops; false where it is not linear (mod, div, symbols).
static bool addLinear(AffineExpr expression, int64_t factor, std::map<unsigned, int64_t> &terms, int64_t &offset) {
  if (auto dimension = dyn_cast<AffineDimExpr>(expression)) {
    terms[dimension.getPosition()] += factor;
    return true;
  }
  if (auto constant = dyn_cast<AffineConstantExpr>(expression)) {
    offset += factor * constant.getValue();
    return true;
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expression);
  if (!binary)
    return false;
  if (binary.getKind() == AffineExprKind::Add)
    return addLinear(binary.getLHS(), factor, terms, offset) && addLinear(binary.getRHS(), factor, terms, offset);
  auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS());
  return binary.getKind() == AffineExprKind::Mul && constant &&
         addLinear(binary.getLHS(), factor * constant.getValue(), terms, offset);
}

std::optional<AccessMap> accessMap(AffineMap map, llvm::ArrayRef<std::optional<unsigned>> loops) {
  AccessMap result;
  for (AffineExpr expression : map.getResults()) {
    std::map<unsigned, int64_t> terms;
    DimensionAccess access;
    if (!addLinear(expression, 1, terms, access.offset))
      return std::nullopt;
    for (auto [dimension, coefficient] : terms)
      if (coefficient != 0 && loops[dimension])
        access.terms.emplace_back(*loops[dimension], coefficient);
    result.push_back(std::move(access));
  }
  return result;
}

AccessMap compose(const AccessMap &outer, const AccessMap &inner) {
  AccessMap result;
  for (const DimensionAccess &access : outer) {
    std::map<unsigned, int64_t> terms;
    DimensionAccess composed;
    composed.offset = access.offset;
    for (auto [dimension, coefficient] : access.terms) {
      composed.offset += coefficient * inner[dimension].offset;
      for (auto [loop, factor] : inner[dimension].terms)
        terms[loop] += coefficient * factor;
    }
    for (auto [loop, coefficient] : terms)
      if (coefficient != 0)
        composed.terms.emplace_back(loop, coefficient);
    result.push_back(std::move(composed));
  }
  return result;
}

std::optional<AffineMap> copiedThrough(linalg::LinalgOp op) {
  if (op.getNumDpsInputs() != 1 || op.getNumDpsInits() != 1 || op.getNumReductionLoops() != 0 ||
      !isa<RankedTensorType>(op.getDpsInputOperand(0)->get().getType()))
    return std::nullopt;
  Operation *terminator = op.getBlock()->getTerminator();
  if (terminator->getOperand(0) != op.getBlock()->getArgument(0))
    return std::nullopt;
  AffineMap written = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
  AffineMap read = op.getMatchingIndexingMap(op.getDpsInputOperand(0));
  if (!written.isPermutation())
    return std::nullopt;
  return read.compose(inversePermutation(written));
}

bool onlyInitializes(linalg::LinalgOp op) {
  if (!copiedThrough(op) || op->use_empty())
    return false;
  return llvm::all_of(op->getUses(), [](OpOperand &use) {
    auto user = dyn_cast<linalg::LinalgOp>(use.getOwner());
    return user && user.isDpsInit(&use) && user.getNumReductionLoops() != 0;
  });
}

static Combiner combinerOf(Operation &op, ElementType type) {
  StringRef name = op.getName().getStringRef();
  bool isBool = type == ElementType::boolean, isUnsigned = kindOf(type) == ElementKind::Unsigned;
  if (name == "arith.addf" || (name == "arith.addi" && !isBool))
    return Combiner::Sum;
  if (name == "arith.mulf" || (name == "arith.muli" && !isBool))
    return Combiner::Product;
  if (name == "arith.maximumf")
    return Combiner::Maximum;
  if (name == "arith.minimumf")
    return Combiner::Minimum;
  if (name == "arith.maxnumf")
    return Combiner::MaximumNumber;
  if (name == "arith.minnumf")
    return Combiner::MinimumNumber;
  if (!isBool && name == (isUnsigned ? "arith.maxui" : "arith.maxsi"))
    return Combiner::Maximum;
  if (!isBool && name == (isUnsigned ? "arith.minui" : "arith.minsi"))
    return Combiner::Minimum;
  if (name == "arith.andi" || (isBool && (name == "arith.minui" || name == "arith.muli" || name == "arith.maxsi")))
    return Combiner::And;
  if (name == "arith.ori" || (isBool && (name == "arith.maxui" || name == "arith.minsi")))
    return Combiner::Or;
  if (name == "arith.xori" || (isBool && name == "arith.addi"))
    return Combiner::Xor;
  return Combiner::None;
}

static bool isBitcast(Operation *op) {
  return op && isa<qd::BitcastOp, arith::BitcastOp>(op);
}

std::optional<Reduction> matchReduction(BlockArgument accumulator, mlir::Value yielded, ElementType type) {
  Reduction reduction;
  mlir::Value carried = accumulator;
  if (!carried.hasOneUse())
    return std::nullopt;
  Operation *user = *carried.user_begin();
  while (isBitcast(user) && user->getResult(0).hasOneUse()) {
    reduction.skipped.insert(user);
    carried = user->getResult(0);
    user = *carried.user_begin();
  }
  if (user->getNumOperands() != 2 || user->getNumResults() != 1 || !user->getResult(0).hasOneUse())
    return std::nullopt;
  reduction.combiner = combinerOf(*user, type);
  if (reduction.combiner == Combiner::None)
    return std::nullopt;
  reduction.element = user->getOperand(user->getOperand(0) == carried ? 1 : 0);
  reduction.skipped.insert(user);
  Operation *last = user;
  while (last->getResult(0) != yielded) {
    Operation *next = *last->getResult(0).user_begin();
    if (!isBitcast(next) || !next->getResult(0).hasOneUse())
      return std::nullopt;
    reduction.skipped.insert(next);
    last = next;
  }
  return reduction;
}

// Whether an access pairs a parallel with a reduction loop, as the windows of pooling and convolution do.
static bool hasWindow(const Kernel &kernel) {
  return llvm::any_of(kernel.reads, [&](const Read &read) {
    return llvm::any_of(read.map, [&](const DimensionAccess &access) {
      bool parallel = false, reduction = false;
      for (auto [loop, coefficient] : access.terms)
        (kernel.loops[loop].reduction ? reduction : parallel) = true;
      return parallel && reduction;
    });
  });
}

void recognizeKind(const KernelGraph &graph, Kernel &kernel, Operation &op) {
  std::optional<Contraction> contraction = inferContraction(graph, kernel);
  std::string name;
  if (contraction) {
    kernel.kind = KernelKind::Contract;
    name = contraction->isConvolution() ? "conv" : "matmul";
  } else if (hasReduction(kernel.loops)) {
    kernel.kind = hasWindow(kernel) ? KernelKind::Window : KernelKind::Reduce;
    name = (kernel.kind == KernelKind::Window ? "window_" : "reduce_") + nameOf(kernel.writes[0].combiner).str();
  } else {
    bool moves = kernel.body.isIdentity() && kernel.reads.size() == 1 && kernel.writes.size() == 1;
    kernel.kind = moves ? KernelKind::Move : KernelKind::Map;
    name = moves ? "copy" : "map";
    const BlockInstruction &last = kernel.body.instructions[kernel.body.results[0]];
    if (!moves && kernel.body.operationsPerElement() <= 1 && last.opcode != BlockOpcode::Input)
      name = last.opcode == BlockOpcode::Constant ? "fill" : nameOf(last.opcode).str();
  }
  if (kernel.operation.empty()) {
    bool named = isa<linalg::LinalgOp>(op) && !isa<linalg::GenericOp, linalg::MapOp, linalg::ReduceOp>(op);
    kernel.operation = named ? op.getName().stripDialect().str() : name;
  }

  if (auto numeric = op.getAttrOfType<qd::NumericAttr>(qd::numericAttributeName)) {
    kernel.numeric = {numeric.getStorage(), numeric.getMultiply(), numeric.getAccumulate(),
                      numeric.getRounding() == qd::Rounding::Stochastic ? Rounding::Stochastic : Rounding::NearestEven};
    return;
  }
  kernel.numeric = defaultNumeric(graph, kernel);
}

} // namespace quadrille::graph
