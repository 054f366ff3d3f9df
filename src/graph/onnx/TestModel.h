// For tests: models and tensors written as protobuf text, in a folder of their own.
#pragma once

#include "base/Error.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "gtest/gtest.h"

#include <google/protobuf/text_format.h>
#include <onnx/onnx_pb.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace quadrille::graph {

template <typename Message> Message parseText(const std::string &text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

// A serialised model with the given fields of its graph, of IR version 8 and operator set 17.
inline std::string modelWithGraph(const std::string &graph, const std::string &rest = "") {
  return parseText<onnx::ModelProto>("ir_version: 8 opset_import { version: 17 } graph { " + graph + " } " + rest)
      .SerializeAsString();
}

// As bytes in a file; also inner messages, for what text cannot say.
inline std::string lengthDelimited(unsigned field, const std::string &bytes) {
  std::string text;
  auto varint = [&](uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      text += static_cast<char>(value | 0x80);
    text += static_cast<char>(value);
  };
  varint(field << 3 | 2);
  varint(bytes.size());
  return text + bytes;
}

class ScratchFolder : public testing::Test {
protected:
  void SetUp() override {
    llvm::SmallString<128> created;
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("quadrille-onnx", created));
    root = created.str().str();
    folder = root + "/model";
    std::filesystem::create_directory(folder);
  }
  void TearDown() override { std::filesystem::remove_all(root); }

  std::string write(const std::string &name, const std::string &bytes) const {
    std::string path = folder + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  // The message with this test's folder taken out of it.
  std::string messageOf(llvm::Error error) const {
    Reported reported = report(std::move(error));
    EXPECT_EQ(reported.exitCode, reported.message.empty() ? 0 : 2) << reported.message;
    for (size_t at; (at = reported.message.find(folder + "/")) != std::string::npos;)
      reported.message.erase(at, folder.size() + 1);
    return reported.message;
  }

  std::string root, folder; // the folder has a neighbourhood to escape to
};

} // namespace quadrille::graph
