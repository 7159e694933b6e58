// SPDX-License-Identifier: Apache-2.0
// progress.hpp: a bar or a clock on the terminal for what takes longer than two seconds; silent anywhere else.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace heed::tool {

// Draws on standard error, and only if that is a terminal, with the time that is left at the rate so far. Gone when it is
// destroyed.
class Progress {
 public:
  Progress(std::string label, std::uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(std::uint64_t done);

 private:
  std::string label_;
  std::uint64_t total_;
  bool terminal_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, next_;
};

// The same for work that does not say how far it is: shows the seconds.
class Stopwatch {
 public:
  explicit Stopwatch(std::string label);
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  void watch();

  std::string label_;
  bool stop_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;  // only on a terminal
};

}  // namespace heed::tool
