/* Sums over the stored entries of a sparse table, row by row.

   Compiled with REAL (float or double) defined. Factors have rows of whole vectors, padded
   with zeros. Each row is summed by itself, in the order of its entries, so that the bits
   depend neither on the threads nor on other rows and starts. */

#include "vectors.h"

/* Rows of a factor need not be aligned to vectors, so loads only assume aligned numbers. */
typedef REAL V __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

enum { LANES = BYTES / sizeof(REAL), TALL = BYTES == 64 ? 8 : 4, PIECE = 64, MOST = 64 };

/* The padded number of columns of a factor of q columns. */
int64_t filled(int64_t q) { return (q + LANES - 1) / LANES * LANES; }

/* G[a][b] += sum over entries of v[a] w v[b], for TALL values of a and `wide` vectors of b.
   The sums stay in registers. */
INLINE void tile(
    const int wide, int64_t count, const REAL *plain, const REAL *weighed, int64_t stride,
    REAL *gram)
{
    V sums[TALL][2];
#pragma GCC unroll 8
    for (int a = 0; a < TALL; a++)
#pragma GCC unroll 2
        for (int b = 0; b < wide; b++)
            sums[a][b] = *(const V *)(gram + a * stride + b * LANES);
    for (int64_t e = 0; e < count; e++)
#pragma GCC unroll 8
        for (int a = 0; a < TALL; a++)
#pragma GCC unroll 2
            for (int b = 0; b < wide; b++)
                sums[a][b] += plain[e * stride + a] *
                              *(const V *)(weighed + e * stride + b * LANES);
#pragma GCC unroll 8
    for (int a = 0; a < TALL; a++)
#pragma GCC unroll 2
        for (int b = 0; b < wide; b++)
            *(V *)(gram + a * stride + b * LANES) = sums[a][b];
}

/* Sum the upper triangle of G, in tiles, and r, for one row. Its entries are first copied to
   contiguous memory, in pieces, because every tile reads all of them. */
INLINE void row_of(
    int64_t begin, int64_t end, const int64_t *others, const REAL *weights,
    const REAL *targets, const REAL *factor, int64_t stride, REAL *gram, REAL *wanted)
{
    REAL plain[PIECE * MOST + MOST], other[PIECE * MOST + MOST];
    const REAL *weighed = weights ? other : plain;
    memset(gram, 0, (stride + TALL) * stride * sizeof(REAL));
    memset(wanted, 0, stride * sizeof(REAL));
    for (int64_t from = begin; from < end; from += PIECE) {
        const int64_t count = end - from < PIECE ? end - from : PIECE;
        for (int64_t e = 0; e < count; e++) {
            const REAL *entry = factor + others[from + e] * stride;
            const REAL weight = weights ? weights[from + e] : 1;
            const REAL target = weight * targets[from + e];
            for (int64_t k = 0; k < stride; k += LANES) {
                const V v = *(const V *)(entry + k);
                *(V *)(plain + e * stride + k) = v;
                if (weights)
                    *(V *)(other + e * stride + k) = weight * v;
                *(V *)(wanted + k) += target * v;
            }
        }
        for (int64_t a = 0; a < stride; a += TALL)
            for (int64_t b = a / LANES * LANES; b < stride; b += 2 * LANES)
                if (b + LANES < stride)
                    tile(2, count, plain + a, weighed + b, stride, gram + a * stride + b);
                else
                    tile(1, count, plain + a, weighed + b, stride, gram + a * stride + b);
    }
}

/* G = sum w v v' and r = sum w t v over the entries of each row from `first` to `last`. If
   `weights` is NULL, every weight is one. */
void normal_equations(
    int64_t first, int64_t last, const int64_t *ends, const int64_t *others,
    const REAL *weights, const REAL *targets, const REAL *factor, int64_t q, REAL *gram,
    REAL *wanted)
{
    const int64_t stride = filled(q);
    REAL sums[(MOST + TALL) * MOST], right[MOST];
    for (int64_t i = first; i < last; i++) {
        row_of(ends[i], ends[i + 1], others, weights, targets, factor, stride, sums, right);
        for (int64_t a = 0; a < q; a++) {
            for (int64_t b = a; b < q; b++)
                gram[(i * q + a) * q + b] = gram[(i * q + b) * q + a] = sums[a * stride + b];
            wanted[i * q + a] = right[a];
        }
    }
}

/* The inner product of two rows of whole vectors. */
INLINE REAL inner(int64_t wide, const REAL *x, const REAL *y)
{
    V sum = *(const V *)x * *(const V *)y;
    for (int64_t k = LANES; k < wide; k += LANES)
        sum += *(const V *)(x + k) * *(const V *)(y + k);
    REAL total = sum[0];
    for (int lane = 1; lane < LANES; lane++)
        total += sum[lane];
    return total;
}

/* sum (t / max(u'v, least)) v over the entries of each row from `first` to `last`, where u is
   the row of `own`. */
void ratios(
    int64_t first, int64_t last, const int64_t *ends, const int64_t *others,
    const REAL *targets, const REAL *own, const REAL *factor, int64_t q, REAL least,
    REAL *found)
{
    const int64_t wide = filled(q);
    for (int64_t i = first; i < last; i++) {
        REAL sums[MOST + LANES] = {0};
        for (int64_t e = ends[i]; e < ends[i + 1]; e++) {
            const REAL *v = factor + others[e] * wide;
            const REAL z = inner(wide, own + i * wide, v);
            const REAL ratio = targets[e] / (z < least ? least : z);
            for (int64_t k = 0; k < wide; k += LANES)
                *(V *)(sums + k) += ratio * *(const V *)(v + k);
        }
        memcpy(found + i * q, sums, q * sizeof(REAL));
    }
}

/* The inner product of the two factors at each entry from `first` to `last`. */
void products(
    int64_t first, int64_t last, const int64_t *rows, const int64_t *columns,
    const REAL *left, const REAL *right, int64_t q, REAL *found)
{
    const int64_t wide = filled(q);
    for (int64_t e = first; e < last; e++)
        found[e] = inner(wide, left + rows[e] * wide, right + columns[e] * wide);
}
