// Kernels that move elements: by shape, by position, by index.
#include "base/Parallel.h"
#include "numerics/BlockEvaluator.h"
#include "target/host/Indexed.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

#include <atomic>
#include <cstring>

namespace quadrille::host {

using namespace graph;

namespace {

constexpr int64_t bytesPerRange = 1 << 18;

const Value &operandValue(const KernelGraph &graph, const Kernel &kernel, size_t read) {
  return graph.values[kernel.reads[read].value];
}
const Value &resultValue(const KernelGraph &graph, const Kernel &kernel, size_t write = 0) {
  return graph.values[kernel.writes[write].value];
}

llvm::Error wrongOperands(const Kernel &kernel, const char *what) {
  return userError("kernel '" + kernel.operation + "': " + what);
}

llvm::Error checkCounts(const Kernel &kernel, size_t reads, size_t writes = 1) {
  if (kernel.reads.size() != reads || kernel.writes.size() != writes)
    return wrongOperands(kernel, "wrong number of operands");
  return llvm::Error::success();
}

int64_t product(llvm::ArrayRef<int64_t> extents) {
  return elementCount(extents);
}

// Shapes are compared and not numbers of elements: those of a result that does not exist can wrap.
Shape joined(std::initializer_list<llvm::ArrayRef<int64_t>> parts) {
  Shape shape;
  for (llvm::ArrayRef<int64_t> part : parts)
    shape.insert(shape.end(), part.begin(), part.end());
  return shape;
}

// Indices of i32 or i64, counted from the end where negative.
struct Indices {
  bool wide = true;
  int64_t operator()(const std::byte *data, int64_t i) const {
    if (wide) {
      int64_t value;
      std::memcpy(&value, data + i * 8, 8);
      return value;
    }
    int32_t value;
    std::memcpy(&value, data + i * 4, 4);
    return value;
  }
};

llvm::Expected<Indices> indicesOf(const Kernel &kernel, const Value &value) {
  if (value.type != ElementType::i64 && value.type != ElementType::i32)
    return wrongOperands(kernel, "indices must be i32 or i64");
  return Indices{value.type == ElementType::i64};
}

llvm::Error outOfRange(llvm::StringRef operation, int64_t index, int64_t extent) {
  return userError("kernel '" + operation + "': index " + llvm::Twine(index) + " is outside [-" + llvm::Twine(extent) +
                   ", " + llvm::Twine(extent) + ")");
}

// The first index found out of range by any thread's part, the lowest position wins so that messages do not vary.
class FirstFault {
public:
  void report(int64_t position, int64_t index, int64_t extent) {
    std::lock_guard lock(mutex);
    if (position < at) {
      at = position;
      this->index = index;
      this->extent = extent;
    }
  }
  llvm::Error take(llvm::StringRef operation) const {
    if (at == INT64_MAX)
      return llvm::Error::success();
    return outOfRange(operation, index, extent);
  }

private:
  std::mutex mutex;
  int64_t at = INT64_MAX, index = 0, extent = 0;
};

std::optional<Combine> reductionNamed(llvm::StringRef name, bool &known) {
  known = true;
  if (name == "add")
    return Combine::Sum;
  if (name == "mul")
    return Combine::Product;
  if (name == "min")
    return Combine::Minimum;
  if (name == "max")
    return Combine::Maximum;
  known = name == "none";
  return std::nullopt;
}

} // namespace

Compiled compileReshape(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 1))
    return std::move(error);
  const Value &from = operandValue(graph, kernel, 0), &to = resultValue(graph, kernel);
  int64_t bytes = elementCount(to.shape) * static_cast<int64_t>(byteWidth(to.type));
  if (elementCount(from.shape) != elementCount(to.shape) || from.type != to.type)
    return wrongOperands(kernel, "operand and result differ in elements");
  return makeOperation([bytes](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
    parallelFor(bytes, bytesPerRange, [&](int64_t begin, int64_t end) {
      std::memcpy(writes[0] + begin, reads[0] + begin, static_cast<size_t>(end - begin));
    });
    return llvm::Error::success();
  });
}

Compiled compileConcat(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, kernel.reads.size()))
    return std::move(error);
  const Value &to = resultValue(graph, kernel);
  llvm::Expected<int64_t> axis = Attributes(kernel).axis(to.shape.size());
  if (!axis)
    return axis.takeError();
  int64_t width = static_cast<int64_t>(byteWidth(to.type));
  int64_t inner = product(llvm::ArrayRef(to.shape).drop_front(*axis + 1)) * width;
  int64_t outer = product(llvm::ArrayRef(to.shape).take_front(*axis));
  std::vector<int64_t> runs;
  int64_t total = 0;
  for (size_t r = 0; r < kernel.reads.size(); ++r) {
    const Value &part = operandValue(graph, kernel, r);
    Shape expected = to.shape;
    if (part.shape.size() == to.shape.size())
      expected[*axis] = part.shape[*axis];
    if (part.shape != expected || part.type != to.type)
      return wrongOperands(kernel, "a part's shape or type does not fit the result");
    runs.push_back(part.shape[*axis] * inner);
    total += runs.back();
  }
  if (total != to.shape[*axis] * inner)
    return wrongOperands(kernel, "the parts do not fill the result");
  return makeOperation([=](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
    int64_t grain = std::max<int64_t>(1, bytesPerRange / std::max<int64_t>(total, 1));
    parallelFor(outer, grain, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        std::byte *to = writes[0] + o * total;
        for (auto [read, run] : llvm::zip(reads, runs)) {
          std::memcpy(to, read + o * run, static_cast<size_t>(run));
          to += run;
        }
      }
    });
    return llvm::Error::success();
  });
}

Compiled compileInsertSlice(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 2))
    return std::move(error);
  const Value &source = operandValue(graph, kernel, 0), &to = resultValue(graph, kernel);
  Attributes attributes(kernel);
  auto offsets = attributes.get<std::vector<int64_t>>("offsets");
  if (!offsets)
    return offsets.takeError();
  auto sizes = attributes.get<std::vector<int64_t>>("sizes");
  if (!sizes)
    return sizes.takeError();
  auto steps = attributes.get<std::vector<int64_t>>("strides");
  if (!steps)
    return steps.takeError();
  size_t rank = to.shape.size();
  const Value &destination = operandValue(graph, kernel, 1);
  if (offsets->size() != rank || sizes->size() != rank || steps->size() != rank || source.type != to.type ||
      destination.type != to.type || destination.shape != to.shape)
    return wrongOperands(kernel, "the slice does not fit");
  for (size_t d = 0; d < rank; ++d) {
    int64_t offset = (*offsets)[d], size = (*sizes)[d], step = (*steps)[d], extent = to.shape[d], reach = 0;
    bool inside = size >= 0 && size <= extent;
    if (inside && size > 0)
      inside = offset >= 0 && offset < extent && !llvm::MulOverflow(size - 1, step, reach) && reach >= -offset &&
               reach < extent - offset;
    if (!inside)
      return wrongOperands(kernel, "the slice lies outside the destination");
  }
  if (elementCount(source.shape) != elementCount(*sizes))
    return wrongOperands(kernel, "the slice does not fit");
  Shape strides = rowMajorStrides(to.shape);
  size_t width = byteWidth(to.type);
  size_t bytes = static_cast<size_t>(elementCount(to.shape)) * width;
  return makeOperation([=, offsets = *offsets, sizes = *sizes, steps = *steps](llvm::ArrayRef<const std::byte *> reads,
                                                                               llvm::ArrayRef<std::byte *> writes) {
    std::memcpy(writes[0], reads[1], bytes);
    int64_t count = elementCount(sizes);
    if (count == 0)
      return llvm::Error::success();
    int64_t run = rank == 0 ? 1 : sizes[rank - 1];
    int64_t innerStep = rank == 0 ? 1 : steps[rank - 1];
    for (int64_t i = 0; i < count; i += run) {
      int64_t rest = i / run, offset = rank == 0 ? 0 : offsets[rank - 1];
      for (size_t d = rank; d-- > 1;) {
        offset += (offsets[d - 1] + rest % sizes[d - 1] * steps[d - 1]) * strides[d - 1];
        rest /= sizes[d - 1];
      }
      if (innerStep == 1) {
        std::memcpy(writes[0] + static_cast<size_t>(offset) * width, reads[0] + static_cast<size_t>(i) * width,
                    static_cast<size_t>(run) * width);
        continue;
      }
      for (int64_t j = 0; j < run; ++j)
        std::memcpy(writes[0] + (offset + j * innerStep) * static_cast<int64_t>(width),
                    reads[0] + (i + j) * static_cast<int64_t>(width), width);
    }
    return llvm::Error::success();
  });
}

Compiled compileGather(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 2))
    return std::move(error);
  const Value &data = operandValue(graph, kernel, 0), &at = operandValue(graph, kernel, 1);
  llvm::Expected<int64_t> axis = Attributes(kernel).axis(data.shape.size());
  if (!axis)
    return axis.takeError();
  llvm::Expected<Indices> index = indicesOf(kernel, at);
  if (!index)
    return index.takeError();
  int64_t inner =
      product(llvm::ArrayRef(data.shape).drop_front(*axis + 1)) * static_cast<int64_t>(byteWidth(data.type));
  int64_t outer = product(llvm::ArrayRef(data.shape).take_front(*axis));
  int64_t extent = data.shape[*axis], picks = elementCount(at.shape);
  const Value &to = resultValue(graph, kernel);
  if (to.shape != joined({llvm::ArrayRef(data.shape).take_front(*axis), at.shape,
                          llvm::ArrayRef(data.shape).drop_front(*axis + 1)}) ||
      to.type != data.type)
    return wrongOperands(kernel, "the result's shape or type does not fit");
  return makeOperation([=, index = *index](llvm::ArrayRef<const std::byte *> reads,
                                           llvm::ArrayRef<std::byte *> writes) {
    FirstFault fault;
    int64_t grain = std::max<int64_t>(1, bytesPerRange / std::max<int64_t>(inner, 1));
    parallelFor(outer * picks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t pick = index(reads[1], i % picks);
        if (pick < -extent || pick >= extent)
          return fault.report(i, pick, extent);
        if (pick < 0)
          pick += extent;
        std::memcpy(writes[0] + i * inner, reads[0] + (i / picks * extent + pick) * inner, static_cast<size_t>(inner));
      }
    });
    return fault.take("gather");
  });
}

Compiled compileGatherElements(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 2))
    return std::move(error);
  const Value &data = operandValue(graph, kernel, 0), &at = operandValue(graph, kernel, 1);
  llvm::Expected<int64_t> axis = Attributes(kernel).axis(data.shape.size());
  if (!axis)
    return axis.takeError();
  llvm::Expected<Indices> index = indicesOf(kernel, at);
  if (!index)
    return index.takeError();
  const Value &to = resultValue(graph, kernel);
  if (to.shape != at.shape || at.shape.size() != data.shape.size() || to.type != data.type)
    return wrongOperands(kernel, "shapes do not fit");
  for (size_t d = 0; d < at.shape.size(); ++d)
    if (d != static_cast<size_t>(*axis) && at.shape[d] > data.shape[d])
      return wrongOperands(kernel, "indices exceed the data");
  Shape dataStrides = rowMajorStrides(data.shape);
  size_t width = byteWidth(data.type);
  return makeOperation([=, axis = static_cast<size_t>(*axis), index = *index, dataShape = data.shape,
                        shape = at.shape](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
    FirstFault fault;
    parallelFor(elementCount(shape), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t pick = index(reads[1], i), extent = dataShape[axis];
        if (pick < -extent || pick >= extent)
          return fault.report(i, pick, extent);
        if (pick < 0)
          pick += extent;
        int64_t offset = 0, rest = i;
        for (size_t d = shape.size(); d-- > 0;) {
          offset += (d == axis ? pick : rest % shape[d]) * dataStrides[d];
          rest /= shape[d];
        }
        std::memcpy(writes[0] + static_cast<size_t>(i) * width, reads[0] + static_cast<size_t>(offset) * width, width);
      }
    });
    return fault.take("gather_elements");
  });
}

Compiled compileGatherNd(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 2))
    return std::move(error);
  const Value &data = operandValue(graph, kernel, 0), &at = operandValue(graph, kernel, 1);
  llvm::Expected<int64_t> batchDims = Attributes(kernel).get<int64_t>("batch_dims", 0);
  if (!batchDims)
    return batchDims.takeError();
  llvm::Expected<Indices> index = indicesOf(kernel, at);
  if (!index)
    return index.takeError();
  if (at.shape.empty() || *batchDims < 0 || *batchDims >= static_cast<int64_t>(at.shape.size()) ||
      *batchDims + at.shape.back() > static_cast<int64_t>(data.shape.size()))
    return wrongOperands(kernel, "index vectors are longer than the data's rank");
  size_t batchRank = static_cast<size_t>(*batchDims), depth = static_cast<size_t>(at.shape.back());
  int64_t batch = product(llvm::ArrayRef(data.shape).take_front(batchRank));
  if (batch != product(llvm::ArrayRef(at.shape).take_front(batchRank)))
    return wrongOperands(kernel, "batch dimensions differ");
  int64_t picks = product(llvm::ArrayRef(at.shape).drop_front(batchRank).drop_back());
  int64_t slice =
      product(llvm::ArrayRef(data.shape).drop_front(batchRank + depth)) * static_cast<int64_t>(byteWidth(data.type));
  Shape extents(data.shape.begin() + batchRank, data.shape.begin() + batchRank + depth);
  int64_t batchBytes = elementCount(extents) * slice;
  const Value &to = resultValue(graph, kernel);
  if (to.shape !=
          joined({llvm::ArrayRef(at.shape).drop_back(), llvm::ArrayRef(data.shape).drop_front(batchRank + depth)}) ||
      to.type != data.type)
    return wrongOperands(kernel, "the result's shape or type does not fit");
  return makeOperation(
      [=, index = *index](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) {
        FirstFault fault;
        int64_t grain = std::max<int64_t>(1, bytesPerRange / std::max<int64_t>(slice, 16));
        parallelFor(batch * picks, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            int64_t offset = 0;
            for (size_t d = 0; d < depth; ++d) {
              int64_t pick = index(reads[1], i * static_cast<int64_t>(depth) + static_cast<int64_t>(d));
              if (pick < -extents[d] || pick >= extents[d])
                return fault.report(i, pick, extents[d]);
              offset = offset * extents[d] + (pick < 0 ? pick + extents[d] : pick);
            }
            std::memcpy(writes[0] + i * slice, reads[0] + i / picks * batchBytes + offset * slice,
                        static_cast<size_t>(slice));
          }
        });
        return fault.take("gather_nd");
      });
}

Compiled compileScatterElements(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 3))
    return std::move(error);
  const Value &data = operandValue(graph, kernel, 0), &at = operandValue(graph, kernel, 1),
              &updates = operandValue(graph, kernel, 2);
  Attributes attributes(kernel);
  llvm::Expected<int64_t> axis = attributes.axis(data.shape.size());
  if (!axis)
    return axis.takeError();
  llvm::Expected<std::string> name = attributes.get<std::string>("reduction", "none");
  if (!name)
    return name.takeError();
  bool known = false;
  std::optional<Combine> reduction = reductionNamed(*name, known);
  llvm::Expected<Indices> index = indicesOf(kernel, at);
  if (!index)
    return index.takeError();
  if (!known || (reduction && !combines(*reduction, data.type)) || updates.shape != at.shape ||
      at.shape.size() != data.shape.size() || updates.type != data.type ||
      resultValue(graph, kernel).shape != data.shape || resultValue(graph, kernel).type != data.type)
    return wrongOperands(kernel, "shapes, types or reduction do not fit");
  for (size_t d = 0; d < at.shape.size(); ++d)
    if (d != static_cast<size_t>(*axis) && at.shape[d] > data.shape[d])
      return wrongOperands(kernel, "indices exceed the data");
  Shape strides = rowMajorStrides(data.shape);
  return makeOperation(
      [=, axis = static_cast<size_t>(*axis), index = *index, type = data.type, dataShape = data.shape,
       shape = at.shape](llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) -> llvm::Error {
        size_t width = byteWidth(type);
        std::memcpy(writes[0], reads[0], static_cast<size_t>(elementCount(dataShape)) * width);
        for (int64_t i = 0, count = elementCount(shape); i < count; ++i) {
          int64_t pick = index(reads[1], i), extent = dataShape[axis];
          if (pick < -extent || pick >= extent)
            return outOfRange("scatter_elements", pick, extent);
          if (pick < 0)
            pick += extent;
          int64_t offset = 0, rest = i;
          for (size_t d = shape.size(); d-- > 0;) {
            offset += (d == axis ? pick : rest % shape[d]) * strides[d];
            rest /= shape[d];
          }
          std::byte *to = writes[0] + static_cast<size_t>(offset) * width;
          const std::byte *from = reads[2] + static_cast<size_t>(i) * width;
          if (reduction)
            combineElementwise(*reduction, type, to, from, 1);
          else
            std::memcpy(to, from, width);
        }
        return llvm::Error::success();
      });
}

Compiled compileScatterNd(const KernelGraph &graph, const Kernel &kernel) {
  if (llvm::Error error = checkCounts(kernel, 3))
    return std::move(error);
  const Value &data = operandValue(graph, kernel, 0), &at = operandValue(graph, kernel, 1),
              &updates = operandValue(graph, kernel, 2);
  llvm::Expected<std::string> name = Attributes(kernel).get<std::string>("reduction", "none");
  if (!name)
    return name.takeError();
  bool known = false;
  std::optional<Combine> reduction = reductionNamed(*name, known);
  llvm::Expected<Indices> index = indicesOf(kernel, at);
  if (!index)
    return index.takeError();
  if (!known || (reduction && !combines(*reduction, data.type)) || at.shape.empty() ||
      at.shape.back() > static_cast<int64_t>(data.shape.size()) || at.shape.back() < 0 || updates.type != data.type ||
      resultValue(graph, kernel).shape != data.shape || resultValue(graph, kernel).type != data.type)
    return wrongOperands(kernel, "shapes, types or reduction do not fit");
  size_t depth = static_cast<size_t>(at.shape.back());
  int64_t picks = product(llvm::ArrayRef(at.shape).drop_back());
  int64_t slice = product(llvm::ArrayRef(data.shape).drop_front(depth));
  if (updates.shape != joined({llvm::ArrayRef(at.shape).drop_back(), llvm::ArrayRef(data.shape).drop_front(depth)}))
    return wrongOperands(kernel, "updates do not fit the indices");
  return makeOperation([=, index = *index, type = data.type, extents = data.shape](
                           llvm::ArrayRef<const std::byte *> reads, llvm::ArrayRef<std::byte *> writes) -> llvm::Error {
    int64_t width = static_cast<int64_t>(byteWidth(type));
    std::memcpy(writes[0], reads[0], static_cast<size_t>(elementCount(extents) * width));
    for (int64_t i = 0; i < picks; ++i) {
      int64_t offset = 0;
      for (size_t d = 0; d < depth; ++d) {
        int64_t pick = index(reads[1], i * static_cast<int64_t>(depth) + static_cast<int64_t>(d));
        if (pick < -extents[d] || pick >= extents[d])
          return outOfRange("scatter_nd", pick, extents[d]);
        offset = offset * extents[d] + (pick < 0 ? pick + extents[d] : pick);
      }
      std::byte *to = writes[0] + offset * slice * width;
      const std::byte *from = reads[2] + i * slice * width;
      if (reduction)
        combineElementwise(*reduction, type, to, from, slice);
      else
        std::memcpy(to, from, static_cast<size_t>(slice * width));
    }
    return llvm::Error::success();
  });
}

} // namespace quadrille::host
