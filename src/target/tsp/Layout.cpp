#include "target/tsp/Layout.h"

#include "base/Mix.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <cstring>

namespace quadrille::tsp {

std::string print(const WordAddress &word) {
  return print(QueueName{UnitKind::Memory, word.slice.hemisphere, word.slice.slice, 0}) + ", bank " +
         std::to_string(word.bank) + ", address " + std::to_string(word.address);
}

namespace {

// What one step of an axis adds: to the index of its dimension and to the place.
struct Digit {
  unsigned dimension;
  int64_t extent, indexStep, step;
};

struct Split {
  std::vector<Digit> lanes, slices, addresses;
};

// A digit of extent 1 is always 0 and left out. The others are few, since their extents multiply to what a machine
// holds: this bounds the depth of `enumerate`.
Split split(const Layout &layout) {
  Split result;
  int64_t stepOf[std::numeric_limits<uint8_t>::max() + 1]; // by dimension: of the next more significant digit
  std::fill(std::begin(stepOf), std::end(stepOf), 1);
  for (const Axis &axis : llvm::reverse(layout.axes)) {
    if (axis.extent == 1)
      continue;
    int64_t indexStep = std::exchange(stepOf[axis.dimension], stepOf[axis.dimension] * axis.extent);
    (axis.target == AxisTarget::Lane    ? result.lanes
     : axis.target == AxisTarget::Slice ? result.slices
                                        : result.addresses)
        .push_back({axis.dimension, axis.extent, indexStep, axis.step});
  }
  for (std::vector<Digit> *digits : {&result.lanes, &result.slices, &result.addresses})
    std::reverse(digits->begin(), digits->end());
  return result;
}

// Calls visit(place) for all values of the digits while `index` holds what they add to each dimension's index.
template <typename Visit>
void enumerate(llvm::ArrayRef<Digit> digits, std::vector<int64_t> &index, int64_t place, const Visit &visit) {
  if (digits.empty())
    return visit(place);
  const Digit &digit = digits.front();
  for (int64_t value = 0; value < digit.extent; ++value) {
    enumerate(digits.drop_front(), index, place + value * digit.step, visit);
    index[digit.dimension] += digit.indexStep;
  }
  index[digit.dimension] -= digit.extent * digit.indexStep;
}

} // namespace

ElementBox boxOf(const Layout &layout, const program::Variable &variable) {
  ElementBox box{Shape(variable.shape.size(), 0), variable.shape};
  for (const DimensionRange &range : layout.ranges) {
    box.begin[range.dimension] = range.begin;
    box.extents[range.dimension] = range.extent;
  }
  return box;
}

std::string outputProblem(llvm::ArrayRef<const Layout *> layouts, const program::Variable &variable) {
  using llvm::Twine;
  constexpr size_t most = 4096; // pairs of them are compared
  if (layouts.size() > most)
    return (Twine(layouts.size()) + " layouts, at most " + Twine(most) + " are allowed").str();
  if (llvm::any_of(layouts, [&](const Layout *layout) {
        return isNarrowed(*layout, variable) != isNarrowed(*layouts[0], variable);
      }))
    return "layouts of 4 bytes and of 8";
  std::vector<ElementBox> boxes;
  int64_t elements = 0, all = elementCount(variable.shape);
  for (const Layout *layout : layouts) {
    ElementBox box = boxOf(*layout, variable);
    for (const ElementBox &other : boxes) {
      bool apart = false;
      for (size_t d = 0; d < box.begin.size(); ++d)
        apart |= box.begin[d] + box.extents[d] <= other.begin[d] || other.begin[d] + other.extents[d] <= box.begin[d];
      if (!apart)
        return "two layouts with the same elements";
    }
    elements += elementCount(box.extents);
    boxes.push_back(std::move(box));
  }
  return elements == all ? "" : ("layouts of " + Twine(elements) + " of its " + Twine(all) + " elements").str();
}

std::string inputProblem(llvm::ArrayRef<const Layout *> layouts, const program::Variable &variable) {
  int64_t all = elementCount(variable.shape);
  while (!layouts.empty()) {
    size_t parts = 0;
    for (int64_t elements = 0; elements < all && parts < layouts.size(); ++parts)
      elements += elementCount(boxOf(*layouts[parts], variable).extents);
    parts = std::max<size_t>(parts, 1); // also of what has no elements
    if (std::string problem = outputProblem(layouts.take_front(parts), variable); !problem.empty())
      return problem;
    layouts = layouts.drop_front(parts);
  }
  return "";
}

std::string layoutProblem(const Layout &layout, const program::Variable &variable, const Architecture &machine) {
  using llvm::Twine;
  size_t rank = variable.shape.size();
  if (rank > mostDimensions)
    return ("the variable has rank " + Twine(rank) + ", a layout has at most " + Twine(mostDimensions) + " dimensions")
        .str();
  if (layout.chip >= machine.chips)
    return ("chip " + Twine(layout.chip) + " is not in 0.." + Twine(machine.chips - 1)).str();
  if (layout.bank >= machine.banks)
    return ("bank " + Twine(unsigned(layout.bank)) + " is not in 0.." + Twine(machine.banks - 1)).str();
  if (layout.slices.empty())
    return "it has no slices";
  if (static_cast<int64_t>(layout.slices.size()) > machine.hemispheres * machine.slices)
    return "it lists more slices than the machine has";
  for (SliceName slice : layout.slices)
    if (std::string problem = queueProblem({UnitKind::Memory, slice.hemisphere, slice.slice, 0}, machine);
        !problem.empty())
      return print(QueueName{UnitKind::Memory, slice.hemisphere, slice.slice, 0}) + ": " + problem;
  for (size_t i = 0; i < layout.slices.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (layout.slices[i] == layout.slices[j])
        return print(QueueName{UnitKind::Memory, layout.slices[i].hemisphere, layout.slices[i].slice, 0}) +
               " is listed twice";

  std::vector<bool> ranged(rank);
  for (const DimensionRange &range : layout.ranges) {
    if (range.dimension >= rank)
      return ("range of dimension " + Twine(unsigned(range.dimension)) + ", but the variable has rank " + Twine(rank))
          .str();
    if (ranged[range.dimension])
      return ("it has two ranges of dimension " + Twine(unsigned(range.dimension))).str();
    ranged[range.dimension] = true;
    if (range.extent == 0 || int64_t(range.begin) + range.extent > variable.shape[range.dimension])
      return ("indices " + Twine(range.begin) + ".." + Twine(int64_t(range.begin) + range.extent - 1) +
              " of dimension " + Twine(unsigned(range.dimension)) + " are not in 0.." +
              Twine(variable.shape[range.dimension] - 1))
          .str();
  }
  Shape extents = boxOf(layout, variable).extents;

  // Products and sums are bounded before they are multiplied further: nothing here can overflow.
  std::vector<int64_t> covered(rank + 1, 1);
  int64_t words = 1, lanes = 1, lastLane = 0, lastSlice = 0, lastAddress = layout.address;
  constexpr uint32_t bound = 1u << 30;
  for (const Axis &axis : layout.axes) {
    if (axis.dimension > rank)
      return ("axis of dimension " + Twine(unsigned(axis.dimension)) + ", but the variable has rank " + Twine(rank))
          .str();
    if (axis.extent == 0)
      return "an axis has extent 0";
    if (axis.extent > bound || axis.step > bound)
      return "it is larger than the machine's memory";
    covered[axis.dimension] *= axis.extent;
    (axis.target == AxisTarget::Lane ? lanes : words) *= axis.extent;
    int64_t &last = axis.target == AxisTarget::Lane    ? lastLane
                    : axis.target == AxisTarget::Slice ? lastSlice
                                                       : lastAddress;
    last += int64_t(axis.extent - 1) * axis.step;
    if (covered[axis.dimension] > bound || words > bound || lanes > bound || last > bound)
      return "it is larger than the machine's memory";
  }
  if (lastLane >= machine.vectorBytes())
    return ("lane " + Twine(lastLane) + " is not in 0.." + Twine(machine.vectorBytes() - 1)).str();
  if (lastSlice >= static_cast<int64_t>(layout.slices.size()))
    return ("it uses " + Twine(lastSlice + 1) + " slices and lists " + Twine(layout.slices.size())).str();
  if (lastAddress >= machine.words)
    return ("address " + Twine(lastAddress) + " is not in 0.." + Twine(machine.words - 1)).str();
  for (size_t d = 0; d < rank; ++d)
    if (covered[d] < extents[d])
      return ("its axes cover " + Twine(covered[d]) + " of the " + Twine(extents[d]) + " indices of dimension " +
              Twine(d))
          .str();
  if (covered[rank] != static_cast<int64_t>(byteWidth(variable.type)) && !isNarrowed(layout, variable))
    return ("its axes cover " + Twine(covered[rank]) + " bytes of an element that has " +
            Twine(byteWidth(variable.type)))
        .str();
  if (words > static_cast<int64_t>(layout.slices.size()) * machine.words || lanes > machine.vectorBytes())
    return "two of its elements lie in the same place";

  // Neither two words nor two lanes of a word may coincide.
  Split digits = split(layout);
  std::vector<int64_t> index(rank + 1);
  bool twice = false;
  std::vector<bool> laneUsed(machine.vectorBytes());
  enumerate(digits.lanes, index, 0, [&](int64_t lane) {
    twice |= laneUsed[lane];
    laneUsed[lane] = true;
  });
  std::vector<bool> wordUsed(layout.slices.size() * machine.words);
  enumerate(digits.slices, index, 0, [&](int64_t slice) {
    enumerate(digits.addresses, index, layout.address, [&](int64_t address) {
      size_t word = slice * machine.words + address;
      twice |= wordUsed[word];
      wordUsed[word] = true;
    });
  });
  return twice ? "two of its elements lie in the same place" : "";
}

bool isNarrowed(const Layout &layout, const program::Variable &variable) {
  constexpr uint32_t narrowBytes = 4;
  if (variable.type != ElementType::i64 && variable.type != ElementType::u64)
    return false;
  uint64_t bytes = 1;
  for (const Axis &axis : layout.axes)
    if (axis.dimension == variable.shape.size())
      bytes = std::min<uint64_t>(bytes * axis.extent, 2 * narrowBytes);
  return bytes == narrowBytes;
}

void WordContents::load(const std::byte *data, std::byte *word) const {
  if (stride == 1) {
    std::memcpy(word, data + base, count);
    std::memset(word + count, 0, lanes.size() - count);
    return;
  }
  if (stride > 1) {
    for (int64_t lane = 0; lane < count; ++lane)
      word[lane] = data[base + lane * stride];
    std::memset(word + count, 0, lanes.size() - count);
    return;
  }
  for (size_t lane = 0; lane < lanes.size(); ++lane)
    word[lane] = lanes[lane] == padding ? std::byte(0) : data[base + lanes[lane]];
}

void WordContents::store(const std::byte *word, std::byte *data) const {
  if (stride == 1) {
    std::memcpy(data + base, word, count);
    return;
  }
  if (stride > 1) {
    for (int64_t lane = 0; lane < count; ++lane)
      data[base + lane * stride] = word[lane];
    return;
  }
  for (size_t lane = 0; lane < lanes.size(); ++lane)
    if (lanes[lane] != padding)
      data[base + lanes[lane]] = word[lane];
}

void forEachWord(const Layout &layout, const program::Variable &variable, const Architecture &machine,
                 llvm::function_ref<void(const WordAddress &, const WordContents &)> visit) {
  Split digits = split(layout);
  size_t rank = variable.shape.size();
  Shape strides = rowMajorStrides(variable.shape);
  ElementBox box = boxOf(layout, variable);
  int64_t first = 0; // element
  for (size_t d = 0; d < rank; ++d)
    first += box.begin[d] * strides[d];
  auto width = static_cast<int64_t>(byteWidth(variable.type));
  std::vector<int64_t> index(rank + 1), lanes(machine.vectorBytes());

  // The lanes of the word at `index`; most words have all their elements, and then the same lanes as each other.
  auto describe = [&]() -> WordContents {
    WordContents contents;
    std::fill(lanes.begin(), lanes.end(), WordContents::padding);
    enumerate(digits.lanes, index, 0, [&](int64_t lane) {
      int64_t element = first;
      for (size_t d = 0; d < rank; ++d) {
        if (index[d] >= box.extents[d])
          return;
        element += index[d] * strides[d];
      }
      lanes[lane] = element * width + index[rank];
    });
    for (int64_t &lane : lanes) {
      if (lane == WordContents::padding)
        continue;
      if (std::exchange(contents.empty, false))
        contents.base = lane;
      lane -= contents.base;
    }
    for (int64_t lane : lanes)
      contents.hash = splitMix(contents.hash * splitMixIncrement + static_cast<uint64_t>(lane));
    auto used = static_cast<int64_t>(lanes.size() - llvm::count(lanes, WordContents::padding));
    int64_t step = used > 1 ? lanes[1] : 1;
    bool regular = step > 0;
    for (int64_t lane = 0; lane < used && regular; ++lane)
      regular = lanes[lane] == lane * step;
    if (regular) {
      contents.stride = step;
      contents.count = used;
    }
    contents.lanes = lanes;
    return contents;
  };
  // How far the digits of the lanes reach in each dimension.
  std::vector<int64_t> reach(rank + 1);
  for (const Digit &digit : digits.lanes)
    reach[digit.dimension] += (digit.extent - 1) * digit.indexStep;
  auto isWhole = [&] {
    for (size_t d = 0; d < rank; ++d)
      if (index[d] + reach[d] >= box.extents[d])
        return false;
    return true;
  };
  auto byteOf = [&] {
    int64_t element = first;
    for (size_t d = 0; d < rank; ++d)
      element += index[d] * strides[d];
    return element * width + index[rank];
  };
  std::vector<int64_t> wholeLanes;
  WordContents whole;
  int64_t wholeByte = 0; // of the word from which `whole` was made
  enumerate(digits.slices, index, 0, [&](int64_t slice) {
    enumerate(digits.addresses, index, layout.address, [&](int64_t address) {
      WordContents contents;
      if (!isWhole()) {
        contents = describe();
      } else if (wholeLanes.empty()) {
        contents = describe();
        wholeByte = byteOf();
        wholeLanes = lanes;
        whole = contents;
        whole.lanes = wholeLanes;
      } else {
        contents = whole;
        contents.base += byteOf() - wholeByte;
      }
      visit({layout.slices[slice], layout.bank, static_cast<uint32_t>(address)}, contents);
    });
  });
}

} // namespace quadrille::tsp
