// Counter-based random words as an expression: Philox4x32-10 (J. Salmon et al., "Parallel random numbers: as easy as 1,
// 2, 3", SC 2011), with products of 32 bits from those of 16-bit halves.
#include "graph/KernelQueries.h"
#include "graph/Structurer.h"

namespace quadrille::graph {

namespace {

constexpr ElementType u32 = ElementType::u32;

Register word(BodyBuilder &body, uint64_t value) {
  return body.emit(BlockOpcode::Constant, u32, {}, value & 0xffffffff);
}
Register operation(BodyBuilder &body, BlockOpcode opcode, Register a, Register b) {
  return body.emit(opcode, u32, {a, b});
}

// The upper half of a constant times x.
Register upperProduct(BodyBuilder &body, uint32_t factor, Register x) {
  Register halfWord = word(body, 16), mask = word(body, 0xffff);
  auto low = [&](Register value) { return operation(body, BlockOpcode::And, value, mask); };
  auto high = [&](Register value) { return operation(body, BlockOpcode::ShiftRight, value, halfWord); };
  auto times = [&](uint32_t half, Register value) {
    return operation(body, BlockOpcode::Multiply, word(body, half), value);
  };
  auto plus = [&](Register a, Register b) { return operation(body, BlockOpcode::Add, a, b); };
  uint32_t factorLow = factor & 0xffff, factorHigh = factor >> 16;
  Register xLow = low(x), xHigh = high(x);
  // Neither sum leaves 32 bits.
  Register middle = plus(times(factorHigh, xLow), high(times(factorLow, xLow)));
  Register other = plus(times(factorLow, xHigh), low(middle));
  return plus(plus(times(factorHigh, xHigh), high(middle)), high(other));
}

} // namespace

// Every element computes the four words of its counter and takes its own.
void structureRandomBits(KernelRewriter &rewriter) {
  constexpr uint32_t factors[2] = {0xD2511F53, 0xCD9E8D57}, steps[2] = {0x9E3779B9, 0xBB67AE85};
  constexpr int rounds = 10;
  const Kernel &kernel = *rewriter.replaced;
  ValueId to = kernel.writes[0].value;
  const Shape shape = rewriter.shapeOf(to);
  auto offset = static_cast<uint64_t>(integerAttribute(kernel, "offset").value_or(0));
  auto seed = static_cast<uint64_t>(integerAttribute(kernel, "seed").value_or(0));
  Tensor low = Tensor::uninitialized(u32, shape), high = Tensor::uninitialized(u32, shape);
  Tensor which = Tensor::uninitialized(u32, shape);
  for (int64_t i = 0; i < low.elements(); ++i) {
    uint64_t number = offset + static_cast<uint64_t>(i), counter = number / 4;
    low.mutableData<uint32_t>()[i] = static_cast<uint32_t>(counter);
    high.mutableData<uint32_t>()[i] = static_cast<uint32_t>(counter >> 32);
    which.mutableData<uint32_t>()[i] = static_cast<uint32_t>(number % 4);
  }
  AccessMap own = loopIndices(0, shape.size());
  std::vector<Read> reads;
  BodyBuilder body;
  auto input = [&](Tensor tensor) {
    reads.push_back({rewriter.constant(std::move(tensor)), own, std::nullopt});
    return body.input(u32);
  };
  Register words[4] = {input(low), input(high), word(body, 0), word(body, 0)}, own4 = input(which);
  Register keys[2] = {word(body, seed), word(body, seed >> 32)};
  if (!kernel.reads.empty()) {
    ValueId given = kernel.reads[0].value;
    ElementType type = rewriter.typeOf(given);
    reads.push_back({given, AccessMap(rewriter.shapeOf(given).size()), std::nullopt});
    Register value = body.input(type);
    Register upper = body.emit(BlockOpcode::ShiftRight, type, {value, body.constant(type, 32)});
    keys[0] = body.emit(BlockOpcode::Convert, u32, {value});
    keys[1] = body.emit(BlockOpcode::Convert, u32, {upper});
  }
  for (int round = 0; round < rounds; ++round) {
    Register next[4];
    for (int half : {0, 1}) {
      int from = 2 * half, result = 2 - from;
      Register mixed =
          operation(body, BlockOpcode::Xor, upperProduct(body, factors[half], words[from]), words[result + 1]);
      next[result] = operation(body, BlockOpcode::Xor, mixed, keys[1 - half]);
      next[result + 1] = operation(body, BlockOpcode::Multiply, word(body, factors[half]), words[from]);
    }
    std::copy(next, next + 4, words);
    for (int half : {0, 1})
      keys[half] = operation(body, BlockOpcode::Add, keys[half], word(body, steps[half]));
  }
  Register result = words[0];
  for (unsigned i = 1; i < 4; ++i)
    result = body.select(u32, body.equal(own4, word(body, i)), words[i], result);
  body.body.results = {result};
  rewriter.reshape(rewriter.map(shape, std::move(reads), std::move(body.body)), shape, to);
}

} // namespace quadrille::graph
