#include "driver/TensorFile.h"

#include "base/Error.h"

#include "gtest/gtest.h"

#include <filesystem>
#include <fstream>

namespace quadrille::driver {
namespace {

std::string npy(const std::string &dictionary, const std::string &data) {
  std::string header = dictionary + "\n";
  return std::string("\x93NUMPY\x01\x00", 8) + char(header.size() & 0xff) + char(header.size() >> 8) + header + data;
}

llvm::Expected<Tensor> parse(const std::string &image) {
  return parseNpy({reinterpret_cast<const std::byte *>(image.data()), image.size()}, {"a.npy", ""});
}

std::string messageOf(const std::string &image) {
  return report(parse(image).takeError()).message;
}

TEST(TensorFile, ColumnMajorArraysBecomeRowMajor) {
  // numpy.asfortranarray([[0, 1, 2], [3, 4, 5]], dtype=int8) lies in memory as 0 3 1 4 2 5.
  auto tensor =
      parse(npy("{'descr': '|i1', 'fortran_order': True, 'shape': (2, 3), }", std::string("\0\3\1\4\2\5", 6)));
  ASSERT_TRUE(bool(tensor));
  EXPECT_EQ(tensor->shape(), (Shape{2, 3}));
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(tensor->data<int8_t>()[i], i);
}

TEST(TensorFile, DamagedArraysAreRefused) {
  EXPECT_EQ(messageOf("nothing"),
            "a.npy: not a readable NumPy array: no NumPy header; write it with numpy.save or numpy.savez");
  EXPECT_EQ(messageOf(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "1234")),
            "a.npy: not a readable NumPy array: the shape (2,) needs 8 bytes, found 4; write it with numpy.save or "
            "numpy.savez");
  EXPECT_EQ(messageOf(npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", "")),
            "a.npy: not a readable NumPy array: Python objects ('|O') are not numbers; convert them with "
            "x.astype(numpy.float32)");
  EXPECT_EQ(messageOf(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (), }", "1234")),
            "a.npy: not a readable NumPy array: big-endian numbers ('>f4') are not supported; convert them with "
            "x.astype(x.dtype.newbyteorder('<'))");
  EXPECT_EQ(messageOf(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", "")),
            "a.npy: not a readable NumPy array: bad shape (4294967296, 4294967296); write it with numpy.save or "
            "numpy.savez");
}

TEST(TensorFile, ExtentsBesideZeroAreExaminedToo) {
  // 2^64 - 1 would be an extent of -1.
  EXPECT_EQ(messageOf(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 18446744073709551615), }", "")),
            "a.npy: not a readable NumPy array: bad shape (0, 18446744073709551615); write it with numpy.save or "
            "numpy.savez");
}

TEST(TensorFile, TruthIsOne) {
  for (const char *order : {"False", "True"}) {
    auto tensor = parse(npy(std::string("{'descr': '|b1', 'fortran_order': ") + order + ", 'shape': (4,), }",
                            std::string("\0\1\7\xff", 4)));
    ASSERT_TRUE(bool(tensor));
    EXPECT_EQ(tensor->bytes(), (llvm::ArrayRef<std::byte>{std::byte(0), std::byte(1), std::byte(1), std::byte(1)}));
  }
}

TEST(TensorFile, WrittenArchiveReadsBackAndIsTheSameEveryTime) {
  std::string directory = testing::TempDir() + "/quadrille-npz";
  std::filesystem::create_directories(directory);
  NamedTensors tensors;
  tensors.emplace("x", Tensor::of<float>(ElementType::f32, {2, 2}, {1, -2, 3.5, 0}));
  tensors.emplace("scalar", Tensor::of<int64_t>(ElementType::i64, {}, {7}));
  ASSERT_FALSE(writeTensorFile(directory + "/a.npz", tensors));
  ASSERT_FALSE(writeTensorFile(directory + "/b.npz", tensors));
  auto bytes = [](const std::string &path) {
    std::ifstream stream(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  EXPECT_EQ(bytes(directory + "/a.npz"), bytes(directory + "/b.npz"));
  auto read = readTensorFile(directory + "/a.npz");
  ASSERT_TRUE(bool(read));
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ(read->at("x").shape(), (Shape{2, 2}));
  EXPECT_EQ(read->at("x").data<float>()[2], 3.5f);
  EXPECT_EQ(read->at("scalar").data<int64_t>()[0], 7);

  // Any truncation is an error, never a crash or a partial result.
  std::string whole = bytes(directory + "/a.npz");
  for (size_t size = 0; size < whole.size(); size += 13) {
    std::ofstream(directory + "/cut.npz", std::ios::binary) << whole.substr(0, size);
    EXPECT_EQ(report(readTensorFile(directory + "/cut.npz").takeError()).exitCode, 2) << size;
  }
  std::filesystem::remove_all(directory);
}

} // namespace
} // namespace quadrille::driver
