#include "target/ipu/CycleModel.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace quadrille::ipu {

namespace {

constexpr int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Names of figures end so.
llvm::StringRef suffix(ElementType type) {
  switch (type) {
  case ElementType::f32:
    return "f32";
  case ElementType::f16:
    return "f16";
  case ElementType::u32:
    return "u32";
  default:
    return "i32";
  }
}

} // namespace

std::vector<WorkerRows> shareField(int64_t rows, int64_t columns, int64_t workers) {
  std::vector<WorkerRows> shares(static_cast<size_t>(workers));
  if (rows <= 0 || columns <= 0)
    return shares;
  int64_t split = workers / std::gcd(workers, rows), each = rows * split / workers;
  auto boundary = [&](int64_t part) { return part * columns / split; };
  for (int64_t worker = 0; worker < workers; ++worker) {
    int64_t begin = worker * each, end = begin + each;
    for (int64_t row = begin / split; row * split < end; ++row) {
      int64_t from = std::max(begin - row * split, int64_t(0)), to = std::min(end - row * split, split);
      if (int64_t length = boundary(to) - boundary(from); length > 0)
        shares[static_cast<size_t>(worker)].push_back(length);
    }
  }
  return shares;
}

CycleModel::CycleModel(const machine::Machine &machine)
    : workerCount(machine.integer("tile.workers")), vectorF32(machine.integer("elementwise.vector_f32")),
      vectorF16(machine.integer("elementwise.vector_f16")), unitWeightBytes(machine.integer("amp.unit_weight_bytes")),
      loadPerCycle(machine.integer("amp.load_per_cycle")),
      loadPerCycleInterleaved(machine.integer("amp.load_per_cycle_interleaved")),
      slicChainsF16(machine.integer("slic.chains_f16")), slicChainsF32(machine.integer("slic.chains_f32")),
      copyBytesPerCycle(machine.real("copy.bytes_per_cycle")) {
  for (auto [i, types] : llvm::enumerate(std::array{"f16_f16", "f16_f32", "f32_f32"})) {
    units[i] = machine.integer(std::string("amp.units.") + types);
    unitWeights[i] = machine.integer(std::string("amp.unit_weights.") + types);
  }
  for (double height : machine.list("amp.filter_heights"))
    filterHeights.push_back(static_cast<int64_t>(height));
  static const std::pair<Key, const char *> keys[] = {
#define QUADRILLE_CYCLE_LIST(name, key) {name, key},
#include "target/ipu/CycleLists.def"
#undef QUADRILLE_CYCLE_LIST
  };
  for (auto [key, text] : keys)
    lists[key] = machine.list(std::string("cycles.") + text).vec();
  for (const auto &[key, figure] : machine.figures()) {
    llvm::StringRef name = key;
    for (const char *group : {"unary", "unary_in_place", "binary", "scalar_broadcast", "nonlinearity"})
      if (name.starts_with(("cycles." + llvm::StringRef(group) + ".").str()))
        tables[name.drop_front(llvm::StringRef("cycles.").size()).str()] = figure.values;
  }
}

int64_t CycleModel::vector(ElementType type) const {
  return type == ElementType::f32 ? vectorF32 : type == ElementType::f16 ? vectorF16 : 1;
}

const CycleModel::List *CycleModel::entry(const std::string &key) const {
  auto found = tables.find(key);
  return found == tables.end() ? nullptr : &found->second;
}

// An entry is [c, step]: c cycles for `step` elements; 0: c and the loop's overhead for each natural vector; -1: for
// each element.
int64_t CycleModel::loop(const List &entry, int64_t count, int64_t vector, int64_t overhead, bool unary) const {
  auto c = static_cast<int64_t>(entry[0]), step = static_cast<int64_t>(entry[1]);
  if (step > 0)
    return c * ceilDivide(count, step);
  if (step < 0)
    return (c + overhead) * count;
  return unary ? (c + overhead) * (count + vector - 1) / vector : (c + overhead) * ceilDivide(count, vector);
}

std::optional<int64_t> CycleModel::unaryLoop(llvm::StringRef operation, ElementType type, int64_t countOfWorker,
                                             bool inPlace) const {
  std::string key = (operation + "." + suffix(type)).str();
  const List *found = inPlace ? entry("unary_in_place." + key) : nullptr;
  if (!found)
    found = entry("unary." + key);
  if (!found)
    return std::nullopt;
  return loop(*found, countOfWorker, vector(type), k(loopOverhead, 0), true);
}

std::optional<int64_t> CycleModel::binaryLoop(llvm::StringRef operation, ElementType type,
                                              int64_t countOfWorker) const {
  const List *found = entry(("binary." + operation + "." + suffix(type)).str());
  if (!found)
    return std::nullopt;
  bool plain = operation == "add" || operation == "subtract" || operation == "multiply";
  return loop(*found, countOfWorker, vector(type), k(loopOverhead, plain ? 1 : 2), false);
}

std::optional<int64_t> CycleModel::unary(llvm::StringRef operation, ElementType type, int64_t count,
                                         bool inPlace) const {
  auto inner = unaryLoop(operation, type, ceilDivide(count, workerCount), inPlace);
  if (!inner)
    return std::nullopt;
  return k(unary1d, 0) + workerCount * (k(unary1d, inPlace ? 3 : operation == "exp" ? 2 : 1) + *inner);
}

std::optional<int64_t> CycleModel::binary(llvm::StringRef operation, ElementType type, int64_t count,
                                          bool inPlace) const {
  auto inner = binaryLoop(operation, type, ceilDivide(count, workerCount));
  if (!inner)
    return std::nullopt;
  return k(binary1d, 0) + workerCount * (k(binary1d, inPlace ? 3 : type == ElementType::f32 ? 1 : 2) + *inner);
}

std::optional<int64_t> CycleModel::scalarBroadcast(llvm::StringRef operation, ElementType type, int64_t count) const {
  std::string key = (operation + "." + suffix(type)).str();
  const List *found = entry("scalar_broadcast." + key);
  if (!found)
    found = entry("binary." + key);
  if (!found)
    return std::nullopt;
  bool plain = operation == "add" || operation == "subtract" || operation == "multiply";
  return k(scalarBroadcast1d, 0) +
         workerCount * (k(scalarBroadcast1d, 1) + loop(*found, ceilDivide(count, workerCount), vector(type),
                                                       k(loopOverhead, plain ? 3 : 4), false));
}

int64_t CycleModel::biasAdd(ElementType type, int64_t length, int64_t repeats) const {
  int64_t each = ceilDivide(repeats, workerCount), core = 0;
  constexpr int64_t vectorsOfEight = 8;
  if (type == ElementType::f32)
    core = k(biasF32, 0) + k(biasF32, 1) + length * (k(biasF32, 2) * each + k(biasF32, 3));
  else if (length % vectorsOfEight != 0)
    core = k(biasF16, 0) + k(biasF16Generic, 0) * length * each;
  else if (each == 1)
    core = k(biasF16, 0) + k(biasF16, 4) + k(biasF16, 5) * (length / vectorsOfEight);
  else
    core = k(biasF16, 0) + k(biasF16, 1) + length / vectorsOfEight * (k(biasF16, 2) + k(biasF16, 3) * each);
  return k(bias, 0) + k(bias, 1) + workerCount * (k(bias, 2) + core);
}

std::optional<int64_t> CycleModel::nonlinearity(llvm::StringRef operation, ElementType type, int64_t count) const {
  const List *found = entry(("nonlinearity." + operation + "." + suffix(type)).str());
  if (!found)
    return std::nullopt;
  auto o = static_cast<int64_t>((*found)[0]), each = static_cast<int64_t>((*found)[1]);
  int64_t width = vector(type), vectors = ceilDivide(count / width, workerCount);
  bool half = type == ElementType::f16;
  int64_t rest = k(nonlinear, half ? 4 : 3);
  if (!half && count % width != 0)
    rest += 2 + o;
  if (half && count % width >= 2)
    rest += 2 + o;
  if (half && count % 2 != 0)
    rest += 3 + o;
  if (operation == "swish")
    rest += k(nonlinear, 5);
  int64_t body = vectors > 0 ? k(nonlinear, 2) + 2 * o + (vectors - 1) * each : 0;
  return k(nonlinear, 0) + workerCount * (k(nonlinear, 1) + body + rest);
}

std::optional<int64_t> CycleModel::nonlinearityLoop(llvm::StringRef operation, ElementType type,
                                                    int64_t countOfWorker) const {
  const List *found = entry(("nonlinearity." + operation + "." + suffix(type)).str());
  if (!found)
    return std::nullopt;
  // The first vector takes twice what an operation takes, the following ones come out of the pipeline.
  auto o = static_cast<int64_t>((*found)[0]), each = static_cast<int64_t>((*found)[1]);
  return 2 * o + (ceilDivide(countOfWorker, vector(type)) - 1) * each;
}

int64_t CycleModel::nonlinearityGradient(Gradient operation, ElementType type, int64_t count) const {
  bool half = type == ElementType::f16;
  size_t step = operation == Gradient::Gelu    ? 3 + half
                : operation == Gradient::Swish ? 5 + half
                                               : static_cast<size_t>(operation);
  int64_t vectors = ceilDivide(count / vector(type), workerCount);
  int64_t body = vectors > 0 ? k(gradient, 2) + (vectors - 1) * k(gradientStep, step) : 0;
  return k(gradient, 0) + workerCount * (k(gradient, 1) + body + k(gradient, half ? 4 : 3));
}

int64_t CycleModel::cast(ElementType from, ElementType to, int64_t count) const {
  if (from == ElementType::u8 && to == ElementType::f16) {
    int64_t atoms = std::max<int64_t>(1, ceilDivide(ceilDivide(count, workerCount), k(castU8F16, 4)));
    return k(cast1d, 0) + workerCount * (k(cast1d, 1) + k(castU8F16, 0) + k(castU8F16, 1) +
                                         k(castU8F16, 2) * (atoms - 1) + k(castU8F16, 3));
  }
  return k(cast1d, 0) +
         workerCount * (k(cast1d, 1) + k(cast1d, 2) + castLoop(from, to, ceilDivide(count, workerCount)));
}

int64_t CycleModel::castLoop(ElementType from, ElementType to, int64_t countOfWorker) const {
  Key entry = from == ElementType::f32 && to == ElementType::f16   ? castF32F16
              : from == ElementType::f16 && to == ElementType::f32 ? castF16F32
                                                                   : castOther;
  int64_t width = k(entry, 0), rest = countOfWorker % width;
  // A test for each remainder below the loop's width, and two cycles for each that is there.
  int64_t tests = llvm::Log2_64(static_cast<uint64_t>(width)) + 2 * llvm::popcount(static_cast<uint64_t>(rest));
  return k(entry, 1) * (countOfWorker / width) + tests;
}

int64_t CycleModel::fill(int64_t elementBytes, int64_t count) const {
  switch (elementBytes) {
  case 1:
    return count < k(fill8bit, 2) ? k(fill8bit, 0) + count / k(fill8bit, 1) : k(fill8bit, 3) + count / k(fill8bit, 4);
  case 2:
    return k(fillF16, 0) + count / k(fillF16, 1);
  case 4:
    return k(fillF32, 0) + count / k(fillF32, 1) + count % 2;
  default:
    return k(fill64bit, 0) + count;
  }
}

int64_t CycleModel::copy(int64_t bytes) const {
  return k(copying, 0) + static_cast<int64_t>(std::ceil(static_cast<double>(bytes) / copyBytesPerCycle));
}

int64_t CycleModel::dotProduct(int64_t count) const {
  return k(dotProducts, 0) + ceilDivide(count, k(dotProducts, 1));
}

int64_t CycleModel::zeroPartials(ElementType type, int64_t elements, int64_t groups) const {
  return workerCount * groups * (ceilDivide(ceilDivide(elements, workerCount), vector(type)) + k(zeroing, 0));
}

int64_t CycleModel::reduceToScalar(ElementType type, int64_t partials, bool f16Result) const {
  int64_t width = k(reduceScalar, type == ElementType::f16 ? 4 : 3);
  return k(reduceScalar, 0) + k(reduceScalar, 1) * partials / width + partials % width +
         (f16Result ? k(reduceScalar, 2) : 0);
}

int64_t CycleModel::reduceStrided(ElementType type, ElementType result, int64_t outputs, int64_t partials,
                                  int64_t outerStrides) const {
  size_t store = type == ElementType::f32 ? 2 : result == ElementType::f16 ? 3 : 4;
  return k(reduceStrides, 0) +
         ceilDivide(outputs, vector(type)) *
             (k(reduceStrides, 1) + k(reduceStrides, store) + outerStrides * (k(reduceStrides, 5) + partials - 1));
}

int64_t CycleModel::reduceContiguous(ElementType type, int64_t outputs, int64_t partials) const {
  return k(reduceRuns, 0) + outputs * (k(reduceRuns, 1) + partials / vector(type)) + k(reduceRuns, 2) * (partials % 2);
}

int64_t CycleModel::scaledAdd(ElementType type, int64_t count, bool differentElements) const {
  int64_t vectors = count / (workerCount * vector(type));
  bool remainder = count % (workerCount * vector(type)) != 0;
  int64_t each = !differentElements            ? k(scaledStep, 0)
                 : vectors >= k(scaledStep, 4) ? k(scaledStep, 3)
                                               : k(scaledStep, 2);
  return k(scaledSupervisor, remainder ? 1 : 0) +
         workerCount *
             (k(scaled, 0) + k(scaled, 1) + each * std::max<int64_t>(vectors - 1, 0) + k(scaled, 2) + k(scaled, 3));
}

int64_t CycleModel::dynamicSlice(ElementType type, int64_t region, int64_t slices) const {
  bool bytes = byteWidth(type) == 1;
  return k(dynamicSlice1d, 0) +
         workerCount * (k(dynamicSlice1d, bytes ? 4 : 1) +
                        slices * (k(dynamicSlice1d, bytes ? 5 : 2) +
                                  k(dynamicSlice1d, 3) * (ceilDivide(region, workerCount) / vector(type))));
}

int64_t CycleModel::multiSlice(int64_t elements, int64_t indices, int64_t inRange, bool updating) const {
  return workerCount * (k(multiSlices, updating ? 1 : 0) +
                        inRange * (k(multiSlices, 2) + k(multiSlices, 3) * ceilDivide(elements, 2)) +
                        k(multiSlices, 4) * (indices - inRange));
}

int64_t CycleModel::multiSliceOfBytes(int64_t rowBytes, int64_t indices, int64_t inRange, bool updating) const {
  return multiSlice(ceilDivide(rowBytes, static_cast<int64_t>(byteWidth(ElementType::f32))), indices, inRange,
                    updating);
}

int64_t CycleModel::multiUpdateAdd(ElementType type, int64_t elements, int64_t indices, int64_t inRange) const {
  Key list = type == ElementType::f16 ? updateF16 : updateF32;
  int64_t steps = type == ElementType::f16 ? elements / 2 : elements;
  return workerCount * (k(list, 0) + inRange * (k(list, 1) + k(list, 2) * std::max<int64_t>(steps - 1, 0)) +
                        k(list, 3) * (indices - inRange));
}

namespace {
size_t conversion(ElementType from, ElementType to) {
  return (from == ElementType::f16 ? 2 : 0) + (to == ElementType::f16 ? 1 : 0);
}
} // namespace

int64_t CycleModel::reducePartials(ElementType type, ElementType result, int64_t outputs, int64_t depth,
                                   bool interleaved) const {
  int64_t width = k(reduceScalar, type == ElementType::f16 ? 4 : 3);
  return k(reduceSingle, 0) + workerCount * (k(reduceSingle, 1) + ceilDivide(outputs / width, workerCount) *
                                                                      (k(reduceSingle, interleaved ? 3 : 2) * depth +
                                                                       k(reduceSingle, 4 + conversion(type, result))));
}

int64_t CycleModel::sumOfParts(ElementType type, ElementType result, int64_t outputs, int64_t depth,
                               bool interleaved) const {
  int64_t strided = workerCount * reduceStrided(type, result, ceilDivide(outputs, workerCount), depth, 1);
  auto isKnown = [](ElementType each) { return each == ElementType::f32 || each == ElementType::f16; };
  int64_t width = k(reduceScalar, type == ElementType::f16 ? 4 : 3);
  if (!isKnown(type) || !isKnown(result) || outputs % width != 0)
    return strided;
  return std::min(strided, reducePartials(type, result, outputs, depth, interleaved));
}

int64_t CycleModel::reducePartialsSeparate(ElementType type, ElementType result, int64_t outputs, int64_t depth) const {
  int64_t width = k(reduceScalar, type == ElementType::f16 ? 4 : 3);
  return workerCount *
         (k(reduceSeparate, 0) + ceilDivide(ceilDivide(outputs, width), workerCount) *
                                     (k(reduceSeparate, 1) * depth + k(reduceSeparate, 2 + conversion(type, result))));
}

int64_t CycleModel::dropout(ElementType type, int64_t count) const {
  bool half = type == ElementType::f16;
  return k(dropouts, 0) + k(dropouts, 1) * (count / vector(type)) +
         (half && count % vector(type) != 0 ? k(dropouts, 2) : 0);
}

int64_t CycleModel::normal(ElementType type, int64_t count) const {
  Key list = type == ElementType::f16 ? normalF16 : normalF32;
  return k(list, 0) + k(list, 1) * count / vector(type);
}

int64_t CycleModel::pool(bool maximum, ElementType type, int64_t channels, int64_t rows, int64_t columns,
                         int64_t taps) const {
  int64_t vectors = ceilDivide(channels, vector(type)), most = 0;
  size_t step = maximum ? 0 : 2;
  for (const WorkerRows &share : shareField(rows, columns, workerCount)) {
    int64_t outputs = 0, passes = 0;
    for (int64_t m : share) {
      outputs += m;
      passes += taps * (k(pooling, 5) + k(pooling, 6) + k(pooling, 7) +
                        vectors * (k(pooling, 8) + k(poolStep, step) + k(poolStep, step + 1) * m));
    }
    most = std::max(most, k(pooling, maximum ? 1 : 2) + k(pooling, 4) + outputs * vectors + passes + k(pooling, 11));
  }
  return k(pooling, 0) + workerCount * most;
}

} // namespace quadrille::ipu
