/* Topics: counts and threads of channels and patterns, names with any bytes, many threads at once. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "server/topics.h"

static int setup(void **state) {
    (void)state;
    hash_seed_init();
    return 0;
}

static void note_match(void *arg, struct slice pattern, uint64_t listeners, uint64_t threads) {
    buf_printf(arg, "%.*s:%d:%llx ", (int)pattern.len, pattern.ptr, (int)listeners, (unsigned long long)threads);
}

static void note_name(void *arg, struct slice name) {
    buf_printf(arg, "%.*s ", (int)name.len, name.ptr);
}

static void test_channels_count_listeners_and_threads(void **state) {
    (void)state;
    struct topics *t = topics_new(false);
    uint64_t threads = 1;
    assert_int_equal(topics_find(t, SLICE_LIT("a"), &threads), 0);
    assert_int_equal(threads, 0);
    topics_add(t, SLICE_LIT("a"), 3, true);
    topics_add(t, SLICE_LIT("a"), 3, false);
    topics_add(t, SLICE_LIT("a"), 63, true);
    topics_add(t, SLICE_LIT(""), 0, true);
    assert_int_equal(topics_count(t), 2);
    assert_int_equal(topics_find(t, SLICE_LIT("a"), &threads), 3);
    assert_true(threads == (1ULL << 3 | 1ULL << 63));
    topics_remove(t, SLICE_LIT("a"), 63, true);
    topics_remove(t, SLICE_LIT("a"), 3, false);
    assert_int_equal(topics_find(t, SLICE_LIT("a"), &threads), 1);
    assert_true(threads == 1ULL << 3);
    topics_remove(t, SLICE_LIT("a"), 3, true);
    assert_int_equal(topics_find(t, SLICE_LIT("a"), NULL), 0);
    assert_int_equal(topics_find(t, SLICE_LIT(""), NULL), 1);
    assert_int_equal(topics_count(t), 1);
    topics_free(t);
}

static void test_patterns_match_in_the_order_of_subscription(void **state) {
    (void)state;
    struct topics *t = topics_new(true);
    struct buf seen = { 0 };
    topics_add(t, SLICE_LIT("n*"), 1, true);
    topics_add(t, SLICE_LIT("*s"), 0, true);
    topics_add(t, SLICE_LIT("x"), 0, true);
    topics_add(t, SLICE_LIT("n*"), 2, true);
    topics_match(t, SLICE_LIT("news"), note_match, &seen);
    assert_string_equal(buf_cstr(&seen), "n*:2:6 *s:1:1 ");
    topics_remove(t, SLICE_LIT("n*"), 1, true);
    topics_remove(t, SLICE_LIT("n*"), 2, true);
    buf_clear(&seen);
    topics_match(t, SLICE_LIT("news"), note_match, &seen);
    assert_string_equal(buf_cstr(&seen), "*s:1:1 ");
    buf_done(&seen);
    topics_free(t);
}

static void test_each_lists_what_matches(void **state) {
    (void)state;
    struct topics *t = topics_new(false);
    struct buf seen = { 0 };
    topics_add(t, SLICE_LIT("news.it"), 0, true);
    topics_add(t, SLICE_LIT("weather"), 0, true);
    topics_each(t, SLICE_LIT("n*"), note_name, &seen);
    assert_string_equal(buf_cstr(&seen), "news.it ");
    buf_clear(&seen);
    topics_each(t, (struct slice){ 0 }, note_name, &seen);
    assert_int_equal(seen.len, strlen("news.it weather "));
    buf_done(&seen);
    topics_free(t);
}

static void test_who_does_not_count_leaves_the_topic_to_the_others(void **state) {
    (void)state;
    struct topics *t = topics_new(true);
    struct buf seen = { 0 };
    uint64_t threads = 1;
    topics_add(t, SLICE_LIT("a*"), 3, true);
    topics_add(t, SLICE_LIT("ab"), 0, true);
    topics_discount(t, SLICE_LIT("a*"));
    assert_int_equal(topics_count(t), 1);
    assert_int_equal(topics_find(t, SLICE_LIT("a*"), &threads), 0);
    assert_int_equal(threads, 0);
    topics_each(t, (struct slice){ 0 }, note_name, &seen);
    assert_string_equal(buf_cstr(&seen), "ab ");
    buf_clear(&seen);
    topics_add(t, SLICE_LIT("a*"), 3, false); /* the thread has the other one yet */
    topics_match(t, SLICE_LIT("ab"), note_match, &seen);
    assert_string_equal(buf_cstr(&seen), "ab:1:1 a*:1:8 ");
    topics_discount(t, SLICE_LIT("a*"));
    topics_mark(t, SLICE_LIT("a*"), 3, false);
    topics_mark(t, SLICE_LIT("a*"), 5, true);
    topics_add(t, SLICE_LIT("a*"), 5, false);
    assert_int_equal(topics_find(t, SLICE_LIT("a*"), &threads), 1);
    assert_true(threads == 1ULL << 5);
    topics_remove(t, SLICE_LIT("a*"), 5, true);
    assert_int_equal(topics_count(t), 1);
    buf_done(&seen);
    topics_free(t);
}

struct worker {
    struct topics *t;
    int thread;
};

static void *come_and_go(void *arg) {
    const struct worker *w = arg;
    char name[16];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof name, "ch%d", i);
            topics_add(w->t, slice_cstr(name), w->thread, true);
        }
        for (int i = 0; i < 100; i++) {
            uint64_t threads;
            snprintf(name, sizeof name, "ch%d", i);
            assert_true(topics_find(w->t, slice_cstr(name), &threads) >= 1);
            assert_true(threads & 1ULL << w->thread);
            topics_remove(w->t, slice_cstr(name), w->thread, true);
        }
    }
    return NULL;
}

static void test_threads_leave_nothing_behind(void **state) {
    (void)state;
    struct topics *t = topics_new(false);
    pthread_t tid[4];
    struct worker w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (struct worker){ t, i };
        pthread_create(&tid[i], NULL, come_and_go, &w[i]);
    }
    for (int i = 0; i < 4; i++) pthread_join(tid[i], NULL);
    assert_int_equal(topics_count(t), 0);
    topics_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channels_count_listeners_and_threads),
        cmocka_unit_test(test_patterns_match_in_the_order_of_subscription),
        cmocka_unit_test(test_each_lists_what_matches),
        cmocka_unit_test(test_who_does_not_count_leaves_the_topic_to_the_others),
        cmocka_unit_test(test_threads_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
