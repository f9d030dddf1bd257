/* The product on several threads, with the kernel of the chosen path. */
#ifndef XTC_PRODUCT_H
#define XTC_PRODUCT_H

#include "avx2.h"
#include "inputs.h"
#include "portable.h"
#include "task.h"
#include "threads.h"
#include "wide.h"

/* The panels [first, last) for all tokens, with a kernel that computes one panel at a time. */
INLINED void product_with(panel_kernel *kernel, const struct task *t, int64_t first, int64_t last)
{
    int32_t acc[QUAD_ROWS * QUAD];
    for (int64_t panel = first; panel < last; panel += 4) {
        const uint8_t *panels[4];
        const int width = four_panels(t, panel, last, panels);
        for (int64_t token = 0; token < t->tokens; token += QUAD_ROWS) {
            const int rows = t->tokens - token < QUAD_ROWS ? (int)(t->tokens - token) : QUAD_ROWS;
            for (int i = 0; i < 4; i++)
                kernel(t->u8 + token * t->stride, t->stride, rows, panels[i], t->blocks, t->bits, acc + i * PANEL);
            finish(t, acc, QUAD, token, panel * PANEL, rows, width);
        }
    }
}

static void product_portable(const struct task *t, int64_t first, int64_t last) { product_with(panel_portable, t, first, last); }

#if XTC_X86
__attribute__((target("avx2"))) static void product_avx2(const struct task *t, int64_t first, int64_t last)
{
    product_with(panel_avx2, t, first, last);
}
#endif

/* Runs the product. If `in` is not NULL, the same threads quantize it first. */
static void run_product(const struct task *t, const struct input *in, int path, int threads)
{
    const int64_t panels = panels_of(t->outputs), inputs = t->blocks * (8 / t->bits) * 4;
    const int team = workers(t->tokens * inputs * t->outputs / 20, threads); /* 20 multiply-adds take about as long as one counted operation */
    int arrived = 0;
    int64_t taken = 0;
#if defined(_OPENMP)
#pragma omp parallel num_threads(team) if (team > 1)
#endif
    {
        int me, all;
        whoami(&me, &all);
        if (in) {
            for (int64_t token = t->tokens * me / all; token < t->tokens * (me + 1) / all; token++)
                quantize_token(in, token);
            if (all > 1)
                meet(&arrived, all);
        }
        const int64_t step = all == 1 ? panels : (panels / (8 * all) + 4) / 4 * 4; /* a multiple of four panels */
        for (int64_t first, last; take(&taken, step, panels, &first, &last);) {
#if XTC_X86
            if (path == AVX512_VNNI)
                product_vnni(t, first, last);
            else if (path == AVX2)
                product_avx2(t, first, last);
            else
#endif
                product_portable(t, first, last);
        }
    }
    (void)team;
}

#endif
