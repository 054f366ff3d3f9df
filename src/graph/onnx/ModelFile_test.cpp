// The real models of models/: facts counted by ONNX's own Python package, and weights compared with what it reads.
#include "graph/onnx/ModelFile.h"

#include "base/Error.h"
#include "base/File.h"
#include "graph/onnx/FunctionTable.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/CRC.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quadrille::graph {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string modelPath(const std::string &name) {
  return QUADRILLE_SOURCE_DIR "/models/" + name;
}

std::unique_ptr<const ModelFile> openModel(const std::string &name) {
  llvm::Expected<std::unique_ptr<const ModelFile>> file = ModelFile::open(modelPath(name));
  if (file)
    return std::move(*file);
  ADD_FAILURE() << report(file.takeError()).message;
  return nullptr;
}

std::string portText(const ModelSummary::Port &port) {
  std::string text = port.name + " " + nameOf(port.type).str();
  for (const std::string &extent : port.shape)
    text += " " + extent;
  return text;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Facts
//===--------------------------------------------------------------------------------------------------------------===//

struct Facts {
  const char *file;
  int64_t irVersion, opset, parameters;
  size_t absent;
  std::map<std::string, int64_t> operators;
};

class RealModel : public testing::TestWithParam<Facts> {};

TEST_P(RealModel, HasTheFactsCountedByOnnx) {
  const Facts &facts = GetParam();
  auto file = openModel(facts.file);
  ASSERT_TRUE(file);
  llvm::Expected<ModelSummary> summary = summarize(*file);
  ASSERT_TRUE(bool(summary)) << report(summary.takeError()).message;
  EXPECT_EQ(summary->irVersion, facts.irVersion);
  EXPECT_EQ(summary->opset, facts.opset);
  EXPECT_EQ(summary->parameters, facts.parameters);
  EXPECT_EQ(summary->absentWeights.size(), facts.absent);
  EXPECT_EQ(summary->operators, facts.operators);
  EXPECT_THAT(summary->unsupported, IsEmpty());
}

// models/README.md, and
//   python3 -c 'import onnx, collections; m = onnx.load(FILE, load_external_data=False)
//               collections.Counter(n.op_type for n in m.graph.node)'       (subgraphs likewise)
INSTANTIATE_TEST_SUITE_P(
    Models, RealModel,
    testing::Values(
        Facts{"mnist_8/model.onnx",
              3,
              8,
              5998,
              0,
              {{"Reshape", 2}, {"Conv", 2}, {"Add", 3}, {"Relu", 2}, {"MaxPool", 2}, {"MatMul", 1}}},
        Facts{
            "mnist_pytorch/pytorch.onnx", 6, 9, 55168, 0, {{"MatMul", 3}, {"Constant", 4}, {"BatchNormalization", 2}}},
        Facts{"mnist_quantized/model_quantized.onnx",
              3,
              10,
              6010,
              0,
              {{"Reshape", 2},
               {"QuantizeLinear", 4},
               {"ConvInteger", 2},
               {"Cast", 3},
               {"Mul", 6},
               {"Add", 3},
               {"Relu", 2},
               {"MaxPool", 2},
               {"MatMulInteger", 1}}},
        Facts{"shape_only/attention_head.onnx", 13, 13, 0, 0, {{"MatMul", 5}, {"Transpose", 1}, {"Softmax", 1}}},
        Facts{"shape_only/fsrcnn_int8.onnx", 7, 14, 15992, 0, {{"Conv", 8}}},
        Facts{"shape_only/mobilenetv2.onnx",
              7,
              14,
              3487816,
              76,
              {{"Conv", 52},
               {"Constant", 70},
               {"Clip", 35},
               {"Add", 10},
               {"GlobalAveragePool", 1},
               {"Flatten", 1},
               {"Gemm", 1}}},
        Facts{"shape_only/resnet18.onnx",
              7,
              14,
              11684712,
              32,
              {{"Conv", 20},
               {"Relu", 17},
               {"MaxPool", 1},
               {"Add", 8},
               {"GlobalAveragePool", 1},
               {"Flatten", 1},
               {"Gemm", 1}}},
        // The local function com.example::Silu is called once: Sigmoid and Mul in its place.
        Facts{"shape_only/swiglu_256_4096_14336.onnx", 13, 17, 176160768, 3, {{"Gemm", 3}, {"Sigmoid", 1}, {"Mul", 2}}},
        Facts{"silero_vad/silero_vad_16k_op15.onnx",
              8,
              15,
              309633,
              0,
              {{"Constant", 160}, {"Shape", 11},    {"Gather", 11},   {"Mul", 2},
               {"Sub", 1},        {"Cast", 12},     {"Concat", 13},   {"ConstantOfShape", 2},
               {"Reshape", 2},    {"Slice", 30},    {"Transpose", 1}, {"Pad", 1},
               {"Unsqueeze", 35}, {"Conv", 6},      {"Pow", 2},       {"Add", 2},
               {"Sqrt", 1},       {"Relu", 5},      {"Equal", 8},     {"If", 12},
               {"Squeeze", 11},   {"Identity", 14}, {"Size", 2},      {"Not", 2},
               {"LSTM", 2},       {"Sigmoid", 1},   {"ReduceMean", 1}}},
        Facts{"squeezenet_fp16/SqueezeNet_fp16.onnx",
              3,
              7,
              1235496,
              0,
              {{"Conv", 26},
               {"Relu", 26},
               {"MaxPool", 3},
               {"Concat", 8},
               {"Dropout", 1},
               {"GlobalAveragePool", 1},
               {"Softmax", 1}}},
        Facts{"super_resolution_10/model.onnx",
              4,
              10,
              59657,
              0,
              {{"Conv", 4}, {"Relu", 3}, {"Constant", 2}, {"Reshape", 2}, {"Transpose", 1}}},
        Facts{"ultraface/version-RFB-320_without_postprocessing.onnx",
              4,
              9,
              281135,
              0,
              {{"Conv", 52},
               {"BatchNormalization", 35},
               {"Relu", 37},
               {"Concat", 11},
               {"Add", 1},
               {"Transpose", 8},
               {"Constant", 24},
               {"Shape", 8},
               {"Gather", 8},
               {"Unsqueeze", 24},
               {"Reshape", 8},
               {"Softmax", 1}}}),
    [](const testing::TestParamInfo<Facts> &info) {
      std::string name = info.param.file;
      for (char &c : name)
        if (!isalnum(c))
          c = '_';
      return name;
    });

TEST(Summary, PortsNameSymbolicDimensionsAndLeaveInitializersOut) {
  auto file = openModel("silero_vad/silero_vad_16k_op15.onnx");
  ASSERT_TRUE(file);
  ModelSummary summary = llvm::cantFail(summarize(*file));
  std::vector<std::string> inputs;
  for (const ModelSummary::Port &port : summary.inputs)
    inputs.push_back(portText(port));
  EXPECT_THAT(inputs, ElementsAre("input f32 batch sequence", "state f32 2 batch 128", "sr i64"));
  EXPECT_EQ(summary.producer, "pytorch 2.3.1");

  file = openModel("mnist_8/model.onnx"); // IR version 3 lists its 8 initializers as inputs
  ASSERT_TRUE(file);
  EXPECT_EQ(file->model().graph().input_size(), 9);
  summary = llvm::cantFail(summarize(*file));
  ASSERT_EQ(summary.inputs.size(), 1u);
  EXPECT_EQ(portText(summary.inputs[0]), "Input3 f32 1 1 28 28");
  ASSERT_EQ(summary.outputs.size(), 1u);
  EXPECT_EQ(portText(summary.outputs[0]), "Plus214_Output_0 f32 1 10");
}

TEST(Summary, BytesFollowTheElementType) {
  // f16 takes 2 bytes, bf16 likewise.
  EXPECT_EQ(llvm::cantFail(summarize(*openModel("squeezenet_fp16/SqueezeNet_fp16.onnx"))).parameterBytes, 2u * 1235496);
  EXPECT_EQ(llvm::cantFail(summarize(*openModel("shape_only/swiglu_256_4096_14336.onnx"))).parameterBytes,
            2u * 176160768);
  EXPECT_EQ(llvm::cantFail(summarize(*openModel("shape_only/fsrcnn_int8.onnx"))).parameterBytes, 15992u);
}

//===--------------------------------------------------------------------------------------------------------------===//
// Weights
//===--------------------------------------------------------------------------------------------------------------===//

// Initializers of a graph, then of each node in order: attribute tensors and subgraphs.
void forEachTensor(const onnx::GraphProto &graph, llvm::function_ref<void(const onnx::TensorProto &)> visit) {
  for (const onnx::TensorProto &tensor : graph.initializer())
    visit(tensor);
  for (const onnx::NodeProto &node : graph.node())
    for (const onnx::AttributeProto &attribute : node.attribute()) {
      if (attribute.has_t())
        visit(attribute.t());
      if (attribute.has_g())
        forEachTensor(attribute.g(), visit);
      for (const onnx::GraphProto &subgraph : attribute.graphs())
        forEachTensor(subgraph, visit);
    }
}

uint32_t crc(uint32_t start, llvm::ArrayRef<std::byte> bytes) {
  return llvm::crc32(start, {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()});
}

struct Checksum {
  const char *file;
  unsigned tensors;
  uint32_t crc;
};

// The CRC-32 of all tensors' bytes in the order of forEachTensor, as computed by
//   for t in tensors(m.graph): crc = zlib.crc32(onnx.numpy_helper.to_array(t).tobytes(), crc)
TEST(Weights, EqualWhatOnnxReads) {
  for (const Checksum &expected :
       {Checksum{"mnist_8/model.onnx", 8, 0x4c9a2802}, Checksum{"mnist_quantized/model_quantized.onnx", 20, 0x901a7912},
        Checksum{"squeezenet_fp16/SqueezeNet_fp16.onnx", 52, 0xb5825b91},
        Checksum{"shape_only/fsrcnn_int8.onnx", 8, 0xb5be4166},
        Checksum{"silero_vad/silero_vad_16k_op15.onnx", 177, 0xe9cd406b},
        Checksum{"ultraface/version-RFB-320_without_postprocessing.onnx", 268, 0xf731fbee}}) {
    auto file = openModel(expected.file);
    ASSERT_TRUE(file);
    unsigned tensors = 0;
    uint32_t sum = 0;
    forEachTensor(file->model().graph(), [&](const onnx::TensorProto &tensor) {
      WeightData weight = llvm::cantFail(file->weight(tensor));
      ASSERT_FALSE(weight.absent());
      sum = crc(sum, weight.data.bytes());
      ++tensors;
    });
    EXPECT_EQ(tensors, expected.tensors) << expected.file;
    EXPECT_EQ(sum, expected.crc) << expected.file;
  }
}

TEST(Weights, AreBorrowedFromTheMap) {
  // 2.5 MB of f16 raw_data; f32 float_data in mnist_8. Read from a map of ours, so that its bounds are known.
  for (const char *name : {"squeezenet_fp16/SqueezeNet_fp16.onnx", "mnist_8/model.onnx"}) {
    std::shared_ptr<const MappedFile> map = llvm::cantFail(MappedFile::open(modelPath(name)));
    auto file = llvm::cantFail(ModelFile::read(map->bytes(), map, map->path()));
    unsigned borrowed = 0;
    for (const onnx::TensorProto &tensor : file->model().graph().initializer()) {
      WeightData weight = llvm::cantFail(file->weight(tensor));
      if (weight.type == ElementType::i64) // mnist_8's shapes, in int64_data: variable-length integers
        continue;
      EXPECT_GE(weight.data.bytes().begin(), map->bytes().begin());
      EXPECT_LE(weight.data.bytes().end(), map->bytes().end());
      ASSERT_TRUE(weight.origin);
      EXPECT_EQ(weight.origin->path, map->path());
      EXPECT_EQ(weight.origin->size, weight.data.byteSize());
      EXPECT_EQ(map->bytes().data() + weight.origin->offset, weight.data.bytes().data());
      ++borrowed;
    }
    EXPECT_GE(borrowed, 6u);
    EXPECT_LT(file->model().ByteSizeLong(), map->bytes().size() - 20'000) << "weights were parsed into the message";
  }
}

TEST(Weights, OutliveTheModelFile) {
  auto file = openModel("squeezenet_fp16/SqueezeNet_fp16.onnx");
  Tensor tensor = llvm::cantFail(file->weight(file->model().graph().initializer(0))).data;
  uint32_t before = crc(0, tensor.bytes());
  file.reset();
  EXPECT_EQ(crc(0, tensor.bytes()), before);
}

TEST(Weights, AbsentExternalDataIsNoError) {
  auto file = openModel("shape_only/resnet18.onnx");
  ASSERT_TRUE(file);
  unsigned absent = 0;
  for (const onnx::TensorProto &tensor : file->model().graph().initializer()) {
    WeightData weight = llvm::cantFail(file->weight(tensor));
    if (!weight.absent())
      continue;
    if (absent++ == 0) {
      EXPECT_EQ(describe(weight.type, weight.shape), "f32[1000,512]");
      EXPECT_EQ(weight.absence, "external data 'resnet18.external' is missing");
      ASSERT_TRUE(weight.origin);
      EXPECT_EQ(weight.origin->path, modelPath("shape_only/resnet18.external"));
      EXPECT_EQ(weight.origin->size, 0u);
    }
  }
  EXPECT_EQ(absent, 32u);
}

TEST(TensorFile, IsReadAsOnnxReadsIt) {
  struct Expected {
    const char *file;
    Shape shape;
    uint32_t crc; // zlib.crc32(numpy_helper.to_array(tensor).tobytes())
  };
  for (const Expected &expected :
       {Expected{"mnist_8/test_data_set_0/input_0.pb", {1, 1, 28, 28}, 0x78b2b5d3},
        Expected{"super_resolution_10/test_data_set_0/output_0.pb", {1, 1, 672, 672}, 0x32b1ff80}}) {
    llvm::Expected<NamedTensor> read = readTensorFile(modelPath(expected.file));
    ASSERT_TRUE(bool(read)) << report(read.takeError()).message;
    EXPECT_EQ(read->tensor.type(), ElementType::f32);
    EXPECT_EQ(read->tensor.shape(), expected.shape);
    EXPECT_EQ(crc(0, read->tensor.bytes()), expected.crc);
  }
}

//===--------------------------------------------------------------------------------------------------------------===//
// Nodes and functions
//===--------------------------------------------------------------------------------------------------------------===//

TEST(Nodes, NamelessOnesAreNamedByOperatorAndPosition) {
  auto file = openModel("shape_only/attention_head.onnx");
  ASSERT_TRUE(file);
  std::vector<std::string> names;
  for (const onnx::NodeProto &node : file->model().graph().node())
    names.push_back(node.name());
  EXPECT_THAT(names,
              ElementsAre("MatMul_0", "MatMul_1", "MatMul_2", "Transpose_3", "MatMul_4", "Softmax_5", "MatMul_6"));
}

TEST(Nodes, NamesAreUniqueInEveryModel) {
  for (const char *name : {"squeezenet_fp16/SqueezeNet_fp16.onnx", "super_resolution_10/model.onnx",
                           "ultraface/version-RFB-320_without_postprocessing.onnx"}) {
    auto file = openModel(name);
    ASSERT_TRUE(file);
    llvm::StringSet<> names;
    forEachNode(file->model().graph().node(),
                [&](const onnx::NodeProto &node) { EXPECT_TRUE(names.insert(node.name()).second) << node.name(); });
  }
}

TEST(Functions, CallsFindTheirBody) {
  auto file = openModel("shape_only/swiglu_256_4096_14336.onnx");
  ASSERT_TRUE(file);
  unsigned calls = 0;
  for (const onnx::NodeProto &node : file->model().graph().node()) {
    const onnx::FunctionProto *function = file->function(node);
    EXPECT_EQ(function != nullptr, node.op_type() == "Silu");
    if (!function)
      continue;
    ++calls;
    EXPECT_EQ(function->node_size(), 2);
    EXPECT_EQ(file->opset(*function), 17);
  }
  EXPECT_EQ(calls, 1u);
  EXPECT_EQ(file->opset("ai.onnx"), 17);
  EXPECT_EQ(file->opset("com.example"), 1);
  EXPECT_EQ(file->opset("other"), 0);
}

} // namespace
} // namespace quadrille::graph
