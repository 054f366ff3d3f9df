#include "target/Stages.h"

#include "base/Error.h"
#include "target/Replicas.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quadrille::target {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Kernels that read and write values by number, and the nodes behind each by name.
struct Model {
  graph::KernelGraph graph;
  StageCuts cuts;

  // The model's file has the nodes in this order.
  explicit Model(std::vector<std::string> names) {
    for (std::string &name : names)
      cuts.order.push_back({{name, "Relu"}, false});
    graph.values.resize(10);
  }
  Model &kernel(const std::vector<std::string> &nodes, const std::vector<graph::ValueId> &reads, graph::ValueId write) {
    graph::Kernel kernel;
    kernel.operation = "map";
    for (const std::string &name : nodes) {
      kernel.nodes.push_back(static_cast<uint32_t>(graph.nodes.size()));
      graph.nodes.push_back({name, "Relu"});
    }
    for (graph::ValueId read : reads)
      kernel.reads.push_back({read, {}, std::nullopt});
    kernel.writes.push_back({write, {}, graph::Combiner::None, std::nullopt, std::nullopt});
    graph.kernels.push_back(std::move(kernel));
    return *this;
  }
  // What each stage writes, or the message.
  std::string stages(std::vector<std::string> begins) {
    cuts.begins = std::move(begins);
    graph::KernelGraph arranged = graph;
    auto bounds = arrangeStages(arranged, cuts);
    if (!bounds) {
      Reported reported = report(bounds.takeError());
      EXPECT_EQ(reported.exitCode, static_cast<int>(Fault::User));
      return reported.message;
    }
    EXPECT_EQ(bounds->front(), 0u);
    EXPECT_EQ(bounds->back(), graph.kernels.size());
    std::string text;
    for (size_t stage = 0; stage + 1 < bounds->size(); ++stage) {
      text += stage ? " |" : "";
      for (size_t kernel = (*bounds)[stage]; kernel < (*bounds)[stage + 1]; ++kernel)
        text += " " + std::to_string(arranged.kernels[kernel].writes[0].value);
    }
    return text;
  }
};

std::vector<graph::FileNode> nodes(std::vector<std::string> names) {
  std::vector<graph::FileNode> order;
  for (std::string &name : names)
    order.push_back({{name, "Relu"}, false});
  return order;
}

std::string problemOf(const std::vector<std::string> &texts, const std::vector<graph::FileNode> &order) {
  auto names = stageNodes(texts, order);
  EXPECT_FALSE(bool(names));
  Reported reported = report(names.takeError());
  EXPECT_EQ(reported.exitCode, static_cast<int>(Fault::User));
  return reported.message;
}

TEST(StageNodes, TextsAreNamesOrSeveralWithCommas) {
  auto order = nodes({"a", "b", "c,d", "e"});
  EXPECT_THAT(llvm::cantFail(stageNodes({"b,e"}, order)), ElementsAre("b", "e"));
  EXPECT_THAT(llvm::cantFail(stageNodes({"b", "c,d", "e"}, order)), ElementsAre("b", "c,d", "e"));
}

TEST(StageNodes, WhatIsWrongIsNamed) {
  auto order = nodes({"first_gemm", "second_gemm", "relu", "relu"});
  EXPECT_EQ(problemOf({"second_gem"}, order),
            "--stages-at: the model has no node 'second_gem'; did you mean 'second_gemm'?");
  EXPECT_THAT(problemOf({"nothing_like_it"}, order), HasSubstr("no node 'nothing_like_it'; `quadrille inspect"));
  EXPECT_THAT(problemOf({"relu"}, order), HasSubstr("relu: --stages-at: 2 nodes have this name"));
  EXPECT_EQ(problemOf({"second_gemm,first_gemm"}, order),
            "first_gemm: --stages-at: it stands before 'second_gemm' in the model; name the nodes in the order of the "
            "model");
  EXPECT_THAT(problemOf({"second_gemm", "second_gemm"}, order), HasSubstr("named twice"));
  EXPECT_THAT(problemOf({"first_gemm,"}, order), HasSubstr("no node ''"));
}

TEST(ArrangeStages, AKernelIsWhereItsFirstNodeIs) {
  Model model({"a", "b", "c", "d", "e"});
  model.kernel({"a"}, {0}, 1).kernel({"b", "d"}, {1}, 2).kernel({"c"}, {1}, 3).kernel({"e"}, {2, 3}, 4);
  EXPECT_EQ(model.stages({"c"}), " 1 2 | 3 4");
  EXPECT_EQ(model.stages({"b", "e"}), " 1 | 2 3 | 4");
  EXPECT_EQ(model.stages({"b", "c", "e"}), " 1 | 2 | 3 | 4");
}

// The order is the file's, not that in which a target has put its kernels.
TEST(ArrangeStages, KernelsAreSortedByTheFile) {
  Model model({"a", "b", "c"});
  model.kernel({"c"}, {0}, 3).kernel({"a"}, {0}, 1).kernel({"b"}, {1}, 2);
  EXPECT_EQ(model.stages({"b"}), " 1 | 3 2");
  EXPECT_EQ(model.stages({"c"}), " 1 2 | 3");
}

TEST(ArrangeStages, WhatHasNoNodeIsWithItsOperands) {
  Model model({"a", "b", "c"});
  model.kernel({"a"}, {0}, 1).kernel({}, {1}, 2).kernel({"b"}, {2}, 3).kernel({}, {3}, 4).kernel({"c"}, {4}, 5);
  EXPECT_EQ(model.stages({"b"}), " 1 2 | 3 4 5");
}

TEST(ArrangeStages, NoStageBeginsWithinAKernel) {
  Model model({"a", "b", "c", "folded", "d"});
  model.kernel({"a"}, {0}, 1).kernel({"b", "c"}, {1}, 2).kernel({"d"}, {2}, 3);
  EXPECT_EQ(model.stages({"c"}),
            "c: --stages-at: no stage can begin here: it is within a kernel that begins with 'b'; the nearest nodes at "
            "which it can be cut: 'b', 'd'");
  EXPECT_THAT(model.stages({"folded"}), HasSubstr("no kernel of the machine is made of it"));
  EXPECT_THAT(model.stages({"a"}), HasSubstr("a: --stages-at: no stage can begin here: nothing that the machine "
                                             "executes stands before it"));
}

// As exporters of quantised models write them: what prepares weights comes first.
TEST(ArrangeStages, NodesOfWeightsAreWhereTheyAreNeeded) {
  Model model({"dequantize_v", "dequantize_w", "a", "b"});
  model.kernel({"dequantize_v", "a"}, {0}, 1).kernel({"dequantize_w", "b"}, {1}, 2);
  EXPECT_THAT(model.stages({"b"}), HasSubstr("it is within a kernel that begins with 'dequantize_w'"));
  model.cuts.order[0].constant = model.cuts.order[1].constant = true;
  EXPECT_EQ(model.stages({"b"}), " 1 | 2");
  EXPECT_THAT(model.stages({"dequantize_w"}), HasSubstr("it is within a kernel that begins with 'b'"));
}

// The nodes of a local function stand behind its call and have its name before theirs.
TEST(ArrangeStages, ACallBeginsWithItsFunction) {
  Model model({"a", "call", "call/folded", "call/b", "call/c", "empty", "d"});
  model.kernel({"a"}, {0}, 1).kernel({"call/b"}, {1}, 2).kernel({"call/c"}, {2}, 3).kernel({"d"}, {3}, 4);
  EXPECT_EQ(model.stages({"call"}), " 1 | 2 3 4");
  EXPECT_EQ(model.stages({"call/c"}), " 1 2 | 3 4");
  EXPECT_THAT(model.stages({"empty"}), HasSubstr("no kernel of the machine is made of it"));
}

// A kernel fused from nodes on both sides needs what comes after the cut.
TEST(ArrangeStages, NothingFlowsBack) {
  Model model({"a", "b", "c", "d"});
  model.kernel({"a"}, {0}, 1).kernel({"c"}, {1}, 2).kernel({"b", "d"}, {1, 2}, 3);
  EXPECT_EQ(model.stages({"c"}),
            "c: --stages-at: no stage can begin here: 'b', which stands before it, needs what 'c' makes; the nearest "
            "nodes at which it can be cut: 'b'");
  EXPECT_EQ(model.stages({"b"}), " 1 | 2 3");
}

// Of two nodes with one name it is not known which one a kernel is of.
TEST(ArrangeStages, EqualNamesMatterWhereTheStagesDiffer) {
  Model model({"a", "twin", "b", "twin"});
  model.kernel({"a"}, {0}, 1).kernel({"twin"}, {1}, 2).kernel({"b"}, {2}, 3).kernel({"twin"}, {3}, 4);
  EXPECT_THAT(model.stages({"b"}), HasSubstr("twin: --stages-at: 2 nodes have this name, and they would be of "
                                             "different stages"));
}

TEST(ChipsForStages, AreTheFewestThatAProgramMayHave) {
  EXPECT_EQ(llvm::cantFail(chipsForStages(3, {1, 2, 4, 8}, "m")), 4);
  EXPECT_EQ(llvm::cantFail(chipsForStages(2, {1, 2, 4, 8}, "m")), 2);
  auto tooMany = chipsForStages(9, {1, 2, 4, 8}, "m");
  EXPECT_EQ(
      report(tooMany.takeError()).message,
      "--stages-at makes 9 stages, each on a chip of its own; a program for m has 8 at the most; name fewer nodes, or "
      "take a larger machine");
}

TEST(Replicas, TakeChipsOfTheirOwn) {
  program::Program program;
  program.chips = 4;
  program.replicas = 4;
  EXPECT_EQ(replicasProblem(program, 16), "");
  EXPECT_EQ(replicasProblem(program, 15), "4 replicas of 4 chips on a machine of 15");
  // Hosts with 4, 8 and 16 chips; the replicas fill one after the other.
  EXPECT_EQ(replicasOfHost(program, 4), 1);
  EXPECT_EQ(replicasOfHost(program, 8), 2);
  EXPECT_EQ(replicasOfHost(program, 64), 4);
  program.chips = 8; // of several hosts
  EXPECT_EQ(replicasOfHost(program, 4), 1);
}

} // namespace
} // namespace quadrille::target
