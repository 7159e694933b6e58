// SPDX-License-Identifier: Apache-2.0
// cpu_count_test.cpp: the affinity mask, and quotas of cgroups as the kernel writes them and as nobody should.
#include "platform/linux/cpu_count.hpp"

#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "tests/support/catch.hpp"

namespace {

// A folder that stands for the root of a machine.
struct Machine {
  std::string root = "/tmp/heed_cpu_count.XXXXXX";
  Machine() { REQUIRE(mkdtemp(&root[0]) != nullptr); }
  ~Machine() { CHECK(std::system(("rm -rf " + root).c_str()) == 0); }
  Machine& file(const std::string& path, const std::string& text) {
    for (std::size_t at = 1; (at = path.find('/', at)) != std::string::npos; ++at)
      mkdir((root + path.substr(0, at)).c_str(), 0700);
    std::ofstream out(root + path);
    out << text;
    REQUIRE(out.good());
    return *this;
  }
  std::uint32_t cpus() const { return heed::cgroup_cpus(root.c_str()); }
};

std::uint32_t of_version_2(const std::string& text) {
  return Machine().file("/proc/self/cgroup", "0::/a\n").file("/sys/fs/cgroup/a/cpu.max", text).cpus();
}

}  // namespace

TEST_CASE("the affinity mask is counted, not the machine", "[cpu_count]") {
  const std::uint32_t all = heed::affinity_cpus();
  CHECK(all >= 1);
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(all == static_cast<std::uint32_t>(CPU_COUNT(&before)));
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &before)) {
      CPU_SET(i, &one);
      break;
    }
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(heed::affinity_cpus() == 1);
  CHECK(heed::available_cpus() == 1);
  REQUIRE(sched_setaffinity(0, sizeof before, &before) == 0);
  CHECK(heed::affinity_cpus() == all);
  CHECK(heed::available_cpus() >= 1);
}

TEST_CASE("a quota of version 2 is rounded up", "[cpu_count]") {
  CHECK(of_version_2("max 100000\n") == 0);
  CHECK(of_version_2("100000 100000\n") == 1);
  CHECK(of_version_2("100001 100000\n") == 2);
  CHECK(of_version_2("50000 100000\n") == 1);
  CHECK(of_version_2("350000 100000\n") == 4);
  CHECK(of_version_2("1600000 100000\n") == 16);
}

TEST_CASE("the smallest quota on the way up counts", "[cpu_count]") {
  Machine m;
  m.file("/proc/self/cgroup", "0::/kube/pod/box\n").file("/sys/fs/cgroup/kube/pod/box/cpu.max", "800000 100000\n");
  CHECK(m.cpus() == 8);
  m.file("/sys/fs/cgroup/kube/cpu.max", "300000 100000\n");
  CHECK(m.cpus() == 3);
  m.file("/sys/fs/cgroup/cpu.max", "150000 100000\n");
  CHECK(m.cpus() == 2);
}

TEST_CASE("version 1, alone and beside version 2", "[cpu_count]") {
  Machine m;
  m.file("/proc/self/cgroup", "12:cpuset:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/user.slice\n");
  CHECK(m.cpus() == 0);
  m.file("/sys/fs/cgroup/cpuset/docker/x/cpu.cfs_quota_us", "100000\n")
      .file("/sys/fs/cgroup/cpuset/docker/x/cpu.cfs_period_us", "100000\n");
  CHECK(m.cpus() == 0);
  m.file("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n")
      .file("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
  CHECK(m.cpus() == 0);
  m.file("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "250000\n");
  CHECK(m.cpus() == 3);
  // In a container the path is the outer machine's, and only the mount point is there.
  Machine inside;
  inside.file("/proc/self/cgroup", "4:cpu:/docker/0123\n")
      .file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
      .file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(inside.cpus() == 2);
  Machine hybrid;
  hybrid.file("/proc/self/cgroup", "0::/a\n").file("/sys/fs/cgroup/unified/a/cpu.max", "500000 100000\n");
  CHECK(hybrid.cpus() == 5);
}

TEST_CASE("what is no quota limits nothing", "[cpu_count]") {
  for (const char* text :
       {"", "\n", "max", "0 100000\n", "100000 0\n", "100000\n", "-5 100000\n", "a b\n", " 1 1\n",
        "99999999999999999999999999 1\n", "1 99999999999999999999999999\n", "4503599627370495 1\n"}) {
    INFO("'" << text << "'");
    CHECK(of_version_2(text) == 0);
  }
  CHECK(of_version_2(std::string(100000, '9')) == 0);
  Machine none;
  CHECK(none.cpus() == 0);
  for (const std::string& list :
       {std::string("nonsense\n"), std::string("0:\n"), std::string(":::::\n\n:"),
        std::string("0::") + std::string(20000, '/'), std::string("0::/") + std::string(5000, 'a') + "\n",
        std::string("1:cpu") + std::string(9000, ',') + ":/\n"}) {
    INFO(list.substr(0, 40));
    CHECK(Machine().file("/proc/self/cgroup", list).file("/sys/fs/cgroup/b/cpu.max", "1 1\n").cpus() == 0);
  }
}
