// The importer on small models written as text; expected values are worked out in the comments. The operators as such
// are held to ONNX's own test data by the conformance suite.
#include "TextModel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <google/protobuf/text_format.h>

namespace quadrille::graph {
namespace {

//===--------------------------------------------------------------------------------------------------------------===//
// Operator set versions
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Opset, BroadcastCountsFromTheEndSince7) {
  EXPECT_THAT(run(7, "g (float[2,3] x, float[3] y) => (float[2,3] z) { z = Add(x, y) }",
                  {floats({2, 3}, {0, 1, 2, 3, 4, 5}), floats({3}, {10, 20, 30})}),
              ElementsAre(10, 21, 32, 13, 24, 35));
}

TEST(Opset, BroadcastCountsFromAxisBefore7) {
  EXPECT_THAT(run(6, "g (float[2,3] x, float[2] y) => (float[2,3] z) { z = Add<broadcast = 1, axis = 0>(x, y) }",
                  {floats({2, 3}, {0, 1, 2, 3, 4, 5}), floats({2}, {10, 20})}),
              ElementsAre(10, 11, 12, 23, 24, 25));
  EXPECT_THAT(errorOf(6, "g (float[2,3] x, float[3] y) => (float[2,3] z) { z = Add(x, y) }"),
              HasSubstr("'broadcast' is not set"));
}

TEST(Opset, SoftmaxFlattensBefore13) {
  Tensor zeros = floats({1, 2, 2}, {0, 0, 0, 0});
  EXPECT_THAT(run(11, "g (float[1,2,2] x) => (float[1,2,2] y) { y = Softmax<axis = 1>(x) }", {zeros}),
              ElementsAre(0.25, 0.25, 0.25, 0.25));
  EXPECT_THAT(run(13, "g (float[1,2,2] x) => (float[1,2,2] y) { y = Softmax<axis = 1>(x) }", {zeros}),
              ElementsAre(0.5, 0.5, 0.5, 0.5));
}

TEST(Opset, ClipTakesBoundsFromAttributesOrOperands) {
  Tensor x = floats({3}, {-2, 0.5, 3});
  EXPECT_THAT(run(6, "g (float[3] x) => (float[3] y) { y = Clip<min = -1.0, max = 1.0>(x) }", {x}),
              ElementsAre(-1, 0.5, 1));
  EXPECT_THAT(run(13, "g (float[3] x) => (float[3] y) { h = Constant<value_float = 1.0>()  y = Clip(x, , h) }", {x}),
              ElementsAre(-2, 0.5, 1));
  EXPECT_THAT(errorOf(13, "g (float[3] x) => (float[3] y) { y = Clip<min = -1.0>(x) }"),
              HasSubstr("attribute 'min' is not known in operator set 13"));
}

TEST(Opset, SliceTakesRangesFromAttributesOrOperands) {
  Tensor x = floats({4}, {0, 1, 2, 3});
  EXPECT_THAT(run(1, "g (float[4] x) => (float[2] y) { y = Slice<starts = [1], ends = [3]>(x) }", {x}),
              ElementsAre(1, 2));
  EXPECT_THAT(run(13,
                  "g (float[4] x) => (float[4] y) { s = Constant<value_ints = [-1]>() "
                  "e = Constant<value_ints = [-9]>() a = Constant<value_ints = [0]>() y = Slice(x, s, e, a, s) }",
                  {x}),
              ElementsAre(3, 2, 1, 0));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Shapes
//===--------------------------------------------------------------------------------------------------------------===//

const char *dynamicReshape = "g (float[N,2,3] x) => (float[N,6] y) {"
                             "  s = Shape(x)  zero = Constant<value_int = 0>()  n = Gather<axis = 0>(s, zero)"
                             "  axes = Constant<value_ints = [0]>()  front = Unsqueeze(n, axes)"
                             "  rest = Constant<value_ints = [-1]>()  shape = Concat<axis = 0>(front, rest)"
                             "  y = Reshape(x, shape) }";

TEST(Shapes, ArithmeticIsFolded) {
  ImportOptions options = withHost();
  options.batch = 4;
  llvm::Expected<KernelGraph> graph = import(13, dynamicReshape, options);
  ASSERT_TRUE(bool(graph)) << report(graph.takeError()).message;
  ASSERT_EQ(graph->kernels.size(), 1u); // the reshape alone is left
  EXPECT_EQ(graph->values[graph->outputs[0]].shape, (Shape{4, 6}));
}

TEST(Shapes, WithoutValueNameTheOption) {
  EXPECT_EQ(errorOf(13, dynamicReshape), "test.onnx: input 'x': dimension 0 of [N,2,3] has no value; give it one with "
                                         "--shape N=1 or --batch 1");
}

TEST(Shapes, OfExampleInputsGiveSymbolsTheirValues) {
  ImportOptions options = withHost();
  options.inputShapes["x"] = {5, 2, 3};
  llvm::Expected<KernelGraph> graph = import(13, dynamicReshape, options);
  ASSERT_TRUE(bool(graph)) << report(graph.takeError()).message;
  EXPECT_EQ(graph->values[graph->outputs[0]].shape, (Shape{5, 6}));
  options.inputShapes["x"] = {5, 2, 4};
  EXPECT_THAT(errorOf(13, dynamicReshape, options), HasSubstr("dimension 2 is 3 in the model, but 4 is given"));
}

TEST(Shapes, UnknownNamesAreRefused) {
  ImportOptions options = withHost();
  options.dimensions["M"] = 3;
  EXPECT_THAT(errorOf(13, dynamicReshape, options),
              HasSubstr("no input has a symbolic dimension 'M'; its symbolic dimensions are N"));
}

TEST(Shapes, ThatDependOnInputsAreRefusedWithTheRemedy) {
  EXPECT_EQ(errorOf(13, "g (float[6] x, int64[2] s) => (float[2,3] y) { y = Reshape(x, s) }"),
            "test.onnx: Reshape \"Reshape_0\": shape (operand 1, 's') must be known at import, but it depends on the "
            "values of the model's inputs; bind the input that it comes from with --bind NAME=VALUE");
  ImportOptions options = withHost();
  options.bindings["s"] = Tensor::of<int64_t>(ElementType::i64, {2}, {2, 3});
  EXPECT_EQ(errorOf(13, "g (float[6] x, int64[2] s) => (float[2,3] y) { y = Reshape(x, s) }", options), "no error");
}

TEST(Shapes, ThatContradictAreRefused) {
  EXPECT_EQ(errorOf(13, "g (float[2,3] x, float[4] y) => (float[2,3] z) { z = Add(x, y) }"),
            "test.onnx: Add \"Add_0\": shapes [2,3] and [4] do not broadcast");
  EXPECT_THAT(errorOf(13, "g (float[2,3] x, float[4,5] y) => (float[2,5] z) { z = MatMul(x, y) }"),
              HasSubstr("3 columns meet 4 rows"));
}

TEST(Shapes, TooLargeAreRefused) {
  EXPECT_THAT(errorOf(13, "g (float[9000000000,9000000000] x) => (float[1] y) { y = Relu(x) }"),
              HasSubstr("is too large"));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Batch
//===--------------------------------------------------------------------------------------------------------------===//

// What the kernel graph's verification would refuse is the model's fault and names the node.
TEST(Limits, OfTheKernelGraphAreTheModelsFault) {
  EXPECT_THAT(errorOf(17, R"(g (float[0,2199023255552] x) => (float[0,2199023255552] y) { y = Relu(x) })"),
              HasSubstr("input 'x': a tensor of shape [0,2199023255552] is too large"));
  EXPECT_THAT(errorOf(17, R"(g (float[1,1,8388608] x) => (float[1,1,4] y) <float[1,1,1] w = {1}>
                            { y = Conv<strides = [2097152]>(x, w) })"),
              HasSubstr("strides over 2^20"));
  EXPECT_THAT(errorOf(17, R"(g (float[8388608] x) => (float[4] y)
                            <int64[1] start = {0}, int64[1] end = {8388608}, int64[1] axis = {0}, int64[1] step = {2097152}>
                            { y = Slice(x, start, end, axis, step) })"),
              HasSubstr("a step of 2097152 elements"));
}

// A weight whose data nobody has can claim any size; what is too large is refused wherever the weight is used.
TEST(Limits, OfWeightsNameTheWeight) {
  for (const char *uses :
       {"node { op_type: 'Relu' input: 'w' output: 'y' } output { name: 'y' }", "output { name: 'w' }",
        "node { op_type: 'Add' input: 'x' input: 'w' output: 'y' } "
        "output { name: 'y' }"}) {
    std::string text =
        "ir_version: 8 opset_import { version: 17 } graph { input { name: 'x' type { tensor_type { elem_type: 1 shape "
        "{} "
        "} } } initializer { name: 'w' data_type: 1 dims: 2199023255552 data_location: EXTERNAL external_data { key: "
        "'location' value: 'absent.bin' } } ";
    onnx::ModelProto model;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text + uses + " }", &model));
    llvm::Expected<ImportedModel> imported = importModel(*fileOf(model), withHost());
    ASSERT_FALSE(static_cast<bool>(imported));
    EXPECT_EQ(report(imported.takeError()).message,
              "test.onnx: weight 'w': a tensor of shape [2199023255552] is too large");
  }
}

// 65536 elements under a window of 32768 are 2^30 steps: left to the target.
TEST(Limits, LargeWorkIsNotFolded) {
  auto graph = import(17, R"(g () => (float[1,1,32769] y)
      <int64 zero = {0}, int64 count = {65536}, int64 one = {1}, int64[3] shape = {1, 1, 65536}> {
        numbers = Range(zero, count, one)
        single = Cast<to = 1>(numbers)
        image = Reshape(single, shape)
        y = MaxPool<kernel_shape = [32768]>(image)
      })");
  ASSERT_TRUE(static_cast<bool>(graph)) << report(graph.takeError()).message;
  ASSERT_EQ(graph->kernels.size(), 1u);
  EXPECT_EQ(graph->kernels[0].kind, KernelKind::Window);
}

TEST(Batch, FixedByTheInputIsRefused) {
  ImportOptions options = withHost();
  options.batch = 4;
  EXPECT_THAT(errorOf(13, "g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }", options),
              HasSubstr("input 'x': the model's batch is fixed: the input has the static shape [1,3]"));
}

TEST(Batch, FixedByAReshapeIsRefusedWithTheNode) {
  const char *model = "g (float[N,2,3] x) => (float[1,M] y) { r = Relu(x)  s = Constant<value_ints = [1, -1]>() "
                      "y = Reshape(r, s) }";
  ImportOptions options = withHost();
  options.batch = 4;
  EXPECT_THAT(errorOf(13, model, options),
              HasSubstr("Reshape \"Reshape_2\": the model's batch is fixed here: the shape [1,-1] begins with 1"));
  options.batch = 1;
  EXPECT_EQ(errorOf(13, model, options), "no error");
}

//===--------------------------------------------------------------------------------------------------------------===//
// Refusals
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Unsupported, NodesAreListedTogether) {
  const char *model = "g (float[2] x) => (float[2] z) { a = Frobnicate(x)  b = Relu(a)  z = Sqrt<mood = 3>(x) }";
  EXPECT_EQ(errorOf(13, model), "test.onnx: 2 nodes are not supported\n"
                                "  Frobnicate \"Frobnicate_0\": the operator is not known\n"
                                "  Sqrt \"Sqrt_2\": attribute 'mood' is not known in operator set 13");
}

TEST(Types, WithoutMeaningAreRefused) {
  EXPECT_EQ(errorOf(13, "g (int8[1,1,4,4] x, int8[1,1,3,3] w) => (int8[1,1,2,2] y) { y = Conv(x, w) }"),
            "test.onnx: Conv \"Conv_0\": Conv is not defined for elements of type i8");
  EXPECT_THAT(errorOf(13, "g (float[2] x, double[2] y) => (float[2] z) { z = Add(x, y) }"),
              HasSubstr("operands have different element types: f32 and f64"));
}

//===--------------------------------------------------------------------------------------------------------------===//
// What operators become
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Contraction, OfHalvesAccumulatesInSingle) {
  llvm::Expected<KernelGraph> graph =
      import(13, "g (float16[2,3] x, float16[3,4] y) => (float16[2,4] z) { z = MatMul(x, y) }");
  ASSERT_TRUE(bool(graph)) << report(graph.takeError()).message;
  ASSERT_EQ(graph->kernels.size(), 1u);
  EXPECT_EQ(graph->kernels[0].kind, KernelKind::Contract);
  EXPECT_EQ(graph->kernels[0].numeric.storage, ElementType::f16);
  EXPECT_EQ(graph->kernels[0].numeric.accumulate, ElementType::f32);
  EXPECT_EQ(graph->nodes[graph->kernels[0].nodes[0]].name, "MatMul_0");
}

TEST(Convolution, IsOneKernelWithPaddingAndBias) {
  llvm::Expected<KernelGraph> graph =
      import(13, "g (float[1,4,8,8] x, float[4,1,3,3] w, float[4] b) => (float[1,4,8,8] y) {"
                 "  y = Conv<group = 4, pads = [1,1,1,1]>(x, w, b) }");
  ASSERT_TRUE(bool(graph)) << report(graph.takeError()).message;
  ASSERT_EQ(graph->kernels.size(), 1u) << graph->print();
  const Kernel &kernel = graph->kernels[0];
  EXPECT_EQ(kernel.kind, KernelKind::Contract);
  EXPECT_EQ(kernel.loops.size(), 6u); // n, channel, 2 positions, 2 taps
  EXPECT_TRUE(kernel.reads[0].padding);
  EXPECT_TRUE(kernel.writes[0].initial);
}

TEST(Weights, AreTheFilesOwnBytes) {
  llvm::Expected<std::unique_ptr<const ModelFile>> file =
      ModelFile::open(QUADRILLE_SOURCE_DIR "/models/super_resolution_10/model.onnx");
  ASSERT_TRUE(bool(file)) << report(file.takeError()).message;
  ImportOptions options = withHost();
  options.batch = 1;
  llvm::Expected<ImportedModel> model = importModel(**file, options);
  ASSERT_TRUE(bool(model)) << report(model.takeError()).message;
  llvm::Expected<KernelGraph> graph = extractKernels(model->function());
  ASSERT_TRUE(bool(graph)) << report(graph.takeError()).message;
  int found = 0;
  for (const auto &weight : (*file)->model().graph().initializer()) {
    llvm::Expected<WeightData> data = (*file)->weight(weight);
    ASSERT_TRUE(bool(data)) << report(data.takeError()).message;
    for (const Value &value : graph->values)
      if (value.name == weight.name() && value.role == ValueRole::Constant) {
        EXPECT_EQ(value.data.bytes().data(), data->data.bytes().data());
        ASSERT_TRUE(value.origin);
        EXPECT_EQ(value.origin->offset, data->origin->offset);
        ++found;
      }
  }
  EXPECT_EQ(found, 8); // 4 convolutions with weight and bias
}

TEST(RealModels, GiveOnnxsResults) {
  for (const char *name : {"mnist_8", "super_resolution_10"}) {
    std::string folder = std::string(QUADRILLE_SOURCE_DIR "/models/") + name;
    ImportOptions options = withHost();
    options.batch = 1;
    llvm::Expected<KernelGraph> graph = loadModel(folder + "/model.onnx", options);
    ASSERT_TRUE(bool(graph)) << report(graph.takeError()).message;
    llvm::Expected<NamedTensor> input = readTensorFile(folder + "/test_data_set_0/input_0.pb");
    llvm::Expected<NamedTensor> expected = readTensorFile(folder + "/test_data_set_0/output_0.pb");
    ASSERT_TRUE(input && expected);
    llvm::Expected<std::vector<Tensor>> results = host::evaluate(*graph, {input->tensor});
    ASSERT_TRUE(bool(results)) << report(results.takeError()).message;
    ASSERT_EQ((*results)[0].shape(), expected->tensor.shape());
    std::vector<float> wanted(expected->tensor.elements());
    std::memcpy(wanted.data(), expected->tensor.bytes().data(), expected->tensor.byteSize());
    for (size_t i = 0; i < wanted.size(); ++i)
      ASSERT_NEAR((*results)[0].data<float>()[i], wanted[i], 1e-5 + 1e-3 * std::fabs(wanted[i])) << name << " " << i;
  }
}

TEST(RealModels, WithoutWeightsImport) {
  for (const char *name : {"resnet18", "mobilenetv2", "attention_head", "swiglu_256_4096_14336"}) {
    llvm::Expected<KernelGraph> graph =
        loadModel(std::string(QUADRILLE_SOURCE_DIR "/models/shape_only/") + name + ".onnx", withHost());
    EXPECT_TRUE(bool(graph)) << report(graph.takeError()).message;
  }
}

// W = R = 0, so that the gates are constant: i = o = f = sigmoid(0) = 0.5 and the candidate is tanh(1) = 0.7615942.
//   C1 = 0.5 * 0.7615942 = 0.3807971            H1 = 0.5 * tanh(C1) = 0.1816997
//   C2 = 0.5 * C1 + C1   = 0.5711956            H2 = 0.5 * tanh(C2) = 0.2581184
const char *lstm = "g (float[2,2,1] x, int32[2] lengths) => (float[2,1,2,1] y, float[1,2,1] h, float[1,2,1] c) {"
                   "  w = Constant<value = float[1,4,1] {0, 0, 0, 0}>()"
                   "  b = Constant<value = float[1,8] {0, 0, 0, 1, 0, 0, 0, 0}>()"
                   "  y, h, c = LSTM<hidden_size = 1>(x, w, w, b, lengths) }";

TEST(Recurrent, LstmStopsAtEachSequencesLength) {
  std::vector<Tensor> inputs = {floats({2, 2, 1}, {1, 2, 3, 4}), Tensor::of<int32_t>(ElementType::i32, {2}, {2, 1})};
  auto near = [](float value) { return testing::FloatNear(value, 1e-6f); };
  EXPECT_THAT(run(14, lstm, inputs), ElementsAre(near(0.1816997f), near(0.1816997f), near(0.2581184f), 0));
  EXPECT_THAT(run(14, lstm, inputs, withHost(), 1), ElementsAre(near(0.2581184f), near(0.1816997f)));
  EXPECT_THAT(run(14, lstm, inputs, withHost(), 2), ElementsAre(near(0.5711956f), near(0.3807971f)));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Sequences
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Sequences, DisappearAtImport) {
  // What PyTorch's exporter writes for torch.split: parts of 2 along axis 1, of which the last has one column.
  Tensor x = floats({2, 5}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  const char *parts =
      "g (float[2,5] x) => (float[2,1] y) { two = Constant<value_int = 2>()"
      "  s = SplitToSequence<axis = 1>(x, two)  at = Constant<value_int = 2>()  y = SequenceAt(s, at) }";
  EXPECT_THAT(run(18, parts, {x}), ElementsAre(4, 9));
  // [a, b] -> insert c in front -> erase the last -> [c, a], stacked along a new axis
  EXPECT_THAT(run(18,
                  "g (float[2] a, float[2] b, float[2] c) => (float[2,2] y) { s = SequenceConstruct(a, b)"
                  "  zero = Constant<value_int = 0>()  t = SequenceInsert(s, c, zero)  u = SequenceErase(t)"
                  "  y = ConcatFromSequence<axis = 1, new_axis = 1>(u) }",
                  {floats({2}, {1, 2}), floats({2}, {3, 4}), floats({2}, {5, 6})}),
              ElementsAre(5, 1, 6, 2));
  EXPECT_THAT(run<int64_t>(18,
                           "g (float[3,2] x) => (int64 y) { s = SplitToSequence<axis = 0, keepdims = 0>(x)"
                           "  y = SequenceLength(s) }",
                           {floats({3, 2}, {0, 0, 0, 0, 0, 0})}),
              ElementsAre(3));
}

TEST(Sequences, PositionsMustBeKnownAndInside) {
  EXPECT_THAT(errorOf(18, "g (float[2] a) => (float[2] y) { s = SequenceConstruct(a, a)"
                          "  at = Constant<value_int = 2>()  y = SequenceAt(s, at) }"),
              HasSubstr("position 2 in a sequence of 2"));
  EXPECT_THAT(errorOf(18, "g (float[2] a, int64 at) => (float[2] y) { s = SequenceConstruct(a, a)"
                          "  y = SequenceAt(s, at) }"),
              HasSubstr("must be known at import"));
}

//===--------------------------------------------------------------------------------------------------------------===//
// Local functions and versions of the file format
//===--------------------------------------------------------------------------------------------------------------===//

// f(a) = leaky(a) + 1, leaky with the slope of the call; called twice, one call inside another function: x = -4 gives
// leaky(-4, 0.5) + 1 = -1, then leaky(-1, 0.25) + 1 = 0.75; x = 2 gives 3, then 4.
TEST(Functions, BodiesTakeTheCallsAttributesAndOperands) {
  const char *text = "<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1]>"
                     "g (float[2] x) => (float[2] y) { h = local.outer(x)  y = local.f<slope = 0.25>(h) }"
                     "<domain: \"local\", opset_import: [\"\" : 17, \"local\" : 1]>"
                     "outer (a) => (b) { b = local.f<slope = 0.5>(a) }"
                     "<domain: \"local\", opset_import: [\"\" : 17]>"
                     "f <slope> (a) => (b) { one = Constant<value_float = 1.0>()"
                     "  l = LeakyRelu<alpha: float = @slope>(a)  b = Add(l, one) }";
  EXPECT_THAT(run(*parse(text), {floats({2}, {-4, 2})}), ElementsAre(0.75, 4));
}

class FormatVersions : public testing::TestWithParam<int> {};

// The same graph in every version of the format that is read.
TEST_P(FormatVersions, GiveTheSameValues) {
  std::string text = "<ir_version: " + std::to_string(GetParam()) +
                     ", opset_import: [\"\" : 13]>"
                     "g (float[3] x) => (float[3] y) <float two = {2}> { m = Mul(x, two)  y = Relu(m) }";
  EXPECT_THAT(run(*parse(text), {floats({3}, {-1, 0.5, 3})}), ElementsAre(0, 1, 6));
}
INSTANTIATE_TEST_SUITE_P(All, FormatVersions, testing::Range(3, 14));

} // namespace
} // namespace quadrille::graph
