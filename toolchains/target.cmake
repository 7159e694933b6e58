# SPDX-License-Identifier: Apache-2.0
# target.cmake: what platform/target.hpp makes of the compiler and its flags. Included by CMakeLists.txt.
#
#   heed_board    ON where firmware is built: one kernel table, the compiler alone, no tools
#   heed_table    its table, such as kernels_cortex_m4
#   heed_layout   the layout that the table eats: row, pair or block64
set(heed_board OFF)
function(heed_ask_compiler)
  # What an enclosing project says by add_compile_options counts as well as CMAKE_CXX_FLAGS.
  separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_COMPILER_ARG1} ${CMAKE_CXX_FLAGS}")
  get_directory_property(options COMPILE_OPTIONS)
  get_directory_property(definitions COMPILE_DEFINITIONS)
  foreach(option ${options})
    if(NOT option MATCHES "\\$<")
      string(REGEX REPLACE "^SHELL:" "" option "${option}")
      separate_arguments(option UNIX_COMMAND "${option}")
      list(APPEND flags ${option})
    endif()
  endforeach()
  if(CMAKE_CXX_COMPILER_TARGET AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND flags --target=${CMAKE_CXX_COMPILER_TARGET})
  endif()
  if(HEED_PORTABLE OR "HEED_PORTABLE=1" IN_LIST definitions OR HEED_PORTABLE IN_LIST definitions)
    list(APPEND flags -DHEED_PORTABLE=1)
  endif()
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/heed_target.cpp)
  file(WRITE ${probe} "#include \"platform/target.hpp\"\n#ifdef HEED_SINGLE_TABLE\nheed_is HEED_SINGLE_TABLE HEED_SINGLE_LAYOUT\n#endif\n")
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} ${flags} -I${CMAKE_CURRENT_SOURCE_DIR} -E ${probe}
                  OUTPUT_VARIABLE text ERROR_VARIABLE error RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "heed: ${CMAKE_CXX_COMPILER} does not preprocess platform/target.hpp:\n${error}")
  endif()
  if(text MATCHES "heed_is +([a-z0-9_]+) +([a-z0-9]+)")
    set(heed_board ON PARENT_SCOPE)
    set(heed_table ${CMAKE_MATCH_1} PARENT_SCOPE)
    set(heed_layout ${CMAKE_MATCH_2} PARENT_SCOPE)
    message(STATUS "heed: ${CMAKE_MATCH_1} and the layout ${CMAKE_MATCH_2}, from what the compiler says of its target")
  endif()
  if(HEED_CPU AND NOT HEED_TARGET_CPU)
    message(WARNING "heed: HEED_CPU is an option of toolchains/arm-none-eabi.cmake. With another toolchain file the kernels "
                    "follow from flags such as -mcpu; those here give ${CMAKE_MATCH_1}.")
  endif()
endfunction()
if(NOT CMAKE_SYSTEM_NAME MATCHES "^(Linux|Darwin|Windows|Android|iOS|FreeBSD|NetBSD|OpenBSD|CYGWIN)$")
  option(HEED_PORTABLE "plain C++ kernels on a board, whatever its core is" OFF)
  heed_ask_compiler()
endif()
