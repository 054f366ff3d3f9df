#include "graph/ShareConstants.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/xxhash.h"

#include <map>
#include <tuple>

namespace quadrille::graph {

void shareConstants(KernelGraph &graph) {
  // Bytes are only looked at where another constant has the same type and shape.
  std::map<std::pair<ElementType, Shape>, std::vector<ValueId>> alike;
  for (auto [id, value] : llvm::enumerate(graph.values))
    if (value.role == ValueRole::Constant && value.data.valid())
      alike[{value.type, value.shape}].push_back(static_cast<ValueId>(id));
  std::map<ValueId, ValueId> first;
  for (const auto &[key, ids] : alike) {
    std::map<uint64_t, std::vector<ValueId>> byHash;
    for (ValueId id : ids) {
      if (ids.size() == 1)
        break;
      llvm::ArrayRef<std::byte> bytes = graph.values[id].data.bytes();
      std::vector<ValueId> &known =
          byHash[llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()))];
      auto same = llvm::find_if(known, [&](ValueId other) { return graph.values[other].data.bytes() == bytes; });
      if (same == known.end())
        known.push_back(id);
      else
        first[id] = *same;
    }
  }
  auto share = [&](ValueId &id) {
    if (auto known = first.find(id); known != first.end())
      id = known->second;
  };
  for (Kernel &kernel : graph.kernels) {
    for (Read &read : kernel.reads)
      share(read.value);
    for (Write &write : kernel.writes)
      if (write.initial)
        share(write.initial->value);
  }
  llvm::for_each(graph.outputs, share);
}

} // namespace quadrille::graph
