// SPDX-License-Identifier: Apache-2.0
// heed.h: the whole runtime for C: an image in flash or mapped memory, one block of the caller's memory, text out.
//
//   open model -> make plan -> create session -> prefill, step -> logits -> pick -> token -> text
//                                             -> encode -> a class, a vector, or one of these at each position
//                                             -> set source, then prefill, step: a text from another one
//
// C99, and C++ if need be. Nothing here allocates, prints, aborts or keeps global state. The answer is the same bits
// on every CPU, and the same as through the C++ headers.
//
// OBJECTS are structures of fixed size in the caller's memory (static, stack, wherever), filled by the function that
// opens, makes or creates them. Their content is private, and their sizes are part of the ABI. A zeroed object, and
// one whose creation was refused, is valid and refuses every call with HEED_BAD_ARGUMENT; its getters give 0. An object
// that was neither zeroed nor created must not be used. Objects need no destruction. Models, plans, tokenizers and
// generations may be copied, and read by several threads; a session, a sampler or a decoder belongs to one thread at a
// time.
//
// ARGUMENTS: the object first, then outputs, then inputs. No pointer may be null unless its comment says so;
// HEED_BAD_ARGUMENT otherwise. Outputs are written on HEED_OK only, unless their comment says more. A pointer with a
// shape, such as [vocab_size], points to that many elements. Sizes called *_bytes are in bytes, all others count
// elements.
#ifndef HEED_H
#define HEED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HEED_CHECKED __attribute__((warn_unused_result))
#else
#define HEED_CHECKED
#endif

// ---- Version --------------------------------------------------------------------------------------------------

// Of this header.
#define HEED_VERSION_MAJOR 0
#define HEED_VERSION_MINOR 1
#define HEED_VERSION_PATCH 0
#define HEED_VERSION (HEED_VERSION_MAJOR * 65536 + HEED_VERSION_MINOR * 256 + HEED_VERSION_PATCH)

// HEED_VERSION of the library; programs work with any library of the same major version (below 1: minor) that is not
// older than their header.
uint32_t heed_version(void);

// ---- Size of objects ------------------------------------------------------------------------------------------

// A firmware whose library carries no cross-attention (HEED_FEATURES, runtime/features.hpp), so that no model has two stacks,
// may define HEED_ONE_STACK for its whole program, the library included: models, plans and sessions take less memory. A header
// and a library that differ in it do not link.
#ifdef HEED_ONE_STACK
#define HEED_MODEL_WORDS 48
#define HEED_PLAN_WORDS 72
#define HEED_SESSION_WORDS (144 + 14 * sizeof(void*))
#define heed_model_open heed_model_open_one_stack
#define heed_plan_make heed_plan_make_one_stack
#define heed_session_create heed_session_create_one_stack
#define heed_session_create_in heed_session_create_in_one_stack
#else
#define HEED_MODEL_WORDS 96
#define HEED_PLAN_WORDS 128
#define HEED_SESSION_WORDS (312 + 40 * sizeof(void*))
#endif

// ---- Status ---------------------------------------------------------------------------------------------------

// Numbers never change; new ones are added at the end.
typedef enum heed_status {
  HEED_OK = 0,
  HEED_BAD_ARGUMENT = 1,           // a null pointer, an empty list, a number out of range, an object not created
  HEED_MISALIGNED = 2,             // image, arena or scratch not aligned to what the declaration asks for
  HEED_TRUNCATED = 3,              // the image ends before its header says so
  HEED_NOT_AN_IMAGE = 4,           // wrong magic, or a header that fails its own checksum
  HEED_VERSION_UNSUPPORTED = 5,    // an image format newer than this library reads
  HEED_BAD_SECTION = 6,            // a section is missing, repeated, out of bounds, overlaps another or is malformed
  HEED_BAD_CONFIG = 7,             // the configuration contradicts itself or exceeds a limit of SPEC.md
  HEED_BAD_TENSOR = 8,             // a tensor entry does not match the configuration or lies out of bounds
  HEED_BAD_VALUE = 9,              // a scale, gain, bias, multiplier or exponent out of range; a weight of -128
  HEED_BAD_CHECKSUM = 10,          // a section's bytes do not match its CRC-32C (found by verify only)
  HEED_BAD_TOKENIZER = 11,         // tokenizer tables that contradict themselves, or none
  HEED_FEATURE_NOT_BUILT = 12,     // the model needs a feature that this build does not carry
  HEED_LAYOUT_UNSUPPORTED = 13,    // these kernels cannot eat the weight layout of the image
  HEED_CONTEXT_TOO_LONG = 14,      // limits ask for more positions than the model has
  HEED_ARENA_TOO_SMALL = 15,       // the arena has fewer bytes than the plan says
  HEED_ROUNDING_MODE = 16,         // floating point does not round each operation to nearest even
  HEED_CONTEXT_FULL = 17,          // no position left, or a sequence that is too long; the session is unchanged
  HEED_BAD_TOKEN = 18,             // a token outside the vocabulary; the session is unchanged
  HEED_NO_ROOM = 19,               // the caller's output is too small
  HEED_TEXT_NOT_EXPRESSIBLE = 20,  // the vocabulary has no token for a part of the text
  HEED_STATUS_INT = 0x7FFFFFFF     // never returned; makes the type an int also where enums are short
} heed_status;

// A short, stable English phrase; never null, whatever the number: an int, because an enum may hold its own numbers only.
// Static memory. Costs a kilobyte of flash when used.
const char* heed_status_text(int status);

// ---- Tokens ---------------------------------------------------------------------------------------------------

typedef int32_t heed_token;  // 0 .. vocab_size - 1
#define HEED_NO_TOKEN (-1)   // there is none: no BOS in this vocabulary, nothing before the first token

// ---- Kernels --------------------------------------------------------------------------------------------------

// The inner loops for one instruction set, in static memory. All tables give the same bits.
typedef struct heed_kernels heed_kernels;

// The best table that runs here; never null. Firmware carries one and pays no choice. Whether it eats an image's layout
// is found out by heed_session_create; on hosts "portable" eats all.
const heed_kernels* heed_best_kernels(void);

// The table of this name ("portable", "avx2", "neon", "cortex-m4", ...); null when `name` is null, when this program
// does not carry it, or when this CPU cannot run it.
const heed_kernels* heed_find_kernels(const char* name);

// Its name, zero-terminated; null for null.
const char* heed_kernels_name(const heed_kernels* kernels);

// ---- Model ----------------------------------------------------------------------------------------------------

// A checked view of an image, which must outlive it and stay unchanged.
typedef struct heed_model {
  uint64_t storage[HEED_MODEL_WORDS];
} heed_model;

// Checks the structure of `image` [image_bytes] and every number that is trusted later, but reads no weight; takes
// well under a millisecond for small models. `image` must be aligned to 64 bytes and may be flash, a mapped file or an
// array. Untrusted bytes are refused, never believed.
// Fails with bad_argument, misaligned, truncated, not_an_image, version_unsupported, bad_section, bad_config,
// bad_tensor, bad_value or feature_not_built.
HEED_CHECKED heed_status heed_model_open(heed_model* model, const void* image, size_t image_bytes,
                                         const heed_kernels* kernels);

// Parts of the runtime that a build may leave out (HEED_FEATURES, runtime/features.hpp), as bits. Numbers never change.
#define HEED_FEATURE_GROUPS 1u
#define HEED_FEATURE_BIASES 2u
#define HEED_FEATURE_UNGATED 4u
#define HEED_FEATURE_KEY_OFFSET 8u
#define HEED_FEATURE_PATTERN_TAP 16u
#define HEED_FEATURE_LAYER_NORM 32u
#define HEED_FEATURE_LEARNED_POSITIONS 64u
#define HEED_FEATURE_GELU 128u
#define HEED_FEATURE_RELU 256u
#define HEED_FEATURE_THREADS 512u
#define HEED_FEATURE_SAMPLING 1024u
#define HEED_FEATURE_SPEED 2048u
#define HEED_FEATURE_UNROLLED 4096u
#define HEED_FEATURE_REPEAT_PENALTY 8192u
#define HEED_FEATURE_MIN_P 16384u
#define HEED_FEATURE_WINDOWS 0x8000u
#define HEED_FEATURE_SCORE_BIAS 0x10000u
#define HEED_FEATURE_NORM_AFTER 0x20000u
#define HEED_FEATURE_QUERY_KEY_NORM 0x40000u
#define HEED_FEATURE_ENCODE 0x80000u
#define HEED_FEATURE_CROSS_ATTENTION 0x100000u
#define HEED_FEATURE_VECTOR_INPUT 0x200000u
#define HEED_FEATURE_CONVOLUTIONS 0x400000u
#define HEED_FEATURE_EMBEDDING_EXTRAS 0x800000u
#define HEED_FEATURE_SIDE_BY_SIDE 0x1000000u
#define HEED_FEATURE_POOLING 0x2000000u
#define HEED_FEATURE_DENSE 0x4000000u
#define HEED_FEATURE_UNDIVIDED_VALUES 0x8000000u
#define HEED_FEATURE_GELU_QUICK 0x10000000u
#define HEED_FEATURE_BYTE_PAIRS 0x20000000u
#define HEED_FEATURE_UNIGRAM 0x40000000u
#define HEED_FEATURE_WORD_PIECES 0x80000000u
#define HEED_FEATURE_ADDED_TOKENS 0x100000000u
// No build of this version carries it: positions that stay visible beside a window, or weights of four bits.
#define HEED_FEATURE_NONE_HAS 0x8000000000000000u

// What this library carries.
uint64_t heed_built_features(void);

// What an image needs, of both of two stacks and of its tokenizers; without the bits of heed_built_features it is what is
// missing after HEED_FEATURE_NOT_BUILT of heed_model_open or heed_tokenizer_open. Also 0 when heed_model_open refuses the
// image for any other reason. `image` as there.
uint64_t heed_needed_features(const void* image, size_t image_bytes, const heed_kernels* kernels);

// Reads the whole image: checksums, and weights within -127..127. An image that is opened and not verified may give
// wrong numbers, never undefined behaviour. Fails with bad_argument, bad_checksum or bad_value.
HEED_CHECKED heed_status heed_model_verify(const heed_model* model, const heed_kernels* kernels);

// The configuration of a model's stack, of two that of the last one, whose output is the model's; 0 for null.
uint32_t heed_model_vocab_size(const heed_model* model);
uint32_t heed_model_max_seq(const heed_model* model);  // positions that the model was trained for
uint32_t heed_model_d_model(const heed_model* model);
uint32_t heed_model_d_ff(const heed_model* model);
uint32_t heed_model_n_layers(const heed_model* model);
uint32_t heed_model_n_heads(const heed_model* model);
uint32_t heed_model_n_kv_heads(const heed_model* model);
uint32_t heed_model_head_dim(const heed_model* model);

// Of an encoder or a decoder 1; 2 of a model whose last stack reads the output of the first one, the source, by
// cross-attention. 0 for null.
uint32_t heed_model_n_stacks(const heed_model* model);

// Values of heed_stack. Numbers never change.
#define HEED_USE_GENERATE 0u      // one token after the other: heed_session_prefill, _step, _evaluate
#define HEED_USE_ENCODE 1u        // a whole sequence at once: heed_session_encode, _encode_each; as a source, _set_source
#define HEED_INPUT_TOKENS 0u
#define HEED_INPUT_VECTORS 1u     // as they are
#define HEED_INPUT_PROJECTED 2u   // vectors, through a matrix
#define HEED_INPUT_CONVOLVED 3u   // vectors, through convolutions over their neighbours
#define HEED_OUTPUT_LOGITS 0u
#define HEED_OUTPUT_VECTORS 1u

// What one stack of blocks is run for, what it takes, and what it gives.
typedef struct heed_stack {
  uint32_t use;              // HEED_USE_
  uint32_t input;            // HEED_INPUT_
  uint32_t input_width;      // floats of one vector; 0 with tokens
  uint32_t input_stride;     // vectors that make one position, rounded up at the end of a sequence; 1 with tokens
  uint32_t n_class_vectors;  // positions that the stack puts in front of the sequence itself
  uint32_t n_token_types;    // 0 = none
  uint32_t output;           // HEED_OUTPUT_
  uint32_t output_width;     // logits, or floats of a vector; classes have names where the image has them
  uint32_t pooled;           // 1: one output for a sequence; 0: one per position
  uint32_t sees_both_ways;   // 0: no position sees a later one
  uint32_t window;           // positions see keys less than this far away, in some layers or all; 0 = no limit
  uint32_t vocab_size, max_seq, d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim;
  uint32_t reserved[13];     // 0
} heed_stack;

// Stack `index` of the model, 0 .. heed_model_n_stacks - 1. Fails with bad_argument.
HEED_CHECKED heed_status heed_model_stack(const heed_model* model, heed_stack* stack, uint32_t index);

// The name of output `index` of a stack that gives logits of classes: UTF-8 inside the image, not zero-terminated, its
// number of bytes in `name_bytes`; null and 0 if the image names none.
const char* heed_model_class_name(const heed_model* model, size_t* name_bytes, uint32_t index);

// Bytes of the image, as its header says; at most what was handed to open.
size_t heed_model_image_bytes(const heed_model* model);

// Lines "key=value\n" in UTF-8 inside the image, not zero-terminated, their number of bytes in `metadata_bytes`; null
// and 0 if the image has none.
const char* heed_model_metadata(const heed_model* model, size_t* metadata_bytes);

// ---- Plan -----------------------------------------------------------------------------------------------------

// What to ask for; zeroes are the defaults.
typedef struct heed_limits {
  uint32_t max_seq;      // positions to keep, at most the model's; 0 = the model's
  uint32_t chunk;        // positions that go through the layers together, at most 4096; 0 = the kernels'
  uint32_t source_seq;   // of a model of two stacks: positions of the source, at most the first one's; 0 = the first one's
  uint32_t score_rows;   // outputs that one product gives where each position has one, at most 4096; 0 = 1. A library without
                         // HEED_FEATURE_SPEED gives one after the other, with the same bits
  uint32_t reserved[4];  // 0
} heed_limits;

// Where everything in a session's memory will be.
typedef struct heed_plan {
  uint64_t storage[HEED_PLAN_WORDS];
} heed_plan;

// Integer arithmetic; touches no memory but the plan. `limits` may be null: all defaults.
// Fails with bad_argument (also source_seq where there is no source) or context_too_long.
HEED_CHECKED heed_status heed_plan_make(heed_plan* plan, const heed_model* model, const heed_kernels* kernels,
                                        const heed_limits* limits);

// Exactly what heed_session_create asks for. 64 bits, because a plan may be for more than this machine can address.
uint64_t heed_plan_arena_bytes(const heed_plan* plan);
uint32_t heed_plan_arena_align(const heed_plan* plan);  // a power of two, at most 64
uint32_t heed_plan_max_seq(const heed_plan* plan);      // positions that the session will have
uint32_t heed_plan_source_seq(const heed_plan* plan);   // those of its source; 0 without one
uint32_t heed_plan_chunk(const heed_plan* plan);

// The parts of a session's memory that may lie in different memories of a board.
typedef enum heed_region {
  HEED_REGION_KV_CACHE = 0,  // the largest, a few bytes written and all of it read once per token
  HEED_REGION_SCRATCH = 1,   // small, read and written by every operation: what tightly coupled memory is for
  HEED_REGION_LOGITS = 2     // written once per token, read by the sampler
} heed_region;
#define HEED_REGIONS 3

// Exactly what heed_session_create_in asks for one heed_region; 0 for a number that is none.
uint64_t heed_plan_region_bytes(const heed_plan* plan, int region);

// ---- Session --------------------------------------------------------------------------------------------------

// A model running in an arena: tokens or vectors in, logits or vectors out. Not to be copied. Sessions with arenas of their own are
// independent of each other.
typedef struct heed_session {
  uint64_t storage[HEED_SESSION_WORDS];
} heed_session;

// `arena` [arena_bytes]: at least heed_plan_arena_bytes, aligned to heed_plan_arena_align; any content; the session's
// alone as long as it is used. The image must live as long; model and plan need not. The plan must come from this model
// and these kernels. The last call that can fail for lack of memory.
// Fails with bad_argument, misaligned, arena_too_small, layout_unsupported or rounding_mode.
HEED_CHECKED heed_status heed_session_create(heed_session* session, const heed_model* model, const heed_plan* plan,
                                             const heed_kernels* kernels, void* arena, size_t arena_bytes);

// A block of the caller's memory.
typedef struct heed_block {
  void* start;
  size_t bytes;
} heed_block;

// The same with a block for each region, blocks[HEED_REGIONS] in the order of heed_region: at least
// heed_plan_region_bytes, aligned to heed_plan_arena_align, not overlapping (bad_argument otherwise).
HEED_CHECKED heed_status heed_session_create_in(heed_session* session, const heed_model* model, const heed_plan* plan,
                                                const heed_kernels* kernels, const heed_block* blocks);

// Of a model that generates: takes prompt[n_prompt] at the next positions. `logits`: of the last token, [vocab_size] floats
// in the arena, valid until the next call on this session. The same tokens give the same bits however they are cut into calls.
// Layers that see only a window keep only a window; it is the model's, and nothing has to be done for it.
// Fails with bad_argument (n_prompt is 0, a model that encodes, a source that is not set), bad_token, context_full, or
// rounding_mode when floats no longer round to nearest even, as each call finds out; the session is unchanged then.
HEED_CHECKED heed_status heed_session_prefill(heed_session* session, const float** logits, const heed_token* prompt,
                                              size_t n_prompt);

// The same for one token.
HEED_CHECKED heed_status heed_session_step(heed_session* session, const float** logits, heed_token token);

// Receives the logits [vocab_size] after the token at `position`; they are overwritten when it returns. Must not call
// the session nor change the rounding mode.
typedef void (*heed_take_logits)(void* context, uint32_t position, const float* logits, uint32_t vocab_size);

// As prefill, with the logits at each of the n_tokens positions, in order. limits.score_rows of them come from one product.
HEED_CHECKED heed_status heed_session_evaluate(heed_session* session, const heed_token* tokens, size_t n_tokens,
                                               heed_take_logits take, void* context);

// Positions taken so far, and how many there are.
uint32_t heed_session_position(const heed_session* session);
uint32_t heed_session_max_seq(const heed_session* session);

// Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one, and where the
// keys that a window's layers saw before it are no longer kept; 0 is always possible.
HEED_CHECKED heed_status heed_session_rewind(heed_session* session, uint32_t position);

// What a stack reads at once. Zero all of it first; then either tokens or vectors, as heed_stack says, at least one.
typedef struct heed_sequence {
  const heed_token* tokens;    // [n_tokens]
  const uint8_t* token_types;  // [n_tokens], or null: all are 0
  const float* vectors;        // [n_vectors, input_width]
  size_t n_tokens, n_vectors;
  uint64_t reserved[2];        // 0
} heed_sequence;

// Of a model that encodes: takes a whole sequence and gives its one output; `output`: [output_width] floats in the arena,
// valid until the next call on this session. Fails with bad_argument (nothing in the sequence, or of the other kind; a model
// that does not encode or does not pool; a source that is not set), misaligned, bad_token (or a type that there is
// not), context_full, feature_not_built or rounding_mode; the session is unchanged then.
HEED_CHECKED heed_status heed_session_encode(heed_session* session, const float** output, const heed_sequence* input);

// Receives the output [output_width] of one position, or of a whole sequence at position 0; it is overwritten when this
// returns. Must not call the session nor change the rounding mode.
typedef void (*heed_take_output)(void* context, uint32_t position, const float* output, uint32_t output_width);

// The same for a model that gives an output at each position (class vectors have the first ones): they come in order.
// One that pools gives its one output at position 0.
HEED_CHECKED heed_status heed_session_encode_each(heed_session* session, const heed_sequence* input,
                                                  heed_take_output take, void* context);

// Of a model of two stacks: encodes the source, which the last stack reads from then on, however often it is rewound; its own
// position becomes 0. Fails as heed_session_encode, and with bad_argument for a model of one stack; what was there is kept
// then.
HEED_CHECKED heed_status heed_session_set_source(heed_session* session, const heed_sequence* source);

// Positions of the source; 0 before it is set.
uint32_t heed_session_source_positions(const heed_session* session);

// How to lend threads. It never changes a bit of the result.
typedef struct heed_parallel {
  // Calls task(argument, i) once for each i < count, in any order and on any thread; returns when all are done. The
  // threads round to nearest even: a session can ask that of the calling one only.
  void (*run)(void* context, uint32_t count, void (*task)(void* argument, uint32_t index), void* argument);
  void* context;
  uint32_t threads;    // 1 ..
  uint32_t threshold;  // multiply-adds below which a piece of work is not split; 0 splits everything
} heed_parallel;

// `parallel` is copied; null: back to one thread. Fails with bad_argument (no `run`, no threads) or feature_not_built
// (a build without threads).
HEED_CHECKED heed_status heed_session_set_parallel(heed_session* session, const heed_parallel* parallel);

// ---- Sampler --------------------------------------------------------------------------------------------------

// All zeroes: take the largest logit.
typedef struct heed_sampler_config {
  float temperature;     // 0 .. 100; 0 takes the largest logit and needs no scratch
  float top_p;           // keep the likeliest whose share reaches this; <= 0 or >= 1 = all
  uint32_t top_k;        // keep this many; 0 = all
  uint32_t repeat_last;  // with a penalty: how many of the last tokens it is for, 64 for example; 1 ..
  uint64_t seed;         // any; the same seed gives the same tokens on every CPU
  float repeat_penalty;  // 0.01 .. 100: their logits are divided by it above 0, else multiplied; 0 and 1 = off
  float min_p;           // 0 .. 1: of what top_p left, keep those at least this times as likely as the likeliest
  uint64_t reserved[2];  // 0
} heed_sampler_config;

// From logits to the next token.
typedef struct heed_sampler {
  uint64_t storage[12];
} heed_sampler;

// What heed_sampler_create asks for, as constant expressions; the second is for a penalty, and comes behind the first.
#define HEED_SAMPLER_SCRATCH_BYTES(vocab_size) ((size_t)(vocab_size)*4)
#define HEED_SAMPLER_HISTORY_BYTES(repeat_last) ((size_t)(repeat_last)*4)

// `scratch` [scratch_bytes]: HEED_SAMPLER_SCRATCH_BYTES(vocab_size), aligned to 4; written during each pick only, so it
// may serve others between; may be null with 0 bytes at temperature 0 without a penalty. With a penalty, also
// HEED_SAMPLER_HISTORY_BYTES(repeat_last) behind them, which are the sampler's alone. It must outlive the sampler.
// `config` may be null: all zeroes. Fails with bad_argument (also a NaN, or too little scratch), misaligned,
// feature_not_built (a temperature, a penalty or min_p that this build does not carry) or, with a temperature or a
// penalty, rounding_mode.
HEED_CHECKED heed_status heed_sampler_create(heed_sampler* sampler, const heed_sampler_config* config,
                                             uint32_t vocab_size, const heed_kernels* kernels, void* scratch,
                                             size_t scratch_bytes);

// Picks from logits [vocab_size], which stay as they are; never a NaN, and of equals the lower token. What is picked is
// remembered where there is a penalty. Fails with bad_argument when all are NaN, and with a temperature or a penalty with
// rounding_mode; no random number is used up then.
HEED_CHECKED heed_status heed_sampler_pick(heed_sampler* sampler, heed_token* token, const float* logits);

// The same, but never one of suppressed[n_suppressed]: their logits count as NaN. `suppressed` may be null when n_suppressed
// is 0. Fails also with bad_token when one of them is outside the vocabulary.
HEED_CHECKED heed_status heed_sampler_pick_except(heed_sampler* sampler, heed_token* token, const float* logits,
                                                  const heed_token* suppressed, size_t n_suppressed);

// Remembers tokens [n_tokens] that were not picked here, a prompt's, in order; without a penalty it does nothing.
// `tokens` may be null when n_tokens is 0. Fails with bad_argument or bad_token, and remembers none of them then.
HEED_CHECKED heed_status heed_sampler_accept(heed_sampler* sampler, const heed_token* tokens, size_t n_tokens);

// ---- Tokenizer ------------------------------------------------------------------------------------------------

// A checked view of an image's vocabulary; the image must outlive it.
typedef struct heed_tokenizer {
  uint64_t storage[24];
} heed_tokenizer;

// Of the tokens of the model's last stack. Fails with bad_argument, bad_tokenizer (also when the image has no tokenizer) or
// feature_not_built.
HEED_CHECKED heed_status heed_tokenizer_open(heed_tokenizer* tokenizer, const heed_model* model);

// The same of the first of two stacks; where they share a vocabulary, it is the same one. Fails also with bad_argument for a
// model of one stack.
HEED_CHECKED heed_status heed_tokenizer_open_source(heed_tokenizer* tokenizer, const heed_model* model);

// The tokens in front of a text and behind it; HEED_NO_TOKEN if there is none, for null and before a successful open.
heed_token heed_tokenizer_bos(const heed_tokenizer* tokenizer);
heed_token heed_tokenizer_eos(const heed_tokenizer* tokenizer);

// What text without a token becomes; HEED_NO_TOKEN: such text is refused. How often it did is a count of this token.
heed_token heed_tokenizer_unk(const heed_tokenizer* tokenizer);

// How many times as much memory and how many times as many tokens a text may take as the two macros below say, because it is
// normalised first: ask them with text_bytes * growth. 1 for SentencePiece BPE without a normaliser; 0 for null and before a
// successful open.
uint32_t heed_tokenizer_growth(const heed_tokenizer* tokenizer);

// 1 if a text is complete with this token, which was picked: EOS, or BOS, which begins another. It counts as generated,
// has its place in the digest, and is neither printed nor fed back. Else 0; 0 for null and before a successful open.
// heed_generation_ends_text knows the endings of images that have others.
int heed_tokenizer_ends_text(const heed_tokenizer* tokenizer, heed_token token);

// Flags of heed_tokenizer_encode; without effect when the vocabulary has no such token.
#define HEED_ADD_BOS 1u
#define HEED_ADD_EOS 2u
#define HEED_MATCH_SPECIAL 4u  // special tokens written in the text become themselves: for trusted text only

// The most tokens that a text of this many bytes (times heed_tokenizer_growth) can give, and the scratch to encode it; constant
// expressions.
#define HEED_MAX_TOKENS(text_bytes) ((size_t)(text_bytes) + 3)
#define HEED_ENCODE_SCRATCH_BYTES(text_bytes) (((size_t)(text_bytes) + 1) * 8 + ((size_t)(text_bytes) + 14) / 15 * 4)

// Writes the tokens of text [text_bytes], any bytes at all, to tokens [max_tokens] and their number to `n_tokens`.
// `text` may be null when text_bytes is 0, `tokens` when max_tokens is 0. `scratch` [scratch_bytes]:
// HEED_ENCODE_SCRATCH_BYTES(text_bytes * growth), aligned to 4; free again afterwards. With a growth above 1 less may do.
// Fails with no_room (`n_tokens` = how many tokens it takes), text_not_expressible (`n_tokens` = offset of the first
// byte of `text` without a token, or 0 when the vocabulary has none for the space that it puts in front), misaligned, or
// bad_argument (scratch too small, unknown flags, 2^27 bytes or more).
// Time, for the worst text of t bytes and the worst vocabulary: 4 (t + 1) binary searches among the sorted pieces, each of
// 1 + log2(vocab_size) comparisons, and (t + 1)(48 ceil(log16(t + 1)) + 3) looks at a pair's rank, so 99 per byte of a
// hundred and 243 per byte of a million.
HEED_CHECKED heed_status heed_tokenizer_encode(const heed_tokenizer* tokenizer, uint32_t* n_tokens, heed_token* tokens,
                                               size_t max_tokens, const char* text, size_t text_bytes, uint32_t flags,
                                               void* scratch, size_t scratch_bytes);

// Two texts as one sequence, with what the model wants around and between them. The tokens from `n_first` on belong to the
// second; 1 from heed_tokenizer_has_second_type: they have token type 1. `scratch`: as the longer text takes. Fails as encode;
// an offset counts in `second` if n_first is not 0; and with feature_not_built.
HEED_CHECKED heed_status heed_tokenizer_encode_pair(const heed_tokenizer* tokenizer, uint32_t* n_tokens, uint32_t* n_first,
                                                    heed_token* tokens, size_t max_tokens, const char* first,
                                                    size_t first_bytes, const char* second, size_t second_bytes,
                                                    void* scratch, size_t scratch_bytes);
int heed_tokenizer_has_second_type(const heed_tokenizer* tokenizer);

// The bytes that `token` stands for, bytes [n_bytes] inside the image, not zero-terminated and not necessarily whole
// characters. `previous` is the token before it, or HEED_NO_TOKEN at the beginning of a text, where one leading space
// is left out if encoding had added it. Fails with bad_argument or bad_token.
HEED_CHECKED heed_status heed_tokenizer_decode(const heed_tokenizer* tokenizer, const char** bytes, uint32_t* n_bytes,
                                               heed_token previous, heed_token token);

// ---- Generation -----------------------------------------------------------------------------------------------

// How a model's texts begin, which tokens are never picked and what ends them: as the image says, or by BOS and EOS. A checked
// view of the image, which must outlive it.
typedef struct heed_generation {
  uint64_t storage[8];
} heed_generation;

// `tokenizer`: of this model; may be null where a program needs none: then there is neither BOS nor EOS.
// Fails with bad_argument or bad_section.
HEED_CHECKED heed_status heed_generation_open(heed_generation* generation, const heed_model* model,
                                              const heed_tokenizer* tokenizer);

// The tokens in front of those of a prompt's text, which is encoded without BOS then; their number in `n_tokens`, which may
// be 0. Inside the image or inside `generation`. Null and 0 for null.
const heed_token* heed_generation_first(const heed_generation* generation, uint32_t* n_tokens);

// The tokens that are never picked, for heed_sampler_pick_except; they may stand in a prompt.
const heed_token* heed_generation_suppressed(const heed_generation* generation, uint32_t* n_tokens);

// 1 if a text is complete with this token, as heed_tokenizer_ends_text says; else 0.
int heed_generation_ends_text(const heed_generation* generation, heed_token token);

// ---- Stream decoder -------------------------------------------------------------------------------------------

// Turns tokens into text as they come, in whole, valid UTF-8 characters; what can never become one is replaced by
// U+FFFD.
typedef struct heed_decoder {
  uint64_t storage[4];
} heed_decoder;

// Room for the text of one token of any vocabulary.
#define HEED_DECODE_BYTES 768

// Begins behind `previous`, a token whose text is already out, such as a prompt's last; HEED_NO_TOKEN: at the beginning
// of a text. Does nothing for null.
void heed_decoder_begin(heed_decoder* decoder, heed_token previous);

// Writes the text that `token` completes, `n_bytes` bytes and possibly none, to text [text_bytes], for which
// HEED_DECODE_BYTES always suffice. Fails with bad_argument, bad_token or no_room; the decoder is unchanged then.
HEED_CHECKED heed_status heed_decoder_push(heed_decoder* decoder, uint32_t* n_bytes, char* text, size_t text_bytes,
                                           const heed_tokenizer* tokenizer, heed_token token);

// At the end of a text: writes what still waits, 0 or 3 bytes, to text [3], and returns how many. 0 for null.
uint32_t heed_decoder_flush(heed_decoder* decoder, char* text);

// ---- Layers ---------------------------------------------------------------------------------------------------

// For networks of one's own: attention, feed-forward layers, matrices and norms without a model, on rows of floats. Each layer
// works in a block of the caller's memory; any cut of the rows into calls, and any number of threads, give the same bits.
// Weights are the caller's, must outlive the layer and are trusted: -127..127, scales within 2^-40..2^40.

// Orders of a matrix's bytes (SPEC.md, part 4). Numbers never change.
#define HEED_LAYOUT_ROW 0u      // row by row
#define HEED_LAYOUT_PACKED 1u   // 16 rows x 4 columns
#define HEED_LAYOUT_PAIR 2u     // 4 rows x 4 columns, pairs of weights for 16-bit multipliers
#define HEED_LAYOUT_BLOCK64 3u  // blocks of 64 columns

// The layout that these kernels are fastest with, and what every table of a firmware for one core wants; 0 for null.
uint32_t heed_kernels_layout(const heed_kernels* kernels);

// Rows and columns of a matrix in memory: padded to what its layout has no tails with. 0 for a layout that is none, and in a
// firmware for one core for any but its own.
uint32_t heed_padded_rows(uint32_t layout, uint32_t rows);
uint32_t heed_padded_cols(uint32_t layout, uint32_t cols);

// Sets the weight at row r < rows and column c < cols, -127..127, of a matrix that is written by hand, in any order;
// `weights` [padded_rows, padded_cols] begin as zeros. Slow. Fails with bad_argument.
HEED_CHECKED heed_status heed_set_weight(int8_t* weights, uint32_t layout, uint32_t rows, uint32_t cols, uint32_t r,
                                         uint32_t c, int32_t weight);

// A matrix [rows, cols] of int8 weights. Zero all of it first.
typedef struct heed_tensor {
  const int8_t* weights;       // [padded_rows, padded_cols] in `layout`, aligned to 64; 0 in what is padded
  const float* scales;         // [padded_rows], 1 in what is padded
  const float* bias;           // [padded_rows], 0 in what is padded; null without
  const uint8_t* multipliers;  // with groups [padded_rows / row block, groups, row block], 1..15, aligned to 4; else null
  uint32_t rows, cols;
  uint32_t group;              // columns per group, 32, 64, 128 or 256; 0 = one scale per row
  uint32_t layout;
  uint64_t reserved[2];        // 0
} heed_tensor;

// y = f(x). Numbers never change.
#define HEED_ACTIVATION_RELU 0u
#define HEED_ACTIVATION_GELU_TANH 1u
#define HEED_ACTIVATION_GELU_ERF 2u
#define HEED_ACTIVATION_SILU 3u
#define HEED_ACTIVATION_GELU_QUICK 4u
#define HEED_ACTIVATION_TANH 5u
#define HEED_ACTIVATION_NONE 6u

// Where everything in a layer's memory will be.
typedef struct heed_layer_plan {
  uint64_t storage[36];
} heed_layer_plan;

// Exactly what the layer asks for when it is created; 0 for null.
uint64_t heed_layer_plan_arena_bytes(const heed_layer_plan* plan);
uint32_t heed_layer_plan_arena_align(const heed_layer_plan* plan);  // a power of two, at most 64
uint32_t heed_layer_plan_chunk(const heed_layer_plan* plan);        // rows taken through the layer together

// A matrix alone: out = activation(weights * in + bias).
typedef struct heed_linear_config {
  uint32_t d_in, d_out;
  uint32_t group;       // that of the weights
  uint32_t activation;  // HEED_ACTIVATION_; 0 is ReLU
  uint32_t reserved[4]; // 0
} heed_linear_config;

// A layer over its memory, which holds nothing between two calls: layers that are not called at the same time may share one,
// as large as the largest of them asks for. Not to be copied while it has threads.
typedef struct heed_linear {
  uint64_t storage[16 + sizeof(void*)];
} heed_linear;

// `chunk`: at most 4096; 0 = the kernels'. Fails with bad_argument, bad_config or feature_not_built (groups, the activation).
HEED_CHECKED heed_status heed_linear_plan(heed_layer_plan* plan, const heed_linear_config* config,
                                          const heed_kernels* kernels, uint32_t chunk);

// weights [d_out, d_in]. `arena` [arena_bytes]: at least what the plan says, aligned as it says; it must outlive the layer.
// Fails with bad_argument (also a matrix of another shape or group, a plan of another configuration), bad_config, misaligned,
// arena_too_small, layout_unsupported, feature_not_built (also biases) or rounding_mode.
HEED_CHECKED heed_status heed_linear_create(heed_linear* linear, const heed_linear_config* config,
                                            const heed_tensor* weights, const heed_layer_plan* plan,
                                            const heed_kernels* kernels, void* arena, size_t arena_bytes);

// in [n, d_in], out [n, d_out]; `out` may be `in` where d_in = d_out. Fails with bad_argument, misaligned, or rounding_mode when
// floats no longer round to nearest even; `out` is unchanged then.
HEED_CHECKED heed_status heed_linear_forward(heed_linear* linear, float* out, const float* in, size_t n);

// As heed_session_set_parallel, here and below.
HEED_CHECKED heed_status heed_linear_set_parallel(heed_linear* linear, const heed_parallel* parallel);

// change = w_down * (activation(w_gate * x) * (w_up * x)); without a gate w_down * activation(w_up * x).
typedef struct heed_feed_forward_config {
  uint32_t d_model, d_ff;
  uint32_t gated;                 // 1 or 0
  uint32_t activation;            // neither tanh nor none
  uint32_t group_in, group_down;  // of w_gate and w_up, and of w_down
  uint32_t reserved[6];           // 0
} heed_feed_forward_config;

typedef struct heed_feed_forward {  // as heed_linear
  uint64_t storage[24 + 4 * sizeof(void*)];
} heed_feed_forward;

HEED_CHECKED heed_status heed_feed_forward_plan(heed_layer_plan* plan, const heed_feed_forward_config* config,
                                                const heed_kernels* kernels, uint32_t chunk);

// w_gate [d_ff, d_model], null without a gate; w_up the same; w_down [d_model, d_ff]. All of one layout. Fails as
// heed_linear_create.
HEED_CHECKED heed_status heed_feed_forward_create(heed_feed_forward* layer, const heed_feed_forward_config* config,
                                                  const heed_tensor* w_gate, const heed_tensor* w_up,
                                                  const heed_tensor* w_down, const heed_layer_plan* plan,
                                                  const heed_kernels* kernels, void* arena, size_t arena_bytes);

// The change to each of x [n, d_model], to which nothing is added; `change` may be `x`. Fails as heed_linear_forward.
HEED_CHECKED heed_status heed_feed_forward_forward(heed_feed_forward* layer, float* change, const float* x, size_t n);

HEED_CHECKED heed_status heed_feed_forward_set_parallel(heed_feed_forward* layer, const heed_parallel* parallel);

// A layer of attention, without the norm in front of it. Zeroes are the defaults. Query head h reads the keys and values of KV
// head h / (n_heads / n_kv_heads).
typedef struct heed_attention_config {
  uint32_t d_model, n_heads, n_kv_heads, head_dim;
  uint32_t max_seq;           // positions to keep: of the sequence, or of the source
  uint32_t rotary_dims;       // dimensions of a head that rotate with the position; 0 = none
  uint32_t rotary_halves;     // 1: pair i is (i, i + rotary_dims / 2); 0: (2i, 2i + 1)
  uint32_t two_way;           // 1: positions see later ones, too; a call takes a whole sequence then
  uint32_t window;            // positions see keys less than this far away; 0 = all
  uint32_t d_source;          // width of another sequence's vectors, of which keys and values are; 0 = of its own
  uint32_t undivided_values;  // 1: w_value_down is a d_model x d_model map per KV head, and there is no w_value_up
  uint32_t query_key_norm;    // of each query and key head: 0 none, 1 RMS, 2 layer
  uint32_t alibi;             // 1: a bias of the scores falls with the distance
  uint32_t n_distances;       // a bias of the scores for each of so many distances
  float scale;                // of the scores; 0 = 1 / sqrt(head_dim)
  float norm_epsilon;         // 0 = 1e-5
  uint32_t reserved[8];       // 0
} heed_attention_config;

// With one scale per row, all of one layout. Zero all of it first; what the configuration does not ask for is null.
typedef struct heed_attention_weights {
  heed_tensor w_query;                        // [n_heads * head_dim, d_model]
  heed_tensor w_key;                          // [n_kv_heads * head_dim, d_model], or d_source
  heed_tensor w_value_down;                   // the same; undivided [n_kv_heads * d_model, ...]
  heed_tensor w_value_up;                     // [d_model, n_heads * head_dim]
  const uint32_t* rotary_phases;              // [rotary_dims / 2], turn per position, 2^32 = one turn
  const int16_t* key_offsets;                 // [n_kv_heads, head_dim], above -32768
  const int8_t* key_offset_exponents;         // [n_kv_heads], -39..41
  const float *query_gain, *query_bias;       // [head_dim], with query_key_norm; biases with layer norm only
  const float *key_gain, *key_bias;           // the same
  const int32_t* score_bias;                  // alibi [n_heads] slopes, or [n_heads, n_distances] (runtime/attention.hpp)
  const void* reserved[4];                    // null
} heed_attention_weights;

// Its memory holds keys and values, so it is the layer's alone.
typedef struct heed_attention {
  uint64_t storage[56 + 7 * sizeof(void*)];
} heed_attention;

HEED_CHECKED heed_status heed_attention_plan(heed_layer_plan* plan, const heed_attention_config* config,
                                             const heed_kernels* kernels, uint32_t chunk);

// Fails as heed_linear_create.
HEED_CHECKED heed_status heed_attention_create(heed_attention* attention, const heed_attention_config* config,
                                               const heed_attention_weights* weights, const heed_layer_plan* plan,
                                               const heed_kernels* kernels, void* arena, size_t arena_bytes);

// The change to each of x [n, d_model], at the next n positions, to which nothing is added; `change` may be `x`. With two_way
// it is a whole sequence of at most max_seq positions; with a source any number of queries. Fails with bad_argument (also
// a source that is not set), misaligned, context_full or rounding_mode; the layer is unchanged then.
HEED_CHECKED heed_status heed_attention_forward(heed_attention* attention, float* change, const float* x, size_t n);

// Takes the source [n, d_source], at most max_seq vectors, in the place of the one before; they need not be kept. Fails as
// heed_attention_forward, and with bad_argument on a layer without a source.
HEED_CHECKED heed_status heed_attention_set_source(heed_attention* attention, const float* vectors, size_t n);

// Positions taken so far; of a layer with a source those of the source. 0 for null.
uint32_t heed_attention_position(const heed_attention* attention);

// Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one, and where the keys
// that a window sees before it are no longer kept.
HEED_CHECKED heed_status heed_attention_rewind(heed_attention* attention, uint32_t position);

HEED_CHECKED heed_status heed_attention_set_parallel(heed_attention* attention, const heed_parallel* parallel);

// The norm of each of in [n, d]; `out` may be `in`. gain [d] and bias [d] may be null; layer 1 takes the mean away first, and
// only then may there be a bias. epsilon: 2^-40 .. 2^40. Fails with bad_argument, misaligned, feature_not_built or rounding_mode.
HEED_CHECKED heed_status heed_norm(float* out, const float* in, size_t n, uint32_t d, uint32_t layer, const float* gain,
                                   const float* bias, float epsilon, const heed_kernels* kernels);

// The activation of each of x [n, d], in place. Fails as heed_norm.
HEED_CHECKED heed_status heed_activate(float* x, size_t n, uint32_t d, uint32_t activation);

// The mean [d] of rows [n, d], n at least 1; `out` may be the first of them. Fails with bad_argument, misaligned or
// rounding_mode.
HEED_CHECKED heed_status heed_mean(float* out, const float* rows, size_t n, uint32_t d);

// x += change, both [n]. Fails as heed_mean.
HEED_CHECKED heed_status heed_add(float* x, const float* change, size_t n);

// ---- Digest ---------------------------------------------------------------------------------------------------

// One number for a whole run, equal on every CPU: CRC-32C over each generated token and the logits it was picked from.
typedef struct heed_digest {
  uint64_t storage[2];
} heed_digest;

// Does nothing for null. A zeroed digest has begun, too.
void heed_digest_begin(heed_digest* digest);

// logits [vocab_size]: those that `token` was picked from. Of a model that encodes: its output [output_width] in the place of the
// logits, and in that of the token its position, 0 where it pools. Does nothing if a pointer is null.
void heed_digest_add(heed_digest* digest, heed_token token, const float* logits, uint32_t vocab_size,
                     const heed_kernels* kernels);

uint32_t heed_digest_value(const heed_digest* digest);

// 1 if a logit was not a number, which makes the digest worthless; else 0.
int heed_digest_saw_nan(const heed_digest* digest);

#ifdef __cplusplus
}
#endif

#endif  // HEED_H
