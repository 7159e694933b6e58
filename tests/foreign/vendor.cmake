# SPDX-License-Identifier: Apache-2.0
# A toolchain file as vendors' project generators write them: it knows nothing of heed. FOREIGN_CPU is what follows -mcpu=.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_CXX_COMPILER arm-none-eabi-g++)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FOREIGN_CPU)
set(CMAKE_C_FLAGS_INIT "-mcpu=${FOREIGN_CPU} -mthumb -fdata-sections -ffunction-sections")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT} -fno-rtti -fno-exceptions -fno-threadsafe-statics")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-nostdlib -Wl,--gc-sections -Wl,--no-warn-rwx-segments")
set(CMAKE_CXX_STANDARD_LIBRARIES_INIT "-Wl,--start-group -lc_nano -lgcc -Wl,--end-group")
