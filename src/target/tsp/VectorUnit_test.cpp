// Every operation on every type against plain C++: integers in 128 bits, floats in f64 (products and sums of f16 are
// exact there, those of f32 round innocently) with one rounding, transcendental functions in long double.
#include "target/tsp/VectorUnit.h"

#include "base/Error.h"
#include "base/Parallel.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <set>

namespace quadrille::tsp {
namespace {

using Half = _Float16;
struct Truth { // a byte of which anything but 0 is true
  uint8_t byte;
};

template <typename T> constexpr bool isHalf = std::is_same_v<T, Half>;
template <typename T> constexpr bool isReal = isHalf<T> || std::is_same_v<T, float>;
template <typename T> constexpr bool isTruth = std::is_same_v<T, Truth>;
template <typename T> constexpr bool isWhole = std::is_integral_v<T>;
template <typename T>
constexpr AluType aluType = isHalf<T>                     ? AluType::F16
                            : isTruth<T>                  ? AluType::Bool
                            : std::is_same_v<T, float>    ? AluType::F32
                            : std::is_same_v<T, int8_t>   ? AluType::I8
                            : std::is_same_v<T, uint8_t>  ? AluType::U8
                            : std::is_same_v<T, int16_t>  ? AluType::I16
                            : std::is_same_v<T, uint16_t> ? AluType::U16
                            : std::is_same_v<T, int32_t>  ? AluType::I32
                                                          : AluType::U32;
const char *const typeNames[] = {"i8", "u8", "i16", "u16", "i32", "u32", "f16", "f32", "bool"};

// Fields by their words; those that are not named have their defaults, streams are e0.
Instruction make(const std::string &mnemonic, std::map<std::string, std::string> fields) {
  const Form *form = formNamed(mnemonic);
  if (!form) {
    ADD_FAILURE() << mnemonic;
    return {};
  }
  Instruction instruction;
  instruction.opcode = static_cast<uint8_t>(form->opcode);
  for (const Field &field : form->fields) {
    int64_t value = field.defaultValue.value_or(0);
    if (auto given = fields.extract(field.name.str()); !given.empty()) {
      const std::string &word = given.mapped();
      if (field.isSource())
        value = sourceNamed(word)->byte();
      else
        value = std::find(field.words.begin(), field.words.end(), word) - field.words.begin();
    }
    setValue(instruction, field.member, value);
  }
  EXPECT_TRUE(fields.empty()) << mnemonic << " has no " << fields.begin()->first;
  return instruction;
}

using Planes = std::vector<std::vector<std::byte>>;
template <typename T> Planes split(const std::vector<T> &values) {
  Planes planes(sizeof(T), std::vector<std::byte>(values.size()));
  for (size_t i = 0; i < values.size(); ++i)
    for (size_t byte = 0; byte < sizeof(T); ++byte)
      std::memcpy(&planes[byte][i], reinterpret_cast<const char *>(&values[i]) + byte, 1);
  return planes;
}
template <typename T> std::vector<T> join(const Planes &planes) {
  EXPECT_EQ(planes.size(), sizeof(T));
  std::vector<T> values(planes[0].size());
  for (size_t i = 0; i < values.size(); ++i)
    for (size_t byte = 0; byte < sizeof(T); ++byte)
      std::memcpy(reinterpret_cast<char *>(&values[i]) + byte, &planes[byte][i], 1);
  return values;
}

void evaluate(const AluFunction &function, const Planes &a, const Planes &b, Planes &result, size_t begin,
              size_t count) {
  auto at = [&](auto &planes, auto pointer) {
    std::vector<decltype(pointer)> pointers;
    for (auto &plane : planes)
      pointers.push_back(plane.data() + begin);
    return pointers;
  };
  const std::byte *read = nullptr;
  std::byte *write = nullptr;
  function.evaluate(at(a, read), at(b, read), at(result, write), static_cast<int64_t>(count));
}

std::shared_ptr<const AluFunction> functionOf(const Instruction &instruction) {
  auto function = AluFunction::of(instruction);
  if (function)
    return *function;
  ADD_FAILURE() << print(instruction) << ": " << report(function.takeError()).message;
  return nullptr;
}

template <typename R, typename A, typename B = Truth>
std::vector<R> apply(const std::string &mnemonic, std::map<std::string, std::string> fields, const std::vector<A> &a,
                     const std::vector<B> &b = {}) {
  fields["type"] = typeNames[static_cast<int>(aluType<A>)];
  Instruction instruction = make(mnemonic, fields);
  EXPECT_EQ(operandCount(instruction), b.empty() ? 1 : 2) << mnemonic;
  EXPECT_EQ(operandBytes(instruction, 0), int64_t(sizeof(A))) << mnemonic;
  EXPECT_EQ(resultBytes(instruction), int64_t(sizeof(R))) << mnemonic;
  Planes result(sizeof(R), std::vector<std::byte>(a.size()));
  if (auto function = functionOf(instruction))
    evaluate(*function, split(a), b.empty() ? Planes() : split(b), result, 0, a.size());
  return join<R>(result);
}

template <typename T> double real(T value) {
  if constexpr (isTruth<T>)
    return value.byte;
  else
    return static_cast<double>(value);
}
template <typename T> uint64_t bits(T value) {
  uint64_t all = 0;
  std::memcpy(&all, &value, sizeof(T));
  return all;
}
// The same bits, or both NaN.
template <typename T> bool same(T one, T other) {
  if constexpr (isReal<T>)
    if (std::isnan(real(one)) && std::isnan(real(other)))
      return true;
  return bits(one) == bits(other);
}

template <typename R, typename A, typename B, typename Reference>
void expectBinary(const std::string &mnemonic, const std::map<std::string, std::string> &fields,
                  const std::vector<A> &a, const std::vector<B> &b, Reference reference) {
  std::vector<R> result = apply<R>(mnemonic, fields, a, b);
  int shown = 0;
  for (size_t i = 0; i < a.size() && shown < 5; ++i)
    if (R expected = reference(a[i], b[i]); !same(result[i], expected)) {
      ADD_FAILURE() << mnemonic << ' ' << typeNames[static_cast<int>(aluType<A>)] << ' ' << real(a[i]) << ", "
                    << real(b[i]) << ": " << real(result[i]) << " instead of " << real(expected);
      ++shown;
    }
}
template <typename R, typename A, typename Reference>
void expectUnary(const std::string &mnemonic, const std::map<std::string, std::string> &fields, const std::vector<A> &a,
                 Reference reference) {
  std::vector<R> result = apply<R>(mnemonic, fields, a);
  int shown = 0;
  for (size_t i = 0; i < a.size() && shown < 5; ++i)
    if (R expected = reference(a[i]); !same(result[i], expected)) {
      ADD_FAILURE() << mnemonic << ' ' << typeNames[static_cast<int>(aluType<A>)] << ' ' << real(a[i]) << ": "
                    << real(result[i]) << " instead of " << real(expected);
      ++shown;
    }
}

// All values of 8 bits; of wider types the extremes, small numbers, powers of two and their neighbours, and others.
template <typename T> std::vector<T> samples() {
  std::vector<T> values;
  std::mt19937 random(7);
  if constexpr (sizeof(T) == 1) {
    for (unsigned byte = 0; byte < 256; ++byte)
      values.push_back(std::bit_cast<T>(static_cast<uint8_t>(byte)));
  } else if constexpr (isWhole<T>) {
    for (int64_t small = -34; small <= 34; ++small)
      values.push_back(static_cast<T>(small));
    for (unsigned bit = 6; bit < sizeof(T) * 8; ++bit)
      for (int64_t offset = -1; offset <= 1; ++offset)
        values.push_back(static_cast<T>((int64_t(1) << bit) + offset));
    for (int i = 0; i < 60; ++i)
      values.push_back(static_cast<T>(random()));
  } else {
    using Bits = std::conditional_t<isHalf<T>, uint16_t, uint32_t>;
    for (double value : {0.0,
                         0.25,
                         0.5,
                         0.75,
                         1.0,
                         1.5,
                         2.5,
                         3.5,
                         100.5,
                         126.5,
                         127.5,
                         128.5,
                         254.5,
                         255.5,
                         256.5,
                         1e4,
                         32766.5,
                         32767.5,
                         32768.5,
                         65503.0,
                         65504.0,
                         65519.0,
                         65520.0,
                         65534.5,
                         65535.5,
                         65536.5,
                         1e9,
                         2147483520.0,
                         2147483648.0,
                         4294967040.0,
                         4294967296.0,
                         1e20,
                         1e-3,
                         1e-7,
                         3e-8,
                         1e-30,
                         1e-45,
                         static_cast<double>(INFINITY),
                         static_cast<double>(NAN)})
      for (double signedValue : {value, -value})
        values.push_back(static_cast<T>(signedValue));
    for (Bits pattern : {Bits(1), Bits(2), Bits(0x3ff), Bits(0x400), Bits(0x7bff), Bits(0x7c01), Bits(0xfc01)})
      values.push_back(std::bit_cast<T>(pattern));
    if constexpr (!isHalf<T>)
      for (Bits pattern : {0x7fffffu, 0x800000u, 0x7f7fffffu, 0xff7fffffu, 0x7f800001u, 0xff800001u})
        values.push_back(std::bit_cast<T>(pattern));
    for (int i = 0; i < 150; ++i)
      values.push_back(std::bit_cast<T>(static_cast<Bits>(random())));
    for (int i = 0; i < 60; ++i) // of similar size, so that sums cancel
      values.push_back(static_cast<T>((static_cast<double>(random()) - 2147483648.0) / 268435456.0));
  }
  return values;
}

template <typename A, typename B> struct Pairs {
  std::vector<A> a;
  std::vector<B> b;
};
template <typename A, typename B> Pairs<A, B> pairs() {
  Pairs<A, B> all;
  for (A a : samples<A>())
    for (B b : samples<B>()) {
      all.a.push_back(a);
      all.b.push_back(b);
    }
  return all;
}

template <typename T> T clamped(__int128 value) {
  __int128 low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
  return static_cast<T>(value < low ? low : value > high ? high : value);
}
template <typename T> T wrapped(__int128 value) {
  return static_cast<T>(static_cast<uint64_t>(static_cast<unsigned __int128>(value)));
}

Truth truth(bool value) {
  return {uint8_t(value)};
}
template <typename T> auto ordered(T value) {
  if constexpr (isTruth<T>)
    return value.byte != 0;
  else if constexpr (isHalf<T>)
    return static_cast<double>(value);
  else
    return value;
}

// What all types have.
template <typename T> void common() {
  auto [a, b] = pairs<T, T>();
  expectBinary<Truth>("eq", {}, a, b, [](T x, T y) { return truth(ordered(x) == ordered(y)); });
  expectBinary<Truth>("ne", {}, a, b, [](T x, T y) { return truth(ordered(x) != ordered(y)); });
  expectBinary<Truth>("gt", {}, a, b, [](T x, T y) { return truth(ordered(x) > ordered(y)); });
  expectBinary<Truth>("ge", {}, a, b, [](T x, T y) { return truth(ordered(x) >= ordered(y)); });
  expectBinary<Truth>("lt", {}, a, b, [](T x, T y) { return truth(ordered(x) < ordered(y)); });
  expectBinary<Truth>("le", {}, a, b, [](T x, T y) { return truth(ordered(x) <= ordered(y)); });

  // Moved without a change of a single bit, signalling NaN too, except that truth values become 0 or 1.
  auto move = [](T x) {
    if constexpr (isTruth<T>)
      return truth(x.byte != 0);
    else
      return x;
  };
  std::vector<T> values = samples<T>(), copied = apply<T>("copy", {}, values);
  auto [kept, by] = pairs<T, Truth>();
  std::vector<T> masked = apply<T>("mask", {}, kept, by), maskedBar = apply<T>("mask_bar", {}, kept, by);
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(bits(copied[i]), bits(move(values[i])));
  for (size_t i = 0; i < kept.size(); ++i) {
    ASSERT_EQ(bits(masked[i]), by[i].byte != 0 ? bits(move(kept[i])) : 0);
    ASSERT_EQ(bits(maskedBar[i]), by[i].byte == 0 ? bits(move(kept[i])) : 0);
  }
}

template <typename T> void integers() {
  common<T>();
  auto [a, b] = pairs<T, T>();
  using Wide = __int128;
  auto both = [&](const char *mnemonic, auto exact) {
    expectBinary<T>(mnemonic, {}, a, b, [&](T x, T y) { return clamped<T>(exact(x, y)); });
    expectBinary<T>(mnemonic, {{"overflow", "wrap"}}, a, b, [&](T x, T y) { return wrapped<T>(exact(x, y)); });
  };
  both("add", [](T x, T y) { return Wide(x) + Wide(y); });
  both("sub", [](T x, T y) { return Wide(x) - Wide(y); });
  both("mul", [](T x, T y) { return Wide(x) * Wide(y); });
  expectBinary<T>("min", {}, a, b, [](T x, T y) { return y < x ? y : x; });
  expectBinary<T>("max", {}, a, b, [](T x, T y) { return y > x ? y : x; });
  expectBinary<T>("and", {}, a, b, [](T x, T y) { return static_cast<T>(x & y); });
  expectBinary<T>("or", {}, a, b, [](T x, T y) { return static_cast<T>(x | y); });
  expectBinary<T>("xor", {}, a, b, [](T x, T y) { return static_cast<T>(x ^ y); });
  constexpr int width = sizeof(T) * 8;
  auto power = [](T amount) { return Wide(1) << static_cast<int>(amount); };
  expectBinary<T>("shl", {}, a, b,
                  [&](T x, T y) { return Wide(y) < 0 || Wide(y) >= width ? T(0) : wrapped<T>(Wide(x) * power(y)); });
  expectBinary<T>("shr", {}, a, b, [&](T x, T y) {
    if (Wide(y) < 0 || Wide(y) >= width)
      return static_cast<T>(x < 0 ? -1 : 0);
    Wide quotient = Wide(x) / power(y);
    return static_cast<T>(quotient * power(y) > Wide(x) ? quotient - 1 : quotient); // towards minus infinity
  });
  std::vector<T> values = samples<T>();
  expectUnary<T>("not", {}, values, [](T x) { return static_cast<T>(~x); });
  if constexpr (std::is_signed_v<T>) {
    expectUnary<T>("neg", {}, values, [](T x) { return clamped<T>(-Wide(x)); });
    expectUnary<T>("abs", {}, values, [](T x) { return clamped<T>(x < 0 ? -Wide(x) : Wide(x)); });
    expectUnary<T>("relu", {}, values, [](T x) { return x < 0 ? T(0) : x; });
  }
}

TEST(VectorUnit, Integers8) {
  integers<int8_t>();
  integers<uint8_t>();
}
TEST(VectorUnit, Integers16) {
  integers<int16_t>();
  integers<uint16_t>();
}
TEST(VectorUnit, Integers32) {
  integers<int32_t>();
  integers<uint32_t>();
}

TEST(VectorUnit, TruthValues) {
  common<Truth>();
  auto [a, b] = pairs<Truth, Truth>();
  expectBinary<Truth>("and", {}, a, b, [](Truth x, Truth y) { return truth(x.byte && y.byte); });
  expectBinary<Truth>("or", {}, a, b, [](Truth x, Truth y) { return truth(x.byte || y.byte); });
  expectBinary<Truth>("xor", {}, a, b, [](Truth x, Truth y) { return truth(!x.byte != !y.byte); });
  expectUnary<Truth>("not", {}, samples<Truth>(), [](Truth x) { return truth(!x.byte); });
}

// Distance from the exact value in units of the last place of T there; of its least normal binade below.
template <typename T> long double ulps(T value, long double exact) {
  constexpr int digits = isHalf<T> ? 11 : 24, least = isHalf<T> ? -14 : -126;
  int exponent = exact == 0 ? least : std::max(least, std::ilogb(exact));
  return std::fabs((static_cast<long double>(real(value)) - exact) / std::ldexp(1.0L, exponent - digits + 1));
}

template <typename T> void floats(long double limitUlps) {
  common<T>();
  auto [a, b] = pairs<T, T>();
  expectBinary<T>("add", {}, a, b, [](T x, T y) { return static_cast<T>(real(x) + real(y)); });
  expectBinary<T>("sub", {}, a, b, [](T x, T y) { return static_cast<T>(real(x) - real(y)); });
  expectBinary<T>("mul", {}, a, b, [](T x, T y) { return static_cast<T>(real(x) * real(y)); });
  auto extreme = [](T x, T y, bool least) { // -0 is less than 0
    if (std::isnan(real(x)) || std::isnan(real(y)))
      return static_cast<T>(NAN);
    bool xIsLess = real(x) == real(y) ? std::signbit(real(x)) : real(x) < real(y);
    return xIsLess == least ? x : y;
  };
  expectBinary<T>("min", {}, a, b, [&](T x, T y) { return extreme(x, y, true); });
  expectBinary<T>("max", {}, a, b, [&](T x, T y) { return extreme(x, y, false); });
  std::vector<T> values = samples<T>();
  expectUnary<T>("neg", {}, values, [](T x) { return static_cast<T>(-real(x)); });
  expectUnary<T>("abs", {}, values, [](T x) { return static_cast<T>(std::fabs(real(x))); });
  expectUnary<T>("relu", {}, values, [](T x) { return real(x) <= 0 ? T(0) : x; });

  auto transcendental = [&](const char *mnemonic, auto function) {
    std::vector<T> results = apply<T>(mnemonic, {}, values);
    for (size_t i = 0; i < values.size(); ++i) {
      long double exact = function(static_cast<long double>(real(values[i])));
      T rounded = static_cast<T>(static_cast<double>(exact));
      if (!std::isfinite(real(rounded)))
        EXPECT_TRUE(same(results[i], rounded)) << mnemonic << ' ' << real(values[i]) << ": " << real(results[i]);
      else
        EXPECT_LE(ulps(results[i], exact), limitUlps) << mnemonic << ' ' << real(values[i]) << ": " << real(results[i]);
    }
  };
  transcendental("tanh", [](long double x) { return std::tanh(x); });
  transcendental("exp", [](long double x) { return std::exp(x); });
  transcendental("rsqrt", [](long double x) { return 1 / std::sqrt(x); });
}

TEST(VectorUnit, Floats16) {
  floats<Half>(0.501L); // an f32 within 2 ulp, 2^-13 of an ulp of f16 each, rounded
}
TEST(VectorUnit, Floats32) {
  floats<float>(2);
}

template <typename To, typename From> To converted(From value, bool wrap) {
  if constexpr (isTruth<To>) {
    return truth(real(value) != 0); // NaN is true
  } else if constexpr (isTruth<From>) {
    return static_cast<To>(value.byte != 0 ? 1 : 0);
  } else if constexpr (isReal<To>) {
    return static_cast<To>(real(value)); // every integer here is exact in f64
  } else if constexpr (isWhole<From>) {
    return wrap ? wrapped<To>(value) : clamped<To>(value);
  } else {
    double x = real(value), below = std::floor(x), part = x - below;
    if (std::isnan(x))
      return 0;
    double nearest = part < 0.5 ? below : part > 0.5 ? below + 1 : std::fmod(below, 2) == 0 ? below : below + 1;
    return clamped<To>(static_cast<__int128>(std::clamp(nearest, -1e12, 1e12)));
  }
}
template <typename From, typename To> void conversion() {
  std::string into = typeNames[static_cast<int>(aluType<To>)];
  auto values = samples<From>();
  expectUnary<To>("convert", {{"into", into}}, values, [](From x) {
    if constexpr (std::is_same_v<From, To> && !isTruth<To>)
      return x;
    else
      return converted<To>(x, false);
  });
  if constexpr (isWhole<From> && isWhole<To>)
    expectUnary<To>("convert", {{"into", into}, {"overflow", "wrap"}}, values,
                    [](From x) { return converted<To>(x, true); });
}
template <typename From> void conversionsOf() {
  conversion<From, int8_t>();
  conversion<From, uint8_t>();
  conversion<From, int16_t>();
  conversion<From, uint16_t>();
  conversion<From, int32_t>();
  conversion<From, uint32_t>();
  conversion<From, Half>();
  conversion<From, float>();
  conversion<From, Truth>();
}
TEST(VectorUnit, Conversions) {
  conversionsOf<int8_t>();
  conversionsOf<uint8_t>();
  conversionsOf<int16_t>();
  conversionsOf<uint16_t>();
  conversionsOf<int32_t>();
  conversionsOf<uint32_t>();
  conversionsOf<Half>();
  conversionsOf<float>();
  conversionsOf<Truth>();
}

TEST(VectorUnit, ConvertsTiesToEvenAndSaturates) {
  std::vector<float> values = {0.5f,    1.5f, 2.5f,   -0.5f,    -1.5f,     126.5f, 127.5f,
                               -128.5f, -129, 255.5f, INFINITY, -INFINITY, NAN};
  EXPECT_EQ((apply<int8_t>("convert", {{"into", "i8"}}, values)),
            (std::vector<int8_t>{0, 2, 2, 0, -2, 126, 127, -128, -128, 127, 127, -128, 0}));
  EXPECT_EQ((apply<uint8_t>("convert", {{"into", "u8"}}, values)),
            (std::vector<uint8_t>{0, 2, 2, 0, 0, 126, 128, 0, 0, 255, 255, 0, 0}));
  // 2049 and 2051 lie half way between neighbours of f16; from 65520 on, which lies half way to 65536, it is infinite.
  std::vector<int32_t> whole = {2049, 2051, 65519, 65520};
  EXPECT_EQ((apply<Half>("convert", {{"into", "f16"}}, whole)),
            (std::vector<Half>{Half(2048), Half(2052), Half(65504), Half(INFINITY)}));
  EXPECT_EQ((apply<uint8_t>("convert", {{"into", "u8"}, {"overflow", "wrap"}}, std::vector<int16_t>{-1, 257, 255})),
            (std::vector<uint8_t>{255, 1, 255}));
}

// Every legal combination of opcode, type, into and overflow.
std::vector<Instruction> everyInstruction() {
  std::vector<Instruction> all;
  const std::pair<const char *, std::vector<const char *>> types[] = {
      {"any", {"copy", "mask", "mask_bar", "eq", "ne", "gt", "ge", "lt", "le", "convert"}},
      {"whole bool", {"not", "and", "or", "xor"}},
      {"signed float", {"neg", "abs", "relu"}},
      {"float", {"tanh", "exp", "rsqrt"}},
      {"whole float", {"add", "sub", "mul", "min", "max"}},
      {"whole", {"shl", "shr"}},
  };
  const std::map<std::string, std::set<std::string>> sets = {
      {"any", {"i8", "u8", "i16", "u16", "i32", "u32", "f16", "f32", "bool"}},
      {"whole", {"i8", "u8", "i16", "u16", "i32", "u32"}},
      {"signed", {"i8", "i16", "i32"}},
      {"float", {"f16", "f32"}},
      {"bool", {"bool"}}};
  auto isInteger = [&](const std::string &type) { return sets.at("whole").count(type) != 0; };
  auto add = [&](const std::string &mnemonic, const std::string &type, const std::string &into) {
    std::map<std::string, std::string> fields = {{"type", type}};
    if (!into.empty())
      fields["into"] = into;
    all.push_back(make(mnemonic, fields));
    bool overflows = mnemonic == "add" || mnemonic == "sub" || mnemonic == "mul" || isInteger(into);
    if (!overflows || !isInteger(type))
      return;
    fields["overflow"] = "wrap";
    all.push_back(make(mnemonic, fields));
  };
  for (const auto &[words, mnemonics] : types)
    for (const std::string mnemonic : mnemonics)
      for (const auto &[word, names] : sets)
        if (llvm::StringRef(words).contains(word))
          for (const std::string &type : names)
            for (const std::string &into : mnemonic == "convert" ? sets.at("any") : std::set<std::string>{""})
              add(mnemonic, type, into);
  return all;
}

const Architecture &groqcard() {
  static const Architecture machine = [] {
    auto loaded = machine::Machine::load("groqcard");
    auto architecture = loaded ? Architecture::from(*loaded) : loaded.takeError();
    if (!architecture) {
      ADD_FAILURE() << report(architecture.takeError()).message;
      std::abort();
    }
    return *architecture;
  }();
  return machine;
}

// Exactly the combinations of the table above are legal; whatever the other bits of the record are, no more.
TEST(VectorUnit, HasTheTypesOfItsOperations) {
  std::set<std::string> legal;
  for (const Instruction &instruction : everyInstruction())
    legal.insert(print(instruction));
  // One operand 9 + 7 + 3 x 5 + 3 x 2; arithmetic 3 x (8 + 6); min, max 2 x 8; bitwise 3 x 7; shifts 2 x 6; masks 2 x
  // 9; comparisons 6 x 9; conversions 81 + 36.
  EXPECT_EQ(legal.size(), 37u + 42 + 16 + 21 + 12 + 18 + 54 + 117);
  size_t found = 0;
  for (const Form &form : forms()) {
    if (form.unit != UnitKind::Vector)
      continue;
    bool hasOverflow =
        std::any_of(form.fields.begin(), form.fields.end(), [](auto &f) { return f.name == "overflow"; });
    for (const char *type : typeNames)
      for (const char *into : typeNames)
        for (const char *overflow : {"saturate", "wrap"}) {
          bool isConvert = form.opcode == Opcode::Convert;
          if ((!isConvert && into != typeNames[0]) || (!hasOverflow && std::string(overflow) == "wrap"))
            continue;
          std::map<std::string, std::string> fields = {{"type", type}};
          if (isConvert)
            fields["into"] = into;
          if (hasOverflow)
            fields["overflow"] = overflow;
          Instruction instruction = make(form.mnemonic.str(), fields);
          bool accepted = vectorProblem(instruction, 0, groqcard()).empty();
          EXPECT_EQ(accepted, legal.count(print(instruction)) == 1) << print(instruction);
          found += accepted;
        }
  }
  EXPECT_EQ(found, legal.size());
}

TEST(VectorUnit, EvaluatesPiecesInParallelAndInPlaceLikeTheWhole) {
  constexpr size_t count = 5003; // neither blocks nor granules divide it
  std::mt19937 random(3);
  auto planes = [&](int64_t width) {
    Planes made(static_cast<size_t>(width), std::vector<std::byte>(count));
    for (auto &plane : made)
      for (std::byte &byte : plane) { // zeros, extremes, infinities and NaN of both kinds are frequent
        constexpr uint8_t special[] = {0x00, 0x01, 0x7c, 0x7d, 0x7f, 0x80, 0xa0, 0xff};
        byte = static_cast<std::byte>(random() % 2 ? special[random() % 8] : random() >> 24);
      }
    return made;
  };
  for (const Instruction &instruction : everyInstruction()) {
    auto function = functionOf(instruction);
    ASSERT_TRUE(function);
    Planes a = planes(operandBytes(instruction, 0));
    Planes b = operandCount(instruction) == 2 ? planes(operandBytes(instruction, 1)) : Planes();
    Planes whole(static_cast<size_t>(resultBytes(instruction)), std::vector<std::byte>(count)), pieces = whole;
    evaluate(*function, a, b, whole, 0, count);
    size_t begin = 0;
    for (size_t length = 1; begin < count; length = length * 3 + 1) {
      size_t n = std::min(length, count - begin);
      evaluate(*function, a, b, pieces, begin, n);
      begin += n;
    }
    EXPECT_EQ(whole, pieces) << print(instruction);
    Planes parallel(whole.size(), std::vector<std::byte>(count));
    parallelFor(count, 320, [&](int64_t from, int64_t to) {
      evaluate(*function, a, b, parallel, static_cast<size_t>(from), static_cast<size_t>(to - from));
    });
    EXPECT_EQ(whole, parallel) << print(instruction);
    // In place: the result's planes are the operand's, as far as it has as many.
    Planes shared = a;
    shared.resize(std::max(a.size(), whole.size()), std::vector<std::byte>(count));
    std::vector<const std::byte *> sources, others;
    std::vector<std::byte *> targets;
    for (size_t plane = 0; plane < a.size(); ++plane)
      sources.push_back(shared[plane].data());
    for (const auto &plane : b)
      others.push_back(plane.data());
    for (size_t plane = 0; plane < whole.size(); ++plane)
      targets.push_back(shared[plane].data());
    function->evaluate(sources, others, targets, count);
    shared.resize(whole.size());
    EXPECT_EQ(whole, shared) << print(instruction);
  }
}

TEST(VectorUnit, SharesOneFunction) {
  auto function = functionOf(make("add", {{"type", "i8"}, {"a", "e1"}, {"b", "w2"}, {"to", "e3"}}));
  EXPECT_EQ(function, functionOf(make("add", {{"type", "i8"}, {"a", "a1"}, {"b", "e7"}})));
  EXPECT_NE(function, functionOf(make("add", {{"type", "i8"}, {"overflow", "wrap"}})));
  EXPECT_NE(function, functionOf(make("add", {{"type", "u8"}})));
}

struct Placement {
  int64_t alu;
  std::string mnemonic;
  std::map<std::string, std::string> fields;
  std::string problem;
};
void expectProblems(const std::vector<Placement> &placements, const Architecture &machine) {
  for (const Placement &it : placements) {
    Instruction instruction = make(it.mnemonic, it.fields);
    EXPECT_EQ(vectorProblem(instruction, it.alu, machine), it.problem) << "a" << it.alu << ": " << print(instruction);
  }
}

Architecture relaxed() {
  Architecture machine = groqcard();
  machine.strictRouting = false;
  return machine;
}

// Rules that hold with any routing. Unit 0 is large and reads streams 0 to 15.
TEST(VectorUnit, RefusesTypesAndAlignment) {
  std::vector<Placement> placements = {
      {0, "tanh", {{"type", "i8"}}, "'tanh' has no type i8; it has f16, f32"},
      {0, "neg", {{"type", "u16"}}, "'neg' has no type u16; it has i8, i16, i32, f16, f32"},
      {0, "add", {{"type", "bool"}}, "'add' has no type bool; it has i8, u8, i16, u16, i32, u32, f16, f32"},
      {0, "xor", {{"type", "f32"}}, "'xor' has no type f32; it has i8, u8, i16, u16, i32, u32, bool"},
      {0, "shl", {{"type", "bool"}}, "'shl' has no type bool; it has i8, u8, i16, u16, i32, u32"},
      {0, "add", {{"type", "f16"}, {"overflow", "wrap"}}, "overflow=wrap has no meaning for type=f16"},
      {0,
       "convert",
       {{"type", "f32"}, {"into", "i8"}, {"overflow", "wrap"}},
       "overflow=wrap has no meaning for type=f32"},
      {0,
       "convert",
       {{"type", "i32"}, {"into", "f16"}, {"overflow", "wrap"}},
       "overflow=wrap has no meaning for into=f16"},
      {0, "copy", {{"type", "i8"}, {"a", "e3"}, {"to", "w5"}}, ""},
      {0, "copy", {{"type", "i16"}, {"a", "e3"}}, "a=e3 is not aligned: i16 takes 2 streams"},
      {0, "add", {{"type", "f32"}, {"a", "e4"}, {"b", "w6"}}, "b=w6 is not aligned: f32 takes 4 streams"},
      {0, "copy", {{"type", "u32"}, {"a", "e4"}, {"to", "e2"}}, "to=e2 is not aligned: u32 takes 4 streams"},
      {0, "mask", {{"type", "f32"}, {"a", "e4"}, {"b", "e3"}}, ""},             // a mask is a byte
      {0, "eq", {{"type", "f32"}, {"a", "e4"}, {"b", "e8"}, {"to", "e3"}}, ""}, // and so is a truth value
      {0, "convert", {{"type", "f32"}, {"into", "i8"}, {"a", "e4"}, {"to", "e3"}}, ""},
      {0,
       "convert",
       {{"type", "i8"}, {"into", "f16"}, {"a", "e3"}, {"to", "e3"}},
       "to=e3 is not aligned: f16 takes 2 streams"},
      {0, "copy", {{"type", "i16"}, {"a", "e32"}}, "a=e32 runs past the last stream, 31: i16 takes 2 streams"},
      {16, "copy", {{"type", "i8"}}, "there is no arithmetic unit 16"},
      {3, "nop", {}, ""},
  };
  expectProblems(placements, groqcard());
  expectProblems(placements, relaxed());
}

// Rows 0 to 3 read and drive the stream groups 0-3, 2-5, 4-7 and 6, 7, 0, 1, of four streams each: streams 0-15, 8-23,
// 16-31, and 24-31 with 0-7. Eastward streams meet columns 0, 1, 2, 3, westward ones 3, 2, 1, 0.
std::vector<Placement> misrouted() {
  auto unreached = [](const char *source, const char *unit, const char *groups) {
    return std::string("a=") + source + " does not reach unit " + unit + ": its row reads the stream groups " + groups +
           " eastward and westward";
  };
  const char *both = " come over the same stream group from both directions";
  std::vector<Placement> all = {
      {1, "copy", {{"type", "i8"}, {"a", "e20"}}, unreached("e20", "1", "0, 1, 2, 3")},
      {1, "copy", {{"type", "i8"}, {"a", "w16"}}, unreached("w16", "1", "0, 1, 2, 3")},
      {5, "copy", {{"type", "i8"}, {"a", "e7"}}, unreached("e7", "5", "2, 3, 4, 5")},
      {5, "copy", {{"type", "i8"}, {"a", "e24"}}, unreached("e24", "5", "2, 3, 4, 5")},
      {9, "copy", {{"type", "f16"}, {"a", "w14"}}, unreached("w14", "9", "4, 5, 6, 7")},
      {14, "copy", {{"type", "f32"}, {"a", "e8"}}, unreached("e8", "14", "0, 1, 6, 7")},
      {14, "copy", {{"type", "i8"}, {"a", "w23"}}, unreached("w23", "14", "0, 1, 6, 7")},
      {1, "add", {{"type", "i8"}, {"a", "e1"}, {"b", "w3"}}, std::string("a=e1 and b=w3") + both},
      {1, "add", {{"type", "f32"}, {"a", "w12"}, {"b", "e12"}}, std::string("a=w12 and b=e12") + both},
      {1,
       "copy",
       {{"type", "i8"}, {"a", "e0"}, {"to", "e16"}},
       "to=e16 is not reached from unit 1: its row drives the stream groups 0, 1, 2, 3 eastward and westward"},
      {13,
       "copy",
       {{"type", "i8"}, {"a", "e0"}, {"to", "w8"}},
       "to=w8 is not reached from unit 13: its row drives the stream groups 0, 1, 6, 7 eastward and westward"},
      {5,
       "copy",
       {{"type", "i8"}, {"a", "a12"}},
       "a=a12 does not reach unit 5: unit 12 drives the stream groups 0, 1, 6, 7, this row reads the stream groups 2, "
       "3, "
       "4, 5"},
      {5,
       "tanh",
       {{"type", "f32"}, {"a", "a5"}},
       "a=a5 does not reach unit 5: no direction meets unit 5's column first"},
      {5,
       "copy",
       {{"type", "i8"}, {"a", "a1"}},
       "a=a1 does not reach unit 5: no direction meets unit 1's column first"},
      {0,
       "copy",
       {{"type", "i8"}, {"a", "a12"}},
       "a=a12 does not reach unit 0: no direction meets unit 12's column first"},
  };
  for (const auto &[mnemonic, type] :
       {std::pair{"tanh", "f32"}, {"exp", "f16"}, {"rsqrt", "f32"}, {"mul", "i32"}, {"mul", "u32"}})
    for (int64_t small : {1, 3, 4, 6, 9, 11, 12, 14})
      all.push_back({small,
                     mnemonic,
                     {{"type", type}},
                     std::string("'") + mnemonic + "' of " + type + " takes a large unit, which unit " +
                         std::to_string(small) + " is not"});
  return all;
}

TEST(VectorUnit, RoutesStrictly) {
  expectProblems(misrouted(), groqcard());
  std::vector<Placement> placements = {
      {1, "copy", {{"type", "i8"}, {"a", "e15"}, {"to", "w15"}}, ""},
      {5, "copy", {{"type", "i8"}, {"a", "e8"}, {"to", "e23"}}, ""},
      {5, "copy", {{"type", "i8"}, {"a", "w23"}, {"to", "none"}}, ""},
      {9, "copy", {{"type", "f16"}, {"a", "e16"}, {"to", "w30"}}, ""},
      {14, "copy", {{"type", "f32"}, {"a", "e4"}, {"to", "e24"}}, ""},
      {14, "copy", {{"type", "f32"}, {"a", "w24"}, {"to", "w0"}}, ""},
      {1, "add", {{"type", "i8"}, {"a", "e1"}, {"b", "e3"}}, ""}, // one group, one direction
      {1, "add", {{"type", "i8"}, {"a", "e1"}, {"b", "w4"}}, ""}, // two groups
      {1, "add", {{"type", "i8"}, {"a", "e1"}, {"b", "e1"}}, ""},
      // Groups 2 and 3 eastward from row 0, 4 and 5 from row 2; from column 3 westward.
      {5, "copy", {{"type", "i8"}, {"a", "a0"}}, ""},
      {5, "add", {{"type", "i32"}, {"a", "a4"}, {"b", "a7"}}, ""},
      {5, "add", {{"type", "i32"}, {"a", "a8"}, {"b", "w8"}}, ""},
      {0, "copy", {{"type", "i8"}, {"a", "a13"}}, ""},
      {1, "mul", {{"type", "f32"}, {"a", "e0"}, {"b", "e4"}}, ""},
      {1, "mul", {{"type", "i16"}, {"a", "e0"}, {"b", "e4"}}, ""},
      {1, "add", {{"type", "i32"}, {"a", "e0"}, {"b", "e4"}}, ""},
  };
  for (int64_t large : {0, 2, 13, 15})
    placements.push_back({large, "mul", {{"type", "i32"}, {"a", "e0"}, {"b", "e4"}}, ""});
  for (int64_t large : {5, 7, 8, 10})
    placements.push_back({large, "tanh", {{"type", "f32"}, {"a", "e16"}}, ""});
  expectProblems(placements, groqcard());
}

TEST(VectorUnit, RelaxedRoutingReachesEverything) {
  for (Placement it : misrouted()) {
    it.problem.clear();
    expectProblems({it}, relaxed());
  }
}

// With a single stream group another unit's result meets the other operand on it.
TEST(VectorUnit, UnitsShareAGroupInOneDirectionOnly) {
  Architecture machine = groqcard();
  for (auto *rows : {&machine.inputGroups, &machine.outputGroups})
    for (auto &row : *rows)
      row = {true, false, false, false, false, false, false, false};
  const char *both = " come over the same stream group from both directions";
  expectProblems({{1, "add", {{"type", "i8"}, {"a", "e0"}, {"b", "a0"}}, ""}, // both eastward
                  {1, "add", {{"type", "i8"}, {"a", "w0"}, {"b", "a0"}}, std::string("a=w0 and b=a0") + both},
                  {1, "add", {{"type", "i8"}, {"a", "a3"}, {"b", "w1"}}, ""}, // both westward
                  {1, "add", {{"type", "i8"}, {"a", "a2"}, {"b", "a0"}}, std::string("a=a2 and b=a0") + both},
                  {2, "add", {{"type", "i8"}, {"a", "a4"}, {"b", "a0"}}, ""}},
                 machine);
}

} // namespace
} // namespace quadrille::tsp
