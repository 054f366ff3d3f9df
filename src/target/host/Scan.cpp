// The loop kernel: its body is compiled once and run for every iteration.
#include "target/host/Executor.h"
#include "target/host/Indexed.h"

#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace quadrille::host {

using namespace graph;

namespace {

// Slice t of a tensor along one axis: `outer` runs of `run` bytes, `step` bytes apart.
struct Slices {
  int64_t outer = 1, run = 0, extent = 0;
  bool reversed = false;
  int64_t offset(int64_t t) const { return (reversed ? extent - 1 - t : t) * run; }
  int64_t step() const { return extent * run; }
  size_t bytes() const { return static_cast<size_t>(outer * run); }
};

} // namespace

Compiled compileScan(const KernelGraph &graph, const Kernel &kernel) {
  auto wrong = [&](const llvm::Twine &what) { return userError("kernel 'scan': " + what); };
  Attributes attributes(kernel);
  auto states = attributes.get<int64_t>("states"), sequences = attributes.get<int64_t>("sequences"),
       trips = attributes.get<int64_t>("trip_count");
  if (!states || !sequences || !trips)
    return llvm::joinErrors(llvm::joinErrors(states.takeError(), sequences.takeError()), trips.takeError());
  using List = std::vector<int64_t>;
  auto inputAxes = attributes.get<List>("input_axes", List()),
       inputReversed = attributes.get<List>("input_reversed", List()),
       outputAxes = attributes.get<List>("output_axes", List()),
       outputReversed = attributes.get<List>("output_reversed", List());
  for (auto *list : {&inputAxes, &inputReversed, &outputAxes, &outputReversed})
    if (!*list)
      return list->takeError();
  if (!kernel.region)
    return wrong("has no body");
  const KernelGraph &body = *kernel.region;
  size_t stateCount = static_cast<size_t>(*states), sequenceCount = static_cast<size_t>(*sequences);
  if (*states < 0 || *sequences < 0 || *trips < 0 || stateCount + sequenceCount > kernel.reads.size() ||
      body.inputs.size() != kernel.reads.size() || body.outputs.size() != kernel.writes.size() ||
      stateCount > kernel.writes.size())
    return wrong("operands do not fit the body");

  auto slicesOf = [&](const Value &whole, const Value &slice, size_t i, const List &axes,
                      const List &reversed) -> llvm::Expected<Slices> {
    int64_t axis = i < axes.size() ? axes[i] : 0;
    if (axis < 0)
      axis += static_cast<int64_t>(whole.shape.size());
    if (axis < 0 || axis >= static_cast<int64_t>(whole.shape.size()) || whole.shape[axis] != *trips)
      return wrong("'" + whole.name + "' has no axis of the trip count's extent");
    Slices result;
    result.outer = elementCount(llvm::ArrayRef(whole.shape).take_front(axis));
    result.run =
        elementCount(llvm::ArrayRef(whole.shape).drop_front(axis + 1)) * static_cast<int64_t>(byteWidth(whole.type));
    result.extent = *trips;
    result.reversed = i < reversed.size() && reversed[i] != 0;
    if (whole.type != slice.type ||
        result.bytes() != static_cast<size_t>(elementCount(slice.shape)) * byteWidth(slice.type))
      return wrong("a slice of '" + whole.name + "' does not fit the body");
    return result;
  };
  std::vector<Slices> inputs, outputs;
  for (size_t i = 0; i < sequenceCount; ++i) {
    llvm::Expected<Slices> slices = slicesOf(graph.values[kernel.reads[stateCount + i].value],
                                             body.values[body.inputs[stateCount + i]], i, *inputAxes, *inputReversed);
    if (!slices)
      return slices.takeError();
    inputs.push_back(*slices);
  }
  for (size_t i = stateCount; i < kernel.writes.size(); ++i) {
    llvm::Expected<Slices> slices = slicesOf(graph.values[kernel.writes[i].value], body.values[body.outputs[i]],
                                             i - stateCount, *outputAxes, *outputReversed);
    if (!slices)
      return slices.takeError();
    outputs.push_back(*slices);
  }
  std::vector<size_t> stateBytes;
  auto bytesOf = [](const Value &value) {
    return static_cast<size_t>(elementCount(value.shape)) * byteWidth(value.type);
  };
  for (size_t i = 0; i < stateCount; ++i) {
    stateBytes.push_back(bytesOf(graph.values[kernel.reads[i].value]));
    if (stateBytes[i] != bytesOf(body.values[body.inputs[i]]) ||
        stateBytes[i] != bytesOf(body.values[body.outputs[i]]) ||
        stateBytes[i] != bytesOf(graph.values[kernel.writes[i].value]))
      return wrong("a state changes its size");
  }
  for (size_t i = stateCount + sequenceCount; i < kernel.reads.size(); ++i)
    if (bytesOf(graph.values[kernel.reads[i].value]) != bytesOf(body.values[body.inputs[i]]))
      return wrong("a capture does not fit the body");

  llvm::Expected<std::unique_ptr<Executor>> executor = Executor::create(makePlan(body));
  if (!executor)
    return executor.takeError();
  // Two copies of every state, read and written in turn, and one slice for each sequence that is not contiguous.
  struct Buffers {
    std::vector<std::vector<std::byte>> states[2], inputs, outputs;
  } buffers;
  for (size_t bytes : stateBytes)
    for (auto &copy : buffers.states)
      copy.emplace_back(std::max<size_t>(bytes, 1));
  for (const Slices &slices : inputs)
    buffers.inputs.emplace_back(slices.outer == 1 ? 0 : slices.bytes());
  for (const Slices &slices : outputs)
    buffers.outputs.emplace_back(std::max<size_t>(slices.outer == 1 ? 0 : slices.bytes(), 1));

  return makeOperation([=, trips = *trips, executor = std::shared_ptr<Executor>(std::move(*executor)),
                        buffers = std::move(buffers)](llvm::ArrayRef<const std::byte *> reads,
                                                      llvm::ArrayRef<std::byte *> writes) mutable -> llvm::Error {
    std::vector<const std::byte *> given(reads.begin(), reads.end());
    std::vector<std::byte *> results(writes.size());
    for (int64_t t = 0; t < trips; ++t) {
      for (auto [i, slices] : llvm::enumerate(inputs)) {
        const std::byte *from = reads[stateCount + i] + slices.offset(t);
        if (slices.outer == 1) {
          given[stateCount + i] = from;
          continue;
        }
        std::byte *to = buffers.inputs[i].data();
        for (int64_t o = 0; o < slices.outer; ++o)
          std::memcpy(to + o * slices.run, from + o * slices.step(), static_cast<size_t>(slices.run));
        given[stateCount + i] = to;
      }
      for (size_t i = 0; i < stateCount; ++i)
        results[i] = buffers.states[t % 2][i].data();
      for (auto [i, slices] : llvm::enumerate(outputs))
        results[stateCount + i] =
            slices.outer == 1 ? writes[stateCount + i] + slices.offset(t) : buffers.outputs[i].data();
      if (llvm::Error error = executor->execute(given, results))
        return error;
      for (auto [i, slices] : llvm::enumerate(outputs)) {
        if (slices.outer == 1)
          continue;
        std::byte *to = writes[stateCount + i] + slices.offset(t);
        for (int64_t o = 0; o < slices.outer; ++o)
          std::memcpy(to + o * slices.step(), buffers.outputs[i].data() + o * slices.run,
                      static_cast<size_t>(slices.run));
      }
      for (size_t i = 0; i < stateCount; ++i)
        given[i] = buffers.states[t % 2][i].data();
    }
    for (size_t i = 0; i < stateCount; ++i)
      std::memcpy(writes[i], given[i], stateBytes[i]);
    return llvm::Error::success();
  });
}

} // namespace quadrille::host
