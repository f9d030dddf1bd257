/* The data structures of an encoder layer, and the layout of its scratch memory. */
#ifndef XTC_ENCODER_MEMORY_H
#define XTC_ENCODER_MEMORY_H

#include "attention.h"
#include "layout.h"

/* A linear layer. tiles, sums: from xtc_tile. x_scale: scale of a static input range; negative for one dynamic scale per token. */
struct xtc_weight {
    const uint8_t *tiles;
    const int32_t *sums;
    const float *scale, *bias;
    int64_t inputs, outputs;
    int32_t bits, mul, off, x_bits;
    float x_scale;
};

/* query, key and value have the same x_bits and x_scale. norms: weight and bias of the first layer norm, then of the second. */
struct xtc_encoder {
    struct xtc_weight query, key, value, attended, up, down;
    const float *norms[4];
    float eps[2], attention_scale;
    int32_t heads;
};

#define TOKENS_OF_A_STEP 64    /* tokens per piece of the second step: the hidden features between up and down fit the cache */
#define TOKENS_OF_A_HEAD 128   /* tokens per piece of the first step: as many samples as fit in this many tokens */

/* Quantized inputs of a layer. */
struct codes {
    uint8_t *u8;
    int32_t *sums;
    float *scales;
    int64_t stride;
};

/* Progress counters of the threads in one layer, on a cache line of their own. */
struct progress {
    int64_t heads, tokens;
    int32_t first, second;
    uint8_t rest[40];
};

static inline int64_t in_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }
static inline int64_t codes_bytes(int64_t tokens, int64_t inputs) { return in_lines(tokens * stride_of(inputs)) + 2 * in_lines(4 * tokens); }

/* Takes memory for the codes of `tokens` tokens from `memory` and advances it. */
static struct codes codes_in(uint8_t **memory, int64_t tokens, int64_t inputs)
{
    uint8_t *u8 = *memory, *sums = u8 + in_lines(tokens * stride_of(inputs)), *scales = sums + in_lines(4 * tokens);
    *memory = scales + in_lines(4 * tokens);
    return (struct codes){u8, (int32_t *)(void *)sums, (float *)(void *)scales, stride_of(inputs)};
}

/* The codes from `token` on. */
static inline struct codes codes_from(const struct codes *c, int64_t token)
{
    return (struct codes){c->u8 + token * c->stride, c->sums + token, c->scales + token, c->stride};
}

static inline int64_t samples_at_once(int64_t tokens) { return tokens < TOKENS_OF_A_HEAD ? TOKENS_OF_A_HEAD / tokens : 1; }

/* Row stride of the hidden features between up and down: with a power of two, rows would compete for few cache sets. */
static inline int64_t inner_row(const struct xtc_encoder *e) { return e->down.inputs + 16; }

static int64_t most_inputs(const struct xtc_encoder *e)
{
    const int64_t some = e->query.inputs > e->attended.inputs ? e->query.inputs : e->attended.inputs;
    return some > e->down.inputs ? some : e->down.inputs;
}

/* Bytes of a thread's scratch memory in the first and in the second step. */
static int64_t first_step_bytes(const struct xtc_encoder *e, int64_t tokens)
{
    const int64_t features = e->query.outputs / e->heads;
    return in_lines((3 * samples_at_once(tokens) * tokens * features + attention_floats(tokens, features)) * 4);
}

static int64_t second_step_bytes(const struct xtc_encoder *e)
{
    const int64_t tokens = TOKENS_OF_A_STEP, width = e->query.inputs;
    return in_lines(4 * tokens * width) + in_lines(4 * tokens * inner_row(e)) + codes_bytes(tokens, most_inputs(e));
}

static int64_t own_bytes(const struct xtc_encoder *e, int64_t tokens)
{
    const int64_t one = first_step_bytes(e, tokens), two = second_step_bytes(e);
    return in_lines(one > two ? one : two);
}

/* The maximum of `of` over all layers. */
static int64_t most_of(const struct xtc_encoder *const *layers, int64_t count, int64_t tokens, int64_t of(const struct xtc_encoder *, int64_t))
{
    int64_t most = 0;
    for (int64_t i = 0; i < count; i++)
        most = of(layers[i], tokens) > most ? of(layers[i], tokens) : most;
    return most;
}

static int64_t context_bytes(const struct xtc_encoder *e, int64_t tokens) { return in_lines(4 * tokens * e->query.outputs); }

/* Bytes of scratch memory that xtc_encoder_layers needs. */
int64_t xtc_encoder_scratch_bytes(const struct xtc_encoder *const *layers, int64_t count, int64_t batches, int64_t tokens, int threads)
{
    return count * (int64_t)sizeof(struct progress) + codes_bytes(batches * tokens, layers[0]->query.inputs) +
           most_of(layers, count, batches * tokens, context_bytes) + threads * most_of(layers, count, tokens, own_bytes);
}

#endif
