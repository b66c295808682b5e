/* The table behind client-side caching, and the prefixes of BCAST clients. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "data/lazyfree.h"
#include "server/tracking.h"
#include "server/tracking_table.h"

#define MANY 1000

static int setup(void **state) {
    (void)state;
    hash_seed_init();
    return 0;
}

static struct tracker *tracker_new(uint64_t id) {
    struct tracker *t = mem_zalloc(sizeof *t);
    atomic_init(&t->refs, 1);
    t->id = id;
    list_init(&t->prefixes);
    return t;
}

static void count(void *arg, struct tracker *who) {
    (void)who;
    ++*(unsigned *)arg;
}

static unsigned readers(struct tracked *k) {
    unsigned n = 0;
    tracked_each(k, count, &n);
    tracked_free(k);
    return n;
}

static void test_table_readers_of_a_key_are_told_once(void **state) {
    (void)state;
    struct tracking_table *t = tracking_table_new();
    struct tracker *who[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        who[i] = tracker_new(i + 1);
        tracking_table_add(t, SLICE_LIT("k"), who[i]);
        tracking_table_add(t, SLICE_LIT("k"), who[i]);
    }
    tracking_table_add(t, SLICE_LIT("other"), who[0]);
    assert_int_equal(tracking_table_keys(t), 2);
    assert_int_equal(tracking_table_items(t), MANY + 1);
    assert_int_equal(atomic_load(&who[0]->refs), 3);
    assert_null(tracking_table_take(t, SLICE_LIT("nosuch")));
    assert_int_equal(readers(tracking_table_take(t, SLICE_LIT("k"))), MANY);
    assert_null(tracking_table_take(t, SLICE_LIT("k")));
    assert_int_equal(atomic_load(&who[0]->refs), 2);
    assert_int_equal(tracking_table_items(t), 1);
    tracking_table_free(t);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(atomic_load(&who[i]->refs), 1);
        tracker_unref(who[i]);
    }
}

static void test_table_take_random_empties_it(void **state) {
    (void)state;
    struct tracking_table *t = tracking_table_new();
    struct tracker *who = tracker_new(1);
    char key[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "k%d", i);
        tracking_table_add(t, slice_cstr(key), who);
    }
    for (int i = 0; i < MANY; i++) {
        struct tracked *k = tracking_table_take_random(t);
        assert_non_null(k);
        assert_int_equal(tracking_table_keys(t), MANY - 1 - i);
        tracked_free(k);
    }
    assert_null(tracking_table_take_random(t));
    assert_int_equal(atomic_load(&who->refs), 1);
    tracking_table_free(t);
    tracker_unref(who);
}

static void test_table_clear_forgets_all(void **state) {
    (void)state;
    struct tracking_table *t = tracking_table_new();
    struct tracker *who = tracker_new(1);
    tracking_table_add(t, SLICE_LIT("a"), who);
    tracking_table_add(t, SLICE_LIT(""), who);
    tracking_table_clear(t);
    assert_int_equal(tracking_table_keys(t), 0);
    assert_int_equal(tracking_table_items(t), 0);
    assert_null(tracking_table_take(t, SLICE_LIT("a")));
    tracking_table_add(t, SLICE_LIT("a"), who);
    assert_int_equal(readers(tracking_table_take(t, SLICE_LIT("a"))), 1);
    tracking_table_free(t);
    lazyfree_drain();
    assert_int_equal(atomic_load(&who->refs), 1);
    tracker_unref(who);
}

struct worker {
    struct tracking_table *t;
    struct tracker *who;
};

static void *add_and_take(void *arg) {
    const struct worker *w = arg;
    char key[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i % 50);
        if (i % 3) {
            tracking_table_add(w->t, slice_cstr(key), w->who);
        } else {
            tracked_free(tracking_table_take(w->t, slice_cstr(key)));
        }
        if (i % 500 == 0) tracking_table_clear(w->t);
        if (i % 70 == 0) tracked_free(tracking_table_take_random(w->t));
    }
    return NULL;
}

static void test_table_threads_keep_its_counts(void **state) {
    (void)state;
    struct tracking_table *t = tracking_table_new();
    struct worker w[4];
    pthread_t tid[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (struct worker){ t, tracker_new((uint64_t)i + 1) };
        pthread_create(&tid[i], NULL, add_and_take, &w[i]);
    }
    for (int i = 0; i < 4; i++) pthread_join(tid[i], NULL);
    struct tracked *k;
    while ((k = tracking_table_take_random(t))) tracked_free(k);
    assert_int_equal(tracking_table_keys(t), 0);
    assert_int_equal(tracking_table_items(t), 0);
    tracking_table_free(t);
    lazyfree_drain();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(atomic_load(&w[i].who->refs), 1);
        tracker_unref(w[i].who);
    }
}

/* ---- prefixes ---- */

static void note_text(void *arg, struct slice text) {
    buf_printf(arg, "[%.*s] ", (int)text.len, text.ptr);
}

static void note_member(void *arg, struct tracker *who) {
    buf_printf(arg, "%d ", (int)who->id);
}

static void note_end(void *arg) {
    buf_append_cstr(arg, "; ");
}

static void test_prefixes_match_and_list_members(void **state) {
    (void)state;
    struct prefixes *p = prefixes_new();
    struct tracker *a = tracker_new(1), *b = tracker_new(2);
    struct buf seen = { 0 };
    assert_false(prefixes_match(p, SLICE_LIT("key")));
    prefixes_add(p, SLICE_LIT("ke"), a);
    prefixes_add(p, SLICE_LIT("x"), a);
    prefixes_add(p, SLICE_LIT("ke"), b);
    assert_int_equal(prefixes_count(p), 2);
    assert_true(prefixes_match(p, SLICE_LIT("key")) && prefixes_match(p, SLICE_LIT("ke")) && prefixes_match(p, SLICE_LIT("xx")));
    assert_false(prefixes_match(p, SLICE_LIT("k")) || prefixes_match(p, SLICE_LIT("")));
    prefixes_each(p, note_text, note_member, note_end, &seen);
    assert_string_equal(buf_cstr(&seen), "[ke] 1 2 ; [x] 1 ; ");
    buf_clear(&seen);
    prefixes_of(p, a, note_text, &seen);
    assert_string_equal(buf_cstr(&seen), "[ke] [x] ");
    prefixes_remove_all(p, a);
    assert_int_equal(prefixes_count(p), 1);
    prefixes_remove_all(p, b);
    assert_int_equal(prefixes_count(p), 0);
    buf_done(&seen);
    prefixes_free(p);
    tracker_unref(a);
    tracker_unref(b);
}

static void test_prefix_empty_matches_everything_and_is_had_once(void **state) {
    (void)state;
    struct prefixes *p = prefixes_new();
    struct tracker *a = tracker_new(1);
    struct buf seen = { 0 };
    prefixes_add(p, (struct slice){ 0 }, a);
    prefixes_add(p, (struct slice){ 0 }, a);
    assert_true(prefixes_match(p, SLICE_LIT("")) && prefixes_match(p, SLICE_LIT("any")));
    prefixes_of(p, a, note_text, &seen);
    assert_string_equal(buf_cstr(&seen), "[] ");
    prefixes_remove_all(p, a);
    buf_done(&seen);
    prefixes_free(p);
    tracker_unref(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_readers_of_a_key_are_told_once),
        cmocka_unit_test(test_table_take_random_empties_it),
        cmocka_unit_test(test_table_clear_forgets_all),
        cmocka_unit_test(test_table_threads_keep_its_counts),
        cmocka_unit_test(test_prefixes_match_and_list_members),
        cmocka_unit_test(test_prefix_empty_matches_everything_and_is_had_once),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
