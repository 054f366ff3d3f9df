#include "target/tsp/Mutate.h"

#include "target/tsp/Check.h"
#include "target/tsp/Digest.h"

#include "base/Error.h"
#include "base/Mix.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <limits>

namespace quadrille::tsp {

namespace {

// SplitMix64: the same sequence everywhere.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t next() { return splitMix(state += splitMixIncrement); }
  uint64_t below(uint64_t count) { return next() % count; }

private:
  uint64_t state;
};

// Another value of a field: a neighbour, one within the range, or (rarely) one just outside.
int64_t another(Random &random, int64_t value, int64_t lowest, int64_t highest) {
  int64_t result = value;
  while (result == value)
    switch (random.below(8)) {
    case 0:
    case 1:
      result = value + 1;
      break;
    case 2:
    case 3:
      result = value - 1;
      break;
    case 4:
      result = highest + 1;
      break;
    default:
      result = lowest + static_cast<int64_t>(random.below(static_cast<uint64_t>(highest - lowest) + 1));
      if (lowest == highest)
        result = highest + 1;
    }
  return result;
}

// One thing that can be changed.
struct Site {
  std::string where, field;
  int64_t value, lowest, highest;
  const Field *shownAs;             // null: a number
  std::function<bool(int64_t)> set; // false when the record cannot hold the value
};

template <typename Member> std::function<bool(int64_t)> setter(Member &member) {
  return [&member](int64_t value) {
    if (value < 0 || value > static_cast<int64_t>(std::numeric_limits<Member>::max()))
      return false;
    member = static_cast<Member>(value);
    return true;
  };
}

std::vector<Site> sitesOfInstruction(Instruction &instruction, const std::string &where, const Architecture &machine) {
  std::vector<Site> sites;
  for (const Field &field : formOf(instruction.opcode)->fields)
    sites.push_back({where, field.name.str(), valueOf(instruction, field.member), field.lowest(machine),
                     field.highest(machine), &field, [&instruction, &field](int64_t value) {
                       if (!representable(field.member, value))
                         return false;
                       setValue(instruction, field.member, value);
                       return true;
                     }});
  return sites;
}

std::vector<Site> sitesOfLayout(Layout &layout, const std::string &where, const Architecture &machine) {
  std::vector<Site> sites;
  sites.push_back({where, "bank", layout.bank, 0, machine.banks - 1, nullptr, setter(layout.bank)});
  sites.push_back({where, "address", layout.address, 0, machine.words - 1, nullptr, setter(layout.address)});
  for (auto &&[index, slice] : llvm::enumerate(layout.slices)) {
    std::string name = "slice " + std::to_string(index);
    sites.push_back({where, name, slice.slice, 0, machine.slices - 1, nullptr, setter(slice.slice)});
    sites.push_back(
        {where, name + " hemisphere", slice.hemisphere, 0, machine.hemispheres - 1, nullptr, setter(slice.hemisphere)});
  }
  for (auto &&[index, axis] : llvm::enumerate(layout.axes)) {
    std::string name = "axis " + std::to_string(index);
    sites.push_back({where, name + " extent", axis.extent, 1, int64_t(axis.extent) + 2, nullptr, setter(axis.extent)});
    sites.push_back({where, name + " step", axis.step, 0, int64_t(axis.step) + 2, nullptr, setter(axis.step)});
  }
  return sites;
}

std::vector<Site> sitesOfQueue(Queue &queue, const std::string &where, const Architecture &machine) {
  const char *const names[] = {"slice", "plane", "unit", "queue"};
  const int64_t counts[] = {machine.slices, machine.planes, machine.alus, machine.switchQueues};
  auto unit = static_cast<unsigned>(queue.name.unit);
  std::vector<Site> sites = {
      {where, names[unit], queue.name.index, 0, counts[unit] - 1, nullptr, setter(queue.name.index)}};
  if (queue.name.unit != UnitKind::Vector)
    sites.push_back({where, "hemisphere", queue.name.hemisphere, 0, machine.hemispheres - 1, nullptr,
                     setter(queue.name.hemisphere)});
  return sites;
}

std::string shown(const Site &site, int64_t value) {
  return site.shownAs ? site.shownAs->print(value) : std::to_string(value);
}

} // namespace

llvm::Expected<target::Mutation> mutate(const program::Program &program, uint64_t seed) {
  auto loaded = Loaded::from(program);
  if (!loaded)
    return loaded.takeError();
  if (auto verdict = check(program, loaded->code, loaded->machine); !verdict.legal())
    return userError("only a legal program can be mutated: " + verdict.findings.front().message,
                     {"", verdict.findings.front().where});
  Code code = loaded->code;
  const Architecture &machine = loaded->machine;
  Random random(seed);
  random.next();

  // An instruction with fields nine times in ten, else a layout or the place of a queue; within it any field.
  std::vector<std::function<std::vector<Site>()>> instructions, others;
  for (auto &&[entryIndex, entry] : llvm::enumerate(code.entries))
    for (auto &&[chipIndex, chip] : llvm::enumerate(entry.chips))
      for (Queue &queue : chip.queues) {
        std::string where = "queue " + print(queue.name);
        if (entry.chips.size() > 1)
          where = "chip " + std::to_string(chipIndex) + ", " + where;
        if (code.entries.size() > 1)
          where = "entry '" + program.entryPoints[entryIndex].name + "', " + where;
        others.push_back([&queue, where, &machine] { return sitesOfQueue(queue, where, machine); });
        for (auto &&[index, instruction] : llvm::enumerate(queue.instructions))
          if (!formOf(instruction.opcode)->fields.empty())
            instructions.push_back([&instruction, &machine, at = where + ", instruction " + std::to_string(index)] {
              return sitesOfInstruction(instruction, at, machine);
            });
      }
  for (Layout &layout : code.layouts)
    others.push_back([&layout, &machine, where = "layout of '" + program.variables[layout.variable].name + "'"] {
      return sitesOfLayout(layout, where, machine);
    });
  if (instructions.empty() && others.empty())
    return userError("the program has no instructions to mutate");

  target::Mutation mutation;
  while (true) {
    auto &pool = others.empty() || (!instructions.empty() && random.below(10) != 0) ? instructions : others;
    std::vector<Site> sites = pool[random.below(pool.size())]();
    const Site &site = sites[random.below(sites.size())];
    int64_t value = another(random, site.value, site.lowest, site.highest);
    if (!site.set(value))
      continue;
    mutation.description = site.where + ": " + site.field + " " + shown(site, site.value) + " -> " + shown(site, value);
    break;
  }
  mutation.program = program;
  mutation.program.setPayload(code.encode());
  auto before = digest(program, loaded->code, machine), after = digest(mutation.program, code, machine);
  if (before && after) {
    bool same = *before == *after;
    mutation.effect = same ? target::MutationEffect::Benign : target::MutationEffect::Unknown;
    if (same)
      mutation.reason = "every output byte comes from the same input bytes through the same operations";
  }
  return mutation;
}

} // namespace quadrille::tsp
