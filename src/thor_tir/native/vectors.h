/* Vectors of GCC and clang, as long as one register of the processor, and what the C files here do with them. Longer ones
   are right everywhere, but GCC passes their halves through memory: products then take nine times as long. */

#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
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

/* sum + a b, rounded once on x86 and ARM where the processor can: left to GCC, that depends on the loop around it, as it
   parts some of these chains where it thinks them slow. */
INLINE vec plus_product(vec sum, vec a, vec b) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return sum + a * b;
#endif
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

/* Lanes of two vectors: by twos from every four for sums, and by turns from their first and last halves. */
#define MIXED __builtin_shufflevector
#if LANES == 16
#define LOW(a, b) MIXED(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH(a, b) MIXED(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define EVEN(a, b) MIXED(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define ODD(a, b) MIXED(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define FIRST(a, b) MIXED(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define LAST(a, b) MIXED(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define TURNS 4 /* its logarithm */
#elif LANES == 8
#define LOW(a, b) MIXED(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(a, b) MIXED(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define EVEN(a, b) MIXED(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define ODD(a, b) MIXED(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define FIRST(a, b) MIXED(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define LAST(a, b) MIXED(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define TURNS 3
#else
#define LOW(a, b) MIXED(a, b, 0, 4, 1, 5)
#define HIGH(a, b) MIXED(a, b, 2, 6, 3, 7)
#define EVEN(a, b) MIXED(a, b, 0, 1, 4, 5)
#define ODD(a, b) MIXED(a, b, 2, 3, 6, 7)
#define FIRST(a, b) MIXED(a, b, 0, 4, 1, 5)
#define LAST(a, b) MIXED(a, b, 2, 6, 3, 7)
#define TURNS 2
#endif

/* The sums of the lanes of four vectors. */
INLINE quad summed(vec a, vec b, vec c, vec d) {
    vec ab = LOW(a, b) + HIGH(a, b), cd = LOW(c, d) + HIGH(c, d), all = EVEN(ab, cd) + ODD(ab, cd);
#if LANES == 4
    return all;
#else
#if LANES == 16
    typedef float half __attribute__((vector_size(32)));
    half halves = MIXED(all, all, 0, 1, 2, 3, 4, 5, 6, 7) + MIXED(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    vec halves = all;
#endif
    return MIXED(halves, halves, 0, 1, 2, 3) + MIXED(halves, halves, 4, 5, 6, 7);
#endif
}

INLINE float total_of(vec x) { return summed(x, x, x, x)[0]; }
