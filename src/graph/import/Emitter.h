// What operators are written with: tensors with static shapes, scalars inside bodies, and the handful of operations
// from which every ONNX operator is composed. Free of MLIR headers, so that the operator files compile quickly;
// Emitter.cpp and Lane.cpp turn the calls into linalg, tensor, arith, math and qd.
//
// Refusals travel as C++ exceptions of type Refusal, from an operator or a helper to the one place that imports a node
// (Importer.cpp), which makes an llvm::Error of them. None crosses a frame of LLVM or MLIR.
#pragma once

#include "graph/KernelGraph.h"
#include "numerics/BlockExpression.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/Twine.h"

#include <string>
#include <vector>

namespace quadrille::graph {
struct WeightData;
} // namespace quadrille::graph

namespace quadrille::graph::importer {

// Why a node cannot be imported. `unsupported` distinguishes what we lack from what is wrong with the model.
struct Refusal {
  std::string message, remedy;
  bool unsupported = false;
};
[[noreturn]] void refuse(const llvm::Twine &message, const llvm::Twine &remedy = "");
[[noreturn]] void refuseUnsupported(const llvm::Twine &message);

// A tensor of the model during import.
struct TensorData {
  ElementType type = ElementType::f32;
  Shape shape;
  std::string name;               // ONNX name of a weight
  bool weight = false;            // from the file: stays a reference to its bytes
  Tensor constant;                // valid when the elements are known at import
  std::optional<FileSpan> origin; // of a weight
  bool stored = false;            // the constant stands in the file as it is, not computed from shapes
  bool batched = false;           // dimension 0 is the batch of --batch
  std::optional<Scalar> splat;    // every element is this one; `constant` may be left out then
  bool absentWeight() const { return weight && !constant.valid() && !splat; }
  // Constants are given an MLIR value where they are used; everything else has one.
  bool isConstant() const { return weight || constant.valid() || splat.has_value(); }
  void *value = nullptr;
};

class TensorRef {
public:
  TensorRef() = default;
  explicit TensorRef(const TensorData *data) : data(data) {}

  explicit operator bool() const { return data != nullptr; }
  ElementType type() const { return data->type; }
  const Shape &shape() const { return data->shape; }
  int64_t rank() const { return static_cast<int64_t>(data->shape.size()); }
  int64_t dim(int64_t axis) const { return data->shape[axis < 0 ? axis + rank() : axis]; }
  int64_t elements() const { return elementCount(data->shape); }
  bool known() const { return data->constant.valid(); }
  const Tensor &constant() const { return data->constant; }
  const TensorData *operator->() const { return data; }
  const TensorData *get() const { return data; }

private:
  const TensorData *data = nullptr;
};

class Emitter;

// A scalar inside a body. Both operands of an arithmetic operator have the same type; a number takes the lane's type.
class Lane {
public:
  Lane() = default;
  Lane(Emitter *emitter, ElementType type, void *value) : emitter(emitter), elementType(type), value(value) {}

  ElementType type() const { return elementType; }
  Lane constant(double number) const { return constant(number, elementType); }
  Lane constant(double number, ElementType type) const;
  Lane constantInteger(int64_t number) const; // exact for 64-bit types
  // Truncates and saturates from floats to integers, wraps between integers; to bool: not equal to zero.
  Lane to(ElementType type) const;
  Lane toSaturating(ElementType type) const; // clamps to the finite range of `type`
  Lane bitcast(ElementType type) const;      // the same bits; both types have one width

  Lane operator-() const;

  Emitter *emitter = nullptr;
  ElementType elementType = ElementType::f32;
  void *value = nullptr; // MLIR value, signless
};

// Applies one instruction of the block expressions to lanes of one type.
Lane apply(BlockOpcode opcode, llvm::ArrayRef<Lane> operands);
// Position of a loop of the enclosing nest, i64.
Lane loopIndex(Emitter &emitter, unsigned loop);
Lane select(const Lane &condition, const Lane &yes, const Lane &no);

#define QUADRILLE_LANE_BINARY(name, opcode)                                                                            \
  inline Lane name(const Lane &a, const Lane &b) {                                                                     \
    return apply(BlockOpcode::opcode, {a, b});                                                                         \
  }                                                                                                                    \
  inline Lane name(const Lane &a, double b) {                                                                          \
    return name(a, a.constant(b));                                                                                     \
  }                                                                                                                    \
  inline Lane name(double a, const Lane &b) {                                                                          \
    return name(b.constant(a), b);                                                                                     \
  }
QUADRILLE_LANE_BINARY(operator+, Add)
QUADRILLE_LANE_BINARY(operator-, Subtract)
QUADRILLE_LANE_BINARY(operator*, Multiply)
QUADRILLE_LANE_BINARY(operator/, Divide)
QUADRILLE_LANE_BINARY(min, Minimum)
QUADRILLE_LANE_BINARY(max, Maximum)
QUADRILLE_LANE_BINARY(power, Power)
QUADRILLE_LANE_BINARY(operator<, Less)
QUADRILLE_LANE_BINARY(operator<=, LessEqual)
QUADRILLE_LANE_BINARY(operator==, Equal)
QUADRILLE_LANE_BINARY(operator!=, NotEqual)
QUADRILLE_LANE_BINARY(operator&, And)
QUADRILLE_LANE_BINARY(operator|, Or)
QUADRILLE_LANE_BINARY(operator^, Xor)
#undef QUADRILLE_LANE_BINARY
inline Lane operator>(const Lane &a, double b) {
  return a.constant(b) < a;
}
inline Lane operator>(const Lane &a, const Lane &b) {
  return b < a;
}
inline Lane operator>=(const Lane &a, double b) {
  return a.constant(b) <= a;
}
inline Lane operator>=(const Lane &a, const Lane &b) {
  return b <= a;
}

#define QUADRILLE_LANE_UNARY(name, opcode)                                                                             \
  inline Lane name(const Lane &a) {                                                                                    \
    return apply(BlockOpcode::opcode, {a});                                                                            \
  }
QUADRILLE_LANE_UNARY(absolute, Absolute)
QUADRILLE_LANE_UNARY(squareRoot, SquareRoot)
QUADRILLE_LANE_UNARY(reciprocalSquareRoot, ReciprocalSquareRoot)
QUADRILLE_LANE_UNARY(exponential, Exp)
QUADRILLE_LANE_UNARY(exponentialMinusOne, Expm1)
QUADRILLE_LANE_UNARY(logarithm, Log)
QUADRILLE_LANE_UNARY(logarithmOnePlus, Log1p)
QUADRILLE_LANE_UNARY(hyperbolicTangent, Tanh)
QUADRILLE_LANE_UNARY(errorFunction, Erf)
QUADRILLE_LANE_UNARY(floorOf, Floor)
QUADRILLE_LANE_UNARY(ceilingOf, Ceil)
QUADRILLE_LANE_UNARY(roundEven, RoundEven)
QUADRILLE_LANE_UNARY(logicalNot, Not)
QUADRILLE_LANE_UNARY(isNan, IsNan)
QUADRILLE_LANE_UNARY(isInfinite, IsInfinite)
#undef QUADRILLE_LANE_UNARY

using LaneBody = llvm::function_ref<Lane(llvm::ArrayRef<Lane>)>;

// Accesses: dimension i of a tensor reads loop `loop`.
inline DimensionAccess at(unsigned loop, int64_t coefficient = 1, int64_t offset = 0) {
  return {offset, {{loop, coefficient}}};
}
inline DimensionAccess fixed(int64_t offset) {
  return {offset, {}};
}
AccessMap identityAccess(size_t rank);
// Dimensions of `shape` aligned with the last loops of `loops`; extents of 1 are read at 0 (numpy's rule).
AccessMap broadcastAccess(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> loops);

// A perfect loop nest over static extents, as graph/KernelGraph.h describes it.
struct Nest {
  struct Operand {
    TensorRef tensor;
    AccessMap map;
  };
  std::string operation;
  std::vector<Loop> loops;
  std::vector<Operand> reads;
  AccessMap write; // plain loops; the result's shape follows
  Combiner combiner = Combiner::None;
  TensorRef initial; // of the result's shape; absent: the combiner's neutral element
  std::optional<Numeric> numeric;
};

using Attributes = std::map<std::string, Attribute>;

// Emits into one function. Shapes that do not agree are refused with a message.
class Emitter {
public:
  struct State;
  explicit Emitter(State &state) : state(state) {}

  // Constants. `fill` of any size; `constant` owns or borrows its elements.
  TensorRef constant(Tensor tensor);
  TensorRef weight(const WeightData &data, llvm::StringRef name); // stays a reference to the file's bytes
  TensorRef integers(llvm::ArrayRef<int64_t> values);             // i64, rank 1
  TensorRef range(int64_t count);                                 // 0, 1, ... count - 1 as i64
  TensorRef scalar(ElementType type, double number);
  TensorRef fill(ElementType type, Shape shape, double number);
  TensorRef fill(Shape shape, Scalar element);

  // Structured operations. The result's element type is what the body returns.
  TensorRef map(llvm::StringRef operation, llvm::ArrayRef<TensorRef> operands, LaneBody body);
  TensorRef nest(const Nest &nest, LaneBody body);
  // Reduces `axes` (non-negative, ascending); the body is applied to each element first.
  TensorRef reduce(llvm::StringRef operation, TensorRef operand, llvm::ArrayRef<int64_t> axes, bool keepDimensions,
                   Combiner combiner, LaneBody body);
  TensorRef reduce(llvm::StringRef operation, TensorRef operand, llvm::ArrayRef<int64_t> axes, bool keepDimensions,
                   Combiner combiner);

  // Movement.
  TensorRef reshape(TensorRef operand, Shape shape);
  TensorRef transpose(TensorRef operand, llvm::ArrayRef<int64_t> permutation);
  TensorRef broadcast(TensorRef operand, const Shape &shape);
  TensorRef slice(TensorRef operand, llvm::ArrayRef<int64_t> starts, llvm::ArrayRef<int64_t> extents,
                  llvm::ArrayRef<int64_t> steps = {}); // steps may be negative
  TensorRef concat(llvm::ArrayRef<TensorRef> operands, int64_t axis);
  TensorRef pad(TensorRef operand, llvm::ArrayRef<int64_t> before, llvm::ArrayRef<int64_t> after, Scalar value);
  TensorRef pad(TensorRef operand, llvm::ArrayRef<int64_t> before, llvm::ArrayRef<int64_t> after, double value);
  TensorRef convert(TensorRef operand, ElementType type);

  // qd operations.
  TensorRef gather(TensorRef operand, TensorRef indices, int64_t axis);
  TensorRef gatherElements(TensorRef operand, TensorRef indices, int64_t axis);
  TensorRef gatherNd(TensorRef operand, TensorRef indices, int64_t batchDimensions);
  TensorRef scatterElements(TensorRef operand, TensorRef indices, TensorRef updates, int64_t axis, Combiner combiner);
  TensorRef scatterNd(TensorRef operand, TensorRef indices, TensorRef updates, Combiner combiner);
  std::pair<TensorRef, TensorRef> topK(TensorRef operand, int64_t k, int64_t axis, bool largest);
  TensorRef argReduce(TensorRef operand, int64_t axis, bool maximum, bool lastIndex); // keeps the dimension, i64
  TensorRef cumulative(TensorRef operand, int64_t axis, Combiner combiner, bool exclusive, bool reverse);

  // Words 0, 1, ... of the stream of `seed` (numerics/Convert.h), u32.
  TensorRef randomBits(const Shape &shape, int64_t seed);

  // A named group of operations; `body` gets the operands as seen inside and returns the results.
  using Region = llvm::function_ref<std::vector<TensorRef>(llvm::ArrayRef<TensorRef>)>;
  std::vector<TensorRef> composite(llvm::StringRef name, llvm::ArrayRef<TensorRef> operands,
                                   const Attributes &attributes, Region body);
  TensorRef composite1(llvm::StringRef name, llvm::ArrayRef<TensorRef> operands, const Attributes &attributes,
                       llvm::function_ref<TensorRef(llvm::ArrayRef<TensorRef>)> body);

  // Iteration t of `trip` gives the body the states, slice t of every sequence along its axis (from the end where
  // reversed) without that axis, and the captures; it returns the new states, then one slice for each stacked result.
  // Returns the final states, then the stacked results.
  struct ScanAxes {
    llvm::SmallVector<int64_t> input, output;
    llvm::SmallVector<bool> inputReversed, outputReversed;
  };
  std::vector<TensorRef> scan(llvm::ArrayRef<TensorRef> initial, llvm::ArrayRef<TensorRef> sequences,
                              llvm::ArrayRef<TensorRef> captures, int64_t trip, const ScanAxes &axes, Region body);

  // Where structured operations read `type` as operand of a product: how they accumulate.
  static ElementType accumulatorOf(ElementType type);

  State &state;
};

// Shapes.
Shape broadcastShapes(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b);
int64_t normalAxis(int64_t axis, int64_t rank, llvm::StringRef what = "axis");
std::vector<int64_t> normalAxes(llvm::ArrayRef<int64_t> axes, int64_t rank); // ascending, distinct
int64_t product(llvm::ArrayRef<int64_t> extents);                            // refuses overflow
std::string shapeText(llvm::ArrayRef<int64_t> shape);

} // namespace quadrille::graph::importer
