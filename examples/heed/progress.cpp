// SPDX-License-Identifier: Apache-2.0
// progress.cpp: the bar and the clock.
#include "examples/heed/progress.hpp"

#include <system_error>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace heed::tool {
namespace {

constexpr int kWidth = 40;
constexpr auto kPatience = std::chrono::seconds(2);
constexpr auto kInterval = std::chrono::milliseconds(100);

// What is left at the rate so far; nothing while that says little.
std::string time_left(double seconds, double share) {
  if (share < 0.02) return "";
  const double left = seconds * (1.0 - share) / share;
  if (left < 100.0) return ", " + std::to_string(static_cast<int>(left + 0.5)) + " s left";
  return ", " + std::to_string(static_cast<int>(left / 60.0 + 0.5)) + " min left";
}

bool on_terminal() { return isatty(STDERR_FILENO) == 1; }

}  // namespace

Progress::Progress(std::string label, std::uint64_t total)
    : label_(std::move(label)),
      total_(total),
      terminal_(on_terminal()),
      start_(std::chrono::steady_clock::now()),
      next_(start_ + kPatience) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::show(std::uint64_t done) {
  if (!terminal_ || total_ == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kInterval;
  drawn_ = true;
  const double share = done < total_ ? static_cast<double>(done) / static_cast<double>(total_) : 1.0;
  const int filled = static_cast<int>(share * kWidth);
  const std::string bar =
      std::string(static_cast<std::size_t>(filled), '#') + std::string(static_cast<std::size_t>(kWidth - filled), '.');
  std::fprintf(stderr, "\r%s [%s] %3d %%%s\033[K", label_.c_str(), bar.c_str(), static_cast<int>(share * 100),
               time_left(std::chrono::duration<double>(now - start_).count(), share).c_str());
  std::fflush(stderr);
}

Stopwatch::Stopwatch(std::string label) : label_(std::move(label)) {
  if (!on_terminal()) return;
  try {
    thread_ = std::thread([this] { watch(); });
  } catch (const std::system_error&) {  // no thread to be had: the work goes on without a clock
  }
}

Stopwatch::~Stopwatch() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Stopwatch::watch() {
  const auto start = std::chrono::steady_clock::now();
  auto next = start + kPatience;
  bool drawn = false;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_until(lock, next, [this] { return stop_; })) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start);
    std::fprintf(stderr, "\r%s ... %lld s", label_.c_str(), static_cast<long long>(seconds.count()));
    std::fflush(stderr);
    drawn = true;
    next += std::chrono::seconds(1);
  }
  if (drawn) std::fputs("\r\033[K", stderr);
}

}  // namespace heed::tool
