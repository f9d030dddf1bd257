/* The product in plain C, for every processor. */
#ifndef XTC_PORTABLE_H
#define XTC_PORTABLE_H

#include "layout.h"

/* acc (rows, 16), with rows QUAD apart, = u8 (rows, K) times the stored values c of one panel. */
typedef void panel_kernel(const uint8_t *u8, int64_t stride, int rows, const uint8_t *panel, int64_t blocks, int bits, int32_t *acc);

static void panel_portable(const uint8_t *u8, int64_t stride, int rows, const uint8_t *panel, int64_t blocks, int bits, int32_t *acc)
{
    const int tiles = 8 / bits, mask = bits == 8 ? 0xFF : (1 << bits) - 1;
    for (int row = 0; row < rows; row++)
        memset(acc + row * QUAD, 0, sizeof(int32_t) * PANEL);
    for (int64_t block = 0; block < blocks; block++, panel += BLOCK)
        for (int tile = 0; tile < tiles; tile++) {
            int8_t c[BLOCK];
            for (int i = 0; i < BLOCK; i++)
                c[i] = (int8_t)((panel[i] >> (bits == 8 ? 0 : bits * tile)) & mask);
            for (int row = 0; row < rows; row++) {
                const uint8_t *a = u8 + row * stride + (block * tiles + tile) * 4;
                for (int n = 0; n < PANEL; n++)
                    acc[row * QUAD + n] += a[0] * c[4 * n] + a[1] * c[4 * n + 1] + a[2] * c[4 * n + 2] + a[3] * c[4 * n + 3];
            }
        }
}

#endif
