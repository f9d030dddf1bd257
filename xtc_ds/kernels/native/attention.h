/*
 * Attention of short sequences in float32: softmax(scale * q k' + mask) v, one head at a time, with AVX-512.
 *
 * Shape legend: Q queries, K keys, D features of a head.
 */
#ifndef XTC_ATTENTION_H
#define XTC_ATTENTION_H

#include "layout.h"

#define ATTENTION_ROWS 6    /* queries that the register tile holds */
#define ATTENTION_COLUMNS 64 /* columns of the register tile: keys or features */

/* Strides of batch, head and token, in elements; features are contiguous. */
struct heads {
    const float *data;
    int64_t batch, head, token;
};

/* mask: bytes, nonzero where a query may attend to a key, or NULL; mask_strides: batch, head, query and key. */
struct attention {
    struct heads q, k, v;
    const uint8_t *mask;
    int64_t mask_strides[4];
    float *y; /* (batch, Q, heads, D), contiguous */
    int64_t batches, heads, queries, keys, features;
    float scale;
};

static inline int64_t padded_keys(int64_t keys) { return (keys + ATTENTION_COLUMNS - 1) / ATTENTION_COLUMNS * ATTENTION_COLUMNS; }

/* Scratch floats that one thread needs: the transposed keys, and the scores of one tile of queries. */
static inline int64_t attention_floats(int64_t keys, int64_t features) { return (features + ATTENTION_ROWS) * padded_keys(keys); }

#if XTC_X86
#define EACH_ROW(F) F(0) F(1) F(2) F(3) F(4) F(5)

/* c (rows, 64 or 32) = a (rows, depth) times b (depth, 64 or 32); up to 6 rows. Missing rows repeat the last and are not stored. */
#define TILE_4(r) __m512 w##r = _mm512_setzero_ps(), x##r = w##r, y##r = w##r, z##r = w##r;
#define TILE_2(r) __m512 w##r = _mm512_setzero_ps(), x##r = w##r;
#define STEP_4(r)                                                                                                               \
    {                                                                                                                           \
        const __m512 s = _mm512_set1_ps(a##r[i]);                                                                               \
        w##r = _mm512_fmadd_ps(s, b0, w##r), x##r = _mm512_fmadd_ps(s, b1, x##r);                                               \
        y##r = _mm512_fmadd_ps(s, b2, y##r), z##r = _mm512_fmadd_ps(s, b3, z##r);                                               \
    }
#define STEP_2(r)                                                                                                               \
    {                                                                                                                           \
        const __m512 s = _mm512_set1_ps(a##r[i]);                                                                               \
        w##r = _mm512_fmadd_ps(s, b0, w##r), x##r = _mm512_fmadd_ps(s, b1, x##r);                                               \
    }
#define KEEP_2(r)                                                                                                               \
    if (r < rows)                                                                                                               \
        _mm512_storeu_ps(c + r * c_row, w##r), _mm512_storeu_ps(c + r * c_row + 16, x##r);
#define KEEP_4(r)                                                                                                               \
    if (r < rows)                                                                                                               \
        _mm512_storeu_ps(c + r * c_row, w##r), _mm512_storeu_ps(c + r * c_row + 16, x##r),                                      \
            _mm512_storeu_ps(c + r * c_row + 32, y##r), _mm512_storeu_ps(c + r * c_row + 48, z##r);
#define ROW_OF_A(r) const float *a##r = a + (r < rows ? r : rows - 1) * a_row;

F512 static void times_64(const float *a, int64_t a_row, int rows, const float *b, int64_t b_row, int64_t depth, float *c, int64_t c_row)
{
    EACH_ROW(ROW_OF_A)
    EACH_ROW(TILE_4)
    for (int64_t i = 0; i < depth; i++, b += b_row) {
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16), b2 = _mm512_loadu_ps(b + 32), b3 = _mm512_loadu_ps(b + 48);
        EACH_ROW(STEP_4)
    }
    EACH_ROW(KEEP_4)
}

F512 static void times_32(const float *a, int64_t a_row, int rows, const float *b, int64_t b_row, int64_t depth, float *c, int64_t c_row)
{
    EACH_ROW(ROW_OF_A)
    EACH_ROW(TILE_2)
    for (int64_t i = 0; i < depth; i++, b += b_row) {
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
        EACH_ROW(STEP_2)
    }
    EACH_ROW(KEEP_2)
}

/* e to the power x for x <= 0, with an error of at most one unit in the last place; 0 for x below -104. */
F512 static inline __m512 exp_of(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* if one operand is NaN, max returns the second: NaN is kept */
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    /* Taylor series up to r**7, |r| <= ln(2) / 2. */
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/*
 * Replaces the scores of one query by exp(scale * score - largest), and by 0 for masked keys; returns their sum. Everything is 0
 * for a query whose keys are all masked.
 */
F512 static float exponents(float *scores, int64_t keys, float scale, const uint8_t *mask, int64_t mask_key)
{
    const __m512 hidden = _mm512_set1_ps(-INFINITY), factor = _mm512_set1_ps(scale);
    __m512 largest = hidden;
    for (int64_t k = 0; k < keys; k += 16) {
        const int64_t left = keys - k;
        __mmask16 seen = left >= 16 ? 0xFFFF : (__mmask16)((1u << left) - 1);
        if (mask && mask_key == 1)
            seen = _mm_mask_test_epi8_mask(seen, _mm_maskz_loadu_epi8(seen, mask + k), _mm_set1_epi8(-1));
        else if (mask)
            for (int i = 0; i < 16 && i < left; i++)
                if (!mask[(k + i) * mask_key])
                    seen &= (__mmask16)~(1u << i);
        const __m512 s = _mm512_mask_mul_ps(hidden, seen, _mm512_loadu_ps(scores + k), factor);
        largest = _mm512_max_ps(largest, s);
        _mm512_storeu_ps(scores + k, s);
    }
    float top = _mm512_reduce_max_ps(largest);
    if (top == -INFINITY)
        top = 0;
    const __m512 shift = _mm512_set1_ps(top);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < keys; k += 16) {
        const __m512 e = exp_of(_mm512_sub_ps(_mm512_loadu_ps(scores + k), shift));
        sum = _mm512_add_ps(sum, e);
        _mm512_storeu_ps(scores + k, e);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Transposes keys (K, D) to (D, padded K); the padding is 0. */
static void transpose_keys(const float *k, int64_t token, int64_t keys, int64_t features, float *out)
{
    const int64_t width = padded_keys(keys);
    for (int64_t first = 0; first < features; first += 16)
        for (int64_t key = 0; key < width; key++)
            for (int64_t d = first; d < first + 16; d++)
                out[d * width + key] = key < keys ? k[key * token + d] : 0;
}

/* Attention of the queries [first, last) of one head. scratch: attention_floats, beginning with the transposed keys. */
F512 static void attend(const struct attention *t, int64_t batch, int64_t head, int64_t first, int64_t last, float *scratch)
{
    const int64_t width = padded_keys(t->keys), y_row = t->heads * t->features;
    float *scores = scratch + t->features * width;
    const float *q = t->q.data + batch * t->q.batch + head * t->q.head, *v = t->v.data + batch * t->v.batch + head * t->v.head;
    for (int64_t query = first; query < last; query += ATTENTION_ROWS) {
        const int rows = last - query < ATTENTION_ROWS ? (int)(last - query) : ATTENTION_ROWS;
        for (int64_t k = 0; k < width; k += ATTENTION_COLUMNS)
            times_64(q + query * t->q.token, t->q.token, rows, scratch + k, width, t->features, scores + k, width);
        float sums[ATTENTION_ROWS];
        for (int row = 0; row < rows; row++) {
            const int64_t *s = t->mask_strides;
            const uint8_t *mask = t->mask ? t->mask + batch * s[0] + head * s[1] + (query + row) * s[2] : NULL;
            sums[row] = exponents(scores + row * width, t->keys, t->scale, mask, s[3]);
        }
        float *y = t->y + (batch * t->queries + query) * y_row + head * t->features;
        for (int64_t d = 0; d < t->features; d += t->features % 64 ? 32 : 64)
            (t->features % 64 ? times_32 : times_64)(scores, width, rows, v + d, t->v.token, t->keys, y + d, y_row);
        for (int row = 0; row < rows; row++) {
            const __m512 share = _mm512_set1_ps(sums[row] > 0 ? 1 / sums[row] : sums[row]); /* keeps NaN */
            for (int64_t d = 0; d < t->features; d += 16)
                _mm512_storeu_ps(y + row * y_row + d, _mm512_mul_ps(_mm512_loadu_ps(y + row * y_row + d), share));
        }
    }
}
#endif

#endif
