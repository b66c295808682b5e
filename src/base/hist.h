/* Latency histogram: log-linear buckets, about 1% relative error (two significant digits), values 0..2^36 (larger ones share a
 * bucket), 30 KiB. Adding is one relaxed atomic increment: many threads may add while one reads. Count, mean and percentile
 * walk the buckets (microseconds). */
#ifndef KETTLE_BASE_HIST_H
#define KETTLE_BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

struct hist; /* opaque */
struct hist *hist_new(void);
void hist_free(struct hist *h);
void hist_add(struct hist *h, uint64_t value);     /* unit is the caller's */
void hist_add_own(struct hist *h, uint64_t value); /* the same, cheaper: no other thread may add meanwhile */
uint64_t hist_count(const struct hist *h);
uint64_t hist_count_upto(const struct hist *h, uint64_t value); /* values up to this one, give or take its bucket's width */
uint64_t hist_percentile(const struct hist *h,
                         double p); /* p 0..100; highest value of the bucket, but not above the max; 0 when empty */
uint64_t hist_max(const struct hist *h);
uint64_t hist_min(const struct hist *h);
double hist_mean(const struct hist *h);
void hist_merge(struct hist *dst, const struct hist *src);
void hist_reset(struct hist *h);

#endif
