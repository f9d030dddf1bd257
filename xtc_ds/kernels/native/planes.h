/*
 * Codes packed row by row with 1, 2 or 4 bits each, for reading whole rows. A row of I codes takes W = ceil(I * bits / 8) bytes,
 * and code i lies in bits [j * bits, (j + 1) * bits) of byte i - j * W, with j = i / W. So neighbouring codes lie in neighbouring
 * bytes, and a row is read in 8 / bits passes over the same few bytes. A code is mul * c + off, with c its stored value.
 */
#ifndef XTC_PLANES_H
#define XTC_PLANES_H

#include "decode.h"
#include "threads.h"

static inline int64_t plane_of(int64_t inputs, int bits) { return (inputs * bits + 7) / 8; }

INLINED void pack_planes_row(const int8_t *restrict codes, int64_t inputs, int bits, int mul, int off, uint8_t *restrict planes)
{
    const int64_t width = plane_of(inputs, bits);
    const int half = mul == 2;
    memset(planes, 0, (size_t)width);
    for (int64_t first = 0, shift = 0; first < inputs; first += width, shift += bits) {
        const int64_t count = inputs - first < width ? inputs - first : width;
        const int8_t *restrict from = codes + first;
        for (int64_t b = 0; b < count; b++)
            planes[b] |= (uint8_t)(((uint8_t)(from[b] - off) >> half) << shift);
    }
}

INLINED void unpack_planes_row(const uint8_t *restrict planes, int64_t inputs, int bits, int mul, int off, float scale, void *out, int is_bf16)
{
    const int64_t width = plane_of(inputs, bits);
    const int mask = (1 << bits) - 1;
    for (int64_t first = 0, shift = 0; first < inputs; first += width, shift += bits) {
        const int64_t count = inputs - first < width ? inputs - first : width;
        if (is_bf16) {
            uint16_t *restrict to = (uint16_t *)out + first;
            for (int64_t b = 0; b < count; b++)
                to[b] = bf16_of((float)(((planes[b] >> shift) & mask) * mul + off) * scale);
        } else {
            float *restrict to = (float *)out + first;
            for (int64_t b = 0; b < count; b++)
                to[b] = (float)(((planes[b] >> shift) & mask) * mul + off) * scale;
        }
    }
}

/* Calls with bits, mul and off as compile-time constants. */
#define FOR_BITS(call, bits) ((bits) == 1 ? call(1, 2, -1) : (bits) == 2 ? call(2, 1, -1) : call(4, 1, -8))
#define PACK(bits, mul, off) pack_planes_row(codes, inputs, bits, mul, off, planes)
#define UNPACK(bits, mul, off) unpack_planes_row(planes, inputs, bits, mul, off, scale, out, is_bf16)

static void pack_row(const int8_t *codes, int64_t inputs, int bits, uint8_t *planes) { FOR_BITS(PACK, bits); }
static void unpack_row(const uint8_t *planes, int64_t inputs, int bits, float scale, void *out, int is_bf16) { FOR_BITS(UNPACK, bits); }

#if XTC_X86
#define AVX2_TARGET __attribute__((target("avx2")))
AVX2_TARGET static void pack_row_avx2(const int8_t *codes, int64_t inputs, int bits, uint8_t *planes) { FOR_BITS(PACK, bits); }
AVX2_TARGET static void unpack_row_avx2(const uint8_t *planes, int64_t inputs, int bits, float scale, void *out, int is_bf16)
{
    FOR_BITS(UNPACK, bits);
}
#endif

/* Packs int8 codes (R, N) into planes (R, plane_of(N)). bits: 1 for codes -1 and 1, 2 for -1 to 2, 4 for -8 to 7. */
void xtc_pack_planes(const int8_t *codes, uint8_t *planes, int64_t rows, int64_t inputs, int bits, int threads, int path)
{
    const int64_t width = plane_of(inputs, bits);
    const int team = workers(rows * inputs / 4, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++) {
#if XTC_X86
        if (path >= AVX2)
            pack_row_avx2(codes + row * inputs, inputs, bits, planes + row * width);
        else
#endif
            pack_row(codes + row * inputs, inputs, bits, planes + row * width);
    }
    (void)team;
    (void)path;
}

/* Planes of codes (R, N) times the scales of their rows (R; NULL: 1) into values (R, N), float32 or, if is_bf16, bfloat16. */
void xtc_unpack_planes(const uint8_t *planes, const float *scales, void *values, int is_bf16, int64_t rows, int64_t inputs, int bits, int threads,
                       int path)
{
    const int64_t width = plane_of(inputs, bits);
    const int team = workers(rows * inputs / 2, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++) {
        void *out = (char *)values + row * inputs * (is_bf16 ? 2 : 4);
        const float scale = scales ? scales[row] : 1;
#if XTC_X86
        if (path >= AVX2)
            unpack_row_avx2(planes + row * width, inputs, bits, scale, out, is_bf16);
        else
#endif
            unpack_row(planes + row * width, inputs, bits, scale, out, is_bf16);
    }
    (void)team;
    (void)path;
}

#endif
