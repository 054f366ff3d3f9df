// The simulator of the tensor streaming processor on a GroqCard: values through the matrix planes and through the
// vector unit, timing alone, and the legality check. Rates: multiply-accumulates, and instructions issued to units
// (each Repeat counts as often as it issues).
#include "base/Error.h"
#include "target/Target.h"
#include "target/tsp/Simulate.h"
#include "target/tsp/WellFormed.h"

#include "llvm/Support/raw_ostream.h"

#include <benchmark/benchmark.h>

#include <algorithm>

using namespace quadrille;

namespace {

template <typename Value> Value take(llvm::Expected<Value> value) {
  if (value)
    return std::move(*value);
  llvm::errs() << report(value.takeError()).message << '\n';
  std::exit(1);
}

// A text that is put together queue by queue. Queues that are longer than their buffers of 80 instructions fetch 40
// more now and then.
class Text {
public:
  Text(const std::string &head) : head(head) {}
  std::vector<std::string> &queue(const std::string &name) { return queues[name]; }
  std::string text() const {
    std::string all = head + ".code \"inference\"\n.chip 0\n";
    for (const auto &[name, steps] : queues) {
      all += ".queue " + name + "\n";
      // A step is at most as many instructions as lines.
      size_t total = 0, done = 0, fetched = 0;
      for (const std::string &step : steps)
        total += std::count(step.begin(), step.end(), '\n');
      for (const std::string &step : steps) {
        all += step;
        done += std::count(step.begin(), step.end(), '\n');
        if (done >= 60 + 40 * fetched && 80 + 40 * fetched < total + fetched + 1) {
          all += "ifetch\n";
          ++done;
          ++fetched;
        }
      }
    }
    return all;
  }

private:
  std::string head;
  std::map<std::string, std::vector<std::string>> queues;
};

std::string at(int64_t cycle, const std::string &instruction, int64_t times = 1) {
  return ".at " + std::to_string(cycle) + "\n" + instruction + "\n" +
         (times > 1 ? "repeat count=" + std::to_string(times - 1) + "\n" : "");
}
std::string number(int64_t value) {
  return std::to_string(value);
}

constexpr int64_t vectors = 512, fewTiles = 8;

// Both hemispheres: `tiles` tiles of weights one after the other, `vectors` activations through each, summed over the
// tiles; when memory does not hold as many, from the first ones again. Slices 27 and 29..43 give weights, and lie 13
// and 9 to 12 cycles of flight from the planes; activations come from slices 0 and 1, 19 cycles away; sums go to slices
// 4 to 7.
std::string product(bool f16, int64_t tiles = fewTiles) {
  int64_t rows = f16 ? 160 : 320, steps = rows / 16, pair = f16 ? 2 : 1;
  int64_t vectorTiles = std::min(tiles, fewTiles), weightTiles = std::min<int64_t>(tiles, 200);
  std::string head = ".target tsp\n.machine groqcard\n.precision \"f16\"\n";
  auto words = number(vectors * vectorTiles), outputs = number(vectors);
  std::string weights = number(weightTiles * steps * pair);
  for (std::string side : {"w", "e"}) {
    std::string tensor = "i8[" + words + ",320]";
    head += ".input \"A0" + side + "\" " + tensor + "\n.input \"A1" + side + "\" " + tensor + "\n";
    head += ".input \"B" + side + "\" i8[" + weights + ",16,320]\n";
    head += ".output \"C" + side + "\" i32[" + outputs + ",320]\n";
    for (std::string half : {"0", "1"})
      head += ".layout input \"A" + half + side + "\" bank=0 address=0 slices=" + side + half +
              "\n.axis dimension=0 extent=" + words +
              " to=address step=1\n.axis dimension=1 extent=320 to=lane step=1\n";
    std::string list = side == "w" ? "w26-27,w29-37,w39-43" : "e27,e29-43";
    head += ".layout input \"B" + side + "\" bank=0 address=0 slices=" + list +
            "\n.axis dimension=0 extent=" + weights +
            " to=address step=1\n.axis dimension=1 extent=16 to=slice step=1\n.axis dimension=2 extent=320 to=lane "
            "step=1\n";
    head += ".layout output \"C" + side + "\" bank=0 address=0 slices=" + side +
            "4-7\n.axis dimension=0 extent=" + outputs +
            " to=address step=1\n.axis dimension=1 extent=320 to=lane step=1\n.axis dimension=bytes extent=4 "
            "to=slice step=1\n";
  }
  Text text(head);
  for (std::string side : {"west", "east"}) {
    std::string out = side == "west" ? "w" : "e", in = side == "west" ? "e" : "w";
    std::vector<int64_t> slices;
    for (int64_t slice = side == "west" ? 26 : 27; slice < 44; ++slice)
      if (slice != 28 && (side == "east" || slice != 38))
        slices.push_back(slice);
    int64_t period = steps * pair + 3 + vectors + 20; // a queue sums up before it loads again
    for (int64_t tile = 0; tile < tiles; ++tile) {
      int64_t load = 40 + tile * period, activate = load + steps * pair - 1 + 3 + 1; // cycles of capture
      for (int64_t plane = 0; plane < pair; ++plane) {
        int64_t first = load + plane * steps;
        for (int64_t i = 0; i < 16; ++i) {
          int64_t flight = 20 - (1 + slices[i] / 4);
          text.queue("MEM " + side + " " + number(slices[i]))
              .push_back(at(first - flight - 2,
                            "read bank=0 address=" + number((tile % weightTiles * pair + plane) * steps) +
                                " step=1 stream=" + out + number(plane * 16 + i),
                            steps));
        }
        std::string plain = "MXM " + side + " " + number(plane);
        text.queue(plain + ".0").push_back(at(first - 1, "lw row=0 step=16", steps));
        text.queue(plain + ".1")
            .push_back(at(first + steps - 2, "iw rows=" + number(rows) + (f16 ? " type=f16" : " type=i8")));
      }
      for (int64_t half = 0; half < pair; ++half)
        text.queue("MEM " + side + " " + number(half))
            .push_back(at(activate - 19 - 2,
                          "read bank=0 address=" + number(tile % vectorTiles * vectors) + " step=1 stream=" + out +
                              number(20 + half),
                          vectors));
      text.queue("MXM " + side + " 0.2")
          .push_back(at(activate - 1, "abc stream=" + out + "20" + (f16 ? " type=f16" : " type=i8"), vectors));
      std::string mode = tile == 0 ? "start" : tile == tiles - 1 ? "finish" : "add";
      // The plane's queue 0 is free again while the activations stream.
      text.queue("MXM " + side + " 0.0")
          .push_back(at(activate + 13 - 1, "acc mode=" + mode + " sum=0 step=1", vectors));
      if (tile == tiles - 1)
        for (int64_t byte = 0; byte < 4; ++byte)
          text.queue("MEM " + side + " " + number(4 + byte))
              .push_back(at(activate + 13 + 34 + 4 + 9 - 1,
                            "write bank=0 address=0 step=1 stream=" + in + number(16 + byte), vectors));
    }
  }
  return text.text();
}

// `length` sums of two f32 vectors: eight slices read, four written, one arithmetic unit.
std::string vectorSum(int64_t length) {
  std::string head = ".target tsp\n.machine groqcard\n.precision \"f32\"\n", extent = number(length);
  for (std::string name : {"A", "B"})
    head += ".input \"" + name + "\" f32[" + extent + ",320]\n";
  head += ".output \"C\" f32[" + extent + ",320]\n";
  for (auto [name, slices] : {std::pair("input \"A\"", "w0-3"), {"input \"B\"", "w4-7"}, {"output \"C\"", "e0-3"}})
    head += std::string(".layout ") + name + " bank=0 address=0 slices=" + slices +
            "\n.axis dimension=0 extent=" + extent +
            " to=address step=1\n.axis dimension=1 extent=320 to=lane step=1\n.axis dimension=bytes extent=4 "
            "to=slice step=1\n";
  Text text(head);
  auto all = [&](const std::string &queue, int64_t cycle, const std::string &instruction) {
    text.queue(queue).push_back(at(cycle, instruction, length));
  };
  for (int64_t slice = 0; slice < 8; ++slice)
    all("MEM west " + number(slice), slice < 4 ? 1 : 0, "read bank=0 address=0 step=1 stream=e" + number(slice));
  all("VXM 0", 3, "add type=f32 a=e0 b=e4 to=e0");
  for (int64_t slice = 0; slice < 4; ++slice)
    all("MEM east " + number(slice), 11, "write bank=0 address=0 step=1 stream=e" + number(slice));
  return text.text();
}

program::Program assemble(const std::string &text) {
  return take(target::find("tsp")->assemble(text, "benchmark"));
}

target::NamedTensors inputsOf(const program::Program &program) {
  target::NamedTensors inputs;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Input) {
      Tensor tensor = Tensor::uninitialized(variable.type, variable.shape);
      std::byte *bytes = tensor.mutableBytes();
      uint32_t state = 1;
      for (size_t i = 0; i < tensor.bytes().size(); ++i) {
        state = state * 1664525 + 1013904223;
        bytes[i] = static_cast<std::byte>(state >> 24 & 0x3f); // finite in every type
      }
      inputs[variable.name] = tensor;
    }
  return inputs;
}

double issuesOf(const program::Program &program) {
  auto loaded = take(tsp::Loaded::from(program));
  return static_cast<double>(tsp::issueCount(tsp::Queues(loaded.code.entries[0])));
}

void rates(benchmark::State &state, const program::Program &program, double products) {
  auto rate = [&](double each) {
    return benchmark::Counter(each * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  };
  if (products > 0)
    state.counters["MAC/s"] = rate(products);
  state.counters["instructions/s"] = rate(issuesOf(program));
}

double productsOf(bool f16) {
  return static_cast<double>(2 * fewTiles * vectors * 320 * (f16 ? 160 : 320));
}

void simulate(benchmark::State &state, const std::string &text, double products) {
  program::Program program = assemble(text);
  target::NamedTensors inputs = inputsOf(program);
  for ([[maybe_unused]] auto _ : state)
    benchmark::DoNotOptimize(take(target::find("tsp")->simulate(program, inputs, {})));
  rates(state, program, products);
}
// Every issue by itself, in order.
void oneByOne(benchmark::State &state, const std::string &text, double products) {
  program::Program program = assemble(text);
  target::NamedTensors inputs = inputsOf(program);
  for ([[maybe_unused]] auto _ : state)
    benchmark::DoNotOptimize(take(tsp::execute(program, &inputs, {}, true)));
  rates(state, program, products);
}
void estimate(benchmark::State &state, const std::string &text, double products) {
  program::Program program = assemble(text);
  for ([[maybe_unused]] auto _ : state)
    benchmark::DoNotOptimize(take(target::find("tsp")->estimate(program)));
  rates(state, program, products);
}
void check(benchmark::State &state, const std::string &text) {
  program::Program program = assemble(text);
  for ([[maybe_unused]] auto _ : state)
    if (auto verdict = take(target::find("tsp")->check(program)); !verdict.legal())
      state.SkipWithError((verdict.findings[0].where + ": " + verdict.findings[0].message).c_str());
  rates(state, program, 0);
}

// As many issues as a convolutional network has: 20 million of them, in bursts of up to 512.
void checkManyTiles(benchmark::State &state) {
  check(state, product(false, 5400));
}

BENCHMARK_CAPTURE(simulate, productF16, product(true), productsOf(true))->UseRealTime();
BENCHMARK_CAPTURE(simulate, productI8, product(false), productsOf(false))->UseRealTime();
BENCHMARK_CAPTURE(simulate, vectorSum, vectorSum(4096), 0)->UseRealTime();
BENCHMARK_CAPTURE(oneByOne, vectorSum, vectorSum(4096), 0)->UseRealTime();
BENCHMARK_CAPTURE(estimate, productF16, product(true), productsOf(true))->UseRealTime();
BENCHMARK_CAPTURE(estimate, vectorSum, vectorSum(4096), 0)->UseRealTime();
BENCHMARK_CAPTURE(check, productF16, product(true))->UseRealTime();
BENCHMARK_CAPTURE(check, vectorSum, vectorSum(4096))->UseRealTime();
BENCHMARK(checkManyTiles)->UseRealTime()->Unit(benchmark::kMillisecond);

} // namespace

BENCHMARK_MAIN();
