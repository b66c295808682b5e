/* Replication backlog: history, trimming, readers that are slow, and several threads at once, against a stream whose byte at each
 * offset is known. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "repl/backlog.h"

static char byte_at(uint64_t offset) {
    return (char)(offset * 31 + (offset >> 8) * 7 + (offset >> 16));
}

static void append(struct backlog *b, size_t n) {
    char *p = mem_alloc(n + 1);
    uint64_t at = backlog_end(b);
    for (size_t i = 0; i < n; i++) p[i] = byte_at(at + i);
    assert_int_equal(backlog_append(b, p, n), at + n);
    assert_int_equal(backlog_end(b), at + n);
    mem_free(p);
}

/* Reads until there is no more, checks each byte. Returns how many came. */
static uint64_t drain(struct backlog *b, struct backlog_reader *r, size_t max) {
    struct backlog_piece piece[3];
    uint64_t sum = 0;
    int n;
    while ((n = backlog_read(b, r, max, piece, 3)) > 0) {
        uint64_t len = 0;
        for (int i = 0; i < n; i++) len += piece[i].len;
        assert_true(len <= max);
        uint64_t at = r->offset - len;
        for (int i = 0; i < n; i++) {
            for (size_t k = 0; k < piece[i].len; k++) assert_true(piece[i].ptr[k] == byte_at(at + k));
            at += piece[i].len;
            backlog_release(piece[i].ref);
        }
        sum += len;
    }
    return sum;
}

static struct backlog_info info(struct backlog *b) {
    struct backlog_info i;
    backlog_info(b, &i);
    return i;
}

static void test_backlog_closed_keeps_its_offset(void **state) {
    (void)state;
    struct backlog *b = backlog_new(1000);
    struct backlog_reader r = { 0 };
    assert_false(backlog_is_open(b));
    assert_int_equal(backlog_append(b, "abc", 3), 0);
    assert_false(backlog_reader_open(b, &r, 0));
    backlog_reset(b, 77);
    assert_int_equal(backlog_end(b), 77);
    backlog_open(b);
    assert_true(backlog_is_open(b));
    append(b, 10);
    assert_int_equal(info(b).start, 77);
    assert_int_equal(info(b).end, 87);
    backlog_close(b);
    assert_int_equal(backlog_append(b, "abc", 3), 87);
    assert_int_equal(info(b).mem, 0);
    backlog_free(b);
}

static void test_backlog_reader_opens_only_inside_the_history(void **state) {
    (void)state;
    struct backlog *b = backlog_new(16384);
    struct backlog_reader r = { 0 };
    backlog_reset(b, 100);
    backlog_open(b);
    assert_true(backlog_reader_open(b, &r, 100));
    assert_int_equal(drain(b, &r, 1000), 0);
    append(b, 5000);
    assert_int_equal(drain(b, &r, 700), 5000);
    backlog_reader_close(b, &r);
    backlog_reader_close(b, &r);
    assert_false(backlog_reader_open(b, &r, 99));
    assert_false(backlog_reader_open(b, &r, 5101));
    for (uint64_t at = 100; at <= 5100; at += 1250) {
        assert_true(backlog_reader_open(b, &r, at));
        assert_int_equal(drain(b, &r, 1 << 20), 5100 - at);
        backlog_reader_close(b, &r);
    }
    backlog_free(b);
}

static void test_backlog_trims_to_its_size_but_not_below(void **state) {
    (void)state;
    struct backlog *b = backlog_new(100000);
    struct backlog_reader r = { 0 };
    backlog_open(b);
    for (int i = 0; i < 5000; i++) {
        append(b, 1 + (size_t)i % 997);
        struct backlog_info n = info(b);
        assert_true(n.end < 100000 ? n.start == 0 : n.end - n.start >= 100000);
        assert_true(n.end - n.start < 100000 + 2 * 16384);
        assert_true(n.mem < 200000);
    }
    struct backlog_info n = info(b);
    assert_false(backlog_reader_open(b, &r, n.start - 1));
    assert_true(backlog_reader_open(b, &r, n.start));
    assert_int_equal(drain(b, &r, 4096), n.end - n.start);
    backlog_set_size(b, 20000);
    n = info(b);
    assert_true(n.end - n.start >= 20000 && n.end - n.start < 20000 + 2 * 16384);
    backlog_reader_close(b, &r);
    backlog_free(b);
}

static void test_backlog_one_append_larger_than_everything(void **state) {
    (void)state;
    struct backlog *b = backlog_new(16384);
    struct backlog_reader r = { 0 };
    backlog_open(b);
    assert_true(backlog_reader_open(b, &r, 0));
    append(b, 5 << 20);
    assert_int_equal(drain(b, &r, 100000), 5 << 20);
    assert_true(info(b).mem < 3 << 20);
    backlog_reader_close(b, &r);
    backlog_free(b);
}

static void test_backlog_slow_reader_keeps_what_it_needs(void **state) {
    (void)state;
    struct backlog *b = backlog_new(16384);
    struct backlog_reader slow = { 0 }, fast = { 0 }, late = { 0 };
    backlog_open(b);
    append(b, 20000);
    assert_true(backlog_reader_open(b, &slow, 20000));
    assert_true(backlog_reader_open(b, &fast, 20000));
    for (int i = 0; i < 100; i++) {
        append(b, 10000);
        assert_int_equal(drain(b, &fast, 1 << 20), 10000);
    }
    struct backlog_info n = info(b);
    assert_true(n.start <= 20000);
    assert_int_equal(n.n_readers, 2);
    assert_true(backlog_reader_open(b, &late, 30000)); /* it may use that too */
    backlog_reader_close(b, &late);
    backlog_reader_copy(b, &late, &slow);
    assert_int_equal(drain(b, &slow, 1 << 20), 1000000);
    assert_true(info(b).start <= 20000);
    assert_int_equal(drain(b, &late, 12345), 1000000);
    assert_true(info(b).end - info(b).start < 3 * 16384);
    backlog_reader_close(b, &late);
    backlog_reader_close(b, &slow);
    backlog_reader_close(b, &fast);
    assert_int_equal(info(b).n_readers, 0);
    backlog_free(b);
}

static void test_backlog_piece_outlives_its_block(void **state) {
    (void)state;
    struct backlog *b = backlog_new(16384);
    struct backlog_reader r = { 0 };
    struct backlog_piece piece;
    backlog_open(b);
    append(b, 16000);
    assert_true(backlog_reader_open(b, &r, 0));
    assert_int_equal(backlog_read(b, &r, 1 << 20, &piece, 1), 1);
    backlog_reader_close(b, &r);
    for (int i = 0; i < 100; i++) append(b, 10000);
    assert_true(info(b).start > 16000);
    backlog_free(b);
    for (size_t i = 0; i < piece.len; i++) assert_true(piece.ptr[i] == byte_at(i));
    backlog_release(piece.ref);
}

struct race {
    struct backlog *b;
    _Atomic bool stop;
};

static void *reader_main(void *arg) {
    struct race *race = arg;
    struct backlog_reader r = { 0 };
    while (!atomic_load(&race->stop)) {
        struct backlog_info n = info(race->b);
        if (!backlog_reader_open(race->b, &r, n.start)) continue; /* trimmed meanwhile */
        for (int i = 0; i < 20; i++) drain(race->b, &r, 1 + rand_below(50000));
        backlog_reader_close(race->b, &r);
    }
    return NULL;
}

static void test_backlog_threads(void **state) {
    (void)state;
    struct race race = { .b = backlog_new(30000) };
    pthread_t t[3];
    backlog_open(race.b);
    for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, reader_main, &race);
    for (int i = 0; i < 3000; i++) append(race.b, (size_t)(i * 37) % 3000);
    atomic_store(&race.stop, true);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    backlog_free(race.b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backlog_closed_keeps_its_offset),
        cmocka_unit_test(test_backlog_reader_opens_only_inside_the_history),
        cmocka_unit_test(test_backlog_trims_to_its_size_but_not_below),
        cmocka_unit_test(test_backlog_one_append_larger_than_everything),
        cmocka_unit_test(test_backlog_slow_reader_keeps_what_it_needs),
        cmocka_unit_test(test_backlog_piece_outlives_its_block),
        cmocka_unit_test(test_backlog_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
