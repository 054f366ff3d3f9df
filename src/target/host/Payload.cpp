#include "target/host/Payload.h"

#include "base/Error.h"
#include "graph/KernelQueries.h"
#include "target/Emit.h"
#include "target/host/Operation.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/bit.h"

#include <cmath>
#include <cstring>

namespace quadrille::host {

using namespace graph;

namespace {

constexpr int64_t largestExtent = int64_t(1) << 40;
constexpr unsigned deepestRegion = 8;
constexpr int64_t inlineBytes = 256; // constants up to this size lie in the payload

std::string textOf(ElementType type) {
  return nameOf(type).str();
}

class Writer {
public:
  explicit Writer(program::Program &program) : program(program) {
    for (const program::Variable &variable : program.variables)
      if (variable.role == program::VariableRole::Weight)
        names.insert(variable.name);
  }

  std::unique_ptr<schema::GraphT> write(const KernelGraph &graph) {
    auto result = std::make_unique<schema::GraphT>();
    Uses uses(graph);
    for (auto [id, value] : llvm::enumerate(graph.values)) {
      auto record = std::make_unique<schema::ValueT>();
      record->name = value.name;
      record->type = textOf(value.type);
      record->shape = value.shape;
      record->role = nameOf(value.role).str();
      if (value.role == ValueRole::Constant && !uses.readers[id].empty())
        writeConstant(value, *record);
      result->values.push_back(std::move(record));
    }
    for (const Kernel &kernel : graph.kernels)
      result->kernels.push_back(write(kernel));
    result->inputs = graph.inputs;
    result->outputs = graph.outputs;
    return result;
  }

private:
  void writeConstant(const Value &value, schema::ValueT &record) {
    if (value.data.valid() && static_cast<int64_t>(value.data.byteSize()) <= inlineBytes) {
      const auto *bytes = reinterpret_cast<const uint8_t *>(value.data.bytes().data());
      record.data.assign(bytes, bytes + value.data.byteSize());
      return;
    }
    program::Variable variable = target::weightOf(value);
    std::string base = variable.name.empty() ? "constant" : variable.name;
    variable.name = base;
    for (unsigned number = 2; !names.insert(variable.name).second; ++number)
      variable.name = base + "#" + std::to_string(number);
    record.variable = static_cast<uint32_t>(program.variables.size());
    program.variables.push_back(std::move(variable));
  }

  static std::unique_ptr<schema::ScalarT> write(const Scalar &scalar) {
    auto result = std::make_unique<schema::ScalarT>();
    result->type = textOf(scalar.type);
    result->bits = scalar.bits;
    return result;
  }
  static std::vector<std::unique_ptr<schema::AccessT>> write(const AccessMap &map) {
    std::vector<std::unique_ptr<schema::AccessT>> result;
    for (const DimensionAccess &dimension : map) {
      auto access = std::make_unique<schema::AccessT>();
      access->offset = dimension.offset;
      for (auto [loop, coefficient] : dimension.terms)
        access->terms.emplace_back(loop, coefficient);
      result.push_back(std::move(access));
    }
    return result;
  }
  static std::unique_ptr<schema::ReadT> write(const Read &read) {
    auto result = std::make_unique<schema::ReadT>();
    result->value = read.value;
    result->map = write(read.map);
    if (read.padding)
      result->padding = write(*read.padding);
    return result;
  }
  static std::unique_ptr<schema::AttributeT> write(const std::string &name, const Attribute &attribute) {
    auto result = std::make_unique<schema::AttributeT>();
    result->name = name;
    auto bits = [](double value) { return llvm::bit_cast<uint64_t>(value); };
    if (auto *value = std::get_if<int64_t>(&attribute)) {
      result->integers = {*value};
    } else if (auto *value = std::get_if<double>(&attribute)) {
      result->reals = {bits(*value)};
    } else if (auto *value = std::get_if<std::string>(&attribute)) {
      result->strings = {*value};
    } else if (auto *value = std::get_if<std::vector<int64_t>>(&attribute)) {
      result->list = true;
      result->integers = *value;
    } else if (auto *value = std::get_if<std::vector<double>>(&attribute)) {
      result->list = true;
      for (double real : *value)
        result->reals.push_back(bits(real));
    } else {
      result->list = true;
      result->strings = std::get<std::vector<std::string>>(attribute);
    }
    return result;
  }
  std::unique_ptr<schema::KernelT> write(const Kernel &kernel) {
    auto result = std::make_unique<schema::KernelT>();
    result->kind = nameOf(kernel.kind).str();
    result->operation = kernel.operation;
    for (const Loop &loop : kernel.loops) {
      auto record = std::make_unique<schema::LoopT>();
      record->extent = loop.extent;
      record->reduction = loop.reduction;
      result->loops.push_back(std::move(record));
    }
    for (const Read &read : kernel.reads)
      result->reads.push_back(write(read));
    for (const Write &w : kernel.writes) {
      auto record = std::make_unique<schema::WriteT>();
      record->value = w.value;
      record->map = write(w.map);
      record->combiner = nameOf(w.combiner).str();
      if (w.initialScalar)
        record->initial_scalar = write(*w.initialScalar);
      if (w.initial)
        record->initial = write(*w.initial);
      result->writes.push_back(std::move(record));
    }
    if (!kernel.body.results.empty()) {
      result->body = std::make_unique<schema::BodyT>();
      for (ElementType type : kernel.body.inputs)
        result->body->inputs.push_back(textOf(type));
      for (const BlockInstruction &instruction : kernel.body.instructions) {
        auto record = std::make_unique<schema::InstructionT>();
        record->opcode = nameOf(instruction.opcode).str();
        record->type = textOf(instruction.type);
        record->operands.assign(instruction.operands.begin(),
                                instruction.operands.begin() + operandCount(instruction.opcode));
        record->immediate = instruction.immediate;
        result->body->instructions.push_back(std::move(record));
      }
      result->body->results = kernel.body.results;
    }
    for (const auto &[name, attribute] : kernel.attributes)
      result->attributes.push_back(write(name, attribute));
    if (kernel.region)
      result->region = write(*kernel.region);
    result->nodes = kernel.nodes;
    auto count = [](double work) { return work > 0 && work < 1e19 ? static_cast<uint64_t>(std::llround(work)) : 0; };
    result->flops = count(kernel.flops);
    result->bytes = count(kernel.bytes);
    return result;
  }

  program::Program &program;
  llvm::StringSet<> names;
};

class Reader {
public:
  Reader(const program::Program &program) : program(program) {}

  llvm::Expected<KernelGraph> read(const schema::GraphT &from, unsigned depth) {
    if (depth > deepestRegion)
      return userError("regions are nested too deeply");
    KernelGraph graph;
    for (auto [id, record] : llvm::enumerate(from.values)) {
      Value value;
      value.name = record->name;
      llvm::Expected<ElementType> type = typeNamed(record->type);
      if (!type)
        return type.takeError();
      value.type = *type;
      value.shape = record->shape;
      int64_t count = 1;
      for (int64_t extent : value.shape) {
        if (extent < 0 || extent > largestExtent || (extent > 0 && count > largestExtent / extent))
          return userError("value " + llvm::Twine(id) + " has an impossible shape");
        count *= extent;
      }
      if (record->role == nameOf(ValueRole::Input))
        value.role = ValueRole::Input;
      else if (record->role == nameOf(ValueRole::Constant))
        value.role = ValueRole::Constant;
      else if (record->role == nameOf(ValueRole::Intermediate))
        value.role = ValueRole::Intermediate;
      else
        return userError("value " + llvm::Twine(id) + " has unknown role '" + record->role + "'");
      if (!record->data.empty()) {
        if (value.role != ValueRole::Constant ||
            record->data.size() != static_cast<uint64_t>(count) * byteWidth(value.type))
          return userError("the data of value " + llvm::Twine(id) + " does not have its size");
        value.data = Tensor::uninitialized(value.type, value.shape);
        std::memcpy(value.data.mutableBytes(), record->data.data(), record->data.size());
      }
      if (record->variable != noSlot) {
        if (value.role != ValueRole::Constant || record->variable >= program.variables.size())
          return userError("value " + llvm::Twine(id) + " names variable " + llvm::Twine(record->variable) +
                           ", which does not exist");
        const program::Variable &variable = program.variables[record->variable];
        if (variable.role != program::VariableRole::Weight || variable.type != value.type ||
            variable.shape != value.shape)
          return userError("value " + llvm::Twine(id) + " differs from variable '" + variable.name +
                           "' in role, type or shape");
      }
      graph.values.push_back(std::move(value));
    }
    for (auto [k, record] : llvm::enumerate(from.kernels)) {
      llvm::Expected<Kernel> kernel = read(*record, depth);
      if (!kernel)
        return atNode(kernel.takeError(), "kernel " + std::to_string(k));
      graph.kernels.push_back(std::move(*kernel));
    }
    graph.inputs = from.inputs;
    graph.outputs = from.outputs;
    for (const program::Node &node : program.nodes)
      graph.nodes.push_back({node.name, node.operation});
    for (ValueId output : graph.outputs) {
      if (output >= graph.values.size())
        return userError("output " + llvm::Twine(output) + " does not exist");
      graph.outputNames.push_back(graph.values[output].name);
    }
    if (std::string wrong = graph.verify(); !wrong.empty())
      return userError(wrong);
    return graph;
  }

private:
  static llvm::Expected<ElementType> typeNamed(const std::string &name) {
    if (std::optional<ElementType> type = elementTypeNamed(name))
      return *type;
    return userError("unknown element type '" + name + "'");
  }
  static llvm::Expected<Scalar> read(const schema::ScalarT &from) {
    llvm::Expected<ElementType> type = typeNamed(from.type);
    if (!type)
      return type.takeError();
    return Scalar{*type, from.bits};
  }
  static AccessMap read(const std::vector<std::unique_ptr<schema::AccessT>> &from) {
    AccessMap map;
    for (const auto &access : from) {
      map.push_back({access->offset, {}});
      for (const schema::Term &term : access->terms)
        map.back().terms.push_back({term.loop(), term.coefficient()});
    }
    return map;
  }
  // Offsets and coefficients so large that indices could overflow.
  static bool bounded(const AccessMap &map) {
    return llvm::all_of(map, [](const DimensionAccess &access) {
      return std::abs(access.offset) <= largestExtent && access.offset != INT64_MIN &&
             llvm::all_of(access.terms,
                          [](auto term) { return term.second >= -(1ll << 31) && term.second <= (1ll << 31); });
    });
  }
  static llvm::Expected<Read> read(const schema::ReadT &from) {
    Read read{from.value, Reader::read(from.map), std::nullopt};
    if (!bounded(read.map))
      return userError("an access map is out of range");
    if (from.padding) {
      llvm::Expected<Scalar> padding = Reader::read(*from.padding);
      if (!padding)
        return padding.takeError();
      read.padding = *padding;
    }
    return read;
  }
  llvm::Expected<Kernel> read(const schema::KernelT &from, unsigned depth) {
    Kernel kernel;
    kernel.operation = from.operation;
    bool known = false;
    for (KernelKind kind : {KernelKind::Contract, KernelKind::Map, KernelKind::Reduce, KernelKind::Window,
                            KernelKind::Move, KernelKind::Composite, KernelKind::Other})
      if (from.kind == nameOf(kind)) {
        kernel.kind = kind;
        known = true;
      }
    if (!known)
      return userError("unknown kind '" + from.kind + "'");
    int64_t points = 1;
    for (const auto &loop : from.loops) {
      if (loop->extent < 0 || loop->extent > largestExtent ||
          (loop->extent > 0 && points > (int64_t(1) << 60) / loop->extent))
        return userError("a loop's extent is out of range");
      points *= std::max<int64_t>(loop->extent, 1);
      kernel.loops.push_back({loop->extent, loop->reduction});
    }
    for (const auto &record : from.reads) {
      llvm::Expected<Read> read = Reader::read(*record);
      if (!read)
        return read.takeError();
      kernel.reads.push_back(std::move(*read));
    }
    for (const auto &record : from.writes) {
      Write write;
      write.value = record->value;
      write.map = read(record->map);
      if (!bounded(write.map))
        return userError("an access map is out of range");
      bool knownCombiner = false;
      for (int c = 0; c <= static_cast<int>(Combiner::Xor); ++c)
        if (record->combiner == nameOf(static_cast<Combiner>(c))) {
          write.combiner = static_cast<Combiner>(c);
          knownCombiner = true;
        }
      if (!knownCombiner)
        return userError("unknown combiner '" + record->combiner + "'");
      if (record->initial_scalar) {
        llvm::Expected<Scalar> scalar = read(*record->initial_scalar);
        if (!scalar)
          return scalar.takeError();
        write.initialScalar = *scalar;
      }
      if (record->initial) {
        llvm::Expected<Read> initial = read(*record->initial);
        if (!initial)
          return initial.takeError();
        write.initial = std::move(*initial);
      }
      kernel.writes.push_back(std::move(write));
    }
    if (from.body) {
      for (const std::string &name : from.body->inputs) {
        llvm::Expected<ElementType> type = typeNamed(name);
        if (!type)
          return type.takeError();
        kernel.body.inputs.push_back(*type);
      }
      for (const auto &record : from.body->instructions) {
        std::optional<BlockOpcode> opcode = blockOpcodeNamed(record->opcode);
        if (!opcode)
          return userError("unknown opcode '" + record->opcode + "'");
        llvm::Expected<ElementType> type = typeNamed(record->type);
        if (!type)
          return type.takeError();
        if (record->operands.size() != operandCount(*opcode))
          return userError("'" + record->opcode + "' takes " + llvm::Twine(operandCount(*opcode)) + " operands");
        BlockInstruction instruction{*opcode, *type, {}, record->immediate};
        llvm::copy(record->operands, instruction.operands.begin());
        kernel.body.instructions.push_back(instruction);
      }
      kernel.body.results = from.body->results;
      if (std::string wrong = kernel.body.verify(); !wrong.empty())
        return userError(wrong);
    }
    for (const auto &record : from.attributes) {
      unsigned lists = !record->integers.empty() + !record->reals.empty() + !record->strings.empty();
      size_t count = record->integers.size() + record->reals.size() + record->strings.size();
      if (lists > 1 || (!record->list && count != 1))
        return userError("attribute '" + record->name + "' is malformed");
      Attribute &attribute = kernel.attributes[record->name];
      std::vector<double> reals;
      for (uint64_t bits : record->reals)
        reals.push_back(llvm::bit_cast<double>(bits));
      if (!record->reals.empty())
        attribute = record->list ? Attribute(reals) : Attribute(reals[0]);
      else if (!record->strings.empty())
        attribute = record->list ? Attribute(record->strings) : Attribute(record->strings[0]);
      else
        attribute = record->list ? Attribute(record->integers) : Attribute(record->integers[0]);
    }
    if (from.region) {
      llvm::Expected<KernelGraph> region = read(*from.region, depth + 1);
      if (!region)
        return region.takeError();
      kernel.region = std::make_shared<const KernelGraph>(std::move(*region));
    }
    for (uint32_t node : from.nodes)
      if (node >= program.nodes.size())
        return userError("node " + llvm::Twine(node) + " does not exist");
    kernel.nodes = from.nodes;
    kernel.flops = static_cast<double>(from.flops);
    kernel.bytes = static_cast<double>(from.bytes);
    return kernel;
  }

  const program::Program &program;
};

llvm::Error bind(const program::Program &program, const schema::GraphT &from, KernelGraph &graph) {
  for (auto [record, value] : llvm::zip(from.values, graph.values)) {
    if (record->variable == noSlot || !program.hasData(record->variable))
      continue;
    llvm::Expected<Tensor> data = program.dataOf(record->variable);
    if (!data)
      return data.takeError();
    value.data = *data;
  }
  for (auto [record, kernel] : llvm::zip(from.kernels, graph.kernels))
    if (record->region) {
      KernelGraph region = *kernel.region;
      if (llvm::Error error = bind(program, *record->region, region))
        return error;
      kernel.region = std::make_shared<const KernelGraph>(std::move(region));
    }
  return llvm::Error::success();
}

} // namespace

void setPayload(program::Program &program, const HostPlan &plan) {
  schema::ProgramT contents;
  contents.graph = Writer(program).write(plan.graph);
  for (auto [id, value] : llvm::enumerate(contents.graph->values)) {
    value->slot = plan.decisions.slots[id];
    if (plan.decisions.layouts[id] == Layout::ChannelsLast)
      value->layout = "channels_last";
  }
  for (const Step &step : plan.decisions.steps) {
    contents.steps.push_back(std::make_unique<schema::StepT>());
    contents.steps.back()->kernels = step.kernels;
  }
  contents.slot_count = plan.decisions.slotCount;
  setPayload(program, contents);
}

void setPayload(program::Program &program, const schema::ProgramT &contents) {
  flatbuffers::FlatBufferBuilder builder;
  schema::FinishProgramBuffer(builder, schema::Program::Pack(builder, &contents));
  const auto *data = reinterpret_cast<const std::byte *>(builder.GetBufferPointer());
  program.setPayload({data, data + builder.GetSize()});
}

llvm::Expected<std::unique_ptr<schema::ProgramT>> payloadOf(const program::Program &program) {
  if (program.target != "host")
    return userError("the program is for target '" + llvm::Twine(program.target) + "', not 'host'");
  llvm::ArrayRef<std::byte> payload = program.payload();
  const auto *bytes = reinterpret_cast<const uint8_t *>(payload.data());
  flatbuffers::Verifier verifier(bytes, payload.size(), /*max_depth=*/64,
                                 static_cast<flatbuffers::uoffset_t>(payload.size() / 8));
  if (payload.size() < 8 || payload.size() >= FLATBUFFERS_MAX_BUFFER_SIZE || !schema::VerifyProgramBuffer(verifier))
    return userError("the payload is not a valid host program");
  return std::unique_ptr<schema::ProgramT>(schema::GetProgram(bytes)->UnPack());
}

llvm::Expected<HostPlan> planOf(const program::Program &program, const schema::ProgramT &contents) {
  llvm::Expected<KernelGraph> graph = Reader(program).read(*contents.graph, 0);
  if (!graph)
    return graph.takeError();
  HostPlan plan;
  plan.graph = std::move(*graph);
  for (auto [k, kernel] : llvm::enumerate(plan.graph.kernels)) {
    if (!isReshape(kernel))
      continue;
    const Value &from = plan.graph.values[kernel.reads[0].value], &to = plan.graph.values[kernel.writes[0].value];
    if (from.type != to.type || elementCount(from.shape) != elementCount(to.shape))
      return userError("kernel " + llvm::Twine(k) + ": operand and result differ in elements");
  }
  for (const auto &value : contents.graph->values) {
    plan.decisions.slots.push_back(value->slot);
    if (!value->layout.empty() && value->layout != "channels_last")
      return userError("unknown layout '" + value->layout + "'");
    plan.decisions.layouts.push_back(value->layout.empty() ? Layout::Plain : Layout::ChannelsLast);
  }
  plan.decisions.aliases = aliasesOf(plan.graph);
  for (const auto &step : contents.steps)
    plan.decisions.steps.push_back({step->kernels});
  plan.decisions.slotCount = contents.slot_count;
  return plan;
}

llvm::Error bindWeights(const program::Program &program, const schema::ProgramT &contents, HostPlan &plan) {
  return bind(program, *contents.graph, plan.graph);
}

} // namespace quadrille::host
