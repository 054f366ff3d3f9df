// The cycles of convolution vertices.
#include "target/ipu/CycleModel.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace quadrille::ipu {

namespace {

constexpr int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t product(llvm::ArrayRef<int64_t> numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), int64_t(1), std::multiplies<>());
}

} // namespace

int64_t CycleModel::ampUnits(AmpTypes types) const {
  return units[static_cast<size_t>(types)];
}

int64_t CycleModel::ampUnitWeights(AmpTypes types) const {
  return unitWeights[static_cast<size_t>(types)];
}

int64_t CycleModel::ampFilterHeight(AmpTypes types, int64_t inChannels) const {
  int64_t weights = ampUnitWeights(types);
  if (inChannels <= 0 || weights % inChannels != 0)
    return 0;
  int64_t height = weights / inChannels;
  return llvm::is_contained(filterHeights, height) ? height : 0;
}

int64_t CycleModel::weightLoad(AmpTypes types, bool widest) const {
  return ampUnits(types) * unitWeightBytes / (widest ? loadPerCycleInterleaved : loadPerCycle);
}

// All workers' passes over the field, shared evenly.
int64_t CycleModel::ampPass(AmpTypes types, int64_t field, bool zero) const {
  auto worker = [&](int64_t n) {
    if (types != AmpTypes::F32F32) {
      Key list = zero ? ampF16Zero : ampF16Add;
      return (n < 3 ? k(list, static_cast<size_t>(n)) : k(list, 3) + k(list, 4) * (n - 3)) - k(ampRetention, 0);
    }
    if (!zero)
      return n < 3 ? k(ampF32Add, static_cast<size_t>(n)) : k(ampF32Add, 3) + k(ampF32Add, 4) * (n - 3);
    int64_t z = k(ampF32Z, 0);
    switch (n) {
    case 0:
      return k(ampF32Zero, 0);
    case 1:
      return k(ampF32Zero, 1) + k(ampF32Zero, 2) * z;
    case 2:
      return k(ampF32Zero, 3) + k(ampF32Zero, 4) * z;
    default:
      return k(ampF32Zero, 5) + k(ampF32Zero, 6) * z * n + k(ampF32Zero, 7) * (n - 3);
    }
  };
  int64_t most = worker(ceilDivide(field, workerCount)), least = worker(field / workerCount);
  return std::max(workerCount * std::max(most, least), workerCount * std::min(most, least) + k(ampPasses, 0));
}

int64_t CycleModel::amp1x1(AmpTypes types, const Blocks &blocks, int64_t field, bool zeroes, bool wideLoads) const {
  int64_t load = weightLoad(types, wideLoads);
  int64_t adding = ampPass(types, field, false), first = ampPass(types, field, zeroes);
  int64_t head =
      types == AmpTypes::F32F32 ? k(ampF32, 0) : k(ampF16, 0) + k(ampF16, 1) * (blocks.in * blocks.groups - 1);
  int64_t group = types == AmpTypes::F32F32 ? k(ampF32, 1) : k(ampF16, 2);
  int64_t others = k(ampF16, 3) + blocks.out * (k(ampF16, 4) + blocks.passes * (k(ampF16, 5) + load + adding));
  int64_t last = k(ampF16, 6) + blocks.out * (k(ampF16, 7) + blocks.passes * (k(ampF16, 8) + load + first));
  return head + blocks.groups * (group + (blocks.in - 1) * others + last);
}

int64_t CycleModel::ampNx1(AmpTypes types, const Blocks &blocks, int64_t batch, llvm::ArrayRef<int64_t> outField,
                           llvm::ArrayRef<int64_t> kernel, int64_t filterHeight, bool zeroes, bool wideLoads) const {
  bool half = types == AmpTypes::F16F16;
  // Rows of the innermost dimension, of all batches.
  int64_t columns = outField.empty() ? 1 : outField.back();
  int64_t rows = batch * product(outField) / columns;
  auto ofRow = [&](int64_t n) {
    if (types == AmpTypes::F32F32)
      return n < 3 ? k(nx1F32, static_cast<size_t>(n)) : k(nx1F32, 3) + k(nx1F32, 4) * (n - 3);
    return n < 2    ? k(nx1F16, static_cast<size_t>(n))
           : n == 2 ? k(nx1F16, 2) + k(nx1F16, 5)
                    : k(nx1F16, 3) + k(nx1F16, 4) * (n - 3);
  };
  int64_t most = 0, least = std::numeric_limits<int64_t>::max();
  for (const WorkerRows &share : shareField(rows, columns, workerCount)) {
    int64_t cycles = k(nx1Worker, 0) + (half ? k(nx1Worker, 1) : 0);
    for (int64_t n : share)
      cycles += k(nx1Worker, 2) + ofRow(n) - k(nx1Worker, 3);
    most = std::max(most, cycles);
    least = std::min(least, cycles);
  }
  int64_t kernelRows = kernel.empty() ? 1 : kernel.front();
  int64_t kernelColumns = product(kernel) / kernelRows;
  int64_t turns = ceilDivide(kernelRows, filterHeight);
  size_t height = filterHeight == 1 ? 3 : filterHeight == 2 ? 4 : 5;
  int64_t load = weightLoad(types, wideLoads);
  int64_t inner =
      turns * (k(nx1Inner, 0) +
               kernelColumns * (k(nx1Inner, 1) + blocks.passes * (load + k(nx1Inner, height) + k(nx1Inner, 2)))) +
      turns * kernelColumns * blocks.passes * std::max(workerCount * most, workerCount * least + k(nx1Inner, 6));
  int64_t zeroing = 0;
  if (zeroes)
    zeroing = blocks.out * zeroPartials(half ? ElementType::f16 : ElementType::f32,
                                        blocks.passes * ampUnits(types) * rows * columns, blocks.groups);
  return k(nx1, 0) + k(nx1, 1) + workerCount * k(nx1, half ? 3 : 2) +
         blocks.groups * (k(nx1, 4) * blocks.out + k(nx1, 5) * (blocks.out - 1) + k(nx1, 6)) +
         k(nx1, 7) * (blocks.groups - 1) + k(nx1, 8) +
         blocks.groups * (k(nx1, 9) + blocks.in * (k(nx1, 10) + blocks.out * (k(nx1, 11) + inner))) + zeroing;
}

int64_t CycleModel::slic(AmpTypes types, int64_t blocks, int64_t together, int64_t outRows, int64_t outColumns,
                         int64_t subKernels, int64_t stride) const {
  bool half = types == AmpTypes::F16F16;
  int64_t passes = (half ? slicChainsF16 : slicChainsF32) == 4 ? 1 : 2;
  auto ofRow = [&](int64_t m, bool zero) {
    if (stride == 2)
      return m >= k(slicRow, 7) ? k(slicRow, 5) + k(slicRow, 6) * (m - k(slicRow, 7))
                                : k(slicRow, 8) + k(slicRow, m == 1 ? 9 : 10);
    if (m >= k(slicRow, 1))
      return k(slicRow, 0) + m - k(slicRow, 1);
    return m == 1 ? k(slicRow, 2) : k(slicRow, zero ? 3 : 4) + m;
  };
  auto ofAll = [&](bool zero) {
    int64_t most = 0;
    for (const WorkerRows &share : shareField(outRows, outColumns, workerCount)) {
      int64_t cycles = k(slicWorker, 0);
      for (int64_t m : share)
        cycles += k(slicWorker, 1) + (zero ? k(slicWorker, 2) : 0) + (half ? 0 : k(slicWorker, 3)) +
                  passes * (ofRow(m, zero) - (half ? 0 : k(slicWorker, 4)));
      most = std::max(most, cycles);
    }
    return workerCount * most;
  };
  auto branch = [&](int64_t n) { return k(slicSupervisor, 8) * (n - 1) + k(slicSupervisor, 9); };
  // Weights of several groups are put in order by the workers.
  int64_t load = k(slicSupervisor, 5) +
                 (together == 1 ? k(slicSupervisor, 3)
                                : k(slicSupervisor, 4) + workerCount * k(slicSupervisor, together == 2 ? 6 : 7));
  return k(slicSupervisor, 0) + k(slicSupervisor, 1) * blocks + branch(blocks) +
         (k(slicSupervisor, 2) + load) * subKernels + branch(subKernels) +
         blocks * (ofAll(true) + (subKernels - 1) * ofAll(false));
}

int64_t CycleModel::hmac(AmpTypes types, const Blocks &blocks, int64_t rows, int64_t columns, int64_t inChannels,
                         int64_t outChannels, int64_t positions, bool one) const {
  bool halfIn = types != AmpTypes::F32F32, halfPartials = types == AmpTypes::F16F16;
  bool special = one && types == AmpTypes::F16F32;
  int64_t together = halfPartials ? 2 : 1, width = halfIn ? vectorF16 : vectorF32;
  while (inChannels % width != 0)
    width /= 2;
  bool whole = width == (halfIn ? vectorF16 : vectorF32);
  int64_t dot = k(hmacDot, 0) * together + (together == 2 ? k(hmacDot, 1) : 0) + k(hmacDot, 2) +
                (whole ? 0 : together) + inChannels / width * (whole ? 1 : 2) - (halfIn ? 1 : 0);
  int64_t saved = special ? k(hmacWorker, 6) : halfIn ? k(hmacWorker, 7) : 0;
  int64_t results = ceilDivide(outChannels, together), most = 0;
  for (const WorkerRows &share : shareField(rows, columns, workerCount)) {
    int64_t cycles = k(hmacWorker, 0) - saved;
    for (int64_t m : share)
      cycles += k(hmacWorker, special ? 3 : 1) + (special && outChannels == 1
                                                      ? k(hmacWorker, 4) + m * (k(hmacWorker, 5) + dot)
                                                      : m * (k(hmacWorker, 2) + results * dot));
    most = std::max(most, cycles * positions + k(hmacWorker, 8));
  }
  return k(hmacSupervisor, halfIn ? 1 : 0) - (special ? k(hmacSupervisor, 2) : 0) +
         workerCount * (k(hmacSupervisor, halfPartials ? 4 : 3) + saved) +
         blocks.groups *
             (k(hmacSupervisor, 5) +
              blocks.in * (k(hmacSupervisor, 6) + blocks.out * (k(hmacSupervisor, 7) + workerCount * most)));
}

int64_t CycleModel::vmac(AmpTypes types, const Blocks &blocks, int64_t together, int64_t outputs, int64_t kernelRows,
                         int64_t kernelColumns) const {
  constexpr int64_t eight = 8;
  bool wide = together >= eight && types == AmpTypes::F16F16;
  int64_t f = types == AmpTypes::F16F16 ? 0 : 1, most = 0;
  // A row of the field is one output's row of the kernel.
  for (const WorkerRows &share : shareField(outputs, kernelColumns, workerCount)) {
    int64_t sum = 0;
    for (int64_t n : share)
      sum += k(vmacRow, 0) + k(vmacRow, wide ? 1 : 2) * (n - 1) +
             (wide ? k(vmacWorker, 4) : k(vmacWorker, 7) + k(vmacWorker, f ? 9 : 8));
    sum *= kernelRows;
    most =
        std::max(most, wide ? k(vmacWorker, together == eight ? 0 : 1) + k(vmacWorker, together == eight ? 2 : 3) * sum
                            : k(vmacWorker, f ? 6 : 5) + sum);
  }
  int64_t all = outputs * together;
  int64_t reduce =
      k(vmacSupervisor, 7) - f +
      (k(vmacSupervisor, 8) + k(vmacSupervisor, 9) * f + (k(vmacSupervisor, 10) + f) * k(vmacSupervisor, 11)) *
          ceilDivide(all, workerCount) / together;
  return k(vmacSupervisor, 0) + k(vmacSupervisor, 1) * f +
         blocks.groups * (k(vmacSupervisor, 2) + ceilDivide(all, k(vmacSupervisor, f ? 4 : 3)) + k(vmacSupervisor, 5) +
                          blocks.in * (k(vmacSupervisor, 6) + workerCount * most) + reduce);
}

int64_t CycleModel::outerProduct(ElementType type, int64_t width, int64_t groups, int64_t channels) const {
  Key list = type == ElementType::f16 ? outerF16 : outerF32;
  bool fast = channels >= k(list, 3) && channels % k(list, 4) == 0;
  double each = fast ? static_cast<double>(k(list, 2) + (channels - k(list, 3)) / k(list, 4))
                     : lists[list][5] + lists[list][6] * static_cast<double>(channels);
  return k(list, 0) + groups * (k(list, 1) + static_cast<int64_t>(static_cast<double>(width) * each));
}

} // namespace quadrille::ipu
