// The figures of the machine files against sums that others published: each test computes a published total from the
// figures of the files.
#include "machine/Machine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

using namespace quadrille;
using namespace quadrille::machine;

namespace {

Machine load(llvm::StringRef name) {
  return llvm::cantFail(Machine::load(name));
}

TEST(Figures, groqMemoryAndCompute) {
  Machine card = load("groqcard");
  int64_t vector = card.integer("geometry.superlanes") * card.integer("geometry.lanes");
  int64_t slices = card.integer("geometry.hemispheres") * card.integer("mem.slices");
  int64_t slice = card.integer("mem.banks") * card.integer("mem.words_per_bank") * vector;
  EXPECT_EQ(vector, 320);
  EXPECT_EQ(slices * slice, 230'686'720); // 220 MiB
  int64_t reserved = card.list("mem.reserved_west").size() + card.list("mem.reserved_east").size();
  int64_t large = card.list("mem.reserved_large_west").size() + card.list("mem.reserved_large_east").size();
  EXPECT_EQ((slices - reserved) * slice, int64_t(197.5 * 1048576));
  EXPECT_EQ((slices - reserved - large) * slice, int64_t(182.5 * 1048576));

  int64_t planes = card.integer("geometry.hemispheres") * card.integer("mxm.planes");
  int64_t macs = planes * card.integer("mxm.rows") * card.integer("mxm.columns");
  EXPECT_EQ(macs, 409'600);
  EXPECT_DOUBLE_EQ(2 * macs * card.real("clock"), 737.28e12);
  int64_t f16 = card.integer("mxm.f16_units") * card.integer("mxm.f16_rows") * card.integer("mxm.f16_columns");
  EXPECT_EQ(f16, 102'400);
  EXPECT_DOUBLE_EQ(2 * f16 * card.real("clock"), 184.32e12);
  EXPECT_EQ(card.integer("vxm.alus") * vector, 5'120);
  EXPECT_EQ(card.integer("mxm.rows") / card.integer("mxm.install_rows"), 20); // cycles to load a plane

  EXPECT_EQ(2 * card.integer("stream.per_direction") * vector, 20'480); // bytes per cycle across a cut
  EXPECT_EQ(slices * (card.integer("mem.reads_per_cycle") + card.integer("mem.writes_per_cycle")) * vector, 56'320);
  EXPECT_EQ(card.integer("icu.queues") * card.bytes("icu.instruction_bytes").value, 2'304);
  EXPECT_EQ(card.bytes("icu.fetch_bytes").value, 2 * vector);
  EXPECT_EQ(slices * card.integer("icu.queues_per_mem_slice") + card.integer("icu.queues_vxm") +
                card.integer("geometry.hemispheres") * card.integer("icu.queues_per_sxm") +
                planes * card.integer("icu.queues_per_mxm_plane"),
            card.integer("icu.queues"));
}

TEST(Figures, groqLatencies) {
  Machine card = load("groqcard");
  auto t = [&](llvm::StringRef key) { return card.cycles(("timing." + key).str()).value; };
  // Positions between the outermost memory slices and the vector unit.
  int64_t crossing = (card.integer("position.mem") - card.integer("position.vxm") +
                      (card.integer("mem.slices") - 1) / card.integer("mem.slices_per_position")) *
                     t("hop");
  EXPECT_EQ(crossing, 11);
  EXPECT_EQ(t("mxm_to_mem") + crossing + t("vxm_entry"), card.cycles("anchor.mxm_to_alu").value);
  // From the transposer's capture to the distributor's result 49; the 50 of the user program are from the dispatch.
  int64_t path = t("sxm_transpose") + t("sxm_boundary") + crossing + t("vxm_entry") + 3 * t("vxm_op") + crossing +
                 t("sxm_boundary") + t("sxm_distribute");
  EXPECT_EQ(path, 49);
  EXPECT_EQ(t("dispatch_skew") + path, card.cycles("anchor.transpose_path").value);
  EXPECT_EQ(t("group_skew") + t("sxm_to_mxm") + t("mxm_install") + t("mxm_multiply") + t("mxm_accumulate") +
                t("mxm_to_mem") + crossing + t("vxm_entry"),
            card.cycles("anchor.matmul_to_alu").value);
  // The other operand of the operation on the sum comes from slices 0..3.
  EXPECT_EQ(card.cycles("anchor.matmul_to_alu").value - (t("mem_read") + t("hop") + t("vxm_entry")),
            card.cycles("anchor.matmul_to_alu_near").value);
  EXPECT_EQ(t("mem_read") + 2 * t("hop") + t("vxm_entry") + t("vxm_op") + t("mem_write"),
            card.cycles("anchor.read_operate_write").value);
  // Those 12 are 1 + 9 + 2: the user program counts a hop on either side to the vector unit's 9. From there on it is 10
  // positions to slice 43.
  EXPECT_EQ(t("vxm_entry") + t("vxm_op") + (crossing - t("hop")) + t("mem_write"),
            card.cycles("anchor.last_slice_write").value);
}

TEST(Figures, groqLinks) {
  Machine rack = load("groqrack");
  EXPECT_EQ(rack.chips(), 72);
  EXPECT_EQ(rack.integer("system.nodes") * rack.integer("system.chips_per_node"), rack.chips());
  double packet = 320.0 + rack.bytes("c2c.packet_overhead").value;
  EXPECT_EQ(std::ceil(packet / rack.real("c2c.bandwidth") * rack.real("clock")),
            rack.cycles("c2c.issue_interval").value);
  EXPECT_NEAR(320 / packet, 0.975, 0.001);
  EXPECT_NEAR(rack.integer("c2c.lanes_per_link") * rack.real("c2c.lane_rate") / 8, rack.real("c2c.bandwidth"), 0.5e9);
  EXPECT_EQ(2 * rack.integer("c2c.links") * rack.integer("c2c.lanes_per_link") * rack.real("c2c.lane_rate_maximum") / 8,
            480e9);
  EXPECT_EQ(rack.integer("c2c.ports_local") + rack.integer("c2c.ports_global"), rack.integer("c2c.links_used"));
  int64_t chips = rack.integer("system.chips_per_node");
  EXPECT_EQ(chips * (chips - 1) / 2, rack.integer("system.cables"));
  EXPECT_EQ(chips * rack.integer("c2c.ports_global"), rack.integer("system.global_ports"));
  EXPECT_EQ(rack.list("system.chip_counts").back(), 72);
}

TEST(Figures, graphcoreChip) {
  Machine bow = load("bow-ipu"), gc200 = load("gc200");
  EXPECT_EQ(bow.bytes("mem.bytes").value, 638'976);
  EXPECT_EQ(bow.integer("tile.count") * bow.bytes("mem.bytes").value, 897ll << 20);
  EXPECT_EQ(bow.bytes("mem.executable_bytes").value + bow.bytes("mem.interleaved_bytes").value,
            bow.bytes("mem.bytes").value);
  EXPECT_EQ(bow.bytes("mem.base").value + bow.bytes("mem.executable_bytes").value, 0x80000);
  EXPECT_EQ(bow.bytes("mem.base").value + bow.bytes("mem.bytes").value, 0xE8000);
  // Multiply-accumulates per cycle and tile, and peaks in TFLOP/s, by type: 250, 124.8 and 62.4; 350, 174.3 and 87.2.
  struct {
    const char *type;
    int64_t macs;
    double gc200, bow;
  } rows[] = {{"f16_f16", 64, 249.7, 348.6}, {"f16_f32", 32, 124.8, 174.3}, {"f32_f32", 16, 62.4, 87.2}};
  for (auto &row : rows) {
    std::string type = row.type;
    int64_t macs = bow.integer("amp.units." + type) * bow.integer("amp.unit_weights." + type) /
                   bow.cycles("amp.field_cycles." + type).value;
    EXPECT_EQ(macs, row.macs);
    EXPECT_NEAR(2 * macs * gc200.integer("tile.count") * gc200.real("clock") / 1e12, row.gc200, 0.06);
    EXPECT_NEAR(2 * macs * bow.integer("tile.count") * bow.real("clock") / 1e12, row.bow, 0.06);
  }
  EXPECT_NEAR(bow.integer("tile.count") * bow.real("exchange.receive") * bow.real("clock") / 1e12, 10.9, 0.01);
  EXPECT_NEAR(bow.integer("tile.count") * (bow.real("mem.read_per_cycle") + bow.real("mem.write_per_cycle")) *
                  bow.real("clock") / 1e12,
              65.4, 0.05);
}

TEST(Figures, graphcorePods) {
  Machine pod = load("bow-pod64");
  EXPECT_EQ(pod.chips(), 64);
  EXPECT_EQ(pod.integer("system.machines") * pod.integer("system.ipus_per_machine"), 64);
  EXPECT_EQ(pod.chips() * pod.integer("tile.count"), 94'208); // cores that ALCF states
  double link = pod.real("link.model_bandwidth") * pod.real("link.efficiency");
  EXPECT_NEAR(pod.integer("link.pair") * link / 1e9, 58.4, 0.05);
  EXPECT_NEAR(pod.integer("link.rung") * link / 1e9, 29.2, 0.05);
  // Global barriers of 4, 16 and 64 IPUs.
  for (auto [ipus, cycles] : {std::pair(4, 111), std::pair(16, 278), std::pair(64, 944)}) {
    int64_t hops = 1 + ipus / pod.integer("sync.ipus_per_hop");
    EXPECT_EQ(std::ceil(pod.real("sync.hop") * pod.real("clock") * hops * 2), cycles);
  }
}

TEST(Figures, sambanova) {
  auto peak = [](const Machine &rdu) {
    return double(rdu.integer("chip.tiles") * rdu.integer("tile.pcus") * rdu.integer("pcu.lanes") *
                  rdu.integer("pcu.stages")) *
           2 * rdu.real("clock") / rdu.cycles("pcu.cycles_bf16").value / 1e12;
  };
  auto sram = [](const Machine &rdu) {
    return rdu.integer("chip.tiles") * rdu.integer("tile.pmus") * rdu.bytes("pmu.bytes").value;
  };
  Machine sn30 = load("sn30"), sn10 = load("sn10"), sn40l = load("sn40l");
  EXPECT_NEAR(peak(sn30), 688.13, 0.01);
  EXPECT_NEAR(peak(sn10), 307.2, 0.01);
  EXPECT_NEAR(peak(sn40l), 638.98, 0.01);
  EXPECT_EQ(sram(sn30), 671'088'640);
  EXPECT_EQ(sram(sn40l), 545'259'520);
  EXPECT_EQ(sram(sn10), 320ll << 20);
  for (const Machine *rdu : {&sn30, &sn40l})
    EXPECT_EQ(rdu->integer("tile.rows") * rdu->integer("tile.columns"),
              rdu->integer("tile.pcus") + rdu->integer("tile.pmus"));
  // Three ports of one vector: 153.6 TB/s against the 150 TB/s published for the SN10.
  EXPECT_NEAR(640 * (sn10.integer("pmu.read_ports") + sn10.integer("pmu.write_ports")) *
                  sn10.bytes("pcu.vector_bytes").value * sn10.real("clock") / 1e12,
              153.6, 0.01);
  Machine node = load("sn30-node");
  EXPECT_EQ(node.chips(), 8);
  EXPECT_EQ(node.chips() * node.bytes("dram.bytes").value, 8ll << 40);
}

TEST(Figures, cerebras) {
  struct {
    const char *name;
    int64_t cores;
    double petaflops;
  } rows[] = {{"cs2", 745'500, 5.07}, {"cs3", 883'350, 12.37}};
  for (auto &row : rows) {
    Machine cs = load(row.name);
    EXPECT_EQ(cs.integer("user.columns") * cs.integer("user.rows"), row.cores);
    EXPECT_EQ(cs.integer("fabric.columns") - cs.integer("fabric.service_columns"), cs.integer("user.columns"));
    EXPECT_EQ(cs.integer("fabric.rows") - cs.integer("fabric.service_rows"), cs.integer("user.rows"));
    EXPECT_NEAR(row.cores * 2.0 * cs.integer("simd.f16") * cs.real("clock") / 1e15, row.petaflops, 0.005);
    EXPECT_EQ(cs.bytes("memory.bytes").value, cs.integer("memory.banks") * 6144);
    EXPECT_EQ(cs.real("memory.read_per_cycle") + cs.real("memory.write_per_cycle"), 24);
    // 88 16-bit values per cycle of 0.85 GHz.
    if (row.cores == 745'500)
      EXPECT_NEAR(cs.real("io.bandwidth") / 2 / cs.real("clock"), 88.2, 0.05);
  }
  Machine cs2 = load("cs2");
  // The chain reduction of 512 PEs and 4096 words: B + (2 ramp + 2)(P - 1) = 7162.
  EXPECT_EQ(4096 + (2 * cs2.cycles("router.ramp").value + 2) * 511, 7162);
  EXPECT_EQ(cs2.real("vendor.fabric_bandwidth"), 27.5e15);
}

TEST(Figures, gpuSharesAreThoseMeasured) {
  Machine h200 = load("h200");
  double compute = h200.real("peak.f16") * h200.real("share.compute");
  EXPECT_GT(compute, 769e12);
  EXPECT_LT(compute, 798e12);
  EXPECT_NEAR(h200.real("memory.bandwidth") * h200.real("share.memory"), 4.3e12, 0.05e12);
}

// A swapped latency must show in a test of a planner or simulator, so on the unit machines no two are equal.
TEST(Figures, unitMachinesTellLatenciesApart) {
  const std::set<std::string> structural = {"timing.hop", "timing.dispatch_skew", "timing.superlane_skew"};
  for (const char *name : {"unit-tsp", "unit-ipu", "unit-rdu", "unit-wse"}) {
    Machine unit = load(name);
    std::map<double, std::string> seen;
    for (const auto &[key, figure] : unit.figures()) {
      llvm::StringRef prefix = llvm::StringRef(key).split('.').first;
      if (figure.unit != "cycles" || figure.values.size() != 1 || prefix == "cycles" || prefix == "amp" ||
          structural.count(key))
        continue;
      auto [other, fresh] = seen.try_emplace(figure.values.front(), key);
      EXPECT_TRUE(fresh) << name << ": " << key << " and " << other->second << " are both " << other->first;
    }
    EXPECT_GE(seen.size(), 7u) << name;
  }
}

} // namespace
