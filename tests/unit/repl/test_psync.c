/* PSYNC's decision at every edge of the history, REPLCONF's options. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "repl/psync.h"

#define ID "0123456789abcdef0123456789abcdef01234567"
#define ID2 "76543210fedcba9876543210fedcba9876543210"
#define NO_ID "0000000000000000000000000000000000000000"

static enum psync_verdict decide(const struct psync_history *h, const char *id, int64_t offset, uint64_t *from) {
    *from = 12345678;
    return psync_decide(h, slice_cstr(id), offset, from);
}

static void test_psync_continues_inside_the_backlog_only(void **state) {
    (void)state;
    struct psync_history h = { .id = ID, .id2 = NO_ID, .second_offset = -1, .has_backlog = true, .start = 100, .end = 200 };
    uint64_t from;
    assert_int_equal(decide(&h, ID, 100, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, ID, 101, &from), PSYNC_CONTINUE);
    assert_int_equal(from, 100);
    assert_int_equal(decide(&h, ID, 201, &from), PSYNC_CONTINUE);
    assert_int_equal(from, 200);
    assert_int_equal(decide(&h, ID, 202, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, ID, 0, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, ID, -1, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, ID, INT64_MIN, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, ID, INT64_MAX, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, "0123456789ABCDEF0123456789ABCDEF01234567", 150, &from), PSYNC_CONTINUE);
    h.has_backlog = false;
    assert_int_equal(decide(&h, ID, 150, &from), PSYNC_FULL_NOT_KEPT);
}

static void test_psync_second_id_is_good_up_to_its_offset(void **state) {
    (void)state;
    struct psync_history h = { .id = ID, .id2 = ID2, .second_offset = 151, .has_backlog = true, .start = 100, .end = 200 };
    uint64_t from;
    assert_int_equal(decide(&h, ID2, 151, &from), PSYNC_CONTINUE);
    assert_int_equal(from, 150);
    assert_int_equal(decide(&h, ID2, 152, &from), PSYNC_FULL_PAST_ID2);
    assert_int_equal(decide(&h, ID2, 100, &from), PSYNC_FULL_NOT_KEPT);
    assert_int_equal(decide(&h, ID, 200, &from), PSYNC_CONTINUE);
    assert_int_equal(decide(&h, "?", -1, &from), PSYNC_FULL_ASKED);
    assert_int_equal(decide(&h, "?x", -1, &from), PSYNC_FULL_OTHER_ID);
    assert_int_equal(decide(&h, "", 150, &from), PSYNC_FULL_OTHER_ID);
    h.second_offset = -1;
    h.id2 = NO_ID;
    assert_int_equal(decide(&h, NO_ID, 1, &from), PSYNC_FULL_OTHER_ID);
}

static bool parse(struct replconf *rc, char *err, int argc, ...) {
    struct slice argv[8];
    va_list ap;
    va_start(ap, argc);
    for (int i = 0; i < argc; i++) argv[i] = slice_cstr(va_arg(ap, const char *));
    va_end(ap);
    *err = 0;
    return replconf_parse(argc, argv, rc, err, 200);
}

static void test_replconf_options(void **state) {
    (void)state;
    struct replconf rc;
    char err[200];
    assert_true(parse(&rc, err, 7, "replconf", "listening-port", "6380", "Capa", "eof", "CAPA", "psync2"));
    assert_int_equal(rc.set, REPLCONF_PORT | REPLCONF_CAPA);
    assert_int_equal(rc.port, 6380);
    assert_int_equal(rc.capa, REPLICA_CAPA_EOF | REPLICA_CAPA_PSYNC2);
    assert_true(parse(&rc, err, 5, "replconf", "ip-address", "10.0.0.1", "capa", "of-the-future"));
    assert_true(slice_eq(rc.ip, SLICE_LIT("10.0.0.1")));
    assert_int_equal(rc.capa, 0);
    assert_true(parse(&rc, err, 3, "replconf", "rdb-only", "1"));
    assert_true(rc.rdb_only);
    assert_true(parse(&rc, err, 3, "replconf", "rdb-filter-only", "functions"));
    assert_int_equal(rc.filter, REPLICA_NO_DATA);
    assert_true(parse(&rc, err, 3, "replconf", "rdb-filter-only", ""));
    assert_int_equal(rc.filter, REPLICA_NO_DATA | REPLICA_NO_FUNCTIONS);
    assert_true(parse(&rc, err, 1, "replconf"));
    assert_int_equal(rc.set, 0);
}

static void test_replconf_acks(void **state) {
    (void)state;
    struct replconf rc;
    char err[200];
    assert_true(parse(&rc, err, 3, "replconf", "ack", "77"));
    assert_int_equal(rc.set, REPLCONF_ACK);
    assert_int_equal(rc.ack, 77);
    assert_true(parse(&rc, err, 5, "replconf", "ACK", "77", "FACK", "66"));
    assert_int_equal(rc.set, REPLCONF_ACK | REPLCONF_FACK);
    assert_int_equal(rc.fack, 66);
    assert_true(parse(&rc, err, 3, "replconf", "ack", "nonsense"));
    assert_int_equal(rc.ack, -1);
    assert_true(parse(&rc, err, 3, "replconf", "getack", "*"));
    assert_int_equal(rc.set, REPLCONF_GETACK);
}

static void test_replconf_errors(void **state) {
    (void)state;
    struct replconf rc;
    char err[200], ip[300];
    assert_false(parse(&rc, err, 2, "replconf", "capa"));
    assert_string_equal(err, "ERR syntax error");
    assert_false(parse(&rc, err, 3, "replconf", "listening-port", "x"));
    assert_string_equal(err, "ERR value is not an integer or out of range");
    assert_false(parse(&rc, err, 3, "replconf", "what", "x"));
    assert_string_equal(err, "ERR Unrecognized REPLCONF option: what");
    assert_false(parse(&rc, err, 3, "replconf", "rdb-only", "2"));
    assert_false(parse(&rc, err, 3, "replconf", "rdb-filter-only", "functions keys"));
    assert_string_equal(err, "ERR Unsupported rdb-filter-only option: keys");
    memset(ip, 'x', sizeof ip);
    ip[256] = 0;
    assert_false(parse(&rc, err, 3, "replconf", "ip-address", ip));
    ip[255] = 0;
    assert_true(parse(&rc, err, 3, "replconf", "ip-address", ip));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_psync_continues_inside_the_backlog_only),
        cmocka_unit_test(test_psync_second_id_is_good_up_to_its_offset),
        cmocka_unit_test(test_replconf_options),
        cmocka_unit_test(test_replconf_acks),
        cmocka_unit_test(test_replconf_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
