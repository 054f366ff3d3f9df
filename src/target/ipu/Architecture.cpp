#include "target/ipu/Architecture.h"

#include "base/Error.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <algorithm>
#include <cmath>
#include <mutex>

namespace quadrille::ipu {

llvm::Expected<Architecture> Architecture::from(const machine::Machine &machine) {
  if (machine.architecture() != "ipu")
    return userError("machine '" + machine.name() + "' has the architecture '" + machine.architecture() +
                         "', not 'ipu'",
                     {}, "name a machine of the architecture ipu");
  Architecture a;
  auto note = [&](llvm::StringRef key) {
    if (const machine::Figure *figure = machine.find(key); figure && figure->status == machine::Status::Assumed)
      a.assumedFigures.push_back(key.str());
  };
  auto integer = [&](llvm::StringRef key) {
    note(key);
    return machine.integer(key);
  };
  auto real = [&](llvm::StringRef key) {
    note(key);
    return machine.real(key);
  };
  a.tiles = integer("tile.count");
  a.workers = integer("tile.workers");
  a.ipus = machine.chips();
  for (auto [key, list] :
       {std::pair("vmac.groups_f16", &a.verticalMacChannelsF16),
        std::pair("vmac.groups_f32", &a.verticalMacChannelsF32), std::pair("slic.strides", &a.slimStrides),
        std::pair("system.ipu_counts", &a.ipuCounts), std::pair("amp.filter_heights", &a.filterHeights)})
    for (double number : machine.list(key))
      list->push_back(static_cast<int64_t>(number));
  a.slimWindow = machine.integer("slic.window");
  a.slimChannels = machine.integer("slic.channels");
  llvm::sort(a.ipuCounts);
  a.tilesPerBus = integer("exchange.tiles_per_bus");
  a.ipusPerHop = machine.integer("sync.ipus_per_hop");
  a.ipusPerMachine = machine.integer("system.ipus_per_machine");
  a.memoryBytes = machine.integer("mem.bytes");
  a.executableBytes = machine.integer("mem.executable_bytes");
  a.interleavedBytes = integer("mem.interleaved_bytes");
  a.wideLoadBytes = a.loadBytes = machine.integer("mem.load_bytes");
  a.wideLoadBytes *= integer("mem.interleave_ways");
  a.tailBytes = machine.integer("mem.tail_bytes");
  a.storeGranularity = machine.integer("mem.store_granularity");
  a.elementBytes = machine.integer("mem.element_bytes");
  a.stackBytes = machine.integer("mem.stack_bytes");
  a.vertexCodeBytes = machine.integer("mem.vertex_code_bytes");
  a.vertexStateBytes = machine.integer("mem.vertex_state_bytes");
  a.vertexFieldBytes = machine.integer("mem.vertex_field_bytes");
  a.controlCodeBytes = machine.integer("mem.control_code_bytes");
  a.planProportion = machine.real("mem.plan_proportion");
  a.exchangeGranularity = machine.integer("exchange.granularity");
  a.exchangeCodeWordBytes = machine.integer("exchange.code_word");
  a.exchangeFragmentWords = machine.integer("exchange.fragment_words");
  a.receiveBytesPerCycle = integer("exchange.receive");
  a.sendBytesPerCycle = integer("exchange.send");
  a.sharedFactor = real("exchange.shared_factor");
  a.exchangeFragment = integer("exchange.fragment");
  a.syncInternal = integer("sync.internal");
  a.syncGlobal = integer("sync.global");
  a.syncHopSeconds = real("sync.hop");
  a.clockHertz = machine.real("clock");
  a.linksPair = machine.integer("link.pair");
  a.linksRung = machine.integer("link.rung");
  a.linksUp = machine.integer("link.up");
  a.linksDown = machine.integer("link.down");
  a.linkBytesPerSecond = machine.real("link.model_bandwidth");
  a.linkEfficiency = machine.real("link.efficiency");
  a.hostBytesPerSecond = machine.real("host.bandwidth");
  a.idleWatts = machine.real("power.idle");
  auto products = [&](const std::string &types) {
    return static_cast<double>(machine.integer("amp.units." + types) * machine.integer("amp.unit_weights." + types)) /
           static_cast<double>(machine.integer("amp.field_cycles." + types));
  };
  a.productsF16F16 = products("f16_f16");
  a.productsF16F32 = products("f16_f32");
  a.productsF32F32 = products("f32_f32");
  a.unitWeightsF16F16 = machine.integer("amp.unit_weights.f16_f16");
  a.unitWeightsF16F32 = machine.integer("amp.unit_weights.f16_f32");
  a.unitWeightsF32F32 = machine.integer("amp.unit_weights.f32_f32");
  a.machineName = machine.name();
  auto contradiction = [&](const llvm::Twine &what) {
    return userError("machine '" + machine.name() + "': " + what, {}, "correct the machine file");
  };
  if (a.interleavedBytes > a.memoryBytes)
    return contradiction("mem.interleaved_bytes must lie within mem.bytes");
  if (a.executableBytes > a.memoryBytes || a.tailBytes >= a.memoryBytes)
    return contradiction("mem.executable_bytes and mem.tail_bytes must lie within mem.bytes");
  if (a.ipuCounts.empty() || a.ipuCounts.front() != 1 || a.ipuCounts.back() > a.ipus)
    return contradiction("system.ipu_counts must begin with 1 and stay within the machine's IPUs");
  return a;
}

llvm::Expected<Architecture> Architecture::from(llvm::StringRef machineYaml) {
  // One program is asked many times (check, estimate, simulate; hundreds of mutations of it), always for this text.
  static std::mutex mutex;
  static std::string lastText;
  static Architecture last;
  std::lock_guard lock(mutex);
  if (machineYaml.empty() || machineYaml != lastText) {
    auto machine = machine::Machine::parse(machineYaml, "the program's machine");
    if (!machine)
      return machine.takeError();
    auto architecture = from(*machine);
    if (!architecture)
      return architecture.takeError();
    last = std::move(*architecture);
    lastText = machineYaml.str();
  }
  return last;
}

int64_t Architecture::globalSync(int64_t ipusInProgram) const {
  int64_t hops = 1 + ipusInProgram / ipusPerHop;
  auto travel = static_cast<int64_t>(std::ceil(syncHopSeconds * clockHertz * static_cast<double>(hops) * 2));
  return std::max(syncGlobal, travel);
}

} // namespace quadrille::ipu
