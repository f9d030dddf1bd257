/* The product with AVX-512 VNNI, the rescaling, and the elementwise operations on each output (bias, GELU, bfloat16). */
#ifndef XTC_WIDE_H
#define XTC_WIDE_H

#include "pointwise.h"
#include "task.h"
#include "vnni.h"

#if XTC_X86
/* The number of tokens whose u8 stay in the L2 cache while all panels are processed. */
static inline int64_t tokens_at_once(int64_t stride)
{
    const int64_t tokens = 400000 / stride / QUAD_ROWS * QUAD_ROWS;
    return tokens < 64 ? 64 : tokens;
}

/* 16 x float32 to bfloat16: rounds to nearest, ties to even; NaN stays NaN. */
VNNI_TARGET static inline __m256i bf16_of_sixteen(__m512 value)
{
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7FC0)));
}

/* Implements finish_vnni, with gelu and is_bf16 as compile-time constants. */
VNNI_TARGET INLINED void finish_as(const struct task *t, const int32_t *acc, int64_t token, int64_t output, int rows, int width, int gelu, int is_bf16)
{
    const __m128i twice = _mm_cvtsi32_si128(t->mul == 2);
    const float *x_scale = t->x_scale + token;
    const int32_t *u8_sums = t->u8_sums + token;
    const int64_t y_row = t->y_row;
    for (const int64_t end = output + width; output < end; output += PANEL, acc += PANEL) {
        const __mmask16 inside = INSIDE(t->outputs - output);
        const __m512i shift = _mm512_slli_epi32(_mm512_maskz_loadu_epi32(inside, t->w_sums + output), 7);
        const __m512 w_scale = _mm512_maskz_loadu_ps(inside, t->w_scale + output);
        const __m512 bias = t->bias ? _mm512_maskz_loadu_ps(inside, t->bias + output) : _mm512_set1_ps(-0.0f);
        const int64_t place = token * y_row + output - t->y_first;
        float *y = (float *)t->y + place;
        uint16_t *half = (uint16_t *)t->y + place;
        for (int row = 0; row < rows; row++) {
            const __m512i shared = _mm512_sub_epi32(_mm512_set1_epi32(t->off * u8_sums[row]), shift);
            const __m512i sum = _mm512_add_epi32(_mm512_sll_epi32(_mm512_load_si512(acc + row * QUAD), twice), shared);
            __m512 value = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(x_scale[row])), w_scale);
            value = _mm512_add_ps(value, bias);
            if (gelu)
                value = gelu_of(value);
            if (is_bf16)
                _mm256_mask_storeu_epi16(half + row * y_row, inside, bf16_of_sixteen(value));
            else if (inside == 0xFFFF)
                _mm512_storeu_ps(y + row * y_row, value);
            else
                _mm512_mask_storeu_ps(y + row * y_row, inside, value);
        }
    }
}

/* Like finish in task.h. acc: aligned to 64 bytes, rows QUAD apart. */
VNNI_TARGET static void finish_vnni(const struct task *t, const int32_t *acc, int64_t token, int64_t output, int rows, int width)
{
    if (t->is_bf16)
        finish_as(t, acc, token, output, rows, width, 0, 1);
    else if (t->gelu)
        finish_as(t, acc, token, output, rows, width, 1, 0);
    else
        finish_as(t, acc, token, output, rows, width, 0, 0);
}

/* The panels [first, last) for all tokens, four panels at a time. */
VNNI_TARGET static void product_vnni(const struct task *t, int64_t first, int64_t last)
{
    int32_t acc[QUAD_ROWS * QUAD] __attribute__((aligned(64)));
    const int64_t at_once = tokens_at_once(t->stride);
    for (int64_t begin = 0; begin < t->tokens; begin += at_once) {
        const int64_t end = t->tokens - begin < at_once ? t->tokens : begin + at_once;
        for (int64_t panel = first; panel < last; panel += 4) {
            const uint8_t *panels[4];
            const int width = four_panels(t, panel, last, panels);
            for (int64_t token = begin; token < end; token += QUAD_ROWS) {
                const int rows = end - token < QUAD_ROWS ? (int)(end - token) : QUAD_ROWS;
                quad_vnni(t->u8 + token * t->stride, t->stride, rows, panels, t->blocks, t->bits, acc);
                finish_vnni(t, acc, token, panel * PANEL, rows, width);
            }
        }
    }
}
#endif

#endif
