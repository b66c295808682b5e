/* Many threads on one keyspace, as the server uses it: commands under shard locks, a cron, readers without locks, flushes and
 * swaps under all locks, replies that drop references late. Meant for ThreadSanitizer; the final count is checked everywhere. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "data_test.h"
#include "base/clock.h"
#include "data/lazyfree.h"

#define N_WORKERS 4
#define N_SHARDS 8
#define N_KEYS 2000
#define OPS 30000

static struct keyspace *ks;
static _Atomic bool stop;
static _Atomic uint64_t hook_calls;

static void on_expired(void *arg, int db, struct slice key) {
    (void)arg;
    (void)db;
    if (!ks_is_locked_by_me(ks, ks_shard_of(ks, key))) abort();
    atomic_fetch_add(&hook_calls, 1);
}

static void change(struct slice key, int db, int64_t now_ms) {
    struct entry *e = ks_find(ks, db, key, now_ms, KS_FIND_WRITE);
    switch (rand_below(5)) {
    case 0:
        set_num(ks, db, key, now_ms);
        break;
    case 1:
        ks_set_expire(ks, db, set_num(ks, db, key, 1), now_ms + (int64_t)rand_below(5));
        break;
    case 2:
        ks_delete(ks, db, key, true);
        break;
    case 3:
        obj_unref(ks_steal(ks, db, key));
        break;
    default:
        if (e) memset(ks_string_own(ks, db, key, &e, 64), 'x', 64);
    }
    ks_touch_watched(ks, db, key);
}

/* Two keys, perhaps of two shards, as MSET would lock them; a reference to a value outlives the lock. */
static void one_command(struct obj **held) {
    struct key_buf buf[2];
    struct slice a = key_of(&buf[0], (unsigned)rand_below(N_KEYS)), b = key_of(&buf[1], (unsigned)rand_below(N_KEYS));
    int db = (int)rand_below(2);
    int64_t now_ms = clock_wall_ms();
    uint64_t mask = 1ULL << ks_shard_of(ks, a) | 1ULL << ks_shard_of(ks, b);
    ks_lock(ks, mask);
    change(a, db, now_ms);
    change(b, db, now_ms);
    struct entry *e = ks_find(ks, db, a, now_ms, KS_FIND_READ);
    struct obj *o = e && entry_value(e)->enc == OBJ_ENC_RAW ? obj_ref(entry_value(e)) : NULL;
    ks_unlock(ks, mask);
    *held = obj_unref(*held);
    *held = o;
}

static void watch_once(_Atomic bool *dirty) {
    struct key_buf buf;
    struct slice key = key_of(&buf, (unsigned)rand_below(N_KEYS));
    struct ks_watch w = { .dirty = dirty, .db = 0, .key = buf.text, .key_len = key.len };
    uint64_t mask = 1ULL << ks_shard_of(ks, key);
    ks_lock(ks, mask);
    ks_watch_add(ks, &w, clock_wall_ms());
    ks_unlock(ks, mask);
    sched_yield();
    (void)atomic_load(dirty);
    ks_lock(ks, mask);
    ks_watch_expired(ks, &w, clock_wall_ms());
    ks_watch_remove(ks, &w);
    ks_unlock(ks, mask);
}

static void whole_database(void) {
    ks_lock(ks, ks_all_mask(N_SHARDS));
    switch (rand_below(4)) {
    case 0:
        ks_touch_watched_all(ks, 0);
        ks_flush(ks, 0, true);
        break;
    case 1:
        ks_swap(ks, 0, 1);
        break;
    case 2:
        ks_flush(ks, -1, false);
        break;
    default:
        ks_random(ks, 0, clock_wall_ms());
    }
    ks_unlock(ks, ks_all_mask(N_SHARDS));
}

static void *worker(void *arg) {
    struct obj *held = NULL;
    _Atomic bool dirty = false;
    (void)arg;
    for (int i = 0; i < OPS; i++) {
        one_command(&held);
        if (i % 64 == 0) watch_once(&dirty);
        if (i % 2048 == 0) whole_database();
    }
    obj_unref(held);
    return NULL;
}

static void ignore(void *arg, struct entry *e) {
    *(size_t *)arg += entry_key(e).len;
}

static void *cron(void *arg) {
    (void)arg;
    while (!atomic_load(&stop)) {
        for (int s = 0; s < N_SHARDS; s++) {
            bool more;
            ks_lock(ks, 1ULL << s);
            ks_expire_cycle(ks, s, clock_wall_ms(), 20, &more);
            ks_unlock(ks, 1ULL << s);
            ks_rehash_cycle(ks, s, 50);
        }
        ks_set_child_active(ks, rand_below(4) == 0);
        ks_use_lfu(ks, rand_below(2));
    }
    return NULL;
}

static void *reader(void *arg) {
    struct ks_stats st;
    size_t sum = 0;
    uint64_t cursor = 0;
    (void)arg;
    while (!atomic_load(&stop)) {
        sum += ks_size(ks, 0) + ks_expires(ks, 1) + ks_overhead_bytes(ks, 0) + (size_t)ks_avg_ttl_ms(ks, 0, clock_wall_ms());
        ks_stats_get(ks, &st);
        uint64_t mask = 1ULL << ks_scan_shard(ks, cursor);
        ks_lock(ks, mask);
        cursor = ks_scan(ks, 0, cursor, clock_wall_ms(), ignore, &sum);
        ks_unlock(ks, mask);
    }
    return NULL;
}

static bool count_one(void *arg, struct entry *e) {
    (void)e;
    ++*(uint64_t *)arg;
    return true;
}

static void test_threads_leave_a_consistent_keyspace(void **state) {
    (void)state;
    pthread_t threads[N_WORKERS + 2];
    ks = ks_new(&(struct ks_opts){ .n_dbs = 4, .n_shards = N_SHARDS, .hooks = { NULL, on_expired } });
    for (int i = 0; i < N_WORKERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, worker, NULL), 0);
    assert_int_equal(pthread_create(&threads[N_WORKERS], NULL, cron, NULL), 0);
    assert_int_equal(pthread_create(&threads[N_WORKERS + 1], NULL, reader, NULL), 0);
    for (int i = 0; i < N_WORKERS; i++) pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    for (int i = N_WORKERS; i < N_WORKERS + 2; i++) pthread_join(threads[i], NULL);
    ks_lock(ks, ks_all_mask(N_SHARDS));
    for (int db = 0; db < 4; db++) {
        uint64_t n = 0;
        for (int s = 0; s < N_SHARDS; s++) ks_each(ks, db, s, 0, count_one, &n);
        assert_int_equal(ks_size(ks, db), n);
    }
    struct ks_stats st;
    ks_stats_get(ks, &st);
    assert_int_equal(st.expired, hook_calls);
    ks_locked_free(ks);
    lazyfree_drain();
    assert_int_equal(lazyfree_pending(), 0);
}

static void *wait_for_lock(void *arg) {
    struct keyspace *held = arg;
    bool got = ks_lock_unless_held(held, 7);
    if (got) ks_unlock(held, 7);
    return (void *)(uintptr_t)got;
}

static bool ends_with_lock(struct keyspace *held, bool say_so) {
    pthread_t t;
    void *got;
    ks_lock(held, 2);
    assert_int_equal(pthread_create(&t, NULL, wait_for_lock, held), 0);
    usleep(30000);
    if (say_so) {
        ks_set_held(held, true);
        pthread_join(t, &got);
        assert_false(ks_lock_unless_held(held, 4)); /* free, but who holds the others goes on for long */
        assert_int_equal(ks_lock_to_serve(held, 4, true), 0);
        ks_set_held(held, false);
        ks_unlock(held, 2);
    } else {
        ks_unlock(held, 2);
        pthread_join(t, &got);
    }
    return got != NULL;
}

static void test_who_waits_for_a_lock_gives_up_when_it_is_held_for_long(void **state) {
    (void)state;
    struct ks_opts opts = { .n_dbs = 1, .n_shards = 4 };
    struct keyspace *held = ks_new(&opts);
    assert_true(ends_with_lock(held, false));
    assert_false(ends_with_lock(held, true));
    assert_true(ks_lock_unless_held(held, 15)); /* nothing stayed locked */
    ks_unlock(held, 15);
    ks_free(held);
}

static bool is_free(struct keyspace *k, int shard) {
    if (!ks_trylock_shard(k, shard)) return false;
    ks_unlock(k, 1ULL << shard);
    return true;
}

static bool lock_and_keep(struct keyspace *k, uint64_t mask) {
    assert_int_equal(ks_lock_to_serve(k, mask, true), mask);
    bool is_kept = ks_keep(k, mask);
    if (!is_kept) ks_unlock(k, mask);
    return is_kept;
}

static void test_kept_lock_is_taken_over_or_given_back(void **state) {
    (void)state;
    struct ks_opts opts = { .n_dbs = 1, .n_shards = 4 };
    struct keyspace *k = ks_new(&opts);
    assert_false(lock_and_keep(k, 2)); /* the first time */
    assert_true(lock_and_keep(k, 2));
    assert_false(is_free(k, 1));
    assert_true(lock_and_keep(k, 2));  /* it would wait for ever if it was not taken over */
    assert_false(lock_and_keep(k, 3)); /* more than what was kept: from the beginning */
    assert_false(lock_and_keep(k, 3));
    assert_true(is_free(k, 1));
    for (int way = 0; way < 3; way++) {
        lock_and_keep(k, 4);
        assert_true(lock_and_keep(k, 4));
        if (way == 0) ks_lock(k, 15);
        if (way == 1) assert_true(ks_lock_unless_held(k, 15));
        if (way == 2) ks_let_go();
        if (way < 2) ks_unlock(k, 15);
        assert_true(is_free(k, 2));
    }
    lock_and_keep(k, 1);
    for (int i = 0; i < KS_KEEP_MAX; i++) assert_true(lock_and_keep(k, 1));
    assert_false(lock_and_keep(k, 1));
    assert_true(lock_and_keep(k, 1));
    ks_let_go();
    ks_free(k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_leave_a_consistent_keyspace),
        cmocka_unit_test(test_who_waits_for_a_lock_gives_up_when_it_is_held_for_long),
        cmocka_unit_test(test_kept_lock_is_taken_over_or_given_back),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
