/* Histogram: percentiles against a sorted array, extremes, merging, many adders. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/hist.h"
#include "base/rand.h"

#define SAMPLES 20000
#define TOLERANCE 0.016
#define LIMIT (1ULL << 36)

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* "Highest value equivalent": never below the true one, at most TOLERANCE above. */
static void assert_close(uint64_t got, uint64_t want) {
    assert_true(got >= want);
    assert_true((double)got <= (double)want * (1 + TOLERANCE));
}

static void assert_percentiles(const struct hist *h, uint64_t *v, size_t n) {
    static const double p[] = { 0.001, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100 };
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        size_t rank = (size_t)(p[i] / 100 * (double)n + 0.5);
        if (rank < 1) rank = 1;
        assert_close(hist_percentile(h, p[i]), v[rank - 1]);
    }
    assert_int_equal(hist_percentile(h, 100), v[n - 1]);
    assert_int_equal(hist_min(h), v[0]);
    assert_int_equal(hist_max(h), v[n - 1]);
    assert_int_equal(hist_count(h), n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i];
    assert_true(hist_mean(h) >= sum / (double)n * (1 - TOLERANCE) && hist_mean(h) <= sum / (double)n * (1 + TOLERANCE));
}

static uint64_t draw(int shape) {
    switch (shape) {
    case 0:
        return rand_below(128);
    case 1:
        return rand_below(100000);
    case 2:
        return rand_u64() >> (28 + rand_below(36)); /* every magnitude alike */
    default:
        return rand_below(100) ? 200 + rand_below(50) : 1000000 + rand_below(LIMIT - 1000000); /* a long tail */
    }
}

static void test_hist_empty_is_all_zero(void **state) {
    (void)state;
    struct hist *h = hist_new();
    assert_int_equal(hist_count(h), 0);
    assert_int_equal(hist_min(h), 0);
    assert_int_equal(hist_max(h), 0);
    assert_true(hist_mean(h) == 0);
    assert_int_equal(hist_percentile(h, 50), 0);
    hist_free(h);
    hist_free(NULL);
}

static void test_hist_small_values_are_exact(void **state) {
    (void)state;
    struct hist *h = hist_new();
    for (uint64_t v = 0; v < 100; v++) hist_add(h, v);
    for (uint64_t p = 1; p <= 100; p++) assert_int_equal(hist_percentile(h, (double)p), p - 1);
    assert_int_equal(hist_percentile(h, 0), 0);
    hist_free(h);
}

static void test_hist_single_value_is_every_percentile(void **state) {
    (void)state;
    for (int bit = 0; bit < 36; bit++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t v = (1ULL << bit) + (uint64_t)off;
            struct hist *h = hist_new();
            hist_add(h, v);
            assert_int_equal(hist_percentile(h, 0), v);
            assert_int_equal(hist_percentile(h, 50), v);
            assert_int_equal(hist_percentile(h, 100), v);
            assert_int_equal(hist_min(h), v);
            hist_free(h);
        }
    }
}

/* A second, larger sample keeps the maximum from hiding the bucket's own width. */
static void test_hist_bucket_width_is_within_tolerance(void **state) {
    (void)state;
    for (int i = 0; i < 3000; i++) {
        uint64_t v = 1 + (rand_u64() >> (28 + rand_below(30)));
        if (v >= LIMIT) v = LIMIT - 1;
        struct hist *h = hist_new();
        hist_add(h, v);
        hist_add(h, LIMIT);
        assert_close(hist_percentile(h, 50), v);
        hist_free(h);
    }
}

static void test_hist_percentiles_agree_with_sorted_samples(void **state) {
    (void)state;
    static uint64_t v[SAMPLES];
    for (int shape = 0; shape < 4; shape++) {
        struct hist *h = hist_new();
        for (size_t i = 0; i < SAMPLES; i++) hist_add(h, v[i] = draw(shape));
        assert_percentiles(h, v, SAMPLES);
        hist_free(h);
    }
}

static void test_hist_value_beyond_range_counts_and_shows_as_maximum(void **state) {
    (void)state;
    struct hist *h = hist_new();
    hist_add(h, 5);
    hist_add(h, 1ULL << 50);
    assert_int_equal(hist_count(h), 2);
    assert_int_equal(hist_max(h), 1ULL << 50);
    assert_int_equal(hist_percentile(h, 50), 5);
    assert_int_equal(hist_percentile(h, 100), 1ULL << 50);
    hist_free(h);
}

static void test_hist_merge_equals_adding_all_to_one(void **state) {
    (void)state;
    static uint64_t v[SAMPLES];
    struct hist *a = hist_new(), *b = hist_new(), *empty = hist_new();
    for (size_t i = 0; i < SAMPLES; i++) hist_add(i % 3 ? a : b, v[i] = draw(2));
    hist_merge(a, b);
    hist_merge(a, empty);
    assert_percentiles(a, v, SAMPLES);
    hist_merge(empty, a);
    assert_percentiles(empty, v, SAMPLES);
    hist_free(a);
    hist_free(b);
    hist_free(empty);
}

/* Merging a histogram with a copy of itself doubles it: 40 times is more than 32 bits hold. */
static void test_hist_many_samples_do_not_wrap(void **state) {
    (void)state;
    struct hist *a = hist_new(), *b = hist_new();
    hist_add(a, 10);
    for (int i = 0; i < 40; i++) {
        hist_reset(b);
        hist_merge(b, a);
        hist_merge(a, b);
    }
    hist_add(a, 5000000);
    assert_int_equal(hist_count(a), (1ULL << 40) + 1);
    assert_int_equal(hist_percentile(a, 50), 10);
    assert_int_equal(hist_percentile(a, 99.9), 10);
    hist_free(a);
    hist_free(b);
}

static void test_hist_reset_starts_over(void **state) {
    (void)state;
    struct hist *h = hist_new();
    for (int i = 0; i < 1000; i++) hist_add(h, draw(1));
    hist_reset(h);
    assert_int_equal(hist_count(h), 0);
    assert_int_equal(hist_max(h), 0);
    assert_int_equal(hist_min(h), 0);
    assert_int_equal(hist_percentile(h, 99), 0);
    hist_add(h, 70);
    assert_int_equal(hist_min(h), 70);
    assert_int_equal(hist_percentile(h, 1), 70);
    hist_free(h);
}

static void *add_many(void *arg) {
    for (uint64_t i = 0; i < SAMPLES; i++) hist_add(arg, i % 1000);
    return NULL;
}

static void test_hist_concurrent_adders_lose_nothing(void **state) {
    (void)state;
    struct hist *h = hist_new();
    pthread_t t[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, add_many, h), 0);
    for (int i = 0; i < 100; i++) assert_true(hist_percentile(h, 50) <= 999);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    assert_int_equal(hist_count(h), 4 * SAMPLES);
    assert_int_equal(hist_max(h), 999);
    assert_int_equal(hist_min(h), 0);
    assert_true(hist_mean(h) > 499.5 * (1 - TOLERANCE) && hist_mean(h) < 499.5 * (1 + TOLERANCE));
    assert_close(hist_percentile(h, 50), 499);
    hist_free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hist_empty_is_all_zero),
        cmocka_unit_test(test_hist_small_values_are_exact),
        cmocka_unit_test(test_hist_single_value_is_every_percentile),
        cmocka_unit_test(test_hist_bucket_width_is_within_tolerance),
        cmocka_unit_test(test_hist_percentiles_agree_with_sorted_samples),
        cmocka_unit_test(test_hist_value_beyond_range_counts_and_shows_as_maximum),
        cmocka_unit_test(test_hist_merge_equals_adding_all_to_one),
        cmocka_unit_test(test_hist_many_samples_do_not_wrap),
        cmocka_unit_test(test_hist_reset_starts_over),
        cmocka_unit_test(test_hist_concurrent_adders_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
