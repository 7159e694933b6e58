// SPDX-License-Identifier: Apache-2.0
// uart.hpp: the serial port of Arm's MPS2 and MPS3 boards (CMSDK APB UART), byte by byte, without interrupts.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
extern volatile std::uint32_t heed_uart[];  // its registers; from the board's linker script
}

namespace heed::uart {

enum Register : std::uint32_t { kData = 0, kState = 1, kControl = 2, kDivider = 4 };
inline constexpr std::uint32_t kTransmitFull = 1, kReceiveFull = 2, kEnableBoth = 3;

// `divider`: clocks per bit, at least 16.
inline void begin(std::uint32_t divider) {
  heed_uart[kDivider] = divider;
  heed_uart[kControl] = kEnableBoth;
}

inline void put(char c) {
  while (heed_uart[kState] & kTransmitFull) {
  }
  heed_uart[kData] = static_cast<std::uint8_t>(c);
}

// Waits for a byte.
inline std::uint8_t get() {
  while (!(heed_uart[kState] & kReceiveFull)) {
  }
  return static_cast<std::uint8_t>(heed_uart[kData]);
}

}  // namespace heed::uart
