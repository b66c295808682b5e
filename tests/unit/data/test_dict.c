/* The hash table against a model, its cursor over rehashing both ways, its random picks. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "data_test.h"
#include "data/dict.h"

#define N_KEYS 20000

struct item {
    unsigned n;
    struct key_buf key;
    size_t len;
    unsigned seen;
    bool is_in;
};

static struct item items[N_KEYS];
static struct dict_type type;
static struct dict dict;

static struct slice item_key(const void *p) {
    const struct item *it = p;
    return (struct slice){ it->key.text, it->len };
}

static int setup(void **state) {
    (void)state;
    for (unsigned i = 0; i < N_KEYS; i++) {
        items[i] = (struct item){ .n = i };
        items[i].len = key_of(&items[i].key, i).len;
    }
    type.key = item_key;
    atomic_store(&type.avoid_resize, false);
    dict_init(&dict, &type);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    dict_clear(&dict, NULL);
    return 0;
}

static struct item *lookup(unsigned n) {
    struct slice key = item_key(&items[n]);
    return dict_find(&dict, dict_hash(key), key);
}

static void put(unsigned n) {
    if (items[n].is_in) return;
    dict_insert(&dict, dict_hash(item_key(&items[n])), &items[n]);
    items[n].is_in = true;
}

static void take(unsigned n) {
    struct slice key = item_key(&items[n]);
    assert_ptr_equal(dict_remove(&dict, dict_hash(key), key), items[n].is_in ? &items[n] : NULL);
    items[n].is_in = false;
}

static bool count_seen(void *arg, void *p) {
    struct item *it = p;
    it->seen++;
    ++*(unsigned *)arg;
    return true;
}

/* The dict holds exactly what the model says. */
static void check_model(void) {
    unsigned n_in = 0, n_each = 0;
    for (unsigned i = 0; i < N_KEYS; i++) {
        items[i].seen = 0;
        n_in += items[i].is_in;
    }
    assert_int_equal(dict_size(&dict), n_in);
    assert_true(dict_each(&dict, count_seen, &n_each));
    assert_int_equal(n_each, n_in);
    for (unsigned i = 0; i < N_KEYS; i++) {
        assert_int_equal(items[i].seen, items[i].is_in);
        assert_ptr_equal(lookup(i), items[i].is_in ? &items[i] : NULL);
    }
}

static void test_random_ops_match_model(void **state) {
    (void)state;
    for (int round = 0; round < 40; round++) {
        unsigned range = 1 + (unsigned)rand_below(N_KEYS), bias = (unsigned)rand_below(11);
        for (int i = 0; i < 5000; i++) {
            unsigned n = (unsigned)rand_below(range);
            if (rand_below(10) < bias)
                put(n);
            else
                take(n);
        }
        if (round % 4 == 0) atomic_store(&type.avoid_resize, rand_below(2));
        check_model();
    }
}

static void test_grow_and_shrink_follow_the_size(void **state) {
    (void)state;
    for (unsigned i = 0; i < N_KEYS; i++) put(i);
    while (dict_rehash(&dict, 100)) {
    }
    uint64_t full = dict_n_buckets(&dict);
    assert_true(full * 7 >= N_KEYS && full * 7 / 2 <= N_KEYS + 7);
    check_model();
    for (unsigned i = 10; i < N_KEYS; i++) take(i);
    while (dict_rehash(&dict, 100)) {
    }
    assert_true(dict_n_buckets(&dict) <= 16);
    check_model();
    for (unsigned i = 0; i < 10; i++) take(i);
    while (dict_rehash(&dict, 100)) {
    }
    assert_int_equal(dict_size(&dict), 0);
    assert_int_equal(dict_n_buckets(&dict), 1);
}

/* Overflow buckets belong to their table: taken again when given back, gone with it. */
static void test_memory_follows_the_size(void **state) {
    (void)state;
    type.dense = true;
    for (unsigned i = 0; i < N_KEYS; i++) put(i);
    while (dict_rehash(&dict, 100)) continue;
    size_t full = dict_mem(&dict);
    assert_true(full >= N_KEYS * sizeof(void *) && full < N_KEYS * 16);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < N_KEYS / 4; i++) take(i);
        for (unsigned i = 0; i < N_KEYS / 4; i++) put(i);
    }
    assert_true(dict_mem(&dict) < full + full / 10);
    check_model();
    for (unsigned i = 100; i < N_KEYS; i++) take(i);
    while (dict_rehash(&dict, 100)) continue;
    assert_true(dict_mem(&dict) < full / 50);
    check_model();
    type.dense = false;
}

static void test_look_ups_alone_finish_a_rehash(void **state) {
    (void)state;
    unsigned n = 0;
    while (n < 5000 || !dict_is_rehashing(&dict)) put(n++);
    for (unsigned i = 0; i < 5000 && dict_is_rehashing(&dict); i++) lookup(i);
    assert_false(dict_is_rehashing(&dict));
    check_model();
}

static void test_avoid_resize_holds_until_badly_overfull(void **state) {
    (void)state;
    for (unsigned i = 0; i < 100; i++) put(i);
    while (dict_rehash(&dict, 100)) {
    }
    uint64_t before = dict_n_buckets(&dict);
    atomic_store(&type.avoid_resize, true);
    unsigned n = 100;
    while (n < before * 7 * 4) put(n++);
    assert_int_equal(dict_n_buckets(&dict), before);
    check_model();
    while (n < before * 7 * 40) put(n++);
    assert_true(dict_n_buckets(&dict) > before);
    check_model();
    atomic_store(&type.avoid_resize, false);
    while (dict_rehash(&dict, 1)) {
    }
    assert_true(dict_n_buckets(&dict) * 7 >= n);
    check_model();
}

static void note_seen(void *arg, void *p) {
    (void)arg;
    ((struct item *)p)->seen++;
}

/* Items below `stay` are there all along; the others come or go while the cursor walks. */
static void scan_while(unsigned stay, unsigned changes_per_step, bool adds, unsigned cron_steps) {
    unsigned next = stay;
    uint64_t cursor = 0;
    for (unsigned i = 0; i < N_KEYS; i++) items[i].seen = 0;
    do {
        cursor = dict_scan(&dict, cursor, note_seen, NULL);
        assert_true(cursor < N_KEYS * 4);
        for (unsigned i = 0; i < changes_per_step && next < N_KEYS; i++, next++) {
            if (adds)
                put(next);
            else
                take(next);
        }
        if (cron_steps) dict_rehash(&dict, cron_steps);
    } while (cursor);
    for (unsigned i = 0; i < stay; i++) assert_true(items[i].seen);
}

static void test_scan_while_growing_sees_all(void **state) {
    (void)state;
    for (unsigned speed = 1; speed < 600; speed = speed * 3 + 1) {
        for (unsigned i = 0; i < 500; i++) put(i);
        scan_while(500, speed, true, speed & 2);
        for (unsigned i = 0; i < N_KEYS; i++) take(i);
        check_model();
    }
}

static void test_scan_while_shrinking_sees_all(void **state) {
    (void)state;
    for (unsigned speed = 1; speed < 600; speed = speed * 3 + 1) {
        for (unsigned i = 0; i < N_KEYS; i++) put(i);
        scan_while(300, speed, false, speed & 2);
        check_model();
    }
}

static void test_scan_while_growing_and_shrinking_sees_all(void **state) {
    (void)state;
    for (int round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 200; i++) put(i);
        for (unsigned i = 0; i < N_KEYS; i++) items[i].seen = 0;
        uint64_t cursor = 0;
        do {
            cursor = dict_scan(&dict, cursor, note_seen, NULL);
            unsigned n = 200 + (unsigned)rand_below(N_KEYS / 2);
            bool adds = rand_below(2);
            for (unsigned i = n; i < n + 400; i++) {
                if (adds)
                    put(i);
                else
                    take(i);
            }
            if (rand_below(50) == 0) {
                for (unsigned i = 200; i < N_KEYS; i++) take(i);
            }
        } while (cursor);
        for (unsigned i = 0; i < 200; i++) assert_true(items[i].seen);
    }
}

static void test_scan_undisturbed_sees_each_once(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3000; i++) put(i);
    while (dict_rehash(&dict, 100)) {
    }
    scan_while(3000, 0, true, 0);
    for (unsigned i = 0; i < 3000; i++) assert_int_equal(items[i].seen, 1);
    assert_int_equal(items[3000].seen, 0);
}

static void test_scan_made_up_cursor_ends(void **state) {
    (void)state;
    for (unsigned i = 0; i < 1000; i++) put(i);
    for (int k = 0; k < 100; k++) {
        uint64_t cursor = rand_u64();
        unsigned steps = 0;
        do cursor = dict_scan(&dict, cursor, note_seen, NULL);
        while (cursor && ++steps < 2000);
        assert_int_equal(cursor, 0);
    }
}

/* Chi-squared over the first n items, in the state the dict is in. */
static void check_fair(unsigned n) {
    const unsigned draws = n * 200;
    for (unsigned i = 0; i < N_KEYS; i++) items[i].seen = 0;
    for (unsigned i = 0; i < draws; i++) ((struct item *)dict_random(&dict))->seen++;
    double chi2 = 0, want = (double)draws / n;
    for (unsigned i = 0; i < n; i++) chi2 += (items[i].seen - want) * (items[i].seen - want) / want;
    /* mean n, standard deviation sqrt(2n): 1000 is 22 of them off at n = 1000 */
    assert_true(chi2 < n + 6 * 45.0 && chi2 > n - 6 * 45.0);
}

static void test_random_is_fair(void **state) {
    (void)state;
    for (unsigned i = 0; i < 1000; i++) put(i);
    while (dict_rehash(&dict, 100)) {
    }
    check_fair(1000);
    for (unsigned i = 1000; i < 4000; i++) put(i); /* then sparse */
    for (unsigned i = 1000; i < 4000; i++) take(i);
    check_fair(1000);
}

static void test_random_while_rehashing_is_fair(void **state) {
    (void)state;
    unsigned n = 0;
    while (n < 800 || !dict_is_rehashing(&dict)) put(n++);
    assert_true(n < 1100);
    for (unsigned i = 0; i < 20; i++) lookup(i);
    assert_true(dict_is_rehashing(&dict));
    check_fair(n);
}

static void test_random_in_a_nearly_empty_large_table(void **state) {
    (void)state;
    for (unsigned i = 0; i < N_KEYS; i++) put(i);
    atomic_store(&type.avoid_resize, true);
    for (unsigned i = 1; i < N_KEYS; i++) take(i);
    for (int i = 0; i < 10; i++) assert_ptr_equal(dict_random(&dict), &items[0]);
    take(0);
    assert_null(dict_random(&dict));
}

static void test_sample_gives_different_items(void **state) {
    (void)state;
    void *got[64];
    assert_int_equal(dict_sample(&dict, got, 64), 0);
    for (unsigned i = 0; i < 2000; i++) {
        put(i);
        unsigned n = dict_sample(&dict, got, 1 + i % 64), want = 1 + i % 64 < i + 1 ? 1 + i % 64 : i + 1;
        assert_int_equal(n, want);
        for (unsigned k = 0; k < N_KEYS && i % 97 == 0; k++) items[k].seen = 0;
        for (unsigned k = 0; k < n && i % 97 == 0; k++) assert_int_equal(((struct item *)got[k])->seen++, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_ops_match_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grow_and_shrink_follow_the_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_follows_the_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_look_ups_alone_finish_a_rehash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_avoid_resize_holds_until_badly_overfull, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_while_growing_sees_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_while_shrinking_sees_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_while_growing_and_shrinking_sees_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_undisturbed_sees_each_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_made_up_cursor_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_is_fair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_while_rehashing_is_fair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_in_a_nearly_empty_large_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sample_gives_different_items, setup, teardown),
    };
    return cmocka_run_group_tests(tests, seed_hash, NULL);
}
