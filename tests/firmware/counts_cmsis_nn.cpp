// SPDX-License-Identifier: Apache-2.0
// counts_cmsis_nn.cpp: the shapes of counts.cpp with CMSIS-NN, whose sources counts.py --cmsis-nn compiles beside it. Prints one
// line "NAME WORK" per marked region. A head is what an application puts together of three functions; CMSIS-NN has no causal
// form and no float output.
#include <arm_nnfunctions.h>
#include <arm_nnsupportfunctions.h>

#include "platform/baremetal/semihosting.hpp"
#include "tests/icount/icount_mark.hpp"

namespace {

namespace io = heed::semihosting;
using heed::icount::start_region;
using heed::icount::stop_region;

constexpr int kMultiplier = 1518500250, kTokens = 64, kHeadDim = 32, kSide = 288;

int8_t weights[kSide * kSide], inputs[kTokens * kSide], outputs[kTokens * kSide], scores[kTokens * kTokens],
    pattern[kTokens * kTokens];
int32_t biases[kSide], sums[kSide], multipliers[kSide], shifts[kSide];

void put(const char* name, int work) {
  io::put_text(name);
  io::put_text(" ");
  io::put_decimal(static_cast<std::uint32_t>(work));
  io::put_text("\n");
}

void matmul(const char* name, int tokens, int rows, int cols) {
  const cmsis_nn_context context = {sums, static_cast<int32_t>(sizeof sums)};
  const cmsis_nn_fc_params parameters = {0, 0, 0, {-128, 127}};
  const cmsis_nn_per_tensor_quant_params scale = {kMultiplier, -9};
  const cmsis_nn_dims in = {tokens, 1, 1, cols}, filter = {cols, 1, 1, rows}, bias = {1, 1, 1, rows}, out = {tokens, 1, 1, rows};
  arm_vector_sum_s8(sums, cols, rows, weights, 0, 0, biases);  // once per matrix; not counted
  put(name, tokens * rows * cols);
  start_region();
  if (tokens == 1)
    arm_fully_connected_s8(&context, &parameters, &scale, &in, inputs, &filter, weights, &bias, biases, &out, outputs);
  else
    arm_nn_mat_mult_nt_t_s8(inputs, weights, biases, outputs, multipliers, shifts, tokens, rows, cols, 0, 0, -128, 127, rows, cols);
  stop_region();
}

void batch_matmul(int8_t* out, const int8_t* lhs, const int8_t* rhs, int rows, int cols, int inner) {
  const cmsis_nn_context context = {sums, static_cast<int32_t>(sizeof sums)};
  const cmsis_nn_bmm_params parameters = {false, false, {0, 0, 0, {-128, 127}}};
  const cmsis_nn_per_tensor_quant_params scale = {kMultiplier, -7};
  const cmsis_nn_dims l = {1, 1, rows, inner}, r = {1, 1, cols, inner}, o = {1, 1, rows, cols};
  arm_batch_matmul_s8(&context, &parameters, &scale, &l, lhs, &r, rhs, &o, out);
}

}  // namespace

int main() {
  std::uint32_t state = 1;
  const auto random_s8 = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<int8_t>(static_cast<int>((state >> 8) % 255) - 127);
  };
  for (auto& v : weights) v = random_s8();
  for (auto& v : inputs) v = random_s8();
  for (auto& v : multipliers) v = kMultiplier;
  for (auto& v : shifts) v = -9;
  matmul("matvec 288x288", 1, kSide, kSide);
  matmul("matmul 64x288x288", kTokens, kSide, kSide);
  put("head, scores", kTokens * kTokens);
  start_region();
  batch_matmul(scores, inputs, weights, kTokens, kTokens, kHeadDim);
  stop_region();
  for (auto& v : scores) v = random_s8();  // a softmax of small scores skips elements
  put("head, softmax", kTokens * kTokens);
  start_region();
  arm_softmax_s8(scores, kTokens, kTokens, 1 << 30, 23, -248, pattern);
  stop_region();
  put("head, values", kTokens * kTokens);
  start_region();
  batch_matmul(outputs, pattern, weights, kTokens, kHeadDim, kTokens);
  stop_region();
  return 0;
}
