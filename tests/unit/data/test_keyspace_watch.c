/* WATCH, with its rules for expiry, FLUSHDB and SWAPDB. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"
#include "base/clock.h"

struct watcher {
    struct ks_watch w;
    _Atomic bool dirty;
};

static int setup(void **state) {
    *state = ks_locked_new(4, 4, (struct ks_hooks){ 0 });
    return 0;
}

static int teardown(void **state) {
    ks_locked_free(*state);
    return 0;
}

static void watch(struct keyspace *ks, struct watcher *x, int db, struct slice key, int64_t now_ms) {
    *x = (struct watcher){ .w = { .db = db, .key = mem_memdup0(key.ptr, key.len), .key_len = key.len } };
    x->w.dirty = &x->dirty;
    ks_watch_add(ks, &x->w, now_ms);
}

static bool unwatch(struct keyspace *ks, struct watcher *x) {
    ks_watch_remove(ks, &x->w);
    mem_free(x->w.key);
    return x->dirty;
}

static struct entry *set_ttl(struct keyspace *ks, int db, struct slice key, int64_t when_ms) {
    struct entry *e = set_num(ks, db, key, 1);
    ks_set_expire(ks, db, e, when_ms);
    return e;
}

static void test_touch_marks_watchers_of_that_key_only(void **state) {
    struct keyspace *ks = *state;
    struct watcher a, b, other_key, other_db;
    watch(ks, &a, 0, KEY(1), T0);
    watch(ks, &b, 0, KEY(1), T0);
    watch(ks, &other_key, 0, KEY(2), T0);
    watch(ks, &other_db, 1, KEY(1), T0);
    ks_touch_watched(ks, 0, KEY(1));
    assert_true(unwatch(ks, &a));
    assert_true(unwatch(ks, &b));
    assert_false(unwatch(ks, &other_key));
    assert_false(unwatch(ks, &other_db));
    ks_touch_watched(ks, 0, KEY(1)); /* nobody left */
}

static void test_many_watchers_survive_table_growth(void **state) {
    struct keyspace *ks = *state;
    enum { N = 2000 };
    static struct watcher ws[N];
    for (unsigned i = 0; i < N; i++) watch(ks, &ws[i], 0, KEY(i), T0);
    for (unsigned i = 0; i < N; i += 2) ks_touch_watched(ks, 0, KEY(i));
    for (unsigned i = 0; i < N; i++) assert_int_equal(unwatch(ks, &ws[i]), i % 2 == 0);
}

static void test_key_expiring_after_watch_aborts(void **state) {
    struct keyspace *ks = *state;
    struct watcher x;
    set_ttl(ks, 0, KEY(1), T0 + 10);
    watch(ks, &x, 0, KEY(1), T0);
    assert_false(ks_watch_expired(ks, &x.w, T0 + 10));
    assert_true(ks_watch_expired(ks, &x.w, T0 + 11));
    assert_null(ks_find(ks, 0, KEY(1), T0 + 11, KS_FIND_READ)); /* deleted by somebody's look-up */
    assert_true(unwatch(ks, &x));
}

static void test_key_expired_before_watch_does_not(void **state) {
    struct keyspace *ks = *state;
    struct watcher x;
    set_ttl(ks, 0, KEY(1), T0 - 1);
    watch(ks, &x, 0, KEY(1), T0);
    assert_false(ks_watch_expired(ks, &x.w, T0 + 1000));
    assert_null(ks_find(ks, 0, KEY(1), T0, KS_FIND_READ));
    assert_false(x.dirty);
    set_num(ks, 0, KEY(1), 2); /* from here on it is like any other key */
    ks_touch_watched(ks, 0, KEY(1));
    assert_true(unwatch(ks, &x));
}

static void test_expired_key_replaced_without_look_up_is_dirty(void **state) {
    struct keyspace *ks = *state;
    struct watcher x;
    ks_find(ks, 0, KEY(1), T0, KS_FIND_WRITE);
    set_ttl(ks, 0, KEY(1), T0 - 1);
    watch(ks, &x, 0, KEY(1), T0);
    set_num(ks, 0, KEY(1), 2);
    ks_touch_watched(ks, 0, KEY(1));
    assert_true(unwatch(ks, &x));
}

static void test_expire_cycle_touches_watchers(void **state) {
    struct keyspace *ks = *state;
    struct watcher was_live, was_due;
    set_ttl(ks, 0, KEY(1), T0 + 10);
    set_ttl(ks, 0, KEY(2), T0 - 1);
    watch(ks, &was_live, 0, KEY(1), T0);
    watch(ks, &was_due, 0, KEY(2), T0);
    bool more;
    for (int s = 0; s < 4; s++) ks_expire_cycle(ks, s, T0 + 100, 10, &more);
    assert_int_equal(ks_size(ks, 0), 0);
    assert_true(unwatch(ks, &was_live));
    assert_false(unwatch(ks, &was_due));
}

static void test_flush_marks_existing_keys_only(void **state) {
    struct keyspace *ks = *state;
    struct watcher there, absent, due, elsewhere;
    set_num(ks, 0, KEY(1), 1);
    set_ttl(ks, 0, KEY(3), T0 - 1);
    set_num(ks, 1, KEY(1), 1);
    watch(ks, &there, 0, KEY(1), T0);
    watch(ks, &absent, 0, KEY(2), T0);
    watch(ks, &due, 0, KEY(3), T0);
    watch(ks, &elsewhere, 1, KEY(1), T0);
    ks_touch_watched_all(ks, 0);
    ks_flush(ks, 0, false);
    assert_true(there.dirty);
    assert_false(absent.dirty || due.dirty || elsewhere.dirty);
    assert_false(due.w.expired_at_watch);
    ks_touch_watched_all(ks, -1);
    ks_flush(ks, -1, false);
    assert_true(unwatch(ks, &elsewhere) && unwatch(ks, &there));
    assert_false(unwatch(ks, &absent) || unwatch(ks, &due));
}

static void test_swap_marks_keys_of_either_side(void **state) {
    struct keyspace *ks = *state;
    struct watcher in_a, comes_to_a, nowhere, third;
    set_num(ks, 0, KEY(1), 1);
    set_num(ks, 1, KEY(2), 1);
    watch(ks, &in_a, 0, KEY(1), T0);
    watch(ks, &comes_to_a, 0, KEY(2), T0);
    watch(ks, &nowhere, 0, KEY(3), T0);
    watch(ks, &third, 2, KEY(1), T0);
    ks_swap(ks, 0, 1);
    assert_true(unwatch(ks, &in_a));
    assert_true(unwatch(ks, &comes_to_a));
    assert_false(unwatch(ks, &nowhere));
    assert_false(unwatch(ks, &third));
}

static void test_swap_treats_expired_keys_as_absent(void **state) {
    struct keyspace *ks = *state;
    int64_t now_ms = clock_wall_ms(), past = now_ms - 1000;
    struct watcher due_to_none, due_to_due, none_to_due, due_to_live;
    set_ttl(ks, 0, KEY(1), past);
    set_ttl(ks, 0, KEY(2), past);
    set_ttl(ks, 1, KEY(2), past);
    set_ttl(ks, 1, KEY(3), past);
    set_ttl(ks, 0, KEY(4), past);
    set_num(ks, 1, KEY(4), 1);
    watch(ks, &due_to_none, 0, KEY(1), now_ms);
    watch(ks, &due_to_due, 0, KEY(2), now_ms);
    watch(ks, &none_to_due, 0, KEY(3), now_ms);
    watch(ks, &due_to_live, 0, KEY(4), now_ms);
    ks_swap(ks, 0, 1);
    assert_false(due_to_none.w.expired_at_watch);
    assert_true(due_to_due.w.expired_at_watch);
    assert_true(none_to_due.w.expired_at_watch);
    assert_false(unwatch(ks, &due_to_none));
    assert_false(unwatch(ks, &due_to_due));
    assert_false(unwatch(ks, &none_to_due));
    assert_true(unwatch(ks, &due_to_live));
}

static void test_exchange_touches_what_changes(void **state) {
    struct keyspace *ks = *state, *other = ks_locked_new(4, 4, (struct ks_hooks){ 0 });
    struct watcher goes, comes, nowhere;
    set_num(ks, 0, KEY(1), 1);
    set_num(other, 3, KEY(2), 1);
    watch(ks, &goes, 0, KEY(1), T0);
    watch(ks, &comes, 3, KEY(2), T0);
    watch(ks, &nowhere, 0, KEY(2), T0);
    ks_exchange(ks, other);
    assert_true(unwatch(ks, &goes));
    assert_true(unwatch(ks, &comes));
    assert_false(unwatch(ks, &nowhere));
    ks_locked_free(other);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_touch_marks_watchers_of_that_key_only),
        T(test_many_watchers_survive_table_growth),
        T(test_key_expiring_after_watch_aborts),
        T(test_key_expired_before_watch_does_not),
        T(test_expired_key_replaced_without_look_up_is_dirty),
        T(test_expire_cycle_touches_watchers),
        T(test_flush_marks_existing_keys_only),
        T(test_swap_marks_keys_of_either_side),
        T(test_exchange_touches_what_changes),
        T(test_swap_treats_expired_keys_as_absent),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
