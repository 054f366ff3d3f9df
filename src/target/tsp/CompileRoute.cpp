// Moving elements between lanes, by products with tiles of zeros and ones: a byte times one, summed with zeros, is the
// byte (u8, exact in i32), and a sum over several vectors puts one vector together from all of them.
#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"

#include <set>

namespace quadrille::tsp {

using graph::Kernel;

llvm::Expected<RegionPointer> CompilerState::route(llvm::ArrayRef<RegionPointer> sources, Region shape,
                                                   uint64_t padding, OriginOf originOf) {
  auto moved = moveThroughSwitch(sources, shape, padding, originOf);
  if (!moved || *moved)
    return moved;
  return routeBytes(sources, std::move(shape), padding, 0, false, originOf);
}

llvm::Expected<RegionPointer> CompilerState::routeBytes(llvm::ArrayRef<RegionPointer> sources, Region shape,
                                                        uint64_t padding, int64_t sourceByte, bool anywhere,
                                                        OriginOf originOf) {
  constexpr size_t mostMaps = 4096;
  // What one vector of the result takes of another vector, and by which map of lanes: pairs of from and to.
  struct Part {
    int64_t source, row, piece; // source: the number of sources for padding
    size_t map;
  };
  std::map<std::vector<int64_t>, size_t> numbers;
  std::vector<std::vector<int64_t>> maps;
  auto paddingSource = static_cast<int64_t>(sources.size());
  auto numberOf = [&](const std::vector<int64_t> &map) {
    auto [position, fresh] = numbers.try_emplace(map, maps.size());
    if (fresh)
      maps.push_back(map);
    return position->second;
  };
  std::vector<std::vector<Part>> parts(shape.rows * shape.pieces); // by row, then piece
  bool pads = false;
  for (int64_t row = 0; row < shape.rows; ++row)
    for (int64_t piece = 0; piece < shape.pieces; ++piece) {
      std::map<std::tuple<int64_t, int64_t, int64_t>, std::vector<int64_t>> found; // source, row, piece: lanes
      int64_t width = std::min(shape.width, shape.columns - piece * shape.width);
      for (int64_t lane = 0; lane < width; ++lane) {
        ElementOrigin origin = originOf(row * shape.columns + piece * shape.width + lane);
        if (origin.source < 0) {
          if (padding != 0)
            found[{paddingSource, 0, 0}].insert(found[{paddingSource, 0, 0}].end(), {lane, lane});
          continue;
        }
        const Region &from = *sources[origin.source];
        int64_t column = origin.index % from.columns;
        auto &lanes = found[{origin.source, origin.index / from.columns, column / from.width}];
        lanes.push_back(column % from.width);
        lanes.push_back(lane);
      }
      if (found.empty()) // nothing but zeros: of zeros
        found[{paddingSource, 0, 0}] = {0, 0};
      for (auto &[key, lanes] : found) {
        auto [source, fromRow, fromPiece] = key;
        pads |= source == paddingSource;
        parts[row * shape.pieces + piece].push_back({source, fromRow, fromPiece, numberOf(lanes)});
      }
      if (maps.size() > mostMaps)
        return mismatchError("elements move between lanes in more than " + llvm::Twine(mostMaps) + " different ways",
                             {"", node < graph.nodes.size() ? graph.nodes[node].name : ""},
                             "moves of this size are not compiled yet");
    }
  std::vector<RegionPointer> all(sources.begin(), sources.end());
  std::vector<const Region *> avoid;
  for (const RegionPointer &source : all)
    avoid.push_back(source.get());
  if (pads) {
    auto splat = splatRegion(shape.type, padding, {}, std::nullopt);
    if (!splat)
      return splat.takeError();
    all.push_back(*splat);
    avoid.push_back(splat->get());
  }
  auto result = anywhere ? allocate(shape, avoid, std::nullopt, /*anywhere=*/true) : allocateInSegments(shape, avoid);
  if (!result)
    return result.takeError();
  Region &to = **result;
  auto hemisphere = static_cast<unsigned>(matrixTurn++ % machine.hemispheres);

  // The tiles, each made once for all kernels.
  std::vector<WeightBlocks> tiles;
  for (const std::vector<int64_t> &lanes : maps) {
    auto made = laneMaps.find(lanes);
    if (made == laneMaps.end()) {
      int64_t height = 0;
      for (size_t i = 0; i < lanes.size(); i += 2)
        height = std::max(height, lanes[i] + 1);
      Tensor ones = Tensor::zeros(ElementType::u8, {height, machine.vectorBytes()});
      for (size_t i = 0; i < lanes.size(); i += 2)
        ones.mutableBytes()[lanes[i] * machine.vectorBytes() + lanes[i + 1]] = std::byte(1);
      auto tile = weightsOf("lanes", ones, height);
      if (!tile)
        return tile.takeError();
      made = laneMaps.emplace(lanes, *tile).first;
    }
    tiles.push_back(made->second);
  }

  // Sum after sum as far as the accumulators reach; within that, tile after tile.
  for (int64_t piece = 0; piece < to.pieces; ++piece)
    for (int64_t first = 0; first < to.rows; first += machine.accumulators) {
      int64_t end = std::min(to.rows, first + machine.accumulators);
      std::set<size_t> needed;
      for (int64_t row = first; row < end; ++row)
        for (const Part &part : parts[row * to.pieces + piece])
          needed.insert(part.map);
      for (int64_t byte = 0; byte < to.bytes(); ++byte) {
        std::vector<size_t> done(end - first);
        for (size_t map : needed) {
          install({hemisphere, 0}, tiles[map], ProductType::U8);
          ProductRun run;
          auto flush = [&] {
            if (run.from)
              multiply({hemisphere, 0}, run);
            run.from = nullptr;
          };
          // Several parts of a row with the same map: one after the other.
          for (bool again = true; std::exchange(again, false);)
            for (int64_t row = first; row < end; ++row) {
              const std::vector<Part> &of = parts[row * to.pieces + piece];
              std::vector<size_t> order; // of the parts, by map
              for (size_t i = 0; i < of.size(); ++i)
                order.push_back(i);
              llvm::sort(order,
                         [&](size_t a, size_t b) { return std::tuple(of[a].map, a) < std::tuple(of[b].map, b); });
              size_t turn = done[row - first];
              if (turn >= order.size() || of[order[turn]].map != map)
                continue;
              const Part &part = of[order[turn]];
              ++done[row - first];
              again |= done[row - first] < order.size() && of[order[done[row - first]]].map == map;
              AccumulateMode mode = order.size() == 1          ? AccumulateMode::Pass
                                    : turn == 0                ? AccumulateMode::Start
                                    : turn + 1 == order.size() ? AccumulateMode::Finish
                                                               : AccumulateMode::Add;
              Region *from = all[part.source].get();
              bool joins = run.from == from && run.fromPiece == part.piece && run.mode == static_cast<uint8_t>(mode) &&
                           run.toRow + run.count == row && run.count <= machine.repeatMaximum;
              if (joins && run.count == 1)
                run.fromStep = part.row - run.fromRow;
              joins &= run.from && from->together(run.fromRow, run.fromStep, run.count + 1) == run.count + 1 &&
                       to.together(run.toRow, 1, run.count + 1) == run.count + 1;
              if (joins && part.row == run.fromRow + run.count * run.fromStep) {
                ++run.count;
                continue;
              }
              flush();
              int64_t fromByte = part.source == paddingSource ? byte : sourceByte + byte;
              run = {from,  part.piece, fromByte, part.row,    1, &to,
                     piece, byte,       row,      row - first, 1, static_cast<uint8_t>(mode)};
            }
          flush();
        }
      }
    }
  return *result;
}

llvm::Error CompilerState::move(const Kernel &kernel) {
  graph::ValueId to = kernel.writes[0].value;
  const graph::Value &value = graph.values[to];
  int64_t rows = rowsOf(value.shape), columns = columnsOf(value.shape);
  if (graph::isReshape(kernel) && (forms[kernel.reads[0].value].packed || forms[kernel.reads[0].value].rowwise)) {
    forms[to] = forms[kernel.reads[0].value];
    return llvm::Error::success();
  }
  std::vector<RegionPointer> sources;
  std::vector<Shape> shapes;
  for (const graph::Read &read : kernel.reads) {
    auto region = regionOf(read.value);
    if (!region)
      return region.takeError();
    sources.push_back(*region);
    shapes.push_back(graph.values[read.value].shape);
  }
  // The same vectors, where what they hold side by side is the same too.
  bool packed = packings[kernel.reads[0].value] != plainPacking(shapes[0]) || packings[to] != plainPacking(value.shape);
  if (graph::isReshape(kernel) &&
      (packed ? lanesOf(packings[kernel.reads[0].value]) == lanesOf(packings[to]) : columnsOf(shapes[0]) == columns)) {
    regions[to] = sources[0];
    return llvm::Error::success();
  }
  Region shape = Region::of(value.type, rows, columns, machine.vectorBytes());
  Shape strides = rowMajorStrides(value.shape);
  auto finish = [&](OriginOf originOf) -> llvm::Error {
    auto region = route(sources, shape, 0, originOf);
    if (!region)
      return region.takeError();
    regions[to] = *region;
    return llvm::Error::success();
  };
  if (graph::isReshape(kernel))
    return finish([](int64_t element) -> ElementOrigin { return {0, element}; });
  if (kernel.operation == "concat") {
    int64_t axis = graph::integerAttribute(kernel, "axis").value_or(0);
    return finish([&](int64_t element) -> ElementOrigin {
      int64_t at = element / strides[axis] % value.shape[axis], source = 0;
      while (at >= shapes[source][axis])
        at -= shapes[source++][axis];
      int64_t outer = element / (strides[axis] * value.shape[axis]), inner = element % strides[axis];
      return {source, (outer * shapes[source][axis] + at) * strides[axis] + inner};
    });
  }
  if (kernel.operation == "insert_slice") {
    const auto &offsets = std::get<std::vector<int64_t>>(kernel.attributes.at("offsets"));
    const auto &sizes = std::get<std::vector<int64_t>>(kernel.attributes.at("sizes"));
    const auto &steps = std::get<std::vector<int64_t>>(kernel.attributes.at("strides"));
    Shape inner = rowMajorStrides(sizes);
    return finish([&](int64_t element) -> ElementOrigin {
      int64_t index = 0;
      for (size_t d = 0; d < value.shape.size(); ++d) {
        int64_t at = element / strides[d] % value.shape[d] - offsets[d];
        if (at < 0 || at % steps[d] != 0 || at / steps[d] >= sizes[d])
          return {1, element};
        index += at / steps[d] * inner[d];
      }
      return {0, index};
    });
  }
  return internalError("a move that is not compiled: " + kernel.operation);
}

} // namespace quadrille::tsp
