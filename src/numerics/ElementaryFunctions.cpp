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

template <typename T> BlockKernel functionKernel(BlockOpcode opcode) {
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
