/*
 * y = (codes of x) times (codes of w), rescaled, plus bias: linear layers with 8-bit inputs and weights of 1, 2, 4 or 8 bits,
 * and the operations of an encoder between them. This file and the headers define the exported functions (xtc_*).
 *
 * Plain C, plain pointers, no state. The products are exact integer arithmetic up to one rescale in float, so that all paths
 * (AVX-512 VNNI, AVX2, portable C) and the slow Python reference give bit-identical results.
 *
 * Shape legend: T tokens, I inputs (K while summing), O outputs (N).
 */
#include "attention.h"
#include "encoder.h"
#include "inputs.h"
#include "layout.h"
#include "lookup.h"
#include "peak.h"
#include "planes.h"
#include "product.h"
#include "rows.h"
#include "threads.h"
#include "tiles.h"

#define XTC_ABI 3

/* Must be incremented with every change of an exported signature; library.py compares it. */
int xtc_abi(void) { return XTC_ABI; }

/*
 * u8, sums, scales: from xtc_quantize of x (T, I). tiles, w_sums: from xtc_tile. w_scale (O). bias (O) or NULL.
 * y: (T, O), float32, or bfloat16 if is_bf16. path: at most xtc_best_path(). Returns 0, or -1 if an argument is out of range.
 */
int xtc_product(const uint8_t *u8, const int32_t *sums, const float *scales, const uint8_t *tiles, const int32_t *w_sums,
                const float *w_scale, const float *bias, void *y, int is_bf16, int64_t tokens, int64_t inputs, int64_t outputs, int bits,
                int mul, int off, int threads, int path)
{
    if ((bits != 1 && bits != 2 && bits != 4 && bits != 8) || tokens < 0 || inputs < 1 || outputs < 1 || path > xtc_best_path() || path < 0)
        return -1;
    const struct task t = {u8, sums, scales, tiles, w_sums, w_scale, bias, y, tokens, outputs, blocks_of(inputs, bits), stride_of(inputs),
                           outputs, 0, bits, mul, off, is_bf16, 0};
    run_product(&t, NULL, path, threads);
    return 0;
}

/* Bytes of scratch memory that xtc_linear needs. */
int64_t xtc_linear_scratch_bytes(int64_t tokens, int64_t inputs)
{
    return (tokens * stride_of(inputs) + 63) / 64 * 64 + (tokens * 4 + 63) / 64 * 128;
}

/* xtc_quantize and xtc_product in one call, for an input that no other layer uses. scratch: xtc_linear_scratch_bytes. */
int xtc_linear(const void *x, int x_bits, float fixed_scale, const uint8_t *tiles, const int32_t *w_sums, const float *w_scale,
               const float *bias, void *y, int is_bf16, int64_t tokens, int64_t inputs, int64_t outputs, int bits, int mul, int off,
               uint8_t *scratch, int threads, int path)
{
    uint8_t *u8 = scratch;
    scratch += (tokens * stride_of(inputs) + 63) / 64 * 64;
    int32_t *sums = (int32_t *)(void *)scratch;
    scratch += (tokens * 4 + 63) / 64 * 64;
    float *scales = (float *)(void *)scratch;
    if ((bits != 1 && bits != 2 && bits != 4 && bits != 8) || x_bits < 2 || x_bits > 8 || tokens < 0 || inputs < 1 || outputs < 1 ||
        path < 0 || path > xtc_best_path())
        return -1;
    const int64_t stride = stride_of(inputs);
    const struct input in = {x, is_bf16, x_bits, path, inputs, stride, fixed_scale, u8, sums, scales};
    const struct task t = {u8, sums, scales, tiles, w_sums, w_scale, bias, y, tokens, outputs, blocks_of(inputs, bits), stride,
                           outputs, 0, bits, mul, off, is_bf16, 0};
    run_product(&t, &in, path, threads);
    return 0;
}

/* Bytes of scratch memory that xtc_attention needs. */
int64_t xtc_attention_scratch_bytes(int64_t keys, int64_t features, int threads)
{
    return (int64_t)threads * attention_floats(keys, features) * (int64_t)sizeof(float);
}

/*
 * Attention in float32. strides, in elements: batch, head and token of q, of k and of v; then batch, head, query and key of the
 * mask. sizes: batches, heads, queries, keys, features (a multiple of 32). y: (batches, queries, heads, features).
 * Returns 0, or -1 if this processor or an argument is not supported.
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
    /* Heads are split in two if that balances the work of the threads; each half transposes the keys again. */
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

/*
 * Runs the layers in sequence. x, y: (batches, tokens, width) float32. mask: bytes, nonzero where a query may attend to a key,
 * or NULL; mask_strides: batch, head, query and key. scratch: xtc_encoder_scratch_bytes. Returns 0, or -1 if this processor or
 * an argument is not supported.
 */
int xtc_encoder_layers(const struct xtc_encoder *const *layers, int64_t count, const float *x, const uint8_t *mask, const int64_t *mask_strides,
                       int64_t batches, int64_t tokens, float *y, uint8_t *scratch, int threads)
{
    if (xtc_best_path() != AVX512_VNNI || count < 1 || batches < 1 || tokens < 1)
        return -1;
    for (int64_t i = 0; i < count; i++)
        if (layers[i]->heads < 1 || layers[i]->query.outputs % (32 * layers[i]->heads) || layers[i]->query.inputs != layers[0]->query.inputs)
            return -1;
#if XTC_X86
    struct encoder_run run = {.layers = layers, .count = count, .batches = batches, .tokens = tokens, .width = layers[0]->query.inputs,
                              .x = x, .mask = mask, .mask_strides = mask_strides, .y = y};
    run_encoder(&run, scratch, threads);
#endif
    return 0;
}
