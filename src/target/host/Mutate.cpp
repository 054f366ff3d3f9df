#include "target/host/Mutate.h"

#include "base/Error.h"
#include "graph/KernelGraph.h"

#include <functional>

namespace quadrille::host {

namespace {

// Every field that may change, with what changing it says; `round` varies the change.
class Fields {
public:
  std::vector<std::function<std::string(uint64_t round)>> list;

  // Up and down in growing steps, round the type's range.
  template <typename T> static T stepped(T value, uint64_t round) {
    uint64_t step = 1 + round / 2, bits = static_cast<uint64_t>(value);
    return static_cast<T>(round % 2 == 0 ? bits + step : bits - step);
  }

  template <typename T> void number(std::string name, T &field) {
    list.push_back([name, &field](uint64_t round) {
      T old = field;
      field = stepped(field, round);
      return name + " " + std::to_string(old) + " -> " + std::to_string(field);
    });
  }
  void access(const std::string &where, std::vector<std::unique_ptr<schema::AccessT>> &map) {
    for (size_t d = 0; d < map.size(); ++d) {
      std::string name = where + " dimension " + std::to_string(d);
      number(name + ": offset", map[d]->offset);
      for (size_t t = 0; t < map[d]->terms.size(); ++t)
        list.push_back([name, &term = map[d]->terms[t]](uint64_t round) {
          int64_t old = term.coefficient();
          term = schema::Term(term.loop(), stepped(old, round));
          return name + ": coefficient " + std::to_string(old) + " -> " + std::to_string(term.coefficient());
        });
    }
  }
};

} // namespace

llvm::Expected<std::string> mutateField(schema::ProgramT &contents, uint64_t seed) {
  Fields fields;
  for (size_t k = 0; k < contents.graph->kernels.size(); ++k) {
    schema::KernelT &kernel = *contents.graph->kernels[k];
    std::string where = "kernel " + std::to_string(k) + " " + kernel.operation + ": ";
    for (size_t l = 0; l < kernel.loops.size(); ++l)
      fields.number(where + "loop " + std::to_string(l) + " extent", kernel.loops[l]->extent);
    for (size_t r = 0; r < kernel.reads.size(); ++r) {
      std::string read = where + "read " + std::to_string(r);
      fields.number(read + ": value", kernel.reads[r]->value);
      fields.access(read, kernel.reads[r]->map);
      if (kernel.reads[r]->padding)
        fields.number(read + ": padding bits", kernel.reads[r]->padding->bits);
    }
    for (size_t w = 0; w < kernel.writes.size(); ++w) {
      std::string write = where + "write " + std::to_string(w);
      schema::WriteT &record = *kernel.writes[w];
      fields.number(write + ": value", record.value);
      fields.access(write, record.map);
      if (record.initial_scalar)
        fields.number(write + ": initial bits", record.initial_scalar->bits);
      fields.list.push_back([write, &record](uint64_t round) {
        constexpr int count = static_cast<int>(graph::Combiner::Xor) + 1;
        int current = 0;
        for (int c = 0; c < count; ++c)
          if (record.combiner == graph::nameOf(static_cast<graph::Combiner>(c)))
            current = c;
        std::string old = record.combiner;
        int step = 1 + static_cast<int>(round % (count - 1));
        record.combiner = graph::nameOf(static_cast<graph::Combiner>((current + step) % count)).str();
        return write + ": combiner " + old + " -> " + record.combiner;
      });
    }
    if (kernel.body)
      for (size_t i = 0; i < kernel.body->instructions.size(); ++i) {
        std::string name = where + "instruction " + std::to_string(i);
        schema::InstructionT &instruction = *kernel.body->instructions[i];
        for (size_t o = 0; o < instruction.operands.size(); ++o)
          fields.number(name + ": operand " + std::to_string(o), instruction.operands[o]);
        if (instruction.operands.empty())
          fields.number(name + ": immediate", instruction.immediate);
        else
          fields.list.push_back([name, &instruction](uint64_t round) {
            // Another opcode with as many operands.
            std::vector<std::string> others;
            for (int c = 0; c <= static_cast<int>(BlockOpcode::Bitcast); ++c) {
              auto opcode = static_cast<BlockOpcode>(c);
              if (operandCount(opcode) == instruction.operands.size() && nameOf(opcode) != instruction.opcode)
                others.push_back(nameOf(opcode).str());
            }
            std::string old = instruction.opcode;
            instruction.opcode = others[round % others.size()];
            return name + ": " + old + " -> " + instruction.opcode;
          });
      }
    for (auto &attribute : kernel.attributes)
      for (size_t i = 0; i < attribute->integers.size(); ++i)
        fields.number(where + "attribute " + attribute->name, attribute->integers[i]);
  }
  for (size_t v = 0; v < contents.graph->values.size(); ++v)
    if (contents.graph->values[v]->slot != ~uint32_t(0))
      fields.number("value " + std::to_string(v) + ": slot", contents.graph->values[v]->slot);
  for (size_t s = 0; s < contents.steps.size(); ++s)
    for (uint32_t &kernel : contents.steps[s]->kernels)
      fields.number("step " + std::to_string(s) + ": kernel", kernel);
  if (fields.list.empty())
    return userError("the program has no field to change");
  return fields.list[seed % fields.list.size()](seed / fields.list.size());
}

} // namespace quadrille::host
