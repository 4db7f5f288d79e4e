/* The losses of a multilayer perceptron from many starts, and their gradients.

   The starts are the lanes of the vectors: what is done for one is done for all, in
   the same order, and nothing is added up across lanes. So a start has the same bits in
   any lane and in any company, and what is not finite stays with its own start.

   Compiled with REAL (float or double) and INTEGER (of the same size) defined. There is
   no -ffast-math: NaN and infinity have to come out as they are. */

#include "vectors.h"

#include <stdlib.h>

typedef REAL V __attribute__((vector_size(BYTES)));
typedef INTEGER I __attribute__((vector_size(BYTES)));

enum { LANES = BYTES / sizeof(REAL), SINGLE = sizeof(REAL) == 4 };
enum { MANTISSA = SINGLE ? 23 : 52, BIAS = SINGLE ? 127 : 1023 };
enum { RELU, TANH, LOGISTIC, GELU };

/* Sums stay in registers only where loops over them are written out. */
#define UNROLLED _Pragma("GCC unroll 4")
#ifndef BLOCK_BYTES
#define BLOCK_BYTES 49152
#endif
/* In a function of their own, loops have the registers to themselves. */
#define APART static __attribute__((noinline))

INLINE V all(REAL value) { return value - (V){0}; }

/* a where the mask is set, else b. */
INLINE V pick(I mask, V a, V b) { return (V)((mask & (I)a) | (~mask & (I)b)); }

INLINE V absolute(V x) { return (V)((I)x & ~(I)all((REAL)-0.0)); }

/* exp(x) - 1 of x <= 0; NaN of NaN. */
INLINE V expm1_below(V x)
{
    /* Added to this, a number is rounded to a whole one, which ends its bits. */
    const REAL magic = SINGLE ? (REAL)12582912.0 : (REAL)6755399441055744.0;
    const REAL least = SINGLE ? (REAL)-87.0 : (REAL)-708.0;
    /* ln 2 in two parts: n times the first has no rounding. */
    const REAL high = SINGLE ? (REAL)0.693359375 : (REAL)6.93147180369123816490e-01;
    const REAL low = SINGLE ? (REAL)-2.12194440e-4 : (REAL)1.90821492927058770002e-10;
    V shifted = x * (REAL)1.4426950408889634 + magic;
    V n = shifted - magic;
    V r = (x - n * high) - n * low;
    V scale = (V)((((I)shifted - (I)all(magic)) + BIAS) << MANTISSA);
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

/* log(x) of finite x >= 1; NaN of NaN. */
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
    V found = n * high + (n * low + (2 * s + 2 * s * q * p));
    return pick(x == x, found, x);
}

/* Replace z by the activation, and return its slope where that is not told by it. */
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
        /* erfc(u) = exp(-u^2) p(t) / (1 + 2 u), t = (u - 3) / (u + 3): p is the
           Chebyshev fit of degree 22, within 2e-15. */
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

/* C[a][b] = from[a][b] + sum over k of A[a][k] B[k][b], for few a and b, which stay in
   registers; from zero where `from` is NULL. Strides say how far apart entries lie. */
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

/* The same for many a and b: three columns of B stay in the cache while rows of A go
   by. */
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

/* What to compute. A start has `rows` rows of its own, or all have the same. */
struct network {
    int64_t layers;          /* how many weight matrices there are */
    const int64_t *widths;   /* layers + 1 of them, the features first */
    int64_t scalar_biases;   /* whether a layer has one bias */
    int64_t activation;
    int64_t classifies;
    const REAL *features;    /* of all rows of the table, (n, widths[0]) */
    const void *target;      /* int64 classes (n), or numbers (n, widths[layers]) */
    int64_t rows;
    int64_t stride;          /* rows, or 0 where all starts have the same */
    const int64_t *chosen;   /* numbers of rows, (starts or 1, rows) */
    const REAL *weights;     /* what they count, (starts or 1, rows), or NULL */
    REAL scale;              /* what they count, where weights are NULL */
    const REAL *decay;       /* of each start, or NULL */
};

/* How far apart rows of vectors lie: an odd number of them, as distances of a power of
   two share few places of the cache. */
INLINE long apart(long width) { return width | 1; }

/* Where everything lies, in vectors. */
struct layout {
    long block;              /* how many rows are looked at together */
    long widest;
    long parameters;
    long vectors;            /* of memory, in all */
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
    /* What a block of rows needs stays in the cache of the core, as far as it goes. */
    long most = BLOCK_BYTES / (BYTES * each);
    most = most < 8 ? 8 : most > 32 ? 32 : most;
    /* Blocks of the same size, so that the last is not nearly empty. */
    const long blocks = (net->rows + most - 1) / most;
    const long block = ((net->rows + blocks - 1) / blocks + 3) / 4 * 4;
    struct layout found = {block, widest, parameters, 0};
    found.vectors = 2 * parameters + block * each;
    return found;
}

/* Lay out some rows, (block, features), with targets and what they count. */
APART void rows_as_lanes(
    const struct network *net, const long *starts, long first, const long block,
    V *features, I *labels, V *numbers, V *counts)
{
    const long wide = net->widths[0], out = net->widths[net->layers];
    const int64_t *classes = net->target;
    const REAL *target = net->target;
    for (long r = 0; r < block; r++, features += apart(wide)) {
        /* What only fills up is the last row, counted nothing. */
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

/* Replace outputs by the slopes of the losses; return the sum of the losses. */
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

/* The losses of LANES starts, and their gradients over parameters packed as lanes: of
   each layer weights (inputs, outputs), then biases, with rows `apart`. */
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
        /* The rows that all starts share are laid out once, where one block has all. */
        if (net->stride || net->rows > block || starts[0] == 0)
            rows_as_lanes(net, starts, first, block, features, labels, numbers, counts);
        V *inputs = features;
        const V *w = parameters;
        for (long l = 0; l < layers; l++) {
            const long ni = net->widths[l], nj = net->widths[l + 1];
            const long di = apart(ni), dj = apart(nj);
            /* The slopes of GELU lie behind what it gives. */
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
        /* What rounding takes from the total is kept beside it. */
        V next = total + sum, back = next - total;
        rest += (total - (next - back)) + (sum - back);
        total = next;
        /* Back through the layers; `slopes` are those of the sums of each. */
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

/* How the parameters of a layer lie: weights (inputs, outputs) in rows, then biases. */
struct part {
    long inputs, outputs, kept, apart;
};

static struct part part_of(const struct network *net, long layer)
{
    const long outputs = net->widths[layer + 1];
    struct part found = {
        net->widths[layer], outputs, net->scalar_biases ? 1 : outputs, apart(outputs)};
    return found;
}

static void pack(
    const struct network *net, const long *starts, const REAL *const *parameters, V *p)
{
    for (long l = 0; l < net->layers; l++) {
        const struct part at = part_of(net, l);
        const REAL *w[LANES], *b[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            w[lane] = parameters[l] + starts[lane] * at.inputs * at.outputs;
            b[lane] = parameters[net->layers + l] + starts[lane] * at.kept;
        }
        for (long i = 0, k = 0; i < at.inputs; i++)
            for (long j = 0; j < at.outputs; j++, k++)
                for (int lane = 0; lane < LANES; lane++)
                    ((REAL *)(p + i * at.apart + j))[lane] = w[lane][k];
        for (long j = 0; j < at.outputs; j++)
            for (int lane = 0; lane < LANES; lane++)
                ((REAL *)(p + at.inputs * at.apart + j))[lane] =
                    b[lane][at.kept == 1 ? 0 : j];
        p += (at.inputs + 1) * at.apart;
    }
}

/* Give every copy of a bias that a layer shares the sum of their slopes. */
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

static void unpack(
    const struct network *net, const long *starts, long filled, const V *p,
    REAL *const *parameters)
{
    for (long l = 0; l < net->layers; l++) {
        const struct part at = part_of(net, l);
        REAL *w[LANES], *b[LANES];
        for (int lane = 0; lane < filled; lane++) {
            w[lane] = parameters[l] + starts[lane] * at.inputs * at.outputs;
            b[lane] = parameters[net->layers + l] + starts[lane] * at.kept;
        }
        for (long i = 0, k = 0; i < at.inputs; i++)
            for (long j = 0; j < at.outputs; j++, k++)
                for (int lane = 0; lane < filled; lane++)
                    w[lane][k] = ((const REAL *)(p + i * at.apart + j))[lane];
        for (long j = 0; j < at.kept; j++)
            for (int lane = 0; lane < filled; lane++)
                b[lane][j] = ((const REAL *)(p + at.inputs * at.apart + j))[lane];
        p += (at.inputs + 1) * at.apart;
    }
}

/* A step in two functions: in one, product and difference would be rounded once, and
   have other bits than the same step by torch. */
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

/* Add the slopes of decay / 2 times the squared weights; return that. */
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

/* Write losses (starts) and gradients, shaped as the parameters: of each layer weights
   (starts, inputs, outputs), then of each layer biases (starts, 1, outputs or 1). With
   rates (starts), take `steps` steps of gradient descent, write where they lead as
   `moved`, and losses and gradients where the last began.
   Return 0; 1 where there is no memory for it; 2 where a loss is not finite while
   descending. */
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
            V found = lanes(net, &at, starts, packed, slopes, scratch);
            if (net->decay != NULL)
                found += decayed(net, starts, packed, slopes);
            share(net, slopes);
            if (step == steps - 1) {
                unpack(net, starts, filled, slopes, gradients);
                for (int lane = 0; lane < filled; lane++)
                    losses[starts[lane]] = ((REAL *)&found)[lane];
            }
            if (rates != NULL) {
                finite &= (I)(found - found == 0);
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
