/*
 * y = (codes of x) times (codes of w), rescaled, plus bias: linear layers with 8-bit inputs and weights of 1, 2, 4 or 8 bits.
 *
 * Plain C, plain pointers, no state. Everything is exact integer arithmetic up to one rescale in float, so that all paths
 * (AVX-512 VNNI, AVX2, portable C) and the slow reference give the same bits.
 *
 * Shape legend: T tokens, I inputs (K while summing), O outputs (N).
 *
 * Inputs become u8 = code + 128, because the VNNI product takes unsigned times signed. A weight is w = mul * c + off with
 * c its stored value, so with S = sum over K:   S(code * w) = mul * S(u8 * c) + off * S(u8) - 128 * S(w).
 *
 * Weight layout ("tiles"): outputs in panels of 16, inputs in steps of 4; a tile is 16 outputs x 4 inputs, byte 4 * n + k.
 * One 64-byte block holds 8 / bits consecutive tiles: tile j of the block lies in bits [j * bits, (j + 1) * bits) of every byte.
 * Inputs are padded to whole blocks; the padded u8 are 0, so what the weights hold there does not matter.
 */
#include "attention.h"
#include "avx2.h"
#include "decode.h"
#include "layout.h"
#include "pointwise.h"
#include "portable.h"
#include "quantize.h"
#include "vnni.h"

#include <sched.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#define XTC_ABI 2

/* Changes with every change of a signature below. */
int xtc_abi(void) { return XTC_ABI; }

/* The best path of this processor. */
int xtc_best_path(void)
{
#if XTC_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return AVX512_VNNI;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return AVX2;
#endif
    return PORTABLE;
}

static int workers(int64_t operations, int threads)
{
    const int64_t useful = operations / 200000 + 1; /* below this waking a second thread costs more than it brings */
    return threads < 1 ? 1 : useful < threads ? (int)useful : threads;
}

/* Bytes of the tiles of a weight (O, I). */
int64_t xtc_tiles_bytes(int64_t outputs, int64_t inputs, int bits) { return panels_of(outputs) * blocks_of(inputs, bits) * BLOCK; }

/* Four codes as four stored values c, byte by byte; see tile_weight for mul and off. */
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
 * Codes (O, I) into tiles, and the sums of the codes of each output. bits = 1: codes -1 and 1; 2 and 4: codes off and up;
 * 8: any. Outputs past the end of the last panel get stored values of 0.
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

/* ---------------------------------------------------------------- quantizing */

struct input {
    const void *x;
    int is_bf16, bits, path;
    int64_t inputs, stride;
    float fixed_scale;
    uint8_t *u8;
    int32_t *sums;
    float *scales;
};

static void quantize_token(const struct input *in, int64_t token)
{
    const void *row = (const char *)in->x + token * in->inputs * (in->is_bf16 ? 2 : 4);
    uint8_t *u8 = in->u8 + token * in->stride;
#if XTC_X86
    if (in->path == AVX512_VNNI)
        in->sums[token] = quantize_row_avx512(row, in->is_bf16, in->inputs, in->stride, in->bits, in->fixed_scale, u8, in->scales + token);
    else
#endif
        in->sums[token] = quantize_row(row, in->is_bf16, in->inputs, in->stride, in->bits, in->fixed_scale, u8, in->scales + token);
}

/*
 * x (T, I), contiguous, float32 or (is_bf16) bfloat16, as symmetric codes of `bits` bits: u8 (T, stride_of(I)) = code + 128,
 * their sums (T) and scales (T). fixed_scale: of a static range; negative: one per token. Returns 0, or -1 where an argument is
 * out of range.
 */
int xtc_quantize(const void *x, int is_bf16, int64_t tokens, int64_t inputs, int bits, float fixed_scale, uint8_t *u8, int32_t *sums,
                 float *scales, int threads, int path)
{
    if (bits < 2 || bits > 8 || tokens < 0 || inputs < 1 || path < 0 || path > xtc_best_path())
        return -1;
    const struct input in = {x, is_bf16, bits, path, inputs, stride_of(inputs), fixed_scale, u8, sums, scales};
    const int team = workers(tokens * inputs / 2, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t token = 0; token < tokens; token++)
        quantize_token(&in, token);
    (void)team;
    return 0;
}

/* Codes (R, N) times the scale of their row (R) into values (R, N), float32 or (is_bf16) bfloat16. */
void xtc_decode(const int8_t *codes, const float *scales, void *values, int is_bf16, int64_t rows, int64_t inputs, int threads, int path)
{
    const int team = workers(rows * inputs / 2, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++) {
        void *out = (char *)values + row * inputs * (is_bf16 ? 2 : 4);
#if XTC_X86
        if (path >= AVX2)
            decode_row_avx2(codes + row * inputs, inputs, scales[row], out, is_bf16);
        else
#endif
            decode_row_any(codes + row * inputs, inputs, scales[row], out, is_bf16);
    }
    (void)team;
    (void)path;
}

/* ---------------------------------------------------------------- the product */

struct task {
    const uint8_t *u8;
    const int32_t *u8_sums;
    const float *x_scale;
    const uint8_t *tiles;
    const int32_t *w_sums;
    const float *w_scale;
    const float *bias;
    void *y;
    int64_t tokens, outputs, blocks, stride;
    int bits, mul, off, is_bf16;
};

/* Inlined into functions of every target, so that each compiles it with its own instructions. */
#define INLINED static inline __attribute__((always_inline))

/* Rescales `rows` sums of `width` outputs each, `apart` apart, from token `token` and output `output` on, into y. */
INLINED void finish(const struct task *t, const int32_t *acc, int apart, int64_t token, int64_t output, int rows, int width)
{
    const int last = t->outputs - output < width ? (int)(t->outputs - output) : width;
    const int32_t mul = t->mul;
    const int32_t *restrict w_sums = t->w_sums + output;
    const float *restrict w_scale = t->w_scale + output, *restrict bias = t->bias ? t->bias + output : NULL;
    for (int row = 0; row < rows; row++, acc += apart) {
        const float x_scale = t->x_scale[token + row];
        const int32_t shared = t->off * t->u8_sums[token + row];
        const int64_t place = (token + row) * t->outputs + output;
        float values[QUAD];
        for (int n = 0; n < last; n++)
            values[n] = (float)(mul * acc[n] + shared - 128 * w_sums[n]) * x_scale * w_scale[n];
        if (bias)
            for (int n = 0; n < last; n++)
                values[n] += bias[n];
        if (!t->is_bf16) {
            memcpy((float *)t->y + place, values, sizeof(float) * (size_t)last);
            continue;
        }
        uint16_t *restrict y = (uint16_t *)t->y + place;
        for (int n = 0; n < last; n++)
            y[n] = bf16_of(values[n]);
    }
}

/* Rows x 4 panels with one panel's kernel. */
INLINED void quad_of_panels(panel_kernel *kernel, const struct task *t, const uint8_t *u8, int rows, const uint8_t *const *panels, int32_t *acc)
{
    for (int i = 0; i < 4; i++)
        kernel(u8, t->stride, rows, panels[i], t->blocks, t->bits, acc + i * PANEL);
}

/* Panels [first, last) of all tokens, weights unpacked in the product. */
INLINED void direct(const struct task *t, int path, int64_t first, int64_t last)
{
    int32_t acc[QUAD_ROWS * QUAD];
    for (int64_t panel = first; panel < last; panel += 4) {
        const uint8_t *panels[4];
        for (int64_t i = 0; i < 4; i++) /* past the end: the last one again, not stored */
            panels[i] = t->tiles + (panel + i < last ? panel + i : last - 1) * t->blocks * BLOCK;
        const int width = (int)(last - panel < 4 ? last - panel : 4) * PANEL;
        for (int64_t token = 0; token < t->tokens; token += QUAD_ROWS) {
            const int rows = t->tokens - token < QUAD_ROWS ? (int)(t->tokens - token) : QUAD_ROWS;
            const uint8_t *u8 = t->u8 + token * t->stride;
#if XTC_X86
            if (path == AVX512_VNNI)
                quad_vnni(u8, t->stride, rows, panels, t->blocks, t->bits, acc);
            else if (path == AVX2)
                quad_of_panels(panel_avx2, t, u8, rows, panels, acc);
            else
#endif
                quad_of_panels(panel_portable, t, u8, rows, panels, acc);
            finish(t, acc, QUAD, token, panel * PANEL, rows, width);
        }
    }
}

static void direct_portable(const struct task *t, int64_t first, int64_t last) { direct(t, PORTABLE, first, last); }

#if XTC_X86
__attribute__((target("avx2"))) static void direct_avx2(const struct task *t, int64_t first, int64_t last) { direct(t, AVX2, first, last); }
VNNI_TARGET static void direct_vnni(const struct task *t, int64_t first, int64_t last) { direct(t, AVX512_VNNI, first, last); }

/* Two panels at a time, unpacked once for all tokens. */
VNNI_TARGET static void blocked_vnni(const struct task *t, int64_t first, int64_t last, uint8_t *scratch)
{
    int32_t acc[GEMM_ROWS * 2 * PANEL];
    const int64_t steps = t->blocks * (8 / t->bits), panel_bytes = t->blocks * BLOCK;
    for (int64_t panel = first; panel < last; panel += 2) {
        const int both = panel + 1 < last;
        const uint8_t *one = t->tiles + panel * panel_bytes, *two = both ? one + panel_bytes : one;
        if (t->bits != 8) {
            unpack_panel(one, t->blocks, t->bits, scratch);
            if (both)
                unpack_panel(two, t->blocks, t->bits, scratch + steps * BLOCK);
            one = scratch;
            two = both ? scratch + steps * BLOCK : scratch;
        }
        for (int64_t token = 0; token < t->tokens; token += GEMM_ROWS) {
            const int rows = t->tokens - token < GEMM_ROWS ? (int)(t->tokens - token) : GEMM_ROWS;
            PAIRS[rows](t->u8 + token * t->stride, t->stride, one, two, steps, acc);
            finish(t, acc, 2 * PANEL, token, panel * PANEL, rows, both ? 2 * PANEL : PANEL);
        }
    }
}
#endif

/* Bytes of scratch memory that xtc_product needs. */
int64_t xtc_scratch_bytes(int64_t inputs, int threads) { return (int64_t)threads * 2 * stride_of(inputs) * PANEL; }

/* Waits until all threads of a team are here: short, so that sleeping would take longer; where a processor is missing, it yields. */
static void meet(int *arrived, int all)
{
    __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
    for (int turn = 0; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < all; turn++)
        if (turn > 2000)
            sched_yield();
}

/* The product; `in`, if given, is quantized before, by the same threads. */
static void run_product(const struct task *t, const struct input *in, int path, uint8_t *scratch, int threads)
{
    const int64_t panels = panels_of(t->outputs), inputs = t->blocks * (8 / t->bits) * 4;
    const int team = workers(t->tokens * inputs * t->outputs / 10, threads); /* a product is done faster than a rounding */
    int arrived = 0;
    int64_t taken = 0;
#if defined(_OPENMP)
#pragma omp parallel num_threads(team) if (team > 1)
#endif
    {
        int me = 0, all = 1;
#if defined(_OPENMP)
        me = omp_get_thread_num();
        all = omp_get_num_threads();
#endif
        if (in) {
            for (int64_t token = t->tokens * me / all; token < t->tokens * (me + 1) / all; token++)
                quantize_token(in, token);
            if (all > 1)
                meet(&arrived, all);
        }
        /* Panels by the four, some at a time, to whoever is free: a thread may be held up. */
        const int64_t step = all == 1 ? panels : (panels / (8 * all) + 4) / 4 * 4;
        for (int64_t first; (first = __atomic_fetch_add(&taken, step, __ATOMIC_RELAXED)) < panels;) {
            const int64_t last = first + step < panels ? first + step : panels;
#if XTC_X86
            if (path == AVX512_VNNI && t->tokens >= UNPACK_FROM)
                blocked_vnni(t, first, last, scratch + (int64_t)me * 2 * t->stride * PANEL);
            else if (path == AVX512_VNNI)
                direct_vnni(t, first, last);
            else if (path == AVX2)
                direct_avx2(t, first, last);
            else
#endif
                direct_portable(t, first, last);
        }
    }
    (void)team;
    (void)scratch;
}

/*
 * u8, sums, scales: made by xtc_quantize of x (T, I). tiles, w_sums: made by xtc_tile. w_scale (O). bias (O) or NULL.
 * y: (T, O), float32 or (is_bf16) bfloat16. scratch: xtc_scratch_bytes. path: at most xtc_best_path(). Returns 0, or -1 where an
 * argument is out of range.
 */
int xtc_product(const uint8_t *u8, const int32_t *sums, const float *scales, const uint8_t *tiles, const int32_t *w_sums,
                const float *w_scale, const float *bias, void *y, int is_bf16, int64_t tokens, int64_t inputs, int64_t outputs, int bits,
                int mul, int off, uint8_t *scratch, int threads, int path)
{
    if ((bits != 1 && bits != 2 && bits != 4 && bits != 8) || tokens < 0 || inputs < 1 || outputs < 1 || path > xtc_best_path() || path < 0)
        return -1;
    const struct task t = {u8, sums, scales, tiles, w_sums, w_scale, bias, y, tokens, outputs, blocks_of(inputs, bits), stride_of(inputs),
                           bits, mul, off, is_bf16};
    run_product(&t, NULL, path, scratch, threads);
    return 0;
}

/* Bytes of scratch memory that xtc_linear needs. */
int64_t xtc_linear_scratch_bytes(int64_t tokens, int64_t inputs, int threads)
{
    return (tokens * stride_of(inputs) + 63) / 64 * 64 + (tokens * 4 + 63) / 64 * 128 + xtc_scratch_bytes(inputs, threads);
}

/* xtc_quantize and xtc_product in one call, for layers whose input nobody else takes. scratch: xtc_linear_scratch_bytes. */
int xtc_linear(const void *x, int x_bits, float fixed_scale, const uint8_t *tiles, const int32_t *w_sums, const float *w_scale,
               const float *bias, void *y, int is_bf16, int64_t tokens, int64_t inputs, int64_t outputs, int bits, int mul, int off,
               uint8_t *scratch, int threads, int path)
{
    uint8_t *u8 = scratch;
    scratch += (tokens * stride_of(inputs) + 63) / 64 * 64;
    int32_t *sums = (int32_t *)(void *)scratch;
    scratch += (tokens * 4 + 63) / 64 * 64;
    float *scales = (float *)(void *)scratch;
    scratch += (tokens * 4 + 63) / 64 * 64;
    if ((bits != 1 && bits != 2 && bits != 4 && bits != 8) || x_bits < 2 || x_bits > 8 || tokens < 0 || inputs < 1 || outputs < 1 ||
        path < 0 || path > xtc_best_path())
        return -1;
    const int64_t stride = stride_of(inputs);
    const struct input in = {x, is_bf16, x_bits, path, inputs, stride, fixed_scale, u8, sums, scales};
    const struct task t = {u8, sums, scales, tiles, w_sums, w_scale, bias, y, tokens, outputs, blocks_of(inputs, bits), stride,
                           bits, mul, off, is_bf16};
    run_product(&t, &in, path, scratch, threads);
    return 0;
}

/* ---------------------------------------------------------------- attention */

/* Bytes of scratch memory that xtc_attention needs. */
int64_t xtc_attention_scratch_bytes(int64_t keys, int64_t features, int threads)
{
    return (int64_t)threads * attention_floats(keys, features) * (int64_t)sizeof(float);
}

/*
 * Float32. strides: of q, k and v: batch, head, token; of the mask: batch, head, query, key; all in elements. sizes: batches,
 * heads, queries, keys, features (a multiple of 32). y: (batches, queries, heads, features). Returns 0, or -1 where this
 * processor or an argument will not do.
 */
int xtc_attention(const float *q, const float *k, const float *v, const uint8_t *mask, const int64_t *strides, const int64_t *sizes,
                  float scale, float *y, float *scratch, int threads)
{
    const struct attention t = {
        .q = {q, strides[0], strides[1], strides[2]}, .k = {k, strides[3], strides[4], strides[5]},
        .v = {v, strides[6], strides[7], strides[8]}, .mask = mask,
        .mask_strides = {strides[9], strides[10], strides[11], strides[12]}, .y = y,
        .batches = sizes[0], .heads = sizes[1], .queries = sizes[2], .keys = sizes[3], .features = sizes[4], .scale = scale};
    if (xtc_best_path() != AVX512_VNNI || t.features < 1 || t.features % 32 || t.keys < 1)
        return -1;
#if XTC_X86
    const int team = workers(t.batches * t.heads * t.queries * t.keys * t.features / 5, threads);
    /* So many pieces of a head that all threads have the same to do; each transposes the keys for itself. */
    const int64_t all_heads = t.batches * t.heads, parts = all_heads % team && all_heads < 4 * team ? 2 : 1;
    const int64_t part = (t.queries + parts - 1) / parts;
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t i = 0; i < all_heads * parts; i++) {
        int me = 0;
#if defined(_OPENMP)
        me = omp_get_thread_num();
#endif
        float *own = scratch + me * attention_floats(t.keys, t.features);
        const int64_t batch = i / parts / t.heads, head = i / parts % t.heads, first = i % parts * part;
        const int64_t last = first + part < t.queries ? first + part : t.queries;
        transpose_keys(t.k.data + batch * t.k.batch + head * t.k.head, t.k.token, t.keys, t.features, own);
        attend(&t, batch, head, first, last, own);
    }
#endif
    return 0;
}

/* x (rows, columns) float32 in place: GELU. Returns 0, or -1 where this processor will not do. */
int xtc_gelu(float *x, int64_t rows, int64_t columns, int threads)
{
    if (xtc_best_path() != AVX512_VNNI)
        return -1;
#if XTC_X86
    const int team = workers(rows * columns, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++)
        gelu_row(x + row * columns, columns);
    (void)team;
#endif
    return 0;
}

/* x (rows, columns) float32 in place: layer normalization of x + residual. Returns 0, or -1 where this processor will not do. */
int xtc_add_norm(float *x, const float *residual, const float *weight, const float *bias, float eps, int64_t rows, int64_t columns,
                 int threads)
{
    if (xtc_best_path() != AVX512_VNNI)
        return -1;
#if XTC_X86
    const int team = workers(rows * columns, threads);
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
#endif
    for (int64_t row = 0; row < rows; row++)
        add_norm_row(x + row * columns, residual + row * columns, weight, bias, eps, columns);
    (void)team;
#endif
    return 0;
}
