// The hand-written programs of examples/tsp: their values, and the cycles that their comments derive by hand.
#include "base/Error.h"
#include "base/File.h"
#include "base/Parallel.h"
#include "target/Mutate.h"
#include "target/tsp/TestProgram.h"

#include "numerics/Convert.h"

#include "gtest/gtest.h"

#include <cmath>

namespace quadrille::tsp {
namespace {

using target::NamedTensors;

program::Program example(const char *name) {
  std::string path = std::string(QUADRILLE_SOURCE_DIR "/examples/tsp/") + name;
  auto file = MappedFile::open(path);
  if (!file) {
    ADD_FAILURE() << report(file.takeError()).message;
    return {};
  }
  return assembleOrFail((*file)->text().str());
}

// Whole numbers in -128..127, all residues, no pattern of the matrix's size.
NamedTensors integerInputs(uint64_t number = 0) {
  Tensor a = Tensor::uninitialized(ElementType::i8, {53, 128}), b = Tensor::uninitialized(ElementType::i8, {128, 64});
  uint32_t state = 12345 + static_cast<uint32_t>(number);
  auto fill = [&](Tensor &tensor) {
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      state = state * 1664525 + 1013904223; // Numerical Recipes' generator
      tensor.mutableData<int8_t>()[i] = static_cast<int8_t>(state >> 24);
    }
  };
  fill(a);
  fill(b);
  return {{"A", a}, {"B", b}};
}

// Multiples of 2^-3 in -16..15.875: f16 numbers.
NamedTensors halfInputs(uint64_t number = 0) {
  Tensor a = Tensor::uninitialized(ElementType::f16, {20, 64}), b = Tensor::uninitialized(ElementType::f16, {64, 64});
  uint32_t state = 54321 + static_cast<uint32_t>(number);
  auto fill = [&](Tensor &tensor) {
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      state = state * 1664525 + 1013904223;
      auto value = static_cast<_Float16>((static_cast<int>(state >> 24) - 128) / 8.0);
      tensor.mutableData<_Float16>()[i] = value;
    }
  };
  fill(a);
  fill(b);
  return {{"A", a}, {"B", b}};
}

TEST(TspExample, IntegerMatmulGivesTheProductIn429Cycles) {
  program::Program program = example("matmul.tspasm");
  NamedTensors inputs = integerInputs();
  EXPECT_EQ(firstFinding(program), "");
  auto result = target::find("tsp")->simulate(program, inputs, {});
  ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
  const auto *a = inputs["A"].data<int8_t>(), *b = inputs["B"].data<int8_t>();
  const auto *c = result->outputs.at("C").data<int32_t>();
  for (int m = 0; m < 53; ++m)
    for (int n = 0; n < 64; ++n) {
      int64_t sum = 0;
      for (int k = 0; k < 128; ++k)
        sum += a[m * 128 + k] * b[k * 64 + n];
      ASSERT_EQ(c[m * 64 + n], sum) << m << ',' << n;
    }
  EXPECT_EQ(result->timeline.cycles.value, 429);
  auto estimate = target::find("tsp")->estimate(program);
  ASSERT_TRUE(bool(estimate));
  EXPECT_EQ(estimate->cycles.value, 429);
  // 53 x 128 x 64 multiply-accumulates, attributed to the node.
  ASSERT_EQ(result->timeline.kernels.size(), 1u);
  EXPECT_EQ(result->timeline.kernels[0].flops, 2.0 * 53 * 128 * 64);
}

TEST(TspExample, HalfMatmulRoundsOncePerTileIn396Cycles) {
  program::Program program = example("matmul_f16.tspasm");
  NamedTensors inputs = halfInputs();
  EXPECT_EQ(firstFinding(program), "");
  auto result = target::find("tsp")->simulate(program, inputs, {});
  ASSERT_TRUE(bool(result)) << report(result.takeError()).message;
  const auto *a = inputs["A"].data<_Float16>(), *b = inputs["B"].data<_Float16>();
  const auto *c = result->outputs.at("C").data<float>();
  for (int m = 0; m < 20; ++m)
    for (int n = 0; n < 64; ++n) {
      // Products are multiples of 2^-6 below 2^8: exact in f64.
      float sum = 0;
      for (int tile = 0; tile < 2; ++tile) {
        double dot = 0;
        for (int k = tile * 32; k < tile * 32 + 32; ++k)
          dot += static_cast<double>(a[m * 64 + k]) * static_cast<double>(b[k * 64 + n]);
        sum = tile == 0 ? static_cast<float>(dot) : sum + static_cast<float>(dot);
      }
      ASSERT_EQ(c[m * 64 + n], sum) << m << ',' << n;
    }
  EXPECT_EQ(result->timeline.cycles.value, 396);
  auto estimate = target::find("tsp")->estimate(program);
  ASSERT_TRUE(bool(estimate));
  EXPECT_EQ(estimate->cycles.value, 396);
}

TEST(TspExample, ThreadsDoNotChangeResults) {
  program::Program program = example("matmul_f16.tspasm");
  std::vector<NamedTensors> outputs;
  for (unsigned threads : {1u, 2u}) {
    setThreadCount(threads);
    auto result = target::find("tsp")->simulate(program, halfInputs(), {});
    ASSERT_TRUE(bool(result));
    outputs.push_back(result->outputs);
  }
  setThreadCount(0);
  EXPECT_EQ(outputs[0]["C"].bytes(), outputs[1]["C"].bytes());
}

TEST(TspExample, RoundTripsThroughText) {
  for (const char *name : {"matmul.tspasm", "matmul_f16.tspasm"}) {
    program::Program program = example(name);
    std::string text;
    llvm::raw_string_ostream os(text);
    ASSERT_FALSE(bool(target::find("tsp")->disassemble(program, os)));
    EXPECT_EQ(bytesOf(assembleOrFail(text)), bytesOf(program)) << text;
  }
}

void expectNoneSilent(const program::Program &program, std::function<NamedTensors(uint64_t)> inputs) {
  target::MutateOptions options;
  options.count = 200;
  options.inputs = [&](uint64_t number) -> llvm::Expected<NamedTensors> { return inputs(number); };
  auto report = target::mutateAll(*target::find("tsp"), program, options);
  ASSERT_TRUE(bool(report)) << quadrille::report(report.takeError()).message;
  std::string text;
  llvm::raw_string_ostream os(text);
  report->print(os, true);
  EXPECT_TRUE(report->passed()) << text;
  // What is benign is so by proof, not because three inputs happened to agree.
  EXPECT_EQ(report->count(target::Outcome::Benign), report->provenBenign()) << text;
  std::string counts;
  llvm::raw_string_ostream countsOs(counts);
  report->print(countsOs);
  std::printf("%s", counts.c_str());
}
TEST(TspExample, NoMutationOfTheIntegerMatmulIsSilent) {
  expectNoneSilent(example("matmul.tspasm"), integerInputs);
}
TEST(TspExample, NoMutationOfTheHalfMatmulIsSilent) {
  expectNoneSilent(example("matmul_f16.tspasm"), halfInputs);
}

} // namespace
} // namespace quadrille::tsp
