# SPDX-License-Identifier: Apache-2.0
# 32-bit Arm Linux with Debian's cross GCC; tests run under qemu-arm. The compiler's own default has no NEON.
#
#   HEED_QEMU_CPU       QEMU's -cpu; default cortex-a15
#   HEED_SYSROOT        where the target's libraries are; default /usr/arm-linux-gnueabihf (Debian)
#   HEED_ICOUNT_PLUGIN  the built tests/icount plugin, and after commas its options, to count instructions in every test
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7)
set(CMAKE_C_COMPILER arm-linux-gnueabihf-gcc)
set(CMAKE_CXX_COMPILER arm-linux-gnueabihf-g++)

set(HEED_QEMU_CPU "cortex-a15" CACHE STRING "QEMU's -cpu for tests")
set(HEED_SYSROOT "/usr/arm-linux-gnueabihf" CACHE PATH "The target's libraries")
set(HEED_ICOUNT_PLUGIN "" CACHE FILEPATH "QEMU plugin that counts instructions, and its options")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HEED_QEMU_CPU HEED_SYSROOT HEED_ICOUNT_PLUGIN)

set(CMAKE_C_FLAGS_INIT "-march=armv7-a+neon-vfpv4 -mfloat-abi=hard -mthumb")
set(CMAKE_CXX_FLAGS_INIT "-march=armv7-a+neon-vfpv4 -mfloat-abi=hard -mthumb -Wno-psabi")

set(CMAKE_CROSSCOMPILING_EMULATOR qemu-arm -L "${HEED_SYSROOT}" -cpu "${HEED_QEMU_CPU}")
if(HEED_ICOUNT_PLUGIN)
  list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -seed 1 -plugin "${HEED_ICOUNT_PLUGIN}")
endif()

# Headers and packages may also be the host's: xsimd and Catch2 are headers, and Debian's cross compiler looks there itself.
set(CMAKE_FIND_ROOT_PATH "${HEED_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
