/* The product with AVX2. */
#ifndef XTC_AVX2_H
#define XTC_AVX2_H

#include "layout.h"

#if XTC_X86
/*
 * AVX2 adds pairs of u8 x s8 products in 16 bits. Weights of up to 4 bits fit: at most 2 x 255 x 15. 8-bit weights would
 * saturate, so they are widened to 16 bits first.
 */
__attribute__((target("avx2"))) static void
panel_avx2(const uint8_t *u8, int64_t stride, int rows, const uint8_t *panel, int64_t blocks, int bits, int32_t *acc)
{
    const int tiles = 8 / bits;
    const __m256i ones = _mm256_set1_epi16(1), mask = _mm256_set1_epi8((char)(bits == 8 ? 0xFF : (1 << bits) - 1));
    for (int row = 0; row < rows; row++, u8 += stride, acc += QUAD) {
        __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
        const uint8_t *a = u8;
        for (int64_t b = 0; b < blocks; b++) {
            const __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)(panel + b * BLOCK));
            const __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(panel + b * BLOCK + 32));
            for (int tile = 0; tile < tiles; tile++, a += 4) {
                int32_t four;
                memcpy(&four, a, 4);
                const __m256i x = _mm256_set1_epi32(four);
                if (bits == 8) {
                    const __m256i x16 = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(x));
                    const __m256i w0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(first));
                    const __m256i w1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(first, 1));
                    const __m256i w2 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(second));
                    const __m256i w3 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(second, 1));
                    /* hadd works within 128-bit halves: the permutation puts the outputs back in order. */
                    const __m256i p = _mm256_hadd_epi32(_mm256_madd_epi16(x16, w0), _mm256_madd_epi16(x16, w1));
                    const __m256i q = _mm256_hadd_epi32(_mm256_madd_epi16(x16, w2), _mm256_madd_epi16(x16, w3));
                    low = _mm256_add_epi32(low, _mm256_permute4x64_epi64(p, 0xD8));
                    high = _mm256_add_epi32(high, _mm256_permute4x64_epi64(q, 0xD8));
                    continue;
                }
                const __m128i shift = _mm_cvtsi32_si128(tile * bits);
                const __m256i w0 = _mm256_and_si256(_mm256_srl_epi16(first, shift), mask);
                const __m256i w1 = _mm256_and_si256(_mm256_srl_epi16(second, shift), mask);
                low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w0), ones));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w1), ones));
            }
        }
        _mm256_storeu_si256((__m256i *)(void *)acc, low);
        _mm256_storeu_si256((__m256i *)(void *)(acc + 8), high);
    }
}
#endif

#endif
