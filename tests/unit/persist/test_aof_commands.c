/* A data set as commands: what is written for each type, in pieces of 64, and errors of the sink. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/set.h"
#include "data/stream.h"
#include "data/zset.h"
#include "persist/aof_commands.h"
#include "persist/aof_read.h"

static struct keyspace *ks;
static struct buf text;

static int setup(void **state) {
    (void)state;
    struct ks_opts o = { .n_dbs = 16, .n_shards = 4 };
    hash_seed_init();
    ks = ks_new(&o);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    ks = ks_free(ks);
    buf_done(&text);
    return 0;
}

static struct entry *put(int db, const char *key, struct obj *o) {
    ks_lock(ks, ks_all_mask(4));
    struct entry *e = ks_set(ks, db, slice_cstr(key), o, false);
    ks_unlock(ks, ks_all_mask(4));
    return e;
}

static int gather(void *arg, const void *p, size_t n) {
    (void)arg;
    buf_append(&text, p, n);
    return 0;
}

static ssize_t give(void *arg, void *p, size_t n) {
    size_t *at = arg, left = text.len - *at;
    if (n > left) n = left;
    if (n) memcpy(p, text.data + *at, n);
    *at += n;
    return (ssize_t)n;
}

/* One command a line, arguments with blanks between; lines as wanted, in this order. */
static void assert_commands(int64_t timestamp_s, const char *want) {
    struct aof_commands_opts o = { .timestamp_s = timestamp_s, .sink = gather };
    ks_lock(ks, ks_all_mask(4));
    assert_int_equal(aof_commands_write(ks, NULL, &o), 0);
    ks_unlock(ks, ks_all_mask(4));
    struct buf got = { 0 };
    struct aof_reader r;
    size_t at = 0;
    aof_reader_init(&r, give, &at);
    enum aof_read what;
    while ((what = aof_reader_next(&r)) == AOF_READ_COMMAND || what == AOF_READ_NOTE) {
        for (int i = 0; i < r.argc; i++)
            buf_printf(&got, "%s%.*s", i ? " " : "", (int)(r.argv[i].len < 40 ? r.argv[i].len : 40), r.argv[i].ptr);
        buf_append_char(&got, '\n');
    }
    assert_int_equal(what, AOF_READ_END);
    aof_reader_done(&r);
    assert_string_equal(buf_cstr(&got), want);
    buf_done(&got);
}

static void test_commands_of_strings_and_times(void **state) {
    (void)state;
    struct entry *e = put(3, "k", obj_string_from_ll(-7));
    ks_lock(ks, ks_all_mask(4));
    ks_set_expire(ks, 3, e, 1700000000001);
    ks_unlock(ks, ks_all_mask(4));
    assert_commands(1700000000, "#TS:1700000000\nSELECT 3\nSET k -7\nPEXPIREAT k 1700000000001\n");
}

static void test_commands_of_nothing(void **state) {
    (void)state;
    assert_commands(0, "");
}

static void test_commands_of_collections(void **state) {
    (void)state;
    struct obj *o = list_new();
    for (int i = 0; i < 66; i++) {
        char v[8];
        struct list_value item = { .text = { v, (size_t)snprintf(v, sizeof v, "%d", i) } };
        list_push(o, LIST_TAIL, item);
    }
    put(0, "l", o);
    struct buf want = { 0 };
    buf_append_cstr(&want, "SELECT 0\nRPUSH l");
    for (int i = 0; i < 64; i++) buf_printf(&want, " %d", i);
    buf_append_cstr(&want, "\nRPUSH l 64 65\n");
    assert_commands(0, buf_cstr(&want));
    buf_done(&want);
}

static void test_commands_of_sets_and_zsets(void **state) {
    (void)state;
    struct obj *s = set_new(), *z = zset_new(0, 0);
    set_add(s, SLICE_LIT("5"));
    put(0, "s", s);
    zset_add(z, 1.5, SLICE_LIT("a"), 0, NULL);
    zset_add(z, -1.0 / 0.0, SLICE_LIT("b"), 0, NULL);
    put(1, "z", z);
    assert_commands(0, "SELECT 0\nSADD s 5\nSELECT 1\nZADD z -inf b 1.5 a\n");
}

static void test_commands_of_hashes_with_times(void **state) {
    (void)state;
    struct obj *h = hash_new();
    hash_set(h, SLICE_LIT("f"), SLICE_LIT("v"), 1, 0);
    hash_set(h, SLICE_LIT("g"), SLICE_LIT("w"), 1, 0);
    hash_set_time(h, SLICE_LIT("f"), 1700000000002);
    put(0, "h", h);
    buf_clear(&text);
    struct aof_commands_opts o = { .sink = gather };
    ks_lock(ks, ks_all_mask(4));
    assert_int_equal(aof_commands_write(ks, NULL, &o), 0);
    ks_unlock(ks, ks_all_mask(4));
    assert_non_null(strstr(buf_cstr(&text), "HMSET\r\n$1\r\nh\r\n$1\r\n"));
    assert_non_null(strstr(
        buf_cstr(&text), "*6\r\n$10\r\nHPEXPIREAT\r\n$1\r\nh\r\n$13\r\n1700000000002\r\n$6\r\nFIELDS\r\n$1\r\n1\r\n$1\r\nf\r\n"));
}

static void test_commands_of_streams(void **state) {
    (void)state;
    struct obj *o = stream_obj_new();
    struct stream *s = o->u.ptr;
    struct slice fv[2] = { SLICE_LIT("f"), SLICE_LIT("v") };
    assert_true(stream_append(s, (struct stream_id){ 5, 1 }, 1, fv));
    assert_true(stream_append(s, (struct stream_id){ 6, 0 }, 1, fv));
    stream_delete(s, (struct stream_id){ 6, 0 });
    struct stream_group *g = stream_group_create(s, SLICE_LIT("g"), (struct stream_id){ 5, 1 }, 1);
    struct stream_consumer *c = stream_consumer_create(g, SLICE_LIT("c"), 100);
    stream_deliver(g, c, (struct stream_id){ 5, 1 }, 200);
    put(0, "s", o);
    assert_commands(
        0, "SELECT 0\nXADD s 5-1 f v\nXSETID s 6-0 ENTRIESADDED 2 MAXDELETEDID 6-0\nXGROUP CREATE s g 5-1 ENTRIESREAD 1\n"
           "XGROUP CREATECONSUMER s g c\nXCLAIM s g c 0 5-1 TIME 200 RETRYCOUNT 1 JUSTID FORCE\n");
}

static int full(void *arg, const void *p, size_t n) {
    (void)arg;
    (void)p;
    (void)n;
    return -ENOSPC;
}

static void test_commands_end_at_an_error(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put(0, key, obj_string_new_raw(1000));
    }
    struct aof_commands_opts o = { .sink = full };
    ks_lock(ks, ks_all_mask(4));
    assert_int_equal(aof_commands_write(ks, NULL, &o), -ENOSPC);
    ks_unlock(ks, ks_all_mask(4));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_commands_of_strings_and_times), TEST(test_commands_of_nothing),           TEST(test_commands_of_collections),
        TEST(test_commands_of_sets_and_zsets),    TEST(test_commands_of_hashes_with_times), TEST(test_commands_of_streams),
        TEST(test_commands_end_at_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
