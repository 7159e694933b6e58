// SPDX-License-Identifier: Apache-2.0
// cpu_count.cpp: sched_getaffinity, and the two files in which Linux says how much CPU time a group of processes may
// take.
#include "platform/linux/cpu_count.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace heed {
namespace {

constexpr std::size_t kMaxPath = 4096, kMaxFile = 8192;
constexpr std::uint32_t kMostCpus = 1u << 16;

// A zero-terminated text of a limited size. What does not fit makes it empty, and an empty path opens nothing.
template <std::size_t capacity>
struct Text {
  char bytes[capacity] = {};
  std::size_t size = 0;
  bool whole = true;

  Text& add(const char* text, std::size_t n) {
    if (!whole || n >= capacity - size) {
      whole = false;
      size = 0;
    } else {
      std::memcpy(bytes + size, text, n);
      size += n;
    }
    bytes[size] = '\0';
    return *this;
  }
  Text& add(const char* text) { return add(text, std::strlen(text)); }
};
using Path = Text<kMaxPath>;

// The first bytes of a file, zero-terminated; false if there are none.
bool read(char (&bytes)[kMaxFile], const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::size_t size = 0;
  while (size < kMaxFile - 1) {
    const ssize_t n = ::read(fd, bytes + size, kMaxFile - 1 - size);
    if (n <= 0) break;
    size += static_cast<std::size_t>(n);
  }
  ::close(fd);
  bytes[size] = '\0';
  return size != 0;
}

// A whole number at `at`, which moves behind it and one space; false if there is none or it is too large to mean
// anything.
bool take_number(std::uint64_t& value, const char*& at) {
  value = 0;
  const char* const first = at;
  for (; *at >= '0' && *at <= '9'; ++at) {
    if (value > std::uint64_t{1} << 52) return false;
    value = value * 10 + static_cast<std::uint64_t>(*at - '0');
  }
  const bool found = at != first;
  if (*at == ' ') ++at;
  return found;
}

void limit(std::uint32_t& cpus, std::uint64_t quota, std::uint64_t period) {
  if (quota == 0 || period == 0) return;
  const std::uint64_t n = quota / period + (quota % period != 0);
  if (n < kMostCpus && (cpus == 0 || n < cpus)) cpus = static_cast<std::uint32_t>(n);
}

// "max 100000", or "150000 100000".
void limit_v2(std::uint32_t& cpus, const Path& group) {
  char text[kMaxFile];
  Path file = group;
  if (!read(text, file.add("/cpu.max").bytes)) return;
  const char* at = text;
  std::uint64_t quota, period;
  if (take_number(quota, at) && take_number(period, at)) limit(cpus, quota, period);
}

// -1, or a number, in one file and the period in another.
void limit_v1(std::uint32_t& cpus, const Path& group) {
  char text[kMaxFile];
  Path quota_file = group, period_file = group;
  std::uint64_t quota, period;
  const char* at = text;
  if (!read(text, quota_file.add("/cpu.cfs_quota_us").bytes) || !take_number(quota, at)) return;
  at = text;
  if (read(text, period_file.add("/cpu.cfs_period_us").bytes) && take_number(period, at)) limit(cpus, quota, period);
}

// The group `path` [n] under a mount point, and all above it. In a container the path may be that of the machine
// outside; then only the mount point itself is there.
void limit_by(std::uint32_t& cpus, const char* root, const char* mount, const char* path, std::size_t n,
              void (*of)(std::uint32_t&, const Path&)) {
  for (;;) {
    while (n > 0 && path[n - 1] == '/') --n;
    Path group;
    of(cpus, group.add(root).add(mount).add(path, n));
    if (n == 0) return;
    while (n > 0 && path[n - 1] != '/') --n;
  }
}

// Whether a list such as "cpu,cpuacct" [n] has the controller of CPU time.
bool has_cpu(const char* list, std::size_t n) {
  for (std::size_t first = 0, end; first < n; first = end + 1) {
    for (end = first; end < n && list[end] != ',';) ++end;
    if (end - first == 3 && std::memcmp(list + first, "cpu", 3) == 0) return true;
  }
  return false;
}

}  // namespace

std::uint32_t affinity_cpus() {
  // The kernel refuses a mask that is shorter than its own, 1024 CPUs or more.
  unsigned long mask[kMostCpus / (8 * sizeof(unsigned long))] = {};
  if (sched_getaffinity(0, sizeof mask, reinterpret_cast<cpu_set_t*>(mask)) != 0) return 1;
  const int n = CPU_COUNT_S(sizeof mask, reinterpret_cast<cpu_set_t*>(mask));
  return n > 0 ? static_cast<std::uint32_t>(n) : 1;
}

std::uint32_t cgroup_cpus(const char* root) {
  std::uint32_t cpus = 0;
  char text[kMaxFile];
  Path list;
  if (!read(text, list.add(root).add("/proc/self/cgroup").bytes)) return 0;
  // Lines "NUMBER:CONTROLLERS:PATH"; version 2 has no controllers.
  for (const char *line = text, *end; *line; line = *end ? end + 1 : end) {
    end = line + std::strcspn(line, "\n");
    const auto find = [end](const char* from) {
      return static_cast<const char*>(std::memchr(from, ':', static_cast<std::size_t>(end - from)));
    };
    const char* const first = find(line);
    const char* const second = first ? find(first + 1) : nullptr;
    if (!second) continue;
    const char *const controllers = first + 1, *const path = second + 1;
    const auto n_controllers = static_cast<std::size_t>(second - controllers),
               n_path = static_cast<std::size_t>(end - path);
    if (n_controllers == 0) {
      limit_by(cpus, root, "/sys/fs/cgroup", path, n_path, limit_v2);
      limit_by(cpus, root, "/sys/fs/cgroup/unified", path, n_path, limit_v2);
    } else if (has_cpu(controllers, n_controllers)) {
      Path mount;
      limit_by(cpus, root, mount.add("/sys/fs/cgroup/").add(controllers, n_controllers).bytes, path, n_path, limit_v1);
      limit_by(cpus, root, "/sys/fs/cgroup/cpu", path, n_path, limit_v1);
    }
  }
  return cpus;
}

std::uint32_t available_cpus() {
  const std::uint32_t cpus = affinity_cpus(), quota = cgroup_cpus();
  return quota != 0 && quota < cpus ? quota : cpus;
}

}  // namespace heed
