/*
 * Memory layout of inputs and weights, block sizes of the kernels, and detection of instruction sets.
 *
 * Inputs are stored as u8 = code + 128, because the VNNI instruction multiplies unsigned by signed bytes. A weight code is
 * w = mul * c + off with c its stored value, so with S = sum over K:   S(code * w) = mul * S(u8 * c) + off * S(u8) - 128 * S(w).
 *
 * Weight layout ("tiles"): outputs in panels of 16, inputs in steps of 4; a tile is 16 outputs x 4 inputs, with output n and
 * input k of the tile in byte 4 * n + k.
 * One 64-byte block holds 8 / bits consecutive tiles: tile j of the block lies in bits [j * bits, (j + 1) * bits) of every byte.
 * Inputs are padded to whole blocks; the padded u8 are 0, so what the weights hold there does not matter.
 */
#ifndef XTC_LAYOUT_H
#define XTC_LAYOUT_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define XTC_X86 1
#include <immintrin.h>
#else
#define XTC_X86 0
#endif

#define PANEL 16           /* outputs of a tile */
#define BLOCK 64           /* bytes of a block */
#define QUAD (4 * PANEL)   /* outputs that the innermost kernel computes at once */
#define QUAD_ROWS 4        /* tokens that it computes at once */

/* Four u8 at an address of any alignment. */
#if defined(__GNUC__) || defined(__clang__)
typedef int32_t __attribute__((may_alias, aligned(1))) loose_int32;
#endif

/* Inlined into the functions of each target, so that it is compiled with that target's instructions. */
#define INLINED static inline __attribute__((always_inline))

#if XTC_X86
#define F512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define VNNI_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx512vnni")))
/* Mask of the first `left` of 16 lanes. */
#define INSIDE(left) ((left) >= 16 ? (__mmask16)0xFFFF : (__mmask16)((1u << (left)) - 1))
#endif

enum path { PORTABLE = 0, AVX2 = 1, AVX512_VNNI = 2 };

/* The best path of this processor. */
int xtc_best_path(void)
{
#if XTC_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma"))
        return AVX512_VNNI;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return AVX2;
#endif
    return PORTABLE;
}

static inline int64_t inputs_per_block(int bits) { return 4 * (8 / bits); }
static inline int64_t blocks_of(int64_t inputs, int bits) { return (inputs + inputs_per_block(bits) - 1) / inputs_per_block(bits); }
/* Bytes from the u8 of one token to those of the next: whole blocks for every number of bits. */
static inline int64_t stride_of(int64_t inputs) { return (inputs + 31) / 32 * 32; }
static inline int64_t panels_of(int64_t outputs) { return (outputs + PANEL - 1) / PANEL; }

#endif
