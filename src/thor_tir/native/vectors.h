/* Vectors of GCC and clang, which any processor's instructions make up, and what the C files here do with them. */

#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdint.h>
#include <string.h>

#define LANES 16
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define UNROLLED _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float quad __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

INLINE vec floats(const float *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE vec spread(float x) { return x - (vec){0}; }

/* e to the x, to a unit or two of the last place; 0 below -87, as at 88 above, and no number stays none. */
INLINE vec exponential(vec x) {
    ints low = x < -87.0f, high = x > 88.0f;
    x = (vec)(((ints)x & ~low & ~high) | ((ints)spread(-87.0f) & low) | ((ints)spread(88.0f) & high));
    vec shifted = x * 1.44269504f + 12582912.0f; /* rounds: the lowest bits hold the whole number */
    ints whole = (ints)shifted - 0x4b400000;
    vec count = shifted - 12582912.0f;
    vec r = x - count * 0.693359375f + count * 2.12194440e-4f;
    vec y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return (vec)((ints)(y * (vec)((whole + 127) << 23)) & ~low);
}

#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define ODD(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

/* The sums of the lanes of four vectors. */
INLINE quad summed(vec a, vec b, vec c, vec d) {
    vec ab = LOW(a, b) + HIGH(a, b), cd = LOW(c, d) + HIGH(c, d);
    vec all = EVEN(ab, cd) + ODD(ab, cd);
    typedef float half __attribute__((vector_size(32)));
    half halves = __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7) +
                  __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(halves, halves, 0, 1, 2, 3) + __builtin_shufflevector(halves, halves, 4, 5, 6, 7);
}

INLINE float total_of(vec x) { return summed(x, x, x, x)[0]; }
