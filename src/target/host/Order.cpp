// Kernels that depend on the order of elements along one axis, and random words.
#include "base/Parallel.h"
#include "numerics/BlockEvaluator.h"
#include "numerics/Convert.h"
#include "target/host/Indexed.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace quadrille::host {

using namespace graph;

namespace {

// Lanes along one axis: element i of lane (o, j) lies at (o * extent + i) * inner + j.
struct Lanes {
  int64_t outer = 1, extent = 1, inner = 1;
  Lanes(llvm::ArrayRef<int64_t> shape, size_t axis)
      : outer(elementCount(shape.take_front(axis))), extent(shape[axis]),
        inner(elementCount(shape.drop_front(axis + 1))) {}
  int64_t count() const { return outer * inner; }
  int64_t at(int64_t lane, int64_t i, int64_t length) const {
    return (lane / inner * length + i) * inner + lane % inner;
  }
};

llvm::Error wrong(const Kernel &kernel, const char *what) {
  return userError("kernel '" + kernel.operation + "': " + what);
}

// One lane widened so that comparisons are exact: to f64 for floats, to 64-bit integers else. NaN counts as the largest
// value, as NumPy and ONNX Runtime have it in sort and top-k.
struct LaneValues {
  ElementType wide;
  std::vector<uint64_t> bits;

  void load(ElementType type, const std::byte *data, const Lanes &lanes, int64_t lane) {
    wide = isFloat(type) ? ElementType::f64 : kindOf(type) == ElementKind::Signed ? ElementType::i64 : ElementType::u64;
    size_t width = byteWidth(type);
    raw.resize(static_cast<size_t>(lanes.extent) * width);
    for (int64_t i = 0; i < lanes.extent; ++i)
      std::memcpy(raw.data() + static_cast<size_t>(i) * width,
                  data + static_cast<size_t>(lanes.at(lane, i, lanes.extent)) * width, width);
    bits.resize(static_cast<size_t>(lanes.extent));
    convert(type, raw.data(), wide, bits.data(), bits.size());
  }
  bool less(int64_t a, int64_t b) const {
    if (wide == ElementType::f64) {
      double x = llvm::bit_cast<double>(bits[a]), y = llvm::bit_cast<double>(bits[b]);
      return std::isnan(y) ? !std::isnan(x) : x < y;
    }
    if (wide == ElementType::i64)
      return static_cast<int64_t>(bits[a]) < static_cast<int64_t>(bits[b]);
    return bits[a] < bits[b];
  }
  const std::byte *element(int64_t i, size_t width) const { return raw.data() + static_cast<size_t>(i) * width; }

private:
  std::vector<std::byte> raw;
};

// Values and indices of the first `length` elements of every lane in order.
OperationPointer makeOrder(Lanes lanes, ElementType type, int64_t length, bool descending) {
  return makeOperation([=](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
    int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(lanes.extent, 1));
    parallelFor(lanes.count(), grain, [&](int64_t begin, int64_t end) {
      LaneValues values;
      std::vector<int64_t> order(static_cast<size_t>(lanes.extent));
      size_t width = byteWidth(type);
      for (int64_t lane = begin; lane < end; ++lane) {
        values.load(type, reads[0], lanes, lane);
        std::iota(order.begin(), order.end(), 0);
        auto before = [&](int64_t a, int64_t b) {
          if (descending ? values.less(b, a) : values.less(a, b))
            return true;
          if (descending ? values.less(a, b) : values.less(b, a))
            return false;
          return a < b;
        };
        std::partial_sort(order.begin(), order.begin() + length, order.end(), before);
        for (int64_t i = 0; i < length; ++i) {
          int64_t to = lanes.at(lane, i, length);
          std::memcpy(writes[0] + static_cast<size_t>(to) * width, values.element(order[i], width), width);
          if (writes.size() > 1)
            std::memcpy(writes[1] + to * 8, &order[i], 8);
        }
      }
    });
    return llvm::Error::success();
  });
}

} // namespace

static Compiled compileOrder(const KernelGraph &graph, const Kernel &kernel, llvm::StringRef direction) {
  if (kernel.reads.size() != 1 || kernel.writes.empty() || kernel.writes.size() > 2)
    return wrong(kernel, "wrong number of operands");
  const Value &data = graph.values[kernel.reads[0].value], &values = graph.values[kernel.writes[0].value];
  Attributes attributes(kernel);
  llvm::Expected<int64_t> axis = attributes.axis(data.shape.size());
  if (!axis)
    return axis.takeError();
  llvm::Expected<int64_t> descending = attributes.get<int64_t>(direction);
  if (!descending)
    return descending.takeError();
  Shape expected = data.shape;
  if (values.shape.size() == expected.size())
    expected[*axis] = values.shape[*axis];
  if (values.shape != expected || values.type != data.type || values.shape[*axis] > data.shape[*axis])
    return wrong(kernel, "the result's shape or type does not fit");
  if (kernel.writes.size() == 2) {
    const Value &indices = graph.values[kernel.writes[1].value];
    if (indices.shape != expected || indices.type != ElementType::i64)
      return wrong(kernel, "indices must be i64 of the result's shape");
  }
  return makeOrder(Lanes(data.shape, static_cast<size_t>(*axis)), data.type, values.shape[*axis], *descending != 0);
}

Compiled compileTopK(const KernelGraph &graph, const Kernel &kernel) {
  return compileOrder(graph, kernel, "largest");
}
Compiled compileSort(const KernelGraph &graph, const Kernel &kernel) {
  return compileOrder(graph, kernel, "descending");
}

Compiled compileArgReduce(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.reads.size() != 1 || kernel.writes.size() != 1)
    return wrong(kernel, "wrong number of operands");
  const Value &data = graph.values[kernel.reads[0].value], &to = graph.values[kernel.writes[0].value];
  Attributes attributes(kernel);
  llvm::Expected<int64_t> axis = attributes.axis(data.shape.size());
  if (!axis)
    return axis.takeError();
  llvm::Expected<std::string> extremum = attributes.get<std::string>("extremum");
  if (!extremum)
    return extremum.takeError();
  llvm::Expected<int64_t> selectLast = attributes.get<int64_t>("select_last", 0);
  if (!selectLast)
    return selectLast.takeError();
  Lanes lanes(data.shape, static_cast<size_t>(*axis));
  if (to.type != ElementType::i64 || elementCount(to.shape) != lanes.count() ||
      (*extremum != "minimum" && *extremum != "maximum"))
    return wrong(kernel, "the result or the extremum does not fit");
  if (lanes.extent == 0 && lanes.count() > 0)
    return wrong(kernel, "no element to choose from");
  bool largest = *extremum == "maximum", last = *selectLast != 0;
  return makeOperation(
      [=, type = data.type](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
        int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(lanes.extent, 1));
        parallelFor(lanes.count(), grain, [&](int64_t begin, int64_t end) {
          LaneValues values;
          auto *result = reinterpret_cast<int64_t *>(writes[0]);
          for (int64_t lane = begin; lane < end; ++lane) {
            values.load(type, reads[0], lanes, lane);
            // A NaN wins in both directions, as in NumPy.
            auto isNan = [&](int64_t i) {
              return values.wide == ElementType::f64 && std::isnan(llvm::bit_cast<double>(values.bits[i]));
            };
            int64_t best = 0;
            for (int64_t i = 1; i < lanes.extent; ++i) {
              bool better, equal;
              if (isNan(i) || isNan(best)) {
                better = isNan(i) && !isNan(best);
                equal = isNan(i) && isNan(best);
              } else {
                better = largest ? values.less(best, i) : values.less(i, best);
                equal = !values.less(best, i) && !values.less(i, best);
              }
              if (better || (equal && last))
                best = i;
            }
            result[lane] = best;
          }
        });
        return llvm::Error::success();
      });
}

Compiled compileCumulative(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.reads.size() != 1 || kernel.writes.size() != 1)
    return wrong(kernel, "wrong number of operands");
  const Value &data = graph.values[kernel.reads[0].value], &to = graph.values[kernel.writes[0].value];
  Attributes attributes(kernel);
  llvm::Expected<int64_t> axis = attributes.axis(data.shape.size());
  if (!axis)
    return axis.takeError();
  llvm::Expected<std::string> accumulation = attributes.get<std::string>("accumulation", "sum");
  if (!accumulation)
    return accumulation.takeError();
  llvm::Expected<int64_t> exclusive = attributes.get<int64_t>("exclusive", 0);
  if (!exclusive)
    return exclusive.takeError();
  llvm::Expected<int64_t> reverse = attributes.get<int64_t>("reverse", 0);
  if (!reverse)
    return reverse.takeError();
  Combine combine = *accumulation == "sum" ? Combine::Sum : Combine::Product;
  if (to.shape != data.shape || to.type != data.type || (*accumulation != "sum" && *accumulation != "product") ||
      !combines(combine, data.type))
    return wrong(kernel, "the result or the accumulation does not fit");
  Lanes lanes(data.shape, static_cast<size_t>(*axis));
  bool isExclusive = *exclusive != 0, isReverse = *reverse != 0;
  return makeOperation(
      [=, type = data.type](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
        // Running sums of floats in f64 (f32 for narrow ones would do): each result is rounded once.
        ElementType wide = isFloat(type) ? ElementType::f64 : type;
        size_t width = byteWidth(type);
        parallelFor(lanes.count(), std::max<int64_t>(1, 4096 / std::max<int64_t>(lanes.extent, 1)),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t lane = begin; lane < end; ++lane) {
                        uint64_t running = neutralBits(combine, wide);
                        for (int64_t i = 0; i < lanes.extent; ++i) {
                          int64_t at = lanes.at(lane, isReverse ? lanes.extent - 1 - i : i, lanes.extent);
                          std::byte *result = writes[0] + static_cast<size_t>(at) * width;
                          if (isExclusive)
                            convert(wide, &running, type, result, 1);
                          uint64_t element = 0;
                          convert(type, reads[0] + static_cast<size_t>(at) * width, wide, &element, 1);
                          combineElementwise(combine, wide, &running, &element, 1);
                          if (!isExclusive)
                            convert(wide, &running, type, result, 1);
                        }
                      }
                    });
        return llvm::Error::success();
      });
}

Compiled compileRandomBits(const KernelGraph &graph, const Kernel &kernel) {
  if (kernel.reads.size() > 1 || kernel.writes.size() != 1)
    return wrong(kernel, "wrong number of operands");
  const Value &to = graph.values[kernel.writes[0].value];
  Attributes attributes(kernel);
  llvm::Expected<int64_t> offset = attributes.get<int64_t>("offset", 0);
  if (!offset)
    return offset.takeError();
  llvm::Expected<int64_t> seed = attributes.get<int64_t>("seed", 0);
  if (!seed)
    return seed.takeError();
  if (to.type != ElementType::u32)
    return wrong(kernel, "the result must be u32");
  if (kernel.reads.size() == 1 && (graph.values[kernel.reads[0].value].type != ElementType::i64 ||
                                   elementCount(graph.values[kernel.reads[0].value].shape) != 1))
    return wrong(kernel, "the seed must be one i64");
  return makeOperation([count = elementCount(to.shape), offset = *offset,
                        seed = *seed](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
    int64_t used = seed;
    if (!reads.empty())
      std::memcpy(&used, reads[0], 8);
    parallelFor(count, 1 << 15, [&](int64_t begin, int64_t end) {
      randomBits(static_cast<uint64_t>(used), static_cast<uint64_t>(offset + begin),
                 reinterpret_cast<uint32_t *>(writes[0]) + begin, static_cast<size_t>(end - begin));
    });
    return llvm::Error::success();
  });
}

Compiled compileUnstructured(const KernelGraph &graph, const Kernel &kernel) {
  using Compile = Compiled (*)(const KernelGraph &, const Kernel &);
  static constexpr std::pair<llvm::StringLiteral, Compile> table[] = {
      {"reshape", compileReshape},
      {"concat", compileConcat},
      {"insert_slice", compileInsertSlice},
      {"gather", compileGather},
      {"gather_elements", compileGatherElements},
      {"gather_nd", compileGatherNd},
      {"scatter_elements", compileScatterElements},
      {"scatter_nd", compileScatterNd},
      {"arg_reduce", compileArgReduce},
      {"top_k", compileTopK},
      {"sort", compileSort},
      {"cumulative", compileCumulative},
      {"random_bits", compileRandomBits},
      {"scan", compileScan},
  };
  for (auto [name, compile] : table)
    if (name == kernel.operation)
      return compile(graph, kernel);
  return userError("the host has no kernel '" + kernel.operation + "'");
}

} // namespace quadrille::host
