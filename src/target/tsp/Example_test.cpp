// The hand-written programs of examples/tsp: their values, by formulas written here; the cycles that their comments
// derive by hand; and what holds for every program.
#include "base/Error.h"
#include "base/File.h"
#include "base/Parallel.h"
#include "target/Mutate.h"
#include "target/tsp/Simulate.h"
#include "target/tsp/TestProgram.h"

#include "numerics/Convert.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace quadrille::tsp {
namespace {

using target::NamedTensors;

program::Program assembledExample(const std::string &name) {
  return assembleOrFail(example(name));
}

// Numerical Recipes' generator.
class Random {
public:
  explicit Random(uint64_t number) : state(12345 + static_cast<uint32_t>(number)) {}
  // Whole numbers in -128..127.
  int byte() {
    state = state * 1664525 + 1013904223;
    return static_cast<int>(state >> 24) - 128;
  }

private:
  uint32_t state;
};

template <typename T, typename Value> Tensor filled(ElementType type, Shape shape, const Value &value) {
  Tensor tensor = Tensor::uninitialized(type, shape);
  for (int64_t i = 0; i < tensor.elements(); ++i)
    tensor.mutableData<T>()[i] = static_cast<T>(value(i));
  return tensor;
}
Tensor integers(Random &random, Shape shape) {
  return filled<int8_t>(ElementType::i8, shape, [&](int64_t) { return random.byte(); });
}
// Multiples of 2^-3 in -16..15.875: f16 numbers.
Tensor halves(Random &random, Shape shape) {
  return filled<_Float16>(ElementType::f16, shape, [&](int64_t) { return random.byte() / 8.0; });
}
// In -4..4, with 15 bits after the point.
Tensor reals(Random &random, Shape shape) {
  return filled<float>(ElementType::f32, shape,
                       [&](int64_t) { return random.byte() / 32.0 + random.byte() / 32768.0; });
}

// One example: inputs number 0, 1, ... and the test of its outputs.
struct Example {
  const char *name;
  int64_t cycles;
  NamedTensors (*inputs)(uint64_t number);
  void (*verify)(const NamedTensors &in, const NamedTensors &out);
};
void PrintTo(const Example &example, std::ostream *os) {
  *os << example.name;
}

NamedTensors one(const char *name, Tensor tensor) {
  return {{name, std::move(tensor)}};
}

const Example examples[] = {
    {"copy", 33,
     [](uint64_t number) {
       Random random(number);
       return one("X", integers(random, {8, 320}));
     },
     [](const NamedTensors &in, const NamedTensors &out) { EXPECT_EQ(out.at("Y").bytes(), in.at("X").bytes()); }},

    {"vector_add", 76,
     [](uint64_t number) {
       Random random(number);
       return NamedTensors{{"A", halves(random, {8, 320})}, {"B", halves(random, {8, 320})}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *a = in.at("A").data<_Float16>(), *b = in.at("B").data<_Float16>();
       const auto *c = out.at("C").data<_Float16>();
       for (int i = 0; i < 8 * 320; ++i) // multiples of 2^-3 below 2^5: exact
         ASSERT_EQ(static_cast<double>(c[i]), static_cast<double>(a[i]) + static_cast<double>(b[i])) << i;
     }},

    {"activation", 50,
     [](uint64_t number) {
       Random random(number);
       Tensor x = reals(random, {8, 320});
       x.mutableData<float>()[77] = -std::numeric_limits<float>::quiet_NaN(); // relu must keep it
       return NamedTensors{{"x", x}, {"s", reals(random, {320})}, {"b", reals(random, {320})}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *x = in.at("x").data<float>(), *s = in.at("s").data<float>(), *b = in.at("b").data<float>();
       const auto *y = out.at("y").data<float>();
       for (int i = 0; i < 8 * 320; ++i) {
         if (i == 77) {
           ASSERT_TRUE(std::isnan(y[i]));
           continue;
         }
         double expected = std::tanh(std::max(0.0, double(x[i]) * s[i % 320] + b[i % 320]));
         ASSERT_NEAR(y[i], expected, 1e-6) << i;
         ASSERT_EQ(y[i] > 0, expected > 0) << i;
       }
     }},

    {"matmul", 429,
     [](uint64_t number) {
       Random random(number);
       return NamedTensors{{"A", integers(random, {53, 128})}, {"B", integers(random, {128, 64})}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *a = in.at("A").data<int8_t>(), *b = in.at("B").data<int8_t>();
       const auto *c = out.at("C").data<int32_t>();
       for (int m = 0; m < 53; ++m)
         for (int n = 0; n < 64; ++n) {
           int64_t sum = 0;
           for (int k = 0; k < 128; ++k)
             sum += a[m * 128 + k] * b[k * 64 + n];
           ASSERT_EQ(c[m * 64 + n], sum) << m << ',' << n;
         }
     }},

    {"matmul_f16", 396,
     [](uint64_t number) {
       Random random(number);
       return NamedTensors{{"A", halves(random, {20, 64})}, {"B", halves(random, {64, 64})}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *a = in.at("A").data<_Float16>(), *b = in.at("B").data<_Float16>();
       const auto *c = out.at("C").data<float>();
       for (int m = 0; m < 20; ++m)
         for (int n = 0; n < 64; ++n) {
           // Products are multiples of 2^-6 below 2^8: exact in f64. Rounded once for each tile.
           float sum = 0;
           for (int tile = 0; tile < 2; ++tile) {
             double dot = 0;
             for (int k = tile * 32; k < tile * 32 + 32; ++k)
               dot += static_cast<double>(a[m * 64 + k]) * static_cast<double>(b[k * 64 + n]);
             sum = tile == 0 ? static_cast<float>(dot) : sum + static_cast<float>(dot);
           }
           ASSERT_EQ(c[m * 64 + n], sum) << m << ',' << n;
         }
     }},

    {"requantise", 46,
     [](uint64_t number) {
       Random random(number);
       // Products are multiples of 2^-6 below 2^9, so exact in f32: ties, and values beyond 127, occur.
       auto x = [&](int64_t) { return random.byte() * 8; };
       auto s = [&](int64_t) { return random.byte() / 512.0; };
       return NamedTensors{{"x", filled<int32_t>(ElementType::i32, {8, 320}, x)},
                           {"s", filled<float>(ElementType::f32, {320}, s)}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *x = in.at("x").data<int32_t>();
       const auto *s = in.at("s").data<float>();
       const auto *y = out.at("y").data<int8_t>();
       int ties = 0, saturated = 0;
       for (int i = 0; i < 8 * 320; ++i) {
         double exact = double(x[i]) * s[i % 320];
         ties += std::abs(exact - std::trunc(exact)) == 0.5;
         saturated += exact > 127.5 || exact < -128.5;
         ASSERT_EQ(y[i], std::clamp(std::nearbyint(exact), -128.0, 127.0)) << i;
       }
       EXPECT_GT(ties, 0);
       EXPECT_GT(saturated, 0);
     }},

    {"transpose", 59,
     [](uint64_t number) {
       Random random(number);
       return one("X", integers(random, {64, 320}));
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       for (int row = 0; row < 64; ++row)
         for (int column = 0; column < 320; ++column)
           ASSERT_EQ(out.at("Y").data<int8_t>()[column * 64 + row], in.at("X").data<int8_t>()[row * 320 + column]);
     }},

    {"reduction", 568,
     [](uint64_t number) {
       // The largest of each row is alone, now at one end of it and now at the other. In even rows all others have
       // another sign; in odd ones all are negative, so that no zero that a shift fills in may get into a maximum.
       Random random(number);
       Tensor x = filled<int8_t>(ElementType::i8, {32, 320}, [&](int64_t) { return -4 - (random.byte() & 63); });
       for (int64_t row = 0; row < 32; ++row)
         x.mutableData<int8_t>()[row * 320 + 319 - (row * 10 + static_cast<int64_t>(number) * 3) % 320] =
             static_cast<int8_t>(row % 2 == 0 ? 1 + row : -1 - row % 3);
       return one("X", x);
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       for (int row = 0; row < 32; ++row) {
         const auto *x = in.at("X").data<int8_t>() + row * 320;
         ASSERT_EQ(out.at("Y").data<int8_t>()[row], *std::max_element(x, x + 320)) << row;
       }
     }},

    {"softmax", 118,
     [](uint64_t number) {
       Random random(number);
       return one("x", reals(random, {320, 8}));
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       for (int row = 0; row < 320; ++row) {
         const auto *x = in.at("x").data<float>() + row * 8, *y = out.at("y").data<float>() + row * 8;
         double sum = 0;
         for (int column = 0; column < 8; ++column)
           sum += std::exp(double(x[column]));
         for (int column = 0; column < 8; ++column) {
           double expected = std::exp(double(x[column])) / sum;
           ASSERT_NEAR(y[column], expected, 1e-6 * expected) << row << ',' << column;
         }
       }
     }},

    {"gather", 44,
     [](uint64_t number) {
       Random random(number);
       Tensor book = halves(random, {256, 20, 16});
       Tensor code = filled<uint8_t>(ElementType::u8, {16, 20}, [&](int64_t) { return random.byte() & 255; });
       code.mutableData<uint8_t>()[133] = 255; // the last word, which a smaller region would not have
       code.mutableData<uint8_t>()[277] = 0;
       return NamedTensors{{"book", book}, {"code", code}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *book = in.at("book").data<uint16_t>(), *y = out.at("y").data<uint16_t>(); // bit patterns
       const auto *code = in.at("code").data<uint8_t>();
       for (int token = 0; token < 16; ++token)
         for (int group = 0; group < 20; ++group)
           for (int i = 0; i < 16; ++i)
             ASSERT_EQ(y[(token * 20 + group) * 16 + i], book[(code[token * 20 + group] * 20 + group) * 16 + i])
                 << token << ',' << group << ',' << i;
     }},

    {"two_chips", 385,
     [](uint64_t number) {
       Random random(number);
       return NamedTensors{{"A", integers(random, {4, 320})}, {"B", integers(random, {4, 320})}};
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       const auto *a = in.at("A").data<int8_t>(), *b = in.at("B").data<int8_t>();
       for (int i = 0; i < 4 * 320; ++i) {
         ASSERT_EQ(static_cast<uint8_t>(out.at("S").data<int8_t>()[i]), (a[i] + b[i]) & 255) << i;
         ASSERT_EQ(static_cast<uint8_t>(out.at("D").data<int8_t>()[i]), (a[i] - b[i]) & 255) << i;
       }
     }},

    {"fetch", 155,
     [](uint64_t number) {
       Random random(number);
       return one("X", integers(random, {128, 320}));
     },
     [](const NamedTensors &in, const NamedTensors &out) {
       for (int row = 0; row < 128; ++row) {
         int reversed = 0;
         for (int bit = 0; bit < 7; ++bit)
           reversed |= (row >> bit & 1) << (6 - bit);
         for (int lane = 0; lane < 320; ++lane)
           ASSERT_EQ(out.at("Y").data<int8_t>()[row * 320 + lane], in.at("X").data<int8_t>()[reversed * 320 + lane])
               << row << ',' << lane;
       }
     }},
};

class TspExample : public testing::TestWithParam<Example> {
protected:
  // Of inputs number 0; fails the test otherwise.
  target::RunResult run(const program::Program &program, bool oneByOne = false) {
    NamedTensors inputs = GetParam().inputs(0);
    auto result = execute(program, &inputs, {}, oneByOne);
    if (result)
      return std::move(*result);
    ADD_FAILURE() << report(result.takeError()).message;
    return {};
  }
};

TEST_P(TspExample, GivesTheValuesInTheDerivedCycles) {
  program::Program program = assembledExample(GetParam().name);
  EXPECT_EQ(firstFinding(program), "");
  for (uint64_t number : {0, 1, 2}) {
    NamedTensors inputs = GetParam().inputs(number);
    auto result = target::find("tsp")->simulate(program, inputs, {});
    ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
    GetParam().verify(inputs, result->outputs);
    EXPECT_EQ(result->timeline.cycles.value, GetParam().cycles);
  }
  auto estimate = target::find("tsp")->estimate(program);
  ASSERT_TRUE(bool(estimate)) << report(estimate.takeError()).message;
  EXPECT_EQ(estimate->cycles.value, GetParam().cycles);
}

TEST_P(TspExample, BurstsOrSingleIssuesMakeNoDifference) {
  program::Program program = assembledExample(GetParam().name);
  target::RunResult together = run(program), single = run(program, true);
  EXPECT_EQ(together.timeline.cycles.value, single.timeline.cycles.value);
  ASSERT_EQ(together.outputs.size(), single.outputs.size());
  for (const auto &[name, tensor] : together.outputs)
    EXPECT_EQ(tensor.bytes(), single.outputs.at(name).bytes()) << name;
  auto spansOf = [](const target::RunResult &result) {
    std::multiset<std::tuple<uint32_t, int64_t, int64_t, std::string>> spans;
    for (const timeline::Span &span : result.timeline.spans)
      spans.emplace(span.track, span.begin.value, span.end.value, span.name);
    return spans;
  };
  EXPECT_EQ(spansOf(together), spansOf(single));
  EXPECT_EQ(reportOf(together.timeline), reportOf(single.timeline));
}

TEST_P(TspExample, ThreadsMakeNoDifference) {
  program::Program program = assembledExample(GetParam().name);
  setThreadCount(1);
  target::RunResult one = run(program);
  setThreadCount(2);
  target::RunResult two = run(program);
  setThreadCount(0);
  ASSERT_EQ(one.outputs.size(), two.outputs.size());
  for (const auto &[name, tensor] : one.outputs)
    EXPECT_EQ(tensor.bytes(), two.outputs.at(name).bytes()) << name;
}

TEST_P(TspExample, RoundTripsThroughText) {
  program::Program program = assembledExample(GetParam().name);
  std::string text;
  llvm::raw_string_ostream os(text);
  ASSERT_FALSE(bool(target::find("tsp")->disassemble(program, os)));
  EXPECT_EQ(bytesOf(assembleOrFail(text)), bytesOf(program)) << text;
}

TEST_P(TspExample, NoMutationIsSilent) {
  program::Program program = assembledExample(GetParam().name);
  target::MutateOptions options;
  options.count = 200;
  options.inputs = [](uint64_t number) -> llvm::Expected<NamedTensors> { return GetParam().inputs(number); };
  auto report = target::mutateAll(*target::find("tsp"), program, options);
  ASSERT_TRUE(bool(report)) << quadrille::report(report.takeError()).message;
  std::string text, counts;
  llvm::raw_string_ostream os(text), countsOs(counts);
  report->print(os, true);
  EXPECT_TRUE(report->passed()) << text;
  // What is benign is so by proof, not because three inputs happened to agree.
  EXPECT_EQ(report->count(target::Outcome::Benign), report->provenBenign()) << text;
  report->print(countsOs);
  std::printf("%s", counts.c_str());
}

INSTANTIATE_TEST_SUITE_P(All, TspExample, testing::ValuesIn(examples),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(TspExample_Matmul, AttributesItsWorkToTheNode) {
  program::Program program = assembledExample("matmul");
  auto estimate = target::find("tsp")->estimate(program);
  ASSERT_TRUE(bool(estimate));
  // 53 x 128 x 64 multiply-accumulates.
  ASSERT_EQ(estimate->kernels.size(), 1u);
  EXPECT_EQ(estimate->kernels[0].flops, 2.0 * 53 * 128 * 64);
}

} // namespace
} // namespace quadrille::tsp
