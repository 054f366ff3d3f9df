#include "program/Metadata.h"

#include "Metadata_generated.h"
#include "base/Error.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/JSON.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace quadrille::program {

namespace {

// The file's codes are fixed by the schema; the enumerations in memory may be reordered.
schema::ElementType encodeType(ElementType type) {
  switch (type) {
#define QUADRILLE_CASE(text, name, bits, kind)                                                                         \
  case ElementType::name:                                                                                              \
    return schema::ElementType::name;
    QUADRILLE_ELEMENT_TYPES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return schema::ElementType::f32;
}

std::optional<ElementType> decodeType(schema::ElementType type) {
  switch (type) {
#define QUADRILLE_CASE(text, name, bits, kind)                                                                         \
  case schema::ElementType::name:                                                                                      \
    return ElementType::name;
    QUADRILLE_ELEMENT_TYPES(QUADRILLE_CASE)
#undef QUADRILLE_CASE
  }
  return std::nullopt;
}

schema::VariableRole encodeRole(VariableRole role) {
  switch (role) {
  case VariableRole::Input:
    return schema::VariableRole::Input;
  case VariableRole::Output:
    return schema::VariableRole::Output;
  case VariableRole::Weight:
    return schema::VariableRole::Weight;
  case VariableRole::State:
    return schema::VariableRole::State;
  }
  return schema::VariableRole::Input;
}

std::optional<VariableRole> decodeRole(schema::VariableRole role) {
  switch (role) {
  case schema::VariableRole::Input:
    return VariableRole::Input;
  case schema::VariableRole::Output:
    return VariableRole::Output;
  case schema::VariableRole::Weight:
    return VariableRole::Weight;
  case schema::VariableRole::State:
    return VariableRole::State;
  }
  return std::nullopt;
}

// Upper bound of the bytes that the FlatBuffer takes, to refuse what it cannot hold before building it.
uint64_t encodedBound(const Program &program) {
  constexpr uint64_t perTable = 128; // offset, table with all its fields, alignment
  uint64_t bound = 1024;
  auto text = [&bound](llvm::StringRef string) { bound += string.size() + 16; };
  for (llvm::StringRef string : {llvm::StringRef(program.target), llvm::StringRef(program.machine),
                                 llvm::StringRef(program.compilerRevision), llvm::StringRef(program.precision)})
    text(string);
  if (program.model) {
    text(program.model->path);
    for (const auto &[name, extent] : program.model->dimensions)
      text(name), bound += perTable;
    for (const auto &[name, value] : program.model->bindings)
      text(name), text(value), bound += perTable;
  }
  for (const Node &node : program.nodes)
    text(node.name), text(node.operation), bound += perTable;
  for (const Variable &variable : program.variables) {
    text(variable.name);
    bound += 2 * perTable + 8 * variable.shape.size();
    if (variable.external)
      bound += 4096 + 2 * variable.external->path.size(); // the path is rewritten when the program moves
  }
  for (const EntryPoint &entry : program.entryPoints)
    text(entry.name), bound += perTable + 4 * (entry.inputs.size() + entry.outputs.size());
  return bound;
}

} // namespace

llvm::Expected<std::vector<std::byte>> encodeMetadata(const Program &program, llvm::ArrayRef<Placement> placements) {
  assert(placements.size() == program.variables.size());
  if (encodedBound(program) >= FLATBUFFERS_MAX_BUFFER_SIZE)
    return userError("the program's metadata (names, nodes, machine description) exceeds 2 GiB");
  // Fields are written in a fixed order and nothing is shared, so equal programs give equal bytes.
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  const std::string *illegal = nullptr;
  auto text = [&](const std::string &string) {
    if (!llvm::json::isUTF8(string))
      illegal = &string;
    return builder.CreateString(string);
  };

  auto target = text(program.target), machine = text(program.machine), revision = text(program.compilerRevision),
       precision = text(program.precision);

  flatbuffers::Offset<schema::ModelReference> model;
  if (program.model) {
    std::vector<flatbuffers::Offset<schema::Dimension>> dimensions;
    for (const auto &[name, extent] : program.model->dimensions)
      dimensions.push_back(schema::CreateDimension(builder, text(name), extent));
    std::vector<flatbuffers::Offset<schema::Binding>> bindings;
    for (const auto &[name, value] : program.model->bindings) {
      auto nameOffset = text(name), valueOffset = text(value);
      bindings.push_back(schema::CreateBinding(builder, nameOffset, valueOffset));
    }
    auto path = text(program.model->path);
    auto dimensionVector = builder.CreateVector(dimensions);
    auto bindingVector = builder.CreateVector(bindings);
    model = schema::CreateModelReference(builder, path, program.model->hash, dimensionVector, bindingVector);
  }

  std::vector<flatbuffers::Offset<schema::Node>> nodes;
  nodes.reserve(program.nodes.size());
  for (const Node &node : program.nodes) {
    auto name = text(node.name), operation = text(node.operation);
    nodes.push_back(schema::CreateNode(builder, name, operation));
  }

  std::vector<flatbuffers::Offset<schema::Variable>> variables;
  variables.reserve(program.variables.size());
  for (size_t i = 0; i < program.variables.size(); ++i) {
    const Variable &variable = program.variables[i];
    auto name = text(variable.name);
    auto shape = builder.CreateVector(variable.shape);
    flatbuffers::Offset<schema::External> external;
    if (const auto &from = placements[i].external)
      external = schema::CreateExternal(builder, text(from->path), from->offset, from->size, *from->hash);
    variables.push_back(schema::CreateVariable(builder, name, encodeType(variable.type), encodeRole(variable.role),
                                               shape, placements[i].section, external));
  }

  std::vector<flatbuffers::Offset<schema::EntryPoint>> entryPoints;
  for (const EntryPoint &entry : program.entryPoints) {
    auto name = text(entry.name);
    auto inputs = builder.CreateVector(entry.inputs), outputs = builder.CreateVector(entry.outputs);
    entryPoints.push_back(schema::CreateEntryPoint(builder, name, inputs, outputs));
  }

  auto nodeVector = builder.CreateVector(nodes);
  auto variableVector = builder.CreateVector(variables);
  auto entryPointVector = builder.CreateVector(entryPoints);
  schema::FinishMetadataBuffer(builder, schema::CreateMetadata(builder, target, machine, revision, precision,
                                                               program.chips, program.batch, model, nodeVector,
                                                               variableVector, entryPointVector, program.replicas));
  if (illegal)
    return userError("a name in the model is not UTF-8 and cannot be written to a program: '" +
                     llvm::json::fixUTF8(*illegal) + "'");
  const auto *data = reinterpret_cast<const std::byte *>(builder.GetBufferPointer());
  return std::vector<std::byte>(data, data + builder.GetSize());
}

namespace {

// Copies out of a verified FlatBuffer. Nothing is shared in metadata as we write it, so what is copied never exceeds
// the buffer; a buffer in which many offsets lead to the same bytes could otherwise unfold to any size.
class Decoder {
public:
  explicit Decoder(size_t budget) : budget(budget) {}

  std::string text(const flatbuffers::String *string) {
    spend(string->size() + 1);
    if (!withinBudget)
      return {};
    std::string copy(string->data(), string->size());
    if (!llvm::json::isUTF8(copy))
      legalText = false;
    return copy;
  }
  template <typename T> std::vector<T> vector(const flatbuffers::Vector<T> *from) {
    spend(from->size() * sizeof(T));
    // The verifier aligns the length, not the elements.
    std::vector<T> copy(withinBudget ? from->size() : 0);
    if (!copy.empty())
      std::memcpy(copy.data(), from->Data(), copy.size() * sizeof(T));
    return copy;
  }

  // Empty, or what is wrong.
  const char *problem() const {
    return !withinBudget ? "several references lead to the same bytes" : !legalText ? "a string is not UTF-8" : nullptr;
  }

private:
  void spend(size_t bytes) {
    if (bytes > budget)
      withinBudget = false;
    else
      budget -= bytes;
  }
  size_t budget;
  bool withinBudget = true, legalText = true;
};

} // namespace

llvm::Expected<Program> decodeMetadata(llvm::ArrayRef<std::byte> bytes, uint32_t version, const std::string &fileName,
                                       std::vector<Placement> &placements) {
  const Where where{fileName, "section 'metadata'"};
  if (bytes.size() >= FLATBUFFERS_MAX_BUFFER_SIZE)
    return userError("corrupted: " + llvm::Twine(bytes.size()) + " bytes, at most 2 GiB are allowed", where);
  // A table takes at least eight bytes with the offset that leads to it, unless it is shared, which the decoder
  // refuses.
  flatbuffers::Verifier verifier(
      reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(), /*max_depth=*/8,
      static_cast<flatbuffers::uoffset_t>(std::min<size_t>(bytes.size(), std::numeric_limits<uint32_t>::max())));
  // The shortest buffer holds the root's offset and the identifier.
  if (bytes.size() < 8 || !schema::VerifyMetadataBuffer(verifier))
    return userError("corrupted: not a valid FlatBuffer of the metadata schema", where);
  const schema::Metadata &root = *schema::GetMetadata(bytes.data());

  Decoder decoder(bytes.size());
  Program program;
  program.target = decoder.text(root.target());
  program.machine = decoder.text(root.machine());
  program.compilerRevision = decoder.text(root.compiler_revision());
  program.precision = decoder.text(root.precision());
  program.chips = root.chips();
  program.batch = root.batch();
  program.replicas = root.replicas();
  if (version < 2 && program.replicas != 1)
    return userError("corrupted: format version 1 has no replicas", where);
  if (const schema::ModelReference *model = root.model()) {
    program.model.emplace();
    program.model->path = decoder.text(model->path());
    program.model->hash = model->hash();
    for (const schema::Dimension *dimension : *model->dimensions())
      program.model->dimensions.emplace_back(decoder.text(dimension->name()), dimension->extent());
    for (const schema::Binding *binding : *model->bindings()) {
      std::string name = decoder.text(binding->name());
      program.model->bindings.emplace_back(std::move(name), decoder.text(binding->value()));
    }
  }
  program.nodes.reserve(root.nodes()->size());
  for (const schema::Node *node : *root.nodes()) {
    std::string name = decoder.text(node->name());
    program.nodes.push_back({std::move(name), decoder.text(node->operation())});
  }
  for (const schema::Variable *from : *root.variables()) {
    Variable variable;
    variable.name = decoder.text(from->name());
    std::optional<ElementType> type = decodeType(from->type());
    std::optional<VariableRole> role = decodeRole(from->role());
    if (!type || !role)
      return userError("corrupted: variable '" + llvm::Twine(variable.name) + "' has an unknown type or role", where);
    variable.type = *type;
    variable.role = *role;
    variable.shape = decoder.vector(from->shape());
    Placement placement;
    placement.section = from->section();
    if (const schema::External *external = from->external())
      placement.external =
          Variable::External{decoder.text(external->path()), external->offset(), external->size(), external->hash()};
    variable.external = placement.external;
    program.variables.push_back(std::move(variable));
    placements.push_back(std::move(placement));
    if (decoder.problem())
      break;
  }
  for (const schema::EntryPoint *from : *root.entry_points()) {
    EntryPoint entry;
    entry.name = decoder.text(from->name());
    entry.inputs = decoder.vector(from->inputs());
    entry.outputs = decoder.vector(from->outputs());
    program.entryPoints.push_back(std::move(entry));
    if (decoder.problem())
      break;
  }
  if (const char *problem = decoder.problem())
    return userError(llvm::Twine("corrupted: ") + problem, where);
  return program;
}

} // namespace quadrille::program
