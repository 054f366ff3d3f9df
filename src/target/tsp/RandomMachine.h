// What programs at random for the tests begin with: numbers, machines with other figures, and the variables.
#pragma once

#include "base/Mix.h"
#include "target/tsp/Architecture.h"
#include "target/tsp/TestProgram.h"

namespace quadrille::tsp {

// The same sequence everywhere.
class Chance {
public:
  explicit Chance(uint64_t seed) : state(splitMix(seed)) {}
  uint64_t next() { return splitMix(state += splitMixIncrement); }
  int64_t below(int64_t count) { return static_cast<int64_t>(next() % static_cast<uint64_t>(count)); }
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
  bool percent(int64_t share) { return below(100) < share; }

private:
  uint64_t state;
};

// A machine file's text with figures replaced: {"mem.words_per_bank", "256"}.
inline std::string machineText(const char *name, const std::vector<std::pair<std::string, std::string>> &figures) {
  auto machine = machine::Machine::load(name);
  if (!machine) {
    ADD_FAILURE() << report(machine.takeError()).message;
    return "";
  }
  std::string text = machine->print();
  for (const auto &[key, value] : figures) {
    size_t at = text.find("  " + key + ": {"), end = text.find('\n', at);
    if (at == std::string::npos) {
      ADD_FAILURE() << key;
      continue;
    }
    std::string unit;
    if (size_t from = text.find("unit: \"", at); from < end)
      unit = ", " + text.substr(from, text.find('"', from + 7) + 1 - from);
    text.replace(at, end - at, "  " + key + ": {value: " + value + unit + ", status: measured, source: \"test\"}");
  }
  return text;
}

// The directive by which a program names that machine.
inline std::string machineLines(const std::string &yaml) {
  std::string text = ".machine-description\n";
  llvm::SmallVector<llvm::StringRef> lines;
  llvm::StringRef(yaml).trim().split(lines, '\n');
  for (llvm::StringRef line : lines)
    text += "| " + line.str() + "\n";
  return text;
}

constexpr int64_t dataRows = 12; // words of an input

// The variables of every random program: four inputs, maps for gather (numbers below 4), permute and distribute, eight
// outputs of a word.
inline program::Program randomBase(const std::string &machineYaml, int64_t chips, const Architecture &machine) {
  int64_t bytes = machine.vectorBytes();
  std::string shape = "," + std::to_string(bytes) + "]";
  std::string text = ".target tsp\n" + machineLines(machineYaml);
  text += ".chips " + std::to_string(chips) + "\n";
  for (int i = 0; i < 4; ++i)
    text += ".input \"x" + std::to_string(i) + "\" u8[" + std::to_string(dataRows) + shape + "\n";
  auto weight = [&](const char *name, auto value) {
    text += std::string(".weight \"") + name + "\" u8[1" + shape + "\n.values";
    for (int64_t lane = 0; lane < bytes; ++lane)
      text += " " + std::to_string(value(lane));
    text += "\n";
  };
  weight("rows", [&](int64_t lane) {
    return lane % machine.lanes == 0 ? lane / machine.lanes * 3 % 4 : lane % machine.lanes == 1 ? 0 : 255;
  });
  weight("lanesLow", [&](int64_t lane) { return (lane * 5 + 3) % bytes; }); // 5 is prime to 64
  weight("lanesHigh", [&](int64_t) { return 0; });
  weight("lanes", [&](int64_t lane) { return lane * 7 % (machine.lanes + 1); });
  for (int i = 0; i < 8; ++i)
    text += ".output \"y" + std::to_string(i) + "\" u8[1" + shape + "\n";
  text +=
      ".entry \"inference\" \"x0\" \"x1\" \"x2\" \"x3\" -> \"y0\" \"y1\" \"y2\" \"y3\" \"y4\" \"y5\" \"y6\" \"y7\"\n";
  text += ".code \"inference\"\n";
  for (int64_t chip = 0; chip < chips; ++chip)
    text += ".chip " + std::to_string(chip) + "\n";
  for (int i = 0; i < 4; ++i)
    text += ".layout input \"x" + std::to_string(i) + "\" bank=0 address=" + std::to_string(i * dataRows) +
            " slices=w0\n.axis dimension=0 extent=" + std::to_string(dataRows) +
            " to=address step=1\n.axis dimension=1 extent=" + std::to_string(bytes) + " to=lane step=1\n";
  return assembleOrFail(text);
}

} // namespace quadrille::tsp
