// Every element type from every place that ONNX can store it in; what a well-formed model may do beyond that.
#include "graph/onnx/DataType.h"
#include "graph/onnx/ModelFile.h"
#include "graph/onnx/TestModel.h"

#include "llvm/ADT/StringExtras.h"
#include "gmock/gmock.h"

#include <fcntl.h>
#include <unistd.h>

namespace quadrille::graph {
namespace {

using testing::ElementsAre;

struct Stored {
  ElementType type;
  const char *raw;   // bytes as raw_data has them, hexadecimal
  const char *typed; // the field that ONNX prescribes for the type, as text
  const char *host;  // bytes of the tensor; null: as in raw
};

// Three elements of each type. Bits by IEEE 754 and the definitions in ONNX's onnx.proto; 1.0, -2.0, 0.5 for floats:
// f8e4m3fn 38 c0 30, f8e4m3fnuz (bias 8) 40 c8 38, f8e5m2 3c c0 38, f8e5m2fnuz (bias 16) 40 c4 3c.
const Stored storedTypes[] = {
    {ElementType::f64, "000000000000f03f00000000000000c0000000000000e03f", "double_data: [1, -2, 0.5]", nullptr},
    {ElementType::f32, "0000803f000000c00000003f", "float_data: [1, -2, 0.5]", nullptr},
    {ElementType::f16, "003c00c00038", "int32_data: [0x3c00, 0xc000, 0x3800]", nullptr},
    {ElementType::bf16, "803f00c0003f", "int32_data: [0x3f80, 0xc000, 0x3f00]", nullptr},
    {ElementType::f8e4m3fn, "38c030", "int32_data: [0x38, 0xc0, 0x30]", nullptr},
    {ElementType::f8e4m3fnuz, "40c838", "int32_data: [0x40, 0xc8, 0x38]", nullptr},
    {ElementType::f8e5m2, "3cc038", "int32_data: [0x3c, 0xc0, 0x38]", nullptr},
    {ElementType::f8e5m2fnuz, "40c43c", "int32_data: [0x40, 0xc4, 0x3c]", nullptr},
    {ElementType::i64, "0100000000000000ffffffffffffffff0000000000000080", "int64_data: [1, -1, -9223372036854775808]",
     nullptr},
    {ElementType::i32, "01000000ffffffff00000080", "int32_data: [1, -1, -2147483648]", nullptr},
    {ElementType::i16, "0100ffff0080", "int32_data: [1, -1, -32768]", nullptr},
    {ElementType::i8, "01ff80", "int32_data: [1, -1, -128]", nullptr},
    {ElementType::u64, "0100000000000000ffffffffffffffff0000000000000080",
     "uint64_data: [1, 18446744073709551615, 9223372036854775808]", nullptr},
    {ElementType::u32, "01000000ffffffff00000080", "uint64_data: [1, 4294967295, 2147483648]", nullptr},
    {ElementType::u16, "0100ffff0080", "int32_data: [1, 65535, 32768]", nullptr},
    {ElementType::u8, "01ff80", "int32_data: [1, 255, 128]", nullptr},
    {ElementType::boolean, "010001", "int32_data: [1, 0, 1]", nullptr},
    // Two or four to a byte, the first lowest: 1, -8, 7 and 1, 15, 7; 1, -2, -1 and 1, 2, 3.
    {ElementType::i4, "8107", "int32_data: [0x81, 7]", "01f807"},
    {ElementType::u4, "f107", "int32_data: [0xf1, 7]", "010f07"},
    {ElementType::i2, "39", "int32_data: [0x39]", "01feff"},
    {ElementType::u2, "39", "int32_data: [0x39]", "010203"},
};

std::string hex(const Tensor &tensor) {
  return llvm::toHex({reinterpret_cast<const char *>(tensor.bytes().data()), tensor.byteSize()}, /*LowerCase=*/true);
}

class TensorReading : public ScratchFolder {
protected:
  std::string path() const { return folder + "/model.onnx"; }
  WeightData weight(const onnx::TensorProto &tensor) const {
    onnx::ModelProto model = parseText<onnx::ModelProto>("ir_version: 13 opset_import { version: 24 } graph { }");
    *model.mutable_graph()->add_initializer() = tensor;
    model.mutable_graph()->mutable_initializer(0)->set_name("w");
    write("model.onnx", model.SerializeAsString());
    auto file = llvm::cantFail(ModelFile::open(path()));
    llvm::Expected<WeightData> weight = file->weight(file->model().graph().initializer(0));
    if (weight)
      return *weight;
    ADD_FAILURE() << messageOf(weight.takeError());
    return {};
  }
  static onnx::TensorProto tensor(ElementType type, const std::string &rest = "") {
    return parseText<onnx::TensorProto>("dims: 3 data_type: " + std::to_string(*codeOfElementType(type)) + " " + rest);
  }
  static bool packed(const Stored &entry) { return entry.host != nullptr; }
};

TEST_F(TensorReading, RawData) {
  for (const Stored &entry : storedTypes) {
    SCOPED_TRACE(nameOf(entry.type).str());
    onnx::TensorProto proto = tensor(entry.type);
    proto.set_raw_data(llvm::fromHex(entry.raw));
    WeightData data = weight(proto);
    EXPECT_EQ(data.name, "w");
    EXPECT_EQ(describe(data.data.type(), data.data.shape()), nameOf(entry.type).str() + "[3]");
    EXPECT_EQ(hex(data.data), packed(entry) ? entry.host : entry.raw);
    EXPECT_EQ(data.origin.has_value(), !packed(entry));
  }
}

TEST_F(TensorReading, TypedFields) {
  for (const Stored &entry : storedTypes) {
    SCOPED_TRACE(nameOf(entry.type).str());
    WeightData data = weight(tensor(entry.type, entry.typed));
    EXPECT_EQ(hex(data.data), packed(entry) ? entry.host : entry.raw);
    // Packed floats lie in the file as raw data would; everything else is converted.
    EXPECT_EQ(data.origin.has_value(), entry.type == ElementType::f32 || entry.type == ElementType::f64);
  }
}

TEST_F(TensorReading, ExternalData) {
  for (const Stored &entry : storedTypes) {
    SCOPED_TRACE(nameOf(entry.type).str());
    std::string bytes = llvm::fromHex(entry.raw);
    write("weights.bin", "12345" + bytes + "tail");
    for (const char *length : {"", "external_data { key: 'length' value: 'N' }"}) {
      std::string given = length;
      if (size_t at = given.find('N'); at != std::string::npos)
        given.replace(at, 1, std::to_string(bytes.size()));
      WeightData data =
          weight(tensor(entry.type, "data_location: EXTERNAL external_data { key: 'location' value: 'weights.bin' } "
                                    "external_data { key: 'offset' value: '5' } external_data { key: 'checksum' value: "
                                    "'ignored' } " +
                                        given));
      EXPECT_EQ(hex(data.data), packed(entry) ? entry.host : entry.raw);
      if (packed(entry))
        continue;
      ASSERT_TRUE(data.origin);
      EXPECT_EQ(data.origin->path, std::filesystem::canonical(folder + "/weights.bin"));
      EXPECT_EQ(data.origin->offset, 5u);
      EXPECT_EQ(data.origin->size, bytes.size());
    }
  }
}

TEST_F(TensorReading, EveryTypeOfOnnxIsInTheTable) {
  // onnx.TensorProto.DataType.items() of ONNX 1.22: 28 types, of which these have no counterpart here.
  for (int32_t code = 1; code <= 28; ++code) {
    llvm::Expected<ElementType> type = elementTypeOfCode(code);
    bool lacking = code == 8 || code == 14 || code == 15 || code == 23 || code == 24 || code >= 27;
    EXPECT_EQ(bool(type), !lacking) << code;
    if (type)
      EXPECT_EQ(codeOfElementType(*type), code);
    else
      llvm::consumeError(type.takeError());
    if (onnx::TensorProto::DataType_IsValid(code)) { // those that the installed schema knows
      std::string name = onnx::TensorProto::DataType_Name(static_cast<onnx::TensorProto::DataType>(code));
      EXPECT_EQ(llvm::StringRef(name).lower(), nameOfCode(code));
    }
  }
  EXPECT_EQ(codeOfElementType(ElementType::cb16), std::nullopt);
  EXPECT_EQ(nameOfCode(99), "type 99");
}

TEST_F(TensorReading, BoolsAreZeroOrOne) {
  EXPECT_EQ(hex(weight(parseText<onnx::TensorProto>("dims: 4 data_type: 9 raw_data: '\\x00\\x01\\x02\\xff'")).data),
            "00010101");
  EXPECT_EQ(hex(weight(parseText<onnx::TensorProto>("dims: 3 data_type: 9 int32_data: [0, 256, -1]")).data), "000101");
}

TEST_F(TensorReading, EmptyAndScalarTensors) {
  for (const char *text : {"dims: 0 data_type: 1", "dims: 0 data_type: 1 raw_data: ''", "dims: [2, 0] data_type: 22"}) {
    WeightData data = weight(parseText<onnx::TensorProto>(text));
    EXPECT_FALSE(data.absent()) << text;
    EXPECT_EQ(data.data.elements(), 0);
  }
  WeightData scalar = weight(parseText<onnx::TensorProto>("data_type: 1 float_data: 1"));
  EXPECT_EQ(scalar.shape, Shape());
  EXPECT_EQ(hex(scalar.data), "0000803f");
}

// float_data in several pieces, or one number at a time: legal protobuf that raw data cannot stand for.
TEST_F(TensorReading, FloatsInPieces) {
  std::string one = llvm::fromHex("0000803f"), two = llvm::fromHex("00000040");
  std::string head = "\x08\x02\x10\x01"; // dims: 2, data_type: 1
  for (const std::string &data : {lengthDelimited(4, one + two), lengthDelimited(4, one) + lengthDelimited(4, two),
                                  "\x25" + one + "\x25" + two, "\x25" + one + lengthDelimited(4, two)}) {
    std::string path = write("t.pb", head + data);
    llvm::Expected<NamedTensor> tensor = readTensorFile(path);
    ASSERT_TRUE(bool(tensor)) << messageOf(tensor.takeError());
    EXPECT_EQ(hex(tensor->tensor), "0000803f00000040");
  }
}

// A file whose tensors reach beyond 4 GiB; the hole in it takes no space on disk and is not touched.
TEST_F(TensorReading, FilesBeyondFourGibibytes) {
  const uint64_t large = uint64_t(5) << 30;
  auto varint = [](uint64_t value) {
    std::string text;
    for (; value >= 0x80; value >>= 7)
      text += static_cast<char>(value | 0x80);
    return text + static_cast<char>(value);
  };
  std::string first = "\x08" + varint(large) +
                      "\x10\x02\x42\x01"
                      "a\x4a" +
                      varint(large); // dims, u8, name, raw_data
  std::string second = lengthDelimited(
      5, parseText<onnx::TensorProto>("name: 'b' dims: 2 data_type: 1 float_data: [1, -2]").SerializeAsString());
  std::string tensorStart = "\x2a" + varint(first.size() + large);
  uint64_t graphSize = tensorStart.size() + first.size() + large + second.size();
  std::string head = "\x08\x08" + lengthDelimited(8, "\x10\x11") + "\x3a" + varint(graphSize) + tensorStart + first;
  std::string path = write("model.onnx", head);
  int descriptor = ::open(path.c_str(), O_WRONLY);
  ASSERT_GE(descriptor, 0);
  ASSERT_EQ(pwrite(descriptor, second.data(), second.size(), static_cast<off_t>(head.size() + large)),
            static_cast<ssize_t>(second.size()));
  close(descriptor);

  auto file = ModelFile::open(path);
  ASSERT_TRUE(bool(file)) << messageOf(file.takeError());
  const auto &initializers = (*file)->model().graph().initializer();
  ASSERT_EQ(initializers.size(), 2);
  WeightData a = llvm::cantFail((*file)->weight(initializers[0]));
  EXPECT_EQ(a.data.byteSize(), large);
  EXPECT_EQ(a.origin->offset, head.size());
  WeightData b = llvm::cantFail((*file)->weight(initializers[1]));
  EXPECT_EQ(hex(b.data), "0000803f000000c0");
  EXPECT_GT(b.origin->offset, large);
}

//===--------------------------------------------------------------------------------------------------------------===//
// What well-formed models may do
//===--------------------------------------------------------------------------------------------------------------===//

class Accepted : public ScratchFolder {
protected:
  std::unique_ptr<const ModelFile> open(const std::string &bytes) const {
    auto file = ModelFile::open(write("model.onnx", bytes));
    if (file)
      return std::move(*file);
    ADD_FAILURE() << messageOf(file.takeError());
    return nullptr;
  }
};

TEST_F(Accepted, SubgraphsSeeAndHideOuterValues) {
  EXPECT_TRUE(open(modelWithGraph(
      "input { name: 'x' type { tensor_type { elem_type: 1 } } } node { op_type: 'Abs' input: 'x' output: 'a' } "
      "node { op_type: 'If' input: 'x' input: '' output: 'y' output: '' attribute { name: 'then_branch' type: GRAPH g "
      "{ node "
      "{ op_type: 'Neg' input: 'a' output: 'a2' } node { op_type: 'Neg' input: 'a2' output: 'a' } output { name: 'a' } "
      "} } "
      "attribute { name: 'else_branch' type: GRAPH g { output { name: 'x' } } } } output { name: 'y' } output { name: "
      "'y' }")));
}

TEST_F(Accepted, InputsMayHaveInitializers) {
  auto file = open(modelWithGraph("input { name: 'w' type { tensor_type { elem_type: 1 } } } initializer { name: 'w' "
                                  "data_type: 1 float_data: 1 } node { op_type: 'Abs' input: 'w' output: 'y' } "
                                  "output { name: 'y' type { tensor_type { elem_type: 1 } } }"));
  ASSERT_TRUE(file);
  EXPECT_TRUE(llvm::cantFail(summarize(*file)).inputs.empty());
}

TEST_F(Accepted, GeneratedNamesCountSubgraphsAndAvoidGivenOnes) {
  auto file = open(modelWithGraph(
      "node { op_type: 'If' attribute { name: 'then_branch' g { node { op_type: 'Abs' } node { op_type: 'Abs' } } } } "
      "node { op_type: 'Neg' } node { op_type: 'Neg' name: 'Neg_3' } node { op_type: 'Neg' name: 'Neg_3' }",
      "functions { name: 'f' node { op_type: 'Exp' } }"));
  ASSERT_TRUE(file);
  const onnx::GraphProto &graph = file->model().graph();
  EXPECT_EQ(graph.node(0).name(), "If_0");
  EXPECT_EQ(graph.node(0).attribute(0).g().node(1).name(), "Abs_2");
  EXPECT_EQ(graph.node(1).name(), "Neg_3_");
  EXPECT_EQ(graph.node(2).name(), "Neg_3");
  EXPECT_EQ(graph.node(3).name(), "Neg_3"); // as the file says
  EXPECT_EQ(file->model().functions(0).node(0).name(), "Exp_6");
}

TEST_F(Accepted, UntypedAttributesGetTheTypeOfTheirValue) {
  auto file =
      open(modelWithGraph("node { op_type: 'Abs' attribute { name: 'a' ints: 1 } attribute { name: 'b' type: INTS } "
                          "attribute { name: 'c' t { dims: 0 } } }"));
  ASSERT_TRUE(file);
  const onnx::NodeProto &node = file->model().graph().node(0);
  EXPECT_EQ(node.attribute(0).type(), onnx::AttributeProto::INTS);
  EXPECT_EQ(node.attribute(1).type(), onnx::AttributeProto::INTS);
  EXPECT_EQ(node.attribute(2).type(), onnx::AttributeProto::TENSOR);
}

// Fields that came after ONNX 1.12: NodeProto.overload = 8, FunctionProto.overload = 13, .attribute_proto = 11.
TEST_F(Accepted, OverloadsAndDefaultAttributesOfNewerModels) {
  auto function = [](const std::string &overload, const std::string &op, const std::string &extra) {
    return lengthDelimited(25,
                           parseText<onnx::FunctionProto>("name: 'f' domain: 'd' opset_import { version: 18 } node { "
                                                          "op_type: '" +
                                                          op + "' }")
                                   .SerializeAsString() +
                               (overload.empty() ? "" : lengthDelimited(13, overload)) + extra);
  };
  auto call = [](const std::string &overload) {
    return lengthDelimited(1, parseText<onnx::NodeProto>("op_type: 'f' domain: 'd'").SerializeAsString() +
                                  (overload.empty() ? "" : lengthDelimited(8, overload)));
  };
  std::string attribute =
      parseText<onnx::AttributeProto>("name: 'value' type: TENSOR t { dims: 2 data_type: 6 raw_data: '01234567' }")
          .SerializeAsString();
  auto file =
      open("\x08\x0a" + lengthDelimited(8, "\x10\x11") + lengthDelimited(7, call("") + call("fast") + call("none")) +
           function("", "Abs", "") + function("fast", "Neg", lengthDelimited(11, attribute)));
  ASSERT_TRUE(file);
  const onnx::GraphProto &graph = file->model().graph();
  ASSERT_TRUE(file->function(graph.node(0)));
  EXPECT_EQ(file->function(graph.node(0))->node(0).op_type(), "Abs");
  ASSERT_TRUE(file->function(graph.node(1)));
  const onnx::FunctionProto &fast = *file->function(graph.node(1));
  EXPECT_EQ(fast.node(0).op_type(), "Neg");
  EXPECT_EQ(file->function(graph.node(2)), nullptr);
  EXPECT_EQ(file->opset(fast), 18);
  EXPECT_TRUE(file->defaultAttributes(*file->function(graph.node(0))).empty());
  ASSERT_EQ(file->defaultAttributes(fast).size(), 1u);
  EXPECT_EQ(hex(llvm::cantFail(file->weight(file->defaultAttributes(fast)[0].t())).data), "3031323334353637");
  EXPECT_THAT(llvm::cantFail(summarize(*file)).operators,
              ElementsAre(std::pair<const std::string, int64_t>("Abs", 1),
                          std::pair<const std::string, int64_t>("Neg", 1),
                          std::pair<const std::string, int64_t>("d::f", 1)));
}

TEST_F(Accepted, SummaryCountsNestedCallsByTheirBodies) {
  // g has 2 Abs; f calls g 3 times and has 1 Neg; the graph calls f twice and g once: 14 Abs, 2 Neg.
  auto file =
      open(modelWithGraph("node { op_type: 'f' domain: 'd' } node { op_type: 'f' domain: 'd' } node { op_type: 'g' "
                          "domain: 'd' }",
                          "functions { name: 'f' domain: 'd' node { op_type: 'g' domain: 'd' } node { op_type: 'g' "
                          "domain: 'd' } node { op_type: 'g' domain: 'd' } node { op_type: 'Neg' } } functions { name: "
                          "'g' domain: 'd' node { op_type: 'Abs' } node { op_type: 'Abs' } }"));
  ASSERT_TRUE(file);
  EXPECT_THAT(llvm::cantFail(summarize(*file)).operators, ElementsAre(std::pair<const std::string, int64_t>("Abs", 14),
                                                                      std::pair<const std::string, int64_t>("Neg", 2)));
}

TEST_F(Accepted, SummaryRefusesPortsThatAreNoTensors) {
  auto message = [&](const std::string &type) {
    auto file = open(modelWithGraph("input { name: 'x' type { " + type + " } }"));
    return messageOf(summarize(*file).takeError());
  };
  EXPECT_EQ(message("sequence_type { }"), "model.onnx: input 'x': sequences are not supported");
  EXPECT_EQ(message("optional_type { }"), "model.onnx: input 'x': optionals are not supported");
  EXPECT_EQ(message("map_type { }"), "model.onnx: input 'x': only tensors are supported");
  EXPECT_EQ(message("tensor_type { elem_type: 8 }"), "model.onnx: input 'x': element type string is not supported");
  EXPECT_EQ(message("tensor_type { elem_type: 1 }"), "");
}

} // namespace
} // namespace quadrille::graph
