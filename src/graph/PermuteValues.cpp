#include "graph/PermuteValues.h"

#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <cassert>
#include <cstring>

namespace quadrille::graph {

namespace {

template <typename T> std::vector<T> permuted(const std::vector<T> &list, const Permutation &permutation) {
  std::vector<T> result;
  for (unsigned from : permutation)
    result.push_back(list[from]);
  return result;
}

Tensor permuted(const Tensor &tensor, const Permutation &permutation) {
  Shape shape = permuted(tensor.shape(), permutation), strides = permuted(rowMajorStrides(tensor.shape()), permutation);
  Tensor result = Tensor::uninitialized(tensor.type(), shape);
  size_t width = byteWidth(tensor.type());
  std::vector<int64_t> index(shape.size());
  const std::byte *from = tensor.bytes().data();
  std::byte *to = result.mutableBytes();
  for (int64_t element = 0, offset = 0, count = tensor.elements(); element < count; ++element, to += width) {
    std::memcpy(to, from + static_cast<size_t>(offset) * width, width);
    for (size_t d = shape.size(); d-- > 0;) {
      offset += strides[d];
      if (++index[d] < shape[d])
        break;
      offset -= shape[d] * strides[d];
      index[d] = 0;
    }
  }
  return result;
}

} // namespace

bool canPermute(const Kernel &kernel) {
  return kernel.structured() || kernel.operation == "concat" || kernel.operation == "insert_slice";
}

void permuteValues(KernelGraph &graph, llvm::ArrayRef<Permutation> permutations) {
  auto permute = [&](ValueId value, AccessMap &map) {
    if (!permutations[value].empty())
      map = permuted(map, permutations[value]);
  };
  for (Kernel &kernel : graph.kernels) {
    if (kernel.structured()) {
      for (Read &read : kernel.reads)
        permute(read.value, read.map);
      for (Write &write : kernel.writes) {
        permute(write.value, write.map);
        if (write.initial)
          permute(write.initial->value, write.initial->map);
      }
      continue;
    }
    const Permutation &permutation = permutations[kernel.writes[0].value];
    if (permutation.empty() || isReshape(kernel))
      continue;
    assert(canPermute(kernel) && "a kernel whose values cannot be permuted");
    for (auto &[name, attribute] : kernel.attributes)
      if (auto *list = std::get_if<std::vector<int64_t>>(&attribute))
        *list = permuted(*list, permutation);
      else if (auto *axis = std::get_if<int64_t>(&attribute); axis && name == "axis")
        *axis = llvm::find(permutation, static_cast<unsigned>(*axis)) - permutation.begin();
  }
  for (auto [value, permutation] : llvm::zip(graph.values, permutations)) {
    if (permutation.empty())
      continue;
    if (value.data.valid()) {
      value.data = permuted(value.data, permutation);
      value.origin.reset();
    }
    value.shape = permuted(value.shape, permutation);
  }
}

} // namespace quadrille::graph
