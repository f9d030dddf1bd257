/* Exported functions that process each row independently, on several threads. */
#ifndef XTC_ROWS_H
#define XTC_ROWS_H

#include "decode.h"
#include "gradient.h"
#include "pointwise.h"
#include "threads.h"

/* Codes (R, N) times the scales of their rows (R) into values (R, N), float32 or, if is_bf16, bfloat16. */
void xtc_decode(const int8_t *codes, const float *scales, void *values, int is_bf16, int64_t rows, int64_t inputs, int threads, int path)
{
    const int team = workers(rows * inputs / 2, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++) {
        void *out = (char *)values + row * inputs * (is_bf16 ? 2 : 4);
#if XTC_X86
        if (path >= AVX2)
            decode_row_avx2(codes + row * inputs, inputs, scales[row], out, is_bf16);
        else
#endif
            decode_row_any(codes + row * inputs, inputs, scales[row], out, is_bf16);
    }
    (void)team;
    (void)path;
}

/*
 * grad (T, O) times the row scales (T) into by_row, and grad times the column scales (O) into by_column: bfloat16 (T, O), each
 * rounded once. An output may be NULL together with its scales.
 */
void xtc_scale_gradient(const float *grad, const float *of_row, const float *of_column, uint16_t *by_row, uint16_t *by_column, int64_t rows,
                        int64_t columns, int threads, int path)
{
    const int team = workers(rows * columns / 2, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++) {
        const float scale = of_row ? of_row[row] : 0;
        uint16_t *first = by_row ? by_row + row * columns : NULL, *second = by_column ? by_column + row * columns : NULL;
#if XTC_X86
        if (path >= AVX2)
            scale_row_avx2(grad + row * columns, columns, scale, of_column, first, second);
        else
#endif
            scale_row_any(grad + row * columns, columns, scale, of_column, first, second);
    }
    (void)team;
    (void)path;
}

/* GELU of x (rows, columns), float32, in place. Returns 0, or -1 if this processor is not supported. */
int xtc_gelu(float *x, int64_t rows, int64_t columns, int threads)
{
    if (xtc_best_path() != AVX512_VNNI)
        return -1;
#if XTC_X86
    const int team = workers(rows * columns, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++)
        gelu_row(x + row * columns, columns);
    (void)team;
#endif
    return 0;
}

/* Layer normalization of x + residual (rows, columns), float32, in place in x. Returns 0, or -1 if this processor is not supported. */
int xtc_add_norm(float *x, const float *residual, const float *weight, const float *bias, float eps, int64_t rows, int64_t columns,
                 int threads)
{
    if (xtc_best_path() != AVX512_VNNI)
        return -1;
#if XTC_X86
    const int team = workers(rows * columns, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++)
        add_norm_row(x + row * columns, residual + row * columns, weight, bias, eps, columns);
    (void)team;
#endif
    return 0;
}

#endif
