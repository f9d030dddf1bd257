/*
 * A whole encoder layer in float32 with layer normalization after the residual sums, as in BERT:
 *
 *     h = norm(x + attended(attention(query(x), key(x), value(x))));  y = norm(h + down(gelu(up(h))))
 *
 * A layer runs in two steps with a barrier between them. The first step processes one head of a few samples at a time: query,
 * key and value of the head, and its attention. The second step processes a few tokens at a time, from the quantization of the
 * attention's result to the end of the layer. Intermediate results of a step stay in the cache of the thread's core.
 */
#ifndef XTC_ENCODER_H
#define XTC_ENCODER_H

#include "attention.h"
#include "encoder_memory.h"
#include "inputs.h"
#include "pointwise.h"
#include "threads.h"
#include "wide.h"

/* One call. x and y: (batches, tokens, width). codes: the quantized input of a layer. context: the results of its attention. */
struct encoder_run {
    const struct xtc_encoder *const *layers;
    int64_t count, batches, tokens, width;
    const float *x;
    const uint8_t *mask;
    const int64_t *mask_strides;
    float *y, *context;
    struct codes codes;
};

#if XTC_X86
/* Quantizes rows, which lie x_row floats apart, as the input of layer w. */
static struct codes quantize_rows(const struct xtc_weight *w, const float *x, int64_t x_row, int64_t tokens, struct codes c)
{
    c.stride = stride_of(w->inputs);
    for (int64_t token = 0; token < tokens; token++)
        c.sums[token] = quantize_row_avx512(x + token * x_row, 0, w->inputs, c.stride, w->x_bits, w->x_scale, c.u8 + token * c.stride,
                                            c.scales + token);
    return c;
}

/* Writes the outputs [first, last) of a layer to y, whose rows are y_row apart and whose column 0 is output `first`. */
static void multiply(const struct xtc_weight *w, const struct codes *x, int64_t tokens, int64_t first, int64_t last, float *y, int64_t y_row,
                     int gelu)
{
    const struct task t = {.u8 = x->u8, .u8_sums = x->sums, .x_scale = x->scales, .tiles = w->tiles, .w_sums = w->sums, .w_scale = w->scale,
                           .bias = w->bias, .y = y, .tokens = tokens, .outputs = last, .blocks = blocks_of(w->inputs, w->bits),
                           .stride = x->stride, .y_row = y_row, .y_first = first, .bits = w->bits, .mul = w->mul, .off = w->off, .gelu = gelu};
    product_vnni(&t, first / PANEL, panels_of(last));
}

/* The first step for one head of the samples [first, last). own: scratch memory of the thread. */
static void first_step(const struct encoder_run *r, const struct xtc_encoder *e, int64_t head, int64_t first, int64_t last, uint8_t *own)
{
    const int64_t D = e->query.outputs / e->heads, tokens = (last - first) * r->tokens, from = head * D, place = first * r->tokens;
    const struct codes x = codes_from(&r->codes, place);
    float *q = (float *)(void *)own, *k = q + tokens * D, *v = k + tokens * D, *scratch = v + tokens * D;
    multiply(&e->query, &x, tokens, from, from + D, q, D, 0);
    multiply(&e->key, &x, tokens, from, from + D, k, D, 0);
    multiply(&e->value, &x, tokens, from, from + D, v, D, 0);
    struct attention t = {.q = {q, r->tokens * D, 0, D}, .k = {k, r->tokens * D, 0, D}, .v = {v, r->tokens * D, 0, D},
                          .y = r->context + place * e->query.outputs, .batches = last - first, .heads = e->heads, .queries = r->tokens,
                          .keys = r->tokens, .features = D, .scale = e->attention_scale};
    memcpy(t.mask_strides, r->mask_strides, sizeof t.mask_strides);
    t.mask = r->mask ? r->mask + first * r->mask_strides[0] : NULL;
    for (int64_t sample = 0; sample < last - first; sample++) {
        transpose_keys(k + sample * r->tokens * D, D, r->tokens, D, scratch);
        attend(&t, sample, head, 0, r->tokens, scratch);
    }
}

/* The second step for the tokens [first, last), counted over all samples; also quantizes the result for the next layer. */
static void second_step(const struct encoder_run *r, int64_t layer, int64_t first, int64_t last, uint8_t *own)
{
    const struct xtc_encoder *e = r->layers[layer];
    const float *x = (layer ? r->y : r->x) + first * r->width; /* from the second layer on, y is overwritten in place */
    const int64_t tokens = last - first, width = r->width, hidden = e->down.inputs;
    float *h = (float *)(void *)own, *inner = (float *)(void *)(own + in_lines(4 * TOKENS_OF_A_STEP * width)), *y = r->y + first * width;
    own += in_lines(4 * TOKENS_OF_A_STEP * width) + in_lines(4 * TOKENS_OF_A_STEP * inner_row(e));
    struct codes c = codes_in(&own, TOKENS_OF_A_STEP, most_inputs(e));
    c = quantize_rows(&e->attended, r->context + first * e->attended.inputs, e->attended.inputs, tokens, c);
    multiply(&e->attended, &c, tokens, 0, width, h, width, 0);
    for (int64_t token = 0; token < tokens; token++)
        add_norm_row(h + token * width, x + token * width, e->norms[0], e->norms[1], e->eps[0], width);
    c = quantize_rows(&e->up, h, width, tokens, c);
    multiply(&e->up, &c, tokens, 0, hidden, inner, inner_row(e), 1);
    c = quantize_rows(&e->down, inner, inner_row(e), tokens, c);
    multiply(&e->down, &c, tokens, 0, width, y, width, 0);
    for (int64_t token = 0; token < tokens; token++)
        add_norm_row(y + token * width, h + token * width, e->norms[2], e->norms[3], e->eps[1], width);
    if (layer + 1 < r->count)
        quantize_rows(&r->layers[layer + 1]->query, y, width, tokens, codes_from(&r->codes, first));
}

static void run_encoder(struct encoder_run *r, uint8_t *scratch, int threads)
{
    const int64_t all_tokens = r->batches * r->tokens, own_size = most_of(r->layers, r->count, r->tokens, own_bytes);
    const int64_t some = samples_at_once(r->tokens), groups = (r->batches + some - 1) / some;
    struct progress *progress = (struct progress *)(void *)scratch;
    memset(progress, 0, (size_t)r->count * sizeof *progress);
    scratch += r->count * (int64_t)sizeof *progress;
    r->codes = codes_in(&scratch, all_tokens, r->width);
    r->context = (float *)(void *)scratch;
    scratch += most_of(r->layers, r->count, all_tokens, context_bytes);
    const int team = workers(all_tokens * r->width * r->width, threads);
    /* Pieces of equal size; their number is a multiple of the number of threads. */
    const int64_t pieces = ((all_tokens + TOKENS_OF_A_STEP - 1) / TOKENS_OF_A_STEP + team - 1) / team * team;
    const int64_t piece = (all_tokens + pieces - 1) / pieces;
    int arrived = 0;
#if defined(_OPENMP)
#pragma omp parallel num_threads(team) if (team > 1)
#endif
    {
        int me, all;
        whoami(&me, &all);
        uint8_t *own = scratch + me * own_size;
        const int64_t begin = all_tokens * me / all, end = all_tokens * (me + 1) / all;
        quantize_rows(&r->layers[0]->query, r->x + begin * r->width, r->width, end - begin, codes_from(&r->codes, begin));
        meet(&arrived, all);
        for (int64_t layer = 0; layer < r->count; layer++) {
            const struct xtc_encoder *e = r->layers[layer];
            struct progress *p = progress + layer;
            for (int64_t i, next; take(&p->heads, 1, groups * e->heads, &i, &next);) {
                const int64_t first = i / e->heads * some, last = first + some < r->batches ? first + some : r->batches;
                first_step(r, e, i % e->heads, first, last, own);
            }
            meet(&p->first, all);
            for (int64_t first, last; take(&p->tokens, piece, all_tokens, &first, &last);)
                second_step(r, layer, first, last, own);
            meet(&p->second, all);
        }
    }
}
#endif

#endif
