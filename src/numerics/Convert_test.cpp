// Oracles: llvm::APFloat for the formats it knows; for cb16 the definition itself, evaluated with exact scaling in f64.
#include "numerics/Convert.h"

#include "numerics/NarrowFloat.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/APSInt.h"
#include "gtest/gtest.h"

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace quadrille;
using llvm::APFloat;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double notANumber = std::numeric_limits<double>::quiet_NaN();

const llvm::fltSemantics *semanticsOf(ElementType type) {
  switch (type) {
  case ElementType::f16:
    return &APFloat::IEEEhalf();
  case ElementType::bf16:
    return &APFloat::BFloat();
  case ElementType::f8e4m3fn:
    return &APFloat::Float8E4M3FN();
  case ElementType::f8e4m3fnuz:
    return &APFloat::Float8E4M3FNUZ();
  case ElementType::f8e5m2:
    return &APFloat::Float8E5M2();
  case ElementType::f8e5m2fnuz:
    return &APFloat::Float8E5M2FNUZ();
  default:
    return nullptr;
  }
}

// cb16 = 1 sign, 6 exponent (bias 31), 9 mantissa bits, IEEE-like.
double referenceDecodeCb16(uint64_t code) {
  double sign = code >> 15 ? -1 : 1;
  int exponent = (code >> 9) & 63, mantissa = code & 511;
  if (exponent == 63)
    return mantissa ? notANumber : sign * infinity;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -30 - 9) : std::ldexp(512 + mantissa, exponent - 31 - 9));
}

uint64_t referenceEncodeCb16(double value) {
  uint64_t sign = std::signbit(value) ? 0x8000 : 0;
  double magnitude = std::fabs(value);
  if (std::isnan(value))
    return sign | 0x7f00;
  if (magnitude >= std::ldexp(1023.5, 31 - 9)) // half an ulp past the largest finite value, 1023 * 2^22
    return sign | 0x7e00;
  int exponent = magnitude == 0 ? -30 : std::max(std::ilogb(magnitude), -30);
  // Scaling by a power of two and nearbyint are exact, respectively nearest even.
  auto units = static_cast<uint64_t>(std::nearbyint(std::ldexp(magnitude, 9 - exponent)));
  if (units < 512)
    return sign | units;
  return sign | ((static_cast<uint64_t>(exponent + 31) << 9) + (units - 512)); // a carry moves into the exponent
}

double referenceDecode(ElementType type, uint64_t code) {
  if (type == ElementType::cb16)
    return referenceDecodeCb16(code);
  APFloat value(*semanticsOf(type), llvm::APInt(bitWidth(type), code));
  bool loses;
  value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
  return value.convertToDouble();
}

uint64_t referenceEncode(ElementType type, double number) {
  if (type == ElementType::cb16)
    return referenceEncodeCb16(number);
  APFloat value(number);
  bool loses;
  value.convert(*semanticsOf(type), APFloat::rmNearestTiesToEven, &loses);
  return value.bitcastToAPInt().getZExtValue();
}

bool isNanCode(ElementType type, uint64_t code) {
  return std::isnan(referenceDecode(type, code));
}

const ElementType narrowFloats[] = {ElementType::f16,       ElementType::bf16,       ElementType::cb16,
                                    ElementType::f8e4m3fn,  ElementType::f8e4m3fnuz, ElementType::f8e5m2,
                                    ElementType::f8e5m2fnuz};

class NarrowFloats : public testing::TestWithParam<ElementType> {
protected:
  ElementType type = GetParam();
  uint64_t codes = uint64_t(1) << bitWidth(type);

  template <typename T> std::vector<uint64_t> encodeAll(ElementType from, const std::vector<T> &values, bool saturate) {
    std::vector<std::byte> bytes(values.size() * byteWidth(type));
    convert(from, values.data(), type, bytes.data(), values.size(), saturate);
    return codesOf(bytes);
  }
  std::vector<uint64_t> codesOf(const std::vector<std::byte> &bytes) {
    size_t width = byteWidth(type);
    std::vector<uint64_t> result(bytes.size() / width);
    for (size_t i = 0; i < result.size(); ++i)
      std::memcpy(&result[i], bytes.data() + i * width, width);
    return result;
  }
  std::vector<float> decodeAllCodes() {
    std::vector<std::byte> bytes(codes * byteWidth(type));
    for (uint64_t code = 0; code < codes; ++code)
      std::memcpy(bytes.data() + code * byteWidth(type), &code, byteWidth(type));
    std::vector<float> values(codes);
    widenToF32(type, bytes.data(), values.data(), codes);
    return values;
  }
  // The finite magnitudes in ascending order, and one step beyond the largest.
  std::vector<double> magnitudes() {
    std::vector<double> values;
    for (uint64_t code = 0; code < codes / 2; ++code)
      if (double value = referenceDecode(type, code); std::isfinite(value))
        values.push_back(value);
    values.push_back(2 * values.back() - values[values.size() - 2]);
    return values;
  }
  // Every value, every midpoint, and the f64 and f32 numbers just beside them; specials.
  template <typename T> std::vector<T> boundaries() {
    std::vector<T> values = {T(0),
                             T(infinity),
                             T(notANumber),
                             std::numeric_limits<T>::max(),
                             std::numeric_limits<T>::denorm_min(),
                             std::numeric_limits<T>::min()};
    std::vector<double> magnitude = magnitudes();
    for (size_t i = 0; i + 1 < magnitude.size(); ++i)
      for (double centre : {magnitude[i], (magnitude[i] + magnitude[i + 1]) / 2, magnitude[i + 1]})
        for (T value : {std::nextafter(T(centre), T(-infinity)), T(centre), std::nextafter(T(centre), T(infinity))})
          values.push_back(value);
    size_t n = values.size();
    for (size_t i = 0; i < n; ++i)
      values.push_back(-values[i]);
    return values;
  }
  template <typename T> void expectRoundsAsReference(ElementType from, const std::vector<T> &values) {
    std::vector<uint64_t> got = encodeAll(from, values, false);
    for (size_t i = 0; i < values.size(); ++i) {
      uint64_t want = referenceEncode(type, static_cast<double>(values[i]));
      if (isNanCode(type, want))
        ASSERT_TRUE(isNanCode(type, got[i])) << values[i] << " gave " << got[i];
      else
        ASSERT_EQ(got[i], want) << std::hexfloat << values[i];
    }
  }
};

TEST_P(NarrowFloats, EveryCodeDecodesAsReference) {
  std::vector<float> values = decodeAllCodes();
  for (uint64_t code = 0; code < codes; ++code) {
    double want = referenceDecode(type, code);
    if (std::isnan(want))
      ASSERT_TRUE(std::isnan(values[code])) << code;
    else
      ASSERT_EQ(std::bit_cast<uint64_t>(static_cast<double>(values[code])), std::bit_cast<uint64_t>(want)) << code;
  }
}

TEST_P(NarrowFloats, EveryCodeSurvivesTheRoundTrip) {
  std::vector<float> values = decodeAllCodes();
  std::vector<uint64_t> back = encodeAll(ElementType::f32, values, false);
  std::vector<float> rounded = values;
  roundF32To(type, rounded.data(), rounded.size());
  for (uint64_t code = 0; code < codes; ++code) {
    if (isNanCode(type, code)) {
      ASSERT_TRUE(isNanCode(type, back[code])) << code;
      continue;
    }
    ASSERT_EQ(back[code], code);
    ASSERT_EQ(std::bit_cast<uint32_t>(rounded[code]), std::bit_cast<uint32_t>(values[code]));
  }
}

TEST_P(NarrowFloats, F32RoundsToNearestEvenAtEveryBoundary) {
  expectRoundsAsReference(ElementType::f32, boundaries<float>());
}

TEST_P(NarrowFloats, F64RoundsOnceAtEveryBoundary) {
  // The f64 neighbours of a midpoint lie on it when rounded to f32 first.
  expectRoundsAsReference(ElementType::f64, boundaries<double>());
}

TEST_P(NarrowFloats, F32BitPatternsRoundAsReference) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t(1) << 32); bits += 12289) // a prime step: every exponent, varied mantissas
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  expectRoundsAsReference(ElementType::f32, values);
}

TEST_P(NarrowFloats, IntegersRoundOnce) {
  std::mt19937_64 random(7);
  std::vector<int64_t> values = {0, 1, -1, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  for (int i = 0; i < 20000; ++i) {
    int64_t value = static_cast<int64_t>(random() >> (random() % 64));
    values.push_back(i % 2 ? value : -value);
  }
  // One above a midpoint by the least possible: 2^p + half an ulp + 1 must round up, 2^p + half an ulp down.
  for (int p = 14; p < 63; ++p)
    for (int64_t offset : {-1, 0, 1})
      values.push_back((int64_t(1) << p) + (int64_t(1) << std::max(0, p - int(bitWidth(type)))) + offset);
  std::vector<uint64_t> got = encodeAll(ElementType::i64, values, false);
  for (size_t i = 0; i < values.size(); ++i) {
    uint64_t want;
    if (type == ElementType::cb16) {
      // Large integers as a pair of doubles would need care: use only those that f64 holds.
      if (values[i] <= -(int64_t(1) << 53) || values[i] >= (int64_t(1) << 53))
        continue;
      want = referenceEncodeCb16(static_cast<double>(values[i]));
    } else {
      APFloat value(*semanticsOf(type));
      value.convertFromAPInt(llvm::APInt(64, static_cast<uint64_t>(values[i]), true), true,
                             APFloat::rmNearestTiesToEven);
      want = value.bitcastToAPInt().getZExtValue();
    }
    if (isNanCode(type, want))
      ASSERT_TRUE(isNanCode(type, got[i])) << values[i];
    else
      ASSERT_EQ(got[i], want) << values[i];
  }
}

TEST_P(NarrowFloats, SaturationClampsToTheLargestFinite) {
  std::vector<double> magnitude = magnitudes();
  double largest = magnitude[magnitude.size() - 2];
  std::vector<float> values = {float(infinity), float(-infinity), 3e38f, -3e38f, float(largest), 1.0f};
  std::vector<uint64_t> got = encodeAll(ElementType::f32, values, true);
  EXPECT_EQ(referenceDecode(type, got[0]), largest);
  EXPECT_EQ(referenceDecode(type, got[1]), -largest);
  if (type != ElementType::bf16) { // 3e38 is finite there
    EXPECT_EQ(referenceDecode(type, got[2]), largest);
    EXPECT_EQ(referenceDecode(type, got[3]), -largest);
  }
  EXPECT_EQ(referenceDecode(type, got[4]), largest);
  EXPECT_EQ(referenceDecode(type, got[5]), 1.0);
  EXPECT_TRUE(isNanCode(type, encodeAll(ElementType::f32, std::vector<float>{NAN}, true)[0]));
}

TEST_P(NarrowFloats, StochasticRoundingIsUnbiasedBetweenTheNeighbours) {
  constexpr size_t samples = 1 << 16;
  std::vector<double> magnitude = magnitudes();
  std::mt19937 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    // Trials 0..9 lie between 0 and the smallest subnormal, the others anywhere below the largest finite value.
    size_t below = trial < 10 ? 0 : random() % (magnitude.size() - 2);
    double low = magnitude[below], high = magnitude[below + 1];
    double fraction = std::ldexp(double(random() % 256), -8);
    auto value = static_cast<float>(low + (high - low) * fraction);
    fraction = (double(value) - low) / (high - low); // as f32 holds it
    float sign = trial % 2 ? -1.0f : 1.0f;
    std::vector<float> values(samples, sign * value);
    std::vector<std::byte> bytes(samples * byteWidth(type));
    narrowStochastic(type, values.data(), bytes.data(), samples, 1000 + trial, 5);
    size_t up = 0;
    for (uint64_t code : codesOf(bytes)) {
      double got = sign * referenceDecode(type, code);
      ASSERT_TRUE(got == low || got == high) << value << " gave " << got;
      up += got == high;
    }
    // Five standard deviations of a binomial, plus one for the granularity.
    double bound = 5 * std::sqrt(samples * fraction * (1 - fraction)) + 1;
    EXPECT_NEAR(double(up), samples * fraction, bound) << value << " in " << nameOf(type).str();
  }
}

TEST_P(NarrowFloats, StochasticRoundingDependsOnSeedAndIndexAlone) {
  std::mt19937 random(4);
  std::vector<float> values(5000);
  for (float &value : values)
    value = std::normal_distribution<float>()(random);
  size_t width = byteWidth(type);
  std::vector<std::byte> whole(values.size() * width), pieces(whole.size()), other(whole.size());
  narrowStochastic(type, values.data(), whole.data(), values.size(), 42, 100);
  for (size_t i = 0, n; i < values.size(); i += n) {
    n = std::min<size_t>(1 + random() % 700, values.size() - i);
    narrowStochastic(type, values.data() + i, pieces.data() + i * width, n, 42, 100 + i);
  }
  EXPECT_EQ(whole, pieces);
  narrowStochastic(type, values.data(), other.data(), values.size(), 43, 100);
  EXPECT_NE(whole, other);
}

INSTANTIATE_TEST_SUITE_P(All, NarrowFloats, testing::ValuesIn(narrowFloats),
                         [](const auto &info) { return nameOf(info.param).str(); });

// Known answers of the generator's authors (Random123, kat_vectors, philox4x32-10): counter 0 with key 0.
TEST(RandomBits, PhiloxKnownAnswer) {
  uint32_t words[4];
  randomBits(0, 0, words, 4);
  EXPECT_EQ(words[0], 0x6627e8d5u);
  EXPECT_EQ(words[1], 0xe169c58du);
  EXPECT_EQ(words[2], 0xbc57ac4cu);
  EXPECT_EQ(words[3], 0x9b00dbd8u);
}

// The definition by __int128 and long arithmetic, one element at a time.
const ElementType integers[] = {ElementType::i64, ElementType::i32, ElementType::i16, ElementType::i8,
                                ElementType::i4,  ElementType::i2,  ElementType::u64, ElementType::u32,
                                ElementType::u16, ElementType::u8,  ElementType::u4,  ElementType::u2};

bool isSignedInteger(ElementType type) {
  return kindOf(type) == ElementKind::Signed;
}

__int128 valueOf(ElementType type, uint64_t bits) {
  unsigned width = byteWidth(type) * 8;
  if (!isSignedInteger(type))
    return width == 64 ? bits : bits & ((uint64_t(1) << width) - 1);
  return static_cast<int64_t>(bits << (64 - width)) >> (64 - width);
}

__int128 smallestOf(ElementType type) {
  return isSignedInteger(type) ? -(__int128(1) << (bitWidth(type) - 1)) : 0;
}
__int128 largestOf(ElementType type) {
  return (__int128(1) << (bitWidth(type) - (isSignedInteger(type) ? 1 : 0))) - 1;
}

TEST(Convert, IntegersWrapOrClamp) {
  std::mt19937_64 random(11);
  for (ElementType from : integers)
    for (ElementType to : integers)
      for (int trial = 0; trial < 200; ++trial) {
        __int128 value = trial == 0   ? smallestOf(from)
                         : trial == 1 ? largestOf(from)
                                      : static_cast<__int128>(random() >> (random() % 64));
        __int128 span = __int128(1) << bitWidth(from);
        value = ((value - smallestOf(from)) % span + span) % span + smallestOf(from);
        auto bits = static_cast<uint64_t>(value);
        for (bool saturate : {false, true}) {
          __int128 low = smallestOf(to), high = largestOf(to), width = high - low + 1;
          __int128 want =
              saturate ? std::min(std::max(value, low), high) : ((value - low) % width + width) % width + low;
          uint64_t got = 0;
          convert(from, &bits, to, &got, 1, saturate);
          ASSERT_EQ(int64_t(valueOf(to, got)), int64_t(want)) << nameOf(from).str() << " to " << nameOf(to).str();
          ASSERT_TRUE(valueOf(to, got) == want);
        }
      }
}

TEST(Convert, FloatsTruncateAndSaturate) {
  std::mt19937_64 random(12);
  for (ElementType to : integers) {
    std::vector<double> values = {0.0,  -0.0,     0.5,       -0.5,       0.999, -0.999, 1.5,
                                  -1.5, infinity, -infinity, notANumber, 1e300, -1e300};
    for (double edge : {double(smallestOf(to)), double(largestOf(to)), std::ldexp(1.0, int(bitWidth(to))), 0.0})
      for (double offset : {-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5})
        for (double value : {edge + offset, std::nextafter(edge, 0.0), std::nextafter(edge, infinity)})
          values.push_back(value);
    for (int i = 0; i < 1000; ++i)
      values.push_back(std::ldexp(double(int64_t(random())), -int(random() % 70)));
    for (double value : values) {
      auto expect = [&](double source, uint64_t got) {
        llvm::APSInt want(bitWidth(to), !isSignedInteger(to));
        bool exact;
        APFloat(source).convertToInteger(want, APFloat::rmTowardZero, &exact); // saturates; NaN gives 0
        ASSERT_EQ(int64_t(valueOf(to, got)), want.getExtValue()) << source << " to " << nameOf(to).str();
      };
      uint64_t got = 0;
      convert(ElementType::f64, &value, to, &got, 1);
      if (bitWidth(to) != 64 || isSignedInteger(to))
        expect(value, got);
      else
        ASSERT_EQ(got, std::isnan(value) || value <= 0   ? 0
                       : value >= 18446744073709551616.0 ? ~uint64_t(0)
                                                         : static_cast<uint64_t>(value));
      auto single = static_cast<float>(value);
      got = 0;
      convert(ElementType::f32, &single, to, &got, 1);
      if (bitWidth(to) != 64 || isSignedInteger(to))
        expect(single, got);
    }
  }
}

TEST(Convert, BoolIsNotEqualToZero) {
  float values[] = {0.0f, -0.0f, 1e-45f, NAN, -3.0f};
  uint8_t got[5];
  convert(ElementType::f32, values, ElementType::boolean, got, 5);
  EXPECT_EQ(std::vector<int>(got, got + 5), (std::vector<int>{0, 0, 1, 1, 1}));
  int64_t integer = int64_t(1) << 40;
  convert(ElementType::i64, &integer, ElementType::boolean, got, 1);
  EXPECT_EQ(got[0], 1);
  uint16_t half[2];
  uint8_t booleans[] = {1, 0};
  convert(ElementType::boolean, booleans, ElementType::f16, half, 2);
  EXPECT_EQ(half[0], 0x3c00);
  EXPECT_EQ(half[1], 0);
}

TEST(Convert, WideIntegersToFloats) {
  int64_t value = (int64_t(1) << 53) + 1; // between two f64: to even
  double wide;
  convert(ElementType::i64, &value, ElementType::f64, &wide, 1);
  EXPECT_EQ(wide, 9007199254740992.0);
  uint64_t top = ~uint64_t(0);
  float single;
  convert(ElementType::u64, &top, ElementType::f32, &single, 1);
  EXPECT_EQ(single, 18446744073709551616.0f);
  uint32_t word = 0xffffff7f; // just below the midpoint of 2^32 - 256 and 2^32
  convert(ElementType::u32, &word, ElementType::f32, &single, 1);
  EXPECT_EQ(single, 4294967040.0f);
  EXPECT_EQ(bitsFromDouble(ElementType::f16, 65520.0), 0x7c00u);
  EXPECT_EQ(bitsFromDouble(ElementType::f16, 65520.0, true), 0x7bffu);
  EXPECT_EQ(bitsFromDouble(ElementType::i8, -1.0), 0xffu);
  EXPECT_EQ(doubleFromBits(ElementType::i8, 0xff), -1.0);
  EXPECT_EQ(doubleFromBits(ElementType::bf16, 0x3fc0), 1.5);
}

TEST(Convert, SourcesMayBeUnaligned) {
  std::vector<std::byte> bytes(4 * 1000 + 1);
  for (int i = 0; i < 1000; ++i) {
    float value = float(i) * 0.25f;
    std::memcpy(bytes.data() + 1 + 4 * i, &value, 4);
  }
  std::vector<uint16_t> half(1000);
  convert(ElementType::f32, bytes.data() + 1, ElementType::f16, half.data(), 1000);
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(doubleFromBits(ElementType::f16, half[i]), i * 0.25);
}

// The bits of an element may not depend on where in the array it lies.
TEST(Convert, SignallingNanBecomesQuietAtEveryIndex) {
  std::vector<uint16_t> half(37, 0x7d01); // signalling: the upper bit of the fraction is 0
  std::vector<uint32_t> single(37);
  convert(ElementType::f16, half.data(), ElementType::f32, single.data(), 37);
  for (uint32_t bits : single)
    EXPECT_EQ(bits, 0x7fe02000u); // payload 0x101 << 13, made quiet
}

// ONNX: "the first element in the low nibble"; 0x21, 0xF8 hold 1, 2, -8, -1 as int4.
TEST(Convert, SubBytePacking) {
  uint8_t packed[] = {0x21, 0xF8, 0x07};
  int8_t values[5];
  unpackSubByte(ElementType::i4, packed, values, 5);
  EXPECT_EQ(std::vector<int>(values, values + 5), (std::vector<int>{1, 2, -8, -1, 7}));
  unpackSubByte(ElementType::u4, packed, values, 5);
  EXPECT_EQ(std::vector<int>(values, values + 5), (std::vector<int>{1, 2, 8, 15, 7}));
  uint8_t quarters[] = {0b11100100};
  unpackSubByte(ElementType::i2, quarters, values, 4);
  EXPECT_EQ(std::vector<int>(values, values + 4), (std::vector<int>{0, 1, -2, -1}));
  for (ElementType type : {ElementType::i4, ElementType::u4, ElementType::i2, ElementType::u2})
    for (int byte = 0; byte < 256; ++byte) {
      auto in = static_cast<uint8_t>(byte);
      uint8_t out = 0;
      size_t count = 8 / bitWidth(type);
      ASSERT_EQ(packedByteSize(type, count), 1u);
      unpackSubByte(type, &in, values, count);
      packSubByte(type, values, &out, count);
      ASSERT_EQ(out, in);
    }
  EXPECT_EQ(packedByteSize(ElementType::i4, 3), 2u);
}

} // namespace
