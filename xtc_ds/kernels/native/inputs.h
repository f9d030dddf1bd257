/* Quantizes rows of inputs, on several threads. */
#ifndef XTC_INPUTS_H
#define XTC_INPUTS_H

#include "quantize.h"
#include "threads.h"

struct input {
    const void *x;
    int is_bf16, bits, path;
    int64_t inputs, stride;
    float fixed_scale;
    uint8_t *u8;
    int32_t *sums;
    float *scales;
};

static void quantize_token(const struct input *in, int64_t token)
{
    const void *row = (const char *)in->x + token * in->inputs * (in->is_bf16 ? 2 : 4);
    uint8_t *u8 = in->u8 + token * in->stride;
#if XTC_X86
    if (in->path == AVX512_VNNI)
        in->sums[token] = quantize_row_avx512(row, in->is_bf16, in->inputs, in->stride, in->bits, in->fixed_scale, u8, in->scales + token);
    else
#endif
        in->sums[token] = quantize_row(row, in->is_bf16, in->inputs, in->stride, in->bits, in->fixed_scale, u8, in->scales + token);
}

/*
 * Quantizes x (T, I), contiguous, float32 or, if is_bf16, bfloat16, to symmetric codes of `bits` bits: u8 (T, stride_of(I)) =
 * code + 128, their row sums (T) and scales (T). fixed_scale: scale of a static range; negative for one dynamic scale per token.
 * Returns 0, or -1 if an argument is out of range.
 */
int xtc_quantize(const void *x, int is_bf16, int64_t tokens, int64_t inputs, int bits, float fixed_scale, uint8_t *u8, int32_t *sums,
                 float *scales, int threads, int path)
{
    if (bits < 2 || bits > 8 || tokens < 0 || inputs < 1 || path < 0 || path > xtc_best_path())
        return -1;
    const struct input in = {x, is_bf16, bits, path, inputs, stride_of(inputs), fixed_scale, u8, sums, scales};
    const int team = workers(tokens * inputs / 2, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t token = 0; token < tokens; token++)
        quantize_token(&in, token);
    (void)team;
    return 0;
}

#endif
