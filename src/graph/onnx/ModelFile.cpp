#include "graph/onnx/ModelFile.h"

#include "base/Error.h"
#include "base/File.h"
#include "graph/onnx/DataType.h"
#include "graph/onnx/FunctionTable.h"
#include "graph/onnx/StripTensors.h"
#include "graph/onnx/TensorReader.h"
#include "graph/onnx/Validate.h"

#include "llvm/ADT/Twine.h"

#include <onnx/onnx-data_pb.h>
#include <onnx/onnx_pb.h>

namespace quadrille::graph {

struct ModelFile::Functions {
  FunctionTable table;
};

ModelFile::ModelFile() = default;
ModelFile::~ModelFile() = default;

// Strips and parses one message.
template <typename Message> static llvm::Expected<std::unique_ptr<Message>> parse(llvm::ArrayRef<std::byte> bytes) {
  llvm::Expected<std::string> stripped = stripTensors(bytes, *Message::descriptor());
  if (!stripped)
    return stripped.takeError();
  auto message = std::make_unique<Message>();
  if (!message->ParseFromArray(stripped->data(), static_cast<int>(stripped->size())))
    return userError("malformed protobuf");
  return message;
}

template <typename Message, typename Accept> static bool holds(llvm::ArrayRef<std::byte> bytes, Accept accept) {
  llvm::Expected<std::unique_ptr<Message>> message = parse<Message>(bytes);
  if (message)
    return accept(**message);
  llvm::consumeError(message.takeError());
  return false;
}

static bool holdsTensor(llvm::ArrayRef<std::byte> bytes) {
  return holds<onnx::TensorProto>(bytes, [](const onnx::TensorProto &tensor) {
    llvm::Expected<ElementType> type = elementTypeOfCode(tensor.data_type());
    bool known = bool(type);
    llvm::consumeError(type.takeError());
    return known;
  });
}

static bool holdsModel(llvm::ArrayRef<std::byte> bytes) {
  return holds<onnx::ModelProto>(bytes, [](const onnx::ModelProto &model) { return model.has_graph(); });
}

// OptionalProto has the same fields under other names.
static bool holdsSequence(llvm::ArrayRef<std::byte> bytes) {
  return holds<onnx::SequenceProto>(bytes, [](const onnx::SequenceProto &sequence) {
    return sequence.has_elem_type() && sequence.unknown_fields().empty();
  });
}

llvm::Expected<std::unique_ptr<const ModelFile>>
ModelFile::read(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner, llvm::StringRef path) {
  Where where = {path.str(), ""};
  if (bytes.empty())
    return userError("the file is empty", where);
  llvm::Expected<std::unique_ptr<onnx::ModelProto>> proto = parse<onnx::ModelProto>(bytes);
  if (!proto || !(*proto)->has_graph()) {
    llvm::Error error = proto ? userError("the model has no graph", where) : inFile(proto.takeError(), path);
    if (holdsTensor(bytes)) {
      llvm::consumeError(std::move(error));
      return userError("the file holds a tensor, not a model", where);
    }
    return llvm::handleErrors(std::move(error), [](std::unique_ptr<Failure> failure) -> llvm::Error {
      failure->message = "not an ONNX model: " + failure->message;
      return llvm::Error(std::move(failure));
    });
  }

  std::unique_ptr<ModelFile> file(new ModelFile());
  file->filePath = path.str();
  file->proto = std::move(*proto);
  file->reader = std::make_unique<TensorReader>(bytes, std::move(owner), path);
  if (llvm::Error error = validateVersions(*file->proto))
    return inFile(std::move(error), path);
  if (llvm::Error error = nameNodes(*file->proto))
    return inFile(std::move(error), path);
  llvm::Expected<FunctionTable> table = FunctionTable::build(*file->proto);
  if (!table)
    return inFile(table.takeError(), path);
  file->functions.reset(new Functions{std::move(*table)});
  if (llvm::Error error = validateGraphs(*file->proto))
    return inFile(std::move(error), path);
  return file;
}

llvm::Expected<std::unique_ptr<const ModelFile>> ModelFile::open(llvm::StringRef path) {
  llvm::Expected<std::shared_ptr<const MappedFile>> map = MappedFile::open(path);
  if (!map)
    return map.takeError();
  return read((*map)->bytes(), *map, path);
}

template <typename Sets> static int64_t versionIn(const Sets &sets, llvm::StringRef domain) {
  for (const onnx::OperatorSetIdProto &set : sets)
    if (canonicalDomain(set.domain()) == canonicalDomain(domain))
      return set.version();
  return 0;
}

int64_t ModelFile::opset(llvm::StringRef domain) const {
  return versionIn(proto->opset_import(), domain);
}

int64_t ModelFile::opset(const onnx::FunctionProto &function, llvm::StringRef domain) const {
  int64_t version = versionIn(function.opset_import(), domain);
  return version ? version : opset(domain);
}

llvm::Expected<WeightData> ModelFile::weight(const onnx::TensorProto &tensor) const {
  return reader->read(tensor);
}

const onnx::FunctionProto *ModelFile::function(const onnx::NodeProto &node) const {
  return functions->table.find(node);
}

const std::vector<onnx::AttributeProto> &ModelFile::defaultAttributes(const onnx::FunctionProto &function) const {
  return functions->table.defaults(function);
}

llvm::Expected<NamedTensor> readTensorFile(llvm::StringRef path) {
  llvm::Expected<std::shared_ptr<const MappedFile>> map = MappedFile::open(path);
  if (!map)
    return map.takeError();
  return readTensor((*map)->bytes(), *map, path);
}

llvm::Expected<NamedTensor> readTensor(llvm::ArrayRef<std::byte> bytes, std::shared_ptr<const void> owner,
                                       llvm::StringRef path) {
  Where where = {path.str(), ""};
  if (bytes.empty())
    return userError("the file is empty", where);
  auto refuse = [&](llvm::Error error) -> llvm::Error {
    const char *instead = holdsModel(bytes)      ? "the file holds a model, not a tensor"
                          : holdsSequence(bytes) ? "the file holds a sequence or an optional, which are not supported"
                                                 : nullptr;
    if (!instead)
      return inFile(std::move(error), path);
    llvm::consumeError(std::move(error));
    return userError(instead, where);
  };
  llvm::Expected<std::unique_ptr<onnx::TensorProto>> proto = parse<onnx::TensorProto>(bytes);
  if (!proto)
    return refuse(proto.takeError());
  llvm::Expected<WeightData> data = TensorReader(bytes, std::move(owner), path).read(**proto);
  if (!data)
    return refuse(data.takeError());
  if (data->absent())
    return refuse(userError(data->absence, where));
  return NamedTensor{data->name, data->data};
}

} // namespace quadrille::graph
