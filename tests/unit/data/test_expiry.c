/* The expiry heap against a model. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"
#include "data/expiry.h"

#define N 3000

static struct expiry heap;
static struct entry *entries[N];

static int setup(void **state) {
    (void)state;
    const struct entry_val number = { .form = ENTRY_INT };
    for (unsigned i = 0; i < N; i++) entries[i] = entry_new(KEY(i), &number, 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    expiry_clear(&heap);
    for (unsigned i = 0; i < N; i++) entry_free(entries[i]);
    return 0;
}

static void check_invariants(void) {
    unsigned n = 0;
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < N; i++) {
        if (entry_expire_ms(entries[i]) == KS_NO_EXPIRE) continue;
        n++;
        if (entry_expire_ms(entries[i]) < least) least = entry_expire_ms(entries[i]);
        assert_ptr_equal(heap.items[ttl_at(entries[i]->ttl)->heap_pos].entry, entries[i]);
        assert_int_equal(heap.items[ttl_at(entries[i]->ttl)->heap_pos].when_ms, entry_expire_ms(entries[i]));
    }
    assert_int_equal(heap.n, n);
    for (uint32_t i = 1; i < heap.n; i++) assert_true(heap.items[(i - 1) / 4].when_ms <= heap.items[i].when_ms);
    if (n)
        assert_int_equal(entry_expire_ms(expiry_first(&heap)), least);
    else
        assert_null(expiry_first(&heap));
}

static void test_random_changes_keep_the_heap(void **state) {
    (void)state;
    for (int round = 0; round < 60; round++) {
        unsigned clears = (unsigned)rand_below(11);
        for (int i = 0; i < 1500; i++) {
            int64_t when_ms = rand_below(10) < clears ? KS_NO_EXPIRE : (int64_t)rand_below(5000);
            expiry_set(&heap, entries[rand_below(N)], when_ms);
        }
        check_invariants();
    }
}

static void test_pop_is_in_order(void **state) {
    (void)state;
    for (unsigned i = 0; i < N; i++) expiry_set(&heap, entries[i], (int64_t)rand_below(1000000));
    size_t full = expiry_mem(&heap);
    int64_t last = 0;
    for (unsigned i = 0; i < N; i++) {
        struct entry *e = expiry_first(&heap);
        assert_true(entry_expire_ms(e) >= last);
        last = entry_expire_ms(e);
        expiry_set(&heap, e, KS_NO_EXPIRE);
    }
    assert_int_equal(heap.n, 0);
    assert_int_equal(heap.sum, 0);
    assert_true(expiry_mem(&heap) < full / 64);
}

static void test_mean_survives_extreme_times(void **state) {
    (void)state;
    expiry_set(&heap, entries[0], T0);
    expiry_set(&heap, entries[1], T0 + 64000);
    assert_int_equal(expiry_mean_ms(&heap), T0 + 32000);
    expiry_set(&heap, entries[2], INT64_MAX);
    expiry_set(&heap, entries[3], INT64_MIN);
    check_invariants();
    expiry_set(&heap, entries[2], KS_NO_EXPIRE);
    expiry_set(&heap, entries[3], KS_NO_EXPIRE);
    assert_int_equal(expiry_mean_ms(&heap), T0 + 32000);
    expiry_set(&heap, entries[0], KS_NO_EXPIRE);
    expiry_set(&heap, entries[1], KS_NO_EXPIRE);
    assert_int_equal(expiry_mean_ms(&heap), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_changes_keep_the_heap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pop_is_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mean_survives_extreme_times, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
