#include "graph/FuseKernels.h"

#include "graph/DropUnused.h"
#include "graph/KernelQueries.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <map>

namespace quadrille::graph {

namespace {

// Where each loop of a producer stands: an access over the loops of a consumer that reads the producer's result by
// `map`.
using Substitution = std::vector<DimensionAccess>;

std::optional<Substitution> substitutionOf(const Kernel &producer, const AccessMap &map) {
  Substitution substitution(producer.loops.size());
  for (auto [dimension, access] : llvm::enumerate(producer.writes[0].map)) {
    if (access.terms.empty())
      continue;
    if (access.terms.size() != 1 || access.terms[0].second != 1 || access.offset != 0)
      return std::nullopt;
    substitution[access.terms[0].first] = map[dimension];
  }
  return substitution;
}

AccessMap substituted(const AccessMap &map, const Substitution &substitution) {
  AccessMap result;
  for (const DimensionAccess &access : map) {
    DimensionAccess moved;
    moved.offset = access.offset;
    std::map<unsigned, int64_t> terms;
    for (auto [loop, coefficient] : access.terms) {
      moved.offset += coefficient * substitution[loop].offset;
      for (auto [outer, factor] : substitution[loop].terms)
        terms[outer] += coefficient * factor;
    }
    for (auto [loop, coefficient] : terms)
      if (coefficient != 0)
        moved.terms.push_back({loop, coefficient});
    result.push_back(std::move(moved));
  }
  return result;
}

// A structured kernel that only moves elements.
bool isMove(const KernelGraph &graph, const Kernel &kernel) {
  return isElementwise(kernel) && kernel.reads.size() == 1 && !kernel.reads[0].padding && kernel.body.isIdentity() &&
         graph.values[kernel.reads[0].value].type == graph.values[kernel.writes[0].value].type;
}

// Puts `producer` into `consumer`, which reads its result once, as read `at`.
bool compose(const Kernel &producer, Kernel &consumer, size_t at, size_t longestBody) {
  const Read &link = consumer.reads[at];
  if (link.padding || producer.body.instructions.size() + consumer.body.instructions.size() > longestBody)
    return false;
  std::optional<Substitution> substitution = substitutionOf(producer, link.map);
  if (!substitution)
    return false;
  if (readsLoopNumbers(producer))
    return false;

  std::vector<Read> reads;
  std::vector<ElementType> inputs;
  for (auto [r, read] : llvm::enumerate(consumer.reads))
    if (r != at) {
      reads.push_back(read);
      inputs.push_back(consumer.body.inputs[r]);
    }
  size_t firstOfProducer = reads.size();
  for (auto [r, read] : llvm::enumerate(producer.reads)) {
    reads.push_back({read.value, substituted(read.map, *substitution), read.padding});
    inputs.push_back(producer.body.inputs[r]);
  }
  BlockExpression body;
  body.inputs = inputs;
  for (BlockInstruction instruction : producer.body.instructions) {
    if (instruction.opcode == BlockOpcode::Input)
      instruction.immediate += firstOfProducer;
    body.instructions.push_back(instruction);
  }
  Register result = producer.body.results[0];
  std::vector<Register> renamed(consumer.body.instructions.size());
  for (auto [i, original] : llvm::enumerate(consumer.body.instructions)) {
    BlockInstruction instruction = original;
    if (instruction.opcode == BlockOpcode::Input && instruction.immediate == at) {
      renamed[i] = result;
      continue;
    }
    if (instruction.opcode == BlockOpcode::Input && instruction.immediate > at)
      --instruction.immediate;
    for (unsigned o = 0; o < operandCount(instruction.opcode); ++o)
      instruction.operands[o] = renamed[instruction.operands[o]];
    renamed[i] = static_cast<Register>(body.instructions.size());
    body.instructions.push_back(instruction);
  }
  for (Register r : consumer.body.results)
    body.results.push_back(renamed[r]);
  consumer.reads = std::move(reads);
  consumer.body = std::move(body);
  addNodes(consumer, producer.nodes);
  consumer.flops += producer.flops;
  return true;
}

// Reads through the copy that a read of a contraction reads, if the target has the contraction so.
bool absorbProducer(const KernelGraph &graph, llvm::ArrayRef<size_t> producers, Kernel &kernel, Read &read,
                    CanHave canHave) {
  size_t from = producers[read.value];
  std::optional<Read> through = from == ~size_t(0) ? std::nullopt : readThrough(graph, graph.kernels[from], read);
  if (!through)
    return false;
  std::swap(read, *through);
  if (!canHave(graph, kernel)) {
    std::swap(read, *through);
    return false;
  }
  addNodes(kernel, graph.kernels[from].nodes);
  return true;
}

void removeKernels(KernelGraph &graph, const std::vector<bool> &gone) {
  std::vector<Kernel> kept;
  for (auto [kernel, isGone] : llvm::zip(graph.kernels, gone))
    if (!isGone)
      kept.push_back(std::move(kernel));
  graph.kernels = std::move(kept);
}

} // namespace

std::optional<Read> readThrough(const KernelGraph &graph, const Kernel &move, const Read &read) {
  if (read.padding || !isMove(graph, move))
    return std::nullopt;
  std::optional<Substitution> substitution = substitutionOf(move, read.map);
  if (!substitution)
    return std::nullopt;
  return Read{move.reads[0].value, substituted(move.reads[0].map, *substitution), std::nullopt};
}

void fuseElementwise(KernelGraph &graph, size_t longestBody) {
  Uses uses(graph);
  std::vector<size_t> producer(graph.values.size(), ~size_t(0));
  std::vector<bool> gone(graph.kernels.size(), false);
  for (size_t k = 0; k < graph.kernels.size(); ++k) {
    Kernel &kernel = graph.kernels[k];
    if (isElementwise(kernel)) {
      for (size_t r = 0; r < kernel.reads.size();) {
        ValueId value = kernel.reads[r].value;
        size_t from = producer[value];
        if (from == ~size_t(0) || uses.readers[value].size() != 1 ||
            elementCount(graph.values[value].shape) < elementCount(graph.values[kernel.writes[0].value].shape) ||
            !compose(graph.kernels[from], kernel, r, longestBody)) {
          ++r;
          continue;
        }
        gone[from] = true;
        r = 0;
      }
      producer[kernel.writes[0].value] = k;
    }
  }
  removeKernels(graph, gone);
}

void fuseBetweenBytes(KernelGraph &graph, RewriteBody rewrite) {
  constexpr size_t longestBody = 64;
  auto isByte = [&](ValueId value) { return bitWidth(graph.values[value].type) == 8; };
  std::vector<size_t> producer(graph.values.size(), ~size_t(0));
  for (size_t k = 0; k < graph.kernels.size(); ++k) {
    const Kernel &last = graph.kernels[k];
    if (!isElementwise(last))
      continue;
    ValueId result = last.writes[0].value;
    producer[result] = k;
    if (!isByte(result))
      continue;
    Kernel whole = last;
    auto next = [&] { return llvm::find_if(whole.reads, [&](const Read &read) { return !isByte(read.value); }); };
    for (auto read = next(); read != whole.reads.end(); read = next()) {
      size_t from = producer[read->value];
      if (from == ~size_t(0) ||
          elementCount(graph.values[read->value].shape) < elementCount(graph.values[result].shape) ||
          !compose(graph.kernels[from], whole, static_cast<size_t>(read - whole.reads.begin()), longestBody))
        break;
    }
    if (next() != whole.reads.end())
      continue;
    if (std::optional<BlockExpression> body = rewrite(whole.body)) {
      whole.body = std::move(*body);
      graph.kernels[k] = std::move(whole);
    }
  }
  dropUnused(graph); // whose results are read no more
}

void absorbMoves(KernelGraph &graph, CanHave canHave) {
  std::vector<size_t> producers(graph.values.size(), ~size_t(0));
  for (size_t k = 0; k < graph.kernels.size(); ++k) {
    Kernel &kernel = graph.kernels[k];
    if (kernel.kind == KernelKind::Contract)
      for (Read &read : kernel.reads)
        while (absorbProducer(graph, producers, kernel, read, canHave)) {
        }
    for (const Write &write : kernel.writes)
      producers[write.value] = k;
  }
  dropUnused(graph);

  // A permutation of a product's result: the product writes where the permutation would.
  Uses uses(graph);
  std::vector<bool> gone(graph.kernels.size(), false);
  std::fill(producers.begin(), producers.end(), ~size_t(0));
  for (size_t k = 0; k < graph.kernels.size(); ++k) {
    Kernel &move = graph.kernels[k];
    for (const Write &write : move.writes)
      producers[write.value] = k;
    if (!isMove(graph, move))
      continue;
    ValueId value = move.reads[0].value;
    size_t from = producers[value];
    if (from == ~size_t(0) || uses.readers[value].size() != 1 || graph.kernels[from].kind != KernelKind::Contract ||
        elementCount(graph.values[value].shape) != elementCount(graph.values[move.writes[0].value].shape))
      continue;
    Kernel &product = graph.kernels[from];
    // The dimension of the product's result that each loop of the permutation walks.
    std::vector<std::optional<size_t>> walked(move.loops.size());
    bool permutes = true;
    for (auto [d, access] : llvm::enumerate(move.reads[0].map)) {
      if (access.terms.size() > 1 || access.offset != 0)
        permutes = false;
      for (auto [loop, coefficient] : access.terms) {
        permutes &= coefficient == 1 && !walked[loop];
        walked[loop] = d;
      }
    }
    Write write = product.writes[0];
    write.value = move.writes[0].value;
    write.map.clear();
    for (const DimensionAccess &access : move.writes[0].map) {
      bool isLoop = access.terms.size() == 1 && walked[access.terms[0].first];
      permutes &= isLoop || (access.terms.empty() && access.offset == 0) ||
                  (access.terms.size() == 1 && move.loops[access.terms[0].first].extent == 1);
      write.map.push_back(isLoop ? product.writes[0].map[*walked[access.terms[0].first]] : DimensionAccess{});
    }
    if (!permutes)
      continue;
    std::swap(write, product.writes[0]);
    if (!canHave(graph, product)) {
      std::swap(write, product.writes[0]);
      continue;
    }
    addNodes(product, move.nodes);
    producers[move.writes[0].value] = from;
    gone[k] = true;
  }
  removeKernels(graph, gone);
}

} // namespace quadrille::graph
