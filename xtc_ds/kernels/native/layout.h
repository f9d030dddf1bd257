/* Sizes of tiles and kernels, and which instructions there are. See xtc_kernels.c for the layout. */
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
#define GEMM_ROWS 12       /* tokens that the register tile of the matrix kernel holds */
#define QUAD (4 * PANEL)   /* outputs that the kernel for few tokens computes at once */
#define QUAD_ROWS 4        /* and its tokens */
#define UNPACK_FROM 16     /* tokens from which on a panel is unpacked once instead of in every product */

/* Four u8 at any address. */
#if defined(__GNUC__) || defined(__clang__)
typedef int32_t __attribute__((may_alias, aligned(1))) loose_int32;
#endif

enum path { PORTABLE = 0, AVX2 = 1, AVX512_VNNI = 2 };

static inline int64_t inputs_per_block(int bits) { return 4 * (8 / bits); }
static inline int64_t blocks_of(int64_t inputs, int bits) { return (inputs + inputs_per_block(bits) - 1) / inputs_per_block(bits); }
/* Bytes from one token's u8 to the next: enough for whole blocks of any number of bits. */
static inline int64_t stride_of(int64_t inputs) { return (inputs + 31) / 32 * 32; }
static inline int64_t panels_of(int64_t outputs) { return (outputs + PANEL - 1) / PANEL; }

#endif
