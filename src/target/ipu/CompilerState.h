// What the parts of the compiler share: values and where they are, buffers, and the program under construction, whose
// addresses are those of buffers until all is known.
#pragma once

#include "target/ipu/Code.h"
#include "target/ipu/Compiler.h"
#include "target/ipu/Layout.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"

#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <set>

namespace quadrille::ipu {

// Memory at one address on each of some tiles, while some of the steps run.
struct Buffer {
  int64_t bytes = 0;
  uint32_t firstTile = 0, lastTile = 0;
  int64_t from = -1, to = -1; // steps
  bool always = false;        // holds a constant
  bool interleaved = false;   // is read faster from interleaved memory
  size_t kernel = 0;          // for which it was made
  std::string name;           // of the value or node it is for, for reports
  int64_t address = -1;
};
using BufferId = uint32_t;

// An address as vertices hold it until buffers have theirs: which buffer, and bytes from its start.
constexpr int64_t addressIn(BufferId buffer, int64_t offset) {
  return (static_cast<int64_t>(buffer) << 32) | offset;
}
constexpr BufferId bufferOf(int64_t address) {
  return static_cast<BufferId>(address >> 32);
}
constexpr int64_t offsetOf(int64_t address) {
  return address & 0xffffffff;
}

// Where a value is.
struct Home {
  Layout layout;
  BufferId buffer = 0;
};

// A constant's boxes on the tiles that read it.
struct Resident {
  BufferId buffer = 0;
  Arrangement arrangement;
  std::map<uint32_t, Box> boxes; // by tile
};

// A transfer between buffers.
struct Sending {
  uint32_t source;
  TileRange destinations;
  BufferId from, to;
  int64_t fromOffset, toOffset; // bytes
  uint32_t rows, bytes;
  int32_t fromStride, toStride;
  bool joins;
};

// What a vertex on a tile finds of an operand: a buffer, where the box in it begins, and how it lies.
struct Held {
  BufferId buffer = 0;
  const Arrangement *arrangement = nullptr;
  Box box; // that the arrangement holds; what is needed is part of it
};

class CompilerState;

// Vertices that run at the same time, under construction: those that are alike are written once for their tiles.
// How elements are filled: `count` of `bytes` bytes with the bits `value`.
struct FillForm {
  int64_t bytes, value, count;
};

class VertexSet {
public:
  explicit VertexSet(CompilerState &state) : state(state) {}
  void add(Codelet codelet, uint32_t tile, std::vector<std::vector<int64_t>> values);
  void fill(uint32_t tile, BufferId buffer, int64_t offset, int64_t bytes, uint64_t value, int64_t count);
  void copy(uint32_t tile, int64_t width, BufferId from, int64_t fromOffset, BufferId to, int64_t toOffset,
            const Walk &walk);
  bool empty() const { return vertices.empty(); }
  // Ends the set: the step that executes it comes next.
  void execute(const std::string &name);
  ComputeSet take(const std::string &name); // ends the set

private:
  CompilerState &state;
  std::map<std::pair<uint16_t, std::vector<std::vector<int64_t>>>, std::vector<uint32_t>> vertices;
};

// One kernel as the compiler sees it: loops shared by the tiles, reads and writes that are affine in them.
struct Task {
  std::vector<graph::Loop> loops;
  std::vector<graph::Read> reads;
  std::vector<graph::Write> writes;
  BlockExpression body;
  ElementType accumulate = ElementType::f32;
  // Of a reduction loop that is shared: part p, which the loop `parts` counts, has the points p * block ... of it.
  struct Chunk {
    unsigned loop, parts;
    int64_t block;
  };
  std::optional<Chunk> chunk;
};

// How the loops of a task are shared: blocks of each, and the tiles between neighbouring blocks.
struct Sharing {
  llvm::SmallVector<Split, 6> loops;
  uint32_t firstTile = 0;
  int64_t tiles() const;
  uint32_t lastTile() const;
};
// The part of each loop that a tile has.
using LoopBox = Box;

// How much of a tile's memory a contraction may take: of what the machine's figure allows, and bytes of its weights,
// which are few where few tiles have the same.
struct Frugality {
  double proportion = 1;
  int64_t weightBytes = std::numeric_limits<int64_t>::max();
  // What copies of tables may take of the former: the fewer, the more tiles each row is looked for on and sent from.
  double tables = 1.0 / 8;
  // Work is moved away from parts of its operands, and fills are shared by workers, which takes code and vertices'
  // state.
  bool movesAway = true;
  // Blocks as small as can be are faster, but their rows are short, which takes code.
  bool sharesEvenly() const { return weightBytes == std::numeric_limits<int64_t>::max(); }
};

// What one kernel needs of the IPU that it runs on, on the tile that needs most.
struct KernelNeeds {
  int64_t constantBytes = 0, codeBytes = 0;
  int64_t valueBytes = 0; // that are live at the same time while it runs, of its own and of others
  int64_t cycles = 0;
};
// A program with what its kernels need.
struct Compiled {
  program::Program program;
  std::vector<KernelNeeds> needs; // by kernel, if they were measured
  // Bytes of a tile that data takes, of that constants, and code; the name of the largest array.
  int64_t dataBytes = 0, constantBytes = 0, codeBytes = 0, largestBytes = 0;
  std::string largest;
  struct TileNeeds {
    int64_t constantBytes = 0, dataBytes = 0, codeBytes = 0; // constants are data too, and counted if measured
  };
  std::vector<TileNeeds> ipus; // the most that a tile of each takes
  // By how much the fullest tile has too little room, and too little for code; 0: it has enough.
  struct Missing {
    int64_t bytes = 0, codeBytes = 0;
  };
  Missing missing(const Architecture &machine) const;
  bool fits(const Architecture &machine) const {
    Missing most = missing(machine);
    return most.bytes == 0 && most.codeBytes == 0;
  }
};

class CompilerState {
public:
  // `ipuOf`: by kernel, ascending.
  CompilerState(const graph::KernelGraph &graph, const Architecture &machine, const CycleModel &cycles,
                const Precision &precision, program::Program program, llvm::ArrayRef<uint16_t> ipuOf,
                const Frugality &frugality);
  // The program may not fit. What each kernel needs is measured then, or if `measures`.
  Compiled run(bool measures);

private:
  size_t compile(size_t kernel); // it, or the loop that it begins; the number of the next one

  // CompileTask.cpp: structured kernels that are no matrix products.
  void task(Task task);
  // Has its expression compute integers in f32 where they are exact and that takes less time.
  void useFloatIntegers(Task &task) const;
  void mapTask(const Task &task, const Sharing &sharing);
  void reduceTask(const Task &task, const Sharing &sharing);
  std::optional<std::pair<Task, Task>> splitReduction(const Task &task);
  struct Prepared;
  Prepared prepare(const Task &task, const Sharing &sharing);
  // Stores what the results start from, where that is not neutral; by write, whether it is stored.
  std::vector<bool> startReduction(const Task &task, const Prepared &prepared);

  // CompileSharing.cpp
  Sharing share(const Task &task);
  Sharing balanced(const Task &task, llvm::ArrayRef<unsigned> loops, int64_t tiles) const;
  // On as many tiles as have equal blocks of as few points as can be.
  std::optional<Sharing> evenly(const Task &task, llvm::ArrayRef<unsigned> loops) const;
  std::optional<Sharing> sharedAs(const Task &task, const graph::Read &read) const;
  double costOf(const Task &task, const Sharing &sharing) const;
  // Elements of a box that lie beside each other in the value's home.
  int64_t runOf(const Home &home, const Box &wanted) const;
  // What a tile reads of values that have a home.
  struct Reading {
    uint32_t tile;
    llvm::SmallVector<std::pair<graph::ValueId, Box>, 2> boxes;
  };
  // By how many tiles to move work so that no tile has a part of what it reads, or 0 and what it takes to copy the
  // parts beside what is sent: where they are few, or where there is no room. `readsInPlace`: what is there as a whole
  // need not be copied.
  struct Shift {
    uint32_t tiles = 0;
    int64_t copyCycles = 0;
  };
  Shift shiftAwayFromParts(llvm::ArrayRef<Reading> readings, bool readsInPlace) const;
  llvm::SmallVector<int64_t, 6> grainsOf(const Task &task) const; // by loop
  Order orderOf(const Task &task, const graph::Write &write) const;
  Layout layoutOf(const Task &task, const graph::Write &write, const Sharing &sharing) const;
  void forEachTileOf(const Task &task, const Sharing &sharing,
                     llvm::function_ref<void(uint32_t tile, const LoopBox &box)> body) const;
  static Box boxOf(const graph::AccessMap &map, const LoopBox &loops);

  // CompileStage.cpp: bringing operands.
  struct Wanted {
    uint32_t tile;
    Box box;
  };
  using Operand = std::vector<Held>; // by number of the wanted boxes
  // Brings boxes of a value to tiles where they are not there, as they lie in the value's home, or without groups if
  // `plain`. What lies outside of the value is `padding`. All that is brought comes with the next flush.
  Operand bring(graph::ValueId value, llvm::ArrayRef<Wanted> wanted, std::optional<graph::Scalar> padding, bool plain);
  Operand bringConstant(graph::ValueId value, llvm::ArrayRef<Wanted> wanted);
  // Brings boxes into a buffer, which hold the padding (zero) where they leave the value.
  void bringInto(graph::ValueId value, llvm::ArrayRef<Wanted> wanted, BufferId buffer, const Arrangement &to,
                 std::optional<graph::Scalar> padding);
  // Fills the places of a wanted box beyond `inside`, or all where that is no longer.
  void fillAround(const Wanted &wanted, const Box &inside, BufferId buffer, const Arrangement &to, ElementType type,
                  uint64_t bits);
  // The form that takes the fewest cycles; `offset` is of bytes in a buffer.
  FillForm fillOf(int64_t bytes, uint64_t value, int64_t offset, int64_t count) const;
  // A constant's boxes as they are to lie; zero where they leave it.
  BufferId placeConstant(graph::ValueId value, llvm::ArrayRef<Wanted> wanted, const Arrangement &arrangement);
  void addSending(uint32_t source, llvm::ArrayRef<TileRange> destinations, BufferId from, BufferId to, int64_t width,
                  const Walk &walk);
  void flush();
  // A home for a value that has none yet: an input, or a constant that is moved.
  const Home &homeOf(graph::ValueId value);
  Layout layoutFor(ElementType type, Shape shape) const; // in rows from the first tile on, not split yet
  void place(graph::ValueId value, Layout layout);
  void startsThere(graph::ValueId value); // an input or a constant that is placed: it is there from the beginning

  // CompileMoves.cpp
  void reshape(const graph::Kernel &kernel);
  void reshapeInto(graph::ValueId from, graph::ValueId to); // shapes with common digits
  bool viewAs(graph::ValueId from, graph::ValueId to);
  void concat(const graph::Kernel &kernel);
  void insertSlice(const graph::Kernel &kernel);
  // Copies a value into the result's home, where its element i of dimension d is element offset + i * step.
  void copyInto(graph::ValueId from, graph::ValueId to, llvm::ArrayRef<int64_t> offsets, llvm::ArrayRef<int64_t> steps,
                VertexSet &set);
  void placeLike(graph::ValueId value, graph::ValueId like, std::optional<size_t> joined);

  // CompileGather.cpp
  struct GatherPlan;
  std::optional<GatherPlan> planGather(const graph::Kernel &kernel, int64_t rowParts, int64_t columnBlock,
                                       int64_t indexParts) const;
  GatherPlan planGather(const graph::Kernel &kernel) const;
  void pickRows(const graph::Kernel &kernel);

  // CompileProduct.cpp
  struct Product;
  struct ProductPlan;
  Product productOf(const graph::Kernel &kernel);
  // The same on the vertex for few channels, if it takes them.
  std::optional<Product> slimProductOf(const Product &product) const;
  // Nothing where a tile would have to sum more products than it may.
  std::optional<ProductPlan> planProduct(const Product &product) const;
  std::optional<ProductPlan> planProduct(const Product &product, ProductPlan plan) const;
  void product(const graph::Kernel &kernel);
  void multiply(const Product &product, const ProductPlan &plan);
  // Has kernels read a value as floats of another type, where all of them can.
  bool readAs(graph::ValueId value, ElementType type);
  // Gives a value that has no home one in blocks of a product's loops, whose elements lie as the vertices want them.
  void placeForProduct(const graph::Read &read, llvm::ArrayRef<Split> loops, const Arrangement &wanted);
  // An operand as a vertex wants it. `brings`: a constant too is sent, else it stays on all tiles that read it.
  BufferId operandOf(graph::ValueId value, llvm::ArrayRef<Wanted> wanted, const Arrangement &arrangement,
                     uint32_t lastTile, bool brings = false);

  // CompileLoop.cpp: kernels that stand between a Repeat and its End.
  struct OpenLoop;
  struct Mark; // what has been compiled so far
  Mark mark() const;
  void goBackTo(Mark mark);
  size_t loop(size_t begin); // the number of the kernel behind it
  // `layouts`: of the states, first as they are to lie, then as a turn leaves them.
  void turns(size_t begin, size_t end, std::map<graph::ValueId, Layout> &layouts);
  size_t enterState(size_t kernel, const std::map<graph::ValueId, Layout> &layouts);
  void copyValue(graph::ValueId from, graph::ValueId to);
  // On the tiles on which a slice lies, which says which one it is.
  BufferId counterOf(OpenLoop &loop, bool reversed, const Layout &where);
  void bringSequence(size_t kernel, OpenLoop &loop);
  void takeSlice(size_t kernel, OpenLoop &loop);
  void stackSlice(size_t kernel, OpenLoop &loop);
  void leaveStates(OpenLoop &loop);
  // Has what becomes of a state computed in the state's memory, if that can be.
  void takePlaceOf(graph::ValueId next, const Home &state, const OpenLoop &loop);
  // Whether all that reads the one buffer writes to the same places of the other.
  bool readsWhereItWrites(const ComputeSet &set, BufferId read, BufferId written) const;
  void count(OpenLoop &loop);
  bool hasSets(size_t begin, size_t end) const; // some of these steps execute one, outside of inner loops
  // Of the steps begin .. end - 1 the compute set that takes vertices with the least delay; there is one.
  size_t cheapestSet(size_t begin, size_t end, const ComputeSet &added) const;

  // Finish.cpp
  Compiled finish(bool measures);
  void addPlacement(Placement &placement, const Layout &layout, int64_t address) const;
  void addConstants();

  // Brings what kernels of the IPU that comes next read of earlier ones.
  void enter(size_t kernel);
  uint32_t firstTile() const { return static_cast<uint32_t>(ipu * machine.tiles); } // of the current IPU
  std::vector<int64_t> codeOfIpus() const; // bytes of the tile of each that has most
  // Adds the addresses of buffers to what lies in them. `ends`: the buffers of each transfer.
  void setAddresses(llvm::ArrayRef<std::vector<std::pair<BufferId, BufferId>>> ends);
  std::vector<Compiled::TileNeeds> needsOfIpus(llvm::ArrayRef<int64_t> codeBytes) const;
  void moveData(llvm::ArrayRef<Compiled::TileNeeds> ipus); // from 0 to above the code of its IPU
  void chooseLoads();                                      // by where data lies
  void measure(Compiled &compiled) const;
  void measureValues(llvm::MutableArrayRef<KernelNeeds> needs) const;

  // The program under construction.
  BufferId buffer(int64_t bytes, uint32_t firstTile, uint32_t lastTile, std::string name);
  graph::ValueId temporary(ElementType type, Shape shape, std::string name);
  uint32_t expression(const BlockExpression &body);
  void use(BufferId buffer); // by the step that comes next
  friend class VertexSet;
  void execute(ComputeSet set);
  void exchange(std::vector<Sending> sendings);
  void addStep(StepKind kind, uint32_t index);
  void setCurrent(size_t kernel);
  std::string nameOf(graph::ValueId value) const;
  int64_t quantumOf(graph::ValueId value) const { // elements of a word
    return machine.exchangeGranularity / std::min(widthOf(value), machine.exchangeGranularity);
  }
  bool isConstant(graph::ValueId value) const { return graph.values[value].role == graph::ValueRole::Constant; }
  int64_t widthOf(graph::ValueId value) const { return static_cast<int64_t>(byteWidth(graph.values[value].type)); }

  graph::KernelGraph graph; // temporaries are added to its values
  std::vector<uint16_t> ipuOf;
  int64_t ipu = 0;
  std::map<graph::ValueId, int64_t> largestSums; // of those that are held in f32 (holdSumsInF32)
  Frugality frugality;
  const Architecture &machine;
  const CycleModel &cycles;
  Precision precision;
  program::Program program;
  Code code;

  std::vector<std::optional<Home>> homes;                    // by value
  std::map<graph::ValueId, Home> firstHomes;                 // of inputs that have been brought to another IPU since
  std::map<graph::ValueId, std::vector<Resident>> residents; // constants
  std::vector<Buffer> buffers;
  std::vector<std::vector<Sending>> sendings; // by exchange
  std::vector<Step> steps;
  size_t current = 0;           // kernel
  std::vector<size_t> kernelOf; // by step
  std::map<std::string, uint32_t> expressions;
  std::deque<Arrangement> arrangements; // that operands refer to
  uint32_t node = noNode;

  // Of the next flush: what is filled before the exchange, what is copied after it, and what is put in order then.
  VertexSet fills, copies, rearrangements;
  std::vector<Sending> pending;
};

// Calls body(address) for each address of a vertex, which may be changed if the vertex may.
template <typename AnyVertex, typename Body> void forEachAddress(AnyVertex &vertex, Body &&body) {
  for (auto [parameter, values] : llvm::zip_equal(formOf(vertex.codelet)->parameters, vertex.values))
    if (parameter.kind == ParameterKind::Address || parameter.kind == ParameterKind::Addresses)
      for (auto &address : values)
        body(address);
}
// Calls body(buffer) for each address of the vertices of a set.
template <typename Body> void forEachBuffer(const ComputeSet &set, Body &&body) {
  for (const Vertex &vertex : set.vertices)
    forEachAddress(vertex, [&](int64_t address) { body(bufferOf(address)); });
}

// Tiles in ascending order as ranges.
std::vector<TileRange> rangesOf(llvm::ArrayRef<uint32_t> tiles);

} // namespace quadrille::ipu
