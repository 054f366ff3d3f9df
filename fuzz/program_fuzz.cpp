// Program files from strangers. The first byte of the input chooses what the rest is:
//   even: a whole file, whose hashes are made right first, since no fuzzer would get past them;
//   odd:  the metadata alone, put into an otherwise good file with a payload and two data sections.
// What loads must be well-formed, its data readable or refused, and written out and read again the same.
#include "base/Error.h"
#include "program/Container.h"
#include "program/Program.h"
#include "program/Rehash.h"

#include "llvm/Support/raw_ostream.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

using namespace quadrille;
using namespace quadrille::program;

static void require(bool condition, const char *what) {
  if (condition)
    return;
  std::fprintf(stderr, "program_fuzz: %s\n", what);
  std::abort();
}

static std::vector<std::byte> bytesOf(llvm::StringRef text) {
  const auto *data = reinterpret_cast<const std::byte *>(text.data());
  return {data, data + text.size()};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  const auto *begin = reinterpret_cast<const std::byte *>(data + 1), *end = begin + size - 1;
  auto file = std::make_shared<std::vector<std::byte>>();
  if (data[0] % 2 == 0) {
    file->assign(begin, end);
    rehash(*file);
  } else {
    std::vector<std::byte> metadata(begin, end), zeros(8);
    std::vector<Section> sections = {{SectionKind::Metadata, "metadata", metadata, hashOf(metadata)},
                                     {SectionKind::Payload, "payload", zeros, hashOf(zeros)},
                                     {SectionKind::Data, "data", zeros, hashOf(zeros)},
                                     {SectionKind::Data, "data", zeros, hashOf(zeros)}};
    // As many data sections as the choice says.
    sections.resize(2 + (data[0] >> 1) % 3);
    llvm::SmallVector<char, 0> buffer;
    llvm::raw_svector_ostream os(buffer);
    writeContainer(sections, os);
    *file = bytesOf(os.str());
  }
  llvm::ArrayRef<std::byte> view = *file;
  auto program = Program::read(view, std::move(file), "/nonexistent/p.qdl");
  if (!program) {
    Reported reported = report(program.takeError());
    require(reported.exitCode == 2, "a bad file is not the user's fault");
    require(llvm::StringRef(reported.message).starts_with("/nonexistent/p.qdl: "),
            "the message does not name the file");
    return 0;
  }
  require(program->verify().empty(), "a malformed program was loaded");
  for (uint32_t i = 0; i < program->variables.size(); ++i)
    if (program->hasData(i))
      llvm::consumeError(program->dataOf(i).takeError());

  // Data in other files cannot be had here; without it the program can be written.
  for (Variable &variable : program->variables)
    if (variable.external) {
      variable.external.reset();
      variable.stored.reset();
    }
  llvm::SmallVector<char, 0> first, second;
  llvm::raw_svector_ostream firstStream(first), secondStream(second);
  require(!errorToBool(program->write(firstStream)), "a loaded program cannot be written");
  auto copy = std::make_shared<std::vector<std::byte>>(bytesOf(firstStream.str()));
  view = *copy;
  auto again = Program::read(view, std::move(copy), "/nonexistent/p.qdl");
  require(bool(again), "a written program cannot be read");
  require(!errorToBool(again->write(secondStream)) && firstStream.str() == secondStream.str(),
          "writing it again gives other bytes");
  return 0;
}
