/* GELU, and residual add with layer normalization, in float32 with AVX-512. */
#ifndef XTC_POINTWISE_H
#define XTC_POINTWISE_H

#include "attention.h"

#if XTC_X86
/*
 * GELU: x * Phi(x), with erf by Abramowitz and Stegun's formula 7.1.26 (error below 1.5e-7), as in torch's own vector code.
 */
F512 static inline __m512 gelu_of(__m512 x)
{
    const __m512 size = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678118654752f));
    /* Clamped, as infinity has no useful reciprocal. If one operand is NaN, min returns the second: NaN is kept. */
    const __m512 d = _mm512_fmadd_ps(_mm512_min_ps(_mm512_set1_ps(100.0f), size), _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1.0f));
    __m512 t = _mm512_rcp14_ps(d); /* 1 / d to 14 bits; one Newton step makes it 28 bits */
    t = _mm512_fmadd_ps(t, _mm512_fnmadd_ps(d, t, _mm512_set1_ps(1.0f)), t);
    __m512 p = _mm512_set1_ps(1.061405429f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
    const __m512 rest = _mm512_mul_ps(_mm512_mul_ps(p, t), exp_of(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(size, size))));
    /* erf(|x|) = 1 - rest; half of x * (1 + erf(x)). */
    const __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 positive = _mm512_sub_ps(_mm512_set1_ps(2.0f), rest);
    return _mm512_mul_ps(half, _mm512_mask_mov_ps(positive, negative, rest));
}

F512 static void gelu_row(float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 inside = count - i >= 16 ? 0xFFFF : (__mmask16)((1u << (count - i)) - 1);
        _mm512_mask_storeu_ps(x + i, inside, gelu_of(_mm512_maskz_loadu_ps(inside, x + i)));
    }
}

/* One row: x = norm(x + residual) * weight + bias. The variance is computed in a second pass, from x - mean. */
F512 static void add_norm_row(float *x, const float *residual, const float *weight, const float *bias, float eps, int64_t count)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 inside = count - i >= 16 ? 0xFFFF : (__mmask16)((1u << (count - i)) - 1);
        const __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(inside, x + i), _mm512_maskz_loadu_ps(inside, residual + i));
        sum = _mm512_add_ps(sum, value);
        _mm512_mask_storeu_ps(x + i, inside, value);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)count);
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 inside = count - i >= 16 ? 0xFFFF : (__mmask16)((1u << (count - i)) - 1);
        const __m512 value = _mm512_maskz_sub_ps(inside, _mm512_maskz_loadu_ps(inside, x + i), mean);
        squares = _mm512_fmadd_ps(value, value, squares);
    }
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)count + eps));
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 inside = count - i >= 16 ? 0xFFFF : (__mmask16)((1u << (count - i)) - 1);
        const __m512 value = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(inside, x + i), mean), factor);
        _mm512_mask_storeu_ps(x + i, inside,
                              _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(inside, weight + i), _mm512_maskz_loadu_ps(inside, bias + i)));
    }
}
#endif

#endif
