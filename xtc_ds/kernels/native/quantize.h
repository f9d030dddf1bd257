/* Quantizes inputs to codes of up to 8 bits. */
#ifndef XTC_QUANTIZE_H
#define XTC_QUANTIZE_H

#include "layout.h"

/* Element i as float32; bfloat16 is the upper half of a float32. */
static inline float value_of(const void *x, int is_bf16, int64_t i)
{
    if (!is_bf16)
        return ((const float *)x)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * Quantizes one row to symmetric codes of `bits` bits, u8 = code + 128, padded with 0 to `padded`. The scale is `fixed` if that
 * is not negative (static range), else 2 max|x| / 2^bits. Rounds to nearest, ties to even; a row of zeros has scale 0 and codes
 * 0. With a dynamic scale, a NaN in the row makes the scale NaN, and so the output. Returns the sum of the u8.
 */
static int32_t quantize_row(const void *x, int is_bf16, int64_t inputs, int64_t padded, int bits, float fixed, uint8_t *u8, float *scale)
{
    const float low = -(float)(1 << (bits - 1)), high = (float)((1 << (bits - 1)) - 1);
    float step = fixed;
    int nan = 0;
    if (!(fixed >= 0)) {
        float largest = 0;
        for (int64_t i = 0; i < inputs; i++) {
            const float size = fabsf(value_of(x, is_bf16, i));
            nan |= size != size;
            largest = size > largest ? size : largest;
        }
        step = nan ? NAN : 2 * largest / (float)(1 << bits);
    }
    *scale = step;
    const float divisor = step == 0 ? 1.0f : step;
    int32_t sum = 0;
    for (int64_t i = 0; i < inputs; i++) {
        float code = rintf(value_of(x, is_bf16, i) / divisor);
        code = code > high ? high : code;
        code = code >= low ? code : low; /* NaN becomes low, too */
        u8[i] = (uint8_t)((int)code + 128);
        sum += u8[i];
    }
    memset(u8 + inputs, 0, (size_t)(padded - inputs));
    return sum;
}

#if XTC_X86
F512 static inline __m512 sixteen(const void *x, int is_bf16, int64_t i, __mmask16 inside)
{
    if (!is_bf16)
        return _mm512_maskz_loadu_ps(inside, (const float *)x + i);
    const __m256i half = _mm256_maskz_loadu_epi16(inside, (const uint16_t *)x + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Largest absolute value of a row; NaN if the row contains NaN. */
F512 static float largest_of(const void *x, int is_bf16, int64_t inputs)
{
    __m512 largest = _mm512_setzero_ps();
    __mmask16 nan = 0;
    for (int64_t i = 0; i < inputs; i += 16) {
        const __m512 size = _mm512_abs_ps(sixteen(x, is_bf16, i, INSIDE(inputs - i)));
        nan |= _mm512_cmp_ps_mask(size, size, _CMP_UNORD_Q);
        largest = _mm512_max_ps(largest, size);
    }
    return nan ? NAN : _mm512_reduce_max_ps(largest);
}

/*
 * Codes are x / scale, rounded. For speed x is multiplied with the reciprocal, which is off by at most 2e-5 if the code is in
 * range. So it rounds to the same code unless it is about that near to a tie; in that case the division is computed.
 */
F512 static int32_t
quantize_row_avx512(const void *x, int is_bf16, int64_t inputs, int64_t padded, int bits, float fixed, uint8_t *u8, float *scale)
{
    const __m512 low = _mm512_set1_ps(-(float)(1 << (bits - 1))), high = _mm512_set1_ps((float)((1 << (bits - 1)) - 1));
    const float step = fixed >= 0 ? fixed : 2 * largest_of(x, is_bf16, inputs) / (float)(1 << bits);
    *scale = step;
    const __m512 divisor = _mm512_set1_ps(step == 0 ? 1.0f : step);
    /* Reciprocals of very small and very large numbers are not exact enough: NaN makes all codes use the division. */
    const __m512 reciprocal = _mm512_set1_ps(step == 0 ? 1.0f : step > 1e-30f && step < 1e30f ? 1 / step : NAN);
    const __m512 half = _mm512_set1_ps(0.4999f);
    const __m512i shift = _mm512_set1_epi32(128);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < inputs; i += 16) {
        const __mmask16 inside = INSIDE(inputs - i);
        const __m512 value = sixteen(x, is_bf16, i, inside);
        /* If one operand is NaN, min and max return the second. */
        __m512 code = _mm512_max_ps(low, _mm512_min_ps(high, _mm512_mul_ps(value, reciprocal))); /* keeps NaN */
        __m512i rounded = _mm512_cvtps_epi32(code);
        const __m512 rest = _mm512_abs_ps(_mm512_sub_ps(code, _mm512_cvtepi32_ps(rounded)));
        if (_mm512_cmp_ps_mask(rest, half, _CMP_NLT_UQ)) {
            code = _mm512_div_ps(value, divisor);
            code = _mm512_max_ps(_mm512_min_ps(high, code), low); /* NaN becomes the lowest, as in quantize_row */
            rounded = _mm512_cvtps_epi32(code);
        }
        rounded = _mm512_add_epi32(rounded, shift);
        sum = _mm512_mask_add_epi32(sum, inside, sum, rounded);
        if (inside == 0xFFFF)
            _mm_storeu_si128((__m128i *)(void *)(u8 + i), _mm512_cvtepi32_epi8(rounded));
        else
            _mm512_mask_cvtepi32_storeu_epi8(u8 + i, inside, rounded);
    }
    memset(u8 + inputs, 0, (size_t)(padded - inputs));
    return _mm512_reduce_add_epi32(sum);
}
#endif

#endif
