// The legality check of the matrix planes: weights are there before they are installed, tiles before activations use
// them, products when they are summed, and no sum is lost.
#pragma once

#include "target/tsp/Findings.h"

#include "llvm/ADT/DenseMap.h"

namespace quadrille::tsp {

class MatrixCheck {
public:
  MatrixCheck(const Architecture &machine, const Queues &queues, Findings &findings)
      : machine(machine), queues(queues), findings(findings),
        planes(queues.chipCount() * machine.hemispheres * machine.planes) {}

  void add(const IssueRun &run);

  void resolve();

private:
  struct Tile {
    int64_t from; // the cycle in which it is in use
    ProductType type;
    int64_t rows, lane;
  };
  // Products of activations that were taken.
  struct Products {
    IssueRun by;
    bool f16;
    int64_t consumed = 0; // issues whose products a sum took, or that are known to be lost
  };
  struct Plane {
    std::vector<IssueRun> weights, activations, sums; // loads and installs, by instruction
    std::vector<Tile> tiles;                          // in the order of their installs
    std::vector<IssueRun> tandem;                     // f16 activations that the even plane of the pair took
    std::vector<Products> products;
    llvm::DenseMap<std::pair<uint32_t, uint32_t>, size_t> lastProducts; // by queue and instruction, in `products`
  };

  const Instruction &instructionOf(const IssueRun &run) const {
    return queues[run.queue].instructions[run.instruction];
  }
  int64_t captureOf(const IssueRun &run, int64_t k) const { return run.cycles.at(k) + machine.skew; }
  bool findAll(const IssueRun &run, int64_t from, int64_t to, llvm::function_ref<std::string(int64_t k)> message);
  int64_t withinRange(const IssueRun &run, llvm::StringRef what, int64_t last);

  void followWeights(Plane &plane);
  void followActivations(Plane &plane, Plane *odd, bool isOdd);
  std::string tileProblem(const IssueRun &part, const Plane &plane, const Plane *odd, int64_t &same) const;
  void addProducts(Plane &plane, const IssueRun &part, bool f16);
  void followSums(Plane &plane);
  void lose(Products &products, int64_t to);

  const Architecture &machine;
  const Queues &queues;
  Findings &findings;
  std::vector<Plane> planes;
};

} // namespace quadrille::tsp
