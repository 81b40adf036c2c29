/* Norms and gates of the common decoder with their gradients, each in one pass over memory where torch makes five to ten.

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
    memcpy(&x, from, count * sizeof(float));
    return x;
}

/* y = silu(gate) up */
void gated(int64_t count, const float *gate, const float *up, float *y, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long start = 0; start < count; start += BLOCK)
        for (long i = start; i < MIN(count, start + BLOCK); i += LANES) {
            long here = MIN(LANES, count - i);
            vec x = some(gate + i, here), found = x * sigmoid(x) * some(up + i, here);
            memcpy(y + i, &found, here * sizeof(float));
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
            vec first = given * some(up + i, here) * slope, second = given * silu;
            memcpy(of_gate + i, &first, here * sizeof(float));
            memcpy(of_up + i, &second, here * sizeof(float));
        }
}
