#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# command_line_test.sh: every command of `heed` as people and scripts meet it: help, exit status, JSON keys, refusals.
#   command_line_test.sh [--data] SOURCE_DIR HEED...
# HEED... is the program, behind its emulator if it needs one. Without --data only the golden image is used.
. "$(dirname "$0")/checks.sh"
emulated=0
[ $# = 1 ] || emulated=1
golden=$source_dir/tests/golden/tiny.heed
has() {
  checks=$((checks + 1))
  grep -q -e "$1" out || fail "no '$1' on standard output"
}
says() {
  checks=$((checks + 1))
  grep -q -e "$1" err || fail "no '$1' on standard error"
}
# The JSON keys that the last command must have printed.
keys() {
  for key in "$@"; do has "\"$key\":"; done
}
# The value of a key of the outermost object.
value() { sed -n "s/^  \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" out; }
same() {
  checks=$((checks + 1))
  [ "$2" = "$3" ] || { echo "FAILED: $1: $2 and $3"; failures=$((failures + 1)); }
}
# wrong_number OPTION VALUE ARGUMENTS...: a wrong command line, and the option is named.
wrong_number() {
  option=$1
  wrong=$2
  shift 2
  expect 2 "$* $option $wrong" "$@" "$option" "$wrong"
  checks=$((checks + 1))
  grep -q -e "$option" err || fail "'$option' is not named: heed $* $option $wrong"
}
# A refusal: status 1, one line on standard error that names the subject, nothing on standard output.
refuses() {
  subject=$1
  shift
  expect 1 "refuse $subject" "$@"
  checks=$((checks + 1))
  if [ "$(wc -l < err)" != 1 ] || ! grep -q "^heed: .*$subject.*: ." err || [ -s out ]; then
    fail "not one clear line: heed $*"
  fi
}

heed=$*
test_without_data() {
  cp "$golden" tiny.heed
  # -- help and wrong command lines
  expect 0 "help" --help
  for command in quantize quantize-layer run encode translate eval plan inspect bench; do
    has "$command"
  done
  for command in quantize quantize-layer run encode translate eval plan inspect bench; do
    expect 0 "$command --help" $command --help
    has "Example:"
    has "heed $command "
    expect 2 "$command without arguments" $command
    expect 2 "$command with an unknown option" $command tiny.heed --no-such-option
  done
  expect 0 "version" --version
  expect 2 "no command"
  expect 2 "unknown command" dance
  says dance
  expect 2 "unknown isa" run tiny.heed --isa abacus
  wrong_number --temp 101 run tiny.heed
  wrong_number --temp nan run tiny.heed
  wrong_number --top-p nan run tiny.heed
  wrong_number --seed many run tiny.heed
  wrong_number --seed 18446744073709551616 run tiny.heed
  for option in --tokens --top-k --seed --threads --chunk --context; do wrong_number $option -1 run tiny.heed; done
  # 2^64 less than 1, which wraps to an ordinary number
  for option in --chunk-bytes --max-chunks --threads; do
    wrong_number $option -1 eval tiny.heed text.txt
    wrong_number $option -18446744073709551615 eval tiny.heed text.txt
  done
  wrong_number --chunk-bytes 1048577 eval tiny.heed text.txt
  for option in --prefill --decode --threads --chunk; do wrong_number $option -1 bench tiny.heed; done
  for option in --context --chunk; do wrong_number $option -1 plan tiny.heed; done
  wrong_number --context -1 quantize tiny.heed -o x.heed
  expect 2 "unknown preset" plan --preset gpt-99
  expect 2 "model and preset" plan tiny.heed --preset gpt-3
  expect 2 "unknown target" plan tiny.heed --target z80
  expect 2 "layout and target" quantize tiny.heed -o x.heed --layout row --target avx2
  expect 2 "unknown group" quantize tiny.heed -o x.heed --group 48
  expect 2 "two extra arguments" inspect tiny.heed tiny.heed

  # -- run
  expect 0 "run" run tiny.heed -n 6 --isa portable
  checks=$((checks + 1))
  grep -q '^digest [0-9a-f]\{8\}: ' err || fail "no digest on standard error"
  expect 0 "run --json" run tiny.heed -p "ab" -n 6 --json --isa portable
  keys text tokens prompt_tokens digest prefill_tokens_per_s decode_tokens_per_s isa threads arena_bytes image_bytes
  same "isa" "$(value isa)" portable
  same "image_bytes" "$(value image_bytes)" "$(wc -c < tiny.heed | tr -d ' ')"
  digest=$(value digest)
  arena=$(value arena_bytes)
  for way in "--threads 3" "--chunk 1" "--chunk 7" "--context 64"; do
    # shellcheck disable=SC2086
    expect 0 "run $way" run tiny.heed -p "ab" -n 6 --json --isa portable $way
    same "digest with $way" "$(value digest)" "$digest"
  done
  expect 0 "an empty prompt" run tiny.heed -p "" -n 6 --json --isa portable
  digest_of_none=$(value digest)
  expect 0 "an empty prompt behind =" run tiny.heed --prompt= -n 6 --json --isa portable
  same "digest of an empty prompt" "$(value digest)" "$digest_of_none"
  expect 0 "plan" plan tiny.heed --target portable --json
  same "arena_bytes of plan and run" "$(value arena_bytes)" "$arena"
  expect 0 "sampling" run tiny.heed -n 20 --temp 0.8 --top-k 5 --top-p 0.9 --seed 7 --json --isa portable
  digest=$(value digest)
  expect 0 "sampling again" run tiny.heed -n 20 --temp 0.8 --top-k 5 --top-p 0.9 --seed 7 --json --isa portable
  same "digest of a seed" "$(value digest)" "$digest"
  # The answers that SPEC.md shows in part 6.
  expect 0 "a text that begins with its end" run tiny.heed --json --isa portable
  same "digest of tiny.heed in SPEC.md" "$(value digest)" d06299c0
  expect 0 "a prompt of SPEC.md" run tiny.heed -p banana --temp 1 --seed 2 --json --isa portable
  same "digest of banana in SPEC.md" "$(value digest)" ee6d83a1
  same "its text" "$(value text)" banana
  expect 0 "the second image of SPEC.md" run "$source_dir/tests/golden/small.heed" -p banana -n 76 --temp 1 --seed 2 --json --isa portable
  same "digest of small.heed in SPEC.md" "$(value digest)" c6f52ec3

  # -- layouts: lossless, and the same answer
  for layout in row packed pair block64; do
    expect 0 "quantize --layout $layout" quantize tiny.heed -o "$layout.heed" --layout $layout --json
    keys image_bytes layout parameters
    expect 0 "run of layout $layout" run "$layout.heed" -p "ab" -n 6 --json --isa portable
    [ $layout = row ] && digest=$(value digest)
    same "digest of layout $layout" "$(value digest)" "$digest"
    expect 0 "quantize back from $layout" quantize "$layout.heed" -o back.heed --layout row
    checks=$((checks + 1))
    cmp -s back.heed row.heed || fail "row -> $layout -> row changes the image"
  done
  for target in portable avx2 avx512vnni neon cortex-m3 cortex-m4 portable-row cortex-m7 cortex-m33 cortex-m23 cortex-m33+nodsp cortex-m85; do
    expect 0 "quantize --target $target" quantize tiny.heed -o target.heed --target $target
    expect 0 "plan --target $target" plan target.heed --target $target --json
    keys image_bytes arena_bytes
    same "image_bytes for $target" "$(value image_bytes)" "$(wc -c < target.heed | tr -d ' ')"
  done

  expect 0 "an image in its own layout" quantize pair.heed -o kept.heed
  checks=$((checks + 1))
  cmp -s kept.heed pair.heed || fail "the layout of an image is not kept"
  expect 0 "a shorter context in its own layout" quantize pair.heed -o kept.heed --context 10 --json
  same "layout with a shorter context" "$(value layout)" pair

  # -- what -o names: replaced whole, through a link, with its permissions; nothing else is touched
  mkdir outputs
  cp tiny.heed outputs/real.heed
  chmod 640 outputs/real.heed
  echo mine > outputs/real.heed.part
  ln -s outputs/real.heed link.heed
  expect 0 "a link as output" quantize tiny.heed -o link.heed --layout pair
  checks=$((checks + 1))
  { [ -h link.heed ] && cmp -s outputs/real.heed pair.heed; } || fail "the link was replaced, not what it leads to"
  case $(ls -l outputs/real.heed) in
    -rw-r-----*) ;;
    *) fail "permissions are not kept" ;;
  esac
  (umask 027; expect 0 "a new output" quantize tiny.heed -o outputs/new.heed; exit $failures) || failures=$?
  case $(ls -l outputs/new.heed) in
    -rw-r-----*) ;;
    *) fail "a new file ignores the umask" ;;
  esac
  same "a file of somebody else" "$(cat outputs/real.heed.part)" mine
  ln -s outputs/nothing.heed dangling.heed
  refuses dangling.heed quantize tiny.heed -o dangling.heed
  ln -s loop.heed loop.heed
  refuses loop.heed quantize tiny.heed -o loop.heed
  mkfifo outputs/pipe
  refuses outputs/pipe quantize tiny.heed -o outputs/pipe
  checks=$((checks + 1))
  [ -p outputs/pipe ] || fail "a pipe was replaced"
  refuses outputs quantize tiny.heed -o outputs
  if [ "$(id -u)" != 0 ]; then  # who may write everything
    chmod 440 outputs/real.heed
    refuses outputs/real.heed quantize tiny.heed -o outputs/real.heed
    chmod 550 outputs
    refuses outputs/other.heed quantize tiny.heed -o outputs/other.heed
    chmod 750 outputs
  fi
  same "files in the folder" "$(ls outputs | tr '\n' ' ')" "new.heed pipe real.heed real.heed.part "

  # -- the other commands
  printf 'abba abab baba\n' | tr '\n' ' ' > text.txt
  expect 0 "eval" eval tiny.heed text.txt --isa portable
  expect 0 "eval --json" eval tiny.heed text.txt --isa portable --json
  keys nats_per_token perplexity bits_per_byte tokens digest isa threads image_bytes arena_bytes
  digest=$(value digest)
  for rows in 1 3 64; do
    expect 0 "eval --score-rows $rows" eval tiny.heed text.txt --isa portable --score-rows $rows --json
    same "digest of eval --score-rows $rows" "$(value digest)" "$digest"
  done
  expect 0 "eval with a short context" eval tiny.heed text.txt --isa portable --chunk-bytes 5 --max-chunks 2 --json
  same "chunks" "$(value chunks)" 2
  expect 0 "inspect" inspect tiny.heed
  for word in stack sections tensors metadata checks w_value_up verify; do has "$word"; done
  expect 0 "inspect --json" inspect tiny.heed --json
  keys image_bytes version parameters layout stacks sections tensors metadata checks open_s verify_s crc32c
  keys features heed_features
  same "the features of tiny.heed" "$(value heed_features)" kLlamaFeatures
  # An image that no build runs is refused with the name of what is missing: byte 88 of the stack is n_sinks.
  at=$(tr -d ' \n' < out | sed 's/.*"kind":"stacks","offset":\([0-9]*\).*/\1/')
  cp tiny.heed with_sinks.heed
  printf '\001' | dd of=with_sinks.heed bs=1 seek=$((at + 88)) conv=notrunc 2> /dev/null
  refuses with_sinks.heed inspect with_sinks.heed
  says "sinks, which this version does not carry"
  expect 0 "bench" bench tiny.heed -p 8,16 -n 4 --isa portable
  expect 0 "bench --json" bench tiny.heed -p 8 -n 4 --isa portable --json
  keys prefill_tokens_per_s decode_tokens_per_s macs_per_token parameters isa threads image_bytes arena_bytes \
    macs_per_s bytes_per_s share_of_int8_peak share_of_read_bandwidth limits
  has '"share_of_int8_peak": null'

  # -- presets
  for preset in stories260k llama2c-15m llama2c-110m smollm-135m; do
    expect 0 "plan --preset $preset" plan --preset $preset --target cortex-m4
    has "kv_cache"
    expect 0 "plan --preset $preset --json" plan --preset $preset --target cortex-m4 --json
    keys parameters macs_per_token image_bytes arena_bytes memory_map
  done
  for core in cortex-m0 cortex-m3 cortex-m4 cortex-m7 cortex-m33 cortex-m55; do  # a formula of position
    expect 0 "plan --target $core" plan --preset stories260k --target $core
    has "floor(p / 64)"
    expect 0 "plan --target $core --json" plan --preset stories260k --target $core --json
    keys instructions constant per_key per_block ragged data_percent first_token last_token regions features heed_features
    # The promise for any build is the largest.
    of_any=$(tr -d ' \n' < out | sed 's/.*"last_token":\([0-9]*\).*/\1/')
    for set in kAllFeatures kLlamaFeatures kDecoderFeatures kAllFeatures-Feature::speed kLlamaFeatures+unrolled; do
      expect 0 "plan --features $set" plan --preset stories260k --target $core --features $set --json
      of_one=$(tr -d ' \n' < out | sed 's/.*"last_token":\([0-9]*\).*/\1/')
      checks=$((checks + 1))
      [ "$of_one" -gt 0 ] && [ "$of_one" -le "$of_any" ] || fail "$core: $of_one instructions with $set, $of_any with any"
    done
  done
  expect 0 "plan --features" plan --preset stories260k --target cortex-m4 --features kDecoderFeatures
  has "in a build with kDecoderFeatures"
  has "DHEED_FEATURES=kLlamaFeatures"
  expect 0 "plan of GPT-3" plan --preset gpt-3 --json
  same "the features of gpt-3" "$(value heed_features)" kGpt2Features
  refuses gpt-3 plan --preset gpt-3 --target cortex-m4 --features kLlamaFeatures
  says "biases, ungated, layer_norm, learned_positions, gelu"
  says "DHEED_FEATURES=kGpt2Features"
  for set in "" llama kLlamaFeatures+ kLlamaFeatures+frob kLlamaFeatures+groups+ +groups; do
    expect 2 "wrong features '$set'" plan tiny.heed --target cortex-m4 --features "$set"
  done
  expect 0 "the size of stories260k" plan --preset stories260k --target cortex-m4 --context 256 --json
  same "parameters of stories260k" "$(value parameters)" 260032
  expect 0 "plan --preset gpt-3" plan --preset gpt-3
  for number in 617,558,016 14,495,514,624 57,982,058,496 175,181,291,520 6,291,456; do has "$number"; done
  has "position_embedding"
  expect 0 "plan --preset gpt-3 --json" plan --preset gpt-3 --json
  same "parameters of gpt-3" "$(value parameters)" 175181291520
  keys image_bytes arena_bytes kv_cache_bytes matrix_parameters other_parameters

  # -- refusals
  refuses nothing.heed run nothing.heed
  for command in "run" "encode" "translate" "inspect" "plan" "bench" "eval tiny.heed" "quantize -o out.heed" "quantize tiny.heed -o"; do
    # shellcheck disable=SC2086
    expect 1 "$command with an empty path" $command ""
    says "^heed: an empty path cannot be"
  done
  refuses "$work" inspect "$work"
  : > empty.heed
  refuses empty.heed inspect empty.heed
  head -c 1000 tiny.heed > short.heed
  refuses short.heed run short.heed
  echo "not an image, but long enough to have the header of one, or so one might hope" > text.heed
  refuses text.heed bench text.heed
  { head -c 2400 tiny.heed; printf '\001'; tail -c 95 tiny.heed; } > flipped.heed
  refuses flipped.heed plan flipped.heed
  refuses text.heed quantize text.heed -o out.heed
  refuses nothing.bin quantize nothing.bin -o out.heed
  refuses tiny.heed run tiny.heed --context 100000
  refuses tiny.heed plan tiny.heed --context 100000
  refuses tiny.heed bench tiny.heed -p 100000 --isa portable
  refuses tiny.heed eval tiny.heed text.txt --isa portable --reference tiny.heed
  refuses nothing.txt eval tiny.heed nothing.txt
  refuses prompt run tiny.heed --isa portable -p "ab🙂a"
  says "no token for '🙂' (U+1F642) at byte 2$"
  printf 'abba \303\251' > accent.txt
  refuses accent.txt eval tiny.heed accent.txt --isa portable --chunk-bytes 6  # which would cut the character in two
  says "no token for 'é' (U+00E9) at byte 5$"
  refuses tiny.heed run tiny.heed --isa portable -p "$(head -c 400 /dev/zero | tr '\0' a)"
  refuses "no/such/folder" quantize tiny.heed -o no/such/folder/out.heed
  checks=$((checks + 1))
  [ ! -e out.heed ] || fail "a refused source left a file"
  # A table of another CPU is refused by name, and so is a layout that the named table does not take.
  expect 0 "packed" quantize tiny.heed -o packed.heed --layout packed
  for isa in avx2 neon cortex-m4; do
    # shellcheck disable=SC2086
    if $heed run packed.heed -n 1 --isa $isa > out 2> err; then
      refuses row.heed run row.heed --isa $isa
    else
      refuses "--isa $isa" run packed.heed --isa $isa
    fi
  done
  checks=$((checks + 1))
  # shellcheck disable=SC2086
  if [ -e /dev/full ] && $heed inspect tiny.heed > /dev/full 2> err; then fail "a full disk goes unnoticed"; fi
}

# The numbers that the README of the test data states, and the bounds that int8 must keep.
test_with_data() {
  stories=$HEED_TEST_DATA/stories260K
  expect 0 "quantize" quantize "$stories/stories260K.bin" --tokenizer "$stories/tok512.bin" -o stories.heed
  has "260,032"
  expect 0 "quantize, tokenizer found" quantize "$stories/stories260K.bin" -o found.heed --json
  keys source_bytes image_bytes parameters matrix_error sites output_error
  checks=$((checks + 1))
  cmp -s stories.heed found.heed || fail "the tokenizer beside the checkpoint is another one"
  expect 0 "quantize, no tokenizer" quantize "$stories/stories260K.bin" --tokenizer none -o mute.heed
  refuses mute.heed run mute.heed
  refuses tok512.bin quantize "$stories/tok512.bin" --tokenizer none -o out.heed
  refuses shakespeare.txt quantize "$stories/stories260K.bin" -o out.heed \
    --tokenizer "$HEED_TEST_DATA/text/shakespeare.txt"

  # One answer: every table, thread count and way of cutting a prompt of hundreds of tokens.
  prompt=$(head -c 800 "$HEED_TEST_DATA/text/tinystories.txt")
  expect 0 "a long prompt" run stories.heed -p "$prompt" -n 100 --json --isa portable
  digest=$(value digest)
  for way in "" "--threads 2" "--chunk 1" "--chunk 7" "--chunk 64" "--chunk 512"; do
    # shellcheck disable=SC2086
    expect 0 "run $way" run stories.heed -p "$prompt" -n 100 --json $way
    same "digest of a long prompt $way" "$(value digest)" "$digest"
  done
  # UTF-8 survives, prompt and all.
  expect 0 "text beyond ASCII" run stories.heed -p "Schöne Grüße, 世界 🙂" -n 5 --json
  has "Schöne Grüße, 世界 🙂"
  # The end of the context is an end, not a failure.
  expect 0 "full context" run stories.heed -n 100 --context 20 --json
  has '"context_full": true'

  # The preset is what the quantiser makes.
  expect 0 "plan" plan stories.heed --target avx2 --json
  arena=$(value arena_bytes) tensors=$(value tensor_bytes)
  expect 0 "plan of the preset" plan --preset stories260k --target avx2 --json
  same "arena of the preset" "$(value arena_bytes)" "$arena"
  same "tensors of the preset" "$(value tensor_bytes)" "$tensors"

  # The float model takes minutes under an emulator, whose numbers are the host's: all of the text with --full only.
  chunks=60 predicted=26663 least=1.620844 most=1.620864 int8_most=1.6269
  if [ $emulated = 1 ] && [ "${HEED_FULL:-0}" != 1 ]; then
    chunks=4 predicted=1728 least=1.542727 most=1.542747 int8_most=1.5488
  fi
  expect 0 "eval" eval stories.heed "$HEED_TEST_DATA/text/tinystories.txt" --max-chunks $chunks --chunk-bytes 900 \
    --reference "$stories/stories260K.bin" --json
  keys kl top1_agreement reference_nats_per_token bits_per_byte perplexity
  same "predicted tokens" "$(value tokens)" $predicted
  in_range "float loss" "$(value reference_nats_per_token)" $least $most
  in_range "int8 loss" "$(value nats_per_token)" 1.0 $int8_most
  in_range "KL" "$(value kl)" 0.0 0.0042
  in_range "top-1 agreement" "$(value top1_agreement)" 0.965 1.0
  loss=$(value nats_per_token)
  expect 0 "eval on portable" eval stories.heed "$HEED_TEST_DATA/text/tinystories.txt" --max-chunks $chunks --json \
    --isa portable
  same "loss on portable" "$(value nats_per_token)" "$loss"
  expect 0 "chunks beyond the context" eval stories.heed "$HEED_TEST_DATA/text/shakespeare.txt" --chunk-bytes 4000 \
    --max-chunks 2 --json
  same "cut chunks" "$(value cut_chunks)" 2
  # A text that is not UTF-8 has a loss, and a note that says what it is worth.
  printf 'A caf\303\251 and a dog.' > utf8.txt
  expect 0 "eval of UTF-8" eval stories.heed utf8.txt
  checks=$((checks + 1))
  ! grep -q UTF-8 err || fail "UTF-8 is not recognised"
  printf 'A caf\351 and a dog.' > latin1.txt
  expect 0 "eval of Latin-1" eval stories.heed latin1.txt
  says "latin1.txt is not UTF-8 at byte 5 (0xE9)"
  refuses mute.heed eval stories.heed "$HEED_TEST_DATA/text/shakespeare.txt" --max-chunks 1 --reference mute.heed
}

in_range() {
  checks=$((checks + 1))
  awk -v x="$2" -v low="$3" -v high="$4" 'BEGIN { exit !(x != "" && x >= low && x <= high) }' ||
    { echo "FAILED: $1: $2 is not in $3 .. $4"; failures=$((failures + 1)); }
}

if [ $data = 0 ]; then
  test_without_data
elif [ -f "${HEED_TEST_DATA:-}/stories260K/stories260K.bin" ]; then
  test_with_data
else
  echo "skipped: stories260K/stories260K.bin needs HEED_TEST_DATA"
  [ "${HEED_REQUIRE_DATA:-0}" = 1 ] && exit 1
  exit 0
fi
echo "$checks checks, $failures failed"
[ $failures = 0 ]
