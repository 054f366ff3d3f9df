#include "target/tsp/Assembly.h"

#include "base/Error.h"
#include "target/Text.h"
#include "target/Words.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

#include <limits>
#include <map>
#include <optional>

namespace quadrille::tsp {

namespace {

using llvm::StringRef;
using llvm::Twine;
using target::integer;
using target::pairs;
using target::ranged;
using target::split;
using target::Word;

constexpr int64_t mostNops = 1 << 16;         // that one .at may insert
constexpr int64_t mostInstructions = 1 << 26; // 1 GiB: a FlatBuffer ends at 2 GiB

class Assembler {
public:
  Assembler(const program::Program &program, const Architecture &machine)
      : program(program), names(program), machine(machine), textBytes(machine.textBytes()) {
    code.entries.resize(program.entryPoints.size());
  }

  llvm::Error takeLine(StringRef line) {
    std::vector<Word> words;
    if (llvm::Error error = split(line, words))
      return error;
    if (words.empty())
      return llvm::Error::success();
    return line.starts_with(".") ? directive(words) : instruction(words);
  }

  Code finish() {
    for (EntryCode &entry : code.entries)
      for (ChipCode &chip : entry.chips)
        for (Queue &queue : chip.queues)
          llvm::erase_if(queue.origins, [](const Origin &origin) { return origin.count == 0; });
    return std::move(code);
  }

private:
  static llvm::Error fail(const Twine &message) { return userError(message); }

  llvm::Error directive(llvm::ArrayRef<Word> words) {
    StringRef name = words[0].raw;
    llvm::ArrayRef<Word> rest = words.drop_front();
    using Handler = llvm::Error (Assembler::*)(llvm::ArrayRef<Word>);
    auto handler = llvm::StringSwitch<Handler>(name)
                       .Case(".layout", &Assembler::layoutDirective)
                       .Case(".range", &Assembler::rangeDirective)
                       .Case(".axis", &Assembler::axisDirective)
                       .Case(".code", &Assembler::codeDirective)
                       .Case(".chip", &Assembler::chipDirective)
                       .Case(".queue", &Assembler::queueDirective)
                       .Case(".origin", &Assembler::originDirective)
                       .Case(".at", &Assembler::atDirective)
                       .Default(nullptr);
    if (!handler)
      return fail("unknown directive '" + name + "'");
    return (this->*handler)(rest);
  }

  llvm::Error layoutDirective(llvm::ArrayRef<Word> words) {
    Layout layout;
    if (llvm::Error error =
            target::variable(words.take_front(std::min<size_t>(2, words.size())), names, layout.variable))
      return error;
    const program::Variable &stored = program.variables[layout.variable];
    if (stored.shape.size() > mostDimensions)
      return fail("'" + stored.name + "' has rank " + Twine(stored.shape.size()) + "; a layout has at most " +
                  Twine(mostDimensions) + " dimensions");
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = pairs(words.drop_front(2), {"chip", "bank", "address", "slices"}, ".layout", values))
      return error;
    for (StringRef name : {"bank", "address", "slices"})
      if (!values.count(name))
        return fail("'.layout' lacks the operand '" + name + "'");
    int64_t chip = 0, bank = 0, address = 0;
    if (values.count("chip"))
      if (llvm::Error error = ranged(values["chip"], "chip", 0, machine.chips - 1, chip))
        return error;
    if (llvm::Error error = ranged(values["bank"], "bank", 0, machine.banks - 1, bank))
      return error;
    if (llvm::Error error = ranged(values["address"], "address", 0, machine.words - 1, address))
      return error;
    layout.chip = static_cast<uint16_t>(chip);
    layout.bank = static_cast<uint8_t>(bank);
    layout.address = static_cast<uint32_t>(address);
    llvm::SmallVector<StringRef> parts;
    values["slices"].split(parts, ',');
    if (parts.size() > 4096)
      return fail("a layout lists at most 4096 runs of slices");
    for (StringRef part : parts) {
      StringRef whole = part;
      SliceName slice;
      if (part.consume_front("w"))
        slice.hemisphere = west;
      else if (part.consume_front("e"))
        slice.hemisphere = east;
      else
        return fail("expected a slice as w0, e5 or e5-7, found '" + whole + "'");
      auto [firstText, lastText] = part.split('-');
      int64_t first = 0, last = 0;
      if (llvm::Error error = ranged(firstText, "slice", 0, machine.slices - 1, first))
        return error;
      last = first;
      if (part.contains('-'))
        if (llvm::Error error = ranged(lastText, "slice", first, machine.slices - 1, last))
          return error;
      for (; first <= last; ++first)
        layout.slices.push_back({slice.hemisphere, static_cast<uint16_t>(first)});
    }
    code.layouts.push_back(std::move(layout));
    return llvm::Error::success();
  }
  llvm::Error rangeDirective(llvm::ArrayRef<Word> words) {
    if (code.layouts.empty())
      return fail("expected .range after a .layout");
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = pairs(words, {"dimension", "begin", "extent"}, ".range", values))
      return error;
    for (StringRef name : {"dimension", "begin", "extent"})
      if (!values.count(name))
        return fail("'.range' lacks the operand '" + name + "'");
    Layout &layout = code.layouts.back();
    const Shape &shape = program.variables[layout.variable].shape;
    int64_t dimension = 0, begin = 0, extent = 0;
    if (llvm::Error error =
            ranged(values["dimension"], "dimension", 0, static_cast<int64_t>(shape.size()) - 1, dimension))
      return error;
    constexpr int64_t most = std::numeric_limits<uint32_t>::max();
    if (llvm::Error error = ranged(values["begin"], "begin", 0, std::min(most, shape[dimension] - 1), begin))
      return error;
    if (llvm::Error error = ranged(values["extent"], "extent", 1, std::min(most, shape[dimension] - begin), extent))
      return error;
    layout.ranges.push_back(
        {static_cast<uint8_t>(dimension), static_cast<uint32_t>(begin), static_cast<uint32_t>(extent)});
    return llvm::Error::success();
  }
  llvm::Error axisDirective(llvm::ArrayRef<Word> words) {
    if (code.layouts.empty())
      return fail("expected .axis after a .layout");
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = pairs(words, {"dimension", "extent", "to", "step"}, ".axis", values))
      return error;
    for (StringRef name : {"dimension", "extent", "to", "step"})
      if (!values.count(name))
        return fail("'.axis' lacks the operand '" + name + "'");
    Layout &layout = code.layouts.back();
    auto rank = static_cast<int64_t>(program.variables[layout.variable].shape.size());
    int64_t dimension = rank, extent = 0, step = 0;
    if (values["dimension"] != "bytes")
      if (llvm::Error error = ranged(values["dimension"], "dimension", 0, rank - 1, dimension))
        return error;
    constexpr int64_t most = std::numeric_limits<uint32_t>::max();
    if (llvm::Error error = ranged(values["extent"], "extent", 1, most, extent))
      return error;
    if (llvm::Error error = ranged(values["step"], "step", 0, most, step))
      return error;
    auto target = llvm::StringSwitch<std::optional<AxisTarget>>(values["to"])
                      .Case("lane", AxisTarget::Lane)
                      .Case("slice", AxisTarget::Slice)
                      .Case("address", AxisTarget::Address)
                      .Default(std::nullopt);
    if (!target)
      return fail("expected to=lane, to=slice or to=address, found '" + values["to"] + "'");
    layout.axes.push_back(
        {static_cast<uint8_t>(dimension), *target, static_cast<uint32_t>(extent), static_cast<uint32_t>(step)});
    return llvm::Error::success();
  }

  llvm::Error codeDirective(llvm::ArrayRef<Word> words) {
    if (words.size() != 1)
      return fail("expected .code \"ENTRY\"");
    for (const auto &[index, point] : llvm::enumerate(program.entryPoints))
      if (point.name == words[0].text) {
        if (!code.entries[index].chips.empty())
          return fail("there is already code for the entry '" + words[0].text + "'");
        entry = &code.entries[index];
        queue = nullptr;
        return llvm::Error::success();
      }
    return fail("there is no entry '" + words[0].text + "'");
  }
  llvm::Error chipDirective(llvm::ArrayRef<Word> words) {
    if (!entry)
      return fail("expected a .code above this line");
    int64_t index = 0;
    if (words.size() != 1)
      return fail("expected .chip NUMBER");
    auto expected = static_cast<int64_t>(entry->chips.size());
    if (llvm::Error error = ranged(words[0].raw, "chip", 0, machine.chips - 1, index))
      return error;
    if (index != expected)
      return fail("expected chip " + Twine(expected) + " next");
    entry->chips.emplace_back();
    queue = nullptr;
    chipBytes = 0;
    return llvm::Error::success();
  }
  llvm::Error queueDirective(llvm::ArrayRef<Word> words) {
    if (!entry || entry->chips.empty())
      return fail("expected a .code and a .chip above this line");
    QueueName name;
    StringRef form = "expected '.queue MEM west|east SLICE', '.queue MXM west|east PLANE.QUEUE', '.queue VXM UNIT' or "
                     "'.queue SXM west|east QUEUE'";
    auto unit = llvm::StringSwitch<std::optional<UnitKind>>(words.empty() ? "" : words[0].raw)
                    .Case("MEM", UnitKind::Memory)
                    .Case("MXM", UnitKind::Matrix)
                    .Case("VXM", UnitKind::Vector)
                    .Case("SXM", UnitKind::Switch)
                    .Default(std::nullopt);
    bool sided = unit != UnitKind::Vector;
    if (!unit || words.size() != (sided ? 3u : 2u) || (sided && words[1].raw != "west" && words[1].raw != "east"))
      return fail(form);
    name.unit = *unit;
    name.hemisphere = sided && words[1].raw == "east" ? east : west;
    auto [index, port] = words.back().raw.split('.');
    if (port.empty() && name.unit == UnitKind::Matrix)
      return fail(form);
    unsigned indexValue = 0, portValue = 0;
    if (index.getAsInteger(10, indexValue) || (!port.empty() && port.getAsInteger(10, portValue)) ||
        indexValue > std::numeric_limits<uint16_t>::max() || portValue > std::numeric_limits<uint8_t>::max())
      return fail(form);
    name.index = static_cast<uint16_t>(indexValue);
    name.port = static_cast<uint8_t>(portValue);
    if (std::string problem = queueProblem(name, machine); !problem.empty())
      return fail(problem);
    std::vector<Queue> &queues = entry->chips.back().queues;
    for (const Queue &other : queues)
      if (other.name == name)
        return fail("there is already a queue " + print(name) + " in this code");
    queue = &queues.emplace_back();
    queue->name = name;
    cycle = 0;
    lastIssue.reset();
    openOrigin = false;
    return llvm::Error::success();
  }
  llvm::Error originDirective(llvm::ArrayRef<Word> words) {
    if (!queue || words.size() != 1)
      return fail("expected .origin NODE or .origin none within a .queue");
    openOrigin = words[0].raw != "none";
    if (!openOrigin)
      return llvm::Error::success();
    if (program.nodes.empty())
      return fail("no node that .origin could name: expected .node \"NAME\" \"OPERATION\" above the code");
    int64_t node = 0;
    if (llvm::Error error = ranged(words[0].raw, "node", 0, static_cast<int64_t>(program.nodes.size()) - 1, node))
      return error;
    if (!queue->origins.empty() && queue->origins.back().count == 0)
      queue->origins.pop_back();
    queue->origins.push_back({static_cast<uint32_t>(queue->instructions.size()), 0, static_cast<uint32_t>(node)});
    return llvm::Error::success();
  }

  llvm::Error append(const Instruction &instruction) {
    chipBytes += machine.instructionBytes;
    if (chipBytes > textBytes)
      return userError("the instructions of chip " + Twine(entry->chips.size() - 1) + " take more than the " +
                           Twine(textBytes) + " bytes of the slices reserved for them",
                       {}, "use 'repeat' for what recurs and 'sync' instead of long waits");
    if (++instructions > mostInstructions)
      return fail("the program has more than " + Twine(mostInstructions) + " instructions");
    queue->instructions.push_back(instruction);
    if (openOrigin)
      ++queue->origins.back().count;
    return llvm::Error::success();
  }
  // `.at 40`: idle so that the next instruction is dispatched at cycle 40, counted from the start of the queue or the
  // end of its last sync or deskew.
  llvm::Error atDirective(llvm::ArrayRef<Word> words) {
    if (!queue || words.size() != 1)
      return fail("expected .at CYCLE within a .queue");
    int64_t target = 0;
    if (llvm::Error error = ranged(words[0].raw, "cycle", 0, int64_t(1) << 48, target))
      return error;
    if (target < cycle)
      return fail("the queue is already at cycle " + Twine(cycle) + ", expected a later one");
    if ((target - cycle) / machine.nopMaximum >= mostNops)
      return fail("cycle " + Twine(target) + " is more than " + Twine(mostNops) + " nops away");
    while (cycle < target) {
      int64_t idle = std::min(target - cycle, machine.nopMaximum);
      Instruction nop;
      nop.word[0] = static_cast<int32_t>(idle);
      if (llvm::Error error = append(nop))
        return error;
      cycle += idle;
      lastIssue.reset();
    }
    return llvm::Error::success();
  }

  llvm::Error instruction(llvm::ArrayRef<Word> words) {
    const Form *form = formNamed(words[0].raw);
    if (!form)
      return fail("unknown instruction '" + words[0].raw + "'");
    if (!queue)
      return fail("expected a .queue above the first instruction");
    std::vector<StringRef> names;
    names.reserve(form->fields.size());
    for (const Field &field : form->fields)
      names.push_back(field.name);
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = pairs(words.drop_front(), names, form->mnemonic, values))
      return error;
    Instruction instruction;
    instruction.opcode = static_cast<uint8_t>(form->opcode);
    for (const Field &field : form->fields) {
      auto given = values.find(field.name);
      if (given == values.end()) {
        if (!field.defaultValue)
          return fail("'" + form->mnemonic + "' lacks the operand '" + field.name + "'");
        setValue(instruction, field.member, *field.defaultValue);
        continue;
      }
      int64_t value = 0;
      if (field.isSource()) {
        auto source = sourceNamed(given->second);
        if (!source)
          return fail("expected a stream as e4 or w4" +
                      Twine(field.kind == FieldKind::Operand ? ", or an arithmetic unit as a4, for " : " for ") +
                      Twine(field.name) + ", found '" + given->second + "'");
        value = source->byte();
      } else if (!field.words.empty()) {
        auto found = llvm::find(field.words, given->second);
        if (found == field.words.end())
          return fail("expected " + Twine(field.name) + "=" + llvm::join(field.words, "|") + ", found '" +
                      given->second + "'");
        value = found - field.words.begin();
      } else if (llvm::Error error = integer(given->second, field.name, value)) {
        return error;
      }
      if (std::string problem = field.problem(value, machine); !problem.empty())
        return fail(problem);
      if (!representable(field.member, value))
        return fail(Twine(field.name) + "=" + Twine(value) + " does not fit into an instruction");
      setValue(instruction, field.member, value);
    }
    if (std::string problem = operandProblem(instruction, queue->name, machine); !problem.empty())
      return fail(problem);
    switch (form->opcode) {
    case Opcode::Nop:
      cycle += instruction.word[0];
      lastIssue.reset();
      break;
    case Opcode::Repeat:
      if (!lastIssue)
        return fail("expected an instruction before 'repeat' that it can issue again");
      cycle = *lastIssue + int64_t(instruction.word[0]) * instruction.word[1] + 1;
      lastIssue.reset();
      break;
    case Opcode::Sync:
    case Opcode::Deskew:
      cycle = 0;
      lastIssue.reset();
      break;
    case Opcode::Notify:
    case Opcode::Fetch:
      ++cycle;
      lastIssue.reset();
      break;
    default:
      lastIssue = cycle++;
    }
    return append(instruction);
  }

  const program::Program &program;
  target::VariableNames names;
  const Architecture &machine;
  const int64_t textBytes; // that a chip has for its instructions
  Code code;
  EntryCode *entry = nullptr;
  Queue *queue = nullptr;
  int64_t chipBytes = 0, instructions = 0; // of the current chip; of the program
  int64_t cycle = 0;
  std::optional<int64_t> lastIssue;
  bool openOrigin = false;
};

} // namespace

llvm::Expected<Code> assembleCode(StringRef text, StringRef fileName, const program::Program &program,
                                  const Architecture &machine) {
  Assembler assembler(program, machine);
  if (llvm::Error error = target::forEachLine(text, fileName, [&](StringRef line) { return assembler.takeLine(line); }))
    return error;
  return assembler.finish();
}

llvm::Expected<program::Program> assemble(StringRef text, StringRef fileName) {
  // The common directives first, wherever they stand: everything else depends on the machine and the variables.
  target::CommonReader common("tsp");
  std::vector<bool> taken;
  auto takeCommon = [&](StringRef line) -> llvm::Error {
    auto result = common.take(line);
    if (!result)
      return result.takeError();
    taken.push_back(*result);
    return llvm::Error::success();
  };
  if (llvm::Error error = target::forEachLine(text, fileName, takeCommon))
    return error;
  auto program = common.finish();
  if (!program)
    return inFile(program.takeError(), fileName);
  auto machine = Architecture::from(program->machine);
  if (!machine)
    return inFile(machine.takeError(), fileName);

  Assembler assembler(*program, *machine);
  size_t line = 0;
  if (llvm::Error error = target::forEachLine(text, fileName, [&](StringRef content) {
        return taken[line++] ? llvm::Error::success() : assembler.takeLine(content);
      }))
    return error;
  program->setPayload(assembler.finish().encode());
  return std::move(*program);
}

} // namespace quadrille::tsp
