// SPDX-License-Identifier: Apache-2.0
// spec_deviations.hpp: the rules of SPEC.md, part 2, each with a name under which the oracle breaks it on purpose, so
// that a check can show that the fuzzer would notice. A rule that SPEC.md gains gets a line here.
//
// What is left out, because no input can tell:
//  2.2  e = 41 from m = 2^40 on: that is its e anyway.
//  2.3  The order of the scale's factors but for 1/127: products with powers of two are exact, and nothing that is not
//       limited to 0 afterwards comes near a denormal. A scale of just 2^40 that is limited to 2^40. Other p of a zero
//       vector, whose q is 0 (kernels are compared in p all the same).
//  2.4  The order of float(c_i) * 2^(e-L-15) * f: the power of two is exact. The scale's limits where layer norm applied
//       a gain or a bias: 129 * 2^-54 / 8 > 2^-50 and 259 * 2^26 < 2^40.
//  2.5  Shifts to the left by more than 16: from there on any |a_i| >= 1 is beyond 65535. t up to 65536: S[256] is at most
//       S[255] + 1, which t = 65535 interpolates to as well. s_i at least -M: for s_i = -M - 1, M R <= 127 * 2^22 + M / 2
//       and R + M / 2 < 2^21 leave q = -127 as for -M, and p is 3 for both.
//  2.7  The limits of 31 of the offset's shifts: an s16 is 0 or -1 from 15 on. m of a zero key, whose products are 0. v of
//       a zero value below -46: V of a block that holds another value is not less, and otherwise N is 0.
//       R = floor(floor(2^22 / m) / 2) in the second case, which is floor(2^21 / m).
//  2.8  min(K - k_k, 31) and min(V - v_k, 31): |dot * m| < 2^30, e_k < 2^15. min(t >> 10, 31): e_k is 0 from w = 18 on.
//       d above 32767: g >= 16384 makes w at least 17 there, whose e_k is 0. n above 31: u spans less than 2^31.
//       g = 32768 for 32767: t is the same up to d = 16384, and e_k is 0 beyond. (N * c) * 2^V, or a fused merge: all
//       factors but N are powers of two, and the products are exact.
#pragma once

// section, name, what is done instead
#define SPEC_DEVIATIONS(X)                                                                                           \
  X("2.0", embedding_scale_is_left_out, "x as the embedding is")                                                     \
  X("2.0", embedding_scale_comes_last, "(x + type) * embedding_scale")                                               \
  X("2.0", token_types_are_left_out, "no token type")                                                                \
  X("2.0", input_nan_goes_on, "a NaN of an input stays one")                                                         \
  X("2.0", input_has_no_end, "inputs beyond 2^40")                                                                   \
  X("2.0", input_keeps_small, "inputs below 2^-40")                                                                  \
  X("2.0", convolution_drops_the_rest, "floor(n / stride) frames")                                                   \
  X("2.0", convolution_begins_inside, "m = stride * t + 1")                                                          \
  X("2.0", convolution_looks_back, "(c_{m+1}, c_m, c_{m-1})")                                                        \
  X("2.0", convolution_repeats_the_edge, "c_0 for c_{-1} and c_{n-1} for c_n")                                       \
  X("2.0", class_vectors_stand_behind, "class vectors behind the inputs")                                            \
  X("2.0", class_vectors_have_no_position, "the first input has the row of position 0")                              \
  X("2.0", learned_position_is_left_out, "no position embedding")                                                    \
  X("2.0", learned_position_is_next, "of position + 1")                                                              \
  X("2.0", input_norm_is_left_out, "x as the sum is")                                                                \
  X("2.0", input_norm_comes_first, "the norm of x without its position")                                             \
  X("2.0", heads_lie_the_other_way, "dimensions of heads interleaved")                                               \
  X("2.0", order_of_sublayers, "side by side for in turn and the other way round")                                   \
  X("2.0", changes_are_added_first, "x + (attention + feed_forward)")                                                \
  X("2.0", two_norms_are_one, "the feed-forward layer reads the attention's norm")                                   \
  X("2.0", after_norms_the_change, "x + normed(f(x))")                                                               \
  X("2.0", both_norms_the_sum, "normed(x + f(norm(x)))")                                                             \
  X("2.0", residual_is_left_out, "x = w_down * ...")                                                                 \
  X("2.0", sites_share_groups, "the attention input's groups at the feed-forward input")                             \
  X("2.0", cross_attention_comes_first, "in front of self-attention")                                                \
  X("2.0", cross_attention_comes_last, "behind the feed-forward layer")                                              \
  X("2.0", scales_are_shared, "attention_scale for cross_scale")                                                     \
  X("2.0", final_norm_is_left_out, "x is quantised as it is")                                                        \
  X("2.0", norm_goes_through_floats, "normed(x), then a block float, where a product reads it")                      \
  X("2.0", first_is_last, "pooling first takes the last position and the other way round")                           \
  X("2.0", mean_comes_before_norm, "the norm of the mean of x")                                                      \
  X("2.0", mean_without_class_vectors, "the mean of what stands behind them")                                        \
  X("2.0", mean_is_divided, "sum / n")                                                                               \
  X("2.0", mean_keeps_small, "no snap of the mean")                                                                  \
  X("2.0", dense_norm_is_left_out, "no norm behind the dense layer")                                                 \
  X("2.0", output_heads_share_rows, "the rows of head 0")                                                            \
  X("2.0", output_heads_share_a_position, "position 0 for all")                                                      \
  X("2.0", logits_are_divided, "sum / k")                                                                            \
  X("2.0", length_of_floats, "the sum of the squares of floats")                                                     \
  X("2.0", length_divides, "y / sqrt(...)")                                                                          \
  X("2.0", length_keeps_small, "no snap behind the division by the length")                                          \
  X("2.1", snap_is_left_out, "numerators keep what is below 2^-40")                                                  \
  X("2.1", snap_takes_the_border, "2^-40 itself becomes 0")                                                          \
  X("2.1", snap_keeps_the_sign, "-0 for what is negative and small")                                                 \
  X("2.1", zero_loses_its_sign, "a product that is -0 becomes +0")                                                   \
  X("2.1", integers_are_cut_to_floats, "float(acc) rounds towards zero")                                             \
  X("2.1", norm_bias_is_fused, "y * g + h with one rounding")                                                        \
  X("2.1", product_bias_is_fused, "acc * scale + bias with one rounding")                                            \
  X("2.2", nan_counts_as_largest, "a NaN raises m")                                                                  \
  X("2.2", nan_is_largest, "the s16 of a NaN is 32767")                                                              \
  X("2.2", zero_takes_the_border, "m = 2^-40 is zero")                                                               \
  X("2.2", zero_has_no_border, "m < 2^-40 is no zero vector")                                                        \
  X("2.2", exponent_of_powers, "2^(e-1) < m <= 2^e")                                                                 \
  X("2.2", exponent_has_no_end, "e follows m above 2^41")                                                            \
  X("2.2", s16_reaches_32768, "no clamp at 32767")                                                                   \
  X("2.2", s16_reaches_minus_32768, "no clamp at -32767")                                                            \
  X("2.2", s16_rounds_away, "halves away from zero")                                                                 \
  X("2.2", s16_is_cut, "floor instead of round")                                                                     \
  X("2.3", reciprocal_is_cut, "R without floor(M / 2)")                                                              \
  X("2.3", q_is_cut, "q without 2^21 and 2^(18+p)")                                                                  \
  X("2.3", q_rounds_to_zero, "a division instead of >>")                                                             \
  X("2.3", scale_is_divided, "float(M) / 127")                                                                       \
  X("2.3", group_exponent_is_strict, "< for <= where p is chosen")                                                   \
  X("2.3", group_exponent_ends_at_two, "p in 0..2")                                                                  \
  X("2.3", group_beyond_maximum_is_zero, "p = 0 if there is none")                                                   \
  X("2.3", group_magnitude_wraps, "the magnitude of -32768 is -32768")                                               \
  X("2.3", group_rounding_is_fixed, "2^18 whatever p is")                                                            \
  X("2.3", group_scale_is_whole, "no 1/8")                                                                           \
  X("2.3", zero_scale_is_one, "a zero vector has scale 1")                                                           \
  X("2.3", norm_scale_below_2_50, "no lower limit of a norm's scale")                                                \
  X("2.3", norm_scale_above_2_40, "no upper limit of a norm's scale")                                                \
  X("2.3", gate_scale_below_2_50, "no lower limit of an activation's scale")                                         \
  X("2.3", gate_scale_above_2_40, "no upper limit of an activation's scale")                                         \
  X("2.3", scale_takes_the_border, "2^-50 itself becomes 0")                                                         \
  X("2.3", small_scale_clears_q, "q is 0 where the scale is")                                                        \
  X("2.4", mean_square_of_groups, "q of the site's groups")                                                          \
  X("2.4", zero_goes_on, "a zero vector is multiplied by its gain")                                                  \
  X("2.4", mean_square_order, "s * (s * sum)")                                                                       \
  X("2.4", mean_square_is_divided, "/ n for * (1 / n)")                                                              \
  X("2.4", epsilon_is_outside, "sqrt(mean) + epsilon")                                                               \
  X("2.4", root_of_reciprocal, "sqrt(1 / x)")                                                                        \
  X("2.4", root_in_double, "1 / sqrt with one rounding")                                                             \
  X("2.4", factor_comes_before_gain, "x * (g * f) is quantised")                                                     \
  X("2.4", mean_is_cut, "floor(sum / n)")                                                                            \
  X("2.4", mean_rounds_to_zero, "the mean's division rounds to zero")                                                \
  X("2.4", centred_rounds_to_zero, "c_i is divided, not shifted")                                                    \
  X("2.4", centred_maximum_of_c, "M = max |c_i|")                                                                    \
  X("2.4", centred_exponent_stays, "e instead of e - L")                                                             \
  X("2.4", constant_vector_loses_bias, "C = 0 is zero with a bias too")                                              \
  X("2.4", gain_comes_first, "c * (g * unit)")                                                                       \
  X("2.4", bias_comes_before_gain, "(y + h) * g")                                                                    \
  X("2.4", float_norm_is_of_q, "y_i from q_i * scale in the place of x_i")                                           \
  X("2.4", float_norm_factor_on_gain, "x * (gain * factor)")                                                         \
  X("2.4", float_norm_keeps_small, "y_i below 2^-40 stays")                                                          \
  X("2.4", float_norm_keeps_nan, "a NaN stays one")                                                                  \
  X("2.5", gate_is_rounded, "t rounds")                                                                              \
  X("2.5", gate_wraps, "t modulo 2^16 instead of at most 65535")                                                     \
  X("2.5", factor_is_cut, "no 128 in the interpolation")                                                             \
  X("2.5", factor_is_a_step, "no interpolation")                                                                     \
  X("2.5", negative_factor_from_32768, "32768 - f")                                                                  \
  X("2.5", negative_factor_is_equal, "f for a_i < 0 too")                                                            \
  X("2.5", relu_is_exact, "ReLU keeps a_i as it is")                                                                 \
  X("2.5", gelus_are_exchanged, "tanh for erf and the other way round")                                              \
  X("2.5", gate_product_is_cut, "no 2^14")                                                                           \
  X("2.5", gate_rounds_to_zero, "h_i is divided, not shifted")                                                       \
  X("2.5", gate_shift_is_rounded, "h_i >> -L rounds")                                                                \
  X("2.5", gate_maximum_of_s, "M = max |s_i|")                                                                       \
  X("2.5", gate_and_up_are_exchanged, "F of the other one")                                                          \
  X("2.5", ungated_exponent, "e_a - 1 without a gate")                                                               \
  X("2.5", gelu_quick_is_silu, "no 1.702")                                                                           \
  X("2.5", tanh_is_even, "f for a_i < 0 too")                                                                        \
  X("2.5", activated_exponent, "2^(e-16)")                                                                           \
  X("2.5", none_is_rounded, "a block float of it")                                                                   \
  X("2.6", weight_of_power_is_cut, "T without 2^14")                                                                 \
  X("2.6", power_is_exact, "T[k] = round(32639 * 2^(-k/256))")                                                       \
  X("2.6", peak_is_32640, "B[0] = 32768")                                                                            \
  X("2.7", heads_are_interleaved, "query head h reads KV head h mod n_kv_heads")                                     \
  X("2.7", position_starts_at_one, "phases of p + 1")                                                                \
  X("2.7", sine_is_cut, "no 2048")                                                                                   \
  X("2.7", sine_is_a_step, "no interpolation")                                                                       \
  X("2.7", sine_peak, "W of 32768")                                                                                  \
  X("2.7", rotation_is_cut, "no 2^15")                                                                               \
  X("2.7", rotation_turns_back, "-phase")                                                                            \
  X("2.7", pairings_are_exchanged, "(i, i + n) for (2i, 2i+1) and the other way round")                              \
  X("2.7", rest_is_cut, "x >> 1 behind rotary_dims")                                                                 \
  X("2.7", rest_rounds_away, "halves away from zero behind rotary_dims")                                             \
  X("2.7", offset_is_added, "key + offset")                                                                          \
  X("2.7", offset_exponent_is_maximum, "E = max(e, e_o)")                                                            \
  X("2.7", offset_is_rounded, "o rounds as it shifts")                                                               \
  X("2.7", zero_key_ignores_offset, "a zero key stays zero")                                                         \
  X("2.7", zero_key_is_turned, "e = -38 under rotation")                                                             \
  X("2.7", head_keeps_small_maximum, "shifted to 8192..16383")                                                       \
  X("2.7", key_mantissa_is_cut, "floor(M / 127)")                                                                    \
  X("2.7", key_has_one_mantissa, "no second case")                                                                   \
  X("2.7", key_second_mantissa_is_cut, "floor(M / 254)")                                                             \
  X("2.7", key_mantissa_ends_at_254, "m > 254 takes the second case")                                                \
  X("2.7", key_takes_r_of_queries, "R of 2.3 for floor(2^22 / m)")                                                   \
  X("2.7", key_is_cut, "q without 2^21")                                                                             \
  X("2.7", zero_key_exponent, "k = -80 of a zero key")                                                               \
  X("2.7", value_is_cut, "q without 2^(n-1)")                                                                        \
  X("2.7", value_of_eight_bits, "n = 9 always")                                                                      \
  X("2.7", value_border, "n = 8 if (M + 128) >> 8 < 127")                                                            \
  X("2.7", zero_value_exponent, "v = 0 of a zero value")                                                             \
  X("2.7", head_norm_is_left_out, "queries and keys as they are")                                                    \
  X("2.7", head_norm_is_the_stacks, "norm for query_key_norm")                                                       \
  X("2.7", local_phases_are_left_out, "the same phases in every layer")                                              \
  X("2.7", local_phases_are_everywhere, "local phases in layers that see all keys too")                              \
  X("2.7", cross_attention_is_turned, "rotation in cross-attention")                                                 \
  X("2.7", cross_attention_is_causal, "source positions up to p")                                                    \
  X("2.7", window_is_left_out, "no first key")                                                                       \
  X("2.7", window_is_one_more, "|p - j| <= window")                                                                  \
  X("2.7", window_looks_back_only, "no last key of a two-way window")                                                \
  X("2.7", global_layers_are_left_out, "a window in every layer")                                                    \
  X("2.7", global_layers_count_from_one, "(l + 1) mod global_every")                                                 \
  X("2.7", alibi_is_cut, "no 2^11")                                                                                  \
  X("2.7", alibi_has_no_end, "a bias below -2^23")                                                                   \
  X("2.7", alibi_is_signed, "p - j for its magnitude")                                                               \
  X("2.7", relative_looks_back, "j - p for p - j")                                                                   \
  X("2.7", biases_share_a_head, "those of head 0")                                                                   \
  X("2.8", blocks_of_32, "32 keys in a block")                                                                       \
  X("2.8", blocks_from_first_visible, "blocks end at the query's position")                                          \
  X("2.8", maxima_of_all_blocks, "K and V over earlier blocks too")                                                  \
  X("2.8", scores_round_to_zero, "u is divided, not shifted")                                                        \
  X("2.8", score_factor_order, "(s_q * scale) * log2 e")                                                             \
  X("2.8", log2e_is_longer, "the scores' factor has one rounding")                                                   \
  X("2.8", flat_takes_the_border, "y = 2^-40 is flat")                                                               \
  X("2.8", flat_has_no_border, "no case for flat scores")                                                            \
  X("2.8", reference_is_not_limited, "r up to 2^22")                                                                 \
  X("2.8", slope_is_cut, "g without 256")                                                                            \
  X("2.8", steep_slope_is_kept, "g as it is for n < 0")                                                              \
  X("2.8", reference_is_floor, "ref = floor(r) and one more")                                                        \
  X("2.8", start_is_cut, "z without round")                                                                          \
  X("2.8", start_has_no_half_step, "z without 2")                                                                    \
  X("2.8", distance_is_cut, "t without 2^14")                                                                        \
  X("2.8", power_index_is_rounded, "(t + 2) >> 2")                                                                   \
  X("2.8", weight_is_cut, "e without 2^(w-1)")                                                                       \
  X("2.8", fold_is_rounded, "p rounds")                                                                              \
  X("2.8", denominator_is_folded, "D = sum p")                                                                       \
  X("2.8", merge_ends_at_29, "0 below -29")                                                                          \
  X("2.8", merge_ends_at_31, "0 below -31")                                                                          \
  X("2.8", merge_keeps_reference, "R = ref")                                                                         \
  X("2.8", merge_begins_at_zero, "reference 0 at first")                                                             \
  X("2.8", blocks_are_reversed, "the last block first")                                                              \
  X("2.8", head_is_divided, "numerator / denominator")                                                               \
  X("2.8", own_key_is_hidden, "a position does not see itself")                                                      \
  X("2.8", hidden_keys_are_weighed, "a window hides nothing")                                                        \
  X("2.8", window_moves_key_maximum, "K over the keys in the window alone")                                          \
  X("2.8", window_moves_value_maximum, "V over the keys in the window alone")                                        \
  X("2.8", hidden_key_is_best, "U over hidden keys too")                                                             \
  X("2.8", score_bias_is_subtracted, "t_j = e_j + b_j")                                                              \
  X("2.8", score_bias_moves_no_reference, "best as it is without biases")                                            \
  X("2.8", biased_reference_is_not_limited, "best - B * 2^-10 beyond 2^20")                                          \
  X("2.8", biased_distance_is_short, "at most 32767 with a bias too")                                                \
  X("2.8", biased_distance_is_cut, "e_j without 2^14")                                                               \
  X("2.9", product_order, "(float(acc) * scale) * s_x")                                                              \
  X("2.9", product_in_double, "one rounding")                                                                        \
  X("2.9", groups_are_added_as_floats, "a float sum of the groups' products")                                        \
  X("2.9", long_sums_wrap, "acc modulo 2^32")                                                                        \
  X("2.9", multipliers_are_left_out, "of products")                                                                  \
  X("2.9", group_powers_are_left_out, "2^p of products")                                                             \
  X("2.9", bias_comes_before_residual, "x + bias, then + product")                                                   \
  X("2.9", bias_is_left_out, "of products")                                                                          \
  X("2.9", embedding_without_multiplier, "of a tied embedding with groups")                                          \
  X("2.10", exp_is_fused, "q * r + c with one rounding")                                                             \
  X("2.10", exp_is_reduced_once, "ln 2 in one piece")                                                                \
  X("2.10", exp_rounds_down, "n = floor(t)")                                                                         \
  X("2.10", exp_adds_one_first, "(q + 1) + r")                                                                       \
  X("2.10", exp_square_is_last, "(q * r) * r")                                                                       \
  X("2.10", exp_has_no_low_end, "x below -87")                                                                       \
  X("2.10", exp_high_end, "x up to 87 only")                                                                         \
  X("2.10", exp_of_nan_is_one, "a NaN counts as 0")                                                                  \
  X("3.3", digest_without_ids, "logits only")                                                                        \
  X("3.3", digest_ids_last, "the id behind its logits")                                                              \
  X("3.3", digest_with_prompt, "prompt positions too")                                                               \
  X("3.3", digest_of_next_logits, "the logits behind each token")
