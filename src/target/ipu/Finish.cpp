// From buffers to addresses, and from there to the program.
#include "target/ipu/CompilerState.h"
#include "target/ipu/Exchanges.h"
#include "target/ipu/MemoryUse.h"
#include "target/ipu/Steps.h"
#include "target/ipu/VertexCycles.h"
#include "target/ipu/Vertices.h"

#include "target/Emit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/STLFunctionalExtras.h"

#include <algorithm>
#include <numeric>

namespace quadrille::ipu {

using graph::ValueId;

namespace {

// Free memory for buffers, the largest first: the lowest address at which no other one that shares a tile and a step
// lies. `interleavedPart` says within which addresses one is to lie that is read from interleaved memory, aligned;
// where there is no room it lies like others. Returns the bytes from the start that are used.
int64_t assignAddresses(std::vector<Buffer> &buffers,
                        llvm::function_ref<std::optional<Interval>(const Buffer &)> interleavedPart,
                        llvm::function_ref<int64_t(const Buffer &, int64_t address)> aligned) {
  std::vector<BufferId> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::stable_sort(order, [&](BufferId a, BufferId b) {
    if (buffers[a].always != buffers[b].always)
      return buffers[a].always;
    return buffers[a].bytes > buffers[b].bytes;
  });
  int64_t end = 0;
  std::vector<BufferId> placed;
  for (BufferId id : order) {
    Buffer &buffer = buffers[id];
    std::vector<std::pair<int64_t, int64_t>> taken;
    for (BufferId other : placed) {
      const Buffer &there = buffers[other];
      bool together = buffer.always || there.always || (buffer.from <= there.to && there.from <= buffer.to);
      if (together && buffer.firstTile <= there.lastTile && there.firstTile <= buffer.lastTile)
        taken.emplace_back(there.address, there.address + there.bytes);
    }
    llvm::sort(taken);
    auto lowestFrom = [&](int64_t at, bool aligns) {
      for (auto [begin, last] : taken) {
        if (at + buffer.bytes <= begin)
          break;
        at = std::max(at, aligns ? aligned(buffer, last) : last);
      }
      return at;
    };
    std::optional<Interval> part = interleavedPart(buffer);
    if (part)
      buffer.address = lowestFrom(part->begin, true);
    if (!part || buffer.address + buffer.bytes > part->end)
      buffer.address = lowestFrom(0, false);
    end = std::max(end, buffer.address + buffer.bytes);
    placed.push_back(id);
  }
  return end;
}

// Digits of a dimension, the most significant first.
void addDigits(std::vector<Digit> &digits, size_t d, const Arrangement::Dimension &dimension, int64_t width) {
  auto add = [&](int64_t extent, int64_t stride) {
    digits.push_back({static_cast<uint8_t>(d), static_cast<uint32_t>(extent), static_cast<uint32_t>(stride * width)});
  };
  if (dimension.group == 1) {
    add(std::max<int64_t>(1, dimension.extent), dimension.outer);
    return;
  }
  add(std::max<int64_t>(1, ceilDivide(dimension.extent, dimension.group)), dimension.outer);
  add(dimension.group, dimension.inner);
}

std::vector<Digit> digitsOf(const Arrangement &arrangement, int64_t width) {
  std::vector<Digit> digits;
  // Holes are what the most significant digits of a dimension reach beyond it.
  for (auto [extent, stride] : arrangement.holes)
    digits.push_back({0, static_cast<uint32_t>(extent), static_cast<uint32_t>(stride * width)});
  for (auto [d, dimension] : llvm::enumerate(arrangement.dimensions))
    addDigits(digits, d, dimension, width);
  return digits;
}

} // namespace

void CompilerState::addPlacement(Placement &placement, const Layout &layout, int64_t address) const {
  // Along the dimension with most parts, those of whole blocks are one list of tiles.
  size_t rank = layout.shape.size(), along = 0;
  if (elementCount(layout.shape) == 0)
    return;
  for (size_t d = 0; d < rank; ++d)
    if (layout.splits[d].parts > layout.splits[along].parts)
      along = d;
  std::map<std::pair<std::vector<int64_t>, std::vector<int64_t>>, Part *> runs;
  std::vector<std::unique_ptr<Part>> parts;
  std::vector<Digit> digits = digitsOf(layout.arrangement, layout.width());
  layout.forEachPart([&](uint32_t tile, const Box &box) {
    std::vector<int64_t> begin, extents;
    for (const Interval &range : box) {
      begin.push_back(range.begin);
      extents.push_back(range.count());
    }
    std::vector<int64_t> key = begin;
    if (rank > 0)
      key[along] = 0;
    Part *&run = runs[{key, extents}];
    if (run) {
      TileRange &range = run->tiles.front();
      int64_t expected = run->begin[along] + range.count * layout.splits[along].block;
      uint32_t step = static_cast<uint32_t>(layout.splits[along].tileStride);
      if (begin[along] == expected && tile == range.first + range.count * step) {
        range.step = step;
        ++range.count;
        run->shift[along] = layout.splits[along].block;
        return;
      }
    }
    parts.push_back(std::make_unique<Part>(
        Part{{{tile, 1, 1}}, static_cast<uint32_t>(address), begin, extents, std::vector<int64_t>(rank), digits}));
    run = parts.back().get();
  });
  for (std::unique_ptr<Part> &part : parts)
    placement.parts.push_back(std::move(*part));
}

Compiled::Missing Compiled::missing(const Architecture &machine) const {
  Missing most;
  for (const TileNeeds &each : ipus) {
    int64_t all = roundUp(each.codeBytes, machine.arrayAlignment()) + each.dataBytes;
    most.bytes = std::max(most.bytes, all - (machine.memoryBytes - machine.tailBytes));
    most.codeBytes = std::max(most.codeBytes, each.codeBytes - machine.executableBytes);
  }
  return most;
}

Compiled CompilerState::finish(bool measures) {
  auto last = static_cast<int64_t>(steps.size());
  auto givenHome = [&](ValueId input) -> const Home & {
    auto first = firstHomes.find(input);
    return first == firstHomes.end() ? homeOf(input) : first->second;
  };
  // Inputs are there from the beginning, outputs until the end.
  for (ValueId id : graph.inputs)
    if (homes[id])
      buffers[givenHome(id).buffer].from = 0;
  for (ValueId id : graph.outputs)
    if (elementCount(graph.values[id].shape) > 0) {
      Buffer &held = buffers[homeOf(id).buffer];
      held.to = last;
      held.from = std::max<int64_t>(held.from, 0);
    }
  for (Buffer &each : buffers) // of an input that nothing reads
    each.from = std::max<int64_t>(0, each.from);
  // Transfers first, since their number decides where data begins.
  std::vector<std::vector<std::pair<BufferId, BufferId>>> ends;
  for (auto [to, sent] : llvm::zip_equal(code.exchanges, sendings)) {
    to.transfers.reserve(sent.size());
    auto &of = ends.emplace_back();
    of.reserve(sent.size());
    for (const Sending &each : sent) {
      to.transfers.push_back({each.source, each.destinations, static_cast<uint32_t>(each.fromOffset),
                              static_cast<uint32_t>(each.toOffset), each.rows, each.bytes,
                              each.rows > 1 ? each.fromStride : 0, each.rows > 1 ? each.toStride : 0, each.joins});
      of.emplace_back(each.from, each.to);
    }
    sent = {}; // and their memory
  }
  program.chips = ipuOf.empty() ? 1 : ipuOf.back() + 1;
  std::vector<int64_t> codeBytes = codeOfIpus();
  // Addresses are from the start of an IPU's data.
  auto begin = [&](const Buffer &buffer) {
    return roundUp(codeBytes[static_cast<size_t>(machine.ipuOf(buffer.firstTile))], machine.arrayAlignment());
  };
  auto aligned = [&](const Buffer &buffer, int64_t address) {
    return roundUp(begin(buffer) + address, machine.wideLoadBytes) - begin(buffer);
  };
  auto interleavedPart = [&](const Buffer &buffer) -> std::optional<Interval> {
    if (!buffer.interleaved)
      return std::nullopt;
    return Interval{aligned(buffer, std::max<int64_t>(0, machine.interleavedBegin() - begin(buffer))),
                    machine.memoryBytes - machine.tailBytes - begin(buffer)};
  };
  auto fits = [&] {
    return llvm::all_of(buffers, [&](const Buffer &each) {
      return begin(each) + each.address + each.bytes <= machine.memoryBytes - machine.tailBytes;
    });
  };
  int64_t peak = assignAddresses(buffers, interleavedPart, aligned);
  if (!fits()) // closer together
    peak = assignAddresses(buffers, [](const Buffer &) { return std::nullopt; }, aligned);
  setAddresses(ends);
  auto addVariable = [&](uint32_t variable, ValueId id, bool isInput) {
    const graph::Value &value = graph.values[id];
    Placement placement;
    placement.variable = variable;
    placement.type = value.type;
    if (elementCount(value.shape) > 0) {
      const Home &home = isInput ? givenHome(id) : homeOf(id);
      addPlacement(placement, home.layout, buffers[home.buffer].address);
    }
    code.placements.push_back(std::move(placement));
  };
  for (auto [number, id] : llvm::enumerate(graph.inputs))
    if (homes[id] || elementCount(graph.values[id].shape) == 0)
      addVariable(static_cast<uint32_t>(number), id, true);
    else
      code.placements.push_back({static_cast<uint32_t>(number), graph.values[id].type, {}}); // nothing reads it
  for (auto [number, id] : llvm::enumerate(graph.outputs))
    addVariable(static_cast<uint32_t>(graph.inputs.size() + number), id, false);
  addConstants();
  code.entries.push_back(std::move(steps));

  Compiled compiled;
  compiled.ipus = needsOfIpus(codeBytes);
  compiled.dataBytes = peak;
  for (const Compiled::TileNeeds &each : compiled.ipus)
    compiled.codeBytes = std::max(compiled.codeBytes, each.codeBytes);
  if (measures || !compiled.fits(machine))
    measure(compiled);
  if (compiled.fits(machine)) {
    moveData(compiled.ipus);
    chooseLoads();
    program.setPayload(code.encode());
  }
  compiled.program = std::move(program);
  return compiled;
}

void CompilerState::setAddresses(llvm::ArrayRef<std::vector<std::pair<BufferId, BufferId>>> ends) {
  for (ComputeSet &set : code.computeSets)
    for (Vertex &vertex : set.vertices)
      forEachAddress(vertex,
                     [&](int64_t &address) { address = buffers[bufferOf(address)].address + offsetOf(address); });
  for (auto [exchange, of] : llvm::zip_equal(code.exchanges, ends))
    for (auto [each, between] : llvm::zip_equal(exchange.transfers, of)) {
      each.sourceAddress += static_cast<uint32_t>(buffers[between.first].address);
      each.destinationAddress += static_cast<uint32_t>(buffers[between.second].address);
    }
}

std::vector<int64_t> CompilerState::codeOfIpus() const {
  std::vector<int64_t> most(static_cast<size_t>(program.chips));
  for (auto [tile, use] : llvm::enumerate(codeUse(program, code, machine))) {
    int64_t &of = most[static_cast<size_t>(machine.ipuOf(static_cast<int64_t>(tile)))];
    of = std::max(of, use.code());
  }
  return most;
}

std::vector<Compiled::TileNeeds> CompilerState::needsOfIpus(llvm::ArrayRef<int64_t> codeBytes) const {
  std::vector<Compiled::TileNeeds> needs(codeBytes.size());
  for (auto [of, bytes] : llvm::zip_equal(needs, codeBytes))
    of.codeBytes = bytes;
  for (const Buffer &each : buffers) {
    assert(machine.ipuOf(each.firstTile) == machine.ipuOf(each.lastTile) && "a buffer is on one IPU");
    int64_t &end = needs[static_cast<size_t>(machine.ipuOf(each.firstTile))].dataBytes;
    end = std::max(end, each.address + each.bytes);
  }
  return needs;
}

void CompilerState::chooseLoads() {
  for (ComputeSet &set : code.computeSets)
    for (Vertex &vertex : set.vertices) {
      if (!llvm::is_contained({Codelet::ConvPartial1x1Out, Codelet::ConvPartialnx1, Codelet::Reduce}, vertex.kind()) ||
          !wideLoadsProblem(vertex, code.expressions, machine).empty())
        continue;
      std::vector<int64_t> &loads = vertex.values[formOf(vertex.codelet)->parameter("loads")];
      int64_t narrow = cyclesOf(vertex, code.expressions, cycles);
      loads = {1};
      if (cyclesOf(vertex, code.expressions, cycles) >= narrow)
        loads = {0};
    }
}

void CompilerState::moveData(llvm::ArrayRef<Compiled::TileNeeds> ipus) {
  auto below = [&](uint32_t tile) {
    return roundUp(ipus[static_cast<size_t>(machine.ipuOf(tile))].codeBytes, machine.arrayAlignment());
  };
  for (ComputeSet &set : code.computeSets)
    for (Vertex &vertex : set.vertices)
      forEachAddress(vertex, [&](int64_t &address) { address += below(vertex.tiles.front().first); });
  for (Exchange &exchange : code.exchanges)
    for (Transfer &each : exchange.transfers) {
      each.sourceAddress += static_cast<uint32_t>(below(each.source));
      each.destinationAddress += static_cast<uint32_t>(below(each.destinations.first));
    }
  for (Placement &placement : code.placements)
    for (Part &part : placement.parts)
      part.address += static_cast<uint32_t>(below(part.tiles.front().first));
}

void CompilerState::measure(Compiled &compiled) const {
  compiled.needs.resize(std::max<size_t>(graph.kernels.size(), 1)); // one for outputs that are known
  for (const Buffer &each : buffers) {
    if (each.bytes > compiled.largestBytes) {
      compiled.largestBytes = each.bytes;
      compiled.largest = each.name;
    }
    if (each.always)
      compiled.needs[each.kernel].constantBytes += each.bytes;
  }
  for (const KernelNeeds &each : compiled.needs)
    compiled.constantBytes += each.constantBytes;
  measureValues(compiled.needs);
  std::vector<int64_t> constants(static_cast<size_t>(program.chips * machine.tiles) + 1); // by tile: more than before
  for (const Buffer &each : buffers) {
    constants[each.firstTile] += each.always ? each.bytes : 0;
    constants[each.lastTile + 1] -= each.always ? each.bytes : 0;
  }
  int64_t here = 0;
  for (int64_t tile = 0; tile < program.chips * machine.tiles; ++tile) {
    here += constants[static_cast<size_t>(tile)];
    int64_t &most = compiled.ipus[static_cast<size_t>(machine.ipuOf(tile))].constantBytes;
    most = std::max(most, here);
  }
  Steps times(code, 0, machine, cycles, program.chips);
  auto charge = [&](uint32_t step, int64_t spent) { compiled.needs[kernelOf[step]].cycles += spent; };
  llvm::cantFail(times.run([](const Step &) { return llvm::Error::success(); },
                           [&](const StepTime &time) {
                             if (code.entries[0][time.step].kind == StepKind::Exchange)
                               charge(time.step, time.end - time.begin);
                           },
                           [&](const Path &path) {
                             for (const Path::Part &part : path.parts)
                               charge(part.step, sumOf(part.cycles));
                           }));
  // Of each kernel alone: its vertices and transfers on their busiest tile.
  std::vector<std::map<uint32_t, int64_t>> bytes(compiled.needs.size());
  for (auto [i, step] : llvm::enumerate(code.entries[0])) {
    auto &here = bytes[kernelOf[i]];
    if (step.kind == StepKind::Exchange)
      for (auto [tile, words] : codeWordsOf(code.exchanges[step.index], machine))
        here[tile] += words * machine.exchangeCodeWordBytes;
    else if (step.kind == StepKind::Execute)
      for (const Vertex &vertex : code.computeSets[step.index].vertices)
        forEachTile(vertex.tiles, [&](uint32_t tile) { here[tile] += stateBytesOf(vertex, machine); });
  }
  for (auto [needs, byTile] : llvm::zip_equal(compiled.needs, bytes))
    for (auto [tile, count] : byTile)
      needs.codeBytes = std::max(needs.codeBytes, count);
}

void CompilerState::measureValues(llvm::MutableArrayRef<KernelNeeds> needs) const {
  // By step, what begins with it, and what ended with the one before.
  std::vector<std::vector<BufferId>> begins(kernelOf.size() + 1), ends(kernelOf.size() + 1);
  for (auto [id, each] : llvm::enumerate(buffers)) {
    if (each.always || each.from >= static_cast<int64_t>(kernelOf.size()))
      continue;
    begins[static_cast<size_t>(each.from)].push_back(static_cast<BufferId>(id));
    if (each.to + 1 < static_cast<int64_t>(kernelOf.size()))
      ends[static_cast<size_t>(each.to) + 1].push_back(static_cast<BufferId>(id));
  }
  std::vector<int64_t> live(static_cast<size_t>(program.chips * machine.tiles)); // by tile
  auto add = [&](BufferId id, int64_t sign) {
    for (uint32_t tile = buffers[id].firstTile; tile <= buffers[id].lastTile; ++tile)
      live[tile] += sign * buffers[id].bytes;
  };
  for (auto [step, kernel] : llvm::enumerate(kernelOf)) {
    for (BufferId id : ends[step])
      add(id, -1);
    for (BufferId id : begins[step])
      add(id, 1);
    needs[kernel].valueBytes = std::max(needs[kernel].valueBytes, *llvm::max_element(live));
  }
}

void CompilerState::addConstants() {
  std::set<std::string> names;
  for (const program::Variable &variable : program.variables)
    names.insert(variable.name);
  auto variableOf = [&](ValueId id) {
    graph::Value constant = graph.values[id];
    if (constant.data.valid())
      constant.type = constant.data.type();
    program::Variable variable = target::weightOf(constant);
    std::string base = constant.name.empty() ? "constant" : constant.name;
    variable.name = base;
    for (int number = 1; !names.insert(variable.name).second; ++number)
      variable.name = base + ":" + std::to_string(number);
    program.variables.push_back(std::move(variable));
    return static_cast<uint32_t>(program.variables.size() - 1);
  };
  for (ValueId id = 0; id < graph.values.size(); ++id) {
    const graph::Value &value = graph.values[id];
    if (value.role != graph::ValueRole::Constant || (!homes[id] && !residents.contains(id)))
      continue;
    Placement placement;
    placement.type = value.type;
    if (homes[id])
      addPlacement(placement, homes[id]->layout, buffers[homes[id]->buffer].address);
    for (const Resident &each : residents[id]) {
      // Tiles with the same box are one part.
      std::map<std::vector<std::pair<int64_t, int64_t>>, std::vector<uint32_t>> byBox;
      for (const auto &[tile, box] : each.boxes) {
        std::vector<std::pair<int64_t, int64_t>> key;
        for (auto [range, extent] : llvm::zip_equal(box, value.shape))
          key.emplace_back(range.begin, std::min(range.end, extent));
        byBox[key].push_back(tile);
      }
      std::vector<Digit> digits = digitsOf(each.arrangement, widthOf(id));
      for (auto &[box, tiles] : byBox) {
        Part part;
        part.tiles = rangesOf(tiles);
        part.address = static_cast<uint32_t>(buffers[each.buffer].address);
        if (llvm::any_of(box, [](auto range) { return range.second <= range.first; }))
          continue; // all of it lies beyond the constant, and is filled
        for (auto [begin, end] : box) {
          part.begin.push_back(begin);
          part.extents.push_back(end - begin);
          part.shift.push_back(0);
        }
        part.digits = digits;
        placement.parts.push_back(std::move(part));
      }
    }
    placement.variable = variableOf(id);
    code.placements.push_back(std::move(placement));
  }
}

} // namespace quadrille::ipu
