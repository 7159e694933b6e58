# SPDX-License-Identifier: Apache-2.0
# 64-bit Arm Linux with Debian's cross GCC; tests run under qemu-aarch64. Baseline ARMv8.0: dotprod and i8mm files add their own flags.
#
#   HEED_QEMU_CPU       QEMU's -cpu; default cortex-a53
#   HEED_SYSROOT        where the target's libraries are; default /usr/aarch64-linux-gnu (Debian)
#   HEED_ICOUNT_PLUGIN  the built tests/icount plugin, and after commas its options, to count instructions in every test
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(HEED_QEMU_CPU "cortex-a53" CACHE STRING "QEMU's -cpu for tests")
set(HEED_SYSROOT "/usr/aarch64-linux-gnu" CACHE PATH "The target's libraries")
set(HEED_ICOUNT_PLUGIN "" CACHE FILEPATH "QEMU plugin that counts instructions, and its options")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HEED_QEMU_CPU HEED_SYSROOT HEED_ICOUNT_PLUGIN)

set(CMAKE_C_FLAGS_INIT "-march=armv8-a")
set(CMAKE_CXX_FLAGS_INIT "-march=armv8-a")

set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L "${HEED_SYSROOT}" -cpu "${HEED_QEMU_CPU}")
if(HEED_ICOUNT_PLUGIN)
  list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -seed 1 -plugin "${HEED_ICOUNT_PLUGIN}")
endif()

# Headers and packages may also be the host's: xsimd and Catch2 are headers, and Debian's cross compiler looks there itself.
set(CMAKE_FIND_ROOT_PATH "${HEED_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
