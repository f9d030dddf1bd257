/* Gradients of a product of codes, ready to be multiplied with the codes as bfloat16. */
#ifndef XTC_GRADIENT_H
#define XTC_GRADIENT_H

#include "decode.h"

/* One row: times `of_row` into by_row, times of_column[i] into by_column; each may be NULL. Rounded once. */
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
