// What can be wrong with a program while it executes, in words. The simulator and the checker find these independently
// and say the same.
#pragma once

#include "target/tsp/Code.h"

#include "base/Error.h"

#include "llvm/ADT/Twine.h"

namespace quadrille::tsp {

// One dispatch of an instruction to its unit. `instruction` counts in the queue; `iteration` is 0 for the instruction
// itself and k for the k-th time that a Repeat issues it again.
struct Issue {
  int64_t cycle = 0;
  uint32_t queue = 0, instruction = 0;
  int64_t iteration = 0;
};

inline std::string print(const Issue &issue, const Queues &queues) {
  std::string chip = queues.chipCount() > 1 ? "chip " + std::to_string(queues.chipOf(issue.queue)) + ", " : "";
  return (chip + llvm::Twine("queue ") + print(queues[issue.queue].name) + ", instruction " +
          llvm::Twine(issue.instruction) + ", cycle " + llvm::Twine(issue.cycle))
      .str();
}

// The value of an operand with a step, at an iteration.
inline int64_t stepped(const Instruction &instruction, int64_t iteration) {
  return instruction.word[0] + iteration * instruction.word[1];
}

namespace hazard {

// A channel is named by Effects.h.
inline std::string undriven(llvm::StringRef channel) {
  return (channel + " is not driven where it is read").str();
}
inline std::string twoDrivers(llvm::StringRef channel, llvm::StringRef other) {
  return (channel + " is driven twice at this place and cycle, also by " + other).str();
}
inline std::string neverTaken(llvm::StringRef channel) {
  return ("no 'receive' takes the vector when it arrives on " + channel).str();
}
inline std::string linkBusy(int64_t link, int64_t interval, llvm::StringRef other) {
  return ("link " + llvm::Twine(link) + " takes a vector every " + llvm::Twine(interval) + " cycles, also one by " +
          other)
      .str();
}
inline std::string partBusy(llvm::StringRef part, int64_t number, llvm::StringRef other) {
  return (part + " " + llvm::Twine(number) + " also takes an instruction in this cycle from " + other).str();
}
inline std::string gatherOutOfRange(int64_t superlane, int64_t number, int64_t rows) {
  return ("superlane " + llvm::Twine(superlane) + " asks for word " + llvm::Twine(number) + " of " + llvm::Twine(rows))
      .str();
}
inline std::string fetchUnderrun() {
  return "the queue's buffer is empty: this instruction has not been fetched yet";
}
inline std::string fetchOverrun(int64_t capacity) {
  return ("the queue's buffer has no room: it holds " + llvm::Twine(capacity) + " instructions").str();
}
inline std::string fetchBeyond() {
  return "there is nothing left to fetch";
}
inline std::string outOfRange(llvm::StringRef what, int64_t value, int64_t last) {
  return (what + " " + llvm::Twine(value) + " is not in 0.." + llvm::Twine(last)).str();
}
inline std::string bankBusy(int64_t bank, llvm::StringRef other) {
  return ("bank " + llvm::Twine(bank) + " is also accessed in this cycle by " + other).str();
}
inline std::string tooManyAccesses(bool read, int64_t most) {
  return ("the slice serves at most " + llvm::Twine(most) + (read ? " read" : " write") + " in a cycle").str();
}
inline std::string neverWritten(int64_t bank, int64_t address) {
  return ("bank " + llvm::Twine(bank) + ", address " + llvm::Twine(address) + " is read and was never written").str();
}
inline std::string outputNeverWritten(llvm::StringRef variable, const std::string &word) {
  return ("output '" + variable + "': " + word + " is never written").str();
}
inline std::string loadBusy() {
  return "the plane already loads weights in this cycle";
}
inline std::string rowsMissing(int64_t row) {
  return ("weights not loaded: row " + llvm::Twine(row) + " of the tile is not in the load buffer").str();
}
inline std::string installing(int64_t most) {
  return ("the plane can have at most " + llvm::Twine(most) + " installs under way").str();
}
inline std::string notInstalled() {
  return "weights not installed: the plane has no tile in this cycle";
}
inline std::string wrongTile() {
  return "the type of the activations does not suit the installed tile";
}
inline std::string oddPlane() {
  return "f16 activations go to the even plane of a pair";
}
inline std::string tandemTiles() {
  return "the planes of the pair have f16 tiles of different sizes or lanes";
}
inline std::string planeBusy() {
  return "the plane already takes activations in this cycle";
}
inline std::string noProducts() {
  return "no products arrive at the accumulators in this cycle";
}
inline std::string productsLost() {
  return "no 'acc' takes the products of these activations";
}
inline std::string sumNotStarted(int64_t sum) {
  return ("sum " + llvm::Twine(sum) + " holds nothing to add to").str();
}
inline std::string sumOverwritten(int64_t sum) {
  return ("sum " + llvm::Twine(sum) + " is started again before it is finished").str();
}
inline std::string sumType(int64_t sum) {
  return ("sum " + llvm::Twine(sum) + " mixes products of integers and of f16").str();
}
inline std::string sumNotFinished(int64_t sum) {
  return ("sum " + llvm::Twine(sum) + " is started and never finished").str();
}
inline std::string neverReleased() {
  return "no notification releases the 'sync'";
}
inline std::string nothingToRepeat() {
  return "'repeat' does not follow an instruction that it can issue again";
}
inline std::string tooLong() {
  return "the queue runs beyond 2^48 cycles";
}
constexpr int64_t longest = int64_t(1) << 48;

} // namespace hazard

// A broken program is a user error: it came from a file or from hand-written text.
inline llvm::Error hazardError(const Issue &issue, const Queues &queues, const std::string &message) {
  return userError(message, {"", print(issue, queues)});
}

} // namespace quadrille::tsp
