// SPDX-License-Identifier: Apache-2.0
// thread_pool.cpp: one job at a time, its parts taken by an atomic counter.
#include "platform/linux/thread_pool.hpp"

namespace heed {
namespace {

// About 20 microseconds: longer than the gap between two steps of a layer, shorter than a person's patience.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

ThreadPool::~ThreadPool() {
  pthread_mutex_lock(&mutex_);
  stop_.store(true);
  generation_.fetch_add(1);
  pthread_cond_broadcast(&wake_);
  pthread_mutex_unlock(&mutex_);
  for (std::uint32_t i = 0; i < workers_; ++i) pthread_join(handles_[i], nullptr);
}

bool ThreadPool::start(std::uint32_t threads) {
  if (workers_ != 0) return false;
  if (threads > kMaxThreads) threads = kMaxThreads;
  while (workers_ + 1 < threads) {
    if (pthread_create(&handles_[workers_], nullptr, worker_main, this) != 0) return false;
    ++workers_;
  }
  return true;
}

Parallel ThreadPool::parallel() {
  Parallel p;
  if (workers_ == 0) return p;
  p.run = run;
  p.context = this;
  p.threads = workers_ + 1;
  return p;
}

// Takes parts until none is left.
void ThreadPool::work() {
  for (;;) {
    const std::uint32_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= count_) return;
    task_(argument_, i);
  }
}

void* ThreadPool::worker_main(void* self) {
  auto& pool = *static_cast<ThreadPool*>(self);
  std::uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (pool.generation_.load(std::memory_order_acquire) == seen && spins < kSpins) {
      relax();
      ++spins;
    }
    if (pool.generation_.load(std::memory_order_acquire) == seen) {
      pthread_mutex_lock(&pool.mutex_);
      pool.sleepers_.fetch_add(1);
      while (pool.generation_.load() == seen) pthread_cond_wait(&pool.wake_, &pool.mutex_);
      pool.sleepers_.fetch_sub(1);
      pthread_mutex_unlock(&pool.mutex_);
    }
    ++seen;  // a job cannot end before every worker has seen it, so generations are never skipped
    if (pool.stop_.load()) return nullptr;
    pool.work();
    pool.busy_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::run(void* self, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  auto& pool = *static_cast<ThreadPool*>(self);
  pool.count_ = count;
  pool.task_ = task;
  pool.argument_ = argument;
  pool.next_.store(0, std::memory_order_relaxed);
  pool.busy_.store(pool.workers_, std::memory_order_relaxed);
  pool.generation_.fetch_add(1);  // sequentially consistent with `sleepers_`: a worker sleeps only if it saw the old one
  if (pool.sleepers_.load() != 0) {
    pthread_mutex_lock(&pool.mutex_);
    pthread_cond_broadcast(&pool.wake_);
    pthread_mutex_unlock(&pool.mutex_);
  }
  pool.work();
  while (pool.busy_.load(std::memory_order_acquire) != 0) relax();
}

}  // namespace heed
