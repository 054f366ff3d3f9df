#include "target/tsp/Architecture.h"

#include "base/Error.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <mutex>

namespace quadrille::tsp {

namespace {

// Reads figures and remembers those that are assumed.
class Reader {
public:
  Reader(const machine::Machine &machine, std::vector<std::string> &assumed) : machine(machine), assumed(assumed) {}

  int64_t integer(llvm::StringRef key) {
    note(key);
    return machine.integer(key);
  }
  std::vector<int64_t> integers(llvm::StringRef key) {
    note(key);
    llvm::ArrayRef<double> values = machine.list(key);
    return {values.begin(), values.end()};
  }
  double real(llvm::StringRef key) {
    note(key);
    return machine.real(key);
  }
  bool names(llvm::StringRef key, llvm::StringRef word) {
    note(key);
    return llvm::is_contained(machine.names(key), word);
  }

private:
  void note(llvm::StringRef key) {
    if (const machine::Figure *figure = machine.find(key); figure && figure->status == machine::Status::Assumed)
      assumed.push_back(key.str());
  }
  const machine::Machine &machine;
  std::vector<std::string> &assumed;
};

} // namespace

llvm::Expected<Architecture> Architecture::from(const machine::Machine &machine) {
  if (machine.architecture() != "tsp")
    return userError("machine '" + machine.name() + "' has the architecture '" + machine.architecture() +
                         "', not 'tsp'",
                     {}, "name a machine of the architecture tsp");
  Architecture a;
  Reader read(machine, a.assumedFigures);
  a.superlanes = read.integer("geometry.superlanes");
  a.lanes = read.integer("geometry.lanes");
  a.hemispheres = read.integer("geometry.hemispheres");
  a.slices = read.integer("mem.slices");
  a.slicesPerPosition = read.integer("mem.slices_per_position");
  a.banks = read.integer("mem.banks");
  a.words = read.integer("mem.words_per_bank");
  a.readsPerCycle = read.integer("mem.reads_per_cycle");
  a.writesPerCycle = read.integer("mem.writes_per_cycle");
  a.streams = read.integer("stream.per_direction");
  a.group = read.integer("stream.group");
  a.queuesPerSlice = read.integer("icu.queues_per_mem_slice");
  a.queuesPerPlane = read.integer("icu.queues_per_mxm_plane");
  a.nopMaximum = read.integer("icu.nop_maximum");
  a.repeatMaximum = read.integer("icu.repeat_maximum");
  a.planes = read.integer("mxm.planes");
  a.rows = read.integer("mxm.rows");
  a.columns = read.integer("mxm.columns");
  a.installRows = read.integer("mxm.install_rows");
  a.weightBuffers = read.integer("mxm.weight_buffers");
  a.f16Rows = read.integer("mxm.f16_rows");
  a.f16Columns = read.integer("mxm.f16_columns");
  a.accumulators = read.integer("mxm.accumulator_vectors");
  a.installFirstStream = read.integers("mxm.install_first_stream");
  a.resultGroup = read.integers("mxm.result_group");
  a.gatherAddressBytes = read.integer("mem.gather_address_bytes");
  a.alus = read.integer("vxm.alus");
  a.aluColumns = read.integer("vxm.alu_columns");
  a.strictRouting = read.names("vxm.routing", "strict");
  a.largeAlus = read.integers("vxm.large_alus");
  a.switchQueues = read.integer("icu.queues_per_sxm");
  a.shifters = read.integer("sxm.shifters");
  a.permuters = read.integer("sxm.permuters");
  a.transposers = read.integer("sxm.transposers");
  a.distributors = read.integer("sxm.distributors");
  a.distributeStreams = read.integer("sxm.distribute_streams");
  a.rotateSizes = read.integers("sxm.rotate_sizes");
  a.instructionBytes = read.integer("icu.instruction_bytes");
  a.fetchBytes = read.integer("icu.fetch_bytes");
  a.bufferBytes = read.integer("icu.buffer_bytes");
  a.fetchLatency = read.integer("icu.fetch_latency");
  a.linksUsed = read.integer("c2c.links_used");
  a.localLinks = read.integer("c2c.ports_local");
  a.linkInterval = read.integer("c2c.issue_interval");
  a.linkLatency = read.integer("c2c.latency");
  a.counterPeriod = read.integer("c2c.counter_period");
  a.chipsPerNode = read.integer("system.chips_per_node");
  a.chipCounts = read.integers("system.chip_counts");
  llvm::sort(a.chipCounts);
  a.globalLinks = machine.find("system.node_wiring") ? read.integer("c2c.ports_global") : 0;
  if (a.globalLinks > 0)
    read.names("system.node_wiring", "dealt");
  a.meshed = !read.names("system.topology", "single");
  a.memoryGather = read.integer("timing.mem_gather");
  a.memoryScatter = read.integer("timing.mem_scatter");
  a.vectorEntry = read.integer("timing.vxm_entry");
  a.vectorOperation = read.integer("timing.vxm_op");
  a.vectorTranscendental = read.integer("timing.vxm_transcendental");
  a.switchShift = read.integer("timing.sxm_shift");
  a.switchShiftAcross = read.integer("timing.sxm_shift_across");
  a.switchDistribute = read.integer("timing.sxm_distribute");
  a.switchTranspose = read.integer("timing.sxm_transpose");
  a.switchRotate = read.integer("timing.sxm_rotate");
  a.toSwitch = read.integer("timing.sxm_boundary");
  a.hop = read.integer("timing.hop");
  a.skew = read.integer("timing.dispatch_skew");
  a.superlaneSkew = read.integer("timing.superlane_skew");
  a.barrier = read.integer("icu.barrier");
  a.memoryRead = read.integer("timing.mem_read");
  a.memoryWrite = read.integer("timing.mem_write");
  a.install = read.integer("timing.mxm_install");
  a.multiply = read.integer("timing.mxm_multiply");
  a.accumulate = read.integer("timing.mxm_accumulate");
  a.memoryPosition = read.integer("position.mem");
  a.toMatrix = read.integer("timing.sxm_to_mxm");
  a.fromMatrix = read.integer("timing.mxm_to_mem");
  a.clockHertz = machine.real("clock");
  a.chips = machine.chips();
  a.machineName = machine.name();
  a.reserved.resize(a.hemispheres);
  for (int64_t hemisphere = 0; hemisphere < a.hemispheres; ++hemisphere) {
    a.reserved[hemisphere].resize(a.slices);
    for (int64_t slice : read.integers(hemisphere == west ? "mem.reserved_west" : "mem.reserved_east"))
      a.reserved[hemisphere][slice] = true;
  }

  Reader readEnergy(machine, a.assumedEnergies);
  a.energyProductI8 = readEnergy.real("energy.mac_i8");
  a.energyProductF16 = readEnergy.real("energy.mac_f16");
  a.energyOperation = readEnergy.real("energy.vxm_op");
  a.energyMemoryByte = readEnergy.real("energy.mem_byte");
  a.energyStreamByte = readEnergy.real("energy.stream_byte");
  a.energyLinkByte = readEnergy.real("energy.c2c_byte");
  a.idleWatts = readEnergy.real("power.idle");
  a.hostBytesPerSecond = machine.real("host.bandwidth");
  a.hostFixedSeconds = machine.real("host.transfer_fixed");
  a.reorderBytesPerSecond = machine.real("host.reorder_bandwidth");
  a.reorderThreads = machine.integer("host.reorder_threads");

  // Mesh row after row, the stream groups that the row reads and drives.
  int64_t groups = read.integer("vxm.groups"), perRow = read.integer("vxm.groups_per_row");
  auto byRow = [&](llvm::StringRef key) {
    std::vector<std::vector<bool>> rows;
    for (auto [i, group] : llvm::enumerate(read.integers(key))) {
      if (i % perRow == 0)
        rows.emplace_back(groups);
      rows.back()[group] = true;
    }
    return rows;
  };
  a.inputGroups = byRow("vxm.input_groups");
  a.outputGroups = byRow("vxm.output_groups");
  auto order = [&](llvm::StringRef key) {
    std::vector<int64_t> byColumn(a.aluColumns);
    for (auto [i, column] : llvm::enumerate(read.integers(key)))
      byColumn[column] = static_cast<int64_t>(i);
    return byColumn;
  };
  a.eastOrder = order("vxm.columns_east");
  a.westOrder = order("vxm.columns_west");

  // fp16 products use planes in tandem, each holding one byte plane of the weights.
  int64_t i8Units = read.integer("mxm.i8_units"), f16Units = read.integer("mxm.f16_units");
  a.tandem = f16Units > 0 ? i8Units / f16Units : 0;
  auto contradiction = [&](const llvm::Twine &what) {
    return userError("machine '" + machine.name() + "': " + what, {}, "correct the machine file");
  };
  if (i8Units != a.hemispheres * a.planes)
    return contradiction("mxm.i8_units must be geometry.hemispheres x mxm.planes");
  if (a.tandem != 2 || i8Units != 2 * f16Units || a.planes % 2 != 0)
    return contradiction("mxm.f16_units must be half of mxm.i8_units, and mxm.planes even: an fp16 product uses two "
                         "planes of one hemisphere");
  if (a.columns > a.vectorBytes() || a.rows > a.vectorBytes() || a.f16Rows > a.rows || a.f16Columns > a.columns)
    return contradiction("a plane may not have more rows or columns than a vector has lanes");
  if (a.rows % a.installRows != 0 || a.f16Rows % a.installRows != 0)
    return contradiction("mxm.rows and mxm.f16_rows must be multiples of mxm.install_rows");
  for (int64_t stream : a.installFirstStream)
    if (stream + a.installRows > a.streams)
      return contradiction("mxm.install_first_stream + mxm.install_rows exceeds stream.per_direction");
  for (int64_t group : a.resultGroup)
    if (a.group < 4 || group * a.group + 4 > a.streams)
      return contradiction("mxm.result_group: the group does not have four streams");
  constexpr int64_t mostNamed =
      63; // streams of a direction, and arithmetic units, that a byte can name (Instructions.h)
  if (a.streams > mostNamed || a.alus > mostNamed || a.largeAlus.size() > static_cast<size_t>(a.alus))
    return contradiction("stream.per_direction and vxm.alus may be at most 63");
  if (a.alus != static_cast<int64_t>(a.inputGroups.size()) * a.aluColumns || groups * a.group != a.streams)
    return contradiction("vxm.alus must be vxm.alu_rows x vxm.alu_columns, and vxm.groups x stream.group all streams");
  if (a.group != 4)
    return contradiction("stream.group must be 4: the widest values have 32 bits");
  if (a.lanes > a.streams || a.gatherAddressBytes > a.lanes)
    return contradiction("geometry.lanes may exceed neither stream.per_direction (Transpose) nor be below "
                         "mem.gather_address_bytes");
  if (a.distributeStreams > 8)
    return contradiction("sxm.distribute_streams may be at most 8, the bits of Distribute's bypass mask");
  if (a.meshed && a.chipsPerNode > a.localLinks + 1)
    return contradiction("c2c.ports_local must be at least system.chips_per_node - 1");
  if (a.localLinks + a.globalLinks > a.linksUsed)
    return contradiction("c2c.links_used must be at least c2c.ports_local + c2c.ports_global");
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

} // namespace quadrille::tsp
