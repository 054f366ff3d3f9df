// What is wrong with a file, said exactly.
#include "graph/onnx/ModelFile.h"
#include "graph/onnx/TestModel.h"

#include "base/File.h"

#include "llvm/ADT/StringExtras.h"

#include <sys/stat.h>
#include <unistd.h>

namespace quadrille::graph {
namespace {

struct Malformed {
  const char *name;
  std::string bytes;
  std::string message; // after "model.onnx: "
};

std::string repeated(const std::string &text, unsigned count) {
  std::string result;
  for (unsigned i = 0; i < count; ++i)
    result += text;
  return result;
}

std::string realModel() {
  return llvm::cantFail(MappedFile::open(QUADRILLE_SOURCE_DIR "/models/mnist_8/model.onnx"))->text().str();
}

// If nodes whose branches hold an If node, and so on. Each level nests three messages: node, attribute, graph.
std::string nestedGraphs(unsigned levels) {
  std::string graph;
  for (unsigned i = 0; i < levels; ++i)
    graph = lengthDelimited(1, "\x22\x02If" + lengthDelimited(5, "\x0a\x01g" + lengthDelimited(6, graph)));
  return "\x08\x08" + lengthDelimited(7, graph) + lengthDelimited(8, std::string("\x10\x11", 2));
}

// Functions f0 .. f{count-1}, each of which calls the next `calls` times.
std::string functionChain(unsigned count, unsigned calls) {
  std::string functions;
  for (unsigned i = 0; i < count; ++i) {
    std::string node =
        i + 1 == count ? "node { op_type: 'Abs' }" : "node { op_type: 'f" + std::to_string(i + 1) + "' domain: 'd' }";
    functions += "functions { name: 'f" + std::to_string(i) + "' domain: 'd' " + repeated(node, calls) + " } ";
  }
  return functions;
}

std::vector<Malformed> malformedModels() {
  const std::string real = realModel();
  std::vector<Malformed> list = {
      //===-- The file ------------------------------------------------------------------------------------------===//
      {"Empty", "", "the file is empty"},
      {"Text", "#!/bin/sh\necho hello\n",
       "not an ONNX model: malformed protobuf at byte 0: field 4 has wire type 3, which ONNX does not use"},
      {"Zeros", std::string(64, '\0'), "not an ONNX model: malformed protobuf at byte 0: there is no field number 0"},
      {"Ones", std::string(64, '\xff'),
       "not an ONNX model: malformed protobuf at byte 0: a varint is longer than 10 bytes"},
      {"Truncated", real.substr(0, 20000),
       "not an ONNX model: malformed protobuf at byte 26: field 7 says it has 26418 bytes where 19970 are left in the "
       "file"},
      {"TruncatedInALength", std::string("\x08\x08\x3a\x80", 4),
       "not an ONNX model: malformed protobuf at byte 3: a varint is cut off"},
      {"TruncatedInANumber", std::string("\x0d\x00\x00", 3),
       "not an ONNX model: malformed protobuf at byte 0: field 1 says it has 4 bytes where 2 are left in the file"},
      {"LyingLength", std::string("\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 12),
       "not an ONNX model: malformed protobuf at byte 2: field 7 says it has 9223372036854775807 bytes where 0 are "
       "left in the file"},
      {"LyingLengthInside",
       "\x08\x08" + lengthDelimited(7, lengthDelimited(1, "\x22\x7f"
                                                          "Abs")),
       "graph.node[0]: not an ONNX model: malformed protobuf at byte 6: field 4 says it has 127 bytes where 3 are "
       "left in the file"},
      {"GraphIsANumber", std::string("\x08\x08\x38\x01", 4),
       "not an ONNX model: malformed protobuf at byte 2: ModelProto.graph is a varint instead of a length"},
      {"NodeNameIsANumber", "\x08\x08" + lengthDelimited(7, lengthDelimited(1, "\x18\x01")),
       "graph.node[0]: not an ONNX model: malformed protobuf at byte 6: NodeProto.name is a varint instead of a "
       "length"},
      {"HugeFieldNumber", "\x82\x80\x80\x80\x80\x01\x01",
       "not an ONNX model: malformed protobuf at byte 0: there is no field number 4294967296"},
      {"TwoGraphs", "\x08\x08" + repeated(lengthDelimited(7, ""), 2),
       "not an ONNX model: malformed protobuf at byte 4: ModelProto.graph occurs twice"},
      {"UnknownDataLocation",
       "\x08\x08" + lengthDelimited(7, repeated(lengthDelimited(5, ""), 1) + lengthDelimited(5, "\x70\x02")),
       "graph.initializer[1]: not an ONNX model: malformed protobuf at byte 8: unknown TensorProto.data_location 2"},
      // 1 + 3 * 33 messages, and the node of the 34th level is one too many.
      {"LyingLengthBeforeMore",
       "\x08\x08" + lengthDelimited(7, lengthDelimited(1, "\x22\x04"
                                                          "Abs") +
                                           lengthDelimited(2, "g")),
       "graph.node[0]: not an ONNX model: malformed protobuf at byte 6: field 4 says it has 4 bytes where 3 are left "
       "in the "
       "message"},
      // Graph, then 33 times node, attribute, graph are 100 messages; the 34th node is one too many.
      {"NestedTooDeep", nestedGraphs(34),
       "graph.node[0].attribute[0].g.node[0].attribute[0].g.node[0].attribute[0].g.node[ ... "
       "e[0].g.node[0].attribute[0].g.node[0].attribute[0].g.node[0]: not an ONNX model: malformed protobuf at "
       "byte "
       "507: messages nest deeper than 100"},
      {"Tensor", parseText<onnx::TensorProto>("dims: 2 data_type: 1 float_data: 1 float_data: 2").SerializeAsString(),
       "the file holds a tensor, not a model"},
      {"NoGraph", parseText<onnx::ModelProto>("ir_version: 8 opset_import { version: 17 }").SerializeAsString(),
       "not an ONNX model: the model has no graph"},

      //===-- Versions ------------------------------------------------------------------------------------------===//
      {"NoIrVersion", parseText<onnx::ModelProto>("graph {}").SerializeAsString(), "the model has no IR version"},
      {"NewIrVersion", parseText<onnx::ModelProto>("ir_version: 14 graph {}").SerializeAsString(),
       "IR version 14 is not supported; versions 3 to 13 are; export the model with another version of ONNX"},
      {"OldIrVersion", parseText<onnx::ModelProto>("ir_version: 2 graph {}").SerializeAsString(),
       "IR version 2 is not supported; versions 3 to 13 are; export the model with another version of ONNX"},
      {"NewOpset",
       parseText<onnx::ModelProto>("ir_version: 8 graph {} opset_import { version: 28 }").SerializeAsString(),
       "operator set version 28 is not supported; versions 1 to 27 are; convert the model with onnx.version_converter"},
      {"NegativeOpset",
       parseText<onnx::ModelProto>("ir_version: 8 graph {} opset_import { domain: 'ai.onnx' version: -1 }")
           .SerializeAsString(),
       "operator set version -1 is not supported; versions 1 to 27 are; convert the model with onnx.version_converter"},
      {"OpsetTwice",
       parseText<onnx::ModelProto>(
           "ir_version: 8 graph {} opset_import { version: 17 } opset_import { domain: 'ai.onnx' version: 16 }")
           .SerializeAsString(),
       "operator set 'ai.onnx' is imported twice"},
      {"NoOpset",
       parseText<onnx::ModelProto>(
           "ir_version: 8 graph { node { op_type: 'Abs' } } opset_import { domain: 'other' version: 1 }")
           .SerializeAsString(),
       "the model does not say which version of ONNX's operators it uses (opset_import)"},

      //===-- Values --------------------------------------------------------------------------------------------===//
      {"NoOperator", modelWithGraph("node { op_type: 'Abs' } node { name: 'n' }"),
       "node number 1 has no operator (op_type)"},
      {"UndefinedInput", modelWithGraph("node { op_type: 'Abs' input: 'x' output: 'y' }"),
       "Abs_0: input 'x' is not defined by any node, input or initializer"},
      {"Unsorted",
       modelWithGraph(
           "node { op_type: 'Abs' input: 'b' output: 'c' } node { op_type: 'Abs' name: 'first' output: 'b' }"),
       "Abs_0: input 'b' is used before node 'first' defines it; sort the nodes of the model topologically"},
      {"Cycle",
       modelWithGraph("node { op_type: 'Add' input: 'c' output: 'a' } node { op_type: 'Abs' input: 'a' output: 'b' } "
                      "node { op_type: 'Neg' input: 'b' output: 'c' }"),
       "Add_0: input 'c' comes from node 'Neg_2', which needs this node: the graph has a cycle"},
      {"CycleOfOne", modelWithGraph("node { op_type: 'Abs' input: 'a' output: 'a' }"),
       "Abs_0: input 'a' comes from node 'Abs_0', which needs this node: the graph has a cycle"},
      {"CycleThroughASubgraph",
       modelWithGraph(
           "node { op_type: 'Abs' input: 'b' output: 'a' } node { op_type: 'If' output: 'b' attribute { name: "
           "'then_branch' g { node { op_type: 'Neg' input: 'a' output: 'n' } output { name: 'n' } } } }"),
       "Abs_0: input 'b' comes from node 'If_1', which needs this node: the graph has a cycle"},
      {"DefinedTwice", modelWithGraph("node { op_type: 'Abs' output: 'a' } node { op_type: 'Neg' output: 'a' }"),
       "Neg_1: output 'a' is already defined by node 'Abs_0'"},
      {"DefinedTwiceByOne", modelWithGraph("node { op_type: 'Split' name: 's' output: 'a' output: 'a' }"),
       "s: output 'a' is already defined by node 's'"},
      {"RedefinesAnInitializer", modelWithGraph("initializer { name: 'w' } node { op_type: 'Abs' output: 'w' }"),
       "Abs_0: output 'w' is already defined by an input or an initializer"},
      {"InitializerTwice", modelWithGraph("initializer { name: 'w' } initializer { name: 'w' }"),
       "initializer 'w' is given twice"},
      {"InitializerWithoutName", modelWithGraph("initializer { dims: 1 }"), "an initializer has no name"},
      {"SparseInitializer", modelWithGraph("sparse_initializer { values { name: 'w' } }"),
       "sparse initializer 'w' is not supported; export the model with dense weights"},
      {"InputTwice", modelWithGraph(repeated("input { name: 'x' type { tensor_type { elem_type: 1 } } }", 2)),
       "graph input 'x' is declared twice"},
      {"InputWithoutName", modelWithGraph("input { }"), "an input of the graph has no name"},
      {"InputWithoutType", modelWithGraph("input { name: 'x' }"), "graph input 'x' has no type"},
      {"InputOfRank65",
       modelWithGraph("input { name: 'x' type { tensor_type { elem_type: 1 shape { " +
                      repeated("dim { dim_value: 1 } ", 65) + "} } } }"),
       "value 'x' has more than 64 dimensions"},
      {"UndefinedOutput", modelWithGraph("output { name: 'y' }"),
       "graph output 'y' is not defined by any node, input or initializer"},
      {"UndefinedInASubgraph",
       modelWithGraph("node { op_type: 'If' attribute { name: 'then_branch' g { output { name: 'y' } } } }"),
       "If_0 (then_branch): graph output 'y' is not defined by any node, input or initializer"},
      {"SubgraphLooksAhead",
       modelWithGraph(
           "node { op_type: 'If' attribute { name: 'then_branch' g { node { op_type: 'Abs' input: 'later' output: "
           "'y' } } } } node { op_type: 'Neg' output: 'later' }"),
       "Abs_1: input 'later' is used before node 'Neg_2' defines it; sort the nodes of the model topologically"},
      {"SubgraphValuesStayInside",
       modelWithGraph(
           "node { op_type: 'If' attribute { name: 'then_branch' g { node { op_type: 'Abs' output: 'y' } } } } node "
           "{ op_type: 'Neg' input: 'y' }"),
       "Neg_2: input 'y' is not defined by any node, input or initializer"},

      //===-- Attributes ----------------------------------------------------------------------------------------===//
      {"AttributeWithoutName", modelWithGraph("node { op_type: 'Abs' attribute { i: 1 } }"),
       "Abs_0: an attribute has no name"},
      {"AttributeTwice",
       modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' i: 1 } attribute { name: 'a' i: 1 } }"),
       "Abs_0: attribute 'a' is given twice"},
      {"AttributeWithTwoValues", modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' i: 1 ints: 1 } }"),
       "Abs_0: attribute 'a' holds both INT and INTS"},
      {"AttributeOfAnotherType", modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' type: FLOAT i: 1 } }"),
       "Abs_0: attribute 'a' has the type FLOAT but holds INT"},
      {"AttributeWithoutValue", modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' } }"),
       "Abs_0: attribute 'a' has neither a type nor a value"},
      {"AttributeWithoutTensor", modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' type: TENSOR } }"),
       "Abs_0: attribute 'a' has the type TENSOR but holds nothing"},
      {"AttributeReferenceOutside",
       modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' ref_attr_name: 'b' } }"),
       "Abs_0: attribute 'a' refers to a function's attribute outside a function"},

      //===-- Functions -----------------------------------------------------------------------------------------===//
      {"FunctionTwice", modelWithGraph("", "functions { name: 'f' domain: 'd' } functions { name: 'f' domain: 'd' }"),
       "function 'd::f': the function is defined twice"},
      {"FunctionWithoutName", modelWithGraph("", "functions { domain: 'd' }"),
       "function 'd::': a local function has no name"},
      {"FunctionCallsItself",
       modelWithGraph("", "functions { name: 'f' domain: 'd' node { op_type: 'f' domain: 'd' } }"),
       "function 'd::f': local functions call each other in a circle: d::f -> d::f"},
      {"FunctionsInACircle",
       modelWithGraph(
           "",
           "functions { name: 'f' domain: 'd' node { op_type: 'If' attribute { name: 'then_branch' g { node { "
           "op_type: 'g' domain: 'd' } } } } } functions { name: 'g' domain: 'd' node { op_type: 'f' domain: 'd' } }"),
       "function 'd::f': local functions call each other in a circle: d::f -> d::g -> d::f"},
      {"FunctionsNestedTooDeep", modelWithGraph("", functionChain(200, 1)),
       "function 'd::f100': calls of local functions nest deeper than 100"},
      {"FunctionsExpandWithoutEnd", modelWithGraph("node { op_type: 'f0' domain: 'd' }", functionChain(90, 10)),
       "with its local functions inlined the model has more than 1000000 nodes"},
      {"FunctionOutputUndefined", modelWithGraph("", "functions { name: 'f' domain: 'd' output: 'y' }"),
       "function 'f': function output 'y' is not defined by any node or input"},
      {"FunctionSeesNoGraphValues",
       modelWithGraph("initializer { name: 'w' }",
                      "functions { name: 'f' domain: 'd' node { op_type: 'Abs' input: 'w' } }"),
       "Abs_0: input 'w' is not defined by any node, input or initializer"},
      {"FunctionOpset", modelWithGraph("", "functions { name: 'f' opset_import { version: 99 } }"),
       "function 'f': operator set version 99 is not supported; versions 1 to 27 are; convert the model with "
       "onnx.version_converter"},
  };
  return list;
}

class MalformedModels : public ScratchFolder {};

TEST_F(MalformedModels, AreRefusedWithTheReason) {
  for (const Malformed &entry : malformedModels()) {
    SCOPED_TRACE(entry.name);
    std::string path = write("model.onnx", entry.bytes);
    EXPECT_EQ(messageOf(ModelFile::open(path).takeError()), "model.onnx: " + entry.message);
  }
}

TEST_F(MalformedModels, MissingFilesAndFolders) {
  EXPECT_EQ(messageOf(ModelFile::open(folder + "/missing.onnx").takeError()),
            "missing.onnx: cannot open: No such file or directory");
  std::filesystem::create_directory(folder + "/directory.onnx");
  EXPECT_EQ(messageOf(ModelFile::open(folder + "/directory.onnx").takeError()), "directory.onnx: not a regular file");
  ASSERT_EQ(mkfifo((folder + "/pipe.onnx").c_str(), 0600), 0);
  EXPECT_EQ(messageOf(ModelFile::open(folder + "/pipe.onnx").takeError()), "pipe.onnx: not a regular file");
}

TEST_F(MalformedModels, NestedAsDeepAsProtobufAllows) {
  EXPECT_EQ(messageOf(ModelFile::open(write("model.onnx", nestedGraphs(33))).takeError()), "");
}

// Every prefix of a model is refused, and no single changed byte makes the reader crash.
TEST_F(MalformedModels, EveryPrefixIsRefused) {
  std::string model = modelWithGraph("node { op_type: 'Constant' output: 'y' attribute { name: 'value' t { dims: 2 "
                                     "data_type: 1 raw_data: '01234567' } } } output { name: 'y' type { tensor_type { "
                                     "elem_type: 1 } } }");
  auto read = [&](const std::string &bytes) {
    return ModelFile::read({reinterpret_cast<const std::byte *>(bytes.data()), bytes.size()}, nullptr, "m.onnx");
  };
  ASSERT_TRUE(bool(read(model)));
  for (size_t size = 0; size < model.size(); ++size) {
    auto file = read(model.substr(0, size));
    EXPECT_FALSE(bool(file)) << size;
    llvm::consumeError(file.takeError());
  }
  for (size_t at = 0; at < model.size(); ++at)
    for (unsigned value = 0; value < 256; value += 5) {
      std::string changed = model;
      changed[at] = static_cast<char>(value);
      auto file = read(changed);
      if (!file) {
        llvm::consumeError(file.takeError());
        continue;
      }
      llvm::Expected<ModelSummary> summary = summarize(**file);
      llvm::consumeError(summary.takeError());
    }
}

//===--------------------------------------------------------------------------------------------------------------===//
// Tensors
//===--------------------------------------------------------------------------------------------------------------===//

std::vector<Malformed> malformedTensors() {
  return {
      {"RawTooShort", "dims: 3 data_type: 1 raw_data: '01234567'", "the data has 8 bytes where f32[3] needs 12"},
      {"RawTooLong", "dims: 1 data_type: 1 raw_data: '01234567'", "the data has 8 bytes where f32[1] needs 4"},
      {"RawOfNothing", "dims: 0 data_type: 1 raw_data: '0123'", "the data has 4 bytes where f32[0] needs 0"},
      {"RawEmpty", "dims: 4 data_type: 1 raw_data: ''", "the data has 0 bytes where f32[4] needs 16"},
      {"PackedTooShort", "dims: 5 data_type: 22 raw_data: '01'", "the data has 2 bytes where i4[5] needs 3"},
      {"FloatsTooFew", "dims: 3 data_type: 1 float_data: 1", "the data has 4 bytes where f32[3] needs 12"},
      {"IntegersTooMany", "dims: 1 data_type: 7 int64_data: 1 int64_data: 2",
       "int64_data has 2 values where i64[1] needs 1"},
      {"NegativeUnsigned", "dims: 1 data_type: 2 int32_data: -1", "int32_data[0] is -1, which u8 cannot hold"},
      {"TooLargeForItsType", "dims: 2 data_type: 3 int32_data: 127 int32_data: 128",
       "int32_data[1] is 128, which i8 cannot hold"},
      {"HalfBitsTooLarge", "dims: 1 data_type: 10 int32_data: 65536", "int32_data[0] is 65536, which f16 cannot hold"},
      {"WordTooLarge", "dims: 1 data_type: 12 uint64_data: 4294967296",
       "uint64_data[0] is 4294967296, which u32 cannot hold"},
      {"PackedByteTooLarge", "dims: 2 data_type: 22 int32_data: 256",
       "int32_data[0] is 256, which is not a byte of packed i4"},
      {"InAnotherField", "dims: 1 data_type: 1 int32_data: 1", "f32 elements are in int32_data instead of float_data"},
      {"InTwoFields", "dims: 1 data_type: 1 float_data: 1 int32_data: 1",
       "elements are in both float_data and int32_data"},
      {"RawAndTyped", "dims: 1 data_type: 1 float_data: 1 raw_data: '0123'",
       "elements are in both float_data and raw_data"},
      {"NoType", "dims: 1 raw_data: '0123'", "no element type is given"},
      {"UnknownType", "dims: 1 data_type: 99 raw_data: '0123'", "unknown element type code 99"},
      {"NegativeType", "dims: 1 data_type: -1 raw_data: '0123'", "unknown element type code -1"},
      {"Strings", "dims: 1 data_type: 8 string_data: 'x'", "element type string is not supported"},
      {"Complex", "dims: 1 data_type: 14 raw_data: '01234567'", "element type complex64 is not supported"},
      {"Float4", "dims: 2 data_type: 23 raw_data: '0'", "element type float4e2m1 is not supported"},
      {"NegativeExtent", "dims: 2 dims: -1 data_type: 1", "the shape f32[2,-1] has a negative extent"},
      {"HugeExtents", "dims: 1152921504606846976 dims: 16 data_type: 2",
       "the shape u8[1152921504606846976,16] has more elements than can be counted"},
      {"HugeBytes", "dims: 1152921504606846976 data_type: 2",
       "the shape u8[1152921504606846976] has more elements than can be counted"},
      {"HugeExtentsBesideZero", "dims: 4611686018427387904 dims: 4611686018427387904 dims: 0 data_type: 1",
       "the shape f32[4611686018427387904,4611686018427387904,0] has more elements than can be counted"},
      {"LargeShapeLittleData", "dims: 1099511627776 data_type: 22 raw_data: '0'",
       "the data has 1 bytes where i4[1099511627776] needs 549755813888"},
      {"Rank65", repeated("dims: 1 ", 65) + "data_type: 1 raw_data: '0123'",
       "the tensor has 65 dimensions, more than 64"},
      {"Segment", "dims: 1 data_type: 1 segment { begin: 0 end: 1 } raw_data: '0123'",
       "tensors in segments are not supported"},
      {"ExternalWithoutLocation", "dims: 1 data_type: 1 data_location: EXTERNAL",
       "external data has no location; put the file beside the model and name it there"},
      {"ExternalOffsetIsText",
       "dims: 1 data_type: 1 data_location: EXTERNAL external_data { key: 'offset' value: 'x' }",
       "external data has the offset 'x', which is not a number"},
      {"ExternalOffsetIsNegative",
       "dims: 1 data_type: 1 data_location: EXTERNAL external_data { key: 'offset' value: '-4' }",
       "external data has the offset '-4', which is not a number"},
      {"ExternalLengthIsHuge",
       "dims: 1 data_type: 1 data_location: EXTERNAL external_data { key: 'length' value: '99999999999999999999' }",
       "external data has the length '99999999999999999999', which is not a number"},
      {"ExternalLengthDiffers",
       "dims: 1 data_type: 1 data_location: EXTERNAL external_data { key: 'location' value: 'w.bin' } external_data { "
       "key: "
       "'length' value: '8' }",
       "external data has 8 bytes where f32[1] needs 4"},
  };
}

class MalformedTensors : public ScratchFolder {
protected:
  // weight() of an initializer of that text.
  llvm::Expected<WeightData> weight(const std::string &tensor) const {
    std::string path = write("model.onnx", modelWithGraph("initializer { name: 'w' " + tensor + " }"));
    auto file = llvm::cantFail(ModelFile::open(path));
    return file->weight(file->model().graph().initializer(0));
  }
  static std::string external(const std::string &location, const std::string &rest = "") {
    return "dims: 2 data_type: 1 data_location: EXTERNAL external_data { key: 'location' value: '" + location + "' } " +
           rest;
  }
  std::string refusal(const std::string &location) const { return messageOf(weight(external(location)).takeError()); }
};

TEST_F(MalformedTensors, AreRefusedWithTheReason) {
  for (const Malformed &entry : malformedTensors()) {
    SCOPED_TRACE(entry.name);
    EXPECT_EQ(messageOf(weight(entry.bytes).takeError()), "model.onnx: tensor 'w': " + entry.message);
  }
}

TEST_F(MalformedTensors, ExternalDataStaysInTheModelsFolder) {
  std::ofstream(root + "/secret") << "01234567";
  std::filesystem::create_directory(root + "/elsewhere");
  std::ofstream(root + "/elsewhere/secret") << "01234567";
  std::filesystem::create_directory(folder + "-neighbour"); // its path starts like the folder's
  std::ofstream(folder + "-neighbour/secret") << "01234567";
  std::filesystem::create_directory(folder + "/inside");
  write("inside/w.bin", "01234567");
  std::filesystem::create_symlink(root + "/secret", folder + "/link");
  std::filesystem::create_symlink("../elsewhere", folder + "/linked");
  std::filesystem::create_symlink("../model-neighbour", folder + "/neighbour");
  std::filesystem::create_symlink("inside/w.bin", folder + "/inner");
  std::filesystem::create_symlink("loop", folder + "/loop");
  ASSERT_EQ(mkfifo((folder + "/pipe").c_str(), 0600), 0);

  const std::string remedy = "; put the file beside the model and name it there";
  auto expected = [&](const std::string &text) { return "model.onnx: tensor 'w': external data '" + text + remedy; };
  EXPECT_EQ(refusal("/etc/passwd"), expected("/etc/passwd' has an absolute path"));
  EXPECT_EQ(refusal("../secret"), expected("../secret' leads outside the model's folder"));
  EXPECT_EQ(refusal("inside/../../secret"), expected("inside/../../secret' leads outside the model's folder"));
  EXPECT_EQ(refusal(".."), expected("..' leads outside the model's folder"));
  EXPECT_EQ(refusal("link"), expected("link' leads outside the model's folder through a symbolic link"));
  EXPECT_EQ(refusal("linked/secret"),
            expected("linked/secret' leads outside the model's folder through a symbolic link"));
  EXPECT_EQ(refusal("neighbour/secret"),
            expected("neighbour/secret' leads outside the model's folder through a symbolic link"));
  EXPECT_EQ(refusal("inside"), expected("inside' is not a regular file"));
  EXPECT_EQ(refusal("."), expected(".' is not a regular file"));
  EXPECT_EQ(refusal("pipe"), expected("pipe' is not a regular file"));
  EXPECT_EQ(refusal("w.bin\\000x"), "model.onnx: tensor 'w': external data has no location" + remedy);

  // Allowed: a file within, also through a link that stays within.
  for (const char *location : {"inside/w.bin", "./inside/w.bin", "inner"}) {
    WeightData data = llvm::cantFail(weight(external(location)));
    ASSERT_FALSE(data.absent()) << location;
    EXPECT_EQ(llvm::toStringRef(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(data.data.bytes().data()), 8)),
              "01234567");
  }
}

TEST_F(MalformedTensors, MissingOrShortExternalDataIsAbsent) {
  write("w.bin", "0123456789ab"); // 12 bytes
  auto absence = [&](const std::string &tensor) { return llvm::cantFail(weight(tensor)).absence; };
  EXPECT_EQ(absence(external("missing.bin")), "external data 'missing.bin' is missing");
  EXPECT_EQ(absence(external("missing/w.bin")), "external data 'missing/w.bin' is missing");
  EXPECT_EQ(absence(external("w.bin", "external_data { key: 'offset' value: '4' }")), "");
  EXPECT_EQ(absence(external("w.bin", "external_data { key: 'offset' value: '8' }")),
            "external data 'w.bin' has 12 bytes where the tensor needs bytes 8 to 16");
  EXPECT_EQ(
      absence(external("w.bin", "external_data { key: 'offset' value: '18446744073709551615' }")),
      "external data 'w.bin' has 12 bytes where the tensor needs bytes 18446744073709551615 to 18446744073709551615");
  EXPECT_EQ(absence("dims: 1048576 dims: 1048576 dims: 1024 data_type: 1"), "the file holds no data for the tensor");
}

TEST_F(MalformedTensors, TensorFilesThatAreNone) {
  auto message = [&](const std::string &bytes) { return messageOf(readTensorFile(write("t.pb", bytes)).takeError()); };
  EXPECT_EQ(message(""), "t.pb: the file is empty");
  EXPECT_EQ(message(modelWithGraph("")), "t.pb: the file holds a model, not a tensor");
  // SequenceProto and OptionalProto: name = 1, elem_type = 2 (1: tensor), values = 3.
  std::string tensor = parseText<onnx::TensorProto>("dims: 1 data_type: 1 float_data: 1").SerializeAsString();
  EXPECT_EQ(message(lengthDelimited(1, "seq") + "\x10\x01" + repeated(lengthDelimited(3, tensor), 2)),
            "t.pb: the file holds a sequence or an optional, which are not supported");
  EXPECT_EQ(message(lengthDelimited(1, "empty") + "\x10\x01"),
            "t.pb: the file holds a sequence or an optional, which are not supported");
  EXPECT_EQ(message(parseText<onnx::TensorProto>("name: 't' dims: 1 data_type: 1").SerializeAsString()),
            "t.pb: the file holds no data for the tensor");
  EXPECT_EQ(message(tensor.substr(0, tensor.size() - 1)),
            "t.pb: malformed protobuf at byte 4: field 4 says it has 4 bytes where 3 are left in the file");
  EXPECT_EQ(message("no protobuf"),
            "t.pb: malformed protobuf at byte 0: field 13 has wire type 6, which ONNX does not use");
}

} // namespace
} // namespace quadrille::graph
