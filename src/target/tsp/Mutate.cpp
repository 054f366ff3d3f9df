#include "target/tsp/Mutate.h"

#include "target/tsp/Check.h"
#include "target/tsp/Digest.h"

#include "base/Error.h"
#include "target/MutationValues.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <limits>

namespace quadrille::tsp {

namespace {

using target::another;
using target::Random;

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
  for (auto &&[index, range] : llvm::enumerate(layout.ranges)) {
    std::string name = "range " + std::to_string(index);
    sites.push_back({where, name + " dimension", range.dimension, 0, int64_t(range.dimension) + 1, nullptr,
                     setter(range.dimension)});
    sites.push_back({where, name + " begin", range.begin, 0, int64_t(range.begin) + 2, nullptr, setter(range.begin)});
    sites.push_back(
        {where, name + " extent", range.extent, 1, int64_t(range.extent) + 2, nullptr, setter(range.extent)});
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

class MutationsOfProgram final : public target::Mutations {
public:
  MutationsOfProgram(const program::Program &program, Loaded loaded)
      : program(program), loaded(std::move(loaded)), machine(this->loaded.machine) {
    const Code &code = this->loaded.code;
    for (size_t entry = 0; entry < code.entries.size(); ++entry)
      for (size_t chip = 0; chip < code.entries[entry].chips.size(); ++chip)
        for (size_t queue = 0; queue < code.entries[entry].chips[chip].queues.size(); ++queue) {
          others.push_back({entry, chip, queue});
          for (auto [index, instruction] : llvm::enumerate(code.entries[entry].chips[chip].queues[queue].instructions))
            if (!formOf(instruction.opcode)->fields.empty())
              instructions.push_back({entry, chip, queue, index});
        }
  }
  bool empty() const { return instructions.empty() && others.empty() && loaded.code.layouts.empty(); }

  // An instruction with fields nine times in ten, else a layout or the place of a queue; within it any field.
  llvm::Expected<target::Mutation> make(uint64_t seed) override {
    Code code = loaded.code;
    Random random(seed);
    random.next();
    target::Mutation mutation;
    while (true) {
      size_t queuesAndLayouts = others.size() + code.layouts.size();
      bool ofInstruction = queuesAndLayouts == 0 || (!instructions.empty() && random.below(10) != 0);
      uint64_t number = random.below(ofInstruction ? instructions.size() : queuesAndLayouts);
      std::vector<Site> sites;
      if (ofInstruction)
        sites = sitesAt(code, instructions[number], /*ofQueue=*/false);
      else if (number < others.size())
        sites = sitesAt(code, others[number], /*ofQueue=*/true);
      else
        sites = sitesOf(code.layouts[number - others.size()]);
      const Site &site = sites[random.below(sites.size())];
      int64_t value = another(random, site.value, site.lowest, site.highest);
      if (!site.set(value))
        continue;
      mutation.description =
          site.where + ": " + site.field + " " + shown(site, site.value) + " -> " + shown(site, value);
      break;
    }
    mutation.program = program;
    mutation.program.setPayload(code.encode());
    return mutation;
  }

  void prove(target::Mutation &mutation) override {
    auto mutated = Loaded::from(mutation.program);
    if (!mutated) {
      llvm::consumeError(mutated.takeError()); // not legal: nothing is proven
      return;
    }
    if (!original)
      original = digest(program, loaded.code, machine);
    auto after = digest(mutation.program, mutated->code, machine);
    if (!*original || !after || **original != *after)
      return;
    mutation.effect = target::MutationEffect::Benign;
    mutation.reason = "every output byte comes from the same input bytes through the same operations";
  }

private:
  struct Place {
    size_t entry, chip, queue, instruction = 0;
  };
  std::vector<Site> sitesAt(Code &code, const Place &place, bool ofQueue) const {
    EntryCode &entry = code.entries[place.entry];
    Queue &queue = entry.chips[place.chip].queues[place.queue];
    std::string where = "queue " + print(queue.name);
    if (entry.chips.size() > 1)
      where = "chip " + std::to_string(place.chip) + ", " + where;
    if (code.entries.size() > 1)
      where = "entry '" + program.entryPoints[place.entry].name + "', " + where;
    return ofQueue ? sitesOfQueue(queue, where, machine)
                   : sitesOfInstruction(queue.instructions[place.instruction],
                                        where + ", instruction " + std::to_string(place.instruction), machine);
  }
  std::vector<Site> sitesOf(Layout &layout) const {
    return sitesOfLayout(layout, "layout of '" + program.variables[layout.variable].name + "'", machine);
  }

  const program::Program &program;
  Loaded loaded;
  const Architecture &machine;
  std::vector<Place> instructions, others; // others: queues; behind them come the layouts
  std::optional<std::optional<std::vector<Digest>>> original;
};

} // namespace

llvm::Expected<std::unique_ptr<target::Mutations>> mutations(const program::Program &program) {
  auto loaded = Loaded::from(program);
  if (!loaded)
    return loaded.takeError();
  if (auto verdict = check(program, loaded->code, loaded->machine); !verdict.legal())
    return userError("only a legal program can be mutated: " + verdict.findings.front().message,
                     {"", verdict.findings.front().where});
  auto result = std::make_unique<MutationsOfProgram>(program, std::move(*loaded));
  if (result->empty())
    return userError("the program has no instructions to mutate");
  return result;
}

} // namespace quadrille::tsp
