// The matrix planes of all chips: weights, products, sums, and the instructions of Matrix.def.
#pragma once

#include "target/tsp/Channels.h"
#include "target/tsp/Products.h"

namespace quadrille::tsp {

class Matrix {
public:
  Matrix(const Context &context, int64_t chips);

  void add(std::shared_ptr<Work> work);
  // Executes what can be executed; whether that was anything.
  llvm::Expected<bool> step();
  // After the last instruction: the first products or sum that nobody took.
  std::optional<LeftOver> leftOver();

private:
  struct TimedTile : Tile {
    int64_t ready = 0; // cycle from which activations meet this tile
    Issue by;          // its install
  };
  // The products of consecutive activations with one tile.
  struct Products {
    Progression arrivals;
    bool f16;
    Burst by;                   // its issues
    std::vector<uint32_t> sums; // `columns` for each; empty without values
    int64_t taken = 0;
  };
  struct Sum {
    bool started = false, f16 = false;
    Issue by;
  };
  struct Plane {
    WorkList loads, installs, activations, accumulations;
    bool listed = false;
    std::shared_ptr<std::byte[]> buffer; // rows x vector
    std::vector<bool> latched;           // rows of the buffer
    int64_t lastLoad = -1, lastActivation = -1;
    std::deque<std::shared_ptr<const TimedTile>> tiles; // ascending in `ready`: what activations can still meet
    std::deque<Products> products;                      // ascending in arrival
    std::vector<Sum> sums;
    std::vector<uint32_t> sumValues; // `columns` for each sum
    // The tile pair that f16 products last used, joined.
    std::shared_ptr<const TimedTile> lowTile, highTile;
    std::vector<uint16_t> joined;
  };

  Plane &planeOf(const Work &work, int64_t offset = 0) {
    return planes[(work.chip * context.machine.hemispheres + work.queue->hemisphere) * context.machine.planes +
                  work.queue->index + offset];
  }
  // All return whether something was executed.
  llvm::Expected<bool> load(Plane &plane);
  llvm::Expected<bool> install(Plane &plane);
  llvm::Expected<bool> activate(Plane &plane);
  llvm::Expected<bool> accumulate(Plane &plane);

  // The tile that activations captured in `cycle` meet, and through `until` the first cycle of the next one.
  const TimedTile *tileAt(Plane &plane, int64_t cycle, int64_t &until) const;
  void loseProducts(Plane &plane);
  void emit(const Work &work, int64_t k, const uint32_t *sums, int64_t columns) const;

  const Context &context;
  std::vector<Plane> planes;
  std::vector<Plane *> active;    // with work
  std::optional<Issue> firstLost; // activations whose products no ACC took
};

} // namespace quadrille::tsp
