// The graph's normal form: kernels over values, as plain data without MLIR. Targets plan from this; it is extracted
// from the MLIR module by graph/ExtractKernels.h.
//
// A structured kernel is a perfect loop nest over `loops`. For every point of the nest each read r yields the element
//     values[r.value][ r.map(point) ]        or r.padding where an index lies outside the value's shape,
// the body turns the elements read into one element for each write w, which is combined into
//     values[w.value][ w.map(point) ]        by w.combiner over all points that share that element.
// Unstructured kernels (reshape, concat, gather, scan, composites, ...) are named by `operation` and described by
// attributes; their reads and writes have empty maps.
//
//   C[m,n] = sum_k A[m,k] * B[k,n]
//     loops  m:4 n:8 k:16(reduction)
//     reads  A(m,k) B(k,n)   write C(m,n) sum from 0   body multiply(read0, read1)          kind contract
//   Y = max_{i,j} X[n,c,2h+i-1,2w+j-1], -inf outside                                         kind window
//   Y[j,i] = X[i,j]   (transpose: identity body)                                            kind move
//
// Unstructured kernels: operation, kind, reads -> writes, attributes (i64; lists where plural; flags are 0 or 1). What
// each computes is said in graph/dialect/QdOps.td.
//   reshape           move   data -> result
//   concat            move   parts... -> result                    axis
//   insert_slice      move   source, destination -> result         offsets, sizes, strides (one for each dimension)
//   gather            move   data, indices -> result               axis
//   gather_elements   move   data, indices -> result               axis
//   gather_nd         move   data, indices -> result               batch_dims
//   scatter_elements  move   data, indices, updates -> result      axis, reduction ("none|add|mul|min|max")
//   scatter_nd        move   data, indices, updates -> result      reduction
//   arg_reduce        reduce data -> i64 indices                   axis, extremum ("minimum|maximum"), select_last
//   top_k             other  data -> values, i64 indices           axis, largest, sorted
//   sort              other  data -> values, i64 indices           axis, descending
//   cumulative        other  data -> result                        axis, accumulation ("sum|product"),
//                                                                  exclusive, reverse
//   random_bits       other  [seed] -> u32 words                   offset, seed (when it is no operand)
//
//   scan              other  states..., sequences..., captures... -> final states..., stacked outputs...
//                            states, sequences (counts), trip_count, input_axes, input_reversed, output_axes,
//                            output_reversed; region: states, slices, captures -> next states, slices
//
//   Where a scan's body stands once among the graph's kernels (markScans), all from loop_begin to the last of those
//   that read its counter is done trip_count times:
//   loop_begin        other  -> i32 counter of the iterations      trip_count
//   loop_state        move   initial, counter -> state
//   loop_slice        move   whole, counter -> slice               axis, reversed
//   loop_stack        move   slice, counter -> whole               axis, reversed
//   loop_next         move   next state, state, counter -> final state
//
//   any other name    composite, with the attributes of qd.composite and its body as region
#pragma once

#include "numerics/BlockExpression.h"
#include "numerics/Tensor.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace quadrille::graph {

using ValueId = uint32_t;
constexpr ValueId noValue = ~ValueId(0);

// A constant of any element type, as its bits zero-extended.
struct Scalar {
  ElementType type = ElementType::f32;
  uint64_t bits = 0;
  bool operator==(const Scalar &) const = default;
};
// "1.5", "-3", "true"; the bits in hexadecimal for a format that has no text form.
std::string describe(const Scalar &scalar);

// Where a weight's bytes lie in a file on disk; lets a program refer to weights instead of carrying them.
struct FileSpan {
  std::string path;
  uint64_t offset = 0;
  uint64_t size = 0; // bytes; 0 when the weight is absent
};

enum class ValueRole : uint8_t { Input, Constant, Intermediate };
llvm::StringRef nameOf(ValueRole role);

struct Value {
  std::string name; // of the ONNX tensor where there is one
  ElementType type = ElementType::f32;
  Shape shape;
  ValueRole role = ValueRole::Intermediate;
  Tensor data; // constants: the bytes, borrowed from a map or owned; invalid when the weight is absent
  std::optional<FileSpan> origin; // constants that lie in a file
  bool splat() const;             // a constant whose elements are all equal (only small constants are examined)
};

// Index of one tensor dimension: offset + sum of coefficient * loop.
struct DimensionAccess {
  int64_t offset = 0;
  std::vector<std::pair<unsigned, int64_t>> terms; // (loop, coefficient), ascending loops, no zero coefficient
  bool operator==(const DimensionAccess &) const = default;
};
using AccessMap = std::vector<DimensionAccess>; // one for each dimension of the value

// No extent, offset or coefficient is larger, so that every index computation stays within 64 bits; no tensor that a
// machine can hold comes near.
constexpr int64_t largestExtent = int64_t(1) << 40, largestCoefficient = int64_t(1) << 20;

struct Loop {
  int64_t extent = 0;
  bool reduction = false;
};

// The smallest and largest index that an access reaches when every loop runs (extents of at least 1).
struct IndexRange {
  int64_t first = 0, last = 0;
};
IndexRange indexRange(const DimensionAccess &access, llvm::ArrayRef<Loop> loops);

struct Read {
  ValueId value = noValue;
  AccessMap map;
  std::optional<Scalar> padding; // what indices outside the value's shape read; absent: none occur
  bool operator==(const Read &) const = default;
};

enum class Combiner : uint8_t { None, Sum, Product, Minimum, Maximum, MinimumNumber, MaximumNumber, And, Or, Xor };
llvm::StringRef nameOf(Combiner combiner);

// Every element is written by exactly one point of the parallel loops: each dimension of `map` is a single loop of the
// dimension's extent (or the constant 0 where the extent is 1), each loop at most once, and the loops that do not occur
// are exactly the reductions.
struct Write {
  ValueId value = noValue;
  AccessMap map;
  Combiner combiner = Combiner::None;
  // What the combination starts from: a scalar, or the elements of `initial` (an accumulator or a bias).
  std::optional<Scalar> initialScalar;
  std::optional<Read> initial;
};

enum class KernelKind : uint8_t { Contract, Map, Reduce, Window, Move, Composite, Other };
llvm::StringRef nameOf(KernelKind kind);

enum class Rounding : uint8_t { NearestEven, Stochastic };

// The arithmetic of a kernel: the type operands are stored in, multiplied in, accumulated in. Defaults to the value
// types; contractions of f16/bf16 accumulate in f32 unless a machine says otherwise.
struct Numeric {
  ElementType storage = ElementType::f32;
  ElementType multiply = ElementType::f32;
  ElementType accumulate = ElementType::f32;
  Rounding rounding = Rounding::NearestEven;
  bool operator==(const Numeric &) const = default;
};

using Attribute =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;

struct KernelGraph;

struct Kernel {
  KernelKind kind = KernelKind::Other;
  std::string operation;   // what it is, for people and for unstructured kernels: "conv", "reshape", "softmax", "scan"
  std::vector<Loop> loops; // structured kernels
  std::vector<Read> reads;
  std::vector<Write> writes;
  BlockExpression body; // structured kernels
  std::map<std::string, Attribute> attributes;
  std::shared_ptr<const KernelGraph> region; // composite body, scan body: inputs match reads, outputs match writes
  Numeric numeric;
  std::vector<uint32_t> nodes; // ONNX nodes behind it: indices into KernelGraph::nodes
  double flops = 0;            // arithmetic operations; a multiply-accumulate counts two
  double bytes = 0;            // of all operands and results once, at their storage types

  bool structured() const { return !loops.empty() || !body.results.empty(); }
};

struct Node {
  std::string name;      // the ONNX node's name, or "OpType_index" for a nameless one
  std::string operation; // ONNX operator type
};

struct KernelGraph {
  std::string name;
  std::vector<Value> values;
  std::vector<Kernel> kernels; // in an order in which they can execute
  std::vector<ValueId> inputs, outputs;
  std::vector<std::string> outputNames; // ONNX names, parallel to outputs (two outputs may be the same value)
  std::vector<Node> nodes;

  // Empty when well-formed, else what is wrong: ids in range, defined before use, ranks and bounds of maps, body types.
  std::string verify() const;
  // Readable listing, one kernel a line with its maps.
  std::string print() const;
};

// FLOPs and bytes of a kernel from its loops, body and operand types.
void countWork(const KernelGraph &graph, Kernel &kernel);

} // namespace quadrille::graph
