// What a run reports besides values, against figures derived here by hand.
#include "target/tsp/TestProgram.h"
#include "timeline/Summary.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

using timeline::Category;
using timeline::Timeline;

// A word of `slice`, a variable of its own for each: read from bank 0, or written to bank 1.
std::string copyProgram(const std::string &queues, const std::string &head = "") {
  return ".target tsp\n.machine groqcard\n" + head +
         ".input \"x\" i8[320]\n.output \"y\" i8[320]\n.entry \"inference\" \"x\" -> \"y\"\n"
         ".layout input \"x\" bank=0 address=0 slices=w0\n.axis dimension=0 extent=320 to=lane step=1\n"
         ".layout output \"y\" bank=0 address=0 slices=e0\n.axis dimension=0 extent=320 to=lane step=1\n"
         ".code \"inference\"\n.chip 0\n" +
         queues;
}

Timeline estimateOf(const std::string &text) {
  program::Program program = assembleOrFail(text);
  EXPECT_EQ(firstFinding(program), "") << text;
  auto estimate = target::find("tsp")->estimate(program);
  if (estimate)
    return std::move(*estimate);
  ADD_FAILURE() << report(estimate.takeError()).message;
  return {};
}

// The cells of a row behind its first, joined by '|'; empty when there is none.
std::string row(const Timeline &timeline, const std::string &title, const std::string &name) {
  for (const timeline::Table &table : timeline.tables)
    if (table.title == title)
      for (const auto &cells : table.rows)
        if (cells.front() == name)
          return llvm::join(llvm::drop_begin(cells), "|");
  return "";
}
std::string note(const Timeline &timeline, const std::string &title) {
  for (const timeline::Table &table : timeline.tables)
    if (table.title == title)
      return table.note;
  return "";
}
const timeline::Counter *counter(const Timeline &timeline, const std::string &name) {
  auto found = llvm::find_if(timeline.counters, [&](const auto &each) { return each.name == name; });
  return found == timeline.counters.end() ? nullptr : &*found;
}

TEST(TspRecord, GapsOfARepeatAreNotBusy) {
  // Ten reads in 0, 24, ... 216, each written by a dispatch 3 later: 20 cycles in which one of two queues issues.
  Timeline timeline = estimateOf(copyProgram(".queue MEM west 0\nread bank=0 address=0 stream=e0\nrepeat count=9 "
                                             "interval=24\n.queue MEM east 0\n.at 3\nwrite bank=0 address=0 stream=e0\n"
                                             "repeat count=9 interval=24\n"));
  timeline::Summary summary = timeline::summarize(timeline);
  EXPECT_EQ(summary.categories[static_cast<size_t>(Category::Memory)].active.value, 20);
  EXPECT_EQ(summary.categories[static_cast<size_t>(Category::Memory)].onTracks.value, 20);
  ASSERT_EQ(summary.tracks.size(), 2u);
  EXPECT_EQ(summary.tracks[0].busy.value, 10);
  // 216 + 3 + capture 1 + write 2 + 20 superlanes.
  EXPECT_DOUBLE_EQ(summary.tracks[1].utilisation, 10.0 / 242);
}

} // namespace
} // namespace quadrille::tsp
