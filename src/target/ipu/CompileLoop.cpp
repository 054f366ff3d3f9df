// Loops whose body stands once in the program, between a Repeat and its End.
//
// A state has memory of its own, which the body reads and in which what a turn leaves for the next one ends up: where
// it is computed, if it lies as the state does and what it replaces has been read by then, else by copies. Sequences
// lie with all their slices on the tile that takes them; a counter on the tile says which. Outputs that are stacked lie
// as one of their slices does.
#include "target/ipu/CompilerState.h"

#include "graph/KernelQueries.h"
#include "target/ipu/Steps.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>

namespace quadrille::ipu {

using graph::Kernel;
using graph::ValueId;

namespace {

// Arrangements of slices behind each other, along a dimension that they do not have.
Arrangement stacked(const Arrangement &slice, size_t axis, int64_t count) {
  Arrangement all = slice;
  Arrangement::Dimension dimension;
  dimension.extent = count;
  dimension.inner = dimension.outer = slice.elements;
  all.dimensions.insert(all.dimensions.begin() + static_cast<int64_t>(axis), dimension);
  all.elements = slice.elements * count;
  return all;
}

Layout stacked(const Layout &slice, size_t axis, Shape shape) {
  Layout all = slice;
  int64_t count = shape[axis];
  all.shape = std::move(shape);
  all.splits.insert(all.splits.begin() + static_cast<int64_t>(axis), Split{1, count, 0});
  auto renumbered = [&](unsigned d) { return d + (d >= axis ? 1 : 0); };
  for (unsigned &d : all.order.dimensions)
    d = renumbered(d);
  all.order.dimensions.insert(all.order.dimensions.begin(), static_cast<unsigned>(axis));
  if (all.order.grouped)
    all.order.grouped = renumbered(*all.order.grouped);
  all.arrangement = stacked(slice.arrangement, axis, count);
  return all;
}

// Whether elements fill their places on every tile.
bool isDense(const Layout &layout) {
  bool dense = layout.arrangement.holes.empty();
  layout.forEachPart([&](uint32_t, const Box &box) { dense &= pointsOf(box) == layout.arrangement.elements; });
  return dense;
}

BlockExpression nextNumber(bool reversed) {
  constexpr ElementType i32 = ElementType::i32;
  BlockExpression body;
  body.inputs = {i32};
  Register number = body.append(BlockOpcode::Input, i32), one = body.append(BlockOpcode::Constant, i32, {}, 1);
  body.results = {body.append(reversed ? BlockOpcode::Subtract : BlockOpcode::Add, i32, {number, one})};
  return body;
}

// How many more Repeats are open behind a step.
int64_t openedBy(const Step &step) {
  return step.kind == StepKind::Repeat ? 1 : step.kind == StepKind::End ? -1 : 0;
}

int64_t numberOfReplace() {
  const std::vector<llvm::StringRef> &words =
      formOf(static_cast<uint16_t>(Codelet::MultiUpdate))->parameters.front().words;
  return llvm::find(words, "replace") - words.begin();
}

} // namespace

bool canRepeat(const graph::KernelGraph &graph) {
  return llvm::none_of(graph.kernels, [&](const Kernel &kernel) {
    if (kernel.operation != "loop_stack")
      return false;
    const graph::Value &slice = graph.values[kernel.reads[0].value];
    return elementCount(slice.shape) == 1 && byteWidth(slice.type) < byteWidth(ElementType::i32);
  });
}

struct CompilerState::OpenLoop {
  OpenLoop(CompilerState &state, const Kernel &begin)
      : counter(begin.writes[0].value), trips(*graph::integerAttribute(begin, "trip_count")), begins(state) {}
  bool owns(const Kernel &kernel, llvm::StringRef operation) const {
    return kernel.operation == operation && kernel.reads.back().value == counter;
  }

  ValueId counter;
  int64_t trips;
  VertexSet begins;                    // done before the first turn
  std::map<ValueId, BufferId> wholes;  // of the slice of a sequence: where all of them are
  std::optional<BufferId> counters[2]; // ascending, descending
  std::set<uint32_t> countingTiles[2];
  llvm::SmallVector<Kernel, 4> next; // what the states become
  // Counting comes after the slices and before what is stacked, between these steps.
  size_t behindSlices = 0;
  std::optional<size_t> firstStack;
  std::set<uint32_t> stackTiles;
  BufferId firstBuffer = 0; // that the body made
  size_t firstSet = 0, firstExchange = 0, firstStep = 0;
};

struct CompilerState::Mark {
  graph::KernelGraph graph;
  std::vector<std::optional<Home>> homes;
  std::map<ValueId, Home> firstHomes;
  std::map<ValueId, std::vector<Resident>> residents;
  std::vector<Buffer> buffers;
  size_t sets, exchanges, expressions, steps;
};

CompilerState::Mark CompilerState::mark() const {
  return {graph,
          homes,
          firstHomes,
          residents,
          buffers,
          code.computeSets.size(),
          code.exchanges.size(),
          code.expressions.size(),
          steps.size()};
}

void CompilerState::goBackTo(Mark mark) {
  graph = std::move(mark.graph);
  homes = std::move(mark.homes);
  firstHomes = std::move(mark.firstHomes);
  residents = std::move(mark.residents);
  buffers = std::move(mark.buffers);
  code.computeSets.resize(mark.sets);
  code.exchanges.resize(mark.exchanges);
  sendings.resize(mark.exchanges);
  code.expressions.resize(mark.expressions);
  std::erase_if(expressions, [&](const auto &known) { return known.second >= mark.expressions; });
  steps.resize(mark.steps);
  kernelOf.resize(mark.steps);
}

size_t CompilerState::loop(size_t begin) {
  // States lie as a turn leaves them, which may depend on how they lie.
  constexpr int attempts = 3;
  std::map<ValueId, Layout> layouts;
  size_t end = graph::endOfLoop(graph, begin);
  for (int attempt = 1;; ++attempt) {
    Mark start = mark();
    std::map<ValueId, Layout> before = layouts;
    turns(begin, end, layouts);
    if (attempt == attempts || layouts == before)
      return end;
    goBackTo(std::move(start));
  }
}

void CompilerState::turns(size_t begin, size_t end, std::map<ValueId, Layout> &layouts) {
  OpenLoop loop(*this, graph.kernels[begin]);
  size_t body = begin + 1;
  bool counts = false;
  for (size_t number = begin; number < end; ++number) {
    const Kernel &kernel = graph.kernels[number];
    if (loop.owns(kernel, "loop_state"))
      body = number + 1;
    counts |= loop.owns(kernel, "loop_slice") || loop.owns(kernel, "loop_stack");
  }
  for (size_t number = begin + 1; number < body;) {
    const Kernel kernel = graph.kernels[number];
    number = loop.owns(kernel, "loop_state") ? enterState(number, layouts) : compile(number);
  }
  for (size_t number = body; number < end; ++number)
    if (const Kernel kernel = graph.kernels[number]; loop.owns(kernel, "loop_slice"))
      bringSequence(number, loop);
  setCurrent(begin);
  size_t beginSet = code.computeSets.size(), beginStep = steps.size();
  if (counts)
    execute(ComputeSet{"begin the loop", {}}); // its vertices come when the body is known

  loop.firstStep = steps.size();
  loop.firstSet = code.computeSets.size();
  loop.firstExchange = code.exchanges.size();
  loop.firstBuffer = static_cast<BufferId>(buffers.size());
  addStep(StepKind::Repeat, static_cast<uint32_t>(loop.trips));
  loop.behindSlices = steps.size();
  for (size_t number = body; number < end;) {
    const Kernel kernel = graph.kernels[number];
    if (loop.owns(kernel, "loop_slice"))
      takeSlice(number++, loop);
    else if (loop.owns(kernel, "loop_stack"))
      stackSlice(number++, loop);
    else if (loop.owns(kernel, "loop_next"))
      loop.next.push_back(graph.kernels[number++]);
    else
      number = compile(number);
  }
  setCurrent(begin);
  for (const Kernel &next : loop.next)
    if (const auto &home = homes[next.reads[0].value]; home && home->buffer >= loop.firstBuffer)
      layouts[next.reads[1].value] = home->layout;
  leaveStates(loop);
  count(loop);
  addStep(StepKind::End, 0);
  if (counts) {
    auto at = static_cast<int64_t>(beginStep);
    code.computeSets[beginSet] = loop.begins.take("begin the loop");
    forEachBuffer(code.computeSets[beginSet],
                  [&](BufferId id) { buffers[id].from = buffers[id].from < 0 ? at : std::min(buffers[id].from, at); });
  }
  // What was there before the first turn is there for all of them.
  auto first = static_cast<int64_t>(loop.firstStep), last = static_cast<int64_t>(steps.size()) - 1;
  for (Buffer &each : buffers)
    if (each.from >= 0 && each.from < first && each.to >= first)
      each.to = std::max(each.to, last);
}

size_t CompilerState::enterState(size_t number, const std::map<ValueId, Layout> &layouts) {
  setCurrent(number);
  const Kernel kernel = graph.kernels[number];
  ValueId initial = kernel.reads[0].value, state = kernel.writes[0].value;
  if (auto wanted = layouts.find(state); wanted != layouts.end())
    place(state, wanted->second);
  else
    placeLike(state, initial, std::nullopt);
  copyValue(initial, state);
  return number + 1;
}

void CompilerState::copyValue(ValueId from, ValueId to) {
  size_t rank = graph.values[to].shape.size();
  VertexSet set(*this);
  copyInto(from, to, std::vector<int64_t>(rank), std::vector<int64_t>(rank, 1), set);
  flush();
  set.execute("copy");
}

BufferId CompilerState::counterOf(OpenLoop &loop, bool reversed, const Layout &where) {
  std::optional<BufferId> &counter = loop.counters[reversed];
  if (!counter)
    counter = buffer(static_cast<int64_t>(byteWidth(ElementType::i32)), firstTile(),
                     firstTile() + static_cast<uint32_t>(machine.tiles) - 1, "counter");
  where.forEachPart([&](uint32_t tile, const Box &) {
    if (loop.countingTiles[reversed].insert(tile).second)
      loop.begins.fill(tile, *counter, 0, static_cast<int64_t>(byteWidth(ElementType::i32)),
                       static_cast<uint64_t>(reversed ? loop.trips : 0), 1);
  });
  return *counter;
}

void CompilerState::bringSequence(size_t number, OpenLoop &loop) {
  setCurrent(number);
  const Kernel kernel = graph.kernels[number];
  ValueId whole = kernel.reads[0].value, slice = kernel.writes[0].value;
  auto axis = static_cast<size_t>(*graph::integerAttribute(kernel, "axis"));
  Layout layout = layoutFor(graph.values[slice].type, graph.values[slice].shape);
  layout.spread(machine.tiles);
  // On the last tiles, which are idle where the body needs few: they take their slices while others end the turn
  // before.
  layout.firstTile += static_cast<uint32_t>(machine.tiles) - 1 - (layout.lastTile() - layout.firstTile);
  // Blocks reach beyond the value: what is there is filled, since slices are taken with their places.
  std::vector<Wanted> wanted;
  llvm::SmallVector<int64_t, 6> grains = layout.grains();
  layout.forEachPart([&](uint32_t tile, const Box &part) {
    Box box;
    for (auto [range, split, grain] : llvm::zip_equal(part, layout.splits, grains))
      box.push_back({range.begin, range.begin + roundUp(split.block, grain)});
    box.insert(box.begin() + static_cast<int64_t>(axis), Interval{0, loop.trips});
    wanted.push_back({tile, box});
  });
  loop.wholes[slice] = operandOf(whole, wanted, stacked(layout.arrangement, axis, loop.trips), layout.lastTile());
  flush();
  place(slice, std::move(layout));
}

void CompilerState::takeSlice(size_t number, OpenLoop &loop) {
  setCurrent(number);
  const Kernel kernel = graph.kernels[number];
  ValueId slice = kernel.writes[0].value;
  const Home home = *homes[slice];
  bool reversed = *graph::integerAttribute(kernel, "reversed") != 0;
  BufferId counter = counterOf(loop, reversed, home.layout), from = loop.wholes.at(slice);
  VertexSet set(*this);
  home.layout.forEachPart([&](uint32_t tile, const Box &) {
    set.add(Codelet::MultiSlice, tile,
            {{home.layout.width()},
             {home.layout.arrangement.elements},
             {loop.trips},
             {reversed ? 1 : 0},
             {1},
             {addressIn(from, 0)},
             {addressIn(counter, 0)},
             {addressIn(home.buffer, 0)}});
  });
  set.execute("slice of the turn");
  loop.behindSlices = steps.size();
}

void CompilerState::stackSlice(size_t number, OpenLoop &loop) {
  setCurrent(number);
  const Kernel kernel = graph.kernels[number];
  ValueId slice = kernel.reads[0].value, whole = kernel.writes[0].value;
  auto axis = static_cast<size_t>(*graph::integerAttribute(kernel, "axis"));
  if (!loop.firstStack && !hasSets(loop.behindSlices, steps.size()))
    execute(ComputeSet{"count the turns", {}});
  if (!loop.firstStack)
    loop.firstStack = steps.size();
  // A copy: temporaries move the homes.
  if (const Home home = homeOf(slice); !isDense(home.layout)) {
    // Beside its elements a slice has places that nothing writes in the turn.
    ValueId dense = temporary(home.layout.type, home.layout.shape, nameOf(slice));
    place(dense, home.layout);
    const Home there = *homes[dense];
    there.layout.forEachPart([&](uint32_t tile, const Box &) {
      loop.begins.fill(tile, there.buffer, 0, there.layout.width(), 0, there.layout.arrangement.elements);
    });
    copyValue(slice, dense);
    slice = dense;
  }
  const Home home = homeOf(slice);
  place(whole, stacked(home.layout, axis, graph.values[whole].shape));
  BufferId to = homes[whole]->buffer;
  bool reversed = *graph::integerAttribute(kernel, "reversed") != 0;
  BufferId counter = counterOf(loop, reversed, home.layout);
  int64_t elements = home.layout.arrangement.elements;
  VertexSet set(*this);
  home.layout.forEachPart([&](uint32_t tile, const Box &) {
    loop.stackTiles.insert(tile);
    loop.begins.fill(tile, to, 0, home.layout.width(), 0, elements * loop.trips);
    set.add(Codelet::MultiUpdate, tile,
            {{numberOfReplace()},
             {numberOf(home.layout.type)},
             {elements},
             {loop.trips},
             {reversed ? 0 : 1},
             {1},
             {addressIn(home.buffer, 0)},
             {addressIn(counter, 0)},
             {addressIn(to, 0)}});
  });
  set.execute("stack the turn's");
}

void CompilerState::leaveStates(OpenLoop &loop) {
  auto memoryOf = [&](ValueId state) { return homes[state]->buffer; };
  // Those that become what another one was are copied first, all at once.
  auto wasState = [&](ValueId value) {
    const auto &home = homes[value];
    return home &&
           llvm::any_of(loop.next, [&](const Kernel &each) { return memoryOf(each.reads[1].value) == home->buffer; });
  };
  std::set<BufferId> kept; // states that are read once more
  for (Kernel &each : loop.next) {
    ValueId &next = each.reads[0].value;
    ValueId state = each.reads[1].value;
    if (!wasState(next))
      continue;
    kept.insert(memoryOf(next));
    if (memoryOf(next) == memoryOf(state) && homes[next]->layout == homes[state]->layout)
      continue; // it stays what it was
    ValueId copy = temporary(graph.values[next].type, graph.values[next].shape, nameOf(next));
    place(copy, homes[state]->layout);
    copyValue(next, copy);
    next = copy;
  }
  for (const Kernel &each : loop.next) {
    ValueId next = each.reads[0].value, state = each.reads[1].value;
    const Home there = *homes[state];
    if (!kept.contains(there.buffer))
      takePlaceOf(next, there, loop);
    if (!homes[next] || homes[next]->buffer != there.buffer)
      copyValue(next, state);
  }
  for (const Kernel &each : loop.next)
    homes[each.writes[0].value] = *homes[each.reads[1].value];
}

bool CompilerState::readsWhereItWrites(const ComputeSet &set, BufferId read, BufferId written) const {
  for (const Vertex &vertex : set.vertices) {
    bool touches = false;
    forEachAddress(vertex,
                   [&](int64_t address) { touches |= bufferOf(address) == read || bufferOf(address) == written; });
    if (!touches)
      continue;
    if (vertex.kind() != Codelet::Map)
      return false;
    const Form &form = *formOf(vertex.codelet);
    auto list = [&](llvm::StringRef name) { return llvm::ArrayRef(vertex.values[form.parameter(name)]); };
    size_t loops = list("extents").size();
    auto strides = [&](llvm::StringRef name, size_t k) { return list(name).slice(k * loops, loops); };
    std::optional<size_t> out;
    for (auto [k, address] : llvm::enumerate(list("out")))
      if (bufferOf(address) == written) {
        if (out)
          return false;
        out = k;
      }
    for (auto [k, address] : llvm::enumerate(list("in"))) {
      if (bufferOf(address) == written)
        return false;
      if (bufferOf(address) != read)
        continue;
      if (!out || offsetOf(address) != offsetOf(list("out")[*out]) ||
          strides("in_strides", k) != strides("out_strides", *out))
        return false;
    }
  }
  return true;
}

void CompilerState::takePlaceOf(ValueId next, const Home &state, const OpenLoop &loop) {
  if (!homes[next] || homes[next]->buffer < loop.firstBuffer || !(homes[next]->layout == state.layout))
    return;
  BufferId made = homes[next]->buffer;
  const Buffer from = buffers[made];
  Buffer &to = buffers[state.buffer];
  if (from.always || from.from < static_cast<int64_t>(loop.firstStep) || from.bytes != to.bytes ||
      from.firstTile != to.firstTile || from.lastTile != to.lastTile)
    return;
  if (to.to > from.from)
    return;
  if (to.to == from.from) {
    const Step &step = steps[static_cast<size_t>(to.to)];
    if (step.kind != StepKind::Execute || !readsWhereItWrites(code.computeSets[step.index], state.buffer, made))
      return;
  }
  for (size_t set = loop.firstSet; set < code.computeSets.size(); ++set)
    for (Vertex &vertex : code.computeSets[set].vertices)
      forEachAddress(vertex, [&](int64_t &address) {
        if (bufferOf(address) == made)
          address = addressIn(state.buffer, offsetOf(address));
      });
  for (size_t exchange = loop.firstExchange; exchange < sendings.size(); ++exchange)
    for (Sending &each : sendings[exchange])
      for (BufferId *id : {&each.from, &each.to})
        if (*id == made)
          *id = state.buffer;
  for (std::optional<Home> &home : homes)
    if (home && home->buffer == made)
      home->buffer = state.buffer;
  to.to = std::max(to.to, from.to);
  buffers[made].from = buffers[made].to = -1;
  buffers[made].bytes = 0;
}

bool CompilerState::hasSets(size_t begin, size_t end) const {
  int64_t open = 0;
  return llvm::any_of(llvm::ArrayRef(steps).slice(begin, end - begin), [&](const Step &step) {
    open += openedBy(step);
    return step.kind == StepKind::Execute && open == 0;
  });
}

void CompilerState::count(OpenLoop &loop) {
  size_t end = loop.firstStack.value_or(steps.size());
  // Tiles that stack are those that compute what becomes of states, the others mostly idle.
  for (bool stacks : {true, false}) {
    VertexSet counting(*this);
    for (bool reversed : {false, true})
      for (uint32_t tile : loop.countingTiles[reversed])
        if (loop.stackTiles.contains(tile) == stacks) {
          int64_t counter = addressIn(*loop.counters[reversed], 0);
          counting.add(Codelet::Map, tile, {{expression(nextNumber(reversed))}, {1}, {counter}, {1}, {counter}, {1}});
        }
    if (counting.empty())
      continue;
    if (!hasSets(loop.behindSlices, end)) {
      counting.execute("count the turns");
      continue;
    }
    ComputeSet added = counting.take("");
    std::vector<Vertex> &vertices = code.computeSets[cheapestSet(loop.behindSlices, end, added)].vertices;
    llvm::append_range(vertices, added.vertices);
  }
}

size_t CompilerState::cheapestSet(size_t begin, size_t end, const ComputeSet &added) const {
  std::vector<std::pair<uint32_t, int64_t>> each = timeOfSet(added, code.expressions, machine, cycles).tiles;
  std::optional<size_t> best;
  int64_t least = 0, open = 0;
  std::map<uint32_t, int64_t> busy; // since the exchange before
  int64_t longest = 0;
  std::optional<size_t> last; // the compute set before the step
  for (size_t at = begin; at <= end; ++at) {
    if (at < end && steps[at].kind == StepKind::Execute && open == 0) {
      last = steps[at].index;
      for (auto [tile, taken] : timeOfSet(code.computeSets[*last], code.expressions, machine, cycles).tiles)
        longest = std::max(longest, busy[tile] += taken);
      continue;
    }
    // Here tiles wait for each other, or a loop begins or ends.
    if (last) {
      int64_t longer = longest;
      for (auto [tile, taken] : each)
        longer = std::max(longer, busy[tile] + taken);
      if (!best || longer - longest < least) {
        best = last;
        least = longer - longest;
      }
    }
    if (at < end)
      open += openedBy(steps[at]);
    busy.clear();
    longest = 0;
    last.reset();
  }
  return *best;
}

} // namespace quadrille::ipu
