// An elementwise expression as a chain of arithmetic units: the instructions, which unit does each, over which streams
// operands come and results leave, and when each is dispatched. Results are not held, so all operands of an instruction
// must be there in the same cycle: where one would be early, units pass it on.
#pragma once

#include "target/tsp/Instructions.h"

#include "numerics/BlockExpression.h"

#include "llvm/ADT/ArrayRef.h"

namespace quadrille::tsp {

// What other chains that run at the same time have taken.
struct ChainLimits {
  std::vector<unsigned> alus;
  uint64_t streams = 0; // a bit for each: the eastward ones, then the westward ones

  void add(Source first, int64_t count);
  void add(const ChainLimits &others);
};

struct Chain {
  // A vector that comes on streams: a read of the expression, or a constant, the same in every lane.
  struct Input {
    ElementType type = ElementType::f32;
    std::optional<unsigned> read; // none: the constant
    uint64_t constant = 0;        // its bits
    Source stream;                // the first
    int64_t cycle = 0;            // dispatch of those that take it, after the chain's start

    bool isSame(const Input &other) const {
      return read == other.read && (read || (type == other.type && constant == other.constant));
    }
  };
  struct Operation {
    Instruction instruction; // complete
    unsigned alu = 0;
    int64_t cycle = 0; // of dispatch, after the chain's start
  };
  struct Output {
    unsigned operation = 0;
    ElementType type = ElementType::f32;
    Source stream;
  };
  std::vector<Input> inputs;
  std::vector<Operation> operations;
  std::vector<Output> outputs; // one for each result of the expression

  ChainLimits taken() const;
};

// `inputs` says for each read from which direction it comes; constants come from `constants`, results leave in
// `outputs`. `first` turns the choice of units: different ones find different units where several would do. `given`:
// inputs whose streams are not for the chain to choose. `taken` is not used. Nothing, and `reason`, when the expression
// cannot be had as one chain.
std::optional<Chain> makeChain(const BlockExpression &expression, llvm::ArrayRef<Direction> inputs, Direction constants,
                               Direction outputs, unsigned first, const Architecture &machine, std::string &reason,
                               llvm::ArrayRef<Chain::Input> given = {}, const ChainLimits &taken = {});

// Whether the vector unit has values of the type.
bool hasType(ElementType type);

} // namespace quadrille::tsp
