// Moves of whole vectors and whole superlanes: what the permuters can do in one pass, and, where a vector is put
// together from superlanes of several, a gather behind them.
#include "base/Error.h"
#include "target/tsp/CompilerState.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"

#include <cstring>
#include <set>

namespace quadrille::tsp {

namespace {

// Where the lanes of one vector of the result come from.
struct VectorOrigin {
  std::vector<SourceVector> vectors; // by lane; source -1: from nowhere
  std::vector<int64_t> lanes;
  bool padded = false; // a lane among its columns is padding
};

VectorOrigin originOfVector(llvm::ArrayRef<RegionPointer> sources, const Region &shape, int64_t row, int64_t piece,
                            OriginOf originOf, int64_t lanes) {
  VectorOrigin result;
  result.vectors.resize(lanes);
  result.lanes.assign(lanes, -1);
  int64_t width = std::min(shape.width, shape.columns - piece * shape.width);
  for (int64_t lane = 0; lane < width; ++lane) {
    ElementOrigin origin = originOf(row * shape.columns + piece * shape.width + lane);
    if (origin.source < 0) {
      result.padded = true;
      continue;
    }
    const Region &from = *sources[origin.source];
    int64_t column = origin.index % from.columns;
    result.vectors[lane] = {origin.source, origin.index / from.columns, column / from.width};
    result.lanes[lane] = column % from.width;
  }
  return result;
}

// One vector, each of whose lanes is taken at most once.
bool comesFromOneVector(const VectorOrigin &origin) {
  const SourceVector *only = nullptr;
  std::vector<bool> taken(origin.lanes.size());
  for (auto [lane, from] : llvm::enumerate(origin.lanes)) {
    if (from < 0)
      continue;
    if ((only && origin.vectors[lane] != *only) || taken[from])
      return false;
    only = &origin.vectors[lane];
    taken[from] = true;
  }
  return true;
}

// The lanes of each superlane from one superlane of one vector, in their order.
bool comesFromSuperlanes(const VectorOrigin &origin, int64_t lanes) {
  for (size_t first = 0; first < origin.lanes.size(); first += lanes) {
    std::optional<std::pair<SourceVector, int64_t>> only;
    for (size_t lane = first; lane < first + lanes; ++lane) {
      if (origin.lanes[lane] < 0)
        continue;
      std::pair from(origin.vectors[lane], origin.lanes[lane] / lanes);
      if ((only && *only != from) || origin.lanes[lane] % lanes != static_cast<int64_t>(lane - first))
        return false;
      only = from;
    }
  }
  return true;
}

// The order of all lanes that has the given ones; lanes that nothing is said of take what is left.
std::vector<int64_t> completed(std::vector<int64_t> order) {
  std::vector<bool> taken(order.size());
  for (int64_t from : order)
    if (from >= 0)
      taken[from] = true;
  // A lane that nothing needs stays in its place where that is free.
  for (auto [lane, from] : llvm::enumerate(order))
    if (from < 0 && !taken[lane]) {
      from = static_cast<int64_t>(lane);
      taken[lane] = true;
    }
  size_t next = 0;
  for (int64_t &from : order)
    if (from < 0) {
      while (taken[next])
        ++next;
      from = static_cast<int64_t>(next);
      taken[next] = true;
    }
  return order;
}

} // namespace

llvm::Expected<RegionPointer> CompilerState::laneOrder(const std::vector<int64_t> &from, unsigned hemisphere,
                                                       llvm::ArrayRef<const Region *> avoid) {
  std::vector<RegionPointer> &known = laneOrders[{from, hemisphere}];
  for (const RegionPointer &region : known)
    if (llvm::none_of(avoid, [&](const Region *other) { return other->sharesSlices(*region); }))
      return region;
  Tensor map = Tensor::uninitialized(ElementType::u16, {1, machine.vectorBytes()});
  for (auto [lane, source] : llvm::enumerate(from))
    map.mutableData<uint16_t>()[lane] = static_cast<uint16_t>(source);
  auto made =
      constantRegion("lane order", ElementType::u16, 1, machine.vectorBytes(), std::move(map), avoid, hemisphere);
  if (made)
    known.push_back(*made);
  return made;
}

llvm::Error CompilerState::permuteVectors(llvm::ArrayRef<RegionPointer> sources, const RegionPointer &to,
                                          llvm::ArrayRef<PermutedVector> vectors) {
  constexpr int64_t runs = 4;
  // Vectors in the same order whose places are at equal distances.
  for (size_t begin = 0; begin < vectors.size();) {
    const PermutedVector &first = vectors[begin];
    size_t end = begin + 1;
    auto step = [&](size_t i) {
      return std::pair(vectors[i].row - vectors[i - 1].row, vectors[i].word - vectors[i - 1].word);
    };
    auto same = [&](const PermutedVector &other) {
      return std::tie(other.source, other.piece, other.orderNumber) ==
                 std::tie(first.source, first.piece, first.orderNumber) &&
             other.word / to->rows == first.word / to->rows;
    };
    while (end < vectors.size() && same(vectors[end]) && step(end) == step(begin + 1))
      ++end;
    auto [rowStep, wordStep] = end - begin > 1 ? step(begin + 1) : std::pair<int64_t, int64_t>();
    RegionPointer source = sources[first.source];
    int64_t piece = first.word / to->rows, row = first.word % to->rows;
    if (llvm::equal(*first.order, llvm::seq<int64_t>(0, machine.vectorBytes()))) {
      // All bytes at once, past the permuters.
      auto zero = splatRegion(ElementType::u8, 0, {source.get(), to.get()}, std::nullopt);
      if (!zero)
        return zero.takeError();
      placeInParts(
          static_cast<int64_t>(end - begin), machine.repeatMaximum,
          [&, rowStep = rowStep, wordStep = wordStep](int64_t variant, int64_t from, int64_t count) {
            auto hemisphere = static_cast<unsigned>(variant % machine.hemispheres);
            int64_t base = variant / machine.hemispheres * machine.streams / runs;
            Group group;
            for (int64_t byte = 0; byte < to->bytes(); ++byte)
              addRead(group, *source, first.piece, byte, first.row + from * rowStep, rowStep,
                      streamOf(machine.outward(hemisphere), base + byte), {hemisphere, 0}, count);
            addTurn(group, **zero, hemisphere, base, to->bytes(), variant % machine.distributors, count);
            for (int64_t byte = 0; byte < to->bytes(); ++byte)
              addWrite(group, *to, piece, byte, row + from * wordStep, wordStep,
                       streamOf(machine.inward(hemisphere), base + byte), {hemisphere, machine.switchDistribute},
                       count);
            return group;
          },
          machine.hemispheres * runs);
      begin = end;
      continue;
    }
    std::vector<RegionPointer> orders;
    for (unsigned hemisphere = 0; hemisphere < machine.hemispheres; ++hemisphere) {
      auto order = laneOrder(*first.order, hemisphere, {source.get(), to.get()});
      if (!order)
        return order.takeError();
      orders.push_back(*order);
    }
    for (int64_t byte = 0; byte < to->bytes(); ++byte)
      placeInParts(
          static_cast<int64_t>(end - begin), machine.repeatMaximum,
          [&, rowStep = rowStep, wordStep = wordStep](int64_t variant, int64_t from, int64_t count) {
            auto hemisphere = static_cast<unsigned>((variant + byte) % machine.hemispheres);
            int64_t base = variant / machine.hemispheres * machine.streams / runs;
            Direction away = machine.outward(hemisphere), back = machine.inward(hemisphere);
            SwitchTiming in{hemisphere, 0}, out{hemisphere, machine.switchShiftAcross};
            Group group;
            addRead(group, *source, first.piece, byte, first.row + from * rowStep, rowStep, streamOf(away, base + 2),
                    in, count);
            for (int64_t half = 0; half < 2; ++half)
              addRead(group, *orders[hemisphere], 0, half, 0, 0, streamOf(away, base + half), in, count);
            group.steps.push_back(
                {switchQueue(hemisphere, SwitchPart::Permuter, 0),
                 switchInstruction(Opcode::Permute, {{Member::Small0, 0},
                                                     {Member::Small1, streamOf(away, base + 2).byte()},
                                                     {Member::Byte0, streamOf(away, base).byte()},
                                                     {Member::Small2, streamOf(back, base).byte()}}),
                 0, count});
            addWrite(group, *to, piece, byte, row + from * wordStep, wordStep, streamOf(back, base), out, count);
            return group;
          },
          machine.hemispheres * runs);
    begin = end;
  }
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::moveVectors(llvm::ArrayRef<RegionPointer> sources, const Region &shape,
                                                         uint64_t padding, OriginOf originOf) {
  constexpr size_t mostOrders = 256;
  int64_t lanes = machine.lanes, vector = machine.vectorBytes();
  // Of the result's words, piece by piece: the vector that is permuted, or for each superlane where it comes from.
  std::map<std::vector<int64_t>, int64_t> orders;
  std::vector<PermutedVector> permuted;
  std::vector<SuperlaneOrigin> superlanes;
  bool whole = true, bySuperlane = true, padded = false;
  for (int64_t piece = 0; piece < shape.pieces; ++piece)
    for (int64_t row = 0; row < shape.rows && (whole || bySuperlane); ++row) {
      VectorOrigin origin = originOfVector(sources, shape, row, piece, originOf, vector);
      whole = whole && comesFromOneVector(origin);
      bySuperlane = bySuperlane && comesFromSuperlanes(origin, lanes);
      padded |= origin.padded;
      if (whole) {
        SourceVector from{0, 0, 0}; // of nothing but padding: whatever there is
        for (const SourceVector &each : origin.vectors)
          if (each.source >= 0)
            from = each;
        auto [order, fresh] = orders.try_emplace(completed(origin.lanes), static_cast<int64_t>(orders.size()));
        permuted.push_back(
            {from.source, from.row, from.piece, static_cast<int64_t>(permuted.size()), order->second, &order->first});
        whole = orders.size() <= mostOrders;
      }
      for (int64_t first = 0; first < vector && bySuperlane; first += lanes) {
        SuperlaneOrigin each;
        for (int64_t lane = first; lane < first + lanes; ++lane)
          if (origin.lanes[lane] >= 0)
            each = {origin.vectors[lane], (origin.lanes[lane] - lane + vector) / lanes % machine.superlanes};
        superlanes.push_back(each);
      }
    }
  if (!whole && !bySuperlane)
    return RegionPointer();
  std::vector<const Region *> clear;
  for (const RegionPointer &source : sources)
    clear.push_back(source.get());
  auto target = allocateInSegments(shape, clear);
  if (!target && sources.size() > 1) {
    // Many sources take many slices; those of the one that shares some with the result are moved few at a time.
    llvm::consumeError(target.takeError());
    noRoom.reset();
    target = allocateInSegments(shape, {});
  }
  if (!target)
    return target.takeError();
  // The orders need slices of their own on both sides, which matrices of many segments leave no room for.
  for (unsigned hemisphere = 0; hemisphere < machine.hemispheres; ++hemisphere) {
    std::set<SliceName> taken((*target)->slices.begin(), (*target)->slices.end());
    for (const RegionPointer &source : sources)
      taken.insert(source->slices.begin(), source->slices.end());
    int64_t left = llvm::count(machine.reserved[hemisphere], false) -
                   llvm::count_if(taken, [&](SliceName name) { return name.hemisphere == hemisphere; });
    if (left < static_cast<int64_t>(byteWidth(ElementType::u16)))
      return RegionPointer();
  }
  if (whole) {
    llvm::stable_sort(permuted, [](const PermutedVector &a, const PermutedVector &b) {
      return std::tie(a.orderNumber, a.source, a.piece, a.row) < std::tie(b.orderNumber, b.source, b.piece, b.row);
    });
    if (llvm::Error error = permuteVectors(sources, *target, permuted))
      return std::move(error);
  } else if (llvm::Error error = gatherRotated(sources, *target, superlanes)) {
    return std::move(error);
  }
  return padded ? padLanes(*target, padding, originOf) : *target;
}

llvm::Error CompilerState::gatherRotated(llvm::ArrayRef<RegionPointer> sources, const RegionPointer &to,
                                         llvm::ArrayRef<SuperlaneOrigin> superlanes) {
  int64_t lanes = machine.lanes, vector = machine.vectorBytes(), words = to->rows * to->pieces;
  std::vector<const Region *> clear = {to.get()};
  for (const RegionPointer &source : sources)
    clear.push_back(source.get());
  std::vector<std::vector<int64_t>> orders(machine.superlanes); // by the superlanes that vectors are rotated by
  // What is gathered lies in one bank: as many words of the result at once as need no more than that.
  for (int64_t first = 0; first < words;) {
    std::map<std::pair<int64_t, SourceVector>, int64_t> rotated; // by superlanes and vector: its number
    int64_t end = first;
    for (; end < words && end < first + machine.words; ++end) {
      std::vector<std::pair<int64_t, SourceVector>> added;
      for (const SuperlaneOrigin &each : superlanes.slice(end * machine.superlanes, machine.superlanes))
        if (each.vector.source >= 0 && rotated.try_emplace({each.apart, each.vector}, 0).second)
          added.emplace_back(each.apart, each.vector);
      if (static_cast<int64_t>(rotated.size()) > machine.words) {
        for (const auto &each : added)
          rotated.erase(each);
        break;
      }
    }
    std::vector<PermutedVector> permuted;
    for (auto [number, each] : llvm::enumerate(rotated)) {
      each.second = static_cast<int64_t>(number);
      auto &[apart, from] = each.first;
      std::vector<int64_t> &order = orders[apart];
      for (int64_t lane = static_cast<int64_t>(order.size()); lane < vector; ++lane)
        order.push_back((lane + apart * lanes) % vector);
      permuted.push_back({from.source, from.row, from.piece, each.second, apart, &order});
    }
    auto count = std::max<int64_t>(static_cast<int64_t>(permuted.size()), 1);
    // On the side of the result, if there is room: what is gathered need not cross the chip.
    Region shape = Region::of(to->type, count, vector, vector);
    llvm::Expected<RegionPointer> from = placement.allocate(shape, clear, to->hemisphere);
    if (!*from)
      from = allocate(shape, clear);
    if (!from)
      return from.takeError();
    if (permuted.empty()) // nothing but padding: whatever there is
      permuted.push_back({0, 0, 0, 0, 0, &orders[0]});
    if (llvm::Error error = permuteVectors(sources, *from, permuted))
      return error;
    Tensor map = Tensor::zeros(ElementType::u8, {end - first, vector});
    for (int64_t word = first; word < end; ++word)
      for (int64_t superlane = 0; superlane < machine.superlanes; ++superlane) {
        const SuperlaneOrigin &each = superlanes[word * machine.superlanes + superlane];
        if (each.vector.source < 0)
          continue;
        int64_t number = rotated.at({each.apart, each.vector});
        std::byte *at = map.mutableBytes() + (word - first) * vector + superlane * lanes;
        for (int64_t byte = 0; byte < machine.gatherAddressBytes; ++byte)
          at[byte] = static_cast<std::byte>(number >> 8 * byte & 0xff);
      }
    if (llvm::Error error = gatherSuperlanes(*from, std::move(map), to, first))
      return error;
    first = end;
  }
  return llvm::Error::success();
}

llvm::Expected<RegionPointer> CompilerState::moveThroughSwitch(llvm::ArrayRef<RegionPointer> sources,
                                                               const Region &shape, uint64_t padding,
                                                               OriginOf originOf) {
  if (sources.size() == 1)
    if (auto read = transposedRead(*sources[0], shape.rows, shape.columns, originOf)) {
      auto made = transposed(sources[0], *read);
      if (!made || *made)
        return made;
    }
  return moveVectors(sources, shape, padding, originOf);
}

llvm::Expected<std::vector<WeightBlocks>>
CompilerState::spreadWeights(const RegionPointer &from, int64_t height, int64_t columns,
                             llvm::function_ref<ElementOrigin(int64_t row, int64_t lane)> originOf) {
  int64_t vector = machine.vectorBytes();
  // Rows of one piece at equal distances lie as they are wanted; others are brought together first.
  auto elementOf = [&](int64_t row, int64_t lane) { return originOf(row, lane).index; };
  int64_t first = elementOf(0, 0) / from->columns, piece = elementOf(0, 0) % from->columns / from->width;
  int64_t step = height > 1 ? elementOf(1, 0) / from->columns - first : 1;
  bool asItLies = true;
  for (int64_t row = 0; row < height && asItLies; ++row)
    for (int64_t lane = 0; lane < columns && asItLies; ++lane) {
      ElementOrigin origin = originOf(row, lane);
      asItLies = origin.source == 0 && origin.index / from->columns == first + row * step &&
                 origin.index % from->columns == piece * from->width + lane;
    }
  RegionPointer rows = from;
  if (!asItLies) {
    auto moved = moveThroughSwitch({from}, Region::of(from->type, height, columns, vector), 0,
                                   [&](int64_t element) { return originOf(element / columns, element % columns); });
    if (!moved)
      return moved.takeError();
    if (!*moved)
      return std::vector<WeightBlocks>();
    rows = *moved;
    first = piece = 0;
    step = 1;
  }
  int64_t lines = machine.installRows, blocks = (height + lines - 1) / lines, bytes = rows->bytes();
  if (lines != machine.lanes)
    return std::vector<WeightBlocks>();
  SpreadRows to;
  to.type = rows->type;
  to.rows = height;
  Region shape;
  shape.type = ElementType::u8;
  shape.rows = blocks * bytes;
  shape.columns = lines * vector;
  shape.pieces = lines;
  shape.width = vector;
  shape.spread = true;
  auto zero = splatRegion(ElementType::u8, 0, {rows.get()}, std::nullopt);
  if (!zero)
    return zero.takeError();
  auto all = allocate(shape, {rows.get(), zero->get()}, std::nullopt, /*anywhere=*/true);
  if (!all)
    return all.takeError();
  to.halves = {*all};
  auto spread = spreadRows(rows, piece, first, step, height, to);
  if (!spread)
    return spread.takeError();
  // A plane of bytes is a region whose slices stand in another order.
  std::vector<WeightBlocks> result;
  for (int64_t byte = 0; byte < bytes; ++byte) {
    RegionPointer plane(new Region(**all), [whole = *all](Region *view) {
      whole->lastRead = std::max(whole->lastRead, view->lastRead);
      delete view;
    });
    for (int64_t line = 0; line < lines; ++line)
      plane->slices[line] = (*all)->slices[to.slice(line, byte, machine).second];
    result.push_back({plane, byte * blocks, height});
  }
  return result;
}

llvm::Expected<RegionPointer> CompilerState::padLanes(const RegionPointer &values, uint64_t padding,
                                                      OriginOf originOf) {
  // Which elements are values; one row is enough when all are alike.
  int64_t rows = values->rows, columns = values->columns;
  Tensor inside = Tensor::zeros(ElementType::boolean, {rows, columns});
  bool alike = true;
  for (int64_t element = 0; element < rows * columns; ++element) {
    inside.mutableBytes()[element] = std::byte(originOf(element).source >= 0);
    alike &= inside.bytes()[element] == inside.bytes()[element % columns];
  }
  if (alike) {
    Tensor one = Tensor::uninitialized(ElementType::boolean, {1, columns});
    std::memcpy(one.mutableBytes(), inside.bytes().data(), columns);
    inside = std::move(one);
  }
  auto mask =
      constantRegion("not padding", ElementType::boolean, alike ? 1 : rows, columns, std::move(inside), {values.get()});
  if (!mask)
    return mask.takeError();
  BlockExpression body;
  body.inputs = {values->type, ElementType::boolean};
  Register value = body.append(BlockOpcode::Input, values->type, {}, 0);
  Register taken = body.append(BlockOpcode::Input, ElementType::boolean, {}, 1);
  Register other = body.append(BlockOpcode::Constant, values->type, {}, padding);
  body.results = {body.append(BlockOpcode::Select, values->type, {taken, value, other})};
  std::vector<int64_t> all(rows);
  for (auto [row, index] : llvm::enumerate(all))
    index = static_cast<int64_t>(row);
  auto result = stream(body, {{values, all}, {*mask, alike ? std::vector<int64_t>(rows) : all}}, rows, columns);
  if (!result)
    return result.takeError();
  return result->front();
}

} // namespace quadrille::tsp
