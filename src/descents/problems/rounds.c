/* Rounds over the coordinates of every row: each at its minimum, the others held.

   Minimises x' G x - 2 x' r + sum l2 x^2 + l1 |x| over x >= 0, or over all x. Compiled with
   REAL (float or double) defined. No row has part in another, so that the bits do not
   depend on what else is computed. */

#include "vectors.h"

typedef REAL V __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER I __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

enum { LANES = BYTES / sizeof(REAL), SIDE = 4, MOST = 64, GROUP = SIDE * LANES };

/* How many rows are taken together where all share one G. */
int64_t group(void) { return GROUP; }

INLINE V pick(I mask, V a, V b) { return (V)((mask & (I)a) | (~mask & (I)b)); }

/* The prox of half l1 |x|, on 0 or more if `nonnegative`. NaN stays. */
INLINE V settled(V x, V half, int64_t nonnegative)
{
    V above = x - half, below = x + half, zero = x - x; /* zero, or NaN */
    V found = pick(above > 0, above, zero);
    return nonnegative ? found : pick(below < 0, below, found);
}

/* All rows share G; x, r, l1 and l2 lie by coordinate, (q, rows), rows a multiple of the
   group. */
void rounds_shared(
    int64_t rows, int64_t q, int64_t passes, int64_t bound, int64_t nonnegative, REAL damping,
    const REAL *gram, const REAL *right, const REAL *l2, const REAL *l1, REAL *x)
{
    for (int64_t i = 0; i < rows; i += GROUP) {
        V here[MOST][SIDE];
        for (int64_t c = 0; c < q; c++)
            memcpy(here[c], x + c * rows + i, sizeof(here[c]));
        for (int64_t pass = 0; pass < passes; pass++)
            for (int64_t c = 0; c < q; c++) {
                const REAL *row = gram + c * q, own = row[c];
                V inner[SIDE] = {{0}};
                for (int64_t k = 0; k < q; k++)
#pragma GCC unroll 4
                    for (int s = 0; s < SIDE; s++)
                        inner[s] += row[k] * here[k][s];
                for (int s = 0; s < SIDE; s++) {
                    const int64_t at = c * rows + i + s * LANES;
                    V free = *(const V *)(right + at) - inner[s] + (own + damping) * here[c][s];
                    if (c < bound)
                        free = settled(free, *(const V *)(l1 + at) / 2, nonnegative);
                    here[c][s] = free / (own + damping + *(const V *)(l2 + at));
                }
            }
        for (int64_t c = 0; c < q; c++)
            memcpy(x + c * rows + i, here[c], sizeof(here[c]));
    }
}

/* Each row has its own G, and all lie by row. */
void rounds_apart(
    int64_t rows, int64_t q, int64_t passes, int64_t bound, int64_t nonnegative,
    const REAL *damping, const REAL *gram, const REAL *right, const REAL *l2, const REAL *l1,
    REAL *x)
{
    for (int64_t i = 0; i < rows; i++, gram += q * q, right += q, l2 += q, l1 += q, x += q) {
        REAL product[MOST] = {0};
        for (int64_t k = 0; k < q; k++)
            for (int64_t c = 0; c < q; c++)
                product[c] += x[k] * gram[k * q + c];
        for (int64_t pass = 0; pass < passes; pass++)
            for (int64_t c = 0; c < q; c++) {
                const REAL *row = gram + c * q, own = row[c] + damping[i];
                REAL free = right[c] - product[c] + own * x[c], half = l1[c] / 2;
                if (c < bound) {
                    REAL above = free - half, below = free + half, zero = free - free;
                    free = above > 0 ? above : !nonnegative && below < 0 ? below : zero;
                }
                const REAL moved = free / (own + l2[c]), step = moved - x[c];
                for (int64_t k = 0; k < q; k++)
                    product[k] += step * row[k];
                x[c] = moved;
            }
    }
}
