#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trains the story model from start to end.
# Usage: train_story.sh TEACHER.bin TOKENIZER.bin TEXT OUT_FOLDER
# PyTorch needs a fast BLAS (OpenBLAS, for example); with the reference BLAS of
# some systems the same work takes about fifteen times as long.
set -eu
if [ $# -ne 4 ]; then
    echo "usage: $0 TEACHER.bin TOKENIZER.bin TEXT OUT_FOLDER" >&2
    exit 2
fi
teacher=$1 tokenizer=$2 text=$3 out=$4
here=$(dirname "$0")
python=${PYTHON:-python3}
mkdir -p "$out"

"$python" "$here/sample_teacher.py" --model "$teacher" --tokenizer "$tokenizer" --text "$text" \
    --tokens 2000000 --batch 768 --temperature 0.9 --seed 1 --out "$out/sampled.u16"

train() {
    "$python" "$here/train.py" --teacher "$teacher" --tokenizer "$tokenizer" --text "$text" \
        --sampled "$out/sampled.u16" --seed 1 --rows 8 --out "$out/model.bin" \
        --checkpoint "$out/state.pt" --log "$out/train_log.csv" "$@"
}
# 1: mostly the teacher, with its residuals as an aid.
train --steps 9600 --stop 2400 --hint 1.0 --hint-until 0.6 --short-share 0.6 --save-every 800
# 2: more real text, and mostly the real next token there.
train --steps 5600 --stop 3600 --resume --real-share 0.4 --hard 0.9 --short-share 0.7 --save-every 200
# 3: less real text again, long rows, the learning rate falls to zero.
train --steps 5600 --resume --real-share 0.25 --hard 0.8 --short-share 0.7 --save-every 200

cp "$tokenizer" "$out/tokenizer.bin"
"$python" "$here/eval_loss.py" --model "$out/model.bin" --tokenizer "$out/tokenizer.bin" --text "$text"
