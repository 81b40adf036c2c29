/* One decoding step of the common decoder: a token of every row goes in, logits come out.

   A step of a small model through torch is mostly calls, copies and passes over memory between them. Here it is one call
   in which only weights, keys and values come from memory, once each. Weights and stored states are float32, or bfloat16
   where WITH_BF16 is set; everything between is float32. Products walk along rows of weights as the model has them, so
   nothing is packed or copied. An output is summed up in an order of its own, whatever else is computed beside it: its
   bits depend neither on the batch nor on the number of threads. Widths are in units of numbers. */

#include "vectors.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS_AT_ONCE 6    /* rows of a tile, and */
#define MORE(weights, rest) CASE(4, weights, rest) CASE(5, weights, rest) CASE(6, weights, rest)
#else
#define ROWS_AT_ONCE 3    /* half as many where there are sixteen registers and not thirty-two */
#define MORE(weights, rest)
#endif
#define WEIGHTS_AT_ONCE 4 /* weights' rows of it: 24 vectors of sums, or 12 */
#define PANEL 8           /* weights' rows that stay in the nearest cache while all rows of the batch meet them */
#define DEPTH 768         /* numbers of a row that are multiplied before sums are stored */
#define MOST_ROWS 16      /* rows of a group that read shared keys together */
#if defined(__AVX512F__)
#define KEPT(x) __asm__("" : "+v"(x)) /* in a register, not loaded anew for every use */
#else
#define KEPT(x)
#endif
#ifdef WITH_BF16
typedef uint16_t number;
#define STRIDE 32 /* numbers that one multiplication takes */
typedef __m512bh factors;
#else
typedef float number;
#define STRIDE LANES
typedef vec factors;
#endif

typedef struct {
    const number *norm, *query, *key, *value, *query_bias, *key_bias, *value_bias, *query_norm, *key_norm, *output;
    const number *inner_norm, *gate, *up, *down;
} Layer;

typedef struct {
    int64_t num_layers, width, heads, shared, size, inner, vocabulary, block;
    double eps;
    const number *embedding, *norm, *output;
    const float *cosine, *sine; /* of one half, by position */
    const Layer *layers;
} Model;

typedef struct {
    number *keys, *values;                          /* blocks, layers, slots, heads, tokens of a block, size */
    int64_t block_stride, layer_stride, slot_stride; /* heads and tokens lie side by side */
    int64_t rows, window, threads;                   /* tokens that a row sees, 0 for all */
    const int64_t *ids, *positions;
    const int64_t *owner, *lent; /* by row: the row whose first so many keys and values it reads in place of its own */
    const int64_t *order;        /* rows, those with one owner side by side */
    float *scratch;
    float *logits;
} Step;

/* ---- numbers ---- */

INLINE float widened(number x) {
#ifdef WITH_BF16
    uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
#else
    return x;
#endif
}

INLINE number narrowed(float x) {
#ifdef WITH_BF16
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64); /* stays no number */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#else
    return x;
#endif
}

INLINE vec loaded(const number *from) {
#ifdef WITH_BF16
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#else
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
#endif
}

/* Asks for numbers that will be read soon. */
INLINE void fetched(const number *from, long count) {
    for (const char *line = (const char *)from; line < (const char *)(from + count); line += 64)
        __builtin_prefetch(line, 0, 3);
}

INLINE factors taken(const number *from) {
    factors x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE factors taken_some(const number *from, long count) {
    number some[STRIDE] = {0};
    memcpy(some, from, count * sizeof(number));
    return taken(some);
}

INLINE vec multiplied(vec sum, factors a, factors b) {
#ifdef WITH_BF16
    return (vec)_mm512_dpbf16_ps((__m512)sum, a, b);
#else
    return plus_product(sum, a, b);
#endif
}

/* ---- products ---- */

/* out[row, weight] (+)= x[row] . w[weight], for up to ROWS_AT_ONCE rows and one or four rows of weights; `rest` is 0 where the
   depth is whole strides. */
INLINE void tile(const int rows, const int weights, const int rest, const number *x, long x_stride, const number *w,
                 long w_stride, long depth, float *out, long out_stride, int adds) {
    vec sums[ROWS_AT_ONCE][WEIGHTS_AT_ONCE];
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < WEIGHTS_AT_ONCE; n++) sums[m][n] = (vec){0};
    long k = 0;
    for (; k + STRIDE <= depth; k += STRIDE) {
        factors of_w[WEIGHTS_AT_ONCE];
        for (int n = 0; n < weights; n++) of_w[n] = taken(w + n * w_stride + k);
        UNROLLED
        for (int m = 0; m < rows; m++) {
            factors of_x = taken(x + m * x_stride + k);
            KEPT(of_x);
            for (int n = 0; n < weights; n++) sums[m][n] = multiplied(sums[m][n], of_x, of_w[n]);
        }
    }
    if (rest)
        for (int m = 0; m < rows; m++)
            for (int n = 0; n < weights; n++)
                sums[m][n] = multiplied(sums[m][n], taken_some(x + m * x_stride + k, depth - k),
                                        taken_some(w + n * w_stride + k, depth - k));
    UNROLLED
    for (int m = 0; m < rows; m++) {
        quad found = summed(sums[m][0], sums[m][1], sums[m][2], sums[m][3]);
        for (int n = 0; n < weights; n++) {
            float *place = out + m * out_stride + n;
            *place = adds ? *place + found[n] : found[n];
        }
    }
}

#define CASE(rows, weights, rest)                                                                               \
    case rows:                                                                                                  \
        for (long n = 0; n < count; n += weights)                                                               \
            tile(rows, weights, rest, x, x_stride, w + n * w_stride, w_stride, depth, out + n, out_stride, adds); \
        break;
#define TILES(name, weights, rest)                                                                              \
    static void name(int rows, const number *x, long x_stride, long count, const number *w, long w_stride,      \
                     long depth, float *out, long out_stride, int adds) {                                       \
        switch (rows) {                                                                                         \
            CASE(1, weights, rest) CASE(2, weights, rest) CASE(3, weights, rest) MORE(weights, rest)            \
        }                                                                                                       \
    }
TILES(four, WEIGHTS_AT_ONCE, 0)
TILES(four_with_rest, WEIGHTS_AT_ONCE, 1)
TILES(one, 1, 0)
TILES(one_with_rest, 1, 1)

/* out[rows, count] (+)= x w^T */
static void product(long rows, const number *x, long x_stride, long count, const number *w, long w_stride, long depth,
                    float *out, long out_stride, int adds) {
    long parts = (depth + DEPTH - 1) / DEPTH, step = depth;
    if (parts > 1) step = ((depth + parts - 1) / parts + STRIDE - 1) / STRIDE * STRIDE;
    long panel = rows > ROWS_AT_ONCE ? PANEL : count;
    for (long k = 0; k < depth; k += step)
        for (long n = 0; n < count; n += panel) {
            long here = MIN(step, depth - k), fours = MIN(panel, count - n) / WEIGHTS_AT_ONCE * WEIGHTS_AT_ONCE;
            int has_rest = here % STRIDE != 0;
            long next = MIN(count, n + panel);
            if (step == depth) fetched(w + next * w_stride, MIN(panel, count - next) * w_stride);
            for (long m = 0; m < rows; m += ROWS_AT_ONCE) {
                const number *x_here = x + m * x_stride + k, *w_here = w + n * w_stride + k;
                float *out_here = out + m * out_stride + n;
                int some = MIN(ROWS_AT_ONCE, rows - m);
                (has_rest ? four_with_rest : four)(some, x_here, x_stride, fours, w_here, w_stride, here, out_here,
                                                   out_stride, adds || k);
                (has_rest ? one_with_rest : one)(some, x_here, x_stride, MIN(panel, count - n) - fours,
                                                 w_here + fours * w_stride, w_stride, here, out_here + fours,
                                                 out_stride, adds || k);
            }
        }
}

/* ---- the parts of a layer, each for the share of one of several threads ---- */

typedef struct {
    long number, of;
} Share;

INLINE void cut(Share me, long count, long unit, long *from, long *to) {
    long units = (count + unit - 1) / unit;
    *from = MIN(count, units * me.number / me.of * unit);
    *to = MIN(count, units * (me.number + 1) / me.of * unit);
}

/* out[rows, outs] (+)= x weight^T (+ bias), a share of the outs. */
static void linear(Share me, long rows, const number *x, long ins, const number *weight, const number *bias, long outs,
                   float *out, long out_stride, int adds) {
    long from, to;
    cut(me, outs, PANEL, &from, &to);
    if (bias)
        for (long m = 0; m < rows; m++)
            for (long n = from; n < to; n++) out[m * out_stride + n] = widened(bias[n]);
    product(rows, x, ins, to - from, weight + from * ins, ins, ins, out + from, out_stride, adds || bias);
}

static float root_of_mean(const float *x, long width, float eps) {
    vec sums = {0};
    float sum = 0;
    long i = 0;
    for (; i + LANES <= width; i += LANES) sums += floats(x + i) * floats(x + i);
    for (; i < width; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf((sum + total_of(sums)) / width + eps);
}

static void normed(Share me, long rows, const float *x, long width, const number *weight, float eps, number *out) {
    long from, to;
    cut(me, rows, 1, &from, &to);
    for (long m = from; m < to; m++) {
        float scale = root_of_mean(x + m * width, width, eps);
        for (long i = 0; i < width; i++) out[m * width + i] = narrowed(x[m * width + i] * scale * widened(weight[i]));
    }
}

/* One head: normed where the family does that, turned by its position, and scaled. */
static void turned(const float *restrict head, long size, const number *restrict norm, float eps,
                   const float *restrict cosine, const float *restrict sine, float factor, number *restrict out) {
    long half = size / 2;
    float scale = norm ? root_of_mean(head, size, eps) : 1.0f;
    for (long i = 0; i < half; i++) {
        float a = head[i] * scale, b = head[half + i] * scale;
        if (norm) a *= widened(norm[i]), b *= widened(norm[half + i]);
        out[i] = narrowed((a * cosine[i] - b * sine[i]) * factor);
        out[half + i] = narrowed((b * cosine[i] + a * sine[i]) * factor);
    }
}

/* Queries out of the projections, scaled; keys and values to their place. */
static void stored(Share me, const Model *m, const Layer *layer, const Step *s, long number_of_layer,
                   const float *projected, number *queries) {
    long from, to, size = m->size, all = m->heads + 2 * m->shared;
    cut(me, s->rows, 1, &from, &to);
    for (long row = from; row < to; row++) {
        const float *heads = projected + row * all * size;
        long position = s->positions[row];
        const float *cosine = m->cosine + position * (size / 2), *sine = m->sine + position * (size / 2);
        for (long h = 0; h < m->heads; h++)
            turned(heads + h * size, size, layer->query_norm, m->eps, cosine, sine, 1.0f / sqrtf(size),
                   queries + (row * m->heads + h) * size);
        long place = position / m->block * s->block_stride + number_of_layer * s->layer_stride + row * s->slot_stride +
                     position % m->block * size;
        for (long h = 0; h < m->shared; h++) {
            long at = place + h * m->block * size;
            turned(heads + (m->heads + h) * size, size, layer->key_norm, m->eps, cosine, sine, 1.0f, s->keys + at);
            const float *value = heads + (m->heads + m->shared + h) * size;
            for (long i = 0; i < size; i++) s->values[at + i] = narrowed(value[i]);
        }
    }
}

/* The place of a row's token in the stored states of one layer and head; up to how far it lies in one piece there. */
INLINE const number *place(const Model *m, const Step *s, const number *states, long layer, long head, long row,
                           long token, long *end) {
    long is_lent = token < s->lent[row], slot = is_lent ? s->owner[row] : row;
    *end = (token / m->block + 1) * m->block;
    if (is_lent) *end = MIN(*end, s->lent[row]);
    return states + token / m->block * s->block_stride + layer * s->layer_stride + slot * s->slot_stride +
           (head * m->block + token % m->block) * m->size;
}

INLINE void softmax(float *x, long count) {
    vec sums = {0}, mosts = spread(x[0]);
    float sum = 0, most = x[0];
    long i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec y = floats(x + i);
        ints is_more = y > mosts;
        mosts = (vec)(((ints)y & is_more) | ((ints)mosts & ~is_more));
    }
    for (; i < count; i++) most = x[i] > most ? x[i] : most;
    for (int lane = 0; lane < LANES; lane++) most = mosts[lane] > most ? mosts[lane] : most;
    i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec e = exponential(floats(x + i) - most);
        memcpy(x + i, &e, sizeof e);
        sums += e;
    }
    for (; i < count; i++) sum += x[i] = exponential(spread(x[i] - most))[0];
    sum += total_of(sums);
    for (i = 0; i < count; i++) x[i] /= sum;
}

/* sums[2][size] += weights[count] values[count, size], even tokens into the first sum and odd ones into the second;
   begins with an even one, so that a cut anywhere else leaves the bits alone. */
INLINE void mixed_in(const float *weights, long count, const number *values, long size, float *sums) {
    long d = 0, even = count / 2 * 2;
    for (; d + 2 * LANES <= size; d += 2 * LANES) {
        vec a = floats(sums + d), b = floats(sums + d + LANES), c = floats(sums + size + d),
            e = floats(sums + size + d + LANES);
        const number *value = values + d;
        for (long t = 0; t < even; t += 2, value += 2 * size) {
            vec x = spread(weights[t]), y = spread(weights[t + 1]);
            a = plus_product(a, x, loaded(value)), b = plus_product(b, x, loaded(value + LANES));
            c = plus_product(c, y, loaded(value + size)), e = plus_product(e, y, loaded(value + size + LANES));
        }
        if (even < count) {
            vec x = spread(weights[even]);
            a = plus_product(a, x, loaded(value)), b = plus_product(b, x, loaded(value + LANES));
        }
        memcpy(sums + d, &a, sizeof a), memcpy(sums + d + LANES, &b, sizeof b);
        memcpy(sums + size + d, &c, sizeof c), memcpy(sums + size + d + LANES, &e, sizeof e);
    }
    for (; d < size; d++)
        for (long t = 0; t < count; t++) sums[t % 2 * size + d] += weights[t] * widened(values[t * size + d]);
}

/* Attention of some rows of one owner and one head of keys: the keys that all of them share meet all of their queries in
   one product, and values are read by all rows while they are in the nearest cache. */
static void attended(const Model *m, const Step *s, long layer, long head, const int64_t *rows, long count,
                     long next_head, long next_row, const number *queries, float *scores, long room, number *out) {
    long group = m->heads / m->shared, size = m->size, owner = s->owner[rows[0]], length = 0, common = 0, end;
    float *sums = scores + MOST_ROWS * group * room;
    number *asking = (number *)(sums + 2 * MOST_ROWS * group * size);
    for (long r = 0; r < count; r++) {
        long row = rows[r];
        memcpy(asking + r * group * size, queries + (row * m->heads + head * group) * size, group * size * sizeof(number));
        length = MAX(length, s->positions[row] + 1);
        if (row != owner) common = common ? MIN(common, s->lent[row]) : s->lent[row];
    }
    for (long t = 0; t < common; t = end) {
        const number *keys = place(m, s, s->keys, layer, head, owner, t, &end);
        end = MIN(end, common);
        product(count * group, asking, size, end - t, keys, size, size, scores + t, room, 0);
    }
    for (long r = 0; r < count; r++) {
        long row = rows[r], seen = s->positions[row] + 1;
        for (long t = common; t < seen; t = end) {
            const number *keys = place(m, s, s->keys, layer, head, row, t, &end);
            end = MIN(end, seen);
            fetched(keys + (s->values - s->keys), (end - t) * size);
            product(group, asking + r * group * size, size, end - t, keys, size, size, scores + r * group * room + t,
                    room, 0);
        }
    }
    for (long r = 0; r < count; r++) {
        long seen = s->positions[rows[r]] + 1, first = s->window && seen > s->window ? seen - s->window : 0;
        for (long g = 0; g < group; g++) {
            float *mine = scores + (r * group + g) * room;
            memset(mine, 0, first * sizeof(float));
            softmax(mine + first, seen - first);
        }
    }
    memset(sums, 0, 2 * count * group * size * sizeof(float));
    for (long token = 0, next = 0; token < length; token = next) {
        next = (token / m->block + 1) * m->block;
        for (long r = 0; r < count; r++) {
            long row = rows[r], seen = MIN(next, s->positions[row] + 1);
            for (long t = token; t < seen; t = end) {
                const number *values = place(m, s, s->values, layer, head, row, t, &end);
                end = MIN(end, seen);
                if (next_row >= 0 && t <= s->positions[next_row]) {
                    long last;
                    fetched(place(m, s, s->keys, layer, next_head, next_row, t, &last), (end - t) * size);
                }
                for (long g = 0; g < group; g++)
                    mixed_in(scores + (r * group + g) * room + t, end - t, values, size,
                             sums + 2 * (r * group + g) * size);
            }
        }
    }
    for (long r = 0; r < count; r++)
        for (long g = 0; g < group; g++) {
            const float *even = sums + 2 * (r * group + g) * size;
            number *mine = out + (rows[r] * m->heads + head * group + g) * size;
            for (long i = 0; i < size; i++) mine[i] = narrowed(even[i] + even[size + i]);
        }
}

static void gated(Share me, long rows, const float *gate_and_up, long inner, number *out) {
    long from, to;
    cut(me, rows, 1, &from, &to);
    for (long row = from; row < to; row++) {
        const float *gate = gate_and_up + row * 2 * inner, *up = gate + inner;
        number *mine = out + row * inner;
        long i = 0;
        for (; i + LANES <= inner; i += LANES) {
            vec x = floats(gate + i), y = x / (1.0f + exponential(-x)) * floats(up + i);
            for (int lane = 0; lane < LANES; lane++) mine[i + lane] = narrowed(y[lane]);
        }
        for (; i < inner; i++) mine[i] = narrowed(gate[i] / (1.0f + exponential(spread(-gate[i]))[0]) * up[i]);
    }
}

/* Parts of the scratch memory, in floats. */
typedef struct {
    long hidden, wide, input, queries, of_thread, all;
} Room;

static Room room_of(const Model *m, long rows, long threads, long positions) {
    Room room;
    long heads = m->heads * m->size, projected = (m->heads + 2 * m->shared) * m->size;
    room.hidden = rows * m->width;
    room.wide = rows * MAX(projected, 2 * m->inner);
    room.input = rows * MAX(MAX(m->width, heads), m->inner);
    room.queries = rows * heads;
    room.of_thread = MOST_ROWS * (m->heads / m->shared) * (positions + 3 * m->size);
    room.all = room.hidden + room.wide + room.input + room.queries + threads * room.of_thread;
    return room;
}

/* Floats that a step needs beside the logits. */
int64_t scratch_floats(const Model *m, int64_t rows, int64_t threads, int64_t positions) {
    return room_of(m, rows, threads, positions).all;
}

/* The step; `positions` is more than that of any row. */
void decode(const Model *m, const Step *s, int64_t positions) {
    long rows = s->rows, width = m->width, size = m->size, inner = m->inner, all = (m->heads + 2 * m->shared) * size;
    Room room = room_of(m, rows, s->threads, positions);
    float *hidden = s->scratch, *wide = hidden + room.hidden;
    number *input = (number *)(wide + room.wide), *queries = (number *)(wide + room.wide + room.input);
    float *scores = wide + room.wide + room.input + room.queries;
    long runs = 0, starts[rows + 1];
    for (long r = 0; r < rows; r++)
        if (!runs || r - starts[runs - 1] == MOST_ROWS || s->owner[s->order[r]] != s->owner[s->order[r - 1]])
            starts[runs++] = r;
    starts[runs] = rows;

#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
    {
        Share me = {0, 1};
#ifdef _OPENMP
        me.number = omp_get_thread_num(), me.of = omp_get_num_threads();
#endif
        float *mine = scores + me.number * room.of_thread;
        long from, to;
        cut(me, rows, 1, &from, &to);
        for (long row = from; row < to; row++)
            for (long i = 0; i < width; i++) hidden[row * width + i] = widened(m->embedding[s->ids[row] * width + i]);
#pragma omp barrier
        for (long number_of_layer = 0; number_of_layer < m->num_layers; number_of_layer++) {
            const Layer *layer = m->layers + number_of_layer;
            long of_keys = m->heads * size, of_values = of_keys + m->shared * size;
            normed(me, rows, hidden, width, layer->norm, m->eps, input);
#pragma omp barrier
            linear(me, rows, input, width, layer->query, layer->query_bias, of_keys, wide, all, 0);
            linear(me, rows, input, width, layer->key, layer->key_bias, m->shared * size, wide + of_keys, all, 0);
            linear(me, rows, input, width, layer->value, layer->value_bias, m->shared * size, wide + of_values, all, 0);
#pragma omp barrier
            stored(me, m, layer, s, number_of_layer, wide, queries);
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
            for (long job = 0; job < runs * m->shared; job++) {
                long run = job / m->shared, next = (job + 1) / m->shared;
                attended(m, s, number_of_layer, job % m->shared, s->order + starts[run], starts[run + 1] - starts[run],
                         (job + 1) % m->shared, next < runs ? s->order[starts[next]] : -1, queries, mine, positions,
                         input);
            }
            linear(me, rows, input, m->heads * size, layer->output, 0, width, hidden, width, 1);
#pragma omp barrier
            normed(me, rows, hidden, width, layer->inner_norm, m->eps, input);
#pragma omp barrier
            linear(me, rows, input, width, layer->gate, 0, inner, wide, 2 * inner, 0);
            linear(me, rows, input, width, layer->up, 0, inner, wide + inner, 2 * inner, 0);
#pragma omp barrier
            gated(me, rows, wide, inner, input);
#pragma omp barrier
            linear(me, rows, input, inner, layer->down, 0, width, hidden, width, 1);
#pragma omp barrier
        }
        normed(me, rows, hidden, width, m->norm, m->eps, input);
#pragma omp barrier
        linear(me, rows, input, width, m->output, 0, m->vocabulary, s->logits, m->vocabulary, 0);
    }
}

/* ---- drawing ---- */

#define WORDS 64 /* probabilities that are summed up before they are added to the rest, in double precision */

typedef struct {
    int64_t rows, vocabulary, threads;
    const float *logits, *temperatures; /* by row; 0 draws the most likely token */
    const double *uniforms;
    float *scratch; /* a vocabulary and its blocks, for each thread */
    int64_t *tokens;
    double *logprobs;
} Draw;

int64_t draw_floats(int64_t vocabulary, int64_t threads) { return threads * (vocabulary + 2 * WORDS + vocabulary / 16); }

/* A token of each row, by inverting the cumulative distribution of softmax(logits / temperature), and its logarithm. */
void draw(const Draw *d) {
    long size = d->vocabulary;
#pragma omp parallel for num_threads(d->threads) if (d->threads > 1)
    for (long row = 0; row < d->rows; row++) {
        long thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        double *blocks = (double *)d->scratch + draw_floats(size, 1) / 2 * thread, total = 0;
        float *shares = (float *)(blocks + size / WORDS + 1), *logits = (float *)d->logits + row * size;
        float temperature = d->temperatures[row] ? d->temperatures[row] : 1.0f, most = logits[0] / temperature;
        long best = 0, token;
        for (long i = 0; i < size; i++) shares[i] = logits[i] / temperature;
        vec mosts = spread(most);
        for (long i = 0; i + LANES <= size; i += LANES) {
            vec x = floats(shares + i);
            ints is_more = x > mosts;
            mosts = (vec)(((ints)x & is_more) | ((ints)mosts & ~is_more));
        }
        for (int lane = 0; lane < LANES; lane++) most = MAX(most, mosts[lane]);
        for (long i = size / LANES * LANES; i < size; i++) most = MAX(most, shares[i]);
        while (best < size - 1 && shares[best] != most) best++;
        for (long block = 0, start = 0; start < size; block++, start += WORDS) {
            long end = MIN(size, start + WORDS), i = start;
            vec sums = {0};
            float sum = 0;
            for (; i + LANES <= end; i += LANES) {
                vec e = exponential(floats(shares + i) - most);
                memcpy(shares + i, &e, sizeof e);
                sums += e;
            }
            for (; i < end; i++) sum += shares[i] = exponential(spread(shares[i] - most))[0];
            blocks[block] = sum + total_of(sums);
            total += blocks[block];
        }
        if (d->temperatures[row] == 0) {
            token = best;
        } else {
            double wanted = d->uniforms[row] * total;
            long block = 0, last = (size - 1) / WORDS;
            for (; block < last && wanted >= blocks[block]; block++) wanted -= blocks[block];
            token = block * WORDS;
            for (long end = MIN(size, token + WORDS) - 1; token < end && wanted >= shares[token]; token++)
                wanted -= shares[token];
            while (token > 0 && shares[token] == 0) token--; /* one without probability is never drawn */
        }
        d->tokens[row] = token;
        d->logprobs[row] = logits[token] / temperature - most - log(total);
    }
}
