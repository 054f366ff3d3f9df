#include "target/tsp/Selections.h"

#include "base/Error.h"
#include "numerics/Convert.h"

#include <cstring>
#include <map>

namespace quadrille::tsp {

namespace {

constexpr std::byte none{0}, one{1};

// Zeros and one marker, or nothing but zeros.
bool selects(llvm::ArrayRef<std::byte> bytes) {
  static const auto highByteOfOne = static_cast<std::byte>(bitsFromDouble(ElementType::f16, 1) >> 8);
  std::byte marker = none;
  for (std::byte byte : bytes) {
    if (byte == none || byte == marker)
      continue;
    if (marker != none || (byte != one && byte != highByteOfOne))
      return false;
    marker = byte;
  }
  return true;
}

} // namespace

bool picksLanes(Selection tile) {
  return tile == Selection::Zero || tile == Selection::One;
}
bool picksLanes(Selection low, Selection high) {
  return low == Selection::Zero && (high == Selection::Zero || high == Selection::HighOne);
}

SelectionRows::SelectionRows(const program::Program &program, llvm::ArrayRef<Layout> layouts,
                             const Architecture &machine)
    : machine(machine), wordsOfRow((machine.vectorBytes() + 63) / 64) {
  std::map<uint32_t, Tensor> data; // of weights that select; invalid of others
  std::vector<std::byte> word(machine.vectorBytes());
  for (const Layout &layout : layouts) {
    const program::Variable &variable = program.variables[layout.variable];
    if (variable.role != program::VariableRole::Weight || !program.hasData(layout.variable))
      continue;
    auto [known, fresh] = data.try_emplace(layout.variable);
    if (fresh) {
      // Without values a program is estimated although its data cannot be read: then nothing is known of it.
      if (auto read = program.dataOf(layout.variable); !read)
        llvm::consumeError(read.takeError());
      else if (selects(read->bytes()))
        known->second = std::move(*read);
    }
    if (!known->second.valid())
      continue;
    forEachWord(layout, variable, machine, [&](const WordAddress &address, const WordContents &contents) {
      contents.load(known->second.bytes().data(), word.data());
      size_t row = ones.size();
      ones.resize(row + wordsOfRow);
      std::byte marker = none;
      for (size_t lane = 0; lane < word.size(); ++lane) {
        constexpr size_t together = 8;
        if (uint64_t lanes = 0; lane % together == 0 && lane + together <= word.size()) {
          std::memcpy(&lanes, &word[lane], together); // most are zeros
          if (lanes == 0) {
            lane += together - 1;
            continue;
          }
        }
        if (word[lane] != none) {
          marker = word[lane];
          ones[row + lane / 64] |= uint64_t(1) << lane % 64;
        }
      }
      markers.push_back(marker);
      size_t bank = bankOf(layout.chip, address);
      banks.resize(std::max(banks.size(), bank + 1));
      banks[bank].resize(machine.words);
      banks[bank][address.address] = static_cast<Number>(markers.size());
    });
  }
}

SelectionRows::Number SelectionRows::find(int64_t chip, const WordAddress &word) const {
  size_t bank = bankOf(chip, word);
  return bank < banks.size() && !banks[bank].empty() ? banks[bank][word.address] : 0;
}

void SelectionRows::forget(int64_t chip, const WordAddress &word) {
  if (find(chip, word) != 0)
    banks[bankOf(chip, word)][word.address] = 0;
}

Selection SelectionRows::of(llvm::ArrayRef<Number> rows) const {
  std::byte marker = none;
  std::vector<uint64_t> columns(wordsOfRow);
  for (Number row : rows) {
    if (row == 0)
      return Selection::None;
    if (markers[row - 1] == none)
      continue;
    if (marker != none && marker != markers[row - 1])
      return Selection::None;
    marker = markers[row - 1];
    for (size_t i = 0; i < wordsOfRow; ++i) {
      uint64_t here = ones[(row - 1) * wordsOfRow + i];
      if (columns[i] & here)
        return Selection::None;
      columns[i] |= here;
    }
  }
  return marker == none ? Selection::Zero : marker == one ? Selection::One : Selection::HighOne;
}

} // namespace quadrille::tsp
