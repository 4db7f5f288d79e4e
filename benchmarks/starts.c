/* The report's network (4-12-3, one bias a layer, summed cross-entropy, full batch)
   trained from many starts, eight of them in the lanes of a vector and a thread for each
   share of the starts: what a processor can do on this task, written by hand.

   cc -O3 -march=native -ffast-math -fopenmp -shared -fPIC */

#include <string.h>

#define LANES 8
#define FEATURES 4
#define HIDDEN 12
#define CLASSES 3

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int whole __attribute__((vector_size(4 * LANES)));

static inline lanes where(whole mask, lanes value) {
    return (lanes)(mask & (whole)value); /* zero elsewhere */
}

static inline lanes larger(lanes a, lanes b) {
    return where(a > b, a) + where(a <= b, b);
}

/* Cephes' expf: 2^n times a polynomial on [-log(2) / 2, log(2) / 2]. */
static inline lanes exponential(lanes x) {
    x = larger(x, (lanes){} - 87.0f);
    whole turns = __builtin_convertvector(x * 1.44269504f - 0.5f, whole); /* x <= 0 */
    lanes n = __builtin_convertvector(turns, lanes);
    whole exponent = (turns + 127) << 23;
    lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
    lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (lanes)exponent;
}

struct network {
    lanes first[FEATURES][HIDDEN], second[HIDDEN][CLASSES], bias_first, bias_second;
};

static void descend(struct network *w, const float *x, const int *y, int rows,
                    int epochs, float rate) {
    for (int epoch = 0; epoch < epochs; epoch++) {
        struct network g = {0};
        for (int row = 0; row < rows; row++) {
            const float *features = x + FEATURES * row;
            lanes h[HIDDEN], z[CLASSES];
            for (int c = 0; c < CLASSES; c++) z[c] = w->bias_second;
            for (int j = 0; j < HIDDEN; j++) {
                lanes sum = w->bias_first;
                for (int i = 0; i < FEATURES; i++) sum += features[i] * w->first[i][j];
                h[j] = where(sum > 0.0f, sum);
                for (int c = 0; c < CLASSES; c++) z[c] += h[j] * w->second[j][c];
            }
            lanes largest = larger(larger(z[0], z[1]), z[2]);
            lanes total = {};
            for (int c = 0; c < CLASSES; c++)
                total += z[c] = exponential(z[c] - largest);
            total = 1.0f / total;
            for (int c = 0; c < CLASSES; c++) {
                z[c] = z[c] * total - (c == y[row] ? 1.0f : 0.0f);
                g.bias_second += z[c];
            }
            for (int j = 0; j < HIDDEN; j++) {
                lanes back = {};
                for (int c = 0; c < CLASSES; c++) {
                    g.second[j][c] += h[j] * z[c];
                    back += w->second[j][c] * z[c];
                }
                back = where(h[j] > 0.0f, back);
                g.bias_first += back;
                for (int i = 0; i < FEATURES; i++) g.first[i][j] += features[i] * back;
            }
        }
        lanes *to = (lanes *)w, *from = (lanes *)&g;
        for (unsigned k = 0; k < sizeof g / sizeof(lanes); k++) to[k] -= rate * from[k];
    }
}

/* Parameters are (groups, 86, LANES): weights, then the two biases, of each group. */
void train(float *parameters, int groups, const float *x, const int *y, int rows,
           int epochs, float rate, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int group = 0; group < groups; group++) {
        struct network own;
        float *theirs = parameters + group * (sizeof own / sizeof(float));
        memcpy(&own, theirs, sizeof own);
        descend(&own, x, y, rows, epochs, rate);
        memcpy(theirs, &own, sizeof own);
    }
}
