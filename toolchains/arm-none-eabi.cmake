# SPDX-License-Identifier: Apache-2.0
# Bare-metal Cortex-M with GCC or clang; tests run on boards emulated by QEMU.
#
#   BOARD               the board, which is also QEMU's -M; default: the one that goes with HEED_CPU
#                       A board that is none of ours wants HEED_CPU and HEED_LINKER_SCRIPT; its tests run only where QEMU
#                       knows a machine of that name.
#   HEED_CPU            cortex-m0|m3|m4|m7|m23|m33|m55; default: the board's own core. Code for a smaller core runs on a larger
#                       one: HEED_CPU=cortex-m0 with BOARD=mps2-an385 gives M0 code the memory of an MPS2 board.
#   HEED_COMPILER       gcc (default), or clang with the headers, C library and linker of arm-none-eabi-gcc
#   HEED_STACK_BYTES    overrides the board's stack size
#   HEED_LINKER_SCRIPT  replaces boards/<BOARD>.ld; it may still say INCLUDE sections.ld
#   HEED_ICOUNT_PLUGIN  the built tests/icount plugin, and after commas its options, to count instructions in every test
#
# A test's arguments go through QEMU: add_test(NAME t COMMAND program -append "words of the command line"). Host files
# are opened by semihosting, relative to the test's working directory.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)  # CMake's own probes have no start-up code to link

set(BOARD "" CACHE STRING "Board to link for and to emulate")
set(HEED_CPU "" CACHE STRING "Core to generate code for")
set(HEED_COMPILER "gcc" CACHE STRING "gcc or clang")
set(HEED_STACK_BYTES "" CACHE STRING "Stack size instead of the board's default")
set(HEED_LINKER_SCRIPT "" CACHE FILEPATH "Linker script instead of the board's")
set(HEED_ICOUNT_PLUGIN "" CACHE FILEPATH "QEMU plugin that counts instructions, and its options")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES
     BOARD HEED_CPU HEED_COMPILER HEED_STACK_BYTES HEED_LINKER_SCRIPT HEED_ICOUNT_PLUGIN)

# Cores and the boards that have them, in step. The first core of mps2-an521 is an M33 without DSP and FPU.
set(_cores  cortex-m3  cortex-m4  cortex-m7  cortex-m33 cortex-m55 cortex-m0 cortex-m3   cortex-m3)
set(_boards mps2-an385 mps2-an386 mps2-an500 mps2-an505 mps3-an547 microbit  lm3s6965evb mps2-an521)
set(_board "${BOARD}")
set(_cpu "${HEED_CPU}")
if(NOT _board)
  if(NOT _cpu)
    set(_cpu cortex-m4)
  endif()
  if(_cpu STREQUAL "cortex-m0")
    set(_board mps2-an385)
  elseif(_cpu STREQUAL "cortex-m23")
    set(_board mps2-an505)
  else()
    list(FIND _cores "${_cpu}" _index)
    if(_index LESS 0)
      message(FATAL_ERROR "unknown HEED_CPU '${_cpu}': cortex-m0, m3, m4, m7, m23, m33 or m55")
    endif()
    list(GET _boards ${_index} _board)
  endif()
endif()
list(FIND _boards "${_board}" _index)
if(_index GREATER_EQUAL 0)
  list(GET _cores ${_index} _board_cpu)
  if(NOT _cpu)
    set(_cpu ${_board_cpu})
  endif()
  # What each board's core executes; M7 code is left to M7 because of its floating-point unit.
  set(_runs_cortex-m0 cortex-m0)
  set(_runs_cortex-m3 cortex-m0 cortex-m3)
  set(_runs_cortex-m4 cortex-m0 cortex-m3 cortex-m4)
  set(_runs_cortex-m7 cortex-m0 cortex-m3 cortex-m4 cortex-m7)
  set(_runs_cortex-m33 cortex-m0 cortex-m3 cortex-m4 cortex-m23 cortex-m33)
  set(_runs_cortex-m55 cortex-m0 cortex-m3 cortex-m4 cortex-m23 cortex-m33 cortex-m55)
  if(NOT _cpu IN_LIST _runs_${_board_cpu})
    message(FATAL_ERROR "BOARD ${_board} has a ${_board_cpu}, which does not run code for HEED_CPU '${_cpu}'")
  endif()
elseif(NOT _cpu OR NOT HEED_LINKER_SCRIPT)
  message(FATAL_ERROR "BOARD '${_board}' is none of ${_boards}: a board of your own wants HEED_CPU and HEED_LINKER_SCRIPT too")
endif()
set(HEED_TARGET_CPU ${_cpu})
set(HEED_TARGET_BOARD ${_board})

set(_flags_cortex-m0 "-mcpu=cortex-m0")
set(_flags_cortex-m3 "-mcpu=cortex-m3")
set(_flags_cortex-m4 "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard")
set(_flags_cortex-m7 "-mcpu=cortex-m7 -mfpu=fpv5-sp-d16 -mfloat-abi=hard")
set(_flags_cortex-m23 "-mcpu=cortex-m23")
set(_flags_cortex-m33 "-mcpu=cortex-m33 -mfpu=fpv5-sp-d16 -mfloat-abi=hard")
set(_flags_cortex-m55 "-mcpu=cortex-m55 -mfloat-abi=hard")
if(NOT DEFINED _flags_${_cpu})
  message(FATAL_ERROR "unknown HEED_CPU '${_cpu}': cortex-m0, m3, m4, m7, m23, m33 or m55")
endif()

set(_clang_flags "")
set(_link "")
if(HEED_COMPILER STREQUAL "clang")
  # GCC's own library of C++ for these flags, of which the headers are used, and the folders of its C library and helpers.
  separate_arguments(_words UNIX_COMMAND "${_flags_${_cpu}} -mthumb")
  execute_process(COMMAND arm-none-eabi-g++ ${_words} -E -x c++ -v /dev/null OUTPUT_QUIET ERROR_VARIABLE _says)
  string(REGEX MATCHALL "\n /[^\n ]*/include[^\n ]*" _folders "${_says}")
  foreach(_folder ${_folders})
    string(STRIP "${_folder}" _folder)
    if(NOT _folder MATCHES "/lib/gcc/[^/]+/[^/]+/include(-fixed)?$")  # the compiler's own
      string(APPEND _clang_flags " -isystem ${_folder}")
    endif()
  endforeach()
  foreach(_library libc_nano.a libgcc.a)
    execute_process(COMMAND arm-none-eabi-g++ ${_words} -print-file-name=${_library} OUTPUT_VARIABLE _found
                    OUTPUT_STRIP_TRAILING_WHITESPACE)
    get_filename_component(_found ${_found} DIRECTORY)
    string(APPEND _link " -L${_found}")
  endforeach()
  find_program(_ld arm-none-eabi-ld REQUIRED)
  string(APPEND _link " -fuse-ld=${_ld} -Wl,-z,noexecstack")
  string(APPEND _clang_flags " -fshort-enums")  # GCC's default here, which the C library was compiled with
  add_compile_options(-fno-vectorize -fno-slp-vectorize)  # clang 14's vectors for Helium lose NaNs, or end in a crash
  set(CMAKE_C_COMPILER clang)
  set(CMAKE_CXX_COMPILER clang++)
  foreach(_language C CXX ASM)
    set(CMAKE_${_language}_COMPILER_TARGET arm-none-eabi)
  endforeach()
  foreach(_tool AR RANLIB NM OBJCOPY OBJDUMP STRIP)
    string(TOLOWER arm-none-eabi-${_tool} _name)
    find_program(CMAKE_${_tool} ${_name} REQUIRED)
  endforeach()
else()
  set(CMAKE_C_COMPILER arm-none-eabi-gcc)
  set(CMAKE_CXX_COMPILER arm-none-eabi-g++)
endif()

set(CMAKE_C_FLAGS_INIT "${_flags_${_cpu}} -mthumb${_clang_flags} -ffunction-sections -fdata-sections")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT} -fno-exceptions -fno-rtti -fno-threadsafe-statics")
set(CMAKE_ASM_FLAGS_INIT "${_flags_${_cpu}} -mthumb")

# Only memcpy and its like and the compiler's helpers: no C++ runtime, no system calls, and so no allocator.
set(HEED_BOARD_SCRIPT "${CMAKE_CURRENT_LIST_DIR}/boards/${_board}.ld")
if(HEED_LINKER_SCRIPT)
  set(HEED_BOARD_SCRIPT "${HEED_LINKER_SCRIPT}")
endif()
set(CMAKE_EXE_LINKER_FLAGS_INIT
    "-nostdlib${_link} -Wl,--gc-sections \"-L${CMAKE_CURRENT_LIST_DIR}/boards\" \"-T${HEED_BOARD_SCRIPT}\"")
if(HEED_STACK_BYTES)
  string(APPEND CMAKE_EXE_LINKER_FLAGS_INIT " -Wl,--defsym=heed_stack_size=${HEED_STACK_BYTES}")
endif()
set(CMAKE_C_STANDARD_LIBRARIES_INIT "-Wl,--start-group -lc_nano -lgcc -Wl,--end-group")
set(CMAKE_CXX_STANDARD_LIBRARIES_INIT "${CMAKE_C_STANDARD_LIBRARIES_INIT}")

# ctest appends the program, so -kernel comes last. Without chardev= the program's text would go to stderr.
set(CMAKE_CROSSCOMPILING_EMULATOR
    qemu-system-arm -M ${_board} -nographic -monitor none -serial none
    -chardev stdio,id=console -semihosting-config enable=on,target=native,chardev=console)
if(HEED_ICOUNT_PLUGIN)
  list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -plugin "${HEED_ICOUNT_PLUGIN}")
endif()
list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -kernel)

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
