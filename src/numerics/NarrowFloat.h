// The bit layouts of the floats narrower than f32 and their scalar encode and decode. Branch-free integer and f32
// arithmetic, so that loops over them vectorise; the arrays are in Convert.h.
#pragma once

#include "numerics/ElementType.h"

#include <bit>
#include <cstdint>
#include <type_traits>

namespace quadrille {

// How a format spends its topmost codes.
//   Ieee        exponent all ones: infinity (mantissa 0) and NaN
//   FiniteNan   no infinity; only the topmost code of each sign is NaN                       (f8e4m3fn)
//   FiniteNuz   no infinity, no negative zero; the code of -0 is the only NaN                (f8*fnuz)
enum class SpecialCodes { Ieee, FiniteNan, FiniteNuz };

template <unsigned ExponentBits, unsigned MantissaBits, int Bias, SpecialCodes Specials> struct NarrowFloat {
  static constexpr unsigned bits = 1 + ExponentBits + MantissaBits;
  static constexpr unsigned mantissaBits = MantissaBits;
  static constexpr int bias = Bias;
  static constexpr SpecialCodes specials = Specials;
  using Storage = std::conditional_t<bits <= 8, uint8_t, uint16_t>;

  static constexpr uint32_t signBit = 1u << (bits - 1);
  static constexpr uint32_t magnitudeMask = signBit - 1;
  static constexpr uint32_t infinityCode = ((1u << ExponentBits) - 1) << MantissaBits; // Ieee only
  static constexpr uint32_t maxFiniteCode = Specials == SpecialCodes::Ieee        ? infinityCode - 1
                                            : Specials == SpecialCodes::FiniteNan ? magnitudeMask - 1
                                                                                  : magnitudeMask;
  // What an overflow becomes; for FiniteNuz the code of the only NaN, whose sign bit is set.
  static constexpr uint32_t overflowCode = Specials == SpecialCodes::Ieee        ? infinityCode
                                           : Specials == SpecialCodes::FiniteNan ? magnitudeMask
                                                                                 : signBit;

  static constexpr unsigned shift = 23 - MantissaBits;
  static constexpr uint32_t minNormalExponent = 128 - Bias; // as f32 biases it
  static constexpr uint32_t minNormalBits = minNormalExponent << 23;
  // bf16 has f32's exponents: its subnormals are f32's.
  static constexpr bool subnormalsDiffer = Bias != 127;

  static inline float decode(uint32_t code) {
    uint32_t magnitude = code & magnitudeMask;
    uint32_t sign = (code & signBit) << (32 - bits);
    uint32_t shifted = magnitude << shift;
    if constexpr (subnormalsDiffer) {
      // Scaling by a power of two turns subnormals of the format into normal f32 numbers.
      constexpr float scale = std::bit_cast<float>(static_cast<uint32_t>(127 + 127 - Bias) << 23);
      uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(shifted) * scale);
      if constexpr (Specials == SpecialCodes::Ieee)
        shifted = magnitude >= infinityCode ? shifted | 0x7f800000u : scaled;
      else if constexpr (Specials == SpecialCodes::FiniteNan)
        shifted = magnitude == magnitudeMask ? 0x7fc00000u : scaled;
      else
        shifted = code == signBit ? 0x7fc00000u : scaled;
    }
    // As the conversion instructions of CPUs do, a signalling NaN becomes quiet.
    if constexpr (Specials == SpecialCodes::Ieee)
      shifted |= magnitude > infinityCode ? 0x400000u : 0u;
    return std::bit_cast<float>(shifted | sign);
  }

  // Nearest, ties to even. `overflow` is maxFiniteCode to saturate, else overflowCode.
  static inline Storage encode(float value, uint32_t overflow) {
    uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
    uint32_t rounded = magnitude + ((1u << (shift - 1)) - 1) + ((magnitude >> shift) & 1);
    uint32_t code = (rounded >> shift) - (static_cast<uint32_t>(127 - Bias) << MantissaBits);
    if constexpr (subnormalsDiffer) {
      // Adding 2^23 units of the smallest subnormal makes the FPU round to that unit.
      constexpr uint32_t magicBits = static_cast<uint32_t>(127 + 23 + 1 - Bias - static_cast<int>(MantissaBits)) << 23;
      float sum = std::bit_cast<float>(magnitude) + std::bit_cast<float>(magicBits);
      code = magnitude < minNormalBits ? std::bit_cast<uint32_t>(sum) - magicBits : code;
    }
    return finish(value, code, overflow);
  }

  // Up with probability equal to the discarded fraction, which `random` (32 uniform bits) decides.
  static inline Storage encodeStochastic(float value, uint32_t random, uint32_t overflow) {
    uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
    uint32_t rounded = magnitude + (random & ((1u << shift) - 1));
    uint32_t code = (rounded >> shift) - (static_cast<uint32_t>(127 - Bias) << MantissaBits);
    if constexpr (subnormalsDiffer) {
      uint32_t exponent = magnitude >> 23;
      uint32_t significand = (magnitude & 0x7fffffu) | (exponent != 0 ? 0x800000u : 0u);
      uint32_t drop = shift + minNormalExponent - (exponent != 0 ? exponent : 1u);
      drop = magnitude < minNormalBits ? drop : shift;
      uint32_t excess = drop > 31 ? drop - 31 : 0;
      significand >>= excess > 31 ? 31u : excess;
      drop = drop > 31 ? 31u : drop;
      uint32_t subnormal = (significand + (random & ((1u << drop) - 1))) >> drop;
      code = magnitude < minNormalBits ? subnormal : code;
    }
    return finish(value, code, overflow);
  }

private:
  static inline Storage finish(float value, uint32_t code, uint32_t overflow) {
    uint32_t word = std::bit_cast<uint32_t>(value);
    uint32_t magnitude = word & 0x7fffffffu;
    uint32_t sign = (word >> 31) << (bits - 1);
    code = code > maxFiniteCode ? overflow : code;
    if constexpr (Specials == SpecialCodes::FiniteNuz) {
      code = magnitude > 0x7f800000u ? signBit : code;
      return static_cast<Storage>(code == 0 || code == signBit ? code : code | sign);
    } else if constexpr (Specials == SpecialCodes::FiniteNan) {
      code = magnitude > 0x7f800000u ? magnitudeMask : code;
      return static_cast<Storage>(code | sign);
    } else {
      // A NaN keeps the upper bits of its payload and becomes quiet.
      uint32_t nan = infinityCode | (1u << (MantissaBits - 1)) | ((magnitude & 0x7fffffu) >> shift);
      code = magnitude > 0x7f800000u ? nan : code;
      return static_cast<Storage>(code | sign);
    }
  }
};

using F16Format = NarrowFloat<5, 10, 15, SpecialCodes::Ieee>;
using Bf16Format = NarrowFloat<8, 7, 127, SpecialCodes::Ieee>;
using Cb16Format = NarrowFloat<6, 9, 31, SpecialCodes::Ieee>;
using F8e4m3fnFormat = NarrowFloat<4, 3, 7, SpecialCodes::FiniteNan>;
using F8e4m3fnuzFormat = NarrowFloat<4, 3, 8, SpecialCodes::FiniteNuz>;
using F8e5m2Format = NarrowFloat<5, 2, 15, SpecialCodes::Ieee>;
using F8e5m2fnuzFormat = NarrowFloat<5, 2, 16, SpecialCodes::FiniteNuz>;

// Is `type` a float narrower than f32?
constexpr bool isNarrowFloat(ElementType type) {
  return isFloat(type) && bitWidth(type) < 32;
}

// function.template operator()<Format>() for the format of a narrow float.
template <typename Function> inline void withNarrowFormat(ElementType type, Function &&function) {
  switch (type) {
  case ElementType::f16:
    return function.template operator()<F16Format>();
  case ElementType::bf16:
    return function.template operator()<Bf16Format>();
  case ElementType::cb16:
    return function.template operator()<Cb16Format>();
  case ElementType::f8e4m3fn:
    return function.template operator()<F8e4m3fnFormat>();
  case ElementType::f8e4m3fnuz:
    return function.template operator()<F8e4m3fnuzFormat>();
  case ElementType::f8e5m2:
    return function.template operator()<F8e5m2Format>();
  case ElementType::f8e5m2fnuz:
    return function.template operator()<F8e5m2fnuzFormat>();
  default:
    return;
  }
}

} // namespace quadrille
