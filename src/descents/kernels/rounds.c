/* Rounds over the coordinates of every row: each at its minimum, the others held.

   Minimises x' G x - 2 x' r + sum l2 x^2 + l1 |x| over x >= 0, or over all x. Compiled with
   REAL (float or double) defined. No row has part in another, so that the bits do not
   depend on what else is computed. */

#include "vectors.h"

typedef REAL V __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER I __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

enum { LANES = BYTES / sizeof(REAL), SIDE = 4, MOST = 64, GROUP = SIDE * LANES };

INLINE V pick(I mask, V a, V b) { return (V)((mask & (I)a) | (~mask & (I)b)); }

/* The prox of half l1 |x|, on 0 or more if `nonnegative`. NaN stays. */
INLINE V settled(V x, V half, int64_t nonnegative)
{
    V above = x - half, below = x + half, zero = x - x; /* zero, or NaN */
    V found = pick(above > 0, above, zero);
    return nonnegative ? found : pick(below < 0, below, found);
}

/* Numbers that lie anywhere: where they begin, and how far it is from one row, and from
   one coordinate, to the next. */
#define PLACED(name) const REAL *name, int64_t name##_row, int64_t name##_step

/* Bring together the rows from i on, as many as there are in a group, zeros after them. */
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

/* All rows share G. The solution is written by row; returned is what x' G x - 2 x' r
   changes by. */
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
                        free = settled(free, half[c][s] / 2, nonnegative);
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

/* Each row has its own G, and all lie by row. */
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
