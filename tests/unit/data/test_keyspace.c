/* Keys: set, find, delete, expire; access clocks; statistics. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"

struct hook_log {
    int n, db;
    char key[64];
    size_t len;
};

static void on_expired(void *arg, int db, struct slice key) {
    struct hook_log *log = arg;
    log->n++;
    log->db = db;
    log->len = key.len;
    memcpy(log->key, key.ptr, key.len);
}

static struct hook_log hook_log;

static int setup(void **state) {
    hook_log = (struct hook_log){ 0 };
    *state = ks_locked_new(16, 8, (struct ks_hooks){ .arg = &hook_log, .expired = on_expired });
    return 0;
}

static int teardown(void **state) {
    ks_locked_free(*state);
    return 0;
}

static void test_set_find_delete(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < 2000; i++) set_num(ks, 3, KEY(i), i);
    assert_int_equal(ks_size(ks, 3), 2000);
    assert_int_equal(ks_size(ks, 0), 0);
    for (unsigned i = 0; i < 2000; i++) {
        struct entry *e = ks_find(ks, 3, KEY(i), T0, KS_FIND_READ);
        int64_t v;
        assert_non_null(e);
        assert_true(obj_string_to_ll(entry_value(e), &v) && v == i);
        assert_true(slice_eq(entry_key(e), KEY(i)));
        assert_null(ks_find(ks, 2, KEY(i), T0, KS_FIND_READ));
    }
    for (unsigned i = 0; i < 2000; i++) assert_true(ks_delete(ks, 3, KEY(i), i & 1));
    assert_false(ks_delete(ks, 3, KEY(0), false));
    assert_int_equal(ks_size(ks, 3), 0);
}

static void test_keys_of_any_length(void **state) {
    struct keyspace *ks = *state;
    char *big = mem_zalloc(100000);
    const size_t lens[] = { 0, 1, 7, 254, 255, 256, 4096, 100000 };
    for (size_t i = 0; i < 8; i++) set_num(ks, 0, (struct slice){ big, lens[i] }, (int64_t)lens[i]);
    for (size_t i = 0; i < 8; i++) {
        struct slice key = { big, lens[i] };
        struct entry *e = find_quietly(ks, 0, key, T0);
        int64_t v;
        assert_true(slice_eq(entry_key(e), key));
        assert_true(obj_string_to_ll(entry_value(e), &v) && (size_t)v == lens[i]);
        assert_true(entry_mem_usage(e, 0) > lens[i]);
    }
    mem_free(big);
}

static void test_set_replaces_at_one_address(void **state) {
    struct keyspace *ks = *state;
    struct entry *e = set_num(ks, 0, KEY(1), 1);
    ks_set_expire(ks, 0, e, T0 + 5);
    assert_ptr_equal(ks_set(ks, 0, KEY(1), obj_string_from_ll(2), true), e);
    assert_int_equal(entry_expire_ms(e), T0 + 5);
    assert_int_equal(ks_expires(ks, 0), 1);
    assert_ptr_equal(ks_set(ks, 0, KEY(1), obj_string_from_ll(3), false), e);
    assert_int_equal(entry_expire_ms(e), KS_NO_EXPIRE);
    assert_int_equal(ks_expires(ks, 0), 0);
    assert_int_equal(ks_size(ks, 0), 1);
}

static void test_steal_hands_over_the_value(void **state) {
    struct keyspace *ks = *state;
    ks_set_expire(ks, 0, set_num(ks, 0, KEY(1), 17), T0);
    struct obj *o = ks_steal(ks, 0, KEY(1));
    int64_t v;
    assert_true(obj_string_to_ll(o, &v) && v == 17);
    assert_null(ks_steal(ks, 0, KEY(1)));
    assert_null(ks_steal(ks, 5, KEY(1)));
    assert_int_equal(ks_size(ks, 0) + ks_expires(ks, 0), 0);
    obj_unref(o);
}

static void test_own_string_changes_in_place(void **state) {
    struct keyspace *ks = *state;
    struct entry *e = set_num(ks, 0, KEY(1), 17);
    memcpy(ks_string_own(ks, 0, KEY(1), &e, 5) + 2, "abc", 3);
    assert_ptr_equal(find_quietly(ks, 0, KEY(1), 1), e);
    char tmp[STR_LL_MAX];
    assert_true(slice_eq(obj_string_bytes(entry_value(e), tmp), SLICE_LIT("17abc")));
}

static void test_find_due_key_deletes_it(void **state) {
    struct keyspace *ks = *state;
    ks_set_expire(ks, 9, set_num(ks, 9, KEY(1), 1), T0);
    assert_non_null(ks_find(ks, 9, KEY(1), T0, KS_FIND_READ)); /* due after its time, not at it */
    assert_null(ks_find(ks, 9, KEY(1), T0 + 1, KS_FIND_READ));
    assert_int_equal(hook_log.n, 1);
    assert_int_equal(hook_log.db, 9);
    assert_true(slice_eq((struct slice){ hook_log.key, hook_log.len }, KEY(1)));
    assert_int_equal(ks_size(ks, 9) + ks_expires(ks, 9), 0);
    struct ks_stats st;
    ks_stats_get(ks, &st);
    assert_int_equal(st.hits, 1);
    assert_int_equal(st.misses, 1);
    assert_int_equal(st.expired, 1);
    ks_stats_reset(ks);
    ks_stats_get(ks, &st);
    assert_int_equal(st.hits + st.misses + st.expired, 0);
}

static void test_find_keep_expired_hides_only(void **state) {
    struct keyspace *ks = *state;
    ks_set_keep_expired(ks, true);
    ks_set_expire(ks, 0, set_num(ks, 0, KEY(1), 1), T0);
    assert_null(ks_find(ks, 0, KEY(1), T0 + 1, KS_FIND_READ));
    assert_non_null(ks_find(ks, 0, KEY(1), 0, KS_FIND_WRITE)); /* as a primary's stream sees it */
    assert_null(ks_random(ks, 0, T0 + 1));
    assert_int_equal(ks_size(ks, 0), 1);
    assert_int_equal(hook_log.n, 0);
    ks_set_keep_expired(ks, false);
    assert_null(ks_find(ks, 0, KEY(1), T0 + 1, KS_FIND_READ));
    assert_int_equal(hook_log.n, 1);
}

static void test_find_flags_choose_statistics(void **state) {
    struct keyspace *ks = *state;
    set_num(ks, 0, KEY(1), 1);
    ks_find(ks, 0, KEY(1), T0, KS_FIND_WRITE);
    ks_find(ks, 0, KEY(2), T0, KS_FIND_NO_STATS);
    struct ks_stats st;
    ks_stats_get(ks, &st);
    assert_int_equal(st.hits + st.misses, 0);
}

static unsigned cycle_all(struct keyspace *ks, int64_t now_ms, unsigned max) {
    unsigned n = 0;
    bool more = false;
    for (int i = 0; i < 8; i++) {
        do n += ks_expire_cycle(ks, i, now_ms, max, &more);
        while (more);
    }
    return n;
}

static void test_expire_cycle_deletes_exactly_what_is_due(void **state) {
    struct keyspace *ks = *state;
    for (unsigned i = 0; i < 1000; i++) {
        int db = (int)(i % 16);
        struct entry *e = set_num(ks, db, KEY(i), i);
        if (i % 3) ks_set_expire(ks, db, e, T0 + i);
    }
    ks_set_active_expire(ks, false);
    assert_int_equal(cycle_all(ks, T0 + 500, 3), 0);
    ks_set_active_expire(ks, true);
    unsigned want = 0;
    for (unsigned i = 0; i < 500; i++) want += i % 3 != 0;
    assert_int_equal(cycle_all(ks, T0 + 500, 3), want);
    assert_int_equal(hook_log.n, want);
    for (unsigned i = 0; i < 1000; i++) {
        bool is_there = i % 3 == 0 || i >= 500;
        assert_int_equal(find_quietly(ks, (int)(i % 16), KEY(i), T0) != NULL, is_there);
    }
}

/* A replica's cycle takes what is its own, and nothing else, however long that has been due. */
static void test_expire_cycle_of_a_replica_takes_its_own(void **state) {
    struct keyspace *ks = *state;
    ks_set_keep_expired(ks, KS_KEEP_FOREIGN);
    assert_true(ks_keeps_foreign(ks));
    for (unsigned i = 0; i < 400; i++) {
        struct entry *e = set_num(ks, 3, KEY(i), i);
        ks_set_expire(ks, 3, e, i % 4 == 3 ? T0 + 500 : T0 - 1000);
        if (i % 4 == 1 || i % 4 == 2) ks_set_expire_own(ks, 3, e, T0 + i);
        if (i % 4 == 2) ks_set_expire(ks, 3, e, T0 - 1000);    /* by the stream: no longer its own */
        if (i % 4 == 3) ks_set_expire_own(ks, 3, e, T0 + 500); /* the same time, but its own */
    }
    assert_int_equal(ks_expires(ks, 3), 400);
    assert_null(ks_find(ks, 3, KEY(1), T0 + 2, KS_FIND_WRITE));
    assert_int_equal(ks_size(ks, 3), 400); /* a look-up only hides it */
    ks_set_keep_expired(ks, KS_KEEP_FOREIGN | KS_KEEP_ALL);
    assert_int_equal(cycle_all(ks, T0 + 1000, 7), 0);
    ks_set_keep_expired(ks, KS_KEEP_FOREIGN);
    assert_int_equal(cycle_all(ks, T0 + 201, 7), 50); /* 1, 5 .. 197 */
    assert_int_equal(hook_log.n, 50);
    for (unsigned i = 0; i < 400; i++) assert_int_equal(find_quietly(ks, 3, KEY(i), 0) != NULL, i % 4 != 1 || i >= 201);
    assert_int_equal(cycle_all(ks, T0 + 501, 7), 150);
    assert_int_equal(ks_expires(ks, 3), 200);
}

static void test_own_times_are_forgotten(void **state) {
    struct keyspace *ks = *state;
    int64_t sum = 0;
    for (unsigned i = 0; i < 300; i++) {
        struct entry *e = set_num(ks, 0, KEY(i), i);
        sum += 64 * i;
        if (i % 3)
            ks_set_expire_own(ks, 0, e, T0 + 64 * i);
        else
            ks_set_expire(ks, 0, e, T0 + 64 * i);
    }
    int64_t mean = ks_avg_ttl_ms(ks, 0, T0);
    assert_true(mean > sum / 300 - 130 && mean < sum / 300 + 130);
    assert_int_equal(entry_expire_ms(ks_first_to_expire(ks, 0, ks_shard_of(ks, KEY(0)))), T0);
    ks_forget_own(ks);
    ks_set_keep_expired(ks, KS_KEEP_FOREIGN);
    assert_int_equal(cycle_all(ks, T0 + 100000, 50), 0);
    for (unsigned i = 0; i < 300; i++) assert_int_equal(entry_expire_ms(find_quietly(ks, 0, KEY(i), 0)), T0 + 64 * i);
    ks_set_expire(ks, 0, find_quietly(ks, 0, KEY(1), 0), KS_NO_EXPIRE);
    ks_set_keep_expired(ks, 0);
    assert_int_equal(cycle_all(ks, T0 + 100000, 50), 299);
}

/* A bounded number is remembered; the rest is kept like what the primary has set. */
static void test_own_times_are_bounded(void **state) {
    struct keyspace *ks = *state;
    const unsigned n = 20000, max = 16384;
    ks_set_keep_expired(ks, KS_KEEP_FOREIGN);
    for (unsigned i = 0; i < n; i++) {
        char key[16];
        struct slice s = { key, (size_t)snprintf(key, sizeof(key), "{a}%u", i) };
        ks_set_expire_own(ks, 0, set_num(ks, 0, s, 1), T0);
        ks_set_expire_own(ks, 0, find_quietly(ks, 0, s, 0), T0 + 1); /* one of them, or not, as before */
    }
    assert_int_equal(cycle_all(ks, T0 + 2, 1000), max);
    assert_int_equal(ks_size(ks, 0), n - max);
    struct entry *some[KS_SAMPLE_MAX];
    ks_set_expire_own(ks, 0, set_num(ks, 0, SLICE_LIT("{a}x"), 1), T0 + 5);
    ks_flush(ks, 0, false);
    ks_set_expire_own(ks, 0, set_num(ks, 0, SLICE_LIT("{a}x"), 1), T0 + 5);
    ks_set_expire(ks, 0, set_num(ks, 0, SLICE_LIT("{a}y"), 1), T0 + 4);
    assert_int_equal(ks_sample(ks, 0, ks_shard_of(ks, SLICE_LIT("{a}")), true, some, KS_SAMPLE_MAX), 2);
    assert_ptr_not_equal(some[0], some[1]);
}

static void test_expire_cycle_starves_no_database(void **state) {
    struct keyspace *ks = *state;
    for (int db = 0; db < 16; db++) {
        for (unsigned i = 0; i < 20; i++) {
            char key[16];
            int len = snprintf(key, sizeof(key), "{a}%u", i);
            ks_set_expire(ks, db, set_num(ks, db, (struct slice){ key, (size_t)len }, 1), T0);
        }
    }
    int shard = ks_shard_of(ks, SLICE_LIT("{a}"));
    bool more;
    for (int i = 0; i < 16; i++) assert_int_equal(ks_expire_cycle(ks, shard, T0 + 1, 10, &more), 10);
    for (int db = 0; db < 16; db++) assert_int_equal(ks_size(ks, db), 10);
}

static void test_avg_ttl_is_close(void **state) {
    struct keyspace *ks = *state;
    assert_int_equal(ks_avg_ttl_ms(ks, 0, T0), 0);
    for (unsigned i = 0; i < 100; i++) ks_set_expire(ks, 0, set_num(ks, 0, KEY(i), 1), T0 + 1000 * (int64_t)(i + 1));
    int64_t avg = ks_avg_ttl_ms(ks, 0, T0);
    assert_true(avg > 50500 - 128 && avg <= 50500);
}

static void test_idle_time_counts_from_the_last_access(void **state) {
    struct keyspace *ks = *state;
    assert_null(ks_find(ks, 0, KEY(1), T0, KS_FIND_WRITE));
    struct entry *e = set_num(ks, 0, KEY(1), 1);
    assert_int_equal(entry_idle_s(e, T0 + 10000), 10);
    ks_find(ks, 0, KEY(1), T0 + 10000, KS_FIND_NO_TOUCH);
    assert_int_equal(entry_idle_s(e, T0 + 20000), 20);
    ks_find(ks, 0, KEY(1), T0 + 20000, KS_FIND_READ);
    assert_int_equal(entry_idle_s(e, T0 + 20000), 0);
    assert_int_equal(entry_idle_s(e, T0 + 10000), 0); /* the clock stepped back */
    entry_set_idle_s(e, 77, T0);
    assert_int_equal(entry_idle_s(e, T0), 77);
    ks_set_child_active(ks, true);
    ks_find(ks, 0, KEY(1), T0, KS_FIND_READ);
    assert_int_equal(entry_idle_s(e, T0), 77);
}

static void test_lfu_rises_slowly_and_decays(void **state) {
    struct keyspace *ks = *state;
    ks_use_lfu(ks, true);
    assert_true(ks_uses_lfu(ks));
    ks_lfu_params(ks, 10, 1);
    ks_find(ks, 0, KEY(1), T0, KS_FIND_WRITE);
    struct entry *e = set_num(ks, 0, KEY(1), 1);
    assert_int_equal(entry_lfu(e, T0), 5);
    for (int i = 0; i < 100000; i++) ks_find(ks, 0, KEY(1), T0, KS_FIND_READ);
    unsigned high = entry_lfu(e, T0);
    assert_true(high > 100 && high < 200); /* about 142 after 100k accesses at factor 10 */
    assert_int_equal(entry_lfu(e, T0 + 50 * 60000), high - 50);
    assert_int_equal(entry_lfu(e, T0 + 1000 * 60000), 0);
    ks_lfu_params(ks, 10, 0);
    assert_int_equal(entry_lfu(e, T0 + 1000 * 60000), high);
    ks_lfu_params(ks, 10, 1);
    entry_set_lfu(e, 200, T0);
    assert_int_equal(entry_lfu(e, T0), 200);
}

static void test_locks_are_tracked_and_exclusive(void **state) {
    struct keyspace *ks = *state;
    assert_false(ks_trylock_shard(ks, 3));
    assert_true(ks_is_locked_by_me(ks, 3));
    ks_unlock(ks, 1u << 3);
    assert_true(ks_trylock_shard(ks, 3));
    assert_true(ks_is_locked_by_me(ks, 3));
    assert_int_equal(ks_shard_of(ks, SLICE_LIT("a{tag}b")), ks_shard_of(ks, SLICE_LIT("{tag}")));
    assert_true(ks_all_mask(64) == ~0ULL && ks_all_mask(1) == 1);
}

static void test_many_databases_cost_nothing_unused(void **state) {
    (void)state;
    struct keyspace *ks = ks_new(&(struct ks_opts){ .n_dbs = 16384, .n_shards = 64 });
    /* one lock only: ThreadSanitizer follows at most 64 locks a thread */
    uint64_t mask = 1ULL << ks_shard_of(ks, KEY(1));
    assert_int_equal(ks_overhead_bytes(ks, 16383), 0);
    ks_lock(ks, mask);
    set_num(ks, 16383, KEY(1), 1);
    ks_unlock(ks, mask);
    assert_int_equal(ks_size(ks, 16383), 1);
    assert_true(ks_overhead_bytes(ks, 16383) < 1024);
    ks_free(ks);
}

static void test_hint_changes_no_answer(void **state) {
    (void)state;
    struct keyspace *ks = ks_locked_new(1, 64, (struct ks_hooks){ 0 });
    char text[] = "key:1";
    struct slice key = { text, 5 };
    for (char digit = '0'; digit <= '9'; digit++) {
        text[4] = digit;
        ks_no_hint();
        int shard = ks_shard_of(ks, key);
        assert_int_equal(ks_hint(ks, key), shard);
        assert_int_equal(ks_shard_of(ks, key), shard);
        assert_null(find_quietly(ks, 0, key, 1));
        set_num(ks, 0, key, digit);
        assert_int_equal(entry_value(find_quietly(ks, 0, key, 1))->u.integer, digit);
        assert_null(find_quietly(ks, 0, (struct slice){ text, 4 }, 1)); /* the same address, another key */
    }
    text[4] = '3'; /* a hint that is over is not believed */
    ks_no_hint();
    assert_int_equal(entry_value(find_quietly(ks, 0, key, 1))->u.integer, '3');
    assert_true(ks_delete(ks, 0, key, false));
    assert_null(find_quietly(ks, 0, key, 1));
    ks_locked_free(ks);
}

static void test_many_hints_change_no_answer(void **state) {
    (void)state;
    enum { N = KS_HINTS + 10 };
    struct keyspace *ks = ks_new(&(struct ks_opts){ .n_dbs = 1, .n_shards = 64 });
    char texts[N][8];
    struct slice keys[N];
    int pos[N];
    uint64_t mask = 0;
    for (int i = 0; i < N; i++) {
        keys[i] = (struct slice){ texts[i], (size_t)snprintf(texts[i], sizeof(texts[i]), "k%d", i) };
        pos[i] = N - 1 - i;
        mask |= 1ULL << ks_shard_of(ks, keys[i]);
    }
    for (int n = -1; n <= N; n += n < 1 ? 1 : N - 1) {
        uint64_t some = ks_hints(ks, 0, keys, pos, n);
        assert_true(n < N ? some == (n == 1 ? 1ULL << ks_shard_of(ks, keys[N - 1]) : 0) : some == mask);
        ks_lock(ks, ks_all_mask(64));
        for (int round = 0; round < 3; round++)
            for (int i = 0; i < N; i++) { /* in their order, then the other way round */
                int k = round < 2 ? pos[i] : i;
                struct entry *e = find_quietly(ks, 0, keys[k], 1);
                if (round || n > -1) assert_int_equal(entry_value(e)->u.integer, k);
                if (!e) set_num(ks, 0, keys[k], k);
            }
        ks_unlock(ks, ks_all_mask(64));
        ks_no_hint();
    }
    ks_lock(ks, ks_all_mask(64));
    texts[3][1] = '4'; /* hints that are over are not believed */
    assert_int_equal(entry_value(find_quietly(ks, 0, keys[3], 1))->u.integer, 4);
    ks_unlock(ks, ks_all_mask(64));
    assert_null(ks_free(ks));
}

static void test_one_thread_needs_no_lock(void **state) {
    (void)state;
    struct keyspace *ks = ks_new(&(struct ks_opts){ .n_dbs = 1, .n_shards = 4, .one_thread = true });
    ks_lock(ks, 15);
    for (int i = 0; i < 4; i++) assert_true(ks_trylock_shard(ks, i));
    set_num(ks, 0, KEY(1), 1);
    assert_non_null(find_quietly(ks, 0, KEY(1), 1));
    ks_unlock(ks, 15);
    ks_free(ks);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_set_find_delete),
        T(test_keys_of_any_length),
        T(test_set_replaces_at_one_address),
        T(test_steal_hands_over_the_value),
        T(test_own_string_changes_in_place),
        T(test_find_due_key_deletes_it),
        T(test_find_keep_expired_hides_only),
        T(test_find_flags_choose_statistics),
        T(test_expire_cycle_deletes_exactly_what_is_due),
        T(test_expire_cycle_of_a_replica_takes_its_own),
        T(test_own_times_are_forgotten),
        T(test_own_times_are_bounded),
        T(test_expire_cycle_starves_no_database),
        T(test_avg_ttl_is_close),
        T(test_idle_time_counts_from_the_last_access),
        T(test_lfu_rises_slowly_and_decays),
        T(test_locks_are_tracked_and_exclusive),
        T(test_many_databases_cost_nothing_unused),
        cmocka_unit_test(test_hint_changes_no_answer),
        cmocka_unit_test(test_many_hints_change_no_answer),
        cmocka_unit_test(test_one_thread_needs_no_lock),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
