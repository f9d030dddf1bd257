/* The products with AVX-512 VNNI. */
#ifndef XTC_VNNI_H
#define XTC_VNNI_H

#include "layout.h"

#if XTC_X86
#define VNNI_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

/* gcc keeps arrays of accumulators in memory, so each accumulator is a variable of its own. */
#define BROADCAST(row) _mm512_set1_epi32(*(const loose_int32 *)(a + (row) * stride + k))

#define ROWS_1(F) F(0)
#define ROWS_2(F) ROWS_1(F) F(1)
#define ROWS_3(F) ROWS_2(F) F(2)
#define ROWS_4(F) ROWS_3(F) F(3)
#define ROWS_5(F) ROWS_4(F) F(4)
#define ROWS_6(F) ROWS_5(F) F(5)
#define ROWS_7(F) ROWS_6(F) F(6)
#define ROWS_8(F) ROWS_7(F) F(7)
#define ROWS_9(F) ROWS_8(F) F(8)
#define ROWS_10(F) ROWS_9(F) F(9)
#define ROWS_11(F) ROWS_10(F) F(10)
#define ROWS_12(F) ROWS_11(F) F(11)

/*
 * Few tokens: 1 to 4 rows x 4 panels, weights unpacked on the way. Four panels give a single row four chains of sums, which
 * hide the latency of the product. acc is (rows, 64).
 */
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

typedef void quad_kernel(const uint8_t *, int64_t, const uint8_t *const *, int64_t, int32_t *);
#define QUAD_ROW(bits) {quad_vnni_1_##bits, quad_vnni_2_##bits, quad_vnni_3_##bits, quad_vnni_4_##bits}
static quad_kernel *const QUADS[4][4] = {QUAD_ROW(1), QUAD_ROW(2), QUAD_ROW(4), QUAD_ROW(8)};

static void quad_vnni(const uint8_t *u8, int64_t stride, int rows, const uint8_t *const *panels, int64_t blocks, int bits, int32_t *acc)
{
    QUADS[bits == 8 ? 3 : bits / 2][rows - 1](u8, stride, panels, blocks, acc);
}

/* 12 tokens x 2 panels of 8-bit tiles: 24 accumulators, 2 weights, the inputs as broadcast operands. */
#define DECLARE_2(row) __m512i s##row = _mm512_setzero_si512(), t##row = _mm512_setzero_si512();
#define MULTIPLY_2(row)                                                                                                         \
    {                                                                                                                           \
        const __m512i x = BROADCAST(row);                                                                                       \
        s##row = _mm512_dpbusd_epi32(s##row, x, w);                                                                             \
        t##row = _mm512_dpbusd_epi32(t##row, x, v);                                                                             \
    }
#define STORE_2(row)                                                                                                            \
    _mm512_storeu_si512(acc + (row) * 2 * PANEL, s##row);                                                                       \
    _mm512_storeu_si512(acc + (row) * 2 * PANEL + PANEL, t##row);
#define PAIR_KERNEL(rows)                                                                                                       \
    VNNI_TARGET static void pair_vnni_##rows(const uint8_t *a, int64_t stride, const uint8_t *first, const uint8_t *second,     \
                                             int64_t steps, int32_t *acc)                                                       \
    {                                                                                                                           \
        ROWS_##rows(DECLARE_2) int64_t k = 0;                                                                                   \
        for (int64_t step = 0; step < steps; step++, k += 4) {                                                                  \
            const __m512i w = _mm512_loadu_si512(first + step * BLOCK), v = _mm512_loadu_si512(second + step * BLOCK);          \
            ROWS_##rows(MULTIPLY_2)                                                                                             \
        }                                                                                                                       \
        ROWS_##rows(STORE_2)                                                                                                    \
    }
PAIR_KERNEL(1) PAIR_KERNEL(2) PAIR_KERNEL(3) PAIR_KERNEL(4) PAIR_KERNEL(5) PAIR_KERNEL(6)
PAIR_KERNEL(7) PAIR_KERNEL(8) PAIR_KERNEL(9) PAIR_KERNEL(10) PAIR_KERNEL(11) PAIR_KERNEL(12)

typedef void pair_kernel(const uint8_t *, int64_t, const uint8_t *, const uint8_t *, int64_t, int32_t *);
static pair_kernel *const PAIRS[GEMM_ROWS + 1] = {0, pair_vnni_1, pair_vnni_2, pair_vnni_3, pair_vnni_4, pair_vnni_5, pair_vnni_6,
    pair_vnni_7, pair_vnni_8, pair_vnni_9, pair_vnni_10, pair_vnni_11, pair_vnni_12};

/* Tiles of one panel as 8-bit tiles, one after the other. */
VNNI_TARGET static void unpack_panel(const uint8_t *panel, int64_t blocks, int bits, uint8_t *out)
{
    const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1));
    for (int64_t b = 0; b < blocks; b++) {
        const __m512i block = _mm512_loadu_si512(panel + b * BLOCK);
        for (int tile = 0; tile < 8 / bits; tile++, out += BLOCK)
            _mm512_storeu_si512(out, _mm512_and_si512(_mm512_srl_epi16(block, _mm_cvtsi32_si128(tile * bits)), mask));
    }
}
#endif

#endif
