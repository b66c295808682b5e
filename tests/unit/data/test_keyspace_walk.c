/* SCAN over shards, KEYS, RANDOMKEY, sampling. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"

#define N 5000

static unsigned seen[N * 4];

static int setup(void **state) {
    memset(seen, 0, sizeof(seen));
    *state = ks_locked_new(4, 16, (struct ks_hooks){ 0 });
    return 0;
}

static int teardown(void **state) {
    ks_locked_free(*state);
    return 0;
}

static void note(void *arg, struct entry *e) {
    (void)arg;
    seen[key_number(entry_key(e))]++;
}

static bool note_each(void *arg, struct entry *e) {
    note(NULL, e);
    return --*(unsigned *)arg > 0;
}

static void test_scan_visits_each_key_once(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < N; i++) set_num(ks, 1, KEY(i), i);
    ks_unlock(ks, ks_all_mask(16));
    for (int s = 0; s < 16; s++) assert_false(ks_rehash_cycle(ks, s, 1000000));
    uint64_t cursor = 0;
    do {
        uint64_t mask = 1ULL << ks_scan_shard(ks, cursor);
        ks_lock(ks, mask);
        cursor = ks_scan(ks, 1, cursor, T0, note, NULL);
        ks_unlock(ks, mask);
        assert_true(cursor < N * 4);
    } while (cursor);
    ks_lock(ks, ks_all_mask(16));
    for (unsigned i = 0; i < N; i++) assert_int_equal(seen[i], 1);
}

static void test_scan_while_growing_and_shrinking_sees_all(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < N; i++) set_num(ks, 1, KEY(i), i);
    uint64_t cursor = 0;
    unsigned next = N;
    do {
        cursor = ks_scan(ks, 1, cursor, T0, note, NULL);
        for (unsigned i = 0; i < 30; i++, next++) {
            if (next < N * 4)
                set_num(ks, 1, KEY(next), 1);
            else if (next < N * 7)
                ks_delete(ks, 1, KEY(next - N * 3), false);
        }
    } while (cursor);
    for (unsigned i = 0; i < N; i++) assert_true(seen[i]);
}

static void test_scan_skips_empty_shards(void **state) {
    struct keyspace *ks = *state;
    assert_int_equal(ks_scan(ks, 1, 0, T0, note, NULL), 0);
    set_num(ks, 1, KEY(7), 1);
    unsigned calls = 1;
    for (uint64_t cursor = 0; (cursor = ks_scan(ks, 1, cursor, T0, note, NULL)); calls++) {
    }
    assert_true(calls <= 2);
    assert_int_equal(seen[7], 1);
}

static void test_scan_hides_due_keys(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < 100; i++) {
        struct entry *e = set_num(ks, 0, KEY(i), 1);
        if (i % 2) ks_set_expire(ks, 0, e, T0 - 1);
    }
    for (uint64_t cursor = 0; (cursor = ks_scan(ks, 0, cursor, T0, note, NULL));) {
    }
    for (unsigned i = 0; i < 100; i++) assert_int_equal(seen[i], i % 2 == 0);
    assert_int_equal(ks_size(ks, 0), 100);
}

static void test_scan_made_up_cursor_is_safe(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < N; i++) set_num(ks, 0, KEY(i), i);
    for (int i = 0; i < 1000; i++) ks_scan(ks, 0, rand_u64(), T0, note, NULL);
    ks_scan(ks, 0, UINT64_MAX, T0, note, NULL);
}

static void test_each_visits_live_keys_and_stops(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < N; i++) {
        struct entry *e = set_num(ks, 0, KEY(i), i);
        if (i % 2) ks_set_expire(ks, 0, e, T0 - 1);
    }
    unsigned left = N;
    for (int s = 0; s < 16; s++) assert_true(ks_each(ks, 0, s, T0, note_each, &left));
    for (unsigned i = 0; i < N; i++) assert_int_equal(seen[i], i % 2 == 0);
    left = 3;
    assert_false(ks_each(ks, 0, 5, T0, note_each, &left));
    assert_int_equal(left, 0);
    assert_true(ks_each(ks, 3, 5, T0, note_each, &left));
}

static void test_random_weighs_shards(void **state) {
    struct keyspace *ks = *state;
    assert_null(ks_random(ks, 0, T0));
    char key[32];
    for (int i = 0; i < 900; i++) { /* one crowded shard */
        int len = snprintf(key, sizeof(key), "{x}%d", i);
        set_num(ks, 0, (struct slice){ key, (size_t)len }, 1);
    }
    for (unsigned i = 0; i < 100; i++) set_num(ks, 0, KEY(i), 1);
    unsigned crowded = 0;
    for (int i = 0; i < 20000; i++) crowded += entry_key(ks_random(ks, 0, T0)).ptr[0] == '{';
    assert_true(crowded > 17500 && crowded < 18500);
}

static void test_random_deletes_due_keys(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < 500; i++) ks_set_expire(ks, 0, set_num(ks, 0, KEY(i), 1), T0 - 1);
    set_num(ks, 0, KEY(999), 1);
    for (int i = 0; i < 20; i++) assert_int_equal(key_number(entry_key(ks_random(ks, 0, T0))), 999);
    ks_delete(ks, 0, KEY(999), false);
    assert_null(ks_random(ks, 0, T0));
    assert_int_equal(ks_size(ks, 0), 0);
}

static void test_sample_gives_different_entries(void **state) {
    struct keyspace *ks = *state;
    struct entry *got[KS_SAMPLE_MAX];
    assert_int_equal(ks_sample(ks, 0, 0, false, got, 16), 0);
    for (unsigned i = 0; i < N; i++) {
        struct entry *e = set_num(ks, 0, KEY(i), 1);
        if (i % 4 == 0) ks_set_expire(ks, 0, e, T0 + i);
    }
    for (int s = 0; s < 16; s++) {
        assert_int_equal(ks_sample(ks, 0, s, false, got, 1000), KS_SAMPLE_MAX);
        for (int i = 0; i < KS_SAMPLE_MAX; i++) assert_int_equal(seen[key_number(entry_key(got[i]))]++, 0);
        assert_int_equal(ks_sample(ks, 0, s, true, got, 5), 5);
        for (int i = 0; i < 5; i++) assert_int_equal(key_number(entry_key(got[i])) % 4, 0);
        assert_int_equal(key_number(entry_key(ks_first_to_expire(ks, 0, s))) % 4, 0);
    }
    assert_null(ks_first_to_expire(ks, 2, 0));
    int first = ks_shard_of(ks, KEY(0));
    assert_int_equal(key_number(entry_key(ks_first_to_expire(ks, 0, first))), 0);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_scan_visits_each_key_once),      T(test_scan_while_growing_and_shrinking_sees_all),
        T(test_scan_skips_empty_shards),        T(test_scan_hides_due_keys),
        T(test_scan_made_up_cursor_is_safe),    T(test_each_visits_live_keys_and_stops),
        T(test_random_weighs_shards),           T(test_random_deletes_due_keys),
        T(test_sample_gives_different_entries),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
