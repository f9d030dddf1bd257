/* Converts weights to tiles. See layout.h. */
#ifndef XTC_TILES_H
#define XTC_TILES_H

#include "layout.h"
#include "threads.h"

/* Bytes of the tiles of a weight (O, I). */
int64_t xtc_tiles_bytes(int64_t outputs, int64_t inputs, int bits) { return panels_of(outputs) * blocks_of(inputs, bits) * BLOCK; }

/* Converts four codes to four stored values c, byte by byte; for mul and off see STORED in linear.py. */
static inline uint32_t stored(uint32_t four, int bits, int off)
{
    const uint32_t each = 0x01010101u;
    if (bits == 8)
        return four;
    if (bits == 1) /* -1 is 0xFF, 1 is 0x01: they differ in bit 1 */
        return ~(four >> 1) & each;
    const uint32_t mask = each * ((1u << bits) - 1);
    return ((four & mask) + each * (uint32_t)-off) & mask;
}

/* Four codes from input i on; 0 past the end. */
static inline uint32_t four_codes(const int8_t *row, int64_t i, int64_t inputs)
{
    uint32_t four = 0;
    if (i + 4 <= inputs)
        memcpy(&four, row + i, 4);
    else if (i < inputs)
        memcpy(&four, row + i, (size_t)(inputs - i));
    return four;
}

/*
 * Converts codes (O, I) to tiles and computes the sum of the codes of each output. bits = 1: codes -1 and 1; 2 and 4: codes from
 * off on; 8: any. Outputs that pad the last panel get stored values of 0.
 */
void xtc_tile(const int8_t *codes, int64_t outputs, int64_t inputs, int bits, int off, uint8_t *tiles, int32_t *sums, int threads)
{
    const int64_t blocks = blocks_of(inputs, bits), panels = panels_of(outputs);
    const int team = workers(outputs * inputs / 4, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t panel = 0; panel < panels; panel++) {
        const int rows = outputs - panel * PANEL < PANEL ? (int)(outputs - panel * PANEL) : PANEL;
        const int8_t *first = codes + panel * PANEL * inputs;
        for (int64_t block = 0; block < blocks; block++) {
            uint32_t words[PANEL] = {0};
            for (int tile = 0; tile < 8 / bits; tile++) {
                const int64_t i = (block * (8 / bits) + tile) * 4;
                for (int row = 0; row < rows; row++)
                    words[row] |= stored(four_codes(first + row * inputs, i, inputs), bits, off) << (bits == 8 ? 0 : bits * tile);
            }
            memcpy(tiles + (panel * blocks + block) * BLOCK, words, BLOCK);
        }
        for (int row = 0; row < rows; row++) {
            int32_t sum = 0;
            for (int64_t i = 0; i < inputs; i++)
                sum += first[row * inputs + i];
            sums[panel * PANEL + row] = sum;
        }
    }
    (void)team;
}

#endif
