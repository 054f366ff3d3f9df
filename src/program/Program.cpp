#include "program/Program.h"

#include "base/Error.h"
#include "base/File.h"
#include "program/Container.h"
#include "program/Data.h"
#include "program/Metadata.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <limits>

namespace quadrille::program {

void Program::setPayload(std::vector<std::byte> bytes) {
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  payloadBytes = *owner;
  payloadOwner = std::move(owner);
}

void Program::borrowPayload(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner) {
  payloadBytes = bytes;
  payloadOwner = std::move(owner);
}

bool Program::hasData(uint32_t variable) const {
  const Variable &it = variables[variable];
  return it.data.valid() || it.stored || it.external;
}

llvm::Expected<Tensor> Program::dataOf(uint32_t index) const {
  const Variable &variable = variables[index];
  if (variable.data.valid())
    return variable.data;
  if (variable.stored)
    return variable.stored->read(variable);
  if (!variable.external)
    return userError("its data is absent, so the program can be planned and estimated but not executed",
                     {"", "variable '" + variable.name + "'"}, "compile the model with its weights at hand");
  // A program that this process built: the path is its own, seen from the current directory.
  return StoredData(*variable.external, ExternalFiles::Anywhere, "").read(variable);
}

//===-- Well-formedness
//----------------------------------------------------------------------------------------------===//

// Bytes of an array, or nothing when an extent is negative or the size leaves 63 bits.
static std::optional<uint64_t> byteSizeOf(ElementType type, llvm::ArrayRef<int64_t> shape) {
  uint64_t bytes = byteWidth(type);
  bool empty = false;
  for (int64_t extent : shape) {
    if (extent < 0)
      return std::nullopt;
    empty |= extent == 0;
    bool overflow = false;
    bytes = llvm::SaturatingMultiply(bytes, static_cast<uint64_t>(std::max<int64_t>(extent, 1)), &overflow);
    if (overflow || bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
  }
  return empty ? 0 : bytes;
}

std::string verify(const Variable &variable) {
  std::optional<uint64_t> bytes = byteSizeOf(variable.type, variable.shape);
  if (!bytes)
    return "its shape has a negative extent or is too large";
  bool mayHaveData = variable.role == VariableRole::Weight || variable.role == VariableRole::State;
  if (!mayHaveData && (variable.data.valid() || variable.external || variable.stored))
    return "only weights and states have data";
  if (variable.data.valid() && (variable.data.type() != variable.type || variable.data.shape() != variable.shape))
    return "is " + describe(variable.type, variable.shape) + " but its data is " +
           describe(variable.data.type(), variable.data.shape());
  if (variable.external && variable.external->size != *bytes)
    return "is " + describe(variable.type, variable.shape) + " but refers to " +
           std::to_string(variable.external->size) + " bytes of data";
  return {};
}

std::string Program::verify() const {
  if (target.empty())
    return "the target has no name";
  if (!precision.empty() && precision != "none" && !elementTypeNamed(precision))
    return "precision '" + precision + "' is not an element type";
  if (chips < 1 || replicas < 1 || batch < 0)
    return "the number of chips, the number of replicas or the batch is out of range";
  // Names are unique, except that an ONNX graph may return an input or a constant under its own name.
  llvm::StringSet<> names, outputNames;
  for (const Variable &variable : variables) {
    if (variable.name.empty())
      return "a variable has no name";
    bool fresh = true;
    if (variable.role != VariableRole::Output)
      fresh &= names.insert(variable.name).second;
    if (variable.role == VariableRole::Output || variable.role == VariableRole::State)
      fresh &= outputNames.insert(variable.name).second;
    if (!fresh)
      return "variable '" + variable.name + "' occurs twice";
    if (std::string problem = program::verify(variable); !problem.empty())
      return "variable '" + variable.name + "': " + problem;
  }
  names.clear();
  for (const EntryPoint &entry : entryPoints) {
    if (entry.name.empty())
      return "an entry point has no name";
    if (!names.insert(entry.name).second)
      return "entry point '" + entry.name + "' occurs twice";
    for (bool output : {false, true}) {
      std::vector<bool> seen(variables.size(), false);
      for (uint32_t index : output ? entry.outputs : entry.inputs) {
        std::string what = "entry point '" + entry.name + "': " + (output ? "output" : "input");
        if (index >= variables.size())
          return what + " is variable " + std::to_string(index) + " of " + std::to_string(variables.size());
        VariableRole role = variables[index].role;
        if (role != VariableRole::State && role != (output ? VariableRole::Output : VariableRole::Input))
          return what + " '" + variables[index].name + "' is a variable of another role";
        if (seen[index])
          return what + " '" + variables[index].name + "' occurs twice";
        seen[index] = true;
      }
    }
  }
  return {};
}

//===-- Reading
//------------------------------------------------------------------------------------------------------===//

llvm::Expected<Program> Program::load(llvm::StringRef path, ExternalFiles external) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  llvm::ArrayRef<std::byte> bytes = (*file)->bytes();
  return read(bytes, std::move(*file), path, external);
}

llvm::Expected<Program> Program::read(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner,
                                      llvm::StringRef fileName, ExternalFiles allowed) {
  assert(reinterpret_cast<uintptr_t>(bytes.data()) % 16 == 0 && "FlatBuffers are read in place");
  auto container = readContainer(bytes, fileName);
  if (!container)
    return container.takeError();
  std::vector<Section> &sections = container->sections;
  for (size_t i : {0, 1})
    if (llvm::Error error = verifyHash(sections[i], fileName))
      return error;
  std::vector<Placement> placements;
  auto program = decodeMetadata(sections[0].bytes, container->version, fileName.str(), placements);
  if (!program)
    return program.takeError();

  const Where where{fileName.str(), "section 'metadata'"};
  if (std::string problem = program->verify(); !problem.empty())
    return userError("corrupted: " + problem, where);
  // Every data section belongs to one variable, in the order of the variables.
  uint32_t next = 2;
  for (size_t i = 0; i < placements.size(); ++i) {
    Variable &variable = program->variables[i];
    Placement &placement = placements[i];
    auto corrupted = [&](const llvm::Twine &problem) {
      return userError("corrupted: variable '" + llvm::Twine(variable.name) + "': " + problem, where);
    };
    if (placement.section == 0) {
      if (placement.external) {
        auto stored = std::make_shared<StoredData>(std::move(*placement.external), allowed, fileName.str());
        variable.external->path = stored->resolvedPath();
        variable.stored = std::move(stored);
      }
      continue;
    }
    if (placement.external)
      return corrupted("its data is both in this file and in another");
    if (variable.role != VariableRole::Weight && variable.role != VariableRole::State)
      return corrupted("only weights and states have data");
    if (placement.section != next || next >= sections.size())
      return corrupted("its data is in section " + llvm::Twine(placement.section) + ", expected " + llvm::Twine(next));
    Section &section = sections[next++];
    if (section.bytes.size() != *byteSizeOf(variable.type, variable.shape))
      return corrupted("is " + describe(variable.type, variable.shape) + " but section '" + section.name + "' has " +
                       llvm::Twine(section.bytes.size()) + " bytes");
    variable.stored = std::make_shared<StoredData>(std::move(section), owner, fileName.str());
  }
  if (next != sections.size())
    return userError("corrupted: section " + llvm::Twine(next) + " belongs to no variable", where);
  program->borrowPayload(sections[1].bytes, std::move(owner));
  return program;
}

//===-- Writing
//------------------------------------------------------------------------------------------------------===//

// The reference to be written for a variable whose data also lies in another file, if it may be referred to from
// `folder` and holds the data. Nothing otherwise; a file that cannot be read is no error here.
static std::optional<Variable::External> referenceTo(const Variable &variable, llvm::StringRef folder) {
  if (folder.empty() || !variable.external)
    return std::nullopt;
  Variable::External external = *variable.external;
  std::optional<std::string> relative = pathBelow(external.path, folder);
  if (!relative)
    return std::nullopt;
  std::shared_ptr<const void> owner;
  auto bytes = mapSpan(external.path, external.offset, external.size, owner);
  if (!bytes) {
    llvm::consumeError(bytes.takeError());
    return std::nullopt;
  }
  uint64_t hash = hashOf(*bytes);
  // The tensor in memory decides: the file may have changed, or hold the values in another form.
  if (variable.data.valid() ? hashOf(variable.data.bytes()) != hash : external.hash.value_or(hash) != hash)
    return std::nullopt;
  external.path = std::move(*relative);
  external.hash = hash;
  return external;
}

llvm::Error Program::write(llvm::raw_pwrite_stream &os, llvm::StringRef folder) const {
  if (std::string problem = verify(); !problem.empty())
    return internalError("the compiler produced a malformed program: " + problem);
  std::vector<Section> sections(2);
  std::vector<Placement> placements(variables.size());
  std::vector<Tensor> owners;
  for (uint32_t i = 0; i < variables.size(); ++i) {
    placements[i].external = referenceTo(variables[i], folder);
    if (placements[i].external || !hasData(i))
      continue;
    auto data = dataOf(i);
    if (!data)
      return data.takeError();
    placements[i].section = static_cast<uint32_t>(sections.size());
    sections.push_back({SectionKind::Data, "data " + std::to_string(i), data->bytes(), hashOf(data->bytes())});
    owners.push_back(std::move(*data));
  }
  auto metadata = encodeMetadata(*this, placements);
  if (!metadata)
    return metadata.takeError();
  sections[0] = {SectionKind::Metadata, "metadata", *metadata, hashOf(*metadata)};
  sections[1] = {SectionKind::Payload, "payload", payloadBytes, hashOf(payloadBytes)};
  writeContainer(sections, os);
  return llvm::Error::success();
}

llvm::Error Program::save(llvm::StringRef path) const {
  llvm::StringRef folder = llvm::sys::path::parent_path(path);
  if (path != "-" && folder.empty())
    folder = ".";
  return writeFileAtomically(path, [&](llvm::raw_pwrite_stream &os) { return write(os, folder); });
}

} // namespace quadrille::program
