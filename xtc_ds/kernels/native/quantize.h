/* Inputs as 8-bit codes. */
#ifndef XTC_QUANTIZE_H
#define XTC_QUANTIZE_H

#include "layout.h"

/* bfloat16 is the upper half of a float. */
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
 * One row: symmetric codes of `bits` bits as u8 = code + 128, padded with 0 to `padded`; scale = 2 max|x| / 2^bits, or as
 * given (static range) where fixed > 0. Rounds to nearest, ties to even; a row of zeros has scale 0 and codes 0.
 * A NaN in the row makes its scale NaN, and with it the output. Returns the sum of the u8.
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
        code = code >= low ? code : low; /* also NaN */
        u8[i] = (uint8_t)((int)code + 128);
        sum += u8[i];
    }
    memset(u8 + inputs, 0, (size_t)(padded - inputs));
    return sum;
}

#if XTC_X86
#define WIDE_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

WIDE_TARGET static inline __m512 sixteen(const void *x, int is_bf16, int64_t i, __mmask16 inside)
{
    if (!is_bf16)
        return _mm512_maskz_loadu_ps(inside, (const float *)x + i);
    const __m256i half = _mm256_maskz_loadu_epi16(inside, (const uint16_t *)x + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

WIDE_TARGET static int32_t
quantize_row_avx512(const void *x, int is_bf16, int64_t inputs, int64_t padded, int bits, float fixed, uint8_t *u8, float *scale)
{
    const __m512 low = _mm512_set1_ps(-(float)(1 << (bits - 1))), high = _mm512_set1_ps((float)((1 << (bits - 1)) - 1));
    float step = fixed;
    if (!(fixed >= 0)) {
        __m512 largest = _mm512_setzero_ps();
        __mmask16 nan = 0;
        for (int64_t i = 0; i < inputs; i += 16) {
            const __mmask16 inside = i + 16 <= inputs ? 0xFFFF : (__mmask16)((1u << (inputs - i)) - 1);
            const __m512 size = _mm512_abs_ps(sixteen(x, is_bf16, i, inside));
            nan |= _mm512_cmp_ps_mask(size, size, _CMP_UNORD_Q);
            largest = _mm512_max_ps(largest, size);
        }
        step = nan ? NAN : 2 * _mm512_reduce_max_ps(largest) / (float)(1 << bits);
    }
    *scale = step;
    const __m512 divisor = _mm512_set1_ps(step == 0 ? 1.0f : step);
    const __m512i shift = _mm512_set1_epi32(128);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < inputs; i += 16) {
        const __mmask16 inside = i + 16 <= inputs ? 0xFFFF : (__mmask16)((1u << (inputs - i)) - 1);
        __m512 code = _mm512_div_ps(sixteen(x, is_bf16, i, inside), divisor);
        code = _mm512_roundscale_ps(code, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        code = _mm512_max_ps(_mm512_min_ps(code, high), low); /* max takes its second operand for NaN */
        const __m512i value = _mm512_add_epi32(_mm512_cvtps_epi32(code), shift);
        sum = _mm512_mask_add_epi32(sum, inside, sum, value);
        _mm512_mask_cvtepi32_storeu_epi8(u8 + i, inside, value);
    }
    memset(u8 + inputs, 0, (size_t)(padded - inputs));
    return _mm512_reduce_add_epi32(sum);
}
#endif

#endif
