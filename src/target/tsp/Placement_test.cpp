// Memory for values and weights, and chains that leave others alone.
#include "target/tsp/Chain.h"
#include "target/tsp/Placement.h"
#include "target/tsp/TestProgram.h"

#include "llvm/ADT/STLExtras.h"

#include "gtest/gtest.h"

#include <bit>
#include <set>

namespace quadrille::tsp {
namespace {

Architecture card() {
  return llvm::cantFail(Architecture::from(llvm::cantFail(machine::Machine::load("groqcard"))));
}

// Where a region lies: it may be gone since.
struct Place {
  std::vector<SliceName> slices;
  uint8_t bank;
  int64_t begin, end;
  bool meets(const Place &other) const {
    return bank == other.bank && begin < other.end && other.begin < end &&
           llvm::any_of(slices, [&](SliceName slice) { return llvm::is_contained(other.slices, slice); });
  }
};
Place placeOf(const Region &region) {
  return {region.slices, region.starts[0].bank, region.starts[0].address,
          region.starts[0].address + region.wordsNeeded()};
}

TEST(TspPlacement, ValuesFromBelowWeightsFromAbove) {
  Architecture machine = card();
  Placement placement(machine);
  RegionPointer value = placement.allocate(Region::of(ElementType::f16, 100, 320, machine.vectorBytes()), {});
  RegionPointer bias = placement.allocate(Region::of(ElementType::f32, 1, 320, machine.vectorBytes()), {}, std::nullopt,
                                          /*anywhere=*/false, /*initial=*/true);
  ASSERT_TRUE(value && bias);
  EXPECT_EQ(value->starts[0].address, 0);
  EXPECT_EQ(bias->starts[0].address, machine.words - 1);
  EXPECT_EQ(bias->starts[0].bank, 0); // single rows leave the other bank whole
}

// Values come and go: none lies on another one that is needed, and what is there when the program starts on nothing
// that was ever written.
TEST(TspPlacement, NothingLiesOnWhatIsNeeded) {
  Architecture machine = card();
  Placement placement(machine);
  uint32_t state = 11;
  auto next = [&](int64_t below) {
    state = state * 1664525 + 1013904223;
    return static_cast<int64_t>(state >> 16) % below;
  };
  std::vector<RegionPointer> live;
  std::vector<Place> ever;
  int64_t refused = 0;
  for (int64_t i = 0; i < 600; ++i) {
    bool initial = next(4) == 0;
    constexpr ElementType types[] = {ElementType::u8, ElementType::f16, ElementType::f32};
    Region shape = Region::of(types[next(3)], 1 + next(initial ? 40 : 900), 1 + next(700), machine.vectorBytes());
    RegionPointer region = placement.allocate(shape, {}, std::nullopt, false, initial);
    refused += !region;
    if (!region)
      continue;
    Place place = placeOf(*region);
    EXPECT_LE(place.end, machine.words);
    for (const RegionPointer &other : live)
      EXPECT_FALSE(place.meets(placeOf(*other)));
    for (const Place &other : ever)
      EXPECT_FALSE(initial && place.meets(other));
    ever.push_back(place);
    live.push_back(region);
    if (live.size() > 30)
      live.erase(live.begin() + next(30));
  }
  EXPECT_EQ(refused, 0); // 30 values take at most 30 * 4 * 2700 words of 88 * 8192
}

// Slices that are full at different ends: those that have the words free at the same addresses are found although none
// that follow each other in the order of their free words do.
TEST(TspPlacement, SlicesThatHaveAddressesInCommonAreFound) {
  Architecture machine = card();
  Placement placement(machine);
  int64_t half = machine.words / 2, slices = llvm::count(machine.reserved[east], false);
  std::vector<RegionPointer> kept;
  auto take = [&](int64_t rows) {
    kept.push_back(placement.allocate(Region::of(ElementType::u8, rows, 320, machine.vectorBytes()), {}, east));
    return kept.back();
  };
  // Every slice of both banks has a lower and an upper half; every other slice keeps the upper one, the rest the lower.
  for (int64_t i = 0; i < 2 * slices * machine.banks; ++i)
    ASSERT_TRUE(take(half));
  llvm::erase_if(kept, [&](const RegionPointer &region) {
    return (region->starts[0].address == 0) == (region->slices[0].slice % 2 == 0);
  });
  int64_t alike = 0;
  for (int64_t slice = 0; slice < machine.slices; slice += 2)
    alike += !machine.reserved[east][slice];
  Region wide = Region::of(ElementType::u8, half, 320 * alike, machine.vectorBytes());
  wide.spread = true;
  RegionPointer found = placement.allocate(wide, {}, east);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->starts[0].address, 0);
  for (SliceName name : found->slices)
    EXPECT_EQ(name.slice % 2, 0);
}

// A gap takes what fits, and nothing that is a word longer.
TEST(TspPlacement, GapsTakeWhatFits) {
  Architecture machine = card();
  machine.banks = 1;
  for (int64_t longer : {0, 1}) {
    Placement placement(machine);
    placement.expect(machine.dataWords()); // what was used before is used again
    auto take = [&](int64_t rows) {
      // A byte of every slice of the hemisphere, so that all lie behind each other.
      Region region =
          Region::of(ElementType::u8, rows, 320 * llvm::count(machine.reserved[west], false), machine.vectorBytes());
      region.spread = true;
      return placement.allocate(region, {}, west);
    };
    RegionPointer first = take(100), gap = take(50), last = take(100);
    ASSERT_TRUE(first && gap && last);
    EXPECT_EQ(gap->starts[0].address, 100);
    gap = nullptr;
    RegionPointer region = take(50 + longer);
    ASSERT_TRUE(region);
    EXPECT_EQ(region->starts[0].address, longer ? 250 : 100);
  }
}

// Values of which one is needed at a time lie on each other where memory is to be saved, and leave the rest to weights.
TEST(TspPlacement, FrugalValuesLieWhereOthersLay) {
  Architecture machine = card();
  for (bool frugal : {false, true}) {
    Placement placement(machine);
    if (frugal)
      placement.beFrugal();
    placement.expect(machine.dataWords());
    std::set<std::tuple<SliceName, uint8_t>> used;
    for (int64_t i = 0; i < 8; ++i) {
      RegionPointer value =
          placement.allocate(Region::of(ElementType::f32, 1000, 320, machine.vectorBytes()), {}, west);
      ASSERT_TRUE(value);
      for (SliceName name : value->slices)
        used.emplace(name, value->starts[0].bank);
    }
    EXPECT_EQ(used.size(), frugal ? 4 : 8); // four bytes, in one bank or both
  }
}

// Tiles of 160 rows: a slice for each of the 16 lines of a block, ten words in each. The slices of a hemisphere that
// can be used are no multiple of 16; all the same nearly nothing is left, and no word is given twice.
TEST(TspPlacement, FrugalTilesFillAllSlices) {
  Architecture machine = card();
  Placement placement(machine);
  placement.beFrugal();
  placement.expect(machine.dataWords());
  Region tile = Region::of(ElementType::u8, 10, 16 * 320, machine.vectorBytes());
  tile.spread = true;
  ASSERT_EQ(tile.slicesNeeded(), 16);
  std::vector<RegionPointer> tiles;
  while (RegionPointer next =
             placement.allocate(tile, {}, std::nullopt, /*anywhere=*/false, /*initial=*/true, Placement::Pool::Weights))
    tiles.push_back(std::move(next));
  std::set<std::tuple<SliceName, uint8_t, int64_t>> words;
  for (const RegionPointer &each : tiles) {
    ASSERT_EQ(each->slices.size(), 16u);
    for (int64_t piece = 0; piece < 16; ++piece) {
      SliceName slice = each->slice(piece, 0, 0);
      EXPECT_EQ(slice.hemisphere, each->hemisphere);
      EXPECT_FALSE(machine.reserved[slice.hemisphere][slice.slice]);
      for (int64_t row = 0; row < 10; ++row) {
        int64_t word = each->word(piece, row);
        EXPECT_TRUE(word >= 0 && word < machine.words);
        EXPECT_TRUE(words.emplace(slice, each->start(piece).bank, word).second);
      }
    }
  }
  // 4,096 words are 409 times ten; less than a tile is left at the end of each hemisphere's slices.
  EXPECT_GE(static_cast<int64_t>(words.size()), machine.dataWords() * 99 / 100);
}

TEST(TspChain, LeavesUnitsAndStreamsOfOthersAlone) {
  Architecture machine = card();
  BlockExpression body; // relu(sum + bias) as f16
  body.inputs = {ElementType::f32, ElementType::f32};
  Register sum = body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  Register bias = body.append(BlockOpcode::Input, ElementType::f32, {}, 1);
  Register zero = body.append(BlockOpcode::Constant, ElementType::f32, {}, 0);
  Register added = body.append(BlockOpcode::Add, ElementType::f32, {sum, bias});
  Register positive = body.append(BlockOpcode::Maximum, ElementType::f32, {added, zero});
  body.results = {body.append(BlockOpcode::Convert, ElementType::f16, {positive})};
  std::string reason;
  auto first =
      makeChain(body, {Direction::East, Direction::East}, Direction::East, Direction::West, 0, machine, reason);
  ASSERT_TRUE(first) << reason;
  ChainLimits taken = first->taken();
  auto second = makeChain(body, {Direction::East, Direction::East}, Direction::East, Direction::West, 0, machine,
                          reason, {}, taken);
  ASSERT_TRUE(second) << reason;
  for (const Chain::Operation &operation : second->operations)
    EXPECT_FALSE(llvm::is_contained(taken.alus, operation.alu)) << operation.alu;
  EXPECT_EQ(taken.streams & second->taken().streams, 0u);
}

// Bytes share a stream group, of which each takes a stream of its own: four chains of three operands each.
TEST(TspChain, BytesOfSeveralChainsShareStreamGroups) {
  Architecture machine = card();
  BlockExpression body;
  std::vector<Register> operands;
  for (unsigned i = 0; i < 3; ++i) {
    body.inputs.push_back(ElementType::u8);
    operands.push_back(body.append(BlockOpcode::Input, ElementType::u8, {}, i));
  }
  Register larger = body.append(BlockOpcode::Maximum, ElementType::u8, {operands[0], operands[1]});
  body.results = {body.append(BlockOpcode::Maximum, ElementType::u8, {larger, operands[2]})};
  std::vector<Direction> westward(3, Direction::West);
  ChainLimits taken;
  std::string reason;
  for (int number = 0; number < 4; ++number) { // 12 operands, and there are 8 groups
    auto chain = makeChain(body, westward, Direction::East, Direction::East, 0, machine, reason, {}, taken);
    ASSERT_TRUE(chain) << number << ": " << reason;
    ChainLimits own = chain->taken();
    EXPECT_EQ(own.streams & taken.streams, 0u);
    EXPECT_EQ(std::popcount(own.streams), 4);
    taken.add(own);
  }
}

} // namespace
} // namespace quadrille::tsp
