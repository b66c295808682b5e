/* The replica's half of the handshake: what it sends, what it makes of a primary's lines, good ones and others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "repl/replica_handshake.h"

#define ID "0123456789abcdef0123456789abcdef01234567"
#define MARK "M123456789abcdef0123456789abcdef0123456m"

static void test_commands_are_arrays_of_bulk_strings(void **state) {
    (void)state;
    struct buf b = { 0 };
    replica_put_psync(&b, NULL, 77, false);
    assert_string_equal(buf_cstr(&b), "*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    buf_clear(&b);
    replica_put_psync(&b, ID, 12345678901, true);
    assert_string_equal(buf_cstr(&b), "*4\r\n$5\r\nPSYNC\r\n$40\r\n" ID "\r\n$11\r\n12345678901\r\n$8\r\nFAILOVER\r\n");
    buf_done(&b);
}

static void test_ping_answers(void **state) {
    (void)state;
    assert_true(replica_is_alive(slice_cstr("+PONG")));
    assert_true(replica_is_alive(slice_cstr("-NOAUTH Authentication required.")));
    assert_true(replica_is_alive(slice_cstr("-NOPERM no")));
    assert_true(replica_is_alive(slice_cstr("-ERR operation not permitted")));
    assert_false(replica_is_alive(slice_cstr("-ERR max number of clients reached")));
    assert_false(replica_is_alive(slice_cstr("HTTP/1.1 400 Bad Request")));
    assert_false(replica_is_alive(slice_cstr("")));
}

static enum psync_answer psync(const char *line, struct psync_reply *ret) {
    replica_parse_psync(slice_cstr(line), ret);
    return ret->kind;
}

static void test_psync_answers(void **state) {
    (void)state;
    struct psync_reply r;
    assert_int_equal(psync("+FULLRESYNC " ID " 9223372036854775807", &r), ANSWER_FULL);
    assert_string_equal(r.id, ID);
    assert_int_equal(r.offset, INT64_MAX);
    assert_int_equal(psync("+CONTINUE", &r), ANSWER_CONTINUE);
    assert_string_equal(r.id, "");
    assert_int_equal(psync("+CONTINUE " ID, &r), ANSWER_CONTINUE);
    assert_string_equal(r.id, ID);
    assert_int_equal(psync("-NOMASTERLINK Can't SYNC while not connected with my master", &r), ANSWER_LATER);
    assert_int_equal(psync("-LOADING Redis is loading the dataset in memory", &r), ANSWER_LATER);
    assert_int_equal(psync("-ERR unknown command 'PSYNC'", &r), ANSWER_REFUSED);
    static const char *const bad[] = { "",
                                       "+",
                                       "+FULLRESYNC",
                                       "+FULLRESYNC " ID,
                                       "+FULLRESYNC " ID " ",
                                       "+FULLRESYNC " ID " -1",
                                       "+FULLRESYNC " ID " 9223372036854775808",
                                       "+FULLRESYNC abc 1",
                                       "+FULLRESYNC " ID "x 1",
                                       "+FULLRESYNC  " ID " 1",
                                       "+FULLRESYNC " ID " 1 2",
                                       "+CONTINUE abc",
                                       "+CONTINUE " ID "0",
                                       "+CONTINUE \t23456789abcdef0123456789abcdef01234567890",
                                       "+OK",
                                       "$3",
                                       ":1",
                                       NULL };
    for (int i = 0; bad[i]; i++) assert_int_equal(psync(bad[i], &r), ANSWER_MALFORMED);
}

static enum rdb_announced announced(const char *line, struct rdb_framing *f) {
    return replica_parse_announcement(slice_cstr(line), f);
}

static void test_announcements(void **state) {
    (void)state;
    struct rdb_framing f;
    assert_int_equal(announced("", &f), RDB_KEEPALIVE);
    assert_int_equal(announced("$0", &f), RDB_BY_LENGTH);
    assert_true(rdb_framing_is_whole(&f));
    assert_int_equal(announced("$104857600", &f), RDB_BY_LENGTH);
    assert_int_equal(f.total, 104857600);
    assert_int_equal(announced("$EOF:" MARK, &f), RDB_BY_MARK);
    assert_memory_equal(f.mark, MARK, REPLICA_MARK_LEN);
    assert_false(rdb_framing_is_whole(&f));
    assert_int_equal(announced("-ERR no", &f), RDB_REFUSED);
    static const char *const bad[] = {
        "$", "$-1", "$1x", "$9223372036854775808", "$EOF:", "$EOF:short", "$EOF:" MARK "x", "$EOF", "+OK", "HTTP/1.1 400", NULL
    };
    for (int i = 0; bad[i]; i++) assert_int_equal(announced(bad[i], &f), RDB_MALFORMED);
}

/* Whatever the pieces, exactly `total` bytes are wanted. */
static void test_length_takes_no_byte_of_the_stream(void **state) {
    (void)state;
    char data[1000] = { 0 };
    for (size_t piece = 1; piece < 1000; piece += 7) {
        struct rdb_framing f;
        size_t got = 0, n;
        announced("$1000", &f);
        while ((n = rdb_framing_wants(&f, piece)) > 0) {
            assert_true(n <= piece);
            rdb_framing_took(&f, data, n);
            got += n;
        }
        assert_int_equal(got, 1000);
        assert_true(rdb_framing_is_whole(&f));
    }
}

static void test_mark_is_seen_across_pieces(void **state) {
    (void)state;
    char data[200];
    memset(data, 'M', 160); /* beginnings of a mark that is none */
    memcpy(data + 160, MARK, REPLICA_MARK_LEN);
    for (size_t piece = 1; piece <= 200; piece++) {
        struct rdb_framing f;
        announced("$EOF:" MARK, &f);
        for (size_t at = 0; at < 200; at += piece) {
            assert_int_equal(rdb_framing_wants(&f, 64), 64);
            rdb_framing_took(&f, data + at, 200 - at < piece ? 200 - at : piece);
        }
        assert_true(rdb_framing_is_whole(&f));
        assert_int_equal(rdb_framing_wants(&f, 64), 0);
        assert_int_equal(f.got, 200);
    }
}

/* Nothing was received yet: a mark of zero bytes is not there either. */
static void test_mark_of_zeroes_is_not_there_from_the_start(void **state) {
    (void)state;
    char line[5 + REPLICA_MARK_LEN] = "$EOF:";
    struct rdb_framing f;
    assert_int_equal(replica_parse_announcement((struct slice){ line, sizeof line }, &f), RDB_BY_MARK);
    assert_false(rdb_framing_is_whole(&f));
    rdb_framing_took(&f, "", 1);
    assert_false(rdb_framing_is_whole(&f));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_are_arrays_of_bulk_strings),
        cmocka_unit_test(test_ping_answers),
        cmocka_unit_test(test_psync_answers),
        cmocka_unit_test(test_announcements),
        cmocka_unit_test(test_length_takes_no_byte_of_the_stream),
        cmocka_unit_test(test_mark_is_seen_across_pieces),
        cmocka_unit_test(test_mark_of_zeroes_is_not_there_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
