// Elementary functions through SLEEF's deterministic forms: "finz" results are the same bits for every vector width
// that has a fused multiply-add (AVX2, AVX-512), and for `purecfma`, which the remaining CPUs use one element at a
// time.
#include "numerics/BlockKernels.h"

#include <sleef.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numerics/ElementaryFunctions.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "numerics/Vectorize-inl.h"

HWY_BEFORE_NAMESPACE();

// name in SLEEF, name of the struct here, number of operands
#undef QUADRILLE_SLEEF_UNARY
#define QUADRILLE_SLEEF_UNARY(X)                                                                                       \
  X(exp, Exp)                                                                                                          \
  X(exp2, Exp2)                                                                                                        \
  X(expm1, Expm1)                                                                                                      \
  X(log, Log)                                                                                                          \
  X(log2, Log2)                                                                                                        \
  X(log1p, Log1p)                                                                                                      \
  X(sin, Sin)                                                                                                          \
  X(cos, Cos)                                                                                                          \
  X(tan, Tan)                                                                                                          \
  X(asin, Asin)                                                                                                        \
  X(acos, Acos)                                                                                                        \
  X(atan, Atan)                                                                                                        \
  X(sinh, Sinh)                                                                                                        \
  X(cosh, Cosh)                                                                                                        \
  X(tanh, Tanh)                                                                                                        \
  X(asinh, Asinh)                                                                                                      \
  X(acosh, Acosh)                                                                                                      \
  X(atanh, Atanh)                                                                                                      \
  X(erf, Erf)
#undef QUADRILLE_SLEEF_BINARY
#define QUADRILLE_SLEEF_BINARY(X)                                                                                      \
  X(pow, Power)                                                                                                        \
  X(atan2, Atan2)

// sleef.h declares the wide forms only when the whole file is compiled for such a CPU.
#undef QUADRILLE_SLEEF_F32
#undef QUADRILLE_SLEEF_F64
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define QUADRILLE_SLEEF_F32(name) Sleef_finz_##name##f16_u10avx512f
#define QUADRILLE_SLEEF_F64(name) Sleef_finz_##name##d8_u10avx512f
extern "C" {
#define QUADRILLE_DECLARE(name, struct_)                                                                               \
  __m512 QUADRILLE_SLEEF_F32(name)(__m512);                                                                            \
  __m512d QUADRILLE_SLEEF_F64(name)(__m512d);
QUADRILLE_SLEEF_UNARY(QUADRILLE_DECLARE)
#undef QUADRILLE_DECLARE
#define QUADRILLE_DECLARE(name, struct_)                                                                               \
  __m512 QUADRILLE_SLEEF_F32(name)(__m512, __m512);                                                                    \
  __m512d QUADRILLE_SLEEF_F64(name)(__m512d, __m512d);
QUADRILLE_SLEEF_BINARY(QUADRILLE_DECLARE)
#undef QUADRILLE_DECLARE
}
#elif HWY_TARGET == HWY_AVX2
#define QUADRILLE_SLEEF_F32(name) Sleef_finz_##name##f8_u10avx2
#define QUADRILLE_SLEEF_F64(name) Sleef_finz_##name##d4_u10avx2
extern "C" {
#define QUADRILLE_DECLARE(name, struct_)                                                                               \
  __m256 QUADRILLE_SLEEF_F32(name)(__m256);                                                                            \
  __m256d QUADRILLE_SLEEF_F64(name)(__m256d);
QUADRILLE_SLEEF_UNARY(QUADRILLE_DECLARE)
#undef QUADRILLE_DECLARE
#define QUADRILLE_DECLARE(name, struct_)                                                                               \
  __m256 QUADRILLE_SLEEF_F32(name)(__m256, __m256);                                                                    \
  __m256d QUADRILLE_SLEEF_F64(name)(__m256d, __m256d);
QUADRILLE_SLEEF_BINARY(QUADRILLE_DECLARE)
#undef QUADRILLE_DECLARE
}
#else
#define QUADRILLE_SLEEF_F32(name) Sleef_cinz_##name##f1_u10purec
#define QUADRILLE_SLEEF_F64(name) Sleef_cinz_##name##d1_u10purec
#endif

namespace quadrille {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Vectors as SLEEF takes them.
template <typename T> struct Lanes {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_AVX2
  using D = hn::ScalableTag<T>;
  using V = decltype(hn::Zero(D()).raw);
  static constexpr size_t count = HWY_LANES(T);
  static HWY_INLINE V load(const T *p) { return hn::LoadU(D(), p).raw; }
  static HWY_INLINE void store(V v, T *p) { hn::StoreU(hn::Vec<D>{v}, D(), p); }
#else
  using V = T;
  static constexpr size_t count = 1;
  static HWY_INLINE V load(const T *p) { return *p; }
  static HWY_INLINE void store(V v, T *p) { *p = v; }
#endif
};

#define QUADRILLE_DEFINE(name, struct_)                                                                                \
  struct struct_ {                                                                                                     \
    static HWY_INLINE Lanes<float>::V run(Lanes<float>::V x) {                                                         \
      return QUADRILLE_SLEEF_F32(name)(x);                                                                             \
    }                                                                                                                  \
    static HWY_INLINE Lanes<double>::V run(Lanes<double>::V x) {                                                       \
      return QUADRILLE_SLEEF_F64(name)(x);                                                                             \
    }                                                                                                                  \
  };
QUADRILLE_SLEEF_UNARY(QUADRILLE_DEFINE)
#undef QUADRILLE_DEFINE
#define QUADRILLE_DEFINE(name, struct_)                                                                                \
  struct struct_ {                                                                                                     \
    static HWY_INLINE Lanes<float>::V run(Lanes<float>::V x, Lanes<float>::V y) {                                      \
      return QUADRILLE_SLEEF_F32(name)(x, y);                                                                          \
    }                                                                                                                  \
    static HWY_INLINE Lanes<double>::V run(Lanes<double>::V x, Lanes<double>::V y) {                                   \
      return QUADRILLE_SLEEF_F64(name)(x, y);                                                                          \
    }                                                                                                                  \
  };
QUADRILLE_SLEEF_BINARY(QUADRILLE_DEFINE)
#undef QUADRILLE_DEFINE

template <typename T> HWY_INLINE const T *elementAt(const BlockSource &source, size_t i) {
  return static_cast<const T *>(source.data) + (i & (source.mask | (kernelGranule - 1)));
}

template <typename Function, typename T> void unaryKernel(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<T *>(destination);
  for (size_t i = 0; i < count; i += Lanes<T>::count)
    Lanes<T>::store(Function::run(Lanes<T>::load(elementAt<T>(sources[0], i))), out + i);
}

template <typename Function, typename T>
void binaryKernel(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<T *>(destination);
  for (size_t i = 0; i < count; i += Lanes<T>::count)
    Lanes<T>::store(
        Function::run(Lanes<T>::load(elementAt<T>(sources[0], i)), Lanes<T>::load(elementAt<T>(sources[1], i))),
        out + i);
}

// f32 by way of f64, for functions whose f32 form overflows early.
template <typename Function> void unaryThroughF64(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<float *>(destination);
  for (size_t i = 0; i < count; i += kernelGranule) {
    const float *in = elementAt<float>(sources[0], i);
    HWY_ALIGN double wide[kernelGranule];
    QUADRILLE_VECTORIZE
    for (size_t j = 0; j < kernelGranule; ++j)
      wide[j] = static_cast<double>(in[j]);
    BlockSource self{wide, ~size_t(0)};
    unaryKernel<Function, double>(wide, &self, std::min(kernelGranule, count - i));
    QUADRILLE_VECTORIZE
    for (size_t j = 0; j < kernelGranule; ++j)
      out[i + j] = static_cast<float>(wide[j]);
  }
}

// SLEEF's forms overflow for large arguments where the function does not. Past `limit` in magnitude another formula
// holds, which is `inner` of an argument and then `outer` of that and the original one.

struct LargeLog1p { // log(1 + x) = log(x) (1 + O(1 / x))
  using Inner = Log;
  static constexpr double limit = 0x1p60;
  template <typename T> static inline T argument(T x) { return x; }
  template <typename T> static inline T outer(T y, T) { return y; }
};
struct LargeAsinh { // asinh(x) = log(2 x) + O(1 / x^2)
  using Inner = Log;
  static constexpr double limit = 0x1p30;
  template <typename T> static inline T argument(T x) { return std::fabs(x); }
  template <typename T> static inline T outer(T y, T x) { return std::copysign(y + T(0.693147180559945309417232), x); }
};
struct LargeAcosh {
  using Inner = Log;
  static constexpr double limit = 0x1p30;
  template <typename T> static inline T argument(T x) { return x; }
  template <typename T> static inline T outer(T y, T) { return y + T(0.693147180559945309417232); }
};
// exp(x) / 2 = exp(x - 1) * (e / 2), where x - 1 is exact and overflows no earlier than the result.
struct LargeSinh {
  using Inner = Exp;
  static constexpr double limit = 709;
  template <typename T> static inline T argument(T x) { return std::fabs(x) - T(1); }
  template <typename T> static inline T outer(T y, T x) { return std::copysign(y * T(1.35914091422952261768014), x); }
};
struct LargeCosh {
  using Inner = Exp;
  static constexpr double limit = 709;
  template <typename T> static inline T argument(T x) { return std::fabs(x) - T(1); }
  template <typename T> static inline T outer(T y, T) { return y * T(1.35914091422952261768014); }
};

template <typename Function, typename Large, typename T>
void unaryWithLarge(void *destination, const BlockSource *sources, size_t count) {
  auto *out = static_cast<T *>(destination);
  for (size_t i = 0; i < count; i += kernelGranule) {
    const T *in = elementAt<T>(sources[0], i);
    size_t n = std::min(kernelGranule, count - i);
    HWY_ALIGN T x[kernelGranule];
    std::copy_n(in, kernelGranule, x); // the destination may be the source
    uint32_t large = 0;
    for (size_t j = 0; j < n; ++j)
      large |= std::fabs(x[j]) > T(Large::limit);
    BlockSource source{x, ~size_t(0)};
    unaryKernel<Function, T>(out + i, &source, n);
    if (HWY_LIKELY(large == 0))
      continue;
    HWY_ALIGN T y[kernelGranule];
    for (size_t j = 0; j < kernelGranule; ++j)
      y[j] = Large::argument(x[j]);
    BlockSource self{y, ~size_t(0)};
    unaryKernel<typename Large::Inner, T>(y, &self, n);
    for (size_t j = 0; j < n; ++j)
      if (std::fabs(x[j]) > T(Large::limit))
        out[i + j] = Large::outer(y[j], x[j]);
  }
}

// The functions that SLEEF does not cover on their whole domain; null for the others.
template <typename T> BlockKernel amendedKernel(BlockOpcode opcode) {
  if (opcode == BlockOpcode::Log1p)
    return unaryWithLarge<Log1p, LargeLog1p, T>;
  if constexpr (sizeof(T) == sizeof(float)) {
    switch (opcode) {
    case BlockOpcode::Sinh:
      return unaryThroughF64<Sinh>;
    case BlockOpcode::Cosh:
      return unaryThroughF64<Cosh>;
    case BlockOpcode::Asinh:
      return unaryThroughF64<Asinh>;
    case BlockOpcode::Acosh:
      return unaryThroughF64<Acosh>;
    default:
      return nullptr;
    }
  }
  switch (opcode) {
  case BlockOpcode::Sinh:
    return unaryWithLarge<Sinh, LargeSinh, T>;
  case BlockOpcode::Cosh:
    return unaryWithLarge<Cosh, LargeCosh, T>;
  case BlockOpcode::Asinh:
    return unaryWithLarge<Asinh, LargeAsinh, T>;
  case BlockOpcode::Acosh:
    return unaryWithLarge<Acosh, LargeAcosh, T>;
  default:
    return nullptr;
  }
}

template <typename T> BlockKernel functionKernel(BlockOpcode opcode) {
  if (BlockKernel kernel = amendedKernel<T>(opcode))
    return kernel;
  switch (opcode) {
#define QUADRILLE_CASE(name, struct_)                                                                                  \
  case BlockOpcode::struct_:                                                                                           \
    return unaryKernel<struct_, T>;
    QUADRILLE_SLEEF_UNARY(QUADRILLE_CASE)
#undef QUADRILLE_CASE
#define QUADRILLE_CASE(name, struct_)                                                                                  \
  case BlockOpcode::struct_:                                                                                           \
    return binaryKernel<struct_, T>;
    QUADRILLE_SLEEF_BINARY(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  default:
    return nullptr;
  }
}

BlockKernel elementary(BlockOpcode opcode, ElementType type) {
  if (type == ElementType::f32)
    return functionKernel<float>(opcode);
  if (type == ElementType::f64)
    return functionKernel<double>(opcode);
  return nullptr;
}

} // namespace HWY_NAMESPACE
} // namespace quadrille
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quadrille {
HWY_EXPORT(elementary);
BlockKernel elementaryKernel(BlockOpcode opcode, ElementType type) {
  return HWY_DYNAMIC_DISPATCH(elementary)(opcode, type);
}
} // namespace quadrille
#endif
