#include "target/Text.h"

#include "base/Error.h"
#include "machine/Machine.h"
#include "numerics/Convert.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>

namespace quadrille::target {

using program::Variable;
using program::VariableRole;

//===-- Printing
//-----------------------------------------------------------------------------------------------------===//

void printQuoted(llvm::StringRef string, llvm::raw_ostream &os) {
  os << '"';
  for (unsigned char c : string)
    if (c == '"' || c == '\\')
      os << '\\' << c;
    else if (c == '\n')
      os << "\\n";
    else if (c < 0x20 || c == 0x7f)
      os << "\\x" << llvm::hexdigit(c >> 4) << llvm::hexdigit(c & 15);
    else
      os << c;
  os << '"';
}

static void printData(llvm::ArrayRef<std::byte> bytes, llvm::raw_ostream &os) {
  constexpr size_t perLine = 48;
  for (size_t begin = 0; begin < bytes.size(); begin += perLine) {
    llvm::ArrayRef<std::byte> line = bytes.slice(begin, std::min(perLine, bytes.size() - begin));
    os << ".data " << llvm::toHex({reinterpret_cast<const uint8_t *>(line.data()), line.size()}, /*LowerCase=*/true)
       << '\n';
  }
  if (bytes.empty())
    os << ".data\n";
}

static llvm::StringRef directiveOf(VariableRole role) {
  switch (role) {
  case VariableRole::Input:
    return ".input";
  case VariableRole::Output:
    return ".output";
  case VariableRole::Weight:
    return ".weight";
  case VariableRole::State:
    return ".state";
  }
  return "";
}

llvm::Error printCommon(const program::Program &program, llvm::raw_ostream &os) {
  auto directive = [&](llvm::StringRef name, auto &&...strings) {
    os << name;
    ((os << ' ', printQuoted(strings, os)), ...);
  };
  os << ".target " << program.target << "\n.machine-description\n";
  llvm::SmallVector<llvm::StringRef> lines;
  llvm::StringRef(program.machine).split(lines, '\n');
  if (!lines.empty() && lines.back().empty())
    lines.pop_back(); // every line ends in a newline
  for (llvm::StringRef line : lines)
    os << "| " << line << '\n';
  directive(".compiler", program.compilerRevision);
  os << '\n';
  directive(".precision", program.precision);
  os << "\n.chips " << program.chips;
  if (program.replicas != 1)
    os << "\n.replicas " << program.replicas;
  os << "\n.batch " << program.batch << '\n';
  if (program.model) {
    directive(".model", program.model->path);
    os << llvm::format(" 0x%016llx\n", static_cast<unsigned long long>(program.model->hash));
    for (const auto &[name, extent] : program.model->dimensions) {
      directive(".dimension", name);
      os << ' ' << extent << '\n';
    }
    for (const auto &[name, value] : program.model->bindings) {
      directive(".binding", name, value);
      os << '\n';
    }
  }
  for (const program::Node &node : program.nodes) {
    directive(".node", node.name, node.operation);
    os << '\n';
  }
  for (uint32_t i = 0; i < program.variables.size(); ++i) {
    const Variable &variable = program.variables[i];
    directive(directiveOf(variable.role), variable.name);
    os << ' ' << describe(variable.type, variable.shape) << '\n';
    if (!variable.data.valid() && variable.external) {
      directive(".external", variable.external->path);
      os << ' ' << variable.external->offset << ' ' << variable.external->size;
      if (variable.external->hash)
        os << llvm::format(" 0x%016llx", static_cast<unsigned long long>(*variable.external->hash));
      os << '\n';
    } else if (program.hasData(i)) {
      auto data = program.dataOf(i);
      if (!data)
        return data.takeError();
      printData(data->bytes(), os);
    }
  }
  for (const program::EntryPoint &entry : program.entryPoints) {
    directive(".entry", entry.name);
    for (uint32_t input : entry.inputs)
      directive("", program.variables[input].name);
    os << " ->";
    for (uint32_t output : entry.outputs)
      directive("", program.variables[output].name);
    os << '\n';
  }
  return llvm::Error::success();
}

//===-- Reading
//------------------------------------------------------------------------------------------------------===//

llvm::Error forEachLine(llvm::StringRef text, llvm::StringRef fileName,
                        llvm::function_ref<llvm::Error(llvm::StringRef line)> handle) {
  for (size_t number = 1; !text.empty(); ++number) {
    auto [line, rest] = text.split('\n');
    text = rest;
    line = line.rtrim('\r').ltrim();
    if (line.trim().empty() || line.starts_with("#") || line.starts_with(";") || line.starts_with("//"))
      continue;
    if (llvm::Error error = handle(line))
      return inFile(atNode(std::move(error), "line " + std::to_string(number)), fileName);
  }
  return llvm::Error::success();
}

// What stands at the end of "expected X, found ".
static std::string found(llvm::StringRef rest) {
  if (rest.empty())
    return "the end of the line";
  llvm::StringRef shown = rest.take_front(40);
  return ("'" + shown + (shown.size() < rest.size() ? "...'" : "'")).str();
}

static llvm::Error expected(const llvm::Twine &what, llvm::StringRef rest) {
  return userError("expected " + what + ", found " + found(rest));
}

llvm::StringRef LineReader::word() {
  llvm::StringRef result = rest.take_until([](char c) { return c == ' ' || c == '\t'; });
  rest = rest.drop_front(result.size()).ltrim();
  return result;
}

bool LineReader::consume(llvm::StringRef expected) {
  LineReader ahead = *this;
  if (ahead.word() != expected)
    return false;
  *this = ahead;
  return true;
}

llvm::Expected<std::string> LineReader::quoted(llvm::StringRef what) {
  llvm::StringRef text = rest;
  if (!text.consume_front("\""))
    return expected(what + " in double quotes", rest);
  std::string result;
  while (true) {
    if (text.empty())
      return userError(what + ": the closing double quote is missing");
    char c = text.front();
    text = text.drop_front();
    if (c == '"')
      break;
    if (c != '\\') {
      result += c;
    } else if (text.consume_front("n")) {
      result += '\n';
    } else if (text.consume_front("x") && text.size() >= 2 && llvm::isHexDigit(text[0]) && llvm::isHexDigit(text[1])) {
      result += static_cast<char>(llvm::hexFromNibbles(text[0], text[1]));
      text = text.drop_front(2);
    } else if (!text.empty() && (text.front() == '"' || text.front() == '\\')) {
      result += text.front();
      text = text.drop_front();
    } else {
      return userError(what + ": unknown escape; known are \\\" \\\\ \\n and \\xHH");
    }
  }
  if (!text.empty() && text.front() != ' ' && text.front() != '\t')
    return expected("a blank after " + what, text);
  rest = text.ltrim();
  return result;
}

llvm::Expected<int64_t> LineReader::integer(llvm::StringRef what) {
  llvm::StringRef before = rest, text = word();
  int64_t value;
  if (text.empty() || text.getAsInteger(text.starts_with("0x") ? 0 : 10, value))
    return expected(what + " (an integer)", before);
  return value;
}

llvm::Expected<uint64_t> LineReader::unsignedInteger(llvm::StringRef what) {
  llvm::StringRef before = rest, text = word();
  uint64_t value;
  if (text.empty() || text.getAsInteger(text.starts_with("0x") ? 0 : 10, value))
    return expected(what + " (an integer, not negative)", before);
  return value;
}

llvm::Expected<double> LineReader::real(llvm::StringRef what) {
  llvm::StringRef before = rest, text = word();
  llvm::APFloat value(llvm::APFloat::IEEEdouble());
  auto status = value.convertFromString(text, llvm::APFloat::rmNearestTiesToEven);
  if (!status) {
    llvm::consumeError(status.takeError());
    return expected(what + " (a number)", before);
  }
  return value.convertToDouble();
}

llvm::Error LineReader::end() {
  return atEnd() ? llvm::Error::success() : expected("the end of the line", rest);
}

namespace {

// "f32[1,3]"
llvm::Error parseType(llvm::StringRef text, ElementType &type, Shape &shape) {
  auto [name, extents] = text.split('[');
  std::optional<ElementType> parsed = elementTypeNamed(name);
  if (!parsed || !extents.consume_back("]"))
    return expected("a type and a shape such as f32[1,3]", text);
  type = *parsed;
  shape.clear();
  while (!extents.empty()) {
    llvm::StringRef extent;
    bool more = extents.contains(',');
    std::tie(extent, extents) = extents.split(',');
    int64_t value;
    if (extent.getAsInteger(10, value) || value < 0 || (more && extents.empty()))
      return expected("a type and a shape such as f32[1,3]", text);
    shape.push_back(value);
  }
  return llvm::Error::success();
}

} // namespace

VariableNames::VariableNames(const program::Program &program) {
  for (const auto &[index, variable] : llvm::enumerate(program.variables))
    add(variable, static_cast<uint32_t>(index));
}

void VariableNames::add(const Variable &variable, uint32_t index) {
  byRole[variable.role].try_emplace(variable.name, index);
}

std::optional<uint32_t> VariableNames::find(VariableRole role, llvm::StringRef name) const {
  auto ofRole = byRole.find(role);
  if (ofRole == byRole.end())
    return std::nullopt;
  auto found = ofRole->second.find(name);
  return found == ofRole->second.end() ? std::nullopt : std::optional(found->second);
}

llvm::Expected<bool> CommonReader::take(llvm::StringRef text) {
  LineReader line(text);
  if (inDescription && text.starts_with("|")) {
    text = text.drop_front();
    text.consume_front(" ");
    program.machine += text.str() + "\n";
    return true;
  }
  inDescription = false;
  text = text.trim();
  llvm::StringRef directive = line.word();
  if (!sawTarget) {
    if (directive != ".target")
      return expected("'.target " + llvm::Twine(program.target) + "' before anything else", text);
    llvm::StringRef name = line.word();
    if (name != program.target)
      return userError("the program is for target '" + name + "', not '" + program.target + "'");
    sawTarget = true;
    if (llvm::Error error = line.end())
      return error;
    return true;
  }

  auto setString = [&](std::string &into, llvm::StringRef what) -> llvm::Error {
    auto value = line.quoted(what);
    if (!value)
      return value.takeError();
    into = std::move(*value);
    return llvm::Error::success();
  };
  auto setInteger = [&](int64_t &into, llvm::StringRef what) -> llvm::Error {
    auto value = line.integer(what);
    if (!value)
      return value.takeError();
    into = *value;
    return llvm::Error::success();
  };
  auto run = [&]() -> llvm::Error {
    if (directive == ".machine") {
      auto machine = machine::Machine::load(line.word());
      if (!machine)
        return machine.takeError();
      program.machine = machine->print();
    } else if (directive == ".machine-description") {
      program.machine.clear();
      inDescription = true;
    } else if (directive == ".compiler") {
      return setString(program.compilerRevision, "the compiler's revision");
    } else if (directive == ".precision") {
      return setString(program.precision, "the precision");
    } else if (directive == ".chips") {
      return setInteger(program.chips, "the number of chips");
    } else if (directive == ".replicas") {
      return setInteger(program.replicas, "the number of replicas");
    } else if (directive == ".batch") {
      return setInteger(program.batch, "the batch");
    } else if (directive == ".model") {
      program.model.emplace();
      if (llvm::Error error = setString(program.model->path, "the model's path"))
        return error;
      auto hash = line.unsignedInteger("the model's hash");
      if (!hash)
        return hash.takeError();
      program.model->hash = *hash;
    } else if (directive == ".dimension" || directive == ".binding") {
      if (!program.model)
        return userError(directive + " needs a .model before it");
      std::string name, value;
      int64_t extent;
      if (llvm::Error error = setString(name, "a name"))
        return error;
      if (directive == ".binding") {
        if (llvm::Error error = setString(value, "a value"))
          return error;
        program.model->bindings.emplace_back(std::move(name), std::move(value));
      } else {
        if (llvm::Error error = setInteger(extent, "an extent"))
          return error;
        program.model->dimensions.emplace_back(std::move(name), extent);
      }
    } else if (directive == ".node") {
      program::Node node;
      if (llvm::Error error = setString(node.name, "the node's name"))
        return error;
      if (llvm::Error error = setString(node.operation, "the node's operator"))
        return error;
      program.nodes.push_back(std::move(node));
    } else if (directive == ".input") {
      return takeVariable(VariableRole::Input, line);
    } else if (directive == ".output") {
      return takeVariable(VariableRole::Output, line);
    } else if (directive == ".weight") {
      return takeVariable(VariableRole::Weight, line);
    } else if (directive == ".state") {
      return takeVariable(VariableRole::State, line);
    } else if (directive == ".data") {
      return takeData(line);
    } else if (directive == ".values") {
      return takeValues(line);
    } else if (directive == ".external") {
      return takeExternal(line);
    } else if (directive == ".entry") {
      return takeEntry(line);
    }
    return llvm::Error::success();
  };
  static constexpr llvm::StringLiteral known[] = {".machine",   ".machine-description",
                                                  ".compiler",  ".precision",
                                                  ".chips",     ".replicas",
                                                  ".batch",     ".model",
                                                  ".dimension", ".binding",
                                                  ".node",      ".input",
                                                  ".output",    ".weight",
                                                  ".state",     ".data",
                                                  ".values",    ".external",
                                                  ".entry"};
  if (!llvm::is_contained(known, directive))
    return false;
  if (llvm::Error error = run())
    return error;
  if (llvm::Error error = line.end())
    return error;
  return true;
}

llvm::Error CommonReader::takeVariable(VariableRole role, LineReader &line) {
  auto name = line.quoted("the variable's name");
  if (!name)
    return name.takeError();
  Variable variable;
  variable.name = std::move(*name);
  variable.role = role;
  if (llvm::Error error = parseType(line.word(), variable.type, variable.shape))
    return error;
  program.variables.push_back(std::move(variable));
  names.add(program.variables.back(), static_cast<uint32_t>(program.variables.size() - 1));
  data.clear();
  // Sizes are trusted below only after this.
  if (std::string problem = quadrille::program::verify(program.variables.back()); !problem.empty())
    return userError(problem);
  return llvm::Error::success();
}

llvm::Expected<Variable *> CommonReader::variableForData() {
  if (program.variables.empty())
    return userError("there is no variable before it that could have data");
  Variable &variable = program.variables.back();
  if (variable.role != VariableRole::Weight && variable.role != VariableRole::State)
    return userError("only weights and states have data");
  if (variable.data.valid() || variable.external)
    return userError("variable '" + variable.name + "' already has all its data");
  return &variable;
}

llvm::Error CommonReader::takeData(LineReader &line) {
  auto variable = variableForData();
  if (!variable)
    return variable.takeError();
  uint64_t size = static_cast<uint64_t>(elementCount((*variable)->shape)) * byteWidth((*variable)->type);
  while (!line.atEnd()) {
    llvm::StringRef word = line.word();
    std::string bytes;
    if (word.size() % 2 != 0 || !llvm::tryGetFromHex(word, bytes))
      return expected("pairs of hexadecimal digits", word);
    const auto *begin = reinterpret_cast<const std::byte *>(bytes.data());
    data.insert(data.end(), begin, begin + bytes.size());
  }
  if (data.size() > size)
    return userError("more data than the " + llvm::Twine(size) + " bytes of " +
                     describe((*variable)->type, (*variable)->shape));
  if (data.size() == size) {
    Tensor tensor = Tensor::uninitialized((*variable)->type, (*variable)->shape);
    if (size)
      std::memcpy(tensor.mutableBytes(), data.data(), size);
    (*variable)->data = std::move(tensor);
    data.clear();
  }
  return llvm::Error::success();
}

llvm::Error CommonReader::takeValues(LineReader &line) {
  auto variable = variableForData();
  if (!variable)
    return variable.takeError();
  ElementType type = (*variable)->type;
  std::vector<double> values;
  while (!line.atEnd()) {
    auto value = line.real("an element");
    if (!value)
      return value.takeError();
    values.push_back(*value);
  }
  if (static_cast<int64_t>(values.size()) != elementCount((*variable)->shape))
    return userError(llvm::Twine(values.size()) + " values for " + describe(type, (*variable)->shape));
  (*variable)->data = convert(Tensor::of<double>(ElementType::f64, (*variable)->shape, values), type);
  return llvm::Error::success();
}

llvm::Error CommonReader::takeExternal(LineReader &line) {
  auto variable = variableForData();
  if (!variable)
    return variable.takeError();
  auto path = line.quoted("the file's path");
  if (!path)
    return path.takeError();
  auto offset = line.unsignedInteger("the offset");
  if (!offset)
    return offset.takeError();
  auto size = line.unsignedInteger("the size");
  if (!size)
    return size.takeError();
  (*variable)->external = Variable::External{std::move(*path), *offset, *size, {}};
  if (line.atEnd())
    return llvm::Error::success();
  auto hash = line.unsignedInteger("the hash");
  if (!hash)
    return hash.takeError();
  (*variable)->external->hash = *hash;
  return llvm::Error::success();
}

llvm::Error CommonReader::takeEntry(LineReader &line) {
  auto name = line.quoted("the entry point's name");
  if (!name)
    return name.takeError();
  program::EntryPoint entry{std::move(*name), {}, {}};
  for (bool output : {false, true}) {
    while (!line.atEnd() && !(!output && line.consume("->"))) {
      auto variable = line.quoted(output ? "an output" : "an input or ->");
      if (!variable)
        return variable.takeError();
      auto found = names.find(output ? VariableRole::Output : VariableRole::Input, *variable);
      if (auto state = names.find(VariableRole::State, *variable); state && (!found || *state < *found))
        found = state;
      if (!found)
        return userError(llvm::Twine("there is no ") + (output ? "output" : "input") + " or state '" + *variable + "'");
      (output ? entry.outputs : entry.inputs).push_back(*found);
    }
  }
  program.entryPoints.push_back(std::move(entry));
  return llvm::Error::success();
}

llvm::Expected<program::Program> CommonReader::finish() {
  if (!sawTarget)
    return userError("expected '.target " + llvm::Twine(program.target) + "', found nothing");
  if (program.machine.empty())
    return userError("the machine is missing", {}, "add '.machine NAME'; `quadrille machines` lists them");
  if (!data.empty())
    return userError("the data of variable '" + program.variables.back().name + "' is incomplete");
  if (program.entryPoints.empty()) {
    program::EntryPoint inference{"inference", {}, {}};
    for (uint32_t i = 0; i < program.variables.size(); ++i)
      if (program.variables[i].role == VariableRole::Input)
        inference.inputs.push_back(i);
      else if (program.variables[i].role == VariableRole::Output)
        inference.outputs.push_back(i);
    program.entryPoints.push_back(std::move(inference));
  }
  if (std::string problem = program.verify(); !problem.empty())
    return userError(problem);
  return std::move(program);
}

} // namespace quadrille::target
