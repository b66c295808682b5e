/* Reply writer: the bytes of every kind of reply in RESP2 and RESP3, errors, muting, deferred lengths. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/obuf.h"
#include "proto/reply.h"

static struct obuf out;
static struct reply rep;

static void start(int resp) {
    obuf_clear(&out);
    reply_init(&rep, &out, resp);
}

/* Compares and empties. */
static void expect_bytes(const char *want, size_t len) {
    char *got = mem_zalloc(out.bytes + 1);
    assert_int_equal(obuf_copy(&out, got, out.bytes), out.bytes);
    assert_int_equal(out.bytes, len);
    assert_memory_equal(got, want, len);
    mem_free(got);
    obuf_clear(&out);
}
#define expect(lit) expect_bytes((lit), sizeof(lit) - 1)

/* Runs the statement in both protocols. */
#define both(stmt, resp2, resp3)                                                                                                 \
    do {                                                                                                                         \
        start(2);                                                                                                                \
        stmt;                                                                                                                    \
        expect(resp2);                                                                                                           \
        start(3);                                                                                                                \
        stmt;                                                                                                                    \
        expect(resp3);                                                                                                           \
    } while (0)

static void test_strings(void **state) {
    (void)state;
    both(reply_ok(&rep), "+OK\r\n", "+OK\r\n");
    both(reply_simple(&rep, "QUEUED"), "+QUEUED\r\n", "+QUEUED\r\n");
    both(reply_bulk(&rep, "a\0b", 3), "$3\r\na\0b\r\n", "$3\r\na\0b\r\n");
    both(reply_bulk(&rep, NULL, 0), "$0\r\n\r\n", "$0\r\n\r\n");
    both(reply_bulk_cstr(&rep, "hello"), "$5\r\nhello\r\n", "$5\r\nhello\r\n");
    both(reply_bulk_slice(&rep, SLICE_LIT("xy")), "$2\r\nxy\r\n", "$2\r\nxy\r\n");
    both(reply_bulkf(&rep, "%d-%s", 7, "x"), "$3\r\n7-x\r\n", "$3\r\n7-x\r\n");
    both(reply_verbatim(&rep, "text", 4, "txt"), "$4\r\ntext\r\n", "=8\r\ntxt:text\r\n");
    both(reply_raw(&rep, "+x\r\n", 4), "+x\r\n", "+x\r\n");
}

static void test_numbers(void **state) {
    (void)state;
    both(reply_int(&rep, 0), ":0\r\n", ":0\r\n");
    both(reply_int(&rep, 9), ":9\r\n", ":9\r\n");
    both(reply_int(&rep, 10), ":10\r\n", ":10\r\n");
    both(reply_int(&rep, -1), ":-1\r\n", ":-1\r\n");
    both(reply_int(&rep, INT64_MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n");
    both(reply_int(&rep, INT64_MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
    both(reply_bulk_ll(&rep, -42), "$3\r\n-42\r\n", "$3\r\n-42\r\n");
    both(reply_bool(&rep, true), ":1\r\n", "#t\r\n");
    both(reply_bool(&rep, false), ":0\r\n", "#f\r\n");
    both(reply_bignum(&rep, SLICE_LIT("123456789012345678901234567890")), "$30\r\n123456789012345678901234567890\r\n",
         "(123456789012345678901234567890\r\n");
}

static void test_doubles(void **state) {
    (void)state;
    both(reply_double(&rep, 3.1), "$3\r\n3.1\r\n", ",3.1\r\n");
    both(reply_double(&rep, 3), "$1\r\n3\r\n", ",3\r\n");
    both(reply_double(&rep, 0.1), "$3\r\n0.1\r\n", ",0.1\r\n");
    both(reply_double(&rep, -1.5), "$4\r\n-1.5\r\n", ",-1.5\r\n");
    both(reply_double(&rep, 1e20), "$5\r\n1e+20\r\n", ",1e+20\r\n");
    both(reply_double(&rep, INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
    both(reply_double(&rep, -INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    both(reply_double(&rep, NAN), "$3\r\nnan\r\n", ",nan\r\n");
    both(reply_human_long_double(&rep, 10.5L), "$4\r\n10.5\r\n", "$4\r\n10.5\r\n");
    both(reply_human_long_double(&rep, 5.0L), "$1\r\n5\r\n", "$1\r\n5\r\n");
    both(reply_long_double(&rep, 13.361389338970184), "$20\r\n13.36138933897018433\r\n", ",13.36138933897018433\r\n");
}

static void test_nulls(void **state) {
    (void)state;
    both(reply_null(&rep), "$-1\r\n", "_\r\n");
    both(reply_null_array(&rep), "*-1\r\n", "_\r\n");
}

static void test_aggregates(void **state) {
    (void)state;
    both(reply_array(&rep, 0), "*0\r\n", "*0\r\n");
    both(reply_array(&rep, 12345), "*12345\r\n", "*12345\r\n");
    both(reply_map(&rep, 3), "*6\r\n", "%3\r\n");
    both(reply_set(&rep, 3), "*3\r\n", "~3\r\n");
    both(reply_push(&rep, 3), "*3\r\n", ">3\r\n");
    start(3);
    reply_attribute(&rep, 1);
    expect("|1\r\n");
}

static void test_error_prefix(void **state) {
    (void)state;
    both(reply_error(&rep, "ERR syntax error"), "-ERR syntax error\r\n", "-ERR syntax error\r\n");
    both(reply_error(&rep, "syntax error"), "-ERR syntax error\r\n", "-ERR syntax error\r\n");
    both(reply_error(&rep, "WRONGTYPE Operation"), "-WRONGTYPE Operation\r\n", "-WRONGTYPE Operation\r\n");
    both(reply_error(&rep, "NOAUTH"), "-NOAUTH\r\n", "-NOAUTH\r\n");
    both(reply_error(&rep, "DB index is out of range"), "-ERR DB index is out of range\r\n", "-ERR DB index is out of range\r\n");
    both(reply_error(&rep, ""), "-ERR \r\n", "-ERR \r\n");
    both(reply_errorf(&rep, "ERR no %s %d", "x", 3), "-ERR no x 3\r\n", "-ERR no x 3\r\n");
}

static void test_error_line_ends_become_spaces(void **state) {
    (void)state;
    start(2);
    reply_error(&rep, "ERR a\r\nb\n+OK\r\n");
    expect("-ERR a  b +OK\r\n");
    assert_string_equal(rep.last_error, "ERR a  b +OK");
    reply_errorf(&rep, "bad '%s'", "\r\n:1\r\n");
    expect("-ERR bad '  :1  '\r\n");
}

static void test_error_long_text(void **state) {
    (void)state;
    start(2);
    char text[3001];
    memset(text, 'x', sizeof(text) - 1);
    text[3000] = '\0';
    reply_errorf(&rep, "ERR %s", text);
    assert_int_equal(out.bytes, 5 + 3000 + 2);
    assert_int_equal(strlen(rep.last_error), sizeof(rep.last_error) - 1);
    obuf_clear(&out);
}

static void test_error_is_counted_when_muted(void **state) {
    (void)state;
    start(2);
    rep.muted = true;
    reply_error(&rep, "WRONGTYPE x");
    assert_int_equal(rep.errors, 1);
    assert_string_equal(rep.last_error, "WRONGTYPE x");
    assert_int_equal(out.bytes, 0);
}

static void test_muted_writes_nothing(void **state) {
    (void)state;
    for (int resp = 2; resp <= 3; resp++) {
        start(resp);
        rep.muted = true;
        reply_ok(&rep);
        reply_int(&rep, 1);
        reply_int(&rep, -1);
        reply_bulk_cstr(&rep, "x");
        reply_bulk_ll(&rep, 1);
        reply_bulkf(&rep, "%d", 1);
        reply_null(&rep);
        reply_null_array(&rep);
        reply_array(&rep, 1);
        reply_map(&rep, 1);
        reply_set(&rep, 1);
        reply_push(&rep, 1);
        reply_attribute(&rep, 1);
        reply_bool(&rep, true);
        reply_double(&rep, 1);
        reply_human_long_double(&rep, 1);
        reply_long_double(&rep, 1);
        reply_bignum(&rep, SLICE_LIT("1"));
        reply_verbatim(&rep, "x", 1, "txt");
        reply_raw(&rep, "x", 1);
        struct reply_deferred d = reply_deferred_begin(&rep);
        reply_deferred_array(&rep, d, 3);
        assert_int_equal(out.bytes, 0);
    }
}

static int released;

static void release(void *arg) {
    assert_ptr_equal(arg, &released);
    released++;
}

static void test_bulk_ref_releases_once(void **state) {
    (void)state;
    static const char data[] = "borrowed";
    start(2);
    released = 0;
    reply_bulk_ref(&rep, data, 8, release, &released);
    assert_int_equal(released, 0);
    expect("$8\r\nborrowed\r\n");
    assert_int_equal(released, 1);
    rep.muted = true;
    reply_bulk_ref(&rep, data, 8, release, &released);
    assert_int_equal(released, 2);
    assert_int_equal(out.bytes, 0);
}

static void test_deferred_lengths(void **state) {
    (void)state;
    start(2);
    struct reply_deferred a = reply_deferred_begin(&rep);
    reply_int(&rep, 1);
    struct reply_deferred m = reply_deferred_begin(&rep);
    reply_int(&rep, 2);
    reply_int(&rep, 3);
    reply_deferred_map(&rep, m, 1);
    reply_deferred_array(&rep, a, 2);
    reply_ok(&rep);
    expect("*2\r\n:1\r\n*2\r\n:2\r\n:3\r\n+OK\r\n");
    start(3);
    m = reply_deferred_begin(&rep);
    reply_int(&rep, 2);
    reply_int(&rep, 3);
    reply_deferred_map(&rep, m, 1);
    struct reply_deferred s = reply_deferred_begin(&rep);
    reply_deferred_set(&rep, s, 0);
    expect("%1\r\n:2\r\n:3\r\n~0\r\n");
}

static void test_big_bulk(void **state) {
    (void)state;
    start(2);
    size_t len = 100000;
    char *p = mem_alloc(len), *want = mem_alloc(len + 11);
    for (size_t i = 0; i < len; i++) p[i] = (char)i;
    memcpy(want, "$100000\r\n", 9);
    memcpy(want + 9, p, len);
    memcpy(want + 9 + len, "\r\n", 2);
    reply_bulk(&rep, p, len);
    expect_bytes(want, len + 11);
    mem_free(p);
    mem_free(want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_nulls),
        cmocka_unit_test(test_aggregates),
        cmocka_unit_test(test_error_prefix),
        cmocka_unit_test(test_error_line_ends_become_spaces),
        cmocka_unit_test(test_error_long_text),
        cmocka_unit_test(test_error_is_counted_when_muted),
        cmocka_unit_test(test_muted_writes_nothing),
        cmocka_unit_test(test_bulk_ref_releases_once),
        cmocka_unit_test(test_deferred_lengths),
        cmocka_unit_test(test_big_bulk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
