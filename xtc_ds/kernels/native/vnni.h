/*
 * The innermost kernel of the product with AVX-512 VNNI. Weights are unpacked in registers: shifts and masks run in parallel with
 * the products, on other execution ports, so that 1 to 4 bits take no more time than 8.
 */
#ifndef XTC_VNNI_H
#define XTC_VNNI_H

#include "layout.h"

#if XTC_X86
/* gcc keeps arrays of accumulators in memory, so each accumulator is a variable of its own. */
#define BROADCAST(row) _mm512_set1_epi32(*(const loose_int32 *)(a + (row) * stride + k))

#define ROWS_1(F) F(0)
#define ROWS_2(F) ROWS_1(F) F(1)
#define ROWS_3(F) ROWS_2(F) F(2)
#define ROWS_4(F) ROWS_3(F) F(3)

/* 1 to 4 rows x 4 panels: even one row has four independent sums, which hide the latency of the product. acc is (rows, 64). */
#define DECLARE_4(row)                                                                                                          \
    __m512i p##row = _mm512_setzero_si512(), q##row = _mm512_setzero_si512(), r##row = _mm512_setzero_si512(),                  \
            s##row = _mm512_setzero_si512();
#define MULTIPLY_4(row)                                                                                                         \
    {                                                                                                                           \
        const __m512i x = BROADCAST(row);                                                                                       \
        p##row = _mm512_dpbusd_epi32(p##row, x, w0);                                                                            \
        q##row = _mm512_dpbusd_epi32(q##row, x, w1);                                                                            \
        r##row = _mm512_dpbusd_epi32(r##row, x, w2);                                                                            \
        s##row = _mm512_dpbusd_epi32(s##row, x, w3);                                                                            \
    }
#define STORE_4(row)                                                                                                            \
    _mm512_storeu_si512(acc + (row) * QUAD, p##row);                                                                            \
    _mm512_storeu_si512(acc + (row) * QUAD + PANEL, q##row);                                                                    \
    _mm512_storeu_si512(acc + (row) * QUAD + 2 * PANEL, r##row);                                                                \
    _mm512_storeu_si512(acc + (row) * QUAD + 3 * PANEL, s##row);

/* Tile j of a block, for 1, 2 and 4 bits. */
#define PART(block, j, bits) _mm512_and_si512(_mm512_srli_epi16(block, (j) * (bits)), _mm512_set1_epi8((1 << (bits)) - 1))
#define TILE(ROWS, j, bits)                                                                                                     \
    {                                                                                                                           \
        const __m512i w0 = PART(b0, j, bits), w1 = PART(b1, j, bits), w2 = PART(b2, j, bits), w3 = PART(b3, j, bits);           \
        ROWS(MULTIPLY_4) k += 4;                                                                                                \
    }
#define TILES_1(ROWS)                                                                                                           \
    TILE(ROWS, 0, 1) TILE(ROWS, 1, 1) TILE(ROWS, 2, 1) TILE(ROWS, 3, 1)                                                         \
    TILE(ROWS, 4, 1) TILE(ROWS, 5, 1) TILE(ROWS, 6, 1) TILE(ROWS, 7, 1)
#define TILES_2(ROWS) TILE(ROWS, 0, 2) TILE(ROWS, 1, 2) TILE(ROWS, 2, 2) TILE(ROWS, 3, 2)
#define TILES_4(ROWS) TILE(ROWS, 0, 4) TILE(ROWS, 1, 4)
#define TILES_8(ROWS)                                                                                                           \
    {                                                                                                                           \
        const __m512i w0 = b0, w1 = b1, w2 = b2, w3 = b3;                                                                       \
        ROWS(MULTIPLY_4) k += 4;                                                                                                \
    }
#define QUAD_KERNEL(rows, bits)                                                                                                 \
    VNNI_TARGET static void quad_vnni_##rows##_##bits(const uint8_t *a, int64_t stride, const uint8_t *const *panel,            \
                                                      int64_t blocks, int32_t *acc)                                             \
    {                                                                                                                           \
        ROWS_##rows(DECLARE_4) int64_t k = 0;                                                                                   \
        for (int64_t i = 0; i < blocks * BLOCK; i += BLOCK) {                                                                   \
            const __m512i b0 = _mm512_loadu_si512(panel[0] + i), b1 = _mm512_loadu_si512(panel[1] + i),                         \
                          b2 = _mm512_loadu_si512(panel[2] + i), b3 = _mm512_loadu_si512(panel[3] + i);                         \
            TILES_##bits(ROWS_##rows)                                                                                           \
        }                                                                                                                       \
        ROWS_##rows(STORE_4)                                                                                                    \
    }
#define QUAD_KERNELS(bits) QUAD_KERNEL(1, bits) QUAD_KERNEL(2, bits) QUAD_KERNEL(3, bits) QUAD_KERNEL(4, bits)
QUAD_KERNELS(1) QUAD_KERNELS(2) QUAD_KERNELS(4) QUAD_KERNELS(8)

/*
 * One row, 1 bit: the bits are masked but not shifted. Each bit position j has its own sum, which is 2**j times too large (-128
 * times for bit 7, the sign bit), and is corrected once at the end. Sums stay below 2**31 for up to MOST_BITS blocks.
 */
#define MOST_BITS 16000
#define BITS(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#define DECLARE_BIT(j)                                                                                                          \
    const __m512i m##j = _mm512_set1_epi8((char)(1 << (j)));                                                                    \
    __m512i s##j = _mm512_setzero_si512(), t##j = s##j;
#define MULTIPLY_BIT(j)                                                                                                         \
    {                                                                                                                           \
        const __m512i x = _mm512_set1_epi32(*(const loose_int32 *)(a + 4 * (j)));                                               \
        s##j = _mm512_dpbusd_epi32(s##j, x, _mm512_and_si512(b, m##j));                                                         \
        t##j = _mm512_dpbusd_epi32(t##j, x, _mm512_and_si512(c, m##j));                                                         \
    }
#define ADD_BIT(j)                                                                                                              \
    s = _mm512_add_epi32(s, _mm512_srai_epi32(s##j, j)), t = _mm512_add_epi32(t, _mm512_srai_epi32(t##j, j));

VNNI_TARGET static void two_panels_of_bits(const uint8_t *a, const uint8_t *first, const uint8_t *second, int64_t blocks, int32_t *acc)
{
    BITS(DECLARE_BIT)
    for (int64_t i = 0; i < blocks * BLOCK; i += BLOCK, a += 32) {
        const __m512i b = _mm512_loadu_si512(first + i), c = _mm512_loadu_si512(second + i);
        BITS(MULTIPLY_BIT)
    }
    s7 = _mm512_sub_epi32(_mm512_setzero_si512(), s7), t7 = _mm512_sub_epi32(_mm512_setzero_si512(), t7);
    __m512i s = _mm512_setzero_si512(), t = s;
    BITS(ADD_BIT)
    _mm512_storeu_si512(acc, s);
    _mm512_storeu_si512(acc + PANEL, t);
}

typedef void quad_kernel(const uint8_t *, int64_t, const uint8_t *const *, int64_t, int32_t *);
#define QUAD_ROW(bits) {quad_vnni_1_##bits, quad_vnni_2_##bits, quad_vnni_3_##bits, quad_vnni_4_##bits}
static quad_kernel *const QUADS[4][4] = {QUAD_ROW(1), QUAD_ROW(2), QUAD_ROW(4), QUAD_ROW(8)};

static void quad_vnni(const uint8_t *u8, int64_t stride, int rows, const uint8_t *const *panels, int64_t blocks, int bits, int32_t *acc)
{
    if (rows == 1 && bits == 1 && blocks <= MOST_BITS) {
        two_panels_of_bits(u8, panels[0], panels[1], blocks, acc);
        two_panels_of_bits(u8, panels[2], panels[3], blocks, acc + 2 * PANEL);
        return;
    }
    QUADS[bits == 8 ? 3 : bits / 2][rows - 1](u8, stride, panels, blocks, acc);
}
#endif

#endif
