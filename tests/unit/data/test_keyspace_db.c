/* FLUSHDB, FLUSHALL, SWAPDB. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"
#include "data/lazyfree.h"

static int setup(void **state) {
    *state = ks_locked_new(8, 4, (struct ks_hooks){ 0 });
    return 0;
}

static int teardown(void **state) {
    ks_locked_free(*state);
    return 0;
}

static void fill(struct keyspace *ks, int db, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        struct entry *e = set_num(ks, db, KEY(i), db);
        if (i % 4 == 1) ks_set_expire(ks, db, e, T0 + i);
        if (i % 4 == 3) ks_set_expire_own(ks, db, e, T0 + i); /* all that concerns the one heap concerns the other */
    }
}

static void check_flushed(struct keyspace *ks, int db) {
    assert_int_equal(ks_size(ks, db), 0);
    assert_int_equal(ks_expires(ks, db), 0);
    assert_int_equal(ks_avg_ttl_ms(ks, db, 0), 0);
    for (unsigned i = 0; i < 100; i++) assert_null(find_quietly(ks, db, KEY(i), T0));
}

static void test_flush_one_database(void **state) {
    struct keyspace *ks = *state;
    fill(ks, 1, 1000);
    fill(ks, 2, 500);
    assert_int_equal(ks_flush(ks, 1, false), 1000);
    check_flushed(ks, 1);
    assert_int_equal(ks_size(ks, 2), 500);
    assert_int_equal(ks_expires(ks, 2), 250);
    fill(ks, 1, 10);
    assert_int_equal(ks_size(ks, 1), 10);
    assert_int_equal(ks_flush(ks, 7, true), 0);
}

static void test_flush_async_frees_in_background(void **state) {
    struct keyspace *ks = *state;
    ks_stats_reset(ks);
    fill(ks, 1, 20000);
    fill(ks, 2, 500);
    struct entry *e = find_quietly(ks, 1, KEY(0), T0);
    ks_string_own(ks, 1, KEY(0), &e, 0);
    struct obj *kept = obj_ref(entry_value(e)); /* a reply still refers to it */
    assert_int_equal(ks_flush(ks, -1, true), 20500);
    check_flushed(ks, 1);
    check_flushed(ks, 2);
    fill(ks, 1, 100);
    assert_int_equal(ks_size(ks, 1), 100);
    lazyfree_drain();
    struct ks_stats st;
    ks_stats_get(ks, &st);
    assert_int_equal(st.lazyfree_pending, 0);
    assert_int_equal(st.lazyfreed, 20500);
    int64_t v;
    assert_true(obj_string_to_ll(kept, &v) && v == 1);
    obj_unref(kept);
}

static void test_flush_while_rehashing(void **state) {
    struct keyspace *ks = *state;
    for (unsigned n = 1; n < 700; n += 13) {
        fill(ks, 0, n);
        assert_int_equal(ks_flush(ks, 0, n & 1), n);
        check_flushed(ks, 0);
    }
    lazyfree_drain();
}

static void test_swap_exchanges_everything(void **state) {
    struct keyspace *ks = *state;
    fill(ks, 1, 100);
    fill(ks, 2, 30);
    ks_swap(ks, 1, 2);
    assert_int_equal(ks_size(ks, 1), 30);
    assert_int_equal(ks_expires(ks, 2), 50);
    int64_t v;
    assert_true(obj_string_to_ll(entry_value(find_quietly(ks, 1, KEY(5), T0)), &v) && v == 2);
    ks_swap(ks, 1, 5); /* with one that was never used */
    assert_int_equal(ks_size(ks, 1), 0);
    assert_int_equal(ks_size(ks, 5), 30);
    ks_swap(ks, 5, 5);
    fill(ks, 1, 3);
    assert_int_equal(ks_flush(ks, 5, false), 30);
    assert_int_equal(ks_size(ks, 1), 3);
    assert_null(find_quietly(ks, 2, KEY(1), T0 + 2));
    assert_int_equal(ks_flush(ks, -1, false), 3 + 99);
}

static void check_numbers(struct keyspace *ks, int db, unsigned n, int64_t want) {
    assert_int_equal(ks_size(ks, db), n);
    assert_int_equal(ks_expires(ks, db), n / 2);
    for (unsigned i = 0; i < n; i++) {
        const struct entry *e = find_quietly(ks, db, KEY(i), 1);
        int64_t v;
        assert_non_null(e);
        assert_true(obj_string_to_ll(entry_value(e), &v) && v == want);
        assert_int_equal(entry_expire_ms(e), i % 2 ? T0 + i : KS_NO_EXPIRE);
    }
}

static void test_exchange_takes_every_database(void **state) {
    struct keyspace *ks = *state, *other = ks_locked_new(8, 4, (struct ks_hooks){ 0 });
    fill(ks, 1, 100);
    fill(ks, 2, 3000);
    fill(other, 1, 40);
    fill(other, 5, 777);
    ks_exchange(ks, other);
    check_numbers(ks, 1, 40, 1);
    check_numbers(ks, 2, 0, 0);
    check_numbers(ks, 5, 777, 5);
    check_numbers(other, 1, 100, 1);
    check_numbers(other, 2, 3000, 2);
    check_numbers(other, 5, 0, 0);
    ks_locked_free(other);
    ks_set_child_active(ks, true); /* asked of the keyspace's own type, which the tables must have again */
    fill(ks, 5, 2000);
    ks_set_child_active(ks, false);
    fill(ks, 1, 2000);
    check_numbers(ks, 1, 2000, 1);
    check_numbers(ks, 5, 2000, 5);
    assert_int_equal(ks_flush(ks, -1, false), 4000);
}

static void test_overhead_counts_tables(void **state) {
    struct keyspace *ks = *state;
    assert_int_equal(ks_overhead_bytes(ks, 0), 0);
    fill(ks, 0, 10000);
    size_t full = ks_overhead_bytes(ks, 0);
    assert_true(full > 10000 * 9 && full < 10000 * 60);
    ks_flush(ks, 0, false);
    assert_true(ks_overhead_bytes(ks, 0) < 4 * 512);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_flush_one_database),        T(test_flush_async_frees_in_background), T(test_flush_while_rehashing),
        T(test_swap_exchanges_everything), T(test_exchange_takes_every_database),   T(test_overhead_counts_tables),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
