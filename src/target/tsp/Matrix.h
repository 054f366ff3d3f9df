// The matrix planes: weights, products, sums, and the instructions of Matrix.def.
#pragma once

#include "target/tsp/Products.h"
#include "target/tsp/Streams.h"

#include <deque>
#include <memory>
#include <optional>

namespace quadrille::tsp {

class Matrix {
public:
  Matrix(const Architecture &machine, llvm::ArrayRef<Queue> queues, bool values);

  // All return the cycle of completion.
  llvm::Expected<int64_t> loadWeights(const Issue &issue, const Instruction &instruction, Streams &streams);
  llvm::Expected<int64_t> installWeights(const Issue &issue, const Instruction &instruction);
  llvm::Expected<int64_t> activate(const Issue &issue, const Instruction &instruction, Streams &streams);
  llvm::Expected<int64_t> accumulate(const Issue &issue, const Instruction &instruction, Streams &streams);

  // After the last instruction: are there products or sums that nobody took?
  llvm::Error finish() const;

  double multiplies() const { return multiplyCount; } // multiply-accumulates performed so far

private:
  using Bytes = std::shared_ptr<std::byte[]>;
  struct Tile {
    int64_t ready; // cycle from which activations meet this tile
    ProductType type;
    int64_t rows;
    Bytes weights; // null without values
  };
  struct Products {
    int64_t arrival;
    bool f16;
    Issue by;
    std::vector<uint32_t> sums; // i32 or f32 bits, one for each column; empty without values
  };
  struct Sum {
    bool started = false, f16 = false;
    Issue by;
    std::vector<uint32_t> sums;
  };
  struct Plane {
    Bytes buffer;              // rows x vector
    std::vector<bool> latched; // rows of the buffer
    int64_t lastLoad = -1, lastActivation = -1;
    std::deque<std::shared_ptr<const Tile>> tiles; // ascending in `ready`: at most one is in use, others under way
    std::deque<Products> products;                 // ascending in `arrival`
    std::vector<Sum> sums;
    // The tile pair that f16 products last used, decoded.
    std::shared_ptr<const Tile> lowTile, highTile;
    F16Tile f16;
  };

  Plane &planeOf(const QueueName &name, int64_t offset = 0) {
    return planes[name.hemisphere * machine.planes + name.index + offset];
  }
  // The tile that activations captured in `cycle` meet; tiles before it are dropped.
  static const Tile *tileAt(Plane &plane, int64_t cycle);
  static void add(std::vector<uint32_t> &to, const std::vector<uint32_t> &from, bool f16);

  const Architecture &machine;
  llvm::ArrayRef<Queue> queues;
  bool values;
  std::vector<Plane> planes;
  double multiplyCount = 0;
};

} // namespace quadrille::tsp
