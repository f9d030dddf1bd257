/* Looks up rows of a packed table and decodes them to floats. */
#ifndef XTC_LOOKUP_H
#define XTC_LOOKUP_H

#include "layout.h"
#include "threads.h"

/*
 * rows x width stored values f of `bits` bits each, the first in the lowest bits; with bits = 0, five values 0 to 2 per byte in
 * base 3. The decoded value is (mul * f + off) * scale + zero. step: distance of scale and zero from row to row (0: one for
 * all). zero may be NULL.
 */
struct table {
    const uint8_t *packed;
    int64_t rows, width, step;
    int bits, mul, off;
    const float *scale, *zero;
};

/* Decodes the values [from, width) of one row. */
static void lookup_row(const struct table *t, int64_t row, int64_t from, float *out)
{
    static const int powers[5] = {1, 3, 9, 27, 81};
    const float scale = t->scale[row * t->step], zero = t->zero ? t->zero[row * t->step] : -0.0f;
    for (int64_t i = from; i < t->width; i++) {
        const int64_t place = row * t->width + i, bit = place * t->bits;
        const int f = t->bits ? t->packed[bit / 8] >> bit % 8 & ((1 << t->bits) - 1) : t->packed[place / 5] / powers[place % 5] % 3;
        out[i] = (float)(t->mul * f + t->off) * scale + zero;
    }
}

#if XTC_X86
/* Unpacks the stored values of 16 columns that begin on a byte boundary. */
F512 static inline __m512i sixteen_stored(const uint8_t *from, int bits)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if (bits == 8)
        return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
    uint64_t word = 0;
    memcpy(&word, from, (size_t)(2 * bits));
    if (bits < 4)
        return _mm512_and_si512(_mm512_srlv_epi32(_mm512_set1_epi32((int)word), _mm512_mullo_epi32(lanes, _mm512_set1_epi32(bits))),
                                _mm512_set1_epi32((1 << bits) - 1));
    const __m512i both = _mm512_inserti64x4(_mm512_set1_epi32((int)word), _mm256_set1_epi32((int)(word >> 32)), 1);
    const __m512i shifts = _mm512_slli_epi32(_mm512_and_si512(lanes, _mm512_set1_epi32(7)), 2);
    return _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi32(15));
}

/* Decodes a whole row that begins on a byte boundary. */
F512 static void lookup_row_avx512(const struct table *t, int64_t row, float *out)
{
    const uint8_t *from = t->packed + row * t->width * t->bits / 8;
    const __m512 scale = _mm512_set1_ps(t->scale[row * t->step]), zero = _mm512_set1_ps(t->zero ? t->zero[row * t->step] : -0.0f);
    int64_t i = 0;
    for (; i + 16 <= t->width; i += 16, from += 2 * t->bits) {
        const __m512i stored = _mm512_mullo_epi32(sixteen_stored(from, t->bits), _mm512_set1_epi32(t->mul));
        const __m512 code = _mm512_cvtepi32_ps(_mm512_add_epi32(stored, _mm512_set1_epi32(t->off)));
        _mm512_storeu_ps(out + i, _mm512_add_ps(_mm512_mul_ps(code, scale), zero));
    }
    lookup_row(t, row, i, out);
}
#endif

/* Decodes the rows ids (count) of a table into out (count, width). Returns 0, or -1 if an id or `bits` is invalid. */
int xtc_lookup(const uint8_t *packed, int64_t rows, int64_t width, int bits, int mul, int off, const float *scale, const float *zero,
               int64_t step, const int64_t *ids, int64_t count, float *out, int threads, int path)
{
    const struct table t = {packed, rows, width, step, bits, mul, off, scale, zero};
    if (bits != 0 && bits != 1 && bits != 2 && bits != 4 && bits != 8)
        return -1;
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= rows)
            return -1;
    const int wide = path == AVX512_VNNI && bits && width * bits % 8 == 0;
    const int team = workers(count * width / 4, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t i = 0; i < count; i++) {
#if XTC_X86
        if (wide)
            lookup_row_avx512(&t, ids[i], out + i * width);
        else
#endif
            lookup_row(&t, ids[i], 0, out + i * width);
    }
    (void)team;
    (void)wide;
    return 0;
}

#endif
