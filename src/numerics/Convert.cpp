#include "numerics/Convert.h"

#include "numerics/NarrowFloat.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

// This file is compiled once for each vector instruction set; the loops below are plain C++ that the compiler
// vectorises for that set, and Highway's dispatcher picks the best one at run time. All sets give the same bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numerics/Convert.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "numerics/Vectorize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quadrille {
namespace HWY_NAMESPACE {

template <typename T> inline T loadUnaligned(const void *source, size_t i) {
  T value;
  std::memcpy(&value, static_cast<const std::byte *>(source) + i * sizeof(T), sizeof(T));
  return value;
}

// Narrow floats to and from f32.

template <typename Format> void decodeArray(const void *source, float *destination, size_t count) {
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    destination[i] = Format::decode(loadUnaligned<typename Format::Storage>(source, i));
}

template <typename Format> void encodeArray(const float *source, void *destination, size_t count, bool saturate) {
  auto *out = static_cast<typename Format::Storage *>(destination);
  uint32_t overflow = saturate ? Format::maxFiniteCode : Format::overflowCode;
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    out[i] = Format::encode(source[i], overflow);
}

template <typename Format> void roundArray(float *values, size_t count) {
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    values[i] = Format::decode(Format::encode(values[i], Format::overflowCode));
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
// f16 has instructions, with the same results.
namespace hn = hwy::HWY_NAMESPACE;
using F32Tag = hn::ScalableTag<float>;
using F16Tag = hn::Rebind<hwy::float16_t, F32Tag>;
constexpr size_t f32Lanes = HWY_LANES(float);

template <> void decodeArray<F16Format>(const void *source, float *destination, size_t count) {
  auto *in = static_cast<const std::byte *>(source);
  size_t i = 0;
  for (; i + f32Lanes <= count; i += f32Lanes)
    hn::StoreU(hn::PromoteTo(F32Tag(), hn::LoadU(F16Tag(), reinterpret_cast<const hwy::float16_t *>(in + 2 * i))),
               F32Tag(), destination + i);
  for (; i < count; ++i)
    destination[i] = F16Format::decode(loadUnaligned<uint16_t>(source, i));
}

template <> void encodeArray<F16Format>(const float *source, void *destination, size_t count, bool saturate) {
  auto *out = static_cast<uint16_t *>(destination);
  const F32Tag d;
  // Min and Max return their second operand for NaN, which so passes through.
  const auto limit = hn::Set(d, saturate ? 65504.0f : std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + f32Lanes <= count; i += f32Lanes) {
    auto value = hn::LoadU(d, source + i);
    value = hn::Max(hn::Neg(limit), hn::Min(limit, value));
    hn::StoreU(hn::DemoteTo(F16Tag(), value), F16Tag(), reinterpret_cast<hwy::float16_t *>(out + i));
  }
  for (; i < count; ++i)
    out[i] = F16Format::encode(source[i], saturate ? F16Format::maxFiniteCode : F16Format::overflowCode);
}

template <> void roundArray<F16Format>(float *values, size_t count) {
  const F32Tag d;
  size_t i = 0;
  for (; i + f32Lanes <= count; i += f32Lanes)
    hn::StoreU(hn::PromoteTo(d, hn::DemoteTo(F16Tag(), hn::LoadU(d, values + i))), d, values + i);
  for (; i < count; ++i)
    values[i] = F16Format::decode(F16Format::encode(values[i], F16Format::overflowCode));
}
#endif

template <typename Format>
void encodeStochasticArray(const float *source, void *destination, size_t count, const uint32_t *random,
                           bool saturate) {
  auto *out = static_cast<typename Format::Storage *>(destination);
  uint32_t overflow = saturate ? Format::maxFiniteCode : Format::overflowCode;
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    out[i] = Format::encodeStochastic(source[i], random[i], overflow);
}

struct Decode {
  const void *source;
  float *destination;
  size_t count;
  template <typename Format> void operator()() { decodeArray<Format>(source, destination, count); }
};
struct Encode {
  const float *source;
  void *destination;
  size_t count;
  bool saturate;
  template <typename Format> void operator()() { encodeArray<Format>(source, destination, count, saturate); }
};
struct Round {
  float *values;
  size_t count;
  template <typename Format> void operator()() { roundArray<Format>(values, count); }
};
struct EncodeStochastic {
  const float *source;
  void *destination;
  size_t count;
  const uint32_t *random;
  bool saturate;
  template <typename Format> void operator()() {
    encodeStochasticArray<Format>(source, destination, count, random, saturate);
  }
};

void decodeNarrow(ElementType from, const void *source, float *destination, size_t count) {
  withNarrowFormat(from, Decode{source, destination, count});
}
void encodeNarrow(ElementType to, const float *source, void *destination, size_t count, bool saturate) {
  withNarrowFormat(to, Encode{source, destination, count, saturate});
}
void roundNarrow(ElementType type, float *values, size_t count) {
  withNarrowFormat(type, Round{values, count});
}
void encodeNarrowStochastic(ElementType to, const float *source, void *destination, size_t count,
                            const uint32_t *random, bool saturate) {
  withNarrowFormat(to, EncodeStochastic{source, destination, count, random, saturate});
}

// Rounding to odd: inexact results get an odd significand. Rounding such an f32 to nearest in a format with at least
// two bits less is then the single rounding of the exact value (S. Boldo, G. Melquiond, "Emulation of FMA and correctly
// rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008).

inline float oddF32(double value) {
  float nearest = static_cast<float>(value);
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  // Toward zero, then set the last bit; NaN compares false both times.
  bool away = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  bool inexact = static_cast<double>(nearest) != value && value == value;
  bits -= away ? 1u : 0u;
  bits |= inexact ? 1u : 0u;
  return std::bit_cast<float>(bits);
}

inline float oddF32FromMagnitude(uint64_t magnitude, bool negative) {
  // 24 bits hold the leading part; what falls off sets the last one.
  int excess = 40 - std::countl_zero(magnitude | 1);
  int drop = excess > 0 ? excess : 0;
  uint64_t kept = magnitude >> drop;
  uint64_t sticky = (kept << drop) != magnitude ? 1 : 0;
  float scaled = static_cast<float>(static_cast<int32_t>(kept | sticky)) *
                 std::bit_cast<float>(static_cast<uint32_t>(127 + drop) << 23);
  return negative ? -scaled : scaled;
}

template <typename T> inline float oddF32FromInteger(T value) {
  if constexpr (sizeof(T) <= 2)
    return static_cast<float>(value);
  else if constexpr (std::is_signed_v<T>)
    return oddF32FromMagnitude(value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value), value < 0);
  else
    return oddF32FromMagnitude(value, false);
}

// Into the carriers f32, f64, i64.

template <typename T> void integersToF32(const void *source, float *destination, size_t count, bool odd) {
  if (odd && sizeof(T) > 2) {
    for (size_t i = 0; i < count; ++i)
      destination[i] = oddF32FromInteger(loadUnaligned<T>(source, i));
    return;
  }
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    destination[i] = static_cast<float>(loadUnaligned<T>(source, i));
}

template <typename T> void integersToF64(const void *source, double *destination, size_t count) {
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    destination[i] = static_cast<double>(loadUnaligned<T>(source, i));
}

template <typename T> void integersToI64(const void *source, int64_t *destination, size_t count) {
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    destination[i] = static_cast<int64_t>(loadUnaligned<T>(source, i));
}

template <typename T> void booleansTo(const void *source, T *destination, size_t count) {
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    destination[i] = static_cast<T>(loadUnaligned<uint8_t>(source, i) != 0);
}

#define QUADRILLE_INTEGER_CASES(function, ...)                                                                         \
  case ElementType::i64:                                                                                               \
    return function<int64_t>(__VA_ARGS__);                                                                             \
  case ElementType::i32:                                                                                               \
    return function<int32_t>(__VA_ARGS__);                                                                             \
  case ElementType::i16:                                                                                               \
    return function<int16_t>(__VA_ARGS__);                                                                             \
  case ElementType::i8:                                                                                                \
  case ElementType::i4:                                                                                                \
  case ElementType::i2:                                                                                                \
    return function<int8_t>(__VA_ARGS__);                                                                              \
  case ElementType::u64:                                                                                               \
    return function<uint64_t>(__VA_ARGS__);                                                                            \
  case ElementType::u32:                                                                                               \
    return function<uint32_t>(__VA_ARGS__);                                                                            \
  case ElementType::u16:                                                                                               \
    return function<uint16_t>(__VA_ARGS__);                                                                            \
  case ElementType::u8:                                                                                                \
  case ElementType::u4:                                                                                                \
  case ElementType::u2:                                                                                                \
    return function<uint8_t>(__VA_ARGS__)

// `odd`: what f32 cannot hold is rounded to odd instead of to nearest even.
void loadF32(ElementType from, const void *source, float *destination, size_t count, bool odd) {
  switch (from) {
    QUADRILLE_INTEGER_CASES(integersToF32, source, destination, count, odd);
  case ElementType::boolean:
    return booleansTo(source, destination, count);
  case ElementType::f32:
    std::memcpy(destination, source, count * sizeof(float));
    return;
  case ElementType::f64:
    if (odd) {
      QUADRILLE_VECTORIZE
      for (size_t i = 0; i < count; ++i)
        destination[i] = oddF32(loadUnaligned<double>(source, i));
    } else {
      QUADRILLE_VECTORIZE
      for (size_t i = 0; i < count; ++i)
        destination[i] = static_cast<float>(loadUnaligned<double>(source, i));
    }
    return;
  default:
    return decodeNarrow(from, source, destination, count);
  }
}

void loadF64(ElementType from, const void *source, double *destination, size_t count) {
  switch (from) {
    QUADRILLE_INTEGER_CASES(integersToF64, source, destination, count);
  case ElementType::boolean:
    return booleansTo(source, destination, count);
  case ElementType::f64:
    std::memcpy(destination, source, count * sizeof(double));
    return;
  default: {
    HWY_ALIGN float block[64];
    for (size_t i = 0; i < count; i += 64) {
      size_t n = std::min<size_t>(64, count - i);
      loadF32(from, static_cast<const std::byte *>(source) + i * byteWidth(from), block, n, false);
      QUADRILLE_VECTORIZE
      for (size_t j = 0; j < n; ++j)
        destination[i + j] = static_cast<double>(block[j]);
    }
  }
  }
}

// `from` is an integer type or bool; u64 keeps its bits.
void loadI64(ElementType from, const void *source, int64_t *destination, size_t count) {
  switch (from) {
    QUADRILLE_INTEGER_CASES(integersToI64, source, destination, count);
  default:
    return booleansTo(source, destination, count);
  }
}

// Out of the carriers.

// Truncates to an integer of `bits` bits held in T, saturating; NaN gives 0. The limits are powers of two, so exact.
template <typename T, typename F> void truncateTo(const F *source, void *destination, size_t count, unsigned bits) {
  auto *out = static_cast<T *>(destination);
  constexpr bool isSigned = std::is_signed_v<T>;
  F above = static_cast<F>(std::ldexp(1.0, static_cast<int>(isSigned ? bits - 1 : bits)));
  F lowest = isSigned ? -above : F(0);
  T largest = static_cast<T>(isSigned ? (uint64_t(1) << (bits - 1)) - 1 : ~uint64_t(0) >> (64 - bits));
  T smallest = isSigned ? static_cast<T>(~largest) : T(0);
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i) {
    F value = source[i];
    // The cast sees only values that fit: anything else would be undefined.
    F inside = value > lowest && value < above ? value : F(0);
    T result = static_cast<T>(inside);
    result = value >= above ? largest : result;
    result = value <= lowest ? smallest : result;
    out[i] = result;
  }
}

template <typename F> void notZero(const F *source, void *destination, size_t count) {
  auto *out = static_cast<uint8_t *>(destination);
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i)
    out[i] = source[i] != F(0);
}

template <typename T> struct Truncate {
  template <typename F> static void run(const F *source, void *destination, size_t count, unsigned bits) {
    truncateTo<T, F>(source, destination, count, bits);
  }
};

template <typename F> void truncateOrTest(ElementType to, const F *source, void *destination, size_t count) {
  unsigned bits = bitWidth(to);
  switch (to) {
  case ElementType::i64:
    return truncateTo<int64_t>(source, destination, count, bits);
  case ElementType::i32:
    return truncateTo<int32_t>(source, destination, count, bits);
  case ElementType::i16:
    return truncateTo<int16_t>(source, destination, count, bits);
  case ElementType::i8:
  case ElementType::i4:
  case ElementType::i2:
    return truncateTo<int8_t>(source, destination, count, bits);
  case ElementType::u64:
    return truncateTo<uint64_t>(source, destination, count, bits);
  case ElementType::u32:
    return truncateTo<uint32_t>(source, destination, count, bits);
  case ElementType::u16:
    return truncateTo<uint16_t>(source, destination, count, bits);
  case ElementType::u8:
  case ElementType::u4:
  case ElementType::u2:
    return truncateTo<uint8_t>(source, destination, count, bits);
  default:
    return notZero(source, destination, count);
  }
}

void storeFromF32(ElementType to, const float *source, void *destination, size_t count) {
  truncateOrTest(to, source, destination, count);
}
void storeFromF64(ElementType to, const double *source, void *destination, size_t count) {
  truncateOrTest(to, source, destination, count);
}

// Wraps to `bits` bits, sign- or zero-extended in T.
template <typename T> void wrapTo(const int64_t *source, void *destination, size_t count, unsigned bits) {
  auto *out = static_cast<T *>(destination);
  if (bits == sizeof(T) * 8) {
    QUADRILLE_VECTORIZE
    for (size_t i = 0; i < count; ++i)
      out[i] = static_cast<T>(source[i]);
    return;
  }
  unsigned up = sizeof(T) * 8 - bits;
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i) {
    auto raised = static_cast<T>(static_cast<std::make_unsigned_t<T>>(static_cast<uint64_t>(source[i]) << up));
    out[i] = static_cast<T>(raised >> up);
  }
}

// Clamps in place to [smallest, largest]; for a u64 source the limits compare as unsigned.
void clampI64(int64_t *values, size_t count, bool sourceIsU64, int64_t smallest, int64_t largest) {
  if (sourceIsU64) {
    auto limit = static_cast<uint64_t>(largest);
    QUADRILLE_VECTORIZE
    for (size_t i = 0; i < count; ++i) {
      auto value = static_cast<uint64_t>(values[i]);
      values[i] = static_cast<int64_t>(value > limit ? limit : value);
    }
    return;
  }
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i) {
    int64_t value = values[i];
    value = value < smallest ? smallest : value;
    values[i] = value > largest ? largest : value;
  }
}

void storeFromI64(ElementType to, const int64_t *source, void *destination, size_t count) {
  unsigned bits = bitWidth(to);
  switch (to) {
    QUADRILLE_INTEGER_CASES(wrapTo, source, destination, count, bits);
  default:
    return notZero(source, destination, count);
  }
}

void clampF32(float *values, size_t count) {
  constexpr float limit = std::numeric_limits<float>::max();
  QUADRILLE_VECTORIZE
  for (size_t i = 0; i < count; ++i) {
    float value = values[i];
    value = value > limit ? limit : value;
    values[i] = value < -limit ? -limit : value;
  }
}

// Philox4x32-10 for counters first .. first + groups - 1, four words each.
void philox(uint64_t seed, uint64_t first, uint32_t *destination, size_t groups) {
  constexpr size_t width = 16;
  for (size_t g = 0; g < groups; g += width) {
    uint32_t x[4][width];
    for (size_t j = 0; j < width; ++j) {
      uint64_t counter = first + g + j;
      x[0][j] = static_cast<uint32_t>(counter);
      x[1][j] = static_cast<uint32_t>(counter >> 32);
      x[2][j] = x[3][j] = 0;
    }
    auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      for (size_t j = 0; j < width; ++j) {
        uint64_t product0 = uint64_t(0xD2511F53u) * x[0][j];
        uint64_t product1 = uint64_t(0xCD9E8D57u) * x[2][j];
        x[0][j] = static_cast<uint32_t>(product1 >> 32) ^ x[1][j] ^ key0;
        x[1][j] = static_cast<uint32_t>(product1);
        x[2][j] = static_cast<uint32_t>(product0 >> 32) ^ x[3][j] ^ key1;
        x[3][j] = static_cast<uint32_t>(product0);
      }
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    size_t n = std::min(width, groups - g);
    for (size_t j = 0; j < n; ++j)
      for (size_t k = 0; k < 4; ++k)
        destination[(g + j) * 4 + k] = x[k][j];
  }
}

} // namespace HWY_NAMESPACE
} // namespace quadrille
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quadrille {

HWY_EXPORT(decodeNarrow);
HWY_EXPORT(encodeNarrow);
HWY_EXPORT(roundNarrow);
HWY_EXPORT(encodeNarrowStochastic);
HWY_EXPORT(loadF32);
HWY_EXPORT(loadF64);
HWY_EXPORT(loadI64);
HWY_EXPORT(storeFromF32);
HWY_EXPORT(storeFromF64);
HWY_EXPORT(storeFromI64);
HWY_EXPORT(clampI64);
HWY_EXPORT(clampF32);
HWY_EXPORT(philox);

namespace {

constexpr size_t blockLength = 512; // carriers of one block stay in L1

// body(offset, n) for blocks of at most blockLength.
template <typename Body> void forBlocks(size_t count, Body body) {
  for (size_t i = 0; i < count; i += blockLength)
    body(i, std::min(blockLength, count - i));
}

const std::byte *at(const void *base, ElementType type, size_t i) {
  return static_cast<const std::byte *>(base) + i * byteWidth(type);
}
std::byte *at(void *base, ElementType type, size_t i) {
  return static_cast<std::byte *>(base) + i * byteWidth(type);
}

void convertToNarrow(ElementType from, const void *source, ElementType to, void *destination, size_t count,
                     bool saturate) {
  alignas(64) float block[blockLength];
  forBlocks(count, [&](size_t i, size_t n) {
    HWY_DYNAMIC_DISPATCH(loadF32)(from, at(source, from, i), block, n, /*odd=*/true);
    HWY_DYNAMIC_DISPATCH(encodeNarrow)(to, block, at(destination, to, i), n, saturate);
  });
}

void convertToF64(ElementType from, const void *source, double *destination, size_t count, bool saturate) {
  HWY_DYNAMIC_DISPATCH(loadF64)(from, source, destination, count);
  if (!saturate || !isFloat(from))
    return;
  constexpr double limit = std::numeric_limits<double>::max();
  for (size_t i = 0; i < count; ++i)
    if (std::isinf(destination[i]))
      destination[i] = std::copysign(limit, destination[i]);
}

void convertFloatToInteger(ElementType from, const void *source, ElementType to, void *destination, size_t count) {
  if (from == ElementType::f64) {
    alignas(64) double block[blockLength];
    return forBlocks(count, [&](size_t i, size_t n) {
      std::memcpy(block, at(source, from, i), n * sizeof(double));
      HWY_DYNAMIC_DISPATCH(storeFromF64)(to, block, at(destination, to, i), n);
    });
  }
  alignas(64) float block[blockLength];
  forBlocks(count, [&](size_t i, size_t n) {
    HWY_DYNAMIC_DISPATCH(loadF32)(from, at(source, from, i), block, n, /*odd=*/false);
    HWY_DYNAMIC_DISPATCH(storeFromF32)(to, block, at(destination, to, i), n);
  });
}

void convertIntegers(ElementType from, const void *source, ElementType to, void *destination, size_t count,
                     bool saturate) {
  alignas(64) int64_t block[blockLength];
  bool toSigned = kindOf(to) == ElementKind::Signed;
  unsigned bits = bitWidth(to);
  auto largest = toSigned     ? static_cast<int64_t>((uint64_t(1) << (bits - 1)) - 1)
                 : bits == 64 ? std::numeric_limits<int64_t>::max()
                              : static_cast<int64_t>((uint64_t(1) << bits) - 1);
  int64_t smallest = toSigned ? ~largest : 0;
  bool fromU64 = from == ElementType::u64;
  bool clamp = saturate && to != ElementType::boolean && !(fromU64 && to == ElementType::u64);
  forBlocks(count, [&](size_t i, size_t n) {
    HWY_DYNAMIC_DISPATCH(loadI64)(from, at(source, from, i), block, n);
    if (clamp)
      HWY_DYNAMIC_DISPATCH(clampI64)(block, n, fromU64, smallest, largest);
    HWY_DYNAMIC_DISPATCH(storeFromI64)(to, block, at(destination, to, i), n);
  });
}

} // namespace

void widenToF32(ElementType from, const void *source, float *destination, size_t count) {
  HWY_DYNAMIC_DISPATCH(loadF32)(from, source, destination, count, /*odd=*/false);
}

void narrowFromF32(ElementType to, const float *source, void *destination, size_t count, bool saturate) {
  if (isNarrowFloat(to))
    HWY_DYNAMIC_DISPATCH(encodeNarrow)(to, source, destination, count, saturate);
  else
    convert(ElementType::f32, source, to, destination, count, saturate);
}

void roundF32To(ElementType type, float *values, size_t count) {
  assert(isFloat(type) && type != ElementType::f64);
  HWY_DYNAMIC_DISPATCH(roundNarrow)(type, values, count);
}

Tensor convert(const Tensor &tensor, ElementType to, bool saturate) {
  if (tensor.type() == to)
    return tensor;
  Tensor result = Tensor::uninitialized(to, tensor.shape());
  convert(tensor.type(), tensor.bytes().data(), to, result.mutableBytes(), static_cast<size_t>(tensor.elements()),
          saturate);
  return result;
}

void convert(ElementType from, const void *source, ElementType to, void *destination, size_t count, bool saturate) {
  if (from == to && !(saturate && isFloat(to))) {
    if (source != destination && count != 0) // memmove takes no null, not even for no bytes
      std::memmove(destination, source, count * byteWidth(to));
    return;
  }
  if (from == ElementType::f32 && isNarrowFloat(to) && reinterpret_cast<uintptr_t>(source) % alignof(float) == 0)
    return HWY_DYNAMIC_DISPATCH(encodeNarrow)(to, static_cast<const float *>(source), destination, count, saturate);
  if (isNarrowFloat(to))
    return convertToNarrow(from, source, to, destination, count, saturate);
  if (to == ElementType::f32) {
    HWY_DYNAMIC_DISPATCH(loadF32)(from, source, static_cast<float *>(destination), count, /*odd=*/false);
    if (saturate && isFloat(from))
      HWY_DYNAMIC_DISPATCH(clampF32)(static_cast<float *>(destination), count);
    return;
  }
  if (to == ElementType::f64)
    return convertToF64(from, source, static_cast<double *>(destination), count, saturate);
  if (isFloat(from))
    return convertFloatToInteger(from, source, to, destination, count);
  convertIntegers(from, source, to, destination, count, saturate);
}

void narrowStochastic(ElementType to, const float *source, void *destination, size_t count, uint64_t seed,
                      uint64_t firstIndex, bool saturate) {
  assert(isNarrowFloat(to));
  alignas(64) uint32_t random[blockLength];
  forBlocks(count, [&](size_t i, size_t n) {
    randomBits(seed, firstIndex + i, random, n);
    HWY_DYNAMIC_DISPATCH(encodeNarrowStochastic)(to, source + i, at(destination, to, i), n, random, saturate);
  });
}

void randomBits(uint64_t seed, uint64_t firstIndex, uint32_t *destination, size_t count) {
  uint32_t group[4];
  if (size_t skip = firstIndex % 4; skip != 0 && count > 0) {
    HWY_DYNAMIC_DISPATCH(philox)(seed, firstIndex / 4, group, 1);
    size_t n = std::min(count, 4 - skip);
    std::copy_n(group + skip, n, destination);
    destination += n;
    firstIndex += n;
    count -= n;
  }
  HWY_DYNAMIC_DISPATCH(philox)(seed, firstIndex / 4, destination, count / 4);
  if (size_t rest = count % 4; rest != 0) {
    HWY_DYNAMIC_DISPATCH(philox)(seed, firstIndex / 4 + count / 4, group, 1);
    std::copy_n(group, rest, destination + count - rest);
  }
}

uint64_t bitsFromDouble(ElementType type, double value, bool saturate) {
  uint64_t bits = 0; // little-endian: a narrow element lands in the low bytes
  convert(ElementType::f64, &value, type, &bits, 1, saturate);
  return bits;
}

double doubleFromBits(ElementType type, uint64_t bits) {
  double value = 0;
  convert(type, &bits, ElementType::f64, &value, 1);
  return value;
}

size_t packedByteSize(ElementType type, size_t count) {
  return (count * bitWidth(type) + 7) / 8;
}

void unpackSubByte(ElementType type, const void *packed, void *destination, size_t count) {
  unsigned bits = bitWidth(type), perByte = 8 / bits, up = 8 - bits;
  assert(bits == 4 || bits == 2);
  auto *in = static_cast<const uint8_t *>(packed);
  auto *out = static_cast<uint8_t *>(destination);
  bool isSigned = kindOf(type) == ElementKind::Signed;
  for (size_t i = 0; i < count; ++i) {
    auto raised = static_cast<uint8_t>(in[i / perByte] >> (i % perByte * bits) << up);
    out[i] = isSigned ? static_cast<uint8_t>(static_cast<int8_t>(raised) >> up) : static_cast<uint8_t>(raised >> up);
  }
}

void packSubByte(ElementType type, const void *source, void *packed, size_t count) {
  unsigned bits = bitWidth(type), perByte = 8 / bits, mask = (1u << bits) - 1;
  assert(bits == 4 || bits == 2);
  auto *in = static_cast<const uint8_t *>(source);
  auto *out = static_cast<uint8_t *>(packed);
  std::memset(out, 0, packedByteSize(type, count));
  for (size_t i = 0; i < count; ++i)
    out[i / perByte] = static_cast<uint8_t>(out[i / perByte] | (in[i] & mask) << (i % perByte * bits));
}

} // namespace quadrille
#endif // HWY_ONCE
