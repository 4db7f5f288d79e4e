/* Coordinate descent for every row: minimize over one coordinate at a time, with the others
   fixed.

   It lowers x' G x - 2 x' r + sum l2 x^2 + l1 |x| over x >= 0, or over all x. With the slope
   s_c = (G x)_c - r_c and damping d, coordinate c goes to prox((G_cc + d) x_c - s_c) / (G_cc
   + l2_c + d), where the prox is that of l1_c / 2. Compiled with REAL (float or double) and
   INTEGER (of the same size) defined. Rows are independent, so that the bits do not depend
   on what else is computed. */

#include "vectors.h"

typedef REAL V __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER I __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

enum { LANES = BYTES / sizeof(REAL), SIDE = 4, MOST = 64, GROUP = SIDE * LANES };

INLINE V pick(I mask, V a, V b) { return (V)((mask & (I)a) | (~mask & (I)b)); }

/* The prox of half |x|, over x >= 0 if `nonnegative`. NaN stays NaN. */
INLINE V prox(V x, V half, int64_t nonnegative)
{
    V above = x - half, below = x + half, zero = x - x; /* NaN if x is NaN */
    V shrunk = pick(above > 0, above, zero);
    return nonnegative ? shrunk : pick(below < 0, below, shrunk);
}

/* A strided matrix: its address, and the distances from one row, and from one coordinate, to
   the next. */
#define PLACED(name) const REAL *name, int64_t name##_row, int64_t name##_step

/* Copy a group of rows from row i on, coordinate by coordinate, padded with zeros. */
INLINE void gather(int64_t i, int64_t rows, int64_t q, PLACED(from), V (*into)[SIDE])
{
    const int64_t count = rows - i < GROUP ? rows - i : GROUP;
    for (int64_t c = 0; c < q; c++) {
        const REAL *begin = from + i * from_row + c * from_step;
        REAL *to = (REAL *)into[c];
        if (from_row == 1)
            memcpy(to, begin, count * sizeof(REAL));
        else
            for (int64_t row = 0; row < count; row++)
                to[row] = begin[row * from_row];
        memset(to + count, 0, (GROUP - count) * sizeof(REAL));
    }
}

/* All rows share G. A group of rows is computed together, one row in each lane. The solution
   is written row by row. Returns the change of x' G x - 2 x' r, which is the sum of t (G_cc t
   + 2 s_c) over all steps t. */
double rounds_shared(
    int64_t rows, int64_t q, int64_t passes, int64_t bound, int64_t nonnegative, REAL damping,
    const REAL *gram, PLACED(right), PLACED(l2), PLACED(l1), PLACED(x), REAL *found)
{
    double change = 0;
    for (int64_t i = 0; i < rows; i += GROUP) {
        const int64_t count = rows - i < GROUP ? rows - i : GROUP;
        V here[MOST][SIDE], target[MOST][SIDE], ridge[MOST][SIDE], half[MOST][SIDE];
        V falls[SIDE] = {{0}};
        gather(i, rows, q, x, x_row, x_step, here);
        gather(i, rows, q, right, right_row, right_step, target);
        gather(i, rows, q, l2, l2_row, l2_step, ridge);
        gather(i, rows, q, l1, l1_row, l1_step, half);
        for (int64_t pass = 0; pass < passes; pass++)
            for (int64_t c = 0; c < q; c++) {
                const REAL *row = gram + c * q, own = row[c];
                V inner[SIDE] = {{0}};
                for (int64_t k = 0; k < q; k++)
#pragma GCC unroll 4
                    for (int s = 0; s < SIDE; s++)
                        inner[s] += row[k] * here[k][s];
                for (int s = 0; s < SIDE; s++) {
                    const V slope = inner[s] - target[c][s];
                    V free = (own + damping) * here[c][s] - slope;
                    if (c < bound)
                        free = prox(free, half[c][s] / 2, nonnegative);
                    const V moved = free / (own + damping + ridge[c][s]);
                    const V step = moved - here[c][s];
                    falls[s] += step * (own * step + 2 * slope);
                    here[c][s] = moved;
                }
            }
        for (int64_t row = 0; row < count; row++) {
            for (int64_t c = 0; c < q; c++)
                found[(i + row) * q + c] = ((const REAL *)here[c])[row];
            change += ((const REAL *)falls)[row];
        }
    }
    return change;
}

/* Each row has its own G. All arrays are contiguous, and x is updated in place. `product` is
   G x, which every step updates. */
double rounds_apart(
    int64_t rows, int64_t q, int64_t passes, int64_t bound, int64_t nonnegative,
    const REAL *damping, const REAL *gram, const REAL *right, const REAL *l2, const REAL *l1,
    REAL *x)
{
    double change = 0;
    for (int64_t i = 0; i < rows; i++, gram += q * q, right += q, l2 += q, l1 += q, x += q) {
        REAL product[MOST] = {0}, fall = 0;
        for (int64_t k = 0; k < q; k++)
            for (int64_t c = 0; c < q; c++)
                product[c] += x[k] * gram[k * q + c];
        for (int64_t pass = 0; pass < passes; pass++)
            for (int64_t c = 0; c < q; c++) {
                const REAL *row = gram + c * q, own = row[c] + damping[i];
                const REAL slope = product[c] - right[c];
                REAL free = own * x[c] - slope, half = l1[c] / 2;
                if (c < bound) {
                    REAL above = free - half, below = free + half, zero = free - free;
                    free = above > 0 ? above : !nonnegative && below < 0 ? below : zero;
                }
                const REAL moved = free / (own + l2[c]), step = moved - x[c];
                fall += step * (row[c] * step + 2 * slope);
                for (int64_t k = 0; k < q; k++)
                    product[k] += step * row[k];
                x[c] = moved;
            }
        change += fall;
    }
    return change;
}
