// What the parts of the compiler share: regions of values, the timetable, and what each kind of kernel becomes.
#pragma once

#include "graph/Contraction.h"
#include "graph/KernelQueries.h"
#include "graph/Repetition.h"
#include "target/tsp/Chain.h"
#include "target/tsp/Compiler.h"
#include "target/tsp/Expand.h"
#include "target/tsp/Partition.h"
#include "target/tsp/Placement.h"
#include "target/tsp/SwitchUnit.h"
#include "target/tsp/TapPlan.h"
#include "target/tsp/Timetable.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <functional>

namespace quadrille::tsp {

// An operand of an elementwise expression: where it lies, and which of its rows goes with each row of the result. Or a
// result: which of its rows are written.
struct Operand {
  RegionPointer region;      // null: it is on its stream without being read
  std::vector<int64_t> rows; // -1: the one of `padding`, which lies in the same hemisphere
  RegionPointer padding = nullptr;
  uint64_t paddingBits = 0; // what it holds
};

// Rows of a region that are accessed one cycle after the other by one instruction.
struct RowRun {
  const Region *region;
  int64_t offset; // cycles after the first row of all
  int64_t row, step, count;
};

// Instructions that are scheduled together, and the memory that they touch.
struct Group {
  std::vector<Step> steps;
  struct Touch {
    size_t step;
    Region *region;
    int64_t row, rowStep;
  };
  std::vector<Touch> touches;
  int64_t from = 0; // the earliest start for which values are there and memory is free
};

// What multiplies by itself: a plane, or for f16 the pair of planes that begins with it.
struct MatrixUnit {
  unsigned hemisphere = 0;
  int64_t plane = 0;
  bool operator==(const MatrixUnit &) const = default;
};

// From where an element of a value comes that is put together from others.
struct ElementOrigin {
  int64_t source = -1; // -1: padding
  int64_t index = 0;   // of the source's elements, row-major
};
using OriginOf = llvm::function_ref<ElementOrigin(int64_t element)>;

// Weights in memory as a plane loads them: a word in each of 16 slices is a block of 16 rows.
struct WeightBlocks {
  RegionPointer region;
  int64_t first = 0; // word of the first block
  int64_t rows = 0;  // of the tile
};

// Bytes that stream from memory through an installed tile of bytes, and their sums' low bytes back to memory.
struct ProductRun {
  Region *from = nullptr;
  int64_t fromPiece = 0, fromByte = 0, fromRow = 0, fromStep = 1;
  Region *to = nullptr; // of Pass and Finish
  int64_t toPiece = 0, toByte = 0, toRow = 0;
  int64_t sum = 0, count = 1;
  uint8_t mode = 0; // AccumulateMode
};

// When vectors are at a switch unit: in cycle `cycle`, counted as dispatches are.
struct SwitchTiming {
  unsigned hemisphere = 0;
  int64_t cycle = 0;
};

// A matrix whose rows are spread over slices of all hemispheres, one of whose bytes each has: of as many rows as a
// superlane has lanes a byte plane can be read in one cycle, and of a quarter of them all bytes.
struct SpreadRows {
  ElementType type = ElementType::f32;
  int64_t rows = 0;
  std::vector<RegionPointer> halves; // by hemisphere, or one anywhere; a piece for each slice

  // Which of `halves`, and its piece; the word is row / lanes, a byte plane of all rows after the other.
  std::pair<unsigned, int64_t> slice(int64_t row, int64_t byte, const Architecture &machine) const;
};

// A matrix whose lanes come from rows of another: lane l of row r is column `column[r]` of row `base[r] + l * step`.
struct TransposedRead {
  std::vector<int64_t> base, column;
  int64_t step = 1, columns = 1; // columns: of the result
};
// Nothing when it is another matrix.
std::optional<TransposedRead> transposedRead(const Region &from, int64_t rows, int64_t columns, OriginOf originOf);

// A vector of one of several matrices.
struct SourceVector {
  int64_t source = -1, row = 0, piece = 0;
  auto operator<=>(const SourceVector &) const = default;
};

// A vector whose lanes are brought into another order: lane l comes from lane `(*order)[l]`.
struct PermutedVector {
  int64_t source, row, piece; // source: its number
  int64_t word;               // of the result, counted piece by piece
  int64_t orderNumber;        // of vectors with the same order the same
  const std::vector<int64_t> *order;
};

// Where a superlane of a vector comes from: of that vector the one `apart` further, or from nowhere.
struct SuperlaneOrigin {
  SourceVector vector;
  int64_t apart = 0;
};

// Further forms of a value, of its elements in row-major order.
struct LaneForms {
  RegionPointer packed;   // element lanes * g + j is in lane j of each superlane of row g
  RegionPointer rowwise;  // each element has a row, in all of whose lanes it is
  int64_t superlanes = 0; // of the packed form: so many have the elements
};

// What a combiner does to two elements; nothing when that is not compiled.
std::optional<BlockOpcode> operationOf(graph::Combiner combiner);

// A product whose operands lie as a plan wants them, and what becomes of its sums.
struct TapProduct {
  const std::vector<Operand> &operandsFor(MatrixUnit unit) const {
    auto own = llvm::find_if(again, [&](const auto &each) { return each.first == unit; });
    return own == again.end() ? operands : own->second;
  }

  const TapPlan *plan = nullptr;
  RegionPointer lhs;
  uint64_t padding = 0; // what a vector of padding holds
  ProductType lhsType = ProductType::F16, rhsType = ProductType::F16;
  // Of `width` columns from `firstColumn` on, for a plane.
  std::function<llvm::Expected<std::vector<WeightBlocks>>(const TapPlan::Batch &batch, const TapPlan::Pass &pass,
                                                          int64_t firstColumn, int64_t width, MatrixUnit unit)>
      tilesOf;
  bool tilesAreThere = false;    // they are constants: no product has to make them
  BlockExpression body;          // of the sums, which are its first input
  std::vector<Operand> operands; // of the body; the first is no region
  // The same for planes that read them at the same time as the first one does.
  std::vector<std::pair<MatrixUnit, std::vector<Operand>>> again;
  // What each unit reads of the first operand, and of padding where there is any.
  std::vector<std::pair<MatrixUnit, Operand>> reads;
  bool isOutput = false;               // the result, of the program
  int64_t copies = 0;                  // of the result
  std::optional<graph::ValueId> value; // that the result is
};

// A link from one chip to another: its number on each.
struct Cable {
  int64_t near = 0, far = 0; // the chip that sends, and the one that receives
};

// Words of neighbouring rows that a link carries one after the other.
struct TransferRun {
  RegionPointer from, to;
  int64_t piece = 0, byte = 0, row = 0, count = 1;
  bool first = false; // needed by the first kernel there that needs anything
};

// That many chips of the machine, so that each has a link to the next one. Unsupported: the machine file does not say
// how its nodes are linked.
llvm::Expected<std::vector<int64_t>> linkedChips(int64_t count, const Architecture &machine);

// What one chip does of a model: its part of the kernels, with a memory and a timetable of its own.
class CompilerState {
public:
  // `program` and `code`, which the chips share, get the chip's variables and layouts.
  CompilerState(const MachineGraph &from, const Architecture &machine, program::Program &program, Code &code,
                ChipPart part, int64_t chip)
      : graph(from.graph), machine(machine), program(program), code(code), part(std::move(part)), chip(chip),
        uses(graph), timetable(machine), placement(machine), regions(graph.values.size()), forms(graph.values.size()),
        readers(graph.values.size()), packings(from.packings), outputs(from.outputs), ends(from.ends),
        copiesOf(graph.values.size()), isOutput(graph.values.size()) {}

  // Compiler.cpp. In this order.
  llvm::Error begin();
  llvm::Error receive(CompilerState &sender); // CompileLinks.cpp: what arrives from the chip before
  // In its place, to see whether a part fits: what arrives is there from the start, in regions of these shapes.
  llvm::Error assumeArrived(llvm::ArrayRef<std::optional<Region>> shapes);
  llvm::Error run();
  llvm::Expected<ChipCode> finish();

  // What the kernels that were compiled take of the chip.
  const Costs &costs() const { return measured; }
  // To be told before `run` where costs alone are asked for: from the third period on kernels are not compiled, and
  // cost what those of the one before do.
  void measureOnce(const graph::Repetition &repetition) { repeated = repetition; }
  // Of an error of the above, when there is no room: the kernel for which there is none, or, when the text is too long,
  // the share of it for which there is room.
  struct Misfit {
    size_t kernel = 0;
    std::optional<double> share;
  };
  const std::optional<Misfit> &misfit() const { return noRoom; }

private:
  llvm::Error kernel(const graph::Kernel &kernel);
  llvm::Error repeatCost(size_t number);
  void release(const graph::Kernel &kernel); // the memory of values that no later kernel reads
  llvm::Error input(uint32_t variable, graph::ValueId id);
  llvm::Error output(const OutputPart &of, graph::ValueId id);
  llvm::Expected<RegionPointer> allocate(Region region, llvm::ArrayRef<const Region *> avoid,
                                         std::optional<unsigned> hemisphere = std::nullopt, bool anywhere = false,
                                         bool initial = false, Placement::Pool pool = Placement::Pool::Values);
  // The same for what may lie in any number of segments: where no slice has a long run of words left, in shorter ones
  // of more slices.
  llvm::Expected<RegionPointer> allocateInSegments(Region region, llvm::ArrayRef<const Region *> avoid,
                                                   std::optional<unsigned> hemisphere = std::nullopt);
  // `order`: of the variable's dimensions, when the region has another than the variable; `packing`: of the region.
  // `ranges`: of the variable that the region has, if it has not all.
  void addLayout(uint32_t variable, const Region &region, const graph::Permutation &order, const Packing &packing,
                 llvm::ArrayRef<DimensionRange> ranges = {});
  // Keeps the kernel's cost; the words that are live are counted here.
  void measure(size_t kernel, KernelCost cost);
  uint32_t nodeOf(size_t kernel) const;
  uint32_t addWeight(const std::string &name, Shape shape, ElementType type, Tensor data);
  // A region with these contents; `data` may be invalid: absent weights.
  llvm::Expected<RegionPointer> constantRegion(const std::string &name, ElementType type, int64_t rows, int64_t columns,
                                               Tensor data, llvm::ArrayRef<const Region *> avoid,
                                               std::optional<unsigned> hemisphere = std::nullopt);
  // One more region with a row that constantRegion gave, for those who read it at the same time; null: it is no such
  // row, or there is no room.
  RegionPointer weightCopy(const RegionPointer &of, llvm::ArrayRef<const Region *> avoid,
                           std::optional<unsigned> hemisphere = std::nullopt);
  // A constant of the graph in another order: which of its elements, or -1 for `padding`, each place has.
  llvm::Expected<RegionPointer> laidOut(const graph::Value &value, int64_t rows, int64_t columns, uint64_t padding,
                                        llvm::function_ref<int64_t(int64_t row, int64_t column)> elementOf);
  llvm::Expected<RegionPointer> splatRegion(ElementType type, uint64_t bits, llvm::ArrayRef<const Region *> avoid,
                                            std::optional<unsigned> hemisphere);
  // Where a value lies; a constant is put into memory when it is first asked for.
  llvm::Expected<RegionPointer> regionOf(graph::ValueId id);

  // CompileLinks.cpp
  // From `from` on at the earliest, as if the first send were dispatched then; returns when the first is received.
  int64_t transfer(CompilerState &sender, const Cable &cable, const TransferRun &run, int64_t from);
  Step linkStep(Opcode opcode, int64_t link, Source stream, int64_t cycle, int64_t count) const;

  // CompileMap.cpp
  llvm::Error map(const graph::Kernel &kernel);
  llvm::Error reduce(const graph::Kernel &kernel);
  // A read at a point of the reduction loops, as operand of a kernel whose result has `shape`. Without a region when
  // its elements would have to move between lanes and may not.
  llvm::Expected<Operand> operandOf(const graph::Kernel &kernel, const graph::Read &read, llvm::ArrayRef<int64_t> point,
                                    const Shape &shape, bool mayMove = true);
  // The same for all loops at once, of a kernel without reductions or of what a product starts from, with a row for
  // each row of the result as its packing has them.
  llvm::Expected<Operand> packedOperandOf(const graph::Kernel &kernel, const graph::Read &read);
  llvm::Expected<BlockExpression> withLoopNumbers(const graph::Kernel &kernel, llvm::ArrayRef<int64_t> point,
                                                  const Shape &shape, std::vector<Operand> &operands);

  // CompileStream.cpp
  // The expression for every row; makes the regions of its results, with `copies` more of each. `segments`: they may
  // lie in segments as their operands do, through which chains then go at the same time. `value`: what the result is,
  // which then lies apart from what is read together with it.
  llvm::Expected<std::vector<RegionPointer>> stream(const BlockExpression &body, const std::vector<Operand> &operands,
                                                    int64_t rows, int64_t columns, int64_t copies = 0,
                                                    bool segments = false,
                                                    std::optional<graph::ValueId> value = std::nullopt);
  // The same for an expression that is one chain; `apart`: what the results do not share slices with, if there is room;
  // `joined`: its results, of one type, are parts of one region, segments of their own; nothing, without room for them.
  llvm::Expected<std::vector<RegionPointer>> streamStage(BlockExpression body, std::vector<Operand> kept, int64_t rows,
                                                         int64_t columns, int64_t copies, bool segments,
                                                         llvm::ArrayRef<const Region *> apart,
                                                         RegionPointer *joined = nullptr);
  llvm::Expected<RegionPointer> copyOf(const RegionPointer &from, llvm::ArrayRef<const Region *> avoid,
                                       std::optional<unsigned> hemisphere);
  // Adds a chain for rows [row, row + count) of the results, which begins `shift` cycles after the group.
  void addChain(Group &group, const Chain &chain, llvm::ArrayRef<RegionPointer> constants,
                llvm::ArrayRef<Operand> operands, llvm::ArrayRef<Operand> results, int64_t piece, int64_t row,
                int64_t count, int64_t shift) const;
  // How many rows from `row` on a group can take without too many instructions for its queues.
  int64_t rowsTogether(llvm::ArrayRef<Operand> operands, int64_t row, int64_t count) const;
  // Operands of which each is read once: those with the same rows become one, and so do the body's reads of them.
  static std::vector<Operand> mergeReads(BlockExpression &body, llvm::ArrayRef<Operand> operands);
  // Operands that are read in the same cycles get slices of their own, by copies where they need them, apart from those
  // that are read together with them already; and what they need of padding. All are added to `together`.
  llvm::Error separate(llvm::MutableArrayRef<Operand> operands, std::vector<const Region *> &together);
  // For each input of a chain the constant that it reads, in slices of a hemisphere that are not to be avoided; null
  // for reads of operands.
  llvm::Expected<std::vector<RegionPointer>> constantsOf(const Chain &chain, std::vector<const Region *> avoid,
                                                         unsigned hemisphere);
  static Operand wholeOf(const RegionPointer &region) {
    Operand operand{region, std::vector<int64_t>(region->rows), nullptr};
    for (int64_t row = 0; row < region->rows; ++row)
      operand.rows[row] = row;
    return operand;
  }
  std::vector<RowRun> runsOf(const Operand &operand, int64_t row, int64_t count) const;

  // CompileReduce.cpp
  // A reduction over rows, of a kernel whose result has `shape`; of what it starts from only what its writes say.
  llvm::Expected<std::vector<RegionPointer>> reduceRows(const graph::Kernel &kernel, const Shape &shape);
  // Element after element of the reduced loops, each for all rows of the result.
  llvm::Expected<std::vector<RegionPointer>> reduceByPoint(const graph::Kernel &kernel, const Shape &shape);
  // Row after row of the result, the elements of each one after the other. None: operands would have to move between
  // lanes, there are no units for it where they lie, or it needs more instructions than can be fetched.
  llvm::Expected<std::vector<RegionPointer>> reduceByRow(const graph::Kernel &kernel, const Shape &shape);
  // Combines `terms` values of the expression for each of `rows` rows; the operands have rows for each of the terms.
  // Null: it cannot be had so (reduceByRow).
  llvm::Expected<RegionPointer> accumulate(BlockExpression body, std::vector<Operand> operands, BlockOpcode operation,
                                           int64_t rows, int64_t terms, int64_t columns);
  // Inputs combined in pairs, and pairs of pairs.
  static BlockExpression treeOf(BlockOpcode operation, ElementType type, size_t count);

  // CompileSwitch.cpp
  void addRead(Group &group, const Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
               Source stream, SwitchTiming at, int64_t count) const;
  void addWrite(Group &group, Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step, Source stream,
                SwitchTiming at, int64_t count) const;
  // Each superlane of a vector that is at a switch unit then from the row whose number it has in that vector of
  // numbers.
  void addGather(Group &group, Region &region, int64_t piece, int64_t byte, Source numbers, Source stream,
                 SwitchTiming at, int64_t count) const;
  void addNumbers(Group &group, const Region &region, int64_t row, int64_t step, Source stream, SwitchTiming at,
                  int64_t count) const;
  // `bytes` outward streams from `first` on go back inward on streams of the same numbers, at the group's start.
  // `zero`: a vector of zeros.
  void addTurn(Group &group, const Region &zero, unsigned hemisphere, int64_t first, int64_t bytes, int64_t unit,
               int64_t count) const;
  static Instruction switchInstruction(Opcode opcode, std::initializer_list<std::pair<Member, int64_t>> values);
  // The variant that can start first, at its earliest.
  void placeFirst(llvm::ArrayRef<Group> variants);
  // `count` vectors, at most `most` at once and fewer where a slice would be read and written in one cycle.
  void placeInParts(int64_t count, int64_t most,
                    llvm::function_ref<Group(int64_t variant, int64_t first, int64_t count)> make, int64_t variants);
  QueueName switchQueue(unsigned hemisphere, SwitchPart part, int64_t number) const;
  llvm::Expected<SpreadRows> allocateSpread(ElementType type, int64_t rows, llvm::ArrayRef<const Region *> avoid,
                                            llvm::ArrayRef<const Region *> avoidIfPossible);
  // Of `rows` rows, the next one `rowStep` further, to where memory is taken for them unless it is given.
  llvm::Expected<SpreadRows> spreadRows(const RegionPointer &from, int64_t piece, int64_t firstRow, int64_t rowStep,
                                        int64_t rows, SpreadRows to = {});
  // Row `lanes * g + i` of the result has in lane j of each superlane what row `lanes * g + j` had in lane i.
  llvm::Expected<SpreadRows> transposeLanes(const SpreadRows &from, llvm::ArrayRef<const Region *> avoid);
  // CompileLanes.cpp
  // Of `lanes` rows each, which become one, from `firstRow` on of `rows`: in as many parts as a value has streams,
  // still to be combined, for which the first call finds memory.
  llvm::Error combineLanes(const SpreadRows &from, BlockOpcode operation, int64_t firstRow, int64_t rows,
                           std::vector<RegionPointer> &results);
  // Among the first `among` superlanes, each from the one `superlanes` further.
  llvm::Expected<RegionPointer> rotateSuperlanes(const RegionPointer &from, int64_t superlanes, int64_t among,
                                                 llvm::ArrayRef<const Region *> avoid);
  // Factors of a number of superlanes: a pass of rotations for each.
  static std::vector<int64_t> rotationRadices(int64_t superlanes);
  // How many superlanes are combined for so many columns.
  int64_t superlanesFor(int64_t columns) const;
  // Each of the first superlanes gets what these together have.
  llvm::Expected<RegionPointer> combineSuperlanes(RegionPointer from, BlockOpcode operation, int64_t superlanes);
  llvm::Expected<RegionPointer> widenPacked(RegionPointer packed, int64_t superlanes);
  // Of rows of one piece, of which `termsOf` gives `count` from `first` on, for each of several results: all lanes of
  // the first superlanes, those beyond the columns too. The packed form of the results.
  using TermsOf = llvm::function_ref<llvm::Expected<std::vector<Operand>>(int64_t first, int64_t count)>;
  llvm::Expected<std::vector<RegionPointer>> reduceLanes(llvm::ArrayRef<BlockOpcode> operations,
                                                         llvm::ArrayRef<ElementType> types, int64_t rows,
                                                         int64_t superlanes, TermsOf termsOf);
  llvm::Error maskTerms(const graph::Kernel &kernel, BlockExpression &body, std::vector<Operand> &operands,
                        int64_t rows, int64_t columns, int64_t lanes);
  // Memory of a region as another one, which keeps it.
  static RegionPointer partOf(const RegionPointer &whole, Region part);
  static RegionPointer pieceOf(const RegionPointer &whole, int64_t piece);
  static RegionPointer firstColumnOf(const RegionPointer &whole);
  static RegionPointer segmentsOf(const RegionPointer &whole, int64_t first, int64_t count);
  // What the expression gives for each of several pieces, combined: vectors whose lanes are to be combined.
  llvm::Expected<std::vector<RegionPointer>> combinePieces(const graph::Kernel &kernel, BlockExpression body,
                                                           std::vector<Operand> operands, int64_t rows,
                                                           int64_t columns);
  std::optional<unsigned> laneLoopOf(const graph::Kernel &kernel) const;
  // Nothing: a product has done it, and the value has its forms.
  llvm::Expected<std::vector<LaneForms>> reduceLastLanes(const graph::Kernel &kernel, unsigned loop);
  llvm::Error reduceToForms(const graph::Kernel &kernel, unsigned loop);

  // CompileSums.cpp
  // A body whose result is a term of a sum, as one that cuts it into two of f16.
  static BlockExpression halvesOf(BlockExpression body, int64_t shift, bool marked);
  llvm::Expected<RegionPointer> cutTerms(BlockExpression body, const std::vector<Operand> &operands, int64_t shift,
                                         int64_t rows, int64_t columns, bool &marked);
  llvm::Expected<std::vector<WeightBlocks>> equalTile(double weight, int64_t height, unsigned hemisphere);
  graph::ValueId followSum(const graph::Kernel &kernel, TapProduct &product,
                           std::vector<const graph::Kernel *> &followers);
  llvm::Expected<const graph::Kernel *> followInRows(graph::ValueId value, TapProduct &product, int64_t rows);
  // A sum over the lanes of one piece, whose terms are known to be small enough: it, or what its readers make of it,
  // gets a row for each element. False: it cannot be had so.
  llvm::Expected<bool> sumByProduct(const graph::Kernel &kernel, BlockExpression body,
                                    const std::vector<Operand> &operands, int64_t rows, int64_t columns);

  // CompileForms.cpp
  // Elements of the packed form in rows of their own, in other slices than `apart`, if there is room.
  llvm::Expected<RegionPointer> unpackRows(const RegionPointer &packed, int64_t rows, int64_t superlanes,
                                           llvm::ArrayRef<const Region *> apart);
  llvm::Error widen(LaneForms &known); // the packed form, to all superlanes
  // What is gathered from a piece, of one segment, to a piece.
  struct GatheredRows {
    Region *from;
    int64_t fromPiece;
    Region *to;
    int64_t toPiece;
  };
  // Each superlane of the rows from `toRow` on from the row that `numbers` says, a row for each; from several pieces
  // of the same hemisphere and type at the same time. `zero`: a vector of zeros.
  void gatherRows(llvm::ArrayRef<GatheredRows> gathered, Region &numbers, Region &zero, int64_t toRow);
  // Whether a value's elements are to be had in all lanes without moving the value's matrix, or cheaper than that; for
  // a result with so many columns.
  bool hasRowwise(graph::ValueId id, int64_t columns) const;
  // The words of a matrix from `firstWord` on, counted piece by piece, that `map` has a row for: the row's number in
  // `from`, of one segment, little-endian in the first lanes of each superlane.
  llvm::Error gatherSuperlanes(const RegionPointer &from, Tensor map, const RegionPointer &to, int64_t firstWord);
  llvm::Expected<RegionPointer> rowwiseOf(graph::ValueId id, int64_t columns); // in so many lanes
  llvm::Expected<RegionPointer> packedOf(graph::ValueId id);                   // null: it is not in that form
  llvm::Expected<RegionPointer> matrixOfForms(graph::ValueId id);
  // An elementwise kernel of values in packed form; false: it is not one.
  llvm::Expected<bool> mapPacked(const graph::Kernel &kernel);

  // CompileTranspose.cpp
  // Row k, for the permuters of a hemisphere: each superlane from the one k further.
  llvm::Expected<RegionPointer> superlaneRotations(unsigned hemisphere);
  // Row c, for a gather of the hemisphere opposite to `hemisphere`: which row of a square each superlane of the
  // result's row c takes, before it is rotated back.
  llvm::Expected<RegionPointer> squareNumbers(int64_t columns, int64_t squares, unsigned hemisphere);
  // `columns`: which of the rows' elements go to which row of the result's piece.
  llvm::Error transposeBlock(const RegionPointer &from, int64_t fromPiece, int64_t firstRow, int64_t rowStep,
                             int64_t rows, const RegionPointer &to, int64_t toPiece,
                             llvm::ArrayRef<std::pair<int64_t, int64_t>> columns);
  llvm::Expected<RegionPointer> transposed(const RegionPointer &from, const TransposedRead &read);

  // CompileVectors.cpp
  // A constant of where each lane comes from, as the permuters of a hemisphere take it.
  llvm::Expected<RegionPointer> laneOrder(const std::vector<int64_t> &from, unsigned hemisphere,
                                          llvm::ArrayRef<const Region *> avoid);
  // Neighbours in the list that have the same order are moved together.
  llvm::Error permuteVectors(llvm::ArrayRef<RegionPointer> sources, const RegionPointer &to,
                             llvm::ArrayRef<PermutedVector> vectors);
  // A matrix that the switch unit can put together: moved vectors, or a transposition. Null: neither.
  llvm::Expected<RegionPointer> moveThroughSwitch(llvm::ArrayRef<RegionPointer> sources, const Region &shape,
                                                  uint64_t padding, OriginOf originOf);
  // A matrix each of whose vectors comes from one vector of the sources, or each superlane from one superlane; null: it
  // is another matrix. `shape` is not spread.
  llvm::Expected<RegionPointer> moveVectors(llvm::ArrayRef<RegionPointer> sources, const Region &shape,
                                            uint64_t padding, OriginOf originOf);
  // A matrix whose words have superlanes from these places.
  llvm::Error gatherRotated(llvm::ArrayRef<RegionPointer> sources, const RegionPointer &to,
                            llvm::ArrayRef<SuperlaneOrigin> superlanes);
  // Tiles as routeWeights makes them, of whole rows that are spread; none: it is another tile.
  llvm::Expected<std::vector<WeightBlocks>>
  spreadWeights(const RegionPointer &from, int64_t height, int64_t columns,
                llvm::function_ref<ElementOrigin(int64_t row, int64_t lane)> originOf);
  // Puts padding where elements come from nowhere.
  llvm::Expected<RegionPointer> padLanes(const RegionPointer &values, uint64_t padding, OriginOf originOf);

  // CompileRoute.cpp
  // A matrix put together from elements of others, by products with tiles of zeros and ones: `originOf` says from where
  // each of its elements comes.
  llvm::Expected<RegionPointer> route(llvm::ArrayRef<RegionPointer> sources, Region shape, uint64_t padding,
                                      OriginOf originOf);
  // `sourceByte`: which byte of the sources' elements goes to the first of the result's.
  llvm::Expected<RegionPointer> routeBytes(llvm::ArrayRef<RegionPointer> sources, Region shape, uint64_t padding,
                                           int64_t sourceByte, bool anywhere, OriginOf originOf);
  llvm::Error move(const graph::Kernel &kernel);
  // CompileGather.cpp
  llvm::Error moveKnown(const graph::Kernel &kernel);

  // CompileRows.cpp
  // Of a matrix of one piece: each of its elements, in row-major order, in every lane of a row.
  llvm::Expected<RegionPointer> spreadElements(const RegionPointer &matrix);
  llvm::Expected<RegionPointer> wordNumbers(const RegionPointer &indices, int64_t extent, std::optional<int64_t> base,
                                            int64_t rows);
  static Register wrappedIndex(BlockExpression &body, Register index, int64_t extent);
  // Rows of a table that lie in one bank of each slice, and what is picked from them.
  struct TablePart {
    int64_t base; // first row
    RegionPointer table, numbers, picked;
  };
  llvm::Expected<std::vector<TablePart>> tableParts(graph::ValueId table, const Region &indices);
  size_t gatheredTogether(ElementType type) const; // tables of the same hemisphere
  llvm::Error gatherParts(llvm::MutableArrayRef<TablePart> parts, const RegionPointer &indices, int64_t extent);
  llvm::Expected<RegionPointer> choosePart(llvm::ArrayRef<TablePart> parts, const RegionPointer &indices,
                                           int64_t extent, int64_t columns);
  llvm::Error pickRows(const graph::Kernel &kernel);

  // CompileProduct.cpp
  llvm::Error contract(const graph::Kernel &kernel);
  // `hemisphere`: where it is wanted, if there is room.
  llvm::Expected<WeightBlocks> weightsOf(const std::string &name, Tensor rows, int64_t height,
                                         std::optional<unsigned> hemisphere = std::nullopt);
  // A tile of values that are computed: from where each element of its rows comes; zeros where they come from nowhere.
  // Lanes beyond its columns hold anything.
  llvm::Expected<std::vector<WeightBlocks>>
  routeWeights(const RegionPointer &from, int64_t height, int64_t columns,
               llvm::function_ref<ElementOrigin(int64_t row, int64_t lane)> originOf);
  // Tiles of a constant, a plane for each byte of the type `factor` that is multiplied: for each of `height` rows and
  // `width` columns which element, or -1 for zero.
  llvm::Expected<std::vector<WeightBlocks>> constantTiles(graph::ValueId id, ElementType factor,
                                                          llvm::ArrayRef<int64_t> elements, int64_t height,
                                                          int64_t width, unsigned hemisphere);
  // Adds to a product's body what its sums start from; returns the sum.
  llvm::Expected<Register> addStart(const graph::Kernel &kernel, TapProduct &product, Register value);
  // Adds an elementwise kernel that reads the product's result, which is `value` in the body.
  llvm::Error follow(const graph::Kernel &follower, graph::ValueId result, TapProduct &product, Register value);
  // From the sums of all batches, rows and columns to the kernel's result: its order, what it starts from, its type.
  llvm::Error finishProduct(const graph::Kernel &kernel, llvm::ArrayRef<unsigned> batch,
                            llvm::ArrayRef<unsigned> rowLoops, llvm::ArrayRef<unsigned> columnLoops, RegionPointer sums,
                            const graph::Value &value);
  // Which of a plane's queues dispatches what; installs any that is free.
  static constexpr uint8_t loadPort = 0, sumPort = 1, activationPort = 2;
  // Installs a tile; `tiles` of it are loaded, one plane of bytes after the other. `lane`: of the first row.
  void install(MatrixUnit unit, llvm::ArrayRef<WeightBlocks> tiles, ProductType type, int64_t lane = 0);
  // The two parts of it: plane `number` of the unit loads its tile; all of them begin to use theirs.
  void load(MatrixUnit unit, llvm::ArrayRef<WeightBlocks> tiles, size_t number);
  void use(MatrixUnit unit, llvm::ArrayRef<WeightBlocks> tiles, ProductType type, int64_t lane);
  void multiply(MatrixUnit unit, const ProductRun &run);

  // CompileTaps.cpp
  // Streams rows of the first operand through the plan's tiles on all planes at once, and sums through the body; gives
  // the region of the result.
  llvm::Expected<RegionPointer> streamTaps(TapProduct &product);
  // The same operands for planes that read them at the same time as others do, in slices of their own: copies that
  // there are, or of what is small; else where they are.
  std::vector<Operand> readAgain(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<Operand> separated,
                                 std::vector<const Region *> &together);
  // Chooses what each unit reads of a product's first operand.
  llvm::Error readApart(TapProduct &product, llvm::ArrayRef<MatrixUnit> units, const Region &result);
  // Gives a region copies, so that as many more can read it at the same time; without room fewer.
  void addCopies(const RegionPointer &region, llvm::ArrayRef<const Region *> avoid, int64_t count);
  // What becomes of the sums of one plane: chains that do the same with different units and streams, or none when the
  // sums are stored as they are.
  struct Epilogue {
    struct Variant {
      Chain chain;
      std::vector<RegionPointer> constants;
      int64_t shift; // start of the chain after that of the activations, for sums that are finished; `pass` is earlier
    };
    std::vector<Variant> variants;
  };
  static int64_t alusOf(const BlockExpression &body); // that an expression takes
  static constexpr int32_t absent = -2;               // of a pass: a row that takes no part
  // What chains of other planes have taken that run at the same time, and where their constants lie.
  struct Beside {
    ChainLimits limits;
    std::vector<const Region *> constants;
  };
  // `others`: by variant.
  llvm::Expected<std::optional<Epilogue>> epilogueOf(const TapProduct &product, MatrixUnit unit,
                                                     const RegionPointer &result, llvm::ArrayRef<Beside> others);
  // For all units; `sets` of them leave each other's arithmetic units, streams and constants alone, if they can. None:
  // there are no such chains.
  llvm::Expected<std::vector<Epilogue>> epiloguesApart(const TapProduct &product, llvm::ArrayRef<MatrixUnit> units,
                                                       const RegionPointer &result, int64_t sets);
  // Whether the body's other operands are constant rows, and several chains would find arithmetic units.
  bool canShareConstants(const TapProduct &product, llvm::ArrayRef<MatrixUnit> units) const;
  // Chains for all units, as many beside each other as there are arithmetic units for, that read the same constants on
  // the same streams. Operands that are a constant row move to where these come from, if there is room. None: the body
  // has other operands, or there are no such chains.
  llvm::Expected<std::vector<Epilogue>> epiloguesBeside(TapProduct &product, llvm::ArrayRef<MatrixUnit> units,
                                                        const RegionPointer &result);
  // Rows of the result that a unit works through, tile after tile.
  struct Block {
    const TapPlan::Batch *batch = nullptr;
    int64_t piece = 0, first = 0, count = 0;
    std::vector<const TapPlan::Pass *> order;
    std::vector<std::vector<WeightBlocks>> tiles; // of the passes
    bool fillFirst = false;                       // the first pass takes rows of padding too
    std::vector<bool> started;                    // by row: its sum
    size_t done = 0;                              // passes
  };
  llvm::Error prepare(const TapProduct &product, MatrixUnit unit, const RegionPointer &result, Block &block);
  // What each unit has to do, one block after the other; passes of all units side by side.
  llvm::Error streamBlocks(const TapProduct &product, llvm::ArrayRef<MatrixUnit> units,
                           llvm::ArrayRef<Epilogue> epilogues, const RegionPointer &result,
                           std::vector<std::vector<Block>> &blocks);
  // The next pass of a block. `prefetch` is called when one half of the streams is free for weights: 0, the lower,
  // or 1.
  llvm::Error streamPass(const TapProduct &product, MatrixUnit unit, const Epilogue &epilogue,
                         const RegionPointer &result, Block &block, llvm::function_ref<void(int64_t half)> prefetch);
  // What those who read a value read at the same time, as far as it is there already.
  std::vector<const Region *> companionsOf(graph::ValueId value) const;
  // The elementwise kernel that can work on a product's sums, all of whose other operands are there.
  const graph::Kernel *followerOf(const graph::Kernel &kernel) const;

  // An access of a region's memory by a stream that passes coordinate `target` as if dispatched there in `cycle`.
  void read(Group &group, const Region &region, int64_t piece, int64_t byte, const RowRun &run, Source stream,
            int64_t target, int64_t cycle) const;
  void write(Group &group, Region &region, int64_t piece, int64_t byte, const RowRun &run, Source stream,
             int64_t origin, int64_t cycle) const;
  // Writes of vectors that come one after the other on the streams from `first` on, to a result and its copies.
  void store(Group &group, const Operand &result, int64_t piece, int64_t row, int64_t count, Source first,
             int64_t origin, int64_t cycle) const;
  void place(const Group &group, int64_t start);
  // One such access by itself, of rows of one segment.
  Step access(Opcode opcode, const Region &region, int64_t piece, int64_t byte, int64_t row, int64_t step,
              Source stream, int64_t cycle, int64_t count) const;
  int64_t coordinate(const Region &region, int64_t piece, int64_t byte, int64_t row, Direction direction) const {
    SliceName slice = region.slice(piece, byte, row);
    return machine.sliceCoordinate(slice.hemisphere, slice.slice, direction);
  }
  static Instruction instructionOf(Opcode opcode, uint8_t small0 = 0, uint8_t small1 = 0, int64_t word0 = 0,
                                   int64_t word1 = 0);
  static Source streamOf(Direction direction, int64_t index) {
    return {direction == Direction::East ? Source::East : Source::West, static_cast<uint8_t>(index)};
  }
  static Direction inwardOf(const Region &region) {
    return region.hemisphere == east ? Direction::West : Direction::East;
  }
  static Direction outwardOf(const Region &region) {
    return region.hemisphere == east ? Direction::East : Direction::West;
  }

  const graph::KernelGraph &graph;
  const Architecture &machine;
  program::Program &program;
  Code &code;
  ChipPart part;
  int64_t chip;
  graph::Uses uses;
  size_t firstLayout = 0; // of `code`: the chip's own
  Timetable timetable;
  Placement placement;
  uint32_t node = 0; // behind what is being made
  Costs measured;
  std::optional<graph::Repetition> repeated;
  int64_t residentWords = 0; // words of weights so far
  size_t current = 0;        // kernel
  std::optional<Misfit> noRoom;
  std::optional<ElementType> products; // in what the program multiplies matrices
  std::vector<RegionPointer> regions;  // by value
  std::vector<LaneForms> forms;        // by value
  std::map<graph::ValueId, uint32_t> inputNumbers;
  std::vector<RegionPointer> resident; // weights
  std::vector<uint32_t> assumedThere;  // numbers of regions that no instruction writes
  std::vector<int64_t> readers;        // by value: still to come
  std::vector<std::pair<std::pair<ElementType, uint64_t>, RegionPointer>> splats;
  std::map<std::vector<int64_t>, WeightBlocks> laneMaps;                                      // tiles that move lanes
  std::map<std::pair<std::vector<int64_t>, unsigned>, std::vector<RegionPointer>> laneOrders; // and by hemisphere
  std::map<unsigned, RegionPointer> rotations;
  std::map<std::tuple<int64_t, int64_t, unsigned>, RegionPointer> numbersOfSquares;
  std::map<int64_t, RegionPointer> ownLanes; // by columns: row j has true in lane j
  std::map<int64_t, WeightBlocks> onesTiles; // by rows
  // Tiles of one f16, by its bits, rows and hemisphere.
  std::map<std::tuple<uint64_t, int64_t, unsigned>, std::vector<WeightBlocks>> equalTiles;
  RegionPointer laneChoices; // row j: lane j for every lane of a superlane
  // Tiles of constants: by value, width and a digest of which elements they have; one for each byte plane.
  std::map<std::tuple<graph::ValueId, int64_t, uint64_t, uint64_t, unsigned>, std::vector<WeightBlocks>> weightTiles;
  int64_t wordsForSeconds = 0; // of tiles that lie in a hemisphere although the other one has them too
  std::map<std::string, std::optional<Stages>> stagesOf; // by expression
  std::map<std::tuple<std::string, std::vector<Direction>, Direction, Direction, unsigned>, std::optional<Chain>>
      chainOf;
  std::map<std::tuple<std::string, std::vector<Direction>, Direction, Direction>, std::vector<Chain>> chainsBeside;
  int64_t matrixTurn = 0;

  std::vector<Packing> packings;           // by value
  std::vector<OutputPart> outputs;         // of the graph
  std::vector<graph::Permutation> ends;    // orders of the dimensions of inputs, then of outputs
  std::vector<const graph::Kernel *> done; // kernels whose work others have done
  std::vector<int64_t> copiesOf;           // by value: how many more are of use to those who read it
  std::vector<bool> isOutput;              // by value: of the graph

  // What is known of a plane between two products.
  struct PlaneState {
    int64_t loadable = 0;       // cycle from which the load buffers may be filled: after the last install
    int64_t loaded = 0;         // dispatch of the last load
    int64_t installed = 0;      // dispatch of the last install
    int64_t lastActivation = 0; // dispatch
  };
  std::map<std::pair<unsigned, int64_t>, PlaneState> planes; // by hemisphere and plane
};

} // namespace quadrille::tsp
