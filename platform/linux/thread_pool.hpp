// SPDX-License-Identifier: Apache-2.0
// thread_pool.hpp: a few threads for the runtime's `Parallel` hook; they spin briefly between steps, then sleep.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "runtime/parallel.hpp"

namespace heed {

// Not copyable, because the threads know its address. Uses no heap of its own; the system gives the stacks.
class ThreadPool {
 public:
  static constexpr std::uint32_t kMaxThreads = 64;

  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Starts threads - 1 workers; the calling thread is the last. False when the system refuses one: those that did
  // start are used.
  bool start(std::uint32_t threads);
  std::uint32_t threads() const { return workers_ + 1; }
  // Valid while the pool lives. One caller at a time.
  Parallel parallel();

 private:
  static void* worker_main(void* self);
  static void run(void* self, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument);
  void work();

  pthread_t handles_[kMaxThreads];
  std::uint32_t workers_ = 0;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  std::atomic<std::uint32_t> generation_{0};  // of the job below; odd bits do not matter
  std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<std::uint32_t> next_{0}, busy_{0};
  std::atomic<bool> stop_{false};
  std::uint32_t count_ = 0;
  void (*task_)(void*, std::uint32_t) = nullptr;
  void* argument_ = nullptr;
};

}  // namespace heed
