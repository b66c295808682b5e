/*
 * Log-linear histogram with HdrHistogram's bucket bounds for two significant digits (so the figures are those redis-server
 * would print): values below 256 have a bucket each; above, every power of two is cut into 128, and a bucket is less than 1%
 * of its value wide. Called after each command by the thread that ran it; read by INFO, LATENCY and the benchmark.
 *
 * Adding is one relaxed increment. Count and mean are derived from the buckets when asked: a shared counter beside them would
 * be one more contended line for each command of each thread. A reader sees a snapshot that may be a few samples off.
 * Counters have 64 bits: one of 32 would overflow within hours on a busy server, as nearly all samples fall into few buckets.
 */
#include "base/hist.h"

#include "base/alloc.h"
#include "base/counter.h"

#define SUB_BITS 7
#define SUB (1u << SUB_BITS)
#define LINEAR (2 * SUB)
#define MAX_BITS 36
#define BUCKETS (LINEAR + (MAX_BITS - SUB_BITS - 1) * SUB)

struct hist {
    _Atomic uint64_t max, min;
    _Atomic uint64_t bucket[BUCKETS];
};

#define RLX memory_order_relaxed

struct hist *hist_new(void) {
    struct hist *h = mem_zalloc(sizeof *h);
    atomic_store_explicit(&h->min, UINT64_MAX, RLX);
    return h;
}

void hist_free(struct hist *h) {
    mem_free(h);
}

/* Values of 2^36 and more share the last bucket. */
static unsigned bucket_of(uint64_t v) {
    if (v < LINEAR) return (unsigned)v;
    if (v >> MAX_BITS) return BUCKETS - 1;
    unsigned shift = 63 - (unsigned)__builtin_clzll(v) - SUB_BITS;
    return LINEAR + (shift - 1) * SUB + (unsigned)((v >> shift) - SUB);
}

static uint64_t bucket_low(unsigned i) {
    if (i < LINEAR) return i;
    return (uint64_t)(SUB + (i - LINEAR) % SUB) << ((i - LINEAR) / SUB + 1);
}

static uint64_t bucket_high(unsigned i) {
    return bucket_low(i + 1) - 1;
}

static uint64_t load(const struct hist *h, unsigned i) {
    return atomic_load_explicit(&h->bucket[i], RLX);
}

static void raise_to(_Atomic uint64_t *at, uint64_t v) {
    uint64_t old = atomic_load_explicit(at, RLX);
    while (old < v && !atomic_compare_exchange_weak_explicit(at, &old, v, RLX, RLX)) {
    }
}

static void lower_to(_Atomic uint64_t *at, uint64_t v) {
    uint64_t old = atomic_load_explicit(at, RLX);
    while (old > v && !atomic_compare_exchange_weak_explicit(at, &old, v, RLX, RLX)) {
    }
}

void hist_add(struct hist *h, uint64_t value) {
    raise_to(&h->max, value);
    lower_to(&h->min, value);
    atomic_fetch_add_explicit(&h->bucket[bucket_of(value)], 1, RLX);
}

void hist_add_own(struct hist *h, uint64_t value) {
    if (value > atomic_load_explicit(&h->max, RLX)) atomic_store_explicit(&h->max, value, RLX);
    if (value < atomic_load_explicit(&h->min, RLX)) atomic_store_explicit(&h->min, value, RLX);
    counter_add(&h->bucket[bucket_of(value)], 1);
}

uint64_t hist_count(const struct hist *h) {
    uint64_t n = 0;
    for (unsigned i = 0; i < BUCKETS; i++) n += load(h, i);
    return n;
}

uint64_t hist_count_upto(const struct hist *h, uint64_t value) {
    uint64_t n = 0;
    for (unsigned i = 0; i < BUCKETS && bucket_low(i) <= value; i++) n += load(h, i);
    return n;
}

uint64_t hist_max(const struct hist *h) {
    return atomic_load_explicit(&h->max, RLX);
}

uint64_t hist_min(const struct hist *h) {
    uint64_t min = atomic_load_explicit(&h->min, RLX);
    return min == UINT64_MAX ? 0 : min;
}

double hist_mean(const struct hist *h) {
    uint64_t n = 0;
    double sum = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint64_t here = load(h, i);
        n += here;
        sum += (double)here * ((double)bucket_low(i) + (double)bucket_high(i)) / 2;
    }
    return n ? sum / (double)n : 0;
}

uint64_t hist_percentile(const struct hist *h, double p) {
    uint64_t n = hist_count(h), seen = 0, max = hist_max(h);
    if (n == 0) return 0;
    uint64_t want = p >= 100 ? n : p > 0 ? (uint64_t)(p / 100 * (double)n + 0.5) : 0;
    if (want == 0) want = 1;
    for (unsigned i = 0; i < BUCKETS - 1; i++) {
        seen += load(h, i);
        if (seen >= want) return bucket_high(i) < max ? bucket_high(i) : max;
    }
    return max; /* the last bucket has no upper bound */
}

void hist_merge(struct hist *dst, const struct hist *src) {
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint64_t n = load(src, i);
        if (n) atomic_fetch_add_explicit(&dst->bucket[i], n, RLX);
    }
    raise_to(&dst->max, hist_max(src));
    lower_to(&dst->min, atomic_load_explicit(&src->min, RLX));
}

void hist_reset(struct hist *h) {
    for (unsigned i = 0; i < BUCKETS; i++) atomic_store_explicit(&h->bucket[i], 0, RLX);
    atomic_store_explicit(&h->max, 0, RLX);
    atomic_store_explicit(&h->min, UINT64_MAX, RLX);
}
