// SPDX-License-Identifier: Apache-2.0
// thread_pool.cpp: one job at a time; its parts lie in shares, one per thread.
#include "platform/linux/thread_pool.hpp"

#include <sched.h>
#include <signal.h>

#include "runtime/numerics.hpp"

namespace heed {
namespace {

// Tens of microseconds on x86, where a pause takes some forty cycles: longer than the gap between two steps of a layer,
// shorter than a person's patience. On Arm a pause may take one cycle.
constexpr std::uint32_t kSpins = 2000;
// From then on the caller gives its core away while it waits: the thread that has the last part may not be running.
constexpr std::uint32_t kSpinsBeforeYield = 20000;
constexpr std::uint32_t kMostParts = 0xFFFF;  // of a share's 16-bit fields

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
  job_.fetch_add(1);
  pthread_cond_broadcast(&wake_);
  pthread_mutex_unlock(&mutex_);
  for (std::uint32_t i = 0; i < workers_; ++i) pthread_join(worker_list_[i].handle, nullptr);
}

bool ThreadPool::start(std::uint32_t threads) {
  if (workers_ != 0 || !float_mode_is_default()) return false;
  if (threads > kMaxThreads) threads = kMaxThreads;
  // Signals are for the program's own threads, which may hold them back; but a fault is the thread's that made it.
  sigset_t none, before;
  sigfillset(&none);
  constexpr int kFaults[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
  for (const int fault : kFaults) sigdelset(&none, fault);
  pthread_sigmask(SIG_BLOCK, &none, &before);
  const bool all = start_workers(threads);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return all;
}

bool ThreadPool::start_workers(std::uint32_t threads) {
  while (workers_ + 1 < threads) {
    Worker& worker = worker_list_[workers_];
    worker.pool = this;
    worker.index = workers_ + 1;  // the caller is 0
    if (pthread_create(&worker.handle, nullptr, worker_main, &worker) != 0) return false;
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

// The next part of a share, if there is one and it belongs to `job`.
bool ThreadPool::take(Share& share, std::uint32_t& part, std::uint32_t job) {
  std::uint64_t left = share.left.load(std::memory_order_acquire);
  for (;;) {
    part = static_cast<std::uint32_t>(left & 0xFFFF);
    if (static_cast<std::uint32_t>(left >> 32) != job || part >= (left >> 16 & 0xFFFF)) return false;
    if (share.left.compare_exchange_weak(left, left + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  }
}

// Own parts first, then what others have left. A taken part keeps its job from ending, so the job's fields hold.
void ThreadPool::work(std::uint32_t thread, std::uint32_t job) {
  const std::uint32_t threads = workers_ + 1;
  for (std::uint32_t i = 0; i < threads; ++i) {
    Share& share = shares_[(thread + i) % threads];
    std::uint32_t part;
    while (take(share, part, job)) {
      task_(argument_, first_ + part);
      unfinished_.fetch_sub(1, std::memory_order_release);
    }
  }
}

void* ThreadPool::worker_main(void* self) {
  const Worker& worker = *static_cast<Worker*>(self);
  ThreadPool& pool = *worker.pool;
  std::uint32_t seen = 0;
  for (;;) {
    std::uint32_t job;
    std::uint32_t spins = 0;
    while ((job = pool.job_.load(std::memory_order_acquire)) == seen && spins < kSpins) {
      relax();
      ++spins;
    }
    if (job == seen) {
      pthread_mutex_lock(&pool.mutex_);
      pool.sleepers_.fetch_add(1);
      while ((job = pool.job_.load()) == seen) pthread_cond_wait(&pool.wake_, &pool.mutex_);
      pool.sleepers_.fetch_sub(1);
      pthread_mutex_unlock(&pool.mutex_);
    }
    seen = job;
    if (pool.stop_.load()) return nullptr;
    pool.work(worker.index, job);
  }
}

void ThreadPool::run(void* self, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  auto& pool = *static_cast<ThreadPool*>(self);
  for (std::uint32_t first = 0; first < count; first += kMostParts)
    pool.run_at_most(first, count - first < kMostParts ? count - first : kMostParts, task, argument);
}

void ThreadPool::run_at_most(std::uint32_t first, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  const std::uint32_t threads = workers_ + 1, job = job_.load(std::memory_order_relaxed) + 1;
  first_ = first;
  task_ = task;
  argument_ = argument;
  unfinished_.store(count, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < threads; ++i) {
    const std::uint32_t begin = count * i / threads, end = count * (i + 1) / threads;
    shares_[i].left.store(std::uint64_t{job} << 32 | end << 16 | begin, std::memory_order_release);
  }
  job_.store(job);  // sequentially consistent with `sleepers_`: a worker sleeps only if it saw the old one
  if (sleepers_.load() != 0) {
    pthread_mutex_lock(&mutex_);
    pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&mutex_);
  }
  work(0, job);
  for (std::uint32_t spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpinsBeforeYield)
      relax();
    else
      sched_yield();
  }
}

}  // namespace heed
