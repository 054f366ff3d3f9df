#include "target/ipu/Code.h"

#include "base/Error.h"
#include "target/ipu/Program_generated.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <cstring>

namespace quadrille::ipu {

static_assert(sizeof(TileRange) == sizeof(fbs::TileRange) && sizeof(Step) == sizeof(fbs::Step));
static_assert(StepKind::Write == static_cast<StepKind>(fbs::StepKind::Write));

int64_t tileCount(llvm::ArrayRef<TileRange> ranges) {
  int64_t count = 0;
  for (const TileRange &range : ranges)
    count += range.count;
  return count;
}

bool isOn(llvm::ArrayRef<TileRange> ranges, uint32_t tile) {
  return llvm::any_of(ranges, [&](const TileRange &range) { return range.holds(tile); });
}

std::string print(llvm::ArrayRef<TileRange> ranges) {
  std::string text;
  for (const TileRange &range : ranges) {
    text += text.empty() ? "" : ",";
    text += std::to_string(range.first);
    if (range.count != 1)
      text += ".." + std::to_string(range.tile(range.count - 1));
    if (range.count != 1 && range.step != 1)
      text += "/" + std::to_string(range.step);
  }
  return text;
}

namespace {

llvm::Error invalid(const llvm::Twine &what) {
  return userError("the program's ipu section is damaged: " + what, {}, "compile or assemble it again");
}

// A FlatBuffer may refer to one part many times, and each reference becomes a copy in memory. What this target writes
// shares nothing: all vectors together fit into the buffer.
class Reader {
public:
  explicit Reader(size_t bytes) : bytes(bytes) {}

  template <typename Vector> bool take(const Vector *vector) {
    if (vector)
      copied += vector->size() * sizeof(*vector->Get(0));
    return copied <= bytes;
  }
  template <typename T> bool take(const flatbuffers::Vector<T> *vector, std::vector<T> &to) {
    if (!vector)
      return true;
    copied += vector->size() * sizeof(T);
    if (copied > bytes)
      return false;
    to.assign(vector->begin(), vector->end());
    return true;
  }
  // Of structs with the same bytes here.
  template <typename Struct, typename T>
  bool take(const flatbuffers::Vector<const Struct *> *vector, std::vector<T> &to) {
    static_assert(sizeof(Struct) == sizeof(T));
    if (!vector)
      return true;
    copied += vector->size() * sizeof(T);
    if (copied > bytes)
      return false;
    to.resize(vector->size());
    if (vector->size() > 0)
      std::memcpy(static_cast<void *>(to.data()), vector->Data(), sizeof(T) * vector->size());
    return true;
  }

private:
  size_t bytes, copied = 0;
};

const char *const shared = "two of its parts share their contents";

std::string textOf(const flatbuffers::String *text) {
  return text ? text->str() : std::string();
}

llvm::Error decodeExpression(const fbs::Expression &from, Reader &reader, BlockExpression &to) {
  if (from.inputs())
    for (const flatbuffers::String *name : *from.inputs()) {
      auto type = elementTypeNamed(name->str());
      if (!type)
        return invalid("an expression has the unknown type '" + name->str() + "'");
      to.inputs.push_back(*type);
    }
  if (from.operations())
    for (const fbs::Operation *each : *from.operations()) {
      auto type = elementTypeNamed(each->type()->str());
      auto opcode = blockOpcodeNamed(each->opcode()->str());
      std::vector<uint16_t> operands;
      if (!type || !opcode || !reader.take(each->operands(), operands) || operands.size() != operandCount(*opcode))
        return invalid("an expression has an operation that does not exist");
      BlockInstruction instruction{*opcode, *type, {}, each->immediate()};
      llvm::copy(operands, instruction.operands.begin());
      to.instructions.push_back(instruction);
    }
  std::vector<uint16_t> results;
  if (!reader.take(from.results(), results))
    return invalid(shared);
  to.results.assign(results.begin(), results.end());
  if (std::string problem = to.verify(); !problem.empty())
    return invalid("an expression: " + problem);
  return llvm::Error::success();
}

llvm::Error decodePlacement(const fbs::Placement &from, Reader &reader, Placement &to) {
  to.variable = from.variable();
  auto type = elementTypeNamed(from.type()->str());
  if (!type)
    return invalid("a placement has the unknown type '" + from.type()->str() + "'");
  to.type = *type;
  if (!from.parts())
    return llvm::Error::success();
  for (const fbs::Part *part : *from.parts()) {
    Part &toPart = to.parts.emplace_back();
    toPart.address = part->address();
    if (!reader.take(part->tiles(), toPart.tiles) || !reader.take(part->begin(), toPart.begin) ||
        !reader.take(part->extents(), toPart.extents) || !reader.take(part->shift(), toPart.shift) ||
        !reader.take(part->digits()))
      return invalid(shared);
    if (part->digits())
      for (const fbs::Digit *digit : *part->digits())
        toPart.digits.push_back({digit->dimension(), digit->extent(), digit->stride()});
  }
  return llvm::Error::success();
}

llvm::Error decodeVertex(const fbs::Vertex &from, Reader &reader, Vertex &to) {
  to.codelet = from.codelet();
  std::vector<uint32_t> lengths;
  std::vector<int64_t> numbers;
  if (!reader.take(from.tiles(), to.tiles) || !reader.take(from.lengths(), lengths) ||
      !reader.take(from.numbers(), numbers))
    return invalid(shared);
  size_t next = 0;
  for (uint32_t length : lengths) {
    if (length > numbers.size() - next)
      return invalid("a vertex has fewer numbers than its parameters need");
    to.values.emplace_back(numbers.begin() + static_cast<ptrdiff_t>(next),
                           numbers.begin() + static_cast<ptrdiff_t>(next + length));
    next += length;
  }
  return next == numbers.size() ? llvm::Error::success() : invalid("a vertex has more numbers than parameters");
}

} // namespace

llvm::Expected<Code> Code::decode(llvm::ArrayRef<std::byte> payload) {
  auto *bytes = reinterpret_cast<const uint8_t *>(payload.data());
  flatbuffers::Verifier verifier(bytes, payload.size(), /*max_depth=*/64,
                                 static_cast<flatbuffers::uoffset_t>(payload.size() / 8));
  if (payload.size() < 16 || payload.size() >= FLATBUFFERS_MAX_BUFFER_SIZE || !fbs::VerifyProgramBuffer(verifier))
    return invalid("it is not a valid FlatBuffer with the identifier QIPU");
  Reader reader(payload.size());
  const fbs::Program *root = fbs::GetProgram(bytes);
  Code code;
  if (root->expressions())
    for (const fbs::Expression *expression : *root->expressions())
      if (llvm::Error error = decodeExpression(*expression, reader, code.expressions.emplace_back()))
        return std::move(error);
  if (root->placements())
    for (const fbs::Placement *placement : *root->placements())
      if (llvm::Error error = decodePlacement(*placement, reader, code.placements.emplace_back()))
        return std::move(error);
  if (root->compute_sets())
    for (const fbs::ComputeSet *set : *root->compute_sets()) {
      ComputeSet &to = code.computeSets.emplace_back();
      to.name = textOf(set->name());
      if (set->vertices())
        for (const fbs::Vertex *vertex : *set->vertices())
          if (llvm::Error error = decodeVertex(*vertex, reader, to.vertices.emplace_back()))
            return std::move(error);
    }
  if (root->exchanges())
    for (const fbs::Exchange *exchange : *root->exchanges()) {
      Exchange &to = code.exchanges.emplace_back();
      to.name = textOf(exchange->name());
      if (!reader.take(exchange->transfers()))
        return invalid(shared);
      if (exchange->transfers())
        for (const fbs::Transfer *each : *exchange->transfers())
          to.transfers.push_back(
              {each->source(),
               {each->destinations().first(), each->destinations().count(), each->destinations().step()},
               each->source_address(),
               each->destination_address(),
               each->rows(),
               each->bytes(),
               each->source_stride(),
               each->destination_stride(),
               each->joins()});
    }
  if (root->entries())
    for (const fbs::Entry *entry : *root->entries()) {
      std::vector<Step> &to = code.entries.emplace_back();
      if (!reader.take(entry->steps()))
        return invalid(shared);
      if (entry->steps())
        for (const fbs::Step *step : *entry->steps()) {
          if (step->kind() > fbs::StepKind::Write)
            return invalid("a step is of an unknown kind");
          to.push_back({static_cast<StepKind>(step->kind()), step->index(), step->node()});
        }
    }
  return code;
}

namespace {

class Encoder {
public:
  std::vector<std::byte> encode(const Code &code) {
    auto expressions = list<fbs::Expression>(code.expressions);
    auto placements = list<fbs::Placement>(code.placements);
    auto sets = list<fbs::ComputeSet>(code.computeSets);
    auto exchanges = list<fbs::Exchange>(code.exchanges);
    auto entries = list<fbs::Entry>(code.entries);
    fbs::FinishProgramBuffer(builder, fbs::CreateProgram(builder, expressions, placements, sets, exchanges, entries));
    auto *begin = reinterpret_cast<const std::byte *>(builder.GetBufferPointer());
    return {begin, begin + builder.GetSize()};
  }

private:
  template <typename Table, typename T>
  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<Table>>> list(const std::vector<T> &from) {
    std::vector<flatbuffers::Offset<Table>> offsets;
    offsets.reserve(from.size());
    for (const T &each : from)
      offsets.push_back(add(each));
    return builder.CreateVector(offsets);
  }
  auto ranges(const std::vector<TileRange> &from) {
    return builder.CreateVectorOfStructs(reinterpret_cast<const fbs::TileRange *>(from.data()), from.size());
  }
  auto text(llvm::StringRef string) { return builder.CreateString(string.data(), string.size()); }

  flatbuffers::Offset<fbs::Expression> add(const BlockExpression &expression) {
    std::vector<flatbuffers::Offset<flatbuffers::String>> inputs;
    for (ElementType type : expression.inputs)
      inputs.push_back(text(nameOf(type)));
    std::vector<flatbuffers::Offset<fbs::Operation>> operations;
    for (const BlockInstruction &each : expression.instructions) {
      auto opcode = text(nameOf(each.opcode)), type = text(nameOf(each.type));
      auto operands = builder.CreateVector(each.operands.data(), operandCount(each.opcode));
      operations.push_back(fbs::CreateOperation(builder, opcode, type, operands, each.immediate));
    }
    auto inputOffset = builder.CreateVector(inputs);
    auto operationOffset = builder.CreateVector(operations);
    auto results = builder.CreateVector(expression.results);
    return fbs::CreateExpression(builder, inputOffset, operationOffset, results);
  }
  flatbuffers::Offset<fbs::Part> add(const Part &part) {
    auto tiles = ranges(part.tiles);
    auto begin = builder.CreateVector(part.begin), extents = builder.CreateVector(part.extents),
         shift = builder.CreateVector(part.shift);
    std::vector<fbs::Digit> digits;
    for (const Digit &digit : part.digits)
      digits.emplace_back(digit.dimension, digit.extent, digit.stride);
    auto digitOffset = builder.CreateVectorOfStructs(digits);
    return fbs::CreatePart(builder, tiles, part.address, begin, extents, shift, digitOffset);
  }
  flatbuffers::Offset<fbs::Placement> add(const Placement &placement) {
    auto type = text(nameOf(placement.type));
    return fbs::CreatePlacement(builder, placement.variable, type, list<fbs::Part>(placement.parts));
  }
  flatbuffers::Offset<fbs::Vertex> add(const Vertex &vertex) {
    std::vector<uint32_t> lengths;
    std::vector<int64_t> numbers;
    for (const std::vector<int64_t> &values : vertex.values) {
      lengths.push_back(static_cast<uint32_t>(values.size()));
      numbers.insert(numbers.end(), values.begin(), values.end());
    }
    auto tiles = ranges(vertex.tiles);
    auto lengthOffset = builder.CreateVector(lengths);
    auto numberOffset = builder.CreateVector(numbers);
    return fbs::CreateVertex(builder, vertex.codelet, tiles, lengthOffset, numberOffset);
  }
  flatbuffers::Offset<fbs::ComputeSet> add(const ComputeSet &set) {
    auto name = text(set.name);
    return fbs::CreateComputeSet(builder, name, list<fbs::Vertex>(set.vertices));
  }
  flatbuffers::Offset<fbs::Exchange> add(const Exchange &exchange) {
    auto name = text(exchange.name);
    std::vector<fbs::Transfer> transfers;
    transfers.reserve(exchange.transfers.size());
    for (const Transfer &each : exchange.transfers)
      transfers.emplace_back(each.source,
                             fbs::TileRange(each.destinations.first, each.destinations.count, each.destinations.step),
                             each.sourceAddress, each.destinationAddress, each.rows, each.bytes, each.sourceStride,
                             each.destinationStride, each.joins);
    return fbs::CreateExchange(builder, name, builder.CreateVectorOfStructs(transfers));
  }
  flatbuffers::Offset<fbs::Entry> add(const std::vector<Step> &steps) {
    std::vector<fbs::Step> made;
    made.reserve(steps.size());
    for (const Step &step : steps)
      made.emplace_back(static_cast<fbs::StepKind>(step.kind), step.index, step.node);
    return fbs::CreateEntry(builder, builder.CreateVectorOfStructs(made));
  }

  flatbuffers::FlatBufferBuilder builder;
};

} // namespace

std::vector<std::byte> Code::encode() const {
  return Encoder().encode(*this);
}

llvm::Expected<Loaded> Loaded::from(const program::Program &program) {
  auto machine = Architecture::from(program.machine);
  if (!machine)
    return machine.takeError();
  auto code = Code::decode(program.payload());
  if (!code)
    return code.takeError();
  return Loaded{std::move(*code), std::move(*machine)};
}

} // namespace quadrille::ipu
