/* SPDX-License-Identifier: Apache-2.0 */
/* layer_header_run.c: headers of `heed quantize-layer --c` in C99, as a program includes them. */
#include "tests/examples/layer_header_run.h"

#include <string.h>

#include "layer_c.h"
#include "layer_c_grouped.h"

#define LAYERS(name)                                                                                                  \
  {                                                                                                                   \
    &name##_input, &name##_layer0_query, &name##_layer0_gate, &name##_layer0_up, &name##_layer0_down, &name##_output, \
        name##_final_gain, name##_rotary_phases, sizeof name##_final_gain, sizeof name##_rotary_phases                \
  }

void layers_in_c(struct c_layers* layers, int grouped) {
  const struct c_layers rows = LAYERS(layer_c), groups = LAYERS(layer_c_grouped);
  *layers = grouped ? groups : rows;
}

heed_status run_layers_in_c(float* logits, const float* x, int grouped, void* arena, size_t arena_bytes) {
  struct c_layers layers;
  const heed_kernels* const kernels = heed_find_kernels("portable");
  heed_feed_forward_config config;
  heed_linear_config output;
  heed_layer_plan plan;
  heed_feed_forward feed_forward;
  heed_linear linear;
  float change[64];
  heed_status status;

  layers_in_c(&layers, grouped);
  memset(&config, 0, sizeof config);
  config.d_model = layers.up->cols;
  config.d_ff = layers.up->rows;
  config.gated = 1;
  config.activation = HEED_ACTIVATION_SILU;
  config.group_in = layers.up->group;
  config.group_down = layers.down->group;
  if (config.d_model > 64) return HEED_BAD_ARGUMENT;
  status = heed_feed_forward_plan(&plan, &config, kernels, 1);
  if (status == HEED_OK)
    status = heed_feed_forward_create(&feed_forward, &config, layers.gate, layers.up, layers.down, &plan, kernels,
                                      arena, arena_bytes);
  if (status == HEED_OK) status = heed_feed_forward_forward(&feed_forward, change, x, 1);
  if (status != HEED_OK) return status;

  memset(&output, 0, sizeof output);
  output.d_in = layers.output->cols;
  output.d_out = layers.output->rows;
  output.group = layers.output->group;
  output.activation = HEED_ACTIVATION_NONE;
  status = heed_linear_plan(&plan, &output, kernels, 1);
  if (status == HEED_OK)
    status = heed_linear_create(&linear, &output, layers.output, &plan, kernels, arena, arena_bytes);
  if (status == HEED_OK) status = heed_linear_forward(&linear, logits, change, 1);
  return status;
}
