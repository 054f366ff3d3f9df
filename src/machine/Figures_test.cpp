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
int64_t ceilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
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

// Elementwise vertices of N elements, from the op tables, against the validation table computed from poplibs.
class Vertices {
public:
  int64_t k(llvm::StringRef key, size_t i) const { return gc200.list(key)[i]; }
  int64_t workers() const { return gc200.integer("tile.workers"); }
  int64_t loop(llvm::StringRef key, int64_t n, int64_t vector, int64_t overhead, bool unary) const {
    int64_t c = k(key, 0), step = k(key, 1);
    if (step > 0)
      return c * ceilDivide(n, step);
    if (step < 0)
      return (c + overhead) * n;
    return unary ? (c + overhead) * (n + vector - 1) / vector : (c + overhead) * ceilDivide(n, vector);
  }
  int64_t unary(llvm::StringRef op, llvm::StringRef type, int64_t count, bool inPlace = false) const {
    std::string key = ("cycles.unary." + op + "." + type).str(),
                other = ("cycles.unary_in_place." + op + "." + type).str();
    if (inPlace && gc200.find(other))
      key = other;
    int64_t prologue = k("cycles.unary_1d", inPlace ? 3 : op == "exp" ? 2 : 1);
    return k("cycles.unary_1d", 0) + workers() * (prologue + loop(key, ceilDivide(count, workers()), vector(type),
                                                                  k("cycles.loop_overhead", 0), true));
  }
  int64_t binary(llvm::StringRef op, llvm::StringRef type, int64_t count, bool inPlace = false) const {
    int64_t prologue = k("cycles.binary_1d", inPlace ? 3 : type == "f32" ? 1 : 2);
    bool plain = op == "add" || op == "subtract" || op == "multiply";
    return k("cycles.binary_1d", 0) +
           workers() * (prologue + loop(("cycles.binary." + op + "." + type).str(), ceilDivide(count, workers()),
                                        vector(type), k("cycles.loop_overhead", plain ? 1 : 2), false));
  }
  int64_t vector(llvm::StringRef type) const {
    return gc200.integer(type == "f16" ? "elementwise.vector_f16" : "elementwise.vector_f32");
  }
  Machine gc200 = load("gc200");
};

TEST(Figures, graphcoreElementwise) {
  Vertices v;
  EXPECT_EQ(v.binary("add", "f32", 96), 329);
  EXPECT_EQ(v.binary("add", "f32", 96, true), 503);
  EXPECT_EQ(v.binary("add", "f16", 1536), 1319);
  EXPECT_EQ(v.binary("add", "i32", 1536), 10919);
  EXPECT_EQ(v.binary("divide", "f32", 96), 665);
  EXPECT_EQ(v.binary("divide", "f16", 1536), 8231);
  EXPECT_EQ(v.binary("maximum", "f16", 96), 263);
  EXPECT_EQ(v.unary("exp", "f32", 96), 506);
  EXPECT_EQ(v.unary("exp", "f32", 96, true), 638);
  EXPECT_EQ(v.unary("exp", "f16", 1536, true), 1886);
  EXPECT_EQ(v.unary("log", "f32", 96, true), 1022);
  EXPECT_EQ(v.unary("tanh", "f16", 1536, true), 1118);
  EXPECT_EQ(v.unary("sigmoid", "f16", 96), 266);
  EXPECT_EQ(v.unary("relu", "f16", 96), 194);
  EXPECT_EQ(v.unary("sqrt", "f16", 1536), 8954);
  EXPECT_EQ(v.unary("rsqrt", "f32", 1536), 6266);
  EXPECT_EQ(v.unary("inverse", "f16", 96), 482);
  EXPECT_EQ(v.unary("gelu_erf", "f32", 1536), 33914);
}

TEST(Figures, graphcoreMatrixVertex) {
  Vertices v;
  // 1x1 AMP, f16 with f16 partials: field elements, in-groups, out-groups, cycles of the validation table.
  struct {
    int64_t field, in, out, cycles;
  } rows[] = {{6, 1, 1, 369}, {96, 1, 1, 711}, {96, 4, 1, 2613}, {96, 4, 4, 9807}, {384, 16, 4, 112779}};
  for (auto &row : rows) {
    int64_t n = row.field / v.workers();
    auto worker = [&](llvm::StringRef key) {
      int64_t cycles = n < 3 ? v.k(key, n) : v.k(key, 3) + v.k(key, 4) * (n - 3);
      return cycles - v.k("cycles.amp_1x1_retention", 0);
    };
    auto pass = [&](llvm::StringRef key) { return 6 * worker(key) + v.k("cycles.amp_1x1_pass", 0); };
    auto k = [&](size_t i) { return v.k("cycles.amp_1x1_f16", i); };
    int64_t load = v.gc200.integer("amp.units.f16_f16") * v.gc200.integer("amp.unit_weight_bytes") /
                   v.gc200.integer("amp.load_per_cycle");
    EXPECT_EQ(load, 64);
    int64_t total = k(0) + k(1) * (row.in - 1) + k(2) +
                    (row.in - 1) * (k(3) + row.out * (k(4) + k(5) + load + pass("cycles.amp_1x1_f16_add"))) + k(6) +
                    row.out * (k(7) + k(8) + load + pass("cycles.amp_1x1_f16_zero"));
    EXPECT_EQ(total, row.cycles) << row.field << ' ' << row.in << ' ' << row.out;
  }
}

// 1x1 AMP in f32: 96 field elements, 4 in-groups, 4 out-groups; outer products of 64 x 64.
TEST(Figures, graphcoreFullPrecisionVertices) {
  Vertices v;
  auto k = [&](llvm::StringRef key, size_t i) { return v.k(("cycles." + key).str(), i); };
  int64_t n = 16, load = 64, z = k("amp_1x1_f32_z", 0);
  int64_t zero = k("amp_1x1_f32_zero", 5) + k("amp_1x1_f32_zero", 6) * z * n + k("amp_1x1_f32_zero", 7) * (n - 3);
  int64_t add = k("amp_1x1_f32_add", 3) + k("amp_1x1_f32_add", 4) * (n - 3);
  auto common = [&](size_t i) { return k("amp_1x1_f16", i); };
  auto pass = [&](int64_t worker) { return 6 * worker + k("amp_1x1_pass", 0); };
  EXPECT_EQ(k("amp_1x1_f32", 0) + k("amp_1x1_f32", 1) +
                3 * (common(3) + 4 * (common(4) + common(5) + load + pass(add))) + common(6) +
                4 * (common(7) + common(8) + load + pass(zero)),
            19287);
  auto outer = [&](llvm::StringRef key) {
    return k(key, 0) + k(key, 1) + 64 * (k(key, 2) + (64 - k(key, 3)) / k(key, 4));
  };
  EXPECT_EQ(outer("outer_product_f32"), 2276);
  EXPECT_EQ(outer("outer_product_f16"), 1251);
}

TEST(Figures, graphcoreReductionsAndCasts) {
  Vertices v;
  auto scalar = [&](int64_t partials, bool half) {
    int64_t a = v.k("cycles.reduce_scalar", half ? 4 : 3);
    return v.k("cycles.reduce_scalar", 0) + v.k("cycles.reduce_scalar", 1) * partials / a + partials % a;
  };
  EXPECT_EQ(scalar(96, false), 65);
  EXPECT_EQ(scalar(96, true), 41);
  EXPECT_EQ(scalar(1536, false), 785);
  // Strided, f32: P 16, O 64, one outer stride.
  auto s = [&](size_t i) { return v.k("cycles.reduce_strided", i); };
  EXPECT_EQ(s(0) + 32 * (s(1) + s(2) + (s(5) + 16 - 1)), 848);
  EXPECT_EQ(v.k("cycles.fill_f32", 0) + 96 / v.k("cycles.fill_f32", 1), 71);
  EXPECT_EQ(v.k("cycles.fill_f16", 0) + 1536 / v.k("cycles.fill_f16", 1), 410);
  // Gather, M = m = 6, E = 64.
  auto g = [&](size_t i) { return v.k("cycles.multi_slice", i); };
  EXPECT_EQ(6 * (g(0) + 6 * (g(2) + g(3) * 32)), 3168);
}

// Formula constants against the validation table, for 96 or 1536 elements; the formulas stand in the schema.
TEST(Figures, graphcoreFormulas) {
  Vertices v;
  using List = llvm::ArrayRef<double>;
  auto list = [&](llvm::StringRef key) { return v.gc200.list(("cycles." + key).str()); };
  // gelu, f32 and f16, 96 elements: q = 8 and 4 vectors per worker.
  List k = list("nonlinearity"), gelu = list("nonlinearity.gelu.f32"), half = list("nonlinearity.gelu.f16");
  EXPECT_EQ(k[0] + 6 * (k[1] + k[2] + 2 * gelu[0] + 7 * gelu[1] + k[3]), 705);
  EXPECT_EQ(k[0] + 6 * (k[1] + k[2] + 2 * half[0] + 3 * half[1] + k[4]), 321);
  k = list("nonlinearity_gradient");
  List step = list("nonlinearity_gradient_step");
  EXPECT_EQ(k[0] + 6 * (k[1] + k[2] + 7 * step[0] + k[3]), 309);
  EXPECT_EQ(k[0] + 6 * (k[1] + k[2] + 7 * step[3] + k[3]), 603);
  EXPECT_EQ(k[0] + 6 * (k[1] + k[2] + 3 * step[4] + k[4]), 285);
  // Bias of 16 elements, 96 times: b = 16.
  k = list("bias_add");
  List f32 = list("bias_add_f32"), f16 = list("bias_add_f16");
  EXPECT_EQ(k[0] + k[1] + 6 * (k[2] + f32[0] + f32[1] + 16 * (f32[2] * 16 + f32[3])), 4021);
  EXPECT_EQ(k[0] + k[1] + 6 * (k[2] + f16[0] + f16[1] + 16 / 8 * (f16[2] + f16[3] * 16)), 763);
  // Cast f32 to f16: n = 16, two remainder tests.
  k = list("cast_1d");
  List cast = list("cast.f32_f16");
  EXPECT_EQ(k[0] + 6 * (k[1] + k[2] + cast[1] * (16 / cast[0]) + 2), 294);
  // A += k B in f32, free and constrained operands.
  k = list("scaled_add");
  List i = list("scaled_add_step"), supervisor = list("scaled_add_supervisor");
  EXPECT_EQ(supervisor[0] + 6 * (k[0] + k[1] + i[0] * 7 + k[2] + k[3]), 333);
  EXPECT_EQ(supervisor[0] + 6 * (k[0] + k[1] + i[2] * 7 + k[2] + k[3]), 291);
  EXPECT_EQ(supervisor[0] + 6 * (k[0] + k[1] + i[3] * 127 + k[2] + k[3]), 969);
  // Dynamic slice, R 64, S 4.
  k = list("dynamic_slice_1d");
  EXPECT_EQ(k[0] + 6 * (k[1] + 4 * (k[2] + k[3] * (11 / 2))), 1075);
  EXPECT_EQ(k[0] + 6 * (k[1] + 4 * (k[2] + k[3] * (11 / 4))), 931);
  // Update-add, E 64, M 96, 16 per worker.
  k = list("multi_update_add_f32");
  EXPECT_EQ(6 * (k[0] + 16 * (k[1] + k[2] * 63) + k[3] * 80), 21828);
  k = list("multi_update_add_f16");
  EXPECT_EQ(6 * (k[0] + 16 * (k[1] + k[2] * 31) + k[3] * 80), 12798);
  // Reduction of partials, O 96, D 4: contiguous, interleaved, f16; separate.
  k = list("reduce_partials");
  EXPECT_EQ(k[0] + 6 * (k[1] + 4 * (k[2] * 4 + k[4])), 537);
  EXPECT_EQ(k[0] + 6 * (k[1] + 4 * (k[3] * 4 + k[4])), 441);
  EXPECT_EQ(k[0] + 6 * (k[1] + 2 * (k[2] * 4 + k[7])), 357);
  k = list("reduce_partials_separate");
  EXPECT_EQ(6 * (k[0] + 4 * (k[1] * 4 + k[2])), 648);
  EXPECT_EQ(6 * (k[0] + 2 * (k[1] * 4 + k[5])), 432);
  // Max pool, f16, 16 channels (C = 4), 7 outputs per worker, 1 and 4 taps.
  k = list("pool");
  List taps = list("pool_step");
  double item = k[5] + k[6] + k[7] + 4 * (k[8] + taps[0] + taps[1] * 7);
  EXPECT_EQ(k[0] + 6 * (k[1] + k[4] + 28 + item + k[11]), 1363);
  EXPECT_EQ(k[0] + 6 * (k[1] + k[4] + 28 + 4 * item + k[11]), 4099);
  EXPECT_EQ(list("dropout")[0] + list("dropout")[1] * 96 / 2, 247);
  EXPECT_EQ(list("dropout")[0] + list("dropout")[1] * 96 / 4, 199);
  EXPECT_EQ(list("normal_f32")[0] + list("normal_f32")[1] * 96 / 2, 330);
  EXPECT_EQ(list("normal_f16")[0] + list("normal_f16")[1] * 96 / 4, 247);
}

// The nx1 convolution, f16, 14 x 14 outputs, 3 x 3, one group: workers have two whole rows and one of 5.
TEST(Figures, graphcoreConvolutionVertex) {
  Vertices v;
  auto k = [&](llvm::StringRef key, size_t i) { return v.k(("cycles." + key).str(), i); };
  auto row = [&](int64_t n) {
    return k("amp_nx1_worker", 2) + k("amp_nx1_f16", 3) + k("amp_nx1_f16", 4) * (n - 3) - k("amp_nx1_worker", 3);
  };
  int64_t worker = k("amp_nx1_worker", 0) + k("amp_nx1_worker", 1) + 2 * row(14) + row(5);
  int64_t inner =
      3 * (k("amp_nx1_inner", 0) + 3 * (k("amp_nx1_inner", 1) + 64 + k("amp_nx1_inner", 3) + k("amp_nx1_inner", 2))) +
      9 * 6 * worker;
  int64_t outputs = 14 * 14 * 16;
  int64_t zeroing = 6 * (ceilDivide(outputs / 6, 4) + k("zero_partials", 0));
  int64_t total = k("amp_nx1", 0) + k("amp_nx1", 1) + 6 * k("amp_nx1", 3) + k("amp_nx1", 4) + k("amp_nx1", 6) +
                  k("amp_nx1", 8) + k("amp_nx1", 9) + k("amp_nx1", 10) + k("amp_nx1", 11) + inner + zeroing;
  EXPECT_EQ(total, 12682);
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
