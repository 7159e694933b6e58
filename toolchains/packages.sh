# SPDX-License-Identifier: Apache-2.0
# packages.sh: which packages of Debian or Ubuntu each purpose needs, and how they are installed. Sourced by scripts.

heed_packages_build="g++ cmake ninja-build libxsimd-dev libcli11-dev nlohmann-json3-dev libutf8proc-dev"
heed_packages_test="catch2 python3 python3-numpy binutils"
heed_packages_cross="g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user \
gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-dev qemu-system-arm"
heed_packages_full="clang clang-format pkg-config"
heed_packages_bench="libbenchmark-dev python3 python3-numpy"  # tests/bench

# heed_install_packages PACKAGES...: says what is missing and installs it; with HEED_NO_INSTALL=1 it refuses instead.
heed_install_packages() {
  missing=""
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "${HEED_NO_INSTALL:-0}" = 1 ]; then
    echo "missing packages:$missing (install them, or run without --no-install)" >&2
    return 1
  fi
  echo "installing packages:$missing"
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo"
  $as_root apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
