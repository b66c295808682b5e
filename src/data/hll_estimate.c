/* HyperLogLogs: the estimate, by Ertl's improved estimator ("New cardinality estimation algorithms for HyperLogLog sketches",
 * arXiv:1702.01284, algorithm 6). It goes by how many registers have each value, and needs neither tables of bias nor another
 * rule for small numbers. The same steps in the same order as redis-server's: two servers must not tell different numbers. */
#include <math.h>

#include "data/hll_priv.h"

#define Q 50                              /* 64 bits of hash less 14 of index: values are 0 to Q + 1 */
#define ALPHA_INF 0.721347520444481703680 /* 1 / (2 ln 2) */

static double sigma(double x) {
    if (x == 1.) return INFINITY;
    double y = 1, z = x, before;
    do {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    } while (before != z);
    return z;
}

static double tau(double x) {
    if (x == 0. || x == 1.) return 0.;
    double y = 1, z = 1 - x, before;
    do {
        x = sqrt(x);
        before = z;
        y *= 0.5;
        z -= pow(1 - x, 2) * y;
    } while (before != z);
    return z / 3;
}

static uint64_t estimate(const unsigned n_of[HLL_VALUES]) {
    double m = HLL_REGISTERS, z = m * tau((m - n_of[Q + 1]) / m);
    for (int value = Q; value >= 1; value--) {
        z += n_of[value];
        z *= 0.5;
    }
    z += m * sigma(n_of[0] / m);
    double e = ALPHA_INF * m * m / z;
    if (!(e < 9223372036854775808.0)) return 1ULL << 63; /* registers that no hash gives */
    return (uint64_t)llroundl(e);
}

static void count_run(void *arg, const struct hll_run *run) {
    unsigned *n_of = arg;
    n_of[run->value] += run->len;
}

uint64_t hll_estimate_of(const uint8_t regs[HLL_REGISTERS]) {
    unsigned n_of[HLL_VALUES] = { 0 };
    for (unsigned i = 0; i < HLL_REGISTERS; i++) n_of[regs[i] & (HLL_VALUES - 1)]++;
    return estimate(n_of);
}

int hll_estimate(const struct obj *o, uint64_t *ret) {
    unsigned n_of[HLL_VALUES] = { 0 };
    if (hll_is_dense(o)) {
        const uint8_t *packed = (const uint8_t *)obj_string_bytes(o, NULL).ptr + HLL_HEADER;
        for (unsigned i = 0; i < HLL_REGISTERS; i += 4, packed += 3) { /* three bytes are four registers */
            unsigned three = packed[0] | (unsigned)packed[1] << 8 | (unsigned)packed[2] << 16;
            n_of[three & 63]++;
            n_of[three >> 6 & 63]++;
            n_of[three >> 12 & 63]++;
            n_of[three >> 18]++;
        }
    } else {
        int r = hll_each_run(o, count_run, n_of);
        if (r < 0) return r;
    }
    *ret = estimate(n_of);
    return 0;
}
