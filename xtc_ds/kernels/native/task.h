/* The description of one product, and the rescaling of its sums. */
#ifndef XTC_TASK_H
#define XTC_TASK_H

#include "decode.h"
#include "layout.h"

struct task {
    const uint8_t *u8;
    const int32_t *u8_sums;
    const float *x_scale;
    const uint8_t *tiles;
    const int32_t *w_sums;
    const float *w_scale;
    const float *bias;
    void *y; /* rows of tokens are y_row apart; the first column is output y_first */
    int64_t tokens, outputs, blocks, stride, y_row, y_first;
    int bits, mul, off, is_bf16, gelu; /* gelu: apply GELU to the result; only with AVX-512 VNNI */
};

/* Four panels from `panel` on; missing ones repeat panel last - 1 and must not be stored. Returns the number of outputs to store. */
static inline int four_panels(const struct task *t, int64_t panel, int64_t last, const uint8_t **panels)
{
    for (int64_t i = 0; i < 4; i++)
        panels[i] = t->tiles + (panel + i < last ? panel + i : last - 1) * t->blocks * BLOCK;
    return (int)(last - panel < 4 ? last - panel : 4) * PANEL;
}

/* Rescales sums (rows, width), with rows `apart` apart, into y, beginning at token `token` and output `output`. */
INLINED void finish(const struct task *t, const int32_t *acc, int apart, int64_t token, int64_t output, int rows, int width)
{
    const int last = t->outputs - output < width ? (int)(t->outputs - output) : width;
    const int32_t mul = t->mul;
    const int32_t *restrict w_sums = t->w_sums + output;
    const float *restrict w_scale = t->w_scale + output, *restrict bias = t->bias ? t->bias + output : NULL;
    for (int row = 0; row < rows; row++, acc += apart) {
        const float x_scale = t->x_scale[token + row];
        const int32_t shared = t->off * t->u8_sums[token + row];
        const int64_t place = (token + row) * t->y_row + output - t->y_first;
        float values[QUAD];
        for (int n = 0; n < last; n++)
            values[n] = (float)(mul * acc[n] + shared - 128 * w_sums[n]) * x_scale * w_scale[n];
        if (bias)
            for (int n = 0; n < last; n++)
                values[n] += bias[n];
        if (!t->is_bf16) {
            memcpy((float *)t->y + place, values, sizeof(float) * (size_t)last);
            continue;
        }
        uint16_t *restrict y = (uint16_t *)t->y + place;
        for (int n = 0; n < last; n++)
            y[n] = bf16_of(values[n]);
    }
}

#endif
