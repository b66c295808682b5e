/* Request parser: commands whole and in pieces, inline commands, every protocol error, limits. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "proto/resp_parse.h"

static const struct resp_limits LIM = { .max_bulk_len = 512u << 20, .max_inline = 65536, .authenticated = true };
static const struct resp_limits UNAUTH = { .max_bulk_len = 512u << 20, .max_inline = 65536, .authenticated = false };

/* Feeds the input in pieces of `step` bytes, each time in fresh memory of the exact size, and writes what came out as text:
 * "[a,b]" per command, "!text" for an error, "~" when more is wanted at the end. */
static void run(const struct resp_limits *lim, const char *in, size_t len, size_t step, struct buf *out) {
    struct resp_parser p;
    resp_parser_init(&p);
    size_t start = 0, end = 0;
    bool failed = false;
    while (end < len && !failed) {
        end = end + step < len ? end + step : len;
        for (;;) {
            char *piece = mem_memdup0(in + start, end - start);
            size_t used = SIZE_MAX;
            enum resp_result r = resp_parse(&p, lim, piece, end - start, &used);
            if (r == RESP_COMMAND) {
                buf_append_char(out, '[');
                for (int i = 0; i < p.argc; i++) {
                    if (i) buf_append_char(out, ',');
                    buf_append(out, p.argv[i].ptr, p.argv[i].len);
                }
                buf_append_char(out, ']');
            } else if (r == RESP_ERROR) {
                buf_append_char(out, '!');
                buf_append_cstr(out, p.error);
                failed = true;
            }
            mem_free(piece);
            assert_true(r == RESP_ERROR || used <= end - start);
            if (r != RESP_ERROR) start += used;
            if (r != RESP_COMMAND) break;
        }
    }
    if (!failed && start < len) buf_append_char(out, '~');
    resp_parser_done(&p);
}

static void check_lim(const struct resp_limits *lim, const char *in, size_t len, const char *want) {
    for (size_t step = 1; step <= len; step = step < 64 ? step + 1 : step * 2) {
        struct buf out = { 0 };
        run(lim, in, len, step, &out);
        assert_string_equal(buf_cstr(&out), want);
        buf_done(&out);
    }
    struct buf out = { 0 };
    run(lim, in, len, len, &out);
    assert_string_equal(buf_cstr(&out), want);
    buf_done(&out);
}

#define check(in, want) check_lim(&LIM, (in), sizeof(in) - 1, (want))

static void test_multibulk_split_at_every_byte_gives_the_same(void **state) {
    (void)state;
    check("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n", "[SET,k,hello]");
    check("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n", "[PING][ECHO,][PING]");
    check("*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", "[GET,a\r\nb]");
    check("*2\r\n$3\r\nGET\r\n$10\r\nabc", "~");
    check("*11\r\n$1\r\n0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n$1\r\n8\r\n$1\r\n9\r\n$"
          "2\r\n10\r\n",
          "[0,1,2,3,4,5,6,7,8,9,10]");
}

static void test_every_two_way_split_gives_the_same(void **state) {
    (void)state;
    static const char in[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\nPING x\r\n\r\n*0\r\n*1\r\n$1\r\nz\r\n";
    for (size_t cut = 0; cut < sizeof(in); cut++) {
        struct resp_parser p;
        resp_parser_init(&p);
        size_t start = 0, n_commands = 0;
        const size_t ends[2] = { cut, sizeof(in) - 1 };
        for (int i = 0; i < 2; i++) {
            size_t used = 0;
            enum resp_result r;
            while (start < ends[i] && (r = resp_parse(&p, &LIM, in + start, ends[i] - start, &used)) != RESP_NEED_MORE) {
                assert_int_equal(r, RESP_COMMAND);
                n_commands++;
                start += used;
                used = 0;
            }
            start += used;
        }
        assert_int_equal(n_commands, 3);
        assert_int_equal(start, sizeof(in) - 1);
        resp_parser_done(&p);
    }
}

static void test_empty_commands_are_skipped(void **state) {
    (void)state;
    check("\r\n", "");
    check("\n\n\r\n", "");
    check("*0\r\n", "");
    check("*-1\r\n*-5\r\n*0\r\n*1\r\n$4\r\nPING\r\n", "[PING]");
    check("\r\n*0\r\n\r\nPING\r\n", "[PING]");
    check("*0\r\n*1\r\n$4\r\nPI", "~");
}

static void test_need_more_reports_skipped_bytes(void **state) {
    (void)state;
    struct resp_parser p;
    resp_parser_init(&p);
    size_t used = 99;
    assert_int_equal(resp_parse(&p, &LIM, "*0\r\n*2\r\n$3\r\nGE", 14, &used), RESP_NEED_MORE);
    assert_int_equal(used, 4);
    assert_int_equal(resp_parse(&p, &LIM, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 20, &used), RESP_COMMAND);
    assert_int_equal(used, 20);
    assert_int_equal(p.argc, 2);
    resp_parser_done(&p);
}

static void test_inline_words_and_quotes(void **state) {
    (void)state;
    check("PING\r\n", "[PING]");
    check("PING\n", "[PING]");
    check("  set  k  v \r\n", "[set,k,v]");
    check("set k \"a b\"\r\nget 'k'\r\n", "[set,k,a b][get,k]");
    check("set k \"\"\r\n", "[set,k,]");
    check("set k \"\\x41\\n\"\r\n", "[set,k,A\n]");
    check("GET k", "~");
}

static void test_inline_errors(void **state) {
    (void)state;
    check("set k \"abc\r\n", "!Protocol error: unbalanced quotes in request");
    check("set k 'abc\r\n", "!Protocol error: unbalanced quotes in request");
    check("set k \"abc\"d\r\n", "!Protocol error: unbalanced quotes in request");
}

static void test_inline_limit(void **state) {
    (void)state;
    struct buf b = { 0 };
    for (int i = 0; i < 65536; i++) buf_append_char(&b, 'a');
    struct buf want = { 0 };
    buf_printf(&want, "[%.*s]", (int)b.len, b.data);
    buf_append_char(&b, '\n');
    struct buf out = { 0 };
    run(&LIM, b.data, b.len, 1000, &out);
    assert_string_equal(buf_cstr(&out), buf_cstr(&want));
    b.len--;
    buf_append_cstr(&b, "a\n");
    for (size_t step = 999; step <= b.len + 10; step += 30000) {
        buf_clear(&out);
        run(&LIM, b.data, b.len, step, &out);
        assert_string_equal(buf_cstr(&out), "!Protocol error: too big inline request");
    }
    buf_done(&out);
    buf_done(&want);
    buf_done(&b);
}

static void test_multibulk_length_errors(void **state) {
    (void)state;
    static const char text[] = "!Protocol error: invalid multibulk length";
    check("*a\r\n", text);
    check("*\r\n", text);
    check("*2a\r\n", text);
    check("*+2\r\n", text);
    check("*02\r\n", text);
    check("* 2\r\n", text);
    check("*-0\r\n", text);
    check("*2147483648\r\n", text);
    check("*99999999999999999999\r\n", text);
    check("*2147483647\r\n", "~");
}

static void test_bulk_length_errors(void **state) {
    (void)state;
    static const char text[] = "!Protocol error: invalid bulk length";
    check("*1\r\n$a\r\n", text);
    check("*1\r\n$\r\n", text);
    check("*1\r\n$-1\r\n", text);
    check("*1\r\n$03\r\n", text);
    check("*1\r\n$536870913\r\n", text);
    check("*1\r\n$99999999999999999999\r\n", text);
    check("*1\r\n$536870912\r\n", "~");
}

static void test_expected_dollar_shows_the_byte(void **state) {
    (void)state;
    check("*1\r\n:3\r\n", "!Protocol error: expected '$', got ':'");
    check("*1\r\n4\r\n", "!Protocol error: expected '$', got '4'");
    check("*1\r\n\x01\r\n", "!Protocol error: expected '$', got '\x01'");
    check("*1\r\n\xff\r\n", "!Protocol error: expected '$', got '\xff'");
    check("*1\r\n\r\n", "!Protocol error: expected '$', got ' '");
    check("*1\r\n\nx\r\n", "!Protocol error: expected '$', got ' '");
    check("*1\r\n\0x\r\n", "!Protocol error: expected '$', got ''");
    /* as redis-server: only once the header is whole */
    check("*1\r\n:3", "~");
}

static void test_unauthenticated_limits(void **state) {
    (void)state;
    static const char ten[] = "*10\r\n", eleven[] = "*11\r\n", k16[] = "*1\r\n$16384\r\n", k16p[] = "*1\r\n$16385\r\n";
    check_lim(&UNAUTH, ten, sizeof(ten) - 1, "~");
    check_lim(&UNAUTH, eleven, sizeof(eleven) - 1, "!Protocol error: unauthenticated multibulk length");
    check_lim(&UNAUTH, k16, sizeof(k16) - 1, "~");
    check_lim(&UNAUTH, k16p, sizeof(k16p) - 1, "!Protocol error: unauthenticated bulk length");
}

static void check_long_header(const char *prefix, const char *want) {
    struct buf b = { 0 };
    buf_append_cstr(&b, prefix);
    for (int i = 0; i < 65537; i++) buf_append_char(&b, '1');
    for (size_t step = 4096; step <= 131072; step *= 2) {
        struct buf out = { 0 };
        run(&LIM, b.data, b.len, step, &out);
        assert_string_equal(buf_cstr(&out), want);
        buf_done(&out);
    }
    buf_done(&b);
}

static void test_header_without_end_is_refused(void **state) {
    (void)state;
    check_long_header("*", "!Protocol error: too big mbulk count string");
    check_long_header("*1\r\n$", "!Protocol error: too big bulk count string");
}

static void test_argv_grows_by_what_arrived(void **state) {
    (void)state;
    struct resp_parser p;
    resp_parser_init(&p);
    size_t used = 0;
    static const char in[] = "*1000000000\r\n$1\r\na\r\n";
    assert_int_equal(resp_parse(&p, &LIM, in, sizeof(in) - 1, &used), RESP_NEED_MORE);
    assert_in_range(p.argv_cap, 1, 64);
    resp_parser_done(&p);
}

static void test_many_arguments(void **state) {
    (void)state;
    enum { N = 20000 };
    struct buf b = { 0 };
    buf_printf(&b, "*%d\r\n", N);
    for (int i = 0; i < N; i++) buf_printf(&b, "$5\r\n%05d\r\n", i);
    struct resp_parser p;
    resp_parser_init(&p);
    size_t used = 0;
    assert_int_equal(resp_parse(&p, &LIM, b.data, b.len, &used), RESP_COMMAND);
    assert_int_equal(used, b.len);
    assert_int_equal(p.argc, N);
    for (int i = 0; i < N; i++) assert_int_equal(atoi(p.argv[i].ptr), i);
    resp_parser_trim(&p, NULL);
    assert_null(p.argv);
    resp_parser_done(&p);
    buf_done(&b);
}

static void test_lacks_says_what_is_missing(void **state) {
    (void)state;
    struct resp_parser p;
    resp_parser_init(&p);
    size_t used = 0;
    static const char in[] = "*2\r\n$3\r\nGET\r\n$1000\r\nabc";
    assert_int_equal(resp_parse(&p, &LIM, in, sizeof(in) - 1, &used), RESP_NEED_MORE);
    assert_int_equal(used, 0);
    assert_int_equal(resp_parser_lacks(&p, sizeof(in) - 1), 999);
    resp_parser_trim(&p, NULL); /* half a command: must not lose it */
    assert_int_equal(p.argc, 1);
    resp_parser_done(&p);
    assert_int_equal(resp_parse(&p, &LIM, "*2\r", 3, &used), RESP_NEED_MORE);
    assert_int_equal(resp_parser_lacks(&p, 3), 0);
    resp_parser_done(&p);
}

/* Two of three arguments received aside; one of them taken over. */
static void count_release(void *kept) {
    ++*(int *)kept;
}

static void test_large_arguments_are_received_aside(void **state) {
    (void)state;
    struct resp_parser p;
    resp_parser_init(&p);
    static const char head[] = "*4\r\n$4\r\nMSET\r\n$20\r\nabc", mid[] = "$1\r\nx\r\n$30\r\n";
    struct buf q = { 0 };
    size_t used, cap = 0;
    buf_append(&q, head, sizeof(head) - 1);
    assert_int_equal(resp_parse(&p, &LIM, q.data, q.len, &used), RESP_NEED_MORE);
    assert_int_equal(resp_parser_large(&p, q.len, 21), 0);
    assert_int_equal(resp_parser_large(&p, q.len, 20), 22);
    assert_int_equal(q.len - p.pos, 3);
    q.len = p.pos;
    resp_parser_put_large(&p, mem_memdup0("abcdefghijklmnopqrst\r\n", 22), 22);
    buf_append(&q, mid, sizeof(mid) - 1);
    assert_int_equal(resp_parse(&p, &LIM, q.data, q.len, &used), RESP_NEED_MORE);
    assert_int_equal(resp_parser_large(&p, q.len, 20), 32);
    assert_int_equal(p.pos, q.len);
    resp_parser_trim(&p, NULL); /* takes nothing from a command half read */
    resp_parser_put_large(&p, mem_memdup0("0123456789012345678901234567ab\r\n", 32), 32);
    buf_append(&q, "PING\r\n", 6);
    assert_int_equal(resp_parse(&p, &LIM, q.data, q.len, &used), RESP_COMMAND);
    assert_int_equal(p.argc, 4);
    assert_int_equal(used, q.len - 6);
    assert_memory_equal(p.argv[0].ptr, "MSET", 4);
    assert_memory_equal(p.argv[1].ptr, "abcdefghijklmnopqrst", p.argv[1].len);
    assert_memory_equal(p.argv[2].ptr, "x", 1);
    assert_int_equal(p.argv[3].len, 30);
    assert_null(resp_parser_take_large(&p, p.argv[2].ptr, &cap));
    char *own = resp_parser_take_large(&p, p.argv[3].ptr, &cap);
    assert_ptr_equal(own, p.argv[3].ptr);
    assert_int_equal(cap, 32);
    assert_null(resp_parser_take_large(&p, own, &cap));
    int released = 0;
    resp_parser_keep(&p, own, count_release, &released);
    assert_int_equal(released, 0);
    resp_parser_let_go(&p);
    assert_int_equal(released, 1);
    resp_parser_keep(&p, own, count_release, &released);
    buf_consume(&q, used);
    assert_int_equal(resp_parse(&p, &LIM, q.data, q.len, &used), RESP_COMMAND);
    assert_int_equal(p.n_large, 0);
    assert_int_equal(released, 2); /* the next command came */
    assert_memory_equal(own, "0123456789012345678901234567ab", 30);
    mem_free(own);
    resp_parser_done(&p);
    buf_done(&q);
}

static void test_parser_is_usable_after_error(void **state) {
    (void)state;
    struct resp_parser p;
    resp_parser_init(&p);
    size_t used = 0;
    assert_int_equal(resp_parse(&p, &LIM, "*2\r\n$1\r\na\r\n!\r\n", 14, &used), RESP_ERROR);
    assert_int_equal(resp_parse(&p, &LIM, "*1\r\n$1\r\na\r\n", 11, &used), RESP_COMMAND);
    assert_int_equal(p.argc, 1);
    resp_parser_done(&p);
}

/* Connections of a thread hand one argv on; one that is in the middle of a command keeps its own. */
static void test_spare_argv_is_handed_on(void **state) {
    (void)state;
    struct resp_parser a, b;
    struct resp_argv spare = { 0 };
    static const char get[] = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    const size_t len = sizeof(get) - 1, half = 13;
    size_t used;
    resp_parser_init(&a);
    resp_parser_init(&b);
    resp_parser_borrow(&a, &spare); /* nothing there yet */
    assert_int_equal(resp_parse(&a, &LIM, get, len, &used), RESP_COMMAND);
    struct slice *argv = a.argv;
    resp_parser_trim(&a, &spare);
    assert_null(a.argv);
    assert_ptr_equal(spare.argv, argv);
    resp_parser_borrow(&b, &spare);
    assert_ptr_equal(b.argv, argv);
    assert_null(spare.argv);
    assert_int_equal(resp_parse(&b, &LIM, get, half, &used), RESP_NEED_MORE);
    resp_parser_trim(&b, &spare);
    assert_null(spare.argv);
    assert_int_equal(resp_parse(&a, &LIM, get, len, &used), RESP_COMMAND);
    assert_ptr_not_equal(a.argv, b.argv);
    resp_parser_trim(&a, &spare);
    assert_int_equal(resp_parse(&b, &LIM, get, len, &used), RESP_COMMAND);
    assert_memory_equal(b.argv[1].ptr, "k", 1);
    resp_parser_trim(&b, &spare); /* there is one already */
    assert_null(b.argv);
    mem_free(spare.argv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spare_argv_is_handed_on),
        cmocka_unit_test(test_multibulk_split_at_every_byte_gives_the_same),
        cmocka_unit_test(test_every_two_way_split_gives_the_same),
        cmocka_unit_test(test_empty_commands_are_skipped),
        cmocka_unit_test(test_need_more_reports_skipped_bytes),
        cmocka_unit_test(test_inline_words_and_quotes),
        cmocka_unit_test(test_inline_errors),
        cmocka_unit_test(test_inline_limit),
        cmocka_unit_test(test_multibulk_length_errors),
        cmocka_unit_test(test_bulk_length_errors),
        cmocka_unit_test(test_expected_dollar_shows_the_byte),
        cmocka_unit_test(test_unauthenticated_limits),
        cmocka_unit_test(test_header_without_end_is_refused),
        cmocka_unit_test(test_argv_grows_by_what_arrived),
        cmocka_unit_test(test_many_arguments),
        cmocka_unit_test(test_lacks_says_what_is_missing),
        cmocka_unit_test(test_large_arguments_are_received_aside),
        cmocka_unit_test(test_parser_is_usable_after_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
