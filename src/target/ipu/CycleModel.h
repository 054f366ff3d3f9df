// The cycles of codelets, by the formulas of poplibs' estimators; their coefficients are figures of the machine
// (machines/gc200.yaml, machines/schema/ipu.yaml). README.md, "Cycle formulas", says what they count.
//
// Results are tile cycles, those of worker vertices worker cycles: one in as many tile cycles as there are workers.
#pragma once

#include "machine/Machine.h"
#include "numerics/ElementType.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace quadrille::ipu {

// Columns of the pieces of rows that one worker gets of a field: contiguous runs of parts of rows, as many parts for
// each worker.
using WorkerRows = llvm::SmallVector<int64_t, 8>;
std::vector<WorkerRows> shareField(int64_t rows, int64_t columns, int64_t workers);

// Types of a convolution's inputs and partial sums: f16 with f16, f16 with f32, f32 with f32.
enum class AmpTypes : uint8_t { F16F16, F16F32, F32F32 };

// Blocks of a convolution vertex.
struct Blocks {
  int64_t groups = 1, in = 1, out = 1;
  int64_t passes = 1; // channels of an output block by those that the units make at once
};

class CycleModel {
public:
  // Of a machine of the architecture ipu.
  explicit CycleModel(const machine::Machine &machine);

  int64_t workers() const { return workerCount; }
  int64_t vector(ElementType type) const; // natural vector of the type: 1 for all but f32 and f16

  // Elementwise over `count` contiguous elements. `operation` as in the machine's keys cycles.unary.* and
  // cycles.binary.*; nothing when the machine has no figure for it in that type.
  std::optional<int64_t> unary(llvm::StringRef operation, ElementType type, int64_t count, bool inPlace) const;
  std::optional<int64_t> binary(llvm::StringRef operation, ElementType type, int64_t count, bool inPlace) const;
  std::optional<int64_t> scalarBroadcast(llvm::StringRef operation, ElementType type, int64_t count) const;
  // What one more operation of a fused expression takes in the loop, for each worker's share: the formulas' L.
  std::optional<int64_t> unaryLoop(llvm::StringRef operation, ElementType type, int64_t countOfWorker,
                                   bool inPlace = false) const;
  std::optional<int64_t> binaryLoop(llvm::StringRef operation, ElementType type, int64_t countOfWorker) const;
  // A vector of `length` elements added `repeats` times.
  int64_t biasAdd(ElementType type, int64_t length, int64_t repeats) const;
  std::optional<int64_t> nonlinearity(llvm::StringRef operation, ElementType type, int64_t count) const;
  // Its loop alone, within a fused expression.
  std::optional<int64_t> nonlinearityLoop(llvm::StringRef operation, ElementType type, int64_t countOfWorker) const;
  enum class Gradient : uint8_t { Relu, Sigmoid, Tanh, Gelu, Swish };
  int64_t nonlinearityGradient(Gradient operation, ElementType type, int64_t count) const;
  int64_t cast(ElementType from, ElementType to, int64_t count) const;
  int64_t castLoop(ElementType from, ElementType to, int64_t countOfWorker) const;

  // Worker vertices.
  int64_t fill(int64_t elementBytes, int64_t count) const;
  int64_t reduceToScalar(ElementType type, int64_t partials, bool f16Result) const;
  int64_t reduceStrided(ElementType type, ElementType result, int64_t outputs, int64_t partials,
                        int64_t outerStrides) const;
  int64_t reduceContiguous(ElementType type, int64_t outputs, int64_t partials) const;
  int64_t outerProduct(ElementType type, int64_t width, int64_t groups, int64_t channels) const;

  int64_t dotProduct(int64_t count) const; // worker cycles
  int64_t copy(int64_t bytes) const;       // local, of six workers
  int64_t zeroPartials(ElementType type, int64_t elements, int64_t groups) const;
  // A += k B.
  int64_t scaledAdd(ElementType type, int64_t count, bool differentElements) const;
  // `slices` slices out of a dimension, `region` elements each.
  int64_t dynamicSlice(ElementType type, int64_t region, int64_t slices) const;
  // `indices` of which the busiest worker has `inRange`, slices of `elements`.
  int64_t multiSlice(int64_t elements, int64_t indices, int64_t inRange, bool updating = false) const;
  // Of rows that are copied as if they were of f32, whatever their elements.
  int64_t multiSliceOfBytes(int64_t rowBytes, int64_t indices, int64_t inRange, bool updating) const;
  int64_t multiUpdateAdd(ElementType type, int64_t elements, int64_t indices, int64_t inRange) const;
  // `depth` partials for each of `outputs`.
  int64_t reducePartials(ElementType type, ElementType result, int64_t outputs, int64_t depth, bool interleaved) const;
  int64_t reducePartialsSeparate(ElementType type, ElementType result, int64_t outputs, int64_t depth) const;
  // The same of a tile, by the vertex for partials that are one contiguous array or by strided ones, one to a worker,
  // whichever is faster. The former makes whole vectors of floats only.
  int64_t sumOfParts(ElementType type, ElementType result, int64_t outputs, int64_t depth,
                     bool interleaved = false) const;
  int64_t dropout(ElementType type, int64_t count) const;
  int64_t normal(ElementType type, int64_t count) const;

  // Convolution vertices. `zeroes`: the first pass writes, else it adds as the others do.
  int64_t ampUnits(AmpTypes types) const;                            // output channels of a pass
  int64_t ampUnitWeights(AmpTypes types) const;                      // input channels of a pass
  int64_t ampFilterHeight(AmpTypes types, int64_t inChannels) const; // kernel rows of a pass; 0: none fit
  int64_t amp1x1(AmpTypes types, const Blocks &blocks, int64_t field, bool zeroes = true, bool wideLoads = false) const;
  int64_t ampNx1(AmpTypes types, const Blocks &blocks, int64_t batch, llvm::ArrayRef<int64_t> outField,
                 llvm::ArrayRef<int64_t> kernel, int64_t filterHeight, bool zeroes = true,
                 bool wideLoads = false) const;
  // Whether a vertex for kernels may load weights so, by the rows of the kernel that share a unit.
  static bool mayLoadWide(int64_t filterHeight) { return filterHeight < 4; }
  // `subKernels` windows for each of `blocks` blocks of `together` groups.
  int64_t slic(AmpTypes types, int64_t blocks, int64_t together, int64_t outRows, int64_t outColumns,
               int64_t subKernels, int64_t stride) const;

  // Dot products over `inChannels` channels for rows of outputs (`rows` x `columns` x `positions` of the kernel); no
  // zeroing. `one`: a kernel of one position.
  int64_t hmac(AmpTypes types, const Blocks &blocks, int64_t rows, int64_t columns, int64_t inChannels,
               int64_t outChannels, int64_t positions, bool one) const;
  // Depthwise, `together` channel groups at once: outputs of one channel, kernel rows and columns.
  int64_t vmac(AmpTypes types, const Blocks &blocks, int64_t together, int64_t outputs, int64_t kernelRows,
               int64_t kernelColumns) const;

  // Maxima, else sums, of `taps` inputs for rows of outputs.
  int64_t pool(bool maximum, ElementType type, int64_t channels, int64_t rows, int64_t columns, int64_t taps) const;

private:
  using List = std::vector<double>;
  int64_t loop(const List &entry, int64_t count, int64_t vector, int64_t overhead, bool unary) const;
  const List *entry(const std::string &key) const;
  int64_t weightLoad(AmpTypes types, bool widest) const;
  int64_t ampPass(AmpTypes types, int64_t field, bool zero) const;

  enum Key : uint8_t {
#define QUADRILLE_CYCLE_LIST(name, key) name,
#include "target/ipu/CycleLists.def"
#undef QUADRILLE_CYCLE_LIST
    keyCount
  };
  // Coefficient i of a list.
  int64_t k(Key key, size_t i) const { return static_cast<int64_t>(lists[key][i]); }

  int64_t workerCount, vectorF32, vectorF16;
  std::array<int64_t, 3> units, unitWeights;
  std::vector<int64_t> filterHeights;
  int64_t unitWeightBytes, loadPerCycle, loadPerCycleInterleaved, slicChainsF16, slicChainsF32;
  double copyBytesPerCycle;
  std::array<List, keyCount> lists;
  std::map<std::string, List, std::less<>> tables; // operations
};

} // namespace quadrille::ipu
