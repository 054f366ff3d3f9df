#include "base/File.h"

#include "base/Error.h"
#include "base/Parallel.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace quadrille {
namespace {

class FileTest : public testing::Test {
protected:
  void SetUp() override {
    llvm::SmallString<128> name;
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("quadrille-file", name));
    directory = name.str().str();
  }
  void TearDown() override { std::filesystem::remove_all(directory); }
  std::string path(const char *name) const { return directory + "/" + name; }
  size_t entries() const {
    return std::distance(std::filesystem::directory_iterator(directory), std::filesystem::directory_iterator());
  }
  std::string directory;
};

TEST_F(FileTest, WrittenFileIsMappedBack) {
  ASSERT_FALSE(writeFileAtomically(path("a"), [](llvm::raw_pwrite_stream &os) {
    os << "hello";
    return llvm::Error::success();
  }));
  auto file = MappedFile::open(path("a"));
  ASSERT_TRUE(bool(file));
  EXPECT_EQ((*file)->text(), "hello");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, FailureLeavesTheOldFileAndNoTemporary) {
  std::ofstream(path("a")) << "old";
  llvm::Error error = writeFileAtomically(path("a"), [](llvm::raw_pwrite_stream &os) {
    os << "new";
    return userError("stop");
  });
  EXPECT_EQ(report(std::move(error)).message, "stop");
  auto file = MappedFile::open(path("a"));
  ASSERT_TRUE(bool(file));
  EXPECT_EQ((*file)->text(), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, MissingDirectoryAndSpecialFilesAreUserErrors) {
  EXPECT_EQ(report(MappedFile::open(path("missing")).takeError()).exitCode, 2);
  EXPECT_EQ(report(MappedFile::open(directory).takeError()).message, directory + ": not a regular file");
  EXPECT_EQ(report(MappedFile::open("/dev/zero").takeError()).exitCode, 2);
}

// Renaming a file onto a device would replace it for everybody.
TEST_F(FileTest, DevicesPipesAndLinksAreWrittenNotReplaced) {
  auto hello = [](llvm::raw_pwrite_stream &os) {
    os << "hello";
    return llvm::Error::success();
  };
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(report(writeFileAtomically(path("pipe"), hello)).exitCode, 2); // nobody reads
  int reader = open(path("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_FALSE(writeFileAtomically(path("pipe"), hello));
  char bytes[8] = {};
  EXPECT_EQ(read(reader, bytes, sizeof(bytes)), 5);
  EXPECT_STREQ(bytes, "hello");
  close(reader);
  EXPECT_TRUE(std::filesystem::is_fifo(path("pipe")));

  std::ofstream(path("file")) << "old";
  std::filesystem::create_symlink("file", path("link"));
  ASSERT_FALSE(writeFileAtomically(path("link"), hello));
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
  EXPECT_EQ((*MappedFile::open(path("file")))->text(), "hello");

  EXPECT_EQ(report(writeFileAtomically(directory, hello)).exitCode, 2);
}

TEST_F(FileTest, EmptyFileMaps) {
  std::ofstream(path("empty")).flush();
  auto file = MappedFile::open(path("empty"));
  ASSERT_TRUE(bool(file));
  EXPECT_TRUE((*file)->bytes().empty());
}

TEST(Parallel, EveryItemOnceAndNestedCallsRun) {
  std::vector<int> visits(1000, 0);
  parallelFor(1000, 7, [&](int64_t begin, int64_t end) {
    EXPECT_LE(end - begin, 7);
    parallelFor(end - begin, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        ++visits[begin + i];
    });
  });
  EXPECT_EQ(std::count(visits.begin(), visits.end(), 1), 1000);
}

} // namespace
} // namespace quadrille
