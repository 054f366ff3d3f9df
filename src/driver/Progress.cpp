#include "driver/Progress.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <unistd.h>

namespace quadrille::driver {

Progress::Progress(std::string what) : what(std::move(what)) {
  if (isatty(STDERR_FILENO))
    thread = std::thread([this] { show(); });
}

Progress::~Progress() {
  if (!thread.joinable())
    return;
  {
    std::lock_guard lock(mutex);
    finished = true;
  }
  wake.notify_all();
  thread.join();
}

void Progress::show() {
  auto begin = std::chrono::steady_clock::now();
  bool shown = false;
  std::unique_lock lock(mutex);
  std::chrono::milliseconds delay(2000);
  while (!wake.wait_for(lock, delay, [&] { return finished; })) {
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    llvm::errs() << "\r\x1b[K" << what;
    if (double share = done.load(std::memory_order_relaxed); share >= 0)
      llvm::errs() << llvm::format(" %3.0f%%", share * 100);
    llvm::errs() << llvm::format(" %.0f s", seconds);
    shown = true;
    delay = std::chrono::milliseconds(200);
  }
  if (shown)
    llvm::errs() << "\r\x1b[K";
}

} // namespace quadrille::driver
