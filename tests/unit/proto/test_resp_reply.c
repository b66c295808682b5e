/* Reply parser: every type as a tree, incomplete and hostile input, the skipper against the tree, the command writer. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/resp_reply.h"

/* Parses the whole literal; fails the test unless it is exactly one value. */
static struct resp_value *parse_len(const char *in, size_t len) {
    struct resp_value *v = NULL;
    size_t used = 0;
    char *copy = mem_memdup0(in, len);
    assert_int_equal(resp_value_parse(copy, len, &used, &v), 1);
    mem_free(copy); /* the tree owns its text */
    assert_int_equal(used, len);
    assert_non_null(v);
    return v;
}
#define parse(lit) parse_len((lit), sizeof(lit) - 1)

static int parse_code(const char *in, size_t len) {
    struct resp_value *v = (struct resp_value *)8;
    size_t used = 777;
    int r = resp_value_parse(in, len, &used, &v);
    if (r == 1) {
        resp_value_free(v);
    } else {
        assert_ptr_equal(v, (struct resp_value *)8);
        assert_int_equal(used, 777);
    }
    return r;
}
#define code(lit) parse_code((lit), sizeof(lit) - 1)

static void check_str(const char *in, size_t len, enum resp_type type, const char *text, size_t text_len) {
    struct resp_value *v = parse_len(in, len);
    assert_int_equal(v->type, type);
    assert_int_equal(v->str.len, text_len);
    assert_memory_equal(v->str.ptr, text, text_len);
    resp_value_free(v);
}
#define str_is(lit, type, text) check_str((lit), sizeof(lit) - 1, (type), (text), sizeof(text) - 1)

static void test_texts(void **state) {
    (void)state;
    str_is("+OK\r\n", RESP_T_STATUS, "OK");
    str_is("+\r\n", RESP_T_STATUS, "");
    str_is("-ERR x\r\n", RESP_T_ERROR, "ERR x");
    str_is("$5\r\nhello\r\n", RESP_T_BULK, "hello");
    str_is("$0\r\n\r\n", RESP_T_BULK, "");
    str_is("$4\r\n\r\n\0a\r\n", RESP_T_BULK, "\r\n\0a");
    str_is("!5\r\nERR x\r\n", RESP_T_BLOB_ERROR, "ERR x");
    str_is("(-123456789012345678901\r\n", RESP_T_BIGNUM, "-123456789012345678901");
    str_is("=7\r\ntxt:abc\r\n", RESP_T_VERBATIM, "abc");
    struct resp_value *v = parse("=4\r\nmkd:\r\n");
    assert_string_equal(v->ext, "mkd");
    assert_int_equal(v->str.len, 0);
    resp_value_free(v);
}

static void check_int(const char *in, size_t len, enum resp_type type, int64_t want) {
    struct resp_value *v = parse_len(in, len);
    assert_int_equal(v->type, type);
    assert_true(v->integer == want);
    resp_value_free(v);
}
#define int_is(lit, type, want) check_int((lit), sizeof(lit) - 1, (type), (want))

static void test_numbers_and_nulls(void **state) {
    (void)state;
    int_is(":0\r\n", RESP_T_INT, 0);
    int_is(":+5\r\n", RESP_T_INT, 5);
    int_is(":-9223372036854775808\r\n", RESP_T_INT, INT64_MIN);
    int_is("#t\r\n", RESP_T_BOOL, 1);
    int_is("#f\r\n", RESP_T_BOOL, 0);
    struct resp_value *v = parse("$-1\r\n");
    assert_int_equal(v->type, RESP_T_NULL);
    assert_false(v->null_array);
    resp_value_free(v);
    v = parse("*-1\r\n");
    assert_int_equal(v->type, RESP_T_NULL);
    assert_true(v->null_array);
    resp_value_free(v);
    v = parse("_\r\n");
    assert_int_equal(v->type, RESP_T_NULL);
    resp_value_free(v);
}

static void check_double(const char *in, double want) {
    struct resp_value *v = parse_len(in, strlen(in));
    assert_int_equal(v->type, RESP_T_DOUBLE);
    assert_true(isnan(want) ? isnan(v->dbl) : v->dbl == want);
    assert_int_equal(v->str.len, strlen(in) - 3);
    resp_value_free(v);
}

static void test_doubles(void **state) {
    (void)state;
    check_double(",3.25\r\n", 3.25);
    check_double(",-1e3\r\n", -1000);
    check_double(",inf\r\n", INFINITY);
    check_double(",-inf\r\n", -INFINITY);
    check_double(",nan\r\n", NAN);
}

static void test_aggregates(void **state) {
    (void)state;
    struct resp_value *v = parse("*3\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n");
    assert_int_equal(v->type, RESP_T_ARRAY);
    assert_int_equal(v->n, 3);
    assert_int_equal(v->el[0].integer, 1);
    assert_int_equal(v->el[1].n, 2);
    assert_int_equal(v->el[1].el[1].type, RESP_T_NULL);
    assert_int_equal(v->el[2].type, RESP_T_MAP);
    assert_int_equal(v->el[2].n, 2);
    assert_int_equal(v->el[2].el[1].type, RESP_T_SET);
    assert_int_equal(v->el[2].el[1].el[1].integer, 2);
    resp_value_free(v);
    v = parse(">2\r\n+message\r\n*0\r\n");
    assert_int_equal(v->type, RESP_T_PUSH);
    assert_int_equal(v->el[1].n, 0);
    resp_value_free(v);
    v = parse("*0\r\n");
    assert_int_equal(v->n, 0);
    resp_value_free(v);
    assert_null(resp_value_free(NULL));
}

static void test_attributes(void **state) {
    (void)state;
    static const char in[] = "|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n|1\r\n+a\r\n*1\r\n:9\r\n:2\r\n";
    struct resp_value *v = NULL;
    size_t used = 0, used2 = 0;
    assert_int_equal(resp_value_parse(in, sizeof(in) - 1, &used, &v), 1);
    assert_int_equal(v->type, RESP_T_ATTR);
    assert_int_equal(v->n, 2);
    assert_int_equal(v->el[1].integer, 3600);
    resp_value_free(v);
    assert_int_equal(resp_value_parse(in + used, sizeof(in) - 1 - used, &used2, &v), 1);
    assert_int_equal(used + used2, sizeof(in) - 1);
    assert_int_equal(v->n, 2);
    assert_int_equal(v->el[1].integer, 2);
    resp_value_free(v);
    struct resp_skip s = { 0 };
    assert_int_equal(resp_skip(&s, in, sizeof(in) - 1, &used), 1);
    assert_int_equal(used, sizeof(in) - 1);
    assert_false(s.is_error);
}

static void test_incomplete_wants_more_at_every_cut(void **state) {
    (void)state;
    static const char in[] = "*4\r\n$3\r\nabc\r\n:12\r\n%1\r\n+k\r\n,1.5\r\n=6\r\ntxt:hi\r\n";
    for (size_t len = 0; len < sizeof(in) - 1; len++) {
        char *exact = mem_memdup0(in, len);
        assert_int_equal(parse_code(exact, len), 0);
        mem_free(exact);
    }
    assert_int_equal(code("*4\r\n$3\r\nabc\r\n:12\r\n%1\r\n+k\r\n,1.5\r\n=6\r\ntxt:hi\r\n"), 1);
}

static void test_malformed_is_refused(void **state) {
    (void)state;
    assert_int_equal(code("x\r\n"), -EPROTO);
    assert_int_equal(code("HTTP/1.1 400 Bad Request\r\n"), -EPROTO);
    assert_int_equal(code("\r\n"), -EPROTO);
    assert_int_equal(code(":\r\n"), -EPROTO);
    assert_int_equal(code(":1a\r\n"), -EPROTO);
    assert_int_equal(code(":+-1\r\n"), -EPROTO);
    assert_int_equal(code(":99999999999999999999\r\n"), -EPROTO);
    assert_int_equal(code(":1\rx"), -EPROTO);
    assert_int_equal(code("$-2\r\n"), -EPROTO);
    assert_int_equal(code("$a\r\n"), -EPROTO);
    assert_int_equal(code("$3\r\nabcde"), -EPROTO);
    assert_int_equal(code("%-1\r\n"), -EPROTO);
    assert_int_equal(code("~-1\r\n"), -EPROTO);
    assert_int_equal(code("=3\r\nabc\r\n"), -EPROTO);
    assert_int_equal(code("=4\r\nabcd\r\n"), -EPROTO);
    assert_int_equal(code("#x\r\n"), -EPROTO);
    assert_int_equal(code("_x\r\n"), -EPROTO);
    assert_int_equal(code(":1111111111111111111111111111111111111"), -EPROTO);
}

static void test_hostile_lengths_cost_nothing(void **state) {
    (void)state;
    assert_int_equal(code("*1000000000\r\n:1\r\n"), 0);
    assert_int_equal(code("*9223372036854775807\r\n*9223372036854775807\r\n:1\r\n"), 0);
    assert_int_equal(code("%9223372036854775807\r\n"), 0);
    assert_int_equal(code("$9223372036854775807\r\nabc"), 0);
    struct resp_skip s = { 0 };
    size_t used;
    static const char in[] = "%9223372036854775807\r\n%9223372036854775807\r\n%9223372036854775807\r\n";
    assert_int_equal(resp_skip(&s, in, sizeof(in) - 1, &used), -EPROTO);
}

static void test_depth_is_bounded(void **state) {
    (void)state;
    struct buf b = { 0 };
    for (int i = 0; i < RESP_MAX_DEPTH; i++) buf_append_cstr(&b, "*1\r\n");
    buf_append_cstr(&b, ":1\r\n");
    assert_int_equal(parse_code(b.data, b.len), 1);
    buf_clear(&b);
    for (int i = 0; i < RESP_MAX_DEPTH + 1; i++) buf_append_cstr(&b, "*1\r\n");
    assert_int_equal(parse_code(b.data, b.len), -EPROTO);
    buf_clear(&b);
    for (int i = 0; i < 100000; i++) buf_append_cstr(&b, "*1\r\n");
    buf_append_cstr(&b, ":1\r\n");
    struct resp_skip s = { 0 };
    size_t used = 0;
    assert_int_equal(resp_skip(&s, b.data, b.len, &used), 1);
    assert_int_equal(used, b.len);
    buf_done(&b);
}

static void test_skip_resumes_byte_by_byte(void **state) {
    (void)state;
    static const char in[] = "*3\r\n-ERR inner\r\n%1\r\n$2\r\nab\r\n+v\r\n_\r\n-ERR second\r\n+rest\r\n";
    size_t base = 0, used = 0;
    const bool errors[3] = { false, true, false };
    for (int i = 0; i < 3; i++) {
        struct resp_skip s = { 0 };
        size_t len = 0;
        int r = 0;
        while (r == 0 && base + len < sizeof(in) - 1) r = resp_skip(&s, in + base, ++len, &used);
        assert_int_equal(r, 1);
        assert_int_equal(used, len);
        assert_int_equal(s.is_error, errors[i]);
        base += used;
    }
    assert_int_equal(base, sizeof(in) - 1);
}

static void test_skip_error_behind_attribute(void **state) {
    (void)state;
    static const char in[] = "|1\r\n-x\r\n-y\r\n-ERR z\r\n";
    struct resp_skip s = { 0 };
    size_t used = 0;
    assert_int_equal(resp_skip(&s, in, sizeof(in) - 1, &used), 1);
    assert_int_equal(used, sizeof(in) - 1);
    assert_true(s.is_error);
    static const char ok[] = "|1\r\n-x\r\n-y\r\n*1\r\n-ERR z\r\n";
    s = (struct resp_skip){ 0 };
    assert_int_equal(resp_skip(&s, ok, sizeof(ok) - 1, &used), 1);
    assert_false(s.is_error);
}

static void test_write_command(void **state) {
    (void)state;
    struct buf b = { 0 };
    const struct slice argv[3] = { SLICE_LIT("SET"), SLICE_LIT("k"), { NULL, 0 } };
    resp_write_command(&b, 3, argv);
    assert_string_equal(buf_cstr(&b), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    buf_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_numbers_and_nulls),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_aggregates),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_incomplete_wants_more_at_every_cut),
        cmocka_unit_test(test_malformed_is_refused),
        cmocka_unit_test(test_hostile_lengths_cost_nothing),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_skip_resumes_byte_by_byte),
        cmocka_unit_test(test_skip_error_behind_attribute),
        cmocka_unit_test(test_write_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
