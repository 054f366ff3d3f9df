#include "program/Program.h"

#include "base/Error.h"
#include "base/File.h"
#include "program/Container.h"
#include "program/Rehash.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <fstream>

namespace quadrille::program {
namespace {

using testing::HasSubstr;

std::vector<std::byte> bytesOf(llvm::StringRef text) {
  const auto *data = reinterpret_cast<const std::byte *>(text.data());
  return {data, data + text.size()};
}

// One variable of every role, data in the file, two entry points, a model: every table of the metadata.
Program sample() {
  Program program;
  program.target = "null";
  program.machine = "name: null\n";
  program.compilerRevision = "quadrille test";
  program.precision = "f16";
  program.chips = 2;
  program.replicas = 4;
  program.batch = 3;
  program.model = ModelReference{"m.onnx", 0x0123456789abcdef, {{"N", 3}}, {{"sr", "16000"}}};
  program.nodes = {{"conv1", "Conv"}, {"größe", "Relu"}};
  auto variable = [](const char *name, VariableRole role) {
    Variable variable;
    variable.name = name;
    variable.shape = {2};
    variable.role = role;
    return variable;
  };
  program.variables = {variable("x", VariableRole::Input), variable("y", VariableRole::Output),
                       variable("w", VariableRole::Weight), variable("absent", VariableRole::Weight),
                       variable("s", VariableRole::State)};
  program.variables[2].type = ElementType::i8;
  program.variables[2].shape = {1, 3};
  program.variables[2].data = Tensor::of<int8_t>(ElementType::i8, {1, 3}, {1, -2, 3});
  program.variables[4].data = Tensor::of<float>(ElementType::f32, {2}, {0.5f, -1.0f});
  program.entryPoints = {{"inference", {0}, {1}}, {"update", {0, 4}, {4}}};
  program.setPayload(bytesOf("payload!"));
  return program;
}

std::vector<std::byte> write(const Program &program) {
  llvm::SmallVector<char, 0> buffer;
  llvm::raw_svector_ostream os(buffer);
  llvm::cantFail(program.write(os));
  return bytesOf(os.str());
}

llvm::Expected<Program> read(llvm::ArrayRef<std::byte> bytes) {
  // Operator new aligns to 16 bytes.
  auto copy = std::make_shared<std::vector<std::byte>>(bytes);
  llvm::ArrayRef<std::byte> view = *copy;
  return Program::read(view, std::move(copy), "p.qdl");
}

// Loads and reads all data, as execution would.
llvm::Error readAll(llvm::ArrayRef<std::byte> bytes) {
  auto program = read(bytes);
  if (!program)
    return program.takeError();
  for (uint32_t i = 0; i < program->variables.size(); ++i)
    if (program->hasData(i))
      if (auto data = program->dataOf(i); !data)
        return data.takeError();
  return llvm::Error::success();
}

std::string messageOf(llvm::Error error) {
  return report(std::move(error)).message;
}

class ProgramFiles : public testing::Test {
protected:
  void SetUp() override {
    llvm::SmallString<128> name;
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("quadrille-program", name));
    directory = name.str().str();
  }
  void TearDown() override { std::filesystem::remove_all(directory); }
  std::string path(const std::string &name) const { return directory + "/" + name; }
  std::string directory;
};

// That `after` is what sample() was, of which a file of version 1 has one replica.
void expectSample(Program &after, int64_t replicas = 4) {
  Program before = sample();
  EXPECT_EQ(after.target, before.target);
  EXPECT_EQ(after.machine, before.machine);
  EXPECT_EQ(after.compilerRevision, before.compilerRevision);
  EXPECT_EQ(after.precision, "f16");
  EXPECT_EQ(after.chips, 2);
  EXPECT_EQ(after.replicas, replicas);
  EXPECT_EQ(after.batch, 3);
  ASSERT_TRUE(after.model);
  EXPECT_EQ(after.model->path, "m.onnx");
  EXPECT_EQ(after.model->hash, 0x0123456789abcdefu);
  EXPECT_EQ(after.model->dimensions, before.model->dimensions);
  EXPECT_EQ(after.model->bindings, before.model->bindings);
  ASSERT_EQ(after.nodes.size(), 2u);
  EXPECT_EQ(after.nodes[1].name, "größe");
  EXPECT_EQ(after.nodes[1].operation, "Relu");
  ASSERT_EQ(after.variables.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(after.variables[i].name, before.variables[i].name);
    EXPECT_EQ(after.variables[i].type, before.variables[i].type);
    EXPECT_EQ(after.variables[i].shape, before.variables[i].shape);
    EXPECT_EQ(after.variables[i].role, before.variables[i].role);
    EXPECT_EQ(after.hasData(i), before.hasData(i));
  }
  EXPECT_EQ(llvm::cantFail(after.dataOf(2)).data<int8_t>()[1], -2);
  EXPECT_EQ(llvm::cantFail(after.dataOf(4)).data<float>()[0], 0.5f);
  EXPECT_THAT(messageOf(after.dataOf(3).takeError()), HasSubstr("variable 'absent': its data is absent"));
  ASSERT_EQ(after.entryPoints.size(), 2u);
  EXPECT_EQ(after.entryPoints[1].name, "update");
  EXPECT_EQ(after.entryPoints[1].inputs, (std::vector<uint32_t>{0, 4}));
  EXPECT_EQ(after.payload().vec(), bytesOf("payload!"));
}

TEST(Program, RoundTrip) {
  auto after = read(write(sample()));
  ASSERT_TRUE(bool(after)) << messageOf(after.takeError());
  expectSample(*after);
}

// Written by each version of the format and never written again: whatever is released since must load them.
TEST(Program, FrozenFilesOfAllVersionsStayLoadable) {
  for (auto [file, replicas] : {std::pair("v1.qdl", 1), std::pair("v2.qdl", 4)}) {
    auto program = Program::load(QUADRILLE_SOURCE_DIR "/src/program/testdata/" + std::string(file));
    ASSERT_TRUE(bool(program)) << messageOf(program.takeError());
    expectSample(*program, replicas);
  }
}

// Sets the header's version, with the hashes made right.
std::string messageOfVersion(uint8_t version) {
  std::vector<std::byte> bytes = write(sample());
  bytes[4] = std::byte(version);
  rehash(bytes);
  return messageOf(readAll(bytes));
}

TEST(Program, AVersionHasNoFieldsOfLaterOnes) {
  EXPECT_EQ(messageOfVersion(1), "p.qdl: section 'metadata': corrupted: format version 1 has no replicas");
}

TEST(Program, EqualProgramsGiveEqualBytes) {
  std::vector<std::byte> first = write(sample());
  EXPECT_EQ(first, write(sample()));
  EXPECT_EQ(first, write(llvm::cantFail(read(first))));
}

TEST(Program, LayoutIsAsDocumented) {
  // docs/program-format.md: sections at multiples of 4096, the table behind the last one at a multiple of 64.
  std::vector<std::byte> bytes = write(sample());
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  EXPECT_EQ(std::string(header.magic, 4), "QDL1");
  EXPECT_EQ(header.version, 2u);
  EXPECT_EQ(header.sectionCount, 4u);
  // Metadata below 4096 bytes, so the payload is at 8192, then 3 bytes of i8 and 8 bytes of f32.
  EXPECT_EQ(header.tableOffset, 4u * 4096 + 64);
  EXPECT_EQ(header.fileSize, bytes.size());
  EXPECT_EQ(std::string(reinterpret_cast<const char *>(bytes.data()) + 8192, 8), "payload!");
  EXPECT_EQ(std::to_integer<int8_t>(bytes[3 * 4096 + 1]), -2);
}

TEST(Program, EveryChangedByteIsNoticed) {
  std::vector<std::byte> bytes = write(sample());
  for (size_t i = 0; i < bytes.size(); ++i)
    for (uint8_t flip : {0x01, 0x80, 0xff}) {
      std::vector<std::byte> damaged = bytes;
      damaged[i] ^= std::byte(flip);
      llvm::Error error = readAll(damaged);
      ASSERT_TRUE(bool(error)) << "byte " << i;
      EXPECT_THAT(messageOf(std::move(error)), HasSubstr("p.qdl: ")) << "byte " << i;
    }
}

TEST(Program, EveryTruncationIsNoticed) {
  std::vector<std::byte> bytes = write(sample());
  for (size_t length = 0; length < bytes.size(); ++length) {
    llvm::Error error = readAll(llvm::ArrayRef(bytes).take_front(length));
    EXPECT_THAT(messageOf(std::move(error)), HasSubstr(length < 4 ? "not a Quadrille program" : "truncated: "));
  }
  bytes.push_back(std::byte(0));
  EXPECT_THAT(messageOf(readAll(bytes)), HasSubstr("too long: "));
}

TEST(Program, DamageBehindTheHashesDoesNotCrash) {
  // With the hashes made right again every change reaches the code that reads the fields. It may load or not.
  std::vector<std::byte> bytes = write(sample());
  int accepted = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (uint8_t value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::vector<std::byte> damaged = bytes;
      damaged[i] = std::byte(value);
      rehash(damaged);
      llvm::Error error = readAll(damaged);
      accepted += !error;
      llvm::consumeError(std::move(error));
    }
  // Among others the unchanged bytes are accepted.
  EXPECT_GT(accepted, static_cast<int>(bytes.size()) / 2);
}

TEST(Program, VersionMismatchSaysWhatToDo) {
  EXPECT_EQ(messageOfVersion(3), "p.qdl: header: program format version 3, this version of Quadrille reads 1 to 2; use "
                                 "a newer Quadrille, or compile the model again");
  EXPECT_EQ(messageOfVersion(0),
            "p.qdl: header: program format version 0, this version of Quadrille reads 1 to 2; compile the model again");
}

// Changes a table entry and makes the hashes right.
std::string messageWithEntry(uint32_t index, llvm::function_ref<void(SectionEntry &)> change) {
  std::vector<std::byte> bytes = write(sample());
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  SectionEntry entry;
  std::byte *place = bytes.data() + header.tableOffset + index * sizeof(entry);
  std::memcpy(&entry, place, sizeof(entry));
  change(entry);
  std::memcpy(place, &entry, sizeof(entry));
  rehash(bytes);
  return messageOf(readAll(bytes));
}

TEST(Program, LyingTableEntriesAreNamed) {
  EXPECT_THAT(messageWithEntry(1, [](SectionEntry &entry) { entry.size = ~uint64_t(0); }),
              HasSubstr("p.qdl: section 1 'payload': corrupted: 18446744073709551615 bytes at offset 8192"));
  EXPECT_THAT(messageWithEntry(1, [](SectionEntry &entry) { entry.offset = uint64_t(1) << 63; }),
              HasSubstr("reach beyond the section table"));
  EXPECT_THAT(messageWithEntry(2, [](SectionEntry &entry) { entry.offset = 8192; }), HasSubstr("overlaps"));
  EXPECT_THAT(messageWithEntry(2, [](SectionEntry &entry) { entry.offset += 1; }), HasSubstr("not a multiple of 4096"));
  EXPECT_THAT(messageWithEntry(2, [](SectionEntry &entry) { entry.kind = 1; }), HasSubstr("kind 1, expected 3"));
  EXPECT_THAT(messageWithEntry(2, [](SectionEntry &entry) { entry.size += 1; }),
              HasSubstr("variable 'w': is i8[1,3] but section 'data 2' has 4 bytes"));
  EXPECT_THAT(messageWithEntry(0, [](SectionEntry &entry) { entry.size = 3; }), HasSubstr("non-zero padding"));
}

TEST(Program, MalformedProgramsAreNotWritten) {
  auto problem = [](llvm::function_ref<void(Program &)> change) {
    Program program = sample();
    change(program);
    llvm::raw_null_ostream os;
    return messageOf(program.write(os));
  };
  EXPECT_THAT(problem([](Program &p) { p.entryPoints[0].inputs[0] = 5; }), HasSubstr("input is variable 5 of 5"));
  EXPECT_THAT(problem([](Program &p) { p.entryPoints[0].inputs[0] = 1; }),
              HasSubstr("'y' is a variable of another role"));
  EXPECT_THAT(problem([](Program &p) { p.entryPoints[1].name = "inference"; }), HasSubstr("'inference' occurs twice"));
  EXPECT_THAT(problem([](Program &p) { p.variables[3].name = "w"; }), HasSubstr("variable 'w' occurs twice"));
  EXPECT_THAT(problem([](Program &p) { p.variables[0].shape = {-1}; }), HasSubstr("negative extent"));
  EXPECT_THAT(problem([](Program &p) { p.variables[0].shape = {int64_t(1) << 40, int64_t(1) << 40}; }),
              HasSubstr("too large"));
  EXPECT_THAT(problem([](Program &p) { p.variables[2].shape = {4}; }), HasSubstr("is i8[4] but its data is i8[1,3]"));
  EXPECT_THAT(problem([](Program &p) { p.replicas = 0; }), HasSubstr("the number of replicas"));
  EXPECT_THAT(problem([](Program &p) { p.nodes[0].name = "\xff"; }), HasSubstr("not UTF-8"));
}

TEST_F(ProgramFiles, SaveIsAtomicAndLoadMaps) {
  ASSERT_FALSE(sample().save(path("p.qdl")));
  Program broken = sample();
  broken.target.clear();
  EXPECT_TRUE(errorToBool(broken.save(path("p.qdl"))));
  auto program = Program::load(path("p.qdl"));
  ASSERT_TRUE(bool(program));
  EXPECT_EQ(program->target, "null");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);
}

class ExternalData : public ProgramFiles {
protected:
  void SetUp() override {
    ProgramFiles::SetUp();
    std::filesystem::create_directories(path("models/weights"));
    std::ofstream(path("models/weights/m.bin")) << "....12345678....";
    program = sample();
    program.variables[3].type = ElementType::u8;
    program.variables[3].shape = {8};
    program.variables[3].external = Variable::External{path("models/weights/m.bin"), 4, 8, {}};
  }
  static std::string textOf(llvm::Expected<Tensor> tensor) {
    if (!tensor)
      return messageOf(tensor.takeError());
    return {tensor->data<char>(), tensor->byteSize()};
  }
  Program program;
};

TEST_F(ExternalData, IsReferredToBelowTheProgram) {
  EXPECT_EQ(textOf(program.dataOf(3)), "12345678");
  ASSERT_FALSE(program.save(path("models/p.qdl")));
  Program loaded = llvm::cantFail(Program::load(path("models/p.qdl")));
  ASSERT_TRUE(loaded.variables[3].external);
  EXPECT_EQ(loaded.variables[3].external->path, path("models/weights/m.bin"));
  EXPECT_EQ(textOf(loaded.dataOf(3)), "12345678");
  // The folder moves as a whole.
  std::filesystem::rename(path("models"), path("moved"));
  EXPECT_EQ(textOf(llvm::cantFail(Program::load(path("moved/p.qdl"))).dataOf(3)), "12345678");
}

TEST_F(ExternalData, IsStoredWhenItLiesElsewhere) {
  std::filesystem::create_directory(path("other"));
  ASSERT_FALSE(program.save(path("other/p.qdl")));
  Program loaded = llvm::cantFail(Program::load(path("other/p.qdl")));
  EXPECT_FALSE(loaded.variables[3].external);
  EXPECT_EQ(textOf(loaded.dataOf(3)), "12345678");
}

TEST_F(ExternalData, IsStoredWhenTheFileNoLongerHoldsIt) {
  program.variables[3].data = Tensor::of<uint8_t>(ElementType::u8, {8}, {1, 2, 3, 4, 5, 6, 7, 8});
  ASSERT_FALSE(program.save(path("models/p.qdl")));
  EXPECT_FALSE(llvm::cantFail(Program::load(path("models/p.qdl"))).variables[3].external);
}

TEST_F(ExternalData, LoadedProgramSavedElsewhereKeepsItsData) {
  ASSERT_FALSE(program.save(path("models/p.qdl")));
  Program loaded = llvm::cantFail(Program::load(path("models/p.qdl")));
  ASSERT_FALSE(loaded.save(path("p.qdl")));
  Program again = llvm::cantFail(Program::load(path("p.qdl")));
  EXPECT_EQ(again.variables[3].external->path, path("models/weights/m.bin"));
  EXPECT_EQ(textOf(again.dataOf(3)), "12345678");
}

TEST_F(ExternalData, LoadingNeedsNoFileButUseNotices) {
  ASSERT_FALSE(program.save(path("models/p.qdl")));
  std::ofstream(path("models/weights/m.bin")) << "....1234567x....";
  Program changed = llvm::cantFail(Program::load(path("models/p.qdl")));
  EXPECT_TRUE(changed.hasData(3));
  EXPECT_THAT(textOf(changed.dataOf(3)), HasSubstr("its hash differs"));
  std::ofstream(path("models/weights/m.bin")) << "short";
  EXPECT_THAT(textOf(changed.dataOf(3)), HasSubstr("has 5 bytes, but 8 bytes at offset 4"));
  std::filesystem::remove(path("models/weights/m.bin"));
  EXPECT_THAT(textOf(changed.dataOf(3)), HasSubstr("which is missing"));
}

// A program as a stranger would write it: the reference leads out of its folder.
TEST_F(ExternalData, OutsideTheFolderNeedsPermission) {
  ASSERT_FALSE(program.save(path("models/p.qdl")));
  std::filesystem::create_directory(path("models/inner"));
  std::filesystem::rename(path("models/p.qdl"), path("models/inner/p.qdl"));
  std::filesystem::create_directory(path("models/inner/weights"));
  std::filesystem::create_symlink(path("models/weights/m.bin"), path("models/inner/weights/m.bin"));
  Program strict = llvm::cantFail(Program::load(path("models/inner/p.qdl")));
  EXPECT_THAT(textOf(strict.dataOf(3)), HasSubstr("outside the program's folder, which is not allowed"));
  Program permitted = llvm::cantFail(Program::load(path("models/inner/p.qdl"), ExternalFiles::Anywhere));
  EXPECT_EQ(textOf(permitted.dataOf(3)), "12345678");
}

} // namespace
} // namespace quadrille::program
