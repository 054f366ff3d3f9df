#include "target/ipu/Check.h"

#include "target/Replicas.h"
#include "target/ipu/Placements.h"
#include "target/ipu/Vertices.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

namespace quadrille::ipu {

namespace {

class Checker {
public:
  Checker(const program::Program &program, const Code &code, const Architecture &machine)
      : program(program), code(code), machine(machine), tiles(program.chips * machine.tiles),
        usable(machine.memoryBytes - machine.tailBytes) {}

  std::vector<target::Finding> run() {
    if (!llvm::is_contained(machine.ipuCounts, program.chips))
      find("program", "it cannot have " + llvm::Twine(program.chips) + " IPUs on " + machine.machineName);
    else if (std::string problem = target::replicasProblem(program, machine.ipus); !problem.empty())
      find("program", problem);
    else {
      placements();
      for (auto [i, set] : llvm::enumerate(code.computeSets))
        for (auto [k, vertex] : llvm::enumerate(set.vertices))
          this->vertex(vertex,
                       ("compute set " + llvm::Twine(i) + " '" + set.name + "', vertex " + llvm::Twine(k)).str());
      for (auto [i, exchange] : llvm::enumerate(code.exchanges))
        transfers(exchange, ("exchange " + llvm::Twine(i) + " '" + exchange.name + "'").str());
      if (code.entries.size() != program.entryPoints.size())
        find("program", "it has steps for " + llvm::Twine(code.entries.size()) + " entry points, not for " +
                            llvm::Twine(program.entryPoints.size()));
      else
        for (size_t i = 0; i < code.entries.size(); ++i)
          steps(i);
    }
    return std::move(findings);
  }

private:
  static constexpr size_t mostFindings = 100;
  void find(const llvm::Twine &where, const llvm::Twine &what) {
    if (findings.size() < mostFindings)
      findings.push_back({where.str(), what.str()});
  }

  bool hasTiles(llvm::ArrayRef<TileRange> ranges, const std::string &where) {
    int64_t all = 0;
    for (const TileRange &range : ranges) {
      int64_t last = int64_t(range.first) + (int64_t(range.count) - 1) * range.step;
      all += range.count;
      if (range.count == 0 || last >= tiles || (range.step == 0 && range.count > 1) || all > tiles) {
        find(where, "its tiles are not among 0.." + llvm::Twine(tiles - 1) + ", each once");
        return false;
      }
    }
    if (all == 0)
      find(where, "it is on no tile");
    return all > 0;
  }

  void placements() {
    std::vector<bool> placed(program.variables.size());
    for (auto [i, placement] : llvm::enumerate(code.placements)) {
      std::string where = ("placement " + llvm::Twine(i)).str();
      if (placement.variable >= program.variables.size()) {
        find(where, "there is no variable " + llvm::Twine(placement.variable));
        continue;
      }
      const program::Variable &variable = program.variables[placement.variable];
      if (placed[placement.variable])
        find(where, "'" + variable.name + "' has a placement already");
      placed[placement.variable] = true;
      if (!llvm::is_contained(tileTypes(), placement.type) || !holds(placement.type, variable.type))
        find(where, "elements of " + nameOf(variable.type) + " cannot be held as " + nameOf(placement.type));
      for (auto [k, part] : llvm::enumerate(placement.parts)) {
        std::string at = ("'" + llvm::Twine(variable.name) + "', part " + llvm::Twine(k)).str();
        if (!hasTiles(part.tiles, at))
          continue;
        if (std::string problem = partProblem(part, variable.shape); !problem.empty())
          find(at, problem);
        else if (part.address + spanOf(part, placement.type) > usable)
          find(at, "it ends behind the tile's memory of " + llvm::Twine(usable) + " bytes");
      }
    }
    for (const program::EntryPoint &entry : program.entryPoints)
      for (auto *list : {&entry.inputs, &entry.outputs})
        for (uint32_t variable : *list)
          if (variable < placed.size() && !placed[variable])
            find("entry point '" + llvm::Twine(entry.name) + "'",
                 "'" + program.variables[variable].name + "' has no placement");
  }
  // 64-bit integers are held in 32 bits, those of less than 8 in 8, those of 8 as halves too, which hold them exactly;
  // floats may be narrowed, or be held as their bits.
  static bool holds(ElementType here, ElementType given) {
    return here == given || (isFloat(here) && isFloat(given)) ||
           (here == ElementType::i32 && given == ElementType::i64) ||
           (here == ElementType::u32 && given == ElementType::u64) || isBits(here, given) ||
           (here == ElementType::f16 && isInteger(given) && bitWidth(given) <= 8) ||
           (bitWidth(here) == 8 && isInteger(given) && bitWidth(given) < 8 && kindOf(here) == kindOf(given));
  }

  void vertex(const Vertex &vertex, const std::string &where) {
    if (!hasTiles(vertex.tiles, where))
      return;
    if (std::string problem = parameterProblem(vertex, code.expressions); !problem.empty())
      return find(where, problem);
    if (std::string problem = machineProblem(vertex); !problem.empty())
      return find(where, problem);
    for (const Access &access : accessesOf(vertex, code.expressions)) {
      llvm::Twine what = access.writes ? "what it writes" : "what it reads";
      if (access.first() < 0 || access.end() > usable)
        return find(where, what + " is not within the tile's memory of " + llvm::Twine(usable) + " bytes");
      int64_t alignment = access.alignment == ofLoads ? machine.loadBytes : access.alignment;
      if (access.address % alignment != 0 ||
          llvm::any_of(access.strides, [&](int64_t stride) { return stride % alignment != 0; }))
        return find(where, what + " at " + llvm::Twine(access.address) + " is not aligned to " +
                               llvm::Twine(alignment) + " bytes");
    }
  }

  // What the machine's vertices do not take.
  std::string machineProblem(const Vertex &vertex) const {
    switch (vertex.kind()) {
    case Codelet::Reduce:
      return loadsProblem(vertex);
    case Codelet::ConvPartial1x1Out:
    case Codelet::ConvPartialnx1: {
      int64_t channels = valueOf(vertex, "in_channels");
      int64_t weights = machine.unitWeights(typeOf(vertex, "type"), typeOf(vertex, "partials"));
      // Rows of the kernel may share a unit's weights.
      bool shares = vertex.kind() == Codelet::ConvPartialnx1 && weights % channels == 0 &&
                    llvm::is_contained(machine.filterHeights, weights / channels);
      return channels == weights || shares ? loadsProblem(vertex)
                                           : "in_channels: a unit of the machine takes " + std::to_string(weights) +
                                                 " of these types, not " + std::to_string(channels);
    }
    case Codelet::ConvPartialVerticalMac: {
      ElementType partials = typeOf(vertex, "partials");
      int64_t channels = valueOf(vertex, "channels");
      return llvm::is_contained(machine.verticalMacChannels(partials), channels)
                 ? ""
                 : "channels: the machine takes no " + std::to_string(channels) + " together with partial sums in " +
                       nameOf(partials).str();
    }
    case Codelet::ConvPartial1x4SLIC:
      return slimProblem(vertex);
    case Codelet::MaxPool:
    case Codelet::SumPool: {
      int64_t bytes = valueOf(vertex, "channels") * static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
      return bytes % machine.loadBytes == 0
                 ? ""
                 : "channels: not whole words of " + std::to_string(machine.loadBytes) + " bytes";
    }
    default:
      return "";
    }
  }
  std::string loadsProblem(const Vertex &vertex) const {
    std::string problem = valueOf(vertex, "loads") ? wideLoadsProblem(vertex, code.expressions, machine) : "";
    return problem.empty() ? "" : "loads: " + problem;
  }
  // What its slim convolution does not take.
  std::string slimProblem(const Vertex &vertex) const {
    int64_t channels = valueOf(vertex, "channels") * valueOf(vertex, "together");
    if (channels != machine.slimChannels)
      return "channels: the machine takes " + std::to_string(machine.slimChannels) + " together, not " +
             std::to_string(channels);
    if (valueOf(vertex, "window") != machine.slimWindow)
      return "window: the machine's is " + std::to_string(machine.slimWindow);
    if (int64_t stride = valuesOf(vertex, "stride").back(); !llvm::is_contained(machine.slimStrides, stride))
      return "stride: the machine takes no " + std::to_string(stride) + " over a row";
    return "";
  }

  void transfers(const Exchange &exchange, const std::string &where) {
    const Transfer *send = nullptr;
    for (auto [i, each] : llvm::enumerate(exchange.transfers)) {
      std::string at = where + ", transfer " + std::to_string(i);
      if (!each.joins)
        send = &each;
      if (!hasTiles(each.destinations, at))
        continue;
      if (each.source >= tiles)
        find(at, "its tiles are not among 0.." + llvm::Twine(tiles - 1));
      else if (each.destinations.holds(each.source))
        find(at, "it does not leave the tile");
      else if (each.rows == 0 || each.bytes == 0 || int64_t(each.rows) * each.bytes > usable)
        find(at, "it has no bytes, or more than a tile");
      else if (!within(each.sourceAddress, each.sourceStride, each) ||
               !within(each.destinationAddress, each.destinationStride, each))
        find(at, "it is not within the tile's memory of " + llvm::Twine(usable) + " bytes");
      else if (!inWords(each))
        find(at, "addresses, strides and bytes must be multiples of " + llvm::Twine(machine.exchangeGranularity));
      else if (each.rows > 1 && std::abs(int64_t(each.destinationStride)) < each.bytes)
        find(at, "its rows overlap where they are received");
      else if (each.joins &&
               (!send || send == &each || send->source != each.source || send->sourceAddress != each.sourceAddress ||
                send->rows != each.rows || send->bytes != each.bytes || send->sourceStride != each.sourceStride))
        find(at, "it joins a send of other bytes");
    }
  }
  bool within(int64_t address, int64_t stride, const Transfer &each) const {
    int64_t last = address + (int64_t(each.rows) - 1) * stride;
    return std::min(address, last) >= 0 && std::max(address, last) + each.bytes <= usable;
  }
  bool inWords(const Transfer &each) const {
    return llvm::all_of(std::initializer_list<int64_t>{each.sourceAddress, each.destinationAddress, each.bytes,
                                                       each.sourceStride, each.destinationStride},
                        [&](int64_t value) { return value % machine.exchangeGranularity == 0; });
  }

  void steps(size_t entry) {
    std::string where = ("entry point '" + llvm::Twine(program.entryPoints[entry].name) + "'").str();
    int64_t open = 0;
    double executions = 1;
    std::vector<double> factors;
    for (auto [i, step] : llvm::enumerate(code.entries[entry])) {
      std::string at = where + ", step " + std::to_string(i);
      size_t most = step.kind == StepKind::Execute                                ? code.computeSets.size()
                    : step.kind == StepKind::Exchange                             ? code.exchanges.size()
                    : step.kind == StepKind::Read || step.kind == StepKind::Write ? program.variables.size()
                                                                                  : ~uint32_t(0);
      if (step.index >= most)
        find(at, "it names number " + llvm::Twine(step.index) + " of " + llvm::Twine(most));
      if (step.node != noNode && step.node >= program.nodes.size())
        find(at, "there is no node " + llvm::Twine(step.node));
      if (step.kind == StepKind::Repeat) {
        ++open;
        factors.push_back(step.index);
        executions *= step.index;
        constexpr double mostExecutions = 1e8;
        if (step.index == 0 || executions > mostExecutions)
          find(at, "it repeats never, or steps more often than can be executed");
      }
      if (step.kind == StepKind::End) {
        if (--open < 0)
          return find(at, "it ends no Repeat");
        executions /= factors.back();
        factors.pop_back();
      }
    }
    if (open > 0)
      find(where, "a Repeat has no End");
  }

  const program::Program &program;
  const Code &code;
  const Architecture &machine;
  int64_t tiles, usable;
  std::vector<target::Finding> findings;
};

} // namespace

std::vector<target::Finding> wellFormed(const program::Program &program, const Code &code,
                                        const Architecture &machine) {
  return Checker(program, code, machine).run();
}

} // namespace quadrille::ipu
