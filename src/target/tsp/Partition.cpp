#include "target/tsp/Partition.h"

#include "graph/KernelQueries.h"
#include "graph/Repetition.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>

namespace quadrille::tsp {

using graph::KernelGraph;
using graph::ValueId;

std::vector<ChipPart> Partition::between(const KernelGraph &graph, llvm::ArrayRef<size_t> bounds) {
  graph::Uses uses(graph);
  size_t count = bounds.size() - 1;
  auto partOf = [&](size_t kernel) {
    return static_cast<size_t>(llvm::upper_bound(bounds, kernel) - bounds.begin()) - 1;
  };
  std::vector<ChipPart> parts(count);
  for (size_t i = 0; i < count; ++i)
    parts[i] = {bounds[i], bounds[i + 1], {}, {}, {}, {}};
  for (auto [number, value] : llvm::enumerate(graph.inputs)) {
    std::vector<bool> reads(count);
    for (size_t kernel : uses.readers[value])
      reads[kernel < graph.kernels.size() ? partOf(kernel) : 0] = true;
    if (uses.readers[value].empty())
      reads[0] = true; // it has its place in the program all the same
    for (size_t i = 0; i < count; ++i)
      if (reads[i])
        parts[i].inputs.push_back(number);
  }
  for (auto [number, value] : llvm::enumerate(graph.outputs))
    parts[uses.producers[value] ? partOf(*uses.producers[value]) : 0].outputs.push_back(number);
  for (ValueId value = 0; value < graph.values.size(); ++value) {
    if (!uses.producers[value])
      continue;
    size_t from = partOf(*uses.producers[value]), to = from;
    for (size_t kernel : uses.readers[value])
      if (kernel < graph.kernels.size())
        to = std::max(to, partOf(kernel));
    for (size_t i = from; i < to; ++i) {
      parts[i].leaving.push_back(value);
      parts[i + 1].arriving.push_back(value);
    }
  }
  return parts;
}

std::vector<ChipPart> Partition::whole(const KernelGraph &graph) {
  return between(graph, {0, graph.kernels.size()});
}

Partition::Partition(const KernelGraph &graph, const Architecture &machine, Costs given)
    : graph(graph), machine(machine), costs(std::move(given)), signatures(graph::signaturesOf(graph)),
      mostWords(graph.kernels.size(), machine.dataWords()), limits(graph.kernels.size(), graph.kernels.size()),
      residentBefore(1), cyclesBefore(1), stepsBefore(1), crossingWords(graph.kernels.size() + 1) {
  for (const KernelCost &cost : costs.kernels) {
    residentBefore.push_back(residentBefore.back() + cost.residentWords + cost.outputWords);
    cyclesBefore.push_back(cyclesBefore.back() + cost.cycles);
    stepsBefore.push_back(stepsBefore.back() + cost.steps);
  }
  graph::Uses uses(graph);
  for (ValueId value = 0; value < graph.values.size(); ++value) {
    if (!uses.producers[value])
      continue;
    size_t last = *uses.producers[value];
    for (size_t kernel : uses.readers[value])
      if (kernel < graph.kernels.size())
        last = std::max(last, kernel);
    for (size_t kernel = *uses.producers[value] + 1; kernel <= last; ++kernel)
      crossingWords[kernel] += costs.valueWords[value];
  }
}

ChipPart Partition::part(size_t first, size_t end) const {
  std::vector<size_t> bounds = {first, end};
  if (first > 0)
    bounds.insert(bounds.begin(), 0);
  if (end < graph.kernels.size())
    bounds.push_back(graph.kernels.size());
  return between(graph, bounds)[first > 0 ? 1 : 0];
}

std::optional<std::vector<ChipPart>> Partition::evenParts(int64_t chips) const {
  int64_t most = machine.dataWords(), close = std::max<int64_t>(most / 1000, 1);
  auto found = parts(chips, most);
  for (int64_t least = 0; found && most - least > close;) {
    int64_t middle = least + (most - least) / 2;
    auto with = parts(chips, middle);
    (with ? most : least) = middle;
    if (with)
      found = std::move(with);
  }
  return found;
}

std::optional<std::vector<ChipPart>> Partition::parts(int64_t chips, int64_t mostOfPart) const {
  // For the kernels before each, on one chip more in every round: the slowest part's cycles and the words sent.
  struct Best {
    int64_t cycles = std::numeric_limits<int64_t>::max(), words = 0;
    auto operator<=>(const Best &) const = default;
  };
  size_t kernels = graph.kernels.size();
  if (kernels == 0)
    return whole(graph);
  std::vector<Best> best(kernels + 1);
  best[0] = {0, 0};
  std::vector<std::vector<size_t>> cuts; // by round and kernel: where the last part begins; the kernel itself: no part
  for (int64_t round = 0; round < chips; ++round) {
    std::vector<Best> next = best;
    std::vector<size_t> &cut = cuts.emplace_back(kernels + 1);
    for (size_t end = 0; end <= kernels; ++end)
      cut[end] = end;
    for (size_t first = 0; first < kernels; ++first) {
      if (best[first].cycles == std::numeric_limits<int64_t>::max())
        continue;
      int64_t live = 0, most = mostOfPart;
      for (size_t end = first + 1; end <= limits[first]; ++end) {
        live = std::max(live, costs.kernels[end - 1].liveWords);
        int64_t words = residentBefore[end] - residentBefore[first] + live;
        bool single = end == first + 1;
        most = std::min(most, mostWords[end - 1]);
        if (words > (single ? machine.dataWords() : most) ||
            (!single && stepsBefore[end] - stepsBefore[first] > mostSteps))
          break;
        int64_t cycles = cyclesBefore[end] - cyclesBefore[first] +
                         (crossingWords[first] + crossingWords[end]) * machine.linkInterval;
        Best with{std::max(best[first].cycles, cycles), best[first].words + crossingWords[end]};
        if (with < next[end]) {
          next[end] = with;
          cut[end] = first;
        }
      }
    }
    if (next == best && round > 0) {
      cuts.pop_back();
      break; // more chips change nothing
    }
    best = std::move(next);
  }
  if (best[kernels].cycles == std::numeric_limits<int64_t>::max())
    return std::nullopt;
  std::vector<size_t> bounds = {kernels};
  for (const std::vector<size_t> &cut : llvm::reverse(cuts))
    if (cut[bounds.back()] != bounds.back())
      bounds.push_back(cut[bounds.back()]);
  std::reverse(bounds.begin(), bounds.end());
  return between(graph, bounds);
}

void Partition::forbid(size_t first, size_t kernel) {
  auto kernels = llvm::ArrayRef(signatures);
  size_t count = std::min(kernel + 1, kernels.size()) - first;
  for (size_t like = 0; like + count <= kernels.size(); ++like)
    if (like == first || kernels.slice(like, count) == kernels.slice(first, count))
      for (size_t begin = 0; begin <= like; ++begin)
        limits[begin] = std::min(limits[begin], std::max(begin, like + (kernel - first)));
}

void Partition::limitWords(size_t kernel, int64_t words) {
  for (auto [signature, most] : llvm::zip(signatures, mostWords))
    if (signature == signatures[kernel])
      most = std::min(most, words);
}

bool Partition::isLimited() const {
  return mostSteps < std::numeric_limits<int64_t>::max() ||
         llvm::any_of(mostWords, [&](int64_t most) { return most < machine.dataWords(); });
}

void Partition::unlimit() {
  mostWords.assign(mostWords.size(), machine.dataWords());
  mostSteps = std::numeric_limits<int64_t>::max();
}

int64_t Partition::wordsOf(const ChipPart &part) const {
  int64_t live = 0;
  for (size_t kernel = part.first; kernel < part.end; ++kernel)
    live = std::max(live, costs.kernels[kernel].liveWords);
  return residentWordsOf(part) + live;
}

size_t Partition::kernelAt(const ChipPart &part, double share) const {
  auto most = static_cast<int64_t>(share * static_cast<double>(stepsOf(part)));
  size_t end = part.end - 1;
  while (end > part.first + 1 && stepsBefore[end] - stepsBefore[part.first] > most)
    --end;
  return end;
}

int64_t Partition::weightBytes() const {
  int64_t words = 0;
  for (const KernelCost &cost : costs.kernels)
    words += cost.residentWords;
  return words * machine.vectorBytes();
}

int64_t Partition::outputBytes() const {
  return residentBefore.back() * machine.vectorBytes() - weightBytes();
}

int64_t Partition::mostLiveBytes() const {
  int64_t live = 0;
  for (const KernelCost &cost : costs.kernels)
    live = std::max(live, cost.liveWords);
  return live * machine.vectorBytes();
}

} // namespace quadrille::tsp
