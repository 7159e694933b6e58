# SPDX-License-Identifier: Apache-2.0
# images.sh: what the consumers' programs open. Sourced: consumer_images HEED PYTHON FOLDER sets $images, in the layout that
# every table of a host eats: the golden image, the default model (both one scale per row) and two with groups.
consumer_images() {
  mkdir -p "$3"
  for seed in 9 105; do "$2" "$source/tests/reference/make_random_image.py" --seed $seed "$3/random_$seed.heed" >/dev/null; done
  images=""
  for image in "$source/tests/golden/tiny.heed" "$source/examples/models/story.heed" "$3/random_9.heed" "$3/random_105.heed"; do
    packed=$3/packed_$(basename "$image")
    "$1" quantize "$image" --layout packed -o "$packed" >/dev/null
    images="$images $packed"
  done
}
