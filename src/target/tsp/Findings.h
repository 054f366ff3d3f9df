// The findings of one entry point, in order of time, and the bound on what the check may cost.
#pragma once

#include "target/Target.h"
#include "target/tsp/IssueRuns.h"

#include <map>

namespace quadrille::tsp {

class Findings {
public:
  explicit Findings(const Queues &queues) : queues(queues) {}

  // Of several findings about one issue, the one that the hardware would meet first comes first.
  enum class Stage : uint8_t { Operands, Undriven, Port, Contents, Driver };
  // `index` tells apart what one issue does at that stage, `detail` what is wrong with that. The message is only asked
  // for when it is needed. False when 64 earlier findings are known: those of later issues need not be looked for.
  bool add(const Issue &issue, Stage stage, uint64_t index, uint64_t detail,
           llvm::function_ref<std::string()> message) {
    return addOf(issue, {When::Running, momentOf(issue, queues), stage, index, detail}, message);
  }
  bool add(const Issue &issue, llvm::function_ref<std::string()> message) {
    return add(issue, Stage::Operands, 0, 0, message);
  }
  // Of the queue itself, before all that is issued in that cycle.
  void addOfQueue(const Issue &issue, const std::string &message) {
    addOf(issue, {When::Running, {issue.cycle, 0, issue.queue}, {}, 0, 0}, [&] { return message; });
  }
  void addNotReleased(const Issue &issue, const std::string &message) {
    addOf(issue, {When::Stopped, {0, 0, issue.queue}, {}, 0, 0}, [&] { return message; });
  }
  // What shows only when the program has ended.
  bool addInTheEnd(const Issue &issue, llvm::function_ref<std::string()> message) {
    return addOf(issue, {When::Ended, momentOf(issue, queues), {}, 0, 0}, message);
  }
  // About layouts, in the order in which they are found.
  void addBeforeTheStart(target::Finding finding) { insert({When::Before, {}, {}, 0, number++}, std::move(finding)); }
  void addOfOutputs(target::Finding finding) { insert({When::Outputs, {}, {}, 0, number++}, std::move(finding)); }

  // Comparing instructions that interleave may take many steps for a hostile program. False when it took too many: the
  // check then ends without having seen everything, and says so.
  enum Cost : int64_t { // nanoseconds, more or less
    Element = 1,        // of a set
    Comparison = 32,    // of two runs
    Part = 64,          // of a run that others interrupt
    Conflict = 256,     // of two issues
    Kept = 1024         // something for each issue: in truth memory
  };
  bool spend(Cost cost, size_t times = 1) { return (spent += cost * static_cast<int64_t>(times)) <= mostSpent; }
  bool exhausted() const { return spent > mostSpent; }

  std::vector<target::Finding> take(const std::string &entryPoint) {
    if (exhausted())
      insert({When::Unseen, {}, {}, 0, 0},
             {"entry '" + entryPoint + "'",
              "its instructions interleave more than the checker follows: about 2^27 changes from one to another"});
    std::vector<target::Finding> list;
    for (auto &[key, finding] : found)
      list.push_back(std::move(finding));
    return list;
  }

private:
  static constexpr size_t most = 64;
  static constexpr int64_t mostSpent = int64_t(1) << 33;
  enum class When : uint8_t { Unseen, Before, Running, Stopped, Ended, Outputs };
  struct Key {
    When when;
    Moment moment;
    Stage stage;
    uint64_t index, detail;
    auto operator<=>(const Key &) const = default;
  };

  bool addOf(const Issue &issue, const Key &key, llvm::function_ref<std::string()> message) {
    if (found.size() == most && found.rbegin()->first < key)
      return false;
    if (!found.contains(key))
      insert(key, {print(issue, queues), message()});
    return true;
  }
  void insert(const Key &key, target::Finding finding) {
    found.emplace(key, std::move(finding));
    if (found.size() > most)
      found.erase(std::prev(found.end()));
  }

  const Queues &queues;
  std::map<Key, target::Finding> found; // the first ones
  uint64_t number = 0;                  // of those about layouts
  int64_t spent = 0;
};

} // namespace quadrille::tsp
