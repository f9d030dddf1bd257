/* Multiplies gradients with the scales of codes and rounds them to bfloat16, for products with the codes in bfloat16. */
#ifndef XTC_GRADIENT_H
#define XTC_GRADIENT_H

#include "decode.h"

/* One row: grad * of_row into by_row, grad[i] * of_column[i] into by_column, each rounded once. Either output may be NULL. */
static inline __attribute__((always_inline)) void scale_row(const float *restrict grad, int64_t columns, float of_row,
                                                            const float *restrict of_column, uint16_t *restrict by_row,
                                                            uint16_t *restrict by_column)
{
    if (by_row)
        for (int64_t i = 0; i < columns; i++)
            by_row[i] = bf16_of(grad[i] * of_row);
    if (by_column)
        for (int64_t i = 0; i < columns; i++)
            by_column[i] = bf16_of(grad[i] * of_column[i]);
}

static void scale_row_any(const float *grad, int64_t columns, float of_row, const float *of_column, uint16_t *by_row, uint16_t *by_column)
{
    scale_row(grad, columns, of_row, of_column, by_row, by_column);
}

#if XTC_X86
__attribute__((target("avx2"))) static void
scale_row_avx2(const float *grad, int64_t columns, float of_row, const float *of_column, uint16_t *by_row, uint16_t *by_column)
{
    scale_row(grad, columns, of_row, of_column, by_row, by_column);
}
#endif

#endif
