// SPDX-License-Identifier: Apache-2.0
// model.cpp: the image HEED_MODEL_PATH as a 64-byte aligned part of flash, read in place.
__asm__(
    ".section .heed_model,\"a\",%progbits\n"
    ".balign 64\n"
    ".global heed_model_image\n"
    ".global heed_model_image_end\n"
    "heed_model_image:\n"
    ".incbin \"" HEED_MODEL_PATH "\"\n"
    "heed_model_image_end:\n"
    ".previous\n");
