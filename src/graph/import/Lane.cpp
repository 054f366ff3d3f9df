// Scalars in bodies: the instructions of numerics/BlockExpression.h as arith and math operations.
#include "graph/import/EmitterState.h"

#include "numerics/Convert.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

namespace quadrille::graph::importer {

static mlir::Value valueIn(const Lane &lane) {
  return mlir::Value::getFromOpaquePointer(lane.value);
}

static Lane lane(const Lane &like, ElementType type, mlir::Value value) {
  return Lane(like.emitter, type, value.getAsOpaquePointer());
}

mlir::Type Emitter::State::signlessType(ElementType type) {
  if (isFloat(type))
    return qd::mlirTypeOf(builder.getContext(), type);
  return builder.getIntegerType(bitWidth(type));
}

Lane Emitter::State::enter(Emitter *emitter, mlir::Value element) {
  ElementType type = *qd::elementTypeOf(element.getType());
  if (element.getType() != signlessType(type))
    element = builder.create<qd::BitcastOp>(location, signlessType(type), element);
  return Lane(emitter, type, element.getAsOpaquePointer());
}

mlir::Value Emitter::State::leave(const Lane &lane) {
  mlir::Value value = valueIn(lane);
  mlir::Type type = qd::mlirTypeOf(builder.getContext(), lane.type());
  return value.getType() == type ? value : builder.create<qd::BitcastOp>(location, type, value).getResult();
}

static Lane constantFromBits(const Lane &like, ElementType type, uint64_t bits) {
  Emitter::State &s = like.emitter->state;
  mlir::Type signless = s.signlessType(type);
  mlir::TypedAttr attribute;
  if (auto floating = llvm::dyn_cast<mlir::FloatType>(signless))
    attribute = mlir::FloatAttr::get(
        floating, llvm::APFloat(floating.getFloatSemantics(), llvm::APInt(floating.getWidth(), bits)));
  else
    attribute = mlir::IntegerAttr::get(signless, llvm::APInt(64, bits).trunc(signless.getIntOrFloatBitWidth()));
  return lane(like, type, s.builder.create<mlir::arith::ConstantOp>(s.location, attribute));
}

Lane constantLane(Emitter &emitter, ElementType type, uint64_t bits) {
  return constantFromBits(Lane(&emitter, type, nullptr), type, bits);
}

// Finite numbers stay finite in a narrower type: a mask of -3.4e38 must not become an infinity.
Lane Lane::constant(double number, ElementType type) const {
  return constantFromBits(*this, type, bitsFromDouble(type, number, std::isfinite(number)));
}

Lane Lane::constantInteger(int64_t number) const {
  return constantFromBits(*this, elementType, static_cast<uint64_t>(number));
}

Lane Lane::operator-() const {
  return apply(BlockOpcode::Negate, {*this});
}

Lane loopIndex(Emitter &emitter, unsigned loop) {
  Emitter::State &s = emitter.state;
  mlir::Value index = s.builder.create<mlir::linalg::IndexOp>(s.location, loop);
  index = s.builder.create<mlir::arith::IndexCastOp>(s.location, s.builder.getI64Type(), index);
  return Lane(&emitter, ElementType::i64, index.getAsOpaquePointer());
}

Lane select(const Lane &condition, const Lane &yes, const Lane &no) {
  Emitter::State &s = yes.emitter->state;
  return lane(yes, yes.type(),
              s.builder.create<mlir::arith::SelectOp>(s.location, valueIn(condition), valueIn(yes), valueIn(no)));
}

Lane Lane::to(ElementType type) const {
  if (type == elementType)
    return *this;
  Emitter::State &s = emitter->state;
  mlir::OpBuilder &b = s.builder;
  mlir::Value from = valueIn(*this);
  mlir::Type target = s.signlessType(type);
  auto made = [&](mlir::Value value) { return lane(*this, type, value); };
  bool isUnsigned = kindOf(elementType) == ElementKind::Unsigned || elementType == ElementType::boolean;
  if (type == ElementType::boolean)
    return *this != 0.0;
  if (isFloat(elementType)) {
    if (isFloat(type)) {
      unsigned before = bitWidth(elementType), after = bitWidth(type);
      if (after > before)
        return made(b.create<mlir::arith::ExtFOp>(s.location, target, from));
      if (after < before)
        return made(b.create<mlir::arith::TruncFOp>(s.location, target, from));
      return to(before == 8 ? ElementType::f16 : ElementType::f32).to(type); // formats of one width
    }
    if (kindOf(type) == ElementKind::Unsigned)
      return made(b.create<mlir::arith::FPToUIOp>(s.location, target, from));
    return made(b.create<mlir::arith::FPToSIOp>(s.location, target, from));
  }
  if (isFloat(type)) {
    if (isUnsigned)
      return made(b.create<mlir::arith::UIToFPOp>(s.location, target, from));
    return made(b.create<mlir::arith::SIToFPOp>(s.location, target, from));
  }
  if (bitWidth(type) > bitWidth(elementType)) {
    if (isUnsigned)
      return made(b.create<mlir::arith::ExtUIOp>(s.location, target, from));
    return made(b.create<mlir::arith::ExtSIOp>(s.location, target, from));
  }
  if (bitWidth(type) < bitWidth(elementType))
    return made(b.create<mlir::arith::TruncIOp>(s.location, target, from));
  return made(from); // the same bits, signed or not
}

Lane Lane::bitcast(ElementType type) const {
  Emitter::State &s = emitter->state;
  mlir::Type target = s.signlessType(type);
  mlir::Value from = valueIn(*this);
  return lane(*this, type, from.getType() == target ? from : s.builder.create<qd::BitcastOp>(s.location, target, from));
}

static double largestFinite(ElementType type) {
  switch (type) {
  case ElementType::f8e4m3fn:
    return 448;
  case ElementType::f8e4m3fnuz:
    return 240;
  case ElementType::f8e5m2:
  case ElementType::f8e5m2fnuz:
    return 57344;
  case ElementType::f16:
    return 65504;
  case ElementType::bf16:
    return 0x1.FEp127;
  default:
    return type == ElementType::f32 ? 0x1.FFFFFEp127 : 0x1.FFFFFFFFFFFFFp1023;
  }
}

Lane Lane::toSaturating(ElementType type) const {
  if (type == elementType)
    return *this;
  if (isFloat(type)) {
    double limit = largestFinite(type);
    // Integers have no more than 64 bits, which f32 holds.
    if (!isFloat(elementType))
      return to(ElementType::f32).toSaturating(type);
    if (limit >= largestFinite(elementType))
      return to(type);
    // max and min propagate NaN.
    return max(min(*this, limit), -limit).to(type);
  }
  if (isFloat(elementType))
    return to(type); // saturates
  // Integer to narrower integer: clamp to the range.
  bool isSigned = kindOf(type) == ElementKind::Signed;
  unsigned bits = bitWidth(type);
  int64_t low = isSigned ? -(int64_t(1) << (bits - 1)) : 0;
  int64_t high = isSigned || bits == 64 ? (int64_t(1) << (bits - 1)) - 1 : (int64_t(1) << bits) - 1;
  if (bits == 64)
    return to(type);
  Lane wide = to(ElementType::i64);
  return min(max(wide, wide.constantInteger(low)), wide.constantInteger(high)).to(type);
}

namespace {
// Creates operations of one location.
struct Make {
  Emitter::State &s;
  template <typename Op, typename... Arguments> mlir::Value operator()(Arguments &&...arguments) {
    return s.builder.create<Op>(s.location, std::forward<Arguments>(arguments)...);
  }
};
} // namespace

static mlir::Value compare(Make &make, BlockOpcode opcode, ElementType type, mlir::Value a, mlir::Value b) {
  using mlir::arith::CmpFPredicate;
  using mlir::arith::CmpIPredicate;
  if (isFloat(type)) {
    CmpFPredicate predicate = opcode == BlockOpcode::Equal      ? CmpFPredicate::OEQ
                              : opcode == BlockOpcode::NotEqual ? CmpFPredicate::UNE
                              : opcode == BlockOpcode::Less     ? CmpFPredicate::OLT
                                                                : CmpFPredicate::OLE;
    return make.operator()<mlir::arith::CmpFOp>(predicate, a, b);
  }
  bool isSigned = kindOf(type) == ElementKind::Signed;
  CmpIPredicate predicate = opcode == BlockOpcode::Equal      ? CmpIPredicate::eq
                            : opcode == BlockOpcode::NotEqual ? CmpIPredicate::ne
                            : opcode == BlockOpcode::Less     ? (isSigned ? CmpIPredicate::slt : CmpIPredicate::ult)
                                                              : (isSigned ? CmpIPredicate::sle : CmpIPredicate::ule);
  return make.operator()<mlir::arith::CmpIOp>(predicate, a, b);
}

static mlir::Value unaryMath(Make &make, BlockOpcode opcode, mlir::Value a) {
  using namespace mlir;
  switch (opcode) {
  case BlockOpcode::SquareRoot:
    return make.operator()<math::SqrtOp>(a);
  case BlockOpcode::ReciprocalSquareRoot:
    return make.operator()<math::RsqrtOp>(a);
  case BlockOpcode::Exp:
    return make.operator()<math::ExpOp>(a);
  case BlockOpcode::Exp2:
    return make.operator()<math::Exp2Op>(a);
  case BlockOpcode::Expm1:
    return make.operator()<math::ExpM1Op>(a);
  case BlockOpcode::Log:
    return make.operator()<math::LogOp>(a);
  case BlockOpcode::Log2:
    return make.operator()<math::Log2Op>(a);
  case BlockOpcode::Log1p:
    return make.operator()<math::Log1pOp>(a);
  case BlockOpcode::Sin:
    return make.operator()<math::SinOp>(a);
  case BlockOpcode::Cos:
    return make.operator()<math::CosOp>(a);
  case BlockOpcode::Tan:
    return make.operator()<math::TanOp>(a);
  case BlockOpcode::Asin:
    return make.operator()<math::AsinOp>(a);
  case BlockOpcode::Acos:
    return make.operator()<math::AcosOp>(a);
  case BlockOpcode::Atan:
    return make.operator()<math::AtanOp>(a);
  case BlockOpcode::Sinh:
    return make.operator()<math::SinhOp>(a);
  case BlockOpcode::Cosh:
    return make.operator()<math::CoshOp>(a);
  case BlockOpcode::Tanh:
    return make.operator()<math::TanhOp>(a);
  case BlockOpcode::Asinh:
    return make.operator()<math::AsinhOp>(a);
  case BlockOpcode::Acosh:
    return make.operator()<math::AcoshOp>(a);
  case BlockOpcode::Atanh:
    return make.operator()<math::AtanhOp>(a);
  case BlockOpcode::Erf:
    return make.operator()<math::ErfOp>(a);
  case BlockOpcode::Floor:
    return make.operator()<math::FloorOp>(a);
  case BlockOpcode::Ceil:
    return make.operator()<math::CeilOp>(a);
  case BlockOpcode::RoundEven:
    return make.operator()<math::RoundEvenOp>(a);
  case BlockOpcode::Truncate:
    return make.operator()<math::TruncOp>(a);
  default:
    return {};
  }
}

Lane apply(BlockOpcode opcode, llvm::ArrayRef<Lane> x) {
  using namespace mlir;
  Lane a = x[0];
  ElementType type = a.type();
  if (x.size() > 1 && x[1].type() != type)
    refuse("element types " + nameOf(type) + " and " + nameOf(x[1].type()) + " meet in one operation");
  Emitter::State &s = a.emitter->state;
  Make make{s};
  mlir::Value u = valueIn(a), v = x.size() > 1 ? valueIn(x[1]) : mlir::Value();
  bool floating = isFloat(type), isSigned = kindOf(type) == ElementKind::Signed;
  auto same = [&](mlir::Value value) { return lane(a, type, value); };
  auto boolean = [&](mlir::Value value) { return lane(a, ElementType::boolean, value); };

  switch (opcode) {
  case BlockOpcode::Add:
    return same(floating ? make.operator()<arith::AddFOp>(u, v) : make.operator()<arith::AddIOp>(u, v));
  case BlockOpcode::Subtract:
    return same(floating ? make.operator()<arith::SubFOp>(u, v) : make.operator()<arith::SubIOp>(u, v));
  case BlockOpcode::Multiply:
    return same(floating ? make.operator()<arith::MulFOp>(u, v) : make.operator()<arith::MulIOp>(u, v));
  case BlockOpcode::Divide:
    return same(floating   ? make.operator()<arith::DivFOp>(u, v)
                : isSigned ? make.operator()<arith::DivSIOp>(u, v)
                           : make.operator()<arith::DivUIOp>(u, v));
  case BlockOpcode::Remainder:
    return same(floating   ? make.operator()<arith::RemFOp>(u, v)
                : isSigned ? make.operator()<arith::RemSIOp>(u, v)
                           : make.operator()<arith::RemUIOp>(u, v));
  case BlockOpcode::Modulo: { // a remainder whose sign is not the divisor's is moved by one divisor
    Lane remainder = apply(BlockOpcode::Remainder, x);
    if (!floating && !isSigned)
      return remainder;
    Lane differs = (remainder < 0.0) ^ (x[1] < 0.0);
    return select((remainder != 0.0) & differs, remainder + x[1], remainder);
  }
  case BlockOpcode::Power:
    return same(floating ? make.operator()<math::PowFOp>(u, v) : make.operator()<math::IPowIOp>(u, v));
  case BlockOpcode::Minimum:
    return same(floating   ? make.operator()<arith::MinimumFOp>(u, v)
                : isSigned ? make.operator()<arith::MinSIOp>(u, v)
                           : make.operator()<arith::MinUIOp>(u, v));
  case BlockOpcode::Maximum:
    return same(floating   ? make.operator()<arith::MaximumFOp>(u, v)
                : isSigned ? make.operator()<arith::MaxSIOp>(u, v)
                           : make.operator()<arith::MaxUIOp>(u, v));
  case BlockOpcode::MinimumNumber:
    return floating ? same(make.operator()<arith::MinNumFOp>(u, v)) : apply(BlockOpcode::Minimum, x);
  case BlockOpcode::MaximumNumber:
    return floating ? same(make.operator()<arith::MaxNumFOp>(u, v)) : apply(BlockOpcode::Maximum, x);
  case BlockOpcode::MultiplyAdd:
    return same(make.operator()<math::FmaOp>(u, v, valueIn(x[2])));
  case BlockOpcode::Negate:
    return floating ? same(make.operator()<arith::NegFOp>(u)) : 0.0 - a;
  case BlockOpcode::Absolute:
    if (floating)
      return same(make.operator()<math::AbsFOp>(u));
    return isSigned ? same(make.operator()<math::AbsIOp>(u)) : a;
  case BlockOpcode::Sign: // NaN stays NaN, zeros keep their sign
    if (!floating && !isSigned)
      return select(a != 0.0, a.constant(1), a.constant(0));
    return select(a > 0.0, a.constant(1), select(a < 0.0, a.constant(-1), a));
  case BlockOpcode::CopySign:
    return same(make.operator()<math::CopySignOp>(u, v));
  case BlockOpcode::Reciprocal:
    return 1.0 / a;
  case BlockOpcode::Atan2:
    return same(make.operator()<math::Atan2Op>(u, v));
  case BlockOpcode::And:
    return same(make.operator()<arith::AndIOp>(u, v));
  case BlockOpcode::Or:
    return same(make.operator()<arith::OrIOp>(u, v));
  case BlockOpcode::Xor:
    return same(make.operator()<arith::XOrIOp>(u, v));
  case BlockOpcode::Not:
    return a ^ a.constantInteger(-1);
  case BlockOpcode::ShiftLeft:
    return same(make.operator()<arith::ShLIOp>(u, v));
  case BlockOpcode::ShiftRight:
    return same(isSigned ? make.operator()<arith::ShRSIOp>(u, v) : make.operator()<arith::ShRUIOp>(u, v));
  case BlockOpcode::Equal:
  case BlockOpcode::NotEqual:
  case BlockOpcode::Less:
  case BlockOpcode::LessEqual:
    return boolean(compare(make, opcode, type, u, v));
  case BlockOpcode::IsNan:
    return a != a;
  case BlockOpcode::IsInfinite:
    return absolute(a) == a.constant(HUGE_VAL);
  default:
    if (mlir::Value value = unaryMath(make, opcode, u))
      return same(value);
    refuse("internal: no scalar operation for '" + quadrille::nameOf(opcode) + "'");
  }
}

} // namespace quadrille::graph::importer
