// What the tests of this directory share.
#pragma once

#include "base/Error.h"
#include "base/File.h"
#include "report/TextReport.h"
#include "target/Target.h"
#include "timeline/Write.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/raw_ostream.h"

#include "gtest/gtest.h"

#include <string>

namespace quadrille::tsp {

// The text of a program of examples/tsp.
inline std::string example(const std::string &name) {
  auto file = MappedFile::open(QUADRILLE_SOURCE_DIR "/examples/tsp/" + name + ".tspasm");
  if (file)
    return (*file)->text().str();
  ADD_FAILURE() << report(file.takeError()).message;
  return "";
}

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

// `text` with the first `from` behind the first `after` replaced.
inline std::string edit(std::string text, const std::string &from, const std::string &to,
                        const std::string &after = "") {
  size_t at = text.find(after);
  at = at == std::string::npos ? at : text.find(from, at);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// A program for a card: input x is word 0 of bank 0 of slice west 0, output y that of east 0. `queues` is its code,
// `head` what comes before the layouts.
inline std::string copyProgram(const std::string &queues, const std::string &head = "") {
  return ".target tsp\n.machine groqcard\n" + head +
         ".input \"x\" i8[320]\n.output \"y\" i8[320]\n.entry \"inference\" \"x\" -> \"y\"\n"
         ".layout input \"x\" bank=0 address=0 slices=w0\n.axis dimension=0 extent=320 to=lane step=1\n"
         ".layout output \"y\" bank=0 address=0 slices=e0\n.axis dimension=0 extent=320 to=lane step=1\n"
         ".code \"inference\"\n.chip 0\n" +
         queues;
}

inline timeline::Timeline estimateOf(const std::string &text) {
  program::Program program = assembleOrFail(text);
  EXPECT_EQ(firstFinding(program), "") << text;
  auto estimate = target::find("tsp")->estimate(program);
  if (estimate)
    return std::move(*estimate);
  ADD_FAILURE() << report(estimate.takeError()).message;
  return {};
}

inline std::string simulateError(const program::Program &program) {
  target::NamedTensors inputs;
  for (const program::Variable &variable : program.variables)
    if (variable.role == program::VariableRole::Input)
      inputs[variable.name] = Tensor::zeros(variable.type, variable.shape);
  auto result = target::find("tsp")->simulate(program, inputs, {});
  return result ? "" : report(result.takeError()).message;
}

inline void expectHazard(const program::Program &program, const std::string &message) {
  EXPECT_EQ(firstFinding(program), message);
  EXPECT_EQ(simulateError(program), message);
  auto estimate = target::find("tsp")->estimate(program);
  EXPECT_FALSE(bool(estimate));
  if (!estimate)
    EXPECT_EQ(report(estimate.takeError()).message, message);
}
inline void expectHazard(const std::string &text, const std::string &message) {
  expectHazard(assembleOrFail(text), message);
}

inline std::string bytesOf(const program::Program &program) {
  llvm::SmallString<0> bytes;
  llvm::raw_svector_ostream os(bytes);
  if (llvm::Error error = program.write(os))
    ADD_FAILURE() << report(std::move(error)).message;
  return bytes.str().str();
}

// All that a timeline says but for its spans: one for each burst, or for each issue.
inline std::string reportOf(timeline::Timeline timeline) {
  std::string text;
  llvm::raw_string_ostream os(text);
  reports::printProfile(timeline, os, 1000000); // sums up the spans
  timeline.spans.clear();
  timeline::writeJson(timeline, os);
  return text;
}

} // namespace quadrille::tsp
