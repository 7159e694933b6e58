// SPDX-License-Identifier: Apache-2.0
// startup.cpp: the test harness that starts a Cortex-M program: vector table, FPU and Helium, .data and .bss, static
// constructors, main, a report of faults, and the end by semihosting.
//
// It serves tests and examples under an emulator or a debugger, and is no start-up code for a product: its table has the 16
// vectors of the core and none of a device, every exception ends the program, and without a debugger the breakpoint of
// semihosting is itself a fault. A product keeps its vendor's start-up code; platform/README.md says what heed wants of it.
#include "platform/baremetal/semihosting.hpp"

namespace {

namespace semihosting = heed::semihosting;

#if __ARM_ARCH >= 7
constexpr bool kHasFaultStatus = true;
#else
constexpr bool kHasFaultStatus = false;
#endif

constexpr int kFaultStatus = 99;
constexpr std::uintptr_t kConfigurationControl = 0xE000ED14;
constexpr std::uintptr_t kConfigurableFaultStatus = 0xE000ED28;
constexpr std::uintptr_t kHardFaultStatus = 0xE000ED2C;
constexpr std::uintptr_t kBusFaultAddress = 0xE000ED38;
[[maybe_unused]] constexpr std::uintptr_t kCoprocessorAccess = 0xE000ED88;

volatile std::uint32_t& device_register(std::uintptr_t address) {
  return *reinterpret_cast<volatile std::uint32_t*>(address);
}

void put_named(const char* name, std::uint32_t value) {
  semihosting::put_text(name);
  semihosting::put_hex(value);
}

void set_up_core() {
#if __ARM_ARCH >= 7 && (defined(__ARM_FP) || defined(__ARM_FEATURE_MVE))
  device_register(kCoprocessorAccess) |= 0xFu << 20;  // full access to CP10 and CP11: FPU and Helium
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
  __asm__ volatile("ldr r0, =heed_stack_limit\n\tmsr msplim, r0" ::: "r0", "memory");
#endif
  constexpr std::uint32_t kTrapUnaligned = 1u << 3;
  constexpr std::uint32_t kTrapDivisionByZero = 1u << 4;
#if __ARM_ARCH >= 7
  device_register(kConfigurationControl) |= kTrapDivisionByZero;
  (void)kTrapUnaligned;
#else
  // Always on in an ARMv6-M core. Written so that its code is held to the same rule on an M3 board.
  device_register(kConfigurationControl) |= kTrapUnaligned;
  (void)kTrapDivisionByZero;
#endif
#if defined(__ARM_FEATURE_MVE)
  constexpr std::uint32_t kLowOverheadLoops = 1u << 19;
  device_register(kConfigurationControl) |= kLowOverheadLoops;  // LE branches cost cycles until this is set
#endif
}

}  // namespace

extern "C" {

extern std::uint32_t heed_stack_top[];
extern std::uint32_t heed_data_load[], heed_data_start[], heed_data_end[];
extern std::uint32_t heed_bss_start[], heed_bss_end[];
using Constructor = void (*)();
extern Constructor heed_preinit_start[], heed_preinit_end[], heed_init_start[], heed_init_end[];
int application_main() __asm__("main");  // C++ forbids calling main by its own name

// `pc` and `lr` are what the core saved when the fault came, or both 0 if the stack could not hold them.
[[noreturn, gnu::used]] void heed_report_fault(std::uint32_t exception, std::uint32_t pc, std::uint32_t lr) {
  semihosting::put_text(pc == 0 && lr == 0 ? "\nfault: stack overflow, exception " : "\nfault: exception ");
  semihosting::put_decimal(exception);
  put_named(" pc 0x", pc);
  put_named(" lr 0x", lr);
  if constexpr (kHasFaultStatus) {
    put_named(" cfsr 0x", device_register(kConfigurableFaultStatus));
    put_named(" hfsr 0x", device_register(kHardFaultStatus));
    put_named(" bfar 0x", device_register(kBusFaultAddress));
  }
  semihosting::put_text("\n");
  semihosting::exit(kFaultStatus);
}

// Reads the saved frame only if it lies in the stack, then reports from a fresh one: after an overflow there is no room left.
[[gnu::naked]] void heed_fault_handler() {
  __asm__ volatile(
      "mrs  r0, ipsr             \n"
      "mrs  r3, msp              \n"
      "movs r1, #0               \n"
      "movs r2, #0               \n"
      "ldr  r4, =heed_stack_limit\n"
      "cmp  r3, r4               \n"
      "bls  1f                   \n"
      "ldr  r1, [r3, #24]        \n"
      "ldr  r2, [r3, #20]        \n"
      "1:                        \n"
      "ldr  r4, =heed_stack_top  \n"
      "mov  sp, r4               \n"
      "bl   heed_report_fault    \n"
      ".ltorg                    \n");
}

[[noreturn]] void heed_reset_handler() {
  set_up_core();
  for (std::uint32_t *to = heed_data_start, *from = heed_data_load; to != heed_data_end;) *to++ = *from++;
  for (std::uint32_t* to = heed_bss_start; to != heed_bss_end;) *to++ = 0;
  for (Constructor* f = heed_preinit_start; f != heed_preinit_end; ++f) (*f)();
  for (Constructor* f = heed_init_start; f != heed_init_end; ++f) (*f)();
  semihosting::exit(application_main());
}

struct VectorTable {
  const void* initial_stack;
  void (*reset)();
  void (*exceptions[14])();
};

extern const VectorTable heed_vectors;
[[gnu::section(".vectors"), gnu::used]] const VectorTable heed_vectors = {
    heed_stack_top,
    heed_reset_handler,
    {heed_fault_handler, heed_fault_handler, heed_fault_handler, heed_fault_handler, heed_fault_handler,
     heed_fault_handler, heed_fault_handler, heed_fault_handler, heed_fault_handler, heed_fault_handler,
     heed_fault_handler, heed_fault_handler, heed_fault_handler, heed_fault_handler}};

// Static destructors never run here. These stubs keep the C library's registry of them, and its heap, out of the program.
void* __dso_handle = nullptr;
int __aeabi_atexit(void*, void (*)(void*), void*) { return 0; }

// What the compiler's division routines call for a zero divisor: a fault, as where the core divides by itself.
[[gnu::naked]] int __aeabi_idiv0(int) { __asm__ volatile("udf #0"); }
[[gnu::naked]] long long __aeabi_ldiv0(long long) { __asm__ volatile("udf #0"); }

void __cxa_pure_virtual() { semihosting::exit(kFaultStatus); }

}  // extern "C"
