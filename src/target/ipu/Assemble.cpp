#include "target/ipu/Assembly.h"

#include "base/Error.h"
#include "target/Text.h"
#include "target/Words.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

#include <limits>

namespace quadrille::ipu {

namespace {

using llvm::StringRef;
using llvm::Twine;
using target::Word;

constexpr int64_t mostBytes = std::numeric_limits<uint32_t>::max();
constexpr int64_t mostStride = std::numeric_limits<int32_t>::max();
constexpr size_t mostRanges = 1 << 20; // of a list in text

class Assembler {
public:
  explicit Assembler(const program::Program &program) : program(program), names(program) {
    code.entries.resize(program.entryPoints.size());
  }

  llvm::Error takeLine(StringRef line) {
    std::vector<Word> words;
    if (llvm::Error error = target::split(line, words))
      return error;
    if (words.empty())
      return llvm::Error::success();
    if (line.starts_with("."))
      return directive(words);
    switch (within) {
    case Section::ComputeSet:
      return vertex(words);
    case Section::Exchange:
      return transfer(words);
    case Section::Steps:
      return step(words);
    default:
      return userError("expected a directive, found '" + words[0].raw + "'");
    }
  }

  llvm::Expected<Code> finish() {
    for (const BlockExpression &expression : code.expressions)
      if (std::string problem = expression.verify(); !problem.empty())
        return userError("an expression: " + problem);
    return std::move(code);
  }

private:
  enum class Section { None, Expression, Placement, ComputeSet, Exchange, Steps };

  llvm::Error directive(llvm::ArrayRef<Word> words) {
    using Handler = llvm::Error (Assembler::*)(llvm::ArrayRef<Word>);
    auto handler = llvm::StringSwitch<Handler>(words[0].raw)
                       .Case(".expression", &Assembler::expressionDirective)
                       .Case(".in", &Assembler::inDirective)
                       .Case(".op", &Assembler::opDirective)
                       .Case(".result", &Assembler::resultDirective)
                       .Case(".placement", &Assembler::placementDirective)
                       .Case(".part", &Assembler::partDirective)
                       .Case(".digit", &Assembler::digitDirective)
                       .Case(".compute_set", &Assembler::setDirective)
                       .Case(".exchange", &Assembler::exchangeDirective)
                       .Case(".steps", &Assembler::stepsDirective)
                       .Default(nullptr);
    if (!handler)
      return userError("unknown directive '" + words[0].raw + "'");
    return (this->*handler)(words.drop_front());
  }

  llvm::Error expressionDirective(llvm::ArrayRef<Word> words) {
    if (!words.empty())
      return userError(".expression takes no operands");
    within = Section::Expression;
    code.expressions.emplace_back();
    return llvm::Error::success();
  }
  llvm::Error type(StringRef text, ElementType &type) {
    auto named = elementTypeNamed(text);
    if (!named)
      return userError("'" + text + "' is no element type");
    type = *named;
    return llvm::Error::success();
  }
  llvm::Error inDirective(llvm::ArrayRef<Word> words) {
    ElementType in;
    if (within != Section::Expression || words.size() != 1)
      return userError("expected .in TYPE within an .expression");
    if (llvm::Error error = type(words[0].raw, in))
      return error;
    code.expressions.back().inputs.push_back(in);
    return llvm::Error::success();
  }
  llvm::Error opDirective(llvm::ArrayRef<Word> words) {
    auto opcode = words.size() < 2 ? std::nullopt : blockOpcodeNamed(words[0].raw);
    if (within != Section::Expression || !opcode)
      return userError("expected .op OPCODE TYPE OPERAND... within an .expression");
    BlockInstruction instruction{*opcode, ElementType::f32, {}, 0};
    if (llvm::Error error = type(words[1].raw, instruction.type))
      return error;
    llvm::ArrayRef<Word> rest = words.drop_front(2);
    std::vector<BlockInstruction> &list = code.expressions.back().instructions;
    if (list.size() > std::numeric_limits<Register>::max())
      return userError("an expression has too many operations");
    for (unsigned i = 0; i < operandCount(*opcode); ++i) {
      if (rest.empty())
        return userError("'" + words[0].raw + "' has " + Twine(operandCount(*opcode)) + " operands");
      int64_t operand = 0;
      if (llvm::Error error = target::ranged(rest[0].raw, "operand", 0, static_cast<int64_t>(list.size()) - 1, operand))
        return error;
      instruction.operands[i] = static_cast<Register>(operand);
      rest = rest.drop_front();
    }
    if (!rest.empty()) {
      StringRef text = rest[0].raw;
      if (rest.size() > 1 || !text.consume_front("immediate="))
        return userError("expected immediate=BITS, found '" + rest[0].raw + "'");
      auto bits = target::LineReader(text).unsignedInteger("immediate");
      if (!bits)
        return bits.takeError();
      instruction.immediate = *bits;
    }
    list.push_back(instruction);
    return llvm::Error::success();
  }
  llvm::Error resultDirective(llvm::ArrayRef<Word> words) {
    int64_t result = 0;
    if (within != Section::Expression || words.size() != 1)
      return userError("expected .result OPERATION within an .expression");
    auto last = static_cast<int64_t>(code.expressions.back().instructions.size()) - 1;
    if (llvm::Error error = target::ranged(words[0].raw, "result", 0, last, result))
      return error;
    code.expressions.back().results.push_back(static_cast<Register>(result));
    return llvm::Error::success();
  }

  llvm::Error placementDirective(llvm::ArrayRef<Word> words) {
    Placement placement;
    if (llvm::Error error =
            target::variable(words.take_front(std::min<size_t>(2, words.size())), names, placement.variable))
      return error;
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = require(words.drop_front(2), {"type"}, ".placement", values))
      return error;
    if (llvm::Error error = type(values["type"], placement.type))
      return error;
    within = Section::Placement;
    code.placements.push_back(placement);
    return llvm::Error::success();
  }
  llvm::Error partDirective(llvm::ArrayRef<Word> words) {
    if (within != Section::Placement)
      return userError("a .part belongs to a .placement");
    std::map<StringRef, StringRef> values;
    Part part;
    int64_t address = 0;
    if (llvm::Error error = require(words, {"tiles", "address", "begin", "extents", "shift"}, ".part", values))
      return error;
    if (llvm::Error error = tiles(values["tiles"], part.tiles))
      return error;
    if (llvm::Error error = target::ranged(values["address"], "address", 0, mostBytes, address))
      return error;
    part.address = static_cast<uint32_t>(address);
    for (auto [name, list] :
         {std::pair("begin", &part.begin), std::pair("extents", &part.extents), std::pair("shift", &part.shift)})
      if (llvm::Error error = numbers(values[name], name, *list))
        return error;
    code.placements.back().parts.push_back(std::move(part));
    return llvm::Error::success();
  }
  llvm::Error digitDirective(llvm::ArrayRef<Word> words) {
    if (within != Section::Placement || code.placements.back().parts.empty())
      return userError("a .digit belongs to a .part");
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = require(words, {"dimension", "extent", "stride"}, ".digit", values))
      return error;
    constexpr int64_t mostDimensions = 255;
    int64_t dimension = 0, extent = 0, stride = 0;
    if (llvm::Error error = target::ranged(values["dimension"], "dimension", 0, mostDimensions, dimension))
      return error;
    if (llvm::Error error = target::ranged(values["extent"], "extent", 1, mostBytes, extent))
      return error;
    if (llvm::Error error = target::ranged(values["stride"], "stride", 0, mostBytes, stride))
      return error;
    code.placements.back().parts.back().digits.push_back(
        {static_cast<uint8_t>(dimension), static_cast<uint32_t>(extent), static_cast<uint32_t>(stride)});
    return llvm::Error::success();
  }

  llvm::Error setDirective(llvm::ArrayRef<Word> words) {
    if (words.size() != 1 || !words[0].quoted)
      return userError("expected .compute_set \"NAME\"");
    within = Section::ComputeSet;
    code.computeSets.push_back({words[0].text, {}});
    return llvm::Error::success();
  }
  llvm::Error vertex(llvm::ArrayRef<Word> words) {
    const Form *form = formNamed(words[0].raw);
    if (!form)
      return userError("there is no codelet '" + words[0].raw + "'");
    std::vector<StringRef> names = {"tiles"};
    for (const Parameter &parameter : form->parameters)
      names.push_back(parameter.name);
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = require(words.drop_front(), names, form->name, values))
      return error;
    Vertex vertex;
    vertex.codelet = static_cast<uint16_t>(form->codelet);
    if (llvm::Error error = tiles(values["tiles"], vertex.tiles))
      return error;
    for (const Parameter &parameter : form->parameters) {
      std::vector<int64_t> &list = vertex.values.emplace_back();
      StringRef text = values[parameter.name];
      if (parameter.isList()) {
        if (llvm::Error error = numbers(text, parameter.name, list))
          return error;
        continue;
      }
      if (auto word = llvm::find(parameter.words, text); word != parameter.words.end()) {
        list.push_back(word - parameter.words.begin());
        continue;
      }
      if (!parameter.words.empty())
        return userError(parameter.name + " must be one of " + llvm::join(parameter.words, ", "));
      if (llvm::Error error =
              target::ranged(text, parameter.name, parameter.minimum, parameter.maximum, list.emplace_back()))
        return error;
    }
    code.computeSets.back().vertices.push_back(std::move(vertex));
    return llvm::Error::success();
  }

  llvm::Error exchangeDirective(llvm::ArrayRef<Word> words) {
    if (words.size() != 1 || !words[0].quoted)
      return userError("expected .exchange \"NAME\"");
    within = Section::Exchange;
    code.exchanges.push_back({words[0].text, {}});
    return llvm::Error::success();
  }
  llvm::Error transfer(llvm::ArrayRef<Word> words) {
    StringRef word = words[0].raw;
    if (word != "send" && word != "join")
      return userError("expected send or join, found '" + word + "'");
    std::map<StringRef, StringRef> values;
    if (llvm::Error error =
            target::pairs(words.drop_front(), {"from", "at", "to", "into", "bytes", "rows", "strides"}, word, values))
      return error;
    Transfer made;
    made.joins = word == "join";
    made.rows = 1;
    for (auto [name, into] : {std::pair("from", &made.source), std::pair("at", &made.sourceAddress),
                              std::pair("into", &made.destinationAddress), std::pair("bytes", &made.bytes),
                              std::pair("rows", &made.rows)}) {
      int64_t number = 0;
      auto given = values.find(name);
      if (given == values.end() && into == &made.rows)
        continue;
      if (given == values.end())
        return userError("'" + word + "' lacks the operand '" + name + "'");
      if (llvm::Error error = target::ranged(given->second, name, 0, mostBytes, number))
        return error;
      *into = static_cast<uint32_t>(number);
    }
    std::vector<TileRange> destinations;
    if (!values.contains("to"))
      return userError("'" + word + "' lacks the operand 'to'");
    if (llvm::Error error = tiles(values["to"], destinations))
      return error;
    if (destinations.size() != 1)
      return userError("'" + word + "' goes to one range of tiles; others join it");
    made.destinations = destinations.front();
    if (auto given = values.find("strides"); given != values.end()) {
      std::vector<int64_t> strides;
      if (llvm::Error error = numbers(given->second, "strides", strides))
        return error;
      if (strides.size() != 2 || llvm::any_of(strides, [](int64_t s) { return s > mostStride || s < -mostStride; }))
        return userError("strides must be two numbers of 32 bits");
      made.sourceStride = static_cast<int32_t>(strides[0]);
      made.destinationStride = static_cast<int32_t>(strides[1]);
    }
    code.exchanges.back().transfers.push_back(made);
    return llvm::Error::success();
  }

  llvm::Error stepsDirective(llvm::ArrayRef<Word> words) {
    auto found = words.size() == 1 && words[0].quoted
                     ? llvm::find_if(program.entryPoints, [&](const auto &each) { return each.name == words[0].text; })
                     : program.entryPoints.end();
    if (found == program.entryPoints.end())
      return userError("expected .steps \"ENTRY POINT\"");
    within = Section::Steps;
    entry = static_cast<size_t>(found - program.entryPoints.begin());
    return llvm::Error::success();
  }
  llvm::Error step(llvm::ArrayRef<Word> words) {
    auto kind = llvm::StringSwitch<std::optional<StepKind>>(words[0].raw)
                    .Case("execute", StepKind::Execute)
                    .Case("exchange", StepKind::Exchange)
                    .Case("repeat", StepKind::Repeat)
                    .Case("end", StepKind::End)
                    .Case("read", StepKind::Read)
                    .Case("write", StepKind::Write)
                    .Default(std::nullopt);
    if (!kind)
      return userError("expected execute, exchange, repeat, end, read or write, found '" + words[0].raw + "'");
    Step made{*kind, 0, noNode};
    llvm::ArrayRef<Word> rest = words.drop_front();
    if (*kind != StepKind::End) {
      int64_t index = 0;
      if (rest.empty())
        return userError("'" + words[0].raw + "' needs a number");
      if (llvm::Error error = target::ranged(rest[0].raw, words[0].raw, 0, mostBytes, index))
        return error;
      made.index = static_cast<uint32_t>(index);
      rest = rest.drop_front();
    }
    std::map<StringRef, StringRef> values;
    if (llvm::Error error = target::pairs(rest, {"node"}, words[0].raw, values))
      return error;
    if (auto given = values.find("node"); given != values.end()) {
      int64_t node = 0;
      if (llvm::Error error =
              target::ranged(given->second, "node", 0, static_cast<int64_t>(program.nodes.size()) - 1, node))
        return error;
      made.node = static_cast<uint32_t>(node);
    }
    code.entries[entry].push_back(made);
    return llvm::Error::success();
  }

  // All of the names, each once.
  static llvm::Error require(llvm::ArrayRef<Word> words, llvm::ArrayRef<StringRef> names, const Twine &of,
                             std::map<StringRef, StringRef> &values) {
    if (llvm::Error error = target::pairs(words, names, of, values))
      return error;
    for (StringRef name : names)
      if (!values.count(name))
        return userError("'" + of + "' lacks the operand '" + name + "'");
    return llvm::Error::success();
  }
  static llvm::Error numbers(StringRef text, StringRef what, std::vector<int64_t> &list) {
    if (!text.consume_front("[") || !text.consume_back("]"))
      return userError(what + " must be a list of integers: [1,2]");
    llvm::SmallVector<StringRef> parts;
    if (!text.empty())
      text.split(parts, ',');
    if (parts.size() > mostRanges)
      return userError(what + " has too many numbers");
    for (StringRef part : parts)
      if (llvm::Error error = target::integer(part, what, list.emplace_back()))
        return error;
    return llvm::Error::success();
  }
  // "0..1471", "0..30/2,64".
  static llvm::Error tiles(StringRef text, std::vector<TileRange> &ranges) {
    llvm::SmallVector<StringRef> parts;
    text.split(parts, ',');
    if (parts.size() > mostRanges)
      return userError("there are too many ranges of tiles");
    for (StringRef part : parts) {
      auto [span, stepText] = part.split('/');
      auto [firstText, lastText] = span.split("..");
      int64_t first = 0, last = 0, step = 1;
      if (llvm::Error error = target::ranged(firstText, "tile", 0, mostBytes, first))
        return error;
      last = first;
      if (span.contains(".."))
        if (llvm::Error error = target::ranged(lastText, "tile", first, mostBytes, last))
          return error;
      if (part.contains('/'))
        if (llvm::Error error = target::ranged(stepText, "step of tiles", 1, mostBytes, step))
          return error;
      ranges.push_back({static_cast<uint32_t>(first), static_cast<uint32_t>((last - first) / step + 1),
                        static_cast<uint32_t>(step)});
    }
    return llvm::Error::success();
  }

  const program::Program &program;
  target::VariableNames names;
  Code code;
  Section within = Section::None;
  size_t entry = 0;
};

} // namespace

llvm::Expected<program::Program> assemble(StringRef text, StringRef fileName) {
  // The common directives first, wherever they stand: everything else depends on the variables.
  target::CommonReader common("ipu");
  std::vector<bool> taken;
  auto takeCommon = [&](StringRef line) -> llvm::Error {
    auto result = common.take(line);
    if (!result)
      return result.takeError();
    taken.push_back(*result);
    return llvm::Error::success();
  };
  if (llvm::Error error = target::forEachLine(text, fileName, takeCommon))
    return std::move(error);
  auto program = common.finish();
  if (!program)
    return inFile(program.takeError(), fileName);
  Assembler assembler(*program);
  size_t line = 0;
  if (llvm::Error error = target::forEachLine(text, fileName, [&](StringRef content) {
        return taken[line++] ? llvm::Error::success() : assembler.takeLine(content);
      }))
    return std::move(error);
  auto code = assembler.finish();
  if (!code)
    return inFile(code.takeError(), fileName);
  program->setPayload(code->encode());
  return std::move(*program);
}

} // namespace quadrille::ipu
