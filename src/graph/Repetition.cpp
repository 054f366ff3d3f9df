#include "graph/Repetition.h"

#include "base/Mix.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/xxhash.h"

#include <algorithm>

namespace quadrille::graph {

namespace {

class Signature {
public:
  void add(uint64_t value) { sum = splitMix((sum + splitMixIncrement) ^ splitMix(value)); }
  void add(llvm::StringRef text) { add(llvm::xxh3_64bits(text)); }
  void add(llvm::ArrayRef<int64_t> list) {
    add(list.size());
    for (int64_t value : list)
      add(static_cast<uint64_t>(value));
  }
  void add(const Value &value) {
    add(static_cast<uint64_t>(value.type));
    add(llvm::ArrayRef(value.shape));
    add(static_cast<uint64_t>(value.role));
  }
  void add(const AccessMap &map) {
    add(map.size());
    for (const DimensionAccess &access : map) {
      add(static_cast<uint64_t>(access.offset));
      add(access.terms.size());
      for (auto [loop, coefficient] : access.terms) {
        add(loop);
        add(static_cast<uint64_t>(coefficient));
      }
    }
  }
  void add(const std::optional<Scalar> &scalar) {
    add(scalar ? 1 : 0);
    if (scalar) {
      add(static_cast<uint64_t>(scalar->type));
      add(scalar->bits);
    }
  }
  void add(const Attribute &attribute) {
    add(attribute.index());
    if (const auto *integer = std::get_if<int64_t>(&attribute))
      add(static_cast<uint64_t>(*integer));
    else if (const auto *real = std::get_if<double>(&attribute))
      add(llvm::bit_cast<uint64_t>(*real));
    else if (const auto *text = std::get_if<std::string>(&attribute))
      add(llvm::StringRef(*text));
    else if (const auto *integers = std::get_if<std::vector<int64_t>>(&attribute))
      add(llvm::ArrayRef(*integers));
    else if (const auto *reals = std::get_if<std::vector<double>>(&attribute))
      for (double each : *reals)
        add(llvm::bit_cast<uint64_t>(each));
    else
      for (const std::string &each : std::get<std::vector<std::string>>(attribute))
        add(llvm::StringRef(each));
  }

  uint64_t sum = 0;
};

} // namespace

std::vector<uint64_t> signaturesOf(const KernelGraph &graph) {
  std::vector<uint64_t> signatures;
  for (const Kernel &kernel : graph.kernels) {
    Signature of;
    of.add(static_cast<uint64_t>(kernel.kind));
    of.add(llvm::StringRef(kernel.operation));
    for (const Loop &loop : kernel.loops) {
      of.add(static_cast<uint64_t>(loop.extent));
      of.add(loop.reduction ? 1 : 0);
    }
    auto read = [&](const Read &each) {
      of.add(graph.values[each.value]);
      of.add(each.map);
      of.add(each.padding);
    };
    of.add(kernel.reads.size());
    for (const Read &each : kernel.reads)
      read(each);
    for (const Write &each : kernel.writes) {
      of.add(graph.values[each.value]);
      of.add(each.map);
      of.add(static_cast<uint64_t>(each.combiner));
      of.add(each.initialScalar);
      of.add(each.initial ? 1 : 0);
      if (each.initial)
        read(*each.initial);
    }
    for (const BlockInstruction &instruction : kernel.body.instructions) {
      of.add(static_cast<uint64_t>(instruction.opcode));
      of.add(static_cast<uint64_t>(instruction.type));
      of.add(instruction.immediate);
      for (Register operand : instruction.operands)
        of.add(operand);
    }
    for (Register result : kernel.body.results)
      of.add(result);
    for (const auto &[name, attribute] : kernel.attributes) {
      of.add(llvm::StringRef(name));
      of.add(attribute);
    }
    if (kernel.region)
      for (uint64_t each : signaturesOf(*kernel.region))
        of.add(each);
    signatures.push_back(of.sum);
  }
  return signatures;
}

std::optional<Repetition> repetitionOf(llvm::ArrayRef<uint64_t> signatures) {
  constexpr size_t longest = 4096; // the search takes time in proportion to it
  std::optional<Repetition> best;
  size_t mostRepeated = 0;
  for (size_t period = 1; period <= std::min(longest, signatures.size() / 2); ++period) {
    size_t alike = 0; // kernels up to here that are as those a period later
    for (size_t i = 0; i + period <= signatures.size(); ++i) {
      if (i + period < signatures.size() && signatures[i] == signatures[i + period]) {
        ++alike;
        continue;
      }
      size_t repeated = alike / period * period;
      if (repeated > mostRepeated) {
        mostRepeated = repeated;
        best = {i - alike, period, alike / period + 1};
      }
      alike = 0;
    }
  }
  return best;
}

} // namespace quadrille::graph
