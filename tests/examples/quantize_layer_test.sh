#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# quantize_layer_test.sh: `heed quantize-layer`: what it writes and prints, and what it refuses without writing anything.
#   quantize_layer_test.sh SOURCE_DIR HEED...
. "$(dirname "$0")/checks.sh"
limit="timeout 60"
heed=$*

# weights HEADER [BYTES]: a safetensors file w.safetensors of this header, and its numbers as printf writes them (zeros by
# default).
weights() {
  size=${#1}
  {
    printf "\\$(printf %03o $((size % 256)))\\$(printf %03o $((size / 256)))\\0\\0\\0\\0\\0\\0"
    printf %s "$1"
    [ $# = 1 ] || printf "$2"
    head -c 4096 /dev/zero
  } > padded
  end=$(printf %s "$1" | sed 's/.*"data_offsets":\[[0-9]*,\([0-9]*\)\].*/\1/')  # of the last tensor
  head -c $((8 + size + end)) padded > w.safetensors
}
# tensor NAME SHAPE BEGIN END [TYPE]
tensor() { printf '"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%s,%s]}' "$1" "${5:-F32}" "$2" "$3" "$4"; }

shows() {
  checks=$((checks + 1))
  grep -q -F -e "$1" "$2" || fail "no '$1' in $2"
}
# refuses WORDS ARGUMENTS...: one line with these words, and no file is made or changed.
refuses() {
  words=$1
  shift
  echo "as it was" > kept.h
  rm -f fresh.h
  for output in kept.h fresh.h; do
    expect 1 "refuse: $words" quantize-layer "$@" -o $output
    checks=$((checks + 1))
    if [ "$(wc -l < err)" != 1 ] || ! grep -q -F -e "$words" err || [ -s out ]; then fail "not one line with '$words'"; fi
  done
  checks=$((checks + 1))
  if [ "$(cat kept.h)" != "as it was" ] || [ -e fresh.h ]; then fail "a refusal wrote: $words"; fi
}
# refuses_weights WORDS HEADER [BYTES]
refuses_weights() {
  words=$1
  shift
  weights "$@"
  refuses "$words" w.safetensors
}

# -- What it writes
weights "{$(tensor in.weight 2,3 0 24),$(tensor in.bias 2 24 32),$(tensor norm.weight 3 32 44)}" \
  '\0\0\200\077\0\0\0\277\0\0\200\076\0\0\0\300'  # 1, -0.5, 0.25, -2
expect 0 "a header" quantize-layer w.safetensors -o layer.h
shows "namespace layer, layout packed" out
shows "in                       [2, 3]       bias error" out
shows "norm_weight              [3] floats" out
shows "namespace layer {" layer.h
shows "inline constexpr heed::Tensor in{in_weights, in_scales, in_bias, nullptr, 2, 3, 0, heed::Layout::packed};" layer.h
shows "inline constexpr float norm_weight[3] = {" layer.h
shows "127, -64, 32, 0, -127, 0, 0, 0," layer.h
expect 0 "the same header" quantize-layer w.safetensors -o again.h --name layer
checks=$((checks + 1))
cmp -s layer.h again.h || fail "two runs give two headers"
expect 0 "a target" quantize-layer w.safetensors -o m0.h --target cortex-m0 --group 32 --licence MIT --name my_layer \
  --rope-theta 10000 --rotary-dims 4 --json
for words in '"layout": "row"' '"group": "32"' '"namespace": "my_layer"' '"tensor": "in.weight"' '"rotary_phases": 2'; do
  shows "$words" out
done
shows "// SPDX-License-Identifier: MIT" m0.h
shows "in_multipliers" m0.h
shows "rotary_phases[2] = {" m0.h
shows "683565276u, 6835653u};" m0.h
expect 0 "a second suffix" quantize-layer w.safetensors -o layer.test.hpp
shows "namespace layer_test {" layer.test.hpp

# -- In C
expect 0 "a header in C" quantize-layer w.safetensors -o in_c.h --c
shows "names in_c_..., layout packed" out
shows "#define HEED_LAYER_in_c" in_c.h
shows "static const heed_tensor in_c_in = {in_c_in_weights, in_c_in_scales, in_c_in_bias, NULL, 2, 3, 0, HEED_LAYOUT_PACKED, {0, 0}};" in_c.h
shows "static const float in_c_norm_weight[3] = {" in_c.h
expect 0 "its groups and phases" quantize-layer w.safetensors -o in_c.h --c --group 32 --layout block64 --rope-theta 10000 --rotary-dims 4 --json
shows '"language": "c"' out
shows '"prefix": "in_c_"' out
shows "HEED_ALIGNED_in_c(4) uint8_t in_c_in_multipliers[" in_c.h
shows "HEED_LAYOUT_BLOCK64" in_c.h
shows "static const uint32_t in_c_rotary_phases[2] = {" in_c.h
# A prefix makes a name of a word of C and of a number; names of <stdint.h> would not compile, or be replaced.
weights "{$(tensor class 1 0 4),$(tensor 0.weight 1,1 4 8)}"
expect 0 "words in C" quantize-layer w.safetensors -o words.h --c --name k
shows "static const float k_class[1] = {" words.h
shows "static const heed_tensor k_0 = {k_0_weights," words.h
weights "{$(tensor ... 1 0 4)}"
refuses 'tensor ... would be called "k_", which is no name in C' w.safetensors --c --name k
weights "{$(tensor t 1 0 4)}"
for name in size uint8 ptrdiff int_fast16; do
  refuses "tensor t would be called \"${name}_t\", which is a name of <stdint.h>" w.safetensors --c --name $name
done
expect 0 "a name that only looks like one" quantize-layer w.safetensors -o sizes.h --c --name sizes
weights "{$(tensor MAX 1 0 4)}"
refuses 'would be called "INT8_MAX", which is a name of <stdint.h>' w.safetensors --c --name INT8
weights "{$(tensor size_t 1 0 4)}"
refuses 'would be called "size_t", which is a name of <stdint.h>' w.safetensors --name weights
expect 0 "the help" quantize-layer --help
shows "share a multiplier beside the row's scale" out

# -- Names
refuses_weights "tensor a_b and a.b would both be called a_b; rename one" "{$(tensor a.b 1 0 4),$(tensor a_b 1 4 8)}"
refuses_weights "tensor a.scales and a.weight would both be called a_scales" "{$(tensor a.weight 1,1 0 4),$(tensor a.scales 1 4 8)}"
refuses_weights "would both be called rotary_phases" "{$(tensor rotary.phases 1 0 4)}"
refuses_weights 'tensor 0.weight would be called "0", which is no name in C++' "{$(tensor 0.weight 1,1 0 4)}"
refuses_weights 'tensor new would be called "new", which is no name in C++' "{$(tensor new 1 0 4)}"
refuses_weights 'tensor ... would be called "", which is no name in C++' "{$(tensor ... 1 0 4)}"

# -- Shapes and numbers
refuses_weights "tensor a has shape [1, 1, 1]; only matrices and vectors" "{$(tensor a 1,1,1 0 4)}"
refuses_weights "tensor a has shape []; only matrices and vectors" "{$(tensor a '' 0 4)}"
refuses_weights "tensor a has shape [0, 3]; only matrices and vectors" "{$(tensor a 0,3 0 0),$(tensor b 3 0 12)}"
refuses_weights "tensor a is I16" "{$(tensor a 1,2 0 4 I16)}"
refuses_weights "tensor a has a number that is not finite" "{$(tensor a 1,2 0 8)}" '\0\0\0\0\0\0\300\177'
refuses_weights "tensor a.bias has a number that is not finite" "{$(tensor a.bias 1 0 4),$(tensor a.weight 1,1 4 8)}" '\0\0\200\177'
refuses_weights "tensor a has a number beyond 2^40" "{$(tensor a 1,1 0 4)}" '\0\0\0\124'
refuses_weights "tensor a.bias has shape [3]; as the bias of a.weight it needs [2]" \
  "{$(tensor a.weight 2,1 0 8),$(tensor a.bias 3 8 20)}"
refuses_weights "tensor a.weight has two biases, a.bias and a_bias" \
  "{$(tensor a.weight 1,1 0 4),$(tensor a.bias 1 4 8),$(tensor a_bias 1 8 12)}"
refuses_weights "tensor a.bias is the bias of both a and a.weight" \
  "{$(tensor a 1,1 0 4),$(tensor a.weight 1,1 4 8),$(tensor a.bias 1 8 12)}"
refuses_weights "does not begin where the one before ends" "{$(tensor a 1 4 8)}"
refuses_weights "leave the file" "{$(tensor a 9999 0 39996)}"

# -- Files and options
weights "{$(tensor a 1,1 0 4)}"
refuses "nothing.safetensors" nothing.safetensors
refuses "its header is longer than the file" "$source_dir/tests/golden/tiny.heed"
refuses "phases take --rope-theta and an even --rotary-dims together" w.safetensors --rope-theta 10000
refuses "phases take --rope-theta and an even --rotary-dims together" w.safetensors --rotary-dims 4
refuses "phases take --rope-theta and an even --rotary-dims together" w.safetensors --rotary-dims 3 --rope-theta 10000
refuses '"two words" cannot name a namespace' w.safetensors --name "two words"
refuses '"heed_linear" begins names of heed.h' w.safetensors --c --name heed_linear
refuses '"a__b" cannot name a namespace' w.safetensors --name a__b
refuses '"class" cannot name a namespace' w.safetensors --name class
cp w.safetensors before
refuses_source=1
expect 1 "the source as output" quantize-layer w.safetensors -o ./w.safetensors --name w
checks=$((checks + 1))
cmp -s before w.safetensors || fail "the source was overwritten"
expect 1 "a name from nothing" quantize-layer w.safetensors -o 1.h
expect 1 "a folder that is none" quantize-layer w.safetensors -o nowhere/layer.h
expect 2 "layout and target" quantize-layer w.safetensors -o layer.h --layout row --target avx2
expect 2 "an unknown group" quantize-layer w.safetensors -o layer.h --group 48
expect 2 "too many dimensions" quantize-layer w.safetensors -o layer.h --rotary-dims 258 --rope-theta 10000

echo "$checks checks, $failures failures"
[ $failures = 0 ]
