// What tests of this target share: programs written as text.
#pragma once

#include "target/ipu/Assembly.h"
#include "target/ipu/Check.h"
#include "target/ipu/Simulate.h"

#include "target/Target.h"

#include <gtest/gtest.h>

namespace quadrille::ipu {

inline program::Program assembled(llvm::StringRef text) {
  return llvm::cantFail(assemble(text, "test.s"));
}

// The first finding's text, or "".
inline std::string finding(const program::Program &program) {
  auto loaded = llvm::cantFail(Loaded::from(program));
  target::Verdict verdict = check(program, loaded.code, loaded.machine);
  return verdict.legal() ? "" : verdict.findings.front().where + ": " + verdict.findings.front().message;
}

inline std::string replaced(std::string text, llvm::StringRef from, llvm::StringRef to) {
  size_t at = text.find(from.str());
  EXPECT_NE(at, std::string::npos) << from.str();
  return text.replace(at, from.size(), to.str());
}

inline target::RunResult ran(const program::Program &program, const target::NamedTensors &inputs) {
  return llvm::cantFail(execute(program, &inputs, {}));
}

} // namespace quadrille::ipu
