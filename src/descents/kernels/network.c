/* The losses of a multilayer perceptron for many starts, and their gradients.

   The starts are the lanes of the vectors: every operation is done for all lanes alike, and
   nothing is summed across lanes. Therefore a start has the same bits in any lane and beside
   any other starts, and non-finite numbers stay within their own start.

   Compiled with REAL (float or double) and INTEGER (of the same size) defined, and without
   -ffast-math, because NaN and infinity have to be computed correctly. */

#include "vectors.h"

#include <stdlib.h>

typedef REAL V __attribute__((vector_size(BYTES)));
typedef INTEGER I __attribute__((vector_size(BYTES)));

enum { LANES = BYTES / sizeof(REAL), SINGLE = sizeof(REAL) == 4 };
enum { MANTISSA = SINGLE ? 23 : 52, BIAS = SINGLE ? 127 : 1023 };
enum { RELU, TANH, LOGISTIC, GELU };

/* Sums stay in registers only if the loops over them are unrolled. */
#define UNROLLED _Pragma("GCC unroll 4")
#ifndef BLOCK_BYTES
#define BLOCK_BYTES 49152 /* of the first-level cache, for one block of rows */
#endif
/* A loop in a function of its own can use all registers. */
#define APART static __attribute__((noinline))

/* A vector with the value in all lanes. */
INLINE V all(REAL value) { return value - (V){0}; }

/* a where the mask is set, else b. */
INLINE V pick(I mask, V a, V b) { return (V)((mask & (I)a) | (~mask & (I)b)); }

INLINE V absolute(V x) { return (V)((I)x & ~(I)all((REAL)-0.0)); }

/* exp(x) - 1 for x <= 0; NaN for NaN.

   With n = round(x / ln 2) and r = x - n ln 2, it is 2^n expm1(r) + (2^n - 1), where expm1(r)
   is r + r^2 p(r) by the Taylor series. */
INLINE V expm1_below(V x)
{
    /* Adding this number rounds to a whole number, which is then in the last bits. */
    const REAL magic = SINGLE ? (REAL)12582912.0 : (REAL)6755399441055744.0;
    const REAL least = SINGLE ? (REAL)-87.0 : (REAL)-708.0;
    /* ln 2 in two parts; n times the first part is exact. */
    const REAL high = SINGLE ? (REAL)0.693359375 : (REAL)6.93147180369123816490e-01;
    const REAL low = SINGLE ? (REAL)-2.12194440e-4 : (REAL)1.90821492927058770002e-10;
    V shifted = x * (REAL)1.4426950408889634 + magic;
    V n = shifted - magic;
    V r = (x - n * high) - n * low;
    V scale = (V)((((I)shifted - (I)all(magic)) + BIAS) << MANTISSA); /* 2^n */
    V p = all(0);
    if (!SINGLE) {
        p = p * r + (REAL)(1 / 87178291200.0);
        p = p * r + (REAL)(1 / 6227020800.0);
        p = p * r + (REAL)(1 / 479001600.0);
        p = p * r + (REAL)(1 / 39916800.0);
        p = p * r + (REAL)(1 / 3628800.0);
        p = p * r + (REAL)(1 / 362880.0);
        p = p * r + (REAL)(1 / 40320.0);
    }
    p = p * r + (REAL)(1 / 5040.0);
    p = p * r + (REAL)(1 / 720.0);
    p = p * r + (REAL)(1 / 120.0);
    p = p * r + (REAL)(1 / 24.0);
    p = p * r + (REAL)(1 / 6.0);
    p = p * r + (REAL)0.5;
    p = p * r * r + r;
    return pick(x < least, all(-1), scale * p + (scale - 1));
}

/* log(x) for finite x >= 1; NaN for NaN.

   With x = 2^n m and m from sqrt(1/2) to sqrt(2), it is n ln 2 + 2 artanh(s), where s = (m -
   1) / (m + 1). The series of artanh(s) is s + s q p(q) with q = s^2. */
INLINE V log_above(V x)
{
    const REAL high = SINGLE ? (REAL)0.693359375 : (REAL)6.93147180369123816490e-01;
    const REAL low = SINGLE ? (REAL)-2.12194440e-4 : (REAL)1.90821492927058770002e-10;
    const INTEGER ones = ((INTEGER)1 << MANTISSA) - 1;
    I exponent = ((I)x >> MANTISSA) - BIAS;
    V m = (V)(((I)x & ones) | ((INTEGER)BIAS << MANTISSA));
    I large = m > (REAL)1.4142135623730951;
    m = pick(large, m * (REAL)0.5, m);
    V n = __builtin_convertvector(exponent - large, V);
    V s = (m - 1) / (m + 1), q = s * s, p = all(0);
    if (!SINGLE) {
        p = p * q + (REAL)(1 / 21.0);
        p = p * q + (REAL)(1 / 19.0);
        p = p * q + (REAL)(1 / 17.0);
        p = p * q + (REAL)(1 / 15.0);
        p = p * q + (REAL)(1 / 13.0);
        p = p * q + (REAL)(1 / 11.0);
    }
    p = p * q + (REAL)(1 / 9.0);
    p = p * q + (REAL)(1 / 7.0);
    p = p * q + (REAL)(1 / 5.0);
    p = p * q + (REAL)(1 / 3.0);
    V log = n * high + (n * low + (2 * s + 2 * s * q * p));
    return pick(x == x, log, x);
}

/* Replace z by its activation. For GELU, return the slope, which cannot be computed from the
   activation; for the others, zero.

   tanh|x| = -e / (2 + e) with e = expm1(-2 |x|), with the sign of x put back. The logistic
   function is 1 / (1 + e) for x > 0 and else e / (1 + e), with e = exp(-|x|). GELU is x P(x)
   with the normal distribution function P, and its slope is P(x) + x P'(x). */
INLINE V activate(V *z, int kind)
{
    V x = *z, slope = all(0);
    if (kind == RELU) {
        *z = pick(x <= 0, all(0), x);
    } else if (kind == TANH) {
        V e = expm1_below(-2 * absolute(x)), size = -e / (2 + e);
        *z = (V)((I)size | ((I)x & (I)all((REAL)-0.0)));
    } else if (kind == LOGISTIC) {
        V e = 1 + expm1_below(-absolute(x));
        *z = pick(x > 0, all(1), e) / (1 + e);
    } else {
        /* P(-|x|) = erfc(u) / 2 with u = |x| / sqrt(2). Here erfc(u) = exp(-u^2) p(t) / (1
           + 2 u) with t = (u - 3) / (u + 3), where p is the Chebyshev fit of degree 22,
           accurate to 2e-15. */
        static const double p[] = {
            1.2530080582697303, -0.13562110612457484, -0.047562294353413248,
            0.12964515870218821, -0.11927366341703957, 0.068308027358649881,
            -0.02377051488744884, 0.0025293916433165313, 0.001888690065875996,
            -0.00077983114267163518, -0.00010515816157551534,
            0.00012509484071674385, 4.9436620216368908e-06,
            -2.0088992203068341e-05, -7.1786383210393118e-07,
            3.45294205089176e-06, 3.3549698261615079e-07,
            -5.9528691072723601e-07, -1.1956795189541916e-07,
            8.7149329937824368e-08, 2.7397509483668578e-08,
            -7.5421353240411549e-09, -3.0931012359313365e-09,
        };
        V u = absolute(x) * (REAL)0.70710678118654752;
        V t = (u - 3) / (u + 3), e = 1 + expm1_below(-(u * u)), q = all(0);
        for (int k = 22; k >= 0; k--)
            q = q * t + (REAL)p[k];
        V tail = (REAL)0.5 * e * q / (1 + 2 * u);
        V below = pick(x > 0, 1 - tail, tail);
        slope = below + x * (REAL)0.39894228040143268 * e;
        *z = x * below;
    }
    return slope;
}

/* C[a][b] = from[a][b] + sum over k of A[a][k] B[k][b], for few a and b, so that the sums
   stay in registers. `from` is zero if it is NULL. The strides ca, fa, aa, ak, bk and bb are
   the distances between entries: aa is that of A along a, ak along k, and so on. */
INLINE void tile(
    const int as, const int bs, V *C, long ca, const V *from, long fa, const V *A, long aa,
    long ak, const V *B, long bk, long bb, long count)
{
    V sum[4][3];
    UNROLLED for (int a = 0; a < as; a++)
        UNROLLED for (int b = 0; b < bs; b++)
            sum[a][b] = from == NULL ? all(0) : from[a * fa + b];
    for (long k = 0; k < count; k++) {
        UNROLLED for (int b = 0; b < bs; b++)
            UNROLLED for (int a = 0; a < as; a++)
                sum[a][b] += A[a * aa] * B[b * bb];
        A += ak;
        B += bk;
    }
    UNROLLED for (int a = 0; a < as; a++)
        UNROLLED for (int b = 0; b < bs; b++)
            C[a * ca + b] = sum[a][b];
}

/* The same for many a: tiles of four rows, then single rows. */
INLINE void column(
    const int bs, long as, V *C, long ca, const V *from, long fa, const V *A, long aa,
    long ak, const V *B, long bk, long bb, long count)
{
    long a = 0;
    for (; a + 4 <= as; a += 4, C += 4 * ca, A += 4 * aa) {
        tile(4, bs, C, ca, from, fa, A, aa, ak, B, bk, bb, count);
        from = from == NULL ? NULL : from + 4 * fa;
    }
    for (; a < as; a++, C += ca, A += aa) {
        tile(1, bs, C, ca, from, fa, A, aa, ak, B, bk, bb, count);
        from = from == NULL ? NULL : from + fa;
    }
}

/* The same for many a and b: three columns of B stay in the cache during a pass over the rows
   of A. */
APART void product(
    long as, long bs, V *C, long ca, const V *from, long fa, const V *A, long aa, long ak,
    const V *B, long bk, long bb, long count)
{
    long b = 0;
    for (; b + 3 <= bs; b += 3, B += 3 * bb, C += 3) {
        column(3, as, C, ca, from, fa, A, aa, ak, B, bk, bb, count);
        from = from == NULL ? NULL : from + 3;
    }
    for (; b < bs; b++, B += bb, C++) {
        column(1, as, C, ca, from, fa, A, aa, ak, B, bk, bb, count);
        from = from == NULL ? NULL : from + 1;
    }
}

/* What to compute. Each start has `rows` rows of its own, or all starts share them. */
struct network {
    int64_t layers;          /* the number of weight matrices */
    const int64_t *widths;   /* layers + 1 of them, beginning with the features */
    int64_t scalar_biases;   /* whether a layer has a single bias */
    int64_t activation;
    int64_t classifies;
    const REAL *features;    /* of all rows of the table, (n, widths[0]) */
    const void *target;      /* int64 classes (n), or numbers (n, widths[layers]) */
    int64_t rows;
    int64_t stride;          /* rows, or 0 if all starts share them */
    const int64_t *chosen;   /* row numbers, (starts or 1, rows) */
    const REAL *weights;     /* of the rows, (starts or 1, rows), or NULL */
    REAL scale;              /* the weight of each row if `weights` is NULL */
    const REAL *decay;       /* of each start, or NULL */
};

/* The distance between rows of vectors. It is odd, because rows at distances of a power of
   two compete for few places of the cache. */
INLINE long apart(long width) { return width | 1; }

/* The layout of the memory, counted in vectors. */
struct layout {
    long block;              /* the number of rows that are computed together */
    long widest;             /* the width of the widest layer, as `apart` */
    long parameters;
    long vectors;            /* all memory */
};

static struct layout arranged(const struct network *net)
{
    long units = apart(net->widths[0]), widest = units, parameters = 0;
    for (long l = 0; l < net->layers; l++) {
        long out = apart(net->widths[l + 1]);
        units += (net->activation == GELU ? 2 : 1) * out;
        widest = out > widest ? out : widest;
        parameters += (net->widths[l] + 1) * out;
    }
    const long each = units + 2 * widest + net->widths[net->layers] + 1;
    /* A block of rows fits into the first-level cache, but has 8 to 32 rows. */
    long most = BLOCK_BYTES / (BYTES * each);
    most = most < 8 ? 8 : most > 32 ? 32 : most;
    /* Blocks have about the same size, so that the last one is not nearly empty. */
    const long blocks = (net->rows + most - 1) / most;
    const long block = ((net->rows + blocks - 1) / blocks + 3) / 4 * 4;
    struct layout layout = {block, widest, parameters, 0};
    layout.vectors = 2 * parameters + block * each;
    return layout;
}

/* Copy a block of rows into lanes: features (block, features), targets and weights. */
APART void rows_as_lanes(
    const struct network *net, const long *starts, long first, const long block,
    V *features, I *labels, V *numbers, V *counts)
{
    const long wide = net->widths[0], out = net->widths[net->layers];
    const int64_t *classes = net->target;
    const REAL *target = net->target;
    for (long r = 0; r < block; r++, features += apart(wide)) {
        /* Padding is the last row with weight zero. */
        const long place = first + r < net->rows ? first + r : net->rows - 1;
        const REAL full = first + r < net->rows ? 1 : 0;
        if (net->stride == 0) {
            const int64_t row = net->chosen[place];
            for (long i = 0; i < wide; i++)
                features[i] = all(net->features[row * wide + i]);
            if (net->classifies)
                labels[r] = (INTEGER)classes[row] - (I){0};
            else
                for (long j = 0; j < out; j++)
                    numbers[r * out + j] = all(target[row * out + j]);
            counts[r] = all(full * (net->weights ? net->weights[place] : net->scale));
            continue;
        }
        for (int lane = 0; lane < LANES; lane++) {
            const long at = starts[lane] * net->stride + place;
            const int64_t row = net->chosen[at];
            for (long i = 0; i < wide; i++)
                ((REAL *)(features + i))[lane] = net->features[row * wide + i];
            if (net->classifies)
                ((INTEGER *)(labels + r))[lane] = (INTEGER)classes[row];
            else
                for (long j = 0; j < out; j++)
                    ((REAL *)(numbers + r * out + j))[lane] = target[row * out + j];
            ((REAL *)(counts + r))[lane] =
                full * (net->weights ? net->weights[at] : net->scale);
        }
    }
}

/* Replace outputs by the slopes of the losses; return the sum of the losses.

   For classes, the loss is log(sum_c exp(z_c - m)) - (z_label - m) with m = max z, and its
   slope is softmax(z)_c - [c = label]. For numbers, it is the mean square of the errors. Both
   are times the weight of the row. */
APART V losses_of_classes(V *z, long block, long out, const I *labels, const V *counts)
{
    V sum = all(0);
    for (long r = 0; r < block; r++, z += apart(out)) {
        V most = z[0], whole = all(0), own = all(0);
        for (long c = 1; c < out; c++)
            most = pick(z[c] > most, z[c], most);
        for (long c = 0; c < out; c++) {
            V e = 1 + expm1_below(z[c] - most);
            own = pick(labels[r] == (INTEGER)c, z[c] - most, own);
            whole += e;
            z[c] = e;
        }
        sum += counts[r] * (log_above(whole) - own);
        V share = 1 / whole;
        for (long c = 0; c < out; c++)
            z[c] = counts[r] * (z[c] * share - pick(labels[r] == (INTEGER)c, all(1), all(0)));
    }
    return sum;
}

APART V losses_of_numbers(V *z, long block, long out, const V *numbers, const V *counts)
{
    V sum = all(0);
    for (long r = 0; r < block; r++, z += apart(out), numbers += out) {
        V squares = all(0);
        for (long j = 0; j < out; j++) {
            V off = z[j] - numbers[j];
            squares += off * off;
            z[j] = counts[r] * (off * (REAL)(2.0 / out));
        }
        sum += counts[r] * (squares * (REAL)(1.0 / out));
    }
    return sum;
}

/* The losses of LANES starts, and their gradients. Parameters and gradients are packed as
   lanes: for each layer the weights (inputs, outputs), then the biases, with rows at distance
   `apart`.

   Forward, each layer is z = x W + b, followed by the activation. Backward, with the slopes d
   of a layer's sums: db = sum over rows of d, dW = x' d, and dx = d W', times the slope of the
   activation of the layer before. */
static V lanes(
    const struct network *net, const struct layout *at, const long *starts,
    const V *parameters, V *gradients, V *scratch)
{
    const long layers = net->layers, out = net->widths[layers];
    const long widest = at->block * at->widest;
    const int gelu = net->activation == GELU;
    const V one = all(1);
    V *counts = scratch, *numbers = counts + at->block;
    I *labels = (I *)numbers;
    V *into = numbers + at->block * out, *other = into + widest;
    V *features = other + widest;
    V total = all(0), rest = all(0);
    for (long first = 0; first < net->rows; first += at->block) {
        const long left = (net->rows - first + 3) / 4 * 4;
        const long block = left < at->block ? left : at->block;
        /* Rows that all starts share, and that fit into one block, are copied only once. */
        if (net->stride || net->rows > block || starts[0] == 0)
            rows_as_lanes(net, starts, first, block, features, labels, numbers, counts);
        V *inputs = features;
        const V *w = parameters;
        for (long l = 0; l < layers; l++) {
            const long ni = net->widths[l], nj = net->widths[l + 1];
            const long di = apart(ni), dj = apart(nj);
            /* The slopes of GELU are stored after its activations. */
            V *z = inputs + (gelu && l > 0 ? 2 : 1) * block * di;
            product(block, nj, z, dj, w + ni * dj, 0, inputs, di, 1, w, dj, 1, ni);
            if (l < layers - 1) {
                const long count = block * dj;
                if (net->activation == RELU)
                    for (long k = 0; k < count; k++)
                        activate(z + k, RELU);
                else if (net->activation == TANH)
                    for (long k = 0; k < count; k++)
                        activate(z + k, TANH);
                else if (net->activation == LOGISTIC)
                    for (long k = 0; k < count; k++)
                        activate(z + k, LOGISTIC);
                else
                    for (long k = 0; k < count; k++)
                        z[count + k] = activate(z + k, GELU);
            }
            inputs = z;
            w += (ni + 1) * dj;
        }
        V sum = net->classifies
            ? losses_of_classes(inputs, block, out, labels, counts)
            : losses_of_numbers(inputs, block, out, numbers, counts);
        /* Compensated summation: `rest` sums the rounding errors of the total. */
        V next = total + sum, back = next - total;
        rest += (total - (next - back)) + (sum - back);
        total = next;
        /* Back through the layers; `slopes` are the derivatives by the sums z. */
        V *slopes = inputs, *g = gradients + at->parameters;
        for (long l = layers - 1; l >= 0; l--) {
            const long ni = net->widths[l], nj = net->widths[l + 1];
            const long di = apart(ni), dj = apart(nj);
            inputs -= (gelu && l > 0 ? 2 : 1) * block * di;
            w -= (ni + 1) * dj;
            g -= (ni + 1) * dj;
            V *b = g + ni * dj;
            product(1, nj, b, dj, b, dj, &one, 0, 0, slopes, dj, 1, block);
            product(ni, nj, g, dj, g, dj, inputs, 1, di, slopes, dj, 1, block);
            if (l == 0)
                break;
            product(block, ni, into, di, NULL, 0, slopes, dj, 1, w, 1, dj, nj);
            const long count = block * di;
            if (net->activation == RELU)
                for (long k = 0; k < count; k++)
                    into[k] = pick(inputs[k] <= 0, all(0), into[k]);
            else if (net->activation == TANH)
                for (long k = 0; k < count; k++)
                    into[k] *= 1 - inputs[k] * inputs[k];
            else if (net->activation == LOGISTIC)
                for (long k = 0; k < count; k++)
                    into[k] *= inputs[k] * (1 - inputs[k]);
            else
                for (long k = 0; k < count; k++)
                    into[k] *= inputs[count + k];
            slopes = into;
            into = other;
            other = slopes;
        }
    }
    return total + rest;
}

/* The parameters of a layer: weights (inputs, outputs) in rows, then biases, of which the
   layer has `biases`, 1 or as many as outputs. */
struct part {
    long inputs, outputs, biases, apart;
};

static struct part part_of(const struct network *net, long layer)
{
    const long outputs = net->widths[layer + 1];
    struct part part = {
        net->widths[layer], outputs, net->scalar_biases ? 1 : outputs, apart(outputs)};
    return part;
}

/* Copy the parameters of LANES starts into lanes. */
static void pack(
    const struct network *net, const long *starts, const REAL *const *parameters, V *p)
{
    for (long l = 0; l < net->layers; l++) {
        const struct part at = part_of(net, l);
        const REAL *w[LANES], *b[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            w[lane] = parameters[l] + starts[lane] * at.inputs * at.outputs;
            b[lane] = parameters[net->layers + l] + starts[lane] * at.biases;
        }
        for (long i = 0, k = 0; i < at.inputs; i++)
            for (long j = 0; j < at.outputs; j++, k++)
                for (int lane = 0; lane < LANES; lane++)
                    ((REAL *)(p + i * at.apart + j))[lane] = w[lane][k];
        for (long j = 0; j < at.outputs; j++)
            for (int lane = 0; lane < LANES; lane++)
                ((REAL *)(p + at.inputs * at.apart + j))[lane] =
                    b[lane][at.biases == 1 ? 0 : j];
        p += (at.inputs + 1) * at.apart;
    }
}

/* If a layer has a single bias, give each of its copies the sum of their slopes. */
static void share(const struct network *net, V *g)
{
    for (long l = 0; net->scalar_biases && l < net->layers; l++) {
        const struct part at = part_of(net, l);
        V *of_biases = g + at.inputs * at.apart, sum = of_biases[0];
        for (long j = 1; j < at.outputs; j++)
            sum += of_biases[j];
        for (long j = 0; j < at.outputs; j++)
            of_biases[j] = sum;
        g = of_biases + at.apart;
    }
}

/* Copy the first `filled` lanes back to the arrays of their starts. */
static void unpack(
    const struct network *net, const long *starts, long filled, const V *p,
    REAL *const *parameters)
{
    for (long l = 0; l < net->layers; l++) {
        const struct part at = part_of(net, l);
        REAL *w[LANES], *b[LANES];
        for (int lane = 0; lane < filled; lane++) {
            w[lane] = parameters[l] + starts[lane] * at.inputs * at.outputs;
            b[lane] = parameters[net->layers + l] + starts[lane] * at.biases;
        }
        for (long i = 0, k = 0; i < at.inputs; i++)
            for (long j = 0; j < at.outputs; j++, k++)
                for (int lane = 0; lane < filled; lane++)
                    w[lane][k] = ((const REAL *)(p + i * at.apart + j))[lane];
        for (long j = 0; j < at.biases; j++)
            for (int lane = 0; lane < filled; lane++)
                b[lane][j] = ((const REAL *)(p + at.inputs * at.apart + j))[lane];
        p += (at.inputs + 1) * at.apart;
    }
}

/* A step needs two functions: in one, the compiler would fuse product and difference, which
   rounds once and gives other bits than the same step by torch. */
APART void scale(V *g, V rate, long count)
{
    for (long k = 0; k < count; k++)
        g[k] *= rate;
}

APART void subtract(V *p, const V *move, long count)
{
    for (long k = 0; k < count; k++)
        p[k] -= move[k];
}

/* Add the slopes of decay / 2 times the sum of squared weights; return this penalty. */
static V decayed(
    const struct network *net, const long *starts, const V *p, V *g)
{
    V squares = all(0), decay;
    for (int lane = 0; lane < LANES; lane++)
        ((REAL *)&decay)[lane] = net->decay[starts[lane]];
    for (long l = 0; l < net->layers; l++) {
        const struct part at = part_of(net, l);
        for (long i = 0; i < at.inputs; i++, p += at.apart, g += at.apart)
            for (long j = 0; j < at.outputs; j++) {
                squares += p[j] * p[j];
                g[j] += decay * p[j];
            }
        p += at.apart;
        g += at.apart;
    }
    return (REAL)0.5 * decay * squares;
}

/* Write losses (starts) and gradients, shaped as the parameters: for each layer the weights
   (starts, inputs, outputs), then for each layer the biases (starts, 1, outputs or 1).
   With rates (starts), take `steps` steps of gradient descent. Then `moved` is the parameters
   after them, and losses and gradients are those before the last step.
   Return 0 for success, 1 if there is no memory, and 2 if a loss was not finite during the
   descent. */
int losses_and_gradients(
    const struct network *net, int64_t count, const REAL *const *parameters,
    REAL *losses, REAL *const *gradients, int64_t steps, const REAL *rates,
    REAL *const *moved)
{
    const struct layout at = arranged(net);
    V *packed = aligned_alloc(BYTES, at.vectors * sizeof(V));
    if (packed == NULL)
        return 1;
    V *slopes = packed + at.parameters, *scratch = slopes + at.parameters;
    memset(packed, 0, at.vectors * sizeof(V));
    I finite = ~(I){0};
    for (long group = 0; group < count; group += LANES) {
        const long filled = count - group < LANES ? count - group : LANES;
        long starts[LANES];
        V rate = all(0);
        for (int lane = 0; lane < LANES; lane++) {
            starts[lane] = group + (lane < filled ? lane : filled - 1);
            if (rates != NULL)
                ((REAL *)&rate)[lane] = rates[starts[lane]];
        }
        pack(net, starts, parameters, packed);
        for (long step = 0; step < steps; step++) {
            memset(slopes, 0, at.parameters * sizeof(V));
            V loss = lanes(net, &at, starts, packed, slopes, scratch);
            if (net->decay != NULL)
                loss += decayed(net, starts, packed, slopes);
            share(net, slopes);
            if (step == steps - 1) {
                unpack(net, starts, filled, slopes, gradients);
                for (int lane = 0; lane < filled; lane++)
                    losses[starts[lane]] = ((REAL *)&loss)[lane];
            }
            if (rates != NULL) {
                finite &= (I)(loss - loss == 0);
                scale(slopes, rate, at.parameters);
                subtract(packed, slopes, at.parameters);
            }
        }
        if (rates != NULL)
            unpack(net, starts, filled, packed, moved);
    }
    free(packed);
    for (int lane = 0; lane < LANES; lane++)
        if (rates != NULL && !finite[lane])
            return 2;
    return 0;
}
