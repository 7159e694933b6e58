// SPDX-License-Identifier: Apache-2.0
// thread_pool.hpp: a few threads for the runtime's `Parallel` hook; they spin briefly between steps, then sleep.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "runtime/parallel.hpp"

namespace heed {

// Not copyable, because the threads know its address. Uses no heap of its own; the system gives the stacks.
//
// A job's parts are dealt out in contiguous shares, one per thread, always the same way, so that a thread meets the same
// weights at every token. Whoever is done with its share takes parts from others, and a thread that the system does not
// run takes none: no job waits for a thread, only for parts that are being worked on.
class ThreadPool {
 public:
  static constexpr std::uint32_t kMaxThreads = 64;

  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Starts threads - 1 workers, which leave signals to others; the calling thread is the last. False when the system refuses one: those that did
  // start are used. False also while floats do not round to nearest even, which every worker would inherit for good.
  bool start(std::uint32_t threads);
  std::uint32_t threads() const { return workers_ + 1; }
  // Valid while the pool lives. One caller at a time.
  Parallel parallel();

 private:
  struct Worker {
    ThreadPool* pool = nullptr;
    std::uint32_t index = 0;
    pthread_t handle;
  };
  // The parts of a share that nobody has taken yet: job << 32 | end << 16 | next. The job tells a share from a later
  // job's, so that a thread which was away does not take what it knows nothing of.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> left{0};
  };

  bool start_workers(std::uint32_t threads);
  static void* worker_main(void* self);
  static void run(void* self, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument);
  void run_at_most(std::uint32_t first, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument);
  static bool take(Share& share, std::uint32_t& part, std::uint32_t job);
  void work(std::uint32_t thread, std::uint32_t job);

  Worker worker_list_[kMaxThreads];
  std::uint32_t workers_ = 0;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  alignas(64) std::atomic<std::uint32_t> job_{0};
  std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};  // parts
  Share shares_[kMaxThreads];
  // Of the present job; they do not change while a part of it is unfinished.
  std::uint32_t first_ = 0;
  void (*task_)(void*, std::uint32_t) = nullptr;
  void* argument_ = nullptr;
};

}  // namespace heed
