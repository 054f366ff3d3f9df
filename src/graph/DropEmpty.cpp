#include "graph/DropEmpty.h"

#include "graph/KernelQueries.h"
#include "graph/KernelRewriter.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {

class EmptyDropper {
public:
  explicit EmptyDropper(KernelRewriter &rewriter) : rewriter(rewriter) {}

  void run(Kernel kernel) {
    if (llvm::all_of(kernel.writes, [&](const Write &write) { return isEmpty(write.value); }))
      return;
    rewriter.replaced = &kernel;
    if (kernel.structured())
      structured(kernel);
    else
      plain(std::move(kernel));
  }

private:
  bool isEmpty(ValueId id) const { return elementCount(rewriter.shapeOf(id)) == 0; }

  void structured(const Kernel &kernel) {
    bool noPoints = hasNoPoints(kernel.loops);
    if (!noPoints && llvm::none_of(kernel.reads, [&](const Read &read) { return isEmpty(read.value); })) {
      rewriter.kernels.push_back(kernel);
      return;
    }
    if (noPoints) { // the reductions have none
      for (const Write &write : kernel.writes)
        initial(write);
      return;
    }
    // Of values without elements there is only padding.
    BlockExpression body;
    std::vector<Read> reads;
    std::vector<Register> inputs;
    for (const Read &read : kernel.reads) {
      inputs.push_back(static_cast<Register>(reads.size()));
      if (isEmpty(read.value))
        continue;
      reads.push_back(read);
      body.inputs.push_back(rewriter.typeOf(read.value));
    }
    for (BlockInstruction instruction : kernel.body.instructions) {
      if (instruction.opcode == BlockOpcode::Input) {
        const Read &read = kernel.reads[instruction.immediate];
        if (isEmpty(read.value)) {
          instruction.opcode = BlockOpcode::Constant;
          instruction.immediate = read.padding->bits;
        } else {
          instruction.immediate = inputs[instruction.immediate];
        }
      }
      body.instructions.push_back(instruction);
    }
    body.results = kernel.body.results;
    rewriter.structured(kernel.loops, std::move(reads), kernel.writes, std::move(body));
  }

  void initial(const Write &from) {
    const Kernel &kernel = *rewriter.replaced;
    std::vector<Loop> nest;
    std::vector<unsigned> place(kernel.loops.size());
    for (auto [loop, number] : llvm::zip(kernel.loops, place))
      if (!loop.reduction) {
        number = static_cast<unsigned>(nest.size());
        nest.push_back(loop);
      }
    auto renumbered = [&](AccessMap map) {
      for (DimensionAccess &access : map)
        for (auto &[loop, coefficient] : access.terms)
          loop = place[loop];
      return map;
    };
    BodyBuilder body;
    std::vector<Read> reads;
    if (from.initial) {
      reads = {{from.initial->value, renumbered(from.initial->map), from.initial->padding}};
      body.body.results = {body.input(rewriter.typeOf(from.initial->value))};
    } else {
      body.body.results = {body.emit(BlockOpcode::Constant, from.initialScalar->type, {}, from.initialScalar->bits)};
    }
    Write write;
    write.value = from.value;
    write.map = renumbered(from.map);
    rewriter.structured(std::move(nest), std::move(reads), {std::move(write)}, std::move(body.body));
  }

  void plain(Kernel kernel) {
    auto empty = [&](size_t read) { return read < kernel.reads.size() && isEmpty(kernel.reads[read].value); };
    ValueId to = kernel.writes[0].value;
    if (kernel.operation == "concat")
      llvm::erase_if(kernel.reads, [&](const Read &read) { return isEmpty(read.value); });
    // Nothing is put into the destination, or the data.
    if (kernel.operation == "insert_slice" && empty(0))
      return rewriter.plain("reshape", kernel.reads[1].value, to);
    if ((kernel.operation == "scatter_elements" || kernel.operation == "scatter_nd") && empty(1))
      return rewriter.plain("reshape", kernel.reads[0].value, to);
    rewriter.kernels.push_back(std::move(kernel));
  }

  KernelRewriter &rewriter;
};

} // namespace

KernelGraph dropEmpty(KernelGraph graph) {
  std::vector<Kernel> original = std::move(graph.kernels);
  graph.kernels.clear();
  KernelRewriter rewriter(graph);
  EmptyDropper dropper(rewriter);
  for (Kernel &kernel : original)
    dropper.run(std::move(kernel));
  graph.kernels = std::move(rewriter.kernels);
  return graph;
}

} // namespace quadrille::graph
