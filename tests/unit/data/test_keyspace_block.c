/* Keys that are waited for: order, what signals and what does not, what shards are needed, what is left in the tables. */
#include "data_test.h"

#include "data/list.h"

#define N_SHARDS 8

struct waiter {
    struct ks_wait w;
    struct ks_wait_key keys[4];
    struct key_buf names[4];
};

static void wait_on(struct keyspace *ks, struct waiter *x, int db, int n, const unsigned *keys, unsigned destination) {
    struct key_buf to;
    memset(x, 0, sizeof *x);
    x->w = (struct ks_wait){ .keys = x->keys, .n_keys = n, .db = db, .type = OBJ_STRING };
    x->w.mask = destination ? 1ULL << ks_shard_of(ks, key_of(&to, destination)) : 0;
    for (int i = 0; i < n; i++) {
        x->keys[i].key = key_of(&x->names[i], keys[i]);
        x->w.mask |= 1ULL << ks_shard_of(ks, x->keys[i].key);
    }
}

static void wait_one(struct keyspace *ks, struct waiter *x, int db, unsigned key) {
    wait_on(ks, x, db, 1, &key, 0);
    ks_wait_add(ks, &x->w);
}

static uint64_t bit_of(struct keyspace *ks, unsigned key) {
    struct key_buf b;
    return 1ULL << ks_shard_of(ks, key_of(&b, key));
}

/* ---- who was served ---- */

static struct {
    struct keyspace *ks;
    struct ks_wait *seen[64];
    int n;
    bool keep;     /* they go on waiting */
    unsigned then; /* a key made while the first one is served; 0: none */
} served;

static void serve(void *arg, struct ks_wait *w) {
    (void)arg;
    served.seen[served.n++] = w;
    if (!served.keep) ks_wait_remove(served.ks, w);
    if (served.then) set_num(served.ks, 0, KEY(served.then), 1);
    served.then = 0;
}

static int serve_all(struct keyspace *ks, uint64_t locked, int64_t now_ms) {
    served.ks = ks;
    served.n = 0;
    ks_serve(ks, locked, now_ms, serve, NULL);
    return served.n;
}

static int serve_locked(struct keyspace *ks) {
    return serve_all(ks, ks_all_mask(N_SHARDS), T0);
}

static int setup(void **state) {
    memset(&served, 0, sizeof served);
    *state = ks_locked_new(4, N_SHARDS, (struct ks_hooks){ 0 });
    return 0;
}

static int teardown(void **state) {
    ks_locked_free(*state);
    return 0;
}

static void assert_nothing_left(struct keyspace *ks) {
    uint64_t keys, nokey;
    ks_blocked_keys(ks, &keys, &nokey);
    assert_int_equal(keys, 0);
    assert_int_equal(nokey, 0);
    assert_int_equal(ks_wait_needs(ks, 0x55, true) | ks_wait_needs(ks, 0xaa, true) | ks_wait_needs(ks, 0x0f, false), 0);
    assert_false(ks_has_ready(ks, ks_all_mask(N_SHARDS)));
}

/* ---- tests ---- */

static void test_block_serves_in_order_of_waiting(void **state) {
    struct keyspace *ks = *state;
    struct waiter x[40];
    for (int i = 0; i < 40; i++) wait_one(ks, &x[i], 0, 7);
    set_num(ks, 1, KEY(7), 1);
    assert_int_equal(serve_locked(ks), 0);
    set_num(ks, 0, KEY(7), 1);
    assert_true(ks_has_ready(ks, bit_of(ks, 7)));
    assert_int_equal(serve_locked(ks), 40);
    for (int i = 0; i < 40; i++) assert_ptr_equal(served.seen[i], &x[i].w);
    assert_nothing_left(ks);
}

static void test_block_serves_keys_in_order_of_signals(void **state) {
    struct keyspace *ks = *state;
    struct waiter x[30];
    for (unsigned i = 0; i < 30; i++) wait_one(ks, &x[i], 0, i);
    for (unsigned i = 0; i < 30; i++) set_num(ks, 0, KEY((i * 7) % 30), 1);
    assert_int_equal(serve_locked(ks), 30);
    for (unsigned i = 0; i < 30; i++) assert_ptr_equal(served.seen[i], &x[(i * 7) % 30].w);
    assert_nothing_left(ks);
}

static void test_block_keeps_place_when_served_in_vain(void **state) {
    struct keyspace *ks = *state;
    struct waiter x[3];
    for (int i = 0; i < 3; i++) wait_one(ks, &x[i], 0, 1);
    served.keep = true;
    set_num(ks, 0, KEY(1), 1);
    assert_int_equal(serve_locked(ks), 3);
    assert_int_equal(serve_locked(ks), 0);
    served.keep = false;
    ks_signal_ready(ks, 0, KEY(1));
    assert_int_equal(serve_locked(ks), 3);
    for (int i = 0; i < 3; i++) assert_ptr_equal(served.seen[i], &x[i].w);
    assert_nothing_left(ks);
}

static void test_block_key_made_while_serving_is_served_too(void **state) {
    struct keyspace *ks = *state;
    struct waiter x[2];
    wait_one(ks, &x[0], 0, 1);
    wait_one(ks, &x[1], 0, 2);
    served.then = 2;
    set_num(ks, 0, KEY(1), 1);
    assert_int_equal(serve_locked(ks), 2);
    assert_ptr_equal(served.seen[1], &x[1].w);
    assert_nothing_left(ks);
}

static void test_block_key_named_twice_is_one(void **state) {
    struct keyspace *ks = *state;
    struct waiter x;
    wait_on(ks, &x, 0, 4, (unsigned[]){ 1, 2, 1, 1 }, 0);
    ks_wait_add(ks, &x.w);
    uint64_t keys, nokey;
    ks_blocked_keys(ks, &keys, &nokey);
    assert_int_equal(keys, 2);
    set_num(ks, 0, KEY(2), 1);
    set_num(ks, 0, KEY(1), 1);
    assert_int_equal(serve_locked(ks), 1);
    assert_nothing_left(ks);
}

static void test_block_wrong_type_and_deletion_wake_only_nokey(void **state) {
    struct keyspace *ks = *state;
    struct waiter plain, nokey;
    for (int how = 0; how < 6; how++) {
        struct entry *e = set_num(ks, 0, KEY(1), 1);
        served.keep = false;
        wait_one(ks, &plain, 0, 1);
        wait_on(ks, &nokey, 0, 1, (unsigned[]){ 1 }, 0);
        nokey.w.on_nokey = true;
        ks_wait_add(ks, &nokey.w);
        uint64_t keys, n;
        ks_blocked_keys(ks, &keys, &n);
        assert_int_equal(n, 1);
        if (how == 0) ks_delete(ks, 0, KEY(1), false);
        if (how == 1) obj_unref(ks_steal(ks, 0, KEY(1)));
        if (how == 2) ks_flush(ks, 0, false);
        if (how == 3) ks_flush(ks, -1, true);
        if (how == 4) ks_set_expire(ks, 0, e, T0 - 1);
        if (how == 4) assert_null(find_quietly(ks, 0, KEY(1), T0));
        if (how == 5) {
            struct obj *o = list_new();
            ks_set(ks, 0, KEY(1), o, false);
        }
        assert_int_equal(serve_locked(ks), 1);
        assert_ptr_equal(served.seen[0], &nokey.w);
        ks_wait_remove(ks, &plain.w);
        ks_delete(ks, 0, KEY(1), false);
        assert_nothing_left(ks);
    }
}

static void test_block_deletion_without_nokey_signals_nothing(void **state) {
    struct keyspace *ks = *state;
    struct waiter x;
    set_num(ks, 0, KEY(1), 1);
    wait_one(ks, &x, 0, 1);
    ks_delete(ks, 0, KEY(1), false);
    ks_flush(ks, -1, false);
    assert_false(ks_has_ready(ks, ks_all_mask(N_SHARDS)));
    ks_wait_remove(ks, &x.w);
    ks_wait_remove(ks, &x.w); /* twice is no harm */
    assert_nothing_left(ks);
}

static void test_block_key_that_is_due_is_not_there(void **state) {
    struct keyspace *ks = *state;
    struct waiter x;
    wait_one(ks, &x, 0, 1);
    ks_set_expire(ks, 0, set_num(ks, 0, KEY(1), 1), T0 - 1);
    assert_int_equal(serve_locked(ks), 0);
    ks_wait_remove(ks, &x.w);
    assert_nothing_left(ks);
}

static void test_block_swap_brings_keys_to_both_databases(void **state) {
    struct keyspace *ks = *state;
    struct waiter a, b, other;
    set_num(ks, 0, KEY(1), 1);
    set_num(ks, 1, KEY(2), 1);
    wait_one(ks, &a, 1, 1);
    wait_one(ks, &b, 0, 2);
    wait_one(ks, &other, 2, 1);
    ks_swap(ks, 0, 1);
    assert_int_equal(serve_locked(ks), 2);
    ks_wait_remove(ks, &other.w);
    assert_nothing_left(ks);
}

static void test_block_needs_are_those_of_who_waits_there(void **state) {
    struct keyspace *ks = *state;
    struct waiter x, y, z;
    unsigned a = 1, b = 2, c = 3;
    while (bit_of(ks, b) == bit_of(ks, a)) b++;
    while (bit_of(ks, c) == bit_of(ks, a) || bit_of(ks, c) == bit_of(ks, b)) c++;
    uint64_t bit_a = bit_of(ks, a), bit_b = bit_of(ks, b), bit_c = bit_of(ks, c);
    wait_on(ks, &x, 0, 1, &a, b); /* as BLMOVE a b */
    ks_wait_add(ks, &x.w);
    assert_int_equal(ks_wait_needs(ks, bit_a, true), bit_b);
    assert_int_equal(ks_wait_needs(ks, bit_a | bit_b, true), 0);
    assert_int_equal(ks_wait_needs(ks, bit_b, true), 0); /* nobody waits for b */
    assert_int_equal(ks_wait_needs(ks, bit_a, false), 0);
    wait_on(ks, &y, 0, 1, &a, b);
    ks_wait_add(ks, &y.w);
    wait_on(ks, &z, 0, 2, (unsigned[]){ a, c }, 0);
    z.w.on_nokey = true;
    ks_wait_add(ks, &z.w);
    assert_int_equal(ks_wait_needs(ks, bit_a, true), bit_b | bit_c);
    assert_int_equal(ks_wait_needs(ks, bit_a, false), bit_c);
    assert_int_equal(ks_wait_needs(ks, bit_c, false), bit_a);
    ks_wait_remove(ks, &x.w);
    assert_int_equal(ks_wait_needs(ks, bit_a, true), bit_b | bit_c);
    ks_wait_remove(ks, &y.w);
    ks_wait_remove(ks, &z.w);
    assert_nothing_left(ks);
}

static void test_block_signal_without_all_locks_waits_for_one_with_them(void **state) {
    struct keyspace *ks = *state;
    struct waiter x, y;
    unsigned a = 1, b = 2;
    while (bit_of(ks, b) == bit_of(ks, a)) b++;
    wait_on(ks, &x, 0, 1, &a, b);
    ks_wait_add(ks, &x.w);
    wait_one(ks, &y, 0, a);
    set_num(ks, 0, KEY(a), 1);
    assert_int_equal(serve_all(ks, bit_of(ks, a), T0), 1); /* y needs no more */
    assert_ptr_equal(served.seen[0], &y.w);
    assert_true(ks_has_ready(ks, bit_of(ks, a)));
    assert_int_equal(serve_all(ks, bit_of(ks, a), T0), 0);
    assert_int_equal(serve_locked(ks), 1);
    assert_nothing_left(ks);
}

static void test_block_many_keys_come_and_go(void **state) {
    struct keyspace *ks = *state;
    enum { N = 2000 };
    struct waiter *x = mem_calloc(N, sizeof *x);
    for (unsigned i = 0; i < N; i++) wait_one(ks, &x[i], (int)(i % 4), i / 3);
    uint64_t keys, nokey;
    ks_blocked_keys(ks, &keys, &nokey);
    assert_true(keys > N / 2);
    for (unsigned i = 0; i < N; i++) ks_wait_remove(ks, &x[(i * 997u) % N].w);
    assert_nothing_left(ks);
    wait_one(ks, &x[0], 0, 5);
    set_num(ks, 0, KEY(5), 1);
    assert_int_equal(serve_locked(ks), 1);
    wait_one(ks, &x[0], 0, 6); /* still waiting when the keyspace is freed */
    set_num(ks, 0, KEY(6), 1);
    served.keep = true;
    assert_int_equal(serve_locked(ks), 1);
    ks_locked_free(ks);
    mem_free(x);
    *state = ks_locked_new(4, N_SHARDS, (struct ks_hooks){ 0 });
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_block_serves_in_order_of_waiting),
        TEST(test_block_serves_keys_in_order_of_signals),
        TEST(test_block_keeps_place_when_served_in_vain),
        TEST(test_block_key_made_while_serving_is_served_too),
        TEST(test_block_key_named_twice_is_one),
        TEST(test_block_wrong_type_and_deletion_wake_only_nokey),
        TEST(test_block_deletion_without_nokey_signals_nothing),
        TEST(test_block_key_that_is_due_is_not_there),
        TEST(test_block_swap_brings_keys_to_both_databases),
        TEST(test_block_needs_are_those_of_who_waits_there),
        TEST(test_block_signal_without_all_locks_waits_for_one_with_them),
        TEST(test_block_many_keys_come_and_go),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
