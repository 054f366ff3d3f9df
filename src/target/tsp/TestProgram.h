// What the tests of this directory share.
#pragma once

#include "base/Error.h"
#include "target/Target.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/raw_ostream.h"

#include "gtest/gtest.h"

#include <string>

namespace quadrille::tsp {

inline program::Program assembleOrFail(const std::string &text) {
  auto program = target::find("tsp")->assemble(text, "test.tspasm");
  if (program)
    return std::move(*program);
  ADD_FAILURE() << report(program.takeError()).message;
  return {};
}

// "WHERE: MESSAGE" of the checker's first finding, empty when there is none.
inline std::string firstFinding(const program::Program &program) {
  auto verdict = target::find("tsp")->check(program);
  if (!verdict)
    return report(verdict.takeError()).message;
  return verdict->legal() ? "" : verdict->findings[0].where + ": " + verdict->findings[0].message;
}

inline std::string bytesOf(const program::Program &program) {
  llvm::SmallString<0> bytes;
  llvm::raw_svector_ostream os(bytes);
  if (llvm::Error error = program.write(os))
    ADD_FAILURE() << report(std::move(error)).message;
  return bytes.str().str();
}

} // namespace quadrille::tsp
