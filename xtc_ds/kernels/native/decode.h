/* Decodes rows of codes to floats. */
#ifndef XTC_DECODE_H
#define XTC_DECODE_H

#include "layout.h"

/* float32 to bfloat16: rounds to nearest, ties to even; NaN stays NaN. */
static inline uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? 0x7FC0 : (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/* One row of codes times its scale. */
static inline __attribute__((always_inline)) void decode_row(const int8_t *restrict codes, int64_t inputs, float scale, void *out, int is_bf16)
{
    if (is_bf16) {
        uint16_t *restrict to = out;
        for (int64_t i = 0; i < inputs; i++)
            to[i] = bf16_of((float)codes[i] * scale);
    } else {
        float *restrict to = out;
        for (int64_t i = 0; i < inputs; i++)
            to[i] = (float)codes[i] * scale;
    }
}

static void decode_row_any(const int8_t *codes, int64_t inputs, float scale, void *out, int is_bf16)
{
    decode_row(codes, inputs, scale, out, is_bf16);
}

#if XTC_X86
__attribute__((target("avx2"))) static void decode_row_avx2(const int8_t *codes, int64_t inputs, float scale, void *out, int is_bf16)
{
    decode_row(codes, inputs, scale, out, is_bf16);
}
#endif

#endif
