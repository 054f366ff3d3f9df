#include "target/null/Assembly.h"

#include "base/Error.h"
#include "target/Text.h"
#include "target/null/Payload.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::null_machine {

llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) {
  auto payload = payloadOf(program);
  if (!payload)
    return payload.takeError();
  if (llvm::Error error = target::printCommon(program, os))
    return error;
  for (const schema::Kernel *kernel : *(*payload)->kernels()) {
    os << "kernel ";
    target::printQuoted(kernel->name()->str(), os);
    os << ' ';
    target::printQuoted(kernel->kind()->str(), os);
    // 17 digits give every double back.
    os << llvm::format(" flops %.17g bytes %.17g nodes", kernel->flops(), kernel->bytes());
    for (uint32_t node : *kernel->nodes())
      os << ' ' << node;
    os << '\n';
  }
  return llvm::Error::success();
}

static llvm::Error parseKernel(target::LineReader &line, schema::KernelT &kernel) {
  auto name = line.quoted("the kernel's name");
  if (!name)
    return name.takeError();
  kernel.name = std::move(*name);
  auto kind = line.quoted("the kernel's kind");
  if (!kind)
    return kind.takeError();
  kernel.kind = std::move(*kind);
  for (auto [word, into] : {std::pair("flops", &kernel.flops), std::pair("bytes", &kernel.bytes)}) {
    if (!line.consume(word))
      return userError(llvm::Twine("expected '") + word + "', found '" + line.remaining() + "'");
    auto value = line.real(word);
    if (!value)
      return value.takeError();
    *into = *value;
  }
  if (!line.consume("nodes"))
    return userError("expected 'nodes', found '" + line.remaining() + "'");
  while (!line.atEnd()) {
    auto node = line.unsignedInteger("the number of a node");
    if (!node)
      return node.takeError();
    if (*node > UINT32_MAX)
      return userError("node " + llvm::Twine(*node) + " is out of range");
    kernel.nodes.push_back(static_cast<uint32_t>(*node));
  }
  return llvm::Error::success();
}

llvm::Expected<program::Program> assemble(llvm::StringRef text, llvm::StringRef fileName) {
  target::CommonReader common("null");
  schema::ProgramT contents;
  auto takeLine = [&](llvm::StringRef text) -> llvm::Error {
    auto taken = common.take(text);
    if (!taken || *taken)
      return taken.takeError();
    target::LineReader line(text);
    if (!line.consume("kernel"))
      return userError("unknown directive '" + line.word() + "'", {}, "null programs have only 'kernel'");
    contents.kernels.push_back(std::make_unique<schema::KernelT>());
    return parseKernel(line, *contents.kernels.back());
  };
  if (llvm::Error error = target::forEachLine(text, fileName, takeLine))
    return error;
  auto program = common.finish();
  if (program)
    setPayload(*program, contents);
  return program;
}

} // namespace quadrille::null_machine
