#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# files_test.sh: what `heed` does with files that are not what a command takes, that it would destroy, or that change
# under it: one clear line, and nothing lost.
#   files_test.sh [--data] SOURCE_DIR HEED...
# HEED... is the program, behind its emulator if it needs one.
. "$(dirname "$0")/checks.sh"
limit="timeout 60"  # longer than a minute, and it hangs
says() {
  checks=$((checks + 1))
  grep -q -F -e "$1" err || fail "no '$1' on standard error"
}
# A refusal: status 1, one line on standard error that has these words, nothing on standard output.
# refuses WORDS ARGUMENTS...
refuses() {
  words=$1
  shift
  expect 1 "refuse $*" "$@"
  checks=$((checks + 1))
  if [ "$(wc -l < err)" != 1 ] || ! grep -q -F -e "$words" err || ! grep -q "^heed: " err || [ -s out ]; then
    fail "not one line with '$words': heed $*"
  fi
}
same() {
  checks=$((checks + 1))
  cmp -s "$2" "$3" || { echo "FAILED: $1: $2 and $3 differ"; failures=$((failures + 1)); }
}
# The whole folder, by names and contents.
snapshot() { find . -type f ! -name out ! -name err ! -path './out.heed' -exec cksum {} + | sort; }

heed=$*
golden=$source_dir/tests/golden/tiny.heed
corpus=$source_dir/tests/fuzz/corpus

# A llama2.c checkpoint of five tokens, and a GPT-2 folder, from the fuzzers' inputs.
make_inputs() {
  cp "$golden" tiny.heed
  tail -c +2 "$corpus/llama2c/tied" > my.bin
  mkdir gpt2
  split=$(od -An -tu2 -N2 "$corpus/safetensors/tied" | tr -d ' ')
  tail -c +3 "$corpus/safetensors/tied" | head -c "$split" > gpt2/config.json
  tail -c +$((split + 3)) "$corpus/safetensors/tied" > gpt2/model.safetensors
  printf 'abba abab baba ' > text.txt
  printf 'a\nb\nc\nd\ne\n' > letters.txt
}

# -- Every way to name a model, a source, a vocabulary or a text.
as_model() {
  words=$1
  for command in run inspect plan bench; do refuses "$words" $command "$2"; done
  refuses "$words" eval "$2" text.txt
}
as_source() {
  refuses "$1" quantize "$2" -o out.heed
  refuses "$1" eval tiny.heed text.txt --isa portable --reference "$2"
}
as_vocabulary() { refuses "$1" quantize my.bin -o out.heed --tokenizer "$2"; }
as_text() { refuses "$1" eval tiny.heed "$2"; }
everywhere() {
  as_model "$1" "$2"
  as_source "$1" "$2"
  as_vocabulary "$1" "$2"
  as_text "$1" "$2"
}

test_no_files() {
  mkfifo pipe pipe.safetensors
  everywhere "pipe: a pipe, not a file" pipe
  refuses "pipe: a pipe, not a file" quantize my.bin -o out.heed --tokenizer chars-file:pipe
  everywhere "/dev/zero: a device, not a file" /dev/zero
  everywhere "/dev/null: a device, not a file" /dev/null
  everywhere "nothing: no such file" nothing
  mkdir folder
  as_model "folder: this is a folder" folder
  as_source "folder: a folder without config.json" folder
  as_vocabulary "folder: this folder has no tokenizer.json" folder
  as_text "folder: a folder, not a file" folder
  : > empty
  everywhere "empty: the file is empty" empty
  if [ "$(id -u)" != 0 ]; then  # who may read everything
    cp tiny.heed secret
    chmod 000 secret
    everywhere "secret: Permission denied" secret
    rm -f secret
  fi
  # Parts of a folder, too.
  for file in config.json model.safetensors; do
    cp -r gpt2 odd
    rm odd/$file
    mkfifo odd/$file
    as_source "odd/$file: a pipe, not a file" odd
    rm -r odd
  done
  # Standard input is what it is: a pipe is refused, a file is read.
  checks=$((checks + 1))
  # shellcheck disable=SC2086
  if cat tiny.heed | timeout 60 $heed inspect /dev/stdin > out 2> err; then fail "a pipe as /dev/stdin"; fi
  says "/dev/stdin: a pipe, not a file"
  checks=$((checks + 1))
  # shellcheck disable=SC2086
  timeout 60 $heed inspect /dev/stdin > out 2> err < tiny.heed || fail "a file as /dev/stdin"
}

# -- Names of what is not what is wanted, each with a way out.
# kind NAME MODEL_ADVICE VOCABULARY_ADVICE: of the file `kind`, which is no text.
kind() {
  as_model "this is $1, not an image (.heed); $2" kind
  as_source "this is $1, not a model that heed reads; $2" kind
  as_vocabulary "this is $1, not a vocabulary that heed reads; $3" kind
  as_text "this is $1, not a text" kind
}
# text_kind: the same of a file that is also a text.
text_kind() {
  as_model "this is $1, not an image (.heed); $2" kind
  as_source "this is $1, not a model that heed reads; $2" kind
  as_vocabulary "this is $1, not a vocabulary that heed reads; $3" kind
}
test_kinds() {
  unread="heed does not read this kind" tokens="heed reads tokenizer.json" weights="it holds weights"
  unpack="unpack it and give"
  printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n' > kind
  kind "a Git LFS pointer" "\`git lfs pull\`" "\`git lfs pull\`"
  printf 'GGUF\003\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000' > kind
  as_model "this is a GGUF file, not an image (.heed); \`heed quantize\` makes one of it" kind
  as_source "kind: it has no tensors, so it is no model" kind
  as_vocabulary "kind: it has no vocabulary (tokenizer.ggml.model)" kind
  as_text "this is a GGUF file, not a text" kind
  printf 'tjgg\003\000\000\000\000\001\000\000' > kind
  kind "an old llama.cpp (GGML) file" "$unread" "$tokens"
  printf 'PK\003\004\000\000\010\010\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\020\000\022\000archive/data.pkl' > kind
  kind "a PyTorch file" "heed does not read it, since it is a program" "$weights"
  printf '\200\002\212\012l\374\234F\371 j\250P\031.\200\002M\351\003.' > kind
  kind "a PyTorch file" "heed does not read it, since it is a program" "$weights"
  printf '\200\004\225\020\000\000\000\000\000\000\000}\224.' > kind
  kind "a Python pickle" "heed does not read it, since it is a program" "$tokens"
  printf 'PK\003\004\024\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\005\000\000\000a.txt' > kind
  kind "a zip archive" "$unpack" "$unpack"
  printf '\037\213\010\000\000\000\000\000\000\003' > kind
  kind "a gzip archive" "$unpack" "$unpack"
  printf '\3757zXZ\000\000\004' > kind
  kind "an xz archive" "$unpack" "$unpack"
  printf '\010\007\022\007pytorch\032\0052.0.1:\020' > kind
  kind "an ONNX model" "$unread" "$weights"
  printf '\034\000\000\000TFL3\000\000\000\000' > kind
  kind "a TensorFlow Lite model" "$unread" "$weights"
  cp gpt2/model.safetensors kind
  as_model "this is a safetensors file, not an image (.heed); \`heed quantize\` makes an image of it" kind
  as_source "this is a safetensors file, not a model that heed reads; give the folder that holds it with its config.json" kind
  as_vocabulary "this is a safetensors file, not a vocabulary that heed reads; $weights" kind
  as_text "this is a safetensors file, not a text" kind
  printf '\223NUMPY\001\000' > kind
  as_model "this is a NumPy array, not an image (.heed); as --vectors it may be read by one; \`heed quantize\` makes" kind
  printf '\n\016\n\005<unk>\025\000\000\000\000\030\002\n\014\n\003<s>\025\000\000\000\000\030' > kind
  as_model "this is a SentencePiece vocabulary (tokenizer.model), not an image (.heed); it holds no weights" kind
  as_source "this is a SentencePiece vocabulary (tokenizer.model), not a model that heed reads; it holds no weights" kind
  as_vocabulary "kind: its protobuf is broken or cut off" kind
  as_text "this is a SentencePiece vocabulary (tokenizer.model), not a text" kind
  printf '<!DOCTYPE html>\n<html lang="en"><head><title>Not found</title>' > kind
  text_kind "a web page (HTML)" "a download probably went wrong" "a download probably went wrong"
  printf '{\n  "version": "1.0",\n  "truncation": null,\n  "added_tokens": [], "model": {"vocab": {}}}' > kind
  as_model "this is a Hugging Face tokenizer (tokenizer.json), not an image (.heed); it holds no weights" kind
  as_source "this is a Hugging Face tokenizer (tokenizer.json), not a model that heed reads; it holds no weights" kind
  as_vocabulary "kind: model.vocab is missing or empty" kind
  cp gpt2/config.json kind
  text_kind "a model's config.json" "give the folder that holds it" "$tokens"
  printf '{"heed": 2, "stacks": []}' > kind
  as_model "this is a description of a model, not an image (.heed); \`heed quantize\` makes an image of it and the safetensors" kind
  as_source "this is a description of a model, not a model that heed reads; give the safetensors file with its tensors" kind
  as_vocabulary "this is a description of a model, not a vocabulary that heed reads; $tokens" kind
  printf '{"a": 1}' > kind
  text_kind "a JSON file" "$unread" "$tokens"
  printf 'Once upon a time' > kind
  text_kind "a text" "$unread" "a list of characters, one per line, is given as chars-file:PATH"

  # What belongs elsewhere in heed.
  as_model "my.bin: this is a llama2.c checkpoint, not an image (.heed); \`heed quantize\` makes one" my.bin
  as_vocabulary "my.bin: this is a llama2.c checkpoint, not a vocabulary" my.bin
  as_text "my.bin: this is a llama2.c checkpoint, not a text" my.bin
  as_model "gpt2: this is a Hugging Face folder, not an image (.heed); \`heed quantize\` makes one" gpt2
  as_vocabulary "tiny.heed: this is a heed image, not a vocabulary" tiny.heed
  as_text "tiny.heed: this is a heed image, not a text" tiny.heed
  printf '\005\000\000\000\000\000\000\000\005\000\000\000<unk>\000\000\000\000\003\000\000\000<s>' > kind
  as_model "this is llama2.c's tokenizer file, not an image (.heed); give the checkpoint" kind
  as_source "this is llama2.c's tokenizer file, not a model that heed reads; give the checkpoint" kind
  expect 0 "help of quantize" quantize --help
  for word in llama2.c float32 "Hugging Face" GPT-2 F32; do
    checks=$((checks + 1))
    grep -q -e "$word" out || fail "quantize --help does not say that it reads $word"
  done
}

# -- An output that is an input.
# keeps WORDS ARGUMENTS...: refused, and no file has changed.
keeps() {
  snapshot > "$work.before"
  refuses "$@"
  checks=$((checks + 1))
  snapshot > "$work.after"
  cmp -s "$work.before" "$work.after" || fail "files have changed: heed $*"
  rm -f "$work.before" "$work.after"
}
test_outputs() {
  ln my.bin hard.bin
  ln -s my.bin soft.bin
  ln -s gpt2 soft_folder
  for output in my.bin hard.bin soft.bin ./my.bin "$work/my.bin"; do
    for input in my.bin soft.bin; do
      keeps "which is read" quantize $input -o "$output" --tokenizer none
    done
  done
  keeps "which is read" quantize my.bin -o letters.txt --tokenizer chars-file:letters.txt
  # A folder with a vocabulary, and what is read beside it.
  mkdir words
  printf '{"model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "pre_tokenizer": {"type": "ByteLevel"}}' > words/tokenizer.json
  printf '{"eos_token": "b"}' > words/tokenizer_config.json
  for output in words/tokenizer.json words/tokenizer_config.json; do
    keeps "which is read" quantize my.bin -o "$output" --tokenizer words
    keeps "which is read" quantize my.bin -o "$output" --tokenizer words/tokenizer.json
  done
  expect 0 "a folder with tokenizer.json" quantize my.bin -o out.heed --tokenizer words
  expect 0 "its image" run out.heed -p ab -n 1
  printf '{"eos_token": "c"}' > words/tokenizer_config.json
  refuses "words/tokenizer.json: eos_token c is no token of the vocabulary" quantize my.bin -o out.heed --tokenizer words
  rm -r words
  expect 0 "a list of characters" quantize my.bin -o out.heed --tokenizer chars-file:letters.txt
  printf '\005\000\000\000' > tokenizer.bin
  for piece in '<unk>' '\n<s>\n' a b c; do
    bytes=$(printf "$piece" | wc -c)
    printf "\\000\\000\\000\\000\\00$bytes\\000\\000\\000$piece" >> tokenizer.bin
  done
  expect 0 "a tokenizer beside the checkpoint" quantize my.bin -o out.heed
  keeps "which is read" quantize my.bin -o tokenizer.bin  # found, not named
  keeps "which is read" quantize my.bin -o tokenizer.bin --tokenizer ./tokenizer.bin
  expect 0 "a folder, and a tokenizer beside it" quantize gpt2 -o out.heed  # which need not be its own
  says "no tokenizer beside the checkpoint"
  rm tokenizer.bin
  echo '{}' > gpt2/tokenizer.json
  ln gpt2/model.safetensors weights
  for output in gpt2/config.json gpt2/model.safetensors gpt2/tokenizer.json weights soft_folder/config.json; do
    for input in gpt2 gpt2/ soft_folder; do
      keeps "which is read" quantize $input -o $output --tokenizer none
    done
  done
  expect 0 "a new image in the source's folder" quantize gpt2 -o gpt2/model.heed --tokenizer none
  expect 0 "the same again" quantize gpt2 -o gpt2/model.heed --tokenizer none
  rm gpt2/model.heed gpt2/tokenizer.json weights hard.bin soft.bin soft_folder
  # Lossless, so allowed.
  cp tiny.heed itself.heed
  expect 0 "an image onto itself" quantize itself.heed -o itself.heed
  same "an image onto itself" tiny.heed itself.heed
  keeps "which is read" quantize itself.heed -o itself.heed --context 4  # the rest would be gone
}

# -- A theta of its own.
test_theta() {
  tail -c +2 "$corpus/llama2c/theta_500000" > theta.bin
  expect 0 "tables of theta 500000" quantize theta.bin -o theta.heed --tokenizer none
  checks=$((checks + 1))
  grep -q '^rope theta   500000$' out || fail "theta is not said"
  tail -c +2 "$corpus/llama2c/untied" > usual.bin
  expect 0 "the usual tables" quantize usual.bin -o usual.heed --tokenizer none --name theta
  expect 0 "the same theta, given" quantize usual.bin -o given.heed --tokenizer none --name theta --rope-theta 1e4
  same "theta 10000" usual.heed given.heed
  tail -c +2 "$corpus/llama2c/no_theta" > scaled.bin
  refuses "scaled.bin: its rotary tables are those of no theta" quantize scaled.bin -o out.heed --tokenizer none
  expect 0 "tables left aside" quantize scaled.bin -o out.heed --tokenizer none --rope-theta 10000
  for wrong in 1 0 -1 nan inf 1e13 x; do expect 2 "--rope-theta $wrong" quantize usual.bin -o out.heed --rope-theta $wrong; done
  refuses "keeps its groups, key offsets, value maps, rotation" quantize tiny.heed -o out.heed --rope-theta 10000
  refuses "no rotary positions" quantize gpt2 -o out.heed --tokenizer none --rope-theta 10000
  # The float model beside an image is the one that the image was made of.
  tail -c +2 "$corpus/llama2c/untied" > float.bin
  expect 0 "another theta" quantize float.bin -o float.heed --tokenizer chars:abcde --rope-theta 7
  printf 'abcde' > abc.txt
  refuses "its rotation has another theta" eval float.heed abc.txt --reference float.bin --isa portable
  expect 0 "the theta of the image" eval float.heed abc.txt --reference float.bin --isa portable --rope-theta 7
}

# -- What stops in the middle leaves what was there, and nothing beside it.
test_stopped() {
  mkdir stopped
  expect 0 "an old output" quantize tiny.heed -o stopped/out.heed
  cp stopped/out.heed old
  # A limit of one block on files: the image is larger, what is said is smaller.
  checks=$((checks + 1))
  # shellcheck disable=SC2086
  (ulimit -f 1; exec timeout 60 $heed quantize tiny.heed -o stopped/out.heed --layout block64 2> err | cat > out)
  grep -q "^heed: stopped/out.heed: cannot be written: File too large$" err || fail "a limit on the size of files"
  same "the old output" old stopped/out.heed
  checks=$((checks + 1))
  [ "$(ls -A stopped)" = out.heed ] || fail "left beside the output: $(ls -A stopped)"
}

# -- A file that becomes shorter while it is in use. The text on standard output says when the model is in use; the
# race against its end is run until it is won.
test_truncated() {
  story=$source_dir/examples/models/story.heed
  mkfifo said
  for threads in 1 4; do truncate_with $threads; done
  # A signal that somebody sent is no file's, and ends the program as it would have.
  # shellcheck disable=SC2086
  $heed run "$story" -n 100000 --ignore-eos -p Once > said 2> err < /dev/null &
  pid=$!
  {
    head -c 1 > /dev/null
    kill -BUS $pid
    cat > /dev/null
  } < said
  wait $pid
  status=$?
  cp err out
  checks=$((checks + 1))
  [ $status = 135 ] || fail "SIGBUS that was sent: exit status $status instead of 135"
  checks=$((checks + 1))
  if grep -q truncated err; then fail "SIGBUS that was sent is a file's"; fi
}
truncate_with() {
  for try in 1 2 3 4 5 6 7 8 9 10; do
    cp "$story" shrinking.heed
    # shellcheck disable=SC2086
    timeout 120 $heed run shrinking.heed -n 500 -p Once -t "$1" > said 2> err < /dev/null &
    pid=$!
    {
      head -c 1 > /dev/null
      : > shrinking.heed
      cat > /dev/null
    } < said
    wait $pid
    status=$?
    [ $status != 0 ] && break
  done
  cp err out
  checks=$((checks + 1))
  [ $status = 1 ] || fail "a truncated model, $1 threads: exit status $status after $try tries"
  says "/shrinking.heed: the file was truncated, or could not be read, while it was in use"
  checks=$((checks + 1))
  [ "$(wc -l < err)" = 1 ] || fail "more than one line of a truncated model, $1 threads"
}

# -- Names that need care.
test_names() {
  mkdir -- 'a folder' '-dash'
  for name in 'two words.heed' "new
line.heed" '-dash/-model.heed' 'Grüße.heed' './-model.heed' "$(printf 'bad\377.heed')" 'quote".heed'; do
    expect 0 "write $name" quantize tiny.heed "--output=$name"
    same "written as $name" tiny.heed "$(case $name in -*) echo "./$name" ;; *) echo "$name" ;; esac)"
    expect 0 "read $name" inspect -- "$name"
    expect 0 "JSON of $name" quantize --json "--output=$name" -- "$name"
  done
  refuses "new?line.txt: no such file" eval tiny.heed "new
line.txt"
  refuses "no?folder/x.heed: cannot be written: no such folder" quantize tiny.heed "--output=no
folder/x.heed"
  long=$(head -c 4200 /dev/zero | tr '\0' a)
  everywhere "aaa: File name too long" "$long"
  refuses "cannot be written: File name too long" quantize tiny.heed -o "$long"
  # As long as a name may be.
  expect 0 "a name of 255 bytes" quantize tiny.heed -o "$(head -c 250 /dev/zero | tr '\0' a).heed"
  # Before a long computation, not after it.
  for output in no/such/folder/x.heed my.bin/x.heed text.txt/x.heed; do
    refuses "$output: cannot be written" quantize nothing -o $output
  done
  refuses "new/: cannot be written: no such folder" quantize nothing -o new/
  refuses "folder: cannot be written: it is not a regular file" quantize nothing -o 'a folder'
  if [ "$(id -u)" != 0 ]; then
    chmod 555 'a folder'
    refuses "folder/x.heed: cannot be written: Permission denied" quantize nothing -o 'a folder/x.heed'
  fi
  case $(df -P /proc | tail -n 1) in  # a folder that nobody may write to
    *proc*) refuses "/proc/x.heed: cannot be written: " quantize tiny.heed -o /proc/x.heed ;;
  esac
}

# -- A vocabulary without the space that it puts in front of a text.
test_space() {
  printf '\001\000\000\000' > spaceless.bin
  for piece in '<unk>' '<s>' '</s>' a b; do
    printf "\\000\\000\\000\\000\\00${#piece}\\000\\000\\000$piece" >> spaceless.bin
  done
  expect 0 "a vocabulary without a space" quantize my.bin -o spaceless.heed --tokenizer spaceless.bin
  refuses "no token for the space that it puts in front of every text" run spaceless.heed -p ab
  printf 'ab' > ab.txt
  refuses "ab.txt: the vocabulary has no token for the space that it puts in front" eval spaceless.heed ab.txt
  # With a space, the letter is named.
  refuses "no token for 'q' (U+0071) at byte 0" run tiny.heed -p q --isa portable
}

# -- Real files.
test_with_data() {
  cp "$golden" tiny.heed
  printf 'abba abab baba ' > text.txt
  tail -c +2 "$corpus/llama2c/tied" > my.bin
  # A vocabulary of another model is one, and is too large for this one.
  for file in ggml-vocab-gpt-2.gguf ggml-vocab-llama-spm.gguf t5/spiece.model sp_test_unigram1000.model; do
    kind="this is a SentencePiece vocabulary" no_model=$kind
    case $file in *.gguf) kind="this is a GGUF file" no_model="it has no tensors, so it is no model" ;; esac
    as_model "tokenizers/$file: $kind" "$HEED_TEST_DATA/tokenizers/$file"
    as_source "tokenizers/$file: $no_model" "$HEED_TEST_DATA/tokenizers/$file"
    as_text "tokenizers/$file: $kind" "$HEED_TEST_DATA/tokenizers/$file"
    as_vocabulary "tokenizers/$file: it has " "$HEED_TEST_DATA/tokenizers/$file"
    as_vocabulary " tokens and the model 5; does it belong to the model?" "$HEED_TEST_DATA/tokenizers/$file"
  done
  everywhere "kwt1/non_stream.tflite: this is a TensorFlow Lite model" "$HEED_TEST_DATA/kwt1/non_stream.tflite"
  everywhere "kwt1/kwt1.npz: this is a zip archive" "$HEED_TEST_DATA/kwt1/kwt1.npz"
  everywhere "lines.json.xz: this is an xz archive" "$HEED_TEST_DATA/tokenizers/lines.json.xz"
  for file in t5/tokenizer.json bert/tokenizer.json; do
    as_model "tokenizers/$file: this is a Hugging Face tokenizer" "$HEED_TEST_DATA/tokenizers/$file"
    as_vocabulary "tokenizers/$file: it has " "$HEED_TEST_DATA/tokenizers/$file"
  done
  as_model "stories260K.bin: this is a llama2.c checkpoint" "$HEED_TEST_DATA/stories260K/stories260K.bin"
  as_source "tok512.bin: this is llama2.c's tokenizer file" "$HEED_TEST_DATA/stories260K/tok512.bin"
  # The float source stays.
  cp "$HEED_TEST_DATA/stories260K/stories260K.bin" "$HEED_TEST_DATA/stories260K/tok512.bin" .
  refuses "which is read" quantize stories260K.bin -o stories260K.bin
  refuses "which is read" quantize stories260K.bin -o tok512.bin
  same "the float source" stories260K.bin "$HEED_TEST_DATA/stories260K/stories260K.bin"
  same "its vocabulary" tok512.bin "$HEED_TEST_DATA/stories260K/tok512.bin"
}

if [ $data = 0 ]; then
  make_inputs
  test_no_files
  test_kinds
  test_outputs
  test_theta
  test_stopped
  test_truncated
  test_names
  test_space
elif [ -f "${HEED_TEST_DATA:-}/stories260K/stories260K.bin" ]; then
  test_with_data
else
  echo "skipped: stories260K/stories260K.bin needs HEED_TEST_DATA"
  [ "${HEED_REQUIRE_DATA:-0}" = 1 ] && exit 1
  exit 0
fi
echo "$checks checks, $failures failed"
[ $failures = 0 ]
