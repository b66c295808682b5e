/* Reading an append-only file: commands and annotations in pieces of any size, what is refused, what counts as cut off. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "persist/aof_read.h"

struct bytes {
    struct slice left;
    size_t piece;
    int err; /* at the end; 0: the end of the file */
};

static ssize_t give(void *arg, void *p, size_t n) {
    struct bytes *b = arg;
    if (b->left.len == 0) return b->err ? -b->err : 0;
    if (n > b->piece) n = b->piece;
    if (n > b->left.len) n = b->left.len;
    memcpy(p, b->left.ptr, n);
    b->left = (struct slice){ b->left.ptr + n, b->left.len - n };
    return (ssize_t)n;
}

static struct bytes src;
static struct aof_reader r;

static void open_text(const char *text, size_t piece) {
    src = (struct bytes){ .left = slice_cstr(text), .piece = piece };
    aof_reader_init(&r, give, &src);
}

static void test_read_commands_and_notes(void **state) {
    (void)state;
    const char *text = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#TS:1700000000\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\na\r\n\r\n#\n";
    for (size_t piece = 1; piece < 80; piece++) {
        int64_t ts = 0;
        open_text(text, piece);
        assert_int_equal(aof_reader_next(&r), AOF_READ_COMMAND);
        assert_int_equal(r.argc, 2);
        assert_true(slice_eq(r.argv[0], SLICE_LIT("SELECT")));
        assert_int_equal(r.offset, 23);
        assert_int_equal(aof_reader_next(&r), AOF_READ_NOTE);
        assert_true(aof_note_timestamp(r.argv[0], &ts));
        assert_int_equal(ts, 1700000000);
        assert_int_equal(aof_reader_next(&r), AOF_READ_COMMAND);
        assert_int_equal(r.argc, 3);
        assert_int_equal(r.argv[1].len, 0);
        assert_true(slice_eq(r.argv[2], SLICE_LIT("a\r\n")));
        assert_int_equal(r.lines, 5 + 7);
        assert_int_equal(aof_reader_next(&r), AOF_READ_NOTE);
        assert_false(aof_note_timestamp(r.argv[0], &ts));
        assert_int_equal(aof_reader_next(&r), AOF_READ_END);
        assert_int_equal(r.offset, strlen(text));
        aof_reader_done(&r);
    }
}

static void test_read_every_cut_is_truncation(void **state) {
    (void)state;
    const char *text = "*2\r\n$3\r\nGET\r\n$12\r\nabcdefghijkl\r\n";
    for (size_t n = 1; n < strlen(text); n++) {
        open_text(text, 7);
        src.left.len = n;
        assert_int_equal(aof_reader_next(&r), AOF_READ_TRUNCATED);
        assert_int_equal(r.offset, 0);
        aof_reader_done(&r);
    }
    open_text("#TS:1", 7);
    assert_int_equal(aof_reader_next(&r), AOF_READ_TRUNCATED);
    aof_reader_done(&r);
}

static void refused(const char *text, const char *why, int64_t at) {
    open_text(text, 5);
    assert_int_equal(aof_reader_next(&r), AOF_READ_BAD);
    assert_string_equal(r.err, why);
    assert_int_equal(r.err_at, at);
    aof_reader_done(&r);
}

static void test_read_refuses(void **state) {
    (void)state;
    refused("SET a b\r\n", "Expected prefix '*', got: 'S'", 0);
    refused("*1\r\n+OK\r\n", "Expected prefix '$', got: '+'", 4);
    refused("*1\n$1\r\na\r\n", "Expected \\r\\n, got: 310a", 0);
    refused("*0\r\n", "Invalid number of arguments", 0);
    refused("*-1\r\n", "Invalid number of arguments", 0);
    refused("*99999999999\r\n", "Invalid number of arguments", 0);
    refused("*1x\r\n", "Invalid length", 0);
    refused("*1\r\n$-1\r\n", "Invalid length", 9);
    refused("*1\r\n$9223372036854775807\r\n", "Invalid length", 26);
    refused("*1\r\n$1\r\nab\r\n", "Expected \\r\\n, got: 620d", 8);
    char line[2000];
    memset(line, '#', sizeof line);
    memcpy(line + sizeof line - 2, "\n", 2);
    refused(line, "Line too long", 0);
}

static void test_read_error_of_the_source(void **state) {
    (void)state;
    open_text("*1\r\n$4\r\nPI", 100);
    src.err = EIO;
    assert_int_equal(aof_reader_next(&r), AOF_READ_ERROR);
    assert_int_equal(r.err_no, EIO);
    aof_reader_done(&r);
}

/* A length that is not there costs no memory. */
static void test_read_claimed_lengths_cost_nothing(void **state) {
    (void)state;
    open_text("*2000000000\r\n$4000000000000\r\nabc", 100);
    assert_int_equal(aof_reader_next(&r), AOF_READ_TRUNCATED);
    assert_true(r.buf.cap < 1 << 20);
    assert_string_equal(r.err, "Expected to read 4000000000002 bytes, got 3 bytes");
    aof_reader_done(&r);
}

static void test_read_peek_and_take(void **state) {
    (void)state;
    const char *p;
    char got[8];
    open_text("REDIS0011xyz*1\r\n$4\r\nPING\r\n", 3);
    assert_int_equal(aof_reader_peek(&r, 5, &p), 5);
    assert_memory_equal(p, "REDIS", 5);
    size_t n = 0;
    while (n < 12) {
        ssize_t k = aof_reader_take(&r, got, 12 - n < sizeof got ? 12 - n : sizeof got);
        assert_true(k > 0);
        n += (size_t)k;
    }
    assert_int_equal(r.offset, 12);
    assert_int_equal(aof_reader_next(&r), AOF_READ_COMMAND);
    assert_int_equal(aof_reader_take(&r, got, sizeof got), 0);
    aof_reader_done(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_commands_and_notes),
        cmocka_unit_test(test_read_every_cut_is_truncation),
        cmocka_unit_test(test_read_refuses),
        cmocka_unit_test(test_read_error_of_the_source),
        cmocka_unit_test(test_read_claimed_lengths_cost_nothing),
        cmocka_unit_test(test_read_peek_and_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
