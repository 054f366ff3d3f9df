// GEMM rates of every form, in multiply-accumulates a second of real time, beside the libraries' own. The CPU column
// is that of all threads.
#include "numerics/Gemm.h"

#include "base/Parallel.h"
#include "numerics/Convert.h"

#include <benchmark/benchmark.h>
#include <dnnl.h>

#include <random>
#include <vector>

using namespace quadrille;

extern "C" void cblas_dgemm(int order, int transA, int transB, int m, int n, int k, double alpha, const double *a,
                            int lda, const double *b, int ldb, double beta, double *c, int ldc);

namespace {

template <typename T> std::vector<T> randomValues(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> values(count);
  for (T &value : values) {
    if constexpr (std::is_floating_point_v<T>)
      value = static_cast<T>(std::normal_distribution<float>()(random));
    else
      value = static_cast<T>(random());
  }
  return values;
}

std::vector<uint16_t> randomNarrow(ElementType type, size_t count, unsigned seed) {
  std::vector<float> wide = randomValues<float>(count, seed);
  std::vector<uint16_t> values(count);
  narrowFromF32(type, wide.data(), values.data(), count);
  return values;
}

void setRate(benchmark::State &state, int64_t macs) {
  state.counters["MAC/s"] =
      benchmark::Counter(static_cast<double>(macs), benchmark::Counter::kIsIterationInvariantRate);
}

GemmShape square(int64_t n, bool transposeB = false) {
  GemmShape shape;
  shape.m = shape.n = shape.k = n;
  shape.transposeB = transposeB;
  return shape;
}

template <typename T, typename C, typename Function>
void run(benchmark::State &state, std::vector<T> a, std::vector<T> b, Function function) {
  int64_t n = state.range(0);
  std::vector<C> c(static_cast<size_t>(n * n));
  for ([[maybe_unused]] auto _ : state) {
    function(a.data(), b.data(), c.data());
    benchmark::ClobberMemory();
  }
  setRate(state, n * n * n);
}

void f32(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<float, float>(state, randomValues<float>(size, 1), randomValues<float>(size, 2),
                    [&](auto *a, auto *b, auto *c) { gemmF32(square(n), a, b, c); });
}
void f32TransposedB(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<float, float>(state, randomValues<float>(size, 1), randomValues<float>(size, 2),
                    [&](auto *a, auto *b, auto *c) { gemmF32(square(n, true), a, b, c); });
}
void f32OneDnn(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<float, float>(state, randomValues<float>(size, 1), randomValues<float>(size, 2),
                    [&](auto *a, auto *b, auto *c) { dnnl_sgemm('N', 'N', n, n, n, 1, a, n, b, n, 0, c, n); });
}
void f64(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<double, double>(state, randomValues<double>(size, 1), randomValues<double>(size, 2),
                      [&](auto *a, auto *b, auto *c) { gemmF64(square(n), a, b, c); });
}
void f64OpenBlas(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<double, double>(state, randomValues<double>(size, 1), randomValues<double>(size, 2),
                      [&](auto *a, auto *b, auto *c) {
                        auto i = static_cast<int>(n);
                        cblas_dgemm(101, 111, 111, i, i, i, 1, a, i, b, i, 0, c, i);
                      });
}
void narrow(benchmark::State &state, ElementType type) {
  int64_t n = state.range(0), size = n * n;
  run<uint16_t, float>(state, randomNarrow(type, size, 1), randomNarrow(type, size, 2),
                       [&](auto *a, auto *b, auto *c) { gemmNarrow(square(n), type, a, type, b, c); });
}
void onceRounded(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n, block = state.range(1);
  run<uint16_t, float>(state, randomNarrow(ElementType::f16, size, 1), randomNarrow(ElementType::f16, size, 2),
                       [&](auto *a, auto *b, auto *c) {
                         gemmOnceRounded(square(n), block, ElementType::f16, a, ElementType::f16, b, c);
                       });
}
void integer8(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<int8_t, int32_t>(
      state, randomValues<int8_t>(size, 1), randomValues<int8_t>(size, 2),
      [&](auto *a, auto *b, auto *c) { gemmInteger8(square(n), ElementType::u8, a, 128, ElementType::i8, b, 0, c); });
}
void integer8OneDnn(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<int8_t, int32_t>(state, randomValues<int8_t>(size, 1), randomValues<int8_t>(size, 2),
                       [&](auto *a, auto *b, auto *c) {
                         int32_t zero = 0;
                         dnnl_gemm_s8s8s32('N', 'N', 'F', n, n, n, 1, a, n, 0, b, n, 0, 0, c, n, &zero);
                       });
}
void i32(benchmark::State &state) {
  int64_t n = state.range(0), size = n * n;
  run<int32_t, int32_t>(state, randomValues<int32_t>(size, 1), randomValues<int32_t>(size, 2),
                        [&](auto *a, auto *b, auto *c) { gemmI32(square(n), a, b, c); });
}

// One row times a matrix of weights: bound by reading the weights once.
void f32Row(benchmark::State &state) {
  int64_t n = state.range(0);
  GemmShape shape = square(n, state.range(1) != 0);
  shape.m = 1;
  std::vector<float> a = randomValues<float>(n, 1), b = randomValues<float>(n * n, 2), c(n);
  for ([[maybe_unused]] auto _ : state) {
    gemmF32(shape, a.data(), b.data(), c.data());
    benchmark::ClobberMemory();
  }
  setRate(state, n * n);
}
BENCHMARK(f32Row)->Args({2048, 0})->Args({2048, 1})->UseRealTime()->MeasureProcessCPUTime();

BENCHMARK(f32)->Arg(512)->Arg(1024)->Arg(2048)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(f32TransposedB)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(f32OneDnn)->Arg(512)->Arg(1024)->Arg(2048)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(f64)->Arg(512)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(f64OpenBlas)->Arg(512)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(narrow, f16, ElementType::f16)
    ->Arg(512)
    ->Arg(1024)
    ->Arg(2048)
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(narrow, bf16, ElementType::bf16)->Arg(512)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK_CAPTURE(narrow, cb16, ElementType::cb16)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(onceRounded)
    ->Args({512, 160})
    ->Args({1024, 160})
    ->Args({1024, 320})
    ->Args({2048, 160})
    ->UseRealTime()
    ->MeasureProcessCPUTime();
BENCHMARK(integer8)->Arg(512)->Arg(1024)->Arg(2048)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(integer8OneDnn)->Arg(512)->Arg(1024)->UseRealTime()->MeasureProcessCPUTime();
BENCHMARK(i32)->Arg(512)->UseRealTime()->MeasureProcessCPUTime();

} // namespace

BENCHMARK_MAIN();
