// A line on the terminal for work that takes over two seconds; silent when standard error is no terminal.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace quadrille::driver {

class Progress {
public:
  // `what` names the phase: "simulating resnet50.onnx on groqcard".
  explicit Progress(std::string what);
  ~Progress(); // clears the line
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  // Share done in [0, 1]; safe from any thread.
  void update(double share) { done.store(share, std::memory_order_relaxed); }

private:
  void show();

  std::string what;
  std::atomic<double> done{-1};
  std::mutex mutex;
  std::condition_variable wake;
  bool finished = false;
  std::thread thread;
};

} // namespace quadrille::driver
