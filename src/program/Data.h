// Where a loaded program keeps the data of a variable: unverified bytes of its own file, or a span of another.
#pragma once

#include "program/Container.h"
#include "program/Program.h"

#include <mutex>

namespace quadrille::program {

class StoredData {
public:
  // A section of the program's file.
  StoredData(Section section, std::shared_ptr<const void> owner, std::string fileName)
      : section(std::move(section)), owner(std::move(owner)), fileName(std::move(fileName)) {}
  // A span of another file.
  StoredData(Variable::External external, ExternalFiles allowed, std::string programFile)
      : external(std::move(external)), allowed(allowed), fileName(std::move(programFile)) {}

  // Opens and verifies on the first call; later calls answer from it. Thread-safe.
  llvm::Expected<Tensor> read(const Variable &variable) const;
  // The external file's path as seen from the current directory; empty for a section.
  std::string resolvedPath() const;

private:
  llvm::Error open(const Variable &variable) const;

  std::optional<Section> section;
  std::optional<Variable::External> external;
  ExternalFiles allowed = ExternalFiles::BelowProgram;
  mutable std::shared_ptr<const void> owner;
  std::string fileName;
  mutable std::mutex mutex;
  mutable llvm::ArrayRef<std::byte> verified;
  mutable bool isVerified = false;
};

// The bytes of a span of a file. User errors: missing file, span beyond its end.
llvm::Expected<llvm::ArrayRef<std::byte>> mapSpan(llvm::StringRef path, uint64_t offset, uint64_t size,
                                                  std::shared_ptr<const void> &owner);

// `path`, seen from the current directory, as a path relative to `folder` when the file lies in or below it once
// symbolic links are resolved; else nothing.
std::optional<std::string> pathBelow(llvm::StringRef path, llvm::StringRef folder);

} // namespace quadrille::program
