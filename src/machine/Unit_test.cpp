#include "machine/Unit.h"

#include <gtest/gtest.h>

using namespace quadrille::machine;

namespace {

struct Conversion {
  double value;
  const char *from, *to;
  double expected;
};

TEST(Unit, convertsExactly) {
  const Conversion conversions[] = {
      {900, "MHz", "Hz", 900e6},
      {1.85, "GHz", "Hz", 1.85e9},
      {512, "KiB", "bytes", 524288},
      {1, "TiB", "bytes", 1099511627776.0},
      {80, "GB", "bytes", 80e9},
      {5, "us", "s", 5e-6}, // the double nearest to 5e-6, not 5 * 1e-6
      {722, "ns", "s", 722e-9},
      {25.78, "Gb/s", "bits/s", 25.78e9},
      {100, "Gb/s", "bytes/s", 12.5e9},
      {128, "Gib/s", "bytes/s", 17179869184.0},
      {220, "Pb/s", "bytes/s", 27.5e15},
      {0.3, "pJ", "J", 0.3e-12},
      {40, "pJ/byte", "J/byte", 40e-12},
      {1000, "bytes/s", "kB/s", 1},
      {2, "bytes/ms", "bytes/s", 2000},
      {90, "%", "1", 0.9},
      {35, "kW", "W", 35000},
      {989, "TFLOP/s", "FLOP/s", 989e12},
  };
  for (const Conversion &row : conversions) {
    std::optional<double> result = convertUnit(row.value, row.from, row.to);
    ASSERT_TRUE(result) << row.from << " to " << row.to;
    EXPECT_EQ(*result, row.expected) << row.value << ' ' << row.from << " to " << row.to;
  }
}

TEST(Unit, refusesOtherQuantities) {
  EXPECT_FALSE(convertUnit(1, "bytes", "cycles"));
  EXPECT_FALSE(convertUnit(1, "bytes", "bytes/s"));
  EXPECT_FALSE(convertUnit(1, "bytes/s", "bytes/cycle"));
  EXPECT_FALSE(convertUnit(1, "Hz", "s"));
  EXPECT_FALSE(convertUnit(1, "OP/s", "FLOP/s"));
  EXPECT_FALSE(convertUnit(1, "furlong", "furlong"));
  EXPECT_FALSE(convertUnit(1, "", "1"));
  EXPECT_FALSE(isUnit("bytes/"));
  EXPECT_TRUE(isUnit("bytes/cycle"));
  EXPECT_EQ(unitsLike("Hz"), "Hz, kHz, MHz, GHz");
}

TEST(Unit, readsNumbers) {
  EXPECT_EQ(parseNumber("0x4C000"), 0x4C000);
  EXPECT_EQ(parseNumber("-2.5e3"), -2500.0);
  for (const char *text : {"", "1x", "inf", "nan", "1e999", "0x", "0xg", "0x100000000000000", "1,000", "+1", " 1"})
    EXPECT_FALSE(parseNumber(text)) << text;
}

TEST(Unit, printsNumbersThatReadBack) {
  EXPECT_EQ(formatNumber(900e6), "900000000");
  EXPECT_EQ(formatNumber(0.1), "0.1");
  for (double value : {1e300, 1e-300, 0.1 + 0.2, 9007199254740992.0, -0.75, 5e-6})
    EXPECT_EQ(parseNumber(formatNumber(value)), value);
}

TEST(Unit, choosesReadableUnits) {
  EXPECT_EQ(readableUnit(900e6, "Hz"), "MHz");
  EXPECT_EQ(readableUnit(638976, "bytes"), "KiB");
  EXPECT_EQ(readableUnit(1104, "bytes"), "bytes");
  EXPECT_EQ(readableUnit(12.5e9, "bytes/s"), "GB/s");
  EXPECT_EQ(readableUnit(5e-6, "s"), "us");
  EXPECT_EQ(readableUnit(0.75, "V"), "V");
  EXPECT_EQ(readableUnit(42, "1"), "1");
  EXPECT_EQ(readableUnit(0, "cycles"), "cycles");
}

} // namespace
