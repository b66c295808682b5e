/*
 * Log-linear histogram: values below 128 have a bucket each; above, every power of two is cut into 64 buckets, so a bucket is at most 1/64 (1.6%) of its value wide.
 * Counters are relaxed atomics: adders never wait; a reader sees a snapshot that may be a few samples off.
 */
#include "base/hist.h"

#include "base/alloc.h"

#define SUB_BITS 6
#define SUB (1u << SUB_BITS)
#define LINEAR (2 * SUB)
#define MAX_BITS 36
#define BUCKETS (LINEAR + (MAX_BITS - SUB_BITS - 1) * SUB)

struct hist {
    _Atomic uint64_t count, sum, max, min;
    _Atomic uint64_t bucket[BUCKETS]; /* 32 bits would wrap within hours at a million a second */
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

static unsigned bucket_of(uint64_t v) {
    if (v < LINEAR) return (unsigned)v;
    if (v >= 1ULL << MAX_BITS) return BUCKETS - 1;
    unsigned top = 63 - (unsigned)__builtin_clzll(v), shift = top - SUB_BITS;
    return LINEAR + (top - SUB_BITS - 1) * SUB + (unsigned)((v >> shift) - SUB);
}

static uint64_t bucket_high(unsigned i) {
    if (i < LINEAR) return i;
    unsigned group = (i - LINEAR) / SUB, sub = (i - LINEAR) % SUB;
    unsigned shift = group + 1;
    return (((uint64_t)SUB + sub + 1) << shift) - 1;
}

static void raise_to(_Atomic uint64_t *at, uint64_t v) {
    uint64_t old = atomic_load_explicit(at, RLX);
    while (old < v && !atomic_compare_exchange_weak_explicit(at, &old, v, RLX, RLX)) {}
}

static void lower_to(_Atomic uint64_t *at, uint64_t v) {
    uint64_t old = atomic_load_explicit(at, RLX);
    while (old > v && !atomic_compare_exchange_weak_explicit(at, &old, v, RLX, RLX)) {}
}

void hist_add(struct hist *h, uint64_t value) {
    atomic_fetch_add_explicit(&h->bucket[bucket_of(value)], 1, RLX);
    atomic_fetch_add_explicit(&h->count, 1, RLX);
    atomic_fetch_add_explicit(&h->sum, value, RLX);
    raise_to(&h->max, value);
    lower_to(&h->min, value);
}

uint64_t hist_count(const struct hist *h) {
    return atomic_load_explicit(&h->count, RLX);
}

uint64_t hist_max(const struct hist *h) {
    return atomic_load_explicit(&h->max, RLX);
}

uint64_t hist_min(const struct hist *h) {
    return hist_count(h) ? atomic_load_explicit(&h->min, RLX) : 0;
}

double hist_mean(const struct hist *h) {
    uint64_t n = hist_count(h);
    return n ? (double)atomic_load_explicit(&h->sum, RLX) / (double)n : 0;
}

uint64_t hist_percentile(const struct hist *h, double p) {
    uint64_t n = hist_count(h), seen = 0;
    if (n == 0) return 0;
    uint64_t want = (uint64_t)(p / 100.0 * (double)n + 0.5);
    if (want < 1) want = 1;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += atomic_load_explicit(&h->bucket[i], RLX);
        if (seen < want) continue;
        uint64_t high = i < BUCKETS - 1 ? bucket_high(i) : UINT64_MAX, max = hist_max(h); /* the last bucket has no upper end */
        return high < max ? high : max;
    }
    return hist_max(h);
}

void hist_merge(struct hist *dst, const struct hist *src) {
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint64_t n = atomic_load_explicit(&src->bucket[i], RLX);
        if (n) atomic_fetch_add_explicit(&dst->bucket[i], n, RLX);
    }
    atomic_fetch_add_explicit(&dst->count, hist_count(src), RLX);
    atomic_fetch_add_explicit(&dst->sum, atomic_load_explicit(&src->sum, RLX), RLX);
    raise_to(&dst->max, hist_max(src));
    lower_to(&dst->min, atomic_load_explicit(&src->min, RLX));
}

void hist_reset(struct hist *h) {
    for (unsigned i = 0; i < BUCKETS; i++) atomic_store_explicit(&h->bucket[i], 0, RLX);
    atomic_store_explicit(&h->count, 0, RLX);
    atomic_store_explicit(&h->sum, 0, RLX);
    atomic_store_explicit(&h->max, 0, RLX);
    atomic_store_explicit(&h->min, UINT64_MAX, RLX);
}
