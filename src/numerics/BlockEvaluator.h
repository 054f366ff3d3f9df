// Runs a BlockExpression over rows of elements, a block of a few hundred at a time so that every register stays in L1.
//
//   llvm::Expected<BlockEvaluator> evaluator = BlockEvaluator::compile(expression);
//   BlockEvaluator::Scratch scratch(*evaluator);            // one for each thread, reused
//   evaluator->evaluate({{x, 1}, {bias, 0}}, {{y, 1}}, count, {{row, 0}, {0, 1}}, scratch);
//
// The caller walks the outer loops; each call is the innermost one. Results do not depend on the block length, the
// CPU's vector width, alignment or threads: every element is a function of its own operands.
#pragma once

#include "numerics/BlockExpression.h"

#include "llvm/Support/Error.h"

#include <cstddef>
#include <memory>
#include <vector>

namespace quadrille {

class BlockEvaluator {
public:
  // Where a read starts and how many elements (of its type) lie between successive ones: 1, 0 to broadcast one element,
  // or any other number, also negative.
  struct Operand {
    const void *data;
    int64_t stride;
  };
  struct Output {
    void *data;
    int64_t stride;
  };
  // Value of one loop at the first element, and its step from element to element (1 for the innermost loop, 0 for the
  // outer ones; other steps where the caller collapses loops).
  struct LoopIndex {
    int64_t start;
    int64_t step;
  };

  // Working memory for one thread at a time; made once, so that evaluation allocates nothing.
  class Scratch {
  public:
    explicit Scratch(const BlockEvaluator &evaluator);
    ~Scratch();
    Scratch(Scratch &&) noexcept;
    Scratch &operator=(Scratch &&) noexcept;

  private:
    friend class BlockEvaluator;
    struct State;
    std::unique_ptr<State> state;
  };

  // Internal error when the expression does not verify.
  static llvm::Expected<BlockEvaluator> compile(const BlockExpression &expression);

  // Evaluates `count` elements. `inputs` has one operand for each read of the expression, `outputs` one for each
  // result; `indices` covers every loop that a loop_index names (it may be empty if there is none). An output may be
  // the same array as an input with the same start and stride (in place) if the two types have the same width; any
  // other overlap is not allowed. An output stride of 0 keeps the last element.
  void evaluate(llvm::ArrayRef<Operand> inputs, llvm::ArrayRef<Output> outputs, int64_t count,
                llvm::ArrayRef<LoopIndex> indices, Scratch &scratch) const;

  const BlockExpression &expression() const;

private:
  struct Plan;
  explicit BlockEvaluator(std::shared_ptr<const Plan> plan) : plan(std::move(plan)) {}
  std::shared_ptr<const Plan> plan; // immutable: copies of an evaluator share it
};

// Folds an array into one value with an associative operation, for reductions.
enum class Combine : uint8_t { Sum, Product, Minimum, Maximum, MinimumNumber, MaximumNumber, And, Or, Xor };

// Whether elements of the type can be combined so: sums of bools and bitwise operations on floats cannot.
bool combines(Combine combine, ElementType type);

// The neutral element of `combine` in `type`, as bits (zero-extended): 0, 1, +-infinity (the largest or smallest value
// for integers and formats without infinity; NaN for minimum_number and maximum_number, so that a row of NaN stays
// NaN), all ones.
uint64_t neutralBits(Combine combine, ElementType type);

// Order of a float Sum or Product (every other operation, and any on integers, gives the same result in every order):
// 16 lanes, lane l takes elements l, l + 16, l + 32, ... in order starting from the first of them, then lanes are
// joined pairwise: l with l + 8, l + 4, l + 2, l + 1; lanes without an element are left out. `initial` is combined with
// that at the end, as the left operand. Independent of vector width and threads. Floats narrower than f32 accumulate in
// f32 and are rounded once at the end (with `initial` widened).
//
// *accumulator = combine(*accumulator, elements), all of type `type`; `stride` in elements.
void combineInto(Combine combine, ElementType type, void *accumulator, const void *data, int64_t stride, int64_t count);

// Elementwise: accumulators[i] = combine(accumulators[i], data[i]) for contiguous arrays: the step of a reduction over
// an outer loop, one rounding to `type` each.
void combineElementwise(Combine combine, ElementType type, void *accumulators, const void *data, int64_t count);

} // namespace quadrille
