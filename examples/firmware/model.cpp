// SPDX-License-Identifier: Apache-2.0
// model.cpp: the image HEED_MODEL_PATH as a 64-byte aligned part of flash, read in place, or of another memory that
// HEED_MODEL_SECTION names (toolchains/boards/sections.ld).
#ifndef HEED_MODEL_SECTION
#define HEED_MODEL_SECTION ".heed_model"
#endif
__asm__(
    ".section " HEED_MODEL_SECTION ",\"a\",%progbits\n"
    ".balign 64\n"
    ".global heed_model_image\n"
    ".global heed_model_image_end\n"
    "heed_model_image:\n"
    ".incbin \"" HEED_MODEL_PATH "\"\n"
    "heed_model_image_end:\n"
    ".previous\n");
