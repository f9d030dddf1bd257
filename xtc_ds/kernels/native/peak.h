/* Measures the peak throughput of this processor, with products in registers only, to compare the kernels with. */
#ifndef XTC_PEAK_H
#define XTC_PEAK_H

#include "layout.h"
#include "threads.h"

#if XTC_X86
#define CHAINS(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define INT8_CHAIN(i) __m512i c##i = _mm512_setzero_si512();
#define INT8_STEP(i)                                                                                                            \
    c##i = _mm512_dpbusd_epi32(c##i, x, x);                                                                                     \
    __asm__ volatile("" : "+v"(c##i));
#define FLOAT_CHAIN(i) __m512 c##i = _mm512_setzero_ps();
#define FLOAT_STEP(i)                                                                                                           \
    c##i = _mm512_fmadd_ps(y, y, c##i);                                                                                         \
    __asm__ volatile("" : "+v"(c##i));

VNNI_TARGET static void int8_steps(int64_t steps)
{
    const __m512i x = _mm512_set1_epi8(1);
    CHAINS(INT8_CHAIN)
    for (int64_t i = 0; i < steps; i++) {
        CHAINS(INT8_STEP)
    }
}

F512 static void float_steps(int64_t steps)
{
    const __m512 y = _mm512_set1_ps(1.0f);
    CHAINS(FLOAT_CHAIN)
    for (int64_t i = 0; i < steps; i++) {
        CHAINS(FLOAT_STEP)
    }
}
#endif

/*
 * Each thread runs `steps` times 16 multiply-add instructions on registers, with int8 or, if is_float, float32 operands. Returns
 * the number of multiplications and additions of all threads together, or -1 if this processor has no AVX-512 VNNI.
 */
int64_t xtc_peak(int is_float, int64_t steps, int threads)
{
    if (xtc_best_path() != AVX512_VNNI)
        return -1;
#if XTC_X86
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads) if (threads > 1)
#endif
    {
        if (is_float)
            float_steps(steps);
        else
            int8_steps(steps);
    }
#endif
    return threads * steps * 16 * (is_float ? 32 : 128);
}

#endif
