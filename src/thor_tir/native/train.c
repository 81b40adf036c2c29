/* Norms, gates and attention of the common decoder with their gradients, each in one pass over memory where torch makes
   five to ten.

   Sums over rows are made in chunks that do not depend on the number of threads, and nor do the bits. */

#include "vectors.h"

#define CHUNKS 16 /* parts of all rows, each with a sum of its own for the gradient of a norm's weight */

INLINE void put(float *to, vec x) { memcpy(to, &x, sizeof x); }

int64_t chunks(void) { return CHUNKS; }

/* y = x w / sqrt(mean(x^2) + eps) by rows, and the factors of the rows. */
void norm(int64_t rows, int64_t width, double eps, const float *x, const float *w, float *y, float *factors,
          int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        const float *from = x + row * width;
        float *to = y + row * width, rest = 0, factor;
        vec sums = {0};
        long i = 0;
        for (; i + LANES <= width; i += LANES) sums += floats(from + i) * floats(from + i);
        for (; i < width; i++) rest += from[i] * from[i];
        factors[row] = factor = 1.0f / sqrtf((rest + total_of(sums)) / width + (float)eps);
        for (i = 0; i + LANES <= width; i += LANES) put(to + i, floats(from + i) * factor * floats(w + i));
        for (; i < width; i++) to[i] = from[i] * factor * w[i];
    }
}

/* The gradients of x, and of w in CHUNKS parts that are to be added. */
void norm_gradient(int64_t rows, int64_t width, const float *x, const float *w, const float *factors, const float *grad,
                   float *of_x, float *of_w, int64_t threads) {
    memset(of_w, 0, CHUNKS * width * sizeof(float));
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long chunk = 0; chunk < CHUNKS; chunk++) {
        float *part = of_w + chunk * width;
        for (long row = rows * chunk / CHUNKS; row < rows * (chunk + 1) / CHUNKS; row++) {
            const float *from = x + row * width, *given = grad + row * width;
            float *to = of_x + row * width, factor = factors[row], rest = 0, along;
            vec sums = {0};
            long i = 0;
            for (; i + LANES <= width; i += LANES) {
                vec product = floats(given + i) * floats(from + i);
                sums += product * floats(w + i);
                put(part + i, floats(part + i) + product * factor);
            }
            for (; i < width; i++) {
                rest += given[i] * from[i] * w[i];
                part[i] += given[i] * from[i] * factor;
            }
            along = (rest + total_of(sums)) * factor * factor / width;
            for (i = 0; i + LANES <= width; i += LANES)
                put(to + i, (floats(given + i) * floats(w + i) - floats(from + i) * along) * factor);
            for (; i < width; i++) to[i] = (given[i] * w[i] - from[i] * along) * factor;
        }
    }
}

#define BLOCK 4096 /* numbers that a thread takes at a time */

INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exponential(-x)); }

/* Some numbers as a vector, zeros behind them. */
INLINE vec some(const float *from, long count) {
    vec x = {0};
    if (count == LANES) return floats(from);
    memcpy(&x, from, count * sizeof(float));
    return x;
}

INLINE void put_some(float *to, vec x, long count) {
    if (count == LANES) put(to, x);
    else memcpy(to, &x, count * sizeof(float));
}

/* y = silu(gate) up */
void gated(int64_t count, const float *gate, const float *up, float *y, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long start = 0; start < count; start += BLOCK)
        for (long i = start; i < MIN(count, start + BLOCK); i += LANES) {
            long here = MIN(LANES, count - i);
            vec x = some(gate + i, here);
            put_some(y + i, x * sigmoid(x) * some(up + i, here), here);
        }
}

void gated_gradient(int64_t count, const float *gate, const float *up, const float *grad, float *of_gate, float *of_up,
                    int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long start = 0; start < count; start += BLOCK)
        for (long i = start; i < MIN(count, start + BLOCK); i += LANES) {
            long here = MIN(LANES, count - i);
            vec x = some(gate + i, here), given = some(grad + i, here), share = sigmoid(x);
            vec silu = x * share, slope = share * (1.0f + x - silu);
            put_some(of_gate + i, given * some(up + i, here) * slope, here);
            put_some(of_up + i, given * silu, here);
        }
}

/* ---- causal attention with its gradient, of projections as they come from their products ----

   A job is a row with one head of keys and all heads of queries that share it: heads are normed, turned, multiplied,
   mixed and, backwards, taken the same way back while they are in the nearest caches. Scores lie with queries side by
   side, so that a softmax adds vectors up. */

#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE 8    /* rows of a tile of sums, two vectors wide: half of the registers */
#else
#define TILE 4
#endif
#define WIDE 32   /* queries that are taken at once */
#define DEEP _Pragma("GCC unroll 8")
#define SIXTEEN _Pragma("GCC unroll 16")

typedef struct {
    int64_t rows, length, heads, shared, size, angle_stride, threads; /* angles may be the same for all rows: 0 */
    double eps, scale;
    const float *query, *key, *value, *query_norm, *key_norm, *cosine, *sine; /* norms may be missing */
    float *mixed, *logsum;                                                   /* the latter by row, head and query */
    const float *grad;
    float *of_query, *of_key, *of_value, *of_norms; /* the last by job, queries' and keys' */
    float *scratch;
} Attention;

/* out[rows, width] (+)= a b, where rows are whole tiles and the width is whole pairs of vectors */
INLINE void times(const long rows, long depth, long width, const float *a, const long a_row, const long a_step,
                  const float *b, long b_stride, float *out, long out_stride, const int adds) {
    for (long n = 0; n < width; n += 2 * LANES)
        for (long m = 0; m < rows; m += TILE) {
            vec sums[TILE][2];
            float *place = out + m * out_stride + n;
            DEEP for (int r = 0; r < TILE; r++) {
                sums[r][0] = adds ? floats(place + r * out_stride) : (vec){0};
                sums[r][1] = adds ? floats(place + r * out_stride + LANES) : (vec){0};
            }
            const float *of_a = a + m * a_row, *of_b = b + n;
            for (long k = 0; k < depth; k++, of_a += a_step, of_b += b_stride) {
                vec first = floats(of_b), second = floats(of_b + LANES);
                DEEP for (int r = 0; r < TILE; r++) {
                    vec x = spread(of_a[r * a_row]);
                    sums[r][0] = plus_product(sums[r][0], x, first), sums[r][1] = plus_product(sums[r][1], x, second);
                }
            }
            DEEP for (int r = 0; r < TILE; r++) {
                put(place + r * out_stride, sums[r][0]), put(place + r * out_stride + LANES, sums[r][1]);
            }
        }
}

static float dot(const float *a, const float *b, long count) {
    vec sums = {0};
    float rest = 0;
    long i = 0;
    for (; i + LANES <= count; i += LANES) sums += floats(a + i) * floats(b + i);
    for (; i < count; i++) rest += a[i] * b[i];
    return rest + total_of(sums);
}

/* A vector, or as much of one as is left where sizes are not whole vectors. */
#define PIECE(from) (whole ? floats(from) : some(from, MIN(LANES, half - i)))
#define PUT(to, x) put_some(to, x, whole ? LANES : MIN(LANES, half - i))
#define EACH for (long i = 0; i < half; i += LANES)

/* A head of one token: normed where the family does that, turned by its position, and scaled. */
INLINE void turned_by(const int whole, const int is_normed, long half, double eps, const float *head, const float *norm,
                      const float *cosine, const float *sine, float scale, float *out) {
    if (is_normed) scale /= sqrtf(dot(head, head, 2 * half) / (2 * half) + (float)eps);
    EACH {
        vec x = PIECE(head + i) * scale, y = PIECE(head + half + i) * scale, c = PIECE(cosine + i), s = PIECE(sine + i);
        if (is_normed) x *= PIECE(norm + i), y *= PIECE(norm + half + i);
        PUT(out + i, x * c - y * s);
        PUT(out + half + i, y * c + x * s);
    }
}

static void turned(const Attention *a, const float *head, const float *norm, const float *cosine, const float *sine,
                   float scale, float *out) {
    long half = a->size / 2;
    if (half % LANES) turned_by(0, norm != 0, half, a->eps, head, norm, cosine, sine, scale, out);
    else if (norm) turned_by(1, 1, half, a->eps, head, norm, cosine, sine, scale, out);
    else turned_by(1, 0, half, a->eps, head, norm, cosine, sine, scale, out);
}

/* The way back; `grad` is that of what came out, and is used up. */
INLINE void turned_back_by(const int whole, const int is_normed, long half, double eps, const float *head,
                           const float *norm, const float *cosine, const float *sine, float scale, float *grad,
                           float *of_head, float *of_norm) {
    long size = 2 * half;
    float factor = is_normed ? 1.0f / sqrtf(dot(head, head, size) / size + (float)eps) : 1.0f, along = 0;
    EACH {
        vec x = PIECE(grad + i) * scale, y = PIECE(grad + half + i) * scale, c = PIECE(cosine + i), s = PIECE(sine + i);
        vec first = x * c + y * s, second = y * c - x * s;
        if (is_normed) {
            PUT(of_norm + i, PIECE(of_norm + i) + first * PIECE(head + i) * factor);
            PUT(of_norm + half + i, PIECE(of_norm + half + i) + second * PIECE(head + half + i) * factor);
            first *= PIECE(norm + i), second *= PIECE(norm + half + i);
        }
        PUT(grad + i, first);
        PUT(grad + half + i, second);
    }
    if (is_normed) along = dot(grad, head, size) * factor * factor / size;
    EACH {
        PUT(of_head + i, (PIECE(grad + i) - PIECE(head + i) * along) * factor);
        PUT(of_head + half + i, (PIECE(grad + half + i) - PIECE(head + half + i) * along) * factor);
    }
}

static void turned_back(const Attention *a, const float *head, const float *norm, const float *cosine, const float *sine,
                        float scale, float *grad, float *of_head, float *of_norm) {
    long half = a->size / 2;
    if (half % LANES) turned_back_by(0, norm != 0, half, a->eps, head, norm, cosine, sine, scale, grad, of_head, of_norm);
    else if (norm) turned_back_by(1, 1, half, a->eps, head, norm, cosine, sine, scale, grad, of_head, of_norm);
    else turned_back_by(1, 0, half, a->eps, head, norm, cosine, sine, scale, grad, of_head, of_norm);
}

/* [WIDE, width] to [width, WIDE], squares of LANES: as often as halving takes, the first vectors between the last. */
static void transposed(const float *from, long width, float *to) {
    for (long d = 0; d < width; d += LANES)
        for (long m = 0; m < WIDE; m += LANES) {
            vec x[LANES], y[LANES];
            SIXTEEN for (int i = 0; i < LANES; i++) x[i] = floats(from + (m + i) * width + d);
            SIXTEEN for (int turn = 0; turn < TURNS; turn++) {
                SIXTEEN for (int i = 0; i < LANES / 2; i++) {
                    y[2 * i] = FIRST(x[i], x[i + LANES / 2]);
                    y[2 * i + 1] = LAST(x[i], x[i + LANES / 2]);
                }
                SIXTEEN for (int i = 0; i < LANES; i++) x[i] = y[i];
            }
            SIXTEEN for (int i = 0; i < LANES; i++) put(to + (d + i) * WIDE + m, x[i]);
        }
}

/* Parts of a thread's scratch memory: [length, size] of keys and values, then what one block of queries needs. */
typedef struct {
    long length, size; /* padded with zeros to whole tiles */
    float *key, *value, *of_key, *of_value, *query, *sideways, *grad, *grad_sideways, *other, *score, *of_score;
} Desk;

static Desk desk_of(const Attention *a, long thread) {
    long length = (a->length + WIDE - 1) / WIDE * WIDE, size = (a->size + WIDE - 1) / WIDE * WIDE;
    long of_keys = length * size, of_queries = WIDE * size, of_scores = length * WIDE;
    float *at = a->scratch + thread * (4 * of_keys + 5 * of_queries + 2 * of_scores);
    Desk desk = {.length = length, .size = size};
    float **keys[] = {&desk.key, &desk.value, &desk.of_key, &desk.of_value};
    float **queries[] = {&desk.query, &desk.sideways, &desk.grad, &desk.grad_sideways, &desk.other};
    for (int i = 0; i < 4; i++, at += of_keys) *keys[i] = at;
    for (int i = 0; i < 5; i++, at += of_queries) *queries[i] = at;
    desk.score = at, desk.of_score = at + of_scores;
    return desk;
}

int64_t attention_floats(const Attention *a) { return a->threads * (desk_of(a, 1).key - a->scratch); }

static void keys_laid(const Attention *a, const Desk *desk, long row, long head) {
    memset(desk->key, 0, 2 * desk->length * desk->size * sizeof(float));
    for (long t = 0; t < a->length; t++) {
        long from = ((row * a->length + t) * a->shared + head) * a->size, angle = row * a->angle_stride + t * a->size;
        turned(a, a->key + from, a->key_norm, a->cosine + angle, a->sine + angle, 1, desk->key + t * desk->size);
        memcpy(desk->value + t * desk->size, a->value + from, a->size * sizeof(float));
    }
}

/* The queries of a block lie upright and sideways; their scores with all keys up to the last of them. */
static void scored(const Attention *a, const Desk *desk, long row, long head, long start) {
    memset(desk->query, 0, WIDE * desk->size * sizeof(float));
    for (long t = start; t < MIN(a->length, start + WIDE); t++) {
        long from = ((row * a->length + t) * a->heads + head) * a->size, angle = row * a->angle_stride + t * a->size;
        turned(a, a->query + from, a->query_norm, a->cosine + angle, a->sine + angle, a->scale,
               desk->query + (t - start) * desk->size);
    }
    transposed(desk->query, desk->size, desk->sideways);
    times(start + WIDE, desk->size, WIDE, desk->key, desk->size, 1, desk->sideways, WIDE, desk->score, WIDE, 0);
}

/* Where a key stands behind a query of the block, nothing is seen. */
INLINE vec seen(vec x, long key, long query, float otherwise) {
    static const int32_t counted[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ints lane;
    memcpy(&lane, counted, sizeof lane);
    ints is_seen = lane >= (int)(key - query);
    return (vec)(((ints)x & is_seen) | ((ints)spread(otherwise) & ~is_seen));
}

void attention(const Attention *a) {
#pragma omp parallel for num_threads(a->threads) if (a->threads > 1)
    for (long job = 0; job < a->rows * a->shared; job++) {
        long row = job / a->shared, shared = job % a->shared, group = a->heads / a->shared, thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        Desk desk = desk_of(a, thread);
        keys_laid(a, &desk, row, shared);
        for (long head = shared * group; head < (shared + 1) * group; head++)
            for (long start = 0; start < a->length; start += WIDE) {
                float *logsum = a->logsum + (row * a->heads + head) * desk.length + start, shares[WIDE];
                scored(a, &desk, row, head, start);
                for (long part = 0; part < WIDE; part += LANES) {
                    float *scores = desk.score + part;
                    vec most = spread(-INFINITY), sum = {0};
                    for (long t = 0; t < start + WIDE; t++) {
                        vec x = floats(scores + t * WIDE);
                        if (t > start) put(scores + t * WIDE, x = seen(x, t, start + part, -INFINITY));
                        ints is_more = x > most;
                        most = (vec)(((ints)x & is_more) | ((ints)most & ~is_more));
                    }
                    for (long t = 0; t < start + WIDE; t++) {
                        vec x = exponential(floats(scores + t * WIDE) - most);
                        put(scores + t * WIDE, x);
                        sum += x;
                    }
                    for (int lane = 0; lane < LANES; lane++) {
                        logsum[part + lane] = most[lane] + logf(sum[lane]);
                        shares[part + lane] = 1.0f / sum[lane];
                    }
                }
                times(WIDE, start + WIDE, desk.size, desk.score, 1, WIDE, desk.value, desk.size, desk.other, desk.size, 0);
                for (long t = start; t < MIN(a->length, start + WIDE); t++) {
                    float *out = a->mixed + ((row * a->length + t) * a->heads + head) * a->size;
                    const float *found = desk.other + (t - start) * desk.size;
                    for (long i = 0; i < a->size; i++) out[i] = found[i] * shares[t - start];
                }
            }
    }
}

void attention_gradient(const Attention *a) {
#pragma omp parallel for num_threads(a->threads) if (a->threads > 1)
    for (long job = 0; job < a->rows * a->shared; job++) {
        long row = job / a->shared, shared = job % a->shared, group = a->heads / a->shared, size = a->size, thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        Desk desk = desk_of(a, thread);
        float *of_norms = a->of_norms + job * 2 * size;
        memset(of_norms, 0, 2 * size * sizeof(float));
        keys_laid(a, &desk, row, shared);
        memset(desk.of_key, 0, 2 * desk.length * desk.size * sizeof(float));
        for (long head = shared * group; head < (shared + 1) * group; head++)
            for (long start = 0; start < a->length; start += WIDE) {
                const float *logsum = a->logsum + (row * a->heads + head) * desk.length + start;
                float alike[WIDE] = {0};
                long end = start + WIDE, last = MIN(a->length, end);
                scored(a, &desk, row, head, start);
                memset(desk.grad, 0, WIDE * desk.size * sizeof(float));
                for (long t = start; t < last; t++) {
                    long from = ((row * a->length + t) * a->heads + head) * size;
                    memcpy(desk.grad + (t - start) * desk.size, a->grad + from, size * sizeof(float));
                    alike[t - start] = dot(a->grad + from, a->mixed + from, size);
                }
                transposed(desk.grad, desk.size, desk.grad_sideways);
                times(end, desk.size, WIDE, desk.value, desk.size, 1, desk.grad_sideways, WIDE, desk.of_score, WIDE, 0);
                for (long part = 0; part < WIDE; part += LANES)
                    for (long t = 0; t < end; t++) {
                        float *score = desk.score + t * WIDE + part, *of_score = desk.of_score + t * WIDE + part;
                        vec x = exponential(floats(score) - floats(logsum + part));
                        if (t > start) x = seen(x, t, start + part, 0);
                        put(score, x), put(of_score, x * (floats(of_score) - floats(alike + part)));
                    }
                times(end, WIDE, desk.size, desk.score, WIDE, 1, desk.grad, desk.size, desk.of_value, desk.size, 1);
                times(end, WIDE, desk.size, desk.of_score, WIDE, 1, desk.query, desk.size, desk.of_key, desk.size, 1);
                times(WIDE, end, desk.size, desk.of_score, 1, WIDE, desk.key, desk.size, desk.other, desk.size, 0);
                for (long t = start; t < last; t++) {
                    long from = ((row * a->length + t) * a->heads + head) * size, angle = row * a->angle_stride + t * size;
                    turned_back(a, a->query + from, a->query_norm, a->cosine + angle, a->sine + angle, a->scale,
                                desk.other + (t - start) * desk.size, a->of_query + from, of_norms);
                }
            }
        for (long t = 0; t < a->length; t++) {
            long from = ((row * a->length + t) * a->shared + shared) * size, angle = row * a->angle_stride + t * size;
            turned_back(a, a->key + from, a->key_norm, a->cosine + angle, a->sine + angle, 1,
                        desk.of_key + t * desk.size, a->of_key + from, of_norms + size);
            memcpy(a->of_value + from, desk.of_value + t * desk.size, size * sizeof(float));
        }
    }
}
