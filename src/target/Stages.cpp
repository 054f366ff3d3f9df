#include "target/Stages.h"

#include "base/Error.h"
#include "base/Suggestion.h"
#include "graph/KernelQueries.h"
#include "target/Refusal.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

namespace quadrille::target {

namespace {

using Position = size_t; // of a node in the file
constexpr Position nowhere = std::numeric_limits<Position>::max();

std::vector<Position> positionsOf(llvm::StringRef name, llvm::ArrayRef<graph::FileNode> order) {
  std::vector<Position> found;
  for (auto [position, node] : llvm::enumerate(order))
    if (node.name == name)
      found.push_back(position);
  return found;
}

llvm::Expected<Position> positionOf(llvm::StringRef name, llvm::ArrayRef<graph::FileNode> order) {
  std::vector<Position> found = positionsOf(name, order);
  if (found.size() == 1)
    return found.front();
  if (found.size() > 1)
    return userError("--stages-at: " + llvm::Twine(found.size()) + " nodes have this name", {"", name.str()},
                     "give them names of their own, or cut at another node");
  std::vector<std::string> names;
  for (const graph::FileNode &node : order)
    names.push_back(node.name);
  std::string near = suggestion(name, names);
  return userError("--stages-at: the model has no node '" + name + "'", {},
                   near.empty() ? "`quadrille inspect MODEL --kernels` lists nodes" : near);
}

class Arrangement {
public:
  Arrangement(graph::KernelGraph &graph, const StageCuts &cuts) : graph(graph), cuts(cuts) {
    for (auto [position, node] : llvm::enumerate(cuts.order))
      positions[{node.name, node.operation}].push_back(position);
    // Nodes that prepare weights often stand before all others; what counts is where the weights are needed.
    for (const graph::Kernel &kernel : graph.kernels) {
      Position first = nowhere, ofWeights = nowhere;
      for (uint32_t node : kernel.nodes)
        if (auto found = positions.find(keyOf(node)); found != positions.end()) {
          Position &least = cuts.order[found->second.front()].constant ? ofWeights : first;
          least = std::min(least, found->second.front());
        }
      firsts.push_back(first == nowhere ? ofWeights : first);
    }
    owners.insert(firsts.begin(), firsts.end());
    owners.erase(nowhere);
  }

  llvm::Expected<std::vector<size_t>> run() {
    for (const std::string &name : cuts.begins) {
      auto at = positionOf(name, cuts.order);
      if (!at)
        return at.takeError();
      if (llvm::Error error = requireOwner(*at))
        return std::move(error);
      begins.push_back(*at);
    }
    if (begins.empty() || owners.empty() || *owners.begin() >= begins.front())
      return refusal(begins.empty() ? 0 : begins.front(),
                     "nothing that the machine executes stands before it: the first stage would be empty");
    std::vector<size_t> stages = stagesOf();
    if (llvm::Error error = requireOrder(stages))
      return std::move(error);
    std::vector<graph::Kernel> arranged;
    std::vector<size_t> bounds;
    for (size_t stage = 0; stage <= begins.size(); ++stage) {
      bounds.push_back(arranged.size());
      for (auto [kernel, of] : llvm::zip_equal(graph.kernels, stages))
        if (of == stage)
          arranged.push_back(std::move(kernel));
    }
    bounds.push_back(arranged.size());
    graph.kernels = std::move(arranged);
    return bounds;
  }

private:
  std::pair<std::string, std::string> keyOf(uint32_t node) const {
    return {graph.nodes[node].name, graph.nodes[node].operation};
  }
  const std::string &nameAt(Position position) const { return cuts.order[position].name; }
  std::string nameOfKernel(size_t kernel) const {
    return "'" + (firsts[kernel] == nowhere ? graph.kernels[kernel].operation : nameAt(firsts[kernel])) + "'";
  }
  size_t stageAt(Position position) const {
    return static_cast<size_t>(llvm::upper_bound(begins, position) - begins.begin());
  }

  // Those near a node at which the graph alone can be cut, if any.
  std::string nearestCuts(Position at) const {
    std::vector<std::string> found;
    auto possible = [&](Position position) {
      if (position == *owners.begin() || positionsOf(nameAt(position), cuts.order).size() > 1)
        return false;
      std::vector<bool> behind(graph.values.size());
      for (auto [kernel, first] : llvm::zip_equal(graph.kernels, firsts)) {
        bool later = first != nowhere && first >= position;
        for (graph::ValueId operand : graph::operandsOf(kernel))
          if (behind[operand] && !later)
            return false;
        for (const graph::Write &write : kernel.writes)
          behind[write.value] = later;
      }
      return true;
    };
    auto here = owners.lower_bound(at);
    for (auto before = std::make_reverse_iterator(here); before != owners.rend(); ++before)
      if (possible(*before)) {
        found.push_back("'" + nameAt(*before) + "'");
        break;
      }
    for (auto after = here; after != owners.end(); ++after)
      if (*after != at && possible(*after)) {
        found.push_back("'" + nameAt(*after) + "'");
        break;
      }
    return found.empty() ? "" : "the nearest nodes at which it can be cut: " + llvm::join(found, ", ");
  }

  llvm::Error refusal(Position at, const llvm::Twine &why) const {
    std::string near = owners.empty() ? "" : nearestCuts(at);
    return userError("--stages-at: no stage can begin here: " + why, {"", nameAt(at)}, near);
  }

  // That a kernel begins with the node, or with one of the local function that it calls.
  llvm::Error requireOwner(Position at) const {
    const graph::FileNode &node = cuts.order[at];
    auto next = owners.lower_bound(at);
    if (next != owners.end() && (*next == at || llvm::StringRef(nameAt(*next)).starts_with(node.name + "/")))
      return llvm::Error::success();
    for (auto [kernel, first] : llvm::zip_equal(graph.kernels, firsts))
      if (first != nowhere && llvm::any_of(kernel.nodes, [&](uint32_t number) {
            return keyOf(number) == std::pair(node.name, node.operation);
          }))
        return refusal(at, "it is within a kernel that begins with '" + nameAt(first) + "'");
    return refusal(at,
                   "no kernel of the machine is made of it (it was computed at import, or only gives a value another "
                   "shape or name)");
  }

  // By kernel. What has no node is computed as early as its operands allow.
  std::vector<size_t> stagesOf() const {
    std::vector<size_t> stages, made(graph.values.size());
    for (auto [kernel, first] : llvm::zip_equal(graph.kernels, firsts)) {
      size_t stage = first == nowhere ? 0 : stageAt(first);
      if (first == nowhere)
        for (graph::ValueId operand : graph::operandsOf(kernel))
          stage = std::max(stage, made[operand]);
      for (const graph::Write &write : kernel.writes)
        made[write.value] = stage;
      stages.push_back(stage);
    }
    return stages;
  }

  // That no kernel needs what a later stage makes, and that it is known of which stage each is.
  llvm::Error requireOrder(llvm::ArrayRef<size_t> stages) const {
    std::vector<std::optional<size_t>> maker(graph.values.size());
    for (auto [number, kernel] : llvm::enumerate(graph.kernels)) {
      for (uint32_t node : kernel.nodes)
        if (auto found = positions.find(keyOf(node));
            found != positions.end() && found->second.front() == firsts[number])
          if (stageAt(found->second.front()) != stageAt(found->second.back()))
            return userError("--stages-at: " + llvm::Twine(found->second.size()) +
                                 " nodes have this name, and they would be of different stages",
                             {"", graph.nodes[node].name}, "give them names of their own");
      for (graph::ValueId operand : graph::operandsOf(kernel))
        if (maker[operand] && stages[*maker[operand]] > stages[number])
          return refusal(begins[stages[number]], nameOfKernel(number) + ", which stands before it, needs what " +
                                                     nameOfKernel(*maker[operand]) + " makes");
      for (const graph::Write &write : kernel.writes)
        maker[write.value] = number;
    }
    return llvm::Error::success();
  }

  graph::KernelGraph &graph;
  const StageCuts &cuts;
  std::map<std::pair<std::string, std::string>, std::vector<Position>> positions; // by name and operator
  std::vector<Position> firsts;                                                   // by kernel: its first node's
  std::set<Position> owners;                                                      // nodes with which kernels begin
  std::vector<Position> begins;                                                   // of the stages behind the first
};

} // namespace

llvm::Expected<std::vector<std::string>> stageNodes(llvm::ArrayRef<std::string> texts,
                                                    llvm::ArrayRef<graph::FileNode> order) {
  std::vector<std::string> names;
  for (llvm::StringRef text : texts) {
    // A name may have commas of its own.
    llvm::SmallVector<llvm::StringRef> parts;
    if (positionsOf(text, order).empty())
      text.split(parts, ',');
    else
      parts.push_back(text);
    for (llvm::StringRef part : parts)
      names.push_back(part.str());
  }
  std::optional<Position> last;
  for (auto [number, name] : llvm::enumerate(names)) {
    auto at = positionOf(name, order);
    if (!at)
      return at.takeError();
    if (last && *at == *last)
      return userError("--stages-at: the node is named twice", {"", name});
    if (last && *at < *last)
      return userError("--stages-at: it stands before '" + names[number - 1] + "' in the model", {"", name},
                       "name the nodes in the order of the model");
    last = *at;
  }
  return names;
}

llvm::Expected<std::vector<size_t>> arrangeStages(graph::KernelGraph &graph, const StageCuts &cuts) {
  return Arrangement(graph, cuts).run();
}

std::string nameOfStage(const StageCuts &cuts, size_t stage) {
  return "stage " + std::to_string(stage) +
         (stage == 0 ? " (up to '" + cuts.begins[0] + "')" : " (begins with '" + cuts.begins[stage - 1] + "')");
}

llvm::Expected<int64_t> chipsForStages(int64_t stages, llvm::ArrayRef<int64_t> counts, llvm::StringRef machine) {
  for (int64_t count : counts)
    if (count >= stages)
      return count;
  return unsupportedError("--stages-at makes " + llvm::Twine(stages) +
                              " stages, each on a chip of its own; a program for " + machine + " has " +
                              llvm::Twine(counts.back()) + " at the most",
                          {}, "name fewer nodes, or take a larger machine");
}

void addStages(timeline::Timeline &timeline, const program::Program &program, llvm::ArrayRef<std::set<uint32_t>> nodes,
               const std::map<uint32_t, timeline::KernelId> &kernels, llvm::StringRef unit) {
  if (nodes.size() < 2)
    return;
  timeline::Table table{"stages", {unit.str(), "nodes", "first node", "last node"}, {}, ""};
  for (auto [chip, here] : llvm::enumerate(nodes)) {
    if (here.empty())
      continue;
    table.rows.push_back({std::to_string(chip), std::to_string(here.size()), program.nodes[*here.begin()].name,
                          program.nodes[*here.rbegin()].name});
    for (uint32_t node : here)
      if (auto kernel = kernels.find(node); kernel != kernels.end()) {
        std::string &placement = timeline.kernels[kernel->second].placement;
        placement += (placement.empty() ? "" : ", ") + unit.str() + " " + std::to_string(chip);
      }
  }
  timeline.tables.push_back(std::move(table));
}

} // namespace quadrille::target
