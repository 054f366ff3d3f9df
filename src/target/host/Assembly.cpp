#include "target/host/Assembly.h"

#include "base/Error.h"
#include "target/Text.h"
#include "target/host/Payload.h"
#include "target/host/ProgramText.h"

#include "llvm/Support/raw_ostream.h"

#include <flatbuffers/idl.h>

namespace quadrille::host {

namespace {

// A parser of the schema for one kind of record.
class Records {
public:
  Records() {
    flatbuffers::IDLOptions options;
    options.indent_step = -1; // a record on one line
    options.strict_json = false;
    options.skip_unexpected_fields_in_json = false;
    options.output_default_scalars_in_json = false;
    parser = std::make_unique<flatbuffers::Parser>(options);
    bool parsed = parser->Parse(programSchema);
    (void)parsed;
    assert(parsed && "Program.fbs is what flatc has read");
  }

  template <typename Table, typename Object>
  llvm::Error print(const char *keyword, const char *table, const Object &object, llvm::raw_ostream &os) {
    parser->SetRootType((llvm::Twine("quadrille.host.schema.") + table).str().c_str());
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(Table::Pack(builder, &object));
    std::string text;
    if (!flatbuffers::GenerateText(*parser, builder.GetBufferPointer(), &text))
      return userError(llvm::Twine("a ") + keyword + " holds text that is not UTF-8");
    os << keyword << ' ' << llvm::StringRef(text).trim() << '\n';
    return llvm::Error::success();
  }

  template <typename Table>
  llvm::Expected<std::unique_ptr<typename Table::NativeTableType>> parse(const char *table, llvm::StringRef json) {
    parser->SetRootType((llvm::Twine("quadrille.host.schema.") + table).str().c_str());
    if (!parser->Parse(json.str().c_str()))
      return userError(llvm::StringRef(parser->error_).trim());
    flatbuffers::Verifier verifier(parser->builder_.GetBufferPointer(), parser->builder_.GetSize());
    if (!verifier.VerifyBuffer<Table>(nullptr))
      return userError("the record is incomplete");
    return std::unique_ptr<typename Table::NativeTableType>(
        flatbuffers::GetRoot<Table>(parser->builder_.GetBufferPointer())->UnPack());
  }

private:
  std::unique_ptr<flatbuffers::Parser> parser;
};

} // namespace

llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) {
  llvm::Expected<std::unique_ptr<schema::ProgramT>> contents = payloadOf(program);
  if (!contents)
    return contents.takeError();
  if (llvm::Error error = target::printCommon(program, os))
    return error;
  Records records;
  const schema::GraphT &graph = *(*contents)->graph;
  for (const auto &value : graph.values)
    if (llvm::Error error = records.print<schema::Value>("value", "Value", *value, os))
      return error;
  for (const auto &kernel : graph.kernels)
    if (llvm::Error error = records.print<schema::Kernel>("kernel", "Kernel", *kernel, os))
      return error;
  schema::GraphT ports;
  ports.inputs = graph.inputs;
  ports.outputs = graph.outputs;
  if (llvm::Error error = records.print<schema::Graph>("ports", "Graph", ports, os))
    return error;
  for (const auto &step : (*contents)->steps)
    if (llvm::Error error = records.print<schema::Step>("step", "Step", *step, os))
      return error;
  os << "slots " << (*contents)->slot_count << '\n';
  return llvm::Error::success();
}

llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) {
  target::CommonReader common("host");
  schema::ProgramT contents;
  contents.graph = std::make_unique<schema::GraphT>();
  Records records;
  auto takeLine = [&](llvm::StringRef text) -> llvm::Error {
    auto taken = common.take(text);
    if (!taken || *taken)
      return taken.takeError();
    target::LineReader line(text);
    auto add = [&](auto record, auto &list) -> llvm::Error {
      if (!record)
        return record.takeError();
      list.push_back(std::move(*record));
      return llvm::Error::success();
    };
    if (line.consume("value"))
      return add(records.parse<schema::Value>("Value", line.remaining()), contents.graph->values);
    if (line.consume("kernel"))
      return add(records.parse<schema::Kernel>("Kernel", line.remaining()), contents.graph->kernels);
    if (line.consume("step"))
      return add(records.parse<schema::Step>("Step", line.remaining()), contents.steps);
    if (line.consume("ports")) {
      auto ports = records.parse<schema::Graph>("Graph", line.remaining());
      if (!ports)
        return ports.takeError();
      contents.graph->inputs = (*ports)->inputs;
      contents.graph->outputs = (*ports)->outputs;
      return llvm::Error::success();
    }
    if (line.consume("slots")) {
      auto count = line.unsignedInteger("the number of slots");
      if (!count)
        return count.takeError();
      if (*count > UINT32_MAX)
        return userError("the number of slots is out of range");
      contents.slot_count = static_cast<uint32_t>(*count);
      return line.end();
    }
    return userError("unknown directive '" + line.word() + "'", {},
                     "host programs have value, kernel, ports, step and slots");
  };
  if (llvm::Error error = target::forEachLine(text, fileName, takeLine))
    return error;
  auto program = common.finish();
  if (program)
    setPayload(*program, contents);
  return program;
}

} // namespace quadrille::host
