// Bytes as a .npy image and as a tensor file (.npz or .npy) in memory. What is accepted has as
// many bytes as its shape says.
#include "base/Error.h"
#include "driver/TensorFile.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace quadrille;

static void require(bool condition, const char *what) {
  if (condition)
    return;
  std::fprintf(stderr, "tensor_file_fuzz: %s\n", what);
  std::abort();
}

static void requireWhole(const Tensor &tensor) {
  require(tensor.valid() && tensor.bytes().size() == tensor.byteSize(), "a tensor without its bytes");
  for (int64_t extent : tensor.shape())
    require(extent >= 0, "a negative extent");
  unsigned largest = 0;
  for (std::byte byte : tensor.bytes()) // the address sanitizer watches
    largest = std::max(largest, static_cast<unsigned>(byte));
  require(tensor.type() != ElementType::boolean || largest <= 1, "a truth value that is neither 0 nor 1");
}

static void requireUsersFault(llvm::Error error) {
  require(report(std::move(error)).exitCode == static_cast<int>(Fault::User), "a bad file is not the user's fault");
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::vector<std::byte> bytes(size); // of its own, so that reading past the end is noticed
  if (size != 0)
    std::memcpy(bytes.data(), data, size);
  if (auto tensor = driver::parseNpy(bytes, {"array", ""}))
    requireWhole(*tensor);
  else
    requireUsersFault(tensor.takeError());

  int file = memfd_create("tensors.npz", 0);
  require(file >= 0 && write(file, data, size) == static_cast<ssize_t>(size), "no file in memory");
  if (auto tensors = driver::readTensorFile("/proc/self/fd/" + std::to_string(file)))
    for (const auto &[name, tensor] : *tensors)
      requireWhole(tensor);
  else
    requireUsersFault(tensors.takeError());
  close(file);
  return 0;
}
