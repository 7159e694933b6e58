# SPDX-License-Identifier: Apache-2.0
# board.cmake: what a board has, read from its linker script HEED_BOARD_SCRIPT, so that examples and tests ask for memory
# and a port instead of a board's name. Included by CMakeLists.txt; a toolchain without such a script has none of it.
#
#   heed_board_ram     bytes of the region RAM; 0 if the script does not say it in one line
#   heed_board_bulk    bytes of a region BULK of its own; 0 without one
#   heed_board_uart    ON with a CMSDK serial port, heed_uart
function(heed_read_board_script)
  set(text "")
  if(HEED_BOARD_SCRIPT AND EXISTS "${HEED_BOARD_SCRIPT}")
    file(READ "${HEED_BOARD_SCRIPT}" text)
  endif()
  foreach(region RAM BULK)
    set(bytes 0)
    if(text MATCHES "[ \n]${region}[ \t]*(\\([^)]*\\))?[ \t]*:[^\n]*LENGTH[ \t]*=[ \t]*([0-9]+)[ \t]*([KM]?)")
      set(bytes ${CMAKE_MATCH_2})
      if(CMAKE_MATCH_3 STREQUAL "K")
        math(EXPR bytes "${bytes} * 1024")
      elseif(CMAKE_MATCH_3 STREQUAL "M")
        math(EXPR bytes "${bytes} * 1048576")
      endif()
    endif()
    string(TOLOWER ${region} name)
    set(heed_board_${name} ${bytes} PARENT_SCOPE)
  endforeach()
  if(text MATCHES "\nheed_uart *=")
    set(heed_board_uart ON PARENT_SCOPE)
  else()
    set(heed_board_uart OFF PARENT_SCOPE)
  endif()
endfunction()
heed_read_board_script()
