/* SPDX-License-Identifier: MIT */
/* icount_plugin.c: a QEMU plugin that counts executed guest instructions, exactly and repeatably.
 *
 *   cc -O2 -shared -fPIC -o libicount.so icount_plugin.c
 *   qemu-aarch64 ... -plugin ./libicount.so,out=counts.txt,symbol=matmul ./program
 *   qemu-system-arm ... -plugin ./libicount.so,out=counts.txt -kernel program
 *
 * Options, each after a comma; those marked * may be repeated, 28 in all:
 *   out=FILE            where to write; default stderr
 *   detail=on           also count vector or FP instructions (Arm only), loads and stores (Helium: one per element)
 *   threads=off         user mode: faster, and an error if the program starts a second thread
 *   range=START-END *   count instructions at START <= address < END, as loaded (of a Thumb function, with bit 0 clear);
 *   range=START+SIZE *  the same, from the two numbers of `nm -S`
 *   symbol=TEXT *       count instructions in functions whose (mangled) name contains TEXT; needs a symbol table
 *   match=MASK:VALUE *  count instructions whose encoding & MASK == VALUE. Encodings are as manuals print them: A64 and
 *                       32-bit Thumb (first halfword high) 32 bits, 16-bit Thumb by a MASK of at most 0xFFFF, x86 the
 *                       first eight bytes, the first one highest. A32 code is not matched. Examples:
 *                         A64 smull 0xBFE0FC00:0x0E20C000, sdot 0xBFE0FC00:0x0E809400, sdot by element 0xBFC0F400:0x0F80E000,
 *                             smmla 0xFFE0FC00:0x4E80A400
 *                         Thumb smlad 0xFFF000F0:0xFB200000, vmladav.s8 0xFFF11FD1:0xEEF00F00, NEON vmull.s8 0xFFB00F50:0xEF800C00
 *                         x86 vpmaddubsw (VEX) 0xFF1F03FF00000000:0xC402010400000000
 *
 * Output, one line each:
 *   region N INSTRUCTIONS [VECTOR LOADS STORES] [one count per range/symbol/match, in order] [vcpu K]
 *   range|symbol|match TEXT COUNT     over the whole run
 *   total INSTRUCTIONS [VECTOR LOADS STORES]
 *   warning ...                       a mark that has no partner
 * A region is what one thread executes between the marks of icount_mark.hpp; vcpu K tells which, unless it is the first.
 * Marks are counted nowhere. Where the guest can have several threads each has counters of its own, and sums are taken at exit.
 *
 * Debian 12's QEMU 7.2 exports the plugin interface without a header, so the entry points used are declared here. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t PluginId;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
  const char *target_name;
  struct { int min, cur; } version;
  bool system_emulation;
  struct { int smp_vcpus, max_vcpus; } system;
} PluginInfo;
enum { kNoRegisters = 0, kInlineAdd = 0, kReadsAndWrites = 3 };
extern void qemu_plugin_register_vcpu_init_cb(PluginId, void (*)(PluginId, unsigned));
extern void qemu_plugin_register_vcpu_tb_trans_cb(PluginId, void (*)(PluginId, struct qemu_plugin_tb *));
extern void qemu_plugin_register_atexit_cb(PluginId, void (*)(PluginId, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, void (*)(unsigned, uint32_t, uint64_t, void *),
                                             int, int, void *);
extern bool qemu_plugin_mem_is_store(uint32_t);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { kInstructions, kVector, kLoads, kStores, kFirstFilter, kCounters = 32, kVcpus = 256 };
typedef struct {
  enum { kRange, kSymbol, kMatch } kind;
  const char *text;
  uint64_t a, b; /* start and end, or mask and value */
} Filter;
typedef struct {
  _Alignas(64) uint64_t now[kCounters];
  uint64_t start[kCounters];
  bool open;
} Vcpu;

static Vcpu g_vcpus[kVcpus];
static Filter g_filters[kCounters - kFirstFilter];
static int g_n_filters;
static bool g_detail, g_several, g_thumb;
static unsigned g_n_regions;
static FILE *g_out;
static enum { kA64, kArm, kX86, kOther } g_target = kOther;

static void put_counts(const uint64_t *counts) {
  fprintf(g_out, " %" PRIu64, counts[kInstructions]);
  for (int i = kVector; g_detail && i <= kStores; ++i) fprintf(g_out, " %" PRIu64, counts[i]);
}

static void on_start(unsigned index, void *unused) {
  (void)unused;
  Vcpu *vcpu = &g_vcpus[index];
  if (vcpu->open) fprintf(g_out, "warning: vcpu %u starts a region inside a region, which is dropped\n", index);
  memcpy(vcpu->start, vcpu->now, sizeof vcpu->now);
  vcpu->open = true;
}

static void on_stop(unsigned index, void *unused) {
  (void)unused;
  Vcpu *vcpu = &g_vcpus[index];
  uint64_t counts[kCounters];
  if (!vcpu->open) {
    fprintf(g_out, "warning: vcpu %u stops a region that was not started\n", index);
    return;
  }
  vcpu->open = false;
  for (int i = 0; i < kCounters; ++i) counts[i] = vcpu->now[i] - vcpu->start[i];
  flockfile(g_out);
  fprintf(g_out, "region %u", ++g_n_regions);
  put_counts(counts);
  for (int i = 0; i < g_n_filters; ++i) fprintf(g_out, " %" PRIu64, counts[kFirstFilter + i]);
  if (index != 0) fprintf(g_out, " vcpu %u", index);
  fputc('\n', g_out);
  funlockfile(g_out);
}

static void on_count(unsigned index, void *counter) { ++g_vcpus[index].now[(uintptr_t)counter]; }

static void on_memory(unsigned index, uint32_t info, uint64_t address, void *unused) {
  (void)address;
  (void)unused;
  ++g_vcpus[index].now[qemu_plugin_mem_is_store(info) ? kStores : kLoads];
}

/* The inline addition is not atomic and knows no thread, so it serves only where there is a single one. */
static void count(struct qemu_plugin_insn *insn, int counter) {
  if (g_several)
    qemu_plugin_register_vcpu_insn_exec_cb(insn, on_count, kNoRegisters, (void *)(uintptr_t)counter);
  else
    qemu_plugin_register_vcpu_insn_exec_inline(insn, kInlineAdd, &g_vcpus[0].now[counter], 1);
}

/* A Cortex-M executes only Thumb. QEMU 7.2 appends to an instruction what it read ahead at the end of a page. */
static size_t size_of(const struct qemu_plugin_insn *insn) {
  const uint8_t *b = qemu_plugin_insn_data(insn);
  if (g_target != kArm || !g_thumb) return qemu_plugin_insn_size(insn);
  return b[1] >> 3 >= 0x1D ? 4 : 2;
}

/* As in the manuals; see match= above. */
static uint64_t encoding(const struct qemu_plugin_insn *insn) {
  const uint8_t *b = qemu_plugin_insn_data(insn);
  size_t size = size_of(insn);
  uint64_t value = 0;
  if (g_target == kArm) {
    value = b[0] | b[1] << 8;
    return size == 4 ? value << 16 | b[2] | (uint64_t)b[3] << 8 : value;
  }
  if (g_target == kA64) return b[0] | b[1] << 8 | b[2] << 16 | (uint64_t)b[3] << 24;
  for (size_t i = 0; i < 8; ++i) value = value << 8 | (i < size ? b[i] : 0);
  return value;
}

static bool is_vector(uint64_t w, size_t size) {
  if (g_target == kA64) /* FP and Advanced SIMD; loads and stores with bit 26; SVE */
    return (w >> 25 & 7) == 7 || (w >> 25 & 7) == 6 || (w >> 25 & 15) == 2;
  return g_target == kArm && size == 4 && ((w & 0xEC000000) == 0xEC000000 || (w & 0xFF100000) == 0xF9000000);
}

/* 1 starts a region, 2 stops it */
static int mark(uint64_t w, size_t size) {
  switch (g_target) {
    case kA64: return w == 0xAA0903E9 ? 1 : w == 0xAA0A03EA ? 2 : 0;
    case kArm: /* Thumb, then A32 with its halfwords swapped by encoding() */
      if (size == 2) return w == 0x46C9 ? 1 : w == 0x46D2 ? 2 : 0;
      return w == 0x9009E1A0 ? 1 : w == 0xA00AE1A0 ? 2 : 0;
    case kX86: return size != 3 ? 0 : w >> 40 == 0x4D89C9 ? 1 : w >> 40 == 0x4D89D2 ? 2 : 0;
    default: return 0;
  }
}

static bool passes(const Filter *filter, const struct qemu_plugin_insn *insn, uint64_t w) {
  if (filter->kind == kRange) {
    uint64_t address = qemu_plugin_insn_vaddr(insn);
    return filter->a <= address && address < filter->b;
  }
  if (filter->kind == kSymbol) {
    const char *name = qemu_plugin_insn_symbol(insn);
    return name && strstr(name, filter->text);
  }
  if (g_target == kArm && (filter->a > 0xFFFF) != (size_of(insn) == 4)) return false;
  return (w & filter->a) == filter->b;
}

static void on_translate(PluginId id, struct qemu_plugin_tb *tb) {
  (void)id;
  for (size_t i = 0, n = qemu_plugin_tb_n_insns(tb); i < n; ++i) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    uint64_t w = encoding(insn);
    size_t size = size_of(insn);
    int m = mark(w, size);
    if (m != 0) {
      qemu_plugin_register_vcpu_insn_exec_cb(insn, m == 1 ? on_start : on_stop, kNoRegisters, NULL);
      continue;
    }
    count(insn, kInstructions);
    for (int f = 0; f < g_n_filters; ++f)
      if (passes(&g_filters[f], insn, w)) count(insn, kFirstFilter + f);
    if (!g_detail) continue;
    if (is_vector(w, size)) count(insn, kVector);
    /* A callback even with one thread: QEMU 7.2's inline form mixes up reads and writes. */
    qemu_plugin_register_vcpu_mem_cb(insn, on_memory, kNoRegisters, kReadsAndWrites, NULL);
  }
}

static void on_vcpu(PluginId id, unsigned index) {
  (void)id;
  if (index < (g_several ? kVcpus : 1)) return;
  fprintf(stderr, "icount: %s\n", g_several ? "too many threads" : "the program starts a thread: remove threads=off");
  exit(1);
}

static void at_exit(PluginId id, void *unused) {
  (void)id;
  (void)unused;
  static const char *const kNames[] = {"range", "symbol", "match"};
  uint64_t sums[kCounters] = {0};
  for (unsigned v = 0; v < kVcpus; ++v) {
    for (int i = 0; i < kCounters; ++i) sums[i] += g_vcpus[v].now[i];
    if (g_vcpus[v].open) fprintf(g_out, "warning: vcpu %u leaves a region open\n", v);
  }
  for (int i = 0; i < g_n_filters; ++i)
    fprintf(g_out, "%s %s %" PRIu64 "\n", kNames[g_filters[i].kind], g_filters[i].text, sums[kFirstFilter + i]);
  fputs("total", g_out);
  put_counts(sums);
  fputc('\n', g_out);
  fflush(g_out);
}

static bool add_filter(const char *argument) {
  Filter filter = {kSymbol, strchr(argument, '=') + 1, 0, 0};
  char separator = 0;
  if (!strncmp(argument, "range=", 6)) filter.kind = kRange, separator = '-';
  if (!strncmp(argument, "match=", 6)) filter.kind = kMatch, separator = ':';
  if (separator) {
    char *end;
    filter.a = strtoull(filter.text, &end, 0);
    bool has_size = filter.kind == kRange && *end == '+';
    if (*end != separator && !has_size) return false;
    filter.b = strtoull(end + 1, &end, 0) + (has_size ? filter.a : 0);
    if (*end != '\0' || (filter.kind == kRange ? filter.a >= filter.b : (filter.b & ~filter.a) != 0)) return false;
  }
  if (g_n_filters == kCounters - kFirstFilter || !(filter.text = strdup(filter.text))) return false;
  g_filters[g_n_filters++] = filter;
  return true;
}

EXPORT int qemu_plugin_install(PluginId id, const PluginInfo *info, int argc, char **argv) {
  g_out = stderr;
  g_several = !info->system_emulation || info->system.max_vcpus > 1;
  g_thumb = info->system_emulation;
  for (int i = 0; i < argc; ++i) {
    bool ok = true;
    if (!strncmp(argv[i], "out=", 4)) ok = (g_out = fopen(argv[i] + 4, "w")) != NULL;
    else if (!strcmp(argv[i], "detail=on")) g_detail = true;
    else if (!strcmp(argv[i], "threads=off")) g_several = false;
    else if (!strncmp(argv[i], "range=", 6) || !strncmp(argv[i], "symbol=", 7) || !strncmp(argv[i], "match=", 6))
      ok = add_filter(argv[i]);
    else ok = false;
    if (!ok) {
      fprintf(stderr, "icount: cannot use '%s'\n", argv[i]);
      return -1;
    }
  }
  setvbuf(g_out, NULL, _IOLBF, 0); /* an emulator that aborts still leaves the lines before */
  if (!strcmp(info->target_name, "aarch64")) g_target = kA64;
  else if (!strcmp(info->target_name, "arm")) g_target = kArm;
  else if (!strcmp(info->target_name, "x86_64")) g_target = kX86;
  qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  qemu_plugin_register_atexit_cb(id, at_exit, NULL);
  return 0;
}
