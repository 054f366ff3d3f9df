#include "numerics/BlockKernels.h"

#include "numerics/NarrowFloat.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numerics/BlockKernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "numerics/Vectorize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quadrille {
namespace HWY_NAMESPACE {

// Wrapping arithmetic: unsigned, at least 32 bits wide so that no promotion to int can overflow.
template <typename T> using Wide = std::conditional_t<sizeof(T) <= 4, uint32_t, uint64_t>;
template <typename T> using BitsOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

struct Add {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
      return a + b;
    else
      return static_cast<T>(static_cast<Wide<T>>(a) + static_cast<Wide<T>>(b));
  }
};
struct Subtract {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
      return a - b;
    else
      return static_cast<T>(static_cast<Wide<T>>(a) - static_cast<Wide<T>>(b));
  }
};
struct Multiply {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
      return a * b;
    else
      return static_cast<T>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b));
  }
};
struct Divide {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
      return a / b;
    else if constexpr (std::is_signed_v<T>)
      return b == 0 ? T(0) : b == -1 ? Subtract::run(T(0), a) : static_cast<T>(a / b);
    else
      return b == 0 ? T(0) : static_cast<T>(a / b);
  }
};
struct Remainder {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>)
      return std::fmod(a, b);
    else if constexpr (std::is_signed_v<T>)
      return b == 0 || b == -1 ? T(0) : static_cast<T>(a % b);
    else
      return b == 0 ? T(0) : static_cast<T>(a % b);
  }
};
struct Modulo {
  template <typename T> static inline T run(T a, T b) {
    T remainder = Remainder::run(a, b);
    if constexpr (std::is_floating_point_v<T>) {
      if (remainder == T(0))
        return std::copysign(T(0), b);
      return (remainder < T(0)) != (b < T(0)) ? remainder + b : remainder;
    } else if constexpr (std::is_signed_v<T>) {
      return remainder != 0 && (remainder < 0) != (b < 0) ? Add::run(remainder, b) : remainder;
    } else {
      return remainder;
    }
  }
};
// Integers only (floats: elementaryKernel). A negative exponent gives the truncated quotient: 0 except for 1 and -1.
struct Power {
  template <typename T> static inline T run(T base, T exponent) {
    if constexpr (std::is_signed_v<T>)
      if (exponent < 0)
        return base == 1 ? T(1) : base == -1 ? (exponent % 2 ? T(-1) : T(1)) : T(0);
    auto factor = static_cast<Wide<T>>(base), result = Wide<T>(1);
    for (auto e = static_cast<Wide<T>>(exponent); e != 0; e >>= 1, factor *= factor)
      if (e & 1)
        result *= factor;
    return static_cast<T>(result);
  }
};

// Bits of equal floats differ only for zeros: "or" prefers -0, "and" prefers +0.
struct Minimum {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      T smaller = a < b ? a : b;
      T equal = std::bit_cast<T>(std::bit_cast<BitsOf<T>>(a) | std::bit_cast<BitsOf<T>>(b));
      smaller = a == b ? equal : smaller;
      return a != a || b != b ? a + b : smaller;
    } else {
      return a < b ? a : b;
    }
  }
};
struct Maximum {
  template <typename T> static inline T run(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      T larger = a > b ? a : b;
      T equal = std::bit_cast<T>(std::bit_cast<BitsOf<T>>(a) & std::bit_cast<BitsOf<T>>(b));
      larger = a == b ? equal : larger;
      return a != a || b != b ? a + b : larger;
    } else {
      return a > b ? a : b;
    }
  }
};
struct MinimumNumber {
  template <typename T> static inline T run(T a, T b) {
    T both = Minimum::run(a, b);
    if constexpr (std::is_floating_point_v<T>) {
      both = b != b ? a : both;
      both = a != a ? b : both;
    }
    return both;
  }
};
struct MaximumNumber {
  template <typename T> static inline T run(T a, T b) {
    T both = Maximum::run(a, b);
    if constexpr (std::is_floating_point_v<T>) {
      both = b != b ? a : both;
      both = a != a ? b : both;
    }
    return both;
  }
};
struct MultiplyAdd {
  template <typename T> static inline T run(T a, T b, T c) {
    if constexpr (std::is_floating_point_v<T>)
      return std::fma(a, b, c);
    else
      return Add::run(Multiply::run(a, b), c);
  }
};
struct Negate {
  template <typename T> static inline T run(T a) {
    if constexpr (std::is_floating_point_v<T>)
      return -a;
    else
      return Subtract::run(T(0), a);
  }
};
struct Absolute {
  template <typename T> static inline T run(T a) {
    if constexpr (std::is_floating_point_v<T>)
      return std::fabs(a);
    else
      return a < T(0) ? Subtract::run(T(0), a) : a;
  }
};
struct Sign {
  template <typename T> static inline T run(T a) { return a > T(0) ? T(1) : a < T(0) ? static_cast<T>(-1) : a; }
};
struct CopySign {
  template <typename T> static inline T run(T a, T b) { return std::copysign(a, b); }
};
struct SquareRoot {
  template <typename T> static inline T run(T a) { return std::sqrt(a); }
};
struct ReciprocalSquareRoot {
  template <typename T> static inline T run(T a) { return T(1) / std::sqrt(a); }
};
struct Reciprocal {
  template <typename T> static inline T run(T a) { return T(1) / a; }
};
struct Floor {
  template <typename T> static inline T run(T a) { return std::floor(a); }
};
struct Ceil {
  template <typename T> static inline T run(T a) { return std::ceil(a); }
};
struct RoundEven {
  template <typename T> static inline T run(T a) { return std::nearbyint(a); } // the rounding mode is never changed
};
struct Truncate {
  template <typename T> static inline T run(T a) { return std::trunc(a); }
};
struct And {
  template <typename T> static inline T run(T a, T b) { return static_cast<T>(a & b); }
};
struct Or {
  template <typename T> static inline T run(T a, T b) { return static_cast<T>(a | b); }
};
struct Xor {
  template <typename T> static inline T run(T a, T b) { return static_cast<T>(a ^ b); }
};
struct Not {
  template <typename T> static inline T run(T a) { return static_cast<T>(~a); }
};
struct NotBoolean {
  template <typename T> static inline T run(T a) { return a ^ 1; }
};
// A negative amount counts as one past the width.
struct ShiftLeft {
  template <typename T> static inline T run(T a, T b) {
    auto amount = static_cast<std::make_unsigned_t<T>>(b);
    constexpr unsigned width = sizeof(T) * 8;
    return amount >= width ? T(0) : static_cast<T>(static_cast<Wide<T>>(a) << amount);
  }
};
struct ShiftRight {
  template <typename T> static inline T run(T a, T b) {
    auto amount = static_cast<std::make_unsigned_t<T>>(b);
    constexpr unsigned width = sizeof(T) * 8;
    if constexpr (std::is_signed_v<T>)
      return static_cast<T>(a >> (amount >= width ? width - 1 : amount));
    else
      return amount >= width ? T(0) : static_cast<T>(a >> amount);
  }
};
struct Equal {
  template <typename T> static inline uint8_t run(T a, T b) { return a == b; }
};
struct NotEqual {
  template <typename T> static inline uint8_t run(T a, T b) { return a != b; }
};
struct Less {
  template <typename T> static inline uint8_t run(T a, T b) { return a < b; }
};
struct LessEqual {
  template <typename T> static inline uint8_t run(T a, T b) { return a <= b; }
};
struct IsNan {
  template <typename T> static inline uint8_t run(T a) { return a != a; }
};
struct IsInfinite {
  template <typename T> static inline uint8_t run(T a) {
    constexpr BitsOf<T> infinity = sizeof(T) == 4 ? BitsOf<T>(0x7f800000u) : BitsOf<T>(0x7ff0000000000000u);
    return (std::bit_cast<BitsOf<T>>(a) & ~BitsOf<T>(0) >> 1) == infinity;
  }
};

// Steps of kernelGranule elements: the inner loop has a constant length and an operand pointer that does not move for a
// repeated value.

template <typename T> HWY_INLINE const T *granule(const BlockSource &source, size_t i) {
  return static_cast<const T *>(source.data) + (i & source.mask);
}

template <typename Op, typename T> void unary(void *destination, const BlockSource *sources, size_t count) {
  using R = decltype(Op::run(T()));
  auto *out = static_cast<R *>(destination);
  for (size_t i = 0; i < count; i += kernelGranule) {
    const T *a = granule<T>(sources[0], i);
    QUADRILLE_VECTORIZE
    for (size_t j = 0; j < kernelGranule; ++j)
      out[i + j] = Op::run(a[j]);
  }
}

template <typename Op, typename T> void binary(void *destination, const BlockSource *sources, size_t count) {
  using R = decltype(Op::run(T(), T()));
  auto *out = static_cast<R *>(destination);
  for (size_t i = 0; i < count; i += kernelGranule) {
    const T *a = granule<T>(sources[0], i), *b = granule<T>(sources[1], i);
    QUADRILLE_VECTORIZE
    for (size_t j = 0; j < kernelGranule; ++j)
      out[i + j] = Op::run(a[j], b[j]);
  }
}

// For operations that do not vectorise (division of integers, fmod, integer powers): no element past the count.
template <typename Op, typename T> void binaryScalar(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<T *>(destination);
  for (size_t i = 0; i < count; ++i)
    out[i] = Op::run(*(granule<T>(sources[0], i & ~(kernelGranule - 1)) + i % kernelGranule),
                     *(granule<T>(sources[1], i & ~(kernelGranule - 1)) + i % kernelGranule));
}

template <typename Op, typename T> void ternary(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<T *>(destination);
  for (size_t i = 0; i < count; i += kernelGranule) {
    const T *a = granule<T>(sources[0], i), *b = granule<T>(sources[1], i), *c = granule<T>(sources[2], i);
    QUADRILLE_VECTORIZE
    for (size_t j = 0; j < kernelGranule; ++j)
      out[i + j] = Op::run(a[j], b[j], c[j]);
  }
}

template <typename T> void select(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<T *>(destination);
  for (size_t i = 0; i < count; i += kernelGranule) {
    const uint8_t *condition = granule<uint8_t>(sources[0], i);
    const T *a = granule<T>(sources[1], i), *b = granule<T>(sources[2], i);
    QUADRILLE_VECTORIZE
    for (size_t j = 0; j < kernelGranule; ++j) {
      T whenTrue = a[j], whenFalse = b[j];
      out[i + j] = condition[j] != 0 ? whenTrue : whenFalse;
    }
  }
}

// Opcodes that every type has.
template <typename T> BlockKernel commonKernel(BlockOpcode opcode) {
  switch (opcode) {
  case BlockOpcode::Minimum:
    return binary<Minimum, T>;
  case BlockOpcode::Maximum:
    return binary<Maximum, T>;
  case BlockOpcode::MinimumNumber:
    return binary<MinimumNumber, T>;
  case BlockOpcode::MaximumNumber:
    return binary<MaximumNumber, T>;
  case BlockOpcode::Equal:
    return binary<Equal, T>;
  case BlockOpcode::NotEqual:
    return binary<NotEqual, T>;
  case BlockOpcode::Less:
    return binary<Less, T>;
  case BlockOpcode::LessEqual:
    return binary<LessEqual, T>;
  case BlockOpcode::Select:
    return select<T>;
  default:
    return nullptr;
  }
}

template <typename T> BlockKernel numberKernel(BlockOpcode opcode) {
  constexpr bool isFloat = std::is_floating_point_v<T>;
  switch (opcode) {
  case BlockOpcode::Add:
    return binary<Add, T>;
  case BlockOpcode::Subtract:
    return binary<Subtract, T>;
  case BlockOpcode::Multiply:
    return binary<Multiply, T>;
  case BlockOpcode::Divide:
    if constexpr (isFloat)
      return binary<Divide, T>;
    else
      return binaryScalar<Divide, T>;
  case BlockOpcode::Remainder:
    return binaryScalar<Remainder, T>;
  case BlockOpcode::Modulo:
    return binaryScalar<Modulo, T>;
  case BlockOpcode::MultiplyAdd:
    return ternary<MultiplyAdd, T>;
  case BlockOpcode::Negate:
    return unary<Negate, T>;
  case BlockOpcode::Absolute:
    return unary<Absolute, T>;
  case BlockOpcode::Sign:
    return unary<Sign, T>;
  default:
    return commonKernel<T>(opcode);
  }
}

template <typename T> BlockKernel floatKernel(BlockOpcode opcode) {
  switch (opcode) {
  case BlockOpcode::CopySign:
    return binary<CopySign, T>;
  case BlockOpcode::SquareRoot:
    return unary<SquareRoot, T>;
  case BlockOpcode::ReciprocalSquareRoot:
    return unary<ReciprocalSquareRoot, T>;
  case BlockOpcode::Reciprocal:
    return unary<Reciprocal, T>;
  case BlockOpcode::Floor:
    return unary<Floor, T>;
  case BlockOpcode::Ceil:
    return unary<Ceil, T>;
  case BlockOpcode::RoundEven:
    return unary<RoundEven, T>;
  case BlockOpcode::Truncate:
    return unary<Truncate, T>;
  case BlockOpcode::IsNan:
    return unary<IsNan, T>;
  case BlockOpcode::IsInfinite:
    return unary<IsInfinite, T>;
  default:
    return numberKernel<T>(opcode);
  }
}

template <typename T> BlockKernel integerKernel(BlockOpcode opcode) {
  switch (opcode) {
  case BlockOpcode::Power:
    return binaryScalar<Power, T>;
  case BlockOpcode::And:
    return binary<And, T>;
  case BlockOpcode::Or:
    return binary<Or, T>;
  case BlockOpcode::Xor:
    return binary<Xor, T>;
  case BlockOpcode::Not:
    return unary<Not, T>;
  case BlockOpcode::ShiftLeft:
    return binary<ShiftLeft, T>;
  case BlockOpcode::ShiftRight:
    return binary<ShiftRight, T>;
  default:
    return numberKernel<T>(opcode);
  }
}

BlockKernel booleanKernel(BlockOpcode opcode) {
  switch (opcode) {
  case BlockOpcode::And:
    return binary<And, uint8_t>;
  case BlockOpcode::Or:
    return binary<Or, uint8_t>;
  case BlockOpcode::Xor:
    return binary<Xor, uint8_t>;
  case BlockOpcode::Not:
    return unary<NotBoolean, uint8_t>;
  default:
    return commonKernel<uint8_t>(opcode);
  }
}

BlockKernel kernelFor(BlockOpcode opcode, ElementType type) {
  switch (type) {
  case ElementType::f32:
    return floatKernel<float>(opcode);
  case ElementType::f64:
    return floatKernel<double>(opcode);
  case ElementType::i8:
    return integerKernel<int8_t>(opcode);
  case ElementType::i16:
    return integerKernel<int16_t>(opcode);
  case ElementType::i32:
    return integerKernel<int32_t>(opcode);
  case ElementType::i64:
    return integerKernel<int64_t>(opcode);
  case ElementType::u8:
    return integerKernel<uint8_t>(opcode);
  case ElementType::u16:
    return integerKernel<uint16_t>(opcode);
  case ElementType::u32:
    return integerKernel<uint32_t>(opcode);
  case ElementType::u64:
    return integerKernel<uint64_t>(opcode);
  case ElementType::boolean:
    return booleanKernel(opcode);
  default:
    return nullptr;
  }
}

template <typename Op, typename T> void fold(void *lanes, const void *values, size_t count) {
  T sums[foldLanes];
  auto *out = static_cast<T *>(lanes);
  auto *in = static_cast<const T *>(values);
  for (size_t l = 0; l < foldLanes; ++l)
    sums[l] = l < count ? out[l] : T(0); // lanes past a short array are neither read nor written
  size_t i = 0;
  for (; i + foldLanes <= count; i += foldLanes) {
    QUADRILLE_VECTORIZE
    for (size_t l = 0; l < foldLanes; ++l)
      sums[l] = Op::run(sums[l], in[i + l]);
  }
  for (size_t l = 0; i + l < count; ++l)
    sums[l] = Op::run(sums[l], in[i + l]);
  for (size_t l = 0; l < foldLanes && l < count; ++l)
    out[l] = sums[l];
}

template <typename T> FoldKernel foldOf(BlockOpcode opcode) {
  switch (opcode) {
  case BlockOpcode::Minimum:
    return fold<Minimum, T>;
  case BlockOpcode::Maximum:
    return fold<Maximum, T>;
  case BlockOpcode::MinimumNumber:
    return fold<MinimumNumber, T>;
  case BlockOpcode::MaximumNumber:
    return fold<MaximumNumber, T>;
  case BlockOpcode::Add:
    return fold<Add, T>;
  case BlockOpcode::Multiply:
    return fold<Multiply, T>;
  default:
    if constexpr (!std::is_floating_point_v<T>) {
      if (opcode == BlockOpcode::And)
        return fold<And, T>;
      if (opcode == BlockOpcode::Or)
        return fold<Or, T>;
      if (opcode == BlockOpcode::Xor)
        return fold<Xor, T>;
    }
    return nullptr;
  }
}

FoldKernel foldFor(BlockOpcode opcode, ElementType type) {
  switch (type) {
  case ElementType::f32:
    return foldOf<float>(opcode);
  case ElementType::f64:
    return foldOf<double>(opcode);
  case ElementType::i8:
    return foldOf<int8_t>(opcode);
  case ElementType::i16:
    return foldOf<int16_t>(opcode);
  case ElementType::i32:
    return foldOf<int32_t>(opcode);
  case ElementType::i64:
    return foldOf<int64_t>(opcode);
  case ElementType::u8:
    return foldOf<uint8_t>(opcode);
  case ElementType::u16:
    return foldOf<uint16_t>(opcode);
  case ElementType::u32:
    return foldOf<uint32_t>(opcode);
  case ElementType::u64:
    return foldOf<uint64_t>(opcode);
  case ElementType::boolean: // a sum or product of bool has no meaning that everybody shares
    return opcode == BlockOpcode::Add || opcode == BlockOpcode::Multiply ? nullptr : foldOf<uint8_t>(opcode);
  default:
    return nullptr;
  }
}

} // namespace HWY_NAMESPACE
} // namespace quadrille
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quadrille {
HWY_EXPORT(kernelFor);
BlockKernel arithmeticKernel(BlockOpcode opcode, ElementType type) {
  return HWY_DYNAMIC_DISPATCH(kernelFor)(opcode, type);
}

HWY_EXPORT(foldFor);
FoldKernel foldKernel(BlockOpcode opcode, ElementType type) {
  return HWY_DYNAMIC_DISPATCH(foldFor)(opcode, type);
}
} // namespace quadrille
#endif
